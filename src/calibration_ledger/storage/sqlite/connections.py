"""The connections that one process holds to a SQLite file: one of a kind for each thread.

A connection belongs to the file that it was opened on. A file that was moved to the path since is
another ledger, so a connection is used only while its own file still lies there. It is only ever
closed between two calls: SQLite's driver crashes if one is closed while a statement runs.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from calibration_ledger.errors import LedgerReplacedError, ReentrantCallError
from calibration_ledger.storage.contents import look
from calibration_ledger.storage.place import bytes_of, refuse_second_name
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS, sqlite_fault
from calibration_ledger.storage.sqlite.forks import (
    Connection,
    Retired,
    close_all,
    connect,
    forked_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from calibration_ledger.storage.backend import Result
    from calibration_ledger.storage.contents import Contents
    from calibration_ledger.storage.sqlite.forks import Handle


# -- opening a file: every setting with its reason ------------------------------------------

SYNCHRONOUS = {"full": "FULL", "normal": "NORMAL"}
"""`full`: a call whose record() returned survives a power cut. `normal`: it may not, but the
ledger stays whole; only kills and crashes of the process are survived for sure."""

JOURNAL_SIZE_LIMIT = 16 * 2**20
"""Bytes to which the WAL is cut back after a long reader let it grow; SQLite's default is none."""


def uri(path: Path, mode: str, *, immutable: bool = False) -> str:
    """The path as a `file:` URI, in which `?` and `#` are ordinary characters."""
    name = quote(os.fsencode(path))  # bytes: not every file name is text
    if name.startswith("//"):  # of which SQLite would take the first part for a host
        name = f"//{name}"
    return f"file:{name}?mode={mode}" + ("&immutable=1" if immutable else "")


class StillConnection(Connection):
    """A connection that takes its file as immutable, and notices no change."""


def connect_writer(path: Path, durability: str, timeout_s: float, holder: object = None) -> Handle:
    """A connection that writes. The caller holds the writers' lock."""
    handle = connect(uri(path, "rw"), timeout_s, holder=holder, writes=True)
    try:
        execute = handle.connection.execute
        # Only the holder of the lock may switch the mode: under concurrency the switch fails,
        # whatever the timeout. Ledgers are made in WAL; somebody may have changed it since.
        if execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            set_wal(handle.connection)
        execute(f"PRAGMA synchronous={SYNCHRONOUS[durability]}")
        execute("PRAGMA foreign_keys=ON")  # before any BEGIN: inside, it does nothing
        execute(f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT}")
    except BaseException:
        handle.close()
        raise
    return handle


def connect_migrator(path: Path, timeout_s: float) -> Handle:
    """A connection that makes or upgrades a ledger. The caller holds the writers' lock."""
    handle = connect(uri(path, "rwc"), timeout_s, writes=True)
    try:
        handle.connection.execute("PRAGMA synchronous=FULL")  # whatever the ledger's durability
        # With them on, rebuilding a table would delete the rows that refer to it. Some builds of
        # SQLite have them on by default, and inside the transaction the pragma does nothing.
        handle.connection.execute("PRAGMA foreign_keys=OFF")
    except BaseException:
        handle.close()
        raise
    return handle


