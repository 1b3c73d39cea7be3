"""HTTP: record every model call that a program makes through `httpx` or `httpx2`.

`watch(calibrator)` is the one line; `LedgerTransport` and `AsyncLedgerTransport` do the same for
one client, without touching any class. All three let `live.attempt` see a request on its way.

Where `watch` steps in, and why there. A client sends each attempt through a transport, which is the
documented seam of both packages; what a transport gives is wrapped by the client itself, which
keeps `elapsed` and `is_closed` of the answer. (`Client._send_single_request` is above that seam: a
stream exchanged there hides the client's own, from which httpx2 reads `elapsed`.) So:

- `HTTPTransport.handle_request`, which nearly every request goes through, measures. It lies beneath
  transports that try again, such as pydantic-ai's, so that an attempt is one attempt.
- `Client._transport_for_url` puts a transport of ours around any other transport that the client
  picks (LiteLLM's sends through aiohttp). A client has no public method for that; where this one
  is missing, only such transports go unseen.

Only a POST to a path at which providers answer prompts is looked at. All else passes after a look
into a dict.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.answers import read_request
from calibration_ledger.errors import InvalidInputError, shown
from calibration_ledger.live.attempt import PACKAGES, Watcher, packages, pass_on, pass_on_async
from calibration_ledger.live.hook import Hook, recorder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Self

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.recorder import Recorder

STOP_S = 10.0
"""How long `stop()` waits for what was seen to be in the ledger."""

_KNOWN_MAX = 1_000
"""Paths that are remembered: some have ids in them, and would become ever more."""

_LIKE = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "ollama": "/api/chat",
    "llama.cpp": "/completion",
    "gemini": "/v1beta/models/MODEL:generateContent",
}
"""The path of each API, by which a request to a path of the caller's is read."""


class Scope:
    """Which requests are looked at: the known paths of providers, and what the caller adds."""

    def __init__(
        self, hosts: Iterable[str] = (), paths: Iterable[str] | Mapping[str, str | None] = ()
    ) -> None:
        """See `watch`.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        for name, given in (("hosts", hosts), ("paths", paths)):
            if isinstance(given, str) or not isinstance(given, Iterable):
                raise InvalidInputError(f"{name} must be a list of texts, not {shown(given)}.")
        hosts = list(hosts)
        likes = paths if isinstance(paths, Mapping) else dict.fromkeys(paths)
        for path, api in likes.items():
            if not isinstance(path, str) or not path.startswith("/"):
                raise InvalidInputError(f"a path must begin with '/', not be {shown(path)}.")
            if api is not None and api not in _LIKE:
                raise InvalidInputError(f"paths names no API {shown(api)}: one of {[*_LIKE]}.")
        for host in hosts:
            if not isinstance(host, str) or not host or "/" in host:
                raise InvalidInputError(
                    f'hosts must be names such as "llm.example" or "llm.example:8080", not '
                    f"{shown(host)}."
                )
        self._hosts = frozenset(host.lower() for host in hosts)
        self._paths = {path: _LIKE[api or "openai.chat"] for path, api in likes.items()}
        self._known: dict[Any, str | None] = {}

    def path_of(self, url: Any) -> str | None:
        """The path by which a request to here is read; None: it is not looked at."""
        path: str = url.path
        key = (url.scheme, url.host, url.port, path) if self._hosts else path
        try:
            return self._known[key]
        except KeyError:
            pass
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        found = self._known[key] = self._look(url, path)
        return found

    def _look(self, url: Any, path: str) -> str | None:
        for end, like in self._paths.items():
            if path.rstrip("/").endswith(end.rstrip("/")):
                return like
        if read_request(path, b"") is not None:
            return path
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        if self._hosts.isdisjoint({url.host, f"{url.host}:{port}"}):
            return None
        return _LIKE["openai.chat"]


# -- for one client -------------------------------------------------------------------------

# The base class of transports is the client's package's, and there are two. Clients only call the
# methods; type checkers take a subclass of Any for both.
_Transport: Any = object


class _Sender(Hook, _Transport):  # type: ignore[misc]  # of Any: see above
    """What both transports share."""

    _default: str

    def __init__(
        self,
        calibrator: AdaptiveCalibrator | Recorder,
        transport: Any = None,
        *,
        hosts: Iterable[str] = (),
        paths: Iterable[str] | Mapping[str, str | None] = (),
        on_error: OnError = "warn",
    ) -> None:
        """Send through this transport.

        Args:
            calibrator: the ledger's, or a recorder.
            transport: what sends; None: the package's own, with its defaults. With a transport, a
                client leaves `verify`, `http2`, `limits`, `proxy` and the proxies of the
                environment to it: give one that is made with what you need of these.
            hosts: see `watch`.
            paths: see `watch`.
            on_error: see `AdaptiveCalibrator.recorder`.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        self.recorder = recorder_of(calibrator, on_error)
        self._watchers = (Watcher(self.recorder, Scope(hosts, paths).path_of),)
        self._transport = transport

    def _sender(self, request: Any) -> Any:
        """The transport that sends."""
        if self._transport is None:
            package = next(one for one in packages() if isinstance(request, one.Request))
            self._transport = getattr(package, self._default)()
        return self._transport


