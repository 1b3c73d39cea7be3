"""Fields of other tools' records: times, numbers and objects however they are written."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import count, milliseconds
from calibration_ledger.core.validation import EPOCH, TIME_LIMIT_US
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.row import BadRow, checked_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.formats.base import Item

_EPOCH = EPOCH.replace(tzinfo=None)
_DIGITS_MAX = 20
"""No count and no time has more."""


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


def tokens(value: object) -> int | None:
    """A count of tokens, which a CSV file has as a text; None for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _DIGITS_MAX:
        value = int(value)
    return count(value)


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


def first_ms(start: int | None, first: int | None, end: int | None) -> float | None:
    """The time to the first token, where it lies within the call."""
    if start is None or first is None or end is None or not start <= first <= end:
        return None
    return (first - start) / 1000.0


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or the text of one; empty for what is none."""
    if isinstance(value, str) and value[:1] == "{":
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value if isinstance(value, dict) else {}


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
