"""`watch` and the transports, with httpx itself, and with httpx2 where that is installed."""

import asyncio
import copy
import gc
import gzip
import inspect
import json
import os
import pickle
import statistics
import sys
import threading
import time
import tracemalloc
import zlib
from contextlib import suppress

import httpx
import pytest

from calibration_ledger import AdaptiveCalibrator, InvalidInputError, NotRecordedWarning
from calibration_ledger.live import AsyncLedgerTransport, LedgerTransport, attempt, watch
from calibration_ledger.live import http as hooks
from support.fake_provider import Behaviour
from support.programs import ran, started

VERIFY = False
"""Nothing here is encrypted, and to load the certificates of the world takes long."""

HELLO = [{"role": "user", "content": "hello there"}]
USAGE = {"stream_options": {"include_usage": True}}
CHAT = {"model": "asked", "messages": HELLO}
STREAM = {**CHAT, **USAGE, "stream": True}

APIS = {
    "openai.chat": ("/v1/chat/completions", STREAM),
    "openai.completions": ("/v1/completions", {"model": "asked", "prompt": "hello", **USAGE}),
    "openai.responses": ("/v1/responses", {"model": "asked", "input": "hello"}),
    "anthropic": ("/v1/messages", {**CHAT, "max_tokens": 9}),
    "ollama.chat": ("/api/chat", CHAT),
    "ollama.generate": ("/api/generate", {"model": "asked", "prompt": "hello"}),
    "groq": ("/openai/v1/chat/completions", CHAT),
    "llama.cpp": ("/completion", {"model": "asked", "prompt": "hello"}),
    "vllm": ("/vllm/v1/chat/completions", STREAM),
    "gemini": ("/v1beta/models/asked:generateContent", {"contents": [{"parts": HELLO}]}),
}


@pytest.fixture(params=["httpx", "httpx2"])
def package(request):
    return pytest.importorskip(request.param)


@pytest.fixture(params=["sync", "async"])
def how(request):
    return request.param


@pytest.fixture(autouse=True)
def _all_is_put_back():
    """What a test leaves of the classes and the import system is what it found."""
    before = methods(), list(sys.meta_path)
    yield
    left = [one for one in hooks._watches if one.stop() is None]
    assert left == []
    assert (methods(), sys.meta_path) == before
    assert hooks._watchers == ()


def methods():
    found = []
    for module in attempt.packages():
        for kind in ("Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport"):
            found += vars(getattr(module, kind)).items()
    return found


class Got(list):
    """The chunks of a body as the client got them, and the response that they came in."""

    response = None


def posted(package, how, url, body=None, *, most=None, **options):
    """Post, and read the raw chunks of the answer, or the first few of them."""
    client = options.pop("client", None)
    options.setdefault("verify", VERIFY)
    more = {"content": options.pop("content")} if "content" in options else {"json": body}
    more["headers"] = options.pop("headers", None)

    def sync():
        got = Got()
        with (
            client or package.Client(**options) as opened,
            opened.stream("POST", url, **more) as got.response,
        ):
            for chunk in got.response.iter_raw() if most != 0 else ():
                got.append(chunk)
                if len(got) == most:
                    break
        return got

    async def not_sync():
        got = Got()
        opened = client or package.AsyncClient(**options)
        async with opened, opened.stream("POST", url, **more) as got.response:
            if most == 0:
                return got
            async for chunk in got.response.aiter_raw():
                got.append(chunk)
                if len(got) == most:
                    break
        return got

    return sync() if how == "sync" else asyncio.run(not_sync())


def client_of(package, how, answer, **options):
    """A client whose server is a function from a request to a response."""
    kind = package.Client if how == "sync" else package.AsyncClient
    return kind(transport=package.MockTransport(answer), **options)


class Chunks:
    """The body of a response in these chunks, for either kind of client."""

    def __new__(cls, package, *chunks, error=None):
        def sync(_):
            yield from chunks
            if error is not None:
                raise error

        async def not_sync(_):
            for chunk in chunks:
                yield chunk
            if error is not None:
                raise error

        bases = (package.SyncByteStream, package.AsyncByteStream)
        return type("Body", bases, {"__iter__": sync, "__aiter__": not_sync})()


def body_of(**more):
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}
    return json.dumps({"model": "answered", "choices": [choice], "usage": usage, **more}).encode()


def event(text=None, **more):
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}}]
    return b"data: " + json.dumps({"model": "m", "choices": choices, **more}).encode() + b"\n\n"


EVENTS = [event("a"), event("b"), event(usage={"prompt_tokens": 11, "completion_tokens": 7})]
END = b"data: [DONE]\n\n"
SSE = {"content-type": "text/event-stream"}
URL = "http://provider.test/v1/chat/completions"


# -- what is recorded -----------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("api", APIS)
def test_a_call_is_recorded_with_the_providers_counts(
    calibrator, fake, package, how, api, streamed
):
    path, body = APIS[api]
    if streamed and api == "gemini":
        path = path.replace(":g", ":streamG") + "?alt=sse"
    with watch(calibrator) as watched:
        posted(package, how, fake.root + path, {**body, "stream": streamed})
    (call,) = calibrator.calls()
    assert (call.model, call.prompt_tokens, call.completion_tokens) == ("asked", 11, 7)
    assert call.details["clock"] == "attempt"
    assert call.details["streamed"] is streamed
    assert ("ttft_ms" in call.details) is streamed
    assert 10 <= call.details.get("ttft_ms", 10) <= call.actual_ms < 2_000
    assert (watched.recorded, dict(watched.skipped), watched.dropped) == (1, {}, 0)


def test_the_model_is_the_one_asked_for_and_the_other_is_kept(calibrator, fake, package, how):
    fake.default = Behaviour(prompt_tokens=11, completion_tokens=7, answered_model="asked-2026")
    with watch(calibrator):
        posted(package, how, fake.openai + "/chat/completions", CHAT)
    (call,) = calibrator.calls()
    assert (call.model, call.details["answered_model"]) == ("asked", "asked-2026")


