"""The values of another tool's file, JSON or CSV, one after the other, in constant memory.

Such files are JSON lines, one document, several documents one behind the other, or a list: each
member of a list at the top is a value by itself. Values of other tools are read leniently (see
`load_json`): how those write their files cannot be mended here.
"""

from __future__ import annotations

import codecs
import csv
import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.csv import delimiter_of
from calibration_ledger.formats.json_text import LENIENT, STRICT, load_json, parse_json
from calibration_ledger.formats.row import BadRow
from calibration_ledger.formats.source import LINE_MAX, WHOLE_MAX, not_text

if TYPE_CHECKING:
    import json
    from collections.abc import Callable, Iterator

    from calibration_ledger.formats.base import Input

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\]]')
"""A text, which may hold brackets, or a bracket.

A text that is cut off goes to the end: to look for another from each of its quotes would take the
square of its length.
"""

_BLANK = re.compile(r"\s*")
_BETWEEN = re.compile(r"[\s,]*")
_BOM = b"\xef\xbb\xbf"
_DEPTH_MAX = 1_000
"""Lists within lists: a file of nothing but brackets would take for ever."""

_BAD_LIST = "what follows is no JSON"
_TOO_LONG = f"the value is longer than {WHOLE_MAX} bytes"
_ENDLESS = 8 * WHOLE_MAX


def json_values(file: Input, *, is_strict: bool = False) -> Iterator[tuple[int, Any]]:
    """Each JSON value with its place; a `BadRow` for what is none.

    The place is the number of the line that the value begins in or, in a list, its number in order.
    In files of the user's own, which are read strictly, a key that is there twice is no JSON.

    Raises:
        ImportRefusedError: the file cannot be read, or is not JSON from somewhere on.
    """
    begins, pieces = _begin(file)
    if begins == b"[":
        return _members(file, pieces, STRICT if is_strict else LENIENT)
    return _values(file, pieces, parse_json if is_strict else load_json)


def records(file: Input) -> Iterator[tuple[int, Any]]:
    """Each JSON value, or each row of a CSV file as an object of texts; see `json_values`.

    A field of a CSV file that is empty is left out. Fields may be as long as prompts are, on any
    number of lines.

    Raises:
        ImportRefusedError: the file cannot be read, or is not what it begins as.
    """
    begins, pieces = _begin(file)
    if begins == b"[":
        return _members(file, pieces, LENIENT)
    return _values(file, pieces, load_json) if begins in b"{" else _table(file, pieces)


def _begin(file: Input) -> tuple[bytes, Iterator[bytes]]:
    """The first byte that is not blank, and all pieces."""
    pieces = file.source.pieces()
    head = b""
    for piece in pieces:
        head = (head + piece).removeprefix(_BOM)
        if head.strip():
            break
        if len(head) > LINE_MAX:
            file.refuse(None, f"its first {LINE_MAX} bytes are blank. Nothing was recorded.")
    return head.lstrip()[:1], chain((head,), pieces)


# -- values, one behind the other -----------------------------------------------------------


def _values(
    file: Input, pieces: Iterator[bytes], parse: Callable[[str], Any]
) -> Iterator[tuple[int, Any]]:
    """Values of a line each, or of several lines."""
    begun: list[bytes] = []  # the lines of a value that goes on
    start = depth = size = 0
    for number, line in _apart(_lines(file, pieces)):
        if line is None:
            yield number, BadRow(_TOO_LONG)
            begun = []
            continue
        if not begun:
            if not line or line.isspace():
                continue
            value = _value(line, parse)
            if not isinstance(value, BadRow):
                yield number, value
                continue
            if not _goes_on(line):
                yield from ((number, one) for one in _several(line, value, parse))
                continue
            begun, start, depth, size = [line], number, _depth(line), len(line)
            continue
        if line[:1] == b"{" and not isinstance(value := _value(line, parse), BadRow):
            # Within a value no whole object begins at the margin: what began before was cut short.
            yield start, BadRow("the JSON ends in the middle")
            yield number, value
            begun = []
            continue
        begun.append(line)
        size += len(line)
        depth += _depth(line)
        if depth <= 0 or size > WHOLE_MAX:
            text = b"\n".join(begun)
            found = _each(text, parse) if depth <= 0 else [BadRow(_TOO_LONG)]
            yield from ((start, one) for one in found)
            begun = []
    if begun:
        yield start, BadRow("the JSON ends in the middle")


