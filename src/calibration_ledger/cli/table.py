"""Tables of text: aligned, fitted to the terminal, safe to print. Pure: nothing here prints.

Every cell is escaped here, so that no caller can forget it. Colour is added after the padding,
and click takes it away again where nobody sees it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from calibration_ledger.core.text import escape, signed_percent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

GAP = "  "
NAME_WIDTH = 16
"""Names are cut to this before a column is left out for them."""

NAME_WIDTH_MIN = 10
"""A name of fewer columns is beyond recognition."""

NAME_ENDS = (0.5, 0.7, 0.3)
"""How much of a name's width its end gets: the first of these that keeps all names apart."""

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
    """A column of a table.

    Attributes:
        title: its heading.
        left: whether it holds texts (on the left) or numbers (on the right).
        names: whether its texts tell the rows apart: cut inside, never so that two look alike.
        times: whether its texts are times, which lose their smallest parts, and then the year.
        cut_to: where its texts lose their ends when the terminal is narrow; 0: they do not.
        spare: its place among those left out when it is too narrow, from 1; 0: it stays.
    """

    title: str
    left: bool = False
    names: bool = False
    times: bool = False
    cut_to: int = 0
    spare: int = 0


MODEL = Column("model", left=True, names=True)


def change(mine_ms: float, live_ms: float) -> Cell:
    """How much an error is above or below that of the live calibration, in percent."""
    if not live_ms > 0.0 or not mine_ms >= 0.0:
        return Cell("-")
    percent = 100 * (mine_ms - live_ms) / live_ms
    shown_as_zero = abs(percent) < 0.05  # noqa: PLR2004 - one decimal is shown
    style = "" if shown_as_zero else "good" if percent < 0 else "bad"
    return Cell(signed_percent(percent), style)


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
    return _within(text, width - 1) + "…"


def cut_inside(text: str, width: int, end: int) -> str:
    """The same, cut inside: as many columns of its end stay as said, the rest is its beginning."""
    if width_of(text) <= width:
        return text
    tail = _within(text[::-1], min(end, width - 1))[::-1]
    return _within(text, width - 1 - width_of(tail)) + "…" + tail


def _within(text: str, width: int) -> str:
    """As much of the beginning as fits."""
    used = 0
    for index, char in enumerate(text):
        used += width_of(char)
        if used > width:
            return text[:index]
    return text


def cut_names(names: Collection[str], width: int) -> dict[str, str] | None:
    """The names in so many columns, no two alike; None where that cannot be."""
    for part in NAME_ENDS:
        cuts = {name: cut_inside(name, width, round(width * part)) for name in names}
        if len(set(cuts.values())) == len(cuts):
            return cuts
    return None


_TIME = re.compile(r"(\d{4})-(\d\d-\d\d)(?:([ T])(\d\d:\d\d)(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?)?")


def shorter_time(text: str, form: int, year: str) -> str:
    """A time without its smallest parts.

    Args:
        text: the time, or anything else, which stays as it is.
        form: what goes: 0 nothing, 1 parts of seconds, 2 seconds, 3 the year, too; of a time in
            another year than this column's, its hours go instead.
        year: this column's.
    """
    found = _TIME.fullmatch(text)
    if found is None or form == 0:
        return text
    its_year, day, between, minutes, seconds, _, zone = found.groups()
    if form == TIME_FORMS - 1:
        hours = "" if minutes is None else f" {minutes}{zone or ''}"
        return f"{day}{hours}" if its_year == year else f"{its_year}-{day}"
    if minutes is None:
        return text
    return f"{its_year}-{day}{between}{minutes}{(seconds or '') * (form == 1)}{zone or ''}"


TIME_FORMS = 4
"""How many forms `shorter_time` knows."""


