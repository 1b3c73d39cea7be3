"""replay() asks "would that have predicted better?", and recalibrate() adopts the answer."""

import math
import statistics
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import LedgerBusyError, ModelNotFoundError, NotFiniteError
from calibration_ledger.storage.ledger import PAGE
from support.reference import LOCAL_PRIOR, Ema, dump, entries_of, fold_file, numbers_of, state_of

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def hour(hours):
    return NOON + timedelta(hours=hours)


@pytest.fixture
def lived(calibrator, make_call):
    """Two models with every kind of adjustment between their calls."""
    calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(30))
    calibrator.recalibrate(0.4, model="m0")
    calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(30, 50))
    calibrator.reset("m1")
    calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(50, 70))
    calibrator.recalibrate(0.9, model="m1")
    calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(70, 80))
    return calibrator


def naive(path, model, alpha, scored=lambda _call: True):
    """The figures of a replay, all calls in lists."""
    state, errors, shares = Ema(alpha, 0.0, 0.0, 0.0), [], []
    for entry in entries_of(path, model):
        if entry["kind"] == "call":
            p, c, y = entry["prompt_tokens"], entry["completion_tokens"], entry["actual_ms"]
            _, error = state.learn(p, c, y)
            if scored(entry):
                errors.append(error)
                if y:
                    shares.append(100 * abs(error) / y)
        elif entry["kind"] != "recalibrated":
            state = state_of(entry | {"alpha": alpha})
    return errors, shares


def assert_figures(replay, errors, shares):
    assert replay.n == len(errors)
    if not errors:
        for figure in (
            replay.mean_absolute_error_ms,
            replay.bias_ms,
            replay.median_absolute_percentage_error,
        ):
            assert math.isnan(figure)
        return
    mean = math.fsum(map(abs, errors)) / len(errors)
    assert replay.mean_absolute_error_ms == pytest.approx(mean, rel=1e-12)
    bias = math.fsum(errors) / len(errors)
    assert replay.bias_ms == pytest.approx(bias, rel=1e-9, abs=1e-12 * mean)
    expected = statistics.median(shares) if shares else math.nan
    found = replay.median_absolute_percentage_error
    assert found == pytest.approx(expected, rel=0.01, nan_ok=True)


# -- replay ---------------------------------------------------------------------------------


@pytest.mark.both
def test_a_replay_without_arguments_gives_the_live_calibration_to_the_bit(lived):
    for replay in lived.replay():
        assert replay.calibration == lived.calibration(replay.model)
        assert numbers_of(replay.calibration) == numbers_of(lived.calibration(replay.model))
        assert (replay.rule, replay.alpha) == ("ema.1", lived.calibration(replay.model).alpha)


@pytest.mark.parametrize("alpha", [5e-324, 0.01, 0.15, 0.4, 0.9, 1, 1.0])
def test_a_replay_under_another_alpha_is_what_the_design_computes(lived, ledger_path, alpha):
    replays = lived.replay(alpha)
    assert [replay.model for replay in replays] == ["m0", "m1"]
    for replay in replays:
        expected = fold_file(ledger_path, replay.model, alpha)
        assert numbers_of(replay.calibration) == expected.numbers()
        assert replay.alpha == alpha
        assert_figures(replay, *naive(ledger_path, replay.model, alpha))


def test_a_replay_changes_nothing(lived, ledger_path):
    rows, heads = dump(ledger_path), lived.heads()
    lived.replay()
    lived.replay(0.77, "ema", model="m0", since=hour(0))
    assert dump(ledger_path) == rows
    assert lived.heads() == heads


def test_a_rule_may_be_named_or_given_by_its_version(lived):
    assert lived.replay(0.3, "ema") == lived.replay(0.3, rule="ema.1") == lived.replay(0.3)


def test_one_model_is_replayed_alone(lived):
    assert [replay.model for replay in lived.replay(model="m1")] == ["m1"]


def test_models_come_sorted_by_name(calibrator):
    for model in ("b", "ä", "a", "C"):
        calibrator.record(model, 1, 2.0)
    assert [replay.model for replay in calibrator.replay()] == ["C", "a", "b", "ä"]


