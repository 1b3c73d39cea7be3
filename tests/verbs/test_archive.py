"""Archives: what was old lies in a file, and everything else is as it was."""

import io
import json
import threading
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    ExportFailedError,
    HistoryArchivedError,
    InvalidInputError,
    LedgerCorruptError,
    LedgerNotFoundError,
    ModelNotFoundError,
    NotRecordedError,
)
from calibration_ledger.verbs import archive as archiving
from support.by_hand import edited
from support.importing import exported
from support.reference import digest_of, entries_of, fold_file, numbers_of
from support.threads import Crowd

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)  # of `make_call`
LATER = datetime(2100, 1, 1, tzinfo=UTC)


def at(i):
    """When the i-th of `make_call`'s calls was made."""
    return START + timedelta(seconds=i)


def when_recalibrated():
    """In microseconds."""
    return int(at(599).timestamp() * 1e6)


def seqs(calibrator, model="m"):
    return [call.seq for call in calibrator.calls(model)]


@pytest.fixture
def filled(calibrator, make_call, monkeypatch):
    """Two models of 1,200 calls in several pages, one recalibrated in the middle, at its time."""
    for model in ("m", "n"):
        for part in range(2):
            calibrator.record_many(
                make_call(
                    i,
                    model,
                    request_id=f"r-{i}" if i % 3 else None,
                    details={"ttft_ms": i / 7} if i % 5 == 0 else None,
                )
                for i in range(part * 600, part * 600 + 600)
            )
            if part == 0 and model == "m":
                with monkeypatch.context() as patch:
                    patch.setattr("calibration_ledger.verbs.replay.now_us", when_recalibrated)
                    calibrator.recalibrate(0.4, model="m")
    calibrator.record_many([make_call(1200, "only new")])
    return calibrator


# -- what goes and what stays -----------------------------------------------------------------


def test_the_oldest_entries_move_to_a_file_and_everything_else_stays(filled, ledger, tmp_path):
    before = {
        "heads": filled.heads(),
        "stats": filled.all_stats(),
        "calls": list(filled.calls()),
        "live": [filled.calibration(m) for m in ("m", "n", "only new")],
    }
    promised = filled.archivable(at(300))
    report = filled.archive(at(300), tmp_path / "old.jsonl")
    assert [(m.model, m.calls, m.adjustments, m.seq) for m in report.models] == [
        ("m", 300, 1, 301),
        ("n", 300, 1, 301),
    ]
    assert [m[:4] for m in promised.models] == [m[:4] for m in report.models]
    assert (report.calls, report.adjustments, report.trouble) == (600, 2, None)
    assert filled.heads() == before["heads"]
    assert filled.all_stats() == before["stats"]
    assert [filled.calibration(m) for m in ("m", "n", "only new")] == before["live"]
    moved = [call for call in before["calls"] if call.seq <= 301 and call.model != "only new"]
    assert list(filled.calls()) == [call for call in before["calls"] if call not in moved]
    assert filled.audit(heads=before["heads"]) == []
    for head in before["heads"]:
        assert digest_of(ledger, head.model) == head.digest
        fold_file(ledger, head.model)
    with AdaptiveCalibrator(":memory:") as other:
        other.import_calls("ledger", tmp_path / "old.jsonl")
        assert list(other.calls()) == moved
        assert [head.digest for head in other.heads()] == [m.head for m in report.models]
        assert other.audit() == []
    assert [head[:3] for head in filled.archived()] == [
        (m.model, m.seq, m.head) for m in report.models
    ]


def test_replays_begin_with_the_archived_state_and_give_the_live_one(filled, ledger, tmp_path):
    for i in (300, 700, 900):
        filled.archive(at(i), tmp_path / f"{i}.jsonl")
        for replay in filled.replay():
            assert replay.calibration == filled.calibration(replay.model)
            assert replay.n == len(seqs(filled, replay.model))
        for replay in filled.replay(0.7):
            expected = fold_file(ledger, replay.model, 0.7)
            assert numbers_of(replay.calibration) == expected.numbers()


