"""Coverage: how honest a model's forecasts were, held against what its calls then took.

A range of 90 % is honest if 90 % of the calls fall into it: over all of them, in each stretch of
time, and for small calls as for large ones. Of two honest forecasts, the sharper one has the lower
pinball loss (R. Koenker and G. Bassett, "Regression Quantiles", Econometrica 46, 1978). All figures
are kept in constant memory, and their sums run plainly from left to right.
"""

from __future__ import annotations

import math
import struct
from collections import Counter, deque
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from calibration_ledger.core import text
from calibration_ledger.core.figures import SHIFT, Histogram
from calibration_ledger.core.forecast import LEVELS, quantile_of_left
from calibration_ledger.core.html import Column, Tabular, table
from calibration_ledger.core.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.core.forecast import Sample

_LOWS = tuple((1.0 - share) / 2.0 for share in LEVELS)
_HIGHS = tuple((1.0 + share) / 2.0 for share in LEVELS)
QUANTILES = (*_LOWS[::-1], 0.5, *_HIGHS)
"""The levels that are scored: the ends of the ranges that `Forecast.interval` gives, and the
median."""

MEDIAN = len(LEVELS)
"""The place of the median among them."""

WIDE = LEVELS.index(0.9)
"""The range whose stretches, sizes and width are looked at."""

STRETCH = 200
"""So many calls in a row are a stretch."""

THIRD_LEAST = 15
"""A third of fewer calls says nothing."""

TIMEOUT_CHANCE = 0.99
"""The timeout that is looked at is to be long enough with this chance."""

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class ForecastScore(Value):
    """How honest, and how sharp, forecasts were. Shares are from 0 to 1; NaN is for none.

    Attributes:
        coverage_50: the share of the calls that their range of 50 % held.
        coverage_80: the same of the range of 80 %.
        coverage_90: the same of the range of 90 %.
        coverage_95: the same of the range of 95 %.
        worst_200: the same of the range of 90 %, of the 200 calls in a row of which it held the
            fewest; NaN where fewer were scored.
        worst_third: the same of the small, the middle or the large third of the calls, by what was
            predicted for their tokens: the one of which it held the fewest. A third of fewer than
            15 calls does not count.
        pinball_loss: the mean pinball loss over nine quantiles, the ends of these ranges and the
            median, over the mean latency: how sharp the forecasts were; less is better.
        median_absolute_percentage_error: the median of `100 * |actual - median_ms| / actual`,
            within 0.05 % of itself; calls that took 0 ms are left out.
        mean_width_ms: how wide the range of 90 % was, in the mean.
        over_timeout: the share of the calls that took longer than `timeout_ms(0.99)`.
    """

    coverage_50: float
    coverage_80: float
    coverage_90: float
    coverage_95: float
    worst_200: float
    worst_third: float
    pinball_loss: float
    median_absolute_percentage_error: float
    mean_width_ms: float
    over_timeout: float


@dataclass(frozen=True, slots=True)
class ForecastReplay(Value, Tabular):
    """How honest the forecasts of a model were, each made before its call was learnt.

    Attributes:
        model: the model's name.
        warm_up: how many of its first calls were left out.
        n: how many calls were scored.
        timeouts: how many calls were not, because they were given up: how long they would have
            taken is not known.
        unforecast: how many calls were not, because an absurd call was among the newest then, and
            there was no forecast.
        mean_actual_ms: the mean latency of those that were scored; NaN for none.
        known: the score of forecasts that are told the completion tokens.
        unknown: the score of those that are not.
    """

    model: str
    warm_up: int
    n: int
    timeouts: int
    unforecast: int
    mean_actual_ms: float
    known: ForecastScore
    unknown: ForecastScore

    @classmethod
    def _html_table(cls, values: Sequence[ForecastReplay]) -> str:
        """How often the ranges held, where the completion length was told and where it was not."""
        rows = [
            row
            for one in values
            for row in ((one, "known", one.known), (one, "not known", one.unknown))
        ]
        columns = [
            Column("model", lambda row: row[0].model, left=True),
            Column("completion", itemgetter(1), left=True),
            Column("calls", lambda row: str(row[0].n)),
            _share("50 % held", "coverage_50"),
            _share("80 % held", "coverage_80"),
            _share("90 % held", "coverage_90"),
            _share("95 % held", "coverage_95"),
            _share("worst 200 in a row", "worst_200"),
            _share("worst third by size", "worst_third"),
            Column("90 % width", lambda row: text.duration(row[2].mean_width_ms)),
            _share("over timeout", "over_timeout"),
            Column(
                "median error",
                lambda row: text.percent(row[2].median_absolute_percentage_error),
            ),
        ]
        caption = "Forecasts held against what the calls took: the share that each range held"
        return table(caption, columns, rows)


