"""What a model is predicted with before its first call."""

import re
from fractions import Fraction
from pathlib import Path

import pytest

from calibration_ledger import CalibrationLedgerError, Prior, default_prior
from calibration_ledger.core.priors import (
    CLOUD_PRIOR,
    GROQ_PRIOR,
    LOCAL_PRIOR,
    PROVIDERS,
    checked_prior,
)
from calibration_ledger.errors import InvalidInputError

LOCAL = (0.5, 8.0, 300.0)
GROQ = (0.05, 0.3, 150.0)
CLOUD = (0.15, 20.0, 300.0)


@pytest.mark.parametrize(
    "model",
    [
        "llama3-8b-8192",
        "llama-3.3-70b-versatile",
        "mixtral-8x7b-32768",
        "gemma2-9b-it",
        "whisper-large-v3",
        "LLAMA3-70B",
        "Mixtral",
        "llama",
        "llamaguard",
        "groq/llama-3.3-70b-versatile",
        "groq/openai/gpt-oss-120b",
        "groq/moonshotai/kimi-k2-instruct",
        "groq/whisper-large-v3",
        "Groq/Llama-3.1-8b-instant",
        "groq/a:b",
    ],
)
def test_names_of_groqs_cloud_start_from_its_prior(model):
    assert default_prior(model) == GROQ


@pytest.mark.parametrize(
    "model",
    [
        "openai/gpt-4o",
        "anthropic/claude-sonnet-5",
        "azure/my-deployment",
        "azure_ai/mistral-large",
        "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0",
        "vertex_ai/gemini-2.5-pro",
        "gemini/gemini-2.0-flash",
        "openrouter/meta-llama/llama-3.3-70b-instruct:free",
        "together_ai/meta-llama/Llama-3-70b-chat-hf",
        "OpenAI/gpt-4o",
    ],
)
def test_names_of_other_clouds_start_from_theirs(model):
    assert default_prior(model) == CLOUD


@pytest.mark.parametrize(
    "model",
    [
        "llama3:8b",
        "mixtral:latest",
        "gemma:2b",
        "whisper:large",
        "timmy:v0.1-q4",
        "x",
        "my-llama",
        "meta/llama3",
        " llama3",
        "lama3",
        "qwen",
        "ollama/llama3.2",
        "ollama_chat/llama3.2:3b",
        "llamafile/llama-3-8b",
        "llama_cpp/gemma-2-9b",
        "lm_studio/gemma-2-9b",
        "hosted_vllm/meta-llama/Llama-3.1-8B",
        "hf.co/bartowski/Llama-3.2-3B-GGUF:Q4_K_M",
        "groq",
        "/groq/llama3",
        "openai",
        "/",
        "",
    ],
)
def test_all_others_start_from_the_local_prior(model):
    assert default_prior(model) == LOCAL


def test_a_prior_names_its_coefficients():
    prior = default_prior("x")
    assert Prior._fields == (
        "ms_per_prompt_token",
        "ms_per_completion_token",
        "base_overhead_ms",
    )
    assert prior.base_overhead_ms == 300.0
    with pytest.raises(AttributeError):
        prior.base_overhead_ms = 1.0


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)),
        ([1, 2, 3], (1.0, 2.0, 3.0)),
        ((0, 0, 0), (0.0, 0.0, 0.0)),
        (Prior(0.1, 0.2, 0.3), (0.1, 0.2, 0.3)),
        ((Fraction(1, 2), 8, 300.0), LOCAL),
    ],
)
def test_a_function_of_the_users_may_give_any_three_numbers(given, taken):
    found = checked_prior(lambda _: given, "m")
    assert found == taken
    assert [type(number) for number in found] == [float] * 3


def test_a_negative_zero_loses_its_sign():
    found = checked_prior(lambda _: (-0.0, -0.0, -0.0), "m")
    assert [number.hex() for number in found] == ["0x0.0p+0"] * 3


@pytest.mark.parametrize(
    "given",
    [
        None,
        5,
        "abc",
        (),
        (1.0, 2.0),
        (1.0, 2.0, 3.0, 4.0),
        (1.0, 2.0, -0.5),
        (1.0, 2.0, float("nan")),
        (1.0, 2.0, float("inf")),
        (1.0, 2.0, "3"),
        (1.0, 2.0, None),
        (1.0, 2.0, 3j),
        (True, 2.0, 3.0),
        (1.0, 2.0, 10**400),
        (number for number in LOCAL),
    ],
    ids=lambda value: f"{value!r:.20}",
)
def test_nonsense_of_a_users_function_is_refused_with_the_models_name(given):
    with pytest.raises(InvalidInputError, match=r"for the model 'timmy'.*three finite numbers"):
        checked_prior(lambda _: given, "timmy")


def test_a_users_function_that_fails_is_reported_with_its_own_error_as_the_cause():
    with pytest.raises(CalibrationLedgerError, match=r"failed for the model 'timmy' \(KeyErr") as e:
        checked_prior({}.__getitem__, "timmy")
    assert isinstance(e.value.__cause__, KeyError)


def test_what_stops_the_program_passes_through_a_users_function():
    def interrupted(_model):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked_prior(interrupted, "timmy")


# -- what the pages say of them -------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"


def test_the_page_lists_every_prior_with_its_values():
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines()]
    values = {row[0]: tuple(map(float, row[1:])) for row in rows if row[0] in NAMED}
    assert values == NAMED


NAMED = {
    "in Groq's cloud": GROQ_PRIOR,
    "in another cloud": CLOUD_PRIOR,
    "local, and all that are not known": LOCAL_PRIOR,
}


def test_the_page_lists_every_provider():
    (line,) = [line for line in PAGE.read_text().splitlines() if "as LiteLLM writes" in line]
    groq, _, others = line.partition("Other clouds are ")
    clouds, _, local = others.partition("Every other one")
    assert re.findall(r"`(\w+)/…`", groq) == ["groq"]
    named = re.findall(r"`(\w+)/…`", clouds)
    assert named == sorted(PROVIDERS.keys() - {"groq"})
    assert {default_prior(f"{name}/x") for name in named} == {CLOUD_PRIOR}
    assert {default_prior(f"{name}/x") for name in re.findall(r"`(\w+)/…`", local)} == {LOCAL}
