"""Time-outs: calls that were given up take at least that long; they are kept, and never learnt."""

import io
import json
import shutil
import sqlite3
import warnings
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    DoubtfulCallError,
    DoubtfulCallWarning,
    InvalidInputError,
    LedgerCorruptError,
    NotFiniteError,
    RequestConflictError,
)
from support.reference import dump, look_into, numbers_of

T0 = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def calls(n=40, *, timeouts=True, model="m"):
    """A row of calls, each fifth of them a time-out, which may be left out."""
    made = [
        Call(
            model,
            100 + 37 * i % 901,
            20 + 53 * i % 307,
            1000.0 + 61.25 * (i * 17 % 101),
            T0 + timedelta(seconds=i),
            f"r{i}" if i % 3 == 0 else None,
            {"i": i} if i % 4 == 0 else None,
            outcome="timeout" if i % 5 == 4 else "ok",
        )
        for i in range(n)
    ]
    return [call for call in made if timeouts or call.outcome == "ok"]


def given_up(calibrator, model="m"):
    return [call for call in calibrator.calls(model) if call.outcome == "timeout"]


# -- recorded, and not learnt ---------------------------------------------------------------


@pytest.mark.both
@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_a_time_out_is_kept_and_the_calibration_stays_as_it_is(ledger, rule):
    with AdaptiveCalibrator(ledger, rule=rule) as calibrator:
        calibrator.record_many(calls(9, timeouts=False))
        before, (head,) = calibrator.calibration("m"), calibrator.heads()
        predicted = calibrator.predict("m", 512, 128).predicted_ms
        error = calibrator.record("m", 512, 30_000.0, completion_tokens=128, outcome="timeout")
        assert error == 30_000.0 - predicted
        assert calibrator.calibration("m") == before
        (after,) = calibrator.heads()
        assert (after.seq, after.state) == (head.seq + 1, head.state)
        assert after.digest != head.digest
        (call,) = given_up(calibrator)
        assert (call.actual_ms, call.predicted_ms, call.error_ms) == (30_000.0, predicted, error)
        assert call.to_dict()["outcome"] == "timeout"
        assert [one.outcome for one in calibrator.calls()].count("ok") == 8
        assert calibrator.audit() == []


@pytest.mark.both
def test_a_model_may_begin_with_a_time_out(calibrator):
    assert calibrator.record("m", 10, 5000.0, outcome="timeout") == 5000.0 - 305.0
    assert calibrator.calibration("m").sample_count == 0
    assert calibrator.get_stats("m")["timeouts"] == 1
    assert calibrator.all_stats() == []
    (stats,) = calibrator.all_stats(uncalibrated=True)
    assert (stats["sample_count"], stats["timeouts"]) == (0, 1)
    calibrator.record("m", 10, 400.0)
    assert calibrator.calibration("m").sample_count == 1


@pytest.mark.parametrize("rule", ["ema", "kalman"])
def test_calls_between_time_outs_are_learnt_as_if_these_were_not_there(ledger, tmp_path, rule):
    with (
        AdaptiveCalibrator(ledger, rule=rule) as with_them,
        AdaptiveCalibrator(tmp_path / "without.db", rule=rule) as without,
    ):
        errors = with_them.record_many(calls())
        expected = without.record_many(calls(timeouts=False))
        learnt = [e for e, call in zip(errors, calls(), strict=True) if call.outcome == "ok"]
        assert learnt == expected
        assert with_them.calibration("m") == without.calibration("m")
        of_rules = {"alphas": [0.1, 0.3], "rules": ["ema", "kalman"]}
        assert with_them.replay(0.4) == without.replay(0.4)
        assert with_them.sweep(**of_rules) == without.sweep(**of_rules)
        until = T0 + timedelta(seconds=25)  # the newest before it is a time-out
        assert with_them.replay(until=until) == without.replay(until=until)
        assert with_them.suggest() == without.suggest()
        (one,), (other,) = with_them.recalibrate(0.7), without.recalibrate(0.7)
        assert one == other
        with_them.record_many(calls(8))
        without.record_many(calls(8, timeouts=False))
        assert numbers_of(with_them.calibration("m")) == numbers_of(without.calibration("m"))
        assert with_them.audit() == without.audit() == []


