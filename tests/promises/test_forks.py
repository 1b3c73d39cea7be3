"""A calibrator over fork, spawn and forkserver: child and parent both go on, on both databases.

Each scenario runs in a process of its own, which was forked without threads.
"""

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerError

pytestmark = [
    pytest.mark.both,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork"),
]


def fork(action, *arguments):
    """Run it in a child, which ends without any clearing up; gives the child's id."""
    with warnings.catch_warnings():
        # Python 3.12 warns of every fork beside threads, and it is right: that is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action(*arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - shown, and told by the code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(*pids):
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)


def record(calibrator, who, count):
    for i in range(count):
        name = f"{who}-{i}"
        assert isinstance(
            calibrator.record("m", i, 100.0 + i, completion_tokens=5, request_id=name), float
        )


def names(*counts):
    return sorted(f"{who}-{i}" for who, count in counts for i in range(count))


def ids_of(calibrator):
    return sorted(call.request_id for call in calibrator.calls("m"))


@pytest.fixture
def run(quick, ledger):
    """Run a scenario in a process of its own, then see that the ledger holds those calls."""

    def in_process(scenario, *counts, **arguments):
        process = quick.Process(target=scenario, args=(ledger,), kwargs=arguments)
        process.start()
        process.join(120)
        assert process.exitcode == 0
        with AdaptiveCalibrator(ledger) as calibrator:
            assert ids_of(calibrator) == names(*counts)
            assert calibrator.audit() == []

    return in_process


# -- fork -----------------------------------------------------------------------------------


def fork_two(ledger):
    calibrator = AdaptiveCalibrator(ledger)
    record(calibrator, "before", 3)
    half_read = calibrator.calls("m")
    next(half_read)

    def use(who):
        assert calibrator.predict("m", 1).sample_count >= 3
        record(calibrator, who, 30)
        assert len(list(half_read)) >= 2
        assert calibrator.audit() == []
        if who == "second":
            calibrator.close()

    children = [fork(use, who) for who in ("first", "second")]
    record(calibrator, "parent", 30)
    assert len(list(half_read)) >= 2
    wait(*children)
    assert calibrator.predict("m", 1).sample_count == 93
    calibrator.close()


def test_children_and_parent_all_go_on_with_an_open_calibrator(run):
    run(fork_two, ("before", 3), ("first", 30), ("second", 30), ("parent", 30))


def set_in_children(ledger):
    calibrator = AdaptiveCalibrator(ledger)
    record(calibrator, "before", 1)
    calibrator.set_default_rule("ema", 0.5)

    def use(alpha):
        calibrator.set_default_rule(None, alpha)
        calibrator.record(f"of {alpha}", 1, 2.0)

    children = [fork(use, alpha) for alpha in (0.1, 0.2, 0.3)]
    calibrator.set_default_rule(None, 0.4)
    wait(*children)
    history = calibrator.default_rule().history
    assert sorted(one.alpha for one in history) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert calibrator.alpha == history[-1].alpha
    for alpha in (0.1, 0.2, 0.3):
        assert calibrator.calibration(f"of {alpha}").alpha in {0.1, 0.2, 0.3, 0.4}
    calibrator.close()


def test_children_and_parent_set_what_new_models_learn_by(run):
    run(set_in_children, ("before", 1))


def close_first(ledger):
    """SQLite would delete the log under the child, and its calls would be lost."""
    calibrator = AdaptiveCalibrator(ledger)
    record(calibrator, "before", 1)
    begun, begin = os.pipe()
    closed, go = os.pipe()

    def use():
        record(calibrator, "meanwhile", 3)
        os.write(begin, b"x")
        os.read(closed, 1)
        record(calibrator, "child", 10)

    child = fork(use)
    os.read(begun, 1)
    calibrator.close()
    os.write(go, b"x")
    wait(child)


def test_a_child_goes_on_when_its_parent_closes_the_ledger(run):
    run(close_first, ("before", 1), ("meanwhile", 3), ("child", 10))


def close_in_child(ledger):
    calibrator = AdaptiveCalibrator(ledger)
    record(calibrator, "before", 1)
    children = [fork(calibrator.close) for _ in range(3)]
    record(calibrator, "parent", 10)
    wait(*children)
    record(calibrator, "after", 3)


def test_a_parent_goes_on_when_its_children_close_the_ledger(run):
    run(close_in_child, ("before", 1), ("parent", 10), ("after", 3))


def four_generations(ledger):
    calibrator = AdaptiveCalibrator(ledger)

    def live(generation):
        record(calibrator, generation, 5)
        child = fork(live, generation + 1) if generation < 3 else None
        record(calibrator, f"late {generation}", 5)
        if child is not None:
            wait(child)

    live(0)


