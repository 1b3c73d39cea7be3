"""What commands print, and where: data on stdout, talk and progress on stderr."""

from __future__ import annotations

import csv
import errno
import io
import os
import select
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.markdown import markdown, markdown_head, markdown_line
from calibration_ledger.cli.options import FORM
from calibration_ledger.cli.table import Column, Table, width_of
from calibration_ledger.cli.terminal import is_lively, is_terminal, width_of_terminal
from calibration_ledger.cli.words import wrap
from calibration_ledger.core.records import (
    Lines,
    columns_of,
    fields_of_all,
    json_text,
    lines_of,
    without_delete,
)
from calibration_ledger.core.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from calibration_ledger.cli.options import Form
    from calibration_ledger.cli.table import Cell
    from calibration_ledger.core.records import Record


ROWS_MEASURED = 200
"""How many rows decide the widths of a long table, and are printed at a time."""

PROGRESS_FROM = 200_000
"""Work on fewer entries is over before anybody could read a progress bar."""

SHOWN_EVERY_S = 0.5
"""How often a running count is shown."""

TABULAR = frozenset({"csv", "tsv"})
"""The formats whose first line names the columns."""

_HAS_BLOCKS = f"{__name__}.has_blocks"
"""The name in a context's `meta` of whether it printed Markdown before."""


# -- results for programs -------------------------------------------------------------------


def is_for_people(form: Form) -> bool:
    """Whether people read this format: figures are rounded, and advice may stand beside them."""
    return form in {"table", "markdown"}


def check_only_result(form: Form, what: str) -> None:
    """Check that no format for programs was chosen where stdout gets something else.

    Raises:
        click.UsageError: one was.
    """
    if not is_for_people(form):
        raise click.UsageError(f"stdout gets the {what}: name a FILE, or leave --format out.")


def print_data(
    form: Form,
    result: object,
    *,
    lines: str | None = None,
    of: Record | None = None,
    err: bool = False,
) -> bool:
    """Print a result in a format for programs; False if people read it: the command goes on.

    Args:
        form: the format that the user chose.
        result: a document, a list of them, or an iterator, which is printed as it goes.
        lines: of a document, the list whose items are the lines of CSV and TSV.
        of: what each record is, which decides the columns of CSV and TSV; None: a document decides
            them itself.
        err: whether it goes to stderr, for something else goes to stdout.
    """
    if is_for_people(form):
        return False
    is_stream = hasattr(result, "__next__")
    some: Iterable[Any] = result if is_stream or isinstance(result, list) else [result]  # type: ignore[assignment]  # hasattr() tells mypy nothing
    if form == "jsonl":
        _print_json_lines(some, err=err)
    elif form == "json" and is_stream:
        _print_json_array(some, err=err)
    elif form == "json":
        click.echo(json_text(result, indent=2), err=err)
    else:
        columns = [] if of is None else columns_of(of, lines)
        records: Iterable[dict[str, Any]]
        records = (record for one in some for record in lines_of(one, lines, columns))
        if of is None:
            records = [*records]
            columns = fields_of_all(records)
        _print_lines(form, records, columns, err=err)
    return True


def print_result(
    form: Form,
    records: Iterable[Any],
    columns: Sequence[Column],
    row: Callable[[Any], Sequence[str | Cell]],
    *,
    of: Record,
) -> None:
    """Print records in any format; for people, a table whose rows `row` makes of them."""
    if not print_data(form, records, of=of):
        print_table(columns, map(row, records))


def print_live(
    form: Form,
    records: Iterable[Any],
    columns: Sequence[Column],
    row: Callable[[Any], Sequence[str | Cell]],
    *,
    measured: Iterable[Any],
    of: Record,
) -> None:
    """Print records that come now and then, each at once; others decide the widths of a table."""
    if form == "jsonl":
        for record in records:
            click.echo(json_text(record))
    elif not is_for_people(form):
        columns_of_data = columns_of(of)
        lines = (line for one in records for line in lines_of(one, None, columns_of_data))
        _print_lines(form, lines, columns_of_data, at_once=1)
    elif form == "markdown":
        _print_block("\n".join(markdown_head(columns)))
        for record in records:
            echo_lines([markdown_line(row(record))])
    else:
        table = Table(columns, [*map(row, measured)], width_of_terminal(sys.stdout))
        echo_lines([table.header()])
        for record in records:
            echo_lines([table.line(row(record))])


