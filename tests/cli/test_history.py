import json
import signal
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.history import NEWEST
from calibration_ledger.core.command import quoted
from calibration_ledger.verbs.calls import LOOK_EVERY_S

from .conftest import HEAR_INTERRUPTS, PROGRAM, TIMEOUT_S, at, some_calls


def test_the_table_shows_the_calls_by_model_then_seq(calib, filled):
    result = calib("history", "tiny")
    assert result.stdout == (
        "when                  model  seq  prompt  compl  actual ms  predicted ms  error ms\n"
        "2026-01-02 03:04:05Z  tiny     2     100     20     1000.0         510.0    +490.0\n"
        "2026-01-02 03:04:06Z  tiny     3     137     73     2037.2        1117.9    +919.4\n"
        "2026-01-02 03:04:07Z  tiny     4     174    126     3074.5        1881.5   +1193.0\n"
    )
    assert result.stderr == ""


def test_by_default_the_newest_of_all_are_shown_by_time_and_that_is_said(calib, filled):
    result = calib("history")
    times = [line.partition("  ")[0] for line in result.stdout.splitlines()[1:]]
    assert len(times) == NEWEST
    assert times == sorted(times)
    assert f"(the newest {NEWEST} calls are shown: --all shows every one)" in result.stderr
    assert len(calib("history", "-n", 3).stdout.splitlines()) == 1 + 3
    assert len(calib("history", "--all").stdout.splitlines()) == 1 + 28


def test_by_model_the_newest_of_each_are_shown_and_that_is_said(calib, filled):
    result = calib("history", "--by-model")
    models = [line.split()[2] for line in result.stdout.splitlines()[1:]]
    assert models == ["timmy:v0.1-q4"] * NEWEST + ["tiny"] * 3
    assert f"the newest {NEWEST} calls of each model" in result.stderr
    assert "--all" in result.stderr


def test_over_all_models_calls_come_by_the_time_when_they_were_made(calib, ledger_path):
    """An import of old calls behind newer ones, two models in between, and calls of one moment."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for model, seconds in (("b", 5), ("a", 3), ("a", 9), ("b", 1), ("b", 3), ("a", 4)):
            calibrator.record(model, seconds, 5.0, called_at=at(seconds))

    def shown(*words):
        lines = calib("history", "--json", *words).stdout.splitlines()
        return [(call["model"], call["prompt_tokens"]) for call in map(json.loads, lines)]

    by_time = [("b", 1), ("a", 3), ("b", 3), ("a", 4), ("b", 5), ("a", 9)]
    assert shown() == by_time
    assert shown("--limit", 3) == by_time[-3:]
    assert shown("--last", 2) == [("b", 1), ("b", 3), ("a", 4), ("a", 9)]
    assert shown("--last", 2, "--by-model") == [("a", 9), ("a", 4), ("b", 1), ("b", 3)]
    assert shown("--limit", 4, "--by-model") == [("a", 9), ("a", 4), ("b", 5), ("b", 3)]
    assert shown("b") == [("b", 1), ("b", 3), ("b", 5)]
    assert shown("b", "--by-model") == [("b", 5), ("b", 1), ("b", 3)]
    window = ("--since", at(3).isoformat(), "--until", at(5).isoformat())
    assert shown(*window) == [("a", 3), ("b", 3), ("a", 4)]
    assert shown(*window, "-n", 2) == [("b", 3), ("a", 4)]


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
    result = calib("history", "--all", "--by-model", "--json")
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--all", "--last", 3], "--last and --all exclude each other"),
        (["--all", "-n", 3], "--limit and --all exclude each other"),
        (["--limit", 3, "--last", 3], "--limit and --last exclude each other"),
        (["--limit", 0], "limit must be a whole number from 1"),
        (["--follow", "--until", "1h"], "leave --until out"),
        (["--follow", "--by-model"], "leave --by-model and --chart out"),
        (["--follow", "--format", "json"], "give --format jsonl"),
    ],
)
def test_what_does_not_go_together_is_told(calib, filled, words, said):
    assert said in calib("history", *words, exit_code=2).stderr


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


def following(ledger_path, *words):
    *python, script = PROGRAM
    return subprocess.Popen(
        [*python, HEAR_INTERRUPTS + script, "history", "--follow", "--ledger", str(ledger_path)]
        + [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


@pytest.mark.parametrize("form", ["jsonl", "csv", "table", "markdown"])
def test_follow_prints_each_call_as_another_process_records_it_until_ctrl_c(filled, form):
    process = following(filled, "-n", 1, "--format", form)
    lines = [process.stdout.readline() for _ in range({"jsonl": 1, "markdown": 3}.get(form, 2))]
    assert "timmy:v0.1-q4" in lines[-1]
    with AdaptiveCalibrator(filled) as calibrator:
        for model in ("tiny", "never seen before"):
            calibrator.record(model, 4711, 5.0)
            began = monotonic()
            line = process.stdout.readline()
            assert model in line
            assert "4711" in line
            assert monotonic() - began < 5.0  # a second where the machine does nothing else
        assert calibrator.audit() == []
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 0


def test_a_follow_whose_reader_has_gone_ends_quietly(filled):
    process = following(filled, "--json")
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("tiny", 1, 5.0)
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=TIMEOUT_S) == 1


def test_a_follow_whose_reader_has_gone_ends_without_another_call(filled):
    process = following(filled, "-n", 1, "--json")
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=TIMEOUT_S) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_follow_goes_on_after_others_held_the_ledger(filled):
    process = following(filled, "-n", 1, "--json")
    assert json.loads(process.stdout.readline())
    with closing(sqlite3.connect(filled, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        sleep(2 * LOOK_EVERY_S)
        other.execute("ROLLBACK")
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("tiny", 4711, 5.0)
    assert json.loads(process.stdout.readline())["prompt_tokens"] == 4711
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 0


def test_follow_looks_more_often_than_once_a_second():
    assert LOOK_EVERY_S <= 0.5


def test_follow_of_one_model_tells_of_no_other(filled):
    process = following(filled, "-m", "tiny", "--limit", 1, "--json")
    assert json.loads(process.stdout.readline())["model"] == "tiny"
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("timmy:v0.1-q4", 1, 5.0)
        calibrator.record("tiny", 2, 5.0)
    assert json.loads(process.stdout.readline())["prompt_tokens"] == 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
