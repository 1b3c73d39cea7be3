"""Add time-outs: calls that were given up.

`outcome` says how a call ended: NULL for one that came to its end, `timeout` for one that was given
up after `actual_ms`. An index of the latter alone counts them without a look at the others. No row
changes. The downgrade refuses a ledger that has time-outs; without them it loses nothing.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OUTCOME = "outcome IS NULL OR outcome = 'timeout'"
HAS_OUTCOME = sa.text("outcome IS NOT NULL")
VIEW = (
    " AS SELECT models.model AS model, calls.seq AS seq,"
    " {iso_time} AS called_at, calls.prompt_tokens AS prompt_tokens,"
    " calls.completion_tokens AS completion_tokens, calls.actual_ms AS actual_ms,"
    " calls.predicted_ms AS predicted_ms,"
    " calls.actual_ms - calls.predicted_ms AS error_ms,"
    " call_details.request_id AS request_id, call_details.details AS details{more}"
    " FROM calls JOIN models ON models.id = calls.model_id"
    " LEFT JOIN call_details ON call_details.model_id = calls.model_id"
    " AND call_details.seq = calls.seq"
)
ISO_TIME = {
    "sqlite": (
        "strftime('%Y-%m-%dT%H:%M:%S', calls.called_at / 1000000, 'unixepoch')"
        " || printf('.%06dZ', calls.called_at % 1000000)"
    ),
    "postgresql": (
        "to_char(timestamp 'epoch' + calls.called_at * interval '1 microsecond',"
        ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
    ),
}


def is_sqlite():
    return op.get_bind().dialect.name == "sqlite"


def view(create, more):
    iso_time = ISO_TIME[op.get_bind().dialect.name]
    return f"{create} readable_calls{VIEW.format(iso_time=iso_time, more=more)}"


def upgrade():
    with_outcome = ", coalesce(calls.outcome, 'ok') AS outcome"
    if is_sqlite():
        # The CHECK comes with the column: SQLite adds none to a column that is there.
        op.execute(
            "ALTER TABLE calls ADD COLUMN outcome TEXT"
            f" CONSTRAINT ck_calls_outcome CHECK ({OUTCOME})"
        )
        op.execute("DROP VIEW IF EXISTS readable_calls")
        op.get_bind().exec_driver_sql(view("CREATE VIEW", with_outcome))
    else:
        op.add_column("calls", sa.Column("outcome", sa.Text(), nullable=True))
        op.create_check_constraint(op.f("ck_calls_outcome"), "calls", sa.text(OUTCOME))
        # Replaced: so it stays readable for whom it is, and other views may stand on it.
        op.get_bind().exec_driver_sql(view("CREATE OR REPLACE VIEW", with_outcome))
    op.create_index(
        op.f("ix_calls_outcome"),
        "calls",
        ["model_id", "outcome", "seq"],
        sqlite_where=HAS_OUTCOME,
        postgresql_where=HAS_OUTCOME,
    )


def downgrade():
    refuse_timeouts()
    op.drop_index("ix_calls_outcome", "calls")
    with op.get_context().opts["without_view"](view("CREATE VIEW", "")):
        if is_sqlite():
            op.execute("ALTER TABLE calls DROP COLUMN outcome")
        else:
            op.drop_constraint("ck_calls_outcome", "calls")
            op.drop_column("calls", "outcome")


def refuse_timeouts():
    query = sa.text("SELECT count(*) FROM calls WHERE outcome IS NOT NULL")
    found = op.get_bind().execute(query).scalar_one()
    if found:
        calls = "a time-out" if found == 1 else f"{found} time-outs"
        raise CommandError(
            f"this ledger has {calls}, and revision {down_revision} knows no such calls. Nothing "
            f"was changed: stay at revision {revision}, or restore a backup of the older one."
        )
