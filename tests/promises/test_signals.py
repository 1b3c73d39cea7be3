"""Ctrl-C and signal handlers: at whatever point they come, the ledger stays usable by everybody.

Python looks for signals when a function of its own starts and after a call: the very moments of
which a profile function hears. So one that raises, or calls a handler, at the n-th moment of a
call, for each n, tries every place where a signal can come, and the same ones in each run.
"""

import fcntl
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    CalibrationLedgerError,
    LedgerBusyError,
    LedgerClosedError,
    ReentrantCallError,
)
from calibration_ledger.storage.sqlite.lock import WriterLock, writer_lock
from support.steps import soon

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no flock on Windows")


class Moment:
    """Runs the handler at the n-th moment of calls that are made `with` it."""

    def __init__(self, n, handler):
        self.left = n
        self.handler = handler

    def __enter__(self):
        sys.setprofile(self._count)

    def __exit__(self, *_):
        sys.setprofile(None)

    def _count(self, _frame, event, _argument):
        if event in {"call", "c_return"}:
            self.left -= 1
            if self.left == 0:
                self.handler()


def at_every_moment(handler, call):
    """At one moment of a call after the other, until it has no more."""
    moment, n = Moment(0, handler), 0
    while moment.left <= 0:
        n += 1
        moment = Moment(n, handler)
        with suppress(KeyboardInterrupt, CalibrationLedgerError), moment:
            call()
        yield n


def interrupt():
    raise KeyboardInterrupt


