"""The rule `ema`: an exponential moving average on the prediction error.

Each call moves the three coefficients by a share `alpha` of its error, split between them by how
many of its tokens were prompt and how many completion. The arithmetic is IEEE-754 binary64, from
left to right as written here; `tests/conformance/` pins it to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.rules.base import Rule

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence


def fold_ema(
    state: MutableSequence[float],
    alpha: float,
    prompt_tokens: Sequence[int],
    completion_tokens: Sequence[int],
    actual_ms: Sequence[float],
    predicted_ms: MutableSequence[float],
) -> None:
    """Learn a column of calls (see `Rule.fold`).

    Why one look at the end sees every number that was not finite on the way: both totals only
    grow, so one that became infinite or NaN stays so; a prediction or an error that is not finite
    makes its total so at once. A coefficient can overflow only upwards (it is at least 0, and
    `alpha*error` is finite), `max` keeps that infinity, and the next prediction spreads it.
    """
    a, b, o = state[0], state[1], state[2]
    total_absolute_error_ms, total_predicted_ms = state[3], state[4]
    i = 0
    # Scalars only, so that a compiler can take this very function. No strict=: the callers build
    # the three columns together, and such compilers do not know the argument.
    for p, c, y in zip(prompt_tokens, completion_tokens, actual_ms):  # noqa: B905 - see above
        predicted = o + a * p + b * c
        predicted_ms[i] = predicted
        i += 1  # noqa: SIM113 - enumerate() packs a tuple a call, and this loop is the hot one
        error = y - predicted
        total = p + c
        if total == 0:
            total = 1
        fp = p / total
        fc = c / total
        fo = 1.0 - 0.5 * (fp + fc)
        step = alpha * error
        # ruff: disable[FURB136, PLR2004] - max() would double the time of this loop, and each floor
        # stands once, where the design has it
        moved = a + step * fp / (p if p > 1 else 1)
        a = moved if moved > 0.001 else 0.001
        moved = b + step * fc / (c if c > 1 else 1)
        b = moved if moved > 0.001 else 0.001
        moved = o + step * fo
        o = moved if moved > 0.0 else 0.0
        # ruff: enable[FURB136, PLR2004]
        total_absolute_error_ms += error if error >= 0.0 else -error
        total_predicted_ms += predicted
    state[0], state[1], state[2] = a, b, o
    state[3], state[4] = total_absolute_error_ms, total_predicted_ms


def _no_further_state(_coefficients: Sequence[float]) -> list[float]:
    return []


EMA = Rule(
    name="ema",
    version="ema.1",
    default_alpha=0.15,
    quick_alphas=(0.01, 0.05, 0.15, 0.4),
    extra_numbers=(),
    extra_start=_no_further_state,
    floors=(0.001, 0.001, 0.0),
    fold=fold_ema,
)
