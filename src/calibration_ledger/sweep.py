"""Sweep: replay a history under many rules and alphas at once, and rank them by their error.

Every call is predicted before it is learnt, as in a replay; here each page of calls is read once
and folded under all candidates. The first calls of a model say more of its prior than of a rule:
they are learnt, but left out of the figures. Nothing here knows a database.
"""

from __future__ import annotations

from functools import partial
from math import inf, isnan, nan
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.replay import Runs, Scoring, fold_states
from calibration_ledger.values import Score, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.figures import Accuracy
    from calibration_ledger.replay import History, Progress, Start, Window
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
    start: Start = Runs,
) -> list[Accuracy | None]:
    """The figures of each candidate; None for one that would not stay finite.

    Raises:
        LedgerCorruptError: the history does not begin with an opening.
    """
    begin = partial(start, keeps_sizes=True)
    runs = fold_states(history, candidates, through, begin, Scoring(window, warm_up), progress)
    return [None if i in runs.errors else one for i, one in enumerate(runs.figures)]


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


class Together:
    """The figures of each candidate over several models; None where one would not stay finite.

    They are added up model by model, so that no more than two models' are ever kept.
    """

    def __init__(self) -> None:
        """Start with no model."""
        self.figures: list[Accuracy | None] = []
        self.models = 0

    def add(self, figures: Sequence[Accuracy | None]) -> None:
        """Take in the figures of one model."""
        self.models += 1
        if self.models == 1:
            self.figures = [None if one is None else one.copy() for one in figures]
            return
        for index, one in enumerate(figures):
            total = self.figures[index]
            if one is None or total is None:
                self.figures[index] = None
            else:
                total.join(one)
