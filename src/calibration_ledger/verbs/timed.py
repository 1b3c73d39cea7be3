"""Timed: measure a call around a block or a function, read its answer, and record it.

The answer was paid for, and the program's own call comes first: whatever goes wrong here is told
under `on_error` and counted, and by default nothing is raised. An exception of the block passes
through untouched.
"""

from __future__ import annotations

import inspect
import sys
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, wraps
from threading import Thread
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from calibration_ledger.core.answers import (
    Answer,
    AnswerReader,
    Unlearnable,
    read_answer,
    unlearnable,
)
from calibration_ledger.core.failures import reason_of
from calibration_ledger.core.validation import check_new_model, check_tokens
from calibration_ledger.core.values import Call
from calibration_ledger.errors import (
    CallIncompleteError,
    CompletionTokensMissingError,
    InvalidInputError,
    LedgerError,
    UnlearnableAnswerError,
    shown,
)
from calibration_ledger.verbs.complaints import Complaints, Tally
from calibration_ledger.verbs.doubt import Recent, doubts_of
from calibration_ledger.verbs.record import checked_call, now_us

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterable,
        Awaitable,
        Generator,
        Iterable,
    )
    from types import FrameType, TracebackType
    from typing import Self

    from calibration_ledger.core.answers import Reason
    from calibration_ledger.core.values import Outcome
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.record import NewCall

Chunk = TypeVar("Chunk")
Function = TypeVar("Function", bound=Callable[..., Any])

_FINAL = {"failed", "timeout", "cancelled", "cached", "not a completion", "duplicate"}
"""Why a call cannot be learnt from even if the block says its tokens."""


# -- a stream that is passed through --------------------------------------------------------


class StreamReading:
    """What is known of a stream that passes through.

    Attributes:
        first_at: when the first token came.
        events: how many parts it came in since then, that one included.
        last_at: when the stream ended, or else when its last chunk came; None if none did.
        is_over: whether it was read to its end, or broke.
        error: what broke it.
    """

    __slots__ = ("_reader", "error", "events", "first_at", "is_over", "last_at")

    def __init__(self, asked_model: str | None) -> None:
        """Begin before the first chunk."""
        self._reader = AnswerReader(asked_model)
        self.first_at: float | None = None
        self.events = 0
        self.last_at: float | None = None
        self.is_over = False
        self.error: BaseException | None = None

    def see(self, chunk: object) -> None:
        """Read a chunk that has just come."""
        self.last_at = time.perf_counter()
        if isinstance(chunk, bytes | bytearray):  # of a body, cut anywhere
            self._reader.feed(bytes(chunk))
        else:
            self._reader.add(chunk)
        if self.first_at is None and self._reader.has_content:
            self.first_at = self.last_at
        if self.first_at is not None:
            self.events += _events_in(chunk)

    def end(self, error: BaseException | None = None) -> None:
        """The stream is over, or broken."""
        self.last_at = time.perf_counter()
        self.is_over = True
        self.error = error

    def tokens(self) -> int | None:
        """The completion tokens so far, if the events tell."""
        return self._reader.completion_tokens

    @property
    def is_complete(self) -> bool:
        """Whether the provider said that the answer ended."""
        return self.error is None and self._reader.is_complete

    def broken_by(self) -> Reason | None:
        """Why the answer did not come to its end, if that was not the provider's doing alone."""
        if self.error is not None:
            return reason_of(self.error)
        return None if self.is_over or self._reader.is_complete else "left early"

    def result(self) -> Answer | Unlearnable:
        """What the stream said, or why it cannot be learnt from."""
        found = self._reader.result()
        broken_by = self.broken_by()
        if broken_by is None:
            return found
        return Unlearnable(broken_by, found.asked_model, found.answered_model)


def _events_in(chunk: object) -> int:
    """How many events come in one piece of a stream."""
    if isinstance(chunk, bytes | bytearray):
        return max(1, chunk.count(b"data:"))
    return max(1, chunk.count("data:")) if isinstance(chunk, str) else 1


