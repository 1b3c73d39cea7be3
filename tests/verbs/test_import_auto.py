"""`auto`: the format of a file is told by how it begins, and never guessed."""

import gzip
import io
import json
import os
import sqlite3
import threading

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from calibration_ledger.formats.base import Format
from calibration_ledger.formats.beginning import HEAD, beginning_of, recognised
from support.importing import HEADER, exported, json_row

JSONL = json_row() + json_row(actual_ms=901.5)
CSV = f"{HEADER}\nm,100,20,900.5\n"
STATE = json.dumps(
    {
        "version": 1,
        "models": [
            {
                "model": "old",
                "ms_per_prompt_token": 0.5,
                "ms_per_completion_token": 8.0,
                "base_overhead_ms": 300.0,
            }
        ],
    },
    indent=2,
)


def _of_ledger():
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.record("m", 1, 2.0)
        return exported(calibrator)


OWN = {"jsonl": JSONL, "csv": CSV, "state": STATE, "ledger": _of_ledger()}


@pytest.mark.parametrize("format_", OWN)
@pytest.mark.parametrize("way", ["path", "gzip", "stream", "bytes", "fifo"])
def test_our_own_files_are_told_whatever_they_are_called(way, format_, calibrator, tmp_path):
    content = OWN[format_]
    path = tmp_path / "no-name"
    source = path
    if way == "stream":
        source = io.StringIO(content)
    elif way == "bytes":
        source = io.BytesIO(gzip.compress(content.encode()))
    elif way == "fifo":
        os.mkfifo(path)
        threading.Thread(target=path.write_text, args=(content,)).start()
    else:
        data = content.encode()
        path.write_bytes(gzip.compress(data) if way == "gzip" else data)
    report = calibrator.import_calls("auto", source)
    assert (report.kind, report.format) == ("auto", format_)
    assert report.to_dict()["format"] == format_
    assert report.recorded + report.adjustments >= 1
    assert calibrator.audit() == []


def test_a_stream_that_is_longer_than_its_head_is_read_whole(calibrator):
    rows = [json_row(actual_ms=float(number)) for number in range(3_000)]
    assert len("".join(rows)) > 3 * HEAD
    assert calibrator.import_calls("auto", io.StringIO("".join(rows))).recorded == 3_000
    assert calibrator.import_calls("auto", io.BytesIO("".join(rows).encode())).already == 3_000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"hello\n", "no format begins like this file"),
        (b'{"a":1}\n', "no format begins like this file"),
        (b"[" * 50_000, "no format begins like this file"),
        (b"\xff\xfe\x00\x01", "no format begins like this file"),
        (b"\x1f\x8b\x08broken", "cannot be read"),
    ],
)
def test_a_file_of_no_known_format_is_an_error_that_says_how_to_name_one(
    content, sentence, calibrator, ledger_path, tmp_path
):
    path = tmp_path / "what"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(ImportRefusedError, match=sentence) as caught:
            calibrator.import_calls("auto", source)
        assert "Nothing was recorded" in str(caught.value)
    assert not ledger_path.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            '{"model":"m","input_tokens":1,"output_tokens":2,"latency_ms":3,"user":"u"}\n',
            "As `jsonl`, the key 'user' is unknown: .* --keep-rest",
        ),
        (
            '[{"input_tokens":1,"output_tokens":2,"took":3}]',
            "As `jsonl`, the key 'took' has no unit",
        ),
        ('{"input_tokens":1,"output_tokens":2}\n', "As `jsonl`, there is no key for actual_ms"),
        (
            '{"prompt_tokens":1,"completion_tokens":2}\n',
            "As `jsonl`, there is no key for actual_ms",
        ),
        ("input_tokens;output_tokens;took\n1;2;3\n", "As `csv`, the column 'took' has no unit"),
        ("input_tokens,user\n1,u\n", "Name its format"),
    ],
)
def test_a_file_with_some_names_of_calls_is_told_which_name_is_in_the_way(
    content, sentence, calibrator, tmp_path
):
    path = tmp_path / "nearly"
    path.write_text(content)
    with pytest.raises(ImportRefusedError, match=f"no format begins like this file. {sentence}"):
        calibrator.import_calls("auto", path)


