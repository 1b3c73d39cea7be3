"""record_many(): many calls in few transactions, and to the bit what record() one by one gives."""

import copy
import threading

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerBusyError,
    LedgerCorruptError,
    NotFiniteError,
    OutcomeUnknownError,
    RequestConflictError,
)
from calibration_ledger.verbs.record import BATCH
from support.reference import digest_of, dump, entries_of, look_into


def one_by_one(calibrator, calls):
    return [
        calibrator.record(
            call.model,
            call.prompt_tokens,
            call.actual_ms,
            completion_tokens=call.completion_tokens,
            request_id=call.request_id,
            called_at=call.called_at,
            details=call.details,
        )
        for call in calls
    ]


def without_openings(path):
    """All entries, but for the clock's time in the first of each model."""
    with look_into(path) as connection:
        models = [row[0] for row in connection.execute("SELECT model FROM models ORDER BY model")]
    clock = {"recorded_at": 0, "updated_at": 0, "model_id": 0}
    return {
        model: [
            entry | ({"model_id": 0} if entry["kind"] == "call" else clock)
            for entry in entries_of(path, model)
        ]
        for model in models
    }


def test_the_errors_come_in_the_order_of_the_calls(calibrator, make_call):
    calls = [make_call(i, f"m{i * 7 % 5}") for i in range(40)]
    errors = calibrator.record_many(calls)
    expected = [call.error_ms for call in calibrator.calls()]
    assert sorted(errors) == sorted(expected)
    found = {(call.model, call.called_at): call.error_ms for call in calibrator.calls()}
    assert errors == [found[call.model, call.called_at] for call in calls]


@pytest.mark.parametrize("size", [1, 2, 999, 1000, 1001, 2345])
def test_a_batch_is_to_the_bit_what_one_by_one_gives(tmp_path, make_call, size):
    calls = [
        make_call(
            i,
            f"m{i * 7 % 3}",
            request_id=f"r-{i}" if i % 5 == 0 else None,
            details={"ttft_ms": i / 3} if i % 7 == 0 else None,
        )
        for i in range(size)
    ]
    many, single = tmp_path / "many.db", tmp_path / "single.db"
    with (
        AdaptiveCalibrator(many, durability="normal") as first,
        AdaptiveCalibrator(single, durability="normal") as second,
    ):
        errors = first.record_many(calls)
        assert [error.hex() for error in errors] == [e.hex() for e in one_by_one(second, calls)]
        assert without_openings(many) == without_openings(single)
        for head in first.heads():
            assert head.digest == digest_of(many, head.model)
        assert first.audit() == []
        assert second.audit() == []


def test_the_heads_are_the_same_too_once_the_openings_are(tmp_path, make_call, monkeypatch):
    """Only the openings' times, which are the clock's, would tell the two ledgers apart."""
    monkeypatch.setattr("calibration_ledger.calibrator.now_us", lambda: 1_767_323_045_000_000)
    calls = [make_call(i, f"m{i % 3}", request_id=f"r-{i}") for i in range(50)]
    with (
        AdaptiveCalibrator(tmp_path / "many.db") as first,
        AdaptiveCalibrator(tmp_path / "single.db") as second,
    ):
        first.record_many(calls)
        one_by_one(second, calls)
        assert first.heads() == second.heads()
        assert first.audit() == second.audit() == []


def test_calls_may_be_mappings_values_or_both_and_come_from_a_generator(calibrator, make_call):
    def generate():
        for i in range(1500):
            call = make_call(i)
            if i % 2:
                yield call
            else:
                yield {
                    "model": call.model,
                    "prompt_tokens": call.prompt_tokens,
                    "completion_tokens": call.completion_tokens,
                    "actual_ms": call.actual_ms,
                    "called_at": call.called_at,
                }

    assert len(calibrator.record_many(generate())) == 1500
    assert calibrator.calibration(make_call().model).sample_count == 1500


def test_recorded_calls_can_be_recorded_elsewhere_as_they_are(calibrator, tmp_path, make_call):
    calibrator.record_many(make_call(i, details={"a": i}) for i in range(10))
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.record_many(calibrator.calls())
        assert list(other.calls()) == list(calibrator.calls())
        assert other.audit() == []


@pytest.mark.parametrize("calls", [[], (), iter([])])
def test_no_calls_are_no_error_and_make_no_ledger(tmp_path, calls):
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        assert calibrator.record_many(calls) == []
        assert list(tmp_path.iterdir()) == []


def test_an_iterator_that_fails_records_nothing(calibrator, make_call):
    def generate():
        yield make_call(0)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        calibrator.record_many(generate())
    assert calibrator.heads() == []


def test_all_calls_are_checked_before_the_first_is_recorded(calibrator, make_call):
    calls = [make_call(i) for i in range(BATCH + 5)]
    with pytest.raises(InvalidInputError, match="actual_ms"):
        calibrator.record_many([*calls, make_call(0, actual_ms=-1.0)])
    assert calibrator.heads() == []


