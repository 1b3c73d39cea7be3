"""The gate of forks: nothing of SQLite's crosses it, whatever comes between, and nothing waits.

What could end the process that runs the tests runs in a program of its own.
"""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerBusyError, LedgerError, ReentrantCallError
from calibration_ledger.storage.sqlite import forks
from calibration_ledger.storage.sqlite.connections import (
    connect_migrator,
    connect_reader,
    connect_still,
    connect_writer,
)
from support.programs import ran
from support.threads import Crowd, together

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
    # Python 3.12 warns of every fork beside threads, and it is right; this is what is tested here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

KINDS = {
    "reader": lambda path: connect_reader(path, 1.0),
    "still": lambda path: connect_still(path, 1.0),
    "writer": lambda path: connect_writer(path, "full", 1.0),
    "migrator": lambda path: connect_migrator(path, 1.0),
}


@pytest.fixture
def filled(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 1.0)
    return ledger_path


def in_child(action):
    """What an action gives in a child, as an exit code: 0, or 3 where SQLite is refused."""
    pid = os.fork()
    if not pid:
        code = 9
        try:
            action()
            code = 0
        except LedgerError as error:
            code = 3 if "forked while the ledger was in use" in str(error) else 4
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_and_close(path):
    connect_reader(path, 1.0).close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_connection_in_use_makes_the_child_refuse_and_an_idle_one_is_closed(
    filled, kind, monkeypatch
):
    monkeypatch.setattr(forks, "WAIT_S", 0.02)
    opened, done = threading.Event(), threading.Event()

    def use():
        with KINDS[kind](filled):
            opened.set()
            done.wait(60)

    with Crowd(use):
        assert opened.wait(30)
        try:
            assert in_child(partial(open_and_close, filled)) == 3
        finally:
            done.set()
    handle = KINDS[kind](filled)
    handle.connection.rest()
    assert in_child(partial(open_and_close, filled)) == 0
    assert handle.connection.is_closed


@pytest.mark.parametrize("kind", KINDS)
def test_a_fork_waits_for_whoever_is_in_the_middle_of_using_one(filled, kind):
    opened, ended = threading.Event(), []

    def use():
        with KINDS[kind](filled) as connection:
            opened.set()
            time.sleep(0.1)
            connection.execute("SELECT 1")
            ended.append(True)

    with Crowd(use):
        assert opened.wait(30)
        assert in_child(partial(open_and_close, filled)) == 0
        assert ended


class SlowSet(set):
    """Whoever notes a connection first is held up before the look at the gate."""

    def __init__(self):
        super().__init__()
        self.noted, self.go_on = threading.Event(), threading.Event()

    def add(self, one):
        super().add(one)
        if not self.noted.is_set():
            self.noted.set()
            self.go_on.wait(30)


def test_who_is_held_up_at_the_gate_does_not_make_the_child_refuse(filled, monkeypatch):
    """Nothing is open yet, so the fork did not come too early."""
    passes = SlowSet()
    monkeypatch.setattr(forks, "WAIT_S", 0.02)
    monkeypatch.setattr(forks, "_passes", passes)
    with Crowd(partial(open_and_close, filled)):
        assert passes.noted.wait(30)
        try:
            assert in_child(partial(open_and_close, filled)) == 0
        finally:
            passes.go_on.set()
    assert forks.is_at_rest()


def test_who_opens_while_a_thread_forks_waits_until_its_deadline(filled):
    other = -1  # no thread has this id
    forks._forking.add(other)
    try:
        begun = time.monotonic()
        with pytest.raises(LedgerBusyError, match=r"was forking for 0\.05 s"):
            connect_reader(filled, 0.05)
        assert time.monotonic() - begun < 5
        threading.Timer(0.05, forks._forking.discard, [other]).start()
        connect_reader(filled, 30.0).close()
    finally:
        forks._forking.discard(other)
    assert forks.is_at_rest()


