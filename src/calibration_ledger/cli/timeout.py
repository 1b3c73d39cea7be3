"""`calib timeout`."""

from __future__ import annotations

from math import ceil, isfinite
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import coming_options, examples, format_option, model_argument
from calibration_ledger.cli.output import print_data, say
from calibration_ledger.cli.prompt import prompt_of
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.errors import NoHistoryError, NotFiniteError

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form


@click.command(
    epilog=examples(
        "calib timeout llama3:8b -p 512",
        'curl --max-time "$(calib timeout llama3:8b -p 512 || echo 60)" ...',
        "calib timeout llama3:8b --text prompt.txt --max-tokens 300 --chance 0.95",
    )
)
@model_argument(required=True)
@coming_options
@click.option(
    "--chance",
    type=click.FLOAT,
    default=0.99,
    show_default=True,
    help="The chance that a call is over within that time.",
)
@format_option
@pass_session
def timeout(
    session: Session,
    *,
    model: str,
    prompt_tokens: int | None,
    text: str | None,
    completion_tokens: int | None,
    max_tokens: int | None,
    chance: float,
    form: Form,
) -> None:
    """Print a timeout in seconds, for scripts.

    Such calls are over within that time with the chance that you ask for. One number is all that
    is printed, in seconds with three decimals, rounded up. For a model without calls there is
    none: nothing is printed, a sentence on stderr says why, and the exit code is 1, so that a
    script can name a time of its own.
    """
    prompt = prompt_of(session, prompt_tokens, text)
    with session.existing() as calibrator:
        calibrator.check_exists(model)
        found = calibrator.forecast(model, prompt.tokens, completion_tokens, max_tokens=max_tokens)
        timeout_ms = found.timeout_ms(chance)
    if not found.n:
        raise NoHistoryError(
            f"there are no calls of {model!r} since it began or was reset, and a guess from its "
            f"prior is no timeout",
            advice="record some calls, or name a time of your own",
        )
    if not isfinite(timeout_ms):
        raise NotFiniteError(
            f"no timeout is long enough for {model!r}, for an absurd call is among its newest: "
            f"void it, or reset the model; its history stays."
        )
    seconds = max(1, ceil(timeout_ms)) / 1000  # 0 means none to curl, to timeout(1) and others
    record = {
        "model": model,
        "prompt_tokens": prompt.tokens,
        "counted_by": prompt.counted_by,
        "completion_tokens": found.completion_tokens,
        "max_tokens": max_tokens,
        "chance": chance,
        "timeout_s": seconds,
        "n": found.n,
        "newest": found.newest,
        "status": found.status,
    }
    if not print_data(form, record):
        say(f"{seconds:.3f}")
