"""Importing calls: in order, once each, all or nothing, and what the report says."""

import json
import random
import sqlite3
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.values import SkippedLine
from calibration_ledger.errors import (
    ImportRefusedError,
    InvalidInputError,
    LedgerBusyError,
    LedgerTooNewError,
    UnknownRuleError,
)
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.verbs.import_calls import LINES_MAX, REASONS_MAX, Skips
from support.by_hand import edited
from support.importing import HEADER, as_in_the_file, json_row

DAY = datetime(2025, 3, 1, tzinfo=UTC)


def at(minutes):
    return (DAY + timedelta(minutes=minutes)).isoformat()


def many(n, models=3, seed=1):
    r = random.Random(seed)
    return "".join(
        json_row(
            model=f"model-{r.randrange(models)}",
            prompt_tokens=r.randrange(4000),
            completion_tokens=r.randrange(900),
            actual_ms=r.random() * 9000,
            called_at=at(r.randrange(n)),
        )
        for _ in range(n)
    )


# -- order --------------------------------------------------------------------------------------


def test_calls_are_recorded_in_the_order_of_their_times_then_of_their_lines(take, calibrator):
    minutes = [5, 3, 3, 9, 1, 3]
    take(
        "jsonl", "".join(json_row(prompt_tokens=i, called_at=at(m)) for i, m in enumerate(minutes))
    )
    assert [call.prompt_tokens for call in calibrator.calls("m")] == [4, 1, 2, 5, 0, 3]


def test_an_import_gives_the_same_calibration_as_recording_in_that_order(take, calibrator, other):
    text = many(2500)
    report = take("jsonl", text)
    assert (report.recorded, report.models, report.models_opened) == (2500, 3, 3)
    rows = [json.loads(line) for line in text.splitlines()]
    rows.sort(key=lambda row: (row["model"], row["called_at"]))
    other.record_many(row | {"called_at": datetime.fromisoformat(row["called_at"])} for row in rows)
    for model in ("model-0", "model-1", "model-2"):
        assert calibrator.get_stats(model) == other.get_stats(model)
        mine, theirs = calibrator.calibration(model), other.calibration(model)
        assert mine == theirs


def test_calls_older_than_the_newest_in_the_ledger_are_appended_and_counted(take, calibrator):
    calibrator.record("m", 1, 1.0, called_at=DAY + timedelta(minutes=10))
    calibrator.record("m", 1, 1.0, called_at=DAY)  # the newest by time is not the last one
    rows = [
        json_row(prompt_tokens=i, called_at=at(minute)) for i, minute in enumerate([9, 10, 11, 2])
    ]
    report = take("jsonl", "".join(rows) + json_row(model="n", called_at=at(1)))
    assert (report.recorded, report.older) == (5, 2)
    assert (report.models_opened, report.models_extended) == (1, 1)
    assert [call.prompt_tokens for call in calibrator.calls("m")][2:] == [3, 0, 1, 2]
    assert take("jsonl", "".join(rows)).older == 0


def test_rows_without_a_time_come_last_in_the_order_of_the_file(take, calibrator):
    take("csv", f"{HEADER},called_at\nm,1,0,5,\nm,2,0,5,2025-01-01T00:00:00Z\nm,3,0,5,\n")
    assert [call.prompt_tokens for call in calibrator.calls()] == [2, 1, 3]


# -- once each ----------------------------------------------------------------------------------


@pytest.mark.both
def test_importing_twice_records_no_call_twice(take, calibrator):
    text = many(2100) + json_row(called_at=...) * 3
    assert take("jsonl", text).recorded == 2103
    heads = calibrator.heads()
    report = take("jsonl", text)
    assert (report.recorded, report.already, report.models_unchanged) == (0, 2103, 4)
    assert calibrator.heads() == heads


def test_equal_rows_of_one_file_are_different_calls(take, calibrator):
    assert take("jsonl", json_row(called_at=at(1)) * 4).recorded == 4
    report = take("jsonl", json_row(called_at=at(1)) * 6)
    assert (report.recorded, report.already) == (2, 4)
    ids = [call.request_id or "" for call in calibrator.calls()]
    assert [each.rpartition(":")[2] for each in ids] == ["1", "2", "3", "4", "5", "6"]
    assert len({each.rpartition(":")[0] for each in ids}) == 1
    assert ids[0].startswith("import:")


def test_a_file_that_grew_adds_only_what_is_new(take):
    text = many(300)
    take("jsonl", text)
    report = take("jsonl", many(300) + many(50, seed=2))
    assert (report.recorded, report.already) == (50, 300)


def test_the_same_row_of_another_model_is_another_call(take):
    assert take("jsonl", json_row(model="a") + json_row(model="b")).recorded == 2


