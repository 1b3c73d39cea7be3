"""Calls as JSON lines: an object a line, with the fields of a `Call`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.json_text import parse_object
from calibration_ledger.formats.row import REQUIRED, BadRow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.formats.base import Beginning, Input, Placed

_EXAMPLE = '{"model":"m","prompt_tokens":512,"completion_tokens":128,"actual_ms":3400.0}'


def jsonl_rows(file: Input) -> Iterator[Placed]:
    """Each row with its line number; blank lines are none.

    Raises:
        ImportRefusedError: the file is something else.
    """
    for number, text, fault in file.source.lines():
        if fault is not None:
            yield number, BadRow(fault)
            continue
        stripped = text.strip()
        if not stripped:
            continue
        try:
            values = parse_object(stripped, _EXAMPLE)
        except InvalidInputError as error:
            yield number, BadRow(str(error))
            continue
        if number == 1 and "ledger" in values:
            file.refuse(
                1,
                "this is a whole ledger, as `calib export jsonl` writes it: import it as the "
                "kind `ledger`.",
            )
        yield number, values


def looks_like(beginning: Beginning) -> bool:
    """Whether the first line is a call under our own names; the model may come from outside."""
    first = beginning.first
    return isinstance(first, dict) and all(name in first for name in REQUIRED[1:])
