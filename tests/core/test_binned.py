"""Calls counted in cells: where a number lies, and that nothing is lost as cells become wider."""

import math
import random
from itertools import pairwise

import pytest

from calibration_ledger.core.binned import DAY_US, SECOND_US, Calls, Grid, Logs, TimeGrid, Times

NUMBERS = [5e-324, 1e-9, 0.3, 0.999, 1.0, 1.001, 2.0, 1234.5, 1e300]


def calls_of(actual_ms, called_at=None, completion_tokens=None):
    n = len(actual_ms)
    called_at = [at * SECOND_US for at in range(n)] if called_at is None else called_at
    completions = [10] * n if completion_tokens is None else completion_tokens
    return Calls(called_at, [1 + at for at in range(n)], completions, actual_ms, [100.0] * n)


def place_of(places, value):
    [place] = places.of(calls_of([value]))
    return place


@pytest.mark.parametrize("is_centred", [False, True])
@pytest.mark.parametrize("value", NUMBERS)
def test_a_number_lies_between_the_edges_of_its_place(value, is_centred):
    places = Logs("actual_ms", 3, is_centred=is_centred)
    for _ in range(4):
        place = place_of(places, value)
        assert places.low(place) <= value < places.high(place)
        assert places.low(place) <= places.middle(place) < places.high(place)
        assert places.high(place) == places.low(place + 1)
        assert places.low(place) < places.middle(place) or is_centred or not place
        widened = places.widen()
        if not is_centred:  # centred ones move by half a place
            assert place_of(places, value) == place // widened


def test_a_place_is_as_wide_as_a_share_of_itself():
    places = Logs("actual_ms", 3)
    for value in NUMBERS[1:]:
        place = place_of(places, value)
        assert places.high(place) <= places.low(place) * (1.0 + 2**-3)


def test_in_the_middle_of_a_centred_place_is_a_number_of_few_digits():
    places = Logs("ratio", 7, is_centred=True)
    assert places.middle(place_of(places, 100.0)) == 1.0  # as predicted
    assert places.middle(place_of(places, 200.0)) == 2.0
    assert places.low(place_of(places, 100.0)) < 1.0 < places.high(place_of(places, 100.0))


@pytest.mark.parametrize("is_centred", [False, True])
def test_0_has_a_place_of_its_own(is_centred):
    places = Logs("actual_ms", 3, is_centred=is_centred)
    place = place_of(places, 0.0)
    assert (places.low(place), places.middle(place)) == (0.0, 0.0)
    assert place_of(places, 1e-300) != place


def test_time_is_counted_as_people_count_it():
    places = Times()
    widths = [places.width_us]
    for _ in range(13):
        step = places.widen()
        assert widths[-1] * step == places.width_us
        widths.append(places.width_us)
    minute, hour = 60, 3600
    seconds = [1, 5, 15, minute, 5 * minute, 15 * minute, hour, 3 * hour, 6 * hour, 12 * hour]
    days = [86_400 * n for n in (1, 7, 14, 28)]
    assert [width // SECOND_US for width in widths] == seconds + days
    by_day = Times(DAY_US)
    assert by_day.widen() == 7
    [place] = by_day.of(calls_of([1.0], [1_795_489_760_335_797]))
    assert by_day.low(place) <= 1_795_489_760.335797 < by_day.high(place)


def test_a_grid_stays_within_its_bounds_and_loses_no_call():
    rng = random.Random(7)
    grid = Grid(Logs("prompt_tokens", 3), Logs("actual_ms", 5), 12, 100)
    total = 0
    for _ in range(30):
        n = rng.randrange(1, 60)
        rows = [(rng.randrange(10**6), rng.expovariate(1e-3)) for _ in range(n)]
        prompts, actual = zip(*rows, strict=True)
        grid.add(Calls([0] * n, prompts, [1] * n, actual, [1.0] * n))
        total += n
        assert grid.total() == total == sum(grid.whole().values())
        assert len(grid.columns) <= 12
        assert sum(map(len, grid.columns.values())) <= 100


def test_quantiles_are_those_by_rank_as_far_as_places_tell():
    rng = random.Random(3)
    values = [rng.lognormvariate(7.0, 1.0) for _ in range(999)]
    grid = Grid(Logs("prompt_tokens", 3), Logs("actual_ms", 7), 40, 100_000)
    grid.add(calls_of(values))
    levels = (0.0, 0.05, 0.5, 0.95, 1.0)
    found = grid.quantiles(grid.whole(), levels)
    ordered = sorted(values)
    exact = [ordered[max(0, math.ceil(level * 999) - 1)] for level in levels]
    assert found == pytest.approx(exact, rel=2**-7)


def test_columns_of_time_have_room_for_every_call_and_are_drawn_between_the_first_and_the_last():
    rng = random.Random(5)
    grid = TimeGrid(Logs("ratio", 7, is_centred=True), 20, 1000)
    at = sorted(rng.randrange(10**15) for _ in range(200))
    for part in (at[100:], at[:100]):
        grid.add(calls_of([100.0] * 100, part))
        assert len(grid.columns) <= 20
    assert grid.total() == 200
    middles = [grid.middle(i) for i in sorted(grid.columns)]
    assert all(one < other for one, other in pairwise(middles))
    assert at[0] / SECOND_US <= middles[0]
    assert middles[-1] <= at[-1] / SECOND_US
    alone = TimeGrid(Logs("ratio", 7), 20, 1000, DAY_US)
    alone.add(calls_of([100.0], at[:1]))
    assert [*map(alone.middle, alone.columns)] == [at[0] / SECOND_US]


@pytest.mark.parametrize("wide_first", [True, False])
def test_two_grids_of_time_get_columns_of_one_width(wide_first):
    wide, narrow = (TimeGrid(Logs("ratio", 7), 20, 1000) for _ in range(2))
    wide.add(calls_of([1.0, 1.0], [0, 10**12]))
    narrow.add(calls_of([1.0, 1.0], [0, 10**7]))
    assert wide.x.width_us > narrow.x.width_us
    one, other = (wide, narrow) if wide_first else (narrow, wide)
    one.align(other)
    assert wide.x.width_us == narrow.x.width_us
    assert (wide.total(), narrow.total()) == (2, 2)


def test_a_speed_is_completion_tokens_in_a_second_of_calls_that_have_both():
    calls = calls_of([500.0, 0.0, 500.0, 2000.0], completion_tokens=[10, 10, 0, 10])
    speeds = calls.speeds()
    assert list(speeds.actual_ms) == [20.0, 5.0]
    assert list(speeds.called_at) == [0, 3 * SECOND_US]
    assert len(calls_of([0.0]).speeds()) == 0
