"""Rows found page by page in the file of a ledger, without the tree that leads to them.

When a page near the root of a table is damaged, or the first page of the file, whole pages of rows
behind it are sound and out of reach for SQLite. A row can be told by its shape: no two tables of
a ledger have as many columns of the same types. What is found goes into a temporary database with
the tables of a ledger, to be read like one.

The file is read by another process: this one must never close a descriptor of it, for that would
drop the locks that SQLite holds. What is still in the write-ahead log is not seen.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from calibration_ledger.storage.sqlite.forks import private

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

PAGE_BYTES = 4096
"""The size of a page where the first one, which says so, is lost: SQLite's default."""

# Writes a file to its stdout, or to another file, page by page. A page that the disk cannot give
# becomes zeros. One that the file's end cuts off stays short: zeros would pass for its rows' ends.
_READER = """
import os, sys
path, size, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
target = open(sys.argv[4], "wb") if sys.argv[4:] else sys.stdout.buffer
file = os.open(path, os.O_RDONLY)
at, end = 0, min(os.fstat(file).st_size, most)
while at < end:
    try:
        page = os.pread(file, size, at)
    except OSError:
        page = b""
    target.write(page.ljust(min(size, end - at), b"\\0"))
    at += size
target.flush()
"""

_SCHEMA = """
CREATE TABLE models (id INTEGER PRIMARY KEY, model);
CREATE TABLE calibrations (model_id INTEGER PRIMARY KEY, last_seq);
CREATE TABLE adjustments (model_id, seq, kind, voids, PRIMARY KEY (model_id, seq))
    WITHOUT ROWID;
CREATE TABLE calls (model_id, seq, called_at, prompt_tokens, completion_tokens, actual_ms,
    predicted_ms, outcome, PRIMARY KEY (model_id, seq)) WITHOUT ROWID;
CREATE TABLE call_details (model_id, seq, request_id, details,
    PRIMARY KEY (model_id, seq)) WITHOUT ROWID;
"""

_INSERTS = {
    "models": "INSERT OR IGNORE INTO models VALUES (?, ?)",
    "calibrations": "INSERT OR IGNORE INTO calibrations VALUES (?, ?)",
    "adjustments": "INSERT OR IGNORE INTO adjustments VALUES (?, ?, ?, ?)",
    "calls": "INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "call_details": "INSERT OR IGNORE INTO call_details VALUES (?, ?, ?, ?)",
}

_INDEX_LEAF, _INDEX_INNER, _TABLE_LEAF = 0x0A, 0x02, 0x0D
_DOUBLE = struct.Struct(">d")
_SHORT = struct.Struct(">H")

# By SQLite's serial types 0 to 9: NULL, integers of six sizes, a float, 0 and 1. Above, even ones
# are blobs and odd ones texts.
_FIXED_BYTES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_INTEGER, _BYTES, _NULL, _FLOAT, _ONE = range(5)
_READ_AS = (_NULL, *[_INTEGER] * 6, _FLOAT, _INTEGER, _ONE)
_CONVERT: tuple[Callable[[bytes], Any], ...] = (
    lambda data: int.from_bytes(data, "big", signed=True),
    lambda data: data,
    lambda _: None,
    lambda data: _DOUBLE.unpack(data)[0],
    lambda _: 1,
)
_KINDS = frozenset({b"opened", b"imported", b"reset", b"recalibrated", b"archived", b"voided"})
_TIMEOUT = b"timeout"
_VOIDS = 18
"""The place of `voids` in a row of `adjustments`."""

_HEAD_BYTES = 32
"""Of SHA-256."""

_TIMES = 2**40
"""Times in microseconds are larger, and no model has so many entries."""

_REVISION = re.compile(rb"[0-9]{4}")
"""What the index over the revisions holds: it has the shape of the one over the names."""

_FIRST_HEADER = 100
"""Bytes at the start of the file, before the content of its first page."""

_PAGE_HEADER = 8
"""Bytes at the start of a page, at least, before those that say where its cells lie."""


def harvest(
    path: Path, page_bytes: int = PAGE_BYTES, most_bytes: int = sys.maxsize
) -> sqlite3.Connection:
    """A temporary database, to be closed, with every row found in the first part of a file."""
    found = private()
    try:
        found.executescript(_SCHEMA)
        found.execute("BEGIN")
        for number, page in enumerate(_pages(path, page_bytes, most_bytes)):
            rows: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
            for table, row in _rows(page, _FIRST_HEADER if number == 0 else 0):
                rows[table].append(row)
            for table, some in rows.items():
                found.executemany(_INSERTS[table], some)
        found.execute("COMMIT")
    except BaseException:
        found.close()
        raise
    return found


def copy_start(
    path: Path, target: Path, page_bytes: int = PAGE_BYTES, most_bytes: int = sys.maxsize
) -> None:
    """Copy the first part of a file.

    Raises:
        OSError: it cannot be copied.
    """
    done = subprocess.run(  # noqa: S603 - our own program, on the user's own file
        [*_reader(path, page_bytes, most_bytes), os.fspath(target)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])


