"""Calls counted in cells: what a chart shows of a history of any length, in bounded memory.

Nobody knows beforehand how many calls there will be, when, or how long they take. So the cells of a
grid start small, and once there are too many, neighbours become one. On a logarithmic axis the
place of a number is its leading bits, as in `figures.Histogram`; on an axis of time, places are as
long as people count time: seconds, minutes, hours, days, weeks.
"""

from __future__ import annotations

import math
import struct
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from itertools import accumulate, compress
from sys import float_info
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from calibration_ledger.core.drift import ratio_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from calibration_ledger.core.replay import Window

SECOND_US = 1_000_000
_STEPS = (5, 3, 4, 5, 3, 4, 3, 2, 2, 2, 7)
"""From one width to the next: 1, 5, 15 s, 1, 5, 15 min, 1, 3, 6, 12 h, a day, a week."""

DAY_US = 86_400 * SECOND_US

_FRACTION = 52
"""The bits of a binary64 number behind those of its exponent."""


class Calls:
    """Some calls, column by column, and where they lie on the axes of grids.

    `fast.arrays.ArrayCalls` is the same of arrays.
    """

    def __init__(
        self,
        called_at: Sequence[int],
        prompt_tokens: Sequence[int],
        completion_tokens: Sequence[int],
        actual_ms: Sequence[float],
        predicted_ms: Sequence[float],
    ) -> None:
        """Take them as they are."""
        self.called_at = called_at
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.actual_ms = actual_ms
        self.predicted_ms = predicted_ms

    @classmethod
    def of(cls, columns: Sequence[Sequence[Any]]) -> Calls:
        """These columns, in the order of the attributes."""
        return Calls(*columns)

    @classmethod
    def joined(cls, some: Sequence[Calls]) -> Calls:
        """All of these, one behind the other; there must be one."""
        if len(some) == 1:
            return some[0]
        columns = zip(*(one.columns() for one in some), strict=True)
        return Calls(*([value for part in parts for value in part] for parts in columns))

    def where(self, held: Sequence[bool]) -> Calls:
        """Those where this holds."""
        return Calls(*([*compress(column, held)] for column in self.columns()))

    def within(self, window: Window) -> Calls:
        """Those in a window."""
        return self.where(window.holds(self.called_at))

    def earliest(self) -> int:
        """When the earliest was made; there must be one."""
        return min(self.called_at)

    def latest(self) -> int:
        """When the latest was made; there must be one."""
        return max(self.called_at)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.actual_ms)

    def ratios(self) -> Sequence[float]:
        """Actual over predicted."""
        return [*map(ratio_of, self.actual_ms, self.predicted_ms)]

    def speeds(self) -> Calls:
        """Those with completion tokens and a time; `actual_ms` is their tokens in a second."""
        kept = [
            row
            for row in zip(*self.columns(), strict=True)
            if row[2] and row[3]  # completion tokens, actual ms
        ]
        speeds = [1000.0 * completion / actual for _, _, completion, actual, _ in kept]
        columns = [*zip(*kept, strict=True)] or [()] * len(self.columns())
        return Calls(columns[0], columns[1], columns[2], speeds, columns[4])

    def columns(self) -> tuple[Sequence[Any], ...]:
        """The columns, in the order of the attributes."""
        return (
            self.called_at,
            self.prompt_tokens,
            self.completion_tokens,
            self.actual_ms,
            self.predicted_ms,
        )

    def leading_bits(self, values: Sequence[float], shift: int, added: int) -> Sequence[int]:
        """The bits of numbers >= 0, with this added, without the last ones."""
        bits = memoryview(array("d", values)).cast("B").cast("Q")
        return [(one + added) >> shift for one in bits]

    def times(self, width_us: int) -> Sequence[int]:
        """In which stretch of time each was made."""
        return [at // width_us for at in self.called_at]

    def count(self, xs: Sequence[int], ys: Sequence[int]) -> Iterable[tuple[tuple[int, int], int]]:
        """How many calls are at each pair of places."""
        return Counter(zip(xs, ys, strict=True)).items()


class Places(Protocol):
    """Where calls lie on one axis."""

    def of(self, calls: Calls) -> Sequence[int]:
        """The place of each call."""

    def widen(self) -> int:
        """Make each place wider; gives how many of the old ones are one now."""

    def low(self, place: int) -> float:
        """The lower edge of a place."""

    def high(self, place: int) -> float:
        """The upper edge."""

    def middle(self, place: int) -> float:
        """What stands for all values there."""


class Logs:
    """Places of positive numbers, each as wide as a share of itself; 0 has its own.

    Where they are `centred`, what stands for a place is a number with few digits, such as 1 itself.
    """

    def __init__(self, what: str, kept: int, *, is_centred: bool = False) -> None:
        """Of this column of calls, with 2 ** kept places to each power of two at first."""
        self.what = what
        self.shift = _FRACTION - kept
        self.is_centred = is_centred

    def of(self, calls: Calls) -> Sequence[int]:
        """See `Places`."""
        values = calls.ratios() if self.what == "ratio" else getattr(calls, self.what)
        return calls.leading_bits(values, self.shift, self._half())

    def _half(self) -> int:
        return 1 << (self.shift - 1) if self.is_centred else 0

    def widen(self) -> int:
        """See `Places`."""
        self.shift += 1
        return 2

    def low(self, place: int) -> float:
        """See `Places`."""
        return _number((place << self.shift) - (self._half() if place else 0))

    def high(self, place: int) -> float:
        """See `Places`."""
        return _number(((place + 1) << self.shift) - self._half())

    def middle(self, place: int) -> float:
        """See `Places`."""
        half = 0 if self.is_centred or not place else 1 << (self.shift - 1)
        return _number((place << self.shift) + half)


def _number(bits: int) -> float:
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value) if math.isfinite(value) else float_info.max


