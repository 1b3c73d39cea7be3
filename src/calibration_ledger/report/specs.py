"""A chart as a Vega-Lite specification, whatever it shows: only its marks and axes decide.

Nothing is told by colour alone: each series has its own dash pattern or shape, too, and so has each
kind of event. Texts are data, never expressions, because names are other people's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from calibration_ledger.core.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from calibration_ledger.core.charts import Axis, Chart, ChartEvent, Panel, Series

Spec = dict[str, Any]
Theme = Literal["light", "dark", "page"]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""The name of the language, by which a Vega-Lite program knows it. Nothing fetches it."""


@dataclass(frozen=True, slots=True)
class Colours:
    """What a theme paints with.

    Attributes:
        paper: behind the chart.
        ink: titles and names.
        muted: labels of axes, and lines of events.
        grid: lines behind the data.
        series: one for each series, in turn.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]


THEMES: Mapping[Theme, Colours] = {
    # After Okabe and Ito's colours, which the colour-blind tell apart, darkened until each has a
    # contrast of 4.5 : 1 with the paper; texts have 7 : 1. tests/report holds them to that.
    "light": Colours(
        paper="#ffffff",
        ink="#17212e",
        muted="#4a5666",
        grid="#e3e7ed",
        series=("#0a68a8", "#b04a00", "#00775a", "#9a3f7d"),
    ),
    "dark": Colours(
        paper="#161c24",
        ink="#e8edf3",
        muted="#a9b4c2",
        grid="#2b3440",
        series=("#62b5f5", "#f0a04b", "#3fc79a", "#e192c6"),
    ),
    # The page sets these, by its own theme: so a chart is drawn once for both, and for paper.
    "page": Colours(
        paper="transparent",
        ink="var(--ink)",
        muted="var(--muted)",
        grid="var(--grid)",
        series=("var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)"),
    ),
}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
"""What the reader's system uses itself: nothing is fetched."""

DASHES: Sequence[list[int]] = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
SHAPES = ("circle", "triangle-up", "diamond", "wedge")

EVENT_DASHES: Mapping[str, list[int]] = {
    "reset": [1, 0],
    "recalibrated": [6, 3],
    "voided": [1, 3],
    "drift": [9, 3, 2, 3],
    "live": [4, 2],
}
EVENT_SHAPES: Mapping[str, str] = {
    "reset": "triangle-right",
    "recalibrated": "triangle-down",
    "voided": "cross",
    "drift": "arrow",
    "live": "triangle-down",
}
EVENT_NAMES: Mapping[str, str] = {"live": "live setting"}

PANEL_PX = 220
"""The height of what is drawn between the axes."""

NAME_PX = 30
"""The height of each name on an axis of names."""

_AXIS_PX = 60
"""About how wide an axis on the side is, with its labels and its title."""

_CHARACTER_PX = 6.2
"""About how wide a character of a subtitle is: it is wrapped before it is drawn."""


def spec(chart: Chart, *, width: int = 720, theme: Theme = "light", utc: bool = False) -> Spec:
    """The whole chart as one picture: its title, its text below, and all of its panels.

    Args:
        chart: what to draw.
        width: of the picture, in pixels.
        theme: `light` or `dark`; `page` takes the colours from the page around it.
        utc: whether axes of time are in UTC; otherwise they are in the zone of whoever draws.

    Returns:
        A specification in Vega-Lite 6.
    """
    colours = THEMES[theme]
    inner = width - 24
    # Of several panels, Vega-Lite lays out what lies between the axes, not the whole.
    wide = inner if len(chart.panels) == 1 else inner - _AXIS_PX
    panels = [_panel(one, colours, wide, utc=utc) for one in chart.panels]
    if len(panels) > 1:
        for one, panel in zip(panels, chart.panels, strict=True):
            one["title"] = {
                "text": escape(panel.title),
                "fontSize": 12,
                "offset": 6,
                "frame": "group",
            }
    return {
        "$schema": SCHEMA,
        "title": {
            "text": wrap(escape(chart.title), int(inner / _CHARACTER_PX / 1.3)) or "",
            "subtitle": wrap(escape(chart.text), int(inner / _CHARACTER_PX)),
        },
        "description": escape(chart.text),
        "background": colours.paper,
        "padding": 12,
        **({"vconcat": panels, "spacing": 22} if len(panels) != 1 else panels[0]),
        "config": _config(colours),
    }


