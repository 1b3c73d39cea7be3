"""The programs of both revisions that meet in an upgrade; `newer_program` has the newer one."""

from __future__ import annotations

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerTooNewError
from support.quick import QUICK


def write_until_refused(url, barrier, results):
    """A writer of the older revision: how many calls were acknowledged before it was refused."""
    count = 0
    with AdaptiveCalibrator(url) as calibrator:
        barrier.wait()
        try:
            while True:
                calibrator.record(f"m{count % 3}", count, 100.0, completion_tokens=5)
                count += 1
        except LedgerTooNewError as error:
            results.put((count, error.found, error.expected))
        except BaseException as error:  # noqa: BLE001 - told to the parent
            results.put(repr(error))


def run_all(*targets):
    processes = [QUICK.Process(target=target, args=arguments) for target, arguments in targets]
    for process in processes:
        process.start()
    return processes
