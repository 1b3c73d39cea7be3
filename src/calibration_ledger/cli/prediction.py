"""A prediction, a forecast and drift as the commands print them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from calibration_ledger.cli.output import note
from calibration_ledger.cli.table import Cell
from calibration_ledger.core import text
from calibration_ledger.core.values import WARM_UP_CALLS, standing_of, status_of
from calibration_ledger.errors import LedgerNotFoundError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.session import Session
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.values import CostPrediction, Drift


def describe(prediction: CostPrediction, *, is_assumed: bool = False) -> str:
    """The predicted time and what it is for."""
    return (
        f"{text.exact(prediction.predicted_ms)} for "
        f"{text.count(prediction.prompt_tokens, 'prompt token')} and "
        f"{'an assumed ' * is_assumed}"
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
    if newest.outcome == "timeout":
        return "the newest call was given up, and no other was learnt, this is its prior"
    return "no call was learnt since its reset, this is its prior"


def expectation(forecast: Forecast) -> str:
    """What to expect of such calls, in a few words."""
    what = "such first tokens come after" if forecast.is_ttft else "such calls take"
    return f"9 of 10 {what} {text.span(*forecast.interval(0.9))}"


def outlook(forecast: Forecast) -> str:
    """The same, and how far to trust it, on one line."""
    told = expectation(forecast)
    return told if forecast.status == "ok" else f"{told} ({standing(forecast)})"


def standing(forecast: Forecast) -> str:
    """The status of a forecast, and what it means."""
    status, drift = forecast.status, forecast.drift
    if status == "no history":
        return f"{status}: a guess"
    if drift is not None and status == "drifting":
        return f"{status}: {drift}"
    if status == "few calls":
        return f"{status}: {forecast.basis.count} so far"
    return status


def drift_cell(drift: Drift) -> Cell:
    """A drift in a table."""
    return Cell(text.times(drift.factor), "bad" if drift.factor > 1.0 else "good")


def drift_hint(drifts: Mapping[str, Drift], session: Session) -> str:
    """One line on the models that have drifted, and what to do next."""
    model = max(drifts, key=lambda name: _size(drifts[name]))
    others = len(drifts) - 1
    more = f", and {text.count(others, 'other')} drifted, too" if others else ""
    by_day = session.command("stats", "--by-day", names=[model])
    sweep = session.command("sweep", names=[model])
    return (
        f"hint: {model} has drifted: {drifts[model]}{more}. Since which day: {by_day}. If it stays "
        f"so, which rule follows best: {sweep}"
    )


def _size(drift: Drift) -> float:
    return max(drift.factor, 1.0 / drift.factor if drift.factor else inf)


def note_unknown(calibrator: AdaptiveCalibrator, model: str) -> None:
    """Say on stderr that the ledger has no such model, and which was probably meant."""
    try:
        calibrator.check_exists(model)
    except LedgerNotFoundError:
        pass  # nothing was recorded yet, so no name can be wrong
    except ModelNotFoundError as error:
        note(f"note: {error}")
