"""Archives as files: any history, any cut, and what fits together when they come back."""

import io
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import ImportRefusedError, NotRecordedError
from calibration_ledger.verbs import import_ledger as ledger_import
from support.histories import histories, live, record_two_models, soon, times
from support.importing import exported

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def is_sound(calibrator):
    """Audited clean, and replayed to the live state."""
    assert calibrator.audit(heads=calibrator.heads()) == []
    for replay in calibrator.replay():
        assert replay.calibration == calibrator.calibration(replay.model)
    return True


# Each goes through a dozen ledgers: fewer by default, as many as elsewhere under `stress`.
@settings(max_examples=8 if settings.default.max_examples <= 20 else settings.default.max_examples)
@given(histories, st.lists(st.sampled_from([LATER]) | times, min_size=1, max_size=3), histories)
def test_any_history_is_archived_at_any_time_and_comes_back_byte_for_byte(history, cuts, more):
    with (
        tempfile.TemporaryDirectory() as folder,
        AdaptiveCalibrator(":memory:") as one,
        AdaptiveCalibrator(":memory:") as fresh,
    ):
        live(one, history)
        texts, heads = [exported(one)], one.heads()
        states = [one.calibration(head.model) for head in heads]
        paths = []
        for number, cut in enumerate(sorted(cuts)):
            path = Path(folder) / f"{number}.jsonl"
            if not one.archive(cut, path).models:
                continue
            paths.append(path)
            texts.append(exported(one))
            assert one.heads() == heads
            assert [one.calibration(head.model) for head in heads] == states
            assert is_sound(one)
            with AdaptiveCalibrator(":memory:") as other:
                assert other.import_calls("ledger", io.StringIO(texts[-1])).skipped == 0
                assert exported(other) == texts[-1]
                assert is_sound(other)
        for path in paths:  # in the order of archiving, into a ledger of its own
            fresh.import_calls("ledger", path)
        fresh.import_calls("ledger", io.StringIO(texts[-1]))
        assert exported(fresh) == texts[0]
        assert is_sound(fresh)
        for path, text in zip(reversed(paths), reversed(texts[:-1]), strict=True):
            one.import_calls("ledger", path)
            assert exported(one) == text
            assert is_sound(one)
        for path in paths:
            path.unlink()
        if one.archive(LATER, Path(folder) / "all.jsonl").models:
            live(one, more)
            assert is_sound(one)


# -- what fits, and what does not ---------------------------------------------------------------


@pytest.fixture
def archives(calibrator, tmp_path):
    """A ledger of 12 calls, of which the first four and the next four are archived."""
    for i in range(12):
        calibrator.record(
            "m", i, 100.0 + i, completion_tokens=3, called_at=soon(i), request_id=f"r{i}"
        )
    paths = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    (tmp_path / "whole.jsonl").write_text(exported(calibrator))
    calibrator.archive(soon(4), paths[0])
    calibrator.archive(soon(8), paths[1])
    assert [call.seq for call in calibrator.calls()] == [10, 11, 12, 13]
    return paths


def refused(calibrator, path, said):
    text = exported(calibrator)
    with pytest.raises(ImportRefusedError, match=said) as caught:
        calibrator.import_calls("ledger", path)
    assert "Nothing was changed" in str(caught.value)
    assert exported(calibrator) == text


def test_an_archive_that_is_not_the_newest_is_refused_with_what_comes_first(calibrator, archives):
    refused(calibrator, archives[0], "import the archive that ends with entry 9 first")
    calibrator.import_calls("ledger", archives[1])
    calibrator.import_calls("ledger", archives[0])
    assert [call.seq for call in calibrator.calls()] == list(range(2, 14))


def test_a_file_that_begins_behind_the_end_is_refused(calibrator, other, archives, tmp_path):
    other.import_calls("ledger", archives[0])
    now = tmp_path / "now.jsonl"
    now.write_text(exported(calibrator))
    refused(other, now, "import that archive first")
    other.import_calls("ledger", archives[1])
    other.import_calls("ledger", now)
    assert exported(other) == (tmp_path / "whole.jsonl").read_text()


@pytest.mark.both
def test_an_export_from_before_the_archives_brings_all_back_at_once(calibrator, archives, tmp_path):
    heads = calibrator.heads()
    calibrator.record("m", 5, 6.0)
    report = calibrator.import_calls("ledger", tmp_path / "whole.jsonl")
    assert (report.recorded, report.adjustments, report.already) == (8, 1, 4)
    assert [call.seq for call in calibrator.calls()] == list(range(2, 15))
    assert calibrator.audit(heads=heads) == []


