"""Forecasts: the method as it is written down, to the bit, and what users may count on."""

import json
import math
import random
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.drift import ratio_of
from calibration_ledger.core.forecast import (
    Basis,
    Forecast,
    Observed,
    Sample,
    quantile_of_left,
)
from calibration_ledger.core.state import State
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.rules import find_rule
from support import reference_forecast as straight
from support.any_numbers import hexed
from support.reference_forecast import Straight

LEVELS = (0.001, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.999)
VECTORS = Path(__file__).parents[1] / "conformance" / "forecast_vectors.jsonl"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

tokens = st.one_of(st.integers(0, 5), st.integers(0, 20_000))
caps = st.none() | st.integers(0, 300)
coefficients = st.tuples(
    st.sampled_from([0.0, 0.5]) | st.floats(0.0, 100.0),
    st.sampled_from([0.0, 8.0]) | st.floats(0.0, 1e4),
    st.sampled_from([0.0, 300.0]) | st.floats(0.0, 1e6),
)
ratios = st.floats(1e-3, 1e3) | st.sampled_from([0.0, 1.0, 1.0, 1.1]) | st.none()
times = st.floats(0.0, 1e7)


never = st.just(value=False)


@st.composite
def histories(draw, given_up=never):
    """Calls (p, c, ms, ratio, given up), and how many there were: none, few, or more than count.

    They come again and again, for ties.
    """
    call = st.tuples(tokens, tokens, times, ratios, given_up)
    some = draw(st.lists(call, max_size=12))
    calls = (some * draw(st.integers(1, 25)))[:200]
    return calls, len(calls) + (draw(st.integers(0, 1000)) if len(calls) == 200 else 0)


def basis_of(numbers, calls, count):
    return Basis("m", numbers, [Observed(*call) for call in calls], count, rule="kalman.1")


def both(numbers, history, p, c=None, cap=None):
    """The forecast, and what is straight from the book."""
    calls, count = history
    forecast = Forecast("m", p, cap, basis_of(numbers, calls, count), c)
    return forecast, Straight(numbers, calls, count)


def quantiles(latencies):
    return [latencies.quantile(level) for level in LEVELS]


def some(count, seed=1, spread=0.2, p=None):
    """Calls of a model that takes 300 ms, 0.5 ms a prompt token and 8 ms a completion token."""
    rng = random.Random(seed)
    for _ in range(count):
        q, d = rng.randrange(20, 3000) if p is None else p, rng.randrange(5, 500)
        ratio = rng.lognormvariate(0, spread)
        yield Observed(q, d, (300 + 0.5 * q + 8 * d) * ratio, ratio)


LINE = (0.5, 8.0, 300.0)


def forecast_of(calls, p=700, c=None, cap=None, count=None, newest_at=NOON):
    calls = list(calls)
    count = len(calls) if count is None else count
    basis = Basis("m", LINE, calls[-200:], count, rule="kalman.1", newest_at=newest_at)
    return Forecast("m", p, cap, basis, c)


# -- the method, to the bit -----------------------------------------------------------------


