"""The code blocks of the pages, and which of them need a client of models or another library."""

import re

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

CLIENTS = (
    *("anthropic", "google", "groq", "langchain_openai", "litellm", "mistralai", "ollama"),
    *("openai", "opentelemetry", "pandas", "pydantic_ai"),
)
HOOKS = {"langchain": "langchain_core", "litellm": "litellm", "opentelemetry": "opentelemetry"}
"""The modules of `calibration_ledger.live` that import a framework, and which."""

_NEEDS = re.compile(
    rf"^(?:from|import) (?:({'|'.join(CLIENTS)})|calibration_ledger\.live\.({'|'.join(HOOKS)}))\b",
    re.MULTILINE,
)


def clients_of(code):
    """The clients that a snippet imports; `tests/live` runs those with any, where they are."""
    return {client or HOOKS[hook] for client, hook in _NEEDS.findall(code)}
