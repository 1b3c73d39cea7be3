"""stats(): the calls of a time, or of each day of it, in figures."""

import random
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from math import isnan
from statistics import fmean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core import periods
from calibration_ledger.core.periods import Periods
from calibration_ledger.core.replay import Window
from calibration_ledger.errors import InvalidInputError, LedgerCorruptError, ModelNotFoundError

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def some(model, times, seed=1, factor=1.0, **fields):
    rng = random.Random(seed)
    for time in times:
        p, c = rng.randrange(10, 4000), rng.randrange(5, 400)
        ms = factor * (400 + 0.5 * p + 20 * c) * rng.lognormvariate(0, 0.1)
        yield Call(model, p, c, ms, time, **fields)


def by_hand(calibrator, model, calls):
    """The figures of these calls, worked out one by one."""
    a, b, base = calibrator.forecast(model, 0).basis.coefficients
    counted = [call for call in calls if call.outcome == "ok" and not call.voided]
    errors = [abs(call.actual_ms - call.predicted_ms) for call in counted]
    shares = [100 * e / c.actual_ms for e, c in zip(errors, counted, strict=True) if c.actual_ms]
    now = [base + a * call.prompt_tokens + b * call.completion_tokens for call in counted]
    ratios = [call.actual_ms / max(1.0, told) for call, told in zip(counted, now, strict=True)]
    within = {"rel": 0.0006}
    return {
        "calls": len(counted),
        "timeouts": sum(call.outcome == "timeout" and not call.voided for call in calls),
        "median_actual_ms": pytest.approx(median(c.actual_ms for c in counted), **within),
        "mean_actual_ms": pytest.approx(fmean(call.actual_ms for call in counted)),
        "mean_absolute_error_ms": pytest.approx(fmean(errors)),
        "median_absolute_percentage_error": pytest.approx(median(shares), **within),
        "median_ratio": pytest.approx(median(ratios), **within),
    }


def figures(one):
    told = one.to_dict()
    return {name: told[name] for name in told if name not in {"model", "day"}}


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_each_day_has_its_figures(ledger, rule):
    rng = random.Random(3)
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        times = [NOON + rng.randrange(5) * DAY + timedelta(minutes=i) for i in range(300)]
        calibrator.record_many(some("m", times))
        calibrator.record_many(some("m", times[:9], outcome="timeout"))
        calibrator.record_many(some("other", [NOON + 9 * DAY] * 3))
        calibrator.void("m", seq=(50, 80))
        *days, other = calibrator.stats(by_day=True)
        assert other == calibrator.stats("other", by_day=True)[0]
        assert (other.model, other.day, other.calls) == ("other", date(2026, 1, 11), 3)
        assert [one.day for one in days] == [date(2026, 1, 2 + i) for i in range(5)]
        for one in days:
            calls = [call for call in calibrator.calls("m") if call.called_at.date() == one.day]
            assert figures(one) == by_hand(calibrator, "m", calls)
        (whole,) = calibrator.stats("m")
        assert whole.day is None
        assert figures(whole) == by_hand(calibrator, "m", list(calibrator.calls("m")))
        assert whole.calls == sum(one.calls for one in days) == 269
        assert whole.timeouts == 9
        assert calibrator.audit() == []


@pytest.mark.parametrize("by_day", [True, False])
def test_a_time_is_half_open_and_calls_may_come_in_any_order(calibrator, by_day):
    times = [NOON + timedelta(hours=h) for h in random.Random(1).sample(range(96), 96)]
    calibrator.record_many(some("m", times))
    since, until = NOON + timedelta(hours=13), NOON + timedelta(hours=50)
    for window in ({"since": since}, {"until": until}, {"since": since, "until": until}):
        found = calibrator.stats("m", by_day=by_day, **window)
        calls = list(calibrator.calls("m", **window))
        assert len(found) == (len({call.called_at.date() for call in calls}) if by_day else 1)
        for one in found:
            mine = [call for call in calls if one.day in {None, call.called_at.date()}]
            assert figures(one) == by_hand(calibrator, "m", mine)


