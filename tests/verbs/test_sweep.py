"""sweep() ranks rules and alphas by how they would have predicted; suggest() hints at one."""

import math
import random
import statistics
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.replay import Runs
from calibration_ledger.errors import InvalidInputError, ModelNotFoundError, UnknownRuleError
from calibration_ledger.fast import how_to_run
from calibration_ledger.rules import NEWEST_RULES, RULES
from calibration_ledger.verbs import replay as replaying
from calibration_ledger.verbs import sweep as suggesting
from calibration_ledger.verbs.sweep import ALPHAS

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def noisy(model, count, seed=1, a=0.5, b=20.0, o=400.0):
    rng = random.Random(seed)
    for i in range(count):
        p, c = rng.randrange(10, 4000), rng.randrange(5, 400)
        actual = (o + a * p + b * c) * rng.uniform(0.9, 1.1)
        yield Call(model, p, c, actual, NOON + timedelta(minutes=i))


@pytest.fixture
def lived(calibrator):
    calibrator.record_many(noisy("a", 150))
    calibrator.record_many(noisy("b", 90, seed=2, a=2.0))
    calibrator.reset("b")
    calibrator.record_many(noisy("b", 40, seed=3, a=2.0))
    calibrator.recalibrate(0.4, model="a")
    return calibrator


def naive(calibrator, model, alpha, rule, warm_up=20, scored=lambda _call: True):
    """The figures of one candidate, from a ledger that lived under it."""
    with AdaptiveCalibrator(":memory:", alpha, rule=rule) as other:
        calls = list(calibrator.calls(model))
        gap = next((i for i in range(1, len(calls)) if calls[i].seq > calls[i - 1].seq + 1), None)
        errors = other.record_many(calls[:gap])
        if gap is not None:
            other.reset()
            errors += other.record_many(calls[gap:])
    return [
        (error, call.actual_ms)
        for error, call in list(zip(errors, calls, strict=True))[warm_up:]
        if scored(call)
    ]


def assert_score(score, errors):
    assert score.n == len(errors)
    sizes = sorted(abs(error) for error, _ in errors)
    mean = math.fsum(sizes) / len(sizes)
    assert score.mean_absolute_error_ms == pytest.approx(mean)
    latency = math.fsum(y for _, y in errors) / len(errors)
    assert score.relative_error == pytest.approx(mean / latency)
    assert score.bias_ms == pytest.approx(math.fsum(e for e, _ in errors) / len(errors))
    shares = statistics.median(100 * abs(error) / y for error, y in errors)
    assert score.median_absolute_percentage_error == pytest.approx(shares, rel=0.002)
    ninetieth = sizes[math.ceil(0.9 * len(sizes)) - 1]
    assert score.p90_absolute_error_ms == pytest.approx(ninetieth, rel=0.002)


@pytest.mark.parametrize("model", ["a", "b"])
def test_each_score_is_what_living_under_it_gives(lived, model):
    (sweep,) = lived.sweep([0.05, 0.3], model=model)
    assert (sweep.model, sweep.warm_up) == (model, 20)
    assert {(score.rule, score.alpha) for score in sweep.scores} == {
        (rule.version, alpha) for rule in NEWEST_RULES for alpha in (0.05, 0.3)
    }
    for score in sweep.scores:
        assert_score(score, naive(lived, model, score.alpha, score.rule))
    live = lived.calibration(model)
    assert (sweep.live.rule, sweep.live.alpha) == (live.rule, live.alpha)
    assert_score(sweep.live, naive(lived, model, live.alpha, live.rule))


def test_the_best_comes_first_and_wins(lived):
    for sweep in lived.sweep():
        errors = [score.mean_absolute_error_ms for score in sweep.scores]
        assert errors == sorted(errors)
        assert sweep.winner is sweep.scores[0]
        assert len(errors) == len(NEWEST_RULES) * len(ALPHAS)


