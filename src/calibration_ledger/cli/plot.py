"""`calib plot`."""

from __future__ import annotations

import sys
from datetime import UTC
from typing import TYPE_CHECKING, get_args

import click

from calibration_ledger.cli.options import (
    FilePath,
    complete,
    examples,
    format_option,
    model_option,
    question,
    window_options,
)
from calibration_ledger.cli.output import check_only_result, note, print_data, progress
from calibration_ledger.cli.session import Session, entries, pass_session
from calibration_ledger.cli.zone import zone
from calibration_ledger.core.charts import ChartKind
from calibration_ledger.errors import shown
from calibration_ledger.report.pictures import WIDTH, plot

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.cli.options import Form

KINDS: tuple[ChartKind, ...] = get_args(ChartKind)
OF_ALL: ChartKind = "models"

TOLD: dict[ChartKind, str] = {
    "models": "all models side by side, without MODEL",
    "actual": "predicted against actual",
    "error": "the error over time, with what changed the calibration",
    "coefficients": "the learnt coefficients over time",
    "ranges": "how often the forecast's ranges held",
    "sweep": "the error by rule and alpha, with the live ones marked",
    "tokens": "latency by prompt and completion length",
    "speed": "completion tokens in a second, day by day",
}
"""Each kind, for the help."""


@click.command(
    "plot",
    epilog="\n".join(["\b", "Kinds:", *(f"  {kind:<12}  {told}" for kind, told in TOLD.items())])
    + "\n\n"
    + examples(
        "calib plot llama3:8b error -o error.svg",
        "calib plot llama3:8b sweep -o sweep.png --since 2026-11-01 --dark",
        "calib plot models -o models.svg",
    ),
)
@click.argument(
    "words",
    metavar="[MODEL] KIND",
    nargs=-1,
    shell_complete=complete("models_and_charts"),
)
@model_option("The same as MODEL.")
@click.option(
    "-o",
    "--output",
    type=FilePath(readable=False, allow_dash=True),
    metavar="FILE",
    required=True,
    help="A name that ends in .png or .svg; - writes an SVG to stdout.",
)
@click.option(
    "--width",
    type=click.INT,
    default=WIDTH,
    show_default=True,
    metavar="PIXELS",
    help="How wide the picture is; a PNG has twice as many pixels.",
)
@click.option("--dark", is_flag=True, help="Draw on a dark ground.")
@window_options
@format_option
@pass_session
def plot_(
    session: Session,
    words: tuple[str, ...],
    model: str | None,
    output: str,
    *,
    width: int,
    dark: bool,
    since: datetime | None,
    until: datetime | None,
    form: Form,
) -> None:
    """Write one chart as a picture.

    The kinds are below: that of all models, and those of one. They are the charts of `calib
    report`.

    The picture has the chart's title and text in it; an SVG tells them to screen readers, too. A
    file that is there is replaced. What was written is told on stderr; with --json and other
    formats for programs, on stdout.
    """
    model, kind = _chosen(words, model)
    is_stream = output == "-"
    if is_stream:
        check_only_result(form, "picture")
    with (
        session.existing() as calibrator,
        progress("reading", entries(calibrator, model), times=20) as done,
    ):
        path = plot(
            calibrator,
            model,
            kind,
            output=sys.stdout if is_stream else output,
            since=since,
            until=until,
            width=width,
            theme="dark" if dark else "light",
            utc=zone() is UTC,
            progress=done,
        )
    if path is None:
        return
    written = {"model": model, "kind": kind, "target": str(path), "size_bytes": path.stat().st_size}
    if not print_data(form, written):
        note(f"{path}: the chart {kind}{'' if model is None else f' of {model}'}.")


def _chosen(words: tuple[str, ...], model: str | None) -> tuple[str | None, ChartKind]:
    """The model, or None for all of them, and the kind of the chart.

    Raises:
        click.UsageError: they are too many, too few, or no kind.
    """
    names, kind = list(words[:-1]), words[-1] if words else None
    names += [] if model is None else [model]
    if kind is None or len(names) > 1:
        raise click.UsageError("name one model and one kind of chart: calib plot MODEL KIND.")
    if kind not in KINDS:
        kinds = f"{', '.join(KINDS[:-1])} or {KINDS[-1]}"
        meant = question(kind, KINDS)
        raise click.UsageError(f"{shown(kind)} is no kind of chart: give {kinds}.{meant}")
    if kind == OF_ALL and names:
        raise click.UsageError("the chart 'models' is of all models: leave the model out.")
    if kind != OF_ALL and not names:
        raise click.UsageError(f"the chart {kind!r} is of one model: calib plot MODEL {kind}.")
    return (names[0] if names else None), kind