# -- request ids ----------------------------------------------------------------------------


def test_a_repeat_inside_a_batch_counts_once(calibrator, make_call):
    first = make_call(0, "m", request_id="r")
    calls = [first, make_call(1, "m"), first, make_call(2, "m", request_id="s"), first]
    errors = calibrator.record_many(calls)
    assert errors[0] == errors[2] == errors[4]
    assert [call.request_id for call in calibrator.calls()] == ["r", None, "s"]
    assert calibrator.record_many(calls[::2]) == [errors[0]] * 3


def test_a_repeat_in_a_later_batch_counts_once(calibrator, make_call):
    calls = [make_call(i, request_id=f"r-{i}") for i in range(BATCH)]
    errors = calibrator.record_many([*calls, *calls[:10]])
    assert errors[-10:] == errors[:10]
    assert calibrator.calibration(make_call().model).sample_count == BATCH
    heads = calibrator.heads()
    assert calibrator.record_many(calls) == errors[:BATCH]
    assert calibrator.heads() == heads


def test_a_repeat_in_another_model_is_another_call(calibrator, make_call):
    calibrator.record_many([make_call(0, "m", request_id="r"), make_call(1, "n", request_id="r")])
    assert len(list(calibrator.calls())) == 2


def test_a_repeat_is_the_same_whatever_its_types_and_time(calibrator, make_call):
    errors = calibrator.record_many(
        [
            make_call(0, "m", actual_ms=500, request_id="r"),
            make_call(0, "m", actual_ms=500.0, request_id="r", details={"a": 1}, called_at=None),
        ]
    )
    assert errors[0] == errors[1]
    (call,) = calibrator.calls()
    assert call.details is None


def test_a_conflict_inside_a_batch_undoes_the_batch(calibrator, ledger_path, make_call):
    calibrator.record_many([make_call(0, "m")])
    rows = dump(ledger_path)
    conflicting = make_call(1, "m", request_id="r"), make_call(2, "m", request_id="r")
    with pytest.raises(RequestConflictError, match="'r' of the model 'm'"):
        calibrator.record_many([make_call(3, "a"), *conflicting, make_call(4, "z")])
    assert dump(ledger_path) == rows


# -- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 999, 1000, 1500, 2000])
def test_a_refused_batch_is_undone_whole_and_the_ones_before_it_stay(ledger_path, make_call, bad):
    calls = [make_call(i) for i in range(2100)]
    calls[bad] = make_call(bad, prompt_tokens=1, completion_tokens=0, actual_ms=1.7e308)
    calls[bad + 1] = make_call(bad + 1, prompt_tokens=1000, completion_tokens=0, actual_ms=1.0)
    before = (bad + 1) // BATCH * BATCH
    with AdaptiveCalibrator(ledger_path, alpha=1.0, durability="normal") as calibrator:
        with pytest.raises(NotFiniteError):
            calibrator.record_many(calls)
        kept = list(calibrator.calls())
        assert len(kept) == before
        assert [call.called_at for call in kept] == [call.called_at for call in calls[:before]]
        assert calibrator.audit() == []


def test_nothing_is_recorded_before_the_last_call_was_taken(calibrator, make_call, ledger_path):
    seen = []

    def watching():
        for i in range(2 * BATCH):
            if i % 100 == 0:
                seen.append(len(calibrator.heads()))
            yield make_call(i)

    calibrator.record_many(watching())
    assert set(seen) == {0}
    with look_into(ledger_path) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone()[0] == 2 * BATCH


