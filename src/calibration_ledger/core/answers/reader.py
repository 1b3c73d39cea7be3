"""The reader of answers: whole ones, events, and the raw bytes of a stream.

A stream of a thousand tokens is a thousand events of which three say something. After the first
ones, raw events are looked through for the names that matter, and the others are not parsed.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import model_name
from calibration_ledger.core.answers.shapes import Seen, note
from calibration_ledger.core.answers.values import Answer, Unlearnable, call_of, unlearnable
from calibration_ledger.core.validation import check_details

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from calibration_ledger.core.answers.usage import Counts
    from calibration_ledger.core.answers.values import Reason
    from calibration_ledger.core.values import Call

EVENT_BYTES_MAX = 2**20
"""The longest event, or whole answer, that is held while it is read."""

BOM = b"\xef\xbb\xbf"

OPENAI_TELLING = (
    b'"usage"',
    b'"finish_reason"',
    b'"error"',
    b'"tim',  # timings, time_info
    b'"metrics"',
)
"""Groq's x_groq comes with a finish_reason."""
TELLING: dict[str | None, tuple[bytes, ...]] = {
    "openai.chat": OPENAI_TELLING,
    "openai.completions": OPENAI_TELLING,
    "openai.responses": (b'"response"', b'"error"'),
    "anthropic": (b'"message_', b'"error"'),
    "ollama": (b'"done"', b'"error"'),
    "llama.cpp": (b'"stop"', b'"timings"', b'"error"'),
    "gemini": (b'"usageMetadata"', b'Reason"', b'"error"'),
}
"""What an event says that is more than text, by its API.

Hardly a text looks like it, for JSON escapes the quotes in it; one that does costs a look.
"""

SILENT = re.compile(rb'\w*"\s*:\s*(?:null|false)\b')
"""What comes behind a name that says nothing."""

SHORT = 16
"""Only shorter events are looked at for the `[DONE]` that ends a stream."""


class AnswerReader:
    """Reads an answer event by event, as mappings and objects or as raw bytes. Never raises.

    Attributes:
        asked_model: the model that was asked for.
    """

    __slots__ = (
        "_data",
        "_is_document",
        "_rest",
        "_seen",
        "_unreadable",
        "asked_model",
    )

    def __init__(self, asked_model: str | None = None) -> None:
        """Start before the first event."""
        self.asked_model = model_name(asked_model)
        self._seen = Seen()
        self._rest = bytearray()
        self._data = bytearray()
        self._is_document = False
        self._unreadable: Reason | None = None

    @property
    def has_content(self) -> bool:
        """Whether the first token has come."""
        return self._seen.has_content

    @property
    def is_complete(self) -> bool:
        """Whether the provider said that the answer ended."""
        return self._seen.is_complete

    @property
    def completion_tokens(self) -> int | None:
        """The completion tokens so far, if the events tell; most do at the end alone."""
        return self._seen.all_counts().completion

    def add(self, event: object) -> None:
        """Read one event: a mapping, JSON text, or a client's own object.

        A text may be several events, or a whole answer, too.
        """
        try:
            if isinstance(event, str):
                event = event.encode("utf-8", "replace")
            if isinstance(event, bytes | bytearray | memoryview):
                self.feed(bytes(event))
                self._flush()
            elif isinstance(event, list | tuple):
                for one in event:
                    self.add(one)
            elif not note(self._seen, event):
                self._unreadable = self._unreadable or "unreadable"
        except Exception:  # noqa: BLE001 - whatever a stranger's object does, the program goes on
            self._unreadable = self._unreadable or "unreadable"

    def feed(self, data: bytes) -> None:
        """Read raw bytes of a body, cut anywhere: server-sent events, JSON by line, or one JSON."""
        try:
            if self._rest:
                self._rest += data
                if self._is_document or b"\n" not in data:
                    self._check_length()
                    return
                data = bytes(self._rest)
                self._rest.clear()
            lines = data.split(b"\n")
            rest = lines.pop()
            for at, line in enumerate(lines):
                if not self._line(line):  # the first line of a JSON text of several
                    self._is_document = True
                    rest = b"\n".join((*lines[at:], rest))
                    break
            if rest or self._data:
                self._rest += rest
                self._check_length()
        except Exception:  # noqa: BLE001 - see `add`
            self._unreadable = self._unreadable or "unreadable"

    def result(self) -> Answer | Unlearnable:
        """What was read, or why it cannot be learnt from. The body counts as over."""
        try:
            self._flush()
            return self._result()
        except Exception:  # noqa: BLE001 - see `add`
            return Unlearnable("unreadable", self.asked_model, self._seen.model)

    def _result(self) -> Answer | Unlearnable:
        seen = self._seen
        counts, times = seen.all_counts(), seen.all_times()
        reason = seen.reason or self._lack(counts)
        if reason is not None:
            return Unlearnable(reason, self.asked_model, seen.model, seen.is_complete)
        return Answer(
            api=seen.api or "",
            asked_model=self.asked_model,
            answered_model=seen.model,
            prompt_tokens=counts.prompt or 0,
            completion_tokens=counts.completion or 0,
            cached_tokens=counts.cached,
            reasoning_tokens=counts.reasoning,
            queue_ms=times.queue,
            load_ms=times.load,
            server_ms=times.server,
        )

    def _lack(self, counts: Counts) -> Reason | None:
        """What an answer lacks of one that can be learnt from."""
        if self._unreadable == "too long":
            return "too long"
        if self._seen.api is None:
            return self._unreadable or "incomplete"
        if not self._seen.is_complete:
            return "incomplete"
        if not counts.prompt or counts.completion is None:
            return "unknown tokens"
        is_named = self.asked_model is not None or self._seen.model is not None
        return None if is_named else "unknown model"

    # -- raw bytes --------------------------------------------------------------------------

    def _check_length(self) -> None:
        if len(self._rest) + len(self._data) > EVENT_BYTES_MAX:
            self._unreadable = "too long"
            self._rest.clear()
            self._data.clear()

    def _line(self, line: bytes) -> bool:
        """One line. False where a JSON text begins that goes on in the next one."""
        if line[:5] == b"data:":
            self._data += line[5:] + b"\n"
        elif not line or line == b"\r":
            self._event()
        elif line[:1] not in b":ei":
            return self._odd_line(line)
        elif line[:6] == b"error:" or (line[:6] == b"event:" and line[6:].strip() == b"error"):
            self._seen.reason = "failed"  # the former is llama.cpp's
        return True

    def _odd_line(self, line: bytes) -> bool:
        """A line that no stream of events has: JSON, or something else."""
        line = line.removeprefix(BOM).lstrip()
        if line[:5] == b"data:":
            self._data += line[5:] + b"\n"
        elif line[:1] in (b"{", b"["):
            return self._json(line) or self._seen.api is not None
        elif line and line[:6] != b"retry:":
            self._unreadable = self._unreadable or "unreadable"
        return True

    def _event(self) -> None:
        """The end of a server-sent event."""
        if self._data:
            data = bytes(self._data)
            self._data.clear()
            self._json(data)

    def _json(self, data: bytes) -> bool:
        """One event's JSON. False where it is none."""
        seen = self._seen
        if len(data) < SHORT and data.strip() == b"[DONE]":
            seen.is_complete = True
        elif len(data) > EVENT_BYTES_MAX:
            self._unreadable = "too long"
        elif not seen.has_content or not _is_text_alone(seen, data):
            try:
                event: Any = json.loads(data)
            except (ValueError, RecursionError):
                return False
            self.add(None if isinstance(event, str) else event)
        return True

    def _flush(self) -> None:
        """Read what lacks the end of its line: the body is over."""
        rest = bytes(self._rest)
        self._rest.clear()
        is_read = self._json(rest) if self._is_document else self._line(rest)
        self._is_document = False
        self._event()
        if not is_read and rest.rstrip()[-1:] in (b"}", b"]"):  # else it was cut short
            self._unreadable = self._unreadable or "unreadable"


