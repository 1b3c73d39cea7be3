"""Traces of OpenTelemetry, and the logs of coding agents."""

import base64
import copy
import json
import random
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from calibration_ledger.formats import nested
from support.tool_files import REAL, SAMPLES, details, imported, numbers, written

T = datetime(2026, 5, 28, 20, 26, 40, tzinfo=UTC)
NS = 1_780_000_000 * 10**9

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 120,
    "gen_ai.usage.output_tokens": 40,
}


def value_of(value, number=str):
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": number(value)}
    return {"doubleValue" if isinstance(value, float) else "stringValue": value}


def attributes(values, number=str):
    return [{"key": key, "value": value_of(value, number)} for key, value in values.items()]


def span(number, parent=None, *, trace=1, start_ms=0.0, ms=100.0, number_as=str, **fields):
    values = {**CHAT, **fields.pop("values", {})}
    one = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": "chat m",
        "startTimeUnixNano": number_as(NS + int(start_ms * 1e6)),
        "endTimeUnixNano": number_as(NS + int((start_ms + ms) * 1e6)),
        "attributes": attributes({k: v for k, v in values.items() if v is not None}, number_as),
    }
    if parent is not None:
        one["parentSpanId"] = f"{parent:016x}"
    return one | fields


def traces(*spans):
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def record(end_ms, body=None, values=(), **fields):
    one = {"timeUnixNano": str(NS + int(end_ms * 1e6)), "attributes": attributes(dict(values))}
    return one | ({} if body is None else {"body": {"stringValue": body}}) | fields


def logs(*records):
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}


def read(tmp_path, *documents, **options):
    return imported("otlp", written(tmp_path, *documents), **options)


# -- traces ---------------------------------------------------------------------------------


def test_spans_of_models_are_calls():
    calls, left_out = imported("otlp", SAMPLES / "otlp.traces.jsonl")
    assert numbers(calls) == [
        ("gpt-4o-mini", 120, 40, 1500.25),
        ("gpt-4o-mini", 120, 40, 880.5),
    ]
    assert calls[0].called_at == T
    assert [call.request_id for call in calls] == [
        f"{1:032x}:{1:016x}",
        f"{2:032x}:{4:016x}",
    ]
    assert details(calls[0]) == {
        "clock": "client",
        "retries": "included",
        "answered_model": "gpt-4o-mini-2024-07-18",
    }
    assert left_out == {"nested": 1, "failed": 1, "not a completion": 1}


@pytest.mark.parametrize("layout", ["one document", "indented", "list", "snake case", "base64"])
def test_the_same_calls_come_from_every_layout(tmp_path, layout):
    documents = [traces(span(1)), traces(span(2, trace=2), span(3, trace=2))]
    expected, _ = read(tmp_path, *documents)
    path = tmp_path / "traces.json"
    merged = {"resourceSpans": [one for each in documents for one in each["resourceSpans"]]}
    text = json.dumps(merged, indent=2 if layout == "indented" else None)
    if layout == "list":
        text = json.dumps(documents)
    elif layout == "snake case":
        for name in ("resourceSpans", "scopeSpans", "traceId", "spanId", "stringValue", "intValue"):
            text = text.replace(name, "".join(f"_{c.lower()}" if c.isupper() else c for c in name))
        text = text.replace("startTimeUnixNano", "start_time_unix_nano")
        text = text.replace("endTimeUnixNano", "end_time_unix_nano")
    elif layout == "base64":  # as protobuf's own JSON and Tempo have it
        for one in [
            span for part in merged["resourceSpans"] for span in part["scopeSpans"][0]["spans"]
        ]:
            for name in ("traceId", "spanId"):
                one[name] = base64.b64encode(bytes.fromhex(one[name])).decode()
        text = json.dumps({"batches": merged["resourceSpans"]})
    path.write_text(text)
    calls, _ = imported("otlp", path)
    assert [call.request_id for call in calls] == [call.request_id for call in expected]
    assert numbers(calls) == numbers(expected) == [("m", 120, 40, 100.0)] * 3


@pytest.mark.parametrize("number_as", [str, int])
def test_numbers_may_be_texts_or_numbers(tmp_path, number_as):
    ((call,), _) = read(tmp_path, traces(span(1, number_as=number_as)))
    assert numbers([call]) == [("m", 120, 40, 100.0)]


def test_counts_may_be_texts(tmp_path):
    values = {"gen_ai.usage.input_tokens": "120", "gen_ai.usage.output_tokens": "40"}
    ((call,), _) = read(tmp_path, traces(span(1, values=values)))
    assert (call.prompt_tokens, call.completion_tokens) == (120, 40)


def test_what_python_prints_of_spans_is_read(tmp_path):
    printed = {
        "name": "chat m",
        "context": {"trace_id": f"0x{1:032x}", "span_id": f"0x{1:016x}", "trace_state": "[]"},
        "kind": "SpanKind.CLIENT",
        "parent_id": None,
        "start_time": "2026-05-28T20:26:40.000000Z",
        "end_time": "2026-05-28T20:26:40.250000Z",
        "status": {"status_code": "UNSET"},
        "attributes": CHAT,
        "events": [],
    }
    path = tmp_path / "spans.json"
    failed = copy.deepcopy(printed) | {"status": {"status_code": "ERROR"}}
    failed["context"]["span_id"] = f"0x{2:016x}"
    path.write_text(f"{json.dumps(printed, indent=4)}\n{json.dumps(failed, indent=4)}\n")
    ((call,), left_out) = imported("otlp", path)
    assert numbers([call]) == [("m", 120, 40, 250.0)]
    assert call.request_id == f"{1:032x}:{1:016x}"
    assert left_out == {"failed": 1}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": {"code": 2}}, "failed"),
        ({"status": {"code": "STATUS_CODE_ERROR"}}, "failed"),
        ({"values": {"error.type": "timeout"}}, "timeout"),
        ({"values": {"error.type": "GeneratorExit"}}, "cancelled"),
        ({"values": {"gen_ai.usage.input_tokens": 0}}, "unknown tokens"),
        ({"values": {"gen_ai.usage.output_tokens": None}}, "unknown tokens"),
        ({"values": {"gen_ai.request.model": None}}, "unknown model"),
        ({"endTimeUnixNano": "0"}, "unknown duration"),
        ({"values": {"gen_ai.operation.name": "embeddings"}}, "not a completion"),
    ],
)
def test_what_cannot_be_learnt_from_is_counted_by_its_reason(tmp_path, fields, reason):
    assert read(tmp_path, traces(span(1, **fields))) == ([], {reason: 1})


def test_a_span_without_a_model_is_of_the_users(tmp_path):
    nameless = span(1, values={"gen_ai.request.model": None})
    ((call,), _) = read(tmp_path, traces(nameless), model="mine")
    assert call.model == "mine"


AGENT = {"values": {"gen_ai.operation.name": "invoke_agent"}}
CHAIN = [span(1, ms=400), span(2, 1, **AGENT), span(3, 2, ms=200), span(4, 3, **AGENT), span(5, 4)]
"""Calls around calls, with spans of agents between them."""


@pytest.mark.parametrize("seed", range(8))
def test_of_spans_around_each_other_the_innermost_is_taken_in_whatever_order(tmp_path, seed):
    """Each in a line of its own, with many others between them."""
    parts = random.Random(seed).sample(CHAIN, len(CHAIN))
    documents = []
    for number, part in enumerate(parts):
        documents += [traces(part)]
        documents += [
            traces(*(span(n, trace=n) for n in range(number * 300 + 10, number * 300 + 310)))
        ]
    calls, left_out = read(tmp_path, *documents)
    assert left_out == {"nested": 2}
    assert len(calls) == 1_501
    assert {f"{1:032x}:{5:016x}"} == {
        c.request_id for c in calls if c.request_id[:32] == f"{1:032x}"
    }


