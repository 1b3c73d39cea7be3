"""`calib top`: the terminal kept fresh while others record, and one picture with --once."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.programs import CALIB
from support.terminal import Terminal

from .conftest import run_process

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
EVERY = ("top", "--every", "100ms")


def test_once_prints_models_and_the_newest_calls_with_predicted_beside_measured(calib, filled):
    told = calib("top", "--once", "--limit", "2").stdout
    head, _, above, titles, *models, _, below, columns, first, second = told.splitlines()
    assert "  2 models  0.0 calls a minute  " in head
    assert head.endswith(str(filled))
    assert (above, below) == ("models", "newest calls")
    assert titles.split()[:2] == ["model", "calls"]
    assert [line.split()[:2] for line in models] == [["timmy:v0.1-q4", "25"], ["tiny", "3"]]
    assert columns.split()[:7] == ["when", "model", "seq", "prompt", "compl", "predicted", "ms"]
    assert "timmy:v0.1-q4   26" in first
    assert "timmy:v0.1-q4   25" in second


def test_json_has_what_the_library_gives(calib, filled):
    told = json.loads(calib("top", "-m", "tiny", "--json", "-n", "1").stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        found = calibrator.top("tiny", limit=1).to_dict()
    assert {**told, "at": None} == {**found, "at": None}
    assert [one["model"] for one in told["models"]] == ["tiny"]
    assert told["calls"][0]["seq"] == 4


def test_other_formats_have_the_models_or_both_tables(calib, filled):
    lines = calib("top", "--format", "csv", "--limit", "2").stdout.splitlines()
    assert lines[0].startswith("model,calls,calls_per_minute,")
    assert len(lines) == 3
    told = calib("top", "--format", "markdown", "--limit", "2").stdout
    assert told.count("| ---:") > 2
    assert "## newest calls" in told


def test_models_are_sorted_as_asked(calib, filled):
    for by, order in (("model", ["timmy:v0.1-q4", "tiny"]), ("error", ["timmy:v0.1-q4", "tiny"])):
        lines = calib("top", "--once", "--by", by).stdout.splitlines()
        assert [line.split()[0] for line in lines[4:6]] == order


def test_where_stdout_is_no_terminal_one_picture_is_all(filled):
    shell = run_process("--ledger", filled, "top")
    assert shell.code == 0
    assert "timmy:v0.1-q4" in shell.out
    assert "\x1b" not in shell.out


@pytest.mark.parametrize("wrong", ["0", "99ms", "-1s", "x", "1e400", "nan", "25h", "", "1 d"])
def test_a_wrong_time_is_refused(calib, filled, wrong):
    assert "is no time from 100ms to 24h" in calib("top", "--every", wrong, exit_code=2).stderr


def test_bad_input_is_refused(calib, filled):
    assert "by must be one of" in calib("top", "--once", "--by", "x", exit_code=2).stderr
    assert "limit must be" in calib("top", "--once", "--limit", "-1", exit_code=2).stderr
    assert "no entry of a model" in calib("top", "--once", "nosuch", exit_code=1).stderr


def test_once_on_a_ledger_that_is_not_there_fails(calib, ledger_path):
    assert "there is no ledger" in calib("top", "--once", exit_code=1).stderr
    assert not ledger_path.exists()


# -- in a terminal --------------------------------------------------------------------------


def lines_of(picture):
    """How many lines a picture took, from the top of the screen."""
    return picture.rpartition("\x1b[H")[2].count("\n") + 1


def test_the_screen_is_kept_fresh_while_others_record_and_restored_at_the_end(filled):
    with Terminal(CALIB, "--ledger", filled, *EVERY) as terminal:
        begun = terminal.until("timmy:v0.1-q4")
        assert begun.index(ENTER) < begun.index(HIDE)
        with AdaptiveCalibrator(filled) as calibrator:
            calibrator.record("just:started", 7, 1234.5, completion_tokens=3)
        terminal.until("just:started")
        terminal.until("1234.5")
        terminal.send()
        code, rest = terminal.end()
    assert code == 0
    assert rest.index(SHOW) < rest.index(LEAVE)
    assert "Traceback" not in rest


@pytest.mark.parametrize("size", [(40, 24), (40, 8), (80, 5), (200, 50), (20, 3), (80, 1)])
def test_a_picture_never_has_more_lines_than_the_terminal(filled, size):
    with Terminal(CALIB, "--ledger", filled, *EVERY, size=size) as terminal:
        terminal.until(ENTER)
        terminal.until("2 models" if size[0] > 30 else "2026")
        terminal.until("\x1b[H")
        picture = terminal.until("\x1b[H")
        terminal.send()
        assert terminal.end()[0] == 0
    assert lines_of(picture) <= size[1]


def test_another_size_shows_at_once(filled):
    every = ("top", "--every", "1h")
    with Terminal(CALIB, "--ledger", filled, *every, size=(40, 8)) as terminal:
        terminal.until("tiny")
        terminal.resize(120, 40)
        terminal.until("error ms")
        terminal.send()
        assert terminal.end()[0] == 0


def test_a_ledger_that_comes_to_life_is_shown(ledger_path):
    with Terminal(CALIB, "--ledger", ledger_path, *EVERY) as terminal:
        terminal.until("no calls yet")
        assert not ledger_path.exists()
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record("just:started", 7, 1234.5)
        terminal.until("just:started")
        terminal.send()
        assert terminal.end()[0] == 0


def test_an_error_of_a_moment_is_shown_and_survived(filled, tmp_path):
    aside = tmp_path / "aside.db"
    with Terminal(CALIB, "--ledger", filled, *EVERY) as terminal:
        terminal.until("timmy:v0.1-q4")
        shutil.move(filled, aside)
        filled.write_bytes(b"no database at all, but something else" * 99)
        terminal.until("error: ")
        filled.unlink()
        shutil.move(aside, filled)
        terminal.until("2 models")
        with AdaptiveCalibrator(filled) as calibrator:
            calibrator.record("just:started", 7, 1234.5)
        terminal.until("just:started")
        terminal.send()
        assert terminal.end()[0] == 0


def test_a_dumb_terminal_gets_plain_pictures(filled):
    with Terminal(CALIB, "--ledger", filled, *EVERY, env={"TERM": "dumb"}) as terminal:
        shown = terminal.until("2 models") + terminal.until("2 models")
        terminal.send()
        code, rest = terminal.end()
    assert code == 0
    assert "\x1b" not in shown + rest


def test_the_terminal_is_restored_when_the_program_is_told_to_end(filled):
    with Terminal(CALIB, "--ledger", filled, *EVERY) as terminal:
        terminal.until("timmy:v0.1-q4")
        terminal.send(signal.SIGTERM)
        code, rest = terminal.end()
    assert code == 128 + signal.SIGTERM
    assert rest.index(SHOW) < rest.index(LEAVE)


def test_ctrl_z_restores_the_terminal_until_the_program_goes_on(filled):
    with Terminal(CALIB, "--ledger", filled, *EVERY) as terminal:
        terminal.until("timmy:v0.1-q4")
        terminal.send(signal.SIGTSTP)
        told = terminal.until(LEAVE)
        assert SHOW in told
        assert terminal.is_stopped()
        terminal.send(signal.SIGCONT)
        terminal.until(ENTER)
        terminal.until("timmy:v0.1-q4")
        terminal.send()
        assert terminal.end()[0] == 0


def test_a_ledger_that_somebody_holds_is_waited_for(filled):
    with closing(sqlite3.connect(filled)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        terminal = Terminal(CALIB, "--ledger", filled, *EVERY)
        terminal.until("error: ")
        other.execute("ROLLBACK")
    with terminal:
        terminal.until("2 models")
        with AdaptiveCalibrator(filled) as calibrator:
            calibrator.record("just:started", 7, 1234.5)
        terminal.until("just:started")
        terminal.send()
        assert terminal.end()[0] == 0


def test_another_ledger_in_its_place_is_shown(filled, tmp_path):
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.record("of:another", 7, 1234.5)
    with Terminal(CALIB, "--ledger", filled, *EVERY) as terminal:
        terminal.until("timmy:v0.1-q4")
        for path in tmp_path.glob("calls.db-*"):
            path.unlink()
        (tmp_path / "other.db").replace(filled)
        terminal.until("of:another")
        terminal.until("1 model")
        terminal.send()
        assert terminal.end()[0] == 0


def test_a_terminal_without_utf_8_and_without_colour_is_obeyed(filled):
    env = {"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    with Terminal(CALIB, "--ledger", filled, *EVERY, env=env) as terminal:
        shown = terminal.until("timmy:v0.1-q4") + terminal.until("tiny")
        terminal.send()
        assert terminal.end()[0] == 0
    assert shown.isascii()
    assert "\x1b[3" not in shown
    assert "\x1b[9" not in shown


WITHOUT_RICH = f"import sys; sys.modules['rich'] = None\n{CALIB}"


def test_without_the_extra_once_works_and_the_screen_says_what_to_install(filled):
    with Terminal(WITHOUT_RICH, "--ledger", filled, *EVERY) as terminal:
        code, told = terminal.end()
    assert code == 2
    assert "pip install rich" in " ".join(told.split())
    assert "Traceback" not in told
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RICH, "--ledger", filled, "top", "--once"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "timmy:v0.1-q4" in done.stdout
