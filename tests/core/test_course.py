"""The course of calls: which are shown together, and what stands for them."""

from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import Call
from calibration_ledger.core.course import Course

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def course_of(*latencies, predicted=5.0, **more):
    course = Course()
    for i, actual in enumerate(latencies):
        at = NOON + timedelta(seconds=i)
        course.add(Call("m", 1, 1, actual, at, predicted_ms=predicted, **more))
    return course


def test_where_there_is_room_each_call_has_a_place_of_its_own():
    predicted, measured = course_of(10.0, 30.0, 20.0).panel(3).series
    assert (measured.x, measured.y, measured.low) == ((0, 1, 2), (10.0, 30.0, 20.0), ())
    assert (predicted.x, predicted.y) == ((0, 1, 2), (5.0, 5.0, 5.0))


def test_calls_that_share_a_place_are_their_median_and_a_range_without_the_outermost_tenths():
    course = course_of(*map(float, range(1, 101)), *map(float, range(101, 201)))
    measured = course.panel(2).series[1]
    assert measured.y == (50.5, 150.5)
    assert (measured.low, measured.high) == ((11.0, 111.0), (90.0, 190.0))
    assert course.panel(2).title.startswith("200 calls, some 100 in each column: their medians")
    assert course.times(2) == [NOON, NOON + timedelta(seconds=100)]


@pytest.mark.parametrize(("calls", "places"), [(1, 1), (72, 72), (73, 36), (1_000_000, 36)])
def test_where_calls_share_places_every_second_column_stays_free(calls, places):
    course = Course()
    course._actual_ms.extend([1.0] * calls)
    assert course.places(80) == places


def test_voided_calls_are_counted_and_not_drawn():
    course = course_of(1.0, 2.0, voided=True)
    assert (len(course), course.voided) == (0, 2)


def test_a_call_that_was_given_up_is_a_series_of_its_own():
    course = course_of(1.0, 2.0)
    course.add(Call("m", 1, 1, 9.0, NOON, predicted_ms=3.0, outcome="timeout"))
    predicted, measured, late = course.panel(3).series
    assert (measured.x, late.name, late.x, late.y) == ((0, 1), "given up after", (2,), (9.0,))
    assert predicted.y == (5.0, 5.0, 3.0)
    only_late = course_of(9.0, outcome="timeout").panel(1).series
    assert [one.x for one in only_late] == [(0,), (), (0,)]
