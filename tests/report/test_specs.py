"""Specifications of charts: data and looks, from charts made by hand."""

import json
import math
from itertools import chain

import pytest

from calibration_ledger.core.charts import Axis, Chart, Panel, Series
from calibration_ledger.report.specs import THEMES, panel_spec, spec
from support.hand_made import NASTY, START_S, charts_of, models_chart

ALL = [*charts_of("phi3:mini"), models_chart(["phi3:mini", "llama3:8b"])]


def walked(value):
    """All mappings inside a specification."""
    if isinstance(value, dict):
        yield value
        yield from chain.from_iterable(map(walked, value.values()))
    elif isinstance(value, list):
        yield from chain.from_iterable(map(walked, value))


def layers_of(found):
    return [one for one in walked(found) if "mark" in one]


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """As WCAG 2 says."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: chart.kind)
@pytest.mark.parametrize("theme", THEMES)
def test_every_kind_of_chart_becomes_plain_json_in_every_theme(chart, theme):
    found = spec(chart, theme=theme)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    points = sum(len(series.x) for panel in chart.panels for series in panel.series)
    assert sum(map(len, found["datasets"].values())) == points + sum(
        len(panel.events) for panel in chart.panels
    )
    drawn = {one["data"]["name"] for one in layers_of(found) if "name" in one["data"]}
    assert drawn == found["datasets"].keys()


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: chart.kind)
def test_series_and_events_differ_in_more_than_their_colour(chart):
    for panel in chart.panels:
        keys = [one for one in layers_of(panel_spec(panel)) if "values" in one["data"]]
        told = len(panel.series) + len({event.kind for event in panel.events})
        if told < 2:
            assert keys == []
            continue
        [key] = keys
        scales = {name: one["scale"]["range"] for name, one in key["encoding"].items()}
        told_by = ("shape", "strokeDash")
        looks = [str(look) for look in zip(*(scales[name] for name in told_by), strict=True)]
        assert len(looks) == told == len(set(looks))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_are_strong_enough_for_weak_eyes(theme):
    colours = THEMES[theme]
    assert contrast(colours.ink, colours.paper) > 7
    assert contrast(colours.muted, colours.paper) > 7
    assert min(contrast(one, colours.paper) for one in colours.series) > 4.5


def test_a_name_is_data_and_is_shown_with_what_steers_it_written_out():
    found = [spec(one) for one in [*charts_of(NASTY), models_chart([NASTY])]]
    texts = json.dumps(found, ensure_ascii=False)
    assert "\u202e" not in texts
    assert "\\\\u202e" in texts
    signals = [
        one for one in walked(found) for key in ("labelExpr", "signal", "expr") if key in one
    ]
    assert NASTY[:9] not in json.dumps(signals)


def test_times_are_told_in_the_zone_of_the_reader_or_in_utc():
    [chart] = [one for one in ALL if one.kind == "error"]
    for utc, scale in ((False, "time"), (True, "utc")):
        whole = spec(chart, utc=utc)
        found = layers_of(whole)
        assert {
            one["encoding"]["x"]["scale"]["type"] for one in found if "x" in one["encoding"]
        } == {scale}
        assert whole["datasets"]["0-s0"][0]["x"] == START_S * 1000


def test_names_stand_beside_their_values():
    found = spec(models_chart(["b", "a"]))
    assert {one["encoding"]["y"]["field"] for one in layers_of(found)} == {"x"}
    assert [row["x"] for row in found["datasets"]["0-s0"]] == ["b", "a"]


def test_a_chart_without_panels_says_why_in_its_title():
    found = spec(Chart("speed", "x", "Speed", "There is no call yet.", ()))
    assert found["title"]["subtitle"] == ["There is no call yet."]
    assert found["vconcat"] == []


def test_an_empty_series_draws_nothing():
    panel = Panel("", Axis("x"), Axis("y"), (Series("none", "line", ()),))
    assert layers_of(panel_spec(panel)) == []


@pytest.mark.parametrize("values", [(5e-324, 1e-300), (0.001, 1.7e308), (1e308,), (3.0, 3.0)])
def test_an_axis_of_logarithms_has_room_for_every_number(values):
    panel = Panel("", Axis("x"), Axis("y", "ms", "log"), (Series("a", "points", values, values),))
    y = layers_of(panel_spec(panel))[0]["encoding"]["y"]
    low, high = y["scale"]["domain"]
    assert 0.0 < low <= y["axis"]["values"][0] <= y["axis"]["values"][-1] <= high < math.inf
    assert low < high


def axis_of_time(title, *seconds):
    """The axis of x that is drawn where calls were made at these times."""
    series = Series("calls", "points", seconds, (1.0,) * len(seconds))
    found = panel_spec(Panel("", Axis(title, scale="time"), Axis("Error", "ms"), (series,)))
    return layers_of(found)[0]["encoding"]["x"]["axis"]


def test_a_few_days_have_a_tick_each_that_names_the_day():
    days = [START_S, START_S + 86_400]
    found = axis_of_time("day", *days)
    assert found["values"] == [1000 * at for at in days]
    assert found["format"] == "%Y-%m-%d"


def test_a_single_moment_is_told_as_a_whole():
    found = axis_of_time("time", START_S, START_S)
    assert found["values"] == [1000 * START_S]
    assert found["format"] == "%Y-%m-%d %H:%M:%S"


@pytest.mark.parametrize(
    ("hours", "told"), [(1, "'%Y-%m-%d'"), (24 * 30, "'%Y'")], ids=["the day", "the year"]
)
def test_an_axis_of_time_tells_what_its_ticks_leave_out(hours, told):
    assert told in axis_of_time("time", START_S, START_S + 3600 * hours)["labelExpr"]


def test_a_name_with_hyphens_is_not_broken_in_a_title():
    name = "-".join(["random"] * 10)
    chart = Chart("models", None, "All models", f"{'word ' * 20}{name}", ())
    assert name in spec(chart)["title"]["subtitle"]