def test_the_time_is_that_of_the_attempt_until_its_last_event(calibrator, package, how):
    """What the client does with the last event, and how it closes, is no part of it."""

    def answer(request):
        time.sleep(0.03)
        return package.Response(200, headers=SSE, stream=Chunks(package, *EVENTS, END))

    async def read():
        async with client_of(package, "async", answer) as client, client.stream("POST", URL) as got:
            async for chunk in got.aiter_raw():
                if chunk == END:
                    await asyncio.sleep(0.3)

    with watch(calibrator):
        if how == "async":
            asyncio.run(read())
        else:
            with client_of(package, how, answer) as client, client.stream("POST", URL) as got:
                for chunk in got.iter_raw():
                    if chunk == END:
                        time.sleep(0.3)
    (call,) = calibrator.calls()
    assert 30 <= call.details["ttft_ms"] <= call.actual_ms < 300


def test_a_client_that_stops_at_the_end_marker_has_read_it_all(calibrator, package, how):
    def answer(request):
        return package.Response(200, headers=SSE, stream=Chunks(package, *EVENTS, END, b"\n"))

    with watch(calibrator) as watched:
        posted(package, how, URL, client=client_of(package, how, answer), most=4)
    assert (watched.recorded, dict(watched.skipped)) == (1, {})


def test_counts_are_found_before_any_number_of_lines_that_keep_a_stream_alive(
    calibrator, package, how
):
    alive = [b": alive\n\n"] * 50

    def answer(request):
        return package.Response(200, headers=SSE, stream=Chunks(package, *EVENTS, *alive, END))

    with watch(calibrator) as watched:
        posted(package, how, URL, STREAM, client=client_of(package, how, answer))
    assert (watched.recorded, dict(watched.skipped)) == (1, {})


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, deflate", "br", "zstd", "identity"])
def test_a_compressed_answer_is_read_and_passed_on_as_it_is(
    calibrator, package, how, encoding, streamed
):
    plain = b"".join([*EVENTS, END]) if streamed else body_of()
    data = compressed(plain, encoding)
    chunks = [data[i : i + 40] for i in range(0, len(data), 40)]
    headers = {**(SSE if streamed else {}), "content-encoding": encoding}

    def answer(request):
        return package.Response(200, headers=headers, stream=Chunks(package, *chunks))

    with watch(calibrator):
        got = posted(package, how, URL, STREAM, client=client_of(package, how, answer))
    assert got == chunks
    (call,) = calibrator.calls()
    assert (call.prompt_tokens, call.completion_tokens) == (11, 7)


def compressed(data, encoding):
    if encoding == "br":
        return pytest.importorskip("brotli").compress(data)
    if encoding == "zstd":
        return pytest.importorskip("zstandard").compress(data)
    for one in encoding.split(", "):
        data = {"gzip": gzip.compress, "deflate": zlib.compress}.get(one, bytes)(data)
    return data


def test_an_answer_of_a_long_stream_is_read_but_not_one_that_is_too_long(calibrator, package, how):
    long = [event("x" * 1_000)] * 2_000
    answers = iter(
        [
            (SSE, [*long, *EVENTS]),
            ({}, [body_of(more="x" * 2_000_000)]),
            ({"content-encoding": "gzip"}, [gzip.compress(body_of(more="x" * 2_000_000))]),
            ({"content-encoding": "gzip"}, [b"\x1f\x8b" + b"\0" * 600_000] * 2),
        ]
    )

    def answer(request):
        headers, chunks = next(answers)
        return package.Response(200, headers=headers, stream=Chunks(package, *chunks))

    with watch(calibrator) as watched:
        for _ in range(4):
            posted(package, how, URL, STREAM, client=client_of(package, how, answer))
    assert (watched.recorded, dict(watched.skipped)) == (1, {"too long": 3})


