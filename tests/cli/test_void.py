import json

import pytest

from calibration_ledger import AdaptiveCalibrator

from .conftest import some_calls


@pytest.fixture
def poisoned(calib, ledger_path):
    """Ten good calls, then two that are absurd: entries 12 and 13."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(some_calls("x y", 10))
        calibrator.record("x y", 10, 9e6, request_id="bad-1")
        calibrator.record("x y", 10, 9e6, request_id="bad-2")
    return ledger_path


def without(calls):
    with AdaptiveCalibrator(":memory:") as clean:
        clean.record_many(calls)
        return clean.calibration("x y")


def test_the_table_shows_before_and_after_and_how_to_take_it_back(calib, poisoned):
    result = calib("void", "x y", "--seq", "12..13", "--note", "the unit was wrong")
    expected = without(some_calls("x y", 10))
    header, line = result.stdout.splitlines()
    assert header.split("  ")[0] == "model"
    assert line.split()[:6] == ["x", "y", "12..13", "2", "12", "10"]
    assert f"{expected.mean_absolute_error_ms:.1f}" in line
    command = f"calib --ledger {poisoned} void --seq 14 -- 'x y'"
    assert result.stderr == f"x y: entry 14 voids them. To take that back: {command}\n"
    with AdaptiveCalibrator(poisoned) as calibrator:
        assert calibrator.calibration("x y").base_overhead_ms == expected.base_overhead_ms
        assert calibrator.audit() == []


def test_the_history_marks_them(calib, poisoned):
    calib("void", "x y", "--request-id", "bad-1", "--request-id", "bad-2")
    lines = calib("history", "x y").stdout.splitlines()[1:]
    assert [line.endswith("  voided") for line in lines] == [False] * 10 + [True] * 2
    calls = [json.loads(line) for line in calib("history", "x y", "--json").stdout.splitlines()]
    assert [call.get("voided") for call in calls] == [None] * 10 + [True] * 2


def test_taking_it_back_makes_them_count_again(calib, poisoned):
    before = json.loads(calib("stats", "x y", "--json").stdout)
    calib("void", "x y", "--seq", "12", "--seq", "13")
    result = calib("void", "x y", "--seq", "14")
    assert "x y: adjustments among them: voided (entry 14).\n" in result.stderr
    after = json.loads(calib("stats", "x y", "--json").stdout)
    # The newest calls are held against what the newest voiding set: see docs/library.md.
    assert after.pop("median_absolute_percentage_error") > before.pop(
        "median_absolute_percentage_error"
    )
    assert sum(after.pop("newest_errors_ms")) < sum(before.pop("newest_errors_ms"))
    assert after == before
    assert "voided" not in calib("history").stdout


def test_a_model_without_a_call_that_counts_says_why(calib, poisoned):
    calib("void", "x y", "--seq", "2..13")
    shown = calib("predict", "x y", "--prompt-tokens", 1).stdout.splitlines()[-1]
    assert shown == "confidence 0.00: all calls of this model were voided"


def test_a_dry_run_changes_nothing_and_says_so(calib, poisoned):
    before = json.loads(calib("stats", "--json").stdout)
    tried = calib("void", "x y", "--seq", "12..13", "--dry-run")
    assert tried.stderr == "x y: nothing was changed (--dry-run).\n"
    assert json.loads(calib("stats", "--json").stdout) == before
    assert calib("void", "x y", "--seq", "12..13").stdout == tried.stdout


def test_what_is_voided_already_is_said(calib, poisoned):
    calib("void", "x y", "--seq", "12..13")
    result = calib("void", "x y", "--seq", "13")
    assert result.stderr == "x y: all of that was voided already; nothing was changed.\n"


def test_an_import_is_voided_by_the_id_that_it_told(calib, poisoned, tmp_path):
    rows = "".join(f"{model},10,10,8e6\n" for model in ("x y", "z"))
    (tmp_path / "bad.csv").write_text(
        f"model,prompt_tokens,completion_tokens,actual_ms\n{rows}", encoding="utf-8"
    )
    report = json.loads(calib("import", "csv", tmp_path / "bad.csv", "--json").stdout)
    result = calib("void", "--import", report["import_id"])
    assert [line.split()[-6] for line in result.stdout.splitlines()[1:]]
    assert result.stderr.count("To take that back") == 2
    calls = [json.loads(line) for line in calib("history", "--json").stdout.splitlines()]
    assert [(call["model"], call["actual_ms"]) for call in calls if call.get("voided")] == [
        ("x y", 8e6),
        ("z", 8e6),
    ]


def test_an_import_of_what_is_voided_records_it_anew_and_says_so(calib, poisoned, tmp_path):
    path = tmp_path / "calls.csv"
    header = "model,prompt_tokens,completion_tokens,actual_ms,request_id"
    path.write_text(f"{header}\nx y,10,0,900,bad-1\nx y,1,0,2,new\n")
    calib("void", "x y", "--request-id", "bad-1")
    shown = calib("import", "csv", path).stderr.splitlines()[0]
    assert shown == f"{path}: 2 calls recorded (1 in place of voided ones); 1 model"
    report = json.loads(calib("import", "csv", path, "--json").stdout)
    assert (report["recorded"], report["already"], report["recorded_again"]) == (0, 2, 0)
    with AdaptiveCalibrator(poisoned) as calibrator:
        found = [call for call in calibrator.calls() if call.request_id == "bad-1"]
        assert [(call.actual_ms, call.voided) for call in found] == [(9e6, True), (900, False)]
        assert calibrator.audit() == []


def test_json_holds_the_states_before_and_after(calib, poisoned):
    (one,) = json.loads(calib("void", "x y", "--seq", "12..13", "--json").stdout)
    assert (one["model"], one["seq"], one["voids"], one["calls"]) == ("x y", 14, "12..13", 2)
    assert (one["before"]["sample_count"], one["calibration"]["sample_count"]) == (12, 10)
    assert one["adjustments"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x y"], "nothing to void"),
        (["--seq", "2"], "name the MODEL"),
        (["--request-id", "bad-1"], "name the MODEL"),
        (["--since", "2020-01-01"], "name the MODEL"),
        (["x y", "--last", "0"], "--last"),
        (["--last", "x y"], "'x y' is no number of calls. A model's name comes first"),
        (["x y", "--last", "--seq", "2"], "leave out the seq"),
        (["x y", "--until", "1990-01-01"], "no call made at that time"),
        (["x y", "--seq", "2-3"], "names no entries"),
        (["x y", "--seq", "1.."], "names no entries"),
        (["x y", "--seq", "99999999999999999999"], "names no entries"),
        (["x y", "--seq", "3..2"], "seq must be"),
        (["x y", "--seq", "1"], "begins its history"),
        (["x y", "--seq", "14"], "none of the number 14"),
        (["x y", "--request-id", "other"], "no call of the request id"),
        (["x y", "--import", "other"], "no call of the import"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_told_and_changes_nothing(calib, poisoned, arguments, says):
    before = calib("history", "--json").stdout
    assert says in calib("void", *arguments, exit_code=2).stderr
    assert calib("history", "--json").stdout == before


def test_a_model_never_seen_and_a_missing_ledger_fail(calib, run, poisoned, tmp_path):
    assert "no entry of a model 'q'" in calib("void", "q", "--seq", "2", exit_code=1).stderr
    missing = run("--ledger", tmp_path / "none.db", "void", "m", "--seq", "2")
    assert missing.exit_code == 1
    assert not (tmp_path / "none.db").exists()


def test_the_newest_calls_and_those_of_a_time_are_voided_as_history_lists_them(calib, filled):
    shown = calib("history", "tiny", "--last", 1).stdout.splitlines()[1]
    preview = calib("void", "tiny", "--last", "--dry-run")
    assert "nothing was changed (--dry-run)" in preview.stderr
    calib("void", "tiny", "--last")
    marked = calib("history", "tiny", "--last", 1).stdout.splitlines()[1]
    assert marked.removesuffix("voided").split() == shown.split()
    assert marked.endswith("voided")
    window = ("--since", "2026-01-02T03:04:06Z", "--until", "2026-01-02T03:04:08Z")
    assert calib("void", "tiny", *window).stdout.splitlines()[1].split()[1] == "3..4"
    lines = calib("history", "tiny", "--json").stdout.splitlines()
    assert [json.loads(line).get("voided") for line in lines] == [None, True, True]
