"""The id of an import: one file has one, every call that it brought bears it, no other does."""

import gzip
import io
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.validation import DETAILS_BYTES_MAX, check_details
from calibration_ledger.formats.row import (
    DETAILS_BYTES_LEFT,
    ImportDigest,
    Row,
    content_key,
    import_id_of,
    with_import_id,
)
from support.histories import json_values, soon
from support.importing import HEADER, as_in_the_file, json_row

ROW = Row("größe", 1_735_689_600_123_456, 512, 128, 3400.25, None, '{"ttft_ms":80.5}')
TIMED = HEADER + ",called_at"
CSV = f"{TIMED}\nm,100,20,900.5,2025-01-01T00:00Z\nn,1,2,3,2025-01-02T00:00Z\n"


def digest(*rows):
    found = ImportDigest()
    found.add(rows)
    return found.import_id()


def ids(calibrator, model=None):
    return [(call.details or {}).get("import_id") for call in calibrator.calls(model)]


def long_details(size, **more):
    """Details that take so many bytes as JSON."""
    empty = check_details({"a": "", **more})
    assert empty is not None
    return {"a": "x" * (size - len(empty)), **more}


# -- what it is worked out of -------------------------------------------------------------------


def test_the_id_of_rows_never_changes():
    """Released: with another id, an import that was cut short would be completed as two."""
    assert digest(ROW, ROW._replace(called_at=None, request_id="r", details=None)) == "3c87fdee3000"
    assert digest() == "e70f9816aa52"


def test_ids_differ_where_rows_or_their_order_differ_at_all():
    row = Row("m", 5, 1, 2, 3.0, None, None)
    others = [
        (),
        (row, row),
        (row._replace(model="m2"),),
        (row._replace(called_at=None),),
        (row._replace(called_at=0),),
        (row._replace(prompt_tokens=12, completion_tokens=2),),
        (row._replace(prompt_tokens=1, completion_tokens=22),),
        (row._replace(actual_ms=math.nextafter(3.0, 4.0)),),
        (row._replace(request_id="3"),),
        (row._replace(details="3"),),
        (row, row._replace(model="n")),
        (row._replace(model="n"), row),
    ]
    assert len({digest(*rows) for rows in [(row,), *others]}) == len(others) + 1


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 8))
def test_how_the_rows_are_handed_over_makes_no_difference(tokens, cut):
    rows = [ROW._replace(prompt_tokens=n) for n in tokens]
    parts = ImportDigest()
    parts.add(rows[:cut])
    parts.add(rows[cut:])
    assert parts.import_id() == digest(*rows)


