"""A model's history: the walk over its entries, and which of them count.

A `voided` entry names earlier entries by their seq, as ranges in a text: `2..80,95`. From there on
the model's state is as if they had never been: calls are not learnt, a reset is undone, a
recalibration loses its rule and alpha, and what a voided `voided` entry named counts again.
Nothing is taken out of the history, and the first entry cannot be voided.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from calibration_ledger.core.entries import Adjustment, CallRow

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Ranges of seq, first and last included; in order, and no two of them touch."""

CLAIMS = frozenset({"recalibrated", "voided"})
"""Adjustments that add no knowledge: their state follows from the entries before them."""

FIRST_VOIDABLE = 2
"""The first entry of a history begins it, and cannot be voided."""

VOIDS_LENGTH_MAX = 65_536
"""The characters that name the entries of one `voided` entry."""

_BEHIND = 2**64
"""Behind the end of every range."""

_SEQ = r"[1-9][0-9]{0,18}"
_RANGE = rf"{_SEQ}(\.\.{_SEQ})?"
_ONE = re.compile(_SEQ)
_TEXT = re.compile(rf"{_RANGE}(,{_RANGE})*")


# -- the walk -------------------------------------------------------------------------------


class Page(NamedTuple):
    """Some calls, by seq."""

    rows: list[CallRow]
    keys: list[Any]
    """The calls with a request id, as (seq, request_id, request_key); files keep no keys."""


class Entries(Protocol):
    """One model's entries: in a ledger, in a file, or of both."""

    @property
    def adjustments(self) -> Sequence[Adjustment]:
        """All its adjustments by seq; there are few."""

    def calls(self, after: int, through: int) -> Iterator[Page]:
        """Its calls with after < seq <= through, by seq, in bounded pages."""


def walk(entries: Entries, after: int, through: int) -> Iterator[Adjustment | Page]:
    """The entries with after < seq <= through in order: adjustments, and pages of calls between.

    From 0 on, adjustments with a seq below 1 come as well, for an audit to find.
    """
    due = [entry for entry in entries.adjustments if after == 0 or entry.seq > after]
    for start, end, entry in stretches(due, after, through):
        yield from entries.calls(start, end)
        if entry is not None:
            yield entry


def stretches(
    adjustments: Iterable[Adjustment], after: int, through: int
) -> Iterator[tuple[int, int, Adjustment | None]]:
    """From one adjustment to the next, then to the end: (after, through, the adjustment there).

    Each includes the adjustment's own seq, so that a call that wrongly shares it is found.
    """
    for entry in adjustments:
        if entry.seq <= through:
            yield after, entry.seq, entry
            after = entry.seq
    yield after, through, None


# -- ranges ---------------------------------------------------------------------------------


def merged(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """The same seqs in order, with what overlaps or touches made one."""
    found: list[tuple[int, int]] = []
    for pair in sorted(ranges):
        first, last = pair
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append(pair)  # the very one: there may be many ranges with the same pairs
    return tuple(found)


def voids_text(ranges: Ranges) -> str:
    """The ranges as an entry holds them: `2..80,95`."""
    return ",".join(str(a) if a == b else f"{a}..{b}" for a, b in ranges)


def voids_ranges(text: str | None) -> Ranges:
    """The opposite of `voids_text`.

    Raises:
        TypeError: it did not write this text.
    """
    if isinstance(text, str) and _ONE.fullmatch(text):  # by far the most are of one entry
        return (_pair(text),)
    found: list[tuple[int, int]] = []
    if isinstance(text, str) and len(text) <= VOIDS_LENGTH_MAX and _TEXT.fullmatch(text):
        for part in text.split(","):
            first, _, last = part.partition("..")
            found.append((int(first), int(last or first)))
    ranges = tuple(found)
    is_right = merged(ranges) == ranges and all(first <= last for first, last in ranges)
    if not ranges or not is_right or voids_text(ranges) != text:
        raise TypeError(f"{text!r} names no entries")
    return ranges


@lru_cache(maxsize=2**14)
def _pair(text: str) -> tuple[int, int]:
    """One entry as a range, the same object for the same entry: an audit of many keeps many."""
    return (int(text), int(text))


def covers(ranges: Ranges, seq: int) -> bool:
    """Whether an entry is in these ranges."""
    place = bisect_right(ranges, (seq, _BEHIND)) if ranges else 0
    return place > 0 and seq <= ranges[place - 1][1]


def end_of(ranges: Ranges, seq: int) -> int:
    """The end of the range that holds the entry behind this one; the entry itself for none."""
    place = bisect_right(ranges, (seq + 1, _BEHIND))
    return max(seq, ranges[place - 1][1]) if place else seq


def left_of(ranges: Ranges, after: int, through: int) -> Iterator[tuple[int, int]]:
    """The rest of after < seq <= through without these ranges, as pairs (after, through)."""
    for first, last in ranges:
        if last <= after:
            continue
        if first > through:
            break
        if first - 1 > after:
            yield after, first - 1
        after = last
    if after < through:
        yield after, through


# -- what counts ----------------------------------------------------------------------------


def voided_ranges(adjustments: Sequence[Adjustment]) -> Ranges:
    """The entries that are voided, from all of a model's adjustments up to some entry.

    Raises:
        TypeError: a `voided` entry names no entries.
    """
    return ranges_in_force([(e.seq, e.voids) for e in adjustments if e.kind == "voided"])


def ranges_in_force(voidings: Sequence[tuple[int, str | None]]) -> Ranges:
    """The same, from the seqs and texts of a model's `voided` entries, in order."""
    seqs = [seq for seq, _ in voidings]
    undone: set[int] = set()
    found: list[tuple[int, int]] = []
    # From the newest: it can only be voided by a newer one, and names only older ones.
    for seq, text in reversed(voidings):
        if seq not in undone:
            for pair in voids_ranges(text):
                found.append(pair)
                first, last = pair
                undone.update(seqs[bisect_left(seqs, first) : bisect_right(seqs, last)])
    return merged(found)


def setting(adjustments: Iterable[Adjustment], voided: Ranges = ()) -> list[Adjustment]:
    """The adjustments that set the state of a replay if these entries are voided.

    The others are claims: a replay of the entries before them gives their state. But if these were
    archived, a claim made before that is all that is left of what they taught. It sets the state,
    until a reset begins anew.
    """
    found, through = [], 0
    for entry in adjustments:
        if not _counts(entry, voided):
            continue
        if entry.kind == "archived":
            through = entry.archived_through or 0
        elif entry.kind not in CLAIMS:
            through = 0
        if entry.kind not in CLAIMS or entry.seq <= through:
            found.append(entry)
    return found


def _counts(entry: Adjustment, voided: Ranges) -> bool:
    # An archived one shares its seq with the last entry that it stands for, which may be voided.
    return entry.kind == "archived" or not covers(voided, entry.seq)


def rule_in_force(adjustments: Iterable[Adjustment], voided: Ranges = ()) -> tuple[str, float]:
    """The rule's version and alpha that the newest adjustment that counts has chosen.

    Raises:
        TypeError: there is none.
    """
    adjustments = list(adjustments)
    settled = {entry.seq for entry in setting(adjustments, voided)}
    for entry in reversed(adjustments):
        is_choice = entry.kind != "voided" or entry.seq in settled
        if is_choice and _counts(entry, voided):
            return entry.rule, entry.alpha
    raise TypeError("no adjustment is left")