def test_a_model_never_seen_is_an_error(lived, ledger_path):
    for use in (lived.replay, lived.recalibrate):
        with pytest.raises(ModelNotFoundError, match="no entry of a model 'unseen'"):
            use(0.5, model="unseen")


def test_the_calls_before_a_reset_are_scored_too(calibrator, ledger_path):
    calibrator.record("m", 1, 2.0)
    calibrator.reset("m")
    (replay,) = calibrator.replay(0.3)
    assert replay.n == 1  # the history before a reset is history too
    assert replay.calibration.sample_count == 0


def test_calls_of_no_time_have_no_percentage(calibrator, ledger_path):
    for i in range(10):
        calibrator.record("m", i, 0.0 if i % 2 else 100.0)
    (replay,) = calibrator.replay()
    assert_figures(replay, *naive(ledger_path, "m", 0.15))
    assert replay.n == 10
    calibrator.record("zero", 1, 0.0)
    (replay,) = calibrator.replay(model="zero")
    assert replay.n == 1
    assert math.isnan(replay.median_absolute_percentage_error)
    assert replay.mean_absolute_error_ms == 300.5


def test_histories_of_many_pages_replay_to_the_bit(calibrator, ledger_path, make_call):
    calibrator.record_many(make_call(i, "m") for i in range(2 * PAGE + 7))
    calibrator.reset("m")
    calibrator.record_many(make_call(i, "m") for i in range(PAGE))
    (replay,) = calibrator.replay()
    assert replay.calibration == calibrator.calibration("m")
    (replay,) = calibrator.replay(0.5)
    assert numbers_of(replay.calibration) == fold_file(ledger_path, "m", 0.5).numbers()
    assert_figures(replay, *naive(ledger_path, "m", 0.5))


def test_progress_is_told_of_every_call(lived):
    told = []
    lived.replay(progress=told.append)
    assert sum(told) == 80


# -- windows --------------------------------------------------------------------------------


@pytest.fixture
def dated(calibrator):
    """Ten calls an hour apart, two of which were recorded late, and a reset."""
    for i, at in enumerate((0, 1, 2, 7, 3, 4, 5)):
        calibrator.record("m", 10 * i, 100.0 * i, completion_tokens=5, called_at=hour(at))
    calibrator.reset("m")
    for i, at in enumerate((6, 1, 8)):
        calibrator.record("m", 7 * i, 90.0 * i, completion_tokens=5, called_at=hour(at))
    return calibrator


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (None, None),
        (0, 9),
        (2, 5),
        (None, 3),
        (3, None),
        (7, 8),
        (8, None),
        (2, 2),
        (99, None),
        (None, -99),
        (1, 2),
    ],
)
@pytest.mark.parametrize("alpha", [None, 0.4])
def test_a_window_chooses_what_is_scored_and_all_up_to_the_last_of_it_is_learnt(
    dated, ledger_path, since, until, alpha
):
    def is_scored(entry):
        at = NOON + timedelta(microseconds=entry["called_at"] - NOON.timestamp() * 1e6)
        return (since is None or at >= hour(since)) and (until is None or at < hour(until))

    window = {
        "since": None if since is None else hour(since),
        "until": None if until is None else hour(until),
    }
    (replay,) = dated.replay(alpha, **window)
    errors, shares = naive(ledger_path, "m", alpha or 0.15, is_scored)
    assert_figures(replay, errors, shares)
    entries = entries_of(ledger_path, "m")
    scored = [e["seq"] for e in entries if e["kind"] == "call" and is_scored(e)]
    through = len(entries) if since is until is None else max(scored, default=1)
    state = Ema(alpha or 0.15, *LOCAL_PRIOR)
    for entry in entries[1:through]:
        if entry["kind"] == "call":
            state.learn(entry["prompt_tokens"], entry["completion_tokens"], entry["actual_ms"])
        else:
            state = Ema(alpha or 0.15, *LOCAL_PRIOR)
    assert numbers_of(replay.calibration) == state.numbers()


def test_a_window_without_calls_scores_nothing(dated):
    (replay,) = dated.replay(since=hour(99))
    assert replay.n == 0
    assert math.isnan(replay.mean_absolute_error_ms)
    assert math.isnan(replay.median_absolute_percentage_error)
    assert math.isnan(replay.bias_ms)