def test_a_thread_that_forks_never_waits_for_itself(filled):
    """A signal handler, a finalizer or a hook of others comes in the middle of its fork."""
    forks._forking.add(threading.get_ident())
    try:
        with AdaptiveCalibrator(filled.with_name("other.db")) as calibrator:
            for use in (
                partial(calibrator.record, "m", 1, 1.0),
                partial(AdaptiveCalibrator, filled),
                partial(AdaptiveCalibrator, ":memory:"),
            ):
                with pytest.raises(ReentrantCallError):
                    use()
    finally:
        forks._forking.discard(threading.get_ident())
    with AdaptiveCalibrator(filled) as calibrator:
        assert calibrator.audit() == []


def test_a_fork_goes_on_although_the_set_of_connections_changes(filled):
    """Threads open and close as fast as they can, and finalizers come in the middle."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            open_and_close(filled)
            connect_reader(filled, 5.0)  # dropped at once

    with Crowd(churn, churn):
        try:
            codes = {in_child(partial(open_and_close, filled)) for _ in range(20)}
        finally:
            stop.set()
    assert codes == {0}
    assert forks.is_at_rest()


INTERRUPTED = """
import os, sys, threading, time
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError

class Interrupt:
    def __init__(self, n): self.left = n
    def __call__(self, frame, event, argument):
        if event in {"call", "c_return"}:
            self.left -= 1
            if self.left == 0: raise KeyboardInterrupt

calibrator = AdaptiveCalibrator(sys.argv[1], durability="normal", timeout_s=5.0)
calibrator.record("m", 1, 1.0)
n, codes = 0, set()
while True:
    n += int(sys.argv[2])
    calibrator.predict("m", 1)
    calibrator.record("m", 1, 1.0)
    moment, pid = Interrupt(n), None
    sys.setprofile(moment)
    try:
        pid = os.fork()
    except KeyboardInterrupt:
        pass
    sys.setprofile(None)
    if pid == 0:
        try:
            calibrator.record("m", 2, 2.0)
            os._exit(0)
        except LedgerError as error:
            os._exit(3 if "forked while" in str(error) else 4)
        except BaseException:
            os._exit(9)
    codes.add(os.waitstatus_to_exitcode(os.wait()[1]))
    thread = threading.Thread(target=calibrator.record, args=("m", 3, 3.0))
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), n
    if moment.left > 0:
        break
print(n, codes)
"""


def test_ctrl_c_at_any_moment_of_a_fork_harms_neither_parent_nor_child(ledger_path):
    """Python ignores what a hook raises, and forks all the same."""
    done = ran(INTERRUPTED, ledger_path, 3)
    assert done.returncode == 0, done.stderr[-2000:]
    n, codes = done.stdout.split(maxsplit=1)
    assert int(n) > 30
    assert codes.strip() == "{0}", "one interrupt ends one of two hooks"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() == []


FORKED_WITHIN = """
import os, sys
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError
from calibration_ledger.storage.transaction import Transaction

calibrator = AdaptiveCalibrator(sys.argv[1])
calibrator.record("m", 1, 1.0, request_id="before")
real, children = Transaction.save, []
waits, go = os.pipe()

def save(self, row):  # as a signal handler may come there, and return in both processes
    Transaction.save = real
    children.append(os.fork())
    real(self, row)

Transaction.save = save
try:
    calibrator.record("m", 2, 2.0, request_id="amid")
except LedgerError as error:
    assert children == [0] and "forked while" in str(error), error
else:
    assert children != [0], "the child wrote"
if children == [0]:
    for use in (lambda: calibrator.record("m", 3, 3.0), lambda: calibrator.predict("m", 1),
                lambda: AdaptiveCalibrator(sys.argv[1]), calibrator.audit):
        try:
            use()
        except LedgerError as error:
            assert "forked while" in str(error), error
        else:
            raise AssertionError("the child used SQLite")
    os.read(waits, 1)
    calibrator.close()
    del calibrator
    sys.exit(7)  # through the interpreter's own end
calibrator.record("m", 2, 2.0, request_id="after")
log = os.stat(sys.argv[1] + "-wal").st_ino
os.write(go, b"x")
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
assert os.stat(sys.argv[1] + "-wal").st_ino == log
for i in range(50):
    calibrator.record("m", i, 3.0, request_id=str(i))
