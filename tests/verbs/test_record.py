"""record(): what it returns, what it keeps, and that a request id counts once."""

import copy
import json
import operator
import pickle
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, RecordedCall
from calibration_ledger.errors import (
    InvalidInputError,
    RequestConflictError,
    SimilarNameWarning,
)
from support.reference import (
    COEFFICIENTS,
    LOCAL_PRIOR,
    TOTALS,
    Ema,
    digest_of,
    entries_of,
    fold_file,
    load_traces,
    look_into,
    numbers_of,
)

TRACES = load_traces()
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


# -- the rule, on a real file ---------------------------------------------------------------


def steps_of(trace):
    for step in trace["steps"]:
        actual_ms = float.fromhex(step["actual_ms"])
        yield step, (step["prompt_tokens"], actual_ms, step["completion_tokens"])


def expected_end(trace):
    step = trace["steps"][-1]
    numbers = step | {"alpha": trace["alpha"], "calls": float(trace["sample_count"]).hex()}
    return tuple(numbers[name] for name in ("alpha", *COEFFICIENTS, "calls", *TOTALS))


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_each_step_of_a_trace_matches_to_the_bit_through_record(ledger_path, trace):
    model, alpha = trace["model"], float.fromhex(trace["alpha"])
    with AdaptiveCalibrator(ledger_path, alpha, durability="normal") as calibrator:
        prior = calibrator.calibration(model)
        for name, bits in trace["prior"].items():
            assert getattr(prior, name).hex() == bits
        for step, (p, y, c) in steps_of(trace):
            assert calibrator.predict(model, p, c).predicted_ms.hex() == step["predicted_ms"]
            assert calibrator.record(model, p, y, completion_tokens=c).hex() == step["error_ms"]
            live = calibrator.calibration(model)
            for name in (*COEFFICIENTS, *TOTALS):
                assert getattr(live, name).hex() == step[name]
        assert live.sample_count == trace["sample_count"]
        assert live.confidence.hex() == trace["confidence"]
        stored = [call.predicted_ms.hex() for call in calibrator.calls(model)]
        assert stored == [step["predicted_ms"] for step in trace["steps"]]
        (replay,) = calibrator.replay()
        assert numbers_of(replay.calibration) == expected_end(trace)
        assert replay.n == trace["sample_count"]
        assert calibrator.audit() == []
    opened = entries_of(ledger_path, model)[0]
    assert opened["kind"] == "opened"
    for name, bits in trace["prior"].items():
        assert opened[name].hex() == bits


@pytest.mark.parametrize("alpha", sorted({trace["alpha"] for trace in TRACES}))
def test_all_traces_of_an_alpha_match_to_the_bit_through_record_many_in_one_go(ledger_path, alpha):
    traces = [trace for trace in TRACES if trace["alpha"] == alpha]
    names = {id(trace): f"{trace['model']}{'.' * i}" for i, trace in enumerate(traces)}
    with AdaptiveCalibrator(
        ledger_path,
        float.fromhex(alpha),
        prior=lambda model: [
            float.fromhex(bits)
            for trace in traces
            if names[id(trace)] == model
            for bits in trace["prior"].values()
        ],
    ) as calibrator:
        errors = calibrator.record_many(
            Call(names[id(trace)], p, c, y) for trace in traces for _, (p, y, c) in steps_of(trace)
        )
        expected = [step["error_ms"] for trace in traces for step in trace["steps"]]
        assert [error.hex() for error in errors] == expected
        for trace in traces:
            assert numbers_of(calibrator.calibration(names[id(trace)])) == expected_end(trace)
        assert calibrator.audit() == []


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace["name"])
def test_a_trace_matches_to_the_bit_when_its_alpha_is_adopted_afterwards(ledger_path, trace):
    """Recorded under the default alpha, then recalibrated: the coefficients of the trace."""
    model = trace["model"]
    with AdaptiveCalibrator(ledger_path, 0.77) as calibrator:
        try:
            calibrator.record_many(Call(model, p, c, y) for _, (p, y, c) in steps_of(trace))
        except InvalidInputError:
            pytest.skip("not finite under another alpha")
        (replay,) = calibrator.recalibrate(float.fromhex(trace["alpha"]))
        assert numbers_of(replay.calibration) == expected_end(trace)
        assert numbers_of(calibrator.calibration(model)) == expected_end(trace)
        assert calibrator.audit() == []


# -- one call -------------------------------------------------------------------------------


