"""What every database of a ledger offers to the code above: one way to read, one to write.

A `Backend` runs compiled statements on connections that it keeps, one of each kind a thread; it
owns locks, retries and what errors mean. Nothing above it knows which database it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from calibration_ledger.core.command import calib

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from calibration_ledger.storage.place import Place
    from calibration_ledger.storage.statements import Statements

Result = TypeVar("Result")

TRY_AGAIN = "try again, or give a longer timeout_s"
"""What to do where others held the ledger."""


def look_whether_recorded(ledger: str) -> str:
    """What to do where a COMMIT to the ledger got no answer."""
    return (
        f"record calls that carry a request_id again (none is added twice), and look for others in "
        f"`{calib('history', ledger=ledger)}`"
    )


class Raced(Exception):  # noqa: N818 - a signal inside the package, not an error
    """Another transaction did the same in the same moment: run this one again, whole."""


class Cursor(Protocol):
    """The part of a driver's cursor that is used."""

    def execute(self, operation: Any, parameters: Any = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, operation: Any, parameters: Any, /) -> Any:
        """Run one statement for each row."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement changed."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> Any:
        """All rows that are left."""


class Source(Protocol):
    """Where a ledger can be read."""

    @property
    def place(self) -> Place:
        """Where it lies."""

    @property
    def sql(self) -> Statements:
        """What it is asked with."""

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run one reading statement, a snapshot of its own, and give all its rows.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
            LedgerError: it cannot be read.
        """

    def find(self, model: str) -> list[Any]:
        """The row `(model_id, *snapshot, last_seq, head, alias_seq)` of a model.

        It is that of the model which is called so itself; no rows for one never seen.

        Raises what `read` raises.
        """


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A ledger to read by a connection that is open: a `Source`.

    Attributes:
        place: where it lies.
        sql: what it is asked with.
        ask: runs a statement with its parameters, and gives the rows.
    """

    place: Place
    sql: Statements
    ask: Callable[[str, Sequence[Any]], list[Any]]

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Source.read`."""
        return self.ask(text, parameters)

    def find(self, model: str) -> list[Any]:
        """See `Source.find`."""
        return self.ask(self.sql.find, (model,))


class Backend(Source, Protocol):
    """A database with a ledger in it, or with room for one."""

    durability: str

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
