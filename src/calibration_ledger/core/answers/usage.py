"""The names that token counts and times have, whichever API words them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from calibration_ledger.core.answers.parts import count, first, milliseconds, part, total

PER_SECOND, PER_NANOSECOND = 1e-3, 1e6
"""Units to the millisecond."""

NAMES = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "dram_cached_tokens",
    "sram_cached_tokens",
    "queue_time",
    "total_time",
    "input_tokens",
    "output_tokens",
    "input_tokens_details",
    "output_tokens_details",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "input_tokens_cache_read",
    "input_tokens_cache_write",
    "reasoning_tokens",
    "cache_read_tokens",
    "details",
)
"""What the usage of a client's own object is asked for."""

GEMINI_NAMES = {
    "promptTokenCount": "prompt_token_count",
    "toolUsePromptTokenCount": "tool_use_prompt_token_count",
    "candidatesTokenCount": "candidates_token_count",
    "thoughtsTokenCount": "thoughts_token_count",
    "cachedContentTokenCount": "cached_content_token_count",
    "totalTokenCount": "total_token_count",
}
"""Names in Gemini's JSON, and in its client."""

APART = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "input_tokens_cache_read",
    "input_tokens_cache_write",
)
"""Tokens of the prompt that are not in its count."""

ALL_NAMES = (*NAMES, *GEMINI_NAMES, *GEMINI_NAMES.values())

NAME_OF = {
    **{name: name for name in (*NAMES, *GEMINI_NAMES)},
    **{in_json: name for name, in_json in GEMINI_NAMES.items()},
}
"""The name that each is kept by."""


class Counts(NamedTuple):
    """The tokens of an answer, as far as they are known."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    reasoning: int | None = None

    def filled(self, other: Counts) -> Counts:
        """These, and what they lack from another source."""
        if other is NO_COUNTS or self is NO_COUNTS:
            return other if self is NO_COUNTS else self
        return Counts(
            *(mine if mine is not None else his for mine, his in zip(self, other, strict=True))
        )


NO_COUNTS = Counts()


class Times(NamedTuple):
    """The provider's own times in ms, as far as they are known."""

    queue: float | None = None
    load: float | None = None
    server: float | None = None

    def filled(self, other: Times) -> Times:
        """These, and what they lack from another source; times of 0 alone are unknown."""
        known = other if any(other) else NO_TIMES
        if known is NO_TIMES or self is NO_TIMES:
            return known if self is NO_TIMES else self
        return Times(
            *(mine if mine is not None else his for mine, his in zip(self, known, strict=True))
        )


NO_TIMES = Times()


# -- usage blocks ---------------------------------------------------------------------------


def merge(known: dict[str, Any], block: object) -> None:
    """Add a usage block to what earlier ones of the stream said.

    Later blocks repeat or complete earlier ones. A 0 does not take the place of a number: some
    proxies send zeros where they have nothing to add.
    """
    for name in block if isinstance(block, Mapping) else ALL_NAMES:
        value, ours = part(block, name), GEMINI_NAMES.get(name, name)
        if value is not None and (value or ours not in known):
            known[ours] = value


def counts_of(usage: dict[str, Any]) -> Counts:
    """The tokens of merged usage blocks. Each family of APIs has names of its own."""
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _with_hidden(_openai(usage), usage.get("total_tokens"))
    if "input_tokens" in usage or "output_tokens" in usage:
        return _with_hidden(_responses_or_anthropic(usage), usage.get("total_tokens"))
    return _gemini(usage)


def _openai(usage: dict[str, Any]) -> Counts:
    prompt, completion = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    reasoning = count(part(usage.get("completion_tokens_details"), "reasoning_tokens"))
    cached = first(usage.get("prompt_tokens_details"), "cached_tokens")
    if cached is None:
        cached = first(usage, "prompt_cache_hit_tokens", "cached_tokens")
    if cached is None and "dram_cached_tokens" in usage:  # Groq's
        cached = total(usage["dram_cached_tokens"], usage.get("sram_cached_tokens"))
    return Counts(prompt, completion, count(cached), reasoning)


def _with_hidden(counts: Counts, total_tokens: object) -> Counts:
    """The same with the hidden reasoning among the completion tokens.

    xAI, and Gemini behind OpenAI's shape, count it beside the completion, and Gemini does not even
    say how much it is: only the total tells. Where a cache is told of, the rest may be that.
    """
    every = count(total_tokens)
    if every is None or counts.prompt is None or counts.completion is None:
        return counts
    beside = every - counts.prompt - counts.completion
    is_hidden = counts.reasoning == beside or (counts.reasoning is None and not counts.cached)
    if beside > 0 and is_hidden:
        return counts._replace(completion=counts.completion + beside)
    return counts


