"""Replay: fold a model's entries again under a rule and alpha of one's choice.

`opened`, `imported`, `reset` and `archived` entries set the coefficients, counts and totals that
they hold, under the chosen rule and alpha. `recalibrated` and `voided` entries are skipped, because
they add no knowledge (but see `history.setting`), and so is whatever is voided. Each call is
predicted and scored, then learnt: the figures show how the rule would have done. Nothing here knows
a database: a `History` gives the entries in bounded pages.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from calibration_ledger.core.entries import OPENINGS
from calibration_ledger.core.figures import Accuracy
from calibration_ledger.core.history import setting, stretches, voided_ranges
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import check_window
from calibration_ledger.core.values import Replay
from calibration_ledger.errors import NotFiniteError, damage_told, damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.core.entries import Adjustment
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.rules import Rule

    Progress = Callable[[int], object]

    """Called with the number of calls done since it was last called."""

    Start = Callable[..., "Runs"]
    """How runs start: `Runs`, or the same compiled; it takes what `Runs` takes."""


class Columns(NamedTuple):
    """A page of calls, column by column."""

    called_at: Sequence[int]
    prompt_tokens: Sequence[int]
    completion_tokens: Sequence[int]
    actual_ms: Sequence[float]


class History(Protocol):
    """One model's entries."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def adjustments(self) -> Sequence[Adjustment]:
        """All its adjustments by seq; there are few."""

    def columns(self, after: int, through: int, voided: Ranges = ()) -> Iterator[Columns]:
        """Its calls with after < seq <= through but for those voided, by seq, in bounded pages."""


class Window(NamedTuple):
    """Which calls are scored: those with since <= called_at < until (us; None: open)."""

    since: int | None
    until: int | None

    @classmethod
    def of(cls, since: datetime | None, until: datetime | None) -> Window | None:
        """What the user asks for, checked; None for all calls."""
        bounds = check_window(since, until)
        return None if bounds == (None, None) else cls(*bounds)

    def holds(self, called_at: Sequence[int]) -> list[bool]:
        """Whether each of these times is in it."""
        since = -1 if self.since is None else self.since
        if self.until is None:
            return [time >= since for time in called_at]
        return [since <= time < self.until for time in called_at]


class Scoring:
    """Which calls count in the figures: those in the window, but not the first `warm_up`."""

    def __init__(self, window: Window | None = None, warm_up: int = 0) -> None:
        """Count all of them, unless told otherwise."""
        self.window = window
        self._warm_up = warm_up

    def left_out(self, count: int) -> int:
        """How many of the next `count` calls belong to the warm-up."""
        left_out = min(self._warm_up, count)
        self._warm_up -= left_out
        return left_out

    def scored(self, called_at: Sequence[int]) -> list[bool] | None:
        """Which of the next calls count; None for all of them."""
        left_out = self.left_out(len(called_at))
        if self.window is None and not left_out:
            return None
        scored = [True] * len(called_at) if self.window is None else self.window.holds(called_at)
        scored[:left_out] = [False] * left_out
        return scored


