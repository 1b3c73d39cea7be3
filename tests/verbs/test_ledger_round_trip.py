"""Export and import move a ledger whole, to the last bit."""

import csv
import io
import json

import pytest
from hypothesis import example, given

from calibration_ledger import AdaptiveCalibrator
from support.histories import histories, live, record_two_models, soon
from support.importing import as_in_the_file, exported


def assert_same(one, two):
    assert one.heads() == two.heads()
    assert list(one.calls()) == list(two.calls())
    for head in one.heads():
        assert one.calibration(head.model) == two.calibration(head.model)


@given(histories)
@example([("record", "m", {"prompt_tokens": 1, "completion_tokens": 0, "actual_ms": 1e300})])
def test_any_ledger_survives_the_journey_and_comes_back_byte_for_byte(history):
    with AdaptiveCalibrator(":memory:") as one, AdaptiveCalibrator(":memory:", 0.9) as two:
        live(one, history)
        text = exported(one)
        report = two.import_calls("ledger", io.StringIO(text))
        calls = sum(1 for _ in one.calls())
        assert report.recorded == calls
        assert report.recorded + report.adjustments == sum(head.seq for head in one.heads())
        assert_same(one, two)
        assert two.audit(heads=one.heads()) == []
        assert exported(two) == text
        again = two.import_calls("ledger", io.StringIO(text))
        assert (again.recorded, again.already, again.adjustments) == (0, calls, 0)
        # What is recorded from here on is predicted and learnt alike.
        for head in one.heads():
            call = {"prompt_tokens": 7, "actual_ms": 9.0, "called_at": soon(1)}
            assert one.record(head.model, **call) == two.record(head.model, **call)
        assert one.heads() == two.heads()


@given(histories, histories)
def test_any_prefix_is_continued(first, second):
    with AdaptiveCalibrator(":memory:") as one, AdaptiveCalibrator(":memory:") as two:
        live(one, first)
        prefix = exported(one)
        two.import_calls("ledger", io.StringIO(prefix))
        live(one, second)
        whole = exported(one)
        report = two.import_calls("ledger", io.StringIO(whole))
        assert_same(one, two)
        assert two.audit() == []
        assert report.models == len(one.heads())
        assert report.models_opened + report.models_extended + report.models_unchanged == (
            report.models
        )
        # And the older file adds nothing to the newer ledger.
        assert two.import_calls("ledger", io.StringIO(prefix)).recorded == 0
        assert_same(one, two)


@given(histories)
def test_any_calls_survive_csv(history):
    """CSV has the calls alone: without resets and recalibrations, all of them learnt anew."""
    history = [step for step in history if step[0] == "record"]
    with AdaptiveCalibrator(":memory:") as one, AdaptiveCalibrator(":memory:") as two:
        live(one, history)
        out = io.StringIO(newline="")
        report = one.export_ledger("csv", out)
        rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
        assert report.calls == len(rows) == sum(1 for _ in one.calls())
        data = io.BytesIO(out.getvalue().encode())
        imported = two.import_calls("csv", data)
        assert two.audit() == []

        def numbers(calls):
            return sorted(
                (c.model, c.called_at, c.prompt_tokens, c.completion_tokens, c.actual_ms.hex(),
                 json.dumps(c.details, sort_keys=True))
                for c in calls
            )  # fmt: skip

        assert numbers(one.calls()) == numbers(as_in_the_file(two.calls(), imported.import_id))


def test_a_ledger_of_many_pages_and_transactions_moves_whole(calibrator, other, tmp_path):
    for part in range(3):
        record_two_models(calibrator, 900, f"{part}-")
        calibrator.reset("a")
        calibrator.recalibrate(0.3 + part / 10, model="b")
        calibrator.recalibrate(0.9, model="a")  # twice an adjustment beside another
    path = tmp_path / "ledger.jsonl.gz"
    report = calibrator.export_ledger("jsonl", path)
    told = []
    imported = other.import_calls("ledger", path, progress=told.append)
    assert imported.recorded == report.calls == 5400
    assert imported.adjustments == report.adjustments
    assert sum(told) == 2 * 5400 + imported.adjustments
    assert max(told) <= 1000
    assert_same(calibrator, other)
    assert other.audit(heads=calibrator.heads()) == []


