"""The values of top: how fast calls come, and in which order models stand."""

from datetime import UTC, datetime

import pytest

from calibration_ledger.core.top import TOP_BY, Top, TopModel, rate_of, sorted_by
from calibration_ledger.core.values import Drift

NOW = 1_800_000_000.0


def began(*ages_s):
    return [NOW - age_s for age_s in ages_s]


@pytest.mark.parametrize(
    ("ages_s", "is_all", "rate"),
    [
        ([], True, 0.0),
        ([1000.0, 700.0], True, 0.0),  # it is at rest
        ([1.0], True, 1.0),  # one call is no rush
        ([20.0, 10.0], True, 2.0),
        ([120.0, 60.0, 1.0], True, 1.5),  # a young model, by the time it has
        ([400.0, 200.0, 100.0], True, 0.4),
        ([400.0, 200.0, 100.0], False, 0.4),
        ([10.0, 5.0, 0.0], False, 18.0),  # so fast that not all of five minutes were looked at
        ([0.0, 0.0], False, 120.0),
        ([-50.0, -10.0], True, 0.0),  # of the future, by another clock
    ],
)
def test_the_rate_is_that_of_the_last_five_minutes(ages_s, is_all, rate):
    assert rate_of(began(*ages_s), NOW, is_all=is_all) == pytest.approx(rate)


def model(name, age_s=None, **figures):
    at = None if age_s is None else datetime.fromtimestamp(NOW - age_s, UTC)
    return TopModel(name, figures.pop("calls", 1), newest_at=at, **figures)


MODELS = [
    model("a", 9.0, calls=5, calls_per_minute=1.0, median_ms=5.0),
    model("b", 1.0, calls=1, calls_per_minute=2.0, drift=Drift(9, 0.25)),
    model("c", None, calls=9, median_absolute_percentage_error=2.0, drift=Drift(9, 2.0)),
    model("d", 5.0, calls=5, median_absolute_percentage_error=30.0, median_ms=9.0),
]


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("newest", "bdac"),
        ("model", "abcd"),
        ("calls", "cadb"),
        ("rate", "bacd"),
        ("error", "dcab"),
        ("drift", "bcad"),
        ("forecast", "dabc"),
    ],
)
def test_models_stand_in_the_order_that_was_asked_for(by, order):
    assert "".join(one.model for one in sorted_by(MODELS, by)) == order


def test_there_is_a_test_of_each_order():
    assert TOP_BY == ("newest", "model", "calls", "rate", "error", "drift", "forecast")


def test_the_rate_of_all_is_the_sum():
    now = datetime.fromtimestamp(NOW, UTC)
    assert Top(now, tuple(MODELS), len(MODELS)).calls_per_minute == 3.0
