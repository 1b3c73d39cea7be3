"""What there is to look at of a ledger, as few points, from one read of each history."""

from __future__ import annotations

from datetime import timedelta
from math import isfinite
from typing import get_args

import pytest

from calibration_ledger import ChartKind, InvalidInputError, LedgerNotFoundError
from conftest import START

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


def test_without_a_ledger_there_is_an_error_not_an_empty_chart(calibrator):
    with pytest.raises(LedgerNotFoundError):
        calibrator.charts()
