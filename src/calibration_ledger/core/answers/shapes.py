"""The answers and the events of each API, folded into what is known of one answer.

A whole answer is a stream of one event. An event is told by what it holds, not by where it came
from: many servers answer as OpenAI, Anthropic or Ollama do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import count, first, items, model_name, part
from calibration_ledger.core.answers.usage import (
    NO_COUNTS,
    NO_TIMES,
    Counts,
    Times,
    cerebras_times,
    counts_of,
    groq_times,
    llamacpp_counts,
    llamacpp_times,
    merge,
    ollama_counts,
    ollama_times,
    vllm_times,
)
from calibration_ledger.core.visible import control_in

if TYPE_CHECKING:
    from calibration_ledger.core.answers.values import Reason

WRAPPERS = ("data", "chunk", "response", "message")
"""Where clients and gateways put an answer or an event into one of their own."""

NO_EVENTS = (str, bytes, int, float, list, tuple, type(None))

ANTHROPIC_EVENTS = {
    "message_start",
    "message_delta",
    "message_stop",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
}

NOT_COMPLETIONS = ("list", "embedding", "model", "file", "batch", "response.input_tokens")
OTHER_ANSWERS = (
    "embedding",
    "embeddings",
    "results",
    "models",
    "totalTokens",
    "total_tokens",
    "input_tokens",
)
"""What answers of other APIs of the same providers hold; completions do not."""

SPOKEN = (
    "content",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "tool_calls",
    "tool_call_chunks",
    "function_call",
    "audio",
    "text",
    "partial_json",
    "data",
    "response",
)
"""Where the text of an answer comes in; a role, an index or an empty text is none of it."""


@dataclass(slots=True)
class Seen:
    """What the events so far have told of one answer.

    Attributes:
        api: how it is worded; None before an event was understood.
        model: the model that it names.
        usage: the usage blocks, merged.
        counts: what else counts tokens.
        times: the provider's own times.
        reason: why it cannot be learnt from, as far as an event says so.
        has_content: whether the first token has come.
        is_complete: whether the provider said that it ended.
    """

    api: str | None = None
    model: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    counts: Counts = NO_COUNTS
    times: Times = NO_TIMES
    reason: Reason | None = None
    has_content: bool = False
    is_complete: bool = False

    def note_model(self, value: object) -> None:
        """Keep the model's name; Azure's first event has an empty one.

        What commands terminals is no name, whoever's server writes it.
        """
        name = model_name(value)
        if name is not None and control_in(name) is None:
            self.model = name

    def note_usage(self, block: object) -> None:
        """Merge a usage block."""
        if block is not None:
            merge(self.usage, block)

    def note_content(self, holder: object) -> None:
        """Look for the first token."""
        if self.has_content:
            return
        if type(holder) is dict:
            self.has_content = any(map(holder.get, SPOKEN))
        else:
            self.has_content = any(part(holder, name) for name in SPOKEN)

    def all_counts(self) -> Counts:
        """The tokens, from the usage first."""
        if not self.usage:
            return self.counts
        said = counts_of(self.usage)
        is_told = said.prompt or said.completion  # zeros alone stand for unknown
        return said.filled(self.counts) if is_told else self.counts

    def all_times(self) -> Times:
        """The provider's own times, from the usage first."""
        if not self.usage or not ("total_time" in self.usage or "queue_time" in self.usage):
            return self.times
        return NO_TIMES.filled(groq_times(self.usage)).filled(self.times)


def note(seen: Seen, event: object, depth: int = 3) -> bool:
    """Fold one event in. False where it is of no shape that is known."""
    kind = part(event, "type")
    kind = kind if isinstance(kind, str) else ""
    if kind == "error" or part(event, "object") == "error" or _is_error(part(event, "error")):
        seen.reason = "failed"
    elif not kind or not _typed(seen, kind, event):
        return _untyped(seen, kind, event, depth)
    return True


def _typed(seen: Seen, kind: str, event: object) -> bool:
    """An event that says what it is."""
    if kind.startswith("response."):
        _responses_event(seen, kind, event)
    elif kind in ANTHROPIC_EVENTS:
        _anthropic_event(seen, kind, event)
    elif kind == "message" and part(event, "role") is not None:
        _anthropic(seen, event)
    else:
        return kind == "ping"
    return True


def _untyped(seen: Seen, kind: str, event: object, depth: int) -> bool:
    """An event that is told by its fields."""
    if isinstance(part(event, "choices"), list | tuple):
        _openai(seen, event, part(event, "choices"))
    elif part(event, "object") == "response":
        _responses(seen, event)
    elif isinstance(part(event, "done"), bool):
        _ollama(seen, event)
    elif isinstance(part(event, "response_metadata"), Mapping):
        _langchain(seen, event, is_chunk=kind.endswith("Chunk"))
    elif _is_gemini(event):
        _gemini(seen, event)
    elif isinstance(part(event, "stop"), bool) and isinstance(part(event, "content"), str):
        _llamacpp(seen, event)
    elif part(event, "kind") == "response":
        _pydantic_ai(seen, event)
    else:
        return _other(seen, event, depth)
    return True


