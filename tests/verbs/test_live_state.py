"""predict(), calibration(), the stats and reset(): what a ledger says of its models now."""

import math
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, ModelCalibration
from calibration_ledger.errors import LedgerNotFoundError, NotFiniteError
from support.reference import LOCAL_PRIOR, Ema, dump, entries_of, numbers_of

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FOUR = {"model", "sample_count", "confidence", "status"}


# -- predict --------------------------------------------------------------------------------


def test_a_model_never_seen_is_predicted_from_its_prior(tmp_path):
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        before = datetime.now(UTC)
        prediction = calibrator.predict("x", prompt_tokens=512, completion_tokens=128)
        assert repr(prediction) == (
            "CostPrediction(model='x', prompt_tokens=512, predicted_ms=1580, confidence=0.00, n=0)"
        )
        assert prediction.predicted_ms == 1580.0
        assert prediction.completion_tokens == 128
        assert (prediction.confidence, prediction.sample_count) == (0.0, 0)
        assert before <= prediction.predicted_at <= datetime.now(UTC)
        assert prediction.predicted_at.tzinfo is UTC
        assert calibrator.predict("llama3-8b", 1000).predicted_ms == 200.0
        assert list(tmp_path.iterdir()) == []


def test_a_prediction_writes_nothing_also_for_a_model_never_seen(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    rows = dump(ledger_path)
    for model in ("m", "unseen"):
        calibrator.predict(model, 512, 128)
        calibrator.calibration(model)
        calibrator.get_stats(model)
    assert dump(ledger_path) == rows


@pytest.mark.both
def test_a_prediction_is_what_the_next_record_holds_against_the_measurement(calibrator, make_call):
    for i in range(30):
        call = make_call(i)
        numbers = call.prompt_tokens, call.completion_tokens
        prediction = calibrator.predict(call.model, *numbers)
        error = calibrator.record(
            call.model, numbers[0], call.actual_ms, completion_tokens=numbers[1]
        )
        assert error == call.actual_ms - prediction.predicted_ms
        assert prediction.sample_count == i
        assert prediction.confidence == 1 - math.exp(-i / 10)


def test_a_prediction_sees_what_others_recorded_at_once(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    with AdaptiveCalibrator(ledger_path) as other:
        for i in range(5):
            other.record("m", 10, 500.0 * i)
            mine, theirs = calibrator.predict("m", 99, 9), other.predict("m", 99, 9)
            assert mine.predicted_ms.hex() == theirs.predicted_ms.hex()
            assert mine.sample_count == i + 2


def test_a_prediction_of_a_ledger_made_meanwhile_is_of_that_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path) as reader, AdaptiveCalibrator(ledger_path) as writer:
        assert reader.predict("m", 1).sample_count == 0
        writer.record("m", 1, 2.0)
        assert reader.predict("m", 1).sample_count == 1
        assert reader.audit() == []


# -- calibration and stats ------------------------------------------------------------------


def test_a_calibration_is_the_whole_state_unrounded(calibrator):
    reference = Ema(0.15, *LOCAL_PRIOR)
    for i in range(7):
        calibrator.record("m", 10 * i, 333.3 * i, completion_tokens=7, called_at=NOON)
        reference.learn(10 * i, 7, 333.3 * i)
    live = calibrator.calibration("m")
    assert isinstance(live, ModelCalibration)
    assert numbers_of(live) == reference.numbers()
    assert (live.model, live.rule, live.rule_state) == ("m", "ema.1", ())
    assert live.last_updated == NOON.timestamp()
    assert live.mean_absolute_error_ms == reference.total_absolute_error_ms / 7
    assert live.predict(12, 34) == calibrator.predict("m", 12, 34).predicted_ms
    assert ModelCalibration.from_dict(live.to_dict()) == live


def test_the_calibration_of_a_model_never_seen_is_its_prior(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.4, prior=lambda _: (1, 2, 3)) as calibrator:
        expected = ModelCalibration("x", "ema.1", 0.4, 1.0, 2.0, 3.0)
        assert calibrator.calibration("x") == expected
        assert calibrator.calibration("x").last_updated is None
        assert math.isnan(calibrator.calibration("x").mean_absolute_error_ms)


@pytest.mark.both
def test_stats_are_rounded_and_sorted_by_model(calibrator):
    for model in ("b", "a", "C", "ä"):
        for i in range(12):
            calibrator.record(model, 100 * i, 1234.567 * i, completion_tokens=10, called_at=NOON)
    stats = calibrator.all_stats()
    assert [item["model"] for item in stats] == ["C", "a", "b", "ä"]
    live = calibrator.calibration("a")
    assert stats[1] == calibrator.get_stats("a")
    assert stats[1] == {
        "model": "a",
        "sample_count": 12,
        "confidence": 0.699,
        "ms_per_prompt_token": round(live.ms_per_prompt_token, 4),
        "ms_per_completion_token": round(live.ms_per_completion_token, 4),
        "base_overhead_ms": round(live.base_overhead_ms, 1),
        "mean_absolute_error_ms": round(live.mean_absolute_error_ms, 1),
        "last_updated": NOON.timestamp(),
        "rule": "ema.1",
        "alpha": 0.15,
        "newest_calls": 12,
        "mean_actual_ms": round(1234.567 * 5.5, 1),
        "median_absolute_percentage_error": 37.6,
        "newest_errors_ms": [round(call.error_ms, 1) for call in calibrator.calls("a")],
        "is_calibrated": False,
        "timeouts": 0,
        "drift": None,
        "status": "calibrated",
    }


def test_a_model_with_0_calls_has_four_figures_and_is_not_listed(calibrator):
    calibrator.record("m", 1, 2.0)
    calibrator.record("n", 1, 2.0)
    calibrator.reset("m")
    assert calibrator.get_stats("m") == {
        "model": "m",
        "sample_count": 0,
        "confidence": 0.0,
        "status": "uncalibrated (prior only)",
    }
    assert set(calibrator.get_stats("unseen")) == FOUR
    assert [item["model"] for item in calibrator.all_stats()] == ["n"]


def test_a_missing_ledger_has_no_calls_and_no_replay_and_nothing_makes_it(tmp_path):
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        assert calibrator.all_stats() == []
        assert calibrator.heads() == []
        assert list(calibrator.calls()) == []
        for ask in (calibrator.audit, calibrator.replay, calibrator.recalibrate):
            with pytest.raises(LedgerNotFoundError, match="there is no ledger at"):
                ask()
        calibrator.reset()
        calibrator.reset("unseen")
        assert list(tmp_path.iterdir()) == []


def test_the_status_follows_the_calls(calibrator):
    found = []
    for _ in range(11):
        calibrator.record("m", 1, 2.0)
        found.append(calibrator.get_stats("m")["status"])
    assert found == ["warming up"] * 9 + ["calibrated"] * 2


# -- reset ----------------------------------------------------------------------------------


def test_a_reset_sets_the_prior_back_and_keeps_the_history(calibrator, ledger_path, make_call):
    calibrator.record_many(make_call(i, "m") for i in range(20))
    calls = list(calibrator.calls())
    calibrator.reset("m")
    assert numbers_of(calibrator.calibration("m")) == Ema(0.15, *LOCAL_PRIOR).numbers()
    assert list(calibrator.calls()) == calls
    entry = entries_of(ledger_path, "m")[-1]
    assert (entry["kind"], entry["seq"]) == ("reset", 22)
    expected = Ema(0.15, *LOCAL_PRIOR)
    _, error = expected.learn(1, 2, 3.0)
    assert calibrator.record("m", 1, 3.0, completion_tokens=2) == error
    assert numbers_of(calibrator.calibration("m")) == expected.numbers()


def test_a_reset_is_to_the_prior_rule_and_alpha_of_this_calibrator(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.9) as calibrator:
        calibrator.record("m", 1, 2.0)
    with AdaptiveCalibrator(ledger_path, 0.2, prior=lambda _: (1.0, 2.0, 3.0)) as calibrator:
        assert calibrator.calibration("m").alpha == 0.9
        calibrator.reset("m")
        assert numbers_of(calibrator.calibration("m")) == Ema(0.2, 1.0, 2.0, 3.0).numbers()
        calibrator.record("m", 1, 2.0)
        assert calibrator.calibration("m").alpha == 0.2
        assert calibrator.audit() == []


@pytest.mark.both
def test_a_reset_without_a_model_resets_all_of_them(calibrator):
    models = [f"m{i}" for i in range(5)]
    for model in models:
        calibrator.record(model, 1, 2.0)
    calibrator.reset()
    assert [calibrator.calibration(model).sample_count for model in models] == [0] * 5
    assert [head.seq for head in calibrator.heads()] == [3] * 5
    assert calibrator.all_stats() == []


def test_a_reset_of_one_model_leaves_the_others(calibrator):
    calibrator.record("m", 1, 2.0)
    calibrator.record("n", 1, 2.0)
    heads = calibrator.heads()
    calibrator.reset("m")
    assert calibrator.heads()[1] == heads[1]
    assert calibrator.heads()[0] != heads[0]


def test_a_reset_of_a_model_never_seen_does_nothing(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    rows = dump(ledger_path)
    calibrator.reset("unseen")
    assert dump(ledger_path) == rows


def test_resets_may_follow_each_other(calibrator):
    calibrator.record("m", 1, 2.0)
    for _ in range(3):
        calibrator.reset("m")
    assert calibrator.heads()[0].seq == 5


# -- the user's own code --------------------------------------------------------------------


def test_a_prior_function_may_use_the_ledger_itself(ledger_path):
    """It runs outside of any transaction: otherwise this would wait for itself."""
    with AdaptiveCalibrator(ledger_path, timeout_s=5) as other:

        def prior(model):
            other.record(f"asked for {model}", 1, 2.0)
            return 1.0, 2.0, 3.0

        with AdaptiveCalibrator(ledger_path, prior=prior, timeout_s=5) as calibrator:
            calibrator.record("m", 1, 2.0)
            calibrator.record_many([Call("n", 1, 2, 3.0), Call("m", 1, 2, 3.0)])
            calibrator.reset("m")
            calibrator.predict("unseen", 1)
            names = [head.model for head in calibrator.heads()]
            assert names == ["asked for m", "asked for n", "asked for unseen", "m", "n"]
            assert calibrator.calibration("m").base_overhead_ms == 3.0
            assert calibrator.audit() == []


def test_a_prior_function_is_asked_only_where_there_is_no_history(ledger_path):
    asked = []

    def prior(model):
        asked.append(model)
        return 1.0, 2.0, 3.0

    with AdaptiveCalibrator(ledger_path, prior=prior) as calibrator:
        calibrator.record("m", 1, 2.0)
        asked.clear()
        calibrator.record("m", 1, 2.0)
        calibrator.record("m", 1, 2.0, request_id="r")
        calibrator.predict("m", 1)
        calibrator.calibration("m")
        calibrator.replay(0.5)
        calibrator.recalibrate(0.5)
        calibrator.record_many([Call("m", 1, 2, 3.0), Call("n", 1, 2, 3.0)])
        assert asked == ["n"]
        assert calibrator.audit() == []


def test_a_prior_function_that_uses_its_own_calibrator_does_not_wait_for_itself(ledger_path):
    with AdaptiveCalibrator(ledger_path, timeout_s=5) as helper:
        helper.record("base", 100, 500.0, completion_tokens=10)
        with AdaptiveCalibrator(
            ledger_path,
            timeout_s=5,
            prior=lambda _: (0.5, 8.0, calibrator.predict("base", 0).predicted_ms),
        ) as calibrator:
            calibrator.record("new", 1, 2.0)
            assert calibrator.calibration("new").sample_count == 1
            assert calibrator.audit() == []


def test_a_prediction_that_is_no_number_is_an_error_that_says_what_to_do(calibrator):
    calibrator.record("m", 1, 2.0)
    calibrator.recalibrate(1.0)
    calibrator.record("m", 1, 1.7e308)
    for predict in (
        lambda: calibrator.predict("m", 2**20, 2**20),
        lambda: calibrator.calibration("m").predict(2**20, 2**20),
    ):
        with pytest.raises(
            NotFiniteError, match=r"'m' predicts inf ms for 1048576.*Reset the model; its"
        ):
            predict()
    calibrator.reset("m")
    assert calibrator.predict("m", 2**20, 2**20).predicted_ms < 1e9
