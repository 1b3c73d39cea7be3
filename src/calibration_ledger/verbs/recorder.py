"""The recorder: a bounded queue and one thread between a program's calls and the ledger.

The program pays one step in memory for a call. All that can wait or fail happens in the recorder's
own thread, which records what is there in one transaction, and so takes larger steps when calls
come faster. Three rules hold it together:

- **`put` takes no lock**, so it can come out of a signal handler or a finalizer in the middle of
  another `put`. What several threads touch changes in single steps of C. Whoever puts a call notes
  it and then looks whether the recorder is closed or its thread asleep; whoever closes, or falls
  asleep, says so and then looks at what is noted. One of the two always sees the other.
- **A call waits until its fate is known.** Whoever takes it out of `waiting`, which only one can,
  counts it. So calls put = recorded + skipped + dropped + waiting.
- **Nothing is recorded twice.** A call without a request id gets one before it is first tried.
"""

from __future__ import annotations

import atexit
import logging
import sys
from _thread import allocate_lock, start_new_thread
from collections import defaultdict
from contextlib import ExitStack, suppress
from itertools import count, islice
from math import inf
from threading import get_ident
from time import monotonic, sleep, time_ns
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeVar
from uuid import uuid4

from calibration_ledger.core.validation import check_seconds
from calibration_ledger.core.values import Call
from calibration_ledger.errors import (
    CallsDroppedError,
    InvalidInputError,
    LedgerBusyError,
    LedgerCorruptError,
    LedgerError,
    NotCopiableError,
    NotRecordedError,
    OutcomeUnknownError,
    StoredRuleError,
)
from calibration_ledger.storage.sqlite.forks import this_process
from calibration_ledger.verbs.complaints import Complaints, Count, Tally
from calibration_ledger.verbs.doubt import Recent, doubts_of
from calibration_ledger.verbs.record import BATCH, checked_call, now_us, write_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.record import NewCall, Opening, Recorded

Item = TypeVar("Item")

SIZE = 1_000
ATTEMPT_S = 1.0
"""How long one attempt to record waits for other writers: then a close() can come between."""

EXIT_S = 10.0
"""How long the end of the program waits for a ledger that is locked or out of reach."""

_TIMEOUT_MAX_S = 86_400
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.05, 1.0
_LINGER_S = 0.05
"""How long the first call waits for others to be recorded with it."""
_LONG_PAUSE_S = 10.0
"""Between attempts at a ledger that somebody must mend first."""
_HURRIED_PAUSE_S = 0.1
"""The most while somebody waits for it."""

_POLL_S_MIN, _POLL_S_MAX = 0.0005, 0.02


# -- what waits, and the thread that records it ---------------------------------------------


_Put = tuple[Call, int]
"""A call as it was put, and when that was, in ns. A tuple of names would take longer to make."""


class _Ready(NamedTuple):
    """A call that was checked; its request id is its own, whatever comes between."""

    key: int
    model: str
    call: NewCall


class Source(NamedTuple):
    """Where a recorder records."""

    open_beside: Callable[[Ledger, float], Ledger]
    ledger: Ledger
    opening: Opening
    timeout_s: float


_alive: set[_Queue] = set()
"""Those whose thread runs, or should: what the end of the program drains."""


