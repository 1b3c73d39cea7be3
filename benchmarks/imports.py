"""What importing files of calls costs, beside another checkout of this project.

    python benchmarks/imports.py [--against PATH] [--calls N] [--rounds N] [--files NAME ...]

Each checkout runs in a process of its own, that is kept; the files are the same, and each import
goes into a fresh ledger. The turns are interleaved, so that all meet the same machine; a figure is
the median over the rounds, in calls a second, and in microseconds of CPU time a call.

`--tools` measures the formats of other tools instead, each beside JSON lines of the same calls, and
`--large MIB` the peak memory of the import of a file of so many MiB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


# -- the files ------------------------------------------------------------------------------


def calls(count, models, seed=1):
    """Calls as a program would have logged them: some seconds apart, by several models."""
    rng = random.Random(seed)
    at = datetime(2025, 1, 1, tzinfo=UTC)
    for _ in range(count):
        at += timedelta(seconds=rng.random() * 10)
        p, c = rng.randrange(1, 4096), rng.randrange(1, 1024)
        yield {
            "model": f"model-{rng.randrange(models)}",
            "prompt_tokens": p,
            "completion_tokens": c,
            "actual_ms": round(300 + p / 2 + c * 8 + rng.random() * 500, 3),
            "called_at": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "request_id": f"{rng.getrandbits(128):032x}",
        }


def write_jsonl(path, count, models, *, ids=True):
    with path.open("w") as file:
        for call in calls(count, models):
            if not ids:
                del call["request_id"]
            file.write(json.dumps(call) + "\n")


def write_csv(path, count, models):
    with path.open("w") as file:
        for number, call in enumerate(calls(count, models)):
            if not number:
                file.write(",".join(call) + "\n")
            file.write(",".join(map(str, call.values())) + "\n")


FILES = {
    "jsonl, ids, 1 model": ("jsonl", lambda path, n: write_jsonl(path, n, 1)),
    "jsonl, ids, 50 models": ("jsonl", lambda path, n: write_jsonl(path, n, 50)),
    "jsonl, no ids, 1 model": ("jsonl", lambda path, n: write_jsonl(path, n, 1, ids=False)),
    "jsonl, no ids, 50 models": ("jsonl", lambda path, n: write_jsonl(path, n, 50, ids=False)),
    "csv, ids, 50 models": ("csv", lambda path, n: write_csv(path, n, 50)),
}


# -- files of other tools: with what such records have beside the numbers -------------------

PROMPT, ANSWER = "What is a ledger? " * 8, "A book in which what happened is written down. " * 4


def times(call):
    """The start and the end in seconds since the epoch."""
    start = datetime.fromisoformat(call["called_at"]).timestamp()
    return start, start + call["actual_ms"] / 1e3


def litellm(call):
    start, end = times(call)
    p, c = call["prompt_tokens"], call["completion_tokens"]
    usage = {"prompt_tokens": p, "completion_tokens": c, "total_tokens": p + c}
    return {
        "id": f"chatcmpl-{call['request_id']}",
        "litellm_call_id": call["request_id"],
        "call_type": "acompletion",
        "cache_hit": None,
        "stream": None,
        "status": "success",
        "custom_llm_provider": "openai",
        "startTime": start,
        "endTime": end,
        "completionStartTime": end,
        "response_time": end - start,
        "model": call["model"],
        "metadata": {"usage_object": usage},
        **usage,
        "messages": [{"role": "user", "content": PROMPT}],
        "response": {"choices": [{"message": {"content": ANSWER}}]},
        "hidden_params": {"litellm_model_name": f"openai/{call['model']}"},
    }


def otlp(call):
    start, end = times(call)
    attributes = {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.request.model": {"stringValue": call["model"]},
        "gen_ai.usage.input_tokens": {"intValue": str(call["prompt_tokens"])},
        "gen_ai.usage.output_tokens": {"intValue": str(call["completion_tokens"])},
        "gen_ai.prompt.0.content": {"stringValue": PROMPT},
    }
    span = {
        "traceId": call["request_id"],
        "spanId": call["request_id"][:16],
        "name": f"chat {call['model']}",
        "kind": 3,
        "startTimeUnixNano": str(int(start * 1e6) * 1000),
        "endTimeUnixNano": str(int(end * 1e6) * 1000),
        "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
        "status": {},
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def langfuse(call):
    start, end = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S.%f}" for at in times(call))
    return {
        "id": call["request_id"],
        "trace_id": call["request_id"],
        "type": "GENERATION",
        "start_time": start,
        "end_time": end,
        "level": "DEFAULT",
        "input": PROMPT,
        "output": ANSWER,
        "provided_model_name": call["model"],
        "usage_details": {"input": call["prompt_tokens"], "output": call["completion_tokens"]},
    }


def ollama(call):
    return {
        "model": call["model"],
        "created_at": call["called_at"],
        "message": {"role": "assistant", "content": ANSWER},
        "done": True,
        "done_reason": "stop",
        "total_duration": int(call["actual_ms"] * 1e6),
        "load_duration": 0,
        "prompt_eval_count": call["prompt_tokens"],
        "eval_count": call["completion_tokens"],
    }


def groq(call):
    p, c, seconds = call["prompt_tokens"], call["completion_tokens"], call["actual_ms"] / 1e3
    return {
        "id": f"chatcmpl-{call['request_id']}",
        "object": "chat.completion",
        "created": int(times(call)[0]),
        "model": call["model"],
        "choices": [{"message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}],
        "usage": {
            "queue_time": 0.01,
            "prompt_tokens": p,
            "completion_tokens": c,
            "total_tokens": p + c,
            "total_time": seconds,
        },
    }


def hmft(call):
    return {
        "ts": call["called_at"],
        "model": call["model"],
        "provider": "ollama",
        "prompt_tokens": call["prompt_tokens"],
        "output_tokens": call["completion_tokens"],
        "total_ms": call["actual_ms"],
        "finish_reason": "stop",
    }


def write_records(record, path, count):
    with path.open("w") as file:
        file.writelines(json.dumps(record(call)) + "\n" for call in calls(count, 1))


def write_llm(path, count):
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, response TEXT,"
            " response_json TEXT, duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER,"
            " output_tokens INTEGER, token_details TEXT)"
        )
        database.executemany(
            "INSERT INTO responses VALUES (?, ?, ?, ?, '{}', ?, ?, ?, ?, NULL)",
            (
                (
                    *(call["request_id"], call["model"], PROMPT, ANSWER, int(call["actual_ms"])),
                    *(call["called_at"], call["prompt_tokens"], call["completion_tokens"]),
                )
                for call in calls(count, 1)
            ),
        )


def write_phoenix(path, count):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE traces (id INTEGER PRIMARY KEY, trace_id TEXT)")
        database.execute(
            "CREATE TABLE spans (id INTEGER PRIMARY KEY, trace_rowid INTEGER, span_id TEXT,"
            " parent_id TEXT, name TEXT, span_kind TEXT, start_time TIMESTAMP, end_time TIMESTAMP,"
            " attributes JSON, events JSON, status_code TEXT)"
        )
        for number, call in enumerate(calls(count, 1), 1):
            database.execute("INSERT INTO traces VALUES (?, ?)", (number, call["request_id"]))
            counts = {"prompt": call["prompt_tokens"], "completion": call["completion_tokens"]}
            attributes = {
                "llm": {"model_name": call["model"], "token_count": counts},
                "openinference": {"span": {"kind": "LLM"}},
                "input": {"value": PROMPT},
                "output": {"value": ANSWER},
            }
            start, end = (f"{datetime.fromtimestamp(at, UTC):%F %T.%f}" for at in times(call))
            database.execute(
                "INSERT INTO spans VALUES (?, ?, ?, NULL, 'chat', 'LLM', ?, ?, ?, '[]', 'OK')",
                (number, number, call["request_id"][:16], start, end, json.dumps(attributes)),
            )


TOOLS = {
    "jsonl": lambda path, n: write_jsonl(path, n, 1),
    "jsonl, no ids": lambda path, n: write_jsonl(path, n, 1, ids=False),
    **{
        record.__name__: partial(write_records, record)
        for record in (litellm, otlp, langfuse, ollama, groq, hmft)
    },
    "llm": write_llm,
    "phoenix": write_phoenix,
}
"""Those of Ollama have no ids: what they cost is beside JSON lines without any."""


# -- one checkout ---------------------------------------------------------------------------


def serve():
    """Import what is named on stdin, a line each, and print what it took."""
    from calibration_ledger import AdaptiveCalibrator  # of the checkout given

    for line in sys.stdin:
        kind, path = json.loads(line)
        with (
            tempfile.TemporaryDirectory(dir=Path(path).parent) as folder,
            AdaptiveCalibrator(f"{folder}/calls.db") as calibrator,
        ):
            calibrator.record("another", 1, 1.0)
            seconds, cpu = time.perf_counter(), time.process_time()
            recorded = calibrator.import_calls(kind, path).recorded
            taken = (time.perf_counter() - seconds, time.process_time() - cpu)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps([recorded, *taken, peak]), flush=True)


class Checkout:
    """A process that imports with the code of one checkout."""

    def __init__(self, path):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env={"PYTHONPATH": str(Path(path) / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def take_in(self, kind, path):
        """The calls recorded, the seconds, those of CPU time, and the peak memory in KiB."""
        self._process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


# -- the comparison -------------------------------------------------------------------------


def compare(folder, names, against, count, rounds):
    checkouts = {"here": Checkout(HERE)}
    if against:
        checkouts["there"] = Checkout(against)
    for name in names:
        kind, write = FILES[name]
        path = folder / "file"
        write(path, count)
        found = {which: [] for which in checkouts}
        for number in range(rounds):
            for which in sorted(checkouts, reverse=bool(number % 2)):
                recorded, seconds, cpu, _ = checkouts[which].take_in(kind, path)
                found[which].append((seconds / recorded * 1e6, cpu / recorded * 1e6))
        medians = {
            which: [statistics.median(column) for column in zip(*rows, strict=True)]
            for which, rows in found.items()
        }
        told = ", ".join(
            f"{which} {1e6 / wall:,.0f} calls/s ({cpu:.1f} us of CPU)"
            for which, (wall, cpu) in medians.items()
        )
        if against:
            pairs = zip(found["there"], found["here"], strict=True)
            walls, cpus = zip(*((t[0] / h[0], t[1] / h[1]) for t, h in pairs), strict=True)
            told += f": {statistics.median(walls):.2f} x ({statistics.median(cpus):.2f} x in CPU)"
        print(f"{name}: {told}", flush=True)
    for one in checkouts.values():
        one.close()


def compare_tools(folder, count, rounds):
    """What a call of each format costs, over one of JSON lines."""
    here = Checkout(HERE)
    sizes = {}
    for name, write in TOOLS.items():
        path = folder / name.replace(", ", "-")
        write(path, count)
        sizes[name] = path.stat().st_size / count
    found = {name: [] for name in TOOLS}
    for _ in range(rounds):
        for name in TOOLS:
            kind = name.split(",")[0]
            recorded, _, cpu, _ = here.take_in(kind, folder / name.replace(", ", "-"))
            assert recorded == count, (name, recorded)
            found[name].append(cpu / recorded * 1e6)
    here.close()
    for name, cpus in found.items():
        base = found["jsonl, no ids" if name == "ollama" else "jsonl"]
        ratio = statistics.median(cpu / other for cpu, other in zip(cpus, base, strict=True))
        median = statistics.median(cpus)
        print(f"{name}: {median:.1f} us of CPU a call of {sizes[name]:.0f} bytes, {ratio:.2f} x")


def measure_memory(folder, mib):
    path = folder / "large.jsonl"
    line_bytes = 175
    write_jsonl(path, mib * 2**20 // line_bytes, 20)
    checkout = Checkout(HERE)
    small = folder / "small.jsonl"
    write_jsonl(small, 1_000, 20)
    *_, before = checkout.take_in("jsonl", small)
    recorded, seconds, _, peak = checkout.take_in("jsonl", path)
    checkout.close()
    print(
        f"{path.stat().st_size / 2**20:,.0f} MiB of JSON lines: {recorded:,} calls in "
        f"{seconds:.0f} s; peak memory {peak / 1024:.0f} MiB, where a small file takes "
        f"{before / 1024:.0f} MiB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="PATH", help="another checkout")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", nargs="*", metavar="NAME", help="parts of the names of files")
    parser.add_argument("--folder", help="on the disk to measure; default: a temporary one")
    parser.add_argument("--tools", action="store_true", help="the formats of other tools")
    parser.add_argument("--large", type=int, metavar="MIB")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        if arguments.large:
            measure_memory(Path(folder), arguments.large)
            return
        if arguments.tools:
            compare_tools(Path(folder), arguments.calls, arguments.rounds)
            return
        names = [
            name
            for name in FILES
            if not arguments.files or any(part in name for part in arguments.files)
        ]
        compare(Path(folder), names, arguments.against, arguments.calls, arguments.rounds)


if __name__ == "__main__":
    main()