assert calibrator.predict("m", 1).sample_count == 53
"""


def test_a_child_that_goes_on_in_the_middle_of_its_parents_call_touches_nothing(ledger_path):
    done = ran(FORKED_WITHIN, ledger_path)
    assert (done.returncode, done.stderr) == (0, "")
    with AdaptiveCalibrator(ledger_path) as calibrator:
        ids = [call.request_id for call in calibrator.calls("m")]
        assert ids == ["before", "amid", "after", *map(str, range(50))]
        assert calibrator.audit() == []


def test_an_inherited_connection_is_not_closed_where_its_thread_was(ledger_path):
    """Python clears what vanished threads kept for themselves before any hook of the child."""
    program = """
import os, sys, threading, warnings
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError
from calibration_ledger.storage.sqlite import forks
forks.WAIT_S = 0.01
warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of a fork beside a thread
calibrator = AdaptiveCalibrator(sys.argv[1])
calibrator.record("m", 1, 1.0)
held, done, local = threading.Event(), threading.Event(), threading.local()
def work():
    local.calibrator = AdaptiveCalibrator(sys.argv[1])
    local.calibrator._ledger.write(lambda _: (held.set(), done.wait(60)))
thread = threading.Thread(target=work)
thread.start()
held.wait(60)
pid = os.fork()
if pid == 0:
    try: calibrator.record("m", 1, 1.0)
    except LedgerError: sys.exit(7)
log = os.stat(sys.argv[1] + "-wal").st_ino
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert os.stat(sys.argv[1] + "-wal").st_ino == log
done.set()
thread.join()
for _ in range(20): calibrator.record("m", 1, 1.0)
"""
    done = ran(program, ledger_path)
    assert (done.returncode, done.stderr) == (0, "")
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.predict("m", 1).sample_count == 21
        assert calibrator.audit() == []


FORK = """
import os, sys, time, warnings
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import CalibrationLedgerError, LedgerError
warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of a fork beside a thread

class Fork:  # at the n-th moment of what this thread does
    def __init__(self, n): self.left, self.child = n, None
    def __call__(self, frame, event, argument):
        if event in {"call", "c_return"}:
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                self.child = os.fork()
                if self.child == 0: live()
"""

FORKED_WHILE_CLOSING = f"""{FORK}
def live():
    try: other.record("m", 2, 2.0)
    except LedgerError: pass
    os._exit(0)

n = 0
other = AdaptiveCalibrator(sys.argv[1], durability="normal")
while True:
    n += 5
    calibrator = AdaptiveCalibrator(sys.argv[1], durability="normal")
    calibrator.record("m", 1, 1.0)
    moment = Fork(n)
    sys.setprofile(moment)
    calibrator.close()
    sys.setprofile(None)
    if moment.child is None: break
    end = time.monotonic() + 20
    while not os.waitpid(moment.child, os.WNOHANG)[0]:
        assert time.monotonic() < end, n  # the child hangs
        time.sleep(0.001)
    AdaptiveCalibrator(sys.argv[1], timeout_s=2.0).record("m", 3, 3.0)
print(n)
"""


def test_a_fork_out_of_any_moment_of_a_close_hangs_nobody(ledger_path):
    done = ran(FORKED_WHILE_CLOSING, ledger_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() == []


def test_a_handler_that_records_while_its_thread_forks_is_refused_at_once(ledger_path):
    program = """
import os, signal, sys
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import CalibrationLedgerError, ReentrantCallError
calibrator = AdaptiveCalibrator(sys.argv[1], durability="normal", timeout_s=60)
calibrator.record("m", 1, 1.0)
answers, inside = [], []
def handle(*_):
    try: calibrator.record("m", 2, 2.0); answers.append("recorded")
    except ReentrantCallError: answers.append("refused")
signal.signal(signal.SIGUSR1, handle)
os.register_at_fork(before=lambda: signal.raise_signal(signal.SIGUSR1),
                    after_in_parent=lambda: signal.raise_signal(signal.SIGUSR1))
signal.alarm(50)
for _ in range(5):
    calibrator.predict("m", 1)
    if os.fork() == 0: os._exit(0)
    assert os.wait()[1] == 0
