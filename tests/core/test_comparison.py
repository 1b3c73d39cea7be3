"""A lead is called clear when it hardly is chance, and only then."""

import math
import random

import pytest

from calibration_ledger.core.comparison import chance_of_lead, upper_tail
from calibration_ledger.core.figures import PART_LEAST, PARTS, Accuracy, Marks


@pytest.mark.parametrize(
    ("freedom", "five_percent", "one_in_two_hundred"),
    # Tables of Student's t, one-sided.
    [
        (1, 6.3138, 63.657),
        (2, 2.9200, 9.9248),
        (3, 2.3534, 5.8409),
        (9, 1.8331, 3.2498),
        (10, 1.8125, 3.1693),
        (19, 1.7291, 2.8609),
    ],
)
def test_the_tail_of_students_t_is_that_of_the_tables(freedom, five_percent, one_in_two_hundred):
    assert upper_tail(five_percent, freedom) == pytest.approx(0.05, rel=1e-4)
    assert upper_tail(one_in_two_hundred, freedom) == pytest.approx(0.005, rel=1e-4)
    assert upper_tail(math.inf, freedom) == 0.0


def accuracy_of(actual_ms):
    accuracy = Accuracy(keeps_sizes=True)
    for start in range(0, len(actual_ms), 7):
        page = actual_ms[start : start + 7]
        accuracy.add(page, [1e4] * len(page))
    return accuracy


@pytest.mark.parametrize("n", [*range(45), 79, 80, 81, 1000])
def test_parts_follow_each_other_and_hold_every_call(n):
    sizes = [float(i * i % 101) for i in range(n)]
    parts = accuracy_of([1e4 + size for size in sizes]).parts
    counts = [count for count, _ in parts]
    assert sum(counts) == n
    fewest = min(PARTS // 2, n // PART_LEAST)
    assert fewest <= len(parts) <= PARTS
    assert min(counts, default=n) >= min(n, PART_LEAST)
    assert len(set(counts[:-1])) <= 1
    start = 0
    for count, total in parts:
        assert total == sum(sizes[start : start + count])
        start += count


def test_parts_do_not_depend_on_where_a_page_ends():
    rng = random.Random(5)
    values = [rng.uniform(0, 1e6) for _ in range(3000)]
    whole, pieces, n, total = Marks(), Marks(), 0, 0.0
    expected = whole.add(0, 0.0, values)
    while n < len(values):
        size = rng.randrange(1, 700)
        total = pieces.add(n, total, values[n : n + size])
        n = min(n + size, len(values))
    assert total == expected
    assert pieces.parts(n, total) == whole.parts(n, expected)


def slow_and_fast_hours(rng, n, memory):
    """Errors of which neighbours are alike, the more so the longer the memory."""
    level, sizes = 0.0, []
    for _ in range(n):
        level = memory * level + rng.gauss(0, math.sqrt(1.0 - memory * memory))
        sizes.append(100.0 * math.exp(level))
    return sizes


def chance(ones, others, tried=1):
    return chance_of_lead(accuracy_of(ones).parts, accuracy_of(others).parts, tried)


@pytest.mark.parametrize(("n", "memory"), [(40, 0.0), (40, 0.3), (100, 0.5), (400, 0.8)])
def test_two_that_are_as_good_are_seldom_told_apart(n, memory):
    """About as seldom as the level says, though neighbouring errors are alike."""
    rng = random.Random(1)
    clear = 0
    for _ in range(300):
        ones, others = (slow_and_fast_hours(rng, n, memory) for _ in range(2))
        clear += chance(shifted(ones), shifted(others)) <= 0.05
    assert clear <= 0.09 * 300


def shifted(sizes):
    """Latencies with errors of these sizes: `accuracy_of` takes the prediction for 10 s."""
    return [1e4 + size for size in sizes]


def test_one_that_is_clearly_better_is_told():
    rng = random.Random(2)
    for n in (60, 100, 400):
        common = slow_and_fast_hours(rng, n, 0.3)
        better = [0.4 * e * rng.uniform(0.8, 1.2) for e in common]
        assert chance(shifted(better), shifted(common), tried=22) <= 0.05
        assert chance(shifted(common), shifted(better)) == 1.0


def test_the_best_of_many_needs_a_larger_lead():
    rng = random.Random(3)
    ones = shifted([rng.uniform(0, 100) for _ in range(60)])
    others = shifted([rng.uniform(45, 100) for _ in range(60)])
    alone = chance(ones, others)
    assert 0.0 < alone < 0.05
    assert chance(ones, others, 10) == pytest.approx(10 * alone)
    assert chance(ones, others, 10**9) == 1.0


@pytest.mark.parametrize(
    ("leader", "other", "expected"),
    [
        ([], [], 1.0),
        ([(1, 1.0)], [(1, 5.0)], 1.0),
        ([(1, 1.0)] * 12, [(1, 1.0)] * 12, 1.0),
        ([(1, 1.0)] * 12, [(1, 2.0)] * 12, 0.0),
        ([(1, 1.0)] * 12, [(1, math.inf)] * 12, 1.0),
        ([(1, 1.0)] * 12, [(1, math.nan)] * 12, 1.0),
        ([(1, 1.0), (0, 0.0)], [(1, 2.0), (0, 0.0)], 1.0),
    ],
)
def test_where_nothing_varies_the_answer_is_plain(leader, other, expected):
    assert chance_of_lead(leader, other) == expected


def test_errors_beyond_all_measure_have_a_chance_too():
    others = [(1, size) for size in (1e308, 9e307, 1e308, 1e308, 8e307)]
    assert 0.0 < chance_of_lead([(1, 1.0)] * 5, others) < 0.001
