"""A small local server that answers as the providers of language models do.

    with FakeProvider(Behaviour(prompt_tokens=11, completion_tokens=7, first_ms=50)) as fake:
        client = openai.OpenAI(base_url=fake.openai, api_key="x", max_retries=0)
        client.chat.completions.create(model="gpt-4o-mini", messages=[...])
        fake.calls[-1].server_ms  # what the server itself measured

| base URL             | what it answers as                                                        |
|----------------------|---------------------------------------------------------------------------|
| fake.openai (…/v1)   | OpenAI: chat/completions, completions, responses, embeddings, models      |
| fake.root            | Anthropic (/v1/messages), Ollama (/api/chat, /api/generate, /api/embed),  |
|                      | Groq (/openai/v1/…), llama.cpp (/completion), Gemini (/v1beta/models/M:…) |
| fake.profile("NAME") | /NAME/v1: OpenAI's shape with a house style: "groq", "llamacpp", "vllm",  |
|                      | "cerebras", "openrouter", "deepseek"                                      |

How a request is answered is decided, first match wins, by: the JSON of its `x-fake` header (fields
of Behaviour), the queue `fake.plan(...)`, the behaviour of its model `fake.models[name]`, and
`fake.default`. Other processes do the same by POST /_fake/plan (a JSON list of behaviours),
GET /_fake/calls and DELETE /_fake.

As a program, in the folder `tests`: `python -m support.fake_provider --port 8099 --first-ms 50`
prints its address and answers until Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import re
import socket
import struct
import sys
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.fake_answers import APIS, Answer

FAILURES = (
    None,
    "status",  # answers `status` (429, 500, 503 …) with the provider's error body
    "hang",  # accepts, and answers nothing for `hang_s`
    "disconnect",  # resets the connection after `chunks_before_failure`, or before a whole body
    "error_event",  # 200, then an error inside the stream, as providers do when they fail midway
    "bad_json",  # 200, and a body that is no JSON
)

PATHS = {
    "/chat/completions": "chat",
    "/responses": "responses",
    "/embeddings": "embeddings",
    "/messages": "anthropic",
    "/completions": "completions",
    "/completion": "llamacpp",
    "/api/chat": "ollama_chat",
    "/api/generate": "ollama_generate",
    "/api/embed": "ollama_embed",
}
"""How the path of a request ends, and the API that it is for."""

_GEMINI = re.compile(r"/v1(?:beta|alpha)?(?:beta1)?/models/([^:]+):(stream)?[gG]enerateContent")
_LIMITS = (
    "max_completion_tokens",
    "max_output_tokens",
    "maxOutputTokens",
    "max_tokens",
    "num_predict",
    "n_predict",
)
_PROMPTS = ("messages", "prompt", "input", "system", "instructions", "contents")


@dataclass
class Behaviour:
    """How to answer. Times in ms; a token count of None is taken from the request."""

    first_ms: float = 0.0  # before the first token
    per_prompt_token_ms: float = 0.0  # added to first_ms
    per_completion_token_ms: float = 0.0  # spread over the stream, or before the answer
    prompt_tokens: int | None = None  # default: the words of the prompt + 3 a message
    completion_tokens: int | None = None  # default: max_tokens, at most 8
    cached_tokens: int = 0  # part of the prompt that was in the cache
    cache_write_tokens: int = 0  # Anthropic: cache_creation_input_tokens
    reasoning_tokens: int = 0  # part of completion_tokens that is not shown
    queue_ms: float = 0.0  # waited for (Groq: queue_time; vLLM: queue_time_ms)
    load_ms: float = 0.0  # waited for (Ollama: load_duration)
    usage: str = (
        "auto"  # "auto", as the provider; "always", also in streams; "omit"; "null"; "zero"
    )
    answered_model: str | None = None  # the name in the answer; default: the one asked for
    chunks: int = 4  # content chunks of a stream
    ollama_omit: tuple[str, ...] = ()  # keys to leave out of Ollama's final object
    failure: str | None = None
    status: int = 500
    retry_after_s: float | None = None
    fail_times: int | None = None  # this many requests fail, the following ones do not
    chunks_before_failure: int = 2
    hang_s: float = 30.0

    def __post_init__(self) -> None:
        if self.failure not in FAILURES:
            raise ValueError(f"failure must be one of {FAILURES}, not {self.failure!r}")


@dataclass
class SeenCall:
    """What the server knows of one request."""

    path: str
    api: str
    model: str | None
    stream: bool
    request_id: str
    received_at: float  # time.time()
    body: dict[str, Any]
    headers: dict[str, str]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    status: int = 0
    outcome: str = "running"  # ok, client_gone, or the failure
    first_ms: float | None = None  # to the first byte of content
    server_ms: float | None = None  # to when the last of the answer is handed to the network
    thread: str = ""


class _GoneError(Exception):
    """The client went away, or the server is to drop the connection."""


class FakeProvider:
    """The server; `calls` are all requests so far, `models` the behaviour of each."""

    def __init__(self, default: Behaviour | None = None, *, port: int = 0) -> None:
        self.default = default or Behaviour()
        self.models: dict[str, Behaviour] = {}
        self.calls: list[SeenCall] = []
        self._queue: deque[Behaviour] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(0.02,), daemon=True)
        self.root = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.openai = self.root + "/v1"

    def profile(self, name: str) -> str:
        return f"{self.root}/{name}/v1"

    def start(self) -> FakeProvider:
        self._thread.start()
        return self

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.close()

    def plan(self, *behaviours: Behaviour) -> None:
        """Answer the next requests so, one each (a `fail_times` counts as that many)."""
        with self._lock:
            self._queue.extend(behaviours)

    def reset(self) -> None:
        with self._lock:
            self._queue.clear()
            self.calls.clear()

    def behaviour(self, model: str | None, header: str | None) -> Behaviour:
        """How to answer the request that asks for a model, and has this `x-fake` header."""
        with self._lock:
            if header:
                return dataclasses.replace(self.default, **json.loads(header))
            if self._queue:
                return self._planned()
            chosen = self.models.get(model or "", self.default)
            if chosen.fail_times is None:
                return chosen
            if chosen.fail_times <= 0:
                return dataclasses.replace(chosen, failure=None)
            later = dataclasses.replace(chosen, fail_times=chosen.fail_times - 1)
            if model in self.models:
                self.models[model] = later
            else:
                self.default = later
            return chosen

    def _planned(self) -> Behaviour:
        first = self._queue[0]
        if (first.fail_times or 1) > 1:
            self._queue[0] = dataclasses.replace(first, fail_times=first.fail_times - 1)
        else:
            self._queue.popleft()
        return first

    def sleep(self, ms: float) -> None:
        if ms > 0 and self._closing.wait(ms / 1000.0):
            raise _GoneError


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError | _GoneError):
            super().handle_error(request, client_address)


def _words(value: Any) -> int:
    """Stand in for a tokenizer: the words of every text in a request."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(_words(item) for item in value)
    if isinstance(value, dict):
        return sum(_words(value.get(key)) for key in ("content", "text", "parts", "input"))
    return 0


