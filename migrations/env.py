"""How Alembic reaches a ledger.

The program hands its connection in (`config.attributes["connection"]`), under the writers' lock
and inside one transaction. A developer's `alembic upgrade head` names the ledger with
`-x ledger=PATH-OR-URL`, else it is `$CALIBRATION_LEDGER`, else the user's own. Commands that only
look, such as `current` and `check`, read it and make nothing.
"""

from functools import partial

from alembic import context

from calibration_ledger.errors import CalibrationLedgerError
from calibration_ledger.storage.migrate import (
    current_revision,
    migration_connection,
    reader_of,
    without_view,
)
from calibration_ledger.storage.place import Memory, find_place
from calibration_ledger.storage.tables import metadata

TIMEOUT_S = 30.0


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
        # For migrations that build a table anew: see there.
        without_view=partial(without_view, connection),
    )
    with context.begin_transaction():
        context.run_migrations()


def only_looks():
    """Whether the command has no revision to bring the ledger to."""
    try:
        context.get_revision_argument()
    except KeyError:
        return True
    return False


def run_on_own_connection(ledger):
    place = find_place(ledger)
    if not isinstance(place, Memory):
        found = current_revision(place, TIMEOUT_S)  # refuses what is no ledger
        if found is None and only_looks():
            raise SystemExit(
                f"There is no ledger at {place.shown}: `alembic upgrade head` makes it."
            )
        if only_looks():
            with reader_of(place, TIMEOUT_S) as own:
                run(own)
            return
    with migration_connection(ledger) as own:
        run(own)


if context.is_offline_mode():
    raise SystemExit("A ledger is upgraded over a connection: leave --sql out.")

handed_in = context.config.attributes.get("connection")
if handed_in is not None:
    run(handed_in)
else:
    try:
        run_on_own_connection(context.get_x_argument(as_dictionary=True).get("ledger"))
    except CalibrationLedgerError as error:
        raise SystemExit(str(error)) from error
