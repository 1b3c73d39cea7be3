"""replay_forecasts(): how honest past forecasts were, each as it would have been given then."""

import json
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerCorruptError,
    LedgerNotFoundError,
    ModelNotFoundError,
    NotFiniteError,
)
from calibration_ledger.verbs.forecast import BLOCK, LEAST_FOLDED

SHARES = (0.5, 0.8, 0.9, 0.95)
LEVELS = sorted([0.5, *((1 - s) / 2 for s in SHARES), *((1 + s) / 2 for s in SHARES)])
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def some(count, seed=1, begin=None, step_us=1):
    """Calls made from now on: adjustments are made by the same clock, and in between."""
    rng = random.Random(seed)
    begin = datetime.now(UTC) if begin is None else begin
    found = []
    for i in range(count):
        p, c = rng.randrange(10, 3000), rng.randrange(1, 400)
        y = (250 + 0.2 * p + 12 * c) * rng.lognormvariate(0, 0.2)
        found.append(Call("m", p, c, y, begin + timedelta(microseconds=step_us * i)))
    return found


def asked_one_by_one(calibrator, *, warm_up=20, since=None, until=None):
    """The scores of forecasts that are asked of each moment, worked out plainly."""
    calls = [call for call in calibrator.calls("m") if not call.voided and call.outcome == "ok"]
    calls = calls[warm_up:]
    calls = [c for c in calls if (not since or c.called_at >= since)]
    calls = [c for c in calls if (not until or c.called_at < until)]
    found = [{}, {}]
    for score, is_known in zip(found, (True, False), strict=True):
        held = {share: [] for share in SHARES}
        losses, widths, over, errors, sizes = 0.0, 0.0, 0, [], []
        for call in calls:
            given = call.completion_tokens
            args = ("m", call.prompt_tokens, *[given] * is_known)
            forecast = calibrator.forecast(*args, as_of=call.called_at)
            y, loss = call.actual_ms, 0.0
            for level in LEVELS:
                error = y - forecast.quantile(level)
                loss += level * error if error > 0 else (level - 1) * error
            losses += loss
            for share in SHARES:
                low, high = forecast.interval(share)
                held[share].append(low <= y <= high)
                widths += high - low if share == 0.9 else 0.0
            over += y > forecast.timeout_ms(0.99)
            errors.append(100 * abs(y - forecast.median_ms) / y)
            sizes.append(forecast.basis.known(call.prompt_tokens, given).factor)
        n, mean_ms = len(calls), 0.0
        for call in calls:
            mean_ms += call.actual_ms
        mean_ms /= n
        for share in SHARES:
            score[f"coverage_{share * 100:.0f}"] = sum(held[share]) / n
        in_90 = held[0.9]
        rows = [sum(in_90[i : i + 200]) / 200 for i in range(n - 199)]
        score["worst_200"] = min(rows, default=None)
        by_size = [in_90[i] for i in sorted(range(n), key=sizes.__getitem__)]
        thirds = [[], [], []]
        for place, is_held in enumerate(by_size):
            thirds[3 * (2 * place + 1) // (2 * n)].append(is_held)
        score["worst_third"] = min((sum(t) / len(t) for t in thirds if len(t) >= 15), default=None)
        score["pinball_loss"] = losses / (n * 9) / mean_ms
        score["median_absolute_percentage_error"] = pytest.approx(median(errors), rel=6e-4)
        score["mean_width_ms"] = widths / n
        score["over_timeout"] = over / n
    return {"n": n, "mean_actual_ms": mean_ms, "known": found[0], "unknown": found[1]}


def agrees(calibrator, **more):
    """Whether the replay gives those scores, to the bit."""
    (found,) = calibrator.replay_forecasts("m", **more)
    fields = found.to_dict()
    expected = asked_one_by_one(calibrator, **more)
    assert {name: fields[name] for name in expected} == expected
    assert (found.model, found.unforecast) == ("m", 0)
    assert calibrator.audit() == []
    return found


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_the_scores_are_those_of_forecasts_asked_of_each_moment(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(some(45))
        assert agrees(calibrator, warm_up=0).n == 45
        assert calibrator.replay_forecasts()[0].n == 25


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_a_reset_begins_anew_as_it_did_then(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(some(40))
        calibrator.reset("m")
        calibrator.record_many(some(25, seed=2))
        assert agrees(calibrator).n == 45


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_voided_calls_are_not_scored_but_were_learnt_until_they_were_voided(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(some(30))
        calibrator.record("m", 100, 9e6, completion_tokens=3)
        calibrator.record_many(some(10, seed=2))
        calibrator.void("m", seq=32)
        calibrator.record_many(some(20, seed=3))
        assert agrees(calibrator).n == 40
        calibrator.void("m", seq=[(5, 9), 40])
        calibrator.reset("m")
        calibrator.record_many(some(5, seed=4))
        calibrator.void("m", seq=calibrator.heads()[0].seq - 5)  # the reset itself
        calibrator.record_many(some(5, seed=5))
        assert agrees(calibrator).n == 44


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_calls_that_were_given_up_are_counted_not_scored(ledger, rule):
    """But the forecasts behind them know of them, as they did then."""
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        for seed in range(11):
            calibrator.record_many(some(4, seed=seed))
            calibrator.record("m", 900, 6_000.0, completion_tokens=seed % 3, outcome="timeout")
        calibrator.void("m", last=2)  # a call, and one that was given up
        calibrator.record_many(some(2, seed=20))
        found = agrees(calibrator)
        assert (found.n, found.timeouts) == (25, 6)  # the first 4 belong to the warm-up
        assert calibrator.replay_forecasts(last=9)[0].timeouts == 1


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
@pytest.mark.parametrize("other", ["ema", "kalman"])
def test_another_rule_counts_from_its_recalibration_on(ledger, rule, other):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(some(40))
        calibrator.recalibrate(0.05, other)
        calibrator.record_many(some(25, seed=2))
        assert agrees(calibrator).n == 45


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_what_follows_an_imported_state_rests_on_it_as_it_did_then(ledger_path, tmp_path, rule):
    learnt = {"ms_per_prompt_token": 0.3, "ms_per_completion_token": 9.0, "base_overhead_ms": 99.0}
    state = {"version": 1, "models": [{"model": "m", "sample_count": 5} | learnt]}
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        (tmp_path / "state.json").write_text(json.dumps(state))
        calibrator.import_calls("state", tmp_path / "state.json")
        calibrator.record_many(some(15, seed=2))
        assert agrees(calibrator, warm_up=0).n == 15


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_the_calls_that_an_archive_left_are_scored(ledger_path, tmp_path, rule):
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        calls = some(90)
        calibrator.record_many(calls)
        calibrator.archive(calls[30].called_at, tmp_path / "archived.jsonl")
        assert agrees(calibrator).n == 40
        (found,) = calibrator.replay_forecasts(warm_up=0)
        assert found.n == 60


@pytest.mark.parametrize("count", [BLOCK + LEAST_FOLDED, 2 * BLOCK + LEAST_FOLDED])
def test_the_fold_begins_anew_where_that_of_a_forecast_does(ledger_path, count):
    calls = some(count + 12, step_us=1_000_000, begin=NOON)
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record_many(calls)
        window = {"since": calls[count - 8].called_at, "until": calls[count + 8].called_at}
        assert agrees(calibrator, **window).n == 16
        (whole,) = calibrator.replay_forecasts()
        assert whole.n == count - 8
        assert whole.known.coverage_90 == pytest.approx(0.9, abs=0.03)
        assert whole.unknown.coverage_90 == pytest.approx(0.9, abs=0.03)
        assert 0.8 < whole.known.worst_200 < 0.9


@pytest.mark.both
def test_a_window_and_the_newest_calls_choose_what_is_scored(ledger):
    calls = some(70, step_us=1_000_000, begin=NOON)
    with AdaptiveCalibrator(ledger, rule="kalman") as calibrator:
        calibrator.record_many(calls)
        middle = {"since": calls[30].called_at, "until": calls[50].called_at}
        assert agrees(calibrator, **middle).n == 20
        newest = {"since": calls[45].called_at}
        (found,) = calibrator.replay_forecasts(last=25)
        assert repr(found) == repr(agrees(calibrator, **newest))  # NaN is not equal to itself
        assert calibrator.replay_forecasts(last=5, until=calls[50].called_at)[0].n == 5
        # Of a window at the beginning, the warm-up is not scored.
        assert calibrator.replay_forecasts(until=calls[30].called_at)[0].n == 10
        (none,) = calibrator.replay_forecasts(since=NOON + timedelta(days=1))
        assert (none.n, none.to_dict()["known"]["coverage_90"]) == (0, None)
        assert calibrator.audit() == []


def test_times_that_go_back_do_not_matter(ledger_path):
    calls = some(60, step_us=1_000_000, begin=NOON)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(calls)
        (expected,) = calibrator.replay_forecasts()
    with AdaptiveCalibrator(ledger_path.with_name("other.db")) as calibrator:
        mixed = [call.called_at for call in calls]
        random.Random(3).shuffle(mixed)
        times = zip(calls, mixed, strict=True)
        calibrator.record_many(
            Call("m", c.prompt_tokens, c.completion_tokens, c.actual_ms, at) for c, at in times
        )
        assert repr(calibrator.replay_forecasts()) == repr([expected])
        (half,) = calibrator.replay_forecasts(since=sorted(mixed)[30], warm_up=0)
        assert half.n == 30
        assert calibrator.audit() == []


def test_an_absurd_call_leaves_no_forecast_until_it_is_voided(ledger_path):
    with AdaptiveCalibrator(ledger_path, alpha=1e-6) as calibrator:
        calibrator.record_many(some(30))
        calibrator.record("m", 1, 1.7e308, completion_tokens=1)
        calibrator.record_many(some(10, seed=2))
        calibrator.void("m", seq=32)
        calibrator.record_many(some(10, seed=3))
        (found,) = calibrator.replay_forecasts()
        assert (found.n, found.unforecast) == (20, 10)
        assert found.known.coverage_95 > 0.5
        assert calibrator.audit() == []


def test_an_absurd_prior_leaves_no_forecast_until_a_reset(ledger_path):
    with AdaptiveCalibrator(ledger_path, prior=lambda _: (0.5, 8.0, 1e200)) as calibrator:
        calibrator.record_many(some(30))
        with pytest.raises(NotFiniteError):
            calibrator.forecast("m", 1)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.reset("m")
        calibrator.record_many(some(10, seed=3))
        (found,) = calibrator.replay_forecasts()
        assert (found.n, found.unforecast) == (10, 10)
        assert calibrator.audit() == []


def test_progress_counts_every_call_once(ledger_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record_many(some(700))
        calibrator.reset("m")
        calls = some(30, seed=2)
        calibrator.record_many(calls)
        for more in (
            {},
            {"since": calls[10].called_at},
            {"last": 5},
            {"until": calls[0].called_at},
        ):
            steps = []
            calibrator.replay_forecasts(progress=steps.append, **more)
            assert sum(steps) == 730
            assert 0 not in steps
        assert calibrator.audit() == []


def test_an_archive_in_the_middle_makes_it_begin_again(ledger_path, tmp_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calls = some(1200)
        calibrator.record_many(calls)

        def archive_once(_steps):
            if not (tmp_path / "archived.jsonl").exists():
                calibrator.archive(calls[700].called_at, tmp_path / "archived.jsonl")

        found = calibrator.replay_forecasts(progress=archive_once)
        assert repr(found) == repr(calibrator.replay_forecasts())
        assert found[0].n == 480
        assert calibrator.audit() == []


def test_every_model_has_its_own(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calls = some(30)
        calibrator.record_many(calls)
        calibrator.record("a", 1, 2.0)
        found = calibrator.replay_forecasts()
        assert [(one.model, one.n) for one in found] == [("a", 0), ("m", 10)]
        assert repr(calibrator.replay_forecasts("m")) == repr(found[1:])
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    "more",
    [
        *({"warm_up": bad} for bad in (-1, 1.5, True, "20", None, 10**9)),
        *({"last": bad} for bad in (0, -1, 2.0, True, "5")),
        *({"since": bad} for bad in ("yesterday", 5, datetime(2026, 1, 1))),  # noqa: DTZ001 - without a zone, as it should not be
        {"until": "now"},
        {"model": ""},
        {"model": 5},
    ],
)
def test_wrong_input_is_refused(ledger_path, more):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some(3))
        with pytest.raises(InvalidInputError):
            calibrator.replay_forecasts(**more)
        assert calibrator.audit() == []


def test_what_is_not_there_is_told(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises(LedgerNotFoundError):
            calibrator.replay_forecasts()
        assert not ledger_path.exists()
        calibrator.record_many(some(3))
        with pytest.raises(ModelNotFoundError, match="'nobody'"):
            calibrator.replay_forecasts("nobody")
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM adjustments",
        "UPDATE adjustments SET rule_state = X'00', rule = 'kalman.1'",
        "UPDATE calls SET called_at = -9e18 WHERE seq = 30",
    ],
)
def test_a_damaged_ledger_is_told_as_that(ledger_path, damage):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calls = some(60)
        calibrator.record_many(calls)
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = 1")
        connection.execute(damage)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises(LedgerCorruptError):
            calibrator.replay_forecasts()
        with pytest.raises(LedgerCorruptError):
            calibrator.forecast("m", 1, as_of=calls[29].called_at)