class LedgerTransport(_Sender):
    """Records the model calls of one client of `httpx` or `httpx2`, and patches nothing.

    `openai.OpenAI(http_client=openai.DefaultHttpxClient(transport=LedgerTransport(calibrator)))`
    """

    _default = "HTTPTransport"

    def handle_request(self, request: Any) -> Any:
        """Send a request, and have its attempt recorded if it is a model call."""
        return pass_on(self._sender(request).handle_request, request, self._watchers)

    def close(self) -> None:
        """Close the transport. The calls that were seen are recorded nevertheless."""
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Self:
        """Open the transport."""
        if self._transport is not None:
            self._transport.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.__exit__(kind, error, trace)


class AsyncLedgerTransport(_Sender):
    """The same for an async client.

    `openai.AsyncOpenAI(http_client=openai.DefaultAsyncHttpxClient(transport=AsyncLedgerTransport(
    calibrator)))`
    """

    _default = "AsyncHTTPTransport"

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, and have its attempt recorded if it is a model call."""
        send = self._sender(request).handle_async_request
        return await pass_on_async(send, request, self._watchers)

    async def aclose(self) -> None:
        """Close the transport. The calls that were seen are recorded nevertheless."""
        if self._transport is not None:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        """Open the transport."""
        if self._transport is not None:
            await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Close it."""
        if self._transport is not None:
            await self._transport.__aexit__(kind, error, trace)


# -- for a whole program --------------------------------------------------------------------


class _Patch(NamedTuple):
    """A method of a client's class in whose place stands one of ours."""

    owner: type
    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]


_watchers: tuple[Watcher, ...] = ()
"""Those that look on now. Exchanged as a whole, because requests are on their way meanwhile."""

_watches: list[Watch] = []
_patches: list[_Patch] = []
_lock = RLock()


def watch(
    calibrator: AdaptiveCalibrator | Recorder,
    *,
    hosts: Iterable[str] = (),
    paths: Iterable[str] | Mapping[str, str | None] = (),
    on_error: OnError = "warn",
) -> Watch:
    """Record every model call that this program makes through `httpx` or `httpx2`.

    That is what the clients of OpenAI, Anthropic, Groq, Ollama, Google and Mistral send through,
    and LiteLLM, LangChain and pydantic-ai with them; it does not matter whether they are imported,
    or their clients made, before or after. A call that was answered is recorded with the
    provider's token counts and the time of its attempt, without retries and the waiting between
    them. Its details have `clock: attempt`, `streamed`, `ttft_ms` of a stream, and what the
    provider tells besides. All others are counted by reason in `skipped`.

    What is sent through other libraries is not seen. Where aiohttp is installed, google-genai's
    async calls go through it, unless the client is made with `httpx_async_client`.

    The program's calls are neither changed nor delayed nor broken: what cannot be read or recorded
    is counted, and told of under `on_error`. Of bodies nothing is kept but numbers, names and
    times.

    Args:
        calibrator: the ledger's, or a recorder.
        hosts: of these hosts (`"llm.example"`, `"llm.example:8080"`) every POST is looked at,
            whatever its path.
        paths: paths that are looked at besides the known ones, on any host, by their end:
            `["/my/chat"]`. A mapping names the API whose shape requests have:
            `{"/my/chat": "ollama"}`; answers are read by what they hold.
        on_error: see `AdaptiveCalibrator.recorder`. The hooks of one calibrator share a recorder,
            and so the first one's wish; a recorder that is handed in has its own.

    Returns:
        A `Watch`, to stop it with: by `stop()` or `with`.

    Raises:
        InvalidInputError: an argument is not what it must be.
        LedgerClosedError: the calibrator is closed.
    """
    return Watch(recorder_of(calibrator, on_error), Scope(hosts, paths))


