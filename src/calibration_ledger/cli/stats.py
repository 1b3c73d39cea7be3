"""`calib stats`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import examples, format_option, model_argument, window_options
from calibration_ledger.cli.output import is_for_people, note, print_data, print_table, progress
from calibration_ledger.cli.prediction import drift_cell, drift_hint
from calibration_ledger.cli.session import Session, adopting, entries, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.cli.terminal import can_show
from calibration_ledger.core import text
from calibration_ledger.core.spark import ASCII, BLOCKS, spark
from calibration_ledger.core.values import (
    ModelStats,
    PeriodStats,
    coefficients,
    iso_from_seconds,
    standing_of,
)
from calibration_ledger.errors import CalibrationLedgerError, named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import Suggestion

COLUMNS = (
    MODEL,
    Column("calls", spare=13),
    Column("rule", left=True, spare=5),
    Column("alpha", spare=6),
    Column("confidence", spare=2),
    Column("ms/prompt tok", spare=7),
    Column("ms/compl tok", spare=8),
    Column("base ms", spare=3),
    Column("mean error ms", spare=4),
    Column("mean ms", spare=9),
    Column("typically within"),
    Column("newest errors", left=True, spare=10),
    Column("last updated", left=True, times=True, spare=1),
    Column("status", left=True, cut_to=10),
)
DAY = (Column("day (UTC)", left=True, times=True),)
TIMEOUTS = (Column("time-outs", spare=12),)
DRIFT_COLUMNS = (Column("drift"), Column("calls since", spare=11))
PERIOD_COLUMNS = (
    Column("calls", spare=4),
    Column("median ms"),
    Column("mean ms", spare=1),
    Column("mean error ms", spare=2),
    Column("typically within", spare=3),
    Column("to now"),
)


@click.command(
    epilog=examples(
        "calib stats",
        "calib stats llama3:8b --json",
        "calib stats llama3:8b --by-day --since 2026-11-24",
    )
)
@model_argument()
@click.option("--by-day", is_flag=True, help="A line for each day (UTC) with calls.")
@window_options
@format_option
@pass_session
def stats(
    session: Session,
    model: str | None,
    *,
    by_day: bool,
    since: datetime | None,
    until: datetime | None,
    form: Form,
) -> None:
    """Show what each model has learnt.

    Without MODEL: every model in the ledger. A model is uncalibrated, and has only its prior,
    until a call is learnt, and again after a reset; it is warming up below 10 calls. The mean error
    is the mean of |actual - predicted| of all calls, with each call predicted before it was learnt.

    The newest 100 calls say how well a model is predicted now. "mean ms" is their mean latency;
    half of them took "typically within" so much more or less than predicted, in percent of what
    they took. Where that is below 30 %, the model is calibrated; else it is learning. The errors of
    the newest 16 are drawn side by side, the newest last, in proportion to the largest of them:
    look whether they grow. Where a model has become slower or faster of late, that is shown as its
    drift; see `calib drift`.

    Calls that were given up are counted as "time-outs", and are in no other figure. A warning says
    where a model mixes clocks, such as those of a server and of its clients.

    With --since, --until or --by-day: the calls of that time in figures, each as it was predicted
    before it was learnt. "to now" is the median of what they took over what is predicted of their
    tokens now: where it changes from day to day, the model has, whatever was asked of it.

    With --json, --format csv and the like: the figures that get_stats() gives, unrounded, of the
    one model or as a list; of a time, those that stats() gives.
    """
    if by_day or since is not None or until is not None:
        _show_periods(session, model, since, until, form, by_day=by_day)
        return
    with session.existing() as calibrator:
        if model is None:
            rows = calibrator.all_stats(uncalibrated=True, rounded=False)
        else:
            calibrator.check_exists(model)
            rows = [calibrator.get_stats(model, rounded=False)]
        where = calibrator.ledger
        has_calls = any(row["sample_count"] for row in rows)
        advice = (
            advice_of(session, calibrator, model) if has_calls and is_for_people(form) else None
        )
    told = list(map(_dict, rows))
    if print_data(form, told if model is None else told[0], of=ModelStats):
        return
    if rows:
        drifts = {one["model"]: drift for one in rows if (drift := one.get("drift")) is not None}
        _print(rows, has_drifts=bool(drifts))
        for one in rows:
            if names := one.get("aliases"):
                note(f"{one['model']} is also called {named(names)}.")
            if clocks := one.get("clocks"):
                note(f"warning: {_mixed(one['model'], clocks, one['sample_count'])}")
        if drifts:
            note(drift_hint(drifts, session))
        else:
            advice = advice or patience(rows, session)
        if advice:
            note(advice)
    else:
        note(f"no calls yet in {where}: record one with `{session.command('record')}`.")


def _mixed(model: str, clocks: Mapping[str, int], calls: int) -> str:
    counts = ", ".join(f"{clock} {count}" for clock, count in clocks.items())
    seen = sum(clocks.values())
    looked = "" if seen >= calls else f" of the {seen} calls looked at"
    return (
        f"{model} mixes clocks: {counts}{looked}. They measure different things, and what is "
        f"learnt lies in between: void the import of one, or give it a model name of its own."
    )


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


def _print(rows: Sequence[ModelStats], *, has_drifts: bool) -> None:
    heights = BLOCKS if can_show(BLOCKS, sys.stdout) else ASCII
    lines = [_row(one, heights) + (_drift(one) if has_drifts else []) for one in rows]
    columns = zone.titled(COLUMNS, "last updated") + DRIFT_COLUMNS * has_drifts
    if any(one.get("timeouts") for one in rows):
        columns = (*columns[:2], *TIMEOUTS, *columns[2:])
        for one, line in zip(rows, lines, strict=True):
            line.insert(2, str(one.get("timeouts") or 0))
    print_table(columns, lines)


def _row(figures: ModelStats, heights: str) -> list[str | Cell]:
    status, alpha = standing_of(figures), figures.get("alpha")
    about = "≈" if can_show("≈", sys.stdout) else "~"
    return [
        figures["model"],
        str(figures["sample_count"]),
        figures.get("rule", "-"),
        "-" if alpha is None else f"{alpha:g}",
        f"{figures['confidence']:.2f}",
        *coefficients(figures.get, about),
        text.number(figures.get("mean_absolute_error_ms")),
        text.number(figures.get("mean_actual_ms")),
        text.within(figures.get("median_absolute_percentage_error")),
        spark(figures.get("newest_errors_ms") or (), heights),
        zone.shown_s(figures.get("last_updated")),
        Cell(status, "good" if status == "calibrated" else "dim"),
    ]


def _drift(figures: ModelStats) -> list[str | Cell]:
    drift = figures.get("drift")
    return ["", ""] if drift is None else [drift_cell(drift), str(drift.since)]


def _show_periods(
    session: Session,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
    form: Form,
    *,
    by_day: bool,
) -> None:
    with (
        session.existing() as calibrator,
        progress("reading", entries(calibrator, model)) as done,
    ):
        found = calibrator.stats(model, since=since, until=until, by_day=by_day, progress=done)
    if print_data(form, found, of=PeriodStats):
        return
    if found:
        has_timeouts = any(one.timeouts for one in found)
        columns = (MODEL, *DAY * by_day, *PERIOD_COLUMNS, *TIMEOUTS * has_timeouts)
        rows = (_period_row(one) + [str(one.timeouts)] * has_timeouts for one in found)
        print_table(columns, rows)
    else:
        note("no calls in that time.")


def _period_row(one: PeriodStats) -> list[str | Cell]:
    return [
        one.model,
        *(() if one.day is None else (str(one.day),)),
        str(one.calls),
        text.number(one.median_actual_ms),
        text.number(one.mean_actual_ms),
        text.number(one.mean_absolute_error_ms),
        text.within(one.median_absolute_percentage_error),
        text.times(one.median_ratio),
    ]
