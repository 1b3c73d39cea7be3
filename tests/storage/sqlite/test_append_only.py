"""History is only ever inserted: what would change or delete a row of it is never issued.

`tests/storage/postgres/test_roles.py` shows the same on a server, by its grants and its own count
of rows.
"""

import io
import sqlite3
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator, Call

HISTORY = ("models", "calls", "call_details", "adjustments")


@pytest.fixture
def guarded(ledger_path):
    """A ledger that refuses to have its history touched."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r")
    with closing(sqlite3.connect(ledger_path)) as connection:
        for table in HISTORY:
            for verb in ("UPDATE", "DELETE"):
                connection.execute(
                    f"CREATE TRIGGER no_{verb}_{table} BEFORE {verb} ON {table}"
                    " BEGIN SELECT raise(ABORT, 'history was touched'); END"
                )
        connection.commit()
    return ledger_path


def test_nothing_that_a_ledger_does_touches_its_history(guarded, tmp_path):
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.record("from elsewhere", 1, 2.0, request_id="r")
        exported = io.StringIO()
        other.export_ledger("jsonl", exported)
    with AdaptiveCalibrator(guarded) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r")
        calibrator.record("m", 3, 4.0, details={"ttft_ms": 1})
        calibrator.record_many(
            [Call(model, i, 5, 9.0 + i, request_id=f"r{i}") for i in range(9) for model in "mno"]
        )
        calibrator.import_calls("ledger", io.StringIO(exported.getvalue()))
        header = "model,prompt_tokens,completion_tokens,actual_ms\n"
        calibrator.import_calls("csv", io.StringIO(f"{header}m,1,2,3\np,1,2,3\n"))
        calibrator.recalibrate(0.7)
        calibrator.reset("n")
        calibrator.reset()
        calibrator.backup(tmp_path / "copy.db")
        findings = calibrator.audit()
        assert len(findings) == 2 * len(HISTORY)
        assert all("is not the ledger's" in finding.found for finding in findings), "the triggers"


@pytest.mark.parametrize("table", HISTORY)
def test_the_guard_would_have_noticed(guarded, table):
    if table == "adjustments":
        statement = "UPDATE adjustments SET note = 'x'"
    else:
        statement = f"DELETE FROM {table}"
    with (
        closing(sqlite3.connect(guarded)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="history was touched"),
    ):
        connection.execute(statement)
