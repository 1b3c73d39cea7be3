"""Results of `vllm bench serve`, with what each request took (`--save-detailed`).

A file is one result, or one a line (`--append-result`). A result's `date` is local and has no zone,
and its start times are of a clock that begins anywhere, so no call has a time. A call is known by
its run, which its date, its duration and its sums make unique, and its number in it.
"""

from __future__ import annotations

import hashlib
from math import fsum
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import told_count
from calibration_ledger.core.answers.usage import PER_SECOND
from calibration_ledger.core.failures import reason_of_names
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.fields import call, duration_ms, text
from calibration_ledger.formats.row import BadRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from calibration_ledger.core.answers import Reason
    from calibration_ledger.formats.base import Beginning, Input, Item, Placed

    Result = Mapping[str, Any]

_ARRAYS = ("input_lens", "output_lens")
_RUN = ("date", "model_id", "duration", "total_input_tokens", "total_output_tokens", "label")


def vllm_bench_rows(file: Input) -> Iterator[Placed]:
    """Each request of each result.

    Raises:
        ImportRefusedError: the file cannot be read, or does not say what each request took.
    """
    for place, result in json_values(file):
        if isinstance(result, BadRow):
            yield place, result
            continue
        if not isinstance(result, dict) or "model_id" not in result:
            file.refuse(place, "this is no result of `vllm bench serve`: it has no model_id.")
        if not all(isinstance(result.get(name), list) for name in _ARRAYS):
            file.refuse(
                place,
                "this result has sums alone, and does not say what each request took. Nothing was "
                "recorded: run `vllm bench serve` with --save-result --save-detailed.",
            )
        run = _run(result)
        for number in range(len(result["output_lens"])):
            yield place, _item(result, number, f"{run}:{number}")


def looks_like(beginning: Beginning) -> bool:
    """Whether it begins with a result."""
    names = {"model_id", "num_prompts", "request_rate"}
    return any(names <= one.keys() for one in beginning.records[:1])


def _run(result: Result) -> str:
    """What stands for a run in the ids of its calls, the same in every file that has it."""
    told = "\0".join(repr(result.get(name)) for name in _RUN)
    return f"vllm-bench:{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _item(result: Result, number: int, request_id: str) -> Item:
    error = _at(result, "errors", number)
    completion_tokens = told_count(_at(result, "output_lens", number))
    if error or not completion_tokens:  # older versions do not keep why
        return Skip(_reason(error))
    ttft_ms = duration_ms(_at(result, "ttfts", number), PER_SECOND)
    actual_ms = duration_ms(_at(result, "latencies", number), PER_SECOND)
    pauses = _at(result, "itls", number)
    if actual_ms is None and ttft_ms is not None and isinstance(pauses, list):
        actual_ms = duration_ms(_sum_s(result["ttfts"][number], pauses), PER_SECOND)
    is_stream = bool(ttft_ms)  # 0: the endpoint does not stream
    details = {
        "clock": "client",
        "streamed": True if is_stream else None,
        "ttft_ms": ttft_ms if is_stream else None,
        "request_rate": _tag(result.get("request_rate")),
        "max_concurrency": _tag(result.get("max_concurrency")),
    }
    prompt_tokens = told_count(_at(result, "input_lens", number))
    model = text(result.get("model_id"))
    return call(
        model, None, prompt_tokens, completion_tokens, actual_ms or None, request_id, details
    )


def _at(result: Result, name: str, number: int) -> Any:
    values = result.get(name)
    return values[number] if isinstance(values, list) and number < len(values) else None


def _sum_s(ttft_s: float, pauses: list[Any]) -> float | None:
    try:
        return fsum((ttft_s, *pauses))
    except (TypeError, ValueError, OverflowError):
        return None


def _tag(value: object) -> object:
    """A load on the server: a number, or `inf` for all at once."""
    if isinstance(value, float) and value == float("inf"):
        return "inf"
    return value if isinstance(value, int | float) or value == "inf" else None


def _reason(error: object) -> Reason:
    """Why a request failed: the text of an exception with where it was raised."""
    told = str(error)
    return reason_of_names(["Timeout" if "TimeoutError" in told else "Error"])
