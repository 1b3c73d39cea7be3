"""Programs that end, in every way but a kill, with a calibrator in use: on both databases.

What they acknowledged is there, they end in time and without a word, and leave a whole ledger.
"""

from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.programs import ran

HEAD = """
import os, sys, threading, time
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerClosedError

answered = []

def work(calibrator, who, count=10**9):
    for i in range(count):
        name = f"{sys.argv[2]}-{who}-{i}"
        calibrator.record("m", i % 900, 100.0, completion_tokens=5, request_id=name)
        os.write(1, f"{name}\\n".encode())
        answered.append(name)

def start(calibrator, who, *, daemon, count=10**9):
    def run():
        try:
            work(calibrator, who, count)
        except LedgerClosedError:
            pass  # the interpreter exits, and closed the ledger

    threading.Thread(target=run, daemon=daemon).start()

def calls_are_under_way():
    while len(answered) < 20:
        time.sleep(0.001)

calibrator = AdaptiveCalibrator(sys.argv[1])
"""

PROGRAMS = {
    "without close": """
work(calibrator, "main", 5)
work(AdaptiveCalibrator(sys.argv[1]), "second", 5)
calibrator.predict("m", 1)
""",
    "by sys.exit in a function": """
def leave():
    with AdaptiveCalibrator(sys.argv[1]) as other:
        work(other, "inner", 5)
        sys.exit(0)
work(calibrator, "main", 5)
leave()
""",
    "while daemon threads record": """
for i in range(4):
    start(calibrator, i, daemon=True)
calls_are_under_way()
""",
    "while daemon threads record with calibrators of their own": """
for i in range(4):
    start(AdaptiveCalibrator(sys.argv[1]), i, daemon=True)
calls_are_under_way()
""",
    "while other threads still record": """
for i in range(4):
    start(calibrator, i, daemon=False, count=30)
""",
    "while a pool still has work": """
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)
for i in range(8):
    pool.submit(work, calibrator, i, 10)
""",
    "recording in a function that runs at exit": """
import atexit
atexit.register(work, calibrator, "late", 5)
work(calibrator, "main", 5)
""",
    "by os._exit": """
for i in range(4):
    start(calibrator, i, daemon=True)
calls_are_under_way()
os._exit(0)
""",
    "closing while daemon threads record": """
for i in range(4):
    start(calibrator, i, daemon=True)
calls_are_under_way()
calibrator.close()
""",
}

EVERYTHING = {
    "without close": 10,
    "by sys.exit in a function": 10,
    "while other threads still record": 120,
    "while a pool still has work": 80,
    "recording in a function that runs at exit": 10,
}
"""Of programs that record a known number of calls, how many."""


def end(ledger, program, prefix="r"):
    """Run a program; gives the calls that it acknowledged."""
    done = ran(HEAD + program, ledger, prefix, flags=["-X", "dev", "-W", "error"])
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def check(ledger, acknowledged, under_way=4):
    """Each acknowledged call is there once, and of others at most those that were under way."""
    with AdaptiveCalibrator(ledger, timeout_s=10.0) as calibrator:
        stored = [call.request_id for call in calibrator.calls("m")]
        assert len(set(stored)) == len(stored)
        assert set(acknowledged) <= set(stored)
        assert len(stored) - len(acknowledged) <= under_way
        calibrator.record("m", 1, 1.0, request_id="after")
        assert calibrator.audit() == []


@pytest.mark.turns("how")
@pytest.mark.parametrize("how", PROGRAMS)
def test_a_program_may_end(ledger, how):
    acknowledged = end(ledger, PROGRAMS[how])
    if how in EVERYTHING:
        assert len(acknowledged) == EVERYTHING[how]
    check(ledger, acknowledged)
    if "://" not in ledger:
        path = Path(ledger)
        assert {file.name for file in path.parent.iterdir()} == {"calls.db", "calls.db.lock"}


@pytest.mark.stress
def test_programs_end_again_and_again_while_twelve_daemon_threads_record(ledger):
    acknowledged = []
    for i in range(20):
        for how, program in PROGRAMS.items():
            if "daemon" in how:
                crowded = program.replace("range(4)", "range(12)")
                acknowledged += end(ledger, crowded, prefix=f"{how} {i}")
                check(ledger, acknowledged, under_way=12 * 3 * (i + 1))
