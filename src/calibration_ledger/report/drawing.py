"""The Vega project's programs, which draw what `specs.py` describes: the extra `report`.

`vl-convert-python` brings them in a wheel, and needs neither a browser nor a network. A page takes
them along, so that the reader's browser draws; pictures are drawn here.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from contextlib import contextmanager, suppress
from html import escape as quoted
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.text import escape as visible
from calibration_ledger.errors import needing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VEGA_LITE = "6.4"
"""The version of the language that `specs.py` writes."""


def check_drawing() -> None:
    """See that charts can be drawn, before anything is read.

    Raises:
        InvalidInputError: vl-convert-python is not installed.
    """
    with needing("charts need", "vl-convert-python"):
        import vl_convert  # noqa: F401 - only to see whether it is there


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


# -- for a page -----------------------------------------------------------------------------


@contextmanager
def bundle() -> Iterator[Callable[[], bytes]]:
    """The programs as one script for a browser, compressed by gzip: `window.vegaEmbed`.

    To put it together takes seconds, in which Python can do nothing else. So another process does
    it, while this one reads the ledger; and it is kept in the user's cache folder.

    Yields:
        A function that gives the script, and waits for it where it must.
    """
    kept = _cache_file()
    found = _whole(kept)
    if found is not None:
        yield lambda: found
        return
    maker = _start()
    if maker is None:
        yield lambda: _finish(None, kept)
        return
    with maker:
        try:
            yield lambda: _finish(maker, kept)
        finally:
            maker.kill()  # where the script is not wanted after all


def make_bundle() -> bytes:
    """Put the script together. It is closed in a function: its names are no globals of a page."""
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return gzip.compress(f"(() => {{{script}\n}})();".encode(), mtime=0)


def _start() -> subprocess.Popen[bytes] | None:
    """Begin in another process; None where Python cannot start itself, as in a frozen program."""
    if getattr(sys, "frozen", False) or not sys.executable:
        return None
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import make_bundle; "
        f"sys.stdout.buffer.write(make_bundle())"
    )
    with suppress(OSError):
        return subprocess.Popen(  # noqa: S603 - this Python, and a program of ours
            [sys.executable, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    return None


def _finish(maker: subprocess.Popen[bytes] | None, kept: Path | None) -> bytes:
    made = b"" if maker is None else maker.communicate()[0]
    if maker is None or maker.returncode or not made:
        made = make_bundle()  # whatever hindered the other process: here it works, or says why not
    if kept is None:
        return made
    with suppress(OSError):  # a cache that cannot be written costs time alone
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        partial.write_bytes(made)
        partial.replace(kept)
    return made


def _cache_file() -> Path | None:
    """Where the script is kept; None for a user without a home."""
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("calibration-ledger", appauthor=False)
    except (RuntimeError, KeyError):
        return None
    if not folder.is_absolute():  # older platformdirs give ~, as it stands
        return None
    return folder / f"vega-lite-{VEGA_LITE}-{version('vl-convert-python')}.js.gz"


def _whole(kept: Path | None) -> bytes | None:
    """What was kept, if it is there and whole: gzip has a checksum."""
    if kept is not None:
        with suppress(OSError, EOFError, zlib.error):
            found = kept.read_bytes()
            if gzip.decompress(found):
                return found
    return None
