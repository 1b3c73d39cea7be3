"""Record as programs did before some names were refused: ledgers with such names are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.verbs.record import new_call, write_calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from calibration_ledger import AdaptiveCalibrator, Call


def record_old(calibrator: AdaptiveCalibrator, calls: Iterable[Call]) -> None:
    """Record calls whatever the names of their models are."""
    for call in calls:
        numbers = call.prompt_tokens, call.completion_tokens, call.actual_ms
        new = new_call(*numbers, call.called_at, call.request_id, call.details)
        write_calls(calibrator._ledger, calibrator._opening, {call.model: (new,)})
