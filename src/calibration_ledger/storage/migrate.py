"""How a ledger is made and upgraded: Alembic, run by `calib db upgrade` and by the first write.

A whole upgrade is one transaction under the writers' lock, and the revision is read again inside
it. So of several processes that start at once, one upgrades and the others find it done, and a
process that dies in the middle leaves no trace.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from calibration_ledger._version import __version__
from calibration_ledger.core.events import upgrade_event
from calibration_ledger.core.values import Value
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerNotFoundError,
    MigrationsNotFoundError,
)
from calibration_ledger.storage.contents import asking, look, of_revision
from calibration_ledger.storage.place import (
    File,
    Memory,
    Server,
    check_file,
    check_one_name,
    find_place,
)
from calibration_ledger.storage.schema import READABLE_VIEW, REVISION, TABLES, VERSION_TABLE
from calibration_ledger.storage.sqlite.connections import connect_reader, list_tables, look_at
from calibration_ledger.storage.sqlite.copies import backup_beside
from calibration_ledger.storage.sqlite.faults import faults_of
from calibration_ledger.storage.sqlite.forks import private, run
from calibration_ledger.storage.sqlite.lock import OneAtATime, locked_file
from calibration_ledger.storage.sqlite.migrate import begun_file, engine_of, make_file
from calibration_ledger.storage.sqlite.soundness import LIST_SCHEMA, damaged_parts, foreign_parts
from calibration_ledger.storage.statements import POSTGRES, SQLITE, statements
from calibration_ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa
    from alembic.config import Config

    from calibration_ledger.core.values import Distribution
    from calibration_ledger.storage.contents import Contents
    from calibration_ledger.storage.place import Place

_ALEMBIC_TIMEOUT_S = 30.0

_alembic = OneAtATime("the migrations", _ALEMBIC_TIMEOUT_S)
"""Alembic's context is global to the process."""


@dataclass(frozen=True, slots=True)
class Upgrade(Value):
    """What an upgrade did.

    Attributes:
        ledger: the ledger, as it may be shown.
        before: the revision found; None where there was no ledger.
        after: the revision now.
        backup: the copy that was made first; None where nothing had to be changed.
    """

    ledger: str
    before: str | None
    after: str
    backup: Path | None


