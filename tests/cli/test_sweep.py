import json
import random
from dataclasses import replace

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.cli.sweep import spaced
from calibration_ledger.cli.sweep import sweep as command
from calibration_ledger.verbs.sweep import ALPHAS, WARM_UP, WARM_UP_MAX

from .conftest import plain_calls, run_in_terminal


@pytest.fixture
def swept(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(plain_calls("a", 60))
        calibrator.record_many(plain_calls("b", 25))
    return ledger_path


def test_each_model_has_its_best_and_its_live_figures(calib, swept):
    lines = calib("sweep", "a", "--alphas", "0.1,0.15", "--rule", "ema").stdout.splitlines()
    assert lines[:2] == [
        "",
        "a",
    ]
    with AdaptiveCalibrator(swept) as calibrator:
        (sweep,) = calibrator.sweep([0.1, 0.15], "ema", "a")
    assert lines[2].split("  ")[0] == "rank"
    for line, score, rank in zip(
        lines[3:], [*sweep.scores, sweep.live], ["1", "2", "live"], strict=False
    ):
        cells = line.split()
        assert cells[:4] == [rank, "ema.1", f"{score.alpha:g}", "40"]
        assert cells[4] == f"{score.mean_absolute_error_ms:.1f}"
    assert len(lines) == 7
    assert "2 tried, each model's first 20 calls learnt but not scored" in lines[6]


def test_the_winner_comes_with_the_command_that_adopts_it(calib, swept):
    last = calib("sweep", "a").stdout.splitlines()[-1]
    assert last.startswith("best: kalman.2 ")
    command = last.partition("Adopt it: calib ")[2].split()
    calib(*command)
    assert calib("sweep", "a").stdout.splitlines()[-1].startswith("the live calibration is as good")


def test_all_models_end_with_all_of_them_together(calib, swept):
    lines = calib("sweep", "--top", "1").stdout.splitlines()
    assert calib("sweep", "--limit", "1").stdout.splitlines() == lines
    assert [line for line in lines if line in {"a", "b", "all models together"}] == [
        "a",
        "all models together",
    ]
    assert lines[-1].startswith("best over all: ")


def test_of_models_with_too_few_calls_only_the_number_is_told(calib, swept):
    """Five calls of b were scored, of c none: no table of either."""
    with AdaptiveCalibrator(swept) as calibrator:
        calibrator.record_many(plain_calls("c", 20))
    result = calib("sweep")
    assert result.stderr == (
        "2 models left out, with fewer than 10 scored calls each (a model's first 20 calls are "
        "learnt, but not scored).\n"
    )
    assert calib("sweep", "b").stdout == (
        "only 5 calls scored: too few to say what is better (each model's first 20 calls learnt "
        "but not scored).\n"
    )
    assert "too few calls" in calib("recalibrate", "b", "--best", "--yes").stderr
    assert calib("sweep", "b", "--warm-up", "5").stdout.count("\n") > 5


def test_what_is_too_close_to_tell_is_not_adopted(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.02, rule="kalman") as calibrator:
        noise = random.Random(1)
        calibrator.record_many(
            replace(call, actual_ms=call.actual_ms * noise.lognormvariate(0.0, 0.3))
            for call in plain_calls("m", 120)
        )
        (sweep,) = calibrator.sweep()
        assert sweep.winner.mean_absolute_error_ms < sweep.live.mean_absolute_error_ms
        assert calibrator.recalibrate(best=True) == []
        heads = calibrator.heads()
    last = calib("sweep").stdout.splitlines()[-1]
    assert last.startswith("too close to tell: the lead of kalman.2 ")
    result = calib("recalibrate", "--best", "--yes")
    assert result.stdout == ""
    assert "too close to tell" in result.stderr
    (found,) = json.loads(calib("sweep", "--json").stdout)
    assert found["winner"] is not None
    assert not found["is_clearly_better"]
    assert found["chance"] > 0.05
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.heads() == heads


def test_json_holds_every_score(calib, swept):
    found = json.loads(calib("sweep", "--json", "--warm-up", "5").stdout)
    assert [sweep["model"] for sweep in found] == ["a", "b", None]
    for sweep in found:
        assert sweep["warm_up"] == 5
        assert len(sweep["scores"]) == 22
        assert sweep["winner"] == sweep["scores"][0]
        assert set(sweep["live"]) == set(sweep["winner"])


def test_a_range_of_alphas_has_equal_ratios(calib, swept):
    found = json.loads(
        calib(
            *("sweep", "a", "--rule", "ema", "--json"),
            *("--alpha-from", "0.001", "--alpha-to", "1", "--steps", "4"),
        ).stdout
    )
    assert sorted(score["alpha"] for score in found[0]["scores"]) == [0.001, 0.01, 0.1, 1.0]
    assert spaced(0.25, 1.0, 2) == [0.25, 1.0]


@pytest.mark.parametrize("ends", [(0.1, 0.10001), (5e-324, 1.0), (0.999999, 1.0), (1e-300, 1e-299)])
def test_a_range_of_any_width_has_as_many_alphas_as_were_asked_for(ends):
    found = spaced(*ends, 20)
    assert (found[0], found[-1]) == ends
    assert found == sorted(set(found))
    assert len(found) == 20


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--alphas", "0.1,x"), "no list of numbers"),
        (("--alphas", ""), "no list of numbers"),
        (("--alphas", "0.1,2"), "alpha must be"),
        (("--alphas", "nan"), "alpha must be"),
        (("--alpha-from", "0.1"), "a range needs both"),
        (("--steps", "5"), "a range needs both"),
        (("--alpha-from", "0.5", "--alpha-to", "0.1"), "the first the smaller"),
        (("--alpha-from", "nan", "--alpha-to", "0.1"), "the first the smaller"),
        (("--alpha-from", "0", "--alpha-to", "0.1"), "must be above 0"),
        (("--alphas", "0.1", "--alpha-from", "0.1", "--alpha-to", "1"), "give one"),
        (("--rule", "emma"), "does not know the rule 'emma'"),
        (("--warm-up", "-1"), "--warm-up"),
        (("--top", "0"), "--top"),
    ],
)
def test_wrong_usage_is_told(calib, swept, args, sentence):
    result = calib("sweep", *args, exit_code=2)
    assert sentence in result.stderr
    assert result.stdout == ""


def test_where_all_are_worse_than_the_live_one_that_is_said(calib, swept):
    calib("recalibrate", "a", "--rule", "kalman")
    verdict = calib("sweep", "a", "--alphas", "0.9", "--rule", "ema").stdout.splitlines()[-1]
    assert verdict.startswith("the live calibration is better than all of these, even than ema.1")


def test_too_few_calls_are_said_to_score_nothing(calib, filled):
    last = calib("sweep", "tiny").stdout.splitlines()[-1]
    assert last == "nothing was scored (each model's first 20 calls learnt but not scored)."


def test_a_ledger_without_models_says_so(calib):
    calib("db", "upgrade")
    assert calib("sweep").stderr == "no models to sweep yet.\n"


def test_it_fits_a_terminal(swept):
    shown = run_in_terminal("--ledger", swept, "sweep", "a", COLUMNS="120")
    assert shown.code == 0
    assert "best" in shown.out


def test_what_the_help_says_of_defaults_is_true_of_the_library():
    (warm_up,) = [option for option in command.params if option.name == "warm_up"]
    assert (warm_up.default, warm_up.type.max) == (WARM_UP, WARM_UP_MAX)
    assert (len(ALPHAS), min(ALPHAS), max(ALPHAS)) == (11, 0.001, 0.5)
    assert "eleven alphas from 0.001 to 0.5" in command.help
