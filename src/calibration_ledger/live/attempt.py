"""One attempt at a call over HTTP: what came back and when, and what can be learnt from it.

Several layers may see one request: a watched client, a transport that tries it again, a
`LedgerTransport`, a watched connection pool. The innermost one measures, because there it is one
attempt, without the waiting in between. Each layer leaves its mark in the request's extensions
while it sends; a layer that finds another's mark takes over from it.

The body is seen as it passes by: the client gets each chunk as it came, from a stream that stands
in for the transport's own. Nothing here may change what the client gets, so every step of ours is
taken through `quietly`: an error in it is counted and told of, and the client's call goes on.
What is no `Exception` (Ctrl-C, a task's cancellation) always goes through.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from calibration_ledger.core.answers import Answer, AnswerReader, call_of, read_request
from calibration_ledger.core.answers.reader import EVENT_BYTES_MAX
from calibration_ledger.core.failures import is_cancelled, reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Iterator
    from types import ModuleType

    from calibration_ledger.core.answers import Reason, Unlearnable
    from calibration_ledger.verbs.recorder import Recorder

PACKAGES = ("httpx", "httpx2")

HELD_MAX = EVENT_BYTES_MAX
"""The most bytes of a body that are held, while the client reads it."""

_SLICE = 1 << 12
_DECODED_MAX = 16 * HELD_MAX
"""So much of a compressed body is decoded at most, and so little of it at once: it may swell."""

LINES = 8
"""The last lines of a stream, which tell its tokens."""

_MARK = "calibration_ledger"
_STREAMS = ("text/event-stream", "ndjson", "jsonl")
_CACHES = ("hishel_from_cache", "from_cache")
"""What transports that keep answers note in the extensions of one that was not sent for."""


def packages() -> Iterator[ModuleType]:
    """The HTTP clients that are imported: `httpx` and `httpx2`, once each under any name."""
    found = dict.fromkeys(sys.modules.get(name) for name in PACKAGES)
    yield from (one for one in found if one is not None and hasattr(one, "AsyncHTTPTransport"))


# -- sending --------------------------------------------------------------------------------


class Watcher(NamedTuple):
    """Who looks at requests.

    Attributes:
        recorder: where what is learnt goes.
        path_of: the path by which a request to a URL is read; None: it is not looked at.
    """

    recorder: Recorder
    path_of: Callable[[Any], str | None]


def pass_on(send: Callable[[Any], Any], request: Any, watchers: Iterable[Watcher]) -> Any:
    """Send a request, and have its attempt recorded if it is a model call.

    Gives and raises what `send` does.
    """
    attempt = begin(request, watchers)
    try:
        response = send(request)
    except BaseException as error:
        quietly(attempt, "fail", error)
        raise
    quietly(attempt, "answer", response, False)
    return response


async def pass_on_async(
    send: Callable[[Any], Awaitable[Any]], request: Any, watchers: Iterable[Watcher]
) -> Any:
    """The same for an async transport."""
    attempt = begin(request, watchers)
    try:
        response = await send(request)
    except BaseException as error:
        quietly(attempt, "fail", error)
        raise
    quietly(attempt, "answer", response, True)
    return response


def begin(request: Any, watchers: Iterable[Watcher]) -> Attempt | None:
    """The attempt that begins now; None for what nobody looks at."""
    try:
        if request.method != "POST":
            return None
        url = request.url
        seen = [(one.recorder, path) for one in watchers if (path := one.path_of(url)) is not None]
        return Attempt(request, [recorder for recorder, _ in seen], seen[0][1]) if seen else None
    except Exception as error:  # noqa: BLE001 - whatever it is, the client's call goes on
        for one in watchers:
            one.recorder.fail(error)
        return None


def quietly(attempt: Attempt | None, step: str, *arguments: Any) -> None:
    """Take a step of an attempt, if there is one; if that fails, the attempt ends as a fault."""
    if attempt is None:
        return
    try:
        getattr(attempt, step)(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client's call goes on
        attempt.give_up(error)


# -- the attempt ----------------------------------------------------------------------------


class Attempt:
    """One request on its way, from before it is sent until its answer ends.

    A stream is read until its first token, for the time of it. What follows is held, up to
    `HELD_MAX`, and at the end the last lines of it are read, because there the numbers are: to look
    at each event on its way would delay them all. What is compressed is held and read at its end.

    Attributes:
        recorders: who records it: those of this layer, and of the layers around it.
        is_outer: whether a layer further in has taken over.
        is_open: empty once its fate is known. A dict, because only one can take something out: a
            thread may read while another closes.
    """

    def __init__(self, request: Any, recorders: Iterable[Recorder], path: str) -> None:
        """Begin: the request is sent now.

        Args:
            request: the client's; only its extensions are touched, and set back.
            recorders: this layer's.
            path: the path by which the request is read.
        """
        self._outer: Attempt | None = request.extensions.get(_MARK)
        around = () if self._outer is None else self._outer.recorders
        self.recorders = tuple(dict.fromkeys([*around, *recorders]))
        self.is_outer = False
        self.is_open = {"yes": True}
        self._path = path
        self._request = request
        self._reader = AnswerReader()
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_size = 0
        self._is_cut = False
        self._encoding = ""
        self._headers: Any = {}
        self._first_at: float | None = None
        request.extensions[_MARK] = self
        if self._outer is not None:
            self._outer.is_outer = True
        self._called_at = datetime.now(UTC)
        self._started = self._ended = perf_counter()

    def give_up(self, error: Exception) -> None:
        """A step of ours failed: count the call as a fault, if its fate is not known yet."""
        if self.is_open.pop("yes", False):
            for recorder in self.recorders:
                recorder.fail(error)

    def _unmark(self) -> None:
        if self._outer is None:
            del self._request.extensions[_MARK]
        else:
            self._request.extensions[_MARK] = self._outer

    def fail(self, error: BaseException) -> None:
        """There is no answer."""
        self._unmark()
        if not self.is_outer:
            self._skip(reason_of(error))

    def answer(self, response: Any, is_async: bool) -> None:
        """The head of an answer is there: see its body pass by."""
        self._unmark()
        if self.is_outer:
            return
        if response.status_code >= 400:  # noqa: PLR2004 - HTTP's: from here on it is an error
            self._skip("failed")
        elif not 200 <= response.status_code < 300:  # noqa: PLR2004 - HTTP's: sent on elsewhere
            return
        elif any(response.extensions.get(name) for name in _CACHES):
            self._skip("cached")
        else:
            self._headers = response.headers
            if response.is_stream_consumed or response.is_closed:
                # A stand-in for a server, or a transport that reads ahead: there is no more to see.
                self.see(response.content)
                self.end(None)
            else:
                encoding = response.headers.get("content-encoding", "").lower()
                is_none = encoding == "identity" or not encoding.isascii()
                self._encoding = "" if is_none else encoding
                response.stream = tee(response.stream, self, is_async)

    def see(self, chunk: bytes) -> None:
        """A chunk of the body passes by."""
        self._ended = at = perf_counter()
        if self._first_at is None and not self._encoding:
            self._take(at, chunk)
            return
        self._held.append((at, chunk))
        self._held_size += len(chunk)
        while self._held_size > HELD_MAX:
            self._held_size -= len(self._held.popleft()[1])
            self._is_cut = True

    def _take(self, at: float, data: bytes) -> None:
        self._reader.feed(data)
        if self._first_at is None and self._reader.has_content:
            self._first_at = at

    def _read_held(self) -> Answer | Unlearnable:
        """Read what was held; of a stream the last lines, and all only if they do not tell."""
        reader = self._reader
        if self._encoding:
            if not self._is_cut:
                self._decode()
            return reader.result()
        data = b"".join([chunk for _, chunk in self._held])
        start = len(data)
        for _ in range(LINES):
            start = data.rfind(b"\n", 0, max(start - 1, 0)) + 1
            if not start:
                break
        if start:
            reader.feed(b"\n\n")  # whatever was cut off there
            reader.feed(data[start:])
            # Between the counts and the end there may be more, such as comments that keep a
            # connection alive.
            found = reader.result()
            if isinstance(found, Answer):
                return found
        reader.feed(data[:start] or data)
        return reader.result()

    def end(self, error: BaseException | None) -> None:
        """The body has come to its end, or to an error; record what it says."""
        self._settle(None if error is None else reason_of(error))

    def leave(self) -> None:
        """The client closes the answer; if it did not read to the end, it may have enough."""
        if self.is_open:
            self._settle("cancelled" if is_cancelled(sys.exc_info()[1]) else "left early")

    def _skip(self, reason: Reason) -> None:
        if self.is_open.pop("yes", False):
            for recorder in self.recorders:
                recorder.skip(reason)

    def _settle(self, reason: Reason | None) -> None:
        """Record the call, or count why not.

        Args:
            reason: why the body did not come to its end; None if it did.
        """
        if not self.is_open:
            return
        asked = read_request(self._path, body_of(self._request))
        if asked is None:  # an /api/chat of somebody's own
            self.is_open.clear()
            return
        reader = self._reader
        reader.asked_model = asked.asked_model
        try:
            found = self._read_held()
        finally:
            self._held.clear()
        if isinstance(found, Answer):
            self._put(found, asked.is_stream)
        elif self._is_cut and not reader.is_complete:
            self._skip("too long")
        elif reason is None or reader.is_complete or found.reason == "failed":
            self._skip(found.reason)
        else:
            self._skip(reason)

    def _put(self, answer: Answer, is_stream: bool | None) -> None:
        if is_stream is None:
            told = self._headers.get("content-type", "")
            is_stream = any(kind in told for kind in _STREAMS)
        details: dict[str, Any] = {"clock": "attempt", "streamed": is_stream}
        if is_stream and self._first_at is not None:
            details["ttft_ms"] = round((self._first_at - self._started) * 1000.0, 3)
        elapsed_ms = round((self._ended - self._started) * 1000.0, 3)
        # Two recorders may be of one ledger: a notebook's cell that ran again makes a second.
        shared = uuid4().hex if len(self.recorders) > 1 else None
        call = call_of(
            answer, elapsed_ms, called_at=self._called_at, request_id=shared, details=details
        )
        if self.is_open.pop("yes", False):
            for recorder in self.recorders:
                recorder.put(call)

    def _decode(self) -> None:
        """Read what was held for its encoding, through the client's own decoders."""
        now = 0.0

        def raw() -> Iterator[bytes]:
            nonlocal now
            for at, data in self._held:
                now = at
                yield from (data[i : i + _SLICE] for i in range(0, len(data), _SLICE))

        package = next(one for one in packages() if isinstance(self._request, one.Request))
        copy = package.Response(200, headers={"content-encoding": self._encoding}, content=raw())
        with suppress(package.DecodingError):  # it was cut off; what came before counts
            room = _DECODED_MAX
            for data in copy.iter_bytes():
                self._take(now, data)
                room -= len(data)
                if room < 0:
                    self._is_cut = True
                    return


