"""Sweeps over a ledger: `sweep` fed from the database, and what a look at the newest calls says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import HistoryArchivedError, InvalidInputError
from calibration_ledger.fast import how_to_run
from calibration_ledger.listing import list_existing
from calibration_ledger.replay import Window
from calibration_ledger.rules import RULES, find_rule, stored_rule
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
    from collections.abc import Iterable
    from datetime import datetime

    from calibration_ledger.figures import Accuracy
    from calibration_ledger.replay import Progress
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
    found, together = [], Together()
    lives = list_existing(backend, model)
    calls = sum(live.last_seq for live in lives)
    for live in lives:
        figures, newest = None, live
        while figures is None:
            try:
                figures = _of_model(backend, newest, candidates, warm_up, window, calls, progress)
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


def _of_model(
    backend: Backend,
    live: Stored,
    candidates: list[Candidate],
    warm_up: int,
    window: Window,
    calls: int,
    progress: Progress | None,
) -> list[Accuracy | None]:
    """The figures of all candidates, and behind them those of the live rule and alpha.

    `calls` is how many the whole sweep goes through.
    """
    history = reads.ModelHistory(backend, live)
    everything = window == (None, None)
    own = Candidate(stored_rule(live.rule), live.alpha)
    tried = candidates if own in candidates else [*candidates, own]
    figures = sweep_history(
        history,
        tried,
        live.last_seq if everything else max(1, history.last_scored(window)),
        warm_up=warm_up,
        window=None if everything else window,
        progress=progress,
        start=how_to_run({one.rule for one in tried}, calls, len(tried)),
    )
    return [*figures[: len(candidates)], figures[tried.index(own)]]


def _checked_rules(rules: Iterable[str] | str | None) -> list[Rule]:
    if rules is None:
        return list(RULES)
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
