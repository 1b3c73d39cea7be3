import math
from datetime import UTC, datetime, timedelta, timezone

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.cli.table import MODEL, Cell, Column, Table, cut, cut_names, width_of
from calibration_ledger.core import text
from calibration_ledger.core.values import iso


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
    assert (text.number(-0.0), text.number(-0.04), text.signed(-0.04)) == ("0.0", "0.0", "+0.0")
    assert text.percent(12.34) == "12.3 %"
    assert text.percent(1234.5) == "1234 %"
    assert text.percent(None) == "-"
    assert (text.within(12.34), text.within(math.inf)) == ("± 12 %", "-")
    assert text.signed_percent(-5.0) == "-5.0 %"
    assert text.signed_percent(5.0) == "+5.0 %"
    assert text.count(1, "entry", "entries") == "1 entry"
    assert text.count(0, "entry", "entries") == "0 entries"
    assert text.count(2, "call") == "2 calls"


def test_times_are_utc():
    time = datetime(2026, 11, 24, 9, 30, 0, 123_999, timezone(timedelta(hours=1)))
    assert iso(time) == "2026-11-24T08:30:00.123999Z"
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


NAMES = ["random-llama:15m-f32", "random-llama:42m-f32", "random-llama:110m-bf16"]
COLUMNS = [
    MODEL,
    Column("calls"),
    Column("mean error ms"),
    Column("last updated", left=True, spare=1),
    Column("status", left=True, cut_to=13),
]


def rows_of(names):
    return [
        [name, "240", f"{1000 / (i + 1):.1f}", "2026-11-24T03:09:13Z", "uncalibrated (prior only)"]
        for i, name in enumerate(names)
    ]


def lines_of(table, rows):
    return [*click.unstyle(table.header()).split("\n"), *map(table.line, rows)]


def test_titles_break_then_texts_lose_their_ends_then_columns_are_left_out():
    rows = rows_of(NAMES)

    def shown(width):
        table = Table(COLUMNS, rows, width)
        lines = lines_of(table, rows)
        assert max(map(width_of, lines)) <= width
        assert [line.split()[0] for line in lines[-3:]] == NAMES
        return lines, table.left_out

    whole, left_out = shown(200)
    assert len(whole) == 4
    assert left_out == []
    assert "(prior only)" in whole[1]
    broken, left_out = shown(88)
    assert broken[0].split() == ["mean"]
    assert broken[1].split()[:4] == ["model", "calls", "error", "ms"]
    assert left_out == []
    assert "(prior only)" in broken[2]
    ended, left_out = shown(80)
    assert ended[-1].endswith("2026-11-24T03:09:13Z  uncalibrated (prio…")
    assert left_out == []
    fewer, left_out = shown(60)
    assert left_out == ["last updated"]
    assert fewer[-1].endswith("333.3  uncalibrated (prior …")


def test_only_as_many_columns_are_left_out_as_must_be():
    columns = [
        MODEL,
        Column("a", spare=1),
        Column("wide", left=True, spare=2),
        Column("b", spare=3),
    ]
    rows = [["m" * 10, "1", "w" * 30, "2"]]
    table = Table(columns, rows, 30)
    assert table.left_out == ["wide"]
    assert table.line(rows[0]) == "mmmmmmmmmm  1  2"


def test_names_are_cut_last_and_never_so_that_two_look_alike():
    rows = rows_of(NAMES)
    table = Table(COLUMNS, rows, 46)
    lines = lines_of(table, rows)
    assert max(map(width_of, lines)) <= 46
    names = [line.split()[0] for line in lines[-3:]]
    assert len(set(names)) == 3
    for name, whole in zip(names, NAMES, strict=True):
        head, tail = name.split("…")
        assert whole.startswith(head)
        assert whole.endswith(tail)
    # Names that differ only where they would be cut stay whole, and so does the table.
    alike = ["a" * 30 + letter + "z" * 30 for letter in "xyz"]
    rows = rows_of(alike)
    table = Table(COLUMNS, rows, 46)
    assert lines_of(table, rows) == lines_of(Table(COLUMNS, rows), rows)
    assert table.left_out == []


def test_a_cut_that_would_not_be_enough_is_not_made():
    rows = rows_of(NAMES)
    table = Table(COLUMNS, rows, 20)
    assert lines_of(table, rows) == lines_of(Table(COLUMNS, rows), rows)
    assert table.left_out == []


def test_a_name_behind_the_first_rows_is_shown_whole():
    rows = rows_of(["m" * 60])
    table = Table(COLUMNS, rows, 50)
    assert "…" in table.line(rows[0])
    late = rows_of(["n" * 60])[0]
    assert table.line(late).startswith("n" * 60)


@given(st.lists(st.text(max_size=40), min_size=1, unique=True), st.integers(12, 30))
def test_cut_names_fit_and_stay_apart(names, width):
    names = {text.escape(name) for name in names}
    cuts = cut_names(names, width)
    if cuts is not None:
        assert len(set(cuts.values())) == len(names)
        assert all(width_of(name) <= width for name in cuts.values())


def test_cells_are_escaped():
    line = Table([Column("x", left=True)], []).line(["\x1b[2J\n"])
    assert line == "\\x1b[2J\\n"
