"""How Alembic reaches a ledger.

The program hands its connection in (`config.attributes["connection"]`), under the writers' lock
and inside one transaction. A developer's `alembic upgrade head` names the ledger with
`-x ledger=PATH-OR-URL`, else it is `$CALIBRATION_LEDGER`, else the user's own.
"""

from alembic import context

from calibration_ledger.storage.migrate import migration_connection
from calibration_ledger.storage.schema import metadata


def run(connection):
    plugins = ["alembic.autogenerate.*", "alembic.ext.checkconstraint_byname"]
    if connection.dialect.name == "sqlite":
        # The only default is an identity column's, which SQLite does not know.
        plugins.append("~alembic.autogenerate.defaults")
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # On SQLite a table can only be changed by building it anew.
        render_as_batch=True,
        compare_type=True,
        compare_server_default=True,
        autogenerate_plugins=plugins,
        # SQLite's DDL is transactional too, when the BEGIN is our own.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("A ledger is upgraded over a connection: leave --sql out.")

handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    run(handed_in)
else:
    with migration_connection(context.get_x_argument(as_dictionary=True).get("ledger")) as own:
        run(own)
