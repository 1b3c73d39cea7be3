"""Create the ledger.

Calls and adjustments are a model's history, numbered together by `seq`; calibrations are derived
from it and live beside it. On SQLite the tables are STRICT, and those that are read by range are
clustered by their key. The downgrade drops everything, history included.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBER = sa.Double().with_variant(sa.REAL(), "sqlite")
CLUSTERED = {"sqlite_strict": True, "sqlite_with_rowid": False}
LARGEST = "1.7976931348623157e308"
TIME_MAX = 253402300799999999
TOKENS_MAX = 2147483647
NUMBERS = (
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "total_absolute_error_ms",
    "total_predicted_ms",
)


def within(column, most):
    return f"{column} >= 0 AND {column} <= {most}"


def of_archived(column, bound):
    return f"({column} IS NOT NULL) = (kind = 'archived') AND ({column} IS NULL OR {bound})"


def checks(table, **texts):
    return [
        sa.CheckConstraint(text, name=op.f(f"ck_{table}_{name}")) for name, text in texts.items()
    ]


def calibration_columns():
    return [
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("alpha", NUMBER, nullable=False),
        *(sa.Column(name, NUMBER, nullable=False) for name in NUMBERS),
        sa.Column("sample_count", WHOLE, nullable=False),
        sa.Column("rule_state", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at", WHOLE, nullable=False),
    ]


def calibration_checks(table):
    return checks(
        table,
        rule="length(rule) >= 1 AND length(rule) <= 64",
        alpha="alpha > 0 AND alpha <= 1",
        **{name: within(name, LARGEST) for name in NUMBERS},
        sample_count="sample_count >= 0",
        updated_at=within("updated_at", TIME_MAX),
    )


def upgrade():
    create_models()
    create_calls()
    create_call_details()
    create_adjustments()
    create_calibrations()
    op.execute(readable_view(op.get_bind().dialect.name))


def create_models():
    op.create_table(
        "models",
        # On PostgreSQL a sequence of its own would be a thing more to grant; SQLite needs neither.
        sa.Column("id", WHOLE, sa.Identity(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("model", name=op.f("uq_models_model")),
        *checks("models", model="length(model) >= 1 AND length(model) <= 512"),
        sqlite_strict=True,
    )


def create_calls():
    op.create_table(
        "calls",
        sa.Column("model_id", WHOLE, nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.Column("called_at", WHOLE, nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("actual_ms", NUMBER, nullable=False),
        sa.Column("predicted_ms", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "seq", name=op.f("pk_calls")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_calls_model_id_models")),
        *checks(
            "calls",
            seq="seq >= 1",
            called_at=within("called_at", TIME_MAX),
            prompt_tokens=within("prompt_tokens", TOKENS_MAX),
            completion_tokens=within("completion_tokens", TOKENS_MAX),
            actual_ms=within("actual_ms", LARGEST),
            predicted_ms=within("predicted_ms", LARGEST),
        ),
        **CLUSTERED,
    )


def create_call_details():
    op.create_table(
        "call_details",
        sa.Column("model_id", WHOLE, nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.Column("request_key", sa.LargeBinary(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "seq", name=op.f("pk_call_details")),
        sa.UniqueConstraint(
            "model_id", "request_key", name=op.f("uq_call_details_model_id_request_key")
        ),
        sa.ForeignKeyConstraint(
            ["model_id", "seq"],
            ["calls.model_id", "calls.seq"],
            name=op.f("fk_call_details_calls"),
        ),
        *checks(
            "call_details",
            request_key="request_key IS NULL OR length(request_key) = 16",
            request_id="(request_id IS NULL) = (request_key IS NULL)",
            details="details IS NULL OR length(details) <= 4096",
        ),
        **CLUSTERED,
    )


def create_adjustments():
    op.create_table(
        "adjustments",
        sa.Column("model_id", WHOLE, nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recorded_at", WHOLE, nullable=False),
        *calibration_columns(),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("archived_head", sa.LargeBinary(), nullable=True),
        sa.Column("archived_through", WHOLE, nullable=True),
        sa.Column("archived_digest", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "seq", name=op.f("pk_adjustments")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_adjustments_model_id_models")
        ),
        *checks(
            "adjustments",
            seq="seq >= 1",
            kind="kind IN ('opened', 'imported', 'reset', 'recalibrated', 'archived')",
            recorded_at=within("recorded_at", TIME_MAX),
            note="note IS NULL OR length(note) <= 4096",
            archived_head=of_archived("archived_head", "length(archived_head) = 32"),
            archived_through=of_archived("archived_through", "archived_through >= seq"),
            archived_digest=of_archived("archived_digest", "length(archived_digest) = 32"),
        ),
        *calibration_checks("adjustments"),
        **CLUSTERED,
    )


def create_calibrations():
    op.create_table(
        "calibrations",
        sa.Column("model_id", WHOLE, nullable=False),
        *calibration_columns(),
        sa.Column("last_seq", WHOLE, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("model_id", name=op.f("pk_calibrations")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_calibrations_model_id_models")
        ),
        *calibration_checks("calibrations"),
        *checks("calibrations", last_seq="last_seq >= 1", head="length(head) = 32"),
        sqlite_strict=True,
    )


def readable_view(dialect):
    iso_time = {
        "sqlite": (
            "strftime('%Y-%m-%dT%H:%M:%S', calls.called_at / 1000000, 'unixepoch')"
            " || printf('.%06dZ', calls.called_at % 1000000)"
        ),
        "postgresql": (
            "to_char(timestamp 'epoch' + calls.called_at * interval '1 microsecond',"
            ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
        ),
    }[dialect]
    return sa.text(
        (
            f"CREATE VIEW readable_calls AS SELECT models.model AS model, calls.seq AS seq,"
            f" {iso_time} AS called_at, calls.prompt_tokens AS prompt_tokens,"
            " calls.completion_tokens AS completion_tokens, calls.actual_ms AS actual_ms,"
            " calls.predicted_ms AS predicted_ms,"
            " calls.actual_ms - calls.predicted_ms AS error_ms,"
            " call_details.request_id AS request_id, call_details.details AS details"
            " FROM calls JOIN models ON models.id = calls.model_id"
            " LEFT JOIN call_details ON call_details.model_id = calls.model_id"
            " AND call_details.seq = calls.seq"
        ).replace(":", "\\:")
    )


def downgrade():
    op.execute("DROP VIEW readable_calls")
    for table in ("calibrations", "adjustments", "call_details", "calls", "models"):
        op.drop_table(table)
