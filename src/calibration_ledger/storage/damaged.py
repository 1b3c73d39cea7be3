"""Reading rows by their key from tables of which some pages cannot be read.

SQLite reports a damaged page when a query gets there. Rows on either side of it lie on pages of
their own, and a query that starts behind it finds its way past: so a walk goes on behind an error,
at the first key from where reading works again. Rows themselves may be garbage: whoever asked
checks them, and only the order of the keys is relied upon here.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from calibration_ledger.storage.faults import DRIVER_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE = 500
"""Rows to a page, as in `reads`."""

STRIDE = 8
"""Behind an error, every eighth key is tried, and the exact one found by halving. A page holds
fifty calls and more, so no readable one is stepped over."""

GROWTH = 16
"""Where the last key is only a guess, the stride grows to this part of the way, so that looking
for an end that is not there does not take as many tries as a file could hold rows."""

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB})
_PRIMARY = 0xFF


class OutOfOrder(Exception):  # noqa: N818 - a signal inside this module
    """A page gave rows that do not belong where they were found."""


def is_damage(error: Exception) -> bool:
    """Whether one of `DRIVER_ERRORS` means that a page cannot be read, not that nothing can now."""
    if isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error):
        return True  # of a name in the schema, or in a message of SQLite's about it
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    return code in _DAMAGE or (code == sqlite3.SQLITE_ERROR and "no such table" in str(error))


class Walk:
    """A walk over the rows of one table with `after < key <= through`, in order.

    Attributes:
        skipped: the ranges (first, last) of keys behind which reading went on.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        text: str,
        fixed: Sequence[Any],
        after: int,
        through: int,
        *,
        is_guess: bool = False,
    ) -> None:
        """Prepare a walk.

        Args:
            connection: only reads.
            text: a query whose first column is the key; it binds `fixed`, then the key to start
                behind, the last key, and a limit.
            fixed: its first parameters.
            after: the key to start behind.
            through: the last key.
            is_guess: whether the last key may be far behind the last row.
        """
        self._connection = connection
        self._text = text
        self._fixed = tuple(fixed)
        self._after = after
        self._through = through
        self._is_guess = is_guess
        self.skipped: list[tuple[int, int]] = []

    def pages(self) -> Iterator[list[Any]]:
        """The rows that can be read.

        Raises:
            sqlite3.Error: nothing can be read for another reason than damage.
        """
        after = self._after
        while after < self._through:
            rows, is_sound = self._read(after, PAGE)
            if rows:
                yield rows
                after = rows[-1][0]
            if not is_sound and after < self._through:
                behind = self._behind_damage(after)
                self.skipped.append((after + 1, behind))
                after = behind
            elif len(rows) < PAGE:
                return

    def _read(self, after: int, limit: int) -> tuple[list[Any], bool]:
        """The rows up to the first that cannot be read, and whether there was none such."""
        rows: list[Any] = []
        found = after
        try:
            cursor = self._connection.execute(
                self._text, (*self._fixed, after, self._through, limit)
            )
            for row in cursor:
                _check_order(row[0], found, self._through)
                found = row[0]
                rows.append(row)
        except DRIVER_ERRORS as error:
            if not is_damage(error):
                raise
            return rows, False
        except OutOfOrder:
            return rows, False
        return rows, True

    def _behind_damage(self, after: int) -> int:
        """The key from behind which reading works again; `through` where it does not."""
        bad, good = after, after
        while True:
            stride = max(STRIDE, (bad - after) // GROWTH) if self._is_guess else STRIDE
            good = min(bad + stride, self._through)
            if good == self._through or self._read(good, 1)[1]:
                break
            bad = good
        while good - bad > 1:
            middle = (good + bad) // 2
            if self._read(middle, 1)[1]:
                good = middle
            else:
                bad = middle
        return good


def _check_order(key: object, after: int, through: int) -> None:
    if type(key) is not int or not after < key <= through:
        raise OutOfOrder
