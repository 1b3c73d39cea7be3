"""Audit: history must explain the calibrations, to the last bit.

`ModelAudit` folds one model's entries in their order and compares what it gets with what the ledger
holds. It returns findings, and repairs nothing. The same fold checks a file before `import ledger`
takes it in, and an archive before its entries leave the ledger.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from itertools import compress
from math import isfinite
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.entries import (
    OPENINGS,
    OUTCOMES,
    Snapshot,
    adjustment_head,
    archived_digest,
    call_head,
    ended,
    first_head,
    is_call,
    state_digest,
)
from calibration_ledger.core.history import (
    CLAIMS,
    FIRST_VOIDABLE,
    Tally,
    voids_ranges,
)
from calibration_ledger.core.state import State, unpack_numbers
from calibration_ledger.core.validation import request_key
from calibration_ledger.core.values import NO_MORE, Finding
from calibration_ledger.errors import NotFiniteError, StoredRuleError
from calibration_ledger.rules import stored_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from calibration_ledger.core.entries import Adjustment, CallRow
    from calibration_ledger.rules import Rule


# -- the audit ------------------------------------------------------------------------------

CHECKS = (
    "sequence",  # seq runs 1 ... last_seq without a gap, and nothing lies behind it
    "opening",  # the first entry is an opening, and there is one
    "archived",  # an archived entry begins the history, and is what it was
    "entry",  # an entry's own values are of their type and in their bounds
    "rule",  # this program knows the rule and its version
    "prediction",  # the stored prediction of a call is what the state before it predicts
    "recalibrated",  # a recalibrated entry's state is the replay that it claims
    "voided",  # a voided entry's state is the replay without what is voided
    "calibration",  # the live calibration is the state behind the last entry
    "head",  # the stored head is the digest over the entries
    "noted head",  # a head noted earlier is still on the way
    "not checked",  # of a head noted earlier nothing says whether it is
    "state before",  # an entry ends the calibration that it noted, as an archived one began it
    "request key",  # a request id is found under its own key
    "request id",  # no two calls of a model that count have the same
    "voided entries",  # which entries are stored as voided is what the adjustments say
    "foreign row",  # every row belongs to a model, every detail to a call
    "storage",  # the database engine itself finds the file sound
)
"""The names of all checks. Each finding carries one."""

FINDINGS_MAX = 20
"""How many findings of one check on one model are listed; the others are counted."""

_OPENING = "an opened, imported or archived entry"

_UNREADABLE = (TypeError, ValueError, OverflowError, AttributeError, struct.error)


class ModelAudit:
    """The fold of one model's entries with all its checks. Feed it in order, then `finish`."""

    def __init__(
        self,
        model: str,
        adjustments: Iterable[Adjustment] = (),
        noted: Mapping[int, str] | None = None,
        noted_states: Mapping[int, str] | None = None,
    ) -> None:
        """Begin before the first entry.

        Args:
            model: the model's name; the first head depends on it.
            adjustments: all its adjustments, to know beforehand which replays are claimed.
            noted: digests that the user noted earlier, by seq.
            noted_states: the digests of the calibrations behind some of them, by seq.
        """
        self.model = model
        self.findings: list[Finding] = []
        self.seq = 0
        self.head: bytes | None = first_head(model)
        self.state: State | None = None
        self._counts: dict[str, int] = {}
        self._noted = dict(noted or {})
        self._noted_states = dict(noted_states or {})
        self._past = Past()
        self._claims = Claims(adjustments)

    def report(self, check: str, seq: object, expected: object, found: object) -> None:
        """Add a finding, or only count it if there are very many of its kind.

        A damaged row may hold anything in place of its seq.
        """
        count = self._counts[check] = self._counts.get(check, 0) + 1
        if count <= FINDINGS_MAX:
            self.findings.append(Finding(self.model, whole(seq), check, str(expected), str(found)))

    # -- feeding ----------------------------------------------------------------------------

    def calls(self, rows: Sequence[CallRow]) -> None:
        """Fold consecutive calls."""
        if not rows:
            return
        try:
            # The state is only known behind the last of what is folded at once.
            due = [seq for seq in self._noted_states if rows[0][0] <= seq < rows[-1][0]]
            if due:
                end = next(at for at, row in enumerate(rows) if row[0] > min(due))
                self.calls(rows[:end])
                self.calls(rows[end:])
                return
            seqs, *columns, predicted_ms, outcomes, _, _ = zip(*rows, strict=True)
            self._follow(seqs)
            self._digest_calls(rows)
            self._learn(seqs, columns, outcomes, predicted_ms)
            self._compare_state(seqs[-1])
        except _UNREADABLE:
            self._unreadable_calls(rows)

    def _follow(self, seqs: Sequence[int]) -> None:
        if self.seq == 0:
            self.report("opening", 1, _OPENING, "a call")
        if tuple(range(self.seq + 1, self.seq + 1 + len(seqs))) != tuple(seqs):
            for seq in seqs:
                if seq != self.seq + 1:
                    self.report("sequence", seq, f"entry {self.seq + 1}", f"entry {seq}")
                self.seq = seq
        self.seq = seqs[-1]

    def _digest_calls(self, rows: Sequence[CallRow]) -> None:
        head = self.head
        if head is None:
            return
        self.head = None  # should a row not be readable, there is no head behind it
        noted = self._noted
        for row in rows:
            head = call_head(head, row)
            if noted and row[0] in noted:
                self._compare_noted(row[0], head)
        self.head = head

    def _learn(
        self,
        seqs: Sequence[int],
        columns: Sequence[Sequence[Any]],
        outcomes: Sequence[str | None],
        stored_ms: Sequence[float],
    ) -> None:
        if outcomes.count(None) < len(outcomes):
            if not all(outcome in OUTCOMES for outcome in outcomes):
                raise ValueError("a call ends as no call does")
            learnt = [outcome is None for outcome in outcomes]
            of_rule, *learnt_columns = (list(compress(one, learnt)) for one in (seqs, *columns))
            if of_rule:
                self._claims.learn(of_rule, learnt_columns)
        else:
            self._claims.learn(seqs, columns)
        if self.state is None:
            return
        try:
            called_at, prompts, completions, actual_ms = columns
            predicted_ms = self.state.follow(called_at, prompts, completions, actual_ms, outcomes)
        except NotFiniteError as error:
            self.report("prediction", seqs[0], "a calibration that stays finite", error)
            self.state = None
            return
        if array("d", predicted_ms).tobytes() == array("d", stored_ms).tobytes():
            return
        for seq, mine, theirs in zip(seqs, predicted_ms, stored_ms, strict=True):
            if bits(mine) != bits(theirs):
                first = "" if "prediction" in self._counts else cause_of(seq)
                self.report("prediction", seq, f"{mine!r} ms", f"{theirs!r} ms{first}")

    def _unreadable_calls(self, rows: Sequence[CallRow]) -> None:
        for row in rows:
            if not is_call(row):
                self.report("entry", whole(row[0]), "numbers and texts", repr(tuple(row)))
        if "entry" not in self._counts:
            self.report("entry", whole(rows[0][0]), "values in their bounds", repr(rows[0]))
        self.seq = next((r[0] for r in reversed(rows) if isinstance(r[0], int)), self.seq)
        self.head = self.state = None
        self._claims.clear()

    def adjust(self, entry: Adjustment) -> None:
        """Fold an adjustment."""
        before, self.seq = self.seq, entry.seq
        if before == 0 and entry.kind not in OPENINGS:
            self.report("opening", entry.seq, _OPENING, repr(entry.kind))
        if entry.seq != before + 1 and not (before == 0 and entry.kind == "archived"):
            self.report("sequence", entry.seq, f"entry {before + 1}", f"entry {entry.seq}")
        try:
            if entry.kind == "archived":
                self._go_on_from(entry, before)
            elif self.head is not None:
                self._compare_ended(entry)
                head, self.head = self.head, None
                self.head = adjustment_head(head, entry)
                self._compare_noted(entry.seq, self.head)
            for expected, found in adjustment_faults(entry):
                self.report("entry", entry.seq, expected, found)
            self._apply(entry)
            self._compare_state(entry.seq)
        except (*_UNREADABLE, KeyError):
            self.report("entry", entry.seq, "an adjustment", repr(tuple(entry)))
            self.state = None

    def _go_on_from(self, entry: Adjustment, before: int) -> None:
        """Continue the chain of heads from the one that an archived entry carries."""
        self.head = None
        digest = archived_digest(self.model, entry)
        if digest != entry.archived_digest:
            self.report("archived", entry.seq, digest.hex(), _hex(entry.archived_digest))
        if before:
            self.report("archived", entry.seq, "the first entry", f"entry {before} before it")
        elif entry.archived_head is not None:
            self.head = entry.archived_head
            # Heads noted of entries in the archive can only be compared with the archive.
            self._past.begin(entry.seq, {s: d for s, d in self._noted.items() if s < entry.seq})
            self._noted = {seq: noted for seq, noted in self._noted.items() if seq >= entry.seq}
            self._compare_noted(entry.seq, self.head)

    def _apply(self, entry: Adjustment) -> None:
        try:
            rule = stored_rule(entry.rule)
        except StoredRuleError as error:
            self.report("rule", entry.seq, "a rule that this program knows", error)
            self.state = None
        else:
            self.state = State.from_snapshot(entry.snapshot, rule)
        if self.state is not None and self._claims.is_claim(entry.seq):
            for expected, found in self._claims.differences(entry, self.state):
                self.report(entry.kind, entry.seq, expected, found)
        self._claims.adjust(entry)

    # -- comparing --------------------------------------------------------------------------

    def _compare_noted(self, seq: int, head: bytes) -> None:
        digest = self._noted.pop(seq, None)
        if digest is not None and digest != head.hex():
            self.report("noted head", seq, digest, head.hex())
            self._noted_states.pop(seq, None)  # it differs, too
        elif digest is not None:
            self._past.meet(seq)

    def _compare_state(self, seq: int) -> None:
        """Hold the calibration behind an entry against what was noted with the entry's head."""
        noted = self._noted_states.pop(seq, None)
        if noted is None or self.head is None or self.state is None:
            return
        found = state_digest(self.state.snapshot())
        if found == noted:
            self._past.reach()
        else:
            self.report("noted head", seq, f"the state {noted}", found)

    def _compare_ended(self, entry: Adjustment) -> None:
        """Hold the calibration before an entry against the one that the entry says it ends.

        That is of use only where it was learnt from an archived entry: the calls say the rest.
        """
        noted = ended(entry) if self._past.is_left else None
        if noted is not None and self.state is not None:
            found = state_digest(self.state.snapshot())
            if found == noted:
                self._past.pin()
            else:
                self.report("state before", entry.seq, noted, found)
        if not self._claims.is_claim(entry.seq):
            self._past.wipe()

    def check_keys(self, keys: Iterable[tuple[int, str | None, bytes | None]]) -> None:
        """Check that every request id lies under its own key: `(seq, request_id, key)`."""
        for seq, request_id, key in keys:
            try:
                expected = None if request_id is None else request_key(request_id)
            except _UNREADABLE:
                expected = None
            if key != expected:
                self.report("request key", seq, _hex(expected), _hex(key))

    def finish(
        self, stored: Snapshot, last_seq: int, head: bytes, newest_seq: int
    ) -> list[Finding]:
        """Compare the end with the live calibration; gives all findings.

        Args:
            stored: the live calibration.
            last_seq: its `last_seq`.
            head: its `head`.
            newest_seq: the highest seq of any entry, read in the same moment.
        """
        if self.seq != last_seq:
            self.report("sequence", last_seq, f"entries up to {last_seq}", f"up to {self.seq}")
        if newest_seq > last_seq:
            self.report("sequence", newest_seq, f"no entry behind {last_seq}", "one")
        if self.seq == 0:
            self.report("opening", None, _OPENING, "no entry at all")
        if self.state is not None:
            for expected, found in _differences(self.state.snapshot(), stored):
                self.report("calibration", last_seq, expected, found)
        if self.head is not None and self.head != head:
            self.report("head", last_seq, self.head.hex(), _hex(head))
        return self.close()

    def close(self) -> list[Finding]:
        """All findings, noted heads that were not met and counts of what is not listed included."""
        for seq, digest in sorted(self._noted.items()):
            self.report("noted head", seq, digest, f"a history that ends at entry {self.seq}")
        for seq, expected, found in self._past.unchecked():
            self.report("not checked", seq, expected, found)
        for check, count in self._counts.items():
            if count > FINDINGS_MAX:
                more = f"{count - FINDINGS_MAX} more findings of this check"
                self.findings.append(Finding(self.model, None, check, NO_MORE, more))
        return self.findings


