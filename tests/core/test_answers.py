"""The reader of answers: every provider's words become the same numbers.

The samples are written for these tests, in the shapes that the providers' documents describe.
"""

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_ledger import InvalidInputError, UnlearnableAnswerError, from_answer
from calibration_ledger.core.answers import (
    Answer,
    AnswerReader,
    Request,
    Unlearnable,
    call_of,
    read_answer,
    read_request,
)
from calibration_ledger.core.answers.reader import EVENT_BYTES_MAX

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


def sse(*events, end="\n"):
    """Server-sent events, each of which names its type where it has one."""
    text = ""
    for event in events:
        kind = event.get("type") if isinstance(event, dict) else None
        data = event if isinstance(event, str) else json.dumps(event)
        text += (f"event: {kind}\n" if kind else "") + f"data: {data}\n\n"
    return text.replace("\n", end).encode()


def ndjson(*events):
    return "".join(json.dumps(event) + "\n" for event in events).encode()


def fed(data, size, asked_model=None):
    """The result of a reader that gets the bytes in pieces."""
    reader = AnswerReader(asked_model)
    for start in range(0, len(data), size):
        reader.feed(data[start : start + size])
    return reader.result()


# -- what the providers send ----------------------------------------------------------------

CHAT = {
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "héllo"}}
    ],
    "usage": {
        "prompt_tokens": 90,
        "completion_tokens": 20,
        "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 12},
    },
}
READ_CHAT = Answer("openai.chat", None, "gpt-4o-mini-2024-07-18", 90, 20, 64, 12)
PLAIN = {"prompt_tokens": 90, "completion_tokens": 20, "total_tokens": 110}


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, "logprobs": None}
    head = {"object": "chat.completion.chunk", "model": "gpt-4o-mini-2024-07-18"}
    return {**head, "choices": [choice], **more}


CHUNKS = [
    chunk({"role": "assistant", "content": ""}, usage=None),
    chunk({"content": "hé"}, usage=None),
    chunk({"content": 'llo "usage": {'}, usage=None),
    chunk({}, "stop", usage=None),
    {**chunk(), "choices": [], "usage": CHAT["usage"]},
]

RESPONSE = {
    "object": "response",
    "status": "completed",
    "error": None,
    "model": "gpt-5-2025-08-07",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "hello"}]}],
    "usage": {
        "input_tokens": 36,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 87,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 123,
    },
}
READ_RESPONSE = Answer("openai.responses", None, "gpt-5-2025-08-07", 36, 87, 0, 64)


def response_events(end="completed", **more):
    started = {**RESPONSE, "status": "in_progress", "usage": None, "output": []}
    return [
        {"type": "response.created", "response": started},
        {"type": "response.output_item.added", "item": {"type": "message", "content": []}},
        {"type": "response.output_text.delta", "delta": "hel", "logprobs": []},
        {"type": "response.output_text.delta", "delta": "lo", "logprobs": []},
        {"type": f"response.{end}", "response": {**RESPONSE, "status": end, **more}},
    ]


MESSAGE = {
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 7,
    },
}
READ_MESSAGE = Answer("anthropic", None, "claude-sonnet-4-5-20250929", 100, 7, 60)


def message_events(start_usage=None, end_usage=None):
    start = {**MESSAGE["usage"], "output_tokens": 1} if start_usage is None else start_usage
    end = {"output_tokens": 7} if end_usage is None else end_usage
    message = {**MESSAGE, "content": [], "stop_reason": None, "usage": start}
    text = {
        "type": "content_block_start",
        "index": 0,
        "content_block": {"type": "text", "text": ""},
    }
    return [
        {"type": "message_start", "message": message},
        text,
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hel"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end},
        {"type": "message_stop"},
    ]


OLLAMA = {
    "model": "llama3.2",
    "created_at": "2025-10-17T23:14:07.414671Z",
    "message": {"role": "assistant", "content": "hello"},
    "done": True,
    "done_reason": "stop",
    "total_duration": 174_560_334,
    "load_duration": 101_397_084,
    "prompt_eval_count": 11,
    "prompt_eval_duration": 13_074_791,
    "eval_count": 18,
    "eval_duration": 52_479_709,
}
READ_OLLAMA = Answer("ollama", None, "llama3.2", 11, 18, load_ms=101.397084, server_ms=174.560334)


def ollama_chunk(text, **more):
    said = {"message": {"role": "assistant", "content": text}, "done": False}
    return {"model": "llama3.2", "created_at": "2025-10-17T23:14:07Z", **said, **more}


def without(answer, *names):
    return {name: value for name, value in answer.items() if name not in names}


OLLAMA_CHUNKS = [ollama_chunk("hel"), ollama_chunk("lo"), {**OLLAMA, **ollama_chunk("", done=True)}]
GENERATED = {**without(OLLAMA, "message"), "response": "hello", "context": [1, 2]}

GROQ_USAGE = {
    "queue_time": 0.25,
    "prompt_tokens": 41,
    "prompt_time": 0.0125,
    "completion_tokens": 27,
    "completion_time": 0.055,
    "total_tokens": 68,
    "total_time": 0.0675,
}
READ_GROQ = Answer("openai.chat", None, "llama-3.3-70b", 41, 27, queue_ms=250.0, server_ms=317.5)
GROQ = {
    **CHAT,
    "model": "llama-3.3-70b",
    "usage": GROQ_USAGE,
    "x_groq": {"id": "req_1", "usage": {"dram_cached_tokens": 16, "sram_cached_tokens": 8}},
}
GROQ_CHUNKS = [
    chunk({"role": "assistant", "content": ""}, model="llama-3.3-70b", x_groq={"id": "req_1"}),
    chunk({"content": "hello"}, model="llama-3.3-70b"),
    chunk({}, "stop", model="llama-3.3-70b", x_groq={"id": "req_1", "usage": GROQ_USAGE}),
]

TIMINGS = {
    "cache_n": 236,
    "prompt_n": 1,
    "prompt_ms": 30.5,
    "predicted_n": 35,
    "predicted_ms": 661.25,
}
READ_TIMINGS = Answer("openai.chat", None, "gpt-4o-mini-2024-07-18", 237, 35, 236, server_ms=691.75)
LLAMACPP = {
    "content": "hello",
    "model": "qwen2.5-7b.gguf",
    "stop": True,
    "tokens_evaluated": 237,
    "tokens_predicted": 35,
    "timings": TIMINGS,
}
READ_LLAMACPP = replace(READ_TIMINGS, api="llama.cpp", answered_model="qwen2.5-7b.gguf")

GEMINI = {
    "candidates": [
        {"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}
    ],
    "usageMetadata": {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 20,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 40,
        "thoughtsTokenCount": 300,
        "totalTokenCount": 460,
    },
    "modelVersion": "gemini-2.5-flash",
}
READ_GEMINI = Answer("gemini", None, "gemini-2.5-flash", 120, 340, 60, 300)


def gemini_chunk(text, **more):
    content = {"role": "model", "parts": [{"text": text}]}
    return {**GEMINI, "candidates": [{"content": content}], **more}


GEMINI_CHUNKS = [
    gemini_chunk("hel", usageMetadata={"promptTokenCount": 100, "totalTokenCount": 100}),
    gemini_chunk("lo", usageMetadata={"promptTokenCount": 100, "candidatesTokenCount": 2}),
    GEMINI,
]

TEXT_COMPLETION = {
    "object": "text_completion",
    "model": "davinci-002",
    "choices": [{"index": 0, "text": "hello", "finish_reason": "length", "logprobs": None}],
    "usage": PLAIN,
}
READ_TEXT = Answer("openai.completions", None, "davinci-002", 90, 20)

LANGCHAIN = {
    "type": "ai",
    "content": "hello",
    "response_metadata": {"model_name": "gpt-4o-mini-2024-07-18", "finish_reason": "stop"},
    "usage_metadata": {
        "input_tokens": 90,
        "output_tokens": 20,
        "total_tokens": 110,
        "input_token_details": {"cache_read": 64},
        "output_token_details": {"reasoning": 12},
    },
}

WHOLE = {
    "chat": (CHAT, READ_CHAT),
    "chat, plain": (
        {**CHAT, "usage": PLAIN},
        replace(READ_CHAT, cached_tokens=None, reasoning_tokens=None),
    ),
    "chat without object": (without(CHAT, "object"), READ_CHAT),
    "completions": (TEXT_COMPLETION, READ_TEXT),
    "responses": (RESPONSE, READ_RESPONSE),
    "responses, cut by a limit": ({**RESPONSE, "status": "incomplete"}, READ_RESPONSE),
    "anthropic": (MESSAGE, READ_MESSAGE),
    "anthropic, no cache": (
        {**MESSAGE, "usage": {"input_tokens": 10, "output_tokens": 7}},
        replace(READ_MESSAGE, prompt_tokens=10, cached_tokens=None),
    ),
    "anthropic, cache of None": (
        {
            **MESSAGE,
            "usage": {
                "input_tokens": 10,
                "output_tokens": 7,
                "cache_creation_input_tokens": None,
                "cache_read_input_tokens": None,
            },
        },
        replace(READ_MESSAGE, prompt_tokens=10, cached_tokens=None),
    ),
    "anthropic, all from the cache": (
        {**MESSAGE, "usage": {**MESSAGE["usage"], "input_tokens": 0}},
        replace(READ_MESSAGE, prompt_tokens=90),
    ),
    "anthropic, thinking": (
        {**MESSAGE, "usage": {**MESSAGE["usage"], "output_tokens_details": {"thinking_tokens": 5}}},
        replace(READ_MESSAGE, reasoning_tokens=5),
    ),
    "ollama chat": (OLLAMA, READ_OLLAMA),
    "ollama generate": (GENERATED, READ_OLLAMA),
    "ollama, warm": (without(OLLAMA, "load_duration"), replace(READ_OLLAMA, load_ms=None)),
    "ollama, no times": (
        {**OLLAMA, "load_duration": 0, "total_duration": 0},
        replace(READ_OLLAMA, load_ms=None, server_ms=None),
    ),
    "groq": (GROQ, replace(READ_GROQ, cached_tokens=24)),
    "groq, no queue": (
        {**GROQ, "x_groq": {"id": "r"}, "usage": without(GROQ_USAGE, "queue_time")},
        replace(READ_GROQ, queue_ms=None, server_ms=67.5),
    ),
    "cerebras": (
        {
            **CHAT,
            "usage": PLAIN,
            "time_info": {"queue_time": 0.08, "prompt_time": 0.005, "total_time": 0.125},
        },
        Answer("openai.chat", None, CHAT["model"], 90, 20, queue_ms=80.0, server_ms=125.0),
    ),
    "deepseek": (
        {**CHAT, "usage": {**PLAIN, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 26}},
        replace(READ_CHAT, reasoning_tokens=None),
    ),
    "openrouter": (
        {**CHAT, "provider": "Fake", "usage": {**CHAT["usage"], "cost": 0.001}},
        READ_CHAT,
    ),
    "mistral": (
        {**CHAT, "usage": {**PLAIN, "num_cached_tokens": 0}},
        Answer("openai.chat", None, CHAT["model"], 90, 20),
    ),
    "vllm": (
        {
            **CHAT,
            "usage": PLAIN,
            "metrics": {
                "time_to_first_token_ms": 50.0,
                "generation_time_ms": 200.0,
                "queue_time_ms": 3.5,
            },
        },
        Answer("openai.chat", None, CHAT["model"], 90, 20, queue_ms=3.5, server_ms=253.5),
    ),
    "llama.cpp": (LLAMACPP, READ_LLAMACPP),
    "llama.cpp chat": (
        {**CHAT, "usage": {"prompt_tokens": 237, "completion_tokens": 35}, "timings": TIMINGS},
        READ_TIMINGS,
    ),
    "llama.cpp chat, timings alone": ({**CHAT, "usage": None, "timings": TIMINGS}, READ_TIMINGS),
    "llama.cpp chat, zeros for usage": (
        {**CHAT, "usage": {"prompt_tokens": 0, "completion_tokens": 0}, "timings": TIMINGS},
        READ_TIMINGS,
    ),
    "llama.cpp before cache_n": (
        {**LLAMACPP, "timings": without(TIMINGS, "cache_n")},
        replace(READ_LLAMACPP, cached_tokens=None),
    ),
    "gemini": (GEMINI, READ_GEMINI),
    "gemini, all thoughts": (
        {
            **GEMINI,
            "usageMetadata": {
                "promptTokenCount": 100,
                "thoughtsTokenCount": 300,
                "totalTokenCount": 400,
            },
        },
        Answer("gemini", None, "gemini-2.5-flash", 100, 300, None, 300),
    ),
    "gemini behind a gateway": ({"response": GEMINI, "traceId": "1"}, READ_GEMINI),
    "xai": (
        {
            **CHAT,
            "usage": {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
        },
        Answer("openai.chat", None, CHAT["model"], 32, 103, None, 94),
    ),
    "gemini in the shape of openai": (
        {**CHAT, "usage": {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}},
        Answer("openai.chat", None, CHAT["model"], 20, 603),
    ),
    "inspect_ai": (
        {
            "model": "claude-next",
            "choices": [{"message": {"role": "assistant", "content": "a"}, "stop_reason": "stop"}],
            "usage": {
                "input_tokens": 10,
                "output_tokens": 7,
                "total_tokens": 107,
                "input_tokens_cache_read": 60,
                "input_tokens_cache_write": 30,
                "reasoning_tokens": 2,
            },
        },
        Answer("openai.chat", None, "claude-next", 100, 7, 60, 2),
    ),
    "a total with the cache": (
        {
            **CHAT,
            "usage": {
                "prompt_tokens": 90,
                "completion_tokens": 20,
                "total_tokens": 174,
                "prompt_tokens_details": {"cached_tokens": 64},
            },
        },
        replace(READ_CHAT, reasoning_tokens=None),
    ),
    "langchain": (LANGCHAIN, replace(READ_CHAT, api="langchain")),
    "a count of 12.0": (
        {**CHAT, "usage": {"prompt_tokens": 90.0, "completion_tokens": 20}},
        Answer("openai.chat", None, CHAT["model"], 90, 20),
    ),
    "nothing came out": (
        {**CHAT, "usage": {"prompt_tokens": 90, "completion_tokens": 0}},
        Answer("openai.chat", None, CHAT["model"], 90, 0),
    ),
}

STREAMS = {
    "chat": (sse(*CHUNKS, "[DONE]"), READ_CHAT),
    "chat, left at [DONE]": (sse(*CHUNKS), READ_CHAT),
    "completions": (
        sse(
            {
                **TEXT_COMPLETION,
                "choices": [{"text": "hello", "finish_reason": None}],
                "usage": None,
            },
            {
                **TEXT_COMPLETION,
                "choices": [{"text": "", "finish_reason": "length"}],
                "usage": None,
            },
            {**TEXT_COMPLETION, "choices": []},
            "[DONE]",
        ),
        READ_TEXT,
    ),
    "usage with every chunk": (
        sse(
            chunk({"content": "a"}, usage={"prompt_tokens": 90, "completion_tokens": 1}),
            chunk({"content": "b"}, usage={"prompt_tokens": 90, "completion_tokens": 2}),
            chunk({}, "stop", usage=CHAT["usage"]),
        ),
        READ_CHAT,
    ),
    "responses": (sse(*response_events()), READ_RESPONSE),
    "responses, cut by a limit": (sse(*response_events("incomplete")), READ_RESPONSE),
    "anthropic": (sse(*message_events()), READ_MESSAGE),
    "anthropic, all at the end": (
        sse(*message_events({"input_tokens": 0, "output_tokens": 0}, MESSAGE["usage"])),
        READ_MESSAGE,
    ),
    "anthropic, zeros at the end": (
        sse(*message_events(end_usage={"input_tokens": 0, "output_tokens": 7})),
        READ_MESSAGE,
    ),
    "anthropic, output twice": (
        sse(*message_events(end_usage={"output_tokens": 3})[:-1], *message_events()[-2:]),
        READ_MESSAGE,
    ),
    "ollama": (ndjson(*OLLAMA_CHUNKS), READ_OLLAMA),
    "ollama, no last line end": (ndjson(*OLLAMA_CHUNKS)[:-1], READ_OLLAMA),
    "groq": (sse(*GROQ_CHUNKS, "[DONE]"), READ_GROQ),
    "llama.cpp": (
        sse(
            {"content": "hel", "stop": False},
            {"content": "lo", "stop": False},
            {**LLAMACPP, "content": ""},
        ),
        READ_LLAMACPP,
    ),
    "llama.cpp chat": (
        sse(*CHUNKS[:4], {"choices": [], "object": "chat.completion.chunk", "timings": TIMINGS}),
        READ_TIMINGS,
    ),
    "gemini": (sse(*GEMINI_CHUNKS), READ_GEMINI),
    "gemini as an array": (json.dumps(GEMINI_CHUNKS, indent=1).encode(), READ_GEMINI),
}


# -- whole ----------------------------------------------------------------------------------


def objects(value):
    """The same as a client's object: attributes in place of keys."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: objects(item) for name, item in value.items()})
    return [objects(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("answer", "expected"), WHOLE.values(), ids=WHOLE)
def test_a_whole_answer_is_read_from_whatever_holds_it(answer, expected):
    text = json.dumps(answer)
    pretty = json.dumps(answer, indent=2)
    holders = (
        answer,
        text,
        text.encode(),
        pretty,
        bytearray(pretty.encode()),
        "\n \n" + text,
        [answer],
    )
    for holder in (*holders, MappingProxyType(answer)):
        assert read_answer(holder) == expected
    for size in (1, 7, len(text)):
        assert fed(text.encode(), size) == fed(pretty.encode(), size) == expected
    asked = read_answer(answer, asked_model="asked")
    assert asked == replace(expected, asked_model="asked")
    assert asked.details()["answered_model"] == expected.answered_model


def langchain_chunk(content, usage=None, **about):
    chunk = {"type": "AIMessageChunk", "content": content, "response_metadata": about}
    return {**chunk, "usage_metadata": usage}


def test_the_usage_of_langchains_chunks_is_summed():
    """It is for LangChain's own sum: Anthropic's input comes first, and its output last."""
    start = {
        "input_tokens": 100,
        "output_tokens": 0,
        "input_token_details": {"cache_read": 60},
        "output_token_details": {"reasoning": 1},
    }
    end = {
        "input_tokens": 0,
        "output_tokens": 7,
        "input_token_details": {"cache_read": 0},
        "output_token_details": {"reasoning": 1},
    }
    chunks = [
        langchain_chunk("", start, model_name="claude-next"),
        langchain_chunk("hello"),
        langchain_chunk("", end, stop_reason="end_turn"),
    ]
    expected = Answer("langchain", None, "claude-next", 100, 7, 60, 2)
    assert read_answer(chunks) == expected
    assert read_answer(chunks[:2]).reason == "incomplete"
    last = {**langchain_chunk("", end), "chunk_position": "last"}
    assert read_answer([*chunks[:2], last]) == expected
    odd = {**end, "output_tokens": None}
    assert read_answer([*chunks, langchain_chunk("", odd)]).reason == "unknown tokens"


def test_what_wraps_an_answer_is_looked_into():
    """LangChain's message as a dict and its generation, Mistral's event, and a gateway's."""
    for wrapped in (
        {"type": "ai", "data": LANGCHAIN},
        {"text": "hello", "message": LANGCHAIN},
    ):
        assert read_answer(wrapped) == replace(READ_CHAT, api="langchain")
    assert read_answer([{"data": event} for event in CHUNKS]) == READ_CHAT
    assert read_answer([{"type": "chunk", "chunk": event} for event in CHUNKS]) == READ_CHAT


def test_times_that_langchain_passes_on_are_read():
    about = {"model": "llama3.2", **without(OLLAMA, "model", "message")}
    usage = {"input_tokens": 11, "output_tokens": 18, "total_tokens": 29}
    found = read_answer({**LANGCHAIN, "usage_metadata": usage, "response_metadata": about})
    assert found == replace(READ_OLLAMA, api="langchain")
    about = {"model_name": "llama-3.3-70b", "token_usage": GROQ_USAGE, "finish_reason": "stop"}
    found = read_answer({**LANGCHAIN, "usage_metadata": None, "response_metadata": about})
    assert found == replace(READ_GROQ, api="langchain")


def test_a_response_of_pydantic_ai_is_read():
    """It fills in zeros for what the provider does not tell."""
    usage = {"input_tokens": 90, "output_tokens": 20, "cache_read_tokens": 64, "details": {}}
    response = {
        "kind": "response",
        "model_name": "gpt-4o-mini-2024-07-18",
        "parts": [{"content": "hello"}],
        "usage": {**usage, "details": {"reasoning_tokens": 12}},
        "state": "complete",
    }
    for holder in (response, objects(response)):
        assert read_answer(holder) == replace(READ_CHAT, api="pydantic-ai")
    bare = {**response, "usage": {**usage, "cache_read_tokens": 0}}
    assert read_answer(bare).cached_tokens is None
    zeros = {**response, "usage": {"input_tokens": 0, "output_tokens": 0}}
    assert read_answer(zeros).reason == "unknown tokens"
    assert read_answer({**response, "state": "incomplete"}).reason == "incomplete"


OBJECTS = [name for name in WHOLE if name != "langchain"]


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_read_by_its_attributes(name):
    answer, expected = WHOLE[name]
    assert read_answer(objects(answer)) == expected


# -- streams --------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "expected"), STREAMS.values(), ids=STREAMS)
def test_a_stream_is_read_however_it_is_cut(data, expected):
    """In the middle of a character, of an event, and between a CR and its LF."""
    with_cr = data.replace(b"\n", b"\r\n")
    for size in (1, 2, 3, 61, len(data)):
        assert fed(data, size) == expected
        assert fed(with_cr, size) == expected
    assert read_answer(data) == read_answer(data.decode()) == expected
    assert read_answer(b"\xef\xbb\xbf" + data) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (CHUNKS, READ_CHAT),
        (response_events(), READ_RESPONSE),
        (message_events(), READ_MESSAGE),
        (OLLAMA_CHUNKS, READ_OLLAMA),
        (GROQ_CHUNKS, READ_GROQ),
        (GEMINI_CHUNKS, READ_GEMINI),
    ],
)
def test_the_events_of_a_stream_are_read_one_by_one(events, expected):
    for kind in (lambda e: e, json.dumps, lambda e: sse(e).decode(), objects):
        reader = AnswerReader()
        for event in events:
            reader.add(kind(event))
        assert reader.is_complete
        assert reader.result() == expected
        assert read_answer([kind(event) for event in events]) == expected
        assert read_answer(tuple(kind(event) for event in events)) == expected


def test_an_event_of_a_kind_that_nobody_knows_is_passed_over():
    for odd in ({"unheard": "of"}, {"data": []}, {"message": "hello"}, {"type": "new.kind"}, 7, []):
        assert read_answer([*CHUNKS[:2], odd, *CHUNKS[2:]]) == READ_CHAT
        assert read_answer(sse(*CHUNKS[:1], odd, *CHUNKS[1:])) == READ_CHAT


def test_comments_ids_and_data_of_several_lines_are_part_of_a_stream():
    data = b": OPENROUTER PROCESSING\n\nid: 1\nretry: 10\n"
    data += b"".join(sse(event).replace(b': {"', b': \ndata:{"', 1) for event in CHUNKS)
    assert read_answer(data) == READ_CHAT


def test_a_stream_says_itself_when_it_is_complete():
    cut = {
        "chat": sse(*CHUNKS[:3]),
        "responses": sse(*response_events()[:-1]),
        "anthropic": sse(*message_events()[:-2]),
        "ollama": ndjson(*OLLAMA_CHUNKS[:-1]),
        "gemini": sse(*GEMINI_CHUNKS[:-1]),
        "llama.cpp": sse({"content": "hel", "stop": False}),
    }
    for data in cut.values():
        reader = AnswerReader("m")
        reader.feed(data)
        assert not reader.is_complete
        assert reader.result().reason == "incomplete"
    for data in (sse(*CHUNKS[:4]), sse(*CHUNKS[:3], "[DONE]")):
        reader = AnswerReader("m")
        reader.feed(data)
        assert reader.is_complete
        assert reader.result().reason == "unknown tokens"


