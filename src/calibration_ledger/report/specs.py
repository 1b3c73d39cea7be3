"""A chart as a Vega-Lite specification, whatever it shows: only its marks and axes decide.

Nothing is told by colour alone: each series has its own dash pattern or shape, too, and so has each
kind of event. Texts are data, never expressions, because names are other people's.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from math import ceil, floor, log10
from sys import float_info
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from calibration_ledger.core.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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

SHAPES_OF_RANGES = ("square", "diamond", "wedge")
"""What stands for the bolder ranges in a legend; the first one is a line."""

EVENT_DASHES: Mapping[str, list[int]] = {
    "reset": [1, 0],
    "recalibrated": [6, 3],
    "voided": [1, 3],
    "imported": [3, 3],
    "archived": [6, 3, 1, 3, 1, 3],
    "drift": [9, 3, 2, 3],
    "live": [4, 2],
}
EVENT_SHAPES: Mapping[str, str] = {
    "reset": "triangle-right",
    "recalibrated": "triangle-down",
    "voided": "cross",
    "imported": "triangle-left",
    "archived": "M-0.8,-0.8L0.8,-0.8L-0.8,0.8L0.8,0.8Z",  # an hourglass
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
    datasets: dict[str, list[Spec]] = {}
    panels = []
    for at, one in enumerate(chart.panels):
        view = _View(one, utc=utc, prefix=f"{at}-")
        panels.append(_panel(view, colours, wide))
        datasets |= view.datasets
    if len(panels) > 1:
        for drawn, panel in zip(panels, chart.panels, strict=True):
            drawn["title"] = {
                "text": escape(panel.title),
                "fontSize": 12,
                "offset": 6,
                "frame": "group",
            }
    return {
        "$schema": SCHEMA,
        "title": {
            "text": _wrapped(chart.title, inner / _CHARACTER_PX / 1.3) or "",
            "subtitle": _wrapped(chart.text, inner / _CHARACTER_PX),
        },
        "description": escape(chart.text),
        "background": colours.paper,
        "padding": 12,
        "datasets": datasets,
        **({"vconcat": panels, "spacing": 22, **_OWN_LEGENDS} if len(panels) != 1 else panels[0]),
        "config": _config(colours),
    }


def _wrapped(words: str, width: float) -> list[str]:
    """Lines of a title; a name with hyphens stays in one piece."""
    return wrap(escape(words), int(width), break_on_hyphens=False)


_OWN_LEGENDS: Spec = {
    "resolve": {
        "scale": dict.fromkeys(("fill", "stroke", "shape", "strokeDash"), "independent"),
    }
}
"""Else Vega-Lite makes one legend of those of all panels, with the wrong symbols."""


def panel_spec(panel: Panel, *, theme: Theme = "page", utc: bool = False) -> Spec:
    """One panel without its title, as wide as the element that it is drawn into.

    Its `datasets` are `s0`, `s1` ... for its series, and one for each kind of event. Its `usermeta`
    says how wide a column of its legend is, in pixels, so that the page can tell how many fit.
    """
    colours = THEMES[theme]
    view = _View(panel, utc=utc)
    names = _key_names(panel)
    return {
        "$schema": SCHEMA,
        "background": colours.paper,
        "padding": {"left": 0, "right": 4, "top": 4, "bottom": 0},
        **_panel(view, colours, "container"),
        "datasets": view.datasets,
        "usermeta": {"legend_px": _legend_px(names) if names else 0},
        "config": _config(colours),
    }


def _panel(view: _View, colours: Colours, width: int | Literal["container"]) -> Spec:
    panel = view.panel
    layers: list[Spec] = []
    looks = _looks(panel, colours)
    for at, look in enumerate(looks):
        layers += _LAYERS[panel.series[at].mark](at, look, view) if panel.series[at].x else []
    layers += _event_layers(panel.events, colours, view)
    if key := _key(panel, looks, colours, width):
        layers.append(key)
    rows = max((len(set(series.x)) for series in panel.series), default=1) if view.lies else 0
    return {
        "width": width,
        "height": NAME_PX * rows or PANEL_PX,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "layer": layers,
    }


@dataclass(frozen=True, slots=True)
class _Look:
    """How one series is told from the others.

    Attributes:
        colour: of all of it; of bands that lie in one another, the inner one is stronger.
        dash: of its line.
        shape: of its points, or what stands for it in the legend.
        width: of its line, in pixels; of ranges on one line, the inner one is bolder.
    """

    colour: str
    dash: list[int]
    shape: str
    width: float = 2.0


def _looks(panel: Panel, colours: Colours) -> list[_Look]:
    """A look for each series: lines differ by their dashes, points by their shapes.

    A middle line has the colour of the bands around it, and so have ranges of one another.
    """
    hues, dashes, shapes = cycle(colours.series), cycle(DASHES), cycle(SHAPES)
    of_bands = next(hues) if any(one.mark == "band" for one in panel.series) else None
    of_middle = of_bands
    bands = 0
    found = []
    for at, series in enumerate(panel.series):
        if series.mark == "band":
            bands += 1
            found.append(_Look(_thin(of_bands or "", 12 + 12 * bands), DASHES[0], "square"))
        elif panel.x.scale == "names" and series.low:
            shape = "stroke" if at == 0 else SHAPES_OF_RANGES[(at - 1) % len(SHAPES_OF_RANGES)]
            found.append(_Look(colours.series[0], DASHES[0], shape, width=2.0 + 4.0 * at))
        elif series.mark in _LINES:
            found.append(_Look(of_middle or next(hues), next(dashes), "stroke"))
            of_middle = None
        elif series.mark == "points":
            found.append(_Look(next(hues), DASHES[0], next(shapes)))
        else:
            found.append(_Look(next(hues), DASHES[0], "square"))
    return found


def _thin(colour: str, percent: int) -> str:
    """The colour, that much opaque."""
    if colour.startswith("#"):
        return f"{colour}{round(2.55 * percent):02x}"
    return f"color-mix(in srgb, {colour} {percent}%, transparent)"


_LINES = {"line", "steps"}


class _View:
    """The axes of a panel: where a number goes, and how it is told.

    Attributes:
        panel: whose they are.
        lies: whether names stand on the side, where they are read, instead of head over heels.
        across: the channel of x; the other one if it lies.
        up: the channel of y.
        datasets: the rows that layers draw, by name.
    """

    def __init__(self, panel: Panel, *, utc: bool, prefix: str = "") -> None:
        self.panel = panel
        self.lies = lies = panel.x.scale == "names"
        self.across, self.up = ("y", "x") if lies else ("x", "y")
        self.datasets: dict[str, list[Spec]] = {}
        self._prefix = prefix
        self._utc = utc
        self._x = _channel(panel, "x", utc=utc, lies=lies)
        self._y = _channel(panel, "y", utc=utc, lies=lies)

    def at(self, *, low: str = "y", high: str | None = None, x_end: str | None = None) -> Spec:
        """The encoding of positions: x, and y or a range of it."""
        found = {self.across: dict(self._x), self.up: {**self._y, "field": low}}
        if high is not None:
            found[f"{self.up}2"] = {"field": high}
        if x_end is not None:
            found[f"{self.across}2"] = {"field": x_end}
        return found

    def keep(self, name: str, rows: list[Spec]) -> Spec:
        """Keep rows for layers, which name them by what this gives."""
        self.datasets[self._prefix + name] = rows
        return {"name": self._prefix + name}

    def rows(self, at: int, *names: str) -> Spec:
        """Keep the points of a series, as rows with these fields besides x."""
        series = self.panel.series[at]
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
        for place, x in enumerate(series.x):
            row: Spec = {"x": escape(x) if isinstance(x, str) else x}
            row |= {name: column[place] for name, column in columns.items()}
            row |= {name: row[name] * 1000 for name in times & row.keys()}
            found.append(row | ({"text": escape(series.labels[place])} if series.labels else {}))
        return self.keep(f"s{at}", found)

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


def _channel(panel: Panel, name: Literal["x", "y"], *, utc: bool, lies: bool) -> Spec:
    """How a position on this axis is read from a row."""
    axis: Axis = getattr(panel, name)
    plain = not axis.unit or axis.unit in _TICKS or axis.unit in axis.title.lower()
    title: str | None = axis.title if plain else f"{axis.title} ({axis.unit})"
    if plain and axis.title.lower() == panel.title.lower():
        title = None  # it is told above
    found: Spec = {"field": name, "title": title and title[:1].upper() + title[1:]}
    if axis.scale == "names":
        look = {"labelLimit": 170, "title": None, "grid": False, "domain": False, "ticks": False}
        return found | {"type": "nominal", "sort": None, "axis": look}
    across = (name == "x") != lies
    if axis.scale == "time":
        look = {"grid": False, "labelOverlap": True, **_time_ticks(panel, name, utc=utc)}
        look["title"] = None if axis.title in {"time", "day"} else found["title"]
        return found | {
            "type": "temporal",
            "scale": {"type": "utc" if utc else "time"},
            "axis": look,
        }
    ticks: Spec = {"labelExpr": _TICKS.get(axis.unit, _AMOUNT), "labelOverlap": "greedy"}
    ticks["grid"] = not across or lies
    if axis.scale == "log":
        low, high, values = _log_ticks(_values(panel, name))
        scale: Spec = {"type": "log", "domain": [low, high], "nice": False}
        ticks |= {"values": values}
    else:
        # An axis of amounts starts at 0, where that hides nothing of what is to be seen.
        scale = {"zero": name == "y" and axis.unit != "%", "nice": True}
        ticks |= {"tickCount": {"signal": "max(3, min(8, width / 80))"} if across else 5}
    return found | {"type": "quantitative", "scale": scale, "axis": ticks}


def _time_ticks(panel: Panel, name: Literal["x", "y"], *, utc: bool) -> Spec:
    """Where an axis of time has ticks, and how they are written.

    A few days, or one moment, have their own: ticks that are made for times lie between them. The
    first of the others has the day or the year below it, which the others leave out.
    """
    axis: Axis = getattr(panel, name)
    places = sorted(set(_values(panel, name)))
    if len(places) <= (_DAY_TICKS if axis.title == "day" else 1):
        form = "%Y-%m-%d" if axis.title == "day" else "%Y-%m-%d %H:%M:%S"
        return {"values": [1000 * at for at in places], "format": form}
    day_or_year = "%Y-%m-%d" if places[-1] - places[0] < _FEW_DAYS_S else "%Y"
    told = f"{'utc' if utc else 'time'}Format(datum.value, '{day_or_year}')"
    below = f"datum.index == 0 && datum.label != {told} ? {told} : ''"
    return {
        "tickCount": {"signal": "max(2, floor(width / 90))"},
        "format": _MOMENTS,
        "labelExpr": f"[datum.label, {below}]",
    }


_DAY_TICKS = 5
"""Days that have a tick each, at the most."""

_FEW_DAYS_S = 2 * 86_400
"""A stretch of time within which ticks are times of a day."""


def _values(panel: Panel, name: Literal["x", "y"]) -> list[float]:
    """All numbers on an axis that a logarithm can show."""
    fields = ("x", "x_end") if name == "x" else ("y", "y_end", "low", "high")
    every = (one for series in panel.series for field in fields for one in getattr(series, field))
    return [one for one in every if isinstance(one, int | float) and one > 0] or [1.0, 10.0]


def _log_ticks(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Where an axis of logarithms begins and ends, and its ticks: 1, 2, 5, 10, 20 ... or fewer."""
    low, high = min(values), max(values)
    first, last = floor(log10(low)), min(ceil(log10(high)), float_info.max_10_exp)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        powers = [10.0**power for power in range(first, last + 1)]
        every = [power * step for power in powers for step in steps]
        every = [one for one in every if 0.0 < one <= float_info.max]
        start = max([one for one in every if one <= low], default=low)
        end = min([one for one in every if one >= high], default=high)
        ticks = [float(f"{one:.1g}") for one in every if start <= one <= end]
        if len(ticks) <= _LOG_TICKS:
            break
    return ticks[0], min(max(ticks[-1], ticks[0] * 2), float_info.max), ticks


