import json
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.values import as_json

from .conftest import plain_calls


def test_without_options_it_is_the_live_calibration(calib, filled):
    result = calib("replay")
    assert result.stdout == (
        "model          rule   alpha  calls  mean error ms  of latency  median error  bias ms\n"
        "timmy:v0.1-q4  ema.1   0.15     25         1278.6      51.3 %        49.0 %   -269.3\n"
        "tiny           ema.1   0.15      3          867.5      42.6 %        45.1 %   +867.5\n"
    )
    assert result.stderr == ""


def test_another_alpha_is_shown_beside_the_live_one(calib, filled):
    result = calib("replay", "--alpha", "0.5")
    assert result.stdout == (
        "model          rule   alpha  calls  mean error ms  of latency  median error  bias ms  "
        "live alpha  live error ms   change\n"
        "timmy:v0.1-q4  ema.1    0.5     25         1240.7      49.8 %        26.2 %   -217.7  "
        "      0.15         1278.6   -3.0 %\n"
        "tiny           ema.1    0.5      3          484.5      23.8 %        26.2 %   +484.5  "
        "      0.15          867.5  -44.1 %\n"
    )


def test_json_holds_the_replay_and_the_live_one(calib, filled):
    replays = json.loads(calib("replay", "tiny", "--alpha", "0.5", "--json").stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        (expected,) = calibrator.replay(0.5, model="tiny")
        (live,) = calibrator.replay(model="tiny")
    assert [one["model"] for one in replays] == ["tiny"]
    for fields, value in ((replays[0], expected), (replays[0]["live"], live)):
        assert fields["alpha"] == value.alpha
        assert fields["n"] == value.n == 3
        assert fields["mean_absolute_error_ms"] == value.mean_absolute_error_ms
        assert fields["median_absolute_percentage_error"] == value.median_absolute_percentage_error
        assert fields["bias_ms"] == value.bias_ms
        assert fields["calibration"] == as_json(value.calibration)


def test_a_window_chooses_what_is_scored(calib, filled):
    window = ("--since", "2026-01-02T03:04:06Z", "--until", "2026-01-02T03:04:07Z")
    (fields,) = json.loads(calib("replay", "tiny", *window, "--json").stdout)
    assert fields["n"] == 1
    assert "live" not in fields


def test_nothing_scored_has_no_figures(calib, filled):
    since = ("--since", "2030-01-01T00:00:00Z")
    (fields,) = json.loads(calib("replay", "tiny", *since, "--json").stdout)
    assert fields["n"] == 0
    assert fields["mean_absolute_error_ms"] is None
    assert calib("replay", "tiny", *since).stdout.splitlines()[1].split()[3:] == ["0", *"----"]


def test_it_changes_nothing(calib, filled):
    before = filled.read_bytes()
    calib("replay", "--alpha", "0.9")
    assert filled.read_bytes() == before


def test_a_ledger_without_models_says_so(calib):
    calib("db", "upgrade")
    result = calib("replay")
    assert (result.stdout, result.stderr) == ("", "no models to replay yet.\n")
    assert json.loads(calib("replay", "--json").stdout) == []


def test_a_model_never_seen_is_an_error(calib, filled):
    assert "'nobody'" in calib("replay", "nobody", exit_code=1).stderr


# -- forecasts ------------------------------------------------------------------------------


def test_forecasts_are_scored_for_each_model(calib, filled):
    result = calib("replay", "--forecast", "--warm-up", "2")
    assert result.stdout == (
        "model          completion  calls  50 % held  80 % held  90 % held  95 % held  "
        "worst 200 in a row  worst third by size  90 % width  over timeout  median error    loss\n"
        "timmy:v0.1-q4  known          23     39.1 %     73.9 %     82.6 %     82.6 %  "
        "                 -                    -       4.9 s         0.0 %        51.7 %  15.0 %\n"
        "timmy:v0.1-q4  not known      23     39.1 %     69.6 %     78.3 %     78.3 %  "
        "                 -                    -       3.4 s         0.0 %        33.4 %  11.7 %\n"
        "tiny           known           1      100 %      100 %      100 %      100 %  "
        "                 -                    -       1.5 s         0.0 %         2.0 %   1.8 %\n"
        "tiny           not known       1      0.0 %      0.0 %      0.0 %      0.0 %  "
        "                 -                    -      998 ms         0.0 %        33.4 %  11.2 %\n"
        "ranges of 90 % held 83.3 % of 24 calls where the completion length was known beforehand, "
        "and 75.0 % where it was not; 0.0 % took longer than the 99 % timeout "
        "(each model's first 2 calls learnt but not scored).\n"
    )
    assert result.stderr == ""


def test_nothing_scored_says_why(calib, filled):
    result = calib("replay", "--forecast", "tiny")
    assert result.stdout.splitlines()[-1] == (
        "nothing was scored (each model's first 20 calls learnt but not scored)."
    )
    assert result.stdout.splitlines()[1].split() == ["tiny", "known", "0", *"-" * 10]
    assert result.stderr == ""


def test_json_holds_what_the_library_gives(calib, filled):
    window = ("--since", "2026-01-02T03:04:08Z", "--until", "2026-01-02T03:04:28Z", "--last", "15")
    found = json.loads(calib("replay", "--forecast", *window, "--warm-up", "5", "--json").stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        expected = calibrator.replay_forecasts(
            since=datetime(2026, 1, 2, 3, 4, 8, tzinfo=UTC),
            until=datetime(2026, 1, 2, 3, 4, 28, tzinfo=UTC),
            last=15,
            warm_up=5,
        )
    assert found == as_json(expected)
    assert [one["n"] for one in found] == [15, 0]
    assert 0.0 <= found[0]["unknown"]["coverage_90"] <= 1.0


def test_calls_without_a_forecast_are_told(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path, alpha=1e-6) as calibrator:
        calibrator.record_many(plain_calls("m", 35))
        calibrator.record("m", 1, 1.7e308, completion_tokens=1)
        calibrator.record_many(plain_calls("m", 2))
        calibrator.void("m", seq=37)
    assert calib("replay", "--forecast").stderr == (
        "2 calls not scored, for there was no forecast then: an absurd call was among the newest.\n"
    )


def test_forecasts_of_no_model_at_all(calib):
    calib("db", "upgrade")
    result = calib("replay", "--forecast")
    assert (result.stdout, result.stderr) == ("", "no models to replay yet.\n")
    assert json.loads(calib("replay", "--forecast", "--json").stdout) == []
    assert "'nobody'" in calib("replay", "--forecast", "nobody", exit_code=1).stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--forecast", "--alpha", "0.5"), "no --alpha or --rule"),
        (("--forecast", "--rule", "ema"), "no --alpha or --rule"),
        (("--last", "5"), "go with --forecast"),
        (("--warm-up", "5"), "go with --forecast"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(calib, filled, options, told):
    assert told in calib("replay", *options, exit_code=2).stderr


@pytest.mark.parametrize("option", [("--last", "0"), ("--warm-up", "-1")])
def test_numbers_that_are_none_are_refused(calib, filled, option):
    assert "must be a whole number" in calib("replay", "--forecast", *option, exit_code=2).stderr
