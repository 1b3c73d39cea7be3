"""How quickly history is replayed, swept and audited; in one run, variants interleaved.

    python benchmarks/replay.py [--calls N] [--models N] [--rounds N] [--slow-calls N]

Beside the replays stand a bare read of the same rows through sqlite3 (the floor of any replay), the
predecessor's way (an object for each model, one `record()` for each call), and river, where it is
installed. What is slow is run over fewer calls and scaled. Times are in seconds per million calls:
the median and the least over the rounds, and the least of processor time, which other programs on
the machine disturb less. Memory is measured in fresh processes, at two sizes of ledger.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from calibration_ledger import AdaptiveCalibrator, fast
from calibration_ledger.core.replay import fold_history
from calibration_ledger.rules import find_rule

START, DAYS = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=100)
ALPHAS = [(i + 1) / 200 for i in range(100)]
TARGETS_S = {
    "plain, ema, bare rebuild": 0.9,
    "plain, ema, all figures": 1.3,
    "compiled, ema": 0.7,
    "compiled, ema, 100 alphas": 1.5,
}
IN_ORDER = (
    "SELECT model_id, prompt_tokens, completion_tokens, actual_ms, called_at FROM calls"
    " ORDER BY model_id, seq"
)


def fill(path, calls, models):
    """Make a ledger; gives how many calls were recorded each second."""
    rng = random.Random(1)
    start = time.perf_counter()
    with AdaptiveCalibrator(path, durability="normal") as calibrator:
        for done in range(0, calls, 50_000):
            calibrator.record_many(
                {
                    "model": f"model-{rng.randrange(models)}",
                    "prompt_tokens": rng.randrange(1, 4096),
                    "completion_tokens": rng.randrange(1, 1024),
                    "actual_ms": rng.uniform(100, 9000),
                    "called_at": START + place * (DAYS / calls),
                }
                for place in range(done, min(done + 50_000, calls))
            )
    return calls / (time.perf_counter() - start)


class Predecessor:
    """A model's calibration as the predecessor kept it, without its file."""

    def __init__(self):
        self.ms_per_prompt_token, self.ms_per_completion_token = 0.5, 8.0
        self.base_overhead_ms = 300.0
        self.sample_count = 0
        self.total_absolute_error_ms = self.total_predicted_ms = 0.0
        self.last_updated = 0.0

    def predict(self, prompt_tokens, completion_tokens):
        return (
            self.base_overhead_ms
            + self.ms_per_prompt_token * prompt_tokens
            + self.ms_per_completion_token * completion_tokens
        )

    def record(self, prompt_tokens, completion_tokens, actual_ms, alpha=0.15):
        predicted = self.predict(prompt_tokens, completion_tokens)
        error = actual_ms - predicted
        total = prompt_tokens + completion_tokens or 1
        fp, fc = prompt_tokens / total, completion_tokens / total
        self.ms_per_prompt_token = max(
            0.001, self.ms_per_prompt_token + alpha * error * fp / max(prompt_tokens, 1)
        )
        self.ms_per_completion_token = max(
            0.001, self.ms_per_completion_token + alpha * error * fc / max(completion_tokens, 1)
        )
        self.base_overhead_ms = max(
            0.0, self.base_overhead_ms + alpha * error * (1.0 - 0.5 * (fp + fc))
        )
        self.sample_count += 1
        self.total_absolute_error_ms += abs(error)
        self.total_predicted_ms += predicted
        self.last_updated = time.time()
        return error


def bare_read(path, limit):
    with sqlite3.connect(path) as raw:
        for _ in raw.execute(f"{IN_ORDER} LIMIT {limit}"):
            pass


def predecessor(path, limit):
    models = {}
    with sqlite3.connect(path) as raw:
        for model, p, c, y, _ in raw.execute(f"{IN_ORDER} LIMIT {limit}"):
            if model not in models:
                models[model] = Predecessor()
            models[model].record(p, c, y)


def river(path, limit):
    from river import linear_model, preprocessing

    models = {}
    with sqlite3.connect(path) as raw:
        for model, p, c, y, _ in raw.execute(f"{IN_ORDER} LIMIT {limit}"):
            if model not in models:
                scaled = preprocessing.StandardScaler() | linear_model.LinearRegression()
                models[model] = scaled
            x = {"prompt": p, "completion": c}
            models[model].predict_one(x)
            models[model].learn_one(x, y)


def rebuild(calibrator, rule):
    """The live state alone, without figures."""
    ledger = calibrator._ledger
    for live in ledger.models():
        history = ledger.history(live)
        fold_history(history, find_rule(rule), 0.15, live.last_seq)


def in_way(compiled, work):
    """The work, compiled however short it is, or not at all."""

    def run():
        fast.LONG = 0 if compiled else 2**60
        work()

    return run


