"""Threads that open and close, forks, pools, handlers that record and fork, Ctrl-C, drops: at once.

Whatever comes between: no call is lost or there twice, nothing hangs, every error is typed, and
the locks of others stay theirs.
"""

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")

PROGRAM = Path(__file__).parents[1] / "support" / "fork_storm.py"


@pytest.mark.parametrize(
    ("seconds", "seed"), [(3, 1), pytest.param(60, 2, marks=pytest.mark.stress)]
)
def test_a_storm_of_threads_forks_and_signals_loses_nothing(tmp_path, seconds, seed):
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, str(seconds), str(seed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 240,
    )
    lines = (tmp_path / "log").read_text().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    assert errors == [], done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
    acknowledged = [line.split()[1:] for line in lines if line.startswith("ACK")]
    assert len(acknowledged) > 20
    for ledger in ("one.db", "two.db"):
        check(tmp_path / ledger, [name for where, name in acknowledged if where == ledger])
    print(done.stdout, Counter(line for line in lines if line.startswith("REFUSED")))


def check(path, acknowledged):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with AdaptiveCalibrator(path) as calibrator:
        stored = Counter(call.request_id for call in calibrator.calls("m"))
        assert [name for name in acknowledged if stored[name] != 1] == []
        assert [name for name, count in stored.items() if count > 1] == []
        calibrator.record("m", 1, 1.0, request_id="after")
        assert calibrator.audit() == []