@pytest.mark.both
def test_an_archive_and_what_came_after_come_back_together(calibrator, other, archives, tmp_path):
    """The older ledger was archived; the file has both what it lost and what is new."""
    now = tmp_path / "now.jsonl"
    now.write_text(exported(calibrator))
    for path in [*archives, now]:
        other.import_calls("ledger", path)
    other.archive(soon(6), tmp_path / "other.jsonl")
    calibrator.import_calls("ledger", archives[1])
    calibrator.import_calls("ledger", archives[0])
    calibrator.record("m", 5, 6.0, request_id="new")
    now.write_text(exported(calibrator))
    report = other.import_calls("ledger", now)
    assert (report.recorded, report.adjustments) == (7, 1)
    assert exported(other) == exported(calibrator)


def test_another_ledgers_archive_is_refused(calibrator, other, archives, tmp_path):
    for i in range(12):
        other.record("m", i, 100.0 + i, completion_tokens=4, called_at=soon(i))
    other.archive(soon(8), tmp_path / "others.jsonl")
    refused(calibrator, tmp_path / "others.jsonl", "has another history")
    refused(other, archives[1], "has another history")


def test_an_archive_does_not_come_back_under_a_recalibration_that_rests_on_it(
    calibrator, other, archives
):
    calibrator.recalibrate(0.5)
    refused(calibrator, archives[1], r"recalibrated \(entry 14\).*a ledger of its own")
    for path in archives:
        other.import_calls("ledger", path)
    assert len(list(other.calls())) == 8


def test_an_archive_comes_back_before_a_reset(calibrator, archives):
    """A replay that began with the reset holds, whatever lies before."""
    calibrator.reset("m")
    calibrator.record("m", 5, 6.0)
    calibrator.recalibrate(0.5)
    for path in reversed(archives):
        calibrator.import_calls("ledger", path)
    assert [call.seq for call in calibrator.calls()][:2] == [2, 3]


def test_an_archive_comes_back_under_recalibrations_from_before_it(calibrator, tmp_path):
    for i in range(4):
        calibrator.record("m", i, 100.0 + i, completion_tokens=3, called_at=soon(i))
    calibrator.recalibrate(0.5)
    calibrator.record("m", 5, 6.0)
    text = exported(calibrator)
    calibrator.archive(soon(2), tmp_path / "1.jsonl")
    calibrator.import_calls("ledger", tmp_path / "1.jsonl")
    assert exported(calibrator) == text


def test_request_ids_that_were_used_again_keep_an_archive_out(calibrator, archives):
    calibrator.record("m", 7, 8.0, request_id="r5")
    refused(calibrator, archives[1], "'r5' of 'm' was recorded anew")


@pytest.fixture
def just_before(ledger_path, monkeypatch):
    """Let another calibrator act just before a step of the import."""

    def just_before(step, act):
        do = getattr(ledger_import, step)

        def late(*arguments):
            with AdaptiveCalibrator(ledger_path) as writer:
                act(writer)
            do(*arguments)

        monkeypatch.setattr(ledger_import, step, late)

    return just_before


def test_a_restore_that_others_get_in_the_way_of_leaves_all_as_it_was(
    calibrator, archives, just_before
):
    just_before("_restore", lambda writer: writer.recalibrate(0.7))
    with pytest.raises(NotRecordedError, match="was written to"):
        calibrator.import_calls("ledger", archives[1])
    assert [call.seq for call in calibrator.calls()] == [10, 11, 12, 13]
    assert calibrator.audit() == []


def test_calls_recorded_while_an_archive_comes_back_stay(calibrator, archives, just_before):
    just_before("_restore", lambda writer: writer.record("m", 7, 8.0))
    calibrator.import_calls("ledger", archives[1])
    assert [call.seq for call in calibrator.calls()] == list(range(6, 15))


def test_an_append_to_what_was_archived_meanwhile_is_refused(
    calibrator, other, tmp_path, just_before
):
    """A recalibration in the file may rest on what was just archived here."""
    for i in range(6):
        calibrator.record("m", i, 100.0 + i, completion_tokens=3, called_at=soon(i))
    other.import_calls("ledger", io.StringIO(exported(calibrator)))
    other.recalibrate(0.6)
    just_before("_append", lambda writer: writer.archive(soon(3), tmp_path / "late.jsonl"))
    with pytest.raises(NotRecordedError, match="was written to"):
        calibrator.import_calls("ledger", io.StringIO(exported(other)))


