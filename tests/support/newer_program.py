"""A program of tomorrow: its revision builds `calls` anew, on both databases.

It is the migration that hurts most: whoever writes meanwhile would write to a table on its way
out, and rows of `call_details` refer to rows of it. Going back is as thorough.
"""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.storage import migrate
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

TODAY = REVISION
TOMORROW = f"{int(TODAY) + 1:04d}"

REHEARSAL = '''"""Build calls anew, with a column more; the downgrade takes it away again.

Revision: {tomorrow}, after {today}.
"""

import time

import sqlalchemy as sa
from alembic import op

revision = "{tomorrow}"
down_revision = "{today}"
branch_labels = None
depends_on = None


def rebuild(change, columns):
    with op.get_context().opts["without_view"]():
        if op.get_bind().dialect.name == "sqlite":
            kept = {{"sqlite_with_rowid": False, "sqlite_strict": True}}
            with op.batch_alter_table("calls", table_kwargs=kept) as batch:
                change(batch)
        else:
            rebuild_on_postgres(change, columns)


def rebuild_on_postgres(change, columns):
    op.execute("CREATE TABLE calls_new (LIKE calls INCLUDING ALL)")
    with op.batch_alter_table("calls_new") as batch:
        change(batch)
    op.execute(f"INSERT INTO calls_new ({{columns}}) SELECT {{columns}} FROM calls")
    op.drop_constraint("fk_call_details_calls", "call_details")
    op.drop_table("calls")
    op.rename_table("calls_new", "calls")
    op.execute("ALTER INDEX calls_new_pkey RENAME TO pk_calls")
    op.execute("ALTER INDEX calls_new_model_id_outcome_seq_idx RENAME TO ix_calls_outcome")
    op.create_foreign_key("fk_calls_model_id_models", "calls", "models", ["model_id"], ["id"])
    key = ["model_id", "seq"]
    op.create_foreign_key("fk_call_details_calls", "call_details", "calls", key, key)


def nap(seconds):
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"SELECT pg_sleep({{seconds}})")
    else:
        time.sleep(seconds)


COLUMNS = (
    "model_id, seq, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms, outcome"
)


def upgrade():
    rebuild(lambda batch: batch.add_column(sa.Column("provider", sa.Text())), COLUMNS)
    nap({seconds})
    {more}


def downgrade():
    rebuild(lambda batch: batch.drop_column("provider"), COLUMNS)
'''


def make_migrations(folder: Path, seconds: float = 0.0, more: str = "pass") -> Path:
    """The migrations of the newer program, in a folder inside this one; gives it.

    Args:
        folder: where to make it.
        seconds: how long the upgrade stands still when it has done its work.
        more: a statement that it runs after that.
    """
    made = folder / "migrations"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(migrate.migrations_dir(), made, ignore=ignored, dirs_exist_ok=True)
    text = REHEARSAL.format(today=TODAY, tomorrow=TOMORROW, seconds=seconds, more=more)
    (made / "versions" / f"{TOMORROW}_build_calls_anew.py").write_text(text)
    return made


def become_newer(folder: Path) -> None:
    """Make this process a program of tomorrow, for the rest of its life."""
    for name, module in list(sys.modules.items()):
        if name.startswith("calibration_ledger") and hasattr(module, "REVISION"):
            module.REVISION = TOMORROW  # type: ignore[attr-defined]  # just looked
    migrate.migrations_dir = lambda: Path(folder)


def go_back(ledger: str, folder: Path) -> None:
    """Bring a ledger to today's revision, as `alembic downgrade` would; this process is newer."""
    become_newer(folder)
    with migrate.migration_connection(ledger) as connection:
        if migrate.read_revision(connection) == TOMORROW:
            migrate.run_migrations(connection, TODAY)


def upgrade_in_process(
    ledger: str, folder: Path, barrier: Barrier | None, results: Queue[Any], timeout_s: float = 30.0
) -> None:
    """Upgrade as the newer program; tells what was found, what is there now, and the backup."""
    become_newer(folder)
    if barrier is not None:
        barrier.wait()
        time.sleep(random.random() / 2)
    try:
        done = migrate.upgrade(find_place(ledger), timeout_s)
        results.put((done.before, done.after, done.backup))
    except BaseException as error:  # noqa: BLE001 - told to the parent
        results.put(repr(error))
