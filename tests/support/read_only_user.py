"""What a user sees who may not write a ledger, or not its folder: run by `test_read_only.py`.

Permission bits do not bind root, so root becomes somebody first; before that, everything is used
once, for the modules themselves may lie where nobody can read them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import CalibrationLedgerError

if TYPE_CHECKING:
    from collections.abc import Callable


def become(uid: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        use(f"{folder}/calls.db", "", "", "")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)


def outcome(action: Callable[[], object]) -> str:
    """What the action gives, or the type and sentence of the error."""
    try:
        return str(action())
    except CalibrationLedgerError as error:
        return f"{type(error).__name__}: {error}"


def use(ledger: str, changed: str, refused: str, allowed: str) -> dict[str, str]:
    """Read and record under the mode `refused` of the path `changed`, then under `allowed`."""

    def change(mode: str) -> None:
        if mode:
            Path(changed).chmod(int(mode, 8))

    change(refused)
    found = {"opened": outcome(lambda: AdaptiveCalibrator(ledger).close())}
    if found["opened"] != "None":
        change(allowed)
    with AdaptiveCalibrator(ledger) as calibrator:
        if found["opened"] == "None":
            found["calls"] = outcome(lambda: count(calibrator))
            found["audit"] = outcome(calibrator.audit)
            found["record"] = outcome(lambda: record(calibrator))
            found["calls after"] = outcome(lambda: count(calibrator))
            change(allowed)
        found["record again"] = outcome(lambda: record(calibrator))
        found["calls at last"] = outcome(lambda: count(calibrator))
        found["audit at last"] = outcome(calibrator.audit)
    return found


def count(calibrator: AdaptiveCalibrator) -> int:
    return sum(1 for _ in calibrator.calls())


def record(calibrator: AdaptiveCalibrator) -> float:
    return calibrator.record("m", 1, 2.0, request_id="nobody's")


if __name__ == "__main__":
    become(int(sys.argv[1]))
    print(json.dumps(use(*sys.argv[2:])))
