import csv
import json
import os
import shlex
import statistics
import sys
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, default_prior
from calibration_ledger.cli import demo
from calibration_ledger.cli import demo as tour

from .conftest import run_in_terminal


@pytest.fixture(name="place")
def _place(tmp_path):
    """A path that a shell would take apart."""
    return tmp_path / "my demo's.db"


@pytest.fixture(name="shown")
def _shown(run, place):
    result = run("demo", "--at", place)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


@pytest.fixture(name="sample")
def _sample():
    with tour.SAMPLE.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_call_of_the_sample_is_in_the_ledger(shown, place, sample):
    models = {row["model"] for row in sample}
    assert f"Recorded {len(sample)} measured calls of {len(models)} models." in shown
    with AdaptiveCalibrator(place) as calibrator:
        recorded = [
            (call.model, call.prompt_tokens, call.completion_tokens, call.actual_ms)
            for call in calibrator.calls()
        ]
        assert calibrator.audit() == []
    assert sorted(recorded) == sorted(
        (
            row["model"],
            int(row["prompt_tokens"]),
            int(row["completion_tokens"]),
            float(row["actual_ms"]),
        )
        for row in sample
    )


def test_the_figures_are_those_of_the_library(run, place):
    figures = json.loads(run("demo", "--at", place, "--json").stdout)
    assert figures["ledger"] == str(place)
    assert figures["findings"] == []
    with AdaptiveCalibrator(place) as calibrator:
        assert [one["model"] for one in figures["models"]] == [
            stats["model"] for stats in calibrator.all_stats()
        ]
        adopted = {one["model"]: one for one in figures["adopted"]}
        for one in figures["models"]:
            calls = list(calibrator.calls(one["model"]))
            a, b, o = default_prior(one["model"])
            priors = [
                abs(call.actual_ms - (o + a * call.prompt_tokens + b * call.completion_tokens))
                for call in calls
            ]
            assert one["calls"] == len(calls)
            assert one["prior_error_ms"] == pytest.approx(statistics.fmean(priors))
            assert one["newest"]["seq"] == calls[-1].seq
            for alpha, error in one["errors_ms"].items():
                (replay,) = calibrator.replay(float(alpha), "ema", model=one["model"])
                assert error == replay.mean_absolute_error_ms
            assert one["live_alpha"] == 0.15
            now = calibrator.calibration(one["model"])
            assert (now.rule, now.alpha) == tuple(
                adopted[one["model"]][k] for k in ("rule", "alpha")
            )
            assert now.mean_absolute_error_ms < min(one["errors_ms"].values())


def test_the_forecasts_were_made_before_the_call(run, place, sample, tmp_path):
    figures = json.loads(run("demo", "--at", place, "--json").stdout)
    with AdaptiveCalibrator(tmp_path / "other.db") as calibrator:
        for one in figures["models"]:
            rows = [row for row in sample if row["model"] == one["model"]]
            for row in rows[:-1]:
                calibrator.record(
                    row["model"],
                    int(row["prompt_tokens"]),
                    float(row["actual_ms"]),
                    completion_tokens=int(row["completion_tokens"]),
                )
            p, c = (int(rows[-1][name]) for name in ("prompt_tokens", "completion_tokens"))
            for found, asked in ((one["forecast"], None), (one["told"], c)):
                expected = calibrator.forecast(one["model"], p, asked)
                assert found["median_ms"] == expected.median_ms
                assert found["intervals_ms"]["0.9"] == [*expected.interval(0.9)]
        assert calibrator.audit() == []


def test_the_ranges_are_those_of_a_replay(run, place, sample, tmp_path):
    figures = json.loads(run("demo", "--at", place, "--json").stdout)
    with AdaptiveCalibrator(tmp_path / "other.db") as calibrator:
        with tour.as_file(tour.SAMPLE) as path:
            calibrator.import_calls("csv", path)
        ranges = [one.to_dict() for one in calibrator.replay_forecasts()]
        assert [one["ranges"] for one in figures["models"]] == ranges
        held = [one["unknown"]["coverage_90"] for one in ranges]
        assert statistics.fmean(held) == pytest.approx(0.9, abs=0.05)
        assert calibrator.audit() == []


