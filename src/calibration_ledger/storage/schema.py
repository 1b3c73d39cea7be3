"""What a ledger's tables are called, their revision, and the view for people.

`tables` has the tables themselves, which only migrations and checks need: they import SQLAlchemy,
which takes longer than all else that a program starts with.
"""

REVISION = "0007"
"""The revision of the migrations that this module describes; tested against Alembic's head."""

VERSION_TABLE = "alembic_version"

ADDED_TABLES = ("settings", "setting_heads", "aliases", "voided", "events", "event_heads")
"""Those that ledgers of revision 0003 do not have yet; each revision since then added some."""

LEDGER_TABLES = (
    *("models", "calls", "call_details", "adjustments", "calibrations"),
    *ADDED_TABLES,
)
"""The tables that hold the ledger, in the order in which they are made."""

TABLES = frozenset({*LEDGER_TABLES, VERSION_TABLE})

READABLE_VIEW = "readable_calls"
"""For people who open the file in a SQL browser: model names and ISO times beside the numbers."""

_ISO_TIME = {
    "sqlite": (
        "strftime('%Y-%m-%dT%H:%M:%S', calls.called_at / 1000000, 'unixepoch')"
        " || printf('.%06dZ', calls.called_at % 1000000)"
    ),
    "postgresql": (
        "to_char(timestamp 'epoch' + calls.called_at * interval '1 microsecond',"
        ' \'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')'
    ),
}

_VOIDED = "FROM voided WHERE voided.model_id = calls.model_id AND voided.first_seq <= calls.seq"
_IS_VOIDED = {
    # Of the ranges that begin before a call, SQLite looks at the last alone: there may be many.
    "sqlite": (
        f"coalesce((SELECT voided.last_seq {_VOIDED} ORDER BY voided.first_seq DESC LIMIT 1)"
        " >= calls.seq, 0)"
    ),
    # Citus takes no LIMIT there.
    "postgresql": f"EXISTS (SELECT 1 {_VOIDED} AND voided.last_seq >= calls.seq)",
}


def readable_view(dialect: str) -> str:
    """The statement that creates the view in this dialect.

    What a merge took over from a model counts under another one: its own calls are voided.
    """
    return (
        f"CREATE VIEW {READABLE_VIEW} AS SELECT models.model AS model, calls.seq AS seq,"
        f" {_ISO_TIME[dialect]} AS called_at, calls.prompt_tokens AS prompt_tokens,"
        " calls.completion_tokens AS completion_tokens, calls.actual_ms AS actual_ms,"
        " calls.predicted_ms AS predicted_ms,"
        " calls.actual_ms - calls.predicted_ms AS error_ms,"
        " call_details.request_id AS request_id, call_details.details AS details,"
        " coalesce(calls.outcome, 'ok') AS outcome,"
        f" (calibrations.alias_seq IS NOT NULL OR {_IS_VOIDED[dialect]}) AS voided"
        " FROM calls JOIN models ON models.id = calls.model_id"
        " LEFT JOIN call_details ON call_details.model_id = calls.model_id"
        " AND call_details.seq = calls.seq"
        " LEFT JOIN calibrations ON calibrations.model_id = calls.model_id"
    )