def test_one_model_moves_alone(calibrator, other):
    calibrator.record("a", 1, 2.0)
    calibrator.record("b", 1, 2.0)
    report = other.import_calls("ledger", io.StringIO(exported(calibrator, model="b")))
    assert report.models == 1
    assert other.heads() == calibrator.heads()[1:]


def test_an_empty_ledger_moves_too(calibrator, other, ledger_path):
    from calibration_ledger.errors import LedgerNotFoundError

    with pytest.raises(LedgerNotFoundError):
        exported(calibrator)
    assert not ledger_path.exists()
    other.import_calls("ledger", io.StringIO(exported_empty()))
    with AdaptiveCalibrator(":memory:") as empty:
        assert exported(empty) == exported_empty()


def exported_empty():
    return '{"ledger":"calibration-ledger/1"}\n{"end":{"models":0,"entries":0}}\n'


def test_two_ledgers_without_a_common_model_merge(calibrator, other):
    calibrator.record("a", 1, 2.0)
    other.record("b", 1, 2.0)
    report = other.import_calls("ledger", io.StringIO(exported(calibrator)))
    assert report.models_opened == 1
    assert [head.model for head in other.heads()] == ["a", "b"]


@pytest.mark.both
def test_an_imported_opening_balance_and_its_note_move(calibrator, other):
    state = {
        "version": 1,
        "models": [
            {
                "model": "m",
                "ms_per_prompt_token": 0.1,
                "ms_per_completion_token": 1 / 3,
                "base_overhead_ms": 7,
                "sample_count": 12,
            }
        ],
    }
    calibrator.import_calls("state", io.StringIO(json.dumps(state)))
    calibrator.record("m", 5, 100.0)
    text = exported(calibrator)
    assert '"note":"from <stream>"' in text
    other.import_calls("ledger", io.StringIO(text))
    assert_same(calibrator, other)
    assert other.calibration("m").sample_count == 13


def test_the_lines_of_a_ledger_file_are_as_documented(calibrator):
    calibrator.record(
        "m",
        512,
        3400.0,
        completion_tokens=128,
        called_at=soon(0),
        request_id="r",
        details={"ttft_ms": 80.5},
    )
    calibrator.record("m", 512, 3400.0, completion_tokens=128, called_at=soon(1))
    header, opened, call, bare, head, end = exported(calibrator).splitlines()
    assert header == '{"ledger":"calibration-ledger/1"}'
    assert list(json.loads(opened)) == [
        "entry", "model", "seq", "recorded_at", "rule", "alpha", "ms_per_prompt_token",
        "ms_per_completion_token", "base_overhead_ms", "total_absolute_error_ms",
        "total_predicted_ms", "sample_count", "rule_state", "updated_at", "note",
    ]  # fmt: skip
    assert call == (
        '{"entry":"call","model":"m","seq":2,"called_at":"2025-05-01T00:00:00.000000Z",'
        '"prompt_tokens":512,"completion_tokens":128,"actual_ms":3400.0,"predicted_ms":1580.0,'
        '"request_id":"r","details":{"ttft_ms":80.5}}'
    )
    assert "request_id" not in bare
    assert "details" not in bare
    (noted,) = calibrator.heads()
    assert head == f'{{"head":"{noted.digest}","model":"m","seq":3}}'
    assert end == '{"end":{"models":1,"entries":3}}'


def test_carriage_returns_in_ids_survive_csv():
    with AdaptiveCalibrator(":memory:") as one, AdaptiveCalibrator(":memory:") as two:
        one.record("model", 96, 5900.0, completion_tokens=310, request_id="a\rb")
        one.record("plain", 96, 5900.0, completion_tokens=310, request_id="a\r\nb")
        out = io.StringIO(newline="")
        one.export_ledger("csv", out)
        two.import_calls("csv", io.BytesIO(out.getvalue().encode()))
        assert [(c.model, c.request_id) for c in two.calls()] == [
            ("model", "a\rb"),
            ("plain", "a\r\nb"),
        ]
        assert two.audit() == []
