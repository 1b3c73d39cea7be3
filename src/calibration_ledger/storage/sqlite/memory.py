"""A ledger in memory, `":memory:"`: for trying things out, and gone with the process.

One connection serves all threads, one at a time: the one exception to "threads do not share a
connection", because a database in memory belongs to its connection.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from calibration_ledger.errors import LedgerClosedError, ReentrantCallError
from calibration_ledger.storage.migrate import run_migrations
from calibration_ledger.storage.sqlite.connections import connect, uri
from calibration_ledger.storage.sqlite.copies import VACUUM_INTO, new_copy
from calibration_ledger.storage.sqlite.faults import sqlite_fault
from calibration_ledger.storage.sqlite.forks import pausables
from calibration_ledger.storage.statements import statements
from calibration_ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from calibration_ledger.storage.backend import Result
    from calibration_ledger.storage.place import Memory


class MemoryBackend:
    """The `Backend` of a database in memory."""

    def __init__(self, place: Memory) -> None:
        """Make the ledger, by the same migrations as everywhere."""
        self.place = place
        self.durability = "full"
        self._mutex = threading.RLock()
        self._closed = False
        self._inside = False  # while a thread is busy with the cursor
        self._is_paused = False
        self._engine = sa.create_engine(
            "sqlite://",
            creator=lambda: connect(":memory:", 0.0),
            poolclass=sa.StaticPool,
            pool_reset_on_return=None,
        )
        self.sql = statements(self._engine.dialect)
        sa.event.listen(self._engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN"))
        with self._engine.begin() as connection:
            run_migrations(connection)
        self._held = self._engine.raw_connection()
        self._cursor: Any = self._held.cursor()
        self._cursor.execute("PRAGMA foreign_keys=ON")
        self._transaction = Transaction(self._cursor, self.sql, place.shown)
        pausables.add(self)

    def _check_open(self) -> None:
        if self._inside:  # the mutex lets its own thread in again
            raise ReentrantCallError
        if self._closed:
            raise LedgerClosedError("this calibrator is closed, and its ledger in memory is gone.")

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Backend.read`."""
        with self._mutex:
            self._check_open()
            self._inside = True
            try:
                rows: list[Any] = self._cursor.execute(text, parameters).fetchall()
            except sqlite3.Error as error:
                raise sqlite_fault(error, self.place.shown, "read") from error
            finally:
                self._inside = False
                self._drop_if_closed()
            return rows

    def find(self, model: str) -> list[Any]:
        """See `Backend.find`."""
        return self.read(self.sql.find, (model,))

    def write(
        self,
        work: Callable[..., Result],
        *arguments: Any,
        makes: bool = True,  # noqa: ARG002 - it is there
    ) -> Result:
        """See `Backend.write`."""
        with self._mutex:
            self._check_open()
            self._inside = True
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
                result = work(self._transaction, *arguments)
                self._cursor.execute("COMMIT")
            except BaseException as error:
                # The driver's own, a no-op outside of a transaction: Ctrl-C cannot come before it.
                self._cursor.connection.rollback()
                if isinstance(error, sqlite3.Error):
                    raise sqlite_fault(error, self.place.shown, "write") from error
                raise
            finally:
                self._inside = False
                self._drop_if_closed()
            return result

    def check_engine(self) -> list[str]:
        """See `Backend.check_engine`."""
        rows = self.read("PRAGMA integrity_check(100)")
        return [text for (text,) in rows if text != "ok"]

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """See `Backend.backup`."""
        path = Path(copy)
        new_copy(path, None, lambda partial: self.read(VACUUM_INTO, (uri(partial, "rw"),)))
        return path

    def pause(self, deadline: float) -> bool:
        """See `forks.Pausable`: a child goes on with a copy of its own."""
        self._is_paused = self._mutex.acquire(timeout=max(0.0, deadline - monotonic()))
        return self._is_paused

    def resume(self) -> None:
        """See `forks.Pausable`."""
        if self._is_paused:
            self._is_paused = False
            self._mutex.release()

    def close(self) -> None:
        """Drop the ledger."""
        with self._mutex:
            self._closed = True
            self._drop_if_closed()

    def _drop_if_closed(self) -> None:
        if self._closed and not self._inside:  # else the call that a signal handler came into does
            self._engine.dispose()
