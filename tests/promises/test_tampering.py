"""Tampering: whatever is changed in the file by hand, the audit finds it, and nothing crashes.

The edits are made as somebody with a SQLite shell would make them, constraints switched off. Each
column of each table is edited in turn; the schema itself says which there are, so that a new
column without a check fails here.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shutil
import sqlite3
import struct
from contextlib import closing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator, CalibrationLedgerError, Call
from calibration_ledger.core.audit import CHECKS
from calibration_ledger.core.entries import ADJUSTMENT_KINDS
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerCorruptError,
    LedgerError,
    ModelNotFoundError,
    UnknownRuleError,
)
from calibration_ledger.storage.tables import metadata
from support.reference import TABLES, dump, look_into

LATER = datetime(2100, 1, 1, tzinfo=UTC)
STATE = {
    "version": 1,
    "saved_at": 1_700_000_000.0,
    "models": [
        {
            "model": "old",
            "alpha": 0.2,
            "sample_count": 12,
            "last_updated": 1_700_000_000.5,
            "ms_per_prompt_token": 0.25,
            "ms_per_completion_token": 9.0,
            "base_overhead_ms": 100.0,
            "total_absolute_error_ms": 6000.0,
            "total_predicted_ms": 9000.0,
        }
    ],
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A ledger with every kind of entry: its file, closed and complete."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "state.json").write_text(json.dumps(STATE))
    with AdaptiveCalibrator(folder / "calls.db") as calibrator:
        calibrator.import_calls("state", folder / "state.json")
        for i in range(6):
            for model in ("m", "n", "old"):
                calibrator.record(
                    model,
                    10 * i,
                    300.0 + 77 * i,
                    completion_tokens=5 * i + 1,
                    request_id=f"r-{i}" if i % 2 else None,
                    details={"ttft_ms": 1.5 * i} if i % 3 == 0 else None,
                )
        calibrator.recalibrate(0.4, model="m")
        calibrator.record("m", 10, 300.0, completion_tokens=5)
        calibrator.reset("n")
        calibrator.record("n", 10, 300.0, completion_tokens=5)
        calibrator.recalibrate(0.9)
        calibrator.record("n", 10, 3000.0, completion_tokens=5, outcome="timeout")
        for i in range(5):
            calibrator.record(
                "gone", 10 * i, 300.0 + 77 * i, completion_tokens=5 * i + 1, request_id=f"r-{i}"
            )
        calibrator.archive(LATER, folder / "gone.jsonl", model="gone")
        calibrator.void("old", seq=(3, 4))
        calibrator.set_default_rule("kalman", 0.02)
        calibrator.set_default_rule("ema")
        calibrator.alias("nick", "m")
        assert calibrator.audit() == []
    return folder / "calls.db"


@pytest.fixture
def edit(template, tmp_path):
    """Run statements on a copy of the template, constraints off; gives the copy's path."""
    return lambda *statements: edited(template, tmp_path / "calls.db", *statements)


