"""Rank: which model answers soonest, by their forecasts.

A model without history has nothing but its prior, which may say anything. So it comes last, and is
never the soonest. It is tried only where the caller lets some calls go to another model by lot.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal, TypeAlias

from calibration_ledger.core.validation import canonical_json, check_level
from calibration_ledger.errors import (
    DeadlineError,
    InvalidInputError,
    NoHistoryError,
    named,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.core.forecast import Forecast

RankBy: TypeAlias = Literal["mean", "median"] | float
"""What models are ranked by: their expected time, their median, or a quantile by its level."""

FEW = 6
"""A model with fewer calls is tried more often than others."""

LOTS_OF_FEW = 10
"""Its lots in a draw, where others have one. It does not get all of them: calls of a model that
cannot be reached are never recorded, and it would be drawn for ever."""


def check_by(by: object) -> RankBy:
    """What to rank by.

    Raises:
        InvalidInputError: it is neither `mean` nor `median` nor a level above 0 and below 1.
    """
    if by == "mean":
        return "mean"
    if by == "median":
        return "median"
    if isinstance(by, str):
        raise InvalidInputError(
            f"by must be 'mean', 'median' or a level above 0 and below 1, such as 0.95, not "
            f"{shown(by)}."
        )
    return check_level("by", by)


def score(forecast: Forecast, by: RankBy) -> float:
    """What a forecast is ranked by, in ms."""
    if by == "mean":
        return forecast.mean_ms
    return forecast.quantile(0.5 if by == "median" else by)


def ranked(forecasts: Sequence[Forecast], by: RankBy) -> list[Forecast]:
    """The soonest first; behind them those without history. Equal ones stay in their order."""
    known = sorted((one for one in forecasts if one.basis.count), key=lambda one: score(one, by))
    return known + [one for one in forecasts if not one.basis.count]


def with_history(forecasts: Sequence[Forecast]) -> list[Forecast]:
    """Those that rest on calls.

    Raises:
        NoHistoryError: none does.
    """
    known = [one for one in forecasts if one.basis.count]
    if not known:
        names = [one.model for one in forecasts]
        which = f"none of the models {named(names)} has" if names else "no model has"
        raise NoHistoryError(f"{which} a call in the ledger")
    return known


def in_time(forecasts: Sequence[Forecast], deadline_ms: float, chance: float) -> list[Forecast]:
    """Those that keep a deadline with a chance.

    A high chance may be beyond what a few calls tell of: then the timeout for it decides.

    Raises:
        DeadlineError: none does.
    """
    chances = [one.chance_within(deadline_ms) for one in forecasts]
    found = [
        one
        for one, its in zip(forecasts, chances, strict=True)
        if its >= chance or one.timeout_ms(chance) <= deadline_ms
    ]
    if not found:
        best = max(range(len(chances)), key=chances.__getitem__)
        raise DeadlineError(
            f"no model is over within {deadline_ms:g} ms with a chance of {chance:g}; "
            f"{forecasts[best].model!r} comes nearest, with {chances[best]:.2f}"
        )
    return found


def drawn(forecasts: Sequence[Forecast], share: float, seed: int | str) -> Forecast | None:
    """One of these by lot, for this share of all draws; None for the others.

    It is a function of the seed, the prompt length, and the names and numbers of calls of the
    models: the same ledger gives the same answer again, and each call that is recorded draws anew.
    """
    order = sorted(forecasts, key=lambda one: one.model)
    asked = [seed, [[one.model, one.prompt_tokens, one.basis.count] for one in order]]
    digest = hashlib.sha256(canonical_json(asked).encode()).digest()
    first, second = (int.from_bytes(part) / 2**64 for part in (digest[:8], digest[8:16]))
    if not order or first >= share:
        return None
    lots = [one for one in order for _ in range(LOTS_OF_FEW if one.basis.count < FEW else 1)]
    return lots[min(int(second * len(lots)), len(lots) - 1)]  # second may be rounded up to 1
