"""`calib predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.options import examples, json_option, model_argument
from calibration_ledger.cli.printing import print_json, say
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.shapes import prediction_dict

if TYPE_CHECKING:
    from calibration_ledger.values import CostPrediction


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
        prediction = calibrator.predict(model, prompt_tokens, completion_tokens)
        if as_json:
            print_json(prediction_dict(prediction))
        else:
            say(f"{model}: {describe(prediction)}")
            say(ground(prediction, calibrator.calibration(model).status))


def describe(prediction: CostPrediction) -> str:
    """The predicted time and what it is for."""
    return (
        f"{text.duration(prediction.predicted_ms)} ({text.number(prediction.predicted_ms)} ms) "
        f"for {text.count(prediction.prompt_tokens, 'prompt token')} and "
        f"{text.count(prediction.completion_tokens, 'completion token')}"
    )


def ground(prediction: CostPrediction, status: str) -> str:
    """What the prediction rests on."""
    if prediction.sample_count == 0:
        return "confidence 0.00: no call of this model was learnt yet, this is its prior"
    return (
        f"confidence {prediction.confidence:.2f} from "
        f"{text.count(prediction.sample_count, 'call')}: {status}"
    )
