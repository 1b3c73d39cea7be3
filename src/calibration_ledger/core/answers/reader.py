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

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from calibration_ledger.core.answers.values import Reason
    from calibration_ledger.core.values import Call

EVENT_BYTES_MAX = 2**20
"""The longest event, or whole answer, that is held while it is read."""

BOM = b"\xef\xbb\xbf"

TELLING = re.compile(
    rb'"(?:'
    rb"(?:usage|usageMetadata|timings|time_info|metrics|x_groq"
    rb'|finish_reason|finishReason|stop_reason|blockReason)"\s*:\s*(?!null)'
    rb'|(?:done|stop)"\s*:\s*true'
    rb'|error"(?!\s*:\s*null)'
    rb'|message_stop"'
    rb"|response\.(?:completed|incomplete|failed|cancelled)"
    rb")"
)
"""What an event says that is more than text. In a text of JSON the first quote is escaped, so that
nothing that a model writes looks like it."""

MODEL = re.compile(rb'"model')


class AnswerReader:
    """Reads an answer event by event, as mappings and objects or as raw bytes. Never raises.

    Attributes:
        asked_model: the model that was asked for.
    """

    __slots__ = (
        "_after_cr",
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
        self._data: list[bytes] = []
        self._after_cr = False
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
            self._feed(data)
        except Exception:  # noqa: BLE001 - see `add`
            self._unreadable = self._unreadable or "unreadable"

    def result(self) -> Answer | Unlearnable:
        """What was read, or why it cannot be learnt from."""
        self._flush()
        seen = self._seen
        counts = seen.all_counts()
        reason: Reason | None = seen.reason
        if reason is None and self._unreadable == "too long":
            reason = "too long"
        elif reason is None and seen.api is None:
            reason = self._unreadable or "incomplete"
        elif reason is None and not seen.is_complete:
            reason = "incomplete"
        elif reason is None and (not counts.prompt or counts.completion is None):
            reason = "unknown tokens"
        elif reason is None and self.asked_model is None and seen.model is None:
            reason = "unknown model"
        if reason is not None or seen.api is None:
            return Unlearnable(reason or "unreadable", self.asked_model, seen.model)
        return Answer(
            api=seen.api,
            asked_model=self.asked_model,
            answered_model=seen.model,
            prompt_tokens=counts.prompt or 0,
            completion_tokens=counts.completion or 0,
            cached_tokens=counts.cached,
            reasoning_tokens=counts.reasoning,
            queue_ms=seen.times.queue,
            load_ms=seen.times.load,
            server_ms=seen.times.server,
            is_complete=True,
        )

    # -- raw bytes --------------------------------------------------------------------------

    def _feed(self, data: bytes) -> None:
        if self._after_cr or b"\r" in data:
            data = self._without_cr(data)
        if self._is_document or not data.endswith(b"\n"):
            self._rest += data
            if self._is_document or b"\n" not in data:
                self._check_length()
                return
            data = bytes(self._rest)
            self._rest.clear()
        elif self._rest:
            self._rest += data
            data = bytes(self._rest)
            self._rest.clear()
        lines = data.split(b"\n")
        self._rest += lines.pop()
        for at, line in enumerate(lines):
            if line[:5] == b"data:":
                self._data.append(line[5:])
            elif not line:
                self._event()
            elif not self._line(line):  # the first line of a JSON text of several
                self._is_document = True
                self._rest[:0] = b"\n".join(lines[at:]) + b"\n"
                break
        self._check_length()

    def _without_cr(self, data: bytes) -> bytes:
        """The same bytes with line ends of one kind; a CR LF may be cut in two."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r" or (self._after_cr and not data)
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _check_length(self) -> None:
        if len(self._rest) + sum(map(len, self._data)) > EVENT_BYTES_MAX:
            self._unreadable = "too long"
            self._rest.clear()
            self._data.clear()

    def _event(self) -> None:
        """The end of a server-sent event."""
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            self._data.clear()
            self._json(data)

    def _line(self, line: bytes) -> bool:
        """A line outside the data of an event. False where a longer JSON text begins."""
        line = line.removeprefix(BOM)
        if line[:1] in b"{[" and line:
            return self._json(line) or self._seen.api is not None
        if line[:5] == b"data:":
            self._data.append(line[5:])
        elif line[:6] == b"event:" and line[6:].strip() == b"error":
            self._seen.reason = "failed"
        elif line[:1] != b":" and line.partition(b":")[0] not in (b"event", b"id", b"retry"):
            self._unreadable = self._unreadable or "unreadable"
        return True

    def _json(self, data: bytes) -> bool:
        """One event's JSON. False where it is none."""
        seen = self._seen
        if (
            seen.has_content
            and TELLING.search(data) is None
            and (seen.model is not None or MODEL.search(data) is None)
        ):
            if data.strip() == b"[DONE]":
                seen.is_complete = True
            return True
        data = data.strip()
        if data == b"[DONE]":
            seen.is_complete = True
            return True
        try:
            event: Any = json.loads(data)
        except (ValueError, RecursionError):
            return False
        self.add(event if not isinstance(event, str) else None)
        return True

    def _flush(self) -> None:
        """Read what lacks the end of its line: the body is over."""
        rest = bytes(self._rest)
        self._rest.clear()
        if self._is_document:
            self._is_document = False
            if not self._json(rest):
                whole = rest.rstrip()[-1:] in (b"}", b"]")
                self._unreadable = "unreadable" if whole else self._unreadable
            return
        if rest and rest[:5] == b"data:":
            self._data.append(rest[5:])
        elif rest.strip() and not self._line(rest) and rest.rstrip()[-1:] in (b"}", b"]"):
            self._unreadable = self._unreadable or "unreadable"
        self._event()


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
        InvalidInputError: `elapsed_ms` is no duration, or `model` no name.
        UnlearnableAnswerError: the answer cannot be learnt from; its `reason` says why.
    """
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
