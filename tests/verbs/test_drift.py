"""drift() on real ledgers: which models became slower or faster, and since which call."""

import random
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, Drift, ModelDrift
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerNotFoundError,
    ModelNotFoundError,
    NotFiniteError,
)
from support.reference import dump

START = datetime(2026, 1, 2, tzinfo=UTC)


def some(model, *parts, seed=1, start=START, **fields):
    """A call an hour, for (factor, count) one after the other: each takes the factor as long."""
    rng, hours = random.Random(seed), 0
    for factor, count in parts:
        for _ in range(count):
            p, c = rng.randrange(10, 4000), rng.randrange(5, 400)
            ms = factor * (400 + 0.5 * p + 20 * c) * rng.lognormvariate(0, 0.1)
            yield Call(model, p, c, ms, start + timedelta(hours=hours), **fields)
            hours += 1


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_a_model_that_became_slower_is_told_with_its_first_slow_call(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(some("slow", (1.0, 240), (1.6, 20)))
        calibrator.record_many(some("fast", (1.0, 240), (0.5, 20)))
        calibrator.record_many(some("same", (1.0, 260)))
        calibrator.record_many(some("new", (1.0, 39)))
        fast, new, same, slow = calibrator.drift()
        assert new == ModelDrift("new", 39)
        assert same == ModelDrift("same", 200)
        assert (new.is_enough, same.is_enough) == (False, True)
        for found, factor in ((slow, 1.6), (fast, 0.5)):
            assert (found.calls, found.drift.since) == (200, 20)
            assert found.drift.factor == pytest.approx(factor, rel=0.15)
            assert (found.first_seq, found.first_at) == (242, START + timedelta(hours=240))
        assert calibrator.drift("slow") == [slow]
        assert calibrator.drift(["slow", "fast", "slow"]) == [fast, slow]
        for found in calibrator.drift():
            model, told = found.model, found.drift
            assert calibrator.forecast(model, 10).basis.drift == told
            assert calibrator.get_stats(model, rounded=False)["drift"] == told
        facts = calibrator.doctor().facts
        assert (facts.drifts, facts.unanswered, facts.obstacles) == ((fast, slow), (), ())
        assert calibrator.get_stats("slow")["drift"] == Drift(20, round(slow.drift.factor, 2))
        assert calibrator.audit() == []


def test_the_factor_is_between_what_the_calls_took_over_what_is_predicted_of_them_now(calibrator):
    """Where that is `kalman`'s, the calibration says it."""
    with AdaptiveCalibrator(":memory:", rule="kalman") as other:
        other.record_many(some("m", (1.0, 200), (1.5, 30)))
        live = other.calibration("m")
        ratios = [
            call.actual_ms / live.predict(call.prompt_tokens, call.completion_tokens)
            for call in other.calls("m", last=200)
        ]
        (found,) = other.drift()
        since = found.drift.since
        assert found.drift.factor == median(ratios[-since:]) / median(ratios[:-since])
    calibrator.record_many(some("m", (1.0, 200), (1.5, 30)))
    (alike,) = calibrator.drift()
    assert alike.drift.since == since
    assert alike.drift.factor == pytest.approx(found.drift.factor, rel=0.1)


def test_a_change_is_told_soon_and_no_longer_than_it_is_news(calibrator):
    calibrator.record_many(some("m", (1.0, 200)))
    told = []
    calls = list(some("m", (1.6, 220), seed=2))
    for start in range(0, len(calls), 5):
        calibrator.record_many(calls[start : start + 5])
        (found,) = calibrator.drift()
        told.append(found.drift is not None)
    first, last = told.index(True), len(told) - told[::-1].index(True)
    assert first < 2
    assert all(told[first:20])
    assert 20 <= last < 40


def test_it_changes_nothing(calibrator, ledger_path):
    calibrator.record_many(some("m", (1.0, 100), (1.6, 20)))
    before = dump(ledger_path)
    assert calibrator.drift()[0].drift is not None
    assert dump(ledger_path) == before


@pytest.mark.both
def test_voided_calls_and_time_outs_are_not_looked_at(calibrator):
    calibrator.record_many(some("m", (1.0, 200)))
    (same,) = calibrator.drift()
    calibrator.record_many(some("m", (9.0, 30), outcome="timeout"))
    assert calibrator.drift() == [ModelDrift("m", 170)]  # they are among the newest 200
    calibrator.record_many(some("m", (1.6, 30)))
    (found,) = calibrator.drift()
    assert (found.calls, found.drift.since) == (170, 30)
    assert found.first_seq == 232
    calibrator.void("m", seq=(202, 261))
    assert calibrator.drift() == [same]


def test_what_was_before_a_reset_is_not_looked_at(calibrator):
    calibrator.record_many(some("m", (1.0, 200)))
    calibrator.reset("m")
    assert calibrator.drift() == [ModelDrift("m", 0)]
    calibrator.record_many(some("m", (1.6, 60)))
    assert calibrator.drift() == [ModelDrift("m", 60)]


def test_archived_calls_are_not_looked_at(calibrator, tmp_path):
    calibrator.record_many(some("m", (1.0, 200), (1.6, 20)))
    assert calibrator.drift()[0].drift is not None
    calibrator.archive(START + timedelta(hours=190), tmp_path / "old.jsonl")
    assert calibrator.drift() == [ModelDrift("m", 30)]


def test_adopting_another_rule_makes_no_drift_and_hides_none(calibrator):
    calibrator.record_many(some("same", (1.0, 220)))
    calibrator.record_many(some("slow", (1.0, 200), (1.6, 20)))
    before = [found.drift and found.drift.since for found in calibrator.drift()]
    for rule in ("kalman", "ema"):
        calibrator.recalibrate(rule=rule)
        assert [found.drift and found.drift.since for found in calibrator.drift()] == before


def test_calls_that_all_take_the_same_or_no_time_are_no_drift(calibrator):
    for model, ms in (("all equal", 100.0), ("zero", 0.0)):
        calibrator.record_many([Call(model, 0, 0, ms, START)] * 100)
    assert [found.drift for found in calibrator.drift()] == [None, None]
    calibrator.record_many([Call("zero", 0, 0, 50.0, START)] * 20)
    assert calibrator.drift("zero")[0].drift is None  # there is no factor of nothing
    calibrator.record_many([Call("all equal", 0, 0, 150.0, START)] * 20)
    (found,) = calibrator.drift("all equal")
    assert found.drift == Drift(20, 1.5)


@pytest.mark.parametrize("model", ["", 5, b"m", ["m", ""], ["m", None], [5]])
def test_what_is_no_name_is_refused(calibrator, model):
    calibrator.record("m", 1, 1.0)
    with pytest.raises(InvalidInputError):
        calibrator.drift(model)


def test_a_model_or_a_ledger_that_is_not_there_is_told(calibrator, tmp_path):
    with pytest.raises(LedgerNotFoundError):
        AdaptiveCalibrator(tmp_path / "none.db").drift()
    calibrator.record("small", 1, 1.0)
    for model in ("smal", ["small", "smal"]):
        with pytest.raises(ModelNotFoundError, match="'small'"):
            calibrator.drift(model)
    assert calibrator.drift([]) == []


def test_where_nothing_can_be_forecast_drift_cannot_be_told_and_all_else_can(ledger_path):
    with AdaptiveCalibrator(ledger_path, prior=lambda _: (0.1, 0.1, 1e200)) as calibrator:
        calibrator.record_many(some("absurd", (1.0, 60)))
        with pytest.raises(NotFiniteError, match="would not stay finite"):
            calibrator.drift()
        stats = calibrator.get_stats("absurd")
        assert (stats["newest_calls"], stats["drift"]) == (60, None)
        diagnosis = calibrator.doctor()
        assert "would not stay finite" in diagnosis.facts.unanswered[0]
        assert diagnosis.needs_action
        assert calibrator.audit() == []
