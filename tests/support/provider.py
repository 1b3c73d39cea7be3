"""A small server that answers as OpenAI does, with the latency that a test asks for."""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHARED = Path(__file__).parents[3] / "shared" / "fake_provider.py"


class StandIn:
    """Attributes: `url`, and `asked`, the models of all requests so far."""

    def __init__(self, server):
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        self.asked = []
        self._latency = {}
        self._failing = set()

    def takes(self, model, first_ms, per_prompt_token_ms=0.0):
        """A prompt has as many tokens as words."""
        self._latency[model] = first_ms, per_prompt_token_ms

    def fails(self, model):
        self._failing.add(model)

    def answer(self, request):
        """The status and the body, when it is time for them."""
        model = request["model"]
        self.asked.append(model)
        if model in self._failing:
            return 500, {"error": {"message": "it fails", "type": "server_error"}}
        prompt = sum(len(str(message["content"]).split()) for message in request["messages"])
        first_ms, per_token_ms = self._latency[model]
        time.sleep((first_ms + per_token_ms * prompt) / 1000.0)
        message = {"role": "assistant", "content": "so it is"}
        return 200, {
            "id": f"answer-{len(self.asked)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": 3,
                "total_tokens": prompt + 3,
            },
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        status, answer = self.server.stand_in.answer(json.loads(body))
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextmanager
def stand_in():
    """The server of this module."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.stand_in = StandIn(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Shared:
    """The stand-in of `../shared`, with the words of ours."""

    def __init__(self, fake, behaviour):
        self._fake, self._behaviour = fake, behaviour
        self.url = fake.openai

    @property
    def asked(self):
        return [call.model for call in self._fake.calls]

    def takes(self, model, first_ms, per_prompt_token_ms=0.0):
        self._fake.models[model] = self._behaviour(
            first_ms=first_ms, per_prompt_token_ms=per_prompt_token_ms, completion_tokens=3
        )

    def fails(self, model):
        self._fake.models[model] = self._behaviour(failure="status", status=500)


@contextmanager
def shared_provider():
    """The stand-in of `../shared`, which knows how more providers answer; it must be there."""
    sys.path.insert(0, str(SHARED.parent))
    try:
        from fake_provider import Behaviour, FakeProvider
    finally:
        sys.path.remove(str(SHARED.parent))
    with FakeProvider() as fake:
        yield Shared(fake, Behaviour)
