"""Stats: what a model has learnt, and how well its calls were predicted: the newest, or by day.

For what a model has learnt, no more than its newest calls are read (100 to judge it, and what a
forecast reads for drift), so the figures of a ledger of millions of calls are there at once. For
the clocks that measured them, 1,000 entries are looked at: the newest half, and groups of others
that are spread over the history, since an import brings calls of one clock in a row.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from functools import partial, reduce
from operator import add
from statistics import median
from typing import TYPE_CHECKING, cast

from calibration_ledger.core.drift import LEAST_CALLS
from calibration_ledger.core.history import last_beginning, newest_claim
from calibration_ledger.core.periods import Periods
from calibration_ledger.core.replay import Window
from calibration_ledger.core.state import calibration_of
from calibration_ledger.core.values import Drift, NewestCalls
from calibration_ledger.errors import LedgerCorruptError, NotFiniteError, damage_told
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.values import ModelStats, PeriodStats
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored
    from calibration_ledger.verbs.forecast import Forecasts

NEWEST = 100
"""Calls that are judged: enough for a median, and soon all of them new if a model has changed."""

NEWEST_ERRORS = 16
"""Calls whose errors are told one by one: as many as a line of text has room for beside figures."""

CLOCKS_NEWEST = 500
GROUPS, GROUP = 25, 20
"""Entries whose clocks are looked at: the newest, and groups of older ones."""


def stats_of(
    ledger: Ledger, forecasts: Forecasts, lives: Sequence[Stored], *, rounded: bool
) -> list[ModelStats]:
    """The figures of some models; see `ModelStats`."""
    aliases = ledger.aliases()
    found = []
    for live in lives:
        stats = _stats_of(ledger, forecasts, live, rounded=rounded)
        names = [name for name, model in aliases.items() if model == live.model]
        found.append(cast("ModelStats", {**stats, "aliases": names}) if names else stats)
    return found


def _stats_of(ledger: Ledger, forecasts: Forecasts, live: Stored, *, rounded: bool) -> ModelStats:
    stats = calibration_of(live.model, live.snapshot).stats(rounded=rounded)
    try:
        newest = ledger.whole(live, newest_calls)
        clocks = ledger.whole(live, clocks_of)
    except LedgerCorruptError:
        newest = NewestCalls()  # what was learnt is still there, and the audit finds the damage
        clocks = {}
    if not live.snapshot.sample_count:
        of_none = {"timeouts": newest.timeouts} if newest.timeouts else {}
        return cast("ModelStats", {**stats, **of_none})
    drift = _drift(forecasts, live)
    if drift is not None and rounded:
        drift = Drift(drift.since, round(drift.factor, 2))
    mixed = {"clocks": clocks} if len(clocks) > 1 else {}
    return cast("ModelStats", {**stats, **newest.stats(rounded=rounded), "drift": drift, **mixed})


def _drift(forecasts: Forecasts, live: Stored) -> Drift | None:
    if live.snapshot.sample_count < LEAST_CALLS:
        return None
    try:
        return forecasts.basis(live.model).drift
    except (LedgerCorruptError, NotFiniteError):
        return None  # the other figures are still there


def newest_calls(history: ModelHistory) -> NewestCalls:
    """How well the newest calls of a model were predicted.

    They are those since its newest opening, import of a state or reset, without the voided ones.
    What counts is the prediction made before the call was learnt. But those before the newest
    recalibration or voiding were predicted by a calibration that is no more: they are held against
    the one that this entry set.
    """
    latencies: list[float] = []
    shares: list[float] = []
    errors: list[float] = []
    with damage_told(history.model):
        after = last_beginning(history.adjustments, history.voided).seq
        anew = newest_claim(history.adjustments, history.voided)
        for seq, _, prompt, completion, actual, predicted, _ in history.newest(
            NEWEST, after, timeouts=False
        ):
            told = predicted
            if anew is not None and seq < anew.seq:
                told = predict_ms(anew.snapshot.numbers, prompt, completion)
            latencies.append(actual)
            if len(errors) < NEWEST_ERRORS:
                errors.append(actual - told)
            if actual:  # no percentage of nothing
                shares.append(100.0 * abs(actual - told) / actual)
        timeouts = history.count_timeouts(after, history.live.last_seq)
    return NewestCalls(
        len(latencies),
        # Not `sum`: since Python 3.12 it gives other last digits.
        reduce(add, latencies) / len(latencies) if latencies else None,
        median(shares) if shares else None,
        tuple(reversed(errors)),
        timeouts,
    )


def clocks_of(history: ModelHistory) -> dict[str, int]:
    """Which clocks measured the calls of a model, most frequent first, and how many each.

    Of a long history, by some of its entries; calls that name no clock count for none.
    """
    with damage_told(history.model):
        after = last_beginning(history.adjustments, history.voided).seq
    through = history.live.last_seq
    older = through - CLOCKS_NEWEST - after
    if older <= GROUPS * GROUP:
        ranges = [(after, through)]
    else:
        starts = (after + (older - GROUP) * at // (GROUPS - 1) for at in range(GROUPS))
        ranges = [*((start, start + GROUP) for start in starts), (after + older, through)]
    found: Counter[str] = Counter()
    for first, last in ranges:
        for seq, details in history.details(first, last):
            clock = _clock(details)
            if clock is not None and not history.is_voided(seq):
                found[clock] += 1
    return dict(found.most_common())


def _clock(details: str | None) -> str | None:
    if not isinstance(details, str) or '"clock"' not in details:  # another type: damaged
        return None
    with suppress(ValueError, RecursionError, AttributeError):  # damaged: the audit tells
        clock = json.loads(details).get("clock")
        return clock if isinstance(clock, str) else None
    return None


def stats_of_periods(
    ledger: Ledger,
    forecasts: Forecasts,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    by_day: bool,
    progress: Progress | None,
) -> list[PeriodStats]:
    """See `AdaptiveCalibrator.stats`."""
    window = Window.of(since, until)
    found: list[PeriodStats] = []
    for live in ledger.models(model):
        now = forecasts.basis(live.model).coefficients
        read = partial(_periods, window=window, coefficients=now, by_day=by_day, progress=progress)
        periods = ledger.whole(live, read)
        with damage_told(live.model):  # a time that no calendar has
            found += periods.stats(live.model)
    return found


def _periods(
    history: ModelHistory,
    *,
    window: Window | None,
    coefficients: Sequence[float],
    by_day: bool,
    progress: Progress | None,
) -> Periods:
    after, through = 0, history.live.last_seq
    if window is not None:
        after, through = history.first_scored(window) - 1, history.last_scored(window)
    periods = Periods(coefficients, window, by_day=by_day)
    for rows in history.rows(after, through, history.voided):
        with damage_told(history.model):
            periods.add(rows)
        if progress is not None:
            progress(len(rows))
    return periods
