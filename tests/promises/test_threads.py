"""One calibrator, many threads, on both databases: pools, asyncio, and threads that die."""

import asyncio
import contextlib
import ctypes
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.transaction import Transaction

pytestmark = pytest.mark.both


def ids_of(calibrator, model="m"):
    return sorted(call.request_id for call in calibrator.calls(model))


@pytest.mark.parametrize("calls", [6, pytest.param(300, marks=pytest.mark.stress)])
def test_a_pool_of_thirty_two_threads_shares_a_calibrator(calibrator, calls):
    start = threading.Barrier(32)

    def work(worker):
        start.wait()
        for i in range(calls):
            error_ms = calibrator.record(
                "m", i, 100.0 + worker, completion_tokens=5, request_id=f"{worker}-{i}"
            )
            seen = calibrator.predict("m", i).sample_count
            assert seen > i
            assert isinstance(error_ms, float)
        return next(iter(calibrator.calls("m", last=1))).seq

    with ThreadPoolExecutor(32) as pool:
        assert max(pool.map(work, range(32))) == 1 + 32 * calls
    assert ids_of(calibrator) == sorted(f"{w}-{i}" for w in range(32) for i in range(calls))


def test_asyncio_to_thread_records_and_predicts_while_the_loop_goes_on(calibrator):
    async def tick(ended):
        ticks = 0
        while not ended.is_set():
            await asyncio.sleep(0)
            ticks += 1
        return ticks

    async def work():
        ended = asyncio.Event()
        ticking = asyncio.create_task(tick(ended))
        calls = [
            asyncio.to_thread(
                calibrator.record, "m", i, 100.0 + i, completion_tokens=5, request_id=str(i)
            )
            for i in range(64)
        ]
        reads = [asyncio.to_thread(calibrator.predict, "m", i) for i in range(64)]
        answers = await asyncio.gather(*calls, *reads)
        ended.set()
        return answers, await ticking

    answers, ticks = asyncio.run(work())
    assert all(isinstance(answer, float) for answer in answers[:64])
    assert ticks > 1
    assert ids_of(calibrator) == sorted(map(str, range(64)))


def in_thread(action):
    """Run it in a thread, to its end, whatever that is."""

    def run():
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - a thread that dies says so to nobody
            ends.append(error)

    ends = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return ends


def test_a_thread_that_dies_in_the_middle_of_a_write_takes_nothing_with_it(ledger, monkeypatch):
    """Neither the lock, nor a transaction left open, nor half a call."""
    save = Transaction.save
    with AdaptiveCalibrator(ledger, timeout_s=5.0) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="before")
        for i in range(3):
            monkeypatch.setattr(Transaction, "save", die)
            (end,) = in_thread(lambda i=i: calibrator.record("m", 3, 4.0, request_id=f"dead {i}"))
            assert isinstance(end, SystemExit)
            monkeypatch.setattr(Transaction, "save", save)
            calibrator.record("m", 5, 6.0, request_id=f"after {i}")
            assert in_thread(lambda i=i: calibrator.record("m", 5, 6.0, request_id=f"b {i}")) == []
            with AdaptiveCalibrator(ledger, timeout_s=5.0) as other:
                other.record("m", 7, 8.0, request_id=f"other {i}")
        kinds = ("after", "b", "other")
        assert ids_of(calibrator) == sorted(
            ["before", *(f"{k} {i}" for k in kinds for i in range(3))]
        )
        assert calibrator.audit() == []


def die(*_):
    raise SystemExit


def test_threads_that_end_leave_their_connections_to_those_that_come(calibrator):
    calibrator.record("m", 1, 2.0, request_id="first")
    for i in range(40):
        assert in_thread(lambda i=i: calibrator.record("m", 1, 2.0, request_id=str(i))) == []
        assert in_thread(lambda: calibrator.predict("m", 1)) == []
    assert calibrator.predict("m", 1).sample_count == 41
    connections = calibrator._ledger.backend._connections
    if hasattr(connections, "_kept"):  # SQLite's
        held = [one for kept in connections._kept.values() for one in kept]
        still_open = [one for one in held if not one.connection.is_closed]
    else:
        still_open = [one for one in connections._all if one.connection.is_valid]
    assert 0 < len(still_open) <= 4


class Killed(BaseException):
    """What a thread is killed with."""


@pytest.mark.parametrize("threads", [10, pytest.param(500, marks=pytest.mark.stress)])
def test_threads_killed_at_any_point_of_a_call_lose_nothing_acknowledged(ledger, threads):
    """As Ctrl-C does to the main thread, between any two steps of the interpreter."""
    acknowledged = []

    def work(worker):
        for i in range(10**9):
            name = f"{worker}-{i}"
            calibrator.record("m", 1, 2.0 + i, request_id=name)
            acknowledged.append(name)

    def work_until_killed(worker):
        with contextlib.suppress(Killed):
            work(worker)

    with AdaptiveCalibrator(ledger, timeout_s=10.0) as calibrator:
        calibrator.record("m", 1, 1.0, request_id="before")
        for worker in range(threads):
            pair = [
                threading.Thread(target=work_until_killed, args=(f"{worker}{side}",))
                for side in "ab"
            ]
            for thread in pair:
                thread.start()
            for thread in pair:
                time.sleep(random.uniform(0.0, 0.02))
                kill(thread)
        stored = ids_of(calibrator)
        assert len(set(stored)) == len(stored)
        assert set(acknowledged) <= set(stored)
        assert len(stored) - len(acknowledged) <= 1 + 2 * threads
        calibrator.record("m", 1, 1.0, request_id="after")
        assert calibrator.audit() == []


def kill(thread):
    """Raise `Killed` in it until it has ended: some code swallows what comes at a bad moment."""
    while thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Killed)
        )
        thread.join(0.05)
