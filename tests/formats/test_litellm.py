"""LiteLLM's payloads and spend logs."""

import csv
import json
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from support.tool_files import REAL, SAMPLES, details, imported, lines_of, numbers, written

SPEND = ["litellm.spend.json", "litellm.spend.csv"]


def changed(number=0, **fields):
    """A payload of the sample with other fields; None takes one away."""
    record = lines_of("litellm.payloads.jsonl")[number] | fields
    return {name: value for name, value in record.items() if value is not None}


def read(tmp_path, *records, **options):
    return imported("litellm", written(tmp_path, *records), **options)


def test_payloads_are_calls_with_the_numbers_of_the_provider():
    calls, left_out = imported("litellm", SAMPLES / "litellm.payloads.jsonl")
    assert numbers(calls) == [
        ("openai/gpt-4o-mini", 120, 40, 1500.0),
        ("openai/gpt-4o-mini", 120, 40, 1500.0),
        ("openai/gpt-4o-mini", 30, 6, 1500.0),
        ("groq/openai/gpt-oss-20b", 120, 40, 1500.0),
    ]
    assert calls[0].called_at == datetime(2026, 5, 28, 20, 26, 50, tzinfo=UTC)
    assert calls[0].request_id == "5f0c6c2e-0000-4000-8000-000000000001"
    assert details(calls[0]) == {
        "clock": "client",
        "streamed": False,
        "answered_model": "gpt-4o-mini-2024-07-18",
        "cached_tokens": 64,
        "reasoning_tokens": 8,
    }
    assert (calls[1].details["streamed"], calls[1].details["ttft_ms"]) == (True, 250.0)
    assert left_out == {
        "estimated tokens": 1,
        "unknown tokens": 1,
        "not a completion": 1,
        "cached": 1,
        "failed": 1,
        "timeout": 1,
        "duplicate": 1,
    }


@pytest.mark.parametrize("name", SPEND)
def test_spend_logs_are_calls_however_they_were_taken_out(name):
    calls, left_out = imported("litellm", SAMPLES / name)
    assert numbers(calls) == [("openai/gpt-4o-mini", 120, 40, 1500.0)] * 2
    assert calls[0].called_at == datetime(2026, 5, 28, 20, 20, tzinfo=UTC)
    assert [call.request_id for call in calls] == [
        "77777777-0000-4000-8000-000000000000",
        "chatcmpl-s1",  # the older rows have no id of LiteLLM's own
    ]
    assert [call.details["streamed"] for call in calls] == [False, True]
    assert left_out == {"cached": 1, "failed": 1, "not a completion": 1, "estimated tokens": 1}


def test_spend_logs_as_json_and_as_csv_are_the_same_calls():
    with AdaptiveCalibrator(":memory:") as calibrator:
        assert calibrator.import_calls("litellm", SAMPLES / SPEND[0]).recorded == 2
        assert calibrator.import_calls("litellm", SAMPLES / SPEND[1]).recorded == 0


@pytest.mark.parametrize("sign", [";", "\t"])
def test_spend_logs_whose_columns_other_signs_part_are_read(tmp_path, sign):
    path = tmp_path / "spend.csv"
    with (SAMPLES / SPEND[1]).open(newline="") as file, path.open("w", newline="") as copy:
        csv.writer(copy, delimiter=sign).writerows(csv.reader(file))
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls("auto", path)
        assert (report.format, report.recorded) == ("litellm", 2)
        assert calibrator.import_calls("litellm", SAMPLES / SPEND[1]).recorded == 0
        assert calibrator.audit() == []


def test_a_file_that_grew_by_three_payloads_adds_three(tmp_path):
    with AdaptiveCalibrator(":memory:") as calibrator:
        records = [changed(litellm_call_id=f"c{n}") for n in range(8)]
        calibrator.import_calls("litellm", written(tmp_path, *records[:5]))
        assert calibrator.import_calls("litellm", written(tmp_path, *records)).recorded == 3


def test_a_list_of_payloads_and_one_by_itself_are_read(tmp_path):
    records = lines_of("litellm.payloads.jsonl")
    path = tmp_path / "payloads.json"
    for text in (json.dumps(records), json.dumps(records, indent=2)):
        path.write_text(text)
        assert len(imported("litellm", path)[0]) == 4
    path.write_text(json.dumps(records[0], indent=4))
    assert len(imported("litellm", path)[0]) == 1


