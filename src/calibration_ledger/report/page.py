"""The report: one page that needs nothing else, neither a network nor another file.

It holds the programs that draw, the charts as data, and what is to be read in plain HTML. Names are
other people's texts: whatever is put into the page is escaped here, and charts travel compressed,
so that no character of theirs can end a script.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape as quoted
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from calibration_ledger.core import text
from calibration_ledger.core.validation import check_model
from calibration_ledger.core.values import coefficients, standing_of
from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.formats.target import check_target, open_target
from calibration_ledger.report.drawing import bundle, check_drawing
from calibration_ledger.report.specs import panel_spec
from calibration_ledger.storage.place import find_place

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO, TextIO

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.charts import Axis, Chart, Panel
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.values import ModelStats, PeriodStats
    from calibration_ledger.report.specs import Spec

BYTES = 2_000_000
"""The size of a page at the most: it goes by mail, and opens at once."""

ROWS = 300
"""Models in the table of all models, at the most."""

OPEN_MODELS = 6
"""With more models than these, their charts are folded away until they are wanted."""


def report(
    calibrator: AdaptiveCalibrator,
    models: str | Iterable[str] = (),
    *,
    output: str | os.PathLike[str] | TextIO | BinaryIO,
    since: datetime | None = None,
    until: datetime | None = None,
    utc: bool = False,
    progress: Progress | None = None,
) -> Path | None:
    """Write what the ledger knows as one page of HTML to look at.

    All models are compared on top, on the median prompt of the newest calls. Then each model has
    its charts, a text to each, and their numbers as tables. The page is at most 2 MB: where the
    charts of all models do not fit, it leaves out those of the models with the fewest calls, and
    says so. A file appears under its name only once it is whole, and replaces an older one.

    Args:
        calibrator: whose ledger.
        models: names of models; none of them: every model in the ledger.
        output: a path, or an open file.
        since: only calls made at this time or later are shown.
        until: only calls made before this time are shown.
        utc: whether times are told in UTC; otherwise in the zones of the writer and the reader.
        progress: called with the number of calls read since the last time.

    Returns:
        The path that was written; None for an open file.

    Raises:
        LedgerNotFoundError: there is no ledger yet.
        ModelNotFoundError: the ledger has no entry of one of the models.
        InvalidInputError: vl-convert-python is not installed, an argument is not what it must be,
            or the output cannot be written to.
        ExportFailedError: writing failed on the way: nothing is left of it.
        LedgerError: the ledger cannot be read.
    """
    from pathlib import Path

    check_drawing()
    place = Path(output) if isinstance(output, str) or hasattr(output, "__fspath__") else None
    ledger = find_place(calibrator.ledger).path
    if place is not None:
        check_target(place, ledger, overwrite=True)
    wanted = _wanted(models)
    with bundle() as program:
        found = _read(calibrator, wanted, since, until, utc=utc, progress=progress)
        page = compose(found, program)
    with open_target(output, ledger, overwrite=True) as write:
        write(page)
    return place


def _wanted(models: object) -> list[str]:
    """The names that were asked for.

    Raises:
        InvalidInputError: they are no names.
    """
    given = [models] if isinstance(models, str) else models
    if not isinstance(given, Iterable):
        raise InvalidInputError(f"models must be names of models, not {shown(models)}.")
    return [check_model(name) for name in given]


# -- what is read ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """What a page tells.

    Attributes:
        ledger: the ledger's name, without the folder or the server where it lies.
        since: the first moment that is shown; None for the ledger's first.
        until: the moment that ends it; None for now.
        utc: whether times are told in UTC.
        made_at: when the ledger was read.
        overview: the charts over all models.
        stats: the figures of each model, those with most calls first.
        periods: the figures of the calls in that time, by model; empty for all time.
        charts: gives the charts of a model. It is asked for as many models as fit.
    """

    ledger: str
    since: datetime | None
    until: datetime | None
    utc: bool
    made_at: datetime
    overview: Sequence[Chart]
    stats: Sequence[ModelStats]
    periods: Mapping[str, PeriodStats]
    charts: Callable[[str], Sequence[Chart]]


def _read(
    calibrator: AdaptiveCalibrator,
    wanted: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    *,
    utc: bool,
    progress: Progress | None,
) -> Content:
    if wanted:
        for name in wanted:
            calibrator.check_exists(name)
        by_name = [calibrator.get_stats(name, rounded=False) for name in wanted]
        stats = list({one["model"]: one for one in by_name}.values())
    else:
        stats = calibrator.all_stats(uncalibrated=True, rounded=False)
    stats.sort(key=lambda one: (-one["sample_count"], one["model"]))
    periods: list[PeriodStats] = []
    overview = calibrator.charts(since=since, until=until)
    if since is not None or until is not None:
        for one in stats if wanted else [None]:
            model = None if one is None else one["model"]
            periods += calibrator.stats(model, since=since, until=until)
    return Content(
        ledger=_name_of(calibrator.ledger),
        since=since,
        until=until,
        utc=utc,
        made_at=datetime.now(UTC),
        overview=overview,
        stats=stats,
        periods={one.model: one for one in periods},
        charts=lambda model: calibrator.charts(model, since=since, until=until, progress=progress),
    )


def _name_of(ledger: str) -> str:
    """What a ledger is called, for whoever gets the page: no folder, no server, no user."""
    return ledger.partition("?")[0].replace("\\", "/").rstrip("/").rpartition("/")[2] or ledger


# -- the page -------------------------------------------------------------------------------


def compose(content: Content, program: Callable[[], bytes]) -> str:
    """Put the page together.

    Args:
        content: what it tells.
        program: gives the script that draws, compressed by gzip.
    """
    overview = _Figures("all", content.overview, None, utc=content.utc)
    listed = content.stats[:ROWS]
    parts = [overview.html, overview.data, _asset("page.css"), _asset("page.js")]
    parts += [_table_of_models(content, len(listed)), *(_links(content, len(listed)))]
    packed = _packed("program", program())
    left = BYTES - _FRAME_BYTES - len(packed) - sum(len(one.encode()) for one in parts)
    sections: list[str] = []
    for at, stats in enumerate(listed):
        figures = _Figures(
            f"m{at}", content.charts(stats["model"]), stats["model"], utc=content.utc
        )
        section = _section(at, stats, figures, content)
        left -= len(section.encode())
        if left < 0 and at:
            break
        sections.append(section)
    return "".join([*_head_of(content, len(sections)), *_body(content, overview, sections, packed)])


_FRAME_BYTES = 12_000
"""More than the parts of a page take that are not counted one by one."""


_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)
"""What a browser lets the page do: nothing is fetched. Vega compiles its expressions (`eval`)."""


def _head_of(content: Content, drawn: int) -> Iterator[str]:
    """Everything down to the list of models."""
    yield f"""<!doctype html>
