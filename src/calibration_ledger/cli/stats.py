"""`calib stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.options import examples, json_option, model_argument
from calibration_ledger.cli.printing import note, print_json, print_table
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.sweep import adopting
from calibration_ledger.cli.table import Cell, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.values import Suggestion

COLUMNS = (
    Column("model", left=True),
    Column("calls"),
    Column("confidence"),
    Column("ms/prompt tok"),
    Column("ms/compl tok"),
    Column("base ms"),
    Column("mean error ms"),
    Column("last updated", left=True),
    Column("status", left=True),
)


@click.command(epilog=examples("calib stats", "calib stats llama3:8b --json"))
@model_argument()
@json_option
@pass_session
def stats(session: Session, model: str | None, *, as_json: bool) -> None:
    """Show what each model has learnt.

    Without MODEL: every model with at least one call. The mean error is the mean of
    |actual - predicted|, each call predicted before it was learnt. With --json: the figures of
    get_stats() of the one model, or a list of them.
    """
    with session.existing() as calibrator:
        figures = calibrator.all_stats() if model is None else calibrator.get_stats(model)
        where = calibrator.ledger
        has_calls = figures["sample_count"] if isinstance(figures, dict) else figures
        better = calibrator.suggest(model) if has_calls and not as_json else []
    if as_json:
        print_json(figures)
        return
    rows = figures if isinstance(figures, list) else [figures]
    if rows:
        print_table(COLUMNS, map(_row, rows))
        if better:
            note(hint(better))
    else:
        note(f"no calls yet in {where}: record one with `calib record`.")


def hint(better: Sequence[Suggestion]) -> str:
    """One line on what would have predicted clearly better, and how to adopt it."""
    one = max(better, key=_gain)
    rule = one.rule.partition(".")[0]
    best = f"{rule} at alpha {one.alpha:g} would have erred {100 * _gain(one):.0f} % less"
    if len(better) == 1:
        calls = f"over the newest {one.n} calls of {one.model}"
        return f"hint: {best} {calls}: {adopting(one.model, one.rule, one.alpha)}"
    return (
        f"hint: another rule or alpha would have predicted {len(better)} models clearly better "
        f"({best} for {one.model}): calib recalibrate --best"
    )


def _gain(one: Suggestion) -> float:
    return 1 - one.mean_absolute_error_ms / one.live_mean_absolute_error_ms


def _row(figures: dict[str, Any]) -> list[str | Cell]:
    status = figures["status"]
    return [
        figures["model"],
        str(figures["sample_count"]),
        f"{figures['confidence']:.2f}",
        text.number(figures.get("ms_per_prompt_token"), 4),
        text.number(figures.get("ms_per_completion_token"), 4),
        text.number(figures.get("base_overhead_ms")),
        text.number(figures.get("mean_absolute_error_ms")),
        text.time_of(figures.get("last_updated")),
        Cell(status, "good" if status == "calibrated" else "dim"),
    ]
