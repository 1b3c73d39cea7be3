"""Upgrades of a ledger with history: all or nothing, one at a time, and noticed by who writes."""

import os
import shutil
import sqlite3
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerOutdatedError, LedgerTooNewError, NotALedgerError
from calibration_ledger.storage import contents, migrate
from calibration_ledger.storage.migrate import (
    current_revision,
    migrations_dir,
    schema_differences,
    upgrade,
)
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.sqlite.lock import locked_file
from support.by_hand import edited
from support.newer_program import TOMORROW
from support.reference import TABLES

ROOT = Path(__file__).parents[2]


def rows_of(path):
    connection = sqlite3.connect(path)
    rows = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    connection.close()
    return rows


@pytest.fixture(name="ledger")
def _ledger(tmp_path):
    """A ledger with some history of every kind."""
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        for i in range(20):
            calibrator.record(
                f"m{i % 2}", 10 + i, 100.0 + i, completion_tokens=i, request_id=f"r{i}"
            )
        calibrator.recalibrate(0.4, model="m0")
        calibrator.reset("m1")
        assert calibrator.audit() == []
    return path


def test_an_upgrade_makes_a_fresh_ledger_and_leaves_a_current_one_alone(tmp_path):
    place = find_place(tmp_path / "calls.db")
    assert current_revision(place, 5.0) is None
    assert upgrade(place, 5.0).before is None
    before = rows_of(place.path), place.path.read_bytes()
    done = upgrade(place, 5.0)
    assert (done.before, done.after, done.backup) == (REVISION, REVISION, None)
    assert (rows_of(place.path), place.path.read_bytes()) == before
    with AdaptiveCalibrator(place.path) as calibrator:
        assert calibrator.audit() == []


def test_rows_survive_a_migration_that_rebuilds_calls(ledger, tomorrow):
    before = rows_of(ledger)
    tomorrow()
    done = upgrade(find_place(ledger), 5.0)
    after = rows_of(ledger)
    assert [row[:-1] for row in after.pop("calls")] == before.pop("calls")
    for table in ("events", "event_heads"):  # where the upgrade was noted
        assert (before.pop(table), len(after.pop(table))) == ([], 1)
    assert after == before
    assert done.before == REVISION


@pytest.mark.both
def test_the_backup_made_first_is_the_ledger_as_it_was(ledger, tomorrow):
    before = rows_of(ledger)
    tomorrow()
    backup = upgrade(find_place(ledger), 5.0).backup
    assert rows_of(backup) == before
    with AdaptiveCalibrator(backup) as calibrator:
        assert calibrator.audit() == []


@pytest.mark.both
def test_an_upgrade_that_fails_midway_leaves_no_trace(ledger, tomorrow):
    before = rows_of(ledger)
    tomorrow(fails=True)
    with pytest.raises(RuntimeError, match="the power went"):
        upgrade(find_place(ledger), 5.0)
    assert rows_of(ledger) == before
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.audit() == []


def test_a_writer_that_opened_before_is_refused_inside_its_next_transaction(ledger, tomorrow):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m0", 1, 1.0)
        tomorrow()
        upgrade(find_place(ledger), 5.0)
        after = rows_of(ledger)
        for write in (
            lambda: calibrator.record("m0", 1, 1.0),
            lambda: calibrator.record("new", 1, 1.0),
            lambda: calibrator.record_many(
                [{"model": "m1", "prompt_tokens": 1} | {"completion_tokens": 1, "actual_ms": 1.0}]
            ),
            lambda: calibrator.reset("m0"),
        ):
            with pytest.raises(LedgerTooNewError, match=TOMORROW) as caught:
                write()
            assert caught.value.found == TOMORROW
        assert rows_of(ledger) == after


def test_a_newer_ledger_is_refused_with_both_revisions(ledger, tomorrow):
    tomorrow()
    upgrade(find_place(ledger), 5.0)
    with pytest.raises(LedgerTooNewError, match=f"{TOMORROW}.*{REVISION}"):
        AdaptiveCalibrator(ledger)


