"""Data frames of both libraries, whose numbers are those of the ledger to the bit."""

import json
import math
import struct
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError, ModelNotFoundError
from calibration_ledger.formats import frame as frames

START = datetime(2026, 11, 1, 12, 30, 15, 123456, tzinfo=UTC)

NAMES = [
    "model",
    "seq",
    "called_at",
    "prompt_tokens",
    "completion_tokens",
    "actual_ms",
    "predicted_ms",
    "error_ms",
    "outcome",
    "voided",
    "request_id",
    "details",
]


@pytest.fixture(params=["pandas", "polars"])
def library(request):
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: it comes with the extra clients")
    return request.param


@pytest.fixture
def calibrator(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        for i in range(40):
            calibrator.record(
                "phi3:mini" if i % 3 else "groq/llama",
                2**31 - 1 - i,
                1e6 + i / 3.0,
                completion_tokens=i,
                called_at=START + timedelta(hours=i, microseconds=i),
                request_id=f"id\n{i} é" if i % 2 else None,
                details={"ttft_ms": i / 7.0, "source": "名前"} if i % 4 else None,
                outcome="timeout" if i % 5 == 4 else "ok",
            )
        calibrator.record("far", 1, 1.0, called_at=datetime(9998, 12, 31, tzinfo=UTC))
        calibrator.record("early", 0, 0.0, called_at=datetime(1970, 1, 1, tzinfo=UTC))
        calibrator.void("phi3:mini", last=3)
        yield calibrator
        assert calibrator.audit() == []


def rows_of(frame):
    """The rows as dicts of plain values; what is missing is None."""
    if hasattr(frame, "to_dicts"):
        return frame.to_dicts()
    import pandas as pd

    rows = []
    for row in frame.to_dict("records"):
        for name, value in row.items():
            if value is pd.NA or value is pd.NaT:
                row[name] = None
            elif isinstance(value, pd.Timestamp):
                row[name] = value.to_pydatetime()
        rows.append(row)
    return rows


def bits(value):
    return struct.pack("<d", value)


def call_of(row):
    details = None if row["details"] is None else json.loads(row["details"])
    names = [name for name in NAMES if name not in {"error_ms", "details"}]
    return Call(**{name: row[name] for name in names}, details=details)


@pytest.mark.both
def test_the_calls_come_back_as_calls_gives_them_to_the_bit(calibrator, library):
    frame = calibrator.frame("calls", library=library)
    calls = list(calibrator.calls())
    rows = rows_of(frame)
    assert list(frame.columns) == NAMES
    assert [call_of(row) for row in rows] == calls
    for row, call in zip(rows, calls, strict=True):
        assert bits(row["actual_ms"]) == bits(call.actual_ms)
        assert bits(row["predicted_ms"]) == bits(call.predicted_ms)
        assert bits(row["error_ms"]) == bits(call.error_ms)
        assert row["called_at"].utcoffset() == timedelta(0)


def test_the_types_are_those_that_the_names_promise(calibrator, library):
    for frame in (calibrator.frame(library=library), calibrator.frame(last=1, library=library)):
        types = [str(frame[name].dtype) for name in NAMES]
        assert (
            types
            == {
                "pandas": [
                    *("string", "int64", "datetime64[us, UTC]", "int64", "int64"),
                    *("float64", "float64", "float64", "string", "bool", "string", "string"),
                ],
                "polars": [
                    *("String", "Int64", "Datetime(time_unit='us', time_zone='UTC')"),
                    *("Int64", "Int64", "Float64", "Float64", "Float64"),
                    *("String", "Boolean", "String", "String"),
                ],
            }[library]
        )


def test_no_calls_make_an_empty_frame_of_the_same_types(ledger, library):
    with AdaptiveCalibrator(ledger) as calibrator:
        nothing = calibrator.frame(library=library)
        calibrator.record("m", 1, 2.0)
        one = calibrator.frame(library=library)
    assert len(nothing) == 0
    assert [str(nothing[name].dtype) for name in NAMES] == [str(one[name].dtype) for name in NAMES]


def test_parts_are_joined_in_order(calibrator, library, monkeypatch):
    whole = rows_of(calibrator.frame(library=library))
    monkeypatch.setattr("calibration_ledger.verbs.frame.PART_ROWS", 7)
    monkeypatch.setattr("calibration_ledger.verbs.frame.PAGE_ROWS", 5)
    done = []
    assert rows_of(calibrator.frame(library=library, progress=done.append)) == whole
    assert sum(done) == len(whole)
    assert len(done) > 5


@pytest.mark.parametrize(
    "choice",
    [
        {"model": "phi3:mini"},
        {"since": START + timedelta(hours=9), "until": START + timedelta(hours=20)},
        {"last": 4},
        {"model": "groq/llama", "last": 2, "since": START + timedelta(hours=3)},
    ],
)
def test_some_calls_are_chosen_as_by_calls(calibrator, library, choice):
    found = rows_of(calibrator.frame("calls", library=library, **choice))
    assert [call_of(row) for row in found] == list(calibrator.calls(**choice))


def test_values_make_a_row_each_with_times_as_times(calibrator, library):
    days = calibrator.stats(by_day=True)
    rows = rows_of(calibrator.frame(days, library=library))
    assert [row["model"] for row in rows] == [one.model for one in days]
    assert [bits(row["mean_actual_ms"]) for row in rows] == [bits(d.mean_actual_ms) for d in days]
    first = rows[0]["day"]
    is_day = isinstance(first, date) and not isinstance(first, datetime)
    assert is_day if library == "polars" else first == datetime(1970, 1, 1, tzinfo=UTC)
    replays = calibrator.replay()
    rows = rows_of(calibrator.frame(replays, library=library))
    assert rows[-1]["calibration.sample_count"] == replays[-1].calibration.sample_count
    last = rows[-1]["calibration.last_updated"]
    assert last == datetime.fromtimestamp(replays[-1].calibration.last_updated, UTC)


def test_stats_keep_what_a_model_lacks_as_missing(calibrator, library):
    calibrator.reset("groq/llama")
    stats = calibrator.all_stats(uncalibrated=True, rounded=False)
    frame = calibrator.frame(stats, library=library)
    rows = {row["model"]: row for row in rows_of(frame)}
    assert str(frame["newest_calls"].dtype) == {"pandas": "Int64", "polars": "Int64"}[library]
    assert rows["groq/llama"]["newest_calls"] is None
    assert rows["groq/llama"]["last_updated"] is None
    assert rows["phi3:mini"]["last_updated"].tzinfo is not None
    missing = rows["groq/llama"]["mean_actual_ms"]
    assert missing is None or math.isnan(missing)


def test_stats_of_a_call_at_the_end_of_time_are_a_frame_too(ledger, library):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0, called_at=datetime.max.replace(tzinfo=UTC))
        found = calibrator.frame(calibrator.all_stats(), library=library)
    [row] = rows_of(found)
    assert row["last_updated"].year == 9999


