"""`calib replay`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.options import (
    examples,
    json_option,
    model_argument,
    rule_options,
    window_options,
)
from calibration_ledger.cli.output import note, print_json, print_table, progress
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column, change

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.core.values import Replay
    from calibration_ledger.rules import RuleName

COLUMNS = (
    MODEL,
    Column("rule", left=True, spare=1),
    Column("alpha"),
    Column("calls", spare=6),
    Column("mean error ms"),
    Column("of latency", spare=2),
    Column("median error", spare=4),
    Column("bias ms", spare=3),
)
LIVE_COLUMNS = (Column("live alpha", spare=5), Column("live error ms"), Column("change"))


@click.command(
    epilog=examples(
        "calib replay",
        "calib replay llama3:8b --alpha 0.3",
        "calib replay --alpha 0.05 --since 2026-11-24 --json",
    )
)
@model_argument()
@rule_options
@window_options
@json_option
@pass_session
def replay(
    session: Session,
    model: str | None,
    *,
    alpha: float | None,
    rule: RuleName | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Ask how another alpha or rule would have predicted.

    Folds the history again, predicting each call before it is learnt, and changes nothing.
    Without --alpha or --rule, each model's live one is used (with another rule, that rule's
    default alpha). If you give one, the live calibration is replayed too and shown beside it.
    --since and --until choose the calls that are scored; all calls up to the last scored one are
    learnt. `calib recalibrate` adopts the result.
    """
    compare = alpha is not None or rule is not None
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
    if as_json:
        print_json([_dict(one, of_model.get(one.model)) for one in replays])
    elif not replays:
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
    mine, its = replay.mean_absolute_error_ms, live.mean_absolute_error_ms
    return [f"{live.alpha:g}", text.number(its), change(mine, its)]
