"""A model's calls day by day: how long they took, and how well they were predicted.

Calls may come in any order of time, so the figures of all days grow at once. Those of a day take no
more memory for more calls, and wait packed while calls of other days come.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from calibration_ledger.core.drift import ratio_of
from calibration_ledger.core.figures import Accuracy, Histogram
from calibration_ledger.core.validation import EPOCH
from calibration_ledger.core.values import PeriodStats
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from calibration_ledger.core.replay import Window

    Row = tuple[int, int, int, int, float, float, str | None]
    """seq, called_at (us), prompt_tokens, completion_tokens, actual_ms, predicted_ms, and the
    outcome: None but of time-outs."""

DAY_US = 86_400_000_000

WAITING = 50_000
"""So many calls wait to be counted together: to unpack a day for each page would take long."""


class Period:
    """The running figures of the calls of one day.

    Attributes:
        timeouts: how many calls were given up; they are in no other figure.
    """

    __slots__ = ("_accuracy", "_packed", "timeouts")

    def __init__(self) -> None:
        """Start with no call."""
        self.timeouts = 0
        self._accuracy = Accuracy()
        self._packed = [Histogram().packed()] * 3

    def add(
        self, actual_ms: Sequence[float], predicted_ms: Sequence[float], ratios: Sequence[float]
    ) -> None:
        """Count calls; `ratios` are of actual over what is predicted now."""
        shares, latencies, of_now = map(Histogram.unpacked, self._packed)
        self._accuracy.shares = shares
        self._accuracy.add(actual_ms, predicted_ms)
        latencies.add(actual_ms)
        of_now.add(ratios)
        self._packed = [one.packed() for one in (shares, latencies, of_now)]
        self._accuracy.shares = Histogram()

    def stats(self, model: str, day: date | None) -> PeriodStats:
        """The value to hand out."""
        accuracy = self._accuracy
        shares, latencies, of_now = map(Histogram.unpacked, self._packed)
        return PeriodStats(
            model=model,
            day=day,
            calls=accuracy.n,
            timeouts=self.timeouts,
            median_actual_ms=latencies.median(),
            mean_actual_ms=accuracy.mean_actual_ms,
            mean_absolute_error_ms=accuracy.mean_absolute_error_ms,
            median_absolute_percentage_error=100.0 * shares.median(),
            median_ratio=of_now.median(),
        )


class Periods:
    """The days of one model, or all of its calls as one period."""

    def __init__(
        self, coefficients: Sequence[float], window: Window | None, *, by_day: bool
    ) -> None:
        """Start with no call.

        Args:
            coefficients: the model's of now.
            window: which calls count; None: all.
            by_day: whether each day has figures of its own.
        """
        self._coefficients, self._window, self._by_day = coefficients, window, by_day
        self._periods: defaultdict[int, Period] = defaultdict(Period)
        self._waiting: defaultdict[int, tuple[array[float], array[float], array[float]]]
        self._waiting = defaultdict(lambda: (array("d"), array("d"), array("d")))
        self._waits = 0

    def add(self, rows: Sequence[Row]) -> None:
        """Count a page of calls."""
        if self._window is not None:
            held = self._window.holds([row[1] for row in rows])
            rows = [row for row, is_held in zip(rows, held, strict=True) if is_held]
        for _, called_at, prompt, completion, actual, predicted, outcome in rows:
            day = called_at // DAY_US if self._by_day else 0
            if outcome is not None:
                self._periods[day].timeouts += 1
                continue
            waiting = self._waiting[day]
            waiting[0].append(actual)
            waiting[1].append(predicted)
            now = predict_ms(self._coefficients, prompt, completion)
            waiting[2].append(ratio_of(actual, now))
        self._waits += len(rows)
        if self._waits >= WAITING:
            self._count()

    def _count(self) -> None:
        for day, columns in self._waiting.items():
            self._periods[day].add(*columns)
        self._waiting.clear()
        self._waits = 0

    def stats(self, model: str) -> Iterator[PeriodStats]:
        """The values to hand out, by day."""
        self._count()
        for day, period in sorted(self._periods.items()):
            date = EPOCH.date() + timedelta(days=day)
            yield period.stats(model, date if self._by_day else None)
