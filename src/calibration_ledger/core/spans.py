"""Spans of OpenTelemetry, read as calls of models whichever tool wrote them.

What a span says is in its attributes, and each tool has names of its own for them: the semantic
conventions for GenAI (old and new), OpenLLMetry, OpenInference, Vercel's AI SDK, Langfuse's SDK,
Claude Code. This module alone knows these names: the live exporter and the readers of files use it.

A span lasts from before the first attempt to after the last, with the pauses between them: nothing
on it tells them apart. Tools that wrap each other write a span each for the same call; of these,
the innermost that says enough is taken, because it has the least of other work in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from calibration_ledger.core.answers import Answer, Reason, Unlearnable, call_of
from calibration_ledger.core.answers.parts import count, milliseconds, model_name
from calibration_ledger.core.answers.usage import Counts
from calibration_ledger.core.failures import reason_of_names
from calibration_ledger.core.validation import time_from_us

if TYPE_CHECKING:
    from calibration_ledger.core.values import Call

Attributes: TypeAlias = Mapping[str, Any]

REMEMBERED_MAX = 10_000
"""How many spans are remembered from one batch for the next: 2 MB at the most."""

_LAST_NS = 253_402_300_799 * 10**9
"""The end of the year 9999, after which Python knows no time."""

_NONE: Attributes = MappingProxyType({})


class Event(NamedTuple):
    """Something that happened during a span, at a time in ns since 1970."""

    name: str
    at_ns: int
    attributes: Attributes = _NONE


class Span(NamedTuple):
    """A span that has ended; ids in hexadecimal digits, times in ns since 1970."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start_ns: int
    end_ns: int
    is_error: bool = False
    attributes: Attributes = _NONE
    events: Sequence[Event] = ()

    @property
    def elapsed_ms(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e6


# -- which spans are calls ------------------------------------------------------------------

_CLAUDE_CODE = "claude_code.llm_request"
_LANGFUSE = "langfuse.observation."
_YES: Mapping[str, frozenset[str]] = {
    "gen_ai.operation.name": frozenset({"chat", "text_completion", "generate_content"}),
    "openinference.span.kind": frozenset({"llm"}),
    "llm.request.type": frozenset({"chat", "completion"}),
    "langfuse.observation.type": frozenset({"generation"}),
}
"""The attributes that say what a span is, and what they say of a completion."""

_OTHER_CALLS = ("embed", "rerank", "image", "speech", "transcription", "moderation")
"""Words in what a span says of itself where a model is called, but not for a completion."""


def _kinds(span: Span) -> Iterator[tuple[str, bool]]:
    """What the span says that it is, and whether that is a completion."""
    for name, completions in _YES.items():
        kind = span.attributes.get(name)
        if isinstance(kind, str):
            yield kind.lower(), kind.lower() in completions
    operation = span.attributes.get("ai.operationId")
    if isinstance(operation, str):
        yield operation.lower(), operation.endswith((".doGenerate", ".doStream"))
    if span.name == _CLAUDE_CODE:
        yield span.name, True


# -- what their attributes mean -------------------------------------------------------------

_ASKED = ("gen_ai.request.model", "llm.request.model_name", "ai.model.id", "llm.request.model")
_ANSWERED = (
    "gen_ai.response.model",
    "ai.response.model",
    "llm.model_name",
    "langfuse.observation.model.name",
    "llm.response.model",
)
_PROMPT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
)
_COMPLETION = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
)
_CACHED = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.cachedInputTokens",
    "ai.usage.inputTokenDetails.cacheReadTokens",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.reasoningTokens",
    "ai.usage.outputTokenDetails.reasoningTokens",
)
_STREAMED = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
_FIRST_S = ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token")
_FIRST_MS = ("ai.response.msToFirstChunk", "ttft_ms")
_FIRST_EVENTS = frozenset(
    {
        "First Token Stream Event",
        "ai.stream.firstChunk",
        "gen_ai.content.completion.chunk",
        "llm.content.completion.chunk",
    }
)