def test_the_error_is_actual_minus_predicted_before_the_call_was_learnt(calibrator):
    assert calibrator.record("timmy:v0.1-q4", 512, 3400, completion_tokens=128) == 3400 - 1580
    assert calibrator.record("llama3-8b", 512, 100, completion_tokens=128) == 100 - (
        150 + 0.05 * 512 + 0.3 * 128
    )


def test_the_prior_rule_and_alpha_used_are_written_into_the_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.25, prior=lambda _: (1.0, 2.0, 3.0)) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []
    opened, _ = entries_of(ledger_path, "m")
    assert (opened["seq"], opened["kind"], opened["rule"]) == (1, "opened", "ema.1")
    assert opened["alpha"] == 0.25
    assert [opened[name] for name in COEFFICIENTS] == [1.0, 2.0, 3.0]
    assert (opened["sample_count"], opened["total_absolute_error_ms"]) == (0, 0.0)


def test_a_model_keeps_the_alpha_and_prior_that_it_was_opened_with(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.25) as calibrator:
        calibrator.record("m", 10, 200.0, completion_tokens=3)
    with AdaptiveCalibrator(ledger_path, 0.9, prior=lambda _: (9.0, 9.0, 9.0)) as calibrator:
        calibrator.record("m", 10, 200.0, completion_tokens=3)
        calibrator.record("n", 10, 200.0, completion_tokens=3)
        assert calibrator.calibration("m").alpha == 0.25
        assert calibrator.calibration("n").alpha == 0.9
        expected = Ema(0.25, *LOCAL_PRIOR)
        for _ in range(2):
            expected.learn(10, 3, 200.0)
        assert numbers_of(calibrator.calibration("m")) == expected.numbers()
        assert calibrator.audit() == []


@pytest.mark.parametrize("milliseconds", [250, 250.0, Fraction(500, 2)])
def test_milliseconds_may_be_any_real_number(calibrator, milliseconds):
    assert calibrator.record("m", 1, milliseconds) == 250 - 300.5
    (call,) = calibrator.calls()
    assert type(call.actual_ms) is float


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_no_time_at_all_is_a_measurement_and_never_negative_zero(calibrator, ledger_path, zero):
    calibrator.record("m", 0, zero)
    (call,) = calibrator.calls()
    assert call.actual_ms.hex() == "0x0.0p+0"
    assert digest_of(ledger_path, "m") == calibrator.heads()[0].digest


def test_tokens_may_be_anything_that_is_an_index(calibrator):
    calibrator.record("m", Index(5), 10.0, completion_tokens=Index(7))
    (call,) = calibrator.calls()
    assert (type(call.prompt_tokens), call.prompt_tokens, call.completion_tokens) == (int, 5, 7)


def test_the_largest_tokens_are_taken(calibrator):
    calibrator.record("m", 2**31 - 1, 1e9, completion_tokens=2**31 - 1)
    (call,) = calibrator.calls()
    assert call.prompt_tokens == call.completion_tokens == 2**31 - 1


@pytest.mark.parametrize(
    "model", ["x", "a\u00a0b", "größe-✓-𝄞", "a" * 512, "a'b\"c;--", "100%", "A", "a/b:c"]
)
def test_a_name_is_taken_as_it_is(calibrator, ledger_path, model):
    calibrator.record(model, 1, 2.0)
    assert [call.model for call in calibrator.calls()] == [model]
    assert calibrator.heads()[0].digest == digest_of(ledger_path, model)


def test_names_are_neither_trimmed_nor_folded(calibrator):
    names = ["a", "A", "ä", "a\u0308", "a  b", "a b"]
    with pytest.warns(SimilarNameWarning):
        calibrator.record_many([Call(name, 1, 0, 2.0) for name in names])
    assert [head.model for head in calibrator.heads()] == sorted(names)


# -- times ----------------------------------------------------------------------------------


def test_a_call_is_dated_by_the_callers_clock_in_utc(calibrator):
    calibrator.record("m", 1, 2.0, called_at=NOON.astimezone(timezone(timedelta(hours=9))))
    (call,) = calibrator.calls()
    assert call.called_at == NOON
    assert call.called_at.tzinfo is UTC


def test_a_call_without_a_time_is_dated_now(calibrator):
    before = datetime.now(UTC)
    calibrator.record("m", 1, 2.0)
    after = datetime.now(UTC)
    (call,) = calibrator.calls()
    assert before <= call.called_at <= after


def test_times_may_go_backwards_and_the_order_is_seq(calibrator):
    times = [NOON + timedelta(hours=hours) for hours in (0, -5, 3, -7)]
    for i, time in enumerate(times):
        calibrator.record("m", i, 100.0 * i, called_at=time)
    found = list(calibrator.calls())
    assert [call.called_at for call in found] == times
    assert [call.seq for call in found] == [2, 3, 4, 5]
    assert [call.prompt_tokens for call in found] == [0, 1, 2, 3]
    assert calibrator.calibration("m").last_updated == times[-1].timestamp()


