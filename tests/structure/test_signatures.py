"""The library's shape: names, arguments and their order as the design's table has them."""

import inspect
from functools import partial
from typing import get_args

import pytest

from calibration_ledger import (
    DEFAULT_ALPHA,
    AdaptiveCalibrator,
    CalibrationLedgerError,
    Call,
    Durability,
    ExportKind,
    RuleName,
)
from calibration_ledger.calibrator import EXPORT_KINDS
from calibration_ledger.core.validation import check_durability
from calibration_ledger.errors import InvalidInputError, LedgerClosedError, RemovedParameterError
from calibration_ledger.rules import NEWEST_RULES, RULES
from support.threads import together

EMPTY = inspect.Parameter.empty

SIGNATURES = {
    "__init__": "ledger=None, alpha=None, *, rule=None, prior=None, durability='full', "
    "timeout_s=30.0",
    "predict": "model, prompt_tokens, completion_tokens=0",
    "rank": "prompt_tokens, models=None, *, completion_tokens=None, max_tokens=None, by='mean'",
    "soonest": "prompt_tokens, models=None, *, completion_tokens=None, max_tokens=None, by='mean', "
    "deadline_ms=None, chance=0.9, explore=0.0, seed=None",
    "record": "model, prompt_tokens, actual_ms, *, completion_tokens=0, request_id=None, "
    "called_at=None, details=None, outcome='ok', strict=False",
    "record_many": "calls, *, strict=False",
    "timed": "model=None, prompt_tokens=None, *, on_error='warn'",
    "progress": "model=None, prompt_tokens=None, *, max_tokens=None, on_error='warn'",
    "calibration": "model",
    "get_stats": "model, *, rounded=True",
    "all_stats": "*, uncalibrated=False, rounded=True",
    "stats": "model=None, *, since=None, until=None, by_day=False, progress=None",
    "drift": "model=None",
    "top": "model=None, *, limit=20, by='newest'",
    "reset": "model=None",
    "default_rule": "",
    "set_default_rule": "rule, alpha=None",
    "calls": "model=None, *, since=None, until=None, last=None, limit=None, by_time=False",
    "replay": "alpha=None, rule=None, *, model=None, since=None, until=None, progress=None",
    "replay_forecasts": "model=None, *, since=None, until=None, last=None, warm_up=20, "
    "progress=None",
    "recalibrate": "alpha=None, rule=None, *, model=None, best=False, dry_run=False, progress=None",
    "heads": "",
    "audit": "model=None, *, heads=None, progress=None",
    "archive": "before, target, *, model=None, progress=None",
    "archivable": "before, *, model=None",
    "archived": "",
    "close": "",
}


def shape_of(function):
    """A signature without its types and its self."""
    signature = inspect.signature(function)
    bare = [
        parameter.replace(annotation=EMPTY)
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    return str(signature.replace(parameters=bare, return_annotation=EMPTY))


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_method_takes_what_the_design_says_in_its_order(name):
    assert shape_of(getattr(AdaptiveCalibrator, name)) == f"({SIGNATURES[name]})"


@pytest.mark.parametrize("name", ["import_calls", "export_ledger", "backup", "distribute"])
def test_what_the_commands_do_the_library_does_too(name):
    assert callable(getattr(AdaptiveCalibrator, name))


@pytest.mark.parametrize("name", [name for name in SIGNATURES if not name.startswith("_")])
def test_every_public_method_says_what_it_does(name):
    assert (getattr(AdaptiveCalibrator, name).__doc__ or "").strip()


@pytest.mark.parametrize(
    ("given", "alpha"),
    [
        ({}, DEFAULT_ALPHA),
        ({"alpha": None}, 0.15),
        ({"rule": "kalman"}, 0.01),
        ({"alpha": None, "rule": "kalman.1"}, 0.01),
        ({"alpha": DEFAULT_ALPHA, "rule": "kalman"}, 0.15),
    ],
)
def test_an_alpha_left_out_is_the_rules_own_and_one_given_is_meant(given, alpha):
    with AdaptiveCalibrator(":memory:", **given) as calibrator:
        assert calibrator.alpha == alpha
        calibrator.record("m", 1, 2.0)
        assert calibrator.calibration("m").alpha == alpha
        assert calibrator.audit() == []


def test_the_docstring_says_the_default_alpha_of_every_rule():
    said = AdaptiveCalibrator.__init__.__doc__ or ""
    for rule in NEWEST_RULES:
        assert f"{rule.default_alpha:g} for `{rule.name}`" in said


def test_type_checkers_know_every_rule_durability_and_kind():
    versions = [rule.version for rule in RULES]
    assert sorted(get_args(RuleName)) == sorted({*versions, *(rule.name for rule in RULES)})
    for durability in get_args(Durability):
        check_durability(durability)
    assert get_args(ExportKind) == EXPORT_KINDS


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("autosave", r"autosave= is gone: every record\(\) is saved.*durability='normal'"),
        ("state_path", r"state_path= is gone: pass the ledger's path.*calib import state FILE"),
    ],
)
@pytest.mark.parametrize("value", [True, False, None, "state.json"])
def test_a_parameter_of_the_predecessor_is_refused_with_what_takes_its_place(
    ledger_path, parameter, sentence, value
):
    with pytest.raises(RemovedParameterError, match=sentence) as refused:
        AdaptiveCalibrator(ledger_path, **{parameter: value})
    # Programs that catch what a wrong keyword raises anywhere else go on working.
    assert isinstance(refused.value, TypeError)
    assert isinstance(refused.value, CalibrationLedgerError)
    assert list(ledger_path.parent.iterdir()) == []


