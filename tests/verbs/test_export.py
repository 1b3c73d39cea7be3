"""Exports: whole files under their name or none, streamed, of one consistent moment."""

import csv
import gzip
import io
import os

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import (
    ExportFailedError,
    InvalidInputError,
    LedgerCorruptError,
    LedgerNotFoundError,
    ModelNotFoundError,
)
from support.by_hand import edited
from support.histories import soon
from support.programs import ran


@pytest.fixture(autouse=True)
def _calls(calibrator, request):
    if "missing" in request.node.name:
        return
    for i in range(3):
        calibrator.record(
            "größe",
            10 + i,
            100.25,
            completion_tokens=5,
            called_at=soon(i),
            request_id=f"r,{i}",
            details={"i": i},
        )
    calibrator.record("a", 1, 0.1, called_at=soon(0))


@pytest.mark.both
def test_csv_holds_the_calls_alone(calibrator, tmp_path):
    calibrator.reset("a")
    path = tmp_path / "calls.csv"
    report = calibrator.export_ledger("csv", path)
    assert report.to_dict() == {
        "kind": "csv",
        "target": str(path),
        "models": 2,
        "calls": 4,
        "adjustments": 0,
        "settings": 0,
    }
    assert path.read_bytes().decode().splitlines() == [
        "model,seq,called_at,prompt_tokens,completion_tokens,actual_ms,predicted_ms,request_id,details,voided,outcome",
        "a,2,2025-05-01T00:00:00.000000Z,1,0,0.1,300.5,,,false,ok",
        'größe,2,2025-05-01T00:00:00.000000Z,10,5,100.25,345.0,"r,0","{""i"":0}",false,ok',
        *path.read_text(encoding="utf-8").splitlines()[3:],
    ]
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    calls = list(calibrator.calls())
    assert [float(row["predicted_ms"]) for row in rows] == [call.predicted_ms for call in calls]


def test_of_one_model_only_its_own(calibrator, tmp_path):
    report = calibrator.export_ledger("csv", tmp_path / "x.csv", model="a")
    assert (report.models, report.calls) == (1, 1)
    for kind in ("csv", "jsonl"):
        with pytest.raises(ModelNotFoundError):
            calibrator.export_ledger(kind, tmp_path / "y", model="b")
        with pytest.raises(InvalidInputError):
            calibrator.export_ledger(kind, tmp_path / "y", model="")
    assert sorted(path.name for path in tmp_path.glob("[xy]*")) == ["x.csv"]


def test_a_missing_ledger_is_an_error_and_nothing_is_made(calibrator, tmp_path, ledger_path):
    for kind in ("csv", "jsonl"):
        for model in (None, "m"):
            with pytest.raises(LedgerNotFoundError):
                calibrator.export_ledger(kind, tmp_path / "x", model=model)
    assert not (tmp_path / "x").exists()
    assert not ledger_path.exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_file_that_is_there_is_only_replaced_when_told(kind, calibrator, tmp_path):
    path = tmp_path / "out"
    path.write_text("precious", encoding="utf-8")
    said = r"exists already: name a file that does not, or replace it with --overwrite \(overwrite="
    with pytest.raises(InvalidInputError, match=said):
        calibrator.export_ledger(kind, path)
    assert path.read_text(encoding="utf-8") == "precious"
    calibrator.export_ledger(kind, path, overwrite=True)
    assert "größe" in path.read_text(encoding="utf-8") or "gr\\u00f6" in path.read_text()
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out"]


def test_a_dangling_link_is_there_too(calibrator, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match="exists already"):
        calibrator.export_ledger("csv", link)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_the_ledger_itself_is_never_replaced(suffix, calibrator, ledger_path):
    for overwrite in (False, True):
        with pytest.raises(InvalidInputError, match="the ledger itself"):
            calibrator.export_ledger("csv", f"{ledger_path}{suffix}", overwrite=overwrite)


@pytest.mark.parametrize("target", [".", "no/such/folder/x", "a\0b", None, 5])
def test_a_target_that_is_none_is_an_error(target, calibrator, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError):
        calibrator.export_ledger("csv", target)


@pytest.mark.parametrize("kind", ["ledger", "json", None])
def test_a_kind_that_there_is_not_is_an_error(kind, calibrator, tmp_path):
    with pytest.raises(InvalidInputError, match="kind must be one of jsonl, csv"):
        calibrator.export_ledger(kind, tmp_path / "x")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")  # noqa: PTH110 - a constant
def test_a_full_disk_is_an_error_and_leaves_nothing(ledger_path):
    program = (
        "import resource, sys, signal; from calibration_ledger import AdaptiveCalibrator;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "c = AdaptiveCalibrator(sys.argv[1]); c.heads();"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200));"
        "c.export_ledger('jsonl', sys.argv[2])"
    )
    target = ledger_path.with_name("out")
    done = ran(program, ledger_path, target)
    assert "ExportFailedError" in done.stderr
    assert "File too large" in done.stderr
    assert list(target.parent.glob("out*")) == []


