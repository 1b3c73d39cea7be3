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
        low, high = calibrator.forecast("timmy", 512, 128).interval(0.9)
    result = calib("predict", "timmy", "--prompt-tokens", 512, "--completion-tokens", 128)
    assert f"{predicted_ms:.1f}" == "1989.5"
    assert result.stdout == (
        "timmy: 1989.5 ms for 512 prompt tokens and 128 completion tokens\n"
        f"9 of 10 such calls take {low / 1000:.1f} to {high / 1000:.1f} s (few calls: 1 so far)\n"
        "confidence 0.10 from 1 call: warming up\n"
    )
    assert result.stderr == ""


def test_a_model_never_seen_is_predicted_from_its_prior_and_says_so(calib, filled):
    result = calib("predict", "llama3-8b-8192", "-p", 1, "-c", 1)
    assert result.stdout == (
        "llama3-8b-8192: 150.4 ms for 1 prompt token and 1 completion token\n"
        "9 of 10 such calls take 117 to 192 ms (no history: a guess)\n"
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
    assert result.stdout.splitlines()[-1] == (
        "confidence 0.00: no call was learnt since its reset, this is its prior"
    )


def test_a_model_of_which_all_was_given_up_is_predicted_from_its_prior_and_says_so(calib):
    given_up = ("--prompt-tokens", 10, "--actual-ms", 5000, "--outcome", "timeout")
    for result in (calib("record", "hung", *given_up), calib("predict", "hung", "-p", 10)):
        assert result.stdout.splitlines()[-1] == (
            "confidence 0.00: the newest call was given up, and no other was learnt, "
            "this is its prior"
        )


def test_a_model_imported_without_calls_is_predicted_from_what_came_in(calib, ledger_path):
    state = {"version": 1, "saved_at": 1.0, "models": [{**PRIOR, "model": "old"}]}
    calib("import", "state", "-", input=json.dumps(state))
    result = calib("predict", "old", "--prompt-tokens", 40, "--completion-tokens", 0)
    assert result.stdout == (
        "old: 20.0 ms for 40 prompt tokens and 0 completion tokens\n"
        "9 of 10 such calls take 16 to 26 ms (no history: a guess)\n"
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
    assert result.stdout.splitlines()[-1] == "confidence 0.59 from 9 calls: warming up"


def test_json_holds_the_fields_of_a_prediction(calib, filled):
    result = calib("predict", "tiny", "--prompt-tokens", 10, "--completion-tokens", 5, "--json")
    fields = json.loads(result.stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        expected = calibrator.predict("tiny", 10, 5)
        forecast = calibrator.forecast("tiny", 10, 5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", fields.pop("predicted_at"))
    assert fields == {
        "model": "tiny",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "predicted_ms": expected.predicted_ms,
        "confidence": expected.confidence,
        "sample_count": 3,
        "counted_by": None,
        "forecast": forecast.to_dict(),
    }


def test_without_a_completion_it_says_what_it_assumed(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        forecast = calibrator.forecast("timmy:v0.1-q4", 512)
        capped = calibrator.forecast("timmy:v0.1-q4", 512, max_tokens=50)
        expected = calibrator.predict("timmy:v0.1-q4", 512, forecast.completion_tokens.median)
    first, second, _ = calib("predict", "timmy:v0.1-q4", "-p", 512).stdout.splitlines()
    assert forecast.completion_tokens.median == 199
    assert first.endswith("for 512 prompt tokens and an assumed 199 completion tokens")
    assert f" {expected.predicted_ms:.1f} ms for" in first
    assert re.fullmatch(
        r"9 of 10 such calls take \d\.\d to \d\.\d s "
        r"\(few calls: 25 so far\)",
        second,
    )
    fields = json.loads(calib("predict", "timmy:v0.1-q4", "-p", 512, "--json").stdout)
    assert fields["predicted_ms"] == expected.predicted_ms
    assert fields["completion_tokens"] == 199
    assert fields["forecast"]["completion_tokens"]["is_given"] is False
    most = calib("predict", "timmy:v0.1-q4", "-p", 512, "--max-tokens", 50, "--json")
    assert json.loads(most.stdout)["completion_tokens"] == capped.completion_tokens.median == 50


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
    assert result.stdout.count("\n") == 3
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
