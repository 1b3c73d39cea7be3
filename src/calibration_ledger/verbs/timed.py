"""Timed: measure a call around a block of code, and record it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import CalibrationLedgerError, CompletionTokensMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from calibration_ledger.core.values import Outcome


@dataclass(slots=True)
class TimedCall:
    """What `timed` yields. The block sets the first four; the others are set at its end.

    If recording fails, `actual_ms` is set nevertheless, and `error_ms` stays None.

    Attributes:
        completion_tokens: the tokens that came out; must be set, 0 included, but for a time-out.
        request_id: the caller's id for the call, if there is one.
        details: what else was measured.
        outcome: to be set to `timeout` where the block gives the call up; see
            `AdaptiveCalibrator.record`. Then it is recorded, even if the block ends in an
            exception.
        actual_ms: the measured wall-clock time of the block in ms.
        error_ms: actual minus predicted, in ms.
    """

    completion_tokens: int | None = None
    request_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "ok"
    actual_ms: float | None = None
    error_ms: float | None = None


@contextmanager
def timed(record: Callable[..., float], model: str, prompt_tokens: int) -> Iterator[TimedCall]:
    """See `AdaptiveCalibrator.timed`; `record` is its own, and the rest is checked."""
    call = TimedCall()
    called_at = datetime.now(UTC)
    start = time.perf_counter()

    def finish() -> None:
        # Set first, so that the measurement is not lost if recording it is refused.
        call.actual_ms = (time.perf_counter() - start) * 1000.0
        if call.completion_tokens is None and call.outcome == "ok":
            raise CompletionTokensMissingError(
                f"the timed call of {model!r} was not recorded, because its completion_tokens were "
                f"not set: set them inside the block, on what timed() yields, to what the server "
                f"reported."
            )
        call.error_ms = record(
            model,
            prompt_tokens,
            call.actual_ms,
            completion_tokens=0 if call.completion_tokens is None else call.completion_tokens,
            request_id=call.request_id,
            called_at=called_at,
            details=call.details or None,
            outcome=call.outcome,
        )

    try:
        yield call
    except BaseException as error:
        if call.outcome != "ok":
            try:
                finish()
            except CalibrationLedgerError as failure:  # the block's own error comes first
                error.add_note(f"Its call is not in the ledger: {failure}")
        raise
    finish()
