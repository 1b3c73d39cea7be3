"""A connection may die at any moment: what is certain is said, what is not is said too.

Before COMMIT was sent nothing can have been recorded, and the whole is run again. From then on it
cannot be known, and a `request_id` makes it safe to record again.
"""

import os
import signal
import time

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import LedgerError, NotRecordedError, OutcomeUnknownError
from support.reference import dump
from support.steps import (
    GATE,
    end_in_mid_commit,
    on_commit,
    on_insert,
    shut_gate,
    tries,
    wait_until,
    waiting,
)

OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
END = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}"


def ids_of(calibrator, model="m"):
    return [call.request_id for call in calibrator.calls(model)]


# -- ended by the server --------------------------------------------------------------------


def test_an_idle_connection_that_was_ended_is_replaced(run, calibrator):
    calibrator.record("m", 1, 2.0)
    run(END)
    calibrator.record("m", 1, 2.0)
    run(END)
    assert calibrator.predict("m", 1).sample_count == 2
    run(END)
    assert calibrator.audit() == []


def test_what_was_ended_before_its_commit_is_run_again(postgres, database, run, calibrator, pool):
    calibrator.record("m", 1, 2.0)
    on_insert(run, f"PERFORM nextval('tries'); {GATE}")
    with shut_gate(postgres, database) as open_gate:
        recording = pool.submit(calibrator.record, "m", 3, 4.0, request_id="r")
        ((pid, _),) = wait_until(lambda: waiting(run, "advisory"))
        run(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: tries(run) == 2)
        open_gate()
        recording.result(timeout=20)
    assert ids_of(calibrator) == [None, "r"]