def panel_spec(panel: Panel, *, theme: Theme = "page", utc: bool = False) -> Spec:
    """One panel without its title, as wide as the element that it is drawn into."""
    colours = THEMES[theme]
    return {
        "$schema": SCHEMA,
        "background": colours.paper,
        "padding": {"left": 0, "right": 4, "top": 4, "bottom": 0},
        **_panel(panel, colours, "container", utc=utc),
        "config": _config(colours),
    }


def _panel(panel: Panel, colours: Colours, width: int | Literal["container"], *, utc: bool) -> Spec:
    lies = panel.x.scale == "names"  # names are read on the side, not head over heels
    view = _View(panel, lies=lies, utc=utc)
    layers: list[Spec] = []
    looks = _looks(panel.series, colours)
    for series, look in zip(panel.series, looks, strict=True):
        layers += _LAYERS[series.mark](series, look, view) if series.x else []
    layers += _event_layers(panel.events, colours, view)
    if key := _key(panel, looks, colours, width):
        layers.append(key)
    rows = max((len(set(series.x)) for series in panel.series), default=1) if lies else 0
    return {
        "width": width,
        "height": {"step": NAME_PX} if lies and rows else PANEL_PX,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": layers,
    }


@dataclass(frozen=True, slots=True)
class _Look:
    """How one series is told from the others."""

    colour: str
    dash: list[int]
    shape: str


def _looks(many: Sequence[Series], colours: Colours) -> list[_Look]:
    """A look for each series: lines differ by their dashes, points by their shapes."""
    dashes, shapes = cycle(DASHES), cycle(SHAPES)
    return [
        _Look(
            colour,
            next(dashes) if series.mark in _KEY_LINES else DASHES[0],
            next(shapes) if series.mark == "points" else _KEY_SHAPES[series.mark],
        )
        for series, colour in zip(many, cycle(colours.series), strict=False)
    ]


_KEY_LINES = {"line", "steps"}
_KEY_SHAPES = {"line": "stroke", "steps": "stroke", "band": "square", "cells": "square"}
"""What stands for a mark without shapes in the legend; `stroke` is a piece of the line."""


class _View:
    """The axes of a panel: where a number goes, and how it is told."""

    def __init__(self, panel: Panel, *, lies: bool, utc: bool) -> None:
        self.panel = panel
        self.across, self.up = ("y", "x") if lies else ("x", "y")
        self._utc = utc
        self._x = _channel(panel.x, "x", utc=utc, lies=lies, zero=False)
        self._y = _channel(panel.y, "y", utc=utc, lies=lies, zero=_from_zero(panel))

    def at(self, *, low: str = "y", high: str | None = None, x_end: str | None = None) -> Spec:
        """The encoding of positions: x, and y or a range of it."""
        found = {self.across: dict(self._x), self.up: {**self._y, "field": low}}
        if high is not None:
            found[f"{self.up}2"] = {"field": high}
        if x_end is not None:
            found[f"{self.across}2"] = {"field": x_end}
        return found

    def rows(self, series: Series, *names: str) -> list[Spec]:
        """The points as rows with these fields besides x."""
        columns = {name: getattr(series, name) for name in names if getattr(series, name)}
        times = {
            name
            for name, axis in (
                ("x", self.panel.x),
                ("x_end", self.panel.x),
                *((name, self.panel.y) for name in ("y", "y_end", "low", "high")),
            )
            if axis.scale == "time"
        }
        found = []
        for at, x in enumerate(series.x):
            row: Spec = {"x": escape(x) if isinstance(x, str) else x}
            row |= {name: column[at] for name, column in columns.items()}
            row |= {name: row[name] * 1000 for name in times & row.keys()}
            found.append(row | ({"text": escape(series.labels[at])} if series.labels else {}))
        return found

    def tooltip(self, series: Series, *names: str) -> Spec:
        """What is told of a point under the pointer. The page's tables tell it to everybody."""
        if series.labels:
            return {"tooltip": {"field": "text", "type": "nominal"}}
        titles = {
            "x": (self.panel.x, self.panel.x.title),
            "x_end": (self.panel.x, "to"),
            "y": (self.panel.y, series.name or self.panel.y.title),
            "y_end": (self.panel.y, "to"),
            "low": (self.panel.y, "from"),
            "high": (self.panel.y, "to"),
        }
        told = [
            {**_told(titles[name][0], utc=self._utc), "field": name, "title": titles[name][1]}
            for name in ("x", *names)
            if name == "x" or getattr(series, name)
        ]
        if series.count:
            told.append(
                {"field": "count", "type": "quantitative", "title": "calls", "format": ",d"}
            )
        return {"tooltip": told}


def _from_zero(panel: Panel) -> bool:
    """Whether an axis of amounts may start at 0 without hiding what is to be seen."""
    return panel.y.scale == "linear" and panel.y.unit != "%"