print(*sorted(set(answers)))
assert calibrator.predict("m", 1).sample_count == 1 + answers.count("recorded")
"""
    done = ran(program, ledger_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "recorded"
    with AdaptiveCalibrator(ledger_path, timeout_s=1.0) as calibrator:
        calibrator.record("m", 1, 1.0)
        assert calibrator.audit() == []


FORKED_WHILE_LOCKING = f"""{FORK}
def live(): pass  # it goes on

calibrator = AdaptiveCalibrator(sys.argv[1], durability="normal", timeout_s=60.0)
calibrator.record("m", 1, 1.0)
for n in range(10, 36):
    moment = Fork(n)
    sys.setprofile(moment)
    try:
        calibrator.record("m", 2, 2.0)
    except CalibrationLedgerError:
        if moment.child != 0: raise
    except OSError as error:
        print(n, error, flush=True)  # a child's, of the number of a descriptor that it has closed
        if moment.child != 0: raise
    sys.setprofile(None)
    if moment.child == 0: os._exit(0)
    os.wait()
"""


def test_a_child_that_goes_on_while_its_parent_locks_uses_no_lock_of_the_parent(ledger_path):
    """Nor does it wait for itself, with the lock in its hands."""
    begun = time.monotonic()
    done = ran(FORKED_WHILE_LOCKING, ledger_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - begun < 50  # a single wait for itself takes 60
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() == []


def test_a_handler_within_the_hook_before_a_fork_is_refused_at_once(ledger_path):
    program = """
import os, signal, sys, threading, time
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import ReentrantCallError
from calibration_ledger.storage.sqlite import forks
calibrator = AdaptiveCalibrator(sys.argv[1], durability="normal", timeout_s=60)
calibrator.record("m", 1, 1.0)
answers, begun = [], threading.Event()
def handle(*_):
    try: calibrator.record("m", 2, 2.0); answers.append("recorded")
    except ReentrantCallError: answers.append("refused")
signal.signal(signal.SIGUSR1, handle)
def work():  # keeps the fork waiting, and sends the signal meanwhile
    def send(_):
        begun.set()
        while not forks._forking or len(forks._passes) > 1: time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        while not answers: time.sleep(0.001)
    AdaptiveCalibrator(sys.argv[2])._ledger.write(send)
thread = threading.Thread(target=work)
thread.start()
begun.wait(60)
signal.alarm(50)
if os.fork() == 0:
    calibrator.record("m", 3, 3.0)
    os._exit(0)
assert os.wait()[1] == 0
print(*answers)
"""
    done = ran(program, ledger_path, ledger_path.with_name("other.db"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == "refused"
    with AdaptiveCalibrator(ledger_path, timeout_s=1.0) as calibrator:
        assert calibrator.predict("m", 1).sample_count == 2
        assert calibrator.audit() == []


def test_a_lock_of_logging_that_nobody_gives_back_stops_no_call(ledger_path):
    """Ctrl-C in the middle of somebody's logging leaves it taken; we ask for it nowhere."""
    program = """
import gc, logging, os, sqlite3, sys, threading
from calibration_ledger import AdaptiveCalibrator
AdaptiveCalibrator(sys.argv[2]).record("m", 1, 1.0)  # knows how a ledger is made from now on
calibrator = AdaptiveCalibrator(sys.argv[1])
sqlite3.connect(sys.argv[3]).execute("PRAGMA journal_mode=WAL").fetchall()
thread = threading.Thread(target=logging._lock.acquire)
thread.start()
thread.join()
def work():
    calibrator.record("m", 1, 1.0)
    dropped = AdaptiveCalibrator(sys.argv[1])
    dropped.record("m", 1, 1.0)
    cycle = [dropped]
    cycle.append(cycle)
    del dropped, cycle
    gc.collect()
    with AdaptiveCalibrator(":memory:") as memory: memory.record("m", 1, 1.0)
    with AdaptiveCalibrator(sys.argv[3]) as empty: empty.record("m", 1, 1.0)
    calibrator.record("m", 1, 1.0)
    assert calibrator.audit() == []
    calibrator.close()
worker = threading.Thread(target=work, daemon=True)
worker.start()
worker.join(20)
print("hangs" if worker.is_alive() else "ended", flush=True)
os._exit(0)
"""
    empty = ledger_path.with_name("empty.db")  # a database, as a process killed while making leaves
    done = ran(program, ledger_path, ledger_path.with_name("other.db"), empty)
    assert (done.returncode, done.stdout.strip()) == (0, "ended"), done.stderr
    for path, count in ((ledger_path, 3), (empty, 1)):
        with AdaptiveCalibrator(path, timeout_s=1.0) as calibrator:
            assert calibrator.predict("m", 1).sample_count == count
            assert calibrator.audit() == []


