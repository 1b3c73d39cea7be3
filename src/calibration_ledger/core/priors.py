"""The coefficients that a model starts from, before its first call.

Learning starts there, and a model never seen is predicted with them, so they should be of the right
order of magnitude. Those that a model started from are written into the ledger.
"""

from __future__ import annotations

import numbers
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.errors import InvalidInputError, shown

if TYPE_CHECKING:
    from collections.abc import Callable


class Prior(NamedTuple):
    """The coefficients that a model starts from, before its first call."""

    ms_per_prompt_token: float
    ms_per_completion_token: float
    base_overhead_ms: float


LOCAL_PRIOR = Prior(0.5, 8.0, 300.0)
"""A local model under Ollama on ordinary hardware, and whatever is not known."""

GROQ_PRIOR = Prior(0.05, 0.3, 150.0)
"""A model in Groq's cloud."""

CLOUD_PRIOR = Prior(0.15, 20.0, 300.0)
"""A model in another cloud: about the median of 19 such models, in the calls that the Berkeley
Function Calling Leaderboard published (0.14, 22.3 and 315)."""

PROVIDERS = {
    "groq": GROQ_PRIOR,
    **dict.fromkeys(
        (
            "anthropic",
            "azure",
            "azure_ai",
            "bedrock",
            "cohere",
            "databricks",
            "deepinfra",
            "deepseek",
            "fireworks_ai",
            "gemini",
            "huggingface",
            "mistral",
            "openai",
            "openrouter",
            "perplexity",
            "replicate",
            "sagemaker",
            "together_ai",
            "vertex_ai",
            "watsonx",
            "xai",
        ),
        CLOUD_PRIOR,
    ),
}
"""What comes before the first `/` of a name, as LiteLLM spells it, and is not local."""

_GROQ_NAMES = ("llama", "mixtral", "gemma", "whisper")


def default_prior(model: str) -> Prior:
    """The built-in prior of a model name.

    A provider before a `/` decides: `groq/llama-3.3-70b-versatile` is Groq's, and
    `ollama/llama3.2` is local. Without one, Groq names its models without a tag
    (`llama3-8b-8192`), and Ollama with one (`llama3:8b`).
    """
    provider, slash, _ = model.lower().partition("/")
    if slash:
        return PROVIDERS.get(provider, LOCAL_PRIOR)
    return GROQ_PRIOR if provider.startswith(_GROQ_NAMES) and ":" not in provider else LOCAL_PRIOR


def check_prior(
    prior: Callable[[str], tuple[float, float, float]],
) -> Callable[[str], tuple[float, float, float]]:
    """Refuse a prior that cannot be called; what it gives is checked when it is called."""
    if not callable(prior):
        raise InvalidInputError(
            f"prior must be a function of the model's name, not {shown(prior)}: pass one that "
            f"gives three coefficients, or leave it out."
        )
    return prior


def checked_prior(prior: Callable[[str], tuple[float, float, float]], model: str) -> Prior:
    """What the user's function gives for this model, checked.

    Raises:
        InvalidInputError: it did not give three finite numbers that are not negative.
    """
    try:
        given = prior(model)
    except Exception as error:
        raise InvalidInputError(
            f"the prior function failed for the model {model!r} ({type(error).__name__}: {error}): "
            f"mend it, or give it an answer for every name."
        ) from error
    try:
        numbers_given = [
            float(value) + 0.0
            for value in given
            if isinstance(value, numbers.Real) and not isinstance(value, bool)
        ]
        complete = len(numbers_given) == len(given) == len(Prior._fields)
    except (TypeError, OverflowError):
        numbers_given, complete = [], False
    if not complete or not all(0.0 <= value < inf for value in numbers_given):
        raise InvalidInputError(
            f"the prior function gave {shown(given)} for the model {model!r}: it must give three "
            f"finite numbers that are not negative, (ms_per_prompt_token, ms_per_completion_token, "
            f"base_overhead_ms), such as (0.5, 8.0, 300.0)."
        )
    return Prior(*numbers_given)