def edited(template, path, *statements):
    # A log that a failed write left behind belongs to the file before.
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    shutil.copyfile(template, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        for statement in statements:
            text, parameters = (statement, ()) if isinstance(statement, str) else statement
            assert connection.execute(text, parameters).rowcount != 0, statement
    return path


def retyped(template, path, table, column, where, value):
    """A copy in which a row holds a value of a type that a STRICT table refuses.

    No statement does that, but a single bit can: the type of each value is in the file beside it.
    """
    shutil.copyfile(template, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        (text,) = connection.execute(
            "SELECT sql FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
        change = "UPDATE sqlite_master SET sql = ? WHERE name = ?"
        loose = text.replace("STRICT", "").replace("WITHOUT ROWID,", "WITHOUT ROWID")
        # Without a type a column keeps what it is given, and without NOT NULL nothing, too.
        loose = re.sub(rf"\t{column} \w+( NOT NULL)?,", rf"\t{column},", loose)
        assert loose != text
        connection.execute(change, (loose, table))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("PRAGMA ignore_check_constraints=ON")
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute(change, (text, table))
    return path


def audit(path, **arguments):
    with AdaptiveCalibrator(path) as calibrator:
        return calibrator.audit(**arguments)


def found(findings):
    return {(finding.model, finding.seq, finding.check) for finding in findings}


def use_everything(path):
    """No use of a tampered ledger may end in anything but a result or a typed error.

    Gives what the audit found before.
    """
    with AdaptiveCalibrator(path, durability="normal") as calibrator:
        findings = calibrator.audit()
        for use in (
            lambda: calibrator.predict("m", 10, 5),
            lambda: calibrator.calibration("m"),
            lambda: calibrator.get_stats("m"),
            lambda: list(calibrator.calls()),
            lambda: list(calibrator.calls("m", last=2)),
            lambda: calibrator.replay(0.5),
            calibrator.replay,
            lambda: calibrator.sweep([0.5]),
            calibrator.suggest,
            calibrator.heads,
            calibrator.default_rule,
            calibrator.log,
            lambda: calibrator.log("m", last=1),
            calibrator.all_stats,
            lambda: calibrator.void("m", seq=[3, (5, 6)], request_id="r-0", dry_run=True),
            lambda: calibrator.void("m", seq=(10, 11), dry_run=True),
            lambda: calibrator.void("m", request_id="r-3"),
            lambda: calibrator.recalibrate(0.3, model="m"),
            lambda: calibrator.void("m", seq=2),
            lambda: calibrator.record("m", 1, 2.0),
            lambda: calibrator.record("m", 1, 2.0, request_id="r-1"),
            lambda: calibrator.record_many([Call("m", 1, 2, 3.0), Call("n", 1, 2, 3.0)]),
            lambda: calibrator.reset("m"),
            calibrator.reset,
            lambda: calibrator.record("new", 1, 2.0),
            lambda: calibrator.set_default_rule("kalman"),
        ):
            with contextlib.suppress(CalibrationLedgerError):
                use()
        calibrator.audit()
        return findings


# -- each column ----------------------------------------------------------------------------

ROWS = {
    "models": [("id = 2", "m", None), ("id = 4", "gone", None)],
    "calls": [
        ("model_id = 2 AND seq = 2", "m", 2),
        ("model_id = 3 AND seq = 11", "n", 11),  # a time-out
        ("model_id = 2 AND seq = 9", "m", 9),
    ],
    "call_details": [
        ("model_id = 2 AND seq = 2", "m", 2),
        ("model_id = 2 AND seq = 3", "m", 3),
    ],
    "adjustments": [
        ("model_id = 2 AND seq = 1", "m", 1),
        ("model_id = 2 AND seq = 8", "m", 8),
        ("model_id = 3 AND seq = 8", "n", 8),
        ("model_id = 1 AND seq = 9", "old", 9),
        ("model_id = 1 AND seq = 1", "old", 1),
        ("model_id = 4 AND seq = 6", "gone", 6),
    ],
    "calibrations": [("model_id = 2", "m", 10), ("model_id = 4", "gone", 6)],
    "settings": [("seq = 1", "", 1), ("seq = 2", "", 2)],
    "setting_heads": [("last_seq = 3", "", 3)],
    "aliases": [("seq = 3", "", 3)],
    "voided": [("model_id = 1 AND first_seq = 3", "old", 3)],
    "events": [("seq = 1", None, 1)],
    "event_heads": [("last_seq = 1", None, 1)],
}


COLUMNS = {table: [column.name for column in metadata.tables[table].columns] for table in TABLES}
NULLABLE = {
    column.name for table in TABLES for column in metadata.tables[table].columns if column.nullable
}


def bent(column, value):
    """A few wrong values in a column that holds this one."""
    if isinstance(value, float):
        return [math.nextafter(value, math.inf), 0.5, math.inf, -1.0]
    if isinstance(value, int):
        return [value + 1, value + 1000, 0, 2**63 - 1, -(2**63)]
    if isinstance(value, bytes):
        flipped = bytes([value[0] ^ 1, *value[1:]])
        return [flipped, value[:-1], b"", *([None] if column in NULLABLE else [])]
    if isinstance(value, str):
        kinds = [*ADJUSTMENT_KINDS] if column == "kind" else []
        return [value + "x", value[:-1], "", *kinds, *([None] if column in NULLABLE else [])]
    if column in {"request_key", "rule_state"}:
        return [b"", b"1234567", b"12345678", b"0123456789abcdef"]
    return ["", "x", '{"a":1}']


# One row for each column in every run, all of them under `stress`, and there used in every way
# after each edit, not after the first alone.
EDITS = [
    pytest.param(
        *(table, column, where, model, thorough),
        id=f"{table}.{column}-{model}-{seq}{'-thorough' * thorough}",
        marks=[pytest.mark.stress] if thorough else [],
    )
    for table, columns in COLUMNS.items()
    for place, column in enumerate(columns)
    for row, (where, model, seq) in enumerate(ROWS[table])
    for thorough in (False, True)
    if thorough or row == place % len(ROWS[table])
]


@pytest.mark.parametrize(("table", "column", "where", "model", "thorough"), EDITS)
def test_an_edit_of_any_column_is_found_where_it_is(
    template, tmp_path, table, column, where, model, thorough
):
    with look_into(template) as connection:
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
    path = tmp_path / "calls.db"
    tried = 0
    for wrong in bent(column, value):
        if wrong == value:
            continue
        try:
            edited(template, path, (f"UPDATE {table} SET {column} = ? WHERE {where}", (wrong,)))
        except sqlite3.IntegrityError:  # another row has that key: there is no such edit
            continue
        tried += 1
        findings = use_everything(path) if thorough or tried == 1 else audit(path)
        assert findings, f"{table}.{column}: {value!r} became {wrong!r}"
        assert {finding.check for finding in findings} <= set(CHECKS)
        if column not in {"id", "model_id", "model"}:
            assert model in {finding.model for finding in findings}


def other_types(column, value):
    """Values of every other type that SQLite can be brought to store in this column."""
    keys = {"model_id", "seq", "first_seq"}
    others = [2.5, b"seven", "seven", 7, *([] if column in keys else [None])]
    return [other for other in others if type(other) is not type(value)]


ROWID = {("models", "id"), ("calibrations", "model_id")}
"""Columns that are the row's own number, which has no other type."""

RETYPED = [
    pytest.param(
        *(table, column, where, which),
        id=f"{table}.{column}-{row}-{which}",
        marks=[pytest.mark.stress] if (row, which) != (0, place % 4) else [],
    )
    for table, columns in COLUMNS.items()
    for place, column in enumerate(columns)
    if (table, column) not in ROWID
    for row, (where, _, _) in enumerate(ROWS[table])
    for which in range(4)
]


@pytest.mark.parametrize(("table", "column", "where", "which"), RETYPED)
def test_a_value_of_another_type_is_found_and_crashes_nothing(
    template, tmp_path, table, column, where, which
):
    with look_into(template) as connection:
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE {where}").fetchone()
    others = other_types(column, value)
    other = others[which % len(others)]
    path = retyped(template, tmp_path / "calls.db", table, column, where, other)
    assert use_everything(path)


@pytest.mark.parametrize(
    ("table", "column", "seq", "check"),
    [
        ("calls", "prompt_tokens", 2, "prediction"),
        ("calls", "completion_tokens", 5, "prediction"),
        ("calls", "predicted_ms", 5, "prediction"),
        ("adjustments", "base_overhead_ms", 1, "prediction"),
        ("adjustments", "base_overhead_ms", 8, "recalibrated"),
        ("adjustments", "sample_count", 10, "recalibrated"),
        ("calls", "called_at", 2, "head"),
        ("adjustments", "recorded_at", 1, "head"),
    ],
)
def test_arithmetic_names_the_entry_and_the_head_what_it_cannot_see(
    edit, table, column, seq, check
):
    where = f"model_id = 2 AND seq = {seq}"
    findings = found(audit(edit(f"UPDATE {table} SET {column} = {column} + 1 WHERE {where}")))
    if check == "head":
        assert findings == {("m", 10, "head")}
    else:
        first = min(number for _, number, name in findings if name == check)
        assert first == (seq if table == "adjustments" and seq > 1 else max(seq, 2))
        assert ("m", 10, "head") in findings


# -- rows -----------------------------------------------------------------------------------
# Rows that both databases take are deleted, put in and moved in tests/cli/test_forgery.py.


def test_that_all_adjustments_are_deleted_is_a_finding_and_a_typed_error(edit):
    path = edit("DELETE FROM adjustments WHERE model_id = 2")
    assert "opening" in {finding.check for finding in use_everything(path)}
    with AdaptiveCalibrator(path) as calibrator:
        for use in (calibrator.replay, lambda: calibrator.void("m", seq=2)):
            with pytest.raises(LedgerCorruptError, match="does not begin with an opening"):
                use()


@pytest.mark.parametrize("seq", [0, -5, -(2**63)])
def test_an_entry_put_before_the_beginning_is_found(edit, seq):
    path = edit(f"INSERT INTO calls VALUES (2, {seq}, 0, 1, 2, 3.0, 4.0, NULL)")
    assert ("m", seq, "sequence") in found(audit(path))
    path = edit(
        f"INSERT INTO adjustments VALUES (2, {seq}, 'reset', 0, 'ema.1', 0.1, 1, 2, 3, 0, 0, 0,"
        " NULL, 0, NULL,"
        " NULL, NULL, NULL, NULL)"
    )
    assert ("m", seq, "sequence") in found(audit(path))


@pytest.mark.parametrize("seq", [1, 5, 6])
def test_a_call_put_where_calls_were_archived_is_found(edit, seq):
    path = edit(f"INSERT INTO calls VALUES (4, {seq}, 0, 1, 2, 3.0, 4.0, NULL)")
    assert "gone" in {finding.model for finding in audit(path)}
    path = edit(
        f"INSERT INTO adjustments VALUES (4, {seq % 6}, 'opened', 0, 'ema.1', 0.1, 1, 2, 3, 0, 0,"
        " 0, NULL, 0, NULL,"
        " NULL, NULL, NULL, NULL)"
    )
    assert "gone" in {finding.model for finding in audit(path)}


def test_an_archived_entry_of_another_model_is_found(edit):
    path = edit(
        "DELETE FROM adjustments WHERE model_id = 3 AND seq = 1",
        "UPDATE adjustments SET model_id = 3 WHERE model_id = 4",
    )
    assert ("n", 6, "archived") in found(audit(path))


def test_two_models_that_changed_names_are_found(edit):
    findings = found(
        audit(
            edit(
                "UPDATE models SET model = 'x' WHERE id = 2",
                "UPDATE models SET model = 'm' WHERE id = 3",
                "UPDATE models SET model = 'n' WHERE id = 2",
            )
        )
    )
    assert {(model, check) for model, _, check in findings} == {("m", "head"), ("n", "head")}


# -- foreign rows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("calls", "(77, 1, 0, 1, 2, 3.0, 4.0, NULL)"),
        ("call_details", "(77, 1, NULL, NULL, '{}')"),
        (
            "adjustments",
            f"(77, 1, 'opened', 0, 'ema.1', 0.1, 1, 2, 3, 0, 0, 0, NULL, 0{', NULL' * 5})",
        ),
        ("calibrations", "(77, 'ema.1', 0.1, 1, 2, 3, 0, 0, 0, NULL, 0, 1, zeroblob(32), NULL)"),
    ],
)
def test_rows_of_no_model_are_found(edit, table, values):
    findings = audit(edit(f"INSERT INTO {table} VALUES {values}"))
    assert (None, "foreign row") in {(finding.model, finding.check) for finding in findings}
    assert any(table in finding.expected and "77" in finding.found for finding in findings)


def test_a_model_without_anything_is_found(edit):
    path = edit("INSERT INTO models VALUES (77, 'ghost')")
    assert found(audit(path)) == {("ghost", None, "calibration")}


@pytest.mark.parametrize(
    "lost",
    [
        *("calls", "adjustments", "calibrations", "models", "models WHERE id = 2"),
        *("settings", "settings WHERE seq = 1", "settings WHERE seq = 2", "setting_heads"),
        *("events", "event_heads"),
    ],
)
def test_rows_that_were_lost_are_found_and_crash_nothing(edit, lost):
    findings = use_everything(edit(f"DELETE FROM {lost}"))
    assert findings
    if lost == "models WHERE id = 2":
        rows = {f.expected for f in findings}
        for table in ("calls", "call_details", "adjustments", "calibrations"):
            assert any(f"rows of {table} " in text for text in rows), table


def test_one_model_is_audited_alone(edit):
    path = edit("UPDATE calls SET actual_ms = 1.0 WHERE model_id = 2 AND seq = 2")
    assert audit(path, model="n") == []
    assert ("m", 10, "head") in found(audit(path, model="m"))
    with pytest.raises(ModelNotFoundError):
        audit(path, model="unseen")


# -- rules ----------------------------------------------------------------------------------


def test_a_rule_that_this_program_does_not_know_is_a_finding_and_an_error_but_no_crash(edit):
    path = edit("UPDATE calibrations SET rule = 'kalman.7' WHERE model_id = 2")
    assert ("m", 10, "calibration") in found(audit(path))
    rows = dump(path)
    with AdaptiveCalibrator(path) as calibrator:
        for use in (
            lambda: calibrator.record("m", 1, 2.0),
            lambda: calibrator.record("m", 1, 2.0, request_id="new"),
            lambda: calibrator.record_many([Call("n", 1, 2, 3.0), Call("m", 1, 2, 3.0)]),
            lambda: calibrator.replay(model="m"),
            lambda: calibrator.reset("m"),
        ):
            with pytest.raises(UnknownRuleError, match=r"'kalman\.7'.*upgrade this one") as caught:
                use()
            assert isinstance(caught.value, LedgerError)
            assert not isinstance(caught.value, InvalidInputError)
        assert dump(path) == rows
        # Every rule predicts along the same line, so predictions go on.
        assert calibrator.predict("m", 1).sample_count == 7
        assert calibrator.calibration("m").rule == "kalman.7"
        calibrator.record("n", 1, 2.0)


def test_an_entry_of_a_rule_that_this_program_does_not_know_is_a_finding(edit):
    path = edit(
        "UPDATE adjustments SET rule = 'ema.2' WHERE model_id = 2 AND seq = 8",
        "UPDATE calibrations SET rule = 'ema.2' WHERE model_id = 2",
    )
    findings = audit(path)
    assert ("m", 8, "rule") in found(findings)
    assert any("ema.2" in finding.found for finding in findings)


# -- texts and values that no program of ours wrote -----------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE models SET model = CAST(x'ff' AS TEXT) WHERE id = 2",
        "UPDATE call_details SET details = CAST(x'ff' AS TEXT) WHERE model_id = 2 AND seq = 2",
        "UPDATE call_details SET request_id = CAST(x'ff' AS TEXT) WHERE model_id = 2 AND seq = 3",
        "UPDATE adjustments SET note = CAST(x'ff' AS TEXT) WHERE model_id = 2 AND seq = 1",
        "UPDATE adjustments SET kind = CAST(x'ff' AS TEXT) WHERE model_id = 2 AND seq = 8",
        "UPDATE calibrations SET rule = CAST(x'ff' AS TEXT) WHERE model_id = 2",
    ],
)
def test_a_text_that_is_none_is_a_finding(edit, statement):
    assert "storage" in {finding.check for finding in use_everything(edit(statement))}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", '{"a":NaN}', "[" * 3000, '{"a":' * 600, "1" * 4000]
)
def test_details_that_are_no_json_object_are_a_finding_and_a_typed_error(edit, text):
    path = edit(("UPDATE call_details SET details = ? WHERE model_id = 2 AND seq = 2", (text,)))
    assert ("m", 10, "head") in found(audit(path))
    with AdaptiveCalibrator(path) as calibrator:
        with pytest.raises(LedgerCorruptError, match=r"'m'.*entry 2.*an audit finds"):
            list(calibrator.calls("m"))
        assert calibrator.replay(0.5, model="m")