def test_a_sweep_of_fewer_calls_than_its_warm_up_counts_no_time_outs(calibrator):
    calibrator.record_many(calls(24))  # 20 of them are learnt
    (sweep,) = calibrator.sweep([0.1], "ema", warm_up=20)
    assert sweep.scores == ()


def test_a_prediction_that_is_not_finite_is_refused_for_a_time_out_too(ledger):
    with AdaptiveCalibrator(ledger, prior=lambda _: (1e300, 1e300, 1e300)) as calibrator:
        calibrator.record("m", 0, 1.0, outcome="timeout")
        before = calibrator.heads()
        with pytest.raises(NotFiniteError, match="time-out"):
            calibrator.record("m", 2**31 - 1, 1.0, completion_tokens=2**31 - 1, outcome="timeout")
        assert calibrator.heads() == before
        assert calibrator.audit() == []


@pytest.mark.parametrize("outcome", [None, "", "OK", "error", "timeout\0", b"timeout", True, 7])
def test_another_outcome_is_refused_and_nothing_is_recorded(calibrator, outcome):
    with pytest.raises(InvalidInputError, match="outcome must be 'ok', or 'timeout'"):
        calibrator.record("m", 1, 2.0, outcome=outcome)
    with pytest.raises(InvalidInputError, match=r"call 2, of the model 'm': outcome must be"):
        calibrator.record_many([Call("m", 1, 1, 2.0), Call("m", 1, 1, 2.0, outcome=outcome)])
    assert calibrator.heads() == []


# -- request ids ----------------------------------------------------------------------------


@pytest.mark.both
@pytest.mark.parametrize(("first", "second"), [("timeout", "ok"), ("ok", "timeout")])
def test_a_request_id_stands_for_its_numbers_and_its_outcome(calibrator, first, second):
    call = Call("m", 1, 2, 3000.0, request_id="r", outcome=first)
    other = Call("m", 1, 2, 3000.0, request_id="r", outcome=second)
    error = calibrator.record_many([call])[0]
    heads = calibrator.heads()
    assert calibrator.record_once(call) == (error, False)
    assert calibrator.record_many([call, call]) == [error, error]
    for calls_ in ([other], [call, other]):
        with pytest.raises(RequestConflictError, match=r"as a (time-out|call that ended), and now"):
            calibrator.record_many(calls_)
    with pytest.raises(RequestConflictError):
        calibrator.record_many(
            [Call("n", 1, 2, 3.0, request_id="r", outcome=o) for o in (first, second)]
        )
    assert calibrator.heads() == heads


# -- counted --------------------------------------------------------------------------------


@pytest.mark.both
def test_stats_count_time_outs_apart_since_the_model_began_anew(calibrator):
    calibrator.record_many(calls(20))
    stats = calibrator.get_stats("m")
    assert (stats["sample_count"], stats["newest_calls"], stats["timeouts"]) == (16, 16, 4)
    ok = [call for call in calibrator.calls() if call.outcome == "ok"]
    mean_ms = sum(call.actual_ms for call in ok) / 16
    assert calibrator.get_stats("m", rounded=False)["mean_actual_ms"] == pytest.approx(mean_ms)
    calibrator.reset("m")
    assert "timeouts" not in calibrator.get_stats("m")
    calibrator.record_many(calls(5, model="m")[1:])
    assert calibrator.get_stats("m")["timeouts"] == 1


@pytest.mark.both
def test_a_voided_time_out_counts_no_longer_until_its_voiding_is_voided(calibrator):
    calibrator.record_many(calls(10))
    before = calibrator.calibration("m")
    (done,) = calibrator.void("m", seq=[call.seq for call in given_up(calibrator)])
    assert (done.calls, done.calibration) == (2, before)
    assert calibrator.get_stats("m")["timeouts"] == 0
    assert [call.voided for call in given_up(calibrator)] == [True, True]
    calibrator.void("m", seq=done.seq)
    assert calibrator.get_stats("m")["timeouts"] == 2
    calibrator.void("m", last=1)
    assert calibrator.get_stats("m")["timeouts"] == 1


