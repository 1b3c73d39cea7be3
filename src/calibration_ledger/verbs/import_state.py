"""Import of the predecessor's state: each model becomes an `imported` opening balance.

All of them in one transaction: where one has history already, nothing changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calibration_ledger.core.events import import_event
from calibration_ledger.core.settings import opening_rule, rule_of_new
from calibration_ledger.core.state import State
from calibration_ledger.core.values import ImportReport
from calibration_ledger.errors import ImportRefusedError, InvalidInputError, named
from calibration_ledger.formats.predecessor import parse_state
from calibration_ledger.formats.source import open_source, shown_name
from calibration_ledger.verbs.doubt import warn_of_similar
from calibration_ledger.verbs.record import OpenModel, now_us

if TYPE_CHECKING:
    import os
    from typing import TextIO

    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.storage.transaction import Transaction

_SHOWN_MAX = 5


def import_state(
    ledger: Ledger,
    source: str | os.PathLike[str] | TextIO,
    rule: Rule | None,
    alpha: float | None,
) -> ImportReport:
    """Import the predecessor's state; see `AdaptiveCalibrator.import_calls`.

    `rule` and `alpha` are what the program names for new models.
    """
    now = now_us()
    name = shown_name(source)
    with open_source(source, ledger.path) as file:
        try:
            states = parse_state(file.whole(), now)
        except ImportRefusedError:
            raise
        except InvalidInputError as error:
            reason = str(error).rstrip(".")
            file.refuse(None, f"{reason}. Nothing was imported: mend the file, or name another.")
    note = f"from {Path(name).name}"

    def work(transaction: Transaction) -> None:
        for given_name in states:
            model = transaction.name_of(given_name)
            if model != given_name:
                raise ImportRefusedError(
                    name,
                    None,
                    f"{given_name!r} is an alias of {model!r} in the ledger. Nothing was changed: "
                    f"take the alias away first, or remove it from the file.",
                )
        there = {model: transaction.own(model) for model in sorted(states)}
        taken = [model for model, live in there.items() if live is not None]
        if taken:
            it = "it" if len(taken) == 1 else "them"
            raise ImportRefusedError(
                name,
                None,
                f"{named(taken, _SHOWN_MAX)}: the ledger has history of {it} already, and an "
                f"opening balance stands before all history. Nothing was changed: import into "
                f"a fresh ledger, or remove {it} from the file.",
            )
        setting = transaction.newest_setting()
        is_told = any(one is not None for one in (setting, rule, alpha))
        version, speed = rule_of_new(setting, rule, alpha)
        for model in there:
            state = states[model]
            if is_told:  # else they go on as they were: by `ema`, at the alpha of the file
                state = State.from_snapshot(state.snapshot(), opening_rule(version), speed)
            transaction.begin_model(model)
            entry = state.adjustment(1, "imported", now, note)
            OpenModel.create(transaction, model, entry).save()
        transaction.add_event(import_event(name, "state", None, 0, there, now))

    if states:
        ledger.write(work)
        warn_of_similar(ledger, states)
    return ImportReport(
        "state",
        name,
        adjustments=len(states),
        models=len(states),
        models_opened=len(states),
        format="state",
    )