def _channel(axis: Axis, name: str, *, utc: bool, lies: bool, zero: bool) -> Spec:
    """How a position on this axis is read from a row."""
    plain = not axis.unit or axis.unit in _TICKS or axis.unit in axis.title.lower()
    title = axis.title if plain else f"{axis.title} ({axis.unit})"
    found: Spec = {"field": name, "title": title}
    if axis.scale == "names":
        look = {"labelLimit": 170, "title": None, "grid": False, "domain": False, "ticks": False}
        return found | {"type": "nominal", "sort": None, "axis": look}
    if axis.scale == "time":
        return found | {
            "type": "temporal",
            "scale": {"type": "utc" if utc else "time"},
            "axis": {"grid": False, "labelOverlap": True, "tickCount": {"signal": "width / 90"}},
        }
    kind = {"type": "log"} if axis.scale == "log" else {"zero": zero, "nice": True}
    across = (name == "x") != lies
    count = {"signal": "max(3, min(8, width / 80))"} if across else 5
    ticks = {"labelExpr": _TICKS.get(axis.unit, _AMOUNT)}
    return found | {
        "type": "quantitative",
        "scale": kind,
        "axis": {"tickCount": count, "labelOverlap": True, "grid": not across or lies, **ticks},
    }


_AMOUNT = "format(datum.value, abs(datum.value) < 10000 ? ',~g' : '~s')"
_TICKS: Mapping[str, str] = {
    "ms": (
        "datum.value == 0 ? '0' : abs(datum.value) < 1000 ? format(datum.value, '~g') + ' ms'"
        " : format(datum.value / 1000, ',~g') + ' s'"
    ),
    "%": "format(datum.value, '~g') + ' %'",
}
"""How the ticks of a unit are written: a duration as ms or s, by its size."""


def _told(axis: Axis, *, utc: bool) -> Spec:
    """How a value of this axis is written out."""
    if axis.scale == "names":
        return {"type": "nominal"}
    if axis.scale == "time":
        unit = "utcyearmonthdatehoursminutes" if utc else "yearmonthdatehoursminutes"
        return {"type": "temporal", "timeUnit": unit, "format": "%Y-%m-%d %H:%M"}
    return {"type": "quantitative", "format": ",.4~g"}


def _points(series: Series, look: _Look, view: _View) -> list[Spec]:
    """Points; with whiskers where there is a range."""
    layers: list[Spec] = []
    rows = view.rows(series, "y", "low", "high", "count")
    data = {"values": rows}
    paint = {"color": look.colour}
    if series.low and series.high:
        whisker = {"type": "rule", "strokeWidth": 2, "strokeCap": "round", **paint}
        whisker |= {"opacity": 0.55, "aria": False}
        encoding = view.at(low="low", high="high")
        layers.append({"data": data, "mark": whisker, "encoding": encoding})
    mark = {"type": "point", "filled": True, "shape": look.shape, "opacity": 0.75, **paint}
    size: Spec = {"size": {"value": 28 if len(rows) > 60 else 52}}  # noqa: PLR2004 - a crowd
    if series.count and len(set(series.count)) > 1:
        size = {
            "size": {
                "field": "count",
                "type": "quantitative",
                "scale": {"type": "sqrt", "range": [14, 120], "zero": False},
                "legend": None,
            }
        }
    told = view.tooltip(series, "y", "low", "high")
    layers.append({"data": data, "mark": mark, "encoding": {**view.at(), **size, **told}})
    return layers


def _line(series: Series, look: _Look, view: _View, interpolate: str = "linear") -> list[Spec]:
    mark = {
        "type": "line",
        "color": look.colour,
        "strokeDash": look.dash,
        "strokeWidth": 2,
        "strokeJoin": "round",
        "interpolate": interpolate,
    }
    data = {"values": view.rows(series, "y", "count")}
    order = {"order": {"value": None}}  # as they come: a curve may turn back
    layers: list[Spec] = [{"data": data, "mark": mark, "encoding": {**view.at(), **order}}]
    # What the pointer meets is larger than the line.
    meet = {"type": "point", "opacity": 0, "filled": True, "size": 120, "aria": False}
    told = view.tooltip(series, "y")
    return [*layers, {"data": data, "mark": meet, "encoding": {**view.at(), **told}}]


def _steps(series: Series, look: _Look, view: _View) -> list[Spec]:
    return _line(series, look, view, "step-after")


