"""Spans of OpenTelemetry, read as calls of models whichever tool wrote them.

What a span says is in its attributes, and each tool has names of its own for them: the semantic
conventions for GenAI (old and new), OpenLLMetry, OpenInference, Vercel's AI SDK, Langfuse's SDK,
Claude Code. This module alone knows these names: the live exporter and the readers of files use it.

A span lasts from before the first attempt to after the last, with the pauses between them: nothing
on it tells them apart. Tools that wrap each other write a span each for the same call; of these,
the innermost that says enough is taken, because it has the least of other work in it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from calibration_ledger.core.answers import Answer, Reason, Unlearnable, call_of
from calibration_ledger.core.answers.parts import (
    json_object,
    milliseconds,
    model_name,
    told_count,
)
from calibration_ledger.core.answers.usage import Counts, langfuse_counts
from calibration_ledger.core.failures import reason_of_names
from calibration_ledger.core.validation import EPOCH, time_from_us

if TYPE_CHECKING:
    from calibration_ledger.core.values import Call

Attributes: TypeAlias = Mapping[str, Any]

REMEMBERED_MAX = 10_000
"""How many spans are remembered from one batch for the next: some MB at the most."""

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

CLAUDE_CODE = "claude_code.llm_request"
"""The name of Claude Code's spans around its calls."""

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


def _kinds(span: Span) -> list[tuple[str, bool]]:
    """What the span says that it is, and whether that is a completion."""
    attributes, found = span.attributes, []
    for name, completions in _YES.items():
        kind = attributes.get(name)
        if isinstance(kind, str):
            kind = kind.lower()
            found.append((kind, kind in completions))
    operation = attributes.get("ai.operationId")
    if isinstance(operation, str):
        found.append((operation.lower(), operation.endswith((".doGenerate", ".doStream"))))
    if span.name == CLAUDE_CODE:
        found.append((span.name, True))
    return found


# -- what their attributes mean -------------------------------------------------------------

ASKED_MODEL = "gen_ai.request.model"
_ASKED = (ASKED_MODEL, "llm.request.model_name", "ai.model.id", "llm.request.model")
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

ATTRIBUTES = (
    *_YES,
    "ai.operationId",
    *_ASKED,
    *_ANSWERED,
    *_PROMPT,
    *_COMPLETION,
    *_CACHED,
    *_REASONING,
    *_STREAMED,
    *_FIRST_S,
    *_FIRST_MS,
    *(_LANGFUSE + name for name in ("usage_details", "level", "completion_start_time")),
    "llm.invocation_parameters",
    "litellm.cache_hit",
    "error.type",
)
"""All that is read here of a span, but for what Claude Code writes without a prefix: for readers
that need not take more out of a database."""


def _first_number(holder: Attributes, names: Iterable[str]) -> int | None:
    for name in names:
        if name in holder and (number := told_count(holder[name])) is not None:
            return number
    return None


def _first_model(attributes: Attributes, names: Iterable[str]) -> str | None:
    for name in names:
        if name in attributes and (model := model_name(attributes[name])):
            return model
    return None


def _counts(span: Span) -> Counts:
    attributes = span.attributes
    if span.name == CLAUDE_CODE and "input_tokens" in attributes:
        names = ("input_tokens", "cache_read_tokens", "cache_creation_tokens")
        known = [n for name in names if (n := told_count(attributes.get(name))) is not None]
        cached = told_count(attributes.get("cache_read_tokens"))
        return Counts(sum(known), told_count(attributes.get("output_tokens")), cached)
    usage = json_object(attributes.get(_LANGFUSE + "usage_details"))
    if usage:
        return langfuse_counts({name: told_count(value) for name, value in usage.items()})
    return Counts(
        _first_number(attributes, _PROMPT),
        _first_number(attributes, _COMPLETION),
        _first_number(attributes, _CACHED),
        _first_number(attributes, _REASONING),
    )


# -- how they ended -------------------------------------------------------------------------