@given(coefficients, histories(), tokens, tokens, times)
def test_a_known_completion_is_the_prediction_times_how_far_the_newest_were_off(
    numbers, history, p, c, ms
):
    forecast, book = both(numbers, history, p, c)
    sample = book.sample(p, c)
    assert hexed(quantiles(forecast)) == hexed(straight.quantile(sample, q) for q in LEVELS)
    assert forecast.mean_ms.hex() == straight.mean(sample).hex()
    assert forecast.n == len(book.window)
    for within in (ms, 0.0, sample[0][0], sample[len(sample) // 2][0], sample[-1][0]):
        assert forecast.chance_within(within).hex() == straight.chance(sample, within).hex()


@given(coefficients, histories(), tokens, caps, times)
def test_an_unknown_completion_is_that_of_the_newest_calls_by_likeness(
    numbers, history, p, cap, ms
):
    forecast, book = both(numbers, history, p, cap=cap)
    sample = book.sample(p, cap=cap)
    assert hexed(quantiles(forecast)) == hexed(straight.quantile(sample, q) for q in LEVELS)
    assert forecast.mean_ms.hex() == straight.mean(sample).hex()
    assert forecast.chance_within(ms).hex() == straight.chance(sample, ms).hex()
    assert hexed(map(forecast.timeout_ms, LEVELS)) == hexed(
        straight.quantile_of_left(sample, 0.0, q) for q in LEVELS
    )
    lengths = sorted(zip(map(float, book.lengths(cap)), book.likeness(p), strict=True))
    if lengths:
        told = [forecast.completion_tokens.quantile(level) for level in LEVELS]
        assert hexed(told) == hexed(straight.quantile(lengths, level) for level in LEVELS)
    assert cap is None or forecast.completion_tokens.quantile(0.99) <= cap


@given(
    coefficients,
    histories(st.booleans()),
    tokens,
    st.none() | tokens,
    caps,
    times,
    st.integers(0, 9),
)
def test_the_weight_of_a_call_that_was_given_up_goes_to_those_that_took_longer(
    numbers, history, p, c, cap, elapsed, k
):
    forecast, book = both(numbers, history, p, c, cap)
    sample = book.sample(p, c, cap)
    expected = [straight.quantile(sample, level) for level in LEVELS]
    assert quantiles(forecast) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert forecast.mean_ms == pytest.approx(straight.mean(sample), rel=1e-9)
    left = book.left(p, elapsed, c, cap, k, elapsed / 2)
    expected = [straight.quantile_of_left(left, elapsed, level) for level in LEVELS]
    told = quantiles(forecast.remaining(elapsed, k, elapsed / 2))
    assert told == pytest.approx(expected, rel=1e-6, abs=1e-3)


@given(coefficients, histories(), tokens, st.none() | tokens, caps, times)
def test_what_is_left_is_the_part_of_the_sample_that_takes_longer(
    numbers, history, p, c, cap, elapsed
):
    forecast, book = both(numbers, history, p, c, cap)
    left = book.left(p, elapsed, c, cap)
    expected = [straight.quantile_of_left(left, elapsed, level) for level in LEVELS]
    remaining = forecast.remaining(elapsed)
    assert hexed(quantiles(remaining)) == hexed(expected)
    assert hexed(quantiles(forecast.remaining(elapsed, 0, 0.0))) == hexed(expected)
    assert hexed(quantiles(forecast.remaining(elapsed, 3))) == hexed(expected)
    assert hexed(map(remaining.timeout_ms, LEVELS)) == hexed(expected)


@given(coefficients, histories(), tokens, caps, st.floats(0.0, 1.0), times, st.integers(1, 500))
def test_with_the_tokens_so_far_what_is_left_goes_on_at_their_pace(
    numbers, history, p, cap, share, elapsed, so_far
):
    forecast, book = both(numbers, history, p, cap=cap)
    first = share * elapsed
    left = book.left(p, elapsed, None, cap, so_far, first)
    expected = [straight.quantile_of_left(left, elapsed, level) for level in LEVELS]
    assert hexed(quantiles(forecast.remaining(elapsed, so_far, first))) == hexed(expected)


@given(coefficients, histories(), tokens, tokens, times, st.integers(1, 500))
def test_where_the_completion_is_known_the_tokens_so_far_change_nothing(
    numbers, history, p, c, elapsed, so_far
):
    forecast, _ = both(numbers, history, p, c)
    told = quantiles(forecast.remaining(elapsed, so_far, elapsed / 3))
    assert hexed(told) == hexed(quantiles(forecast.remaining(elapsed)))


def ask(vector):
    """The answers to a pinned question, as `float.hex()`."""
    calls = [(p, c, float.fromhex(ms), float.fromhex(r), up) for p, c, ms, r, up in vector["calls"]]
    numbers = tuple(map(float.fromhex, vector["coefficients"]))
    basis = basis_of(numbers, calls, vector["count"])
    p, given_c, cap = vector["prompt_tokens"], vector["completion_tokens"], vector["max_tokens"]
    forecast = Forecast("m", p, cap, basis, given_c)
    elapsed = float.fromhex(vector["elapsed_ms"])
    paced = forecast.remaining(elapsed, vector["tokens_so_far"], elapsed / 4)
    return {
        "quantiles": hexed(quantiles(forecast)),
        "mean": forecast.mean_ms.hex(),
        "chance": forecast.chance_within(elapsed).hex(),
        "timeouts": hexed(map(forecast.timeout_ms, LEVELS)),
        "completions": hexed(map(forecast.completion_tokens.quantile, LEVELS)),
        "remaining": hexed(quantiles(forecast.remaining(elapsed))),
        "remaining at the pace so far": hexed(quantiles(paced)),
        "mean remaining": paced.mean_ms.hex(),
        "chance remaining": paced.chance_within(elapsed).hex(),
    }


@pytest.mark.parametrize(
    "vector", list(map(json.loads, VECTORS.read_text().splitlines())), ids=lambda one: one["name"]
)
def test_the_pinned_forecasts_stay_as_they_are(vector):
    assert ask(vector) == vector["answers"]


# -- the rules of the method, by hand -------------------------------------------------------


def test_with_equal_weights_the_i_th_of_n_stands_at_i_of_n_plus_one():
    sample = Sample.of((float(value), 1.0) for value in (30, 10, 20, 40))
    assert [sample.quantile(i / 5) for i in (1, 2, 3, 4)] == pytest.approx([10, 20, 30, 40])
    assert sample.quantile(0.3) == pytest.approx(15.0)
    assert sample.span() == pytest.approx((0.2, 0.8))
    assert sample.quantile(0.1) == 10.0
    assert sample.quantile(0.99) == 40.0


def test_beyond_all_that_was_seen_the_chance_to_take_longer_falls_with_the_third_power():
    sample = Sample.of([(100.0, 1.0), (200.0, 1.0), (300.0, 1.0)])  # all up to 3 / 4
    assert quantile_of_left(sample, 0.0, 0.75) == 300.0
    # Half of the last quarter is beyond t, where (300 / t) ** 3 is a half.
    assert quantile_of_left(sample, 0.0, 0.875) == pytest.approx(300.0 * 2 ** (1 / 3))
    assert quantile_of_left(sample, 600.0, 0.875) == pytest.approx(900.0 * 2 ** (1 / 3) - 600.0)
    assert quantile_of_left(None, 500.0, 0.875) == pytest.approx(500.0 * 2.0 - 500.0)


def test_a_call_that_was_given_up_counts_as_longer_than_it_was_waited_for():
    """By hand: 1/4 each of 1, 2+ and 3 and 4: the weight of 2+ goes to 3 and 4, a half each."""
    calls = [Observed(0, 0, 300.0 * r, r, r == 2) for r in (1.0, 2.0, 3.0, 4.0)]
    calls = [one._replace(completion_tokens=1) for one in calls] * 50
    order = Basis("m", LINE, calls, 10_000, rule="kalman.1").ratios
    by_value = {1.0: 0.0, 3.0: 0.0, 4.0: 0.0}
    for value, weight in zip(order.values, order.weights, strict=True):
        by_value[value] += weight
    shares = [weight / sum(by_value.values()) for weight in by_value.values()]
    assert shares == pytest.approx([1 / 4, 3 / 8, 3 / 8], abs=0.01)


def test_calls_that_were_given_up_keep_the_ranges_from_becoming_too_optimistic():
    calls = list(some(300))
    limit = sorted(call.actual_ms for call in calls)[270]
    cut = [
        call if call.actual_ms <= limit else Observed(call[0], 0, limit, None, is_timeout=True)
        for call in calls
    ]
    whole, told = forecast_of(calls), forecast_of(cut)
    left_out = forecast_of([call for call in cut if not call.is_timeout])
    for level in (0.8, 0.9, 0.95):
        expected = whole.quantile(level)
        assert left_out.quantile(level) < told.quantile(level) <= 1.05 * expected
        assert told.quantile(level) - left_out.quantile(level) > 0.5 * (
            expected - left_out.quantile(level)
        )


def test_the_borrowed_ratios_fade_until_there_are_thirty_calls():
    exact = [call._replace(ratio=1.0) for call in some(30)]
    widths = []
    for count in range(31):
        low, high = forecast_of(exact[:count], c=100).interval(0.5)
        widths.append((high - low) / 1450.0)
    assert widths[0] > 0.15
    assert widths[29] == widths[30] == 0.0
    assert all(after <= before + 1e-9 for before, after in pairwise(widths))


def test_a_cold_start_is_left_out_once_there_are_other_calls():
    slow = [call._replace(ratio=20.0) for call in some(10)]
    later = [call._replace(ratio=1.0) for call in some(40)]
    assert forecast_of(slow + later, c=100).quantile(0.99) < 2_000.0
    assert forecast_of(slow[:2], c=100).quantile(0.9) > 10_000.0


def test_only_the_newest_150_calls_count_and_the_newest_count_most():
    old = [call._replace(ratio=5.0) for call in some(50)]
    new = [call._replace(ratio=1.0) for call in some(150)]
    assert forecast_of(old + new, c=100).interval(0.95) == (1450.0, 1450.0)
    half = [call._replace(ratio=5.0) for call in some(75)] + new[:75]
    assert forecast_of(half, c=100, count=1000).quantile(0.7) == 1450.0
    assert forecast_of(half[::-1], c=100, count=1000).quantile(0.3) == 5 * 1450.0


def test_a_prompt_of_a_like_length_lends_its_completion_first():
    short = [call._replace(completion_tokens=10, ratio=1.0) for call in some(100, p=50)]
    long = [call._replace(completion_tokens=400, ratio=1.0) for call in some(100, p=5_000)]
    mixed = [call for pair in zip(short, long, strict=True) for call in pair]
    assert forecast_of(mixed, p=50).completion_tokens.median == 10
    assert forecast_of(mixed, p=5_000).completion_tokens.median == 400


def test_nine_in_ten_calls_fall_into_the_range_of_nine_in_ten():
    rule, held = find_rule("kalman"), 0
    state, calls, observed = State.from_prior(rule, 0.01, LINE, 0), list(some(1_020, 5, 0.4)), []
    for i, (p, c, ms, *_) in enumerate(calls):
        if i >= 20:
            basis = Basis("m", tuple(state.numbers[:3]), observed[-200:], i, rule="kalman.1")
            low, high = Forecast("m", p, None, basis, c).interval(0.9)
            held += low <= ms <= high
        (predicted,) = state.learn([0], [p], [c], [ms])
        observed.append(Observed(p, c, ms, ratio_of(ms, predicted)))
    assert 870 <= held <= 930


# -- what users may count on ----------------------------------------------------------------


@given(coefficients, histories(st.booleans()), tokens, st.none() | tokens, caps, times)
def test_quantiles_are_finite_in_order_and_not_negative(numbers, history, p, c, cap, elapsed):
    forecast, _ = both(numbers, history, p, c, cap)
    latencies = (forecast, forecast.remaining(elapsed), forecast.remaining(elapsed, 2, elapsed / 2))
    for one in latencies:
        for told in (quantiles(one), list(map(one.timeout_ms, LEVELS))):
            assert all(map(math.isfinite, told))
            assert told[0] >= 0.0
            assert all(b >= a - 1e-9 * a for a, b in pairwise(told))
        assert math.isfinite(one.mean_ms)
        low, high = one.interval(0.9)
        assert low <= one.median_ms * (1 + 1e-9)
        assert one.median_ms <= high * (1 + 1e-9)


@given(coefficients, histories(), tokens, st.none() | tokens, times, st.lists(times, min_size=2))
def test_the_chance_to_be_over_grows_with_the_time(numbers, history, p, c, elapsed, within):
    forecast, _ = both(numbers, history, p, c)
    for one in (forecast, forecast.remaining(elapsed), forecast.remaining(elapsed, 5, elapsed / 2)):
        chances = [one.chance_within(ms) for ms in sorted(within)]
        assert chances == sorted(chances)
        assert chances[0] >= 0.0
        assert chances[-1] <= 1.0


@given(coefficients, histories(), tokens, st.none() | tokens, times)
def test_the_chance_to_be_over_within_a_quantile_is_its_level(numbers, history, p, c, elapsed):
    """To the weight of one value: it is a step function, where the quantile goes straight on."""
    forecast, book = both(numbers, history, p, c)
    left = forecast.remaining(elapsed)
    for one, sample in ((forecast, book.sample(p, c)), (left, book.left(p, elapsed, c))):
        if not sample:
            continue
        total = straight.total_of(sample) + 1.0
        step = (0.5 * max(weight for _, weight in sample) + 1e-9) / total
        for level in LEVELS:
            told = one.quantile(level)
            if sample[0][0] < told < sample[-1][0]:
                assert one.chance_within(told * (1 + 1e-12) + 1e-12) >= level - step


@given(histories(), tokens, st.none() | tokens, caps, st.sampled_from([2.0, 64.0, 2.0**20]))
def test_in_another_unit_of_time_all_is_the_same(history, p, c, cap, scale):
    calls, count = history
    numbers = (0.25, 7.0, 1.5)
    scaled = [(q, d, ms * scale, ratio, up) for q, d, ms, ratio, up in calls]
    one, _ = both(numbers, history, p, c, cap)
    other, _ = both(tuple(scale * n for n in numbers), (scaled, count), p, c, cap)
    assert hexed(quantiles(other)) == hexed(scale * ms for ms in quantiles(one))
    assert other.mean_ms == scale * one.mean_ms


def test_beyond_what_the_history_can_tell_the_answer_says_so():
    few, many = forecast_of(some(40), c=100), forecast_of(some(200), c=100)
    low, high = few.span
    assert few.quantile(low / 2) == few.quantile(low)
    assert few.quantile((1 + high) / 2) == few.quantile(high)
    assert few.timeout_ms((1 + high) / 2) > few.quantile(high)
    assert many.span[0] < low < high < many.span[1]


def test_the_time_left_of_a_call_that_outlasts_all_others_grows_with_how_long_it_has_run():
    forecast = forecast_of(some(200))
    left = [forecast.remaining(elapsed).median_ms for elapsed in (1e5, 1e6, 1e7)]
    assert left == pytest.approx([1e5 * (2 ** (1 / 3) - 1) * 10**i for i in range(3)])
    assert forecast.remaining(1e6).mean_ms == pytest.approx(5e5)


def test_a_call_that_has_run_for_as_long_as_others_took_is_taken_to_outlast_them():
    exact = [call._replace(ratio=1.0) for call in some(200)]
    forecast = forecast_of(exact, c=100)
    assert forecast.quantile(0.5) == 1450.0
    assert forecast.remaining(1449.0).quantile(0.5) == 1.0
    assert forecast.remaining(1450.0).quantile(0.5) == pytest.approx(1450.0 * (2 ** (1 / 3) - 1))


def test_the_chance_that_a_call_is_over_soon_comes_close_to_one():
    forecast = forecast_of(some(200))
    for left in (forecast.remaining(0.0), forecast.remaining(500.0), forecast.remaining(1e6)):
        assert left.chance_within(1e12) == pytest.approx(1.0)
        assert left.chance_within(0.0) < 0.01
    assert forecast.remaining(1e6).chance_within(1e6) == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    ("count", "status"), [(0, "no history"), (1, "few calls"), (29, "few calls"), (30, "ok")]
)
def test_the_status_says_how_much_there_is_to_go_by(count, status):
    forecast = forecast_of(some(count))
    assert forecast.status == status
    assert forecast.n == max(0, count - min(10, count // 2))


def test_the_status_says_that_a_model_drifts_and_since_when():
    slow = [call._replace(actual_ms=2 * call.actual_ms) for call in some(20, 2)]
    forecast = forecast_of([*some(180), *slow])
    assert forecast.status == "drifting"
    assert forecast.basis.drift.since == pytest.approx(20, abs=2)
    assert forecast.basis.drift.factor == pytest.approx(2.0, rel=0.2)
    assert forecast_of(some(200)).basis.drift is None


def test_a_sentence_explains_a_forecast():
    told = forecast_of(some(200), c=80).explain()
    assert told == (
        "the newest 150 of 200 calls of m: what kalman.1 predicts for 80 completion tokens, times "
        "how far each was off"
    )
    few = forecast_of(some(20), c=1).explain()
    assert "for 1 completion token," in few
    assert few.endswith("; until there are 30, a usual spread is mixed in")
    unknown = forecast_of(some(200)).explain()
    assert "what kalman.1 predicts for the completion length of each" in unknown
    assert unknown.endswith("those of a like prompt length weigh more")
    assert forecast_of([], cap=64).explain() == (
        "m has no history: this is a guess for 64 completion tokens"
    )


@pytest.mark.parametrize(
    "forecast",
    [forecast_of([], newest_at=None), forecast_of(some(200), cap=99), forecast_of(some(9), c=5)],
)
def test_a_forecast_is_told_in_json(forecast):
    told = json.loads(json.dumps(forecast.to_dict(), allow_nan=False))
    assert told["median_ms"] == forecast.quantile(0.5)
    assert told["intervals_ms"]["0.9"] == list(forecast.interval(0.9))
    assert told["timeout_ms"]["0.99"] == forecast.timeout_ms(0.99)
    assert (told["n"], told["status"]) == (forecast.n, forecast.status)
    assert told["explanation"] == forecast.explain()
    assert told["newest"] == (None if forecast.newest is None else "2026-01-02T12:00:00.000000Z")
    assert told["completion_tokens"]["median"] == forecast.completion_tokens.median
    assert (
        told["completion_tokens"]["interval_0.9"] is None
    ) == forecast.completion_tokens.is_given
    left = json.loads(json.dumps(forecast.remaining(700.0).to_dict(), allow_nan=False))
    assert left["elapsed_ms"] == 700.0
    assert left["median_ms"] == forecast.remaining(700.0).median_ms


def test_what_is_handed_out_is_frozen():
    forecast = forecast_of(some(50))
    for value, name in (
        (forecast, "prompt_tokens"),
        (forecast.completion_tokens, "median"),
        (forecast.remaining(5.0), "elapsed_ms"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, 1)


# -- bad input ------------------------------------------------------------------------------

NO_LEVELS = [0, 1, 0.0, 1.0, -0.1, 1.1, 90, math.nan, math.inf, True, None, "0.9", [0.5], 1j]
NO_TIMES = [-1.0, math.nan, math.inf, True, None, "5", [1.0], 1j, 10**400]


@pytest.mark.parametrize("level", NO_LEVELS)
def test_a_level_that_is_none_is_refused(level):
    forecast = forecast_of(some(50))
    for latencies in (forecast, forecast.remaining(100.0), forecast.completion_tokens):
        for ask_for in (latencies.quantile, latencies.interval):
            with pytest.raises(InvalidInputError, match="must be a number above 0 and below 1"):
                ask_for(level)
    for latencies in (forecast, forecast.remaining(100.0)):
        with pytest.raises(InvalidInputError, match="chance must be a number above 0 and below 1"):
            latencies.timeout_ms(level)


@pytest.mark.parametrize("time", NO_TIMES)
def test_a_time_that_is_none_is_refused(time):
    forecast = forecast_of(some(50))
    for ask_for in (
        forecast.chance_within,
        forecast.remaining(100.0).chance_within,
        forecast.remaining,
    ):
        with pytest.raises(InvalidInputError, match="ms must be"):
            ask_for(time)
    if time is not None:
        with pytest.raises(InvalidInputError, match="ttft_ms must be"):
            forecast.remaining(100.0, 5, time)


@pytest.mark.parametrize("count", [-1, 2**31, 1.5, True, "5", [1]])
def test_tokens_so_far_that_are_none_are_refused(count):
    with pytest.raises(InvalidInputError, match="tokens_so_far must be"):
        forecast_of(some(50)).remaining(100.0, count, 50.0)


def test_a_first_token_that_comes_after_now_is_refused():
    with pytest.raises(InvalidInputError, match="later than elapsed_ms"):
        forecast_of(some(50)).remaining(100.0, 5, 100.5)


def test_one_that_is_printed_tells_its_figures():
    forecast = forecast_of([Observed(700, 100, 3.625, 0.0025)] * 60, c=100)
    assert repr(forecast) == (
        "Forecast(model='m', prompt_tokens=700, median_ms=3.625, interval_ms=(3.625, 3.625), n=50, "
        "status='ok')"
    )
    assert repr(forecast.remaining(1.125)) == (
        "Remaining(model='m', elapsed_ms=1.125, median_ms=2.5, interval_ms=(2.5, 2.5))"
    )


def test_other_kinds_of_numbers_are_taken():
    numpy = pytest.importorskip("numpy")
    forecast = forecast_of(some(50))
    assert forecast.quantile(numpy.float64(0.9)) == forecast.quantile(0.9)
    assert forecast.chance_within(2000) == forecast.chance_within(2000.0)
    left = forecast.remaining(numpy.float64(100.0), numpy.int64(5), 50)
    assert left.median_ms == forecast.remaining(100.0, 5, 50.0).median_ms
    with pytest.raises(InvalidInputError):
        forecast.quantile(Decimal("0.9"))


def test_the_highest_level_that_there_is_has_a_time():
    rng = random.Random(1)
    level = math.nextafter(1.0, 0.0)
    for _ in range(1000):
        left = Sample.of([(100.0, rng.random() * 100.0)])
        assert quantile_of_left(left, 50.0, 0.99999) < quantile_of_left(left, 50.0, level) < 1e9


def test_between_two_values_beyond_all_numbers_lies_no_nan():
    calls = [Observed(10, 5, 1e308, 1e308)] * 2 + [Observed(10, 5, 100.0, 1.0)] * 38
    basis = Basis("m", (1.0, 1.0, 1.0), calls[::-1], 40, rule="r")
    found = Forecast("m", 10_000, None, basis, 5)
    asked = [found.quantile(level) for level in LEVELS]
    asked += [found.remaining(1e300).quantile(level) for level in LEVELS]
    assert math.inf in asked
    assert not any(map(math.isnan, asked))


@pytest.mark.parametrize("price", [5e-324, 1e-310, 0.0])
@pytest.mark.parametrize("waited_ms", [5.0, 50_000.0])
def test_a_call_that_was_given_up_explains_itself_under_the_least_price_of_a_token(
    price, waited_ms
):
    calls = [Observed(10, 0, waited_ms, 1.0, is_timeout=True)] * 40
    found = Forecast("m", 10, None, Basis("m", (0.0, price, 1000.0), calls, 40, rule="r"))
    assert math.isfinite(found.median_ms)
