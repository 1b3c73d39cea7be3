"""A ledger that is removed in the middle of a change to it is not made anew."""

import sys

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerNotFoundError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed")


def remove(path):
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("use", ["reset", "reset all", "recalibrate"])
def test_a_change_to_a_ledger_that_was_just_removed_makes_none(ledger_path, use, emptied):
    def vanish(*_):
        remove(ledger_path)
        if emptied:
            ledger_path.touch()
        return (0.5, 8.0, 300.0)

    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
    uses = {
        "reset": lambda calibrator: calibrator.reset("m"),
        "reset all": lambda calibrator: calibrator.reset(),
        "recalibrate": lambda calibrator: calibrator.recalibrate(0.5, progress=vanish),
    }
    with AdaptiveCalibrator(ledger_path, prior=vanish) as calibrator:
        with pytest.raises(LedgerNotFoundError, match="there is no ledger at"):
            uses[use](calibrator)
        assert not ledger_path.exists() or ledger_path.stat().st_size == 0
        # Recording makes one, as ever.
        calibrator._prior = lambda _: (0.5, 8.0, 300.0)
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []
