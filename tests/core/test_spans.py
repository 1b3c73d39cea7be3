"""Spans of every tool that is known, read as calls."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibration_ledger.core.answers import Answer, Unlearnable
from calibration_ledger.core.spans import (
    REMEMBERED_MAX,
    Event,
    Innermost,
    Span,
    call_of_span,
    otlp_spans,
    read_span,
)

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"
START = 1_700_000_000_000_000_000
MS = 1_000_000


def span(span_id="b", parent_id=None, *, name="chat", ms=100.0, **fields):
    attributes = fields.pop("attributes", {})
    end = START + round(ms * MS)
    return Span("a", span_id, parent_id, name, START, end, attributes=attributes, **fields)


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2026-01-01",
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": 7,
}


def chat(span_id="b", parent_id=None, *, without=(), **changes):
    attributes = {key: value for key, value in CHAT.items() if key not in without}
    more = {key: changes.pop(key) for key in ("events", "is_error", "ms") if key in changes}
    return span(span_id, parent_id, attributes={**attributes, **changes}, **more)


DIALECTS = {
    "the conventions, new": CHAT
    | {
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.04,
    },
    "OpenLLMetry": CHAT
    | {
        "gen_ai.is_streaming": True,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "gen_ai.usage.reasoning_tokens": 3,
        "events": [Event("gen_ai.content.completion.chunk", START + 40 * MS)],
    },
    "OpenLLMetry, old": {
        "llm.request.type": "chat",
        "llm.is_streaming": True,
        "gen_ai.system": "OpenAI",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2026-01-01",
        "gen_ai.usage.prompt_tokens": 11,
        "gen_ai.usage.completion_tokens": 7,
        "gen_ai.usage.cache_read_input_tokens": 5,
        "gen_ai.usage.reasoning_tokens": 3,
        "events": [Event("llm.content.completion.chunk", START + 40 * MS)],
    },
    "Traceloop, at first": {
        "llm.request.type": "completion",
        "llm.request.model": "gpt-4o",
        "llm.response.model": "gpt-4o-2026-01-01",
        "llm.usage.prompt_tokens": 11,
        "llm.usage.completion_tokens": 7,
    },
    "OpenInference": {
        "openinference.span.kind": "LLM",
        "llm.invocation_parameters": '{"model": "gpt-4o", "stream": true}',
        "llm.model_name": "gpt-4o-2026-01-01",
        "llm.token_count.prompt": 11,
        "llm.token_count.completion": 7,
        "llm.token_count.prompt_details.cache_read": 5,
        "llm.token_count.completion_details.reasoning": 3,
        "events": [Event("First Token Stream Event", START + 40 * MS)],
    },
    "OpenInference, with the model that was asked for": {
        "openinference.span.kind": "LLM",
        "llm.request.model_name": "gpt-4o",
        "llm.model_name": "gpt-4o-2026-01-01",
        "llm.token_count.prompt": 11,
        "llm.token_count.completion": 7,
    },
    "Vercel's AI SDK": {
        "ai.operationId": "ai.streamText.doStream",
        "ai.model.id": "gpt-4o",
        "ai.response.model": "gpt-4o-2026-01-01",
        "ai.usage.inputTokens": 11,
        "ai.usage.outputTokens": 7,
        "ai.usage.cachedInputTokens": 5,
        "ai.usage.reasoningTokens": 3,
        "ai.response.msToFirstChunk": 40.0,
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
    },
    "Vercel's AI SDK 4": {
        "ai.operationId": "ai.generateText.doGenerate",
        "ai.model.id": "gpt-4o",
        "ai.response.model": "gpt-4o-2026-01-01",
        "ai.usage.promptTokens": 11,
        "ai.usage.completionTokens": 7,
    },
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_dialect_says_the_models_and_the_tokens(dialect):
    attributes = dict(DIALECTS[dialect])
    events = attributes.pop("events", ())
    given = span(attributes=attributes, events=events)
    answer = read_span(given)
    assert isinstance(answer, Answer)
    assert (answer.asked_model, answer.answered_model) == ("gpt-4o", "gpt-4o-2026-01-01")
    assert (answer.prompt_tokens, answer.completion_tokens) == (11, 7)
    call = call_of_span(given, answer)
    assert (call.model, call.actual_ms, call.request_id) == ("gpt-4o", 100.0, "a:b")
    assert call.called_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert call.details["clock"] == "client"
    assert call.details["retries"] == "included"
    if call.details.get("streamed"):
        assert (answer.cached_tokens, answer.reasoning_tokens) == (5, 3)
        assert call.details["ttft_ms"] == pytest.approx(40.0)


LANGFUSE = "langfuse.observation."


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}, (11, 7)),
        ({"input": 11, "output": 7}, (11, 7)),
        ({"input": 4, "input_cache_read": 7, "output": 2, "output_reasoning": 5}, (11, 7)),
        (
            {"input": 1, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2}
            | {"output": 7},
            (11, 7),
        ),
    ],
)
def test_langfuse_says_its_tokens_in_json(usage, counts):
    given = span(
        attributes={
            LANGFUSE + "type": "generation",
            LANGFUSE + "model.name": "gpt-4o",
            LANGFUSE + "usage_details": json.dumps(usage),
            LANGFUSE + "completion_start_time": '"2023-11-14T22:13:20.040000Z"',
        }
    )
    answer = read_span(given)
    assert (answer.prompt_tokens, answer.completion_tokens) == counts
    call = call_of_span(given, answer)
    assert call.model == "gpt-4o"
    assert call.details["ttft_ms"] == pytest.approx(40.0, abs=0.01)


CLAUDE = {
    "model": "claude-sonnet-4-5",
    "input_tokens": "4",
    "cache_read_tokens": "5",
    "cache_creation_tokens": "2",
    "output_tokens": "7",
    "ttft_ms": 40,
    "success": True,
}


def test_claude_code_counts_its_cache_apart_and_in_text():
    given = span(name="claude_code.llm_request", attributes=CLAUDE)
    answer = read_span(given)
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens) == (11, 7, 5)
    call = call_of_span(given, answer)
    assert (call.model, call.details["ttft_ms"]) == ("claude-sonnet-4-5", 40.0)
    failed = span(name="claude_code.llm_request", attributes={**CLAUDE, "success": "false"})
    assert read_span(failed).reason == "failed"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (chat(is_error=True), "failed"),
        (chat(**{"error.type": "RateLimitError"}), "failed"),
        (chat(**{LANGFUSE + "level": "ERROR"}), "failed"),
        (chat(**{"error.type": "openai.APITimeoutError"}), "timeout"),
        (chat(**{"error.type": "timeout"}), "timeout"),
        (chat(**{"error.type": "asyncio.exceptions.CancelledError"}), "cancelled"),
        (chat(**{"error.type": "GeneratorExit"}), "left early"),
        (
            chat(is_error=True, events=[Event("exception", 1, {"exception.type": "ReadTimeout"})]),
            "timeout",
        ),
        (chat(without=["gen_ai.usage.input_tokens"]), "unknown tokens"),
        (chat(without=["gen_ai.usage.output_tokens"]), "unknown tokens"),
        (chat(**{"gen_ai.usage.input_tokens": 0}), "unknown tokens"),
        (chat(**{"gen_ai.usage.input_tokens": -1}), "unknown tokens"),
        (chat(**{"gen_ai.usage.input_tokens": True}), "unknown tokens"),
        (chat(**{"gen_ai.usage.cache_read.input_tokens": 60}), "unknown tokens"),
        (chat(without=["gen_ai.request.model", "gen_ai.response.model"]), "unknown model"),
        (chat(**{"litellm.cache_hit": True}), "cached"),
        (chat(ms=-1), "unknown duration"),
        (span(attributes={"gen_ai.operation.name": "embeddings"}), "not a completion"),
        (span(attributes={"openinference.span.kind": "EMBEDDING"}), "not a completion"),
        (span(attributes={"openinference.span.kind": "RERANKER"}), "not a completion"),
        (span(attributes={"llm.request.type": "embedding"}), "not a completion"),
        (span(attributes={"ai.operationId": "ai.embed.doEmbed"}), "not a completion"),
    ],
)
def test_what_cannot_be_learnt_from_says_why(given, reason):
    assert read_span(given).reason == reason


@pytest.mark.parametrize(
    "given",
    [
        span(name="GET /users"),
        chat(**{"gen_ai.operation.name": "invoke_agent"}),
        chat(**{"gen_ai.operation.name": "execute_tool"}),
        chat(**{"openinference.span.kind": "AGENT"}),
        chat(**{"ai.operationId": "ai.generateText"}),
        chat(**{LANGFUSE + "type": "span"}),
    ],
)
def test_a_span_of_an_agent_or_of_anything_else_is_no_call(given):
    assert read_span(given) is None


def test_a_completion_of_nothing_is_one():
    assert read_span(chat(**{"gen_ai.usage.output_tokens": 0})).completion_tokens == 0


def test_the_model_that_answered_is_kept_and_taken_where_none_was_asked_for():
    given = chat()
    assert call_of_span(given, read_span(given)).details["answered_model"] == "gpt-4o-2026-01-01"
    given = chat(without=["gen_ai.request.model"])
    call = call_of_span(given, read_span(given))
    assert call.model == "gpt-4o-2026-01-01"
    assert "answered_model" not in call.details


def test_a_first_token_after_the_end_is_not_believed():
    given = chat(**{"gen_ai.request.stream": True, "gen_ai.response.time_to_first_chunk": 3.0})
    assert "ttft_ms" not in call_of_span(given, read_span(given)).details


@pytest.mark.parametrize("value", [object(), [], {}, b"x", 1e400, "x" * 20_000, "[" * 20_000])
def test_whatever_an_attribute_is_nothing_is_raised(value):
    names = {*CHAT, "llm.invocation_parameters", "error.type", LANGFUSE + "usage_details"}
    for name in names:
        given = chat(**{name: value})
        reading = read_span(given)
        if isinstance(reading, Answer):
            call_of_span(given, reading)


# -- spans around spans ---------------------------------------------------------------------


def taken(*batches):
    """The ids of the spans that are taken, and the reasons of the others."""
    innermost = Innermost()
    found = [pair for batch in batches for pair in innermost.read(batch)]
    return (
        [one.span_id for one, reading in found if isinstance(reading, Answer)],
        [reading.reason for _, reading in found if isinstance(reading, Unlearnable)],
    )


INNER, OUTER = chat("inner", "outer"), chat("outer")


@pytest.mark.parametrize("batches", [[[INNER, OUTER]], [[OUTER, INNER]], [[INNER], [OUTER]]])
def test_of_two_spans_around_a_call_the_inner_is_taken(batches):
    assert taken(*batches) == (["inner"], ["nested"])


def test_a_span_with_an_attribute_that_fails_costs_no_other():
    class Failing:
        def __bool__(self):
            raise ZeroDivisionError

    found = Innermost().read([chat("a", **{"error.type": Failing()}), chat("b")])
    assert [getattr(reading, "reason", None) for _, reading in found] == ["unreadable", None]


def test_an_outer_span_that_came_long_before_is_not_recorded_twice():
    assert taken([OUTER], [INNER]) == (["outer"], ["nested"])


def test_an_inner_span_that_does_not_say_enough_leaves_the_outer_one():
    inner = chat("inner", "outer", without=["gen_ai.usage.input_tokens"])
    assert taken([inner, OUTER]) == (["outer"], ["unknown tokens"])


def test_an_outer_span_that_does_not_say_enough_is_a_double():
    assert taken([INNER], [chat("outer", is_error=True)]) == (["inner"], ["nested"])


@pytest.mark.parametrize("batches", [1, 3])
def test_spans_between_two_of_a_call_hide_nothing(batches):
    row = [chat("inner", "http"), span("http", "agent"), chat("agent", "top"), chat("top")]
    cut = [row] if batches == 1 else [row[:1], row[1:2], row[2:]]
    assert taken(*cut) == (["inner"], ["nested", "nested"])


def test_calls_beside_each_other_are_all_taken():
    agent = span("agent", attributes={"gen_ai.operation.name": "invoke_agent"})
    assert taken([chat("one", "agent"), chat("two", "agent"), agent]) == (["one", "two"], [])


def test_what_is_remembered_is_bounded():
    innermost = Innermost()
    for i in range(0, 3 * REMEMBERED_MAX, 1000):
        innermost.read(chat(f"s{j}", f"p{j}") for j in range(i, i + 1000))
    assert len(innermost._covered) == len(innermost._taken) == REMEMBERED_MAX


# -- OTLP JSON ------------------------------------------------------------------------------


def document(**fields):
    attributes = [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}]
    attributes += [
        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": fields.pop("prompt", "11")}},
        {"key": "gen_ai.usage.output_tokens", "value": {"stringValue": "7"}},
        {"key": "gen_ai.response.time_to_first_chunk", "value": {"doubleValue": 0.001}},
        {"key": "gen_ai.request.stream", "value": {"boolValue": True}},
    ]
    record = {
        "traceId": "0A",
        "spanId": "0B",
        "name": "chat m",
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": START + 5 * MS,
        "attributes": attributes,
        **fields,
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [record]}]}]}


@pytest.mark.parametrize("prompt", ["11", 11, 11.0])
def test_otlp_json_has_numbers_as_texts_and_as_numbers(prompt):
    (given,) = otlp_spans(document(prompt=prompt))
    call = call_of_span(given, read_span(given))
    assert (call.prompt_tokens, call.completion_tokens, call.actual_ms) == (11, 7, 5.0)
    assert (call.request_id, call.details["ttft_ms"]) == ("0a:0b", 1.0)


@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR"])
def test_otlp_json_says_what_failed(code):
    (given,) = otlp_spans(document(status={"code": code}))
    assert read_span(given).reason == "failed"


@pytest.mark.parametrize(
    "rubbish",
    [
        None,
        [],
        "x",
        {"resourceSpans": 3},
        {"resourceSpans": [None, {"scopeSpans": [{"spans": [{}, 3, {"traceId": 1}]}]}]},
        document(startTimeUnixNano="soon", events=[3], attributes=[{"key": 3}, {"value": 3}]),
    ],
)
def test_rubbish_in_otlp_json_is_left_out(rubbish):
    assert not any(isinstance(read_span(one), Answer) for one in otlp_spans(rubbish))


@pytest.mark.parametrize("name", ["openinference", "openllmetry", "v2_default", "v2_optin"])
def test_files_of_real_instrumentations_are_read(name):
    """Four calls each: whole, streamed, streamed without counts, failed."""
    path = SAMPLES / f"otlp_{name}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    lines = path.read_text(encoding="utf-8").splitlines()
    spans = [one for line in lines for one in otlp_spans(json.loads(line))]
    found = Innermost().read(spans)
    assert len(found) == 4
    calls = [call_of_span(one, got) for one, got in found if isinstance(got, Answer)]
    assert [(one.model, one.prompt_tokens, one.completion_tokens) for one in calls] == [
        ("gpt-4o", 11, 12)
    ] * 2
    assert {one.details["answered_model"] for one in calls} == {"gpt-4o-2026-01-01"}
    reasons = [got.reason for _, got in found if isinstance(got, Unlearnable)]
    assert reasons == ["unknown tokens", "failed"]
