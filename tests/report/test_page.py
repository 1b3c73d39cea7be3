"""The page, put together from charts made by hand: what it holds, and what it leaves out."""

import base64
import gzip
import json
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from calibration_ledger import PeriodStats
from calibration_ledger.report.page import BYTES, ROWS, Content, compose
from calibration_ledger.report.specs import THEMES
from support.hand_made import NASTY, charts_of, models_chart

MADE_AT = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)
EMPTY = {"meta", "link", "input", "br"}


def stats_of(model, calls=240):
    return {
        "model": model,
        "rule": "ema.1",
        "alpha": 0.15,
        "sample_count": calls,
        "confidence": 0.99,
        "ms_per_prompt_token": 0.52,
        "ms_per_completion_token": 21.0,
        "base_overhead_ms": 311.0,
        "mean_absolute_error_ms": 88.0,
        "mean_actual_ms": 1700.0,
        "median_absolute_percentage_error": 12.0,
        "last_updated": MADE_AT.timestamp() - 60.0,
        "is_calibrated": True,
        "status": "calibrated",
    }


def content_of(models, charts=charts_of, **changed):
    content = {
        "ledger": "calls.db",
        "since": None,
        "until": None,
        "utc": True,
        "made_at": MADE_AT,
        "overview": [models_chart(models or ["none"])],
        "stats": [stats_of(model) for model in models],
        "periods": {},
        "charts": charts,
    }
    return Content(**content | changed)


def page_of(models, **changed):
    return compose(content_of(models, **changed), lambda: gzip.compress(b"window.vegaEmbed = 0"))


class Read(HTMLParser):
    """Every element of a page with its attributes and texts; what is opened must be closed."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.texts, self.by_id = [], [], [], {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        if "id" in found:
            assert found["id"] not in self.by_id
            self.by_id[found["id"]] = found
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [found for name, found in self.elements if name == tag]


def unpacked(page):
    """The chart data of a page, by id."""
    found = re.findall(r'id="([a-z0-9]+-charts)">([A-Za-z0-9+/=]+)</script>', page)
    return {name: json.loads(gzip.decompress(base64.b64decode(data))) for name, data in found}


def test_the_page_has_a_language_a_title_and_a_text_for_each_chart_and_is_well_formed():
    page = page_of(["phi3:mini", "llama3:8b"])
    read = Read(page)
    assert read.all("html")[0]["lang"] == "en"
    assert len(read.all("figure")) == 1 + 2 * 7
    for plot in (one for one in read.all("div") if one.get("role") == "img"):
        assert {plot["aria-labelledby"], plot["aria-describedby"]} <= read.by_id.keys()
    links = [one["href"] for one in read.all("a") if one["href"].startswith("#")]
    assert {link[1:] for link in links} <= read.by_id.keys()
    assert len(read.all("h1")) == 1
    heads = Counter(tag for tag, _ in read.elements)
    assert heads["h2"] == 3
    assert heads["h3"] == 2 * 7


def test_the_page_names_no_address_and_forbids_every_request():
    page = page_of(["phi3:mini"])
    assert not re.search(r"""(?:src|href|action)=["'](?!#|data:)""", page)
    assert "@import" not in page
    assert "url(" not in page
    [policy] = [one for one in Read(page).all("meta") if "http-equiv" in one]
    assert policy["content"].startswith("default-src 'none';")


def test_a_name_is_only_ever_text():
    harmless = Counter(tag for tag, _ in Read(page_of(["phi3:mini", "x"])).elements)
    page = page_of([NASTY, "x"])
    read = Read(page)
    assert Counter(tag for tag, _ in read.elements) == harmless
    assert not any("onclick" in found for _, found in read.elements)
    assert "\u202e" not in page
    assert "\x1b" not in page
    shown = [text for tag, text in read.texts if tag == "h2" and "script" in text]
    assert shown == ['</script><b onclick="x()">\\u202e & {{name}} ${x} \\x1b[2J']
    assert "\u202e" not in json.dumps(unpacked(page), ensure_ascii=False)


def test_what_is_drawn_is_what_the_charts_say():
    panels = unpacked(page_of(["phi3:mini"]))["m0-charts"]
    [error] = [one for one in panels if any(table["name"] == "drift" for table in one["tables"])]
    assert error["datasets"]["s0"]["x"][1] == 1_795_036_000_000
    assert error["datasets"]["s1"]["y"][0] == -350
    assert error["datasets"]["reset"]["text"] == ["reset of phi3:mini"]
    for panel in panels:
        assert {table["data"] for table in panel["tables"]} == panel["datasets"].keys()
        for table in panel["tables"]:
            columns = panel["datasets"][table["data"]]
            assert {key for key, *_ in table["columns"]} <= columns.keys()
            assert len({len(column) for column in columns.values()}) == 1