def test_microseconds_survive(calibrator):
    time = NOON.replace(microsecond=123457)
    calibrator.record("m", 1, 2.0, called_at=time)
    assert next(calibrator.calls()).called_at == time


# -- details --------------------------------------------------------------------------------


def test_details_come_back_as_they_were_measured(calibrator):
    details = {"ttft_ms": 80.5, "cached_tokens": 0, "source": "größe", "ok": True, "more": [1, {}]}
    calibrator.record("m", 1, 2.0, details=details)
    assert next(calibrator.calls()).details == details


def test_details_are_stored_canonically(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0, details={"b": 1, "a": 2.0, "absent": None})
    entry = entries_of(ledger_path, "m")[1]
    assert entry["details"] == '{"a":2.0,"b":1}'


@pytest.mark.parametrize("details", [None, {}, {"a": None}])
def test_what_was_not_measured_leaves_no_row(calibrator, ledger_path, details):
    calibrator.record("m", 1, 2.0, details=details)
    assert next(calibrator.calls()).details is None
    with look_into(ledger_path) as connection:
        assert connection.execute("SELECT * FROM call_details").fetchall() == []


def test_details_that_were_handed_out_cannot_be_changed(calibrator):
    details = {"a": [1, {"b": 2}], "c": {"d": 3.5}}
    calibrator.record("m", 1, 2.0, details=details)
    (call,) = calibrator.calls()
    for change in (
        lambda: call.details["a"].append(2),
        lambda: call.details["a"][1].update(b=3),
        call.details["a"].sort,
        lambda: call.details["c"].pop("d"),
        call.details.clear,
        lambda: call.details.setdefault("e", 1),
        lambda: operator.setitem(call.details, "a", 1),
        lambda: operator.delitem(call.details, "a"),
        lambda: operator.ior(call.details, {"a": 1}),
        lambda: operator.iadd(call.details["a"], [1]),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert call.details == details
    copied = dict(call.details)
    copied["e"] = 1


def test_a_call_that_was_handed_out_is_a_value(calibrator):
    details = {"a": [1, {"b": 2}], "c": {"d": 3.5}}
    calibrator.record("m", 1, 2.0, details=details)
    (call,), (again,) = calibrator.calls(), calibrator.calls()
    assert {call: 1}[again] == 1
    assert {call.details: 1}[again.details] == 1
    assert hash(replace(call, details=details)) == hash(call)  # for they are equal
    assert replace(call, details=details) == call
    pickled = pickle.loads(pickle.dumps(call))  # noqa: S301 - our own
    for same in (pickled, copy.deepcopy(call), copy.copy(call)):
        assert same == call
        with pytest.raises(TypeError):
            same.details["a"].append(1)
    assert json.loads(json.dumps(call.details)) == details
    assert asdict(call)["details"] == details
    calibrator.record_many([replace(call, model="n")])
    assert next(calibrator.calls("n")).details == details


# -- request ids ----------------------------------------------------------------------------


@pytest.mark.both
def test_the_same_request_id_again_gives_the_first_error_and_adds_no_row(calibrator, make_call):
    first = calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r")
    heads = calibrator.heads()
    for _ in range(3):
        assert calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r") == first
    calibrator.record_many([make_call(i, "m") for i in range(5)])
    again = calibrator.heads()
    assert calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r") == first
    assert calibrator.heads() == again
    assert heads != again


def test_a_request_id_is_remembered_by_other_calibrators_and_across_resets(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        first = calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r")
        calibrator.reset("m")
    with AdaptiveCalibrator(ledger_path, 0.9) as calibrator:
        assert calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r") == first
        calibrator.recalibrate(0.5)
        assert calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r") == first
        assert calibrator.calibration("m").sample_count == 0
        assert calibrator.audit() == []


def test_a_request_id_is_a_models_own(calibrator):
    calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r")
    calibrator.record("n", 99, 9.0, completion_tokens=1, request_id="r")
    assert [call.request_id for call in calibrator.calls()] == ["r", "r"]


@pytest.mark.parametrize("milliseconds", [500, 500.0, Fraction(1000, 2)])
def test_the_same_milliseconds_in_another_type_are_the_same(calibrator, milliseconds):
    first = calibrator.record("m", 10, 500.0, completion_tokens=Index(5), request_id="r")
    assert (
        calibrator.record("m", Index(10), milliseconds, completion_tokens=5, request_id="r")
        == first
    )
    assert calibrator.calibration("m").sample_count == 1


def test_another_time_and_other_details_do_not_make_it_another_call(calibrator):
    calibrator.record("m", 10, 500.0, request_id="r", called_at=NOON, details={"a": 1})
    calibrator.record("m", 10, 500.0, request_id="r", details={"a": 2})
    (call,) = calibrator.calls()
    assert (call.called_at, call.details) == (NOON, {"a": 1})


@pytest.mark.parametrize(
    "numbers",
    [(11, 500.0, 5), (10, 500.0000000000001, 5), (10, 500.0, 6), (10, 500.0, 0), (5, 500.0, 10)],
)
def test_the_same_request_id_with_other_numbers_is_a_conflict(calibrator, numbers):
    calibrator.record("m", 10, 500.0, completion_tokens=5, request_id="r-1")
    heads = calibrator.heads()
    p, y, c = numbers
    sentence = r"'r-1' of the model 'm' was recorded with 10 prompt tokens, 5 completion tokens"
    with pytest.raises(RequestConflictError, match=sentence):
        calibrator.record("m", p, y, completion_tokens=c, request_id="r-1")
    assert calibrator.heads() == heads


@pytest.mark.parametrize("request_id", ["größe-✓-𝄞", " ", "a" * 512, "import:1:2", "'"])
def test_a_request_id_may_be_any_text(calibrator, request_id):
    first = calibrator.record("m", 1, 2.0, request_id=request_id)
    assert calibrator.record("m", 1, 2.0, request_id=request_id) == first
    assert next(calibrator.calls()).request_id == request_id


# -- the file -------------------------------------------------------------------------------


def test_a_file_by_hand_explains_itself(calibrator, ledger_path, make_call):
    """What somebody with SQLite and SHA-256 finds in the file, without this package."""
    for i in range(12):
        call = make_call(i, f"m{i % 2}")
        calibrator.record(
            call.model,
            call.prompt_tokens,
            call.actual_ms,
            completion_tokens=call.completion_tokens,
            request_id=f"r-{i}" if i % 3 else None,
            details={"ttft_ms": i / 7} if i % 4 else None,
        )
    calibrator.reset("m0")
    calibrator.recalibrate(0.9, model="m1")
    calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(12, 20))
    for head in calibrator.heads():
        assert head.digest == digest_of(ledger_path, head.model)
        live = calibrator.calibration(head.model)
        assert fold_file(ledger_path, head.model).numbers() == numbers_of(live)
        seqs = [entry["seq"] for entry in entries_of(ledger_path, head.model)]
        assert seqs == list(range(1, head.seq + 1))


def test_a_sql_browser_sees_names_and_times(calibrator, ledger_path):
    time = NOON.replace(microsecond=5)
    calibrator.record(
        "timmy", 512, 3400, completion_tokens=128, request_id="r", called_at=time, details={"a": 1}
    )
    with look_into(ledger_path) as connection:
        (row,) = connection.execute("SELECT * FROM readable_calls").fetchall()
    assert dict(row) == {
        "model": "timmy",
        "seq": 2,
        "called_at": "2026-01-02T12:00:00.000005Z",
        "prompt_tokens": 512,
        "completion_tokens": 128,
        "actual_ms": 3400.0,
        "predicted_ms": 1580.0,
        "error_ms": 1820.0,
        "request_id": "r",
        "details": json.dumps({"a": 1}, separators=(",", ":")),
        "outcome": "ok",
        "voided": 0,
    }


# -- the number of the entry ----------------------------------------------------------------


@pytest.mark.both
def test_a_call_is_given_the_number_of_its_entry_and_a_repeat_that_of_the_first(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        first = calibrator.record_call(Call("m", 1, 2, 30.0, request_id="r"))
        assert (first.seq, first.is_new) == (2, True)
        calibrator.reset("m")
        assert calibrator.record_call(Call("m", 1, 2, 30.0)).seq == 4
        assert calibrator.record_call(Call("n", 1, 2, 30.0)).seq == 2
        again = calibrator.record_call(Call("m", 1, 2, 30.0, request_id="r"))
        assert again == RecordedCall(first.error_ms, 2, is_new=False)
        assert calibrator.record_once(Call("m", 1, 2, 30.0, request_id="r")) == (
            first.error_ms,
            False,
        )
        new = calibrator.record_call(Call("m", 1, 2, 30.0, request_id="s"))
        assert (new.seq, new.is_new) == (5, True)
        assert calibrator.calibration("m").sample_count == 2
        assert [call.seq for call in calibrator.calls("m")] == [2, 4, 5]
        assert calibrator.audit() == []
