"""The entry point: the group `calib`, its commands by name, and what an error looks like.

The table of commands is all that `calib --help` reads; a command's module is imported when the
command runs. An error of the library becomes one sentence on stderr and an exit code.
"""

from __future__ import annotations

import errno
import os
import sys
import warnings
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger import __version__
from calibration_ledger.cli.options import COMMON, question
from calibration_ledger.cli.terminal import colour, width_of_terminal
from calibration_ledger.core.text import escape
from calibration_ledger.errors import (
    CalibrationLedgerError,
    DoubtfulCallWarning,
    InvalidInputError,
    SimilarNameWarning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_FINDINGS = 3

NARROW = 52
"""In a terminal with fewer columns, click would write wider lines of help than it has."""


class Failure(click.ClickException):
    """A sentence on stderr, and exit code 1."""

    exit_code = EXIT_FAILED

    def __init__(self, message: str) -> None:
        """Take the sentence; a name in it may hold control characters."""
        super().__init__(escape(message))

    def show(self, file: Any = None) -> None:
        """Tell it on stderr, in lines of the terminal."""
        if file is not None:
            super().show(file)
            return
        from calibration_ledger.cli.output import note

        note(f"Error: {self.message}")


class WrongInput(Failure):
    """The same with exit code 2: an argument or an imported file is wrong."""

    exit_code = EXIT_WRONG_INPUT


COMMANDS = {
    "forecast": ("forecast:forecast", "Forecast how long a call may take, with honest ranges."),
    "compare": ("compare:compare", "Compare models by forecast, the soonest first."),
    "timeout": ("timeout:timeout", "Print a timeout in seconds, for scripts."),
    "predict": ("predict:predict", "Predict how long a call will take."),
    "record": ("record:record", "Record an observed call and learn from it."),
    "stats": ("stats:stats", "Show what each model has learnt."),
    "plot": ("plot:plot_", "Write one chart as a picture."),
    "top": ("top:top", "Watch the models in use and their newest calls."),
    "history": ("history:history", "List the calls, the newest last."),
    "report": ("report:report", "Write a page to look at: charts of every model."),
    "drift": ("drift:drift", "Tell which models have become slower or faster."),
    "metrics": ("metrics:metrics", "Print what Prometheus scrapes of the models."),
    "replay": ("replay:replay", "Ask how another alpha or rule would have predicted."),
    "sweep": ("sweep:sweep", "Rank rules and alphas by how well they would have predicted."),
    "recalibrate": ("recalibrate:recalibrate", "Adopt an alpha or rule by replaying the history."),
    "rule": ("rule:rule", "Show or set what new models learn by."),
    "alias": ("alias:alias", "Let two names be one model."),
    "void": ("void:void", "Void wrong calls, so that nothing learns from them."),
    "reset": ("reset:reset", "Set a model back to its prior; its history stays."),
    "log": ("log:log", "List what happened to the ledger, other than calls."),
    "audit": ("audit:audit", "Check that the history explains the calibrations."),
    "import": ("files:import_", "Take in calls from files of other tools, or a whole ledger."),
    "formats": ("formats:formats", "List what `calib import` can read."),
    "export": ("files:export", "Write the ledger or its calls to a file."),
    "archive": ("archive:archive", "Move the oldest entries to a file, to shrink the ledger."),
    "doctor": ("doctor:doctor", "Check the ledger's health and say what needs action."),
    "demo": ("demo:demo", "Try everything on measured calls, in a ledger of its own."),
    "db": ("db:db", "Look after the ledger's database."),
}
"""From a command's name to its home in this folder and its line in the help."""


COMPLETE = "_CALIB_COMPLETE"
"""The variable by which click's shell functions ask what may follow."""

CHANGING = {
    *(
        ("record",),
        ("recalibrate",),
        ("rule",),
        ("alias",),
        ("void",),
        ("reset",),
        ("import",),
        ("archive",),
    ),
    *(("db", "upgrade"), ("db", "distribute"), ("db", "backup")),
}
"""Commands whose work is in a ledger or a file: without a stdout they do it, and say nothing."""


class ClosedStdout(TextIOWrapper):
    """Stdout that the shell closed (`>&-`): what a command prints is told to be lost.

    Writing to it fails, as on a full disk. Python has None there, to which click prints nothing.
    """

    def __init__(self) -> None:
        """Take the place of stdout, so that no other file gets its number."""
        super().__init__(
            os.fdopen(os.open(os.devnull, os.O_RDONLY), "wb", buffering=0), write_through=True
        )


class Calib(click.Group):
    """A group that imports a command when it is used, and turns errors into sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the order of the table: from daily use to housekeeping."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(f"calibration_ledger.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table is ours
        below = command.commands.values() if isinstance(command, click.Group) else ()
        for one in (command, *below):
            one.params += [option for option in COMMON if option not in one.params]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands from the table, without importing one of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the one that was probably meant."""
        named = {(args[0],), *((args[0], word) for word in args[1:])}  # options may come between
        if isinstance(sys.stdout, ClosedStdout) and CHANGING & named:
            sys.stdout = None
        if args[0] not in COMMANDS and args[0][:1].isalpha() and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}.{question(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of the library is told, never shown as a traceback."""
        try:
            with errors_told():
                return super().invoke(ctx)
        except click.UsageError as error:
            raise _on_lines(error) from error

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options; those that print, such as --help, may meet a full disk, too."""
        columns = width_of_terminal(sys.stdout)
        if columns is not None and columns < NARROW:
            extra.setdefault("terminal_width", columns - 2)
        try:
            return super().make_context(*args, **extra)
        except OSError as error:
            raise _refused(error) from error

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and end with an exit code of ours even if stderr takes no sentence."""
        if sys.stdout is None:
            sys.stdout = ClosedStdout()
        if COMPLETE in os.environ:
            from importlib import import_module

            import_module("calibration_ledger.cli.completion")  # which knows bash better
        try:
            return super().main(*args, **extra)
        except OSError:
            sys.exit(EXIT_FAILED)


def _on_lines(error: click.UsageError) -> click.UsageError:
    """The same, with its sentence on lines of the terminal."""
    from calibration_ledger.cli.words import wrap

    begin = "Error: "
    lines = wrap(begin + error.format_message(), width_of_terminal(sys.stderr))
    return click.UsageError("\n".join(lines).removeprefix(begin), error.ctx)


@contextmanager
def errors_told() -> Iterator[None]:
    """Make of an error of the library what click tells in a sentence, with its exit code."""
    try:
        with _doubts_told():
            yield
    except CalibrationLedgerError as error:
        kind = WrongInput if isinstance(error, InvalidInputError) else Failure
        raise kind(str(error)) from error
    except OSError as error:  # a full disk behind stdout, say
        raise _refused(error) from error


@contextmanager
def _doubts_told() -> Iterator[None]:
    """Tell doubts at the end, as every sentence is told; leave other warnings alone."""
    told: list[str] = []

    def keep(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, DoubtfulCallWarning | SimilarNameWarning):
            told.append(str(message))
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        others = warnings.showwarning
        warnings.simplefilter("always", DoubtfulCallWarning)
        warnings.simplefilter("always", SimilarNameWarning)
        warnings.showwarning = keep
        try:
            yield
        finally:
            if told:
                from calibration_ledger.cli.output import note

                for text in told:
                    note(f"warning: {text}")


def _refused(error: OSError) -> Exception:
    """What to raise for what the system refused."""
    if error.errno == errno.EPIPE:
        return error  # click ends quietly: `calib history | head`
    what = "stdout is closed" if error.errno == errno.EBADF else error.strerror or error
    if error.filename is None:  # of a file, the name is known
        return Failure(f"the output cannot be written: {what}. What was changed before stays so.")
    return Failure(f"the system refused: {what} ({error.filename}).")


@click.group(
    cls=Calib,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    params=[*COMMON],
    epilog=(
        "\b\n"
        "Exit codes:\n"
        "  0  fine\n"
        "  1  it failed: the ledger is missing, busy, damaged, not writable ...\n"
        "  2  wrong usage or input, an imported file included: nothing was recorded\n"
        "  3  the audit has findings, or a model has drifted (`drift --fail-above`)"
    ),
)
@click.version_option(__version__, prog_name="calib")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Know before a language-model call how long it will take.

    The ledger keeps every observed call, learns each model's latency from it, and can be replayed
    and audited to the bit. Start with `calib demo`.
    """
    ctx.color = colour()
