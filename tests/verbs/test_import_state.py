"""The predecessor's JSON state becomes opening balances, and goes on exactly where it stood."""

import io
import json
import math
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import DEFAULT_ALPHA, AdaptiveCalibrator
from calibration_ledger.errors import ImportRefusedError
from support.histories import soon

LEAST = {
    "model": "m",
    "ms_per_prompt_token": 0.25,
    "ms_per_completion_token": 4.5,
    "base_overhead_ms": 120.0,
}
FULL = LEAST | {
    "alpha": 0.3,
    "sample_count": 17,
    "last_updated": 1_750_000_000.123456,
    "total_absolute_error_ms": 1234.5678,
    "total_predicted_ms": 98765.4321,
}


def state(*models, **fields):
    document = {"version": 1, "saved_at": 1_750_000_100.5, "models": list(models)} | fields
    return json.dumps({k: v for k, v in document.items() if v is not ...}, indent=2)


def test_every_number_arrives_to_the_bit(take, calibrator):
    report = take("state", state(FULL))
    assert (report.adjustments, report.models, report.models_opened, report.recorded) == (
        1,
        1,
        1,
        0,
    )
    found = calibrator.calibration("m").to_dict()
    assert {name: found[name] for name in FULL} == FULL
    assert found["rule"] == "ema.1"
    assert calibrator.get_stats("m") == {
        "model": "m",
        "sample_count": 17,
        "confidence": round(1 - math.exp(-1.7), 3),
        "ms_per_prompt_token": 0.25,
        "ms_per_completion_token": 4.5,
        "base_overhead_ms": 120.0,
        "mean_absolute_error_ms": 72.6,
        "last_updated": 1_750_000_000.123456,
        "rule": "ema.1",
        "alpha": FULL["alpha"],
        "newest_calls": 0,  # none of them is in this ledger
        "mean_actual_ms": None,
        "median_absolute_percentage_error": None,
        "newest_errors_ms": [],
        "is_calibrated": False,
        "timeouts": 0,
        "drift": None,
        "status": "calibrated",
    }


def predecessor(model, calls):
    """The arithmetic as the predecessor had it, written from the rule's text."""
    a, b, o = (model[name] for name in list(LEAST)[1:])
    alpha, n = model["alpha"], model["sample_count"]
    absolute, total_predicted = model["total_absolute_error_ms"], model["total_predicted_ms"]
    for p, c, y in calls:
        predicted = o + a * p + b * c
        error = y - predicted
        total = p + c or 1
        fp, fc = p / total, c / total
        fo = 1.0 - 0.5 * (fp + fc)
        a = max(0.001, a + alpha * error * fp / max(p, 1))
        b = max(0.001, b + alpha * error * fc / max(c, 1))
        o = max(0.0, o + alpha * error * fo)
        n += 1
        absolute += abs(error)
        total_predicted += predicted
    return {
        "ms_per_prompt_token": a,
        "ms_per_completion_token": b,
        "base_overhead_ms": o,
        "sample_count": n,
        "total_absolute_error_ms": absolute,
        "total_predicted_ms": total_predicted,
    }


coefficients = st.floats(0.001, 1e4) | st.sampled_from([0.001, 1 / 3, 5e-324])


@given(
    st.fixed_dictionaries(
        {
            "ms_per_prompt_token": coefficients,
            "ms_per_completion_token": coefficients,
            "base_overhead_ms": st.floats(0, 1e5),
            "alpha": st.floats(1e-6, 1.0),
            "sample_count": st.integers(0, 10**6),
            "total_absolute_error_ms": st.floats(0, 1e9),
            "total_predicted_ms": st.floats(0, 1e9),
        }
    ),
    st.lists(
        st.tuples(st.integers(0, 10**5), st.integers(0, 10**5), st.floats(0, 1e7)), max_size=10
    ),
)
def test_predictions_and_stats_go_on_as_the_predecessors_would(model, calls):
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.import_calls("state", io.StringIO(state({"model": "m"} | model)))
        for p, c, y in calls:
            calibrator.record("m", p, y, completion_tokens=c)
        expected = predecessor(model, calls)
        found = calibrator.calibration("m").to_dict()
        assert {name: found[name] for name in expected} == expected
        assert calibrator.audit() == []
        (replayed,) = calibrator.replay()
        assert replayed.calibration.to_dict() == found


