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
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

from calibration_ledger.errors import LedgerReplacedError, ReentrantCallError
from calibration_ledger.storage.place import bytes_of, refuse_second_name
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS, sqlite_fault
from calibration_ledger.storage.sqlite.forks import check_safe, pausables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from sqlalchemy.engine import Dialect, Engine
    from sqlalchemy.pool import PoolProxiedConnection

    from calibration_ledger.storage.backend import Result


# -- opening a file: every setting with its reason ------------------------------------------
# SQLAlchemy owns the pools, so that a connection whose thread has died goes back to be used again;
# `pool_size=0` means without limit: one connection of a kind for each thread that is in a call.

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


class StillConnection(sqlite3.Connection):
    """A connection that takes its file as immutable, and notices no change."""


def connect(
    target: str, timeout_s: float, factory: type[sqlite3.Connection] = sqlite3.Connection
) -> sqlite3.Connection:
    """A connection that begins and commits only when told to."""
    return sqlite3.connect(
        target,
        factory=factory,
        uri=True,
        timeout=timeout_s,
        # The driver's own transactions begin deferred, and fail to upgrade when others write.
        isolation_level=None,
        # A connection is used by one thread at a time, but not always by the one that made it.
        check_same_thread=False,
    )


def connect_writer(path: Path, durability: str, timeout_s: float) -> sqlite3.Connection:
    """A connection that writes. The caller holds the writers' lock."""
    connection = connect(uri(path, "rw"), timeout_s)
    try:
        # Only the holder of the lock may switch the mode: under concurrency the switch fails,
        # whatever the timeout. Ledgers are made in WAL; somebody may have changed it since.
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            set_wal(connection)
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS[durability]}")
        connection.execute("PRAGMA foreign_keys=ON")  # before any BEGIN: inside, it does nothing
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT}")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_migrator(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection that makes or upgrades a ledger. The caller holds the writers' lock."""
    connection = connect(uri(path, "rwc"), timeout_s)
    try:
        connection.execute("PRAGMA synchronous=FULL")  # whatever the ledger's durability
        # With them on, rebuilding a table would delete the rows that refer to it. Some builds of
        # SQLite have them on by default, and inside the transaction the pragma does nothing.
        connection.execute("PRAGMA foreign_keys=OFF")
    except BaseException:
        connection.close()
        raise
    return connection


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


