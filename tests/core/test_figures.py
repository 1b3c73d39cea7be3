"""The figures of a replay, held against the naive computation over all calls at once."""

import math
import statistics
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.figures import Accuracy, Histogram

numbers = st.one_of(
    st.just(0.0), st.floats(1e-3, 1e7), st.floats(1e-290, 1e290), st.sampled_from([1.0, 2.0, 4.0])
)


def accuracy_of(actual, predicted, scored=None, page=7):
    found = Accuracy()
    for i in range(0, len(actual), page):
        part = slice(i, i + page)
        found.add(actual[part], predicted[part], None if scored is None else scored[part])
    return found


def close(found, expected, within=0.01):
    if math.isnan(expected) or math.isinf(expected) or expected == 0.0:
        return found == expected or (math.isnan(found) and math.isnan(expected))
    return abs(found - expected) <= within * abs(expected)


@given(st.lists(st.tuples(numbers, numbers), max_size=60))
def test_figures_equal_the_naive_ones(calls):
    actual, predicted = [y for y, _ in calls], [e for _, e in calls]
    found = accuracy_of(actual, predicted)
    assert found.n == len(calls)
    if not calls:
        assert math.isnan(found.mean_absolute_error_ms)
        assert math.isnan(found.bias_ms)
        assert math.isnan(found.mean_actual_ms)
        assert math.isnan(found.median_absolute_percentage_error)
        return
    errors = [y - e for y, e in calls]
    exact = [Fraction(error) for error in errors]
    largest = max(map(abs, errors))
    assert close(found.mean_absolute_error_ms, float(sum(map(abs, exact)) / len(calls)), 1e-12)
    assert abs(found.bias_ms - float(sum(exact) / len(calls))) <= 1e-12 * largest
    assert close(found.mean_actual_ms, float(sum(map(Fraction, actual)) / len(calls)), 1e-12)
    shares = [100 * abs(y - e) / y for y, e in calls if y]
    expected = statistics.median(shares) if shares else math.nan
    assert close(found.median_absolute_percentage_error, expected)


@given(st.lists(st.tuples(numbers, numbers), max_size=60), st.integers(1, 60))
def test_figures_do_not_depend_on_where_a_page_ends(calls, page):
    actual, predicted = [y for y, _ in calls], [e for _, e in calls]
    one, other = accuracy_of(actual, predicted), accuracy_of(actual, predicted, page=page)
    for name in ("mean_absolute_error_ms", "bias_ms", "mean_actual_ms", "relative_error"):
        assert getattr(one, name).hex() == getattr(other, name).hex()
    signed = 0.0
    for error in map(float.__sub__, actual, predicted):
        signed += error
    assert not calls or one.bias_ms.hex() == (signed / len(calls)).hex()


@given(st.lists(st.floats(1e-300, 1e300), min_size=1, max_size=60))
def test_the_median_is_within_a_twentieth_of_a_percent(values):
    histogram = Histogram()
    for i in range(0, len(values), 7):
        histogram.add(values[i : i + 7])
    assert close(histogram.median(), statistics.median(values), 0.0005)


def test_the_median_of_two_is_between_them():
    histogram = Histogram()
    histogram.add([1.0, 100.0])
    assert close(histogram.median(), 50.5, 0.0005)


def test_the_median_of_nothing_is_not_a_number():
    assert math.isnan(Histogram().median())


def test_zeros_are_exact_and_infinity_stays_so():
    histogram = Histogram()
    histogram.add([0.0, 0.0, 1.0])
    assert histogram.median() == 0.0
    histogram.add([math.inf] * 5)
    assert histogram.median() == math.inf


def test_calls_of_no_time_have_no_percentage_but_count_otherwise():
    found = accuracy_of([0.0, 100.0, 0.0], [10.0, 110.0, 10.0])
    assert found.n == 3
    assert found.mean_absolute_error_ms == 10.0
    assert found.bias_ms == -10.0
    assert close(found.median_absolute_percentage_error, 10.0)


def test_only_calls_of_no_time_have_no_median():
    found = accuracy_of([0.0, 0.0], [1.0, 2.0])
    assert found.n == 2
    assert math.isnan(found.median_absolute_percentage_error)


def test_only_what_is_scored_counts():
    actual, predicted = [1.0, 2.0, 0.0, 4.0], [9.0, 3.0, 1.0, 2.0]
    found = accuracy_of(actual, predicted, [False, True, False, True], page=2)
    assert (found.n, found.mean_absolute_error_ms, found.bias_ms) == (2, 1.5, 0.5)
    assert accuracy_of(actual, predicted, [False] * 4).n == 0


def test_absurd_but_finite_numbers_give_infinite_figures_and_no_error():
    found = accuracy_of([0.0] * 4, [1.7e308] * 4)
    assert found.mean_absolute_error_ms == math.inf
    assert found.bias_ms == -math.inf
    assert accuracy_of([5e-324], [1e308]).median_absolute_percentage_error == math.inf


def test_a_copy_goes_its_own_way():
    first = accuracy_of([1.0], [2.0])
    second = first.copy()
    second.add([3.0], [3.0])
    assert (first.n, second.n) == (1, 2)
    assert first.mean_absolute_error_ms == 1.0
    assert second.mean_absolute_error_ms == 0.5
    assert close(first.median_absolute_percentage_error, 100.0, 0.001)
    assert close(second.median_absolute_percentage_error, 50.0, 0.001)


def test_figures_take_constant_memory():
    """A bucket for each 0.1 %, however many calls: never one for each call."""
    histogram = Histogram()
    for i in range(100):
        histogram.add([1.0 + j / 7919 + i for j in range(1000)])
    assert len(histogram._counts) < 10_000


@pytest.mark.parametrize("column", [[], ()])
def test_a_column_of_no_call_adds_nothing(column):
    found = Accuracy()
    found.add(column, column)
    assert found.n == 0
