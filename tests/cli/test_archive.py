import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator

from .conftest import at, run_in_terminal, some_calls

BEFORE = "2026-01-02T03:04:15Z"
"""Ten of the 25 calls were made before then, and all of the three."""


def state(path):
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []
        return calibrator.heads(), [call.seq for call in calibrator.calls("timmy:v0.1-q4")]


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "old.jsonl"


def test_entries_move_to_a_file_and_it_is_told_what(calib, filled, dest):
    heads, _ = state(filled)
    result = calib("archive", "--before", BEFORE, dest, "--yes")
    assert result.stdout == (
        "model          calls  adjustments  through seq\n"
        "timmy:v0.1-q4     10            1           11\n"
        "tiny               3            1            4\n"
    )
    assert f"13 calls and 2 adjustments of 2 models moved to {dest}: keep it." in result.stderr
    assert state(filled) == (heads, list(range(12, 27)))
    assert calib("audit").stdout == "ok: 2 models, 17 entries\n"


def test_what_the_ledger_shrank_by_is_told(calib, ledger_path, dest):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some_calls("m", 4000))
    result = calib("archive", "--before", "2026-02-01T00:00:00Z", dest, "--yes")
    size = ledger_path.stat().st_size / 1000
    assert re.search(rf"The ledger took \d+\.\d kB, and takes {size:.1f} kB now", result.stderr)


def test_the_file_is_brought_back_by_an_import(calib, filled, dest):
    before = calib("export", "jsonl").stdout
    calib("archive", "--before", BEFORE, dest, "--yes")
    assert "13 calls recorded, 2 adjustments recorded" in calib("import", "ledger", dest).stderr
    assert calib("export", "jsonl").stdout == before


def test_json_holds_all_of_the_report(calib, filled, dest):
    result = calib("archive", "--before", BEFORE, dest, "--yes", "--model", "tiny", "--json")
    report = json.loads(result.stdout)
    (model,) = report["models"]
    assert (model["model"], model["calls"], model["adjustments"], model["seq"]) == ("tiny", 3, 1, 4)
    assert (report["target"], report["trouble"]) == (str(dest), None)
    assert report["bytes_after"] > 0


def test_it_asks_first(calib, filled, dest):
    before = state(filled)
    result = calib("archive", "--before", BEFORE, dest, exit_code=2)
    assert "this would move 13 calls and 2 adjustments of 2 models out of" in result.stderr
    assert "give --yes" in result.stderr
    no = run_in_terminal("--ledger", filled, "archive", "--before", BEFORE, dest, typed="n\n")
    assert no.code == 1
    assert f"Move 13 calls and 2 adjustments of 2 models out of {filled}" in no.out
    assert state(filled) == before
    assert not dest.exists()
    yes = run_in_terminal("--ledger", filled, "archive", "--before", BEFORE, dest, typed="y\n")
    assert yes.code == 0
    assert dest.exists()
    assert state(filled) != before


def test_where_there_is_nothing_to_archive_it_says_so(calib, filled, dest):
    result = calib("archive", "--before", "2026-01-01T00:00:00Z", dest)
    assert (result.stdout, result.stderr) == ("", "nothing to archive: no file was made.\n")
    result = calib("archive", "--before", "2026-01-01T00:00:00Z", dest, "--json")
    assert json.loads(result.stdout)["models"] == []
    assert not dest.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["old.jsonl"], "Missing option '--before'"),
        (["--before", BEFORE], "Missing argument 'DEST'"),
        (["--before", "2026-01-01T24:30:00", "old.jsonl"], "is no time"),
        (["--before", "2026-02-30", "old.jsonl"], "is no time"),
        (["--before", BEFORE, "-"], "- is no file here: name one"),
        (["--before", "then", "old.jsonl"], "is no time"),
    ],
)
def test_wrong_usage_is_told(calib, filled, arguments, said):
    before = state(filled)
    assert said in calib("archive", *arguments, exit_code=2).stderr
    assert state(filled) == before


@pytest.mark.parametrize("date", ["2026-01-02", "20260102"])
def test_a_date_alone_is_its_first_moment(calib, filled, tmp_path, date):
    """As for --since and --until."""
    with AdaptiveCalibrator(filled) as calibrator:
        start = datetime(2026, 1, 2, tzinfo=UTC)
        calibrator.record("dated", 1, 2.0, called_at=start - timedelta(microseconds=1))
        calibrator.record("dated", 1, 2.0, called_at=start)
    words = ("archive", "--model", "dated", "--yes", "--json", "--before")
    (by_date,) = json.loads(calib(*words, date, tmp_path / "a.jsonl").stdout)["models"]
    assert (by_date["calls"], by_date["seq"]) == (1, 2)
    exact = calib(*words, "2026-01-02T00:00:00Z", tmp_path / "b.jsonl")
    assert json.loads(exact.stdout)["models"] == []
    assert calib("audit").exit_code == 0


def test_a_file_that_is_there_is_not_touched(calib, filled, dest):
    dest.write_text("mine")
    before = state(filled)
    assert "exists already" in calib(
        "archive", "--before", BEFORE, dest, "--yes", exit_code=2
    ).stderr  # fmt: skip
    assert dest.read_text() == "mine"
    assert state(filled) == before


def test_a_ledger_or_model_that_is_not_there_is_an_error(calib, filled, run, tmp_path, dest):
    result = run("--ledger", tmp_path / "none.db", "archive", "--before", BEFORE, dest)
    assert (result.exit_code, "there is no ledger" in result.stderr) == (1, True)
    result = calib("archive", "--before", BEFORE, dest, "--model", "nobody", exit_code=1)
    assert "'nobody'" in result.stderr


def test_heads_of_archived_entries_are_told_to_be_unchecked(calib, filled, dest, tmp_path):
    noted = tmp_path / "heads.jsonl"
    calib("audit", "--save-heads", noted)
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.record("tiny", 5, 6.0, called_at=at(3))
    calib("archive", "--before", BEFORE, dest, "--yes")
    result = calib("audit", "--heads", noted, exit_code=3)
    assert result.stdout.startswith("tiny #4: not checked: expected ")
    assert "1 noted head of archived entries not checked" in result.stderr
    calib("import", "ledger", dest)
    assert calib("audit", "--heads", noted).stderr == ""
