"""Aliases: two names are one model, wherever a name enters, and a merge can be undone."""

import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, AliasRefusedError, Call, Forecast
from calibration_ledger.errors import (
    HistoryArchivedError,
    InvalidInputError,
    LedgerCorruptError,
    LedgerNotFoundError,
    ModelNotFoundError,
    RequestConflictError,
)
from support.by_hand import edited
from support.reference import dump, entries_of, settings_digest

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minute):
    return START + timedelta(minutes=minute)


def fill(calibrator, model, minutes, ms=100.0, ids=""):
    """A call in each of these minutes, and a request id with each where there is a letter."""
    calibrator.record_many(
        Call(model, 10 + minute, minute, ms + minute, at(minute), f"{ids}{minute}" if ids else None)
        for minute in minutes
    )


def counting(calibrator, model):
    return [call for call in calibrator.calls(model) if not call.voided]


def names(calibrator):
    return {one.name: one.model for one in calibrator.aliases()}


# -- two names are one model ----------------------------------------------------------------


@pytest.mark.both
def test_a_name_stands_for_its_model_wherever_a_name_enters(ledger):
    with AdaptiveCalibrator(ledger) as calibrator, AdaptiveCalibrator(ledger) as other:
        fill(calibrator, "m", range(20))
        other.predict("m-1", 10)  # a program that knew the name before
        other.forecast("m-1", 10)
        told = calibrator.alias("m-1", "m")
        assert (told.name, told.model, told.was, told.seq, told.is_known) == (
            *("m-1", "m", None, 1),
            True,
        )
        other.record("m-1", 5, 120.0, request_id="r", called_at=at(20))
        other.record_many([Call("m-1", 5, 1, 130.0, at(21)), Call("m", 5, 2, 140.0, at(22))])
        assert other.record_call(Call("m-1", 5, 1, 150.0, at(23))).seq == 25
        with other.timed("m-1", 7) as call:
            call.completion_tokens = 1
        row = {"model": "m-1", "prompt_tokens": 3, "completion_tokens": 1, "actual_ms": 90}
        row["called_at"] = "2026-01-01T01:00:00Z"
        file = io.StringIO(json.dumps(row))
        assert other.import_calls("jsonl", file).models_extended == 1
        with pytest.raises(RequestConflictError):
            calibrator.record("m", 6, 120.0, request_id="r")
        assert [head.model for head in calibrator.heads()] == ["", "m"]
        assert len(list(calibrator.calls("m-1"))) == 26
        for program in (calibrator, other):
            assert program.predict("m-1", 5).model == "m"
            assert program.predict("m-1", 5).predicted_ms == program.predict("m", 5).predicted_ms
            assert program.forecast("m-1", 5) == program.forecast("m", 5)
            assert program.forecast_ttft("m-1", 5).model == "m"
            assert program.calibration("m-1") == program.calibration("m")
            assert program.get_stats("m-1") == program.get_stats("m")
            assert program.get_stats("m")["aliases"] == ["m-1"]
            assert [one["model"] for one in program.all_stats()] == ["m"]
            assert program.stats("m-1") == program.stats("m")
            assert program.replay(model="m-1") == program.replay(model="m")
            assert program.drift(["m-1", "m"]) == program.drift("m")
            program.check_exists("m-1")
        [voided] = calibrator.void("m-1", request_id="r")
        assert voided.model == "m"
        assert [one.model for one in calibrator.recalibrate(alpha=0.3, model="m-1")] == ["m"]
        calibrator.reset("m-1")
        assert calibrator.calibration("m").sample_count == 0
        assert calibrator.audit() == calibrator.audit("m-1") == []


def test_models_are_ranked_under_the_names_that_were_asked(calibrator):
    fill(calibrator, "slow", range(20), 900.0)
    fill(calibrator, "quick", range(20), 50.0)
    calibrator.alias("a", "quick")
    asked = ["slow", "a", "quick"]
    assert [one.model for one in calibrator.rank(5, asked)] == ["a", "quick", "slow"]
    assert [one.model for one in calibrator.rank(5)] == ["quick", "slow"]
    found = calibrator.soonest(5, ["slow", "a"], completion_tokens={"a": 7, "slow": 7})
    assert isinstance(found, Forecast)
    assert found.model == "a"
    assert found.mean_ms == calibrator.forecast("quick", 5, 7).mean_ms