_LANGFUSE_PROMPT, _LANGFUSE_COMPLETION = (
    ("prompt_tokens", "input", "input_tokens"),
    ("completion_tokens", "output", "output_tokens"),
)
_LANGFUSE_CACHED = ("input_cache_read", "input_cached_tokens", "cache_read_input_tokens")
_LANGFUSE_BESIDE = (*_LANGFUSE_CACHED, "input_cache_creation", "cache_creation_input_tokens")
"""Langfuse counts what is of a kind of its own beside `input`, not in it."""


def _number(value: object) -> int | None:
    """A number of tokens, which some tools write as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:  # noqa: PLR2004 - no count has more digits
        value = int(value)
    return count(value)


def _first_number(holder: Attributes, names: Iterable[str]) -> int | None:
    return next((n for name in names if (n := _number(holder.get(name))) is not None), None)


def _first_model(attributes: Attributes, names: Iterable[str]) -> str | None:
    return next((m for name in names if (m := model_name(attributes.get(name)))), None)


def _mapping(text: object) -> Attributes:
    """The JSON object that an attribute is the text of; empty where it is none."""
    if isinstance(text, str):
        with suppress(ValueError, RecursionError):
            text = json.loads(text)
    return text if isinstance(text, Mapping) else {}


def _counts(span: Span) -> Counts:
    attributes = span.attributes
    if span.name == _CLAUDE_CODE and "input_tokens" in attributes:
        names = ("input_tokens", "cache_read_tokens", "cache_creation_tokens")
        known = [n for name in names if (n := _number(attributes.get(name))) is not None]
        cached = _number(attributes.get("cache_read_tokens"))
        return Counts(sum(known), _number(attributes.get("output_tokens")), cached)
    usage = _mapping(attributes.get(_LANGFUSE + "usage_details"))
    if usage:
        return _langfuse_counts(usage)
    return Counts(
        _first_number(attributes, _PROMPT),
        _first_number(attributes, _COMPLETION),
        _first_number(attributes, _CACHED),
        _first_number(attributes, _REASONING),
    )


def _langfuse_counts(usage: Attributes) -> Counts:
    prompt = _first_number(usage, _LANGFUSE_PROMPT)
    completion = _first_number(usage, _LANGFUSE_COMPLETION)
    cached = _first_number(usage, _LANGFUSE_CACHED)
    reasoning = _first_number(usage, ("output_reasoning", "output_reasoning_tokens"))
    if prompt is not None and "prompt_tokens" not in usage:  # OpenAI's own count has all in it
        prompt += sum(_number(usage.get(name)) or 0 for name in _LANGFUSE_BESIDE)
    if completion is not None and "output" in usage and reasoning is not None:
        completion += reasoning
    return Counts(prompt, completion, cached, reasoning)


# -- how they ended -------------------------------------------------------------------------


def _failure(span: Span) -> Reason | None:
    """Why the call failed; None where nothing says so."""
    attributes = span.attributes
    error = attributes.get("error.type")
    is_failed = (
        span.is_error
        or bool(error)
        or attributes.get(_LANGFUSE + "level") == "ERROR"
        or (span.name == _CLAUDE_CODE and str(attributes.get("success", True)).lower() == "false")
    )
    if not is_failed:
        return None
    raised = (one.attributes.get("exception.type") for one in span.events)
    return reason_of_names(str(kind) for kind in (error, *raised))


def read_span(span: Span) -> Answer | Unlearnable | None:
    """What a span says of a call; None where it is no call of a model.

    Never raises. Agents, chains and tools are no calls; they only contain some.
    """
    try:
        return _read(span)
    except Exception:  # noqa: BLE001 - an attribute may be an object of any program's own
        return Unlearnable("unreadable")


def _read(span: Span) -> Answer | Unlearnable | None:
    kinds = list(_kinds(span))
    if not kinds:
        return None
    if not all(is_completion for _, is_completion in kinds):
        is_other = any(word in kind for kind, _ in kinds for word in _OTHER_CALLS)
        return Unlearnable("not a completion") if is_other else None
    asked, answered = _models(span)
    reason = _failure(span)
    counts = _counts(span)
    if reason is None:
        reason = _lack(span, counts, asked or answered)
    if reason is not None or counts.prompt is None or counts.completion is None:
        return Unlearnable(reason or "unknown tokens", asked, answered)
    return Answer(
        api="span",
        asked_model=asked,
        answered_model=answered,
        prompt_tokens=counts.prompt,
        completion_tokens=counts.completion,
        cached_tokens=counts.cached,
        reasoning_tokens=counts.reasoning,
    )


def _models(span: Span) -> tuple[str | None, str | None]:
    """The model asked for, and the one that answered."""
    attributes = span.attributes
    answered = _first_model(attributes, _ANSWERED)
    if span.name == _CLAUDE_CODE:
        answered = answered or model_name(attributes.get("model"))
    return _first_model(attributes, _ASKED) or model_name(_parameters(span).get("model")), answered


def _lack(span: Span, counts: Counts, model: str | None) -> Reason | None:
    """What a span that did not fail does not say."""
    if str(span.attributes.get("litellm.cache_hit", "")).lower() == "true":
        return "cached"
    if not 0 < span.start_ns <= span.end_ns < _LAST_NS:
        return "unreadable"
    # A prompt that is smaller than what of it came from a cache was counted without that.
    if not counts.prompt or counts.completion is None or (counts.cached or 0) > counts.prompt:
        return "unknown tokens"
    return None if model else "unknown model"


def _parameters(span: Span) -> Attributes:
    """What OpenInference says was asked: where the client's model is, if nowhere else."""
    return _mapping(span.attributes.get("llm.invocation_parameters"))