@pytest.mark.parametrize("parameter", ["path", "durabilty", "removed"])
def test_a_misspelt_parameter_is_what_it_is_everywhere_in_python(ledger_path, parameter):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{parameter}'") as refused:
        AdaptiveCalibrator(ledger_path, **{parameter: True})
    assert not isinstance(refused.value, CalibrationLedgerError)
    assert parameter not in inspect.signature(AdaptiveCalibrator).parameters
    assert list(ledger_path.parent.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("alpha", 7), ("rule", "x"), ("ledger", "y")])
def test_what_a_calibrator_was_made_with_stays(calibrator, name, value):
    with pytest.raises(AttributeError):
        setattr(calibrator, name, value)
    calibrator.record("m", 1, 2.0)


def test_the_ledger_and_alpha_may_come_by_position(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.3) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.calibration("m").alpha == 0.3
        assert calibrator.audit() == []


def test_record_takes_the_milliseconds_by_position_as_the_predecessor_did(calibrator):
    calibrator.record("m", 512, 3400)
    calibrator.record("m", 512, 3400.5, completion_tokens=128, request_id="r")
    first, second = calibrator.calls()
    assert (first.prompt_tokens, first.actual_ms, first.completion_tokens) == (512, 3400.0, 0)
    assert (second.prompt_tokens, second.actual_ms, second.completion_tokens) == (512, 3400.5, 128)
    assert calibrator.audit() == []


@pytest.mark.parametrize("numbers", [(128, 3400), (3400, 128), (3400.5, 128), (1, "x")])
@pytest.mark.parametrize("more", [{}, {"request_id": "r"}, {"completion_tokens": 5}])
def test_record_refuses_what_may_be_swapped_and_shows_both_spellings(calibrator, numbers, more):
    with pytest.raises(InvalidInputError) as refused:
        calibrator.record("m", 512, *numbers, **more)
    third, fourth = map(repr, numbers)
    for spelling in (
        f"record('m', 512, actual_ms={third}, completion_tokens={fourth})",
        f"record('m', 512, completion_tokens={third}, actual_ms={fourth})",
    ):
        assert spelling in str(refused.value)
    assert calibrator.heads() == []


def test_record_refuses_more_by_position_with_the_same_sentence(calibrator):
    with pytest.raises(InvalidInputError, match="actual_ms=3400, completion_tokens=128"):
        calibrator.record("m", 512, 3400, 128, "r")
    assert calibrator.heads() == []


def test_a_calibrator_says_what_it_is(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.3) as calibrator:
        path = repr(str(ledger_path))
        assert repr(calibrator) == f"AdaptiveCalibrator({path}, alpha=0.3, rule=None)"
        calibrator.close()
        assert repr(calibrator) == f"AdaptiveCalibrator({path}, alpha=0.3, rule=None)"
        assert calibrator.ledger == str(ledger_path)


