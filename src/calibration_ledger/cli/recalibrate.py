"""`calib recalibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.asking import confirm_all
from calibration_ledger.cli.options import examples, json_option, model_argument, rule_options
from calibration_ledger.cli.printing import note, print_json, print_table, progress
from calibration_ledger.cli.replay import entries
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.shapes import replay_dict
from calibration_ledger.cli.table import MODEL, Cell, Column

if TYPE_CHECKING:
    from calibration_ledger.calibration import ModelCalibration
    from calibration_ledger.values import Replay

COLUMNS = (
    MODEL,
    Column("calls", spare=3),
    Column("rule before", left=True, spare=1),
    Column("alpha before"),
    Column("error before ms"),
    Column("rule", left=True, spare=2),
    Column("alpha"),
    Column("mean error ms"),
)


@click.command(
    epilog=examples(
        "calib recalibrate llama3:8b --alpha 0.3", "calib recalibrate --alpha 0.05 --yes"
    )
)
@model_argument()
@rule_options
@click.option("--yes", is_flag=True, help="Do not ask before recalibrating all models.")
@json_option
@pass_session
def recalibrate(
    session: Session,
    model: str | None,
    *,
    alpha: float | None,
    rule: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Adopt an alpha or rule by replaying the history.

    The live calibration is rebuilt from the whole history under it, as an adjustment of its own;
    predictions change, no call does. Without MODEL: all models, after asking. `calib replay`
    shows beforehand what it would give.
    """
    if alpha is None and rule is None:
        raise click.UsageError("nothing to adopt: give --alpha, --rule or both.")
    with session.existing() as calibrator:
        heads = calibrator.heads()
        if model is None and heads:
            what = f"recalibrate {text.count(len(heads), 'model')} in {calibrator.ledger}"
            confirm_all(what, yes=yes)
        names = [head.model for head in heads if model in {None, head.model}]
        before = {name: calibrator.calibration(name) for name in names}
        with progress("replaying", entries(calibrator, model)) as done:
            adopted = calibrator.recalibrate(alpha, rule, model=model, progress=done)
    if as_json:
        print_json([_dict(one, before.get(one.model)) for one in adopted])
    elif adopted:
        print_table(COLUMNS, [_row(one, before.get(one.model)) for one in adopted])
    else:
        note("no models to recalibrate yet.")


def _dict(adopted: Replay, before: ModelCalibration | None) -> dict[str, Any]:
    return {**replay_dict(adopted), "before": None if before is None else before.to_dict()}


def _row(adopted: Replay, before: ModelCalibration | None) -> list[str | Cell]:
    now = adopted.calibration
    return [
        adopted.model,
        str(now.sample_count),
        "-" if before is None else before.rule,
        "-" if before is None else f"{before.alpha:g}",
        text.number(None if before is None else before.mean_absolute_error_ms),
        now.rule,
        f"{now.alpha:g}",
        text.number(now.mean_absolute_error_ms),
    ]
