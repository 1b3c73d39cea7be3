"""What `top()` costs while programs record, and what `progress()` does where nobody sees its bar.

    python benchmarks/top.py [--calls N] [--models N]

- `top()`: the first of a process, then one after nothing has changed, after a call of one model,
  and after a call of each, with the statements that it asks. CPU time, the median of some.
- `record()`: alone, and while another process asks for `top()` ten times a second. By the clock.
- `progress()`: a call recorded in memory, and one by `timed()`, interleaved, with stderr a file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

from calibration_ledger import AdaptiveCalibrator, Call

BATCH = 10_000


def filled(path, calls, models):
    rng, start = random.Random(4), datetime.now(UTC) - timedelta(seconds=calls)
    with AdaptiveCalibrator(path, durability="normal") as calibrator:
        for first in range(0, calls, BATCH):
            calibrator.record_many(
                Call(
                    f"model-{i % models}",
                    rng.randrange(20, 2000),
                    length,
                    500.0 + 10.0 * length * rng.lognormvariate(0, 0.15),
                    start + timedelta(seconds=i),
                )
                for i in range(first, min(calls, first + BATCH))
                for length in [round(rng.lognormvariate(4.6, 0.7))]
            )


def record_some(calibrator, models, some):
    times = []
    for i in range(some):
        start = time.perf_counter()
        calibrator.record(f"model-{i % models}", 5, 600.0, completion_tokens=9)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times or [0.0])


def keep_looking(path, stop):
    with AdaptiveCalibrator(path) as calibrator:
        while not stop.is_set():
            calibrator.top()
            time.sleep(0.1)


def top(path, models):
    with AdaptiveCalibrator(path) as calibrator, AdaptiveCalibrator(path) as writer:
        backend = calibrator._ledger.backend
        read, asked = backend.read, []
        backend.read = lambda *given: asked.append(given[0]) or read(*given)
        for what, changed, times in (
            ("the first", 0, 1),
            ("nothing changed", 0, 9),
            ("one model changed", 1, 9),
            (f"all {models} changed", models, 9),
        ):
            took = []
            for _ in range(times):
                record_some(writer, models, changed)
                asked.clear()
                start = time.process_time()
                calibrator.top()
                took.append((time.process_time() - start) * 1e3)
            print(f"top(), {what}: {statistics.median(took):.1f} ms, {len(asked)} statements")


def record(path, models):
    with AdaptiveCalibrator(path) as writer:
        alone = record_some(writer, models, 500)
        stop = multiprocessing.Event()
        process = multiprocessing.Process(target=keep_looking, args=(path, stop))
        process.start()
        time.sleep(2.0)
        watched = record_some(writer, models, 500)
        stop.set()
        process.join()
    print(f"record(): alone {alone:.2f} ms, while top() is asked for {watched:.2f} ms")


def progress(rounds=31, calls=300):
    with AdaptiveCalibrator(":memory:") as calibrator:
        took = {"timed": [], "progress": []}
        for _ in range(rounds):
            for name, times in took.items():
                start = time.process_time()
                for _ in range(calls):
                    with getattr(calibrator, name)("m", 50) as call:
                        call.completion_tokens = 9
                times.append((time.process_time() - start) / calls * 1e6)
    print(*(f"{name}(): {min(times):.0f} us" for name, times in took.items()), sep=", ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.db"
        filled(path, given.calls, given.models)
        top(path, given.models)
        record(path, given.models)
        with (Path(folder) / "stderr").open("w") as sys.stderr:
            progress()


if __name__ == "__main__":
    main()
