import json
import re

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.command import quoted

from .test_stats import PRIOR


def test_a_learnt_model_is_predicted_with_its_confidence(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("timmy", 512, 3400.0, completion_tokens=128)
        predicted_ms = calibrator.predict("timmy", 512, 128).predicted_ms
    result = calib("predict", "timmy", "--prompt-tokens", 512, "--completion-tokens", 128)
    assert f"{predicted_ms:.1f}" == "1989.5"
    assert result.stdout == (
        "timmy: 2.0 s (1989.5 ms) for 512 prompt tokens and 128 completion tokens\n"
        "confidence 0.10 from 1 call: warming up\n"
    )
    assert result.stderr == ""


def test_a_model_never_seen_is_predicted_from_its_prior_and_says_so(calib, filled):
    result = calib("predict", "llama3-8b-8192", "--prompt-tokens", 1)
    assert result.stdout == (
        "llama3-8b-8192: 150 ms (150.1 ms) for 1 prompt token and 0 completion tokens\n"
        "confidence 0.00: no call of this model was learnt yet, this is its prior\n"
    )


def test_a_mistyped_model_is_predicted_from_its_prior_and_the_nearest_is_named(calib, filled):
    result = calib("predict", "tinny", "--prompt-tokens", 1, "--json")
    assert json.loads(result.stdout)["sample_count"] == 0
    stats = f"calib --ledger {quoted(str(filled))} stats"
    assert result.stderr == (
        f"note: the ledger {filled} has no entry of a model 'tinny': did you mean 'tiny'? "
        f"`{stats}` lists those it has.\n"
    )
    assert calib("predict", "tiny", "--prompt-tokens", 1).stderr == ""


def test_a_model_after_a_reset_is_predicted_from_its_prior_and_says_so(calib, filled):
    calib("reset", "tiny")
    result = calib("predict", "tiny", "--prompt-tokens", 10)
    assert result.stdout.splitlines()[1] == (
        "confidence 0.00: no call was learnt since its reset, this is its prior"
    )


def test_a_model_imported_without_calls_is_predicted_from_what_came_in(calib, ledger_path):
    state = {"version": 1, "saved_at": 1.0, "models": [{**PRIOR, "model": "old"}]}
    calib("import", "state", "-", input=json.dumps(state))
    result = calib("predict", "old", "--prompt-tokens", 40)
    assert result.stdout == (
        "old: 20 ms (20.0 ms) for 40 prompt tokens and 0 completion tokens\n"
        "confidence 0.00: no call was learnt since this state was imported\n"
    )


def test_prediction_and_status_are_of_one_moment(calib, ledger_path, monkeypatch):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([Call("busy", 512, 128, 3400.0)] * 9)
    predict = AdaptiveCalibrator.predict

    def predict_then_others_record(self, *arguments):
        now = predict(self, *arguments)
        with AdaptiveCalibrator(ledger_path) as other:
            other.record("busy", 512, 9000.0, completion_tokens=128)
        return now

    monkeypatch.setattr(AdaptiveCalibrator, "predict", predict_then_others_record)
    result = calib("predict", "busy", "--prompt-tokens", 512, "--completion-tokens", 128)
    assert result.stdout.splitlines()[1] == "confidence 0.59 from 9 calls: warming up"


def test_json_holds_the_fields_of_a_prediction(calib, filled):
    result = calib("predict", "tiny", "--prompt-tokens", 10, "--completion-tokens", 5, "--json")
    fields = json.loads(result.stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        expected = calibrator.predict("tiny", 10, 5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", fields.pop("predicted_at"))
    assert fields == {
        "model": "tiny",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "predicted_ms": expected.predicted_ms,
        "confidence": expected.confidence,
        "sample_count": 3,
    }


def test_predict_writes_nothing(calib, filled):
    before = filled.read_bytes()
    calib("predict", "never seen", "--prompt-tokens", 10)
    assert filled.read_bytes() == before


def test_prompt_tokens_are_required(calib, filled):
    result = calib("predict", "tiny", exit_code=2)
    assert "Missing option '--prompt-tokens'" in result.stderr


@pytest.mark.parametrize("name", ["\x1b[2Jgone", "line\nbreak", "\u202eright to left", "bell\x07"])
def test_a_model_name_cannot_command_the_terminal(calib, filled, name):
    result = calib("predict", name, "--prompt-tokens", 10)
    assert result.stdout.count("\n") == 2
    assert all(char.isprintable() or char == "\n" for char in result.stdout)
    as_json = calib("predict", name, "--prompt-tokens", 10, "--json").stdout
    assert as_json.isascii()
    assert "\x1b" not in as_json
    assert json.loads(as_json)["model"] == name


def test_a_prediction_that_is_no_number_is_no_null(calib, ledger_path):
    absurd = ("record", "m", "--prompt-tokens", 1, "--actual-ms", 1.7e308, "--alpha", 1)
    result = calib(*absurd, "--request-id", "r")
    assert result.stdout.startswith("m: error +")
    assert "Reset the model; its history stays." in result.stderr
    fields = json.loads(calib(*absurd, "--request-id", "r", "--json").stdout)
    assert fields["prediction"] is None
    result = calib("predict", "m", "--prompt-tokens", 10**6, "--json", exit_code=2)
    assert result.stdout == ""
    assert "Reset the model; its history stays." in result.stderr