def test_a_request_id_is_known_whoever_recorded_it(take, calibrator):
    calibrator.record("m", 100, 900.5, completion_tokens=20, request_id="r1")
    report = take("jsonl", json_row(request_id="r1") + json_row(request_id="r2"))
    assert (report.recorded, report.already) == (1, 1)
    assert calibrator.record("m", 100, 900.5, completion_tokens=20, request_id="r2") != 0.0
    assert len(list(calibrator.calls())) == 2


def test_a_repeat_inside_the_file_counts_once(take, calibrator):
    rows = json_row(request_id="r") + json_row(request_id="r", called_at=at(5))
    report = take("jsonl", rows + json_row(model="n", request_id="r", actual_ms=7))
    assert (report.recorded, report.already) == (2, 1)
    assert len(list(calibrator.calls("m"))) == 1


def test_an_exported_csv_is_the_same_calls_as_the_file_it_came_from(
    take, calibrator, other, tmp_path
):
    text = many(50) + json_row(model='ü,"', called_at=at(3), details={"ttft_ms": 1.5})
    report = take("jsonl", text)
    calibrator.export_ledger("csv", tmp_path / "calls.csv")
    again = other.import_calls("csv", tmp_path / "calls.csv")
    assert again.recorded == 51
    assert as_in_the_file(other.calls(), again.import_id) == as_in_the_file(
        calibrator.calls(), report.import_id
    )
    (tmp_path / "calls.jsonl").write_text(text, encoding="utf-8")
    assert other.import_calls("jsonl", tmp_path / "calls.jsonl").recorded == 0


# -- all or nothing -----------------------------------------------------------------------------


def test_a_bad_line_at_the_very_end_leaves_nothing_recorded(refuse, ledger_path):
    error = refuse("jsonl", many(3000) + "{}\n")
    assert error.line == 3001
    assert not ledger_path.exists()


def test_a_request_id_with_other_numbers_in_the_file_is_a_bad_line(refuse, take, calibrator):
    rows = [
        json_row(request_id="r", called_at=at(9)),
        json_row(request_id="r", called_at=at(1), actual_ms=5),
        json_row(request_id="s"),
        json_row(request_id="r", called_at=at(2)),
    ]
    error = refuse("jsonl", "".join(rows))
    assert error.line == 2
    assert "'r' of the model 'm' is in line 1 with other numbers" in error.reason
    report = take("jsonl", "".join(rows), skip_bad=True)
    assert (report.recorded, report.already, report.skipped) == (2, 1, 1)
    assert {(call.request_id, call.actual_ms) for call in calibrator.calls()} == {
        ("r", 900.5),
        ("s", 900.5),
    }


def test_a_request_id_with_other_numbers_in_the_ledger_is_found_before_anything_is_recorded(
    refuse, take, calibrator
):
    calibrator.record("model-2", 1, 2.0, request_id="r")
    bad = json_row(model="model-2", request_id="r", called_at="2030-01-01T00:00:00Z")
    error = refuse("jsonl", many(2500) + bad)
    assert error.line == 2501
    assert "is in the ledger with other numbers" in error.reason
    report = take("jsonl", many(2500) + bad, skip_bad=True)
    assert (report.recorded, report.skipped) == (2500, 1)


@pytest.mark.parametrize("numbers", [(101, 20, 900.5), (100, 21, 900.5), (100, 20, 900.25)])
def test_each_number_counts_in_a_conflict(numbers, refuse, calibrator):
    p, c, y = numbers
    calibrator.record("m", p, y, completion_tokens=c, request_id="r")
    assert "other numbers" in refuse("jsonl", json_row(request_id="r")).reason


def test_a_call_that_cannot_be_learnt_is_found_before_anything_is_recorded(
    refuse, take, calibrator
):
    """Alone, each of the two passes; only learning the first makes the second impossible."""
    calibrator.record("z", 1, 0.0, completion_tokens=0)
    rows = many(2000) + json_row(model="z", prompt_tokens=1, completion_tokens=0, actual_ms=1e308)
    rows += json_row(model="z", prompt_tokens=10**9, completion_tokens=0, actual_ms=1)
    rows += json_row(model="z", prompt_tokens=0, completion_tokens=5, actual_ms=1)
    error = refuse("jsonl", rows)
    assert error.line == 2002
    assert "cannot be learnt" in error.reason
    report = take("jsonl", rows, skip_bad=True)
    assert (report.recorded, report.skipped) == (2002, 1)
    assert report.skipped_lines[0].line == 2002


def test_the_trial_learns_from_where_the_ledger_stands(refuse, calibrator):
    calibrator.record("m", 1, 1.7e308)
    assert "cannot be learnt" in refuse("jsonl", json_row(prompt_tokens=10**9)).reason


