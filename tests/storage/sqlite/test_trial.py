"""The doctor says that something needs action wherever nothing can be recorded or read."""

import sqlite3
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import CalibrationLedgerError
from calibration_ledger.verbs.doctor import doctor_of

OBSTACLES = {
    "a trigger that refuses": "CREATE TRIGGER t BEFORE INSERT ON calls"
    " BEGIN SELECT RAISE(ABORT, 'no'); END",
    "a trigger that drops": "CREATE TRIGGER t BEFORE INSERT ON calls"
    " BEGIN SELECT RAISE(IGNORE); END",
    "a trigger that changes": "CREATE TRIGGER t AFTER INSERT ON calls"
    " BEGIN UPDATE calls SET actual_ms = actual_ms + 1"
    " WHERE model_id = new.model_id AND seq = new.seq; END",
    "a trigger on updates": "CREATE TRIGGER t BEFORE UPDATE ON calibrations"
    " BEGIN SELECT RAISE(IGNORE); END",
    "a trigger on new models": "CREATE TRIGGER t BEFORE INSERT ON models"
    " BEGIN SELECT RAISE(ABORT, 'no'); END",
    "a trigger on adjustments": "CREATE TRIGGER t BEFORE INSERT ON adjustments"
    " BEGIN SELECT RAISE(ABORT, 'no'); END",
    "a trigger on request ids": "CREATE TRIGGER t BEFORE INSERT ON call_details"
    " BEGIN SELECT RAISE(ABORT, 'no'); END",
    "a unique index": "CREATE UNIQUE INDEX i ON calls (prompt_tokens)",
    "an index that fails": "CREATE INDEX i ON calls (abs(CASE WHEN seq > 3"
    " THEN -9223372036854775807 - 1 ELSE 1 END))",
    "a generated column": "ALTER TABLE calls ADD COLUMN more INTEGER AS (seq * 2)",
    "a column that must be filled": "ALTER TABLE calls ADD COLUMN more INTEGER NOT NULL DEFAULT 1",
    "a check": "ALTER TABLE calls ADD COLUMN more INTEGER CHECK (seq < 4)",
    "the view is gone": "DROP VIEW readable_calls",
    "a name that is no UTF-8": "UPDATE models SET model = CAST(x'ed31' AS TEXT) WHERE id = 1",
}


@pytest.fixture(name="path")
def _path(tmp_path):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        for seconds in range(2):
            calibrator.record("m1", 2 * seconds, 1.0)
            calibrator.record("m2", 2 * seconds + 1, 1.0)
    return path


@pytest.mark.parametrize("what", OBSTACLES)
def test_what_is_in_the_way_of_recording_or_the_audit_needs_action(path, what):
    with closing(sqlite3.connect(path)) as shell:
        shell.execute(OBSTACLES[what])
        shell.commit()
    before = path.read_bytes()
    diagnosis = doctor_of(path)
    assert diagnosis.needs_action, diagnosis.facts
    assert diagnosis.facts.obstacles or diagnosis.facts.damage
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir() if "wal" in other.name] == []


@pytest.mark.parametrize("what", ["a sound ledger", "a table beside", "an index beside"])
def test_what_is_in_nobodys_way_needs_no_action(path, what):
    statements = {
        "a table beside": "CREATE TABLE notes (note)",
        "an index beside": "CREATE INDEX i ON calls (called_at)",
    }
    if what in statements:
        with closing(sqlite3.connect(path)) as shell:
            shell.execute(statements[what])
    assert doctor_of(path).facts.obstacles == ()
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.doctor().facts.obstacles == ()
        calibrator.record("m1", 1, 1.0)
        assert calibrator.doctor().facts.obstacles == ()
        assert calibrator.audit() == []


def test_a_ledger_without_a_model_has_no_obstacle(tmp_path):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator, pytest.raises(CalibrationLedgerError):
        calibrator.record_many([{"model": "m", "prompt_tokens": 1, "actual_ms": 1e308}] * 50)
    if path.exists():
        assert doctor_of(path).facts.obstacles == ()
