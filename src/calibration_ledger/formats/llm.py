"""The log of `llm`, Simon Willison's command line tool: `logs.db`, of every version since 0.13.

Up to 0.31 a call is a row of `responses`, from 0.32 on a row of `turns`; a file that was upgraded
has both. Before 0.19 the tokens are in what the provider answered, if it said them. `llm` does not
log calls that failed.

A duration has the start of the program in it: the import of the provider's client, the first
connection, and the client's retries.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import count, json_object, milliseconds, model_name
from calibration_ledger.core.answers.usage import Counts, counts_of, merge, ollama_counts
from calibration_ledger.formats.tables import call_item, items, utc_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from calibration_ledger.formats.base import Beginning, Input, Item, Placed

_TABLES = ("turns", "responses")
_COLUMNS = (
    "id",
    "model",
    "resolved_model",
    "input_tokens",
    "output_tokens",
    "token_details",
    "duration_ms",
    "datetime_utc",
    "response_json->model",
    "response_json->object",
    "response_json->usage",
    "response_json->usageMetadata",
    "response_json->prompt_eval_count",
    "response_json->eval_count",
)


def llm_rows(file: Input) -> Iterator[Placed]:
    """The calls of a log."""
    database = file.database()
    if not any(map(database.has, _TABLES)):
        file.refuse(None, "this is no log of llm: it has neither `turns` nor `responses`.")
    tables = [database.rows(table, _COLUMNS) for table in _TABLES]
    return items((row for table in tables for row in table), _item)


def looks_like(beginning: Beginning) -> bool:
    """Whether it has the tables of a log of llm."""
    tables = beginning.tables
    return "_llm_migrations" in tables and not tables.isdisjoint(_TABLES)


def default_place() -> Path:
    """Where llm keeps its log: in the folder for its user, as click names it."""
    folder = os.environ.get("LLM_USER_PATH")
    return Path(folder or _folder("io.datasette.llm")) / "logs.db"


def _folder(name: str) -> str:
    # Unlike Path.expanduser these know no error: without a home there is no such file.
    if sys.platform == "win32":
        return os.path.join(os.environ.get("APPDATA") or os.path.expanduser("~"), name)  # noqa: PTH111, PTH118 - see above
    if sys.platform == "darwin":
        return os.path.expanduser(f"~/Library/Application Support/{name}")  # noqa: PTH111 - see above
    return os.path.join(  # noqa: PTH118 - see above
        os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"),  # noqa: PTH111 - see above
        name,
    )


def _item(
    call_id: object,
    asked: object,
    resolved: object,
    prompt: object,
    completion: object,
    token_details: object,
    duration_ms: object,
    at: object,
    *answer: Any,
) -> Item:
    answered, kind, *usage = answer
    counts = Counts()
    if prompt is not None or completion is not None:
        counts = _logged_counts(count(prompt), count(completion), json_object(token_details))
    if counts.prompt is None or counts.completion is None:
        counts = counts.filled(_answered_counts(*usage))
    model = model_name(asked)
    answered = model_name(resolved) or model_name(answered)
    details: dict[str, Any] = {"clock": "client+start"}
    if isinstance(kind, str) and kind.startswith("chat.completion"):
        details["streamed"] = kind.endswith(".chunk")
    if answered != model:
        details["answered_model"] = answered
    return call_item(
        model or answered,
        counts,
        milliseconds(duration_ms),
        called_at=utc_us("datetime_utc", at),
        request_id=call_id if isinstance(call_id, str) and call_id else None,
        details=details,
    )


# -- tokens ---------------------------------------------------------------------------------


def _logged_counts(
    prompt: int | None, completion: int | None, details: Mapping[str, Any]
) -> Counts:
    """Those of the log's own columns; what a plugin left of the provider's usage is beside them."""
    if not details:
        return Counts(prompt, completion)
    if "prompt_tokens_details" in details or "completion_tokens_details" in details:
        names = ("prompt_tokens", "completion_tokens")
    else:
        names = ("input_tokens", "output_tokens")  # Anthropic's are without the cache
    usage = {**details, names[0]: prompt, names[1]: completion}
    usage.pop("total_tokens", None)
    counts = counts_of(usage)
    thoughts = count(details.get("thoughtsTokenCount"))
    if thoughts and counts.completion is not None:  # Gemini's
        # Older plugins took the count of the answer away from its usage, and left the thoughts out.
        is_without = "candidatesTokenCount" not in details and counts.completion != thoughts
        counts = counts._replace(
            completion=counts.completion + (thoughts if is_without else 0), reasoning=thoughts
        )
    cached = count(details.get("cachedContentTokenCount"))
    return counts if cached is None else counts._replace(cached=cached)


def _answered_counts(usage: object, metadata: object, prompt: object, completion: object) -> Counts:
    """Those of the provider's answer: OpenAI's and Anthropic's, Gemini's, or Ollama's."""
    known: dict[str, Any] = {}
    for block in (usage, metadata):
        if isinstance(block, dict):
            merge(known, block)
    ollama = {"prompt_eval_count": prompt, "eval_count": completion}
    return counts_of(known).filled(ollama_counts(ollama))