class Table:
    """Columns whose widths are fixed by the first rows, so that long tables can be streamed.

    Where the terminal is too narrow, titles are broken into lines, then names are cut inside, times
    get shorter and texts lose their ends, then columns are left out. What room that leaves is given
    back to names and times. Where even that is not enough, all of it would be in vain: the table
    stays as it is, and the terminal breaks its lines.

    Attributes:
        left_out: the titles of the columns that are not shown.
    """

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
            width: the terminal's; None where the table may be of any width.
        """
        self._columns = columns
        self._texts = [
            list(dict.fromkeys(_text(row[index]) for row in first)) for index in range(len(columns))
        ]
        contents = [max(map(width_of, texts), default=0) for texts in self._texts]
        titles = [width_of(column.title) for column in columns]
        self._widths = [max(pair) for pair in zip(contents, titles, strict=True)]
        self._shown = list(range(len(columns)))
        self._is_narrow = False
        self._names: dict[int, dict[str, str]] = {}
        self._times: dict[int, tuple[int, str]] = {}
        if width is not None and _total(self._widths) > width:
            self._fit(contents, width)
        self.left_out = [
            column.title for index, column in enumerate(columns) if index not in self._shown
        ]

    def _fit(self, contents: Sequence[int], width: int) -> None:
        """Make the table as narrow as the terminal, or leave it as it is."""
        words = [max(map(width_of, column.title.split()), default=0) for column in self._columns]
        whole = [max(pair) for pair in zip(words, contents, strict=True)]
        for name_width in (None, NAME_WIDTH, NAME_WIDTH_MIN):
            least = whole
            if name_width is not None:
                floors = [self._least(index, name_width) for index in range(len(words))]
                least = [max(pair) for pair in zip(words, floors, strict=True)]
            shown = list(range(len(words)))
            if name_width is not None:
                shown = _chosen(self._columns, least, width)
            room = width - _total([least[index] for index in shown])
            if room >= 0:
                break
        else:
            return
        widths = list(least)
        room = self._give_back(widths, whole, shown, room)
        _ease(self._columns, widths, shown, room)
        self._widths, self._shown, self._is_narrow = widths, shown, True

    def _least(self, index: int, name_width: int) -> int:
        """The narrowest that a column's texts can be."""
        column, texts = self._columns[index], self._texts[index]
        widest = max(map(width_of, texts), default=0)
        if column.names:
            widths = range(min(name_width, widest), widest)
            return next((some for some in widths if cut_names(texts, some)), widest)
        if column.times:
            return self._width_of_times(index, TIME_FORMS - 1)
        return min(widest, column.cut_to) if column.cut_to else widest

    def _width_of_times(self, index: int, form: int) -> int:
        texts = self._texts[index]
        year = self._year(index)
        return max((width_of(shorter_time(text, form, year)) for text in texts), default=0)

    def _year(self, index: int) -> str:
        """The newest year of a column's times."""
        return max((text[:4] for text in self._texts[index] if _TIME.fullmatch(text)), default="")

    def _give_back(
        self, widths: list[int], whole: Sequence[int], shown: Sequence[int], room: int
    ) -> int:
        """Give names, then texts and times, what is left of the terminal; what is left then."""
        for index in sorted(shown, key=lambda index: not self._columns[index].names):
            column, least = self._columns[index], widths[index]
            most = min(whole[index], least + room)
            if column.names:
                texts = self._texts[index]
                found = ((some, cut_names(texts, some)) for some in range(most, least - 1, -1))
                widths[index], names = next(
                    ((some, cuts) for some, cuts in found if cuts), (whole[index], {})
                )
                self._names[index] = names or {}
            elif column.times:
                forms = range(TIME_FORMS)
                form = next(one for one in forms if self._width_of_times(index, one) <= most)
                widths[index] = max(least, self._width_of_times(index, form))
                self._times[index] = form, self._year(index)
            elif column.cut_to:
                widths[index] = most
            room -= widths[index] - least
        return room

    def header(self) -> str:
        """The titles, on as many lines as they take."""
        titles = [
            _broken(self._columns[index].title, self._widths[index]) if self._is_narrow
            else [self._columns[index].title]
            for index in range(len(self._columns))
        ]  # fmt: skip
        height = max(len(titles[index]) for index in self._shown)
        padded = [[""] * (height - len(title)) + title for title in titles]
        lines = (self.line([title[row] for title in padded]) for row in range(height))
        return "\n".join(click.style(line, bold=True) for line in lines)

    def line(self, row: Sequence[str | Cell]) -> str:
        """One row."""
        parts = []
        for index in self._shown:
            column, cell, width = self._columns[index], row[index], self._widths[index]
            text = _text(cell)
            if index in self._names:
                text = self._names[index].get(text, text)
            elif index in self._times:
                text = shorter_time(text, *self._times[index])
            elif column.cut_to and self._is_narrow:
                text = cut(text, width)
            padding = " " * (width - width_of(text))
            style = cell.style if isinstance(cell, Cell) else ""
            shown = click.style(text, **_STYLES[style]) if style else text
            if not column.left:
                parts.append(padding + shown)
            else:
                parts.append(shown if index == self._shown[-1] else shown + padding)
        return GAP.join(parts).rstrip()


def _total(widths: Sequence[int]) -> int:
    shown = [width for width in widths if width]  # one without a title may have nothing to show
    return sum(shown) + len(GAP) * (len(shown) - 1)


def _chosen(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """The columns to show: all those that can be spared are left out only where that helps."""

    def excess(left_out: Sequence[int]) -> int:
        return _total([w for index, w in enumerate(widths) if index not in left_out]) - width

    spare = [index for index in range(len(columns)) if columns[index].spare]
    waiting = sorted(spare, key=lambda index: columns[index].spare)
    left_out: list[int] = []
    while waiting and excess(left_out) > 0:
        left_out.append(waiting.pop(0))
    for index in reversed(left_out):  # a wide one may have made room for those before it
        others = [other for other in left_out if other != index]
        if excess(others) <= 0:
            left_out = others
    return [index for index in range(len(columns)) if index not in left_out]


def _ease(columns: Sequence[Column], widths: list[int], shown: Sequence[int], spare: int) -> None:
    """Give columns of a terminal that are left to the titles that take the most lines."""
    for index in sorted(shown, key=lambda i: -len(_broken(columns[i].title, widths[i]))):
        title, width = columns[index].title, widths[index]
        lines = len(_broken(title, width))
        wider = (w for w in range(width, width + spare + 1) if len(_broken(title, w)) < lines)
        widths[index] = next(wider, width)
        spare -= widths[index] - width


def _broken(title: str, width: int) -> list[str]:
    """The title on lines of a width, broken between words."""
    lines: list[str] = []
    for word in title.split():
        if lines and width_of(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _text(cell: str | Cell) -> str:
    return escape(cell.text if isinstance(cell, Cell) else cell)
