"""The rule `kalman`, second version: a Kalman filter on the three coefficients, made robust.

The coefficients w = (a, b, o) walk at random: with each call, each may drift by a share `alpha` of
its size. P is their covariance, and x = (p, c, 1) what a call weighs them with. A call weighs in as
much as it tells: the noise of a measurement is taken to be proportional to the prediction, and its
variance, relative to that, is estimated on the way. The filter is the textbook's (R. E. Kalman,
1960); four things keep real latencies from spoiling it:

- An error counts no more than one standard deviation of what was expected (P. J. Huber, 1964), so
  that a call that hung for minutes moves the coefficients no further than an ordinary one.
- Where five errors in a row are cut off on the same side, that is no outlier: the model has become
  another, or the prior was far off. Then the covariance opens again to the width that it starts
  with, around the coefficients of now, and before every call until an error is not cut off.
- No coefficient falls below 0. One that would is put at 0, and the others then are where P has them
  if it is 0 (D. Simon and T. L. Chia, 2002), so that what was learnt from the call is not lost.
- When P opens, the deviation of a coefficient is twice itself or, where that is more, twice its
  part of a likely call that takes as long as this one is predicted to (a completion token as much
  as ten prompt tokens, the base as a hundred completion tokens). So one that stands at 0, or far
  too low, can move. The walk takes none beyond twice itself, so that what the calls cannot tell
  apart (a prompt length that never changes) does not blow up.

The first version (`kalman_1`) set a coefficient to 0 and left the others as they were, took the
width that P opens to from the coefficient alone, and opened for one call only. A fast model under a
slow prior could have the price of a token at 0 within ten calls, with all of the latency in the
base and so little width that the price did not come back: errors of 25 % for hundreds of calls,
which were then taken for noise.

The further state is the upper triangle of P, the relative variance of the noise, and how many
errors in a row were cut off (negative: on the lower side; five, as at the start, or more open P).
The arithmetic is IEEE-754 binary64 with + - * / and square root only, from left to right as written
here; `tests/conformance/` pins it to the bit.
"""

# ruff: noqa: FURB136 - max() and min() would take a third of the time of what every call runs

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from calibration_ledger.rules.base import Rule
from calibration_ledger.rules.kalman_1 import (
    FLOOR_A,
    FLOOR_B,
    FLOOR_O,
    KALMAN_1,
    NOISE_CUT,
    NOISE_LEAST,
    NOISE_PACE,
    RUN,
    WIDTH,
)

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

NOISE_MOST = NOISE_CUT * NOISE_CUT
"""How many times the variance of the noise the square of an error counts for in it at the most."""


def fold_kalman(  # noqa: PLR0915 - compiled as one: it could not call an ordinary function
    state: MutableSequence[float],
    alpha: float,
    prompt_tokens: Sequence[int],
    completion_tokens: Sequence[int],
    actual_ms: Sequence[float],
    predicted_ms: MutableSequence[float],
) -> None:
    """Learn a column of calls (see `Rule.fold`)."""
    a, b, o, absolute_ms, total_ms = state[0], state[1], state[2], state[3], state[4]
    paa, pab, pao, pbb, pbo, poo = state[5], state[6], state[7], state[8], state[9], state[10]
    run, drift, i, noise = state[12], alpha * alpha, 0, state[11]
    noise = NOISE_LEAST if noise < NOISE_LEAST else noise
    for p, c, y in zip(prompt_tokens, completion_tokens, actual_ms):  # noqa: B905 - a compiler knows no strict=
        predicted = o + a * p + b * c
        predicted_ms[i] = predicted
        i += 1  # noqa: SIM113 - enumerate() packs a tuple a call, and this loop is the hot one
        error, level = y - predicted, predicted if predicted > 1.0 else 1.0
        # The walk: each coefficient may have drifted since the call before.
        size_a, size_b = a if a > FLOOR_A else FLOOR_A, b if b > FLOOR_B else FLOOR_B
        size_o = o if o > FLOOR_O else FLOOR_O
        if run >= RUN or run <= -RUN:
            likely = level / (FLOOR_O + FLOOR_A * p + FLOOR_B * c)
            size_a, size_b = max(size_a, FLOOR_A * likely), max(size_b, FLOOR_B * likely)
            size_o = max(size_o, FLOOR_O * likely)
            paa, pab, pao = WIDTH * size_a * size_a, 0.0, 0.0
            pbb, pbo, poo = WIDTH * size_b * size_b, 0.0, WIDTH * size_o * size_o
        square_a, square_b, square_o = size_a * size_a, size_b * size_b, size_o * size_o
        paa += drift * square_a if paa < WIDTH * square_a else 0.0
        pbb += drift * square_b if pbb < WIDTH * square_b else 0.0
        poo += drift * square_o if poo < WIDTH * square_o else 0.0
        # g = P x, and the variance that is expected of the error.
        ga, gb = paa * p + pab * c + pao, pab * p + pbb * c + pbo
        go = pao * p + pbo * c + poo
        spread = ga * p + gb * c + go
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
        # Move by the gain, g / variance. An error that was cut off tells less, in proportion.
        step, told = cut / variance, (1.0 if error == 0.0 else cut / error) / variance
        a, b, o = a + ga * step, b + gb * step, o + go * step
        ta, tb, to = ga * told, gb * told, go * told
        paa, pab, pao = paa - ga * ta, pab - ga * tb, pao - ga * to
        pbb, pbo, poo = pbb - gb * tb, pbo - gb * to, poo - go * to
        if a < 0.0 or b < 0.0 or o < 0.0:
            for _ in range(3):  # one that is put at 0 can take another below it
                if a < 0.0 < paa:
                    a, b, o = 0.0, b - pab * (a / paa), o - pao * (a / paa)
                if b < 0.0 < pbb:
                    a, b, o = a - pab * (b / pbb), 0.0, o - pbo * (b / pbb)
                if o < 0.0 < poo:
                    a, b, o = a - pao * (o / poo), b - pbo * (o / poo), 0.0
            absolute_ms += 0.0 * (a + b + o)  # NaN, which the next line would hide
            a, b, o = a if a > 0.0 else 0.0, b if b > 0.0 else 0.0, o if o > 0.0 else 0.0
        absolute = (error if error >= 0.0 else -error) + 0.0 * variance  # NaN where this is inf
        share, most = absolute / level, NOISE_MOST * noise
        square = share * share
        noise += NOISE_PACE * ((most if square > most else square) - noise)
        noise = noise if noise > NOISE_LEAST else NOISE_LEAST
        absolute_ms, total_ms = absolute_ms + absolute, total_ms + predicted
    state[0], state[1], state[2], state[3], state[4] = a, b, o, absolute_ms, total_ms
    state[5], state[6], state[7], state[8], state[9], state[10] = paa, pab, pao, pbb, pbo, poo
    state[11], state[12] = noise, run


KALMAN = Rule(
    name="kalman",
    version="kalman.2",
    default_alpha=KALMAN_1.default_alpha,
    quick_alphas=KALMAN_1.quick_alphas,
    extra_numbers=KALMAN_1.extra_numbers,
    extra_start=KALMAN_1.extra_start,
    floors=KALMAN_1.floors,
    fold=fold_kalman,
)