<html lang="en" data-utc="{str(content.utc).lower()}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="calibration-ledger">
<title>{_e(f"Latency of model calls: {content.ledger}")}</title>
<link rel="icon" href="data:,">
<style>
{_asset("page.css")}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the charts</a>
<header>
<div>
<h1>How long model calls take</h1>
<p class="muted">{_subtitle(content)}</p>
</div>
<fieldset aria-label="Colours of the page">
<label><input type="radio" name="theme" value="auto" checked><span>Auto</span></label>
<label><input type="radio" name="theme" value="light"><span>Light</span></label>
<label><input type="radio" name="theme" value="dark"><span>Dark</span></label>
</fieldset>
</header>
"""
    if drawn > 1:
        yield f'<nav aria-label="Models"><ul>{"".join(_links(content, drawn))}</ul></nav>\n'


def _body(
    content: Content, overview: _Figures, sections: Sequence[str], packed: str
) -> Iterator[str]:
    yield '<main id="main" tabindex="-1">\n'
    yield (
        '<noscript><p class="notice">The charts are drawn by JavaScript, which is off here. Their '
        "texts and the tables of figures can be read without it.</p></noscript>\n"
    )
    table = _table_of_models(content, len(sections))
    yield f'<section id="all" aria-label="All models">{overview.html}{table}</section>\n'
    yield _left_out(content, len(sections))
    if len(sections) > OPEN_MODELS:
        yield (
            '<p class="folds"><button type="button" id="open-all">Open all</button> '
            '<button type="button" id="close-all">Close all</button></p>\n'
        )
    yield from sections
    yield f"</main>\n{_footer(content)}\n{overview.data}{packed}"
    yield f"<script>\n{_asset('page.js')}</script>\n</body>\n</html>\n"


def _asset(name: str) -> str:
    return files("calibration_ledger.report").joinpath(name).read_text("utf-8")


def _e(value: str) -> str:
    """A text of whomever, harmless anywhere in HTML, and with what steers it written out."""
    return quoted(text.escape(value))


def _packed(name: str, compressed: bytes) -> str:
    """Data for the script, under a name: letters and digits alone, which end nothing."""
    return (
        f'<script type="application/octet-stream" id="{name}">'
        f"{b64encode(compressed).decode()}</script>\n"
    )


def _subtitle(content: Content) -> str:
    calls = sum(one["sample_count"] for one in content.stats)
    parts = [
        f"Ledger {_e(content.ledger)}",
        text.count(len(content.stats), "model"),
        f"{calls:,} {'call' if calls == 1 else 'calls'} learnt",
    ]
    if content.since or content.until:
        parts.append(_window(content))
    parts.append(f"made {_time(content.made_at, utc=content.utc)}")
    return " · ".join(parts)


def _window(content: Content) -> str:
    since = "" if content.since is None else f"from {_time(content.since, utc=content.utc)} "
    until = "" if content.until is None else f"until {_time(content.until, utc=content.utc)}"
    return f"calls {since}{until}".strip()


def _time(at: datetime, *, utc: bool) -> str:
    """A time for people, in the writer's zone or in UTC, which is named."""
    try:
        local = at.astimezone(UTC if utc else None)
    except (OverflowError, ValueError):  # at the end of all years there is no other zone
        local = at.astimezone(UTC)
    zone = local.tzname() or f"{local:%z}"
    machine = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f'<time datetime="{machine}">{local:%Y-%m-%d %H:%M} {_e(zone)}</time>'


