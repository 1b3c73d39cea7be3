"""Values as people read them. Pure: nothing here prints."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from calibration_ledger.core.visible import is_visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from calibration_ledger.core.values import DefaultRule

_LAST_S = datetime.max.replace(microsecond=0, tzinfo=UTC).timestamp()

_FIXED_BELOW = 1e9
"""Larger numbers are no latencies: they are shown with four digits and an exponent."""


def escape(text: str) -> str:
    """The text with whatever a terminal would obey, or not show, written out as an escape.

    Model names come from files and from other programs: one that holds the code for "clear the
    screen", a line break or a switch of the writing direction must not get to use it.
    """
    if is_visible(text):
        return text
    return "".join(
        char if is_visible(char) else char.encode("unicode_escape").decode() for char in text
    )


def number(value: float | None, digits: int = 1) -> str:
    """A number with this many decimals; `-` for none."""
    if value is None or math.isnan(value):
        return "-"
    shown = f"{value:.{digits}f}" if abs(value) < _FIXED_BELOW else f"{value:.4g}"
    return shown.removeprefix("-") if float(shown) == 0.0 else shown  # nobody says minus zero


def coefficient(value: float | None, floor: float | None, digits: int, about: str = "≈") -> str:
    """A coefficient; `≈ 0` where it is as small as its rule lets it be.

    Args:
        value: the coefficient; None: there is none.
        floor: what it is at least; None: it is not learnt yet.
        digits: how many decimals others have.
        about: the sign, `~` where "≈" cannot be shown.
    """
    if value is not None and floor is not None and value <= floor:
        return f"{about} 0"
    return number(value, digits)


def signed(value: float | None, digits: int = 1) -> str:
    """The same, always with its sign."""
    text = number(value, digits)
    return text if text.startswith("-") else f"+{text}"


def percent(value: float | None) -> str:
    """A percentage, with one decimal below 100."""
    text = number(value, 1 if value is not None and abs(value) < 100 else 0)  # noqa: PLR2004 - percent
    return text if text == "-" else f"{text} %"


def within(value: float | None) -> str:
    """How far from a prediction, in percent: `± 12 %`; `-` where that has no end."""
    value = None if value == math.inf else value  # 1e300 ms predicted, and 0.001 ms taken
    text = number(value, 1 if value is not None and value < 9.95 else 0)  # noqa: PLR2004 - percent
    return text if text == "-" else f"± {text} %"


def times(factor: float | None) -> str:
    """How many times as long something took: `1.52 x`."""
    text = number(factor, 2)
    return text if text == "-" else f"{text} x"


def signed_percent(value: float) -> str:
    """The same, always with its sign."""
    text = percent(value)
    return text if text.startswith("-") else f"+{text}"


def duration(milliseconds: float) -> str:  # noqa: PLR0911 - one for each unit
    """A duration for people: `850 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`."""
    if milliseconds < 9.95:  # noqa: PLR2004 - what would round to 10.0
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:  # noqa: PLR2004 - what would round to 1000
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:  # noqa: PLR2004 - what would round to 60.0 s
        return f"{milliseconds / 1000:.1f} s"
    if milliseconds >= _FIXED_BELOW:
        return f"{milliseconds / 3_600_000:.3g} h"
    if math.isnan(milliseconds):
        return "-"
    seconds = round(milliseconds / 1000)
    if seconds < 3600:  # noqa: PLR2004 - an hour
        return f"{seconds // 60} min {seconds % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def exact(milliseconds: float) -> str:
    """A duration that is compared with others: `1989.5 ms`; from 10 s on, `12.3 s`."""
    if milliseconds < 9_999.95:  # noqa: PLR2004 - what would round to 10 s
        return f"{number(milliseconds)} ms"
    return duration(milliseconds)


def span(low_ms: float, high_ms: float) -> str:
    """A range of durations: `1.9 to 4.1 s`; `about 2.0 s` where both look the same."""
    low, high = duration(low_ms), duration(high_ms)
    if low == high:
        return f"about {low}"
    if high.endswith(" s") and " min " not in high and low_ms >= 50.0:  # noqa: PLR2004 - 0.1 s
        return f"{low_ms / 1000:.1f} to {high}"
    if high.endswith(" ms"):
        low = low.removesuffix(" ms")
    return f"{low} to {high}"


def age(seconds: float) -> str:
    """How long ago something was: `just now`, `40 s ago`, `5 min ago`."""
    if seconds < 0.0:
        return "in the future"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return "just now" if seconds < 10.0 else f"{seconds:.0f} s ago"  # noqa: PLR2004 - seconds


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 call`, `2 calls`, `2 entries`."""
    return f"{n} {noun if n == 1 else plural or noun + 's'}"


def time(time: datetime) -> str:
    """A time for people, to the millisecond, in a form that `--since` reads."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


def time_of(seconds: float | None) -> str:
    """A time in seconds since the epoch, to the second; `-` where there is none."""
    if seconds is None:
        return "-"
    return f"{moment_of(seconds):%Y-%m-%dT%H:%M:%S}Z"


def moment_of(seconds: float) -> datetime:
    """A time in seconds since the epoch, in UTC."""
    # A float of seconds rounds the last microseconds of the year 9999 up to one that has no date.
    return datetime.fromtimestamp(min(seconds, _LAST_S), UTC)


def rule(found: DefaultRule, told: Callable[[datetime], str]) -> str:
    """What new models learn by, and since when; `told` says a time."""
    since = "no other was ever set" if found.since is None else f"since {told(found.since)}"
    return f"{found.rule}, alpha {found.alpha:g} ({since})"