class TimedStream(Generic[Chunk]):
    """A stream of an answer, passed through: what comes out is what went in, and is measured.

    It iterates, sync or async, as the stream does that it was made of. As a context manager it
    enters and leaves that one, or closes it at the end. Whatever else is asked of it, that one
    answers.
    """

    __slots__ = ("_chunks", "_iterator", "_manager", "_reading")

    def __init__(
        self, chunks: Iterable[Chunk] | AsyncIterable[Chunk], reading: StreamReading
    ) -> None:
        """Take nothing out of the stream yet."""
        self._chunks: Any = chunks
        self._manager: Any = None
        self._iterator: Any = None
        self._reading = reading

    def _step(self, step: Callable[..., Chunk], *given: Any) -> Chunk:
        try:
            chunk = step(*given)
        except StopIteration:
            self._reading.end()
            raise
        except BaseException as error:
            self._reading.end(error)
            raise
        self._reading.see(chunk)
        return chunk

    async def _async_step(self, step: Callable[..., Any], *given: Any) -> Chunk:
        try:
            chunk: Chunk = await step(*given)
        except StopAsyncIteration:
            self._reading.end()
            raise
        except BaseException as error:
            self._reading.end(error)
            raise
        self._reading.see(chunk)
        return chunk

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks."""
        return self

    def __next__(self) -> Chunk:
        """The next chunk."""
        if self._iterator is None:
            self._iterator = iter(self._chunks)
        return self._step(self._iterator.__next__)

    def __aiter__(self) -> AsyncIterator[Chunk]:
        """The chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk."""
        if self._iterator is None:
            self._iterator = aiter(self._chunks)
        return await self._async_step(self._iterator.__anext__)

    def send(self, value: Any) -> Chunk:
        """Send a value into a generator."""
        return self._step(self._chunks.send, value)

    def throw(self, error: BaseException) -> Chunk:
        """Raise an exception inside a generator."""
        return self._step(self._chunks.throw, error)

    async def asend(self, value: Any) -> Chunk:
        """Send a value into an asynchronous generator."""
        return await self._async_step(self._chunks.asend, value)

    async def athrow(self, error: BaseException) -> Chunk:
        """Raise an exception inside an asynchronous generator."""
        return await self._async_step(self._chunks.athrow, error)

    # -- the stream's own -----------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        """Whatever else the stream has."""
        return getattr(self._chunks, name)

    def close(self) -> Any:
        """Close the stream as it is closed; what is to be awaited there, is to be awaited here."""
        return getattr(self._chunks, "close", lambda: None)()

    async def aclose(self) -> None:
        """Close an asynchronous stream, by `aclose()` or `close()`, whichever it has."""
        close = getattr(self._chunks, "aclose", None) or self.close
        closed = close()
        if inspect.isawaitable(closed):
            await closed

    def __enter__(self) -> Self:
        """Enter the stream, if it can be entered."""
        if hasattr(type(self._chunks), "__enter__"):
            self._manager = self._chunks
            self._chunks = self._manager.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Leave the stream, or close it."""
        if self._manager is not None:
            return cast("bool | None", self._manager.__exit__(kind, error, trace))
        self.close()
        return None

    async def __aenter__(self) -> Self:
        """Enter an asynchronous stream, if it can be entered."""
        if hasattr(type(self._chunks), "__aenter__"):
            self._manager = self._chunks
            self._chunks = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Leave an asynchronous stream, or close it."""
        if self._manager is not None:
            return cast("bool | None", await self._manager.__aexit__(kind, error, trace))
        await self.aclose()
        return None


# -- a block --------------------------------------------------------------------------------


class Said(NamedTuple):
    """What a block said of the tokens so far: at first, and last."""

    first_at: float
    first: int
    last_at: float
    last: int

    def began_at(self) -> float | None:
        """When the first token came; None where nobody can know."""
        if self.first <= 1:
            return self.first_at
        if self.last <= self.first:
            return None
        pace = (self.last_at - self.first_at) / (self.last - self.first)
        return self.first_at - (self.first - 1) * pace


@dataclass(slots=True)
class TimedCall:
    """What `timed` yields: the block says here what it knows; all but the answer may be left out.

    What the block says goes before what the answer says.

    Attributes:
        model: the name that was asked for; None: the one that the answer names.
        prompt_tokens: the tokens that went in; None: what the answer says.
        completion_tokens: the tokens that came out, 0 included; None: what the answer says.
        request_id: the caller's id for the call, if there is one.
        details: what else was measured.
        outcome: to be set to `timeout` where the block gives the call up; see
            `AdaptiveCalibrator.record`. Then it is recorded, even if the block ends in an
            exception.
        answer: what the client gave, in any shape that `from_answer` takes.
        actual_ms: the measured time in ms, set at the end: that of the block, or up to the end of
            its stream. It is set even if nothing is recorded.
        error_ms: actual minus predicted, in ms, set at the end; None if nothing was recorded.
    """

    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    request_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = "ok"
    answer: object = None
    actual_ms: float | None = None
    error_ms: float | None = None
    _stream: StreamReading | None = field(default=None, init=False, repr=False)
    _said: Said | None = field(default=None, init=False, repr=False)

    def tokens(self, count: int) -> None:
        """Say how many completion tokens have come so far, in all.

        The bar of `progress` takes them in. Where neither the block nor the answer says how many
        came out, the last word counts.
        """
        now, said = time.perf_counter(), self._said
        if said is not None:
            self._said = said._replace(last_at=now, last=count)
        elif count:
            self._said = Said(now, count, now, count)

    def stream(self, chunks: Iterable[Chunk] | AsyncIterable[Chunk]) -> TimedStream[Chunk]:
        """Pass the stream of the answer through, and read it on the way.

        In `for chunk in call.stream(chunks)`, or `async for`, the chunks are those of `chunks`.
        The time ends with the stream; `details` get the time to the first token, `ttft_ms`.
        """
        self._stream = StreamReading(self.model)
        return TimedStream(chunks, self._stream)


@dataclass(slots=True)
class Block(TimedCall):
    """A block from its start to its call.

    Attributes:
        is_shared: whether another block was measured by the same `Timed` at the same time.
        called_at: when it started.
        start: the same on the clock that measures.
        on_end: what is to be called at its end, before its call is recorded.
    """

    is_shared: bool = field(default=False, init=False)
    called_at: datetime = field(default_factory=partial(datetime.now, UTC), init=False)
    start: float = field(default_factory=time.perf_counter, init=False)
    on_end: Callable[[], None] | None = field(default=None, init=False)

    def is_complete(self) -> bool:
        """Whether its stream said that the answer ended."""
        return self._stream is not None and self._stream.is_complete

    def broken_by(self) -> Reason | None:
        """See `StreamReading.broken_by`."""
        return None if self._stream is None else self._stream.broken_by()

    def tokens_so_far(self) -> tuple[int | None, float | None]:
        """What the block said of the tokens so far, and when the first came, in ms."""
        said = self._said
        began_at = None if said is None else said.began_at()
        if said is None or began_at is None:
            return None, None
        return said.last, max(0.0, began_at - self.start) * 1000.0

    def events_so_far(self) -> tuple[int, int | None, float | None]:
        """The events of its stream, the tokens that these tell of, and the first's time in ms."""
        stream = self._stream
        if stream is None or stream.first_at is None:
            return 0, None, None
        return stream.events, stream.tokens(), (stream.first_at - self.start) * 1000.0

    def tokens_per_event(self) -> float | None:
        """The completion tokens to an event of its stream; None where that is not known."""
        found = None if self._stream is None else self._stream.result()
        if self._stream is None or not isinstance(found, Answer) or not self._stream.events:
            return None
        return found.completion_tokens / self._stream.events

    def end(self) -> None:
        """Set how long it took."""
        end = None if self._stream is None else self._stream.last_at
        end = time.perf_counter() if end is None else end
        self.actual_ms = (end - self.start) * 1000.0

    def _told(self) -> Answer | Unlearnable | None:
        """What the answer says, or else the stream."""
        said = None if self._stream is None else self._stream.result()
        if self.answer is None:
            return said
        answer = self.answer
        if not isinstance(answer, Answer | Unlearnable):
            answer = read_answer(answer, asked_model=self.model)
        return answer if said is None or isinstance(answer, Answer) else said

    def call(self) -> Call:
        """The call to record.

        Raises:
            CallIncompleteError, UnlearnableAnswerError: it cannot be learnt from.
            InvalidInputError: the block set something to what it cannot be.
        """
        said = self._told()
        model, prompt_tokens = self.model, self.prompt_tokens
        completion_tokens = self.completion_tokens
        if said is not None:
            model = model or said.asked_model or said.answered_model
        if isinstance(said, Answer):
            prompt_tokens = said.prompt_tokens if prompt_tokens is None else prompt_tokens
            if completion_tokens is None:
                completion_tokens = said.completion_tokens
        if completion_tokens is None and self._said is not None:
            completion_tokens = self._said.last
        if self.outcome != "ok":
            completion_tokens = completion_tokens or 0
        elif isinstance(said, Unlearnable) and (
            said.reason in _FINAL or None in (model, prompt_tokens, completion_tokens)
        ):
            error = unlearnable(said.reason)
            if hasattr(self.answer, "__next__") or hasattr(self.answer, "__anext__"):
                error.advice = (
                    "this is a stream: pass it through call.stream(), or decorate a generator that "
                    "yields its chunks"
                )
            raise error
        if model is None or prompt_tokens is None or completion_tokens is None:
            raise _incomplete(model, prompt_tokens)
        return Call(
            model,
            prompt_tokens,
            completion_tokens,
            cast("float", self.actual_ms),
            self.called_at,
            self.request_id,
            self._all_details(model, said),
            outcome=self.outcome,
        )

    def _all_details(
        self, model: str, said: Answer | Unlearnable | None
    ) -> Mapping[str, Any] | None:
        """Those of the block, and before them what was measured or said besides."""
        if said is None or not isinstance(self.details or {}, Mapping):
            return self.details or None
        known: dict[str, Any] = said.details() if isinstance(said, Answer) else {}
        is_other = said.answered_model != model
        known |= {"clock": "client", "answered_model": said.answered_model if is_other else None}
        stream = self._stream
        if stream is not None:
            known["streamed"] = True
            if stream.first_at is not None:
                known["ttft_ms"] = (stream.first_at - self.start) * 1000.0
        return {**known, **(self.details or {})}