class Runs:
    """One or several rules and alphas that learn the same history, in plain Python.

    `fast.CompiledRuns` is the same, compiled; the results agree to the bit.

    Attributes:
        model: the model's name.
        states: the state of each; None once it would not have stayed finite.
        figures: how well each has predicted; empty if nobody asked.
        errors: why one has no state, by its index.
    """

    def __init__(
        self,
        model: str,
        states: Sequence[State],
        *,
        keeps_figures: bool = True,
        keeps_sizes: bool = False,
    ) -> None:
        """Start from these; `keeps_sizes` as in `Accuracy`."""
        self.model = model
        self.states: list[State | None] = list(states)
        count = len(states) if keeps_figures else 0
        self.figures = [Accuracy(keeps_sizes=keeps_sizes) for _ in range(count)]
        self.errors: dict[int, NotFiniteError] = {}

    def learn(
        self, pages: Iterable[Columns], scoring: Scoring, progress: Progress | None = None
    ) -> None:
        """Learn pages of calls, for as long as one of them has a state.

        Raises:
            LedgerCorruptError: a call holds an impossible value.
        """
        for columns in pages:
            with damage_told(self.model):
                self.learn_page(columns, scoring.scored(columns.called_at))
            if progress is not None:
                progress(len(columns.actual_ms))
            if len(self.errors) == len(self.states):
                return

    def learn_page(self, columns: Columns, scored: list[bool] | None) -> None:
        """Learn a page of calls; `scored` says which count in the figures (None: all)."""
        for index, state in enumerate(self.states):
            if state is None:
                continue
            try:
                predicted_ms = state.learn(*columns)
            except NotFiniteError as error:
                self.give_up(index, error)
                continue
            if self.figures:
                self.figures[index].add(columns.actual_ms, predicted_ms, scored)

    def give_up(self, index: int, error: NotFiniteError) -> None:
        """Leave this one out from here on."""
        self.states[index] = None
        self.errors[index] = error


def fold_history(
    history: History,
    rule: Rule,
    alpha: float,
    through: int,
    *,
    accuracy: Accuracy | None = None,
    window: Window | None = None,
    progress: Progress | None = None,
    start: Start = Runs,
) -> State:
    """Fold the entries 1 to `through`; gives the state after them.

    Raises:
        NotFiniteError: under this rule and alpha the calibration would not stay finite.
        LedgerCorruptError: the history does not begin with an opening.
    """
    begin = partial(start, keeps_figures=accuracy is not None)
    runs = fold_states(history, [(rule, alpha)], through, begin, Scoring(window), progress)
    for error in runs.errors.values():
        raise error
    if accuracy is not None:
        accuracy.join(runs.figures[0])
    (state,) = runs.states
    assert state is not None  # noqa: S101 - else there is an error
    return state


def fold_states(
    history: History,
    candidates: Sequence[tuple[Rule, float]],
    through: int,
    start: Callable[[str, Sequence[State]], Runs],
    scoring: Scoring,
    progress: Progress | None = None,
) -> Runs:
    """Fold the entries 1 to `through` under one rule and alpha or many, in one walk.

    Raises:
        LedgerCorruptError: the history does not begin with an opening.
    """
    with damage_told(history.model):
        voided = voided_ranges(history.adjustments)
        found = setting(history.adjustments, voided)
    if not found or found[0].kind not in OPENINGS:
        raise damaged(history.model, "the history does not begin with an opening")
    opening, *later = found
    with damage_told(history.model):
        states = [State.from_snapshot(opening.snapshot, *one) for one in candidates]
    runs = start(history.model, states)
    for after, end, entry in stretches(later, opening.seq, through):
        runs.learn(counting(history, voided, after, end), scoring, progress)
        if len(runs.errors) == len(candidates):
            break
        if entry is not None:
            with damage_told(history.model):
                for index, one in enumerate(candidates):
                    if runs.states[index] is not None:
                        runs.states[index] = State.from_snapshot(entry.snapshot, *one)
    return runs


def counting(history: History, voided: Ranges, after: int, through: int) -> Iterator[Columns]:
    """Pages of the calls with after < seq <= through that are not voided."""
    yield from history.columns(after, through, *(voided,) * bool(voided))


def replay_of(model: str, state: State, accuracy: Accuracy) -> Replay:
    """The frozen value of a finished replay."""
    return Replay(
        model=model,
        rule=state.rule.version,
        alpha=state.alpha,
        calibration=state.calibration(model),
        n=accuracy.n,
        mean_absolute_error_ms=accuracy.mean_absolute_error_ms,
        median_absolute_percentage_error=accuracy.median_absolute_percentage_error,
        bias_ms=accuracy.bias_ms,
        mean_actual_ms=accuracy.mean_actual_ms,
    )
