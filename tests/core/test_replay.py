"""Replay as a pure fold, over histories that lie in no database."""

import math

import pytest

from calibration_ledger.core.entries import Adjustment
from calibration_ledger.core.figures import Accuracy
from calibration_ledger.core.replay import Columns, Window, fold_history, replay_of
from calibration_ledger.errors import NotFiniteError
from calibration_ledger.rules import EMA
from support.reference import LOCAL_PRIOR, Ema, Lived, lived_history, numbers_of

COLUMNS = ("called_at", "prompt_tokens", "completion_tokens", "actual_ms")


class Listed:
    """A `History` in lists, in pages of two."""

    def __init__(self, lived):
        self.model = lived.model
        self.entries = lived.entries
        self.adjustments = [Adjustment(**e) for e in lived.entries if e["kind"] != "call"]

    def columns(self, after, through):
        found = [e for e in self.entries if e["kind"] == "call" and after < e["seq"] <= through]
        for i in range(0, len(found), 2):
            yield Columns(*([entry[name] for entry in found[i : i + 2]] for name in COLUMNS))


def replayed(lived, alpha, through=None, window=None):
    through = len(lived.entries) if through is None else through
    figures = Accuracy()
    state = fold_history(Listed(lived), EMA, alpha, through, accuracy=figures, window=window)
    return replay_of("m", state, figures), state


@pytest.mark.parametrize("alpha", [5e-324, 0.15, 0.4, 1.0])
def test_a_replay_folds_all_calls_and_skips_recalibrations(alpha):
    lived = lived_history()
    found, state = replayed(lived, alpha)
    assert numbers_of(found.calibration) == lived.replayed(alpha).numbers()
    assert numbers_of(state.calibration("m")) == lived.replayed(alpha).numbers()
    assert (found.model, found.rule, found.alpha, found.n) == ("m", "ema.1", alpha, 11)


def test_a_replay_under_the_live_alpha_gives_the_live_state():
    lived = lived_history()
    found, _ = replayed(lived, 1.0)
    assert numbers_of(found.calibration) == lived.state.numbers()
    assert found.calibration.last_updated == lived.updated_at / 1e6


@pytest.mark.parametrize("k", range(1, 16))
@pytest.mark.parametrize("more", [False, True])
def test_a_replay_begins_with_what_is_left_of_an_archive(k, more):
    lived = lived_history().archived(k)
    if more:
        lived.call(30, 40, 500.0).recalibrate(0.7).call(10, 20, 300.0)
    for alpha in (0.15, 0.4, lived.state.alpha):
        found, state = replayed(lived, alpha, lived.last_seq)
        assert numbers_of(state.calibration("m")) == lived.replayed(alpha).numbers()
        assert found.n == sum(entry["kind"] == "call" for entry in lived.entries)
    assert numbers_of(found.calibration) == lived.state.numbers()


@pytest.mark.parametrize("k", range(1, 10))
def test_an_archive_before_a_reset_changes_no_replay(k):
    lived = lived_history()
    for alpha in (0.15, 0.4, 1.0):
        before, after = replayed(lived, alpha)[1], replayed(lived.archived(k), alpha, 15)[1]
        assert after.same_as(before)


@pytest.mark.parametrize("through", range(1, 16))
def test_a_replay_may_end_at_any_entry(through):
    lived = lived_history()
    found, _ = replayed(lived, 0.3, through)
    assert numbers_of(found.calibration) == lived.replayed(0.3, through).numbers()


def test_an_opening_balance_keeps_its_counts_and_totals_under_any_alpha():
    lived = Lived().adjust("imported", Ema(0.2, 1.0, 2.0, 3.0, 12, 600.0, 9000.0))
    lived.call(10, 10, 100.0)
    found, _ = replayed(lived, 0.9)
    assert numbers_of(found.calibration) == lived.replayed(0.9).numbers()
    assert found.calibration.sample_count == 13
    assert found.n == 1


def test_a_history_of_the_opening_alone_scores_nothing():
    found, _ = replayed(Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR)), 0.5)
    assert found.n == 0
    assert numbers_of(found.calibration) == Ema(0.5, *LOCAL_PRIOR).numbers()
    assert math.isnan(found.mean_absolute_error_ms)
    assert math.isnan(found.median_absolute_percentage_error)
    assert math.isnan(found.bias_ms)
    assert math.isnan(found.mean_actual_ms)


def test_a_window_chooses_what_is_scored_and_not_what_is_learnt():
    lived = lived_history()
    calls = [e for e in lived.entries if e["kind"] == "call"]
    since, until = calls[3]["called_at"], calls[6]["called_at"]
    found, _ = replayed(lived, 0.3, window=Window(since, until))
    assert found.n == 3
    assert numbers_of(found.calibration) == lived.replayed(0.3).numbers()
    state = Ema(0.3, *LOCAL_PRIOR)
    errors = [state.learn(*(call[name] for name in COLUMNS[1:]))[1] for call in calls[:7]]
    assert found.mean_absolute_error_ms == math.fsum(map(abs, errors[3:6])) / 3
    assert found.bias_ms == pytest.approx(math.fsum(errors[3:6]) / 3, rel=1e-12)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(None, None), [True] * 4),
        (Window(2, None), [False, True, True, True]),
        (Window(None, 3), [True, True, False, False]),
        (Window(2, 3), [False, True, False, False]),
        (Window(3, 3), [False] * 4),
    ],
)
def test_a_window_is_half_open(window, expected):
    assert window.holds([1, 2, 3, 4]) == expected


def test_what_would_not_stay_finite_under_this_alpha_is_refused():
    lived = Lived().adjust("opened", Ema(1e-9, *LOCAL_PRIOR))
    lived.call(1, 0, 1.7e308).call(1000, 0, 1.0)
    assert replayed(lived, 1e-9)[0].n == 2
    with pytest.raises(NotFiniteError):
        replayed(lived, 1.0)


def test_progress_is_told_of_every_call():
    lived, told = lived_history(), []
    fold_history(Listed(lived), EMA, 0.15, len(lived.entries), progress=told.append)
    assert sum(told) == 11
    assert all(n > 0 for n in told)


def test_figures_can_be_carried_on():
    accuracy = Accuracy()
    fold_history(Listed(lived_history()), EMA, 0.15, 16, accuracy=accuracy)
    assert accuracy.n == 11
