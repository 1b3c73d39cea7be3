"""`calib drift`."""

from __future__ import annotations

from math import inf, nan
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.main import EXIT_FINDINGS
from calibration_ledger.cli.options import examples, format_option, models_argument
from calibration_ledger.cli.output import is_for_people, note, print_result
from calibration_ledger.cli.prediction import drift_cell, drift_hint
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.drift import ModelDrift

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form

COLUMNS = (
    MODEL,
    Column("calls looked at", spare=1),
    Column("drift"),
    Column("calls since"),
    Column("from", left=True, times=True),
)


def slower(value: str) -> float:
    """Read a factor from 1."""
    return _factor(value, 1.0, inf, "from 1, such as 1.3")


def faster(value: str) -> float:
    """Read a factor from 0 to 1."""
    return _factor(value, 0.0, 1.0, "from 0 to 1, such as 0.7")


def _factor(value: str, least: float, most: float, must: str) -> float:
    try:
        factor = float(value)
    except ValueError:
        factor = nan
    if not least <= factor <= most:  # which is true of NaN, where click's own range lets it pass
        raise click.BadParameter(f"{value!r} is no factor {must}.")
    return factor


@click.command(
    epilog=examples(
        "calib drift",
        "calib drift llama3:8b phi3:mini",
        "calib drift --fail-above 1.3 --fail-below 0.7",
    )
)
@models_argument
@click.option(
    "--fail-above",
    type=slower,
    metavar="FACTOR",
    help="Exit with code 3 if a model takes more than FACTOR times as long: 1.3, say.",
)
@click.option(
    "--fail-below",
    type=faster,
    metavar="FACTOR",
    help="Exit with code 3 if a model takes less than FACTOR times as long: 0.7, say.",
)
@format_option
@click.pass_context
@pass_session
def drift(
    session: Session,
    ctx: click.Context,
    models: tuple[str, ...],
    *,
    fail_above: float | None,
    fail_below: float | None,
    form: Form,
) -> None:
    """Tell which models have become slower or faster.

    Looks at the newest 200 calls of each model (of the ones named, or all): what they took over
    what is predicted of their tokens now. "1.52 x" means that the calls since the change took 1.52
    times as long as those before, whatever was asked of the model. Drift is told where chance alone
    would hardly bring it about: from about ten calls after the change until about a hundred have
    come. Of fewer than 40 calls, nothing is said. Changes nothing.

    Without --fail-above and --fail-below, drift is no failure; 1 takes every drift for one.
    """
    with session.existing() as calibrator:
        found = calibrator.drift(models or None)
    print_result(form, found, zone.titled(COLUMNS, "from"), _row, of=ModelDrift)
    if not found:
        note("no models to look at yet.")
    told = {one.model: one.drift for one in found if one.drift is not None}
    if told and is_for_people(form):
        note(drift_hint(told, session))
    above, below = fail_above or inf, fail_below or 0.0
    failed = [name for name, one in told.items() if not below <= one.factor <= above]
    if failed:
        note(f"{text.count(len(failed), 'model')} drifted too far: nothing was changed.")
        ctx.exit(EXIT_FINDINGS)


def _row(one: ModelDrift) -> list[str | Cell]:
    if one.drift is None or one.first_at is None:
        nothing = "none" if one.is_enough else "too few calls"
        return [one.model, str(one.calls), Cell(nothing, "dim"), "", ""]
    return [
        one.model,
        str(one.calls),
        drift_cell(one.drift),
        str(one.drift.since),
        zone.shown(one.first_at),
    ]