def test_a_prior_that_is_none_refuses_the_import(ledger_path, tmp_path):
    (tmp_path / "x.jsonl").write_text(json_row(), encoding="utf-8")
    with (
        AdaptiveCalibrator(ledger_path, prior=lambda _: (1.0, 2.0)) as calibrator,
        pytest.raises(InvalidInputError, match="three finite"),
    ):
        calibrator.import_calls("jsonl", tmp_path / "x.jsonl")
    assert not ledger_path.exists()


def test_models_open_with_the_calibrators_own_prior_and_alpha(ledger_path, tmp_path):
    (tmp_path / "x.jsonl").write_text(json_row(), encoding="utf-8")
    with AdaptiveCalibrator(ledger_path, 0.5, prior=lambda _: (1.0, 2.0, 3.0)) as calibrator:
        calibrator.import_calls("jsonl", tmp_path / "x.jsonl")
        (call,) = calibrator.calls()
        assert call.predicted_ms == 3.0 + 100.0 + 40.0
        assert calibrator.calibration("m").alpha == 0.5
        assert calibrator.audit() == []


# -- skipping -----------------------------------------------------------------------------------


def test_skipped_lines_are_counted_by_reason_and_the_first_are_shown(take):
    bad = [json_row(prompt_tokens=-i) for i in range(1, 31)]
    bad += [json_row(model=...), "nonsense\n", "nonsense too\n"]
    report = take("jsonl", json_row() + "".join(bad), skip_bad=True)
    assert (report.recorded, report.skipped) == (1, 33)
    assert [line.line for line in report.skipped_lines] == list(range(2, 22))
    assert report.skipped_lines[0] == SkippedLine(
        2,
        "prompt_tokens must be at least 0 and below 2**31, not -1: pass the count that the "
        "model's server reported",
    )
    longer = take("jsonl", json_row(called_at="secret " * 90), skip_bad=True)
    assert "secret" not in longer.skipped_reasons[0][0]
    counts = [lines for _, lines in report.skipped_reasons]
    assert counts == [30, 2, 1]
    assert "not ...:" in report.skipped_reasons[0][0]
    json.dumps(report.to_dict())


def test_a_file_of_bad_lines_only_records_nothing(take, ledger_path):
    report = take("jsonl", "x\n" * 50, skip_bad=True)
    assert (report.recorded, report.skipped, report.models) == (0, 50, 0)
    assert not ledger_path.exists()


def test_what_is_kept_of_skipped_lines_is_bounded():
    skips = Skips("f", skip_bad=True)
    for i in range(5000):
        skips.add(i, f"{chr(0x4E00 + i)} is wrong. " + "x" * 1000)
    assert skips.count == 5000 == sum(lines for _, lines in skips.reasons)
    assert len(skips.reasons) == REASONS_MAX + 1
    assert len(skips.lines) == LINES_MAX
    assert all(len(line.reason) < 400 for line in skips.lines)


@pytest.mark.parametrize("kind", ["ledger", "state"])
def test_only_calls_can_be_skipped(kind, calibrator):
    with pytest.raises(InvalidInputError, match="skip_bad"):
        calibrator.import_calls(kind, "x", skip_bad=True)


# -- the report and the progress ----------------------------------------------------------------


def test_progress_tells_each_line_read_and_each_call_recorded(take):
    told = []
    take("jsonl", many(2500), progress=told.append)
    assert sum(told) == 5000
    assert max(told) <= 1000
    told.clear()
    take("jsonl", many(2500), progress=told.append)
    assert sum(told) == 2500


def test_progress_counts_lines_that_are_skipped_too(take):
    told = []
    take("jsonl", "x\n" * 1500 + json_row(), skip_bad=True, progress=told.append)
    assert told == [1000, 501, 1]


def test_transactions_are_bounded(take, calibrator):
    """Between two of them others see a prefix: nothing, then 1,000 calls, then 2,000 ..."""
    seen = []
    take("jsonl", many(2500), progress=lambda _: seen.append(_count(calibrator)))
    assert sorted(set(seen)) == [0, 1000, 2000, 2500]


def _count(calibrator):
    return sum(stats["sample_count"] for stats in calibrator.all_stats())


def test_many_models_share_transactions(take, calibrator, monkeypatch):
    monkeypatch.setattr("calibration_ledger.verbs.import_calls.BATCH", 100)
    seen = []
    text = "".join(json_row(model=f"m{i:04}") for i in range(120))
    report = take("jsonl", text, progress=lambda _: seen.append(_count(calibrator)))
    assert (report.models, report.models_opened) == (120, 120)
    assert len(set(seen)) == 3


# -- others write meanwhile ---------------------------------------------------------------------


