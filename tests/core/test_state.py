"""A calibration in motion: what is made of it, and what it is made of, is the same to the bit."""

from __future__ import annotations

import struct
from dataclasses import asdict

import pytest

from calibration_ledger.core.entries import Snapshot
from calibration_ledger.core.state import State, calibration_of
from calibration_ledger.errors import LedgerCorruptError, NotFiniteError
from calibration_ledger.rules import EMA, KALMAN, RULES

PRIOR = (0.5, 8.0, 300.0)


def lived(rule):
    state = State.from_prior(rule, 0.2, PRIOR, 7)
    state.learn([8, 9], [100, 20], [30, 40], [900.0, 450.5])
    return state


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.version)
def test_a_state_that_starts_is_its_prior_with_counts_of_nothing(rule):
    state = State.from_prior(rule, 0.2, PRIOR, 7)
    assert (state.rule, state.alpha, state.sample_count, state.updated_at) == (rule, 0.2, 0, 7)
    assert state.numbers == [*PRIOR, 0.0, 0.0, *rule.extra_start(PRIOR)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.version)
def test_a_state_comes_back_from_its_snapshot_and_from_the_entry_that_sets_it(rule):
    state = lived(rule)
    assert State.from_snapshot(state.snapshot()).same_as(state)
    entry = state.adjustment(3, "reset", 11, "why")
    assert (entry.seq, entry.kind, entry.recorded_at, entry.note) == (3, "reset", 11, "why")
    assert entry.snapshot == state.snapshot()
    assert state.adjustment(3, "reset", 11).note is None


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.version)
def test_a_copy_goes_another_way(rule):
    state = lived(rule)
    copy, before = state.copy(), state.bits()
    assert copy.same_as(state)
    copy.learn([10], [5], [6], [70.0])
    assert state.bits() == before
    assert not copy.same_as(state)


@pytest.mark.parametrize("part", ["rule", "alpha", "numbers", "sample_count", "updated_at"])
def test_states_that_differ_in_any_part_are_not_the_same(part):
    state, other = lived(EMA), lived(EMA)
    changed = {
        "rule": KALMAN,
        "alpha": 0.3,
        "numbers": [*other.numbers[:4], 1.0],
        "sample_count": 3,
        "updated_at": 1,
    }
    assert state.same_as(other)
    setattr(other, part, changed[part])
    assert not state.same_as(other)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.version)
def test_what_is_handed_out_is_the_whole_state(rule):
    state = lived(rule)
    given = asdict(state.calibration("m"))
    a, b, o, total_absolute_error_ms, total_predicted_ms, *further = state.numbers
    assert given == {
        "model": "m",
        "rule": rule.version,
        "alpha": 0.2,
        "ms_per_prompt_token": a,
        "ms_per_completion_token": b,
        "base_overhead_ms": o,
        "sample_count": 2,
        "total_absolute_error_ms": total_absolute_error_ms,
        "total_predicted_ms": total_predicted_ms,
        "rule_state": tuple(further),
        "last_updated": 9e-6,
    }


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"sample_count": -1}, "of the model 'm', the calibration counts -1 calls"),
        ({"rule_state": b"1234567"}, "of the model 'm', an entry holds an impossible value"),
        ({"updated_at": "now"}, "of the model 'm', an entry holds an impossible value"),
    ],
)
def test_a_calibration_that_no_program_wrote_is_called_damaged(fields, sentence):
    snapshot = lived(KALMAN).snapshot()
    assert isinstance(snapshot, Snapshot)
    with pytest.raises(LedgerCorruptError, match=sentence):
        calibration_of("m", snapshot._replace(**fields))


def test_a_call_that_cannot_be_learnt_is_named_with_its_prediction():
    state = lived(EMA)
    state.numbers[3] = 1.7e308  # what was wrong so far: the next error overflows
    predicted = state.calibration("m").predict(2, 1)
    with pytest.raises(NotFiniteError) as refused:
        state.learn([1, 2], [2, 3], [1, 1], [1.7e308, 5.0])
    sentence = str(refused.value)
    assert "a call of 2 prompt tokens, 1 completion tokens and 1.7e+308 ms" in sentence
    assert f"it was predicted to take {predicted!r} ms" in sentence


def test_further_numbers_are_those_of_the_rule_or_an_error():
    with pytest.raises(struct.error, match=r"the rule ema\.1 keeps 0 further numbers, not 1"):
        State.from_snapshot(lived(EMA).snapshot()._replace(rule_state=b"12345678"))
