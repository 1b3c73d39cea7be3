"""Calls as CSV: one line of column names, quoted fields may hold line ends.

Fields are separated by commas, semicolons or tabs. Names that other tools use are understood.

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
from calibration_ledger.formats.names import Names, are_calls
from calibration_ledger.formats.row import REQUIRED, BadRow
from calibration_ledger.formats.source import LINE_MAX, Line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.formats.base import Beginning, Input, Placed

FIELD_MAX = 131_072
"""Characters to a field: what the csv module takes, unless some program had it take more."""

RECORD_LINES_MAX = 1_100
"""Lines to a record: a model name and a request id of nothing but line ends take 1,025."""

_UNCLOSED = "unexpected end of data"
"""What the csv module says of a record whose quoted field does not end."""

_TOKENS = re.compile(r"(-?[0-9]{1,15})(?:\.0*)?")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")

_VOIDED = {"true": True, "false": False}


def csv_rows(file: Input, *, keep_rest: bool = False) -> Iterator[Placed]:
    """Each row with the number of its first line; blank lines are none.

    Args:
        file: what to read.
        keep_rest: whether unknown columns go into the details.

    Raises:
        ImportRefusedError: the first line does not name the columns as it must.
    """
    table = Table(file, file.source.lines())
    names = table.names
    if not names:
        file.refuse(None, f"the file is empty: its first line must name {', '.join(REQUIRED)}.")
    try:
        known = Names(file, keep_rest=keep_rest, noun="column", are_texts=True)
        reader = known.reader(names)
    except InvalidInputError as error:
        file.refuse(table.line, f"{error}. The first line must name the columns.")
    if reader is None:
        _check_required(file, table)
    for number, values in table.rows():
        if isinstance(values, BadRow):
            yield number, values
            continue
        row = _own_row(values) if reader is None else _without_json(values)
        if reader is None or isinstance(row, BadRow):
            yield number, row
        elif (item := reader.item(row)) is not None:
            yield number, item
    known.tell()


def _check_required(file: Input, table: Table) -> None:
    required = REQUIRED if file.model is None else REQUIRED[1:]
    missing = [name for name in required if name not in table.names]
    if missing:
        file.refuse(table.line, f"there is no column {' nor '.join(missing)}: it is required.")


class Table:
    """A file of rows: the names of its columns, and then each row by them.

    Attributes:
        names: of the columns; empty for a file without a line.
        line: the line that has them.
    """

    def __init__(self, file: Input, lines: Iterator[Line]) -> None:
        """Read the names.

        Raises:
            ImportRefusedError: the first line is none of names.
        """
        self.names: list[str] = []
        self.line = 1
        self._lines = _Lines(lines)
        for number, fields in self._lines.records():
            if isinstance(fields, BadRow):
                file.refuse(number, f"{fields.reason}: this line must name the columns.")
            self.names, self.line = fields, number
            break
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            file.refuse(self.line, f"the column {twice} is there twice: rename or remove one.")

    def rows(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """Each row, with the number of its first line; an empty field is none."""
        names = self.names
        has_commas = self._lines.delimiter == ";"
        for number, fields in self._lines.records():
            if isinstance(fields, BadRow):
                yield number, fields
            elif len(fields) != len(names):
                found = f"{len(fields)} field{'s' * (len(fields) != 1)}"
                yield (
                    number,
                    BadRow(f"{found} where the first line names {len(names)} columns"),
                )
            else:
                if has_commas:
                    fields = [_with_point(field) for field in fields]  # noqa: PLW2901 - as read
                yield (
                    number,
                    {n: field for n, field in zip(names, fields, strict=True) if field != ""},
                )


_CERTAIN_COMMA = re.compile(r"(-?(?:0|[0-9]{4,})),([0-9]+)|(-?[0-9]{1,3}),([0-9]{1,2}|[0-9]{4,})")
"""A number that is written with a decimal comma for certain: 190,125 could be a thousand times
that. Only where columns are separated by semicolons, as comma and semicolon go together."""


def _with_point(field: str) -> str:
    return field.replace(",", ".") if _CERTAIN_COMMA.fullmatch(field) else field


def looks_like(beginning: Beginning) -> bool:
    """Whether the first line names the columns of calls, ours or others that are understood."""
    return are_calls(header(beginning))


def header(beginning: Beginning) -> list[str]:
    """The names in the first line of a file, if it is one of columns."""
    line = beginning.head.partition(b"\n")[0].decode("utf-8-sig", "replace")
    try:
        return _split(line, delimiter_of(line))
    except csv.Error:
        return []


class _Lines:
    """The records of lines; what separates their fields is told by the first."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self.delimiter = ""
        self._lines = lines
        self._waiting: deque[Line] = deque()

    def records(self) -> Iterator[tuple[int, list[str] | BadRow]]:
        lines, waiting = self._lines, self._waiting
        while True:
            line = waiting.popleft() if waiting else next(lines, None)
            if line is None:
                return
            if line.fault is not None:
                yield line.number, BadRow(line.fault)
                continue
            if not self.delimiter and not line.text.isspace():
                self.delimiter = delimiter_of(line.text)
            try:
                fields = _split(line.text, self.delimiter)
            except csv.Error as error:
                taken = deque([line])
                unclosed = str(error) == _UNCLOSED
                found = self._complete(taken) if unclosed else None
                if found is None:
                    reason = "a quote is opened and not closed" if unclosed else error
                    yield line.number, BadRow(f"not valid CSV: {reason}")
                    taken.popleft()
                    waiting.extendleft(reversed(taken))
                    continue
                fields = found
            if fields:
                yield line.number, fields

    def _complete(self, taken: deque[Line]) -> list[str] | None:
        """Take further lines until they close the quote; None where they do not."""
        size = len(taken[0].text)
        quotes = taken[0].text.count('"')
        while len(taken) < RECORD_LINES_MAX and size <= LINE_MAX:
            line = self._waiting.popleft() if self._waiting else next(self._lines, None)
            if line is None:
                return None
            taken.append(line)
            if line.fault is not None:
                return None
            size += len(line.text)
            quotes += line.text.count('"')
            if '"' in line.text and quotes % 2 == 0:
                try:
                    return _split("".join(part.text for part in taken), self.delimiter)
                except csv.Error:
                    return None
        return None


