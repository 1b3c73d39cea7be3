"""`calib void`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.options import examples, format_option, model_argument, window_options
from calibration_ledger.cli.output import note, print_data, print_table, progress
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.values import Voiding

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.cli.options import Form

COLUMNS = (
    MODEL,
    Column("voided", left=True, cut_to=12),
    Column("calls voided", spare=1),
    Column("calls before", spare=5),
    Column("calls now", spare=6),
    Column("error before ms", spare=2),
    Column("mean error ms"),
    Column("rule", left=True, spare=3),
    Column("alpha", spare=4),
)

_INTEGER = re.compile(r"[+-]?[0-9]+")
_SEQ = re.compile(r"([0-9]{1,18})(?:\.\.([0-9]{1,18}))?")


def seq_or_range(text: str) -> int | tuple[int, int]:
    """Read `12` or `2..80`."""
    found = _SEQ.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} names no entries: write 12, or 2..80 for several.")
    first, last = found.groups()
    return int(first) if last is None else (int(first), int(last))


class NumberOfCalls(click.IntRange):
    """How many of the newest calls; says what to write where a model's name was taken for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.IntRange`."""
        if isinstance(value, str) and not _INTEGER.fullmatch(value):
            self.fail(
                f"{value!r} is no number of calls. A model's name comes first: "
                f"calib void MODEL --last",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


@click.command(
    epilog=examples(
        "calib void llama3:8b --seq 2..80 --dry-run",
        "calib void llama3:8b --request-id req-17 --note 'the laptop slept'",
        "calib void llama3:8b --last",
        "calib void llama3:8b --since 2026-11-24 --until 2026-11-25 --dry-run",
        "calib void --import 3f2a9c01d4e7",
    )
)
@model_argument()
@click.option(
    "--seq",
    "seqs",
    type=seq_or_range,
    multiple=True,
    metavar="A[..B]",
    help="An entry, or the first and last of several; may be given again.",
)
@click.option(
    "--request-id", "request_ids", multiple=True, metavar="ID", help="The call of a request id."
)
@click.option(
    "--import",
    "import_ids",
    multiple=True,
    metavar="ID",
    help="The calls of an import, by the id that `calib import` printed.",
)
@click.option(
    "--last",
    type=NumberOfCalls(1),
    is_flag=False,
    flag_value=1,
    metavar="[N]",
    help="The newest call, or the newest N: those that `calib history --last N` lists.",
)
@window_options
@click.option("--note", "why", metavar="TEXT", help="The reason, which is stored with the entry.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@format_option
@pass_session
def void(
    session: Session,
    model: str | None,
    *,
    seqs: tuple[int | tuple[int, int], ...],
    request_ids: tuple[str, ...],
    import_ids: tuple[str, ...],
    last: int | None,
    since: datetime | None,
    until: datetime | None,
    why: str | None,
    dry_run: bool,
    form: Form,
) -> None:
    """Void wrong calls, so that nothing learns from them.

    The calls stay in the history, marked as voided, and the calibration is rebuilt without them.
    Resets and recalibrations can be voided, too. Each voiding is an entry of its own: void that,
    and its calls count again. Without MODEL, --import voids the import's calls of all models.

    --last, --since and --until name the calls that `calib history` lists with the same options.
    """
    is_window = last is not None or since is not None or until is not None
    if not seqs and not request_ids and not import_ids and not is_window:
        raise click.UsageError(
            "nothing to void: give --seq, --request-id, --import, --last, --since or --until."
        )
    if model is None and (seqs or request_ids or is_window):
        raise click.UsageError(
            "name the MODEL whose entries --seq, --request-id, --last, --since and --until mean."
        )
    with (
        session.existing() as calibrator,
        progress("replaying", entries(calibrator, model)) as tell,
    ):
        done = calibrator.void(
            model,
            seq=list(seqs) or None,
            request_id=request_ids or None,
            import_id=import_ids or None,
            since=since,
            until=until,
            last=last,
            note=why,
            dry_run=dry_run,
            progress=tell,
        )
    if print_data(form, done, of=Voiding):
        return
    print_table(COLUMNS, map(_row, done))
    for one in done:
        _tell(one, session, dry_run=dry_run)


def _tell(one: Voiding, session: Session, *, dry_run: bool) -> None:
    name = one.model
    if not one.voids:
        note(f"{name}: all of that was voided already; nothing was changed.")
        return
    if one.adjustments:
        kinds = ", ".join(f"{kind} (entry {seq})" for seq, kind in one.adjustments)
        note(f"{name}: adjustments among them: {kinds}.")
    if dry_run:
        note(f"{name}: nothing was changed (--dry-run).")
    else:
        undo = session.command("void", "--seq", str(one.seq), names=[name])
        note(f"{name}: entry {one.seq} voids them. To take that back: {undo}")


def _row(one: Voiding) -> list[str | Cell]:
    before, now = one.before, one.calibration
    return [
        one.model,
        one.voids or "-",
        str(one.calls),
        str(before.sample_count),
        str(now.sample_count),
        text.number(before.mean_absolute_error_ms),
        text.number(now.mean_absolute_error_ms),
        now.rule,
        f"{now.alpha:g}",
    ]
