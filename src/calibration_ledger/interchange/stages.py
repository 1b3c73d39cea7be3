"""What an import is doing while it counts its steps, for who shows that to somebody.

A `progress` is any function of a number of steps. One that has a method `begin` as well is told
what the steps that follow are, such as "lines read", and of the checking in between, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration_ledger.replay import Progress


def begin(progress: Progress, steps: str) -> None:
    """Say what the steps that follow are."""
    told = getattr(progress, "begin", None)
    if told is not None:
        told(steps)


def for_checks(progress: Progress) -> Progress:
    """Where to count what is neither read nor recorded: whoever asked for plain steps does not."""
    return progress if hasattr(progress, "begin") else lambda _: None
