"""Files of the user's own: maps, conditions, recipes, and names that are understood without one."""

import gzip
import json

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError, InvalidInputError

MAP = {
    "model": "req.model",
    "prompt_tokens": "usage.input_tokens",
    "completion_tokens": "usage.output_tokens",
    "actual_ms": "took_s:s",
    "called_at": "ts",
    "request_id": "id",
}


def record(number=1, **changes):
    return {
        "id": f"r{number}",
        "ts": f"2025-01-31T12:00:{number:02}Z",
        "req": {"model": "m", "prompt": "a secret question"},
        "usage": {"input_tokens": 10 + number, "output_tokens": 5},
        "took_s": 0.25 * number,
        "ok": True,
        **changes,
    }


@pytest.fixture
def calibrator():
    with AdaptiveCalibrator(":memory:") as calibrator:
        yield calibrator
        assert calibrator.audit() == []


@pytest.fixture
def write(tmp_path):
    def write(content, name="calls.jsonl"):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(one) + "\n" for one in content)
        path.write_text(content)
        return path

    return write


def numbers(calibrator):
    return [(call.model, call.prompt_tokens, call.actual_ms) for call in calibrator.calls()]


# -- maps -----------------------------------------------------------------------------------


def test_a_file_is_taken_in_by_a_map_as_items_or_as_a_mapping(calibrator, write):
    path = write([record(1), record(2, ok=False), record(3)])
    items = [f"{column}={source}" for column, source in MAP.items()]
    report = calibrator.import_calls("jsonl", path, map=items, where="ok=true", dry_run=True)
    assert report.recorded == 0 or report.preview
    report = calibrator.import_calls("jsonl", path, map=items, where="ok=true")
    assert (report.recorded, report.format) == (2, "jsonl")
    assert report.read_as == ("1 of 3 records left out by a condition",)
    assert numbers(calibrator) == [("m", 11, 250.0), ("m", 13, 750.0)]
    report = calibrator.import_calls("auto", path, map=MAP)
    assert (report.recorded, report.already, report.format) == (1, 2, "jsonl")


