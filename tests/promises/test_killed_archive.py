"""An archive that is killed, or whose disk is full: every entry is in the ledger, in the complete
file, or in both."""

import io
import json
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.facts import shown_bytes
from support.programs import ran, started

START = datetime(2026, 1, 2, tzinfo=UTC)
CUT = "2026-01-02T00:20:00+00:00"

# It stops at the n-th call of a function, and waits there to be killed.
PROGRAM = """
import importlib, sys
from datetime import datetime
from calibration_ledger import AdaptiveCalibrator

ledger, dest, before, where = sys.argv[1:]

def stop():
    print("there", flush=True)
    sys.stdin.read()

if where:
    module, _, name = where.partition(":")
    found = importlib.import_module("calibration_ledger." + module)
    *path, last = name.split(".")
    for part in path:
        found = getattr(found, part)
    real = getattr(found, last)
    setattr(found, last, lambda *arguments: (stop(), real(*arguments))[1])
else:
    print("there", flush=True)
AdaptiveCalibrator(ledger).archive(datetime.fromisoformat(before), dest)
"""

MOMENTS = {
    "while it writes": "verbs.archive:head_line",
    "when the file has its name": "verbs.archive:_verify",
    "while it reads back": "verbs.archive:check_fold",
    "before it takes anything out": "verbs.archive:_take_out",
    "when calls are gone": "storage.transaction:Transaction.add_adjustment",
    "before it gives space back": "storage.ledger:shrink",
}


# Four of them in every run, all of them under `stress`.
RARE = {"when the file has its name", "when calls are gone"}
EACH = [pytest.param(m, marks=[pytest.mark.stress] if m in RARE else []) for m in MOMENTS]


def fill(ledger, count, apart_s=1):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record_many(
            Call(
                model,
                i % 900,
                i % 70,
                5.0 * i,
                START + timedelta(seconds=i * apart_s),
                f"r-{i}",
                {"i": i},
            )
            for i in range(count)
            for model in "ab"
        )


def start(ledger, dest, where=""):
    return started(PROGRAM, ledger, dest, CUT, where)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


def lines_of(ledger):
    out = io.StringIO()
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.audit() == []
        calibrator.export_ledger("jsonl", out)
    return out.getvalue().splitlines()


def entries(lines):
    return {line for line in lines if json.loads(line).get("entry") not in {None, "archived"}}


def check(ledger, dest, whole):
    """Nothing is lost, and it is whole again once the file is brought back; gives whether it was
    taken out."""
    left = lines_of(ledger)
    moved = []
    if dest.exists():
        with AdaptiveCalibrator(":memory:") as other:
            other.import_calls("ledger", dest)  # which verifies it
        moved = dest.read_text().splitlines()
    assert entries(left) | entries(moved) == entries(whole)
    with AdaptiveCalibrator(ledger) as calibrator:
        if dest.exists():
            calibrator.import_calls("ledger", dest)
    assert lines_of(ledger) == whole
    return left != whole


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(
    ("count", "apart_s"), [(150, 10), pytest.param(1500, 1, marks=pytest.mark.stress)]
)
@pytest.mark.turns("moment")
@pytest.mark.parametrize("moment", EACH)
def test_an_archive_that_is_killed_loses_nothing(ledger, tmp_path, moment, count, apart_s):
    fill(ledger, count, apart_s)
    whole = lines_of(ledger)
    dest = tmp_path / "old.jsonl"
    process = start(ledger, dest, MOMENTS[moment])
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    kill(process)
    assert check(ledger, dest, whole) == (moment == "before it gives space back")
    dest.unlink(missing_ok=True)
    dest.with_name("old.jsonl.partial").unlink(missing_ok=True)
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.archive(datetime.fromisoformat(CUT), dest)
    assert check(ledger, dest, whole)


@pytest.mark.stress
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_archives_that_are_killed_at_any_moment_lose_nothing(ledger, tmp_path):
    """Also in the middle of a COMMIT and of a VACUUM."""
    r = random.Random(5)
    fill(ledger, 6000)
    whole = lines_of(ledger)
    outcomes = set()
    for i in range(60):
        dest = tmp_path / f"{i}.jsonl"
        process = start(ledger, dest)
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        time.sleep(r.uniform(0.0, 1.2))
        kill(process)
        outcomes.add((dest.exists(), check(ledger, dest, whole)))
        for left in tmp_path.glob(f"{i}.jsonl*"):
            left.unlink()
    assert (False, False) in outcomes
    assert (True, True) in outcomes


SHORT_OF_ROOM = """
import resource, signal, sys
from datetime import datetime
from calibration_ledger import AdaptiveCalibrator

ledger, dest, before, most = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with AdaptiveCalibrator(ledger) as calibrator:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), hard))
    report = calibrator.archive(datetime.fromisoformat(before), dest)
    print(report.calls, report.trouble, flush=True)
    recorded = calibrator.record("a", 1, 2.0) is not None
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))  # of free pages, an audit makes a copy
    print(recorded, calibrator.audit())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="this system limits no file's size")
def test_where_there_is_no_room_to_shrink_the_archive_stands(ledger_path, tmp_path):
    fill(str(ledger_path), 6000)
    whole = lines_of(str(ledger_path))
    dest = tmp_path / "old.jsonl"
    most = ledger_path.stat().st_size // 2
    done = ran(SHORT_OF_ROOM, ledger_path, dest, CUT, most)
    assert done.returncode == 0, done.stderr
    told, after = done.stdout.splitlines()
    assert told.startswith("2400 ")
    assert "SQLite" in told
    assert after == "True []"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.import_calls("ledger", dest)
    assert entries(lines_of(str(ledger_path))) > entries(whole)


def test_an_archive_gives_the_space_back(ledger_path, tmp_path):
    fill(str(ledger_path), 4000)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        before = ledger_path.stat().st_size
        report = calibrator.archive(datetime(2100, 1, 1, tzinfo=UTC), tmp_path / "old.jsonl")
        assert report.bytes_before is not None
        assert report.bytes_after is not None
        assert report.bytes_before >= before
        assert report.bytes_after < before / 10, shown_bytes(report.bytes_after)
        assert report.bytes_after == ledger_path.stat().st_size
        assert (tmp_path / "calls.db-wal").stat().st_size == 0
        assert calibrator.audit() == []
        calibrator.record("a", 1, 2.0)
        assert calibrator.audit() == []
