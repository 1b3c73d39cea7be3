"""What LiteLLM's reports of calls mean, as its callbacks hand them over and as its logs keep them.

The live logger and the reader of files both go by this, so that a call that was seen by one and is
found by the other has one model and the same numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.core.answers import Answer

COMPLETIONS = frozenset(
    {
        *("completion", "acompletion", "text_completion", "atext_completion"),
        *("responses", "aresponses", "anthropic_messages", "aanthropic_messages"),
        *("generate_content", "agenerate_content"),
        *("generate_content_stream", "agenerate_content_stream"),
    }
)
"""What LiteLLM calls a call of a model that writes text."""

RESPONSES = frozenset({"responses", "aresponses"})

_COUNT_UNASKED = frozenset(
    {
        *("anthropic", "bedrock", "cohere", "cohere_chat", "gemini", "ollama", "ollama_chat"),
        *("vertex_ai", "vertex_ai_beta"),
    }
)
"""Providers whose streams end with the counts though nobody asks for them."""


def named_model(model: str, provider: str | None) -> str:
    """A model with its provider before it, unless it stands there, as under a Router."""
    if provider and not model.startswith(f"{provider}/"):
        return f"{provider}/{model}"
    return model


def is_cached(report: Mapping[str, Any]) -> bool:
    """Whether the answer came from LiteLLM's cache; its spend logs say so in a text."""
    return str(report.get("cache_hit")).lower() == "true"


def says_counts(provider: str | None, usage: Mapping[str, Any]) -> bool:
    """Whether the counts of a stream are surely the provider's, asked for or not.

    LiteLLM counts itself where the provider said nothing; such counts have no parts.
    """
    return provider in _COUNT_UNASKED or bool(usage.get("prompt_tokens_details"))


def without_echo(read: Answer, asked: str) -> Answer:
    """An answer without the name of its model, if that is the one asked for less its provider."""
    return replace(read, answered_model=None) if is_echo(read.answered_model, asked) else read


def is_echo(answered: str | None, asked: str) -> bool:
    """Whether an answer names the model that was asked for, with or without its provider."""
    return answered is not None and (asked == answered or asked.endswith(f"/{answered}"))
