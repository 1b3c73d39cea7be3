"""The log: what happened to a ledger, in the order of time, and what is noted of imports."""

import io
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, LogEntry
from calibration_ledger.errors import (
    ImportRefusedError,
    InvalidInputError,
    LedgerCorruptError,
    ModelNotFoundError,
)
from calibration_ledger.verbs import import_calls

HEADER = "model,prompt_tokens,completion_tokens,actual_ms,request_id\n"
CALLS = HEADER + "a,1,2,300,r1\na,2,3,400,r2\nb,3,4,500,r3\n"
STATE = {
    "version": 1,
    "saved_at": 1_700_000_000.0,
    "models": [
        {
            "model": "a",
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


def csv_of(text, name="calls.csv"):
    file = io.StringIO(text)
    file.name = name
    return file


def kinds(calibrator, model=None):
    return [entry.kind for entry in calibrator.log(model)]


def imports(calibrator):
    return [entry for entry in calibrator.log() if entry.kind == "import"]


@pytest.mark.both
def test_a_ledger_that_is_not_there_has_no_log_and_a_call_is_none(calibrator):
    assert calibrator.log() == []
    calibrator.record("a", 1, 2.0)
    assert calibrator.log() == calibrator.log("a") == []


@pytest.mark.both
def test_what_happened_is_listed_in_the_order_of_time(calibrator, tmp_path):
    before = datetime.now(UTC)
    report = calibrator.import_calls("csv", csv_of(CALLS))
    calibrator.set_default_rule("kalman")
    calibrator.recalibrate(0.3, model="a")
    calibrator.void("a", import_id=report.import_id, note="in the wrong unit")
    calibrator.alias("c", "b")
    calibrator.reset("b")
    calibrator.record("b", 1, 2.0)
    calibrator.archive(datetime.now(UTC) + timedelta(days=1), tmp_path / "b.jsonl", model="b")
    entries = calibrator.log()
    assert [(entry.kind, entry.seq, entry.model) for entry in entries] == [
        ("import", 1, None),
        ("rule", 1, None),
        ("recalibrated", 4, "a"),
        ("voided", 5, "a"),
        ("alias", 2, "b"),
        ("archived", 4, "b"),
    ]
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    assert before <= entries[0].at <= entries[-1].at <= datetime.now(UTC)
    brought, rule, adopted, voided, alias, archived = entries
    assert (brought.import_id, brought.file, brought.format) == (
        report.import_id,
        "calls.csv",
        "csv",
    )
    assert (brought.calls, brought.models) == (3, ("a", "b"))
    assert (rule.rule, adopted.alpha) == ("kalman.2", 0.3)
    assert (voided.voids, voided.note, alias.name) == ("2..3", "in the wrong unit", "c")
    assert archived.note == "to b.jsonl"
    assert all(isinstance(entry, LogEntry) for entry in entries)


@pytest.mark.both
def test_a_models_log_has_what_concerns_it_under_any_of_its_names(calibrator):
    calibrator.import_calls("csv", csv_of(CALLS))
    calibrator.import_calls("csv", csv_of(HEADER + "b,1,2,3,r9\n"))
    calibrator.alias("c", "a")
    calibrator.set_default_rule("kalman")
    calibrator.reset("a")
    calibrator.reset("b")
    assert kinds(calibrator, "a") == kinds(calibrator, "c") == ["import", "alias", "reset"]
    assert kinds(calibrator, "b") == ["import", "import", "reset"]
    assert [entry.seq for entry in calibrator.log("b", last=2)] == [2, 4]
    with pytest.raises(ModelNotFoundError, match="no entry of a model 'd'"):
        calibrator.log("d")


@pytest.mark.parametrize("last", [0, -1, 1.5, True, "2"])
def test_last_must_be_a_number_of_entries(calibrator, last):
    with pytest.raises(InvalidInputError, match="last must be a whole number from 1"):
        calibrator.log(last=last)


def test_what_was_voided_itself_says_so_and_a_note_of_ours_is_none_of_the_users(calibrator):
    calibrator.record("a", 1, 2.0)
    calibrator.reset("a")
    calibrator.void("a", seq=3)
    reset, voided = calibrator.log()
    assert (reset.kind, reset.voided, reset.note) == ("reset", True, None)
    assert (voided.kind, voided.voided, voided.voids) == ("voided", False, "3")
    assert reset.to_dict() == {
        "at": reset.to_dict()["at"],
        "kind": "reset",
        "seq": 3,
        "model": "a",
        "voided": True,
        "rule": "ema.1",
        "alpha": 0.15,
    }


# -- what is noted of an import -------------------------------------------------------------


@pytest.mark.both
def test_an_import_that_records_nothing_is_not_noted_and_one_with_new_rows_is(calibrator):
    calibrator.import_calls("csv", csv_of(CALLS))
    calibrator.import_calls("csv", csv_of(CALLS))
    assert [entry.calls for entry in imports(calibrator)] == [3]
    calibrator.import_calls("csv", csv_of(CALLS + "a,9,9,900,r9\n"))
    assert [(entry.calls, entry.models) for entry in imports(calibrator)] == [
        (3, ("a", "b")),
        (1, ("a",)),
    ]
    with pytest.raises(ImportRefusedError):
        calibrator.import_calls("csv", csv_of(HEADER + "a,many,2,300,r7\n"))
    assert len(imports(calibrator)) == 2


def test_an_import_that_was_cut_off_is_noted_with_its_first_calls(calibrator, monkeypatch):
    rows = HEADER + "".join(f"a,{i},2,300,r{i}\n" for i in range(5))
    write, done = import_calls.write_calls, []

    def failing(*arguments):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(write(*arguments))
        return done[-1]

    monkeypatch.setattr(import_calls, "BATCH", 2)
    monkeypatch.setattr(import_calls, "write_calls", failing)
    with pytest.raises(KeyboardInterrupt):
        calibrator.import_calls("csv", csv_of(rows))
    assert [entry.calls for entry in imports(calibrator)] == [5]
    monkeypatch.setattr(import_calls, "write_calls", write)
    calibrator.import_calls("csv", csv_of(rows))
    assert [entry.calls for entry in imports(calibrator)] == [5, 3]
    assert len({entry.import_id for entry in imports(calibrator)}) == 1


def test_neither_a_folder_nor_a_control_character_is_noted(calibrator, tmp_path):
    folder = tmp_path / "secret folder"
    folder.mkdir()
    file = folder / "calls\x1b[2J.csv"
    file.write_text(CALLS)
    calibrator.import_calls("csv", file)
    (entry,) = imports(calibrator)
    assert entry.file == "calls\\x1b[2J.csv"
    calibrator.import_calls("csv", csv_of(HEADER + "x,1,2,3,r\n", "<stdin>"))
    assert imports(calibrator)[1].file == "<stdin>"


@pytest.mark.both
def test_a_state_is_noted_once_and_its_opening_balances_are_told_by_it(calibrator, tmp_path):
    file = tmp_path / "state.json"
    file.write_text(json.dumps(STATE))
    calibrator.import_calls("state", file)
    (entry,) = calibrator.log()
    assert (entry.kind, entry.format, entry.file) == ("import", "state", "state.json")
    assert (entry.calls, entry.models, entry.import_id) == (0, ("a",), None)


@pytest.mark.both
def test_a_ledger_that_is_imported_brings_its_imports_along_and_comes_back_the_same(
    calibrator, tmp_path
):
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.import_calls("csv", csv_of(CALLS))
        other.set_default_rule("kalman")
        other.export_ledger("jsonl", tmp_path / "one.jsonl")
        calibrator.import_calls("ledger", tmp_path / "one.jsonl")
        brought, _, taken = calibrator.log()
        assert brought == other.log()[0]
        assert (taken.kind, taken.format, taken.file) == ("import", "ledger", "one.jsonl")
        assert (taken.calls, taken.models) == (3, ("a", "b"))
        calibrator.export_ledger("jsonl", tmp_path / "two.jsonl")
        assert (tmp_path / "one.jsonl").read_text() == (tmp_path / "two.jsonl").read_text()
        calibrator.import_calls("ledger", tmp_path / "one.jsonl")
        assert len(calibrator.log()) == 3
        other.import_calls("csv", csv_of(CALLS + "b,9,9,900,r9\n", "more.csv"))
        other.export_ledger("jsonl", tmp_path / "one.jsonl", overwrite=True)
        calibrator.import_calls("ledger", tmp_path / "one.jsonl")
        assert [(entry.file, entry.calls) for entry in imports(calibrator)] == [
            ("calls.csv", 3),
            ("one.jsonl", 3),
            ("more.csv", 1),
            ("one.jsonl", 1),
        ]
        assert calibrator.heads() == other.heads()
        assert calibrator.audit(heads=other.heads()) == []


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"calls":3', '"calls":4', "not the head of the events"),
        ('"seq":1,"recorded_at"', '"seq":2,"recorded_at"', "event 2 where event 1 must be"),
        ('"format":"csv"', '"format":"ledger"', "must be an import of calls"),
        ('"event":"import"', '"event":"upgrade"', "an event must have"),
        ('"calls":3,', "", "calls missing"),
        ('"events":1,"head"', '"events":2,"head"', "not the head of the events"),
        (',"events":1}}', "}}", "the end counts"),
    ],
)
def test_a_ledger_file_whose_events_were_changed_is_refused(calibrator, tmp_path, old, new, why):
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.import_calls("csv", csv_of(CALLS))
        other.export_ledger("jsonl", tmp_path / "one.jsonl")
    text = (tmp_path / "one.jsonl").read_text()
    assert old in text
    (tmp_path / "one.jsonl").write_text(text.replace(old, new, 1))
    with pytest.raises(ImportRefusedError, match=why):
        calibrator.import_calls("ledger", tmp_path / "one.jsonl")
    assert calibrator.log() == []


def test_a_ledger_file_without_the_head_of_its_events_is_refused(calibrator, tmp_path):
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.import_calls("csv", csv_of(CALLS))
        other.export_ledger("jsonl", tmp_path / "one.jsonl")
    lines = (tmp_path / "one.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "one.jsonl").write_text("".join([*lines[:2], *lines[3:]]))
    with pytest.raises(ImportRefusedError, match="head of the events is missing"):
        calibrator.import_calls("ledger", tmp_path / "one.jsonl")


def test_an_export_of_one_model_and_an_archive_leave_the_imports_out(calibrator, tmp_path):
    calibrator.import_calls("csv", csv_of(CALLS))
    out = io.StringIO()
    calibrator.export_ledger("jsonl", out, model="a")
    calibrator.archive(datetime.now(UTC) + timedelta(days=1), tmp_path / "a.jsonl")
    assert "event" not in out.getvalue() + (tmp_path / "a.jsonl").read_text()
    assert kinds(calibrator) == ["import", "archived", "archived"]


# -- several at once ------------------------------------------------------------------------


@pytest.mark.both
def test_many_imports_at_once_beside_aliases_are_all_noted_once(ledger):
    def bring(i):
        with AdaptiveCalibrator(ledger) as one:
            one.import_calls("csv", csv_of(HEADER + f"a,{i},2,300,r{i}\nb,{i},2,300,r{i}\n"))
            one.alias(f"a-{i}", "a")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(bring, range(12)))
    with AdaptiveCalibrator(ledger) as calibrator:
        noted = imports(calibrator)
        assert sorted(entry.seq for entry in noted) == list(range(1, 13))
        assert len({entry.import_id for entry in noted}) == 12
        assert len(calibrator.aliases()) == 12
        assert calibrator.audit() == []


# -- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE events SET calls = 4 WHERE seq = 1",
        "UPDATE events SET file = 'other.csv' WHERE seq = 1",
        "DELETE FROM events WHERE seq = 1",
        "DELETE FROM events WHERE seq = 2",
        "DELETE FROM event_heads",
    ],
)
def test_an_event_that_was_changed_or_lost_is_found_and_no_log_is_shown(ledger_path, edit):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.import_calls("csv", csv_of(CALLS))
        calibrator.import_calls("csv", csv_of(HEADER + "a,9,9,900,r9\n"))
        assert calibrator.audit() == []
    with closing(sqlite3.connect(ledger_path)) as connection, connection:
        connection.execute(edit)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        findings = calibrator.audit()
        assert {(finding.model, finding.check) for finding in findings} <= {
            (None, "sequence"),
            (None, "head"),
        }
        assert findings
        assert calibrator.audit(model="a") == []
        with pytest.raises(LedgerCorruptError, match="of its events"):
            calibrator.log()
