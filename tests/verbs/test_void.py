"""void() corrects history without taking anything out of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_ledger import (
    AdaptiveCalibrator,
    HistoryArchivedError,
    InvalidInputError,
    LedgerNotFoundError,
    ModelNotFoundError,
    NoSuchEntryError,
    NotFiniteError,
)
from calibration_ledger.core.validation import EPOCH
from calibration_ledger.storage.ledger import PAGE
from support.reference import dump, entries_of
from support.threads import together

POISON_MS = 5e6


@pytest.fixture
def poisoned(calibrator, make_call):
    """Model m: 2 to 11 good, 12 to 15 absurd, 16 to 30 good; n beside it."""
    calibrator.record_many(make_call(i, "m", request_id=f"r{i}") for i in range(10))
    calibrator.record_many(make_call(i, "m", actual_ms=POISON_MS) for i in range(10, 14))
    calibrator.record_many(make_call(i, "m") for i in range(14, 29))
    calibrator.record_many(make_call(i, "n") for i in range(5))
    return calibrator


def never(make_call, indices, model="m", **arguments):
    """The calibration of a ledger in which only these calls were ever recorded."""
    with AdaptiveCalibrator(":memory:", **arguments) as clean:
        clean.record_many(make_call(i, model) for i in indices)
        return numbers(clean.calibration(model))


def numbers(calibration):
    """All that was learnt, to the bit."""
    names = calibration.__slots__
    return {
        name: value.hex() if isinstance(value, float) else value
        for name in names
        for value in [getattr(calibration, name)]
    }


GOOD = [*range(10), *range(14, 29)]


@pytest.mark.both
def test_the_calibration_is_as_if_the_calls_had_never_been(poisoned, make_call):
    (done,) = poisoned.void("m", seq=(12, 15))
    assert numbers(poisoned.calibration("m")) == never(make_call, GOOD)
    assert (done.model, done.seq, done.voids, done.calls) == ("m", 31, "12..15", 4)
    assert done.calibration == poisoned.calibration("m")
    assert (done.before.sample_count, done.calibration.sample_count) == (29, 25)
    assert poisoned.audit() == []


def test_the_calls_stay_and_are_marked(poisoned, make_call):
    before = list(poisoned.calls("m"))
    poisoned.void("m", seq=[12, (14, 15)])
    after = list(poisoned.calls("m"))
    assert [call.seq for call in after if call.voided] == [12, 14, 15]
    assert [(c.seq, c.actual_ms, c.predicted_ms) for c in after] == [
        (c.seq, c.actual_ms, c.predicted_ms) for c in before
    ]
    assert not any(call.voided for call in poisoned.calls("n"))


def test_what_comes_after_is_learnt_from_there(poisoned, make_call):
    poisoned.void("m", seq=(12, 15))
    poisoned.record_many(make_call(i, "m") for i in range(40, 50))
    assert numbers(poisoned.calibration("m")) == never(make_call, [*GOOD, *range(40, 50)])


@pytest.mark.parametrize(("alpha", "rule"), [(None, None), (0.4, None), (None, "kalman")])
def test_replays_and_sweeps_skip_what_is_voided(poisoned, make_call, alpha, rule):
    poisoned.void("m", seq=(12, 15))
    with AdaptiveCalibrator(":memory:") as clean:
        clean.record_many(make_call(i, "m") for i in GOOD)
        (expected,) = clean.replay(alpha, rule)
        (found,) = poisoned.replay(alpha, rule, model="m")
        assert numbers(found.calibration) == numbers(expected.calibration)
        assert (found.n, found.mean_absolute_error_ms) == (
            expected.n,
            expected.mean_absolute_error_ms,
        )
        assert poisoned.sweep(model="m", warm_up=5) == clean.sweep(model="m", warm_up=5)
    poisoned.recalibrate(alpha, rule, model="m")
    assert numbers(poisoned.calibration("m")) == numbers(expected.calibration)


def test_a_request_id_names_its_call(poisoned, make_call):
    (done,) = poisoned.void("m", request_id=["r3", "r5"])
    assert done.voids == "5,7"
    others = [i for i in range(29) if i not in {3, 5}]
    with AdaptiveCalibrator(":memory:") as clean:
        calls = list(poisoned.calls("m"))
        clean.record_many(call for i, call in enumerate(calls) if i in others)
        assert numbers(clean.calibration("m")) == numbers(poisoned.calibration("m"))


def test_voiding_the_voiding_makes_them_count_again(poisoned):
    before = numbers(poisoned.calibration("m"))
    (done,) = poisoned.void("m", seq=(12, 15))
    (undone,) = poisoned.void("m", seq=done.seq)
    assert numbers(poisoned.calibration("m")) == before
    assert undone.adjustments == ((done.seq, "voided"),)
    assert undone.calls == 0
    assert not any(call.voided for call in poisoned.calls("m"))
    poisoned.void("m", seq=undone.seq)
    assert numbers(poisoned.calibration("m")) == numbers(done.calibration)
    assert sum(call.voided for call in poisoned.calls("m")) == 4
    assert poisoned.audit() == []


def test_a_reset_that_is_voided_is_undone(poisoned, make_call):
    poisoned.reset("m")
    poisoned.record_many(make_call(i, "m") for i in range(40, 45))
    (done,) = poisoned.void("m", seq=[31, (12, 15)])
    assert done.adjustments == ((31, "reset"),)
    assert numbers(poisoned.calibration("m")) == never(make_call, [*GOOD, *range(40, 45)])


def test_a_recalibration_that_is_voided_loses_its_rule_and_alpha(poisoned):
    before = numbers(poisoned.calibration("m"))
    poisoned.recalibrate(0.6, "kalman", model="m")
    (done,) = poisoned.void("m", seq=31)
    assert done.adjustments == ((31, "recalibrated"),)
    assert numbers(poisoned.calibration("m")) == before
    poisoned.void("m", seq=32)
    found = poisoned.calibration("m")
    assert (found.rule, found.alpha) == ("kalman.2", 0.6)


def test_a_recalibration_stays_adopted_when_calls_before_it_are_voided(poisoned, make_call):
    poisoned.recalibrate(0.3, model="m")
    poisoned.void("m", seq=(12, 15))
    assert numbers(poisoned.calibration("m")) == never(make_call, GOOD, alpha=0.3)


def test_calls_before_a_reset_can_be_voided_and_change_nothing_behind_it(poisoned, make_call):
    poisoned.reset("m")
    poisoned.record_many(make_call(i, "m") for i in range(40, 45))
    before = numbers(poisoned.calibration("m"))
    poisoned.void("m", seq=(12, 15))
    assert numbers(poisoned.calibration("m")) == before
    assert sum(call.voided for call in poisoned.calls("m")) == 4


def test_what_is_voided_already_is_no_new_entry(poisoned):
    poisoned.void("m", seq=(12, 15))
    heads = poisoned.heads()
    (done,) = poisoned.void("m", seq=[13, (14, 15)])
    assert (done.seq, done.voids, done.calls) == (None, "", 0)
    assert done.calibration == done.before == poisoned.calibration("m")
    assert poisoned.heads() == heads
    (more,) = poisoned.void("m", seq=(10, 13))
    assert (more.voids, more.calls) == ("10..13", 2)


def test_all_calls_can_be_voided(poisoned, make_call):
    poisoned.void("m", seq=(2, 30))
    expected = poisoned.calibration("m")
    assert expected.sample_count == 0
    assert expected.status == "uncalibrated (prior only)"
    poisoned.record_many(make_call(i, "m") for i in range(3))
    assert numbers(poisoned.calibration("m")) == never(make_call, range(3))


def test_a_dry_run_says_the_same_and_changes_nothing(poisoned, ledger):
    rows = dump(ledger)
    (tried,) = poisoned.void("m", seq=(12, 15), dry_run=True)
    assert dump(ledger) == rows
    (done,) = poisoned.void("m", seq=(12, 15))
    assert (tried.seq, tried.voids, tried.calls) == (None, done.voids, done.calls)
    assert (tried.before, tried.calibration) == (done.before, done.calibration)


def test_the_entry_holds_what_it_voids_and_why(poisoned, ledger):
    poisoned.void("m", seq=[15, 12], note="the laptop slept")
    entry = entries_of(ledger, "m")[-1]
    assert (entry["kind"], entry["voids"], entry["note"]) == ("voided", "12,15", "the laptop slept")
    assert {e["voids"] for e in entries_of(ledger, "m")[:-1] if "voids" in e} == {None}


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({}, InvalidInputError, "no entries are named"),
        ({"seq": []}, InvalidInputError, "no entries are named"),
        ({"seq": 1}, InvalidInputError, "entry 1 .* cannot be voided"),
        ({"seq": (1, 30)}, InvalidInputError, "name entries from 2 on"),
        ({"seq": 31}, NoSuchEntryError, "entries 1 to 30, and none of the number 31"),
        ({"seq": (29, 99)}, NoSuchEntryError, "none of the number 31"),
        ({"seq": 2**70}, NoSuchEntryError, "none of the number"),
        ({"seq": (15, 12)}, InvalidInputError, "seq must be"),
        ({"seq": (12, 13, 14)}, InvalidInputError, "seq must be"),
        ({"seq": "12"}, InvalidInputError, "seq must be"),
        ({"seq": True}, InvalidInputError, "seq must be"),
        ({"seq": 1.5}, InvalidInputError, "seq must be"),
        ({"seq": [12, None]}, InvalidInputError, "seq must be"),
        ({"seq": 0}, InvalidInputError, "seq must be"),
        ({"request_id": "r99"}, NoSuchEntryError, "no call of the request id 'r99'"),
        ({"request_id": ["r1", "r99"]}, NoSuchEntryError, "r99"),
        ({"request_id": ""}, InvalidInputError, "request_id"),
        ({"request_id": 7}, InvalidInputError, "request_id"),
        ({"request_id": [7]}, InvalidInputError, "request_id"),
        ({"import_id": "0123456789ab"}, NoSuchEntryError, "it has none of any import"),
        ({"import_id": 7}, InvalidInputError, "import_id"),
        ({"import_id": [None]}, InvalidInputError, "import_id"),
        ({"seq": 12, "note": ""}, InvalidInputError, "note"),
        ({"seq": 12, "note": 7}, InvalidInputError, "note"),
        ({"seq": 12, "request_id": "r99"}, NoSuchEntryError, "r99"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_a_sentence_and_changes_nothing(
    poisoned, ledger, arguments, error, says
):
    rows = dump(ledger)
    with pytest.raises(error, match=says):
        poisoned.void("m", **arguments)
    assert dump(ledger) == rows


def test_a_model_never_seen_is_an_error_and_no_model_takes_an_import(poisoned):
    with pytest.raises(ModelNotFoundError, match="no entry of a model 'x'"):
        poisoned.void("x", seq=2)
    with pytest.raises(InvalidInputError, match="name the model"):
        poisoned.void(None, seq=2)
    with pytest.raises(InvalidInputError, match="name the model"):
        poisoned.void(None, request_id="r1", import_id="0123456789ab")


def test_a_ledger_that_is_not_there_is_not_made(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator, pytest.raises(LedgerNotFoundError):
        calibrator.void("m", seq=2)
    assert not ledger_path.exists()


# -- imports ----------------------------------------------------------------------------------


def written(tmp_path, name, calls):
    lines = [
        f'{{"model":"{c.model}","prompt_tokens":{c.prompt_tokens},"actual_ms":{c.actual_ms},'
        f'"completion_tokens":{c.completion_tokens},"called_at":"{c.called_at.isoformat()}"}}\n'
        for c in calls
    ]
    path = tmp_path / name
    path.write_text("".join(lines))
    return path


def test_an_import_is_voided_in_every_model_that_it_brought_calls(calibrator, make_call, tmp_path):
    calibrator.record_many(make_call(i, "m") for i in range(20))
    bad = [make_call(i, f"m{i % 2 or ''}", actual_ms=POISON_MS) for i in range(50, 60)]
    report = calibrator.import_calls("jsonl", written(tmp_path, "bad.jsonl", bad))
    good = [make_call(i, "m") for i in range(60, 70)]
    other = calibrator.import_calls("jsonl", written(tmp_path, "good.jsonl", good))
    assert report.import_id != other.import_id
    done = calibrator.void(None, import_id=report.import_id)
    assert [(one.model, one.calls) for one in done] == [("m", 5), ("m1", 5)]
    found = numbers(calibrator.calibration("m"))
    assert found == never(make_call, [*range(20), *range(60, 70)])
    assert calibrator.calibration("m1").sample_count == 0
    with pytest.raises(NoSuchEntryError, match=rf"it has .*{other.import_id} \(10 calls\)"):
        calibrator.void("m", import_id="ffffffffffff")
    with pytest.raises(NoSuchEntryError, match="no call of the import"):
        calibrator.void(None, import_id="ffffffffffff")


def test_several_imports_are_voided_where_each_brought_calls(calibrator, make_call, tmp_path):
    ids = []
    for models in ("mn", "n", "o"):
        calls = [make_call(i, models[i % len(models)]) for i in range(50, 60)]
        ids.append(calibrator.import_calls("jsonl", written(tmp_path, "a", calls)).import_id)
    with pytest.raises(NoSuchEntryError, match="no call of the import 'ffffffffffff', in no"):
        calibrator.void(None, import_id=[*ids, "ffffffffffff"])
    with pytest.raises(NoSuchEntryError, match="'m' has no call of the import"):
        calibrator.void("m", import_id=ids)
    assert [one.model for one in calibrator.void(None, import_id=ids[1:])] == ["n", "o"]
    done = calibrator.void(None, import_id=ids)
    assert [(one.model, one.calls) for one in done] == [("m", 5), ("n", 5), ("o", 0)]


# -- others at the same time ------------------------------------------------------------------


def test_calls_recorded_while_it_replays_are_learnt(poisoned, make_call):
    told = []

    def record_more(_):
        if not told:
            poisoned.record_many(make_call(i, "m") for i in range(40, 43))
        told.append(True)

    (done,) = poisoned.void("m", seq=(12, 15), progress=record_more)
    assert done.seq == 34
    assert numbers(poisoned.calibration("m")) == never(make_call, [*GOOD, 40, 41, 42])


@pytest.mark.parametrize("other", ["reset", "recalibrate", "void"])
def test_an_adjustment_that_comes_between_makes_it_start_over(poisoned, make_call, other):
    told = []

    def adjust(_):
        if not told:
            told.append(True)
            if other == "reset":
                poisoned.reset("m")
            elif other == "recalibrate":
                poisoned.recalibrate(0.5, model="m")
            else:
                poisoned.void("m", seq=(2, 5))

    (done,) = poisoned.void("m", seq=(12, 15), progress=adjust)
    assert done.seq == 32
    expected = {
        "reset": lambda: never(make_call, []),
        "recalibrate": lambda: never(make_call, GOOD, alpha=0.5),
        "void": lambda: never(make_call, [i for i in GOOD if i > 3]),
    }
    if other == "reset":
        assert poisoned.calibration("m").sample_count == 0
    else:
        assert numbers(poisoned.calibration("m")) == expected[other]()


def test_two_that_void_and_one_that_records_at_once_lose_nothing(poisoned, ledger, make_call):
    with (
        AdaptiveCalibrator(ledger) as one,
        AdaptiveCalibrator(ledger) as two,
        AdaptiveCalibrator(ledger) as three,
    ):
        together(
            lambda: [one.void("m", seq=seq) for seq in (12, 13)],
            lambda: [two.void("m", seq=seq) for seq in (14, 15)],
            lambda: [three.record_many([make_call(i, "m")]) for i in range(40, 60)],
        )
    assert [call.seq for call in poisoned.calls("m") if call.voided] == [12, 13, 14, 15]
    assert numbers(poisoned.calibration("m")) == never(make_call, [*GOOD, *range(40, 60)])
    assert poisoned.audit() == []


def test_one_that_cannot_be_learnt_changes_nothing(calibrator, ledger, make_call):
    """A reset hid that what came before would overflow with what comes behind."""
    calibrator.record("m", 1, 1e308)
    calibrator.reset("m")
    calibrator.record("m", 2**31 - 1, 1.0)
    rows = dump(ledger)
    with pytest.raises(NotFiniteError):
        calibrator.void("m", seq=3)
    assert dump(ledger) == rows


# -- archives and files -----------------------------------------------------------------------


def test_voided_entries_travel_with_an_export(poisoned, tmp_path):
    poisoned.void("m", seq=(12, 15), note="why")
    poisoned.export_ledger("jsonl", tmp_path / "all.jsonl")
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.import_calls("ledger", tmp_path / "all.jsonl")
        assert other.heads() == poisoned.heads()
        assert other.audit() == []
        assert list(other.calls()) == list(poisoned.calls())
        other.void("m", seq=31)
        assert other.audit() == []


def test_what_was_archived_cannot_be_voided_until_it_is_back(poisoned, make_call, tmp_path):
    times = [call.called_at for call in poisoned.calls("m")]
    poisoned.archive(times[20], tmp_path / "old.jsonl", model="m")
    before = numbers(poisoned.calibration("m"))
    for seq in (12, (12, 25)):
        with pytest.raises(HistoryArchivedError, match=r"calib --ledger .* import ledger"):
            poisoned.void("m", seq=seq)
    assert numbers(poisoned.calibration("m")) == before
    (done,) = poisoned.void("m", seq=(25, 26))
    assert done.calls == 2
    assert poisoned.audit() == []


@pytest.mark.parametrize("named", [{"request_id": "r3"}, {"import_id": "0123456789ab"}])
def test_what_is_not_there_may_be_in_the_archive(poisoned, tmp_path, named):
    times = [call.called_at for call in poisoned.calls("m")]
    poisoned.archive(times[20], tmp_path / "old.jsonl", model="m")
    with pytest.raises(NoSuchEntryError, match=r"up to 21 were archived.* import ledger ARCH"):
        poisoned.void("m", **named)
    with pytest.raises(NoSuchEntryError) as caught:
        poisoned.void("n", **named)
    assert "archived" not in str(caught.value)


def test_a_voiding_survives_that_what_it_voids_is_archived(poisoned, make_call, tmp_path):
    poisoned.void("m", seq=(12, 15))
    times = [call.called_at for call in poisoned.calls("m")]
    found = numbers(poisoned.calibration("m"))
    poisoned.archive(times[20], tmp_path / "old.jsonl", model="m")
    assert numbers(poisoned.calibration("m")) == found
    assert poisoned.audit() == []
    (replayed,) = poisoned.replay(model="m")
    assert numbers(replayed.calibration) == found
    with pytest.raises(HistoryArchivedError):
        poisoned.void("m", seq=31)
    poisoned.import_calls("ledger", tmp_path / "old.jsonl")
    assert poisoned.audit() == []
    poisoned.void("m", seq=31)
    assert poisoned.calibration("m").sample_count == 29


def test_no_archived_reset_comes_back_with_what_was_recalibrated_behind_it(
    calibrator, make_call, tmp_path
):
    """Each of the three is harmless alone, as long as it comes in this order."""
    calibrator.record_many(make_call(i, "m") for i in range(5))
    calibrator.reset("m")  # entry 7
    calibrator.record_many(make_call(i, "m") for i in range(10, 12))
    calibrator.recalibrate(0.3, model="m")  # entry 10
    calibrator.record_many([make_call(20, "m")])
    times = [call.called_at for call in calibrator.calls("m")]
    calibrator.archive(times[3], tmp_path / "old.jsonl", model="m")
    calibrator.void("m", seq=10)
    (undone,) = calibrator.void("m", seq=7)
    assert numbers(undone.calibration) == never(make_call, [*range(5), 10, 11, 20])
    # Entry 10 holds what was learnt behind the reset, and the rest of it is in the archive.
    with pytest.raises(HistoryArchivedError, match="up to entry 10 stands for"):
        calibrator.void("m", seq=12)
    assert calibrator.calibration("m") == undone.calibration
    calibrator.import_calls("ledger", tmp_path / "old.jsonl")
    calibrator.void("m", seq=12)
    expected = never(make_call, [*range(5), 10, 11, 20], alpha=0.3)
    assert numbers(calibrator.calibration("m")) == expected
    assert calibrator.audit() == []


def test_what_was_voided_behind_a_reset_counts_again_though_the_rest_is_archived(
    calibrator, make_call, tmp_path
):
    calibrator.record_many(make_call(i, "m") for i in range(5))
    calibrator.void("m", seq=3)  # entry 7
    calibrator.reset("m")  # entry 8
    calibrator.record_many(make_call(i, "m") for i in range(10, 13))
    times = [call.called_at for call in calibrator.calls("m")]
    calibrator.archive(times[3], tmp_path / "old.jsonl", model="m")
    (done,) = calibrator.void("m", seq=10)
    assert done.calibration.sample_count == 2
    (undone,) = calibrator.void("m", seq=done.seq)
    assert undone.calibration == done.before
    assert calibrator.audit() == []


# -- by time, or the newest ---------------------------------------------------------------------


@pytest.mark.both
def test_the_newest_calls_are_voided_as_calls_lists_them(poisoned):
    listed = [call.seq for call in poisoned.calls("m", last=3)]
    (done,) = poisoned.void("m", last=3)
    assert (done.voids, done.calls) == ("28..30", 3)
    assert listed == [28, 29, 30]
    (again,) = poisoned.void("m", last=3)
    assert (again.voids, again.seq) == ("", None)
    assert [call.seq for call in poisoned.calls("m") if call.voided] == listed


def test_calls_of_a_time_are_voided_and_what_lies_between_them_stays(calibrator, make_call):
    calibrator.record_many(make_call(i, "m") for i in range(6))
    calibrator.reset("m")
    calibrator.record_many(make_call(i, "m") for i in range(6, 9))
    calibrator.record(  # made long before, recorded last
        "m", 10, 500.0, completion_tokens=3, called_at=make_call(0, "m").called_at
    )
    since, until = make_call(3, "m").called_at, make_call(8, "m").called_at
    listed = [call.seq for call in calibrator.calls("m", since=since, until=until)]
    (preview,) = calibrator.void("m", since=since, until=until, dry_run=True)
    (done,) = calibrator.void("m", since=since, until=until)
    assert listed == [5, 6, 7, 9, 10]
    assert (done.voids, done.calls, done.adjustments) == ("5..7,9..10", 5, ())
    assert preview.calibration == done.calibration == calibrator.calibration("m")
    assert calibrator.void("m", since=since, last=1)[0].voids == "11"


def test_what_is_newest_is_settled_before_others_record_more(poisoned, ledger, make_call):
    """A reset in between lets it start over: it still voids the call that was the newest."""
    begun = []

    def meanwhile(_):
        if not begun:
            begun.append(True)
            with AdaptiveCalibrator(ledger) as other:
                other.record_many([make_call(50, "m")])
                other.recalibrate(0.3, model="m")

    (done,) = poisoned.void("m", last=1, progress=meanwhile)
    assert done.voids == "30"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"model": None, "last": 1}, InvalidInputError, "name the model"),
        ({"model": "m", "last": 0}, InvalidInputError, "last must be a whole number from 1"),
        ({"model": "m", "last": True}, InvalidInputError, "last must be"),
        ({"model": "m", "last": 1, "seq": 2}, InvalidInputError, "leave out the seq"),
        ({"model": "m", "last": 1, "import_id": "x"}, InvalidInputError, "leave out the seq"),
        ({"model": "m", "since": "today"}, InvalidInputError, "since must be"),
        ({"model": "m", "until": EPOCH}, NoSuchEntryError, "no call made at that time"),
        ({"model": "x", "last": 1}, ModelNotFoundError, "no entry of a model 'x'"),
    ],
)
def test_what_names_no_calls_changes_nothing(poisoned, arguments, error, says):
    heads = poisoned.heads()
    with pytest.raises(error, match=says):
        poisoned.void(**arguments)
    assert poisoned.heads() == heads


# -- all of it at once --------------------------------------------------------------------------


@given(data=st.data())
def test_whatever_is_voided_the_rest_is_as_if_it_were_alone(data):
    check_voidings(3, data)


@settings(max_examples=settings.default.max_examples // 4)
@given(data=st.data())
def test_whatever_is_voided_of_many_pages_the_rest_is_as_if_it_were_alone(data):
    check_voidings(PAGE, data)


def check_voidings(size, data):
    """Voidings and voidings of voidings, against a ledger of only the calls that count."""

    def call(i):
        values = {"prompt_tokens": 10 + 37 * i % 91, "completion_tokens": i % 7}
        return {"model": "m", "actual_ms": 1000.0 + 61.25 * (i * 17 % 101), **values}

    with AdaptiveCalibrator(":memory:") as calibrator, AdaptiveCalibrator(":memory:") as clean:
        recorded, named_by = {}, {}
        last = 1
        for i in range(4):
            calibrator.record_many(call(100 * i + k) for k in range(size))
            recorded |= {last + 1 + k: 100 * i + k for k in range(size)}
            last += size
            named = data.draw(st.sets(st.integers(2, last), min_size=1, max_size=6))
            (done,) = calibrator.void("m", seq=sorted(named))
            if done.seq is not None:
                last = done.seq
                named_by[done.seq] = named
        counts = {}
        for seq in range(last, 1, -1):
            voids = [by for by, named in named_by.items() if seq in named and counts[by]]
            counts[seq] = not voids
        clean.record_many(call(i) for seq, i in recorded.items() if counts[seq])
        mine, theirs = calibrator.calibration("m"), clean.calibration("m")
        for name in ("ms_per_prompt_token", "base_overhead_ms", "total_absolute_error_ms"):
            assert getattr(mine, name).hex() == getattr(theirs, name).hex()
        assert mine.sample_count == theirs.sample_count
        assert [c.seq for c in calibrator.calls() if not c.voided] == [
            seq for seq in recorded if counts[seq]
        ]
        assert calibrator.audit() == []
