"""Which characters a person sees: names that look alike must not be taken for each other."""

from __future__ import annotations

_IGNORABLE = (
    (0x034F, 0x034F),  # the combining grapheme joiner
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer vowels that are not shown
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x3164, 0x3164),  # another Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # the Hangul filler of half width
    (0xE0100, 0xE01EF),  # more variation selectors
)
"""What of Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt) counts as printable in
Python; its other characters are controls, formats or not assigned, which do not."""

_BLANK = (
    (0x2800, 0x2800),  # the Braille pattern without dots
    (0x16FE4, 0x16FE4),  # the filler of the Khitan small script
    (0x1D159, 0x1D159),  # the note head that is not shown
)
"""Printable by every property, but the glyph is empty."""

_INVISIBLE = frozenset(
    chr(code) for first, last in (*_IGNORABLE, *_BLANK) for code in range(first, last + 1)
)


def is_visible(text: str) -> bool:
    """Whether a terminal shows every character of it, and obeys none."""
    return text.isprintable() and (text.isascii() or _INVISIBLE.isdisjoint(text))
