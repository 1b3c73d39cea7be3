"""`calib report`."""

from __future__ import annotations

import sys
from datetime import UTC
from typing import TYPE_CHECKING, Any

import click

from calibration_ledger.cli.options import (
    FilePath,
    examples,
    format_option,
    models_argument,
    window_options,
)
from calibration_ledger.cli.output import check_only_result, note, print_data, progress
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.terminal import is_terminal
from calibration_ledger.cli.zone import zone

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.cli.options import Form


@click.command(
    epilog=examples(
        "calib report",
        "calib report llama3:8b phi3:mini -o report.html",
        "calib report --since 1w -o - > week.html",
    )
)
@models_argument
@click.option(
    "-o",
    "--output",
    type=FilePath(readable=False, allow_dash=True),
    metavar="FILE|-",
    default="report.html",
    show_default=True,
    help="Where the page goes; - is stdout. A page of that name is replaced.",
)
@window_options
@format_option
@pass_session
def report(
    session: Session,
    models: tuple[str, ...],
    *,
    output: str,
    since: datetime | None,
    until: datetime | None,
    form: Form,
) -> None:
    """Write a page to look at: charts of every model.

    One file of HTML that needs nothing else: open it in a browser, mail it, put it on a server. On
    top, all models side by side on your own typical prompt. Of each model: predicted against
    actual, the error over time with what changed the calibration, the learnt coefficients, the
    forecast's ranges and how often they held, the latency by length, the error under each rule and
    alpha, and the speed. Each chart has a text and tables of its numbers.

    The page is at most 2 MB. Where the charts of all models do not fit, it has those of the models
    with the most calls, and says which are left out.

    What was written is told on stderr; with --json and other formats for programs, on stdout.

    Needs the extra `report`, or vl-convert-python alone: pip install vl-convert-python.
    """
    from calibration_ledger.report import report as write

    target: Any = output
    if output == "-":
        if is_terminal(sys.stdout):
            raise click.UsageError(
                "a page is nothing to read: name a FILE, or redirect the output."
            )
        check_only_result(form, "page")
        target = sys.stdout
    with (
        session.existing() as calibrator,
        progress("reading", entries(calibrator, models or None)) as done,
    ):
        path = write(
            calibrator,
            models,
            output=target,
            since=since,
            until=until,
            utc=zone() is UTC,
            progress=done,
        )
    if path is None:
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
    elif not print_data(form, {"target": str(path), "size_bytes": path.stat().st_size}):
        note(f"written to {path}: open it in a browser.")
