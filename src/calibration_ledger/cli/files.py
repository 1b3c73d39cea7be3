"""`calib import` and `calib export`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli import zone
from calibration_ledger.cli.options import (
    FilePath,
    complete,
    examples,
    format_option,
    model_option,
    window_options,
)
from calibration_ledger.cli.output import (
    TABULAR,
    Shown,
    counting,
    heading,
    note,
    print_data,
    print_table,
    progress,
)
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.table import MODEL, Column
from calibration_ledger.cli.terminal import is_terminal
from calibration_ledger.core import text
from calibration_ledger.core.command import calib
from calibration_ledger.core.records import json_text
from calibration_ledger.core.values import ImportReport
from calibration_ledger.errors import CalibrationLedgerError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from typing import TextIO

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.facts import LostRange
    from calibration_ledger.core.values import ExportKind, ImportPreview
    from calibration_ledger.verbs.export import SalvageReport


SKIPPED_SHOWN = 10
"""How many skipped lines are shown one by one; the others are counted."""

RANGES_TOLD = 20
"""How many ranges of lost entries are shown one by one; `--json` has all of them."""


class _SeveralValues(click.Command):
    """A command whose `--map` and `--where` take all items that follow: words with a `=`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the option before each of its items."""
        spread: list[str] = []
        option = ""
        for at, word in enumerate(args):
            if word == "--":
                return super().parse_args(ctx, [*spread, *args[at:]])
            if word in _WITH_ITEMS:
                option = word
                if at + 1 < len(args) and "=" in args[at + 1]:
                    continue
            elif option and "=" in word and not word.startswith("-"):
                spread.append(option)
            else:
                option = ""
            spread.append(word)
        return super().parse_args(ctx, spread)


_WITH_ITEMS = ("--map", "--where")


@click.command(
    "import",
    cls=_SeveralValues,
    epilog=examples(
        "calib import llm",
        "calib import traces.jsonl runs/*.json",
        "calib import csv calls.csv --skip-bad --dry-run",
        "calib import my.jsonl --map model=llm actual_ms=took:s --where ok=true",
        "calib export jsonl | calib --ledger copy.db import ledger -",
    ),
)
@click.argument(
    "words",
    metavar="[FORMAT] [FILE]...",
    nargs=-1,
    type=FilePath(readable=False, allow_dash=True),
    shell_complete=complete("formats_and_files"),
)
@model_option("The model of calls that name none.")
@click.option(
    "--map",
    multiple=True,
    metavar="COLUMN=PATH...",
    help="Your own file's names, such as actual_ms=took_s:s.",
)
@click.option(
    "--where", multiple=True, metavar="PATH=VALUE...", help="Leave out records that say otherwise."
)
@click.option("--recipe", metavar="TOML", help="A file with such a map.")
@click.option("--keep-rest", is_flag=True, help="Keep what is unknown in the details.")
@click.option("--dry-run", is_flag=True, help="Show what would be recorded, and record nothing.")
@click.option("--replace", metavar="IMPORT_ID", help="Void this import, whose place FILE takes.")
@click.option("--skip-bad", is_flag=True, help="Skip bad lines and count them.")
@click.option("--strict", is_flag=True, help="Take lines that look wrong for bad ones.")
@format_option
@pass_session
def import_(
    session: Session,
    /,
    words: tuple[str, ...],
    *,
    replace: str | None,
    form: Form,
    **wishes: Any,
) -> None:
    """Take in calls from files of other tools, or a whole ledger.

    `calib formats` lists each FORMAT: `llm`, `otlp`, `csv`, `ledger` ... Without one, or with
    `auto`, the format of each FILE is told by how it begins, and said. Without FILE, the tool's
    usual place is read, else stdin, which is also `-`. Files may be compressed with gzip.

    Each file is an import of its own, and checked whole before anything is recorded: a bad line
    stops it with exit code 2, unless you give --skip-bad. Calls that cannot be learnt from, such as
    failed ones, are left out and counted. If an import is interrupted, or the file has grown, run
    it again: it adds the rest, and no call twice. The report goes to stderr; with --json and other
    formats for programs, to stdout, a line for each file.

    --replace mends a wrong import: the FILE is checked, the import is voided, and the calls of FILE
    are recorded, also under the same request ids. `calib log` lists the imports with their ids.

    Your own files have the columns model, prompt_tokens, completion_tokens and actual_ms, and may
    have called_at, request_id, details, voided and outcome. Calls marked as voided are left out;
    the outcome of those that were given up is `timeout`. Of files with other names, --map says
    which name is which column; it takes all words with a = that follow, and so does --where.

    Calls that look wrong (0 ms and tokens, more than 24 h, in the future, 2,000 times the model's
    longest so far) are recorded with a warning; --strict takes their lines for bad ones.
    """
    kind, files = _kind_and_files(words)
    if replace is not None and len(files) > 1:
        raise click.UsageError("--replace takes one FILE, which takes the place of the import.")
    if form == "json" and len(files) > 1:
        form = "jsonl"  # an object a line as it comes: the next file may stop the import
    reports: list[ImportReport] = []
    try:
        for file in files:
            source = _stdin() if file == "-" else file
            report = _import(session, kind, source, replace=replace, **wishes)
            reports.append(report)
            if form not in TABULAR and not print_data(form, report) and report.preview is not None:
                _show(report.preview)
            _tell_more(session, report)
    except CalibrationLedgerError:
        if len(files) > 1:
            were = "would be" if wishes["dry_run"] else "were"
            note(
                f"{len(reports)} of {len(files)} files {were} taken in; the next one stopped the "
                f"import:"
            )
        raise
    finally:
        if form in TABULAR:
            print_data(form, reports, of=ImportReport)


def _import(
    session: Session, kind: str, source: str | TextIO | None, *, replace: str | None, **wishes: Any
) -> ImportReport:
    """Take in a file, and say on stderr what came of it."""
    with session.writing() as calibrator, counting("importing") as done:
        report = calibrator.import_calls(kind, source, progress=done, replace=replace, **wishes)
        told = [
            _told(report),
            *_told_of_replacement(report, replace),
            *_told_of_settings(session, calibrator, report),
        ]
    for line in told:
        note(line)
    return report


def _stdin() -> TextIO:
    if is_terminal(sys.stdin):
        note("reading from the terminal: end with Ctrl-D.")
    return sys.stdin


def _kind_and_files(words: tuple[str, ...]) -> tuple[str, Sequence[str | None]]:
    """The format and the files; a file of None stands for the place where the tool keeps it.

    Raises:
        InvalidInputError: the first word is neither a format nor a file.
    """
    from calibration_ledger.formats.base import AUTO
    from calibration_ledger.formats.registry import find_format

    if not words:
        if is_terminal(sys.stdin):
            raise click.UsageError("name a FILE, or a FORMAT whose usual place is to be read.")
        return AUTO, ("-",)
    first, *others = words
    if first == AUTO:
        return AUTO, others or ("-",)
    try:
        form = find_format(first)
    except InvalidInputError as error:
        if first == "-" or os.path.lexists(first) or {".", os.sep} & {*first}:
            return AUTO, words  # that there is no such file, opening it will say
        error.stayed = "there is no such file either"
        raise
    return first, others or ("-" if form.default is None else None,)


def _tell_left_out(reasons: Mapping[str, int]) -> None:
    note(f"left out: {', '.join(f'{calls} {reason}' for reason, calls in reasons.items())}")
    if "unknown model" in reasons:
        note("hint: --model NAME gives a model to calls that name none.")


def _tell_more(session: Session, report: ImportReport) -> None:
    """Say what is not plain about an import, and how to take it out again."""
    if report.left_out:
        _tell_left_out(dict(report.left_out))
    for how in report.read_as:
        note(how)
    if report.preview is not None:
        if report.unit_doubt is not None:
            note(f"warning: {report.unit_doubt}.")
        for reason, calls in report.doubtful_reasons:
            look, each = ("looks", "it") if calls == 1 else ("look", "each")
            note(f"warning: {text.count(calls, 'call')} {look} wrong: {each} {reason}.")
    if report.import_id is not None:
        undo = session.command("void", "--import", report.import_id)
        note(f"`{undo}` takes this import out again.")
    if report.voided:
        note(f"{text.count(report.voided, 'call')} left out: the file says that they are voided.")
    if report.known_by_file:
        _tell_known_by_file(report)
    if report.older:
        note(
            f"warning: {text.count(report.older, 'call')} made before the newest of its model "
            f"in the ledger: added after it, because the order is that of recording."
        )
    _tell_skipped(report)


def _tell_known_by_file(report: ImportReport) -> None:
    """Say what calls without a time and an id are taken for."""
    if report.already:
        note(
            "calls without a time and an id: a file that begins like this one was imported before, "
            "so equal ones are taken for its calls. If they are others, give each a time or an id."
        )
    elif report.models_extended:
        note(
            f"{text.count(report.known_by_file, 'call')} without a time and an id: known again in "
            f"this file, while equal ones of another file are other calls."
        )


PREVIEW_COLUMNS = (
    MODEL,
    Column("calls"),
    Column("first", left=True, times=True, spare=4),
    Column("last", left=True, times=True, spare=1),
    Column("prompt tok", spare=3),
    Column("compl tok", spare=2),
    Column("median ms"),
)
CALL_COLUMNS = (
    MODEL,
    Column("called at", left=True, times=True, spare=3),
    Column("prompt tok"),
    Column("compl tok"),
    Column("ms"),
    Column("request id", left=True, cut_to=20, spare=2),
    Column("details", left=True, cut_to=30, spare=1),
)


def _show(preview: ImportPreview) -> None:
    """Show what would be recorded: the models, and the first calls."""
    print_table(
        zone.titled(PREVIEW_COLUMNS, "first", "last"),
        [
            [
                one.model,
                str(one.calls),
                _at(one.first_at),
                _at(one.last_at),
                str(one.prompt_tokens),
                str(one.completion_tokens),
                text.number(one.median_ms),
            ]
            for one in preview.models
        ],
    )
    if preview.calls:
        heading("The first calls")
    print_table(
        zone.titled(CALL_COLUMNS, "called at"),
        [
            [
                call.model,
                _at(call.called_at),
                str(call.prompt_tokens),
                str(call.completion_tokens),
                text.number(call.actual_ms),
                call.request_id or "-",
                json_text(call.details) if call.details else "-",
            ]
            for call in preview.calls
        ],
    )


def _at(time: datetime | None) -> str:
    return "-" if time is None else zone.shown(time)


def _told(report: ImportReport) -> str:
    some = [f"{report.timeouts} of them time-outs"] if report.timeouts else []
    some += [f"{report.recorded_again} in place of voided ones"] if report.recorded_again else []
    of_them = f" ({', '.join(some)})" if some else ""
    would = "" if report.preview is None else "would be "
    parts = [f"{text.count(report.recorded, 'call')} {would}recorded{of_them}"]
    if report.adjustments:
        parts.append(f"{text.count(report.adjustments, 'adjustment')} recorded")
    if report.already:
        parts.append(f"{report.already} there already")
    if report.skipped:
        parts.append(f"{text.count(report.skipped, f'bad {report.unit}')} skipped")
    opened = f" ({report.models_opened} new)" if report.models_opened else ""
    how = f", read as {report.format}" if report.kind != report.format else ""
    return f"{report.source}{how}: {', '.join(parts)}; {text.count(report.models, 'model')}{opened}"


def _told_of_replacement(report: ImportReport, replaced: str | None) -> Iterator[str]:
    if replaced is None:
        return
    if not report.replaced:
        yield f"no call of {replaced} was left to void, or the file has the same calls."
        return
    would = "" if report.preview is None else "would be "
    yield f"{text.count(report.replaced, 'call')} of {replaced} {would}voided: replaced by these."


def _tell_skipped(report: ImportReport) -> None:
    for line, reason in report.skipped_lines[:SKIPPED_SHOWN]:
        note(f"skipped {report.unit} {line}: {reason}")
    if report.skipped > SKIPPED_SHOWN:
        reasons = "; ".join(f"{lines} x {reason}" for reason, lines in report.skipped_reasons)
        note(f"skipped {report.skipped} in all: {reasons}")


def _told_of_settings(
    session: Session, calibrator: AdaptiveCalibrator, report: ImportReport
) -> Iterator[str]:
    """What to say where the file says what new models learn by, or gives names."""
    if report.aliases:
        yield (
            f"{text.count(report.aliases, 'entry', 'entries')} of aliases taken over: "
            f"`{session.command('alias')}` shows those that stand."
        )
    rules = report.settings - report.aliases
    if not rules and not report.settings_left:
        return
    now = text.rule(calibrator.default_rule(), zone.told)
    if rules:
        yield f"new models learn by what the file says: {now}."
    else:
        yield (
            f"new models go on to learn by {now}: the ledger has settings of its own, and the "
            f"file's were left out. `{session.command('rule')}` shows them."
        )


@click.command(
    epilog=examples(
        "calib export jsonl ledger.jsonl",
        "calib export csv --model llama3:8b | head",
        "calib export csv week.csv --since 1w",
        "calib export jsonl | gzip > ledger.jsonl.gz",
        "calib export parquet calls.parquet",
        "calib export jsonl salvaged.jsonl --salvage",
    )
)
@click.argument("kind", type=click.Choice(["jsonl", "csv", "parquet"]))
@click.argument("file", default="-", type=FilePath(readable=False, allow_dash=True))
@model_option("Only this model.")
@click.option(
    "-o",
    "--output",
    type=FilePath(readable=False, allow_dash=True),
    metavar="FILE",
    help="The same as FILE.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
@click.option("--salvage", is_flag=True, help="Of a damaged ledger: the calls that can be read.")
@window_options
@format_option
@pass_session
def export(
    session: Session,
    kind: ExportKind,
    file: str,
    model: str | None,
    *,
    output: str | None,
    overwrite: bool,
    salvage: bool,
    since: datetime | None,
    until: datetime | None,
    form: Form,
) -> None:
    """Write the ledger or its calls to a file.

    \b
    KIND is one of
      jsonl    everything to the bit, with the heads, for `calib import ledger`
      csv      the calls alone
      parquet  the same for pandas, Polars or DuckDB; needs pyarrow

    Without FILE, or with -, the export goes to stdout. The report goes to stderr; with --json and
    other formats for programs, to stdout if FILE is a file.

    With --since or --until: the calls of that time, as csv or parquet.

    --salvage is for a damaged ledger: it writes the calls that can still be read, for
    `calib import jsonl` or `csv`, and says which entries are lost.
    """  # noqa: D301 - click's marker for a paragraph that is not wrapped
    if output not in {None, file} and file != "-":
        raise click.UsageError(f"two files are named, {file!r} and {output!r}: leave one out.")
    file = output or file
    to_stdout = file == "-"
    target: Any = file
    if to_stdout:
        target = _stdout(kind)
    if salvage and (since or until):
        raise click.UsageError(
            "what can still be read is salvaged whole: leave out --since and --until."
        )
    if salvage:
        export_what_is_left(session, kind, target, model, form, overwrite=overwrite)
        return
    with (
        session.existing() as calibrator,
        progress("exporting", entries(calibrator, model)) as done,
    ):
        report = calibrator.export_ledger(
            kind,
            target,
            model=model,
            since=since,
            until=until,
            overwrite=overwrite,
            progress=done,
        )
        if to_stdout:
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    if not print_data(form, report, err=to_stdout):
        adjustments = f" and {text.count(report.adjustments, 'adjustment')}"
        settings = f", {text.count(report.settings, 'setting')}" if report.settings else ""
        note(
            f"{text.count(report.calls, 'call')}{adjustments if kind == 'jsonl' else ''} of "
            f"{text.count(report.models, 'model')}{settings} written to {report.target}"
        )


def _stdout(kind: ExportKind) -> Any:
    if not is_terminal(sys.stdout):
        return sys.stdout
    if kind == "parquet":
        raise click.UsageError("parquet is nothing to read: name a FILE, or redirect the output.")
    return Shown(kind)


def export_what_is_left(
    session: Session,
    kind: ExportKind,
    target: Any,
    model: str | None,
    form: Form,
    *,
    overwrite: bool,
) -> None:
    """Write what can be read, without opening the ledger: that may refuse a damaged one."""
    from calibration_ledger.storage.place import find_place
    from calibration_ledger.verbs.export import salvage

    to_stdout = not isinstance(target, str)
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
    if not print_data(form, report, err=to_stdout):
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
    file = report.target if report.target != "<stdout>" else "FILE"
    again = calib("import", report.kind, names=[file], ledger="NEW.db")
    note(f"import these calls into a new ledger, which learns from them again: {again}")
    found = report.newest_setting
    if found is not None:
        words = ("rule", found.rule, "--alpha", repr(found.alpha))
        note(f"before that, let its new models learn by the same: {calib(*words, ledger='NEW.db')}")
    for one in report.aliases[:RANGES_TOLD]:
        again = calib("alias", names=[one.name, one.model], ledger="NEW.db")
        note(f"{one.name} stands for {one.model}; for the same there: {again}")
    if len(report.aliases) > RANGES_TOLD:
        note(f"{len(report.aliases) - RANGES_TOLD} more aliases; --json has them all.")


def _tell_ranges(what: str, ranges: Sequence[LostRange]) -> None:
    for lost in ranges[:RANGES_TOLD]:
        size = "" if lost.last is None else f" ({lost.last - lost.first + 1})"
        note(f"{what}: {lost}{size}")
    if len(ranges) > RANGES_TOLD:
        note(f"{what}: {len(ranges) - RANGES_TOLD} more ranges; --json has them all.")