def test_with_closes_and_a_closed_calibrator_says_so(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []
    calibrator.close()  # again: nothing happens
    for use in (
        lambda: calibrator.record("m", 1, 2.0),
        lambda: calibrator.predict("m", 1),
        lambda: list(calibrator.calls()),
        calibrator.heads,
        calibrator.audit,
        calibrator.reset,
    ):
        with pytest.raises(LedgerClosedError, match="is closed"):
            use()


def test_an_exception_inside_with_passes_through_and_closes(ledger_path):
    with pytest.raises(ZeroDivisionError), AdaptiveCalibrator(ledger_path) as calibrator:
        raise ZeroDivisionError
    with pytest.raises(LedgerClosedError):
        calibrator.record("m", 1, 2.0)


def test_a_string_and_a_path_name_the_same_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path) as first, AdaptiveCalibrator(str(ledger_path)) as second:
        first.record("m", 1, 2.0)
        assert second.calibration("m").sample_count == 1
        second.record("m", 1, 2.0)
        assert first.calibration("m").sample_count == 2
        assert first.audit() == []


def test_the_environment_names_the_default_ledger(ledger_path, monkeypatch):
    monkeypatch.setenv("CALIBRATION_LEDGER", str(ledger_path))
    with AdaptiveCalibrator() as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []
    assert ledger_path.exists()


def test_a_ledger_in_memory_works_the_same():
    with AdaptiveCalibrator(":memory:") as calibrator:
        error = calibrator.record("m", 512, 3400, completion_tokens=128, request_id="r")
        assert calibrator.record("m", 512, 3400, completion_tokens=128, request_id="r") == error
        calibrator.reset()
        calibrator.record_many([Call("n", 1, 2, 3.0)])
        assert [replay.n for replay in calibrator.replay()] == [1, 1]
        calibrator.recalibrate(0.5)
        assert [head.model for head in calibrator.heads()] == ["m", "n"]
        assert calibrator.audit() == []
    with AdaptiveCalibrator(":memory:") as another:
        assert another.heads() == []


def test_a_calibrator_can_be_shared_between_threads(calibrator):
    calibrator.record("m", 1, 2.0)

    def work(number):
        for i in range(20):
            calibrator.record(f"m{number % 2}", i, 10.0 * i, request_id=f"{number}-{i}")
            calibrator.predict("m0", 10)

    together(*(partial(work, number) for number in range(4)))
    assert [stats["sample_count"] for stats in calibrator.all_stats()] == [1, 40, 40]


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_both_durabilities_keep_the_same_history(ledger_path, make_call, durability):
    with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
        calibrator.record_many(make_call(i) for i in range(20))
        assert calibrator.calibration(make_call().model).sample_count == 20
        assert calibrator.audit() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"alpha": 0},
        {"alpha": float("nan")},
        {"alpha": "0.15"},
        {"alpha": True},
        {"rule": "kalman.9"},
        {"rule": ""},
        {"durability": "fast"},
        {"durability": None},
        {"durability": []},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"timeout_s": "30"},
        {"timeout_s": 10**6},
        {"prior": 5},
        {"prior": (0.5, 8.0, 300.0)},
        {"prior": False},
        {"ledger": ""},
        {"ledger": 5},
        {"ledger": b"calls.db"},
        {"ledger": "a\0b"},
        {"ledger": "mysql://host/db"},
        {"ledger": "nonsense://"},
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_before_anything_is_made(tmp_path, monkeypatch, wrong):
    monkeypatch.chdir(tmp_path)
    arguments = {"ledger": "calls.db"} | wrong
    with pytest.raises(InvalidInputError) as refused:
        AdaptiveCalibrator(**arguments)
    assert len(str(refused.value).split()) > 4
    assert list(tmp_path.iterdir()) == []


def test_a_falsy_but_callable_prior_is_used(ledger_path):
    class Table(dict):
        def __call__(self, _model):
            return (1.0, 2.0, 3.0)

    with AdaptiveCalibrator(ledger_path, prior=Table()) as calibrator:
        assert calibrator.predict("m", 1, 1).predicted_ms == 6.0
