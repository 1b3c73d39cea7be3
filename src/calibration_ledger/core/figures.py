"""How well a replay predicted: figures in constant memory, column by column.

Sums run plainly from left to right over all calls, so they depend neither on where a page ends nor
on the Python version (the builtin `sum` of floats became compensated in 3.12), and compiled code
can do the same. Of n calls, they are within n * 1.2e-16 of themselves. The median comes from a
histogram whose buckets are the leading bits of the number itself: 1,024 to each power of two, so
that the middle of a bucket is within 0.05 % of all that lies in it.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections import Counter
from functools import reduce
from itertools import compress, repeat, zip_longest
from operator import add, rshift, sub, truediv
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEPT = 10
"""Of binary64's 52 bits of fraction, those that stay in the number of a bucket."""

SHIFT = 52 - KEPT
"""What a number's bits are shifted by to give its bucket."""

_INFINITY = 0x7FF << KEPT

Packed: TypeAlias = "tuple[array[int], array[int]]"
"""The buckets in order, and how many numbers are in each."""


class Histogram:
    """Counts of positive numbers in buckets of relative width 1/1024, for the median."""

    def __init__(self) -> None:
        """Start empty."""
        self._counts: Counter[int] = Counter()

    def copy(self) -> Histogram:
        """A copy that can go on counting."""
        other = Histogram()
        other._counts = self._counts.copy()
        return other

    def add(self, values: Sequence[float]) -> None:
        """Count finite numbers >= 0."""
        bits = memoryview(array("d", values)).cast("B").cast("Q")
        self._counts.update(map(rshift, bits, repeat(SHIFT)))

    def packed(self) -> Packed:
        """The same in about a tenth of the memory; see `unpacked`."""
        buckets = sorted(self._counts)
        return array("I", buckets), array("Q", map(self._counts.__getitem__, buckets))

    @classmethod
    def unpacked(cls, packed: Packed) -> Histogram:
        """What `packed` gave, to go on counting."""
        made = cls()
        made._counts.update(dict(zip(*packed, strict=True)))
        return made

    def joined(self, other: Histogram) -> Histogram:
        """What both have counted. It may be this one, changed: do not use that again."""
        if type(other) is not Histogram:  # a compiled one for many calls, which takes in these few
            return other.copy().joined(self)
        self._counts.update(other._counts)
        return self

    def total(self) -> int:
        """How many numbers were counted."""
        return self._counts.total()

    def quantile(self, share: float) -> float:
        """The least value that this share of them does not exceed; NaN for none.

        By rank (the inverse of the distribution function), within 0.05 % of itself.
        """
        total = self.total()
        return self._at_rank(max(1, math.ceil(share * total))) if total else math.nan

    def median(self) -> float:
        """The median, within 0.05 %; NaN where nothing was counted.

        If the count is even, it is the mean of the middle two.
        """
        total = self.total()
        if not total:
            return math.nan
        lower, upper = self._at_rank((total + 1) // 2), self._at_rank(total // 2 + 1)
        return lower + (upper - lower) / 2 if lower < upper else lower

    def _at_rank(self, rank: int) -> float:
        """The value at this rank, from 1, of all in order."""
        return middle(self._bucket_at(rank))

    def _bucket_at(self, rank: int) -> int:
        return bucket_at(self._counts, rank)


def bucket_at(counts: Mapping[int, int], rank: int) -> int:
    """The bucket that holds the number of this rank, from 1."""
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return bucket
    raise AssertionError("the counts of the buckets add up to the total")


def middle(bucket: int) -> float:
    """The middle of a bucket; 0 itself is exact."""
    if bucket == 0:
        return 0.0
    if bucket >= _INFINITY:
        return math.inf
    bits = (bucket << SHIFT) | (1 << (SHIFT - 1))
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value)


PARTS = 16
"""Parts of the calls at most, by which two rules and alphas are compared, and no fewer than half as
many where there are calls enough. More would hardly find smaller leads, and would be more alike
(Schmeiser, "Batch Size Effects in the Analysis of Simulation Output", Operations Research 30, 1982,
advises 10 to 30)."""

PART_LEAST = 4
"""Calls to a part: the errors of neighbouring calls are alike, and belong into one."""

Parts: TypeAlias = "list[tuple[int, float]]"
"""Of each part of the calls, in order: how many there are, and the sum of the errors' sizes."""


class Marks:
    """What a running sum was after every so many calls.

    Nobody knows beforehand how many calls there will be. So at first every fourth call has its
    mark; when there would be more marks than `PARTS`, every other one goes.

    Attributes:
        stride: how many calls there are from one mark to the next.
        sums: the sum at each mark.
    """

    def __init__(self) -> None:
        """Start before the first call."""
        self.stride = PART_LEAST
        self.sums: list[float] = []

    def copy(self) -> Marks:
        """A copy that can go on."""
        other = Marks()
        other.stride, other.sums = self.stride, self.sums.copy()
        return other

    def make_room(self, n: int) -> None:
        """Make the stride large enough for `n` calls in all."""
        while n > PARTS * self.stride:
            self.sums = self.sums[1::2]
            self.stride *= 2

    def add(self, n: int, total: float, values: Sequence[float]) -> float:
        """Go on from the sum `total` of `n` values with more values; gives the sum of them all."""
        self.make_room(n + len(values))
        start = 0
        while start < len(values):
            end = start + self.stride - (n + start) % self.stride
            total = reduce(add, values[start:end], total)
            if end <= len(values):
                self.sums.append(total)
            start = end
        return total

    def parts(self, n: int, total: float) -> Parts:
        """The parts of all `n` values; the rest behind the last mark belongs to the last part."""
        if not self.sums:
            return [(n, total)] if n else []
        ends = [*self.sums[:-1], total]
        counts = [self.stride] * (len(ends) - 1)
        counts.append(n - sum(counts))
        return [*zip(counts, map(sub, ends, [0.0, *ends]), strict=False)]


