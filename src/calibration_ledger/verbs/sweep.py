"""Sweep: replay histories under many rules and alphas at once, and rank them by their error."""

from __future__ import annotations

from functools import partial
from itertools import product
from math import inf, isnan, nan
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.comparison import CHANCE_MOST, SCORED_LEAST, chance_of_lead
from calibration_ledger.core.history import voided_ranges
from calibration_ledger.core.priors import Prior
from calibration_ledger.core.replay import Runs, Scoring, Window, counting, fold_states
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import check_alpha
from calibration_ledger.core.values import Score, Suggestion, Sweep
from calibration_ledger.errors import InvalidInputError, StoredRuleError, damage_told, shown
from calibration_ledger.fast import how_to_run
from calibration_ledger.rules import NEWEST_RULES, find_rule, stored_rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from calibration_ledger.core.figures import Accuracy
    from calibration_ledger.core.replay import History, Progress, Start
    from calibration_ledger.rules import Rule, RuleName
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored


# -- the sweep ------------------------------------------------------------------------------

CANDIDATES_MAX = 10_000
WARM_UP_MAX = 1_000_000


def sweep(
    ledger: Ledger,
    alphas: Iterable[float] | None,
    rules: Iterable[str] | str | None,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    warm_up: int,
    progress: Progress | None,
) -> list[Sweep]:
    """See `AdaptiveCalibrator.sweep`."""
    every = product(_rules(rules), _alphas(alphas))
    candidates = [Candidate(*one) for one in dict.fromkeys(every)]
    if len(candidates) > CANDIDATES_MAX:
        raise InvalidInputError(
            f"{len(candidates)} rules and alphas are too many: try {CANDIDATES_MAX} at most."
        )
    check_warm_up(warm_up)
    window = Window.of(since, until)
    lives = ledger.models(model, must_exist=True)
    plan = _Plan(candidates, warm_up, window, sum(live.last_seq for live in lives), progress)
    found, together = [], Together()
    for live in lives:
        newest, figures = live, None
        if live.last_seq - 1 > warm_up:  # or there are too few entries, and none is looked at
            newest, figures = ledger.whole(live, plan.figures)
        own = stored_rule(newest.snapshot.rule).version, newest.snapshot.alpha
        if figures is None:
            found.append(Sweep(live.model, warm_up, (), score_of(*own, None)))
        else:
            found.append(ranked(live.model, candidates, figures, own, warm_up))
            together.add(figures)
    if model is None and together.models > 1:
        found.append(ranked(None, candidates, together.figures, (None, None), warm_up))
    return found


class _Plan(NamedTuple):
    """What is asked of each model."""

    candidates: list[Candidate]
    warm_up: int
    window: Window | None
    calls: int
    """How many calls there are, of all models."""
    progress: Progress | None

    def figures(self, history: ModelHistory) -> tuple[Stored, list[Accuracy | None] | None]:
        """The model as it was swept, and the figures: of each candidate, then of the live one.

        None where no call can be scored.
        """
        live = history.live
        through = last_learnt(history, self.window)
        count = history.count_counting(through)
        if count <= self.warm_up:
            return live, None
        own = Candidate(stored_rule(live.snapshot.rule), live.snapshot.alpha)
        tried = self.candidates if own in self.candidates else [*self.candidates, own]
        figures = sweep_history(
            history,
            tried,
            through,
            warm_up=self.warm_up,
            window=self.window,
            progress=self.progress,
            start=how_to_run({one.rule for one in tried}, count, len(tried), self.calls),
        )
        return live, [*figures[: len(self.candidates)], figures[tried.index(own)]]


def last_learnt(history: ModelHistory, window: Window | None) -> int:
    """The last entry to learn: those after the last scored call cannot matter."""
    return history.live.last_seq if window is None else max(1, history.last_learnt(window))


def _rules(given: Iterable[str] | str | None) -> list[Rule]:
    if given is None:
        return list(NEWEST_RULES)
    given = [given] if isinstance(given, str) else given
    names = _listed(given, "rules must be a name or a list of names", "['ema', 'kalman'], say")
    if not names:
        raise InvalidInputError("no rule to try: name one, or leave rules out for all of them.")
    return [find_rule(name) for name in names]


def _alphas(given: Iterable[float] | None) -> list[float]:
    if given is None:
        return list(ALPHAS)
    alphas = _listed(given, "alphas must be a list of numbers", "[0.05, 0.15], say")
    if not alphas:
        raise InvalidInputError("no alpha to try: name one, or leave alphas out for some.")
    return [check_alpha(alpha) for alpha in alphas]


def _listed(given: Iterable[object], must: str, example: str) -> list[object]:
    try:
        return list(given)
    except TypeError:
        raise InvalidInputError(f"{must}, not {shown(given)}: {example}.") from None


def check_warm_up(given: object) -> None:
    """Refuse what is no number of calls to leave out.

    Raises:
        InvalidInputError: it is none.
    """
    is_whole = isinstance(given, int) and not isinstance(given, bool)
    if not is_whole or not 0 <= given <= WARM_UP_MAX:  # type: ignore[operator]  # just looked
        raise InvalidInputError(
            f"warm_up must be a whole number from 0 to {WARM_UP_MAX}, not {shown(given)}."
        )