def _is_error(error: object) -> bool:
    return not (error is None or error is False or error in ("", {}))


def _other(seen: Seen, event: object, depth: int) -> bool:
    """What wraps an event, what is no completion, and errors of the plainest kind."""
    for name in WRAPPERS:
        inner = part(event, name)
        if depth and not isinstance(inner, NO_EVENTS) and note(seen, inner, depth - 1):
            return True
    if seen.api is not None:  # an event in the middle of a stream, of a kind that says nothing
        return False
    if _is_not_a_completion(event):
        seen.reason = "not a completion"
    elif part(event, "detail") or isinstance(part(event, "message"), str):  # FastAPI's, Mistral's
        seen.reason = "failed"
    else:
        return False
    return True


def _is_not_a_completion(event: object) -> bool:
    """Embeddings, lists of models, moderations, counts of tokens, pictures, files and batches."""
    return (
        part(event, "object") in NOT_COMPLETIONS
        or part(event, "type") == "message_batch"
        or first(event, *OTHER_ANSWERS) is not None
        or isinstance(part(event, "data"), list)
    )


# -- OpenAI, and all who answer as it does --------------------------------------------------


def _openai(seen: Seen, event: object, choices: list[Any] | tuple[Any, ...]) -> None:
    kind = part(event, "object")
    is_text = kind == "text_completion" or any(isinstance(part(c, "text"), str) for c in choices)
    if seen.api is None or choices:
        seen.api = "openai.completions" if is_text else "openai.chat"
    seen.note_model(part(event, "model"))
    usage = part(event, "usage")
    seen.note_usage(usage)
    # Of a stream this is the usage; of a whole answer it tells of Groq's caches.
    seen.note_usage(part(part(event, "x_groq"), "usage"))
    _extras(seen, event)
    for choice in choices:
        if part(choice, "error") or part(choice, "finish_reason") == "error":  # OpenRouter's
            seen.reason = "failed"
        delta, message = part(choice, "delta"), part(choice, "message")
        if part(choice, "finish_reason") or (message is not None and delta is None):
            seen.is_complete = True
        seen.note_content(choice if is_text else first(choice, "delta", "message"))
    # The last event of a stream with usage; llama.cpp's has its timings there.
    if not choices and (usage is not None or part(event, "timings") is not None):
        seen.is_complete = True
    if part(part(event, "_hidden_params"), "cache_hit") is True:  # LiteLLM's
        seen.reason = "cached"


def _extras(seen: Seen, event: object) -> None:
    """What servers of their own tell beside the usage."""
    timings = part(event, "timings")
    if timings is not None:
        seen.counts = llamacpp_counts(timings).filled(seen.counts)
        seen.times = llamacpp_times(timings).filled(seen.times)
    for name, read in (("time_info", cerebras_times), ("metrics", vllm_times)):
        if part(event, name) is not None:
            seen.times = read(part(event, name)).filled(seen.times)


def _responses_event(seen: Seen, kind: str, event: object) -> None:
    seen.api = "openai.responses"
    if kind == "response.failed":
        seen.reason = "failed"
    elif kind.endswith(".delta"):
        seen.has_content = seen.has_content or bool(part(event, "delta"))
    response = part(event, "response")
    if response is not None:
        _responses(seen, response)


def _responses(seen: Seen, response: object) -> None:
    seen.api = "openai.responses"
    seen.note_model(part(response, "model"))
    seen.note_usage(part(response, "usage"))
    status = part(response, "status")
    if status == "failed":
        seen.reason = "failed"
    elif status == "cancelled":
        seen.reason = "cancelled"
    elif status in (None, "completed", "incomplete"):  # incomplete: it came to a limit of tokens
        seen.is_complete = True
    seen.has_content = seen.has_content or bool(part(response, "output"))


# -- Anthropic ------------------------------------------------------------------------------


def _anthropic(seen: Seen, message: object) -> None:
    seen.api = "anthropic"
    seen.note_model(part(message, "model"))
    seen.note_usage(part(message, "usage"))
    # None in the middle of a stream alone
    has_reason = isinstance(message, Mapping) and "stop_reason" not in message
    seen.is_complete = seen.is_complete or has_reason or part(message, "stop_reason") is not None
    seen.has_content = seen.has_content or bool(part(message, "content"))


