"""Why a call ended without an answer, told from the exception that ended it.

Clients have classes of their own, which need not be installed: their names tell. Hooks, `timed` and
the spans of others all count by this.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.core.answers.values import Reason

_CAUSES_MAX = 8
"""Clients wrap the exceptions of their transports, and frameworks those of clients."""

_CANCELLED = frozenset({"CancelledError", "KeyboardInterrupt"})


def reason_of(error: BaseException) -> Reason:
    """Why the call that this exception ended cannot be learnt from; see `reason_of_names`.

    A cause tells of a time-out, too: frameworks wrap the exceptions of clients.
    """
    if isinstance(error, GeneratorExit):
        return "cancelled" if is_cancelled(error) else "left early"
    # Ctrl-C, the end of the program, and what asyncio and trio cancel tasks with are no Exceptions.
    if not isinstance(error, Exception):
        return "cancelled"
    return reason_of_names(name for one in _with_causes(error) for name in _names(one))


def reason_of_names(names: Iterable[str]) -> Reason:
    """The same by the names of exceptions, and of the classes that these are of.

    `timeout` for every name that says so (`TimeoutError`, `httpx.ReadTimeout`,
    `openai.APITimeoutError`, gRPC's `DeadlineExceeded`, OpenTelemetry's `timeout`). A time-out that
    the provider's gateway tells of is its answer: `failed`.
    """
    plain = {name.rpartition(".")[2] for name in names}
    if any(_is_timeout(name.lower()) for name in plain):
        return "timeout"
    if plain & _CANCELLED:
        return "cancelled"
    return "left early" if "GeneratorExit" in plain else "failed"


def is_cancelled(error: BaseException | None) -> bool:
    """Whether the program gives up: by Ctrl-C, at its end, or because the task is cancelled."""
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
    return ("timeout" in name and "gateway" not in name) or name == "deadlineexceeded"


def _names(error: BaseException) -> Iterator[str]:
    return (kind.__name__ for kind in type(error).__mro__)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    one: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if one is None:
            return
        yield one
        one = one.__cause__
