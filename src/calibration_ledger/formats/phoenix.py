"""The database of Arize Phoenix, versions 8 to 20, in SQLite: `phoenix.db`.

A row of `spans` is a span of OpenTelemetry, whose attributes are nested objects, and is read as
such. Its columns with token counts are of no use: they hold 0 where the span has no counts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.spans import ATTRIBUTES, Event, Span
from calibration_ledger.formats.fields import microseconds
from calibration_ledger.formats.tables import span_items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calibration_ledger.formats.base import Beginning, Input, Placed

_KIND = "openinference.span.kind"
_PARTS = ("usage", "token_count")
"""Objects that hold counts alone, which are taken as a whole."""


def _path(name: str) -> str:
    """The path to an attribute, or to the object of counts that it is in."""
    keys = name.split(".")
    end = min((keys.index(part) + 1 for part in _PARTS if part in keys), default=len(keys))
    return "->".join(keys[:end])


_PATHS = tuple(dict.fromkeys(_path(name) for name in ATTRIBUTES if name != _KIND))
_NAMES = tuple(path.replace("->", ".") for path in _PATHS)
_COUNTS = frozenset(name for name in _NAMES if name.endswith(_PARTS))
_EVENTS = 2
"""How many events are looked at: the first token, or what failed, is one of the first."""

_COLUMNS = (
    "trace_rowid",
    "traces.trace_id",
    "span_id",
    "parent_id",
    "span_kind",
    "start_time",
    "end_time",
    "status_code",
    *(
        f"events->{number}->{key}"
        for number in range(_EVENTS)
        for key in ("name", "timestamp", "attributes->exception.type")
    ),
    *(f"attributes->{path}" for path in _PATHS),
)


def phoenix_rows(file: Input) -> Iterator[Placed]:
    """The calls of a database of Phoenix."""
    database = file.database()
    if not database.has("spans", "span_id", "trace_rowid", "attributes"):
        file.refuse(None, "this is no database of Phoenix: it has no such table as `spans`.")
    rows = database.rows(
        "spans", _COLUMNS, order_by="trace_rowid", beside=("traces", "id", "trace_rowid")
    )
    return span_items((_span(*row) for row in rows), file.model)


def looks_like(beginning: Beginning) -> bool:
    """Whether it has the tables of Phoenix."""
    return {"spans", "traces", "span_annotations", "alembic_version"} <= beginning.tables


def default_place() -> Path:
    """Where Phoenix keeps it, unless it was told another place."""
    folder = os.environ.get("PHOENIX_WORKING_DIR") or os.path.expanduser("~/.phoenix")  # noqa: PTH111 - Path.expanduser fails without a home
    return Path(folder) / "phoenix.db"


def _span(
    trace_row: object,
    trace_id: object,
    span_id: object,
    parent_id: object,
    kind: object,
    start: object,
    end: object,
    status: object,
    *rest: Any,
) -> Span:
    told = rest[: 3 * _EVENTS]
    found = zip(_NAMES, rest[3 * _EVENTS :], strict=True)
    attributes: dict[str, Any] = {name: value for name, value in found if value is not None}
    for name in _COUNTS & attributes.keys():
        value = attributes[name]
        if isinstance(value, dict):
            _flatten(name, value, attributes)
    if kind != "UNKNOWN":  # older versions do not know what the conventions for GenAI say
        attributes[_KIND] = kind
    events = () if told[0] is None else _events(told)
    return Span(
        trace_id=(trace_id if isinstance(trace_id, str) else f"row {trace_row}").lower(),
        span_id=str(span_id).lower(),
        parent_id=parent_id.lower() if isinstance(parent_id, str) and parent_id else None,
        name="",
        start_ns=_ns(start),
        end_ns=_ns(end),
        is_error=status == "ERROR",
        attributes=attributes,
        events=events,
    )


def _events(told: Sequence[Any]) -> list[Event]:
    return [
        Event(str(name), _ns(at), {"exception.type": error} if error else {})
        for name, at, error in zip(told[::3], told[1::3], told[2::3], strict=True)
        if name is not None
    ]


def _flatten(name: str, value: dict[str, Any], attributes: dict[str, Any]) -> None:
    for key, inner in value.items():
        if isinstance(inner, dict):
            _flatten(f"{name}.{key}", inner, attributes)
        else:
            attributes[f"{name}.{key}"] = inner


def _ns(text: object) -> int:
    """A time in ns since 1970; 0, which no span has, for what is none."""
    return (microseconds(text) or 0) * 1_000
