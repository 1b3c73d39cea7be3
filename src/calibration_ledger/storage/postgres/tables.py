"""The tables of a ledger in PostgreSQL, as texts that the server itself writes.

To see whether they are as they should be, a new ledger is made beside the one to check, out of
temporary tables that never outlive the transaction, so that the same server describes both in the
same words. How Citus keeps the tables, where there is one, is looked at too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerError
from calibration_ledger.storage.contents import asking
from calibration_ledger.storage.postgres.placement import ALL, is_worker, placed
from calibration_ledger.storage.schema import READABLE_VIEW, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

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


def differences(
    connection: sa.Connection, ledger: str, make: Callable[[sa.Connection], None]
) -> list[str]:
    """How the tables of a ledger differ from those of a new one; empty where they agree.

    The transaction of the connection is undone.

    Args:
        connection: a connection to the ledger.
        ledger: the ledger, as it may be shown.
        make: makes a new ledger.

    Raises:
        LedgerError: here no tables can be made to compare with.
    """
    ask = asking(connection)
    if is_worker(ask):
        raise LedgerError(
            f"the tables of {ledger} cannot be compared on a worker of Citus",
            advice="connect to the coordinator instead",
        )
    kept = placed(ask)
    faults = [] if kept is None else kept.faults(ALL)
    found = _texts(connection, _HERE)
    connection.exec_driver_sql("SET LOCAL search_path = pg_temp")
    make(connection)
    expected = _texts(connection, "pg_my_temp_schema()")
    connection.rollback()
    return [*_compare(found, expected), *faults]


def _texts(connection: sa.Connection, schema: str) -> dict[str, str]:
    rows = connection.exec_driver_sql(_PARTS.format(schema=schema), (_NAMES,)).fetchall()
    return {part: " ".join(text.split()) for part, text in rows}


def _compare(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    names = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    names += [f"{name} is not the ledger's" for name in sorted(found.keys() - expected.keys())]
    both = sorted(found.keys() & expected.keys())
    return names + [f"{name} is {found[name]}" for name in both if found[name] != expected[name]]


# -- the readable view, to be made again behind a migration ---------------------------------

_VIEW = (
    f"SELECT 'CREATE VIEW {READABLE_VIEW} AS '"
    f" || pg_catalog.pg_get_viewdef('{READABLE_VIEW}'::regclass)"
)
_GRANTS = f"""
    SELECT 'GRANT ' || given.privilege_type || ' ON {READABLE_VIEW} TO '
        || CASE given.grantee WHEN 0 THEN 'PUBLIC'
           ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(given.grantee)) END
        || CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    FROM pg_catalog.pg_class AS found
    CROSS JOIN LATERAL pg_catalog.aclexplode(found.relacl) AS given
    WHERE found.oid = '{READABLE_VIEW}'::regclass AND given.grantee <> found.relowner
"""


def view_texts(connection: sa.Connection) -> list[str]:
    """The statements that make the readable view again, and let those read it who may now."""
    return [
        text
        for query in (_VIEW, _GRANTS)
        for text in connection.exec_driver_sql(query).scalars().all()
    ]