def test_the_same_file_has_the_same_id_in_every_process_ledger_and_wrapping(take, other, tmp_path):
    """One row has no time: that it is taken in at another one is no difference."""
    text = CSV + "m,7,7,7,\n"
    expected = take("csv", text).import_id
    assert other.import_calls("csv", io.StringIO(text)).import_id == expected
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    with AdaptiveCalibrator(":memory:") as third:
        assert third.import_calls("csv", tmp_path / "x.csv.gz").import_id == expected
        assert set(ids(third)) == {expected}
    done = subprocess.run(
        [sys.executable, "-c", "from calibration_ledger.cli.main import main; main()",
         "--ledger", tmp_path / "cli.db", "import", "csv", "-", "--json"],
        input=text.encode(), capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["import_id"] == expected
    assert f" void --import {expected}` takes this import out again.\n" in (done.stderr.decode())


def test_the_same_calls_in_another_format_have_the_same_id(take, other):
    rows = json_row(called_at="2025-01-01T01:00+01:00", details=None)
    rows += json_row(
        model="n", prompt_tokens=1, completion_tokens=2, actual_ms=3, called_at="2025-01-02T00:00Z"
    )
    assert take("csv", CSV).import_id == other.import_calls("jsonl", io.StringIO(rows)).import_id


def test_lines_that_are_skipped_are_no_part_of_the_id(take, other):
    bad = CSV + "m,-1,2,3,\n"
    assert (
        take("csv", bad, skip_bad=True).import_id
        == other.import_calls("csv", io.StringIO(CSV)).import_id
    )


# -- who bears it -------------------------------------------------------------------------------


def test_every_call_that_was_recorded_bears_it_and_the_rest_of_its_details(take, calibrator):
    details = [None, {"ttft_ms": 80.5}, {"a": 1.5, "z": True}, {"import_ie": 1}, {"ü": {"i": []}}]
    text = "".join(
        json_row(details=each, called_at=soon(i).isoformat()) for i, each in enumerate(details)
    )
    report = take("jsonl", text)
    calls = as_in_the_file(calibrator.calls(), report.import_id)
    assert [call.details for call in calls] == details
    assert report.to_dict()["import_id"] == report.import_id


def test_what_was_there_already_keeps_what_it_has(take, calibrator):
    calibrator.record("m", 100, 900.5, completion_tokens=20, request_id="r", details={"own": 1})
    first = take("csv", CSV)
    assert ids(calibrator) == [None, first.import_id, first.import_id]
    grown = take("csv", CSV + "n,9,9,9,2025-01-03T00:00Z\n")
    assert grown.import_id not in {None, first.import_id}
    last = take("jsonl", json_row(request_id="r") + json_row(model="n", request_id="s"))
    assert ids(calibrator, "m") == [None, first.import_id]
    assert ids(calibrator, "n") == [first.import_id, grown.import_id, last.import_id]
    assert next(calibrator.calls("m")).details == {"own": 1}


def test_an_import_that_records_nothing_has_no_id(take, calibrator):
    assert take("jsonl", "").import_id is None
    assert take("jsonl", "x\n", skip_bad=True).import_id is None
    first = take("csv", CSV)
    assert first.import_id is not None
    assert take("csv", CSV).import_id is None
    assert set(ids(calibrator)) == {first.import_id}


def test_a_ledger_that_moves_whole_keeps_the_ids_it_has(take, calibrator, other):
    first = take("csv", CSV)
    out = io.StringIO()
    calibrator.export_ledger("jsonl", out)
    assert other.import_calls("ledger", io.StringIO(out.getvalue())).import_id is None
    assert other.heads() == calibrator.heads()
    assert set(ids(other)) == {first.import_id}


def test_the_id_that_another_ledger_gave_is_replaced(take, calibrator, other):
    first = take("csv", CSV)
    out = io.StringIO()
    calibrator.export_ledger("csv", out)
    second = other.import_calls("csv", io.StringIO(out.getvalue()))
    assert second.import_id not in {None, first.import_id}  # the export has request ids
    assert set(ids(other)) == {second.import_id}
    third = take("jsonl", json_row(details={"import_id": [1], "a": 1}))
    assert [call.details for call in calibrator.calls("m")][-1] == {
        "a": 1,
        "import_id": third.import_id,
    }


def test_the_key_of_a_row_is_of_what_the_file_says(take, calibrator):
    row = ROW._replace(details='{"a":1}')
    take("jsonl", json_row(model="größe", prompt_tokens=512, completion_tokens=128,
                           actual_ms=3400.25, called_at="2025-01-01T00:00:00.123456Z",
                           details={"a": 1}))  # fmt: skip
    (call,) = calibrator.calls()
    assert call.request_id == f"import:{content_key(row).hex()}:1"


# -- the room that it takes ---------------------------------------------------------------------


def test_details_that_leave_no_room_for_it_are_refused_before_anything_is_recorded(
    take, refuse, calibrator
):
    fits = json_row(details=long_details(DETAILS_BYTES_LEFT))
    too_long = json_row(model="n", details=long_details(DETAILS_BYTES_LEFT + 1))
    error = refuse("jsonl", fits + too_long)
    assert error.line == 2
    assert error.reason.startswith(
        "details take 4097 bytes as JSON with the import_id that each imported call gets: keep "
        "them to at most 4069 without it"
    )
    report = take("jsonl", fits + too_long, skip_bad=True)
    assert (report.recorded, report.skipped) == (1, 1)
    (call,) = as_in_the_file(calibrator.calls(), report.import_id)
    assert call.details == long_details(DETAILS_BYTES_LEFT)


def test_details_with_an_id_may_take_all_the_room_there_is(take, calibrator):
    """What the ledger wrote down itself is never too long for it."""
    details = long_details(DETAILS_BYTES_MAX, import_id="0" * 12)
    report = take("jsonl", json_row(details=details))
    assert ids(calibrator) == [report.import_id]
    out = io.StringIO()
    calibrator.export_ledger("csv", out)
    assert take("csv", out.getvalue()).already == 1


# -- reading it ---------------------------------------------------------------------------------


KEYS = st.text(max_size=8) | st.sampled_from(
    ["import_id", "i", "import_i", "import_idx", "h~", "j", "a", "cached", "ttft_ms", ',":', '"']
)
PLAIN = st.sampled_from([",", '"', ',"i":1', "{", "}", "", ":", 5, 0.1, -1e-7, True])


@given(st.dictionaries(KEYS, json_values | PLAIN, max_size=6))
@settings(max_examples=5 * settings.default.max_examples)
def test_the_id_is_put_in_and_read_from_any_details(details):
    text = check_details(details)
    bearing = with_import_id(text, "0123456789ab")
    assert import_id_of(bearing) == "0123456789ab"
    kept = {key: value for key, value in details.items() if value is not None}
    assert bearing == check_details({**kept, "import_id": "0123456789ab"})
    if text is not None and "import_id" not in kept:
        assert import_id_of(text) is None
        assert len(bearing) - len(text) == DETAILS_BYTES_MAX - DETAILS_BYTES_LEFT


@pytest.mark.parametrize(
    "details",
    [
        None,
        "{}",
        '{"ttft_ms":80.5}',
        '{"import_id":7}',
        '{"import_id":"batch-7"}',
        '{"import_id":"0123456789AB"}',
        '{"import_id":"0123456789ab\\n"}',
        '{"a":{"import_id":"0123456789ab"}}',
        '{"a":"\\"import_id\\""}',
        '["import_id"]',
        '{"import_id":"0123456789ab"',
        '{"import_id":' + "[" * 100_000,
    ],
    ids=lambda details: str(details)[:40],
)
def test_what_is_no_id_is_not_taken_for_one(details):
    assert import_id_of(details) is None