def test_behind_the_models_come_all_of_them_together(lived):
    *models, together = lived.sweep([0.1], ["ema"])
    assert [sweep.model for sweep in models] == ["a", "b"]
    assert together.model is None
    errors = [one for model in ("a", "b") for one in naive(lived, model, 0.1, "ema")]
    assert_score(together.scores[0], errors)
    assert (together.live.rule, together.live.alpha) == (None, None)
    live = naive(lived, "a", 0.4, "ema") + naive(lived, "b", 0.15, "ema")
    assert_score(together.live, live)


def test_one_model_alone_has_no_sum(lived):
    assert [sweep.model for sweep in lived.sweep(model="b")] == ["b"]
    with AdaptiveCalibrator(":memory:") as other:
        other.record("only", 1, 2.0)
        assert [sweep.model for sweep in other.sweep()] == ["only"]


def test_models_with_no_more_calls_than_the_warm_up_are_left_out_at_once(calibrator):
    """Nothing of their history is read, and they have no part in the figures of all together."""
    calibrator.record_many(noisy("a", 30))
    calibrator.record_many(call for i in range(40) for call in noisy(f"s{i:02}", 1))
    calibrator.record_many(noisy("v", 40))
    calibrator.void("v", seq=(2, 21))
    steps = []
    swept = calibrator.sweep(progress=steps.append)
    assert [one.model for one in swept] == ["a", *(f"s{i:02}" for i in range(40)), "v"]
    assert [one.model for one in swept if one.scores] == ["a"]
    assert sum(steps) == 30
    assert {one.live.rule for one in swept} == {"ema.1"}
    assert calibrator.recalibrate(best=swept, dry_run=True) == calibrator.recalibrate(
        model="a", best=True, dry_run=True
    )


def test_compiled_code_is_for_models_with_many_calls():
    for calls, candidates in ((1, 22), (10, 22), (60, 22), (300, 1)):
        assert how_to_run(RULES, calls, candidates, 10**9) is Runs
    assert how_to_run(RULES, 10**5, 9, 10**5) is Runs


@pytest.mark.parametrize("warm_up", [0, 1, 89, 130, 1000])
def test_the_first_calls_are_learnt_but_not_scored(lived, warm_up):
    (sweep,) = lived.sweep([0.1], "ema", "b", warm_up=warm_up)
    errors = naive(lived, "b", 0.1, "ema", warm_up)
    if errors:
        assert_score(sweep.scores[0], errors)
    else:
        assert sweep.winner is sweep.better is None
        assert sweep.scores == ()
        assert sweep.live.n == 0
        assert math.isnan(sweep.live.mean_absolute_error_ms)


def test_a_window_chooses_what_is_scored_not_what_is_learnt(lived):
    since, until = NOON + timedelta(minutes=40), NOON + timedelta(minutes=100)
    (sweep,) = lived.sweep([0.1], "ema", "a", since=since, until=until)
    errors = naive(lived, "a", 0.1, "ema", scored=lambda call: since <= call.called_at < until)
    assert_score(sweep.scores[0], errors)


@pytest.mark.both
def test_a_sweep_agrees_with_the_replay_of_each_candidate(lived):
    for sweep in lived.sweep([0.02, 0.2], warm_up=0)[:2]:
        for score in sweep.scores:
            (replay,) = lived.replay(score.alpha, score.rule, model=sweep.model)
            assert (score.n, score.mean_absolute_error_ms) == (
                replay.n,
                replay.mean_absolute_error_ms,
            )
            assert score.bias_ms == replay.bias_ms
            median = replay.median_absolute_percentage_error
            assert score.median_absolute_percentage_error == median


def test_a_sweep_changes_nothing(lived):
    heads = lived.heads()
    lived.sweep()
    assert lived.heads() == heads