def test_the_newest_calls_come_with_their_outcome_or_without_time_outs(calibrator):
    calibrator.record_many(calls(10))
    ledger = calibrator._ledger
    history = ledger.history(ledger.find("m"))
    rows = history.newest(10, 1)
    assert [row[0] for row in rows] == list(range(11, 1, -1))
    assert [row[-1] for row in rows].count("timeout") == 2
    learnt = history.newest(10, 1, timeouts=False)
    assert learnt == [row for row in rows if row[-1] is None]


# -- no doubt about how long they took ------------------------------------------------------


def test_how_long_a_time_out_waited_is_no_reason_for_doubt(calibrator):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrator.record("m", 10, 500.0)
        for ms in (0.0, 5e8, 2_000_000.0):
            calibrator.record("m", 10, ms, outcome="timeout", strict=True)
        calibrator.record_many(
            [Call("m", 1, 1, 0.0, T0, outcome="timeout"), Call("m", 1, 1, 400.0, T0)], strict=True
        )
        calibrator.record_many([Call("n", 1, 1, 1e9, T0, outcome="timeout")])


def test_a_time_out_makes_no_absurd_call_look_usual(calibrator):
    calibrator.record("m", 10, 500.0)
    calibrator.record("m", 10, 5e7, outcome="timeout")
    with pytest.raises(DoubtfulCallError, match="2,000 times"):
        calibrator.record("m", 10, 2e6, strict=True)
    with pytest.warns(DoubtfulCallWarning, match="2,000 times"):
        calibrator.record("m", 10, 2e6)


def test_a_time_out_of_the_future_is_told(calibrator):
    soon = datetime.now(UTC) + timedelta(hours=1)
    with pytest.warns(DoubtfulCallWarning, match="future"):
        calibrator.record("m", 10, 500.0, outcome="timeout", called_at=soon)
    with pytest.warns(DoubtfulCallWarning, match="future"):
        calibrator.record_many([Call("m", 1, 1, 5.0, soon, outcome="timeout")])


# -- audit ----------------------------------------------------------------------------------