def test_a_name_that_commands_terminals_is_no_name_of_an_answer():
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    answer = {"model": "m\x1b[2J", "choices": [{"finish_reason": "stop"}], "usage": usage}
    assert read_answer(answer, asked_model="m").answered_model is None
    assert read_answer(answer).reason == "unknown model"


def test_what_is_read_tells_whether_the_answer_came_to_its_end():
    whole = {"model": "m", "choices": [{"finish_reason": "stop"}], "usage": None}
    counted = {**whole, "usage": {"prompt_tokens": 11, "completion_tokens": 7}}
    cut = 'data: {"model": "m", "choices": [{"delta": {"content": "a"}}]}\n\n'
    found = [read_answer(answer) for answer in (counted, whole, cut)]
    assert [one.is_complete for one in found] == [True, True, False]
    assert [getattr(one, "reason", None) for one in found] == [None, "unknown tokens", "incomplete"]


def test_an_answer_that_was_cut_is_incomplete_and_one_that_is_no_json_unreadable():
    text = json.dumps(CHAT)
    for cut in (text[:200], json.dumps(CHAT, indent=2)[:200], "", b""):
        assert read_answer(cut).reason == "incomplete"
    for garbage in ("<html>upstream hiccup", "{'a': 1}", "hello", '"hello"', "[1, 2]", "12"):
        assert read_answer(garbage).reason == "unreadable"