def body_of(request: Any) -> bytes:
    """The body of a request, where it is in memory: an upload is never read ahead of its turn."""
    try:
        content: bytes = request.content
    except Exception:  # noqa: BLE001 - each client has an error of its own for it
        return b""
    return content


# -- the body, as the client reads it -------------------------------------------------------


def tee(stream: Any, attempt: Attempt, is_async: bool) -> Any:
    """A stream that stands in for the transport's, and lets the attempt see what passes by."""
    kind = tee_class(stream.__class__, is_async)
    return stream if kind is None else kind(stream, attempt)


@cache
def tee_class(theirs: type, is_async: bool) -> type | None:
    """The class of the stand-ins for streams of a class; None where no client's package knows it.

    Clients check of what class a stream is, so it is one of their package's own.
    """
    for package in packages():
        base = package.AsyncByteStream if is_async else package.SyncByteStream
        if issubclass(theirs, base):
            ours = _AsyncTee if is_async else _Tee
            return type("LedgerStream", (ours, base), {"__module__": __name__})
    return None


class _Stream:
    """What both kinds of streams share: whatever else the transport's own stream has."""

    def __init__(self, stream: Any, attempt: Attempt) -> None:
        self._stream = stream
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        if name == "_stream" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        """The client dropped the answer, and closed nothing."""
        quietly(self._attempt, "leave")


class _Tee(_Stream):
    def __iter__(self) -> Generator[bytes, None, None]:
        attempt = self._attempt
        chunks = iter(self._stream)
        try:
            for chunk in chunks:
                try:
                    attempt.see(chunk)
                except Exception as error:  # noqa: BLE001 - `quietly`, without its cost a chunk
                    attempt.give_up(error)
                yield chunk
        except GeneratorExit as error:
            # As `yield from` would. Only then is it told: to close may take time.
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            quietly(attempt, "end", error)
            raise
        except BaseException as error:
            quietly(attempt, "end", error)
            raise
        quietly(attempt, "end", None)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            quietly(self._attempt, "leave")


class _AsyncTee(_Stream):
    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        attempt = self._attempt
        chunks = aiter(self._stream)
        try:
            async for chunk in chunks:
                try:
                    attempt.see(chunk)
                except Exception as error:  # noqa: BLE001 - as above
                    attempt.give_up(error)
                yield chunk
        except GeneratorExit as error:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()
            quietly(attempt, "end", error)
            raise
        except BaseException as error:
            quietly(attempt, "end", error)
            raise
        quietly(attempt, "end", None)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            quietly(self._attempt, "leave")