def _incomplete(model: str | None, prompt_tokens: int | None) -> CallIncompleteError:
    if model is None:
        error = CallIncompleteError(
            "the timed call was not recorded, for nobody named its model",
            advice="name it in timed(), set call.model, or hand the answer over (call.answer)",
        )
        error.reason = "unknown model"
        return error
    kind = CallIncompleteError if prompt_tokens is None else CompletionTokensMissingError
    name = "prompt_tokens" if prompt_tokens is None else "completion_tokens"
    return kind(
        f"the timed call of {shown(model)} was not recorded, for its {name} were not set",
        advice="set them inside the block, on what timed() yields, to what the server reported, or "
        "hand the answer over (call.answer, call.stream)",
    )


# -- what a calibrator's timed blocks share -------------------------------------------------


class TimedCalls:
    """The way of timed calls into the ledger, and the counts of those that did not get there."""

    __slots__ = ("_ledger", "_skipped", "_threads", "_write", "complaints", "tokens_per_event")

    def __init__(
        self,
        ledger: Ledger,
        write: Callable[[str, NewCall], tuple[float, int, float | None, bool]],
    ) -> None:
        """Record by `write`, a calibrator's own."""
        self._ledger = ledger
        self._write = write
        self._skipped = Tally()
        self._threads: set[Thread] = set()
        self.complaints = Complaints("warn")
        self.tokens_per_event: dict[str, float] = {}

    @property
    def skipped(self) -> Mapping[str, int]:
        """See `AdaptiveCalibrator.skipped`."""
        return self._skipped.snapshot()

    def skip(self, reason: str) -> None:
        """Count a call that was not recorded."""
        self._skipped.of(reason).add()

    def record(self, block: Block) -> list[Exception]:
        """Record the call of a block that is over; gives what is to be told. Raises nothing."""
        try:
            model, new = checked_call(block.call())
            block.error_ms, seq, least_ms, is_new = self._write(model, new)
        except LedgerError as error:
            self.skip("ledger failed")
            return [error]
        except (UnlearnableAnswerError, CallIncompleteError) as error:
            self.skip(error.reason)
            return [] if error.reason == block.broken_by() else [error]
        except Exception as error:  # noqa: BLE001 - a prior of the user's own may raise anything
            self.skip("refused")
            return [error]
        doubts: list[Exception] = []
        with suppress(Exception):  # whatever they are, the call is in the ledger
            recent = Recent(model, (new,), (seq,), least_ms)
            doubts += doubts_of(self._ledger, [recent], {model} if is_new else (), now_us())
        return doubts

    def start(self, record: Callable[[], None]) -> bool:
        """Record in a thread of its own; False if there cannot be another."""

        def run() -> None:
            try:
                record()
            finally:
                self._threads.discard(thread)

        thread = Thread(target=run, name="calibration-ledger timed")
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.discard(thread)
            return False
        return True

    def end(self) -> None:
        """Wait for what is recorded in threads; their tasks may be cancelled and gone."""
        for thread in list(self._threads):
            with suppress(RuntimeError):  # it is this one, or has not started
                thread.join()


