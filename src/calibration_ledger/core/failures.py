"""Why a call ended without an answer, told from the exception that ended it.

Clients have classes of their own, which need not be installed: their names tell.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.core.answers.values import Reason

_CAUSES_MAX = 8
"""Clients wrap the exceptions of their transports, and frameworks those of clients."""


def reason_of(error: BaseException) -> Reason:
    """Why the call that this exception ended cannot be learnt from.

    `timeout` for `TimeoutError`, and for every class that says so by its name, be it that of a
    cause (`httpx.ReadTimeout`, `openai.APITimeoutError`, `requests.Timeout`, gRPC's
    `DeadlineExceeded`). A time-out that the provider's gateway tells of is its answer: `failed`.
    """
    if not isinstance(error, Exception) or "CancelledError" in _names(error):
        return "cancelled" if is_cancelled(error) else "left early"
    if any(_is_timeout(name) for one in _with_causes(error) for name in _names(one)):
        return "timeout"
    return "failed"


def is_cancelled(error: BaseException | None) -> bool:
    """Whether the program gives up: by Ctrl-C, at its end, or because the task is cancelled."""
    # What asyncio and trio cancel tasks with is no Exception.
    if error is not None and not isinstance(error, Exception | GeneratorExit):
        return True
    if error is not None and "CancelledError" in _names(error):  # that of futures
        return True
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs here
        return False
    return task is not None and task.cancelling() > 0


def _is_timeout(name: str) -> bool:
    return ("Timeout" in name and "Gateway" not in name) or name == "DeadlineExceeded"


def _names(error: BaseException) -> Iterator[str]:
    return (kind.__name__ for kind in type(error).__mro__)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if one is None:
            return
        yield one
        one = one.__cause__
