"""Results of `vllm bench serve`."""

import json

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from support.tool_files import REAL, SAMPLES, details, imported, lines_of, numbers, written

NEW, OLD = lines_of("vllm-bench.results.jsonl")


def read(tmp_path, *results):
    return imported("vllm-bench", written(tmp_path, *results))


def test_each_request_of_each_run_is_a_call():
    calls, left_out = imported("vllm-bench", SAMPLES / "vllm-bench.results.jsonl")
    assert numbers(calls) == [
        ("qwen3:8b", 41, 12, 187.5),
        ("qwen3:8b", 40, 12, 250.0),
        ("qwen3:8b", 35, 12, 125.0),
        # The older one has no latencies: the first token and the pauses behind it.
        ("qwen3:8b", 41, 12, 100.0),
        ("qwen3:8b", 40, 12, 120.0),
        ("qwen3:8b", 35, 12, 180.0),
    ]
    assert details(calls[0]) == {
        "clock": "client",
        "streamed": True,
        "ttft_ms": 70.0,
        "request_rate": 2.0,
        "max_concurrency": 8,
    }
    assert details(calls[3]) == {
        "clock": "client",
        "streamed": True,
        "ttft_ms": 70.0,
        "request_rate": "inf",
    }
    assert left_out == {"failed": 2}


def test_a_run_in_a_file_of_its_own_and_among_others_is_one(tmp_path):
    with AdaptiveCalibrator(":memory:") as calibrator:
        for results, recorded in (((NEW,), 3), ((NEW, OLD), 3), ((OLD,), 0)):
            path = written(tmp_path, *results)
            assert calibrator.import_calls("vllm-bench", path).recorded == recorded
        path.write_text(json.dumps(NEW, indent=2))
        assert calibrator.import_calls("vllm-bench", path).recorded == 0


def test_equal_requests_of_two_runs_are_two_calls(tmp_path):
    again = {**NEW, "date": "20260528-203000", "duration": 3.26}
    assert len(read(tmp_path, NEW, again)[0]) == 6


def test_an_endpoint_that_does_not_stream_has_no_first_token(tmp_path):
    whole = {**NEW, "ttfts": [0.0] * 4, "itls": [[]] * 4}
    calls, _ = read(tmp_path, whole)
    assert [call.actual_ms for call in calls] == [187.5, 250.0, 125.0]
    assert "ttft_ms" not in calls[0].details


@pytest.mark.parametrize(
    ("fields", "left_out"),
    [
        ({"errors": ["TimeoutError()", "x", "", ""]}, {"timeout": 1, "failed": 2}),
        ({"latencies": [], "ttfts": []}, {"failed": 1, "unknown duration": 3}),
        ({"latencies": [], "itls": ["?"] * 4}, {"failed": 1, "unknown duration": 3}),
        ({"input_lens": [0, 40]}, {"failed": 1, "unknown tokens": 2}),
    ],
)
def test_what_cannot_be_learnt_from_is_counted_by_its_reason(tmp_path, fields, left_out):
    assert read(tmp_path, {**NEW, **fields})[1] == left_out


@pytest.mark.parametrize("lacks", ["input_lens", "output_lens", "model_id"])
def test_a_result_of_sums_alone_is_refused_with_the_option_that_gives_more(tmp_path, lacks):
    result = {name: value for name, value in NEW.items() if name != lacks}
    advice = "no result" if lacks == "model_id" else "--save-detailed"
    with AdaptiveCalibrator(":memory:") as calibrator:
        with pytest.raises(ImportRefusedError, match=advice):
            calibrator.import_calls("vllm-bench", written(tmp_path, OLD, result))
        assert list(calibrator.all_stats()) == []


@pytest.mark.skipif(not REAL.exists(), reason="the real files (../shared/samples) are not here")
def test_a_real_result_is_read():
    calls, left_out = imported("vllm-bench", REAL / "vllm_bench_serve_0.32.0.json")
    assert numbers(calls) == [
        ("fake-1", 41, 12, 183.214153),
        ("fake-1", 40, 12, 188.247404),
        ("fake-1", 40, 12, 187.466599),
        ("fake-1", 35, 12, 186.999732),
    ]
    assert (calls[0].details["ttft_ms"], calls[0].details["request_rate"]) == (71.75713, "inf")
    assert left_out == {}
