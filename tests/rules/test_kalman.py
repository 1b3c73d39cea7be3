"""The rule `kalman`, in both versions: to the bit against a second implementation, and what for."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.priors import GROQ_PRIOR, LOCAL_PRIOR, default_prior
from calibration_ledger.core.state import learn_columns
from calibration_ledger.errors import NotFiniteError
from calibration_ledger.rules import EMA, KALMAN, KALMAN_1, find_rule, predict_ms
from support import reference_kalman, reference_kalman_2
from support.any_numbers import coefficients, hexed, milliseconds, tokens
from support.reference_kalman import NUMBERS, Kalman
from support.reference_kalman_2 import Kalman2

REFERENCES = {KALMAN_1: (reference_kalman, Kalman), KALMAN: (reference_kalman_2, Kalman2)}
each_version = pytest.mark.parametrize("kalman", REFERENCES, ids=lambda rule: rule.version)
LOCAL = LOCAL_PRIOR
alphas = st.one_of(st.floats(0.0, 1.0, exclude_min=True), st.sampled_from([1.0, 0.01, 5e-324]))


def start(prior=LOCAL):
    return [*prior, 0.0, 0.0, *KALMAN.extra_start(prior)]  # the same in both versions


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


@each_version
def test_the_traces_are_what_the_second_implementation_gives_today(kalman):
    reference, learner = REFERENCES[kalman]
    traces, scenarios = reference.load_traces(), reference.scenarios()
    assert [trace["name"] for trace in traces] == list(scenarios)
    for trace in traces:
        name = trace["name"]
        assert trace == reference_kalman.trace(name, *scenarios[name], learner)


@each_version
def test_the_traces_go_every_way_through_the_rule(kalman):
    steps = [step for trace in REFERENCES[kalman][0].load_traces() for step in trace["steps"]]
    numbers = [{name: float.fromhex(step[name]) for name in NUMBERS} for step in steps]
    runs = {number["run_of_cut_errors"] for number in numbers}
    assert {-5.0, -4.0, -1.0, 0.0, 1.0, 4.0, 5.0} <= runs
    assert (max(runs) > 5.0) == (kalman is KALMAN)
    for name in NUMBERS[:3]:
        assert any(number[name] == 0.0 for number in numbers)
    assert any([number[name] for name in NUMBERS[:3]].count(0.0) == 2 for number in numbers)
    assert any(number["noise_variance"] < 0.02 for number in numbers)
    assert any(number["prompt_completion_covariance"] == 0.0 for number in numbers)


@each_version
@given(coefficients, alphas, st.lists(st.tuples(tokens, tokens, milliseconds), max_size=30))
def test_any_finite_history_folds_as_the_second_implementation_does(kalman, prior, alpha, calls):
    """And one that is not finite anywhere on the way is refused, however it looks at the end."""
    reference = REFERENCES[kalman][1](alpha, list(prior))
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
            learn_columns(kalman, alpha, numbers, *columns)
        return
    assert hexed(learn_columns(kalman, alpha, numbers, *columns)) == hexed(expected)
    assert hexed(numbers) == hexed(reference.numbers())


@each_version
@given(coefficients, st.lists(st.tuples(tokens, tokens, milliseconds), max_size=60))
def test_coefficients_and_variances_never_fall_below_zero(kalman, prior, calls):
    numbers = start(prior)
    for call in calls:
        try:
            learn([call], numbers, rule=kalman)
        except NotFiniteError:
            return
        state = dict(zip(NUMBERS, numbers, strict=True))
        assert min(numbers[:5]) >= 0.0
        assert state["noise_variance"] >= 1e-6
        assert abs(state["run_of_cut_errors"]) <= (5 if kalman is KALMAN_1 else len(calls) + 5)


@each_version
def test_a_number_that_is_not_finite_on_the_way_is_refused_even_if_it_ends_finite(kalman):
    numbers = start((1e154, 1e154, 1e154))
    assert all(map(math.isfinite, numbers))
    with pytest.raises(NotFiniteError, match="a call of 1 prompt tokens"):
        learn([(1, 1, 1.0)] * 50, numbers, rule=kalman)


@each_version
def test_a_variance_that_is_not_finite_is_seen_though_no_other_number_is(kalman):
    """A coefficient that is known for sure: nothing moves, and nothing else overflows."""
    known = [1e150, 8.0, 300.0, 0.0, 0.0, *[0.0] * 6, 0.04, 0.0]
    kalman.fold(known, 5e-324, [1_000_000], [0], [1.0], [0.0])
    assert not all(map(math.isfinite, known))


@each_version
@pytest.mark.parametrize("noise", [-1.0, -math.inf, -5e-324, 0.0])
def test_a_noise_that_no_program_wrote_counts_as_the_least(kalman, noise):
    numbers, least = [start() for _ in range(2)]
    numbers[11], least[11] = noise, 1e-6
    calls = list(some_calls(20))
    assert learn(calls, numbers, rule=kalman) == learn(calls, least, rule=kalman)
    assert hexed(numbers) == hexed(least)


def test_it_is_known_by_version_and_its_name_stands_for_the_newest():
    assert find_rule("kalman") is find_rule("kalman.2") is KALMAN
    assert find_rule("kalman.1") is KALMAN_1
    for kalman in REFERENCES:
        assert kalman.default_alpha == 0.01
        assert kalman.extra_numbers == NUMBERS[5:]
        assert len(kalman.extra_start(LOCAL)) == len(kalman.extra_numbers)


# -- what it was made for -------------------------------------------------------------------


@each_version
def test_it_finds_the_coefficients(kalman):
    numbers = start()
    learn(some_calls(500, 0.2, 15.0, 700.0, noise=0.05), numbers, rule=kalman)
    assert numbers[0] == pytest.approx(0.2, rel=0.25)
    assert numbers[1] == pytest.approx(15.0, rel=0.05)
    assert numbers[2] == pytest.approx(700.0, rel=0.25)


@each_version
@pytest.mark.parametrize("factor", [0.01, 1 / 30, 10.0, 84.0])
def test_a_prior_that_is_far_off_is_overcome_within_some_twenty_calls(kalman, factor):
    calls = [(p, c, y * factor) for p, c, y in some_calls(80)]
    assert error_of(learn(calls, rule=kalman), calls, skip=25) < 0.12


@each_version
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_shift_of_speed_is_followed_within_some_ten_calls(kalman, factor):
    calls = list(some_calls(300))
    calls += [(p, c, y * factor) for p, c, y in some_calls(60, seed=2)]
    assert error_of(learn(calls, rule=kalman), calls, skip=300 + 12) < 0.12


@each_version
def test_one_call_that_hung_for_minutes_moves_little(kalman):
    numbers = start()
    learn(some_calls(200), numbers, rule=kalman)
    before = predict_ms(numbers, 1000, 300)
    for hung in range(4):
        learn([(900, 250, 300_000.0)], numbers, rule=kalman)
        assert abs(predict_ms(numbers, 1000, 300) / before - 1.0) < 0.03 * (hung + 1)


@each_version
def test_outliers_of_minutes_cost_no_more_than_their_own_error(kalman):
    calls = list(some_calls(1000))
    rng = random.Random(3)
    hung = dict.fromkeys(rng.sample(range(1000), 10), 300000.0)
    spoilt = [(p, c, hung.get(i, y)) for i, (p, c, y) in enumerate(calls)]
    predicted = learn(spoilt, rule=kalman)
    others = [i for i in range(20, 1000) if i not in hung]
    assert error_of([predicted[i] for i in others], [calls[i] for i in others]) < 0.06
    ema = learn(spoilt, [*LOCAL, 0.0, 0.0], 0.15, EMA)
    assert error_of([ema[i] for i in others], [calls[i] for i in others]) > 0.5


@each_version
def test_a_prompt_length_that_never_changes_blows_nothing_up(kalman):
    rng = random.Random(4)
    calls = [(550, rng.randrange(5, 300), 0.0) for _ in range(20_000)]
    calls = [(p, c, (400 + 20 * c) * rng.uniform(0.8, 1.2)) for p, c, _ in calls]
    numbers = start()
    predicted = learn(calls, numbers, rule=kalman)
    assert error_of(predicted, calls, skip=20) < 0.11
    state = dict(zip(NUMBERS, numbers, strict=True))
    likely = 0.0 if kalman is KALMAN_1 else 6_400 / (1 + 0.001 * 550 + 0.01 * 300)
    for name, size in (("prompt", max(numbers[0], 0.001 * likely)), ("base", numbers[2])):
        assert state[f"{name}_variance"] <= 4.1 * max(size, likely, 1.0) ** 2
    assert predict_ms(numbers, 1100, 20) == pytest.approx(800 + 400, rel=0.6)


@each_version
@pytest.mark.parametrize("call", [(0, 0, 0.0), (0, 0, 5.0), (1, 0, 0.0), (0, 7, 90.0)])
def test_calls_that_are_all_the_same_are_predicted(kalman, call):
    numbers = start()
    learn([call] * 3000, numbers, rule=kalman)
    assert predict_ms(numbers, *call[:2]) == pytest.approx(call[2], rel=0.05, abs=0.5)


# -- what the second version mends ----------------------------------------------------------


def fast_calls(seed, count, a=0.05, b=0.6, o=20.0):
    rng = random.Random(seed)
    for _ in range(count):
        p, c = rng.randint(50, 2000), rng.randint(10, 400)
        yield p, c, (o + a * p + b * c) * rng.uniform(0.95, 1.05)


COLD_PING = [(5, 1, 30_000.0)]
SMOKE_TEST = [(6, 1, 1_800.0)]


@pytest.mark.parametrize(
    ("model", "first", "seeds"),
    [
        ("phi3:mini", [], 200),
        ("phi3:mini", COLD_PING, 40),
        ("phi3:mini", SMOKE_TEST, 40),
        ("llama3-8b-8192", [], 40),
        ("llama3-8b-8192", COLD_PING, 40),
        ("openai/gpt-4o-mini", [], 40),
    ],
)
def test_a_fast_model_is_learnt_within_a_hundred_calls_however_it_starts(model, first, seeds):
    for seed in range(seeds):
        calls = [*first, *fast_calls(seed, 400)]
        assert error_of(learn(calls, start(default_prior(model))), calls, skip=100) <= 0.03, seed


@pytest.mark.parametrize(
    "coefficients",
    [
        pytest.param((5.0, 120.0, 2000.0), id="slow"),
        pytest.param((0.01, 0.2, 3000.0), id="most of it the base"),
        pytest.param((3.0, 1.0, 50.0), id="most of it the prompt"),
        pytest.param((0.0, 2.0, 0.0), id="nothing but the completion"),
        pytest.param((0.002, 0.05, 2.0), id="very fast"),
    ],
)
@pytest.mark.parametrize("prior", [LOCAL, GROQ_PRIOR], ids=["local", "groq"])
def test_models_of_every_kind_are_learnt_within_a_hundred_calls(coefficients, prior):
    for seed in range(10):
        for first in ([], COLD_PING):
            calls = [*first, *fast_calls(seed, 400, *coefficients)]
            assert error_of(learn(calls, start(prior)), calls, skip=100) <= 0.031, (seed, first)


@pytest.mark.parametrize(
    "call", [(500, 100, 60.0), (500, 400, 300.0), (1500, 50, 100.0), (1000, 200, 10.0)]
)
def test_what_is_learnt_from_a_call_is_not_lost_where_a_coefficient_falls_to_zero(call):
    left = {}
    for kalman in REFERENCES:
        numbers = start()
        (before,) = learn([call], numbers, rule=kalman)
        assert 0.0 in numbers[:3]
        left[kalman] = (predict_ms(numbers, *call[:2]) - call[2]) / (before - call[2])
    assert 0.0 <= left[KALMAN] < 0.06
    assert left[KALMAN] < 0.4 * left[KALMAN_1]


def test_a_coefficient_at_zero_comes_back():
    for seed in range(10):
        calls = list(fast_calls(seed, 140))
        numbers = start((0.0, 0.0, 150.0))
        assert error_of(learn(calls, numbers), calls, skip=20) < 0.04, seed
        assert numbers[:2] == pytest.approx([0.05, 0.6], rel=0.3)


def test_the_covariance_stays_open_until_an_error_is_not_cut_off():
    calls = [(p, c, 50 * y) for p, c, y in fast_calls(1, 60)]
    numbers = start(GROQ_PRIOR)
    for opened, call in enumerate(calls):
        learn([call], numbers)
        if numbers[12] == 0.0:
            break
        assert numbers[12] == 6.0 + opened
    assert 2 <= opened <= 6
    assert error_of(learn(calls[opened + 1 :], numbers), calls[opened + 1 :], skip=5) < 0.1