def test_a_missing_file_is_said_to_be_missing(calibrator, tmp_path):
    with pytest.raises(ImportRefusedError, match="cannot be opened: No such file"):
        calibrator.import_calls("auto", tmp_path / "none.jsonl")


def test_an_error_over_a_file_whose_format_was_told_says_which(calibrator, tmp_path):
    path = tmp_path / "calls"
    path.write_text(JSONL + json_row(actual_ms=-1.0))
    with pytest.raises(ImportRefusedError, match="was read as `jsonl`") as caught:
        calibrator.import_calls("auto", path)
    assert caught.value.line == 3


def test_the_ledger_itself_is_refused_without_being_opened(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    with pytest.raises(ImportRefusedError, match="the ledger itself"):
        calibrator.import_calls("auto", ledger_path)


def test_a_database_that_no_format_knows_is_refused(calibrator, tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE pets (name TEXT)")
    connection.close()
    before = path.read_bytes()
    sentence = "no format knows this database, with the tables 'pets'"
    with pytest.raises(ImportRefusedError, match=sentence):
        calibrator.import_calls("auto", path)
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_damaged_database_is_said_to_be_one(calibrator, tmp_path):
    path = tmp_path / "other.db"
    path.write_bytes(b"SQLite format 3\0" + b"\1" * 4096)
    with pytest.raises(ImportRefusedError, match="database"):
        calibrator.import_calls("auto", path)


def test_a_database_on_a_stream_is_said_to_need_a_file(calibrator):
    with pytest.raises(ImportRefusedError, match="a database cannot be read from a stream"):
        calibrator.import_calls("auto", io.BytesIO(b"SQLite format 3\0" + bytes(4096)))


def test_another_ledger_is_told_how_to_be_written_to_a_file(calibrator, tmp_path):
    path = tmp_path / "other.db"
    with AdaptiveCalibrator(path) as other:
        other.record("m", 1, 2.0)
    with pytest.raises(ImportRefusedError, match=r"this is a ledger.*export jsonl"):
        calibrator.import_calls("auto", path)


def _format(name, kind, begins):
    return Format(name, "", kind, None, lambda beginning: beginning.head.startswith(begins))


def test_other_tools_formats_come_before_our_own_and_two_of_them_are_a_doubt():
    own = _format("own", "own", b"a")
    one, two = _format("one", "module", b"ab"), _format("two", "recipe", b"abc")
    silent = Format("silent", "", "module", None)
    every = [own, one, two, silent]

    def names(head):
        return [found.name for found in recognised(beginning_of("f", head), every)]

    assert names(b"a") == ["own"]
    assert names(b"ab") == ["one"]
    assert names(b"abc") == ["one", "two"]
    assert names(b"x") == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('{"a": 1}\n{"b": 2}\n', {"a": 1}),
        ('\ufeff{"a": 1}', {"a": 1}),
        ('{\n "a": [1,\n 2]\n}\n{"b": 2}', {"a": [1, 2]}),
        ("3\n", None),
        ("model,tokens\n", None),
        ('{"a": {"b": [1, 2, {"c": "de', {"a": {"b": [1, 2, {}]}}),
        ('{"a": {"b": 1, "c": "x,]}\\"', {"a": {"b": 1}}),
        ('{"a": [true, fal', {"a": [True]}),
        ('[{"a": 1}, {"a": 2}, {"a"', [{"a": 1}, {"a": 2}, {}]),
        ('{"a": NaN, "b"', {"a": pytest.approx(float("nan"), nan_ok=True)}),
        ("{", {}),
        ("[1, 2}", None),
    ],
)
def test_the_first_value_of_a_file_is_known_as_far_as_its_head_goes(text, first):
    assert beginning_of("f", text.encode()).first == first


def test_a_head_that_ends_inside_a_character_is_no_trouble():
    text = json.dumps({"a": 1, "b": "ü" * HEAD}, ensure_ascii=False).encode()
    for size in (HEAD, HEAD + 1):
        assert beginning_of("f", text[:size]).first == {"a": 1}
