"""`flock`, where there is one."""

from __future__ import annotations

import sys

if sys.platform == "win32":  # SQLite's busy handler serves, behind the lock inside the process
    LOCK_EX = LOCK_NB = LOCK_UN = 0

    def flock(descriptor: int, operation: int, /) -> None:
        """Lock nothing."""
else:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock

__all__ = ["LOCK_EX", "LOCK_NB", "LOCK_UN", "flock"]
