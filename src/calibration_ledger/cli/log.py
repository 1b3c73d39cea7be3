"""`calib log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import zone
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
from calibration_ledger.core.values import LogEntry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from calibration_ledger.cli.options import Form

COLUMNS = (
    Column("when", left=True, times=True),
    Column("what", left=True),
    MODEL,
    Column("details", left=True, cut_to=20, spare=2),
    Column("to take it back", left=True, spare=1),
)

NOTED_SINCE = "0007"
"""The first revision that notes imports."""


@click.command(
    epilog=examples(
        "calib log",
        "calib log --last 10",
        "calib log --since yesterday",
        "calib log --model llama3:8b",
        "calib log --json > log.jsonl",
    )
)
@model_argument()
@click.option(
    "-n", "--limit", "--last", "last", type=click.INT, metavar="N", help="Only the newest N."
)
@window_options
@format_option_of_lines
@pass_session
def log(
    session: Session,
    model: str | None,
    last: int | None,
    since: datetime | None,
    until: datetime | None,
    *,
    form: Form,
) -> None:
    """List what happened to the ledger, other than calls.

    Imports, resets, recalibrations, voidings with their notes, other names of models, the rule of
    new models, archives and upgrades, the newest last. Beside each stands the command that takes
    it back, where there is one. With --json: JSON lines, one object an entry.
    """
    with session.existing() as calibrator:
        entries = calibrator.log(model, last=last, since=since, until=until)
    names = _names(entries)
    columns = zone.titled(COLUMNS, "when")
    print_result(form, entries, columns, lambda entry: _row(entry, session, names), of=LogEntry)
    if not entries:
        note(f"nothing to show: of calls, `{session.command('history')}` tells.")
    older = [
        entry.at
        for entry in entries
        if entry.from_revision is not None and entry.from_revision < NOTED_SINCE
    ]
    if older:
        note(f"(imports before {zone.told(older[-1])} were not noted: the ledger was older then)")


def _names(entries: Sequence[LogEntry]) -> dict[str, LogEntry]:
    """The newest entry of each name that was given."""
    return {entry.name: entry for entry in entries if entry.name is not None}


def _row(entry: LogEntry, session: Session, names: dict[str, LogEntry]) -> list[str | Cell]:
    what = Cell(f"{entry.kind} (voided)", "dim") if entry.voided else entry.kind
    back = "" if entry.voided else _way_back(entry, session, names)
    return [zone.shown(entry.at), what, _model(entry), _details(entry), Cell(back, "dim")]


def _model(entry: LogEntry) -> str:
    if entry.kind != "import":
        return entry.model or "-"
    if entry.models is None:
        return "many"
    return entry.models[0] if len(entry.models) == 1 else text.count(len(entry.models), "model")


def _details(entry: LogEntry) -> str:
    rule = f"{entry.rule}, alpha {entry.alpha:g}" if entry.alpha is not None else ""
    told = {
        "import": f"{entry.file} ({entry.format}): {text.count(entry.calls or 0, 'call')}",
        "imported": f"an opening balance, {rule}",
        "upgrade": (f"revision {entry.from_revision} to {entry.to_revision}, by {entry.version}"),
        "rule": f"new models learn by {rule}",
        "alias": _alias(entry),
        "reset": f"back to the prior, {rule}",
        "recalibrated": rule,
        "voided": _entries(entry.voids or ""),
        "archived": f"entries up to {entry.seq}",
    }[entry.kind]
    return told if entry.note is None else f"{told}: {entry.note}"


def _entries(seqs: str) -> str:
    return f"{'entry' if seqs.isdecimal() else 'entries'} {seqs}"


def _alias(entry: LogEntry) -> str:
    if entry.model is None:
        return f"{entry.name} is its own again"
    merged = "" if entry.merged is None else f", {_entries(entry.merged)} merged"
    return f"another name: {entry.name}{merged}"


def _way_back(entry: LogEntry, session: Session, names: dict[str, LogEntry]) -> str:
    """The command that takes it back; nothing where there is none."""
    if entry.kind == "import" and entry.import_id is not None:
        return session.command("void", "--import", entry.import_id)
    if entry.kind == "archived":
        return session.command("import", "ledger", "ARCHIVE")
    if entry.kind == "alias" and entry.model is not None and names[entry.name or ""] is entry:
        return session.command("alias", "--remove", names=[entry.name or ""])
    if entry.kind in {"reset", "recalibrated", "voided"} and entry.model is not None:
        return session.command("void", "--seq", str(entry.seq), names=[entry.model])
    return ""
