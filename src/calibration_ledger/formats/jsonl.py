"""Calls as JSON: an object a line, or a list of objects, with the fields of a `Call`.

Names that other tools use are understood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.json_text import parse_json
from calibration_ledger.formats.names import Names, are_calls
from calibration_ledger.formats.row import KNOWN, BadRow, usual_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.formats.base import Beginning, Input, Placed

_EXAMPLE = '{"model":"m","prompt_tokens":512,"completion_tokens":128,"actual_ms":3400.0}'


def jsonl_rows(file: Input, *, keep_rest: bool = False) -> Iterator[Placed]:
    """Each row with its line number; blank lines are none.

    Args:
        file: what to read.
        keep_rest: whether unknown keys go into the details.

    Raises:
        ImportRefusedError: the file is something else.
    """
    names: Names | None = None
    first = file.source.peek().partition(b"\n")[0].rstrip()
    is_list = first[:1] == b"[" or first == b"{"  # or one object after the other, over lines
    for number, values in json_values(file, is_strict=True) if is_list else _lines(file):
        if type(values) is not dict:
            yield number, values if isinstance(values, BadRow) else BadRow(_no_object(values))
            continue
        if (row := usual_row(values)) is not None or values.keys() <= KNOWN:
            yield number, row or values
            continue
        if number == 1 and "ledger" in values:
            file.refuse(
                1,
                "this is a whole ledger, as `calib export jsonl` writes it: import it as the "
                "kind `ledger`.",
            )
        names = names or Names(file, keep_rest=keep_rest, noun="key", are_texts=False)
        try:
            reader = names.reader(values)
        except InvalidInputError as error:
            yield number, BadRow(str(error))
            continue
        item = values if reader is None else reader.item(values)
        if item is not None:
            yield number, item
    if names is not None:
        names.tell()


def _lines(file: Input) -> Iterator[tuple[int, Any]]:
    """The value of each line that is not blank."""
    for number, text, fault in file.source.lines():
        if fault is not None:
            yield number, BadRow(fault)
        elif text and not text.isspace():
            try:
                yield number, parse_json(text.strip())
            except InvalidInputError as error:
                yield number, BadRow(str(error))


def _no_object(value: object) -> str:
    kind = {list: "a list", str: "a text", bool: "a boolean"}.get(type(value), "a bare value")
    return f"{kind} where an object was expected, such as {_EXAMPLE}"


def looks_like(beginning: Beginning) -> bool:
    """Whether the first record is a call, by our own names or by others that are understood."""
    return any(are_calls(one) for one in beginning.records[:1])
