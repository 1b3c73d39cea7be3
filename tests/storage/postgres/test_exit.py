"""Programs that end while a daemon thread is in a call on PostgreSQL."""

import pytest

from support.programs import ran

PROGRAM = """
import os, sys, threading, time
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.postgres.server import PostgresTransaction

calibrator = AdaptiveCalibrator(sys.argv[1])
calibrator.record("m", 1, 100.0)
save, began = PostgresTransaction.save, threading.Event()

def save_late(self, row):
    began.set()
    time.sleep(0.3)
    save(self, row)

def late():
    calibrator.record("m", 7, 100.0)
    os.write(1, b"recorded")

PostgresTransaction.save = save_late
threading.Thread(target=late, daemon=True).start()
began.wait()
"""


@pytest.mark.parametrize("closing", ["", "calibrator.close()"])
def test_the_end_of_a_program_waits_for_a_call_under_way(url, calibrator, closing):
    done = ran(PROGRAM + closing, url, flags=["-X", "dev", "-W", "error"])
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == "recorded"
    assert [call.prompt_tokens for call in calibrator.calls("m")] == [1, 7]
