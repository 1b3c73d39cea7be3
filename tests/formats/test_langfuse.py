"""Observations of Langfuse: exports to blob storage, of its pages, and its API."""

import csv
import json
import random
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from support.tool_files import SAMPLES, details, imported, lines_of, numbers, written

CALL = ("gpt-4o-mini", 120, 40, 1500.0)


def changed(**fields):
    record = lines_of("langfuse.blob.jsonl")[0] | fields
    return {name: value for name, value in record.items() if value is not None}


def read(tmp_path, *records, **options):
    return imported("langfuse", written(tmp_path, *records), **options)


def test_generations_are_calls_with_all_kinds_of_tokens():
    calls, left_out = imported("langfuse", SAMPLES / "langfuse.blob.jsonl")
    assert numbers(calls) == [CALL, CALL, CALL]
    assert [call.request_id for call in calls] == ["obs-1", "obs-3", "obs-17"]
    assert calls[0].called_at == datetime(2026, 5, 28, 20, 26, 1, tzinfo=UTC)
    assert details(calls[0]) == {"clock": "client", "cached_tokens": 64, "reasoning_tokens": 8}
    assert (calls[1].details["streamed"], calls[1].details["ttft_ms"]) == (True, 250.0)
    assert left_out == {
        "failed": 1,
        "unknown tokens": 1,
        "unknown duration": 1,
        "not a completion": 1,
        "unknown model": 1,
        "nested": 1,
    }


def test_an_export_as_csv_has_the_same_calls():
    with AdaptiveCalibrator(":memory:") as calibrator:
        assert calibrator.import_calls("langfuse", SAMPLES / "langfuse.blob.csv").recorded == 2
        report = calibrator.import_calls("langfuse", SAMPLES / "langfuse.blob.jsonl")
        assert (report.recorded, report.already) == (1, 2)


def test_a_page_of_the_api_is_read_with_the_usage_of_now_and_of_before():
    calls, left_out = imported("langfuse", SAMPLES / "langfuse.api.json")
    assert numbers(calls) == [CALL, CALL]  # whatever `latency` counts
    assert left_out == {}
    # An observation that came through OpenTelemetry has the id that a hook gives it, too.
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert [call.request_id for call in calls] == [f"{trace}:0123456789abcdef", "old-1"]


def test_an_export_of_the_pages_has_sums_in_camel_case(tmp_path):
    row = {
        "id": "o",
        "type": "GENERATION",
        "traceId": "t",
        "startTime": "2026-05-28T20:26:40.000Z",
        "endTime": "2026-05-28T20:26:41.500Z",
        "model": "gpt-4o-mini",
        "inputUsage": 120,
        "outputUsage": 40,
        "latency": 1.5,
        "level": "DEFAULT",
        "input": '[{"role": "user",\n"content": "Hi"}]',
    }
    path = tmp_path / "observations.csv"
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(row), quoting=csv.QUOTE_ALL)
        table.writeheader()
        table.writerow(row)
    ((call,), _) = imported("langfuse", path)
    assert numbers([call]) == [CALL]
    path.write_text(json.dumps([row]))
    assert numbers(imported("langfuse", path)[0]) == [CALL]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 120, "output": 40}, (120, 40)),
        ({"input": "120", "output": "40"}, (120, 40)),
        (
            {"input": 10, "input_cache_read": 80, "input_cache_creation": 30, "output": 40},
            (120, 40),
        ),
        ({"input": 0, "cache_read_input_tokens": 120, "output": 40}, (120, 40)),
        ({"prompt_tokens": 120, "completion_tokens": 40, "total_tokens": 160}, (120, 40)),
        ({"input": 110, "input_audio_tokens": 10, "output": 32, "output_reasoning": 8}, (120, 40)),
        ({"input_tokens": 120, "output_tokens": 40}, (120, 40)),
        (json.dumps({"input": 120, "output": 40}), (120, 40)),
        ({"total": 160}, None),
        ({"input": 0, "output": 0}, None),
        ({"input": 120}, None),
        ("{", None),
    ],
)
def test_each_wording_of_the_usage_is_understood(tmp_path, usage, expected):
    calls, left_out = read(tmp_path, changed(usage_details=usage))
    assert [(call.prompt_tokens, call.completion_tokens) for call in calls] == (
        [] if expected is None else [expected]
    )
    assert left_out == ({"unknown tokens": 1} if expected is None else {})


def test_a_usage_of_letters_is_none_of_tokens(tmp_path):
    old = changed(usage_details=None, usage={"input": 120, "output": 40, "unit": "CHARACTERS"})
    assert read(tmp_path, old) == ([], {"unknown tokens": 1})


@pytest.mark.parametrize("seed", range(4))
def test_of_generations_around_each_other_the_innermost_is_taken_in_whatever_order(tmp_path, seed):
    chain = [
        changed(id="a"),
        changed(id="b", type="SPAN", parent_observation_id="a"),
        changed(id="c", parent_observation_id="b"),
        changed(id="d", type="TOOL", parent_observation_id="c"),
    ]
    random.Random(seed).shuffle(chain)
    calls, left_out = read(tmp_path, *chain)
    assert ([call.request_id for call in calls], left_out) == (["c"], {"nested": 1})


def test_a_file_that_grew_by_three_generations_adds_three(tmp_path):
    with AdaptiveCalibrator(":memory:") as calibrator:
        records = [changed(id=f"o{n}") for n in range(8)]
        calibrator.import_calls("langfuse", written(tmp_path, *records[:5]))
        assert calibrator.import_calls("langfuse", written(tmp_path, *records)).recorded == 3


def test_an_observation_that_is_exported_twice_is_a_duplicate(tmp_path):
    assert read(tmp_path, changed(), changed())[1] == {"duplicate": 1}


def test_a_generation_without_a_model_is_of_the_users(tmp_path):
    ((call,), _) = read(tmp_path, changed(provided_model_name=""), model="mine")
    assert call.model == "mine"


def test_what_is_no_observation_is_a_bad_line(tmp_path):
    with (
        AdaptiveCalibrator(":memory:") as calibrator,
        pytest.raises(ImportRefusedError, match="line 2"),
    ):
        calibrator.import_calls("langfuse", written(tmp_path, changed(), {"name": "score"}))
