"""Looks: what each kind of chart takes in of a model's calls, one after the other, and draws.

A look is told of the calls that count in pages, and keeps cells and samples, never the calls. Of
calls that were given up it is told apart: how long they would have taken is not known, so they
stand for themselves, and are in no other figure.
"""

from __future__ import annotations

from math import ceil, isfinite, sqrt
from sys import float_info
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.binned import DAY_US, SECOND_US, Grid, Logs, Plane, TimeGrid
from calibration_ledger.core.charts import Axis, Chart, ChartEvent, Panel, Series
from calibration_ledger.core.coverage import MEDIAN
from calibration_ledger.core.forecast import LEVELS
from calibration_ledger.core.text import coefficient, duration
from calibration_ledger.core.validation import time_from_us
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from calibration_ledger.core.binned import Calls
    from calibration_ledger.core.charts import ChartKind
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.replay import Window
    from calibration_ledger.core.values import Score, Sweep
    from calibration_ledger.rules.base import Rule

POINTS = 300
"""So many calls are drawn as points of their own; of more, cells are."""

CELLS = 900
"""Cells of a chart at the most, where the calls lie in a plane."""

STRETCHES = 120
"""Stretches of time at the most."""

LENGTHS = 40
"""Token lengths at the most."""

DAYS = 400
"""Days at the most; of a longer history, weeks are shown."""

PLACES = 100_000
"""Places in memory at the most, for quantiles in all columns of a grid."""

FLOOR = 0.001
"""What is drawn at the least on a logarithmic axis, where 0 has no place."""

QUARTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Subject(NamedTuple):
    """What a chart is of.

    Attributes:
        model: the model's name.
        window: the stretch of time that was asked for; None for all.
        archived: the last entry that lies in an archive; 0 for none.
        coefficients: the live ones, as `predict_ms` takes them.
        events: what changed the calibration, by time.
    """

    model: str
    window: Window | None
    archived: int
    coefficients: Sequence[float]
    events: tuple[ChartEvent, ...] = ()

    def chart(self, kind: ChartKind, title: str, text: str, *panels: Panel) -> Chart:
        """A chart; where it has nothing to draw, its text says so."""
        notes = [text]
        if self.window is not None:
            notes.append(f"Only calls {window_text(self.window)} count.")
        if self.archived:
            notes.append(f"The entries up to #{self.archived} lie in an archive.")
        return Chart(kind, self.model, f"{self.model}: {title}", " ".join(notes), panels)


def window_text(window: Window) -> str:
    """The stretch of time, for people."""
    since = "" if window.since is None else f"from {moment(window.since)} on"
    until = "" if window.until is None else f"before {moment(window.until)}"
    return " and ".join(filter(None, [since, until]))


def moment(us: int) -> str:
    """A time for people, in UTC."""
    return f"{time_from_us(us):%Y-%m-%d %H:%M} UTC"


def number(value: float) -> str:
    """A number for people, with three digits or more."""
    if 100.0 <= abs(value) < 1e9:  # noqa: PLR2004 - beyond, an exponent is easier to read
        return f"{value:,.0f}"
    return f"{value:.3g}"