def test_what_may_be_missing_has_its_default(take, calibrator):
    nulls = dict.fromkeys(["alpha", "sample_count", "last_updated", "total_predicted_ms"])
    take("state", state(LEAST, LEAST | {"model": "n"} | nulls))
    for name in ("m", "n"):
        found = calibrator.calibration(name)
        assert (found.alpha, found.sample_count) == (DEFAULT_ALPHA, 0)
        assert (found.total_absolute_error_ms, found.total_predicted_ms) == (0.0, 0.0)
        assert found.last_updated == 1_750_000_100.5  # when the file was saved


def test_without_any_time_a_model_was_last_updated_now(take, calibrator):
    take("state", state(LEAST, saved_at=...))
    assert (calibrator.calibration("m").last_updated or 0) > 1_750_000_000


def test_a_model_without_samples_shows_as_uncalibrated_and_predicts_what_it_did(take, calibrator):
    take("state", state(LEAST))
    assert calibrator.get_stats("m") == {
        "model": "m",
        "sample_count": 0,
        "confidence": 0.0,
        "status": "uncalibrated (prior only)",
    }
    assert calibrator.all_stats() == []
    assert calibrator.predict("m", 100, 10).predicted_ms == 120.0 + 25.0 + 45.0


def test_a_model_that_has_history_is_refused_by_name_and_nothing_changes(refuse, calibrator):
    calibrator.record("old", 1, 2.0)
    error = refuse("state", state(LEAST, FULL | {"model": "old"}, FULL | {"model": "new"}))
    assert "'old': the ledger has history of it already" in error.reason
    assert "Nothing was changed" in error.reason
    assert error.reason.endswith("or remove it from the file.")
    calibrator.record("new", 1, 2.0)
    error = refuse("state", state(FULL | {"model": "old"}, FULL | {"model": "new"}))
    assert "'new', 'old': the ledger has history of them already" in error.reason
    assert error.reason.endswith("or remove them from the file.")
    assert [head.model for head in calibrator.heads()] == ["new", "old"]


def test_a_second_import_of_the_same_state_is_refused(take, refuse, calibrator):
    take("state", state(FULL))
    calibrator.record("m", 1, 2.0)
    assert "'m': the ledger has history" in refuse("state", state(FULL)).reason


def test_a_model_that_a_prediction_asked_about_has_no_history(take, calibrator):
    calibrator.predict("m", 5)
    assert take("state", state(FULL)).adjustments == 1


def test_the_note_names_the_file_and_no_folder(calibrator, tmp_path):
    path = tmp_path / "calibrator_state.json"
    path.write_text(state(FULL), encoding="utf-8")
    calibrator.import_calls("state", path)
    out = io.StringIO()
    calibrator.export_ledger("jsonl", out)
    lines = map(json.loads, out.getvalue().splitlines())
    entry = next(line for line in lines if "entry" in line)
    assert (entry["entry"], entry["note"]) == ("imported", "from calibrator_state.json")


