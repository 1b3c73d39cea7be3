"""Every rule to the bit, as a pure fold: against vectors that were made without this package."""

import pytest

from calibration_ledger.core.priors import Prior
from calibration_ledger.core.state import State, learn_columns
from calibration_ledger.core.values import confidence_of
from calibration_ledger.rules import EMA, KALMAN, KALMAN_1, RULES, predict_ms
from support import reference, reference_kalman, reference_kalman_2
from support.any_numbers import hexed
from support.reference_kalman import NUMBERS

CASES = [
    *((EMA, trace) for trace in reference.load_traces()),
    *((KALMAN_1, trace) for trace in reference_kalman.load_traces()),
    *((KALMAN, trace) for trace in reference_kalman_2.load_traces()),
]
each_trace = pytest.mark.parametrize(
    ("rule", "trace"), CASES, ids=[f"{rule.version} {trace['name']}" for rule, trace in CASES]
)


def start(rule, prior):
    return [*prior, 0.0, 0.0, *rule.extra_start(prior)]


def prior_of(trace):
    prior = trace["prior"]
    values = [prior[name] for name in Prior._fields] if isinstance(prior, dict) else prior
    return Prior(*map(float.fromhex, values))


def numbers_of(rule, step):
    return [step[name] for name in NUMBERS[: 5 + len(rule.extra_numbers)]]


@each_trace
def test_each_step_of_a_trace_matches_to_the_bit(rule, trace):
    alpha = float.fromhex(trace["alpha"])
    numbers = start(rule, prior_of(trace))
    assert hexed(numbers) == trace.get("start", hexed(numbers))
    for step in trace["steps"]:
        p, c, y = step["prompt_tokens"], step["completion_tokens"], float.fromhex(step["actual_ms"])
        assert predict_ms(numbers, p, c).hex() == step["predicted_ms"]
        (predicted,) = learn_columns(rule, alpha, numbers, (p,), (c,), (y,))
        assert predicted.hex() == step["predicted_ms"]
        assert (y - predicted).hex() == step["error_ms"]
        assert hexed(numbers) == numbers_of(rule, step)
    if rule is EMA:
        assert len(trace["steps"]) == trace["sample_count"]
        assert confidence_of(trace["sample_count"]).hex() == trace["confidence"]


@each_trace
def test_a_trace_folded_in_one_column_ends_in_the_same_bits(rule, trace):
    steps = trace["steps"]
    state = State.from_prior(rule, float.fromhex(trace["alpha"]), prior_of(trace), 7)
    predicted = state.learn(
        range(len(steps)),
        [step["prompt_tokens"] for step in steps],
        [step["completion_tokens"] for step in steps],
        [float.fromhex(step["actual_ms"]) for step in steps],
    )
    assert hexed(predicted) == [step["predicted_ms"] for step in steps]
    assert state.sample_count == len(steps)
    assert state.updated_at == (len(steps) - 1 if steps else 7)
    if steps:
        assert hexed(state.numbers) == numbers_of(rule, steps[-1])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.version)
def test_folding_no_call_changes_nothing(rule):
    before = start(rule, Prior(0.5, 8.0, 300.0))
    before[3:5] = [1.0, 2.0]
    numbers = list(before)
    assert learn_columns(rule, 0.15, numbers, (), (), ()) == []
    assert numbers == before
