"""The EMA rule to the bit, as a pure fold: against the vectors, and against the design's text."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.priors import Prior, default_prior
from calibration_ledger.core.state import learn_columns
from calibration_ledger.errors import NotFiniteError, UnknownRuleError
from calibration_ledger.rules import EMA, RULES, find_rule
from support.any_numbers import coefficients, hexed, milliseconds, tokens
from support.reference import Ema, load_traces

TRACES = load_traces()
alphas = st.one_of(st.floats(0.0, 1.0, exclude_min=True), st.sampled_from([1.0, 0.15, 5e-324]))


def prior_of(trace):
    return Prior(*(float.fromhex(trace["prior"][name]) for name in Prior._fields))


def test_there_are_twelve_traces_and_they_were_made_with_the_built_in_priors():
    assert len(TRACES) == 12
    for trace in TRACES:
        assert hexed(prior_of(trace)) == hexed(default_prior(trace["model"])), trace["name"]


@given(coefficients, alphas, st.lists(st.tuples(tokens, tokens, milliseconds), max_size=30))
def test_any_finite_history_folds_as_the_design_writes_it(prior, alpha, calls):
    """And one that is not finite anywhere on the way is refused, however it looks at the end."""
    reference = Ema(alpha, *prior)
    expected: list[float] = []
    is_finite = True
    for p, c, y in calls:
        before = Ema(reference.alpha, reference.a, reference.b, reference.o)
        predicted, error = reference.learn(p, c, y)
        expected.append(predicted)
        total = p + c or 1
        unclamped = (
            before.a + alpha * error * (p / total) / max(p, 1),
            before.b + alpha * error * (c / total) / max(c, 1),
            before.o + alpha * error * (1.0 - 0.5 * (p / total + c / total)),
        )
        totals = reference.total_absolute_error_ms, reference.total_predicted_ms
        is_finite = all(map(math.isfinite, (predicted, error, *unclamped, *totals)))
        if not is_finite:
            break
    columns = [list(column) for column in zip(*calls, strict=True)] or [[], [], []]
    numbers = [*prior, 0.0, 0.0]
    if not is_finite:
        with pytest.raises(NotFiniteError, match="Check the measurement"):
            learn_columns(EMA, alpha, numbers, *columns)
        return
    assert hexed(learn_columns(EMA, alpha, numbers, *columns)) == hexed(expected)
    assert (float(alpha).hex(), *hexed(numbers[:3])) == reference.numbers()[:4]
    assert tuple(hexed(numbers[3:])) == reference.numbers()[5:]


@pytest.mark.parametrize(
    ("calls", "refused"),
    [
        ([(1, 0, 1.7e308), (1000, 0, 1.0)], "a call of 1000 prompt tokens"),
        ([(0, 1, 1.7e308), (0, 1000, 1.0)], "0 prompt tokens, 1000 completion tokens"),
        ([(1, 0, 1.7e308), (1, 0, 1.7e308), (1, 0, 0.0), (1, 0, 1.7e308)], "cannot be learnt"),
        # The coefficients come back to earth; only the totals remember that they flew.
        ([(1, 0, 1.7e308), (1000, 0, 1.0)] + [(1, 1, 1.0)] * 50, "a call of 1000 prompt tokens"),
    ],
)
def test_a_fold_that_is_not_finite_anywhere_on_the_way_is_refused(calls, refused):
    for columns in (list(zip(*calls, strict=True)),):
        with pytest.raises(NotFiniteError, match=refused):
            learn_columns(EMA, 1.0, [0.5, 8.0, 300.0, 0.0, 0.0], *columns)


def test_a_sum_that_overflows_by_itself_refuses_nothing():
    """Five finite numbers may add up to infinity: the look at their sum is only a short cut."""
    numbers = [1e308, 1e308, 0.0, 0.0, 0.0]
    (predicted,) = learn_columns(EMA, 1e-300, numbers, (1,), (0,), (1e308,))
    assert predicted == 1e308
    assert sum(numbers) == math.inf


def test_no_tokens_at_all_move_the_base_alone():
    numbers = [0.5, 8.0, 300.0, 0.0, 0.0]
    learn_columns(EMA, 0.5, numbers, (0,), (0,), (100.0,))
    assert numbers == [0.5, 8.0, 200.0, 200.0, 300.0]


def test_the_coefficients_are_held_above_their_floors():
    numbers = [0.5, 8.0, 300.0, 0.0, 0.0]
    learn_columns(EMA, 1.0, numbers, (1,), (1,), (0.0,))
    assert numbers[:3] == [0.001, 0.001, 300.0 + (0.0 - 308.5) * 0.5]
    learn_columns(EMA, 1.0, numbers, (0,), (0,), (0.0,))
    assert numbers[2] == 0.0


def test_a_rule_is_found_by_its_name_and_by_its_version():
    assert find_rule("ema") is EMA
    assert find_rule("ema.1") is EMA
    assert EMA.default_alpha == 0.15
    assert len({rule.version for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", ["", "EMA", "ema.2", "kalman.9", None, 1, [], b"ema"])
def test_an_unknown_rule_is_named_beside_those_that_are_known(rule):
    with pytest.raises(UnknownRuleError, match="knows ema"):
        find_rule(rule)
