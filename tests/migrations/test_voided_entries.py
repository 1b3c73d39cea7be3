"""Revision 0002 on ledgers of 0001, made without today's program: rows, heads and bits stay."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.validation import request_key
from calibration_ledger.errors import LedgerCorruptError
from calibration_ledger.storage.migrate import (
    migration_connection,
    read_revision,
    run_migrations,
    schema_differences,
    upgrade,
)
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from support.by_hand import edited
from support.reference import dump_first as dump
from support.reference import lived_history

CALL = ("seq", "called_at", "prompt_tokens", "completion_tokens", "actual_ms", "predicted_ms")
STATE = (
    *("rule", "alpha", "ms_per_prompt_token", "ms_per_completion_token", "base_overhead_ms"),
    *("total_absolute_error_ms", "total_predicted_ms", "sample_count", "rule_state"),
)
LAST = ("note", "archived_head", "archived_through", "archived_digest")


def insert(connection, table, **values):
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    connection.execute(sa.text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)


def fields(entry, names):
    return {name: entry[name] for name in names}


def insert_model(connection, model_id, lived):
    """Write a history into the tables of revision 0001."""
    insert(connection, "models", id=model_id, model=lived.model)
    for entry in lived.entries:
        if entry["kind"] != "call":
            names = ("seq", "kind", "recorded_at", *STATE, "updated_at", *LAST)
            insert(connection, "adjustments", model_id=model_id, **fields(entry, names))
            continue
        insert(connection, "calls", model_id=model_id, **fields(entry, CALL))
        request_id, details = entry["request_id"], entry["details"]
        if request_id is not None or details is not None:
            key = None if request_id is None else request_key(request_id)
            more = fields(entry, ("seq", "request_id", "details"))
            insert(connection, "call_details", model_id=model_id, request_key=key, **more)
    state = lived.entries[-1]
    assert state["kind"] == "recalibrated"  # so it is the live state too
    of_state = fields(state, (*STATE, "updated_at"))
    last_seq, head = lived.last_seq, lived.head()
    insert(connection, "calibrations", model_id=model_id, **of_state, last_seq=last_seq, head=head)


def histories():
    """One with every kind of entry, and the same with its beginning archived."""
    whole, part = lived_history(), lived_history(0.3)
    whole.model, part.model = "whole", "archived"
    return [whole, part.archived(7)]


@pytest.fixture(name="older")
def _older(ledger):
    """A ledger of revision 0001 with these histories."""
    with migration_connection(ledger) as connection:
        if read_revision(connection) is not None:
            run_migrations(connection, "base")
        run_migrations(connection, "0001")
        for model_id, lived in enumerate(histories(), 1):
            insert_model(connection, model_id, lived)
    return ledger


def with_voids(rows):
    """Rows of 0001 as they must be in 0002."""
    return rows | {"adjustments": [(*row, None) for row in rows["adjustments"]]}


def with_outcomes(rows):
    """Rows of 0002 as they must be today."""
    return rows | {"calls": [(*row, None) for row in rows["calls"]]}


def heads_and_audit(ledger):
    """What today's program says of it."""
    upgrade(find_place(ledger), 20.0)
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.audit() == []
        return {head.model: head.digest for head in calibrator.heads()}


def refused(connection, kind, voids):
    """Whether the tables refuse such an entry."""
    places = ", ".join([":kind", *STATE, "updated_at", ":voids"])
    statement = (
        f"INSERT INTO adjustments (model_id, seq, recorded_at, kind, {', '.join(STATE)},"
        f" updated_at, voids) SELECT model_id, 99, 0, {places}"
        " FROM adjustments WHERE model_id = 1 AND seq = 1"
    )
    try:
        with connection.begin_nested():
            connection.execute(sa.text(statement), {"kind": kind, "voids": voids})
    except (sqlite3.IntegrityError, sa.exc.IntegrityError):
        return True
    return False


