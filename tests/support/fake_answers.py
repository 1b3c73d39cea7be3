"""What each provider's API says, in its own words: whole answers, streams and errors.

`fake_provider.py` beside it decides when, and sends. One class an API; all know the same numbers.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import ClassVar

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
"""What an error of a status is called."""


def sse(data, event=None):
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


def line(data):
    return json.dumps(data).encode() + b"\n"


def _zeroed(usage):
    if isinstance(usage, dict):
        return {key: _zeroed(value) for key, value in usage.items()}
    return 0 if isinstance(usage, int | float) else usage


class Answer:
    """The numbers and the words of one answer. Its times are what the server measured."""

    def __init__(self, behaviour, model, request_id, prompt, completion, house):
        self.behaviour, self.id, self.house = behaviour, request_id, house
        self.model = behaviour.answered_model or model or "default"
        self.prompt, self.completion = prompt, completion
        self.start = time.perf_counter()
        self.created = int(time.time())
        self.load_ms = self.prompt_ms = self.completion_ms = self.total_ms = 0.0
        self._began = self.start
        shown = max(completion - behaviour.reasoning_tokens, 1)
        self.text = [f"word{i} " for i in range(min(max(behaviour.chunks, 1), shown))]

    @property
    def content(self):
        return "".join(self.text)

    def elapsed_ms(self):
        return (time.perf_counter() - self.start) * 1e3

    def loaded(self):
        """Say that the model is there."""
        self.load_ms = self.elapsed_ms() if self.behaviour.load_ms else 0.0

    def begun(self):
        """Say that the wait in the queue is over."""
        self._began = time.perf_counter()

    def first(self):
        """Say that the prompt has been read."""
        self.prompt_ms = (time.perf_counter() - self._began) * 1e3

    def done(self):
        """Say that the last token is there."""
        self.total_ms = self.elapsed_ms()
        self.completion_ms = (time.perf_counter() - self._began) * 1e3 - self.prompt_ms

    def usage(self, usage):
        """`{"usage": …}` as the behaviour wants it; `{}` where it is to be left out."""
        wanted = self.behaviour.usage
        if wanted == "omit":
            return {}
        if wanted == "null":
            return {"usage": None}
        return {"usage": _zeroed(usage) if wanted == "zero" else usage}


class Api:
    """How one API words its answers. A stream is pairs of a kind and bytes.

    Of the kinds, "content" is what a reader sees, and what the pace is kept for.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, answer, body):
        self.answer, self.body = answer, body

    def error(self, status):
        kind = KINDS.get(status, "api_error")
        return {"error": {"message": f"fake failure {status}", "type": kind, "code": None}}

    def error_event(self, message):
        return sse({"error": {"message": message, "type": "server_error", "code": None}})


class _OpenAi(Api):
    def _head(self, kind, prefix):
        a = self.answer
        return {
            "id": f"{prefix}-{a.id[:24]}",
            "object": kind,
            "created": a.created,
            "model": a.model,
            "system_fingerprint": "fp_fake",
            "service_tier": "default",
        }

    def _usage(self):
        a = self.answer
        if a.house == "groq":
            return self._groq_usage()
        cached = a.behaviour.cached_tokens
        usage = {
            "prompt_tokens": a.prompt,
            "completion_tokens": a.completion,
            "total_tokens": a.prompt + a.completion,
            "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": a.behaviour.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }
        if a.house == "openrouter":
            usage["cost"] = 0.0
        if a.house == "deepseek":
            usage["prompt_cache_hit_tokens"] = cached
            usage["prompt_cache_miss_tokens"] = a.prompt - cached
        return usage

    def _groq_usage(self):
        a = self.answer
        return {
            "queue_time": a.behaviour.queue_ms / 1e3,
            "prompt_tokens": a.prompt,
            "prompt_time": a.prompt_ms / 1e3,
            "completion_tokens": a.completion,
            "completion_time": a.completion_ms / 1e3,
            "total_tokens": a.prompt + a.completion,
            "total_time": (a.prompt_ms + a.completion_ms) / 1e3,
        }

    def _extras(self, *, is_stream):
        """What a house adds to OpenAI's shape."""
        a = self.answer
        if a.house == "groq":
            x_groq = {"id": f"req_{a.id[:20]}"}
            if is_stream and a.behaviour.usage != "omit":
                x_groq["usage"] = self._groq_usage()
            return {"x_groq": x_groq}
        return {
            "llamacpp": {"timings": timings(a)},
            "cerebras": {
                "time_info": {
                    "queue_time": a.behaviour.queue_ms / 1e3,
                    "prompt_time": a.prompt_ms / 1e3,
                    "completion_time": a.completion_ms / 1e3,
                    "total_time": a.total_ms / 1e3,
                    "created": a.created,
                }
            },
            "vllm": {
                "metrics": {
                    "time_to_first_token_ms": a.prompt_ms,
                    "generation_time_ms": a.completion_ms,
                    "queue_time_ms": a.behaviour.queue_ms,
                    "mean_itl_ms": a.completion_ms / max(a.completion - 1, 1),
                    "tokens_per_second": None,
                }
            },
            "openrouter": {"provider": "Fake"},
        }.get(a.house, {})


