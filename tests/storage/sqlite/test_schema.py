"""An audit minds the tables: what is missing or changed of them, and nothing of the user's own."""

import sqlite3
from contextlib import closing

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.sqlite.soundness import (
    damaged_parts,
    expected_parts,
    foreign_parts,
    read_parts,
)
from support.programs import ran


@pytest.fixture
def change(ledger_path):
    """Run statements on the file of a ledger, the schema open to them; gives what audits find."""

    def change(*statements):
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record("m", 1, 2.0, request_id="r")
            assert calibrator.audit() == []
        with closing(sqlite3.connect(ledger_path, isolation_level=None)) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            for statement in statements:
                connection.execute(statement)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            return [(f.model, f.seq, f.check, f.found) for f in calibrator.audit()]

    return change


def in_the_text_of(name, old, new):
    return f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}'"


def test_a_view_that_is_gone_is_found(change):
    found = change("DROP VIEW readable_calls")
    assert found == [(None, None, "storage", "view readable_calls is missing")]


def test_a_check_that_was_changed_is_found_and_both_texts_are_shown(change):
    ((_, _, check, text),) = change(in_the_text_of("calls", "seq >= 1", "seq >= 0"))
    assert check == "storage"
    assert text == (
        "table calls is not as this program made it: CONSTRAINT ck_calls_seq CHECK ( seq > = 0 ) "
        "in place of CONSTRAINT ck_calls_seq CHECK ( seq > = 1 )"
    )


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("calls", ", \n\tCONSTRAINT ck_calls_seq CHECK (seq >= 1)", ""),
        ("adjustments", "rule_state BLOB", "rule_state TEXT"),
        ("calibrations", " STRICT", ""),
        ("models", "model TEXT NOT NULL", "model TEXT"),
        ("readable_calls", "actual_ms - calls.predicted_ms", "actual_ms + calls.predicted_ms"),
        ("alembic_version", "NOT NULL", "NULL"),
    ],
)
def test_any_other_change_of_a_text_is_found(change, name, old, new):
    found = change(in_the_text_of(name, old, new))
    assert [(check, name in text) for _, _, check, text in found] == [("storage", True)]


def test_a_trigger_is_found_for_it_could_change_what_is_recorded(change):
    found = change(
        "CREATE TRIGGER kind AFTER INSERT ON calls BEGIN UPDATE calls SET actual_ms = 1.0; END"
    )
    assert found == [(None, None, "storage", "trigger kind is not the ledger's")]


def test_the_users_own_tables_indexes_views_and_statistics_are_not_minded(change, ledger_path):
    assert not change(
        "CREATE TABLE notes (note TEXT)",
        "CREATE INDEX by_time ON calls (called_at)",
        "CREATE VIEW slow AS SELECT * FROM readable_calls WHERE actual_ms > 1000",
        "ANALYZE",
    )
    with closing(sqlite3.connect(ledger_path)) as connection:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    assert foreign_parts(rows) == [
        "index by_time is not the ledger's",
        "table notes is not the ledger's",
        "view slow is not the ledger's",
    ]


def part(statement):
    return read_parts([("table", "t", "t", statement)])["t"]


def test_layout_quotes_and_the_order_of_constraints_are_no_difference():
    one = part(
        "CREATE TABLE t (\n\ta INTEGER NOT NULL, \n\tb TEXT, \n"
        "\tCONSTRAINT x CHECK (a IN (1, 2)), \n\tCONSTRAINT y CHECK (b <> ',')\n)\n\n STRICT"
    )
    other = part(
        'CREATE TABLE "t" (a INTEGER NOT NULL, b TEXT,'
        ' CONSTRAINT "y" CHECK ("b" <> \',\'), CONSTRAINT x CHECK (a IN (1,2))) STRICT'
    )
    assert one == other
    assert "CONSTRAINT x CHECK ( a IN ( 1 , 2 ) )" in one.clauses


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (b TEXT, a INTEGER NOT NULL)",
        "CREATE TABLE t (a INTEGER NOT NULL, b TEXT) STRICT",
        "CREATE TABLE t (a INTEGER, b TEXT)",
        "CREATE TABLE t (a INTEGER NOT NULL, b TEXT DEFAULT ' ')",
        "CREATE TABLE t (a INTEGER NOT NULL b TEXT)",
        "CREATE TABLE t (a INTEGER NOT NULL, b TEXT",
        'CREATE TABLE t (a INTEGER NOT NULL, "b TEXT)',
        "",
    ],
)
def test_everything_else_is_a_difference(statement):
    assert part(statement) != part("CREATE TABLE t (a INTEGER NOT NULL, b TEXT)")


def test_an_empty_schema_lacks_every_part():
    assert len(damaged_parts([])) == len(expected_parts())


def test_an_audit_imports_no_alembic(ledger_path):
    program = (
        "import sys; sys.modules['alembic'] = None\n"
        "from calibration_ledger import AdaptiveCalibrator\n"
        f"print(AdaptiveCalibrator({str(ledger_path)!r}).audit())"
    )
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
        done = ran(program)
        assert (done.stdout, done.stderr) == ("[]\n", "")
        assert calibrator.audit() == []


def test_a_constraint_may_stand_with_its_column_or_by_itself():
    """SQLite adds a column with its CHECK; whoever rebuilds the table writes it behind."""
    beside = part("CREATE TABLE t (a INTEGER, b TEXT CONSTRAINT ck CHECK (b = 'x'))")
    behind = part("CREATE TABLE t (a INTEGER, b TEXT, CONSTRAINT ck CHECK (b = 'x'))")
    assert beside == behind
    assert part("CREATE TABLE t (a INTEGER, b TEXT)") != behind
