from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.cli import text
from calibration_ledger.cli.table import Cell, Column, Table, cut, width_of


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (0.0, "0.0 ms"),
        (0.04, "0.0 ms"),
        (9.94, "9.9 ms"),
        (9.96, "10 ms"),
        (850.4, "850 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (3400.2, "3.4 s"),
        (59_940.0, "59.9 s"),
        (59_960.0, "1 min 0 s"),
        (125_000.0, "2 min 5 s"),
        (3_599_400.0, "59 min 59 s"),
        (3_599_600.0, "1 h 0 min"),
        (12_000_000.0, "3 h 20 min"),
        (1.7e308, "4.72e+301 h"),
    ],
)
def test_durations_are_said_as_people_say_them(milliseconds, said):
    assert text.duration(milliseconds) == said


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0.0, "0.0"),
        (1234.56, "1234.6"),
        (-1234.56, "-1234.6"),
        (1.7e308, "1.7e+308"),
    ],
)
def test_numbers_stay_short(value, shown):
    assert text.number(value) == shown


def test_signs_percentages_and_counts():
    assert text.signed(1.0) == "+1.0"
    assert text.signed(-1.0) == "-1.0"
    assert text.signed(None) == "-"
    assert text.percent(12.34) == "12.3 %"
    assert text.percent(1234.5) == "1234 %"
    assert text.percent(None) == "-"
    assert text.signed_percent(-5.0) == "-5.0 %"
    assert text.signed_percent(5.0) == "+5.0 %"
    assert text.count(1, "entry", "entries") == "1 entry"
    assert text.count(0, "entry", "entries") == "0 entries"
    assert text.count(2, "call") == "2 calls"


def test_times_are_utc():
    time = datetime(2026, 11, 24, 9, 30, 0, 123_999, timezone(timedelta(hours=1)))
    assert text.iso(time) == "2026-11-24T08:30:00.123999Z"
    assert text.time(time) == "2026-11-24T08:30:00.123Z"
    assert text.time_of(datetime(2026, 11, 24, tzinfo=UTC).timestamp()) == "2026-11-24T00:00:00Z"
    assert text.time_of(None) == "-"


@given(st.text())
def test_what_is_printed_is_printable(name):
    escaped = text.escape(name)
    assert escaped.isprintable()
    if name.isprintable():
        assert escaped == name


@given(st.text(), st.integers(1, 40))
def test_what_is_cut_fits(name, width):
    name = text.escape(name)
    assert width_of(cut(name, width)) <= max(width, 1)


def test_wide_and_combining_characters_are_measured():
    assert width_of("abc") == 3
    assert width_of("模型") == 4
    assert width_of("e\u0301") == 1
    assert cut("模型模型", 5) == "模型…"


def test_texts_stand_on_the_left_and_numbers_on_the_right():
    table = Table(
        [Column("name", left=True), Column("n"), Column("status", left=True)],
        [["模型", "1", "ok"], ["b", "20", "not ok"]],
    )
    assert click.unstyle(table.header()) == "name   n  status"
    assert table.line(["模型", "1", "ok"]) == "模型   1  ok"
    assert table.line(["b", Cell("20", "bad"), "not ok"]) == "b     \x1b[31m20\x1b[0m  not ok"


def test_a_table_takes_from_its_widest_text_until_it_fits():
    columns = [Column("name", left=True), Column("n"), Column("note", left=True)]
    row = ["n" * 40, "123456", "o" * 20]
    table = Table(columns, [row], width=50)
    line = table.line(row)
    assert width_of(line) == 50
    assert "123456" in line
    assert "o" * 20 in line
    narrow = Table(columns, [row], width=10).line(row)
    assert narrow == f"{'n' * 11}…  123456  {'o' * 11}…"


def test_cells_are_escaped():
    line = Table([Column("x", left=True)], []).line(["\x1b[2J\n"])
    assert line == "\\x1b[2J\\n"
