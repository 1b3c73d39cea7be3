"""The reader of answers: every provider's words become the same numbers."""

import json

import pytest

from calibration_ledger import UnlearnableAnswerError, from_answer
from calibration_ledger.core.answers import Answer, AnswerReader, Unlearnable, read_answer

CHAT = {
    "object": "chat.completion",
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hello"}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}


def test_an_answer_is_read_from_a_mapping_a_text_and_bytes():
    expected = Answer("openai.chat", "gpt-4o-mini", "gpt-4o-mini-2024-07-18", 11, 7)
    text = json.dumps(CHAT)
    for answer in (CHAT, text, text.encode(), json.dumps(CHAT, indent=2)):
        assert read_answer(answer, asked_model="gpt-4o-mini") == expected


def test_a_call_is_made_of_an_answer():
    call = from_answer(CHAT, 480.5, model="gpt-4o-mini", details={"ttft_ms": 80.0})
    assert (call.model, call.prompt_tokens, call.completion_tokens) == ("gpt-4o-mini", 11, 7)
    assert call.actual_ms == 480.5
    assert call.details == {"answered_model": "gpt-4o-mini-2024-07-18", "ttft_ms": 80.0}
    assert from_answer(CHAT, 480.5).model == "gpt-4o-mini-2024-07-18"


def test_an_answer_that_cannot_be_learnt_from_is_refused_with_its_reason():
    with pytest.raises(UnlearnableAnswerError, match="does not say how many tokens") as caught:
        from_answer({**CHAT, "usage": None}, 480.5)
    assert caught.value.reason == "unknown tokens"


def test_a_reader_without_an_event_has_read_no_answer():
    assert AnswerReader("m").result() == Unlearnable("incomplete", "m")