# -- many rules and alphas at once, ranked --------------------------------------------------
# Each page of calls is read once, and folded under all candidates. The errors of a model's first
# calls say more of its prior than of a rule: these calls are learnt, but not scored.

ALPHAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
"""What is tried by default: from hardly learning to hardly remembering."""

WARM_UP = 20
"""How many calls of each model are learnt but not scored, by default."""


class Candidate(NamedTuple):
    """A rule and alpha to try."""

    rule: Rule
    alpha: float


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
    """The figures of each candidate; None for one that would not stay finite."""
    begin = partial(start, keeps_sizes=True)
    runs = fold_states(history, candidates, through, begin, Scoring(window, warm_up), progress)
    return [None if i in runs.errors else one for i, one in enumerate(runs.figures)]


def ranked(
    model: str | None,
    candidates: Sequence[Candidate],
    figures: Sequence[Accuracy | None],
    own: tuple[RuleName | None, float | None],
    warm_up: int,
) -> Sweep:
    """The value to hand out: the smallest mean absolute error first.

    `figures` are those of the candidates, then those of the live rule and alpha, which is `own`.
    """
    *tried, its_own = figures
    found = [
        (score_of(candidate.rule.version, candidate.alpha, accuracy), accuracy)
        for candidate, accuracy in zip(candidates, tried, strict=True)
    ]
    # Those without an error come last: nothing is smaller or larger than NaN.
    errors = [score.mean_absolute_error_ms for score, _ in found]
    order = sorted(range(len(found)), key=lambda i: (isnan(errors[i]), errors[i]))
    _, best = found[order[0]]
    return Sweep(
        model=model,
        warm_up=warm_up,
        scores=tuple(found[i][0] for i in order),
        live=score_of(*own, its_own),
        chance=_chance(best, its_own, len(candidates)),
    )


def _chance(best: Accuracy | None, own: Accuracy | None, tried: int) -> float:
    """See `Sweep.chance`. Whatever is finite is clearly better than what is not."""
    if best is None or best.n < SCORED_LEAST:
        return nan
    return 0.0 if own is None else chance_of_lead(best.parts, own.parts, tried)


def score_of(rule: RuleName | None, alpha: float | None, accuracy: Accuracy | None) -> Score:
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
    """The figures of each candidate over several models; None for one that would not stay finite.

    They are added up model by model, so that those of no more than two models are in memory.
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


# -- a quick look at the newest calls -------------------------------------------------------
# Would another rule or alpha have been clearly better? `calib stats` asks, and must be quick: so no
# more than the newest 2,000 calls of a model are folded under a handful of candidates, the live
# rule and alpha among them, all from the model's first prior. `sweep` knows for sure.

NEWEST = 2_000
"""Calls of a model that are looked at."""

IN_ALL = 20 * NEWEST
"""Calls of all models that are looked at; those with the most calls come first."""

LEAST = 100
"""Calls that must be scored: of fewer, nothing can be said."""

CLEARLY = 0.85
"""A candidate is worth a hint if its error is less than this share of the live one's, and that is
not by chance; see `core.comparison`."""

CANDIDATES = tuple(Candidate(rule, alpha) for rule in NEWEST_RULES for alpha in rule.quick_alphas)


def suggest(ledger: Ledger, model: str | None) -> list[Suggestion]:
    """See `AdaptiveCalibrator.suggest`."""
    left, found = IN_ALL, []
    for live in sorted(ledger.models(model), key=lambda one: -one.snapshot.sample_count):
        if left <= 0:
            break
        left -= min(live.snapshot.sample_count, NEWEST)
        if live.snapshot.sample_count > LEAST:
            found.append(ledger.whole(live, _suggestion))
    return sorted(filter(None, found), key=lambda one: one.model)


def _suggestion(history: ModelHistory) -> Suggestion | None:
    live = history.live
    try:
        own = Candidate(stored_rule(live.snapshot.rule), live.snapshot.alpha)
    except StoredRuleError:
        return None
    after = max(0, history.nth_newest(NEWEST, Window(None, None)) - 1)
    with damage_told(live.model):
        voided = voided_ranges(history.adjustments)
        pages = list(counting(history, voided, after, live.last_seq))
    count = sum(len(page.actual_ms) for page in pages)
    warm_up = count // 10
    if count - warm_up < LEAST or not history.adjustments:
        return None
    first = history.adjustments[0]
    prior = Prior(first.ms_per_prompt_token, first.ms_per_completion_token, first.base_overhead_ms)
    candidates = list(dict.fromkeys([*CANDIDATES, own]))
    states = [State.from_prior(*one, prior, first.updated_at) for one in candidates]
    runs = Runs(live.model, states, keeps_sizes=True)
    runs.learn(pages, Scoring(warm_up=warm_up))
    errors = {
        one: inf if i in runs.errors else runs.figures[i].mean_absolute_error_ms
        for i, one in enumerate(candidates)
    }
    best = min(CANDIDATES, key=lambda one: errors[one])
    if not errors[best] < CLEARLY * errors[own]:
        return None
    figures = {one: runs.figures[i] for i, one in enumerate(candidates) if i not in runs.errors}
    if not _chance(figures[best], figures.get(own), len(CANDIDATES)) <= CHANCE_MOST:
        return None
    n = count - warm_up
    return Suggestion(live.model, best.rule.version, best.alpha, n, errors[best], errors[own])