def test_an_older_ledger_is_refused_with_the_command_that_upgrades_it(ledger, monkeypatch):
    monkeypatch.setattr(contents, "REVISION", TOMORROW)  # a program of tomorrow
    with pytest.raises(LedgerOutdatedError, match="db upgrade"):
        AdaptiveCalibrator(ledger)


def test_a_foreign_database_is_not_upgraded(tmp_path):
    path = tmp_path / "other.db"
    edited(
        path, "CREATE TABLE alembic_version (version_num TEXT)", "CREATE TABLE users (id INTEGER)"
    )
    before = path.read_bytes()
    with pytest.raises(NotALedgerError, match="something else"):
        upgrade(find_place(path), 5.0)
    assert path.read_bytes() == before


def test_a_changed_table_is_told_by_the_check(ledger):
    assert schema_differences(find_place(ledger), 5.0) == []
    edited(ledger, "DROP VIEW readable_calls", "CREATE INDEX mine ON calls (called_at)")
    found = schema_differences(find_place(ledger), 5.0)
    assert any("readable_calls" in text for text in found)
    assert any("mine" in text for text in found)


def run_upgrade(path, barrier):
    barrier.wait()
    upgrade(find_place(path), 30.0)


def test_several_processes_upgrade_at_once(tmp_path):
    path = tmp_path / "calls.db"
    context = get_context("spawn")
    barrier = context.Barrier(4)
    processes = [context.Process(target=run_upgrade, args=(path, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 1.0)
        assert calibrator.audit() == []


@pytest.mark.parametrize("name", ["calls.db", "100% calls of mine.db"])
def test_alembic_upgrades_from_a_checkout(tmp_path, name):
    path = tmp_path / name
    command = [sys.executable, "-m", "alembic", "-x", f"ledger={path}", "upgrade", "head"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 1.0)
        assert calibrator.audit() == []


def test_alembic_without_a_name_takes_the_ledger_of_the_environment(tmp_path):
    path = tmp_path / "calls.db"
    environment = {**os.environ, "CALIBRATION_LEDGER": str(path)}
    for verb in (["upgrade", "head"], ["check"], ["downgrade", "base"], ["upgrade", "head"]):
        command = [sys.executable, "-m", "alembic", *verb]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()
    assert current_revision(find_place(path), 5.0) == REVISION


@pytest.mark.parametrize("verb", ["current", "check"])
def test_alembic_that_only_looks_makes_nothing(tmp_path, verb):
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    environment = {**os.environ, **home, "CALIBRATION_LEDGER": ""}
    done = alembic(verb, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("There is no ledger at ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["current", "check", "upgrade head"])
def test_alembic_says_in_one_sentence_what_is_no_ledger(tmp_path, verb):
    path = tmp_path / "notes.txt"
    path.write_text("no ledger at all, but somebody's notes\n")
    done = alembic("-x", f"ledger={path}", *verb.split())
    assert done.returncode == 1
    assert done.stderr.startswith(f"{path} is not a ledger")
    assert done.stderr.count("\n") == 1
    assert path.read_text() == "no ledger at all, but somebody's notes\n"
    assert list(tmp_path.iterdir()) == [path]


def test_alembic_looks_at_a_ledger_while_another_program_holds_the_writers_lock(ledger):
    with locked_file(find_place(ledger), 5.0):
        done = alembic("-x", f"ledger={ledger}", "current")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{REVISION} (head)\n"


def alembic(*args, env=None):
    return subprocess.run(
        [sys.executable, "-m", "alembic", *args],
        cwd=ROOT,
        env=env,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_migrations_are_found_beside_the_sources(monkeypatch, tmp_path):
    assert migrations_dir() == ROOT / "migrations"
    package = tmp_path / "site" / "calibration_ledger"
    shutil.copytree(ROOT / "migrations", package / "migrations")
    monkeypatch.setattr(migrate, "files", lambda _: package)
    assert migrations_dir() == package / "migrations"


def test_an_installation_without_migrations_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(migrate, "files", lambda _: tmp_path / "site" / "calibration_ledger")
    with pytest.raises(migrate.MigrationsNotFoundError, match="install it again"):
        migrations_dir()