# -- timed ----------------------------------------------------------------------------------


class Timed:
    """What `AdaptiveCalibrator.timed` gives: a context manager, and a decorator.

    A block may be `with` or `async with`, which records in a thread. One object measures one block
    at a time; a decorator measures each call of its function by itself.
    """

    __slots__ = ("_calls", "_model", "_on_error", "_open", "_prompt_tokens")

    def __init__(
        self,
        calls: TimedCalls,
        model: str | None,
        prompt_tokens: int | None,
        on_error: OnError,
    ) -> None:
        """See `AdaptiveCalibrator.timed`, which makes it."""
        self._calls = calls
        self._model = None if model is None else check_new_model(model)
        self._prompt_tokens = (
            None if prompt_tokens is None else check_tokens("prompt_tokens", prompt_tokens)
        )
        Complaints(on_error)  # refuses what is no wish before the block runs
        self._on_error = on_error
        self._open: list[Block] = []

    # -- as a context manager -------------------------------------------------------------------

    def __enter__(self) -> TimedCall:
        """Start the clock."""
        block = Block(self._model, self._prompt_tokens)
        self._begin(block)
        self._open.append(block)
        if len(self._open) > 1:  # which block ends first, nobody can tell
            for one in list(self._open):
                one.is_shared = True
        return block

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record the call."""
        block = self._end(error)
        if block is not None:
            self._tell(self._calls.record(block), error)

    async def __aenter__(self) -> TimedCall:
        """Start the clock."""
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record the call, in a thread: the ledger may be locked, and the loop goes on."""
        block = self._end(error)
        if block is None:
            return
        # What is being closed must not wait any more.
        wait = None if isinstance(error, GeneratorExit) else _in_thread(self._calls, block)
        told = self._calls.record(block) if wait is None else await wait
        self._tell(told, error)

    def _begin(self, block: Block) -> None:
        """What `progress` adds to a block that begins."""

    def _end(self, error: BaseException | None) -> Block | None:
        """Stop the clock; gives the block if its call is to be recorded, and counts it if not."""
        block = self._open.pop()
        block.end()
        if block.on_end is not None:
            block.on_end()
        if block.is_shared:
            self._calls.skip("refused")
            self._tell([InvalidInputError(_SHARED)], error)
            return None
        if error is None or block.outcome != "ok":
            return block
        if isinstance(error, GeneratorExit) and block.is_complete():
            return block  # the reader had all of it, and closed the generator
        self._calls.skip(reason_of(error))
        return None

    def _tell(self, told: list[Exception], error: BaseException | None) -> None:
        """Do with what somebody must be told as `on_error` says; an error of the block's wins."""
        if error is not None:
            for one in told:
                if not isinstance(one, Warning):
                    with suppress(Exception):  # a frozen one takes no notes
                        error.add_note(f"Its call is not in the ledger: {one}")
        if not told:
            return
        is_to_warn = self._on_error == "warn"
        complaints = self._calls.complaints if is_to_warn else Complaints(self._on_error)
        level = level_outside()
        for one in told:
            if is_to_warn and isinstance(one, Warning):  # each names a call of its own
                with suppress(Exception):  # a filter may turn it into an error
                    warnings.warn(one, stacklevel=level)
            else:
                complaints.tell(one, level)
        if error is None and not is_to_warn:
            complaints.raise_kept()

    # -- as a decorator -------------------------------------------------------------------------

    def __call__(self, function: Function) -> Function:
        """Measure each call of a function; what it returns is the answer.

        Of a generator, sync or async, what it yields is the stream of the answer, and the clock
        runs from the first step to the last.
        """
        if not callable(function):
            raise InvalidInputError(
                f"timed() measures a block or decorates a function, and {shown(function)} is none."
            )
        if inspect.isasyncgenfunction(function):
            wrapper: Any = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._around_coroutine(function)
        else:
            wrapper = self._around(function)
        return cast("Function", wraps(function)(wrapper))

    def _anew(self) -> Timed:
        return Timed(self._calls, self._model, self._prompt_tokens, self._on_error)

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed_function(*given: Any, **named: Any) -> Any:
            with self._anew() as call:
                call.answer = answer = function(*given, **named)
            return answer

        return timed_function

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def timed_coroutine(*given: Any, **named: Any) -> Any:
            async with self._anew() as call:
                call.answer = answer = await function(*given, **named)
            return answer

        return timed_coroutine

    def _around_generator(
        self, function: Callable[..., Generator[Any, Any, Any]]
    ) -> Callable[..., Generator[Any, Any, Any]]:
        def timed_generator(*given: Any, **named: Any) -> Generator[Any, Any, Any]:
            with self._anew() as call:
                return (yield from call.stream(function(*given, **named)))

        return timed_generator

    def _around_async_generator(
        self, function: Callable[..., AsyncGenerator[Any, Any]]
    ) -> Callable[..., AsyncGenerator[Any, Any]]:
        async def timed_generator(*given: Any, **named: Any) -> AsyncGenerator[Any, Any]:
            async with self._anew() as call:
                stream = call.stream(function(*given, **named))
                step = stream.__anext__()
                while True:
                    try:
                        chunk = await step
                    except StopAsyncIteration:
                        return
                    try:
                        step = stream.asend((yield chunk))
                    except GeneratorExit:
                        await stream.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - it is the generator's to see
                        step = stream.athrow(error)

        return timed_generator


_SHARED = (
    "one timed() was used for several blocks at once, and none of them was recorded: call timed() "
    "for each block, or decorate a function with it"
)


def _in_thread(calls: TimedCalls, block: Block) -> Awaitable[list[Exception]] | None:
    """Record in a thread, to the end also if the task is cancelled; None: there is no thread.

    Not in one of the loop's own: while a ledger is locked, they would all wait for it, and whatever
    else the program wants of them, such as the addresses of hosts, would wait, too.
    """
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # it is another's, such as trio's
        return None
    done: asyncio.Future[list[Exception]] = loop.create_future()

    def settle(told: list[Exception]) -> None:
        if not done.done():
            done.set_result(told)

    def record() -> None:
        told = calls.record(block)
        with suppress(RuntimeError):  # the loop is over, and nobody waits
            loop.call_soon_threadsafe(settle, told)

    return done if calls.start(record) else None


_PACKAGE = f"{__name__.partition('.')[0]}."


def level_outside() -> int:
    """How far up the line is that uses this package, as `warnings.warn` counts for the caller."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as `warnings` itself does
    level = 1
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
