"""The transactions in which a SQLite file is made, and upgraded."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calibration_ledger.core.command import calib
from calibration_ledger.errors import LedgerCorruptError
from calibration_ledger.storage.place import make_folder
from calibration_ledger.storage.schema import VERSION_TABLE
from calibration_ledger.storage.sqlite.connections import connect_migrator, look_at, set_wal
from calibration_ledger.storage.sqlite.faults import faults_of
from calibration_ledger.storage.sqlite.permissions import make_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import sqlalchemy as sa

    from calibration_ledger.storage.place import File


def make_file(place: File, statements: Sequence[str], timeout_s: float) -> None:
    """Make a ledger of these statements where there is none; the lock is held.

    Raises:
        NotALedgerError: another program has filled the file meanwhile.
        LedgerError: it cannot be written.
    """
    make_folder(place)
    make_empty(place.path)
    with faults_of(place.shown, "write"), connect_migrator(place.path, timeout_s) as connection:
        if look_at(connection).state == "empty":  # it is ours: foreign ones are not touched
            set_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        contents = look_at(connection)
        if contents.state != "empty":
            raise contents.error(place.shown)
        # What a downgrade to nothing leaves: a table without a row.
        connection.execute(f"DROP TABLE IF EXISTS {VERSION_TABLE}")
        for text in statements:
            connection.execute(text)
        connection.execute("COMMIT")


@contextmanager
def begun_file(place: File, timeout_s: float) -> Iterator[sa.Connection]:
    """One write transaction on an own connection with foreign keys off; the lock is held."""
    make_folder(place)
    make_empty(place.path)
    with faults_of(place.shown, "write"), connect_migrator(place.path, timeout_s) as raw:
        # Only in a database without tables: it is ours, foreign ones are not touched.
        if not raw.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchall():
            set_wal(raw)
        engine = engine_of(raw, "BEGIN IMMEDIATE")
        try:
            with engine.begin() as connection:
                yield connection
                _check_references(place, connection)
        except sqlite3.IntegrityError as error:
            # No program of ours wrote that row. A table that is rebuilt looks at each again.
            raise LedgerCorruptError(
                f"{place.shown} was not upgraded, because a row in it is not what its table "
                f"allows ({error}): restore a backup, or write down the calls that can be "
                f"read with `{calib('export', 'csv', 'FILE', '--salvage', ledger=place.shown)}`."
            ) from error


def engine_of(raw: sqlite3.Connection, begin: str = "BEGIN") -> sa.Engine:
    """SQLAlchemy's engine over one connection, which its owner closes.

    What the driver raises comes out as it is.
    """
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://", creator=lambda: raw, poolclass=sa.StaticPool)
    sa.event.listen(engine, "begin", lambda begun: begun.exec_driver_sql(begin))
    sa.event.listen(engine, "handle_error", lambda told: told.original_exception, retval=True)
    return engine


def _check_references(place: File, connection: sa.Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise LedgerCorruptError(
            f"{place.shown} was not upgraded, because rows in it refer to rows that are "
            f"missing ({broken[0][0]}): run `{calib('audit', ledger=place.shown)}` and restore a "
            f"backup."
        )
