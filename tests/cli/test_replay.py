import json

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.values import as_json


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
