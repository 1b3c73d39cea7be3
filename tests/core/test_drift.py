"""The scan for drift: what it tells, what it keeps quiet about, and what must not matter to it."""

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.drift import (
    DRIFT_CALLS,
    LEAST_CALLS,
    LEAST_FACTOR,
    NEWEST,
    Drift,
    drift_of,
)


def ratios_of(*parts, spread=0.1, seed=1):
    """Ratios of calls whose typical one is `factor`, for (factor, count) one after the other."""
    rng = random.Random(seed)
    return [factor * rng.lognormvariate(0, spread) for factor, count in parts for _ in range(count)]


def drift(ratios, predicted_ms=100.0):
    return drift_of([(ratio * predicted_ms, predicted_ms) for ratio in ratios])


def calls_until_told(factor, spread, seed):
    ratios = ratios_of((1.0, 200), (factor, 25), spread=spread, seed=seed)
    return next((m for m in range(1, 26) if drift(ratios[: 200 + m])), 26)


@pytest.mark.parametrize(
    ("factor", "spread", "most"),
    [(1.3, 0.15, 10), (1.5, 0.2, 8), (2.0, 0.3, 7), (1 / 1.5, 0.2, 8), (0.5, 0.3, 7)],
)
def test_a_lasting_change_is_told_after_few_calls(factor, spread, most):
    took = [calls_until_told(factor, spread, seed) for seed in range(15)]
    assert median(took) <= most
    assert max(took) <= 20


def test_since_when_and_how_much_is_told():
    for factor in (1.3, 2.0, 0.5):
        for since in (10, 20, 40, 80):
            found = drift(ratios_of((1.0, 300), (factor, since)))
            assert found.since == pytest.approx(since, abs=2 + since // 20)
            assert found.factor == pytest.approx(factor, rel=0.12)


def test_calls_in_a_random_order_are_no_drift():
    """However wild they are: three of four take a thousandth of the fourth."""
    rng = random.Random(5)
    for spread in (0.01, 0.3, 3.0):
        ratios = ratios_of((1.0, 700), spread=spread)
        wild = [ratio * rng.choice((1, 1, 1, 1000)) for ratio in ratios]
        for end in range(40, 700, 7):
            assert drift(ratios[:end]) is None
            assert drift(wild[:end]) is None


def test_a_few_outliers_are_no_drift():
    for seed in range(20):
        ratios = ratios_of((1.0, 200), (50.0, 2), (1.0, 10), seed=seed)
        assert [end for end in range(200, 213) if drift(ratios[:end])] == []


def test_a_change_that_is_too_small_to_act_on_is_not_told():
    ratios = ratios_of((1.0, 200), (LEAST_FACTOR - 0.02, 60), spread=0.01)
    assert drift(ratios) is None
    assert drift(ratios_of((1.0, 200), (LEAST_FACTOR + 0.02, 60), spread=0.01)) is not None


def test_of_few_calls_nothing_is_told():
    for n in range(LEAST_CALLS):
        assert drift(ratios_of((1.0, n - n // 2), (9.0, n // 2), spread=0.01)) is None
    found = drift(ratios_of((1.0, LEAST_CALLS // 2), (9.0, LEAST_CALLS // 2), spread=0.01))
    assert found.since == LEAST_CALLS // 2


@pytest.mark.parametrize("actual_ms", [0.0, 5e-324, 1.0, 1e300])
@pytest.mark.parametrize("predicted_ms", [0.0, 1.0, 1e-300, 1e300, float("inf")])
def test_calls_that_all_take_the_same_are_no_drift(actual_ms, predicted_ms):
    for n in (0, 1, 39, 40, 41, 200, 500):
        assert drift_of([(actual_ms, predicted_ms)] * n) is None


def test_where_half_of_the_calls_before_took_no_time_there_is_no_factor():
    assert drift([0.0] * 200 + [1.0] * 30) is None
    assert drift([1.0] * 200 + [0.0] * 30) == Drift(30, 0.0)


def test_equal_ratios_do_not_make_the_newest_of_them_the_largest():
    """Clocks that count in whole units give such: a little more of the larger one is chance."""
    before = [1.0] * 66 + [1.25] * 54
    newest = [1.0] * 36 + [1.25] * 44
    for seed in range(10):
        rng = random.Random(seed)
        ratios = rng.sample(before, len(before)) + rng.sample(newest, len(newest))
        assert median(ratios[-80:]) > median(ratios[:-80])
        assert drift(ratios) is None


# -- what must not matter ---------------------------------------------------------------------

RATIOS = st.lists(
    st.one_of(
        st.floats(0.01, 100.0),
        st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=60,
)


def changed(ratios, factor, since):
    """A long row of them, of which the newest changed."""
    row = (ratios * (240 // len(ratios) + 1))[:240]
    return row[:-since] + [factor * ratio for ratio in row[-since:]]


GIVEN = {
    "ratios": RATIOS,
    "factor": st.sampled_from([0.25, 0.75, 1.0, 1.5, 4.0]),
    "since": st.integers(1, 120),
    "seed": st.integers(0, 1000),
}


@given(**GIVEN)
def test_the_order_of_those_that_stand_together_does_not_matter(ratios, factor, since, seed):
    """The newest five are always together, and so are those before half of them all."""
    row = changed(ratios, factor, since)[-DRIFT_CALLS:]
    found, rng = drift(row), random.Random(seed)
    old, between, newest = row[:100], row[100 : -NEWEST[0]], row[-NEWEST[0] :]
    rng.shuffle(old)
    rng.shuffle(newest)
    assert drift(old + between + newest) == found


@given(**GIVEN)
def test_the_unit_of_time_does_not_matter(ratios, factor, since, seed):
    row = changed(ratios, factor, since)
    scale = 2.0 ** (seed % 40)  # exact, as rounding is not what is looked at
    found = drift_of([(1024.0 * ratio, 1024.0) for ratio in row])
    assert drift_of([(1024.0 * ratio * scale, 1024.0 * scale) for ratio in row]) == found
    # Nor how far off the prediction is, if it is as far off for all.
    assert drift_of([(1024.0 * ratio, 1024.0 / 512.0) for ratio in row]) == found


@given(**GIVEN)
def test_calls_before_the_newest_200_do_not_matter(ratios, factor, since, seed):
    row = changed(ratios, factor, since)
    assert drift([float(seed)] * 50 + row) == drift(row) == drift(row[-DRIFT_CALLS:])


@given(**GIVEN)
def test_faster_is_told_where_slower_would_be(ratios, factor, since, seed):
    row = [ratio or 1.0 for ratio in changed(ratios, factor, since)]
    slower, faster = drift(row, 1e6), drift_of([(1e6 / ratio, 1e6) for ratio in row])
    for one, other in ((slower, faster), (faster, slower)):
        if one is not None and not 0.9 / LEAST_FACTOR < one.factor < 1.1 * LEAST_FACTOR:
            # The median of an even number lies between two: its inverse is not the other's.
            assert other is None or (other.factor > 1.0) != (one.factor > 1.0)


@given(**GIVEN)
def test_what_is_told_is_the_factor_between_the_medians(ratios, factor, since, seed):
    row = changed(ratios, factor, since)[-DRIFT_CALLS:]
    found = drift(row, 1.0)
    if found is not None:
        assert NEWEST[0] <= found.since <= len(row) // 2
        assert found.factor == median(row[-found.since :]) / median(row[: -found.since])
        assert found.factor >= LEAST_FACTOR or found.factor <= 1 / LEAST_FACTOR
