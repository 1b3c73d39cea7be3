"""Whether a SQLite file is sound: the engine's own check, and what it leaves out.

`PRAGMA integrity_check` skips a part of the file where the newest thing in the schema is a view.
A view has no page, so a 0 comes first in the list of pages to check, and SQLite takes that for the
mark of a partial check: without a word, it leaves out the free pages, and pages that nothing refers
to. But a free page that is also in use would be overwritten by the next call that needs one.
"""

from __future__ import annotations

import re
from contextlib import closing
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.storage.schema import VERSION_TABLE, readable_view
from calibration_ledger.storage.sqlite.connections import connect_reader, cut_page
from calibration_ledger.storage.sqlite.faults import faults_of
from calibration_ledger.storage.sqlite.forks import private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from calibration_ledger.storage.place import File

_CHECK = "PRAGMA integrity_check(100)"
_CHECK_FREE_LIST = "PRAGMA integrity_check(sqlite_schema)"
"""Of one table alone: with this one, the list of free pages is checked, too."""


def unsound_parts(place: File, timeout_s: float, read: Callable[[str], Sequence[Any]]) -> list[str]:
    """What is wrong with the file of a ledger; empty where all is well.

    Args:
        place: where it lies.
        timeout_s: how long to wait for others.
        read: runs one statement on a connection that only reads, and gives all its rows.

    Raises:
        LedgerError: it cannot be read.
    """
    found = complaints(read(_CHECK))
    ((free,),) = read("PRAGMA freelist_count")
    found += _copy_check(place, timeout_s) if free else complaints(read(_CHECK_FREE_LIST))
    ((page_size,),) = read("PRAGMA page_size")
    cut = cut_page(place.path, page_size)
    return [*dict.fromkeys(found), *cut, *damaged_parts(read(LIST_SCHEMA))]


def complaints(rows: Iterable[Any]) -> list[str]:
    """What the rows of one of SQLite's checks complain of, without "ok" and headings."""
    lines = [line for (text,) in rows for line in str(text).splitlines()]
    return [line for line in lines if line != "ok" and not line.startswith("***")]


def _copy_check(place: File, timeout_s: float) -> list[str]:
    """The complaints about a copy of the file without views, which is checked whole.

    Only a ledger whose tables were rebuilt or shortened has free pages, and needs it. The copy is
    a temporary file of SQLite's own, and in memory while it is small.
    """
    with (
        faults_of(place.shown, "read"),
        closing(private()) as copy,
    ):
        with connect_reader(place.path, timeout_s) as reader:
            reader.backup(copy)
        views = copy.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
        for (name,) in views:
            copy.execute('DROP VIEW "{}"'.format(name.replace('"', '""')))
        return complaints(copy.execute(_CHECK).fetchall())


# -- are the tables as expected? ------------------------------------------------------------
# What SQLite keeps of a table or a view is the statement that made it, and a bit that flips there
# can take a CHECK away without harming a row. The statements are compared word by word. Layout,
# quotes around names and the place of a constraint may differ: a table that a migration rebuilt, or
# that another version of SQLAlchemy wrote, is none the worse for that. Alembic is not needed.

LIST_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master"

_WORD = re.compile(r"""'(?:[^']|'')*'|"\w+"|[\w.]+|\S""")
_NUMBER = re.compile(r"_\d+\Z")


class Part(NamedTuple):
    """One table, index, view or trigger.

    Attributes:
        kind: which of them.
        table: the table that it belongs to; a table's or a view's own name.
        clauses: its statement; of a table each column, then each constraint, these sorted. Empty
            for an index that a constraint makes.
    """

    kind: str
    table: str
    clauses: tuple[str, ...]


def read_parts(rows: Iterable[tuple[Any, ...]]) -> dict[str, Part]:
    """The rows of `LIST_SCHEMA`, as parts by name."""
    parts = {}
    for kind, name, table, statement in rows:
        # The number of a constraint's index depends on the order of the constraints.
        key = _NUMBER.sub("", str(name)) if statement is None else str(name)
        parts[key] = Part(str(kind), str(table), _clauses(str(statement or "")))
    return parts


@lru_cache(maxsize=128)  # ledgers are made by the same few statements
def _clauses(statement: str) -> tuple[str, ...]:
    words = [
        word[1:-1] if word.startswith('"') and len(word) > 1 else word
        for word in _WORD.findall(statement)
    ]
    if words[:2] != ["CREATE", "TABLE"]:
        return (" ".join(words),)
    clauses: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth -= word == ")"
        if (word == "," and depth == 1) or (word in "()" and depth == 0):
            clauses.append([])
        elif word == "CONSTRAINT" and clauses[-1]:  # written with its column
            clauses.append([word])
        else:
            clauses[-1].append(word)
        depth += word == "("
    texts = [" ".join(clause) for clause in clauses]
    return tuple(sorted(texts, key=lambda text: text if text.startswith("CONSTRAINT ") else ""))


@cache
def expected_parts() -> Mapping[str, Part]:
    """Those of a new ledger."""
    from sqlalchemy.dialects import sqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    from calibration_ledger.storage.tables import metadata, version

    dialect = sqlite.dialect()
    with closing(private(":memory:")) as connection:
        for table in (*metadata.sorted_tables, version):
            connection.execute(str(CreateTable(table).compile(dialect=dialect)))
            for index in table.indexes:
                connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
        connection.execute(readable_view("sqlite"))
        return read_parts(connection.execute(LIST_SCHEMA))


def damaged_parts(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """What an audit minds: a part of the ledger that is missing or changed, and any trigger.

    Tables, indexes and views of the user's own beside them change no entry.

    Args:
        rows: those of `LIST_SCHEMA`.
    """
    found = read_parts(rows)
    expected = _expected_beside(found)
    missing = sorted(expected.keys() - found.keys())
    changed = sorted(name for name in expected.keys() & found if found[name] != expected[name])
    triggers = sorted(name for name, part in found.items() if part.kind == "trigger")
    return [
        *(f"{expected[name].kind} {name} is missing" for name in missing),
        *(_difference(name, found[name], expected[name]) for name in changed),
        *(f"trigger {name} is not the ledger's" for name in triggers),
    ]


def foreign_parts(rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """What is there besides, but for triggers; SQLite's own tables of statistics are nobody's."""
    found = read_parts(rows)
    others = sorted(found.keys() - expected_parts().keys())
    return [
        f"{found[name].kind} {name} is not the ledger's"
        for name in others
        if not name.startswith("sqlite_") and found[name].kind != "trigger"
    ]


def _expected_beside(found: Mapping[str, Part]) -> Mapping[str, Part]:
    """What is expected of these; Alembic's own table may be without a key, as some make it."""
    expected = expected_parts()
    with_key = expected[VERSION_TABLE]
    clauses = tuple(text for text in with_key.clauses if not text.startswith("CONSTRAINT "))
    if found.get(VERSION_TABLE) != with_key._replace(clauses=clauses):
        return expected
    return {name: part for name, part in expected.items() if part.table != VERSION_TABLE}


def _difference(name: str, found: Part, expected: Part) -> str:
    here = [text for text in found.clauses if text not in expected.clauses]
    there = [text for text in expected.clauses if text not in found.clauses]
    if found[:2] != expected[:2]:
        here, there = [f"a {found.kind} of {found.table}"], [f"a {expected.kind}"]
    elif not here and not there:
        here, there = ["its columns"], ["another order of them"]
    return (
        f"{expected.kind} {name} is not as this program made it: "
        f"{'; '.join(here) or 'nothing'} in place of {'; '.join(there) or 'nothing'}"
    )
