"""Add the voided kind.

A voided entry names earlier entries of its model, in `voids`, that count no longer. SQLite cannot
change a CHECK, so the table is built anew there: by way of a temporary copy, for with a rename a
view that somebody made of it would have to go. Every row stays as it was, and adjustments are few.
The downgrade refuses a ledger that has voided entries; without them it loses nothing.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBER = sa.Double().with_variant(sa.REAL(), "sqlite")
LARGEST = "1.7976931348623157e308"
TIME_MAX = 253402300799999999
NUMBERS = (
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "total_absolute_error_ms",
    "total_predicted_ms",
)
KINDS_BEFORE = "kind IN ('opened', 'imported', 'reset', 'recalibrated', 'archived')"
KINDS = "kind IN ('opened', 'imported', 'reset', 'recalibrated', 'archived', 'voided')"


def within(column, most):
    return f"{column} >= 0 AND {column} <= {most}"


def only_of(kind, column, bound):
    return f"({column} IS NOT NULL) = (kind = '{kind}') AND ({column} IS NULL OR {bound})"


VOIDS = only_of("voided", "voids", "(length(voids) >= 1 AND length(voids) <= 65536)")


def upgrade():
    if op.get_bind().dialect.name == "sqlite":
        build_anew(KINDS, [sa.Column("voids", sa.Text(), nullable=True)], {"voids": VOIDS})
        return
    with op.batch_alter_table("adjustments") as batch:
        batch.add_column(sa.Column("voids", sa.Text(), nullable=True))
        batch.drop_constraint(op.f("ck_adjustments_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_adjustments_kind"), sa.text(KINDS))
        batch.create_check_constraint(op.f("ck_adjustments_voids"), sa.text(VOIDS))


def downgrade():
    refuse_voided()
    if op.get_bind().dialect.name == "sqlite":
        build_anew(KINDS_BEFORE, [], {})
        return
    with op.batch_alter_table("adjustments") as batch:
        batch.drop_constraint(op.f("ck_adjustments_voids"), type_="check")
        batch.drop_constraint(op.f("ck_adjustments_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_adjustments_kind"), sa.text(KINDS_BEFORE))
        batch.drop_column("voids")


def refuse_voided():
    query = sa.text("SELECT count(*) FROM adjustments WHERE kind = 'voided'")
    found = op.get_bind().execute(query).scalar_one()
    if found:
        entries = "a voided entry" if found == 1 else f"{found} voided entries"
        raise CommandError(
            f"this ledger has {entries}, and revision {down_revision} knows no such kind. Nothing "
            f"was changed: stay at revision {revision}, or restore a backup of the older one."
        )


def build_anew(kinds, new_columns, new_checks):
    columns = [
        sa.Column("model_id", WHOLE, nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recorded_at", WHOLE, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("alpha", NUMBER, nullable=False),
        *(sa.Column(name, NUMBER, nullable=False) for name in NUMBERS),
        sa.Column("sample_count", WHOLE, nullable=False),
        sa.Column("rule_state", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at", WHOLE, nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("archived_head", sa.LargeBinary(), nullable=True),
        sa.Column("archived_through", WHOLE, nullable=True),
        sa.Column("archived_digest", sa.LargeBinary(), nullable=True),
    ]
    checks = {
        "seq": "seq >= 1",
        "kind": kinds,
        "recorded_at": within("recorded_at", TIME_MAX),
        "note": "note IS NULL OR length(note) <= 4096",
        "archived_head": only_of("archived", "archived_head", "length(archived_head) = 32"),
        "archived_through": only_of("archived", "archived_through", "archived_through >= seq"),
        "archived_digest": only_of("archived", "archived_digest", "length(archived_digest) = 32"),
        **new_checks,
        "rule": "length(rule) >= 1 AND length(rule) <= 64",
        "alpha": "alpha > 0 AND alpha <= 1",
        **{name: within(name, LARGEST) for name in NUMBERS},
        "sample_count": "sample_count >= 0",
        "updated_at": within("updated_at", TIME_MAX),
    }
    names = ", ".join(column.name for column in columns)
    op.execute(f"CREATE TEMPORARY TABLE kept_adjustments AS SELECT {names} FROM adjustments")
    op.drop_table("adjustments")
    op.create_table(
        "adjustments",
        *columns,
        *new_columns,
        sa.PrimaryKeyConstraint("model_id", "seq", name=op.f("pk_adjustments")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_adjustments_model_id_models")
        ),
        *(
            sa.CheckConstraint(text, name=op.f(f"ck_adjustments_{name}"))
            for name, text in checks.items()
        ),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(f"INSERT INTO adjustments ({names}) SELECT {names} FROM temp.kept_adjustments")
    op.execute("DROP TABLE temp.kept_adjustments")