def _responses_or_anthropic(usage: dict[str, Any]) -> Counts:
    # Who has these names counts the cache apart: Anthropic, and inspect_ai.
    prompt = total(usage.get("input_tokens"), *(usage.get(name) for name in APART))
    cached = first(usage, "cache_read_input_tokens", "input_tokens_cache_read")
    if cached is None:
        cached = first(usage.get("input_tokens_details"), "cached_tokens")
    if cached is None:
        cached = usage.get("cache_read_tokens") or None  # pydantic-ai fills in zeros
    reasoning = first(usage.get("output_tokens_details"), "reasoning_tokens", "thinking_tokens")
    if reasoning is None:
        reasoning = first(usage.get("details"), "reasoning_tokens")
    if reasoning is None:
        reasoning = usage.get("reasoning_tokens")  # inspect_ai's
    return Counts(prompt, count(usage.get("output_tokens")), count(cached), count(reasoning))


def _gemini(usage: dict[str, Any]) -> Counts:
    prompt = total(usage.get("prompt_token_count"), usage.get("tool_use_prompt_token_count"))
    thoughts = count(usage.get("thoughts_token_count"))
    completion = total(usage.get("candidates_token_count"), usage.get("thoughts_token_count"))
    if usage.get("candidates_token_count") is None and thoughts:
        # All of it went into thoughts: what is left out is a 0, if the total says so.
        is_all = usage.get("total_token_count") == (prompt or 0) + thoughts
        completion = thoughts if is_all else None
    return Counts(prompt, completion, count(usage.get("cached_content_token_count")), thoughts)


# -- what else says counts and times --------------------------------------------------------


def groq_times(usage: object) -> Times:
    """Groq's, in its usage block: seconds, and the total is without the queue."""
    queue = milliseconds(part(usage, "queue_time"), PER_SECOND)
    server = milliseconds(part(usage, "total_time"), PER_SECOND)
    return Times(queue, None, None if server is None else round(server + (queue or 0.0), 6))


def cerebras_times(time_info: object) -> Times:
    """Cerebras': seconds, and the total is with the queue."""
    queue = milliseconds(part(time_info, "queue_time"), PER_SECOND)
    return Times(queue, None, milliseconds(part(time_info, "total_time"), PER_SECOND))


def vllm_times(metrics: object) -> Times:
    """vLLM's: the first token is timed from when the queue is over."""
    queue = milliseconds(part(metrics, "queue_time_ms"))
    first_ms = milliseconds(part(metrics, "time_to_first_token_ms"))
    rest = milliseconds(part(metrics, "generation_time_ms"))
    known = None not in (first_ms, rest)
    server = round((queue or 0.0) + (first_ms or 0.0) + (rest or 0.0), 6) if known else None
    return Times(queue, None, server)


def llamacpp_times(timings: object) -> Times:
    """llama.cpp's; it does not tell of a queue."""
    prompt, predicted = (
        milliseconds(part(timings, f"{one}_ms")) for one in ("prompt", "predicted")
    )
    return Times(
        server=None if prompt is None or predicted is None else round(prompt + predicted, 6)
    )


def llamacpp_counts(timings: object) -> Counts:
    """llama.cpp's timings count what the cache gave apart; older ones do not tell of it."""
    cached = count(part(timings, "cache_n"))
    prompt = None if cached is None else total(part(timings, "prompt_n"), cached)
    return Counts(prompt, count(part(timings, "predicted_n")), cached)


def ollama_counts(answer: object) -> Counts:
    """Ollama's. It leaves zeros out: where one is written, somebody else did, for unknown."""
    prompt, completion = count(part(answer, "prompt_eval_count")), count(part(answer, "eval_count"))
    return Counts(prompt or None, completion or None)


def ollama_times(answer: object) -> Times:
    """Ollama's: nanoseconds, and zeros are unknown here, too."""
    load, server = (
        milliseconds(part(answer, f"{one}_duration"), PER_NANOSECOND) for one in ("load", "total")
    )
    return Times(None, load or None, server or None)


def langfuse_counts(usage: Mapping[str, object]) -> Counts:
    """Langfuse's usage by kind: the cache and the reasoning are beside `input` and `output`.

    All kinds with `input` in their name are the prompt's, as in Langfuse's own sums. Who hands
    OpenAI's usage in has all of a side in one number.
    """
    sums: dict[str, int] = {}
    for name, value in usage.items():
        number = count(value)
        if number is not None:
            for side in _sides(name):
                sums[side] = sums.get(side, 0) + number
    return Counts(
        count(sums.get("prompt_tokens", sums.get("input"))),
        count(sums.get("completion_tokens", sums.get("output"))),
        sums.get("cached"),
        sums.get("reasoning"),
    )


_SIDES = {
    "input": ("input",),
    "output": ("output",),
    "cached": ("cache_read", "cached"),
    "reasoning": ("reasoning",),
}


@lru_cache(maxsize=256)  # a file has few kinds, and each of its rows has them
def _sides(name: str) -> tuple[str, ...]:
    """The sums that a kind of usage is a part of."""
    name = name.lower()
    if name in ("prompt_tokens", "completion_tokens"):
        return (name,)
    return tuple(side for side, words in _SIDES.items() if any(word in name for word in words))
