from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, __version__


@pytest.fixture
def tamper(filled):
    """Change the ledger behind its back, in a copy that the fixtures do not audit."""
    copy = filled.with_name("tampered.db")
    with AdaptiveCalibrator(filled) as calibrator:
        calibrator.backup(copy)

    def tamper(statement):
        connection = sqlite3.connect(copy)
        with connection:
            connection.execute(statement)
        connection.close()
        return copy

    return tamper


def test_a_sound_ledger_is_ok(calib, filled):
    result = calib("audit")
    assert (result.stdout, result.stderr) == ("ok: 2 models, 30 entries\n", "")
    assert calib("audit", "tiny").stdout == "ok: 1 model, 4 entries\n"


def test_a_report_says_what_was_audited_and_when(calib, filled, tmp_path):
    before = datetime.now(UTC)
    report = json.loads(calib("audit", "--json").stdout)
    with AdaptiveCalibrator(filled) as calibrator:
        heads = [head.to_dict() for head in calibrator.heads()]
    assert before <= datetime.fromisoformat(report.pop("audited_at")) <= datetime.now(UTC)
    assert report == {
        "ledger": str(filled),
        "program": f"calibration-ledger {__version__}",
        "is_ok": True,
        "models": 2,
        "entries": 30,
        "noted_heads": None,
        "heads": heads,
        "findings": [],
    }
    calib("audit", "--save-heads", tmp_path / "heads")
    report = json.loads(calib("audit", "tiny", "--heads", tmp_path / "heads", "--json").stdout)
    assert (report["models"], report["entries"], report["noted_heads"]) == (1, 4, 1)
    assert [head["model"] for head in report["heads"]] == ["tiny"]


def test_a_rule_of_tomorrow_is_the_ledgers_fault_and_not_the_users(run, tamper):
    path = tamper("UPDATE calibrations SET rule = 'kalman.7'")
    for command in (("record", "tiny", "--prompt-tokens", 1, "--actual-ms", 5), ("replay",)):
        result = run("--ledger", path, *command)
        assert result.exit_code == 1
        assert "'kalman.7'" in result.stderr
    assert run("--ledger", path, "replay", "--rule", "kalman.7").exit_code == 2


def test_findings_are_lines_and_exit_code_3(run, tamper):
    path = tamper("UPDATE calls SET actual_ms = actual_ms + 0.5 WHERE seq = 4")
    result = run("--ledger", path, "audit")
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    with AdaptiveCalibrator(path) as calibrator:
        findings = calibrator.audit()
    assert lines == [str(finding) for finding in findings]
    assert len(lines) >= 2
    count = sum(finding.count for finding in findings)
    assert count > len(lines)  # those that one line counts are findings, too
    assert result.stderr == f"{count} findings: nothing was changed.\n"


def test_findings_that_are_only_counted_are_counted_too(run, tamper):
    path = tamper("UPDATE calls SET predicted_ms = predicted_ms + 1 WHERE model_id = 1")
    result = run("--ledger", path, "audit")
    lines = [line for line in result.stdout.splitlines() if ": prediction: " in line]
    assert len(lines) == 21
    assert lines[20] == "timmy:v0.1-q4: prediction: 5 more findings of this check"
    assert "entry 2 or 1 was changed" in lines[0]
    others = len(result.stdout.splitlines()) - len(lines)
    assert result.stderr == f"{25 + others} findings: nothing was changed.\n"


def test_findings_as_json(run, tamper):
    path = tamper("UPDATE calibrations SET alpha = 0.2")
    result = run("--ledger", path, "audit", "tiny", "--json")
    assert result.exit_code == 3
    report = json.loads(result.stdout)
    assert not report["is_ok"]
    findings = report["findings"]
    assert {finding["model"] for finding in findings} == {"tiny"}
    assert findings[0].keys() == {"model", "seq", "check", "expected", "found"}


def test_a_name_in_a_finding_cannot_command_the_terminal(run, tamper):
    path = tamper("UPDATE models SET model = 'evil' || char(27) || '[2J' WHERE model = 'tiny'")
    result = run("--ledger", path, "audit")
    assert result.exit_code == 3
    assert "\x1b" not in result.output
    assert "evil\\x1b[2J" in result.stdout


