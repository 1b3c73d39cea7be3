"""Every format that `calib import` reads, by its name.

A format of another tool is a module beside this one, and a line in the table here; or a recipe,
which is a file in `recipes/`.
"""

from __future__ import annotations

from calibration_ledger.errors import InvalidInputError, did_you_mean, shown
from calibration_ledger.formats import (
    answers,
    csv,
    jsonl,
    langfuse,
    ledger,
    litellm,
    llm,
    mlflow,
    openwebui,
    otlp,
    phoenix,
    predecessor,
    vllm_bench,
)
from calibration_ledger.formats.base import AUTO, Format
from calibration_ledger.formats.recipe import recipes
from calibration_ledger.formats.third_party import third_parties

_OWN = (
    Format(
        "jsonl",
        "calls as JSON: an object a line, or a list",
        "own",
        jsonl.jsonl_rows,
        jsonl.looks_like,
    ),
    Format("csv", "calls as CSV, with a line of column names", "own", csv.csv_rows, csv.looks_like),
    Format(
        "ledger",
        "a whole ledger, as `calib export jsonl` writes it",
        "own",
        None,
        ledger.looks_like,
    ),
    Format(
        "state",
        "the JSON of the older calibrator",
        "own",
        None,
        predecessor.looks_like,
        predecessor.default_place,
    ),
)

_MODULES: tuple[Format, ...] = (
    Format(
        "litellm",
        "LiteLLM's payloads (StandardLoggingPayload), and the spend logs of its proxy",
        "module",
        litellm.litellm_rows,
        litellm.looks_like,
    ),
    Format(
        "otlp",
        "traces of OpenTelemetry, and the logs of coding agents (Claude Code, Gemini CLI, Codex)",
        "module",
        otlp.otlp_rows,
        otlp.looks_like,
    ),
    Format(
        "langfuse",
        "observations of Langfuse: its exports as JSON and CSV, and its API",
        "module",
        langfuse.langfuse_rows,
        langfuse.looks_like,
    ),
    Format(
        "ollama",
        "answers of Ollama, whole ones or saved streams",
        "module",
        answers.answer_rows,
        answers.looks_like_ollama,
    ),
    Format(
        "llamacpp",
        "answers of llama.cpp's server, with their timings",
        "module",
        answers.answer_rows,
        answers.looks_like_llamacpp,
    ),
    Format(
        "groq",
        "answers of Groq, with their times",
        "module",
        answers.answer_rows,
        answers.looks_like_groq,
    ),
    Format(
        "vllm-bench",
        "results of `vllm bench serve --save-detailed`",
        "module",
        vllm_bench.vllm_bench_rows,
        vllm_bench.looks_like,
    ),
    Format(
        "llm",
        "logs.db of llm 0.13 to 0.36",
        "module",
        llm.llm_rows,
        llm.looks_like,
        llm.default_place,
    ),
    Format(
        "phoenix",
        "phoenix.db of Arize Phoenix 8 to 20, in SQLite",
        "module",
        phoenix.phoenix_rows,
        phoenix.looks_like,
        phoenix.default_place,
    ),
    Format(
        "openwebui",
        "webui.db of Open WebUI, and the chats that it exports",
        "module",
        openwebui.openwebui_rows,
        openwebui.looks_like,
    ),
    Format(
        "mlflow",
        "the tracking database of MLflow 3 in SQLite, and its traces.json",
        "module",
        mlflow.mlflow_rows,
        mlflow.looks_like,
    ),
)


def known_formats() -> list[Format]:
    """The formats that come with this package, our own first."""
    return [
        *_OWN,
        *sorted(_MODULES, key=lambda one: one.name),
        *(one.format() for one in recipes()),
    ]


def all_formats() -> list[Format]:
    """Every format: those that come with this package, then those of third parties."""
    ours = known_formats()
    return [*ours, *third_parties({AUTO, *(one.name for one in ours)})]


def usable(formats: list[Format]) -> dict[str, Format]:
    """Formats by their names, without those that have trouble."""
    return {one.name: one for one in formats if not one.trouble}


def find_format(name: str) -> Format:
    """The format of a name. Other packages are only looked at where no format of ours has it.

    Raises:
        InvalidInputError: there is none.
    """
    found = usable(known_formats()).get(name)
    if found is not None:
        return found
    every = usable(all_formats())
    found = every.get(name)
    if found is None:
        raise InvalidInputError(
            f"there is no format {shown(name)}",
            advice=f"{did_you_mean(name, [*every, AUTO])}`calib formats` lists them all",
        )
    return found