@pytest.fixture(name="filled")
def _filled(ledger_path):
    """A closed ledger: 1 opened, 2-11 calls of which 6 and 11 are time-outs, 12 recalibrated."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(calls(10))
        calibrator.recalibrate(0.5)
        calibrator.record_many(calls(4))
        assert calibrator.audit() == []
    return ledger_path


def found_after(filled, tmp_path, statement, *values):
    """What the audit finds after an edit, in a copy."""
    path = tmp_path / "edited.db"
    shutil.copyfile(filled, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints=ON")
        assert connection.execute(statement, values).rowcount == 1
    with AdaptiveCalibrator(path) as calibrator:
        return {(f.seq, f.check) for f in calibrator.audit()}, path


@pytest.mark.parametrize(
    ("seq", "outcome", "expected"),
    [
        (6, None, {(7, "prediction"), (12, "recalibrated"), (14, "head")}),
        (11, None, {(12, "recalibrated"), (14, "head")}),
        (5, "timeout", {(6, "prediction"), (12, "recalibrated"), (14, "head")}),
        (10, "timeout", {(11, "prediction"), (12, "recalibrated"), (14, "head")}),
        (6, "tameout", {(6, "entry")}),
        (6, "timeout\0", {(6, "entry")}),
        (5, "ok", {(5, "entry")}),
        (5, "", {(5, "entry")}),
    ],
)
def test_an_outcome_that_was_changed_is_found(filled, tmp_path, seq, outcome, expected):
    edit = "UPDATE calls SET outcome = ? WHERE seq = ?"
    found, path = found_after(filled, tmp_path, edit, outcome, seq)
    assert expected <= found
    if (seq, "entry") in expected:
        with AdaptiveCalibrator(path) as calibrator:
            for use in (lambda: list(calibrator.calls()), calibrator.replay):
                with pytest.raises(LedgerCorruptError):
                    use()


def test_what_a_time_out_was_predicted_to_take_is_checked(filled, tmp_path):
    edit = "UPDATE calls SET predicted_ms = predicted_ms + 1 WHERE seq = ?"
    found, _ = found_after(filled, tmp_path, edit, 6)
    assert {(6, "prediction"), (14, "head")} <= found


def test_heads_noted_behind_a_time_out_are_met(filled):
    with AdaptiveCalibrator(filled) as calibrator:
        noted = []
        for _ in range(3):
            noted += calibrator.heads()
            calibrator.record("m", 1, 900.0, outcome="timeout")
        assert calibrator.audit(heads=noted) == []


# -- files ----------------------------------------------------------------------------------


@pytest.mark.both
def test_a_ledger_moves_with_its_time_outs(calibrator, tmp_path):
    calibrator.record_many(calls())
    calibrator.recalibrate(0.3)
    file = tmp_path / "ledger.jsonl"
    calibrator.export_ledger("jsonl", file)
    with AdaptiveCalibrator(tmp_path / "moved.db") as moved:
        report = moved.import_calls("ledger", file)
        assert (report.recorded, report.timeouts) == (40, 8)
        assert moved.heads() == calibrator.heads()
        assert list(moved.calls()) == list(calibrator.calls())
        assert moved.get_stats("m") == calibrator.get_stats("m")
        assert moved.audit() == []


@pytest.mark.parametrize(
    "forged", ["", '"outcome":"ok",', '"outcome":"error",', '"outcome":"timeout\\u0000",',
               '"outcome":1,', '"outcome":null,', '"outcome":"timeout","outcome":"timeout",']
)  # fmt: skip
def test_a_ledger_file_whose_time_out_was_changed_is_refused(calibrator, tmp_path, forged):
    calibrator.record_many(calls(20))
    out = io.StringIO()
    calibrator.export_ledger("jsonl", out)
    text = out.getvalue().replace('"outcome":"timeout",', forged, 1)
    assert text != out.getvalue()
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        with pytest.raises(InvalidInputError, match="Nothing was recorded"):
            other.import_calls("ledger", io.StringIO(text))
        assert other.heads() == []


@pytest.mark.both
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_calls_in_files_keep_their_outcome(calibrator, tmp_path, kind):
    calibrator.record_many(calls())
    out = io.StringIO()
    if kind == "csv":
        calibrator.export_ledger("csv", out)
    else:
        out.writelines(json.dumps(call.to_dict()) + "\n" for call in calibrator.calls())
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        for recorded in (40, 0):
            report = other.import_calls(kind, io.StringIO(out.getvalue()))
            assert (report.recorded, report.already) == (recorded, 40 - recorded)
            assert report.timeouts == recorded // 5
        assert [call.outcome for call in other.calls()] == [call.outcome for call in calls()]
        assert numbers_of(other.calibration("m")) == numbers_of(calibrator.calibration("m"))
        assert other.audit() == []


def test_a_file_need_not_know_the_completion_of_a_time_out(calibrator):
    text = "model,prompt_tokens,completion_tokens,actual_ms,outcome\n"
    text += "m,1,,3000,timeout\nm,1,5,3000,timeout\nm,1,5,30,\nm,1,5,30,ok\n"
    assert calibrator.import_calls("csv", io.StringIO(text)).recorded == 4
    lines = '{"model":"m","prompt_tokens":1,"actual_ms":4000,"outcome":"timeout"}\n'
    assert calibrator.import_calls("jsonl", io.StringIO(lines)).timeouts == 1
    assert [(c.completion_tokens, c.outcome) for c in calibrator.calls()] == [
        *((0, "timeout"), (5, "timeout"), (5, "ok"), (5, "ok"), (0, "timeout"))
    ]


@pytest.mark.parametrize("outcome", ["error", "Timeout", "TRUE", "1"])
def test_a_row_of_another_outcome_is_a_bad_one(calibrator, outcome):
    text = f"model,prompt_tokens,completion_tokens,actual_ms,outcome\nm,1,1,3.0,{outcome}\n"
    with pytest.raises(InvalidInputError, match="outcome must be"):
        calibrator.import_calls("csv", io.StringIO(text))
    report = calibrator.import_calls("csv", io.StringIO(text), skip_bad=True)
    assert (report.recorded, report.skipped) == (0, 1)


def test_a_time_out_and_a_call_of_the_same_numbers_are_two(calibrator):
    rows = [{"model": "m", "prompt_tokens": 1, "completion_tokens": 1, "actual_ms": 3.5}]
    rows.append(rows[0] | {"outcome": "timeout"})
    text = "\n".join(map(json.dumps, rows))
    assert calibrator.import_calls("jsonl", io.StringIO(text)).recorded == 2
    rows = [row | {"request_id": "r"} for row in rows]
    with pytest.raises(InvalidInputError, match="with other numbers"):
        calibrator.import_calls("jsonl", io.StringIO("\n".join(map(json.dumps, rows))))


def test_a_file_in_milliseconds_is_not_doubted_for_its_time_outs(calibrator):
    row = {"model": "m", "prompt_tokens": 1, "completion_tokens": 1, "actual_ms": 3.5}
    rows = [row, *[row | {"actual_ms": 1e8 + i, "outcome": "timeout"} for i in range(5)]]
    text = io.StringIO("\n".join(map(json.dumps, rows)))
    assert calibrator.import_calls("jsonl", text, strict=True).unit_doubt is None


@pytest.mark.both
def test_archived_time_outs_come_back(calibrator, tmp_path):
    calibrator.record_many(calls())
    heads, rows = calibrator.heads(), list(calibrator.calls())
    path = tmp_path / "archive.jsonl"
    calibrator.archive(T0 + timedelta(seconds=15), path)
    assert calibrator.get_stats("m")["timeouts"] == 5
    assert calibrator.audit(heads=heads) == []
    assert calibrator.import_calls("ledger", path).timeouts == 3
    assert calibrator.heads() == heads
    assert list(calibrator.calls()) == rows
    assert calibrator.get_stats("m")["timeouts"] == 8


def test_a_model_of_nothing_but_time_outs_is_archived(calibrator, tmp_path):
    for _ in range(3):
        calibrator.record("m", 1, 2.0, outcome="timeout")
    calibrator.archive(LATER, tmp_path / "archive.jsonl")
    assert list(calibrator.calls()) == []
    assert calibrator.audit() == []
    calibrator.import_calls("ledger", tmp_path / "archive.jsonl")
    assert len(given_up(calibrator)) == 3


def test_a_backup_and_a_salvage_have_the_time_outs(filled, tmp_path):
    with AdaptiveCalibrator(filled) as calibrator:
        copy = calibrator.backup(tmp_path / "copy.db")
        assert dump(copy) == dump(filled)
        out = io.StringIO()
        calibrator.export_ledger("jsonl", out, salvage=True)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row.get("outcome") for row in rows].count("timeout") == 2
    with filled.open("r+b") as file:  # only rows found page by page are left
        file.write(bytes(100))
    with AdaptiveCalibrator(tmp_path / "new.db") as calibrator:
        from calibration_ledger.storage.place import find_place
        from calibration_ledger.verbs.export import salvage

        again = io.StringIO()
        salvage(find_place(filled), "csv", again)
        calibrator.import_calls("csv", io.StringIO(again.getvalue()))
        assert len(given_up(calibrator)) == 2


@pytest.mark.both
def test_a_sql_browser_sees_which_calls_were_given_up(calibrator, ledger):
    calibrator.record_many(calls(5))
    with look_into(ledger) as connection:
        rows = connection.execute("SELECT seq, outcome FROM readable_calls ORDER BY seq").fetchall()
    assert [tuple(row) for row in rows][-2:] == [(5, "ok"), (6, "timeout")]
