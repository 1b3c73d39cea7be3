"""The revision that adds the aliases: old ledgers go on as they were, up, down and up again."""

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
from calibration_ledger.verbs.doctor import doctor_of
from support.reference import dump_first

BEFORE, HERE = "0004", "0005"


@pytest.fixture(name="older")
def _older(ledger):
    """A ledger of the revision before, with a model and a setting, and its rows."""
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r")
        calibrator.set_default_rule("kalman")
    with migration_connection(ledger) as connection:
        run_migrations(connection, BEFORE)
    return ledger, dump_first(ledger)


@pytest.mark.both
def test_an_older_ledger_is_told_examined_and_upgraded_and_has_no_aliases(older):
    ledger, rows = older
    with pytest.raises(LedgerOutdatedError, match=f"of revision {BEFORE}.*db upgrade"):
        AdaptiveCalibrator(ledger)
    facts = doctor_of(ledger).facts
    assert (facts.state, dict(facts.rows)["settings"], facts.aliases) == ("older", 1, ())
    assert "aliases" not in dict(facts.rows)
    assert upgrade(find_place(ledger), 20.0).before == BEFORE
    assert schema_differences(find_place(ledger), 20.0) == []
    assert dump_first(ledger) == rows
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.aliases() == []
        heads = calibrator.heads()
        calibrator.alias("new", "m")
        calibrator.record("new", 1, 2.0)
        calibrator.record("other", 1, 2.0)
        calibrator.alias("other", "m", merge=True)
        assert calibrator.audit(heads=heads) == []


@pytest.mark.both
def test_the_downgrade_refuses_a_ledger_that_has_aliases_and_changes_nothing(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.alias("a", "m")
        calibrator.alias("a", None)
        with (
            pytest.raises(CommandError, match=r"has 2 entries of aliases, .* Nothing was changed"),
            migration_connection(ledger) as connection,
        ):
            run_migrations(connection, BEFORE)
        assert calibrator.heads()[0].seq == 2
        assert calibrator.audit() == []


@pytest.mark.both
def test_up_down_and_up_again_keeps_every_row(older):
    ledger, rows = older
    for revision in (HERE, BEFORE, HERE):
        with migration_connection(ledger) as connection:
            run_migrations(connection, revision)
            found = set(sa.inspect(connection).get_table_names())
        assert ("aliases" in found) == (revision == HERE)
        assert dump_first(ledger) == rows
    upgrade(find_place(ledger), 20.0)
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.default_rule().rule.startswith("kalman")
        assert calibrator.audit() == []
