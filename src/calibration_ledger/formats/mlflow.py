"""The tracking database of MLflow 3 in SQLite, and the `traces.json` that it keeps in files.

A row of `spans` is a span, whose attributes are JSON in texts of their own. What MLflow calls
`model_name` is the model that answered, where that is known, and `model` the one asked for. Before
spans lay in the database, they were files among the artifacts, one to a trace.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import count, total
from calibration_ledger.core.spans import ASKED_MODEL, Event, Span, hex_id, whole_ns
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.row import BadRow
from calibration_ledger.formats.tables import span_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from calibration_ledger.formats.base import Beginning, Input, Placed

_ATTRIBUTES = (
    "mlflow.chat.tokenUsage",
    "mlflow.llm.model",
    "mlflow.message.format",
    "model",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "mlflow.spanType",
)
_EVENT = ("name", "time_unix_nano", "timestamp", "attributes->exception.type")
_COLUMNS = (
    "trace_id",
    "span_id",
    "parent_span_id",
    "type",
    "status",
    "start_time_unix_nano",
    "end_time_unix_nano",
    "model_name",
    *(f"content->events->0->{key}" for key in _EVENT),
    *(f"content->attributes->{name}" for name in _ATTRIBUTES),
)
_KINDS = {
    "CHAT_MODEL": "LLM",
    "LLM": "LLM",
    "EMBEDDING": "EMBEDDING",
    "RERANKER": "RERANKER",
}
"""The types of spans that are calls, as OpenInference calls them; others only contain some."""

_FIRST_CHUNK = "mlflow.chunk.item.0"
_CACHE_APART = frozenset({"anthropic", "bedrock"})
"""The formats of messages whose providers count what came from a cache beside the input."""


def mlflow_rows(file: Input) -> Iterator[Placed]:
    """The calls of a database, or of a file of traces."""
    if not file.is_database():
        return _of_files(file)
    database = file.database()
    if not database.has("trace_info"):
        file.refuse(None, "this is no database of MLflow: it has no table `trace_info`.")
    if not database.has("spans", "span_id", "start_time_unix_nano", "content"):
        file.refuse(
            None,
            "this database of MLflow has no spans: older versions keep them beside it, in a file "
            "traces.json to a trace. Nothing was recorded: import those.",
        )
    rows = database.rows("spans", _COLUMNS, order_by="trace_id")
    return span_items((_span(*row) for row in rows), file.model)


def looks_like(beginning: Beginning) -> bool:
    """Whether it has the tables of MLflow, or is a file of a trace's spans."""
    if beginning.tables:
        return {"trace_info", "experiments"} <= beginning.tables
    spans = beginning.first.get("spans") if isinstance(beginning.first, dict) else None
    first = spans[0] if isinstance(spans, list) and spans else None
    attributes = first.get("attributes") if isinstance(first, dict) else None
    return isinstance(attributes, dict) and "mlflow.spanType" in attributes


def _span(
    trace_id: object,
    span_id: object,
    parent_id: object,
    kind: object,
    status: object,
    start_ns: object,
    end_ns: object,
    answered: object,
    *rest: Any,
) -> Span:
    name, at_ns, at_too, error = rest[: len(_EVENT)]
    told = {
        key: _value(text)
        for key, text in zip(_ATTRIBUTES, rest[len(_EVENT) :], strict=True)
        if text is not None
    }
    events = []
    if name is not None:
        is_first = name == _FIRST_CHUNK
        events.append(
            Event(
                "First Token Stream Event" if is_first else str(name),
                whole_ns(at_ns) or whole_ns(at_too),
                {"exception.type": error} if error else {},
            )
        )
    return Span(
        trace_id=str(trace_id).rpartition("/")[2].removeprefix("tr-").lower(),
        span_id=str(span_id).lower(),
        parent_id=parent_id.lower() if isinstance(parent_id, str) and parent_id else None,
        name="",
        start_ns=whole_ns(start_ns),
        end_ns=whole_ns(end_ns),
        is_error=status == "ERROR",
        attributes=_attributes(kind or told.get("mlflow.spanType"), answered, told),
        events=events,
    )


def _attributes(kind: object, answered: object, told: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes by names that `core/spans.py` knows."""
    usage = told.get("mlflow.chat.tokenUsage")
    usage = usage if isinstance(usage, dict) else {}
    prompt, cached = count(usage.get("input_tokens")), count(usage.get("cache_read_input_tokens"))
    if told.get("mlflow.message.format") in _CACHE_APART:
        prompt = total(prompt, cached, usage.get("cache_creation_input_tokens"))
    found = {
        "openinference.span.kind": _KINDS.get(kind if isinstance(kind, str) else "", "CHAIN"),
        ASKED_MODEL: told.get("model") or told.get(ASKED_MODEL),
        "gen_ai.response.model": (
            answered or told.get("gen_ai.response.model") or told.get("mlflow.llm.model")
        ),
        "gen_ai.usage.input_tokens": prompt,
        "gen_ai.usage.output_tokens": count(usage.get("output_tokens")),
        "gen_ai.usage.cache_read.input_tokens": cached,
    }
    return {name: value for name, value in found.items() if value is not None}


def _value(text: object) -> Any:
    """The value of an attribute, which is JSON in a text; some are not."""
    if not isinstance(text, str):
        return text
    if text[:1] == '"' and "\\" not in text and text.find('"', 1) == len(text) - 1:
        return text[1:-1]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# -- files of traces ------------------------------------------------------------------------


def _of_files(file: Input) -> Iterator[Placed]:
    for place, document in json_values(file):
        if isinstance(document, BadRow):
            yield place, document
            continue
        spans = document.get("spans") if isinstance(document, dict) else None
        if not isinstance(spans, list):
            yield place, BadRow("this is no trace of MLflow: it has no list of `spans`")
            continue
        for _, item in span_items(_spans_of(spans), file.model):
            yield place, item


def _spans_of(spans: Iterable[object]) -> Iterator[Span]:
    """The spans of a trace as MLflow writes them: since 3, and before."""
    for record in spans:
        if not isinstance(record, dict):
            continue
        context, status = _object(record, "context"), _object(record, "status")
        events, attributes = record.get("events"), _object(record, "attributes")
        event = events[0] if isinstance(events, list) and events else {}
        event = event if isinstance(event, dict) else {}
        yield _span(
            hex_id(record.get("trace_id") or context.get("trace_id")),
            hex_id(record.get("span_id") or context.get("span_id")),
            hex_id(record.get("parent_span_id") or record.get("parent_id")),
            None,
            str(status.get("code") or record.get("status_code")).removeprefix("STATUS_CODE_"),
            record.get("start_time_unix_nano") or record.get("start_time"),
            record.get("end_time_unix_nano") or record.get("end_time"),
            None,
            event.get("name"),
            event.get("time_unix_nano"),
            event.get("timestamp"),
            _object(event, "attributes").get("exception.type"),
            *(attributes.get(name) for name in _ATTRIBUTES),
        )


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name)
    return found if isinstance(found, dict) else {}
