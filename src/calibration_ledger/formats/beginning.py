"""How a file begins, and which formats begin so.

A file is told by its structure: its name says little, and is often changed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

from calibration_ledger.formats.base import Beginning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.formats.base import Format

HEAD = 2**16
"""Bytes of a file that are looked at."""


RECORDS_MAX = 50
"""Records that are looked at: some logs begin with a few that say nothing of calls."""


def beginning_of(name: str, head: bytes, tables: Iterable[str] = ()) -> Beginning:
    """The beginning of a file, from its name and its first bytes, or from its tables."""
    values = list(islice(_values(head.decode("utf-8-sig", "replace")), RECORDS_MAX))
    first = values[0] if values else None
    found = first if isinstance(first, list) else values
    records = tuple(one for one in found[:RECORDS_MAX] if isinstance(one, dict))
    return Beginning(name, head, first, frozenset(tables), records)


def _values(text: str) -> Iterator[Any]:
    """The JSON objects and lists that a text begins with; the first also where it is cut off."""
    decode = JSONDecoder().raw_decode
    at, is_first = _BLANK.match(text).end(), True  # type: ignore[union-attr]  # blanks may be none
    while text[at : at + 1] in _OPENS:
        try:
            value, at = decode(text, at)
        except (ValueError, RecursionError):
            if is_first:
                with suppress(ValueError, RecursionError):
                    yield decode(_closed(text[at:]))[0]
            return
        yield value
        is_first = False
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # as above


_BLANK = re.compile(r"\s*")
_OPENS = ("{", "[")
_PART = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],]', re.DOTALL)
"""A text, to its end or to that of the head, or what opens, closes and separates values."""

_CLOSES = {"{": "}", "[": "]"}


def _closed(text: str) -> str:
    """JSON that was cut off, up to its last whole value, with all that is open closed."""
    opened: list[str] = []
    whole = 0
    for part in _PART.finditer(text):
        mark = part[0]
        if mark in _CLOSES:
            opened.append(_CLOSES[mark])
        elif mark in "}]" and opened:
            opened.pop()
        elif mark != ",":
            continue
        whole = part.start() if mark == "," else part.end()
    return text[:whole] + "".join(reversed(opened))


def recognised(beginning: Beginning, formats: Iterable[Format]) -> list[Format]:
    """The formats that a file may be of.

    Our own are asked last: they take whatever has the common names, and a tool's file may.
    """
    found = [one for one in formats if one.is_it is not None and one.is_it(beginning)]
    return [one for one in found if one.kind != "own"] or found
