"""What `top` shows: the models that are in use, and the newest calls of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from calibration_ledger.core.values import Value
from calibration_ledger.errors import InvalidInputError, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from calibration_ledger.core.values import Call, Drift

TopBy = Literal["newest", "model", "calls", "rate", "error", "drift", "forecast"]
"""What models are sorted by: the newest call first, the name, or the largest figure first."""

TOP_BY: tuple[TopBy, ...] = get_args(TopBy)

RATE_S = 300.0
"""Calls a minute are those of the last five minutes: a model that takes a minute to answer has a
rate, too."""

RATE_LEAST_S = 60.0
"""And of one that began just now, as if those were all of a minute: two calls are no rush."""


@dataclass(frozen=True, slots=True)
class TopModel(Value):
    """One model in use.

    Attributes:
        model: the model's name.
        calls: how many calls it has learnt from.
        calls_per_minute: those that began in the last five minutes, a minute.
        median_absolute_percentage_error: how far off the newest 100 calls were; see `ModelStats`.
        drift: how it has changed of late; None if it has not.
        prompt_tokens: the prompt length of a usual call, which the forecast is for.
        median_ms: what half of such calls take at most; None for a model without calls.
        interval_ms: what 9 of 10 such calls take.
        status: that of the forecast; see `Forecast`.
        newest_at: when its newest call began; None for no call.
    """

    model: str
    calls: int
    calls_per_minute: float = 0.0
    median_absolute_percentage_error: float | None = None
    drift: Drift | None = None
    prompt_tokens: int | None = None
    median_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    status: str = "no history"
    newest_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Top(Value):
    """A ledger at one moment, as `calib top` shows it.

    Attributes:
        at: when it was looked at.
        models: the models that were called last, as they were asked to be sorted.
        models_in_all: how many there are; those that are not in `models` are at rest.
        calls: the newest calls of these models, the newest first, without their request ids and
            details; voided ones are not among them.
    """

    at: datetime
    models: tuple[TopModel, ...] = ()
    models_in_all: int = 0
    calls: tuple[Call, ...] = ()

    @property
    def calls_per_minute(self) -> float:
        """The rate of all models together."""
        return sum(one.calls_per_minute for one in self.models)


def rate_of(began_s: Sequence[float], now_s: float, *, is_all: bool) -> float:
    """How many calls a minute there were of late.

    Args:
        began_s: when the newest calls began, in seconds since 1970, in any order.
        now_s: the time of now.
        is_all: whether these are all the calls there are.
    """
    if not began_s:
        return 0.0
    recent = sum(0.0 <= now_s - at < RATE_S for at in began_s)
    # Of a model so fast that they do not reach back five minutes, the time is shorter.
    least_s = RATE_LEAST_S if is_all else 1.0
    return recent * 60.0 / min(max(now_s - min(began_s), least_s), RATE_S)


def sorted_by(models: Sequence[TopModel], by: TopBy) -> tuple[TopModel, ...]:
    """The models in order; those without the figure come last, equal ones by name."""
    if by == "model":
        return tuple(sorted(models, key=lambda one: one.model))
    return tuple(sorted(models, key=lambda one: (-_figure(one, by), one.model)))


def _figure(one: TopModel, by: TopBy) -> float:
    if by == "newest":
        return 0.0 if one.newest_at is None else one.newest_at.timestamp()
    if by == "drift":
        factor = 1.0 if one.drift is None else one.drift.factor
        return max(factor, 1.0 / factor if factor else factor)
    figures: dict[str, float | None] = {
        "calls": one.calls,
        "rate": one.calls_per_minute,
        "error": one.median_absolute_percentage_error,
        "forecast": one.median_ms,
    }
    figure = figures[by]
    return -1.0 if figure is None else figure


def check_top_by(by: object) -> TopBy:
    """What models are to be sorted by.

    Raises:
        InvalidInputError: it is none of the figures.
    """
    for known in TOP_BY:
        if by == known:
            return known
    raise InvalidInputError(f"by must be one of {', '.join(TOP_BY)}, not {shown(by)}.")
