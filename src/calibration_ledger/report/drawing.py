"""The Vega project's programs, which draw what `specs.py` describes: the extra `report`.

`vl-convert-python` brings them in a wheel, and needs neither a browser nor a network. A page takes
them along, so that the reader's browser draws; pictures are drawn here.
"""

from __future__ import annotations

from html import escape as quoted
from typing import Any

from calibration_ledger.core.text import escape as visible
from calibration_ledger.errors import InvalidInputError

VEGA_LITE = "6.4"
"""The version of the language that `specs.py` writes."""


def check_drawing() -> None:
    """See that charts can be drawn, before anything is read.

    Raises:
        InvalidInputError: vl-convert-python is not installed.
    """
    try:
        import vl_convert  # noqa: F401 - only to see whether it is there
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"charts need vl-convert-python, which is not installed ({error}): "
            f"pip install vl-convert-python."
        ) from None


# -- as a picture ---------------------------------------------------------------------------

PIXELS = 2.0
"""Pixels of a PNG to one of the picture, in each direction: sharp on today's screens."""


def png(spec: dict[str, Any]) -> bytes:
    """Draw a picture as PNG."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(spec, VEGA_LITE, scale=PIXELS, **_CLOSED))


def svg(spec: dict[str, Any], title: str, text: str) -> str:
    """Draw a picture as SVG, which tells a title and a text to those who cannot see it."""
    import vl_convert

    drawn = str(vl_convert.vegalite_to_svg(spec, VEGA_LITE, **_CLOSED))
    begin, end, rest = drawn.partition(">")
    names = ' role="img" aria-labelledby="chart-title chart-text"'
    title, text = (quoted(visible(one), quote=False) for one in (title, text))
    told = f'<title id="chart-title">{title}</title><desc id="chart-text">{text}</desc>'
    return f"{begin}{names}{end}{told}{rest}\n"


_CLOSED: Any = {"allowed_base_urls": []}
"""No picture fetches anything."""
