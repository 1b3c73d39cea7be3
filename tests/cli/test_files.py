import gzip
import json
import re
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator

CSV = (
    "model,called_at,prompt_tokens,completion_tokens,actual_ms\n"
    "m,2026-11-24T08:30:00Z,512,128,3400\n"
    "m,2026-11-24T08:31:00Z,256,64,1800.5\n"
    "n,2026-11-24T08:32:00Z,16,4,90\n"
)


def test_a_file_of_calls_is_recorded_and_reported_on_stderr(calib, tmp_path, ledger_path):
    file = tmp_path / "calls.csv"
    file.write_text(CSV)
    result = calib("import", "csv", file)
    assert result.stdout == ""
    told, undo = result.stderr.splitlines()
    assert told == f"{file}: 3 calls recorded; 2 models (2 new)"
    assert undo == (
        f"`calib --ledger {ledger_path} void --import 759155c9a3a8` takes this import out again."
    )
    again = calib("import", "csv", file)
    assert again.stderr == f"{file}: 0 calls recorded, 3 there already; 2 models\n"
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert [call.actual_ms for call in calibrator.calls()] == [3400.0, 1800.5, 90.0]


def test_where_nobody_can_tell_two_files_apart_the_import_says_so(calib, tmp_path):
    text = "model,prompt_tokens,completion_tokens,actual_ms\nm,512,128,3400\nm,256,64,1800.5\n"
    for name in ("monday.csv", "tuesday.csv"):
        (tmp_path / name).write_text(text)
    assert "begins like this one" not in calib("import", "csv", tmp_path / "monday.csv").stderr
    _, said = calib("import", "csv", tmp_path / "tuesday.csv").stderr.splitlines()
    assert said.startswith("calls without a time and an id: a file that begins like this one was")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "ledger"])
def test_a_compressed_file_is_read_as_it_is(calib, run, filled, tmp_path, kind):
    text = calib("history", "--all", "--json").stdout if kind == "jsonl" else None
    text = text or calib("export", "csv" if kind == "csv" else "jsonl").stdout
    file = tmp_path / f"calls.{kind}.gz"
    file.write_bytes(gzip.compress(text.encode()))
    result = run("--ledger", tmp_path / "copy.db", "import", kind, file)
    assert result.exit_code == 0, result.output
    assert "28 calls recorded" in result.stderr
    assert "gzip" in calib("import", "--help").stdout


@pytest.mark.parametrize("args", [("csv",), ("csv", "-"), ("-",), ("auto",), ()])
def test_stdin_is_read_when_no_file_is_named(calib, args):
    result = calib("import", *args, "--json", input=CSV)
    report = json.loads(result.stdout)
    assert (report["recorded"], report["models_opened"]) == (3, 2)
    assert "3 calls recorded" in result.stderr


def test_a_file_of_utf_16_is_told_so(calib, tmp_path):
    (tmp_path / "calls.csv").write_text(CSV, encoding="utf-16")
    said = calib("import", tmp_path / "calls.csv", exit_code=2).stderr
    assert "the text is UTF-16, as some editors and shells write it: save" in said


def test_a_bad_line_stops_the_import_and_makes_no_ledger(calib, tmp_path, ledger_path):
    file = tmp_path / "calls.csv"
    file.write_text(CSV + "m,2026-11-24T08:33:00Z,-5,1,10\n")
    result = calib("import", "csv", file, exit_code=2)
    assert result.stderr.startswith(f"Error: {file}, line 5: ")
    assert result.stdout == ""
    assert not ledger_path.exists()


def test_skip_bad_records_the_rest_and_says_why(calib, tmp_path, ledger_path):
    bad = "".join(f"m,2026-11-24T08:33:00Z,{-i},1,10\n" for i in range(1, 13))
    result = calib("import", "csv", "--skip-bad", input=CSV + bad)
    first, undo, *lines, last = result.stderr.splitlines()
    assert "3 calls recorded, 12 bad lines skipped; 2 models (2 new)" in first
    assert undo.startswith(f"`calib --ledger {ledger_path} void --import ")
    assert lines[0].startswith("skipped line 5: prompt_tokens must be at least 0")
    assert len(lines) == 10
    assert last.startswith("skipped 12 in all: ")


