"""How the tables of a ledger are distributed over the machines of a Citus; see `placement`.

It is one transaction, in which nobody else is at work: a ledger is distributed whole, or not at
all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerError, LedgerPermissionError
from calibration_ledger.storage.contents import asking, of_revision
from calibration_ledger.storage.migrate import read_revision, upgrade
from calibration_ledger.storage.postgres.migrate import begun, keep_others_out
from calibration_ledger.storage.postgres.placement import (
    ALL,
    COPIED,
    FIND_CITUS,
    SPREAD,
    Placed,
    distribution,
    is_worker,
    placed,
)
from calibration_ledger.storage.schema import REVISION, TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from calibration_ledger.core.values import Distribution
    from calibration_ledger.storage.place import Server
    from calibration_ledger.storage.postgres.placement import Ask

OLDEST = (11, 2)
"""The first Citus that takes an identity column."""

_MACHINES = """
    SELECT nodename, nodeport FROM pg_catalog.pg_dist_node
    WHERE noderole = 'primary' AND isactive AND shouldhaveshards ORDER BY 1, 2
"""
_REACHES = "SELECT pg_catalog.citus_check_connection_to_node(%s, %s)"
_FOREIGN_TABLES = """
    SELECT relname FROM pg_catalog.pg_class
    WHERE relname = ANY (%s) AND pg_catalog.pg_table_is_visible(oid)
    AND NOT pg_catalog.pg_has_role(relowner, 'USAGE') ORDER BY 1
"""
_FIND_KEY = """
    SELECT conname, pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
    WHERE conrelid = 'call_details'::regclass AND contype = 'f'
"""


def distribute(place: Server, timeout_s: float) -> Distribution:
    """See `AdaptiveCalibrator.distribute`."""
    with begun(place, timeout_s, locked=False) as connection:
        ask = asking(connection)
        _check_citus(ask, place)
        before = read_revision(connection, place.shown)
        if before is not None:
            _check_tables(ask, before, place)
    if before is None:
        upgrade(place, timeout_s)
    with begun(place, timeout_s, locked=True) as connection:
        ask = asking(connection)
        missing = _check_tables(ask, REVISION, place)
        if missing:
            keep_others_out(connection, timeout_s)
            _distribute(connection, place, missing)
        return distribution(ask, place.shown, missing)


def _refusal(place: Server, matter: str, advice: str) -> LedgerError:
    return LedgerError(
        f"{place.shown} cannot be distributed: {matter}",
        stayed="nothing was changed",
        advice=advice,
    )


def _check_citus(ask: Ask, place: Server) -> None:
    """Refuse a server that cannot distribute anything.

    Raises:
        LedgerError: what is missing there.
    """
    version = ask(FIND_CITUS)
    if not version:
        raise _refusal(
            place,
            "Citus is not in this database",
            "on every machine, have shared_preload_libraries = 'citus' and run CREATE EXTENSION "
            "citus in a database of this name; or distribute nothing, and use it as it is",
        )
    numbers = tuple(int(part) for part in version[0][0].split("-")[0].split("."))
    if numbers < OLDEST:
        raise _refusal(
            place,
            f"its Citus is {version[0][0]}, and identity columns need {OLDEST[0]}.{OLDEST[1]}",
            "upgrade Citus",
        )
    if is_worker(ask):
        raise _refusal(
            place, "this machine is a worker of Citus", "connect to the coordinator instead"
        )
    found = ask(_MACHINES)
    if not found:
        raise _refusal(
            place,
            "Citus knows no machine to put rows on",
            "run SELECT citus_set_coordinator_host('HOST', PORT), then SELECT "
            "citus_add_node('HOST', PORT) for each worker",
        )
    away = [f"{host}:{port}" for host, port in found if ask(_REACHES, (host, port)) != [(True,)]]
    if away:
        raise _refusal(
            place,
            f"Citus does not reach {', '.join(away)}",
            "start them, or see in pg_dist_node whether they are still needed",
        )


def _check_tables(ask: Ask, revision: str, place: Server) -> list[str]:
    """The tables that are still to be distributed.

    Raises:
        LedgerError: they cannot be, as they are.
    """
    if revision != REVISION:
        raise of_revision(revision).error(place.shown)
    found = placed(ask) or Placed({}, set())
    if found.with_schema:
        raise _refusal(
            place,
            "its schema is distributed, so that the whole ledger lies on one machine",
            "use it as it is; or take the schema back with SELECT "
            "citus_schema_undistribute('SCHEMA'), and distribute then",
        )
    missing = found.missing()
    wrong = found.faults(table for table in ALL if table not in missing)
    if wrong:
        raise _refusal(
            place,
            "; ".join(wrong),
            "take them back with SELECT undistribute_table('TABLE'), and distribute then",
        )
    if missing and (of_others := ask(_FOREIGN_TABLES, (sorted(TABLES),))):
        raise LedgerPermissionError(
            f"{place.shown} cannot be distributed: its tables are of another role "
            f"({', '.join(table for (table,) in of_others)})",
            stayed="nothing was changed",
            advice="do it as their owner, who made the ledger",
        )
    return missing


def _distribute(connection: sa.Connection, place: Server, missing: Sequence[str]) -> None:
    run, ask = connection.exec_driver_sql, asking(connection)
    run("SET LOCAL extra_float_digits = 1")  # numbers may go to the machines as texts
    before = _count_rows(ask)
    # A table that is still local must not refer to rows that lie elsewhere.
    keys = ask(_FIND_KEY) if "call_details" in missing else []
    for name, _ in keys:
        run(f"ALTER TABLE call_details DROP CONSTRAINT {name}")
    for table in missing:
        if table in COPIED:
            run("SELECT create_reference_table(%s)", (table,))
        else:
            group = "default" if table == SPREAD[0] else SPREAD[0]
            run(
                "SELECT create_distributed_table(%s, 'model_id', colocate_with => %s)",
                (table, group),
            )
    for name, text in keys:
        run(f"ALTER TABLE call_details ADD CONSTRAINT {name} {text}")
    # The rows were copied, and what lies here is out of sight: to remove it cannot be undone.
    if _count_rows(ask) != before:
        raise _refusal(place, "the machines have not as many rows as there were", "report it")
    for table in (*COPIED, "voided"):  # with those that refer to it, as all others do
        run("SELECT truncate_local_data_after_distributing_table(%s)", (table,))


def _count_rows(ask: Ask) -> dict[str, int]:
    return {table: ask(f"SELECT count(*) FROM {table}")[0][0] for table in ALL}
