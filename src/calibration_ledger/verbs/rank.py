"""Rank: the models of a ledger, the one that answers soonest first."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.rank import RankBy, check_by, drawn, in_time, ranked, with_history
from calibration_ledger.core.validation import (
    check_level,
    check_milliseconds,
    check_model,
    check_share,
    check_tokens,
)
from calibration_ledger.errors import InvalidInputError, NoHistoryError, shown

if TYPE_CHECKING:
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.verbs.forecast import Forecasts


def rank(
    forecasts: Forecasts,
    prompt_tokens: int,
    models: Iterable[str] | None,
    *,
    completion_tokens: int | Mapping[str, int] | None,
    max_tokens: int | None,
    by: RankBy,
) -> list[Forecast]:
    """See `AdaptiveCalibrator.rank`."""
    by = check_by(by)
    names = None if models is None else check_models(models)
    lengths = check_lengths(completion_tokens)
    found = forecasts.of_models(prompt_tokens, names, lengths, max_tokens=max_tokens)
    return ranked(found, by)


def soonest(
    forecasts: Forecasts,
    prompt_tokens: int,
    models: Iterable[str] | None,
    *,
    deadline_ms: float | None,
    chance: float,
    explore: float,
    seed: int | str | None,
    **asked: Any,
) -> Forecast:
    """See `AdaptiveCalibrator.soonest`."""
    deadline = None if deadline_ms is None else check_milliseconds("deadline_ms", deadline_ms)
    chance, explore = check_level("chance", chance), check_share("explore", explore)
    seed = check_seed(seed)
    order = rank(forecasts, prompt_tokens, models, **asked)
    try:
        known = with_history(order)
    except NoHistoryError:
        tried = drawn(order, 1.0, seed) if explore and deadline is None else None
        if tried is None:
            raise
        return tried
    if deadline is not None:
        order = known = in_time(known, deadline, chance)
    first = known[0]
    return drawn([one for one in order if one is not first], explore, seed) or first


def check_models(models: object) -> list[str]:
    """The names of models, each once.

    Raises:
        InvalidInputError: it is no iterable of names.
    """
    if isinstance(models, str) or not isinstance(models, Iterable):
        raise InvalidInputError(
            f"models must be a list of names, such as ['phi3:mini', 'qwen2:7b'], not "
            f"{shown(models)}."
        )
    return list(dict.fromkeys(map(check_model, models)))


def check_lengths(completion_tokens: object) -> int | Mapping[str, int] | None:
    """Completion tokens for all models, or for each by its name.

    Raises:
        InvalidInputError: they are neither.
    """
    if completion_tokens is None:
        return None
    if isinstance(completion_tokens, Mapping):
        return {
            check_model(model): check_tokens("completion_tokens", tokens)
            for model, tokens in completion_tokens.items()
        }
    return check_tokens("completion_tokens", completion_tokens)


def check_seed(seed: object) -> int | str:
    """What is drawn from; where none is given, a number that nobody can know before.

    Raises:
        InvalidInputError: it is neither a whole number nor a text.
    """
    if seed is None:
        return secrets.randbits(64)
    if isinstance(seed, bool) or not isinstance(seed, int | str):
        raise InvalidInputError(
            f"seed must be a whole number or a text, such as a request's id, not {shown(seed)}."
        )
    return seed
