"""calls(): the history, as it was recorded, in order, in pages, and without holding anything."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import InvalidInputError, ModelNotFoundError
from calibration_ledger.storage.ledger import PAGE

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def hour(hours):
    return NOON + timedelta(hours=hours)


@pytest.fixture
def filled(calibrator):
    """Two models, recorded alternately; one's times run backwards."""
    for i in range(6):
        calibrator.record("b", i, 100.0 + i, called_at=hour(i))
        calibrator.record("a", 10 + i, 100.0 + i, called_at=hour(5 - i))
    return calibrator


def seqs(calls):
    return [(call.model, call.seq) for call in calls]


def test_calls_come_as_they_were_recorded(calibrator):
    error = calibrator.record(
        "m", 1, 2.5, completion_tokens=3, request_id="r", called_at=NOON, details={"a": 1}
    )
    (call,) = calibrator.calls()
    assert call == Call("m", 1, 3, 2.5, NOON, "r", {"a": 1}, 2, 2.5 - error)
    assert call.error_ms == error


def test_calls_come_by_model_then_seq(filled):
    expected = [("a", seq) for seq in range(2, 8)] + [("b", seq) for seq in range(2, 8)]
    assert seqs(filled.calls()) == expected
    assert seqs(filled.calls("b")) == expected[6:]


def test_adjustments_are_no_calls_and_leave_their_seq_out(filled):
    filled.reset("b")
    filled.record("b", 1, 2.0)
    assert seqs(filled.calls("b"))[-2:] == [("b", 7), ("b", 9)]


@pytest.mark.parametrize(
    ("window", "tokens"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"since": hour(2)}, [2, 3, 4, 5]),
        ({"until": hour(2)}, [0, 1]),
        ({"since": hour(2), "until": hour(4)}, [2, 3]),
        ({"since": hour(2), "until": hour(2)}, []),
        ({"since": hour(2) + timedelta(microseconds=1), "until": hour(3)}, []),
        ({"until": hour(2) + timedelta(microseconds=1)}, [0, 1, 2]),
        ({"since": hour(99)}, []),
        ({"until": hour(-99)}, []),
    ],
)
def test_a_window_is_half_open_on_the_calls_own_time(filled, window, tokens):
    assert [call.prompt_tokens for call in filled.calls("b", **window)] == tokens
    backwards = [call.prompt_tokens for call in filled.calls("a", **window)]
    assert backwards == sorted(15 - token for token in tokens)


@pytest.mark.parametrize(
    ("last", "count"), [(1, 1), (2, 2), (6, 6), (7, 6), (8, 6), (10**12, 6), (2**70, 6)]
)
def test_last_counts_per_model_and_keeps_the_order(filled, last, count):
    expected = [("a", seq) for seq in range(8 - count, 8)]
    expected += [("b", seq) for seq in range(8 - count, 8)]
    assert seqs(filled.calls(last=last)) == expected


def test_last_counts_among_the_calls_of_the_window(filled):
    found = filled.calls(since=hour(1), until=hour(5), last=2)
    assert [call.called_at for call in found] == [hour(2), hour(1), hour(3), hour(4)]


def test_last_steps_over_adjustments(filled):
    for _ in range(5):
        filled.reset("b")
    assert seqs(filled.calls("b", last=2)) == [("b", 6), ("b", 7)]


def test_pages_have_no_seams(calibrator, make_call):
    size = 2 * PAGE + 3
    calibrator.record_many(
        make_call(i, "m", prompt_tokens=i, request_id=f"r-{i}" if i % 3 else None, details={"i": i})
        for i in range(size)
    )
    calls = list(calibrator.calls())
    assert [call.prompt_tokens for call in calls] == list(range(size))
    assert [call.details for call in calls] == [{"i": i} for i in range(size)]
    assert [call.request_id for call in calls] == [f"r-{i}" if i % 3 else None for i in range(size)]
    assert [call.prompt_tokens for call in calibrator.calls(last=PAGE)] == list(
        range(size - PAGE, size)
    )


# -- arguments are checked at the call ------------------------------------------------------


