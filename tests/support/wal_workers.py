"""Processes that write, read, close and checkpoint as fast as they can, for `test_wal_reset.py`.

    python wal_workers.py ROLE PATH SECONDS

Each prints `ready`, waits for a line, does its work for so long, and prints how many of its
commits were acknowledged. The `raw` roles use sqlite3 alone, as programs do that know nothing of
the fault; the others use this project, and nothing else, on a ledger of their own.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from calibration_ledger import AdaptiveCalibrator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PAUSE_S = 0.0002
"""Between commits. The fault lies where the log starts anew, and it does so only once all of it is
in the file; writers without a pause let it grow for ever."""


def begin(seconds: float) -> Iterator[int]:
    """0, 1, 2 ... until the time is over, once the test has said go."""
    print("ready", flush=True)
    sys.stdin.readline()
    end = time.monotonic() + seconds
    i = 0
    while time.monotonic() < end:
        yield i
        i += 1


# -- sqlite3 alone --------------------------------------------------------------------------


def raw(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "wal_autocheckpoint=0"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    return connection


def raw_make(path: str, _: float) -> int:
    connection = raw(path)
    connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, data BLOB)")
    connection.execute("CREATE TABLE counter (n INTEGER)")
    connection.execute("INSERT INTO counter VALUES (0)")
    connection.close()
    return 0


def raw_writer(path: str, seconds: float) -> int:
    connection = raw(path)
    commits = 0
    for _ in begin(seconds):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO rows (data) VALUES (randomblob(200))")
        connection.execute("UPDATE counter SET n = n + 1")
        connection.execute("COMMIT")
        commits += 1
        time.sleep(PAUSE_S)
    return commits


def raw_checkpointer(path: str, seconds: float) -> int:
    connection = raw(path)
    for _ in begin(seconds):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return 0


def raw_check(path: str, _: float) -> int:
    """Prints the rows that can be read, the counter, and the first of the engine's complaints."""
    connection = raw(path)
    with suppress(sqlite3.DatabaseError):
        print(connection.execute("SELECT count(*) FROM rows NOT INDEXED").fetchone()[0])
        print(connection.execute("SELECT n FROM counter").fetchone()[0])
        print(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return 0


# -- this project ---------------------------------------------------------------------------


def writer(path: str, seconds: float) -> int:
    """Record on one connection, which takes the log into the file far more often than usual."""
    commits = 0
    with AdaptiveCalibrator(path, durability="normal", timeout_s=60) as calibrator:
        calibrator.record("m", 1, 1.0)
        held = calibrator._ledger.backend._connections.held("writer")
        assert held is not None
        held.cursor.execute("PRAGMA wal_autocheckpoint=20")
        for i in begin(seconds):
            calibrator.record("m", i % 1000, 100.0, completion_tokens=i % 77)
            commits += 1
            time.sleep(PAUSE_S * (i % 2))
    return commits + 1


def closer(path: str, seconds: float) -> int:
    """Open, record seven calls and close, again and again: the last to close checkpoints."""
    commits = 0
    for i in begin(seconds):
        with AdaptiveCalibrator(path, durability="normal", timeout_s=60) as calibrator:
            for _ in range(7):
                calibrator.record("m", i % 1000, 100.0)
                commits += 1
    return commits


def forker(path: str, seconds: float) -> int:
    """Record and fork, again and again: a fork closes all connections, and the last checkpoints."""
    commits = 0
    with AdaptiveCalibrator(path, durability="normal", timeout_s=60) as calibrator:
        for i in begin(seconds):
            for _ in range(3):
                calibrator.record("m", i % 1000, 100.0)
                commits += 1
            child = os.fork()
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    return commits


def reader(path: str, seconds: float) -> int:
    """Predict, list and audit, opening anew each time."""
    for i in begin(seconds):
        with AdaptiveCalibrator(path) as calibrator:
            calibrator.predict("m", 100)
            assert len(list(calibrator.calls(last=5))) <= 5
            if i % 50 == 7:
                assert calibrator.audit() == []
    return 0


ROLES: dict[str, Callable[[str, float], int]] = {
    "raw_make": raw_make,
    "raw_writer": raw_writer,
    "raw_checkpointer": raw_checkpointer,
    "raw_check": raw_check,
    "writer": writer,
    "closer": closer,
    "forker": forker,
    "reader": reader,
}

if __name__ == "__main__":
    role, where, how_long = sys.argv[1:]
    print(ROLES[role](where, float(how_long)))
