"""The SQL of a ledger as text: the same for both databases, but for how parameters are written.

It is not built with SQLAlchemy, whose import takes most of the time in which a program that only
predicts or records starts. A test holds the names to the tables. Parameters are always bound, by
position, in the order in which they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from calibration_ledger.core.entries import (
    TIMEOUT,
    Adjustment,
    AliasEntry,
    Event,
    Setting,
    Snapshot,
)

CALIBRATION_NAMES = (*Snapshot._fields, "last_seq", "head")
"""rule, alpha, five numbers, sample_count, rule_state, updated_at, last_seq, head."""

REQUESTS_AT_ONCE = 20
"""Request ids to one look-up, where there are many."""


class Marks(NamedTuple):
    """How a database writes a parameter, by its type, and the lock of a row that is read."""

    text: str
    big: str
    whole: str
    other: str
    lock: str


SQLITE = Marks("?", "?", "?", "?", "")
# PostgreSQL has no conversion between texts and numbers, and chooses plans by the types.
POSTGRES = Marks("%s::VARCHAR", "%s::BIGINT", "%s::INTEGER", "%s", " FOR UPDATE OF calibrations")


@dataclass(frozen=True, slots=True)
class Statements:
    """The texts for one database."""

    revision: str
    load: str
    load_known: str
    find: str
    find_known: str
    find_id: str
    list_calibrations: str
    add_model: str
    add_call: str
    add_timeout: str
    add_detail: str
    add_adjustment: str
    add_calibration: str
    save: str
    find_request: str
    find_requests: str
    repeated_requests: str
    last_adjustment: str
    page_columns: str
    page_calls: str
    page_details: str
    adjustments: str
    first_adjustment: str
    voided: str
    voidings: str
    merges: str
    add_voided: str
    remove_voided: str
    first_call_from: str
    count_older: str
    worst_calls: str
    ends: str
    newest_call: str
    newest_calls: str
    newest_learnt: str
    first_scored: str
    last_scored: str
    last_learnt: str
    nth_newest: str
    newest_of_all: str
    stretches: str
    all_seqs: str
    timeouts: str
    unknown_models: str
    unknown_calls: str
    uncalibrated_models: str
    list_names: str
    remove_details: str
    remove_calls: str
    remove_adjustments: str
    settings: str
    newest_setting: str
    add_setting: str
    add_settings_head: str
    save_settings_head: str
    alias: str
    add_alias: str
    mark_alias: str
    all_adjustments: str
    events: str
    events_end: str
    add_event: str
    add_events_head: str
    save_events_head: str


LONG = (
    *("first_call_from", "count_older", "worst_calls", "newest_call", "first_scored"),
    *(
        "last_scored",
        "last_learnt",
        "nth_newest",
        "newest_of_all",
        "stretches",
        "unknown_models",
        "unknown_calls",
        "uncalibrated_models",
        "repeated_requests",
    ),
)
"""Statements that may look through a whole history, and take as long as that takes."""

_CALL = ("seq", "called_at", "prompt_tokens", "completion_tokens", "actual_ms", "predicted_ms")
_WHOLE_CALL = (*_CALL, "outcome")
_LEARNT = "calls.outcome IS NULL"
"""No rule learns from the others, which are time-outs."""

INSERTED = {
    "calls": ("model_id", *_WHOLE_CALL),
    "call_details": ("model_id", "seq", "request_key", "request_id", "details"),
    "adjustments": ("model_id", *Adjustment._fields),
    "calibrations": ("model_id", *CALIBRATION_NAMES),
    "settings": Setting._fields,
    "aliases": AliasEntry._fields,
    "setting_heads": ("last_seq", "head"),
    "voided": ("model_id", "first_seq", "last_seq"),
    "events": Event._fields,
    "event_heads": ("last_seq", "head"),
}
"""The columns of the tables whose rows are added whole, in the order in which they are bound."""

_BIG = frozenset(
    {
        *("alias_seq", "archived_through", "called_at", "calls", "first_seq", "last_seq"),
        *("model_id", "recorded_at", "sample_count", "seq", "updated_at"),
    }
)
_WHOLE = frozenset({"completion_tokens", "prompt_tokens"})
_TEXT = frozenset(
    {
        *("details", "file", "format", "from_revision", "import_id", "kind", "merged", "model"),
        *("models", "name", "note", "request_id", "rule", "to_revision", "version", "voids"),
    }
)


def _mark(marks: Marks, column: str) -> str:
    if column in _BIG:
        return marks.big
    if column in _WHOLE:
        return marks.whole
    return marks.text if column in _TEXT else marks.other


def _listed(table: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{name}" for name in names)


def _insert(marks: Marks, table: str, names: tuple[str, ...] = (), **literal: str) -> str:
    """An INSERT that binds these columns, or all; the others are NULL or have literal values."""
    bound = names or INSERTED[table]
    values = ", ".join([*(_mark(marks, name) for name in bound), *literal.values()])
    return f"INSERT INTO {table} ({', '.join((*bound, *literal))}) VALUES ({values})"


@cache
def statements(marks: Marks) -> Statements:
    """The statements with parameters written like this."""
    return Statements(
        **_models(marks),
        **_writes(marks),
        **_requests(marks),
        **_pages(marks),
        **_adjustments(marks),
        **_lookups(marks),
        **_strays(),
        **_removals(marks),
        **_settings(marks),
        **_voided(marks),
        **_events(marks),
    )


def _models(marks: Marks) -> dict[str, str]:
    revision = "SELECT alembic_version.version_num FROM alembic_version"
    columns = f"models.id, {_listed('calibrations', (*CALIBRATION_NAMES, 'alias_seq'))}"
    tables = "FROM models JOIN calibrations ON models.id = calibrations.model_id"
    named = f"WHERE models.model = {marks.text}"
    # Where models are spread over machines by model_id, what names it asks one machine, and
    # nothing else can lock a row.
    known = f"{named} AND calibrations.model_id = {marks.big}"
    # The revision travels with the row, so that a writer that opened the ledger before an upgrade
    # notices it inside its next transaction.
    row = f"SELECT {columns}, ({revision}) AS revision {tables}"
    return {
        "revision": revision,
        "load": f"{row} {named}{marks.lock}",
        "load_known": f"{row} {known}{marks.lock}",
        "find": f"SELECT {columns} {tables} {named}",
        "find_known": f"SELECT {columns} {tables} {known}",
        "find_id": f"SELECT models.id FROM models {named}",
        "list_calibrations": f"SELECT {columns}, models.model {tables} ORDER BY models.model",
        "list_names": "SELECT models.model FROM models",
    }


def _writes(marks: Marks) -> dict[str, str]:
    values = ", ".join(f"{name}={_mark(marks, name)}" for name in CALIBRATION_NAMES)
    return {
        "add_model": f"INSERT INTO models (model) VALUES ({marks.text}) RETURNING id",
        "add_call": _insert(marks, "calls", ("model_id", *_CALL)),
        # Their outcome is not bound, so that ordinary calls need not say that they have none.
        "add_timeout": _insert(marks, "calls", ("model_id", *_CALL), outcome=f"'{TIMEOUT}'"),
        "add_detail": _insert(marks, "call_details"),
        "add_adjustment": _insert(marks, "adjustments"),
        "add_calibration": _insert(marks, "calibrations"),
        "save": f"UPDATE calibrations SET {values} WHERE calibrations.model_id = {marks.big}",
    }


def _requests(marks: Marks) -> dict[str, str]:
    tables = (
        "FROM call_details JOIN calls ON calls.model_id = call_details.model_id"
        " AND calls.seq = call_details.seq"
    )
    key = f"call_details.model_id = {marks.big} AND call_details.request_key = {marks.other}"
    # Nothing that is not in the index: SQLite would rather look through all details of the model.
    found = f"SELECT call_details.request_key, {_listed('calls', ('seq', *_WHOLE_CALL[2:]))}"
    # Nor IN: with five keys or more, it does that, too.
    keys = " OR ".join([key] * REQUESTS_AT_ONCE)
    return {
        "find_request": f"{found} {tables} WHERE {key}",
        "find_requests": f"{found} {tables} WHERE {keys}",
        # One statement is one snapshot, in which no two calls that count have the same id.
        "repeated_requests": (
            "SELECT call_details.request_id, min(call_details.seq), max(call_details.seq)"
            f" FROM call_details WHERE call_details.model_id = {marks.big}"
            " AND call_details.request_key IN (SELECT call_details.request_key"
            f" FROM call_details WHERE call_details.model_id = {marks.big}"
            " AND call_details.request_key IS NOT NULL"
            " GROUP BY call_details.request_key HAVING count(*) > 1)"
            " AND NOT (EXISTS (SELECT * FROM voided"
            f" WHERE voided.model_id = {marks.big} AND voided.first_seq <= call_details.seq"
            " AND voided.last_seq >= call_details.seq))"
            " GROUP BY call_details.request_key, call_details.request_id HAVING count(*) > 1"
            " ORDER BY 2"
        ),
    }


def _voided(marks: Marks) -> dict[str, str]:
    of_model = f"FROM voided WHERE voided.model_id = {marks.big}"
    return {
        "voided": f"SELECT voided.first_seq, voided.last_seq {of_model} ORDER BY voided.first_seq",
        # Both in one statement, which is one snapshot: what is stored, and what it follows from.
        "voidings": (
            f"SELECT 0, voided.first_seq, voided.last_seq, NULL {of_model} UNION ALL"
            " SELECT 1, adjustments.seq, NULL, adjustments.voids FROM adjustments"
            f" WHERE adjustments.model_id = {marks.big} AND adjustments.kind = 'voided'"
            " ORDER BY 1, 2"
        ),
        "merges": (
            "SELECT aliases.merged FROM aliases JOIN models ON models.model = aliases.model"
            f" WHERE models.id = {marks.big} AND aliases.merged IS NOT NULL"
        ),
        "add_voided": _insert(marks, "voided"),
        "remove_voided": (
            f"DELETE FROM voided WHERE voided.model_id = {marks.big}"
            f" AND voided.first_seq = {marks.big}"
        ),
    }


def _between(marks: Marks, table: str) -> str:
    """Behind one entry of a model, up to another."""
    return (
        f"FROM {table} WHERE {table}.model_id = {marks.big} AND {table}.seq > {marks.big}"
        f" AND {table}.seq <= {marks.big}"
    )


def _pages(marks: Marks) -> dict[str, str]:
    calls, page = _between(marks, "calls"), f"LIMIT {marks.whole} OFFSET 0"
    ordered = f"{calls} ORDER BY calls.seq {page}"
    details = _listed("call_details", ("seq", "request_id", "details", "request_key"))
    whole, newest = f"SELECT {_listed('calls', _WHOLE_CALL)}", f"ORDER BY calls.seq DESC {page}"
    return {
        "page_columns": f"SELECT {_listed('calls', (*_CALL[:5], 'outcome'))} {ordered}",
        "page_calls": f"{whole} {ordered}",
        "page_details": (
            f"SELECT {details} {_between(marks, 'call_details')} ORDER BY call_details.seq"
        ),
        "newest_calls": f"{whole} {calls} {newest}",
        "newest_learnt": f"{whole} {calls} AND {_LEARNT} {newest}",
        "timeouts": f"SELECT calls.seq {calls} AND calls.outcome = '{TIMEOUT}'",
        # Not min(seq): in the order of the key, the search ends at the first.
        "first_call_from": (
            f"SELECT calls.seq {calls} AND calls.called_at >= {marks.big}"
            f" ORDER BY calls.seq LIMIT 1 OFFSET 0"
        ),
        "worst_calls": (
            f"SELECT calls.seq, calls.actual_ms {calls} AND {_LEARNT}"
            f" ORDER BY calls.actual_ms DESC {page}"
        ),
        "count_older": f"SELECT count(*) {calls} AND calls.called_at < {marks.big}",
    }


def _adjustments(marks: Marks) -> dict[str, str]:
    of_model = f"FROM adjustments WHERE adjustments.model_id = {marks.big}"
    columns = _listed("adjustments", Adjustment._fields)
    by_seq = f"SELECT {columns} {of_model} ORDER BY adjustments.seq"
    return {
        "adjustments": by_seq,
        "first_adjustment": f"{by_seq} LIMIT 1 OFFSET 0",
        "last_adjustment": f"SELECT max(adjustments.seq) {of_model}",
        # Openings are the most of them, and as many as models.
        "all_adjustments": (
            f"SELECT {columns}, models.model FROM adjustments"
            " JOIN models ON models.id = adjustments.model_id WHERE adjustments.kind <> 'opened'"
            " ORDER BY models.id, adjustments.seq"
        ),
    }


def _lookups(marks: Marks) -> dict[str, str]:
    of_model = f"FROM calls WHERE calls.model_id = {marks.big}"
    # Others may have appended since the calibration was read: so only up to an entry.
    window = (
        f"{of_model} AND calls.seq <= {marks.big} AND calls.called_at >= {marks.big}"
        f" AND calls.called_at < {marks.big}"
    )
    of_all = (
        f"FROM calls WHERE calls.model_id >= {marks.big} AND calls.model_id <= {marks.big}"
        f" AND calls.called_at >= {marks.big} AND calls.called_at < {marks.big}"
    )
    return {
        # One statement is one snapshot: rows that others append meanwhile are not taken for rows
        # behind the end. Each table is asked by the id itself, which names one machine where models
        # are spread over several; an id taken from another table does not.
        "ends": (
            f"SELECT calibrations.last_seq, (SELECT min(calls.seq) {of_model}),"
            f" (SELECT max(calls.seq) {of_model}),"
            f" (SELECT max(adjustments.seq) FROM adjustments"
            f" WHERE adjustments.model_id = {marks.big})"
            f" FROM calibrations WHERE calibrations.model_id = {marks.big}"
        ),
        "newest_call": f"SELECT max(calls.called_at) {of_model}",
        "first_scored": f"SELECT min(calls.seq) {window}",
        "last_scored": f"SELECT max(calls.seq) {window}",
        "last_learnt": f"SELECT max(calls.seq) {window} AND {_LEARNT}",
        "nth_newest": (
            f"SELECT calls.seq {window} ORDER BY calls.seq DESC LIMIT 1 OFFSET {marks.whole}"
        ),
        "newest_of_all": (
            f"SELECT calls.model_id, calls.seq, calls.called_at {of_all}"
            f" ORDER BY calls.called_at DESC, calls.model_id, calls.seq DESC"
            f" LIMIT {marks.whole} OFFSET 0"
        ),
        "stretches": (
            f"SELECT calls.model_id, min(calls.seq), max(calls.seq), min(calls.called_at) {of_all}"
            f" GROUP BY calls.model_id, calls.seq / {marks.whole}"
        ),
        "all_seqs": ("SELECT count(*), sum(calibrations.last_seq) FROM calibrations"),
    }


def _strays() -> dict[str, str]:
    """Rows that belong to nothing, looked for in the whole ledger."""
    unknown = " UNION ALL ".join(
        f"SELECT '{table}', {table}.model_id, count(*) FROM {table}"
        f" WHERE ({table}.model_id NOT IN (SELECT models.id FROM models))"
        f" GROUP BY {table}.model_id"
        for table, names in INSERTED.items()
        if "model_id" in names
    )
    return {
        "unknown_models": unknown,
        "unknown_calls": (
            "SELECT call_details.model_id, call_details.seq FROM call_details"
            " WHERE NOT (EXISTS (SELECT * FROM calls"
            " WHERE calls.model_id = call_details.model_id AND calls.seq = call_details.seq))"
            " ORDER BY call_details.model_id, call_details.seq LIMIT 1000 OFFSET 0"
        ),
        "uncalibrated_models": (
            "SELECT models.id, models.model FROM models"
            " WHERE (models.id NOT IN (SELECT calibrations.model_id FROM calibrations))"
        ),
    }


def _settings(marks: Marks) -> dict[str, str]:
    columns = _listed("settings", Setting._fields)
    aliases = _listed("aliases", ("seq", "recorded_at", "name"))
    return {
        # One statement is one snapshot: a setting that is added meanwhile is not taken for one
        # behind the end.
        "settings": (
            f"SELECT 0, {columns}, NULL, NULL, NULL FROM settings UNION ALL"
            # Second, for PostgreSQL gives a column the type of the first two.
            " SELECT 1, setting_heads.last_seq, NULL, NULL, NULL, setting_heads.head, NULL, NULL"
            " FROM setting_heads UNION ALL"
            f" SELECT 2, {aliases}, NULL, NULL, aliases.model, aliases.merged FROM aliases"
            " ORDER BY 2, 1"
        ),
        "newest_setting": (
            f"SELECT {columns} FROM settings ORDER BY settings.seq DESC LIMIT 1 OFFSET 0"
        ),
        "add_setting": _insert(marks, "settings"),
        "add_settings_head": _insert(marks, "setting_heads"),
        "save_settings_head": (
            f"UPDATE setting_heads SET last_seq={marks.big}, head={marks.other}"
            f" WHERE setting_heads.last_seq = {marks.big}"
        ),
        "alias": (
            f"SELECT aliases.model, aliases.seq FROM aliases WHERE aliases.name = {marks.text}"
            " ORDER BY aliases.seq DESC LIMIT 1 OFFSET 0"
        ),
        "add_alias": _insert(marks, "aliases"),
        "mark_alias": (
            f"UPDATE calibrations SET alias_seq={marks.big}"
            f" WHERE calibrations.model_id = {marks.big}"
        ),
    }


def _events(marks: Marks) -> dict[str, str]:
    nulls = ", ".join(["NULL"] * (len(Event._fields) - 1))
    end = "event_heads.last_seq, event_heads.head FROM event_heads"
    return {
        # One statement is one snapshot, as in `settings`.
        "events": (
            f"SELECT {_listed('events', Event._fields)}, NULL FROM events UNION ALL"
            f" SELECT event_heads.last_seq, {nulls}, event_heads.head FROM event_heads ORDER BY 1"
        ),
        # Who appends locks the end: of many imports that begin at once, each waits for the one
        # before it, and none has to begin anew.
        "events_end": f"SELECT {end}{' FOR UPDATE OF event_heads' if marks.lock else ''}",
        "add_event": _insert(marks, "events"),
        "add_events_head": _insert(marks, "event_heads"),
        "save_events_head": (
            f"UPDATE event_heads SET last_seq={marks.big}, head={marks.other}"
            f" WHERE event_heads.last_seq = {marks.big}"
        ),
    }


def _removals(marks: Marks) -> dict[str, str]:
    """The only statements that take history out.

    Rows of `calls`, `call_details` and `adjustments` are only ever inserted, with one exception:
    archiving replaces entries that lie in a verified file by the `archived` entry that stands for
    them, and bringing them back replaces that entry by them. Either happens in one transaction,
    and no head changes.
    """
    big = marks.big
    return {
        "remove_details": (
            f"DELETE FROM call_details WHERE call_details.model_id = {big}"
            f" AND call_details.seq <= {big}"
        ),
        "remove_calls": f"DELETE FROM calls WHERE calls.model_id = {big} AND calls.seq <= {big}",
        "remove_adjustments": (
            f"DELETE FROM adjustments WHERE adjustments.model_id = {big}"
            f" AND adjustments.seq <= {big}"
        ),
    }