class Watch(Hook):
    """Looks at this program's model calls until it is stopped; made by `watch`.

    Attributes:
        recorder: what records.
    """

    def __init__(self, recorder: Recorder, scope: Scope) -> None:
        """Begin; see `watch`, which makes it."""
        self.recorder = recorder
        self.watcher = Watcher(recorder, scope.path_of)
        with _lock:
            _watches.append(self)
            _renew()
        _await_imports()
        with _lock:
            _renew()

    def stop(self) -> None:
        """Stop looking, and put everything back, in any order with others; again does nothing.

        Calls that are under way are recorded nevertheless. It waits for the ledger up to 10 s; what
        is not recorded then is recorded later.

        Raises:
            CalibrationLedgerError: with `on_error="raise"`, the first error so far.
        """
        with _lock:
            if self not in _watches:
                return
            _watches.remove(self)
            _renew()
        self.recorder.flush(STOP_S)

    def __enter__(self) -> Self:
        """`with watch(calibrator):` stops at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        """Whether it is at it, and its recorder."""
        return f"<Watch, {'on' if self in _watches else 'stopped'}: {self.recorder!r}>"


def _renew() -> None:
    """Patch what is imported if there is a watch, and put back what is patched if there is none."""
    global _watchers  # noqa: PLW0603 - one process has one set of classes to patch
    _watchers = tuple(one.watcher for one in _watches)
    if not _watches:
        if _finder in sys.meta_path:
            sys.meta_path.remove(_finder)
        while _patches:
            _put_back(_patches.pop())
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for package in packages():
        _patch(package)


def _await_imports() -> None:
    """Let other threads come to the end of an import. Without the lock: some need it for that."""
    for name in PACKAGES:
        if name in sys.modules:
            with suppress(Exception):  # it cannot be imported, or must not be
                import_module(name)


def _patch(package: ModuleType) -> None:
    for kind, name, make in (
        ("HTTPTransport", "handle_request", _handle_request),
        ("AsyncHTTPTransport", "handle_async_request", _handle_async_request),
        ("Client", "_transport_for_url", _transport_for_url),
        ("AsyncClient", "_transport_for_url", _transport_for_url),
    ):
        owner = getattr(package, kind, None)  # None: it is in the middle of its import
        if owner is None or any(one.owner is owner and one.name == name for one in _patches):
            continue
        theirs = vars(owner).get(name)
        if theirs is not None:
            ours = make(theirs)
            ours.is_of_the_ledger = True
            setattr(owner, name, ours)
            _patches.append(_Patch(owner, name, ours, theirs))


def _put_back(patch: _Patch) -> None:
    """Put the original back, unless somebody has patched over it since.

    Theirs calls ours then, and may go on: without a watch it only hands on.
    """
    if vars(patch.owner).get(patch.name) is patch.ours:
        setattr(patch.owner, patch.name, patch.theirs)


def _handle_request(theirs: Callable[..., Any]) -> Any:
    @wraps(theirs)
    def handle_request(self: Any, request: Any) -> Any:
        if not _watchers:
            return theirs(self, request)
        return pass_on(partial(theirs, self), request, _watchers)

    return handle_request


def _handle_async_request(theirs: Callable[..., Any]) -> Any:
    @wraps(theirs)
    async def handle_async_request(self: Any, request: Any) -> Any:
        if not _watchers:
            return await theirs(self, request)
        return await pass_on_async(partial(theirs, self), request, _watchers)

    return handle_async_request


def _transport_for_url(theirs: Callable[..., Any]) -> Any:
    @wraps(theirs)
    def transport_for_url(self: Any, url: Any) -> Any:
        transport = theirs(self, url)
        watchers = _watchers
        try:
            return (
                _WatchedTransport(transport) if is_unseen(transport, url, watchers) else transport
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the client's call goes on
            for one in watchers:
                one.recorder.fail(error)
            return transport

    return transport_for_url


def is_unseen(transport: Any, url: Any, watchers: Iterable[Watcher]) -> bool:
    """Whether somebody looks at requests to here, and the transport passes none of ours."""
    if all(one.path_of(url) is None for one in watchers):
        return False
    for name in ("handle_request", "handle_async_request"):
        # What patches over ours copies its attributes: `functools.wraps` and its like do.
        if getattr(getattr(transport, name, None), "is_of_the_ledger", False) is True:
            return False
    return True


class _WatchedTransport:
    """A transport of somebody else's, for one request of a watched client."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def handle_request(self, request: Any) -> Any:
        return pass_on(self._transport.handle_request, request, _watchers)

    async def handle_async_request(self, request: Any) -> Any:
        return await pass_on_async(self._transport.handle_async_request, request, _watchers)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


# -- what is imported later -----------------------------------------------------------------


class _Finder(MetaPathFinder):
    """Patches a package once it has run; where it lies, the other finders know."""

    def __init__(self) -> None:
        self._asked: set[tuple[str, int]] = set()

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the import system passes them
        target: ModuleType | None = None,  # noqa: ARG002 - the same
    ) -> ModuleSpec | None:
        asked = name, get_ident()  # one thread may only look for it while another imports it
        if name not in PACKAGES or asked in self._asked:
            return None
        self._asked.add(asked)
        try:
            spec = find_spec(name)
        finally:
            self._asked.discard(asked)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Stands in for a package's loader until the package has run."""

    def __init__(self, theirs: Loader) -> None:
        self._theirs = theirs

    def __getattr__(self, name: str) -> Any:
        if name == "_theirs":
            raise AttributeError(name)
        return getattr(self._theirs, name)  # such as its source, for who only looks for it

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._theirs.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._theirs
        module.__loader__ = self._theirs
        self._theirs.exec_module(module)
        with suppress(Exception), _lock:  # the import is the program's own
            if _watches:
                _patch(module)


_finder = _Finder()
