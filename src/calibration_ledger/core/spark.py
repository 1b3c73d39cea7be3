"""A sparkline: numbers as a row of characters, each as tall as its number."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCKS = "▁▂▃▄▅▆▇█"
"""Eight heights, of Unicode's block elements."""

ASCII = ".:-=+*#@"
"""The same in ASCII: the darker, the taller."""


def spark(values: Iterable[float], heights: str = BLOCKS) -> str:
    """A character for each value, the greatest magnitude of them the tallest; signs do not show.

    Heights begin at 0, so that a steady row of errors looks steady.

    Args:
        values: what is drawn, from left to right.
        heights: the characters, the lowest first: `BLOCKS`, or `ASCII` where these cannot be shown.
    """
    sizes = [abs(value) for value in values]
    most = max(filter(isfinite, sizes), default=0.0)
    last = len(heights) - 1
    # Divided first: the largest float times eight would be infinite.
    return "".join(
        heights[round(size / most * last) if most and isfinite(size) else last * bool(size)]
        for size in sizes
    )
