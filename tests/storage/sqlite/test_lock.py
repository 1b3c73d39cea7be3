"""The writers' queue: one holder at a time, in the order of asking, and never beyond the deadline.

Goal: break its state machine. Many threads of many processes fight for one lock with timeouts
that end in the same moments in which the lock comes, and an oracle watches for two holders.
"""

import fcntl
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.sqlite import lock as lock_module
from calibration_ledger.storage.sqlite.lock import FairLock, WriterLock, writer_lock
from support.lock_contest import Score, contest
from support.programs import ran, started
from support.steps import soon
from support.threads import together

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no flock on Windows")

HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def ledger(ledger_path):
    """A lock knows no database: only of a path."""
    return str(ledger_path)


@pytest.fixture
def lock(ledger):
    return writer_lock(ledger)


@pytest.fixture
def hold_elsewhere(ledger):
    """Let another process take the lock; a line on its stdin, or its end, gives it back."""
    holders = []

    def hold():
        holder = started(HOLDER, f"{ledger}.lock")
        holders.append(holder)
        assert holder.stdout.readline() == "held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        with holder:  # closes its pipes and waits for its end
            pass


def let_go(holder):
    holder.stdin.write("\n")
    holder.stdin.flush()


def threads_of_process():
    """Those that Python's threading does not know of included."""
    return set(Path("/proc/self/task").iterdir())


