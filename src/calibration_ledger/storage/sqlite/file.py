"""A ledger in a SQLite file: its reads, its transactions and its end.

Each thread holds one reading and one writing connection. Writers queue on the lock of the file
(`lock`), then `BEGIN IMMEDIATE`: a deferred transaction that reads first and then writes fails at
once when another process wrote meanwhile, or loses its update.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.command import calib
from calibration_ledger.errors import (
    LedgerClosedError,
    LedgerError,
    LedgerNotFoundError,
    LedgerRevisionError,
    NotALedgerError,
)
from calibration_ledger.storage.contents import look
from calibration_ledger.storage.migrate import has_plan, plan_of_new, upgrade_file
from calibration_ledger.storage.place import (
    check_file,
    check_one_name,
    make_folder,
    refuse_to_write,
)
from calibration_ledger.storage.sqlite.connections import Connections, list_tables
from calibration_ledger.storage.sqlite.copies import backup_file
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS, sqlite_fault
from calibration_ledger.storage.sqlite.forks import Retired, open_backends
from calibration_ledger.storage.sqlite.lock import OtherLock, wait_for, writer_lock
from calibration_ledger.storage.sqlite.soundness import unsound_parts
from calibration_ledger.storage.statements import SQLITE, statements
from calibration_ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.storage.backend import Result
    from calibration_ledger.storage.place import File
    from calibration_ledger.storage.sqlite.connections import Held
    from calibration_ledger.storage.sqlite.lock import Turn, WriterLock


class NoPlan(Exception):  # noqa: N818 - a signal inside the package, not an error
    """A ledger is to be made, and how must be found out before the lock is taken."""


class SQLiteBackend:
    """The `Backend` of one SQLite file."""

    def __init__(self, place: File, durability: str, timeout_s: float) -> None:
        """Open the ledger if there is one, to refuse at once what is none.

        Raises:
            LedgerError: what lies at the place cannot be used as a ledger.
        """
        self.place = place
        self.durability = durability
        self._path = place.path
        self._shown = place.shown  # kept: it is asked for at each write
        self._timeout_s = timeout_s
        self._lock = writer_lock(str(self._path))
        self._closed = False
        self._connections = Connections(self._path, durability, timeout_s)
        self.sql = statements(SQLITE)
        open_backends.add(self)
        if check_file(place):
            try:
                self._reader()
            except LedgerNotFoundError:
                pass  # an empty database: another process is just making the ledger
            except BaseException:
                self.close()
                raise

    # -- reading ----------------------------------------------------------------------------

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Backend.read`."""
        while True:
            held = self._reader()
            try:
                return held.use(held.read, text, parameters)
            except Retired:  # a fork, or a close(), has come between
                self._connections.drop("reader")
            except DRIVER_ERRORS as error:
                self._look_at_revision()
                raise sqlite_fault(error, self.place.shown, "read") from error

    def find(self, model: str) -> list[Any]:
        """See `Backend.find`."""
        return self.read(self.sql.find, (model,))

    def _reader(self, doing: str = "read") -> Held:
        """This thread's reading connection, to the file that lies at the path now.

        `doing` is what it is for; see `sqlite_fault`.
        """
        held = self._connections.held("reader")
        if held is not None:
            return held
        self._check_open()
        if not check_file(self.place):
            raise LedgerNotFoundError(
                f"there is no ledger at {self.place.shown}: the first call recorded makes it, "
                f"as does `{calib('db', 'upgrade', ledger=self.place.shown)}`."
            )
        try:
            held = self._connections.check_out("reader", self._check_is_ledger)
        except DRIVER_ERRORS as error:
            raise sqlite_fault(error, self.place.shown, doing) from error
        return self._unless_closed("reader", held)

    def _unless_closed(self, kind: str, held: Held) -> Held:
        if self._closed:  # by another thread, in this moment
            self._connections.drop(kind)
            self._check_open()
        return held

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerClosedError(f"this calibrator of {self.place.shown} is closed: open one.")

    def _check_is_ledger(self, held: Held) -> None:
        def ask(query: str) -> list[Any]:
            return held.read(query, ())

        contents = look(list_tables(ask), ask)
        if contents.state == "empty":
            raise LedgerNotFoundError(
                f"{self.place.shown} is an empty database, no ledger yet: the first call recorded "
                f"makes it one, as does `{calib('db', 'upgrade', ledger=self.place.shown)}`."
            )
        contents.check(self.place.shown)

    def _look_at_revision(self) -> None:
        """A statement failed: refuse to go on if the ledger was upgraded meanwhile."""
        self._connections.drop("reader")
        try:
            self._reader()
        except (LedgerRevisionError, NotALedgerError):
            raise
        except LedgerError:
            return  # the statement's own error says more

    # -- writing ----------------------------------------------------------------------------

    def write(self, work: Callable[..., Result], *arguments: Any, makes: bool = True) -> Result:
        """See `Backend.write`."""
        while True:
            lock = self._lock
            try:
                result: Result = lock.hold(
                    self._wait_for_lock, self._write, lock, work, arguments, makes
                )
            except OtherLock:
                self._lock = writer_lock(str(self._path))
            except NoPlan:
                plan_of_new()
            else:
                return result

    def _write(
        self, lock: WriterLock, work: Callable[..., Result], arguments: Any, makes: bool
    ) -> Result:
        while True:
            held = self._connections.held("writer") or self._open_writer(lock, makes)
            try:
                result: Result = held.use(held.run, self._shown, work, arguments)
            except Retired:  # a fork, or a close(), has come between
                self._connections.drop("writer")
            except DRIVER_ERRORS as error:
                self._connections.drop("writer")
                self._look_at_revision()
                raise sqlite_fault(error, self.place.shown, "write") from error
            else:
                return result

    def _wait_for_lock(self, lock: WriterLock, turn: Turn) -> None:
        self._check_open()
        make_folder(self.place)
        wait_for(self.place, lock, self._timeout_s, lock.acquire, turn)

    def _open_writer(self, lock: WriterLock, makes: bool) -> Held:
        """This thread's writing connection, opened under the lock."""
        self._check_open()
        if writer_lock(str(self._path)) is not lock:  # the path is a link, and was switched
            self._connections.close()
            raise OtherLock
        # A ledger that was moved away took its lock file along, and others lock a new one.
        wait_for(self.place, lock, self._timeout_s, lock.follow)
        is_there = check_file(self.place)
        if makes and not is_there:
            self._make()
        elif is_there and not os.access(self._path, os.W_OK):
            refuse_to_write(self._shown)
        check_one_name(self.place)
        try:
            self._reader("write")
        except LedgerNotFoundError:
            if not makes:
                raise
            self._make()
            self._reader("write")
        try:
            held = self._connections.check_out("writer", self._begin_writing)
        except DRIVER_ERRORS as error:
            raise sqlite_fault(error, self.place.shown, "write") from error
        # A lock file may be older than this ledger, or than what its permissions are today.
        lock.admit_writers()
        return self._unless_closed("writer", held)

    def _make(self) -> None:
        if not has_plan():
            raise NoPlan
        upgrade_file(self.place, self._timeout_s, locked=True)

    def _begin_writing(self, held: Held) -> None:
        held.transaction = Transaction(held.cursor, self.sql, self._shown)

    # -- the end ----------------------------------------------------------------------------

    def check_engine(self) -> list[str]:
        """See `Backend.check_engine`."""
        return unsound_parts(self.place, self._timeout_s, self.read)

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """See `Backend.backup`."""
        path = Path(copy)
        backup_file(self.place, path, self._timeout_s)
        return path

    def close(self) -> None:
        """Close every connection of this process; a thread still in a call finishes it."""
        self._closed = True
        open_backends.discard(self)
        self._connections.close()

    is_busy = False
    """Nothing waits for its calls: what Python ends inside of SQLite does no harm."""

    def after_fork_in_child(self) -> None:
        """Put the parent's connections aside."""
        self._connections.forget()
