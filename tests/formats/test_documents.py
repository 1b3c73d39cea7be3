"""The JSON values of a file, however it lays them out."""

import gzip
import json
import random
import time
import tracemalloc

import pytest

from calibration_ledger.errors import ImportRefusedError
from calibration_ledger.formats import documents
from calibration_ledger.formats.documents import json_values, records
from calibration_ledger.formats.row import BadRow
from calibration_ledger.formats.source import PIECE, open_input

VALUES = [
    {"a": 1, "text": 'a } in a text, and " and \\', "inner": [{"b": 2}, []]},
    {"a": 2.5, "text": "two\nlines", "ü": "ä€😀"},
    {"a": float("nan")},
]


def read(path):
    with open_input(path, None, None) as file:
        return list(json_values(file))


def written(tmp_path, text):
    path = tmp_path / "file.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def values_of(path):
    return [value for _, value in read(path)]


LAYOUTS = {
    "lines": "\n".join(json.dumps(one) for one in VALUES) + "\n",
    "lines and blank ones": "\n\n".join(json.dumps(one, ensure_ascii=False) for one in VALUES),
    "lines of Windows": "\r\n".join(json.dumps(one) for one in VALUES) + "\r\n",
    "documents": "\n".join(json.dumps(one, indent=2) for one in VALUES),
    "documents of the margin": "\n".join(json.dumps(one, indent=0) for one in VALUES),
    "documents that no line parts": "".join(json.dumps(one, indent=2) for one in VALUES),
    "documents in one line": " ".join(json.dumps(one, ensure_ascii=False) for one in VALUES),
    "documents without a gap": "".join(json.dumps(one) for one in VALUES),
    "a list": json.dumps(VALUES),
    "a list of lines": "[\n" + ",\n".join(json.dumps(one) for one in VALUES) + "\n]\n",
    "a list, indented": json.dumps(VALUES, indent=4, ensure_ascii=False),
    "lists": f"{json.dumps(VALUES[:1])}\n{json.dumps(VALUES[1:])}",
    "with a byte order mark": "\ufeff" + json.dumps(VALUES),
}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_same_values(tmp_path, text):
    assert str(values_of(written(tmp_path, text))) == str(VALUES)


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_a_value_may_be_cut_anywhere_by_a_piece(tmp_path, text):
    """Random lengths, so that the cuts lie in each kind of place."""
    random.seed(1)
    filler = [{"n": n, "text": "é" * random.randrange(300)} for n in range(1_000)]
    if text.lstrip("\ufeff").startswith("["):
        long = json.dumps(filler, ensure_ascii=False)
    else:
        long = "\n".join(json.dumps(one, ensure_ascii=False) for one in filler)
    assert len(long.encode()) > 3 * PIECE
    assert values_of(written(tmp_path, f"{long}\n"))[-1] == filler[-1]
    text = text.lstrip("\ufeff")  # which stands at the beginning alone
    found = values_of(written(tmp_path, f"{long}\n{text}"))
    assert str(found[-3:]) == str(VALUES)
    assert found[:1_000] == filler


def test_compression_is_undone(tmp_path):
    assert values_of(written(tmp_path, gzip.compress(b'[{"a":1},\n{"a":2}]'))) == [
        {"a": 1},
        {"a": 2},
    ]


def test_places_are_lines_or_numbers_in_a_list(tmp_path):
    assert [place for place, _ in read(written(tmp_path, '{"a":1}\n\n{\n"a":2}\n{"a":3}'))] == [
        1,
        3,
        5,
    ]
    assert [place for place, _ in read(written(tmp_path, '[{"a":1},\n\n{"a":2}]'))] == [1, 2]


@pytest.mark.parametrize(
    "bad",
    [
        "{'a': 1}",
        '{"a": 1}{"b": ',
        '{"a": 1} 2',
        '{"a": 1',
        '{"a": 1}}',
        '{"a": "1',
        "no JSON",
        b'{"a": "\xff"}',
        '{"a": [1,',
    ],
)
def test_a_line_that_is_no_json_is_a_bad_row_and_the_next_is_read(tmp_path, bad):
    bad = bad if isinstance(bad, bytes) else bad.encode()
    found = read(written(tmp_path, b'{"a": 0}\n' + bad + b'\n{"a": 2}\n{"a": 3}\n'))
    assert [(place, type(value)) for place, value in found] == [
        (1, dict),
        (2, BadRow),
        (3, dict),
        (4, dict),
    ]


def test_a_file_that_was_cut_short_has_a_bad_row_at_its_end(tmp_path):
    found = read(written(tmp_path, json.dumps(VALUES[0], indent=2)[:-2]))
    assert [(place, type(value)) for place, value in found] == [(1, BadRow)]


def test_a_text_full_of_quotes_that_is_cut_short_is_read_at_once(tmp_path):
    """A log of prompts that are JSON themselves, cut off: it took the square of the line."""
    cut = '{"prompt":"' + '\\"key\\":{' * 50_000
    started = time.process_time()
    places = read(written(tmp_path, f'{cut}\n{{"a":1}}\n'))
    assert time.process_time() - started < 2
    assert [type(value) for _, value in places] == [BadRow, dict]


@pytest.mark.parametrize(
    "text", ['[{"a":1},{"a":', '[{"a":1} {"a":2', "[nonsense]", b'["\xff"]', "[" * 2_000]
)
def test_a_list_that_is_broken_is_refused(tmp_path, text):
    with pytest.raises(ImportRefusedError, match="Nothing was recorded"):
        read(written(tmp_path, text))


def test_an_empty_file_has_no_values(tmp_path):
    assert read(written(tmp_path, "")) == read(written(tmp_path, " \n\n")) == []
    assert read(written(tmp_path, "[]")) == []


@pytest.mark.parametrize("layout", ["lines", "list"])
def test_reading_takes_constant_memory(tmp_path, layout):
    path = tmp_path / "long.json"
    record = json.dumps({"text": "x" * 5_000})
    with path.open("w") as file:
        file.write("[" if layout == "list" else "")
        for _ in range(4_000):
            file.write(record + ("," if layout == "list" else "\n"))
        file.write(record + ("]" if layout == "list" else "\n"))
    tracemalloc.start()
    with open_input(path, None, None) as file:
        assert sum(1 for _ in json_values(file)) == 4_001
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 2**20


def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_behind_it(tmp_path):
    path = written(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n4,z\n')
    with open_input(path, None, None) as file:
        found = list(records(file))
    assert found[0] == (2, {"a": "1", "b": "x"})
    assert [type(value) for _, value in found[1:]] == [BadRow]


@pytest.mark.parametrize("text", [b"SQLite format 3\0\r\0", b'a,"b\n1,2\n'])
def test_a_first_line_that_is_no_csv_refuses_the_file(tmp_path, text):
    path = written(tmp_path, text)
    with open_input(path, None, None) as file, pytest.raises(ImportRefusedError, match="valid CSV"):
        list(records(file))


@pytest.mark.parametrize(
    "text", ["\n" * 3_000_000, '{"a":1}\n' + "{" * 3_000_000], ids=["blank", "{"]
)
def test_a_file_without_an_end_is_refused(tmp_path, text, monkeypatch):
    """A device, or compressed blanks by the gigabyte."""
    monkeypatch.setattr(documents, "_ENDLESS", 2_000_000)
    with pytest.raises(ImportRefusedError, match=r"blank|goes on for more than"):
        read(written(tmp_path, text))
