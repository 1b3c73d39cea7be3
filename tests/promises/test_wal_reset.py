"""SQLite's WAL-reset fault (before 3.51.3): writers that checkpoint at one moment lose rows.

A canary shows that it is real, in this very build and on this machine: raw sqlite3 with processes
that checkpoint in a loop comes out with rows missing or a file that is malformed. Our writers
queue, and whatever of ours checkpoints queues with them, so a ledger beside it stays whole.
"""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.facts import has_wal_reset_bug

WORKERS = Path(__file__).parents[1] / "support" / "wal_workers.py"

AFFECTED = has_wal_reset_bug(sqlite3.sqlite_version)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no flock on Windows")


def start(role, path, seconds):
    return subprocess.Popen(
        [sys.executable, str(WORKERS), role, str(path), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def crowd(path, seconds, **roles):
    """Start so many of each role, all ready."""
    started = [start(role, path, seconds) for role, count in roles.items() for _ in range(count)]
    for worker in started:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
    return started


def go(workers):
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()


def ends(workers):
    """The exit code, the output and the errors of each."""
    found = [(worker.communicate(timeout=300), worker.returncode) for worker in workers]
    return [(code, out, err) for (out, err), code in found]


def commits_of(workers):
    """What all of them together had acknowledged; none of them may have failed."""
    total = 0
    for code, out, err in ends(workers):
        assert code == 0, err[-3000:]
        total += int(out.split()[-1])
    return total


def assert_whole(path, calls):
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []
        assert calibrator.calibration("m").sample_count == calls


def canary(folder, seconds):
    """One round of raw sqlite3; what is wrong with the database afterwards."""
    path = folder / "raw.db"
    for old in folder.glob("raw.db*"):
        old.unlink()
    ends([start("raw_make", path, 0)])
    workers = crowd(path, seconds, raw_writer=3, raw_checkpointer=4)
    go(workers)
    results = ends(workers)
    for code, _, err in results:
        if code:
            return err.strip().rpartition("\n")[2]
    commits = sum(int(out.split()[-1]) for _, out, _ in results)
    ((_, out, _),) = ends([start("raw_check", path, 0)])
    found = out.split("\n")[:-2]
    if found != [str(commits), str(commits), "ok"]:
        return f"{commits} commits, and rows, counter and integrity are {found}"
    return None


def test_our_writers_readers_forkers_and_closers_keep_a_ledger_whole(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 1.0)
    workers = crowd(ledger_path, 1.0, writer=3, closer=2, forker=1, reader=1)
    go(workers)
    assert_whole(ledger_path, 1 + commits_of(workers))


def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_fork_takes_the_log_into_the_file_only_where_nobody_else_has_it_open(ledger_path):
    """It closes all connections without the writers' lock: the last of all would checkpoint."""
    log = ledger_path.with_name("calls.db-wal")
    with AdaptiveCalibrator(ledger_path) as calibrator:
        others = crowd(ledger_path, 0.0, writer=1)  # which has recorded one call, and waits
        calibrator.record("m", 1, 1.0)
        fork()
        assert log.exists()
        go(others)
        assert commits_of(others) == 1
        calibrator.record("m", 1, 1.0)
        assert log.exists()
        fork()
        assert not log.exists()
    assert_whole(ledger_path, 3)


@pytest.mark.stress
def test_a_ledger_outlives_the_fault_that_kills_a_raw_database_beside_it(ledger_path, tmp_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 1.0)
    workers = crowd(ledger_path, 60.0, writer=8, closer=2, forker=2, reader=1)
    go(workers)
    # Raw and ours run side by side for as long as ours does.
    wrong = None
    while any(worker.poll() is None for worker in workers):
        wrong = canary(tmp_path, 4.0) or wrong
    assert_whole(ledger_path, 1 + commits_of(workers))
    if not AFFECTED:
        assert wrong is None
        pytest.skip(f"SQLite {sqlite3.sqlite_version} is not affected; our ledger is whole")
    for _ in range(20):  # now with the machine to itself
        wrong = wrong or canary(tmp_path, 4.0)
    print(f"raw sqlite3 {sqlite3.sqlite_version}: {wrong}")
    assert wrong is not None, "raw sqlite3 came through: this machine proves nothing"
