"""`--format`: one result as a table, CSV, TSV, Markdown, JSON or JSON lines."""

import csv
import io
import json
from dataclasses import replace

import pytest

import calibration_ledger
from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.markdown import markdown, markdown_head, markdown_line
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core.records import Lines, columns_of, fields_of_all, flat, lines_of
from calibration_ledger.core.values import Value

from .conftest import at, run_in_terminal

NASTY = 'a,"b"|c*d_e'
"""A name with the marks of CSV, of Markdown and of a formula."""


def rows_of(printed, delimiter=","):
    return list(csv.DictReader(io.StringIO(printed, newline=""), delimiter=delimiter))


@pytest.fixture
def nasty(ledger_path):
    """A ledger with a model of that name, and a call whose request id is a formula on two lines."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_call(
            Call(NASTY, 3, 4, 0.1 + 0.2, at(0), "=1+1\r\t\n2", {"ttft_ms": 80.5, "x": [1, None]})
        )
        calibrator.record_call(Call(NASTY, 3, 4, 5.0, at(1), outcome="timeout"))
    return ledger_path


# -- records --------------------------------------------------------------------------------


def test_objects_are_flattened_with_dots_and_lists_stay_json():
    assert flat({"a": {"b": {"c": 1}}, "d": [1, {"e": 2}], "f": None}) == {
        "a.b.c": 1,
        "d": '[1, {"e": 2}]',
        "f": None,
    }


def test_details_stay_json_because_anybody_chose_their_names():
    assert flat({"details": {"ttft_ms": 1.5}}) == {"details": '{"ttft_ms": 1.5}'}


def test_the_items_of_a_list_are_lines_with_the_rest_in_each():
    document = {"model": "m", "scores": [{"n": 1}, {"n": 2}]}
    assert lines_of(document, "scores") == [
        {"model": "m", "scores.n": 1},
        {"model": "m", "scores.n": 2},
    ]
    assert lines_of({"model": "m", "scores": []}, "scores") == [{"model": "m", "scores": None}]


def test_the_columns_are_all_names_but_those_of_absent_objects():
    assert fields_of_all([{"a": 1, "drift": None}, {"drift.factor": 1.5, "b": 2}]) == [
        *("a", "drift.factor", "b"),
    ]


def test_a_text_comes_back_whole_whatever_is_in_it():
    texts = ["plain", "a,b", 'say "x"', "two\nlines", "a\rb", "a\tb", "", "=1+1", "@x", "模型"]
    for delimiter in ",\t":
        lines = Lines(["a", "b"], delimiter)
        printed = lines.header() + lines.of({"a": text, "b": 1} for text in texts)
        assert [row["a"] for row in rows_of(printed, delimiter)] == texts


# -- Markdown -------------------------------------------------------------------------------


def test_markdown_shows_marks_as_they_are():
    assert markdown("a|b") == r"a\|b"
    assert markdown("*a* [b](c) `d` <e> \\ ~~f~~") == r"\*a\* \[b](c) \`d\` \<e> \\ \~\~f\~\~"
    assert markdown("snake_case _x_") == r"snake_case \_x\_"
    assert markdown("two\nlines") == r"two\\nlines"


def test_markdown_has_numbers_on_the_right_and_cuts_nothing():
    columns = [MODEL, Column("error ms"), Column("status", left=True, cut_to=3)]
    assert list(markdown_head(columns)) == [
        "| model | error ms | status |",
        "| :--- | ---: | :--- |",
    ]
    row = ["m" * 200, Cell("1.5", "bad"), "uncalibrated"]
    assert markdown_line(row) == f"| {'m' * 200} | 1.5 | uncalibrated |"


# -- commands -------------------------------------------------------------------------------


def test_history_says_the_same_in_every_format(run, nasty):
    def printed(form):
        return run("--ledger", nasty, "history", "--format", form).stdout

    calls = [json.loads(line) for line in printed("jsonl").splitlines()]
    assert json.loads(printed("json")) == calls
    for form, delimiter in (("csv", ","), ("tsv", "\t")):
        rows = rows_of(printed(form), delimiter)
        assert [row["model"] for row in rows] == [NASTY, NASTY]
        assert rows[0]["request_id"] == calls[0]["request_id"] == "=1+1\r\t\n2"
        assert json.loads(rows[0]["details"]) == calls[0]["details"]
        assert rows[0]["called_at"] == calls[0]["called_at"] == "2026-01-02T03:04:05.678901Z"
        assert float(rows[0]["actual_ms"]) == calls[0]["actual_ms"] == 0.1 + 0.2
        assert [row["outcome"] for row in rows] == ["", "timeout"]
        assert set(rows[0]) >= {key for call in calls for key in call}
    assert run("--ledger", nasty, "history", "--json").stdout == printed("jsonl")
    title, line, *rows = printed("markdown").splitlines()
    assert title.startswith("| when | model | seq | prompt |")
    assert line.startswith("| :--- | :--- | ---: | ---: |")
    assert r'a,"b"\|c\*d_e' in rows[0]
    assert len(rows) == 2


def test_csv_of_a_history_is_what_import_reads(run, nasty, tmp_path):
    file = tmp_path / "calls.csv"
    file.write_text(
        run("--ledger", nasty, "history", "--all", "--format", "csv").stdout, newline=""
    )
    copy = tmp_path / "copy.db"
    assert run("--ledger", copy, "import", "csv", file).exit_code == 0
    with AdaptiveCalibrator(copy) as one, AdaptiveCalibrator(nasty) as other:
        for copied, call in zip(one.calls(), other.calls(), strict=True):
            assert replace(copied, request_id=None, details=None) == replace(
                call, request_id=None, details=None
            )
        assert next(one.calls()).request_id == next(other.calls()).request_id
        assert one.audit() == []


def test_stats_have_a_line_for_each_model(calib, filled):
    document = json.loads(calib("stats", "--json").stdout)
    assert json.loads(calib("stats", "--format", "json").stdout) == document
    lines = calib("stats", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == document
    rows = rows_of(calib("stats", "--format", "csv").stdout)
    assert [row["model"] for row in rows] == [one["model"] for one in document]
    for row, one in zip(rows, document, strict=True):
        assert {name for name, value in row.items() if value} == {
            name for name, value in flat(one).items() if value is not None
        }
        assert float(row["base_overhead_ms"]) == one["base_overhead_ms"]
        assert row["last_updated"] == one["last_updated"]
    alone = rows_of(calib("stats", "tiny", "--format", "csv").stdout)
    assert [row["model"] for row in alone] == ["tiny"]


READING = [
    *(("stats",), ("stats", "--by-day"), ("history",), ("drift",), ("replay",), ("sweep",)),
    *(("replay", "--alpha", "0.05"), ("replay", "--forecast"), ("log",), ("rule",), ("alias",)),
    *(("forecast", "tiny", "-p", "3"), ("predict", "tiny", "-p", "3"), ("compare", "-p", "3")),
    *(("timeout", "tiny", "-p", "3"), ("audit",), ("formats",), ("doctor",), ("db", "check")),
    *(("db", "current"), ("recalibrate", "--alpha", "0.1", "--dry-run")),
    ("void", "tiny", "--last", "--dry-run"),
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_csv_tsv_and_json_say_the_same_names_and_values(calib, filled, words):
    def printed(form):
        return calib(*words, "--format", form).stdout

    document = json.loads(printed("json"))
    records = document if isinstance(document, list) else [document]
    lines = [json.loads(line) for line in printed("jsonl").splitlines()]
    assert [set(line) for line in lines] == [set(record) for record in records]
    rows = rows_of(printed("csv"))
    assert [set(row) for row in rows_of(printed("tsv"), "\t")] == [set(row) for row in rows]
    names = {name for record in records for name in names_in(record)}
    assert all({name for name, value in row.items() if value} <= names for row in rows)
    assert len(rows) >= len(records)
    for line in printed("markdown").splitlines():
        if line.startswith("|"):
            assert line.endswith(" |")


def names_in(value, before=""):
    """Every name that a value of JSON has, with dots."""
    if isinstance(value, list):
        return {name for item in value for name in names_in(item, before)} | {before[:-1]}
    if not isinstance(value, dict):
        return {before[:-1]}
    return {name for key, item in value.items() for name in names_in(item, f"{before}{key}.")} | {
        before[:-1]
    }


def test_each_candidate_of_a_sweep_is_a_line(calib, filled):
    found = json.loads(calib("sweep", "timmy:v0.1-q4", "--json").stdout)
    rows = rows_of(calib("sweep", "timmy:v0.1-q4", "--format", "csv").stdout)
    assert [row["scores.rule"] for row in rows] == [score["rule"] for score in found[0]["scores"]]
    assert {row["model"] for row in rows} == {"timmy:v0.1-q4"}


def test_imports_are_a_line_each_in_csv(calib, filled, tmp_path):
    calib("export", "csv", tmp_path / "calls.csv")
    (tmp_path / "more.csv").write_text((tmp_path / "calls.csv").read_text())
    files = [tmp_path / "calls.csv", tmp_path / "more.csv"]
    rows = rows_of(calib("import", *files, "--format", "csv", "--dry-run").stdout)
    assert [row["source"] for row in rows] == list(map(str, files))
    document = json.loads(calib("export", "csv", tmp_path / "x.csv", "--json").stdout)
    again = calib("export", "csv", tmp_path / "x.csv", "--overwrite", "--format", "csv").stdout
    assert rows_of(again)[0]["calls"] == str(document["calls"])


def test_what_the_export_tells_stays_beside_it_in_every_format(run, filled):
    result = run("--ledger", filled, "export", "csv", "--format", "csv")
    assert rows_of(result.stderr)[0]["calls"] == "28"
    assert len(rows_of(result.stdout)) == 28


def test_a_format_that_is_none_is_told_with_the_one_that_was_meant(run):
    result = run("stats", "--format", "cvs")
    assert result.exit_code == 2
    assert "'cvs' is no format of output: give table, csv, " in result.stderr
    assert "Did you mean 'csv'?" in result.stderr
    assert "Did you mean" not in run("stats", "--format", "xyzzy").stderr


def test_json_beside_another_format_is_refused(run, filled):
    result = run("--ledger", filled, "stats", "--json", "--format", "csv")
    assert result.exit_code == 2
    assert "--json is short for --format json: leave one of the two out." in result.stderr
    assert run("--ledger", filled, "stats", "--json", "--format", "json").exit_code == 0
    result = run("--ledger", filled, "history", "--format", "json", "--json")
    assert "--json is short for --format jsonl" in result.stderr


def test_a_person_sees_no_control_character_of_csv(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_call(Call("m", 1, 1, 1.0, at(0), "\x1b[2J\nx"))
    shown = run_in_terminal("--ledger", ledger_path, "history", "--format", "csv")
    assert r"\x1b[2J\nx" in shown.out
    assert "\x1b" not in shown.out


LISTS = [
    *(("stats",), ("stats", "--by-day"), ("history",), ("drift",), ("replay",), ("sweep",)),
    *(("replay", "--alpha", "0.05"), ("replay", "--forecast"), ("log",), ("rule",), ("alias",)),
    *(("compare", "-p", "3"), ("audit",), ("db", "check"), ("metrics",), ("top",)),
    *(("recalibrate", "--alpha", "0.1", "--dry-run"), ("forecast", "tiny", "-p", "3")),
    *(("void", "tiny", "--last", "--dry-run"), ("reset", "--all", "--yes")),
]
"""Commands that print a list, and one whose record may have an object in it."""


@pytest.fixture
def empty(run, tmp_path):
    run("--ledger", tmp_path / "empty.db", "db", "upgrade")
    return tmp_path / "empty.db"


@pytest.mark.parametrize("words", LISTS, ids=" ".join)
def test_the_columns_of_a_list_are_the_same_whatever_is_in_it(run, calib, filled, empty, words):
    def header_of(result):
        assert result.stdout, result.stderr
        return result.stdout.splitlines()[0].split("\t")

    document = json.loads(calib(*words, "--format", "json").stdout)
    if words[0] == "top":
        document = document["models"]
    records = document if isinstance(document, list) else [document]
    columns = header_of(calib(*words, "--format", "tsv"))
    assert len(set(columns)) == len(columns)
    told = {key for one in records for key, value in flat(one, columns).items() if value}
    objects = {name[:at] for name in columns for at, char in enumerate(name) if char == "."}
    assert told <= {*columns, *objects}
    assert "drift" not in columns
    if "tiny" not in words:
        assert header_of(run("--ledger", empty, *words, "--format", "tsv")) == columns


def test_every_public_value_has_columns():
    for name in calibration_ledger.__all__:
        kind = getattr(calibration_ledger, name)
        if isinstance(kind, type) and issubclass(kind, Value):
            assert columns_of(kind), name
