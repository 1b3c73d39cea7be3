"""Open WebUI: its database `webui.db`, and the chats that it exports as JSON.

A message of the assistant is a call, and the usage beside it is what the provider said. Since
2026-02 messages have a table of their own; before, and in exports, they lie in the JSON of a chat,
most of them twice. A message may be the last of several calls, with tools between them: Open WebUI
then adds up `input_tokens` and `output_tokens`, but keeps the provider's own names as the last call
had them. So only those are read.

Ollama, llama.cpp and Groq say how long a call took, by the server's clock; others do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import json_object
from calibration_ledger.core.answers.usage import (
    NO_TIMES,
    Counts,
    Times,
    counts_of,
    groq_times,
    llamacpp_counts,
    llamacpp_times,
    ollama_counts,
    ollama_times,
)
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.fields import by_server
from calibration_ledger.formats.row import BadRow
from calibration_ledger.formats.tables import call_item, items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.formats.base import Beginning, Database, Input, Item, Placed

_ASSISTANT = "assistant"
_MS_FROM = 10_000_000_000
"""A time from here on is in ms, as Open WebUI takes it, too: in s it would be in the year 2286."""

_SUMS = frozenset({"input_tokens", "output_tokens", "total_tokens"})
"""What Open WebUI adds up over the calls of a message."""

_FIELDS = ("id", "role", "model", "done", "error", "timestamp", "usage", "info")
"""Of a message in a chat's JSON."""


def openwebui_rows(file: Input) -> Iterator[Placed]:
    """The calls of a database, or of exported chats."""
    if not file.is_database():
        return _of_export(file)
    database = file.database()
    if not (database.has("chat", "chat") or database.has("chat_message")):
        file.refuse(None, "this is no database of Open WebUI: it has no table `chat`.")
    return items(_once(_messages(database)), _item)


def looks_like(beginning: Beginning) -> bool:
    """Whether it has the tables of Open WebUI, or is a list of its chats."""
    if beginning.tables:
        return {"chat", "user", "auth"} <= beginning.tables
    chats = [one.get("chat") for one in beginning.records[:1]]
    return any(isinstance(one, dict) and ("history" in one or "messages" in one) for one in chats)


# -- messages: (chat, id, role, model, done, error, time, usage, info) ----------------------


def _messages(database: Database) -> Iterator[tuple[Any, ...]]:
    columns = ["id", *(f"each->{name}" for name in _FIELDS)]
    # What lies in a chat's JSON as well is in the table as it is now, so that comes first.
    table = database.rows(
        "chat_message",
        ("chat_id", "id", "role", "model_id", "done", "error", "created_at", "usage", "info"),
    )
    chats = database.rows("chat", columns, each=("chat->history->messages", "chat->messages"))
    for chat, message, role, model, done, error, *rest in table:
        yield chat, message, role, model, done, _told(error), *rest
    yield from chats


def _told(error: object) -> bool:
    """Whether a column of JSON tells of an error; the column may hold a `null` of JSON."""
    return error not in {None, "", "null", "false"}


def _of_export(file: Input) -> Iterator[Placed]:
    seen: set[int] = set()
    for place, document in json_values(file):
        if isinstance(document, BadRow):
            yield place, document
            continue
        messages = list(_of_chat(document)) if isinstance(document, dict) else []
        if not isinstance(document, dict) or not isinstance(document.get("chat", document), dict):
            yield place, BadRow("this is no chat of Open WebUI")
        for _, item in items(_once(messages, seen), _item):
            yield place, item


def _of_chat(document: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The messages of an exported chat."""
    chat = document.get("chat", document)
    chat = chat if isinstance(chat, dict) else {}
    history = chat.get("history")
    held = history.get("messages") if isinstance(history, dict) else None
    for messages in (held, chat.get("messages")):
        found = list(messages.values()) if isinstance(messages, dict) else messages
        for message in found if isinstance(found, list) else ():
            if isinstance(message, dict):
                yield document.get("id"), *(message.get(name) for name in _FIELDS)


def _once(
    messages: Iterable[tuple[Any, ...]], seen: set[int] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Each message of the assistant once, under an id that names its chat, too."""
    seen = set() if seen is None else seen
    for chat, message, role, *rest in messages:
        if role != _ASSISTANT:
            continue
        name = None
        if isinstance(message, str) and message:
            # The table has the chat's id in that of the message.
            is_whole = not isinstance(chat, str) or message.startswith(f"{chat}-")
            name = message if is_whole else f"{chat}-{message}"
            if (key := hash(name)) in seen:  # of 64 bits: a name would take twice the memory
                continue
            seen.add(key)
        yield name, *rest


# -- the call -------------------------------------------------------------------------------


def _item(
    name: str | None,
    model: object,
    done: object,
    error: object,
    at: object,
    usage: object,
    info: object,
) -> Item:
    if error:
        return Skip("failed")
    if done is not None and not done:
        return Skip("cancelled")
    known = _usage(usage, info)
    counts, times = _read(known)
    actual_ms, details = by_server(times, has_queue="total_duration" in known)  # Ollama's
    return call_item(
        model,
        counts,
        actual_ms,
        called_at=_started_us(at),
        request_id=name,
        details=details,
    )


def _usage(usage: object, info: object) -> dict[str, Any]:
    """The usage of a message, which lay in `info` once."""
    around = json_object(info)
    block = json_object(usage) or json_object(around.get("usage")) or around
    return {key: value for key, value in block.items() if key not in _SUMS}


def _read(usage: dict[str, Any]) -> tuple[Counts, Times]:
    times = ollama_times(usage)
    if times.server is not None or "prompt_eval_count" in usage:
        return ollama_counts(usage), times
    times = llamacpp_times(usage)
    counts = counts_of(usage)
    if times.server is not None:
        # Older servers do not tell what came from a cache, but OpenAI's count has it.
        return llamacpp_counts(usage).filled(counts), times
    if "total_time" in usage:
        return counts, groq_times(usage)
    return counts, NO_TIMES


def _started_us(at: Any) -> int | None:
    """When a message began, in whole seconds."""
    if type(at) not in {int, float} or not 0 < at < _MS_FROM * 1_000:
        return None
    return int(at * (1_000 if at > _MS_FROM else 1_000_000))