def open_descriptors():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def free_elsewhere(ledger):
    """Whether another descriptor, as another process has one, could take the lock now."""
    descriptor = os.open(f"{ledger}.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


class TestFairLock:
    def test_hands_the_lock_on_in_the_order_of_asking(self):
        fair = FairLock()
        assert fair.acquire(time.monotonic())
        order = []

        def wait(i):
            assert fair.acquire(time.monotonic() + 30)
            order.append(i)
            fair.release()

        threads = []
        for i in range(20):
            threads.append(threading.Thread(target=wait, args=(i,)))
            threads[-1].start()
            assert soon(lambda waiting=i + 1: len(fair.waiters) == waiting)
        fair.release()
        for thread in threads:
            thread.join()
        assert order == list(range(20))
        assert fair.acquire(time.monotonic())

    def test_does_not_let_a_newcomer_pass_whoever_waits(self):
        fair = FairLock()
        fair.acquire(time.monotonic())
        order = []

        def wait():
            assert fair.acquire(time.monotonic() + 30)
            order.append("waited")
            fair.release()

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert soon(lambda: len(fair.waiters) == 1)
        fair.release()
        assert fair.acquire(time.monotonic() + 30)
        order.append("came later")
        waiter.join()
        assert order == ["waited", "came later"]

    @pytest.mark.parametrize("wait_s", [-1.0, 0.0, 0.02])
    def test_gives_up_at_the_deadline_and_leaves_the_queue(self, wait_s):
        fair = FairLock()
        fair.acquire(time.monotonic())
        begun = time.monotonic()
        assert not fair.acquire(begun + wait_s)
        assert time.monotonic() - begun < 5
        assert not fair.waiters
        fair.release()
        assert fair.acquire(time.monotonic())

    def test_loses_no_hand_over_that_races_with_giving_up(self):
        """Deadlines end in the very moment of release: the lock must never get lost."""
        fair = FairLock()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        inside = []
        crowds = []

        def fight(i):
            for n in range(400):
                if fair.acquire(time.monotonic() + (i * 7 + n) % 5 * 1e-5):
                    inside.append(i)
                    crowds.append(len(inside))
                    inside.pop()
                    fair.release()

        try:
            together(*(partial(fight, i) for i in range(6)))
        finally:
            sys.setswitchinterval(interval)
        assert set(crowds) == {1}
        assert not fair.waiters
        assert fair.acquire(time.monotonic())


class TestWriterLock:
    def test_there_is_one_of_a_file_in_a_process_whatever_its_name(self, tmp_path, ledger, lock):
        link = tmp_path / "link.db"
        link.symlink_to(ledger)
        assert writer_lock(str(link)) is lock
        assert writer_lock(f"{tmp_path}/./calls.db") is lock
        assert writer_lock(str(tmp_path / "other.db")) is not lock

    def test_opens_no_file_before_it_is_asked_for(self, lock):
        assert not lock.acquire_now()
        assert not Path(lock.path).exists()
        assert lock.acquire(0.0)
        assert Path(lock.path).exists()
        lock.release()
        assert lock.acquire_now()
        lock.release()

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
    def test_keeps_one_descriptor_and_closes_it_at_the_end(self, ledger):
        gc.collect()
        before = open_descriptors()
        lock = writer_lock(ledger)
        for _ in range(10):
            assert lock.acquire(1.0)
            lock.release()
        assert open_descriptors() == before + 1
        del lock
        gc.collect()
        assert open_descriptors() == before

    def test_its_descriptor_is_not_inherited_by_programs_that_are_started(self, lock):
        assert lock.acquire(1.0)
        assert not os.get_inheritable(lock._file.fileno())
        lock.release()

    def test_two_threads_never_hold_it_both(self, lock):
        assert lock.acquire(1.0)
        answers = []
        other = threading.Thread(
            target=lambda: answers.extend([lock.acquire_now(), lock.acquire(0.01)])
        )
        other.start()
        other.join()
        assert answers == [False, False]
        lock.release()

    def test_holds_off_other_processes_until_it_is_released(self, ledger, lock):
        assert lock.acquire(1.0)
        assert not free_elsewhere(ledger)
        lock.release()
        assert free_elsewhere(ledger)

    @pytest.mark.parametrize("timeout_s", [0.0, 0.05])
    def test_gives_up_in_time_when_another_process_holds_it(self, lock, hold_elsewhere, timeout_s):
        hold_elsewhere()
        begun = time.monotonic()
        assert not lock.acquire_now()
        assert not lock.acquire(timeout_s)
        assert timeout_s <= time.monotonic() - begun < timeout_s + 5

    def test_comes_as_soon_as_the_other_process_lets_go(self, lock, hold_elsewhere):
        holder = hold_elsewhere()
        threading.Timer(0.1, let_go, [holder]).start()
        begun = time.monotonic()
        assert lock.acquire(30.0)
        assert time.monotonic() - begun < 10
        lock.release()

    def test_a_killed_holder_keeps_nothing(self, lock, hold_elsewhere):
        hold_elsewhere().kill()
        assert lock.acquire(30.0)
        lock.release()

    def test_an_abandoned_wait_gives_back_what_comes_too_late(self, ledger, lock, hold_elsewhere):
        holder = hold_elsewhere()
        assert not lock.acquire(0.02)
        let_go(holder)
        assert soon(lambda: free_elsewhere(ledger))
        assert lock.acquire(1.0)
        assert not free_elsewhere(ledger)
        lock.release()
        assert free_elsewhere(ledger)

    def test_whoever_asks_next_takes_over_an_abandoned_wait(self, ledger, lock, hold_elsewhere):
        for _ in range(3):
            holder = hold_elsewhere()
            assert not lock.acquire(0.02)
            assert not lock.acquire_now()
            threading.Timer(0.05, let_go, [holder]).start()
            assert lock.acquire(30.0)
            assert not free_elsewhere(ledger)
            lock.release()
            assert soon(lambda: free_elsewhere(ledger))

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
    def test_at_most_one_helper_thread_waits_however_many_give_up(
        self, lock, hold_elsewhere, monkeypatch
    ):
        monkeypatch.setattr(lock_module, "_IDLE_S", 0.01)
        before = threads_of_process()  # other tests of this process may have left some
        hold_elsewhere()
        for _ in range(20):
            assert not lock.acquire(0.001)
        assert len(threads_of_process() - before) == 1

    @pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
    def test_the_helper_thread_ends_when_nobody_waits_and_is_replaced(
        self, lock, hold_elsewhere, monkeypatch
    ):
        monkeypatch.setattr(lock_module, "_IDLE_S", 0.01)
        before = threads_of_process()
        for _ in range(3):
            holder = hold_elsewhere()
            threading.Timer(0.05, let_go, [holder]).start()
            assert lock.acquire(30.0)
            lock.release()
            assert soon(lambda: not lock._has_helper)
            assert soon(lambda: threads_of_process() <= before)

    def test_where_no_thread_can_be_started_it_polls_until_the_deadline(
        self, lock, hold_elsewhere, monkeypatch
    ):
        def refuse(*_):
            raise RuntimeError("can't create new thread at interpreter shutdown")

        holder = hold_elsewhere()
        timer = threading.Timer(0.1, let_go, [holder])
        timer.start()
        monkeypatch.setattr(lock_module, "start_new_thread", refuse)
        assert not lock.acquire(0.02)
        assert lock.acquire(30.0)
        lock.release()

    def test_a_lock_file_that_cannot_be_opened_leaves_the_lock_usable(self, ledger):
        lock = WriterLock(f"{ledger}/in-no-folder.lock")
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                lock.acquire(0.1)

    def test_follows_a_lock_file_that_was_moved_away(self, tmp_path, ledger, lock):
        assert lock.acquire(1.0)
        assert lock.follow(1.0)
        Path(lock.path).rename(tmp_path / "elsewhere.lock")
        assert lock.follow(1.0)
        assert not free_elsewhere(ledger)
        lock.release()
        assert free_elsewhere(ledger)

    def test_waits_for_the_holder_of_the_lock_file_that_it_follows_to(
        self, tmp_path, ledger, lock, hold_elsewhere
    ):
        assert lock.acquire(1.0)
        Path(lock.path).rename(tmp_path / "elsewhere.lock")
        holder = hold_elsewhere()
        assert not lock.follow(0.02)
        lock.release()
        let_go(holder)
        assert lock.acquire(30.0)
        lock.release()
        assert soon(lambda: free_elsewhere(ledger))


# Python 3.12 warns of every fork beside threads, and it is right; this is what is tested here.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestFork:
    def test_a_child_has_its_own_queue_and_not_its_parents_lock(self, ledger, lock):
        assert lock.acquire(1.0)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            own = writer_lock(ledger)
            answers = [own is lock, lock._file.closed, own.acquire(0.05)]
            os.read(reader, 1)  # the parent has released now
            answers.append(own.acquire(30.0))
            os._exit(0 if answers == [False, True, False, True] else 1)
        time.sleep(0.2)
        assert not free_elsewhere(ledger)
        lock.release()
        os.write(writer, b"x")
        assert os.waitpid(child, 0)[1] == 0
        os.close(reader)
        os.close(writer)
        assert lock.acquire(1.0)
        lock.release()

    def test_a_killed_holder_with_a_living_child_keeps_nothing(self, ledger):
        """The child inherits the descriptor, and with it the lock, unless it closes it."""
        reader, writer = os.pipe()
        parent = os.fork()
        if not parent:
            held = writer_lock(ledger)
            assert held.acquire(1.0)
            child = os.fork()
            if not child:
                os.write(writer, f"{os.getpid()}\n".encode())
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
            os._exit(0)
        child = int(os.read(reader, 20))
        try:
            assert not free_elsewhere(ledger)
            os.kill(parent, signal.SIGKILL)
            os.waitpid(parent, 0)
            assert free_elsewhere(ledger)
        finally:
            os.kill(child, signal.SIGKILL)
            os.close(reader)
            os.close(writer)

    def test_a_fork_out_of_the_opening_of_its_file_does_not_wait_for_itself(
        self, lock, monkeypatch
    ):
        """A signal handler may fork between any two steps, also while a descriptor is new."""
        children = []

        def fork(*_):
            children.append(os.fork())
            if not children[-1]:
                os._exit(0)

        def open_and_be_interrupted(*arguments):
            descriptor = real(*arguments)
            signal.raise_signal(signal.SIGUSR1)
            return descriptor

        real = os.open
        before = signal.signal(signal.SIGUSR1, fork)
        try:
            monkeypatch.setattr(os, "open", open_and_be_interrupted)
            assert lock.acquire(1.0)
        finally:
            monkeypatch.undo()
            signal.signal(signal.SIGUSR1, before)
        assert os.waitpid(children[0], 0)[1] == 0
        lock.release()

    def test_a_fork_under_an_abandoned_wait_leaves_both_sides_working(
        self, ledger, lock, hold_elsewhere
    ):
        holder = hold_elsewhere()
        assert not lock.acquire(0.02)
        child = os.fork()
        if not child:
            own = writer_lock(ledger)
            got = own.acquire(30.0)
            if got:
                own.release()
            os._exit(0 if got else 1)
        let_go(holder)
        assert lock.acquire(30.0)
        lock.release()
        assert os.waitpid(child, 0)[1] == 0


def fight(ledger, processes, threads, seconds):
    Path(f"{ledger}.counter").write_text("0")
    script = str(Path(__file__).parents[2] / "support" / "lock_contest.py")
    others = [
        subprocess.Popen(
            [sys.executable, script, ledger, str(seed), str(threads), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(1, processes)
    ]
    interval = sys.getswitchinterval()
    try:
        scores = [contest(ledger, 0, threads, seconds)]
    finally:
        sys.setswitchinterval(interval)
    for other in others:
        answer, _ = other.communicate(timeout=60)
        scores.append(Score(*map(int, answer.split())))
    for score in scores:
        assert score.held, "a process got no turn at all"
        assert score.given_up, "the timeouts were not tried"
    return Score(*map(sum, zip(*scores, strict=True)))


@pytest.mark.parametrize(
    ("processes", "threads", "seconds"),
    [
        (2, 4, 1.0),
        pytest.param(2, 4, 60.0, marks=pytest.mark.stress),
        pytest.param(8, 4, 60.0, marks=pytest.mark.stress),
        pytest.param(4, 16, 60.0, marks=pytest.mark.stress),
    ],
)
def test_there_is_one_holder_at_a_time_whatever_the_timeouts(ledger, processes, threads, seconds):
    score = fight(ledger, processes, threads, seconds)
    assert score.intruders == 0
    assert int(Path(f"{ledger}.counter").read_text()) == score.held
    lock = writer_lock(ledger)
    assert lock.acquire(30.0)
    lock.release()


def test_locks_of_ledgers_that_nobody_uses_are_forgotten(tmp_path):
    for i in range(10):
        held = writer_lock(str(tmp_path / f"{i}.db"))
        assert held.acquire(1.0)
        held.release()
    del held
    gc.collect()
    assert not [path for _, path in lock_module._locks if path.startswith(str(tmp_path))]


def test_a_lock_that_outlives_the_modules_it_uses_says_nothing_at_exit(tmp_path):
    """What a program leaves in a far place is collected when `os` is empty already."""
    program = f"""
import sys, threading
from calibration_ledger import AdaptiveCalibrator
sys.far = threading.local()
sys.far.kept = AdaptiveCalibrator({str(tmp_path / "calls.db")!r})
sys.far.kept.record("m", 1, 2.0)
"""
    done = ran(program)
    assert (done.returncode, done.stderr) == (0, "")
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        assert calibrator.audit() == []
