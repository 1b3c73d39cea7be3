"""Words planted in the text fields of files of other tools, to see which of them go where.

A file becomes a tree (JSON, the rows of a CSV file, the tables of a database), whose texts are its
*fields*. A text that is JSON itself is a part of the tree. A field's name has no numbers of list
items in it: the same field of all records has one name, and gets one word.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORD = re.compile(rb"quetzal\d{4}", re.IGNORECASE)

FURTHER = ("prompt", "user", "api_base", "api_key")
"""Members that an object may have besides: they are planted where it lacks them."""

_TYPED = {"stringValue", "arrayValue", "kvlistValue"}
"""What names the type of a value in OpenTelemetry's JSON, and not the value."""

_SQLITE = b"SQLite format 3\0"


def word(number: int) -> str:
    return f"quetzal{number:04d}"


def instead(_: str | None, planted: str) -> str:
    """As a secret, a sentence and an address, in place of the text."""
    return f"{planted} sk-{planted} https://{planted}.example/v1"


def behind(text: str | None, planted: str) -> str:
    return f"{text or ''}{planted}"


class Sample:
    """A file of another tool, and what it says in texts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        if path.suffix == ".sql" or data.startswith(_SQLITE):
            self._kind, self._tree = "database", None
        elif path.suffix in {".csv", ".tsv"}:
            self._kind, self._tree = "csv", list(csv.DictReader(io.StringIO(data.decode())))
        else:
            self._kind, self._tree = _json_of(data.decode())

    def name(self) -> str:
        """A file name that says no more than what is in it."""
        ending = {"database": "db", "csv": self.path.suffix[1:], "lines": "jsonl"}
        return f"sample.{ending.get(self._kind, 'json')}"

    def write(self, target: Path, plant: Callable[..., str | None]) -> None:
        """Write it anew, with each text as `plant` gives it for the field's name and its text.

        Of a member of `FURTHER` that an object lacks, the text is None, and so is what it gives
        where the member shall stay away.
        """
        if self._kind == "database":
            _write_database(self.path, target, plant)
            return
        tree = _planted(self._tree, (), plant)
        if self._kind == "csv":
            buffer = io.StringIO()
            writer = csv.DictWriter(buffer, list(tree[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(tree)
            text = buffer.getvalue()
        elif self._kind == "lines":
            text = "".join(json.dumps(record) + "\n" for record in tree)
        else:
            text = "\n".join(json.dumps(record, indent=2) for record in tree) + "\n"
        target.write_text(text, encoding="utf-8")

    def fields(self, scratch: Path) -> list[tuple[str, ...]]:
        """The names of all fields, in order."""
        names: dict[tuple[str, ...], None] = {}

        def note(name: tuple[str, ...], text: str | None) -> str | None:
            names[name] = None
            return text

        self.write(scratch, note)
        return list(names)


def _json_of(text: str) -> tuple[str, list[Any]]:
    """JSON lines, or one document, or several one behind the other."""
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return "lines", [json.loads(line) for line in lines]
    except ValueError:
        pass
    documents, decoder, end = [], json.JSONDecoder(), 0
    while end < len(text.rstrip()):
        start = end + len(text[end:]) - len(text[end:].lstrip())
        document, end = decoder.raw_decode(text, start)
        documents.append(document)
    return "documents", documents


def _planted(value: Any, name: tuple[str, ...], plant: Callable[..., Any]) -> Any:
    if isinstance(value, str):
        if value[:1] in {"{", "["}:
            try:
                return json.dumps(_planted(json.loads(value), name, plant))
            except ValueError:
                pass
        return plant(name, value)
    if isinstance(value, list):
        return [_planted(part, name, plant) for part in value]
    if isinstance(value, dict):
        if set(value) == {"key", "value"}:  # an attribute of OpenTelemetry
            inner = (*name, str(value["key"]))
            return {"key": value["key"], "value": _planted(value["value"], inner, plant)}
        planted = {
            key: _planted(part, name if key in _TYPED else (*name, key), plant)
            for key, part in value.items()
        }
        is_record = not all(isinstance(part, dict) for part in value.values())
        lacking = [key for key in FURTHER if is_record and key not in value]
        further = {key: plant((*name, key), None) for key in lacking}
        return planted | {key: text for key, text in further.items() if text is not None}
    return value


def _write_database(source: Path, target: Path, plant: Callable[..., Any]) -> None:
    for left in target.parent.glob(target.name + "*"):
        left.unlink()
    if source.suffix != ".sql":
        shutil.copyfile(source, target)
        target.chmod(0o600)
    database = sqlite3.connect(target)
    if source.suffix == ".sql":
        database.executescript(source.read_text(encoding="utf-8"))
    find = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    for (table,) in database.execute(find).fetchall():
        _plant_in_table(database, table, plant)
    database.commit()
    database.close()


def _plant_in_table(database: sqlite3.Connection, table: str, plant: Callable[..., Any]) -> None:
    quoted = '"' + table.replace('"', '""') + '"'
    try:
        found = database.execute(f"SELECT rowid, * FROM {quoted}")
    except sqlite3.OperationalError:  # without a rowid: one of SQLite's own
        return
    columns = [column[0] for column in found.description][1:]
    for rowid, *row in found.fetchall():
        for column, value in zip(columns, row, strict=True):
            if isinstance(value, str):
                new = _planted(value, (table, column), plant)
                if new != value:
                    # A column of words that differ, or that must be known ones, keeps those.
                    database.execute(
                        f'UPDATE OR IGNORE {quoted} SET "{column}" = ? WHERE rowid = ?',
                        (new, rowid),
                    )


def words_in(folder: Path) -> set[str]:
    """The words in all bytes of a folder's files."""
    return {
        found.decode().lower()
        for path in folder.rglob("*")
        if path.is_file()
        for found in WORD.findall(_bytes_of(path))
    }


def _bytes_of(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
