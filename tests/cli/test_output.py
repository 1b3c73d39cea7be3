"""What a terminal gets, what a pipe gets, and what happens when they refuse."""

import json
import os
import re
import subprocess
import sys
from operator import eq
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli import output
from calibration_ledger.cli.table import width_of
from calibration_ledger.rules import find_rule

from . import conftest
from .conftest import PROGRAM, at, run_in_terminal, run_process, some_calls

BOLD = "\x1b[1m"


def test_a_terminal_gets_colour_and_a_pipe_does_not(filled):
    shown = run_in_terminal("--ledger", filled, "stats")
    assert shown.code == 0
    assert BOLD in shown.out
    piped = run_process("--ledger", filled, "stats")
    assert piped.code == 0
    assert "\x1b" not in piped.out


def test_no_color_is_honoured(filled):
    assert "\x1b" not in run_in_terminal("--ledger", filled, "stats", NO_COLOR="1").out
    assert BOLD in run_in_terminal("--ledger", filled, "stats", NO_COLOR="").out


@pytest.fixture
def long_names(ledger_path):
    """A ledger with models whose names are long and much alike."""
    names = [f"registry.example/random-llama:{size}-f32" for size in ("15m", "42m", "110m")]
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for name in names:
            calibrator.record_many(some_calls(name, 45))
    return ledger_path, names


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    "words",
    [
        *(("stats",), ("stats", "--by-day"), ("history",), ("drift",), ("compare", "-p", "9")),
        *(("replay", "--alpha", "0.05"), ("replay", "--forecast"), ("sweep",), ("log",)),
        ("recalibrate", "--alpha", "0.1", "--dry-run"),
        *(("formats",), ("audit",), ("rule",), ("db", "check")),
    ],
    ids=" ".join,
)
def test_no_line_is_wider_than_the_terminal(long_names, words, width):
    path, _ = long_names
    at = {"CALIBRATION_LEDGER": str(path), "TZ": "UTC"}
    shown = run_in_terminal(*words, NO_COLOR="1", COLUMNS=str(width), **at)
    assert shown.code == 0
    assert [line for line in shown.out.splitlines() if width_of(line) > width] == []


def test_a_narrow_terminal_keeps_models_and_seq_and_a_pipe_gets_all(run, long_names):
    path, names = long_names
    for verb in (["stats"], ["replay", "--alpha", "0.05"], ["history", "--last", "2"]):
        shown = run_in_terminal("--ledger", path, *verb, NO_COLOR="1", COLUMNS="50").out
        table, _, note = shown.partition("(the terminal is too narrow for: ")
        cuts = {word for word in table.split() if "…" in word}
        assert len(cuts) == len(names)
        for one in cuts:
            head, tail = one.split("…")
            assert any(name.startswith(head) and name.endswith(tail) for name in names)
        left_out = " ".join(note.partition(")")[0].split()).split(", ")
        assert "seq" not in left_out
        piped = run("--ledger", path, *verb)
        assert all(title in piped.stdout.splitlines()[0] for title in left_out)
        assert all(name in piped.stdout for name in names)
        assert "too narrow" not in piped.stderr
    assert "seq" in table


