"""`calib predict`."""

from __future__ import annotations

import click

from calibration_ledger.cli.options import examples, json_option, model_argument, token_options
from calibration_ledger.cli.output import note, print_json, say
from calibration_ledger.cli.prediction import describe, ground_of
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.errors import LedgerNotFoundError, ModelNotFoundError


@click.command(
    epilog=examples(
        "calib predict llama3:8b --prompt-tokens 512 --completion-tokens 128",
        "calib predict llama3:8b --prompt-tokens 512 --json",
    )
)
@model_argument(required=True)
@token_options("go in", "are expected to come out")
@json_option
@pass_session
def predict(
    session: Session, model: str, prompt_tokens: int, completion_tokens: int, *, as_json: bool
) -> None:
    """Predict how long a call will take.

    A model that the ledger has never seen is predicted from its prior, with confidence 0. So is
    every model where there is no ledger yet.
    """
    with session.writing() as calibrator:
        prediction = calibrator.predict(model, prompt_tokens, completion_tokens)
        ground = ground_of(calibrator, prediction)
        try:
            calibrator.check_exists(model)
        except LedgerNotFoundError:
            pass  # nothing was recorded yet, so no name can be wrong
        except ModelNotFoundError as error:
            note(f"note: {error}")
    if as_json:
        print_json(prediction)
    else:
        say(f"{model}: {describe(prediction)}")
        say(ground)
