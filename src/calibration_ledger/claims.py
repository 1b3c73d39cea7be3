"""The replays that a history claims, folded beside it while it is audited.

A `recalibrated` or `voided` entry says: this is what a replay of the entries before me gives. One
fold more checks all claims of the same rule, alpha and voided entries.
"""

from __future__ import annotations

import struct
from itertools import compress
from typing import TYPE_CHECKING

from calibration_ledger.errors import NotFiniteError, StoredRuleError
from calibration_ledger.learning import State
from calibration_ledger.rules import stored_rule
from calibration_ledger.voids import CLAIMS, Ranges, covers, rule_in_force, setting, voided_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.rules import Rule


class _Replay:
    """A fold under one rule and alpha, with some entries voided."""

    __slots__ = ("_voided", "alpha", "last", "rule", "settings", "state")

    def __init__(self, rule: Rule, alpha: float, voided: Ranges, settings: set[int]) -> None:
        self.rule = rule
        self.alpha = alpha
        self._voided = voided
        self.settings = settings
        self.last = 0
        """The seq of the last entry that claims it."""
        self.state: State | None = None

    def learn(self, seqs: Sequence[int], columns: Sequence[Sequence[float]]) -> None:
        """Fold consecutive calls: called_at, prompt tokens, completion tokens, actual ms."""
        if self.state is None:
            return
        if self._voided and any(a <= seqs[-1] and b >= seqs[0] for a, b in self._voided):
            counts = [not covers(self._voided, seq) for seq in seqs]
            columns = [list(compress(column, counts)) for column in columns]
        try:
            self.state.learn(*columns)  # type: ignore[arg-type]  # whole numbers, but for the last
        except NotFiniteError:
            self.state = None


class Claims:
    """All claims of a model's history. Feed them as `ModelAudit` is fed."""

    def __init__(self, adjustments: Iterable[Adjustment]) -> None:
        """Look at all its adjustments, to know beforehand which replays are claimed."""
        self._of: dict[int, _Replay | None] = {}
        self._choices: dict[int, tuple[str, float]] = {}
        known = list(adjustments)
        folds: dict[tuple[str, float, Ranges], _Replay | None] = {}
        voided: Ranges = ()
        settings = {entry.seq for entry in setting(known)}
        for count, entry in enumerate(known, 1):
            if entry.kind == "voided":
                before = known[:count]
                try:
                    voided = voided_ranges(before)
                    self._choices[entry.seq] = rule_in_force(before, voided)
                except TypeError:
                    pass  # a finding of the entry's own
                settings = {one.seq for one in setting(known, voided)}
            if entry.kind in CLAIMS and entry.seq not in settings:
                key = (entry.rule, entry.alpha, voided)
                if key not in folds:
                    folds[key] = _replay(*key, settings)
                fold = self._of[entry.seq] = folds[key]
                if fold is not None:
                    fold.last = entry.seq
        self._folds = [fold for fold in folds.values() if fold is not None]

    def learn(
        self,
        seqs: Sequence[int],
        called_at: Sequence[int],
        prompts: Sequence[int],
        completions: Sequence[int],
        actual: Sequence[float],
    ) -> None:
        """Fold consecutive calls."""
        columns = (called_at, prompts, completions, actual)
        for fold in self._folds:
            if fold.last > seqs[-1]:
                fold.learn(seqs, columns)

    def adjust(self, entry: Adjustment) -> None:
        """Fold an adjustment; raises as `State.from_adjustment` does."""
        for fold in self._folds:
            if fold.last > entry.seq and entry.seq in fold.settings:
                fold.state = State.from_adjustment(entry, fold.rule, fold.alpha)

    def clear(self) -> None:
        """Give up: what was fed could not be read."""
        for fold in self._folds:
            fold.state = None

    def is_claim(self, seq: int) -> bool:
        """Whether this entry's state follows from those before it."""
        return seq in self._of

    def differences(self, entry: Adjustment, state: State) -> Iterator[tuple[str, str]]:
        """In what the state that a claim sets is not what it claims, as (expected, found)."""
        rule, alpha = self._choices.get(entry.seq, (entry.rule, entry.alpha))
        if (rule, alpha) != (entry.rule, entry.alpha):
            yield f"{rule} at alpha {alpha!r}", f"{entry.rule} at alpha {entry.alpha!r}"
        fold = self._of[entry.seq]
        if fold is None or fold.state is None:
            yield "no state that stays finite", "one"
            return
        found = state.columns()
        for name, value in fold.state.columns().items():
            if bits(value) != bits(found[name]):
                yield f"{name} {value!r}", repr(found[name])


def bits(value: object) -> object:
    """A value in a form that compares bit by bit."""
    return struct.pack(">d", value) if isinstance(value, float) else value


def _replay(version: str, alpha: float, voided: Ranges, settings: set[int]) -> _Replay | None:
    """None for a rule that this program does not know: a finding of its own."""
    try:
        return _Replay(stored_rule(version), alpha, voided, settings)
    except StoredRuleError:
        return None
