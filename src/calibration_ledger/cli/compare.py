"""`calib compare`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import text as texts
from calibration_ledger.cli.options import coming_options, examples, json_option
from calibration_ledger.cli.output import note, print_json, print_table
from calibration_ledger.cli.prediction import note_unknown
from calibration_ledger.cli.prompt import prompt_of
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column

if TYPE_CHECKING:
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.rank import RankBy

COLUMNS = (
    MODEL,
    Column("mean"),
    Column("half within", spare=2),
    Column("9 of 10", left=True),
    Column("95 % within"),
    Column("tokens/s", spare=4),
    Column("completion", spare=1),
    Column("calls", spare=5),
    Column("newest call", spare=3),
    Column("status", left=True, cut_to=8),
)


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
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@coming_options
@click.option(
    "--by",
    type=mean_median_or_level,
    default="mean",
    show_default=True,
    metavar="mean|median|LEVEL",
    help="What makes a model the soonest; 0.95 is the time that 95 % of its calls keep.",
)
@json_option
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
    as_json: bool,
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
    if as_json:
        print_json([{**one.to_dict(), "counted_by": prompt.counted_by} for one in found])
    elif found:
        print_table(COLUMNS, map(_row, found))
    else:
        note(f"no calls yet in {where}: record one with `{session.command('record')}`.")


def _row(found: Forecast) -> list[str | Cell]:
    newest = found.newest
    if newest is None:
        figures = ["-"] * 8
    else:
        figures = [
            texts.duration(found.mean_ms),
            texts.duration(found.median_ms),
            texts.span(*found.interval(0.9)),
            texts.duration(found.timeout_ms(0.95)),
            texts.number(found.tokens_per_second or None),
            str(found.completion_tokens.median),
            str(found.basis.count),
            texts.age((datetime.now(UTC) - newest).total_seconds()),
        ]
    style = {"ok": "good", "drifting": "bad"}.get(found.status, "dim")
    return [found.model, *figures, Cell(_status(found), style)]


def _status(found: Forecast) -> str:
    if found.drift is None or found.status != "drifting":
        return found.status
    return f"drifting: {texts.times(found.drift.factor)}"
