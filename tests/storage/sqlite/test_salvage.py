"""Salvage: of a damaged ledger, every call that is still there is read, and no other one."""

import csv
import dataclasses
import io
import json
import random
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.facts import LostRange
from calibration_ledger.core.history import voids_ranges
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerCorruptError,
    LedgerError,
    LedgerNotFoundError,
    ModelNotFoundError,
    NotALedgerError,
)
from calibration_ledger.storage.migrate import begun_file, run_migrations
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.sqlite import raw_pages
from calibration_ledger.verbs.doctor import doctor_of
from calibration_ledger.verbs.export import salvage
from support.by_hand import edited

PAGE = 4096
MODELS = ("alpha", "beta", "gamma")
CALLS = 400
ROWS_TO_A_PAGE = 130
START = datetime(2026, 1, 2, tzinfo=UTC)


def some_calls(model, count):
    """Calls of different sizes; every fifth has a request id, and some have details."""
    for i in range(count):
        yield Call(
            model,
            i % 900,
            i % 70,
            0.5 * i if i % 3 else float(i),
            START + timedelta(seconds=i),
            f"{model}-{i}" if i % 5 == 0 else None,
            {"ttft_ms": i / 7, "clock": "x" * (i % 40)} if i % 10 == 0 else None,
        )


@pytest.fixture(scope="module", name="sound")
def _sound(tmp_path_factory):
    """A ledger of 3 x 400 calls, closed, so that the file is all there is."""
    path = tmp_path_factory.mktemp("sound") / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        for part in range(4):  # by turns, so that the models' pages are mixed
            for model in MODELS:
                calls = list(some_calls(model, CALLS))
                calibrator.record_many(calls[part * 100 : part * 100 + 100])
        assert calibrator.audit() == []
    return path


@pytest.fixture(scope="module", name="truth")
def _truth(sound):
    with AdaptiveCalibrator(sound) as calibrator:
        return {(call.model, call.seq): call for call in calibrator.calls()}


