import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.history import LAST
from calibration_ledger.core.command import quoted

from .conftest import PROGRAM, some_calls


def test_the_table_shows_the_calls_by_model_then_seq(calib, filled):
    result = calib("history", "tiny")
    assert result.stdout == (
        "when                  model  seq  prompt  compl  actual ms  predicted ms  error ms\n"
        "2026-01-02 03:04:05Z  tiny     2     100     20     1000.0         510.0    +490.0\n"
        "2026-01-02 03:04:06Z  tiny     3     137     73     2037.2        1117.9    +919.4\n"
        "2026-01-02 03:04:07Z  tiny     4     174    126     3074.5        1881.5   +1193.0\n"
    )
    assert result.stderr == ""


def test_by_default_the_newest_of_each_model_are_shown_and_that_is_said(calib, filled):
    result = calib("history")
    lines = result.stdout.splitlines()
    assert sum("timmy" in line for line in lines) == LAST
    assert sum("tiny" in line for line in lines) == 3
    assert f"the newest {LAST} calls of each model" in result.stderr
    assert "--all" in result.stderr


def test_last_all_and_a_window_choose_the_calls(calib, filled):
    def seqs(*args):
        result = calib("history", "timmy:v0.1-q4", *args)
        assert result.stderr == ""
        return [int(line.split()[3]) for line in result.stdout.splitlines()[1:]]

    assert seqs("--last", 2) == [25, 26]
    assert seqs("--all") == list(range(2, 27))
    window = ("--since", "2026-01-02T03:04:06.678Z", "--until", "2026-01-02T04:04:08.678+01:00")
    assert seqs(*window) == [3, 4]
    assert seqs(*window, "--last", 1) == [4]


def test_a_time_is_accepted_as_it_is_shown(calib, filled):
    shown = calib("history", "tiny", "--last", 1).stdout.splitlines()[1].partition("  ")[0]
    again = calib("history", "tiny", "--since", shown).stdout.splitlines()
    assert len(again) == 2


@pytest.mark.parametrize("date", ["2026-01-02", "20260102"])
def test_a_date_alone_is_its_first_moment(calib, ledger_path, date):
    midnight = datetime(2026, 1, 2, tzinfo=UTC)
    before = midnight - timedelta(microseconds=1)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(
            [Call("m", 1, 1, 5.0, before), Call("m", 2, 1, 5.0, midnight)],
        )

    def prompts(*args):
        lines = calib("history", "--json", *args).stdout.splitlines()
        return [json.loads(line)["prompt_tokens"] for line in lines]

    assert prompts("--since", date) == [2]
    assert prompts("--until", date) == [1]
    (replay,) = json.loads(calib("replay", "--since", date, "--json").stdout)
    assert replay["n"] == 1
    assert "is no time" in calib("history", "--since", "2026-02-30", exit_code=2).stderr


def test_json_lines_hold_every_field_and_can_be_imported(calib, run, filled, tmp_path):
    result = calib("history", "--all", "--json")
    calls = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(calls) == 28
    assert calls[-1] == {
        "model": "tiny",
        "seq": 4,
        "called_at": "2026-01-02T03:04:07.678901Z",
        "prompt_tokens": 174,
        "completion_tokens": 126,
        "actual_ms": 3074.5,
        "predicted_ms": calls[-1]["predicted_ms"],
        "error_ms": 3074.5 - calls[-1]["predicted_ms"],
    }
    copy = tmp_path / "copy.db"
    imported = run("--ledger", copy, "import", "jsonl", "-", input=result.stdout)
    assert imported.exit_code == 0, imported.output
    with AdaptiveCalibrator(copy) as theirs, AdaptiveCalibrator(filled) as ours:
        assert theirs.all_stats() == ours.all_stats()
        assert theirs.audit() == []


def test_a_model_never_seen_is_an_error(calib, filled):
    result = calib("history", "nobody", exit_code=1)
    assert result.stderr.startswith("Error: ")
    assert "'nobody'" in result.stderr
    assert result.stdout == ""


def test_all_and_last_exclude_each_other(calib, filled):
    assert "--all and --last" in calib("history", "--all", "--last", 3, exit_code=2).stderr


def test_an_empty_window_says_so(calib, filled):
    result = calib("history", "--since", "2030-01-01T00:00:00Z")
    assert result.stdout == ""
    assert result.stderr.endswith("no calls to show.\n")


def test_a_long_table_keeps_its_columns_aligned(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some_calls("timmy", 450))
    lines = calib("history", "--all").stdout.splitlines()
    assert len(lines) == 451
    assert len({len(line) for line in lines}) == 1


def test_a_reader_that_stops_early_ends_it_quietly(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some_calls("timmy", 5000))
    process = subprocess.Popen(
        [*PROGRAM, "--ledger", str(ledger_path), "history", "--all"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b"when")
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_archived_calls_are_said_to_be_archived(calib, filled, tmp_path):
    before = ("archive", "--before", "2026-01-02T03:04:07Z", "--yes")
    calib(*before, tmp_path / "one.jsonl", "--model", "tiny")
    back = f"calib --ledger {quoted(str(filled))} import ledger ARCHIVE"
    told = f"tiny: entries up to 3 are archived, and not shown: `{back}`"
    assert calib("history", "tiny", "--all").stderr.startswith(told)
    assert calib("history", "--json").stderr.startswith(told)
    assert "archived" not in calib("history", "timmy:v0.1-q4").stderr
    calib(*before, tmp_path / "more.jsonl", "--model", "timmy:v0.1-q4")
    assert calib("history").stderr.startswith("older entries of 2 models are archived")


def test_time_outs_are_marked_voided_or_not(calib, ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 900.0)
        calibrator.record("m", 1, 5000.0, outcome="timeout")
        calibrator.record("m", 1, 6000.0, outcome="timeout")
        calibrator.void("m", seq=4)
    lines = calib("history", "m").stdout.splitlines()
    assert lines[1].endswith("900.0         300.5    +599.5")
    assert lines[2].endswith("  time-out")
    assert lines[3].endswith("  voided, time-out")
    told = [json.loads(line) for line in calib("history", "m", "--json").stdout.splitlines()]
    assert [call.get("outcome") for call in told] == [None, "timeout", "timeout"]