def _counts(behaviour: Behaviour, body: dict[str, Any]) -> tuple[int, int]:
    """The tokens of the prompt and of the answer."""
    prompt, completion = behaviour.prompt_tokens, behaviour.completion_tokens
    if prompt is None:
        messages = body.get("messages") or body.get("contents") or ["one"]
        prompt = sum(_words(body.get(key)) for key in _PROMPTS) + 3 * len(messages)
    if completion is None:
        asked = {**body, **(body.get("options") or {}), **(body.get("generationConfig") or {})}
        limits = [asked[key] for key in _LIMITS if isinstance(asked.get(key), int)]
        completion = min([8, *(limit for limit in limits if limit > 0)])
    return prompt, completion


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    call: SeenCall | None = None

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.fake = self.server.fake
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle_one_request(self):
        self.call = self.answer = None  # those of the connection's last request
        super().handle_one_request()

    def do_GET(self):
        path = self.path.split("?")[0].rstrip("/")
        names = sorted({*self.fake.models, "gpt-4o-mini"})
        if path == "/_fake/calls":
            self._json([dataclasses.asdict(call) for call in self.fake.calls])
        elif path.endswith("/models"):
            data = [{"id": n, "object": "model", "created": 1, "owned_by": "fake"} for n in names]
            self._json({"object": "list", "data": data, "has_more": False})
        elif path == "/api/tags":
            self._json({"models": [{"name": n, "model": n, "size": 1} for n in names]})
        elif path in {"", "/health", "/api/ps", "/api/version", "/props"}:
            self._json({"status": "ok", "models": [], "version": "0.30.8"})
        else:
            self._json({"error": {"message": f"no such path: {path}"}}, 404)

    do_HEAD = do_GET  # noqa: N815  http.server names it

    def do_DELETE(self):
        self.fake.reset()
        self._json({"reset": True})

    def do_POST(self):
        path = self.path.split("?")[0].rstrip("/")
        try:
            body = json.loads(self._body() or b"{}")
        except ValueError:
            error = {"message": "the body is no JSON", "type": "invalid_request_error"}
            return self._json({"error": error}, 400)
        if path == "/_fake/plan":
            self.fake.plan(*(Behaviour(**b) for b in (body if isinstance(body, list) else [body])))
            return self._json({"planned": True})
        if path.endswith("/api/show"):
            return self._json({"capabilities": ["completion"], "model_info": {}, "details": {}})
        api = self._api(path, body)
        if api is None:
            return self._json({"error": {"message": f"no such path: {path}"}}, 404)
        return self._answer(api, self._house(path), body)

    def _api(self, path, body):
        """The API that a path is for; Gemini's says the model and whether to stream, too."""
        gemini = _GEMINI.fullmatch(path)
        if gemini:
            body["model"], body["stream"] = gemini[1], bool(gemini[2])
            return "gemini"
        return next((api for end, api in PATHS.items() if path.endswith(end)), None)

    def _house(self, path):
        if path.startswith("/openai/v1"):
            return "groq"
        first = path.split("/")[1]
        return "openai" if re.fullmatch(r"v\d.*|api|completions?", first) else first

    def _body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, api, house, body):
        model, is_stream = body.get("model"), body.get("stream")
        if is_stream is None:
            is_stream = api in {"ollama_chat", "ollama_generate"}  # unless they are told not to
        behaviour = self.fake.behaviour(model, self.headers.get("x-fake"))
        prompt, completion = _counts(behaviour, body)
        self.call = SeenCall(
            path=self.path,
            api=api,
            model=model,
            stream=bool(is_stream),
            request_id=uuid.uuid4().hex,
            received_at=time.time(),
            body=body,
            headers=dict(self.headers.items()),
            prompt_tokens=prompt,
            completion_tokens=completion,
            thread=threading.current_thread().name,
        )
        self.fake.calls.append(self.call)
        answer = Answer(behaviour, model, self.call.request_id, prompt, completion, house)
        self.answer, self.last_ms = answer, None
        try:
            self._play(behaviour, answer, APIS[api](answer, body))
            self._ended("ok")
        except (_GoneError, ConnectionError, TimeoutError):
            self._ended("client_gone")
            self.close_connection = True
            with contextlib.suppress(OSError):  # a reset, not an orderly end
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
        finally:
            # Not the time now: a busy machine may have let the client go on before this thread.
            now_ms = answer.elapsed_ms()
            self.call.server_ms = now_ms if self.last_ms is None else self.last_ms

    def _ended(self, outcome):
        if self.call.outcome == "running":
            self.call.outcome = outcome

    def _play(self, behaviour, answer, api):
        if behaviour.failure == "status":
            self.fake.sleep(behaviour.first_ms)
            return self._fail(behaviour, api)
        if behaviour.failure == "hang":
            self._ended("hang")
            self.fake.sleep(behaviour.hang_s * 1e3)
            raise _GoneError
        self.fake.sleep(behaviour.load_ms)
        answer.loaded()
        self.fake.sleep(behaviour.queue_ms)
        answer.begun()
        to_read = answer.prompt - behaviour.cached_tokens
        self.fake.sleep(behaviour.first_ms + behaviour.per_prompt_token_ms * to_read)
        answer.first()
        if behaviour.failure == "bad_json":
            self._ended("bad_json")
            return self._send(b"<html>upstream hiccup", "application/json")
        if self.call.stream:
            return self._play_stream(behaviour, answer, api)
        return self._play_whole(behaviour, answer, api)

    def _play_whole(self, behaviour, answer, api):
        if behaviour.failure == "error_event":
            return self._fail(behaviour, api)
        if behaviour.failure:
            self._ended(behaviour.failure)
            raise _GoneError
        self.fake.sleep(behaviour.per_completion_token_ms * answer.completion)
        answer.done()
        self.call.first_ms = answer.total_ms
        return self._json(api.whole(), headers=self._headers(answer))

    def _play_stream(self, behaviour, answer, api):
        self._begin_chunks(api.content_type, self._headers(answer))
        step_ms = behaviour.per_completion_token_ms * answer.completion / len(answer.text)
        sent = 0
        for kind, chunk in api.stream():
            if kind == "content":
                if behaviour.failure and sent >= behaviour.chunks_before_failure:
                    break
                self.fake.sleep(step_ms)
                if self.call.first_ms is None:
                    self.call.first_ms = answer.elapsed_ms()
                sent += 1
            self._chunk(chunk)
        if behaviour.failure:
            self._ended(behaviour.failure)
            if behaviour.failure == "disconnect":
                raise _GoneError
            self._chunk(api.error_event("the server had an error while processing your request"))
        self.wfile.write(b"0\r\n\r\n")

    def _fail(self, behaviour, api):
        self._ended(behaviour.failure)
        retry = behaviour.retry_after_s
        headers = {} if retry is None else {"retry-after": f"{retry:g}"}
        self._json(api.error(behaviour.status), behaviour.status, headers)

    def _headers(self, answer):
        return {
            "x-request-id": f"req_{answer.id}",
            "request-id": f"req_{answer.id}",
            "openai-processing-ms": str(round(answer.elapsed_ms())),
        }

    def _json(self, body, status=200, headers=None):
        self._send(json.dumps(body).encode(), "application/json", status, headers)

    def _send(self, data, kind, status=200, headers=None):
        self._begin({"content-type": kind, "content-length": len(data), **(headers or {})}, status)
        if self.command != "HEAD":
            self._write(data)

    def _begin_chunks(self, kind, headers):
        self._begin({"content-type": kind, "transfer-encoding": "chunked", **headers})

    def _begin(self, headers, status=200):
        if self.call is not None:
            self.call.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def _chunk(self, data):
        self._write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _write(self, data):
        if self.answer is not None:
            self.last_ms = self.answer.elapsed_ms()
        self.wfile.write(data)


def main():
    parser = argparse.ArgumentParser(description="Answer as the providers of models do.")
    parser.add_argument("--port", type=int, default=0)
    for one in dataclasses.fields(Behaviour):
        if not one.name.endswith(("_ms", "_tokens", "chunks")):
            continue
        kind = float if one.name.endswith("_ms") else int
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=one.default)
    options = vars(parser.parse_args())
    with FakeProvider(port=options.pop("port")) as fake:
        fake.default = Behaviour(**options)
        print(fake.root, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
