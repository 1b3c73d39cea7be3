"""The values that the library hands out: frozen, and readable."""

import dataclasses
import json
import math
from datetime import UTC, datetime

import pytest

import calibration_ledger
from calibration_ledger import Call, CostPrediction, Finding, Head, Replay
from calibration_ledger.core.values import Call as SameCall

NOW = datetime(2026, 1, 2, tzinfo=UTC)
VALUES = [
    CostPrediction("x", 512, 128, 1580.0, 0.0, 0, NOW),
    Call("x", 1, 2, 3.0),
    Replay("x", "ema.1", 0.15, None, 0, 0.0, 0.0, 0.0),
    Finding("x", 1, "head", "a", "b"),
]


def test_a_prediction_shows_what_people_look_for():
    assert repr(CostPrediction("x", 512, 128, 1580.0, 0.0, 0, NOW)) == (
        "CostPrediction(model='x', prompt_tokens=512, predicted_ms=1580, confidence=0.00, n=0)"
    )
    assert repr(CostPrediction("a'b", 0, 1, 1.5, 0.999, 70, NOW)) == (
        'CostPrediction(model="a\'b", prompt_tokens=0, predicted_ms=2, confidence=1.00, n=70)'
    )


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen(value):
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, 1)
    # Python 3.11 says TypeError here for a dataclass with slots.
    with pytest.raises((AttributeError, TypeError)):
        value.something_new = 1


def test_the_fields_are_those_of_the_design_in_its_order():
    names = {type(value): [field.name for field in dataclasses.fields(value)] for value in VALUES}
    assert names[CostPrediction] == [
        "model",
        "prompt_tokens",
        "completion_tokens",
        "predicted_ms",
        "confidence",
        "sample_count",
        "predicted_at",
    ]
    assert names[Call] == [
        "model",
        "prompt_tokens",
        "completion_tokens",
        "actual_ms",
        "called_at",
        "request_id",
        "details",
        "seq",
        "predicted_ms",
        "voided",
        "outcome",
    ]
    assert names[Replay][:8] == [
        "model",
        "rule",
        "alpha",
        "calibration",
        "n",
        "mean_absolute_error_ms",
        "median_absolute_percentage_error",
        "bias_ms",
    ]
    assert Head._fields == ("model", "seq", "digest", "state")
    assert names[Finding] == ["model", "seq", "check", "expected", "found"]


def test_a_recorded_call_knows_its_error():
    assert Call("x", 1, 2, 3.0).error_ms is None
    assert Call("x", 1, 2, 3.0, predicted_ms=5.0).error_ms == -2.0


def test_a_finding_reads_as_one_line():
    assert str(Finding("x", 7, "head", "aa", "bb")) == "x #7: head: expected aa, found bb"
    assert str(Finding("x", None, "head", "aa", "bb")) == "x: head: expected aa, found bb"
    assert str(Finding(None, None, "storage", "a", "b")) == (
        "the ledger: storage: expected a, found b"
    )


def test_every_public_value_can_be_had_as_json():
    """`--json` prints nothing else."""
    public = [getattr(calibration_ledger, name) for name in calibration_ledger.__all__]
    values = [
        one
        for one in public
        if isinstance(one, type) and (dataclasses.is_dataclass(one) or hasattr(one, "_fields"))
    ]
    assert {Call, CostPrediction, Finding, Head, Replay} < set(values)
    # Parts of reports, which show them.
    parts = {"ArchivedModel", "ImportPreview", "LostRange", "ModelPreview", "SkippedLine"}
    # Three numbers, which `ModelCalibration` has, too; what a block fills in; what formats are
    # handed, and give.
    others = parts | {"Prior", "TimedCall", "Beginning", "Skip"}
    assert {one.__name__ for one in values if not hasattr(one, "to_dict")} == others
    for value in [*VALUES, Head("x", 1, "ab")]:
        fields = value.to_dict()
        assert json.loads(json.dumps(fields, allow_nan=False)) == fields


def test_as_json_what_is_not_a_number_is_null_and_what_is_absent_from_a_call_is_left_out():
    assert Replay("x", "ema.1", 0.15, None, 0, math.nan, math.inf, 0.5).to_dict() == {
        "model": "x",
        "rule": "ema.1",
        "alpha": 0.15,
        "n": 0,
        "mean_absolute_error_ms": None,
        "median_absolute_percentage_error": None,
        "bias_ms": 0.5,
        "mean_actual_ms": None,
        "calibration": None,
    }
    assert Call("x", 1, 2, 3.0, called_at=NOW).to_dict() == {
        "model": "x",
        "called_at": "2026-01-02T00:00:00.000000Z",
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "actual_ms": 3.0,
    }


def test_the_public_names_are_the_same_objects_everywhere():
    assert Call is SameCall