CONTENT = {
    "chat": [CHUNKS[0], CHUNKS[1]],
    "reasoning": [CHUNKS[0], chunk({"reasoning_content": "let me"})],
    "tool call": [CHUNKS[0], chunk({"tool_calls": [{"index": 0, "id": "a"}]})],
    "completions": [{"choices": [{"text": ""}]}, {"choices": [{"text": "a"}]}],
    "responses": response_events()[:3],
    "anthropic": message_events()[:4],
    "anthropic tool": [
        *message_events()[:3],
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": ""}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}},
    ],
    "ollama": [ollama_chunk(""), ollama_chunk("a")],
    "ollama thinking": [
        ollama_chunk(""),
        {**ollama_chunk(""), "message": {"content": "", "thinking": "hm"}},
    ],
    "ollama generate": [
        {"model": "m", "response": "", "done": False},
        {"model": "m", "response": "a", "done": False},
    ],
    "llama.cpp": [{"content": "", "stop": False}, {"content": "a", "stop": False}],
    "gemini": [gemini_chunk(""), gemini_chunk("a")],
}


@pytest.mark.parametrize("events", CONTENT.values(), ids=CONTENT)
def test_the_first_token_is_told_from_roles_and_empty_texts(events):
    for size in (None, 1):
        reader = AnswerReader()
        for event in events:
            assert not reader.has_content
            data = ndjson(event) if "done" in event else sse(event)
            if size is None:
                reader.feed(data)
            else:
                for start in range(len(data)):
                    reader.feed(data[start : start + 1])
        assert reader.has_content


def test_events_of_text_alone_are_not_parsed(monkeypatch):
    """What they cost is a search for a few names."""
    parsed = []
    monkeypatch.setattr(
        "calibration_ledger.core.answers.reader.json",
        SimpleNamespace(loads=lambda data: parsed.append(data) or json.loads(data)),
    )
    for events, more, end in (
        (CHUNKS[:2], sse(CHUNKS[2]), sse(*CHUNKS[3:])),
        (response_events()[:3], sse(response_events()[3]), sse(response_events()[4])),
        (message_events()[:4], sse(message_events()[4]), sse(*message_events()[5:])),
        (OLLAMA_CHUNKS[:1], None, ndjson(OLLAMA_CHUNKS[2])),
    ):
        reader = AnswerReader()
        is_lines = more is None
        reader.feed(ndjson(*events) if is_lines else sse(*events))
        parsed.clear()
        for _ in range(100):
            reader.feed(more or ndjson(OLLAMA_CHUNKS[1]))
        assert parsed == []
        reader.feed(end)
        assert isinstance(reader.result(), Answer)


# -- what cannot be learnt from -------------------------------------------------------------