def _hex(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)


# -- what stands in for archived entries ----------------------------------------------------


class Past:
    """Whether noted heads vouch for what an archived entry sets.

    The head that it carries says nothing of its state. That is what it must be if the calibration
    behind a later entry is, as noted with its head, and everything between was learnt from it. A
    reset wipes it out: what that notes of the calibration before it vouches for it as well, for it
    is a part of all later heads.
    """

    def __init__(self) -> None:
        """Begin with a history that is whole."""
        self._seq = 0
        self._older: dict[int, str] = {}
        self.is_left = False
        """Whether the state was learnt from what the archived entry set."""
        self._is_pinned = self._is_vouched = False
        self._met = 0

    def begin(self, seq: int, older: dict[int, str]) -> None:
        """An archived entry begins the history; `older` are the heads noted of what it replaced."""
        self._seq, self._older, self.is_left = seq, older, True

    def wipe(self) -> None:
        """The state that it set is gone from here on."""
        self.is_left = False

    def pin(self) -> None:
        """An entry notes the very calibration before it, as part of all later heads."""
        self._is_pinned = self._is_pinned or self.is_left

    def meet(self, seq: int) -> None:
        """A noted head of this entry is the history's."""
        self._met = seq
        self._is_vouched = self._is_vouched or self._is_pinned

    def reach(self) -> None:
        """A noted head with its calibration is the history's."""
        self._is_vouched = self._is_vouched or self.is_left

    def unchecked(self) -> Iterator[tuple[int, str, str]]:
        """What no noted head could vouch for, as (seq, expected, found); all of it, or nothing."""
        if not self._seq or self._is_vouched:
            return
        for seq, digest in sorted(self._older.items()):
            yield seq, digest, f"an archived entry {self._seq} in place of entry {seq}"
        if self._met:
            yield self._seq, "a head that covers its state", "heads that do not"


