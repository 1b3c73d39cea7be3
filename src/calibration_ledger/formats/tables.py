"""What the readers of other tools' databases share."""

from __future__ import annotations

from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import model_name
from calibration_ledger.core.spans import Innermost, read_span
from calibration_ledger.core.validation import TIME_LIMIT_US
from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.fields import call, microseconds_of
from calibration_ledger.formats.otlp import span_item, with_model
from calibration_ledger.formats.row import BadRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from calibration_ledger.core.answers import Answer, Unlearnable
    from calibration_ledger.core.answers.usage import Counts
    from calibration_ledger.core.spans import Span
    from calibration_ledger.formats.base import Item, Placed


def items(
    rows: Iterable[tuple[Any, ...]], item_of: Callable[..., Item | None], first: int = 1
) -> Iterator[Placed]:
    """The items of rows, each with its number; where `item_of` gives None, a row is no call."""
    for number, row in enumerate(rows, first):
        try:
            item = item_of(*row)
        except InvalidInputError as error:
            item = BadRow(str(error))
        if item is not None:
            yield number, item


def call_item(
    model: object,
    counts: Counts,
    actual_ms: float | None,
    *,
    called_at: int | None,
    request_id: str | None,
    details: Mapping[str, Any],
) -> Item:
    """A call, or why it cannot be learnt from; see `fields.call`."""
    details = {
        **details,
        "cached_tokens": counts.cached,
        "reasoning_tokens": counts.reasoning,
    }
    name = model_name(model)
    item = call(name, called_at, counts.prompt, counts.completion, actual_ms, request_id, details)
    if name is not None or item != Skip("unknown model"):
        return item
    return {  # the user may have named one
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "actual_ms": actual_ms,
        "called_at": called_at,
        "request_id": request_id,
        "details": {name: value for name, value in details.items() if value is not None},
    }


def utc_us(name: str, text: object) -> int | None:
    """The microseconds since the epoch of an ISO text, which is in UTC where it has no zone.

    Raises:
        InvalidInputError: there is a value, and it is no time.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)  # type: ignore[arg-type]  # others are a TypeError
    except (TypeError, ValueError):
        raise InvalidInputError(f"{name} is no time: {shown(text)}") from None
    found = microseconds_of(time)
    if not 0 <= found < TIME_LIMIT_US:
        raise InvalidInputError(f"{name} must lie between 1970 and 9999, not {shown(text)}")
    return found


# -- spans ----------------------------------------------------------------------------------


def span_items(spans: Iterable[Span], model: str | None) -> Iterator[Placed]:
    """The calls among spans that come trace by trace: the innermost of those around each other.

    Args:
        spans: those of a trace stand together, in any order.
        model: the name of calls that name none.
    """
    number = 0
    for _, trace in groupby(spans, key=lambda span: span.trace_id):
        for span, reading in _readings([with_model(span, model) for span in trace]):
            number += 1
            yield number, span_item(span, reading)


def _readings(trace: list[Span]) -> Iterable[tuple[Span, Answer | Unlearnable]]:
    """What the spans of a trace say of calls."""
    if len(trace) > 1:
        return Innermost().read(trace)
    reading = read_span(trace[0])  # most traces of plain calls have but one
    return [] if reading is None else [(trace[0], reading)]
