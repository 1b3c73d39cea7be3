import json
import os
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.command import quoted
from calibration_ledger.core.values import iso_from_seconds

from .conftest import plain_calls, run_in_terminal, run_process

PRIOR = {
    "alpha": 0.15,
    "sample_count": 0,
    "ms_per_prompt_token": 0.25,
    "ms_per_completion_token": 4.0,
    "base_overhead_ms": 10.0,
}


def test_the_table_has_a_line_for_each_model(calib, filled):
    result = calib("stats")
    assert result.stdout == (
        "model          calls  rule   alpha  confidence  ms/prompt tok  ms/compl tok  base ms  "
        "mean error ms  mean ms  typically within  newest errors     last updated          "
        "status\n"
        "timmy:v0.1-q4     25  ema.1   0.15        0.92         1.1654        8.6654      ≈ 0  "
        "       1278.6   2493.6            ± 49 %  ▄▂▁▃▁▂▃█▅▅▅▆▄▂▁▃  2026-01-02 03:04:29Z  "
        "learning\n"
        "tiny               3  ema.1   0.15        0.26         2.3657        9.8657    495.2  "
        "        867.5   2037.2            ± 45 %  ▄▆█               2026-01-02 03:04:07Z  "
        "warming up\n"
    )
    assert result.stderr == (
        f"hint: timmy:v0.1-q4 is still learning: half of its newest calls took more than 49.0 % "
        f"more or less than predicted. What would do better: calib --ledger {filled} sweep -- "
        f"timmy:v0.1-q4\n"
    )


