"""Models beside each other, by their forecasts, as a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text

if TYPE_CHECKING:
    from calibration_ledger.core.forecast import Forecast

COLUMNS = (
    MODEL,
    Column("mean"),
    Column("half within", spare=2),
    Column("9 of 10", left=True),
    Column("95 % within", spare=6),
    Column("tokens/s", spare=4),
    Column("completion", spare=1),
    Column("calls", spare=5),
    Column("newest call", spare=3),
    Column("status", left=True, cut_to=8),
)


def row(found: Forecast) -> list[str | Cell]:
    """The cells of a model."""
    newest = found.newest
    if newest is None:
        figures = ["-"] * 8
    else:
        figures = [
            text.duration(found.mean_ms),
            text.duration(found.median_ms),
            text.span(*found.interval(0.9)),
            text.duration(found.timeout_ms(0.95)),
            text.number(found.tokens_per_second or None),
            str(found.completion_tokens.median),
            str(found.basis.count),
            text.age((datetime.now(UTC) - newest).total_seconds()),
        ]
    style = {"ok": "good", "drifting": "bad"}.get(found.status, "dim")
    return [found.model, *figures, Cell(_status(found), style)]


def _status(found: Forecast) -> str:
    if found.drift is None or found.status != "drifting":
        return found.status
    return f"drifting: {text.times(found.drift.factor)}"