ERROR = {"error": {"message": "the server is overloaded", "type": "server_error", "code": None}}
FAILED = {
    "openai": ERROR,
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
    "ollama": {"error": "model not found"},
    "vllm": {"object": "error", "message": "no such model", "code": 404},
    "gemini": {"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}},
    "mistral": {"message": "Unauthorized", "request_id": "1"},
    "fastapi": {"detail": [{"loc": ["body"], "msg": "missing"}]},
    "responses": {**RESPONSE, "status": "failed", "error": {"code": "server_error"}},
    "openrouter": {**CHAT, "choices": [{**CHAT["choices"][0], "error": {"code": 502}}]},
}


@pytest.mark.parametrize("error", FAILED.values(), ids=FAILED)
def test_an_error_body_is_a_failure(error):
    for holder in (error, json.dumps(error), [error], objects(error)):
        assert read_answer(holder, asked_model="m").reason == "failed"


@pytest.mark.parametrize(
    "data",
    [
        sse(*CHUNKS[:3], ERROR),
        sse(*CHUNKS[:3]) + b"event: error\ndata: upstream went away\n\n",
        sse(*CHUNKS[:3]) + b"error: " + json.dumps(ERROR).encode() + b"\n\n",
        sse(*CHUNKS[:3]) + json.dumps(ERROR).encode(),
        sse(*CHUNKS[:3], {**chunk({}, "error"), **ERROR}),
        sse(*message_events()[:5], FAILED["anthropic"]),
        sse(*response_events()[:4], {"type": "error", "code": "server_error", "message": "x"}),
        sse(*response_events("failed", error={"code": "server_error"})),
        ndjson(*OLLAMA_CHUNKS[:2], {"error": "the runner stopped"}),
        sse(*GEMINI_CHUNKS[:2], FAILED["gemini"]),
    ],
)
def test_an_error_inside_a_stream_is_a_failure(data):
    for size in (1, len(data)):
        assert fed(data, size).reason == "failed"


UNKNOWN_TOKENS = {
    "no usage": without(CHAT, "usage"),
    "usage of None": {**CHAT, "usage": None},
    "zeros": {**CHAT, "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}},
    "a prompt of 0": {**CHAT, "usage": {**PLAIN, "prompt_tokens": 0}},
    "no prompt": {**CHAT, "usage": {"completion_tokens": 20}},
    "no completion": {**CHAT, "usage": {"prompt_tokens": 90, "total_tokens": 90}},
    "a boolean": {**CHAT, "usage": {"prompt_tokens": True, "completion_tokens": 20}},
    "a text": {**CHAT, "usage": {"prompt_tokens": "90", "completion_tokens": 20}},
    "not a number": {**CHAT, "usage": {**PLAIN, "completion_tokens": float("nan")}},
    "infinite": {**CHAT, "usage": {**PLAIN, "prompt_tokens": float("inf")}},
    "negative": {**CHAT, "usage": {**PLAIN, "completion_tokens": -1}},
    "huge": {**CHAT, "usage": {**PLAIN, "prompt_tokens": 2**31}},
    "a list": {**CHAT, "usage": [90, 20]},
    "anthropic, a cache of NaN": {
        **MESSAGE,
        "usage": {**MESSAGE["usage"], "cache_read_input_tokens": float("nan")},
    },
    "anthropic, half": {**MESSAGE, "usage": {"output_tokens": 7}},
    "ollama, prompt from a cache": without(OLLAMA, "prompt_eval_count"),
    "ollama, no eval_count": without(OLLAMA, "eval_count"),
    "ollama look-alike": {
        **OLLAMA,
        "total_duration": 0,
        "prompt_eval_count": 0,
        "eval_count": 0,
    },
    "ollama look-alike, half": {**OLLAMA, "total_duration": 0, "eval_count": 0},
    "gemini, blocked": {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9},
    },
    "gemini, negative thoughts": {
        **GEMINI,
        "usageMetadata": {**GEMINI["usageMetadata"], "thoughtsTokenCount": -1},
    },
    "llama.cpp, no counts": {"content": "a", "stop": True},
    "langchain, no usage": {**LANGCHAIN, "usage_metadata": None},
}


@pytest.mark.parametrize("answer", UNKNOWN_TOKENS.values(), ids=UNKNOWN_TOKENS)
def test_tokens_that_are_not_said_are_unknown_and_never_0(answer):
    assert read_answer(answer, asked_model="m").reason == "unknown tokens"


def test_a_stream_of_anthropic_without_counts_at_its_end_does_not_take_those_of_its_start():
    data = sse(*message_events(end_usage={}))
    assert read_answer(data).reason == "unknown tokens"


OTHERS = {
    "embeddings": {"object": "list", "data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
    "ollama embed": {"model": "m", "embeddings": [[0.1]], "prompt_eval_count": 5},
    "ollama load": {**without(OLLAMA, "prompt_eval_count"), "done_reason": "load"},
    "gemini embedding": {"embedding": {"values": [0.1]}},
    "count_tokens": {"input_tokens": 12},
    "countTokens": {"totalTokens": 31},
    "models": {"models": [{"name": "m"}]},
    "moderation": {"id": "modr-1", "model": "m", "results": [{"flagged": False}]},
    "picture": {"created": 1, "data": [{"url": "x"}]},
    "batch": {"id": "b", "object": "batch"},
}


@pytest.mark.parametrize("answer", OTHERS.values(), ids=OTHERS)
def test_what_is_no_completion_is_told_from_what_is_unreadable(answer):
    assert read_answer(answer, asked_model="m").reason == "not a completion"
    assert read_answer({"unheard": "of"}).reason == "unreadable"


def test_answers_that_wait_or_were_stopped_are_told():
    assert read_answer({**RESPONSE, "status": "queued"}).reason == "incomplete"
    assert read_answer({**RESPONSE, "status": "cancelled"}).reason == "cancelled"
    assert read_answer({**MESSAGE, "stop_reason": None}).reason == "incomplete"
    cached = {**LANGCHAIN, "usage_metadata": {**LANGCHAIN["usage_metadata"], "total_cost": 0}}
    assert read_answer(cached).reason == "cached"


def test_an_event_of_more_than_1_mib_is_too_long():
    for data in (
        sse(chunk({"content": "a" * EVENT_BYTES_MAX}), "[DONE]"),
        ndjson({**OLLAMA, "response": "a" * EVENT_BYTES_MAX}),
        json.dumps({**CHAT, "id": "a" * EVENT_BYTES_MAX}).encode(),
        json.dumps({**CHAT, "id": "a" * EVENT_BYTES_MAX}, indent=1).encode(),
    ):
        for size in (65_536, len(data)):
            assert fed(data, size).reason == "too long"
    reader = AnswerReader()
    for _ in range(40):
        reader.feed(b"a" * 65_536)
    for _ in range(40):
        reader.feed(b"data:\n" * 65_536)
    assert len(reader._rest) + len(reader._data) <= EVENT_BYTES_MAX


def test_a_long_stream_of_short_events_is_not_too_long():
    many = sse(CHUNKS[1]) * (2 * EVENT_BYTES_MAX // len(sse(CHUNKS[1])))
    data = sse(CHUNKS[0]) + many + sse(*CHUNKS[3:], "[DONE]")
    assert fed(data, 65_536) == READ_CHAT


# -- names of models ------------------------------------------------------------------------


def test_a_model_is_unknown_where_nobody_names_a_valid_one():
    for name in (None, "", 7, "a\0b", "\ud800", "a" * 513):
        assert read_answer({**CHAT, "model": name}).reason == "unknown model"
        found = read_answer({**CHAT, "model": name}, asked_model="m")
        assert (found.asked_model, found.answered_model) == ("m", None)
        assert "answered_model" not in found.details()


def test_azure_names_no_model_in_its_first_event():
    first = {"choices": [], "model": "", "object": "", "prompt_filter_results": []}
    assert read_answer(sse(first, *CHUNKS)) == READ_CHAT


# -- the call -------------------------------------------------------------------------------


def test_a_call_is_made_of_an_answer():
    call = from_answer(CHAT, 480.5, model="gpt-4o-mini", request_id="r", details={"ttft_ms": 80.0})
    assert (call.model, call.prompt_tokens, call.completion_tokens) == ("gpt-4o-mini", 90, 20)
    assert (call.actual_ms, call.request_id, call.called_at) == (480.5, "r", None)
    assert call.details == {
        "answered_model": "gpt-4o-mini-2024-07-18",
        "cached_tokens": 64,
        "reasoning_tokens": 12,
        "ttft_ms": 80.0,
    }
    assert from_answer({**CHAT, "usage": PLAIN}, 480.5).details is None
    own = from_answer(CHAT, 1.0, details={"cached_tokens": 3})
    assert (own.model, own.details["cached_tokens"]) == ("gpt-4o-mini-2024-07-18", 3)


def test_the_name_that_is_passed_wins_over_the_one_asked_for_and_that_over_the_answered():
    answer = read_answer(CHAT, asked_model="asked")
    assert call_of(answer, 1.0).model == "asked"
    assert call_of(answer, 1.0, model="passed").model == "passed"
    same = call_of(answer, 1.0, model="gpt-4o-mini-2024-07-18")
    assert "answered_model" not in same.details
    assert call_of(replace(answer, asked_model=None), 1.0).model == "gpt-4o-mini-2024-07-18"
    with pytest.raises(UnlearnableAnswerError) as caught:
        call_of(replace(answer, asked_model=None, answered_model=None), 1.0)
    assert caught.value.reason == "unknown model"


def test_an_answer_that_cannot_be_learnt_from_is_refused_with_its_reason():
    with pytest.raises(UnlearnableAnswerError, match="does not say how many tokens") as caught:
        from_answer({**CHAT, "usage": None}, 480.5)
    assert caught.value.reason == "unknown tokens"
    for answer, reason in (
        (ERROR, "failed"),
        (None, "unreadable"),
        (OTHERS["models"], "not a completion"),
    ):
        with pytest.raises(UnlearnableAnswerError, match="Nothing was recorded") as caught:
            from_answer(answer, 480.5, model="m")
        assert caught.value.reason == reason


def test_a_duration_a_name_or_details_that_are_none_are_refused():
    for elapsed in (-1.0, float("nan"), "12", None, True):
        with pytest.raises(InvalidInputError, match="elapsed_ms"):
            from_answer(CHAT, elapsed)
    for model in ("", 7):
        with pytest.raises(InvalidInputError, match="model"):
            from_answer(CHAT, 1.0, model=model)
    for details in (5, "ttft_ms", {"ttft_ms": float("nan")}):
        with pytest.raises(InvalidInputError, match="details must be"):
            from_answer(CHAT, 1.0, details=details)


def test_no_text_of_a_prompt_or_an_answer_is_kept():
    written = "héllo"
    reader = AnswerReader()
    for event in CHUNKS:
        reader.feed(sse(event))
    assert written[:2] not in repr((reader._seen, reader.result()))


# -- never an exception ---------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KNOWN = sorted(
    {"type", "object", "choices", "usage", "error", "model", "done", "stop", "delta", "message"}
    | {"response", "data", "candidates", "usageMetadata", "usage_metadata", "response_metadata"}
    | {"prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"}
    | {"timings", "x_groq", "metrics", "time_info", "status", "kind", "finish_reason", "content"}
)
WORDS = st.sampled_from(["message", "message_start", "response.completed", "response", "error"])
VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=6)
    ),
    max_leaves=12,
)


