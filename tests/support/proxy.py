"""A wire between client and server that can be cut at any message, before or after delivery."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self


class Proxy:
    """Listens on a socket in a folder of its own, and passes everything on.

    Attributes:
        messages: how many times the client has sent something since `cut_at`.
    """

    def __init__(self, url: str, folder: Path) -> None:
        """Take the URL of the server's database, and an empty folder with a short path."""
        parsed = sa.make_url(url)
        host = parsed.query.get("host") or parsed.host
        assert isinstance(host, str)
        port = parsed.port or 5432
        self._server: str | tuple[str, int] = (host, port)
        if host.startswith("/"):
            self._server = f"{host}/.s.PGSQL.{port}"
        target = sa.URL.create(parsed.drivername, parsed.username, parsed.password, port=port)
        self.url = target.set(database=parsed.database, query={"host": str(folder)})
        self._path = folder / f".s.PGSQL.{port}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut: tuple[int, bool] | None = None
        self._mutes = False
        self._is_mute = False
        self.messages = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at(self, message: int | None, *, delivered: bool = False) -> None:
        """Cut the wire once, at the client's message of this number (from 0); None: never.

        Where it is `delivered`, the server acts on it, and its answer is lost.
        """
        self.messages = 0
        self._mutes = self._is_mute = False
        self._cut = None if message is None else (message, delivered)

    def fall_silent_at(self, message: int, *, delivered: bool = False) -> None:
        """From the client's message of this number on, take everything and pass nothing on.

        Nobody is told: what is sent is even acknowledged, until `cut_at` is called.
        """
        self.cut_at(message, delivered=delivered)
        self._mutes = True

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            is_path = isinstance(self._server, str)
            server = socket.socket(socket.AF_UNIX if is_path else socket.AF_INET)
            server.connect(self._server)
            self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            readable, _, _ = select.select([client, server], [], [])
            try:
                if server in readable:
                    data = server.recv(65536)
                    if not self._is_mute:
                        client.sendall(data)
                else:
                    data = client.recv(65536)
                    if data and self._is_cut():
                        self._cut_off(client, server, data)
                        if not self._is_mute:
                            return
                    elif not self._is_mute:
                        server.sendall(data)
            except OSError:
                data = b""
            if not data:
                client.close()
                server.close()
                return

    def _is_cut(self) -> bool:
        self.messages += 1
        return self._cut is not None and self.messages == self._cut[0] + 1

    def _cut_off(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        assert self._cut is not None
        _, delivered = self._cut
        self._cut = None
        self._is_mute = self._mutes
        if delivered:
            server.sendall(data)
            # It has acted when it answers; in the middle of a pipeline it does not answer yet.
            select.select([server], [], [], 0.3)
        if self._is_mute:
            return
        client.close()
        server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink()
        for pair in self._pairs:
            for end in pair:
                end.close()
