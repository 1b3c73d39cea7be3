"""`calib sweep`."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.chart import check_chart, print_chart
from calibration_ledger.cli.options import (
    chart_option,
    complete,
    examples,
    format_option,
    model_argument,
    window_options,
)
from calibration_ledger.cli.output import heading, note, print_data, print_table, progress, say
from calibration_ledger.cli.session import Session, adopting, entries, pass_session
from calibration_ledger.cli.table import Cell, Column, change
from calibration_ledger.core import text
from calibration_ledger.core.comparison import SCORED_LEAST
from calibration_ledger.core.looks import sweep_panel
from calibration_ledger.core.values import Sweep

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import Score
    from calibration_ledger.rules import RuleName

TOP = 5
STEPS = 20

COLUMNS = (
    Column("rank"),
    Column("rule", left=True),
    Column("alpha"),
    Column("calls", spare=5),
    Column("mean error ms"),
    Column("of latency", spare=2),
    Column("median error", spare=4),
    Column("bias ms", spare=3),
    Column("90 % below ms", spare=1),
    Column("to live"),
)


def alphas_of(value: str) -> list[float]:
    """Read a list of alphas, such as `0.05,0.15`."""
    try:
        return [float(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no list of numbers: write it like 0.05,0.15,0.3."
        ) from None


def spaced(alpha_from: float, alpha_to: float, steps: int) -> list[float]:
    """This many alphas from one to another, both included, in equal ratios."""
    if not 0.0 < alpha_from < alpha_to <= 1.0:
        raise click.UsageError(
            f"--alpha-from {alpha_from:g} and --alpha-to {alpha_to:g} must be above 0, at most 1, "
            f"and the first the smaller."
        )
    # In logarithms: the ratio of two tiny alphas may be more than a float can hold.
    low, high = log(alpha_from), log(alpha_to)
    between = [exp(low + (high - low) * step / (steps - 1)) for step in range(1, steps - 1)]
    rounded = [float(f"{alpha:.4g}") for alpha in between]
    # Four digits read well, but where the range is narrow they would be the same, or outside.
    every = [alpha_from, *rounded, alpha_to]
    is_spaced = all(left < right for left, right in pairwise(every))
    return every if is_spaced else [alpha_from, *between, alpha_to]


@click.command(
    epilog=examples(
        "calib sweep",
        "calib sweep llama3:8b --rule ema --alpha-from 0.01 --alpha-to 0.5 --steps 40",
        "calib sweep llama3:8b --chart",
        "calib sweep --alphas 0.005,0.01,0.02 --rule kalman --json",
    )
)
@model_argument()
@click.option("--alphas", type=alphas_of, metavar="LIST", help="The alphas, such as 0.05,0.15.")
@click.option("--alpha-from", type=click.FLOAT, help="The smallest alpha of a range.")
@click.option("--alpha-to", type=click.FLOAT, help="The largest alpha of that range.")
@click.option(
    "--steps",
    type=click.IntRange(2, 1000),
    help=f"How many alphas the range has, in equal ratios (default: {STEPS}).",
)
@click.option(
    "--rule",
    "rules",
    multiple=True,
    metavar="NAME",
    help="A rule; may be repeated.",
    shell_complete=complete("rules"),
)
@click.option(
    "--warm-up",
    type=click.IntRange(0, 1_000_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Calls of each model that are learnt, but left out of the figures.",
)
@click.option(
    "-n",
    "--limit",
    "--top",
    "top",
    type=click.IntRange(1),
    metavar="N",
    default=TOP,
    show_default=True,
    help="Rows a model.",
)
@window_options
@chart_option
@format_option
@pass_session
def sweep(
    session: Session,
    model: str | None,
    *,
    alphas: list[float] | None,
    alpha_from: float | None,
    alpha_to: float | None,
    steps: int | None,
    rules: tuple[RuleName, ...],
    warm_up: int,
    top: int,
    since: datetime | None,
    until: datetime | None,
    chart: bool,
    form: Form,
) -> None:
    """Rank rules and alphas by how well they would have predicted.

    Replays the history under every rule with every alpha, predicting each call before it is
    learnt, and changes nothing: `calib recalibrate MODEL --best` adopts the winner, if it is
    clearly better than the live calibration. A paired test over the scored calls says whether it
    is, or whether it is too close to tell.

    Without options: all rules, with eleven alphas from 0.001 to 0.5. With --chart: the error by
    alpha, a line for each rule, all that were tried; where the live setting is, is marked. The
    chart is for people, and goes with no other --format.
    """
    if chart:
        check_chart(form)
    chosen = _chosen(alphas, alpha_from, alpha_to, steps)
    with (
        session.existing() as calibrator,
        progress("sweeping", entries(calibrator, model), times=20) as done,
    ):
        found = calibrator.sweep(
            chosen, rules or None, model, since=since, until=until, warm_up=warm_up, progress=done
        )
    if print_data(form, found, lines="scores", of=Sweep):
        return
    if not found:
        note("no models to sweep yet.")
    for one in found:
        if one.is_enough:
            _print(one, top, session, chart=chart)
    left_out = [one for one in found if not one.is_enough and one.model is not None]
    if left_out and model is not None:
        say(_too_few(left_out[0]))
    elif left_out:
        count = text.count(len(left_out), "model")
        learnt = text.count(warm_up, "call")
        note(
            f"{count} left out, with fewer than {SCORED_LEAST} scored calls each (a model's first "
            f"{learnt} are learnt, but not scored)."
        )


def _chosen(
    alphas: list[float] | None, alpha_from: float | None, alpha_to: float | None, steps: int | None
) -> list[float] | None:
    if alpha_from is None and alpha_to is None and steps is None:
        return alphas
    if alphas is not None:
        raise click.UsageError("--alphas is a list, and --alpha-from starts a range: give one.")
    if alpha_from is None or alpha_to is None:
        raise click.UsageError("a range needs both --alpha-from and --alpha-to.")
    return spaced(alpha_from, alpha_to, STEPS if steps is None else steps)


def _print(found: Sweep, top: int, session: Session, *, chart: bool) -> None:
    heading("all models together" if found.model is None else found.model)
    if chart:
        print_chart(sweep_panel(found))
        say(_verdict(found, session))
        return
    live = found.live.mean_absolute_error_ms
    rows = [_row(str(rank), score, live) for rank, score in enumerate(found.scores[:top], 1)]
    print_table(COLUMNS, [*rows, _row("live", found.live, live)])
    say(_verdict(found, session))


def _row(rank: str, score: Score, live_ms: float) -> list[str | Cell]:
    return [
        rank,
        "-" if score.rule is None else score.rule,
        "-" if score.alpha is None else f"{score.alpha:g}",
        str(score.n),
        text.number(score.mean_absolute_error_ms),
        text.percent(100 * score.relative_error),
        text.percent(score.median_absolute_percentage_error),
        text.signed(score.bias_ms),
        text.number(score.p90_absolute_error_ms),
        "" if rank == "live" else change(score.mean_absolute_error_ms, live_ms),
    ]


def _learnt(found: Sweep) -> str:
    return f"each model's first {text.count(found.warm_up, 'call')} learnt but not scored"


def _too_few(found: Sweep) -> str:
    if found.winner is None:
        return f"nothing was scored ({_learnt(found)})."
    calls = text.count(found.winner.n, "call")
    return f"only {calls} scored: too few to say what is better ({_learnt(found)})."


def _verdict(found: Sweep, session: Session) -> str:
    assert found.winner is not None  # noqa: S101 - enough calls were scored
    tried = f"{len(found.scores)} tried, {_learnt(found)}"
    rule, alpha = found.winner.rule, found.winner.alpha
    assert rule is not None  # noqa: S101 - only the live ones of several models have none
    assert alpha is not None  # noqa: S101 - nor do they have an alpha
    best = f"{rule} {alpha:g}"
    if found.is_close:
        return f"too close to tell: the lead of {best} may be chance ({tried})."
    if found.winner.mean_absolute_error_ms > found.live.mean_absolute_error_ms:
        return f"the live calibration is better than all of these, even than {best} ({tried})."
    if found.better is None:
        return f"the live calibration is as good as the best, {best} ({tried})."
    if found.model is None:
        each = session.command("recalibrate", "--best")
        return f"best over all: {best} ({tried}). Each its own best: {each}"
    adopt = session.command(*adopting(alpha, rule), names=[found.model])
    return f"best: {best} ({tried}). Adopt it: {adopt}"
