import json

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.command import quoted
from calibration_ledger.storage import migrate
from calibration_ledger.storage.schema import REVISION
from support.by_hand import edited
from support.newer_program import TOMORROW, make_migrations


def test_upgrade_makes_a_ledger_and_leaves_one_that_is_up_to_date_alone(calib, ledger_path):
    result = calib("db", "upgrade")
    assert result.stdout == f"made {ledger_path}, revision {REVISION}\n"
    before = ledger_path.read_bytes()
    result = calib("db", "upgrade")
    assert result.stdout == f"{ledger_path} is up to date: revision {REVISION}\n"
    assert ledger_path.read_bytes() == before


def test_upgrade_as_json(calib, ledger_path):
    first = {"ledger": str(ledger_path), "before": None, "after": REVISION, "backup": None}
    assert json.loads(calib("db", "upgrade", "--json").stdout) == first
    again = {**first, "before": REVISION}
    assert json.loads(calib("db", "upgrade", "--json").stdout) == again


def test_an_upgrade_says_where_the_backup_is_that_it_made_first(
    calib, run, filled, tmp_path, monkeypatch
):
    older = tmp_path / "older.db"
    calib("db", "backup", older)
    folder = make_migrations(tmp_path)
    monkeypatch.setattr(migrate, "migrations_dir", lambda: folder)
    monkeypatch.setattr(migrate, "REVISION", TOMORROW)
    upgraded, told = run("--ledger", older, "db", "upgrade").stdout.splitlines()
    assert upgraded == f"upgraded {older} from revision {REVISION} to {TOMORROW}"
    said, backup = told.split(": ", 1)
    assert said == "as it was before"
    with AdaptiveCalibrator(backup) as before, AdaptiveCalibrator(filled) as ours:
        assert before.heads() == ours.heads()
        assert before.audit() == []


def test_current_shows_the_revision(calib, filled):
    assert calib("db", "current").stdout == f"{REVISION} (up to date): {filled}\n"
    assert json.loads(calib("db", "current", "--json").stdout) == {
        "ledger": str(filled),
        "revision": REVISION,
        "expected": REVISION,
    }


def test_current_shows_a_newer_revision_that_other_commands_refuse(calib, run, filled, tmp_path):
    newer = tmp_path / "newer.db"
    calib("db", "backup", newer)
    edited(newer, "UPDATE alembic_version SET version_num = '9999'")
    current = run("--ledger", newer, "db", "current")
    assert current.stdout == f"9999 (this program's is {REVISION}): {newer}\n"
    before = newer.read_bytes()
    for verb in ("upgrade", "check"):
        result = run("--ledger", newer, "db", verb)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: ")
        assert "9999" in result.stderr
        assert REVISION in result.stderr
    assert newer.read_bytes() == before


def test_check_finds_the_tables_as_expected(calib, filled):
    assert calib("db", "check").stdout == f"ok: revision {REVISION}, tables as expected\n"
    fields = json.loads(calib("db", "check", "--json").stdout)
    assert fields["differences"] == []


def test_check_finds_a_table_that_was_changed(calib, run, filled, tmp_path):
    changed = tmp_path / "changed.db"
    calib("db", "backup", changed)
    edited(changed, "CREATE TABLE notes (note TEXT)")
    result = run("--ledger", changed, "db", "check")
    assert result.exit_code == 1
    assert "notes" in result.stdout
    assert "the tables are not as" in result.stderr
    as_json = run("--ledger", changed, "db", "check", "--json")
    assert as_json.exit_code == 1
    assert len(json.loads(as_json.stdout)["differences"]) == 1


def test_backup_is_a_whole_ledger_and_overwrites_nothing(calib, filled, tmp_path):
    copy = tmp_path / "copy.db"
    assert calib("db", "backup", copy).stdout == f"copied {filled} to {copy}\n"
    with AdaptiveCalibrator(copy) as theirs, AdaptiveCalibrator(filled) as ours:
        assert theirs.heads() == ours.heads()
        assert theirs.audit() == []
    before = copy.read_bytes()
    assert "exists already" in calib("db", "backup", copy, exit_code=2).stderr
    assert "exists already" in calib("db", "backup", filled, exit_code=2).stderr
    assert copy.read_bytes() == before
    elsewhere = tmp_path / "no" / "where.db"
    assert "folder does not exist" in calib("db", "backup", elsewhere, exit_code=2).stderr
    assert "- is no file here" in calib("db", "backup", "-", exit_code=2).stderr


def test_backup_as_json(calib, filled, tmp_path):
    copy = tmp_path / "copy.db"
    assert json.loads(calib("db", "backup", copy, "--json").stdout) == {
        "ledger": str(filled),
        "revision": REVISION,
        "backup": str(copy),
    }


def test_a_ledger_in_memory_has_no_file_to_look_after(run):
    for verb in ("upgrade", "current", "check"):
        result = run("--ledger", ":memory:", "db", verb)
        assert result.exit_code == 2
        assert "in memory" in result.stderr


def test_a_file_is_not_distributed(calib, filled):
    before = filled.read_bytes()
    result = calib("db", "distribute", exit_code=2)
    assert "lies on one machine" in result.stderr
    assert f"`calib --ledger {quoted(str(filled))} export jsonl FILE`" in result.stderr
    assert "`calib --ledger URL import ledger FILE`" in result.stderr
    assert filled.read_bytes() == before