class Times:
    """Stretches of time, in seconds since 1970."""

    def __init__(self, width_us: int = SECOND_US) -> None:
        """With stretches of this width at first."""
        self._steps = iter(_steps_from(width_us))
        self.width_us = width_us

    def of(self, calls: Calls) -> Sequence[int]:
        """See `Places`."""
        return calls.times(self.width_us)

    def widen(self) -> int:
        """See `Places`."""
        step = next(self._steps)
        self.width_us *= step
        return step

    def low(self, place: int) -> float:
        """See `Places`."""
        return place * self.width_us / SECOND_US

    def high(self, place: int) -> float:
        """See `Places`."""
        return (place + 1) * self.width_us / SECOND_US

    def middle(self, place: int) -> float:
        """See `Places`."""
        return (place + 0.5) * self.width_us / SECOND_US


def _steps_from(width_us: int) -> Iterator[int]:
    so_far = SECOND_US
    for step in _STEPS:
        so_far *= step
        if so_far > width_us:
            yield step
    while True:
        yield 2


class Grid:
    """How many calls lie in each cell.

    Attributes:
        x: the places of the columns.
        y: the places in a column.
        columns: of each column, how many calls lie at each place.
    """

    x: Places

    def __init__(self, x: Places, y: Places, columns_most: int, cells_most: int) -> None:
        """Start with no call, and bounds that hold for any number of calls."""
        self.x, self.y = x, y
        self.columns: Columns = _columns()
        self.columns_most, self._cells_most = columns_most, cells_most

    def add(self, calls: Calls) -> None:
        """Count some calls."""
        if not len(calls):
            return
        self.make_room(calls)
        for (i, j), count in calls.count(self.x.of(calls), self.y.of(calls)):
            self.columns[i][j] += count
        while len(self.columns) > self.columns_most:
            self.widen_x()
        while sum(map(len, self.columns.values())) > self._cells_most:
            self.widen_cells()

    def make_room(self, calls: Calls) -> None:
        """Make the columns as wide as it takes, as far as that can be told beforehand."""

    def widen_x(self) -> None:
        """Make each column wider."""
        step = self.x.widen()
        before, self.columns = self.columns, _columns()
        for i, counts in before.items():
            wider = self.columns[i // step]
            for j, count in counts.items():
                wider[j] += count

    def widen_cells(self) -> None:
        """Make each cell wider: the columns stay, for quantiles of each."""
        step = self.y.widen()
        for i, counts in self.columns.items():
            wider: defaultdict[int, int] = defaultdict(int)
            self.columns[i] = wider
            for j, count in counts.items():
                wider[j // step] += count

    def total(self) -> int:
        """How many calls were counted."""
        return sum(self.count(i) for i in self.columns)

    def count(self, i: int) -> int:
        """How many are in a column."""
        return sum(self.columns[i].values())

    def whole(self) -> Mapping[int, int]:
        """How many calls lie at each place of y, in all columns together."""
        found: defaultdict[int, int] = defaultdict(int)
        for counts in self.columns.values():
            for j, count in counts.items():
                found[j] += count
        return found

    def quantiles(self, counts: Mapping[int, int], levels: Sequence[float]) -> list[float]:
        """The values at these levels, in rising order, of calls at these places of y; by rank."""
        places = sorted(counts)
        ranks = [*accumulate(map(counts.__getitem__, places))]
        wanted = (bisect_left(ranks, max(1, math.ceil(level * ranks[-1]))) for level in levels)
        return [self.y.middle(places[at]) for at in wanted]


class Plane(Grid):
    """A grid of cells to be seen, which are as wide as high."""

    x: Logs
    y: Logs

    def widen_cells(self) -> None:
        """See `Grid`: the finer of the two sides first."""
        if self.x.shift <= self.y.shift:
            self.widen_x()
        else:
            super().widen_cells()


Columns: TypeAlias = "defaultdict[int, defaultdict[int, int]]"


def _columns() -> Columns:
    return defaultdict(lambda: defaultdict(int))


class TimeGrid(Grid):
    """A grid whose columns are stretches of time, no more than there is room for from the first."""

    x: Times

    def __init__(
        self, y: Places, columns_most: int, cells_most: int, width: int = SECOND_US
    ) -> None:
        """See `Grid`; the columns are of this width at first, in microseconds."""
        super().__init__(Times(width), y, columns_most, cells_most)
        self._ends: tuple[int, int] | None = None

    def make_room(self, calls: Calls) -> None:
        """See `Grid`."""
        first, last = calls.earliest(), calls.latest()
        if self._ends is not None:
            first, last = min(first, self._ends[0]), max(last, self._ends[1])
        self._ends = (first, last)
        while last // self.x.width_us - first // self.x.width_us >= self.columns_most:
            self.widen_x()

    def is_moment(self) -> bool:
        """Whether all calls have one time."""
        return self._ends is not None and self._ends[0] == self._ends[1]

    def align(self, other: TimeGrid) -> None:
        """Give two grids columns of the same width."""
        for one, wider in ((self, other), (other, self)):
            while one.x.width_us < wider.x.width_us:
                one.widen_x()

    def middle(self, i: int) -> float:
        """The middle of a column, in seconds, between the first and the last call."""
        first, last = self._ends or (0, 0)
        return min(max(self.x.middle(i), first / SECOND_US), last / SECOND_US)