def test_saved_heads_are_the_ledgers_and_are_read_from_a_file_or_stdin(calib, filled, tmp_path):
    heads = tmp_path / "heads.jsonl"
    calib("audit", "--save-heads", heads)
    saved = [json.loads(line) for line in heads.read_text().splitlines()]
    with AdaptiveCalibrator(filled) as calibrator:
        assert saved == [head._asdict() for head in calibrator.heads()]
    assert calib("audit", "--heads", heads).stdout == "ok: 2 models, 30 entries\n"
    assert calib("audit", "--heads", "-", input=heads.read_text()).stdout.startswith("ok")


def test_saving_replaces_heads_and_nothing_else(calib, filled, tmp_path):
    heads = tmp_path / "heads.jsonl"
    calib("audit", "--save-heads", heads)
    first = heads.read_text()
    calib("record", "tiny", "--prompt-tokens", 1, "--actual-ms", 5)
    calib("audit", "--heads", heads, "--save-heads", heads)
    assert heads.read_text() != first
    for other in (filled, tmp_path / "precious.txt", tmp_path):
        if other.suffix == ".txt":
            other.write_text("precious")
        before = other.read_bytes() if other.is_file() else None
        result = calib("audit", "--save-heads", other, exit_code=2)
        assert result.stderr.splitlines()[-1].startswith("Error: ")
        assert (other.read_bytes() if other.is_file() else None) == before
    folder = tmp_path / "nowhere" / "heads.jsonl"
    assert "folder does not exist" in calib("audit", "--save-heads", folder, exit_code=2).stderr
    assert "- is no file here" in calib("audit", "--save-heads", "-", exit_code=2).stderr
    assert sorted(path.name for path in tmp_path.glob("*.partial")) == []


def test_no_heads_are_saved_of_a_ledger_with_findings(run, tamper, tmp_path):
    path = tamper("UPDATE calls SET actual_ms = actual_ms + 0.5 WHERE seq = 4")
    heads = tmp_path / "heads.jsonl"
    result = run("--ledger", path, "audit", "--save-heads", heads)
    assert result.exit_code == 3
    assert "no heads were saved" in result.stderr
    assert not heads.exists()


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        '{"model":"tiny","seq":0,"digest":"' + "0" * 64 + '"}',
        '{"model":"tiny","seq":true,"digest":"' + "0" * 64 + '"}',
        '{"model":"tiny","seq":1.5,"digest":"' + "0" * 64 + '"}',
        '{"model":3,"seq":1,"digest":"' + "0" * 64 + '"}',
        '{"model":"tiny","seq":1,"digest":"00"}',
        '{"model":"tiny","seq":1,"digest":7}',
        '{"model":"tiny","seq":1,"digest":"' + "0" * 64 + '","more":1}',
        "[" * 60_000,
        "\x00\x01",
    ],
)
def test_a_bad_heads_file_is_refused_with_its_line(calib, filled, tmp_path, line):
    heads = tmp_path / "heads.jsonl"
    good = '{"model":"tiny","seq":1,"digest":"' + "0" * 64 + '"}'
    heads.write_text(f"{good}\n{line}\n")
    result = calib("audit", "--heads", heads, exit_code=2)
    assert result.stderr.startswith(f"Error: {heads}, line 2: this is no head")
    assert result.stdout == ""


def test_a_heads_file_without_the_head_that_is_asked_for_is_no_silent_ok(calib, filled, tmp_path):
    empty, saved, some = (tmp_path / name for name in ("empty", "saved", "some"))
    empty.write_text("\n")
    result = calib("audit", "--heads", empty)
    assert result.stdout.startswith("ok: ")
    assert f"warning: there is no head in {empty}, so there was nothing to compare" in result.stderr
    calib("audit", "--save-heads", saved)
    assert calib("audit", "tiny", "--heads", saved).stderr == ""
    some.write_text(
        "".join(
            line for line in saved.read_text().splitlines(keepends=True) if '"tiny"' not in line
        )
    )
    assert calib("audit", "--heads", some).stderr == ""
    assert "no head of tiny" in calib("audit", "tiny", "--heads", some).stderr


def test_a_heads_file_that_cannot_be_read_is_refused(calib, filled, tmp_path):
    missing = tmp_path / "missing"
    assert "cannot be read" in calib("audit", "--heads", missing, exit_code=2).stderr
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)))
    assert "no head" in calib("audit", "--heads", binary, exit_code=2).stderr
    assert "no head" in calib("audit", "--heads", filled, exit_code=2).stderr


def test_a_model_never_seen_is_an_error(calib, filled):
    assert "'nobody'" in calib("audit", "nobody", exit_code=1).stderr
