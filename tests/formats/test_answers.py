"""Answers of Ollama, llama.cpp and Groq, kept in files."""

import json
from datetime import UTC, datetime

import pytest

from calibration_ledger import AdaptiveCalibrator, ImportRefusedError
from support.tool_files import REAL, SAMPLES, details, imported, lines_of, numbers, written

T = datetime(2026, 5, 28, 20, 26, 40, tzinfo=UTC)


def test_answers_of_ollama_are_calls_without_the_time_to_load():
    calls, left_out = imported("ollama", SAMPLES / "ollama.answers.jsonl")
    assert numbers(calls) == [("phi3:mini", 40, 200, 1500.0), ("phi3:mini", 40, 200, 2000.0)]
    assert [(call.called_at - T).total_seconds() for call in calls] == [0.0, 10.0]  # 2 s before
    assert details(calls[0]) == {"clock": "server", "load_ms": 500.0}
    assert details(calls[1]) == {"clock": "server"}
    assert left_out == {
        "unknown tokens": 2,
        "unknown duration": 1,
        "not a completion": 1,
        "failed": 1,
    }


def test_of_a_saved_stream_only_the_last_line_is_a_call(tmp_path):
    part, last, *_ = lines_of("ollama.answers.jsonl")
    stream = written(tmp_path, part, part, part, last, part, part, {**last, "eval_count": 9})
    calls, left_out = imported("ollama", stream)
    assert ([call.completion_tokens for call in calls], left_out) == ([200, 9], {})


def test_answers_of_llama_cpp_have_the_cache_in_their_prompt():
    calls, left_out = imported("llamacpp", SAMPLES / "llamacpp.answers.jsonl")
    assert numbers(calls) == [("phi-3-mini.gguf", 312, 20, 420.75)] * 3
    assert [call.request_id for call in calls[:2]] == ["chatcmpl-l1", "chatcmpl-l2"]
    assert calls[0].called_at == T
    assert details(calls[0]) == {"clock": "server-queue", "cached_tokens": 311}
    assert left_out == {"unknown duration": 1}  # in OpenAI's shape, and nobody timed it


def test_answers_of_groq_have_the_queue_in_their_time():
    calls, left_out = imported("groq", SAMPLES / "groq.answers.jsonl")
    assert numbers(calls) == [("openai/gpt-oss-20b", 120, 40, 350.0)] * 2
    assert [call.request_id for call in calls] == ["chatcmpl-g1", "chatcmpl-g2"]
    assert details(calls[0]) == {"clock": "server", "queue_ms": 250.0, "reasoning_tokens": 8}
    assert details(calls[1])["streamed"] is True
    assert left_out == {"unknown duration": 1, "failed": 1}


@pytest.mark.parametrize("name", ["ollama", "llamacpp", "groq"])
def test_each_name_reads_the_answers_of_all(name):
    found = [
        len(imported(name, SAMPLES / f"{of}.answers.jsonl")[0])
        for of in ("ollama", "llamacpp", "groq")
    ]
    assert found == [2, 3, 2]


@pytest.mark.parametrize("name", ["ollama", "llamacpp", "groq"])
def test_a_file_that_grew_by_three_answers_adds_three(tmp_path, name):
    answer = lines_of(f"{name}.answers.jsonl")[1 if name == "ollama" else 0]
    answers = [
        {**answer, "id": f"a{n}", "created_at": f"2026-05-28T20:00:{n:02d}Z"} for n in range(10)
    ]
    if name == "ollama":
        answers = [{key: one[key] for key in one if key != "id"} for one in answers]
    with AdaptiveCalibrator(":memory:") as calibrator:
        assert calibrator.import_calls(name, written(tmp_path, *answers[:7])).recorded == 7
        assert calibrator.import_calls(name, written(tmp_path, *answers)).recorded == 3


def test_documents_one_behind_the_other_are_read(tmp_path):
    path = tmp_path / "answers.json"
    path.write_text("\n".join(json.dumps(one, indent=2) for one in lines_of("groq.answers.jsonl")))
    assert len(imported("groq", path)[0]) == 2


def test_an_answer_without_a_model_is_of_the_users(tmp_path):
    answer = lines_of("llamacpp.answers.jsonl")[0]
    del answer["model"]
    path = written(tmp_path, answer)
    assert imported("llamacpp", path) == ([], {"unknown model": 1})
    ((call,), _) = imported("llamacpp", path, model="mine")
    assert call.model == "mine"


@pytest.mark.parametrize("bad", ['{"weather": "fine"}', "5", '{"model": '])
def test_what_is_no_answer_is_a_bad_line(tmp_path, bad):
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(lines_of("groq.answers.jsonl")[0]) + f"\n{bad}\n")
    with (
        AdaptiveCalibrator(":memory:") as calibrator,
        pytest.raises(ImportRefusedError, match="line 2"),
    ):
        calibrator.import_calls("groq", path)


REAL_CALLS = {
    ("ollama", "ollama_generate_final_docs.json"): [
        ("llama3.2", 26, 259, 4368.598792),
        ("gemma4", 11, 18, 73.16325),
    ],
    ("llamacpp", "llamacpp_timings_readme.json"): [("mine", 237, 35, 692.022)],
    ("groq", "groq_chat_completion_real.json"): [("llama-3.3-70b-versatile", 41, 27, 333.576942)],
    ("groq", "groq_stream_final_chunk_real.json"): [("gemma2-9b-it", 18, 439, 859.742058)],
}


@pytest.mark.skipif(not REAL.exists(), reason="the real files (../shared/samples) are not here")
@pytest.mark.parametrize(("name", "file"), REAL_CALLS)
def test_real_answers_are_read(name, file):
    calls, left_out = imported(name, REAL / file, model="mine")
    assert (numbers(calls), left_out) == (REAL_CALLS[name, file], {})
