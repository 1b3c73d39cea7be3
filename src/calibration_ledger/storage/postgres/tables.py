"""Which tables the statements would find in a PostgreSQL database, and in which schema.

A name without a schema is looked for along the search_path, so a ledger may lie in any schema of
it, beside other programs' tables. All tables of a ledger must be found in one and the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import NotALedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

FIND_TABLES = """
    SELECT found.relname::text, schemas.nspname::text
    FROM pg_catalog.pg_class AS found
    JOIN pg_catalog.pg_namespace AS schemas ON schemas.oid = found.relnamespace
    WHERE found.relname = ANY (%s) AND found.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND pg_catalog.pg_table_is_visible(found.oid)
"""
"""Not information_schema, which hides what a user has no grant for: a ledger that may not be read
would look like none, and be made anew."""


def check_tables(ledger: str, rows: Sequence[Any]) -> tuple[set[str], str | None]:
    """The tables and their schema (None for no table) in rows of `FIND_TABLES`.

    Raises:
        NotALedgerError: they lie in several schemas.
    """
    schemas = {schema for _, schema in rows}
    if len(schemas) > 1:
        found = ", ".join(sorted(f"{schema}.{table}" for table, schema in rows))
        raise NotALedgerError(
            f"{ledger}: its search_path mixes tables of several schemas ({found}). Nothing was "
            f"touched: name the one to use, by ?options=-csearch_path%3DSCHEMA behind the URL."
        )
    return {table for table, _ in rows}, schemas.pop() if schemas else None
