import json

import pytest

from calibration_ledger import AdaptiveCalibrator

from .conftest import run_in_terminal


def counts(path):
    with AdaptiveCalibrator(path) as calibrator:
        return [calibrator.calibration(head.model).sample_count for head in calibrator.heads()]


def test_a_model_goes_back_to_its_prior_and_its_history_stays(calib, filled):
    result = calib("reset", "tiny")
    assert result.stdout == (
        "tiny: back to its prior (0.5 ms per prompt token, 8 per completion token, 300 ms base), "
        "rule ema.1, alpha 0.15\n"
    )
    assert counts(filled) == [25, 0]
    assert len(calib("history", "tiny", "--json").stdout.splitlines()) == 3


def test_alpha_applies_from_then_on(calib, filled):
    (fields,) = json.loads(calib("reset", "tiny", "--alpha", "0.5", "--json").stdout)
    assert (fields["alpha"], fields["sample_count"]) == (0.5, 0)


def test_all_models_need_a_yes(calib, filled):
    assert "nobody can be asked" in calib("reset", "--all", exit_code=2).stderr
    assert counts(filled) == [25, 3]
    assert len(calib("reset", "--all", "--yes").stdout.splitlines()) == 2
    assert counts(filled) == [0, 0]


def test_at_a_terminal_all_models_are_asked_for(calib, filled):
    assert run_in_terminal("--ledger", filled, "reset", "--all", typed="\n").code == 1
    assert counts(filled) == [25, 3]
    assert run_in_terminal("--ledger", filled, "reset", "--all", typed="y\n").code == 0
    assert counts(filled) == [0, 0]


@pytest.mark.parametrize("args", [(), ("tiny", "--all"), ("tiny", "--all", "--yes")])
def test_either_one_model_or_all(calib, filled, args):
    assert "one of the two" in calib("reset", *args, exit_code=2).stderr
    assert counts(filled) == [25, 3]


def test_an_empty_name_is_not_all(calib, filled):
    assert "must not be empty" in calib("reset", "", "--yes", exit_code=2).stderr
    assert counts(filled) == [25, 3]


def test_a_model_never_seen_is_an_error(calib, filled):
    assert "'nobody'" in calib("reset", "nobody", exit_code=1).stderr


def test_a_ledger_without_models_says_so(calib):
    calib("db", "upgrade")
    result = calib("reset", "--all")
    assert (result.stdout, result.stderr) == ("", "no models to reset yet.\n")
