"""Copies of a ledger file that are whole, made while others go on writing.

Copying the file itself would miss what is still in the write-ahead log, and reading it with
`open()` would drop SQLite's locks on it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

from calibration_ledger.errors import (
    InvalidInputError,
    LedgerNotFoundError,
    LedgerPermissionError,
)
from calibration_ledger.storage import sqlite_connect
from calibration_ledger.storage.faults import sqlite_fault
from calibration_ledger.storage.forks import no_fork
from calibration_ledger.storage.place import check_file

if TYPE_CHECKING:
    from pathlib import Path

    from calibration_ledger.storage.place import Place


def backup_beside(place: Place, revision: str, timeout_s: float) -> Path:
    """Copy the ledger beside itself, under a name that says of which revision it is."""
    assert place.path is not None  # noqa: S101 - only files are upgraded here
    number = 1
    while True:
        suffix = f".{revision}.backup" if number == 1 else f".{revision}.backup-{number}"
        copy = place.path.with_name(place.path.name + suffix)
        if not copy.exists():
            backup_file(place, copy, timeout_s)
            return copy
        number += 1


def backup_file(place: Place, copy: Path, timeout_s: float) -> None:
    """Write a consistent copy of the ledger while others go on writing.

    Raises:
        InvalidInputError: there is something at the copy's path already.
        LedgerNotFoundError: there is no ledger to copy.
    """
    assert place.path is not None  # noqa: S101 - `AdaptiveCalibrator.backup` has looked
    if not check_file(place):
        raise LedgerNotFoundError(f"there is no ledger at {place.shown}: nothing to back up.")
    check_copy(copy)
    partial = copy.with_name(copy.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with no_fork(), closing(sqlite_connect.connect_reader(place.path, timeout_s)) as reader:
            reader.execute("VACUUM INTO ?", (str(partial),))
        # Who may not read the ledger may not read its copy either.
        partial.chmod(stat.S_IMODE(place.path.stat().st_mode))
        sync(partial)
    except (sqlite3.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, sqlite3.Error):
            raise sqlite_fault(error, place.shown, "read") from error
        raise LedgerPermissionError(f"{copy} cannot be written: {error.strerror}.") from error
    partial.rename(copy)  # so that a copy that was cut short never bears the name


def check_copy(copy: Path) -> None:
    """Refuse to write a copy over anything, or into nowhere."""
    if copy.exists() or copy.is_symlink():
        raise InvalidInputError(f"{copy} exists already: name a file that does not.")
    if not copy.parent.is_dir():
        raise InvalidInputError(f"{copy} cannot be written, for its folder does not exist.")


def sync(path: Path) -> None:
    """Wait until a file that no SQLite connection of ours has open is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
