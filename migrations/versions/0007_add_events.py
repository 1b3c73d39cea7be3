"""Add events: what happened to the database, and no other entry tells.

`events` holds the imports and the upgrades, entry by entry, and `event_heads` where they end, with
the digest over them. Both begin empty, and no row changes; the upgrade that brings them is the
first event. On PostgreSQL, who may read the calibrations may read the events, and who may record
calls may add some: an import does. The downgrade refuses a ledger whose imports were noted; entries
of upgrades, which it takes back, go with the table.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CLUSTERED = {"sqlite_strict": True, "sqlite_with_rowid": False}
TIME_MAX = 253402300799999999
GRANTED = """
    SELECT DISTINCT CASE given.grantee WHEN 0 THEN 'PUBLIC'
        ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(given.grantee)) END
    FROM pg_catalog.pg_class AS found
    CROSS JOIN LATERAL pg_catalog.aclexplode(found.relacl) AS given
    WHERE found.oid = '{table}'::regclass AND given.privilege_type = '{what}'
    AND given.grantee <> found.relowner
"""


def checks(table, **texts):
    return [
        sa.CheckConstraint(text, name=op.f(f"ck_{table}_{name}")) for name, text in texts.items()
    ]


def of_kind(kind, column, bound):
    return f"({column} IS NOT NULL) = (kind = '{kind}') AND ({column} IS NULL OR {bound})"


def text(column, most):
    return f"length({column}) >= 1 AND length({column}) <= {most}"


def upgrade():
    op.create_table(
        "events",
        sa.Column("seq", WHOLE, autoincrement=False, nullable=False),
        sa.Column("recorded_at", WHOLE, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("import_id", sa.Text(), nullable=True),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("calls", WHOLE, nullable=True),
        sa.Column("models", sa.Text(), nullable=True),
        sa.Column("from_revision", sa.Text(), nullable=True),
        sa.Column("to_revision", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        *checks(
            "events",
            seq="seq >= 1",
            recorded_at=f"recorded_at >= 0 AND recorded_at <= {TIME_MAX}",
            kind="kind IN ('import', 'upgrade')",
            import_id=f"import_id IS NULL OR ({text('import_id', 64)} AND kind = 'import')",
            file=of_kind("import", "file", text("file", 255)),
            format=of_kind("import", "format", text("format", 64)),
            calls=of_kind("import", "calls", "calls >= 0"),
            models=f"models IS NULL OR ({text('models', 4096)} AND kind = 'import')",
            from_revision=of_kind("upgrade", "from_revision", text("from_revision", 32)),
            to_revision=of_kind("upgrade", "to_revision", text("to_revision", 32)),
            version=of_kind("upgrade", "version", text("version", 64)),
        ),
        **CLUSTERED,
    )
    op.create_table(
        "event_heads",
        sa.Column("last_seq", WHOLE, autoincrement=False, nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("last_seq", name=op.f("pk_event_heads")),
        *checks("event_heads", last_seq="last_seq >= 1", head="length(head) = 32"),
        **CLUSTERED,
    )
    if op.get_bind().dialect.name == "sqlite":
        return
    for reader in granted("calibrations", "SELECT"):
        op.execute(f"GRANT SELECT ON events, event_heads TO {reader}")
    for writer in granted("calls", "INSERT"):
        op.execute(f"GRANT INSERT ON events, event_heads TO {writer}")
        op.execute(f"GRANT UPDATE ON event_heads TO {writer}")


def granted(table, what):
    found = op.get_bind().exec_driver_sql(GRANTED.format(table=table, what=what))
    return found.scalars().all()


def downgrade():
    count = sa.text("SELECT count(*) FROM events WHERE kind = 'import'")
    found = op.get_bind().execute(count).scalar_one()
    if found:
        imports = "an import" if found == 1 else f"{found} imports"
        raise CommandError(
            f"this ledger has noted {imports}, and revision {down_revision} cannot hold that. "
            f"Nothing was changed: stay at revision {revision}, or restore a backup of the older "
            f"one."
        )
    op.drop_table("event_heads")
    op.drop_table("events")
