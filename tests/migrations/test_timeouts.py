"""Revision 0003 on ledgers of 0002: every row stays, and time-outs have a place."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerOutdatedError
from calibration_ledger.storage.migrate import (
    migration_connection,
    run_migrations,
    schema_differences,
    upgrade,
)
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from support.reference import dump_first as dump
from support.reference import look_into

UP_AND_DOWN = ("0002", REVISION, "0002")


@pytest.fixture(name="older")
def _older(ledger):
    """A ledger of revision 0002 with calls and adjustments."""
    with AdaptiveCalibrator(ledger) as calibrator:
        for i in range(6):
            calibrator.record("m", 10 * i, 500.0 + i, request_id=f"r{i}", details={"i": i})
        calibrator.recalibrate(0.3)
        calibrator.record("n", 1, 2.0)
    migrate(ledger, "0002")
    return ledger


def migrate(ledger, *revisions):
    for revision in revisions:
        with migration_connection(ledger) as connection:
            run_migrations(connection, revision)


def with_outcomes(rows):
    """Rows of 0002 as they must be afterwards."""
    return rows | {"calls": [(*row, None) for row in rows["calls"]]}


def names_in_the_view(ledger):
    with look_into(ledger) as connection:
        return [name for name, *_ in connection.execute("SELECT * FROM readable_calls").description]


@pytest.mark.both
def test_a_ledger_of_0002_comes_up_and_takes_time_outs(older):
    before = dump(older)
    with pytest.raises(LedgerOutdatedError, match="0002"):
        AdaptiveCalibrator(older).record("m", 1, 2.0)
    done = upgrade(find_place(older), 20.0)
    assert (done.before, done.after) == ("0002", REVISION)
    assert dump(older) == with_outcomes(before)
    assert schema_differences(find_place(older), 20.0) == []
    with AdaptiveCalibrator(older) as calibrator:
        calibrator.record("m", 1, 3000.0, outcome="timeout")
        assert [call.outcome for call in calibrator.calls("m")] == ["ok"] * 6 + ["timeout"]
        assert calibrator.audit() == []


@pytest.mark.both
def test_up_down_and_up_again_keeps_every_row_and_the_view(older):
    before = dump(older)
    for revision in UP_AND_DOWN:
        migrate(older, revision)
        assert dump(older) == (before if revision == "0002" else with_outcomes(before))
        assert ("outcome" in names_in_the_view(older)) == (revision != "0002")
    upgrade(find_place(older), 20.0)
    assert schema_differences(find_place(older), 20.0) == []


@pytest.mark.both
def test_the_downgrade_refuses_a_ledger_with_time_outs_and_changes_nothing(older):
    upgrade(find_place(older), 20.0)
    with AdaptiveCalibrator(older) as calibrator:
        calibrator.record("m", 1, 3000.0, outcome="timeout")
    before = dump(older)
    with pytest.raises(CommandError, match=r"has a time-out, .* Nothing was changed"):
        migrate(older, "0002")
    assert dump(older) == before
    with AdaptiveCalibrator(older) as calibrator:
        assert calibrator.audit() == []


@pytest.mark.both
def test_no_other_outcome_fits_into_the_table(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0)
    with migration_connection(ledger) as connection:
        for outcome in ("", "ok", "Timeout", "timeout ", "error"):
            with (
                pytest.raises((sa.exc.IntegrityError, sqlite3.IntegrityError)),
                connection.begin_nested(),
            ):
                connection.execute(sa.text("UPDATE calls SET outcome = :x"), {"x": outcome})


@pytest.mark.both
def test_a_view_of_the_users_own_stands_on_the_readable_one_through_the_upgrade(older):
    with migration_connection(older) as connection:
        connection.execute(sa.text("CREATE VIEW mine AS SELECT model, seq FROM readable_calls"))
    upgrade(find_place(older), 20.0)
    with migration_connection(older) as connection:
        assert len(connection.execute(sa.text("SELECT * FROM mine")).fetchall()) == 7
        connection.execute(sa.text("DROP VIEW mine"))


def test_time_outs_are_counted_without_a_look_at_the_other_calls(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
        text = calibrator._ledger.backend.sql.timeouts
    with closing(sqlite3.connect(ledger_path)) as connection:
        ((*_, plan),) = connection.execute(f"EXPLAIN QUERY PLAN {text}", (1, 0, 9)).fetchall()
    assert "COVERING INDEX ix_calls_outcome" in plan
