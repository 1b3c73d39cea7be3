"""`export parquet`: the calls of a CSV export, to the bit, with types; three readers read it."""

import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError
from calibration_ledger.cli.main import main
from calibration_ledger.formats import parquet
from support.programs import ran

START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def calls(calibrator):
    """Calls of two models: with and without id and details, a time-out, one that is voided."""
    calibrator.record_many(
        Call("größe", 10 + i, 5, 100.1 + i / 3, START + timedelta(seconds=i, microseconds=7))
        for i in range(40)
    )
    details = {"ttft_ms": 0.05}
    calibrator.record_many(
        [
            Call("a", 1, 3, 0.1, request_id="r,1", details=details),
            Call("a", 7, 0, 30_000.0, outcome="timeout"),
        ]
    )
    calibrator.void("größe", seq=[3])
    return list(calibrator.calls())


@pytest.fixture
def read():
    return pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: .ci/run installs it"
    ).read_table


def rows_of_csv(calibrator):
    text = io.StringIO()
    calibrator.export_ledger("csv", text)
    return list(csv.DictReader(io.StringIO(text.getvalue())))


def test_each_column_has_the_type_that_its_readers_expect(calibrator, calls, read, tmp_path):
    calibrator.export_ledger("parquet", tmp_path / "calls.parquet")
    schema = read(tmp_path / "calls.parquet").schema
    assert {field.name: str(field.type) for field in schema} == {
        "model": "dictionary<values=string, indices=int32, ordered=0>",
        "seq": "int64",
        "called_at": "timestamp[us, tz=UTC]",
        "prompt_tokens": "int64",
        "completion_tokens": "int64",
        "actual_ms": "double",
        "predicted_ms": "double",
        "request_id": "string",
        "details": "string",
        "voided": "bool",
        "outcome": "string",
    }
    assert [field.name for field in schema if field.nullable] == ["request_id", "details"]