def _band(series: Series, look: _Look, view: _View) -> list[Spec]:
    mark = {"type": "area", "color": look.colour, "opacity": 0.22}
    data = {"values": view.rows(series, "low", "high", "count")}
    told = view.tooltip(series, "low", "high")
    return [{"data": data, "mark": mark, "encoding": {**view.at(low="low", high="high"), **told}}]


def _cells(series: Series, look: _Look, view: _View) -> list[Spec]:
    mark = {"type": "rect", "color": look.colour}
    data = {"values": view.rows(series, "y", "x_end", "y_end", "count")}
    encoding = view.at(high="y_end", x_end="x_end")
    if series.count:
        encoding["fillOpacity"] = {
            "field": "count",
            "type": "quantitative",
            "scale": {"type": "log", "range": [0.18, 1]},
            "legend": None,
        }
    told = view.tooltip(series, "x_end", "y", "y_end")
    return [{"data": data, "mark": mark, "encoding": {**encoding, **told}}]


_LAYERS = {
    "points": _points,
    "line": _line,
    "steps": _steps,
    "band": _band,
    "cells": _cells,
}


def _event_layers(events: Iterable[ChartEvent], colours: Colours, view: _View) -> Iterable[Spec]:
    """A line across the panel for each event, with the shape of its kind at the top."""
    by_kind: dict[str, list[ChartEvent]] = {}
    for event in events:
        by_kind.setdefault(event.kind, []).append(event)
    factor = 1000 if view.panel.x.scale == "time" else 1
    for kind, found in by_kind.items():
        data = {"values": [{"x": one.x * factor, "text": escape(one.text)} for one in found]}
        across = view.at()[view.across]
        told = {"tooltip": {"field": "text", "type": "nominal"}}
        rule = {"type": "rule", "color": colours.muted, "strokeWidth": 1.25}
        rule |= {"strokeDash": EVENT_DASHES.get(kind, [3, 3]), "aria": False}
        head = {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": colours.ink}
        head |= {"shape": EVENT_SHAPES.get(kind, "circle")}
        yield {"data": data, "mark": rule, "encoding": {view.across: across, **told}}
        yield {
            "data": data,
            "mark": head,
            "encoding": {view.across: across, view.up: {"value": 0}, **told},
        }


def _key(
    panel: Panel, looks: Sequence[_Look], colours: Colours, width: int | Literal["container"]
) -> Spec | None:
    """The legend: a layer that draws nothing else. None where there is nothing to tell apart."""
    kinds = list(dict.fromkeys(event.kind for event in panel.events))
    names = [escape(series.name) for series in panel.series]
    names += [EVENT_NAMES.get(kind, kind) for kind in kinds]
    if len(names) < 2:  # noqa: PLR2004 - two to tell apart
        return None
    paints = [*(look.colour for look in looks), *(colours.ink for _ in kinds)]
    shapes = [*(look.shape for look in looks), *(EVENT_SHAPES.get(one, "circle") for one in kinds)]
    dashes = [*(look.dash for look in looks), *(DASHES[0] for _ in kinds)]

    def scale(values: Sequence[Any]) -> Spec:
        legend = {
            "title": None,
            "orient": "top",
            "direction": "horizontal",
            "columns": 2 if width == "container" and len(names) > 2 else len(names),  # noqa: PLR2004 - a phone
            "symbolSize": 110,
            "symbolStrokeWidth": 2,
            "symbolOpacity": 1,
            "labelLimit": 150,
        }
        return {
            "field": "name",
            "type": "nominal",
            "scale": {"domain": names, "range": values},
            "legend": legend,
        }

    return {
        "data": {"values": []},
        "mark": {"type": "point", "aria": False},
        "encoding": {
            "fill": scale(paints),
            "stroke": scale(paints),
            "shape": scale(shapes),
            "strokeDash": scale(dashes),
        },
    }


def _config(colours: Colours) -> Spec:
    """The look of everything that is no data."""
    label = {"labelColor": colours.muted, "labelFontSize": 11, "labelFont": FONT}
    title = {"titleColor": colours.muted, "titleFontSize": 11, "titleFont": FONT}
    return {
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            **label,
            **title,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "domainColor": colours.grid,
            "gridColor": colours.grid,
            "tickColor": colours.grid,
            "labelPadding": 5,
            "tickSize": 4,
        },
        "axisY": {"domain": False, "ticks": False},
        "legend": {**label, **title, "labelColor": colours.ink, "offset": 8, "columnPadding": 16},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "color": colours.ink,
            "subtitleColor": colours.muted,
            "fontSize": 15,
            "fontWeight": 600,
            "subtitleFontSize": 12,
            "subtitlePadding": 6,
            "subtitleLineHeight": 16,
            "offset": 14,
        },
    }