def test_without_a_name_the_predecessors_own_file_is_taken(calibrator, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(ImportRefusedError, match=r"calibrator_state\.json: the file cannot"):
        calibrator.import_calls("state")
    (tmp_path / ".nexus").mkdir()
    (tmp_path / ".nexus" / "calibrator_state.json").write_text(state(FULL), encoding="utf-8")
    report = calibrator.import_calls("state")
    assert Path(report.source) == tmp_path / ".nexus" / "calibrator_state.json"
    assert calibrator.calibration("m").sample_count == 17


def test_a_state_without_models_changes_nothing(take, ledger_path):
    assert take("state", state()).models == 0
    assert not ledger_path.exists()


BAD = {
    "empty": ("", "not valid JSON"),
    "cut short": (state(FULL)[:-20], "not valid JSON ("),
    "a list": ("[]", "a list where an object"),
    "another version": (state(version=2), "version is 2"),
    "no version": (state(version=...), "version is None"),
    "true for a version": (state(version=True), "version is True"),
    "unknown key": (state(FULL, host="x"), "unknown 'host'"),
    "no models": (state(models=...), "models must be a list"),
    "models by name": (state(models={"m": LEAST}), "models must be a list"),
    "model that is none": (state(models=["m"]), "model 1 of the list must be an object"),
    "model twice": (state(FULL, LEAST), "'m' is there twice"),
    "unknown field": (state(FULL | {"rule": "ema.1"}), "unknown 'rule'"),
    "missing coefficient": (state({"model": "m", "base_overhead_ms": 1.0}), "lacks ms_per_prompt"),
    "null coefficient": (state(LEAST | {"base_overhead_ms": None}), "lacks base_overhead_ms"),
    "negative coefficient": (state(LEAST | {"ms_per_prompt_token": -1}), "not negative"),
    "NaN": (state(LEAST | {"base_overhead_ms": math.nan}), "NaN is no JSON number"),
    "infinite": (state(LEAST).replace("120.0", "1e999"), "finite"),
    "text": (state(LEAST | {"ms_per_prompt_token": "0.5"}), "must be a number"),
    "empty name": (state(LEAST | {"model": ""}), "must not be empty"),
    "name with a NUL": (state(LEAST | {"model": "a\0"}), "NUL"),
    "alpha 0": (state(LEAST | {"alpha": 0}), "alpha must be above 0"),
    "alpha above 1": (state(LEAST | {"alpha": 1.5}), "alpha must be above 0"),
    "negative count": (state(LEAST | {"sample_count": -1}), "sample_count"),
    "fractional count": (state(LEAST | {"sample_count": 1.5}), "sample_count"),
    "absurd count": (state(LEAST | {"sample_count": 2**60}), "sample_count"),
    "negative total": (state(LEAST | {"total_predicted_ms": -1}), "not negative"),
    "time as a text": (state(LEAST | {"last_updated": "2025"}), "last_updated"),
    "time before 1970": (state(LEAST | {"last_updated": -1}), "last_updated"),
    "time in ms": (state(LEAST | {"last_updated": 1.75e18}), "last_updated must lie between"),
    "saved at a text": (state(LEAST, saved_at="now"), "saved_at"),
    "key twice": ('{"version":1,"version":1,"models":[]}', "there twice"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "a ledger": ("SQLite format 3\0", "not valid JSON"),
    "not UTF-8": (b"\xff\xfe{}", "not UTF-8"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_what_the_predecessor_never_wrote_is_refused(text, said, refuse, ledger_path):
    error = refuse("state", text)
    assert said in error.reason
    assert "Nothing was imported" in error.reason or "Nothing was recorded" in error.reason
    assert not ledger_path.exists()


def test_one_bad_model_of_many_refuses_them_all(refuse):
    error = refuse("state", state(LEAST, FULL | {"model": "n", "alpha": 7}))
    assert "model 2 of the list ('n'): alpha" in error.reason


def test_a_file_of_any_size_is_bounded(calibrator, monkeypatch):
    monkeypatch.setattr(sys.modules["calibration_ledger.formats.source"], "WHOLE_MAX", 100)
    with pytest.raises(ImportRefusedError) as caught:
        calibrator.import_calls("state", io.StringIO(state(FULL)))
    assert caught.value.reason == "the file is larger than 100 bytes: it is no state."


@pytest.mark.both
def test_many_models_go_in_at_once_or_not_at_all(take, refuse, calibrator):
    models = [FULL | {"model": f"m{i}"} for i in range(300)]
    calibrator.record("m299", 1, 1.0, called_at=soon(0))
    refuse("state", state(*models))
    assert take("state", state(*models[:-1])).models == 299
    assert len(calibrator.all_stats()) == 300
