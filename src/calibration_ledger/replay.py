"""Replay: fold a model's entries again under a rule and alpha of one's choice.

`opened`, `imported`, `reset` and `archived` entries set the coefficients, counts and totals that
they hold, under the chosen rule and alpha; `recalibrated` entries are skipped, for they added no
knowledge (but see `entries.setting`).
Each call is scored, then learnt, so the figures are what the rule would have predicted in life.
Nothing here knows a database: a `History` gives the entries in bounded pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from calibration_ledger.damage import damage_told, damaged
from calibration_ledger.entries import OPENINGS, setting
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
    found = setting(history.adjustments)
    if not found or found[0].kind not in OPENINGS:
        raise damaged(history.model, "the history does not begin with an opening")
    opening, *later = found
    with damage_told(history.model):
        state = State.from_adjustment(opening, rule, alpha)
    done = opening.seq
    for entry in [*(e for e in later if e.seq <= through), None]:
        end = through if entry is None else entry.seq - 1
        for columns in history.columns(done, end):
            with damage_told(history.model):
                predicted_ms = state.learn(*columns)
                if accuracy is not None:
                    scored = None if window is None else window.holds(columns.called_at)
                    accuracy.add(columns.actual_ms, predicted_ms, scored)
            if progress is not None:
                progress(len(predicted_ms))
        if entry is not None:
            with damage_told(history.model):
                state = State.from_adjustment(entry, rule, alpha)
            done = entry.seq
    return state


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
    with damage_told(model):
        calibration = state.calibration(model)
    return Replay(
        model=model,
        rule=state.rule.version,
        alpha=state.alpha,
        calibration=calibration,
        n=accuracy.n,
        mean_absolute_error_ms=accuracy.mean_absolute_error_ms,
        median_absolute_percentage_error=accuracy.median_absolute_percentage_error,
        bias_ms=accuracy.bias_ms,
        mean_actual_ms=accuracy.mean_actual_ms,
    )
