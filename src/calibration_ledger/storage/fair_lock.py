"""A lock between the threads of one process that keeps the order of asking and knows a deadline.

`threading.Lock` gives whoever comes first the lock, so a thread that waits can starve. Ctrl-C may
stop the main thread between any two calls, so each step leaves the lock with somebody or free.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic


class FairLock:
    """A lock inside one process that is handed on in the order of asking.

    While anybody waits, the inner lock is not set free but handed over, so that nobody slips in.
    Whoever comes to wait enters the queue first and then looks whether the lock is free; whoever
    sets it free then looks at the queue. One of the two always sees the other.
    """

    def __init__(self) -> None:
        """Start free."""
        self.held = threading.Lock()  # `held.acquire(False)` takes the lock if it is free
        self._mutex = threading.Lock()  # to take out of the queue
        self.waiters: deque[threading.Lock] = deque()

    def acquire(self, deadline: float) -> bool:
        """Wait until the lock is ours, or until `monotonic()` reaches the deadline."""
        if self.held.acquire(blocking=False):
            return True
        turn = threading.Lock()
        turn.acquire()
        self.waiters.append(turn)
        try:
            self._hand_over_if_free()
            got = turn.acquire(timeout=max(0.0, deadline - monotonic()))
        except BaseException:  # Ctrl-C
            if not self._withdraw(turn):
                self.release()
            raise
        return got or not self._withdraw(turn)

    def _withdraw(self, turn: threading.Lock) -> bool:
        """Leave the queue; False where the lock was handed over in the same moment."""
        with self._mutex:
            if turn in self.waiters:
                self.waiters.remove(turn)
                return True
            return False

    def release(self) -> None:
        """Hand the lock to whoever has waited longest, or set it free."""
        if self.waiters:
            with self._mutex:
                if self.waiters:
                    self.waiters.popleft().release()
                    return
        try:
            self.held.release()
        finally:  # Ctrl-C comes between any two calls
            if self.waiters:
                self._hand_over_if_free()

    def _hand_over_if_free(self) -> None:
        with self._mutex:
            if self.waiters and self.held.acquire(blocking=False):
                self.waiters.popleft().release()
