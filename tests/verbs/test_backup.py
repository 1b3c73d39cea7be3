"""Backups: only of a ledger, and a calibrator itself is copied in no other way."""

import copy
import dataclasses
import pickle
import sqlite3
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator, LedgerNotFoundError, NotCopiableError
from calibration_ledger.errors import NotALedgerError


@pytest.fixture(name="half_made")
def _half_made(ledger_path):
    """What a process leaves that is killed while it makes a ledger."""
    with closing(sqlite3.connect(ledger_path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return ledger_path


def test_what_is_no_ledger_yet_is_not_backed_up(half_made, tmp_path):
    with AdaptiveCalibrator(half_made) as calibrator:
        with pytest.raises(LedgerNotFoundError, match="no ledger yet: nothing to back up"):
            calibrator.backup(tmp_path / "copy.db")
        assert not list(tmp_path.glob("copy*"))
        calibrator.record("m", 1, 5.0)
        calibrator.backup(tmp_path / "copy.db")
        assert calibrator.audit() == []
    with AdaptiveCalibrator(tmp_path / "copy.db") as copied:
        assert copied.audit() == []


def test_a_database_that_came_to_the_ledgers_place_is_not_backed_up(ledger_path, tmp_path):
    calibrator = AdaptiveCalibrator(ledger_path)
    with closing(sqlite3.connect(ledger_path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(NotALedgerError):
        calibrator.backup(tmp_path / "copy.db")
    assert not list(tmp_path.glob("copy*"))


@dataclasses.dataclass
class Config:
    calibrator: AdaptiveCalibrator


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, pickle.dumps, lambda one: dataclasses.asdict(Config(one))],
    ids=["copy", "deepcopy", "pickle", "asdict"],
)
def test_a_calibrator_says_that_it_cannot_be_copied_and_works_on(ledger_path, copied):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 5.0)
        with pytest.raises(TypeError, match=r"share this one .* or open another on its ledger"):
            copied(calibrator)
        with pytest.raises(NotCopiableError):
            copied(calibrator)
        calibrator.record("m", 1, 5.0)
        assert calibrator.audit() == []
