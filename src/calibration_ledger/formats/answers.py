"""Answers of model servers, one a line or as documents, that tell how long they took.

`ollama`, `llamacpp` and `groq` are names of one reader, `core/answers/`, which tells an answer by
what it holds; they differ in whose answers the file is taken for. A saved stream of Ollama's, or of
another server's, has its tokens and times in its last line: the lines before it are no calls.

The time of a call is the server's own, without the time to load a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers import Unlearnable, read_answer
from calibration_ledger.core.answers.usage import Times
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.fields import by_server, call, microseconds, text
from calibration_ledger.formats.row import BadRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from calibration_ledger.core.answers import Answer
    from calibration_ledger.formats.base import Beginning, Input, Item, Placed


def answer_rows(file: Input) -> Iterator[Placed]:
    """Each answer.

    Raises:
        ImportRefusedError: the file cannot be read.
    """
    for place, value in json_values(file):
        item = value if isinstance(value, BadRow) else _item(value, file.model)
        if item is not None:
            yield place, item


def looks_like_ollama(beginning: Beginning) -> bool:
    """Whether it begins with an answer, or an event of one, as Ollama words it."""
    first = _first(beginning)
    return isinstance(first.get("done"), bool) and {"model", "created_at"} <= first.keys()


def looks_like_llamacpp(beginning: Beginning) -> bool:
    """Whether it begins with an answer with llama.cpp's timings."""
    timings = _first(beginning).get("timings")
    return isinstance(timings, dict) and "predicted_ms" in timings


def looks_like_groq(beginning: Beginning) -> bool:
    """Whether it begins with an answer with Groq's times."""
    first = _first(beginning)
    usage = first.get("usage")
    return isinstance(first.get("x_groq"), dict) or (
        isinstance(usage, dict) and "completion_time" in usage and "total_time" in usage
    )


def _first(beginning: Beginning) -> Mapping[str, Any]:
    return beginning.records[0] if beginning.records else {}


def _item(value: Any, unnamed: str | None) -> Item | None:
    """What an answer is; `unnamed` is the model of those that name none."""
    if not isinstance(value, dict):
        return BadRow("an answer is a JSON object")
    read = read_answer(value)
    if unnamed and isinstance(read, Unlearnable) and read.reason == "unknown model":
        read = read_answer(value, asked_model=unnamed)
    if not isinstance(read, Unlearnable):
        return _call(value, read)
    if read.reason == "unreadable":
        return BadRow("this is no answer of a shape that is known")
    if read.reason == "incomplete" or (_is_event(value) and read.reason == "unknown tokens"):
        return None  # an event in the middle of a stream
    return Skip(read.reason)


def _is_event(value: Mapping[str, Any]) -> bool:
    return str(value.get("object")).endswith(".chunk") or value.get("stop") is False


def _call(value: Mapping[str, Any], answer: Answer) -> Item:
    times = Times(answer.queue_ms, answer.load_ms, answer.server_ms)
    # Ollama's time begins when the request comes in.
    actual_ms, of_server = by_server(times, has_queue=answer.api == "ollama")
    called_at = microseconds(value.get("created"))
    end = microseconds(value.get("created_at"))  # Ollama's
    if end is not None:
        called_at = end - round((times.server or 0.0) * 1_000)
    details = {
        **of_server,
        "streamed": True if _is_event(value) else None,
        "cached_tokens": answer.cached_tokens,
        "reasoning_tokens": answer.reasoning_tokens,
    }
    return call(
        answer.answered_model or answer.asked_model,
        called_at,
        answer.prompt_tokens,
        answer.completion_tokens,
        actual_ms,
        text(value.get("id")),
        details,
    )
