"""The recorder: calls go into the ledger, and nothing of that reaches the program."""

import asyncio
import copy
import gc
import itertools
import logging
import pickle
import signal
import sqlite3
import statistics
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import (
    AdaptiveCalibrator,
    Call,
    CallsDroppedError,
    DoubtfulCallWarning,
    InvalidInputError,
    LedgerBusyError,
    LedgerClosedError,
    LedgerOutdatedError,
    LedgerPathError,
    NotCopiableError,
    NotRecordedWarning,
    Recorder,
    StoredRuleError,
)
from support.steps import soon
from support.threads import together

MODEL = "timmy:v0.1-q4"


def counted(recorder):
    """All calls whose fate the recorder knows, and those that wait."""
    skipped = sum(recorder.skipped.values())
    return recorder.recorded + skipped + recorder.dropped + recorder.waiting


@contextmanager
def locked(path):
    """Somebody else writes to the ledger, and takes long."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def set_revision(path, revision):
    with closing(sqlite3.connect(path)) as other, other:
        ((found,),) = other.execute("SELECT version_num FROM alembic_version").fetchall()
        other.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    return found


@pytest.fixture
def hasty(ledger_path):
    """A calibrator that waits for nobody."""
    with AdaptiveCalibrator(ledger_path, timeout_s=0.05) as opened:
        opened.record("m", 1, 1.0)
        yield opened
        assert opened.audit() == []


# -- what is put is recorded ----------------------------------------------------------------


@pytest.mark.both
def test_calls_that_are_put_are_recorded_in_their_order(calibrator, make_call):
    with calibrator.recorder() as recorder:
        for i in range(40):
            recorder.put(make_call(i, details={"ttft_ms": 1.5 * i}))
        assert recorder.flush(10)
        assert (recorder.recorded, recorder.skipped, recorder.dropped) == (40, {}, 0)
    found = list(calibrator.calls(MODEL))
    assert [call.actual_ms for call in found] == [make_call(i).actual_ms for i in range(40)]
    assert [call.called_at for call in found] == [make_call(i).called_at for i in range(40)]
    assert [call.details["ttft_ms"] for call in found] == [1.5 * i for i in range(40)]


@pytest.mark.both
def test_a_bad_call_is_skipped_and_its_neighbours_are_recorded(calibrator, make_call):
    told = []
    with calibrator.recorder(on_error=told.append) as recorder:
        recorder.put(make_call(0, request_id="a"))
        recorder.flush()
        calls = [make_call(i, request_id=f"id {i}") for i in range(1, 30)]
        calls[3] = make_call(3, prompt_tokens=-1)
        calls[7] = make_call(7, request_id="a")  # with other numbers
        calls[9] = make_call(0, request_id="a")
        calls[11] = make_call(11, request_id="id 11")
        calls[20] = make_call(20, actual_ms=float("nan"))
        for call in [*calls, None, "call", {"model": "m", "prompt_tokens": 1, "actual_ms": 1.0}]:
            recorder.put(call)
        assert recorder.flush()
    assert recorder.skipped == {"refused": 6, "duplicate": 2}
    assert [type(error).__name__ for error in told].count("RequestConflictError") == 1
    assert len(told) == 6
    found = {call.request_id for call in calibrator.calls()}
    assert found == {"a"} | {f"id {i}" for i in range(1, 30) if i - 1 not in {3, 7, 9, 11, 20}}
    assert recorder.recorded == len(found)


def test_a_call_without_a_time_was_made_when_it_was_put(calibrator, ledger_path):
    calibrator.record("m", 1, 1.0)
    recorder = calibrator.recorder()
    with locked(ledger_path):
        before = datetime.now(UTC)
        recorder.put(Call("m", 1, 2, 3.0))
        after = datetime.now(UTC)
        time.sleep(0.1)
    recorder.close()
    (call,) = calibrator.calls(last=1)
    assert before - timedelta(microseconds=1) <= call.called_at <= after


def test_a_prior_that_fails_costs_the_calls_of_its_model_alone(ledger_path, make_call):
    def prior(model):
        if model == "odd":
            raise ZeroDivisionError
        return (1.0, 1.0, 1.0)

    told = []
    with AdaptiveCalibrator(ledger_path, prior=prior) as calibrator:
        recorder = calibrator.recorder(on_error=told.append)
        for i in range(6):
            recorder.put(make_call(i, model="odd" if i % 2 else "even"))
        recorder.close()
        assert (recorder.recorded, recorder.skipped) == (3, {"refused": 3})
        assert [type(one.__cause__) for one in told] == [ZeroDivisionError] * 3
        assert calibrator.audit() == []


def test_a_rule_of_tomorrow_stops_the_calls_of_its_model_alone(calibrator, ledger_path, make_call):
    calibrator.record("tomorrow", 1, 2.0)
    calibrator.record("m", 1, 2.0)
    change = "UPDATE calibrations SET rule = ? WHERE model_id = 1"
    with closing(sqlite3.connect(ledger_path)) as other, other:
        other.execute(change, ("future.1",))
    told = []
    recorder = calibrator.recorder(on_error=told.append)
    for i in range(6):
        recorder.put(make_call(i, model="tomorrow" if i % 2 else "m"))
    assert not recorder.flush()
    assert (recorder.recorded, recorder.waiting, [type(one) for one in told]) == (
        *(3, 3),
        [StoredRuleError],
    )
    with closing(sqlite3.connect(ledger_path)) as other, other:
        other.execute(change, ("ema.1",))
    assert recorder.flush()
    assert recorder.recorded == 6


def test_what_is_skipped_is_counted_by_reason(calibrator):
    recorder = calibrator.recorder()
    for reason in ("failed", "timeout", "failed"):
        recorder.skip(reason)
    assert recorder.skipped == {"failed": 2, "timeout": 1}
    with pytest.raises(TypeError):
        recorder.skipped["failed"] = 0
    recorder.close()
    recorder.skip("failed")
    assert recorder.skipped["failed"] == 3


def test_a_ledger_in_memory_is_recorded_to_as_any_other(make_call):
    with AdaptiveCalibrator(":memory:") as calibrator:
        recorder = calibrator.recorder()
        for i in range(5):
            recorder.put(make_call(i))
        recorder.close()
        assert len(list(calibrator.calls())) == recorder.recorded == 5


# -- put() never waits and never raises -----------------------------------------------------


@pytest.mark.skipif(sys.gettrace() is not None, reason="what counts the lines takes longer")
def test_put_takes_microseconds(calibrator, make_call):
    calibrator.record("m", 1, 1.0)
    recorder, call, took = calibrator.recorder(), make_call(), []
    for _ in range(5):
        for _ in range(100):
            start = time.perf_counter_ns()
            recorder.put(call)
            took.append(time.perf_counter_ns() - start)
        recorder.flush()
    assert statistics.median(took) < 5_000
    assert recorder.recorded == 500


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers")
def test_a_signal_handler_may_put_in_the_middle_of_a_put(calibrator, make_call):
    recorder, handled = calibrator.recorder(size=100_000), itertools.count()
    call = make_call()

    def handle(*_):
        next(handled)
        recorder.put(call)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        count = 0
        end = time.monotonic() + 0.3
        while time.monotonic() < end and count < 2_000:
            recorder.put(call)
            count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert recorder.flush(60)
    assert recorder.recorded == count + next(handled)


def test_a_finalizer_may_put_in_the_middle_of_a_put(calibrator, make_call):
    recorder, call, finalized = calibrator.recorder(size=100_000), make_call(), itertools.count()

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            next(finalized)
            recorder.put(call)

    before = gc.get_threshold()
    gc.set_threshold(10)
    try:
        for _ in range(500):
            Cycle()
            recorder.put(call)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert recorder.flush(60)
    assert recorder.recorded == 500 + next(finalized) == 1_000


@pytest.mark.both
def test_many_threads_may_put_at_once(calibrator):
    recorder = calibrator.recorder(size=2_000)

    def put(thread):
        for i in range(50):
            recorder.put(Call("m", thread, i, 100.0 + i, request_id=f"{thread} {i}"))

    together(*(lambda thread=thread: put(thread) for thread in range(32)))
    recorder.close()
    assert recorder.recorded == 1_600
    assert len({call.request_id for call in calibrator.calls("m")}) == 1_600


def test_many_event_loops_may_put_at_once(calibrator, make_call):
    recorder = calibrator.recorder()

    async def put():
        for i in range(10):
            recorder.put(make_call(i))
            await asyncio.sleep(0)

    async def work():
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(put())
        assert await asyncio.to_thread(recorder.flush, 10)

    with ThreadPoolExecutor() as pool:
        for future in [pool.submit(asyncio.run, work()) for _ in range(4)]:
            future.result()
    assert recorder.recorded == 200


def test_several_recorders_may_share_a_ledger(calibrator, make_call):
    recorders = [calibrator.recorder(), calibrator.recorder(size=50), calibrator.recorder()]
    for i in range(60):
        recorders[i % 3].put(make_call(i))
    for recorder in recorders:
        recorder.close()
    assert [recorder.recorded for recorder in recorders] == [20, 20, 20]
    assert len(list(calibrator.calls())) == 60


# -- a bounded queue, and a ledger that is held by others ------------------------------------


def test_a_full_queue_drops_what_comes_and_says_so_once(ledger_path, hasty, make_call):
    told = []
    recorder = hasty.recorder(size=10, on_error=told.append)
    with locked(ledger_path):
        for i in range(25):
            recorder.put(make_call(i))
        assert (recorder.waiting, recorder.dropped, counted(recorder)) == (10, 15, 25)
        assert soon(lambda: told)
        for i in range(5):
            recorder.put(make_call(i))
        time.sleep(0.2)
    assert recorder.flush()
    assert (recorder.recorded, recorder.dropped) == (10, 20)
    assert [type(one) for one in told] in ([CallsDroppedError], [LedgerBusyError])
    assert [call.actual_ms for call in hasty.calls(MODEL)] == [
        make_call(i).actual_ms for i in range(10)
    ]


def test_a_ledger_that_was_locked_for_a_while_loses_nothing(calibrator, ledger_path, make_call):
    calibrator.record("m", 1, 1.0)
    told, took = [], []
    recorder = calibrator.recorder(on_error=told.append)
    with locked(ledger_path):
        for i in range(1_000):
            start = time.perf_counter()
            recorder.put(make_call(i))
            took.append(time.perf_counter() - start)
        assert not recorder.flush(0.3)
        assert recorder.waiting == 1_000
    assert recorder.flush(20)
    assert (recorder.recorded, recorder.dropped, told) == (1_000, 0, [])
    assert statistics.quantiles(took, n=100)[-1] < 0.005


def test_close_gives_up_at_its_deadline_and_counts_what_is_lost(ledger_path, hasty, make_call):
    recorder = hasty.recorder()
    with locked(ledger_path):
        for i in range(5):
            recorder.put(make_call(i))
        start = time.monotonic()
        with pytest.warns(NotRecordedWarning):
            recorder.close(0.2)
        assert 0.2 <= time.monotonic() - start < 3.0
    assert (recorder.recorded, recorder.dropped, recorder.waiting) == (0, 5, 0)
    assert len(list(hasty.calls())) == 1


@given(
    st.lists(
        st.sampled_from(["put", "put", "put 3", "bad", "duplicate", "nothing", "lock", "flush"]),
        max_size=25,
    )
)
def test_every_call_is_recorded_skipped_dropped_or_waiting(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("any") / "calls.db"
    numbers, there, told = itertools.count(), 0, []
    with (
        AdaptiveCalibrator(path, timeout_s=0.01) as calibrator,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        calibrator.record("m", 1, 1.0, request_id="first")
        recorder = calibrator.recorder(size=4, on_error=told.append)
        is_locked = False
        for step in steps:
            calls = {
                "put": [Call("m", 1, 1, 100.0 + next(numbers))],
                "put 3": [Call("m", 2, 2, 50.0 + next(numbers)) for _ in range(3)],
                "bad": [Call("m", -1, 1, 1.0)],
                "duplicate": [Call("m", 1, 0, 1.0, request_id="first")],
                "nothing": [None],
            }.get(step, [])
            for call in calls:
                recorder.put(call)
            there += len(calls)
            if step == "lock":
                other.execute("ROLLBACK" if is_locked else "BEGIN IMMEDIATE")
                is_locked = not is_locked
            if step == "flush" and not is_locked:
                assert recorder.flush()
                assert recorder.waiting == 0
            assert recorder.waiting <= 4
        if is_locked and "flush" not in steps:
            other.execute("ROLLBACK")
            is_locked = False
        recorder.close(0.0 if is_locked else 10.0)
        assert counted(recorder) == there
        assert recorder.waiting == 0
        if is_locked:
            other.execute("ROLLBACK")
        assert len(list(calibrator.calls())) == 1 + recorder.recorded
        assert calibrator.audit() == []


# -- a ledger that cannot be used -----------------------------------------------------------


def test_an_outdated_ledger_is_told_once_and_recorded_to_once_it_is_upgraded(
    calibrator, ledger_path, make_call
):
    calibrator.record("m", 1, 1.0)
    today = set_revision(ledger_path, "0003")
    told = []
    recorder = calibrator.recorder(size=10, on_error=told.append)
    for i in range(5):
        recorder.put(make_call(i))
    assert not recorder.flush()
    for i in range(10):
        recorder.put(make_call(5 + i))
    assert not recorder.flush()
    assert [type(one) for one in told] == [LedgerOutdatedError]
    assert (recorder.waiting, recorder.dropped) == (10, 5)
    set_revision(ledger_path, today)
    assert recorder.flush()
    assert (recorder.recorded, recorder.dropped) == (10, 5)


def test_a_folder_that_is_missing_costs_nothing_once_it_is_there(tmp_path, make_call):
    folder, told = tmp_path / "folder", []
    folder.mkdir()
    calibrator = AdaptiveCalibrator(folder / "calls.db")
    recorder = calibrator.recorder(on_error=told.append)
    folder.rmdir()
    recorder.put(make_call())
    assert not recorder.flush()
    assert [type(one) for one in told] == [LedgerPathError]
    folder.mkdir()
    assert recorder.flush()
    calibrator.close()
    with AdaptiveCalibrator(folder / "calls.db") as again:
        assert len(list(again.calls())) == 1
        assert again.audit() == []


def test_a_ledger_that_nobody_mends_loses_what_waits_at_the_end_without_a_wait(
    calibrator, ledger_path, make_call
):
    calibrator.record("m", 1, 1.0)
    today = set_revision(ledger_path, "0003")
    recorder = calibrator.recorder(on_error=lambda _: None)
    recorder.put(make_call())
    start = time.monotonic()
    recorder.close()
    assert time.monotonic() - start < 5.0
    assert (recorder.dropped, recorder.waiting) == (1, 0)
    set_revision(ledger_path, today)


# -- on_error -------------------------------------------------------------------------------


def test_the_first_error_of_a_kind_is_a_warning_and_the_others_are_counted(calibrator, make_call):
    recorder = calibrator.recorder()
    for i in range(5):
        recorder.put(make_call(i, prompt_tokens=-1))
    with pytest.warns(NotRecordedWarning, match="prompt_tokens must be") as caught:
        recorder.close()
    assert len(caught) == 1
    assert recorder.skipped == {"refused": 5}


def test_an_error_is_raised_by_flush_or_close_where_that_is_asked_for(calibrator, make_call):
    recorder = calibrator.recorder(on_error="raise")
    recorder.put(make_call(prompt_tokens=-1))
    recorder.put(make_call(completion_tokens=-1))
    with pytest.raises(InvalidInputError, match="prompt_tokens"):
        recorder.flush()
    assert recorder.flush()
    recorder.put(make_call(prompt_tokens=-1))
    recorder.put(make_call())
    with pytest.raises(InvalidInputError, match="prompt_tokens"):
        recorder.close()
    recorder.close()
    assert (recorder.recorded, recorder.skipped) == (1, {"refused": 3})


@pytest.mark.parametrize("error", [SystemError, SystemExit, asyncio.CancelledError])
def test_what_on_error_raises_itself_reaches_no_put_and_stops_nothing(calibrator, make_call, error):
    def fail(_):
        raise error("mine")

    recorder = calibrator.recorder(on_error=fail)
    recorder.put(make_call(prompt_tokens=-1))
    recorder.put(make_call())
    with pytest.raises(error, match="mine"):
        recorder.flush(5)
    recorder.put(make_call(1))
    recorder.close()
    assert recorder.recorded == 2


@pytest.mark.filterwarnings("error")
def test_warnings_that_are_errors_reach_no_put_and_stop_nothing(calibrator, make_call):
    recorder = calibrator.recorder()
    recorder.put(make_call(prompt_tokens=-1))
    recorder.put(make_call())
    recorder.put(make_call(1, actual_ms=0.0))  # looks wrong
    with pytest.raises(NotRecordedWarning):
        recorder.flush()
    recorder.put(make_call(2))
    recorder.close()
    assert recorder.recorded == 3


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_call_that_looks_wrong_is_recorded_with_a_warning(calibrator, make_call, on_error):
    recorder = calibrator.recorder(on_error=on_error)
    with warnings.catch_warnings(record=True) as caught:
        for i in range(3):
            recorder.put(make_call(i, actual_ms=0.0))
            recorder.flush()
    assert [one.category for one in caught] == [DoubtfulCallWarning]
    assert "void" in str(caught[0].message)
    assert recorder.recorded == 3


def test_a_fault_that_cannot_be_told_in_words_reaches_nobody(calibrator):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError("mute")

        __repr__ = __str__

    told = []
    with calibrator.recorder(on_error=told.append) as recorder:
        recorder.fail(MuteError())
    assert "MuteError" in str(told[0])


def test_what_is_told_of_a_fault_quotes_no_prompt_and_no_answer(calibrator):
    told = []
    recorder = calibrator.recorder(on_error=told.append)
    try:
        b"canary\xff".decode()
    except UnicodeDecodeError as error:
        recorder.fail(error)
    for wrong in ("canary", {"content": "canary"}, ["canary"]):
        recorder.put(wrong)
    recorder.close()
    assert len(told) == 4
    assert [error for error in told if "canary" in f"{error} {error!r}"] == []
    assert "UnicodeDecodeError" in str(told[0])
    assert isinstance(told[0].__cause__, UnicodeDecodeError)


def test_on_error_may_use_the_recorder_itself(calibrator, make_call):
    are_put = threading.Event()

    def on_error(_):
        assert are_put.wait(10)
        recorder.put(make_call(1))
        recorder.skip("odd")
        assert not recorder.flush(5)  # it would wait for itself
        recorder.close()

    recorder = calibrator.recorder(on_error=on_error)
    recorder.put(make_call(prompt_tokens=-1))
    recorder.put(make_call())
    are_put.set()
    assert recorder.flush()
    recorder.close()
    recorder.put(make_call())
    assert recorder.recorded == 2
    assert (recorder.skipped, recorder.dropped) == ({"refused": 1, "odd": 1}, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"size": size} for size in (0, -1, 1.5, True, "10", None)),
        *({"on_error": one} for one in ("ignore", None, 3, b"warn", ["warn"])),
    ],
    ids=str,
)
def test_a_recorder_refuses_what_it_cannot_follow(calibrator, wrong):
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        calibrator.recorder(**wrong)


@pytest.mark.parametrize("wrong", [-1, "1", float("nan"), True])
def test_times_to_wait_are_checked(calibrator, wrong):
    recorder = calibrator.recorder()
    for wait in (recorder.flush, recorder.close):
        with pytest.raises(InvalidInputError, match="timeout_s"):
            wait(wrong)


# -- the end --------------------------------------------------------------------------------


def test_what_is_put_behind_the_end_is_dropped_and_counted(calibrator, make_call):
    with calibrator.recorder() as recorder:
        recorder.put(make_call())
    recorder.put(make_call())
    recorder.close()
    assert (recorder.recorded, recorder.dropped, recorder.waiting) == (1, 1, 0)


def test_a_calibrator_that_is_closed_first_records_what_was_put(ledger_path, make_call):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        recorders = [calibrator.recorder(), calibrator.recorder()]
        for i in range(6):
            recorders[i % 2].put(make_call(i))
    for recorder in recorders:
        recorder.put(make_call())
        assert (recorder.recorded, recorder.dropped) == (3, 1)
    with pytest.raises(LedgerClosedError):
        calibrator.recorder()
    with AdaptiveCalibrator(ledger_path) as again:
        assert len(list(again.calls())) == 6
        assert again.audit() == []


def test_a_calibrator_is_closed_whatever_its_recorders_raise(ledger_path, make_call):
    calibrator = AdaptiveCalibrator(ledger_path)
    bad, good = calibrator.recorder(on_error="raise"), calibrator.recorder()
    bad.put(make_call(prompt_tokens=-1))
    good.put(make_call())
    with pytest.raises(InvalidInputError, match="prompt_tokens"):
        calibrator.close()
    assert good.recorded == 1
    with pytest.raises(LedgerClosedError):
        calibrator.record("m", 1, 1.0)


def test_a_recorder_that_is_dropped_loses_nothing_and_keeps_nothing_open(ledger_path, make_call):
    calibrator = AdaptiveCalibrator(ledger_path)
    recorder = calibrator.recorder()
    for i in range(20):
        recorder.put(make_call(i))
    gone = [weakref.ref(one) for one in (calibrator, recorder, recorder._queue())]
    gc.disable()
    try:
        del recorder, calibrator
        assert soon(lambda: [one() for one in gone] == [None] * 3)
    finally:
        gc.enable()
    assert not ledger_path.with_name("calls.db-wal").exists()  # every connection is closed
    with AdaptiveCalibrator(ledger_path) as again:
        assert len(list(again.calls())) == 20
        assert again.audit() == []


def test_a_log_tells_why_each_call_was_not_learnt_from(calibrator, caplog):
    class Broken(logging.Handler):
        def handle(self, record):  # what the program's own handlers raise is kept from it
            raise OSError(record)

    log = logging.getLogger("calibration_ledger")
    with calibrator.recorder() as recorder:
        recorder.skip("failed")
        assert caplog.messages == []
        with caplog.at_level("DEBUG", log.name):
            recorder.skip("unknown tokens")
            assert caplog.messages == ["a call is not learnt from: unknown tokens"]
            log.addHandler(broken := Broken())
            try:
                recorder.skip("failed")
            finally:
                log.removeHandler(broken)
        assert recorder.skipped == {"failed": 2, "unknown tokens": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_recorder_that_was_closed_keeps_no_file_open(ledger_path, make_call):
    from pathlib import Path

    with AdaptiveCalibrator(ledger_path) as calibrator:
        recorder = calibrator.recorder()
        recorder.put(make_call())
        recorder.close()
    links = [one.resolve().name for one in Path("/proc/self/fd").iterdir() if one.exists()]
    assert [name for name in links if name in {"calls.db", "calls.db-wal", "calls.db-shm"}] == []


def test_a_recorder_is_shown_with_its_counts_and_cannot_be_copied(calibrator, make_call):
    with calibrator.recorder() as recorder:
        recorder.put(make_call())
        assert "0 skipped, 0 dropped" in repr(recorder)
        for reason in ("failed", "failed", "timeout"):
            recorder.skip(reason)
    assert repr(recorder) == (
        f"<Recorder of {calibrator.ledger!r}: 1 recorded, 3 skipped (failed: 2, timeout: 1), "
        "0 dropped, 0 waiting>"
    )
    assert isinstance(recorder, Recorder)
    for make_copy in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(NotCopiableError):
            make_copy(recorder)
