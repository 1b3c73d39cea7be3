"""The writers' queue: an advisory lock on a file beside the ledger, fair and with a deadline.

SQLite's own busy handler is unfair (a process can wait for seconds while others pass it), and
before 3.51.3 SQLite can corrupt a WAL database when two connections write or checkpoint at the
same instant. So our writers queue here before they begin, and whatever may checkpoint does, too.

`flock` has four traps, and each shaped this module:

- A forked child inherits the descriptor and with it the lock: the child closes it at once, and
  has locks of its own.
- Two threads on one descriptor both "have" the lock: a fair lock inside the process comes first.
- Polling with LOCK_NB starves whoever polls: it is tried once, then a thread blocks in the kernel.
- A blocking `flock` knows no timeout: a helper thread blocks, and whoever gave up waiting leaves
  it there. When the lock comes after all, it goes to the next waiter or is given back.
"""

from __future__ import annotations

import os
import sys
import weakref
from _thread import start_new_thread
from collections import deque
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from threading import Lock, get_ident
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import LedgerBusyError, LedgerPermissionError, ReentrantCallError
from calibration_ledger.storage.place import check_file, make_folder, refuse_to_write
from calibration_ledger.storage.sqlite.forks import (
    forked_error,
    refuse_while_forking,
    run,
    snapshot,
    this_process,
)
from calibration_ledger.storage.sqlite.permissions import LOCK, admit_writers, open_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from calibration_ledger.storage.backend import Result
    from calibration_ledger.storage.place import File


if sys.platform == "win32":  # SQLite's busy handler serves, behind the lock inside the process
    LOCK_EX = LOCK_NB = LOCK_UN = 0

    def flock(descriptor: int, operation: int, /) -> None:
        """Lock nothing."""
else:
    from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock


# -- a fair lock between the threads of one process -----------------------------------------
# `threading.Lock` gives whoever comes first the lock, so a thread that waits can starve. And
# whoever was just given it may be stopped before it can note that: Ctrl-C, or an exception from a
# signal handler, comes between any two calls. Such a lock would stay taken for good. So here the
# claim is made before the lock is asked for: a `Turn`, which its thread ends by setting `over`, a
# store that nothing can come between. The lock belongs to the newest turn, and is free once that
# is over.

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
"""The heirs of a turn that the lock has passed: whoever keeps one shall not keep all later ones."""


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


