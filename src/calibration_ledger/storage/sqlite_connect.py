"""How a SQLite file is opened. Every setting carries its reason.

SQLAlchemy owns the pools, so that a connection whose thread has died goes back to be used again;
`pool_size=0` means without limit: one connection of a kind for each thread that is in a call.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

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


def is_still(connection: object) -> bool:
    """Whether it is such a connection."""
    return isinstance(connection, StillConnection)


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
    """A connection that can only read; `is_still` where the file had to be taken as immutable."""
    # Without a -wal, in a folder that cannot be written, SQLite could not make the files that
    # reading a WAL database takes; beside a file that cannot be, it would make them as ours, and
    # leave them there, which would keep the file's owner from writing. Nobody is writing now, so
    # the file may be taken as immutable; with a -wal that would hide what was committed last.
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - of the file, not of a link
    may_write = os.access(folder, os.W_OK) and os.access(path, os.W_OK)
    if log_identity(path) or may_write:
        return connect(uri(path, "ro"), timeout_s)
    return connect(uri(path, "ro", immutable=True), timeout_s, StillConnection)


def log_identity(path: Path) -> tuple[int, int] | None:
    """Which write-ahead log lies beside the file, which may be behind a link; None: there is none.

    As long as a connection to the ledger is open, its log stays where it is.
    """
    try:
        status = os.stat(f"{os.path.realpath(path)}-wal")  # noqa: PTH116 - a name beside a path
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def list_tables(ask: Callable[[str], Iterable[Sequence[Any]]]) -> set[str]:
    """The tables of a database; where there is none, the mark of the program that owns it.

    A database that another program has made and marked as its own is not ours to fill.
    """
    tables = {name for (name,) in ask("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        for mark in ("application_id", "user_version"):
            tables |= {f"none, but {mark} is {row[0]}" for row in ask(f"PRAGMA {mark}") if row[0]}
    return tables


def cut_page(path: Path, page_size: int) -> list[str]:
    """Say so, where the file ends in the middle of a page; nothing where all is well.

    SQLite's own check does not see it: it takes what is missing of the last page for zeros.
    """
    # While there is a log, the file may be anything: a checkpoint that was killed is done again.
    with suppress(FileNotFoundError):
        if os.stat(f"{os.path.realpath(path)}-wal").st_size:  # noqa: PTH116 - a name beside a path
            return []
    size = path.stat().st_size
    if size % page_size == 0:
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
