"""Add the settings of the ledger.

`settings` holds, entry by entry, the rule and alpha of models that are opened from then on, and
`setting_heads` where that history ends, with the digest over it. Both begin empty, and no other
table changes. On PostgreSQL, who may read the calibrations may read them: opening a model takes
that. The downgrade refuses a ledger that has settings; without them it loses nothing.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
NUMBER = sa.Double().with_variant(sa.REAL(), "sqlite")
CLUSTERED = {"sqlite_strict": True, "sqlite_with_rowid": False}
TIME_MAX = 253402300799999999
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
        "settings",
        sa.Column("seq", WHOLE, autoincrement=False, nullable=False),
        sa.Column("recorded_at", WHOLE, nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("alpha", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_settings")),
        *checks(
            "settings",
            seq="seq >= 1",
            recorded_at=f"recorded_at >= 0 AND recorded_at <= {TIME_MAX}",
            rule="length(rule) >= 1 AND length(rule) <= 64",
            alpha="alpha > 0 AND alpha <= 1",
        ),
        **CLUSTERED,
    )
    op.create_table(
        "setting_heads",
        sa.Column("last_seq", WHOLE, autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("last_seq", name=op.f("pk_setting_heads")),
        *checks("setting_heads", last_seq="last_seq >= 1", head="length(head) = 32"),
        **CLUSTERED,
    )
    if op.get_bind().dialect.name == "postgresql":
        for reader in op.get_bind().exec_driver_sql(READERS).scalars().all():
            op.execute(f"GRANT SELECT ON settings, setting_heads TO {reader}")


def downgrade():
    found = op.get_bind().execute(sa.text("SELECT count(*) FROM settings")).scalar_one()
    if found:
        settings = "a setting" if found == 1 else f"{found} settings"
        raise CommandError(
            f"this ledger has {settings} of the rule of new models, and revision {down_revision} "
            f"knows none. Nothing was changed: stay at revision {revision}, or restore a backup of "
            f"the older one."
        )
    op.drop_table("setting_heads")
    op.drop_table("settings")
