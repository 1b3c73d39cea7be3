"""`calib compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import coming_options, examples, format_option, models_argument
from calibration_ledger.cli.output import note, print_data, print_table
from calibration_ledger.cli.prediction import note_unknown
from calibration_ledger.cli.prompt import prompt_of
from calibration_ledger.cli.ranking import COLUMNS, row
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.core.forecast import Forecast
from calibration_ledger.core.values import json_types

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.rank import RankBy


def mean_median_or_level(text: str) -> RankBy:
    """Read what to rank by; the library refuses a wrong level."""
    if text == "mean":
        return "mean"
    if text == "median":
        return "median"
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither mean nor median nor a level such as 0.95."
        ) from None


@click.command(
    epilog=examples(
        "calib compare -p 512",
        "calib compare llama3:8b phi3:mini -p 512 -c 128 --by 0.95",
        "calib compare --text prompt.txt --max-tokens 300 --json",
    )
)
@models_argument
@coming_options
@click.option(
    "--by",
    type=mean_median_or_level,
    default="mean",
    show_default=True,
    metavar="mean|median|LEVEL",
    help="What makes a model the soonest; 0.95 is the time that 95 % of its calls keep.",
)
@format_option
@pass_session
def compare(
    session: Session,
    *,
    models: tuple[str, ...],
    prompt_tokens: int | None,
    text: str | None,
    completion_tokens: int | None,
    max_tokens: int | None,
    by: RankBy,
    form: Form,
) -> None:
    """Compare models by forecast, the soonest first.

    Without MODEL: all models of the ledger. The times are those of `calib forecast`. Each model
    has the completion length of its own newest calls, unless you give --completion-tokens; tokens/s
    is that length over the time that half of such calls keep. Models without calls come last:
    nothing is known of their speed.
    """
    prompt = prompt_of(session, prompt_tokens, text)
    with session.existing() as calibrator:
        found = calibrator.rank(
            prompt.tokens,
            dict.fromkeys(models) or None,
            completion_tokens=completion_tokens,
            max_tokens=max_tokens,
            by=by,
        )
        for model in dict.fromkeys(models):
            note_unknown(calibrator, model)
        where = calibrator.ledger
    records = [{**one.to_dict(), "counted_by": prompt.counted_by} for one in found]
    if print_data(form, records, of={**json_types(Forecast), "counted_by": str}):
        return
    print_table(COLUMNS, map(row, found))
    if not found:
        note(f"no calls yet in {where}: record one with `{session.command('record')}`.")
