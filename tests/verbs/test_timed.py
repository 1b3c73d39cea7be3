"""timed(): a call is measured around a block, and recorded when the block says how much came."""

import time
from datetime import UTC, datetime

import pytest

from calibration_ledger.errors import (
    CompletionTokensMissingError,
    InvalidInputError,
    NotFiniteError,
    RequestConflictError,
)
from support.reference import dump


@pytest.mark.both
def test_a_block_is_measured_and_recorded(calibrator):
    before = datetime.now(UTC)
    with calibrator.timed("m", 512) as call:
        started = datetime.now(UTC)
        time.sleep(0.02)
        call.completion_tokens = 128
    (recorded,) = calibrator.calls()
    assert (recorded.model, recorded.prompt_tokens, recorded.completion_tokens) == ("m", 512, 128)
    assert 15.0 <= recorded.actual_ms < 10_000.0
    assert before <= recorded.called_at <= started
    assert call.actual_ms == recorded.actual_ms
    assert call.error_ms == recorded.error_ms == recorded.actual_ms - 1580.0


def test_request_id_and_details_can_be_set_inside(calibrator):
    with calibrator.timed("m", 1) as call:
        call.completion_tokens = 0
        call.request_id = "r"
        call.details["ttft_ms"] = 80.5
    (recorded,) = calibrator.calls()
    assert (recorded.request_id, recorded.details) == ("r", {"ttft_ms": 80.5})


def test_completion_tokens_of_0_are_set(calibrator):
    with calibrator.timed("m", 1) as call:
        call.completion_tokens = 0
    assert calibrator.calibration("m").sample_count == 1


def test_completion_tokens_that_were_not_set_are_an_error_and_nothing_is_recorded(calibrator):
    with (
        pytest.raises(CompletionTokensMissingError, match=r"'m' was not recorded.*set them ins"),
        calibrator.timed("m", 1, on_error="raise"),
    ):
        pass
    assert calibrator.heads() == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_inside_passes_through_and_nothing_is_recorded(calibrator, error):
    def fail(call):
        call.completion_tokens = 1
        raise error

    with pytest.raises(error), calibrator.timed("m", 1) as call:
        fail(call)
    assert calibrator.heads() == []


def test_an_exception_inside_wins_over_completion_tokens_that_were_not_set(calibrator):
    with pytest.raises(ZeroDivisionError), calibrator.timed("m", 1):
        raise ZeroDivisionError
    assert calibrator.heads() == []


@pytest.mark.parametrize("tokens", [-1, 1.5, True, "1", 2**31])
def test_wrong_completion_tokens_are_refused_and_nothing_is_recorded(calibrator, tokens):
    refusal = pytest.raises(InvalidInputError, match="completion_tokens")
    with refusal, calibrator.timed("m", 1, on_error="raise") as call:
        call.completion_tokens = tokens
    assert calibrator.heads() == []


def test_a_wrong_model_is_refused_before_the_block_runs(calibrator):
    with pytest.raises(InvalidInputError, match="model"):
        calibrator.timed("", 1)
    with pytest.raises(InvalidInputError, match="prompt_tokens"):
        calibrator.timed("m", -1)


def test_blocks_may_lie_inside_each_other(calibrator):
    with calibrator.timed("outer", 1) as outer:
        with calibrator.timed("inner", 2) as inner:
            inner.completion_tokens = 3
            time.sleep(0.005)
        outer.completion_tokens = 4
    calls = {call.model: call for call in calibrator.calls()}
    assert calls["outer"].actual_ms > calls["inner"].actual_ms
    assert calls["inner"].completion_tokens == 3


def test_an_inner_block_that_fails_leaves_the_outer_one(calibrator):
    with calibrator.timed("outer", 1) as outer:
        inner = calibrator.timed("inner", 2, on_error="raise")
        with pytest.raises(CompletionTokensMissingError), inner:
            pass
        outer.completion_tokens = 4
    assert [call.model for call in calibrator.calls()] == ["outer"]


def test_a_request_id_known_with_other_milliseconds_is_a_conflict(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0, completion_tokens=3, request_id="r")
    rows = dump(ledger_path)
    timed = calibrator.timed("m", 1, on_error="raise")
    with pytest.raises(RequestConflictError), timed as call:
        call.completion_tokens, call.request_id = 3, "r"
    assert dump(ledger_path) == rows
    assert call.error_ms is None


def test_the_measurement_of_a_call_that_was_not_recorded_is_kept(calibrator):
    calibrator.record("m", 1, 1.7e308)
    calibrator.recalibrate(1.0)
    timed = calibrator.timed("m", 1000, on_error="raise")
    with pytest.raises(NotFiniteError), timed as call:
        call.completion_tokens = 0
    assert call.actual_ms > 0.0
    assert call.error_ms is None
    timed = calibrator.timed("m", 1, on_error="raise")
    with pytest.raises(CompletionTokensMissingError), timed as call:
        pass
    assert call.actual_ms > 0.0


def test_only_known_attributes_can_be_set(calibrator):
    with pytest.raises(AttributeError), calibrator.timed("m", 1) as call:
        call.completion_token = 1
    assert calibrator.heads() == []


# -- time-outs ------------------------------------------------------------------------------


def give_up(call, **fields):
    """Tell the call that it was given up, and fail as a client does."""
    for name, value in {"outcome": "timeout", **fields}.items():
        setattr(call, name, value)
    raise TimeoutError


def test_a_block_that_gives_its_call_up_records_a_time_out(calibrator):
    with calibrator.timed("m", 512) as call:
        call.outcome = "timeout"
    (recorded,) = calibrator.calls()
    assert (recorded.outcome, recorded.completion_tokens) == ("timeout", 0)
    assert call.error_ms == recorded.actual_ms - 556.0
    assert calibrator.calibration("m").sample_count == 0


def test_a_time_out_is_recorded_though_the_block_ends_in_its_exception(calibrator):
    with pytest.raises(TimeoutError), calibrator.timed("m", 512) as call:
        give_up(call, completion_tokens=7)
    (recorded,) = calibrator.calls()
    assert (recorded.outcome, recorded.completion_tokens) == ("timeout", 7)


def test_an_exception_alone_records_no_time_out(calibrator):
    with pytest.raises(TimeoutError), calibrator.timed("m", 512):
        raise TimeoutError
    assert calibrator.heads() == []


@pytest.mark.parametrize(("name", "value"), [("completion_tokens", -1), ("outcome", "error")])
def test_the_blocks_exception_wins_over_a_time_out_that_is_refused(calibrator, name, value):
    with pytest.raises(TimeoutError) as raised, calibrator.timed("m", 512) as call:
        give_up(call, **{name: value})
    (note,) = raised.value.__notes__
    assert note.startswith("Its call is not in the ledger: ")
    assert name in note
    assert calibrator.heads() == []
