import json

import pytest

from calibration_ledger import AdaptiveCalibrator, LedgerBusyError
from calibration_ledger.core.values import as_json
from calibration_ledger.verbs import replay as verb

from .conftest import plain_calls, run_in_terminal


def alphas(path):
    with AdaptiveCalibrator(path) as calibrator:
        return [calibrator.calibration(head.model).alpha for head in calibrator.heads()]


def test_one_model_adopts_an_alpha_and_shows_what_changed(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        (expected,) = calibrator.replay(0.3, model="tiny")
    result = calib("recalibrate", "tiny", "--alpha", "0.3")
    assert result.stdout == (
        "model  calls  rule before  alpha before  error before ms  rule   alpha  mean error ms\n"
        "tiny       3  ema.1                0.15            867.5  ema.1    0.3          682.1\n"
    )
    assert f"{expected.mean_absolute_error_ms:.1f}" == "682.1"
    assert alphas(filled) == [0.15, 0.3]
    with AdaptiveCalibrator(filled) as calibrator:
        assert calibrator.calibration("tiny") == expected.calibration


def test_json_holds_the_state_before_and_after(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        before = as_json(calibrator.calibration("tiny"))
    (fields,) = json.loads(calib("recalibrate", "tiny", "--alpha", "0.3", "--json").stdout)
    assert fields["before"] == before
    assert fields["calibration"]["alpha"] == 0.3


def test_all_models_need_a_yes(calib, filled):
    result = calib("recalibrate", "--alpha", "0.3", exit_code=2)
    assert "nobody can be asked" in result.stderr
    assert alphas(filled) == [0.15, 0.15]
    calib("recalibrate", "--alpha", "0.3", "--yes")
    assert alphas(filled) == [0.3, 0.3]


def test_at_a_terminal_all_models_are_asked_for(calib, filled):
    no = run_in_terminal("--ledger", filled, "recalibrate", "--alpha", "0.3", typed="n\n")
    assert no.code == 1
    assert f"Recalibrate 2 models in {filled}" in no.out
    assert "Aborted!" in no.out
    assert alphas(filled) == [0.15, 0.15]
    yes = run_in_terminal("--ledger", filled, "recalibrate", "--alpha", "0.3", typed="y\n")
    assert yes.code == 0
    assert alphas(filled) == [0.3, 0.3]


def test_something_must_be_adopted(calib, filled):
    assert "--alpha, --rule" in calib("recalibrate", "tiny", exit_code=2).stderr


def test_a_model_never_seen_is_an_error(calib, filled):
    assert "'nobody'" in calib("recalibrate", "nobody", "--alpha", "0.3", exit_code=1).stderr


def test_a_ledger_without_models_says_so(calib):
    calib("db", "upgrade")
    result = calib("recalibrate", "--alpha", "0.3")
    assert (result.stdout, result.stderr) == ("", "no models to recalibrate yet.\n")


def test_a_model_that_cannot_adopt_it_leaves_the_others_alone(calib, filled):
    with AdaptiveCalibrator(filled, alpha=1e-300) as calibrator:
        calibrator.record("z", 1, 8e307)
        calibrator.record("z", 2**31 - 1, 1.0)
        heads = calibrator.heads()
    result = calib("recalibrate", "--alpha", "1", "--yes", exit_code=2)
    assert "cannot be learnt" in result.stderr
    with AdaptiveCalibrator(filled) as calibrator:
        assert calibrator.heads() == heads
        assert calibrator.audit() == []


@pytest.fixture
def longer(ledger_path):
    """A ledger with enough calls to say which rule would have been better."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(plain_calls("x y", 250))
        calibrator.record_many(plain_calls("tiny", 3))
    return ledger_path


def test_the_best_is_what_a_sweep_ranks_first_and_explained_by_its_errors(calib, longer):
    with AdaptiveCalibrator(longer) as calibrator:
        (sweep,) = calibrator.sweep(model="x y")
    best, live = sweep.winner, sweep.live
    adopted = calib("recalibrate", "--best", "--yes")
    assert adopted.stderr == (
        f"x y: {best.rule}, alpha {best.alpha:g} errs {best.mean_absolute_error_ms:.1f} ms over "
        f"the 230 calls after the first 20, the live one {live.mean_absolute_error_ms:.1f} ms\n"
    )
    assert [line.split("  ")[0] for line in adopted.stdout.splitlines()] == ["model", "x y"]
    with AdaptiveCalibrator(longer) as calibrator:
        now = calibrator.calibration("x y")
        assert (now.rule, now.alpha) == (best.rule, best.alpha)
        assert calibrator.calibration("tiny").rule == "ema.1", "it has too few calls"
    again = calib("recalibrate", "x y", "--best", "--yes")
    assert (again.stdout, again.stderr) == (
        "",
        "nothing to adopt: no rule and alpha would have predicted better than the live ones.\n",
    )


def test_too_few_calls_are_said_to_be_no_ground_to_adopt_anything(calib, longer):
    assert "too few calls" in calib("recalibrate", "tiny", "--best", "--yes").stderr


def test_the_best_of_one_rule(calib, longer):
    (fields,) = json.loads(
        calib("recalibrate", "x y", "--best", "--rule", "ema", "--yes", "--json").stdout
    )
    assert fields["rule"] == "ema.1"
    assert fields["mean_absolute_error_ms"] < fields["before"]["total_absolute_error_ms"] / 250


def test_the_best_is_asked_for_even_for_one_model(calib, longer):
    result = calib("recalibrate", "x y", "--best", exit_code=2)
    assert "nobody can be asked: give --yes." in result.stderr
    assert alphas(longer) == [0.15, 0.15]
    no = run_in_terminal("--ledger", longer, "recalibrate", "x y", "--best", typed="n\n")
    assert no.code == 1
    assert "x y: kalman.2, alpha" in no.out
    assert f"Recalibrate the model x y in {longer}" in no.out
    assert alphas(longer) == [0.15, 0.15]


@pytest.mark.parametrize("what", [("--best",), ("--alpha", "0.3"), ("--rule", "kalman")])
def test_a_dry_run_shows_what_would_change_and_changes_nothing(calib, longer, what):
    with AdaptiveCalibrator(longer) as calibrator:
        heads = calibrator.heads()
    shown = calib("recalibrate", "x y", *what, "--dry-run")
    *why, last = shown.stderr.splitlines()
    assert last == "nothing was changed (--dry-run)."
    assert len(why) == (what == ("--best",))
    with AdaptiveCalibrator(longer) as calibrator:
        assert calibrator.heads() == heads
    assert calib("recalibrate", "x y", *what, "--yes").stdout == shown.stdout


def test_the_best_finds_the_alpha_itself(calib, longer):
    result = calib("recalibrate", "--best", "--alpha", "0.1", exit_code=2)
    assert "leave --alpha out" in result.stderr


def test_what_stops_the_best_between_two_models_says_which_were_recalibrated(
    calib, ledger_path, monkeypatch
):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([*plain_calls("m0", 250), *plain_calls("m1", 250)])
    adopt, met = verb.adopt, []

    def stopped(*arguments):
        met.append(1)
        if len(met) == 2:
            raise LedgerBusyError("others held it", advice="try again")
        return adopt(*arguments)

    monkeypatch.setattr(verb, "adopt", stopped)
    result = calib("recalibrate", "--best", "--yes", exit_code=1)
    assert "The models before stay recalibrated ('m0'), and this one was not" in result.stderr
    assert "othing was recorded" not in result.stderr