def test_an_archived_ledger_goes_on_like_one_that_was_not(filled, make_call, tmp_path):
    with AdaptiveCalibrator(":memory:") as twin:
        twin.import_calls("ledger", io.StringIO(exported(filled)))
        filled.archive(at(700), tmp_path / "old.jsonl")
        for calibrator in (filled, twin):
            calibrator.record_many(make_call(2000 + i, "m", request_id=f"x{i}") for i in range(9))
        assert filled.heads() == twin.heads()
        assert filled.record("m", 5, 6.0, called_at=at(1)) == twin.record(
            "m", 5, 6.0, called_at=at(1)
        )
        assert filled.heads() == twin.heads()
        filled.reset()
        filled.record("m", 7, 8.0)
        filled.recalibrate(0.8)
        assert filled.audit() == []


def test_a_recalibration_after_an_archive_holds(filled, tmp_path):
    filled.archive(at(300), tmp_path / "old.jsonl")
    for alpha in (0.9, 0.2):
        filled.recalibrate(alpha)
        assert filled.audit() == []
        assert {r.calibration.alpha for r in filled.replay()} == {alpha}
    filled.archive(at(800), tmp_path / "more.jsonl")
    filled.recalibrate(0.7)
    assert filled.audit() == []


def test_an_entry_made_later_keeps_what_is_behind_it(calibrator, make_call, tmp_path):
    """Order is by seq: a call made earlier and recorded later stays."""
    calibrator.record_many(make_call(i, "m") for i in (0, 1, 9, 2, 3))
    report = calibrator.archive(at(5), tmp_path / "old.jsonl")
    assert [(m.calls, m.seq) for m in report.models] == [(2, 3)]
    assert seqs(calibrator) == [4, 5, 6]


def test_an_adjustment_made_later_stays_but_an_opening_goes(calibrator, make_call, tmp_path):
    """Calls that are imported long after they were made follow an opening of today."""
    calibrator.record_many([make_call(0, "m")])
    calibrator.reset("m")
    calibrator.record_many([make_call(1, "m")])
    report = calibrator.archive(at(5), tmp_path / "old.jsonl")
    assert [(m.calls, m.adjustments, m.seq) for m in report.models] == [(1, 1, 2)]
    assert [entry.kind for entry in calibrator_entries(calibrator)] == ["archived", "reset"]
    calibrator.archive(LATER, tmp_path / "rest.jsonl")
    assert seqs(calibrator) == []
    assert calibrator.record("m", 1, 2.0) is not None
    assert seqs(calibrator) == [5]


def calibrator_entries(calibrator):

    live = calibrator._ledger.find("m")
    return calibrator._ledger.history(live).adjustments


def test_a_whole_history_can_go_and_comes_back(filled, tmp_path):
    text, heads = exported(filled), filled.heads()
    filled.archive(LATER, tmp_path / "all.jsonl")
    assert list(filled.calls()) == []
    assert filled.audit(heads=heads) == []
    assert (tmp_path / "all.jsonl").read_text() == text
    filled.import_calls("ledger", tmp_path / "all.jsonl")
    assert exported(filled) == text


def test_archives_come_back_the_newest_first(filled, tmp_path):
    texts = [exported(filled)]
    for i in (300, 301, 700, 1100):
        filled.archive(at(i), tmp_path / f"{i}.jsonl.gz")
        texts.append(exported(filled))
    for i in (1100, 700, 301, 300):
        texts.pop()
        report = filled.import_calls("ledger", tmp_path / f"{i}.jsonl.gz")
        assert (report.models, report.models_extended) == (2, 2)
        assert exported(filled) == texts[-1]
        assert filled.audit() == []
        again = filled.import_calls("ledger", tmp_path / f"{i}.jsonl.gz")
        assert (again.recorded, again.adjustments, again.models_unchanged) == (0, 0, 2)


def test_one_model_is_archived_alone(filled, tmp_path):
    report = filled.archive(at(300), tmp_path / "old.jsonl", model="n")
    assert [m.model for m in report.models] == ["n"]
    assert seqs(filled)[0] == 2


def test_an_archived_entry_says_where_it_went(filled, ledger, tmp_path):
    filled.archive(at(300), tmp_path / "old.jsonl")
    first, *_ = entries_of(ledger, "m")
    assert (first["kind"], first["seq"], first["note"]) == ("archived", 301, "to old.jsonl")
    assert first["archived_through"] == filled.heads()[0].seq


