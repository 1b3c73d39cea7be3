"""Revision 0006 on ledgers of 0005: every row stays, and ids of voided calls may come again."""

import io
import json

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerOutdatedError, RequestConflictError
from calibration_ledger.storage.migrate import (
    migration_connection,
    run_migrations,
    schema_differences,
    upgrade,
)
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.verbs import alias
from support.reference import dump, dump_first, look_into

BEFORE, HERE = "0005", "0006"


def migrate(ledger, *revisions):
    for revision in revisions:
        with migration_connection(ledger) as connection:
            run_migrations(connection, revision)


def voided_in(ledger):
    """The rows of the table, by model."""
    with look_into(ledger) as connection:
        return connection.execute(
            "SELECT models.model, voided.first_seq, voided.last_seq FROM voided"
            " JOIN models ON models.id = voided.model_id ORDER BY 1, 2"
        ).fetchall()


@pytest.fixture(name="older")
def _older(ledger):
    """A ledger of the revision before: with voidings, one of them voided again, and a merge."""
    with AdaptiveCalibrator(ledger) as calibrator:
        for i in range(8):
            calibrator.record("m", 10 * i, 500.0 + i, request_id=f"r{i}", details={"i": i})
        calibrator.record("n", 1, 2.0, request_id="r0")
        calibrator.void("m", seq=[(2, 3), 6])
        calibrator.void("m", seq=4)
        calibrator.void("m", seq=11)
        calibrator.void("m", seq=7)
        calibrator.record("other", 1, 2.0, request_id="x")
        calibrator.alias("other", "m", merge=True)
    migrate(ledger, BEFORE)
    return ledger


VOIDED = [("m", 2, 3), ("m", 6, 7), ("m", 11, 11)]


@pytest.mark.both
def test_an_older_ledger_is_told_and_upgraded_and_gives_ids_of_voided_calls_up(older):
    before = dump_first(older)
    with pytest.raises(LedgerOutdatedError, match=f"of revision {BEFORE}.*db upgrade"):
        AdaptiveCalibrator(older)
    done = upgrade(find_place(older), 20.0)
    assert (done.before, done.after) == (BEFORE, REVISION)
    assert schema_differences(find_place(older), 20.0) == []
    assert dump_first(older) == before
    assert [tuple(row) for row in voided_in(older)] == VOIDED
    with AdaptiveCalibrator(older) as calibrator:
        heads = calibrator.heads()
        with pytest.raises(RequestConflictError):
            calibrator.record("m", 1, 2.0, request_id="r2")
        calibrator.record("m", 1, 2.0, request_id="r0")
        assert calibrator.calibration("m").sample_count == 6
        with pytest.raises(RequestConflictError):
            calibrator.record("m", 0, 500.0, request_id="r0")
        assert calibrator.audit(heads=heads) == []


@pytest.mark.both
def test_calls_that_an_older_merge_learnt_anew_keep_their_ids(ledger, monkeypatch, make_call):
    """Its copies have none, and count: the same id again would be the same call twice."""
    copy_of = alias._Copy.of

    def of_older(model, row):
        copy = copy_of(model, row)
        return copy if model == "b" else copy._replace(call=copy.call._replace(request_id=None))

    monkeypatch.setattr(alias._Copy, "of", of_older)
    calls = [make_call(i, "b" if i == 1 else "m", request_id=f"r{i}") for i in range(6)]
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record_many(calls)
        calibrator.void("m", request_id="r4")
        calibrator.alias("b", "m", merge=True)
    monkeypatch.undo()
    migrate(ledger, BEFORE)
    upgrade(find_place(ledger), 20.0)
    with AdaptiveCalibrator(ledger) as calibrator:
        for call in calls:
            assert calibrator.record_once(call)[1] == (call.request_id == "r4"), "it was wrong"
        text = io.StringIO("".join(json_line(call) for call in calls))
        assert calibrator.import_calls("jsonl", text).already == 6
        calibrator.alias("b", None)
        assert calibrator.record_once(calls[2])[1] is False
        assert calibrator.audit() == []


def json_line(call):
    return f"{json.dumps(call.to_dict())}\n"


@pytest.mark.both
def test_the_view_says_what_is_voided_and_what_a_merge_took_over(older):
    upgrade(find_place(older), 20.0)
    with look_into(older) as connection:
        rows = connection.execute(
            "SELECT model, seq, voided FROM readable_calls ORDER BY model, seq"
        ).fetchall()
    found = {(model, seq): bool(voided) for model, seq, voided in rows}
    assert {key for key, voided in found.items() if voided} == {
        *(("m", seq) for seq in (2, 3, 6, 7)),
        ("other", 2),
    }
    assert len(found) == 11


@pytest.mark.both
def test_up_down_and_up_again_keeps_every_row(older):
    rows = dump_first(older)
    for revision in (HERE, BEFORE, HERE):
        migrate(older, revision)
        with migration_connection(older) as connection:
            found = set(sa.inspect(connection).get_table_names())
        assert ("voided" in found) == (revision == HERE)
        assert dump_first(older) == rows
    upgrade(find_place(older), 20.0)
    assert [tuple(row) for row in voided_in(older)] == VOIDED
    with AdaptiveCalibrator(older) as calibrator:
        assert calibrator.audit() == []


@pytest.mark.both
def test_the_downgrade_refuses_a_ledger_in_which_an_id_came_again_and_changes_nothing(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r")
        calibrator.void("m", request_id="r")
        calibrator.record("m", 1, 3.0, request_id="r")
        rows = dump(ledger)
        with pytest.raises(CommandError, match=r"has a request id of several calls, .* Nothing"):
            migrate(ledger, BEFORE)
        assert dump(ledger) == rows
        assert calibrator.audit() == []


def test_a_voiding_that_is_damaged_stays_a_finding_and_keeps_no_ledger_from_the_upgrade(older):
    with migration_connection(older) as connection:
        connection.exec_driver_sql("UPDATE adjustments SET voids = '4..2' WHERE seq = 13")
    before = dump_first(older)
    upgrade(find_place(older), 20.0)
    assert dump_first(older) == before
    assert voided_in(older) == []
    with AdaptiveCalibrator(older) as calibrator:
        assert "entry" in {finding.check for finding in calibrator.audit()}
