"""How commands show drift: in a table, and as a hint of what to do."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from calibration_ledger.cli import text
from calibration_ledger.cli.table import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.cli.session import Session
    from calibration_ledger.core.drift import Drift


def cell_of(drift: Drift) -> Cell:
    """A drift in a table."""
    return Cell(text.times(drift.factor), "bad" if drift.factor > 1.0 else "good")


def hint(drifts: Mapping[str, Drift], session: Session) -> str:
    """One line on the models that have drifted, and what to do next."""
    model = max(drifts, key=lambda name: _size(drifts[name]))
    others = len(drifts) - 1
    more = f", and {text.count(others, 'other')} drifted, too" if others else ""
    by_day = session.command("stats", "--by-day", names=[model])
    sweep = session.command("sweep", names=[model])
    return (
        f"hint: {model} has drifted: {drifts[model]}{more}. Since which day: {by_day}. If it stays "
        f"so, which rule follows best: {sweep}"
    )


def _size(drift: Drift) -> float:
    return max(drift.factor, 1.0 / drift.factor if drift.factor else inf)
