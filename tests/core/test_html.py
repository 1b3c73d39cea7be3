"""What a notebook shows: parsed, as a browser does, and nothing of a name obeyed."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.html import ROWS_MOST, Column, Rows, table

START = datetime(2026, 11, 1, tzinfo=UTC)
HOSTILE = [
    "<script>alert(1)</script>",
    "a\"b'c&d",
    "</td></table><img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "$\\alpha$ and \\(x\\)",
    "名前",
]
"""What `record` takes for names of models."""


class Read(HTMLParser):
    """The tags and texts of what a notebook would show."""

    VOID = frozenset({"img", "br", "hr"})

    def __init__(self, html):
        super().__init__()
        self.open, self.rows, self.tags, self.attributes, self.caption = [], [], [], [], ""
        self.after = ""
        self.feed(html)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "caption":
            self.caption += data
        elif self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data
        else:
            self.after += data


def calls_of(model, n=60):
    return [
        Call(model, 100 + 7 * i, 20 + i, 400.0 + 11 * i + (i % 5), START + timedelta(hours=i))
        for i in range(n)
    ]


@pytest.fixture
def calibrator(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for model in HOSTILE:
            calibrator.record_many(calls_of(model))
        yield calibrator
        assert calibrator.audit() == []


LISTS = {
    "all_stats": lambda c: c.all_stats(),
    "stats": lambda c: c.stats(),
    "stats by day": lambda c: c.stats(by_day=True),
    "replay": lambda c: c.replay(),
    "recalibrate": lambda c: c.recalibrate(0.3, dry_run=True),
    "replay_forecasts": lambda c: c.replay_forecasts(),
    "sweep": lambda c: c.sweep(alphas=[0.1, 0.2], rules="ema"),
    "rank": lambda c: c.rank(100),
    "drift": lambda c: c.drift(),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_values_is_one_table_with_a_row_of_each_model(calibrator, name):
    found = LISTS[name](calibrator)
    read = Read(found._repr_html_())
    assert read.caption
    assert {*HOSTILE} <= {row[0] for row in read.rows}
    assert len({len(row) for row in read.rows}) == 1
    assert {*read.tags} <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
    assert {name for name, _ in read.attributes} <= {"class", "style", "scope"}


ONES = {
    "get_stats": lambda c, model: c.get_stats(model),
    "replay": lambda c, model: c.replay(model=model)[0],
    "sweep": lambda c, model: c.sweep(alphas=[0.1, 0.2], rules="ema", model=model)[0],
    "forecast": lambda c, model: c.forecast(model, 100),
    "forecast of a given length": lambda c, model: c.forecast(model, 100, 20),
    "forecast of the first token": lambda c, model: c.forecast_ttft(model, 100),
    "remaining": lambda c, model: c.forecast(model, 100).remaining(300.0),
    "drift": lambda c, model: c.drift(model)[0],
    "replay_forecasts": lambda c, model: c.replay_forecasts(model)[0],
    "stats": lambda c, model: c.stats(model)[0],
    "charts": lambda c, model: c.charts(model, ["actual"]),
}


@pytest.mark.parametrize("name", ONES)
def test_a_value_is_a_table_in_which_no_name_is_obeyed(calibrator, name):
    for model in HOSTILE:
        read = Read(ONES[name](calibrator, model)._repr_html_())
        texts = [read.caption, *(text for row in read.rows for text in row)]
        assert any(model in text for text in texts)
        assert {*read.tags} <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
        assert "mathjax_ignore" in dict(read.attributes)["class"], "no formula is typeset"


@pytest.mark.parametrize("name", ["get_stats", "forecast", "remaining"])
def test_a_model_never_seen_is_a_table_too(calibrator, name):
    read = Read(ONES[name](calibrator, "new")._repr_html_())
    assert any("new" in row for row in read.rows)


def test_what_nobody_sees_is_written_out():
    columns = [Column("name", str, left=True)]
    html = table("caption\x1b[2J", columns, ["a\u202eb", "line\nbreak", "\x00\x7f", "half \ud800"])
    read = Read(html)
    assert read.rows[1:] == [["a\\u202eb"], ["line\\nbreak"], ["\\x00\\x7f"], ["half \\ud800"]]
    assert read.caption == "caption\\x1b[2J"
    html.encode()


def test_a_table_sets_no_colours():
    html = table("c", [Column("name", str)], ["a"])
    assert "color" not in html
    assert "background" not in html


def test_a_long_table_is_cut_with_a_sentence():
    columns = [Column("n", str)]
    assert Read(table("c", columns, range(ROWS_MOST))).after == ""
    read = Read(table("c", columns, range(ROWS_MOST + 2)))
    assert len(read.rows) == 1 + ROWS_MOST
    assert read.after == "2 more rows of 62 in all: not shown here."


def test_numbers_are_those_that_commands_print(calibrator):
    [found] = calibrator.replay(model=HOSTILE[0])
    header, row = Read(found._repr_html_()).rows
    shown = dict(zip(header, row, strict=True))
    assert shown["calls"] == "60"
    assert shown["mean error ms"] == f"{found.mean_absolute_error_ms:.1f}"
    assert shown["rule"] == "ema.1"


def test_a_coefficient_on_its_floor_is_about_0(ledger_path):
    with AdaptiveCalibrator(ledger_path, rule="kalman") as calibrator:
        calibrator.record_many(Call("m", 0, 10, 10.0) for _ in range(40))
        for found in (calibrator.get_stats("m"), calibrator.replay()[0]):
            header, row = Read(found._repr_html_()).rows
            assert dict(zip(header, row, strict=True))["base ms"] == "≈ 0"


def test_a_sweep_ranks_and_says_what_comes_of_it(calibrator):
    found = calibrator.sweep(alphas=[0.1, 0.2], rules="ema", model=HOSTILE[0])
    read = Read(found._repr_html_())
    assert [row[0] for row in read.rows] == ["rank", "live", "1", "2"]
    assert found[0].verdict in read.caption
    several = Read(calibrator.sweep(alphas=[0.1, 0.2], rules="ema")._repr_html_())
    assert several.rows[-1][0] == "all together"


def test_no_calls_are_no_table(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.all_stats()._repr_html_() is None
        assert calibrator.stats()._repr_html_() is None
        assert calibrator.rank(10)._repr_html_() is None


def test_to_a_program_stats_are_a_dict_and_lists_are_lists(calibrator):
    one, all_of_them = calibrator.get_stats(HOSTILE[0]), calibrator.all_stats()
    assert isinstance(one, dict)
    assert isinstance(all_of_them, list)
    assert one == dict(one)
    assert all_of_them == list(all_of_them)
    assert repr(one) == repr(dict(one))
    assert repr(all_of_them) == repr([dict(found) for found in all_of_them])
    for value in (one, all_of_them, calibrator.replay()):
        for other in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301 - our own
            assert other == value
            assert type(other) is type(value)
    without_drift = [{**found, "drift": None} for found in all_of_them]
    assert json.loads(json.dumps(without_drift)) == without_drift


def test_a_list_of_something_else_is_shown_as_text():
    assert Rows([1, 2])._repr_html_() is None
    assert Rows([1, 2]) == [1, 2]