def _share(title: str, name: str) -> Column:
    return Column(title, lambda row: text.percent(100.0 * getattr(row[2], name)))


class Coverage:
    """The running figures of forecasts of one kind.

    Attributes:
        n: how many calls are in them.
    """

    def __init__(self) -> None:
        """Start with no call."""
        self.n = 0
        self._held = [0] * len(LEVELS)
        self._losses = self._widths = 0.0
        self._over = 0
        self._stretch: deque[bool] = deque(maxlen=STRETCH)
        self._in_stretch = 0
        self._fewest = STRETCH
        self._sizes: Counter[int] = Counter()
        self._sizes_held: Counter[int] = Counter()
        self._shares = Histogram()
        self._batch: list[float] = []

    def add(self, actual_ms: float, sample: Sample, quantiles: list[float], size: int) -> None:
        """Score a forecast.

        Args:
            actual_ms: how long the call took.
            sample: the forecast.
            quantiles: its `quantiles_of`.
            size: the call's `bucket_of` what was predicted for its tokens, in ms.
        """
        loss = 0.0
        for level, quantile in zip(QUANTILES, quantiles, strict=True):
            error = actual_ms - quantile
            loss += level * error if error > 0.0 else (level - 1.0) * error
        self.n += 1
        self._losses += loss
        for place in range(len(LEVELS)):
            low, high = quantiles[MEDIAN - 1 - place], quantiles[MEDIAN + 1 + place]
            is_held = low <= actual_ms <= high
            self._held[place] += is_held
            if place == WIDE:
                self._widths += high - low
                self._follow(is_held=is_held, size=size)
        self._over += actual_ms > quantile_of_left(sample, 0.0, TIMEOUT_CHANCE)
        if actual_ms:
            self._batch.append(abs(actual_ms - quantiles[MEDIAN]) / actual_ms)
            if len(self._batch) == _BATCH:
                self._count()

    def _follow(self, *, is_held: bool, size: int) -> None:
        """Go on with the stretch and the thirds."""
        if len(self._stretch) == STRETCH:
            self._in_stretch -= self._stretch[0]
        self._stretch.append(is_held)
        self._in_stretch += is_held
        if len(self._stretch) == STRETCH:
            self._fewest = min(self._fewest, self._in_stretch)
        self._sizes[size] += 1
        self._sizes_held[size] += is_held

    def _count(self) -> None:
        self._shares.add(self._batch)
        self._batch.clear()

    def _worst_third(self) -> float:
        """The least share of a third by size; calls of one bucket belong together."""
        counts, held, before = [0] * 3, [0] * 3, 0
        for size in sorted(self._sizes):
            count = self._sizes[size]
            third = 3 * (2 * before + count) // (2 * self.n)  # by its middle
            counts[third] += count
            held[third] += self._sizes_held[size]
            before += count
        shares = [
            inside / count
            for inside, count in zip(held, counts, strict=True)
            if count >= THIRD_LEAST
        ]
        return min(shares, default=math.nan)

    def score(self, mean_actual_ms: float) -> ForecastScore:
        """The frozen value; the loss is over this mean latency."""
        self._count()
        n = self.n or math.nan
        loss = self._losses / (n * len(QUANTILES))
        coverage_50, coverage_80, coverage_90, coverage_95 = (held / n for held in self._held)
        return ForecastScore(
            coverage_50=coverage_50,
            coverage_80=coverage_80,
            coverage_90=coverage_90,
            coverage_95=coverage_95,
            worst_200=math.nan if self.n < STRETCH else self._fewest / STRETCH,
            worst_third=self._worst_third(),
            pinball_loss=loss / mean_actual_ms if mean_actual_ms else math.nan,
            median_absolute_percentage_error=100.0 * self._shares.median(),
            mean_width_ms=self._widths / n,
            over_timeout=self._over / n,
        )


def quantiles_of(sample: Sample) -> list[float]:
    """The quantiles of a forecast that are scored."""
    return [sample.quantile(level) for level in QUANTILES]


def bucket_of(value: float) -> int:
    """The bucket of a positive number, as in `figures.Histogram`: they are in its order."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))
    return int(bits) >> SHIFT