def test_a_day_begins_at_midnight_utc(calibrator):
    midnight = datetime(2026, 1, 3, tzinfo=UTC)
    for time in (midnight - timedelta(microseconds=1), midnight):
        calibrator.record("m", 1, 1.0, called_at=time)
    found = [(one.day, one.calls) for one in calibrator.stats(by_day=True)]
    assert found == [(date(2026, 1, 2), 1), (date(2026, 1, 3), 1)]
    for time in (datetime(1970, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        calibrator.record("m", 1, 1.0, called_at=time)
    found = [one.day for one in calibrator.stats(by_day=True)]
    assert (found[0], found[-1]) == (date(1970, 1, 1), date(9999, 12, 31))


def test_the_ratio_to_now_shows_on_which_day_a_model_changed(calibrator):
    """Though on the days before it was asked for other things, and predicted as well."""
    times = [NOON + timedelta(hours=h) for h in range(240)]
    calibrator.record_many(some("m", times[:144]))
    calibrator.record_many(some("m", times[144:], seed=2, factor=2.0))
    ratios = {one.day.day: one.median_ratio for one in calibrator.stats(by_day=True)}
    assert all(ratios[day] == pytest.approx(0.5, rel=0.1) for day in range(2, 8))
    assert all(ratios[day] == pytest.approx(1.0, rel=0.1) for day in range(9, 13))


def test_where_there_are_no_calls_there_are_no_figures(calibrator):
    assert calibrator.stats() == []
    calibrator.record("m", 1, 1.0, called_at=NOON)
    for window in ({"since": NOON + DAY}, {"until": NOON}, {"since": NOON, "until": NOON}):
        assert calibrator.stats(**window) == calibrator.stats(by_day=True, **window) == []


def test_of_time_outs_alone_there_is_a_count(calibrator):
    calibrator.record_many(some("m", [NOON] * 3, outcome="timeout"))
    (one,) = calibrator.stats("m", by_day=True)
    assert (one.calls, one.timeouts) == (0, 3)
    assert isnan(one.median_actual_ms)
    assert one.to_dict()["median_ratio"] is None


def test_calls_of_no_time_have_no_percentage(calibrator):
    calibrator.record_many([Call("m", 1, 1, 0.0, NOON)] * 3)
    (one,) = calibrator.stats()
    assert one.median_actual_ms == one.median_ratio == 0.0
    assert isnan(one.median_absolute_percentage_error)


def test_bad_input_is_refused(calibrator):
    calibrator.record("small", 1, 1.0)
    with pytest.raises(ModelNotFoundError, match="'small'"):
        calibrator.stats("smal")
    for arguments in (
        {"model": ""},
        {"model": 5},
        {"since": NOON.replace(tzinfo=None)},
        {"until": "2026-01-01"},
        {"since": NOON, "until": NOON - DAY},
    ):
        with pytest.raises(InvalidInputError):
            calibrator.stats(**arguments)


def test_progress_counts_every_call_once(calibrator):
    calibrator.record_many(some("m", [NOON] * 1200))
    steps = []
    calibrator.stats(by_day=True, progress=steps.append)
    assert sum(steps) == 1200


ROWS = st.lists(
    st.tuples(
        st.integers(0, 5 * periods.DAY_US),
        st.floats(0, 1e6),
        st.floats(0, 1e6),
        st.sampled_from([None, None, "timeout"]),
    ),
    max_size=40,
)


@given(ROWS, st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_neither_where_a_page_ends_nor_what_waits_changes_a_figure(found, page, waiting, by_day):
    rows = [(i, at, 5, 7, ms, told, outcome) for i, (at, ms, told, outcome) in enumerate(found)]
    window = Window(periods.DAY_US // 2, 4 * periods.DAY_US)

    def told(size):
        these = Periods((0.5, 20.0, 400.0), window, by_day=by_day)
        for start in range(0, len(rows), size):
            these.add(rows[start : start + size])
        return [one.to_dict() for one in these.stats("m")]

    expected = told(len(rows) + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(periods, "WAITING", waiting)
        assert told(page) == expected


def test_a_time_that_no_calendar_has_is_told_as_damage(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for _ in range(2):
            calibrator.record("m", 10, 100.0, completion_tokens=5)
        with closing(sqlite3.connect(ledger_path)) as connection, connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("UPDATE calls SET called_at = 9000000000000000000 WHERE seq = 2")
        with pytest.raises(LedgerCorruptError):
            calibrator.stats("m", by_day=True)
