"""Calls that tools wrote one around the other, of which the innermost that says enough is taken.

A file has them in any order and far apart. A call waits until 20,000 more have come; one that lies
around another and comes so long before that is taken in its place. Of the spans between calls, the
latest 100,000 are remembered. So memory is bounded, whatever the file's length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.core.spans import Innermost
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.row import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.core.spans import Key, Waiting
    from calibration_ledger.formats.base import Item, Placed

WAITING_MAX = 20_000
REMEMBERED_MAX = 100_000


class Nested:
    """The calls of a file that wait for others within them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._innermost = Innermost(REMEMBERED_MAX)
        self._waiting: dict[Key, Waiting] = {}

    def has(self, key: Key) -> bool:
        """Whether this call waits, or was taken."""
        return self._innermost.has(self._waiting, key)

    def put(self, place: int, key: Key, parent_id: str | None, item: Item | None) -> Item | None:
        """Let an item wait; what is told a second time does not, but comes back as a skip.

        Args:
            place: its place in the file.
            key: the ids of its trace and of itself.
            parent_id: the id, in the same trace, of what it lies within.
            item: what it is; None for what is no call, which may lie between two.
        """
        if item is not None and self.has(key):
            return Skip("duplicate")
        self._innermost.put(
            self._waiting,
            key,
            (key[0], parent_id) if parent_id else None,
            None if item is None else (place, item),
            is_usable=isinstance(item, Row),
        )
        return None

    def settled(self, keep: int = WAITING_MAX) -> Iterator[Placed]:
        """The items that wait no longer; those around others as skips."""
        for (place, item), is_nested in self._innermost.settle(self._waiting, keep):
            yield place, Skip("nested") if is_nested else item
