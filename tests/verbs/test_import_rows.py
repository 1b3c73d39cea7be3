"""What a row may say: the same rules for JSON lines and CSV, good and bad."""

import csv
import math
import re
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger.cli.output import json_text
from support.importing import HEADER, as_in_the_file, json_row

# On a file alone: what a row may say has nothing to do with the database.
pytestmark = pytest.mark.usefixtures("ledger_path")

PYTHON = re.compile(r"\((str|int|float|bool|list|dict)\)|pass an? |datetime|tzinfo|None\b|True")
"""What a sentence about a file must not be written in."""

TOKENS = "prompt_tokens must be a whole number of tokens, not"
BAD_JSON = {
    "missing tokens": (json_row(completion_tokens=...), "completion_tokens is missing"),
    "null tokens": (json_row(prompt_tokens=None), "prompt_tokens is missing"),
    "null duration": (json_row(actual_ms=None), "actual_ms is missing"),
    "missing model": (json_row(model=...), "model is missing"),
    "negative tokens": (json_row(prompt_tokens=-1), "at least 0"),
    "fractional tokens": (json_row(prompt_tokens=1.5), "whole number"),
    "boolean tokens": (json_row(prompt_tokens=True), f"{TOKENS} true: write it in digits"),
    "textual tokens": (json_row(prompt_tokens="512"), f"{TOKENS} '512': write it in digits"),
    "list of tokens": (json_row(prompt_tokens=[]), f"{TOKENS} a list: write it in digits"),
    "too many tokens": (json_row(prompt_tokens=2**31), "2**31"),
    "far too many tokens": (json_row(prompt_tokens=1e300), "prompt_tokens"),
    "negative ms": (json_row(actual_ms=-0.1), "not negative"),
    "textual ms": (json_row(actual_ms="5"), "actual_ms must be a number of milliseconds, not '5'"),
    "boolean ms": (json_row(actual_ms=False), "number of milliseconds"),
    "infinite ms": (json_row().replace("900.5", "1e999"), "finite"),
    "huge whole ms": (json_row().replace("900.5", "9" * 400), "finite"),
    "NaN": (json_row(actual_ms=math.nan), "NaN is no JSON number"),
    "Infinity": (json_row(actual_ms=math.inf), "Infinity is no JSON number"),
    "-Infinity": (json_row(actual_ms=-math.inf), "-Infinity is no JSON number"),
    "digits by the thousand": (json_row().replace("100", "1" * 5000), "thousands of digits"),
    "empty model": (json_row(model=""), "empty"),
    "NUL in the model": (json_row(model="a\0b"), "NUL"),
    "half a surrogate pair": (json_row(model="\ud800"), "surrogate"),
    "long model": (json_row(model="m" * 513), "shorten"),
    "number for a model": (json_row(model=5), "model must be a text, not 5: write it in quotes"),
    "empty request id": (json_row(request_id=""), "request_id must not be empty: leave it out"),
    "number for a request id": (json_row(request_id=7), "request_id must be a text"),
    "no zone": (json_row(called_at="2025-01-01T00:00:00"), "no time zone"),
    "a bare date": (json_row(called_at="2026-01-01"), "called_at '2026-01-01' has no time zone"),
    "no time": (json_row(called_at="yesterday"), "ISO 8601"),
    "no such day": (json_row(called_at="2025-02-30T00:00:00Z"), "ISO 8601"),
    "seconds since the epoch": (json_row(called_at=1735689600), "ISO 8601"),
    "before 1970": (json_row(called_at="1969-12-31T23:59:59Z"), "1970"),
    "details as a list": (json_row(details=[1]), "details must be an object"),
    "details as pairs": (json_row(details=[["a", 1]]), "details must be an object"),
    "details as a text": (json_row(details="{}"), "details must be an object"),
    "large details": (json_row(details={"t": "x" * 5000}), "bytes as JSON"),
    "unknown key": (json_row(latency_ms=5), "'latency_ms'"),
    "misspelt key": (json_row(calledat="x"), "known are model, prompt_tokens"),
    "key twice": ('{"model":"a","model":"b"}\n', "'model' is there twice"),
    "key twice inside": (json_row(details={"a": 1}).replace('{"a": 1}', '{"a":1,"a":2}'), "twice"),
    "list": ("[1, 2]\n", "a list where an object was expected"),
    "text": ('"model"\n', "a text where"),
    "null": ("null\n", "a bare value where"),
    "two objects": (json_row().strip() + json_row(), "Extra data"),
    "cut short": (json_row()[:30] + "\n", "not valid JSON"),
    "no JSON": ("hello\n", "not valid JSON (Expecting value, character 1)"),
    "deep": ("[" * 100_000 + "]" * 100_000 + "\n", "nested too deeply"),
    "NUL byte": (json_row().replace("m", "\0"), "not valid JSON"),
    "long line": (json_row(request_id="x" * 2**20), "longer than 1048576 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "said"), BAD_JSON.values(), ids=BAD_JSON.keys())
def test_a_bad_json_line_is_refused_by_its_number_or_skipped_and_counted(
    line, said, refuse, take, ledger_path
):
    text = json_row() + line + json_row()
    error = refuse("jsonl", text)
    assert error.line == 2
    assert said in error.reason
    assert str(error).startswith(f"{error.source}, line 2: ")
    assert "Nothing was recorded" in str(error)
    assert len(str(error)) < 800
    assert not PYTHON.search(error.reason.replace(repr(line), ""))
    assert not ledger_path.exists()

    report = take("jsonl", text, skip_bad=True)
    assert (report.recorded, report.skipped) == (2, 1)
    assert report.skipped_lines[0].line == 2
    assert said in report.skipped_lines[0].reason


BAD_CSV = {
    "empty tokens": ("m,,20,900.5", "prompt_tokens is missing"),
    "empty duration": ("m,100,20,", "actual_ms is missing"),
    "empty model": (",100,20,900.5", "model is missing"),
    "negative tokens": ("m,-1,20,900.5", "at least 0"),
    "fractional tokens": ("m,1.5,20,900.5", "whole number of tokens"),
    "scientific tokens": ("m,1e3,20,900.5", "whole number of tokens"),
    "grouped tokens": ("m,1_000,20,900.5", "whole number of tokens"),
    "tokens with a space": ("m, 100,20,900.5", "whole number of tokens"),
    "other digits": ("m,٣,20,900.5", "whole number of tokens"),
    "true": ("m,True,20,900.5", "whole number of tokens"),
    "too many tokens": ("m,2147483648,20,900.5", "2**31"),
    "far too many tokens": (f"m,{'9' * 5000},20,900.5", "whole number of tokens"),
    "negative ms": ("m,100,20,-1", "not negative"),
    "nan": ("m,100,20,nan", "number of milliseconds"),
    "inf": ("m,100,20,inf", "number of milliseconds"),
    "overflow": ("m,100,20,1e999", "finite"),
    "comma for a point": ('m,100,20,"900,5"', "number of milliseconds"),
    "unit": ("m,100,20,900ms", "number of milliseconds"),
    "short row": ("m,100,20", "3 fields where the first line names 4"),
    "long row": ("m,100,20,900.5,x", "5 fields where the first line names 4"),
    "text after a quote": ('"m"x,100,20,900.5', "not valid CSV"),
    "NUL": ("a\0b,100,20,900.5", "NUL"),
    "quote never closed": ('"m,100,20,900.5', "a quote is opened and not closed"),
    "bare carriage return": ("m,100\r,20,900.5", "not valid CSV"),
    "long line": (f"{'m' * 2**20},100,20,900.5", "longer than 1048576 bytes"),
    "long field": (f"{'m' * 200_000},100,20,900.5", "field larger than field limit"),
}


@pytest.mark.parametrize(("line", "said"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_a_bad_csv_row_is_refused_by_its_number_or_skipped_without_its_neighbours(
    line, said, refuse, take, calibrator, ledger_path
):
    text = f"{HEADER}\nm,1,2,3\n{line}\nm,4,5,6\n"
    error = refuse("csv", text)
    assert error.line == 3
    assert said in error.reason
    assert not PYTHON.search(error.reason.replace("'True'", ""))
    assert not ledger_path.exists()

    report = take("csv", text, skip_bad=True)
    assert (report.recorded, report.skipped) == (2, 1)
    assert said in report.skipped_lines[0].reason
    assert [call.prompt_tokens for call in calibrator.calls()] == [1, 4]


def test_a_long_field_is_a_bad_row_whatever_other_code_lets_the_csv_module_take(refuse):
    before = csv.field_size_limit(10**6)
    try:
        error = refuse("csv", f"{HEADER}\n{BAD_CSV['long field'][0]}\n")
    finally:
        csv.field_size_limit(before)
    assert "field larger than field limit" in error.reason


SENTENCES = {
    "no zone": (
        "m,1,2,3,2026-01-01T00:00:00",
        "called_at '2026-01-01T00:00:00' has no time zone: write 2026-01-01T00:00:00Z for UTC, or ",
    ),
    "a bare date": ("m,1,2,3,2026-01-01", "write 2026-01-01T00:00:00Z for UTC"),
    "no model": (",1,2,3,", "model is missing: name the model that was called"),
    "no tokens": ("m,,2,3,", "prompt_tokens is missing: what is not known is no zero"),
    "one field": ("m", "1 field where the first line names 5 columns"),
}


@pytest.mark.parametrize(("line", "said"), SENTENCES.values(), ids=SENTENCES.keys())
def test_what_is_wrong_with_a_row_is_said_in_the_words_of_files(line, said, refuse):
    assert said in refuse("csv", f"{HEADER},called_at\n{line}\n").reason


def test_an_unknown_column_is_told_with_the_required_one_that_it_stands_for(refuse):
    reason = refuse("csv", HEADER.replace("actual_ms", "cost") + "\nm,1,2,3\n").reason
    assert reason.startswith(
        "the column 'cost' is unknown, and actual_ms is missing: rename or remove it; known are "
    )
    reason = refuse("csv", HEADER + ",foo,bar\nm,1,2,3,4,5\n").reason
    assert reason.startswith("the columns 'bar', 'foo' are unknown: rename or remove them; known ")
    assert refuse("jsonl", json_row(foo=1)).reason.startswith("the key 'foo' is unknown: rename ")


BAD_HEADERS = {
    "empty file": ("", None, "empty"),
    "blank lines": ("\n\n", None, "empty"),
    "no header": ("m,1,2,3\n", 1, "the columns '1', '2', '3', 'm' are unknown"),
    "other separators": (HEADER.replace(",", ":") + "\n", 1, "unknown"),
    "unknown column": (HEADER + ",cost\n", 1, "'cost'"),
    "index column of pandas": ("," + HEADER + "\n", 1, "the column '' is unknown"),
    "missing column": ("model,prompt_tokens,actual_ms\n", 1, "no column completion_tokens"),
    "column twice": (HEADER + ",model\n", 1, "model is there twice"),
    "blank in a name": (HEADER.replace(",", ", ") + "\n", 1, "' actual_ms'"),
    "broken quote": ('"model,prompt_tokens\n', 1, "not valid CSV"),
    "not UTF-8": (b"\xff\xfe" + HEADER.encode("utf-16-le"), 1, "not UTF-8"),
}


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(("text", "line", "said"), BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_bad_header_is_refused_also_where_bad_lines_are_skipped(
    text, line, said, refuse, skip_bad
):
    error = refuse("csv", text, skip_bad=skip_bad)
    assert error.line == line
    assert said in error.reason


def test_every_field_of_a_call_arrives(take, calibrator):
    row = json_row(
        model="größe 模型",
        called_at="2025-06-01T12:00:00.1234567+02:00",
        request_id="r-1",
        details={"z": 1.5, "a": None, "cached": True},
    )
    report = take("jsonl", row)
    assert report.recorded == 1
    (call,) = as_in_the_file(calibrator.calls(), report.import_id)
    assert (call.model, call.prompt_tokens, call.completion_tokens, call.actual_ms) == (
        "größe 模型", 100, 20, 900.5,
    )  # fmt: skip
    assert call.called_at == datetime(2025, 6, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert call.request_id == "r-1"
    assert call.details == {"cached": True, "z": 1.5}


def test_csv_and_jsonl_of_the_same_calls_are_the_same_calls(take, calibrator):
    at, details = "2025-06-01T12:00:00Z", {"ttft_ms": 80.0}
    csv_row = 'm,100,20,900.5,2025-06-01T14:00:00+02:00,"{""ttft_ms"": 8e1}"\n'
    assert take("csv", f"{HEADER},called_at,details\n{csv_row}").recorded == 1
    report = take("jsonl", json_row(called_at=at, details=details))
    assert (report.recorded, report.already) == (0, 1)
    assert len(list(calibrator.calls())) == 1


@pytest.mark.parametrize("written", ["512", "512.0", "512.", "512.000"])
def test_whole_tokens_may_be_written_as_floats_do(written, take, calibrator):
    take("csv", f"{HEADER}\nm,{written},0,5\n")
    (call,) = calibrator.calls()
    assert call.prompt_tokens == 512


@pytest.mark.parametrize("written", [512.0, 0.0, -0.0, 2.0**31 - 1])
def test_whole_floats_are_tokens_in_json(written, take, calibrator):
    take("jsonl", json_row(prompt_tokens=written))
    (call,) = calibrator.calls()
    assert call.prompt_tokens == int(written)


def test_zero_tokens_and_zero_ms_are_values_like_others(take, calibrator):
    assert take("csv", f"{HEADER}\nm,0,0,0\nm,0,0,-0.0\n").recorded == 2
    assert [call.actual_ms for call in calibrator.calls()] == [0.0, 0.0]


@pytest.mark.parametrize("absent", ["", None, ...])
def test_a_row_without_a_time_was_made_now(absent, take, calibrator):
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    if absent == "":
        report = take("csv", f"{HEADER},called_at,request_id,details\nm,1,2,3,,,\n")
    else:
        report = take("jsonl", json_row(called_at=absent, request_id=absent, details=absent))
    (call,) = as_in_the_file(calibrator.calls(), report.import_id)
    assert call.called_at is not None
    assert before <= call.called_at <= datetime.now(UTC)
    assert call.details is None


def test_what_the_ledger_says_of_a_call_is_accepted_and_worked_out_anew(take, calibrator):
    row = json_row(seq=77, predicted_ms=1.0, error_ms=2.0)
    assert take("jsonl", row).recorded == 1
    (call,) = calibrator.calls()
    assert (call.seq, call.predicted_ms) == (2, 510.0)


def test_quoted_fields_hold_commas_quotes_and_line_ends(take, calibrator):
    text = f'{HEADER},request_id\n"a,""b""",1,2,3,"a,""b""\n\r\nc"\nd,4,5,6,"d\re"\n'
    assert take("csv", text).recorded == 2
    found = {(call.model, call.request_id) for call in calibrator.calls()}
    assert found == {('a,"b"', 'a,"b"\n\r\nc'), ("d", "d\re")}


def test_a_stray_quote_costs_one_row_however_far_the_next_one_is(take, calibrator):
    rows = [f"m,{i},2,3" for i in range(3000)]
    rows[5] = '"' + rows[5]
    report = take("csv", "\n".join([HEADER, *rows]), skip_bad=True)
    assert (report.recorded, report.skipped) == (2999, 1)
    assert report.skipped_lines[0].line == 7
    assert sum(1 for _ in calibrator.calls()) == 2999


def test_the_number_of_a_bad_row_counts_lines_not_records(refuse):
    error = refuse("csv", f'{HEADER},request_id\nm,1,2,3,"a\nb\nc"\n\nm,x,2,3,\n')
    assert error.line == 6


def test_blank_lines_are_no_rows(take):
    assert take("jsonl", f"\n{json_row()}\n  \r\n{json_row()}").recorded == 2
    assert take("csv", f"\n{HEADER}\r\n\r\nm,7,2,3\r\n\n").recorded == 1


def test_an_empty_jsonl_file_is_no_call_and_makes_no_ledger(take, ledger_path):
    report = take("jsonl", "")
    assert (report.recorded, report.models) == (0, 0)
    assert not ledger_path.exists()


def test_a_ledger_file_is_not_taken_for_rows(refuse):
    error = refuse("jsonl", '{"ledger":"calibration-ledger/1"}\n', skip_bad=True)
    assert "as the kind `ledger`" in error.reason


def test_json_of_the_ledgers_own_calls_imports(take, other, calibrator):
    for i in range(5):
        other.record("m", i, 10.0 * i, request_id=f"r{i}", details={"i": i})
    rows = map(json_text, other.calls())  # as `calib history` does
    report = take("jsonl", "\n".join(rows))
    assert as_in_the_file(calibrator.calls(), report.import_id) == list(other.calls())
