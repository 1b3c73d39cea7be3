"""Let voided calls give up their request ids.

The id of a voided call may come again, so a model's request ids are unique no more: an ordinary
index finds them. SQLite cannot drop a constraint, so the table is built anew there, by way of a
temporary copy (see 0002). Every row stays as it was.

`voided` has the entries of each model that are voided, as ranges. That follows from the adjustments
and could be worked out each time; as a table, it can be looked up, and the readable view shows it.
On PostgreSQL, who may read the calibrations may read it, and who may add adjustments may change it.

The downgrade refuses a ledger in which an id came again; without them it loses nothing.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
CLUSTERED = {"sqlite_strict": True, "sqlite_with_rowid": False}
DETAILS = "model_id, seq, request_key, request_id, details"
HAS_KEY = sa.text("request_key IS NOT NULL")
VIEW = (
    " readable_calls AS SELECT models.model AS model, calls.seq AS seq,"
    " {iso_time} AS called_at, calls.prompt_tokens AS prompt_tokens,"
    " calls.completion_tokens AS completion_tokens, calls.actual_ms AS actual_ms,"
    " calls.predicted_ms AS predicted_ms,"
    " calls.actual_ms - calls.predicted_ms AS error_ms,"
    " call_details.request_id AS request_id, call_details.details AS details,"
    " coalesce(calls.outcome, 'ok') AS outcome{column}"
    " FROM calls JOIN models ON models.id = calls.model_id"
    " LEFT JOIN call_details ON call_details.model_id = calls.model_id"
    " AND call_details.seq = calls.seq{join}"
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
RANGES = "FROM voided WHERE voided.model_id = calls.model_id AND voided.first_seq <= calls.seq"
IS_VOIDED = {
    "sqlite": (
        f"coalesce((SELECT voided.last_seq {RANGES} ORDER BY voided.first_seq DESC LIMIT 1)"
        " >= calls.seq, 0)"
    ),
    "postgresql": f"EXISTS (SELECT 1 {RANGES} AND voided.last_seq >= calls.seq)",
}
GRANTEES = """
    SELECT DISTINCT CASE given.grantee WHEN 0 THEN 'PUBLIC'
        ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(given.grantee)) END
    FROM pg_catalog.pg_class AS found
    CROSS JOIN LATERAL pg_catalog.aclexplode(found.relacl) AS given
    WHERE found.oid = '{table}'::regclass AND given.privilege_type = '{right}'
    AND given.grantee <> found.relowner