class Completions(_OpenAi):
    """The older API, whose choices have a text."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def _choice(self, finish, text):
        return {"index": 0, "finish_reason": finish, "logprobs": None, "text": text}

    def _opening(self):
        return None

    def _delta(self, finish, text):
        return self._choice(finish, text)

    def whole(self):
        a = self.answer
        return {
            **self._head(self.kind, self.prefix),
            "choices": [self._choice("stop", a.content)],
            **a.usage(self._usage()),
            **self._extras(is_stream=False),
        }

    def stream(self):
        a = self.answer
        options = self.body.get("stream_options") or {}
        asks_usage = bool(options.get("include_usage")) and a.behaviour.usage != "omit"
        head = self._head(self.chunk_kind, self.prefix)
        if asks_usage and a.house == "openai":
            head = {**head, "usage": None}

        def chunk(choice, **more):
            return sse({**head, "choices": [choice], **more})

        opening = self._opening()
        if opening is not None:
            groq = {"x_groq": {"id": f"req_{a.id[:20]}"}} if a.house == "groq" else {}
            yield "head", chunk(opening, **groq)
        for text in a.text:
            yield "content", chunk(self._delta(None, text))
        a.done()
        extras = self._extras(is_stream=True)
        house_gives = a.house == "openrouter" and a.behaviour.usage != "omit"
        has_usage = asks_usage or a.behaviour.usage == "always" or house_gives
        # Groq puts its extras on the chunk that finishes, llama.cpp on the last, whichever it is.
        at_finish = a.house == "groq" or not has_usage
        yield "end", chunk(self._delta("stop", ""), **(extras if at_finish else {}))
        if has_usage:
            usage = a.usage(self._usage())
            yield "end", sse({**head, "choices": [], **usage, **({} if at_finish else extras)})
        yield "end", sse("[DONE]")


class Chat(Completions):
    """Chat completions, whose choices have a message, and in streams a delta."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def _choice(self, finish, text):
        message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        return {"index": 0, "finish_reason": finish, "logprobs": None, "message": message}

    def _opening(self):
        delta = {"role": "assistant", "content": ""}
        return {"index": 0, "finish_reason": None, "logprobs": None, "delta": delta}

    def _delta(self, finish, text):
        delta = {} if finish else {"content": text}
        return {"index": 0, "finish_reason": finish, "logprobs": None, "delta": delta}


class Embeddings(_OpenAi):
    def whole(self):
        a = self.answer
        vector = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}
        usage = a.usage({"prompt_tokens": a.prompt, "total_tokens": a.prompt})
        return {"object": "list", "data": [vector], "model": a.model, **usage}

    def stream(self):
        yield "end", sse(self.whole())