class Accuracy:
    """The running figures of a replay.

    Attributes:
        n: how many calls are in them.
        shares: each error's size as a share of the latency.
        sizes: each error's size in ms; None where they are not kept.
        marks: the sum of these sizes from mark to mark; None likewise, and after a `join`.
    """

    def __init__(self, *, keeps_sizes: bool = False) -> None:
        """Start with no call; `keeps_sizes` for `quantile_absolute_error_ms` and `parts`."""
        self.shares = Histogram()
        self.sizes = Histogram() if keeps_sizes else None
        self.marks = Marks() if keeps_sizes else None
        self._joined: Parts = []
        self.n = 0
        self._absolute = 0.0
        self._signed = 0.0
        self._actual = 0.0

    def copy(self) -> Accuracy:
        """A copy that can go on scoring."""
        other = Accuracy()
        other.n = self.n
        other._absolute, other._signed, other._actual = self._absolute, self._signed, self._actual
        other.shares = self.shares.copy()
        other.sizes = None if self.sizes is None else self.sizes.copy()
        other.marks = None if self.marks is None else self.marks.copy()
        other._joined = self._joined.copy()
        return other

    @property
    def parts(self) -> Parts:
        """The sums of the errors' sizes in parts of the calls; [] if they are not kept."""
        return self._joined if self.marks is None else self.marks.parts(self.n, self._absolute)

    def join(self, other: Accuracy) -> None:
        """Take in the figures of other calls: the first part of theirs to the first part, etc."""
        pairs = zip_longest(self.parts, other.parts, fillvalue=(0, 0.0))
        self._joined = [(n + m, one + two) for (n, one), (m, two) in pairs]
        self.marks = None
        self.n += other.n
        self._absolute += other._absolute
        self._signed += other._signed
        self._actual += other._actual
        self.shares = self.shares.joined(other.shares)
        if self.sizes is not None and other.sizes is not None:
            self.sizes = self.sizes.joined(other.sizes)

    @property
    def sums_ms(self) -> tuple[float, float, float]:
        """The sums so far: of the errors' sizes, of the errors, and of the latencies."""
        return (self._absolute, self._signed, self._actual)

    def go_on(self, n: int, sums_ms: Sequence[float]) -> None:
        """Count `n` calls more that compiled code added; `sums_ms` are the sums with them."""
        self.n += n
        self._absolute, self._signed, self._actual = sums_ms

    def add(
        self,
        actual_ms: Sequence[float],
        predicted_ms: Sequence[float],
        scored: Sequence[bool] | None = None,
    ) -> None:
        """Score a column of calls; `scored` chooses which."""
        if scored is not None:
            actual_ms = list(compress(actual_ms, scored))
            predicted_ms = list(compress(predicted_ms, scored))
        if not actual_ms:
            return
        errors = list(map(sub, actual_ms, predicted_ms))
        absolute = list(map(abs, errors))
        if self.marks is None:
            self._absolute = reduce(add, absolute, self._absolute)
        else:
            self._absolute = self.marks.add(self.n, self._absolute, absolute)
        self.n += len(errors)
        self._signed = reduce(add, errors, self._signed)
        self._actual = reduce(add, actual_ms, self._actual)
        if self.sizes is not None:
            self.sizes.add(absolute)
        if 0.0 in actual_ms:  # no percentage of nothing
            kept = [(e, y) for e, y in zip(absolute, actual_ms, strict=True) if y]
            absolute, actual_ms = [e for e, _ in kept], [y for _, y in kept]
        self.shares.add(list(map(truediv, absolute, actual_ms)))

    def _mean(self, total: float) -> float:
        return total / self.n if self.n else math.nan

    @property
    def mean_absolute_error_ms(self) -> float:
        """The mean of |actual - predicted|."""
        return self._mean(self._absolute)

    @property
    def bias_ms(self) -> float:
        """The mean of actual - predicted."""
        return self._mean(self._signed)

    @property
    def mean_actual_ms(self) -> float:
        """The mean latency."""
        return self._mean(self._actual)

    @property
    def relative_error(self) -> float:
        """The mean absolute error over the mean latency; NaN where that is 0."""
        return self._absolute / self._actual if self._actual else math.nan

    def quantile_absolute_error_ms(self, share: float) -> float:
        """What this share of the errors does not exceed; NaN where their sizes are not kept."""
        return math.nan if self.sizes is None else self.sizes.quantile(share)

    @property
    def median_absolute_percentage_error(self) -> float:
        """The median of 100 * |actual - predicted| / actual."""
        return 100.0 * self.shares.median()
