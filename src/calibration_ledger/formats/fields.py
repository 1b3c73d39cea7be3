"""Fields of other tools' records: times, numbers and objects however they are written."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import milliseconds
from calibration_ledger.core.validation import EPOCH, TIME_LIMIT_US
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.row import BadRow, checked_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.core.answers.usage import Times
    from calibration_ledger.formats.base import Item

_EPOCH = EPOCH.replace(tzinfo=None)


def microseconds_of(time: datetime) -> int:
    """The microseconds of a time since the epoch; without a zone it is UTC."""
    since = time - (_EPOCH if time.tzinfo is None else EPOCH)
    # Three times as quick as the division of one duration by another.
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def microseconds(value: object) -> int | None:
    """A time in microseconds since the epoch, of seconds or of an ISO text; None for what is none.

    A text without a zone is UTC: so do databases write it.
    """
    if isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        us = microseconds_of(time)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError):
            us = round(value * 1_000_000)
            return us if 0 < us < TIME_LIMIT_US else None
        return None
    else:
        return None
    return us if 0 < us < TIME_LIMIT_US else None


def duration_ms(value: object, per_ms: float = 1.0) -> float | None:
    """A duration in ms, of a number or its text, in units of which `per_ms` make one."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return milliseconds(value, per_ms)


def between_ms(start: int | None, end: int | None) -> float | None:
    """The ms between two times in microseconds; None where they make no duration."""
    return (end - start) / 1000.0 if start is not None and end is not None and end > start else None


def by_server(
    times: Times, *, has_queue: bool
) -> tuple[float | None, dict[str, str | float | None]]:
    """How long a call took by the server's clock, without the loading of the model, in ms.

    Gives the duration, and what goes into the details of the call.

    Args:
        times: the server's own.
        has_queue: whether they begin when the request comes in, told or untold how long it waits.
    """
    actual_ms = None
    load_ms = times.load or 0.0
    if times.server is not None and times.server > load_ms:
        actual_ms = round(times.server - load_ms, 6)
    return actual_ms, {
        "clock": "server" if has_queue or times.queue is not None else "server-queue",
        "load_ms": times.load,
        "queue_ms": times.queue,
    }


def first_ms(start: int | None, first: int | None, end: int | None) -> float | None:
    """The time to the first token, where it lies within the call."""
    if start is None or first is None or end is None or not start <= first <= end:
        return None
    return (first - start) / 1000.0


def forget_oldest(memory: dict[Any, Any], keep: int) -> None:
    """Leave the latest of what is remembered, so that memory stays bounded in any file."""
    if len(memory) > keep:
        for one in list(islice(memory, len(memory) - keep)):
            del memory[one]


def text(value: object) -> str | None:
    """A text that says something."""
    return value if isinstance(value, str) and value else None


def call(
    model: str | None,
    called_at: int | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    actual_ms: float | None,
    request_id: str | None,
    details: Mapping[str, Any],
) -> Item:
    """The item of a call: a row, or why there is none; see `row.checked_row`."""
    if not prompt_tokens or completion_tokens is None:
        return Skip("unknown tokens")
    if actual_ms is None:
        return Skip("unknown duration")
    if model is None:
        return Skip("unknown model")
    try:
        return checked_row(
            model, called_at, prompt_tokens, completion_tokens, actual_ms, request_id, details
        )
    except InvalidInputError as error:
        return BadRow(str(error))
