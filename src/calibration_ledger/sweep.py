"""Sweep: replay a history under many rules and alphas at once, and rank them by their error.

Every call is predicted before it is learnt, as in a replay; here each page of calls is read once
and folded under all candidates. The first calls of a model say more of its prior than of a rule:
they are learnt, but left out of the figures. Nothing here knows a database.
"""

from __future__ import annotations

from math import inf, isnan, nan
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.errors import NotFiniteError
from calibration_ledger.figures import Accuracy
from calibration_ledger.replay import fold_states
from calibration_ledger.values import Score, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.learning import State
    from calibration_ledger.replay import Columns, History, Progress, Window
    from calibration_ledger.rules import Rule

ALPHAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Swept where none are named: from hardly learning to hardly remembering."""

WARM_UP = 20
"""Calls of each model that are learnt but not scored, where no other number is named."""


class Candidate(NamedTuple):
    """A rule and alpha to try."""

    rule: Rule
    alpha: float


def candidates_of(rules: Iterable[Rule], alphas: Iterable[float]) -> list[Candidate]:
    """Every rule with every alpha, each once."""
    return list(dict.fromkeys(Candidate(rule, alpha) for rule in rules for alpha in alphas))


def sweep_history(
    history: History,
    candidates: Sequence[Candidate],
    through: int,
    *,
    warm_up: int,
    window: Window | None = None,
    progress: Progress | None = None,
) -> list[Accuracy | None]:
    """The figures of each candidate; None for one that would not stay finite.

    Raises:
        LedgerCorruptError: the history does not begin with an opening.
    """
    figures: list[Accuracy | None] = [Accuracy(keeps_sizes=True) for _ in candidates]
    seen = 0

    def learn(states: list[State | None], columns: Columns) -> None:
        nonlocal seen
        scored = _scored(columns, max(warm_up - seen, 0), window)
        seen += len(columns.actual_ms)
        for index, state in enumerate(states):
            accuracy = figures[index]
            if state is None or accuracy is None:
                continue
            try:
                predicted_ms = state.learn(*columns)
            except NotFiniteError:
                states[index] = figures[index] = None
                continue
            accuracy.add(columns.actual_ms, predicted_ms, scored)
        if progress is not None:
            progress(len(columns.actual_ms))

    fold_states(history, candidates, through, learn)
    return figures


def _scored(columns: Columns, left_out: int, window: Window | None) -> list[bool] | None:
    """Which calls of a page count; None for all of them."""
    if window is None and not left_out:
        return None
    scored = [True] * len(columns.actual_ms) if window is None else window.holds(columns.called_at)
    left_out = min(left_out, len(scored))
    scored[:left_out] = [False] * left_out
    return scored


def ranked(
    model: str | None,
    candidates: Sequence[Candidate],
    figures: Sequence[Accuracy | None],
    live: Score,
    warm_up: int,
) -> Sweep:
    """The value of a finished sweep: the smallest mean absolute error first."""
    scores = [
        score_of(candidate.rule.version, candidate.alpha, accuracy)
        for candidate, accuracy in zip(candidates, figures, strict=True)
    ]
    scores.sort(key=lambda score: _key(score.mean_absolute_error_ms))
    return Sweep(model=model, warm_up=warm_up, scores=tuple(scores), live=live)


def _key(error_ms: float) -> float:
    return inf if isnan(error_ms) else error_ms


def score_of(rule: str | None, alpha: float | None, accuracy: Accuracy | None) -> Score:
    """The frozen figures of one candidate."""
    if accuracy is None:
        return Score(rule, alpha, 0, nan, nan, nan, nan, nan)
    return Score(
        rule=rule,
        alpha=alpha,
        n=accuracy.n,
        mean_absolute_error_ms=accuracy.mean_absolute_error_ms,
        relative_error=accuracy.relative_error,
        median_absolute_percentage_error=accuracy.median_absolute_percentage_error,
        bias_ms=accuracy.bias_ms,
        p90_absolute_error_ms=accuracy.quantile_absolute_error_ms(0.9),
    )


def together(all_figures: Sequence[Sequence[Accuracy | None]]) -> list[Accuracy | None]:
    """The figures of each candidate over several models; None where one would not stay finite."""
    totals: list[Accuracy | None] = []
    for of_models in zip(*all_figures, strict=True):
        total: Accuracy | None = Accuracy(keeps_sizes=True)
        for accuracy in of_models:
            if accuracy is None or total is None:
                total = None
                break
            total.join(accuracy)
        totals.append(total)
    return totals
