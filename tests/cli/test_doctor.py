"""`calib doctor` and `calib export --salvage`, as people and programs see them."""

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.command import quoted
from calibration_ledger.storage import contents
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.sqlite import examine as doctor_sqlite
from support.by_hand import edited
from support.newer_program import TOMORROW
from support.programs import ran

from .conftest import run_in_terminal, run_process, some_calls

PAGE = 4096
OF_CALLS = 26
"""A page of calls in the large ledger: before it come the roots of all tables, and the schema."""


@pytest.fixture(name="large")
def _large(tmp_path):
    """A ledger whose calls lie on many pages."""
    path = tmp_path / "large.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(some_calls("timmy:v0.1-q4", 1000))
        assert calibrator.audit() == []
    return path


def overwrite(path, *pages):
    with path.open("r+b") as file:
        for number in pages:
            file.seek((number - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


def lines_of(text):
    """The facts by their names; what stands behind the first blank line is advice."""
    facts, _, advice = text.partition("\n\n")
    return dict(re.split(r" {2,}", line, maxsplit=1) for line in facts.splitlines()), advice


def test_a_sound_ledger_needs_nothing(calib, filled):
    result = calib("doctor")
    assert result.stderr == ""
    facts, advice = lines_of(result.stdout)
    assert facts["ledger"] == str(filled)
    assert facts["found"] == f"a ledger, revision {REVISION} (up to date)"
    assert re.fullmatch(r"[\d.]+ kB; WAL 0 B", facts["size"])
    assert facts["journal mode"] == "wal; synchronous full"
    assert facts["engine"].startswith(f"SQLite {sqlite3.sqlite_version}")
    assert facts["engine's check"] == "ok"
    assert facts["rows"] == (
        "2 models, 28 calls, 0 call details, 2 adjustments, 2 calibrations, 0 settings, "
        "0 setting heads, 0 aliases, 0 voided ranges, 0 events, 0 event heads"
    )
    assert facts["last entry"] == "2026-01-02 03:04:29Z  timmy:v0.1-q4 #26"
    assert "needs action" not in advice.lower().replace("nothing needs action", "")
    assert result.stdout.endswith("\nok: nothing needs action.\n")


def test_names_stand_in_a_column_and_sentences_in_lines(calib, filled):
    facts, _, advice = calib("doctor").stdout.partition("\n\n")
    starts = {re.match(r"\S+(?: \S+)* {2,}", line).end() for line in facts.splitlines()}
    assert len(starts) == 1
    assert all(len(line) <= 80 for line in advice.splitlines())


def test_as_json(calib, filled):
    value = json.loads(calib("doctor", "--json").stdout)
    assert value["ledger"] == str(filled)
    assert (value["state"], value["needs_action"]) == ("current", False)
    assert value["rows"]["calls"] == 28
    assert value["last_entry"] == {
        "model": "timmy:v0.1-q4",
        "seq": 26,
        "at": "2026-01-02T03:04:29.678901Z",
    }
    assert value["has_wal_reset_bug"] in {True, False}
    assert value["file"]["size_bytes"] == filled.stat().st_size
    assert all(advice.keys() == {"needs_action", "text", "commands"} for advice in value["advice"])


def test_whether_other_programs_may_open_it_is_one_sentence_without_a_cry_of_wolf(calib, filled):
    """Nothing else writes to it, so the WAL-reset bug of any SQLite is no danger."""
    told = calib("doctor").stdout
    (line,) = [line for line in told.splitlines() if line.startswith("other programs ")]
    assert "may read it" in line
    assert "Datasette with --immutable" in line
    assert "must not write to it or checkpoint it" in line
    assert "WAL-reset" not in told


def test_where_there_is_no_ledger_there_is_nothing_to_do(calib, ledger_path):
    result = calib("doctor")
    assert "no ledger yet" in result.stdout
    assert "look at the name" in result.stdout
    assert not ledger_path.exists()
    assert json.loads(calib("doctor", "--json").stdout)["state"] == "missing"


def test_what_needs_action_is_exit_code_1(run, filled, tmp_path, monkeypatch):
    other = tmp_path / "other.db"
    shutil.copy(filled, other)
    for module in (contents, doctor_sqlite):
        monkeypatch.setattr(module, "REVISION", TOMORROW)  # a program of tomorrow
    result = run("--ledger", other, "doctor")
    assert result.exit_code == 1
    assert f"an older ledger, revision {REVISION} (this program's is {TOMORROW})" in result.stdout
    assert f"\nNeeds action\n- The ledger is of revision {REVISION}" in result.stdout
    assert f"\n    calib --ledger {other} db upgrade\n" in result.stdout
    assert "nothing needs action" not in result.stdout
    as_json = run("--ledger", other, "doctor", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["needs_action"] is True


def test_a_revision_that_never_was_is_not_told_to_be_upgraded(run, filled, tmp_path):
    other = shutil.copy(filled, tmp_path / "other.db")
    edited(other, "UPDATE alembic_version SET version_num = '0000'")
    for words in (("stats",), ("db", "check"), ("db", "upgrade"), ("doctor",)):
        result = run("--ledger", other, *words)
        assert result.exit_code == 1
        told = " ".join(result.output.split())
        assert "revision 0000, which no calibration-ledger ever wrote. It was not" in told
        assert "calib --ledger" not in told


def test_the_advice_for_a_damaged_ledger_can_be_followed(run, large, tmp_path, monkeypatch):
    odd = tmp_path / "it's mine; really.db"  # a name that needs quotes
    large.rename(odd)
    overwrite(odd, OF_CALLS)
    monkeypatch.chdir(tmp_path)
    result = run("--ledger", odd, "doctor")
    assert result.exit_code == 1
    facts, advice = lines_of(result.stdout)
    assert facts["found"].startswith("a damaged ledger")
    found = re.search(r"(\d+) calls of 1 model; lost: 1 range", facts["can be read"])
    calls = int(found[1])
    assert 800 < calls < 1000
    assert "timmy:v0.1-q4 #" in advice
    commands = [line.strip() for line in advice.splitlines() if line.startswith("    ")]
    assert len(commands) == 2
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "calib"
        done = run(*words[1:])
        assert done.exit_code == 0, done.output
    with AdaptiveCalibrator(tmp_path / "salvaged.db") as calibrator:
        assert len(list(calibrator.calls())) == calls
        assert calibrator.audit() == []
    assert run("--ledger", tmp_path / "salvaged.db", "doctor").exit_code == 0


def test_a_backup_put_over_the_log_of_the_file_before_can_be_had_back(run, large, tmp_path):
    """With cp, say: SQLite takes the log for the backup's own, and both together for garbage."""
    backup, link = tmp_path / "backup.db", tmp_path / "link.db"
    link.symlink_to(large)
    assert run("--ledger", large, "db", "backup", backup).exit_code == 0
    with AdaptiveCalibrator(backup) as calibrator:
        heads = calibrator.heads()
    record = f"""
import os
from calibration_ledger import AdaptiveCalibrator
calibrator = AdaptiveCalibrator({str(large)!r}, durability="normal")
for i in range(2000):  # more than the log holds before it is taken over
    calibrator.record(f"m{{i % 7}}", i, 1.0, request_id=str(i))
os._exit(0)  # which leaves the log
"""
    subprocess.run([sys.executable, "-c", record], check=True)
    shutil.copyfile(backup, large)
    result = run_process("--ledger", link, "doctor")
    assert result.code == 1
    facts, advice = lines_of(result.out)
    assert facts["found"].startswith("a damaged ledger")
    assert advice.index("the file is sound") < advice.index("restore a backup")
    commands = [line.strip() for line in advice.splitlines() if line.startswith("    ")]
    for command in commands[:2]:
        subprocess.run(shlex.split(command), check=True)
    audit = run(*shlex.split(commands[2])[1:])
    assert (audit.exit_code, audit.stderr) == (0, "")
    with AdaptiveCalibrator(large) as calibrator:
        assert calibrator.heads() == heads


def test_a_name_cannot_command_the_terminal(run, filled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = edited(
        shutil.copy(filled, tmp_path / "other.db"),
        "UPDATE models SET model = 'evil' || char(27) || '[2J' || id",
        "DELETE FROM calls WHERE seq = 3",
    )
    for words in (("doctor",), ("doctor", "--json"), ("export", "csv", "out.csv", "--salvage")):
        output = run("--ledger", other, *words).output
        assert "evil" in output
        assert "\x1b" not in output


def test_a_ledger_that_no_other_command_opens(run, ledger_path):
    ledger_path.write_text("no ledger\n" * 500)
    assert run("--ledger", ledger_path, "stats").exit_code == 1
    result = run("--ledger", ledger_path, "doctor")
    assert result.exit_code == 1
    assert "something else than a database" in result.stdout


@pytest.mark.parametrize("place", ["mysql://x/y", ""])
def test_what_cannot_be_a_ledger_is_wrong_usage(run, place):
    result = run("--ledger", place, "doctor")
    assert result.exit_code == 2
    assert result.stdout == ""


def test_the_users_own_ledger_is_looked_at_by_default(run, users_own):
    assert f"ledger       {users_own}" in run("doctor").stdout


def test_a_folder_is_a_folder_and_nothing_more(run, tmp_path):
    (tmp_path / "inside").mkdir()  # which is a second name of its parent's
    result = run("--ledger", tmp_path, "doctor")
    assert result.exit_code == 1
    facts, advice = lines_of(result.stdout)
    assert set(facts) == {"ledger", "found", "engine"}
    assert " ".join(advice.split()) == (
        f"Needs action - {tmp_path} is a folder: name a file in it, such as "
        f"{tmp_path / 'ledger.db'}."
    )


def test_a_backup_is_no_cause_for_alarm(calib, run, filled, tmp_path):
    copy = tmp_path / "copy.db"
    calib("db", "backup", copy)
    result = run("--ledger", copy, "doctor")
    assert result.exit_code == 0
    assert "delete, as in a copy made by `calib db backup`." in " ".join(result.stdout.split())
    assert "somebody" not in result.stdout


# Permission bits do not bind root, so root becomes somebody, once everything is imported: the
# modules may lie where nobody else can read them.
AS_SOMEBODY = """
import os, sys
from click.testing import CliRunner
from calibration_ledger.cli.main import main
words = sys.argv[1:]
for verb in ("doctor", "stats"):
    CliRunner().invoke(main, ["--ledger", words[0], verb])
os.chmod(words[1], int(words[2], 8))
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for verb in ("doctor", "stats"):
    result = CliRunner().invoke(main, ["--ledger", words[0], verb], catch_exceptions=False)
    print(result.exit_code, result.output)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permission bits are POSIX")
@pytest.mark.parametrize(
    ("changed", "mode", "sentence", "count"),
    [
        (".", "0600", "cannot be looked at by this user: check the permissions of its folder.", 2),
        ("calls.db", "0444", "ok: nothing needs action; but this user cannot record here.", 1),
    ],
    ids=["a folder that may not be searched", "a ledger that can only be read"],
)
def test_what_this_user_may_not_do_is_told_as_other_commands_do(changed, mode, sentence, count):
    with tempfile.TemporaryDirectory() as outer:  # pytest's own folders are closed to others
        folder = Path(outer) / "closed"
        folder.mkdir(0o755)
        Path(outer).chmod(0o755)
        ledger = folder / "calls.db"
        with AdaptiveCalibrator(ledger) as calibrator:
            calibrator.record("m", 1, 2.0)
            assert calibrator.audit() == []
        done = ran(AS_SOMEBODY, ledger, folder / changed, mode)
        folder.chmod(0o700)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert shown.count(sentence) == count
    assert "the system refused" not in shown


def test_a_ledger_in_memory(run):
    result = run("--ledger", ":memory:", "doctor")
    assert (result.exit_code, result.stderr) == (0, "")


def test_nothing_is_left_beside_a_ledger_that_is_looked_at_in_a_terminal(filled):
    done = run_in_terminal("--ledger", filled, "doctor")
    assert done.code == 0
    assert "ok: nothing needs action." in done.out
    assert [path.name for path in filled.parent.iterdir() if path.is_file()] == [filled.name]


# -- export --salvage -----------------------------------------------------------------------


def test_an_export_of_a_damaged_ledger_says_how_to_salvage_it(run, large):
    overwrite(large, OF_CALLS)
    result = run("--ledger", large, "export", "jsonl")
    assert result.exit_code == 1
    calib = f"calib --ledger {quoted(str(large))}"
    assert f"`{calib} export jsonl FILE --salvage`" in result.stderr
    overwrite(large, 1)
    lost_its_name = run("--ledger", large, "export", "jsonl")
    assert lost_its_name.exit_code == 1
    assert f"ask `{calib} doctor` if it was a ledger once" in lost_its_name.stderr


def test_salvage_tells_what_it_read_and_what_is_lost(run, large, tmp_path):
    overwrite(large, OF_CALLS)
    file = tmp_path / "out.jsonl"
    result = run("--ledger", large, "export", "jsonl", file, "--salvage")
    assert (result.exit_code, result.stdout) == (0, "")
    first, lost, last = result.stderr.splitlines()
    calls = int(first.split()[0])
    assert first == f"{calls} calls of 1 model read and written to {file}"
    begin, end, size = map(int, re.search(r"#(\d+) to #(\d+) \((\d+)\)", lost).groups())
    assert lost.startswith("lost: timmy:v0.1-q4 #")
    assert end - begin + 1 == size == 1000 - calls
    assert last.endswith(f"calib --ledger NEW.db import jsonl -- {file}")
    assert len(file.read_text().splitlines()) == calls


def test_salvage_of_a_sound_ledger_says_that_nothing_is_lost(calib, filled):
    result = calib("export", "csv", "--salvage")
    assert result.stdout == calib("export", "csv").stdout
    first, second, last = result.stderr.splitlines()
    assert first == "28 calls of 2 models read and written to <stdout>"
    assert second == "no entry is lost."
    assert last.endswith("import csv -- FILE")


def test_salvage_as_json(run, large, tmp_path):
    overwrite(large, 1, OF_CALLS)
    result = run("--ledger", large, "export", "csv", tmp_path / "out.csv", "--salvage", "--json")
    value = json.loads(result.stdout)
    assert result.stderr == ""
    assert value["kind"] == "csv"
    assert {lost["model"] for lost in value["lost"]} == {"timmy:v0.1-q4"}
    assert value["calls"] + 1 == len((tmp_path / "out.csv").read_text().splitlines())
    piped = run("--ledger", large, "export", "csv", "--salvage", "--json")
    assert piped.stdout.startswith("model,")
    assert json.loads(piped.stderr)["calls"] == value["calls"]


def test_many_lost_ranges_are_counted(run, tmp_path):
    path = tmp_path / "holes.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(some_calls("m", 100))
    edited(
        path,
        "DELETE FROM calls WHERE seq % 3 = 0",
        "UPDATE models SET model = CAST(x'ff' AS TEXT)",
    )
    result = run("--ledger", path, "export", "csv", "--salvage")
    assert result.stderr.count("lost: unreadable-model-1 #") == 20
    assert "lost: 13 more ranges; --json has them all." in result.stderr
    assert "its calls are under 'unreadable-model-1'" in result.stderr


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (("csv", "out.csv", "--salvage", "--model", "nobody"), 1, "'nobody'"),
        (("csv", "no/such/folder.csv", "--salvage"), 2, "folder"),
        (("xml", "--salvage"), 2, "'xml'"),
    ],
)
def test_wrong_usage_of_salvage_is_refused(
    calib, filled, tmp_path, monkeypatch, args, code, sentence
):
    monkeypatch.chdir(tmp_path)
    assert sentence in calib("export", *args, exit_code=code).stderr
    assert not (tmp_path / "out.csv").exists()


def test_what_is_not_there_cannot_be_salvaged(calib, ledger_path):
    assert "no ledger" in calib("export", "csv", "--salvage", exit_code=1).stderr
    assert not ledger_path.exists()
