"""A real PgBouncer in front of the tests' server, in transaction mode.

Two server connections serve everybody, and take turns: a client that left anything behind on one
(a setting, a prepared statement, a lock) would miss it in its next transaction, or hand it on.
Whatever is not given here is PgBouncer's own default.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from support.postgres_server import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres_server import Server

SERVER_CONNECTIONS = 2
SETTINGS = {
    "pool_mode": "transaction",
    "default_pool_size": SERVER_CONNECTIONS,
    # The one that waited longest is next, so that no client meets the same one twice in a row.
    "server_round_robin": 1,
    "max_client_conn": 500,
}
# The tests' own user is not asked for a password, every other is.
HBA = """
local all {admin} trust
host all {admin} 127.0.0.1/32 trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def _find() -> str | None:
    # Distributions put it beside other daemons, which is not on everybody's path.
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return shutil.which("pgbouncer", path=path)


def is_pgbouncer_here() -> bool:
    """Whether the program is installed."""
    return _find() is not None


def find_pgbouncer() -> str:
    """The program, or a skip that says why there is none."""
    found = _find()
    if found is None:
        pytest.skip("no PgBouncer: the program pgbouncer is not installed (apt install pgbouncer)")
    return found


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


class Pooler:
    """A running PgBouncer.

    Attributes:
        folder: where its socket, its configuration and its log lie.
    """

    def __init__(self, server: Server, folder: Path, **settings: Any) -> None:
        """Take a server, and an empty folder with a short path; `settings` beside `SETTINGS`."""
        self._program = find_pgbouncer()
        self._server = sa.make_url(server.url("postgres"))
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._users: dict[str, str] = {self.admin: ""}
        # It refuses to run as root. The server's own user may go wherever the server's socket is.
        root = os.geteuid() == 0
        self._owner = (server.owner or "nobody") if root else None
        self.folder = folder
        self._settings = SETTINGS | settings

    @property
    def admin(self) -> str:
        """The user that the tests are on the server, who may also ask the pooler."""
        assert self._server.username is not None
        return self._server.username

    def _write_configuration(self) -> None:
        host = self._server.query.get("host") or self._server.host
        target = {"host": host, "port": self._server.port, "password": self._server.password}
        known = " ".join(f"{name}={value}" for name, value in target.items() if value)
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self._port,
            "unix_socket_dir": self.folder,
            "auth_type": "hba",
            "auth_hba_file": self.folder / "hba",
            "auth_file": self.folder / "users",
            "admin_users": self.admin,
            "logfile": self.folder / "log",
            **self._settings,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        text = "\n".join(["[databases]", f"* = {known}", "[pgbouncer]", *lines, ""])
        (self.folder / "pgbouncer.ini").write_text(text)
        (self.folder / "hba").write_text(HBA.format(admin=self.admin))
        users = [f'"{name}" "{password}"\n' for name, password in self._users.items()]
        (self.folder / "users").write_text("".join(users))
        if self._owner is not None:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, self._owner)

    def add_user(self, name: str) -> None:
        """Let a role of `Server.role` in, which is asked for its password by pooler and server."""
        self._users[name] = PASSWORD
        self._write_configuration()
        self.ask("RELOAD")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._write_configuration()
        self._process = subprocess.Popen(
            [self._program, "-q", self.folder / "pgbouncer.ini"],
            user=self._owner,
            group=None if self._owner is None else _group_of(self._owner),
            extra_groups=None if self._owner is None else [],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.ask("SHOW VERSION")
                return
            log = self.folder / "log"
            assert self._process.poll() is None, log.read_text() if log.exists() else "it ended"
            assert time.monotonic() < deadline, "it does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, with all its connections, as a crash would."""
        if self._process is not None:
            # From 1.23 on it waits at a SIGTERM for its clients to go.
            self._process.kill()
            self._process.wait(timeout=20)
            self._process = None

    def ask(self, command: str) -> list[dict[str, Any]]:
        """Ask the pooler itself: `SHOW POOLS`, `RELOAD`, …"""
        url = self._server.set(drivername="postgresql", host=None, query={}, password=None)
        text = url.set(database="pgbouncer", port=self._port).update_query_dict(
            {"host": str(self.folder)}
        )
        with closing(
            psycopg.ClientCursor(
                psycopg.connect(text.render_as_string(hide_password=False), autocommit=True)
            )
        ) as cursor:
            try:
                cursor.execute(command)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor] if names else []
            finally:
                cursor.connection.close()

    def url(self, database: str, *, user: str | None = None, tcp: bool = False) -> str:
        """The URL of a database, by way of the pooler."""
        url = sa.URL.create("postgresql+psycopg", self.admin, port=self._port, database=database)
        if user is not None:
            url = url.set(username=user, password=PASSWORD)
        url = url.set(host="127.0.0.1") if tcp else url.set(query={"host": str(self.folder)})
        return url.render_as_string(hide_password=False)


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


@contextmanager
def running_pooler(server: Server, **settings: Any) -> Iterator[Pooler]:
    """A PgBouncer in front of a server, until the end of the block."""
    find_pgbouncer()
    folder = Path(tempfile.mkdtemp(prefix="pb-", dir="/tmp"))  # sockets' paths are short
    try:
        pooler = Pooler(server, folder, **settings)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.stop()
    finally:
        shutil.rmtree(folder)
