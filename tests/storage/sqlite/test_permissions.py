"""Whoever may write to a ledger may use all its files, and nobody else may lock it."""

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError
from calibration_ledger.storage.migrate import upgrade_file
from calibration_ledger.storage.place import File

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no permission bits")

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can become other users")
ALICE, BOB, GROUP = 12345, 12346, 20000


def modes(folder):
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in sorted(folder.iterdir())}


def in_a_process(path, *, umask, user=0, group=0, then=""):
    """Record from a process of another user; the modules are imported before that."""
    script = f"""
import os, tempfile
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError
from calibration_ledger.storage.migrate import upgrade_file
from calibration_ledger.storage.place import File
with tempfile.TemporaryDirectory() as warm, AdaptiveCalibrator(warm + "/x.db") as c:
    c.record("m", 1, 1.0)
    list(c.calls())
os.umask({umask})
if {user}:
    os.setgroups([]); os.setgid({group}); os.setuid({user})
with AdaptiveCalibrator({str(path)!r}, timeout_s=5) as c:
    c.record("m", 1, 1.0)
    {then or "pass"}
    for name in sorted(os.listdir({str(path.parent)!r})):
        print(name, oct(os.stat({str(path.parent)!r} + "/" + name).st_mode & 0o777))
"""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("umask", "mode", "lock"),
    [
        (0o022, "0o644", "0o600"),
        (0o002, "0o664", "0o660"),
        (0o007, "0o660", "0o660"),
        (0o077, "0o600", "0o600"),
        (0o000, "0o666", "0o666"),
    ],
)
def test_all_files_let_the_same_people_write(folder, umask, mode, lock):
    done = in_a_process(folder / "l.db", umask=umask)
    expected = [f"l.db {mode}", f"l.db-shm {mode}", f"l.db-wal {mode}", f"l.db.lock {lock}"]
    assert done.stdout.splitlines() == sorted(expected), done.stderr


@needs_root
@pytest.mark.parametrize("umask", [0o002, 0o007])
def test_two_members_of_a_group_record_in_a_folder_that_they_share(folder, umask):
    os.chown(folder, ALICE, GROUP)
    folder.chmod(0o2770)
    ledger = folder / "l.db"
    for user in (ALICE, BOB, ALICE):
        done = in_a_process(ledger, umask=umask, user=user, group=GROUP)
        assert done.returncode == 0, done.stderr
    with AdaptiveCalibrator(ledger) as calibrator:
        assert sum(1 for _ in calibrator.calls()) == 3
        assert calibrator.audit() == []


@needs_root
def test_root_leaves_files_behind_that_the_owner_can_use(folder):
    os.chown(folder, ALICE, GROUP)
    ledger = folder / "l.db"
    assert in_a_process(ledger, umask=0o022, user=ALICE, group=GROUP).returncode == 0
    ledger.with_name("l.db.lock").unlink()
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 1.0)
    done = in_a_process(ledger, umask=0o022, user=ALICE, group=GROUP)
    assert done.returncode == 0, done.stderr


@needs_root
def test_who_may_only_read_cannot_lock_writers_out(folder):
    ledger = folder / "l.db"
    assert in_a_process(ledger, umask=0o022).returncode == 0
    script = f"""
import os
os.setgroups([]); os.setgid({BOB}); os.setuid({BOB})
for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
    try:
        os.open({str(ledger) + ".lock"!r}, flags)
    except PermissionError:
        continue
    raise SystemExit("opened")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_root
def test_who_may_only_read_leaves_no_lock_file_and_is_told_why(folder):
    ledger = folder / "l.db"
    assert in_a_process(ledger, umask=0o022).returncode == 0
    ledger.with_name("l.db.lock").unlink()
    folder.chmod(0o777)
    done = in_a_process(ledger, umask=0o022, user=BOB, group=BOB)
    assert f"{ledger} may not be written by this user" in done.stderr
    assert list(modes(folder)) == ["l.db"]


def test_the_lock_file_of_an_older_ledger_is_mended_by_the_next_writer(folder):
    ledger, lock = folder / "l.db", folder / "l.db.lock"
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 1.0)
    ledger.chmod(0o644)
    lock.chmod(0o644)
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 1.0)
    assert modes(folder)["l.db.lock"] == "0o600"
    ledger.chmod(0o664)
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 1.0)
    assert modes(folder)["l.db.lock"] == "0o660"
    assert modes(folder)["l.db"] == "0o664"


@pytest.mark.parametrize("revision", ["x'00ff'", "'9999'", "'nonsense'"])
def test_an_upgrade_that_is_refused_leaves_no_lock_file(folder, revision):
    ledger = folder / "l.db"
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 1.0)
    ledger.with_name("l.db.lock").unlink()
    with closing(sqlite3.connect(ledger)) as shell:
        shell.execute(f"UPDATE alembic_version SET version_num = {revision}")
        shell.commit()
    with pytest.raises(LedgerError):
        upgrade_file(File(ledger), 5.0)
    assert "l.db.lock" not in modes(folder)