def _anthropic_event(seen: Seen, kind: str, event: object) -> None:
    seen.api = "anthropic"
    if kind == "message_start":
        message = part(event, "message")
        seen.note_model(part(message, "model"))
        seen.note_usage(part(message, "usage"))
        seen.usage.pop("output_tokens", None)  # 1, or what is written so far: the end tells all
    elif kind == "message_delta":
        seen.note_usage(part(event, "usage"))
        if part(part(event, "delta"), "stop_reason") is not None:
            seen.is_complete = True
    elif kind == "message_stop":
        seen.is_complete = True
    elif kind == "content_block_start":
        seen.note_content(part(event, "content_block"))
    elif kind == "content_block_delta":
        seen.note_content(part(event, "delta"))


# -- Ollama, llama.cpp ----------------------------------------------------------------------


def _ollama(seen: Seen, answer: object) -> None:
    seen.api = "ollama"
    seen.note_model(part(answer, "model"))
    seen.note_content(answer)
    seen.note_content(part(answer, "message"))
    if part(answer, "done"):
        seen.is_complete = True
        seen.counts = ollama_counts(answer).filled(seen.counts)
        seen.times = ollama_times(answer).filled(seen.times)
        if part(answer, "done_reason") in ("load", "unload"):
            seen.reason = "not a completion"


def _llamacpp(seen: Seen, answer: object) -> None:
    seen.api = "llama.cpp"
    seen.note_model(part(answer, "model"))
    seen.note_content(answer)
    _extras(seen, answer)
    if part(answer, "stop"):
        seen.is_complete = True
        both = Counts(*(count(part(answer, f"tokens_{one}")) for one in ("evaluated", "predicted")))
        seen.counts = seen.counts.filled(both)


# -- Gemini ---------------------------------------------------------------------------------


def _is_gemini(event: object) -> bool:
    if isinstance(part(event, "candidates"), list | tuple):
        return True
    return first(event, "promptFeedback", "prompt_feedback", "usageMetadata") is not None or (
        part(part(event, "usage_metadata"), "prompt_token_count") is not None
    )


def _gemini(seen: Seen, event: object) -> None:
    seen.api = "gemini"
    seen.note_model(first(event, "modelVersion", "model_version"))
    seen.note_usage(first(event, "usageMetadata", "usage_metadata"))
    for candidate in items(part(event, "candidates")):
        if first(candidate, "finishReason", "finish_reason") is not None:
            seen.is_complete = True
        for one in items(part(part(candidate, "content"), "parts")):
            text = part(one, "text")
            seen.has_content = seen.has_content or text is None or bool(text)
    feedback = first(event, "promptFeedback", "prompt_feedback")
    if first(feedback, "blockReason", "block_reason") is not None:
        seen.is_complete = True


# -- frameworks -----------------------------------------------------------------------------


def _langchain(seen: Seen, message: object, *, is_chunk: bool) -> None:
    seen.api = "langchain"
    about = part(message, "response_metadata")
    seen.note_model(first(about, "model_name", "model", "model_id"))
    usage = part(message, "usage_metadata")
    if usage is None:
        seen.note_usage(part(about, "token_usage"))
    else:
        _add_langchain(seen, usage)
        if part(usage, "total_cost") == 0:
            seen.reason = "cached"
    seen.times = groq_times(part(about, "token_usage")).filled(seen.times)
    seen.times = ollama_times(about).filled(seen.times)
    seen.note_content(message)
    ends = (*(part(about, n) for n in ("finish_reason", "stop_reason", "done_reason")),)
    if not is_chunk or any(ends) or part(message, "chunk_position") == "last":
        seen.is_complete = True


def _add_langchain(seen: Seen, usage: object) -> None:
    """LangChain's own sum of a stream is that of its chunks."""
    known = seen.usage
    for name in ("input_tokens", "output_tokens"):
        more = part(usage, name)
        known[name] = more if name not in known else _sum(known[name], more)
    for name, inner, ours in (
        ("input_token_details", "cache_read", ("input_tokens_details", "cached_tokens")),
        ("output_token_details", "reasoning", ("output_tokens_details", "reasoning_tokens")),
    ):
        more = part(part(usage, name), inner)
        if more is not None:
            before = part(known.get(ours[0]), ours[1])
            known[ours[0]] = {ours[1]: more if before is None else _sum(before, more)}


def _sum(one: object, other: object) -> int | None:
    both = (count(one), count(other))
    return None if None in both else (both[0] or 0) + (both[1] or 0)


def _pydantic_ai(seen: Seen, response: object) -> None:
    seen.api = "pydantic-ai"
    seen.note_model(part(response, "model_name"))
    seen.note_usage(part(response, "usage"))
    seen.has_content = seen.has_content or bool(part(response, "parts"))
    seen.is_complete = part(response, "state") in (None, "complete")
