"""forecast() on real ledgers: what it rests on, and that it is the same however it is asked."""

import json
import random
import sqlite3
import weakref
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.drift import ratio_of
from calibration_ledger.core.forecast import Basis, Observed
from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.state import State
from calibration_ledger.errors import (
    HistoryArchivedError,
    InvalidInputError,
    LedgerCorruptError,
    NotFiniteError,
)
from calibration_ledger.rules import find_rule

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
KALMAN = find_rule("kalman")


def some(count, seed=1, model="m", begin=0, **more):
    rng = random.Random(f"{seed} {begin}")
    found = []
    for i in range(begin, begin + count):
        p, c = rng.randrange(10, 3000), rng.randrange(1, 400)
        y = (250 + 0.2 * p + 12 * c) * rng.lognormvariate(0, 0.2)
        found.append(Call(model, p, c, y, NOON + timedelta(seconds=i), **more))
    return found


def told(calibrator, model="m", **more):
    forecasts = [
        calibrator.forecast(model, 700, **more),
        calibrator.forecast(model, 700, 120, **more),
        calibrator.forecast(model, 700, max_tokens=50, **more),
    ]
    return [
        [*map(one.quantile, LEVELS), one.mean_ms, one.n, one.newest, one.status]
        for one in forecasts
    ]


def worked_out(calls, rule=KALMAN, skipped=0, prior=None):
    """The basis of a fold of these calls, one call at a time."""
    state = State.from_prior(rule, rule.default_alpha, prior or default_prior("m"), 0)
    observed = []
    for call in calls[skipped:]:
        row = (call.prompt_tokens,), (call.completion_tokens,), (call.actual_ms,)
        (predicted,) = state.learn((0,), *row)
        ratio = ratio_of(call.actual_ms, predicted)
        observed.append(Observed(*(value for (value,) in row), ratio))
    numbers = tuple(state.numbers[:3])
    return Basis("m", numbers, observed[-200:], len(calls), rule=rule.version)


def quantiles(sample):
    return [sample.quantile(level) for level in LEVELS]


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
@pytest.mark.parametrize("count", [1, 9, 25, 170])
def test_a_forecast_is_that_of_kalman_whatever_rule_is_live(ledger, rule, count):
    calls = some(count)
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(calls)
        known, unknown = worked_out(calls).known(700, 120), worked_out(calls).unknown(700, None)
        assert quantiles(calibrator.forecast("m", 700, 120)) == quantiles(known)
        assert quantiles(calibrator.forecast("m", 700)) == quantiles(unknown)
        assert calibrator.audit() == []


