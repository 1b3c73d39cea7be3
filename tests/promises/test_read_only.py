"""A ledger that may not be written, or lies in a folder that may not: it can be read, recording
says so, and goes on in the same process once it is allowed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerPermissionError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no permission bits")

PROGRAM = Path(__file__).parents[1] / "support" / "read_only_user.py"
NOBODY = 65534
CALLS = 12


@pytest.fixture
def ledger_file(folder):
    path = folder / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        fill(calibrator)
    return path


def fill(calibrator):
    for i in range(CALLS):
        calibrator.record("m", i, 100.0 + i, request_id=str(i))


def as_nobody(ledger, changed, refused="", allowed="", uid=NOBODY):
    done = subprocess.run(
        [sys.executable, PROGRAM, str(uid), ledger, changed, refused, allowed],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def give_away(*paths):
    """Let nobody own them, to change their modes."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY)


def assert_clean(path, calls):
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []
        assert sum(1 for _ in calibrator.calls()) == calls


def assert_refused_but_read(found):
    assert found["opened"] == "None"
    assert found["calls"] == found["calls after"] == str(CALLS)
    assert found["audit"] == "[]"
    assert found["record"].startswith("LedgerPermissionError: ")
    assert "Nothing was recorded" in found["record"]


@pytest.mark.parametrize("what", ["file", "folder"])
def test_recording_is_refused_and_goes_on_once_it_is_allowed(folder, ledger_file, what):
    give_away(folder, *folder.iterdir())
    if what == "file":
        found = as_nobody(ledger_file, ledger_file, "444", "644")
    else:
        found = as_nobody(ledger_file, folder, "555", "755")
    assert_refused_but_read(found)
    assert float(found["record again"])
    assert found["calls at last"] == str(CALLS + 1)
    assert found["audit at last"] == "[]"
    assert_clean(ledger_file, CALLS + 1)


def test_a_folder_in_which_no_ledger_can_be_made_says_why(folder):
    give_away(folder)
    found = as_nobody(folder / "new.db", folder, "555")
    for sentence in (found["record"], found["record again"]):
        assert sentence.startswith("LedgerPermissionError: ")
        assert "new.db.lock cannot be used (Permission denied)" in sentence
    folder.chmod(0o755)
    assert list(folder.iterdir()) == []


def test_a_ledger_of_somebody_else_can_be_read_and_stays_as_it_is(folder, ledger_file):
    folder.chmod(0o555)
    ledger_file.chmod(0o444)
    before = ledger_file.read_bytes(), sorted(path.name for path in folder.iterdir())
    found = as_nobody(ledger_file, ledger_file)
    assert_refused_but_read(found)
    assert found["record again"] == found["record"]
    assert found["audit at last"] == "[]"
    assert (ledger_file.read_bytes(), sorted(path.name for path in folder.iterdir())) == before
    folder.chmod(0o755)
    ledger_file.chmod(0o644)
    assert_clean(ledger_file, CALLS)


def test_what_another_user_has_just_committed_is_read_from_the_log(folder, ledger_file):
    with AdaptiveCalibrator(ledger_file) as owner:
        owner.record("m", 5, 5.0, request_id="in the log")
        assert ledger_file.with_name("calls.db-wal").stat().st_size > 0
        folder.chmod(0o555)
        found = as_nobody(ledger_file, ledger_file)
        assert found["calls"] == found["calls after"] == str(CALLS + 1)
        assert found["audit"] == "[]"
        # As their owner, even nobody may still write it; in somebody else's they may not.
        if os.geteuid() == 0:
            assert "Nothing was recorded" in found["record"]
        folder.chmod(0o755)
        assert owner.audit() == []


def test_a_log_that_a_crash_left_hides_nothing_from_those_who_cannot_write(folder, ledger_file):
    """What was committed last is in the -wal alone, and there is no -shm to find it with."""
    image = folder / "image"
    image.mkdir()
    with AdaptiveCalibrator(ledger_file) as owner:
        owner.record("m", 5, 5.0, request_id="in the log")
        files = [str(path) for path in folder.glob("calls.db*") if path.suffix != ".db-shm"]
        subprocess.run(["cp", *files, str(image)], check=True)
    crashed = image / "calls.db"
    give_away(image, *image.iterdir())
    found = as_nobody(crashed, image, "555", "755")
    if found["opened"] == "None":
        assert found["calls"] == found["calls after"] == str(CALLS + 1)
        assert "Nothing was recorded" in found["record"]
    else:  # older than 3.22, or for want of the -shm: an error, never only what the file has
        assert found["opened"].startswith("LedgerPermissionError: ")
    assert found["calls at last"] == str(CALLS + 2)
    assert found["audit at last"] == "[]"
    assert_clean(crashed, CALLS + 2)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root can be two users")
def test_a_reader_leaves_nothing_behind_that_keeps_the_owner_from_writing(folder, ledger_file):
    """In a folder that all may write, the reader's -wal and -shm would be the reader's own."""
    folder.chmod(0o1777)
    for path in folder.iterdir():
        os.chown(path, NOBODY - 1, NOBODY - 1)
    found = as_nobody(ledger_file, ledger_file)
    assert found["calls"] == str(CALLS)
    assert "Nothing was recorded" in found["record"]
    found = as_nobody(ledger_file, ledger_file, uid=NOBODY - 1)
    assert float(found["record"])
    assert_clean(ledger_file, CALLS + 1)


@pytest.fixture
def mounted(folder):
    """Mount a folder of a ledger once more, with these options."""
    here = folder / "mounted"
    here.mkdir()

    def mount(options):
        source = [] if here.is_mount() else [str(folder)]
        remount = "" if source else "remount,"
        command = ["mount", "-o", f"{remount}bind,{options}", *source, str(here)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
        return here / "calls.db"

    yield mount
    if here.is_mount():
        subprocess.run(["umount", "--lazy", str(here)], check=True)


@pytest.mark.skipif(not shutil.which("mount"), reason="there is no mount")
def test_a_file_system_mounted_read_only_is_read_and_refused_even_to_root(ledger_file, mounted):
    mounted("rw")
    path = mounted("ro")
    with AdaptiveCalibrator(path) as calibrator:
        assert sum(1 for _ in calibrator.calls()) == CALLS
        with pytest.raises(LedgerPermissionError, match="Nothing was recorded"):
            calibrator.record("m", 1, 2.0, request_id="r")
        with pytest.raises(LedgerPermissionError, match="Nothing was recorded"):
            calibrator.reset()
        with AdaptiveCalibrator(ledger_file) as writer:  # by the path that may be written
            writer.record("m", 1, 2.0, request_id="elsewhere")
            assert sum(1 for _ in calibrator.calls()) == CALLS + 1
        assert sum(1 for _ in calibrator.calls()) == CALLS + 1
        assert calibrator.audit() == []
        mounted("rw")
        calibrator.record("m", 1, 2.0, request_id="r")
        assert calibrator.audit() == []
    assert_clean(ledger_file, CALLS + 2)
