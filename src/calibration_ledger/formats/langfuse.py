"""Observations of Langfuse: what it exports to blob storage and from its pages, and its API.

Exports to blob storage have names in snake case; the API and the exports of the pages have them in
camel case. A generation is a call, and lasts from its start to its end: `latency` was in ms once,
and is in seconds now. Times without a zone are UTC. Of generations around each other the innermost
that says enough is taken.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import json_object, told_count
from calibration_ledger.core.answers.usage import Counts, langfuse_counts
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.csv import header
from calibration_ledger.formats.documents import records
from calibration_ledger.formats.fields import (
    between_ms,
    call,
    first_ms,
    microseconds,
    text,
)
from calibration_ledger.formats.nested import Nested
from calibration_ledger.formats.row import BadRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from calibration_ledger.formats.base import Beginning, Input, Item, Placed

    Observation = Mapping[str, Any]

_TRACE_ID = re.compile("[0-9a-f]{32}")
_SPAN_ID = re.compile("[0-9a-f]{16}")
"""The forms of ids that come from OpenTelemetry, as all of the newer SDKs' do."""

_NAMES = (
    {"id", "type", "start_time", "trace_id"},
    {"id", "type", "startTime", "traceId"},
)
_OTHERS = {
    *("parent_observation_id", "provided_model_name", "usage_details", "completion_start_time"),
    *("parentObservationId", "usageDetails", "usage", "modelParameters", "completionStartTime"),
}


def langfuse_rows(file: Input) -> Iterator[Placed]:
    """Each generation.

    Raises:
        ImportRefusedError: the file cannot be read.
    """
    nested = Nested()
    for place, value in records(file):
        for observation in _observations(value):
            item = _waits(nested, place, observation, file.model)
            if item is not None:
                yield place, item
        yield from nested.settled()
    yield from nested.settled(keep=0)


def looks_like(beginning: Beginning) -> bool:
    """Whether it begins with an observation, or with the names of one in CSV."""
    found = chain.from_iterable(map(_observations, beginning.records))
    first = next((one for one in found if isinstance(one, dict)), None)
    return _is_observation(header(beginning) if first is None else first)


def _is_observation(names: Collection[str]) -> bool:
    return any(own.issubset(names) for own in _NAMES) and not _OTHERS.isdisjoint(names)


def _observations(value: Any) -> Iterator[Any]:
    """The observations in a value: itself, those of a page of the API, or those of a trace."""
    for name in ("data", "observations"):
        inner = value.get(name) if isinstance(value, dict) and "startTime" not in value else None
        if isinstance(inner, list):
            yield from inner
            return
    if value is not None:
        yield value


def _waits(nested: Nested, place: int, observation: Any, unnamed: str | None) -> Item | None:
    """Let an observation wait; `unnamed` is the model of those that name none."""
    if isinstance(observation, BadRow):
        return observation
    if not isinstance(observation, dict) or "type" not in observation:
        return BadRow("this is no observation of Langfuse's: it has no type")
    trace_id, own_id = _get(observation, "trace_id"), text(observation.get("id"))
    item = _item(observation, text(trace_id), own_id, unnamed)
    if own_id is None:
        return item
    parent_id = text(_get(observation, "parent_observation_id"))
    return nested.put(place, (str(trace_id), own_id), parent_id, item)


def _get(observation: Observation, *names: str) -> Any:
    """A field by its name in snake or in camel case."""
    for name in names:
        value = observation.get(name)
        if value is None:
            first, *more = name.split("_")
            value = observation.get(first + "".join(map(str.capitalize, more)))
        if value is not None:
            return value
    return None


def _item(
    observation: Observation, trace_id: str | None, own_id: str | None, unnamed: str | None
) -> Item | None:
    kind = str(observation.get("type")).upper()
    if kind == "EMBEDDING":
        return Skip("not a completion")
    if kind != "GENERATION":
        return None
    if observation.get("level") == "ERROR":
        return Skip("failed")
    counts = _counts(observation)
    start, first, end = (
        microseconds(_get(observation, name))
        for name in ("start_time", "completion_start_time", "end_time")
    )
    ttft_ms = first_ms(start, first, end)
    details = {
        "clock": "client",
        "streamed": None if ttft_ms is None else True,
        "ttft_ms": ttft_ms,
        "cached_tokens": counts.cached,
        "reasoning_tokens": counts.reasoning,
    }
    request_id = own_id
    if trace_id and own_id and _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(own_id):
        request_id = f"{trace_id}:{own_id}"  # as a hook into the program names it
    model = text(_get(observation, "provided_model_name", "model")) or unnamed
    actual_ms = between_ms(start, end)
    return call(model, start, counts.prompt, counts.completion, actual_ms, request_id, details)


def _counts(observation: Observation) -> Counts:
    """The usage by kind; before Langfuse 3, and in its pages' exports, the sums alone."""
    details = json_object(_get(observation, "usage_details"))
    if details:
        return langfuse_counts({name: told_count(value) for name, value in details.items()})
    usage = json_object(observation.get("usage"))
    if usage.get("unit") not in (None, "TOKENS"):
        return Counts()
    return Counts(
        _first(
            usage.get("input"), usage.get("promptTokens"), *_sums(observation, "prompt", "input")
        ),
        _first(
            usage.get("output"),
            usage.get("completionTokens"),
            *_sums(observation, "completion", "output"),
        ),
    )


def _sums(observation: Observation, side: str, usage: str) -> tuple[Any, Any]:
    return _get(observation, f"{side}_tokens"), _get(observation, f"{usage}_usage")


def _first(*values: Any) -> int | None:
    return next((number for value in values if (number := told_count(value)) is not None), None)