def test_voided_calls_are_left_out_and_said_to_be(calib, ledger_path):
    header, *rows = CSV.splitlines()
    text = "\n".join([header + ",voided", rows[0] + ",", rows[1] + ",true", rows[2] + ",true"])
    result = calib("import", "csv", "--json", input=text)
    assert json.loads(result.stdout)["voided"] == 2
    told, undo, voided = result.stderr.splitlines()
    assert "1 call recorded; 1 model (1 new)" in told
    assert undo.startswith(f"`calib --ledger {ledger_path} void --import ")
    assert voided == "2 calls left out: the file says that they are voided."
    alone = calib("import", "csv", input=f"{header},voided\n{rows[0]},\n")
    assert alone.stderr == "<stdin>: 0 calls recorded, 1 there already; 1 model\n"


def test_calls_older_than_the_newest_are_warned_of(calib):
    calib("import", "csv", input=CSV)
    older = CSV.splitlines()[0] + "\nm,2026-11-20T00:00:00Z,1,1,10\n"
    result = calib("import", "csv", input=older)
    assert "warning: 1 call made before the newest of its model" in result.stderr


def test_export_and_import_move_a_ledger_whole(calib, run, filled, tmp_path):
    calib("recalibrate", "tiny", "--alpha", 0.3)
    calib("reset", "timmy:v0.1-q4")
    exported = calib("export", "jsonl")
    assert exported.stderr == "28 calls and 4 adjustments of 2 models written to <stdout>\n"
    copy = tmp_path / "copy.db"
    result = run("--ledger", copy, "import", "ledger", "-", input=exported.stdout)
    assert result.exit_code == 0, result.output
    assert "28 calls recorded, 4 adjustments recorded; 2 models (2 new)" in result.stderr
    with AdaptiveCalibrator(copy) as theirs, AdaptiveCalibrator(filled) as ours:
        assert theirs.heads() == ours.heads()
        assert theirs.audit() == []
    assert run("--ledger", copy, "export", "jsonl").stdout == exported.stdout


def test_csv_holds_the_calls_of_one_model(calib, filled):
    result = calib("export", "csv", "--model", "tiny")
    assert result.stderr == "3 calls of 1 model written to <stdout>\n"
    header, *lines = result.stdout.splitlines()
    assert header.startswith("model,")
    assert [line.split(",")[0] for line in lines] == ["tiny"] * 3


def test_csv_holds_the_calls_of_a_time(calib, filled):
    calib("record", "tiny", "-p", 1, "--actual-ms", 2, "--request-id", "just now")
    result = calib("export", "csv", "--since", "1h")
    assert result.stderr == "1 call of 1 model written to <stdout>\n"
    assert "just now" in result.stdout
    assert "whole history" in calib("export", "jsonl", "--since", "1h", exit_code=2).stderr
    salvaged = calib("export", "csv", "--since", "1h", "--salvage", exit_code=2)
    assert "leave out --since" in salvaged.stderr


def test_a_file_is_written_and_not_overwritten(calib, filled, tmp_path):
    file = tmp_path / "out.csv"
    assert json.loads(calib("export", "csv", file, "--json").stdout) == {
        "kind": "csv",
        "target": str(file),
        "models": 2,
        "calls": 28,
        "adjustments": 0,
        "settings": 0,
    }
    before = file.read_bytes()
    calib("reset", "--all", "--yes")
    assert "exists already" in calib("export", "csv", file, "--model", "tiny", exit_code=2).stderr
    assert file.read_bytes() == before
    calib("export", "csv", file, "--model", "tiny", "--overwrite")
    assert len(file.read_text().splitlines()) == 4


def test_json_of_an_export_to_stdout_stays_out_of_the_data(calib, filled):
    result = calib("export", "csv", "-", "--json")
    assert result.stdout.startswith("model,")
    assert json.loads(result.stderr)["calls"] == 28


