"""Every rule in a real ledger: live, replayed, audited, moved; and from one rule to another."""

import sqlite3
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import InvalidInputError, LedgerCorruptError, NotFiniteError
from calibration_ledger.rules import EMA, KALMAN, KALMAN_1, RULES
from support import reference_kalman, reference_kalman_2
from support.reference_kalman import NUMBERS

TRACES = {
    (rule.version, trace["name"]): trace
    for rule, reference in ((KALMAN_1, reference_kalman), (KALMAN, reference_kalman_2))
    for trace in reference.load_traces()
}


def hexed(calibration):
    numbers = (
        calibration.ms_per_prompt_token,
        calibration.ms_per_completion_token,
        calibration.base_overhead_ms,
        calibration.total_absolute_error_ms,
        calibration.total_predicted_ms,
        *calibration.rule_state,
    )
    return [float(number).hex() for number in numbers]


@pytest.mark.parametrize(("rule", "name"), TRACES)
def test_each_step_of_a_kalman_trace_is_lived_to_the_bit(ledger_path, rule, name):
    trace = TRACES[rule, name]
    prior = tuple(map(float.fromhex, trace["prior"]))
    alpha = float.fromhex(trace["alpha"])
    with AdaptiveCalibrator(
        ledger_path, alpha, rule=rule, prior=lambda _: prior, durability="normal"
    ) as calibrator:
        for step in trace["steps"]:
            p, c, y = step["prompt_tokens"], step["completion_tokens"], step["actual_ms"]
            assert calibrator.predict("m", p, c).predicted_ms.hex() == step["predicted_ms"]
            error = calibrator.record("m", p, float.fromhex(y), completion_tokens=c)
            assert error.hex() == step["error_ms"]
            assert hexed(calibrator.calibration("m")) == [step[name] for name in NUMBERS]
        (replay,) = calibrator.replay()
        assert replay.calibration == calibrator.calibration("m")
        assert calibrator.audit() == []


def test_a_rules_own_alpha_serves_where_none_is_given():
    for rule in RULES:
        with AdaptiveCalibrator(":memory:", rule=rule.version) as calibrator:
            assert (calibrator.rule, calibrator.alpha) == (rule.version, rule.default_alpha)
        with AdaptiveCalibrator(":memory:", 0.15, rule=rule.version) as calibrator:
            assert calibrator.alpha == 0.15


