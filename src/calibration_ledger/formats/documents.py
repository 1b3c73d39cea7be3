"""The JSON values of another tool's file, one after the other, in constant memory.

Such files are JSON lines, one document, several documents one behind the other, or a list: each
member of a list at the top is a value by itself. Values are read leniently (see `load_json`): how
another tool writes its files cannot be mended here.
"""

from __future__ import annotations

import codecs
import json
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.json_text import load_json
from calibration_ledger.formats.row import BadRow
from calibration_ledger.formats.source import WHOLE_MAX, not_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.formats.base import Input

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
"""A text, which may hold brackets, or a bracket."""

_BETWEEN = re.compile(r"[\s,]*")
_BOM = b"\xef\xbb\xbf"
_BAD_LIST = "what follows is no JSON"
_TOO_LONG = f"the value is longer than {WHOLE_MAX} bytes"


def json_values(file: Input) -> Iterator[tuple[int, Any]]:
    """Each JSON value with its place; a `BadRow` for what is none.

    The place is the number of the line that the value begins in or, in a list, its number in order.

    Raises:
        ImportRefusedError: the file cannot be read, or is not JSON from somewhere on.
    """
    pieces = file.source.pieces()
    head = b""
    for piece in pieces:
        head = (head + piece).removeprefix(_BOM)
        if head.strip():
            break
    everything = chain((head,), pieces)
    if head.lstrip()[:1] == b"[":
        return _members(file, everything)
    return _values(everything)


# -- values, one behind the other -----------------------------------------------------------


def _values(pieces: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    """Values of a line each, or of several lines."""
    begun: list[bytes] = []  # the lines of a value that goes on
    start = depth = size = 0
    for number, line in _lines(pieces):
        if line is None:
            yield number, BadRow(_TOO_LONG)
            begun = []
            continue
        if not begun:
            if not line or line.isspace():
                continue
            value = _value(line)
            if not isinstance(value, BadRow) or not _goes_on(line):
                yield number, value
                continue
            begun, start, depth, size = [line], number, _depth(line), len(line)
            continue
        if line[:1] == b"{" and not isinstance(value := _value(line), BadRow):
            # Within a value no whole object begins at the margin: what began before was cut short.
            yield start, BadRow("the JSON ends in the middle")
            yield number, value
            begun = []
            continue
        begun.append(line)
        size += len(line)
        depth += _depth(line)
        if depth <= 0 or size > WHOLE_MAX:
            yield start, _value(b"\n".join(begun)) if depth <= 0 else BadRow(_TOO_LONG)
            begun = []
    if begun:
        yield start, BadRow("the JSON ends in the middle")


def _lines(pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is too long."""
    rest: list[bytes] = []
    number, length = 1, 0
    for piece in pieces:
        first, *more = piece.split(b"\n")
        length += len(first)
        if length <= WHOLE_MAX:
            rest.append(first)
        if not more:
            continue
        yield number, b"".join(rest) if length <= WHOLE_MAX else None
        last = more.pop()
        yield from enumerate(more, number + 1)
        number += len(more) + 1
        rest, length = [last], len(last)
    yield number, b"".join(rest) if length <= WHOLE_MAX else None


def _value(text: bytes) -> Any:
    try:
        return load_json(text.decode())
    except UnicodeDecodeError as error:
        return BadRow(not_text(error))
    except InvalidInputError as error:
        return BadRow(str(error))


def _goes_on(line: bytes) -> bool:
    """Whether a line that is no value begins one that goes on in the next."""
    return line.lstrip()[:1] in (b"{", b"[") and _depth(line) > 0


def _depth(line: bytes) -> int:
    """How many more brackets it opens than it closes."""
    depth = 0
    for token in _TOKEN.findall(line):
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
    return depth


# -- the members of a list ------------------------------------------------------------------


def _members(file: Input, pieces: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    """The members of lists, each decoded as soon as it is there as a whole."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    raw_decode = json.JSONDecoder().raw_decode
    text, at, number = "", 0, 0
    more = True
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at < len(text) and text[at] in "[]":
            at += 1
            continue
        try:
            value, end = raw_decode(text, at)
            # A number at the end may go on in the next piece.
            is_whole = end < len(text) or not more or isinstance(value, dict)
        except (ValueError, RecursionError):
            is_whole = False
        if is_whole:
            number += 1
            yield number, value
            at = end
            continue
        if not more:
            if at < len(text):
                file.refuse(None, f"{_BAD_LIST} behind value {number}. Nothing was recorded.")
            return
        if len(text) - at > WHOLE_MAX:
            file.refuse(None, f"{_BAD_LIST}, or {_TOO_LONG}, behind value {number}.")
        # Twice as much each time, so that a long value is not tried in every piece of it.
        found = [text[at:]]
        wanted, at = len(found[0]), 0
        while more and wanted >= 0:
            piece = next(pieces, None)
            more = piece is not None
            try:
                new = decode(piece or b"", final=not more)
            except UnicodeDecodeError as error:
                file.refuse(
                    None, f"{not_text(error)}. Nothing was recorded: save the file as UTF-8."
                )
            found.append(new)
            wanted -= len(new)
        text = "".join(found)
