"""What may be sent to a stream: colours, control codes, and how wide its lines may be.

The one place that looks at `NO_COLOR`, `FORCE_COLOR`, `CLICOLOR_FORCE`, `TERM` and `COLUMNS`.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees this stream; a stream that the shell closed is None."""
    return stream is not None and stream.isatty()


def is_lively(stream: TextIO | None) -> bool:
    """Whether a line on it can be written over: on a terminal that knows control codes."""
    return is_terminal(stream) and not is_dumb()


def is_dumb() -> bool:
    """Whether the terminal knows no control codes, those of colours among them."""
    return os.environ.get("TERM") == "dumb"


def colour() -> bool | None:
    """Whether texts have colours and bold titles; None: where a terminal shows them.

    What forbids them wins over what forces them (no-color.org, force-color.org, bixense.com).
    """
    if os.environ.get("NO_COLOR") or is_dumb():
        return False
    forced = (os.environ.get("FORCE_COLOR"), os.environ.get("CLICOLOR_FORCE"))
    return True if any(value not in {None, "", "0"} for value in forced) else None


def width_of_terminal(stream: TextIO | None) -> int | None:
    """How many columns a person sees of this stream; None where it is no terminal.

    `COLUMNS` says so where it is set, else the terminal itself.
    """
    return shutil.get_terminal_size().columns if is_terminal(stream) else None


def can_show(text: str, stream: TextIO | None) -> bool:
    """Whether this stream can encode all of a text."""
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
