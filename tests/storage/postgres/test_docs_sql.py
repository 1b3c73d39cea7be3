"""The SQL of docs/postgresql.md, run as it stands: the grants for real, Citus with stand-ins."""

import re
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerPermissionError
from calibration_ledger.storage.schema import TABLES

from .test_roles import NEEDED_TO_WRITE, READER, WRITER, read_in_every_way, write_in_every_way

PAGE = Path(__file__).parents[3] / "docs" / "postgresql.md"
BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def statements_with(word):
    """The statements of the one block that has a word in it."""
    blocks = [block for block in BLOCK.findall(PAGE.read_text("utf-8")) if word in block]
    (block,) = blocks
    return [statement.strip() for statement in block.split(";") if statement.strip()]


def test_every_block_of_sql_is_run_here():
    assert len(BLOCK.findall(PAGE.read_text("utf-8"))) == 2
    assert statements_with("GRANT")
    assert statements_with("create_distributed_table")


@pytest.fixture
def roles(postgres, database, run):
    """The URLs of two roles that have what the page grants them, and nothing besides."""
    names = {f"calib_{what}": postgres.role(what) for what in ("writer", "reader")}
    run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for statement in statements_with("GRANT"):
        for name, role in names.items():
            statement = statement.replace(name, role)  # noqa: PLW2901 - the same one, for here
        run(statement)
    return {what: postgres.url(database, user=role) for what, role in names.items()}


def test_the_grants_are_all_that_it_takes_to_record(roles, calibrator):
    with AdaptiveCalibrator(roles["calib_writer"]) as writer:
        write_in_every_way(writer)
        read_in_every_way(writer)
    with AdaptiveCalibrator(roles["calib_reader"]) as reader:
        read_in_every_way(reader)
        with pytest.raises(LedgerPermissionError, match="listed in docs/postgresql"):
            reader.record("m", 1, 2.0)


def test_the_grants_are_no_more_than_it_takes(roles, run):
    """`test_roles.py` shows that each of them is needed."""
    granted = {
        name: set(
            run(
                "SELECT privilege_type::text, table_name::text"
                f" FROM information_schema.role_table_grants WHERE grantee LIKE '{what}\\_%'"
            )
        )
        for name, what in (("calib_writer", "writer"), ("calib_reader", "reader"))
    }
    assert granted == {"calib_writer": set(WRITER), "calib_reader": set(READER)}
    assert set(NEEDED_TO_WRITE) < set(WRITER)


def test_the_sharding_statements_fit_the_tables(run, url):
    """With stand-ins that ask what Citus does: it is not here, and this does not show it works."""
    run(
        "CREATE TABLE placed (name regclass PRIMARY KEY, spread_by text)",
        """
        CREATE FUNCTION create_reference_table(name regclass) RETURNS void LANGUAGE sql AS $$
            INSERT INTO placed VALUES (name, NULL) $$
        """,
        """
        CREATE FUNCTION create_distributed_table(
            name regclass, spread_by text, colocate_with text DEFAULT NULL
        ) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM pg_index WHERE indrelid = name AND indisunique AND spread_by <> ALL (
                    SELECT attname FROM pg_attribute
                    WHERE attrelid = name AND attnum = ANY (indkey)
                )
            ) THEN RAISE EXCEPTION 'a unique index of % lacks %', name, spread_by; END IF;
            IF EXISTS (
                SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = name
                AND confrelid NOT IN (SELECT placed.name FROM placed)
            ) THEN RAISE EXCEPTION '% refers to what is not placed yet', name; END IF;
            IF colocate_with IS NOT NULL AND NOT EXISTS (
                SELECT FROM placed WHERE placed.name = colocate_with::regclass
                AND placed.spread_by IS NOT NULL
            ) THEN RAISE EXCEPTION '% is not spread yet', colocate_with; END IF;
            INSERT INTO placed VALUES (name, spread_by);
        END $$
        """,
    )
    run(*statements_with("create_distributed_table"))
    placed = dict(run("SELECT name::text, spread_by FROM placed"))
    assert set(placed) == set(TABLES)
    everywhere = {name for name, spread_by in placed.items() if spread_by is None}
    assert everywhere == {"models", "alembic_version"}
    assert {placed[name] for name in set(placed) - everywhere} == {"model_id"}