# -- the replays that a history claims ------------------------------------------------------
# A `recalibrated` or `voided` entry claims that its state is what a replay of the entries before it
# gives. One more fold checks all claims of the same rule, alpha and voided entries. There may be
# thousands, so each holds only how it differs from the one before, and two of the same rule and
# alpha are one fold up to the first entry that only one of them leaves out.


_FLIPPED = bytes.maketrans(b"\0\1", b"\1\0")


class _Replay:
    """A fold under one rule and alpha, with some entries voided."""

    __slots__ = ("alpha", "branches", "flips", "last", "rule", "settings", "start", "state")

    def __init__(
        self, rule: Rule, alpha: float, flips: list[int], settings: AbstractSet[int], start: int
    ) -> None:
        self.rule = rule
        self.alpha = alpha
        self.flips = flips
        """Seqs in order: at each begin or end those that count here and not in the one before."""
        self.settings = settings
        """The adjustments that set the state here and not in the one before, or the reverse."""
        self.start = start
        """The first entry that it folds itself: its first claim at the latest."""
        self.branches: list[_Replay] = []
        """Those that take over its state at their start; the next to do so comes last."""
        self.last = 0
        """The seq of the last entry that claims it."""
        self.state: State | None = None

    def flip(self, kept: bytearray, seqs: Sequence[int]) -> None:
        """Turn what the fold before keeps of these seqs (1 or 0 each) into what this one keeps."""
        flips = self.flips
        if not flips or flips[0] > seqs[-1] or flips[-1] <= seqs[0]:
            return
        begin = max(0, bisect_right(flips, seqs[0]) - 1) // 2 * 2
        for at in range(begin, bisect_right(flips, seqs[-1]), 2):
            start, end = bisect_left(seqs, flips[at]), bisect_left(seqs, flips[at + 1])
            kept[start:end] = kept[start:end].translate(_FLIPPED)

    def learn(self, seqs: Sequence[int], columns: Sequence[Sequence[Any]], kept: bytearray) -> None:
        """Fold consecutive calls, by the columns that `State.learn` takes, and which it keeps."""
        begin = bisect_left(seqs, self.start)
        while self.branches and self.branches[-1].start <= seqs[-1]:
            end = bisect_left(seqs, self.branches[-1].start)
            self._learn(columns, kept, begin, end)
            self.hand_over(self.branches[-1].start)
            begin = end
        if self.is_due(seqs[-1]):
            self._learn(columns, kept, begin, len(seqs))

    def is_due(self, seq: int) -> bool:
        """Whether its state behind this entry is asked for: by a claim, or by a branch."""
        return self.last > seq or bool(self.branches)

    def hand_over(self, seq: int) -> None:
        """Give the state to the branches that fold from this entry on, or did from an earlier."""
        while self.branches and self.branches[-1].start <= seq:
            self.branches.pop().state = None if self.state is None else self.state.copy()

    def _learn(
        self, columns: Sequence[Sequence[Any]], kept: bytearray, begin: int, end: int
    ) -> None:
        if self.state is None or begin == end:
            return
        columns = [column[begin:end] for column in columns]
        if kept.find(0, begin, end) >= 0:
            columns = [list(compress(column, kept[begin:end])) for column in columns]
        try:
            self.state.learn(*columns)
        except NotFiniteError:
            self.state = None


