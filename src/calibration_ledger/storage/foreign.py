"""A SQLite database of another tool: what is wanted of it is taken out at once, in one snapshot.

Its owner must not notice. So what the tables shall give is noted first; then one transaction takes
it into a private temporary database, in C, and lets go of the file. Reading on from there takes as
long as it likes: a transaction kept open meanwhile would keep the owner of a database without a
write-ahead log from committing.

Nothing is left beside the file. SQLite would put a log beside a database in WAL mode that nobody
has open, so there are four ways to read one:

- `locked`: without a write-ahead log, under SQLite's shared lock;
- `beside`: with the log and the index of a running owner, which are not written to;
- `still`: in WAL mode without a log: nobody has it open, so that the file is taken as immutable;
- `copy`: with a log (or a journal) that a killed owner left, which a reader may not roll back: a
  private copy of both files is opened instead.

The last two take no lock, so they are only good if the files are the same before and after.

What cannot be taken out in a second of SQLite's shared lock is read page by page, and the owner may
commit between two. If it does, the pages are no snapshot, and reading begins anew; after three
times, the owner has to wait once, though never as long as it takes to give up.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import stat
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep, time_ns
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from calibration_ledger.errors import ImportRefusedError, NotRecordedError
from calibration_ledger.storage.sqlite.connections import uri
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS, code_of
from calibration_ledger.storage.stage import Temporary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import NoReturn

    Columns: TypeAlias = Mapping[str, frozenset[str]]
    """The columns of each table, in lower case, as SQLite compares names."""

_BUSY_S = 5.0
"""How long to wait for an owner that is writing: as long as SQLite's driver does by itself."""

_ATTEMPTS = 20
"""How often a file is looked at again that changed while it was read without a lock."""

_DOUBTS = 3
"""How often such a file may look damaged."""

_PAUSE_S = 0.05

_HEADER_BYTES, _MODE_AT = 100, 18
_MAGIC, _WAL = b"SQLite format 3\0", 2

_FINE_NS, _COARSE_NS = 20_000_000, 2_000_000_000
"""A file changed that short a time ago could change again and keep its time: the clock of a file
system ticks every few ms, that of an older one every one or two seconds."""

_KEY = re.compile(r"[^\"\\\x00-\x1f]+")
"""What a key in a path may be: what SQLite takes between quotes."""

_HOLD_S = 1.0
"""How long the owner of a database without a write-ahead log may be kept from committing: most
wait 5 s before they give up. What takes longer is read page by page."""

_CHANGES = 3
"""How often reading page by page is begun anew before the owner is made to wait for once."""

_HOLD_ONCE_S = 4.0
"""How long, at the most: it waits 5 s by default, in Python and in most other languages."""

_PAGE_S = 0.1
"""How long a page may take. Its rows are fitted to that."""

_PAGE_ROWS = 200
"""The rows of the first page."""

Way: TypeAlias = Literal["locked", "beside", "still", "copy"]


class _Changed(Exception):  # noqa: N818 - a signal inside the module, not an error
    """The owner wrote to it between two pages."""


class _Wanted(NamedTuple):
    """What `ForeignDatabase.rows` was asked for."""

    table: str
    columns: Sequence[str]
    order_by: str | None
    each: Sequence[str]
    beside: tuple[str, str, str] | None