def set_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, so that readers never wait for writers.

    Raises:
        sqlite3.OperationalError: the file system cannot do it; SQLite itself only says so by
            answering with the old mode.
    """
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(
            f"write-ahead logging is not possible here (the journal mode stays {mode}): "
            f"put the ledger on a local disk"
        )


def connect_reader(path: Path, timeout_s: float, holder: object = None) -> Handle:
    """A connection that can only read: a still one where the file must be taken as immutable."""
    # Reading a WAL database takes a -wal and a -shm. In a folder that we may not write, SQLite
    # cannot make them; beside a file that we may not write, it would make them as ours, and its
    # owner could not write any more. Without a -wal nobody is writing now, so the file may be
    # taken as immutable; with one, that would hide what was committed last.
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - of the file, not of a link
    may_write = os.access(folder, os.W_OK) and os.access(path, os.W_OK)
    if log_identity(path) or may_write:
        return connect(uri(path, "ro"), timeout_s, holder=holder)
    return connect_still(path, timeout_s, holder)


def connect_still(path: Path, timeout_s: float, holder: object = None) -> Handle:
    """A connection that takes the file as immutable: no locks, and no files beside it."""
    return connect(uri(path, "ro", immutable=True), timeout_s, StillConnection, holder=holder)


def log_identity(path: Path) -> tuple[int, int] | None:
    """Which write-ahead log lies beside the file (or what it links to); None where there is none.

    As long as a connection to the ledger is open, its log stays where it is.
    """
    try:
        status = os.stat(f"{os.path.realpath(path)}-wal")  # noqa: PTH116 - a name beside a path
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def list_tables(ask: Callable[[str], Iterable[Sequence[Any]]]) -> set[str]:
    """The tables of a database; where there are none, the mark of the program that owns it.

    An empty database that another program has marked as its own is not ours to fill.
    """
    # In a damaged file a name may be of any type.
    tables = {str(name) for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        for mark in ("application_id", "user_version"):
            tables |= {f"none, but {mark} is {row[0]}" for row in ask(f"PRAGMA {mark}") if row[0]}
    return tables


def look_at(connection: sqlite3.Connection) -> Contents:
    """What lies in the database of a connection."""

    def ask(text: str) -> list[Any]:
        return connection.execute(text).fetchall()

    return look(list_tables(ask), ask)


def cut_page(path: Path, page_size: int) -> list[str]:
    """The complaint about a file that ends in the middle of a page, if it does.

    SQLite's own check does not see it: it takes the missing end for zeros.
    """
    # While there is a log, the file may be anything: a killed checkpoint will be done again.
    size = path.stat().st_size
    if bytes_of(f"{os.path.realpath(path)}-wal") > 0 or size % page_size == 0:
        return []
    return [f"the file ends in the middle of page {size // page_size + 1}: its end was cut off"]


# -- the connections of a backend -----------------------------------------------------------

_LOOK_EVERY_S = 0.001


class _Life:
    """Kept by a thread, and gone with it."""

    __slots__ = ("__weakref__",)


_NOBODY = weakref.ref(_Life())


class Held:
    """A connection that a thread keeps, with its cursor and the file that it was opened on.

    It is used through `use`, which may find it closed by a fork or a close().
    """

    __slots__ = (
        *("_handle", "connection", "cursor", "identity", "is_still", "looked_at"),
        *("owner", "transaction", "use"),
    )

    def __init__(self, handle: Handle, identity: tuple[int, ...], is_still: bool) -> None:
        """Make the cursor; whoever writes adds the transaction."""
        self._handle = handle
        self.connection = handle.connection
        self.use = handle.connection.use
        self.identity = identity
        self.is_still = is_still
        self.looked_at = 0.0
        self.owner: weakref.ref[_Life] = _NOBODY
        self.cursor: Any = handle.connection.cursor()
        self.transaction: Any = None

    def read(self, text: str, parameters: Sequence[Any]) -> list[Any]:
        """All rows of a statement."""
        # fetchall() steps to the end, which also ends the snapshot: a statement left open would
        # keep the WAL from being cut back.
        rows: list[Any] = self.cursor.execute(text, parameters).fetchall()
        return rows

    def run(self, ledger: str, work: Callable[..., Result], arguments: Any) -> Result:
        """Run `work(transaction, *arguments)` in a transaction; `ledger` is for the error."""
        execute = self.cursor.execute
        is_committing = False
        try:
            execute("BEGIN IMMEDIATE")
            result = work(self.transaction, *arguments)
            is_committing = True
            execute("COMMIT")
        except BaseException as error:
            # The driver's own rollback is a no-op outside of a transaction, and nothing can come
            # before it, as Ctrl-C could before a function of ours.
            try:
                self.cursor.connection.rollback()
            except sqlite3.Error:
                # Closing undoes it as well. The error that brought us here is the one to tell.
                self.connection.retire()
            if is_committing and isinstance(error, DRIVER_ERRORS):
                self.connection.retire()
                raise sqlite_fault(error, ledger, "commit") from error
            raise
        return result


class Connections:
    """What each thread holds: one reading and one writing connection.

    Those of a thread that has ended go to the next that comes.
    """

    def __init__(self, path: Path, durability: str, timeout_s: float) -> None:
        """Open nothing yet."""
        self._path = path
        self._name = str(path)
        self._durability = durability
        self._relaxed = durability == "normal"
        self._timeout_s = timeout_s
        self._mark = object()  # by which the gate knows them
        self._local = threading.local()
        self._kept: dict[str, list[Held]] = {"reader": [], "writer": []}  # of all threads
        # Of which file each log is. A log stays as long as a connection to its file is open.
        self._logs: dict[tuple[int, int], tuple[int, ...]] = {}

    def held(self, kind: str) -> Held | None:
        """This thread's connection, if it has one to the file that lies at the path now.

        It may be closed, as who uses it finds out: see `Connection.use`.

        Raises:
            ReentrantCallError: this thread is in the middle of using it.
        """
        held: Held | None = getattr(self._local, kind, None)
        if held is None:
            return None
        connection = held.connection
        if connection.inside:
            if connection.pid != os.getpid():
                raise forked_error()  # the parent's thread was in the middle of using it
            raise ReentrantCallError
        if self._is_in_place(held):
            return held
        self._check_log()
        self.drop(kind)
        return None

    def _check_log(self) -> None:
        """Refuse to go on where the log of another file lies beside the one at the path.

        SQLite cannot know, and would write it over a backup that was just restored.
        """
        identity, log = self._identity(), log_identity(self._path)
        while (now := self._identity()) != identity:  # a link was switched between the two looks
            identity, log = now, log_identity(self._path)
        if log is not None and self._logs.get(log, identity) != identity:
            raise LedgerReplacedError(
                f"{self._path} was replaced or removed while it was in use, and {self._path}-wal "
                f"beside it belongs to the file before",
                stayed="nothing was recorded",
                advice=f"delete that and {self._path}-shm, then put the file that you want in its "
                f"place once more",
            )

    def _is_in_place(self, held: Held) -> bool:
        """Whether the connection's file still lies at the path.

        Without this, calls would go into a file that a restored backup has replaced, and be lost
        without an error. With durability "normal", a look at most a millisecond old is enough:
        it costs a tenth of a record() there.
        """
        now = monotonic() if self._relaxed else 0.0
        if self._relaxed and now < held.looked_at + _LOOK_EVERY_S:
            return True
        found = self._state() if held.is_still else self._identity(held)
        held.looked_at = now
        return held.identity == found

    def _identity(self, held: Held | None = None) -> tuple[int, ...]:
        try:
            status = os.stat(self._name)  # noqa: PTH116 - twice as quick, and on the hot path
        except OSError:
            return (0, 0)
        if status.st_nlink > 1 and held is not None and held.transaction is not None:
            refuse_second_name(self._name)
        return (status.st_dev, status.st_ino)

    def _state(self) -> tuple[int, ...]:
        """The same for a connection that takes the file as immutable: it changes with the file."""
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0)
        has_log = log_identity(self._path) is not None
        return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, has_log)

    def check_out(self, kind: str, prepare: Callable[[Held], object]) -> Held:
        """A connection to the file at the path, which this thread keeps once `prepare` is done.

        Raises:
            sqlite3.Error: it cannot be opened.
            LedgerError: the gate is closed, see `forks.connect`; or what `prepare` raises.
        """
        self._check_log()
        held = self._take_over(kind, prepare) or self._open(kind, prepare)
        held.owner = self._life()
        self._kept[kind].append(held)
        setattr(self._local, kind, held)
        return held

    def _open(self, kind: str, prepare: Callable[[Held], object]) -> Held:
        identity, state = self._identity(), self._state()
        if kind == "reader":
            handle = connect_reader(self._path, self._timeout_s, self._mark)
        else:
            handle = connect_writer(self._path, self._durability, self._timeout_s, self._mark)
        try:
            is_still = isinstance(handle.connection, StillConnection)
            held = Held(handle, state if is_still else identity, is_still)
            prepare(held)
            log = log_identity(self._path)
            if log is not None and not is_still:
                self._logs[log] = identity
            handle.connection.rest()
        except BaseException:
            handle.close()
            raise
        return held

    def _take_over(self, kind: str, prepare: Callable[[Held], object]) -> Held | None:
        """One whose thread has ended, if it is to the file at the path; others are closed."""
        kept = self._kept[kind]
        for held in kept[:]:
            if held.owner() is None or held.connection.is_closed:
                try:
                    kept.remove(held)
                except ValueError:  # another thread was quicker
                    continue
                held.connection.thread = threading.get_ident()
                if self._is_in_place(held):
                    with suppress(Retired):
                        held.use(prepare, held)
                        return held
                held.connection.retire()
        return None

    def _life(self) -> weakref.ref[_Life]:
        """What ends with this thread."""
        life: _Life | None = getattr(self._local, "life", None)
        if life is None:
            life = self._local.life = _Life()
        return weakref.ref(life)

    def drop(self, kind: str) -> None:
        """Close this thread's connection."""
        held: Held | None = self._local.__dict__.pop(kind, None)
        if held is not None:
            held.connection.retire()

    def close(self) -> None:
        """Close every connection, other threads' included; those in use at the end of the use."""
        close_all(self._timeout_s, self._mark)
        self._logs.clear()
        for kept in self._kept.values():
            kept.clear()

    def forget(self) -> None:
        """Let no call of a child find the parent's connections."""
        self._local = threading.local()
        self._logs.clear()
        for kept in self._kept.values():
            kept.clear()