class OneAtATime:
    """Work that one thread of the process at a time may do, each until a deadline.

    It is not held over a fork, so a child begins with a free one.
    """

    def __init__(self, shown: str, timeout_s: float) -> None:
        """Let nobody in yet; `shown` is for the error."""
        self._shown = shown
        self._timeout_s = timeout_s
        self._queues: dict[int, FairLock] = {}

    def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run `work(*arguments)` alone.

        Raises:
            ReentrantCallError: this thread is in the middle of such work.
            LedgerBusyError: others were, until the deadline.
        """
        refuse_while_forking()
        queue = self._queues.setdefault(this_process[0], FairLock())
        me = get_ident()
        if queue.is_of(me):
            raise ReentrantCallError
        turn = Turn(me)
        try:
            if not queue.acquire(monotonic() + self._timeout_s, turn):
                raise LedgerBusyError(
                    f"others of this process held {self._shown} for {self._timeout_s:g} s",
                    advice="try again",
                )
            return work(*arguments)
        finally:
            turn.over = True
            queue.wake()


# -- the writers' lock ----------------------------------------------------------------------

_EXCLUSIVE_NOW = LOCK_EX | LOCK_NB
_POLL_EVERY_S = 0.005
_IDLE_S = 1.0
"""How long a helper thread stays for the next who waits: starting one takes a while."""


class LockFile(FileIO):
    """Owns the descriptor of a lock file, and closes it once."""

    def __init__(self, descriptor: int) -> None:
        """Own it."""
        super().__init__(descriptor)
        self.pid = this_process[0]
        _files.add(self)

    __del__ = FileIO.close


_files: weakref.WeakSet[LockFile] = weakref.WeakSet()


class OtherLock(Exception):  # noqa: N818 - a signal inside the package, not an error
    """The lock to take is another one: the path leads to another file now, or this is a child."""


class WriterLock:
    """The lock of one ledger file in this process. Get it with `writer_lock`."""

    def __init__(self, path: str) -> None:
        """Make the queue; the file is opened at the first `acquire`."""
        self.path = path
        self._pid = this_process[0]  # no child may use it: an inherited lock is its parent's
        self._file: LockFile | None = None
        self._number = -1  # its descriptor, for the two locks of each call: asking it takes longer
        self._queue = FairLock()
        # The helper's state, under its own mutex: at most one blocking flock is under way in a
        # process, and `_wanted` says whether somebody still waits for it.
        self._mutex = Lock()
        self._asked = Turn()  # rung for the helper
        self._asked.listen(0.0)
        self._has_helper = False
        self._pending = False
        self._wanted: Turn | None = None

    def hold(
        self,
        wait: Callable[[WriterLock, Turn], object],
        work: Callable[..., Result],
        *arguments: Any,
    ) -> Result:
        """Run `work(*arguments)` with the lock held; `wait` acquires it where it is not free.

        Whatever `work` raises, and whenever Ctrl-C comes, the lock is given back. Python looks for
        signals at the start of each function of its own and after each call, and nothing in here
        that must happen lies behind such a point.

        Raises:
            OtherLock: the lock is the parent's of this process.
        """
        if self._pid != this_process[0]:
            raise OtherLock
        turn = Turn(get_ident())
        try:
            if not self.acquire_now(turn):
                wait(self, turn)
            return work(*arguments)
        finally:
            try:
                # A child that a signal handler forked in the middle must not unlock its parent's.
                if (
                    self._queue.last is turn
                    and self._file is not None
                    and not self._file.closed
                    and self._pid == this_process[0]
                ):
                    flock(self._number, LOCK_UN)
            finally:
                turn.over = True
            if self._queue.waiters:
                self._queue.wake()

    def acquire(self, timeout_s: float, turn: Turn | None = None) -> bool:
        """Wait in the queue for at most this long; False: it was not enough.

        Without a `turn`, see `hold`, it is on the caller to `release`.

        Raises:
            ReentrantCallError: this thread has the lock, or waits for it, or is forking.
            LedgerError: this is a child that was forked in the middle of the call.
            OSError: the lock file cannot be opened.
        """
        refuse_while_forking()
        deadline = monotonic() + timeout_s
        mine = Turn() if turn is None else turn
        if self._queue.last is not mine:  # else `acquire_now` came as far as the file
            if mine.thread and self._queue.is_of(mine.thread):
                raise ReentrantCallError
            if not self._queue.acquire(deadline, mine):
                return False
        got = False
        try:
            got = self._lock_file(mine, deadline)
        finally:
            if turn is None and not got:
                self.release()
        return got

    def unlock(self, turn: Turn) -> None:
        """Unlock the file, if it was this turn's; the caller ends the turn. See `hold`."""
        file = self._file
        is_open = file is not None and not file.closed
        if is_open and self._queue.last is turn and self._pid == this_process[0]:
            flock(self._number, LOCK_UN)

    def release(self) -> None:
        """Let the next writer in, of whichever process."""
        try:
            if self._file is not None and not self._pending:
                flock(self._file, LOCK_UN)
        finally:
            self._queue.release()

    def acquire_now(self, turn: Turn | None = None) -> bool:
        """Take the lock if nobody else is writing; quicker than `acquire`, and without a clock.

        Where only other processes are in the way, a `turn` is kept, for `acquire` to go on with.

        Raises:
            OSError: the lock file cannot be locked.
        """
        queue, file = self._queue, self._file
        if file is None or file.closed or queue.waiters or not queue.take(turn or Turn()):
            return False
        try:
            # Looked at by the holder of the turn only: the helper may be about to let go of what
            # it was granted too late, and the descriptor is one, so that would be ours.
            # A child that a signal handler forked in the middle has closed that number.
            if not self._pending and self._pid == this_process[0]:
                flock(self._number, _EXCLUSIVE_NOW)
                return True
        except BlockingIOError:
            pass
        if turn is None:
            queue.release()
        return False

    def _lock_file(self, turn: Turn, deadline: float) -> bool:
        # The garbage collector closes the file of a lock that another finalizer still uses.
        if self._file is None or self._file.closed:
            # Python opens descriptors close-on-exec; the file stays for good, for removing it
            # would let two writers lock two different files of one name.
            self._use(self._open(deadline))
        file = self._file
        assert file is not None  # noqa: S101 - see above
        self._refuse_in_child()
        if not self._pending:
            try:
                flock(file, _EXCLUSIVE_NOW)
            except BlockingIOError:
                pass
            else:
                return True
        return self._wait_for_helper(turn, file, deadline)

    def _refuse_in_child(self) -> None:
        """Lock nothing in a child that goes on in the middle of its parent's call.

        It would lock the parent's file, or wait for itself: its own calls have another lock.
        """
        if self._pid != this_process[0]:
            raise forked_error()

    def _use(self, file: LockFile) -> None:
        self._number = file.fileno()
        self._file = file

    def _open(self, deadline: float) -> LockFile:
        # A child of a fork must know of every descriptor, to close it.
        return run(self._open_file, timeout_s=max(0.0, deadline - monotonic()))

    def _open_file(self) -> LockFile:
        return LockFile(open_lock(self.path))

    def admit_writers(self) -> None:
        """Open the file to all who may write to the ledger, and to nobody else."""
        if self._file is not None and not self._file.closed:
            admit_writers(self._file.fileno(), self.path.removesuffix(LOCK))

    def follow(self, timeout_s: float) -> bool:
        """For the holder: if the lock file was moved away, with its ledger say, lock the new one.

        False: others held that one until the deadline. `release` is still to be called.

        Raises:
            OSError: the new one cannot be opened.
        """
        held, deadline = self._file, monotonic() + timeout_s
        assert held is not None  # noqa: S101 - it is locked
        self._refuse_in_child()
        try:
            moved = not os.path.samestat(os.fstat(held.fileno()), os.stat(self.path))  # noqa: PTH116 - beside fstat
        except FileNotFoundError:
            moved = True
        if not moved or self._pending:
            return True
        self._use(self._open(deadline))
        held.close()
        return self._lock_file(self._queue.last, deadline)

    def _wait_for_helper(self, turn: Turn, file: LockFile, deadline: float) -> bool:
        with self._mutex:
            has_helper = self._has_helper or self._start_helper()
            if has_helper:
                turn.granted = False
                self._wanted = turn
                if not self._pending:
                    self._pending = True
                    self._asked.ring()
        if not has_helper:
            return self._poll(file, deadline)
        try:
            while not turn.granted and (left_s := deadline - monotonic()) > 0.0:
                turn.listen(left_s)
        finally:
            with self._mutex:
                self._wanted = None
        return turn.granted  # perhaps in the moment of giving up: take it

    def _start_helper(self) -> bool:
        try:
            # Not a `threading.Thread`, which takes a lock that the thread below a signal handler
            # may hold, and waits for it without end.
            start_new_thread(self._block, ())
        except RuntimeError:  # the interpreter is about to exit, or has no room for a thread
            return False
        self._has_helper = True
        return True

    def _poll(self, file: LockFile, deadline: float) -> bool:
        """Wait without a helper thread: unfair, but better than not at all."""
        while monotonic() < deadline:
            sleep(_POLL_EVERY_S)
            try:
                flock(file, _EXCLUSIVE_NOW)
            except BlockingIOError:
                continue
            return True
        return False

    def _block(self) -> None:
        """The helper thread: wait in the kernel's queue on behalf of this process."""
        while True:
            self._asked.listen(_IDLE_S)
            with self._mutex:
                if not self._pending:
                    self._has_helper = False  # the next to wait starts another
                    self._let_go_of_what_nobody_took()
                    return
            file = self._file
            assert file is not None  # noqa: S101 - what is pending has one, until it is done
            try:
                flock(file, LOCK_EX)
            except OSError:  # the kernel is out of locks: whoever waits gives up in time
                self._pending = False
                continue
            with self._mutex:
                wanted = self._wanted
                if wanted is not None and not wanted.over:
                    wanted.granted = True
                    wanted.ring()
                else:
                    flock(file, LOCK_UN)
                self._pending = False  # last: others of this process may use the descriptor now

    def _let_go_of_what_nobody_took(self) -> None:
        """Unlock the file where who waited was stopped in the very moment of getting it."""
        if self._queue.take(Turn()):
            self.release()


