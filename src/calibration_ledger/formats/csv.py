"""Calls as CSV: commas, one line of column names, quoted fields may hold line ends.

A quote that is never closed must not swallow the rows behind it: the record it opens is given up
as one bad line, and reading goes on with the next.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.json_text import parse_object
from calibration_ledger.formats.row import REQUIRED, BadRow, check_names
from calibration_ledger.formats.source import LINE_MAX, Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.formats.base import Beginning, Input, Placed

RECORD_LINES_MAX = 1_100
"""Lines to a record: a model name and a request id of nothing but line ends take 1,025."""

_UNCLOSED = "unexpected end of data"
"""What the csv module says of a record whose quoted field does not end."""

_TOKENS = re.compile(r"(-?[0-9]{1,15})(?:\.0*)?")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")

_VOIDED = {"true": True, "false": False}


def csv_rows(file: Input) -> Iterator[Placed]:
    """Each row with the number of its first line; blank lines are none.

    Raises:
        ImportRefusedError: the first line does not name the columns as it must.
    """
    names: list[str] | None = None
    for number, fields in _records(file.source.lines()):
        if names is None:
            if isinstance(fields, BadRow):
                file.refuse(number, f"{fields.reason}: this line must name the columns.")
            names = _check_header(file, number, fields)
        elif isinstance(fields, BadRow):
            yield number, fields
        else:
            yield number, _row(names, fields)
    if names is None:
        file.refuse(None, f"the file is empty: its first line must name {', '.join(REQUIRED)}.")


def looks_like(beginning: Beginning) -> bool:
    """Whether the first line names our own columns; the model may come from outside."""
    line = beginning.head.partition(b"\n")[0].decode("utf-8-sig", "replace")
    try:
        names = _split(line)
    except csv.Error:
        return False
    return all(name in names for name in REQUIRED[1:])


def _check_header(file: Input, number: int, names: list[str]) -> list[str]:
    try:
        check_names(names, "column")
    except InvalidInputError as error:
        file.refuse(number, f"{error}. The first line must name the columns.")
    required = REQUIRED if file.model is None else REQUIRED[1:]
    missing = [name for name in required if name not in names]
    if missing:
        file.refuse(number, f"there is no column {' nor '.join(missing)}: it is required.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        file.refuse(number, f"the column {twice} is there twice: rename or remove one.")
    return names


def _records(lines: Iterator[Line]) -> Iterator[tuple[int, list[str] | BadRow]]:
    waiting: deque[Line] = deque()
    while True:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            return
        if line.fault is not None:
            yield line.number, BadRow(line.fault)
            continue
        try:
            fields = _split(line.text)
        except csv.Error as error:
            taken = deque([line])
            unclosed = str(error) == _UNCLOSED
            found = _complete(taken, waiting, lines) if unclosed else None
            if found is None:
                reason = "a quote is opened and not closed" if unclosed else error
                yield line.number, BadRow(f"not valid CSV: {reason}")
                taken.popleft()
                waiting.extendleft(reversed(taken))
                continue
            fields = found
        if fields:
            yield line.number, fields


def _complete(taken: deque[Line], waiting: deque[Line], lines: Iterator[Line]) -> list[str] | None:
    """Take further lines until they close the quote; None where they do not."""
    size = len(taken[0].text)
    quotes = taken[0].text.count('"')
    while len(taken) < RECORD_LINES_MAX and size <= LINE_MAX:
        line = waiting.popleft() if waiting else next(lines, None)
        if line is None:
            return None
        taken.append(line)
        if line.fault is not None:
            return None
        size += len(line.text)
        quotes += line.text.count('"')
        if '"' in line.text and quotes % 2 == 0:
            try:
                return _split("".join(part.text for part in taken))
            except csv.Error:
                return None
    return None


def _split(text: str) -> list[str]:
    """The fields of one record.

    Raises:
        csv.Error: it is none.
    """
    return next(csv.reader([text], strict=True), [])


def _row(names: list[str], fields: list[str]) -> dict[str, Any] | BadRow:
    if len(fields) != len(names):
        fields_found = f"{len(fields)} field{'s' * (len(fields) != 1)}"
        return BadRow(f"{fields_found} where the first line names {len(names)} columns")
    values: dict[str, Any] = {
        name: field for name, field in zip(names, fields, strict=True) if field != ""
    }
    try:
        for name in ("prompt_tokens", "completion_tokens"):
            if name in values:
                values[name] = _tokens(name, values[name])
        if "actual_ms" in values:
            values["actual_ms"] = _milliseconds(values["actual_ms"])
        if "details" in values:
            values["details"] = parse_object(values["details"], '{"ttft_ms":80}')
        if "voided" in values:
            values["voided"] = _VOIDED.get(values["voided"], values["voided"])
    except InvalidInputError as error:
        return BadRow(str(error))
    return values


def _tokens(name: str, field: str) -> int:
    found = _TOKENS.fullmatch(field)
    if found is None:
        raise InvalidInputError(f"{name} must be a whole number of tokens, not {field!r}")
    return int(found[1])


def _milliseconds(field: str) -> float:
    if _NUMBER.fullmatch(field) is None:
        raise InvalidInputError(f"actual_ms must be a number of milliseconds, not {field!r}")
    return float(field)