class Meddler:
    """A progress callback that acts once, at the n-th thousand of steps: between transactions."""

    def __init__(self, at_step, act):
        self.at_step, self.act = at_step, act
        self.steps = 0

    def __call__(self, steps):
        before, self.steps = self.steps, self.steps + steps
        if before < self.at_step <= self.steps:
            self.act()


def test_what_others_record_between_two_transactions_stays_and_counts_as_theirs(
    take, calibrator, ledger_path, tmp_path
):
    text = many(3000)
    (tmp_path / "same.jsonl").write_text(text, encoding="utf-8")
    with AdaptiveCalibrator(ledger_path) as second:
        reports = []
        meddler = Meddler(
            4000,  # all 3,000 lines read, the first 1,000 calls recorded
            lambda: reports.append(second.import_calls("jsonl", tmp_path / "same.jsonl")),
        )
        first = take("jsonl", text, progress=meddler)
    assert (reports[0].recorded, reports[0].already) == (2000, 1000)
    assert (first.recorded, first.already) == (1000, 2000)
    opened = [
        (each.models, each.models_opened, each.models_extended) for each in (first, reports[0])
    ]
    assert opened == [(3, 1, 0), (3, 2, 1)]
    assert len(list(calibrator.calls())) == 3000


def test_a_conflict_that_comes_up_meanwhile_says_how_many_were_recorded(
    take, calibrator, ledger_path
):
    text = many(2000, models=1) + json_row(model="z", request_id="r")
    with AdaptiveCalibrator(ledger_path) as second:
        meddler = Meddler(3001, lambda: second.record("z", 1, 1.0, request_id="r"))
        with pytest.raises(
            ImportRefusedError, match="2000 calls of the file were recorded"
        ) as caught:
            take("jsonl", text, progress=meddler)
    assert "othing was recorded" not in str(caught.value)
    assert len(list(calibrator.calls("model-0"))) == 2000


def test_a_busy_ledger_says_what_was_recorded_before_and_the_same_import_completes_it(
    ledger_path, tmp_path
):
    path = tmp_path / "x.jsonl"
    path.write_text(many(2500), encoding="utf-8")
    with (
        AdaptiveCalibrator(ledger_path, timeout_s=0.1) as calibrator,
        AdaptiveCalibrator(ledger_path) as holder,
    ):
        raw = sqlite3.connect(ledger_path, isolation_level=None)
        meddler = Meddler(3500, lambda: raw.execute("BEGIN IMMEDIATE"))
        with pytest.raises(
            LedgerBusyError, match=r"1000 calls of .* were recorded: run the same"
        ) as caught:
            calibrator.import_calls("jsonl", path, progress=meddler)
        assert "othing was recorded" not in str(caught.value)
        raw.rollback()
        raw.close()
        report = calibrator.import_calls("jsonl", path)
        assert (report.recorded, report.already) == (1500, 1000)
        assert holder.audit() == []


def test_a_ledger_of_a_newer_revision_is_refused(take, calibrator, ledger_path):
    calibrator.record("m", 1, 1.0)
    edited(ledger_path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(LedgerTooNewError):
        take("jsonl", json_row())
    edited(ledger_path, f"UPDATE alembic_version SET version_num = '{REVISION}'")


def test_a_model_under_a_rule_of_tomorrow_is_not_learnt_here(take, calibrator, ledger_path):

    calibrator.record("m", 1, 1.0)
    edited(ledger_path, "UPDATE calibrations SET rule = 'ema.9'")
    with pytest.raises(UnknownRuleError):
        take("jsonl", json_row())
    edited(ledger_path, "UPDATE calibrations SET rule = 'ema.1'")


def test_a_ledger_in_memory_takes_imports_too(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(many(1500), encoding="utf-8")
    with AdaptiveCalibrator(":memory:") as calibrator:
        assert calibrator.import_calls("jsonl", path).recorded == 1500
        assert calibrator.import_calls("jsonl", path).already == 1500
        assert calibrator.audit() == []


def test_no_prior_function_is_asked_about_a_model_that_has_history(ledger_path, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json_row(), encoding="utf-8")
    asked = []

    def prior(model):
        asked.append(model)
        return (1.0, 1.0, 1.0)

    with AdaptiveCalibrator(ledger_path, prior=prior) as calibrator:
        calibrator.record("m", 1, 1.0)
        asked.clear()
        calibrator.import_calls("jsonl", path)
        assert asked == []
        assert calibrator.audit() == []


def test_seqs_have_no_gap(take, calibrator):
    take("jsonl", many(2500))
    for model in ("model-0", "model-1", "model-2"):
        seqs = [call.seq or 0 for call in calibrator.calls(model)]
        assert seqs[0] == 2
        assert all(after == before + 1 for before, after in pairwise(seqs))
