"""How a file begins, and which formats begin so.

A file is told by its structure: its name says little, and is often changed.
"""

from __future__ import annotations

import re
from contextlib import suppress
from json import JSONDecoder
from typing import TYPE_CHECKING, Any

from calibration_ledger.formats.base import Beginning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calibration_ledger.formats.base import Format

HEAD = 2**16
"""Bytes of a file that are looked at."""


def beginning_of(name: str, head: bytes, tables: Iterable[str] = ()) -> Beginning:
    """The beginning of a file, from its name and its first bytes, or from its tables."""
    text = head.decode("utf-8-sig", "replace").lstrip()
    return Beginning(name, head, _first_value(text), frozenset(tables))


_PART = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\],]', re.DOTALL)
"""A text, to its end or to that of the head, or what opens, closes and separates values."""

_CLOSES = {"{": "}", "[": "]"}


def _first_value(text: str) -> Any:
    """The JSON object or list that a text begins with, as far as it goes; None for none."""
    if text[:1] not in _CLOSES:
        return None
    decode = JSONDecoder().raw_decode
    with suppress(ValueError, RecursionError):
        return decode(text)[0]
    with suppress(ValueError, RecursionError):
        return decode(_closed(text))[0]
    return None


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