def test_the_ledger_itself_is_neither_imported_nor_overwritten(calib, filled):
    before = filled.read_bytes()
    assert calib("import", "jsonl", filled, exit_code=2).stderr.startswith("Error: ")
    assert calib("export", "jsonl", filled, "--overwrite", exit_code=2).stderr.startswith("Error: ")
    assert filled.read_bytes() == before


def test_the_old_state_file_is_found_where_it_lies(calib, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".nexus"
    folder.mkdir()
    model = {
        "model": "old",
        "alpha": 0.2,
        "sample_count": 12,
        "ms_per_prompt_token": 0.75,
        "ms_per_completion_token": 9.5,
        "base_overhead_ms": 250.0,
        "total_absolute_error_ms": 1200.0,
    }
    state = {"version": 1, "saved_at": 1795000000.0, "models": [model]}
    (folder / "calibrator_state.json").write_text(json.dumps(state))
    result = calib("import", "state")
    assert "1 adjustment recorded; 1 model (1 new)" in result.stderr
    assert json.loads(calib("stats", "old", "--json").stdout)["mean_absolute_error_ms"] == 100.0
    before = calib("stats", "--json").stdout
    assert "old" in calib("import", "state", exit_code=2).stderr
    assert calib("stats", "--json").stdout == before


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("import",), "<stdin>: the file is empty"),
        (("import", "xml"), "there is no format 'xml'"),
        (("import", "csv", "missing.csv"), "missing.csv"),
        (("import", "csv", ""), "name the file"),
        (("import", "state", "--skip-bad"), "skip_bad"),
        (("export", "ledger"), "'ledger' is not one of"),
        (("export", "csv", "no/such/folder.csv"), "folder"),
        (("export", "csv", "--model", ""), "must not be empty"),
    ],
)
def test_wrong_usage_is_refused(calib, filled, args, sentence):
    before = filled.read_bytes()
    assert sentence in calib(*args, exit_code=2).stderr
    assert filled.read_bytes() == before


def test_a_model_never_seen_cannot_be_exported(calib, filled):
    result = calib("export", "csv", "--model", "nobody", exit_code=1)
    assert "'nobody'" in result.stderr
    assert result.stdout == ""


# -- the list of formats --------------------------------------------------------------------


def test_the_list_of_formats_has_each_with_its_kind(calib):
    told = calib("formats").stdout.splitlines()
    assert told[0].split() == ["format", "kind", "reads"]
    found = {line.split()[0]: line.split()[1] for line in told[1:]}
    modules = ["llm", "litellm", "otlp", "phoenix", "langfuse", "openwebui", "ollama", "llamacpp"]
    modules += ["groq", "vllm-bench", "mlflow"]
    recipes = ["aiperf", "guidellm", "llmperf", "inspect", "promptfoo", "hmft", "gemini-cli"]
    recipes += ["openrouter"]
    expected = dict.fromkeys(["jsonl", "csv", "ledger", "state"], "own")
    expected |= dict.fromkeys(modules, "module") | dict.fromkeys(recipes, "recipe")
    assert found == expected
    listed = json.loads(calib("formats", "--json").stdout)
    assert [one["name"] for one in listed] == [*found]
    assert all(one["reads"] and one["trouble"] is None for one in listed)


def test_the_list_says_where_a_tool_keeps_its_file(calib, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / ".nexus" / "calibrator_state.json"
    listed = json.loads(calib("formats", "--json").stdout)
    assert next(one for one in listed if one["name"] == "state")["default"] == str(place)
    assert f"here {place}" not in calib("formats").stdout
    place.parent.mkdir()
    place.write_text('{"version": 1, "models": []}')
    assert f"; here {place}" in calib("formats").stdout
    assert "0 models" in calib("import", "state").stderr


# -- files whose format is told by themselves -----------------------------------------------

GOOD_ROW = '{"model":"m","prompt_tokens":1,"completion_tokens":2,"actual_ms":3.5}\n'
GOOD_CSV = "model,prompt_tokens,completion_tokens,actual_ms\nm,4,5,6.5\n"


@pytest.fixture(name="files")
def _files(tmp_path, monkeypatch):
    folder = tmp_path / "files"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "a").write_text(GOOD_ROW)
    (folder / "b").write_text(GOOD_CSV)
    (folder / "bad").write_text(GOOD_ROW + '{"model":"m"}\n')
    return folder