class _Queue:
    """The calls of one recorder in one process, and the thread that records them.

    The thread keeps this object alive, and not the `Recorder`, so that it learns of the end of one
    that was only dropped.

    Attributes:
        waiting: the calls whose fate is not known, by a number that grows.
        recorded, dropped, skipped: the counts.
        is_closed: whether calls that are put now are dropped.
        is_left: whether nobody has the recorder any more, so that no call can come.
        rings_from: with how many calls waiting the thread must be rung for.
    """

    def __init__(self, source: Source, size: int, on_error: OnError) -> None:
        """Start nothing: the first call does."""
        self.pid = this_process[0]
        self.waiting: dict[int, _Put] = {}
        self.recorded = Count()
        self.dropped = Count()
        self.skipped = Tally()
        self.is_closed = self.is_left = False
        self.rings_from: float = 0
        self._numbers = count()
        self._size = size
        self._crowd = max(1, size // 4)
        self.complaints = Complaints(on_error)
        self._unstarted = [None]
        self._bell = allocate_lock()
        self._bell.acquire()
        self._hurried: set[object] = set()
        self._drop_at = inf
        # What follows belongs to whoever records: the thread, or a closer if none could start.
        self._worker: dict[str, int] = {}
        self._source = source
        self._ledger: Ledger | None = None
        self._ready: dict[int, _Ready] = {}
        self._unsure: set[int] = set()
        self._trouble: LedgerError | None = None
        self._trouble_since = 0.0
        self._is_told = False
        self._drops_told = 0
        self._pause_s = 0.0
        self._attempts = 0
        self._is_hopeless = False  # of the last attempt: to try again soon is no use

    # -- for the program's threads: no lock, no wait --------------------------------------------

    def put(self, call: Call) -> None:
        """See `Recorder.put`."""
        waiting = self.waiting
        if len(waiting) >= self._size:
            self.dropped.add()
            return
        number = next(self._numbers)
        waiting[number] = call, time_ns()
        there = len(waiting)
        if self.is_closed or there > self._size:  # another thread took the last place
            self._settle(number, self.dropped)
        elif self._unstarted:
            self._start()
        elif there >= self.rings_from:
            self.ring()

    def skip(self, reason: str) -> None:
        """See `Recorder.skip`."""
        self.skipped.of(reason).add()

    def _settle(self, number: int, fate: Count) -> bool:
        """Count a call, if nobody has before."""
        is_mine = self.waiting.pop(number, None) is not None
        if is_mine:
            fate.add()
        return is_mine

    def ring(self) -> None:
        """Wake the thread."""
        with suppress(RuntimeError):  # it was rung before, and nobody has listened since
            self._bell.release()

    def _start(self) -> None:
        """Start the thread, once. `threading.Thread` would wait until it runs."""
        try:
            self._unstarted.pop()
        except IndexError:
            return
        _alive.add(self)
        _drain_in_children()
        try:
            start_new_thread(self._run, ())
        except RuntimeError:  # there are too many, or the program is ending: its end records
            self._unstarted.append(None)

    # -- waiting for it --------------------------------------------------------------------------

    def flush(self, timeout_s: float | None) -> bool:
        """See `Recorder.flush`."""
        return self._wait_for(set(_snapshot(self.waiting)), _deadline(timeout_s))

    def close(self, timeout_s: float) -> None:
        """See `Recorder.close`."""
        self._drop_at = monotonic() + timeout_s
        self.is_closed = True
        self.leave()
        if self._is_in_worker():  # it goes on by itself, until the same moment
            return
        self._wait_for(set(_snapshot(self.waiting)), self._drop_at)
        self._drop_waiting()
        if not self._unstarted:  # let it close its connections, too
            self._wait(lambda: self in _alive, self._drop_at + 2 * ATTEMPT_S)
        else:
            self._end()

    def leave(self) -> None:
        """Record what waits, and end: nobody will put another call."""
        self.is_left = True
        self.ring()

    def _drop_waiting(self) -> None:
        left = sum(self._settle(number, self.dropped) for number in _snapshot(self.waiting))
        if left and not self._is_told:
            self._is_told = True
            self.complaints.tell(self._dropped(left, "could not be recorded before the end"))

    def _is_in_worker(self) -> bool:
        return self._worker.get("is") == get_ident()

    def _wait_for(self, numbers: set[int], deadline: float) -> bool:
        """Wait until none of these is waiting any more; False: there is no hope, or no time."""

        def is_worth_it() -> bool:
            numbers.intersection_update(_snapshot(self.waiting))
            if not numbers:
                return False
            if self._unstarted:
                self._attempt_here()
            # One attempt may have been under way at the start.
            return not (self._is_hopeless and self._attempts > tried + 1)

        if not self._is_in_worker():  # there, on_error or a finalizer would wait for itself
            me, tried = object(), self._attempts
            self._hurried.add(me)
            try:
                self.ring()
                self._wait(is_worth_it, deadline)
            finally:
                self._hurried.discard(me)
        return not numbers.intersection(_snapshot(self.waiting))

    def _wait(self, is_worth_it: Callable[[], bool], deadline: float) -> None:
        pause_s = _POLL_S_MIN
        # A child that a signal handler forked in the middle of this has nothing to wait for.
        while self.pid == this_process[0] and is_worth_it() and monotonic() < deadline:
            sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S_MAX)

    def _attempt_here(self) -> None:
        """Record in this thread, because none could be started."""
        me = get_ident()
        if self._worker.setdefault("is", me) == me:
            try:
                self._attempt()
            finally:
                self._worker.clear()

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        me = get_ident()
        while self._worker.setdefault("is", me) != me:  # a closer found no thread, and records
            sleep(_POLL_S_MAX)
        try:
            while self.pid == this_process[0]:  # a handler that forked while it was started
                try:
                    self._attempt()
                except BaseException as error:  # noqa: BLE001 - no thread, no records: go on
                    self._note_trouble(NotRecordedError(f"recording failed ({error!r})"))
                if self.is_closed and (self._is_hopeless or monotonic() >= self._drop_at):
                    self._drop_waiting()
                if self.is_left and not self.waiting:
                    return
                self._sleep()
        finally:
            self._end()
            self._worker.clear()

    def _sleep(self) -> None:
        """Until there is something to do: after trouble for a while, else until calls come.

        Calls that come soon after the first are taken along: a transaction, and the ring for it,
        cost more than the calls in it. Somebody who flushes ends all of it by a ring.
        """
        self.rings_from = inf if self._pause_s else 0
        try:
            if self._pause_s:
                most_s = _HURRIED_PAUSE_S if self._hurried else self._pause_s
                self._bell.acquire(timeout=min(most_s, self._pause_s))
                return
            if not self.waiting and not self.is_left:
                self._bell.acquire()
            self.rings_from = self._crowd
            if not (self._hurried or self.is_left or len(self.waiting) >= self._crowd):
                self._bell.acquire(timeout=_LINGER_S)
        finally:
            self.rings_from = inf

    def _end(self) -> None:
        ledger, self._ledger = self._ledger, None
        if ledger is not None and ledger is not self._source.ledger:
            ledger.close()
        _alive.discard(self)

    def _attempt(self) -> None:
        """Try once to record the calls that have waited longest."""
        calls = self._checked(_snapshot(self.waiting.items(), BATCH))
        self._note_drops()
        if not calls:
            self._pause_s = 0.0
            return
        try:
            stuck = self._record(calls)
        finally:
            self._attempts += 1
        if stuck is None:
            self._trouble, self._pause_s = None, 0.0
            self._is_told = self._is_hopeless = False
        else:
            self._note_trouble(stuck)

    def _checked(self, items: Iterable[tuple[int, _Put]]) -> list[_Ready]:
        found = []
        for number, (call, at_ns) in items:
            ready = self._ready.get(number)
            if ready is None:
                try:
                    ready = self._ready[number] = _checked(number, call, at_ns // 1000)
                except Exception as error:  # noqa: BLE001 - of what the caller handed in
                    self._refuse(number, error)
                    continue
            found.append(ready)
        return found

    def _refuse(self, number: int, error: Exception) -> None:
        if self._settle(number, self.skipped.of("refused")):
            self.complaints.tell(error)
        self._ready.pop(number, None)

    def _record(self, calls: Sequence[_Ready]) -> LedgerError | None:
        """Record calls; gives what stopped it, if calls are left that can be tried again.

        Of calls that are refused together, only the bad ones are: each half is tried by itself.
        """
        by_model: dict[str, list[_Ready]] = defaultdict(list)
        for call in calls:
            by_model[call.model].append(call)
        try:
            ledger = self._open()
            done = write_calls(
                ledger,
                self._source.opening,
                {model: [one.call for one in those] for model, those in by_model.items()},
            )
        except LedgerError as error:
            if isinstance(error, OutcomeUnknownError):
                self._unsure.update(call.key for call in calls)
            if isinstance(error, StoredRuleError | LedgerCorruptError) and len(by_model) > 1:
                return self._first_trouble(by_model.values())  # it may be one model's alone
            return error
        except Exception as error:  # noqa: BLE001 - a call that is refused, or a prior that fails
            if len(calls) == 1:
                self._refuse(calls[0].key, error)
                return None
            middle = len(calls) // 2
            return self._first_trouble((calls[:middle], calls[middle:]))
        for model, those in by_model.items():
            self._count(those, done[model])
        self._tell_of_doubts(ledger, by_model, done)
        return None

    def _first_trouble(self, parts: Iterable[Sequence[_Ready]]) -> LedgerError | None:
        found = [self._record(part) for part in parts]
        return next((error for error in found if error is not None), None)

    def _open(self) -> Ledger:
        if self._ledger is None:
            source = self._source
            self._ledger = source.open_beside(source.ledger, min(ATTEMPT_S, source.timeout_s))
        return self._ledger

    def _count(self, calls: Sequence[_Ready], done: Recorded) -> None:
        """Count what was recorded: a request id that was there already is a duplicate."""
        new = set(sorted(set(done.seqs))[len(set(done.seqs)) - done.added :])
        for one, seq in zip(calls, done.seqs, strict=True):
            # What was tried before, and may have come in, is found as recorded already.
            is_recorded = seq in new or one.key in self._unsure
            new.discard(seq)
            fate = self.recorded if is_recorded else self.skipped.of("duplicate")
            self._settle(one.key, fate)
            self._ready.pop(one.key, None)
            self._unsure.discard(one.key)

    def _tell_of_doubts(
        self, ledger: Ledger, by_model: Mapping[str, Sequence[_Ready]], done: Mapping[str, Recorded]
    ) -> None:
        recent = [
            Recent(model, [one.call for one in those], done[model].seqs, done[model].least_ms)
            for model, those in by_model.items()
        ]
        opened = {model for model, of_model in done.items() if of_model.is_new}
        for doubt in doubts_of(ledger, recent, opened, now_us()):
            self.complaints.tell(doubt)

    # -- trouble ---------------------------------------------------------------------------------

    def _note_trouble(self, error: LedgerError) -> None:
        """Calls are left that could not be recorded: tell of it, and say when to try again.

        A ledger that others hold loses nothing so far, so it is told of no sooner than `record()`
        would give up.
        """
        now = monotonic()
        if self._trouble is None:
            self._trouble_since = now
        self._trouble = error
        self._is_hopeless = not _may_pass(error)
        if self._is_hopeless:
            self._pause_s = _LONG_PAUSE_S
        else:
            self._pause_s = min(max(2 * self._pause_s, _PAUSE_S_MIN), _PAUSE_S_MAX)
        is_late = now - self._trouble_since >= self._source.timeout_s
        if not self._is_told and (is_late or not isinstance(error, LedgerBusyError)):
            self._is_told = True
            self.complaints.tell(error)

    def _note_drops(self) -> None:
        """Tell that the queue was full, unless it is known why."""
        dropped = self.dropped.value
        new, self._drops_told = dropped - self._drops_told, dropped
        if new and not self._is_told and not self.is_closed:
            self._is_told = True
            self.complaints.tell(self._dropped(new, f"came while {self._size:,} others waited"))

    def _dropped(self, number: int, why: str) -> CallsDroppedError:
        calls = "1 call was" if number == 1 else f"{number:,} calls were"
        because = "" if self._trouble is None else f" ({self._trouble.matter.removesuffix('.')})"
        error = CallsDroppedError(f"{calls} dropped, which {why}{because}")
        error.__cause__ = self._trouble
        return error


def _checked(number: int, call: Call, at_us: int) -> _Ready:
    """Check a call, and give it the time and request id that it lacks."""
    if not isinstance(call, Call):
        # What it is instead may be a prompt or an answer, so it is not shown.
        raise InvalidInputError(f"put() takes a Call, not a {type(call).__name__}.")
    model, new = checked_call(call)
    if call.called_at is None:
        new = new._replace(called_at=at_us)
    if new.request_id is None:
        new = new._replace(request_id=uuid4().hex)
    return _Ready(number, model, new)


def _may_pass(error: LedgerError) -> bool:
    """Whether a ledger may come back by itself: others hold it, or it is out of reach or full."""
    passing = isinstance(error, NotRecordedError | OutcomeUnknownError)
    return passing or type(error) is LedgerError


def _snapshot(items: Iterable[Item], most: int | None = None) -> list[Item]:
    """The first of what other threads, and finalizers, may change meanwhile."""
    while True:
        try:
            return list(islice(items, most))
        except RuntimeError:  # it changed in this very moment
            continue


def _deadline(timeout_s: float | None) -> float:
    if timeout_s is None:
        return inf
    return monotonic() + check_seconds("timeout_s", timeout_s, _TIMEOUT_MAX_S)


# -- the end of a process -------------------------------------------------------------------


@atexit.register
def _drain_all() -> None:
    """Record what waits in this process, until a deadline for all of it."""
    deadline = monotonic() + EXIT_S
    with ExitStack() as stack:
        for queue in _snapshot(_alive):
            if queue.pid == this_process[0]:
                queue.close(max(0.0, deadline - monotonic()))
                stack.callback(queue.complaints.raise_kept)  # Python prints it


def _drain_in_children() -> None:
    """Drain at the end of a child of `multiprocessing`: one that was forked runs no `atexit`."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        sys.modules["multiprocessing.util"].Finalize(None, _drain_all, exitpriority=0)


# -- the front ------------------------------------------------------------------------------


class Recorder:
    """Records a program's calls without ever delaying or breaking it; made by `recorder()`.

    `put` is one step in memory: it never waits and never raises, and may be called by any thread,
    event loop, signal handler or finalizer. A thread of the recorder's own records what was put,
    many calls in one transaction. At most `size` calls wait; while there are so many, because the
    ledger is locked, say, further calls are dropped and counted.

    It ends with `close()` or `with`. What waits when it is dropped, or when the program ends, is
    recorded nevertheless, as far as the ledger lets it within 10 s. In a forked child it is empty,
    and goes on; the parent records what was put there.
    """

    def __init__(self, source: Source, size: int = SIZE, on_error: OnError = "warn") -> None:
        """See `AdaptiveCalibrator.recorder`, which makes it."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidInputError(f"size must be a whole number of at least 1, not {size!r}.")
        Complaints(on_error)  # refuses what it cannot follow
        self._log = logging.getLogger("calibration_ledger")
        self._given = source, size, on_error
        self._shown = source.ledger.shown
        self._timeout_s = source.timeout_s
        self._queues: dict[int, _Queue] = {}

    def _queue(self) -> _Queue:
        """That of this process; what a child inherits is its parent's."""
        pid = this_process[0]
        found = self._queues.get(pid)
        return self._queues.setdefault(pid, _Queue(*self._given)) if found is None else found

    def put(self, call: Call) -> None:
        """Take a call to record. Never waits, never raises.

        What is wrong with it is found in the recorder's thread, told under `on_error`, and counted
        in `skipped`. Without a `called_at`, this is when it was made.
        """
        queue = self._queues.get(this_process[0]) or self._queue()
        queue.put(call)

    def skip(self, reason: str) -> None:
        """Count a call that nothing can be learnt from. Never waits, never raises.

        The logger `calibration_ledger` tells each reason, as it comes, at the level DEBUG.
        """
        self._queue().skip(reason)
        with suppress(Exception):  # of the program's own handlers and filters
            self._log.debug("a call is not learnt from: %s", reason)

    def fail(self, error: Exception) -> None:
        """Count a call that a fault in reading it lost, as `fault`, and tell of the error.

        For what runs inside a program's own calls, and may not break them. Never raises.
        """
        queue = self._queue()
        queue.skip("fault")
        said = type(error).__name__
        with suppress(Exception):  # an exception of a class of its own may fail at it
            said += f": {error}"  # not its repr: a UnicodeDecodeError's has the whole text in it
        told = NotRecordedError(f"a call could not be read ({said})")
        told.__cause__ = error
        queue.complaints.tell(told, stacklevel=3)

    @property
    def recorded(self) -> int:
        """How many calls are in the ledger."""
        return self._queue().recorded.value

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many calls were not recorded because of what they are, by reason."""
        return self._queue().skipped.snapshot()

    @property
    def dropped(self) -> int:
        """How many calls were lost, because the queue was full or the recorder closed."""
        return self._queue().dropped.value

    @property
    def is_closed(self) -> bool:
        """Whether what is put now counts as dropped."""
        return self._queue().is_closed

    @property
    def waiting(self) -> int:
        """How many calls wait to be recorded."""
        return len(self._queue().waiting)

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was put before is recorded, or counted as skipped or dropped.

        Args:
            timeout_s: for no longer than this, in seconds; None: as long as there is hope. There is
                none if somebody must mend the ledger first.

        Returns:
            Whether it came to that.

        Raises:
            InvalidInputError: the time-out is not what it must be.
            CalibrationLedgerError: with `on_error="raise"`, the first error so far.
        """
        queue = self._queue()
        is_done = queue.flush(timeout_s)
        queue.complaints.raise_kept()
        return is_done

    def close(self, timeout_s: float | None = None) -> None:
        """Record what waits, and take no more calls: what is put afterwards counts as dropped.

        Args:
            timeout_s: how long to wait for a ledger that is locked or out of reach, in seconds;
                None: as long as `record()` does. What is not recorded then counts as dropped.

        Raises:
            InvalidInputError: the time-out is not what it must be.
            CalibrationLedgerError: with `on_error="raise"`, the first error so far.
        """
        if timeout_s is None:
            timeout_s = self._timeout_s
        queue = self._queue()
        queue.close(check_seconds("timeout_s", timeout_s, _TIMEOUT_MAX_S))
        queue.complaints.raise_kept()

    def __enter__(self) -> Self:
        """`with calibrator.recorder() as recorder:` closes it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Let the thread record what waits, and end."""
        queue = getattr(self, "_queues", {}).get(this_process[0])
        if queue is not None:
            queue.leave()

    def __repr__(self) -> str:
        """The ledger and the counts, those of `skipped` by reason."""
        counts = self.skipped
        reasons = ", ".join(f"{reason}: {number}" for reason, number in counts.items())
        skipped = f"{sum(counts.values())} skipped" + (f" ({reasons})" if reasons else "")
        return (
            f"<Recorder of {self._shown!r}: {self.recorded} recorded, {skipped}, "
            f"{self.dropped} dropped, {self.waiting} waiting>"
        )

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: its queue and thread belong to one process.

        Raises:
            NotCopiableError: always.
        """
        raise NotCopiableError(
            "a recorder cannot be copied or pickled, for it has a queue and a thread: share this "
            "one (threads may, and a fork keeps it), or make another where it is needed."
        )


def close_all(recorders: Iterable[Recorder]) -> None:
    """Close several; raises the first error once all are closed."""
    with ExitStack() as stack:
        for recorder in _snapshot(recorders):
            stack.callback(recorder.close)
