"""A quick look at the newest calls: would another rule or alpha have been clearly better?

It must not slow `calib stats` down, so it looks at no more than the newest 2,000 calls of a model,
from its first prior, under a handful of candidates: a hint to run `sweep`, which knows for sure.
The live rule and alpha start from the same prior, so that none has the better start.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from calibration_ledger.damage import damage_told
from calibration_ledger.errors import HistoryArchivedError, StoredRuleError
from calibration_ledger.learning import State
from calibration_ledger.listing import list_live
from calibration_ledger.priors import Prior
from calibration_ledger.replay import Runs, Scoring, Window, counting
from calibration_ledger.rules import NEWEST_RULES, stored_rule
from calibration_ledger.storage import reads
from calibration_ledger.sweep import Candidate
from calibration_ledger.values import Suggestion
from calibration_ledger.voids import voided_ranges

if TYPE_CHECKING:
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored

NEWEST = 2_000
"""Calls of a model that are looked at."""

IN_ALL = 20 * NEWEST
"""Calls of all models that are looked at; those with the most calls come first."""

LEAST = 100
"""Calls that must be scored: of fewer, nothing can be said."""

CLEARLY = 0.85
"""A candidate is clearly better when its error is less than this share of the live one's."""

CANDIDATES = tuple(Candidate(rule, alpha) for rule in NEWEST_RULES for alpha in rule.quick_alphas)


def suggest(backend: Backend, model: str | None) -> list[Suggestion]:
    """See `AdaptiveCalibrator.suggest`."""
    left, found = IN_ALL, []
    for live in sorted(list_live(backend, model), key=lambda one: -one.sample_count):
        if left <= 0:
            break
        left -= min(live.sample_count, NEWEST)
        if live.sample_count > LEAST:
            try:
                found.append(_suggestion(backend, live))
            except HistoryArchivedError:
                continue  # just now, while it was read: the next look will see
    return sorted(filter(None, found), key=lambda one: one.model)


def _suggestion(backend: Backend, live: Stored) -> Suggestion | None:
    try:
        own = Candidate(stored_rule(live.rule), live.alpha)
    except StoredRuleError:
        return None
    history = reads.ModelHistory(backend, live)
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
    runs = Runs(live.model, states)
    runs.learn(pages, Scoring(warm_up=warm_up))
    errors = {
        one: inf if i in runs.errors else runs.figures[i].mean_absolute_error_ms
        for i, one in enumerate(candidates)
    }
    best = min(CANDIDATES, key=lambda one: errors[one])
    if not errors[best] < CLEARLY * errors[own]:
        return None
    n = count - warm_up
    return Suggestion(live.model, best.rule.version, best.alpha, n, errors[best], errors[own])
