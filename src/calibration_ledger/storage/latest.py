"""The models that were called last, as the doctor reads them: by a connection that it has open.

To open the ledger as others do would leave files beside one that nobody uses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from calibration_ledger.core.aliases import told
from calibration_ledger.errors import CalibrationLedgerError
from calibration_ledger.storage.ledger import ModelHistory, stored
from calibration_ledger.storage.transaction import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from calibration_ledger.core.drift import ModelDrift
    from calibration_ledger.core.facts import Facts
    from calibration_ledger.storage.backend import Source

    DriftsOf = Callable[[Iterable[ModelHistory]], tuple[ModelDrift, ...]]

LATEST = 100
"""Models that are looked at: it takes some milliseconds for each."""


def latest(source: Source) -> Iterator[ModelHistory]:
    """The histories of the models that were called last, one after the other."""
    rows = source.read(source.sql.list_calibrations)
    found = [stored(row, name) for *row, name in rows]
    lives = [live for live in found if live.alias_seq is None]
    lives.sort(key=lambda live: -live.snapshot.updated_at)
    for live in lives[:LATEST]:
        yield ModelHistory(source, live)


def with_drifts(facts: Facts, source: Source, drifts_of: DriftsOf) -> Facts:
    """The facts of a ledger, with its aliases and the models that have drifted, if it is sound."""
    if facts.state != "current" or facts.obstacles or facts.unanswered:
        return facts
    try:
        names = settings_of(source.read(source.sql.settings)).names()
        facts = replace(facts, aliases=tuple(map(told, names.values())))
        return replace(facts, drifts=drifts_of(latest(source)))
    except CalibrationLedgerError as error:
        return replace(facts, unanswered=(str(error),))
