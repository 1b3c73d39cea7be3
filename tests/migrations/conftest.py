"""Fixtures of the migration tests: a revision of tomorrow, in a copy of the migrations' folder."""

import shutil
from pathlib import Path

import pytest

from calibration_ledger.storage import migrate

ROOT = Path(__file__).parents[2]

REBUILDS_CALLS = '''"""Add a column to calls: on SQLite the table is built anew, with its rows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("DROP VIEW readable_calls")
    with op.batch_alter_table("calls", table_kwargs={"sqlite_with_rowid": False}) as batch:
        batch.add_column(sa.Column("provider", sa.Text(), nullable=True))
    op.execute("CREATE VIEW readable_calls AS SELECT * FROM calls")


def downgrade():
    op.execute("DROP VIEW readable_calls")
    with op.batch_alter_table("calls", table_kwargs={"sqlite_with_rowid": False}) as batch:
        batch.drop_column("provider")
    op.execute("CREATE VIEW readable_calls AS SELECT * FROM calls")
'''

FAILS_MIDWAY = REBUILDS_CALLS.replace(
    '    op.execute("CREATE VIEW readable_calls AS SELECT * FROM calls")\n\n\ndef downgrade',
    '    raise RuntimeError("the power went")\n\n\ndef downgrade',
)


@pytest.fixture(name="tomorrow")
def _tomorrow(tmp_path, monkeypatch):
    """A function that adds a revision 0002 to the migrations, as a newer program would bring."""

    def add(*, fails=False):
        text = FAILS_MIDWAY if fails else REBUILDS_CALLS
        folder = tmp_path / "migrations"
        shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "0002_add_provider.py").write_text(text)
        monkeypatch.setattr(migrate, "migrations_dir", lambda: folder)
        monkeypatch.setattr(migrate, "REVISION", "0002")

    return add