def test_the_commands_that_it_prints_work(run, shown, place, monkeypatch):
    lines = [line.strip() for line in shown.splitlines() if line.startswith("  ")]
    export, *commands = lines
    assert shown.count(shlex.quote(str(place))) == 1
    assert shlex.split(export) == ["export", f"CALIBRATION_LEDGER={place}"]
    monkeypatch.setenv("CALIBRATION_LEDGER", str(place))
    verbs = []
    for command in commands:
        program, *args = shlex.split(command)
        assert program == "calib"
        result = run(*args)
        assert result.exit_code == 0, result.output
        verbs.append(args[0])
    assert verbs == ["forecast", "timeout", "compare", "stats", "history", "replay"]
    with AdaptiveCalibrator(place) as calibrator:
        assert calibrator.audit() == []


def test_the_commands_in_json_stand_by_themselves(run, place):
    figures = json.loads(run("demo", "--at", place, "--json").stdout)
    for command in figures["next"]:
        program, *args = shlex.split(command)
        assert (program, args[:2]) == ("calib", ["--ledger", str(place)])
        assert run(*args).exit_code == 0


def test_after_it_nothing_would_be_clearly_better(shown, place):
    assert "Adopted" in shown
    with AdaptiveCalibrator(place) as calibrator:
        assert calibrator.suggest() == []
        assert calibrator.audit() == []


def test_without_at_it_lies_in_a_folder_of_its_own(run, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = run("demo", "--json")
    path = Path(json.loads(result.stdout)["ledger"])
    assert path.name == "demo.db"
    assert path.parent.name.startswith("calib-demo-")
    assert path.parent.parent == tmp_path
    assert path.exists()


def test_the_users_own_ledger_is_neither_used_nor_made(run, users_own, place):
    before = sorted(users_own.parent.iterdir())
    assert run("demo", "--at", place).exit_code == 0
    assert sorted(users_own.parent.iterdir()) == before
    result = run("--ledger", users_own, "demo")
    assert result.exit_code == 2
    assert "--at PATH" in result.stderr
    assert sorted(users_own.parent.iterdir()) == before


def test_it_takes_no_place_where_something_is(run, place, tmp_path):
    place.write_text("precious")
    for taken in (place, tmp_path):
        result = run("demo", "--at", taken)
        assert result.exit_code == 2
        assert "exists already" in result.stderr
    assert place.read_text() == "precious"
    nowhere = run("demo", "--at", tmp_path / "no" / "demo.db")
    assert nowhere.exit_code == 1
    assert "folder does not exist" in nowhere.stderr


def test_at_a_terminal_it_fits_and_has_colour(place):
    shown = run_in_terminal("demo", "--at", place)
    assert shown.code == 0
    assert "\x1b[32m" in shown.out
    plain = run_in_terminal("demo", "--at", place.with_name("b.db"), NO_COLOR="1").out
    assert "\x1b" not in plain
    lines = [line for line in plain.splitlines() if "export" not in line]
    assert max(map(len, lines)) <= 80
    assert "…" not in plain
    assert "too narrow" not in plain
    for name in {line.split()[0] for line in lines if line.startswith("random-")}:
        assert sum(line.split()[0] == name for line in lines if line.startswith("random-")) == 6
    for path in (place, place.with_name("b.db")):
        with AdaptiveCalibrator(path) as calibrator:
            assert calibrator.audit() == []


def test_it_names_the_program_as_the_user_can_call_it(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "calib"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", os.defpath)
    assert demo.program() == str(program)
    monkeypatch.setenv("PATH", str(program.parent))
    assert demo.program() == "calib"
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert demo.program() == "calib"
