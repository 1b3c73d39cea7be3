import json
import subprocess
from datetime import UTC, datetime

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.command import quoted

from .conftest import PROGRAM

CALL = ("--prompt-tokens", 512, "--completion-tokens", 128, "--actual-ms", 3400)


def test_the_first_record_makes_the_ledger_and_tells_what_was_learnt(calib, ledger_path):
    result = calib("record", "timmy", *CALL)
    assert result.stdout == (
        "timmy: error +1820.0 ms (3400.0 measured, 1580.0 predicted), entry 2\n"
        "now predicts 1989.5 ms for 512 prompt tokens and 128 completion tokens\n"
        "confidence 0.10 from 1 call: warming up\n"
    )
    assert result.stderr == ""
    assert ledger_path.exists()


def test_everything_that_was_said_of_the_call_is_recorded(calib, ledger_path):
    calib(
        "record",
        "timmy",
        *CALL,
        *("--request-id", "req-17", "--called-at", "2026-11-24T09:30:00+01:00"),
        *("--detail", "ttft_ms=80.5", "--detail", "cached_tokens=12", "--detail", "stream=true"),
        *("--detail", "clock=client", "--detail", "tag=v1=b"),
    )
    with AdaptiveCalibrator(ledger_path) as calibrator:
        (call,) = calibrator.calls()
    assert call.request_id == "req-17"
    assert call.called_at == datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    assert call.details == {
        "ttft_ms": 80.5,
        "cached_tokens": 12,
        "stream": True,
        "clock": "client",
        "tag": "v1=b",
    }
    assert (call.prompt_tokens, call.completion_tokens, call.actual_ms) == (512, 128, 3400.0)


def test_json_gives_the_error_and_the_new_prediction(calib, ledger_path):
    fields = json.loads(calib("record", "timmy", *CALL, "--json").stdout)
    assert fields["error_ms"] == 1820.0
    assert fields["prediction"]["sample_count"] == 1
    with AdaptiveCalibrator(ledger_path) as calibrator:
        expected = calibrator.predict("timmy", 512, 128).predicted_ms
    assert fields["prediction"]["predicted_ms"] == expected


def test_a_time_out_is_told_and_not_learnt(calib, ledger_path):
    calib("record", "timmy", *CALL)
    given_up = ("--prompt-tokens", 512, "--actual-ms", 30_000, "--outcome", "timeout")
    result = calib("record", "timmy", *given_up)
    assert result.stdout == (
        "timmy: given up after 30000.0 ms (910.9 predicted), kept and not learnt, entry 3\n"
        "now predicts 910.9 ms for 512 prompt tokens and 0 completion tokens\n"
        "confidence 0.10 from 1 call: warming up\n"
    )
    told = json.loads(calib("record", "timmy", *given_up, "--json").stdout)
    assert (told["outcome"], told["seq"]) == ("timeout", 4)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert [call.outcome for call in calibrator.calls()] == ["ok", "timeout", "timeout"]
    refused = calib("record", "timmy", *given_up[:-1], "error", exit_code=2)
    assert "'error' is not one of 'ok', 'timeout'" in refused.stderr


def test_the_same_request_id_again_adds_nothing_and_gives_the_first_error(calib, ledger_path):
    first = json.loads(calib("record", "timmy", *CALL, "--request-id", "r", "--json").stdout)
    again = json.loads(calib("record", "timmy", *CALL, "--request-id", "r", "--json").stdout)
    assert again["error_ms"] == first["error_ms"]
    assert again["prediction"]["sample_count"] == 1
    assert (first["added"], again["added"]) == (True, False)
    assert first["seq"] == again["seq"] == 2
    shown = calib("record", "timmy", *CALL, "--request-id", "r").stdout.splitlines()
    assert shown[0] == (
        "timmy: recorded already, nothing added: error +1820.0 ms "
        "(3400.0 measured, 1580.0 predicted), entry 2"
    )
    assert shown[1:] == [
        "now predicts 1989.5 ms for 512 prompt tokens and 128 completion tokens",
        "confidence 0.10 from 1 call: warming up",
    ]
    calib("reset", "timmy")
    last = calib("record", "timmy", *CALL, "--request-id", "r").stdout.splitlines()[2]
    assert last == "confidence 0.00: no call was learnt since its reset, this is its prior"


def test_a_new_call_is_told_as_new_though_others_record_at_the_same_time(calib, ledger_path):
    calib("record", "timmy", *CALL)
    result = calib("record", "timmy", *CALL, "--request-id", "r")
    assert "already" not in result.stdout
    results = [run_process_in_background(ledger_path, "once") for _ in range(4)]
    added = [json.loads(process.communicate()[0])["added"] for process in results]
    assert sorted(added) == [False, False, False, True]


def run_process_in_background(ledger_path, request_id):
    args = [*map(str, CALL), "--request-id", request_id, "--json"]
    return subprocess.Popen(
        [*PROGRAM, "--ledger", str(ledger_path), "record", "timmy", *args],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_same_request_id_with_other_numbers_is_refused(calib, ledger_path):
    calib("record", "timmy", *CALL, "--request-id", "r")
    before = ledger_path.read_bytes()
    other = ("--prompt-tokens", 513, "--actual-ms", 3400, "--request-id", "r")
    result = calib("record", "timmy", *other, exit_code=2)
    assert result.stderr.startswith("Error: ")
    assert "r" in result.stderr
    assert ledger_path.read_bytes() == before


def test_alpha_and_rule_apply_to_a_model_that_the_call_opens(calib, ledger_path):
    opened = calib("record", "timmy", *CALL, "--alpha", 0.3, "--rule", "ema")
    same = calib("record", "timmy", *CALL, "--alpha", 0.3)
    assert opened.stderr == same.stderr == ""
    other = calib("record", "timmy", *CALL, "--alpha", 0.9)
    adopt = f"calib --ledger {quoted(str(ledger_path))} recalibrate"
    keeps = "timmy has history and keeps its rule ema.1 and alpha 0.3"
    assert other.stderr == f"{keeps}: `{adopt} --alpha 0.9 -- timmy` adopts what was asked for.\n"
    assert (
        f"`{adopt} --rule kalman -- timmy`"
        in calib("record", "timmy", *CALL, "--rule", "kalman").stderr
    )
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibration = calibrator.calibration("timmy")
    assert (calibration.alpha, calibration.rule) == (0.3, "ema.1")


def test_without_a_ledger_named_the_users_own_is_used(run, users_own, ledger_path):
    assert run("record", "timmy", *CALL).exit_code == 0
    assert users_own.exists()
    assert not ledger_path.exists()


def test_a_model_whose_name_starts_with_a_dash_follows_two_dashes(calib, ledger_path):
    calib("record", *CALL, "--", "-weird")
    assert json.loads(calib("stats", "--json").stdout)[0]["model"] == "-weird"


def test_nobody_measures_minus_zero(calib):
    zero = ("--prompt-tokens", 1, "--actual-ms", "-0.0")
    assert "(0.0 measured, " in calib("record", "timmy", *zero).stdout
    fields = calib("record", "timmy", *zero, "--json").stdout
    assert '"actual_ms": 0.0' in fields