@pytest.mark.parametrize("text", [b"x", b": " + b"x" * 5_000 + b"\n"], ids=["line", "lines"])
def test_a_small_answer_that_swells_when_it_is_decoded_fills_no_memory(calibrator, package, text):
    small = gzip.compress(text * (2**26 // len(text)))  # 64 MiB
    assert len(small) < 2**18

    def answer(request):
        stream = Chunks(package, small)
        return package.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    tracemalloc.start()
    try:
        with watch(calibrator) as watched:
            client = client_of(package, "sync", answer)
            assert posted(package, "sync", URL, STREAM, client=client) == [small]
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert dict(watched.skipped) == {"too long": 1}


def test_an_encoding_that_is_no_text_is_none(calibrator, package):
    def answer(request):
        headers = [(b"content-encoding", b"\xff"), (b"content-type", b"\xfe")]
        return package.Response(200, headers=headers, stream=Chunks(package, body_of()))

    with watch(calibrator) as watched:
        posted(package, "sync", URL, CHAT, client=client_of(package, "sync", answer))
    assert (watched.recorded, dict(watched.skipped)) == (1, {})


def test_no_text_of_prompts_or_answers_is_in_any_file_of_the_ledger(ledger_path, tmp_path, package):
    canaries = [f"canary-{name}-3f9a" for name in ("prompt", "system", "answer", "key")]

    def answer(request):
        chunks = [event(canaries[2]), *EVENTS, END]
        return package.Response(200, headers=SSE, stream=Chunks(package, *chunks))

    messages = [
        {"role": "system", "content": canaries[1]},
        {"role": "user", "content": canaries[0]},
    ]
    with AdaptiveCalibrator(ledger_path) as calibrator, watch(calibrator):
        for path in ("/v1/chat/completions", "/v1beta/models/m:streamGenerateContent"):
            url = f"http://provider.test{path}?key={canaries[3]}"
            body = {"model": "m", "messages": messages, "stream": True}
            posted(package, "sync", url, body, client=client_of(package, "sync", answer))
            (tmp_path / "later.db").unlink(missing_ok=True)
            calibrator.calls()
        hooks._watches[0].recorder.flush()
        calibrator.backup(tmp_path / "copy.db")
        files = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
        assert sum(len(data) for data in files.values()) > 10_000
        assert len(list(calibrator.calls())) == 2
    files |= {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    held = [(path, one) for path, data in files.items() for one in canaries if one.encode() in data]
    assert held == []


@pytest.mark.parametrize("body", ["whole", "streamed", "gzip"])
def test_nothing_of_a_body_is_held_once_it_was_read(calibrator, package, body):
    headers, chunks = BODIES[body]

    def answer(request):
        return package.Response(200, headers=headers, stream=Chunks(package, *chunks))

    with watch(calibrator) as watched:
        got = posted(package, "sync", URL, STREAM, client=client_of(package, "sync", answer))
    assert watched.recorded == 1
    held = got.response.stream._stream._attempt  # the client's stream, and ours in it
    assert not held._held
    assert not held._reader._rest


# -- what is not recorded -------------------------------------------------------------------


def test_two_refusals_and_an_answer_are_one_call_with_the_time_of_the_last(
    calibrator, fake, package, how
):
    fake.plan(Behaviour(failure="status", status=429, fail_times=2, first_ms=250))
    with watch(calibrator) as watched:
        for _ in range(3):
            posted(package, how, fake.openai + "/chat/completions", CHAT)
    (call,) = calibrator.calls()
    assert call.actual_ms < 250
    assert dict(watched.skipped) == {"failed": 2}


FAILURES = {
    "500": (Behaviour(failure="status", status=500), "failed"),
    "400": (Behaviour(failure="status", status=400), "failed"),
    "time-out": (Behaviour(failure="hang", hang_s=2), "timeout"),
    "disconnect": (Behaviour(failure="disconnect"), "failed"),
    "error in the answer": (Behaviour(failure="error_event"), "failed"),
    "no JSON": (Behaviour(failure="bad_json"), "unreadable"),
    "no usage": (Behaviour(usage="omit"), "unknown tokens"),
    "null usage": (Behaviour(usage="null"), "unknown tokens"),
    "usage of zeros": (Behaviour(usage="zero"), "unknown tokens"),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("failure", FAILURES)
def test_what_fails_is_not_recorded_but_counted_by_reason(
    calibrator, fake, package, how, failure, streamed
):
    behaviour, reason = FAILURES[failure]
    fake.plan(behaviour)
    with watch(calibrator) as watched, suppress(package.TransportError):
        body = STREAM if streamed else CHAT
        posted(package, how, fake.openai + "/chat/completions", body, timeout=0.3)
    assert (watched.recorded, dict(watched.skipped)) == (0, {reason: 1})


def test_a_stream_that_is_left_early_is_counted(calibrator, fake, package, how):
    with watch(calibrator) as watched:
        posted(package, how, fake.openai + "/chat/completions", STREAM, most=1)
        posted(package, how, fake.openai + "/chat/completions", STREAM, most=0)
    assert (watched.recorded, dict(watched.skipped)) == (0, {"left early": 2})


def test_a_stream_that_is_dropped_unread_is_counted(calibrator, fake, package):
    with watch(calibrator) as watched, package.Client(verify=VERIFY) as client:
        for _ in range(2):
            request = client.build_request("POST", fake.openai + "/chat/completions", json=STREAM)
            answer = client.send(request, stream=True)
            del answer, request
            gc.collect()
    assert dict(watched.skipped) == {"left early": 2}


def test_a_body_that_ends_before_its_end_marker_is_counted_as_incomplete(calibrator, package, how):
    def answer(request):
        return package.Response(200, headers=SSE, stream=Chunks(package, *EVENTS[:2]))

    with watch(calibrator) as watched:
        posted(package, how, URL, STREAM, client=client_of(package, how, answer))
    assert (watched.recorded, dict(watched.skipped)) == (0, {"incomplete": 1})


@pytest.mark.parametrize("moment", ["before the answer", "in the body", "between two chunks"])
def test_a_cancelled_task_is_counted(calibrator, fake, package, moment):
    fake.default = Behaviour(first_ms=400 if moment == "before the answer" else 0)
    if moment == "in the body":
        fake.default = Behaviour(per_completion_token_ms=400)
    fake.default.prompt_tokens, fake.default.completion_tokens = 11, 7

    async def call():
        async with (
            package.AsyncClient() as client,
            client.stream("POST", fake.openai + "/chat/completions", json=STREAM) as response,
        ):
            async for _ in response.aiter_raw():
                if moment == "between two chunks":
                    await asyncio.sleep(5)

    async def cancelled():
        task = asyncio.create_task(call())
        await asyncio.sleep(0.15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with watch(calibrator) as watched:
        asyncio.run(cancelled())
    assert (watched.recorded, dict(watched.skipped)) == (0, {"cancelled": 1})


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, ValueError])
@pytest.mark.parametrize("moment", ["sent", "read"])
def test_what_ends_a_program_passes_untouched(calibrator, package, moment, error):
    raised = error("from below")
    body = Chunks(package, *EVENTS[:1], error=raised)

    def answer(request):
        if moment == "sent":
            raise raised
        return package.Response(200, headers=SSE, stream=body)

    with watch(calibrator) as watched, pytest.raises(error) as caught:
        posted(package, "sync", URL, STREAM, client=client_of(package, "sync", answer))
    assert caught.value is raised
    reason = {ValueError: "failed", GeneratorExit: "left early"}.get(error, "cancelled")
    assert dict(watched.skipped) == {reason: 1}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/chatcmpl-1/cancel"),
        ("POST", "/orders"),
    ],
)
def test_other_traffic_passes_unseen(calibrator, package, method, path):
    with watch(calibrator) as watched:
        client = client_of(package, "sync", lambda _: package.Response(200, content=body_of()))
        client.request(method, f"http://provider.test{path}", headers={"x": "y"})
    assert (watched.recorded, dict(watched.skipped)) == (0, {})


def test_what_a_redirect_leads_to_is_the_call(calibrator, package, how):
    def answer(request):
        if request.url.host == "old.test":
            return package.Response(307, headers={"location": URL})
        return package.Response(200, stream=Chunks(package, body_of()))

    with watch(calibrator) as watched:
        url = URL.replace("provider", "old")
        client = client_of(package, how, answer, follow_redirects=True)
        posted(package, how, url, CHAT, client=client)
    assert (watched.recorded, dict(watched.skipped)) == (1, {})


@pytest.mark.parametrize("name", ["from_cache", "hishel_from_cache"])
def test_an_answer_out_of_a_transports_cache_is_counted(calibrator, package, name):
    def answer(request):
        return package.Response(200, content=body_of(), extensions={name: True})

    with watch(calibrator) as watched:
        client_of(package, "sync", answer).post(URL, json=CHAT)
    assert (watched.recorded, dict(watched.skipped)) == (0, {"cached": 1})


# -- what the client gets -------------------------------------------------------------------


def seen_by_client(package, how, answer, **options):
    """All that a client can see of an answer."""
    got = posted(package, how, URL, STREAM, client=client_of(package, how, answer), **options)
    one = got.response
    return {
        "chunks": list(got),
        "status": one.status_code,
        "headers": one.headers.raw,
        "extensions": one.extensions,
        "flags": (one.is_closed, one.is_stream_consumed, one.num_bytes_downloaded),
        "elapsed": one.elapsed.total_seconds() >= 0,
        "request": (dict(one.request.extensions), one.request.content, one.request.headers.raw),
        "stream": type(one.stream).__name__,
    }


BODIES = {
    "whole": ({}, [body_of()]),
    "streamed": (SSE, [*EVENTS, END]),
    "cut anywhere": (SSE, [b"".join([*EVENTS, END])[i : i + 7] for i in range(0, 300, 7)]),
    "empty chunks": (SSE, [b"", *EVENTS, b"", END, b""]),
    "not text": ({}, [bytes(range(256)) * 3]),
    "gzip": ({"content-encoding": "gzip"}, [gzip.compress(body_of())]),
    "broken gzip": ({"content-encoding": "gzip"}, [gzip.compress(body_of())[:40]]),
    "no such encoding": ({"content-encoding": "rot13"}, [body_of()]),
    "nothing": ({}, []),
}


@pytest.mark.parametrize("most", [None, 1], ids=["to the end", "left early"])
@pytest.mark.parametrize("body", BODIES)
def test_the_client_gets_byte_for_byte_what_it_gets_without(calibrator, package, how, body, most):
    headers, chunks = BODIES[body]

    def answer(request):
        more = {"extensions": {"a": 1}, "headers": {"x-id": "1", **headers}}
        return package.Response(200, stream=Chunks(package, *chunks), **more)

    without = seen_by_client(package, how, answer, most=most)
    with watch(calibrator):
        assert seen_by_client(package, how, answer, most=most) == without
    ours = package.Client if how == "sync" else package.AsyncClient
    ledgers = LedgerTransport if how == "sync" else AsyncLedgerTransport
    mock = package.MockTransport(answer)
    transport = ledgers(calibrator, mock)
    with_transport = posted(package, how, URL, STREAM, client=ours(transport=transport), most=most)
    assert list(with_transport) == without["chunks"]
    assert transport.recorder.flush(10)


@pytest.mark.parametrize("way", ["read", "iter_bytes", "iter_lines", "iter_text"])
def test_each_way_of_reading_gives_the_same(calibrator, fake, package, how, way):
    def text_of():
        async def not_sync():
            async with (
                package.AsyncClient(verify=VERIFY) as client,
                client.stream("POST", url, json=STREAM) as got,
            ):
                found = getattr(got, "a" + way)()
                return [one async for one in found] if inspect.isasyncgen(found) else await found

        if how == "async":
            return asyncio.run(not_sync())
        with (
            package.Client(verify=VERIFY) as client,
            client.stream("POST", url, json=STREAM) as got,
        ):
            found = getattr(got, way)()
            return list(found) if inspect.isgenerator(found) else found

    url = fake.openai + "/chat/completions"
    without = text_of()
    with watch(calibrator) as watched:
        with_watch = text_of()
    assert type(with_watch) is type(without)
    assert len(with_watch) == len(without)
    assert watched.recorded == 1


def test_an_error_in_a_body_reaches_the_client_as_it_is(calibrator, package, how):
    error = package.ReadError("gone")

    def answer(request):
        return package.Response(200, headers=SSE, stream=Chunks(package, *EVENTS[:1], error=error))

    with watch(calibrator) as watched, pytest.raises(package.ReadError) as caught:
        posted(package, how, URL, STREAM, client=client_of(package, how, answer))
    assert caught.value is error
    assert dict(watched.skipped) == {"failed": 1}


def test_a_response_can_be_copied_and_pickled(calibrator, package, how):
    def answer(request):
        return package.Response(200, stream=Chunks(package, body_of()))

    async def got():
        return await client_of(package, how, answer).post(URL, json=CHAT)

    with watch(calibrator):
        if how == "sync":
            response = client_of(package, how, answer).post(URL, json=CHAT)
        else:
            response = asyncio.run(got())
        for one in (copy.copy(response), pickle.loads(pickle.dumps(response))):  # noqa: S301  our own
            assert one.content == body_of()


def test_an_upload_is_never_read_ahead_of_its_turn(calibrator, package, how):
    given = []

    def pieces():
        for piece in (b'{"model": "asked", ', b'"messages": []}'):
            given.append(piece)
            yield piece

    async def not_sync():
        for piece in pieces():
            yield piece

    class Server(package.BaseTransport, package.AsyncBaseTransport):
        def handle_request(self, request):
            assert given == []
            request.read()
            return package.Response(200, stream=Chunks(package, body_of()))

        async def handle_async_request(self, request):
            assert given == []
            await request.aread()
            return package.Response(200, stream=Chunks(package, body_of()))

    with watch(calibrator) as watched:
        kind = package.Client if how == "sync" else package.AsyncClient
        content = pieces() if how == "sync" else not_sync()
        posted(package, how, URL, client=kind(transport=Server()), content=content)
    assert len(given) == 2
    assert (watched.recorded, dict(watched.skipped)) == (1, {})


def test_an_upload_that_was_streamed_is_recorded_under_the_answered_model(
    calibrator, fake, package
):
    fake.default = Behaviour(prompt_tokens=11, completion_tokens=7, answered_model="answered")
    with watch(calibrator):
        content = iter([json.dumps(CHAT).encode()])
        posted(package, "sync", fake.openai + "/chat/completions", content=content)
    (call,) = calibrator.calls()
    assert call.model == "answered"


def test_connections_are_used_again_as_without(calibrator, fake, package):
    with watch(calibrator) as watched, package.Client(verify=VERIFY) as client:
        for body in (CHAT, STREAM, CHAT):
            client.post(fake.openai + "/chat/completions", json=body).raise_for_status()
    assert watched.recorded == 3
    assert len({call.thread for call in fake.calls}) == 1


def test_a_client_with_mounts_and_a_proxy_of_its_own_is_seen(calibrator, fake, package):
    mounts = {"http://127.0.0.1": package.HTTPTransport(verify=VERIFY)}
    with watch(calibrator) as watched:
        with package.Client(verify=VERIFY, mounts=mounts) as client:
            client.post(fake.openai + "/chat/completions", json=CHAT)
        with package.Client(verify=VERIFY, proxy=fake.root) as client:  # it answers, like a proxy
            client.post("http://elsewhere.test/v1/chat/completions", json=CHAT)
    assert (watched.recorded, dict(watched.skipped)) == (2, {})


# -- where it steps in ----------------------------------------------------------------------


def test_a_client_that_was_made_before_is_seen_and_one_of_a_subclass(calibrator, fake, package):
    class Own(package.Client):
        """A client of somebody's own."""

    class Pool(package.HTTPTransport):
        def handle_request(self, request):
            return super().handle_request(request)

    url = fake.openai + "/chat/completions"
    with package.Client(verify=VERIFY) as before, watch(calibrator) as watched:
        before.post(url, json=CHAT)
        with Own(verify=VERIFY) as own:
            own.post(url, json=CHAT)
        with Own(transport=Pool(verify=VERIFY)) as own:
            own.post(url, json=CHAT)
        if package is httpx:
            httpx.post(url, json=CHAT, verify=VERIFY)
    assert watched.recorded == (4 if package is httpx else 3)


def test_each_attempt_of_a_transport_that_tries_again_is_one(calibrator, fake, package, how):
    """Beneath such a transport an attempt is one attempt, without the waiting in between."""

    class Again(package.BaseTransport, package.AsyncBaseTransport):
        def __init__(self):
            self.inner = (package.HTTPTransport if how == "sync" else package.AsyncHTTPTransport)(
                verify=VERIFY
            )

        def handle_request(self, request):
            while (response := self.inner.handle_request(request)).status_code == 429:
                response.close()
                time.sleep(0.2)
            return response

        async def handle_async_request(self, request):
            while (response := await self.inner.handle_async_request(request)).status_code == 429:
                await response.aclose()
                await asyncio.sleep(0.2)
            return response

        def close(self):
            self.inner.close()

        async def aclose(self):
            await self.inner.aclose()

    fake.plan(Behaviour(failure="status", status=429, fail_times=2))
    with watch(calibrator) as watched:
        kind = package.Client if how == "sync" else package.AsyncClient
        client = kind(transport=Again())
        posted(package, how, fake.openai + "/chat/completions", CHAT, client=client)
    (call,) = calibrator.calls()
    assert call.actual_ms < 190
    assert (watched.recorded, dict(watched.skipped)) == (1, {"failed": 2})


def test_a_watch_and_a_transport_on_one_request_record_it_once(calibrator, fake, package, how):
    url = fake.openai + "/chat/completions"
    kind = package.Client if how == "sync" else package.AsyncClient
    ours = LedgerTransport if how == "sync" else AsyncLedgerTransport
    with watch(calibrator) as one, watch(calibrator) as two:
        posted(package, how, url, CHAT, client=kind(transport=ours(calibrator)))
        posted(package, how, url, CHAT)
    assert one.recorder is two.recorder
    assert (one.recorded, len(list(calibrator.calls()))) == (2, 2)


def test_several_ledgers_each_get_the_call_once(calibrator, tmp_path, fake, package, how):
    kind = package.Client if how == "sync" else package.AsyncClient
    ours = LedgerTransport if how == "sync" else AsyncLedgerTransport
    with (
        AdaptiveCalibrator(tmp_path / "b.db") as second,
        AdaptiveCalibrator(tmp_path / "c.db") as third,
        watch(calibrator),
        watch(second),
    ):
        transport = ours(third)
        client = kind(transport=transport)
        posted(package, how, fake.openai + "/chat/completions", CHAT, client=client)
        transport.recorder.flush(10)
        hooks._watches[0].recorder.flush(10)
        hooks._watches[1].recorder.flush(10)
        found = [list(one.calls()) for one in (calibrator, second, third)]
        assert [len(calls) for calls in found] == [1, 1, 1]
        assert len({calls[0].actual_ms for calls in found}) == 1


def test_a_ledger_that_is_opened_and_watched_again_gets_the_call_once(ledger_path, fake, package):
    # as a notebook does whose first cell runs twice
    with AdaptiveCalibrator(ledger_path) as first, AdaptiveCalibrator(ledger_path) as second:
        with watch(first) as one, watch(second) as two:
            posted(package, "sync", fake.openai + "/chat/completions", CHAT)
        assert sorted([one.recorded, two.recorded]) == [0, 1]
        assert {**one.skipped, **two.skipped} == {"duplicate": 1}
        assert len(list(first.calls())) == 1
        assert first.audit() == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_watches_stop_in_any_order(calibrator, tmp_path, fake, package, order):
    with AdaptiveCalibrator(tmp_path / "b.db") as second:
        watches = [watch(calibrator), watch(second)]
        for i in order:
            posted(package, "sync", fake.openai + "/chat/completions", CHAT)
            watches[i].stop()
            watches[i].stop()
        posted(package, "sync", fake.openai + "/chat/completions", CHAT)
        recorded = [watches[i].recorded for i in order]
    assert recorded == [1, 2]


def test_what_somebody_patched_over_ours_stays_and_ours_beneath_it_rests(
    calibrator, fake, package, monkeypatch
):
    url = fake.openai + "/chat/completions"
    original = package.HTTPTransport.handle_request
    watched = watch(calibrator)
    ours = package.HTTPTransport.handle_request
    asked = []

    def theirs(self, request):
        asked.append(request)
        return ours(self, request)

    monkeypatch.setattr(package.HTTPTransport, "handle_request", theirs)
    posted(package, "sync", url, CHAT)
    watched.stop()
    assert package.HTTPTransport.handle_request is theirs
    posted(package, "sync", url, CHAT)
    assert (len(asked), watched.recorded) == (2, 1)
    with watch(calibrator) as again:
        posted(package, "sync", url, CHAT)
    assert (len(asked), again.recorded) == (3, 2)
    monkeypatch.undo()
    package.HTTPTransport.handle_request = original


def test_it_looks_like_what_it_replaces(calibrator, package):
    plain = package.HTTPTransport.handle_request, package.AsyncHTTPTransport.handle_async_request
    with watch(calibrator):
        ours = package.HTTPTransport.handle_request, package.AsyncHTTPTransport.handle_async_request
    for one, other in zip(ours, plain, strict=True):
        assert one is not other
        assert one.__name__ == other.__name__
        assert inspect.signature(one) == inspect.signature(other)
        assert inspect.iscoroutinefunction(one) is inspect.iscoroutinefunction(other)


LATER = """
import sys
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live import watch
assert not {"httpx", "httpx2"} & sys.modules.keys()
url, path, name, order = sys.argv[1:]
finders = list(sys.meta_path)
with AdaptiveCalibrator(path) as calibrator:
    watched = watch(calibrator)
    if order == "stopped":
        watched.stop()
    package = __import__(name)
    with package.Client(verify=False) as client:
        client.post(url, json={"model": "m", "messages": []}).raise_for_status()
    watched.stop()
    assert sys.meta_path == finders
    assert type(package.__loader__).__module__.startswith("_frozen_importlib")
    assert package.__spec__.loader is package.__loader__
    print(watched.recorded, hasattr(package.HTTPTransport.handle_request, "is_of_the_ledger"))
"""


@pytest.mark.parametrize(("order", "recorded"), [("watched", 1), ("stopped", 0)])
def test_a_package_that_is_imported_later_is_seen(ledger_path, fake, package, order, recorded):
    url = fake.openai + "/chat/completions"
    done = ran(LATER, url, ledger_path, package.__name__, order, flags=["-W", "error"])
    assert (done.stdout.split(), done.stderr) == ([str(recorded), "False"], "")


AT_ONCE = """
import faulthandler, sys, threading, time
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live import watch
path, name = sys.argv[1:]
reached = threading.Event()
class Slow:  # what the package imports takes its time
    def find_spec(self, wanted, path=None, target=None):
        if wanted.startswith(name + ".") and not reached.is_set():
            reached.set()
            time.sleep(0.3)
faulthandler.dump_traceback_later(20, exit=True)
with AdaptiveCalibrator(path) as calibrator, watch(calibrator):
    sys.meta_path.insert(0, Slow())
    thread = threading.Thread(target=__import__, args=(name,), daemon=True)
    thread.start()
    assert reached.wait(10)
    with watch(calibrator):
        thread.join(10)
        print(thread.is_alive(), sys.modules[name].HTTPTransport.handle_request.is_of_the_ledger)
"""


def test_a_watch_that_begins_while_another_thread_imports_the_package_waits_for_it(
    ledger_path, package
):
    done = ran(AT_ONCE, ledger_path, package.__name__)
    assert (done.stdout.split(), done.stderr) == (["False", "True"], "")


def test_a_package_that_must_not_be_imported_stops_no_watch(calibrator, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with watch(calibrator) as watched:
        assert watched.recorded == 0


def test_a_package_that_is_only_looked_for_is_found_as_without(ledger_path, package):
    code = f"""
from importlib.util import find_spec
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live import watch
name = {package.__name__!r}
before = find_spec(name).loader.get_source(name)
with AdaptiveCalibrator({str(ledger_path)!r}) as calibrator, watch(calibrator):
    print(find_spec(name).loader.get_source(name) == before)
"""
    assert ran(code).stdout.split() == ["True"]


def test_importing_it_imports_no_client():
    code = (
        "import sys; from calibration_ledger.live import watch, LedgerTransport, "
        "AsyncLedgerTransport, Watch; print(*{'httpx', 'httpx2', 'httpcore'} & sys.modules.keys())"
    )
    assert ran(code, flags=["-W", "error"]).stdout.strip() == ""


def test_httpx_under_the_name_of_httpx2_is_patched_once(ledger_path, fake):
    pytest.importorskip("httpx2")
    code = f"""
import httpx2
httpx2.alias_httpx()
import httpx
assert httpx is httpx2
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live import watch
with AdaptiveCalibrator({str(ledger_path)!r}) as calibrator, watch(calibrator) as watched:
    httpx.post({fake.openai + "/chat/completions"!r}, json={CHAT!r}).raise_for_status()
print(watched.recorded, len(list(AdaptiveCalibrator({str(ledger_path)!r}).calls())))
"""
    assert ran(code).stdout.split() == ["1", "1"]


# -- what the caller adds -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "recorded"),
    [
        ({}, 0),
        ({"hosts": ["127.0.0.1"]}, 2),
        ({"hosts": ["127.0.0.1:{port}"]}, 2),
        ({"hosts": ["127.0.0.2", "127.0.0.1:80"]}, 0),
        ({"paths": ["/ask"]}, 1),
        ({"paths": ["/ask", "/other"]}, 2),
        ({"paths": {"/my/ask": "ollama", "/other": None}}, 2),
    ],
)
def test_hosts_and_paths_of_the_callers_are_seen(calibrator, fake, package, more, recorded):
    port = fake.root.rpartition(":")[2]
    if "hosts" in more:
        more = {"hosts": [one.format(port=port) for one in more["hosts"]]}

    def answer(request):
        return package.Response(200, content=body_of())

    with watch(calibrator, **more) as watched:
        for path in ("/my/ask", "/other"):
            client_of(package, "sync", answer).post(fake.root + path, json=CHAT)
    assert (watched.recorded, dict(watched.skipped)) == (recorded, {})
    calls = list(calibrator.calls()) if recorded else []
    assert {call.model for call in calls} <= {"asked"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"paths": "/ask"},
        {"paths": ["ask"]},
        {"paths": {"/ask": "gpt"}},
        {"paths": [3]},
        {"paths": 7},
        {"hosts": None},
        {"hosts": "llm.test"},
        {"hosts": [7]},
        {"hosts": [""]},
        {"hosts": ["http://llm.test/v1"]},
        {"on_error": "never"},
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(calibrator, wrong):
    for make in (watch, LedgerTransport, AsyncLedgerTransport):
        with pytest.raises(InvalidInputError):
            make(calibrator, **wrong)
    for make in (watch, LedgerTransport, AsyncLedgerTransport):
        for nothing in ("ledger.db", None, AdaptiveCalibrator):
            with pytest.raises(InvalidInputError, match=r'AdaptiveCalibrator\("calls.db"\)'):
                make(nothing)


def test_a_host_is_told_with_its_port_where_that_is_the_usual_one_too():
    scope = hooks.Scope(hosts=["LLM.test:443", "other.test"])
    urls = [
        "https://llm.test/ask",
        "http://llm.test/ask",
        "http://other.test:99/",
        "http://a.test/",
    ]
    assert [scope.path_of(httpx.URL(url)) is not None for url in urls] == [True, False, True, False]


def test_many_different_paths_do_not_fill_the_memory(calibrator):
    scope = hooks.Scope(paths=["/ask"])
    for i in range(5_000):
        assert scope.path_of(httpx.URL(f"http://a.test/orders/{i}")) is None
    assert len(scope._known) <= hooks._KNOWN_MAX


# -- what goes wrong in ours ----------------------------------------------------------------


def own_functions():
    """Every step of ours that runs within a call, but those that catch what the others raise."""
    boundary = {"pass_on", "pass_on_async", "begin", "quietly", "give_up"}
    found = [
        (attempt, name)
        for name, one in vars(attempt).items()
        if inspect.isfunction(one) and one.__module__ == attempt.__name__ and name not in boundary
    ]
    found += [(attempt.Attempt, name) for name in vars(attempt.Attempt)]
    found = [one for one in found if one[1] == "__init__" or one[1][:2] != "__"]
    found = [one for one in found if one[1] not in boundary]
    found += [(attempt.AnswerReader, "feed")]
    found += [(attempt.AnswerReader, "result"), (hooks.Scope, "_look"), (hooks, "is_unseen")]
    found += [(attempt, name) for name in ("read_request", "call_of", "perf_counter", "tee_class")]
    return [(home, name) for home, name in found if callable(getattr(home, name))]


@pytest.mark.parametrize("body", ["whole", "streamed", "gzip", "refused", "left early"])
def test_an_error_in_ours_never_reaches_the_caller(calibrator, package, how, body, monkeypatch):
    headers, chunks = BODIES.get(body, BODIES["streamed"])

    def answer(request):
        status = 500 if body == "refused" else 200
        return package.Response(status, headers=headers, stream=Chunks(package, *chunks))

    most = 1 if body == "left early" else None
    with suppress(AttributeError):
        attempt.tee_class.cache_clear()
    without = seen_by_client(package, how, answer, most=most)
    told = []
    faults = 0
    for home, name in own_functions():
        with monkeypatch.context() as patch, watch(calibrator, on_error=told.append) as watched:

            def broken(*_, **__):
                raise RuntimeError("ours")

            patch.setattr(home, name, broken)
            hooks._watches[0].watcher.path_of.__self__._known.clear()
            got = seen_by_client(package, how, answer, most=most)
            got["request"][0].pop("calibration_ledger", None)
            assert got == without, name
    faults = watched.skipped.get("fault", 0)
    assert faults == len(told)
    assert all("ours" in str(error) for error in told)


def test_a_fault_is_warned_of_once_and_counted(calibrator, fake, monkeypatch):
    def broken(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr(attempt.AnswerReader, "result", broken)
    with watch(calibrator) as watched:
        with pytest.warns(NotRecordedWarning, match="ours") as warned:
            posted(httpx, "sync", fake.openai + "/chat/completions", CHAT)
        for _ in range(2):
            posted(httpx, "sync", fake.openai + "/chat/completions", CHAT)
    assert (watched.recorded, dict(watched.skipped), len(warned)) == (0, {"fault": 3}, 1)


def test_a_ledger_that_cannot_be_written_never_reaches_the_caller(tmp_path, fake, package, how):
    path = tmp_path / "calls.db"
    told = []
    with AdaptiveCalibrator(path) as calibrator:
        path.mkdir()
        watched = watch(calibrator, on_error=told.append)
        got = posted(package, how, fake.openai + "/chat/completions", CHAT)
        assert json.loads(b"".join(got))["usage"]["prompt_tokens"] == 11
        watched.stop()
        assert (watched.recorded, watched.recorder.waiting) == (0, 1)
        with suppress(Exception):
            calibrator.close()
    assert told
    assert watched.dropped == 1


def test_a_watch_after_one_whose_recorder_was_closed_records(calibrator, fake):
    url = fake.openai + "/chat/completions"
    with watch(calibrator) as first:
        first.recorder.close()
    with watch(calibrator) as second:
        httpx.post(url, json=CHAT, verify=VERIFY).raise_for_status()
    assert (second.recorded, first.recorded, first.dropped) == (1, 0, 0)


def test_after_the_calibrator_is_closed_calls_are_dropped_and_counted(ledger_path, fake):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        watched = watch(calibrator)
    posted(httpx, "sync", fake.openai + "/chat/completions", CHAT)
    watched.stop()
    assert (watched.recorded, watched.dropped) == (0, 1)


# -- many at once, and a ledger that is locked ----------------------------------------------


@pytest.mark.parametrize(
    ("threads", "calls"), [(8, 10), pytest.param(32, 50, marks=pytest.mark.stress)]
)
def test_threads_lose_nothing_and_record_nothing_twice(calibrator, fake, package, threads, calls):
    fake.default.first_ms = 0

    def work(i, client):
        for j in range(calls):
            body = {**(STREAM if j % 2 else CHAT), "model": f"model-{i % 4}"}
            client.post(fake.openai + "/chat/completions", json=body).raise_for_status()

    with watch(calibrator) as watched, package.Client(verify=VERIFY, timeout=60) as client:
        those = [threading.Thread(target=work, args=(i, client)) for i in range(threads)]
        for one in those:
            one.start()
        for one in those:
            one.join()
    assert (watched.recorded, dict(watched.skipped)) == (threads * calls, {})
    assert len(list(calibrator.calls())) == threads * calls == len(fake.calls)


@pytest.mark.parametrize("tasks", [40, pytest.param(200, marks=pytest.mark.stress)])
def test_tasks_lose_nothing_and_record_nothing_twice(calibrator, fake, package, tasks):
    async def all_at_once():
        limits = package.Limits(max_connections=50)
        async with package.AsyncClient(verify=VERIFY, timeout=60, limits=limits) as client:
            url = fake.openai + "/chat/completions"
            bodies = [{**(STREAM if i % 2 else CHAT), "model": f"m{i % 3}"} for i in range(tasks)]
            await asyncio.gather(*(client.post(url, json=body) for body in bodies))

    with watch(calibrator) as watched:
        asyncio.run(all_at_once())
    assert (watched.recorded, dict(watched.skipped)) == (tasks, {})
    assert len(list(calibrator.calls())) == tasks == len(fake.calls)


FORK = """
import os, sys
import httpx
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live import watch
url, path = sys.argv[1:]
def ask():
    httpx.post(url, json={"model": "m", "messages": []}, verify=False).raise_for_status()
with AdaptiveCalibrator(path) as calibrator, watch(calibrator) as watched:
    ask()
    assert watched.recorder.flush(10)
    child = os.fork()
    ask()
    if not child:
        watched.stop()
        print("child", watched.recorded, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
print("parent", watched.recorded)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_records_its_own_calls(ledger_path, fake):
    beside = "ignore:This process:DeprecationWarning"  # the recorder has a thread
    done = ran(FORK, fake.openai + "/chat/completions", ledger_path, flags=("-W", beside))
    assert (done.stdout.split("\n"), done.stderr) == (["child 1", "parent 2", ""], "")
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert len(list(calibrator.calls())) == 3
        assert calibrator.audit() == []


LOCK = """
import sqlite3, sys
from calibration_ledger.storage.sqlite.lock import writer_lock
lock = writer_lock(sys.argv[1])
assert lock.acquire(10)
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
held.execute("ROLLBACK")
held.close()
lock.release()
"""


@pytest.mark.parametrize("seconds", [1, pytest.param(10, marks=pytest.mark.stress)])
def test_a_ledger_that_another_process_locks_makes_no_call_later(ledger_path, fake, seconds):
    """What a call takes beside the server's own time, with the ledger free and with it locked.

    The median and the 90th percentile, because a machine with other work to do delays single
    calls by more than 5 ms at any time.
    """
    url = fake.openai + "/chat/completions"
    fake.default.first_ms = 2

    def extra_ms(client, until):
        found = []
        while time.monotonic() < until:
            began = time.perf_counter()
            client.post(url, json=CHAT if len(found) % 2 else STREAM).raise_for_status()
            took = time.perf_counter() - began
            while fake.calls[-1].server_ms is None:
                time.sleep(0)
            found.append(took * 1e3 - fake.calls[-1].server_ms)
        return found

    with AdaptiveCalibrator(ledger_path) as calibrator, httpx.Client(verify=VERIFY) as client:
        calibrator.record("asked", 10, 100.0)
        told = []
        with watch(calibrator, on_error=told.append) as watched:
            extra_ms(client, time.monotonic() + 0.2)
            free = extra_ms(client, time.monotonic() + seconds / 2)
            assert watched.recorder.flush(10)
            before = watched.recorded
            holder = started(LOCK, ledger_path)
            assert holder.stdout.readline() == "locked\n"
            locked = extra_ms(client, time.monotonic() + seconds)
            assert watched.recorded == before
            holder.communicate("\n", timeout=30)
            assert watched.recorder.flush(30)
            # On both sides of the lock, for what else the machine does comes and goes.
            free += extra_ms(client, time.monotonic() + seconds / 2)
        assert watched.recorder.flush(30)
        assert watched.recorded + watched.dropped == len(fake.calls)
        assert {type(error).__name__ for error in told} <= {"CallsDroppedError", "LedgerBusyError"}
        assert len(list(calibrator.calls())) == watched.recorded + 1
        assert calibrator.audit() == []
    assert len(locked) > 20 * seconds
    for share in (0.5, 0.9):
        later = quantile(locked, share) - quantile(free, share)
        assert later < 5, (share, quantile(locked, share), quantile(free, share))


def quantile(values, share):
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]


def test_what_the_queue_drops_is_counted(ledger_path, fake):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("asked", 10, 100.0)
        recorder = calibrator.recorder(size=3, on_error=lambda _: None)
        holder = started(LOCK, ledger_path)
        assert holder.stdout.readline() == "locked\n"
        watched = watch(recorder)
        for _ in range(8):
            posted(httpx, "sync", fake.openai + "/chat/completions", CHAT)
        assert (watched.recorded, watched.dropped, recorder.waiting) == (0, 5, 3)
        holder.communicate("\n", timeout=30)
        watched.stop()
        assert (watched.recorded, watched.dropped) == (3, 5)
        assert len(list(calibrator.calls())) == 4
