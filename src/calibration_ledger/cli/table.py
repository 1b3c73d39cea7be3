"""Tables of text: aligned, fitted to the terminal, safe to print. Pure: nothing here prints.

Every cell is escaped here, so that no caller can forget it. Colour is added behind the padding,
and click takes it away again where nobody sees it.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from calibration_ledger.cli.text import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "
LEFT_WIDTH_MIN = 12
"""To this width a column of text is cut, but no further, when the terminal is too narrow."""

_STYLES: dict[str, dict[str, Any]] = {
    "": {},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "dim": {"dim": True},
}


class Cell(NamedTuple):
    """A text with a style of its own: `good`, `bad` or `dim`."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column's title, and whether it holds texts (on the left) or numbers (on the right)."""

    title: str
    left: bool = False


def width_of(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def cut(text: str, width: int) -> str:
    """The text in at most so many columns; where something was cut off, an ellipsis shows it."""
    if width_of(text) <= width:
        return text
    while text and width_of(text) > width - 1:
        text = text[:-1]
    return text + "…"


class Table:
    """Columns whose widths are fixed by the first rows, so that long tables can be streamed."""

    def __init__(
        self,
        columns: Sequence[Column],
        first: Sequence[Sequence[str | Cell]],
        width: int | None = None,
    ) -> None:
        """Measure the first rows.

        Args:
            columns: the columns, left to right.
            first: the rows that decide the widths; later ones may stick out.
            width: the terminal's, which cuts the texts; None where nothing needs to be cut.
        """
        self._columns = columns
        self._widths = [width_of(column.title) for column in columns]
        for row in first:
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], width_of(_text(cell)))
        self._limits: dict[int, int] = {}
        if width is not None:
            self._fit(width)

    def _fit(self, width: int) -> None:
        """Take from the widest column of texts until the table fits, or cannot."""
        excess = sum(self._widths) + len(GAP) * (len(self._widths) - 1) - width
        texts = [index for index, column in enumerate(self._columns) if column.left]
        while excess > 0 and texts:
            widest = max(texts, key=lambda index: self._widths[index])
            if self._widths[widest] <= max(LEFT_WIDTH_MIN, width_of(self._columns[widest].title)):
                break
            self._widths[widest] -= 1
            self._limits[widest] = self._widths[widest]
            excess -= 1

    def header(self) -> str:
        """The titles."""
        return click.style(self.line([column.title for column in self._columns]), bold=True)

    def line(self, row: Sequence[str | Cell]) -> str:
        """One row."""
        parts = []
        last = len(self._columns) - 1
        for index, (column, cell) in enumerate(zip(self._columns, row, strict=True)):
            text = _text(cell)
            if index in self._limits:
                text = cut(text, self._limits[index])
            padding = " " * (self._widths[index] - width_of(text))
            style = cell.style if isinstance(cell, Cell) else ""
            shown = click.style(text, **_STYLES[style]) if style else text
            if not column.left:
                parts.append(padding + shown)
            else:
                parts.append(shown if index == last else shown + padding)
        return GAP.join(parts)


def _text(cell: str | Cell) -> str:
    return escape(cell.text if isinstance(cell, Cell) else cell)
