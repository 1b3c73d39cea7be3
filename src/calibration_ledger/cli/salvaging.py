"""`calib export --salvage`: what can still be read of a damaged ledger, and what is lost."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from calibration_ledger.cli import text
from calibration_ledger.cli.printing import counting, note, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from calibration_ledger.cli.session import Session
    from calibration_ledger.facts import LostRange
    from calibration_ledger.interchange.salvage import SalvageReport

RANGES_TOLD = 20
"""So many ranges are told one by one; the others are counted. `--json` has all of them."""


def export_what_is_left(
    session: Session,
    kind: str,
    target: str | TextIO,
    model: str | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write what can be read. The ledger is not opened as one: it might be refused."""
    from calibration_ledger.interchange.salvage import salvage
    from calibration_ledger.storage.place import find_place

    to_stdout = target is sys.stdout
    with counting("salvaging") as done:
        report = salvage(
            find_place(session.ledger),
            kind,
            target,
            model=model,
            overwrite=overwrite,
            progress=done,
        )
        if to_stdout:
            sys.stdout.flush()
    if as_json:
        print_json(report.to_dict(), err=to_stdout)
    else:
        _tell(report)


def _tell(report: SalvageReport) -> None:
    models = text.count(report.models, "model")
    note(f"{text.count(report.calls, 'call')} of {models} read and written to {report.target}")
    if not report.lost:
        note("no entry is lost.")
    _tell_ranges("lost", report.lost)
    _tell_ranges("request ids and details may be missing", report.incomplete)
    for name in report.stand_ins:
        note(f"the name of a model could not be read: its calls are under {name!r}.")
    file = shlex.quote(report.target) if report.target != "<stdout>" else "FILE"
    note(
        f"these are calls, which a new ledger learns anew: "
        f"calib --ledger NEW.db import {report.kind} {file}"
    )


def _tell_ranges(what: str, ranges: Sequence[LostRange]) -> None:
    for lost in ranges[:RANGES_TOLD]:
        size = "" if lost.last is None else f" ({lost.last - lost.first + 1})"
        note(f"{what}: {lost}{size}")
    if len(ranges) > RANGES_TOLD:
        note(f"{what}: {len(ranges) - RANGES_TOLD} more ranges; --json has them all.")
