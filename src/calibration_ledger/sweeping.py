"""Sweeps over a ledger: `sweep` fed from the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger import workers
from calibration_ledger.errors import HistoryArchivedError, InvalidInputError
from calibration_ledger.fast import how_to_run
from calibration_ledger.listing import list_existing
from calibration_ledger.replay import Runs, Window
from calibration_ledger.rules import NEWEST_RULES, find_rule, stored_rule
from calibration_ledger.storage import reads
from calibration_ledger.sweep import (
    ALPHAS,
    Candidate,
    Together,
    candidates_of,
    ranked,
    score_of,
    sweep_history,
)
from calibration_ledger.validation import check_alpha, check_window, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from calibration_ledger.figures import Accuracy
    from calibration_ledger.replay import Progress, Start
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored
    from calibration_ledger.values import Sweep

CANDIDATES_MAX = 10_000
WARM_UP_MAX = 1_000_000


def sweep(
    backend: Backend,
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
    candidates = candidates_of(_checked_rules(rules), _checked_alphas(alphas))
    if len(candidates) > CANDIDATES_MAX:
        raise InvalidInputError(
            f"{len(candidates)} rules and alphas are too many: try {CANDIDATES_MAX} at most."
        )
    _check_warm_up(warm_up)
    window = Window(*check_window(since, until))
    lives = list_existing(backend, model)
    plan = _Plan(candidates, warm_up, window, sum(live.last_seq for live in lives), progress)
    found, together = [], Together()
    for live, done in zip(lives, _by_workers(backend, lives, plan), strict=True):
        newest, figures = live, done
        while figures is None:
            try:
                figures = _of_model(backend, newest, plan)
            except HistoryArchivedError:
                (newest,) = list_existing(backend, live.model)
        *scored, its_own = figures
        score = score_of(newest.rule, newest.alpha, its_own)
        found.append(ranked(live.model, candidates, scored, score, warm_up))
        together.add(figures)
    if model is None and together.models > 1:
        *scored, all_live = together.figures
        score = score_of(None, None, all_live)
        found.append(ranked(None, candidates, scored, score, warm_up))
    return found


class _Plan(NamedTuple):
    """What all models of a sweep are tried under."""

    candidates: list[Candidate]
    warm_up: int
    window: Window
    calls: int
    """How many calls there are, of all models."""
    progress: Progress | None

    def tried(self, live: Stored) -> list[Candidate]:
        """The candidates of a model, the live rule and alpha among them."""
        own = Candidate(stored_rule(live.rule), live.alpha)
        return self.candidates if own in self.candidates else [*self.candidates, own]

    def start(self, tried: list[Candidate]) -> Start:
        """Whether to run them compiled."""
        return how_to_run({one.rule for one in tried}, self.calls, len(tried))

    def chosen_window(self) -> Window | None:
        """None where every call is scored."""
        return None if self.window == (None, None) else self.window

    def through(self, history: reads.ModelHistory) -> int:
        """The last entry to learn."""
        if self.chosen_window() is None:
            return history.live.last_seq
        return max(1, history.last_scored(self.window))

    def told(self, live: Stored, figures: Sequence[Accuracy | None]) -> list[Accuracy | None]:
        """The figures of all candidates, and behind them those of the live rule and alpha."""
        own = self.tried(live).index(Candidate(stored_rule(live.rule), live.alpha))
        return [*figures[: len(self.candidates)], figures[own]]


def _of_model(backend: Backend, live: Stored, plan: _Plan) -> list[Accuracy | None]:
    history = reads.ModelHistory(backend, live)
    tried = plan.tried(live)
    figures = sweep_history(
        history,
        tried,
        plan.through(history),
        warm_up=plan.warm_up,
        window=plan.chosen_window(),
        progress=plan.progress,
        start=plan.start(tried),
    )
    return plan.told(live, figures)


def _by_workers(
    backend: Backend, lives: Sequence[Stored], plan: _Plan
) -> list[list[Accuracy | None] | None]:
    """The figures of the models that other processes worked out; None for those to do here."""
    pays = workers.pays(backend.place, plan.calls, len(plan.candidates), len(lives))
    if not pays or plan.start(plan.candidates) is not Runs:
        return [None] * len(lives)
    try:
        tasks = [
            workers.Task(
                live.model,
                plan.through(reads.ModelHistory(backend, live)),
                live.last_seq,
                plan.tried(live),
                plan.chosen_window(),
                plan.warm_up,
                keeps_sizes=True,
            )
            for live in lives
        ]
    except HistoryArchivedError:  # just now: who does it here looks again
        return [None] * len(lives)
    done = workers.fold_in_workers(backend.place, tasks, plan.progress)
    return [
        None if some is None else plan.told(live, [one.accuracy for one in some])
        for live, some in zip(lives, done, strict=True)
    ]


def _checked_rules(rules: Iterable[str] | str | None) -> list[Rule]:
    if rules is None:
        return list(NEWEST_RULES)
    try:
        named = [rules] if isinstance(rules, str) else list(rules)
    except TypeError:
        raise InvalidInputError(
            f"rules must be a name or a list of names, not {shown(rules)}: ['ema', 'kalman'], say."
        ) from None
    if not named:
        raise InvalidInputError("no rule to try: name one, or leave rules out for all of them.")
    return [find_rule(rule) for rule in named]


def _checked_alphas(alphas: Iterable[float] | None) -> list[float]:
    if alphas is None:
        return list(ALPHAS)
    try:
        named = list(alphas)
    except TypeError:
        raise InvalidInputError(
            f"alphas must be a list of numbers, not {shown(alphas)}: [0.05, 0.15], say."
        ) from None
    if not named:
        raise InvalidInputError("no alpha to try: name one, or leave alphas out for some.")
    return [check_alpha(alpha) for alpha in named]


def _check_warm_up(warm_up: object) -> None:
    is_whole = isinstance(warm_up, int) and not isinstance(warm_up, bool)
    if not is_whole or not 0 <= warm_up <= WARM_UP_MAX:  # type: ignore[operator]  # just looked
        raise InvalidInputError(
            f"warm_up must be a whole number from 0 to {WARM_UP_MAX}, not {shown(warm_up)}."
        )