@pytest.mark.parametrize("first", [[], ["auto"]])
def test_several_files_are_taken_in_and_it_is_said_as_what(first, calib, files):
    told = calib("import", *first, "a", "b").stderr.splitlines()
    assert told[0] == "a, read as jsonl: 1 call recorded; 1 model (1 new)"
    assert "b, read as csv: 1 call recorded; 1 model" in told
    lines = calib("import", *first, "a", "b", "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [(one["source"], one["format"], one["already"]) for one in found] == [
        ("a", "jsonl", 1),
        ("b", "csv", 1),
    ]


def test_what_was_taken_in_before_a_bad_file_stays_and_is_told(calib, files):
    told = calib("import", "a", "bad", "b", exit_code=2).stderr
    assert "a, read as jsonl: 1 call recorded" in told
    assert "1 of 3 files were taken in; the next one stopped the import:" in told
    assert "bad, line 2: prompt_tokens is missing" in told
    assert json.loads(calib("import", "a", "--json").stdout)["already"] == 1


def test_a_dry_run_that_stops_says_that_files_would_be_taken_in(calib, files):
    told = calib("import", "a", "bad", "b", "--dry-run", exit_code=2).stderr
    assert "1 of 3 files would be taken in; the next one stopped the import:" in told


def test_stdin_is_known_by_itself_too(calib, files):
    for words in (["-"], ["auto"], ["auto", "-"]):
        report = json.loads(calib("import", *words, "--json", input=GOOD_CSV).stdout)
        assert (report["kind"], report["format"]) == ("auto", "csv")


def test_the_name_of_a_format_is_a_format_and_a_file_of_that_name_needs_a_path(calib, files):
    (files / "csv").write_text(GOOD_ROW)
    assert "read as jsonl" in calib("import", "./csv").stderr
    assert "the first line must name" in calib("import", "csv", "csv", exit_code=2).stderr.lower()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["jsnl", "a"], "there is no format 'jsnl'.*did you mean 'jsonl'.*calib formats"),
        (["none.jsonl"], "none.jsonl: the file cannot be opened: No such file or directory."),
        (["none/here"], "none/here: the file cannot be opened: No such file or directory."),
        (["litelm"], "there is no format 'litelm'. There is no such file either: did you mean"),
        (["a", "none"], "none: the file cannot be opened: No such file"),
        (["."], "cannot be opened: Is a directory"),
    ],
)
def test_a_word_that_is_neither_a_format_nor_a_file_is_an_error(words, sentence, calib, files):
    assert re.search(sentence, calib("import", *words, exit_code=2).stderr)


def test_a_dry_run_shows_the_models_and_the_first_calls(calib, files, ledger_path):
    result = calib("import", "a", "b", "--dry-run")
    assert result.stdout.splitlines()[:5] == [
        "model  calls  first  last  prompt tok  compl tok  median ms",
        "m          1  -      -              1          2        3.5",
        "",
        "The first calls",
        "model  called at  prompt tok  compl tok   ms  request id  details",
    ]
    assert "b, read as csv: 1 call would be recorded; 1 model (1 new)" in result.stderr
    assert "void --import" not in result.stderr
    assert not ledger_path.exists()
    preview = json.loads(calib("import", "a", "--dry-run", "--json").stdout)["preview"]
    assert preview["models"][0]["median_ms"] == 3.5
    assert preview["calls"][0]["prompt_tokens"] == 1


def test_a_model_is_hinted_at_where_a_tools_file_names_none(calib):
    sample = Path(__file__).parents[1] / "formats" / "samples" / "aiperf.profile_export.jsonl"
    told = calib("import", sample).stderr
    assert "read as aiperf: 0 calls recorded" in told
    assert "hint: --model NAME gives a model" in told
    assert " recorded; 1 model (1 new)" in calib("import", sample, "--model", "mine").stderr