class ForeignDatabase(Temporary):
    """A database of another tool, see `formats.base.Database`; `with` closes it.

    Raises:
        ImportRefusedError: it is no SQLite database, or cannot be read.
    """

    def __init__(self, path: Path, name: str, timeout_s: float = _BUSY_S) -> None:
        """Look at its tables.

        Args:
            path: where it lies.
            name: how it is shown.
            timeout_s: how long to wait for an owner that is writing.
        """
        self._name = name
        self._wanted: list[_Wanted] = []
        self._is_taken = self._is_long = False
        self._hold_s, self._changes = _HOLD_S, 0
        self._path = self._checked(path)
        super().__init__()
        try:
            self._execute("COMMIT")
            self._execute("PRAGMA journal_mode=MEMORY")  # what fails halfway is begun again
            self._execute(f"PRAGMA busy_timeout={round(timeout_s * 1000)}")
            # What is no UTF-8 shall not end the reading.
            self._connection.text_factory = partial(str, encoding="utf-8", errors="replace")
            self._columns: Columns = {}
            self._run(self._read, lambda _: None)
        except BaseException:
            self._connection.close()
            raise

    def has(self, table: str, *columns: str) -> bool:
        """See `formats.base.Database`."""
        known = self._columns.get(table.lower())
        return known is not None and known.issuperset(name.lower() for name in columns)

    def tables(self) -> frozenset[str]:
        """See `formats.base.Database`."""
        return frozenset(self._columns)

    def rows(
        self,
        table: str,
        columns: Sequence[str],
        *,
        order_by: str | None = None,
        each: Sequence[str] = (),
        beside: tuple[str, str, str] | None = None,
    ) -> Iterator[tuple[Any, ...]]:
        """See `formats.base.Database`."""
        if self._is_taken:
            raise RuntimeError("ask for the rows of all tables before the first row is read")
        self._wanted.append(_Wanted(table, columns, order_by, each, beside))
        return self._given(len(self._wanted) - 1)

    def _given(self, number: int) -> Iterator[tuple[Any, ...]]:
        """The rows that were asked for as this number."""
        if not self._is_taken:
            self._is_taken = True
            self._run(self._read, self._take)
        wanted = self._wanted[number]
        order = "" if wanted.order_by is None else f" ORDER BY {_place(wanted) + 1}"
        yield from _unpacked(wanted, self._rows(f"SELECT * FROM main.taken_{number}{order}"))

    # -- the snapshot ---------------------------------------------------------------------

    def _read(self, work: Any) -> None:
        """Run `work` with the database attached, in one transaction.

        All of it is one step, between any two forks: see `storage.sqlite.forks`.
        """
        way: Way | None = None
        for number in range(_ATTEMPTS):
            try:
                way = way or self._way()
                with self._attached(way) as seen:
                    self._columns = self._described()
                    work(way)
                if seen is None or seen == self._seen(way):
                    return
                way = None
            except DRIVER_ERRORS as error:
                way = self._way_after(error, way, number)
            except _Changed:
                self._changes += 1
                if self._changes == _CHANGES:
                    self._is_long, self._hold_s = False, _HOLD_ONCE_S
            except FileNotFoundError:  # a log whose owner closed the database just now
                way = None
            except OSError as error:
                self._refuse(f"the file cannot be read: {error.strerror}")
            sleep(_PAUSE_S)
        self._refuse(_ALWAYS_WRITTEN)

    def _take(self, way: Way) -> None:
        """Take out what was asked for."""
        statements = [_statement(wanted, self._columns) for wanted in self._wanted]
        for number in range(len(statements)):
            self._connection.execute(f"DROP TABLE IF EXISTS main.taken_{number}")
        if self._is_long and way == "locked":
            self._take_by_pages(statements)
            return
        end = monotonic() + self._hold_s
        if way == "locked":
            self._connection.set_progress_handler(lambda: monotonic() > end, 1_000)
        try:
            for number, (text, values) in enumerate(statements):
                self._connection.execute(f"CREATE TABLE main.taken_{number} AS {text}", values)
        finally:
            self._connection.set_progress_handler(None, 0)

    def _take_by_pages(self, statements: Sequence[tuple[str, list[str]]]) -> None:
        """The same in many short transactions, which are one snapshot if nobody writes between.

        Raises:
            _Changed: somebody did.
        """
        execute = self._connection.execute
        ((version,),) = execute("PRAGMA theirs.data_version")
        size = _PAGE_ROWS
        for number, (text, values) in enumerate(statements):
            execute(f"CREATE TABLE main.taken_{number} AS {text} LIMIT 0", values)
            table = self._wanted[number].table
            if table.lower() not in self._columns:
                continue
            last: int | None = None
            while True:
                execute("COMMIT")  # lets the owner in
                execute("BEGIN")
                begin = monotonic()
                ((through, found),) = execute(
                    f"SELECT max(rowid), count(*) FROM (SELECT rowid FROM theirs.{_quoted(table)}"
                    f" WHERE ? IS NULL OR rowid > ? ORDER BY rowid LIMIT ?)",
                    (last, last, size),
                )
                if execute("PRAGMA theirs.data_version").fetchone() != (version,):
                    raise _Changed
                if not found:
                    break
                execute(
                    f"INSERT INTO main.taken_{number} {text}"
                    f" WHERE t.rowid <= ? AND (? IS NULL OR t.rowid > ?)",
                    [*values, through, last, last],
                )
                last = through
                took_s = monotonic() - begin
                size = max(1, min(2 * size, round(size * _PAGE_S / max(took_s, 1e-3))))

    def _described(self) -> Columns:
        """The tables of the database, without those that only other programs' code can read."""
        execute = self._connection.execute
        names = execute(
            "SELECT name FROM theirs.sqlite_master WHERE type = 'table'"
            " AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
            " AND coalesce(sql, '') NOT LIKE 'CREATE VIRTUAL%'"
        ).fetchall()
        return {
            str(name).lower(): frozenset(
                str(column).lower()
                for (column,) in execute(
                    "SELECT name FROM pragma_table_xinfo(?, 'theirs') WHERE hidden <> 1",
                    (str(name),),
                )
            )
            for (name,) in names
        }

    @contextmanager
    def _attached(self, way: Way) -> Iterator[object]:
        """Attach the database and begin a transaction; gives what must be the same afterwards."""
        execute = self._connection.execute
        seen = None
        with ExitStack() as opened:
            target = uri(self._path, "ro") + "&readonly_shm=1"
            if way in {"still", "copy"}:
                self._wait_for_rest()
                seen = self._seen(way)
            if way == "still":
                target = uri(self._path, "ro", immutable=True)
            elif way == "copy":
                folder = opened.enter_context(TemporaryDirectory(prefix="calibration-ledger-"))
                target = uri(self._copied(Path(folder)), "rw")
            if self._connection.in_transaction:
                execute("COMMIT")
            execute("ATTACH ? AS theirs", (target,))
            opened.callback(self._detach)
            execute("BEGIN")
            yield seen
            execute("COMMIT")

    def _detach(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        self._connection.execute("DETACH theirs")

    # -- the file -------------------------------------------------------------------------

    def _checked(self, named: Path) -> Path:
        """The file that SQLite puts its own beside.

        What is no ordinary file is refused before anything opens it: a pipe would wait for ever.
        """
        try:
            path = Path(os.path.realpath(named))
            status = path.stat()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self._refuse(f"the file cannot be opened: {reason}")
        if stat.S_ISDIR(status.st_mode):
            self._refuse("this is a folder: name a file in it")
        if not stat.S_ISREG(status.st_mode):
            self._refuse("this is no ordinary file: a database cannot be read from a stream")
        if not os.access(path, os.R_OK):
            self._refuse("the file may not be read by this user: check its permissions")
        if status.st_size < _HEADER_BYTES:
            self._refuse("the file is empty" if not status.st_size else _NOT_A_DATABASE)
        return path

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _way(self) -> Way:
        """How to read it now."""
        log, index = self._beside("-wal"), self._beside("-shm")
        if log.exists():
            if index.exists():
                return "beside"
            return "copy" if log.stat().st_size else "still"
        if self._beside("-journal").exists():
            return "locked"
        # Closing a file drops the locks of all of this process on it. But nobody is writing: then
        # there would be a log or a journal.
        with self._path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        if not header.startswith(_MAGIC):
            self._refuse(_NOT_A_DATABASE)
        return "still" if header[_MODE_AT] == _WAL else "locked"

    def _way_after(self, error: Exception, way: Way | None, number: int) -> Way | None:
        """How to try again, None: as it looks then; the other errors are raised."""
        code = code_of(error)
        if code == sqlite3.SQLITE_INTERRUPT:  # our own deadline
            if self._changes:
                self._refuse(_ALWAYS_WRITTEN)
            self._is_long = True
            return "locked"
        is_locked_out = code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
        if way in {"locked", "beside"} and is_locked_out and number + 1 < _ATTEMPTS:
            # Its owner closed it just now, or was killed and left a log that must be rolled back.
            has_more = any(self._beside(suffix).exists() for suffix in ("-wal", "-journal"))
            return "copy" if has_more and number else None
        if code == sqlite3.SQLITE_CORRUPT and way in {"still", "copy"} and number < _DOUBTS:
            return None  # it may have been in the middle of a change
        if code == sqlite3.SQLITE_FULL:
            raise NotRecordedError(
                f"the folder for temporary files (TMPDIR) is full (SQLite: {error}): make room "
                f"in it, and run the same import again."
            ) from error
        return self._refuse(_MEANINGS.get(code, _UNREADABLE).format(error))

    def _seen(self, way: Way) -> tuple[object, ...]:
        """What changes where others write to what is read."""
        # What goes into a log that comes meanwhile is not read, as long as it stays there.
        suffixes = ("",) if way == "still" else ("", "-wal", "-journal")
        found: list[object] = []
        for path in map(self._beside, suffixes):
            try:
                status = path.stat()
            except FileNotFoundError:
                found.append(None)
            else:
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(found)

    def _wait_for_rest(self) -> None:
        """Wait until a change of the file would change its time."""
        logs = [one for one in (self._beside("-wal"), self._beside("-journal")) if one.exists()]
        changed_ns = max(path.stat().st_mtime_ns for path in (self._path, *logs))
        tick_ns = _FINE_NS if changed_ns % 1_000_000_000 else _COARSE_NS
        age_ns = time_ns() - changed_ns
        if 0 <= age_ns < tick_ns:
            sleep((tick_ns - age_ns) / 1e9)

    def _copied(self, folder: Path) -> Path:
        """A private copy of the file, with the log that a killed owner left beside it."""
        for suffix in ("", "-wal", "-journal"):
            if suffix == "" or self._beside(suffix).exists():
                shutil.copyfile(self._beside(suffix), folder / f"copy.db{suffix}")
        return folder / "copy.db"

    def _refuse(self, reason: str) -> NoReturn:
        raise ImportRefusedError(self._name, None, f"{reason}. Nothing was recorded.") from None


_ALWAYS_WRITTEN = (
    "its owner writes to it all the time: try again when it is at rest, or import a copy that "
    '`sqlite3 FILE ".backup COPY"` makes'
)
_UNREADABLE = "the database cannot be read (SQLite: {})"
_NOT_A_DATABASE = "this is no SQLite database, or an encrypted or compressed one"
_MEANINGS = {
    sqlite3.SQLITE_NOTADB: _NOT_A_DATABASE,
    sqlite3.SQLITE_CORRUPT: (
        "the database is damaged (SQLite: {}): mend it with the tool that it belongs to"
    ),
    sqlite3.SQLITE_BUSY: "another program keeps the database locked: try again when it is done",
    sqlite3.SQLITE_LOCKED: "another program keeps the database locked: try again when it is done",
    sqlite3.SQLITE_CANTOPEN: (
        "the database cannot be opened (SQLite: {}): check the permissions of the file, and of "
        "those beside it"
    ),
}


# -- the statement --------------------------------------------------------------------------
# Of a column with JSON, the members that are wanted are taken out in SQL, all of them at once as
# one JSON array: the prompts and answers beside them are never copied.


_NOTHING = "SELECT NULL FROM (SELECT 0 AS rowid LIMIT 0) AS t"


def _statement(wanted: _Wanted, columns: Columns) -> tuple[str, list[str]]:
    """The SELECT of what is wanted, as far as it is there, and its parameters."""
    if wanted.table.lower() not in columns:
        return _NOTHING, []
    names = {name: f"t.{_quoted(name)}" for name in columns[wanted.table.lower()]}
    source = f"theirs.{_quoted(wanted.table)} AS t"
    values: list[str] = []
    given: list[str] = []
    source_values: list[str] = []
    if wanted.beside is not None:
        table, key, mine = wanted.beside
        theirs = columns.get(table.lower(), frozenset())
        if key.lower() in theirs and mine.lower() in names:
            source += f" LEFT JOIN theirs.{_quoted(table)} AS b ON b.{_quoted(key)}"
            source += f" = t.{_quoted(mine)}"
            names |= {f"{table.lower()}.{name}": f"b.{_quoted(name)}" for name in theirs}
    if wanted.each:
        column, _ = _parts(wanted.each[0])
        if column.lower() not in names:
            return _NOTHING, []
        holder = names[column.lower()]
        # The first of these places that holds anything.
        place = (
            f"CASE WHEN json_type({holder}, ?) IN ('array', 'object')"
            f" THEN nullif(nullif(json_extract({holder}, ?), '[]'), '{{}}') END"
        )
        found = f"coalesce({', '.join([place] * len(wanted.each))}, NULL)"
        source += f", json_each(CASE WHEN json_valid({holder}) THEN {found} END) AS e"
        for one in wanted.each:
            source_values.extend([_path(_parts(one)[1])] * 2)
        names["each"] = "e.value"
    plain, members = _sorted_out(wanted)
    given.extend(names.get(name.lower(), "NULL") for name in plain)
    for column, paths in members.items():
        holder = names.get(column.lower(), "NULL")
        # Several paths make an array, of whatever they lead to; the first is there for that alone.
        places = ", ".join("?" * len(paths))
        given.append(
            f"CASE WHEN json_valid({holder}) THEN json_extract({holder}, '$[0]', {places}) END"
        )
        values.extend(_path(keys) for keys in paths)
    return f"SELECT {', '.join(given)} FROM {source}", [*values, *source_values]


def _sorted_out(wanted: _Wanted) -> tuple[list[str], dict[str, list[Sequence[str]]]]:
    """The plain columns, and the paths into each column with JSON."""
    plain: list[str] = []
    members: dict[str, list[Sequence[str]]] = {}
    for one in wanted.columns:
        column, keys = _parts(one)
        if keys:
            members.setdefault(column, []).append(keys)
        else:
            plain.append(column)
    return plain, members


def _unpacked(wanted: _Wanted, rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows with the columns in the order in which they were asked for."""
    plain, members = _sorted_out(wanted)
    if not members:
        yield from rows
        return
    # A row is laid out as the plain columns, then the members of each column with JSON.
    at: dict[str, int] = {}
    place = len(plain)
    for column, paths in members.items():
        at[column] = place
        place += len(paths)
    taken: dict[str, int] = dict.fromkeys(["", *members], 0)
    order = []
    for one in wanted.columns:
        column, keys = _parts(one)
        holder = column if keys else ""
        order.append(at.get(holder, 0) + taken[holder])
        taken[holder] += 1
    blanks = [[None] * len(paths) for paths in members.values()]
    count = len(plain)
    is_in_order = order == list(range(len(order)))
    for row in rows:
        laid = list(row[:count])
        for text, blank in zip(row[count:], blanks, strict=True):
            laid += blank if text is None else _members(text, blank)
        yield tuple(laid) if is_in_order else tuple([laid[place] for place in order])


_decode = json.JSONDecoder().raw_decode
"""SQLite writes no space before a value, and nothing behind it."""


def _members(text: str, blank: list[None]) -> list[Any]:
    """The members that SQLite took out; none of them where they are too deep for Python."""
    try:
        found: list[Any] = _decode(text)[0]
    except (ValueError, RecursionError):
        return [*blank]
    return found[1:]


def _place(wanted: _Wanted) -> int:
    """Where the column to order by is among those that were taken."""
    return _sorted_out(wanted)[0].index(wanted.order_by or "")


def _parts(column: str) -> tuple[str, Sequence[str]]:
    """A column and the keys that lead into it."""
    name, *keys = column.split("->")
    return name, keys


def _path(keys: Sequence[str]) -> str:
    """The keys as a path of SQLite's."""
    for key in keys:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no key that a path can have")
    return "$" + "".join(f"[{key}]" if key.isdecimal() else f'."{key}"' for key in keys)


def _quoted(name: str) -> str:
    """The name of a table or column as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
