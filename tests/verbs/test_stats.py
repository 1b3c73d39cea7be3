"""get_stats() says how well the newest calls were predicted."""

import random
import statistics
from datetime import UTC, datetime
from time import perf_counter

import pytest

from calibration_ledger import AdaptiveCalibrator, Call

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SEEDS = {
    "model",
    "sample_count",
    "confidence",
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "mean_absolute_error_ms",
    "last_updated",
    "status",
}


def some(model, count, seed=1, spread=0.1):
    rng = random.Random(seed)
    for _ in range(count):
        p, c = rng.randrange(10, 4000), rng.randrange(5, 400)
        yield Call(model, p, c, (400 + 0.5 * p + 20 * c) * rng.lognormvariate(0, spread), NOON)


def judged(calls, predicted=None):
    """The figures of these calls, worked out by hand."""
    errors = [
        call.actual_ms - (predicted(call) if predicted else call.predicted_ms) for call in calls
    ]
    shares = [
        100 * abs(error) / call.actual_ms
        for call, error in zip(calls, errors, strict=True)
        if call.actual_ms
    ]
    return {
        "newest_calls": len(calls),
        "mean_actual_ms": pytest.approx(statistics.fmean(call.actual_ms for call in calls)),
        "median_absolute_percentage_error": pytest.approx(statistics.median(shares)),
        "newest_errors_ms": pytest.approx(errors[-16:]),
    }


def figures(calibrator, model="m"):
    stats = calibrator.get_stats(model, rounded=False)
    return {name: stats[name] for name in judged([Call("m", 1, 1, 1.0, predicted_ms=1.0)])}


@pytest.mark.both
@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 250])
def test_the_newest_hundred_calls_are_judged_by_what_was_predicted_before(calibrator, count):
    calibrator.record_many(some("m", count))
    calibrator.record("m", 10, 0.0)  # no percentage of nothing
    calls = list(calibrator.calls("m", last=100))
    assert figures(calibrator) == judged(calls)
    assert calibrator.all_stats() == [calibrator.get_stats("m")]
    live, stats = calibrator.calibration("m"), calibrator.get_stats("m")
    assert (stats["rule"], stats["alpha"]) == (live.rule, live.alpha)


def test_the_words_and_keys_that_were_there_stay(calibrator):
    calibrator.record_many(some("m", 20, spread=1.0))
    stats = calibrator.get_stats("m")
    assert set(stats) > SEEDS
    assert stats["status"] == "calibrated"
    assert not stats["is_calibrated"]
    assert stats["mean_actual_ms"] == round(stats["mean_actual_ms"], 1)
    calibrator.reset("m")
    assert set(calibrator.get_stats("m")) == {"model", "sample_count", "confidence", "status"}
    assert calibrator.get_stats("never seen")["status"] == "uncalibrated (prior only)"


def test_voided_calls_are_not_judged_and_older_ones_come_in(calibrator):
    calibrator.record_many(some("m", 150))
    calibrator.record_many([Call("m", 10, 10, 5e6, NOON)] * 3)
    calibrator.void("m", seq=(152, 154))
    counting = [call for call in calibrator.calls("m") if not call.voided]
    live = calibrator.calibration("m")
    predicted = lambda call: live.predict(call.prompt_tokens, call.completion_tokens)  # noqa: E731 - short
    assert figures(calibrator) == judged(counting[-100:], predicted)
    assert figures(calibrator)["newest_calls"] == 100


def test_calls_before_a_reset_are_not_judged(calibrator):
    calibrator.record_many(some("m", 150))
    calibrator.reset("m")
    calibrator.record_many(some("m", 12, seed=2))
    assert figures(calibrator) == judged(list(calibrator.calls("m", last=12)))
    calibrator.void("m", seq=152)  # the reset itself
    assert figures(calibrator)["newest_calls"] == 100


