"""What PostgreSQL's errors mean, as this project's typed errors."""

from __future__ import annotations

import psycopg
import sqlalchemy as sa

from calibration_ledger.errors import (
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    LedgerPermissionError,
    NotRecordedError,
    OutcomeUnknownError,
)
from calibration_ledger.storage.backend import TRY_AGAIN, Raced, look_whether_recorded

_RETRIED = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_ENDED = frozenset(
    {
        "57P01",  # admin_shutdown: the server stops, or somebody ended the connection
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P04",  # database_dropped
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    }
)
_INTERNAL = "XX000"
"""internal_error: on Citus, that the connection to another machine broke."""
_DAMAGED = frozenset({"XX001", "XX002"})  # data_corrupted, index_corrupted
_BUSY = frozenset({"55P03", "57014"})  # lock_not_available, query_canceled
_DENIED = "42501"  # insufficient_privilege
_READ_ONLY = "25006"  # read_only_sql_transaction
_CHANGED = frozenset({"42P01", "42703"})  # undefined_table, undefined_column


def _driver_error(error: BaseException) -> BaseException:
    """The driver's own error inside SQLAlchemy's."""
    if isinstance(error, sa.exc.DBAPIError) and error.orig is not None:
        return error.orig
    return error


def _code(error: BaseException) -> str:
    return getattr(_driver_error(error), "sqlstate", None) or ""


def _said(error: BaseException) -> str:
    """The first line of what the server or the driver said."""
    error = _driver_error(error)
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def is_worth_a_retry(error: BaseException) -> bool:
    """Whether the transaction was undone for a reason that the next try may not meet."""
    return isinstance(error, Raced) or _code(error) in _RETRIED or is_crowded(error)


def is_busy(error: BaseException) -> bool:
    """Whether others held what was wanted."""
    return _code(error) in _BUSY or is_crowded(error)


def is_crowded(error: BaseException) -> bool:
    """Whether PgBouncer had none of its server connections to give for too long.

    It says so instead of the server, before the first statement of a transaction.
    """
    return _code(error) == "08P01" and _said(error) == "query_wait_timeout"


def is_ended(error: BaseException) -> bool:
    """Whether the server ended the connection, and said so."""
    return _code(error) in _ENDED


def is_starting(error: BaseException) -> bool:
    """Whether a machine behind the server starts or stops: then it is there again in a moment.

    Citus has no code of its own for it, only the words of that machine.
    """
    return _code(error).startswith("08") and "the database system is " in str(error)


def is_lost_connection(error: BaseException) -> bool:
    """Whether the connection ended, and the server's last word with it.

    Or that of the server to another machine, on Citus: nothing is known then either of a COMMIT.
    """
    code = _code(error)
    if code:
        return code in _ENDED or code.startswith("08") or code == _INTERNAL
    error = _driver_error(error)
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def is_changed_schema(error: BaseException) -> bool:
    """Whether the tables are not what they were when the ledger was opened."""
    return _code(error) in _CHANGED


def no_connection(error: BaseException, ledger: str, doing: str) -> LedgerError:
    """The typed error of a connection that could not be made."""
    if is_crowded(error):
        return postgres_fault(error, ledger, doing)
    kind = LedgerError if doing == "read" else NotRecordedError
    return kind(
        f"there is no connection to {ledger} (PostgreSQL: {_said(error)})",
        advice="check the URL, the user and password, and whether the server runs",
    )


def in_the_way(ledger: str, timeout_s: float, doing: str) -> LedgerBusyError:
    """The typed error of what was tried again until its deadline."""
    return LedgerBusyError(
        f"others got in the way in {ledger} for {timeout_s:g} s",
        stayed=_stayed(doing),
        advice=TRY_AGAIN,
    )


def unknown_outcome(error: BaseException, ledger: str) -> OutcomeUnknownError:
    """The typed error of a COMMIT that got no answer."""
    return OutcomeUnknownError(
        f"the commit to {ledger} got no clear answer (PostgreSQL: {_said(error)})",
        advice=look_whether_recorded(ledger),
    )


def postgres_fault(error: BaseException, ledger: str, doing: str) -> LedgerError:
    """The typed error of one of psycopg's that left no trace; see `sqlite_fault`."""
    code, said = _code(error), _said(error)
    kind: type[LedgerError]
    if is_busy(error):
        kind, matter, advice = LedgerBusyError, "is held by another program", TRY_AGAIN
    elif code == _DENIED:
        kind, matter = LedgerPermissionError, "does not allow this to its user"
        advice = "ask for the grants listed in docs/postgresql.md"
    elif code == _READ_ONLY:
        kind, matter = LedgerPermissionError, "is read-only"
        advice = "connect to the primary server, or have default_transaction_read_only set off"
    elif code in _DAMAGED:
        kind, matter, advice = LedgerCorruptError, "is damaged", "ask whoever runs the server"
    elif doing == "read":
        kind, matter, advice = LedgerError, "could not be read", "try again"
    else:
        kind, matter = NotRecordedError, "could not be written"
        advice = "mend the cause and try again"
    return kind(f"{ledger} {matter} (PostgreSQL: {said})", stayed=_stayed(doing), advice=advice)


def _stayed(doing: str) -> str:
    return "" if doing == "read" else "nothing was recorded"
