"""Surroundings that are a little odd: no home, no current folder, streams that take nothing."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import InvalidInputError, LedgerPathError
from calibration_ledger.storage.place import find_place
from cli.conftest import PROGRAM, TIMEOUT_S, run_in_terminal, run_process

linux = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


# -- no home ----------------------------------------------------------------------------------


@pytest.fixture(name="homeless")
def _homeless(monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME", "CALIBRATION_LEDGER"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd")

    def getpwuid(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)


def test_without_a_home_the_library_says_what_to_name(homeless):
    with pytest.raises(LedgerPathError, match="set HOME, or name the ledger"):
        AdaptiveCalibrator()


@pytest.mark.parametrize(
    "words",
    [
        ("stats",),
        ("doctor",),
        ("predict", "m", "--prompt-tokens=1"),
        ("forecast", "m", "--text=-"),
        ("record", "m", "--prompt-tokens=1", "--actual-ms=5"),
        ("db", "upgrade"),
        ("export", "csv", "--salvage"),
    ],
    ids=" ".join,
)
def test_without_a_home_a_command_says_what_to_name(homeless, run, words):
    result = run(*words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "set HOME, or name the ledger" in result.stderr
    assert "--ledger" in result.stderr


def test_without_a_home_a_ledger_that_is_named_does(homeless, calib, ledger_path):
    calib("record", "m", "--prompt-tokens=1", "--actual-ms=5")
    with pytest.raises(InvalidInputError, match="a user who is not known here"):
        find_place("~/calls.db")


# -- the place as configured -------------------------------------------------------------------


@pytest.mark.parametrize("around", ["{}\n", " {}", "\t{} \r\n", "\n\n{}\n"], ids=repr)
def test_white_space_around_a_configured_place_is_dropped(monkeypatch, tmp_path, around):
    for place in (str(tmp_path / "a b.db"), "postgresql+psycopg://host/db", ":memory:"):
        expected = find_place(place)
        assert find_place(around.format(place)) == expected
        monkeypatch.setenv("CALIBRATION_LEDGER", around.format(place))
        assert find_place(None) == expected


def test_a_variable_of_white_space_is_one_that_is_not_set(monkeypatch):
    monkeypatch.delenv("CALIBRATION_LEDGER")
    expected = find_place(None)
    monkeypatch.setenv("CALIBRATION_LEDGER", " \n")
    assert find_place(None) == expected
    with pytest.raises(InvalidInputError):
        find_place(" \n")


def test_a_path_object_is_taken_as_it_is(tmp_path):
    assert find_place(tmp_path / "calls.db ").path == tmp_path / "calls.db "


# -- the current folder is gone ----------------------------------------------------------------


@pytest.fixture(name="gone")
def _gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    try:
        folder.rmdir()
    except OSError:
        pytest.skip("the system keeps the current folder")


def test_in_a_folder_that_is_gone_an_own_or_full_path_works(gone, calib, run, users_own):
    calib("record", "m", "--prompt-tokens=1", "--actual-ms=5")
    assert run("record", "m", "--prompt-tokens=1", "--actual-ms=5").exit_code == 0
    assert users_own.exists()
    assert run("stats").exit_code == 0


@pytest.mark.parametrize("command", ["stats", "doctor", "audit"])
def test_in_a_folder_that_is_gone_a_relative_path_is_refused(gone, run, command):
    result = run("--ledger", "calls.db", command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "relative to the current folder, which was removed" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("db", "backup", "b.db"),
        ("demo", "--at", "b.db"),
        ("export", "csv", "b.db"),
        ("export", "csv", "b.db", "--salvage"),
        ("import", "csv", "b.db"),
        ("import", "ledger", "b.db"),
        ("import", "state", "b.db"),
        ("audit", "--save-heads", "b.db"),
        ("audit", "--heads", "b.db"),
        ("forecast", "tiny", "--text", "b.db"),
        ("archive", "--before=2100-01-01", "--yes", "b.db"),
    ],
    ids=" ".join,
)
def test_in_a_folder_that_is_gone_a_file_beside_is_refused(gone, filled, run, words):
    named = () if "demo" in words else ("--ledger", filled)
    result = run(*named, *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "b.db is relative to the current folder, which was removed" in result.stderr


def test_in_a_folder_that_is_gone_no_file_is_written_beside(gone, filled):
    with AdaptiveCalibrator(filled) as calibrator:
        for write in (
            lambda: calibrator.backup("copy.db"),
            lambda: calibrator.export_ledger("csv", "calls.csv"),
            lambda: calibrator.import_calls("csv", "calls.csv"),
            lambda: calibrator.archive(datetime.now(UTC), "calls.jsonl"),
        ):
            with pytest.raises(InvalidInputError, match=r"^\w+\.\w+ is relative to .* removed"):
                write()
        assert calibrator.audit() == []


# -- streams that take nothing -----------------------------------------------------------------

RECORD = ("record", "m", "--prompt-tokens=1", "--actual-ms=5")


def shell(redirection, *words):
    """`calib` with streams as the shell redirects them, and what else it printed."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@linux
