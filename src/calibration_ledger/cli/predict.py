"""`calib predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import coming_options, examples, format_option, model_argument
from calibration_ledger.cli.output import print_data, say
from calibration_ledger.cli.prediction import describe, ground_of, note_unknown, outlook
from calibration_ledger.cli.prompt import prompt_of
from calibration_ledger.cli.session import Session, pass_session

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form


@click.command(
    epilog=examples(
        "calib predict llama3:8b -p 512 -c 128",
        "calib predict llama3:8b --text prompt.txt --json",
    )
)
@model_argument(required=True)
@coming_options
@format_option
@pass_session
def predict(
    session: Session,
    model: str,
    prompt_tokens: int | None,
    text: str | None,
    completion_tokens: int | None,
    max_tokens: int | None,
    *,
    form: Form,
) -> None:
    """Predict how long a call will take.

    The first line is what the calibration says for these tokens, exact and auditable. The second
    is what to act on, the forecast: it rests on the newest calls and on the rule kalman, whichever
    rule is live, so that the two may differ. Without --completion-tokens, the first line is for
    the typical completion of those calls.

    A model that the ledger has never seen is predicted from its prior, with confidence 0. So is
    every model where there is no ledger yet.
    """
    prompt = prompt_of(session, prompt_tokens, text)
    with session.writing() as calibrator:
        forecast = calibrator.forecast(
            model, prompt.tokens, completion_tokens, max_tokens=max_tokens
        )
        assumed = forecast.completion_tokens
        prediction = calibrator.predict(model, prompt.tokens, assumed.median)
        ground = ground_of(calibrator, prediction)
        note_unknown(calibrator, model)
    more = {"counted_by": prompt.counted_by, "forecast": forecast}
    if not print_data(form, {**prediction.to_dict(), **more}):
        say(f"{model}: {describe(prediction, is_assumed=not assumed.is_given)}")
        say(outlook(forecast))
        say(ground)
