"""Upgrades on PostgreSQL: one transaction, one at a time, writers kept out, nothing lost."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    LedgerBusyError,
    LedgerOutdatedError,
    LedgerPermissionError,
    LedgerTooNewError,
    NotRecordedError,
)
from calibration_ledger.storage import migrate
from calibration_ledger.storage.place import find_place
from reference import dump

from .steps import wait_until, waiting

SPAWN = multiprocessing.get_context("spawn")

# It builds `calls` anew, so that whoever writes meanwhile would write to a table on its way out.
REHEARSAL = '''"""Build calls anew, with a column more.

Revision: 0002, after 0001.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("CREATE TABLE calls_new (LIKE calls INCLUDING ALL)")
    op.execute("ALTER TABLE calls_new ADD COLUMN provider text")
    op.execute("INSERT INTO calls_new SELECT calls.*, NULL FROM calls")
    op.execute("SELECT pg_sleep({seconds})")
    op.execute("DROP TABLE calls CASCADE")
    op.execute("ALTER TABLE calls_new RENAME TO calls")
    {more}


def downgrade():
    raise NotImplementedError
'''


@pytest.fixture
def newer(tmp_path):
    """Make the migrations of a newer program; gives their folder."""

    def make(seconds=0.0, more="pass"):
        folder = tmp_path / "migrations"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(migrate.migrations_dir(), folder, ignore=ignored, dirs_exist_ok=True)
        text = REHEARSAL.format(seconds=seconds, more=more)
        (folder / "versions" / "0002_build_calls_anew.py").write_text(text)
        return folder

    return make


def become_newer(folder):
    """Make this process a program of revision 0002."""
    for name, module in list(sys.modules.items()):
        if name.startswith("calibration_ledger") and hasattr(module, "REVISION"):
            module.REVISION = "0002"
    migrate.migrations_dir = lambda: Path(folder)


def upgrade_in_process(url, folder, barrier, results, timeout_s=30.0):
    become_newer(folder)
    if barrier is not None:
        barrier.wait()
        time.sleep(random.random() / 2)
    try:
        done = migrate.upgrade(find_place(url), timeout_s)
        results.put((done.before, done.after))
    except BaseException as error:  # noqa: BLE001 - told to the parent
        results.put(repr(error))


def write_until_refused(url, barrier, results):
    """A writer of the older revision: how many calls were acknowledged before it was refused."""
    count = 0
    with AdaptiveCalibrator(url) as calibrator:
        barrier.wait()
        try:
            while True:
                calibrator.record(f"m{count % 3}", count, 100.0, 5)
                count += 1
        except LedgerTooNewError as error:
            results.put((count, error.found, error.expected))
        except BaseException as error:  # noqa: BLE001 - told to the parent
            results.put(repr(error))


def read_for_a_while(url, barrier):
    """Readers come through before, while and after."""
    with AdaptiveCalibrator(url) as calibrator:
        barrier.wait()
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            calibrator.predict("m0", 1)
            list(calibrator.calls("m0", last=3))
            assert [finding for finding in calibrator.audit("m0") if finding.seq] == []


def run_all(*targets):
    processes = [SPAWN.Process(target=target, args=arguments) for target, arguments in targets]
    for process in processes:
        process.start()
    return processes


def test_eight_upgrade_at_once_while_writers_of_the_older_revision_write(url, run, newer):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m0", 1, 2.0)
    barrier, upgraded, written = SPAWN.Barrier(14), SPAWN.Queue(), SPAWN.Queue()
    upgraders = (upgrade_in_process, (url, newer(0.2), barrier, upgraded))
    writers = (write_until_refused, (url, barrier, written))
    readers = (read_for_a_while, (url, barrier))
    processes = run_all(*[upgraders] * 8, *[writers] * 4, *[readers] * 2)
    ends = [written.get(timeout=60) for _ in range(4)]
    assert {end[1:] for end in ends} == {("0002", "0001")}, ends
    done = [upgraded.get(timeout=60) for _ in range(8)]
    assert sorted(done) == [("0001", "0002")] + [("0002", "0002")] * 7
    for process in processes:
        process.join(timeout=20)
        assert process.exitcode == 0
    assert run("SELECT count(*) FROM calls") == [(1 + sum(end[0] for end in ends),)]
    assert sum(end[0] for end in ends) > 0, "nobody wrote before the upgrade"
    with pytest.raises(LedgerTooNewError):
        AdaptiveCalibrator(url)
    run("UPDATE alembic_version SET version_num = '0001'")  # this program can look all the same
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.audit() == []


def test_an_older_ledger_is_refused_with_the_command_that_upgrades_it(url, newer):
    results = SPAWN.Queue()
    process = SPAWN.Process(target=open_as_newer, args=(url, newer(), results))
    process.start()
    kind, text = results.get(timeout=60)
    process.join()
    assert kind == LedgerOutdatedError.__name__
    assert "of revision 0001" in text
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
        results = SPAWN.Queue()
        process = SPAWN.Process(target=upgrade_in_process, args=(url, folder, None, results, 2.0))
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
    results = SPAWN.Queue()
    process = SPAWN.Process(target=upgrade_in_process, args=(url, newer(600), None, results))
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
    results = SPAWN.Queue()
    process = SPAWN.Process(target=upgrade_in_process, args=(url, folder, None, results))
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
    results = SPAWN.Queue()
    arguments = (postgres.url(database, user=role), newer(), None, results)
    process = SPAWN.Process(target=upgrade_in_process, args=arguments)
    process.start()
    assert LedgerPermissionError.__name__ in results.get(timeout=60)
    process.join()
    assert dump(url) == rows


def test_up_down_and_up_again_gives_the_same_tables(postgres, empty):
    place = find_place(postgres.url(empty))
    from calibration_ledger.storage.postgres_migrate import begun
    from calibration_ledger.storage.schema_check import schema_differences

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

    root = Path(__file__).parents[2]
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
