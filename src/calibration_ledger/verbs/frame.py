"""Frame: calls, or what another verb gave, as a data frame of pandas or Polars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from operator import sub
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.charts import Chart
from calibration_ledger.core.entries import are_calls, is_call
from calibration_ledger.core.records import columns_of, fields_of_all, lines_of
from calibration_ledger.core.replay import Window
from calibration_ledger.core.text import moment_of
from calibration_ledger.core.validation import check_window
from calibration_ledger.errors import InvalidInputError, damaged, shown
from calibration_ledger.formats.frame import PART_ROWS, Frames, find_library
from calibration_ledger.verbs.calls import check_last, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.formats.frame import FrameLibrary, Kind
    from calibration_ledger.storage.ledger import Ledger, ModelHistory

PAGE_ROWS = 500

CALLS: dict[str, Kind] = {
    "model": "text",
    "seq": "whole",
    "called_at": "time",
    "prompt_tokens": "whole",
    "completion_tokens": "whole",
    "actual_ms": "number",
    "predicted_ms": "number",
    "error_ms": "number",
    "outcome": "text",
    "voided": "truth",
    "request_id": "text",
    "details": "text",
}
"""The columns of a frame of calls."""


def frame_of_calls(
    ledger: Ledger,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
    library: FrameLibrary | None,
    progress: Progress | None,
) -> Any:
    """The calls that `AdaptiveCalibrator.calls` gives, as a frame."""
    window, newest = Window(*check_window(since, until)), check_last(last)
    frames = Frames(find_library(library), CALLS)  # before anything is read
    work = partial(_parts, frames=frames, window=window, last=newest, progress=progress)
    return frames.whole(
        [part for live in ledger.models(model) for part in ledger.whole(live, work)]
    )


def _parts(
    history: ModelHistory,
    *,
    frames: Frames,
    window: Window,
    last: int | None,
    progress: Progress | None,
) -> list[Any]:
    """The calls of a model, in frames of bounded length."""
    rows, parts = rows_of(history, window, last), []
    columns: list[list[Any]] = [[] for _ in CALLS]
    is_done = False
    while not is_done:
        # Page by page, so that rows, unlike numbers, are gone before the collector looks at them.
        some = list(islice(rows, PAGE_ROWS))
        is_done = len(some) < PAGE_ROWS
        if some:
            for column, values in zip(columns, _columns(history, some), strict=True):
                column.extend(values)
            if progress is not None:
                progress(len(some))
        if columns[0] and (is_done or len(columns[0]) >= PART_ROWS):
            parts.append(frames.part(columns))
            columns = [[] for _ in CALLS]
    return parts


def _columns(history: ModelHistory, rows: Sequence[CallRow]) -> list[Sequence[Any]]:
    """Calls, column by column, in the order of `CALLS`."""
    stored: list[Sequence[Any]] = [*zip(*rows, strict=True)]
    if not are_calls(stored):
        seq = next(row[0] for row in rows if not is_call(row))
        raise damaged(history.model, f"entry {seq} holds a value that no call has")
    seqs, called_at, prompts, completions, actual, predicted, outcomes, request_ids, details = (
        stored
    )
    return [
        [history.model] * len(rows),
        seqs,
        called_at,
        prompts,
        completions,
        actual,
        predicted,
        [*map(sub, actual, predicted)],
        ["ok" if outcome is None else "timeout" for outcome in outcomes],
        [*map(history.is_voided, seqs)] if history.voided else [False] * len(rows),
        request_ids,
        details,
    ]


# -- what other verbs gave ----------------------------------------------------------------------


def frame_of_values(values: Iterable[object], library: FrameLibrary | None) -> Any:
    """Values as a frame, with the names of `--format csv`.

    There is a row for each, for each score of a sweep, and for each point of a chart.

    Raises:
        InvalidInputError: one is neither a value of this library nor a dict.
    """
    found = find_library(library)
    values = [*values]
    records = [record for value in values for record in _records(value)]
    columns_of_kinds = [_columns_of(kind) for kind in dict.fromkeys(map(type, values))]
    names = fields_of_all([*map(dict.fromkeys, columns_of_kinds), *records])
    columns = [[record.get(name) for record in records] for name in names]
    kinds = {name: _kind_of(column) for name, column in zip(names, columns, strict=True)}
    numbers = [
        [one if one is None else _us(one) for one in column] if kinds[name] == "time" else column
        for name, column in zip(names, columns, strict=True)
    ]
    return Frames(found, kinds).part(numbers)


_ROWS = {"Sweep": "scores"}
"""The list of a value that makes the rows, where there is one."""

_OF_POINTS = ("y", "low", "high", "x_end", "y_end", "count", "labels")
"""What a series has of its points, besides where they are."""


def _records(value: object) -> list[dict[str, Any]]:
    if isinstance(value, Chart):
        return [*_points(value)]
    if not isinstance(value, Mapping) and not hasattr(value, "to_dict"):
        raise InvalidInputError(
            f'a frame is made of "calls", or of values that a calibrator gave, not of '
            f"{shown(value)}."
        )
    kind = type(value)
    records = lines_of(value, _ROWS.get(kind.__name__), _columns_of(kind))
    return [{name: _typed(value, name, one) for name, one in r.items()} for r in records]


def _columns_of(kind: type) -> list[str]:
    """The columns of CSV; none where each value has its own."""
    return [] if kind is Chart else columns_of(kind, _ROWS.get(kind.__name__))


def _points(chart: Chart) -> Iterator[dict[str, Any]]:
    """The points of a chart, one by one; times are seconds since 1970."""
    for panel in chart.panels:
        of = {"kind": chart.kind, "model": chart.model, "panel": panel.title}
        units = {"x_unit": "s" if panel.x.scale == "time" else panel.x.unit, "y_unit": panel.y.unit}
        for series in panel.series:
            columns = {name: getattr(series, name) for name in _OF_POINTS}
            for place, x in enumerate(series.x):
                named = isinstance(x, str)
                yield {
                    **of,
                    "series": series.name,
                    "x_name": x if named else None,
                    "x": None if named else x,
                    **{name: found[place] if found else None for name, found in columns.items()},
                    **units,
                }


def _typed(value: object, name: str, told: Any) -> Any:
    """What JSON tells of a time or a day, as one."""
    found: Any = value
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
    if part == "last_updated" and found is not None:
        return moment_of(found)
    return found if isinstance(found, date) else told


def _us(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _kind_of(column: Sequence[Any]) -> Kind:
    """What a column of values holds; of none at all, no text."""
    types = {type(one) for one in column if one is not None}
    kinds: tuple[tuple[set[type], Kind], ...] = (
        ({bool}, "truth"),
        ({int}, "whole"),
        ({int, float}, "number"),
        ({datetime}, "time"),
        ({date}, "day"),
    )
    return next((kind for of, kind in kinds if types and types <= of), "text")
