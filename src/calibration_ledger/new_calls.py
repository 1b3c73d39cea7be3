"""Calls on their way into the ledger: what callers hand in, checked part by part."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, NamedTuple

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.validation import (
    check_details,
    check_milliseconds,
    check_model,
    check_request_id,
    check_time,
    check_tokens,
    shown,
)
from calibration_ledger.values import Call

_FIELDS = tuple(field.name for field in fields(Call))
_REQUIRED = ("model", "prompt_tokens", "actual_ms")


class NewCall(NamedTuple):
    """A checked call on its way into the ledger; times in microseconds."""

    called_at: int
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    request_id: str | None
    details: str | None


def now_us() -> int:
    """The time in microseconds since the epoch."""
    return time.time_ns() // 1000


def new_call(
    prompt_tokens: object,
    completion_tokens: object,
    actual_ms: object,
    called_at: object,
    request_id: object,
    details: Mapping[str, Any] | None,
) -> NewCall:
    """Check the parts of a call.

    Raises:
        InvalidInputError: one of them is not what it must be.
    """
    return NewCall(
        now_us() if called_at is None else check_time("called_at", called_at),
        check_tokens("prompt_tokens", prompt_tokens),
        check_tokens("completion_tokens", completion_tokens),
        check_milliseconds("actual_ms", actual_ms),
        None if request_id is None else check_request_id(request_id),
        None if details is None else check_details(details),
    )


def checked_calls(calls: object) -> list[tuple[str, NewCall]]:
    """Check several `Call`s, or mappings with their fields; gives the model and the rest of each.

    Raises:
        InvalidInputError: one of them is neither, or a part of it is not what it must be; the
            sentence says which. Or they are not several.
    """
    if isinstance(calls, Call | Mapping | str | bytes) or not isinstance(calls, Iterable):
        raise InvalidInputError(
            f"record_many takes several calls, not {shown(calls)} ({type(calls).__name__}): pass a "
            f"list of Calls, or of mappings with their fields."
        )
    checked = []
    for place, call in enumerate(calls, 1):
        try:
            checked.append(checked_call(call))
        except InvalidInputError as error:
            model = call.get("model") if isinstance(call, dict) else getattr(call, "model", None)
            of_model = f", of the model {shown(model)}" if isinstance(model, str) else ""
            raise InvalidInputError(f"call {place}{of_model}: {error}") from None
    return checked


def checked_call(call: object) -> tuple[str, NewCall]:
    """Check a `Call`, or a mapping with its fields; gives the model and the rest.

    Raises:
        InvalidInputError: it is neither, or a part of it is not what it must be.
    """
    new = call if isinstance(call, Call) else _as_call(call)
    return check_model(new.model), new_call(
        new.prompt_tokens,
        new.completion_tokens,
        new.actual_ms,
        new.called_at,
        new.request_id,
        new.details,
    )


def _as_call(given: object) -> Call:
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"record_many takes Calls, or mappings with their fields, not {shown(given)}."
        )
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise InvalidInputError(f"{' and '.join(missing)} must be there, in {shown(given)}.")
    unknown = [name for name in given if name not in _FIELDS]
    if unknown:
        raise InvalidInputError(
            f"{shown(unknown[0])} is no field of a call: leave it out, or put what was measured "
            f"into details. The fields are {', '.join(_FIELDS)}."
        )
    return Call(**{"completion_tokens": 0, **given})
