"""Upgrades on PostgreSQL: one transaction, one at a time, writers kept out, nothing lost."""

import os
import secrets
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    LedgerBusyError,
    LedgerOutdatedError,
    LedgerPermissionError,
    NotRecordedError,
)
from calibration_ledger.storage import migrate
from calibration_ledger.storage.place import find_place
from support.newer_program import TODAY, become_newer, go_back, upgrade_in_process
from support.quick import QUICK
from support.reference import dump
from support.steps import wait_until, waiting


def test_an_older_ledger_is_refused_with_the_command_that_upgrades_it(url, newer):
    results = QUICK.Queue()
    process = QUICK.Process(target=open_as_newer, args=(url, newer(), results))
    process.start()
    kind, text = results.get(timeout=60)
    process.join()
    assert kind == LedgerOutdatedError.__name__
    assert f"of revision {TODAY}" in text
    assert "db upgrade" in text


def open_as_newer(url, folder, results):
    become_newer(folder)
    try:
        AdaptiveCalibrator(url)
    except Exception as error:  # noqa: BLE001 - told to the parent
        results.put((type(error).__name__, str(error)))


def test_an_upgrade_that_waits_for_a_writer_lets_others_read_and_gives_up(
    postgres, database, url, newer, calibrator, run
):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    folder = newer()
    with closing(postgres.connect(database)) as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT 1 FROM calibrations FOR UPDATE")
        results = QUICK.Queue()
        process = QUICK.Process(target=upgrade_in_process, args=(url, folder, None, results, 1.0))
        process.start()
        wait_until(lambda: waiting(run, "relation"))
        # They may have to wait for its turn to end.
        assert calibrator.predict("m", 1).sample_count == 1
        assert calibrator.audit() == []
        assert LedgerBusyError.__name__ in results.get(timeout=60)
        process.join()
    assert dump(url) == rows
    calibrator.record("m", 1, 2.0)


def test_a_process_that_is_killed_in_the_middle_leaves_no_trace(url, run, newer, calibrator):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    results = QUICK.Queue()
    process = QUICK.Process(target=upgrade_in_process, args=(url, newer(600), None, results))
    process.start()
    wait_until(lambda: run("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
    with ThreadPoolExecutor(1) as pool:
        recording = pool.submit(calibrator.record, "m", 3, 4.0)
        wait_until(lambda: waiting(run, "relation"))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        # The server notices when it would answer; until then the transaction goes on.
        run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        recording.result(timeout=20)
    after = dump(url)
    assert after["calls"][:1] == rows["calls"]
    assert len(after["calls"]) == 2
    assert run("SELECT to_regclass('calls_new') IS NULL") == [(True,)]


def test_a_migration_that_fails_leaves_no_trace(url, run, newer, calibrator):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    folder = newer(more="op.execute('SELECT 1/0')")
    results = QUICK.Queue()
    process = QUICK.Process(target=upgrade_in_process, args=(url, folder, None, results))
    process.start()
    said = results.get(timeout=60)
    process.join()
    assert NotRecordedError.__name__ in said
    assert "division by zero" in said
    assert dump(url) == rows
    assert run("SELECT to_regclass('calls_new') IS NULL") == [(True,)]
    calibrator.record("m", 3, 4.0)


def test_who_owns_nothing_cannot_upgrade(postgres, database, run, url, newer, calibrator):
    calibrator.record("m", 1, 2.0)
    role = postgres.role("writer")
    run(
        f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT UPDATE ON calibrations TO {role}",
    )
    rows = dump(url)
    results = QUICK.Queue()
    arguments = (postgres.url(database, user=role), newer(), None, results)
    process = QUICK.Process(target=upgrade_in_process, args=arguments)
    process.start()
    assert LedgerPermissionError.__name__ in results.get(timeout=60)
    process.join()
    assert dump(url) == rows


def test_up_down_and_up_again_gives_the_same_tables(postgres, empty):
    place = find_place(postgres.url(empty))
    from calibration_ledger.storage.migrate import schema_differences
    from calibration_ledger.storage.postgres.migrate import begun

    migrate.upgrade(place, 5.0)
    for revision in ("base", "head"):
        with begun(place, 5.0, locked=True) as connection:
            migrate.run_migrations(connection, revision)
            left = set(sa.inspect(connection).get_table_names())
            assert (left == {"alembic_version"}) == (revision == "base")
    assert schema_differences(place, 5.0) == []
    with AdaptiveCalibrator(postgres.url(empty)) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []


def test_alembic_in_a_checkout_finds_nothing_to_do(postgres, url):
    """Models and migrations agree on PostgreSQL too."""
    import subprocess

    root = Path(__file__).parents[3]
    for command in (["upgrade", "head"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "alembic", "-x", f"ledger={url}", *command],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_view_is_as_it_was_behind_a_rebuild_and_back_and_so_are_its_readers(
    url, newer, calibrator, run
):
    calibrator.record("m", 1, 2.0)
    reader = f"reader {secrets.token_hex(4)}"
    run(f'CREATE ROLE "{reader}"', f'GRANT SELECT ON readable_calls TO "{reader}"')
    ask = (
        "SELECT pg_get_viewdef('readable_calls'::regclass), relacl::text FROM pg_class"
        " WHERE oid = 'readable_calls'::regclass"
    )
    before = run(ask)
    assert reader in before[0][1]
    folder, results = newer(), QUICK.Queue()
    try:
        for program in (upgrade_in_process, go_back, upgrade_in_process, go_back):
            more = (None, results) if program is upgrade_in_process else ()
            process = QUICK.Process(target=program, args=(url, folder, *more))
            process.start()
            process.join(60)
            assert process.exitcode == 0
            assert run(ask) == before
            assert run("SELECT count(*) FROM readable_calls") == [(1,)]
    finally:
        run(f'DROP OWNED BY "{reader}"', f'DROP ROLE "{reader}"')