@pytest.mark.both
def test_a_batch_is_seen_whole_or_not_at_all(calibrator, make_call):
    calls = [make_call(i, f"m{i % 2}") for i in range(3 * BATCH)]
    counts, done = set(), threading.Event()

    def look():
        while not done.is_set():
            counts.add(sum(len(list(calibrator.calls(f"m{i}"))) for i in range(2)) % BATCH)

    calibrator.record_many(calls[:BATCH])
    reader = threading.Thread(target=look)
    reader.start()
    calibrator.record_many(calls[BATCH:])
    done.set()
    reader.join()
    assert counts <= {0, BATCH // 2}  # the two models are looked at one after the other


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (Call("n", -1, 2, 3.0), "^call 3, of the model 'n': prompt_tokens must be at least 0"),
        ({"model": "n", "prompt_tokens": 1}, "^call 3, of the model 'n': actual_ms must be there"),
        ({"completion_tokens": 1}, "^call 3: model and prompt_tokens and actual_ms must be there"),
        (
            {"model": "n", "prompt_tokens": 1, "actual_ms": 3.0, "completion_token": 2},
            "^call 3, of the model 'n': 'completion_token' is no field of a call",
        ),
        (Call("", 1, 2, 3.0), "^call 3, of the model '': model must not be empty"),
        (None, "^call 3: record_many takes Calls, or mappings with their fields, not None"),
    ],
)
def test_a_bad_call_is_named_by_its_place_and_what_is_wrong_with_it(calibrator, bad, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        calibrator.record_many([Call("m", 1, 2, 3.0), Call("m", 1, 2, 3.0), bad])
    assert calibrator.heads() == []


@pytest.mark.parametrize(
    "calls",
    [None, 5, "calls", Call("m", 1, 2, 3.0), {"model": "m", "prompt_tokens": 1, "actual_ms": 2.0}],
)
def test_what_is_not_several_calls_is_refused_with_a_sentence(calibrator, calls):
    with pytest.raises(InvalidInputError, match="record_many takes several calls, not"):
        calibrator.record_many(calls)
    assert calibrator.heads() == []


def test_completion_tokens_may_be_left_out_of_a_mapping(calibrator):
    calibrator.record_many([{"model": "m", "prompt_tokens": 1, "actual_ms": 2.0}])
    assert next(calibrator.calls()).completion_tokens == 0


# -- what stays of a batch that was stopped -------------------------------------------------


def test_an_error_in_a_later_transaction_says_which_calls_stay(calibrator, make_call):
    calibrator.record("m", 1, 1.0, request_id="taken")
    calls = [make_call(i, "m") for i in range(BATCH + 500)]
    refused = make_call(0, "m", request_id="taken")
    with pytest.raises(RequestConflictError) as caught:
        calibrator.record_many([*calls, refused])
    told = str(caught.value)
    assert f"The first {BATCH} calls were recorded" in told
    assert f"the transaction from call {BATCH + 1} on was not: give each call an id" in told
    assert "othing was recorded" not in told
    assert caught.value.recorded == BATCH

    rest = calibrator.record_many(calls[caught.value.recorded :])
    assert [call.called_at for call in calibrator.calls("m")][1:] == [c.called_at for c in calls]
    errors = [call.actual_ms - call.predicted_ms for call in calibrator.calls("m")][1:]
    assert [*caught.value.errors_ms, *rest] == errors
    assert copy.copy(caught.value).recorded == BATCH  # as pickle does it


def test_an_error_in_the_first_transaction_says_that_nothing_was_recorded(calibrator, make_call):
    calibrator.record("m", 1, 1.0, request_id="taken")
    calls = [make_call(i, "m") for i in range(2 * BATCH)]
    calls[5] = make_call(5, "m", request_id="taken")
    with pytest.raises(RequestConflictError, match="Nothing was recorded") as caught:
        calibrator.record_many(calls)
    assert (caught.value.recorded, caught.value.errors_ms) == (0, ())


def stop_later(calibrator, monkeypatch, error):
    """Let this stop each transaction after the first."""
    write = calibrator._ledger.write

    def stopped(work, *arguments):
        if calibrator.heads():
            raise error
        return write(work, *arguments)

    monkeypatch.setattr(calibrator._ledger, "write", stopped)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LedgerBusyError("Others held it", advice="try again"), "on was not: try again."),
        (LedgerCorruptError("It is damaged."), "The first 1000 calls were recorded, the trans"),
        (OutcomeUnknownError("The commit broke off."), "calls were recorded; whether more was"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_stops_a_later_transaction_keeps_its_meaning(
    calibrator, make_call, monkeypatch, error, told
):
    calls = [make_call(i) for i in range(2 * BATCH)]
    stop_later(calibrator, monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        calibrator.record_many(calls)
    assert told in str(caught.value)
    assert "othing was recorded" not in str(caught.value)
    assert caught.value.recorded == BATCH
    if isinstance(error, OutcomeUnknownError):
        assert "was not" not in str(caught.value)


def test_ctrl_c_in_a_later_transaction_is_told_what_stays(calibrator, make_call, monkeypatch):
    stop_later(calibrator, monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        calibrator.record_many([make_call(i) for i in range(2 * BATCH)])
    assert caught.value.__notes__ == [
        f"Of this record_many, at least the first {BATCH} calls were recorded."
    ]


@pytest.mark.parametrize("count", [3, 4, 20, 21, 45])
def test_of_any_number_of_request_ids_those_that_are_there_are_found(calibrator, make_call, count):
    calls = [make_call(i, request_id=f"r-{i}") for i in range(count)]
    others = [make_call(i, "another", request_id=f"r-{i}") for i in range(count)]
    there = calls[1::3]
    first = dict(zip(there, calibrator.record_many(there), strict=True))
    errors = calibrator.record_many([*others, *calls, *calls[::-1]])[count:]
    assert errors[:count] == errors[: -count - 1 : -1]
    assert {
        call: error for call, error in zip(calls, errors, strict=False) if call in first
    } == first
    assert len(list(calibrator.calls("another"))) == count
    ids = [call.request_id for call in calibrator.calls(calls[0].model)]
    assert ids == [call.request_id for call in (*there, *(c for c in calls if c not in there))]
