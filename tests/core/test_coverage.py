"""The figures of how honest forecasts were, on forecasts that are made up."""

import math
import random
from statistics import median

import pytest

from calibration_ledger.core.coverage import (
    MEDIAN,
    QUANTILES,
    Coverage,
    bucket_of,
    quantiles_of,
)
from calibration_ledger.core.forecast import Sample

EVEN = Sample.of([(float(value), 1.0) for value in range(1, 100)])
"""Of which the quantile at a level is 100 times the level."""


def scored(pairs):
    """A score of (latency, size), all forecast evenly from 0 to 100 ms."""
    coverage = Coverage()
    quantiles = quantiles_of(EVEN)
    for actual_ms, size in pairs:
        coverage.add(actual_ms, EVEN, quantiles, bucket_of(size))
    mean_ms = sum(actual_ms for actual_ms, _ in pairs) / len(pairs) if pairs else math.nan
    return coverage.score(mean_ms)


def test_the_levels_are_the_ends_of_the_ranges_in_order():
    levels = [0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975]
    assert [*QUANTILES] == pytest.approx(levels)
    assert QUANTILES[MEDIAN] == 0.5
    assert quantiles_of(EVEN) == pytest.approx([100 * level for level in QUANTILES])


def test_a_range_holds_what_lies_between_its_ends():
    found = scored([(y + 0.4, 1.0) for y in range(100)])
    assert (found.coverage_50, found.coverage_80) == (0.5, 0.8)
    assert (found.coverage_90, found.coverage_95) == (0.9, 0.95)
    assert found.mean_width_ms == pytest.approx(90.0)
    assert found.over_timeout == 0.01


def test_the_ends_themselves_belong_to_it():
    low, high = quantiles_of(EVEN)[1], quantiles_of(EVEN)[-2]
    assert scored([(low, 1.0), (high, 1.0)]).coverage_90 == 1.0
    assert scored([(math.nextafter(low, 0.0), 1.0)]).coverage_90 == 0.0


def test_the_worst_200_are_those_in_a_row():
    inside, outside = (50.0, 1.0), (0.5, 1.0)
    calls = [inside] * 150 + [outside] * 30 + [inside] * 160 + [outside] * 20 + [inside] * 300
    assert scored(calls).worst_200 == 1.0 - 40 / 200  # 30, or 20 and the last 20 of these
    assert math.isnan(scored([inside] * 199).worst_200)
    assert scored([inside] * 200).worst_200 == 1.0
    assert scored([outside] * 201).worst_200 == 0.0


def test_the_worst_third_is_by_size_and_no_matter_in_which_order():
    rng = random.Random(4)
    calls = [(50.0 if size < 200 or size % 2 else 0.5, 100.0 + size) for size in range(300)]
    rng.shuffle(calls)
    assert scored(calls).worst_third == 0.5
    assert math.isnan(scored(calls[:14]).worst_third)
    # Calls of one size cannot be told apart: they are one third.
    assert scored([(50.0, 7.0)] * 20 + [(0.5, 7.0)] * 20).worst_third == 0.5


def test_the_median_error_is_that_of_the_median_forecast():
    actual = [y + 0.5 for y in range(2_500)]
    found = scored([(y, 1.0) for y in actual])
    expected = median(100 * abs(y - 50) / y for y in actual)
    assert found.median_absolute_percentage_error == pytest.approx(expected, rel=6e-4)
    assert scored([(0.0, 1.0), (25.0, 1.0)]).median_absolute_percentage_error == pytest.approx(
        100, rel=6e-4
    )


def test_the_loss_is_that_of_nine_quantiles_over_the_mean_latency():
    def loss(y):
        errors = [(level, y - 100 * level) for level in QUANTILES]
        return sum(level * e if e > 0 else (level - 1) * e for level, e in errors) / 9

    actual = [3.0, 60.0, 97.0, 250.0]
    expected = sum(map(loss, actual)) / sum(actual)
    assert scored([(y, 1.0) for y in actual]).pinball_loss == pytest.approx(expected)


def test_without_a_call_nothing_is_a_number():
    found = scored([])
    assert all(math.isnan(value) for value in map(found.__getattribute__, found.__slots__))
    assert set(found.to_dict().values()) == {None}


def test_calls_of_no_time_at_all_have_no_loss_over_it():
    found = scored([(0.0, 1.0)] * 3)
    assert math.isnan(found.pinball_loss)
    assert found.coverage_90 == 0.0


def test_buckets_are_in_the_order_of_their_numbers():
    rng = random.Random(1)
    numbers = sorted(rng.lognormvariate(3, 4) for _ in range(500))
    buckets = [bucket_of(number) for number in numbers]
    assert buckets == sorted(buckets)
    assert bucket_of(1.0) == bucket_of(1.0009) < bucket_of(1.001)
