"""A voided call gives its request id up: the same id is recorded anew, by every way there is."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import ImportRefusedError, RequestConflictError
from calibration_ledger.storage.transaction import Transaction
from support.reference import dump, look_into, numbers_of

WRONG_MS = 9e6


@pytest.fixture(name="voided")
def _voided(calibrator, make_call):
    """Six calls with ids, of which the third and fourth were wrong and are voided."""
    calls = [make_call(i, "m", request_id=f"r{i}") for i in range(6)]
    for i in (2, 3):
        calls[i] = make_call(i, "m", request_id=f"r{i}", actual_ms=WRONG_MS)
    calibrator.record_many(calls)
    calibrator.void("m", seq=(4, 5))
    return calibrator


def counting(calibrator, model="m"):
    return {
        call.request_id: (call.seq, call.actual_ms)
        for call in calibrator.calls(model)
        if not call.voided
    }


def audited(calibrator):
    assert calibrator.audit(heads=calibrator.heads()) == []


@pytest.mark.both
def test_record_takes_the_id_of_a_voided_call_once_with_any_numbers(voided, make_call):
    error_ms = voided.record("m", 1, 700.0, request_id="r2")
    assert voided.record("m", 1, 700.0, request_id="r2") == error_ms
    assert counting(voided)["r2"] == (9, 700.0)
    with pytest.raises(RequestConflictError, match="of its own; to correct a call, void it first"):
        voided.record("m", 1, WRONG_MS, request_id="r2")
    voided.record("m", 5, WRONG_MS, request_id="r3")  # the same as before counts again, too
    assert counting(voided)["r3"] == (10, WRONG_MS)
    assert voided.calibration("m").sample_count == 6
    audited(voided)


@pytest.mark.both
def test_record_many_takes_them_and_a_repeat_inside_of_the_batch_adds_nothing(voided, make_call):
    again = [make_call(i, "m", request_id=f"r{i}") for i in range(6)]
    first = voided.record_many([*again, *again])
    assert first[:6] == first[6:] == voided.record_many(again)
    assert {rid: seq for rid, (seq, _) in counting(voided).items()} == {
        **{f"r{i}": i + 2 for i in (0, 1, 4, 5)},
        "r2": 9,
        "r3": 10,
    }
    audited(voided)


def test_an_id_may_be_given_up_as_often_as_it_comes(calibrator):
    for turn in range(1, 5):
        calibrator.record("m", 1, 100.0 * turn, request_id="r")
        (done,) = calibrator.void("m", request_id="r")
        assert done.voids == str(2 * turn)
    assert calibrator.void("m", request_id="r")[0].seq is None, "nothing of that id counts"
    assert calibrator.calibration("m").sample_count == 0
    calibrator.record("m", 1, 500.0, request_id="r")
    assert counting(calibrator) == {"r": (10, 500.0)}
    audited(calibrator)


def test_recorders_and_timed_blocks_take_them(voided):
    with voided.recorder() as recorder:
        for _ in range(2):
            recorder.put(Call("m", 1, 0, 700.0, request_id="r2"))
    assert (recorder.recorded, recorder.skipped) == (1, {"duplicate": 1})
    with voided.timed("m", 5) as call:
        call.completion_tokens, call.request_id = 1, "r3"
    assert counting(voided)["r3"][0] == 10
    audited(voided)


HEADER = "model,called_at,prompt_tokens,completion_tokens,actual_ms,request_id\n"


@pytest.mark.both
@pytest.mark.parametrize("ids", ["its own", "made of its rows"])
def test_the_corrected_file_of_a_voided_import_is_recorded_and_right_rows_count_again(
    calibrator, ids
):
    def text(third):
        rows = ((f"r{i}" if ids == "its own" else "", 100.0 + i) for i in range(5))
        return HEADER + "".join(
            f"m,2026-01-01T00:00:0{i}Z,10,{i},{third if i == 2 else ms},{rid}\n"
            for i, (rid, ms) in enumerate(rows)
        )

    wrong = calibrator.import_calls("csv", io.StringIO(text(WRONG_MS)))
    assert calibrator.import_calls("csv", io.StringIO(text(WRONG_MS))).already == 5
    calibrator.void(None, import_id=wrong.import_id)
    right = calibrator.import_calls("csv", io.StringIO(text(102.0)))
    again = 5 if ids == "its own" else 4
    assert (right.recorded, right.already, right.recorded_again) == (5, 0, again)
    counted = [call.actual_ms for call in calibrator.calls("m") if not call.voided]
    assert counted == [100.0, 101.0, 102.0, 103.0, 104.0]
    twice = calibrator.import_calls("csv", io.StringIO(text(102.0)))
    assert (twice.recorded, twice.already, twice.recorded_again) == (0, 5, 0)
    with AdaptiveCalibrator(":memory:") as clean:
        clean.import_calls("csv", io.StringIO(text(102.0)))
        assert numbers_of(calibrator.calibration("m")) == numbers_of(clean.calibration("m"))
    audited(calibrator)


# -- what counts again ----------------------------------------------------------------------


@pytest.mark.both
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_call_whose_id_another_one_has_by_now_cannot_count_again(voided, ledger, dry_run):
    voided.record("m", 1, 700.0, request_id="r3")
    rows = dump(ledger)
    with pytest.raises(RequestConflictError, match=r"call 5 .* call 9 has .* 'r3' .*--seq 9 -- m"):
        voided.void("m", seq=8, dry_run=dry_run)
    assert dump(ledger) == rows
    voided.void("m", seq=9)
    voided.void("m", seq=8)
    assert counting(voided)["r3"] == (5, WRONG_MS)
    audited(voided)


def test_both_steps_may_be_one(voided):
    voided.record("m", 1, 700.0, request_id="r3")
    voided.void("m", seq=[8, 9])
    assert counting(voided)["r3"] == (5, WRONG_MS)
    audited(voided)


def test_two_calls_of_one_id_cannot_count_again_together(calibrator):
    for ms in (1.0, 2.0):
        calibrator.record("m", 1, ms, request_id="r")
        calibrator.void("m", request_id="r")
    with pytest.raises(RequestConflictError, match=r"call 2 .* call 4 has"):
        calibrator.void("m", seq=[3, 5])
    calibrator.void("m", seq=3)
    assert counting(calibrator) == {"r": (2, 1.0)}
    with pytest.raises(RequestConflictError, match=r"call 4 .* call 2 has"):
        calibrator.void("m", seq=5)
    audited(calibrator)


def test_a_call_that_comes_while_a_voiding_is_worked_out_keeps_its_id(voided, ledger):
    def record(_):
        with AdaptiveCalibrator(ledger) as other:
            other.record("m", 1, 700.0, request_id="r2")

    with pytest.raises(RequestConflictError, match=r"call 4 .* call 9 has"):
        voided.void("m", seq=8, progress=record)
    assert counting(voided)["r2"] == (9, 700.0)
    audited(voided)


# -- merges ---------------------------------------------------------------------------------


@pytest.fixture(name="merged")
def _merged(calibrator, make_call):
    """Two histories that are one: those of `a` before, those of `b` among the newer ones of `m`."""
    calibrator.record_many(
        [
            *(make_call(i, "m", request_id=f"m{i}") for i in range(0, 10, 2)),
            *(make_call(i, "b", request_id=f"b{i}") for i in range(1, 10, 2)),
        ]
    )
    calibrator.alias("b", "m", merge=True)
    return calibrator


@pytest.mark.both
def test_copies_of_a_merge_have_the_ids_of_the_calls_that_they_stand_for(merged, make_call):
    before = merged.calibration("m")
    calls = [make_call(i, "m", request_id=f"{'bm'[i % 2 == 0]}{i}") for i in range(10)]
    assert list(counting(merged)) == [call.request_id for call in calls]
    for call in calls:
        for name in ("m", "b"):
            assert not merged.record_once(replace(call, model=name))[1]
    assert merged.calibration("m") == before
    audited(merged)


@pytest.mark.both
def test_an_undone_merge_gives_every_id_back_to_the_first_call_of_it(merged, make_call):
    merged.alias("b", None)
    assert counting(merged) == {
        f"m{i}": (2 + i // 2, make_call(i).actual_ms) for i in range(0, 10, 2)
    }
    assert counting(merged, "b").keys() == {f"b{i}" for i in range(1, 10, 2)}
    merged.alias("b", "m", merge=True)
    assert len(counting(merged)) == 10
    audited(merged)


@pytest.mark.both
def test_a_merge_is_not_undone_while_an_id_of_it_was_given_to_another_call(merged, ledger):
    merged.void("m", request_id="m6")
    merged.record("m", 1, 700.0, request_id="m6")
    (seq, _) = counting(merged)["m6"]
    rows = dump(ledger)
    for dry_run in (True, False):
        with pytest.raises(RequestConflictError, match=rf"call 5 .* call {seq} has .*--seq {seq}"):
            merged.alias("b", None, dry_run=dry_run)
    assert dump(ledger) == rows
    merged.void("m", seq=seq)
    merged.alias("b", None)
    assert counting(merged)["m6"][0] == 5
    audited(merged)


# -- files of whole ledgers, and archives ---------------------------------------------------


@pytest.mark.both
def test_a_ledger_with_ids_that_came_again_moves_as_a_whole_and_in_steps(
    voided, make_call, tmp_path
):
    older, newer = io.StringIO(), io.StringIO()
    voided.export_ledger("jsonl", older)
    voided.record_many([make_call(i, "m", request_id=f"r{i}") for i in range(6)])
    voided.export_ledger("jsonl", newer)
    for name, steps in {"whole": (newer,), "steps": (older, newer)}.items():
        with AdaptiveCalibrator(tmp_path / f"{name}.db") as other:
            for text in steps:
                other.import_calls("ledger", io.StringIO(text.getvalue()))
            assert other.heads() == voided.heads()
            assert counting(other) == counting(voided)
            assert other.record_many([make_call(2, "m", request_id="r2")])
            assert other.heads() == voided.heads(), "it was there already"
            audited(other)


def test_a_file_in_which_two_calls_that_count_have_one_id_is_refused(forged_text):
    """Each line of it follows from those before, and its head from them."""
    with (
        AdaptiveCalibrator(":memory:") as other,
        pytest.raises(
            ImportRefusedError, match="the request id 'r' of the model 'm' is there twice"
        ),
    ):
        other.import_calls("ledger", io.StringIO(forged_text))


@pytest.fixture(name="forged_text")
def _forged_text(tmp_path, monkeypatch):
    """An export of a ledger that a careless program wrote: it never looked ids up."""
    text = io.StringIO()
    with AdaptiveCalibrator(tmp_path / "careless.db") as careless:
        careless.record("m", 1, 2.0, request_id="r")
        with monkeypatch.context() as patched:
            patched.setattr(Transaction, "calls_of", lambda *_: {})
            careless.record("m", 1, 3.0, request_id="r")
        assert [(finding.check, finding.seq) for finding in careless.audit()] == [("request id", 3)]
        careless.export_ledger("jsonl", text)
    return text.getvalue()


@pytest.mark.both
@pytest.mark.parametrize("through", [4, 9, 12])
def test_an_archive_takes_ids_that_came_again_and_brings_them_back(
    voided, ledger, make_call, tmp_path, through
):
    voided.record_many([make_call(20 + i, "m", request_id=f"r{i}") for i in (2, 3)])
    voided.record_many([make_call(30 + i, "m", request_id=f"s{i}") for i in range(3)])
    rows = dump(ledger)
    times = {call.seq: call.called_at for call in voided.calls("m")}
    before = times.get(through, max(times.values()) + timedelta(days=1))
    voided.archive(before, tmp_path / "old.jsonl")
    audited(voided)
    voided.import_calls("ledger", tmp_path / "old.jsonl")
    assert dump(ledger) == rows
    audited(voided)


def test_an_archive_comes_back_where_its_id_came_again_after_it_was_voided(
    calibrator, make_call, tmp_path
):
    calibrator.record_many([make_call(i, "m", request_id=f"r{i}") for i in range(3)])
    calibrator.void("m", seq=2)
    calibrator.archive(make_call(1).called_at, tmp_path / "old.jsonl")
    calibrator.record("m", 1, 700.0, request_id="r0")
    calibrator.import_calls("ledger", tmp_path / "old.jsonl")
    assert counting(calibrator)["r0"] == (6, 700.0)
    audited(calibrator)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_calls_written_to_a_file_and_read_again_are_those_that_count(voided, make_call, kind):
    voided.record_many([make_call(i, "m", request_id=f"r{i}") for i in range(6)])
    text = io.StringIO()
    voided.export_ledger(kind, text)
    with AdaptiveCalibrator(":memory:") as other:
        if kind == "csv":
            assert other.import_calls(kind, io.StringIO(text.getvalue())).recorded == 6
        else:
            other.import_calls("ledger", io.StringIO(text.getvalue()))
        assert {rid: ms for rid, (_, ms) in counting(other).items()} == {
            rid: ms for rid, (_, ms) in counting(voided).items()
        }
        audited(other)


# -- the table ------------------------------------------------------------------------------


@pytest.mark.both
def test_the_table_holds_what_is_voided_by_now_and_the_audit_compares_it(voided, ledger):
    def stored():
        with look_into(ledger) as connection:
            rows = connection.execute("SELECT first_seq, last_seq FROM voided ORDER BY 1")
            return [tuple(row) for row in rows.fetchall()]

    assert stored() == [(4, 5)]
    voided.void("m", seq=7)
    assert stored() == [(4, 5), (7, 7)]
    voided.void("m", seq=8)
    assert stored() == [(7, 8)]
    voided.reset("m")
    voided.recalibrate(0.3)
    voided.void("m", seq=[9, 10])
    assert stored() == [(4, 5), (9, 10)]
    audited(voided)
