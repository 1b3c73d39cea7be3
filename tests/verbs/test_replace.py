"""`import --replace`: a corrected file takes the place of a wrong import, whole or not at all."""

import io
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger.errors import (
    CalibrationLedgerError,
    HistoryArchivedError,
    ImportRefusedError,
    InvalidInputError,
    LedgerNotFoundError,
    NoSuchEntryError,
)
from calibration_ledger.verbs import import_calls

HEADER = "model,prompt_tokens,completion_tokens,actual_ms,request_id\n"
WRONG = HEADER + "a,1,2,0.3,r1\na,2,3,0.4,r2\nb,3,4,0.5,r3\n"
RIGHT = HEADER + "a,1,2,300,r1\na,2,3,400,r2\nb,3,4,500,r3\n"
BARE = "model,prompt_tokens,completion_tokens,actual_ms\n"


@pytest.fixture(name="take")
def _take(calibrator):
    return lambda text, **options: calibrator.import_calls("csv", io.StringIO(text), **options)


def counted(calibrator):
    """The calls that count, by model and milliseconds."""
    return sorted((call.model, call.actual_ms) for call in calibrator.calls() if not call.voided)


def everything(calibrator):
    return calibrator.heads(), list(calibrator.calls()), calibrator.log()


@pytest.mark.both
def test_the_corrected_file_counts_and_learns_as_if_the_wrong_one_had_never_been(calibrator, take):
    calibrator.record("a", 5, 700.0, completion_tokens=6)
    before = calibrator.calibration("a")
    wrong = take(WRONG)
    right = take(RIGHT, replace=wrong.import_id)
    assert (right.recorded, right.recorded_again, right.replaced, right.already) == (3, 3, 3, 0)
    assert counted(calibrator) == [("a", 300.0), ("a", 400.0), ("a", 700.0), ("b", 500.0)]
    kinds = [(entry.kind, entry.note) for entry in calibrator.log()]
    note = f"replaced by import {right.import_id}"
    assert kinds == [("import", None), ("voided", note), ("voided", note), ("import", None)]
    learnt = calibrator.calibration("a")
    calibrator.void("a", import_id=right.import_id)
    assert calibrator.calibration("a") == before
    assert learnt.sample_count == before.sample_count + 2


@pytest.mark.both
def test_the_same_command_again_changes_nothing(calibrator, take):
    wrong = take(WRONG)
    take(RIGHT, replace=wrong.import_id)
    before = everything(calibrator)
    again = take(RIGHT, replace=wrong.import_id)
    assert (again.recorded, again.replaced, again.already) == (0, 0, 3)
    assert everything(calibrator) == before


@pytest.mark.both
@pytest.mark.parametrize(
    "text",
    [
        HEADER + "a,1,2,300,r1\na,many,3,400,r2\n",
        HEADER + "a,1,2,300,r1\na,2,3,400,r1\n",
        HEADER + "a,1,2,300,other\n",
        HEADER,
        "prompt\n",
    ],
    ids=["bad line", "one id twice", "an id of another call", "no call", "no file of calls"],
)
def test_a_bad_file_changes_nothing(calibrator, take, text):
    calibrator.record("a", 9, 900.0, completion_tokens=9, request_id="other")
    wrong = take(WRONG)
    before = everything(calibrator)
    with pytest.raises(ImportRefusedError):
        take(text, replace=wrong.import_id)
    assert everything(calibrator) == before


def test_bad_lines_may_be_skipped(calibrator, take):
    wrong = take(WRONG)
    text = HEADER + "a,1,2,300,r1\na,many,3,400,r2\n"
    right = take(text, replace=wrong.import_id, skip_bad=True)
    assert (right.recorded, right.skipped, right.replaced) == (1, 1, 3)
    assert counted(calibrator) == [("a", 300.0)]


def test_a_file_of_which_every_call_is_left_out_takes_no_place(calibrator, take):
    wrong = take(WRONG)
    text = HEADER + "a,many,3,400,r2\n"
    with pytest.raises(ImportRefusedError, match="no call to take the place of the import"):
        take(text, replace=wrong.import_id, skip_bad=True)
    assert len(counted(calibrator)) == 3


def test_an_import_is_replaced_by_itself_by_nothing(calibrator, take):
    wrong = take(WRONG)
    before = everything(calibrator)
    again = take(WRONG, replace=wrong.import_id)
    assert (again.recorded, again.replaced, again.already) == (0, 0, 3)
    assert everything(calibrator) == before
    calibrator.void(None, import_id=wrong.import_id)
    anew = take(WRONG, replace=wrong.import_id)
    assert (anew.recorded, anew.replaced) == (3, 0)
    assert len(counted(calibrator)) == 3


