"""Whether one rule and alpha predicted the same calls clearly better than another, or by chance.

Both predicted each call, so their errors are compared in pairs: what is tested is the mean of
`|error of the one| - |error of the other|`, as Diebold and Mariano do ("Comparing Predictive
Accuracy", Journal of Business & Economic Statistics 13, 1995). Errors of neighbouring calls are
alike: a slow hour makes many large ones. So the calls are cut into 8 to 16 parts that follow each
other (fewer where a part would have less than four calls), and Student's t-test is done on the
parts' means. It stays valid where some parts vary more than others (Ibragimov and Müller,
"t-Statistic Based Correlation and Heterogeneity Robust Inference", Journal of Business & Economic
Statistics 28, 2010).

The best of many leads by luck more easily than one that was chosen beforehand: its chance is
multiplied by how many were tried (Bonferroni).
"""

from __future__ import annotations

from math import atan2, cos, fsum, inf, isfinite, pi, sin, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration_ledger.core.figures import Parts

SCORED_LEAST = 10
"""Of fewer scored calls, nothing can be said."""

CHANCE_MOST = 0.05
"""A lead is clear if chance alone gives one like it at most this often."""


def chance_of_lead(leader: Parts, other: Parts, tried: int = 1) -> float:
    """How likely chance alone gives such a lead; 1.0 where it says nothing.

    Args:
        leader: the errors of the one that leads.
        other: those of the other one, in the same parts.
        tried: among how many the leader is the best.
    """
    leads = [
        (theirs - its) / count
        for (count, its), (_, theirs) in zip(leader, other, strict=True)
        if count
    ]
    largest = max(map(abs, leads), default=0.0)
    if len(leads) < 2 or not 0.0 < largest < inf or not all(map(isfinite, leads)):  # noqa: PLR2004 - one alone does not vary
        return 1.0
    leads = [lead / largest for lead in leads]  # so that no square is too large for a float
    mean = fsum(leads) / len(leads)
    if not mean > 0.0:
        return 1.0
    variance = fsum((lead - mean) * (lead - mean) for lead in leads) / (len(leads) - 1)
    t = mean / sqrt(variance / len(leads)) if variance > 0.0 else inf
    return min(1.0, tried * upper_tail(t, len(leads) - 1))


def upper_tail(t: float, freedom: int) -> float:
    """How likely Student's t is above `t` > 0, for a whole number of degrees of freedom.

    The finite series of Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and
    26.7.4.
    """
    angle = atan2(t, sqrt(freedom))
    is_odd = freedom % 2
    factor, term, total = cos(angle), 1.0, 0.0
    if is_odd:
        term = factor
    for step in range(is_odd, freedom - 1, 2):
        total += term
        term *= factor * factor * (step + 1) / (step + 2)
    within = sin(angle) * total
    if is_odd:
        within = 2.0 / pi * (angle + within)
    return max(0.0, (1.0 - within) / 2.0)
