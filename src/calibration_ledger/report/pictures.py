"""One chart as a picture in a file of its own: PNG or SVG."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.formats.target import check_target, open_binary
from calibration_ledger.report.drawing import check_drawing, png, svg
from calibration_ledger.report.specs import spec
from calibration_ledger.storage.place import find_place

if TYPE_CHECKING:
    from datetime import datetime
    from typing import BinaryIO, TextIO

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.charts import Chart, ChartKind
    from calibration_ledger.core.replay import Progress

WIDTH = 720
WIDTH_LEAST, WIDTH_MOST = 240, 4000
"""Below, no axis has room for its labels; above, a PNG takes hundreds of megabytes to draw."""


def plot(
    calibrator: AdaptiveCalibrator,
    model: str | None,
    kind: ChartKind,
    *,
    output: str | os.PathLike[str] | TextIO | BinaryIO,
    since: datetime | None = None,
    until: datetime | None = None,
    width: int = WIDTH,
    theme: Literal["light", "dark"] = "light",
    utc: bool = False,
    progress: Progress | None = None,
) -> Path | None:
    """Write one chart as a picture, with its title and its text.

    It is drawn by vl-convert-python, without a browser and without a network. An SVG tells its
    title and its text to screen readers, too. A file appears under its name only once it is whole,
    and replaces an older one.

    Args:
        calibrator: whose ledger.
        model: the model; None for the chart of all models.
        kind: which chart; see `ChartKind`.
        output: a path that ends in `.png` or `.svg`; or an open file, which gets an SVG.
        since: only calls made at this time or later.
        until: only calls made before this time.
        width: how wide the picture is, in pixels of 1/96 inch. A PNG has two pixels to each.
        theme: `light` or `dark`.
        utc: whether axes of time are in UTC; otherwise they are in the local zone.
        progress: called with the number of calls read since the last time.

    Returns:
        The path that was written; None for an open file.

    Raises:
        LedgerNotFoundError: there is no ledger yet.
        ModelNotFoundError: the ledger has no entry of this model.
        InvalidInputError: vl-convert-python is not installed, an argument is not what it must be,
            or the output cannot be written to.
        ExportFailedError: writing failed on the way: nothing is left of it.
        LedgerError: the ledger cannot be read.
    """
    path = Path(output) if isinstance(output, str | os.PathLike) else None
    is_png = path is not None and _is_png(path)
    if not isinstance(width, int) or not WIDTH_LEAST <= width <= WIDTH_MOST:
        raise InvalidInputError(
            f"a picture is {WIDTH_LEAST} to {WIDTH_MOST} pixels wide, not {shown(width)}."
        )
    if theme not in {"light", "dark"}:
        raise InvalidInputError(f"a theme is 'light' or 'dark', not {shown(theme)}.")
    check_drawing()
    ledger = find_place(calibrator.ledger).path
    if path is not None:
        check_target(path, ledger, overwrite=True)
    [chart] = calibrator.charts(model, [kind], since=since, until=until, progress=progress)
    picture = _drawn(chart, spec(chart, width=width, theme=theme, utc=utc), is_png=is_png)
    with open_binary(output, ledger, overwrite=True) as write:
        write(picture)
    return path


def _is_png(path: Path) -> bool:
    """Whether a path is of a PNG.

    Raises:
        InvalidInputError: it is of neither kind of picture.
    """
    suffix = path.suffix.lower()
    if suffix not in {".png", ".svg"}:
        raise InvalidInputError(
            f"a picture is a PNG or an SVG, as its name says: let {shown(str(path))} end in .png "
            f"or .svg."
        )
    return suffix == ".png"


def _drawn(chart: Chart, spec: dict[str, Any], *, is_png: bool) -> bytes:
    return png(spec) if is_png else svg(spec, chart.title, chart.text).encode()