@pytest.mark.both
def test_what_the_ledger_lacks_is_an_error_before_the_file_is_read(calibrator, take):
    with pytest.raises((LedgerNotFoundError, NoSuchEntryError)):
        take("no file of calls", replace="3f2a9c01d4e7")
    take(RIGHT)
    before = everything(calibrator)
    with pytest.raises(NoSuchEntryError, match="no call of the import '3f2a9c01d4e7'"):
        take("no file of calls", replace="3f2a9c01d4e7")
    with pytest.raises(InvalidInputError, match="must be the id of an import"):
        take(RIGHT, replace=7)
    for kind in ("ledger", "state"):
        with pytest.raises(InvalidInputError, match="replace is for files of calls"):
            calibrator.import_calls(kind, io.StringIO(""), replace="3f2a9c01d4e7")
    assert everything(calibrator) == before


def test_a_dry_run_says_what_would_happen_and_changes_nothing(calibrator, take):
    wrong = take(WRONG)
    before = everything(calibrator)
    preview = take(RIGHT, replace=wrong.import_id, dry_run=True)
    assert (preview.recorded, preview.recorded_again, preview.replaced) == (3, 3, 3)
    assert everything(calibrator) == before


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_what_was_interrupted_is_completed_by_the_same_command(calibrator, take, monkeypatch, stop):
    wrong = take(WRONG)
    monkeypatch.setattr(import_calls, "BATCH", 1)
    write, done = import_calls.write_calls, []

    def failing(*arguments):
        if len(done) == stop:
            raise KeyboardInterrupt
        done.append(write(*arguments))
        return done[-1]

    monkeypatch.setattr(import_calls, "write_calls", failing)
    with pytest.raises(KeyboardInterrupt):
        take(RIGHT, replace=wrong.import_id)
    assert len(counted(calibrator)) == stop
    monkeypatch.setattr(import_calls, "write_calls", write)
    take(RIGHT, replace=wrong.import_id)
    assert counted(calibrator) == [("a", 300.0), ("a", 400.0), ("b", 500.0)]
    assert calibrator.audit() == []


@pytest.mark.parametrize("model", ["a", "b"])
def test_what_was_interrupted_between_two_models_is_completed(calibrator, take, model):
    wrong = take(WRONG)
    calibrator.void(model, import_id=wrong.import_id)
    right = take(RIGHT, replace=wrong.import_id)
    assert (right.recorded, right.replaced) == (3, 1 if model == "a" else 2)
    assert counted(calibrator) == [("a", 300.0), ("a", 400.0), ("b", 500.0)]


def test_rows_without_ids_and_models_that_are_left_or_new(calibrator, take):
    wrong = take(BARE + "a,1,2,0.3\nb,2,3,0.4\n")
    right = take(BARE + "b,2,3,400\nc,4,5,600\n", replace=wrong.import_id)
    assert (right.recorded, right.replaced, right.models_opened) == (2, 2, 1)
    assert counted(calibrator) == [("b", 400.0), ("c", 600.0)]
    same = take(BARE + "b,2,3,400\nc,4,5,600\n")
    assert (same.recorded, same.already) == (0, 2)


def test_a_model_that_could_not_learn_the_wrong_calls_any_more_learns_the_right_ones(
    calibrator, take
):
    """The check begins without the wrong import: with it, nothing more could be learnt."""
    wrong = take(HEADER + "a,1,2,1e308,r1\n")
    right = take(HEADER + "a,2000000000,2000000000,300,r1\n", replace=wrong.import_id)
    assert (right.recorded, right.replaced) == (1, 1)
    assert counted(calibrator) == [("a", 300.0)]


def test_a_name_stands_for_its_model(calibrator, take):
    wrong = take(WRONG)
    calibrator.alias("c", "a")
    right = take(RIGHT.replace("a,", "c,"), replace=wrong.import_id)
    assert right.replaced == 3
    assert counted(calibrator) == [("a", 300.0), ("a", 400.0), ("b", 500.0)]


def test_an_import_that_is_archived_stays(calibrator, take, tmp_path):
    wrong = take(WRONG)
    calibrator.record("a", 1, 2.0)
    calibrator.archive(datetime.now(UTC) + timedelta(days=1), tmp_path / "a.jsonl")
    before = everything(calibrator)
    with pytest.raises((HistoryArchivedError, NoSuchEntryError)) as caught:
        take(RIGHT, replace=wrong.import_id)
    assert isinstance(caught.value, CalibrationLedgerError)
    assert everything(calibrator) == before