LAYOUTS = {
    "JSON lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "a list in a line": json.dumps,
    "a list in lines": lambda rows: json.dumps(rows, indent=2),
    "documents": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("kind", ["jsonl", "auto"])
def test_json_is_read_by_a_map_in_any_layout(layout, kind, calibrator, write):
    path = write("\ufeff" + layout([record(1), record(2)]))
    assert calibrator.import_calls(kind, path, map=MAP).recorded == 2
    assert numbers(calibrator) == [("m", 11, 250.0), ("m", 12, 500.0)]


def test_one_document_with_its_calls_within_is_read(calibrator, write):
    path = write(json.dumps({"tool": "x", "model": "m", "calls": [record(1), record(2)]}))
    by = {
        "model": "model",
        "prompt_tokens": "calls[].usage.input_tokens",
        "completion_tokens": "calls[].usage.output_tokens",
        "actual_ms": "calls[].took_s:s",
    }
    assert calibrator.import_calls("jsonl", path, map=by, where="calls[].id=r2").recorded == 1
    assert numbers(calibrator) == [("m", 12, 500.0)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_is_read_by_a_map(separator, calibrator, tmp_path):
    rows = [["model", "in", "out", "took", "status", "note"], ["m", "11", "5", "0.25", "ok", ""],
            ["m", "12", "5", "0.5", "error", "x"]]  # fmt: skip
    path = tmp_path / "calls.csv.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(separator.join(row) + "\r\n" for row in rows)
    by = ["model=model", "prompt_tokens=in", "completion_tokens=out", "actual_ms=took:s"]
    assert calibrator.import_calls("csv", path, map=by, where=["status!=error"]).recorded == 1
    assert calibrator.import_calls("auto", path, map=by).recorded == 1
    assert numbers(calibrator) == [("m", 11, 250.0), ("m", 12, 500.0)]


def test_what_the_file_does_not_say_of_a_call_is_counted_and_stops_nothing(calibrator, write):
    path = write(
        [
            record(1),
            record(2, usage={"input_tokens": 5}),
            record(3, took_s=None),
            record(4, req={}),
        ]
    )
    report = calibrator.import_calls("jsonl", path, map=MAP)
    assert report.recorded == 1
    assert dict(report.left_out) == {
        "unknown tokens": 1,
        "unknown duration": 1,
        "unknown model": 1,
    }
    assert calibrator.import_calls("jsonl", path, map=MAP, model="other").recorded == 1


def test_a_bad_row_refuses_the_file_by_its_line_or_is_skipped(calibrator, write):
    path = write([record(1), record(2, took_s="soon"), record(3)])
    with pytest.raises(ImportRefusedError, match=r"line 2: actual_ms must be a number") as caught:
        calibrator.import_calls("jsonl", path, map=MAP)
    assert caught.value.line == 2
    report = calibrator.import_calls("jsonl", path, map=MAP, skip_bad=True)
    assert (report.recorded, report.skipped) == (2, 1)
    twice = write('{"req":1,"req":2}\n')
    with pytest.raises(ImportRefusedError, match="the key 'req' is there twice"):
        calibrator.import_calls("jsonl", twice, map=MAP)


def test_the_same_map_in_a_recipe_reads_the_same(calibrator, write, tmp_path):
    path = write([record(1), record(2, ok=False), record(3, error="x")])
    recipe = tmp_path / "my.toml"
    recipe.write_text(
        'reads = "my log"\nwhere = "ok=true"\n[map]\n'
        + "".join(f'{column} = "{source}"\n' for column, source in MAP.items())
        + '[details]\nclock = "client"\n[skip]\nfailed = "error!=null"\n'
    )
    report = calibrator.import_calls("jsonl", path, recipe=recipe)
    assert (report.recorded, dict(report.left_out)) == (1, {"failed": 1})
    (call,) = calibrator.calls()
    assert call.details["clock"] == "client"
    named = {"recipe": str(recipe), "map": ["request_id=ts"], "where": "id=r1"}
    assert calibrator.import_calls("auto", path, **named).recorded == 1  # the map changes it
    with pytest.raises(ImportRefusedError, match="cannot be opened"):
        calibrator.import_calls("jsonl", path, recipe=tmp_path / "other.toml")


def test_what_cannot_go_together_is_refused_and_records_nothing(calibrator, write):
    path = write([record(1)])
    for options, said in (
        ({"kind": "otlp", "map": MAP}, "map is for files of your own"),
        ({"kind": "ledger", "where": "x=1"}, "where is for files of your own"),
        ({"kind": "jsonl", "where": "ok=true"}, "are read by a map"),
        ({"kind": "aiperf", "recipe": "x.toml"}, "another is named"),
        ({"kind": "jsonl", "map": MAP, "where": 5}, "must be a text, or a list of texts"),
        ({"kind": "jsonl", "map": 5}, "a map is items such as"),
        ({"kind": "jsonl", "map": ["modl=x"]}, "did you mean 'model'"),
        ({"kind": "jsonl", "map": ["actual_ms=took_s:m"]}, "is no unit"),
        ({"kind": "jsonl", "map": {**MAP, "details.x": "usage.x"}}, "no record has usage.x"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            calibrator.import_calls(source=path, **options)
    assert list(calibrator.calls()) == []


# -- the rest of a record -------------------------------------------------------------------


def test_the_rest_is_kept_where_it_can_be_no_prompt(calibrator, write):
    rest = {
        "temperature": 0.5, "stream": True, "tags": ["a"], "nested": {"x": 1}, "team": "blue",
        "prompt": "hi", "system_prompt": "be kind", "api_key": "k", "note": "x" * 65,
        "lines": "a\nb", "nothing": None,
    }  # fmt: skip
    calibrator.import_calls("jsonl", write([record(1, **rest)]), map=MAP, keep_rest=True)
    (call,) = calibrator.calls()
    kept = {name: value for name, value in call.details.items() if name != "import_id"}
    assert kept == {"temperature": 0.5, "stream": True, "team": "blue", "ok": True}


def test_unknown_columns_refuse_a_file_without_a_map_unless_they_are_kept(calibrator, write):
    text = "model,prompt_tokens,completion_tokens,actual_ms,team,n\nm,1,2,3.5,blue,7\n"
    path = write(text, "calls.csv")
    with pytest.raises(ImportRefusedError, match=r"'n', 'team' are unknown.*keep_rest"):
        calibrator.import_calls("csv", path)
    for kind in ("csv", "auto"):
        report = calibrator.import_calls(kind, path, keep_rest=True)
        assert report.recorded + report.already == 1
    (call,) = calibrator.calls()
    assert (call.details["team"], call.details["n"]) == ("blue", 7)
    with pytest.raises(ImportRefusedError, match="'team' is unknown"):
        calibrator.import_calls("jsonl", write([{**OWN, "team": "blue"}]))
    assert calibrator.import_calls("jsonl", write([{**OWN, "team": "x"}]), keep_rest=True).recorded


# -- names that are understood --------------------------------------------------------------

OWN = {"model": "m", "prompt_tokens": 1, "completion_tokens": 2, "actual_ms": 3.5}


@pytest.mark.parametrize(
    ("names", "values", "read_as"),
    [
        (
            "model,input_tokens,output_tokens,latency_ms",
            "m,1,2,3.5",
            (
                "prompt_tokens from input_tokens, completion_tokens from output_tokens, "
                "actual_ms from latency_ms (ms)"
            ),
        ),
        (
            "model_name,prompt_eval_count,eval_count,duration_s,timestamp,id",
            "m,1,2,0.0035,1738324800,x1",
            (
                "model from model_name, prompt_tokens from prompt_eval_count, "
                "completion_tokens from eval_count, actual_ms from duration_s (s), "
                "called_at from timestamp, "
                "request_id from id"
            ),
        ),
        (
            "Model,Input Tokens,Output Tokens,Latency (ms),Total Tokens",
            "m,1,2,3.5,3",
            None,
        ),
        (
            "model,promptTokens,completionTokens,durationMs,endTime",
            "m,1,2,3.5,2025-01-31T12:00:00Z",
            None,
        ),
    ],
)
def test_common_names_are_understood_and_the_import_says_so(
    names, values, read_as, calibrator, write
):
    as_csv = calibrator.import_calls("auto", write(f"{names}\n{values}\n", "calls.csv"))
    assert as_csv.format == "csv"
    assert as_csv.recorded == 1
    assert numbers(calibrator) == [("m", 1, 3.5)]
    if read_as is not None:
        assert as_csv.read_as[0] == f"read as: {read_as}"
    found = [
        float(value) if value.replace(".", "").isdigit() else value for value in values.split(",")
    ]
    row = dict(zip(names.split(","), found, strict=True))
    as_json = calibrator.import_calls("auto", write([row, row]))
    assert as_json.format == "jsonl"
    assert as_json.read_as == as_csv.read_as
    with AdaptiveCalibrator(":memory:") as other:
        listed = other.import_calls("jsonl", write(json.dumps([row], indent=1)))
        assert listed.recorded == 1
        assert other.import_calls("jsonl", write(json.dumps(row, indent=1))).already == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latency": 3.5}, r"'latency' has no unit.*--map actual_ms=latency:s or .*latency:ms"),
        ({"duration_s": 3.5, "latency_ms": 3500}, "'duration_s' and 'latency_ms' may both be"),
        ({"elapsed": 3.5}, "'elapsed' has no unit"),
        ({"cost": 3.5}, "'cost' is unknown, and actual_ms is missing"),
    ],
)
def test_names_that_leave_a_doubt_are_refused_with_the_map_to_write(
    changes, said, calibrator, write
):
    row = {name: value for name, value in OWN.items() if name != "actual_ms"} | changes
    with pytest.raises(ImportRefusedError, match=said):
        calibrator.import_calls("jsonl", write([row]))
    header, values = ",".join(row), ",".join(map(str, row.values()))
    with pytest.raises(ImportRefusedError, match=said):
        calibrator.import_calls("csv", write(f"{header}\n{values}\n", "calls.csv"))


def test_our_own_names_win_over_others(calibrator, write):
    with pytest.raises(ImportRefusedError, match="'latency_ms' is unknown"):
        calibrator.import_calls("jsonl", write([{**OWN, "latency_ms": 9}]))
    row = {**OWN, "timestamp": "2025-01-31T12:00:00Z", "outcome": None, "details": {"n": 1}}
    report = calibrator.import_calls("jsonl", write([row]))
    assert report.read_as == ("read as: called_at from timestamp",)
    (call,) = calibrator.calls()
    assert call.details["n"] == 1


def test_records_of_one_file_may_have_different_names(calibrator, write):
    rows = [
        {"model": "m", "input_tokens": 1, "output_tokens": 2, "latency_ms": 3.5},
        {"model": "m", "input_tokens": 2, "output_tokens": 2, "duration_s": 0.5, "id": "x"},
        OWN,
        {"model": "m", "input_tokens": 3, "output_tokens": None, "latency_ms": 3.5},
    ]
    report = calibrator.import_calls("jsonl", write(rows))
    assert (report.recorded, dict(report.left_out)) == (3, {"unknown tokens": 1})
    assert [ms for _, _, ms in numbers(calibrator)] == [3.5, 500.0, 3.5]


def test_a_time_out_of_a_file_with_other_names_is_kept_as_one(calibrator, write):
    row = {"model": "m", "input_tokens": 1, "output_tokens": None, "latency_ms": 900.0,
           "outcome": "timeout"}  # fmt: skip
    assert calibrator.import_calls("jsonl", write([row])).timeouts == 1
