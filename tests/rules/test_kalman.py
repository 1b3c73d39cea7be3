"""The rule `kalman`: to the bit against a second implementation, and what it was made for."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.priors import Prior
from calibration_ledger.core.state import learn_columns
from calibration_ledger.errors import NotFiniteError
from calibration_ledger.rules import EMA, KALMAN, find_rule, predict_ms
from support import reference_kalman
from support.any_numbers import coefficients, hexed, milliseconds, tokens
from support.reference_kalman import NUMBERS, Kalman, load_traces

TRACES = load_traces()
LOCAL = Prior(0.5, 8.0, 300.0)
alphas = st.one_of(st.floats(0.0, 1.0, exclude_min=True), st.sampled_from([1.0, 0.01, 5e-324]))


def start(prior=LOCAL):
    return [*prior, 0.0, 0.0, *KALMAN.extra_start(prior)]


def learn(calls, numbers=None, alpha=0.01, rule=KALMAN):
    """Learn calls; gives the predictions, and changes `numbers`."""
    numbers = start() if numbers is None else numbers
    return learn_columns(rule, alpha, numbers, *map(list, zip(*calls, strict=True)))


def some_calls(count, a=0.5, b=8.0, o=300.0, noise=0.1, seed=1):
    rng = random.Random(seed)
    for _ in range(count):
        p, c = rng.randrange(20, 4000), rng.randrange(5, 800)
        yield p, c, (o + a * p + b * c) * rng.uniform(1.0 - noise, 1.0 + noise)


def error_of(predicted, calls, skip=0):
    """The mean absolute error over the mean latency."""
    pairs = list(zip(predicted, calls, strict=True))[skip:]
    return sum(abs(y - mine) for mine, (_, _, y) in pairs) / sum(y for _, (_, _, y) in pairs)


# -- to the bit -----------------------------------------------------------------------------


def test_the_traces_are_what_the_second_implementation_gives_today():
    scenarios = reference_kalman.scenarios()
    assert [trace["name"] for trace in TRACES] == list(scenarios)
    for trace in TRACES:
        assert trace == reference_kalman.trace(trace["name"], *scenarios[trace["name"]])


def test_the_traces_go_every_way_through_the_rule():
    steps = [step for trace in TRACES for step in trace["steps"]]
    numbers = [{name: float.fromhex(step[name]) for name in NUMBERS} for step in steps]
    runs = {number["run_of_cut_errors"] for number in numbers}
    assert {-5.0, -4.0, -1.0, 0.0, 1.0, 4.0, 5.0} <= runs
    assert any(number["base_overhead_ms"] == 0.0 for number in numbers)
    assert any(number["noise_variance"] < 0.02 for number in numbers)
    assert any(number["prompt_completion_covariance"] == 0.0 for number in numbers)


@given(coefficients, alphas, st.lists(st.tuples(tokens, tokens, milliseconds), max_size=30))
def test_any_finite_history_folds_as_the_second_implementation_does(prior, alpha, calls):
    """And one that is not finite anywhere on the way is refused, however it looks at the end."""
    reference = Kalman(alpha, list(prior))
    expected = []
    for p, c, y in calls:
        expected.append(reference.learn(p, c, y)[0])
        if not reference.is_finite:
            break
    numbers = start(prior)
    if not all(map(math.isfinite, numbers)):  # a prior at the edge of what floats hold
        return
    columns = [list(column) for column in zip(*calls, strict=True)] or [[], [], []]
    if not reference.is_finite:
        with pytest.raises(NotFiniteError, match="Check the measurement"):
            learn_columns(KALMAN, alpha, numbers, *columns)
        return
    assert hexed(learn_columns(KALMAN, alpha, numbers, *columns)) == hexed(expected)
    assert hexed(numbers) == hexed(reference.numbers())


@given(coefficients, st.lists(st.tuples(tokens, tokens, milliseconds), max_size=60))
def test_coefficients_and_variances_never_fall_below_zero(prior, calls):
    numbers = start(prior)
    for call in calls:
        try:
            learn([call], numbers)
        except NotFiniteError:
            return
        state = dict(zip(NUMBERS, numbers, strict=True))
        assert min(numbers[:5]) >= 0.0
        assert state["noise_variance"] >= 1e-6
        assert abs(state["run_of_cut_errors"]) <= 5


def test_a_number_that_is_not_finite_on_the_way_is_refused_even_if_it_ends_finite():
    numbers = start((1e150, 1e150, 1e150))
    assert all(map(math.isfinite, numbers))
    with pytest.raises(NotFiniteError, match="a call of 1 prompt tokens"):
        learn([(1, 1, 1.0)] * 50, numbers)


def test_a_variance_that_is_not_finite_is_seen_though_no_other_number_is():
    """A coefficient that is known for sure: nothing moves, and nothing else overflows."""
    known = [1e150, 8.0, 300.0, 0.0, 0.0, *[0.0] * 6, 0.04, 0.0]
    KALMAN.fold(known, 5e-324, [1_000_000], [0], [1.0], [0.0])
    assert not all(map(math.isfinite, known))


@pytest.mark.parametrize("noise", [-1.0, -math.inf, -5e-324, 0.0])
def test_a_noise_that_no_program_wrote_counts_as_the_least(noise):
    numbers, least = [start() for _ in range(2)]
    numbers[11], least[11] = noise, 1e-6
    calls = list(some_calls(20))
    assert learn(calls, numbers) == learn(calls, least)
    assert hexed(numbers) == hexed(least)


def test_it_is_known_by_name_and_version_and_names_its_further_state():
    assert find_rule("kalman") is find_rule("kalman.1") is KALMAN
    assert KALMAN.default_alpha == 0.01
    assert KALMAN.extra_numbers == NUMBERS[5:]
    assert len(KALMAN.extra_start(LOCAL)) == len(KALMAN.extra_numbers)


# -- what it was made for -------------------------------------------------------------------


def test_it_finds_the_coefficients():
    numbers = start()
    learn(some_calls(500, 0.2, 15.0, 700.0, noise=0.05), numbers)
    assert numbers[0] == pytest.approx(0.2, rel=0.25)
    assert numbers[1] == pytest.approx(15.0, rel=0.05)
    assert numbers[2] == pytest.approx(700.0, rel=0.25)


@pytest.mark.parametrize("factor", [0.01, 1 / 30, 10.0, 84.0])
def test_a_prior_that_is_far_off_is_overcome_within_some_twenty_calls(factor):
    calls = [(p, c, y * factor) for p, c, y in some_calls(80)]
    assert error_of(learn(calls), calls, skip=25) < 0.12


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_shift_of_speed_is_followed_within_some_ten_calls(factor):
    calls = list(some_calls(300))
    calls += [(p, c, y * factor) for p, c, y in some_calls(60, seed=2)]
    assert error_of(learn(calls), calls, skip=300 + 12) < 0.12


def test_one_call_that_hung_for_minutes_moves_little():
    numbers = start()
    learn(some_calls(200), numbers)
    before = predict_ms(numbers, 1000, 300)
    for hung in range(4):
        learn([(900, 250, 300_000.0)], numbers)
        assert abs(predict_ms(numbers, 1000, 300) / before - 1.0) < 0.03 * (hung + 1)


def test_outliers_of_minutes_cost_no_more_than_their_own_error():
    calls = list(some_calls(1000))
    rng = random.Random(3)
    hung = dict.fromkeys(rng.sample(range(1000), 10), 300000.0)
    spoilt = [(p, c, hung.get(i, y)) for i, (p, c, y) in enumerate(calls)]
    predicted = learn(spoilt)
    others = [i for i in range(20, 1000) if i not in hung]
    assert error_of([predicted[i] for i in others], [calls[i] for i in others]) < 0.06
    ema = learn(spoilt, [*LOCAL, 0.0, 0.0], 0.15, EMA)
    assert error_of([ema[i] for i in others], [calls[i] for i in others]) > 0.5


def test_a_prompt_length_that_never_changes_blows_nothing_up():
    rng = random.Random(4)
    calls = [(550, rng.randrange(5, 300), 0.0) for _ in range(20_000)]
    calls = [(p, c, (400 + 20 * c) * rng.uniform(0.8, 1.2)) for p, c, _ in calls]
    numbers = start()
    predicted = learn(calls, numbers)
    assert error_of(predicted, calls, skip=20) < 0.11
    state = dict(zip(NUMBERS, numbers, strict=True))
    for name, size in (("prompt", numbers[0]), ("base", numbers[2])):
        assert state[f"{name}_variance"] <= 4.1 * max(size, 1.0) ** 2
    assert predict_ms(numbers, 1100, 20) == pytest.approx(800 + 400, rel=0.6)


@pytest.mark.parametrize("call", [(0, 0, 0.0), (0, 0, 5.0), (1, 0, 0.0), (0, 7, 90.0)])
def test_calls_that_are_all_the_same_are_predicted(call):
    numbers = start()
    learn([call] * 3000, numbers)
    assert predict_ms(numbers, *call[:2]) == pytest.approx(call[2], rel=0.05, abs=0.5)