def test_a_fork_while_a_thread_makes_the_ledger_waits_for_it_and_not_for_ever(ledger_path):
    """Logging may be imported after us, and takes its lock at a fork; SQLAlchemy needs it."""
    program = """
import os, sys, threading, time
from calibration_ledger import AdaptiveCalibrator
calibrator = AdaptiveCalibrator(sys.argv[1])
import logging
worker = threading.Thread(target=calibrator.record, args=("m", 1, 1.0))
worker.start()
while "sqlalchemy" not in sys.modules:
    time.sleep(0.0001)
started = time.monotonic()
child = os.fork()
if child == 0:
    calibrator.record("m", 1, 1.0)
    os._exit(0)
print(time.monotonic() - started < 20, os.waitpid(child, 0)[1])
worker.join()
"""
    done = ran(program, ledger_path)
    assert (done.returncode, done.stdout.split()) == (0, ["True", "0"]), done.stderr
    with AdaptiveCalibrator(ledger_path, timeout_s=1.0) as calibrator:
        assert calibrator.predict("m", 1).sample_count == 2
        assert calibrator.audit() == []


def test_a_ledger_in_memory_goes_on_as_a_copy_and_never_hangs(monkeypatch):
    monkeypatch.setattr(forks, "WAIT_S", 0.02)
    with AdaptiveCalibrator(":memory:", timeout_s=0.1) as calibrator:
        calibrator.record("m", 1, 1.0)

        def use():
            assert calibrator.record("m", 1, 1.0)
            assert calibrator.predict("m", 1).sample_count == 2

        assert in_child(use) == 0
        held, done = threading.Event(), threading.Event()
        with Crowd(lambda: calibrator._ledger.write(lambda _: (held.set(), done.wait(60)))):
            assert held.wait(30)
            with pytest.raises(LedgerBusyError, match="others of this process held"):
                calibrator.record("m", 1, 1.0)
            try:
                assert in_child(use) == 3
            finally:
                done.set()
        use()
        assert calibrator.audit() == []


# -- what is dropped ------------------------------------------------------------------------

DROPPED = """
import fcntl, gc, os, subprocess, sys
from calibration_ledger import AdaptiveCalibrator
one, two = sys.argv[1:3]

def is_free(path):
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", code, path], stderr=subprocess.DEVNULL)
    return done.returncode == 0

class Recording:  # a finalizer of the program's own, in the same cycle
    def __init__(self, calibrator): self.calibrator = calibrator
    def __del__(self): self.calibrator.record("m", 9, 9.0)

def drop():
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    calibrator = AdaptiveCalibrator(one)
    calibrator.record("m", 1, 1.0)
    cycle = [calibrator, Recording(calibrator)]
    cycle.append(cycle)
    del calibrator, cycle
    for descriptor in free: os.close(descriptor)
    gc.collect()

AdaptiveCalibrator(two).record("m", 1, 1.0)
live = AdaptiveCalibrator(two)
live.predict("m", 1)
drop()
mine = open(two + ".mine", "w")  # has one of the numbers that were in use before
fcntl.flock(mine, fcntl.LOCK_EX)
def work(_):
    drop()
    assert not is_free(two + ".lock")
live._ledger.write(work)
for path in (one, two): AdaptiveCalibrator(path).record("m", 2, 2.0)
assert not is_free(mine.name)
assert AdaptiveCalibrator(one).predict("m", 1).sample_count == 5
"""


def test_a_calibrator_dropped_in_a_cycle_closes_what_is_its_own_and_nothing_else(tmp_path):
    done = ran(DROPPED, tmp_path / "one.db", tmp_path / "two.db")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("one.db", "two.db"):
        with AdaptiveCalibrator(tmp_path / name) as calibrator:
            assert calibrator.audit() == []