def _is_text_alone(seen: Seen, data: bytes) -> bool:
    """Whether an event, after the first token, has nothing but more tokens."""
    names = TELLING.get(seen.api)
    if names is None or (seen.model is None and b'"model' in data):
        return False
    for name in names:
        at = data.find(name)
        if at >= 0 and SILENT.match(data, at + 1) is None:
            return False
    return True


def read_answer(answer: object, *, asked_model: str | None = None) -> Answer | Unlearnable:
    """What an answer says in numbers, or why it cannot be learnt from. Never raises.

    Args:
        answer: a mapping, JSON text or bytes, the text of a stream, a client's own object, or a
            list of a stream's events in any of these shapes.
        asked_model: the model that was asked for; answers do not say it.
    """
    reader = AnswerReader(asked_model)
    reader.add(answer)
    return reader.result()


def from_answer(
    answer: object,
    elapsed_ms: float,
    *,
    model: str | None = None,
    called_at: datetime | None = None,
    request_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Call:
    """A call to record, from what a provider answered.

    Tokens, and what else the provider measured, come from the answer; its texts are not kept.

    Args:
        answer: a mapping, JSON text or bytes, the text of a stream, the own object of a client
            (`openai`, `anthropic`, `groq`, `ollama`, `google-genai`, `mistralai`, LiteLLM,
            LangChain, pydantic-ai), or a list of a stream's events in any of these shapes.
        elapsed_ms: how long the call took, in ms.
        model: the name that was asked for; the one that the answer names if left out.
        called_at: when the call was made, with a time zone; the time of its recording if left out.
        request_id: the caller's own name for this call.
        details: what else was measured; wins over what the answer says.

    Raises:
        InvalidInputError: `elapsed_ms` is no duration, `model` no name, or `details` are none.
        UnlearnableAnswerError: the answer cannot be learnt from; its `reason` says why.
    """
    check_details(details)
    read = read_answer(answer, asked_model=model)
    if isinstance(read, Unlearnable):
        raise unlearnable(read.reason)
    return call_of(
        read,
        elapsed_ms,
        model=model,
        called_at=called_at,
        request_id=request_id,
        details=details,
    )
