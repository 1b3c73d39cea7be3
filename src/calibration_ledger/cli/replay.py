"""`calib replay`."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.options import (
    examples,
    format_option,
    model_argument,
    rule_options,
    window_options,
)
from calibration_ledger.cli.output import note, print_data, print_table, progress, say
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column, change
from calibration_ledger.core import text
from calibration_ledger.core.coverage import ForecastReplay
from calibration_ledger.core.values import Replay, json_types

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.coverage import ForecastScore
    from calibration_ledger.rules import RuleName

COLUMNS = (
    MODEL,
    Column("rule", left=True, spare=1),
    Column("alpha", spare=7),
    Column("calls", spare=6),
    Column("mean error ms"),
    Column("of latency", spare=2),
    Column("median error", spare=4),
    Column("bias ms", spare=3),
)
LIVE_COLUMNS = (Column("live alpha", spare=5), Column("live error ms"), Column("change"))

FORECAST_COLUMNS = (
    MODEL,
    Column("completion", left=True),
    Column("calls", spare=5),
    Column("50 % held", spare=3),
    Column("80 % held", spare=4),
    Column("90 % held"),
    Column("95 % held", spare=6),
    Column("worst 200 in a row", spare=8),
    Column("worst third by size", spare=7),
    Column("90 % width", spare=10),
    Column("over timeout", spare=9),
    Column("median error", spare=2),
    Column("loss", spare=1),
)

FORECASTS_TIMES = 100
"""Two forecasts of a call take so many times as long as learning it."""


@click.command(
    epilog=examples(
        "calib replay",
        "calib replay llama3:8b --alpha 0.3",
        "calib replay --alpha 0.05 --since 2026-11-24 --json",
        "calib replay --forecast --last 1000",
    )
)
@model_argument()
@click.option(
    "--forecast", "is_forecast", is_flag=True, help="Score past forecasts instead of a rule."
)
@click.option(
    "--last", type=click.INT, metavar="N", help="With --forecast: only each model's newest N calls."
)
@click.option(
    "--warm-up",
    type=click.INT,
    metavar="N",
    help="With --forecast: calls of each model that are learnt, but not scored (default: 20).",
)
@rule_options
@window_options
@format_option
@pass_session
def replay(
    session: Session,
    model: str | None,
    *,
    is_forecast: bool,
    last: int | None,
    warm_up: int | None,
    alpha: float | None,
    rule: RuleName | None,
    since: datetime | None,
    until: datetime | None,
    form: Form,
) -> None:
    """Ask how another alpha or rule would have predicted.

    Folds the history again, predicting each call before it is learnt, and changes nothing.
    Without --alpha or --rule, each model's live one is used (with another rule, that rule's
    default alpha). If you give one, the live calibration is replayed too and shown beside it.
    --since and --until choose the calls that are scored; all calls up to the last scored one are
    learnt. `calib recalibrate` adopts the result.

    With --forecast, ask how honest the ledger's forecasts were: each call is forecast as it would
    have been then, once told its completion length and once not, and held against what it took.
    """
    compare = alpha is not None or rule is not None
    if is_forecast and compare:
        raise click.UsageError(
            "--forecast scores what `forecast` would have told, and that has no --alpha or --rule "
            "to choose."
        )
    if is_forecast:
        more = {} if warm_up is None else {"warm_up": warm_up}
        with session.existing() as calibrator:
            found = _forecasts(calibrator, model, since=since, until=until, last=last, **more)
        _print_forecasts(found, form)
        return
    if last is not None or warm_up is not None:
        raise click.UsageError("--last and --warm-up go with --forecast.")
    with session.existing() as calibrator:
        work = entries(calibrator, model) * (2 if compare else 1)
        with progress("replaying", work) as done:
            replays = calibrator.replay(
                alpha, rule, model=model, since=since, until=until, progress=done
            )
            live: list[Replay] = []
            if compare:
                live = calibrator.replay(model=model, since=since, until=until, progress=done)
    of_model = {one.model: one for one in live}
    of = {**json_types(Replay), **({"live": Replay} if compare else {})}
    if print_data(form, [_dict(one, of_model.get(one.model)) for one in replays], of=of):
        return
    if not replays:
        note("no models to replay yet.")
    elif compare:
        rows = [_row(one) + _beside(one, of_model.get(one.model)) for one in replays]
        print_table(COLUMNS + LIVE_COLUMNS, rows)
    else:
        print_table(COLUMNS, map(_row, replays))


def _dict(replay: Replay, live: Replay | None) -> dict[str, Any]:
    return replay.to_dict() if live is None else {**replay.to_dict(), "live": live}


def _row(replay: Replay) -> list[str | Cell]:
    error = replay.mean_absolute_error_ms
    of_latency = 100 * error / replay.mean_actual_ms if replay.mean_actual_ms else None
    return [
        replay.model,
        replay.rule,
        f"{replay.alpha:g}",
        str(replay.n),
        text.number(error),
        text.percent(of_latency),
        text.percent(replay.median_absolute_percentage_error),
        text.signed(replay.bias_ms),
    ]


def _beside(replay: Replay, live: Replay | None) -> list[str | Cell]:
    if live is None:  # the model was opened between the two replays
        return ["-", "-", "-"]
    if (replay.rule, replay.alpha) == (live.rule, live.alpha):
        return ["", "", Cell("is live", "dim")]
    mine, its = replay.mean_absolute_error_ms, live.mean_absolute_error_ms
    return [f"{live.alpha:g}", text.number(its), change(mine, its)]


# -- how honest forecasts were --------------------------------------------------------------


def _forecasts(
    calibrator: AdaptiveCalibrator, model: str | None, **more: Any
) -> list[ForecastReplay]:
    work = entries(calibrator, model)
    with progress("forecasting", work, times=FORECASTS_TIMES) as done:
        return calibrator.replay_forecasts(model, progress=done, **more)


def _print_forecasts(found: list[ForecastReplay], form: Form) -> None:
    if print_data(form, found, of=ForecastReplay):
        return
    if not found:
        note("no models to replay yet.")
        return
    rows = [
        [one.model, completion, str(one.n), *_of_score(score)]
        for one in found
        for completion, score in (("known", one.known), ("not known", one.unknown))
    ]
    print_table(FORECAST_COLUMNS, rows)
    say(_told(found))
    if timeouts := sum(one.timeouts for one in found):
        note(
            f"{text.count(timeouts, 'call')} not scored, for they were given up: how long they "
            f"would have taken is not known."
        )
    if unforecast := sum(one.unforecast for one in found):
        note(
            f"{text.count(unforecast, 'call')} not scored, for there was no forecast then: an "
            f"absurd call was among the newest."
        )


def _told(found: list[ForecastReplay]) -> str:
    """What the table says of all models together, in words."""
    left_out = f"each model's first {text.count(found[0].warm_up, 'call')} learnt but not scored"
    scored = [one for one in found if one.n]
    if not scored:
        return f"nothing was scored ({left_out})."
    calls = text.count(sum(one.n for one in scored), "call")
    known = _pooled(scored, lambda one: one.known.coverage_90)
    over = _pooled(scored, lambda one: one.known.over_timeout)
    unknown = _pooled(scored, lambda one: one.unknown.coverage_90)
    return (
        f"ranges of 90 % held {known} of {calls} where the completion length was known beforehand, "
        f"and {unknown} where it was not; {over} took longer than the 99 % timeout ({left_out})."
    )


def _pooled(scored: list[ForecastReplay], share: Callable[[ForecastReplay], float]) -> str:
    """A share of the calls of all models."""
    n = sum(one.n for one in scored)
    return text.percent(100.0 * sum(share(one) * one.n for one in scored) / n)


def _of_score(score: ForecastScore) -> list[str | Cell]:
    shares = [
        *(score.coverage_50, score.coverage_80, score.coverage_90, score.coverage_95),
        *(score.worst_200, score.worst_third),
    ]
    return [
        *(text.percent(100.0 * share) for share in shares),
        "-" if isnan(score.mean_width_ms) else text.duration(score.mean_width_ms),
        text.percent(100.0 * score.over_timeout),
        text.percent(score.median_absolute_percentage_error),
        text.percent(100.0 * score.pinball_loss),
    ]