@pytest.mark.both
def test_a_model_never_seen_is_forecast_from_its_prior(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        found = calibrator.forecast("m", 100, 50)
        assert (found.n, found.newest, found.status) == (0, None, "no history")
        assert found.median_ms == pytest.approx(300 + 50 + 400, rel=0.02)
        assert "no history" in found.explain()
        assert calibrator.forecast("m", 100).completion_tokens.median == 128
        assert not calibrator.forecast("m", 100).completion_tokens.is_given


@pytest.mark.parametrize("rule", ["ema", "kalman"])
@pytest.mark.parametrize("steps", [[1] * 40, [30, 1, 7, 500, 2, 209, 3], [1100, 1, 148, 1, 1]])
def test_what_a_process_carries_on_is_what_a_new_one_reads(ledger_path, rule, steps):
    with AdaptiveCalibrator(ledger_path, rule=rule, durability="normal") as calibrator:
        begin = 0
        for step in steps:
            calibrator.record_many(some(step, begin=begin))
            begin += step
            with AdaptiveCalibrator(ledger_path) as other:
                assert told(calibrator) == told(other)
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    ("count", "skipped"), [(500, 0), (749, 0), (750, 500), (1249, 500), (1250, 1000), (1520, 1000)]
)
def test_the_fold_begins_at_a_multiple_of_500_calls(ledger_path, count, skipped):
    calls = some(count)
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record_many(calls)
        expected = worked_out(calls, skipped=skipped).known(700, 120)
        assert quantiles(calibrator.forecast("m", 700, 120)) == quantiles(expected)
        assert calibrator.audit() == []


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_a_forecast_as_of_a_moment_is_the_one_that_was_given_then(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        given = []
        for begin in range(0, 240, 20):
            calibrator.record_many(some(20, begin=begin))
            given.append(told(calibrator))
        for place, expected in enumerate(given, 1):
            as_of = NOON + timedelta(seconds=20 * place)
            assert told(calibrator, as_of=as_of) == expected
        assert calibrator.forecast("m", 700, as_of=NOON).status == "no history"
        assert calibrator.audit() == []


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_calls_that_came_later_and_were_voided_change_no_past_forecast(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(some(40))
        expected = told(calibrator)
        calibrator.record_many(some(20, begin=40))
        calibrator.void("m", last=20)
        calibrator.record_many(some(5, begin=70))
        assert told(calibrator, as_of=NOON + timedelta(seconds=40)) == expected
        assert calibrator.audit() == []


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_voided_calls_count_no_longer_and_a_reset_begins_anew(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calls = some(60)
        calibrator.record_many(calls)
        calibrator.forecast("m", 700)
        calibrator.record("m", 100, 9e6, completion_tokens=3)
        calibrator.void("m", last=1)
        found = calibrator.forecast("m", 700, 120)
        assert found.basis.count == 60
        assert found.quantile(0.975) < 9e5
        calibrator.reset("m")
        assert calibrator.forecast("m", 700).status == "no history"
        calibrator.record_many(some(12, begin=60))
        assert calibrator.forecast("m", 700).basis.count == 12
        assert calibrator.forecast("m", 700).status == "few calls"
        assert calibrator.audit() == []


@pytest.mark.both
def test_calls_from_before_a_recalibration_are_held_against_the_coefficients_of_now(ledger):
    with AdaptiveCalibrator(ledger, rule="ema") as calibrator:
        calls = some(80)
        calibrator.record_many(calls)
        calibrator.recalibrate(rule="kalman")
        state = calibrator.calibration("m")
        ratios = [
            ratio_of(call.actual_ms, state.predict(call.prompt_tokens, call.completion_tokens))
            for call in calls
        ]
        found = calibrator.forecast("m", 700, 120).basis
        assert found.ratios.values == pytest.approx(sorted(ratios[10:]))
        calibrator.record_many(some(1, begin=80))
        with AdaptiveCalibrator(ledger) as other:
            assert told(calibrator) == told(other)
        assert calibrator.audit() == []


def test_a_forecast_of_archived_calls_is_refused_or_goes_on_with_those_that_are_left(
    ledger_path, tmp_path
):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some(100))
        calibrator.archive(NOON + timedelta(seconds=50), tmp_path / "archived.jsonl")
        assert calibrator.forecast("m", 700).basis.count == 50
        with pytest.raises(HistoryArchivedError, match="import ledger"):
            calibrator.forecast("m", 700, as_of=NOON + timedelta(seconds=20))
        assert calibrator.audit() == []


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_the_time_to_the_first_token_is_learnt_from_the_details(ledger, rule):
    rng = random.Random(5)
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        assert calibrator.forecast_ttft("m", 500).status == "no history"
        for call in some(60):
            ttft_ms = (80 + 0.1 * call.prompt_tokens) * rng.lognormvariate(0, 0.1)
            details = {"ttft_ms": ttft_ms} if rng.random() < 0.8 else None
            calibrator.record(
                "m",
                call.prompt_tokens,
                call.actual_ms,
                completion_tokens=call.completion_tokens,
                called_at=call.called_at,
                details=details,
            )
            found = calibrator.forecast_ttft("m", 500)
        assert found.median_ms == pytest.approx(130, rel=0.15)
        assert 30 < found.basis.count < 60
        with AdaptiveCalibrator(ledger) as other:
            assert quantiles(other.forecast_ttft("m", 500)) == quantiles(found)
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (("", 1), {}),
        (("m", -1), {}),
        (("m", 1.5), {}),
        (("m", 1, -2), {}),
        (("m", 1), {"max_tokens": -1}),
        (("m", 1), {"as_of": "yesterday"}),
        (("m", 1), {"as_of": datetime(2026, 1, 1)}),  # noqa: DTZ001 - without a zone, as it should not be
    ],
)
def test_wrong_input_is_refused(ledger_path, arguments, more):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some(3))
        with pytest.raises(InvalidInputError):
            calibrator.forecast(*arguments, **more)
        assert calibrator.audit() == []


def test_a_forecast_does_not_make_a_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.forecast("m", 3)
    assert not ledger_path.exists()


def test_a_calibrator_that_forecasts_goes_with_its_last_name(ledger_path):
    """In a cycle, it would keep its files open until the garbage collector comes by."""
    calibrator = AdaptiveCalibrator(ledger_path)
    calibrator.record_many(some(3))
    calibrator.forecast("m", 5)
    dropped = weakref.ref(calibrator)
    del calibrator
    assert dropped() is None