def test_the_numbers_are_those_of_csv_to_the_bit(calibrator, calls, read, tmp_path):
    report = calibrator.export_ledger("parquet", tmp_path / "calls.parquet")
    assert (report.kind, report.models, report.calls) == ("parquet", 2, len(calls))
    found = read(tmp_path / "calls.parquet").to_pylist()
    expected = rows_of_csv(calibrator)
    assert list(found[0]) == list(expected[0])
    assert [
        {
            "model": row["model"],
            "seq": str(row["seq"]),
            "called_at": row["called_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "prompt_tokens": str(row["prompt_tokens"]),
            "completion_tokens": str(row["completion_tokens"]),
            "actual_ms": repr(row["actual_ms"]),
            "predicted_ms": repr(row["predicted_ms"]),
            "request_id": row["request_id"] or "",
            "details": row["details"] or "",
            "voided": "true" if row["voided"] else "false",
            "outcome": row["outcome"],
        }
        for row in found
    ] == expected
    assert sum(row["voided"] for row in found) == 1
    assert [row["outcome"] for row in found].count("timeout") == 1
    assert [json.loads(row["details"]) for row in found if row["details"]] == [{"ttft_ms": 0.05}]


def test_pandas_reads_it_with_its_own_types(calibrator, calls, read, tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: .ci/run installs it")
    calibrator.export_ledger("parquet", tmp_path / "calls.parquet")
    frame = pandas.read_parquet(tmp_path / "calls.parquet")
    assert str(frame["model"].dtype) == "category"
    assert str(frame["called_at"].dtype).startswith("datetime64[")
    assert frame["called_at"].dt.tz is not None
    assert list(frame["called_at"]) == [call.called_at for call in calls]
    assert list(frame["actual_ms"]) == [call.actual_ms for call in calls]
    learnt = frame[(frame["outcome"] == "ok") & ~frame["voided"]]
    mean = learnt.groupby("model", observed=True)["actual_ms"].mean()
    assert set(mean.index) == {"a", "größe"}
    of_a_size = [c.actual_ms for c in calls if c.model == "größe" and not c.voided]
    assert math.isclose(mean["größe"], sum(of_a_size) / len(of_a_size))


def test_duckdb_reads_it_without_being_told_anything(calibrator, calls, read, tmp_path):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: .ci/run installs it")
    calibrator.export_ledger("parquet", tmp_path / "calls.parquet")
    query = (
        "SELECT model, count(*), sum(actual_ms), max(called_at) FROM read_parquet(?) "
        "WHERE NOT voided AND outcome = 'ok' GROUP BY model ORDER BY model"
    )
    with duckdb.connect() as database:
        found = database.execute(query, [str(tmp_path / "calls.parquet")]).fetchall()
    good = [call for call in calls if not call.voided and call.outcome == "ok"]
    assert [(model, number) for model, number, *_ in found] == [("a", 1), ("größe", 39)]
    for model, _, total, newest in found:
        its = [call for call in good if call.model == model]
        assert math.isclose(total, sum(call.actual_ms for call in its))
        assert newest == max(call.called_at for call in its)


def test_a_long_history_is_written_in_groups(calibrator, calls, read, tmp_path, monkeypatch):
    whole = tmp_path / "whole.parquet"
    calibrator.export_ledger("parquet", whole)
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    path = tmp_path / "calls.parquet"
    calibrator.export_ledger("parquet", path)
    pyarrow = pytest.importorskip("pyarrow.parquet", reason="`read` has skipped without it")
    groups = pyarrow.ParquetFile(path).num_row_groups
    assert groups == 2  # a page is not cut, so there is one for each model
    assert read(path).to_pylist() == read(whole).to_pylist()
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10**6)
    monkeypatch.setattr(parquet, "GROUP_CHARACTERS", 1)
    calibrator.export_ledger("parquet", path, overwrite=True)
    assert read(path).to_pylist() == read(whole).to_pylist()


def test_one_model_alone_and_one_without_calls(calibrator, calls, read, tmp_path):
    path = tmp_path / "one.parquet"
    assert calibrator.export_ledger("parquet", path, model="a").calls == 2
    assert set(read(path)["model"].to_pylist()) == {"a"}
    since = read(path)["called_at"].to_pylist()[-1]
    calibrator.export_ledger("parquet", path, model="a", since=since, overwrite=True)
    assert read(path)["called_at"].to_pylist() == [since]
    with AdaptiveCalibrator(tmp_path / "empty.db") as empty:
        empty.set_default_rule("kalman")
        assert empty.export_ledger("parquet", tmp_path / "none.parquet").calls == 0
    assert read(tmp_path / "none.parquet").num_rows == 0


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(calibrator, calls, read, tmp_path):
    path = tmp_path / "calls.parquet"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="exists already"):
        calibrator.export_ledger("parquet", path)

    def stop(_steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrator.export_ledger("parquet", path, overwrite=True, progress=stop)
    assert path.read_text(encoding="utf-8") == "precious"
    calibrator.export_ledger("parquet", path, overwrite=True)
    assert read(path).num_rows == len(calls)
    assert sorted(file.name for file in tmp_path.glob("calls.parquet*")) == ["calls.parquet"]


def test_it_goes_to_an_open_file_of_bytes_and_never_to_one_of_text(calibrator, calls, read):
    bytes_ = io.BytesIO()
    calibrator.export_ledger("parquet", bytes_)
    assert read(io.BytesIO(bytes_.getvalue())).num_rows == len(calls)
    with pytest.raises(InvalidInputError, match="open the file for bytes"):
        calibrator.export_ledger("parquet", io.StringIO())


def test_the_command_writes_a_file_or_bytes_to_a_pipe(calls, ledger_path, read, tmp_path):
    path = tmp_path / "calls.parquet"
    done = CliRunner().invoke(main, ["--ledger", str(ledger_path), "export", "parquet", str(path)])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"42 calls of 2 models written to {path}\n"
    piped = CliRunner().invoke(main, ["--ledger", str(ledger_path), "export", "parquet"])
    assert piped.stdout_bytes == path.read_bytes()
    assert "written to <stdout>" in piped.stderr


def test_a_terminal_gets_no_parquet(calls, ledger_path, read, monkeypatch):
    monkeypatch.setattr("calibration_ledger.cli.files.is_terminal", lambda _: True)
    done = CliRunner().invoke(main, ["--ledger", str(ledger_path), "export", "parquet"])
    assert done.exit_code == 2
    assert "name a FILE, or redirect the output" in done.stderr


def test_what_is_salvaged_is_never_parquet(calls, ledger_path, tmp_path):
    command = ["--ledger", str(ledger_path), "export", "parquet", str(tmp_path / "x"), "--salvage"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "as jsonl or csv, not as parquet" in done.stderr
    assert not (tmp_path / "x").exists()


def test_without_pyarrow_one_sentence_says_how_to_get_it(calls, ledger_path, tmp_path):
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from calibration_ledger.cli.main import main\n"
        "main(['--ledger', sys.argv[1], 'export', 'parquet', sys.argv[2]])"
    )
    done = ran(program, ledger_path, tmp_path / "calls.parquet")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: an export to parquet needs pyarrow, which is not install")
    assert done.stderr.endswith("pip install pyarrow.\n")
    assert not (tmp_path / "calls.parquet").exists()


def test_pyarrow_is_loaded_by_this_export_alone(calls, ledger_path, tmp_path):
    program = (
        "import sys; from calibration_ledger import AdaptiveCalibrator\n"
        "with AdaptiveCalibrator(sys.argv[1]) as c: c.export_ledger('csv', sys.argv[2])\n"
        "print('pyarrow' in sys.modules)"
    )
    assert ran(program, ledger_path, tmp_path / "x.csv").stdout == "False\n"
