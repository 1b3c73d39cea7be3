"""Imports that are killed, and imports that race: every call once, in a ledger that audits."""

import json
import random
import signal

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.row import import_id_of
from support.importing import HEADER
from support.programs import started


@pytest.fixture(params=[6_000, pytest.param(20_000, marks=pytest.mark.stress)])
def rows(request):
    """How many rows `rows_file` has; they are read, and recorded, in steps of 1,000."""
    return int(request.param)


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


def start(kind, path, ledger, held=0):
    """Import in a process of its own, which stops at one of its steps of up to 1,000."""
    return started(PROGRAM, kind, path, ledger, held)


@pytest.fixture
def rows_file(tmp_path, rows):
    r = random.Random(7)
    path = tmp_path / "rows.csv"
    lines = [
        f"model-{i % 3},{r.randrange(5)},{r.randrange(5)},{r.randrange(9)},"
        f"2025-01-0{r.randrange(1, 9)}T00:00Z"
        for i in range(rows)
    ]  # few values, so that very many rows are equal
    path.write_text("\n".join([HEADER + ",called_at", *lines]) + "\n", encoding="utf-8")
    return path


def kill_after(process, steps):
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
    ledger_path, tmp_path, other, rows, rows_file
):
    kill_after(start("csv", rows_file, ledger_path), 5)  # while it reads
    assert not ledger_path.exists()
    counts, reading = [0], rows // 1_000 + 1
    for steps, held in ((reading + 2,) * 2, (reading + 3, 0), (reading + 5, 0)):
        kill_after(start("csv", rows_file, ledger_path, held), steps)  # not held: wherever it is
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []
            counts.append(sum(stats["sample_count"] for stats in calibrator.all_stats()))
    assert counts[1] == 2000
    assert counts == sorted(counts)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        report = calibrator.import_calls("csv", rows_file)
        assert (report.recorded, report.already) == (rows - counts[-1], counts[-1])
        assert calibrator.audit() == []
        whole = other.import_calls("csv", rows_file)
        key = [(c.model, c.prompt_tokens, c.actual_ms, c.request_id) for c in calibrator.calls()]
        assert len(set(key)) == rows
        # Killed or not, the same calls in the same order, learnt to the same bit.
        assert list(calibrator.calls()) == list(other.calls())
        assert {import_id_of(json.dumps(dict(c.details or {}))) for c in calibrator.calls()} == {
            whole.import_id
        }


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_import_of_a_ledger_leaves_a_prefix_that_the_same_import_completes(
    ledger_path, tmp_path, other, rows, rows_file
):
    other.import_calls("csv", rows_file)
    other.recalibrate(0.4)
    other.reset("model-1")
    path = tmp_path / "ledger.jsonl"
    other.export_ledger("jsonl", path)
    counts, reading = [], rows // 1_000 + 1
    for steps, held in ((reading + 3,) * 2, (reading + 6, 0)):
        kill_after(start("ledger", path, ledger_path, held), steps)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []
            counts.append(sum(1 for _ in calibrator.calls()))
    recorded = counts[-1]
    assert 0 < counts[0] <= 3000
    assert counts[0] <= recorded
    with AdaptiveCalibrator(ledger_path) as calibrator:
        report = calibrator.import_calls("ledger", path)
        assert (report.recorded, report.already) == (rows - recorded, recorded)
        assert calibrator.heads() == other.heads()
        assert calibrator.audit() == []


def test_imports_of_one_file_at_once_record_each_call_once(ledger_path, rows, rows_file):
    racing = [start("csv", rows_file, ledger_path) for _ in range(3)]
    recorded = 0
    for process in racing:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        recorded += int(out.split()[-1])
    assert recorded == rows
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert sum(1 for _ in calibrator.calls()) == rows
        assert calibrator.audit() == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_export_leaves_no_file_of_that_name(ledger_path, tmp_path, rows_file):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.import_calls("csv", rows_file)
        target = tmp_path / "out.jsonl"
        program = (
            "import sys; from calibration_ledger import AdaptiveCalibrator;"
            "AdaptiveCalibrator(sys.argv[1]).export_ledger('jsonl', sys.argv[2],"
            " progress=lambda _: print('.', flush=True) or sys.stdin.read())"
        )
        with started(program, ledger_path, target) as process:
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