def migrations_dir() -> Path:
    """Where the migrations lie: inside the installed package, or at the top of a checkout.

    Raises:
        MigrationsNotFoundError: in neither place.
    """
    package = Path(str(files("calibration_ledger")))
    for folder in (package / "migrations", package.parents[1] / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    if getattr(sys, "frozen", False):
        raise MigrationsNotFoundError(
            "this program was frozen without the migrations of calibration-ledger: freeze it with "
            "all of the package (PyInstaller: --collect-all calibration_ledger)."
        )
    raise MigrationsNotFoundError(
        "this installation of calibration-ledger lacks its migrations: install it again from where "
        "you got it (pip install --force-reinstall PATH-OR-GIT-URL)."
    )


@contextmanager
def migration_files() -> Iterator[Path]:
    """The migrations as files, which Alembic needs: unpacked where the program runs from a zip.

    Raises:
        MigrationsNotFoundError: there are none.
    """
    packed = files("calibration_ledger") / "migrations"
    if isinstance(packed, Path) or not (packed / "env.py").is_file():
        yield migrations_dir()
        return
    with TemporaryDirectory(prefix="calibration-ledger-") as name:
        folder = Path(name)
        (folder / "versions").mkdir()
        for one in ((packed / "env.py"), *(packed / "versions").iterdir()):
            if one.name.endswith(".py"):
                home = folder if one.name == "env.py" else folder / "versions"
                (home / one.name).write_bytes(one.read_bytes())
        yield folder


def alembic_config(connection: sa.Connection | None = None, folder: Path | None = None) -> Config:
    """Alembic's configuration, without a file and without a URL in it."""
    from alembic.config import Config

    config = Config()
    location = migrations_dir() if folder is None else folder
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def run_migrations(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the database behind an open transaction to a revision, up or down."""
    _alembic.run(_run_migrations, connection, revision)


def _run_migrations(connection: sa.Connection, revision: str) -> None:
    from alembic import command

    with migration_files() as folder:
        config = alembic_config(connection, folder)
        current = read_revision(connection)
        down = current is not None and revision.isdigit() and revision < current
        if down or revision == "base":
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)


def _note_upgrade(connection: sa.Connection, before: str | None, ledger: str) -> None:
    """Note as an event that a ledger was brought to this program's revision."""
    if before in {None, REVISION} or read_revision(connection, ledger) != REVISION:
        return
    assert before is not None  # noqa: S101 - it was looked at above
    sql = statements(SQLITE if connection.dialect.name == "sqlite" else POSTGRES)
    with closing(connection.connection.cursor()) as cursor:
        event = upgrade_event(before, REVISION, __version__, time.time_ns() // 1000)
        Transaction(cursor, sql, ledger).add_event(event)


_plan: list[tuple[str, ...]] = []


def has_plan() -> bool:
    """Whether `plan_of_new` is known by now, and takes no time."""
    return bool(_plan)


def plan_of_new() -> tuple[str, ...]:
    """The statements that make a ledger: what the migrations leave in an empty database.

    Alembic writes to the program's log, whose lock may be another thread's for ever. So it is
    asked once, before the writers' lock is taken, and never while that is held.
    """
    if not _plan:
        _plan.append(run(_plan_of_new))
    return _plan[0]


def _plan_of_new() -> tuple[str, ...]:
    with closing(private(":memory:")) as raw, engine_of(raw).begin() as connection:
        run_migrations(connection)
        made = connection.exec_driver_sql(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        )
        return (
            *made.scalars().all(),
            f"INSERT INTO {VERSION_TABLE} VALUES ('{read_revision(connection)}')",
        )


def read_revision(connection: sa.Connection, ledger: str = "this") -> str | None:
    """The revision of the ledger behind a connection; None where there is no ledger yet.

    `ledger` is what an error calls it.

    Raises:
        NotALedgerError: it is a database of something else.
    """
    ask = asking(connection)
    if connection.dialect.name == "postgresql":
        from calibration_ledger.storage.postgres.connections import FIND_TABLES

        # A schema may be shared with other programs: only names of ours are looked for.
        tables = {table for table, *_ in ask(FIND_TABLES, (sorted(TABLES),))}
    else:
        tables = list_tables(ask)
    return _revision_of(look(tables, ask), ledger)


def _revision_of(contents: Contents, ledger: str) -> str | None:
    if contents.state == "foreign":
        raise contents.error(ledger)
    return contents.revision or None


def upgrade(place: Place, timeout_s: float) -> Upgrade:
    """Make the ledger at a place, or bring it to this program's revision.

    A file is backed up first. What a server's database holds is for its operator to back up; the
    upgrade is one transaction there, too.

    Raises:
        LedgerTooNewError: a newer program upgraded it.
        LedgerError: it cannot be upgraded; it is as it was.
    """
    if isinstance(place, Memory):
        raise InvalidInputError("a ledger in memory is always new: name a path to upgrade.")
    if isinstance(place, File):
        return upgrade_file(place, timeout_s)
    from calibration_ledger.storage.postgres.migrate import begun, keep_others_out

    with begun(place, timeout_s, locked=True) as connection:
        before = read_revision(connection, place.shown)
        if before != REVISION:
            if before is not None:
                _refuse_newer(before, place)
                keep_others_out(connection, timeout_s)
            run_migrations(connection)
            _note_upgrade(connection, before, place.shown)
    return Upgrade(place.shown, before, REVISION, None)


def upgrade_file(place: File, timeout_s: float, *, locked: bool = False) -> Upgrade:
    """Make the ledger, or bring it to this program's revision; what is there is backed up first.

    Args:
        place: where it lies, or shall lie.
        timeout_s: how long to wait for others.
        locked: whether the caller holds the writers' lock already.

    Raises:
        LedgerTooNewError: a newer program upgraded it.
        LedgerError: it cannot be upgraded; it is as it was.
    """
    if not locked:
        # What is no ledger, or a newer one, is refused before a lock file is made beside it.
        found = current_revision(place, timeout_s)
        if found is not None:
            _refuse_newer(found, place)
        else:
            plan_of_new()
        with locked_file(place, timeout_s):
            return upgrade_file(place, timeout_s, locked=True)
    check_one_name(place)
    before = current_revision(place, timeout_s)
    if before == REVISION:
        return Upgrade(place.shown, before, REVISION, None)
    if before is None:
        make_file(place, plan_of_new(), timeout_s)
        return Upgrade(place.shown, None, REVISION, None)
    _refuse_newer(before, place)
    backup = backup_beside(place, before, timeout_s)
    with begun_file(place, timeout_s) as connection:
        run_migrations(connection)
        _note_upgrade(connection, before, place.shown)
    return Upgrade(place.shown, before, REVISION, backup)


def _refuse_newer(found: str, place: Place) -> None:
    contents = of_revision(found)
    if contents.state == "newer":
        raise contents.error(place.shown)


def current_revision(place: File | Server, timeout_s: float) -> str | None:
    """The revision of a ledger; None where there is none yet. Changes nothing.

    Raises:
        LedgerError: what is there is no ledger, or cannot be read.
    """
    if isinstance(place, Server):
        with reader_of(place, timeout_s) as connection:
            return read_revision(connection, place.shown)
    if not check_file(place):
        return None
    # Without SQLAlchemy: it asks for the lock of logging, and the writers' lock may be held.
    with faults_of(place.shown, "read"), connect_reader(place.path, timeout_s) as raw:
        raw.execute("BEGIN")  # all that is read is of one moment
        return _revision_of(look_at(raw), place.shown)


@contextmanager
def reader_of(place: File | Server, timeout_s: float) -> Iterator[sa.Connection]:
    """A connection of SQLAlchemy's that only reads."""
    if isinstance(place, Server):
        from calibration_ledger.storage.postgres.migrate import begun

        with begun(place, timeout_s, locked=False) as connection:
            yield connection
        return
    with (
        faults_of(place.shown, "read"),
        connect_reader(place.path, timeout_s) as raw,
        engine_of(raw).connect() as connection,
    ):
        yield connection


@contextmanager
def migration_connection(ledger: str | None) -> Iterator[sa.Connection]:
    """The connection on which `alembic` in a checkout works: locked, and in one transaction."""
    place = find_place(ledger)
    if isinstance(place, Memory):
        raise InvalidInputError("name a ledger: alembic -x ledger=PATH-OR-URL upgrade head")
    if isinstance(place, Server):
        from calibration_ledger.storage.postgres.migrate import begun, keep_others_out

        with begun(place, 30.0, locked=True) as connection:
            before = read_revision(connection, place.shown)
            if before is not None:
                keep_others_out(connection, 30.0)
            yield connection
            _note_upgrade(connection, before, place.shown)
        return
    current_revision(place, 30.0)  # see `upgrade_file`
    with locked_file(place, 30.0), begun_file(place, 30.0) as connection:
        before = read_revision(connection, place.shown)  # refuses what is no ledger
        yield connection
        _note_upgrade(connection, before, place.shown)


# -- whether the tables are as they should be: `calib db check` ------------------------------


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
    with reader_of(place, timeout_s) as connection:
        if isinstance(place, File):
            rows = [tuple(row) for row in connection.exec_driver_sql(LIST_SCHEMA)]
            return [*damaged_parts(rows), *foreign_parts(rows)]
        from calibration_ledger.storage.postgres.tables import differences

        return differences(connection, place.shown, run_migrations)


def distribution_of(place: File | Server, timeout_s: float) -> Distribution | None:
    """How a ledger is distributed over several machines; None for one that is not.

    Raises:
        LedgerError: it cannot be read.
    """
    if isinstance(place, File):
        return None
    from calibration_ledger.storage.postgres import placement

    with reader_of(place, timeout_s) as connection:
        return placement.distribution_of(asking(connection), place.shown)


# -- how a migration builds a table anew that the readable view stands on -------------------
# With the view in the way the table cannot be dropped or renamed. `env.py` hands `without_view` to
# every migration, which must import nothing of the program:
#
#     with op.get_context().opts["without_view"]():
#         with op.batch_alter_table("calls", ...) as batch:
#
# The view comes back as it was, whatever revision it is of; or as the migration says.

_VIEW = f"SELECT sql FROM sqlite_master WHERE type = 'view' AND name = '{READABLE_VIEW}'"


@contextmanager
def without_view(connection: sa.Connection, changed: str | None = None) -> Iterator[None]:
    """Drop the readable view, and create it again behind the block, in the same transaction.

    On PostgreSQL, who may read it may do so afterwards. Should the block fail, the transaction
    brings the view back.

    Args:
        connection: to the ledger.
        changed: the statement that creates it; None: as it was.
    """
    if connection.dialect.name == "postgresql":
        from calibration_ledger.storage.postgres.tables import view_texts

        before, *grants = view_texts(connection)
    else:
        before, grants = connection.exec_driver_sql(_VIEW).scalar_one(), []
    connection.exec_driver_sql(f"DROP VIEW {READABLE_VIEW}")
    yield
    for statement in (before if changed is None else changed, *grants):
        connection.exec_driver_sql(statement)
