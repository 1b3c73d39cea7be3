"""What the reader of answers gives, and the call that is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from calibration_ledger.core.validation import check_milliseconds, check_model
from calibration_ledger.core.values import Call, Value
from calibration_ledger.errors import UnlearnableAnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Reason = Literal[
    "failed",
    "timeout",
    "cancelled",
    "left early",
    "incomplete",
    "unknown tokens",
    "unknown model",
    "unknown duration",
    "estimated tokens",
    "cached",
    "not a completion",
    "duplicate",
    "nested",
    "unreadable",
    "too long",
    "fault",
]
"""Why a call cannot be learnt from.

- `failed`: the provider said no, or the connection broke;
- `timeout`: the program gave the call up after its time-out;
- `cancelled`: the program cancelled the call;
- `left early`: the program stopped reading before the end;
- `incomplete`: the answer ended before its own end marker;
- `unknown tokens`, `unknown model`: the answer does not say them;
- `unknown duration`: nobody says how long it took, or only how long several took together;
- `estimated tokens`: somebody other than the provider counted them;
- `cached`: the answer came from a cache of the program's, not from a model;
- `not a completion`: embeddings and the like;
- `duplicate`: the call was seen before;
- `nested`: it lies around the same call, which was taken from within;
- `unreadable`: no JSON, or of no shape that is known;
- `too long`: an event, or a whole answer, of more than 1 MiB;
- `fault`: reading it failed, and it is this package's fault.
"""


@dataclass(frozen=True, slots=True)
class Answer(Value):
    """A complete answer of a model, in numbers.

    What the provider did not say is None, never 0.

    Attributes:
        api: how it was worded: `openai.chat`, `openai.completions`, `openai.responses`,
            `anthropic`, `ollama`, `llama.cpp`, `gemini`, `langchain`, `pydantic-ai` or `span`.
        asked_model: the model that was asked for.
        answered_model: the model that the answer names. One of the two is there.
        prompt_tokens: the tokens that went in, those from a cache included; at least 1.
        completion_tokens: the tokens that came out, hidden reasoning included.
        cached_tokens: how many of the prompt tokens came from a cache.
        reasoning_tokens: how many of the completion tokens are hidden reasoning.
        queue_ms: how long the request waited at the provider.
        load_ms: how long the model took to load.
        server_ms: how long all of it took the provider, by its own clock; queue and load included.
        is_complete: True: what lacks its end is `Unlearnable`.
    """

    api: str
    asked_model: str | None
    answered_model: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    queue_ms: float | None = None
    load_ms: float | None = None
    server_ms: float | None = None
    is_complete: bool = True

    def details(self, model: str | None = None) -> dict[str, Any]:
        """What is known beside the tokens, for the details of a call.

        Args:
            model: the model of that call; the one asked for if left out.
        """
        name = model or self.asked_model or self.answered_model
        known = {
            "answered_model": None if self.answered_model == name else self.answered_model,
            "cached_tokens": self.cached_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "queue_ms": self.queue_ms,
            "load_ms": self.load_ms,
            "server_ms": self.server_ms,
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Unlearnable(Value):
    """An answer that cannot be learnt from.

    Attributes:
        reason: why; see `Reason`.
        asked_model: the model that was asked for, if that is known.
        answered_model: the model that the answer names, if it names one.
        is_complete: whether the provider said that the answer ended.
    """

    reason: Reason
    asked_model: str | None = None
    answered_model: str | None = None
    is_complete: bool = False


_SENTENCES: dict[str, tuple[str, str]] = {
    "incomplete": ("the answer has no end", "hand in all of it, the last event of a stream too"),
    "unknown tokens": (
        "the answer does not say how many tokens it took",
        (
            "record the call with counts of your own; streams of OpenAI's say them if asked with "
            'stream_options={"include_usage": True}'
        ),
    ),
    "unknown model": ("the answer names no model", "pass model="),
    "failed": ("the provider did not answer, but said that it failed", "leave such calls out"),
    "cached": ("the answer came from a cache, not from a model", "leave such calls out"),
    "not a completion": ("this is no answer of a completion", "leave such calls out"),
    "too long": ("the answer, or an event of it, has more than 1 MiB", "record it with counts"),
    "unreadable": (
        "the answer has no shape that is known",
        "pass what the client gave, or record the call with counts of your own",
    ),
}
"""What was wrong with an answer, and what to do, for the reasons that an answer itself gives."""


def unlearnable(reason: Reason) -> UnlearnableAnswerError:
    """The error of an answer that cannot be learnt from."""
    matter, advice = _SENTENCES.get(reason, (f"the call did not come to an answer: {reason}", ""))
    error = UnlearnableAnswerError(matter, advice=advice)
    error.reason = reason
    return error


def call_of(
    answer: Answer,
    elapsed_ms: float,
    *,
    model: str | None = None,
    called_at: datetime | None = None,
    request_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Call:
    """The call of an answer that took `elapsed_ms`.

    Its model is `model`, else the one asked for, else the one answered. Of the details, the
    caller's win over the answer's.

    Raises:
        InvalidInputError: `elapsed_ms` is no duration, or `model` no name.
        UnlearnableAnswerError: nobody names a model.
    """
    name = (answer.asked_model or answer.answered_model) if model is None else model
    if name is None:
        raise unlearnable("unknown model")
    return Call(
        model=check_model(name),
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        actual_ms=check_milliseconds("elapsed_ms", elapsed_ms),
        called_at=called_at,
        request_id=request_id,
        details={**answer.details(name), **(details or {})} or None,
    )
