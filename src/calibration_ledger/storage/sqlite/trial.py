"""Whether a ledger that SQLite finds sound can be recorded to and read: tried, not concluded.

A trigger, an index or a CHECK of somebody else's can refuse a row, drop it or change it; and a name
that is no text any more ends every look at all models. The doctor tries both, without a trace.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.entries import SNAPSHOT_TYPES, Snapshot, is_typed
from calibration_ledger.core.events import upgrade_event
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS
from calibration_ledger.storage.statements import INSERTED, SQLITE, statements

if TYPE_CHECKING:
    import sqlite3

_TYPES = (int, *SNAPSHOT_TYPES, int, bytes, (int, type(None)), str)
"""Of the columns of `Statements.list_calibrations`."""

_NEWEST = "SELECT model_id, last_seq + 1 FROM calibrations ORDER BY updated_at DESC LIMIT 1"
_TRIAL = "calibration-ledger: a trial that is undone"
_COPIED = {
    "calls": ", ".join(name for name in INSERTED["calls"] if name not in {"model_id", "seq"}),
    "adjustments": ", ".join(("recorded_at", *Snapshot._fields)),
}
"""What a row takes over from the newest of its kind."""


def unreadable_models(connection: sqlite3.Connection) -> list[str]:
    """What keeps the list of models from being read."""
    try:
        with closing(connection.execute(statements(SQLITE).list_calibrations)) as rows:
            for row in rows:
                if not is_typed(row, _TYPES):
                    return [f"the calibration of {row[-1]!r} holds a value of another type"]
    except DRIVER_ERRORS as error:
        return [f"the models cannot be read ({error})"]
    return []


def refused_writes(copy: sqlite3.Connection) -> list[str]:
    """What a row of each kind meets in a copy: a call, a new model, an event ..."""
    found = []
    steps = {
        "a call": _call,
        "a call with a request id": _call_with_id,
        "a model": _model,
        "an adjustment": _adjustment,
        "a setting": _setting,
        "an alias": _alias,
        "an event": _event,
    }
    for name, step in steps.items():
        copy.execute("BEGIN")
        try:
            if not step(copy):
                found.append(f"{name} that is recorded is dropped or changed")
        except DRIVER_ERRORS as error:
            found.append(f"{name} cannot be recorded ({error})")
        copy.execute("ROLLBACK")
    return found


def _call(copy: sqlite3.Connection) -> bool:
    return _appended(copy, "calls", {})


def _call_with_id(copy: sqlite3.Connection) -> bool:
    newest = copy.execute(_NEWEST).fetchone()
    if not _call(copy):
        return False
    at = copy.execute(
        "SELECT model_id, seq FROM calls WHERE (model_id, seq) = (?, ?)", newest or (0, 0)
    ).fetchone()
    if at is None:
        return True
    row = (*at, _TRIAL.encode()[:16], _TRIAL)
    names = "model_id, seq, request_key, request_id"
    copy.execute(f"INSERT INTO call_details ({names}) VALUES (?, ?, ?, ?)", row)
    where = "WHERE model_id = ? AND seq = ?"
    return bool(copy.execute(f"SELECT {names} FROM call_details {where}", at).fetchall() == [row])


def _adjustment(copy: sqlite3.Connection) -> bool:
    return _appended(copy, "adjustments", {"kind": "reset"})


def _setting(copy: sqlite3.Connection) -> bool:
    newest = copy.execute("SELECT max(seq) FROM settings").fetchone()
    row = ((newest[0] or 0) + 1, 0, "ema.1", 0.5)
    copy.execute("INSERT INTO settings VALUES (?, ?, ?, ?)", row)
    end = (row[0], bytes(32))
    is_first = copy.execute("SELECT 1 FROM setting_heads").fetchone() is None
    save = "INSERT INTO setting_heads VALUES (?, ?)"
    copy.execute(save if is_first else "UPDATE setting_heads SET (last_seq, head) = (?, ?)", end)
    there = copy.execute("SELECT * FROM settings WHERE seq = ?", row[:1]).fetchall()
    return bool(there == [row] and copy.execute("SELECT * FROM setting_heads").fetchall() == [end])


def _alias(copy: sqlite3.Connection) -> bool:
    newest = copy.execute("SELECT max(seq) FROM aliases").fetchone()
    row = ((newest[0] or 0) + 1, 0, _TRIAL, "model", None)
    copy.execute("INSERT INTO aliases VALUES (?, ?, ?, ?, ?)", row)
    return bool(copy.execute("SELECT * FROM aliases WHERE name = ?", row[2:3]).fetchall() == [row])


def _event(copy: sqlite3.Connection) -> bool:
    newest = copy.execute("SELECT max(seq) FROM events").fetchone()
    row = ((newest[0] or 0) + 1, *upgrade_event(REVISION, REVISION, _TRIAL, 0)[1:])
    copy.execute(statements(SQLITE).add_event, row)
    end = (row[0], bytes(32))
    is_first = copy.execute("SELECT 1 FROM event_heads").fetchone() is None
    save = "INSERT INTO event_heads VALUES (?, ?)"
    copy.execute(save if is_first else "UPDATE event_heads SET (last_seq, head) = (?, ?)", end)
    there = copy.execute("SELECT * FROM events WHERE seq = ?", row[:1]).fetchall()
    return bool(there == [row] and copy.execute("SELECT * FROM event_heads").fetchall() == [end])


def _model(copy: sqlite3.Connection) -> bool:
    copy.execute("INSERT INTO models (model) VALUES (?)", (_TRIAL,))
    found = copy.execute("SELECT count(*) FROM models WHERE model = ?", (_TRIAL,)).fetchone()
    return bool(found == (1,))


def _appended(copy: sqlite3.Connection, table: str, fixed: dict[str, Any]) -> bool:
    """Whether a row and its calibration are there, as they were written; no row: nothing tried."""
    newest = copy.execute(_NEWEST).fetchone()
    columns = _COPIED[table]
    values = copy.execute(f"SELECT {columns} FROM {table} ORDER BY seq DESC LIMIT 1").fetchone()
    if newest is None or values is None:
        return True
    names = ", ".join(("model_id", "seq", *fixed, columns))
    row = (*newest, *fixed.values(), *values)
    marks = ", ".join("?" * len(row))
    copy.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)
    copy.execute("UPDATE calibrations SET last_seq = ? WHERE model_id = ?", newest[::-1])
    where = "WHERE model_id = ? AND seq = ?"
    there = copy.execute(f"SELECT {names} FROM {table} {where}", newest).fetchall()
    moved = copy.execute("SELECT last_seq FROM calibrations WHERE model_id = ?", newest[:1])
    return bool(there == [row] and moved.fetchall() == [newest[1:]])
