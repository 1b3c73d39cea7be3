"""What `watch` costs a call: whole and streamed answers, with it and without, in turns.

    python benchmarks/live.py [--rounds N] [--calls N]

A server in a process of its own answers after 10 ms, over a connection that is kept. Each round
makes so many calls of each kind without a watch and as many with one, and which begins takes turns.
The table has medians of each round's quickest quarter of calls, because other programs of the
machine only ever add to a call. Its last columns:

- `more`: how much longer a call takes with the watch, as the program sees it;
- `CPU`: how much more of the processor its thread takes for that. The recorder's own thread, which
  records meanwhile, is not in it, but competes for the interpreter, which is in `more`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import httpx

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live import watch

USAGE = {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-2026"}
PROMPT = [{"role": "user", "content": "some words of a prompt " * 200}]

CHAT = "v1/chat/completions"
KINDS = {
    "whole": (0, CHAT),
    "stream of 20 events": (20, CHAT),
    "stream of 200 events": (200, CHAT),
    "no model call": (0, "v1/orders"),
}
"""How many events an answer has, and the path that is asked."""


def answer(events):
    """The bytes of an answer of this many events; none is a whole one."""
    if not events:
        choice = {"index": 0, "finish_reason": "stop", "message": {"content": "word " * 200}}
        body = json.dumps({**HEAD, "choices": [choice], "usage": USAGE}).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        return [head.encode() + b"\r\n\r\n" + body]
    deltas = [{"index": 0, "delta": {"content": f"word{i} "}} for i in range(events)]
    told = [{**HEAD, "choices": [one]} for one in deltas]
    told.append({**HEAD, "choices": [], "usage": USAGE})
    lines = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in told] + [b"data: [DONE]\n\n"]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return [head, *(b"%x\r\n%s\r\n" % (len(line), line) for line in lines), b"0\r\n\r\n"]


def serve(ready):
    """Answer requests, whose paths begin with the number of events."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready.put(listener.getsockname()[1])
    answers = {str(events): answer(events) for events, _ in KINDS.values()}

    def speak(connection):
        with connection, connection.makefile("rb") as lines:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while line := lines.readline():
                length = 0
                while (header := lines.readline()) != b"\r\n":
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                lines.read(length)
                time.sleep(0.01)
                for part in answers[line.split(b"/")[1].decode()]:
                    connection.sendall(part)

    while True:
        threading.Thread(target=speak, args=(listener.accept()[0],), daemon=True).start()


def timed(client, url, is_stream, calls):
    """The wall and the CPU time of each call, in ms."""
    body = {"model": "m", "messages": PROMPT, "stream": is_stream}
    walls, cpus = [], []
    for _ in range(calls):
        wall, cpu = time.perf_counter(), time.thread_time()
        with client.stream("POST", url, json=body) as response:
            for _chunk in response.iter_bytes():
                pass
        walls.append((time.perf_counter() - wall) * 1e3)
        cpus.append((time.thread_time() - cpu) * 1e3)
    return quick(walls), quick(cpus)


def quick(times):
    """The median of the quickest quarter."""
    return statistics.median(sorted(times)[: max(1, len(times) // 4)])


def measure(calibrator, port, rounds, calls):
    """For each kind, the rounds' (wall, CPU) without and with a watch."""
    recorder = calibrator.recorder(size=100_000)
    found = {kind: ([], []) for kind in KINDS}
    with httpx.Client(verify=False) as client:  # noqa: S501 - nothing is encrypted here
        for i in range(-1, rounds):  # the first one warms up
            for kind, (events, path) in KINDS.items():
                url = f"http://127.0.0.1:{port}/{events}/{path}"
                for with_watch in (False, True) if i % 2 else (True, False):
                    with watch(recorder) if with_watch else nullcontext():
                        took = timed(client, url, bool(events), calls)
                    if i >= 0:
                        found[kind][with_watch].append(took)
    recorder.flush()
    made = (len(KINDS) - 1) * (rounds + 1) * calls
    assert (recorder.recorded, recorder.dropped, dict(recorder.skipped)) == (made, 0, {})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=40)
    options = parser.parse_args()
    ready = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(ready,), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        with AdaptiveCalibrator(Path(folder) / "live.db") as calibrator:
            found = measure(calibrator, ready.get(), options.rounds, options.calls)
        print(f"{'ms a call':<22}{'without':>9}{'with':>9}{'more':>9}{'CPU':>9}   target <= 0.3")
        for kind, (without, with_watch) in found.items():
            pairs = list(zip(without, with_watch, strict=True))
            wall = [statistics.median(one[0] for one in side) for side in (without, with_watch)]
            more, cpu = (statistics.median(b[j] - a[j] for a, b in pairs) for j in (0, 1))
            print(f"{kind:<22}{wall[0]:>9.3f}{wall[1]:>9.3f}{more:>9.3f}{cpu:>9.3f}")
    server.terminate()


if __name__ == "__main__":
    main()
