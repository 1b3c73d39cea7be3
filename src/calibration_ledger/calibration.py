"""A model's calibration as a frozen value, and what is derived from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibration_ledger.errors import InvalidInputError, NotFiniteError
from calibration_ledger.rules.base import predict_ms
from calibration_ledger.validation import (
    check_alpha,
    check_model,
    check_text,
    check_tokens,
    shown,
)

DEFAULT_ALPHA = 0.15
RULE_LENGTH_MAX = 64
WARM_UP_CALLS = 10
"""Below this many calls a model is warming up; it is also the scale of the confidence."""


def confidence_of(sample_count: int) -> float:
    """1 - exp(-n/10): 0 for a prior alone, 0.63 at 10 calls, 0.95 at 30."""
    return 1.0 - math.exp(-sample_count / WARM_UP_CALLS)


def finite_prediction(
    model: str, coefficients: Sequence[float], prompt_tokens: int, completion_tokens: int
) -> float:
    """What these coefficients predict, in ms.

    Raises:
        NotFiniteError: it is beyond all numbers.
    """
    predicted_ms = predict_ms(coefficients, prompt_tokens, completion_tokens)
    if not math.isfinite(predicted_ms):
        raise NotFiniteError(
            f"the model {model!r} predicts {predicted_ms!r} ms for {prompt_tokens} prompt tokens "
            f"and {completion_tokens} completion tokens: an absurd measurement was learnt, or its "
            f"prior is absurd. Reset the model (`calib reset`); its history stays."
        )
    return predicted_ms


@dataclass(frozen=True, slots=True)
class ModelCalibration:
    """The whole state of one model, unrounded.

    Attributes:
        model: the model's name.
        rule: the version of the learning rule, such as `ema.1`.
        alpha: its speed of adaptation, in (0, 1].
        ms_per_prompt_token: the first coefficient.
        ms_per_completion_token: the second.
        base_overhead_ms: the third.
        sample_count: how many calls were learnt from.
        total_absolute_error_ms: the sum of |actual - predicted| over them.
        total_predicted_ms: the sum of their predictions.
        rule_state: whatever further numbers the rule keeps.
        last_updated: the called_at of the last call that was learnt, by the caller's clock, in
            seconds since the epoch; before that, when it was set; None for a mere prior.
    """

    model: str
    rule: str
    alpha: float
    ms_per_prompt_token: float
    ms_per_completion_token: float
    base_overhead_ms: float
    sample_count: int = 0
    total_absolute_error_ms: float = 0.0
    total_predicted_ms: float = 0.0
    rule_state: tuple[float, ...] = ()
    last_updated: float | None = None

    @property
    def confidence(self) -> float:
        """From 0 (a prior alone) towards 1."""
        return confidence_of(self.sample_count)

    @property
    def mean_absolute_error_ms(self) -> float:
        """The mean of |actual - predicted| in ms; not a number before the first call."""
        if self.sample_count == 0:
            return math.nan
        return self.total_absolute_error_ms / self.sample_count

    @property
    def status(self) -> str:
        """One of three: a prior alone, warming up, calibrated."""
        if self.sample_count == 0:
            return "uncalibrated (prior only)"
        return "warming up" if self.sample_count < WARM_UP_CALLS else "calibrated"

    def predict(self, prompt_tokens: int, completion_tokens: int = 0) -> float:
        """The latency in ms that this state predicts.

        Raises:
            InvalidInputError: a token count is negative, fractional or 2**31 and above.
            NotFiniteError: the coefficients are too large to predict so many tokens.
        """
        return finite_prediction(
            self.model,
            (self.ms_per_prompt_token, self.ms_per_completion_token, self.base_overhead_ms),
            check_tokens("prompt_tokens", prompt_tokens),
            check_tokens("completion_tokens", completion_tokens),
        )

    def stats(self) -> dict[str, Any]:
        """The rounded figures that `get_stats` gives; only four of them at 0 calls."""
        stats: dict[str, Any] = {
            "model": self.model,
            "sample_count": self.sample_count,
            "confidence": round(self.confidence, 3),
        }
        if self.sample_count:
            stats["ms_per_prompt_token"] = round(self.ms_per_prompt_token, 4)
            stats["ms_per_completion_token"] = round(self.ms_per_completion_token, 4)
            stats["base_overhead_ms"] = round(self.base_overhead_ms, 1)
            stats["mean_absolute_error_ms"] = round(self.mean_absolute_error_ms, 1)
            stats["last_updated"] = self.last_updated
        stats["status"] = self.status
        return stats

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it; floats keep every bit."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.__slots__
            for value in (getattr(self, name),)
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelCalibration:
        """The calibration that `to_dict` wrote, or one of the predecessor's.

        Only `model` and the three coefficients must be there.

        Raises:
            InvalidInputError: a field is missing, unknown or not what it must be.
        """
        if not isinstance(data, Mapping):
            raise InvalidInputError(
                f"this is not a model's calibration: {shown(data)}. Pass a dict of its fields."
            )
        unknown = sorted(map(str, set(data) - set(cls.__slots__)))
        missing = [name for name in cls.__slots__[:6] if name not in data]
        missing = [name for name in missing if name not in {"rule", "alpha"}]
        if unknown or missing:
            raise InvalidInputError(
                "this is not a model's calibration: "
                + (f"it lacks {', '.join(missing)}" if missing else "")
                + (" and " if missing and unknown else "")
                + (f"it has the unknown {', '.join(unknown)}" if unknown else "")
                + "."
            )
        values = {"rule": "ema.1", "alpha": DEFAULT_ALPHA, **data}
        values["model"] = check_model(values["model"])
        values["alpha"] = check_alpha(values["alpha"])
        values["rule"] = check_text("rule", values["rule"], RULE_LENGTH_MAX)
        values["sample_count"] = _count(values.get("sample_count", 0))
        for name in _NUMBERS & values.keys():
            values[name] = _number(name, values[name])
        values["rule_state"] = _rule_state(values.get("rule_state", ()))
        return cls(**values)


_NUMBERS = {
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "total_absolute_error_ms",
    "total_predicted_ms",
    "last_updated",
}


def _number(name: str, value: object, least: float = 0.0) -> float | None:
    if value is None and name == "last_updated":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{name} must be a number, not {shown(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        must = "finite" if least < 0.0 else "finite and not negative"
        raise InvalidInputError(f"{name} must be {must}, not {shown(value)}.")
    return number if least < 0.0 else number + 0.0


def _rule_state(value: object) -> tuple[float | None, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"rule_state must be a list of numbers, not {shown(value)}.")
    return tuple(_number("rule_state", item, least=-math.inf) for item in value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise InvalidInputError(f"sample_count must be a whole number from 0, not {shown(value)}.")
    return value