def test_request_ids_that_were_archived_are_forgotten_and_come_back(
    calibrator, make_call, tmp_path
):
    calibrator.record_many(make_call(i, "m", request_id=f"r{i}") for i in range(4))
    calibrator.archive(at(2), tmp_path / "old.jsonl")
    heads = calibrator.heads()
    calibrator.record_many([make_call(3, "m", request_id="r3")])
    assert calibrator.heads() == heads
    calibrator.import_calls("ledger", tmp_path / "old.jsonl")
    calibrator.record_many([make_call(0, "m", request_id="r0")])
    assert calibrator.heads() == heads
    calibrator.archive(at(2), tmp_path / "again.jsonl")
    calibrator.record_many([make_call(0, "m", request_id="r0")])
    assert calibrator.heads() != heads


# -- nothing happens --------------------------------------------------------------------------


def test_where_there_is_nothing_to_archive_no_file_is_made(filled, tmp_path):
    text = exported(filled)
    report = filled.archive(START, tmp_path / "old.jsonl")
    assert report.models == ()
    filled.archive(at(300), tmp_path / "old.jsonl")
    assert filled.archive(at(300), tmp_path / "again.jsonl").models == ()
    assert not (tmp_path / "again.jsonl").exists()
    assert exported(filled) != text


def test_a_ledger_that_is_not_there_is_not_made(tmp_path):
    with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
        with pytest.raises(LedgerNotFoundError):
            calibrator.archive(LATER, tmp_path / "old.jsonl")
        assert calibrator.archived() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("2026-01-01", "before must be a datetime"),
        (None, "before must be a datetime"),
        (datetime(2026, 1, 1), "before has no time zone"),  # noqa: DTZ001 - which is refused
        (datetime(1969, 1, 1, tzinfo=UTC), "before must lie between 1970"),
    ],
)
def test_a_time_that_is_none_is_refused(filled, tmp_path, before, said):
    for refused in (
        lambda: filled.archive(before, tmp_path / "old.jsonl"),
        lambda: filled.archivable(before),
    ):
        with pytest.raises(InvalidInputError, match=said):
            refused()
    assert not (tmp_path / "old.jsonl").exists()