_LOG_TICKS = 9
"""Ticks on an axis of logarithms at the most."""

_MOMENTS = {
    "year": "%Y",
    "quarter": "%b %Y",
    "month": "%b %Y",
    "week": "%d %b",
    "date": "%d %b",
    "day": "%d %b",
    "hours": "%H:%M",
    "minutes": "%H:%M",
    "seconds": "%H:%M:%S",
    "milliseconds": "%H:%M:%S.%L",
}
"""How ticks of an axis of time are written, by what they are the beginning of."""

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


def _points(at: int, look: _Look, view: _View) -> list[Spec]:
    """Points; with whiskers where there is a range."""
    layers: list[Spec] = []
    series = view.panel.series[at]
    data = view.rows(at, "y", "low", "high", "count")
    if series.low and series.high:
        whisker = {"type": "rule", "color": look.colour, "strokeWidth": look.width}
        whisker |= {"opacity": 0.6, "aria": False}
        layers.append({"data": data, "mark": whisker, "encoding": view.at(low="low", high="high")})
    shape = "circle" if view.lies else look.shape
    mark = {"type": "point", "filled": True, "shape": shape, "color": look.colour}
    mark["opacity"] = 1 if view.lies else 0.75
    size: Spec = {"size": {"value": 28 if len(series.x) > 60 else 52}}  # noqa: PLR2004 - a crowd
    if series.count and len(set(series.count)) > 1 and not view.lies:
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


