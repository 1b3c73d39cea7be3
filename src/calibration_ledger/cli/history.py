"""`calib history`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import (
    examples,
    format_option_of_lines,
    model_argument,
    window_options,
)
from calibration_ledger.cli.output import note, print_result
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import Call, Head

LAST = 20
"""How many calls of each model are shown by default."""

COLUMNS = (
    Column("when", left=True, cut_to=20),
    MODEL,
    Column("seq", spare=1),
    Column("prompt"),
    Column("compl"),
    Column("actual ms"),
    Column("predicted ms", spare=2),
    Column("error ms"),
    Column("", left=True),
)

FIELDS = (
    *("model", "seq", "called_at", "prompt_tokens", "completion_tokens", "actual_ms"),
    *("predicted_ms", "error_ms", "outcome", "request_id", "details", "voided"),
)
"""What a call may have as JSON: the columns of CSV and TSV."""


@click.command(
    epilog=examples(
        "calib history llama3:8b --last 5",
        "calib history --since 2026-11-24 --until 2026-11-25",
        "calib history --all --json > calls.jsonl",
    )
)
@model_argument()
@click.option("--last", type=click.INT, metavar="N", help="Each model's newest N calls.")
@click.option("--all", "everything", is_flag=True, help="Every call.")
@window_options
@format_option_of_lines
@pass_session
def history(
    session: Session,
    model: str | None,
    last: int | None,
    *,
    everything: bool,
    since: datetime | None,
    until: datetime | None,
    form: Form,
) -> None:
    """List the calls as they were recorded.

    They are sorted by model, then in the order of recording. A time-out is a call that was given
    up: it would have taken at least as long. Without --last, --all, --since or
    --until: the newest 20 of each model.

    A history of any length streams, in every format. --json gives JSON lines, a call each, which
    `calib import jsonl` reads, as `calib import csv` does those of --format csv.
    """
    if everything and last is not None:
        raise click.UsageError("--all and --last exclude each other: leave one out.")
    shown: Counter[str] = Counter()
    with session.existing() as calibrator:
        chosen = everything or last is not None or since is not None or until is not None
        found = calibrator.calls(model, since=since, until=until, last=last if chosen else LAST)
        print_result(form, _counted(found, shown), COLUMNS, _row, fields=FIELDS)
        archived = [head for head in calibrator.archived() if model in {None, head.model}]
    if archived:
        note(_archived(archived, session))
    if not shown:
        note("no calls to show.")
    elif not chosen and max(shown.values()) == LAST:
        note(f"(at most the newest {LAST} calls of each model are shown: --all shows every one)")


def _archived(heads: Sequence[Head], session: Session) -> str:
    one = heads[0]
    which = f"{one.model}: entries up to {one.seq} are"
    if len(heads) > 1:
        which = f"older entries of {len(heads)} models are"
    back = session.command("import", "ledger", "ARCHIVE")
    return f"{which} archived, and not shown: `{back}` brings them back."


def _counted(calls: Iterator[Call], shown: Counter[str]) -> Iterator[Call]:
    for call in calls:
        shown[call.model] += 1
        yield call


def _row(call: Call) -> list[str | Cell]:
    assert call.called_at is not None  # noqa: S101 - it was recorded
    return [
        text.time(call.called_at),
        call.model,
        str(call.seq),
        str(call.prompt_tokens),
        str(call.completion_tokens),
        text.number(call.actual_ms),
        text.number(call.predicted_ms),
        text.signed(call.error_ms),
        _mark(call),
    ]


def _mark(call: Call) -> str | Cell:
    """What is special about a call; a time-out took at least as long as it says."""
    timeout = "" if call.outcome == "ok" else "time-out"
    if call.voided:
        return Cell(", ".join(filter(None, ["voided", timeout])), "bad")
    return Cell(timeout, "dim") if timeout else ""
