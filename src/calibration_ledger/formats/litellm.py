"""LiteLLM's own records of calls: its StandardLoggingPayload, and the spend logs of its proxy.

Payloads are what its callbacks write, as a file each, a line each, or a list. Spend logs are rows
of the table LiteLLM_SpendLogs: as JSON, as the answers of `/spend/logs`, or as CSV.

A call lasts from `startTime` to `endTime`, with LiteLLM's own retries in it (`response_time` ends
at the first token of a stream). Times without a zone are UTC, as the proxy's database has them.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.answers.parts import json_object, model_name, told_count
from calibration_ledger.core.answers.usage import counts_of
from calibration_ledger.core.failures import reason_of_names
from calibration_ledger.core.litellm import (
    COMPLETIONS,
    RESPONSES,
    is_cached,
    is_echo,
    named_model,
    says_counts,
)
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.csv import header
from calibration_ledger.formats.documents import records
from calibration_ledger.formats.fields import (
    between_ms,
    call,
    first_ms,
    forget_oldest,
    microseconds,
    text,
)
from calibration_ledger.formats.row import BadRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from calibration_ledger.core.answers import Reason
    from calibration_ledger.formats.base import Beginning, Input, Item, Placed

    Report = Mapping[str, Any]

_HANDED = "standard_logging_object"
"""Where callbacks get the payload."""

_SEEN_MAX = 10_000
"""Reports that are remembered: those of one call come close to each other."""


def litellm_rows(file: Input) -> Iterator[Placed]:
    """Each report of a call.

    Raises:
        ImportRefusedError: the file cannot be read.
    """
    seen: dict[tuple[Any, ...], None] = {}
    for place, value in records(file):
        for report in _reports(value):
            yield place, _item(report, seen, file.model)


def looks_like(beginning: Beginning) -> bool:
    """Whether it begins with a payload, a row of spend logs, or their names in CSV."""
    found = chain.from_iterable(map(_reports, beginning.records))
    first = next((one for one in found if isinstance(one, dict)), None)
    return _is_report(header(beginning) if first is None else first)


def _is_report(names: Any) -> bool:
    return "call_type" in names and "startTime" in names and "completion_tokens" in names


def _reports(value: Any) -> Iterator[Any]:
    """The reports in a value: itself, one that a callback got, or a page of `/spend/logs/v2`."""
    if isinstance(value, dict) and isinstance(value.get(_HANDED), dict):
        value = value[_HANDED]
    page = value.get("data") if isinstance(value, dict) and "call_type" not in value else None
    if isinstance(page, list):
        yield from page
    elif value is not None:
        yield value


def _item(report: Any, seen: dict[tuple[Any, ...], None], unnamed: str | None) -> Item:
    """What a report is; `unnamed` is the model of those that name none."""
    if isinstance(report, BadRow):
        return report
    if not isinstance(report, dict) or not report.keys() & {"call_type", "completion_tokens"}:
        return BadRow("this is no report of LiteLLM's of a call: it has no call_type")
    metadata = json_object(report.get("metadata"))
    call_id, start = _call_id(report), microseconds(report.get("startTime"))
    reason = _failure(report, metadata)
    # A stream may be reported twice. All attempts of a request through the proxy have one id.
    key = (call_id, start if reason is not None else None)
    if call_id is not None and key in seen:
        reason = "duplicate"
    elif str(report.get("call_type") or "") not in COMPLETIONS | {""}:
        reason = "not a completion"
    elif reason is None and is_cached(report):
        reason = "cached"
    seen[key] = None
    forget_oldest(seen, _SEEN_MAX)
    if reason is not None:
        return Skip(reason)
    return _call(report, metadata, call_id, start, unnamed)


def _call_id(report: Report) -> str | None:
    """LiteLLM's own id; the older of its spend logs have the answer's in its place."""
    return next(
        (one for n in ("litellm_call_id", "request_id", "id") if (one := text(report.get(n)))), None
    )


def _failure(report: Report, metadata: Report) -> Reason | None:
    status = report.get("status") or metadata.get("status") or "success"
    if status == "success":
        return None
    about = json_object(report.get("error_information")) or json_object(
        metadata.get("error_information")
    )
    return reason_of_names([str(about.get("error_class"))])


def _call(
    report: Report, metadata: Report, call_id: str | None, start: int | None, unnamed: str | None
) -> Item:
    provider = text(report.get("custom_llm_provider"))
    usage = json_object(metadata.get("usage_object"))
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    counts = counts_of({**usage, **{name: told_count(report.get(name)) for name in names}})
    end = microseconds(report.get("endTime"))
    ttft_ms = first_ms(start, microseconds(report.get("completionStartTime")), end)
    actual_ms = between_ms(start, end)
    streamed = _is_stream(report, ttft_ms, actual_ms)
    if not counts.prompt or not counts.completion:  # what LiteLLM does not know is 0
        return Skip("unknown tokens")
    if streamed and not says_counts(provider, usage) and _is_estimate(report, usage):
        return Skip("estimated tokens")
    asked = _model(report, provider) or unnamed
    answered = model_name(json_object(report.get("response")).get("model"))
    details = {
        "clock": "client",
        "streamed": streamed,
        "ttft_ms": ttft_ms if streamed else None,
        "cached_tokens": counts.cached,
        "reasoning_tokens": counts.reasoning,
        "answered_model": None if asked is None or is_echo(answered, asked) else answered,
    }
    return call(asked, start, counts.prompt, counts.completion, actual_ms, call_id, details)


def _is_stream(report: Report, ttft_ms: float | None, actual_ms: float | None) -> bool | None:
    """Whether the answer was streamed; spend logs tell it by the time of the first token alone."""
    if "stream" in report:
        return bool(report["stream"])
    return None if ttft_ms is None or actual_ms is None else ttft_ms < actual_ms


def _is_estimate(report: Report, usage: Report) -> bool:
    """Whether LiteLLM counted a stream's tokens itself; see `core.litellm.says_counts`.

    Spend logs do not say what was asked for. What they say of the usage, they say whole.
    """
    if report.get("call_type") in RESPONSES:
        return False
    asked = json_object(report.get("model_parameters")) or json_object(
        report.get("proxy_server_request")
    )
    if json_object(asked.get("stream_options")).get("include_usage"):
        return False
    return "stream" in report or bool(usage)


def _model(report: Report, provider: str | None) -> str | None:
    """The model as the live logger names it; streams have no `litellm_model_name`."""
    model = text(report.get("model"))
    if model is None:
        model = text(json_object(report.get("hidden_params")).get("litellm_model_name"))
    return None if model is None else named_model(model, provider)
