"""What an entry's own values must be, whatever stands before it."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from calibration_ledger.learning import unpack_numbers
from calibration_ledger.voids import FIRST_VOIDABLE, voids_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.entries import Adjustment


def adjustment_faults(entry: Adjustment) -> Iterator[tuple[str, str]]:
    """What is wrong with an adjustment, as (expected, found).

    Raises:
        TypeError: a value is of another type, or a voided entry names no entries.
        struct.error: the rule's further numbers are none.
    """
    numbers = [*entry[4:10], *unpack_numbers(entry.rule_state)]
    if not all(map(isfinite, numbers)) or not 0.0 < entry.alpha <= 1.0:
        yield "finite numbers, 0 < alpha <= 1", repr(numbers)
    if entry.kind in {"opened", "reset"} and (
        entry.sample_count or entry.total_absolute_error_ms or entry.total_predicted_ms
    ):
        yield "counts and totals of 0", repr(entry[8:11])
    archived = (entry.archived_head, entry.archived_through, entry.archived_digest)
    if entry.kind != "archived" and archived != (None, None, None):
        yield "nothing of an archived entry", repr(archived)
    if entry.kind == "voided":
        named = voids_ranges(entry.voids)
        if named[0][0] < FIRST_VOIDABLE or named[-1][1] >= entry.seq:
            yield f"entries from {FIRST_VOIDABLE} to {entry.seq - 1}", entry.voids or ""
    elif entry.voids is not None:
        yield "no entries that it voids", entry.voids


def cause_of(seq: int) -> str:
    """What the first prediction that differs tells: its own entry, or what it rests on, changed."""
    before = "1" if seq <= 2 else f"{seq - 1}, or an earlier one,"  # noqa: PLR2004 - what is before 2 is 1
    return f" (the first that differs: entry {seq} or {before} was changed)"


def whole(value: object) -> int | None:
    """The value, if it is a whole number."""
    return value if isinstance(value, int) else None