def test_calls_of_one_model_under_two_names_are_learnt_in_the_order_in_which_they_are_given(
    calibrator,
):
    calibrator.alias("a", "m")
    calibrator.record_many(Call("am"[i % 2], i, 0, 10.0) for i in range(6))
    assert [call.prompt_tokens for call in calibrator.calls("m")] == [*range(6)]


@pytest.mark.both
def test_a_model_that_is_not_there_yet_is_opened_by_the_first_call_under_either_name(ledger):
    with AdaptiveCalibrator(ledger, prior=lambda model: (1.0, 1.0, len(model))) as calibrator:
        assert calibrator.alias("a", "model").is_known is False
        assert calibrator.predict("a", 0).model == "model"
        assert calibrator.predict("a", 0).predicted_ms == len("model")
        assert calibrator.calibration("a").model == "model"
        assert calibrator.forecast("a", 1).model == "model"
        with pytest.raises(ModelNotFoundError):
            calibrator.check_exists("a")
        calibrator.record("a", 1, 2.0)
        assert [head.model for head in calibrator.heads()] == ["", "model"]
        assert calibrator.audit() == []


# -- what is refused ------------------------------------------------------------------------


@pytest.mark.both
def test_a_name_with_a_history_of_its_own_is_refused_with_the_way_out(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("a", 1, 2.0)
        calibrator.record("m", 1, 2.0)
        before = dump(ledger)
        with pytest.raises(AliasRefusedError, match=r"'a' has a history of its own.*--merge -- a"):
            calibrator.alias("a", "m")
        assert dump(ledger) == before
        assert calibrator.audit() == []


def test_an_alias_is_of_no_alias_and_of_no_circle(calibrator):
    calibrator.record("m", 1, 2.0)
    calibrator.alias("a", "m")
    assert calibrator.alias("b", "a").model == "m"
    with pytest.raises(AliasRefusedError, match="'m' cannot be an alias of 'a', which is another"):
        calibrator.alias("m", "a")
    with pytest.raises(AliasRefusedError, match="cannot be an alias of itself"):
        calibrator.alias("m", "m")
    with pytest.raises(AliasRefusedError, match="while 'a', 'b' stand for it"):
        calibrator.alias("m", "k", merge=True)
    for name, model in (("", "m"), (None, "m"), ("c", 5), ("c", ""), ("c", " m")):
        with pytest.raises(InvalidInputError):
            calibrator.alias(name, model)
    with pytest.raises(AliasRefusedError, match="'c' is no alias"):
        calibrator.alias("c", None)
    assert names(calibrator) == {"a": "m", "b": "m"}


@pytest.mark.parametrize("name", [" a", "a ", "\n", "a\x1b[31m", "\u202ea"])
def test_a_new_name_under_which_no_call_could_be_recorded_is_refused(calibrator, name):
    fill(calibrator, "b", range(3))
    with pytest.raises(InvalidInputError, match="must not"):
        calibrator.alias(name, "b")
    assert list(calibrator.aliases()) == []


def test_what_is_refused_makes_no_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises(AliasRefusedError):
            calibrator.alias("a", "a")
        with pytest.raises(AliasRefusedError):
            calibrator.alias("a", None)
        assert calibrator.alias("a", "m", dry_run=True).seq is None
        assert calibrator.aliases() == []
        assert not ledger_path.exists()
        calibrator.alias("a", "m")
        assert calibrator.audit() == []


def test_what_stands_already_adds_no_entry(calibrator):
    calibrator.alias("a", "m")
    head = calibrator.heads()
    for merge in (False, True):
        told = calibrator.alias("a", "m", merge=merge)
        assert (told.model, told.was, told.seq) == ("m", "m", None)
    assert calibrator.heads() == head


@pytest.mark.both
def test_a_name_may_stand_for_another_model_later_and_for_none(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.set_default_rule("kalman")
        calibrator.alias("a", "m")
        calibrator.record("a", 1, 2.0)
        assert (calibrator.alias("a", "k").was, names(calibrator)) == ("m", {"a": "k"})
        calibrator.record("a", 1, 2.0)
        calibrator.set_default_rule("ema")
        assert (calibrator.alias("a", None).was, names(calibrator)) == ("k", {})
        calibrator.record("a", 1, 2.0)
        assert [head.model for head in calibrator.heads()] == ["", "a", "k", "m"]
        assert calibrator.heads()[0].seq == 5
        assert calibrator.heads()[0].digest == settings_digest(ledger)
        assert calibrator.audit() == []


# -- merges ---------------------------------------------------------------------------------


def both_filled(calibrator):
    fill(calibrator, "m", range(0, 20, 2), ids="m")
    fill(calibrator, "a", range(5, 15, 2), 300.0, ids="a")
    calibrator.record("a", 1, 9000.0, outcome="timeout", called_at=at(30))


@pytest.mark.both
def test_a_merge_gives_the_calibration_of_both_histories_in_the_order_of_time(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        both_filled(calibrator)
        before = calibrator.calibration("m")
        rows = dump(ledger)
        tried = calibrator.alias("a", "m", merge=True, dry_run=True)
        assert dump(ledger) == rows
        told = calibrator.alias("a", "m", merge=True)
        assert (told.copied, told.moved, told.already, told.merged) == (6, 7, 0, "12..25")
        assert (told.before, told.calibration) == (before, calibrator.calibration("m"))
        assert (tried.calibration, tried.copied, tried.moved) == (told.calibration, 6, 7)
        times = [call.called_at for call in counting(calibrator, "m")]
        assert times == sorted(times)
        with AdaptiveCalibrator(":memory:") as fresh:
            every = [*calibrator.calls("m")][:10] + entries_alike(ledger, "a")
            for call in sorted(every, key=lambda call: call.called_at):
                fresh.record_call(Call("m", *numbers(call), call.called_at, outcome=call.outcome))
            assert fresh.calibration("m") == calibrator.calibration("m")
        assert calibrator.record("a", 5, 120.0, request_id="a5x") is not None
        assert calibrator.record("m", 15, 305.0, completion_tokens=5, request_id="a5") is not None
        assert calibrator.audit() == []
        heads = calibrator.heads()
        undone = calibrator.alias("a", None)
        assert (undone.was, undone.undone) == ("m", "12..25")
        assert [call.seq for call in counting(calibrator, "m")] == [*range(2, 12), 26]
        assert calibrator.calibration("a").sample_count == 5
        assert len(counting(calibrator, "a")) == 6
        assert calibrator.audit() == calibrator.audit(heads=heads) == []


def numbers(call):
    return call.prompt_tokens, call.completion_tokens, call.actual_ms


def entries_alike(ledger, model):
    return [
        Call(
            model,
            entry["prompt_tokens"],
            entry["completion_tokens"],
            entry["actual_ms"],
            datetime.fromtimestamp(entry["called_at"] / 1e6, UTC),
            outcome=entry["outcome"] or "ok",
        )
        for entry in entries_of(ledger, model)
        if entry["kind"] == "call"
    ]


def test_copies_say_where_they_come_from_and_keep_what_was_measured(calibrator, ledger):
    calibrator.record("a", 1, 2.0, details={"ttft_ms": 1.5, "source": "proxy"}, called_at=at(1))
    calibrator.record("a", 1, 2.0, details={"note": "x" * 4070, "ttft_ms": 2.5}, called_at=at(2))
    calibrator.record("m", 1, 2.0, called_at=at(3))
    calibrator.alias("a", "m", merge=True)
    assert [dict(call.details) for call in counting(calibrator, "m")] == [
        {"ttft_ms": 1.5, "source": "proxy", "merged_from": "a", "merged_seq": 2},
        {"ttft_ms": 2.5, "merged_from": "a", "merged_seq": 3},
        {"merged_from": "m", "merged_seq": 2},
    ]
    assert len(entries_of(ledger, "a")) == 3


def test_a_history_that_was_merged_stays_as_it_was_and_is_audited(calibrator, ledger_path):
    both_filled(calibrator)
    before = entries_of(ledger_path, "a")
    heads = calibrator.heads()
    calibrator.alias("a", "m", merge=True)
    fill(calibrator, "a", range(40, 44))
    calibrator.reset()
    calibrator.recalibrate(alpha=0.4)
    assert entries_of(ledger_path, "a") == before
    assert "a" in {head.model for head in calibrator.heads()}
    assert "a" not in {one.model for one in calibrator.replay()}
    assert calibrator.audit(heads=heads) == []
    row = "model_id = (SELECT id FROM models WHERE model = 'a') AND seq = 3"
    edited(ledger_path, f"UPDATE calls SET actual_ms = actual_ms + 1 WHERE {row}")
    assert {finding.model for finding in calibrator.audit()} == {"a"}
    edited(ledger_path, f"UPDATE calls SET actual_ms = actual_ms - 1 WHERE {row}")


def test_a_name_can_be_merged_undone_and_merged_again(calibrator):
    both_filled(calibrator)
    first = calibrator.alias("a", "m", merge=True).calibration
    for _ in range(2):
        calibrator.alias("a", None)
        again = calibrator.alias("a", "m", merge=True)
        assert (again.copied, again.moved) == (6, 7)
        assert again.calibration == first
    assert len(counting(calibrator, "m")) == 16


def test_what_was_taken_back_by_hand_is_not_learnt_twice(calibrator):
    both_filled(calibrator)
    calibrator.alias("a", "m", merge=True)
    voided = calibrator.alias("a", None)
    assert voided.undone == "12..25"
    calibrator.void("m", seq=26)  # the copies count again
    again = calibrator.alias("a", "m", merge=True)
    assert (again.copied, again.already, again.merged) == (0, 6, None)
    assert len(counting(calibrator, "m")) == 16


def test_a_merge_can_be_undone_by_hand_too(calibrator):
    both_filled(calibrator)
    before = calibrator.calibration("m")
    told = calibrator.alias("a", "m", merge=True)
    first, last = map(int, told.merged.split(".."))
    calibrator.void("m", seq=(first, last))
    assert calibrator.calibration("m") == before
    assert calibrator.alias("a", None).undone is None


def test_a_request_id_of_both_is_one_call_where_the_numbers_are_the_same(calibrator):
    fill(calibrator, "m", [1, 2], ids="r")
    fill(calibrator, "a", [1], ids="r")
    calibrator.record("a", 5, 77.0, request_id="r2", called_at=at(3))
    told = calibrator.alias("a", "m", merge=True)
    assert (told.copied, told.already) == (1, 1)
    assert [(call.actual_ms, call.request_id) for call in counting(calibrator, "m")] == [
        *((101.0, "r1"), (102.0, "r2")),
        (77.0, None),
    ]


def test_resets_recalibrations_and_voidings_stay_in_force(calibrator):
    fill(calibrator, "m", range(5))
    calibrator.reset("m")
    fill(calibrator, "m", range(10, 14))
    calibrator.recalibrate(alpha=0.5, model="m")
    fill(calibrator, "m", range(14, 18))
    calibrator.void("m", seq=10)
    fill(calibrator, "a", range(4))
    calibrator.reset("a")
    fill(calibrator, "a", [11, 12])
    calibrator.void("a", seq=8)
    before = calibrator.calibration("m")
    told = calibrator.alias("a", "m", merge=True)
    assert (told.copied, told.moved) == (1, 5)
    assert told.calibration.alpha == 0.5
    assert told.calibration.sample_count == before.sample_count + 1
    calibrator.alias("a", None)
    assert calibrator.calibration("m") == before


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_the_rule_of_the_model_learns_all(calibrator, rule):
    calibrator.set_default_rule("kalman" if rule == "ema" else "ema")
    fill(calibrator, "a", range(1, 9, 2))
    calibrator.set_default_rule(rule)
    fill(calibrator, "m", range(0, 9, 2))
    told = calibrator.alias("a", "m", merge=True)
    assert told.calibration.rule == calibrator.calibration("m").rule
    assert told.calibration.rule.startswith(rule)
    assert told.calibration.sample_count == 9
    [replayed] = calibrator.replay(model="m")
    assert replayed.calibration == told.calibration


@pytest.mark.both
def test_a_history_can_be_merged_into_a_model_that_is_not_there_yet(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        fill(calibrator, "a", range(5), ids="a")
        tried = calibrator.alias("a", "new", merge=True, dry_run=True)
        told = calibrator.alias("a", "new", merge=True)
        assert (told.copied, told.moved, told.before, told.merged) == (5, 0, None, "2..6")
        assert told.calibration == tried.calibration == calibrator.calibration("new")
        assert calibrator.alias("a", None).undone == "2..6"
        assert calibrator.calibration("new").sample_count == 0
        assert calibrator.audit() == []


def test_of_several_merges_the_newest_is_undone_first(calibrator):
    fill(calibrator, "m", range(0, 9, 3))
    before = calibrator.calibration("m")
    fill(calibrator, "a", range(1, 9, 3))
    fill(calibrator, "b", range(2, 9, 3))
    calibrator.alias("a", "m", merge=True)
    calibrator.alias("b", "m", merge=True)
    assert len(counting(calibrator, "m")) == 9
    with pytest.raises(AliasRefusedError, match=r"'b' came into 'm' after 'a'.*remove -- b"):
        calibrator.alias("a", None)
    calibrator.alias("b", None)
    calibrator.alias("a", None)
    assert calibrator.calibration("m") == before


def test_a_merged_name_may_go_to_another_model(calibrator):
    fill(calibrator, "m", range(4))
    before = calibrator.calibration("m")
    fill(calibrator, "a", range(2, 6))
    calibrator.alias("a", "m", merge=True)
    with pytest.raises(AliasRefusedError, match="--merge"):
        calibrator.alias("a", "k")
    told = calibrator.alias("a", "k", merge=True)
    assert (told.was, told.model, told.undone is not None, told.copied) == ("m", "k", True, 4)
    assert calibrator.calibration("m") == before
    assert calibrator.calibration("k").sample_count == 4


def test_what_is_archived_cannot_be_merged_nor_a_merge_undone(calibrator, tmp_path):
    both_filled(calibrator)
    archive = tmp_path / "a.jsonl"
    for model in ("a", "m"):
        file = tmp_path / f"{model}.jsonl"
        calibrator.archive(at(7), file, model=model)
        with pytest.raises(HistoryArchivedError, match=f"'{model}' up to .* are archived.*import"):
            calibrator.alias("a", "m", merge=True)
        assert names(calibrator) == {}
        calibrator.import_calls("ledger", file)
    calibrator.alias("a", "m", merge=True)
    archive = tmp_path / "all.jsonl"
    calibrator.archive(at(50), archive)
    with pytest.raises(HistoryArchivedError, match="bring them back"):
        calibrator.alias("a", None)
    assert names(calibrator) == {"a": "m"}
    calibrator.import_calls("ledger", archive)
    assert calibrator.alias("a", None).undone is not None


# -- files ----------------------------------------------------------------------------------


def test_a_whole_export_carries_the_aliases_and_merges(calibrator, tmp_path):
    both_filled(calibrator)
    calibrator.set_default_rule("kalman")
    calibrator.alias("a", "m", merge=True)
    calibrator.alias("b", "never seen")
    file, again = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert calibrator.export_ledger("jsonl", file).settings == 3
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        assert other.import_calls("ledger", file).settings == 3
        assert (other.heads(), names(other)) == (calibrator.heads(), names(calibrator))
        assert other.aliases() == calibrator.aliases()
        other.export_ledger("jsonl", again)
        assert again.read_bytes() == file.read_bytes()
        assert other.import_calls("ledger", file).models_unchanged == 2
        other.record("a", 1, 2.0)
        assert other.alias("a", None).undone is not None
        assert other.audit() == []


def moved(calibrator, tmp_path, ledger="other.db"):
    file = tmp_path / f"{ledger}.jsonl"
    calibrator.export_ledger("jsonl", file, overwrite=True)
    return file


def test_names_that_mean_other_models_are_refused_and_nothing_is_imported(calibrator, tmp_path):
    calibrator.alias("a", "m")
    calibrator.record("a", 1, 2.0)
    file = moved(calibrator, tmp_path)
    with AdaptiveCalibrator(tmp_path / "1.db") as other:
        other.alias("a", "k")
        before = other.heads()
        with pytest.raises(
            InvalidInputError, match="'a' is an alias of 'm' in the file, and of 'k'"
        ):
            other.import_calls("ledger", file)
        assert other.heads() == before
    with AdaptiveCalibrator(tmp_path / "2.db") as other:
        other.record("a", 1, 2.0)
        with pytest.raises(InvalidInputError, match="in the file, and has calls of its own in the"):
            other.import_calls("ledger", file)
        again = moved(other, tmp_path, "again")
        other.alias("x", "a")
        with pytest.raises(InvalidInputError, match="aliases do not fit"):
            other.import_calls("ledger", file)
        assert other.audit() == []
    with pytest.raises(InvalidInputError, match="has calls of its own in the file"):
        calibrator.import_calls("ledger", again)


def test_names_that_mean_the_same_come_together(calibrator, tmp_path):
    calibrator.alias("a", "m")
    calibrator.record("a", 1, 2.0)
    file = moved(calibrator, tmp_path)
    with AdaptiveCalibrator(tmp_path / "1.db") as other:
        other.set_default_rule("kalman")
        other.alias("b", "m2")
        report = other.import_calls("ledger", file)
        assert (report.settings, report.settings_left) == (1, 0)
        assert names(other) == {"a": "m", "b": "m2"}
        assert other.import_calls("ledger", file).settings == 0
        assert other.audit() == []


def test_calls_that_were_taken_over_are_marked_in_a_file_of_calls(calibrator, tmp_path):
    both_filled(calibrator)
    calibrator.alias("a", "m", merge=True)
    calibrator.export_ledger("csv", tmp_path / "calls.csv")
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        report = other.import_calls("csv", tmp_path / "calls.csv")
        assert (report.recorded, report.models) == (16, 1)
        assert other.audit() == []


@pytest.mark.parametrize(
    "change",
    [
        {"name": "m"},
        {"name": ""},
        {"model": 5},
        {"merged": "5..2"},
        {"merged": "1,5"},
        {"setting": "other"},
        {"more": 1},
    ],
)
def test_a_file_with_an_alias_that_cannot_be_is_refused(calibrator, tmp_path, change):
    calibrator.alias("a", "m")
    file = moved(calibrator, tmp_path)
    header, line, *rest = file.read_text().splitlines()
    bad = "\n".join([header, json.dumps({**json.loads(line), **change}), *rest]) + "\n"
    with AdaptiveCalibrator(tmp_path / "o.db") as other, pytest.raises(InvalidInputError):
        other.import_calls("ledger", io.StringIO(bad))


# -- the audit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE aliases SET name = 'x'",
        "UPDATE aliases SET model = 'x'",
        "UPDATE aliases SET model = NULL, merged = NULL",
        "UPDATE aliases SET merged = NULL",
        "UPDATE aliases SET recorded_at = recorded_at + 1",
        "UPDATE aliases SET seq = 2",
        "DELETE FROM aliases",
        "UPDATE setting_heads SET last_seq = 2",
        "INSERT INTO aliases VALUES (2, 0, 'z', 'm', NULL)",
        "INSERT INTO aliases VALUES (2, 0, 'z', 'a', NULL)",
        "UPDATE calibrations SET alias_seq = NULL",
        "UPDATE calibrations SET alias_seq = 1",
        "UPDATE calibrations SET alias_seq = 7 WHERE alias_seq = 1",
    ],
)
def test_the_audit_finds_an_alias_that_was_changed_by_hand(ledger_path, change):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        both_filled(calibrator)
        calibrator.alias("a", "m", merge=True)
        assert calibrator.audit() == []
    edited(ledger_path, change)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.audit() != []


def test_names_that_lead_in_a_circle_are_told_as_damage(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.alias("a", "b")
        edited(ledger_path, "INSERT INTO aliases VALUES (2, 0, 'b', 'a', NULL)")
        for ask in (calibrator.predict, calibrator.forecast):
            with pytest.raises(LedgerCorruptError, match="alias itself"):
                ask("a", 1)
        with pytest.raises(LedgerCorruptError):
            calibrator.record("a", 1, 2.0)
        assert calibrator.audit() != []


def test_to_take_an_alias_away_makes_no_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises((LedgerNotFoundError, AliasRefusedError)):
            calibrator.alias("a", None)
        assert not ledger_path.exists()


def test_a_salvage_tells_the_names_and_marks_what_was_taken_over(ledger_path, tmp_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        both_filled(calibrator)
        calibrator.alias("a", "m", merge=True)
        calibrator.alias("b", "m")
    with AdaptiveCalibrator(ledger_path) as calibrator:
        file = tmp_path / "salvaged.jsonl"
        report = calibrator.export_ledger("jsonl", file, salvage=True)
        assert [(one.name, one.model) for one in report.aliases] == [("a", "m"), ("b", "m")]
        with AdaptiveCalibrator(tmp_path / "new.db") as new:
            assert new.import_calls("jsonl", file).recorded == 16
            new.alias("a", "m")
            assert new.audit() == []


def test_a_backup_has_the_aliases(ledger_path, tmp_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        both_filled(calibrator)
        calibrator.alias("a", "m", merge=True)
        copy = calibrator.backup(tmp_path / "copy.db")
        with AdaptiveCalibrator(copy) as other:
            assert (other.aliases(), other.heads()) == (calibrator.aliases(), calibrator.heads())
            assert other.audit(heads=calibrator.heads()) == []