def test_the_colours_of_the_page_are_those_of_pictures():
    page = page_of([])
    for at in range(4):
        light, dark = (THEMES[name].series[at] for name in ("light", "dark"))
        assert f"--series-{at + 1}: light-dark({light}, {dark});" in page
    for name in ("paper", "ink", "muted", "grid"):
        light, dark = (getattr(THEMES[theme], name) for theme in ("light", "dark"))
        assert f"--{name}: light-dark({light}, {dark});" in page


def test_fifty_models_have_all_their_charts_in_two_megabytes():
    page = page_of([f"model-{at}" for at in range(50)])
    assert len(page.encode()) < BYTES
    assert len(unpacked(page)) == 51
    assert "left out" not in page


def test_what_does_not_fit_is_left_out_and_told(monkeypatch):
    monkeypatch.setattr("calibration_ledger.report.page.BYTES", 300_000)
    read = []
    models = [f"model-{at:03}" for at in range(100)]
    page = page_of(models, charts=lambda model: read.append(model) or charts_of(model))
    assert 270_000 < len(page.encode()) <= 300_000
    drawn = len(unpacked(page)) - 1
    assert 5 < drawn < 90
    assert len(read) == drawn + 1  # nothing is read for those that are left out
    assert f"The charts of {100 - drawn} models with fewer calls are left out" in page
    links = {one["href"][1:] for one in Read(page).all("a")}
    assert links <= Read(page).by_id.keys()
    assert all(f">{model}<" in page for model in models)


def test_of_very_many_models_the_table_has_the_first():
    stats = [stats_of(f"model-{at:05}") for at in range(ROWS + 700)]
    page = page_of([], stats=stats, charts=lambda _: [])
    assert "; 700 more with fewer calls are not shown" in page
    assert "The charts of 700 models with fewer calls are left out" in page
    assert "model-00999" not in page
    assert len(page.encode()) <= BYTES


def test_an_empty_ledger_gives_a_page_that_says_so():
    page = page_of([])
    assert "0 models · 0 calls learnt" in page
    assert not Read(page).all("nav")


def test_a_model_without_figures_gives_dashes():
    bare = {"model": "new", "sample_count": 0, "confidence": 0.0, "status": "uncalibrated"}
    page = page_of([], stats=[bare])
    assert "<dt>Mean latency</dt><dd>-</dd>" in page


def test_a_coefficient_on_its_floor_is_about_0():
    stats = stats_of("m") | {"rule": "ema.1", "ms_per_prompt_token": 0.001}
    page = page_of([], stats=[stats])
    assert "<dt>Per prompt token</dt><dd>≈ 0 ms</dd>" in page
    assert '<th scope="row">ms for each prompt token</th><td>≈ 0</td>' in page


@pytest.mark.parametrize("count", [6, 7])
def test_few_models_are_open_and_of_more_the_first_alone(count):
    page = page_of([f"m{at}" for at in range(count)], charts=lambda _: [])
    assert page.count('<details class="model" open>') == (count if count == 6 else 1)
    assert page.count('<details class="model"') == count


def test_a_page_of_a_time_has_the_figures_of_that_time():
    period = PeriodStats(
        model="m",
        day=None,
        calls=1234,
        timeouts=5,
        mean_actual_ms=71.0,
        median_actual_ms=72.0,
        mean_absolute_error_ms=73.0,
        median_absolute_percentage_error=7.4,
        median_ratio=1.0,
    )
    page = page_of([], stats=[stats_of("m")], periods={"m": period}, since=MADE_AT)
    for term, told in (
        ("calls in this time", "1,234"),
        ("time-outs in this time", "5"),
        ("median latency in this time, ms", "72.0"),
        ("mean latency in this time, ms", "71.0"),
        ("mean error in this time, ms", "73.0"),
        ("typically within, in this time", "± 7.4 %"),
    ):
        assert f'<th scope="row">{term}</th><td>{told}</td>' in page
    assert "<td>1,234</td><td>72 ms</td>" in page


@pytest.mark.parametrize("utc", [True, False])
def test_times_name_their_zone(utc):
    page = page_of(["x"], utc=utc, since=MADE_AT - timedelta(days=1))
    zone = "UTC" if utc else MADE_AT.astimezone().tzname()
    assert '<time datetime="2026-11-28T10:00:00Z">' in page
    assert re.search(
        rf"calls from <time [^>]+>2026-11-2\d \d\d:\d\d {re.escape(zone)}</time>", page
    )


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "<rubbish>+25"])
def test_times_without_a_local_form_are_told_in_utc(zone, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        page = page_of(["x"], utc=False, until=datetime.max.replace(tzinfo=UTC))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert '<time datetime="9999-12-31T23:59:59Z">9999-12-31 23:59 UTC</time>' in page
