"""What every database of a ledger offers to the code above: one way to read, one to write.

A `Backend` runs compiled statements on connections that it keeps, one of each kind a thread; it
owns locks, retries and what errors mean. Nothing above it knows which database it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from calibration_ledger.errors import (
    LedgerError,
    LedgerOutdatedError,
    LedgerTooNewError,
    NotALedgerError,
)
from calibration_ledger.storage.schema import REVISION, TABLES, VERSION_TABLE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from calibration_ledger.storage.place import Place
    from calibration_ledger.storage.statements import Statements

Result = TypeVar("Result")

CORE_TABLES = frozenset({"models", "calls", VERSION_TABLE})
"""What a ledger of any revision has."""


class Raced(Exception):  # noqa: N818 - a signal inside the package, not an error
    """Another transaction did the same in the same moment: run this one again, whole."""


class Cursor(Protocol):
    """The part of a driver's cursor that is used."""

    def execute(self, operation: Any, parameters: Any = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, operation: Any, parameters: Any, /) -> Any:
        """Run one statement for each row."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> Any:
        """All rows that are left."""


class Backend(Protocol):
    """A database with a ledger in it, or with room for one."""

    place: Place
    durability: str
    sql: Statements

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run one reading statement, a snapshot of its own, and give all its rows.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
            LedgerError: it cannot be read.
        """

    def write(self, work: Callable[..., Result], *arguments: Any, makes: bool = True) -> Result:
        """Run `work(transaction, *arguments)` in one transaction, and give what it gives.

        What it raises undoes it all.

        `makes` is whether a ledger that is not there is made first.

        A database that wants it runs the whole `work` again, so it must have no other effects.

        Raises:
            LedgerNotFoundError: there is none, and none was to be made.
            LedgerBusyError: others held the ledger until the deadline.
            NotRecordedError: the transaction certainly left no trace.
            OutcomeUnknownError: the commit failed in a way that leaves the question open.
            LedgerError: the ledger cannot be written.
        """

    def check_engine(self) -> list[str]:
        """What is wrong with the database itself, its tables included; empty where all is well."""

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Write a consistent copy while others go on writing; gives its path."""

    def close(self) -> None:
        """Close every connection."""


def check_is_ledger(ledger: str, tables: set[str], revisions: Sequence[Any]) -> None:
    """Refuse a database whose tables are not a ledger's, or not of this program's revision.

    Raises:
        NotALedgerError: it is a database of something else, or of a revision that never was.
        LedgerRevisionError: it is of another revision.
    """
    if not tables >= TABLES and not is_newer_ledger(tables, [row[0] for row in revisions]):
        raise NotALedgerError(
            f"{ledger} is a database of something else (its tables: "
            f"{', '.join(sorted(tables)[:5])}). It was not touched: name another one."
        )
    if len(revisions) != 1:
        raise NotALedgerError(
            f"{ledger} has no revision, so it is not a whole ledger. It was not touched: restore a "
            f"backup."
        )
    if revisions[0][0] != REVISION:
        raise revision_error(revisions[0][0], ledger)


def is_newer_ledger(tables: set[str], revisions: Sequence[object]) -> bool:
    """Whether this is a ledger of tomorrow, which need not have every table of today."""
    if not tables >= CORE_TABLES or len(revisions) != 1:
        return False
    number = _number_of(revisions[0])
    return number is not None and number > int(REVISION)


def _number_of(revision: object) -> int | None:
    """The number of one of our revisions; None where it is none, whatever the database holds."""
    text = str(revision)
    return int(text) if len(text) == len(REVISION) and text.isascii() and text.isdigit() else None


def revision_error(revision: object, ledger: str) -> LedgerError:
    """The error of a ledger whose revision is not the one of this program."""
    found, number = str(revision), _number_of(revision)
    if number == 0:  # they count from 0001
        return never_written(found, ledger)
    if number is not None and number < int(REVISION):
        return LedgerOutdatedError(
            f"{ledger} is of revision {found}, and this program reads and writes {REVISION}: "
            f"upgrade it with `calib --ledger {ledger} db upgrade`.",
            found=found,
            expected=REVISION,
        )
    return LedgerTooNewError(
        f"{ledger} is of revision {found}, and this program only knows {REVISION}: a newer "
        f"calibration-ledger wrote it. Upgrade this one (pip install -U calibration-ledger).",
        found=found,
        expected=REVISION,
    )


def never_written(revision: str, ledger: str) -> NotALedgerError:
    """The error of a ledger whose revision never was: there is no way on from it."""
    return NotALedgerError(
        f"{ledger} says that it is of revision {revision}, which no calibration-ledger ever wrote. "
        f"It was not touched: restore a backup."
    )
