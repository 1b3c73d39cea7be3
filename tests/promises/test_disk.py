"""A disk that is full or broken: an error that says what is known, and nothing acknowledged lost.

Four ways to break one, from the finest to the most real: a library between SQLite and the system
that lets the n-th write, sync, truncation or read fail; strace, which does it in the system call;
a limit to the size of files; and a file system that is really full. Under all of them the process
goes on, and records again once the fault is gone.
"""

import json
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import ExportFailedError, LedgerError, NotRecordedError
from support.disk_sweep import OPERATIONS
from support.failing_disk import compile_library, injected, run_python, small_disk

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these faults are POSIX ones")

SUPPORT = Path(__file__).parents[1] / "support"

# What every run can afford; under `stress` every operation meets every single failure.
DAILY = ["record on a ledger just opened", "record that makes the ledger", "record_many", "close"]

RECORDER = """
import sys
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError
path, count = sys.argv[1:]
with AdaptiveCalibrator(path) as calibrator:
    for i in range(int(count)):
        for attempt in range(50):
            try:
                calibrator.record("m", i, 100.0 + i, request_id=str(i))
            except LedgerError as error:
                print(type(error).__name__, flush=True)
            else:
                print("recorded", i, flush=True)
                break
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compile_library(tmp_path_factory.mktemp("library"))


def sweep(library, folder, operation, which):
    done = run_python(
        SUPPORT / "disk_sweep.py", library, folder, operation, which, LD_PRELOAD=str(library)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    if not outcomes:
        pytest.skip("this SQLite does not call the system's functions through the C library")
    return outcomes


@pytest.mark.parametrize("operation", DAILY)
def test_a_failing_disk_loses_nothing_acknowledged(library, tmp_path, operation):
    """What is asserted after every failure stands in `disk_sweep.Sweep.check`."""
    outcomes = sweep(library, tmp_path, operation, "some")
    # The failures were met, and each sentence was the one that is known to be true.
    kinds = {outcome.partition(": ")[2] for outcome in outcomes}
    assert kinds >= ({"done"} if operation == "close" else {"not recorded", "unknown"})
    full = {outcome for outcome in outcomes if "ENOSPC" in outcome}
    assert full <= {f"torn write ENOSPC: {known}" for known in ("not recorded", "done")}


@pytest.mark.stress
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_single_failure_of_the_disk_loses_anything_acknowledged(library, tmp_path, operation):
    assert sweep(library, tmp_path, operation, "all")


@pytest.mark.parametrize(
    ("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "EIO"), ("pwrite64", "ENOSPC")]
)
def test_failing_system_calls_lose_nothing_acknowledged(ledger_path, call, error):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("other", 1, 1.0)  # to make it takes more writes than may go well
    before = injected(call, error, "9+23" if call == "pwrite64" else "2+4")
    done = run_python(RECORDER, ledger_path, 25, before=before)
    lines = done.stdout.split("\n")
    assert [line for line in lines if line.startswith("recorded")] == [
        f"recorded {i}" for i in range(25)
    ], done.stderr
    errors = {line for line in lines if line.endswith("Error")}
    assert errors <= {"NotRecordedError", "OutcomeUnknownError"}
    assert errors, f"no {call} was made to fail"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert [call.request_id for call in calibrator.calls("m")] == [str(i) for i in range(25)]
        assert calibrator.audit() == []


LIMITED = """
import os, resource, sys
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError
path = sys.argv[1]
with AdaptiveCalibrator(path) as calibrator:
    calibrator.record("m", 1, 1.0, request_id="first")
    biggest = max(os.path.getsize(path + end) for end in ("", "-wal", "-shm"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (biggest + 20_000, hard))
    recorded = 0
    try:
        while True:
            calibrator.record("m", 1, 1.0, request_id=str(recorded))
            recorded += 1
    except LedgerError as error:
        print(type(error).__name__, "request_id" in str(error) or "Nothing was" in str(error))
    print(calibrator.calibration("m").sample_count in (recorded + 1, recorded + 2))
    print(calibrator.audit())
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for i in range(recorded, 60):
        calibrator.record("m", 1, 1.0, request_id=str(i))
    print(recorded > 0, calibrator.audit())
"""


def test_a_limit_to_the_size_of_files_is_told_and_overcome(ledger_path):
    pytest.importorskip("resource", reason="Windows limits no file sizes")
    done = run_python(LIMITED, ledger_path)
    assert done.stdout.splitlines() == ["OutcomeUnknownError True", "True", "[]", "True []"], (
        done.stdout + done.stderr
    )
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.calibration("m").sample_count == 61
        assert calibrator.audit() == []


def test_on_a_full_disk_nothing_is_recorded_until_there_is_room(tmp_path):
    with small_disk(tmp_path / "small", 900) as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(b"x" * 400_000)
        with AdaptiveCalibrator(folder / "calls.db") as calibrator:
            recorded = 0
            with pytest.raises(NotRecordedError, match=r"full disk.*Nothing was recorded"):  # noqa: PT012 - until it fails
                while recorded < 100_000:
                    calibrator.record("m", recorded, 1.0, request_id=str(recorded))
                    recorded += 1
            assert recorded > 0
            assert calibrator.calibration("m").sample_count == recorded
            assert calibrator.audit() == []
            with pytest.raises(NotRecordedError, match="Nothing was recorded"):
                calibrator.record("another", 1, 1.0)
            ballast.unlink()
            for i in range(recorded, recorded + 10):
                calibrator.record("m", i, 1.0, request_id=str(i))
            assert calibrator.audit() == []
        with AdaptiveCalibrator(folder / "calls.db") as calibrator:
            assert calibrator.calibration("m").sample_count == recorded + 10
            assert calibrator.audit() == []


def test_a_ledger_that_finds_no_room_is_made_once_there_is(tmp_path):
    with small_disk(tmp_path / "small", 200) as folder:
        ballast = folder / "ballast"
        with AdaptiveCalibrator(folder / "calls.db") as calibrator:
            for size in range(195, 0, -12):
                ballast.write_bytes(b"x" * 1024 * size)
                if refused(calibrator):
                    # Without room for the index of the log, nothing can be read either.
                    with suppress(LedgerError):
                        assert list(calibrator.calls()) == []
            ballast.unlink()
            assert not refused(calibrator)
            assert len(list(calibrator.calls())) == 1
            assert calibrator.audit() == []


def refused(calibrator):
    """Record one and the same call; whether there was no room for it."""
    try:
        calibrator.record("m", 1, 1.0, request_id="once")
    except NotRecordedError as error:
        return "Nothing was recorded" in str(error)
    return False


NO_ROOM_FOR_TEMPORARY_FILES = """
import sys
from datetime import UTC, datetime
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import NotRecordedError
ledger, dest = sys.argv[1:]
with AdaptiveCalibrator(ledger) as calibrator:
    heads = calibrator.heads()
    try:
        calibrator.archive(datetime(2100, 1, 1, tzinfo=UTC), dest)
    except NotRecordedError as error:
        print(error)
    print(calibrator.heads() == heads, len(list(calibrator.calls())), calibrator.audit())
"""


def test_an_archive_without_room_for_temporary_files_names_their_folder(tmp_path, ledger_path):
    """SQLite keeps there what it would take to undo, and says no more than that a disk is full."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(Call("m", i, 1, 100.0, request_id=str(i)) for i in range(9000))
    with small_disk(tmp_path / "small", 40) as folder:
        dest = tmp_path / "old.jsonl"
        done = run_python(NO_ROOM_FOR_TEMPORARY_FILES, ledger_path, dest, TMPDIR=str(folder))
    told, after = done.stdout.splitlines()
    assert "TMPDIR" in told
    assert "nothing was taken out of the ledger" in told
    assert after == "True 9000 []"


@pytest.mark.parametrize("size_kib", [40, 100])
def test_copies_that_find_no_room_leave_nothing_behind(tmp_path, ledger_path, size_kib):
    """Nor does the journal stay that SQLite fills one under, where there is room for that."""
    rows = [Call("m", i, 1, 100.0, request_id=str(i)) for i in range(1000)]
    with (
        small_disk(tmp_path / "small", size_kib) as folder,
        AdaptiveCalibrator(ledger_path) as calibrator,
    ):
        calibrator.record_many(rows)
        with pytest.raises(
            LedgerError, match=r"copy\.db could not be written.* disk is full.*room"
        ):
            calibrator.backup(folder / "copy.db")
        with pytest.raises(ExportFailedError, match=r"old\.jsonl could not be written.*room"):
            calibrator.archive(datetime(2100, 1, 1, tzinfo=UTC), folder / "old.jsonl")
        with pytest.raises(ExportFailedError):
            calibrator.export_ledger("jsonl", folder / "ledger.jsonl")
        assert list(folder.iterdir()) == []
        assert calibrator.audit() == []
