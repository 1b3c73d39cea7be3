"""What people read, as Markdown. Pure: nothing here prints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from calibration_ledger.core.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calibration_ledger.cli.table import Cell, Column

_ACTIVE = re.compile(r"[\\`*\[<&|~]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown takes for a mark; an underscore inside a word is none."""


def markdown(text: str) -> str:
    """A text that Markdown shows as it is; a line break in it is written out."""
    return _ACTIVE.sub(r"\\\g<0>", escape(text))


def markdown_head(columns: Sequence[Column]) -> Iterator[str]:
    """The titles of a table, and the line under them: numbers on the right."""
    yield markdown_line([column.title for column in columns])
    yield markdown_line([":---" if column.left else "---:" for column in columns])


def markdown_line(row: Sequence[str | Cell]) -> str:
    """One row, never cut."""
    cells = (markdown(cell if isinstance(cell, str) else cell.text) for cell in row)
    return f"| {' | '.join(cells)} |"
