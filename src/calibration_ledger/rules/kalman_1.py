"""The rule `kalman`: a Kalman filter on the three coefficients, made robust.

The coefficients w = (a, b, o) walk at random: with each call, each may drift by a share `alpha` of
itself. P is their covariance, and x = (p, c, 1) what a call weighs them with. A call weighs in as
much as it tells: the noise of a measurement is taken to be proportional to the prediction, and its
variance, relative to that, is estimated on the way. The filter is the textbook's (R. E. Kalman,
1960); three things keep real latencies from spoiling it:

- An error counts no more than one standard deviation of what was expected (P. J. Huber, 1964), so
  that a call that hung for minutes moves the coefficients no further than an ordinary one.
- Where five errors in a row are cut off on the same side, that is no outlier: the model has become
  another, or the prior was far off. Then the covariance opens again to the width that it starts
  with, around the coefficients of now.
- No coefficient falls below 0, and none is less certain than at the start, so that what the calls
  cannot tell apart (a prompt length that never changes) does not blow up.

The further state is the upper triangle of P, the relative variance of the noise, and how many
errors in a row were cut off (negative: on the lower side; five, as at the start, open P). The
arithmetic is IEEE-754 binary64 with + - * / and square root only, from left to right as written
here; `tests/conformance/` pins it to the bit.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from calibration_ledger.rules.base import Rule

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

FLOOR_A = 0.001
FLOOR_B = 0.01
FLOOR_O = 1.0
"""What a coefficient counts for at least where a share of it is taken: one at 0 could not move."""

WIDTH = 4.0
"""The variance of a coefficient at the start, relative to its square: a deviation of twice it."""

NOISE_START = 0.04
NOISE_LEAST = 1e-6
NOISE_PACE = 0.05
NOISE_CUT = 1.5
"""The relative variance of the noise: where it starts, its least, how fast it follows the errors,
and how many of its standard deviations an error counts for in it at the most."""

RUN = 5.0
"""Errors in a row that are cut off on one side before the covariance opens again."""


def fold_kalman(
    state: MutableSequence[float],
    alpha: float,
    prompt_tokens: Sequence[int],
    completion_tokens: Sequence[int],
    actual_ms: Sequence[float],
    predicted_ms: MutableSequence[float],
) -> None:
    """Learn a column of calls (see `Rule.fold`). `watch` keeps a NaN that the floors would hide."""
    a, b, o, absolute_ms, total_ms = state[0], state[1], state[2], state[3], state[4]
    paa, pab, pao, pbb, pbo, poo = state[5], state[6], state[7], state[8], state[9], state[10]
    # Scalars only, so that a compiler can take this very function; such know no strict=, and their
    # max() and min() treat NaN otherwise (in Python, they would take a third of the time).
    # ruff: disable[FURB136] - a compiler's max() and min() treat NaN otherwise: see above
    # Only an edited ledger holds less noise than the least, and below 0 there is no square root.
    run, watch, i, noise = state[12], 0.0, 0, NOISE_LEAST if state[11] < NOISE_LEAST else state[11]
    for p, c, y in zip(prompt_tokens, completion_tokens, actual_ms):  # noqa: B905 - see above
        predicted = o + a * p + b * c
        predicted_ms[i] = predicted
        i += 1  # noqa: SIM113 - enumerate() packs a tuple a call, and this loop is the hot one
        error = y - predicted
        # The walk: each coefficient may have drifted since the call before.
        size_a, size_b = a if a > FLOOR_A else FLOOR_A, b if b > FLOOR_B else FLOOR_B
        size_o = o if o > FLOOR_O else FLOOR_O
        widest_a, widest_b = WIDTH * size_a * size_a, WIDTH * size_b * size_b
        widest_o = WIDTH * size_o * size_o
        if run >= RUN or run <= -RUN:
            paa, pbb, poo = widest_a, widest_b, widest_o
            pab = pao = pbo = run = 0.0
        paa += alpha * size_a * (alpha * size_a) if paa < widest_a else 0.0
        pbb += alpha * size_b * (alpha * size_b) if pbb < widest_b else 0.0
        poo += alpha * size_o * (alpha * size_o) if poo < widest_o else 0.0
        # g = P x, and the variance that is expected of the error.
        ga = paa * p + pab * c + pao
        gb = pab * p + pbb * c + pbo
        go = pao * p + pbo * c + poo
        spread, level = ga * p + gb * c + go, predicted if predicted > 1.0 else 1.0
        spread = 0.0 if spread < 0.0 else spread  # below by rounding only
        variance = spread + noise * level * level
        width = sqrt(variance)
        cut = width if error > width else -width if error < -width else error
        if cut == error:
            run = 0.0
        elif error > 0.0:
            run = run + 1.0 if run > 0.0 else 1.0
        else:
            run = run - 1.0 if run < 0.0 else -1.0
        # The coefficients move by the gain, g / variance, times what counts of the error.
        step = cut / variance
        a, b, o = a + ga * step, b + gb * step, o + go * step
        watch += 0.0 * (a + b + o + variance)
        a = a if a > 0.0 else 0.0
        b = b if b > 0.0 else 0.0
        o = o if o > 0.0 else 0.0
        # An error that was cut off tells less, in the same proportion.
        told = (1.0 if error == 0.0 else cut / error) / variance
        paa, pab, pao = paa - ga * ga * told, pab - ga * gb * told, pao - ga * go * told
        pbb, pbo, poo = pbb - gb * gb * told, pbo - gb * go * told, poo - go * go * told
        absolute = error if error >= 0.0 else -error
        share, most = absolute / level, NOISE_CUT * sqrt(noise)
        share = most if share > most else share
        noise += NOISE_PACE * (share * share - noise)
        noise = noise if noise > NOISE_LEAST else NOISE_LEAST
        absolute_ms, total_ms = absolute_ms + absolute, total_ms + predicted
    # ruff: enable[FURB136]
    state[0], state[1], state[2], state[3], state[4] = a, b, o, absolute_ms + watch, total_ms
    state[5], state[6], state[7], state[8], state[9], state[10] = paa, pab, pao, pbb, pbo, poo
    state[11], state[12] = noise, run


def start_kalman(_coefficients: Sequence[float]) -> list[float]:
    """The further state of a model that starts: with its first call, the covariance opens."""
    return [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, NOISE_START, RUN]


KALMAN_1 = Rule(
    name="kalman",
    version="kalman.1",
    default_alpha=0.01,
    quick_alphas=(0.01, 0.05),
    extra_numbers=(
        "prompt_variance",
        "prompt_completion_covariance",
        "prompt_base_covariance",
        "completion_variance",
        "completion_base_covariance",
        "base_variance",
        "noise_variance",
        "run_of_cut_errors",
    ),
    extra_start=start_kalman,
    floors=(0.0, 0.0, 0.0),
    fold=fold_kalman,
)