@pytest.mark.parametrize("rule", ["ema", "kalman"])
@pytest.mark.parametrize("ttft", [False, True])
def test_a_restored_backup_that_has_grown_again_is_read_anew(ledger_path, tmp_path, rule, ttft):
    def asked(calibrator):
        found = calibrator.forecast_ttft("m", 700) if ttft else calibrator.forecast("m", 700, 120)
        return quantiles(found), found.n

    calls = [replace(call, details={"ttft_ms": call.actual_ms / 9}) for call in some(90)]
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        calibrator.record_many(calls[:60])
        backup = calibrator.backup(tmp_path / "backup.db")
        calibrator.record_many(calls[60:])
        before = asked(calibrator)
        with AdaptiveCalibrator(backup) as other:
            others = {"actual_ms": 7_000.0, "details": {"ttft_ms": 70.0}}
            other.record_many([replace(call, **others) for call in calls[60:]])
            other.record_many(some(5, begin=90, details={"ttft_ms": 70.0}))
        with closing(sqlite3.connect(backup)) as grown, closing(sqlite3.connect(ledger_path)) as to:
            grown.backup(to)
        with AdaptiveCalibrator(ledger_path) as new:
            assert asked(calibrator) == asked(new) != before
        assert calibrator.audit() == []


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_a_time_to_the_first_token_beyond_all_numbers_is_none(ledger_path, rule):
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        calibrator.record_many(some(20, details={"ttft_ms": 50.0}))
        assert calibrator.forecast_ttft("m", 100).n == 10
        calibrator.record_many(some(1, begin=20, details={"ttft_ms": 10**400}))
        assert calibrator.forecast_ttft("m", 100).n == 10
        with AdaptiveCalibrator(ledger_path) as new:
            assert new.forecast_ttft("m", 100).n == 10
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE call_details SET details = '{\"ttft_ms\": ' WHERE seq = 22",
        "UPDATE call_details SET details = '[\"ttft_ms\"]' WHERE seq = 22",
        "UPDATE call_details SET details = '[1, \"ttft_ms' WHERE seq = 22",
    ],
)
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_damage_is_told_by_who_carries_on_as_by_who_reads_anew(ledger_path, rule, statement):
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        calibrator.record_many(some(20, details={"ttft_ms": 50.0}))
        calibrator.forecast_ttft("m", 100)
        calibrator.record_many(some(3, begin=20, details={"ttft_ms": 50.0}))
        with closing(sqlite3.connect(ledger_path)) as connection, connection:
            connection.execute(statement)
        with pytest.raises(LedgerCorruptError):
            calibrator.forecast_ttft("m", 100)
        with AdaptiveCalibrator(ledger_path) as new, pytest.raises(LedgerCorruptError):
            new.forecast_ttft("m", 100)


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_what_is_archived_while_a_past_moment_is_read_is_read_anew(ledger_path, tmp_path, rule):
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        calibrator.record_many(some(90))
        ledger, opened = calibrator._ledger, []

        def history(live):
            opened.append(type(ledger).history(ledger, live))
            if len(opened) == 2:  # the history up to that moment is read next
                with AdaptiveCalibrator(ledger_path) as other:
                    other.archive(NOON + timedelta(seconds=20), tmp_path / "old.jsonl")
            return opened[-1]

        ledger.history = history
        found = calibrator.forecast("m", 700, as_of=NOON + timedelta(seconds=60))
        assert len(opened) == 4
        assert found.basis.count == 40
        assert calibrator.audit() == []


def test_a_model_that_cannot_be_forecast_is_named_and_a_reset_helps(ledger_path, tmp_path):
    numbers = {"ms_per_prompt_token": 1.0, "ms_per_completion_token": 1e200}
    numbers |= {"total_absolute_error_ms": 1.0, "total_predicted_ms": 1.0}
    state = {"model": "absurd", "alpha": 0.2, "sample_count": 9, "base_overhead_ms": 1.0}
    (tmp_path / "state.json").write_text(json.dumps({"version": 1, "models": [state | numbers]}))
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.import_calls("state", tmp_path / "state.json")
        calibrator.record_many([*some(40), *some(3, model="absurd")])
        for ask in (calibrator.rank, lambda p: calibrator.forecast("absurd", p)):
            with pytest.raises(NotFiniteError, match=r"of the model 'absurd'.*reset the model"):
                ask(100)
        calibrator.reset("absurd")
        assert [one.model for one in calibrator.rank(100)] == ["m", "absurd"]
        assert calibrator.audit() == []