@contextmanager
def reader_watched() -> Iterator[None]:
    """End what waits for news as soon as nobody reads stdout any more, not at the next news.

    Raises:
        BrokenPipeError: the reader has gone.
    """
    try:
        fileno = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed, or no file at all
        yield
        return
    main = threading.get_ident()

    def wait() -> None:
        poll = select.poll()
        poll.register(fileno, 0)  # errors and a hang-up come unasked
        poll.poll()
        signal.pthread_kill(main, signal.SIGPIPE)

    def end(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    before = signal.signal(signal.SIGPIPE, end)
    threading.Thread(target=wait, daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)


def _print_json_lines(values: Iterable[object], *, err: bool) -> None:
    """Print JSON lines as they come, however many."""
    for chunk in _chunks(map(json_text, values)):
        click.echo("\n".join(chunk), err=err)


def _print_json_array(values: Iterable[object], *, err: bool) -> None:
    """Print one JSON document with an item a line, as they come."""
    before = "[\n"
    for chunk in _chunks(map(json_text, values)):
        click.echo(before + ",\n".join(chunk), nl=False, err=err)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]", err=err)


def _print_lines(
    form: Form,
    records: Iterable[dict[str, Any]],
    fields: Sequence[str],
    *,
    err: bool = False,
    at_once: int = ROWS_MEASURED,
) -> None:
    """Print CSV or TSV: UTF-8 to files and pipes; to a person, nothing that would be obeyed."""
    if not fields:
        return
    stream = sys.stderr if err else sys.stdout
    is_seen = is_terminal(stream)
    shown = partial(_seen, stream=stream) if is_seen else str
    lines = Lines(fields, "\t" if form == "tsv" else ",", shown)
    for text in chain([lines.header()], map(lines.of, _chunks(records, at_once))):
        click.echo(text if is_seen else text.encode(errors="backslashreplace"), nl=False, err=err)


def _seen(text: str, stream: Any) -> str:
    return encodable(escape(text), stream)


def _chunks(items: Iterable[Any], at_once: int = ROWS_MEASURED) -> Iterator[list[Any]]:
    # echo() flushes each time: a call for each line would be a write for each line.
    remaining = iter(items)
    while chunk := list(islice(remaining, at_once)):
        yield chunk


# -- results for people, and what is said beside them ---------------------------------------


def say(text: str) -> None:
    """Print a result for people, on one line; of Markdown, a paragraph."""
    if _is_markdown():
        _print_block(markdown(text))
    else:
        echo_lines(wrap(escape(text), width_of_terminal(sys.stdout)))


def heading(text: str) -> None:
    """Print an empty line and a title."""
    if _is_markdown():
        _print_block(f"## {markdown(text)}")
    else:
        click.echo("\n" + encodable(click.style(escape(text), bold=True), sys.stdout))


def blank_line() -> None:
    """Print an empty line; between blocks of Markdown there is one anyway."""
    if not _is_markdown():
        click.echo()


def _is_markdown() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.meta.get(FORM) == "markdown"


def _print_block(text: str) -> None:
    """Print a block of Markdown, with an empty line before it if it is not the first."""
    meta = click.get_current_context().meta
    click.echo("\n" * meta.get(_HAS_BLOCKS, False) + encodable(text, sys.stdout))
    meta[_HAS_BLOCKS] = True


def note(text: str) -> None:
    """Print what is not the result: to stderr, so that pipes do not get it.

    What is done is done, even if a full disk behind stderr keeps it from being told.
    """
    lines = wrap(escape(text), width_of_terminal(sys.stderr))
    with suppress(OSError):
        click.echo(encodable("\n".join(lines), sys.stderr), err=True)


def print_facts(facts: Iterable[tuple[str, str]], width: int | None = None) -> None:
    """Print names and values below each other; of Markdown, a table.

    Args:
        facts: the names and values.
        width: where values are wrapped in a file or a pipe; None: nowhere.
    """
    facts = list(facts)
    if _is_markdown():
        print_table((Column("name", left=True), Column("value", left=True)), facts)
        return
    wide = width_of_terminal(sys.stdout) or width
    names = max(width_of(name) for name, _ in facts)
    for name, value in facts:
        room = None if wide is None else max(1, wide - names - 2)
        first, *others = wrap(escape(value), room) or [""]
        echo_lines([f"{name:<{names}}  {first}", *(" " * (names + 2) + one for one in others)])


