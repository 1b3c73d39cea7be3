"""`calib predict`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.options import examples, json_option, model_argument
from calibration_ledger.cli.output import print_json, say
from calibration_ledger.cli.session import Session, pass_session

if TYPE_CHECKING:
    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.values import CostPrediction, ModelCalibration


@click.command(
    epilog=examples(
        "calib predict llama3:8b --prompt-tokens 512 --completion-tokens 128",
        "calib predict llama3:8b --prompt-tokens 512 --json",
    )
)
@model_argument(required=True)
@click.option("--prompt-tokens", type=click.INT, required=True, help="The tokens that go in.")
@click.option(
    "--completion-tokens",
    type=click.INT,
    default=0,
    show_default=True,
    help="The tokens expected to come out.",
)
@json_option
@pass_session
def predict(
    session: Session, model: str, prompt_tokens: int, completion_tokens: int, *, as_json: bool
) -> None:
    """Predict how long a call will take.

    A model that the ledger has never seen is predicted from its prior, with confidence 0.
    """
    with session.existing() as calibrator:
        now = state_of(calibrator, model)
    prediction = prediction_from(now.calibration, prompt_tokens, completion_tokens)
    if as_json:
        print_json(prediction)
    else:
        say(f"{model}: {describe(prediction)}")
        say(ground(now))


class ModelState(NamedTuple):
    """A model at one moment: its calibration, and whether it has calls that it forgot."""

    calibration: ModelCalibration
    was_reset: bool
    was_voided: bool


def state_of(calibrator: AdaptiveCalibrator, model: str) -> ModelState:
    """The state from which prediction, confidence and status are told, so that they agree."""
    calibration = calibrator.calibration(model)
    if calibration.sample_count or calibration.last_updated is None:
        return ModelState(calibration, False, False)
    newest = next(calibrator.calls(model, last=1), None)
    was_voided = newest is not None and newest.voided
    # Again, behind the calls: one that others recorded meanwhile was learnt, not forgotten.
    calibration = calibrator.calibration(model)
    return ModelState(calibration, newest is not None and not was_voided, was_voided)


def prediction_from(
    calibration: ModelCalibration, prompt_tokens: int, completion_tokens: int
) -> CostPrediction:
    """What `AdaptiveCalibrator.predict` gives from this state."""
    from calibration_ledger.core.values import CostPrediction

    return CostPrediction(
        calibration.model,
        prompt_tokens,
        completion_tokens,
        calibration.predict(prompt_tokens, completion_tokens),
        calibration.confidence,
        calibration.sample_count,
        datetime.now(UTC),
    )


def describe(prediction: CostPrediction) -> str:
    """The predicted time and what it is for."""
    return (
        f"{text.duration(prediction.predicted_ms)} ({text.number(prediction.predicted_ms)} ms) "
        f"for {text.count(prediction.prompt_tokens, 'prompt token')} and "
        f"{text.count(prediction.completion_tokens, 'completion token')}"
    )


def ground(now: ModelState) -> str:
    """What the prediction rests on."""
    calibration = now.calibration
    if calibration.sample_count:
        return (
            f"confidence {calibration.confidence:.2f} from "
            f"{text.count(calibration.sample_count, 'call')}: {calibration.status}"
        )
    if now.was_voided:
        return "confidence 0.00: no call of this model counts, for they were voided"
    if now.was_reset:
        return "confidence 0.00: no call was learnt since its reset, this is its prior"
    if calibration.last_updated is not None:
        return "confidence 0.00: no call was learnt since this state was taken in"
    return "confidence 0.00: no call of this model was learnt yet, this is its prior"
