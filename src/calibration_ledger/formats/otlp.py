"""Traces and logs of OpenTelemetry, as collectors and file exporters write them (OTLP JSON).

Spans are read by `core/spans.py`, whichever program wrote them, and the logs of coding agents by
`agents.py`. Of spans around each other the innermost that says enough is taken (`nested.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.core.answers import Unlearnable
from calibration_ledger.core.spans import (
    ASKED_MODEL,
    CLAUDE_CODE,
    SIGNALS,
    details_of_span,
    otlp_records,
    otlp_spans,
    printed_span,
    read_span,
)
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.agents import Agents
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.fields import forget_oldest
from calibration_ledger.formats.nested import REMEMBERED_MAX, Nested
from calibration_ledger.formats.row import BadRow, Row, checked_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.core.answers import Answer
    from calibration_ledger.core.spans import Key, Record, Span
    from calibration_ledger.formats.base import Beginning, Input, Item, Placed


def otlp_rows(file: Input) -> Iterator[Placed]:
    """Each call of a span or of a coding agent's log record.

    Raises:
        ImportRefusedError: the file cannot be read.
    """
    reader = _Reader(file.model)
    for place, document in json_values(file):
        if isinstance(document, BadRow):
            yield place, document
        else:
            yield from reader.items(place, document)
            yield from reader.nested.settled()
    yield from reader.nested.settled(keep=0)


def looks_like(beginning: Beginning) -> bool:
    """Whether it begins with a document of OTLP JSON, or with a span as it is printed."""
    return any(_is_otlp(one) or printed_span(one) is not None for one in beginning.records)


def _is_otlp(document: object) -> bool:
    return isinstance(document, dict) and not document.keys().isdisjoint(SIGNALS)


class _Reader:
    """Reads documents in their order."""

    def __init__(self, model: str | None) -> None:
        """Begin; `model` is the name of those that have none."""
        self._model = model
        self._agents = Agents(model)
        self._logged: dict[Key, None] = {}
        self.nested = Nested()

    def items(self, place: int, document: object) -> Iterator[Placed]:
        """What can be told at once of a document."""
        is_read = _is_otlp(document)
        for span in _spans(document):
            is_read = True
            item = self._of_span(place, span)
            if item is not None:
                yield place, item
        for record in otlp_records(document):
            item = self._of_record(record)
            if item is not None:
                yield place, item
        if not is_read:
            yield place, BadRow(f"no OTLP JSON: it has none of {', '.join(SIGNALS[:2])}")

    def _of_span(self, place: int, span: Span) -> Item | None:
        """Let a span wait; a second telling of it, or of a log record, does not."""
        span = with_model(span, self._model)
        reading = read_span(span)
        key = span.trace_id, span.span_id
        if reading is not None and key in self._logged:
            return Skip("duplicate")
        item = None if reading is None else span_item(span, reading)
        return self.nested.put(place, key, span.parent_id, item)

    def _of_record(self, record: Record) -> Item | None:
        """What a log record tells; the span that it was written in tells the same, if it is one."""
        item = self._agents.item(record)
        if isinstance(item, Row) and record.span_id:
            key = record.trace_id, record.span_id
            if self.nested.has(key):
                return Skip("duplicate")
            self._logged[key] = None
            forget_oldest(self._logged, REMEMBERED_MAX)
        return item


def _spans(document: object) -> Iterable[Span]:
    span = printed_span(document)
    return otlp_spans(document) if span is None else (span,)


def with_model(span: Span, model: str | None) -> Span:
    """A span under the name that the user gave, if it lacks no more than that."""
    if model is None:
        return span
    reading = read_span(span)
    if not isinstance(reading, Unlearnable) or reading.reason != "unknown model":
        return span
    return span._replace(attributes={**span.attributes, ASKED_MODEL: model})


def span_item(span: Span, reading: Answer | Unlearnable) -> Item:
    """What a span of a call is, by what was read of it."""
    if isinstance(reading, Unlearnable):
        return Skip("cancelled" if reading.reason == "left early" else reading.reason)
    return _row(span, reading)


def _row(span: Span, answer: Answer) -> Item:
    """The row of a span; Claude Code has an id of its own for a call, in its logs, too."""
    name = answer.asked_model or answer.answered_model
    if name is None:
        return Skip("unknown model")
    own = span.attributes.get("request_id") if span.name == CLAUDE_CODE else None
    try:
        return checked_row(
            name,
            span.start_ns // 1_000,
            answer.prompt_tokens,
            answer.completion_tokens,
            span.elapsed_ms,
            own if isinstance(own, str) and own else f"{span.trace_id}:{span.span_id}",
            {**answer.details(name), **details_of_span(span)},
        )
    except InvalidInputError as error:
        return BadRow(str(error))