_locks: dict[tuple[int, str], weakref.ref[WriterLock]] = {}


def writer_lock(ledger_path: str) -> WriterLock:
    """The one lock of a ledger file in this process, by its real path."""
    path = os.path.realpath(ledger_path) + LOCK
    key = (this_process[0], path)
    mine = WriterLock(path)
    # No lock guards the table, for a signal handler may come to ask in the middle.
    while (lock := _locks.setdefault(key, weakref.ref(mine, partial(_forget, key)))()) is None:
        _locks.pop(key, None)  # nobody uses it any more
    return lock


def _forget(key: tuple[int, str], dead: weakref.ref[WriterLock]) -> None:
    if _locks.get(key) is dead:
        _locks.pop(key, None)


def _after_fork_in_child() -> None:
    """Close what was inherited, which does not release the parent's lock, but would prolong it."""
    for file in snapshot(_files):
        if file.pid != this_process[0]:
            file.close()


if hasattr(os, "register_at_fork"):
    for _ in range(2):  # see `forks`
        os.register_at_fork(after_in_child=_after_fork_in_child)


# -- the lock of a ledger's place -----------------------------------------------------------


def wait_for(
    place: File, lock: WriterLock, timeout_s: float, wait: Callable[..., bool], *arguments: Turn
) -> None:
    """Run `wait(timeout_s, *arguments)`, one of the lock's methods, and say why it was in vain.

    Raises:
        LedgerBusyError: others held the lock until the deadline.
        LedgerPermissionError: its file cannot be used.
    """
    try:
        got = wait(timeout_s, *arguments)
    except OSError as error:
        # Others know more: where the folder is gone, say, or the ledger is only to be read.
        if check_file(place) and not os.access(place.path, os.W_OK):
            refuse_to_write(place.shown)
        raise LedgerPermissionError(
            f"{place.shown} cannot be written: its lock file {lock.path} cannot be used "
            f"({error.strerror})",
            stayed="nothing was recorded",
            advice="check the folder's permissions",
        ) from None
    if not got:
        raise LedgerBusyError(
            f"others held {place.shown} for {timeout_s:g} s",
            advice="try again, or give a longer timeout_s",
        )


@contextmanager
def locked_file(place: File, timeout_s: float) -> Iterator[None]:
    """Hold the writers' lock of a file, which may not be there yet, over a block.

    Raises:
        LedgerBusyError: others held it until the deadline.
        LedgerPermissionError: its file cannot be used.
    """
    make_folder(place)
    check_file(place)
    lock = writer_lock(str(place.path))
    turn = Turn(get_ident())
    try:
        wait_for(place, lock, timeout_s, lock.acquire, turn)
        yield
    finally:
        try:
            lock.unlock(turn)
        finally:
            turn.over = True