@settings(max_examples=settings.default.max_examples)
@given(VALUES)
def test_whatever_it_is_given_it_answers_with_a_value(value):
    for holder in (value, json.dumps(value), [value, CHAT], objects(value)):
        assert isinstance(read_answer(holder, asked_model=value), Answer | Unlearnable)


def changed(rng, value):
    """The same, with one or more parts of it replaced."""
    if rng.random() < 0.08:
        return rng.choice([None, True, -1, 2**70, 1e400, float("nan"), "", "x", [], {}, 0, 12.5])
    if isinstance(value, dict):
        return {k: changed(rng, v) for k, v in value.items() if rng.random() > 0.03}
    return [changed(rng, one) for one in value] if isinstance(value, list) else value


def test_real_answers_with_parts_replaced_give_numbers_that_can_be_learnt_or_a_reason():
    rng = random.Random(11)
    answers = [answer for answer, _ in WHOLE.values()]
    read = 0
    for _ in range(1500):
        found = read_answer(changed(rng, rng.choice(answers)), asked_model="m")
        if isinstance(found, Answer):
            read += 1
            assert 1 <= found.prompt_tokens < 2**31
            assert 0 <= found.completion_tokens < 2**31
            call_of(found, 1.0)
            json.dumps(found.details(), allow_nan=False)
    assert 200 < read < 1400


@settings(max_examples=5 * settings.default.max_examples)
@given(st.binary(max_size=60), st.integers(1, 9), st.sampled_from(sorted(STREAMS)), st.data())
def test_bytes_of_any_kind_within_a_stream_never_raise(junk, size, name, data):
    stream = STREAMS[name][0]
    at = data.draw(st.integers(0, len(stream)))
    assert isinstance(fed(stream[:at] + junk + stream[at:], size * 7), Answer | Unlearnable)


class Hostile:
    """Whose every attribute fails."""

    def __getattr__(self, name):
        raise RuntimeError(name)


@dataclass
class Deep:
    """Which holds itself."""

    response: object = None
    data: object = None


def test_objects_that_fail_or_hold_themselves_are_unreadable():
    deep = Deep()
    deep.response = deep.data = deep
    nested = []
    for _ in range(5_000):
        nested = [nested]
    odd = (Hostile(), deep, nested, object(), 12, float("nan"), {1: 2}, {"choices": Hostile()})
    hostile = {**PLAIN, "prompt_tokens_details": Hostile()}
    assert read_answer({**CHAT, "usage": hostile}).reason == "unreadable"
    for part in ("usage", "error", "timings", "metrics", "model", "object"):
        assert isinstance(read_answer({**CHAT, part: Hostile()}), Answer | Unlearnable)
    for value in (*odd, b"[" * 100_000, "9" * 10_000):
        assert read_answer(value).reason in ("unreadable", "incomplete")
    reader = AnswerReader()
    reader.feed(None)
    assert reader.result().reason == "unreadable"