# -- recalibrate ----------------------------------------------------------------------------


def test_recalibrating_adopts_the_replay_as_an_entry(lived, ledger_path):
    asked = lived.replay(0.33)
    heads = lived.heads()
    assert lived.recalibrate(0.33) == asked
    for replay, head in zip(asked, heads, strict=True):
        assert numbers_of(lived.calibration(replay.model)) == numbers_of(replay.calibration)
        entry = entries_of(ledger_path, replay.model)[-1]
        assert (entry["kind"], entry["seq"]) == ("recalibrated", head.seq + 1)
        assert (entry["alpha"], entry["rule"]) == (0.33, "ema.1")
        assert entry["sample_count"] == replay.calibration.sample_count
    assert lived.replay() == asked


def test_calls_after_a_recalibration_are_learnt_from_what_was_adopted(lived, ledger_path):
    lived.recalibrate(0.33, model="m0")
    expected = fold_file(ledger_path, "m0", 0.33)
    _, error = expected.learn(10, 5, 777.0)
    assert lived.record("m0", 10, 777.0, completion_tokens=5) == error
    assert numbers_of(lived.calibration("m0")) == expected.numbers()


def test_recalibrating_to_what_is_there_already_writes_nothing(lived, ledger_path):
    lived.recalibrate(0.33)
    rows = dump(ledger_path)
    first = lived.recalibrate(0.33)
    assert lived.recalibrate() == first == lived.replay()
    assert dump(ledger_path) == rows


def test_recalibrating_without_arguments_changes_nothing(lived, ledger_path):
    rows = dump(ledger_path)
    lived.recalibrate()
    assert dump(ledger_path) == rows


def test_recalibrating_back_is_an_entry_of_its_own(calibrator, make_call):
    calibrator.record_many(make_call(i, "m") for i in range(10))
    before = numbers_of(calibrator.calibration("m"))
    calibrator.recalibrate(0.7)
    calibrator.recalibrate(0.15)
    assert numbers_of(calibrator.calibration("m")) == before
    assert calibrator.heads()[0].seq == 13


@pytest.mark.both
def test_a_recalibration_of_one_model_leaves_the_others(lived):
    before = {head.model: head for head in lived.heads()}
    lived.recalibrate(0.5, model="m0")
    after = {head.model: head for head in lived.heads()}
    assert before["m1"] == after["m1"]
    assert before["m0"] != after["m0"]


def test_a_model_that_cannot_be_recalibrated_leaves_all_as_they_were(ledger_path, make_call):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([make_call(0, "a"), make_call(1, "a"), make_call(0, "z")])
    with AdaptiveCalibrator(ledger_path, alpha=1e-4) as calibrator:
        calibrator.record("b", 1, 1e308)
        calibrator.record("b", 1000, 1.0)
        rows = dump(ledger_path)
        with pytest.raises(NotFiniteError):
            calibrator.recalibrate(1.0)
        assert dump(ledger_path) == rows
        assert calibrator.audit() == []


def test_what_stops_a_recalibration_between_two_models_says_which_were_recalibrated(
    lived, monkeypatch
):
    before = lived.calibration("m1")
    write, writes = lived._ledger.write, []

    def stopped(*arguments, **named):
        writes.append(1)
        if len(writes) == 2:
            raise LedgerBusyError("others held it", advice="try again")
        return write(*arguments, **named)

    monkeypatch.setattr(lived._ledger, "write", stopped)
    with pytest.raises(LedgerBusyError) as caught:
        lived.recalibrate(0.7)
    assert "before stay recalibrated ('m0'), and this one was not changed: try again" in str(
        caught.value
    )
    assert "othing was recorded" not in str(caught.value)
    assert lived.calibration("m0").alpha == 0.7
    assert lived.calibration("m1") == before


def test_a_reset_after_a_recalibration_goes_back_to_the_calibrators_alpha(lived):
    lived.recalibrate(0.5)
    assert lived.calibration("m0").alpha == 0.5
    lived.reset("m0")
    assert numbers_of(lived.calibration("m0")) == Ema(0.15, *LOCAL_PRIOR).numbers()
    assert lived.replay(model="m0")[0].calibration == lived.calibration("m0")


