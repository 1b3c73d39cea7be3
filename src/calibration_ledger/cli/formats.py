"""`calib formats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from calibration_ledger.cli.options import examples, format_option
from calibration_ledger.cli.output import note, print_data, print_table
from calibration_ledger.cli.table import Cell, Column

if TYPE_CHECKING:
    from calibration_ledger.cli.options import Form
    from calibration_ledger.formats.base import Format

COLUMNS = (
    Column("format", left=True, names=True),
    Column("kind", left=True, spare=1),
    Column("reads", left=True, cut_to=20),
)


@click.command(epilog=examples("calib formats", "calib formats --json"))
@format_option
def formats(*, form: Form) -> None:
    """List what `calib import` can read.

    The kind is "own" for this program's own files, "module" and "recipe" for those of other tools,
    and "third party" for what other packages read. Where a tool keeps its file is told behind what
    is read, if it is there: then `calib import FORMAT` alone takes it in.
    """
    from calibration_ledger.calibrator import AdaptiveCalibrator

    found = AdaptiveCalibrator.formats()
    if print_data(form, list(found)):
        return
    print_table(COLUMNS, map(_row, found))
    for one in found:
        if one.trouble:
            note(f"warning: the third-party format {one.name} cannot be used: {one.trouble}.")


def _row(one: Format) -> list[str | Cell]:
    place = None if one.default is None else one.default()
    where = f"; here {place}" if place is not None and place.exists() else ""
    kind = Cell("not usable", "bad") if one.trouble else one.kind
    return [one.name, kind, f"{one.reads}{where}"]
