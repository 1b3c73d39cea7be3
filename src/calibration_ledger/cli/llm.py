"""The plugin of `llm` (the extra `llm`): `llm calib sync` and `llm calib eta`.

`llm` loads it whenever it starts, so that this module imports little besides click, which is there
already; what a command needs, it imports when it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from llm import hookimpl

from calibration_ledger.cli.options import LEDGER, FilePath, examples, format_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from calibration_ledger.cli.options import Form
    from calibration_ledger.core.values import ImportReport


def ledger_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--ledger`, as the commands of `calib` have it."""
    return click.option("--ledger", **LEDGER)(command)


@hookimpl  # type: ignore[untyped-decorator]  # extras are not followed
def register_commands(cli: click.Group) -> None:
    """Add `calib` to the commands of `llm`; `llm` calls this."""
    cli.add_command(calib)


@click.group()
def calib() -> None:
    """Know before a prompt how long each model will take.

    The ledger learns it from the calls that llm has logged, and from all others that it is given;
    `calib --help` tells more.
    """


@calib.command(epilog=examples("llm calib sync", "llm calib sync -d other.db"))
@click.option(
    "-d",
    "--database",
    type=FilePath(readable=False),
    help="The log of llm. Default: the one that llm writes.",
)
@ledger_option
@format_option
def sync(*, database: str | None, ledger: str | None, form: Form) -> None:
    """Let the ledger learn from the calls in llm's log.

    Only new ones are added, however often it is run. No prompt and no answer gets into the ledger.
    """
    from llm import user_dir

    from calibration_ledger.cli.main import Failure, errors_told
    from calibration_ledger.cli.output import note, print_data, say
    from calibration_ledger.cli.session import Session

    log = user_dir() / "logs.db" if database is None else Path(database)
    if not log.exists():
        raise Failure(
            f"there is no log of llm at {log}: the first prompt makes it, unless `llm logs off` "
            f"was said."
        )
    session = Session(ledger)
    with errors_told(), session.writing() as calibrator:
        report = calibrator.import_calls("llm", log)
        if print_data(form, report):
            return
        say(_told(report))
        if report.recorded:
            note('`llm calib eta "PROMPT"` says how long each model would take.')


def _told(report: ImportReport) -> str:
    from calibration_ledger.core.text import count

    new = count(report.recorded, "new call")
    parts = [f"{new} recorded, of {count(report.models, 'model')}" if report.recorded else new]
    if report.already:
        parts.append(f"{report.already} there already")
    if report.left_out:
        reasons = ", ".join(f"{calls} {reason}" for reason, calls in report.left_out)
        parts.append(f"left out: {reasons}")
    return "; ".join(parts)


@calib.command(
    epilog=examples(
        'llm calib eta "Why is the sky blue?"',
        'llm calib eta "Sum this up" -m gpt-4o-mini < report.txt',
    )
)
@click.argument("prompt", required=False)
@click.option("models", "-m", "--model", multiple=True, help="Only this model; can be repeated.")
@ledger_option
@format_option
def eta(*, prompt: str | None, models: tuple[str, ...], ledger: str | None, form: Form) -> None:
    """Say how long a prompt would take on each known model, the soonest first.

    What comes on stdin is put before the prompt, as llm itself does. Models that the ledger has no
    calls of are left out. The times are those of `calib compare`: that says more.
    """
    from calibration_ledger.cli.main import errors_told
    from calibration_ledger.cli.output import print_data, print_table
    from calibration_ledger.cli.prompt import counted
    from calibration_ledger.cli.ranking import COLUMNS, row
    from calibration_ledger.cli.session import Session
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.rank import with_history
    from calibration_ledger.core.values import json_types
    from calibration_ledger.errors import LedgerNotFoundError, NoHistoryError

    with errors_told(), Session(ledger).writing() as calibrator:
        text = _with_stdin(prompt)
        asked = dict.fromkeys(map(_id_of, models))
        try:
            calibrator.check_exists()
            tokens = counted(text)
            found = with_history(calibrator.rank(tokens.tokens, asked or None))
        except (LedgerNotFoundError, NoHistoryError) as error:
            error.advice = "`llm calib sync` takes in the calls that llm has logged"
            raise
    records = [{**one.to_dict(), "counted_by": tokens.counted_by} for one in found]
    if not print_data(form, records, of={**json_types(Forecast), "counted_by": str}):
        print_table(COLUMNS, map(row, found))


def _with_stdin(prompt: str | None) -> str:
    from calibration_ledger.cli.terminal import is_terminal
    from calibration_ledger.formats.source import open_source

    before = ""
    if sys.stdin is not None and not is_terminal(sys.stdin):
        with open_source(sys.stdin, None) as source:
            before = source.whole("prompt")
    parts = [part for part in (before, prompt) if part]
    if not parts:
        raise click.UsageError("give a prompt, as an argument or on stdin.")
    return " ".join(parts)


def _id_of(model: str) -> str:
    """The name under which llm logs a model that it knows by this name or alias."""
    from llm import UnknownModelError, get_model

    try:
        return str(get_model(model).model_id)
    except UnknownModelError:
        return model