# -- requests -------------------------------------------------------------------------------

MODEL = {"model": "m", "messages": []}
REQUESTS = {
    "/v1/chat/completions": ("openai.chat", "m", False),
    "/chat/completions": ("openai.chat", "m", False),
    "/openai/v1/chat/completions": ("openai.chat", "m", False),
    "/api/v1/chat/completions": ("openai.chat", "m", False),
    "/v1beta/openai/chat/completions": ("openai.chat", "m", False),
    "/v1/chat/completions/": ("openai.chat", "m", False),
    "/openai/deployments/mine/chat/completions?api-version=2024-10-21": ("openai.chat", "m", False),
    "https://host.example/v1/chat/completions": ("openai.chat", "m", False),
    "/v1/completions": ("openai.completions", "m", False),
    "/openai/deployments/mine/completions": ("openai.completions", "m", False),
    "/v1/fim/completions": ("openai.completions", "m", False),
    "/v1/responses": ("openai.responses", "m", False),
    "/openai/responses?api-version=preview": ("openai.responses", "m", False),
    "/v1/messages": ("anthropic", "m", False),
    "/anthropic/v1/messages?beta=true": ("anthropic", "m", False),
    "/api/chat": ("ollama", "m", True),
    "/ollama/api/generate": ("ollama", "m", True),
    "/completion": ("llama.cpp", "m", False),
    "/v1beta/models/gemini-2.5-flash:generateContent": ("gemini", "gemini-2.5-flash", False),
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse": (
        "gemini",
        "gemini-2.5-flash",
        True,
    ),
    "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent": (
        "gemini",
        "gemini-2.5-pro",
        False,
    ),
    "/v1internal:streamGenerateContent?alt=sse": ("gemini", "m", True),
    "/v1/projects/p/locations/l/publishers/anthropic/models/claude-4%4020250514:streamRawPredict": (
        "anthropic",
        "m",
        True,
    ),
}


@pytest.mark.parametrize("path", REQUESTS)
def test_a_request_for_a_completion_is_known_by_its_path(path):
    for body in (MODEL, json.dumps(MODEL).encode()):
        assert read_request(path, body) == Request(*REQUESTS[path])


def test_a_request_says_itself_whether_it_wants_a_stream():
    assert read_request("/v1/chat/completions", {**MODEL, "stream": True}).is_stream
    assert read_request("/api/chat", {**MODEL, "stream": False}).is_stream is False
    assert read_request("/v1/chat/completions", b"\x1f\x8b").is_stream is None


def test_a_model_that_the_body_does_not_name_is_that_of_the_path():
    deployment = "/openai/deployments/my%20own/chat/completions"
    assert read_request(deployment, {"messages": []}).asked_model == "my own"
    vertex = "/v1/publishers/anthropic/models/claude-4%4020250514:rawPredict"
    assert read_request(vertex, {"messages": []}) == Request(
        "anthropic", "claude-4@20250514", False
    )
    assert read_request("/v1/engines/davinci/completions", {}).asked_model == "davinci"
    tuned = "/v1beta/tunedModels/mine-1:generateContent"
    assert read_request(tuned, {}).asked_model == "tunedModels/mine-1"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/m",
        "/v1/moderations",
        "/v1/files",
        "/v1/batches",
        "/v1/messages/count_tokens",
        "/v1/messages/batches",
        "/v1/chat/completions/chatcmpl-1",
        "/v1/responses/resp_1",
        "/v1/responses/input_tokens",
        "/v1/threads/thread_1/messages",
        "/v1/images/generations",
        "/v1/audio/transcriptions",
        "/v1beta/models/m:countTokens",
        "/v1beta/models/m:embedContent",
        "/v1beta/models/m:batchGenerateContent",
        "/v1/projects/p/locations/l/publishers/google/models/m:predict",
        "/api/embed",
        "/api/tags",
        "/api/pull",
        "/surveys/7/responses",
        "/channels/7/messages",
        "/search/completions",
        "/",
        "",
    ],
)
def test_other_requests_are_not_looked_at(path):
    assert read_request(path, MODEL) is None


def test_an_api_chat_of_the_program_itself_is_none_of_ollamas():
    assert read_request("/api/chat", {"messages": []}) is None
    assert read_request("/api/chat", b"no json") is not None


@settings(max_examples=settings.default.max_examples)
@given(
    st.sampled_from([*REQUESTS, "x", "/\ud800:generateContent"]), st.binary(max_size=20) | VALUES
)
def test_a_request_is_read_without_an_exception_whatever_its_body_holds(path, body):
    assert isinstance(read_request(path, body), Request | None)


# -- samples of real tools ------------------------------------------------------------------


def sample(name):
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"needs the sample {name} in ../shared/samples")
    return path.read_text()


def test_real_answers_of_groq_are_read():
    whole = read_answer(sample("groq_chat_completion_real.json"))
    assert (whole.prompt_tokens, whole.completion_tokens) == (41, 27)
    assert (whole.queue_ms, whole.server_ms) == (265.612444, pytest.approx(333.576942))
    last = read_answer(sample("groq_stream_final_chunk_real.json"))
    assert (last.prompt_tokens, last.completion_tokens) == (18, 439)
    assert last.server_ms == pytest.approx(859.742058)


def test_real_answers_of_ollama_and_llama_cpp_are_read():
    lines = sample("ollama_generate_final_docs.json").splitlines()
    read = [read_answer(line) for line in lines]
    assert [(one.prompt_tokens, one.completion_tokens) for one in read] == [(26, 259), (11, 18)]
    assert read[0].server_ms == 10706.818083
    assert read[0].load_ms == 6338.219291
    found = read_answer(sample("llamacpp_timings_readme.json"), asked_model="m")  # the last event
    assert (found.prompt_tokens, found.completion_tokens) == (236 + 1, 35)
    assert (found.cached_tokens, found.server_ms) == (236, 692.022)
