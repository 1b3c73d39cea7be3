"""Whether a ledger's tables are what this program expects: `calib db check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerNotFoundError
from calibration_ledger.storage.contents import of_revision
from calibration_ledger.storage.migrate import current_revision, reading, run_migrations
from calibration_ledger.storage.place import File
from calibration_ledger.storage.schema import READABLE_VIEW, REVISION, TABLES
from calibration_ledger.storage.sqlite.soundness import LIST_SCHEMA, damaged_parts, foreign_parts

if TYPE_CHECKING:
    import sqlalchemy as sa

    from calibration_ledger.storage.place import Server


def schema_differences(place: File | Server, timeout_s: float) -> list[str]:
    """How a ledger's tables differ from what this program expects; empty where they agree.

    The whole schema is compared, CHECKs and views included, with that of a new ledger.

    Raises:
        LedgerNotFoundError: there is no ledger.
        LedgerRevisionError: it is of another revision.
    """
    found = current_revision(place, timeout_s)
    if found is None:
        raise LedgerNotFoundError(f"there is no ledger at {place.shown}: nothing to check.")
    if found != REVISION:
        raise of_revision(found).error(place.shown)
    with reading(place, timeout_s) as connection:
        if isinstance(place, File):
            rows = [tuple(row) for row in connection.exec_driver_sql(LIST_SCHEMA)]
            return [*damaged_parts(rows), *foreign_parts(rows)]
        return _compare(*_server_texts(connection))


# -- PostgreSQL -----------------------------------------------------------------------------
# Its tables are compared as texts that the server writes itself. A new ledger is made beside the
# one to check, out of temporary tables that never outlive the transaction, so that both sides are
# described by the same server in the same words.

_NAMES = [*sorted(TABLES), READABLE_VIEW]

# Every part of a relation that a migration could make, each with its definition.
_PARTS = """
    WITH relations AS (
        SELECT oid, relname, relkind FROM pg_catalog.pg_class
        WHERE relname = ANY (%s) AND relkind IN ('r', 'p', 'v') AND relnamespace = {schema}
    )
    SELECT 'column ' || relname || '.' || attname, concat_ws(
        ' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
        nullif(attidentity, ''), pg_get_expr(adbin, adrelid)
    )
    FROM relations JOIN pg_catalog.pg_attribute ON attrelid = relations.oid
    LEFT JOIN pg_catalog.pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'v'
    UNION ALL
    SELECT 'constraint ' || conname || ' of ' || relname,
        pg_get_constraintdef(pg_constraint.oid) || CASE WHEN convalidated THEN '' ELSE ' (new)' END
    FROM relations JOIN pg_catalog.pg_constraint ON conrelid = relations.oid
    WHERE contype <> 'n'
    UNION ALL
    SELECT 'index ' || indexes.relname || ' of ' || relations.relname,
        regexp_replace(pg_get_indexdef(indexrelid), ' ON .* USING ', ' USING ')
    FROM relations JOIN pg_catalog.pg_index ON indrelid = relations.oid
    JOIN pg_catalog.pg_class AS indexes ON indexes.oid = indexrelid
    UNION ALL
    SELECT 'trigger ' || tgname || ' of ' || relname, pg_get_triggerdef(pg_trigger.oid)
    FROM relations JOIN pg_catalog.pg_trigger ON tgrelid = relations.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT 'view ' || relname, pg_get_viewdef(oid) FROM relations WHERE relkind = 'v'
"""
_HERE = "(SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = 'calibrations'::regclass)"


def _server_texts(connection: sa.Connection) -> tuple[dict[str, str], dict[str, str]]:
    """Every part of the ledger's tables as they are, and as those of a new ledger would be.

    The transaction of the connection is undone.
    """
    found = _texts(connection, _HERE)
    connection.exec_driver_sql("SET LOCAL search_path = pg_temp")
    run_migrations(connection)
    expected = _texts(connection, "pg_my_temp_schema()")
    connection.rollback()
    return found, expected


def _texts(connection: sa.Connection, schema: str) -> dict[str, str]:
    rows = connection.exec_driver_sql(_PARTS.format(schema=schema), (_NAMES,)).fetchall()
    return {part: " ".join(text.split()) for part, text in rows}


def _compare(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    differences = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    differences += [
        f"{name} is not the ledger's" for name in sorted(found.keys() - expected.keys())
    ]
    both = sorted(found.keys() & expected.keys())
    return differences + [f"{n} is {found[n]}" for n in both if found[n] != expected[n]]
