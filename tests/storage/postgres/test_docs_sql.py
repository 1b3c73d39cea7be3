"""The SQL of docs/postgresql.md, run as it stands."""

import re
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerPermissionError
from calibration_ledger.storage.migrate import schema_differences
from calibration_ledger.storage.place import find_place

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
    assert statements_with("CREATE SCHEMA")


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


def test_a_team_has_a_ledger_in_a_schema_of_its_own(postgres, database, run):
    """What Citus does besides is not seen here: the schema is one as any other."""
    run(*statements_with("CREATE SCHEMA"))
    assert "?options=-csearch_path%3Dteam_a`" in PAGE.read_text("utf-8")
    url = postgres.url(database, options="-csearch_path=team_a")
    with AdaptiveCalibrator(url) as calibrator:
        write_in_every_way(calibrator)
        read_in_every_way(calibrator)
    assert schema_differences(find_place(url), 5.0) == []
    assert run("SELECT count(*) FROM public.models", "SELECT count(*) FROM team_a.models") == [(4,)]