def test_a_candidate_that_does_not_stay_finite_comes_last(ledger):
    with AdaptiveCalibrator(ledger, 1e-9) as calibrator:
        for call in [(1, 1.7e308), (1000, 1.0), (1, 1.0)]:
            calibrator.record("m", *call)
        calibrator.record("other", 10, 400.0, completion_tokens=5)
        of_m, _, together = calibrator.sweep([1e-9, 1.0], "ema", warm_up=0)
        assert [score.alpha for score in of_m.scores] == [1e-9, 1.0]
        assert [score.n for score in of_m.scores] == [3, 0]
        assert [score.n for score in together.scores] == [4, 0]
        assert calibrator.audit() == []


@pytest.mark.parametrize("way", ["replay", "sweep"])
def test_others_record_while_it_runs(lived, ledger, make_call, way):
    def record(_):
        with AdaptiveCalibrator(ledger, timeout_s=5.0) as other:
            other.record_many([make_call(0, "a"), make_call(1, "another")])

    before = getattr(lived, way)(model="a")
    assert getattr(lived, way)(model="a", progress=record) == before
    assert getattr(lived, way)(model="a") != before


def test_progress_counts_each_call_once(lived):
    steps = []
    lived.sweep([0.1, 0.2, 0.3], progress=steps.append)
    assert sum(steps) == 150 + 90 + 40


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"alphas": []}, InvalidInputError, "no alpha to try"),
        ({"alphas": [0.1, 2]}, InvalidInputError, "alpha must be"),
        ({"alphas": [math.nan]}, InvalidInputError, "alpha must be"),
        ({"alphas": 0.1}, InvalidInputError, "a list of numbers"),
        ({"alphas": ["0.1"]}, InvalidInputError, "alpha must be"),
        ({"alphas": [(i + 1) / 6000 for i in range(6000)]}, InvalidInputError, "too many"),
        ({"rules": []}, InvalidInputError, "no rule to try"),
        ({"rules": 5}, InvalidInputError, "a list of names"),
        ({"rules": ["emma"]}, UnknownRuleError, "does not know the rule 'emma'"),
        ({"model": "unseen"}, ModelNotFoundError, "no entry of a model 'unseen'"),
        ({"warm_up": -1}, InvalidInputError, "warm_up must be a whole number"),
        ({"warm_up": True}, InvalidInputError, "warm_up must be a whole number"),
        ({"warm_up": 1.5}, InvalidInputError, "warm_up must be a whole number"),
    ],
)
def test_what_cannot_be_swept_is_refused(lived, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        lived.sweep(**arguments)


def test_the_live_figures_are_those_of_the_live_rule_and_alpha_among_the_tried(lived):
    sweep = {one.model: one for one in lived.sweep()}["b"]
    (mine,) = [one for one in sweep.scores if (one.rule, one.alpha) == ("ema.1", 0.15)]
    assert sweep.live == mine != sweep.scores[-1]


# -- suggest --------------------------------------------------------------------------------


@pytest.mark.both
def test_a_clearly_better_rule_is_suggested_until_it_is_adopted(calibrator):
    calibrator.record_many(noisy("m", 400))
    (suggestion,) = calibrator.suggest()
    assert suggestion.model == "m"
    assert suggestion.rule == "kalman.2"
    assert suggestion.n == 360
    assert suggestion.mean_absolute_error_ms < 0.85 * suggestion.live_mean_absolute_error_ms
    calibrator.recalibrate(suggestion.alpha, suggestion.rule, model="m")
    assert calibrator.suggest() == calibrator.suggest("m") == []


def test_what_is_only_a_little_better_is_not_suggested(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.03, rule="kalman") as calibrator:
        calibrator.record_many(noisy("m", 400))
        (sweep,) = calibrator.sweep(model="m")
        assert sweep.winner.mean_absolute_error_ms < sweep.live.mean_absolute_error_ms
        assert calibrator.suggest() == []


def test_a_suggestion_leaves_out_what_is_voided(calibrator):
    calibrator.record_many(noisy("m", 400))
    (before,) = calibrator.suggest()
    calibrator.record_many(Call("m", 10, 10, 5e6, NOON) for _ in range(50))
    calibrator.void("m", seq=(402, 451))
    assert calibrator.suggest() == [before]


def test_the_models_with_the_most_calls_are_looked_at_first(calibrator, monkeypatch):
    calibrator.record_many([*noisy("a", 300), *noisy("b", 400)])
    assert [one.model for one in calibrator.suggest()] == ["a", "b"]
    monkeypatch.setattr(suggesting, "IN_ALL", 400)
    assert [one.model for one in calibrator.suggest()] == ["b"]


def test_little_is_no_ground_for_a_suggestion(calibrator):
    calibrator.record_many(noisy("m", 100))
    assert calibrator.suggest() == []


def test_only_the_newest_calls_are_looked_at(calibrator):
    calibrator.record_many(noisy("m", 2600))
    (suggestion,) = calibrator.suggest("m")
    assert suggestion.n == 1800


def test_a_suggestion_of_a_model_never_seen_is_an_error(lived):
    with pytest.raises(ModelNotFoundError):
        lived.suggest("unseen")


def test_what_predicted_without_any_error_cannot_be_bettered(calibrator):
    """Nor has a share of nothing a meaning: with the error of the live one at 0, none is less."""
    line = Call("m", 100, 20, 0.5 * 100 + 8.0 * 20 + 300.0)
    assert set(calibrator.record_many([line] * 300)) == {0.0}
    assert calibrator.suggest() == []


def test_nothing_is_suggested_where_nothing_would_stay_finite(ledger_path):
    """From the prior that it was opened with, two calls are too many for any rule."""
    with AdaptiveCalibrator(ledger_path, prior=lambda _: (1e308, 0.001, 0.0)) as absurd:
        absurd.record("m", 1, 1.0)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.reset("m")
        calibrator.record_many(noisy("m", 150))
        assert calibrator.suggest() == []


# -- adopting the best ------------------------------------------------------------------------


def test_each_model_adopts_the_best_of_its_sweep_where_that_is_better(lived):
    found = {one.model: one for one in lived.sweep()}
    before = {name: lived.calibration(name) for name in "ab"}
    adopted = lived.recalibrate(best=True)
    better = {name: found[name].better for name in "ab" if found[name].better is not None}
    assert better
    assert [one.model for one in adopted] == [*better]
    for name in "ab":
        expected = better.get(name, before[name])
        live = lived.calibration(name)
        assert (live.rule, live.alpha) == (expected.rule, expected.alpha)
    assert lived.recalibrate(best=True) == []


def test_what_a_sweep_gave_need_not_be_swept_once_more(lived, monkeypatch):
    found = lived.sweep(rules="ema")
    tried = lived.recalibrate(rule="ema", best=True, dry_run=True)
    monkeypatch.setattr(replaying, "sweep", None)
    assert lived.recalibrate(best=found, dry_run=True) == tried
    assert lived.recalibrate(best=iter(found)) == tried
    assert {one.rule for one in tried} == {"ema.1"}


def test_the_best_of_one_model_leaves_the_others(lived):
    before = lived.calibration("b")
    assert [one.model for one in lived.recalibrate(model="a", best=lived.sweep())] == ["a"]
    assert lived.calibration("b") == before


def test_a_dry_run_says_what_would_be_adopted_and_changes_nothing(lived):
    heads = lived.heads()
    tried = lived.recalibrate(0.3, dry_run=True)
    assert lived.heads() == heads
    assert tried == lived.replay(0.3)
    assert lived.recalibrate(0.3) == tried


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"alpha": 0.1, "best": True}, "leave alpha out"),
        ({"best": 5}, "what sweep"),
        ({"best": ["ema"]}, "what sweep"),
        ({"best": None}, "what sweep"),
    ],
)
def test_what_is_no_best_is_refused(lived, arguments, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        lived.recalibrate(**arguments)
