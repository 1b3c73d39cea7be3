"""A calibration as a value: confidence, status, figures, and its way through JSON."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import DEFAULT_ALPHA, ModelCalibration, ModelStats
from calibration_ledger.core.values import as_json, confidence_of
from calibration_ledger.errors import InvalidInputError

FOUR = {"model", "sample_count", "confidence", "status"}


def calibration(sample_count=0, **fields):
    values = {
        "model": "m",
        "rule": "ema.1",
        "alpha": 0.15,
        "ms_per_prompt_token": 0.123456,
        "ms_per_completion_token": 7.00005,
        "base_overhead_ms": 299.96,
        "total_absolute_error_ms": 100.0,
        "total_predicted_ms": 1000.0,
        "last_updated": 1_767_323_045.678901,
    }
    return ModelCalibration(**(values | {"sample_count": sample_count} | fields))


def test_the_default_alpha_is_exported():
    assert DEFAULT_ALPHA == 0.15


@pytest.mark.parametrize(("n", "rounded"), [(0, 0.0), (1, 0.095), (10, 0.632), (30, 0.950)])
def test_confidence_grows_as_the_design_says(n, rounded):
    assert confidence_of(n) == 1 - math.exp(-n / 10)
    assert calibration(n).confidence == confidence_of(n)
    assert calibration(n).stats()["confidence"] == rounded


def test_confidence_stays_below_or_at_one():
    assert confidence_of(2**62) == 1.0


@pytest.mark.parametrize(
    ("n", "status"),
    [
        (0, "uncalibrated (prior only)"),
        (1, "warming up"),
        (9, "warming up"),
        (10, "calibrated"),
        (2**40, "calibrated"),
    ],
)
def test_the_status_follows_the_number_of_calls(n, status):
    assert calibration(n).status == status
    assert calibration(n).stats()["status"] == status


def test_the_mean_absolute_error_of_no_call_is_not_a_number():
    assert math.isnan(calibration(0).mean_absolute_error_ms)
    assert calibration(3).mean_absolute_error_ms == 100.0 / 3


def test_the_figures_are_rounded_as_the_design_says():
    assert calibration(3).stats() == {
        "model": "m",
        "sample_count": 3,
        "rule": "ema.1",
        "alpha": 0.15,
        "confidence": 0.259,
        "ms_per_prompt_token": 0.1235,
        "ms_per_completion_token": 7.0,
        "base_overhead_ms": 300.0,
        "mean_absolute_error_ms": 33.3,
        "last_updated": 1_767_323_045.678901,
        "status": "warming up",
    }
    assert list(calibration(3).stats()) == [
        "model",
        "rule",
        "alpha",
        "sample_count",
        "confidence",
        "ms_per_prompt_token",
        "ms_per_completion_token",
        "base_overhead_ms",
        "mean_absolute_error_ms",
        "last_updated",
        "status",
    ]


def test_unrounded_the_figures_have_every_digit():
    whole, found = calibration(3), calibration(3).stats(rounded=False)
    assert found.keys() == whole.stats().keys() < ModelStats.__annotations__.keys()
    assert found == {name: getattr(whole, name) for name in found}
    assert found["mean_absolute_error_ms"] == 100.0 / 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1_767_323_045.678901, "2026-01-02T03:04:05.678901Z"),
        (253_402_300_799.999999, "9999-12-31T23:59:59.999999Z"),
        (1e300, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_as_json_the_time_is_in_iso_and_the_librarys_own_stays_a_float(seconds, text):
    whole = calibration(3, last_updated=seconds)
    assert as_json(whole)["last_updated"] == text
    assert as_json([whole])[0].keys() == whole.to_dict().keys()
    assert whole.to_dict()["last_updated"] == whole.stats()["last_updated"] == seconds


def test_what_json_printed_can_be_read_back():
    whole = calibration(3)
    assert ModelCalibration.from_dict(json.loads(json.dumps(as_json(whole)))) == whole


def test_the_figures_of_no_call_are_four():
    assert set(calibration(0).stats()) == FOUR
    assert calibration(0).stats()["confidence"] == 0.0


def test_a_calibration_predicts_along_its_line():
    line = calibration(ms_per_prompt_token=0.5, ms_per_completion_token=8.0, base_overhead_ms=300.0)
    assert line.predict(512, 128) == 1580.0
    assert line.predict(512) == 556.0
    assert line.predict(0) == 300.0


@pytest.mark.parametrize("tokens", [-1, 1.0, True, 2**31, "1", None])
def test_a_calibration_predicts_no_nonsense(tokens):
    with pytest.raises(InvalidInputError, match="prompt_tokens"):
        calibration().predict(tokens)
    with pytest.raises(InvalidInputError, match="completion_tokens"):
        calibration().predict(1, tokens)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ModelCalibration)])
def test_a_calibration_is_frozen(name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(calibration(), name, 1)


positive = st.floats(0.0, allow_infinity=False)


@given(
    st.builds(
        ModelCalibration,
        model=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
        rule=st.sampled_from(["ema.1", "kalman.7"]),
        alpha=st.floats(0.0, 1.0, exclude_min=True),
        ms_per_prompt_token=positive,
        ms_per_completion_token=positive,
        base_overhead_ms=positive,
        sample_count=st.integers(0, 2**63 - 1),
        total_absolute_error_ms=positive,
        total_predicted_ms=positive,
        rule_state=st.lists(st.floats(allow_nan=False, allow_infinity=False)).map(tuple),
        last_updated=st.none() | st.floats(0.0, 2.5e11),
    )
)
def test_a_calibration_comes_back_from_json_to_the_bit(before):
    after = ModelCalibration.from_dict(json.loads(json.dumps(before.to_dict(), allow_nan=False)))
    assert after == before
    for field in dataclasses.fields(ModelCalibration):
        mine, theirs = getattr(before, field.name), getattr(after, field.name)
        assert type(mine) is type(theirs)
        if isinstance(mine, float):
            # Only the sign of a negative zero may go: no calibration in a ledger has one.
            assert (mine + 0.0).hex() == theirs.hex()
    assert [x.hex() for x in before.rule_state] == [x.hex() for x in after.rule_state]


def test_a_dict_holds_every_field_by_its_name():
    data = calibration(3, rule_state=(1.5,)).to_dict()
    assert set(data) == {field.name for field in dataclasses.fields(ModelCalibration)}
    assert data["rule_state"] == [1.5]


def test_the_predecessors_dict_is_taken():
    found = ModelCalibration.from_dict(
        {
            "model": "timmy",
            "alpha": 0.2,
            "sample_count": 12,
            "last_updated": 1_700_000_000.5,
            "ms_per_prompt_token": 0.25,
            "ms_per_completion_token": 9,
            "base_overhead_ms": 100,
            "total_absolute_error_ms": 6000.0,
            "total_predicted_ms": 9000.0,
        }
    )
    assert found == ModelCalibration(
        "timmy", "ema.1", 0.2, 0.25, 9.0, 100.0, 12, 6000.0, 9000.0, (), 1_700_000_000.5
    )


def test_only_the_model_and_the_coefficients_must_be_there():
    found = ModelCalibration.from_dict(
        {
            "model": "m",
            "ms_per_prompt_token": 1,
            "ms_per_completion_token": 2,
            "base_overhead_ms": 3,
        }
    )
    assert found == ModelCalibration("m", "ema.1", DEFAULT_ALPHA, 1.0, 2.0, 3.0)


@pytest.mark.parametrize("missing", ["model", "ms_per_prompt_token", "base_overhead_ms"])
def test_a_missing_field_is_named(missing):
    data = calibration().to_dict()
    del data[missing]
    with pytest.raises(InvalidInputError, match=f"lacks {missing}"):
        ModelCalibration.from_dict(data)


def test_an_unknown_field_is_named():
    with pytest.raises(InvalidInputError, match="unknown colour"):
        ModelCalibration.from_dict(calibration().to_dict() | {"colour": 1})


@pytest.mark.parametrize("data", [None, 5, "text", [], [("model", "m")]])
def test_what_is_no_mapping_is_refused(data):
    with pytest.raises(InvalidInputError, match="calibration"):
        ModelCalibration.from_dict(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("model", None),
        ("rule", None),
        ("rule", ""),
        ("alpha", 0.0),
        ("alpha", 1.5),
        ("alpha", float("nan")),
        ("alpha", None),
        ("ms_per_prompt_token", -1.0),
        ("ms_per_prompt_token", None),
        ("ms_per_completion_token", float("nan")),
        ("base_overhead_ms", float("inf")),
        ("base_overhead_ms", "300"),
        ("base_overhead_ms", True),
        ("base_overhead_ms", 10**400),
        ("total_absolute_error_ms", -1.0),
        ("total_predicted_ms", float("nan")),
        ("sample_count", -1),
        ("sample_count", 1.0),
        ("sample_count", True),
        ("sample_count", None),
        ("sample_count", 2**63),
        ("rule_state", [float("nan")]),
        ("rule_state", ["1"]),
        ("rule_state", 5),
        ("rule_state", None),
        ("last_updated", -1.0),
        ("last_updated", "now"),
        ("last_updated", float("inf")),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(name, value):
    with pytest.raises(InvalidInputError, match=name):
        ModelCalibration.from_dict(calibration(3).to_dict() | {name: value})
