"""What there is to look at of a ledger, as few points, from one read of each history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from math import isfinite
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import (
    AdaptiveCalibrator,
    ChartKind,
    InvalidInputError,
    LedgerNotFoundError,
    fast,
)
from calibration_ledger.verbs import charts as charts_verb

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
KINDS = get_args(ChartKind)
OF_ONE = tuple(kind for kind in KINDS if kind != "models")


def recorded(calibrator, calls, model="m"):
    """Record (prompt tokens, completion tokens, actual ms), one a minute."""
    calibrator.record_many(
        {
            "model": model,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "actual_ms": actual,
            "called_at": START + timedelta(minutes=place),
        }
        for place, (prompt, completion, actual) in enumerate(calls)
    )


def usual(n):
    return [(50 + 7 * i % 300, 20 + 11 * i % 90, 400.0 + 13 * i % 700) for i in range(n)]


def checked(charts):
    """The charts, each of which can be drawn."""
    for chart in charts:
        assert chart.text
        for panel in chart.panels:
            for series in panel.series:
                for column in (series.y, series.low, series.high, series.x_end, series.y_end):
                    assert len(column) in {0, len(series.x)}
                    assert all(map(isfinite, column))
                assert len(series.count) in {0, len(series.x)}
                assert len(series.labels) in {0, len(series.x)}
                is_named = panel.x.scale == "names"
                assert is_named or all(map(isfinite, series.x))
                for axis, columns in (
                    (panel.x, (series.x, series.x_end)),
                    (panel.y, (series.y, series.low, series.high, series.y_end)),
                ):
                    if axis.scale == "log":
                        assert min((one for column in columns for one in column), default=1) > 0
    return {chart.kind: chart for chart in charts}


@pytest.mark.both
def test_a_model_has_a_chart_of_each_kind(calibrator):
    recorded(calibrator, usual(60))
    charts = checked(calibrator.charts("m"))
    assert tuple(charts) == OF_ONE
    assert all(chart.panels for chart in charts.values())
    [models] = calibrator.charts()
    assert models.kind == "models"
    assert models.panels[0].series[0].x == ("m",)


def test_a_wrong_kind_is_refused(calibrator):
    recorded(calibrator, usual(1))
    with pytest.raises(InvalidInputError, match="a kind is one of"):
        calibrator.charts("m", ["eror"])
    with pytest.raises(InvalidInputError, match="of all models"):
        calibrator.charts("m", ["models"])
    with pytest.raises(InvalidInputError, match="of one model"):
        calibrator.charts(None, ["error"])


def test_without_a_ledger_there_is_an_error_not_an_empty_chart(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator, pytest.raises(LedgerNotFoundError):
        calibrator.charts()


def total(chart, panel=0, name=None):
    """How many calls the points of a panel's series stand for."""
    series = chart.panels[panel].series
    counted = [one for one in series if one.count and name in {None, one.name}]
    return sum(counted[0].count)


def events(chart):
    return [(event.kind, event.x) for panel in chart.panels[:1] for event in panel.events]


def seconds(minutes):
    return (START + timedelta(minutes=minutes)).timestamp()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_calls_give_charts_or_say_why_there_are_none(calibrator, n):
    recorded(calibrator, usual(n) or usual(1))
    if not n:
        calibrator.void("m", last=1)
    charts = checked(calibrator.charts("m"))
    assert "nothing to compare" in charts["sweep"].text
    assert not charts["sweep"].panels
    drawn = {kind for kind, chart in charts.items() if chart.panels}
    assert drawn == (
        {"actual", "error", "coefficients", "ranges", "tokens", "speed"} if n else set()
    )
    for kind in {*OF_ONE} - drawn - {"sweep"}:
        assert "no call" in charts[kind].text
    checked(calibrator.charts())


def test_the_points_of_each_chart_stand_for_all_calls_that_count(calibrator):
    recorded(calibrator, usual(700))
    calibrator.void("m", seq=[(10, 59), 90])
    charts = checked(calibrator.charts("m"))
    assert total(charts["actual"]) == 649
    assert total(charts["error"], 0, "median") == total(charts["error"]) == 649
    assert total(charts["tokens"]) == total(charts["tokens"], 1) == total(charts["speed"]) == 649
    assert "649 calls" in charts["actual"].text
    assert "voided" in {kind for kind, _ in events(charts["error"])}
    assert "Voided 51 entries" in charts["error"].text


def test_few_calls_are_points_and_many_are_cells(calibrator):
    recorded(calibrator, usual(300))
    [few] = calibrator.charts("m", "actual")
    assert few.panels[0].series[0].mark == "points"
    assert len(few.panels[0].series[0].x) == 300
    recorded(calibrator, usual(1))
    [many] = calibrator.charts("m", ["actual"])
    assert many.panels[0].series[0].mark == "cells"
    for one in (few, many):
        diagonal = one.panels[0].series[-1]
        assert diagonal.x == diagonal.y
        assert diagonal.x[0] <= min(one.panels[0].series[0].x)


