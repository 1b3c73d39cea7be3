"""Calls that look wrong: from a wrong clock, in another unit, failed and logged as 0.

They are recorded, for nobody but the caller can know; and somebody is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.core.entries import Snapshot

DAY_MS = 86_400_000.0
"""No call of a language model takes longer than 24 h."""

WORST_TIMES = 2_000.0
"""So many times a model's longest call so far is another unit: a thousand, and some room."""

AHEAD_US = 60_000_000
"""A call made so much later than now is in the future: the clocks of machines differ by less."""

FASTEST_MS, SLOWEST_MS = 0.01, 600_000.0
"""No model takes less than 10 us, nor more than 10 min, for a token."""


class Kind(NamedTuple):
    """Why a call looks wrong, as it is said of one and of several."""

    one: str
    several: str


ZERO = Kind("took 0 ms, and has tokens", "with tokens took 0 ms")
LONG = Kind("took more than 24 h", "took more than 24 h")
AHEAD = Kind("was made in the future", "were made in the future")
WORST = Kind(
    "took more than 2,000 times as long as any call of its model before",
    "took more than 2,000 times as long as any call of their model before",
)


class Measured(Protocol):
    """A call that was checked; times in microseconds."""

    @property
    def called_at(self) -> int:
        """When it was made."""

    @property
    def prompt_tokens(self) -> int:
        """The tokens that went in."""

    @property
    def completion_tokens(self) -> int:
        """The tokens that came out."""

    @property
    def actual_ms(self) -> float:
        """How long it took."""

    @property
    def outcome(self) -> str | None:
        """None if it ended; how long a time-out would have taken is not known."""


class Worst:
    """How long a model's longest call so far took; looked up only where it matters."""

    def __init__(self, least_ms: float, look: Callable[[], float | None] | None = None) -> None:
        """Know that it took at least this long; `look` gives it, or None for no call."""
        self._least_ms = least_ms
        self._look = look

    def is_far_below(self, actual_ms: float) -> bool:
        """Whether this is more than 2,000 times as long; False without a call so far."""
        if actual_ms <= WORST_TIMES * self._least_ms:
            return False
        if self._look is not None:
            look, self._look = self._look, None
            self.add(look() or 0.0)
        return 0.0 < WORST_TIMES * self._least_ms < actual_ms

    def covers(self, actual_ms: Sequence[float]) -> bool:
        """Whether none of some calls in a row can be far above; they count from then on."""
        least_ms = self._least_ms
        if not least_ms and self._look is None:
            least_ms = actual_ms[0]
        greatest_ms = max(actual_ms)
        if greatest_ms > WORST_TIMES * least_ms:
            return False
        self.add(greatest_ms)
        return True

    def add(self, actual_ms: float) -> None:
        """Another call took this long."""
        self._least_ms = max(self._least_ms, actual_ms)


def doubt(call: Measured, now: int, worst: Worst) -> Kind | None:
    """Why a call looks wrong; None if it does not. From then on it counts in `worst`."""
    actual_ms = call.actual_ms
    if call.outcome is not None:
        return AHEAD if call.called_at > now + AHEAD_US else None
    is_far = worst.is_far_below(actual_ms)
    worst.add(actual_ms)
    if actual_ms == 0.0:
        return ZERO if call.prompt_tokens or call.completion_tokens else None
    if actual_ms > DAY_MS:
        return LONG
    if call.called_at > now + AHEAD_US:
        return AHEAD
    return WORST if is_far else None


def are_usual(
    called_at: Sequence[int],
    actual_ms: Sequence[float],
    outcomes: Sequence[str | None],
    now: int,
    worst: Worst,
) -> bool:
    """Whether some calls in a row, as columns, need no look one by one; then they count."""
    return (
        outcomes.count(None) == len(outcomes)
        and max(called_at) <= now + AHEAD_US
        and min(actual_ms) > 0.0
        and max(actual_ms) <= DAY_MS
        and worst.covers(actual_ms)
    )


def looks_usual(actual_ms: float, least_ms: float | None) -> bool:
    """Whether a call, made now, needs no further look; `record()` waits for the answer.

    `least_ms` is how long the longest call of its model took at least; None for no call.
    """
    if least_ms is None:
        return False
    return 0.0 < actual_ms <= DAY_MS and actual_ms <= WORST_TIMES * least_ms


def look_usual(calls: Sequence[Measured], least_ms: float | None, now: int) -> bool:
    """Whether several calls of one model, made at any time, need no further look."""
    worst_ms, latest = least_ms, now + AHEAD_US
    if worst_ms is None:
        worst_ms = next((call.actual_ms for call in calls if call.outcome is None), 0.0)
    for call in calls:
        actual_ms = call.actual_ms
        if call.outcome is not None:
            if call.called_at > latest:
                return False
            continue
        if not 0.0 < actual_ms <= WORST_TIMES * worst_ms:
            return False
        if actual_ms > DAY_MS or call.called_at > latest:
            return False
        worst_ms = max(worst_ms, actual_ms)
    return True


def mean_at_least(total_absolute_error_ms: float, total_predicted_ms: float, count: int) -> float:
    """What the mean latency of `count` calls, and so that of the longest, is at least, in ms.

    The sum of all latencies is no less than the difference of the totals, for none is negative.
    """
    return abs(total_absolute_error_ms - total_predicted_ms) / count if count > 0 else 0.0


def worst_at_least(live: Snapshot) -> float:
    """How long the longest call of a calibration took at least, in ms."""
    return mean_at_least(live.total_absolute_error_ms, live.total_predicted_ms, live.sample_count)


class Speeds:
    """Counts the milliseconds a token of a file's calls: is their median absurd?

    Calls of 0 ms or 0 tokens have none, nor have time-outs.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._count = self._fast = self._slow = 0

    def add(self, actual_ms: float, tokens: int) -> None:
        """Count a call that ended."""
        if actual_ms > 0.0 and tokens:
            self._count += 1
            speed = actual_ms / tokens
            if speed < FASTEST_MS:
                self._fast += 1
            elif speed > SLOWEST_MS:
                self._slow += 1

    def unit_doubt(self) -> str | None:
        """What to say if the median (of an even number, the greater one) is absurd; else None."""
        before = self._count // 2
        if self._fast > before:
            speed, unit = f"less than {FASTEST_MS * 1000:g} us", "seconds"
        elif self._slow >= self._count - before and self._count:
            speed, unit = f"more than {SLOWEST_MS / 60_000:g} min", "microseconds or nanoseconds"
        else:
            return None
        return (
            f"half of the calls took {speed} a token, as if actual_ms were in {unit}: it must be "
            f"in milliseconds"
        )
