"""A storm: processes that work on one ledger are killed at random moments, and others come.

The six writers, importers, a recalibrator, a voider and a migrator of `storm_roles` work at once.
Some are stopped for a while; on PostgreSQL their connections are ended too, and now and then a
process of the server is killed, which makes it end them all and recover. `storm_findings` is for
afterwards.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calibration_ledger.storage.place import find_place
from support.newer_program import go_back, make_migrations
from support.storm_roles import play

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext
    from pathlib import Path

    from support.postgres_server import Server

CREW = (
    *("record", "record", "record", "record", "record bare", "record_many"),
    *("import calls", "import ledger", "recalibrate", "void", "migrate"),
)
WRITERS = CREW[:6]
SLOW = {"import calls", "import ledger", "recalibrate", "void", "migrate"}

OURS = (
    "FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'calibration-ledger' ORDER BY random()"
)


@dataclass
class Tally:
    """What a storm did, and what was found afterwards."""

    kills: Counter[str] = field(default_factory=Counter)
    amid: Counter[str] = field(default_factory=Counter)
    stops: int = 0
    ended: int = 0
    crashes: int = 0
    acknowledged: int = 0
    stored: int = 0
    unanswered: int = 0
    done: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Member:
    """One place in the crew, and the process that has it now."""

    def __init__(self, storm: Storm, worker: int, role: str) -> None:
        self.storm = storm
        self.worker = worker
        self.role = role
        self.logs: list[Path] = []
        self.start()

    def start(self) -> None:
        storm = self.storm
        self.log = storm.logs / f"{self.worker}-{len(self.logs)}"
        self.logs.append(self.log)
        arguments = (self.role, storm.ledger, storm.folder, self.worker, self.log)
        self.process = storm.context.Process(target=play, args=arguments)
        self.process.start()

    def has_begun(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > 0

    def kill(self) -> None:
        pid = self.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL, f"{self.role} had failed before"

    def lines(self) -> Iterator[str]:
        """What its processes wrote down."""
        for log in self.logs:
            if log.exists():
                yield from log.read_text().splitlines()


class Storm:
    """A storm over one ledger; `server`: whose processes may be killed as well."""

    def __init__(
        self,
        context: BaseContext,
        ledger: str,
        folder: Path,
        *,
        server: Server | None = None,
        crew: tuple[str, ...] = CREW,
        seed: int = 7,
    ) -> None:
        self.context = context
        self.ledger = ledger
        self.folder = folder
        self.server = server
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True)
        self.rng = random.Random(seed)
        self.tally = Tally()
        make_migrations(folder)
        self.begun = time.monotonic()
        self.crew = [Member(self, worker, role) for worker, role in enumerate(crew)]

    def rage(self, kills: int, crashes: int = 0) -> None:
        """Kill members of the crew at random moments, and replace them."""
        crashes_at = {kills * (i + 1) // (crashes + 1) for i in range(crashes)}
        try:
            for i in range(kills):
                member = self.rng.choice(self.crew)
                self.wait_for(member)
                self.trouble_others(is_crash=i in crashes_at)
                self.kill(member)
                member.start()
        finally:
            self.end()

    def sweep(self, seconds: float) -> None:
        """Kill each member once, at some moment of its first seconds, and replace none."""
        moments = sorted((self.rng.uniform(0, seconds), member.worker) for member in self.crew)
        begun = time.monotonic()
        for moment, worker in moments:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            self.kill(self.crew[worker])
        self.end()

    def wait_for(self, member: Member) -> None:
        """Most victims are in the middle of something, some still start."""
        deadline = time.monotonic() + (20 if self.rng.random() < 0.8 else 0.1)
        while not member.has_begun() and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(self.rng.uniform(0.0, 0.3 if member.role in SLOW else 0.03))

    def kill(self, member: Member) -> None:
        member.kill()
        self.tally.kills[member.role] += 1
        text = member.log.read_text() if member.log.exists() else ""
        self.tally.amid[member.role] += text.rfind("<") > text.rfind(">")

    def trouble_others(self, *, is_crash: bool) -> None:
        """Stop somebody for a while; end connections, or kill a process of the server's."""
        if self.rng.random() < 0.1:
            stopped = self.rng.choice(self.crew).process
            assert stopped.pid is not None
            os.kill(stopped.pid, signal.SIGSTOP)
            time.sleep(self.rng.uniform(0.0, 0.3))
            os.kill(stopped.pid, signal.SIGCONT)
            self.tally.stops += 1
        if self.server is None:
            return
        if is_crash and self.server.folder is not None:
            (pid,) = self.on_server(f"SELECT pid {OURS} LIMIT 1")[0]
            os.kill(pid, signal.SIGKILL)
            self.tally.crashes += 1
        elif self.rng.random() < 0.5:
            ended = f"SELECT pg_terminate_backend(pid) FROM (SELECT pid {OURS} LIMIT 2) AS unlucky"
            self.tally.ended += len(self.on_server(ended))

    def on_server(self, statement: str) -> list[Any]:
        """Run it, also while the server recovers, until it gives a row."""
        import psycopg

        assert self.server is not None
        database = find_place(self.ledger).shown.rsplit("/", 1)[1].split("?")[0]
        deadline = time.monotonic() + 30
        while True:
            try:
                rows = self.server.run(statement, database=database)
            except psycopg.OperationalError:
                rows = []
            if rows:
                return rows
            assert time.monotonic() < deadline, "the server did not come back"
            time.sleep(0.02)

    def end(self) -> None:
        """End whoever is left, and bring the ledger to the revision of this program."""
        for member in self.crew:
            if member.process.exitcode != -signal.SIGKILL:
                member.process.kill()
                member.process.join()
                self.tally.amid["in the end"] += 1
        if self.server is not None:
            self.on_server("SELECT 1")
        if any(member.role == "migrate" for member in self.crew):
            last = self.context.Process(
                target=go_back, args=(self.ledger, self.folder / "migrations")
            )
            last.start()
            last.join()
            assert last.exitcode == 0
        self.tally.seconds = time.monotonic() - self.begun