def _reader(path: Path, page_bytes: int, most_bytes: int) -> list[str]:
    command = [sys.executable, "-I", "-S", "-c", _READER]
    return [*command, os.fspath(path), str(page_bytes), str(most_bytes)]


def _pages(path: Path, page_bytes: int, most_bytes: int) -> Iterator[bytes]:
    if not sys.executable:
        return  # Python inside of another program: there is none to start
    with subprocess.Popen(  # noqa: S603 - our own program, on the user's own file
        _reader(path, page_bytes, most_bytes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        while page := process.stdout.read(page_bytes):
            yield page


def _rows(page: bytes, start: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of a page by their tables; none where it is of another kind, or damaged.

    A page may be shorter than it was: then those rows that lie in it as a whole.
    """
    if len(page) < start + _PAGE_HEADER:
        return
    kind = page[start]
    if kind not in {_INDEX_LEAF, _INDEX_INNER, _TABLE_LEAF}:
        return
    pointers = start + (12 if kind == _INDEX_INNER else _PAGE_HEADER)
    (cells,) = _SHORT.unpack_from(page, start + 3)
    if pointers + 2 * cells > len(page):
        return
    for at in range(pointers, pointers + 2 * cells, 2):
        (cell,) = _SHORT.unpack_from(page, at)
        try:
            row_id, values = _record(page, cell, kind)
            found = _recognise(values) if row_id is None else _recognise_keyed(row_id, values)
        except (IndexError, struct.error, ValueError):
            continue
        if found is not None:
            yield found


def _record(page: bytes, at: int, kind: int) -> tuple[int | None, list[Any]]:
    """The key and the values of one cell.

    Raises:
        ValueError: it is damaged, or goes on on other pages.
    """
    row_id = None
    if kind == _INDEX_INNER:
        at += 4  # the page below
    size, at = _varint(page, at)
    if kind == _TABLE_LEAF:
        row_id, at = _varint(page, at)
    end = at + size
    if end > len(page):
        raise ValueError
    header, _ = _varint(page, at)
    at += header
    used, values = 0, []
    for reading, first, last in _layout(page[at - header : at]):
        data = page[at + first : at + last]
        values.append(_CONVERT[reading](data))
        used = last
    if at + used != end:
        raise ValueError
    return row_id, values


def _varint(page: bytes, at: int) -> tuple[int, int]:
    value = 0
    for count in range(9):
        byte = page[at]
        at += 1
        if count == 8:  # noqa: PLR2004 - the ninth byte counts whole
            return value << 8 | byte, at
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - no further byte follows
            break
    return value, at


@lru_cache(maxsize=1024)
def _layout(header: bytes) -> tuple[tuple[int, int, int], ...]:
    """How the values behind a header lie: (how to read it, where it begins, where it ends).

    The rows of a table have few different headers, and working one out takes most of the time.
    """
    layout: list[tuple[int, int, int]] = []
    _, at = _varint(header, 0)
    first = 0
    while at < len(header):
        code, at = _varint(header, at)
        if code in {10, 11}:
            raise ValueError("a type that SQLite does not use")
        last = first + (_FIXED_BYTES[code] if code < len(_FIXED_BYTES) else (code - 12) // 2)
        layout.append((_READ_AS[code] if code < len(_READ_AS) else _BYTES, first, last))
        first = last
    if at != len(header) or not layout:
        raise ValueError("a header that does not end where it says")
    return tuple(layout)


def _recognise(values: list[Any]) -> tuple[str, tuple[Any, ...]] | None:
    """A row of an index, or of a table that is clustered by its key: by its shape."""
    match values:
        case [int(), int(), int(), int(), int(), int() | float(), int() | float(), *outcome] if (
            outcome in ([], [None], [_TIMEOUT])  # rows of an older ledger have none
        ):
            # SQLite stores a float without a fraction as an integer.
            return "calls", (*values[:5], float(values[5]), float(values[6]), *(outcome or [None]))
        case [int(), int(), bytes() | None, bytes() | None, bytes() | None] if (
            values[1] < _TIMES  # what has a time there is an alias
        ):
            return "call_details", (*values[:2], *values[3:])
        case [int(), int(), bytes(), int(), bytes(), *_] if values[2] in _KINDS:
            # A ledger that is older than the kind has no column for it.
            voids = values[_VOIDS] if len(values) > _VOIDS else None
            return "adjustments", (*values[:3], voids)
        case [bytes(), int()] if not _REVISION.fullmatch(values[0]):
            return "models", (values[1], values[0])  # the index over their names
    return None


def _recognise_keyed(row_id: int, values: list[Any]) -> tuple[str, tuple[Any, ...]] | None:
    """A row of a table with a row id, which stands for its first column."""
    match values:
        case [None, bytes()]:
            return "models", (row_id, values[1])
        case [None, bytes(), *_, int() as last_seq, bytes() as head] if len(head) == _HEAD_BYTES:
            return "calibrations", (row_id, last_seq)  # written before there were aliases
        case [None, bytes(), *_, int() as last_seq, bytes() as head, int() | None] if (
            len(head) == _HEAD_BYTES
        ):
            return "calibrations", (row_id, last_seq)
    return None