def counted(n: int, what: str = "call") -> str:
    """`1 call`, `1,200 calls`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def off_text(ratio: float) -> str:
    """How far a ratio of actual over predicted is from 1: `12 % longer than predicted`."""
    off = 100.0 * (ratio - 1.0)
    if abs(off) < 0.05:  # noqa: PLR2004 - what would be 0.0
        return "as long as predicted"
    return f"{number(abs(off))} % {'longer' if off > 0.0 else 'less'} than predicted"


def finite(value: float) -> float:
    """The number, or the largest there is."""
    return min(value, float_info.max)


def drawn(value: float) -> float:
    """The number as a logarithmic axis can show it."""
    return min(max(value, FLOOR), float_info.max)


def timeouts_text(n: int) -> str:
    """A sentence about calls that were given up."""
    if not n:
        return ""
    one = n == 1
    return (
        f" {counted(n)} {'was' if one else 'were'} given up: how long {'it' if one else 'they'} "
        f"would have taken is not known, and {'it is' if one else 'they are'} in no other figure."
    )


NOTHING = "There is no call to draw yet."


class Look:
    """What one kind of chart takes in."""

    def add(self, calls: Calls) -> None:
        """Take in calls that a rule learns."""

    def add_timeouts(self, calls: Calls) -> None:
        """Take in calls that were given up; `actual_ms` is how long they were waited for."""

    def chart(self, subject: Subject) -> Chart:
        """The chart."""
        raise NotImplementedError


# -- predicted against actual ---------------------------------------------------------------


class ActualLook(Look):
    """Predicted against actual."""

    def __init__(self, off: TimeGrid) -> None:
        """Start with no call; `off` counts the ratios of the same calls in time."""
        self._calls, self._timeouts, self._off = _Plane(), _Plane(), off

    def add(self, calls: Calls) -> None:  # noqa: D102 - as in `Look`
        self._calls.add(calls)

    def add_timeouts(self, calls: Calls) -> None:  # noqa: D102 - as in `Look`
        self._timeouts.add(calls)

    def chart(self, subject: Subject) -> Chart:  # noqa: D102 - as in `Look`
        n, given_up = self._calls.n, self._timeouts.n
        title = "predicted against actual"
        if not n + given_up:
            return subject.chart("actual", title, NOTHING)
        series = [*self._calls.series("calls")]
        if given_up:
            series += self._timeouts.series("given up (at least so long)")
        ends = [end for one in series for end in (*one.x, *one.y, *one.x_end, *one.y_end)]
        line = (float(min(ends)), float(max(ends)))
        if line[0] == line[1]:
            line = (line[0] / 2.0, finite(line[1] * 2.0))
        diagonal = Series("as predicted", "line", line, line)
        text = f"{counted(n)}. {self._told()}{timeouts_text(given_up)}"
        panel = Panel(
            "Predicted against actual",
            Axis("predicted", "ms", "log"),
            Axis("actual", "ms", "log"),
            (*series, diagonal),
        )
        return subject.chart("actual", title, text, panel)

    def _told(self) -> str:
        if not self._calls.n:
            return ""
        low, middle, high = self._off.quantiles(self._off.whole(), (0.05, 0.5, 0.95))
        return (
            f"The median call took {off_text(middle)}; 9 of 10 took from "
            f"{number(low)} to {number(high)} times what was predicted."
        )


class _Plane:
    """Calls by predicted and actual: points as long as they are few, and cells."""

    def __init__(self) -> None:
        self.n = 0
        self._points: list[tuple[int, float, float]] = []
        self._grid = Plane(Logs("predicted_ms", 5), Logs("actual_ms", 5), CELLS, CELLS)

    def add(self, calls: Calls) -> None:
        self.n += len(calls)
        self._grid.add(calls)
        if self.n <= POINTS:
            rows = zip(calls.called_at, calls.predicted_ms, calls.actual_ms, strict=True)
            self._points += [(int(at), float(x), float(y)) for at, x, y in rows]
        else:
            self._points = []

    def series(self, name: str) -> list[Series]:
        if not self.n:
            return []
        if self.n <= POINTS:
            return [
                Series(
                    name,
                    "points",
                    tuple(drawn(x) for _, x, _ in self._points),
                    tuple(drawn(y) for _, _, y in self._points),
                    count=(1,) * self.n,
                    labels=tuple(
                        f"{moment(at)}: predicted {duration(x)}, took {duration(y)}"
                        for at, x, y in self._points
                    ),
                )
            ]
        x, y, columns = self._grid.x, self._grid.y, self._grid.columns
        cells = sorted((i, j, count) for i, one in columns.items() for j, count in one.items())
        lefts = {i: (drawn(x.low(i)), _end(x.high(i))) for i in columns}
        lows = {j: (drawn(y.low(j)), _end(y.high(j))) for j in {j for _, j, _ in cells}}
        return [
            Series(
                name,
                "cells",
                tuple(lefts[i][0] for i, _, _ in cells),
                tuple(lows[j][0] for _, j, _ in cells),
                x_end=tuple(lefts[i][1] for i, _, _ in cells),
                y_end=tuple(lows[j][1] for _, j, _ in cells),
                count=tuple(count for _, _, count in cells),
            )
        ]


def _end(value: float) -> float:
    """The upper edge of a cell, which is above the lower one also at the floor."""
    return max(value, 2.0 * FLOOR)


# -- error over time ------------------------------------------------------------------------


class ErrorLook(Look):
    """How far calls were off, over time."""

    def __init__(self, off: TimeGrid) -> None:
        """Start with no call; `off` counts the ratios of the calls in time."""
        self._calls, self._timeouts = off, off_in_time()

    def add_timeouts(self, calls: Calls) -> None:  # noqa: D102 - as in `Look`
        self._timeouts.add(calls)

    def chart(self, subject: Subject) -> Chart:  # noqa: D102 - as in `Look`
        title = "error over time"
        n, given_up = self._calls.total(), self._timeouts.total()
        if not n + given_up:
            return subject.chart("error", title, NOTHING)
        self._calls.align(self._timeouts)
        series: list[Series] = []
        text = ""
        if n:
            series += bands(self._calls, "calls", lambda ratio: finite(100.0 * (ratio - 1.0)))
            every = self._calls.quantiles(self._calls.whole(), QUARTILES)
            text = (
                f"{counted(n)}. The median call took {off_text(every[2])}; half of them "
                f"from {number(every[1])} to {number(every[3])} times what was predicted."
            )
            first, last = (self._median(which(self._calls.columns)) for which in (min, max))
            if len(self._calls.columns) > 1:
                text += f" At first the median took {off_text(first)}, at the end {off_text(last)}."
            elif n > 1 and self._calls.is_moment():
                text += " All of them have one time, as after an import of calls without times."
        if given_up:
            off = [
                (i, self._timeouts.quantiles(counts, (0.5,))[0], self._timeouts.count(i))
                for i, counts in sorted(self._timeouts.columns.items())
            ]
            series.append(
                Series(
                    "given up (at least)",
                    "points",
                    tuple(self._timeouts.middle(i) for i, _, _ in off),
                    tuple(finite(100.0 * (ratio - 1.0)) for _, ratio, _ in off),
                    count=tuple(count for _, _, count in off),
                    labels=tuple(
                        f"{counted(count)} given up, after {number(ratio)} times what was predicted"
                        for _, ratio, count in off
                    ),
                )
            )
        text += timeouts_text(given_up) + events_text(subject.events)
        panel = Panel(
            "Error over time",
            Axis("time", "", "time"),
            Axis("longer or shorter than predicted", "%"),
            tuple(series),
            subject.events,
        )
        return subject.chart("error", title, text.strip(), panel)

    def _median(self, place: int) -> float:
        return self._calls.quantiles(self._calls.columns[place], (0.5,))[0]


def off_in_time() -> TimeGrid:
    """A grid of how far calls were off, in stretches of time."""
    return TimeGrid(Logs("ratio", 7, is_centred=True), STRETCHES, PLACES)


def events_text(events: Sequence[ChartEvent]) -> str:
    """The events as sentences; of many, the last ones."""
    if not events:
        return ""
    shown = events[-3:]
    more = f" {counted(len(events) - len(shown), 'event')} before." if len(events) > 3 else ""  # noqa: PLR2004 - as above
    return f"{more} {' '.join(one.text for one in shown)}"


def bands(grid: TimeGrid, what: str, shown: Callable[[float], float]) -> list[Series]:
    """Nine of ten, a half, and the median of each column."""
    places = sorted(grid.columns)
    x = tuple(map(grid.middle, places))
    found = [[shown(v) for v in grid.quantiles(grid.columns[i], QUARTILES)] for i in places]
    count = tuple(map(grid.count, places))
    lowest, low, middle, high, highest = (tuple(one) for one in zip(*found, strict=True))
    return [
        Series(f"9 of 10 {what}", "band", x, low=lowest, high=highest, count=count),
        Series(f"half of the {what}", "band", x, low=low, high=high, count=count),
        Series("median", "line", x, middle, count=count),
    ]


# -- coefficients over time -----------------------------------------------------------------

SAMPLES = 200
"""Calls after which the coefficients are noted; at the most, twice as many."""

PARTS = (
    (2, "Base", "base", "ms", 1),
    (0, "Per prompt token", "per prompt token", "ms", 4),
    (1, "Per completion token", "per completion token", "ms", 4),
)
"""Its place, the title of its panel, its name, unit and decimals, of each coefficient."""


class Path:
    """The coefficients from call to call, of which not all are kept.

    Attributes:
        points: when, and the coefficients then.
        left: how many calls lie between the last that was kept and the next.
    """

    def __init__(self, stride: int) -> None:
        """Start with no call, and keep one of so many at first."""
        self.left = self._stride = stride
        self.points: list[tuple[int, tuple[float, ...]]] = []

    def note(self, at: int, coefficients: Sequence[float]) -> None:
        """Keep them as they are at this time; times that go back do not."""
        if self.points:
            at = max(at, self.points[-1][0])
        self.points.append((at, tuple(coefficients[:3])))
        if len(self.points) > 2 * SAMPLES:
            self.points = [self.points[0], *self.points[1::2]]
            self._stride *= 2
        self.left = self._stride

    def chart(self, subject: Subject, rule: Rule, alpha: float) -> Chart:
        """The chart, of what this rule and alpha learn."""
        title = "learnt coefficients over time"
        if not self.points:
            return subject.chart("coefficients", title, NOTHING)
        x = tuple(at / SECOND_US for at, _ in self.points)
        panels, told = [], []
        for place, heading, name, unit, digits in PARTS:
            y = tuple(coefficients[place] for _, coefficients in self.points)
            first, last = (coefficient(y[at], rule.floors[place], digits) for at in (0, -1))
            told.append(f"{name} from {first} to {last} {unit}")
            panels.append(
                Panel(
                    heading,
                    Axis("time", "", "time"),
                    Axis(name, unit),
                    (Series(name, "line", x, y),),
                    subject.events,
                )
            )
        setting = f"{rule.version} with alpha {alpha:g}"
        text = f"As {setting} learns them in a replay of the history: {', '.join(told)}."
        return subject.chart("coefficients", title, text + events_text(subject.events), *panels)


# -- latency by length ----------------------------------------------------------------------


class TokensLook(Look):
    """Latency by prompt length and by completion length."""

    def __init__(self) -> None:
        """Start with no call."""
        self._prompts, self._completions = _by("prompt_tokens"), _by("completion_tokens")
        self._timeouts = _by("prompt_tokens")

    def add(self, calls: Calls) -> None:  # noqa: D102 - as in `Look`
        self._prompts.add(calls)
        self._completions.add(calls)

    def add_timeouts(self, calls: Calls) -> None:  # noqa: D102 - as in `Look`
        self._timeouts.add(calls)

    def chart(self, subject: Subject) -> Chart:  # noqa: D102 - as in `Look`
        coefficients = subject.coefficients
        title = "latency by length"
        n, given_up = self._prompts.total(), self._timeouts.total()
        if not n + given_up:
            return subject.chart("tokens", title, NOTHING)
        usual_prompt = usual_tokens(self._prompts)
        usual_completion = usual_tokens(self._completions)
        prompts = [*by_length(self._prompts)]
        prompts.append(
            _line(
                [self._prompts, self._timeouts],
                f"learnt line, with {counted(usual_completion, 'completion token')}",
                lambda tokens: predict_ms(coefficients, tokens, usual_completion),
            )
        )
        if given_up:
            prompts += by_length(self._timeouts, "given up (at least so long)")
        completions = [*by_length(self._completions)]
        if n:
            completions.append(
                _line(
                    [self._completions],
                    f"learnt line, with {counted(usual_prompt, 'prompt token')}",
                    lambda tokens: predict_ms(coefficients, usual_prompt, tokens),
                )
            )
        text = (
            f"{counted(n)}; the median has {counted(usual_prompt, 'prompt token')} and "
            f"{counted(usual_completion, 'completion token')}. The learnt line: "
            f"{number(coefficients[2])} ms, {number(coefficients[0])} ms more for each prompt "
            f"token and {number(coefficients[1])} ms for each completion token."
            f"{timeouts_text(given_up)}"
        )
        took = Axis("latency", "ms", "log")
        panels = [
            Panel("By prompt length", Axis("prompt", "tokens", "log"), took, tuple(prompts)),
        ]
        if n:
            length = Axis("completion", "tokens", "log")
            panels.append(Panel("By completion length", length, took, tuple(completions)))
        return subject.chart("tokens", title, text, *panels)


def _by(what: str) -> Grid:
    return Grid(Logs(what, 3), Logs("actual_ms", 5, is_centred=True), LENGTHS, PLACES)


def length_at(grid: Grid, place: int) -> int:
    """The whole number of tokens in the middle of a column."""
    low, high = ceil(grid.x.low(place)), ceil(grid.x.high(place))
    return (low + max(low, high - 1)) // 2


def on_axis(tokens: int) -> float:
    """Where a length is drawn: none at half a token, for 0 has no place on a logarithmic axis."""
    return tokens or 0.5


def usual_tokens(grid: Grid) -> int:
    """The median length, as far as the columns tell."""
    counts = {i: grid.count(i) for i in grid.columns}
    total, seen = sum(counts.values()), 0
    for place in sorted(counts):
        seen += counts[place]
        if 2 * seen >= total:
            return length_at(grid, place)
    return 0


def by_length(grid: Grid, name: str = "median, and 9 of 10") -> list[Series]:
    """The median of each length, with whiskers."""
    if not grid.columns:
        return []
    places = sorted(grid.columns)
    found = [[drawn(v) for v in grid.quantiles(grid.columns[i], (0.05, 0.5, 0.95))] for i in places]
    low, middle, high = (tuple(one) for one in zip(*found, strict=True))
    return [
        Series(
            name,
            "points",
            tuple(on_axis(length_at(grid, i)) for i in places),
            middle,
            low=low,
            high=high,
            count=tuple(map(grid.count, places)),
        )
    ]


def _line(grids: Sequence[Grid], name: str, told: Callable[[int], float]) -> Series:
    lengths = sorted({length_at(grid, i) for grid in grids for i in grid.columns})
    x, y = tuple(map(on_axis, lengths)), tuple(drawn(told(one)) for one in lengths)
    return Series(name, "line", x, y)


# -- speed ----------------------------------------------------------------------------------


class SpeedLook(Look):
    """Completion tokens in a second, by day."""

    def __init__(self) -> None:
        """Start with no call."""
        self._days = TimeGrid(Logs("actual_ms", 7, is_centred=True), DAYS, PLACES, DAY_US)
        self._silent = 0

    def add(self, calls: Calls) -> None:  # noqa: D102 - as in `Look`
        speeds = calls.speeds()
        self._silent += len(calls) - len(speeds)
        self._days.add(speeds)

    def chart(self, subject: Subject) -> Chart:  # noqa: D102 - as in `Look`
        title, n = "speed", self._days.total()
        if not n:
            why = NOTHING if not self._silent else "No call tells its completion tokens and time."
            return subject.chart("speed", title, why)
        width = self._days.x.width_us // DAY_US
        each = "day" if width == 1 else f"{width} days"
        low, middle, high = self._days.quantiles(self._days.whole(), (0.05, 0.5, 0.95))
        text = (
            f"{counted(n)} over {counted(len(self._days.columns), 'day')}: the median call gave "
            f"{number(middle)} tokens in a second, 9 of 10 from {number(low)} to {number(high)}."
        )
        if self._silent:
            text += f" {counted(self._silent)} without completion tokens or time left out."
        panel = Panel(
            f"Speed, by {each}",
            Axis("day", "", "time"),
            Axis("completion tokens in a second", "tokens/s"),
            tuple(bands(self._days, "calls", finite)),
        )
        return subject.chart("speed", title, text, panel)


# -- the forecast's ranges ------------------------------------------------------------------

GROUPS = 60
"""Moments at which the ranges are drawn."""

ONE_BY_ONE = 120
"""So many calls are drawn as points of their own beside the ranges."""


class RangesLook:
    """The forecast's ranges over time, and how often they held.

    Attributes:
        n: how many calls were forecast.
        timeouts: how many were not, because they were given up.
        unforecast: how many were not, because an absurd call was among the newest then.
    """

    def __init__(self) -> None:
        """Start with no call."""
        self.n = self.timeouts = self.unforecast = 0
        self._rows: list[tuple[int, float, tuple[float, ...]]] = []
        self._held = {"known": [0] * len(LEVELS), "unknown": [0] * len(LEVELS)}

    def add(
        self, at: int, actual_ms: float, factor: float, known: list[float], unknown: list[float]
    ) -> None:
        """Take in a call and the quantiles of its forecasts, with and without its completion."""
        self.n += 1
        for name, quantiles in (("known", known), ("unknown", unknown)):
            held = self._held[name]
            for place in range(len(LEVELS)):
                low, high = quantiles[MEDIAN - 1 - place], quantiles[MEDIAN + 1 + place]
                held[place] += low <= actual_ms <= high
        shares = tuple(drawn(100.0 * (one / factor)) for one in known)
        self._rows.append((at, drawn(100.0 * (actual_ms / factor)), shares))

    def chart(self, subject: Subject) -> Chart:
        """The chart."""
        title = "the forecast's ranges, and how often they held"
        if not self.n:
            why = NOTHING
            if self.unforecast:
                why = "An absurd call is among the newest, so that there is no forecast."
            return subject.chart("ranges", title, (why + timeouts_text(self.timeouts)).strip())
        found = {
            name: [100.0 * count / self.n for count in held] for name, held in self._held.items()
        }
        told = ", ".join(
            f"{100 * level:g} % held {number(share)} %"
            for level, share in zip(LEVELS, found["known"], strict=True)
        )
        text = (
            f"Over the newest {counted(self.n)}, each forecast before it was learnt: the range of "
            f"{told}. With the completion length not known, that of 90 % held "
            f"{number(found['unknown'][LEVELS.index(0.9)])} %.{timeouts_text(self.timeouts)}"
        )
        if self.unforecast:
            text += f" {counted(self.unforecast)} could not be forecast."
        return subject.chart("ranges", title, text, self._over_time(), self._promised(found))

    def _over_time(self) -> Panel:
        rows = sorted(self._rows)
        size = -(-len(rows) // GROUPS)
        groups = [rows[i : i + size] for i in range(0, len(rows), size)]
        x = tuple(group[len(group) // 2][0] / SECOND_US for group in groups)
        count = tuple(map(len, groups))
        middles = [
            tuple(_middle([quantiles[place] for _, _, quantiles in group]) for group in groups)
            for place in range(2 * MEDIAN + 1)
        ]
        series = []
        for level in (0.9, 0.5):
            place = LEVELS.index(level)
            ends = middles[MEDIAN - 1 - place], middles[MEDIAN + 1 + place]
            name = f"range of {100 * level:g} %"
            series.append(Series(name, "band", x, low=ends[0], high=ends[1], count=count))
        if self.n <= ONE_BY_ONE:
            at = tuple(at / SECOND_US for at, _, _ in rows)
            took = tuple(actual for _, actual, _ in rows)
            series.append(Series("calls", "points", at, took, count=(1,) * self.n))
        else:
            sorted_groups = [sorted(actual for _, actual, _ in group) for group in groups]
            low, middle, high = (
                tuple(_at(one, level) for one in sorted_groups) for level in (0.05, 0.5, 0.95)
            )
            series.append(
                Series("calls: median, and 9 of 10", "points", x, middle, low, high, count=count)
            )
        share = Axis("of what was predicted", "%", "log")
        return Panel("Ranges over time", Axis("time", "", "time"), share, tuple(series))

    def _promised(self, found: Mapping[str, list[float]]) -> Panel:
        x = tuple(100.0 * level for level in LEVELS)
        series = [Series("as promised", "line", (0.0, 100.0), (0.0, 100.0))]
        names = {"known": "completion length known", "unknown": "completion length not known"}
        for key, shares in found.items():
            # What chance alone allows: two standard deviations of a share of so many calls.
            widths = [2.0 * sqrt(p * (1.0 - p) / self.n) * 100.0 for p in LEVELS]
            pairs = [*zip(shares, widths, strict=True)]
            series.append(
                Series(
                    names[key],
                    "points",
                    x,
                    tuple(shares),
                    low=tuple(max(0.0, share - width) for share, width in pairs),
                    high=tuple(min(100.0, share + width) for share, width in pairs),
                    count=(self.n,) * len(x),
                    labels=tuple(
                        f"promised {level:g} %, found {number(share)} %"
                        for level, share in zip(x, shares, strict=True)
                    ),
                )
            )
        return Panel(
            "Promised against found",
            Axis("promised", "%"),
            Axis("found", "%"),
            tuple(series),
        )


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _at(ordered: Sequence[float], level: float) -> float:
    """The value at a level, by rank."""
    return ordered[max(0, ceil(level * len(ordered)) - 1)]


# -- the sweep ------------------------------------------------------------------------------


def sweep_chart(subject: Subject, sweep: Sweep) -> Chart:
    """The error by alpha of each rule, with the live alpha marked."""
    title = "error by rule and alpha"
    live, winner = sweep.live, sweep.winner
    if winner is None:
        text = (
            f"The model has no more than {sweep.warm_up} calls to learn from, and these only warm "
            f"a rule up: there is nothing to compare."
        )
        return subject.chart("sweep", title, text)
    text = (
        f"{counted(winner.n)} scored. Least error: {winner.rule} with alpha {winner.alpha:g}, "
        f"{duration(_error(winner))} a call in the mean."
    )
    text += "" if live.alpha is None else f" {_live_text(live)}"
    clearly = "clearly" if sweep.better is not None else "not clearly"
    if (winner.rule, winner.alpha) != (live.rule, live.alpha):
        text += f" The lead is {clearly} more than chance."
    lost = sum(not one.n for one in sweep.scores)
    if lost:
        text += f" {counted(lost, 'setting')} would not have stayed finite."
    return subject.chart("sweep", title, text, sweep_panel(sweep))


def sweep_panel(sweep: Sweep) -> Panel:
    """A line through the errors of each rule, by alpha, and where the live setting is."""
    live = sweep.live
    by_rule: dict[str, list[Score]] = {}
    for score in sweep.scores:
        if score.rule is not None and score.alpha is not None and isfinite(_error(score)):
            by_rule.setdefault(score.rule, []).append(score)
    series = []
    for rule in sorted(by_rule):
        scores = sorted(by_rule[rule], key=lambda one: one.alpha or 0.0)
        series.append(
            Series(
                rule,
                "line",
                tuple(float(one.alpha or 0.0) for one in scores),
                tuple(_error(one) for one in scores),
                count=tuple(one.n for one in scores),
            )
        )
    events: tuple[ChartEvent, ...] = ()
    if live.alpha is not None:
        events = (ChartEvent(live.alpha, "live", _live_text(live)),)
        if isfinite(_error(live)):
            point = ((live.alpha,), (_error(live),))
            series.append(Series(f"live: {live.rule}", "points", *point, count=(live.n,)))
    return Panel(
        "Error by alpha",
        Axis("alpha", "", "log"),
        Axis("mean absolute error", "ms"),
        tuple(series),
        events,
    )


def _live_text(live: Score) -> str:
    told = f"The live setting is {live.rule} with alpha {live.alpha:g}"
    return told + (f": {duration(_error(live))}." if isfinite(_error(live)) else ".")


def _error(score: Score) -> float:
    return score.mean_absolute_error_ms


# -- all models -----------------------------------------------------------------------------

MODELS = 60
"""Models side by side at the most."""


def models_chart(
    forecasts: Sequence[Forecast], prompt_tokens: int, left_out: int, notes: str = ""
) -> Chart:
    """What is forecast of each model for one prompt, the soonest first."""
    title = "All models, for one prompt"
    if not forecasts:
        return Chart("models", None, title, (f"{NOTHING} {notes}").strip(), ())
    names = tuple(one.model for one in forecasts)
    middle = tuple(drawn(one.median_ms) for one in forecasts)
    count = tuple(one.n for one in forecasts)
    series = []
    for share in (0.9, 0.5):
        ends = [one.interval(share) for one in forecasts]
        low, high = (tuple(drawn(end) for end in side) for side in zip(*ends, strict=True))
        name = f"median and range of {100 * share:g} %"
        series.append(Series(name, "points", names, middle, low=low, high=high, count=count))
    first, last = forecasts[0], forecasts[-1]
    text = (
        f"A prompt of {counted(prompt_tokens, 'token')}, the median of the newest calls, as it is "
        f"forecast for {counted(len(forecasts), 'model')}, each with completions as long as its "
        f"own. Soonest: {first.model}, with a median of {duration(first.median_ms)}."
    )
    if len(forecasts) > 1:
        text += f" Slowest: {last.model}, {duration(last.median_ms)}."
    if left_out:
        text += f" {counted(left_out, 'model')} with fewer calls left out."
    panel = Panel(title, Axis("model", "", "names"), Axis("latency", "ms", "log"), tuple(series))
    return Chart("models", None, title, f"{text} {notes}".strip(), (panel,))
