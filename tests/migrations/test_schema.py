"""What the migrations make is what the program describes: the whole schema, texts included."""

import sqlite3
from contextlib import closing

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from calibration_ledger.storage.migrate import begun_file, run_migrations
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import LEDGER_TABLES, REVISION, TABLES, readable_view
from calibration_ledger.storage.sqlite.soundness import LIST_SCHEMA, expected_parts, read_parts
from calibration_ledger.storage.statements import INSERTED
from calibration_ledger.storage.tables import metadata, version
from support.newer_program import TOMORROW


def schema_of(path):
    """Every table, index and view: its statement without its layout."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    connection.close()
    return {(kind, name): " ".join((sql or "").split()) for kind, name, sql in rows}


def migrate(path, *revisions):
    for revision in revisions:
        with begun_file(find_place(path), 5.0) as connection:
            run_migrations(connection, revision)


@pytest.fixture(name="described")
def _described(tmp_path):
    """A database made from `storage.tables`, without Alembic."""
    path = tmp_path / "described.db"
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        metadata.create_all(connection)
        connection.exec_driver_sql(readable_view("sqlite"))
    engine.dispose()
    return path


def without_alembic(schema):
    return {key: text for key, text in schema.items() if "alembic_version" not in str(key)}


def test_the_migrations_make_what_the_program_describes(tmp_path, described):
    path = tmp_path / "migrated.db"
    migrate(path, "head")
    assert without_alembic(schema_of(path)) == schema_of(described)


def test_statements_name_the_tables_and_columns_that_there_are():
    assert tuple(metadata.tables) == LEDGER_TABLES
    assert {*metadata.tables, version.name} == TABLES
    columns = {name: tuple(table.c.keys()) for name, table in metadata.tables.items()}
    # A calibration is marked apart from what else is known of it.
    assert columns["calibrations"][-1] == "alias_seq"
    columns["calibrations"] = columns["calibrations"][:-1]
    assert {name: columns[name] for name in INSERTED} == INSERTED
    assert columns["models"] == ("id", "model")


def test_what_an_audit_expects_is_what_the_migrations_make(tmp_path):
    """Alembic's own table included: an audit of a sound ledger finds nothing of its tables."""
    path = tmp_path / "migrated.db"
    migrate(path, "head")
    with sqlite3.connect(path) as connection:
        assert read_parts(connection.execute(LIST_SCHEMA)) == expected_parts()
    connection.close()


def test_up_down_and_up_again_makes_the_same(tmp_path):
    path = tmp_path / "ledger.db"
    migrate(path, "head")
    first = schema_of(path)
    migrate(path, "base")
    assert {name for kind, name in schema_of(path) if kind == "table"} == {"alembic_version"}
    migrate(path, "head")
    assert schema_of(path) == first


def test_the_view_survives_a_table_that_is_built_anew_up_down_and_up(tmp_path, tomorrow):
    tomorrow()
    path = tmp_path / "ledger.db"
    migrate(path, REVISION)
    before = schema_of(path)
    for revision in (TOMORROW, REVISION, TOMORROW):
        migrate(path, revision)
        after = schema_of(path)
        assert after["view", "readable_calls"] == before["view", "readable_calls"]
        assert ("provider" in after["table", "calls"]) == (revision == TOMORROW)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT * FROM readable_calls").fetchall() == []


def test_alembic_itself_finds_no_difference(tmp_path):
    path = tmp_path / "ledger.db"
    migrate(path, "head")
    engine = sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_tables_are_strict_and_ranges_are_clustered(tmp_path):
    path = tmp_path / "ledger.db"
    migrate(path, "head")
    schema = schema_of(path)
    for table in ("models", "calls", "call_details", "adjustments", "calibrations"):
        assert "STRICT" in schema["table", table]
    for table in ("calls", "call_details", "adjustments"):
        assert "WITHOUT ROWID" in schema["table", table]


def test_every_constraint_has_a_name(tmp_path):
    path = tmp_path / "ledger.db"
    migrate(path, "head")
    for (kind, name), text in schema_of(path).items():
        if kind == "table" and name != "alembic_version":
            constraints = sum(text.count(word) for word in ("CHECK (", "PRIMARY KEY", "UNIQUE ("))
            constraints += text.count("FOREIGN KEY")
            assert text.count("CONSTRAINT ") == constraints, name
