"""The course of a model's calls: predicted beside measured, one call after the other.

Calls come in bursts: on an axis of time they would lie on top of each other, with nothing between.
So they are drawn in the order of recording, as far apart as they are many, and times are told
below. Where there are more calls than places, neighbours share one.
"""

from __future__ import annotations

from array import array
from statistics import median
from typing import TYPE_CHECKING

from calibration_ledger.core.charts import Axis, Panel, Series

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from calibration_ledger.core.values import Call

TAIL = 0.1
"""Of calls that share a place, the tenth part at either end is left out of the range."""


FEW = 9.95
"""Below, one decimal is told of calls in a column."""

AXIS = 8
"""About how many columns the axis of latencies takes."""


class Course:
    """The calls of one model, as they come.

    Attributes:
        voided: how many were voided: nothing is drawn of them.
    """

    def __init__(self) -> None:
        """Begin without a call."""
        self._actual_ms = array("d")
        self._predicted_ms = array("d")
        self._is_timeout = bytearray()
        self._called_at: list[datetime] = []
        self.voided = 0

    def __len__(self) -> int:
        """How many calls there are to draw."""
        return len(self._actual_ms)

    def add(self, call: Call) -> None:
        """Take one more call, a later one."""
        assert call.called_at is not None  # noqa: S101 - it was recorded
        assert call.predicted_ms is not None  # noqa: S101 - likewise
        if call.voided:
            self.voided += 1
            return
        self._actual_ms.append(call.actual_ms)
        self._predicted_ms.append(call.predicted_ms)
        self._is_timeout.append(call.outcome != "ok")
        self._called_at.append(call.called_at)

    def places(self, width: int) -> int:
        """How many places there are in so many columns: a column each, or every second one."""
        room = width - AXIS
        return len(self) if len(self) <= room else room // 2

    def times(self, places: int) -> list[datetime]:
        """When the first call of each place was made."""
        return [self._called_at[start] for start, _ in self._stretches(places)]

    def panel(self, places: int) -> Panel:
        """What is drawn, at `places` places at the most, which are numbered from 0."""
        stretches = self._stretches(places)
        learnt: list[tuple[float, float, float, float]] = []
        given_up: list[tuple[float, float]] = []
        predicted: list[tuple[float, float]] = []
        for place, (start, end) in enumerate(stretches):
            actual = sorted(self._of(self._actual_ms, start, end, timeouts=False))
            if actual:
                cut = int(len(actual) * TAIL)
                learnt.append((place, median(actual), actual[cut], actual[-1 - cut]))
            late = self._of(self._actual_ms, start, end, timeouts=True)
            given_up += [(place, max(late))] if late else []
            predicted.append((place, median(self._predicted_ms[start:end])))
        is_shared = len(stretches) < len(self)
        series = [_points("predicted", predicted), _measured(learnt, is_shared=is_shared)]
        if given_up:
            series.append(_points("given up after", given_up))
        axis = Axis("calls in their order, with the time of some")
        return Panel(_title(len(self), len(stretches)), axis, Axis("latency", "ms"), tuple(series))

    def _stretches(self, places: int) -> list[tuple[int, int]]:
        n = len(self)
        shared = min(n, places)
        return [(at * n // shared, (at + 1) * n // shared) for at in range(shared)]

    def _of(self, values: Sequence[float], start: int, end: int, *, timeouts: bool) -> list[float]:
        return [values[at] for at in range(start, end) if self._is_timeout[at] == timeouts]


def _title(calls: int, places: int) -> str:
    if calls == places:
        return f"{calls} call{'s' * (calls != 1)}"
    each = f"{calls / places:.{1 if calls / places < FEW else 0}f}"
    return (
        f"{calls} calls, some {each} in each column: their medians, and lines from the 10th to the "
        f"90th percentile of what was measured"
    )


def _points(name: str, points: Sequence[tuple[float, float]]) -> Series:
    return Series(name, "points", tuple(x for x, _ in points), tuple(y for _, y in points))


def _measured(points: Sequence[tuple[float, float, float, float]], *, is_shared: bool) -> Series:
    x, y, low, high = zip(*points, strict=True) if points else ((), (), (), ())
    return Series("measured", "points", x, y, low * is_shared, high * is_shared)
