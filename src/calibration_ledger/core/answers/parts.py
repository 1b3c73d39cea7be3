"""One field of an answer, be it a mapping or a client's own object, and what counts as a number.

Objects are asked for the one attribute: to dump them whole would copy the text of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from typing import Any

from calibration_ledger.core.validation import MODEL_LENGTH_MAX, TOKENS_LIMIT


def part(holder: object, name: str) -> Any:
    """A field of a mapping or an attribute of an object; None where there is none."""
    if type(holder) is dict:
        return holder.get(name)
    if holder is None or isinstance(holder, str | int | float | bytes):
        return None
    if hasattr(type(holder), "model_fields_set") and name[:1] != "_":
        return _pydantic_part(holder, name)
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _pydantic_part(holder: Any, name: str) -> Any:
    """A field of one of pydantic's models. Asking for an attribute that it lacks takes it long.

    A 0 that the client fills in for a count that the provider left out is none.
    """
    fields = holder.__dict__
    if name not in fields:
        return (getattr(holder, "__pydantic_extra__", None) or {}).get(name)
    value = fields[name]
    is_zero = type(value) is int and not value
    return None if is_zero and name not in holder.model_fields_set else value


def first(holder: object, *names: str) -> Any:
    """The first of these fields that is there."""
    for name in names:
        value = part(holder, name)
        if value is not None:
            return value
    return None


def items(value: object) -> list[Any] | tuple[Any, ...]:
    """A list, or nothing where there is none."""
    return value if isinstance(value, list | tuple) else ()


def count(value: object) -> int | None:
    """A number of tokens; None for what is none, such as True, NaN, -1, 2**31 or a text."""
    if type(value) is int:  # so are most
        return value if 0 <= value < TOKENS_LIMIT else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():  # some proxies write 12.0
        value = int(value)
    if isinstance(value, int) and 0 <= value < TOKENS_LIMIT:
        return int(value)
    return None


def told_count(value: object) -> int | None:
    """The same as `count`, also of digits in a text: so do CSV files and some tools write it."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:  # noqa: PLR2004 - no count has more digits
        value = int(value)
    return count(value)


def total(needed: object, *more: object) -> int | None:
    """A count and what is there of more; None if one of them is there and is no count."""
    counts = [count(value) for value in (needed, *(one for one in more if one is not None))]
    known = [one for one in counts if one is not None]
    return count(sum(known)) if len(known) == len(counts) else None


def milliseconds(value: object, per_ms: float = 1.0) -> float | None:
    """A duration in ms of one that has `per_ms` units to the ms; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        duration = float(value) / per_ms
    except OverflowError:
        return None
    return round(duration, 6) if isfinite(duration) and duration >= 0 else None


def json_object(value: object) -> Mapping[str, Any]:
    """A mapping, or the object of a JSON text; empty for what is neither."""
    if isinstance(value, str) and value[:1] == "{":
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value if isinstance(value, Mapping) else {}


def model_name(value: object) -> str | None:
    """A model's name that every ledger can hold, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= MODEL_LENGTH_MAX or "\0" in value:
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return str.__str__(value)
