"""Drift: whether a model has lately become slower or faster, and since when.

Of the newest 200 calls, the ratios of actual over what the coefficients of now predict are ranked;
equal ones share the middle of their places. Were nothing changed, any order of the ranks would be
as likely as any other, and the mean rank of the newest m would lie near the middle: how far off it
is, in standard deviations, needs no distribution of the latencies (F. Wilcoxon, 1945). The fewer
they are, the less often their mean lies far off, for a rank has no tails; what is asked of them is
less (E. A. Cornish and R. A. Fisher, 1938). The most telling of nine m speaks where it is far
enough off, and the newest calls differ from those before by 15 % or more. Where it began is looked
for near that m.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING

from calibration_ledger.core import text
from calibration_ledger.core.html import Column, Tabular, table
from calibration_ledger.core.values import MODEL, Drift, Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

DRIFT_CALLS = 200
"""The newest calls that are looked at."""

LEAST_CALLS = 40
"""With fewer, nothing is said."""

NEWEST = (5, 7, 10, 14, 20, 28, 40, 56, 80)
"""How many of the newest are looked at as those that changed; half of all at the most."""

DEVIATIONS, FEWER = 4.15, 2.6
"""So far off must the mean of many ranks be, and that of m ranks `FEWER / m` less: a mean of m
uniform numbers has a kurtosis of -1.2 / m, which at 4 deviations makes 1.2 / 24 * (4**3 - 3 * 4)
of these. Whatever the latencies, calls in a random order give one false alarm in 16,000."""

LEAST_MS = 1.0
"""What is divided by is at least that long."""

LEAST_FACTOR = 1.15
"""A smaller change is none to act on."""


@dataclass(frozen=True, slots=True)
class ModelDrift(Value, Tabular):
    """Whether a model has drifted.

    Attributes:
        model: the model's name.
        calls: how many of its newest calls were looked at, 200 at the most; of fewer than 40,
            nothing can be said.
        drift: the change; None for none.
        first_seq: the entry of the first call that came after the change.
        first_at: when that call was made.
    """

    model: str
    calls: int
    drift: Drift | None = None
    first_seq: int | None = None
    first_at: datetime | None = None

    @property
    def is_enough(self) -> bool:
        """Whether there are calls enough to tell drift."""
        return self.calls >= LEAST_CALLS

    @classmethod
    def _html_table(cls, values: Sequence[ModelDrift]) -> str:
        """Which have drifted, since when, and by how much."""
        columns = [
            MODEL,
            Column("calls looked at", lambda one: str(one.calls)),
            Column("drift", _told),
            Column("calls since", lambda one: str(one.drift.since) if one.drift else "-"),
            Column("from", lambda one: text.time(one.first_at) if one.first_at else "-", left=True),
        ]
        return table("Drift: what the newest calls take, against those before", columns, values)


def _told(one: ModelDrift) -> str:
    if one.drift is None:
        return "none" if one.is_enough else "too few calls"
    return text.times(one.drift.factor)


def ratio_of(actual_ms: float, predicted_ms: float) -> float:
    """Actual over predicted, of which no less than `LEAST_MS` counts."""
    return actual_ms / max(LEAST_MS, predicted_ms)


def drift_of(calls: Sequence[tuple[float, float]]) -> Drift | None:
    """The change among a model's newest calls; None for none.

    Args:
        calls: (actual ms, what the coefficients of now predict, in ms), oldest first.
    """
    ratios = [ratio_of(actual, predicted) for actual, predicted in calls[-DRIFT_CALLS:]]
    n, ordered = len(ratios), sorted(ratios)
    if n < LEAST_CALLS:
        return None
    most, telling, total, seen = 0.0, 0, 0, 0
    looked_at = [m for m in NEWEST if m <= n // 2]
    for m in looked_at:
        for ratio in ratios[n - m : n - seen]:
            total += bisect_left(ordered, ratio) + bisect_right(ordered, ratio)
        seen = m
        mean = total / (2 * n * m)
        deviations = abs(mean - 0.5) / sqrt((1.0 / m - 1.0 / n) / 12.0)
        if deviations + FEWER / m > most:
            most, telling = deviations + FEWER / m, m
    if most < DEVIATIONS:
        return None
    place = looked_at.index(telling)
    fewest = looked_at[place - 1] + 1 if place else telling
    below = looked_at[place + 1] if telling < looked_at[-1] else n // 2 + 1
    since = _began(ratios, telling, range(fewest, below))
    before = median(ratios[:-since])
    if not before:
        return None  # half of the calls before took no time at all: there is no factor
    factor = median(ratios[-since:]) / before
    return Drift(since, factor) if not 1.0 / LEAST_FACTOR < factor < LEAST_FACTOR else None


def _began(ratios: Sequence[float], telling: int, some: Sequence[int]) -> int:
    """With how many of the newest the change began, of some numbers near the telling one.

    Behind the change, most calls lie nearer to its median than to the one before.
    """
    before, after = median(ratios[:-telling]), median(ratios[-telling:])
    middle, is_slower = sqrt(before) * sqrt(after), after > before
    sides = (1 if (ratio > middle) is is_slower else -1 for ratio in reversed(ratios))
    excess = [0, *accumulate(sides)]
    return max(some, key=excess.__getitem__)