def connect_reader(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection that can only read: a still one where the file must be taken as immutable."""
    # Reading a WAL database takes a -wal and a -shm. In a folder that we may not write, SQLite
    # cannot make them; beside a file that we may not write, it would make them as ours, and its
    # owner could not write any more. Without a -wal nobody is writing now, so the file may be
    # taken as immutable; with one, that would hide what was committed last.
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - of the file, not of a link
    may_write = os.access(folder, os.W_OK) and os.access(path, os.W_OK)
    if log_identity(path) or may_write:
        return connect(uri(path, "ro"), timeout_s)
    return connect_still(path, timeout_s)


def connect_still(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection that takes the file as immutable: no locks, and no files beside it."""
    return connect(uri(path, "ro", immutable=True), timeout_s, StillConnection)


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
    tables = {name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        for mark in ("application_id", "user_version"):
            tables |= {f"none, but {mark} is {row[0]}" for row in ask(f"PRAGMA {mark}") if row[0]}
    return tables


def cut_page(path: Path, page_size: int) -> list[str]:
    """The complaint about a file that ends in the middle of a page, if it does.

    SQLite's own check does not see it: it takes the missing end for zeros.
    """
    # While there is a log, the file may be anything: a killed checkpoint will be done again.
    size = path.stat().st_size
    if bytes_of(f"{os.path.realpath(path)}-wal") > 0 or size % page_size == 0:
        return []
    return [f"the file ends in the middle of page {size // page_size + 1}: its end was cut off"]


def pooled(creator: Callable[[], sqlite3.Connection]) -> sa.Engine:
    """An engine over such connections that never closes one on its own."""
    return sa.create_engine(
        "sqlite://",
        creator=creator,
        poolclass=sa.QueuePool,
        pool_size=0,
        # Every statement of ours ends its own transaction.
        pool_reset_on_return=None,
    )


# -- the connections of a backend -----------------------------------------------------------

_LOOK_EVERY_S = 0.001


class Held:
    """A connection that a thread keeps, with its cursor and the file that it was opened on.

    Use it `with held.busy` only, and look inside whether it still `is_open`.
    """

    __slots__ = (
        *("__weakref__", "busy", "connection", "cursor", "identity", "inside", "is_open"),
        *("is_still", "looked_at", "thread", "transaction"),
    )

    def __init__(
        self, connection: PoolProxiedConnection, identity: tuple[int, ...], is_still: bool
    ) -> None:
        """Make the cursor; whoever writes adds the transaction."""
        self.connection = connection
        self.identity = identity
        self.is_still = is_still
        self.is_open = True
        self.busy = threading.Lock()
        self.inside = False  # while its own thread is busy with it
        self.thread = threading.get_ident()
        self.looked_at = 0.0
        self.cursor: Any = connection.cursor()
        self.transaction: Any = None

    def shut(self) -> None:
        """Close it; the caller has it to itself."""
        if self.is_open:
            self.is_open = False
            # An error that is kept keeps the cursor, and with it the statement that failed, and
            # SQLite closes no file while a statement is left.
            self.cursor.close()
            self.connection.invalidate()

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
                self.shut()
            if is_committing and isinstance(error, DRIVER_ERRORS):
                self.shut()
                raise sqlite_fault(error, ledger, "commit") from error
            raise
        return result


class Connections:
    """Two pools, one of readers and one of writers, and what each thread holds of them."""

    def __init__(self, path: Path, durability: str, timeout_s: float) -> None:
        """Open nothing yet."""
        self._path = path
        self._name = str(path)
        self._durability = durability
        self._relaxed = durability == "normal"
        self._timeout_s = timeout_s
        self._inherited: list[Any] = []
        self._open_pools()
        pausables.add(self)

    def _open_pools(self) -> None:
        self._local = threading.local()
        self._all: weakref.WeakSet[Held] = weakref.WeakSet()
        self._mutex = threading.RLock()  # held to open connections, and to list them
        self._is_opening = False
        self._paused: list[Any] = []
        # Of which file each log is. A log stays as long as a connection to its file is open.
        self._logs: dict[tuple[int, int], tuple[int, ...]] = {}
        readers = pooled(lambda: connect_reader(self._path, self._timeout_s))
        writers = pooled(lambda: connect_writer(self._path, self._durability, self._timeout_s))
        self._pools: dict[str, Engine] = {"reader": readers, "writer": writers}

    @property
    def dialect(self) -> Dialect:
        """SQLAlchemy's dialect of both pools."""
        return self._pools["reader"].dialect

    def held(self, kind: str) -> Held | None:
        """This thread's connection, if it has one to the file that lies at the path now.

        Raises:
            ReentrantCallError: this thread is in the middle of using it.
        """
        held: Held | None = getattr(self._local, kind, None)
        if held is None:
            return None
        if held.inside:
            raise ReentrantCallError
        if held.is_open and self._is_in_place(held):
            return held
        self._check_log()
        self.drop(kind)
        return None

    def _check_log(self) -> None:
        """Refuse to go on where the log of another file lies beside the one at the path.

        SQLite cannot know, and would write it over a backup that was just restored.
        """
        log = log_identity(self._path)
        identity = self._identity()
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

    def check_out(self, kind: str) -> Held:
        """A connection to the file at the path, for this thread; `keep` it once it is sound.

        Raises:
            sqlite3.Error: it cannot be opened.
            LedgerError: this process was forked at a moment when it should not.
        """
        check_safe()
        with self._mutex:
            self._check_log()
            self._is_opening = True
            try:
                while True:
                    identity, state = self._identity(), self._state()
                    connection = self._pools[kind].raw_connection()
                    is_still = isinstance(connection.driver_connection, StillConnection)
                    mine = state if is_still else identity
                    # The pool may still have connections to a file that lay here before.
                    if connection.info.setdefault("identity", mine) == mine:
                        held = Held(connection, mine, is_still)
                        self._all.add(held)
                        return held
                    connection.invalidate()
            finally:
                self._is_opening = False

    def keep(self, kind: str, held: Held) -> None:
        """Let this thread hold the connection from now on."""
        log = log_identity(self._path)
        if log is not None and not held.is_still:
            self._logs[log] = held.identity
        setattr(self._local, kind, held)

    def drop(self, kind: str) -> None:
        """Close this thread's connection; a writing one under the writers' lock."""
        held: Held | None = self._local.__dict__.pop(kind, None)
        if held is not None:
            with held.busy:
                held.shut()

    def forget(self) -> None:
        """Let no later call find a connection; those of calls under way stay until `close`."""
        self._local = threading.local()

    def close(self) -> None:
        """Close every connection, other threads' included; the caller holds the writers' lock."""
        with self._mutex:
            self._pools["reader"].dispose()  # those that no thread holds, before any writer too
            for held in self._list():
                if held.inside and held.thread == threading.get_ident():
                    continue  # a signal handler closes: the call that it came into does the rest
                with held.busy:
                    held.shut()
            self._local = threading.local()
            self._dispose()

    def _list(self) -> list[Held]:
        # Readers first: only a writer that is the last to close can take the log into the file.
        return sorted(self._all, key=lambda held: held.transaction is not None)

    def _dispose(self) -> None:
        for pool in self._pools.values():
            pool.dispose()
        self._logs.clear()

    # -- forks: see `forks` ------------------------------------------------------------------

    def pause(self, deadline: float) -> bool:
        """See `forks.Pausable`."""
        if not self._mutex.acquire(timeout=max(0.0, deadline - monotonic())):
            return False
        self._paused.append(self._mutex)
        quiet = not self._is_opening
        for held in self._list():
            # A fork in the middle of a call of this very thread cannot wait for its end.
            is_mine = held.thread == threading.get_ident()
            if held.busy.acquire(timeout=0.0 if is_mine else max(0.0, deadline - monotonic())):
                self._paused.append(held.busy)
                held.shut()
            else:
                quiet = False
        self._dispose()
        return quiet

    def resume(self) -> None:
        """See `forks.Pausable`."""
        while self._paused:
            self._paused.pop().release()

    def after_fork_in_child(self) -> None:
        """Put aside, still referenced, what could not be closed: no child may close it either."""
        self._inherited.append((self._pools, self._local, list(self._all)))
        self._open_pools()