def test_an_outer_span_that_comes_too_long_before_is_taken_and_the_call_counts_once(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(nested.Nested.settled, "__defaults__", (10,))
    others = [traces(span(n, trace=n)) for n in range(10, 40)]
    calls, left_out = read(tmp_path, traces(span(1)), *others, traces(span(2, 1)))
    assert (len(calls), left_out) == (31, {"nested": 1})


def test_a_span_that_is_told_twice_is_a_duplicate(tmp_path):
    assert read(tmp_path, traces(span(1)), traces(span(1)))[1] == {"duplicate": 1}


def test_a_file_that_grew_by_three_spans_adds_three(tmp_path):
    with AdaptiveCalibrator(":memory:") as calibrator:
        documents = [traces(span(n, trace=n)) for n in range(1, 6)]
        calibrator.import_calls("otlp", written(tmp_path, *documents))
        documents += [traces(span(n, trace=n)) for n in range(6, 9)]
        assert calibrator.import_calls("otlp", written(tmp_path, *documents)).recorded == 3


def test_metrics_beside_the_traces_are_no_calls(tmp_path):
    calls, left_out = read(tmp_path, {"resourceMetrics": []}, traces(span(1)), {"resourceLogs": []})
    assert (len(calls), left_out) == (1, {})


def test_what_is_no_otlp_is_a_bad_line(tmp_path):
    with AdaptiveCalibrator(":memory:") as calibrator:
        for bad in ({"model": "m"}, 5):
            with pytest.raises(ImportRefusedError, match="line 2"):
                calibrator.import_calls("otlp", written(tmp_path, traces(span(1)), bad))


# -- logs -----------------------------------------------------------------------------------

CLAUDE = {
    "event.name": "api_request",
    "model": "claude",
    "input_tokens": "10",
    "output_tokens": "40",
    "cache_read_tokens": "60",
    "cache_creation_tokens": "30",
    "duration_ms": "1500",
    "request_id": "req_1",
}
NAME = "claude_code.api_request"


def test_the_logs_of_coding_agents_are_calls_that_end_when_they_are_logged():
    calls, left_out = imported("otlp", SAMPLES / "otlp.logs.jsonl")
    assert numbers(calls) == [
        ("claude-sonnet-4-5", 100, 40, 1521.0),
        ("gemini-2.5-pro", 500, 100, 2500.0),
        ("gpt-5-codex", 1000, 90, 2300.0),
    ]
    assert [(call.called_at - T).total_seconds() for call in calls] == [2.479, 17.5, 30.0]
    assert calls[0].request_id == "req_011C1"
    assert details(calls[0]) == {"clock": "client", "cached_tokens": 60}
    assert details(calls[1]) == {"clock": "client", "cached_tokens": 100, "reasoning_tokens": 70}
    assert details(calls[2]) == {
        "clock": "attempt",
        "streamed": True,
        "cached_tokens": 400,
        "reasoning_tokens": 50,
    }
    assert left_out == {"timeout": 1}


@pytest.mark.parametrize("is_log_first", [False, True])
def test_a_call_with_a_span_and_a_log_record_counts_once(tmp_path, is_log_first):
    values = {
        **dict.fromkeys(CHAT),
        **{name: CLAUDE[name] for name in CLAUDE if name not in ("event.name", "duration_ms")},
    }
    parts = [
        traces(span(1, name="claude_code.llm_request", ms=1520, values=values)),
        logs(record(1520, NAME, CLAUDE)),
    ]
    calls, left_out = read(tmp_path, *(reversed(parts) if is_log_first else parts))
    assert [(call.prompt_tokens, call.request_id) for call in calls] == [(100, "req_1")]
    assert left_out == {"duplicate": 1}


@pytest.mark.parametrize("is_log_first", [False, True])
def test_a_log_record_that_was_written_within_the_span_of_its_call_counts_once(
    tmp_path, is_log_first
):
    gemini = {
        "event.name": "gemini_cli.api_response",
        "model": "m",
        "duration_ms": 90,
        "input_token_count": 120,
        "output_token_count": 40,
    }
    within = {"traceId": f"{1:032x}", "spanId": f"{1:016x}"}
    parts = [traces(span(1)), logs(record(100, "text", gemini, **within))]
    calls, left_out = read(tmp_path, *(reversed(parts) if is_log_first else parts))
    assert (len(calls), left_out) == (1, {"duplicate": 1})


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        (NAME, {**CLAUDE, "output_tokens": None}, "unknown tokens"),
        (NAME, {**CLAUDE, "duration_ms": "soon"}, "unknown duration"),
        (NAME, {**CLAUDE, "model": None}, "unknown model"),
        ("claude_code.api_error", {"error": "Request timed out."}, "timeout"),
        ("claude_code.api_error", {"error": "Request was aborted."}, "cancelled"),
        ("claude_code.api_error", {"error": "529 overloaded"}, "failed"),
        ("gemini_cli.api_error", {"error_type": "ApiError"}, "failed"),
        ("codex.api_request", {"http.response.status_code": 429}, "failed"),
        ("codex.sse_event", {"error.message": "idle timeout waiting for SSE"}, "timeout"),
        (
            "codex.sse_event",
            {"event.kind": "response.completed", "input_token_count": 9, "output_token_count": 1},
            "unknown duration",  # the beginning is not in the file
        ),
    ],
)
def test_what_agents_log_of_no_good_call_is_counted_by_its_reason(tmp_path, name, values, reason):
    given = {"event.name": name, **values} if not name.startswith("claude") else values
    given = {key: value for key, value in given.items() if value is not None}
    assert read(tmp_path, logs(record(100, name, given))) == ([], {reason: 1})


