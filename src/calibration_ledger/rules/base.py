"""What every rule shares: the shape of its state, and the line that it predicts with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence, Sequence

    Fold = Callable[
        [
            MutableSequence[float],
            float,
            Sequence[int],
            Sequence[int],
            Sequence[float],
            MutableSequence[float],
        ],
        None,
    ]


RuleName = Literal["ema", "kalman", "ema.1", "kalman.1", "kalman.2"]
"""What names a rule: its name, which stands for its newest version, or a version."""

COMMON_NUMBERS = (
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "total_absolute_error_ms",
    "total_predicted_ms",
)
"""The numbers that the state of every rule begins with, in this order."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A learning rule.

    Attributes:
        name: what users write.
        version: what the ledger stores.
        default_alpha: the speed of adaptation where none is given.
        quick_alphas: the few that are tried where a quick look must do, from slow to fast.
        extra_numbers: the names of its further state, which follows `COMMON_NUMBERS`.
        extra_start: that further state for a model that starts from these three coefficients.
        floors: what the three coefficients are at least, once a call was learnt: a coefficient
            there is as good as 0, and says that the calls show no such cost.
        fold: `fold(state, alpha, prompt_tokens, completion_tokens, actual_ms, predicted_ms)`
            learns a column of calls in order. It changes `state` in place, and writes the
            prediction made *before* each call was learnt into `predicted_ms`. Its contract: a
            number that is not finite anywhere on the way leaves one in `state` at the end, so
            that one look after a column is as strict as one after every call.
    """

    name: RuleName
    version: RuleName
    default_alpha: float
    quick_alphas: tuple[float, ...]
    extra_numbers: tuple[str, ...]
    extra_start: Callable[[Sequence[float]], list[float]]
    floors: tuple[float, float, float]
    fold: Fold


def predict_ms(coefficients: Sequence[float], prompt_tokens: int, completion_tokens: int) -> float:
    """The line that all rules predict with, in the order of evaluation that all folds share.

    Args:
        coefficients: ms per prompt token, ms per completion token, base overhead ms, ...
        prompt_tokens: how many tokens go in.
        completion_tokens: how many come out.
    """
    return coefficients[2] + coefficients[0] * prompt_tokens + coefficients[1] * completion_tokens