def test_cells_are_as_wide_as_high_however_many_there_are(calibrator):
    recorded(calibrator, [(i * 37 % 900, i * 41 % 700, 10.0 * 1.01**i) for i in range(1200)])
    [chart] = calibrator.charts("m", ["actual"])
    cells = chart.panels[0].series[0]
    wide = max(end / start for start, end in zip(cells.x, cells.x_end, strict=True))
    high = max(end / start for start, end in zip(cells.y, cells.y_end, strict=True))
    assert 0.5 < (wide - 1.0) / (high - 1.0) < 2.5


def test_calls_that_were_given_up_stand_for_themselves(calibrator):
    recorded(calibrator, usual(40))
    for i in range(3):
        calibrator.record(
            "m", 50, 60_000.0, outcome="timeout", called_at=START + timedelta(hours=i + 1)
        )
    charts = checked(calibrator.charts("m"))
    for kind in ("actual", "error", "tokens"):
        named = [one for one in charts[kind].panels[0].series if "given up" in one.name]
        assert [sum(one.count) for one in named] == [3], kind
        assert "3 calls were given up" in charts[kind].text
    assert total(charts["actual"]) == total(charts["speed"]) == 40
    assert "3 calls were given up" in charts["ranges"].text


def test_a_model_of_nothing_but_time_outs_shows_them(calibrator):
    calibrator.record("m", 50, 60_000.0, outcome="timeout")
    charts = checked(calibrator.charts("m"))
    assert charts["actual"].panels
    assert not charts["speed"].panels
    assert not charts["ranges"].panels


def test_the_coefficients_end_where_the_live_ones_are(calibrator):
    recorded(calibrator, usual(950))
    calibrator.recalibrate(rule="kalman", model="m")
    recorded(calibrator, usual(5))
    [chart] = checked(calibrator.charts("m", "coefficients")).values()
    live = calibrator.calibration("m")
    assert [panel.series[0].y[-1] for panel in chart.panels] == [
        live.base_overhead_ms,
        live.ms_per_prompt_token,
        live.ms_per_completion_token,
    ]
    assert len(chart.panels[0].series[0].x) <= 401
    # However late the model was opened, the path begins with its first call.
    assert chart.panels[0].series[0].x[0] == START.timestamp()


def test_the_sweep_is_that_of_sweep_with_the_live_alpha_marked(calibrator):
    recorded(calibrator, usual(120))
    [chart], sweep = calibrator.charts("m", "sweep"), calibrator.sweep(model="m")[0]
    errors = {
        (series.name, x): y
        for series in chart.panels[0].series
        if series.mark == "line"
        for x, y in zip(series.x, series.y, strict=True)
    }
    assert errors == {(one.rule, one.alpha): one.mean_absolute_error_ms for one in sweep.scores}
    assert events(chart) == [("live", 0.15)]
    assert "ema.1 with alpha 0.15" in chart.panels[0].events[0].text


@pytest.mark.both
def test_the_ranges_held_as_often_as_a_replay_of_forecasts_says(calibrator):
    recorded(calibrator, usual(160))
    [chart] = calibrator.charts("m", "ranges")
    [replayed] = calibrator.replay_forecasts("m", warm_up=0)
    found = {one.name: one.y for one in chart.panels[1].series}
    for name, score in (("known", replayed.known), ("not known", replayed.unknown)):
        shares = (score.coverage_50, score.coverage_80, score.coverage_90, score.coverage_95)
        assert found[f"completion length {name}"] == tuple(100.0 * share for share in shares)
    assert "Over the newest 160 calls" in chart.text


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_ranges_are_the_same_with_the_other_charts_and_alone(calibrator, rule):
    """With the others, they begin where the one read has come to."""
    calibrator.set_default_rule(rule)
    recorded(calibrator, usual(1_100))
    calibrator.void("m", seq=[40, 1_050])
    recorded(calibrator, usual(100))
    assert calibrator.charts("m", "ranges") == calibrator.charts("m", ["sweep", "ranges"])[1:]


def test_what_changed_the_calibration_is_marked_where_it_happened(calibrator):
    recorded(calibrator, usual(30))
    calibrator.reset("m")
    calibrator.record("m", 10, 500.0, called_at=START + timedelta(minutes=60))
    calibrator.recalibrate(rule="kalman", model="m")
    [chart] = calibrator.charts("m", "error")
    # They were made today, behind calls of long ago: so they stand between these calls.
    assert events(chart) == [("reset", seconds(60)), ("recalibrated", seconds(60))]
    assert "Reset to a prior on" in chart.text
    assert "Recalibrated to kalman.2 with alpha 0.01" in chart.text
    [coefficients] = calibrator.charts("m", "coefficients")
    assert events(coefficients) == events(chart)


