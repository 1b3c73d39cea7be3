"""Which requests ask for a completion, and of which model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from calibration_ledger.core.answers.parts import model_name
from calibration_ledger.core.values import Value

VERSION = r"(?:v\d[\w.]*|openai|anthropic)"
"""What stands before a path that others use for something else."""

PATHS = (
    ("openai.chat", re.compile(r"/chat/completions$")),
    (
        "openai.completions",
        re.compile(rf"(?:^|/{VERSION}|/fim|/agents|/(?:deployments|engines)/[^/]+)/completions$"),
    ),
    ("openai.responses", re.compile(rf"(?:^|/{VERSION})/responses$")),
    ("anthropic", re.compile(rf"(?:^|/{VERSION})/messages$")),
    ("anthropic", re.compile(r"/publishers/anthropic/models/[^/:]+:(?:streamR|r)awPredict$")),
    ("ollama", re.compile(r"/api/(?:chat|generate)$")),
    ("llama.cpp", re.compile(r"/(?:completion|infill)$")),
    ("gemini", re.compile(r":(?:streamG|g)enerateContent$")),
)

IN_PATH = re.compile(
    r"/(?:deployments|engines)/([^/]+)/"
    r"|/(?:models|endpoints)/([^/:]+):"
    r"|/(tunedModels/[^/:]+):"
)
"""Where a path names the model: Azure's, OpenAI's oldest, Gemini's and Vertex's."""


@dataclass(frozen=True, slots=True)
class Request(Value):
    """A request for a completion.

    Attributes:
        api: how it is worded; see `Answer`.
        asked_model: the model that it asks for, if it names one.
        is_stream: whether it asks for a stream; None where that cannot be read.
    """

    api: str
    asked_model: str | None
    is_stream: bool | None


def read_request(path: str, body: bytes | Mapping[str, Any]) -> Request | None:
    """What a request asks for; None for a path that is not known to give completions.

    Never raises. The model is the body's, else the one in the path (Gemini, Azure's deployments).

    Args:
        path: the path of the URL; a query or the whole URL may be there, too.
        body: the JSON that is sent.
    """
    place = _place_of(path)
    if place is None:
        return None
    api, of_path, is_streamed = place
    asked = body if isinstance(body, Mapping) else _object(body)
    of_body = model_name((asked or {}).get("model"))
    # Azure's deployment may serve any model; the program says which one it means.
    model = of_path or of_body if api == "gemini" else of_body or of_path
    if api == "ollama" and asked is not None and "model" not in asked:
        return None  # many programs have an /api/chat of their own
    if is_streamed:
        is_stream: bool | None = True
    elif asked is None:
        is_stream = False if api == "gemini" else None
    else:
        is_stream = bool(asked.get("stream", api == "ollama"))  # Ollama streams unless told not to
    return Request(api, model, is_stream)


def _object(body: object) -> Mapping[str, Any] | None:
    try:
        value = json.loads(body)  # type: ignore[arg-type]  # what is no text is refused there
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@lru_cache(maxsize=1_000)
def _place_of(path: str) -> tuple[str, str | None, bool] | None:
    """What a path says: the API, the model, and whether it streams. Programs use few paths."""
    path = re.sub(r"^\w+://[^/]*", "", path).partition("?")[0].partition("#")[0].rstrip("/")
    api = next((name for name, pattern in PATHS if pattern.search(path)), None)
    if api is None:
        return None
    found = IN_PATH.search(path)
    model = model_name(unquote(found[found.lastindex or 0])) if found else None
    return api, model, ":stream" in path