def test_notes_and_errors_are_broken_at_words_and_commands_stay_whole(filled):
    at = {"CALIBRATION_LEDGER": str(filled), "COLUMNS": "30"}
    shown = run_in_terminal("history", "tini", **at)
    assert shown.code == 1
    assert shown.out.startswith("Error: ")
    assert all(len(line) <= 30 for line in shown.out.splitlines() if str(filled) not in line)
    shown = run_in_terminal("stats", "--format", "xyzzy", **at)
    assert shown.code == 2
    assert all(
        len(line) <= 30
        for line in shown.out.splitlines()
        if "Try" not in line and "Usage" not in line
    )
    shown = run_in_terminal("void", "tiny", "--last", **at)
    assert "calib void --seq 5 -- tiny" in shown.out.splitlines()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_terminal_cannot_show_are_escaped(ledger_path, encoding):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("模型", 1, 1.0)
    done = subprocess.run(
        [*PROGRAM, "--ledger", str(ledger_path), "stats"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        timeout=60,
        check=True,
    )
    shown = "模型" if encoding == "utf-8" else "\\u6a21\\u578b"
    assert shown in done.stdout.decode(encoding)
    assert done.stderr == b""


def test_an_export_is_utf8_whatever_the_terminal(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("模型", 1, 1.0, called_at=at(0))
    done = subprocess.run(
        [*PROGRAM, "--ledger", str(ledger_path), "export", "csv"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=True,
    )
    assert "模型,2," in done.stdout.decode("utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("args", [("history",), ("export", "csv"), ("stats", "--json")])
def test_a_full_disk_behind_stdout_is_told(filled, args):
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(
            [*PROGRAM, "--ledger", str(filled), *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: the output cannot be written: No space left on device. "
        "What was changed before stays so."
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("history", "--all"), ("export", "jsonl"), ("audit",)])
def test_a_reader_that_is_gone_is_no_traceback(filled, args):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*PROGRAM, "--ledger", str(filled), *args],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == ""


def test_long_work_shows_its_progress_to_a_terminal_only(run, filled, monkeypatch):
    for name, value in (("PROGRESS_FROM", 1), ("SHOWN_EVERY_S", 0)):
        monkeypatch.setattr(output, name, value)
    script = (
        "from calibration_ledger.cli import output\n"
        "output.PROGRESS_FROM, output.SHOWN_EVERY_S = 1, 0\n"
        "from calibration_ledger.cli.main import main\n"
        "main(prog_name='calib')\n"
    )
    monkeypatch.setattr(conftest, "PROGRAM", (sys.executable, "-c", script))
    for words in (("replay",), ("replay", "--forecast"), ("sweep",), ("audit",)):
        assert "0%\r" in run_in_terminal("--ledger", filled, *words).out
        assert "\r" not in run("--ledger", filled, *words).stderr
    file = filled.with_name("calls.csv")
    run("--ledger", filled, "export", "csv", file)
    shown = run_in_terminal("--ledger", filled, "import", "csv", file, COLUMNS="200")
    for steps in ("28 lines read", "28 calls checked", "28 calls recorded"):
        assert f"\rimporting: {steps}" in shown.out
    assert f"\r{file}: 28 calls recorded; 2 models\n" in shown.out


def test_an_interrupt_at_a_question_aborts(filled):
    shown = run_in_terminal("--ledger", filled, "reset", "--all", interrupt_at="[y/N]")
    assert shown.code == 1
    assert "Aborted!" in shown.out
    assert "Traceback" not in shown.out
    with AdaptiveCalibrator(filled) as calibrator:
        assert [stats["sample_count"] for stats in calibrator.all_stats()] == [25, 3]
        assert calibrator.audit() == []


def test_json_of_every_reading_command_is_one_document(calib, filled):
    for args in (
        *(("stats",), ("replay",), ("sweep",), ("audit",), ("db", "current"), ("db", "check")),
        ("replay", "--forecast"),
        ("recalibrate", "--rule", "kalman", "--dry-run"),
        ("recalibrate", "--best", "--dry-run"),
        ("void", "tiny", "--seq", "2", "--dry-run"),
    ):
        result = calib(*args, "--json")
        json.loads(result.stdout)


# -- times in JSON --------------------------------------------------------------------------


def times_in(value):
    """The values of a JSON document that say when something was, and every number in it."""
    if isinstance(value, list):
        return [time for item in value for time in times_in(item)]
    if not isinstance(value, dict):
        return [value] if isinstance(value, float) and 1.5e9 < value < 4e9 else []
    named = [
        item for key, item in value.items() if key.endswith(("_at", "last_updated")) or key == "at"
    ]
    rest = [item for key, item in value.items() if item not in named]
    return named + times_in(rest)


@pytest.mark.parametrize(
    "command",
    [
        ("stats",),
        ("stats", "tiny"),
        ("predict", "tiny", "--prompt-tokens", "1"),
        ("record", "tiny", "--prompt-tokens", "1", "--actual-ms", "2"),
        ("history", "tiny", "--last", "1"),
        ("replay", "tiny", "--alpha", "0.5"),
        ("recalibrate", "tiny", "--alpha", "0.5"),
        ("void", "tiny", "--seq", "2"),
        ("reset", "tiny"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_every_time_in_json_is_in_the_same_iso_form(calib, filled, command):
    printed = calib(*command, "--json").stdout
    times = times_in(json.loads(printed))
    assert times
    for time in times:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(time)), time


# -- colours --------------------------------------------------------------------------------


@pytest.mark.parametrize("forced", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_colours_are_forced_into_a_pipe_unless_something_forbids_them(filled, forced):
    def printed(*words, **env):
        plain = {name: value for name, value in os.environ.items() if "COLOR" not in name}
        return run_process("--ledger", filled, *words, env=plain | env).out

    assert BOLD in printed("stats", **{forced: "1"})
    assert "\x1b" not in printed("stats", **{forced: "0"})
    assert "\x1b" not in printed("stats", **{forced: "1", "NO_COLOR": "1"})
    assert "\x1b" not in printed("stats", **{forced: "1", "TERM": "dumb"})
    assert "\x1b" not in printed("stats", "--format", "markdown", **{forced: "1"})
    assert "\x1b" not in printed("stats", "--json", **{forced: "1"})


def test_a_dumb_terminal_gets_no_control_codes(filled, monkeypatch):
    script = (
        "from calibration_ledger.cli import output\n"
        "output.PROGRESS_FROM, output.SHOWN_EVERY_S = 1, 0\n"
        "from calibration_ledger.cli.main import main\n"
        "main(prog_name='calib')\n"
    )
    monkeypatch.setattr(conftest, "PROGRAM", (sys.executable, "-c", script))
    for words in (("stats",), ("sweep",), ("reset", "--all")):
        shown = run_in_terminal("--ledger", filled, *words, typed="n\n", TERM="dumb")
        assert "\x1b" not in shown.out
        assert "\r" not in shown.out


# -- coefficients ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_a_coefficient_on_its_floor_is_about_zero_for_people_alone(run, ledger_path, rule):
    with AdaptiveCalibrator(ledger_path, rule=rule) as calibrator:
        calibrator.record_many([Call("m", 100, 100, 0.5)] * 60)
        floors = find_rule(rule).floors
        now = calibrator.calibration("m")
        coefficients = (
            now.ms_per_prompt_token,
            now.ms_per_completion_token,
            now.base_overhead_ms,
        )
        assert any(map(eq, coefficients, floors))
    assert "≈ 0" in run("--ledger", ledger_path, "stats").stdout
    assert "≈" not in run("--ledger", ledger_path, "stats", "--format", "csv").stdout
    done = subprocess.run(
        [*PROGRAM, "--ledger", str(ledger_path), "stats"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=True,
    )
    assert b"~ 0" in done.stdout


def test_the_package_runs_as_a_program(filled):
    done = subprocess.run(
        [sys.executable, "-m", "calibration_ledger", "--ledger", str(filled), "stats", "--json"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(
        run_process("--ledger", filled, "stats", "--json").out
    )
    told = subprocess.run(
        [sys.executable, "-m", "calibration_ledger", "stats", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.startswith("Usage: python -m calibration_ledger stats [OPTIONS]")