def works_of(calibrator, path, calls, slow_calls):
    """Name: (what to run, how many calls it goes through)."""
    plain = {
        "plain, ema, bare rebuild": lambda: rebuild(calibrator, "ema"),
        "plain, ema, all figures": lambda: calibrator.replay(rule="ema"),
        "plain, kalman, bare rebuild": lambda: rebuild(calibrator, "kalman"),
        "plain, kalman, all figures": lambda: calibrator.replay(rule="kalman"),
        "stats, by day": lambda: calibrator.stats(by_day=True),
    }
    works = {"bare read (sqlite3)": (lambda: bare_read(path, calls), calls)}
    works |= {name: (in_way(False, work), calls) for name, work in plain.items()}
    if importlib.util.find_spec("numba") is None:
        print("compiled: numba is not installed (the extra `fast`)")
    else:
        compiled = {
            "compiled, ema": lambda: calibrator.replay(rule="ema"),
            "compiled, kalman": lambda: calibrator.replay(rule="kalman"),
            "compiled, ema, 100 alphas": lambda: calibrator.sweep(ALPHAS, ["ema"]),
            "compiled, kalman, 100 alphas": lambda: calibrator.sweep(ALPHAS, ["kalman"]),
        }
        works |= {name: (in_way(True, work), calls) for name, work in compiled.items()}
    works["the predecessor's objects"] = (lambda: predecessor(path, slow_calls), slow_calls)
    if importlib.util.find_spec("river") is None:
        print("river: not installed (the extra `benchmark`)")
    else:
        few = slow_calls // 5
        works["river, predict_one and learn_one"] = (lambda: river(path, few), few)
    return works


def measure_times(works, rounds):
    for name, (work, _) in works.items():
        if name.startswith("compiled"):
            work()
    walls, processors = ({name: [] for name in works} for _ in range(2))
    for _ in range(rounds):
        for name, (work, calls) in works.items():
            wall, processor = time.perf_counter(), time.process_time()
            work()
            processors[name].append((time.process_time() - processor) * 1e6 / calls)
            walls[name].append((time.perf_counter() - wall) * 1e6 / calls)
    floor = statistics.median(walls["bare read (sqlite3)"])
    print(f"{'':33} median  least  processor  to a bare read  target")
    for name, values in walls.items():
        median = statistics.median(values)
        target = f"<= {TARGETS_S[name]}" if name in TARGETS_S else ""
        print(
            f"{name:33} {median:6.2f} {min(values):6.2f} {min(processors[name]):10.2f}"
            f" {median / floor:14.1f}x  {target}".rstrip()
        )


def run_child(code, *arguments, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | variables,
    )
    return done.stdout.strip()


LOADING = """
import time
start = time.perf_counter()
from calibration_ledger.fast.compiler import compiled
from calibration_ledger.rules import RULES
assert compiled(RULES) is not None
print(f"{time.perf_counter() - start:.2f}")
"""


def measure_loading():
    """What the first long replay of a process waits for."""
    with tempfile.TemporaryDirectory() as folder:
        times = [run_child(LOADING, NUMBA_CACHE_DIR=folder) for _ in range(4)]
    print(
        f"numba and both rules: {times[0]} s to be imported and compiled, once for each machine; "
        f"{min(times[1:])} s to be imported and loaded, once for each process"
    )


PEAK = """
import sys
from calibration_ledger import AdaptiveCalibrator, fast
fast.LONG = int(sys.argv[2])
def peak():  # not ru_maxrss, which a program inherits from the one that started it
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
with AdaptiveCalibrator(sys.argv[1]) as calibrator:
    before = peak()
    if sys.argv[3] == "replay":
        calibrator.replay()
    elif sys.argv[3] == "stats":
        calibrator.stats(by_day=True)
    else:
        calibrator.sweep([(i + 1) / 200 for i in range(int(sys.argv[3]))], ["ema"])
    print((peak() - before) / 1024)
"""


def measure_memory(paths):
    if not Path("/proc/self/status").exists():
        print("memory: not measured, there is no /proc here")
        return
    works = {"plain, replay": (2**60, "replay"), "stats, by day": (2**60, "stats")}
    if importlib.util.find_spec("numba") is not None:
        works["compiled, replay"] = (0, "replay")
        works["compiled, sweep of 100 alphas"] = (0, 100)
    for name, arguments in works.items():
        run_child(PEAK, paths[min(paths)], *arguments)  # what is compiled is kept for the next
        told = [
            f"{float(run_child(PEAK, path, *arguments)):.0f} MiB for {calls:,} calls"
            for calls, path in paths.items()
        ]
        print(f"memory on top, {name}: {', '.join(told)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-calls", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = {n: f"{folder}/{n}.db" for n in (max(1, arguments.calls // 10), arguments.calls)}
        for calls, path in paths.items():
            rows_per_s = fill(path, calls, arguments.models)
        print(f"record_many: {rows_per_s:,.0f} calls/s")
        print(f"{arguments.calls:,} calls over {arguments.models} models, in s per million calls:")
        with AdaptiveCalibrator(path) as calibrator:
            slow_calls = min(arguments.slow_calls, arguments.calls)
            works = works_of(calibrator, path, arguments.calls, slow_calls)
            measure_times(works, arguments.rounds)
            start = time.perf_counter()
            assert calibrator.audit() == []
            print(f"audit of the same: {time.perf_counter() - start:.2f} s")
        if importlib.util.find_spec("numba") is not None:
            measure_loading()
        measure_memory(paths)


if __name__ == "__main__":
    main()
