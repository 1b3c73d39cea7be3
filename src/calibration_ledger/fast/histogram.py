"""A histogram whose common buckets lie in an array, where compiled code counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.figures import KEPT, Histogram, bucket_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEAST_EXPONENT, MOST_EXPONENT = -14, 24
FIRST = (1023 + LEAST_EXPONENT) << KEPT
BUCKETS = (MOST_EXPONENT - LEAST_EXPONENT) << KEPT
"""The buckets in the array: of numbers from 6e-5 to 1.6e7, be they milliseconds or shares. What
lies outside is rare, and counted as `Histogram` does."""


class ArrayHistogram(Histogram):
    """The same counts as `Histogram` keeps; the rare buckets outside of the array as it does."""

    def __init__(self, counts: Any) -> None:
        """Count on in this array of `BUCKETS` whole numbers."""
        super().__init__()
        self._array = counts

    def copy(self) -> ArrayHistogram:
        """See `Histogram`."""
        other = ArrayHistogram(self._array.astype("int64"))  # whatever is joined to it
        other._counts = self._counts.copy()
        return other

    def add(self, values: Sequence[float]) -> None:
        """See `Histogram`."""
        super().add(values)
        self._settle()

    def add_outside(self, buckets: Iterable[int]) -> None:
        """Count numbers whose buckets are outside of the array."""
        self._counts.update(buckets)

    def joined(self, other: Histogram) -> ArrayHistogram:
        """See `Histogram`."""
        if isinstance(other, ArrayHistogram):
            self._array = self._array + other._array  # noqa: SLF001 - of its own kind
        self._counts.update(other._counts)  # noqa: SLF001 - likewise
        self._settle()
        return self

    def _settle(self) -> None:
        """Move what was counted elsewhere to the array, where it belongs there."""
        for bucket in [b for b in self._counts if FIRST <= b < FIRST + BUCKETS]:
            self._array[bucket - FIRST] += self._counts.pop(bucket)

    def total(self) -> int:
        """See `Histogram`."""
        return super().total() + int(self._array.sum(dtype="int64"))

    def _bucket_at(self, rank: int) -> int:
        below = {bucket: count for bucket, count in self._counts.items() if bucket < FIRST}
        above = {bucket: count for bucket, count in self._counts.items() if bucket >= FIRST}
        low = sum(below.values())
        if rank <= low:
            return bucket_at(below, rank)
        rank -= low
        inside = self._array.cumsum(dtype="int64")
        if rank <= inside[-1]:
            return FIRST + int(inside.searchsorted(rank))
        return bucket_at(above, rank - int(inside[-1]))
