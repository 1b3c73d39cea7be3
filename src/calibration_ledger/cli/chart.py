"""A chart as lines of text: what `--chart` prints.

plotille turns points and lines into characters (Braille dots, eight to a character); the axes
around them are made here, because people read round numbers and times. Each series has a marker of
its own, so that nothing is told by colour alone. Where Braille cannot be shown, all of it is ASCII.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import click

from calibration_ledger.cli.output import echo_lines
from calibration_ledger.cli.table import width_of
from calibration_ledger.cli.terminal import can_show, width_of_terminal
from calibration_ledger.core import text
from calibration_ledger.errors import needing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.charts import Axis, Panel, Series

ROWS = 14
"""How tall the space between the axes is: with them and the legend, it fits a terminal of 24."""

WIDTH = 80
"""Of a chart that no terminal shows."""

WIDTH_LEAST = 30
"""In fewer columns nothing could be told apart."""

MARKERS = "xo+#"
"""One for each series, in turn. They are ASCII, which every terminal has."""

BOTH = "*"
"""Where points of two series have the same place."""

COLOURS = ("cyan", "yellow", "magenta", "green")


class Strokes(NamedTuple):
    """The characters around and between the points.

    Attributes:
        side: the axis of y.
        corner: where the axes meet.
        floor: the axis of x.
        tick: a place on it that has a label.
        event: a line across the chart, for an event.
        dot: what lines between points are made of; empty: of Braille dots.
    """

    side: str
    corner: str
    floor: str
    tick: str
    event: str
    dot: str


BRAILLE = Strokes("│", "└", "─", "┴", "┊", "")
ASCII = Strokes("|", "+", "-", "+", ":", ".")

NEEDED = "│└─┴┊⠁⣿"
"""What an output must be able to show for `BRAILLE`."""


LEAST_SPAN = 1e-9
"""As a share of the values: what is nearer together is the same to everybody."""


class Scale:
    """From the values of an axis to shares of its length, and to round values on it."""

    def __init__(self, values: Iterable[float], axis: Axis, *, from_zero: bool) -> None:
        """Cover these values, of which there is at least one."""
        self.is_log = axis.scale == "log"
        some = list(map(self._inner, values))
        self.low, self.high = min(some), max(some)
        if from_zero:
            self.low = min(self.low, 0.0)
        if self.high - self.low <= LEAST_SPAN * max(1.0, abs(self.high)):
            around = max(0.5, abs(self.high) / 10)
            self.low, self.high = self.low - around, self.high + around

    def _inner(self, value: float) -> float:
        return log10(value) if self.is_log else value

    def share(self, value: float) -> float:
        """How far along the axis a value is: from 0 to 1."""
        return (self._inner(value) - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[float]:
        """Round values within, about so many."""
        if self.is_log:
            powers = range(floor(self.low), ceil(self.high) + 1)
            steps = [10.0**power * digit for power in powers for digit in (1, 2, 5)]
            inside = [step for step in steps if 0.0 <= self.share(step) <= 1.0]
            tens = [step for step in inside if log10(step) == round(log10(step))]
            return inside if len(inside) <= most or len(tens) < 2 else tens  # noqa: PLR2004 - a pair
        rough = (self.high - self.low) / most
        power = 10.0 ** floor(log10(rough))
        step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
        first = ceil(self.low / step)
        return [at * step for at in range(first, floor(self.high / step) + 1)]


def check_chart(form: Form) -> None:
    """See that a chart can be drawn, before anything is read.

    Raises:
        click.UsageError: the user wants the result in another form, too.
        InvalidInputError: plotille is not installed.
    """
    if form != "table":
        raise click.UsageError(
            "--chart draws for people, in a terminal: leave it out, or --format and --json."
        )
    with needing("--chart needs", "plotille"):
        import plotille  # noqa: F401 - only to see whether it is there


def print_chart(panel: Panel, labels: Sequence[str] = ()) -> None:
    """Print a panel, as wide as the terminal; see `chart_lines`."""
    strokes = BRAILLE if can_show(NEEDED, sys.stdout) else ASCII
    echo_lines(chart_lines(panel, chart_width(), strokes=strokes, labels=labels))


def chart_width() -> int:
    """How many columns a chart takes."""
    return max(WIDTH_LEAST, width_of_terminal(sys.stdout) or WIDTH)


def chart_lines(
    panel: Panel,
    width: int,
    *,
    strokes: Strokes = BRAILLE,
    labels: Sequence[str] = (),
) -> list[str]:
    """A panel as lines, at most so many columns wide, but for a colour's codes.

    Args:
        panel: what is drawn: points, with whiskers or without, and lines; at least one of them.
        width: of the terminal.
        strokes: `BRAILLE`, or `ASCII` where that cannot be shown.
        labels: what stands below the places 0, 1, 2 … of the axis of x; else its round values.
    """
    series = [_finite(one) for one in panel.series]
    if not any(one.x for one in series):
        return ["nothing to draw: no figure is finite."]
    heights = [y for one in series for y in (*one.y, *one.low, *one.high)]
    places = [float(x) for one in series for x in one.x]
    at_x = Scale([*places, *(event.x for event in panel.events)], panel.x, from_zero=False)
    at_y = Scale(heights, panel.y, from_zero=panel.y.scale == "linear")
    told = {tick: _told(tick, panel.y) for tick in at_y.ticks(5)}
    gutter = max(map(width_of, told.values()))
    field = _Field(width - gutter - 2, at_x, at_y, strokes)
    for event in panel.events:
        field.event(event.x)
    for one, colour in zip(series, COLOURS, strict=False):
        field.lines(one, colour)
    for one, marker, colour in zip(series, MARKERS, COLOURS, strict=False):
        field.points(one, marker, colour)
    names = {field.row(tick): label for tick, label in told.items()}
    sides = [f"{names.get(row, ''):>{gutter}} {strokes.side}" for row in range(ROWS)]
    if labels:
        below = [(field.column(place), label) for place, label in enumerate(labels)]
    else:
        ticks = at_x.ticks(field.columns // 8)
        below = [(field.column(tick), f"{tick:.4g}") for tick in ticks]
    legend = [f"{marker} {one.name}" for one, marker in zip(series, MARKERS, strict=False)]
    legend += [f"{BOTH} both"] * field.is_shared
    legend += [f"{strokes.event} {event.text}" for event in panel.events]
    return [
        *wrap(text.escape(panel.title), width),
        *wrap(panel.y.title, width),
        *map(str.__add__, reversed(sides), field.rows()),
        *_floor(field.columns, gutter, below, strokes),
        *(f"{line:^{width}}".rstrip() for line in wrap(panel.x.title, width)),
        *_legend(legend, width),
    ]


def _told(tick: float, axis: Axis) -> str:
    if not tick:
        return "0"
    return text.duration(tick) if axis.unit == "ms" else f"{tick:.4g} {axis.unit}".rstrip()


class _Field:
    """The space between the axes, in whose coordinates one character is 1 wide and 1 tall.

    Attributes:
        columns: how wide it is.
        is_shared: whether two series of points have a place in common.
    """

    def __init__(self, columns: int, at_x: Scale, at_y: Scale, strokes: Strokes) -> None:
        from plotille import Canvas

        self.columns = columns
        self.is_shared = False
        self._at_x, self._at_y, self._strokes = at_x, at_y, strokes
        self._canvas = Canvas(columns, ROWS, 0, 0, columns, ROWS)
        self._taken: dict[tuple[int, int], str] = {}

    def column(self, x: float) -> int:
        """The column of a value."""
        return round(self._across(x))

    def row(self, y: float) -> int:
        """The row of a value, from below."""
        return round(self._up(y))

    def _across(self, x: float) -> float:
        return self._at_x.share(x) * (self.columns - 1)

    def _up(self, y: float) -> float:
        return self._at_y.share(y) * (ROWS - 1)

    def event(self, x: float) -> None:
        """Draw a line across."""
        for row in range(ROWS):
            self._put((self.column(x), row), self._strokes.event, None)

    def lines(self, series: Series, colour: str) -> None:
        """Draw the whiskers of a series, and the line through it."""
        x = [self._across(float(one)) for one in series.x]
        for at, low, high in zip(x, series.low, series.high, strict=False):
            # In the very column of its marker, on whichever side of it the value is.
            self._line((round(at), self._up(low)), (round(at), self._up(high)), colour)
        if series.mark == "line":
            for one, other in pairwise(zip(x, map(self._up, series.y), strict=True)):
                self._line(one, other, colour)

    def points(self, series: Series, marker: str, colour: str) -> None:
        """Draw the marker of a series at each of its points."""
        for x, y in zip(map(float, series.x), series.y, strict=True):
            cell = self.column(x), self.row(y)
            is_mine = series.mark == "line" or self._taken.setdefault(cell, marker) == marker
            self.is_shared |= not is_mine
            self._put(cell, marker if is_mine else BOTH, colour)

    def _put(self, cell: tuple[int, int], marker: str, colour: str | None) -> None:
        self._canvas.point(cell[0] + 0.5, cell[1] + 0.5, color=colour, marker=marker)

    def _line(self, one: tuple[float, float], other: tuple[float, float], colour: str) -> None:
        (x0, y0), (x1, y1) = one, other
        if not self._strokes.dot:
            self._canvas.line(x0 + 0.5, y0 + 0.5, x1 + 0.5, y1 + 0.5, color=colour)
            return
        steps = max(1, ceil(max(abs(x1 - x0), abs(y1 - y0))))
        for part in (step / steps for step in range(steps + 1)):
            cell = round(x0 + (x1 - x0) * part), round(y0 + (y1 - y0) * part)
            self._put(cell, self._strokes.dot, colour)

    def rows(self) -> list[str]:
        """What was drawn, the uppermost row first."""
        drawn = self._canvas.plot(linesep="\n").replace("\N{BRAILLE PATTERN BLANK}", " ")
        return [row.rstrip() for row in drawn.split("\n")]


def _finite(series: Series) -> Series:
    """The series without points that have no place."""
    if all(map(isfinite, (*series.y, *series.low, *series.high))):
        return series
    kept = [at for at, y in enumerate(series.y) if isfinite(y)]
    x = tuple(float(series.x[at]) for at in kept)
    return replace(series, x=x, y=tuple(series.y[at] for at in kept), low=(), high=())


def _floor(
    columns: int, gutter: int, below: Sequence[tuple[int, str]], strokes: Strokes
) -> list[str]:
    """The axis of x, and below it as many labels as there is room for."""
    line, words = [strokes.floor] * columns, ""
    left, right = gutter + 2, gutter + 2 + columns
    for column, label in below:
        half = width_of(label) // 2
        begin = max(0, min(left + column - half, right - width_of(label)))
        if not words or begin >= width_of(words) + 2:
            words = words.ljust(begin) + label
            line[column] = strokes.tick
    return [" " * (gutter + 1) + strokes.corner + "".join(line), words]


def _legend(entries: Sequence[str], width: int) -> list[str]:
    """Which marker is which, on as many lines as it takes."""
    lines: list[str] = []
    for entry in map(text.escape, entries):
        if lines and width_of(lines[-1]) + 3 + width_of(entry) <= width:
            lines[-1] += f"   {entry}"
        else:
            lines += wrap(entry, width, subsequent_indent="  ")
    return lines