def _footer(content: Content) -> str:
    zone = "in UTC" if content.utc else "in the time zone of this browser"
    return (
        f"<footer><p>Axes of time and the tables of numbers are {zone}; texts name theirs. "
        f"“Typically within” is the median error of the newest calls, in percent of what they "
        f"took. Nothing on this page is fetched from elsewhere.</p></footer>"
    )


def _left_out(content: Content, drawn: int) -> str:
    """Say which charts are not on the page, and how to get them."""
    n = len(content.stats) - drawn
    if not n:
        return ""
    whose = f"the first {ROWS} models" if len(content.stats) > ROWS else "all models"
    return (
        f'<p class="notice">The charts of {text.count(n, "model")} with fewer calls are left out, '
        f"to keep this page below 2 MB. The table above has the figures of {whose}. For the "
        f"charts of others, name them: <code>calib report MODEL …</code></p>\n"
    )


# -- figures of models ----------------------------------------------------------------------


def _links(content: Content, drawn: int) -> Iterator[str]:
    """The way to each model that has charts here."""
    if content.stats:
        yield '<li><a href="#all">All models</a></li>'
    for at, one in enumerate(content.stats[:drawn]):
        yield f'<li><a href="#model-{at}">{_e(one["model"])}</a></li>'


def _table_of_models(content: Content, drawn: int) -> str:
    """All models beside each other: their figures, each with a link to its charts."""
    if not content.stats:
        return ""
    window = bool(content.since or content.until)
    heads = [
        "calls",
        "typically within",
        "mean latency",
        "mean error",
        "rule",
        "drift",
        "last call",
    ]
    heads[1:1] = ["calls in this time", "median latency then"] * window
    rows = []
    for at, one in enumerate(content.stats[:ROWS]):
        cells = [
            f"{one['sample_count']:,}",
            text.within(one.get("median_absolute_percentage_error")),
            _duration(one.get("mean_actual_ms")),
            _duration(one.get("mean_absolute_error_ms")),
            _rule(one),
            text.times(drift.factor) if (drift := one.get("drift")) else "-",
            _last(one, utc=content.utc),
        ]
        if window:
            period = content.periods.get(one["model"])
            cells[1:1] = [
                "0" if period is None else f"{period.calls:,}",
                "-" if period is None else _duration(period.median_actual_ms),
            ]
        tds = "".join(f"<td>{cell}</td>" for cell in cells)
        name = _e(one["model"])
        name = f'<a href="#model-{at}">{name}</a>' if at < drawn else name
        rows.append(f'<tr><th scope="row" class="name">{name}</th>{tds}</tr>')
    more = len(content.stats) - ROWS
    note = f"; {more} more with fewer calls are not shown" if more > 0 else ""
    ths = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return (
        f'<div class="card scroll" tabindex="0" role="region" aria-label="Figures of all models">'
        f'<table><caption>Models by calls{note}</caption><thead><tr><th scope="col">model</th>{ths}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _duration(ms: float | None) -> str:
    return "-" if ms is None else text.duration(ms)


def _rule(stats: ModelStats) -> str:
    rule, alpha = stats.get("rule"), stats.get("alpha")
    return "-" if rule is None or alpha is None else f"{_e(rule)}, alpha {alpha:g}"


def _last(stats: ModelStats, *, utc: bool) -> str:
    seconds = stats.get("last_updated")
    if seconds is None or not stats["sample_count"]:
        return "-"
    try:
        return _time(text.moment_of(seconds), utc=utc)
    except (OverflowError, ValueError):  # at the end of all years there is no other zone
        return text.time_of(seconds)


def _section(at: int, stats: ModelStats, figures: _Figures, content: Content) -> str:
    """Everything about one model."""
    name = _e(stats["model"])
    within = text.within(stats.get("median_absolute_percentage_error"))
    calls = f"{stats['sample_count']:,} {'call' if stats['sample_count'] == 1 else 'calls'}"
    opened = " open" if len(content.stats) <= OPEN_MODELS or at == 0 else ""
    tiles = "".join(f"<div><dt>{term}</dt><dd>{told}</dd></div>" for term, told in _tiles(stats))
    rows = "".join(
        f'<tr><th scope="row">{term}</th><td>{told}</td></tr>'
        for term, told in _figures_of(stats, content)
    )
    return (
        f'<section id="model-{at}" aria-labelledby="name-{at}"><details class="model"{opened}>'
        f'<summary><h2 id="name-{at}">{name}</h2>'
        f'<span class="muted">{calls} · {_e(standing_of(stats))} · typically within {within}'
        f'</span></summary><div class="inside"><dl class="figures">{tiles}</dl>'
        f'{figures.html}<details class="numbers card"><summary>All figures of {name}</summary>'
        f'<div class="scroll"><table><caption>Figures of {name}</caption><tbody>{rows}</tbody>'
        f"</table></div></details></div></details></section>\n{figures.data}"
    )


def _tiles(stats: ModelStats) -> Iterator[tuple[str, str]]:
    """What matters most."""
    yield "Calls", f"{stats['sample_count']:,}"
    yield "Typically within", text.within(stats.get("median_absolute_percentage_error"))
    yield "Mean latency", _duration(stats.get("mean_actual_ms"))
    terms = "Per prompt token", "Per completion token", "Base"
    for term, told in zip(terms, coefficients(stats.get), strict=True):
        yield term, told if told == "-" else f"{told} ms"
    drift = stats.get("drift")
    if drift is not None:
        since = f" <small>since {text.count(drift.since, 'call')}</small>"
        yield "Drift", f"{text.times(drift.factor)}{since}"


def _figures_of(stats: ModelStats, content: Content) -> Iterator[tuple[str, str]]:
    """All figures, as rows of a table."""
    yield "calls learnt", f"{stats['sample_count']:,}"
    if stats.get("timeouts"):
        yield "time-outs", f"{stats['timeouts']:,}"
    yield "status", _e(standing_of(stats))
    yield "confidence", f"{stats['confidence']:.3f}"
    yield "rule", _rule(stats)
    terms = "ms for each prompt token", "ms for each completion token", "base, ms"
    yield from zip(terms, coefficients(stats.get), strict=True)
    yield "mean error, ms", text.number(stats.get("mean_absolute_error_ms"))
    yield "mean latency of the newest calls, ms", text.number(stats.get("mean_actual_ms"))
    within = stats.get("median_absolute_percentage_error")
    yield "typically within, of the newest calls", text.within(within)
    drift = stats.get("drift")
    yield "drift", "none" if drift is None else _e(str(drift))
    if clocks := stats.get("clocks"):
        yield "clocks", _e(", ".join(f"{clock} {n}" for clock, n in clocks.items()))
    if aliases := stats.get("aliases"):
        yield "also called", _e(", ".join(aliases))
    yield "last call", _last(stats, utc=content.utc)
    period = content.periods.get(stats["model"])
    if period is not None:
        yield "calls in this time", f"{period.calls:,}"
        yield "time-outs in this time", f"{period.timeouts:,}"
        yield "median latency in this time, ms", text.number(period.median_actual_ms)
        yield "mean latency in this time, ms", text.number(period.mean_actual_ms)
        yield "mean error in this time, ms", text.number(period.mean_absolute_error_ms)
        yield (
            "typically within, in this time",
            text.within(period.median_absolute_percentage_error),
        )


# -- charts ---------------------------------------------------------------------------------


class _Figures:
    """The charts of a model, or of all: as HTML to be filled, and as data to be drawn.

    Attributes:
        html: a figure for each chart, with its title, its text and its tables.
        data: what they draw.
    """

    def __init__(self, name: str, charts: Sequence[Chart], model: str | None, *, utc: bool) -> None:
        panels: list[Any] = []
        figures = []
        for chart in sorted(charts, key=lambda one: _ORDER.index(one.kind)):
            first = len(panels)
            panels += [_panel_data(one, utc=utc) for one in chart.panels]
            figures.append(_figure(chart, model, f"{name}-{chart.kind}", name, first))
        self.html = f'<div class="grid">{"".join(figures)}</div>'
        told = json.dumps(panels, allow_nan=False, separators=(",", ":"))
        self.data = _packed(f"{name}-charts", gzip.compress(told.encode(), mtime=0))


_ORDER = ("models", "actual", "error", "coefficients", "ranges", "tokens", "sweep", "speed")
"""The order on the page, in which wide charts leave no holes between the others."""


def _figure(chart: Chart, model: str | None, name: str, owner: str, first: int) -> str:
    title = chart.title if model is None else chart.title.removeprefix(f"{model}: ")
    title = title[:1].upper() + title[1:]
    several = len(chart.panels) > 1
    plots = "".join(
        f'<div class="panel">{f"<p>{_e(panel.title)}</p>" if several else ""}'
        f'<div class="plot" role="img" aria-labelledby="{name}-title" '
        f'aria-describedby="{name}-text" data-charts="{owner}-charts" data-panel="{first + at}">'
        f"</div></div>"
        for at, panel in enumerate(chart.panels)
    )
    numbers = (
        f'<details class="numbers"><summary>The numbers as tables</summary><div class="scroll" '
        f'tabindex="0" role="region" aria-label="Numbers: {_e(title)}"></div></details>'
    )
    wide = ' class="wide"' if several or model is None else ""
    heading = "h2" if model is None else "h3"
    drawn = f'<div class="panels">{plots}</div>{numbers}'
    told = f'<{heading} id="{name}-title">{_e(title)}</{heading}>'
    return (
        f'<figure{wide} id="{name}"><figcaption>{told}<p class="text" id="{name}-text">'
        f"{_e(chart.text)}</p></figcaption>{drawn if chart.panels else ''}</figure>"
    )


def _panel_data(panel: Panel, *, utc: bool) -> Spec:
    """What draws a panel, with its rows as columns, and what its tables say."""
    spec = panel_spec(panel, utc=utc)
    datasets = {name: _columns(rows) for name, rows in spec.pop("datasets").items()}
    tables = [
        {"name": text.escape(one.name), "data": f"s{at}", "columns": _heads(panel, at)}
        for at, one in enumerate(panel.series)
        if one.x
    ]
    for kind in dict.fromkeys(event.kind for event in panel.events):
        heads = [_head("x", panel.x), ("text", "what happened", "names")]
        tables.append({"name": kind, "data": kind, "columns": heads})
    return {"spec": spec, "datasets": datasets, "tables": tables}


def _heads(panel: Panel, at: int) -> list[tuple[str, str, str]]:
    """The columns of a series' table: field, title, scale."""
    series = panel.series[at]
    heads = [_head("x", panel.x, "from " if series.x_end else "")]
    heads += [_head("x_end", panel.x, "to ")] if series.x_end else []
    heads += [_head("y", panel.y, "from " if series.y_end else "")] if series.y else []
    heads += [_head("y_end", panel.y, "to ")] if series.y_end else []
    heads += [_head("low", panel.y, "from ")] if series.low else []
    heads += [_head("high", panel.y, "to ")] if series.high else []
    return heads + ([("count", "calls", "linear")] if series.count else [])


def _head(field: str, axis: Axis, before: str = "") -> tuple[str, str, str]:
    unit = f" ({axis.unit})" if axis.unit else ""
    return field, f"{before}{text.escape(axis.title)}{unit}", axis.scale


_DIGITS = 5
"""Significant digits of a number on the page: more than a screen has pixels."""


def _columns(rows: Sequence[Spec]) -> dict[str, list[Any]]:
    names = rows[0] if rows else ()
    return {name: [_short(row[name]) for row in rows] for name in names}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if abs(value) >= 10**_DIGITS:
        return round(value)
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short
