"""What is stored: the tables, as SQLAlchemy knows them.

The migrations make the tables; this is what today's code expects of them, and a test holds the
two together. A model's history is one contiguous range of `(model_id, seq)`, shared by calls and
adjustments, so that a replay reads it in order in one scan, and models share nothing.

Every constraint has a name, and CHECKs are bounded above too. On SQLite the tables are STRICT:
without it an INTEGER column takes '12abc' and 1.5.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from calibration_ledger.core.validation import TIME_LIMIT_US, TOKENS_LIMIT
from calibration_ledger.rules.base import COMMON_NUMBERS
from calibration_ledger.storage.schema import VERSION_TABLE

metadata = sa.MetaData()

# STRICT tables take the type names INTEGER, REAL, TEXT and BLOB and no others.
Whole: sa.types.TypeEngine[int] = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Number: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
_CLUSTERED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}

_LARGEST = "1.7976931348623157e308"
_OUTCOME = "outcome IS NULL OR outcome = 'timeout'"
_HAS_OUTCOME = "outcome IS NOT NULL"
_HAS_KEY = "request_key IS NOT NULL"
_ALIAS_SEQ = "alias_seq IS NULL OR alias_seq >= 1"


def _within(column: str, most: object, least: object = 0) -> str:
    return f"{column} >= {least} AND {column} <= {most}"


def _only_of(kind: str, column: str, bound: str) -> str:
    return f"({column} IS NOT NULL) = (kind = '{kind}') AND ({column} IS NULL OR {bound})"


def _is_text(column: str, most: int) -> str:
    return f"length({column}) >= 1 AND length({column}) <= {most}"


def _named(table: str, **texts: str) -> list[sa.CheckConstraint]:
    return [sa.CheckConstraint(text, name=f"ck_{table}_{name}") for name, text in texts.items()]


def _calibration_columns() -> list[sa.Column[Any]]:
    """The columns that hold a whole calibration, in the order of `entries.Adjustment`."""
    numbers = [sa.Column(name, Number, nullable=False) for name in COMMON_NUMBERS]
    return [
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("alpha", Number, nullable=False),
        *numbers,
        sa.Column("sample_count", Whole, nullable=False),
        sa.Column("rule_state", sa.LargeBinary),
        sa.Column("updated_at", Whole, nullable=False),
    ]


def _calibration_checks(table: str) -> list[sa.CheckConstraint]:
    return _named(
        table,
        rule="length(rule) >= 1 AND length(rule) <= 64",
        alpha="alpha > 0 AND alpha <= 1",
        **{name: _within(name, _LARGEST) for name in COMMON_NUMBERS},
        sample_count="sample_count >= 0",
        updated_at=_within("updated_at", TIME_LIMIT_US - 1),
    )


models = sa.Table(
    "models",
    metadata,
    # On PostgreSQL a sequence of its own would be a thing more to grant; SQLite needs neither.
    sa.Column("id", Whole, sa.Identity(), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.PrimaryKeyConstraint("id", name="pk_models"),
    sa.UniqueConstraint("model", name="uq_models_model"),
    *_named("models", model="length(model) >= 1 AND length(model) <= 512"),
    sqlite_strict=True,
)

calls = sa.Table(
    "calls",
    metadata,
    sa.Column("model_id", Whole, nullable=False),
    sa.Column("seq", Whole, nullable=False),
    sa.Column("called_at", Whole, nullable=False),
    sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("completion_tokens", sa.Integer, nullable=False),
    sa.Column("actual_ms", Number, nullable=False),
    sa.Column("predicted_ms", Number, nullable=False),
    sa.Column("outcome", sa.Text, *_named("calls", outcome=_OUTCOME)),
    sa.PrimaryKeyConstraint("model_id", "seq", name="pk_calls"),
    sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_calls_model_id_models"),
    *_named(
        "calls",
        seq="seq >= 1",
        called_at=_within("called_at", TIME_LIMIT_US - 1),
        prompt_tokens=_within("prompt_tokens", TOKENS_LIMIT - 1),
        completion_tokens=_within("completion_tokens", TOKENS_LIMIT - 1),
        actual_ms=_within("actual_ms", _LARGEST),
        predicted_ms=_within("predicted_ms", _LARGEST),
    ),
    # Those that are no ordinary calls are few, and counted without a look at the others.
    sa.Index(
        "ix_calls_outcome",
        "model_id",
        "outcome",
        "seq",
        sqlite_where=sa.text(_HAS_OUTCOME),
        postgresql_where=sa.text(_HAS_OUTCOME),
    ),
    **_CLUSTERED,
)

call_details = sa.Table(
    "call_details",
    metadata,
    sa.Column("model_id", Whole, nullable=False),
    sa.Column("seq", Whole, nullable=False),
    sa.Column("request_key", sa.LargeBinary),
    sa.Column("request_id", sa.Text),
    sa.Column("details", sa.Text),
    sa.PrimaryKeyConstraint("model_id", "seq", name="pk_call_details"),
    sa.ForeignKeyConstraint(
        ["model_id", "seq"], ["calls.model_id", "calls.seq"], name="fk_call_details_calls"
    ),
    *_named(
        "call_details",
        request_key="request_key IS NULL OR length(request_key) = 16",
        request_id="(request_id IS NULL) = (request_key IS NULL)",
        details="details IS NULL OR length(details) <= 4096",
    ),
    # Not unique: the id of a voided call may come again. Every append locks its model's row, and
    # looks an id up then, so that of the calls that count no two have the same.
    sa.Index(
        "ix_call_details_request_key",
        "model_id",
        "request_key",
        "seq",
        sqlite_where=sa.text(_HAS_KEY),
        postgresql_where=sa.text(_HAS_KEY),
    ),
    **_CLUSTERED,
)

adjustments = sa.Table(
    "adjustments",
    metadata,
    sa.Column("model_id", Whole, nullable=False),
    sa.Column("seq", Whole, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("recorded_at", Whole, nullable=False),
    *_calibration_columns(),
    sa.Column("note", sa.Text),
    sa.Column("archived_head", sa.LargeBinary),
    sa.Column("archived_through", Whole),
    sa.Column("archived_digest", sa.LargeBinary),
    sa.Column("voids", sa.Text),
    sa.PrimaryKeyConstraint("model_id", "seq", name="pk_adjustments"),
    sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_adjustments_model_id_models"),
    *_named(
        "adjustments",
        seq="seq >= 1",
        kind="kind IN ('opened', 'imported', 'reset', 'recalibrated', 'archived', 'voided')",
        recorded_at=_within("recorded_at", TIME_LIMIT_US - 1),
        note="note IS NULL OR length(note) <= 4096",
        archived_head=_only_of("archived", "archived_head", "length(archived_head) = 32"),
        archived_through=_only_of("archived", "archived_through", "archived_through >= seq"),
        archived_digest=_only_of("archived", "archived_digest", "length(archived_digest) = 32"),
        voids=_only_of("voided", "voids", "(length(voids) >= 1 AND length(voids) <= 65536)"),
    ),
    *_calibration_checks("adjustments"),
    **_CLUSTERED,
)

calibrations = sa.Table(
    "calibrations",
    metadata,
    sa.Column("model_id", Whole, nullable=False),
    *_calibration_columns(),
    sa.Column("last_seq", Whole, nullable=False),
    sa.Column("head", sa.LargeBinary, nullable=False),
    # Of a model whose name stands for another one: the number of the alias that says so.
    sa.Column("alias_seq", Whole, *_named("calibrations", alias_seq=_ALIAS_SEQ)),
    sa.PrimaryKeyConstraint("model_id", name="pk_calibrations"),
    sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_calibrations_model_id_models"),
    *_calibration_checks("calibrations"),
    *_named("calibrations", last_seq="last_seq >= 1", head="length(head) = 32"),
    sqlite_strict=True,
)

# The ledger's own history, which belongs to no model.
settings = sa.Table(
    "settings",
    metadata,
    sa.Column("seq", Whole, autoincrement=False, nullable=False),
    sa.Column("recorded_at", Whole, nullable=False),
    sa.Column("rule", sa.Text, nullable=False),
    sa.Column("alpha", Number, nullable=False),
    sa.PrimaryKeyConstraint("seq", name="pk_settings"),
    *_named(
        "settings",
        seq="seq >= 1",
        recorded_at=_within("recorded_at", TIME_LIMIT_US - 1),
        rule="length(rule) >= 1 AND length(rule) <= 64",
        alpha="alpha > 0 AND alpha <= 1",
    ),
    **_CLUSTERED,
)

# Where both end, in one row: an entry that was removed there would not be missed otherwise.
setting_heads = sa.Table(
    "setting_heads",
    metadata,
    sa.Column("last_seq", Whole, autoincrement=False, nullable=False),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("last_seq", name="pk_setting_heads"),
    *_named("setting_heads", last_seq="last_seq >= 1", head="length(head) = 32"),
    **_CLUSTERED,
)

# Which name stands for which model from then on; without a model, the name is its own again. They
# share the numbers of the settings. `merged` are the entries of the model that a merge appended.
aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("seq", Whole, autoincrement=False, nullable=False),
    sa.Column("recorded_at", Whole, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("merged", sa.Text),
    sa.PrimaryKeyConstraint("seq", name="pk_aliases"),
    *_named(
        "aliases",
        seq="seq >= 1",
        recorded_at=_within("recorded_at", TIME_LIMIT_US - 1),
        name="length(name) >= 1 AND length(name) <= 512",
        model="model IS NULL OR (length(model) >= 1 AND length(model) <= 512)",
        merged="merged IS NULL OR (model IS NOT NULL AND length(merged) >= 1"
        " AND length(merged) <= 64)",
    ),
    # With the time, so that a salvage takes no row of it for one of the index over models.
    sa.Index("ix_aliases_name", "name", "seq", "recorded_at"),
    **_CLUSTERED,
)

# Which entries of a model are voided by now, as ranges that neither overlap nor touch. This follows
# from its `voided` entries, which can be voided in turn: here it can be asked for.
voided = sa.Table(
    "voided",
    metadata,
    sa.Column("model_id", Whole, nullable=False),
    sa.Column("first_seq", Whole, nullable=False),
    sa.Column("last_seq", Whole, nullable=False),
    sa.PrimaryKeyConstraint("model_id", "first_seq", name="pk_voided"),
    *_named("voided", first_seq="first_seq >= 1", last_seq="last_seq >= first_seq"),
    **_CLUSTERED,
)

# What happened to the database, and no other entry tells: imports and upgrades.
events = sa.Table(
    "events",
    metadata,
    sa.Column("seq", Whole, autoincrement=False, nullable=False),
    sa.Column("recorded_at", Whole, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("import_id", sa.Text),
    sa.Column("file", sa.Text),
    sa.Column("format", sa.Text),
    sa.Column("calls", Whole),
    sa.Column("models", sa.Text),
    sa.Column("from_revision", sa.Text),
    sa.Column("to_revision", sa.Text),
    sa.Column("version", sa.Text),
    sa.PrimaryKeyConstraint("seq", name="pk_events"),
    *_named(
        "events",
        seq="seq >= 1",
        recorded_at=_within("recorded_at", TIME_LIMIT_US - 1),
        kind="kind IN ('import', 'upgrade')",
        import_id=f"import_id IS NULL OR ({_is_text('import_id', 64)} AND kind = 'import')",
        file=_only_of("import", "file", _is_text("file", 255)),
        format=_only_of("import", "format", _is_text("format", 64)),
        calls=_only_of("import", "calls", "calls >= 0"),
        models=f"models IS NULL OR ({_is_text('models', 4096)} AND kind = 'import')",
        from_revision=_only_of("upgrade", "from_revision", _is_text("from_revision", 32)),
        to_revision=_only_of("upgrade", "to_revision", _is_text("to_revision", 32)),
        version=_only_of("upgrade", "version", _is_text("version", 64)),
    ),
    **_CLUSTERED,
)

# Where they end, in one row.
event_heads = sa.Table(
    "event_heads",
    metadata,
    sa.Column("last_seq", Whole, autoincrement=False, nullable=False),
    sa.Column("head", sa.LargeBinary, nullable=False),
    sa.PrimaryKeyConstraint("last_seq", name="pk_event_heads"),
    *_named("event_heads", last_seq="last_seq >= 1", head="length(head) = 32"),
    **_CLUSTERED,
)

version = sa.Table(
    VERSION_TABLE,
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, to ask for the revision without importing Alembic."""
