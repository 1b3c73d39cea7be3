"""The gate that every SQLite connection of this process passes, so that none crosses a fork.

It is not enough that a child leaves inherited connections alone. SQLite remembers in the memory of
a process which locks it holds, and a child inherits that memory, but not the locks. A connection
that the child opens then seems protected and is not: when the parent closes the ledger, it deletes
the write-ahead log under the child, whose calls are lost without an error (measured). And where
another thread was in the middle of a write, the child finds the ledger locked for ever.

So whatever is open is known here, from before it is opened until it is closed. A fork closes the
gate and then every connection, each between two calls; parent and child open their own when they
need them. A child that finds a connection of its parent's in what it inherited knows that it came
too early, and refuses to open any. It need not trust that the hook before the fork came to its end.

Nothing here takes a lock, so nothing can wait for its own thread. Whoever opens a connection notes
it and then looks at the gate; a fork closes the gate and then looks at what is noted. One of the
two always sees the other. The same holds between a call that uses a connection and who closes it.

Closing takes no writers' lock. The last connection to close checkpoints, but only under a lock of
SQLite's own on the whole file, which it gets only where nobody else has the file open. So nobody
can write at that instant.
"""

from __future__ import annotations

import atexit
import logging  # noqa: F401 - for its hook at a fork, see below
import os
import sqlite3
import sys
import weakref
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from calibration_ledger.errors import LedgerBusyError, LedgerError, ReentrantCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

Result = TypeVar("Result")
Item = TypeVar("Item")

WAIT_S = 30.0
"""How long a fork waits for calls under way; only an upgrade of a large ledger takes longer."""

_POLL_EVERY_S = 0.001

this_process = [os.getpid()]
"""Its id, to be compared at each call: asking the system would take longer than the rest."""

_forking: set[int] = set()
"""The threads that fork at this moment. While there is one, the gate is closed."""


class Pass:
    """What a fork waits for: a connection, or work that must not be cut in two.

    Attributes:
        pid: the process that has it.
        thread: whose it is; a fork out of the middle of its own call must not wait.
        holder: what `close_all` knows its connections by.
        writes: whether it is closed after those that only read: see `close_all`.
        inside: whether the thread is in the middle of it.
        is_retired: whether it is to be closed.
        is_closed: whether it certainly is.
        is_through: whether it has come through the gate; before that, nothing of it is open.
    """

    holder: object = None
    writes = False
    inside = True
    is_retired = is_closed = False
    is_through = False

    def __init__(self) -> None:
        """Let this thread have it."""
        self.pid = os.getpid()
        self.thread = get_ident()

    def retire(self) -> None:
        """Do nothing: work ends by itself."""

    def awaits_readers(self) -> bool:
        """Not it: see `Connection`."""
        return False

    def forbid(self) -> None:
        """Do nothing: the child's copy of the work harms nobody."""


_passes: set[Pass | Connection] = set()
"""All that are given out. While there is none, SQLite is at rest in this process."""


def forked_error() -> LedgerError:
    """The error of a child that has its parent's connections in its memory."""
    return LedgerError(
        "this process was forked while the ledger was in use, and SQLite does not survive that",
        stayed="nothing was recorded",
        advice="fork at another moment, or start processes with spawn",
    )


def snapshot(items: Iterable[Item]) -> list[Item]:
    """A list of a set that other threads and the garbage collector may change meanwhile."""
    while True:
        try:
            return list(items)
        except RuntimeError:  # it changed in this very moment
            continue


def _enter(one: Pass | Connection, timeout_s: float) -> None:
    """Let it through the gate. Whatever comes of it, the caller takes it out of `_passes`.

    Raises:
        ReentrantCallError: this very thread is forking.
        LedgerBusyError: a fork of another thread kept the gate closed until the deadline.
        LedgerError: SQLite's memory is a copy of another process's, from the middle of its work.
    """
    deadline = monotonic() + timeout_s
    while True:
        _passes.add(one)
        if not _forking:
            break
        _passes.discard(one)
        refuse_while_forking()
        if any(other.thread == one.thread and other.inside for other in snapshot(_passes)):
            _passes.add(one)  # the fork waits for this thread anyway: let it come to an end
            break
        if monotonic() >= deadline:
            raise LedgerBusyError(
                f"another thread of this process was forking for {timeout_s:g} s",
                advice="try again, or give a longer timeout_s",
            )
        sleep(_POLL_EVERY_S)
    if any(other.is_through and other.pid != one.pid for other in snapshot(_passes)):
        raise forked_error()
    one.is_through = True


