"""Whatever the bytes: a typed error and nothing recorded, or a ledger that audits clean."""

import io
import json
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import ImportRefusedError
from support.histories import json_values
from support.importing import HEADER, json_row
from verbs.test_import_ledger import GOOD
from verbs.test_import_state import FULL, state

SAMPLES = {
    "jsonl": (json_row(request_id="r") + json_row(called_at="2025-01-01T00:00Z")).encode(),
    "csv": f'{HEADER},details\nm,1,2,3.5,"{{""a"": 1}}"\n"n\n",4,5,6,\n'.encode(),
    "ledger": "".join(GOOD).encode(),
    "state": state(FULL).encode(),
}
KINDS = sorted(SAMPLES)
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", settings.default.max_examples))
"""More of them find more; these are what every run can afford."""


def refused(calibrator, kind, content, **options):
    """Whether the import was refused; anything but the one typed error is the test's failure."""
    try:
        calibrator.import_calls(kind, io.BytesIO(content), **options)
    except ImportRefusedError as error:
        return bool(error.reason) and (error.line is None or error.line >= 1)
    return False


_empty = []
"""A ledger that nothing was recorded in, kept for the next example: making one takes a while."""


def attempt(kind, content):
    calibrator = _empty.pop() if _empty else AdaptiveCalibrator(":memory:")
    if refused(calibrator, kind, content):
        assert calibrator.heads() == []
    if kind in {"jsonl", "csv"}:
        refused(calibrator, kind, content, skip_bad=True)
    if calibrator.heads():
        assert calibrator.audit() == []
        calibrator.close()
    else:
        _empty.append(calibrator)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES)
@given(content=st.binary(max_size=400))
@example(content=b"\x1f\x8b")
@example(content=b"\x1f\x8b\x08\0\0\0\0\0\0\0")
@example(content=b"\xef\xbb\xbf")
@example(content=b"\0" * 50)
@example(content=b'"' * 51 + b"\n" * 20)
@example(content=b"[" * 100_000)
@example(content=b'{"a":' * 50_000)
@example(
    content=b'{"model":"m","prompt_tokens":1,"completion_tokens":1,"actual_ms":[[[[[[[[{}]]]]]]]]}'
)
@example(content=b"9" * 100_000)
@example(content=b'{"model":"m","prompt_tokens":1' + b"0" * 5000 + b',"actual_ms":1e400}')
@example(content=b"\xff\xfe{\0}\0")
@example(content=b'{"model":"\xed\xa0\x80"}\n{"model":"\\ud800"}')
@example(content=b"model,prompt_tokens,completion_tokens,actual_ms\n\xc3(,1,2,1e400\n")
def test_any_bytes(kind, content):
    attempt(kind, content)


def bent(data, sample):
    """A sample of which a few bytes are others, missing or there twice."""
    content = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "double", "insert"]))
        if change == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif change == "double":
            content[at:at] = content[at : at + 30]
        else:
            content[at:at] = data.draw(st.sampled_from([b'"', b"\n", b",", b"\0", b"9" * 30, b"-"]))
        if not content:
            break
    return bytes(content)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=2 * EXAMPLES)
@given(data=st.data())
def test_a_good_file_with_some_bytes_changed(kind, data):
    attempt(kind, bent(data, SAMPLES[kind]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=max(5, EXAMPLES // 4))
@given(data=st.data())
def test_a_refused_file_leaves_a_history_as_it_was(kind, data):
    """Good lines before the bad one, and many of them: none is recorded."""
    many = {
        "jsonl": b"".join(json_row(prompt_tokens=i).encode() for i in range(1500)),
        "csv": "".join([f"{HEADER}\n", *(f"m,{i},5,6.5\n" for i in range(1500))]).encode(),
    }
    calibrator = AdaptiveCalibrator(":memory:")
    calibrator.record("m", 1, 2.0, completion_tokens=3)
    heads = calibrator.heads()
    content = many.get(kind, SAMPLES[kind]) + bent(data, SAMPLES[kind])
    if refused(calibrator, kind, content):
        assert calibrator.heads() == heads
    assert calibrator.audit() == []
    calibrator.close()


@settings(max_examples=2 * EXAMPLES)
@given(st.lists(json_values, max_size=5), st.sampled_from(["jsonl", "ledger", "state"]))
def test_any_json(values, kind):
    lines = [json.dumps(value) for value in values]
    header = [GOOD[0].strip()] if kind == "ledger" else []
    attempt(kind, "\n".join(header + lines).encode())


KEYS = ["model", "prompt_tokens", "completion_tokens", "actual_ms", "called_at", "request_id",
        "details", "seq", "x"]  # fmt: skip


@settings(max_examples=3 * EXAMPLES)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), json_values), max_size=4))
def test_any_objects_of_the_right_keys(rows):
    good = {"model": "m", "prompt_tokens": 1, "completion_tokens": 2, "actual_ms": 3.0}
    attempt("jsonl", "\n".join(json.dumps({**good, **row}) for row in rows).encode())


@settings(max_examples=2 * EXAMPLES)
@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=6), max_size=6))
def test_any_csv(rows):
    import csv

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEADER.split(","))
    writer.writerows(rows)
    attempt("csv", out.getvalue().encode("utf-8", "surrogatepass"))
