"""What a command writes beside a ledger costs nobody a file, and tells nobody more than it does."""

import os
import stat
import sys
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator

WRITING = {
    "export": ("export", "jsonl"),
    "backup": ("db", "backup"),
    "heads": ("audit", "--save-heads"),
}
COMPANIONS = ("-wal", "-shm", "-journal", ".lock")

by_permissions = pytest.mark.skipif(sys.platform == "win32", reason="there are no permission bits")


@pytest.fixture
def partial(tmp_path):
    """A ledger that bears the name of an unfinished `q`."""
    path = tmp_path / "q.partial"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 2.0)
    return path


@pytest.mark.parametrize("command", WRITING)
def test_a_ledger_with_the_name_of_an_unfinished_file_is_never_lost(
    run, partial, tmp_path, command
):
    before = partial.read_bytes()
    result = run("--ledger", partial, *WRITING[command], tmp_path / "q")
    assert partial.read_bytes() == before
    if command == "backup":
        assert result.exit_code == 0
    else:
        assert result.exit_code == 2
        assert "q.partial, which is the ledger's" in result.stderr
        assert not (tmp_path / "q").exists()
    with AdaptiveCalibrator(partial) as calibrator:
        assert calibrator.audit() == []


@pytest.mark.parametrize("command", WRITING)
@pytest.mark.parametrize("suffix", COMPANIONS)
@pytest.mark.parametrize("there", [False, True])
def test_the_names_beside_a_ledger_are_its_own(calib, filled, command, suffix, there):
    beside = filled.with_name(filled.name + suffix)
    beside.unlink(missing_ok=True)
    if there:
        beside.touch()
    ledger = filled.read_bytes()
    overwrite = ("--overwrite",) if command == "export" else ()
    result = calib(*WRITING[command], beside, *overwrite, exit_code=2)
    assert str(beside) in result.stderr
    assert filled.read_bytes() == ledger
    # Reading may have left an empty log, and its index.
    made = beside.read_bytes() if beside.exists() else b""
    assert not made.startswith((b"{", b"SQLite format 3"))
    assert beside.exists() == there or suffix in {"-wal", "-shm"}


@pytest.mark.parametrize("command", WRITING)
def test_the_names_beside_a_ledger_behind_a_link_are_its_own(run, filled, tmp_path, command):
    link = tmp_path / "link.db"
    link.symlink_to(filled)
    for name in (Path(f"{filled}-wal"), Path(f"{link}.lock")):
        assert run("--ledger", link, *WRITING[command], name).exit_code == 2
        assert not name.exists() or name.stat().st_size == 0


@by_permissions
@pytest.mark.parametrize("command", WRITING)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_nothing_is_more_readable_than_its_ledger(calib, filled, tmp_path, command, mode):
    filled.chmod(mode)
    made = tmp_path / "made"
    mask = os.umask(0)
    try:
        calib(*WRITING[command], made)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(made.stat().st_mode) == mode


@by_permissions
@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("command", WRITING)
def test_the_group_of_the_copy_may_no_more_than_others_where_it_is_another(
    calib, filled, tmp_path, command
):
    os.chown(filled, 0, 54321)
    filled.chmod(0o640)
    made = tmp_path / "made"
    calib(*WRITING[command], made)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


def test_unfinished_heads_of_another_audit_are_not_written_over(calib, filled, tmp_path):
    (tmp_path / "h.partial").write_text("of another")
    assert "is there" in calib("audit", "--save-heads", tmp_path / "h", exit_code=2).stderr
    assert (tmp_path / "h.partial").read_text() == "of another"
