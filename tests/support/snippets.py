"""The code blocks of the pages, and which of them need a real client or framework of models."""

import re

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

CLIENTS = (
    *("anthropic", "google", "groq", "langchain_openai", "litellm", "mistralai", "ollama"),
    *("openai", "opentelemetry", "pydantic_ai"),
    # What imports one.
    *("calibration_ledger.live.langchain", "calibration_ledger.live.litellm"),
)
_NEEDS = re.compile(rf"^(?:from|import) ({'|'.join(map(re.escape, CLIENTS))})\b", re.MULTILINE)


def clients_of(code):
    """The clients that a snippet imports; `tests/live` runs those with any, where they are."""
    return set(_NEEDS.findall(code))
