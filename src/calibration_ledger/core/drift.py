"""Drift: whether a model has lately become slower or faster, and since when.

Of the newest 200 calls, the ratios of actual over what the coefficients of now predict are ranked.
Were nothing changed, any order of the ranks would be as likely as any other, and the mean rank of
the newest m would lie near the middle: how far off it is, in standard deviations, needs no
distribution of the latencies (F. Wilcoxon, 1945). The most telling of nine m speaks where it is
4 deviations or more, and the newest m differ from those before by 15 % or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import median
from typing import TYPE_CHECKING

from calibration_ledger.core.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

DRIFT_CALLS = 200
"""The newest calls that are looked at."""

LEAST_CALLS = 40
"""With fewer, nothing is said."""

NEWEST = (5, 7, 10, 14, 20, 28, 40, 56, 80)
"""How many of the newest may be those that changed; half of all at the most."""

DEVIATIONS = 4.0
"""So far off is the mean rank of unchanged calls about once in 16,000 looks at one m."""

LEAST_FACTOR = 1.15
"""A smaller change is none to act on."""


@dataclass(frozen=True, slots=True)
class Drift(Value):
    """A change of late.

    Attributes:
        since: how many of the newest calls came after it.
        factor: how many times as long they take as those before, of what is predicted.
    """

    since: int
    factor: float


def drift_of(calls: Sequence[tuple[float, float]]) -> Drift | None:
    """The change among a model's newest calls; None for none.

    Args:
        calls: (actual ms, what the coefficients of now predict, in ms), oldest first.
    """
    calls = calls[-DRIFT_CALLS:]
    n = len(calls)
    if n < LEAST_CALLS:
        return None
    ratios = [actual / max(predicted, 1.0) for actual, predicted in calls]
    ranks = [0.0] * n
    for place, i in enumerate(sorted(range(n), key=ratios.__getitem__)):
        ranks[i] = (place + 0.5) / n
    most, since, total, seen = 0.0, 0, 0.0, 0
    for m in NEWEST:
        if m > n // 2:
            break
        while seen < m:
            seen += 1
            total += ranks[-seen]
        deviations = (total / m - 0.5) / sqrt((1.0 / m - 1.0 / n) / 12.0)
        if abs(deviations) > abs(most):
            most, since = deviations, m
    if abs(most) < DEVIATIONS:
        return None
    before = median(ratios[:-since])
    if not before:
        return None  # half of the calls before took no time at all: there is no factor
    factor = median(ratios[-since:]) / before
    return Drift(since, factor) if not 1.0 / LEAST_FACTOR < factor < LEAST_FACTOR else None
