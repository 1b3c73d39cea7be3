"""Every file of a kind that can be read is known by how it begins, however it is laid out."""

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.formats.base import Clock
from calibration_ledger.formats.beginning import HEAD, beginning_of, recognised
from calibration_ledger.formats.registry import known_formats

SHARED = Path(__file__).parents[3] / "shared" / "samples"
SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.*"))

REAL = {
    "aiperf_profile_export.jsonl": "aiperf",
    "guidellm_0.8.1_benchmarks.json": "guidellm",
    "llmperf_individual_bedrock_70b.json": "llmperf",
    "llmperf_individual_groq_70b.json": "llmperf",
    "llmperf_individual_lepton_7b.json": "llmperf",
    "llm-0.27.1-logs.db": "llm",
    "llm-0.36-logs.db": "llm",
    "llm-mixed-0.27-then-0.36.db": "llm",
    "phoenix-20.26.1.db": "phoenix",
    "groq_chat_completion_real.json": "groq",
    "groq_stream_final_chunk_real.json": "groq",
    "litellm_standard_logging_payload_0_async_success.json": "litellm",
    "litellm_standard_logging_payload_1_async_success.json": "litellm",
    "litellm_standard_logging_payload_2_async_failure.json": "litellm",
    "litellm_standard_logging_payload_3_async_success.json": "litellm",
    "llamacpp_timings_readme.json": "llamacpp",
    "ollama_generate_final_docs.json": "ollama",
    "otlp_openinference.jsonl": "otlp",
    "otlp_openllmetry.jsonl": "otlp",
    "otlp_v2_default.jsonl": "otlp",
    "otlp_v2_optin.jsonl": "otlp",
    "vllm_bench_serve_0.32.0.json": "vllm-bench",
    # Sums over many calls, and a collection of shapes: no calls that could be read.
    "llmperf_summary_groq_70b.json": None,
    "profile_export_aiperf.json": None,
    "openai_usage_shapes.json": None,
}
"""The format of each real file."""


def told(head, tables=()):
    found = recognised(beginning_of("a file", head[:HEAD], tables), known_formats())
    return [one.name for one in found]


def tables_of(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {name.lower() for (name,) in rows}


def layouts(data):
    """The same JSON in the ways in which programs write it: on a line, indented, as a list."""
    decode, text = json.JSONDecoder().raw_decode, data.decode().lstrip("\ufeff").strip()
    values = []
    while text:
        value, end = decode(text)
        values.append(value)
        text = text[end:].lstrip()
    yield "\n".join(map(json.dumps, values))
    yield "\r\n".join(json.dumps(value, indent=4, ensure_ascii=False) for value in values)
    yield "\ufeff" + "".join(json.dumps(value, separators=(",", ":")) for value in values)
    if len(values) > 1:
        yield json.dumps(values)


def made(path, folder):
    """The file of a sample: the database that it is the SQL of, or itself."""
    if path.suffix != ".sql":
        return path
    file = folder / "made.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(path.read_text(encoding="utf-8"))
    return file


def check(data, expected):
    names = [] if expected is None else [expected]
    assert told(data) == names
    try:
        found = list(layouts(data))
    except ValueError:  # no JSON
        return
    assert [told(text.encode()) for text in found] == [names] * len(found)


def real_files():
    return [pytest.param(SHARED / name, expected, id=name) for name, expected in REAL.items()]


@pytest.mark.parametrize(("path", "expected"), real_files())
def test_a_real_file_is_known(path, expected):
    if not path.exists():
        pytest.skip("the real files of other tools are not here")
    if path.suffix == ".db":
        assert told(b"", tables_of(path)) == [expected]
    else:
        check(path.read_bytes(), expected)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_our_own_samples_are_known(path, tmp_path):
    expected = path.name.partition(".")[0]
    if path.suffix == ".sql":
        assert told(b"", tables_of(made(path, tmp_path))) == [expected]
    else:
        data = path.read_bytes()
        check(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data, expected)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_taken_in_again_adds_nothing(path, tmp_path):
    file = made(path, tmp_path)
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        first = calibrator.import_calls("auto", file, model="m")
        again = calibrator.import_calls("auto", file, model="m")
        assert again.recorded == 0
        assert again.already == first.recorded + first.already
        assert first.recorded == 0 or calibrator.audit() == []


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_call_of_another_tool_says_which_clock_measured_it(path, tmp_path):
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls("auto", made(path, tmp_path), model="m")
        if report.format in {"csv", "jsonl"}:
            return
        assert report.recorded
        assert {call.details["clock"] for call in calibrator.calls()} <= {*get_args(Clock)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[{}]",
        "[[]]",
        "null",
        '{"model": "m"}',
        '{"model": "m", "prompt_tokens": 3}',
        '{"id": 1, "name": "x", "created_at": "2026-01-01T00:00:00Z"}',
        '{"results": []}',
        '{"version": 2, "results": {"results": []}}',
        '{"data": [{"id": 1}]}',
        '{"timestamp": "2026-01-01T00:00:00Z", "level": "info", "message": "hello"}',
        "id,name\n1,x\n",
        "hello\n",
        "<html></html>",
        "a: 1\nb: 2\n",
        '{"object": "list", "data": [{"object": "embedding", "embedding": [0.1]}]}',
    ],
)
def test_what_is_no_file_of_calls_is_not_taken_for_one(text):
    assert told(text.encode()) == []


@pytest.mark.parametrize(
    "value", [None, 0, 1.5, "text", [], [1], {}, {"a": 1}, [[{}]], {"models": {}}, {"models": [3]}]
)
def test_no_shape_of_json_makes_the_recognition_fail(value):
    keys = ["resourceSpans", "models", "version", "results", "benchmarks", "samples", "metrics"]
    keys += ["model", "usage", "timings", "metadata", "attributes", "chat", "events", "request_id"]
    for key in keys:
        for text in (json.dumps({key: value}), json.dumps([{key: value}]), json.dumps(value)):
            told(text.encode())