def _failure(span: Span) -> Reason | None:
    """Why the call failed; None where nothing says so."""
    attributes = span.attributes
    error = attributes.get("error.type")
    is_failed = (
        span.is_error
        or bool(error)
        or attributes.get(_LANGFUSE + "level") == "ERROR"
        or (span.name == CLAUDE_CODE and str(attributes.get("success", True)).lower() == "false")
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
    kinds = _kinds(span)
    if not kinds:
        return None
    if not all([is_completion for _, is_completion in kinds]):  # noqa: C419 - twice as quick
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
    if span.name == CLAUDE_CODE:
        answered = answered or model_name(attributes.get("model"))
    return _first_model(attributes, _ASKED) or model_name(_parameters(span).get("model")), answered


def _lack(span: Span, counts: Counts, model: str | None) -> Reason | None:
    """What a span that did not fail does not say."""
    if str(span.attributes.get("litellm.cache_hit", "")).lower() == "true":
        return "cached"
    if not 0 < span.start_ns <= span.end_ns < _LAST_NS:
        return "unknown duration"
    # A prompt that is smaller than what of it came from a cache was counted without that.
    if not counts.prompt or counts.completion is None or (counts.cached or 0) > counts.prompt:
        return "unknown tokens"
    return None if model else "unknown model"


def _parameters(span: Span) -> Attributes:
    """What OpenInference says was asked: where the client's model is, if nowhere else."""
    given = span.attributes.get("llm.invocation_parameters")
    return _parsed(given) if isinstance(given, str) else json_object(given)


@lru_cache(maxsize=16)
def _parsed(text: str) -> Attributes:
    """The same as `json_object`: a span is asked twice, and many spans have the same."""
    return json_object(text)


# -- the call -------------------------------------------------------------------------------


def call_of_span(span: Span, answer: Answer) -> Call:
    """The call that a span is, by the clock of the program that made it.

    Its request id is that of the trace and of the span.

    Raises:
        InvalidInputError: it lasted longer than a call may.
    """
    return call_of(
        answer,
        span.elapsed_ms,
        called_at=time_from_us(span.start_ns // 1000),
        request_id=f"{span.trace_id}:{span.span_id}",
        details=details_of_span(span),
    )


def details_of_span(span: Span) -> dict[str, Any]:
    """What a span says of its call beside what the answer does."""
    first_ms = _first_ms(span)
    is_stream = _is_stream(span, first_ms)
    details: dict[str, Any] = {"clock": "client", "retries": "included"}
    if is_stream is not None:
        details["streamed"] = is_stream
    if first_ms is not None and is_stream:
        details["ttft_ms"] = first_ms
    return details


def _first_ms(span: Span) -> float | None:
    """The time to the first token, where the span has one that can be."""
    attributes = span.attributes
    found: list[float | None] = []
    for names, per_ms in ((_FIRST_S, 1e-3), (_FIRST_MS, 1.0)):
        found += [milliseconds(attributes[name], per_ms) for name in names if name in attributes]
    found += [(one.at_ns - span.start_ns) / 1e6 for one in span.events if one.name in _FIRST_EVENTS]
    text = attributes.get(_LANGFUSE + "completion_start_time")
    if isinstance(text, str):
        with suppress(ValueError, OverflowError):
            at_s = datetime.fromisoformat(text.strip('"')).timestamp()
            found.append(at_s * 1e3 - span.start_ns / 1e6)
    for ms in found:
        if ms is not None and 0 <= ms <= span.elapsed_ms:
            return round(ms, 6)
    return None


def _is_stream(span: Span, first_ms: float | None) -> bool | None:
    """Whether the answer was streamed; None where nothing says so."""
    attributes = span.attributes
    told = [attributes[name] for name in _STREAMED if name in attributes]
    told.append(_parameters(span).get("stream"))
    operation = attributes.get("ai.operationId")
    if isinstance(operation, str):
        told.append(operation.endswith(".doStream"))
    known = [one for one in told if isinstance(one, bool)]
    return any(known) if known else (True if first_ms is not None else None)


Key: TypeAlias = tuple[str, str]
"""The ids of a trace and of a span in it."""


class Waiting:
    """A span that another may turn out to lie within, and what is to be made of it."""

    __slots__ = ("is_nested", "is_usable", "item")

    def __init__(self, item: Any, *, is_usable: bool, is_nested: bool) -> None:
        """Hold what was made of a span."""
        self.item = item
        self.is_usable = is_usable
        self.is_nested = is_nested


class Innermost:
    """Takes of the spans around one call the innermost that says enough; the others are `nested`.

    Inner spans end first, so what lies around one that was taken is remembered until that has come,
    too. A span waits, as long as whoever reads lets it, for others that lie within it. One that was
    taken before its inner one came stays so: the call is counted once. Of each kind of what is
    remembered, the latest are: by default 10,000.
    """

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        """Remember nothing yet."""
        self._max = remembered_max
        self._parents: dict[Key, Key] = {}
        self._covered: dict[Key, None] = {}
        self._taken: dict[Key, None] = {}

    def read(self, spans: Iterable[Span]) -> list[tuple[Span, Answer | Unlearnable]]:
        """What a batch of spans says of calls, one item a span of a call. Never raises."""
        waiting: dict[Key, Waiting] = {}
        for span in spans:
            reading = read_span(span)
            item = None if reading is None else (span, reading)
            key = span.trace_id, span.span_id
            parent = (span.trace_id, span.parent_id) if span.parent_id else None
            self.put(waiting, key, parent, item, is_usable=isinstance(reading, Answer))
        return [
            (span, Unlearnable("nested", of.asked_model, of.answered_model) if is_nested else of)
            for (span, of), is_nested in self.settle(waiting)
        ]

    def has(self, waiting: Mapping[Key, Waiting], key: Key) -> bool:
        """Whether this span waits, or was taken."""
        return key in waiting or key in self._taken

    def put(
        self,
        waiting: dict[Key, Waiting],
        key: Key,
        parent: Key | None,
        item: object,
        *,
        is_usable: bool,
    ) -> None:
        """Let a span wait with what was made of it; None: it is no call, but may lie between."""
        if parent is not None:
            self._parents[key] = parent
        is_in_taken = (is_usable or key in self._covered) and self._cover(key, waiting)
        if item is not None:
            is_nested = is_in_taken or key in self._covered
            waiting[key] = Waiting(item, is_usable=is_usable, is_nested=is_nested)

    def settle(self, waiting: dict[Key, Waiting], keep: int = 0) -> Iterator[tuple[Any, bool]]:
        """What was made of the oldest that wait, and whether each lies around another call."""
        while len(waiting) > keep:
            key = next(iter(waiting))
            one = waiting.pop(key)
            if one.is_usable and not one.is_nested:
                self._taken[key] = None
            yield one.item, one.is_nested
        for memory in (self._parents, self._covered, self._taken):
            _forget(memory, self._max)

    def _cover(self, key: Key, waiting: Mapping[Key, Waiting]) -> bool:
        """Remember what is known to lie around a span; whether that was taken before."""
        is_in_taken = False
        while (parent := self._parents.get(key)) is not None:
            key = parent
            is_in_taken = is_in_taken or key in self._taken
            if key in self._covered:
                break
            self._covered[key] = None
            if key in waiting:
                waiting[key].is_nested = True
        return is_in_taken


def _forget(memory: dict[Key, Any], remembered_max: int) -> None:
    """Forget the oldest of too many; another thread may do so, too."""
    surplus = len(memory) - remembered_max
    if surplus > 0:
        with suppress(RuntimeError):
            for key in list(islice(memory, surplus)):
                memory.pop(key, None)


# -- OTLP JSON ------------------------------------------------------------------------------


class Record(NamedTuple):
    """A log record; its time in ns since 1970, 0 where there is none.

    The name is that of its event; programs give it in different places, and the body may be it.
    """

    name: str
    body: str
    at_ns: int
    trace_id: str
    span_id: str
    attributes: Attributes = _NONE


_SPANS = ("resourceSpans", "resource_spans", "batches")  # the last is Tempo's
_LOGS = ("resourceLogs", "resource_logs")
SIGNALS = (*_SPANS[:1], *_LOGS[:1], "resourceMetrics", *_SPANS[1:], *_LOGS[1:], "resource_metrics")
"""What a document of OTLP JSON holds one of. Programs write the names in snake case, too."""
_SPAN_SCOPES = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")


def otlp_spans(document: object) -> Iterator[Span]:
    """The spans of a document of OTLP JSON: one line of what collectors and file exporters write.

    What is no span is left out. Numbers may be texts, as the format wants them, or numbers.
    """
    for resource in _objects(document, *_SPANS):
        for scope in _objects(resource, *_SPAN_SCOPES):
            for record in _objects(scope, "spans"):
                trace_id, span_id = _id(record, "traceId"), _id(record, "spanId")
                if trace_id and span_id:
                    yield _otlp_span(record, trace_id, span_id)


def otlp_records(document: object) -> Iterator[Record]:
    """The log records of a document of OTLP JSON."""
    for resource in _objects(document, *_LOGS):
        for scope in _objects(resource, "scopeLogs", "scope_logs"):
            for record in _objects(scope, "logRecords", "log_records"):
                attributes = _otlp_attributes(record)
                body = _otlp_value(record.get("body"))
                names = (attributes.get("event.name"), _field(record, "eventName"), body)
                yield Record(
                    name=next((n for n in names if isinstance(n, str) and n), ""),
                    body=body if isinstance(body, str) else "",
                    at_ns=whole_ns(_field(record, "timeUnixNano"))
                    or whole_ns(_field(record, "observedTimeUnixNano")),
                    trace_id=_id(record, "traceId"),
                    span_id=_id(record, "spanId"),
                    attributes=attributes,
                )


def _otlp_span(record: Attributes, trace_id: str, span_id: str) -> Span:
    status = record.get("status")
    code = status.get("code") if isinstance(status, dict) else None
    events = [
        Event(str(one.get("name")), whole_ns(_field(one, "timeUnixNano")), _otlp_attributes(one))
        for one in _objects(record, "events")
    ]
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=_id(record, "parentSpanId") or None,
        name=str(record.get("name", "")),
        start_ns=whole_ns(_field(record, "startTimeUnixNano")),
        end_ns=whole_ns(_field(record, "endTimeUnixNano")),
        is_error=code in (2, "2", "STATUS_CODE_ERROR"),
        attributes=_otlp_attributes(record),
        events=events,
    )


_SNAKE = {
    name: "".join(f"_{one.lower()}" if one.isupper() else one for one in name)
    for name in (
        *("traceId", "spanId", "parentSpanId", "startTimeUnixNano", "endTimeUnixNano"),
        *("timeUnixNano", "observedTimeUnixNano", "eventName"),
        *("stringValue", "intValue", "doubleValue", "boolValue"),
    )
}


def _field(record: Attributes, name: str) -> Any:
    value = record.get(name)
    return record.get(_SNAKE[name]) if value is None else value


def _id(record: Attributes, name: str) -> str:
    """An id; protobuf's own JSON has it in base64."""
    return hex_id(_field(record, name))


def hex_id(value: object) -> str:
    """An id in hexadecimal digits, of them or of base64; empty for what is none."""
    if not isinstance(value, str):
        return ""
    if len(value) in _BASE64 and not _HEX.issuperset(value):
        with suppress(ValueError):
            return b64decode(value, validate=True).hex()
    return value.lower().removeprefix("0x")


_BASE64 = (24, 12)  # of 16 and of 8 bytes
_HEX = frozenset("0123456789abcdefABCDEF")


def _objects(holder: object, *names: str) -> Iterator[Attributes]:
    """The objects in lists of an object; JSON has no other mappings than dicts."""
    if type(holder) is dict:
        for name in names:
            found = holder.get(name)
            if type(found) is list:
                for one in found:
                    if type(one) is dict:
                        yield one


def whole_ns(value: object) -> int:
    """A time in ns; 0 for what is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:  # noqa: PLR2004 - of 64 bits
        return int(value)
    if isinstance(value, float) and value.is_integer():  # a program that knows no other numbers
        return int(value)
    return value if isinstance(value, int) else 0


def _otlp_attributes(record: Attributes) -> dict[str, Any]:
    found = {}
    for one in _objects(record, "attributes"):
        name = one.get("key")
        if type(name) is str:
            found[name] = _otlp_value(one.get("value"))
    return found


_VALUES = frozenset({"stringValue", "boolValue", "doubleValue"})
_SNAKE_VALUES = {_SNAKE[name]: name for name in (*_VALUES, "intValue")}


def _otlp_value(value: object) -> Any:
    """An attribute's value, if it is one; an `intValue` is a text as often as a number."""
    if type(value) is not dict:
        return None
    for name, found in value.items():  # there is one
        name = _SNAKE_VALUES.get(name, name)  # noqa: PLW2901 - the name that OTLP gives it
        if name == "intValue":
            return told_count(found)
        if name in _VALUES:
            return found
    return None


# -- spans as programs print them -----------------------------------------------------------


def printed_span(document: object) -> Span | None:
    """The span of a document that Python's `ConsoleSpanExporter` prints; None for another."""
    context = document.get("context") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(context, dict):
        return None
    trace_id, span_id = hex_id(context.get("trace_id")), hex_id(context.get("span_id"))
    if not trace_id or not span_id:
        return None
    status = document.get("status")
    code = status.get("status_code") if isinstance(status, dict) else None
    events = [
        Event(
            str(one.get("name")),
            _printed_ns(one.get("timestamp")),
            json_object(one.get("attributes")),
        )
        for one in _objects(document, "events")
    ]
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=hex_id(document.get("parent_id")) or None,
        name=str(document.get("name", "")),
        start_ns=_printed_ns(document.get("start_time")),
        end_ns=_printed_ns(document.get("end_time")),
        is_error=code == "ERROR",
        attributes=json_object(document.get("attributes")),
        events=events,
    )


def _printed_ns(value: object) -> int:
    """The ns of an ISO time, to the microsecond; 0 for what is none."""
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            time = datetime.fromisoformat(value)
            if time.tzinfo is not None:
                return (time - EPOCH) // timedelta(microseconds=1) * 1_000
    return 0
