"""What SQLite's errors mean, as this project's typed errors.

One distinction matters to callers. A failure before COMMIT was sent means that nothing was
recorded; after a failure while COMMIT ran, nobody may be able to know.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calibration_ledger.core.command import calib
from calibration_ledger.errors import (
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerPermissionError,
    NotALedgerError,
    NotRecordedError,
    OutcomeUnknownError,
)
from calibration_ledger.storage.backend import TRY_AGAIN, look_whether_recorded
from calibration_ledger.storage.sqlite.forks import forked_error

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY = (LedgerBusyError, "is held by another program", TRY_AGAIN)
_PERMISSIONS = "check the permissions of the file and of its folder"
_DENIED = (LedgerPermissionError, "may not be written by this user", _PERMISSIONS)
_DAMAGED = (
    LedgerCorruptError,
    "is damaged",
    "`{doctor}` says what can still be read; restore a backup, or save that with `{salvage}`",
)

# Error, what is the matter, what to do (commands are filled in): where the code alone says it.
_MEANINGS: dict[int, tuple[type[LedgerError], str, str]] = {
    sqlite3.SQLITE_NOTADB: (
        NotALedgerError,
        "is not a ledger, nor any SQLite database",
        "name another path, or ask `{doctor}` if it was a ledger once",
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_CANTOPEN: (
        LedgerPermissionError,
        "cannot be opened",
        f"{_PERMISSIONS}. If they allow it, the process may have too many files open (ulimit -n)",
    ),
    sqlite3.SQLITE_FULL: (
        NotRecordedError,
        "lies on a full disk, or the folder for temporary files (TMPDIR) does",
        "make room and try again",
    ),
}

_DOING: dict[str, tuple[type[LedgerError], str, str]] = {
    "read": (
        LedgerError,
        "could not be read",
        "try again; if it stays so, `{doctor}` says what it can find out",
    ),
    "write": (NotRecordedError, "could not be written", "mend the cause and try again"),
    "commit": (
        OutcomeUnknownError,
        "could not be committed to",
        "{look}",
    ),
}


DRIVER_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What the driver raises. The second, where a damaged file's text is in SQLite's own message."""


def code_of(error: Exception) -> int:
    """SQLite's primary code of one of `DRIVER_ERRORS`; 0 where it bears none.

    A text that cannot be decoded is damage, of a name in the schema or of a message about it.
    """
    if isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error):
        return sqlite3.SQLITE_CORRUPT
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # extended codes carry the primary one in their lowest byte


def sqlite_fault(error: Exception, ledger: str, doing: str) -> LedgerError:
    """The typed error of one of sqlite3's.

    Args:
        error: what sqlite3 raised, one of `DRIVER_ERRORS`.
        ledger: the ledger, as it may be shown.
        doing: "read", "write" or "commit".
    """
    if code_of(error) == sqlite3.SQLITE_AUTH:  # see `forks.Connection.forbid`
        return forked_error()
    kind, matter, advice = _MEANINGS.get(code_of(error)) or _DOING[doing]
    said = f"{ledger} {matter} (SQLite: {error})"
    advice = advice.format(
        doctor=calib("doctor", ledger=ledger),
        salvage=calib("export", "jsonl", "FILE", "--salvage", ledger=ledger),
        look=look_whether_recorded(ledger),
    )
    if kind is OutcomeUnknownError:
        return kind(said, advice=advice)
    stayed = "nothing was recorded"
    if doing == "read":
        stayed = "it was not touched" if kind in {NotALedgerError, LedgerCorruptError} else ""
    return kind(said, stayed=stayed, advice=advice)


@contextmanager
def faults_of(ledger: str, doing: str) -> Iterator[None]:
    """Raise `sqlite_fault` for what the driver raises in this block.

    A context manager takes a microsecond: not for what is done at every call.
    """
    try:
        yield
    except DRIVER_ERRORS as error:
        raise sqlite_fault(error, ledger, doing) from error
