"""Voided calls at the edges: shown and exported as what they are, and never learnt elsewhere."""

import csv
import io
import json

import pytest

from calibration_ledger.cli.output import json_text
from support.histories import soon
from support.importing import HEADER, as_in_the_file, json_row

VOIDED = f"{HEADER},voided"


@pytest.fixture
def _two_are_voided(calibrator):
    """Ten calls, of which the entries 3 and 7 are voided."""
    calibrator.record_many(
        {
            "model": "m",
            "prompt_tokens": i,
            "actual_ms": 10.5 * i,
            "called_at": soon(i),
            "request_id": f"r{i}" if i % 2 else None,
        }
        for i in range(10)
    )
    calibrator.void("m", seq=[3, 7])


@pytest.mark.usefixtures("_two_are_voided")
def test_calls_say_that_they_are_voided(calibrator):
    assert [call.seq for call in calibrator.calls() if call.voided] == [3, 7]
    assert [call.seq for call in calibrator.calls("m", last=5) if call.voided] == [7]
    assert sum(1 for call in calibrator.calls(since=soon(0)) if call.voided) == 2


@pytest.mark.usefixtures("_two_are_voided")
def test_csv_says_which_calls_are_voided_and_its_import_leaves_them_out(calibrator, other):
    out = io.StringIO()
    assert calibrator.export_ledger("csv", out).calls == 10
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["voided"] for row in rows] == [
        str(call.voided).lower() for call in calibrator.calls()
    ]
    assert [row["seq"] for row in rows if row["voided"] == "true"] == ["3", "7"]
    assert {row["voided"] for row in rows} == {"true", "false"}
    report = other.import_calls("csv", io.StringIO(out.getvalue()))
    assert (report.recorded, report.voided, report.skipped) == (8, 2, 0)
    arrived = as_in_the_file(other.calls(), report.import_id)
    sent = [call for call in calibrator.calls() if not call.voided]
    assert [call.prompt_tokens for call in arrived] == [call.prompt_tokens for call in sent]


@pytest.mark.usefixtures("_two_are_voided")
def test_json_of_the_history_says_which_calls_are_voided_and_its_import_leaves_them_out(
    calibrator, other
):
    lines = [json_text(call) for call in calibrator.calls()]  # as `calib history` does
    rows = [json.loads(line) for line in lines]
    assert [row["seq"] for row in rows if "voided" in row] == [3, 7]
    assert all(row["voided"] is True for row in rows if "voided" in row)
    report = other.import_calls("jsonl", io.StringIO("\n".join(lines)))
    assert (report.recorded, report.voided) == (8, 2)


def test_a_voided_row_is_never_learnt_and_no_part_of_the_import(take, calibrator, other):
    at = soon(1).isoformat()
    good = json_row(voided=False, called_at=at) + json_row(model="n", voided=None)
    mixed = good + json_row(actual_ms=1e9, voided=True) + json_row(model="only", voided=True)
    report = take("jsonl", mixed)
    assert (report.recorded, report.voided, report.models) == (2, 2, 2)
    assert report.to_dict()["voided"] == 2
    alone = other.import_calls("jsonl", io.StringIO(good))
    assert (alone.voided, alone.import_id) == (0, report.import_id)
    assert calibrator.calibration("m") == other.calibration("m")
    assert {call.model for call in calibrator.calls()} == {"m", "n"}


def test_a_file_of_voided_calls_alone_makes_no_ledger(take, ledger_path):
    report = take("csv", f"{VOIDED}\nm,1,2,3,true\n")
    assert (report.recorded, report.voided, report.models, report.import_id) == (0, 1, 0, None)
    assert not ledger_path.exists()


def test_what_stands_in_the_ledger_is_not_changed_by_a_voided_row(take, calibrator):
    calibrator.record("m", 100, 900.5, completion_tokens=20, request_id="r")
    heads = calibrator.heads()
    assert take("jsonl", json_row(request_id="r", voided=True)).voided == 1
    assert calibrator.heads() == heads


def test_details_of_a_voided_row_need_no_room_for_an_id(take):
    details = {"a": "x" * 4080}
    assert take("jsonl", json_row(details=details, voided=True)).voided == 1


@pytest.mark.parametrize("field", ["True", "FALSE", "1", "0", "yes", " true", "null"])
def test_a_field_that_says_neither_is_a_bad_row(field, refuse, take, calibrator):
    text = f"{VOIDED}\nm,1,2,3,\nm,4,5,6,{field}\nm,7,8,9,false\nm,7,8,9,true\n"
    error = refuse("csv", text)
    assert (error.line, error.reason.split(":")[0]) == (
        3,
        f"voided must be true or false, not {field!r}",
    )
    report = take("csv", text, skip_bad=True)
    assert (report.recorded, report.skipped, report.voided) == (2, 1, 1)
    assert [call.prompt_tokens for call in calibrator.calls()] == [1, 7]


@pytest.mark.parametrize("value", [0, 1, "true", "", [], {}])
def test_a_value_that_says_neither_is_a_bad_line(value, refuse):
    error = refuse("jsonl", json_row() + json_row(voided=value))
    assert error.line == 2
    assert error.reason.startswith("voided must be true or false, not ")


def test_a_voided_row_must_be_good_all_the_same(refuse):
    assert "at least 0" in refuse("jsonl", json_row(prompt_tokens=-1, voided=True)).reason


def test_record_many_ignores_it_as_it_does_what_else_a_ledger_said(calibrator):
    calibrator.record_many(
        [{"model": "m", "prompt_tokens": 1, "actual_ms": 5.0, "seq": 9, "voided": True}]
    )
    (call,) = calibrator.calls()
    assert (call.seq, call.voided) == (2, False)
