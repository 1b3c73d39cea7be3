"""JSON, strictly for our own files, and as Python's own parser takes it for those of others.

Two values for one key would drop one of them silently, and NaN and Infinity are no JSON: our own
files have neither, while other tools write both in fields that nobody reads here. A text nested by
the thousand is an error with a sentence like every other, in both.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from calibration_ledger.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInputError(f"the key {key!r} is there twice: which value holds is unclear")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise InvalidInputError(f"{name} is no JSON number: leave out what is not known")


STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
LENIENT = json.JSONDecoder()
_begin = json.JSONDecoder(parse_constant=_no_constant).raw_decode

encode: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
"""A value as one line of ASCII; floats keep every bit, and keys their order."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        InvalidInputError: it is not valid JSON, in the strict sense above.
    """
    # Where a value was dropped, its key is missing: there are more quotes in the text than round
    # the texts of the value. To count them takes less than to look at each pair.
    try:
        value, end = _begin(text)
        if end == len(text) and "\\" not in text and text.count('"') == 2 * _count_texts(value):
            return value
    except (ValueError, RecursionError, InvalidInputError):
        pass  # what is wrong, or only unusual, is found out below
    return _told(STRICT.decode, text)


def _count_texts(value: Any) -> int:
    """How many texts a value holds, with the keys of its objects."""
    if type(value) is dict:
        found = len(value)
        value = value.values()
    elif type(value) is list:
        found = 0
    else:
        return int(type(value) is str)
    for part in value:
        kind = type(part)
        if kind is str:
            found += 1
        elif kind is dict or kind is list:
            found += _count_texts(part)
    return found


def load_json(text: str) -> Any:
    """The value of a JSON text of another tool, in the lenient sense above.

    Raises:
        InvalidInputError: it is no JSON.
    """
    return _told(LENIENT.decode, text)


def _told(decode: Callable[[str], Any], text: str) -> Any:
    """Decode, and tell what fails as a sentence."""
    try:
        return decode(text)
    except InvalidInputError:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, character" if "\n" in text else "character"
        raise InvalidInputError(f"not valid JSON ({error.msg}, {where} {error.colno})") from None
    except RecursionError:
        raise InvalidInputError("the JSON is nested too deeply") from None
    except ValueError:  # what Python limits: the digits of a whole number
        raise InvalidInputError("a number in the JSON has thousands of digits") from None


def parse_object(text: str, example: str) -> dict[str, Any]:
    """The object of a JSON text; `example` shows what was expected.

    Raises:
        InvalidInputError: it is not valid JSON, or no object.
    """
    value = parse_json(text)
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", bool: "a boolean"}.get(type(value), "a bare value")
        raise InvalidInputError(f"{kind} where an object was expected, such as {example}")
    return value
