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
        other = ArrayHistogram(self._array.copy())
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
            used = other._octaves().nonzero()[0]  # noqa: SLF001 - of its own kind
            if len(used):
                some = slice(used[0] << KEPT, (used[-1] + 1) << KEPT)
                self._array[some] += other._array[some]  # noqa: SLF001 - likewise
        self._counts.update(other._counts)  # noqa: SLF001 - likewise
        self._settle()
        return self

    def _settle(self) -> None:
        """Move what was counted elsewhere to the array, where it belongs there."""
        for bucket in [b for b in self._counts if FIRST <= b < FIRST + BUCKETS]:
            self._array[bucket - FIRST] += self._counts.pop(bucket)

    def _octaves(self) -> Any:
        """How many numbers lie in each power of two of the array (see `fast.MOST`)."""
        return self._array.reshape(-1, 1 << KEPT).sum(axis=1, dtype="uint32")

    def total(self) -> int:
        """See `Histogram`."""
        return super().total() + int(self._octaves().sum(dtype="int64"))

    def _bucket_at(self, rank: int) -> int:
        below = {bucket: count for bucket, count in self._counts.items() if bucket < FIRST}
        low = sum(below.values())
        if rank <= low:
            return bucket_at(below, rank)
        up_to = self._octaves().cumsum(dtype="int64")
        octave = int(up_to.searchsorted(rank - low))
        if octave == len(up_to):
            above = {bucket: count for bucket, count in self._counts.items() if bucket >= FIRST}
            return bucket_at(above, rank - low - int(up_to[-1]))
        if octave:
            low += int(up_to[octave - 1])
        start = octave << KEPT
        inside = self._array[start : start + (1 << KEPT)].cumsum(dtype="int64")
        return FIRST + start + int(inside.searchsorted(rank - low))
