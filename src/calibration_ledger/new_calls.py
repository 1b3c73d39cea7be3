"""Calls on their way into the ledger: what callers hand in, checked part by part."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.validation import (
    check_details,
    check_milliseconds,
    check_model,
    check_request_id,
    check_time,
    check_tokens,
)
from calibration_ledger.values import Call

if TYPE_CHECKING:
    from collections.abc import Mapping


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


def checked_call(call: Call | Mapping[str, Any]) -> tuple[str, NewCall]:
    """Check a `Call`, or a mapping with its fields; gives the model and the rest.

    Raises:
        InvalidInputError: it is neither, or a part of it is not what it must be.
    """
    if not isinstance(call, Call):
        try:
            call = Call(**call)
        except TypeError:
            raise InvalidInputError(
                f"record_many takes Calls, or mappings with their fields, not {call!r}."
            ) from None
    return check_model(call.model), new_call(
        call.prompt_tokens,
        call.completion_tokens,
        call.actual_ms,
        call.called_at,
        call.request_id,
        call.details,
    )
