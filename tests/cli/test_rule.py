import json
import re

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.rules import KALMAN
from support.by_hand import edited

TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ"


def settings(path):
    with AdaptiveCalibrator(path) as calibrator:
        found = calibrator.default_rule()
        return [(one.rule, one.alpha) for one in found.history]


def test_a_ledger_says_what_its_new_models_learn_by(calib, filled):
    result = calib("rule")
    assert result.stdout == "new models learn by ema.1, alpha 0.15 (no other was ever set)\n"
    assert json.loads(calib("rule", "--json").stdout) == {
        "rule": "ema.1",
        "alpha": 0.15,
        "since": None,
        "history": [],
    }
    assert settings(filled) == []


def test_it_is_set_shown_and_followed(calib, filled):
    first = calib("rule", "kalman")
    version = KALMAN.version
    assert re.fullmatch(
        rf"new models learn by {version}, alpha 0\.01 \(since {TIME}\)\n", first.stdout
    )
    assert "models with history keep their own rule" in first.stderr
    calib("rule", "--alpha", "0.25")
    calib("record", "new", "--prompt-tokens", "1", "--actual-ms", "2")
    calib("record", "own", "--rule", "ema", "--prompt-tokens", "1", "--actual-ms", "2")
    with AdaptiveCalibrator(filled) as calibrator:
        models = [head.model for head in calibrator.heads() if head.is_of_model]
        rules = {model: calibrator.calibration(model) for model in models}
        assert (rules["new"].rule, rules["new"].alpha) == (version, 0.25)
        assert (rules["own"].rule, rules["own"].alpha) == ("ema.1", 0.15)
        assert rules["tiny"].rule == "ema.1"
    shown = calib("rule").stdout.splitlines()
    assert re.fullmatch(rf"new models learn by {version}, alpha 0\.25 \(since {TIME}\)", shown[0])
    assert shown[1].split() == ["setting", "since", "rule", "alpha"]
    assert [line.split()[0] for line in shown[2:]] == ["1", "2"]
    told = json.loads(calib("rule", "--json").stdout)
    assert [one["alpha"] for one in told["history"]] == [0.01, 0.25]
    assert told["since"] == told["history"][-1]["recorded_at"]


def test_the_command_that_is_told_adopts_what_was_set(calib, filled):
    for setting in (("kalman.1",), ("kalman", "--alpha", "0.25")):
        told = calib("rule", *setting).stderr
        [command] = re.findall(r"`calib --ledger \S+ (recalibrate .*)`", told)
        calib(*command.split(), "--yes")
        with AdaptiveCalibrator(filled) as calibrator:
            adopted, default = calibrator.calibration("tiny"), calibrator.default_rule()
            assert (adopted.rule, adopted.alpha) == (default.rule, default.alpha)


def test_what_is_set_already_is_told(calib, ledger_path):
    calib("rule", "kalman")
    again = calib("rule", "kalman", "--json")
    assert len(json.loads(again.stdout)["history"]) == 1
    assert "nothing was changed" in calib("rule", "kalman").stderr
    assert settings(ledger_path) == [(KALMAN.version, KALMAN.default_alpha)]


def test_it_may_be_the_first_thing_that_a_ledger_is_told(calib, ledger_path):
    assert "no ledger" in calib("rule", exit_code=1).stderr
    assert not ledger_path.exists()
    calib("rule", "ema", "--alpha", "0.3")
    assert settings(ledger_path) == [("ema.1", 0.3)]


@pytest.mark.parametrize(
    "words", [("kalmann",), ("",), ("--alpha", "0"), ("ema", "--alpha", "2"), ("--alpha", "nan")]
)
def test_what_is_no_rule_or_alpha_is_refused_in_a_sentence(calib, ledger_path, words):
    result = calib("rule", *words, exit_code=2)
    assert result.stderr.startswith("Error: ")
    assert not ledger_path.exists()


def test_an_alpha_that_is_no_number_is_a_wrong_use(calib):
    assert "--alpha" in calib("rule", "--alpha", "fast", exit_code=2).stderr


def test_commands_that_count_models_do_not_count_the_settings(calib, filled):
    calib("rule", "kalman")
    assert calib("audit").stdout.startswith("ok: 2 models, ")
    report = json.loads(calib("audit", "--json").stdout)
    assert (report["models"], len(report["heads"])) == (2, 3)
    assert "2 models" in calib("reset", "--all", exit_code=2).stderr
    calib("recalibrate", "--alpha", "0.3", "--yes")
    calib("reset", "--all", "--yes")
    with AdaptiveCalibrator(filled) as calibrator:
        assert calibrator.calibration("tiny").rule == KALMAN.version


def test_saved_heads_hold_the_settings(calib, filled, tmp_path):
    calib("rule", "kalman")
    calib("audit", "--save-heads", tmp_path / "heads.jsonl")
    calib("rule", "ema")
    calib("audit", "--heads", tmp_path / "heads.jsonl")
    edited(filled, "DELETE FROM settings", "DELETE FROM setting_heads")
    found = calib("audit", "--heads", tmp_path / "heads.jsonl", exit_code=3).stdout
    assert "the settings #1: noted head: expected" in found
    assert "a history that ends at setting 0" in found


def test_a_move_says_what_new_models_learn_by(calib, filled, tmp_path, run):
    calib("rule", "kalman")
    written = calib("export", "jsonl", tmp_path / "all.jsonl").stderr
    assert "2 models, 1 setting written to" in written
    other = tmp_path / "other.db"
    first = run("--ledger", other, "import", "ledger", tmp_path / "all.jsonl")
    assert f"new models learn by what the file says: {KALMAN.version}" in first.stderr
    again = run("--ledger", other, "import", "ledger", tmp_path / "all.jsonl")
    assert "new models" not in again.stderr
    own = tmp_path / "own.db"
    run("--ledger", own, "rule", "ema")
    kept = run("--ledger", own, "import", "ledger", tmp_path / "all.jsonl")
    assert "new models go on to learn by ema.1, alpha 0.15" in kept.stderr
    assert f"`calib --ledger {own} rule` shows them" in kept.stderr
    left = calib("export", "jsonl", tmp_path / "left.jsonl", "--salvage").stderr
    assert f"calib --ledger NEW.db rule {KALMAN.version} --alpha 0.01" in left