@pytest.mark.parametrize(
    ("column", "value"),
    [("called_at", -1), ("called_at", 2**62), ("prompt_tokens", -5), ("actual_ms", math.inf)],
)
def test_a_number_out_of_its_bounds_is_a_finding_and_a_typed_error(edit, column, value):
    path = edit((f"UPDATE calls SET {column} = ? WHERE model_id = 2 AND seq = 2", (value,)))
    assert ("m", 10, "head") in found(use_everything(path))


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 253_402_300_800_000_000])
@pytest.mark.parametrize("column", ["updated_at", "sample_count", "last_seq"])
def test_a_live_number_at_the_edge_is_a_finding_and_no_crash(edit, column, value):
    path = edit((f"UPDATE calibrations SET {column} = ? WHERE model_id = 2", (value,)))
    assert "m" in {finding.model for finding in use_everything(path)}


@pytest.mark.parametrize("value", [-1.0, -math.inf, -5e-324, 0.0, math.inf, math.nan, 1e308])
@pytest.mark.parametrize("row", ["calibrations SET {}", "adjustments SET {} WHERE seq = 1"])
def test_a_rule_state_that_no_program_wrote_is_a_finding_and_no_crash(tmp_path, row, value):
    path = tmp_path / "kalman.db"
    with AdaptiveCalibrator(path, rule="kalman", durability="normal") as calibrator:
        for model in "mn":
            calibrator.record_many(Call(model, 7 * i, 5 * i, 300.0 + i) for i in range(12))
    state = struct.pack(">8d", *[value] * 8)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE " + row.format("rule_state = ?"), (state,))
    assert {finding.model for finding in use_everything(path)} == {"m", "n"}