class Claims:
    """All claims of a model's history. Feed it as `ModelAudit` is fed."""

    def __init__(self, adjustments: Iterable[Adjustment]) -> None:
        """Find out from all its adjustments which replays are claimed."""
        self._of: dict[int, _Replay | None] = {}
        self._choices: dict[int, tuple[str, float]] = {}
        self._folds: list[_Replay] = []
        known = list(adjustments)
        folds: dict[tuple[str, float, int], _Replay | None] = {}
        tally = Tally(known)
        for entry in known:
            # That a voiding cannot be read is a finding of the entry's own.
            if entry.kind == "voided" and tally.void(entry):
                choice = tally.rule_in_force(entry.seq)
                if choice is not None:
                    self._choices[entry.seq] = choice
            if entry.kind in CLAIMS and entry.seq not in tally.settings:
                key = (entry.rule, entry.alpha, tally.mark)
                if key not in folds:
                    fold = folds[key] = _replay(entry, tally.changes)
                    if fold is not None:
                        self._folds.append(fold)
                        tally.changes.clear()
                fold = self._of[entry.seq] = folds[key]
                if fold is not None:
                    fold.last = entry.seq
        self._settings = set().union(*(fold.settings for fold in self._folds))
        self._plant()

    def _plant(self) -> None:
        """Find from which earlier fold each one branches off, and where."""
        lines: dict[tuple[str, float], list[_Replay]] = {}
        places: dict[tuple[str, float], int] = {}
        # Where each differs first from the one before it.
        firsts = [min([*one.flips[:1], *one.settings, one.start]) for one in self._folds[1:]]
        for place, fold in enumerate(self._folds):
            key = (fold.rule.version, fold.alpha)
            line = lines.setdefault(key, [])
            # Its line are the folds that have branched off before it does, the last one last.
            fold.start = min([fold.start, *firsts[places.get(key, 0) : place]]) if line else 0
            while len(line) > 1 and line[-1].start >= fold.start:
                line.pop()
            if line:
                line[-1].branches.append(fold)
            line.append(fold)
            places[key] = place
        for fold in self._folds:
            fold.branches.sort(key=lambda one: -one.start)

    def learn(self, seqs: Sequence[int], columns: Sequence[Sequence[Any]]) -> None:
        """Fold consecutive calls, by the columns that `State.learn` takes."""
        kept = bytearray(b"\1") * len(seqs)
        for fold in self._folds:
            fold.flip(kept, seqs)
            if fold.start <= seqs[-1] and fold.is_due(seqs[-1]):
                fold.learn(seqs, columns, kept)

    def adjust(self, entry: Adjustment) -> None:
        """Fold an adjustment; raises as `State.from_snapshot` does."""
        if entry.seq not in self._settings:
            return
        sets = False
        for fold in self._folds:
            fold.hand_over(entry.seq)
            sets ^= entry.seq in fold.settings
            if sets and fold.start <= entry.seq and fold.is_due(entry.seq):
                fold.state = State.from_snapshot(entry.snapshot, fold.rule, fold.alpha)

    def clear(self) -> None:
        """Give up, because an entry could not be read."""
        for fold in self._folds:
            fold.state = None

    def is_claim(self, seq: int) -> bool:
        """Whether this entry's state follows from those before it."""
        return seq in self._of

    def differences(self, entry: Adjustment, state: State) -> Iterator[tuple[str, str]]:
        """Where the state that a claim sets differs from the replay, as (expected, found)."""
        rule, alpha = self._choices.get(entry.seq, (entry.rule, entry.alpha))
        if (rule, alpha) != (entry.rule, entry.alpha):
            yield f"{rule} at alpha {alpha!r}", f"{entry.rule} at alpha {entry.alpha!r}"
        fold = self._of[entry.seq]
        if fold is not None and fold.state is None:  # no call came since its start
            for one in self._folds:
                one.hand_over(entry.seq)
        if fold is None or fold.state is None:
            yield "no state that stays finite", "one"
            return
        yield from _differences(fold.state.snapshot(), state.snapshot())