@pytest.fixture(scope="module", name="pages")
def _pages(sound):
    """The numbers of the pages of each table, from 1, by the rows that are on them."""
    found = {table: [] for table in raw_pages._INSERTS}
    data = sound.read_bytes()
    for number in range(1, len(data) // PAGE + 1):
        page = data[(number - 1) * PAGE : number * PAGE]
        for table in {table for table, _ in raw_pages._rows(page, 100 if number == 1 else 0)}:
            found[table].append(number)
    return found


@pytest.fixture(name="damaged")
def _damaged(sound, tmp_path):
    """Make a copy whose pages (from 1) are overwritten."""

    def damaged(*numbers, content=b"\xa5" * PAGE):
        path = tmp_path / "damaged.db"
        shutil.copy(sound, path)
        with path.open("r+b") as file:
            for number in numbers:
                file.seek((number - 1) * PAGE)
                file.write(content)
        return path

    return damaged


class Salvaged:
    """What a salvage as JSON lines gave."""

    def __init__(self, path, **options):
        text = io.StringIO()
        self.report = salvage(find_place(path), "jsonl", text, **options)
        self.text = text.getvalue()
        self.calls = {}
        for line in self.text.splitlines():
            values = json.loads(line)
            values["called_at"] = datetime.fromisoformat(values["called_at"])
            call = Call(**values)
            self.calls[call.model, call.seq] = call
        assert self.report.calls == len(self.calls) == len(self.text.splitlines())

    def is_lost(self, model, seq):
        return any(covers(lost, model, seq) for lost in self.report.lost)

    def may_lack_details(self, model, seq):
        return any(covers(lost, model, seq) for lost in self.report.incomplete)


def covers(lost, model, seq):
    return lost.model == model and lost.first <= seq and (lost.last is None or seq <= lost.last)


def check(salvaged, truth):
    """Nothing is made up, and nothing is missing without a word; gives how many are lost."""
    for key, call in salvaged.calls.items():
        first = truth[key]
        if call != first:
            assert salvaged.may_lack_details(*key), key
            assert call.request_id in {None, first.request_id}
            assert call.details in (None, first.details)
            full = dataclasses.replace(call, request_id=first.request_id, details=first.details)
            assert full == first
    missing = truth.keys() - salvaged.calls.keys()
    assert {key for key in missing if not salvaged.is_lost(*key)} == set()
    assert {key for key in salvaged.calls if salvaged.is_lost(*key)} == set()
    return len(missing)


# -- damage ---------------------------------------------------------------------------------


def test_a_sound_ledger_is_salvaged_whole(sound, truth):
    salvaged = Salvaged(sound)
    assert salvaged.calls == truth
    report = salvaged.report
    assert (report.models, report.calls, report.adjustments) == (3, 1200, 0)
    assert (report.lost, report.incomplete, report.stand_ins) == ((), (), ())


def test_whichever_page_is_overwritten_only_what_was_on_it_is_lost(sound, truth, pages, damaged):
    for number in range(1, sound.stat().st_size // PAGE + 1):
        salvaged = Salvaged(damaged(number))
        lost = check(salvaged, truth)
        assert lost <= (ROWS_TO_A_PAGE if number in pages["calls"] else 0), number
        assert {model for model, _ in salvaged.calls} == set(MODELS)


@pytest.mark.parametrize("content", [bytes(PAGE), b"text\n" * 819 + b"\n", b"\xff" * PAGE])
def test_with_whatever_it_is_overwritten(truth, pages, damaged, content):
    middle = pages["calls"][len(pages["calls"]) // 2]
    salvaged = Salvaged(damaged(middle, content=content))
    assert 0 < check(salvaged, truth) <= ROWS_TO_A_PAGE
    with AdaptiveCalibrator(damaged(middle, content=content)) as calibrator:
        calls = calibrator.calls()
        with pytest.raises(LedgerCorruptError, match="--salvage"):
            list(calls)


def test_a_page_in_the_wrong_place_is_seen_through(sound, truth, pages, damaged):
    """As a disk makes it that writes to the wrong place: a sound page, but another one's."""
    data = sound.read_bytes()
    calls, details = pages["calls"], pages["call_details"]
    for number, other in [(calls[2], calls[3]), (calls[2], details[1]), (details[1], calls[2])]:
        content = data[(other - 1) * PAGE : other * PAGE]
        check(Salvaged(damaged(number, content=content)), truth)


@given(st.data())
def test_many_pages_at_once(sound, truth, tmp_path_factory, data):
    count = sound.stat().st_size // PAGE
    numbers = data.draw(st.sets(st.integers(1, count), min_size=2, max_size=count // 2))
    noise = random.Random(len(numbers))
    path = tmp_path_factory.mktemp("many") / "damaged.db"
    shutil.copy(sound, path)
    with path.open("r+b") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE)
            file.write(noise.randbytes(PAGE))
    try:
        salvaged = Salvaged(path)
    except NotALedgerError:
        return  # nothing of it was left
    # Where a model's name is lost, its calls are under a name that stands for it.
    names = {f"unreadable-model-{i}": model for i, model in enumerate(MODELS, 1)}
    known = {(names.get(model, model), seq): call for (model, seq), call in salvaged.calls.items()}
    assert {key: call.actual_ms for key, call in known.items()} == {
        key: truth[key].actual_ms for key in known
    }
    lost = [one._replace(model=names.get(one.model, one.model)) for one in salvaged.report.lost]
    for key in truth.keys() - known.keys():
        in_a_trace = any(model == key[0] for model, _ in known) or any(
            one.model == key[0] for one in lost
        )
        assert not in_a_trace or any(covers(one, *key) for one in lost), key


def test_the_first_page_is_not_needed(truth, damaged):
    salvaged = Salvaged(damaged(1))
    assert salvaged.calls == truth
    assert salvaged.report.lost == ()
    # Nothing tells any more whether there were details on pages that are gone.
    assert {lost.model for lost in salvaged.report.incomplete} == set(MODELS)


def test_names_that_are_lost_get_a_stand_in(truth, pages, damaged):
    salvaged = Salvaged(damaged(*pages["models"]))
    assert salvaged.report.stand_ins == tuple(f"unreadable-model-{i}" for i in (1, 2, 3))
    assert sorted(call.actual_ms for call in salvaged.calls.values()) == sorted(
        call.actual_ms for call in truth.values()
    )


def test_without_calibrations_the_end_is_unknown_only_where_it_is_damaged(truth, pages, damaged):
    assert Salvaged(damaged(*pages["calibrations"])).calls == truth
    last = Salvaged(damaged(*pages["calibrations"], *pages["calls"][-2:])).report.lost
    assert any(lost.last is None for lost in last)
    whole = Salvaged(damaged(*pages["calibrations"], *pages["adjustments"], *pages["models"]))
    assert len(whole.calls) == len(truth)


def test_the_last_pages_of_a_ledger_whose_beginning_is_gone(truth, pages, damaged):
    """Their numbers are higher than the rows that are left could be."""
    last = [number for number in pages["calls"] if number > pages["calls"][-2]]
    gone = {1, *pages["calibrations"], *pages["calls"]} - set(last)
    salvaged = Salvaged(damaged(*gone))
    check(salvaged, truth)
    assert len(salvaged.calls) > 30


@pytest.fixture(scope="module", name="wordy")
def _wordy(tmp_path_factory):
    """400 calls whose details each go on on a page of their own, which no harvest follows."""
    path = tmp_path_factory.mktemp("wordy") / "calls.db"
    details = {"x": "y" * 2000}
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(
            [Call("m", i, 1, 2.0, request_id=f"m-{i}", details=details) for i in range(400)]
        )
    return path


def test_long_details_between_two_damaged_pages_are_read(wordy, tmp_path):
    path = tmp_path / "damaged.db"
    data = wordy.read_bytes()
    numbered = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    leaves = [n for n, page in enumerate(numbered) if page[0] == 0x0A and b"yyyy" in page]
    for at in (len(leaves) // 4, len(leaves) * 3 // 4):
        numbered[leaves[at]] = b"\xa5" * PAGE
    path.write_bytes(b"".join(numbered))
    salvaged = Salvaged(path)
    assert len(salvaged.calls) == 400
    assert sum(call.details is not None for call in salvaged.calls.values()) >= 380
    assert sum(call.request_id is not None for call in salvaged.calls.values()) >= 380


def test_adjustments_that_are_lost_are_lost_entries(damaged, pages):
    lost = Salvaged(damaged(*pages["adjustments"])).report.lost
    assert lost == tuple(LostRange(model, 1, 1) for model in MODELS)


CUTS = (0.25, 0.5, 0.88, 0.895, 0.9, 0.905, 0.909, 0.92, 0.923, 0.93, 0.963, 0.987)
"""Parts of a file. At most of those from 0.9 on, some row looks whole with zeros for its end."""


@pytest.mark.parametrize("part", CUTS)
def test_a_truncated_file_gives_what_is_left(sound, truth, damaged, part):
    """No row is completed with zeros, as SQLite does with a page that ends too early."""
    path = damaged()
    with path.open("r+b") as file:
        file.truncate(int(sound.stat().st_size * part) // 512 * 512)
    salvaged = Salvaged(path)
    assert 0 < check(salvaged, truth) < len(truth)
    readable = doctor_of(path).facts.readable
    assert (readable.calls, readable.lost) == (salvaged.report.calls, salvaged.report.lost)


@pytest.mark.stress
def test_wherever_a_file_is_truncated(sound, truth, damaged):
    path = damaged()
    size = sound.stat().st_size
    for end in range(size - 64, size - 4 * PAGE, -64):
        with path.open("r+b") as file:
            file.truncate(end)
        assert 0 < check(Salvaged(path), truth) < len(truth), end


def test_rows_that_the_end_of_a_file_leaves_whole_are_found(sound, truth, pages, damaged):
    """On the last page, they lie from its end towards its start; the first ones are lost."""
    last = pages["calls"][-1] * PAGE
    assert last == sound.stat().st_size
    path = damaged()
    lost = []
    for end in (last - 1, last - PAGE // 2, last - PAGE + 200):
        with path.open("r+b") as file:
            file.truncate(end)
        lost.append(check(Salvaged(path), truth))
    assert lost[0] == 1 < lost[1] < lost[2] - 10


def test_without_room_for_a_copy_a_truncated_file_gives_a_sentence(damaged, tmp_path, monkeypatch):
    path = damaged()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - PAGE // 2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(LedgerError, match="TMPDIR"):
        Salvaged(path)
    facts = doctor_of(path).facts
    assert (facts.state, facts.readable) == ("damaged", None)


@pytest.mark.parametrize("is_truncated", [False, True])
def test_what_is_still_in_the_log_is_read_too(damaged, truth, pages, tmp_path, is_truncated):
    path = damaged()
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many([Call("delta", 1, 2, 3.0 + i) for i in range(50)])
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal"):  # not opened here: that would drop the locks of the calibrator
            subprocess.run(["cp", f"{path}{suffix}", f"{copy}{suffix}"], check=True)
    with copy.open("r+b") as file:
        if is_truncated:
            file.truncate(pages["calls"][-2] * PAGE - PAGE // 2)
        file.seek((pages["calls"][3] - 1) * PAGE)
        file.write(bytes(PAGE))
    salvaged = Salvaged(copy)
    new = {key: call for key, call in salvaged.calls.items() if key[0] == "delta"}
    assert sorted(call.actual_ms for call in new.values()) == [3.0 + i for i in range(50)]
    salvaged.calls = {key: call for key, call in salvaged.calls.items() if key[0] != "delta"}
    check(salvaged, truth)


# -- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "actual_ms = -5.0",
        "actual_ms = 9e999",
        "predicted_ms = -0.5",
        "prompt_tokens = -1",
        "completion_tokens = 2147483648",
        "predicted_ms = 0.0",
        "called_at = -1",
        "called_at = 9223372036854775807",
    ],
)
def test_a_row_that_cannot_be_a_call_is_lost(truth, damaged, change):
    path = edited(damaged(), f"UPDATE calls SET {change} WHERE model_id = 2 AND seq = 100")
    salvaged = Salvaged(path)
    assert salvaged.report.lost == (LostRange("beta", 100, 100),)
    assert check(salvaged, truth) == 1


def test_rows_that_are_gone_are_lost(truth, damaged):
    gone = "DELETE FROM calls WHERE model_id = 1 AND seq IN (7, 8, 9, 20)"
    salvaged = Salvaged(edited(damaged(), gone))
    assert salvaged.report.lost == (LostRange("alpha", 7, 9), LostRange("alpha", 20, 20))
    check(salvaged, truth)


@pytest.mark.parametrize(
    "change",
    [
        "details = CAST(x'ff' AS TEXT)",
        "details = '{'",
        "details = '[1]'",
        "request_id = CAST(x'ff' AS TEXT)",
        "request_id = ''",
        "request_id = char(0) || 'x'",
    ],
)
def test_details_that_are_garbage_are_left_out_and_told(truth, damaged, change):
    path = edited(damaged(), f"UPDATE call_details SET {change} WHERE model_id = 1 AND seq = 12")
    salvaged = Salvaged(path)
    assert salvaged.report.incomplete == (LostRange("alpha", 12, 12),)
    assert len(salvaged.calls) == len(truth)
    check(salvaged, truth)


def test_entries_that_were_archived_are_not_lost(truth, damaged):
    path = edited(
        damaged(),
        "DELETE FROM call_details WHERE model_id = 1 AND seq <= 100",
        "DELETE FROM calls WHERE model_id = 1 AND seq <= 100",
        "UPDATE adjustments SET seq = 100, kind = 'archived' WHERE model_id = 1",
    )
    salvaged = Salvaged(path)
    assert salvaged.report.lost == ()
    assert len(salvaged.calls) == len(truth) - 99


@pytest.fixture(name="archived")
def _archived(sound, tmp_path):
    """The ledger with the first 150 calls of each model archived."""
    path = tmp_path / "archived.db"
    shutil.copy(sound, path)
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.archive(START + timedelta(seconds=150), tmp_path / "old.jsonl")
        assert calibrator.audit() == []
    return path


def test_a_ledger_that_was_archived_is_salvaged_from_there_on(truth, archived):
    salvaged = Salvaged(archived)
    assert salvaged.report.lost == ()
    assert salvaged.calls.keys() == {key for key in truth if key[1] > 151}
    check(salvaged, {key: truth[key] for key in salvaged.calls})


def test_pages_lost_after_an_archive_are_told_as_such(truth, archived):
    data = archived.read_bytes()
    numbered = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    for number, page in enumerate(numbered):
        if number and "adjustments" in {table for table, _ in raw_pages._rows(page, 0)}:
            numbered[number] = b"\xa5" * PAGE
    archived.write_bytes(b"".join(numbered))
    salvaged = Salvaged(archived)
    # Without the archived entries, nothing tells that what came before them is not lost.
    assert {(lost.model, lost.first) for lost in salvaged.report.lost} == {
        (model, 1) for model in MODELS
    }
    assert len(salvaged.calls) == len(truth) - 3 * 150
    check(salvaged, truth)


def test_the_doctor_finds_an_archived_ledger_sound(archived):
    with AdaptiveCalibrator(archived) as calibrator:
        facts = calibrator.doctor().facts
    assert (facts.state, facts.damage) == ("current", ())
    assert dict(facts.rows)["calls"] == 3 * (CALLS - 150)


@pytest.mark.parametrize("voids", ["2..90,95", ",".join(map(str, range(2, 600, 2)))])
@pytest.mark.parametrize("is_first_page_lost", [False, True])
def test_a_voided_entry_is_no_lost_call(truth, damaged, voids, is_first_page_lost):
    """Found by the tables and without them, unless it goes on on another page."""
    path = edited(
        damaged(),
        "UPDATE calibrations SET last_seq = 402 WHERE model_id = 1",
        "INSERT INTO adjustments SELECT model_id, 402, 'voided', recorded_at, rule, alpha,"
        " ms_per_prompt_token, ms_per_completion_token, base_overhead_ms, total_absolute_error_ms,"
        " total_predicted_ms, sample_count, rule_state, updated_at, NULL, NULL, NULL, NULL,"
        f" '{voids}' FROM adjustments WHERE model_id = 1",
    )
    if is_first_page_lost:
        with path.open("r+b") as file:
            file.write(b"\xa5" * PAGE)
    salvaged = Salvaged(path)
    is_unread = is_first_page_lost and len(voids) > 1000
    assert salvaged.report.lost == ((LostRange("alpha", 402, 402),) if is_unread else ())
    named = {seq for a, b in voids_ranges(voids) for seq in range(a, b + 1)}
    for (model, seq), call in truth.items():
        is_voided = not is_unread and model == "alpha" and seq in named
        assert salvaged.calls.pop((model, seq)) == dataclasses.replace(call, voided=is_voided)
    assert salvaged.calls == {}


@pytest.mark.parametrize("is_first_page_lost", [False, True])
def test_a_ledger_of_revision_0001_is_salvaged_as_well(truth, damaged, is_first_page_lost):
    """Its adjustments end a column earlier."""
    path = damaged()
    with begun_file(find_place(path), 5.0) as connection:
        run_migrations(connection, "0001")
    if is_first_page_lost:
        with path.open("r+b") as file:
            file.write(b"\xa5" * PAGE)
    salvaged = Salvaged(path)
    assert salvaged.report.lost == ()
    assert salvaged.calls == truth


def test_a_name_that_is_garbage_gets_a_stand_in(truth, damaged):
    path = edited(damaged(), "UPDATE models SET model = CAST(x'ff' AS TEXT) WHERE id = 3")
    salvaged = Salvaged(path)
    assert salvaged.report.stand_ins == ("unreadable-model-3",)
    assert len(salvaged.calls) == len(truth)


# -- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_what_was_salvaged_can_be_imported(kind, truth, pages, damaged, tmp_path):
    path = damaged(pages["calls"][4], pages["call_details"][1])
    file = tmp_path / f"salvaged.{kind}"
    report = salvage(find_place(path), kind, file)
    with AdaptiveCalibrator(tmp_path / "new.db") as calibrator:
        done = calibrator.import_calls(kind, file)
        assert (done.recorded, done.skipped) == (report.calls, 0)
        assert report.calls < len(truth)
        ours = {(call.model, call.called_at): call for call in truth.values()}
        for call in calibrator.calls():
            first = ours[call.model, call.called_at]
            assert (call.prompt_tokens, call.completion_tokens, call.actual_ms) == (
                first.prompt_tokens,
                first.completion_tokens,
                first.actual_ms,
            )
        assert calibrator.audit() == []


def test_csv_has_the_columns_of_an_export(sound, tmp_path):
    with AdaptiveCalibrator(sound) as calibrator:
        calibrator.export_ledger("csv", tmp_path / "export.csv")
        report = calibrator.export_ledger("csv", tmp_path / "salvage.csv", salvage=True)
    assert report.calls == 1200
    assert (tmp_path / "export.csv").read_bytes() == (tmp_path / "salvage.csv").read_bytes()
    with (tmp_path / "salvage.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 1200


def test_one_model_can_be_chosen(damaged, pages):
    path = damaged(pages["calls"][4])
    assert {model for model, _ in Salvaged(path, model="beta").calls} == {"beta"}
    with pytest.raises(ModelNotFoundError, match="'nobody'"):
        Salvaged(path, model="nobody")
    with pytest.raises(InvalidInputError):
        Salvaged(path, model="")


def test_progress_counts_the_calls(sound):
    steps = []
    Salvaged(sound, progress=steps.append)
    assert sum(steps) == 1200


def test_the_report_can_be_json(damaged, pages):
    report = Salvaged(damaged(pages["calls"][4])).report.to_dict()
    assert json.loads(json.dumps(report)) == report
    assert report["lost"][0].keys() == {"model", "first", "last"}


def test_the_ledger_itself_is_not_touched(damaged, pages, tmp_path):
    path = damaged(pages["calls"][4])
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="the ledger itself"):
        salvage(find_place(path), "csv", path, overwrite=True)
    salvage(find_place(path), "csv", tmp_path / "out.csv")
    with pytest.raises(InvalidInputError, match="exists already"):
        salvage(find_place(path), "csv", tmp_path / "out.csv")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"no database\n" * 1000, bytes(5 * PAGE), b"SQLite format 3\0"]
)
def test_what_never_was_a_ledger_gives_a_sentence(tmp_path, content):
    path, out = tmp_path / "other", tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(NotALedgerError, match="nothing of a ledger"):
        salvage(find_place(path), "jsonl", out)
    assert path.read_bytes() == content
    assert not out.exists()


def test_a_database_of_something_else_gives_a_sentence(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
    with pytest.raises(NotALedgerError, match="nothing of a ledger"):
        salvage(find_place(path), "jsonl", tmp_path / "out.jsonl")


def test_what_is_not_there_cannot_be_salvaged(tmp_path):
    with pytest.raises(LedgerNotFoundError):
        salvage(find_place(tmp_path / "missing.db"), "csv", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInputError, match="only files are salvaged"):
        salvage(find_place(":memory:"), "csv", tmp_path / "out.csv")