def test_a_place_that_cannot_be_taken_is_refused_and_nothing_changes(filled, tmp_path):
    text = exported(filled)
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "begun.partial").write_text("other's")
    for target, said in (
        (tmp_path / "taken", r"exists already: name a file that does not\.$"),
        (tmp_path / "begun", "another export runs"),
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "x", "its folder does not exist"),
        ("x\0y", "cannot be written"),
        (io.StringIO(), "an archive goes to a path"),
        (7, "an archive goes to a path"),
        (None, "an archive goes to a path"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            filled.archive(LATER, target)
    assert (tmp_path / "taken").read_text() == "mine"
    assert exported(filled) == text


def test_a_model_never_seen_is_an_error(filled, tmp_path):
    with pytest.raises(ModelNotFoundError):
        filled.archive(LATER, tmp_path / "old.jsonl", model="unseen")
    with pytest.raises(InvalidInputError):
        filled.archivable(LATER, model="")


def test_a_history_that_does_not_explain_itself_is_not_archived(ledger_path, make_call, tmp_path):
    for statement in (
        "UPDATE calls SET actual_ms = actual_ms + 1 WHERE seq = 5",
        "UPDATE calls SET called_at = called_at + 1 WHERE seq = 5",
        "UPDATE calls SET called_at = called_at + 1 WHERE seq = 15",
        "DELETE FROM calls WHERE seq = 5",
        "UPDATE calibrations SET alpha = 0.5",
    ):
        ledger_path.unlink(missing_ok=True)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            calibrator.record_many(make_call(i, "m") for i in range(20))
        edited(ledger_path, statement)
        with AdaptiveCalibrator(ledger_path) as calibrator:
            findings, calls = calibrator.audit(), seqs(calibrator)
            with pytest.raises(LedgerCorruptError, match="does not explain itself"):
                calibrator.archive(at(10), tmp_path / "old.jsonl")
            assert (calibrator.audit(), seqs(calibrator)) == (findings, calls)
        assert list(tmp_path.glob("old*")) == []


@pytest.mark.parametrize("harm", ["cut", "digit", "gone", "other"])
def test_a_file_that_does_not_read_back_costs_nothing(filled, tmp_path, monkeypatch, harm):
    text, sync = exported(filled), archiving._sync

    def harmed(path):
        sync(path)
        lines = path.read_text().splitlines(keepends=True)
        if harm == "cut":
            lines.pop()
        elif harm == "digit":
            lines[100] = lines[100].replace(":1", ":2", 1)
        elif harm == "other":
            with AdaptiveCalibrator(":memory:") as other:
                other.record("m", 1, 2.0)
                lines = exported(other).splitlines(keepends=True)
        path.write_text("".join(lines))
        if harm == "gone":
            path.unlink()

    monkeypatch.setattr(archiving, "_sync", harmed)
    with pytest.raises(ExportFailedError, match="does not read back"):
        filled.archive(at(300), tmp_path / "old.jsonl")
    assert exported(filled) == text
    assert list(tmp_path.glob("old*")) == []


@pytest.mark.both
def test_of_two_archives_at_once_one_is_refused_and_its_file_may_go(filled, tmp_path, monkeypatch):
    verify = archiving._verify

    def meanwhile(*arguments):
        verify(*arguments)
        monkeypatch.setattr(archiving, "_verify", verify)
        filled.archive(at(400), tmp_path / "first.jsonl", model="n")

    monkeypatch.setattr(archiving, "_verify", meanwhile)
    text = exported(filled, model="m")
    with pytest.raises(NotRecordedError, match="'n'") as caught:
        filled.archive(at(300), tmp_path / "second.jsonl")
    assert str(caught.value).endswith(
        "second.jsonl is complete and may be deleted, for nothing was taken out of the ledger: try "
        "again."
    )
    assert exported(filled, model="m") == text
    filled.archive(at(300), tmp_path / "third.jsonl")
    assert seqs(filled)[0] == 302


# -- who reads or writes meanwhile ------------------------------------------------------------


def once(calibrator, tmp_path, *arguments, page=2, **options):
    """What archives, when the given page was read."""
    told = []

    def progress(_):
        told.append(1)
        if len(told) == page:
            calibrator.archive(*arguments, tmp_path / "meanwhile.jsonl", **options)

    return progress


def test_an_audit_while_entries_are_archived_gives_no_false_finding(filled, tmp_path):
    noted = filled.heads()
    for page in (1, 3, 5):  # the first of one model, its last, and one of the other
        progress = once(filled, tmp_path, at(1000), page=page)
        assert filled.audit(heads=noted, progress=progress) == []
        filled.import_calls("ledger", tmp_path / "meanwhile.jsonl")
        (tmp_path / "meanwhile.jsonl").unlink()


def test_an_audit_while_an_archive_comes_back_gives_no_false_finding(filled, tmp_path):
    filled.archive(at(500), tmp_path / "old.jsonl")

    def bring_back(_):
        filled.import_calls("ledger", tmp_path / "old.jsonl")

    assert filled.audit(progress=bring_back) == []


def test_a_replay_while_entries_are_archived_is_whole(filled, tmp_path):
    for page in (1, 3):
        replays = filled.replay(progress=once(filled, tmp_path, at(1000), page=page))
        assert [r.calibration for r in replays] == [filled.calibration(r.model) for r in replays]
        filled.import_calls("ledger", tmp_path / "meanwhile.jsonl")
        (tmp_path / "meanwhile.jsonl").unlink()


def test_a_recalibration_while_entries_are_archived_claims_what_holds(filled, tmp_path):
    for page in (1, 2, 3, 5):
        filled.recalibrate(page / 10, progress=once(filled, tmp_path, at(50 * page), page=page))
        (tmp_path / "meanwhile.jsonl").unlink()
        assert filled.audit() == []


def test_calls_that_are_archived_while_they_are_read_are_no_silent_gap(filled, tmp_path):
    calls = filled.calls("m")
    for _ in range(700):
        next(calls)
    filled.archive(at(300), tmp_path / "old.jsonl")
    # Those that were handed out already are no longer missed.
    assert next(calls).seq == 703
    calls = filled.calls("n")
    first = [next(calls) for _ in range(500)]
    assert (first[0].seq, first[-1].seq) == (302, 801)
    filled.archive(at(1000), tmp_path / "more.jsonl")
    with pytest.raises(HistoryArchivedError, match=r"'n' were archived.*do the same again"):
        next(calls)
    assert seqs(filled, "n") == list(range(1002, 1202))


def interrupt(calibrator, monkeypatch, n, action):
    """Do something once, before the calibrator's n-th reading statement; gives how many it ran."""
    read, count = calibrator._ledger.backend.read, [0]

    def reading(*arguments):
        count[0] += 1
        if count[0] == n:
            action()
        return read(*arguments)

    monkeypatch.setattr(calibrator._ledger.backend, "read", reading)
    return count


READERS = {
    "audit": lambda calibrator: calibrator.audit(),
    "replay": lambda calibrator: calibrator.replay(),
    "replay of a time": lambda calibrator: calibrator.replay(0.5, since=at(3), until=at(35)),
    "calls": lambda calibrator: list(calibrator.calls()),
    "calls of a time": lambda calibrator: list(calibrator.calls(since=at(3), until=at(35))),
    "newest calls": lambda calibrator: list(calibrator.calls("m", last=30)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("back", [False, True])
def test_between_any_two_reads_an_archive_may_go_or_come_back(
    calibrator, ledger, make_call, tmp_path, monkeypatch, reader, back
):
    """Of what is read, nothing is missing: it is all of it as it was, or as it is now."""
    monkeypatch.setattr("calibration_ledger.storage.ledger.PAGE", 10)
    calibrator.record_many(make_call(i, "m", details={"i": i}) for i in range(45))
    path, n, done = tmp_path / "old.jsonl", 1, False
    read = READERS[reader]
    with AdaptiveCalibrator(ledger) as other:

        def go():
            path.unlink(missing_ok=True)
            other.archive(at(25), path)

        def come():
            other.import_calls("ledger", path)

        possible = [read(calibrator)]
        go()
        possible.append(read(calibrator))
        if back:
            go, come = come, go
        else:
            come()
        while not done:
            with monkeypatch.context() as patch:
                count = interrupt(calibrator, patch, n, go)
                try:
                    assert read(calibrator) in possible
                except HistoryArchivedError:
                    assert "calls" in reader
                done = count[0] < n
            if not done:
                come()
            n += 1
    assert n > 5


def test_an_export_while_entries_are_archived_is_whole_or_none(filled, tmp_path):
    noted = filled.heads()
    path = tmp_path / "export.jsonl"
    filled.export_ledger("jsonl", path, progress=once(filled, tmp_path, at(1000)))
    with AdaptiveCalibrator(":memory:") as other:
        other.import_calls("ledger", path)
        assert other.heads() == noted
    filled.import_calls("ledger", tmp_path / "meanwhile.jsonl")
    (tmp_path / "meanwhile.jsonl").unlink()
    with pytest.raises(HistoryArchivedError):
        filled.export_ledger("jsonl", io.StringIO(), progress=once(filled, tmp_path, at(1000)))


def calls_in(path):
    lines = map(json.loads, path.read_text().splitlines())
    return [(line["model"], line["request_id"]) for line in lines if line.get("entry") == "call"]


@pytest.mark.parametrize("count", [120, pytest.param(600, marks=pytest.mark.stress)])
def test_everything_that_was_recorded_is_in_the_ledger_or_in_an_archive(ledger, tmp_path, count):
    """Writers, an auditor and a replayer at work, while one archive follows the other."""
    writers, lookers, stop = Crowd(), Crowd(), threading.Event()

    def write(name):
        for i in range(count):
            calibrator.record("ab"[i % 2], 10 + i % 7, 50.0 + i % 5, request_id=f"{name}-{i}")
            if i % 100 == 50:
                calibrator.recalibrate(0.3 + i / 1000, model="a")

    def look():
        while not stop.is_set():
            assert calibrator.audit() == []
            calibrator.replay(0.7)

    with AdaptiveCalibrator(ledger, durability="normal") as calibrator:
        for model in "ab":
            calibrator.record(model, 1, 2.0, request_id="first")
        lookers.start(look)
        for name in "xy":
            writers.start(write, name)
        archives = []
        while writers.is_busy():
            path = tmp_path / f"{len(archives)}.jsonl"
            archives += [path] * bool(calibrator.archive(datetime.now(UTC), path).models)
        stop.set()
        writers.end()
        lookers.end()
        assert len(archives) > 1
        ids = [(call.model, call.request_id) for call in calibrator.calls()]
        ids += [one for path in archives for one in calls_in(path)]
        expected = {("ab"[i % 2], f"{name}-{i}") for name in "xy" for i in range(count)}
        assert sorted(ids) == sorted(expected | {("a", "first"), ("b", "first")})
        assert calibrator.audit() == []
        for replay in calibrator.replay():
            assert replay.calibration == calibrator.calibration(replay.model)


# -- a call from a wrong clock ----------------------------------------------------------------

WRONG = datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC)


@pytest.mark.both
def test_a_call_from_a_wrong_clock_is_named_and_out_of_the_way_once_voided(
    calibrator, ledger, make_call, tmp_path
):
    calibrator.record_many([make_call(0, "m"), make_call(1, "m", called_at=WRONG)])
    calibrator.record_many(make_call(i, "m") for i in range(2, 40))
    calibrator.record_many(make_call(i, "n") for i in range(5))
    promised = calibrator.archivable(LATER, model="m")
    (one,) = promised.obstacles
    assert (one.model, one.seq, one.made_at, one.calls) == ("m", 3, WRONG, 38)
    report = calibrator.archive(LATER, tmp_path / "first.jsonl")
    assert [(part.model, part.calls) for part in report.models] == [("m", 1), ("n", 5)]
    assert report.obstacles == (one,)
    calibrator.void("m", seq=3)
    live, head = calibrator.calibration("m"), calibrator.heads()
    report = calibrator.archive(LATER, tmp_path / "second.jsonl", model="m")
    assert [(part.calls, part.seq) for part in report.models] == [(39, 42)]  # with its voiding
    assert report.obstacles == ()
    assert (calibrator.calibration("m"), calibrator.heads()) == (live, head)
    assert calibrator.audit() == []
    for name in ("second", "first"):
        calibrator.import_calls("ledger", tmp_path / f"{name}.jsonl")
    assert calibrator.audit(heads=head) == []
    assert [call.voided for call in calibrator.calls("m")].index(True) == 1


def test_a_run_of_voided_calls_is_passed_at_once(calibrator, make_call, tmp_path):
    calibrator.record_many(make_call(i, "m", called_at=WRONG) for i in range(600))
    calibrator.record_many(make_call(i, "m") for i in range(10))
    calibrator.void("m", seq=[(2, 300), (302, 601)])
    (one,) = calibrator.archivable(LATER).obstacles
    assert (one.seq, one.calls) == (301, 10)
    calibrator.void("m", seq=301)
    (part,) = calibrator.archive(LATER, tmp_path / "old.jsonl").models
    assert part.calls == 610


def test_a_time_that_no_clock_shows_is_told_as_damage(ledger_path, make_call):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many([make_call(0), make_call(1)])
    edited(ledger_path, f"UPDATE calls SET called_at = {2**62} WHERE seq = 2")
    with (
        AdaptiveCalibrator(ledger_path) as again,
        pytest.raises(LedgerCorruptError, match="entry 2"),
    ):
        again.archivable(LATER)


def test_calls_in_order_meet_no_obstacle(filled):
    assert filled.archivable(at(300)).obstacles == ()


@pytest.mark.both
def test_an_archive_counts_its_adjustments_as_its_import_does(ledger, make_call, tmp_path):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record_many(make_call(i, "m") for i in range(40))
        parts = [tmp_path / name for name in ("first", "second", "third")]
        told, announced = [], []
        for part, before in zip(parts, (10, 30, 35), strict=True):
            announced.append(calibrator.archivable(at(before)))
            told.append(calibrator.archive(at(before), part))
        # The second and third hold the archived entry that stood for what was before them.
        assert [(one.calls, one.adjustments) for one in told] == [(10, 1), (20, 1), (5, 1)]
        assert [(one.calls, one.adjustments) for one in announced] == [(10, 1), (20, 1), (5, 1)]
        for part, report in zip(reversed(parts), reversed(told), strict=True):
            done = calibrator.import_calls("ledger", part)
            assert (done.recorded, done.adjustments) == (report.calls, report.adjustments)
        assert calibrator.audit() == []
