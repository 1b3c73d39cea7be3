"""What coding agents log of their calls, as log records of OpenTelemetry.

- Claude Code: `claude_code.api_request`, one record a call;
- Gemini CLI: `gemini_cli.api_response`, one record a call;
- Codex CLI: `codex.api_request` when the answer begins, and `codex.sse_event` with the kind
  `response.completed` when it ends: in one conversation there is one call at a time, and it lasts
  from the beginning of the one to the other.

A record's time is the END of what it tells of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import told_count
from calibration_ledger.core.failures import reason_of_names
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.fields import (
    call,
    duration_ms,
    forget_oldest,
    microseconds,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.core.answers import Reason
    from calibration_ledger.core.spans import Record
    from calibration_ledger.formats.base import Item

    Attributes = Mapping[str, Any]

_CONVERSATIONS_MAX = 10_000
"""Conversations of Codex whose call has begun."""

_FAILED_STATUS = 400


class Agents:
    """Reads the log records of coding agents, in their order."""

    def __init__(self, unnamed: str | None = None) -> None:
        """Begin before the first record; `unnamed` is the model of those that name none."""
        self._unnamed = unnamed
        self._begun: dict[str, int] = {}

    def item(self, record: Record) -> Item | None:
        """What a record tells of a call; None where it tells of none."""
        name = record.name
        if record.body.startswith("claude_code."):  # the event's name lacks that
            name = record.body
        elif name == "api_request" and "output_tokens" in record.attributes:  # nor is there a body
            name = "claude_code.api_request"
        match name:
            case "claude_code.api_request":
                return _claude_code(record, self._unnamed)
            case "gemini_cli.api_response":
                return _gemini_cli(record, self._unnamed)
            case "claude_code.api_error" | "gemini_cli.api_error":
                return Skip(_reason(record.attributes))
            case "codex.api_request" | "codex.websocket_request":
                return self._codex_begins(record)
            case "codex.sse_event":
                return self._codex_event(record)
        return None

    def _codex_begins(self, record: Record) -> Item | None:
        """A request was answered: how long until then, it says, and the answer goes on."""
        attributes = record.attributes
        status = told_count(attributes.get("http.response.status_code")) or 0
        if attributes.get("error.message") or status >= _FAILED_STATUS:
            return Skip(_reason(attributes))
        end, lasted_ms = _end(record), duration_ms(attributes.get("duration_ms"))
        conversation = text(attributes.get("conversation.id"))
        if conversation is not None and end is not None and lasted_ms is not None:
            self._begun[conversation] = end - round(lasted_ms * 1_000)
            forget_oldest(self._begun, _CONVERSATIONS_MAX)
        return None

    def _codex_event(self, record: Record) -> Item | None:
        """An event of an answer, of which the last tells its tokens."""
        attributes = record.attributes
        conversation = text(attributes.get("conversation.id"))
        kind = attributes.get("event.kind")
        if attributes.get("error.message") or kind == "response.failed":
            self._begun.pop(conversation or "", None)
            return Skip(_reason(attributes))
        prompt_tokens = told_count(attributes.get("input_token_count"))
        # The same event is told before, by itself, as each event is: how long it was waited for.
        if kind != "response.completed" or "input_token_count" not in attributes:
            return None
        end, start = _end(record), self._begun.pop(conversation or "", None)
        lasted_ms = None if end is None or start is None or end < start else (end - start) / 1_000
        answer_id = text(attributes.get("response.id"))
        if answer_id is None and conversation is not None and end is not None:
            answer_id = f"{conversation}:{end // 1_000}"
        details = {
            "clock": "attempt",
            "streamed": True,
            "ttft_ms": duration_ms(attributes.get("ttft_ms")),
            "cached_tokens": told_count(attributes.get("cached_token_count")),
            "reasoning_tokens": told_count(attributes.get("reasoning_token_count")),
        }
        model = text(attributes.get("model")) or self._unnamed
        completion_tokens = told_count(attributes.get("output_token_count"))
        return call(model, start, prompt_tokens, completion_tokens, lasted_ms, answer_id, details)


def _claude_code(record: Record, unnamed: str | None) -> Item:
    """Its input tokens are those that came from no cache."""
    attributes = record.attributes
    names = ("input_tokens", "cache_read_tokens", "cache_creation_tokens")
    known = [n for name in names if (n := told_count(attributes.get(name))) is not None]
    details = {
        "clock": "client",
        "streamed": True if "ttft_ms" in attributes else None,
        "ttft_ms": duration_ms(attributes.get("ttft_ms")),
        "cached_tokens": told_count(attributes.get("cache_read_tokens")),
    }
    completion_tokens = told_count(attributes.get("output_tokens"))
    return _told_at_end(record, unnamed, sum(known), completion_tokens, details)


def _gemini_cli(record: Record, unnamed: str | None) -> Item:
    """Its output tokens are without those of thoughts."""
    attributes = record.attributes
    completion = told_count(attributes.get("output_token_count"))
    thoughts = told_count(attributes.get("thoughts_token_count"))
    details = {
        "clock": "client",
        "cached_tokens": told_count(attributes.get("cached_content_token_count")),
        "reasoning_tokens": thoughts,
    }
    if completion is not None:
        completion += thoughts or 0
    prompt = told_count(attributes.get("input_token_count"))
    return _told_at_end(record, unnamed, prompt, completion, details)


def _told_at_end(
    record: Record,
    unnamed: str | None,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    details: Mapping[str, Any],
) -> Item:
    attributes = record.attributes
    lasted_ms, end = duration_ms(attributes.get("duration_ms")), _end(record)
    start = None if lasted_ms is None or end is None else end - round(lasted_ms * 1_000)
    request_id = text(attributes.get("request_id"))
    model = text(attributes.get("model")) or unnamed
    return call(model, start, prompt_tokens, completion_tokens, lasted_ms, request_id, details)


def _end(record: Record) -> int | None:
    """The time of a record, in microseconds; some programs say it in an attribute alone."""
    told = microseconds(record.attributes.get("event.timestamp"))
    return told if told is not None else record.at_ns // 1_000 or None


def _reason(attributes: Attributes) -> Reason:
    """Why a call failed, by the name of its error, or by what its sentence says."""
    told = [str(attributes.get(name)) for name in ("error_type", "error.type", "error.name")]
    sentence = " ".join(str(attributes.get(name)) for name in ("error", "error.message")).lower()
    if "timed out" in sentence or "timeout" in sentence:
        return reason_of_names(["Timeout"])
    if "abort" in sentence or "cancel" in sentence:
        return "cancelled"
    return reason_of_names(told)
