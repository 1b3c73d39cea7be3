"""Add aliases: other names of models.

`aliases` holds, entry by entry, which name stands for which model from then on. It shares its
numbers and its digest with `settings`: `setting_heads` is the end of both. `alias_seq` marks the
calibration of a model whose name stands for another one: it has the number of the entry that says
so. All begins empty, and no row changes. On PostgreSQL, who may read the calibrations may read the
aliases: finding a model takes that. The downgrade refuses a ledger that has aliases; without them
it loses nothing.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CLUSTERED = {"sqlite_strict": True, "sqlite_with_rowid": False}
TIME_MAX = 253402300799999999
ALIAS_SEQ = "alias_seq IS NULL OR alias_seq >= 1"
READERS = """
    SELECT DISTINCT CASE given.grantee WHEN 0 THEN 'PUBLIC'
        ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(given.grantee)) END
    FROM pg_catalog.pg_class AS found
    CROSS JOIN LATERAL pg_catalog.aclexplode(found.relacl) AS given
    WHERE found.oid = 'calibrations'::regclass AND given.privilege_type = 'SELECT'
    AND given.grantee <> found.relowner
"""


def checks(table, **texts):
    return [
        sa.CheckConstraint(text, name=op.f(f"ck_{table}_{name}")) for name, text in texts.items()
    ]


def upgrade():
    op.create_table(
        "aliases",
        sa.Column("seq", WHOLE, autoincrement=False, nullable=False),
        sa.Column("recorded_at", WHOLE, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("merged", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_aliases")),
        *checks(
            "aliases",
            seq="seq >= 1",
            recorded_at=f"recorded_at >= 0 AND recorded_at <= {TIME_MAX}",
            name="length(name) >= 1 AND length(name) <= 512",
            model="model IS NULL OR (length(model) >= 1 AND length(model) <= 512)",
            merged="merged IS NULL OR (model IS NOT NULL AND length(merged) >= 1"
            " AND length(merged) <= 64)",
        ),
        **CLUSTERED,
    )
    op.create_index(op.f("ix_aliases_name"), "aliases", ["name", "seq", "recorded_at"])
    if op.get_bind().dialect.name == "sqlite":
        # The CHECK comes with the column: SQLite adds none to a column that is there.
        op.execute(
            "ALTER TABLE calibrations ADD COLUMN alias_seq INTEGER"
            f" CONSTRAINT ck_calibrations_alias_seq CHECK ({ALIAS_SEQ})"
        )
        return
    op.add_column("calibrations", sa.Column("alias_seq", WHOLE, nullable=True))
    op.create_check_constraint(
        op.f("ck_calibrations_alias_seq"), "calibrations", sa.text(ALIAS_SEQ)
    )
    for reader in op.get_bind().exec_driver_sql(READERS).scalars().all():
        op.execute(f"GRANT SELECT ON aliases TO {reader}")


def downgrade():
    found = op.get_bind().execute(sa.text("SELECT count(*) FROM aliases")).scalar_one()
    if found:
        entries = "an entry" if found == 1 else f"{found} entries"
        raise CommandError(
            f"this ledger has {entries} of aliases, and revision {down_revision} knows no other "
            f"names of models. Nothing was changed: stay at revision {revision}, or restore a "
            f"backup of the older one."
        )
    op.drop_index("ix_aliases_name", "aliases")
    op.drop_table("aliases")
    if op.get_bind().dialect.name == "sqlite":
        op.execute("ALTER TABLE calibrations DROP COLUMN alias_seq")
    else:
        op.drop_constraint("ck_calibrations_alias_seq", "calibrations")
        op.drop_column("calibrations", "alias_seq")