def test_a_record_of_claude_code_may_lack_its_body(tmp_path):
    ((call,), _) = read(tmp_path, logs(record(1500, None, CLAUDE)))
    assert (call.called_at, call.actual_ms) == (T, 1500.0)


def test_other_log_records_are_no_calls(tmp_path):
    records = [
        record(1, "claude_code.user_prompt", {"event.name": "user_prompt"}),
        record(2, "GET /", {"event.name": "api_request", "duration_ms": 5}),
        record(3, "codex.sse_event", {"event.kind": "response.created"}),
        record(4, None, {"event.name": "gen_ai.client.inference.operation.details", **CHAT}),
    ]
    assert read(tmp_path, logs(*records)) == ([], {})


def test_each_conversation_of_codex_has_its_own_call(tmp_path):
    def begin(end_ms, of):
        return record(end_ms, "codex.api_request", {"duration_ms": "100", "conversation.id": of})

    def end(end_ms, of):
        counts = {"input_token_count": "10", "output_token_count": "5"}
        about = {"event.kind": "response.completed", "conversation.id": of, "model": "m"}
        return record(end_ms, "codex.sse_event", counts | about)

    records = [begin(100, "a"), begin(300, "b"), end(1_000, "b"), end(2_000, "a"), end(2_500, "a")]
    calls, left_out = read(tmp_path, logs(*records))
    assert [call.actual_ms for call in calls] == [2_000.0, 800.0]
    assert left_out == {"unknown duration": 1}


# -- real files -----------------------------------------------------------------------------

REAL_MS = {
    "openinference": (184.787201, 185.242511),
    "openllmetry": (188.587892, 183.644051),
    "v2_default": (193.331291, 190.243453),
    "v2_optin": (185.052562, 182.864071),
}


@pytest.mark.skipif(not REAL.exists(), reason="the real files (../shared/samples) are not here")
@pytest.mark.parametrize(("name", "ms"), REAL_MS.items())
def test_real_traces_are_read_in_every_dialect(name, ms):
    calls, left_out = imported("otlp", REAL / f"otlp_{name}.jsonl")
    assert numbers(calls) == [("gpt-4o", 11, 12, one) for one in ms]
    assert {call.details["answered_model"] for call in calls} == {"gpt-4o-2026-01-01"}
    assert left_out == {"unknown tokens": 1, "failed": 1}
