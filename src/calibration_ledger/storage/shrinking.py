"""Giving the space back that removed rows took in a file.

SQLite keeps it for rows to come. `VACUUM` writes the file anew without it, through the write-ahead
log, so that others go on reading, and a kill leaves the file as it was. A server looks after its
own space.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerError
from calibration_ledger.storage import sqlite_connect
from calibration_ledger.storage.faults import DRIVER_ERRORS, sqlite_fault
from calibration_ledger.storage.forks import no_fork
from calibration_ledger.storage.sqlite_migrate import locked_file

if TYPE_CHECKING:
    from calibration_ledger.storage.place import Place

TIMEOUT_S = 30.0
"""How long to wait for other writers of ours."""

_BUSY_S = 1.0
"""How long to wait for readers that keep the log, and for other programs: ours wait meanwhile."""


def size_of(place: Place) -> int | None:
    """The bytes that a ledger's file and its log take; None where it is not in a file."""
    if place.path is None:
        return None
    size = 0
    for suffix in ("", "-wal"):
        with suppress(OSError):
            size += os.stat(f"{os.path.realpath(place.path)}{suffix}").st_size  # noqa: PTH116 - a name beside a path
    return size


def shrink(place: Place) -> str | None:
    """Give the space back, as far as it lies in a file; gives what went wrong, or None."""
    if place.path is None:
        return None
    try:
        with locked_file(place, TIMEOUT_S), no_fork():
            connection = sqlite_connect.connect_writer(place.path, "full", _BUSY_S)
            with closing(connection):
                connection.execute("VACUUM")
                # A reader that keeps the log does no harm: the next to write cuts it back.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except DRIVER_ERRORS as error:
        return str(sqlite_fault(error, place.shown, "read"))
    except LedgerError as error:
        return str(error)
    return None
