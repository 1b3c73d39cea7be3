"""Calls as JSON lines: an object a line, with the fields of a `Call`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import ImportRefusedError, InvalidInputError
from calibration_ledger.formats.json_text import parse_object
from calibration_ledger.formats.row import BadRow, Row, check_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.formats.source import Source

_EXAMPLE = '{"model":"m","prompt_tokens":512,"completion_tokens":128,"actual_ms":3400.0}'


def jsonl_rows(source: Source) -> Iterator[tuple[int, Row | BadRow]]:
    """Each row with its line number; blank lines are none.

    Raises:
        ImportRefusedError: the file is something else.
    """
    for number, text, fault in source.lines():
        if fault is not None:
            yield number, BadRow(fault)
            continue
        stripped = text.strip()
        if not stripped:
            continue
        try:
            values = parse_object(stripped, _EXAMPLE)
            if number == 1 and "ledger" in values:
                source.refuse(
                    1,
                    "this is a whole ledger, as `calib export jsonl` writes it: import it as the "
                    "kind `ledger`.",
                )
            yield number, check_row(values)
        except ImportRefusedError:
            raise
        except InvalidInputError as error:
            yield number, BadRow(str(error))
