"""`calib reset`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import examples, format_option, model_argument, rule_options
from calibration_ledger.cli.output import confirm, note, print_data, say
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.core import text
from calibration_ledger.core.values import ModelCalibration

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form
    from calibration_ledger.rules import RuleName


@click.command(
    epilog=examples(
        "calib reset llama3:8b", "calib reset llama3:8b --alpha 0.3", "calib reset --all"
    )
)
@model_argument()
@click.option("--all", "everything", is_flag=True, help="All models, after asking.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before resetting all models.")
@rule_options
@format_option
@pass_session
def reset(
    session: Session,
    model: str | None,
    *,
    everything: bool,
    yes: bool,
    alpha: float | None,
    rule: RuleName | None,
    form: Form,
) -> None:
    """Set a model back to its prior; its history stays.

    Predictions start from the prior again, under --alpha and --rule, or the ledger's (see
    `calib rule`). The calls stay in the ledger, and their request ids stay known.
    """
    if everything == (model is not None):
        raise click.UsageError("name one MODEL, or give --all: one of the two.")
    with session.existing(alpha, rule) as calibrator:
        if model is None:
            names = [head.model for head in calibrator.heads() if head.is_of_model]
            if names:
                what = f"reset {text.count(len(names), 'model')} in {calibrator.ledger}"
                confirm(what, "name one MODEL, or give --yes", yes=yes)
        else:
            calibrator.check_exists(model)  # where reset() would do nothing
            names = [model]
        calibrator.reset(model)
        calibrations = [calibrator.calibration(name) for name in names]
    if print_data(form, calibrations, of=ModelCalibration):
        return
    if not calibrations:
        note("no models to reset yet.")
    for now in calibrations:
        say(
            f"{now.model}: back to its prior ({now.ms_per_prompt_token:g} ms per prompt token, "
            f"{now.ms_per_completion_token:g} per completion token, {now.base_overhead_ms:g} ms "
            f"base), rule {now.rule}, alpha {now.alpha:g}"
        )
