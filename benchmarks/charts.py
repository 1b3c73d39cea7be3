"""How quickly all charts of all models are read from a ledger, and in how much memory.

    python benchmarks/charts.py [--calls N] [--rounds N] [--plain]

Of one model and of 50; each round is a fresh process, as for a page: what it takes to load compiled
code is in its time. Beside it stands a bare read of the same rows through sqlite3, the floor of
any. Times are in seconds: the median and the least by the clock, and the least of processor time,
which other programs on the machine disturb less. The target is 4 s for 1,000,000 calls with numba.
`--plain` measures without numba, too, which takes a minute.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta

from calibration_ledger import AdaptiveCalibrator

START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=100)
TARGET_S = 4.0
WORK = """
import sqlite3, sys, time
from calibration_ledger import AdaptiveCalibrator, fast
path, how = sys.argv[1:]
def peak():
    try:
        lines = open("/proc/self/status").read().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
before = peak()
clock, processor = time.perf_counter(), time.process_time()
if how == "bare read":
    with sqlite3.connect(path) as raw:
        for _ in raw.execute("SELECT * FROM calls ORDER BY model_id, seq"):
            pass
else:
    if how == "plain":
        fast.LONG = 2**60
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.charts()
        for stats in calibrator.all_stats(uncalibrated=True):
            calibrator.charts(stats["model"])
print(time.perf_counter() - clock, time.process_time() - processor, peak() - before)
"""


def fill(path, calls, models):
    """Make a ledger of calls like those of a busy program, a few of them given up."""
    rng = random.Random(1)
    with AdaptiveCalibrator(path, durability="normal") as calibrator:
        for done in range(0, calls, 50_000):
            calibrator.record_many(
                call_of(rng, models, START + place * (DAYS / calls))
                for place in range(done, min(done + 50_000, calls))
            )


def call_of(rng, models, called_at):
    which = rng.randrange(models)
    prompt, completion = (1 + int(rng.lognormvariate(mean, 0.9)) for mean in (6, 5))
    actual_ms = (300 + 0.3 * prompt + (8 + which % 7) * completion) * rng.lognormvariate(0, 0.2)
    return {
        "model": f"model-{which}",
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "actual_ms": actual_ms,
        "called_at": called_at,
        "outcome": "timeout" if rng.random() < 0.002 else "ok",
    }


def measure(path, how, rounds):
    found = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-c", WORK, path, how], check=True, capture_output=True, text=True
        )
        found.append([float(number) for number in done.stdout.split()])
    clocks, processors, peaks = zip(*found, strict=True)
    print(
        f"  {how:12} {statistics.median(clocks):6.2f} {min(clocks):6.2f} {min(processors):6.2f}"
        f"   {max(peaks):4.0f} MiB on top"
    )
    return min(clocks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for models in (1, 50):
            path = f"{folder}/{models}.db"
            fill(path, arguments.calls, models)
            print(f"all charts of {arguments.calls:,} calls over {models} models, in s:")
            measure(path, "bare read", arguments.rounds)
            if importlib.util.find_spec("numba") is not None:
                measure(path, "compiled", 1)  # what is compiled is kept for the next
                least = measure(path, "compiled", arguments.rounds)
                print(f"  the target is {TARGET_S} s: {'met' if least < TARGET_S else 'missed'}")
            if arguments.plain:
                measure(path, "plain", 1)


if __name__ == "__main__":
    main()