class Responses(Api):
    def error_event(self, message):
        event = {"type": "error", "code": "server_error", "message": message, "param": None}
        return sse({**event, "sequence_number": 99}, "error")

    def whole(self):
        return self._response("completed")

    def stream(self):
        a = self.answer
        item_id = f"msg_{a.id[:20]}"
        at = {"item_id": item_id, "output_index": 0, "content_index": 0}
        empty, item = self._response("in_progress"), self._item("in_progress", [])
        part = {"type": "output_text", "text": "", "annotations": []}
        events = [
            ("head", "response.created", {"response": empty}),
            ("head", "response.in_progress", {"response": empty}),
            ("head", "response.output_item.added", {"output_index": 0, "item": item}),
            ("head", "response.content_part.added", {**at, "part": part}),
            *(
                ("content", "response.output_text.delta", {**at, "delta": text, "logprobs": []})
                for text in a.text
            ),
        ]
        number = 0
        for number, (kind, name, fields) in enumerate(events):
            yield kind, self._event(name, number, fields)
        a.done()
        whole = self._response("completed")
        ends = [
            ("response.output_text.done", {**at, "text": a.content, "logprobs": []}),
            ("response.content_part.done", {**at, "part": {**part, "text": a.content}}),
            ("response.output_item.done", {"output_index": 0, "item": whole["output"][0]}),
            ("response.completed", {"response": whole}),
        ]
        for i, (name, fields) in enumerate(ends, number + 1):
            yield "end", self._event(name, i, fields)

    def _event(self, name, number, fields):
        return sse({"type": name, "sequence_number": number, **fields}, name)

    def _item(self, status, content):
        item_id = f"msg_{self.answer.id[:20]}"
        return {
            "id": item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(self, status):
        a = self.answer
        is_done = status == "completed"
        part = {"type": "output_text", "text": a.content, "annotations": [], "logprobs": []}
        usage = {
            "input_tokens": a.prompt,
            "input_tokens_details": {"cached_tokens": a.behaviour.cached_tokens},
            "output_tokens": a.completion,
            "output_tokens_details": {"reasoning_tokens": a.behaviour.reasoning_tokens},
            "total_tokens": a.prompt + a.completion,
        }
        return {
            "id": f"resp_{a.id}",
            "object": "response",
            "created_at": a.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": self.body.get("instructions"),
            "metadata": {},
            "model": a.model,
            "output": [self._item("completed", [part])] if is_done else [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "text": {"format": {"type": "text"}},
            "truncation": "disabled",
            **(a.usage(usage) if is_done else {"usage": None}),
        }


class Anthropic(Api):
    def error(self, status):
        error = {"type": KINDS.get(status, "api_error"), "message": f"fake failure {status}"}
        return {"type": "error", "error": error, "request_id": self.answer.id}

    def error_event(self, message):
        error = {"type": "overloaded_error", "message": message}
        return sse({"type": "error", "error": error}, "error")

    def _usage(self):
        a = self.answer
        cached, written = a.behaviour.cached_tokens, a.behaviour.cache_write_tokens
        return {
            "input_tokens": a.prompt - cached - written,  # without what the cache gave or took
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": cached,
            "output_tokens": a.completion,
        }

    def _message(self, content, stop_reason, **more):
        a = self.answer
        written = {
            "ephemeral_5m_input_tokens": a.behaviour.cache_write_tokens,
            "ephemeral_1h_input_tokens": 0,
        }
        more = {"cache_creation": written, "service_tier": "standard", **more}
        return {
            "id": f"msg_{a.id[:24]}",
            "type": "message",
            "role": "assistant",
            "model": a.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            **a.usage({**self._usage(), **more}),
        }

    def whole(self):
        return self._message([{"type": "text", "text": self.answer.content}], "end_turn")

    def stream(self):
        a = self.answer
        message = self._message([], None, output_tokens=1)
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        yield "head", self._event("message_start", message=message)
        yield "head", self._event("content_block_start", **block)
        yield "head", self._event("ping")
        for text in a.text:
            delta = {"type": "text_delta", "text": text}
            yield "content", self._event("content_block_delta", index=0, delta=delta)
        a.done()
        yield "end", self._event("content_block_stop", index=0)
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        yield "end", self._event("message_delta", delta=delta, **a.usage(self._usage()))
        yield "end", self._event("message_stop")

    def _event(self, name, **fields):
        return sse({"type": name, **fields}, name)


class OllamaChat(Api):
    content_type = "application/x-ndjson"

    def error(self, status):
        return {"error": f"fake failure {status}"}

    def error_event(self, message):
        return line({"error": message})

    def _said(self, text):
        return {"message": {"role": "assistant", "content": text}}

    def _head(self, text):
        now = time.time_ns()
        stamp = datetime.fromtimestamp(now // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        created_at = f"{stamp}.{now % 10**9:09d}Z"
        return {"model": self.answer.model, "created_at": created_at, **self._said(text)}

    def metrics(self):
        a = self.answer
        metrics = {
            "total_duration": round(a.total_ms * 1e6),
            "load_duration": round(a.load_ms * 1e6),
            "prompt_eval_count": a.prompt,
            "prompt_eval_duration": round(a.prompt_ms * 1e6),
            "eval_count": a.completion,
            "eval_duration": round(a.completion_ms * 1e6),
        }
        # Zeros are absent: Go's `omitempty`.
        omitted = a.behaviour.ollama_omit
        return {key: value for key, value in metrics.items() if value and key not in omitted}

    def _last(self, text):
        return {**self._head(text), "done": True, "done_reason": "stop", **self.metrics()}

    def whole(self):
        return self._last(self.answer.content)

    def stream(self):
        for text in self.answer.text:
            yield "content", line({**self._head(text), "done": False})
        self.answer.done()
        yield "end", line(self._last(""))


class OllamaGenerate(OllamaChat):
    def _said(self, text):
        return {"response": text}


class OllamaEmbed(OllamaChat):
    kept: ClassVar = ("total_duration", "load_duration", "prompt_eval_count")

    def whole(self):
        metrics = {key: value for key, value in self.metrics().items() if key in self.kept}
        return {"model": self.answer.model, "embeddings": [[0.1, 0.2]], **metrics}


class Gemini(Api):
    def error(self, status):
        name = {429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
        return {"error": {"code": status, "message": f"fake failure {status}", "status": name}}

    def _chunk(self, text, finish):
        a = self.answer
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        if finish:
            candidate["finishReason"] = finish
        usage = a.usage(self._usage())
        return {
            "candidates": [candidate],
            **({"usageMetadata": usage["usage"]} if usage else {}),
            "modelVersion": a.model,
            "responseId": a.id[:22],
        }

    def _usage(self):
        a = self.answer
        usage = {
            "promptTokenCount": a.prompt,
            "candidatesTokenCount": a.completion - a.behaviour.reasoning_tokens,
            "totalTokenCount": a.prompt + a.completion,
        }
        if a.behaviour.reasoning_tokens:
            usage["thoughtsTokenCount"] = a.behaviour.reasoning_tokens
        if a.behaviour.cached_tokens:
            usage["cachedContentTokenCount"] = a.behaviour.cached_tokens
        return usage

    def whole(self):
        return self._chunk(self.answer.content, "STOP")

    def stream(self):
        *texts, last = self.answer.text
        for text in texts:
            yield "content", sse(self._chunk(text, None))
        self.answer.done()
        yield "content", sse(self._chunk(last, "STOP"))


def timings(a):
    """llama.cpp's own times; `prompt_n` is without what came from the cache."""
    new = a.prompt - a.behaviour.cached_tokens
    return {
        "cache_n": a.behaviour.cached_tokens,
        "prompt_n": new,
        "prompt_ms": a.prompt_ms,
        "prompt_per_token_ms": a.prompt_ms / max(new, 1),
        "prompt_per_second": 1e3 * new / max(a.prompt_ms, 1e-9),
        "predicted_n": a.completion,
        "predicted_ms": a.completion_ms,
        "predicted_per_token_ms": a.completion_ms / max(a.completion, 1),
        "predicted_per_second": 1e3 * a.completion / max(a.completion_ms, 1e-9),
    }


class LlamaCpp(Api):
    def _last(self, text):
        a = self.answer
        return {
            "content": text,
            "model": a.model,
            "stop": True,
            "stop_type": "eos",
            "tokens_cached": a.prompt + a.completion - 1,
            "tokens_evaluated": a.prompt,
            "tokens_predicted": a.completion,
            "timings": timings(a),
        }

    def whole(self):
        return self._last(self.answer.content)

    def stream(self):
        for text in self.answer.text:
            yield "content", sse({"content": text, "stop": False})
        self.answer.done()
        yield "end", sse(self._last(""))


APIS = {
    "chat": Chat,
    "responses": Responses,
    "embeddings": Embeddings,
    "anthropic": Anthropic,
    "completions": Completions,
    "llamacpp": LlamaCpp,
    "ollama_chat": OllamaChat,
    "ollama_generate": OllamaGenerate,
    "ollama_embed": OllamaEmbed,
    "gemini": Gemini,
}
