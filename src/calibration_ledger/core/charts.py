"""What a chart shows, whoever draws it: a page, a picture, a terminal. Nothing is drawn here.

A chart is made of few, aggregated points, however long the history is. Whoever draws it needs no
knowledge of ledgers, and whoever reads a history needs none of drawing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from calibration_ledger.core.html import Column, Tabular, table
from calibration_ledger.core.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

ChartKind = Literal[
    "models", "actual", "error", "coefficients", "ranges", "sweep", "tokens", "speed"
]
"""The charts there are:

- `models`: all models side by side, as forecast for one prompt;
- `actual`: predicted against actual;
- `error`: the error over time, with what changed the calibration;
- `coefficients`: the learnt coefficients over time;
- `ranges`: how often the forecast's ranges held, promised against found;
- `sweep`: the error that each rule and alpha would have had, with the live one;
- `tokens`: latency by prompt and by completion length, with the learnt line;
- `speed`: completion tokens in a second, day by day.
"""

Scale = Literal["linear", "log", "time", "names"]
"""How an axis runs. On `time`, values are seconds since 1970 in UTC; on `names`, texts."""

Mark = Literal["points", "line", "steps", "band", "cells"]
"""How a series is drawn. A `band` lies between `low` and `high`; `points` with both have whiskers;
`cells` are rectangles from (x, y) to (x_end, y_end), the stronger the greater their count."""


@dataclass(frozen=True, slots=True)
class Axis(Value):
    """One axis.

    Attributes:
        title: what it shows, in plain words, without the unit.
        unit: `ms`, `tokens`, `%` ...; empty where there is none.
        scale: how it runs.
    """

    title: str
    unit: str = ""
    scale: Scale = "linear"


@dataclass(frozen=True, slots=True)
class Series(Value):
    """Points that belong together. Each tuple is as long as `x`, or empty where it is not needed.

    Attributes:
        name: what stands in the legend.
        mark: how it is drawn.
        x: where the points are; texts on an axis of names.
        y: their height.
        low: the lower ends of a band or of whiskers.
        high: their upper ends.
        x_end: the right edges of cells.
        y_end: the upper edges of cells.
        count: how many calls each point stands for.
        labels: a text about each point, for a tooltip.
    """

    name: str
    mark: Mark
    x: tuple[float, ...] | tuple[str, ...]
    y: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    x_end: tuple[float, ...] = ()
    y_end: tuple[float, ...] = ()
    count: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChartEvent(Value):
    """A moment worth a line across a chart: a reset, a recalibration, a voiding, a drift.

    Attributes:
        x: where on the panel's axis of x.
        kind: what it was: `reset`, `recalibrated`, `voided`, `imported` (a state), `archived` or
            `drift`; or `live`, where the live setting is.
        text: a sentence about it.
    """

    x: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Panel(Value):
    """One system of axes with its series, the lowest first, and events across them."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    events: tuple[ChartEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart(Value, Tabular):
    """A chart.

    Attributes:
        kind: which.
        model: the model; None where it is of several.
        title: its heading.
        text: what it says, in one or two sentences with its main figures: for those who cannot
            see it, and for everybody else as its caption.
        panels: what is drawn, side by side or one below the other. Empty where there is nothing
            to draw yet: `text` says why.
    """

    kind: ChartKind
    model: str | None
    title: str
    text: str
    panels: tuple[Panel, ...]

    @classmethod
    def _html_table(cls, values: Sequence[Chart]) -> str:
        """What each says; `report` draws them."""
        columns = [
            Column("chart", lambda one: one.title, left=True),
            Column("what it says", lambda one: one.text, left=True),
        ]
        return table("Charts", columns, values)
