"""A lock between the threads of one process that keeps the order of asking and knows a deadline.

`threading.Lock` gives whoever comes first the lock, so a thread that waits can starve. And whoever
was just given it may be stopped before it can note that: Ctrl-C, or an exception from a signal
handler, comes between any two calls. Such a lock would stay taken for good. So here the claim is
made before the lock is asked for: a `Turn`, which its thread ends by setting `over`, a store that
nothing can come between. The lock belongs to the newest turn, and is free once that is over.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from threading import Lock
from time import monotonic

_LOOK_EVERY_S = 0.05
"""How often a waiting thread looks by itself, in case the one before was stopped before it rang."""

_HEIR = "heir"


class Turn:
    """A claim to the lock, from before it is asked for until it is `over`.

    Attributes:
        over: set by its thread at the end, whatever happens.
        thread: whose it is, by `get_ident()`; 0 where nobody needs to know.
        granted: whether the file of a `WriterLock` was locked for it.
        heirs: holds the one turn that has the lock after this one.
    """

    __slots__ = ("bell", "granted", "heirs", "over", "thread")

    def __init__(self, thread: int = 0) -> None:
        """Claim nothing yet."""
        self.thread = thread
        self.over = False
        self.granted = False
        self.heirs: dict[str, Turn] = {}
        self.bell: Lock | None = None

    def listen(self, timeout_s: float) -> None:
        """Wait until somebody rings; perhaps somebody has, before."""
        if self.bell is None:
            bell = Lock()
            bell.acquire()
            self.bell = bell
        else:
            self.bell.acquire(timeout=timeout_s)

    def ring(self) -> None:
        """Wake who listens; it looks for itself whether its time has come."""
        if self.bell is not None:
            with suppress(RuntimeError):  # it was rung before, and nobody has listened since
                self.bell.release()


_ENDED = Turn()
_ENDED.over = True
_PASSED: dict[str, Turn] = {_HEIR: _ENDED}
"""The heirs of a turn that the lock has left behind: one that is kept shall not keep all later."""


class FairLock:
    """A lock inside one process that is handed on in the order of asking.

    Turns form a chain: the lock goes to whoever becomes the heir of the newest turn once that is
    over, and a dict can have only one heir (`setdefault` is one step). Whoever comes to wait
    enters the queue first and then looks whether the lock is free; whoever ends a turn then looks
    at the queue. One of the two always sees the other.
    """

    def __init__(self) -> None:
        """Start free."""
        self.last = Turn()
        self.last.over = True
        self.waiters: deque[Turn] = deque()

    def newest(self) -> Turn:
        """The turn that has the lock, or had it last."""
        turn = self.last
        while (heir := turn.heirs.get(_HEIR)) is not None:
            # A claim that was stopped in the middle is not noted in `last`.
            turn = self.last if heir is _ENDED else heir
        return turn

    def take(self, turn: Turn) -> bool:
        """Take the lock if it is free, whoever waits."""
        newest = self.last
        if newest.heirs:
            newest = self.newest()
        if not newest.over or newest.heirs.setdefault(_HEIR, turn) is not turn:
            return False
        self.last = turn
        newest.heirs = _PASSED
        return True

    def acquire(self, deadline: float, turn: Turn | None = None) -> bool:
        """Wait until the lock is ours, or until `monotonic()` reaches the deadline."""
        turn = Turn() if turn is None else turn
        if not self.waiters and self.take(turn):
            return True
        self.waiters.append(turn)
        try:
            while not (self._is_first(turn) and self.take(turn)):
                left_s = deadline - monotonic()
                if left_s <= 0.0:
                    return False
                turn.listen(min(left_s, _LOOK_EVERY_S))
            return True
        finally:
            self._leave(turn)

    def _is_first(self, turn: Turn) -> bool:
        first = self.waiters[0]
        while first is not turn and first.over:  # it was stopped before it could leave
            self._remove(first)
            first = self.waiters[0]
        return first is turn

    def _leave(self, turn: Turn) -> None:
        self._remove(turn)
        if self.waiters and self.newest().over:
            self.wake()

    def _remove(self, turn: Turn) -> None:
        with suppress(ValueError):  # another thread has just removed it
            self.waiters.remove(turn)

    def release(self) -> None:
        """End the turn that has the lock, and wake whoever has waited longest."""
        self.newest().over = True
        self.wake()

    def wake(self) -> None:
        """Let whoever has waited longest look whether the lock is free."""
        with suppress(IndexError):  # nobody waits
            self.waiters[0].ring()

    def is_of(self, thread: int) -> bool:
        """Whether a thread has the lock, or waits for it."""
        return any(
            turn.thread == thread and not turn.over for turn in (self.newest(), *list(self.waiters))
        )