def test_drift_is_marked_where_it_began(calibrator):
    calls = usual(200)
    recorded(calibrator, calls)
    for place, (prompt, completion, actual) in enumerate(calls[:30]):
        at = START + timedelta(minutes=300 + place)
        calibrator.record("m", prompt, 3 * actual, completion_tokens=completion, called_at=at)
    [drift] = calibrator.drift("m")
    assert drift.drift is not None
    [chart] = calibrator.charts("m", "error")
    assert events(chart) == [("drift", drift.first_at.timestamp())]
    assert "times as long as before" in chart.text


def test_only_the_calls_of_a_window_count(calibrator):
    recorded(calibrator, usual(500))
    since, until = START + timedelta(minutes=100), START + timedelta(minutes=300)
    charts = checked(calibrator.charts("m", since=since, until=until))
    assert total(charts["actual"]) == total(charts["error"]) == total(charts["tokens"]) == 200
    for kind in ("error", "coefficients", "ranges", "speed"):
        for panel in charts[kind].panels:
            if panel.x.scale == "time":
                x = [one for series in panel.series for one in series.x]
                assert seconds(100) <= min(x) <= max(x) < seconds(300)
    [sweep] = calibrator.sweep(model="m", since=since, until=until)
    assert charts["sweep"].panels[0].series[0].count[0] == sweep.scores[0].n == 200
    assert "from 2026-01-02 04:44 UTC on and before 2026-01-02 08:04 UTC" in charts["error"].text
    none = checked(calibrator.charts("m", since=START + timedelta(days=9)))
    assert not any(chart.panels for chart in none.values())


def test_constant_calls_are_shown_as_they_are(calibrator):
    recorded(calibrator, [(10, 10, 500.0)] * 400)
    charts = checked(calibrator.charts("m"))
    speed = {one.name: one for one in charts["speed"].panels[0].series}
    assert speed["median"].y == (20.0,)
    assert speed["9 of 10 calls"].low == speed["9 of 10 calls"].high == (20.0,)


def test_absurd_ranges_can_be_drawn(calibrator):
    times = [0.0, 1e-300, 5e-324, 1e-3, 1.0, 1e6, 1e12, 1e17]
    calls = [(10**i % 2**31, 3**i % 2**20, time) for i, time in enumerate(times * 30)]
    recorded(calibrator, calls)
    charts = checked(calibrator.charts("m"))
    assert total(charts["actual"]) == total(charts["error"]) == len(calls)
    checked(calibrator.charts())


def test_times_in_any_order_are_shown_in_order(calibrator):
    calls = usual(50)
    recorded(calibrator, calls)
    recorded(calibrator, calls)
    charts = checked(calibrator.charts("m"))
    for kind in ("error", "coefficients", "ranges", "speed"):
        for series in charts[kind].panels[0].series:
            assert list(series.x) == sorted(series.x)


def test_another_name_leads_to_the_charts_of_its_model(calibrator):
    recorded(calibrator, usual(30))
    recorded(calibrator, usual(30), "other")
    calibrator.alias("other", "m", merge=True)
    charts = calibrator.charts("other")
    assert charts == calibrator.charts("m")
    assert {chart.model for chart in charts} == {"m"}
    assert total(charts[0]) == 60
    assert calibrator.charts()[0].panels[0].series[0].x == ("m",)


def test_that_all_calls_have_one_time_is_told(calibrator):
    one_time = {"model": "m", "prompt_tokens": 10, "completion_tokens": 5, "called_at": START}
    calibrator.record_many([one_time | {"actual_ms": 100.0 + i} for i in range(30)])
    [chart] = calibrator.charts("m", "error")
    assert "All of them have one time" in chart.text


def test_what_is_archived_is_told(calibrator, tmp_path):
    recorded(calibrator, usual(100))
    calibrator.archive(START + timedelta(minutes=50), tmp_path / "old.jsonl")
    charts = checked(calibrator.charts("m"))
    assert total(charts["actual"]) == 50
    assert all("lie in an archive" in chart.text for chart in charts.values())
    assert "archived" not in {kind for kind, _ in events(charts["error"])}


def test_many_events_become_few(calibrator):
    for place in range(60):
        recorded(calibrator, usual(1))
        calibrator.void("m", last=1) if place % 2 else calibrator.reset("m")
    [chart] = checked(calibrator.charts("m", "error")).values()
    assert len(chart.panels[0].events) <= 60
    assert len(chart.text) < 2_000


