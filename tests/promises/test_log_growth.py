"""The write-ahead log stays small however slowly somebody reads, and a log that a foreign reader
let grow is cut back."""

import sqlite3
import subprocess
import sys
import time
from contextlib import closing

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.storage.sqlite.connections import JOURNAL_SIZE_LIMIT

MIB = 2**20
CALLS = 3000

WRITER = """
import sys
from calibration_ledger import AdaptiveCalibrator
path, count = sys.argv[1:]
with AdaptiveCalibrator(path, durability="normal", timeout_s=60) as calibrator:
    for i in range(int(count)):
        calibrator.record("m", i % 500, 100.0, completion_tokens=i % 70)
"""


def write(path, writers):
    command = [sys.executable, "-c", WRITER, str(path), str(CALLS)]
    return [subprocess.Popen(command) for _ in range(writers)]


def fill(path):
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(Call("m", i, 5, 100.0 + i) for i in range(1500))


def log_size(path):
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def test_a_slow_reader_of_calls_does_not_let_the_log_grow(ledger_path):
    """It is never done while others write a log of tens of MiB, were none of it taken over."""
    fill(ledger_path)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calls = calibrator.calls()
        seen = [next(calls)]
        writers = write(ledger_path, 2)
        largest = 0
        while any(writer.poll() is None for writer in writers):
            seen.append(next(calls))
            largest = max(largest, log_size(ledger_path))
            time.sleep(0.02)
        assert [writer.returncode for writer in writers] == [0, 0]
        seen += calls
        assert [call.seq for call in seen] == list(range(2, 1502))
        # SQLite takes the log over at 1,000 pages; a transaction of another may come on top.
        assert 0 < largest < 8 * MIB
        assert calibrator.audit() == []
        assert calibrator.calibration("m").sample_count == 1500 + 2 * CALLS


def test_a_log_that_a_foreign_reader_let_grow_is_cut_back_once_it_ends(ledger_path):
    fill(ledger_path)
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN")
        foreign.execute("SELECT count(*) FROM calls").fetchone()
        (writer,) = write(ledger_path, 1)
        assert writer.wait(120) == 0
        assert log_size(ledger_path) > 1.5 * JOURNAL_SIZE_LIMIT
        foreign.execute("COMMIT")
        with AdaptiveCalibrator(ledger_path) as calibrator:
            for i in range(3):  # the first takes the log over, the next begins it anew
                calibrator.record("m", i, 1.0)
            assert log_size(ledger_path) <= JOURNAL_SIZE_LIMIT
            assert calibrator.audit() == []
            assert calibrator.calibration("m").sample_count == 1503 + CALLS