# -- the last checkpoint --------------------------------------------------------------------


def other_process(path):
    """One that has the ledger open, and waits for its stdin to end."""
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1])\n"
        "c.execute('SELECT count(*) FROM calls').fetchall()\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    return process


def test_closing_checkpoints_only_where_nobody_else_has_the_file_open(ledger_path):
    """SQLite does it under its lock on the whole file; ours is not needed for it."""
    log = Path(f"{ledger_path}-wal")
    calibrator = AdaptiveCalibrator(ledger_path)
    calibrator.record("m", 1, 1.0)
    other = other_process(ledger_path)
    before = ledger_path.read_bytes(), log.read_bytes()
    calibrator.close()
    assert (ledger_path.read_bytes(), log.read_bytes()) == before
    other.communicate()
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() == []
        assert calibrator.record("m", 1, 1.0)
    assert not log.exists()


def test_who_reads_past_the_deadline_of_a_close_closes_the_writer_too(ledger_path):
    log = Path(f"{ledger_path}-wal")
    calibrator = AdaptiveCalibrator(ledger_path, timeout_s=0.1)
    calibrator.record("m", 1, 1.0)
    reading, done = threading.Event(), threading.Event()
    reader = Crowd(
        lambda: calibrator._ledger.backend._reader().use(lambda: (reading.set(), done.wait(60)))
    )
    assert reading.wait(60)
    calibrator.close()
    assert log.exists()
    done.set()
    reader.end()
    assert not log.exists()


def test_a_close_in_the_middle_of_reading_waits_for_no_writer_that_waits_for_it(ledger_path):
    calibrator = AdaptiveCalibrator(ledger_path, timeout_s=60.0)
    wrote, done = threading.Event(), threading.Event()
    writer = Crowd(lambda: (calibrator.record("m", 1, 1.0), wrote.set(), done.wait(60)))
    assert wrote.wait(60)
    begun = time.monotonic()
    calibrator._ledger.backend._reader().use(calibrator.close)  # as a signal handler may
    assert time.monotonic() - begun < 30
    assert not Path(f"{ledger_path}-wal").exists()
    done.set()
    writer.end()


def test_what_was_kept_from_closing_is_closed_when_the_program_ends(ledger_path):
    """Here a second signal stops the first reader to close before it closes the writer."""
    program = (
        "import sys\n"
        "from calibration_ledger import AdaptiveCalibrator\n"
        "from calibration_ledger.storage.sqlite import forks\n"
        "def stop(reader): raise KeyboardInterrupt\n"
        "calibrator = AdaptiveCalibrator(sys.argv[1])\n"
        "calibrator.record('m', 1, 1.0)\n"
        "forks.Connection._close_writers = stop\n"
        "try: calibrator._ledger.backend._reader().use(calibrator.close)\n"
        "except KeyboardInterrupt: print('stopped')\n"
    )
    done = ran(program, ledger_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")
    assert not Path(f"{ledger_path}-wal").exists()


def test_nobody_can_write_while_the_last_connection_checkpoints(ledger_path):
    """Its lock on the whole file keeps all others out, as this lock of the same kind does."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 1.0)
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("SELECT count(*) FROM calls").fetchall()
        with closing(sqlite3.connect(ledger_path, timeout=0)) as other:
            for text in ("BEGIN IMMEDIATE", "SELECT count(*) FROM calls"):
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute(text)
        with (
            AdaptiveCalibrator(":memory:"),
            pytest.raises(LedgerBusyError),
            AdaptiveCalibrator(ledger_path, timeout_s=0.05) as calibrator,
        ):
            calibrator.record("m", 1, 1.0)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() == []


def test_many_threads_that_close_at_once_lose_nothing(ledger_path):
    """Each close may be the last, and checkpoint beside the opening and the writes of others."""

    def work(who):
        for i in range(6):
            with AdaptiveCalibrator(ledger_path, durability="normal", timeout_s=60) as calibrator:
                calibrator.record("m", 1, 1.0, request_id=f"{who}-{i}")

    together(*(partial(work, who) for who in range(4)))
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert len({call.request_id for call in calibrator.calls("m")}) == 24
        assert calibrator.audit() == []
