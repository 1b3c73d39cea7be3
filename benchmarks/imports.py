"""What importing files of calls costs, beside another checkout of this project.

    python benchmarks/imports.py [--against PATH] [--calls N] [--rounds N] [--formats NAME ...]

Each checkout runs in a process of its own, that is kept; the files are the same, and each import
goes into a fresh ledger. The turns are interleaved, so that all meet the same machine; a figure is
the median over the rounds, in calls a second, and in microseconds of CPU time a call.

`--large MIB` measures the peak memory of the import of a file of so many MiB instead.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
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
        names = [
            name
            for name in FILES
            if not arguments.files or any(part in name for part in arguments.files)
        ]
        compare(Path(folder), names, arguments.against, arguments.calls, arguments.rounds)


if __name__ == "__main__":
    main()
