"""How a migration builds anew a table that the readable view stands on.

With the view in the way the table cannot be dropped or renamed. `env.py` hands `without_view` to
every migration, which must import nothing of the program:

    with op.get_context().opts["without_view"]():
        with op.batch_alter_table("calls", ...) as batch:

The view comes back as it was, whatever revision it is of. A migration that changes the view
itself drops and creates it in words of its own.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from calibration_ledger.storage.schema import READABLE_VIEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa

_TEXT = {
    "sqlite": f"SELECT sql FROM sqlite_master WHERE type = 'view' AND name = '{READABLE_VIEW}'",
    "postgresql": f"SELECT 'CREATE VIEW {READABLE_VIEW} AS '"
    f" || pg_catalog.pg_get_viewdef('{READABLE_VIEW}'::regclass)",
}
_GRANTS = f"""
    SELECT 'GRANT ' || given.privilege_type || ' ON {READABLE_VIEW} TO '
        || CASE given.grantee WHEN 0 THEN 'PUBLIC'
           ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(given.grantee)) END
        || CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    FROM pg_catalog.pg_class AS found
    CROSS JOIN LATERAL pg_catalog.aclexplode(found.relacl) AS given
    WHERE found.oid = '{READABLE_VIEW}'::regclass AND given.grantee <> found.relowner
"""


@contextmanager
def without_view(connection: sa.Connection) -> Iterator[None]:
    """Drop the readable view, and create it again behind the block, in the same transaction.

    On PostgreSQL, who may read it may do so afterwards. Should the block fail, the transaction
    brings the view back.
    """
    dialect = connection.dialect.name
    text = connection.exec_driver_sql(_TEXT[dialect]).scalar_one()
    grants = connection.exec_driver_sql(_GRANTS).scalars().all() if dialect != "sqlite" else []
    connection.exec_driver_sql(f"DROP VIEW {READABLE_VIEW}")
    yield
    for statement in (text, *grants):
        connection.exec_driver_sql(statement)