def delimiter_of(header: str) -> str:
    """What separates the most names in the first line; the comma, where there is one name."""
    counts = {}
    for sign in (",", ";", "\t"):
        try:
            counts[sign] = len(_split(header, sign))
        except csv.Error:
            counts[sign] = 0
    return max(counts, key=lambda sign: counts[sign])


def _split(text: str, delimiter: str) -> list[str]:
    """The fields of one record.

    Raises:
        csv.Error: it is none.
    """
    fields = next(csv.reader([text], strict=True, delimiter=delimiter or ","), [])
    if len(text) > FIELD_MAX and max(map(len, fields), default=0) > FIELD_MAX:
        raise csv.Error(f"field larger than field limit ({FIELD_MAX})")
    return fields


def _without_json(values: dict[str, Any]) -> dict[str, Any] | BadRow:
    """A row of texts with its JSON read: the columns `details` and `voided` of our own."""
    if "voided" in values:
        values["voided"] = _VOIDED.get(values["voided"], values["voided"])
    if "details" in values:
        try:
            values["details"] = parse_object(values["details"], '{"ttft_ms":80}')
        except InvalidInputError as error:
            return BadRow(str(error))
    return values


def _own_row(values: dict[str, Any]) -> dict[str, Any] | BadRow:
    """A row under our own names, its texts as what they must be."""
    try:
        for name in ("prompt_tokens", "completion_tokens"):
            if name in values:
                values[name] = _tokens(name, values[name])
        if "actual_ms" in values:
            values["actual_ms"] = _milliseconds(values["actual_ms"])
    except InvalidInputError as error:
        return BadRow(str(error))
    return _without_json(values)


def _tokens(name: str, field: str) -> int:
    found = _TOKENS.fullmatch(field)
    if found is None:
        raise InvalidInputError(f"{name} must be a whole number of tokens, not {field!r}")
    return int(found[1])


def _milliseconds(field: str) -> float:
    if _NUMBER.fullmatch(field) is None:
        raise InvalidInputError(f"actual_ms must be a number of milliseconds, not {field!r}")
    return float(field)
