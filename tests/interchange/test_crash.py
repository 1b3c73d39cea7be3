"""Imports that are killed, and imports that race: every call once, in a ledger that audits."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.import_ids import import_id_of

from .conftest import HEADER

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 20_000

PROGRAM = """
import sys
from calibration_ledger import AdaptiveCalibrator

kind, path, ledger, held = sys.argv[1:]
steps = 0

def progress(_):
    global steps
    steps += 1
    print(".", flush=True)
    if steps == int(held):
        sys.stdin.read()  # until it is killed

print(AdaptiveCalibrator(ledger).import_calls(kind, path, progress=progress).recorded)
"""


def start(kind: str, path: Path, ledger: Path, held: int = 0) -> subprocess.Popen[str]:
    """Import in a process of its own, which stops at one of its steps of up to 1,000."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, kind, str(path), str(ledger), str(held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def rows_file(tmp_path: Path) -> Path:
    r = random.Random(7)
    path = tmp_path / "rows.csv"
    lines = [
        f"model-{i % 3},{r.randrange(5)},{r.randrange(5)},{r.randrange(9)},"
        f"2025-01-0{r.randrange(1, 9)}T00:00Z"
        for i in range(ROWS)
    ]  # few values, so that very many rows are equal
    path.write_text("\n".join([HEADER + ",called_at", *lines]) + "\n", encoding="utf-8")
    return path


def kill_after(process: subprocess.Popen[str], steps: int) -> None:
    """SIGKILL it once it has told of this many steps."""
    assert process.stdout is not None
    assert process.stdin is not None
    for _ in range(steps):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_import_leaves_a_prefix_that_the_same_import_completes(
    ledger_path: Path, tmp_path: Path, other: AdaptiveCalibrator
) -> None:
    path = rows_file(tmp_path)
    kill_after(start("csv", path, ledger_path), 5)  # while it reads
    assert not ledger_path.exists()
    counts = [0]
    for steps, held in ((23, 23), (24, 0), (26, 0)):  # 21 of reading, and into the recording
        kill_after(start("csv", path, ledger_path, held), steps)  # not held: wherever it is
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []
            counts.append(sum(stats["sample_count"] for stats in calibrator.all_stats()))
    assert counts[1] == 2000
    assert counts == sorted(counts)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        report = calibrator.import_calls("csv", path)
        assert (report.recorded, report.already) == (ROWS - counts[-1], counts[-1])
        assert calibrator.audit() == []
        other.import_calls("csv", path)
        key = [(c.model, c.prompt_tokens, c.actual_ms, c.request_id) for c in calibrator.calls()]
        assert len(set(key)) == ROWS
        # Killed or not, the same calls in the same order, learnt to the same bit.
        assert list(calibrator.calls()) == list(other.calls())
        assert {import_id_of(json.dumps(dict(c.details or {}))) for c in calibrator.calls()} == {
            report.import_id
        }


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_import_of_a_ledger_leaves_a_prefix_that_the_same_import_completes(
    ledger_path: Path, tmp_path: Path, other: AdaptiveCalibrator
) -> None:
    other.import_calls("csv", rows_file(tmp_path))
    other.recalibrate(0.4)
    other.reset("model-1")
    path = tmp_path / "ledger.jsonl"
    other.export_ledger("jsonl", path)
    counts = []
    for steps, held in ((24, 24), (29, 0)):
        kill_after(start("ledger", path, ledger_path, held), steps)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []
            counts.append(sum(1 for _ in calibrator.calls()))
    recorded = counts[-1]
    assert 0 < counts[0] <= 3000
    assert counts[0] <= recorded
    with AdaptiveCalibrator(ledger_path) as calibrator:
        report = calibrator.import_calls("ledger", path)
        assert (report.recorded, report.already) == (ROWS - recorded, recorded)
        assert calibrator.heads() == other.heads()
        assert calibrator.audit() == []


def test_imports_of_one_file_at_once_record_each_call_once(
    ledger_path: Path, tmp_path: Path
) -> None:
    path = rows_file(tmp_path)
    racing = [start("csv", path, ledger_path) for _ in range(3)]
    recorded = 0
    for process in racing:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        recorded += int(out.split()[-1])
    assert recorded == ROWS
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert sum(1 for _ in calibrator.calls()) == ROWS
        assert calibrator.audit() == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_export_leaves_no_file_of_that_name(ledger_path: Path, tmp_path: Path) -> None:
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.import_calls("csv", rows_file(tmp_path))
        target = tmp_path / "out.jsonl"
        program = (
            "import sys; from calibration_ledger import AdaptiveCalibrator;"
            "AdaptiveCalibrator(sys.argv[1]).export_ledger('jsonl', sys.argv[2],"
            " progress=lambda _: print('.', flush=True) or sys.stdin.read())"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(ledger_path), str(target)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        ) as process:
            kill_after(process, 1)
        assert not target.exists()
        partial = tmp_path / "out.jsonl.partial"
        assert partial.exists()
        with pytest.raises(InvalidInputError, match="another export runs, or one was killed"):
            calibrator.export_ledger("jsonl", target)
        partial.unlink()
        calibrator.export_ledger("jsonl", target)
        assert target.exists()
        assert calibrator.audit() == []