def refuse_while_forking() -> None:
    """Let no thread that forks wait for another one, which may wait for the fork.

    Raises:
        ReentrantCallError: this very thread is forking.
    """
    if get_ident() in _forking:
        raise ReentrantCallError


def run(work: Callable[..., Result], *arguments: Any, timeout_s: float = WAIT_S) -> Result:
    """Run `work(*arguments)` while no fork comes between; raises as `connect` does."""
    one = Pass()
    try:
        _enter(one, timeout_s)
        return work(*arguments)
    finally:
        _passes.discard(one)


def is_at_rest() -> bool:
    """Whether nothing of this process has, or may soon have, a ledger open."""
    return not _passes and not len(open_backends)


# -- connections ----------------------------------------------------------------------------


class Retired(Exception):  # noqa: N818 - a signal inside the package, not an error
    """The connection was closed, or is another process's: open one and do it again."""


class Connection(sqlite3.Connection):
    """A connection that is known here as long as it is open; it begins as its thread's, in use.

    Attributes:
        inside: whether its thread is in the middle of using it.
        is_retired: whether it is to be closed: at once, or at the end of the call that uses it.
        is_closed: whether it certainly is.
    """

    __slots__ = (
        *("_closer", "_cursors", "holder", "inside", "is_closed", "is_retired"),
        *("is_through", "pid", "thread", "writes"),
    )

    _closer: dict[str, object]
    _cursors: weakref.WeakSet[sqlite3.Cursor]
    holder: object
    inside: bool
    is_closed: bool
    is_retired: bool
    is_through: bool
    pid: int
    thread: int
    writes: bool

    def __new__(cls, *_arguments: Any, **_options: Any) -> Self:
        """Make what can be closed, whether it is ever opened or not."""
        self = super().__new__(cls)
        self.pid = os.getpid()
        self.thread = get_ident()
        self.holder = None
        self.writes = False
        self.inside = True
        self.is_retired = self.is_closed = self.is_through = False
        self._closer = {}
        self._cursors = weakref.WeakSet()
        return self

    def __init__(
        self, target: str, timeout_s: float, *, holder: object = None, writes: bool = False
    ) -> None:
        """Open it once the gate is open; see `connect`."""
        self.holder = holder
        self.writes = writes
        _enter(self, timeout_s)
        super().__init__(
            target,
            uri=True,
            timeout=timeout_s,
            # The driver's own transactions begin deferred, and fail to upgrade when others write.
            isolation_level=None,
            # One thread at a time uses it, but another one may close it.
            check_same_thread=False,
        )
        # A child must not close what it inherited, but Python does where the object goes. So
        # SQLite keeps the object, unseen by the garbage collector, until the connection is closed.
        self.create_function("calibration_ledger_keeps", 0, lambda kept=self: None)  # noqa: ARG005 - see above
        if self.pid != this_process[0]:  # a signal handler forked in the middle of this
            raise forked_error()

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        """See `sqlite3.Connection.cursor`; `execute` and its like come here too."""
        made = super().cursor(*arguments, **options)
        self._cursors.add(made)
        return made

    def use(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run `work(*arguments)`, which uses the connection, between any two forks.

        Its thread looks at `inside` first: it must not come here in the middle of a use.

        Raises:
            Retired: it was closed before.
        """
        self.inside = True
        try:
            if self.is_retired or self.pid != this_process[0]:
                raise Retired
            return work(*arguments)
        finally:
            self.inside = False  # a store that nothing can come between, unlike a call
            if self.is_retired:
                self.retire()

    def rest(self) -> None:
        """End the use that began with its opening."""
        self.inside = False
        if self.is_retired:
            self.retire()

    def retire(self) -> None:
        """Close it: at once where nobody uses it or waits for it, else at the end of that use."""
        self.is_retired = True  # first: who closes a reader then looks for writers that wait
        if not self.inside and not self.awaits_readers():
            self.close()

    def awaits_readers(self) -> bool:
        """Whether it writes, and readers of its holder are closed only at the end of their use.

        The last of them to close must be one that writes: only it can take the log into the file.
        """
        return self.writes and any(
            other.is_retired and not other.is_closed and not other.writes
            for other in snapshot(_passes)
            if other.holder is self.holder
        )

    def close(self) -> None:
        """Close it, once; what was inherited from another process stays as it is."""
        self.is_retired = True
        if self.is_closed or self.pid != os.getpid():
            return
        me = object()
        try:
            # Several may come to close it. It is closed once the first of them has done it.
            self._closer.setdefault("first", me)
        finally:
            if self._closer == {"first": me}:  # not by a call, behind which Ctrl-C could come
                try:
                    self._close()
                finally:
                    self._closer.clear()  # should this be interrupted, the next one does it

    def _close(self) -> None:
        # An error that is kept keeps a cursor, and with it the statement that failed, and SQLite
        # closes no file while a statement is left.
        for cursor in snapshot(self._cursors):
            with suppress(sqlite3.Error):
                cursor.close()
        with suppress(sqlite3.ProgrammingError):  # it was never opened
            sqlite3.Connection.close(self)
        self.is_closed = True
        try:
            if not self.writes:
                self._close_writers()
        finally:
            _passes.discard(self)  # last: until then, `close_all` waits

    def _close_writers(self) -> None:
        """Close those that waited for this reader."""
        for other in snapshot(_passes):
            if other.is_retired and other.writes and other.holder is self.holder:
                other.retire()

    def forbid(self) -> None:
        """Let every statement fail: a signal handler forked in the middle of a call.

        Not even a ROLLBACK may run in the child. SQLite's own hook refuses without touching a file.
        """
        self.is_retired = True
        with suppress(sqlite3.Error):  # it was never opened
            self.set_authorizer(_refuse)


def _refuse(*_: object) -> int:
    return sqlite3.SQLITE_DENY


class Handle:
    """Owns one connection, and closes it at the latest when it is dropped; `with` gives it."""

    __slots__ = ("__weakref__", "connection")

    def __init__(self, kind: type[Connection], *arguments: Any, **options: Any) -> None:
        """Open it; it is owned before, so that no signal can come between."""
        self.connection = kind.__new__(kind)
        try:
            kind.__init__(self.connection, *arguments, **options)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        self.connection.close()

    def __enter__(self) -> Connection:
        """Use it."""
        return self.connection

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close it, but for an interpreter that ends: it takes modules apart, and all is over."""
        if not is_exiting() and hasattr(self, "connection"):  # Ctrl-C may come before it owns one
            self.close()


def connect(
    target: str, timeout_s: float, kind: type[Connection] = Connection, **options: Any
) -> Handle:
    """A connection that begins and commits only when told to.

    Args:
        target: a `file:` URI.
        timeout_s: how long to wait at the gate, and for others' locks on the file.
        kind: what it shall be.
        options: see `Connection`.

    Raises:
        sqlite3.Error: it cannot be opened.
        ReentrantCallError: this very thread is forking.
        LedgerBusyError: a fork of another thread kept the gate closed until the deadline.
        LedgerError: this process was forked in the middle of its parent's work.
    """
    return Handle(kind, target, timeout_s, **options)


class Private(sqlite3.Connection):
    """Closes itself when it is dropped: from 3.13 on, Python warns of one that was not closed."""

    __slots__ = ()

    def __del__(self, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close it, but for an interpreter that ends; see `Handle`."""
        if not is_exiting():
            with suppress(sqlite3.ProgrammingError):  # it was never opened
                self.close()


def private(target: str = "") -> sqlite3.Connection:
    """A database of this process alone: in memory, or a temporary file without a name.

    It has no locks, so it may lie idle over a fork; `run` what uses it. A child may go on with its
    copy of one in memory, but a temporary file is its parent's.
    """
    return sqlite3.connect(
        target, uri=True, isolation_level=None, check_same_thread=False, factory=Private
    )


def close_all(timeout_s: float, holder: object = None) -> None:
    """Close every connection of this process, or of a holder, each between two calls.

    It waits for other threads, those that just open a connection included, until the deadline.
    What it leaves is closed at the end of the call that uses it.
    """
    deadline = monotonic() + timeout_s
    # Readers first: see `awaits_readers`.
    for writers_too in (False, True):
        while _retire(holder, writers_too) and monotonic() < deadline:
            sleep(_POLL_EVERY_S)


def _retire(holder: object, writers_too: bool) -> bool:
    """Retire them; whether other threads still use one."""
    found = [
        one
        for one in snapshot(_passes)
        if one.writes <= writers_too
        and (holder is None or one.holder is holder)
        and one.pid == this_process[0]
    ]
    for one in found:
        one.retire()
    me = get_ident()
    # A writer that awaits readers may await this very thread's; the others' are found themselves.
    return any(one in _passes and one.thread != me and not one.awaits_readers() for one in found)


# -- the open backends of this process ------------------------------------------------------


class _Backend(Protocol):
    @property
    def is_busy(self) -> bool:
        """Whether the end of the program should wait for its calls."""

    def after_fork_in_child(self) -> None:
        """Put what was inherited aside: a child must neither use nor close it."""

    def close(self) -> None:
        """Close every connection."""


open_backends: weakref.WeakSet[_Backend] = weakref.WeakSet()

_LAST_CALLS_S = 1.0
"""How long the end of a program waits for calls that are under way."""


@atexit.register
def _close_backends() -> None:
    """Close what the program left open, and what it was kept from closing.

    Then wait for calls of daemon threads, if they end soon. Python ends such a thread where it next
    comes back from C. Inside of libpq, that may take the process down.
    """
    ending = snapshot(open_backends)
    for backend in ending:
        backend.close()
    close_all(0.0)
    deadline = monotonic() + _LAST_CALLS_S
    while any(backend.is_busy for backend in ending) and monotonic() < deadline:
        sleep(_POLL_EVERY_S)


# -- at a fork ------------------------------------------------------------------------------
# Python ignores what a hook raises, and goes on to fork. An exception of a signal handler, Ctrl-C
# for one, can end a function of Python's at its very start. So what must happen is done in C, and
# hooks in Python, which may run twice without harm, are registered twice: one signal ends only one
# of them. Even where both end early, parent and child are safe: the child then finds connections
# of another process, and refuses.


def _in_c(step: Callable[[int], object], ask: Callable[[], int]) -> Callable[[], object]:
    """A hook that runs `step(ask())`, both of them C, without any function of Python's."""
    return partial(next, map(step, iter(ask, None)))


def _before() -> None:
    _forking.add(get_ident())  # a fork out of a handler, in the middle of this, took it away
    close_all(WAIT_S)


def _after_in_child() -> None:
    for one in snapshot(_passes):
        if one.pid != this_process[0] and one.thread == get_ident():
            one.forbid()
    for backend in snapshot(open_backends):
        backend.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    # What was registered last runs first before a fork, and last after it. Logging takes its lock
    # before a fork. It is imported above so that it does so after ours: we wait for threads that
    # make a ledger, and those need it, as SQLAlchemy asks for loggers.
    os.register_at_fork(
        before=_before,
        after_in_parent=_in_c(_forking.discard, get_ident),
        after_in_child=_in_c(partial(this_process.__setitem__, 0), os.getpid),
    )
    os.register_at_fork(before=_before, after_in_child=_forking.clear)
    os.register_at_fork(before=_in_c(_forking.add, get_ident), after_in_child=_after_in_child)
    os.register_at_fork(after_in_child=_after_in_child)