def test_a_recalibration_keeps_when_the_model_last_changed(calibrator):
    calibrator.record("m", 1, 2.0, called_at=NOON)
    calibrator.recalibrate(0.5)
    assert calibrator.calibration("m").last_updated == NOON.timestamp()


def test_a_recalibration_of_a_mere_opening_adopts_the_alpha(calibrator):
    calibrator.record("m", 1, 2.0)
    calibrator.reset("m")
    calibrator.recalibrate(0.5)
    assert calibrator.calibration("m").alpha == 0.5
    assert calibrator.calibration("m").sample_count == 0


def test_the_alpha_of_the_smallest_error_can_be_found_and_adopted(ledger_path):
    """What replays are for."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(
            Call("m", 10 * (i % 13), 5 * (i % 7), 200.0 + 3 * (i % 13) + 40 * (i % 7), hour(i))
            for i in range(300)
        )
        tried = {a: calibrator.replay(a)[0].mean_absolute_error_ms for a in (0.01, 0.15, 0.6)}
        best = min(tried, key=tried.get)
        (adopted,) = calibrator.recalibrate(best)
        assert adopted.mean_absolute_error_ms == tried[best]
        assert calibrator.calibration("m").alpha == best
        assert calibrator.audit() == []


# -- while others write ---------------------------------------------------------------------


def once(do):
    """A progress callback that does something the first time."""
    todo = [do]
    return lambda _done: todo and todo.pop()()


@pytest.fixture
def two(ledger_path, make_call):
    """Two calibrators on one ledger of two pages."""
    with (
        AdaptiveCalibrator(ledger_path) as first,
        AdaptiveCalibrator(ledger_path, 0.6, timeout_s=5) as second,
    ):
        first.record_many(make_call(i, "m") for i in range(PAGE + 50))
        yield first, second
        assert first.audit() == []


def kinds(path):
    return [entry["kind"] for entry in entries_of(path, "m") if entry["kind"] != "call"]


def test_calls_recorded_while_a_recalibration_replays_are_folded_in(two, ledger_path, make_call):
    first, second = two
    more = [make_call(i, "m") for i in range(2 * PAGE + 5)]
    (adopted,) = first.recalibrate(0.3, progress=once(lambda: second.record_many(more)))
    assert adopted.n == 3 * PAGE + 55
    assert numbers_of(adopted.calibration) == fold_file(ledger_path, "m", 0.3).numbers()
    assert first.calibration("m") == adopted.calibration
    assert_figures(adopted, *naive(ledger_path, "m", 0.3))
    assert kinds(ledger_path) == ["opened", "recalibrated"]


@pytest.mark.parametrize("other", ["reset", "recalibrate"])
def test_a_recalibration_that_was_overtaken_starts_over(two, ledger_path, other):
    first, second = two

    def overtake():
        if other == "reset":
            second.reset("m")
        else:
            second.recalibrate(0.9, model="m")
        second.record("m", 10, 500.0, completion_tokens=5)

    (adopted,) = first.recalibrate(0.3, progress=once(overtake))
    assert numbers_of(adopted.calibration) == fold_file(ledger_path, "m", 0.3).numbers()
    assert first.calibration("m") == adopted.calibration
    assert adopted.n == PAGE + 51
    expected = {"reset": "reset", "recalibrate": "recalibrated"}[other]
    assert kinds(ledger_path) == ["opened", expected, "recalibrated"]


def test_a_recalibration_without_an_alpha_takes_what_is_live_when_it_is_adopted(two, ledger_path):
    first, second = two
    first.recalibrate(progress=once(lambda: second.recalibrate(0.9, model="m")))
    assert first.calibration("m").alpha == 0.9
    assert kinds(ledger_path) == ["opened", "recalibrated"]


def test_a_replay_is_of_the_moment_when_it_began(two):
    first, second = two
    before = first.calibration("m")
    (replay,) = first.replay(
        progress=once(lambda: second.record("m", 10, 500.0, completion_tokens=5))
    )
    assert replay.calibration == before
    assert replay.n == PAGE + 50
