from __future__ import annotations

import json

from calibration_ledger import AdaptiveCalibrator

from .conftest import run_in_terminal


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
        before = calibrator.calibration("tiny").to_dict()
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