def _line(at: int, look: _Look, view: _View, interpolate: str = "linear") -> list[Spec]:
    mark = {
        "type": "line",
        "color": look.colour,
        "strokeDash": look.dash,
        "strokeWidth": 2,
        "strokeJoin": "round",
        "interpolate": interpolate,
    }
    data = view.rows(at, "y", "count")
    order = {"order": {"value": None}}  # as they come: a curve may turn back
    layers: list[Spec] = [{"data": data, "mark": mark, "encoding": {**view.at(), **order}}]
    # What the pointer meets is larger than the line; a line of one point is that.
    alone = len(view.panel.series[at].x) == 1
    meet = {"type": "point", "filled": True, "aria": False, "color": look.colour}
    meet |= {"opacity": 1, "size": 60} if alone else {"opacity": 0, "size": 120}
    told = view.tooltip(view.panel.series[at], "y")
    return [*layers, {"data": data, "mark": meet, "encoding": {**view.at(), **told}}]


def _steps(at: int, look: _Look, view: _View) -> list[Spec]:
    return _line(at, look, view, "step-after")


def _band(at: int, look: _Look, view: _View) -> list[Spec]:
    data = view.rows(at, "low", "high", "count")
    mark: Spec = {"type": "area", "color": look.colour, "opacity": 1}
    if len(view.panel.series[at].x) == 1:  # an area of one place has no width
        mark |= {"type": "rule", "strokeWidth": 14}
    told = view.tooltip(view.panel.series[at], "low", "high")
    return [{"data": data, "mark": mark, "encoding": {**view.at(low="low", high="high"), **told}}]


