"""A ledger in memory, `":memory:"`: for trying things out, and gone with the process.

One connection serves all threads, one at a time: the one exception to "threads do not share a
connection", because a database in memory belongs to its connection.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import LedgerClosedError
from calibration_ledger.storage.migrate import plan_of_new
from calibration_ledger.storage.sqlite.connections import uri
from calibration_ledger.storage.sqlite.copies import VACUUM_INTO, new_copy
from calibration_ledger.storage.sqlite.faults import sqlite_fault
from calibration_ledger.storage.sqlite.forks import private, run
from calibration_ledger.storage.sqlite.lock import OneAtATime
from calibration_ledger.storage.statements import SQLITE, statements
from calibration_ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from calibration_ledger.storage.backend import Result
    from calibration_ledger.storage.place import Memory


def _make(plan: Sequence[str]) -> sqlite3.Connection:
    made = private(":memory:")
    try:
        for text in ("PRAGMA foreign_keys=ON", "BEGIN", *plan, "COMMIT"):
            made.execute(text)
    except BaseException:
        made.close()
        raise
    return made


class MemoryBackend:
    """The `Backend` of a database in memory. A child of a fork goes on with a copy of its own."""

    def __init__(self, place: Memory, timeout_s: float) -> None:
        """Make the ledger, as everywhere."""
        self.place = place
        self.durability = "full"
        self._closed = False
        self._inside = False  # while a thread is busy with the cursor
        self._one = OneAtATime(place.shown, timeout_s)
        self.sql = statements(SQLITE)
        self._connection = run(_make, plan_of_new())
        self._cursor: Any = self._connection.cursor()
        self._transaction = Transaction(self._cursor, self.sql, place.shown)

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Backend.read`."""
        rows: list[Any] = self._one.run(run, self._read, text, parameters)
        return rows

    def _read(self, text: str, parameters: Sequence[Any]) -> list[Any]:
        self._inside = True
        try:
            self._check_open()
            rows: list[Any] = self._cursor.execute(text, parameters).fetchall()
        except sqlite3.Error as error:
            raise sqlite_fault(error, self.place.shown, "read") from error
        finally:
            self._inside = False
            self._drop_if_closed()
        return rows

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerClosedError("this calibrator is closed, and its ledger in memory is gone.")

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
        result: Result = self._one.run(run, self._write, work, arguments)
        return result

    def _write(self, work: Callable[..., Result], arguments: Any) -> Result:
        self._inside = True
        try:
            self._check_open()
            self._cursor.execute("BEGIN IMMEDIATE")
            result: Result = work(self._transaction, *arguments)
            self._cursor.execute("COMMIT")
        except BaseException as error:
            # The driver's own, a no-op outside of a transaction: Ctrl-C cannot come before it.
            self._connection.rollback()
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

    def close(self) -> None:
        """Drop the ledger."""
        self._closed = True
        self._drop_if_closed()

    def _drop_if_closed(self) -> None:
        if self._closed and not self._inside:  # else the call that is under way does
            self._connection.close()
