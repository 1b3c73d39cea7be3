import json
import re

import pytest

from calibration_ledger import AdaptiveCalibrator

from .conftest import plain_calls, run_process


@pytest.fixture
def learnt(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(plain_calls("steady", 60))
    return ledger_path


def test_it_prints_seconds_and_nothing_else(calib, learnt):
    result = calib("timeout", "steady", "-p", 512)
    assert re.fullmatch(r"[0-9]+\.[0-9]{3}\n", result.stdout)
    assert result.stderr == ""
    with AdaptiveCalibrator(learnt) as calibrator:
        timeout_ms = calibrator.forecast("steady", 512).timeout_ms(0.99)
    assert 0.0 <= float(result.stdout) * 1000 - timeout_ms < 1.0001


def test_it_takes_a_chance_and_what_is_known_of_the_completion(calib, learnt):
    asked = ("timeout", "steady", "-p", 512, "--json")
    told = {
        words: json.loads(calib(*asked, *words).stdout)
        for words in ((), ("--chance", 0.5), ("-c", 300), ("--max-tokens", 20))
    }
    with AdaptiveCalibrator(learnt) as calibrator:
        expected = [
            calibrator.forecast("steady", 512).timeout_ms(),
            calibrator.forecast("steady", 512).timeout_ms(0.5),
            calibrator.forecast("steady", 512, 300).timeout_ms(),
            calibrator.forecast("steady", 512, max_tokens=20).timeout_ms(),
        ]
    assert [one["timeout_s"] * 1000 for one in told.values()] == pytest.approx(expected, abs=1.001)
    assert told[()].keys() == {
        *("model", "prompt_tokens", "counted_by", "completion_tokens", "max_tokens"),
        *("chance", "timeout_s", "n", "newest", "status"),
    }
    assert [one["chance"] for one in told.values()] == [0.99, 0.5, 0.99, 0.99]


def test_without_history_a_script_gets_no_number_and_exit_code_1(calib, run, learnt, tmp_path):
    for words in (("timeout", "stedy", "-p", 1), ("timeout", "stedy", "-p", 1, "--json")):
        result = calib(*words, exit_code=1)
        assert result.stdout == ""
        assert "did you mean 'steady'?" in result.stderr
    calib("reset", "steady")
    result = calib("timeout", "steady", "-p", 1, exit_code=1)
    assert result.stdout == ""
    assert "no calls of 'steady' since it began or was reset" in result.stderr
    missing = run("--ledger", tmp_path / "none.db", "timeout", "steady", "-p", 1)
    assert (missing.exit_code, missing.stdout) == (1, "")


def test_no_absurd_call_makes_an_endless_timeout(calib, ledger_path):
    calib("record", "m", "-p", 1, "--actual-ms", "1.7e308")
    result = calib("timeout", "m", "-p", 1, exit_code=2)
    assert result.stdout == ""
    assert "void it, or reset the model" in result.stderr


def test_no_timeout_is_0_which_means_none_to_other_programs(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for _ in range(60):
            calibrator.record("cached", 1, 0.0)
    assert calib("timeout", "cached", "-p", 1, "-c", 0).stdout == "0.001\n"


def test_a_long_timeout_has_no_exponent(calib, ledger_path):
    calib("record", "m", "-p", 1, "--actual-ms", "1e25")
    assert re.fullmatch(r"[0-9]{20,}\.[0-9]{3}\n", calib("timeout", "m", "-p", 1).stdout)


def test_a_shell_reads_it(learnt):
    done = run_process("--ledger", learnt, "timeout", "steady", "-p", 512, "--chance", "0.9")
    assert done.code == 0
    assert 0.5 < float(done.out) < 60.0
    assert done.err == ""