def _cells(at: int, look: _Look, view: _View) -> list[Spec]:
    mark = {"type": "rect", "color": look.colour}
    series = view.panel.series[at]
    data = view.rows(at, "y", "x_end", "y_end", "count")
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
        rows = [{"x": one.x * factor, "text": escape(one.text)} for one in found]
        data = view.keep(kind, rows)
        across = view.at()[view.across]
        told = {"tooltip": {"field": "text", "type": "nominal"}}
        rule = {"type": "rule", "color": colours.muted, "strokeWidth": 1.25}
        rule |= {"strokeDash": EVENT_DASHES[kind], "aria": False}
        head = {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": colours.ink}
        head |= {"shape": EVENT_SHAPES[kind]}
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
    names = _key_names(panel)
    if len(names) < 2:  # noqa: PLR2004 - two to tell apart
        return None
    looks = [*looks, *(_Look(colours.ink, DASHES[0], EVENT_SHAPES[kind]) for kind in kinds)]

    legend: Spec = {"title": None, "orient": "top", "direction": "horizontal", "symbolSize": 110}
    if width != "container":  # there, the page sets how many columns there is room for
        legend["columns"] = max(1, min(len(names), (width - _AXIS_PX) // _legend_px(names)))

    def scale(of: Callable[[_Look], Any]) -> Spec:
        return {
            "field": "name",
            "type": "nominal",
            "scale": {"domain": names, "range": [of(look) for look in looks]},
            "legend": legend,
        }

    return {
        "data": {"values": []},
        "mark": {"type": "point", "aria": False},
        "encoding": {
            "fill": scale(lambda look: look.colour),
            "stroke": scale(lambda look: look.colour),
            "shape": scale(lambda look: look.shape),
            "strokeDash": scale(lambda look: look.dash),
        },
    }


def _key_names(panel: Panel) -> list[str]:
    """What there is to tell apart: series, and kinds of events."""
    kinds = dict.fromkeys(event.kind for event in panel.events)
    names = [escape(series.name) for series in panel.series]
    return names + [EVENT_NAMES.get(kind, kind) for kind in kinds]


def _legend_px(names: Sequence[str]) -> int:
    """How wide a column of a legend with these names is."""
    return 36 + round(_CHARACTER_PX * max(map(len, names)))


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
        "legend": {
            **label,
            "labelColor": colours.ink,
            "labelLimit": 300,
            "symbolOpacity": 1,
            "symbolStrokeWidth": 2,
            "offset": 8,
            "columnPadding": 16,
        },
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