def is_free(ledger):
    """Whether another process could take the writers' lock now."""
    with Path(f"{ledger}.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def open_files(ledger):
    """The ledger's files that this process has open."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return sorted(Path(name).name for name in names if name.startswith(str(ledger)))


class TestCtrlC:
    def test_gives_the_writers_lock_back_wherever_it_comes(self, ledger_path):
        with AdaptiveCalibrator(ledger_path, timeout_s=1.0) as calibrator:
            calibrator.record("m", 1, 1.0)
            kept = []  # as an interactive session keeps the last error, with its frames
            for n in at_every_moment(interrupt, lambda: calibrator.record("m", 10, 100.0)):
                kept.append(sys.exc_info())
                assert is_free(ledger_path), n
                with closing(sqlite3.connect(ledger_path, timeout=0)) as other:
                    other.execute("BEGIN IMMEDIATE")  # no transaction was left open
                calibrator.record("m", 10, 100.0)
            assert n > 50
            assert calibrator.audit() == []

    def test_leaves_no_transaction_open_in_a_ledger_in_memory(self):
        with AdaptiveCalibrator(":memory:") as calibrator:
            calibrator.record("m", 1, 1.0)
            for n in at_every_moment(interrupt, lambda: calibrator.record("m", 10, 100.0)):
                assert calibrator.record("m", 10, 100.0), n
            assert n > 20
            assert calibrator.audit() == []

    def test_leaves_reading_as_it_was(self, ledger_path):
        with AdaptiveCalibrator(ledger_path, timeout_s=1.0) as calibrator:
            calibrator.record("m", 1, 1.0)
            for _ in at_every_moment(interrupt, lambda: calibrator.get_stats("m")):
                assert calibrator.get_stats("m")["sample_count"] == 1
            assert calibrator.audit() == []

    def test_ends_a_wait_for_another_process_and_leaves_nothing(self, ledger_path):
        lock = writer_lock(str(ledger_path))

        def wait(lock, turn):
            if not lock.acquire(0.005, turn):
                raise LedgerBusyError

        lock.hold(wait, int)
        with Path(lock.path).open() as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            for n in at_every_moment(interrupt, lambda: lock.hold(wait, int)):
                assert lock._queue.newest().over, n
                assert not lock._queue.waiters
                with pytest.raises(LedgerBusyError):
                    lock.hold(wait, int)
        assert n > 20
        assert lock.hold(lambda lock, turn: lock.acquire(30.0, turn), int) == 0
        assert soon(lambda: is_free(ledger_path))

    def test_ends_a_wait_for_another_thread_and_leaves_nothing(self, ledger_path):
        lock = writer_lock(str(ledger_path))

        def wait(lock, turn):
            if not lock.acquire(0.005, turn):
                raise LedgerBusyError

        lock.hold(wait, int)
        held, done = threading.Event(), threading.Event()
        holder = threading.Thread(
            target=lock.hold, args=(wait, lambda: (held.set(), done.wait(60)))
        )
        holder.start()
        assert held.wait(30)
        for n in at_every_moment(interrupt, lambda: lock.hold(wait, int)):
            assert all(turn.over for turn in lock._queue.waiters), n
            with pytest.raises(LedgerBusyError):
                lock.hold(wait, int)
        done.set()
        holder.join()
        assert lock.hold(lambda lock, turn: lock.acquire(30.0, turn), int) == 0
        assert not lock._queue.waiters
        assert is_free(ledger_path)

    @pytest.mark.stress
    @pytest.mark.parametrize("durability", ["normal", "full"])
    def test_in_a_storm_leaks_nothing(self, ledger_path, durability):
        """Real signals, at random moments, beside another process that writes."""
        rng = random.Random(1)
        program = (
            "import sys, time\n"
            "from calibration_ledger import AdaptiveCalibrator\n"
            "calibrator = AdaptiveCalibrator(sys.argv[1])\n"
            "end = time.monotonic() + 20\n"
            "while time.monotonic() < end: calibrator.record('m', 1, 1.0)\n"
        )
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
                calibrator.record("m", 1, 1.0)
                other = subprocess.Popen([sys.executable, "-c", program, ledger_path])
                interrupts = 0
                while other.poll() is None:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, max(1e-6, rng.random() * 4e-3))
                        try:
                            for _ in range(3):
                                calibrator.record("m", 1, 1.0)
                        finally:
                            signal.setitimer(signal.ITIMER_REAL, 0)
                    except KeyboardInterrupt:
                        interrupts += 1
                assert other.returncode == 0
                assert interrupts > 100
                assert is_free(ledger_path)
                assert calibrator.audit() == []
        finally:
            signal.signal(signal.SIGALRM, before)


class TestHandlers:
    def test_close_in_the_middle_of_a_call_ends_and_closes_everything(self, ledger_path):
        recorded = 1
        used = [AdaptiveCalibrator(ledger_path)]
        used[0].record("m", 1, 1.0)

        def record():
            nonlocal recorded
            used[-1].record("m", 10, 100.0)
            recorded += 1

        def close():
            used[-1].close()

        for n in at_every_moment(close, record):
            used[-1].close()
            with pytest.raises(LedgerClosedError):
                used[-1].record("m", 1, 1.0)
            assert open_files(ledger_path) == ["calls.db.lock"], n
            assert not Path(f"{ledger_path}-wal").exists()
            assert is_free(ledger_path)
            used.append(AdaptiveCalibrator(ledger_path))
            assert used[-1].get_stats("m")["sample_count"] == recorded, n
            used[-1].record("m", 1, 1.0)
            recorded += 1
        assert n > 50
        assert used[-1].audit() == []
        used[-1].close()

    def test_close_in_the_middle_of_reading_ends_and_closes_everything(self, ledger_path):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record("m", 1, 1.0)
        used = [AdaptiveCalibrator(ledger_path)]

        def close():
            used[-1].close()

        for n in at_every_moment(close, lambda: used[-1].get_stats("m")):
            used[-1].close()
            assert "calls.db" not in open_files(ledger_path), n
            used.append(AdaptiveCalibrator(ledger_path))
        used[-1].close()
        assert n > 5

    @pytest.mark.parametrize("within", ["a handler", "a write in a handler"])
    def test_close_in_the_middle_of_reading_leaves_no_log_of_what_was_written(
        self, ledger_path, within
    ):
        """Only the writing connection can take it into the file, once the reading one is closed."""
        used = [AdaptiveCalibrator(ledger_path)]
        used[-1].record("m", 1, 1.0)

        def close():
            if within == "a handler":
                used[-1].close()
            else:
                used[-1]._ledger.write(lambda _: used[-1].close())

        for n in at_every_moment(close, lambda: used[-1].predict("m", 1)):
            used[-1].close()
            assert open_files(ledger_path) == ["calls.db.lock"], n
            assert not Path(f"{ledger_path}-wal").exists(), n
            used.append(AdaptiveCalibrator(ledger_path))
            used[-1].record("m", 1, 1.0)
        used[-1].close()
        assert n > 20

    @pytest.mark.both
    @pytest.mark.parametrize("outer", ["record", "get_stats"])
    def test_any_call_in_the_middle_of_another_works_or_is_refused_at_once(self, ledger, outer):
        self.call_in_the_middle(ledger, outer)

    @pytest.mark.parametrize("outer", ["record", "get_stats"])
    def test_the_same_in_a_ledger_in_memory(self, outer):
        self.call_in_the_middle(":memory:", outer)

    def call_in_the_middle(self, ledger, outer):
        with AdaptiveCalibrator(ledger, timeout_s=60.0) as calibrator:
            calibrator.record("m", 1, 1.0)
            calls = {
                "record": lambda: calibrator.record("m", 10, 100.0),
                "get_stats": lambda: calibrator.get_stats("m"),
            }
            expected, answers = 1, set()

            def handler():
                nonlocal expected
                try:
                    calibrator.record("m", 20, 200.0)
                    expected += 1
                    answers.add("worked")
                except ReentrantCallError:
                    answers.add("refused")
                try:
                    assert calibrator.get_stats("m")["sample_count"] >= 1
                except ReentrantCallError:
                    answers.add("refused")

            begun = time.monotonic()
            for n in at_every_moment(handler, calls[outer]):
                expected += outer == "record"  # the outer call goes on, undisturbed
                assert calibrator.get_stats("m")["sample_count"] == expected, n
                # One wait for its own thread takes 60; all moments together may, where it is busy.
                assert time.monotonic() - begun < 30, n
                begun = time.monotonic()
            assert answers == {"worked", "refused"}
            assert calibrator.audit() == []

    def test_another_calibrator_of_the_ledger_is_closed_by_whoever_writes_next(self, ledger_path):
        """A handler that closes it cannot have the lock, which its own thread holds."""
        with AdaptiveCalibrator(ledger_path, timeout_s=60.0) as calibrator:
            other = AdaptiveCalibrator(ledger_path, timeout_s=60.0)
            other.record("m", 1, 1.0)
            calibrator.record("m", 1, 1.0)
            calibrator._ledger.write(lambda _: other.close())
            calibrator._ledger.backend._connections.drop("writer")
            calibrator.record("m", 1, 1.0)
            assert calibrator.audit() == []
        assert open_files(ledger_path) == ["calls.db.lock"]

    @pytest.mark.parametrize("handled", ["close", "get_stats"])
    def test_a_real_signal_in_the_middle_of_writing_hangs_nothing(self, ledger_path, handled):
        program = (
            "import faulthandler, signal, sys\n"
            "from calibration_ledger import AdaptiveCalibrator\n"
            "from calibration_ledger.errors import ReentrantCallError\n"
            "faulthandler.dump_traceback_later(60, exit=True)\n"
            "calibrator = AdaptiveCalibrator(sys.argv[1])\n"
            "def handle(*_):\n"
            "    try: calibrator.get_stats('m')\n"
            "    except ReentrantCallError: pass\n"
            "    if sys.argv[2] == 'close' or handle.left == 0:\n"
            "        signal.setitimer(signal.ITIMER_REAL, 0)\n"
            "        calibrator.close()\n"
            "        sys.exit(7)\n"
            "    handle.left -= 1\n"
            "handle.left = 50\n"
            "signal.signal(signal.SIGALRM, handle)\n"
            "calibrator.record('m', 1, 1.0)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.003)\n"
            "while True: calibrator.record('m', 10, 100.0)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, ledger_path, handled], check=False)
        assert done.returncode == 7
        assert not Path(f"{ledger_path}-wal").exists()
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []


def test_a_turn_that_is_kept_does_not_keep_all_later_ones(ledger_path):
    """An error that is kept keeps its frames, and with them a turn."""
    lock = WriterLock(f"{ledger_path}.lock")
    assert lock.acquire(1.0)
    kept = lock._queue.newest()
    lock.release()
    for _ in range(5):
        assert lock.acquire(1.0)
        later = lock._queue.newest()
        lock.release()
    reached = list(kept.heirs.values())
    for turn in reached:
        reached += [heir for heir in turn.heirs.values() if heir not in reached]
    assert later not in reached
