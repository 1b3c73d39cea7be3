"""No SQLite connection crosses a fork, not even one that nobody uses.

It is not enough that a child leaves inherited connections alone. SQLite remembers in the memory of
a process which locks it holds, and a child inherits that memory, but not the locks. A connection
that the child opens then seems protected and is not: when the parent closes the ledger, it deletes
the write-ahead log under the child, whose calls are lost without an error (measured). And where
another thread was in the middle of a write, the child finds the ledger locked for ever.

So before a fork every connection of ours is closed, each between two calls; parent and child open
their own when they need them. Where a call does not end in time, or the fork comes out of the
middle of a call (a signal handler), the child cannot use SQLite ledgers, and is told so.

This does not take the writers' lock. The last connection to close checkpoints, but only under a
lock of SQLite's own on the whole file, which it gets only where no other process has it open. So
nobody can write at that instant, and a fork waits for no writer that stands still.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import contextmanager, suppress
from time import monotonic, sleep
from typing import TYPE_CHECKING, Protocol

from calibration_ledger.errors import LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.storage.sqlite.lock import WriterLock


WAIT_S = 30.0
"""How long a fork waits for calls under way; only an upgrade of a large ledger takes longer."""

_POLL_EVERY_S = 0.002


class Pausable(Protocol):
    """What holds connections over several calls."""

    def pause(self, deadline: float) -> bool:
        """Close them all, each between two calls, and open none; False: not in time."""

    def resume(self) -> None:
        """Open connections again when they are needed."""


pausables: weakref.WeakSet[Pausable] = weakref.WeakSet()
"""All of this process."""

_paused: list[Pausable] = []
_mutex = threading.RLock()
_passing: list[int] = []  # the threads inside `no_fork`
_is_quiet = True
_unsafe = False


@contextmanager
def no_fork() -> Iterator[None]:
    """Hold forks off while a connection is open that ends with the block."""
    me = threading.get_ident()
    check_safe()
    if me in _passing:
        _passing.append(me)  # without the mutex: a fork that holds it may wait for this thread
    else:
        with _mutex:
            _passing.append(me)
    try:
        yield
    finally:
        _passing.remove(me)


def check_safe() -> None:
    """Refuse to open a connection where SQLite's memory is a copy of another process's.

    Raises:
        LedgerError: this process was forked in the middle of a call.
    """
    if _unsafe:
        raise LedgerError(
            "this process was forked while the ledger was in use, and SQLite does not survive that",
            stayed="nothing was recorded",
            advice="fork at another moment, or start processes with spawn",
        )


# -- the open backends of this process ------------------------------------------------------


class _Forked(Protocol):
    def after_fork_in_child(self) -> None:
        """Put what was inherited aside: a child must neither use nor close it."""

    def close(self) -> None:
        """Close every connection."""


class Forgotten(_Forked, Protocol):
    """One that was dropped, or could not be closed, and has written."""

    def close_under(self, held: WriterLock) -> bool:
        """Close every connection, if its lock is `held`, or free; False: it is neither."""


open_backends: weakref.WeakSet[_Forked] = weakref.WeakSet()

forgotten: list[Forgotten] = []
"""Those that were dropped without being closed. The garbage collector may come in the middle of a
write, when their lock cannot be taken. As each keeps files open, whoever writes next, to any
ledger, closes them."""


def close_forgotten(held: WriterLock) -> None:
    """Close those whose lock is `held`, or free."""
    for backend in forgotten[:]:
        if backend.close_under(held):
            with suppress(ValueError):  # another thread was as quick
                forgotten.remove(backend)


@atexit.register
def _close_all() -> None:
    """Close what programs left open: the checkpoint of a last connection needs its lock."""
    for backend in [*open_backends, *forgotten]:
        backend.close()


# -- at a fork ------------------------------------------------------------------------------


def _before() -> None:
    global _is_quiet  # noqa: PLW0603 - for the child
    deadline = monotonic() + WAIT_S
    _mutex.acquire()
    _is_quiet = _wait_for_calls(deadline)
    for pausable in list(pausables):
        _paused.append(pausable)
        _is_quiet = pausable.pause(deadline) and _is_quiet


def _wait_for_calls(deadline: float) -> bool:
    me = threading.get_ident()
    while set(_passing) - {me} and monotonic() < deadline:
        sleep(_POLL_EVERY_S)
    return not _passing


def _after_in_parent() -> None:
    while _paused:
        _paused.pop().resume()
    _mutex.release()


def _after_in_child() -> None:
    global _mutex, _unsafe  # noqa: PLW0603 - of the whole process, as SQLite's memory is
    _mutex = threading.RLock()  # other threads may have waited for it
    _unsafe = _unsafe or not _is_quiet
    _passing.clear()
    while _paused:
        _paused.pop().resume()
    for backend in list(open_backends):
        backend.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
