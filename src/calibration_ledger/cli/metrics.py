"""`calib metrics`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import FilePath, Form, examples, format_option, models_argument
from calibration_ledger.cli.output import print_result, say
from calibration_ledger.cli.session import Session, pass_session
from calibration_ledger.cli.table import Cell, Column
from calibration_ledger.cli.terminal import is_terminal
from calibration_ledger.core import text
from calibration_ledger.errors import needing

if TYPE_CHECKING:
    import os
    from typing import Any

COLUMNS = (
    Column("metric", left=True),
    Column("model", left=True, names=True),
    Column("level"),
    Column("value"),
)

SAMPLE = dict.fromkeys(("metric", "model", "rule", "alpha", "level", "value"))
"""The columns of CSV and TSV: the labels that there are, each empty where it does not apply."""


@click.command(
    epilog=examples(
        "calib metrics",
        "calib metrics llama3:8b phi3:mini",
        "calib metrics -o /var/lib/prometheus/node-exporter/calibration_ledger.prom",
    )
)
@models_argument
@click.option(
    "-o",
    "--output",
    type=FilePath(readable=False),
    metavar="FILE",
    help="Write to this file, which is replaced as a whole; for a textfile collector.",
)
@click.option("--openmetrics", is_flag=True, help="Print the format of OpenMetrics instead.")
@format_option
@pass_session
def metrics(
    session: Session,
    models: tuple[str, ...],
    *,
    output: str | os.PathLike[str] | None,
    openmetrics: bool,
    form: Form,
) -> None:
    """Print what Prometheus scrapes of the models.

    Of each (of the ones named, or all): calls and time-outs, mean and median error, drift, and the
    forecast of a call of its usual prompt length. Times are in seconds, shares from 0 to 1.
    Reads the newest calls, never a whole history. Needs prometheus-client.

    The default format is Prometheus' own text; the others list the same samples.

    For a program's own metrics there is `calibration_ledger.live.prometheus.LedgerCollector`.
    """
    with needing("metrics need", "prometheus-client"):
        from calibration_ledger.live import prometheus
    if form != "table" and (openmetrics or output is not None):
        raise click.UsageError("--format is for what is printed, instead of the text to scrape.")
    chosen = models or None
    with session.existing() as calibrator:
        if output is not None:
            prometheus.write_metrics(calibrator, output, chosen, openmetrics=openmetrics)
        elif form != "table":
            print_result(form, prometheus.samples(calibrator, chosen), COLUMNS, _row, of=SAMPLE)
        else:
            _print(prometheus.metrics(calibrator, chosen, openmetrics=openmetrics))


def _row(sample: dict[str, Any]) -> list[str | Cell]:
    value = text.number(sample["value"], 6)
    return [sample["metric"], sample.get("model", ""), sample.get("level", ""), value]


def _print(metrics: str) -> None:
    if is_terminal(sys.stdout):  # names are escaped for a parser, not for a terminal
        for line in metrics.splitlines():
            say(line)
    else:
        click.echo(metrics.encode(), nl=False)