# -- the call -------------------------------------------------------------------------------


def call_of_span(span: Span, answer: Answer) -> Call:
    """The call that a span is, by the clock of the program that made it.

    Its request id is that of the trace and of the span.

    Raises:
        InvalidInputError: it lasted longer than a call may.
    """
    first_ms = _first_ms(span)
    is_stream = _is_stream(span, first_ms)
    details: dict[str, Any] = {"clock": "client", "retries": "included"}
    if is_stream is not None:
        details["streamed"] = is_stream
    if first_ms is not None and is_stream:
        details["ttft_ms"] = first_ms
    return call_of(
        answer,
        span.elapsed_ms,
        called_at=time_from_us(span.start_ns // 1000),
        request_id=f"{span.trace_id}:{span.span_id}",
        details=details,
    )


def _first_ms(span: Span) -> float | None:
    """The time to the first token, where the span has one that can be."""
    attributes = span.attributes
    found: list[float | None] = [
        *(milliseconds(attributes.get(name), 1e-3) for name in _FIRST_S),
        *(milliseconds(attributes.get(name)) for name in _FIRST_MS),
        *((one.at_ns - span.start_ns) / 1e6 for one in span.events if one.name in _FIRST_EVENTS),
    ]
    text = attributes.get(_LANGFUSE + "completion_start_time")
    if isinstance(text, str):
        with suppress(ValueError, OverflowError):
            at_s = datetime.fromisoformat(text.strip('"')).timestamp()
            found.append(at_s * 1e3 - span.start_ns / 1e6)
    known = (ms for ms in found if ms is not None and 0 <= ms <= span.elapsed_ms)
    return next((round(ms, 6) for ms in known), None)


def _is_stream(span: Span, first_ms: float | None) -> bool | None:
    """Whether the answer was streamed; None where nothing says so."""
    attributes = span.attributes
    told = [attributes.get(name) for name in _STREAMED]
    told.append(_parameters(span).get("stream"))
    operation = attributes.get("ai.operationId")
    if isinstance(operation, str):
        told.append(operation.endswith(".doStream"))
    known = [one for one in told if isinstance(one, bool)]
    return any(known) if known else (True if first_ms is not None else None)


class Innermost:
    """Takes of the spans around one call the innermost that says enough; the others are `nested`.

    Inner spans end first, so each is taken as it comes, and what lies around it is remembered until
    that has come, too. Only an outer span that comes a batch before its inner one is taken instead.
    Of both, the latest 10,000 are remembered.
    """

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._covered: dict[tuple[str, str], None] = {}
        self._taken: dict[tuple[str, str], None] = {}

    def read(self, spans: Iterable[Span]) -> list[tuple[Span, Answer | Unlearnable]]:
        """What a batch of spans says of calls, one item a span of a call. Never raises."""
        batch = {(span.trace_id, span.span_id): (span, read_span(span)) for span in spans}
        late = set()  # what lies around them was taken before
        for key, (_, reading) in batch.items():
            is_usable = isinstance(reading, Answer)
            if (is_usable or key in self._covered) and self._cover(key, batch):
                late.add(key)
        found = []
        for key, (span, reading) in batch.items():
            if reading is None:
                continue
            if key in late or key in self._covered:
                reading = Unlearnable("nested", reading.asked_model, reading.answered_model)  # noqa: PLW2901 - what it comes to
            elif isinstance(reading, Answer):
                self._taken[key] = None
            found.append((span, reading))
        for memory in (self._covered, self._taken):
            _forget(memory)
        return found

    def _cover(self, key: tuple[str, str], batch: Mapping[tuple[str, str], Any]) -> bool:
        """Remember what is known to lie around a span; whether that was taken before."""
        is_in_taken = False
        while key in batch and (parent_id := batch[key][0].parent_id):
            key = key[0], parent_id
            is_in_taken = is_in_taken or key in self._taken
            if key in self._covered:
                break
            self._covered[key] = None
        return is_in_taken


def _forget(memory: dict[tuple[str, str], None]) -> None:
    """Forget the oldest of too many; another thread may do so, too."""
    with suppress(RuntimeError):
        for key in list(islice(memory, max(0, len(memory) - REMEMBERED_MAX))):
            memory.pop(key, None)


# -- OTLP JSON ------------------------------------------------------------------------------


def otlp_spans(document: object) -> Iterator[Span]:
    """The spans of a document of OTLP JSON: one line of what collectors and file exporters write.

    What is no span is left out. Numbers may be texts, as the format wants them, or numbers.
    """
    for resource in _objects(document, "resourceSpans"):
        for scope in _objects(resource, "scopeSpans", "instrumentationLibrarySpans"):
            for record in _objects(scope, "spans"):
                trace_id, span_id = record.get("traceId"), record.get("spanId")
                if isinstance(trace_id, str) and isinstance(span_id, str):
                    yield _otlp_span(record, trace_id, span_id)


def _otlp_span(record: Attributes, trace_id: str, span_id: str) -> Span:
    status = record.get("status")
    code = status.get("code") if isinstance(status, Mapping) else None
    events = [
        Event(str(one.get("name")), _ns(one.get("timeUnixNano")), _otlp_attributes(one))
        for one in _objects(record, "events")
    ]
    parent_id = record.get("parentSpanId")
    return Span(
        trace_id=trace_id.lower(),
        span_id=span_id.lower(),
        parent_id=parent_id.lower() if isinstance(parent_id, str) and parent_id else None,
        name=str(record.get("name", "")),
        start_ns=_ns(record.get("startTimeUnixNano")),
        end_ns=_ns(record.get("endTimeUnixNano")),
        is_error=code in (2, "2", "STATUS_CODE_ERROR"),
        attributes=_otlp_attributes(record),
        events=events,
    )


def _objects(holder: object, *names: str) -> Iterator[Attributes]:
    for name in names:
        found = holder.get(name) if isinstance(holder, Mapping) else ()
        found = found if isinstance(found, list) else ()
        yield from (one for one in found if isinstance(one, Mapping))


def _ns(value: object) -> int:
    """A time in ns; 0 for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:  # noqa: PLR2004 - of 64 bits
        return int(value)
    return value if isinstance(value, int) else 0


def _otlp_attributes(record: Attributes) -> dict[str, Any]:
    return {
        one["key"]: _otlp_value(one.get("value"))
        for one in _objects(record, "attributes")
        if isinstance(one.get("key"), str)
    }


def _otlp_value(value: object) -> Any:
    """An attribute's value, if it is one; an `intValue` is a text as often as a number."""
    if not isinstance(value, Mapping):
        return None
    number = value.get("intValue")
    if number is not None:
        return _number(number)
    return next((value[k] for k in ("stringValue", "boolValue", "doubleValue") if k in value), None)
