"""rank() and soonest() on real ledgers: the order, deadlines, models without history, lots."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import (
    AdaptiveCalibrator,
    Call,
    DeadlineError,
    InvalidInputError,
    NoHistoryError,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

PACE = {
    # base ms, ms per prompt token, ms per completion token
    "quick to begin": (100, 2.0, 1.0),
    "quick to read": (1500, 0.1, 1.0),
    "slow": (4000, 2.0, 9.0),
}


def calls_of(model, count=60, seed=1, times=lambda _: 1.0, completion=None):
    rng = random.Random(f"{seed} {model}")
    base, a, b = PACE[model]
    for i in range(count):
        p, c = rng.randrange(20, 2000), completion or rng.randrange(10, 100)
        y = (base + a * p + b * c) * rng.lognormvariate(0, 0.05) * times(i)
        yield Call(model, p, c, y, NOON + timedelta(seconds=i))


@pytest.fixture(name="known")
def _known(calibrator):
    """A calibrator that knows three models, and of a fourth that it was reset."""
    for model in PACE:
        calibrator.record_many(calls_of(model))
    calibrator.record("a reset one", 10, 1.0, completion_tokens=1)
    calibrator.reset("a reset one")
    return calibrator


def names(forecasts):
    return [one.model for one in forecasts]


@pytest.mark.both
def test_the_soonest_model_depends_on_the_prompt_and_comes_first(known):
    assert names(known.rank(50))[:2] == ["quick to begin", "quick to read"]
    assert names(known.rank(1900))[:2] == ["quick to read", "quick to begin"]
    assert known.soonest(50).model == "quick to begin"
    assert known.soonest(1900).model == "quick to read"


@pytest.mark.both
def test_a_ranked_forecast_is_the_forecast_of_its_model(known):
    for one in known.rank(700, max_tokens=50):
        alone = known.forecast(one.model, 700, max_tokens=50)
        assert one.to_dict() == alone.to_dict()
    known.record("slow", 700, 1.0, completion_tokens=3)  # what came since is in the next ranking
    assert {one.model: one.mean_ms for one in known.rank(700)} == {
        model: known.forecast(model, 700).mean_ms for model in [*PACE, "a reset one"]
    }


def test_a_model_without_history_comes_last_and_never_wins_by_its_prior(known):
    prior_ms = known.forecast("never seen", 1).mean_ms
    assert prior_ms < min(known.forecast(model, 1900).mean_ms for model in PACE)
    found = known.rank(1900, ["never seen", "slow", "a reset one", "quick to read"])
    assert names(found) == ["quick to read", "slow", "never seen", "a reset one"]
    assert [one.status for one in found[2:]] == ["no history"] * 2
    assert known.soonest(1900, ["never seen", "slow"]).model == "slow"
    with pytest.raises(NoHistoryError, match=r"never seen.*has a call"):
        known.soonest(1, ["never seen", "a reset one"])
    with pytest.raises(NoHistoryError, match="has a call"):
        known.soonest(1, ["never seen"], deadline_ms=1e9)


def test_a_ledger_that_is_not_there_has_none_to_rank(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.rank(5) == []
        with pytest.raises(NoHistoryError, match="no model has a call"):
            calibrator.soonest(5, explore=0.5)
        assert calibrator.soonest(5, ["m"], explore=0.05).model == "m"
    assert not ledger_path.exists()


def test_the_order_is_by_the_mean_the_median_or_a_level(calibrator):
    for model, times in {
        "quick to begin": lambda i: 30.0 if i % 10 == 0 else 1.0,  # mostly quick, at times hung
        "slow": lambda _: 0.2,
    }.items():
        calibrator.record_many(calls_of(model, 200, times=times, completion=10))
    assert names(calibrator.rank(100, by="median")) == ["quick to begin", "slow"]
    assert names(calibrator.rank(100, by=0.5)) == ["quick to begin", "slow"]
    assert names(calibrator.rank(100, by="mean")) == ["slow", "quick to begin"]
    assert names(calibrator.rank(100, by=0.95)) == ["slow", "quick to begin"]
    assert calibrator.soonest(100, by=0.95).model == "slow"
    # The median is soonest, but only the other one is sure to be over in time.
    assert calibrator.soonest(100, by="median", deadline_ms=1500, chance=0.8).model != "slow"
    assert calibrator.soonest(100, by="median", deadline_ms=1500, chance=0.95).model == "slow"


@pytest.mark.both
def test_a_deadline_that_none_keeps_is_told_with_the_one_that_comes_nearest(known):
    with pytest.raises(DeadlineError, match=r"'quick to begin' comes nearest, with 0\.\d\d"):
        known.soonest(50, deadline_ms=230)
    least = known.forecast("quick to read", 1900).chance_within(1800)
    assert 0.5 < known.soonest(1900, deadline_ms=1800, chance=0.5).chance_within(1800) == least


@pytest.mark.parametrize("count", [12, 200])
def test_a_deadline_of_the_timeout_is_kept_however_few_calls_tell_of_it(calibrator, count):
    calibrator.record_many(calls_of("slow", count))
    for chance in (0.5, 0.9, 0.99, 0.9999):
        deadline_ms = calibrator.forecast("slow", 50).timeout_ms(chance)
        asked = {"deadline_ms": deadline_ms, "chance": chance}
        assert calibrator.soonest(50, **asked).model == "slow"
    with pytest.raises(DeadlineError):
        calibrator.soonest(50, deadline_ms=0.9 * deadline_ms, chance=chance)


def test_completion_tokens_may_differ_by_model(known):
    lengths = {"quick to begin": 900, "quick to read": 10, "of none": 7}
    found = {one.model: one for one in known.rank(50, completion_tokens=lengths, max_tokens=800)}
    assert found["quick to begin"].completion_tokens.median == 800
    assert found["quick to read"].completion_tokens.median == 10
    assert not found["slow"].completion_tokens.is_given
    assert known.soonest(50, completion_tokens=lengths).model == "quick to begin"
    assert known.soonest(50, completion_tokens={"quick to begin": 9000}).model == "quick to read"
    assert {one.completion_tokens.median for one in known.rank(50, completion_tokens=70)} == {70}


def test_the_share_that_is_explored_goes_to_others_and_to_new_ones_most(known):
    models = [*PACE, "never seen"]
    asked = [known.soonest(50, models, explore=0.2, seed=f"request {i}") for i in range(600)]
    counts = Counter(names(asked))
    assert 80 < 600 - counts["quick to begin"] < 160
    assert counts["never seen"] > 3 * counts["slow"] > 0
    again = [known.soonest(50, models[::-1], explore=0.2, seed=f"request {i}") for i in range(50)]
    assert names(again) == names(asked[:50])


def test_one_seed_draws_anew_with_each_call_that_is_recorded(known):
    found = Counter()
    for i in range(60):
        first = known.soonest(50, explore=0.3, seed=7)
        assert known.soonest(50, explore=0.3, seed=7).model == first.model
        found[first.model] += 1
        known.record("slow", 50, 4100.0 + i, completion_tokens=2)
    assert 25 < found["quick to begin"] < 55


def test_without_a_seed_a_lot_is_drawn_by_chance(known):
    assert len({known.soonest(50, explore=0.7).model for _ in range(60)}) > 1
    assert {known.soonest(50).model for _ in range(5)} == {"quick to begin"}


def test_a_deadline_is_kept_by_what_is_explored(known):
    models = ["never seen", *PACE]
    asked = {
        known.soonest(50, models, deadline_ms=2500, explore=1.0, seed=i).model for i in range(40)
    }
    assert asked == {"quick to read"}


def test_a_model_is_ranked_once_however_often_it_is_named(known):
    assert names(known.rank(50, ["slow", "slow"])) == ["slow"]
    assert names(known.rank(50, iter(["slow"]))) == ["slow"]
    assert known.rank(50, []) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt_tokens": -1},
        {"models": "slow"},
        {"models": 3},
        {"models": ["slow", ""]},
        {"completion_tokens": 1.5},
        {"completion_tokens": {"slow": -1}},
        {"completion_tokens": {3: 1}},
        {"max_tokens": True},
        {"by": "quickest"},
        {"by": 1},
        {"by": None},
        {"by": float("nan")},
        {"deadline_ms": -1},
        {"deadline_ms": "soon"},
        {"chance": 1.0},
        {"explore": 1.1},
        {"explore": True},
        {"explore": float("nan")},
        {"seed": 1.5},
        {"seed": True},
    ],
)
def test_wrong_input_is_refused(known, wrong):
    with pytest.raises(InvalidInputError):
        known.soonest(**{"prompt_tokens": 5, **wrong})
    if wrong.keys() <= {"prompt_tokens", "models", "completion_tokens", "max_tokens", "by"}:
        with pytest.raises(InvalidInputError):
            known.rank(**{"prompt_tokens": 5, **wrong})


def test_a_ranking_of_many_models_reads_their_rows_at_once(ledger_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record_many(
            [Call(f"m{i}", 10 + j, 5, 100.0 + i + j, NOON) for i in range(60) for j in range(8)]
        )
        assert names(calibrator.rank(12))[0] == "m0"
        backend = calibrator._ledger.backend
        reads, read = [], backend.read
        backend.read = lambda *arguments: reads.append(arguments) or read(*arguments)
        calibrator.rank(12)
        assert len(reads) == 1
        calibrator.record("m3", 10, 5.0, completion_tokens=5)
        reads.clear()
        calibrator.rank(12)
        assert len(reads) == 2
        del backend.read
        assert calibrator.audit() == []
