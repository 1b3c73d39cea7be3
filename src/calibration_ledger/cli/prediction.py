"""A prediction as `calib predict` and `calib record` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.cli import text
from calibration_ledger.core.values import WARM_UP_CALLS, standing_of, status_of

if TYPE_CHECKING:
    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.values import CostPrediction


def describe(prediction: CostPrediction) -> str:
    """The predicted time and what it is for."""
    return (
        f"{text.duration(prediction.predicted_ms)} ({text.number(prediction.predicted_ms)} ms) "
        f"for {text.count(prediction.prompt_tokens, 'prompt token')} and "
        f"{text.count(prediction.completion_tokens, 'completion token')}"
    )


def ground_of(calibrator: AdaptiveCalibrator, prediction: CostPrediction) -> str:
    """What the prediction rests on; for one that rests on no call, why."""
    count = prediction.sample_count
    if not count:
        return f"confidence 0.00: {_reason(calibrator, prediction.model)}"
    ground = f"confidence {prediction.confidence:.2f} from {text.count(count, 'call')}"
    if count < WARM_UP_CALLS:
        return f"{ground}: {status_of(count)}"
    stats = calibrator.get_stats(prediction.model)
    error = stats.get("median_absolute_percentage_error")
    typically = "" if error is None else f", typically within {text.within(error)}"
    return f"{ground}: {standing_of(stats)}{typically}"


def _reason(calibrator: AdaptiveCalibrator, model: str) -> str:
    before = calibrator.calibration(model)
    newest = None if before.last_updated is None else next(calibrator.calls(model, last=1), None)
    # Read once more: what others recorded meanwhile was learnt, not forgotten.
    if before.last_updated is None or calibrator.calibration(model).sample_count:
        return "no call of this model was learnt yet, this is its prior"
    if newest is None:
        return "no call was learnt since this state was imported"
    if newest.voided:
        return "all calls of this model were voided"
    return "no call was learnt since its reset, this is its prior"
