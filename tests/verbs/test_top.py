"""top(): the models in use and the newest calls of them all."""

from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError, ModelNotFoundError
from calibration_ledger.core.values import Drift
from support.by_hand import edited


def calls_of(model, count, *, slower_from=1_000, every_s=1.0):
    now = datetime.now(UTC)
    return [
        Call(
            model,
            100 + 7 * i % 90,
            length,
            (500.0 + 10.0 * length + i % 5) * (3.0 if i >= slower_from else 1.0),
            now - timedelta(seconds=every_s * (count - i)),
        )
        for i in range(count)
        for length in [50 + 13 * i % 70]
    ]


@pytest.mark.both
def test_each_model_has_the_figures_that_the_other_verbs_give(calibrator):
    calibrator.record_many(calls_of("steady", 60) + calls_of("slower", 80, slower_from=60))
    found = calibrator.top()
    assert [one.model for one in found.models] == ["slower", "steady"]
    assert found.models_in_all == 2
    for one in found.models:
        stats = calibrator.get_stats(one.model, rounded=False)
        assert one.calls == stats["sample_count"]
        error = stats["median_absolute_percentage_error"]
        assert one.median_absolute_percentage_error == error
        assert one.drift == stats["drift"]
        assert one.prompt_tokens == calibrator.forecast(one.model, 0).basis.middle_prompt
        forecast = calibrator.forecast(one.model, one.prompt_tokens)
        assert (one.median_ms, one.interval_ms) == (forecast.median_ms, forecast.interval(0.9))
        assert one.status == forecast.status
        assert one.newest_at == max(call.called_at for call in calibrator.calls(one.model))
    assert isinstance(found.models[0].drift, Drift)
    assert 30.0 < found.models[1].calls_per_minute <= 61.0


@pytest.mark.both
def test_the_newest_calls_are_those_of_all_models_without_voided_ones(calibrator):
    calibrator.record_many(calls_of("a", 5) + calls_of("b", 5, every_s=0.3))
    calibrator.record("a", 1, 900.0, outcome="timeout", called_at=datetime.now(UTC))
    calibrator.void("b", last=1)
    found = calibrator.top(limit=4).calls
    counted = [call for call in calibrator.calls() if not call.voided]
    newest = sorted(counted, key=lambda call: (call.called_at, call.seq), reverse=True)
    assert list(found) == newest[:4]
    assert found[0].outcome == "timeout"
    assert calibrator.top(limit=0).calls == ()
    assert len(calibrator.top(limit=1000).calls) == 10


@pytest.mark.both
def test_a_ledger_that_is_not_there_yet_has_none_and_may_come_to_life(calibrator):
    assert calibrator.top().models == ()
    assert calibrator.top().calls == ()
    calibrator.record("m", 1, 2.0)
    assert [(one.model, one.calls) for one in calibrator.top().models] == [("m", 1)]
    calibrator.reset()
    (one,) = calibrator.top().models
    assert (one.calls, one.median_ms, one.status) == (0, None, "no history")
    assert len(calibrator.top().calls) == 1


def test_what_has_not_changed_is_not_read_again(calibrator, monkeypatch):
    calibrator.record_many(calls_of("a", 50) + calls_of("b", 50))
    asked = []
    backend = calibrator._ledger.backend
    read = backend.read
    monkeypatch.setattr(backend, "read", lambda *given: asked.append(given[0]) or read(*given))
    first = calibrator.top()
    assert len(asked) > 5
    asked.clear()
    assert calibrator.top().calls == first.calls
    assert asked == [backend.sql.list_calibrations]
    calibrator.record("b", 1, 2.0)
    asked.clear()
    assert calibrator.top().calls[0].actual_ms == 2.0
    assert 1 < len(asked) < 8


def test_more_calls_are_read_where_more_are_asked_for(calibrator):
    calibrator.record_many(calls_of("a", 130))
    assert len(calibrator.top(limit=5).calls) == 5
    assert len(calibrator.top(limit=120).calls) == 120


def test_of_many_models_those_that_were_called_last_are_shown(calibrator, monkeypatch):
    monkeypatch.setattr("calibration_ledger.verbs.top.MODELS", 2)
    for model in ("a", "c", "b"):
        calibrator.record(model, 1, 2.0)
    found = calibrator.top()
    assert [one.model for one in found.models] == ["b", "c"]
    assert found.models_in_all == 3


def test_another_calibrator_sees_what_this_one_records(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    with AdaptiveCalibrator(ledger_path) as other:
        assert other.top().models[0].calls == 1
        calibrator.record("m", 1, 3.0)
        assert [call.actual_ms for call in other.top().calls] == [3.0, 2.0]


def test_some_models_are_shown_alone_and_by_their_other_names(calibrator):
    calibrator.record_many(calls_of("a", 2) + calls_of("b", 2) + calls_of("c", 2))
    calibrator.alias("other", "b")
    assert [one.model for one in calibrator.top("a").models] == ["a"]
    found = calibrator.top(["c", "other", "b"], by="model")
    assert [one.model for one in found.models] == ["b", "c"]
    assert {call.model for call in found.calls} == {"b", "c"}
    with pytest.raises(ModelNotFoundError, match="'d'"):
        calibrator.top(["a", "d"])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"limit": -1}, "limit must be"),
        ({"limit": 1001}, "limit must be"),
        ({"limit": True}, "limit must be"),
        ({"limit": 1.0}, "limit must be"),
        ({"by": "size"}, "by must be one of newest, model"),
        ({"by": None}, "by must be"),
        ({"model": ""}, "model"),
        ({"model": [1]}, "model"),
    ],
)
def test_a_wrong_argument_is_refused(calibrator, wrong, told):
    with pytest.raises(InvalidInputError, match=told):
        calibrator.top(**wrong)


def test_a_model_whose_calls_are_damaged_is_still_counted(tmp_path):
    path = tmp_path / "damaged.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(calls_of("good", 3) + calls_of("bad", 3))
    of_bad = "model_id = (SELECT id FROM models WHERE model = 'bad')"
    edited(path, f"UPDATE calls SET called_at = 9000000000000000000 WHERE seq = 3 AND {of_bad}")
    with AdaptiveCalibrator(path) as calibrator:
        found = calibrator.top(by="model")
        assert [(one.model, one.calls) for one in found.models] == [("bad", 3), ("good", 3)]
        assert {call.model for call in found.calls} == {"good"}
