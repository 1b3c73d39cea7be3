"""Sentences on lines of a width. Pure: nothing here prints."""

from __future__ import annotations

import re

from calibration_ledger.cli.table import width_of

_UNBROKEN = re.compile(
    r"[^\s`]*`[^`]+`\S*"  # a command in a sentence
    r"|(?<=: )calib (?:(?!\. [A-Z]).)+\.?"  # one at its end, or before the next
    r"|\S+"
)
"""The words of a sentence. A command is one word: what is copied from a terminal must be whole."""


def wrap(text: str, width: int | None, indent: str = "") -> list[str]:
    """The text on lines of this width, broken at words.

    A word that is wider stays whole, and so does a text that begins with a blank: it was laid out.

    Args:
        text: the text, on one line.
        width: how many columns a line may take; None: any number.
        indent: what the lines after the first begin with.
    """
    if width is None or width_of(text) <= width or text.startswith(" "):
        return [text]
    lines: list[str] = []
    for word in _UNBROKEN.findall(text):
        if lines and width_of(lines[-1]) + 1 + width_of(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(indent * bool(lines) + word)
    return lines