def test_what_is_ended_again_and_again_was_not_recorded(run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    on_insert(run, "PERFORM nextval('tries'); PERFORM pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(NotRecordedError, match=r"administrator command.*Nothing was recorded"):
        calibrator.record("m", 3, 4.0)
    assert tries(run) == 3
    assert dump(url) == rows


def test_what_was_ended_inside_its_commit_has_an_unknown_outcome(
    postgres, database, run, url, calibrator, pool
):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    record = end_in_mid_commit(postgres, database, run, pool, calibrator)
    assert dump(url) == rows  # as it happens; the client cannot tell
    error = record()
    assert record() == error
    assert ids_of(calibrator) == [None, "r"]


def test_a_statement_that_was_cancelled_was_not_recorded(
    postgres, database, run, url, calibrator, pool
):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    for hook in (on_insert, on_commit):
        hook(run, GATE)
        with shut_gate(postgres, database) as open_gate:
            recording = pool.submit(calibrator.record, "m", 3, 4.0)
            ((pid, _),) = wait_until(lambda: waiting(run, "advisory"))
            run(f"SELECT pg_cancel_backend({pid})")
            with pytest.raises(NotRecordedError, match=r"user request.*Nothing was recorded"):
                recording.result(timeout=20)
            open_gate()
        assert dump(url) == rows


# -- the server itself ----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_an_open_calibrator_outlives_a_restart_of_the_server(postgres, calibrator, mode):
    calibrator.record("m", 1, 2.0)
    postgres.control("restart", "-m", mode)
    calibrator.record("m", 1, 2.0)
    postgres.control("restart", "-m", mode)
    assert calibrator.predict("m", 1).sample_count == 2


def test_a_server_that_is_down_is_a_typed_error_and_its_return_is_noticed(postgres, calibrator):
    calibrator.record("m", 1, 2.0)
    postgres.control("stop", "-m", "fast")
    try:
        with pytest.raises(NotRecordedError, match=r"no connection.*Nothing was recorded"):
            calibrator.record("m", 1, 2.0)
        with pytest.raises(LedgerError, match=r"no connection.*whether the server runs"):
            calibrator.predict("m", 1)
        with pytest.raises(LedgerError, match="no connection"):
            AdaptiveCalibrator(calibrator._ledger.place.url)
    finally:
        postgres.control("start")
    calibrator.record("m", 1, 2.0)


def test_a_crash_of_the_server_is_waited_for(postgres, run, calibrator):
    """One killed process of PostgreSQL's makes it end them all, and recover."""
    if postgres.folder is None:
        pytest.skip("the server's processes are not on this machine")
    for i in range(3):
        calibrator.record("m", 1, 2.0)
        ((pid,),) = run(f"SELECT pid FROM pg_stat_activity WHERE {OTHERS}")
        os.kill(pid, signal.SIGKILL)
        calibrator.record("m", 1, 2.0, request_id=str(i))
    assert calibrator.predict("m", 1).sample_count == 6


# -- the wire -------------------------------------------------------------------------------


def messages_of(proxy, use):
    """How many messages a call sends when nothing goes wrong."""
    proxy.cut_at(None)
    use()
    return proxy.messages


@pytest.mark.parametrize("delivered", [False, True], ids=["lost", "delivered"])
def test_the_wire_is_cut_at_every_message_of_a_record(proxy, calibrator, delivered):
    """Whatever is answered, recording again with the same id ends with the call there once."""
    outcomes = []
    calibrator.record("m", 1, 2.0)
    with AdaptiveCalibrator(proxy.url.render_as_string(hide_password=False)) as far:
        far.record("m", 1, 2.0, request_id="first")
        count = messages_of(proxy, lambda: far.record("m", 3, 4.0, request_id="whole"))
        assert count == 7, "BEGIN, the lock, the id, the call, its details, the state, COMMIT"
        for i in range(count):
            before = ids_of(calibrator)
            proxy.cut_at(i, delivered=delivered)
            try:
                far.record("m", 3, 4.0, request_id=f"cut-{i}")
                outcomes.append("recorded")
                assert ids_of(calibrator) == [*before, f"cut-{i}"]
            except OutcomeUnknownError:
                outcomes.append("unknown")
                expected = [*before, f"cut-{i}"] if delivered else before
                assert wait_until(lambda: ids_of(calibrator) == expected)  # noqa: B023 - at once
            far.record("m", 3, 4.0, request_id=f"cut-{i}")
            assert ids_of(calibrator) == [*before, f"cut-{i}"]
    assert outcomes == ["recorded"] * (count - 1) + ["unknown"]


def test_a_wire_that_is_cut_in_a_commit_lets_a_recorder_record_each_call_once(proxy, calibrator):
    """A batch whose outcome is unknown is recorded again: that it was there is no double."""
    told = []
    with AdaptiveCalibrator(proxy.url.render_as_string(hide_password=False)) as far:
        recorder = far.recorder(on_error=told.append)

        def put():
            for i in range(3):
                recorder.put(Call("m", i, 1, 2.0 + i))
            assert recorder.flush(20)

        put()
        put()
        count = messages_of(proxy, put)
        for delivered in (False, True):
            proxy.cut_at(count - 1, delivered=delivered)
            put()
        assert (recorder.recorded, recorder.skipped, recorder.dropped) == (15, {}, 0)
    assert [type(error) for error in told] == [OutcomeUnknownError] * 2
    assert len(ids_of(calibrator)) == len(set(ids_of(calibrator))) == 15


@pytest.mark.parametrize("delivered", [False, True], ids=["lost", "delivered"])
def test_the_wire_is_cut_at_every_message_of_a_batch(proxy, calibrator, delivered):
    batches = ([Call(model, i, 5, 9.0) for model in ("a", "b")] for i in range(1000))
    with AdaptiveCalibrator(proxy.url.render_as_string(hide_password=False)) as far:
        far.record_many(next(batches))
        far.record_many(next(batches))  # from here on it knows the ids of the models
        count = messages_of(proxy, lambda: far.record_many(next(batches)))
        for i in range(count):
            before = calibrator.heads()
            batch = next(batches)
            proxy.cut_at(i, delivered=delivered)
            try:
                far.record_many(batch)
            except OutcomeUnknownError:
                assert i == count - 1
                if not delivered:
                    assert calibrator.heads() == before
            after = {head.model: head.seq for head in calibrator.heads()}
            assert after["a"] == after["b"], "both or none"


def test_the_wire_is_cut_while_connecting_and_while_reading(proxy, calibrator):
    calibrator.record("m", 1, 2.0)
    url = proxy.url.render_as_string(hide_password=False)
    with AdaptiveCalibrator(url) as far:
        proxy.cut_at(0)
        assert far.predict("m", 1).sample_count == 1
        proxy.cut_at(0, delivered=True)
        assert far.audit() == []
    for i in range(2):
        proxy.cut_at(i)
        try:
            AdaptiveCalibrator(url).close()
        except LedgerError as error:
            assert "no connection" in str(error)  # noqa: PT017 - both ends are right


# -- a machine behind the server: on Citus, where the rows of a model may lie on another one ----
# What Citus says when its connection to that machine breaks is said here by a trigger.

LOST_MACHINE = "XX000"
STARTING = "connection to the remote node failed: FATAL: the database system is starting up"


def say(message, sqlstate, times):
    return (
        f"IF nextval('tries') <= {times} THEN RAISE EXCEPTION '{message}'"
        f" USING ERRCODE = '{sqlstate}'; END IF;"
    )


def test_a_machine_that_is_lost_inside_a_commit_leaves_an_unknown_outcome(run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    on_commit(run, say("could not commit transaction for shard 7", LOST_MACHINE, 1))
    with pytest.raises(OutcomeUnknownError, match=r"could not commit.*cannot be known"):
        calibrator.record("m", 3, 4.0, request_id="r")
    calibrator.record("m", 3, 4.0, request_id="r")
    assert ids_of(calibrator) == [None, "r"]


def test_a_machine_that_is_lost_before_the_commit_is_asked_again(run, calibrator):
    calibrator.record("m", 1, 2.0)
    on_insert(run, say("SSL SYSCALL error: EOF detected", LOST_MACHINE, 2))
    calibrator.record("m", 3, 4.0, request_id="r")
    assert tries(run) == 3
    assert ids_of(calibrator) == [None, "r"]


def test_a_machine_that_stays_away_is_no_damage_and_nothing_was_recorded(run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    on_insert(run, say("failure on connection marked as essential", LOST_MACHINE, 9))
    with pytest.raises(NotRecordedError, match=r"as essential.*Nothing was recorded") as told:
        calibrator.record("m", 3, 4.0)
    assert "damaged" not in str(told.value)
    assert tries(run) == 3
    assert dump(url) == rows


def test_a_machine_that_starts_is_waited_for_until_the_deadline(run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    on_insert(run, say(STARTING, "08006", 6))
    calibrator.record("m", 3, 4.0, request_id="r")
    assert tries(run) == 7
    assert ids_of(calibrator) == [None, "r"]
    run("SELECT setval('tries', 1)", "ALTER SEQUENCE tries INCREMENT BY -1 MINVALUE -999999")
    with AdaptiveCalibrator(url, timeout_s=0.3) as hasty:
        began = time.monotonic()
        with pytest.raises(NotRecordedError, match=r"is starting up.*Nothing was recorded"):
            hasty.record("m", 3, 4.0)
    assert 0.1 < time.monotonic() - began < 2
    assert ids_of(calibrator) == [None, "r"]