def test_an_unknown_model_is_an_error_at_the_call_not_at_the_first_item(filled):
    with pytest.raises(ModelNotFoundError, match="no entry of a model 'unseen'"):
        filled.calls("unseen")


def test_an_unknown_model_on_a_missing_ledger_is_the_same_error(tmp_path):
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        with pytest.raises(ModelNotFoundError):
            calibrator.calls("unseen")
        assert list(calibrator.calls()) == []
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"last": 0}, {"since": 5}, {"since": hour(1), "until": hour(0)}])
def test_a_wrong_argument_is_an_error_at_the_call(filled, wrong):
    with pytest.raises(InvalidInputError):
        filled.calls(**wrong)


# -- slow consumers -------------------------------------------------------------------------


def test_a_paused_iteration_holds_nothing(calibrator, ledger_path, make_call):
    """A reader in a transaction would keep the log from being cut back, and it would grow."""
    calibrator.record_many(make_call(i) for i in range(3 * PAGE))
    iteration = calibrator.calls()
    list(islice(iteration, PAGE + 5))
    calibrator.record("other", 1, 2.0)
    with closing(sqlite3.connect(ledger_path, timeout=0)) as connection:
        busy, frames, moved = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, frames, moved) == (0, 0, 0)
    assert len(list(iteration)) == 2 * PAGE - 5


def test_an_iteration_that_is_dropped_holds_nothing(calibrator, ledger_path, make_call):
    calibrator.record_many(make_call(i) for i in range(3 * PAGE))
    next(calibrator.calls())
    with closing(sqlite3.connect(ledger_path, timeout=0)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def test_what_is_recorded_while_iterating_does_not_join_in(calibrator, make_call):
    """Otherwise a loop that records what it reads would never end."""
    calibrator.record_many(make_call(i, "m") for i in range(PAGE + 10))
    seen = 0
    for call in calibrator.calls():
        seen += 1
        if seen % 50 == 0:
            calibrator.record("m", call.prompt_tokens, call.actual_ms)
            calibrator.record("new", 1, 2.0)
    assert seen == PAGE + 10
    assert calibrator.calibration("m").sample_count == PAGE + 10 + seen // 50


def test_two_iterations_do_not_disturb_each_other(filled):
    pairs = zip(filled.calls("a"), filled.calls("b"), strict=True)
    assert [(left.seq, right.seq) for left, right in pairs] == [(i, i) for i in range(2, 8)]


def test_an_iteration_may_outlive_the_thread_that_began_it(filled):
    from concurrent.futures import ThreadPoolExecutor

    iteration = filled.calls()
    first = next(iteration)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, iteration).result()
    assert seqs([first, *rest]) == seqs(filled.calls())


def test_last_counts_at_the_call_whatever_is_recorded_before_the_model_is_reached(filled):
    iteration = filled.calls(last=2)
    found = [next(iteration)]
    for i in range(5):
        filled.record("b", i, 1.0, called_at=hour(0))
    found += iteration
    assert seqs(found) == [("a", 6), ("a", 7), ("b", 6), ("b", 7)]


@pytest.mark.both
def test_a_window_gives_in_order_of_seq_what_lies_in_it_also_where_times_go_back(
    calibrator, make_call, monkeypatch
):
    monkeypatch.setattr("calibration_ledger.storage.ledger.PAGE", 7)
    times = [hour(0) + timedelta(seconds=i * 7 % 41) for i in range(41)]
    calibrator.record_many(make_call(i, "m", called_at=time) for i, time in enumerate(times))
    everything = list(calibrator.calls())
    for first in (0, 1, 20, 39, 40, 41):
        for end in (0, 1, 5, 20, 40, 41, 60):
            since, until = (
                hour(0) + timedelta(seconds=first),
                hour(0) + timedelta(seconds=first + end),
            )
            inside = [call for call in everything if since <= call.called_at < until]
            assert list(calibrator.calls(since=since, until=until)) == inside
            assert list(calibrator.calls(since=since, until=until, last=3)) == inside[-3:]
            later = [call for call in everything if since <= call.called_at]
            assert list(calibrator.calls("m", since=since)) == later
