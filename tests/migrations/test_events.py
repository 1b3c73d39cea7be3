"""The revision that adds the events: old ledgers go on as they were, up, down and up again."""

import io

import pytest
import sqlalchemy as sa
from alembic.util import CommandError

from calibration_ledger import AdaptiveCalibrator, __version__
from calibration_ledger.storage.migrate import (
    migration_connection,
    run_migrations,
    schema_differences,
    upgrade,
)
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from support.reference import dump_first

BEFORE, HERE = "0006", "0007"
OLDER = [f"{number:04}" for number in range(1, int(HERE))]


def make(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r")
        calibrator.record("m", 2, 3.0)
        return calibrator.heads()


def bring(ledger, revision):
    with migration_connection(ledger) as connection:
        run_migrations(connection, revision)


@pytest.mark.both
@pytest.mark.parametrize("older", OLDER)
def test_the_upgrade_from_every_older_revision_is_noted(ledger, older):
    heads = make(ledger)
    rows = dump_first(ledger)
    bring(ledger, older)
    assert upgrade(find_place(ledger), 20.0).before == older
    assert schema_differences(find_place(ledger), 20.0) == []
    assert dump_first(ledger) == rows
    with AdaptiveCalibrator(ledger) as calibrator:
        (entry,) = calibrator.log()
        assert (entry.kind, entry.seq) == ("upgrade", 1)
        assert (entry.from_revision, entry.to_revision) == (older, REVISION)
        assert entry.version == __version__
        assert calibrator.heads() == heads
        assert calibrator.audit(heads=heads) == []
        out = io.StringIO()
        calibrator.export_ledger("jsonl", out)
        assert "event" not in out.getvalue()  # it is of this database, not of the history


@pytest.mark.both
def test_a_ledger_that_is_new_or_up_to_date_notes_no_upgrade(ledger):
    make(ledger)
    assert upgrade(find_place(ledger), 20.0).before == REVISION
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.log() == []


@pytest.mark.both
def test_the_downgrade_refuses_a_ledger_whose_imports_were_noted(ledger):
    text = "model,prompt_tokens,completion_tokens,actual_ms\nm,1,2,3\n"
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.import_calls("csv", io.StringIO(text))
        with pytest.raises(CommandError, match=r"has noted an import, .* Nothing was changed"):
            bring(ledger, BEFORE)
        assert [entry.kind for entry in calibrator.log()] == ["import"]
        assert calibrator.audit() == []


@pytest.mark.both
def test_up_down_and_up_again_keeps_every_row(ledger):
    heads = make(ledger)
    rows = dump_first(ledger)
    for revision in (BEFORE, HERE, BEFORE, "head"):
        bring(ledger, revision)
        with migration_connection(ledger) as connection:
            found = set(sa.inspect(connection).get_table_names())
        assert ({"events", "event_heads"} <= found) == (revision != BEFORE)
        assert dump_first(ledger) == rows
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.audit(heads=heads) == []
