"""The values that the library hands out: frozen, and readable."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import pytest

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
    assert Head._fields == ("model", "seq", "digest")
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


def test_the_public_names_are_the_same_objects_everywhere():
    assert Call is SameCall
