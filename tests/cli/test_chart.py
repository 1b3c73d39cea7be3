"""Charts in the terminal: `calib history --chart`, `calib sweep --chart`."""

import os
import re
import sys

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.chart import ASCII, BRAILLE, ROWS, chart_lines
from calibration_ledger.core.charts import Axis, ChartEvent, Panel, Series

from .conftest import at, plain_calls, run_in_terminal, run_process

pytest.importorskip("plotille")

HISTORY = ("history", "--chart")
SWEEP = ("sweep", "--chart")
CODE = re.compile(r"\x1b\[[0-9;]*m")


def panel(*series, x="linear", events=()):
    return Panel("A title", Axis("place", "", x), Axis("latency", "ms"), series, events)


def points(name, *y, **more):
    return Series(name, "points", tuple(map(float, range(len(y)))), y, **more)


def field(lines, strokes=BRAILLE):
    """What stands between the axes, the lowest row first."""
    return [line.partition(strokes.side)[2] for line in lines if strokes.side in line][
        ROWS - 1 :: -1
    ]


@pytest.fixture
def learnt(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(plain_calls("one", 90))
        calibrator.record_many(plain_calls("two", 45))
    return ledger_path


@pytest.mark.parametrize("strokes", [BRAILLE, ASCII])
def test_points_are_as_high_as_their_values_and_begin_at_zero(strokes):
    rows = field(chart_lines(panel(points("a", 0.0, 650.0, 1300.0)), 60, strokes=strokes), strokes)
    assert [(at, row.find("x")) for at, row in enumerate(rows) if "x" in row] == [
        *((0, 0), (6, 26), (13, 51))
    ]


def test_each_series_has_a_marker_of_its_own_and_the_legend_says_which():
    lines = chart_lines(panel(points("predicted", 1.0, 2.0), points("measured", 2.0, 2.0)), 60)
    assert lines[-1] == "x predicted   o measured   * both"
    drawn = "".join(field(lines))
    assert [drawn.count(mark) for mark in "xo*"] == [1, 1, 1]


def test_points_lie_above_lines_and_whiskers():
    line = Series("rule", "line", (0.001, 0.01, 0.1), (3.0, 2.0, 1.0))
    live = Series("live", "points", (0.01,), (2.0,))
    event = ChartEvent(0.01, "live", "Here it is.")
    for strokes in (BRAILLE, ASCII):
        lines = chart_lines(panel(line, live, x="log", events=(event,)), 60, strokes=strokes)
        drawn = "".join(field(lines, strokes))
        assert (drawn.count("x"), drawn.count("o")) == (2, 1)
        assert lines[-1].endswith(f"{strokes.event} Here it is.")
        assert "0.001" in lines[-3]
        assert "0.1" in lines[-3]


@pytest.mark.parametrize(
    "heights",
    [
        (0.0,),
        (0.0, 0.0),
        (5e-324,),
        (1.7e308, 0.0),
        (float("inf"), 2.0),
        (float("nan"),),
        (1e20, 1e20),
    ],
)
@pytest.mark.parametrize("strokes", [BRAILLE, ASCII])
def test_no_latency_is_too_odd_for_a_chart(heights, strokes):
    lines = chart_lines(
        panel(points("a", *heights, low=heights, high=heights)), 60, strokes=strokes
    )
    assert max(map(len, lines)) <= 60
    assert lines[-1] in {"x a", "nothing to draw: no figure is finite."}


@pytest.mark.parametrize("verb", [HISTORY, SWEEP])
@pytest.mark.parametrize("columns", [30, 40, 80, 132])
def test_a_chart_is_as_wide_as_the_terminal(learnt, verb, columns):
    shown = run_in_terminal("--ledger", learnt, *verb, "one", COLUMNS=str(columns))
    assert shown.code == 0
    lines = CODE.sub("", shown.out).splitlines()
    drawn = [line for line in lines if "│" in line or "└" in line]
    assert max(map(len, drawn)) == columns
    assert len(drawn) == ROWS + 1
    below = lines[lines.index(drawn[-1]) :][:5]  # the labels, the axis's title and the legend
    assert max(map(len, below)) == columns


@pytest.mark.parametrize("verb", [HISTORY, SWEEP])
def test_a_terminal_gets_colour_and_a_pipe_plain_text_of_80_columns(learnt, verb):
    args = ("--ledger", learnt, *verb, "one")
    assert CODE.search(run_in_terminal(*args).out)
    forced = run_process(*args, env=os.environ | {"FORCE_COLOR": "1"}).out
    assert CODE.search(forced)
    piped = run_process(*args).out
    assert "\x1b" not in piped
    assert CODE.sub("", forced) == piped
    assert max(len(line) for line in piped.splitlines() if "└" in line) == 80
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        shown = run_in_terminal(*args, **plain).out
        assert "\x1b" not in shown
        assert "x predicted" in shown or "x ema.1" in shown


@pytest.mark.parametrize("verb", [HISTORY, SWEEP])
def test_where_braille_cannot_be_shown_all_of_it_is_ascii(learnt, verb):
    shown = run_process(
        "--ledger", learnt, *verb, "one", env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert shown.code == 0
    assert shown.out.isascii()
    assert "\\u" not in shown.out
    assert shown.out.count("|") == ROWS


def test_a_history_is_a_chart_for_each_model(calib, learnt):
    shown = calib(*HISTORY)
    assert [line for line in shown.stdout.splitlines() if line in {"one", "two"}] == ["one", "two"]
    assert "60 calls\n" in shown.stdout
    assert "45 calls\n" in shown.stdout
    assert shown.stderr == (
        "(at most the newest 60 calls of each model are shown: --all shows every one)\n"
    )
    assert "90 calls, some 2.5 in each column" in calib(*HISTORY, "one", "--all").stdout
    assert "7 calls\n" in calib(*HISTORY, "one", "--last", 7).stdout
    assert "03:04:05" in calib(*HISTORY, "two").stdout


def test_voided_calls_are_not_drawn_and_those_given_up_have_a_marker(calib, learnt):
    with AdaptiveCalibrator(learnt) as calibrator:
        calibrator.record_many([Call("two", 1, 1, 9000.0, at(99), outcome="timeout")])
        calibrator.void("two", seq=(2, 4))
    shown = calib(*HISTORY, "two")
    assert "two: 3 voided calls left out.\n" in shown.stderr
    assert "43 calls\n" in shown.stdout
    assert "+ given up after" in shown.stdout
    with AdaptiveCalibrator(learnt) as calibrator:
        calibrator.void("two", seq=(5, 47))
    assert "─" not in calib(*HISTORY, "two").stdout


def test_a_sweep_is_a_line_for_each_rule_with_the_live_one_marked(calib, learnt):
    shown = calib(*SWEEP, "one").stdout
    assert "x ema.1   o kalman.2   + live: ema.1" in shown
    assert "┊ The live setting is ema.1 with alpha 0.15: " in shown
    assert "Adopt it: calib" in shown
    assert calib(*SWEEP).stdout.count("└") == 3  # each model, and all of them together


def test_a_sweep_without_a_finite_figure_draws_nothing(calib, learnt):
    assert "too few" in calib(*SWEEP, "one", "--warm-up", 85).stdout


@pytest.mark.parametrize("form", [("--json",), ("--format", "csv"), ("--format", "markdown")])
@pytest.mark.parametrize("verb", [HISTORY, SWEEP])
def test_a_chart_goes_with_no_other_format(calib, learnt, verb, form):
    told = calib(*verb, *form, exit_code=2).stderr
    assert told.endswith(
        "Error: --chart draws for people, in a terminal: leave it out, or --format and --json.\n"
    )


@pytest.mark.parametrize("verb", [HISTORY, SWEEP])
def test_without_the_extra_one_sentence_says_what_to_install(calib, learnt, monkeypatch, verb):
    monkeypatch.setitem(sys.modules, "plotille", None)
    shown = calib(*verb, exit_code=2)
    assert shown.stdout == ""
    assert re.fullmatch(
        r"Error: --chart needs plotille, which is not installed \(.*\): pip install plotille\.\n",
        shown.stderr,
    )
