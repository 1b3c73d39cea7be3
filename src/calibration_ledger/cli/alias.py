"""`calib alias`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import complete, examples, format_option, model_argument
from calibration_ledger.cli.output import note, print_data, print_result, progress, say
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.values import Alias, AliasReport

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form

COLUMNS = (
    Column("alias", left=True, names=True),
    MODEL,
    Column("since", left=True, times=True, spare=2),
    Column("merged entries", left=True, spare=1),
)


@click.command(
    epilog=examples(
        "calib alias",
        "calib alias gpt-5-mini-2025-08-07 gpt-5-mini",
        "calib alias gpt-5-mini-2025-08-07 gpt-5-mini --merge --dry-run",
        "calib alias gpt-5-mini-2025-08-07 --remove",
    )
)
@click.argument("name", required=False, shell_complete=complete("models"))
@model_argument()
@click.option("--merge", is_flag=True, help="Take the calls of NAME into MODEL.")
@click.option("--remove", is_flag=True, help="Let NAME be its own again, and undo its merge.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@format_option
@pass_session
def alias(
    session: Session,
    name: str | None,
    model: str | None,
    *,
    merge: bool,
    remove: bool,
    dry_run: bool,
    form: Form,
) -> None:
    """Let two names be one model.

    From then on NAME stands for MODEL, wherever it is given: in calls that are recorded or
    imported, in forecasts and in every command. A NAME that has a history of its own needs --merge:
    it voids those calls of MODEL that are newer than the first of NAME, and learns them anew
    together with the calls of NAME, in the order of their times.

    --remove lets NAME be its own again, and voids what a merge appended; calls that were recorded
    under NAME in between stay with MODEL. Without NAME, all aliases are listed.
    """
    if name is None:
        _list(session, form)
        return
    if (model is None) != remove:
        raise click.UsageError("give the MODEL that NAME stands for, or --remove.")
    if remove and merge:
        raise click.UsageError("--remove undoes a merge: leave --merge out.")
    with (
        session.writing() as calibrator,
        progress("merging", entries(calibrator, {name, model or name}) if merge else 0) as tell,
    ):
        done = calibrator.alias(name, model, merge=merge, dry_run=dry_run, progress=tell)
    if not print_data(form, done, of=AliasReport):
        _tell(done, session, dry_run=dry_run)


def _list(session: Session, form: Form) -> None:
    with session.existing() as calibrator:
        found = calibrator.aliases()
    print_result(form, found, zone.titled(COLUMNS, "since"), _row, of=Alias)
    if not found:
        note("no name stands for another model.")


def _row(one: Alias) -> list[str | Cell]:
    return [one.name, one.model, zone.shown(one.since), one.merged or "-"]


def _tell(done: AliasReport, session: Session, *, dry_run: bool) -> None:
    if done.model == done.was:
        say(f"{done.name} stands for {done.model}")
        note("nothing was changed: it did before.")
        return
    if done.model is None:
        say(f"{done.name} stands for itself again, and no more for {done.was}")
    else:
        say(f"{done.name} stands for {done.model}")
    if done.undone is not None:
        note(f"{done.was}: what came of the merge ({done.undone}) no longer counts.")
    if done.model is None:
        note(f"calls that were recorded under {done.name} since stay with {done.was}.")
    else:
        _tell_merge(done)
    if dry_run:
        note("nothing was changed (--dry-run).")
    elif done.model is not None:
        note(f"To take that back: {session.command('alias', '--remove', names=[done.name])}")


def _tell_merge(done: AliasReport) -> None:
    if done.copied or done.already:
        moved = f", together with {text.count(done.moved, 'call')} of its own" if done.moved else ""
        note(f"{done.model}: learns {text.count(done.copied, 'call')} of {done.name}{moved}.")
    if done.already:
        note(f"{text.count(done.already, 'call')} of {done.name} left out: {done.model} has them.")
    if done.calibration is not None:
        before = 0 if done.before is None else done.before.sample_count
        now = done.calibration
        mean = text.number(now.mean_absolute_error_ms)
        counts = f"{text.count(before, 'call')} before, {now.sample_count} now"
        note(f"{now.model}: {counts}; mean error {mean} ms.")
    if not done.is_known:
        note(f"{done.model} has no history yet: its first call opens it.")