def test_what_a_callback_got_may_be_around_the_payload(tmp_path):
    calls, _ = read(tmp_path, {"model": "x", "standard_logging_object": changed()})
    assert numbers(calls) == [("openai/gpt-4o-mini", 120, 40, 1500.0)]


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ({"model": "gpt-4o"}, "openai/gpt-4o"),
        ({"model": "openai/gpt-4o"}, "openai/gpt-4o"),
        ({"model": "openai/gpt-oss-20b", "custom_llm_provider": "groq"}, "groq/openai/gpt-oss-20b"),
        ({"model": "phi3:mini", "custom_llm_provider": "ollama_chat"}, "ollama_chat/phi3:mini"),
        ({"model": "gpt-4o", "custom_llm_provider": None}, "gpt-4o"),
        ({"model": None, "hidden_params": {"litellm_model_name": "openai/x"}}, "openai/x"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_streams_and_whole_answers_have_one_name_for_a_model(tmp_path, fields, model, is_stream):
    if is_stream:
        fields = {"stream": True, **fields}
    ((call,), _) = read(tmp_path, changed(**fields))
    assert call.model == model


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"stream": True}, None),  # parts of the prompt are told: the provider counted
        ({"stream": True, "metadata": {"usage_object": {}}}, "estimated tokens"),
        ({"stream": True, "metadata": {}}, "estimated tokens"),
        (
            {
                "stream": True,
                "metadata": {},
                "model_parameters": {"stream_options": {"include_usage": True}},
            },
            None,
        ),
        ({"stream": True, "metadata": {}, "custom_llm_provider": "anthropic"}, None),
        ({"stream": True, "metadata": {}, "call_type": "aresponses"}, None),
        ({"metadata": {}}, None),  # whole answers are never counted by LiteLLM
        ({"completion_tokens": 0}, "unknown tokens"),
        ({"prompt_tokens": None}, "unknown tokens"),
        ({"endTime": None}, "unknown duration"),
        ({"endTime": 1.0}, "unknown duration"),
        ({"cache_hit": "True"}, "cached"),
        ({"cache_hit": "False"}, None),
        ({"call_type": "aspeech"}, "not a completion"),
        ({"call_type": "pass_through_endpoint"}, "not a completion"),
        ({"call_type": "anthropic_messages"}, None),
        ({"status": "failure", "error_information": {"error_class": "APITimeoutError"}}, "timeout"),
        (
            {"status": "failure", "error_information": {"error_class": "CancelledError"}},
            "cancelled",
        ),
        ({"status": None, "metadata": {"status": "failure"}}, "failed"),
        ({"model": None, "hidden_params": {}}, "unknown model"),
    ],
)
def test_what_cannot_be_learnt_from_is_counted_by_its_reason(tmp_path, fields, reason):
    calls, left_out = read(tmp_path, changed(**fields))
    assert left_out == ({} if reason is None else {reason: 1})
    assert len(calls) == (reason is None)


def test_a_failed_attempt_does_not_hide_the_good_one_of_the_same_id(tmp_path):
    """Through the proxy all attempts of a request have one id."""
    failed = changed(status="failure", startTime=1780000001.0)
    calls, left_out = read(tmp_path, failed, changed(), changed())
    assert (len(calls), left_out) == (1, {"failed": 1, "duplicate": 1})


def test_times_may_be_seconds_or_texts_with_or_without_a_zone(tmp_path):
    zones = ["2026-05-28T20:26:50Z", "2026-05-28 20:26:50", "2026-05-28T22:26:50+02:00"]
    for start in (*zones, 1780000010, "2026-05-28 20:26:50+00"):
        ((call,), _) = read(tmp_path, changed(startTime=start))
        assert call.called_at == datetime(2026, 5, 28, 20, 26, 50, tzinfo=UTC)
        assert call.actual_ms == 1500.0


def test_hidden_reasoning_that_a_provider_counts_beside_is_in_the_completion(tmp_path):
    ((call,), _) = read(tmp_path, changed(total_tokens=168))  # xAI: 120 + 40 + 8
    assert call.completion_tokens == 48


def test_a_model_that_no_report_names_is_the_users(tmp_path):
    nameless = changed(model=None, hidden_params={})
    ((call,), _) = read(tmp_path, nameless, model="mine")
    assert call.model == "mine"


@pytest.mark.parametrize("bad", ['{"date": "2026-05-28", "spend": 0.5}', "{", "5"])
def test_what_is_no_report_is_a_bad_line(tmp_path, bad):
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(changed()) + "\n" + bad + "\n")
    with AdaptiveCalibrator(":memory:") as calibrator:
        with pytest.raises(ImportRefusedError, match="line 2"):
            calibrator.import_calls("litellm", path)
        assert calibrator.import_calls("litellm", path, skip_bad=True).recorded == 1


def test_csv_may_hold_long_texts_on_many_lines(tmp_path):
    path = tmp_path / "spend.csv"
    names = "request_id,call_type,prompt_tokens,completion_tokens,startTime,endTime,model,messages"
    long = '"' + 'a ""long""\nprompt, ' * 20_000 + '"'
    rows = [
        f"r{n},completion,11,7,2026-05-28 20:00:0{n},2026-05-28 20:00:0{n}.5,m,{long}" for n in "12"
    ]
    path.write_text("\n".join([names, *rows, "cut,short"]) + "\n")
    with AdaptiveCalibrator(":memory:") as calibrator:
        report = calibrator.import_calls("litellm", path, skip_bad=True)
        assert (report.recorded, report.skipped) == (2, 1)
        assert report.skipped_lines[0].line == 40_004


NUMBERS = {
    "0_async_success": [("openai/gpt-4o", 11, 12, 597.847)],
    "1_async_success": [],
    "2_async_failure": [],
    "3_async_success": [("ollama_chat/llama3.2:3b", 14, 12, 203.481)],
}


@pytest.mark.skipif(not REAL.exists(), reason="the real files (../shared/samples) are not here")
@pytest.mark.parametrize(("name", "expected"), NUMBERS.items())
def test_real_payloads_are_read(name, expected):
    calls, left_out = imported("litellm", REAL / f"litellm_standard_logging_payload_{name}.json")
    assert numbers(calls) == expected
    assert left_out == {"1": {"unknown tokens": 1}, "2": {"failed": 1}}.get(name[0], {})
