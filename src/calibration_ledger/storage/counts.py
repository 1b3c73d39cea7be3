"""What the doctor asks of every database in the same words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.core.facts import LastEntry
from calibration_ledger.core.validation import TIME_LIMIT_US, time_from_us
from calibration_ledger.storage.schema import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

COUNTED = tuple(metadata.tables)
"""The tables whose rows are counted."""

_LAST_ENTRY = (
    "SELECT models.model, calibrations.last_seq, calibrations.updated_at"
    " FROM calibrations JOIN models ON models.id = calibrations.model_id"
    " ORDER BY calibrations.updated_at DESC LIMIT 1"
)


def count_rows(
    ask: Callable[[str], list[Any]], tables: Collection[str] = COUNTED
) -> tuple[tuple[str, int | None], ...]:
    """How many rows each of these tables has.

    Args:
        ask: runs a query, and gives no rows where that fails.
        tables: those that are there; others than ours are not counted.
    """
    counts = []
    for table in filter(tables.__contains__, COUNTED):
        rows = ask(f"SELECT count(*) FROM {table}")
        counts.append((table, rows[0][0] if rows else None))
    return tuple(counts)


def find_last_entry(ask: Callable[[str], list[Any]]) -> LastEntry | None:
    """The newest entry by the callers' clocks, of which the calibrations know."""
    for model, seq, at in ask(_LAST_ENTRY):
        if type(at) is int and 0 <= at < TIME_LIMIT_US:
            return LastEntry(model, seq, time_from_us(at))
    return None