def test_what_is_adopted_is_judged_by_what_it_says_of_the_calls_before(calibrator):
    """Else the advice to adopt it would seem to have helped nothing for a hundred calls."""
    calibrator.record_many(some("m", 240))
    assert not calibrator.get_stats("m")["is_calibrated"]
    calibrator.recalibrate(best=True)
    live = calibrator.calibration("m")
    predicted = lambda call: live.predict(call.prompt_tokens, call.completion_tokens)  # noqa: E731 - short
    assert figures(calibrator) == judged(list(calibrator.calls("m", last=100)), predicted)
    assert calibrator.get_stats("m")["is_calibrated"]
    calibrator.record_many(some("m", 100, seed=3))
    assert figures(calibrator) == judged(list(calibrator.calls("m", last=100)))


def test_archived_calls_are_not_judged(calibrator, tmp_path):
    calibrator.record_many(some("m", 30))
    calibrator.record("m", 10, 300.0, called_at=datetime(2026, 2, 1, tzinfo=UTC))
    calibrator.archive(datetime(2026, 1, 20, tzinfo=UTC), tmp_path / "old.jsonl")
    (left,) = calibrator.calls("m")
    assert figures(calibrator) == judged([left])
    assert not calibrator.get_stats("m")["is_calibrated"]
    assert calibrator.get_stats("m")["status"] == "calibrated"


def test_ten_calls_at_least_are_needed(calibrator):
    line = Call("m", 100, 20, 0.5 * 100 + 8.0 * 20 + 300.0)
    calibrator.record_many([line] * 9)
    assert not calibrator.get_stats("m")["is_calibrated"]
    calibrator.record_many([line])
    assert calibrator.get_stats("m")["is_calibrated"]


def test_calls_of_no_time_have_no_error_to_tell(calibrator):
    calibrator.record_many([Call("m", 1, 1, 0.0)] * 12)
    stats = calibrator.get_stats("m")
    assert stats["median_absolute_percentage_error"] is None
    assert stats["mean_actual_ms"] == 0.0
    assert not stats["is_calibrated"]


def test_the_figures_of_a_long_history_are_there_at_once(ledger_path):
    """As at once as of a short one: no more than the newest calls are read."""
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record_many(some("m", 20_000))
        start = perf_counter()
        calibrator.replay(model="m")
        whole = perf_counter() - start
        start = perf_counter()
        for _ in range(5):
            calibrator.get_stats("m")
        assert (perf_counter() - start) / 5 < whole / 4
        assert calibrator.audit() == []


# -- clocks ---------------------------------------------------------------------------------


def timed_by(clock, count, offset=0):
    details = {} if clock is None else {"details": {"clock": clock, "ttft_ms": 3}}
    for number in range(count):
        yield Call("m", 10, 20, 300.0 + offset + number, NOON, **details)


@pytest.mark.both
def test_stats_tell_where_a_model_mixes_clocks(calibrator):
    calibrator.record_many([*timed_by("client", 5), *timed_by(None, 3)])
    assert "clocks" not in calibrator.get_stats("m")
    calibrator.record_many(timed_by("server", 7))
    assert calibrator.get_stats("m")["clocks"] == {"server": 7, "client": 5}
    calibrator.void("m", seq=(2, 6))
    assert "clocks" not in calibrator.get_stats("m")


def test_clocks_of_long_ago_are_found_by_a_look_at_a_thousand_entries(calibrator):
    calibrator.record_many([*timed_by("client+start", 400), *timed_by("attempt", 4_000)])
    found = calibrator.get_stats("m")["clocks"]
    assert [*found] == ["attempt", "client+start"]
    assert sum(found.values()) == 1_000
    calibrator.reset("m")
    calibrator.record("m", 10, 300.0, completion_tokens=20, details={"clock": "attempt"})
    assert "clocks" not in calibrator.get_stats("m")


@pytest.mark.parametrize("count", [1, 999, 1_000, 1_001, 1_002, 1_019, 1_020, 1_021, 1_500])
def test_no_entry_is_looked_at_twice(count, calibrator):
    calibrator.record_many([*timed_by("client", 1), *timed_by("attempt", count)])
    found = calibrator.get_stats("m")["clocks"]
    assert sum(found.values()) in {count + 1, 1_000}
    assert found["client"] == 1
