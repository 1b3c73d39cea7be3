"""The migrations as files: one line of history that imports nothing of today's program."""

import ast
import re
from pathlib import Path

from alembic.script import ScriptDirectory

from calibration_ledger.storage.migrate import alembic_config
from calibration_ledger.storage.schema import REVISION

VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"


def scripts():
    return list(ScriptDirectory.from_config(alembic_config()).walk_revisions())


def test_there_is_one_head_and_the_program_describes_it():
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [REVISION]


def test_revisions_are_four_digits_in_a_row():
    assert sorted(script.revision for script in scripts()) == [
        f"{number:04d}" for number in range(1, len(scripts()) + 1)
    ]


def test_each_follows_the_one_before_it():
    for script in scripts():
        before = int(script.revision) - 1
        assert script.down_revision == (f"{before:04d}" if before else None)


def test_files_are_named_by_revision_and_slug():
    for file in VERSIONS.glob("*.py"):
        assert re.fullmatch(r"\d{4}_[a-z0-9_]+\.py", file.name), file.name


def test_migrations_import_only_alembic_and_sqlalchemy():
    for file in VERSIONS.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= {"alembic", "sqlalchemy"}, file.name


def test_every_migration_says_what_it_does_and_can_be_undone():
    for file in VERSIONS.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        assert len(ast.get_docstring(tree) or "") > 40, file.name
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {"upgrade", "downgrade"} <= functions, file.name
