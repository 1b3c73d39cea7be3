"""The SQL of a ledger: each statement is built with SQLAlchemy Core and compiled once per dialect.

The compiled text runs on the driver's own cursor: measured as fast as SQL by hand, while Core's
execution takes three times as long per `record()`; and the same expressions serve every database.
Parameters are always bound, by position, in the order that each comment gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import bindparam, func, select

from calibration_ledger.storage.schema import (
    adjustments,
    calibrations,
    call_details,
    calls,
    models,
    version,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    Built = dict[str, tuple[sa.ClauseElement, tuple[str, ...]]]


CALIBRATION_NAMES = tuple(column.name for column in calibrations.c if column.name != "model_id")
"""rule, alpha, five numbers, sample_count, rule_state, updated_at, last_seq, head."""

REQUESTS_AT_ONCE = 20
"""Request ids to one look-up, where there are many."""

_CALL = [
    calls.c.seq,
    calls.c.called_at,
    calls.c.prompt_tokens,
    calls.c.completion_tokens,
    calls.c.actual_ms,
    calls.c.predicted_ms,
]
_MODEL_ID = bindparam("model_id", type_=sa.BigInteger)
_AFTER = bindparam("after", type_=sa.BigInteger)
_THROUGH = bindparam("through", type_=sa.BigInteger)
_SINCE = bindparam("since", type_=sa.BigInteger)
_LIMIT = bindparam("page", type_=sa.Integer)
_ZERO: sa.ColumnElement[int] = sa.literal_column("0")  # on SQLite SQLAlchemy would bind its own
_ONE: sa.ColumnElement[int] = sa.literal_column("1")


@dataclass(frozen=True, slots=True)
class Statements:
    """The compiled texts of one dialect."""

    revision: str
    load: str
    load_known: str
    find: str
    find_known: str
    find_id: str
    list_calibrations: str
    add_model: str
    add_call: str
    add_detail: str
    add_adjustment: str
    add_calibration: str
    save: str
    find_request: str
    find_requests: str
    last_adjustment: str
    page_columns: str
    page_calls: str
    page_details: str
    adjustments: str
    first_adjustment: str
    first_call_from: str
    count_older: str
    worst_calls: str
    ends: str
    newest_call: str
    newest_calls: str
    first_scored: str
    last_scored: str
    nth_newest: str
    unknown_models: str
    unknown_calls: str
    uncalibrated_models: str
    remove_details: str
    remove_calls: str
    remove_adjustments: str


LONG = (
    *("first_call_from", "count_older", "worst_calls", "newest_call", "first_scored"),
    *("last_scored", "nth_newest", "unknown_models", "unknown_calls", "uncalibrated_models"),
)
"""Statements that may look through a whole history, and take as long as that takes."""


def _insert(table: sa.Table) -> sa.Insert:
    return sa.insert(table).values({c.name: bindparam(c.name) for c in table.c})


def _joined(*more: Any) -> sa.Select[Any]:
    columns = [calibrations.c[name] for name in CALIBRATION_NAMES]
    return select(models.c.id, *columns, *more).join_from(models, calibrations)


def _build() -> Built:
    """Every statement with the names of its parameters, in the order callers bind them."""
    named = models.c.model == bindparam("model", type_=sa.Text)
    revision = select(version.c.version_num).scalar_subquery().label("revision")
    row = _joined(revision).with_for_update(of=calibrations)
    return {
        "revision": (select(version.c.version_num), ()),
        # The revision travels with the row, so that a writer that opened the ledger before an
        # upgrade notices it inside its next transaction.
        "load": (row.where(named), ("model",)),
        # Where models are spread over machines by model_id, what names it asks one machine, and
        # nothing else can lock a row.
        "load_known": (
            row.where(named, calibrations.c.model_id == _MODEL_ID),
            ("model", "model_id"),
        ),
        "find": (_joined().where(named), ("model",)),
        "find_known": (
            _joined().where(named, calibrations.c.model_id == _MODEL_ID),
            ("model", "model_id"),
        ),
        "find_id": (select(models.c.id).where(named), ("model",)),
        "list_calibrations": (_joined(models.c.model).order_by(models.c.model), ()),
        "add_model": (
            sa.insert(models).values(model=bindparam("model")).returning(models.c.id),
            ("model",),
        ),
        "add_call": (_insert(calls), tuple(calls.c.keys())),
        "add_detail": (_insert(call_details), tuple(call_details.c.keys())),
        "add_adjustment": (_insert(adjustments), tuple(adjustments.c.keys())),
        "add_calibration": (_insert(calibrations), tuple(calibrations.c.keys())),
        "save": (
            sa.update(calibrations)
            .where(calibrations.c.model_id == bindparam("of_model_id"))
            .values({name: bindparam(name) for name in CALIBRATION_NAMES}),
            (*CALIBRATION_NAMES, "of_model_id"),
        ),
        **_build_requests(),
        **_build_pages(),
        **_build_adjustments(),
        **_build_lookups(),
        **_build_strays(),
        **_build_removals(),
    }


def _build_requests() -> Built:
    details = call_details.c
    same_call = sa.and_(calls.c.model_id == details.model_id, calls.c.seq == details.seq)
    keys = [f"key_{i}" for i in range(REQUESTS_AT_ONCE)]
    return {
        "find_request": (
            select(details.request_id, *_CALL)
            .join_from(call_details, calls, same_call)
            .where(details.model_id == _MODEL_ID, details.request_key == bindparam("request_key")),
            ("model_id", "request_key"),
        ),
        "find_requests": (
            select(details.request_key, _CALL[0], *_CALL[2:6])
            .join_from(call_details, calls, same_call)
            # Not IN: with five keys or more, SQLite rather scans all details of the model.
            .where(
                sa.or_(
                    *(
                        (details.model_id == _MODEL_ID) & (details.request_key == bindparam(key))
                        for key in keys
                    )
                )
            ),
            tuple(name for key in keys for name in ("model_id", key)),
        ),
    }


def _build_pages() -> Built:
    pages = sa.and_(calls.c.model_id == _MODEL_ID, calls.c.seq > _AFTER, calls.c.seq <= _THROUGH)
    page_keys = ("model_id", "after", "through", "page")
    details = call_details.c
    return {
        "page_columns": (
            select(*_CALL[:5]).where(pages).order_by(calls.c.seq).limit(_LIMIT).offset(_ZERO),
            page_keys,
        ),
        "page_calls": (
            select(*_CALL).where(pages).order_by(calls.c.seq).limit(_LIMIT).offset(_ZERO),
            page_keys,
        ),
        "page_details": (
            select(details.seq, details.request_id, details.details, details.request_key)
            .where(details.model_id == _MODEL_ID, details.seq > _AFTER, details.seq <= _THROUGH)
            .order_by(details.seq),
            ("model_id", "after", "through"),
        ),
        "newest_calls": (
            select(_CALL[0], *_CALL[2:])
            .where(pages)
            .order_by(calls.c.seq.desc())
            .limit(_LIMIT)
            .offset(_ZERO),
            page_keys,
        ),
        # Not min(seq): in the order of the key, the search ends at the first.
        "first_call_from": (
            select(calls.c.seq)
            .where(pages, calls.c.called_at >= _SINCE)
            .order_by(calls.c.seq)
            .limit(_ONE)
            .offset(_ZERO),
            ("model_id", "after", "through", "since"),
        ),
        "worst_calls": (
            select(calls.c.seq, calls.c.actual_ms)
            .where(pages)
            .order_by(calls.c.actual_ms.desc())
            .limit(_LIMIT)
            .offset(_ZERO),
            page_keys,
        ),
        "count_older": (
            select(func.count()).where(
                calls.c.model_id == _MODEL_ID,
                calls.c.seq > _AFTER,
                calls.c.seq <= _THROUGH,
                calls.c.called_at < bindparam("until", type_=sa.BigInteger),
            ),
            ("model_id", "after", "through", "until"),
        ),
    }


def _build_adjustments() -> Built:
    of_model = adjustments.c.model_id == _MODEL_ID
    columns = [column for column in adjustments.c if column.name != "model_id"]
    by_seq = select(*columns).where(of_model).order_by(adjustments.c.seq)
    return {
        "adjustments": (by_seq, ("model_id",)),
        "first_adjustment": (by_seq.limit(_ONE).offset(_ZERO), ("model_id",)),
        "last_adjustment": (select(func.max(adjustments.c.seq)).where(of_model), ("model_id",)),
    }


def _build_lookups() -> Built:
    of_model = calls.c.model_id == _MODEL_ID
    of_adjustments = adjustments.c.model_id == _MODEL_ID
    ends = [
        select(func.min(calls.c.seq)).where(of_model),
        select(func.max(calls.c.seq)).where(of_model),
        select(func.max(adjustments.c.seq)).where(of_adjustments),
    ]
    window = sa.and_(
        of_model,
        calls.c.seq <= _THROUGH,  # others may have appended since the calibration was read
        calls.c.called_at >= _SINCE,
        calls.c.called_at < bindparam("until", type_=sa.BigInteger),
    )
    in_window = ("model_id", "through", "since", "until")
    return {
        # One statement is one snapshot: rows that others append meanwhile are not taken for rows
        # behind the end. Each table is asked by the id itself, which names one machine where models
        # are spread over several; an id taken from another table does not.
        "ends": (
            select(calibrations.c.last_seq, *(end.scalar_subquery() for end in ends)).where(
                calibrations.c.model_id == _MODEL_ID
            ),
            ("model_id",) * 4,
        ),
        "newest_call": (select(func.max(calls.c.called_at)).where(of_model), ("model_id",)),
        "first_scored": (select(func.min(calls.c.seq)).where(window), in_window),
        "last_scored": (select(func.max(calls.c.seq)).where(window), in_window),
        "nth_newest": (
            select(calls.c.seq)
            .where(window)
            .order_by(calls.c.seq.desc())
            .limit(_ONE)
            .offset(bindparam("skipped", type_=sa.Integer)),
            (*in_window, "skipped"),
        ),
    }


def _build_strays() -> Built:
    """Rows that belong to nothing, looked for in the whole ledger."""
    details = call_details.c
    call_exists = sa.exists().where(
        calls.c.model_id == details.model_id, calls.c.seq == details.seq
    )
    return {
        "unknown_models": (
            sa.union_all(
                *(
                    select(sa.literal_column(f"'{table.name}'"), table.c.model_id, func.count())
                    .where(table.c.model_id.not_in(select(models.c.id)))
                    .group_by(table.c.model_id)
                    for table in (calls, call_details, adjustments, calibrations)
                )
            ),
            (),
        ),
        "unknown_calls": (
            select(details.model_id, details.seq)
            .where(~call_exists)
            .order_by(details.model_id, details.seq)
            .limit(sa.literal_column("1000"))
            .offset(_ZERO),
            (),
        ),
        "uncalibrated_models": (
            select(models.c.id, models.c.model).where(
                models.c.id.not_in(select(calibrations.c.model_id))
            ),
            (),
        ),
    }


def _build_removals() -> Built:
    """The only statements that take history out.

    Rows of `calls`, `call_details` and `adjustments` are only ever inserted, with one exception:
    archiving replaces entries that lie in a verified file by the `archived` entry that stands for
    them, and bringing them back replaces that entry by them. Either happens in one transaction,
    and no head changes.
    """
    tables = {"details": call_details, "calls": calls, "adjustments": adjustments}
    return {
        f"remove_{name}": (
            sa.delete(table).where(table.c.model_id == _MODEL_ID, table.c.seq <= _THROUGH),
            ("model_id", "through"),
        )
        for name, table in tables.items()
    }


_compiled: dict[tuple[str, str], Statements] = {}
"""By dialect and style of parameters. Not by the dialect object, of which every engine brings its
own: each opening of a ledger would compile anew, and nothing would ever be forgotten."""


def statements(dialect: Dialect) -> Statements:
    """The statements as this dialect writes them."""
    key = (dialect.name, dialect.paramstyle)
    if key not in _compiled:
        _compiled[key] = _compile(dialect)
    return _compiled[key]


def _compile(dialect: Dialect) -> Statements:
    texts = {}
    for name, (statement, parameters) in _build().items():
        compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        found = tuple(getattr(compiled, "positiontup", None) or ())
        if found != parameters:
            raise AssertionError(f"{name} binds {found}, its callers bind {parameters}")
        texts[name] = str(compiled)
    return Statements(**texts)
