"""How long calls take that LiteLLM's Router spreads, by strategy, with prompts of mixed length.

    pip install -e '.[litellm]'
    python benchmarks/litellm_routing.py [--calls 160] [--change]

The real Router, and a small server on this machine that answers as OpenAI does. Behind one name are
three deployments: one is quick to begin and slow to read, one is slow to begin and quick to read,
and one is between the two; each call takes what its prompt takes, give or take a tenth. Half of the
prompts have 20 to 200 words, the others 800 to 2,000. With `--change`, the one that is quick to
read takes three times as long from the middle on.

A figure is the mean latency as the caller sees it, of all calls but the first 30, in ms; beside it
how often the deployment was asked that is soonest for the prompt, and, for 100 picks of the
strategy alone, how long one takes. The calls are made one after the other, so that no strategy
waits for another's requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import statistics
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices

import litellm
from litellm import Router

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live.litellm import ForecastStrategy

WARM_UP, SPREAD = 30, 0.1
PACE = {"begins": (20.0, 0.4), "between": (150.0, 0.2), "reads": (300.0, 0.025)}
"""ms before the answer, and ms per word of the prompt."""

STRATEGIES = ("simple-shuffle", "least-busy", "latency-based-routing", "forecast")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.slow = 1.0
        self.rng = random.Random(1)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def latency_ms(self, model, words):
        base, per_word = PACE[model]
        return (base + per_word * words) * (self.slow if model == "reads" else 1.0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        words = len(request["messages"][0]["content"].split())
        jitter = self.server.rng.uniform(1.0 - SPREAD, 1.0 + SPREAD)
        time.sleep(self.server.latency_ms(request["model"], words) * jitter / 1000.0)
        answer = {
            "id": "answer",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "so it is"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": words, "completion_tokens": 3, "total_tokens": words + 3},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def router_of(server, strategy, calibrator):
    deployments = [
        {
            "model_name": "any",
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": f"http://127.0.0.1:{server.server_address[1]}/v1",
                "api_key": "x",
            },
            "model_info": {"id": name},
        }
        for name in PACE
    ]
    if strategy != "forecast":
        return Router(model_list=deployments, routing_strategy=strategy)
    router = Router(model_list=deployments)
    router.register_plugin(ForecastStrategy(router, calibrator))
    return router


async def played(server, strategy, prompts, change):
    """The latencies in ms, how often the soonest was asked, and how long a pick takes in ms."""
    with AdaptiveCalibrator(":memory:") as calibrator:
        router = router_of(server, strategy, calibrator)
        server.slow = 1.0
        took, soonest = [], []
        for i, words in enumerate(prompts):
            if change and i == len(prompts) // 2:
                server.slow = 3.0
            messages = [{"role": "user", "content": "word " * words}]
            start = time.perf_counter()
            answer = await router.acompletion(model="any", messages=messages)
            took.append((time.perf_counter() - start) * 1000.0)
            best = min(PACE, key=lambda model: server.latency_ms(model, words))
            soonest.append(answer.model == best)
            if strategy == "forecast":
                calibrator.record(
                    f"openai/{answer.model}",
                    answer.usage.prompt_tokens,
                    took[-1],
                    completion_tokens=answer.usage.completion_tokens,
                )
            await asyncio.sleep(0.002)  # LiteLLM notes what it took after it has answered
        picks = await timed_picks(router, prompts[:100])
    return took[WARM_UP:], soonest[WARM_UP:], picks


async def timed_picks(router, prompts):
    found = []
    for words in prompts:
        messages = [{"role": "user", "content": "word " * words}]
        start = time.perf_counter()
        await router.select("any", {"messages": messages}, messages=messages)
        found.append((time.perf_counter() - start) * 1000.0)
    return statistics.median(found)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=160)
    parser.add_argument("--change", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("LiteLLM").setLevel(logging.ERROR)
    litellm.suppress_debug_info = True
    rng = random.Random(7)
    prompts = [
        rng.randrange(20, 200) if rng.random() < 0.5 else rng.randrange(800, 2000)
        for _ in range(arguments.calls)
    ]
    server = Server()
    print(f"{'strategy':<24}{'mean ms':>8}{'p95 ms':>8}{'soonest asked':>15}{'a pick, ms':>12}")
    shown = defaultdict(float)
    for strategy in STRATEGIES:
        took, soonest, pick_ms = asyncio.run(played(server, strategy, prompts, arguments.change))
        shown[strategy] = statistics.fmean(took)
        p95 = statistics.quantiles(took, n=20)[-1]
        share = statistics.fmean(soonest)
        print(f"{strategy:<24}{shown[strategy]:8.1f}{p95:8.1f}{share:15.0%}{pick_ms:12.2f}")
    counted = prompts[WARM_UP:]
    for i, words in enumerate(prompts):
        server.slow = 3.0 if arguments.change and i >= len(prompts) // 2 else 1.0
        if i >= WARM_UP:
            shown["floor"] += min(server.latency_ms(model, words) for model in PACE) / len(counted)
    print(f"{'the soonest of each call':<24}{shown['floor']:8.1f}  without what the Router adds")


if __name__ == "__main__":
    main()