class Shown:
    """Stdout where a person reads an export: nothing in it is obeyed, or not shown.

    Files and pipes get the very bytes instead.
    """

    name = "<stdout>"

    def __init__(self, kind: str) -> None:
        """Take whole lines of this kind of export, `csv` or `jsonl`."""
        self._is_csv = kind == "csv"

    def write(self, text: str) -> None:
        """Print some lines; a line break inside a field of CSV is written out, too."""
        if self._is_csv:
            lines = csv.writer(sys.stdout, lineterminator="\n")
            for row in csv.reader(io.StringIO(text, newline="")):
                lines.writerow([encodable(escape(field), sys.stdout) for field in row])
        else:
            sys.stdout.write(without_delete(text))

    def flush(self) -> None:
        """Let the last lines be seen."""
        sys.stdout.flush()


def print_item(text: str, commands: Iterable[str], width: int) -> None:
    """Print an item of a list and the commands below it, which stay whole.

    Args:
        text: the item.
        commands: the commands.
        width: where the text is wrapped in a file or a pipe, and in a terminal at the latest.
    """
    if _is_markdown():
        _print_block("\n".join([f"- {markdown(text)}", *(f"  - `{one}`" for one in commands)]))
        return
    wide = min(width, width_of_terminal(sys.stdout) or width)
    echo_lines(
        [*wrap(f"- {escape(text)}", wide, "  "), *(f"    {escape(one)}" for one in commands)]
    )


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print a table of any length, whose first rows decide the widths; nothing without rows."""
    chunks = _chunks(rows)
    first = next(chunks, None)
    if first is None:
        return
    if _is_markdown():
        _print_block("\n".join(chain(markdown_head(columns), map(markdown_line, first))))
        for chunk in chunks:
            echo_lines(map(markdown_line, chunk))
        return
    table = Table(columns, first, width_of_terminal(sys.stdout))
    echo_lines(chain([table.header()], map(table.line, first)))
    for chunk in chunks:
        echo_lines(map(table.line, chunk))
    if table.left_out:
        note(f"(the terminal is too narrow for: {', '.join(table.left_out)})")


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines of tables."""
    click.echo(encodable("\n".join(lines), sys.stdout))


def encodable(text: str, stream: Any) -> str:
    """The text with escapes for what this stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def progress(label: str, total: int, *, times: int = 1) -> Iterator[Callable[[int], object] | None]:
    """Show a progress bar on stderr, if the work is long and stderr is a terminal.

    `times` is how often each entry is folded: the work is that many times as long.
    """
    if total * times < PROGRESS_FROM or not is_lively(sys.stderr):
        yield None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield bar.update


class Count:
    """A running count on stderr of work of unknown length: `importing: 12000 lines read`."""

    def __init__(self, label: str) -> None:
        """Start at zero; nothing is shown yet."""
        self._label = label
        self._steps = "steps"
        self._done = 0
        self._shown = ""
        self._shown_at = monotonic()

    def begin(self, steps: str) -> None:
        """Start again at zero, and call the steps by this name."""
        self._steps, self._done = steps, 0

    def __call__(self, steps: int) -> None:
        """Add steps, and show the count if it is time to."""
        self._done += steps
        if monotonic() - self._shown_at >= SHOWN_EVERY_S:
            self._show(f"{self._label}: {self._done} {self._steps}")

    def _show(self, text: str) -> None:
        click.echo(f"\r{text:<{len(self._shown)}}", err=True, nl=False)
        self._shown, self._shown_at = text, monotonic()

    def clear(self) -> None:
        """Clear the line for what is printed next."""
        if self._shown:
            self._show("")
            click.echo("\r", err=True, nl=False)


@contextmanager
def counting(label: str) -> Iterator[Count | None]:
    """Show a running count on stderr, if that is a terminal."""
    if not is_lively(sys.stderr):
        yield None
        return
    count = Count(label)
    try:
        yield count
    finally:
        count.clear()


# Asking before a command changes much at once.


def confirm(what: str, way_out: str = "give --yes", *, yes: bool, stays: bool = True) -> None:
    """Ask at the terminal before a command changes much; `--yes` answers beforehand.

    Args:
        what: what would be done, such as "reset 3 models".
        way_out: what to do if there is no terminal to ask at.
        yes: whether `--yes` was given.
        stays: whether the question says that the history stays.

    Raises:
        click.UsageError: there is no terminal.
        click.Abort: the answer was no.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise click.UsageError(f"this would {what}, and nobody can be asked: {way_out}.")
    question = escape(f"{what[:1].upper()}{what[1:]}?{' The history stays.' * stays}")
    click.confirm(question, abort=True, err=True)