def test_an_export_that_fails_on_the_way_leaves_nothing(calibrator, tmp_path):
    def stop(_steps):
        raise KeyboardInterrupt

    for name in ("x", "x.gz"):
        with pytest.raises(KeyboardInterrupt):
            calibrator.export_ledger("jsonl", tmp_path / name, progress=stop)
    assert list(tmp_path.glob("x*")) == []


def test_a_folder_that_vanishes_is_an_error(calibrator, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def vanish(_steps):
        if folder.exists():
            (folder / "x.partial").unlink()
            folder.rmdir()

    with pytest.raises((ExportFailedError, InvalidInputError)):
        calibrator.export_ledger("jsonl", folder / "x", progress=vanish)


def test_a_compressed_export_is_the_same_text_and_always_the_same_bytes(calibrator, tmp_path):
    for name in ("a.jsonl", "b.jsonl.gz", "c.jsonl.gz"):
        calibrator.export_ledger("jsonl", tmp_path / name)
    plain = (tmp_path / "a.jsonl").read_bytes()
    assert gzip.decompress((tmp_path / "b.jsonl.gz").read_bytes()) == plain
    assert (tmp_path / "b.jsonl.gz").read_bytes() == (tmp_path / "c.jsonl.gz").read_bytes()


def test_a_stream_gets_utf8_whatever_its_own_encoding(calibrator):
    below = io.BytesIO()
    stream = io.TextIOWrapper(below, encoding="ascii")
    stream.write("before\n")
    report = calibrator.export_ledger("csv", stream)
    stream.write("after\n")
    stream.flush()
    lines = below.getvalue().decode().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert lines[3].startswith("größe,2,")
    assert report.target == "<stream>"


def test_a_stream_of_the_callers_own_gets_text(calibrator):
    out = io.StringIO()
    calibrator.export_ledger("csv", out)
    assert out.getvalue().count("\n") == 5


def test_an_export_is_of_the_moment_when_it_began(calibrator, ledger_path, other):
    heads = calibrator.heads()
    out = io.StringIO()
    with AdaptiveCalibrator(ledger_path) as second:

        def meddle(_steps):
            second.record("größe", 1, 1.0)
            second.record("a new one", 1, 1.0)
            second.reset("größe")

        calibrator.export_ledger("jsonl", out, progress=meddle)
    other.import_calls("ledger", io.StringIO(out.getvalue()))
    assert other.heads() == heads
    assert calibrator.heads() != heads


def test_progress_tells_every_entry(calibrator):
    for kind, entries in (("jsonl", 6), ("csv", 4)):
        told = []
        calibrator.export_ledger(kind, io.StringIO(), progress=told.append)
        assert sum(told) == entries


def test_what_a_foreign_hand_wrote_is_exported_as_it_is_or_refused_with_a_sentence(tmp_path):
    path = tmp_path / "meddled.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("m", 1, 1.0, details={"b": 1})
        edited(path, "UPDATE call_details SET details = '{ \"b\" : 1 }'")
        out = io.StringIO()
        calibrator.export_ledger("jsonl", out)
        assert '"details":"{ \\"b\\" : 1 }"' in out.getvalue()
        edited(path, "UPDATE calls SET called_at = 9223372036854775807")
        for kind in ("jsonl", "csv"):
            with pytest.raises(LedgerCorruptError, match=r"`calib --ledger .* audit` says"):
                calibrator.export_ledger(kind, tmp_path / "x")
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_open_file_of_bytes_gets_the_bytes_of_a_path(kind, calibrator, tmp_path):
    calibrator.export_ledger(kind, tmp_path / "x")
    calibrator.export_ledger(kind, to_bytes := io.BytesIO())
    assert to_bytes.getvalue() == (tmp_path / "x").read_bytes()


@pytest.mark.both
def test_the_calls_of_a_time_are_exported_alone(calibrator):
    out = io.StringIO(newline="")
    report = calibrator.export_ledger("csv", out, since=soon(1), until=soon(2))
    assert report.calls == 1
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(row["model"], row["request_id"]) for row in rows] == [("größe", "r,1")]
    out = io.StringIO(newline="")
    assert calibrator.export_ledger("csv", out, since=soon(9)).calls == 0
    assert out.getvalue().count("\n") == 1  # the header


def test_a_part_of_a_history_is_no_whole_one(calibrator, tmp_path):
    path = tmp_path / "ledger.jsonl"
    with pytest.raises(InvalidInputError, match="the calls of a time go to csv or parquet"):
        calibrator.export_ledger("jsonl", path, since=soon(1))
    with pytest.raises(InvalidInputError, match="leave out since and until"):
        calibrator.export_ledger("csv", path, until=soon(1), salvage=True)
    with pytest.raises(InvalidInputError, match="since"):
        calibrator.export_ledger("csv", path, since=soon(2), until=soon(1))
    assert not path.exists()
