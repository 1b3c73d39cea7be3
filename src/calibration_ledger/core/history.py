"""A model's history: the walk over its entries, and which of them count.

A `voided` entry names earlier entries by their seq, as ranges in a text: `2..80,95`. From there on
the model's state is as if they had never been: calls are not learnt, a reset is undone, a
recalibration loses its rule and alpha, and what a voided `voided` entry named counts again.
Nothing is taken out of the history, and the first entry cannot be voided.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from functools import lru_cache
from heapq import heappop, heappush
from secrets import randbits
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
    return covers_any(ranges, seq, seq)


def covers_any(ranges: Ranges, first: int, last: int) -> bool:
    """Whether any entry from the first to the last is in these ranges."""
    place = bisect_right(ranges, (last, _BEHIND)) if ranges else 0
    return place > 0 and first <= ranges[place - 1][1]


def end_of(ranges: Ranges, seq: int) -> int:
    """The end of the range that holds the entry behind this one; the entry itself for none."""
    place = bisect_right(ranges, (seq + 1, _BEHIND))
    return max(seq, ranges[place - 1][1]) if place else seq


def start_of(ranges: Ranges, seq: int) -> int:
    """The entry before the range that holds this one; the entry itself for none."""
    place = bisect_right(ranges, (seq, _BEHIND))
    return ranges[place - 1][0] - 1 if place and seq <= ranges[place - 1][1] else seq


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
                undone.update(seqs[place] for place in _places(seqs, first, last))
    return merged(found)


def setting(adjustments: Iterable[Adjustment], voided: Ranges = ()) -> list[Adjustment]:
    """The adjustments that set the state of a replay if these entries are voided.

    The others are claims: a replay of the entries before them gives their state. But if these were
    archived, a claim made before that is all that is left of what they taught. It sets the state,
    until a reset begins anew.
    """
    return _setting(entry for entry in adjustments if _counts(entry, voided))


def _setting(counted: Iterable[Adjustment]) -> list[Adjustment]:
    """The same, from those that count."""
    found, through = [], 0
    for entry in counted:
        if entry.kind == "archived":
            through = entry.archived_through or 0
        elif entry.kind not in CLAIMS:
            through = 0
        if entry.kind not in CLAIMS or entry.seq <= through:
            found.append(entry)
    return found


def last_beginning(adjustments: Iterable[Adjustment], voided: Ranges = ()) -> Adjustment:
    """The newest entry with which a model began: its opening, the import of a state, or a reset.

    Raises:
        TypeError: there is none.
    """
    found = [entry for entry in setting(adjustments, voided) if entry.kind not in CLAIMS]
    if not found:
        raise TypeError("no opening is left")
    return found[-1]


def newest_claim(adjustments: Iterable[Adjustment], voided: Ranges = ()) -> Adjustment | None:
    """The newest recalibration or voiding that counts; None for none.

    What was predicted before it came of a calibration that is no more.
    """
    found = [entry for entry in adjustments if entry.kind in CLAIMS and _counts(entry, voided)]
    return found[-1] if found else None


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


# -- what counts, from one voiding to the next ----------------------------------------------
# An audit asks it behind each voiding. The functions above begin anew each time: for thousands of
# voidings, that is the square of their number. Here each costs about what it changes.


class _Voiding:
    """One voiding, and what it names."""

    __slots__ = ("adjustments", "calls", "is_in_force", "undoing", "voidings")

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        """Ranges of calls."""
        self.adjustments: list[range] = []
        """The places of adjustments that may set the state or choose the rule."""
        self.voidings: list[range] = []
        """The places of older voidings."""
        self.undoing = 0
        """How many newer ones in force name it: without any, it is in force."""
        self.is_in_force = False


class Tally:
    """Which entries of a model count, carried on from one voiding to the next.

    Attributes:
        settings: the seqs of the adjustments that set the state; see `setting`.
        changes: what differs since this was last cleared, as (is a setting, seq): the adjustments
            that set the state or no longer do, and each seq from which on calls count or no longer
            do. At first it is all that there is.
        mark: a random number that stands for what counts: the same again for the same again.
    """

    def __init__(self, adjustments: Sequence[Adjustment]) -> None:
        """Begin with all of a model's adjustments, and nothing voided."""
        ends = [entry.archived_through for entry in adjustments if entry.kind == "archived"]
        self._through = max((end for end in ends if isinstance(end, int)), default=0)
        """No claim behind this entry sets the state."""
        # A claim matters only where it may set the state, or chooses the rule.
        self._known = [
            entry for entry in adjustments if entry.kind != "voided" or entry.seq <= self._through
        ]
        self._seqs = [entry.seq for entry in self._known]
        self._naming = [0] * len(self._known)
        """How many voidings in force name each of these."""
        self._choices: list[int] = []
        """The places of those that choose the rule, or did, as a heap: the newest one first."""
        self._reached = 0
        """How many of those known `rule_in_force` has come to."""
        self._claims = {entry.seq for entry in adjustments if entry.kind in CLAIMS}
        self._voidings: list[_Voiding] = []
        self._voiding_seqs: list[int] = []
        self._unreadable: list[_Voiding] = []
        self._due: set[_Voiding] = set()
        """Those that are in force or no longer are, which is not counted yet."""
        self._ends, self._depths = [0], [0]
        """How many voidings in force name the calls from each of these seqs to the next."""
        self._marks: defaultdict[tuple[bool, int], int] = defaultdict(lambda: randbits(128))
        self.settings: set[int] = set()
        self.changes: set[tuple[bool, int]] = set()
        self.mark = 0
        self._settle()

    def void(self, entry: Adjustment) -> bool:
        """Take in the next voiding; False, and no change, while one in force cannot be read."""
        self._add(entry)
        if any(one.is_in_force for one in self._unreadable):
            return False
        changed: set[int] = set()
        for one in self._due:
            step = 1 if one.is_in_force else -1
            for first, last in one.calls:
                self._cover(first, last, step)
            for places in one.adjustments:
                for place in places:
                    before = self._naming[place]
                    self._naming[place] = before + step
                    if not before or not before + step:
                        changed ^= {place}
        self._due.clear()
        self._recount(changed)
        return True

    def rule_in_force(self, seq: int) -> tuple[str, float] | None:
        """See the function, for the adjustments up to an entry; None where there is none.

        Ask it of one entry after the other.
        """
        end = bisect_right(self._seqs, seq)
        for place in range(self._reached, end):
            heappush(self._choices, -place)
        self._reached = end
        while self._choices:
            place = -self._choices[0]
            entry = self._known[place]
            is_choice = entry.kind != "voided" or entry.seq in self.settings
            if is_choice and self._counts(place):
                return entry.rule, entry.alpha
            heappop(self._choices)
        return None

    def _add(self, entry: Adjustment) -> None:
        """Find out which voidings are in force with one more."""
        self._voidings.append(self._read(entry))
        self._voiding_seqs.append(entry.seq)
        look = [1 - len(self._voidings)]
        while look:  # from the newest, for whether one is in force depends on newer ones alone
            one = self._voidings[-heappop(look)]
            if one.is_in_force == (not one.undoing):
                continue
            one.is_in_force = not one.is_in_force
            if one.calls or one.adjustments:
                self._due ^= {one}
            step = 1 if one.is_in_force else -1
            for places in one.voidings:
                for place in places:
                    self._voidings[place].undoing += step
                    heappush(look, -place)

    def _read(self, entry: Adjustment) -> _Voiding:
        found = _Voiding()
        try:
            ranges = voids_ranges(entry.voids)
        except TypeError:
            self._unreadable.append(found)
            return found
        for first, last in ranges:
            # A claim is no call: where it sets no state, it is all one whether it is voided.
            if first != last or first not in self._claims:
                found.calls.append((first, last))
            if places := _places(self._seqs, first, last):
                found.adjustments.append(places)
            if places := _places(self._voiding_seqs, first, last):
                found.voidings.append(places)
        return found

    def _counts(self, place: int) -> bool:
        return not self._naming[place] or self._known[place].kind == "archived"

    def _recount(self, changed: set[int]) -> None:
        """Find out which adjustments set the state once these count, or no longer do."""
        is_settled = True
        for place in changed:
            entry = self._known[place]
            if place < self._reached:
                heappush(self._choices, -place)
            if entry.seq <= self._through:
                is_settled = False  # it may be one that decides of others
            elif entry.kind not in CLAIMS | {"archived"}:
                self._set(entry.seq)
        if not is_settled:
            self._settle()

    def _settle(self) -> None:
        """Find anew which adjustments set the state."""
        counted = (entry for place, entry in enumerate(self._known) if self._counts(place))
        for seq in self.settings ^ {entry.seq for entry in _setting(counted)}:
            self._set(seq)
            for place in _places(self._seqs, seq, seq):
                if place < self._reached:
                    heappush(self._choices, -place)

    def _set(self, seq: int) -> None:
        """Let this adjustment set the state, or no longer."""
        self.settings ^= {seq}
        self._change(is_setting=True, seq=seq)

    def _cover(self, first: int, last: int, step: int) -> None:
        """Count one voiding more or less that names these calls."""
        begin, end = self._end(first), self._end(last + 1)
        for place in range(begin, end):
            before = self._depths[place]
            self._depths[place] = before + step
            if not before or not before + step:
                self._change(is_setting=False, seq=self._ends[place])
                self._change(is_setting=False, seq=self._ends[place + 1])

    def _end(self, seq: int) -> int:
        """The place of this seq among the ends; it is made one."""
        place = bisect_left(self._ends, seq)
        if place == len(self._ends) or self._ends[place] != seq:
            self._ends.insert(place, seq)
            self._depths.insert(place, self._depths[place - 1])
        return place

    def _change(self, *, is_setting: bool, seq: int) -> None:
        what = (is_setting, seq)
        self.changes ^= {what}
        self.mark ^= self._marks[what]


def _places(seqs: Sequence[int], first: int, last: int) -> range:
    """The places of these seqs in a list of seqs in order."""
    return range(bisect_left(seqs, first), bisect_right(seqs, last))
