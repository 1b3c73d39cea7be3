"""`calib archive`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import (
    FilePath,
    examples,
    format_option,
    model_argument,
)
from calibration_ledger.cli.output import confirm, note, print_data, print_table, progress
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import MODEL, Cell, Column
from calibration_ledger.core import text
from calibration_ledger.core.values import ArchiveReport

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import ArchivedModel, Obstacle

COLUMNS = (
    MODEL,
    Column("calls"),
    Column("adjustments", spare=1),
    Column("through seq"),
)


@click.command(
    epilog=examples(
        "calib archive --before 2026-01-01 calls-2025.jsonl.gz",
        "calib import ledger calls-2025.jsonl.gz",
    )
)
@click.argument("dest", type=FilePath(readable=False))
@model_argument()
@click.option(
    "--before",
    type=zone.time_of,
    metavar="DATE",
    required=True,
    help="Archive what was made before then: 2026-01-01 (its first moment), or a time.",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before taking entries out.")
@format_option
@pass_session
def archive(
    session: Session, dest: str, *, before: datetime, model: str | None, yes: bool, form: Form
) -> None:
    """Move the oldest entries to a file, to shrink the ledger.

    Nothing else takes entries out of a ledger. Each model's entries up to the first one made at
    DATE or later are written to DEST, which is read back and verified. Then, in one transaction,
    an `archived` entry replaces them: it holds the state and the head after them. Predictions
    stay the same; `calib audit` and replays start from that state.

    DEST must not exist; it is compressed if it ends in .gz. Keep it: `calib import ledger DEST`
    brings the entries back. Until then the ledger does not know their request ids, so that a
    call recorded again counts as a new one.
    """
    with session.existing() as calibrator:
        found = calibrator.archivable(before, model=model)
        if found.models:
            what = f"move {_counted(found)} out of {calibrator.ledger} to {dest}"
            confirm(what, yes=yes, stays=False)
        with progress("archiving", 2 * found.calls) as done:
            report = calibrator.archive(before, dest, model=model, progress=done)
    if not print_data(form, report, lines="models", of=ArchiveReport):
        print_table(COLUMNS, map(_row, report.models))
    for one in report.obstacles:
        note(_in_the_way(session, one))
    if not report.models:
        note("nothing to archive: no file was made.")
        return
    note(f"{_counted(report)} moved to {report.target}: keep it.{_size(report)}")
    if report.trouble is not None:
        note(f"warning: the archive stands, but the space was not given back: {report.trouble}")


def _in_the_way(session: Session, one: Obstacle) -> str:
    void = session.command("void", "--seq", str(one.seq), names=[one.model])
    return (
        f"{text.count(one.calls, 'older call')} of {one.model} stayed, recorded after entry "
        f"{one.seq}, which was made at {zone.told(one.made_at)}. If that time is wrong, void the "
        f"entry, and archive again: `{void}`"
    )


def _counted(report: ArchiveReport) -> str:
    calls, models = text.count(report.calls, "call"), text.count(len(report.models), "model")
    adjustments = text.count(report.adjustments, "adjustment")
    return f"{calls} and {adjustments} of {models}"


def _size(report: ArchiveReport) -> str:
    from calibration_ledger.core.facts import shown_bytes

    if report.bytes_before is None or report.bytes_after is None or report.trouble is not None:
        return ""
    if report.bytes_after >= report.bytes_before:
        return ""
    before, after = shown_bytes(report.bytes_before), shown_bytes(report.bytes_after)
    return f" The ledger took {before}, and takes {after} now."


def _row(archived: ArchivedModel) -> list[str | Cell]:
    return [archived.model, str(archived.calls), str(archived.adjustments), str(archived.seq)]