def _differences(expected: Snapshot, found: Snapshot) -> Iterator[tuple[str, str]]:
    """Where two calibrations differ, to the bit, as (expected, found)."""
    for name, mine, theirs in zip(Snapshot._fields, expected, found, strict=True):
        if bits(mine) != bits(theirs):
            yield f"{name} {mine!r}", repr(theirs)


def bits(value: object) -> object:
    """A value in a form that compares bit by bit."""
    return struct.pack(">d", value) if isinstance(value, float) else value


def _replay(entry: Adjustment, changes: AbstractSet[tuple[bool, int]]) -> _Replay | None:
    """The replay that an entry claims, by what counts otherwise than in the one before.

    None for a rule that this program does not know: that is a finding of its own.
    """
    flips = sorted(seq for is_setting, seq in changes if not is_setting)
    settings = {seq for is_setting, seq in changes if is_setting}
    try:
        return _Replay(stored_rule(entry.rule), entry.alpha, flips, settings, entry.seq)
    except StoredRuleError:
        return None


# -- what an entry's own values must be -----------------------------------------------------


def adjustment_faults(entry: Adjustment) -> Iterator[tuple[str, str]]:
    """What is wrong with an adjustment, as (expected, found).

    Raises:
        TypeError: a value is of another type, or a voided entry names no entries.
        struct.error: the rule's further numbers are none.
    """
    set_to = entry.snapshot
    numbers = [set_to.alpha, *set_to.numbers, *unpack_numbers(set_to.rule_state)]
    if not all(map(isfinite, numbers)) or not 0.0 < entry.alpha <= 1.0:
        yield "finite numbers, 0 < alpha <= 1", repr(numbers)
    totals = (set_to.total_absolute_error_ms, set_to.total_predicted_ms, set_to.sample_count)
    if entry.kind in {"opened", "reset"} and any(totals):
        yield "counts and totals of 0", repr(totals)
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
    """What the first prediction that differs means: its entry was changed, or one before it."""
    before = "1" if seq <= 2 else f"{seq - 1}, or an earlier one,"  # noqa: PLR2004 - what is before 2 is 1
    return f" (the first that differs: entry {seq} or {before} was changed)"


def whole(value: object) -> int | None:
    """The value, if it is a whole number."""
    return value if isinstance(value, int) else None
