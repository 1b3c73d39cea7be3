"""Copies of a ledger file that are whole, made while others go on writing.

Copying the file itself would miss what is still in the write-ahead log, and reading it with
`open()` would drop SQLite's locks on it.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from itertools import count
from typing import TYPE_CHECKING

from calibration_ledger.core.files import (
    COMPANIONS,
    copy_mode,
    create,
    full_path,
    is_ledger_file,
    publish,
)
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerError,
    LedgerNotFoundError,
    LedgerPathError,
    LedgerPermissionError,
)
from calibration_ledger.storage.place import bytes_of, check_file
from calibration_ledger.storage.sqlite.connections import (
    connect_reader,
    connect_writer,
    look_at,
    uri,
)
from calibration_ledger.storage.sqlite.faults import faults_of
from calibration_ledger.storage.sqlite.lock import locked_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from calibration_ledger.storage.place import File, Place


VACUUM_INTO = "VACUUM INTO ?"
"""Its parameter is a URI of mode `rw`, so that SQLite fills our file and makes none of its own."""

_NAME_KEPT = 40
"""Characters of the copy's name in that of the unfinished one: names cannot be of any length."""


def backup_beside(place: File, revision: str, timeout_s: float) -> Path:
    """Copy the ledger beside itself, under a name that says of which revision it is."""
    name = f"{place.path.name}.{revision}.backup"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    copy = next(copy for copy in map(place.path.with_name, names) if not copy.exists())
    backup_file(place, copy, timeout_s)
    return copy


def backup_file(place: File, copy: Path, timeout_s: float) -> None:
    """Write a consistent copy of the ledger while others go on writing.

    Raises:
        InvalidInputError: there is something at the copy's path already.
        LedgerNotFoundError: there is no ledger to copy.
    """
    if not check_file(place):
        raise LedgerNotFoundError(f"there is no ledger at {place.shown}: nothing to back up.")
    ledger = place.path

    def fill(partial: Path) -> None:
        with connect_reader(ledger, timeout_s) as reader:
            _check_is_made(place, reader)
            reader.execute(VACUUM_INTO, (uri(partial, "rw"),))
        # Who may not read the ledger may not read its copy either.
        copy_mode(partial, ledger)

    with faults_of(place.shown, "read"):
        new_copy(copy, ledger, fill)


def _check_is_made(place: File, reader: sqlite3.Connection) -> None:
    """Refuse a database that holds no ledger, as a process leaves that was killed while making one.

    One of another revision is a ledger: an upgrade backs it up.
    """
    contents = look_at(reader)
    if contents.state == "empty":
        raise LedgerNotFoundError(
            f"{place.shown} is an empty database, no ledger yet: nothing to back up."
        )
    if contents.state == "foreign":
        raise contents.error(place.shown)


def new_copy(copy: Path, ledger: Path | None, fill: Callable[[Path], object]) -> None:
    """Let `fill` fill an empty file that nobody else may read; it gets its name once it is whole.

    Raises:
        InvalidInputError: the copy's path is taken, leads nowhere or is one of the ledger's own, or
            is relative to a current folder that was removed.
        LedgerPermissionError: it cannot be written there.
        LedgerPathError: there is no room for it.
    """
    full_path(copy)
    if os.path.lexists(copy):
        raise _taken(copy)
    try:
        is_ours = ledger is not None and is_ledger_file(copy, ledger)
    except OSError as error:  # no permission to look, say
        raise InvalidInputError(f"{copy} cannot be written: {error.strerror}.") from None
    if is_ours:
        raise InvalidInputError(f"{copy} is a name that belongs to the ledger: name another file.")
    if not copy.parent.is_dir():
        raise InvalidInputError(f"{copy} cannot be written, for its folder does not exist.")
    # A random name: whatever has one that can be guessed may be somebody else's.
    partial = copy.with_name(f"{copy.name[:_NAME_KEPT]}.{secrets.token_hex(8)}.partial")
    try:
        os.close(create(partial, ledger, private=True))
        fill(partial)
        sync(partial)
        publish(partial, copy)
    except FileExistsError:
        raise _taken(copy) from None
    except (OSError, LedgerError, sqlite3.Error) as error:
        if _finds_no_room(error):
            # It is the copy's disk that is full, not the ledger's, which is only read.
            raise LedgerPathError(
                f"{copy} could not be written, for its disk is full: nothing is left of it. Make "
                f"room, or name another place."
            ) from error
        if isinstance(error, LedgerError | sqlite3.Error):
            raise
        raise LedgerPermissionError(f"{copy} cannot be written: {error.strerror}.") from error
    finally:
        for suffix in ("", *COMPANIONS):  # SQLite fills it under a journal, which a fault leaves
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)


def _finds_no_room(error: BaseException) -> bool:
    for one in (error, error.__cause__):
        if getattr(one, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        if isinstance(one, OSError) and one.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
    return False


def _taken(copy: Path) -> InvalidInputError:
    return InvalidInputError(f"{copy} exists already: name a file that does not.")


def sync(path: Path) -> None:
    """Wait until a file that no SQLite connection of ours has open is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- giving back the space that removed rows took -------------------------------------------
# SQLite keeps it for rows to come. `VACUUM` writes the file anew without it, through the write-
# ahead log, so that others go on reading, and a kill leaves the file as it was. A server looks
# after its own space.

TIMEOUT_S = 30.0
"""How long to wait for other writers of ours."""

_BUSY_S = 1.0
"""How long to wait for readers that keep the log, and for other programs: ours wait meanwhile."""


def size_of(place: Place) -> int | None:
    """The bytes that a ledger's file and its log take; None where it is not in a file."""
    if place.path is None:
        return None
    path = os.path.realpath(place.path)
    return sum(max(0, bytes_of(name)) for name in (path, f"{path}-wal"))


def shrink(place: Place) -> str | None:
    """Give the space back, as far as it lies in a file; gives what went wrong, or None."""
    if place.path is None:
        return None
    try:
        with (
            faults_of(place.shown, "read"),
            locked_file(place, TIMEOUT_S),
            connect_writer(place.path, "full", _BUSY_S) as connection,
        ):
            connection.execute("VACUUM")
            # A reader that keeps the log does no harm: the next to write cuts it back.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except LedgerError as error:
        return str(error)
    return None
