"""`timed`: measure a call around a block of code."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from calibration_ledger.errors import CompletionTokensMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Records(Protocol):
    def record(
        self,
        model: str,
        prompt_tokens: int,
        actual_ms: float,
        completion_tokens: int = 0,
        *,
        request_id: str | None = None,
        called_at: datetime | None = None,
        details: Any = None,
    ) -> float: ...


@dataclass(slots=True)
class TimedCall:
    """What `timed` yields. The block sets the first three; the rest is set behind it.

    Where the call cannot be recorded, `actual_ms` is there all the same, and `error_ms` is None.

    Attributes:
        completion_tokens: the tokens that came out; must be set, 0 included.
        request_id: the caller's name for the call, where there is one.
        details: what else was measured.
        actual_ms: the measured wall-clock time of the block in ms.
        error_ms: actual minus predicted, in ms.
    """

    completion_tokens: int | None = None
    request_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    actual_ms: float | None = None
    error_ms: float | None = None


@contextmanager
def timed_call(calibrator: _Records, model: str, prompt_tokens: int) -> Iterator[TimedCall]:
    """See `AdaptiveCalibrator.timed`."""
    call = TimedCall()
    called_at = datetime.now(UTC)
    start = time.perf_counter()
    yield call
    # Set first: where recording it is refused, the measurement shall not be lost with it.
    call.actual_ms = (time.perf_counter() - start) * 1000.0
    if call.completion_tokens is None:
        raise CompletionTokensMissingError(
            f"the timed call of {model!r} was not recorded, because its completion_tokens were not "
            f"set: set them inside the block, on what timed() yields, to what the server reported."
        )
    call.error_ms = calibrator.record(
        model,
        prompt_tokens,
        call.actual_ms,
        call.completion_tokens,
        request_id=call.request_id,
        called_at=called_at,
        details=call.details or None,
    )
