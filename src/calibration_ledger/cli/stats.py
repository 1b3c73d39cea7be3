"""`calib stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.options import examples, json_option, model_argument
from calibration_ledger.cli.output import note, print_json, print_table
from calibration_ledger.cli.session import Session, adopting, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core.values import iso_from_seconds, standing_of
from calibration_ledger.errors import CalibrationLedgerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.values import ModelStats, Suggestion

COLUMNS = (
    MODEL,
    Column("calls"),
    Column("rule", left=True, spare=5),
    Column("alpha", spare=6),
    Column("confidence", spare=2),
    Column("ms/prompt tok", spare=7),
    Column("ms/compl tok", spare=8),
    Column("base ms", spare=3),
    Column("mean error ms", spare=4),
    Column("mean ms"),
    Column("typically within"),
    Column("last updated", left=True, spare=1),
    Column("status", left=True, cut_to=13),
)


@click.command(epilog=examples("calib stats", "calib stats llama3:8b --json"))
@model_argument()
@json_option
@pass_session
def stats(session: Session, model: str | None, *, as_json: bool) -> None:
    """Show what each model has learnt.

    Without MODEL: every model in the ledger. A model is uncalibrated, and has only its prior,
    until a call is learnt, and again after a reset; it is warming up below 10 calls. The mean error
    is the mean of |actual - predicted| of all calls, with each call predicted before it was learnt.

    The newest 100 calls say how well a model is predicted now. "mean ms" is their mean latency;
    half of them took "typically within" so much more or less than predicted, in percent of what
    they took. Where that is below 30 %, the model is calibrated; else it is learning.

    With --json: the figures that get_stats() gives, unrounded, of the one model or as a list.
    """
    with session.existing() as calibrator:
        if model is None:
            rows = calibrator.all_stats(uncalibrated=True, rounded=not as_json)
        else:
            calibrator.check_exists(model)
            rows = [calibrator.get_stats(model, rounded=not as_json)]
        where = calibrator.ledger
        has_calls = any(row["sample_count"] for row in rows)
        advice = advice_of(session, calibrator, model) if has_calls and not as_json else None
    if as_json:
        told = [_dict(row) for row in rows]
        print_json(told if model is None else told[0])
    elif rows:
        print_table(COLUMNS, map(_row, rows))
        if advice := advice or patience(rows, session):
            note(advice)
    else:
        note(f"no calls yet in {where}: record one with `{session.command('record')}`.")


def advice_of(session: Session, calibrator: AdaptiveCalibrator, model: str | None) -> str | None:
    """One line on what would have predicted better, if anything clearly would have."""
    try:
        better = calibrator.suggest(model)
    except CalibrationLedgerError as error:  # damage in a history: the figures are still there
        return f"no look at the newest calls: {error}"
    return hint(better, session) if better else None


def patience(rows: Sequence[ModelStats], session: Session) -> str | None:
    """One line on models that are predicted badly, and by no other rule or alpha clearly better."""
    errors = {
        one["model"]: error
        for one in rows
        if (error := one.get("median_absolute_percentage_error")) is not None
        and standing_of(one) == "learning"
    }
    if not errors:
        return None
    worst = max(errors, key=lambda model: errors[model])
    if len(errors) == 1:
        look = session.command("sweep", names=[worst])
        return (
            f"hint: {worst} is still learning: half of its newest calls took more than "
            f"{text.percent(errors[worst])} more or less than predicted. What would do better: "
            f"{look}"
        )
    return (
        f"hint: {len(errors)} models are still learning, {worst} the most. What would do better: "
        f"{session.command('sweep')}"
    )


def hint(better: Sequence[Suggestion], session: Session) -> str:
    """One line on what would have predicted clearly better, and how to adopt it."""
    one = max(better, key=_gain)
    rule = one.rule.partition(".")[0]
    best = f"{rule} at alpha {one.alpha:g} would have erred {100 * _gain(one):.0f} % less"
    if len(better) == 1:
        calls = f"over the newest {one.n} calls of {one.model}"
        adopt = session.command(*adopting(one.alpha, one.rule), names=[one.model])
        return f"hint: {best} {calls}: {adopt}"
    return (
        f"hint: another rule or alpha would have predicted {len(better)} models clearly better "
        f"({best} for {one.model}): {session.command('recalibrate', '--best')}"
    )


def _gain(one: Suggestion) -> float:
    return 1 - one.mean_absolute_error_ms / one.live_mean_absolute_error_ms


def _dict(figures: ModelStats) -> dict[str, Any]:
    told: dict[str, Any] = {**figures, "status": standing_of(figures)}
    if "last_updated" in figures:
        told["last_updated"] = iso_from_seconds(figures["last_updated"])
    return told


def _row(figures: ModelStats) -> list[str | Cell]:
    status, alpha = standing_of(figures), figures.get("alpha")
    return [
        figures["model"],
        str(figures["sample_count"]),
        figures.get("rule", "-"),
        "-" if alpha is None else f"{alpha:g}",
        f"{figures['confidence']:.2f}",
        text.number(figures.get("ms_per_prompt_token"), 4),
        text.number(figures.get("ms_per_completion_token"), 4),
        text.number(figures.get("base_overhead_ms")),
        text.number(figures.get("mean_absolute_error_ms")),
        text.number(figures.get("mean_actual_ms")),
        text.within(figures.get("median_absolute_percentage_error")),
        text.time_of(figures.get("last_updated")),
        Cell(status, "good" if status == "calibrated" else "dim"),
    ]
