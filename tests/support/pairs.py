"""Cases in which every value comes up once, where all combinations would try the same again."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def each_once(*columns: Iterable[object]) -> list[tuple[object, ...]]:
    """As many tuples as the longest column has values; the shorter ones begin again."""
    values = [list(column) for column in columns]
    length = max(map(len, values))
    return list(islice(zip(*map(cycle, values), strict=False), length))
