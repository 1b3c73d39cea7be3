"""What lies in a database is told by its tables and revision, the same for everybody who asks."""

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    LedgerOutdatedError,
    LedgerTooNewError,
    NotALedgerError,
)
from calibration_ledger.storage import contents
from calibration_ledger.storage.contents import CORE_TABLES, contents_of
from calibration_ledger.storage.schema import REVISION, TABLES, VERSION_TABLE
from support.by_hand import edited

TOMORROW = f"{int(REVISION) + 1:04d}"
OTHERS = frozenset({"notes"})


@pytest.mark.parametrize(
    ("tables", "revisions", "state"),
    [
        (frozenset(), [], "empty"),
        ({VERSION_TABLE}, [], "empty"),  # a maker died before its first commit
        ({VERSION_TABLE}, ["f00"], "foreign"),  # another program's Alembic
        (OTHERS, [], "foreign"),
        (TABLES - {"calls"}, [REVISION], "foreign"),
        (TABLES, [], "foreign"),
        (TABLES, [REVISION, TOMORROW], "foreign"),
        (TABLES, ["0000"], "foreign"),  # they count from 0001
        (TABLES, [REVISION], "current"),
        (TABLES | OTHERS, [REVISION], "current"),
        (TABLES, [TOMORROW], "newer"),
        (CORE_TABLES, [TOMORROW], "newer"),  # a table less than today
        (CORE_TABLES, ["f00"], "foreign"),
        (TABLES, ["f00"], "newer"),
        (TABLES, [b"\0"], "newer"),
    ],
)
def test_a_ledger_is_told_from_everything_else(tables, revisions, state):
    assert contents_of(tables, revisions).state == state


def test_a_ledger_of_yesterday_is_older(monkeypatch):
    monkeypatch.setattr(contents, "REVISION", TOMORROW)
    assert contents_of(TABLES, [REVISION]) == contents.Contents("older", REVISION)


@pytest.mark.parametrize(
    ("tables", "revisions", "error"),
    [
        (OTHERS, [], NotALedgerError),
        (TABLES, ["0000"], NotALedgerError),
        (TABLES, [TOMORROW], LedgerTooNewError),
    ],
)
def test_what_this_program_cannot_use_is_refused(tables, revisions, error):
    with pytest.raises(error, match=r"calls\.db"):
        contents_of(tables, revisions).check("calls.db")


def test_an_older_ledger_is_refused_with_what_upgrades_it(monkeypatch):
    monkeypatch.setattr(contents, "REVISION", TOMORROW)
    with pytest.raises(LedgerOutdatedError, match=r"calib --ledger calls\.db db upgrade"):
        contents_of(TABLES, [REVISION]).check("calls.db")


@pytest.mark.parametrize(("tables", "revisions"), [(frozenset(), []), (TABLES, [REVISION])])
def test_what_is_empty_or_ours_is_not_refused(tables, revisions):
    contents_of(tables, revisions).check("calls.db")


def test_a_name_of_a_table_that_is_no_text_is_told_like_any_other(tmp_path):
    """A flipped bit makes bytes of it."""
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 1.0)
    edited(
        path,
        "PRAGMA writable_schema=ON",
        "UPDATE sqlite_master SET name = CAST(name AS BLOB) WHERE name = 'alembic_version'",
    )
    with pytest.raises(NotALedgerError, match="b'alembic_version'"):
        AdaptiveCalibrator(path)
