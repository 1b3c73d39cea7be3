"""How SQLite is used: what the connections are set to, and what they leave behind.

Each claim is checked on the connections that the program itself opens, on real files.
"""

import fcntl
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    LedgerBusyError,
    LedgerClosedError,
    LedgerNotFoundError,
    LedgerPathError,
    LedgerReplacedError,
    NotALedgerError,
    NotRecordedError,
)
from calibration_ledger.storage.sqlite import connections as sqlite_connect
from calibration_ledger.storage.sqlite.file import SQLiteBackend
from support.programs import ran
from support.threads import Crowd, together

MODEL = "timmy:v0.1-q4"


pytestmark = pytest.mark.usefixtures("ledger_path")  # on SQLite alone: these are its own


def fill(path, calls=3):
    with AdaptiveCalibrator(path) as calibrator:
        for i in range(calls):
            calibrator.record(MODEL, 100 + i, 900.0 + i, completion_tokens=10 + i)


def count(path):
    """The calls in the file itself."""
    with closing(sqlite3.connect(path)) as connection:
        (calls,) = connection.execute("SELECT count(*) FROM calls").fetchone()
    return int(calls)


def pragma(calibrator, kind, name):
    backend = calibrator._ledger.backend
    assert isinstance(backend, SQLiteBackend)
    held = backend._connections.held(kind)
    assert held is not None
    (value,) = held.cursor.execute(f"PRAGMA {name}").fetchone()
    return value


