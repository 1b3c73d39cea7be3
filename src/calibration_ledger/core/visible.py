"""Which characters a person sees: names that look alike must not be taken for each other."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_IGNORABLE = (
    (0x034F, 0x034F),  # the combining grapheme joiner
    (0x17B4, 0x17B5),  # Khmer vowels that are not shown
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0xFE00, 0xFE0F),  # variation selectors
    (0xE0100, 0xE01EF),  # more variation selectors
)
"""What of Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt) counts as printable in
Python, but for the fillers below; its others are controls, formats or unassigned, which do not."""

_BLANK = (
    (0x115F, 0x1160),  # Hangul fillers
    (0x2800, 0x2800),  # the Braille pattern without dots
    (0x3164, 0x3164),  # another Hangul filler
    (0xFFA0, 0xFFA0),  # the Hangul filler of half width
    (0x16FE4, 0x16FE4),  # the filler of the Khitan small script
    (0x1D159, 0x1D159),  # the note head that is not shown
)
"""Printable by every property, but the glyph is empty."""


def _characters(ranges: Iterable[tuple[int, int]]) -> frozenset[str]:
    return frozenset(chr(code) for first, last in ranges for code in range(first, last + 1))


_BLANKS = _characters(_BLANK)
_INVISIBLE = _BLANKS | _characters(_IGNORABLE)

_CONTROLS = {"Cc", "Cf", "Zl", "Zp"}
"""Unicode's categories of what steers a text instead of being shown: control characters, formats
(zero-width and bidirectional marks are), and the separators of lines and paragraphs."""


def is_visible(text: str) -> bool:
    """Whether a terminal shows every character of it, and obeys none."""
    return text.isprintable() and (text.isascii() or _INVISIBLE.isdisjoint(text))


def bare(text: str) -> str:
    """What a person sees of a text, in lower case: names alike in it are easily mixed up."""
    seen = (one for one in unicodedata.normalize("NFKC", text) if is_visible(one))
    return "".join(one for one in seen if not one.isspace()).casefold()


def edge_blank(text: str) -> str | None:
    """The first or last character of a text if it is blank; None if neither is."""
    for character in (text[0], text[-1]):
        if character.isspace() or character in _BLANKS:
            return character
    return None


def control_in(text: str) -> str | None:
    """The first character of a text that steers it instead of being shown; None for none."""
    if text.isprintable():
        return None
    return next((one for one in text if unicodedata.category(one) in _CONTROLS), None)
