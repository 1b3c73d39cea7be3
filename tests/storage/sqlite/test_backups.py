"""A copy bears its name only once it is whole, and takes nobody else's."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from time import monotonic, sleep

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.files import publish
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.sqlite import copies as backups
from support.threads import together


@pytest.fixture
def filled(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(
            [
                {"model": "m", "prompt_tokens": i, "completion_tokens": 1, "actual_ms": 1.0 + i}
                for i in range(50)
            ]
        )
    return ledger_path


def assert_whole(copy):
    with AdaptiveCalibrator(copy) as calibrator:
        assert calibrator.audit() == []
        assert sum(1 for _ in calibrator.calls()) == 50


def test_of_two_copies_to_one_name_one_is_kept_and_the_other_refused(filled, tmp_path):
    copy, start = tmp_path / "copy.db", threading.Barrier(4)
    outcomes = []

    def back_up():
        start.wait()
        try:
            backups.backup_file(find_place(filled), copy, 5.0)
        except InvalidInputError as error:
            outcomes.append(str(error))
        else:
            outcomes.append("made")

    together(*[back_up] * 4)
    refused = f"{copy} exists already: name a file that does not."
    assert sorted(outcomes) == sorted(["made", *[refused] * 3])
    assert_whole(copy)
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_file_that_came_meanwhile_is_not_replaced(filled, tmp_path):
    copy = tmp_path / "copy.db"

    def fill(partial):
        partial.write_bytes(b"ours")
        copy.write_bytes(b"theirs")

    with pytest.raises(InvalidInputError, match="exists already"):
        backups.new_copy(copy, filled, fill)
    assert copy.read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "calls.db",
        "calls.db.lock",
        "copy.db",
    ]


def test_nobody_else_may_read_a_copy_while_it_is_made(filled, tmp_path):
    filled.chmod(0o644)
    modes = []

    def fill(partial):
        modes.append(stat.S_IMODE(partial.stat().st_mode))

    backups.new_copy(tmp_path / "copy.db", filled, fill)
    assert modes == [0o600]


def test_where_there_are_no_hard_links_a_taken_name_is_refused_too(tmp_path, monkeypatch):
    def refuse(*_paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        publish(tmp_path / "a", tmp_path / "b")
    publish(tmp_path / "a", tmp_path / "c")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "b", "c": "a"}


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_kill_leaves_nothing_of_the_copys_name(filled, tmp_path):
    copy = tmp_path / "copy.db"
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from calibration_ledger.storage.sqlite import copies as backups\n"
        "def fill(partial):\n    partial.write_bytes(b'half')\n    time.sleep(60)\n"
        "backups.new_copy(Path(sys.argv[1]), Path(sys.argv[2]), fill)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, copy, filled])
    deadline = monotonic() + 30
    while not any(path.stat().st_size == 4 for path in tmp_path.glob("copy.db.*.partial")):
        assert monotonic() < deadline
        sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not copy.exists()
    backups.backup_file(find_place(filled), copy, 5.0)
    assert_whole(copy)


def test_the_name_of_a_copy_may_be_anything(filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("file:x?mode=ro", "a#b%20c", "ü" * 60, os.fsdecode(b"\xff\xfe")):
        with AdaptiveCalibrator(filled) as calibrator:
            assert_whole(calibrator.backup(name))
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.record("m", 1, 2.0)
        calibrator.backup("file:memory.db")
    assert (tmp_path / "file:memory.db").exists()


WRITER = """
import sys
from calibration_ledger import AdaptiveCalibrator
ledger, name = sys.argv[1:]
with AdaptiveCalibrator(ledger, durability="normal", timeout_s=60) as calibrator:
    for i in range(100_000):
        calibrator.record(f"m{i % 3}", i % 900, 1.0 + i % 7, request_id=f"{name}-{i}")
        print(f"{name}-{i}", flush=True)
"""


def test_copies_made_while_others_write_hold_all_that_was_acknowledged(ledger_path, tmp_path):
    """And nothing half; put back in the ledger's place, each is a ledger that goes on."""
    logs = [tmp_path / f"log-{i}" for i in range(2)]
    writers = []
    for log in logs:
        with log.open("w") as out:
            command = [sys.executable, "-c", WRITER, str(ledger_path), log.name]
            writers.append(subprocess.Popen(command, stdout=out))
    copies = []
    try:
        while not all(log.stat().st_size for log in logs):
            assert all(writer.poll() is None for writer in writers)
            sleep(0.01)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            for i in range(4):
                acknowledged = {line for log in logs for line in log.read_text().split("\n")[:-1]}
                copies.append((calibrator.backup(tmp_path / f"copy-{i}.db"), acknowledged))
                sleep(0.05)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert len(copies[0][1]) < len(copies[-1][1]), "nobody wrote meanwhile"
    for copy, acknowledged in copies:
        for beside in ("", "-wal", "-shm"):
            ledger_path.with_name(ledger_path.name + beside).unlink(missing_ok=True)
        shutil.copyfile(copy, ledger_path)  # as docs/several-processes.md says
        with AdaptiveCalibrator(ledger_path) as calibrator:
            stored = [call.request_id for call in calibrator.calls()]
            assert len(stored) == len(set(stored))
            assert acknowledged <= set(stored)
            calibrator.record("m0", 1, 1.0)
            assert calibrator.audit() == []