def _lines(file: Input, pieces: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers; None for one that is too long."""
    rest: list[bytes] = []
    number, length = 1, 0
    for piece in pieces:
        first, *more = piece.split(b"\n")
        length += len(first)
        if length <= WHOLE_MAX:
            rest.append(first)
        if length > _ENDLESS:  # of a device, say
            file.refuse(number, f"the line goes on for more than {_ENDLESS} bytes.")
        if not more:
            continue
        yield number, b"".join(rest) if length <= WHOLE_MAX else None
        last = more.pop()
        yield from enumerate(more, number + 1)
        number += len(more) + 1
        rest, length = [last], len(last)
    yield number, b"".join(rest) if length <= WHOLE_MAX else None


def _apart(
    lines: Iterator[tuple[int, bytes | None]],
) -> Iterator[tuple[int, bytes | None]]:
    """The lines, where a value of several lines begins behind the end of another, each its own.

    So do files look that have no end of line at their end, once they are joined.
    """
    for number, line in lines:
        if line is not None and line[:1] == b"}" and line[1:].lstrip()[:1] == b"{":
            yield number, b"}"
            yield number, line[1:]
        else:
            yield number, line


def _each(text: bytes, parse: Callable[[str], Any]) -> list[Any]:
    """The value of a text, or the objects in it that stand one behind the other."""
    value = _value(text, parse)
    return _several(text, value, parse) if isinstance(value, BadRow) else [value]


def _several(given: bytes, bad: BadRow, parse: Callable[[str], Any]) -> list[Any]:
    """The objects that stand one behind the other; `bad` where there is anything else."""
    found: list[Any] = []
    at = 0
    try:
        text = given.decode().strip()
        while text[at : at + 1] == "{":
            end = LENIENT.raw_decode(text, at)[1]
            found.append(parse(text[at:end]))
            at = _BLANK.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
    except (ValueError, RecursionError, InvalidInputError):
        return [bad]
    return found if found and at == len(text) else [bad]


def _value(text: bytes, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text.decode())
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


def _members(
    file: Input, pieces: Iterator[bytes], decoder: json.JSONDecoder
) -> Iterator[tuple[int, Any]]:
    """The members of lists, each decoded as soon as it is there as a whole."""
    file.unit = "record"
    decode = codecs.getincrementaldecoder("utf-8")()
    text, at, number, depth = "", 0, 0, 0
    more = True
    while True:
        at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        if at < len(text) and text[at] in "[]":
            depth += 1 if text[at] == "[" else -1
            at += 1
            if depth > _DEPTH_MAX:
                file.refuse(None, "the JSON is nested too deeply. Nothing was recorded.")
            continue
        try:
            found_one = _whole_value(decoder, text, at, more=more)
        except InvalidInputError as error:
            file.refuse(None, f"value {number + 1}: {error}. Nothing was recorded.")
        if found_one is not None:
            value, at = found_one
            number += 1
            yield number, value
            continue
        if not more:
            if at < len(text):
                file.refuse(None, f"{_BAD_LIST} behind value {number}. Nothing was recorded.")
            if depth > 0:
                yield number + 1, BadRow("the list has no end: the file was cut off")
            return
        if len(text) - at > WHOLE_MAX:
            file.refuse(None, f"{_BAD_LIST}, or {_TOO_LONG}, behind value {number}.")
        text, at = text[at:], 0
        text, more = _longer(file, decode, pieces, text)


def _longer(
    file: Input, decode: codecs.IncrementalDecoder, pieces: Iterator[bytes], text: str
) -> tuple[str, bool]:
    """Twice as much text, so that a long value is not tried in every piece of it.

    Gives the text, and whether there is more.
    """
    found = [text]
    wanted = len(text)
    more = True
    while more and wanted >= 0:
        piece = next(pieces, None)
        more = piece is not None
        try:
            new = decode.decode(piece or b"", final=not more)
        except UnicodeDecodeError as error:
            file.refuse(None, f"{not_text(error)}. Nothing was recorded: save the file as UTF-8.")
        found.append(new)
        wanted -= len(new)
    return "".join(found), more


def _whole_value(
    decoder: json.JSONDecoder, text: str, at: int, *, more: bool
) -> tuple[Any, int] | None:
    """The value at a place and where it ends; None where it may go on behind the text.

    Raises:
        InvalidInputError: it is one that a strict decoder refuses.
    """
    try:
        value, end = decoder.raw_decode(text, at)
    except InvalidInputError:
        raise
    except (ValueError, RecursionError):
        return None
    # A number at the end may go on in the next piece.
    return (value, end) if end < len(text) or not more or isinstance(value, dict) else None


# -- CSV ------------------------------------------------------------------------------------


def _table(file: Input, pieces: Iterator[bytes]) -> Iterator[tuple[int, Any]]:
    """The rows of a CSV file by the names of its first line."""
    # Raised for good, and never lowered: a prompt is longer than what csv takes by itself, and
    # other threads may be in the middle of a file.
    csv.field_size_limit(max(csv.field_size_limit(), WHOLE_MAX))
    # Strict, for a quote that is never closed would swallow the rows behind it.
    texts = _texts(file, pieces)
    first = next(texts, "")
    sign = delimiter_of(first)
    sign = sign if sign in first else ","
    table = csv.reader(chain((first,), texts), strict=True, delimiter=sign)
    try:
        names = next(table, [])
    except csv.Error as error:
        file.refuse(1, f"not valid CSV: {error}: the first line must name the columns.")
    place = table.line_num + 1
    while True:
        try:
            fields = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            yield place, BadRow(f"not valid CSV: {error}")
        else:
            if len(fields) == len(names):
                yield place, {n: f for n, f in zip(names, fields, strict=True) if f}
            elif fields:
                yield place, BadRow(f"{len(fields)} fields where the first line names {len(names)}")
        place = table.line_num + 1


def _texts(file: Input, pieces: Iterator[bytes]) -> Iterator[str]:
    """The lines of a CSV file."""
    for number, line in _lines(file, pieces):
        if line is None:
            file.refuse(number, f"the line is longer than {WHOLE_MAX} bytes.")
        yield line.decode("utf-8", "surrogateescape") + "\n"