@pytest.mark.parametrize("rule", [rule.version for rule in RULES])
def test_a_model_lives_under_its_rule_whatever_others_open_theirs_with(ledger, make_call, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(make_call(i, "mine") for i in range(30))
    with AdaptiveCalibrator(ledger) as other:
        other.record_many(make_call(i, "mine") for i in range(30, 40))
        other.record("mine", 10, 400.0, completion_tokens=5, request_id="r")
        assert other.calibration("mine").rule == rule
        (replay,) = other.replay()
        assert replay.calibration == other.calibration("mine")
        assert other.audit() == []


def test_another_rule_is_tried_adopted_and_left_again(calibrator, make_call):
    calibrator.record_many(make_call(i) for i in range(60))
    before = calibrator.calibration("timmy:v0.1-q4")
    (tried,) = calibrator.replay(rule="kalman")
    assert (tried.rule, tried.alpha) == (KALMAN.version, KALMAN.default_alpha)
    assert calibrator.calibration("timmy:v0.1-q4") == before
    (adopted,) = calibrator.recalibrate(rule="kalman")
    assert adopted == tried
    assert calibrator.calibration("timmy:v0.1-q4") == tried.calibration
    calibrator.record_many(make_call(i) for i in range(60, 90))
    (live,) = calibrator.replay()
    assert live.calibration == calibrator.calibration("timmy:v0.1-q4")
    assert (live.rule, live.alpha) == (KALMAN.version, KALMAN.default_alpha)
    assert calibrator.replay(0.3)[0].rule == KALMAN.version, "an alpha alone keeps the rule"
    calibrator.recalibrate(rule="ema")
    assert calibrator.calibration("timmy:v0.1-q4").rule == EMA.version
    assert calibrator.calibration("timmy:v0.1-q4").alpha == EMA.default_alpha
    assert calibrator.calibration("timmy:v0.1-q4").rule_state == ()


def test_a_ledger_keeps_the_first_version_of_a_rule_until_it_is_recalibrated(ledger, make_call):
    with AdaptiveCalibrator(ledger, rule="kalman.1") as older:
        older.record_many(make_call(i, "m") for i in range(40))
        older.recalibrate(0.02)
    with AdaptiveCalibrator(ledger, rule="kalman") as calibrator:
        calibrator.record_many(make_call(i, "m") for i in range(40, 60))
        live = calibrator.calibration("m")
        assert (live.rule, live.alpha) == ("kalman.1", 0.02)
        assert [one.calibration for one in calibrator.replay()] == [live]
        assert calibrator.replay(0.05)[0].rule == "kalman.1", "an alpha alone keeps the version"
        calibrator.recalibrate(0.03)
        assert calibrator.calibration("m").rule == "kalman.1"
        assert calibrator.audit() == []
        heads = calibrator.heads()
        calibrator.record("new", 10, 400.0, completion_tokens=5)
        assert calibrator.calibration("new").rule == "kalman.2"
        (moved, _) = calibrator.recalibrate(rule="kalman")
        live = calibrator.calibration("m")
        assert (live.rule, live.alpha) == ("kalman.2", 0.03)
        assert live == moved.calibration
        calibrator.record_many(make_call(i, "m") for i in range(60, 70))
        (replayed,) = calibrator.replay(model="m")
        assert replayed.calibration == calibrator.calibration("m")
        assert calibrator.audit(heads=heads) == []
        calibrator.recalibrate(rule="kalman.1", model="m")
        assert calibrator.calibration("m").rule == "kalman.1"
        assert calibrator.audit() == []


def test_a_ledger_of_another_rule_moves_whole(ledger, tmp_path, make_call):
    with AdaptiveCalibrator(ledger, rule="kalman") as calibrator:
        calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(50))
        calibrator.recalibrate(0.05, model="m1")
        calibrator.reset("m0")
        calibrator.record("m0", 100, 900.0, completion_tokens=20)
        calibrator.export_ledger("jsonl", tmp_path / "all.jsonl")
        heads = calibrator.heads()
        states = [calibrator.calibration(head.model) for head in heads]
    with AdaptiveCalibrator(tmp_path / "copy.db") as copy:
        copy.import_calls("ledger", tmp_path / "all.jsonl")
        assert copy.heads() == heads
        assert [copy.calibration(head.model) for head in heads] == states
        assert copy.audit() == []


def test_the_state_is_told_and_taken_as_a_dict(calibrator):
    with AdaptiveCalibrator(":memory:", rule="kalman") as kalman:
        kalman.record("m", 10, 400.0, completion_tokens=5)
        found = kalman.calibration("m")
    assert len(found.rule_state) == len(KALMAN.extra_numbers)
    assert type(found).from_dict(found.to_dict()) == found


def test_what_cannot_stay_finite_is_refused_and_changes_nothing(ledger):
    with AdaptiveCalibrator(ledger, rule="kalman", prior=lambda _: (1e154,) * 3) as calibrator:
        with pytest.raises(NotFiniteError, match="would not stay finite"):
            calibrator.record("m", 1, 1.0, completion_tokens=1)
        assert calibrator.all_stats() == []


@pytest.mark.parametrize("state", [None, b"", bytes(8), bytes(72), b"odd"], ids=repr)
def test_a_further_state_that_is_not_the_rules_is_a_finding_and_a_typed_error(ledger_path, state):
    with AdaptiveCalibrator(ledger_path, rule="kalman") as calibrator:
        calibrator.record("m", 10, 400.0, completion_tokens=5)
    with closing(sqlite3.connect(ledger_path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute("UPDATE calibrations SET rule_state = ?", (state,))
        connection.commit()
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises(LedgerCorruptError, match=r"further|rule state"):
            calibrator.record("m", 10, 400.0, completion_tokens=5)
        with pytest.raises(LedgerCorruptError, match=r"further|rule state"):
            calibrator.record("m", 10, 400.0, completion_tokens=5, request_id="r")
        assert {finding.check for finding in calibrator.audit()} == {"calibration"}


def test_an_alpha_out_of_range_is_refused_for_every_rule():
    for rule in RULES:
        for alpha in (0.0, 1.5, float("nan")):
            with pytest.raises(InvalidInputError):
                AdaptiveCalibrator(":memory:", alpha, rule=rule.version)
