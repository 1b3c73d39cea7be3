"""A model's row is locked before it is read; what gets in the way is tried again, whole."""

import os
import signal
import time
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import LedgerBusyError, NotRecordedError
from support.reference import LOCAL_PRIOR, Ema, dump, entries_of
from support.steps import (
    GATE,
    fail_tries,
    on_commit,
    on_insert,
    shut_gate,
    tries,
    wait_until,
    waiting,
)


@pytest.fixture
def opened(calibrator):
    """A ledger with a model, so that its row is there to be locked."""
    calibrator.record_many([Call("a", 10, 5, 900.0), Call("b", 10, 5, 900.0)])
    return calibrator


# -- one after the other --------------------------------------------------------------------


def test_the_row_is_locked_before_it_is_read(postgres, database, run, url, opened, pool):
    on_insert(run, GATE)
    with shut_gate(postgres, database) as open_gate:
        first = pool.submit(opened.record, "a", 20, 1000.0, completion_tokens=7)
        wait_until(lambda: waiting(run, "advisory"))
        second = pool.submit(opened.record, "a", 30, 2000.0, completion_tokens=9)
        # The second has asked for its row, and knows nothing yet: it waits for the first to end.
        ((_, statement),) = wait_until(lambda: waiting(run, "transactionid"))
        assert "FOR UPDATE OF calibrations" in statement
        open_gate()
        errors = [first.result(), second.result()]
    expected = Ema(0.15, *LOCAL_PRIOR)
    expected.learn(10, 5, 900.0)
    assert errors == [expected.learn(20, 7, 1000.0)[1], expected.learn(30, 9, 2000.0)[1]]
    assert [entry["seq"] for entry in entries_of(url, "a")] == [1, 2, 3, 4]


def test_readers_wait_for_nobody(postgres, database, run, opened, pool):
    on_insert(run, GATE)
    with shut_gate(postgres, database) as open_gate:
        before = opened.calibration("a")
        writing = pool.submit(opened.record, "a", 20, 1000.0, completion_tokens=7)
        wait_until(lambda: waiting(run, "advisory"))
        assert opened.calibration("a") == before
        assert opened.audit() == []
        open_gate()
        writing.result()


def test_models_share_nothing(postgres, database, run, opened, pool):
    on_insert(run, f"IF NEW.model_id = 1 THEN {GATE} END IF;")
    with shut_gate(postgres, database) as open_gate:
        writing = pool.submit(opened.record, "a", 20, 1000.0, completion_tokens=7)
        wait_until(lambda: waiting(run, "advisory"))
        opened.record("b", 20, 1000.0, completion_tokens=7)
        opened.record("new", 20, 1000.0, completion_tokens=7)
        open_gate()
        writing.result()


def test_a_new_model_is_opened_once_by_two_at_once(postgres, database, run, url, calibrator, pool):
    on_insert(run, GATE, "adjustments")
    with shut_gate(postgres, database) as open_gate:
        both = [
            pool.submit(calibrator.record, "new", i, 1000.0, completion_tokens=7) for i in range(2)
        ]
        wait_until(lambda: waiting(run, "advisory"))
        wait_until(lambda: waiting(run, "transactionid"))
        open_gate()
        for recording in both:
            recording.result()
    kinds = [entry["kind"] for entry in entries_of(url, "new")]
    assert kinds == ["opened", "call", "call"]


def test_a_model_that_another_thread_opens_in_between_is_no_damage(calibrator, pool):
    rounds = []

    def open_late(transaction):
        found = transaction.load("m")
        rounds.append(found)
        if found is None:
            pool.submit(calibrator.record, "m", 10, 900.0).result()
            pool.submit(calibrator.predict, "m", 10).result()
            transaction.add_model("m")
        return found

    assert calibrator._ledger.write(open_late) is not None
    assert rounds[0] is None
    assert len(rounds) == 2


def test_order_is_by_seq_and_not_by_the_callers_clock(calibrator, make_call):
    calls = [make_call(i, "m") for i in (5, 1, 9, 3)]
    calibrator.record_many(calls)
    assert [call.called_at for call in calibrator.calls("m")] == [c.called_at for c in calls]
    assert [call.seq for call in calibrator.calls("m")] == [2, 3, 4, 5]


# -- tried again ----------------------------------------------------------------------------


def test_a_deadlock_is_retried_whole(postgres, database, run, opened, pool):
    """Somebody's SQL locks `b`, then `a`; the batch locks `a`, then `b`, and is the victim."""
    on_insert(run, f"PERFORM nextval('tries'); IF NEW.model_id = 1 THEN {GATE} END IF;")
    lock = "SELECT 1 FROM calibrations WHERE model_id = {} FOR UPDATE"
    with shut_gate(postgres, database) as open_gate, closing(postgres.connect(database)) as other:
        other.execute("SET deadlock_timeout = '1min'")  # who looks first is the victim
        other.execute("BEGIN")
        other.execute(lock.format(2))
        batch = [Call("b", 30, 9, 950.0), Call("a", 20, 7, 1000.0)]
        writing = pool.submit(opened.record_many, batch)
        wait_until(lambda: waiting(run, "advisory"))
        locking = pool.submit(other.execute, lock.format(1))
        wait_until(lambda: waiting(run, "transactionid"))
        open_gate()
        locking.result(timeout=20)  # the batch gave way
        other.execute("COMMIT")
        errors = writing.result(timeout=20)
    assert tries(run) == 3  # a; then a and b
    expected = [Ema(0.15, *LOCAL_PRIOR), Ema(0.15, *LOCAL_PRIOR)]
    for state in expected:
        state.learn(10, 5, 900.0)
    assert errors == [expected[0].learn(30, 9, 950.0)[1], expected[1].learn(20, 7, 1000.0)[1]]


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
@pytest.mark.parametrize("hook", [on_insert, on_commit])
def test_what_the_server_undid_is_tried_again(run, opened, sqlstate, hook):
    hook(run, fail_tries(3, sqlstate))
    opened.record("a", 20, 1000.0, completion_tokens=7, request_id="r")
    assert tries(run) == 4
    assert [call.request_id for call in opened.calls("a")] == [None, "r"]


