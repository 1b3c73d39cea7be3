"""Replaying forecasts: how honest those were that a ledger would have given before each call.

What a forecast rests on is carried on from call to call by the very functions that `forecast` uses,
so each is to the bit what `forecast(as_of=)` gives of the moment before its call, whatever was
recorded or voided since.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.coverage import Coverage, ForecastReplay, bucket_of, quantiles_of
from calibration_ledger.core.history import stretches
from calibration_ledger.core.replay import Window
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import check_window
from calibration_ledger.errors import HistoryArchivedError, NotFiniteError, damage_told
from calibration_ledger.verbs.calls import check_last
from calibration_ledger.verbs.forecast import Kept, followed, kept_through
from calibration_ledger.verbs.sweep import check_warm_up

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.core.forecast import Basis
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.storage.ledger import Ledger, ModelHistory


class _Plan(NamedTuple):
    """What is asked of each model."""

    window: Window
    last: int | None
    warm_up: int
    progress: Progress | None


def replay_forecasts(
    ledger: Ledger,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
    warm_up: int,
    progress: Progress | None,
) -> list[ForecastReplay]:
    """See `AdaptiveCalibrator.replay_forecasts`."""
    window, last = Window(*check_window(since, until)), check_last(last)
    check_warm_up(warm_up)
    plan = _Plan(window, last, warm_up, progress)
    return [
        ledger.whole(live, partial(_replay, ledger, plan))
        for live in ledger.models(model, must_exist=True)
    ]


def _replay(ledger: Ledger, plan: _Plan, history: ModelHistory) -> ForecastReplay:
    """Forecast the calls of a model, each before it is learnt."""
    after, through = _ends(plan, history)
    tally = _Tally(history, plan)
    with damage_told(history.model):
        tally.warm_up -= history.count_counting(after)
    _tell(plan, history.count_calls(0, after))
    due = [entry for entry in history.adjustments if entry.seq > after]
    for start, end, _ in stretches(due, after, through):
        moments = Moments(ledger, history)
        for rows in history.observed(start, end):
            with damage_told(history.model):
                for row in rows:
                    tally.add(row, moments)
                    moments.take(row)
            _tell(plan, len(rows))
    _tell(plan, history.count_calls(through, history.live.last_seq))
    return tally.told()


def _tell(plan: _Plan, calls: int) -> None:
    if plan.progress is not None and calls:
        plan.progress(calls)


def _ends(plan: _Plan, history: ModelHistory) -> tuple[int, int]:
    """The entry before the first call that may be scored, and the last such call."""
    after, through = history.archived, history.live.last_seq
    if plan.window != (None, None):
        through = history.last_scored(plan.window)
        after = max(after, min(through, history.first_scored(plan.window) - 1))
    if plan.last is not None:
        after = max(after, history.nth_newest(plan.last, plan.window) - 1)
    return after, through


class Moments:
    """What the forecasts of a model rested on, from call to call between two adjustments."""

    def __init__(self, ledger: Ledger, history: ModelHistory, known: State | None = None) -> None:
        """Begin behind an adjustment, or where a state is known; nothing is read yet.

        Args:
            ledger: the ledger.
            history: the model's.
            known: the live calibration as it was before the first call that is asked for or taken.
        """
        self._known = known
        self._ledger = ledger
        self._history = history
        self._kept: Kept | None = None
        self._live: State | None = None
        """The live calibration, where it is what the forecasts rest on."""

    def before(self, seq: int) -> Basis:
        """What a forecast right before this call rested on.

        Raises:
            NotFiniteError: an absurd call was among the newest.
        """
        if self._kept is None:
            try:
                known, self._known = self._known, None
                self._kept = kept_through(self._ledger, self._history, seq - 1, known=known)
            except HistoryArchivedError:
                self._history.check_beginning()  # so that all of it begins anew
                raise
            is_live = self._kept.state is None
            self._live = State.from_snapshot(self._kept.live.snapshot) if is_live else None
        return self._kept.basis

    def take(self, row: Any) -> None:
        """Learn the call."""
        kept, self._kept, self._known = self._kept, None, None
        if kept is None:
            return  # and it is read when it is asked for
        seq, called_at, prompt, completion, actual, _, outcome = row
        live = kept.live._replace(last_seq=seq)
        try:
            if self._live is not None and outcome is None:
                self._live.learn((called_at,), (prompt,), (completion,), (actual,))
                live = live._replace(snapshot=self._live.snapshot())
            self._kept = followed(kept, live, [row], 1)
        except NotFiniteError:
            pass  # as before: it will be told where a forecast rests on it


class _Tally:
    """The score of a model's forecasts, as it grows.

    Attributes:
        warm_up: how many calls are still left out.
    """

    def __init__(self, history: ModelHistory, plan: _Plan) -> None:
        self.warm_up = plan.warm_up
        self._plan = plan
        self._history = history
        self._known, self._unknown = Coverage(), Coverage()
        self._timeouts = self._unforecast = 0
        self._actual_ms = 0.0

    def add(self, row: Any, moments: Moments) -> None:
        """Score the forecasts of a call, if it is one of those."""
        seq, called_at, prompt, completion, actual, _, outcome = row
        if self._history.is_voided(seq):
            return
        is_warm_up, is_timeout = self.warm_up > 0, outcome is not None
        self.warm_up -= not is_timeout
        if is_warm_up or not all(self._plan.window.holds([called_at])):
            return
        if is_timeout:
            self._timeouts += 1
            return
        try:
            basis = moments.before(seq)
            samples = basis.known(prompt, completion), basis.unknown(prompt, None)
            quantiles = [quantiles_of(sample) for sample in samples]
        except NotFiniteError:
            quantiles = []
        if not quantiles or not math.isfinite(quantiles[0][-1] + quantiles[1][-1]):
            self._unforecast += 1
            return
        size = bucket_of(samples[0].factor)
        self._known.add(actual, samples[0], quantiles[0], size)
        self._unknown.add(actual, samples[1], quantiles[1], size)
        self._actual_ms += actual

    def told(self) -> ForecastReplay:
        """The frozen value."""
        n = self._known.n
        mean_ms = self._actual_ms / n if n else math.nan
        return ForecastReplay(
            self._history.model,
            self._plan.warm_up,
            n,
            self._timeouts,
            self._unforecast,
            mean_ms,
            self._known.score(mean_ms),
            self._unknown.score(mean_ms),
        )