def test_a_child_of_a_child_of_a_child_goes_on(run):
    run(four_generations, *[(i, 5) for i in range(4)], *[(f"late {i}", 5) for i in range(4)])


def fork_amid_threads(ledger, forks):
    """Threads are in the middle of calls whenever it forks; children have none of them."""
    calibrator = AdaptiveCalibrator(ledger)
    stop, counts = threading.Event(), [0] * 4

    def work(i):
        while not stop.is_set():
            calibrator.record("of threads", 1, 2.0, request_id=f"{i}-{counts[i]}")
            counts[i] += 1
            calibrator.predict("of threads", 1)

    def use(who):
        calibrator.predict("of threads", 1)
        record(calibrator, who, 3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for n in range(forks):
        time.sleep(random.uniform(0.0, 0.01))
        wait(fork(use, n))
    stop.set()
    for thread in threads:
        thread.join()
    ids = [call.request_id for call in calibrator.calls("of threads")]
    assert sorted(ids) == sorted(f"{i}-{n}" for i in range(4) for n in range(counts[i]))
    assert calibrator.audit() == []


@pytest.mark.parametrize("forks", [10, pytest.param(500, marks=pytest.mark.stress)])
def test_children_forked_amid_the_calls_of_threads_go_on_and_so_do_the_threads(run, forks):
    run(fork_amid_threads, *[(n, 3) for n in range(forks)], forks=forks)


def fork_beside_opening(ledger, forks):
    """Threads open, record and close, while this one forks children that do, too."""
    AdaptiveCalibrator(ledger).close()
    stop, counts = threading.Event(), [0] * 4

    def use(model, name):
        with AdaptiveCalibrator(ledger, durability="normal", timeout_s=60) as calibrator:
            calibrator.record(model, 1, 2.0, request_id=name)

    def work(i):
        while not stop.is_set():
            use("of threads", f"{i}-{counts[i]}")
            counts[i] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for n in range(forks):
        wait(fork(use, "m", f"{n}-0"))
    stop.set()
    for thread in threads:
        thread.join()
    with AdaptiveCalibrator(ledger) as calibrator:
        ids = [call.request_id for call in calibrator.calls("of threads")]
        assert sorted(ids) == sorted(f"{i}-{n}" for i in range(4) for n in range(counts[i]))


@pytest.mark.parametrize("forks", [6, pytest.param(500, marks=pytest.mark.stress)])
def test_children_forked_while_threads_open_and_close_the_ledger_lose_nothing(run, forks):
    run(fork_beside_opening, *[(n, 1) for n in range(forks)], forks=forks)


def fork_out_of_calls(ledger, forks):
    """A signal handler forks, between two calls or in the middle of one, of this very thread."""
    calibrator = AdaptiveCalibrator(ledger)
    record(calibrator, "before", 1)
    children = []

    def use():
        with suppress(LedgerError):  # told that it cannot: see `storage.forks`
            calibrator.record("of children", 1, 2.0)

    signal.signal(signal.SIGALRM, lambda *_: children.append(fork(use)))
    i = 0
    while len(children) < forks:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 4e-3))
        for _ in range(5):
            calibrator.record("of the parent", 1, 2.0, request_id=str(i))
            i += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    wait(*children)
    assert len(list(calibrator.calls("of the parent"))) == i
    assert calibrator.audit() == []


@pytest.mark.parametrize("forks", [10, pytest.param(300, marks=pytest.mark.stress)])
def test_a_fork_out_of_the_middle_of_a_call_harms_neither_the_call_nor_the_ledger(run, forks):
    run(fork_out_of_calls, ("before", 1), forks=forks)


# -- pools of processes ---------------------------------------------------------------------

shared = None


def record_in_pool(ledger, who):
    """With the parent's calibrator where it was inherited, else with one for each task."""
    if shared is not None:
        record(shared, who, 10)
        return os.getpid()
    with AdaptiveCalibrator(ledger) as calibrator:
        record(calibrator, who, 10)
    return os.getpid()


def work_in_pool(ledger, method):
    global shared  # noqa: PLW0603 - what a forked child inherits
    calibrator = AdaptiveCalibrator(ledger)
    record(calibrator, "before", 1)
    shared = calibrator if method == "fork" else None
    context = multiprocessing.get_context(method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            pids = list(pool.map(record_in_pool, [ledger] * 4, range(4)))
            record(calibrator, "parent", 10)
    assert os.getpid() not in pids
    calibrator.close()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_pool_of_processes_beside_an_open_calibrator(run, method):
    counts = [(who, 10) for who in (0, 1, 2, 3, "parent")]
    run(work_in_pool, ("before", 1), *counts, method=method)