@pytest.mark.parametrize("words", [("--version",), ("--help",), ("stats", "--help"), ("stats",)])
def test_a_full_disk_behind_stdout_is_one_sentence(filled, words):
    done = shell(">/dev/full", "--ledger", filled, *words)
    assert (done.returncode, done.stderr) == (
        1,
        (
            "Error: the output cannot be written: No space left on device. "
            "What was changed before stays so.\n"
        ),
    )


@linux
def test_a_full_disk_behind_stderr_does_not_undo_what_was_done(filled, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("model,prompt_tokens,completion_tokens,actual_ms\nm,1,1,9\n")
    ledger = ("--ledger", filled)
    assert shell("2>/dev/full", *ledger, "import", "csv", rows).returncode == 0
    done = shell("2>/dev/full", *ledger, "export", "csv")
    assert (done.returncode, done.stdout.count("\n")) == (0, 30)
    assert shell("2>/dev/full", *ledger, "import", "csv", "nothing.csv").returncode in {1, 2}
    assert shell(">/dev/full 2>/dev/full", "--ledger", filled, "stats").returncode == 1


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_with_closed_streams_a_call_is_recorded_all_the_same(ledger_path, closed):
    assert shell(closed, "--ledger", ledger_path, *RECORD).returncode == 0
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert [call.actual_ms for call in calibrator.calls()] == [5.0]
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    "words",
    [
        *("forecast tiny -p 1", "timeout tiny -p 1", "compare -p 1"),
        *("stats tiny", "stats --json", "history --all", "audit", "doctor", "export csv"),
        *("db check", "--help"),
    ],
)
def test_a_command_whose_result_nobody_gets_fails(filled, words):
    done = shell("<&- >&-", "--ledger", filled, *words.split())
    assert (done.returncode, done.stderr) == (
        1,
        (
            "Error: the output cannot be written: stdout is closed. "
            "What was changed before stays so.\n"
        ),
    )


def test_a_reader_that_goes_away_ends_a_command_quietly(filled):
    done = shell("| true", "--ledger", filled, "history")
    assert done.stderr == ""


# -- plain terminals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plain",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": "dumb"},
    ],
    ids=str,
)
def test_a_plain_terminal_shows_names_it_does_not_know_as_escapes(ledger_path, plain):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("modèle 🚀", 1, 5.0)
    done = run_process("--ledger", ledger_path, "history", env=os.environ | plain)
    assert (done.code, done.err) == (0, "")
    is_ascii = "PYTHONUTF8" in plain or "PYTHONIOENCODING" in plain
    assert (r"mod\xe8le \U0001f680" if is_ascii else "modèle 🚀") in done.out


def test_a_dumb_terminal_gets_no_control_codes(tmp_path):
    demo = ("demo", "--at", tmp_path / "demo.db")
    assert "\x1b[" in run_in_terminal(*demo, TERM="xterm").out
    (tmp_path / "demo.db").unlink()
    shown = run_in_terminal("demo", "--at", tmp_path / "other.db", TERM="dumb").out
    assert "Recorded 960 measured calls" in shown
    assert "\x1b" not in shown


def test_a_command_that_is_suggested_quotes_a_folder_with_blanks(run, tmp_path):
    path = tmp_path / "a b" / "calls.db"
    result = run("--ledger", path, "record", "m", "--prompt-tokens=1", "--actual-ms=5")
    assert f"mkdir -p '{path.parent}'" in result.stderr


@pytest.mark.parametrize("command", ["forecast tiny", "timeout tiny", "predict tiny", "compare"])
def test_a_text_on_a_closed_stdin_is_refused(filled, command):
    done = shell("<&-", "--ledger", filled, *command.split(), "--text", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: name the file, or `-` for what comes on stdin.\n"