"""
SEQ_LIMIT = 2**62


def is_sqlite():
    return op.get_bind().dialect.name == "sqlite"


def view(create, *, with_voided):
    dialect = op.get_bind().dialect.name
    column = f", (calibrations.alias_seq IS NOT NULL OR {IS_VOIDED[dialect]}) AS voided"
    join = " LEFT JOIN calibrations ON calibrations.model_id = calls.model_id"
    return create + VIEW.format(
        iso_time=ISO_TIME[dialect],
        column=column if with_voided else "",
        join=join if with_voided else "",
    )


def upgrade():
    op.create_table(
        "voided",
        sa.Column("model_id", WHOLE, nullable=False),
        sa.Column("first_seq", WHOLE, nullable=False),
        sa.Column("last_seq", WHOLE, nullable=False),
        sa.PrimaryKeyConstraint("model_id", "first_seq", name=op.f("pk_voided")),
        sa.CheckConstraint("first_seq >= 1", name=op.f("ck_voided_first_seq")),
        sa.CheckConstraint("last_seq >= first_seq", name=op.f("ck_voided_last_seq")),
        **CLUSTERED,
    )
    if not is_sqlite():
        distribute()
    fill()
    if is_sqlite():
        with op.get_context().opts["without_view"](view("CREATE VIEW", with_voided=True)):
            build_details_anew()
            add_index()
        return
    # The view is replaced: so it stays readable for whom it is, and other views may stand on it.
    op.get_bind().exec_driver_sql(view("CREATE OR REPLACE VIEW", with_voided=True))
    op.drop_constraint("uq_call_details_model_id_request_key", "call_details")
    add_index()
    grant("SELECT", of="calibrations", gives="SELECT")
    grant("INSERT", of="adjustments", gives="INSERT, DELETE")


def distribute():
    """Where Citus distributes the calls, let it do so with the table: the view looks into both."""
    run = op.get_bind().exec_driver_sql
    if not run("SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus'").all():
        return
    if run(
        "SELECT FROM pg_catalog.pg_dist_partition"
        " WHERE logicalrelid = 'calls'::regclass AND partmethod = 'h'"
    ).all():
        # What follows changes several tables, one after the other.
        run("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
        run(
            "SELECT create_distributed_table('voided', 'model_id', colocate_with => 'calibrations')"
        )


def downgrade():
    refuse_repeated()
    op.drop_index("ix_call_details_request_key", "call_details")
    key = sa.UniqueConstraint(
        "model_id", "request_key", name=op.f("uq_call_details_model_id_request_key")
    )
    with op.get_context().opts["without_view"](view("CREATE VIEW", with_voided=False)):
        op.drop_table("voided")
        if is_sqlite():
            build_details_anew(key)
    if not is_sqlite():
        op.create_unique_constraint(key.name, "call_details", ["model_id", "request_key"])


def refuse_repeated():
    query = sa.text(
        "SELECT count(*) FROM (SELECT model_id, request_key FROM call_details"
        " WHERE request_key IS NOT NULL GROUP BY model_id, request_key HAVING count(*) > 1)"
        " AS repeated"
    )
    found = op.get_bind().execute(query).scalar_one()
    if found:
        ids = "a request id" if found == 1 else f"{found} request ids"
        raise CommandError(
            f"this ledger has {ids} of several calls, and in revision {down_revision} none may "
            f"come again. Nothing was changed: stay at revision {revision}, or restore a backup of "
            f"the older one."
        )


def build_details_anew(*keys):
    op.execute(f"CREATE TEMPORARY TABLE kept_details AS SELECT {DETAILS} FROM call_details")
    op.drop_table("call_details")
    op.create_table(
        "call_details",
        sa.Column("model_id", WHOLE, nullable=False),
        sa.Column("seq", WHOLE, nullable=False),
        sa.Column("request_key", sa.LargeBinary(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("details", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("model_id", "seq", name=op.f("pk_call_details")),
        *keys,
        sa.ForeignKeyConstraint(
            ["model_id", "seq"], ["calls.model_id", "calls.seq"], name=op.f("fk_call_details_calls")
        ),
        sa.CheckConstraint(
            "request_key IS NULL OR length(request_key) = 16",
            name=op.f("ck_call_details_request_key"),
        ),
        sa.CheckConstraint(
            "(request_id IS NULL) = (request_key IS NULL)",
            name=op.f("ck_call_details_request_id"),
        ),
        sa.CheckConstraint(
            "details IS NULL OR length(details) <= 4096", name=op.f("ck_call_details_details")
        ),
        **CLUSTERED,
    )
    op.execute(f"INSERT INTO call_details ({DETAILS}) SELECT {DETAILS} FROM temp.kept_details")
    op.execute("DROP TABLE temp.kept_details")


def add_index():
    op.create_index(
        op.f("ix_call_details_request_key"),
        "call_details",
        ["model_id", "request_key", "seq"],
        sqlite_where=HAS_KEY,
        postgresql_where=HAS_KEY,
    )


def grant(right, *, of, gives):
    query = GRANTEES.format(table=of, right=right)
    for role in op.get_bind().exec_driver_sql(query).scalars().all():
        op.execute(f"GRANT {gives} ON voided TO {role}")


def fill():
    """Work out what is voided; of a model whose voidings are damaged, nothing is."""
    voidings = {}
    for model_id, seq, text in op.get_bind().exec_driver_sql(
        "SELECT model_id, seq, voids FROM adjustments WHERE kind = 'voided' ORDER BY model_id, seq"
    ):
        voidings.setdefault(model_id, {})[seq] = text
    places = "?, ?, ?" if is_sqlite() else "%s, %s, %s"
    for model_id, texts in voidings.items():
        found = ranges_in_force(texts)
        if found:
            op.get_bind().exec_driver_sql(
                f"INSERT INTO voided (model_id, first_seq, last_seq) VALUES ({places})",
                [(model_id, first, last) for first, last in found],
            )


def ranges_in_force(texts):
    """What the voidings name that count; a newer one that names an older one undoes it."""
    undone, named = set(), []
    for seq in reversed(texts):
        if seq in undone:
            continue
        pairs = ranges(texts[seq])
        if not pairs:
            return []
        for first, last in pairs:
            if first == last:
                undone.add(first)
            else:
                undone.update(other for other in texts if first <= other <= last)
        named += pairs
    found = []
    for first, last in sorted(named):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def ranges(text):
    """The entries that one voiding names; none where it is damaged."""
    found = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        last = last if dots else first
        if not (first.isdecimal() and last.isdecimal()):
            return []
        if not 1 <= int(first) <= int(last) < SEQ_LIMIT:
            return []
        found.append((int(first), int(last)))
    return found