def test_models_are_compared_on_the_prompt_of_their_newest_calls(calibrator):
    recorded(calibrator, [(100, 50, 900.0)] * 30, "slow")
    recorded(calibrator, [(100, 50, 300.0)] * 40, "quick")
    [chart] = checked(calibrator.charts()).values()
    [panel] = chart.panels
    assert panel.series[0].x == ("quick", "slow")
    assert panel.series[0].y == tuple(
        calibrator.forecast(model, 100).median_ms for model in ("quick", "slow")
    )
    assert "A prompt of 100 tokens" in chart.text
    assert "Soonest: quick" in chart.text
    assert "Slowest: slow" in chart.text
    [old] = calibrator.charts(since=START + timedelta(days=1))
    assert not old.panels


def test_of_many_models_those_with_the_most_calls_are_shown(calibrator, monkeypatch):
    recorded(calibrator, usual(3), "few")
    recorded(calibrator, usual(9), "many")
    monkeypatch.setattr(charts_verb, "MODELS", 1)
    [chart] = calibrator.charts()
    assert chart.panels[0].series[0].x == ("many",)
    assert "1 model with fewer calls left out" in chart.text


def test_progress_is_told_of_each_call_once(calibrator):
    recorded(calibrator, usual(1_200))
    told = []
    calibrator.charts("m", progress=told.append)
    assert sum(told) == 1_200


@pytest.mark.skipif(not find_spec("numba"), reason="numba is not installed")
def test_charts_are_the_same_compiled_and_plain(calibrator, monkeypatch):
    recorded(calibrator, usual(900))
    for i in range(4):
        calibrator.record(
            "m", 50, 60_000.0, outcome="timeout", called_at=START + timedelta(hours=i)
        )
    calibrator.reset("m")
    recorded(calibrator, usual(300))
    window = {"since": START + timedelta(minutes=40), "until": START + timedelta(minutes=700)}
    plain = [calibrator.charts("m"), calibrator.charts("m", **window)]
    monkeypatch.setattr(fast, "LONG", 0)
    monkeypatch.setattr(charts_verb, "SHORTEST", 200)
    assert [calibrator.charts("m"), calibrator.charts("m", **window)] == plain


STEP = st.one_of(
    st.tuples(
        st.just("call"),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**31 - 1),
        st.floats(0, 1e9, allow_nan=False),
        st.integers(0, 10**9),
        st.sampled_from(["ok", "ok", "ok", "timeout"]),
    ),
    st.tuples(st.sampled_from(["reset", "void", "recalibrate"]), st.integers(0, 5)),
)


@given(
    steps=st.lists(STEP, max_size=40), bounds=st.none() | st.tuples(*[st.integers(0, 10**9)] * 2)
)
def test_of_any_history_the_counts_add_up_and_all_can_be_drawn(steps, bounds):
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.record("m", 1, 1.0, called_at=START)
        for what, *given_ in steps:
            if what == "call":
                prompt, completion, actual, at, outcome = given_
                calibrator.record(
                    "m",
                    prompt,
                    actual,
                    completion_tokens=completion,
                    called_at=START + timedelta(seconds=at),
                    outcome=outcome,
                )
            elif what == "reset":
                calibrator.reset("m")
            elif what == "recalibrate":
                calibrator.recalibrate(rule=["ema", "kalman"][given_[0] % 2], model="m")
            else:
                calibrator.void("m", last=given_[0] + 1)
        window = {}
        if bounds is not None:
            since, until = (START + timedelta(seconds=one) for one in sorted(bounds))
            window = {"since": since, "until": until}
        charts = checked(calibrator.charts("m", **window))
        calls = [call for call in calibrator.calls("m", **window) if not call.voided]
        n = sum(call.outcome == "ok" for call in calls)
        for kind, panel in (("actual", 0), ("error", 0), ("tokens", 0), ("tokens", 1)):
            if charts[kind].panels and n:
                assert total(charts[kind], panel) == n
            assert bool(charts[kind].panels) is bool(calls)
        ends = (window["since"].timestamp(), window["until"].timestamp()) if window else None
        for _, x in [*events(charts["error"]), *events(charts["coefficients"])]:
            assert ends is None or ends[0] <= x < ends[1]
        assert calibrator.audit() == []


def test_a_coefficient_on_its_floor_is_told_as_about_zero(calibrator):
    for _ in range(200):
        calibrator.record("m", prompt_tokens=100, completion_tokens=0, actual_ms=0.01)
    [coefficients] = calibrator.charts("m", "coefficients")
    assert "to ≈ 0 ms" in coefficients.text
    assert " 0.001 ms" not in coefficients.text
