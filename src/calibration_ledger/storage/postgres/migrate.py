"""How a ledger in PostgreSQL comes up to date: one transaction under an advisory lock.

The lock is of the transaction, not of the session: it ends with it, whatever happens, and works
behind PgBouncer in transaction mode. DDL is transactional on PostgreSQL, and the revision is read
inside the lock, so of several processes that start at once one upgrades and the others find it
done. Others are kept out while tables change: writers wait, and then find the new revision.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from calibration_ledger.errors import OutcomeUnknownError
from calibration_ledger.storage.postgres.connections import (
    FIND_TABLES,
    check_tables,
    make_engine,
)
from calibration_ledger.storage.postgres.faults import (
    is_busy,
    is_lost_connection,
    is_worth_a_retry,
    no_connection,
    postgres_fault,
)
from calibration_ledger.storage.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.storage.place import Server

_TURN_S, _PAUSE_S = 1.0, 0.1
_LOCK_KEY = 0x63616C69625F31  # "calib_1"; one number for all programs that migrate ledgers


@contextmanager
def begun(place: Server, timeout_s: float, *, locked: bool) -> Iterator[sa.Connection]:
    """One transaction on an own connection; `locked`: alone among those that migrate.

    Raises:
        LedgerBusyError: others migrated, or held the tables, until the deadline.
        OutcomeUnknownError: the commit got no answer.
        LedgerError: the server refused.
    """
    doing = "write" if locked else "read"
    engine = make_engine(place.url, timeout_s).execution_options(isolation_level="READ COMMITTED")
    try:
        try:
            connection = engine.connect()
        except sa.exc.DBAPIError as error:
            raise no_connection(error, place.shown, doing) from error
        with connection:
            try:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(timeout_s * 1000) or 1}")
                if locked:
                    _lock(connection, place)
                yield connection
            except sa.exc.DBAPIError as error:
                raise postgres_fault(error, place.shown, doing) from error
            try:
                connection.commit()
            except sa.exc.DBAPIError as error:
                if not is_lost_connection(error):
                    raise postgres_fault(error, place.shown, doing) from error
                raise OutcomeUnknownError(
                    f"the commit to {place.shown} got no clear answer",
                    stayed="whether it is done cannot be known",
                    advice="run the same command again, which finds out",
                ) from error
    finally:
        engine.dispose()


def _lock(connection: sa.Connection, place: Server) -> None:
    # A server's limit for ordinary statements is not meant for the building of tables.
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")
    rows = connection.exec_driver_sql(FIND_TABLES, (sorted(TABLES),)).fetchall()
    _, schema, on_citus = check_tables(place.shown, rows)
    if on_citus:
        # Tables on other machines are then changed through one connection to each. Through several
        # at once, Citus refuses some statements that change the same tables in one transaction.
        connection.exec_driver_sql("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
    if schema is not None:
        # What a migration makes would go to the first schema of the path, wherever the rest lies.
        connection.exec_driver_sql(
            "SELECT set_config('search_path', quote_ident(%s), true)", (schema,)
        )


def keep_others_out(connection: sa.Connection, timeout_s: float) -> None:
    """Wait until nobody is at work, and let nobody in before this transaction ends.

    All tables are locked before the first is changed, so that no migration, however long, ends in
    a deadlock. `models` comes first: every writing transaction begins with it, so a later one waits
    there without holding anything, and then sees the new revision.

    Raises:
        sqlalchemy.exc.DBAPIError: others held the tables until the deadline.
    """
    # An older ledger has not all of them.
    rows = connection.exec_driver_sql(FIND_TABLES, (sorted(TABLES),)).fetchall()
    found = sorted({table for table, *_ in rows} - {"models"})
    names = ", ".join(["models", *found])
    deadline = time.monotonic() + timeout_s
    while True:
        # All others wait behind this request: withdraw it now and then to let them pass.
        turn_ms = max(1, int(1000 * min(_TURN_S, deadline - time.monotonic())))
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {turn_ms}")
                connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
        except sa.exc.DBAPIError as error:
            may_pass = is_busy(error) or is_worth_a_retry(error)
            if not may_pass or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