def test_calibrated_is_only_said_of_a_model_that_is_predicted_well(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([Call("m", 100, 20, 1000.0)] * 60)
        assert calibrator.get_stats("m")["is_calibrated"]
    result = calib("stats", "m")
    assert result.stdout.splitlines()[1].endswith("calibrated")
    assert result.stderr == ""
    told = calib("predict", "m", "--prompt-tokens", 100, "--completion-tokens", 20).stdout
    assert "from 60 calls: calibrated, typically within ± 0." in told
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(Call("m", 100, 20, ms) for _ in range(50) for ms in (300.0, 3000.0))
    result = calib("stats", "m")
    assert result.stdout.splitlines()[1].endswith("learning")
    assert json.loads(calib("stats", "m", "--json").stdout)["status"] == "learning"
    assert result.stderr.startswith("hint: ")
    told = calib("predict", "m", "--prompt-tokens", 100, "--completion-tokens", 20).stdout
    assert "from 160 calls: learning, typically within ± " in told


def test_the_newest_errors_are_drawn_at_80_columns_and_left_out_where_there_is_no_room(filled):
    errors = "▄▂▁▃▁▂▃█▅▅▅▆▄▂▁▃"
    for columns, is_shown in (("80", True), ("55", False)):
        shown = run_in_terminal("--ledger", filled, "stats", NO_COLOR="1", COLUMNS=columns).out
        assert (errors in shown) == is_shown
        told = " ".join(shown.partition("too narrow")[2].split())
        assert ("newest errors" in told) != is_shown
    piped = run_process("--ledger", filled, "stats", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert "=:.-.:-@+++*=:.-" in piped.out


def as_printed(stats):
    """The library's figures as `--json` prints them."""
    if "last_updated" not in stats:
        return stats
    status = "warming up" if stats["sample_count"] < 10 else "learning"
    return stats | {"last_updated": iso_from_seconds(stats["last_updated"]), "status": status}


def test_json_is_what_the_library_gives_unrounded_and_with_the_time_in_iso(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        figures = [as_printed(stats) for stats in calibrator.all_stats(rounded=False)]
        assert json.loads(calib("stats", "--json").stdout) == figures
        assert json.loads(calib("stats", "tiny", "--json").stdout) == figures[1]
        assert figures[1]["last_updated"] == "2026-01-02T03:04:07.678901Z"
        assert figures[1]["confidence"] == calibrator.calibration("tiny").confidence
        assert calibrator.get_stats("tiny")["last_updated"] == 1_767_323_047.678901


def test_one_model_is_one_line(calib, filled):
    header, line = calib("stats", "tiny").stdout.splitlines()
    assert header.startswith("model")
    assert line.startswith("tiny")


TYPO = {
    "stats": ("stats", "Tinny"),
    "stats as JSON": ("stats", "Tinny", "--json"),
    "stats by day": ("stats", "Tinny", "--by-day"),
    "drift": ("drift", "tiny", "Tinny"),
    "history": ("history", "Tinny"),
    "replay": ("replay", "Tinny"),
    "sweep": ("sweep", "Tinny"),
    "recalibrate": ("recalibrate", "Tinny", "--alpha", 0.3),
    "recalibrate to the best": ("recalibrate", "Tinny", "--best", "--yes"),
    "void": ("void", "Tinny", "--seq", 2),
    "reset": ("reset", "Tinny"),
    "audit": ("audit", "Tinny"),
    "export": ("export", "csv", "out.csv", "--model", "Tinny"),
    "salvage": ("export", "csv", "out.csv", "--model", "Tinny", "--salvage"),
    "archive": ("archive", "out.jsonl", "--before", "2030-01-01", "--model", "Tinny"),
}


@pytest.mark.parametrize("args", TYPO.values(), ids=TYPO)
def test_of_a_mistyped_model_every_command_names_the_nearest(
    calib, filled, tmp_path, monkeypatch, args
):
    monkeypatch.chdir(tmp_path)
    result = calib(*args, exit_code=1)
    assert "a model 'Tinny'" in result.stderr
    assert "did you mean 'tiny'?" in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("TINY", "'tiny', which differs only in upper and lower case?"),
        ("q4", "'timmy:v0.1-q4'?"),
        ("timy:v0.1-q4", "'timmy:v0.1-q4'?"),
        ("mmy", "'timmy:v0.1-q4'?"),
        ("i", "'tiny'?"),
        ("gpt", None),
        ("\x1b[2J", None),
    ],
)
def test_the_nearest_name_holds_what_was_typed_or_is_spelt_nearly_so(calib, filled, typed, meant):
    told = calib("stats", typed, exit_code=1).stderr
    assert ("did you mean" in told) == (meant is not None)
    assert meant is None or f"did you mean {meant}" in told
    assert "\x1b" not in told


def test_a_ledger_without_calls_says_so_on_stderr(calib, ledger_path):
    calib("db", "upgrade")
    result = calib("stats")
    assert result.stdout == ""
    record = f"calib --ledger {quoted(str(ledger_path))} record"
    assert result.stderr == f"no calls yet in {ledger_path}: record one with `{record}`.\n"
    assert json.loads(calib("stats", "--json").stdout) == []


def test_a_model_after_a_reset_is_listed_as_uncalibrated(calib, filled):
    calib("reset", "tiny")
    line = calib("stats").stdout.splitlines()[2]
    assert line.split() == ["tiny", *"0--", "0.00", *"-------", "uncalibrated", "(prior", "only)"]
    with AdaptiveCalibrator(filled) as calibrator:
        expected = [as_printed(stats) for stats in calibrator.all_stats(rounded=False)]
        expected.append(calibrator.get_stats("tiny"))
        assert len(calibrator.all_stats()) == 1
    assert json.loads(calib("stats", "--json").stdout) == expected
    calib("reset", "--all", "--yes")
    result = calib("stats")
    assert result.stdout.count("uncalibrated (prior only)") == 2
    assert result.stderr == ""


def test_a_model_imported_without_calls_is_listed_as_uncalibrated(calib, ledger_path):
    state = {"version": 1, "saved_at": 1.0, "models": [{**PRIOR, "model": "old"}]}
    calib("import", "state", "-", input=json.dumps(state))
    result = calib("stats")
    assert result.stdout.splitlines()[1].startswith("old")
    assert "uncalibrated" in result.stdout
    assert result.stderr == ""


def test_a_model_not_found_is_told_where_those_are_that_are_there(calib, filled):
    calib("reset", "tiny")
    stats = f"calib --ledger {quoted(str(filled))} stats"
    assert f"`{stats}` lists those it has" in calib("history", "x", exit_code=1).stderr
    listed = json.loads(calib("stats", "--json").stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        assert [one["model"] for one in listed] == [head.model for head in calibrator.heads()]


def test_a_call_in_the_last_microsecond_of_the_year_9999_has_a_time(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("late", 1, 1.0, called_at=datetime.max.replace(tzinfo=UTC))
    assert "9999-12-31 23:59:59Z" in calib("stats", "late").stdout
    assert "9999-12-31 23:59:59" in calib("history", "late").stdout
    assert calib("stats", "--json").exit_code == 0
    assert calib("doctor").exit_code == 0


def test_a_clearly_better_rule_is_hinted_at_in_one_line_with_its_command(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(plain_calls("x y", 250))
        (suggestion,) = calibrator.suggest()
    result = calib("stats")
    assert result.stderr.count("\n") == 1
    calib_again = f"calib --ledger {ledger_path}"
    adopt = f"recalibrate --rule kalman --alpha {suggestion.alpha} -- 'x y'"
    command = f"{calib_again} {adopt}"
    assert result.stderr.startswith(f"hint: kalman at alpha {suggestion.alpha} would have erred ")
    assert result.stderr.endswith(f"over the newest 225 calls of x y: {command}\n")
    assert calib("stats", "--json").stderr == ""
    calib("recalibrate", "x y", "--rule", "kalman", "--alpha", str(suggestion.alpha))
    assert calib("stats").stderr == ""


def test_several_models_are_one_hint(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for model in ("a", "b"):
            calibrator.record_many(plain_calls(model, 250))
    result = calib("stats")
    assert "would have predicted 2 models clearly better" in result.stderr
    assert result.stderr.endswith(f": calib --ledger {ledger_path} recalibrate --best\n")


def test_time_outs_have_a_column_where_there_are_any(calib, filled):
    assert "time-outs" not in calib("stats").stdout
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("tiny", 1, 60_000.0, outcome="timeout")
        calibrator.record("new", 1, 60_000.0, outcome="timeout")
    header, *lines = [line.split() for line in calib("stats").stdout.splitlines()]
    assert header[:3] == ["model", "calls", "time-outs"]
    assert [line[:3] for line in lines] == [
        ["new", "0", "1"],
        ["timmy:v0.1-q4", "25", "0"],
        ["tiny", "3", "1"],
    ]
    assert json.loads(calib("stats", "tiny", "--json").stdout)["timeouts"] == 1
    assert json.loads(calib("stats", "timmy:v0.1-q4", "--json").stdout)["timeouts"] == 0


def test_an_import_says_how_many_calls_are_time_outs(calib, tmp_path):
    file = tmp_path / "calls.csv"
    file.write_text(
        "model,prompt_tokens,completion_tokens,actual_ms,outcome\nm,1,1,300,\nm,1,,9000,timeout\n"
    )
    assert (
        "2 calls recorded (1 of them time-outs); 1 model (1 new)"
        in calib("import", "csv", file).stderr
    )


def test_a_model_that_mixes_clocks_is_warned_of(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        for number in range(5):
            clock = "client+start" if number < 2 else "attempt"
            calibrator.record("m", 10, 300.0, completion_tokens=20, details={"clock": clock})
    told = calib("stats", "m")
    assert "warning: m mixes clocks: attempt 3, client+start 2" in told.stderr
    assert json.loads(calib("stats", "m", "--json").stdout)["clocks"] == {
        "attempt": 3,
        "client+start": 2,
    }


def test_a_share_is_rounded_once(calib, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        predicted = calibrator.predict("m", 50, 10).predicted_ms
        calibrator.record("m", 50, predicted / (1.0 - 0.11497), completion_tokens=10)
    assert "± 11 %" in calib("stats", "m").stdout  # 11.497 %, which is not 11.5 %
