"""The transaction in which a SQLite file is made or upgraded."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from calibration_ledger.errors import LedgerCorruptError
from calibration_ledger.storage.place import make_folder
from calibration_ledger.storage.sqlite.connections import connect_migrator, set_wal
from calibration_ledger.storage.sqlite.faults import faults_of
from calibration_ledger.storage.sqlite.forks import no_fork
from calibration_ledger.storage.sqlite.permissions import make_empty

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.storage.place import File


@contextmanager
def begun_file(place: File, timeout_s: float) -> Iterator[sa.Connection]:
    """One write transaction on an own connection with foreign keys off; the lock is held."""
    make_folder(place)
    make_empty(place.path)
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: connect_migrator(place.path, timeout_s),
        poolclass=sa.NullPool,
    )
    sa.event.listen(engine, "begin", lambda begun: begun.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        with faults_of(place.shown, "write"), no_fork():
            with closing(engine.raw_connection()) as pooled:
                raw: Any = pooled.driver_connection
                # Only in a database without tables: it is ours, foreign ones are not touched.
                if not raw.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchall():
                    set_wal(raw)
            try:
                with engine.begin() as connection:
                    yield connection
                    _check_references(place, connection)
            except sa.exc.IntegrityError as error:
                # No program of ours wrote that row. A table that is rebuilt looks at each again.
                raise LedgerCorruptError(
                    f"{place.shown} was not upgraded, because a row in it is not what its table "
                    f"allows ({error.orig}): restore a backup, or write down the calls that can be "
                    f"read with `calib export csv FILE --salvage`."
                ) from error
    finally:
        engine.dispose()


def _check_references(place: File, connection: sa.Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise LedgerCorruptError(
            f"{place.shown} was not upgraded, because rows in it refer to rows that are "
            f"missing ({broken[0][0]}): run `calib audit` and restore a backup."
        )