def open_files(path):
    """The files of the ledger that this process has open."""
    links = [os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names
    return sorted(Path(link).name for link in links if link.startswith(str(path)))


def files_beside(path):
    return {file.name for file in path.parent.iterdir()} - {path.name}


class TestSettings:
    @pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
    def test_writing_connections_are_set_as_promised(self, ledger_path, durability, synchronous):
        with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            assert pragma(calibrator, "writer", "journal_mode") == "wal"
            assert pragma(calibrator, "writer", "synchronous") == synchronous
            assert pragma(calibrator, "writer", "foreign_keys") == 1
            assert pragma(calibrator, "writer", "journal_size_limit") == 16 * 2**20
            assert calibrator.audit() == []

    def test_a_reading_connection_cannot_write(self, calibrator):
        calibrator.record(MODEL, 1, 1.0)
        calibrator.predict(MODEL, 1)
        reader = calibrator._ledger.backend._connections.held("reader").cursor
        for statement in (
            "DELETE FROM calls",
            "UPDATE calibrations SET alpha = 0.5",
            "CREATE TABLE mine (n INTEGER)",
            "PRAGMA user_version = 7",
        ):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute(statement)

    def test_a_ledger_whose_journal_mode_was_changed_is_put_back_into_wal(self, ledger_path):
        fill(ledger_path)
        with closing(sqlite3.connect(ledger_path)) as connection:
            assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.predict(MODEL, 1).sample_count == 3
            calibrator.record(MODEL, 1, 1.0)
            assert pragma(calibrator, "writer", "journal_mode") == "wal"
            assert calibrator.predict(MODEL, 1).sample_count == 4
            assert calibrator.audit() == []

    def test_a_write_takes_the_write_lock_before_it_reads(self, calibrator):
        """A transaction that began by reading could be told too late that another had written."""
        calibrator.record(MODEL, 1, 1.0)
        statements = []
        held = calibrator._ledger.backend._connections.held("writer")
        held.cursor.connection.set_trace_callback(statements.append)
        calibrator.record(MODEL, 2, 2.0)
        calibrator.record_many(
            [{"model": "new", "prompt_tokens": 1, "completion_tokens": 1} | {"actual_ms": 5.0}]
        )
        calibrator.reset(MODEL)
        held.cursor.connection.set_trace_callback(None)
        begins = [text for text in statements if text.startswith("BEGIN")]
        assert set(begins) == {"BEGIN IMMEDIATE"}
        assert len(begins) >= 3
        assert statements[0] == "BEGIN IMMEDIATE"
        inside = False
        for text in statements:
            if text.startswith("BEGIN"):
                inside = True
            assert inside, f"outside of a transaction: {text}"
            inside = inside and text not in ("COMMIT", "ROLLBACK")

    def test_every_value_is_bound(self, calibrator):
        name = "Robert'); DROP TABLE calls;--"
        calibrator.record(name, 1, 1.0, request_id=name)
        assert [call.model for call in calibrator.calls()] == [name]

    @pytest.mark.parametrize(
        "name",
        [
            "a b.db",
            "50%.db",
            "what?.db",
            "no#1.db",
            "quote'\".db",
            "Öl und \u65e5\u672c.db",
            "new\nline.db",
            "back\\slash.db",
            "-v.db",
            "?mode=ro&immutable=1",
        ],
    )
    def test_any_file_name_is_only_a_name(self, tmp_path, name):
        path = tmp_path / name
        with AdaptiveCalibrator(path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            calibrator.backup(tmp_path / f"{name}.copy")
            assert calibrator.audit() == []
        assert path.is_file()
        assert files_beside(path) == {f"{name}.lock", f"{name}.copy"}
        assert count(tmp_path / f"{name}.copy") == 1

    @pytest.mark.skipif(sys.platform != "linux", reason="other systems take only text for names")
    def test_a_file_name_need_not_be_text(self, tmp_path):
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.db"))
        with AdaptiveCalibrator(path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.audit() == []
        assert path.is_file()
        assert count(path) == 1

    def test_a_path_may_begin_with_two_slashes(self, ledger_path):
        fill(Path(f"/{ledger_path}"))
        assert count(ledger_path) == 3

    def test_a_path_is_taken_as_it_was_when_the_calibrator_was_made(self, tmp_path, monkeypatch):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        with AdaptiveCalibrator("calls.db") as calibrator:
            monkeypatch.chdir(tmp_path / "elsewhere")
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.audit() == []
        assert count(tmp_path / "calls.db") == 1

    def test_a_sqlite_url_names_the_same_ledger_as_its_path(self, ledger_path):
        fill(ledger_path)
        for url in (f"sqlite:///{ledger_path}", f"sqlite+pysqlite:///{ledger_path}"):
            with AdaptiveCalibrator(url) as calibrator:
                assert calibrator.ledger == str(ledger_path)
                assert calibrator.predict(MODEL, 1).sample_count == 3


class TestWhatIsLeft:
    def test_reading_holds_no_snapshot_that_keeps_the_log_from_being_cut_back(
        self, calibrator, ledger_path
    ):
        for i in range(50):
            calibrator.record(MODEL, i, 1.0 + i)
        start, done = threading.Barrier(5), threading.Barrier(5)

        def read():
            calls = calibrator.calls(MODEL)
            next(calls)  # an iterator that is not read to its end
            calibrator.predict(MODEL, 1)
            calibrator.all_stats()
            calibrator.replay(0.5)
            start.wait()
            done.wait()
            assert len(list(calls)) == 49

        with Crowd(*[read] * 4):
            start.wait()
            with closing(sqlite3.connect(ledger_path, timeout=0.0)) as other:
                blocked, in_log, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert (blocked, in_log) == (0, 0)
            assert ledger_path.with_name("calls.db-wal").stat().st_size == 0
            calibrator.record(MODEL, 1, 1.0)
            done.wait()

    def test_a_closed_ledger_is_one_file_and_the_lock(self, ledger_path):
        fill(ledger_path)
        assert files_beside(ledger_path) == {"calls.db.lock"}
        assert ledger_path.with_name("calls.db.lock").stat().st_size == 0

    def test_reading_makes_no_lock_file(self, ledger_path):
        fill(ledger_path)
        ledger_path.with_name("calls.db.lock").unlink()
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.predict(MODEL, 1)
            calibrator.replay(0.3)
            list(calibrator.calls())
            assert calibrator.audit() == []
        assert "calls.db.lock" not in files_beside(ledger_path)

    def test_reading_where_there_is_no_ledger_makes_nothing(self, ledger_path):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.predict(MODEL, 1).sample_count == 0
            assert calibrator.all_stats() == []
            calibrator.reset()
            calibrator.reset(MODEL)
            with pytest.raises(LedgerNotFoundError, match="no ledger"):
                calibrator.audit()
            with pytest.raises(LedgerNotFoundError, match="no ledger"):
                calibrator.backup(ledger_path.with_name("copy.db"))
        assert list(ledger_path.parent.iterdir()) == []

    def test_an_empty_file_is_a_ledger_that_is_not_made_yet(self, ledger_path):
        ledger_path.touch()
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.predict(MODEL, 1).sample_count == 0
            assert ledger_path.stat().st_size == 0
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.audit() == []
        assert count(ledger_path) == 1

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
    def test_opening_and_closing_leaves_no_descriptor(self, ledger_path):
        for _ in range(3):
            with AdaptiveCalibrator(ledger_path) as calibrator:
                calibrator.record(MODEL, 1, 1.0)
                calibrator.predict(MODEL, 1)
                together(lambda used=calibrator: used.record(MODEL, 1, 1.0))
            assert open_files(ledger_path) == ["calls.db.lock"]
        del calibrator
        gc.collect()
        assert open_files(ledger_path) == []

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
    def test_threads_that_ended_leave_their_connections_to_the_next(self, calibrator):
        calibrator.record(MODEL, 1, 1.0)
        together(lambda: calibrator.record(MODEL, 1, 1.0))
        before = sum(1 for _ in Path("/proc/self/fd").iterdir())
        for _ in range(20):
            together(lambda: calibrator.record(MODEL, 1, 1.0))
            together(lambda: calibrator.predict(MODEL, 1))
        assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before

    def test_a_calibrator_that_nobody_closes_is_closed_when_it_is_dropped(self, ledger_path):
        for i in range(3):
            AdaptiveCalibrator(ledger_path).record(MODEL, i, 1.0)
            gc.collect()
            assert files_beside(ledger_path) == {"calls.db.lock"}
            assert open_files(ledger_path) == []
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.audit() == []
        assert files_beside(ledger_path) == {"calls.db.lock"}

    def test_one_in_memory_that_nobody_closes_is_closed_without_a_warning(self):
        """From 3.13 on, Python warns of a connection that is dropped open; here, it would fail."""
        program = (
            "import gc\n"
            "from calibration_ledger import AdaptiveCalibrator\n"
            "from calibration_ledger.storage.stage import StagedEntries\n"
            "for kind in (lambda: AdaptiveCalibrator(':memory:'), StagedEntries):\n"
            "    cycle = [kind()]\n"
            "    cycle.append(cycle)\n"
            "    del cycle\n"
            "gc.collect()\n"
            "left = AdaptiveCalibrator(':memory:')\n"
        )
        done = ran(program, flags=["-W", "error"])
        assert (done.returncode, done.stderr) == (0, "")


class TestClosing:
    def test_a_closed_calibrator_refuses_everything(self, ledger_path):
        calibrator = AdaptiveCalibrator(ledger_path)
        calibrator.record(MODEL, 1, 1.0)
        calibrator.close()
        calibrator.close()
        for use in (
            lambda: calibrator.predict(MODEL, 1),
            lambda: calibrator.record(MODEL, 1, 1.0),
            calibrator.audit,
            lambda: list(calibrator.calls()),
            calibrator.reset,
            calibrator.replay,
        ):
            with pytest.raises(LedgerClosedError, match="is closed: open one"):
                use()
        assert count(ledger_path) == 1

    def test_one_that_was_closed_before_it_recorded_makes_no_ledger(self, ledger_path):
        calibrator = AdaptiveCalibrator(ledger_path)
        calibrator.close()
        with pytest.raises(LedgerClosedError):
            calibrator.record(MODEL, 1, 1.0)
        assert not ledger_path.exists()

    def test_it_waits_for_the_calls_of_other_threads(self, ledger_path):
        """A connection that is closed under a statement crashes the driver."""
        fill(ledger_path, 600)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for _ in range(15):
                self.close_under_calls(ledger_path)
        finally:
            sys.setswitchinterval(interval)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []

    def close_under_calls(self, path):
        calibrator = AdaptiveCalibrator(path, durability="normal")
        calibrator.record(MODEL, 1, 1.0)
        begun, ended = threading.Barrier(6), []

        def repeat(use):
            begun.wait()
            try:
                while True:
                    use()
            except LedgerClosedError as error:
                ended.append(error)

        uses = (
            lambda: calibrator.predict(MODEL, 1),
            lambda: calibrator.predict(MODEL, 2),
            lambda: calibrator.record(MODEL, 1, 1.0),
            lambda: list(calibrator.calls(MODEL, last=100)),
            lambda: calibrator.replay(0.5),
        )
        with Crowd(*(partial(repeat, use) for use in uses)):
            begun.wait()
            calibrator.close()
        assert len(ended) == len(uses)

    def test_a_program_that_ends_without_closing_leaves_a_whole_ledger(self, ledger_path):
        program = (
            "import sys\n"
            "from calibration_ledger import AdaptiveCalibrator\n"
            "calibrator = AdaptiveCalibrator(sys.argv[1])\n"
            "calibrator.record('m', 1, 1.0)\n"
            "AdaptiveCalibrator(sys.argv[1]).record('m', 1, 1.0)\n"
            "calibrator.predict('m', 1)\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-X", "dev", "-c", program, ledger_path],
            check=True,
            capture_output=True,
            text=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
        assert files_beside(ledger_path) == {"calls.db.lock"}
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.predict("m", 1).sample_count == 2
            assert calibrator.audit() == []

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
    def test_an_error_that_is_kept_does_not_keep_a_connection_from_closing(self, ledger_path):
        kept = []
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            with closing(sqlite3.connect(ledger_path)) as other:
                other.execute(
                    "CREATE TRIGGER no BEFORE UPDATE ON calibrations"
                    " BEGIN SELECT raise(ABORT, 'no'); END"
                )
            try:
                calibrator.record(MODEL, 1, 1.0)
            except NotRecordedError as error:
                kept.append(error)
        assert len(kept) == 1
        assert open_files(ledger_path) == ["calls.db.lock"]


def remove_log(path):
    for kind in ("wal", "shm"):
        path.with_name(f"{path.name}-{kind}").unlink(missing_ok=True)


class TestReplacement:
    """The file at the path is the ledger, whatever was opened before."""

    @pytest.fixture
    def restored(self, tmp_path):
        """Another ledger, of five calls, as a backup would bring it."""
        path = tmp_path / "restored.db"
        fill(path, 5)
        path.with_name("restored.db.lock").unlink()
        return path

    def test_a_file_moved_over_the_ledger_is_used_from_the_next_call_on(
        self, ledger_path, restored
    ):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            remove_log(ledger_path)
            restored.replace(ledger_path)
            assert calibrator.predict(MODEL, 1).sample_count == 5
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.predict(MODEL, 1).sample_count == 6
            assert calibrator.audit() == []
        assert count(ledger_path) == 6

    def test_a_thread_does_not_inherit_a_connection_to_the_file_before(self, ledger_path, restored):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            together(lambda: calibrator.record(MODEL, 1, 1.0))
            remove_log(ledger_path)
            restored.replace(ledger_path)
            together(lambda: calibrator.record(MODEL, 1, 1.0))
            assert calibrator.predict(MODEL, 1).sample_count == 6
            assert calibrator.audit() == []
        assert count(ledger_path) == 6

    @pytest.mark.parametrize("elsewhere", [False, True])
    def test_the_log_of_the_file_before_is_not_taken_for_the_new_ones(
        self, ledger_path, restored, elsewhere
    ):
        """SQLite would replay it over the restored backup, and what was in it would be gone."""

        def run(action):
            together(action) if elsewhere else action()

        with AdaptiveCalibrator(ledger_path) as calibrator:
            run(lambda: calibrator.record(MODEL, 1, 1.0))
            restored.replace(ledger_path)
            for use in (
                lambda: calibrator.predict(MODEL, 1),
                lambda: calibrator.record(MODEL, 1, 1.0),
                calibrator.audit,
            ) * 2:
                with pytest.raises(LedgerReplacedError, match=r"-wal beside it .* delete that"):
                    run(use)
            remove_log(ledger_path)  # as the sentence says
            run(lambda: calibrator.record(MODEL, 1, 1.0))
            assert calibrator.predict(MODEL, 1).sample_count == 6
            assert calibrator.audit() == []
        assert count(ledger_path) == 6

    @pytest.mark.parametrize("durability", ["full", "normal"])
    def test_a_ledger_that_was_deleted_whole_begins_anew(self, ledger_path, durability):
        with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
            for _ in range(5):
                calibrator.record(MODEL, 1, 1.0)
            remove_log(ledger_path)
            ledger_path.unlink()
            threading.Event().wait(0.005)  # "normal" looks once in a millisecond
            assert calibrator.predict(MODEL, 1).sample_count == 0
            assert not ledger_path.exists()
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.predict(MODEL, 1).sample_count == 1
            assert calibrator.audit() == []
        assert count(ledger_path) == 1

    def test_a_ledger_that_was_deleted_without_its_log_is_not_made_anew_over_it(self, ledger_path):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            ledger_path.unlink()
            with pytest.raises(LedgerReplacedError, match="removed while it was in use"):
                calibrator.record(MODEL, 1, 1.0)
            assert not ledger_path.exists()
            remove_log(ledger_path)
            calibrator.record(MODEL, 1, 1.0)
            assert calibrator.audit() == []
        assert count(ledger_path) == 1

    def test_a_ledger_that_was_moved_away_with_its_lock_locks_the_new_one(
        self, tmp_path, ledger_path
    ):
        old = tmp_path / "old"
        old.mkdir()
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            for file in list(tmp_path.glob("calls.db*")):
                file.rename(old / file.name)
            calibrator.record(MODEL, 2, 2.0)
            lock = calibrator._ledger.backend._lock
            assert os.path.samestat(os.fstat(lock._file.fileno()), Path(lock.path).stat())
            assert calibrator.audit() == []
        assert count(ledger_path) == 1
        assert count(old / "calls.db") == 1

    def test_a_folder_that_was_removed_is_named(self, tmp_path):
        folder = tmp_path / "folder"
        folder.mkdir()
        calibrator = AdaptiveCalibrator(folder / "calls.db", timeout_s=1.0)
        calibrator.record(MODEL, 1, 1.0)
        shutil.rmtree(folder)
        for use in (lambda: calibrator.record(MODEL, 1, 1.0), lambda: calibrator.audit(MODEL)):
            with pytest.raises((LedgerPathError, LedgerNotFoundError), match="folder"):
                use()
        calibrator.close()
        assert not folder.exists()

    def test_what_is_no_ledger_any_more_is_refused_and_left_alone(self, tmp_path, ledger_path):
        text = tmp_path / "text"
        text.write_text("no ledger at all\n" * 1000)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            for file in tmp_path.glob("calls.db-*"):
                file.unlink()
            shutil.copyfile(text, tmp_path / "copy")
            (tmp_path / "copy").replace(ledger_path)
            for use in (
                lambda: calibrator.record(MODEL, 1, 1.0),
                lambda: calibrator.predict(MODEL, 1),
            ):
                with pytest.raises(NotALedgerError, match="not a ledger"):
                    use()
        assert ledger_path.read_text() == text.read_text()


class TestPools:
    def test_every_thread_has_connections_of_its_own(self, calibrator):
        calibrator.record(MODEL, 1, 1.0)
        seen = set()
        barrier = threading.Barrier(4)

        def look():
            calibrator.predict(MODEL, 1)
            seen.add(id(calibrator._ledger.backend._connections.held("reader").cursor.connection))
            barrier.wait()

        together(*[look] * 4)
        assert len(seen) == 4

    def test_statements_are_compiled_once_for_all_calibrators(self, tmp_path):
        with AdaptiveCalibrator(tmp_path / "a.db") as a, AdaptiveCalibrator(tmp_path / "b.db") as b:
            assert a._ledger.backend.sql is b._ledger.backend.sql


def test_where_the_file_system_has_no_log_the_error_says_so(monkeypatch):
    """SQLite does not raise when it cannot switch: it answers with the old mode."""
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(sqlite3.OperationalError, match="local disk"),
    ):
        sqlite_connect.set_wal(connection)


class TestSwitchedLinks:
    def test_who_writes_through_a_link_queues_on_the_lock_of_the_file_it_leads_to_now(
        self, tmp_path
    ):
        first, second, link = (tmp_path / f"{name}.db" for name in ("first", "second", "current"))
        for path in (first, second):
            with AdaptiveCalibrator(path) as calibrator:
                calibrator.record(MODEL, 1, 1.0)
        link.symlink_to(first)
        with AdaptiveCalibrator(link, timeout_s=0.1) as calibrator:
            calibrator.record(MODEL, 1, 1.0)
            link.unlink()
            link.symlink_to(second)
            with Path(f"{second}.lock").open() as other:
                fcntl.flock(other, fcntl.LOCK_EX)
                with pytest.raises(LedgerBusyError):
                    calibrator.record(MODEL, 1, 1.0)
            assert open_files(first) == []
            for _ in range(2):
                calibrator.record(MODEL, 1, 1.0)
            with Path(f"{first}.lock").open() as other:
                fcntl.flock(other, fcntl.LOCK_EX)  # nobody needs this one any more
                calibrator.record(MODEL, 1, 1.0)
            assert calibrator.audit() == []
        assert (count(first), count(second)) == (2, 4)

    def test_threads_that_write_while_it_is_switched_lose_nothing(self, tmp_path):
        first, second, link = (tmp_path / f"{name}.db" for name in ("first", "second", "current"))
        for path in (first, second):
            with AdaptiveCalibrator(path) as calibrator:
                calibrator.record(MODEL, 1, 1.0)
        link.symlink_to(first)
        with AdaptiveCalibrator(link) as calibrator:
            done = threading.Event()
            recorded = []

            def write():
                while not done.is_set():
                    calibrator.record(MODEL, 1, 1.0)
                    recorded.append(1)

            with Crowd(*[write] * 4):
                for target in (second, first, second):
                    threading.Event().wait(0.1)
                    (tmp_path / "new").symlink_to(target)
                    (tmp_path / "new").replace(link)
                threading.Event().wait(0.1)
                done.set()
        assert count(first) + count(second) == 2 + len(recorded)
        for path in (first, second):
            with AdaptiveCalibrator(path) as calibrator:
                assert calibrator.audit() == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_calibrators_of_many_ledgers_that_nobody_closes_keep_no_files_open(tmp_path):
    for i in range(10):
        AdaptiveCalibrator(tmp_path / f"{i}.db").record(MODEL, 1, 1.0)
        gc.collect()
        assert open_files(tmp_path) == []
    assert not list(tmp_path.glob("*-wal"))
    with AdaptiveCalibrator(tmp_path / "last.db") as calibrator:
        calibrator.record(MODEL, 1, 1.0)
        assert calibrator.audit() == []
