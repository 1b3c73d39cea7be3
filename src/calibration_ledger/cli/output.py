"""What commands print, and where: data on stdout, talk and progress on stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from itertools import chain, islice
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.table import Column, Table
from calibration_ledger.core.text import escape
from calibration_ledger.core.values import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TextIO

    from calibration_ledger.cli.table import Cell


ROWS_MEASURED = 200
"""How many rows decide the widths of a long table, and are printed at a time."""

PROGRESS_FROM = 200_000
"""Work on fewer entries is over before anybody could read a progress bar."""

SHOWN_EVERY_S = 0.5
"""How often a running count is shown."""


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees this stream; a stream that the shell closed is None."""
    return stream is not None and stream.isatty()


def is_lively(stream: TextIO | None) -> bool:
    """Whether a line on it can be written over: on a terminal that knows control codes."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """Print a result for people, on one line."""
    click.echo(_encodable(escape(text), sys.stdout))


def heading(text: str) -> None:
    """Print an empty line and a title."""
    click.echo("\n" + _encodable(click.style(escape(text), bold=True), sys.stdout))


def note(text: str) -> None:
    """Print what is not the result: to stderr, so that pipes do not get it.

    What is done is done, even if a full disk behind stderr keeps it from being told.
    """
    with suppress(OSError):
        click.echo(_encodable(escape(text), sys.stderr), err=True)


def print_json(value: object, *, err: bool = False) -> None:
    """Print one JSON document."""
    click.echo(json_text(value, indent=2), err=err)


def print_json_lines(values: Iterable[object]) -> None:
    """Print JSON lines as they come, however many."""
    remaining = map(json_text, values)
    while chunk := list(islice(remaining, ROWS_MEASURED)):
        click.echo("\n".join(chunk))


def json_text(value: object, indent: int | None = None) -> str:
    """JSON in ASCII, so that no name can control the terminal; NaN and infinity become null."""
    return _without_delete(json.dumps(as_json(value), indent=indent, allow_nan=False))


def _without_delete(json_text: str) -> str:
    # The one control character that JSON leaves as it is.
    return json_text.replace("\x7f", "\\u007f")


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
                lines.writerow([_encodable(escape(field), sys.stdout) for field in row])
        else:
            sys.stdout.write(_without_delete(text))

    def flush(self) -> None:
        """Let the last lines be seen."""
        sys.stdout.flush()


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]]) -> None:
    """Print a table of any length, whose first rows decide the widths; nothing without rows."""
    remaining = iter(rows)
    first = list(islice(remaining, ROWS_MEASURED))
    if not first:
        return
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    table = Table(columns, first, width)
    _echo_lines(chain([table.header()], map(table.line, first)))
    while chunk := list(islice(remaining, ROWS_MEASURED)):
        _echo_lines(map(table.line, chunk))
    if table.left_out:
        note(f"(the terminal is too narrow for: {', '.join(table.left_out)})")


def _echo_lines(lines: Iterable[str]) -> None:
    # echo() flushes each time: a call for each line would be a write for each line.
    click.echo(_encodable("\n".join(lines), sys.stdout))


def _encodable(text: str, stream: Any) -> str:
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