def test_a_sweep_makes_a_row_of_each_score(calibrator, library):
    sweeps = calibrator.sweep(alphas=[0.1, 0.2], rules="ema", model="phi3:mini", warm_up=2)
    rows = rows_of(calibrator.frame(sweeps, library=library))
    assert [row["scores.alpha"] for row in rows] == [one.alpha for one in sweeps[0].scores]
    assert rows[0]["live.mean_absolute_error_ms"] == sweeps[0].live.mean_absolute_error_ms


def test_a_chart_makes_a_row_of_each_of_its_points(calibrator, library):
    charts = [*calibrator.charts(), *calibrator.charts("phi3:mini")]
    rows = rows_of(calibrator.frame(charts, library=library))
    series = [
        (chart, one) for chart in charts for panel in chart.panels for one in panel.series
    ]  # fmt: skip
    assert len(rows) == sum(len(one.x) for _, one in series)
    assert {row["kind"] for row in rows} == {chart.kind for chart, one in series if one.x}
    by_name = [row for row in rows if row["kind"] == "models"]
    assert {row["x_name"] for row in by_name} >= {"phi3:mini", "groq/llama"}
    of_time = [row for row in rows if row["kind"] == "coefficients"]
    assert {row["x_unit"] for row in of_time} == {"s"}


def test_every_list_that_a_calibrator_gives_can_be_a_frame(calibrator, library):
    for values in (
        calibrator.drift(),
        calibrator.heads(),
        calibrator.log(),
        calibrator.rank(100),
        calibrator.calls(),
        [calibrator.calibration("phi3:mini"), calibrator.predict("phi3:mini", 5)],
    ):
        kept = list(values)
        assert len(calibrator.frame(kept, library=library)) == len(kept)
    assert len(calibrator.frame([], library=library)) == 0


def test_pandas_comes_first_where_both_are_installed(ledger, monkeypatch):
    installed = {"pandas", "polars"}
    monkeypatch.setattr(frames, "find_spec", lambda name: name if name in installed else None)
    assert frames.find_library(None) == "pandas"
    assert frames.find_library("polars") == "polars"
    installed.remove("pandas")
    assert frames.find_library(None) == "polars"


def test_without_a_library_a_sentence_says_what_to_install(ledger, monkeypatch):
    monkeypatch.setattr(frames, "find_spec", lambda _: None)
    with AdaptiveCalibrator(ledger) as calibrator:
        with pytest.raises(InvalidInputError, match="pip install pandas or pip install polars"):
            calibrator.frame()
        with pytest.raises(InvalidInputError, match=r"needs polars.*: pip install polars\."):
            calibrator.frame(library="polars")


def test_wrong_arguments_are_refused_before_anything_is_read(calibrator, monkeypatch):
    monkeypatch.setattr(frames, "find_spec", lambda name: name)
    for wrong in ({"what": "call"}, {"what": 5}, {"what": None}, {"library": "dask"}, {"last": 0}):
        with pytest.raises(InvalidInputError):
            calibrator.frame(**wrong)
    with pytest.raises(InvalidInputError, match="model chooses among calls"):
        calibrator.frame([], model="phi3:mini")
    with pytest.raises(InvalidInputError, match="values that a calibrator gave"):
        calibrator.frame([5])
    with pytest.raises(ModelNotFoundError, match="phi3:mini"):
        calibrator.frame(model="phi3:minni")