def test_a_ledger_of_0001_comes_up_with_its_rows_heads_and_bits(older):
    before = dump(older)
    done = upgrade(find_place(older), 20.0)
    assert (done.before, done.after) == ("0001", REVISION)
    assert dump(older) == with_outcomes(with_voids(before))
    assert schema_differences(find_place(older), 20.0) == []
    assert heads_and_audit(older) == {lived.model: lived.head().hex() for lived in histories()}
    with AdaptiveCalibrator(older) as calibrator:
        calibrator.record("whole", 1, 2.0)
        assert calibrator.audit() == []
    assert (done.backup is None) == ("://" in older)
    if done.backup is not None:
        assert dump(done.backup) == before


@pytest.mark.parametrize(("column", "value"), [("kind", "'odd'"), ("alpha", "2.0")])
def test_a_row_that_no_table_of_0001_allows_stops_the_upgrade_of_a_file(
    older, ledger_path, column, value
):
    sound = dump(older)
    edit = f"UPDATE adjustments SET {column} = {value} WHERE model_id = 1 AND seq = 10"
    edited(ledger_path, edit)
    before = dump(older)
    assert before != sound
    with pytest.raises(LedgerCorruptError, match=rf"not upgraded.*ck_adjustments_{column}"):
        upgrade(find_place(older), 20.0)
    assert dump(older) == before
    with closing(sqlite3.connect(ledger_path)) as connection, connection:
        connection.execute(
            f"UPDATE adjustments SET {column} = ? WHERE model_id = 1 AND seq = 10",
            (histories()[0].entries[9][column],),
        )
    assert dump(older) == sound
    assert heads_and_audit(older)


@pytest.mark.both
def test_up_down_and_up_again_keeps_every_row(older):
    before = dump(older)
    for revision in ("0002", "0001", "0002", "0001", "0002"):
        with migration_connection(older) as connection:
            run_migrations(connection, revision)
        assert dump(older) == (before if revision == "0001" else with_voids(before))
    assert heads_and_audit(older) == {lived.model: lived.head().hex() for lived in histories()}


def test_the_downgrade_refuses_a_ledger_with_voided_entries_and_changes_nothing(older):
    with migration_connection(older) as connection:
        run_migrations(connection, "0002")
        assert not refused(connection, "voided", "2..3,5")
        count = sa.text("SELECT count(voids) FROM adjustments")
        with pytest.raises(CommandError, match=r"has a voided entry, .* Nothing was changed"):
            run_migrations(connection, "0001")
        assert connection.execute(count).scalar_one() == 1
        assert read_revision(connection) == "0002"
        connection.execute(sa.text("DELETE FROM adjustments WHERE kind = 'voided'"))
    assert heads_and_audit(older)


def test_voided_entries_and_no_others_say_what_they_void(older):
    with migration_connection(older) as connection:
        run_migrations(connection, "0002")
        assert refused(connection, "voided", None)
        assert refused(connection, "voided", "")
        assert refused(connection, "voided", "2" * 65_537)
        assert refused(connection, "reset", "2")
        assert refused(connection, "avoided", "2")
        assert not refused(connection, "voided", "2" * 65_536)
        connection.execute(sa.text("DELETE FROM adjustments WHERE seq = 99"))
    assert heads_and_audit(older)


def test_a_view_and_rows_of_the_users_own_stay(older):
    """On SQLite the table is built anew, which a view of it must not mind."""
    with migration_connection(older) as connection:
        connection.execute(sa.text("CREATE VIEW resets AS SELECT seq, kind FROM adjustments"))
        for revision in ("0002", "0001", "0002"):
            run_migrations(connection, revision)
            found = connection.execute(sa.text("SELECT count(*) FROM resets")).scalar_one()
            assert found == sum(
                entry["kind"] != "call" for lived in histories() for entry in lived.entries
            )
        connection.execute(sa.text("DROP VIEW resets"))
    assert heads_and_audit(older)
