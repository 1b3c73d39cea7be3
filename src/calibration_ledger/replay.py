"""Replay: fold a model's entries again under a rule and alpha of one's choice.

`opened`, `imported` and `reset` entries set the coefficients, counts and totals that they hold,
under the chosen rule and alpha; `recalibrated` entries are skipped, for they added no knowledge.
Each call is scored, then learnt, so the figures are what the rule would have predicted in life.
Nothing here knows a database: a `History` gives the entries in bounded pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from calibration_ledger.damage import damaged
from calibration_ledger.entries import OPENINGS
from calibration_ledger.figures import Accuracy
from calibration_ledger.learning import State
from calibration_ledger.values import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.rules import Rule

    Progress = Callable[[int], object]
    """Called with the number of calls done since it was last called."""


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

    def columns(self, after: int, through: int) -> Iterator[Columns]:
        """Its calls with after < seq <= through, by seq, in bounded pages."""


class Window(NamedTuple):
    """Which calls are scored: those with since <= called_at < until (us; None: open)."""

    since: int | None
    until: int | None

    def holds(self, called_at: Sequence[int]) -> list[bool]:
        """Whether each of these times is in it."""
        since = -1 if self.since is None else self.since
        if self.until is None:
            return [time >= since for time in called_at]
        return [since <= time < self.until for time in called_at]


def fold_history(
    history: History,
    rule: Rule,
    alpha: float,
    through: int,
    *,
    accuracy: Accuracy | None = None,
    window: Window | None = None,
    progress: Progress | None = None,
) -> State:
    """Fold the entries 1 to `through`; gives the state behind them.

    Raises:
        NotFiniteError: under this rule and alpha the calibration would not stay finite.
        LedgerCorruptError: the history does not begin with an opening.
    """

    def learn(states: list[State | None], columns: Columns) -> None:
        (state,) = states
        assert state is not None  # noqa: S101 - it is never taken out
        predicted_ms = state.learn(*columns)
        if accuracy is not None:
            scored = None if window is None else window.holds(columns.called_at)
            accuracy.add(columns.actual_ms, predicted_ms, scored)
        if progress is not None:
            progress(len(predicted_ms))

    (state,) = fold_states(history, [(rule, alpha)], through, learn)
    assert state is not None  # noqa: S101 - see above
    return state


def fold_states(
    history: History,
    candidates: Sequence[tuple[Rule, float]],
    through: int,
    learn: Callable[[list[State | None], Columns], object],
) -> list[State | None]:
    """Walk the entries 1 to `through` once, for one state or many; gives the states behind them.

    `learn(states, columns)` learns a page of calls, and may put None in the place of a state that
    is to be left out from there on.

    Raises:
        LedgerCorruptError: the history does not begin with an opening.
    """
    setting = [entry for entry in history.adjustments if entry.kind != "recalibrated"]
    if not setting or setting[0].kind not in OPENINGS:
        raise damaged(history.model, "the history does not begin with an opening")
    opening, *later = setting
    states: list[State | None] = [State.from_adjustment(opening, *one) for one in candidates]
    done = opening.seq
    for entry in [*(e for e in later if e.seq <= through), None]:
        end = through if entry is None else entry.seq - 1
        for columns in history.columns(done, end):
            learn(states, columns)
        if entry is not None:
            states = [
                None if state is None else State.from_adjustment(entry, *one)
                for state, one in zip(states, candidates, strict=True)
            ]
            done = entry.seq
    return states


def replay_history(
    history: History,
    rule: Rule,
    alpha: float,
    through: int,
    *,
    window: Window | None = None,
    progress: Progress | None = None,
) -> tuple[Replay, State]:
    """Replay one model; gives its figures, and the state they end in.

    Raises:
        NotFiniteError: under this rule and alpha the calibration would not stay finite.
    """
    accuracy = Accuracy()
    state = fold_history(
        history, rule, alpha, through, accuracy=accuracy, window=window, progress=progress
    )
    return replay_of(history.model, state, accuracy), state


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
