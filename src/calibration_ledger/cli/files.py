"""`calib import` and `calib export`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli import text
from calibration_ledger.cli.options import FilePath, examples, json_option
from calibration_ledger.cli.output import counting, is_terminal, note, print_json, progress
from calibration_ledger.cli.session import Session, entries, pass_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from calibration_ledger.cli.session import Session
    from calibration_ledger.core.facts import LostRange
    from calibration_ledger.core.values import ImportReport
    from calibration_ledger.verbs.export import SalvageReport


# -- import and export ----------------------------------------------------------------------

SKIPPED_SHOWN = 10
"""So many skipped lines are shown one by one; the others are counted."""


@click.command(
    "import",
    epilog=examples(
        "calib import jsonl calls.jsonl",
        "calib import csv calls.csv --skip-bad",
        "calib export jsonl | calib --ledger copy.db import ledger -",
        "calib import state",
    ),
)
@click.argument("kind", type=click.Choice(["jsonl", "csv", "ledger", "state"]))
@click.argument("file", required=False, type=FilePath(readable=False, allow_dash=True))
@click.option("--skip-bad", is_flag=True, help="jsonl, csv: record the rest, count bad lines.")
@json_option
@pass_session
def import_(
    session: Session, kind: str, file: str | None, *, skip_bad: bool, as_json: bool
) -> None:
    """Take calls, a ledger or an old state file in.

    \b
    KIND is one of
      jsonl   calls, a JSON object a line
      csv     calls, with a line of column names
      ledger  a whole ledger, as `calib export jsonl` writes it
      state   the JSON of the older calibrator

    FILE is - or left out for what comes on stdin; for state, left out means
    ~/.nexus/calibrator_state.json. What is compressed with gzip, such as calls.csv.gz, is read
    as it is. Columns of calls: model, prompt_tokens,
    completion_tokens and actual_ms; also called_at, request_id, details, and voided: calls of
    which it is true are left out.

    The file is checked whole before anything of it is recorded: a bad line stops the import with
    exit code 2, unless --skip-bad. An import that was cut short is completed by running it again;
    no call is recorded twice. The report goes to stderr, with --json to stdout.
    """  # noqa: D301 - click's marker for a paragraph that is not wrapped
    source: str | TextIO | None = file
    if file == "-" or (file is None and kind != "state"):
        source = sys.stdin
        if is_terminal(sys.stdin):
            note("reading from the terminal: end with Ctrl-D.")
    with session.writing() as calibrator, counting("importing") as done:
        report = calibrator.import_calls(kind, source, skip_bad=skip_bad, progress=done)
    if as_json:
        print_json(report)
    note(_told(report))
    if report.import_id is not None:
        note(f"`{session.command} void --import {report.import_id}` takes this import out again.")
    if report.voided:
        note(f"{text.count(report.voided, 'call')} left out: the file says that they are voided.")
    if report.older:
        note(
            f"warning: {text.count(report.older, 'call')} made before the newest of its model "
            f"that was there already: appended behind it, for order is the order of recording."
        )
    for line, reason in report.skipped_lines[:SKIPPED_SHOWN]:
        note(f"skipped line {line}: {reason}")
    if report.skipped > SKIPPED_SHOWN:
        reasons = "; ".join(f"{lines} x {reason}" for reason, lines in report.skipped_reasons)
        note(f"skipped {report.skipped} in all: {reasons}")


def _told(report: ImportReport) -> str:
    parts = [f"{text.count(report.recorded, 'call')} recorded"]
    if report.adjustments:
        parts.append(f"{text.count(report.adjustments, 'adjustment')} recorded")
    if report.already:
        voided = f" ({report.already_voided} of them voided)" if report.already_voided else ""
        parts.append(f"{report.already} there already{voided}")
    if report.skipped:
        parts.append(f"{text.count(report.skipped, 'bad line')} skipped")
    opened = f" ({report.models_opened} new)" if report.models_opened else ""
    return f"{report.source}: {', '.join(parts)}; {text.count(report.models, 'model')}{opened}"


@click.command(
    epilog=examples(
        "calib export jsonl ledger.jsonl",
        "calib export csv --model llama3:8b | head",
        "calib export jsonl | gzip > ledger.jsonl.gz",
        "calib export jsonl salvaged.jsonl --salvage",
    )
)
@click.argument("kind", type=click.Choice(["jsonl", "csv"]))
@click.argument("file", default="-", type=FilePath(readable=False, allow_dash=True))
@click.option("--model", help="Only this model.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option("--salvage", is_flag=True, help="Of a damaged ledger: the calls that can be read.")
@json_option
@pass_session
def export(
    session: Session,
    kind: str,
    file: str,
    model: str | None,
    *,
    overwrite: bool,
    salvage: bool,
    as_json: bool,
) -> None:
    """Write the ledger or its calls to a file.

    \b
    KIND is one of
      jsonl  everything to the bit, with the heads, for `calib import ledger`
      csv    the calls alone

    FILE is - or left out for stdout. The report goes to stderr; with --json it is printed as JSON,
    on stdout if FILE is a file.

    With --salvage the ledger may be damaged: what can still be read is written, the calls alone
    with either KIND (`calib import jsonl` or `csv` takes them in), and which entries are lost is
    told.
    """  # noqa: D301 - click's marker for a paragraph that is not wrapped
    to_stdout = file == "-"
    if to_stdout and sys.stdout is None:
        raise click.UsageError("stdout is closed: name a FILE.")
    target = sys.stdout if to_stdout else file
    if salvage:
        export_what_is_left(session, kind, target, model, overwrite=overwrite, as_json=as_json)
        return
    with (
        session.existing() as calibrator,
        progress("exporting", entries(calibrator, model)) as done,
    ):
        report = calibrator.export_ledger(
            kind, target, model=model, overwrite=overwrite, progress=done
        )
        if to_stdout:
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    if as_json:
        print_json(report, err=to_stdout)
    else:
        adjustments = f" and {text.count(report.adjustments, 'adjustment')}"
        note(
            f"{text.count(report.calls, 'call')}{adjustments if kind == 'jsonl' else ''} of "
            f"{text.count(report.models, 'model')} written to {report.target}"
        )


# -- export --salvage -----------------------------------------------------------------------
# `calib export --salvage`: what can still be read of a damaged ledger, and what is lost.

RANGES_TOLD = 20
"""So many ranges are told one by one; the others are counted. `--json` has all of them."""


def export_what_is_left(
    session: Session,
    kind: str,
    target: str | TextIO,
    model: str | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write what can be read. The ledger is not opened as one: it might be refused."""
    from calibration_ledger.storage.place import find_place
    from calibration_ledger.verbs.export import salvage

    to_stdout = target is sys.stdout
    with counting("salvaging") as done:
        report = salvage(
            find_place(session.ledger),
            kind,
            target,
            model=model,
            overwrite=overwrite,
            progress=done,
        )
        if to_stdout:
            sys.stdout.flush()
    if as_json:
        print_json(report, err=to_stdout)
    else:
        _tell(report)


def _tell(report: SalvageReport) -> None:
    models = text.count(report.models, "model")
    note(f"{text.count(report.calls, 'call')} of {models} read and written to {report.target}")
    if not report.lost:
        note("no entry is lost.")
    _tell_ranges("lost", report.lost)
    _tell_ranges("request ids and details may be missing", report.incomplete)
    for name in report.stand_ins:
        note(f"the name of a model could not be read: its calls are under {name!r}.")
    file = shlex.quote(report.target) if report.target != "<stdout>" else "FILE"
    note(
        f"these are calls, which a new ledger learns anew: "
        f"calib --ledger NEW.db import {report.kind} {file}"
    )


def _tell_ranges(what: str, ranges: Sequence[LostRange]) -> None:
    for lost in ranges[:RANGES_TOLD]:
        size = "" if lost.last is None else f" ({lost.last - lost.first + 1})"
        note(f"{what}: {lost}{size}")
    if len(ranges) > RANGES_TOLD:
        note(f"{what}: {len(ranges) - RANGES_TOLD} more ranges; --json has them all.")