@pytest.mark.parametrize("hook", [on_insert, on_commit])
def test_it_is_tried_until_the_deadline_and_no_longer(run, url, opened, hook):
    hook(run, fail_tries(1_000_000, "40001"))
    rows = dump(url)
    with AdaptiveCalibrator(url, timeout_s=0.5) as calibrator:
        started = time.monotonic()
        with pytest.raises(LedgerBusyError, match=r"for 0.5 s\. Nothing was recorded"):
            calibrator.record("a", 20, 1000.0, completion_tokens=7)
        assert time.monotonic() - started < 3.0
    assert 3 <= tries(run) <= 60, "it neither gives up nor hammers the server"
    assert dump(url) == rows


@pytest.mark.parametrize("hook", [on_insert, on_commit])
def test_what_will_fail_again_is_not_tried_again(run, url, opened, hook):
    hook(run, fail_tries(1, "23514"))
    rows = dump(url)
    with pytest.raises(NotRecordedError, match=r"on purpose.* Nothing was recorded"):
        opened.record("a", 20, 1000.0, completion_tokens=7)
    assert tries(run) == 1
    assert dump(url) == rows
    opened.record("a", 20, 1000.0, completion_tokens=7)  # and the connection is none the worse


def test_a_read_is_tried_again_too(run, opened):
    """A database may default to SERIALIZABLE, where a single SELECT can fail."""
    run(
        "CREATE SEQUENCE tries",
        "ALTER TABLE calls RENAME TO calls_kept",
        "CREATE FUNCTION failing() RETURNS SETOF calls_kept LANGUAGE plpgsql AS"
        f" $$ BEGIN {fail_tries(2, '40001')} RETURN QUERY SELECT * FROM calls_kept; END $$",
        "CREATE VIEW calls AS SELECT * FROM failing()",
    )
    assert len(list(opened.calls("a"))) == 1
    assert tries(run) == 3


# -- waiting --------------------------------------------------------------------------------


def test_a_lock_is_waited_for_until_the_deadline(postgres, database, url, opened):
    rows = dump(url)
    with closing(postgres.connect(database)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM calibrations FOR UPDATE")
        with AdaptiveCalibrator(url, timeout_s=0.4) as calibrator:
            started = time.monotonic()
            with pytest.raises(LedgerBusyError, match=r"held by another.*Nothing was recorded"):
                calibrator.record("a", 20, 1000.0, completion_tokens=7)
            assert 0.35 < time.monotonic() - started < 3.0
    assert dump(url) == rows
    opened.record("a", 20, 1000.0, completion_tokens=7)


def test_a_timeout_of_nothing_waits_for_nothing(postgres, database, url, opened):
    with closing(postgres.connect(database)) as other:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM calibrations FOR UPDATE")
        with AdaptiveCalibrator(url, timeout_s=0) as calibrator, pytest.raises(LedgerBusyError):
            calibrator.record("a", 20, 1000.0, completion_tokens=7)


def test_many_locks_together_wait_no_longer_than_one(postgres, database, run, url, opened, pool):
    """The time is lost piece by piece, at every model of a batch."""
    names = [f"m{i}" for i in range(8)]
    opened.record_many([Call(name, 10, 5, 900.0) for name in names])
    on_insert(run, "PERFORM pg_sleep(0.2);")
    with closing(postgres.connect(database)) as other:
        other.execute("BEGIN")
        other.execute(
            "SELECT 1 FROM calibrations JOIN models ON id = model_id WHERE model = 'm4'"
            " FOR UPDATE OF calibrations"
        )
        with AdaptiveCalibrator(url, timeout_s=1.0) as calibrator:
            started = time.monotonic()
            with pytest.raises(LedgerBusyError):
                calibrator.record_many([Call(name, 10, 5, 900.0) for name in names])
            assert time.monotonic() - started < 1.7, "0.8 s of work, then at most the rest"


def test_a_holder_that_stands_still_keeps_others_no_longer_than_their_deadline(
    postgres, database, run, url, opened, pool
):
    """The server's process of a writer is stopped while it holds the row, then goes on."""
    if postgres.folder is None:
        pytest.skip("the server's processes are not on this machine")
    on_insert(run, f"IF NEW.prompt_tokens = 77 THEN {GATE} END IF;")
    with shut_gate(postgres, database) as open_gate:
        holding = pool.submit(opened.record, "a", 77, 1000.0, completion_tokens=7)
        ((pid, _),) = wait_until(lambda: waiting(run, "advisory"))
        os.kill(pid, signal.SIGSTOP)
        try:
            open_gate()
            with AdaptiveCalibrator(url, timeout_s=0.5) as calibrator:
                started = time.monotonic()
                with pytest.raises(LedgerBusyError):
                    calibrator.record("a", 20, 1000.0, completion_tokens=7)
                assert time.monotonic() - started < 3.0
                calibrator.record("b", 20, 1000.0, completion_tokens=7)
        finally:
            os.kill(pid, signal.SIGCONT)
        holding.result(timeout=20)
    assert [call.prompt_tokens for call in opened.calls("a")] == [10, 77]