# -- any edit at all ------------------------------------------------------------------------

numbers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@given(data=st.data())
def test_any_single_edit_is_found(template, tmp_path, data):
    table = data.draw(st.sampled_from(TABLES))
    column = data.draw(st.sampled_from(COLUMNS[table]))
    with look_into(template) as connection:
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
    row = data.draw(st.sampled_from(rows))
    old = row[column]
    kinds = {int: numbers, float: reals, str: texts, bytes: st.binary(max_size=40)}
    new = data.draw(kinds.get(type(old), st.binary(max_size=16) if "_" in column else texts))
    if new == old:
        return
    keys = [name for name in ("model_id", "seq", "id", "last_seq") if name in COLUMNS[table]]
    where = " AND ".join(f"{name} = {row[name]}" for name in keys)
    try:
        path = edited(
            template,
            tmp_path / "calls.db",
            (f"UPDATE {table} SET {column} = ? WHERE {where}", (new,)),
        )
    except sqlite3.IntegrityError:
        return
    assert audit(path)


@pytest.mark.parametrize("places", [50, pytest.param(300, marks=pytest.mark.stress)])
def test_flipped_bytes_of_the_file_are_found_or_refused(template, tmp_path, places):
    """Anywhere in the file: a finding, a typed error, or nothing but free space was hit."""
    sound = template.read_bytes()
    rows = dump(template)
    path = tmp_path / "calls.db"
    missed = 0
    for position in range(100, len(sound), len(sound) // places):
        damaged = bytearray(sound)
        damaged[position] ^= 0xFF
        path.write_bytes(bytes(damaged))
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        try:
            findings = audit(path)
        except LedgerError:
            continue
        if not findings:
            missed += 1
            assert dump(path) == rows, position
    assert missed