# -- the lines ------------------------------------------------------------------------------------


def lines(calibrator):
    return [json.loads(line) for line in exported(calibrator).splitlines()]


def test_the_line_of_an_archived_entry_has_what_it_carries(calibrator, archives):
    _, archived, *_, end = lines(calibrator)
    assert list(archived)[-4:] == ["note", "archived_head", "archived_through", "archived_digest"]
    assert (archived["entry"], archived["seq"], archived["archived_through"]) == ("archived", 9, 13)
    assert (archived["note"], end["end"]["entries"]) == ("to 2.jsonl", 5)


def test_no_field_of_it_can_change(calibrator, other, archives, tmp_path):
    good = lines(calibrator)
    path = tmp_path / "edited.jsonl"
    for name, value in good[1].items():
        flipped = f"{value}"[:-1] + ("0" if f"{value}"[-1] != "0" else "1")
        changed = value + 1 if isinstance(value, int | float) else flipped
        for wrong in (changed, None, ..., "", [1], -1, 2**60):
            if wrong == value or (name in {"rule_state", "note"} and value in (None, wrong)):
                continue
            edited = [dict(line) for line in good]
            edited[1][name] = wrong
            if wrong is ...:
                del edited[1][name]
            path.write_text("".join(json.dumps(line) + "\n" for line in edited))
            if name == "rule_state" and wrong in (..., ""):
                continue
            with pytest.raises(ImportRefusedError):
                other.import_calls("ledger", path)
    assert other.heads() == []


def test_an_archived_entry_stands_first_in_a_file(calibrator, other, archives, tmp_path):
    good = lines(calibrator)
    whole = [json.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    forged = [*whole[:9], good[1], *whole[10:]]
    path = tmp_path / "forged.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in forged))
    with pytest.raises(ImportRefusedError, match="archived: expected the first entry"):
        other.import_calls("ledger", path)


@pytest.mark.parametrize("seq", [0, -1, 2**53, 2**70])
def test_an_absurd_seq_is_refused_at_once(calibrator, other, archives, tmp_path, seq):
    good = lines(calibrator)
    good[1]["seq"] = seq
    for i, line in enumerate(good[2:-2]):
        line["seq"] = seq + 1 + i
    good[-2]["seq"] = seq + len(good) - 4
    path = tmp_path / "forged.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in good))
    with pytest.raises(ImportRefusedError):
        other.import_calls("ledger", path)


def test_a_ledger_of_many_transactions_comes_back(calibrator, other, tmp_path):
    record_two_models(calibrator, 1300)
    text, heads = exported(calibrator), calibrator.heads()
    told = []
    calibrator.archive(soon(1200), tmp_path / "old.jsonl.gz", progress=told.append)
    assert sum(told) == 2 * 2 * 1200 + 2
    now = exported(calibrator)
    assert calibrator.heads() == heads
    report = other.import_calls("ledger", io.StringIO(now))
    assert (report.recorded, report.adjustments) == (200, 2)
    assert exported(other) == now
    # The copy grows on, and gets its beginning back.
    calibrator.record_many(
        {"model": "a", "prompt_tokens": 1, "completion_tokens": 2, "actual_ms": 3.0}
        for i in range(1100)
    )
    assert other.import_calls("ledger", io.StringIO(exported(calibrator))).recorded == 1100
    report = other.import_calls("ledger", tmp_path / "old.jsonl.gz")
    assert (report.recorded, report.adjustments, report.models_extended) == (2400, 2, 2)
    calibrator.import_calls("ledger", tmp_path / "old.jsonl.gz")
    assert exported(other) == exported(calibrator)
    assert len(exported(calibrator)) > len(text)


def test_times_at_the_cut_are_half_open(calibrator, tmp_path):
    for i in range(3):
        calibrator.record("m", 1, 2.0, called_at=soon(i))
    assert calibrator.archivable(soon(1)).calls == 1
    assert calibrator.archivable(soon(1) + timedelta(microseconds=1)).calls == 2
    assert calibrator.archivable(soon(1) - timedelta(microseconds=1)).calls == 1
    assert calibrator.archivable(soon(0)).models == ()
