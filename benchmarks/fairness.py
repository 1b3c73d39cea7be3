"""How fairly several writers at full speed share one ledger, against two other ways to queue.

    python benchmarks/fairness.py [--writers N] [--seconds S] [--turns N] [--durability full]

- `ours`: `AdaptiveCalibrator.record()`.
- `plain flock`: the same transaction by hand (see `record.py`) behind a blocking `flock`, which
  knows no timeout.
- `busy handler`: the same by hand again, with nothing but SQLite's own busy handler.

The three take turns, a fresh ledger each, so that all of them meet the same machine. A writer's
share is its part of all records, 1.00 being an equal one; a wait is the whole time that one
record takes, from the call to its return.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import tempfile
import time

from calibration_ledger import AdaptiveCalibrator
from record import ByHand

TIMEOUT_S = 120.0


class PlainFlock(ByHand):
    """A transaction by hand behind a blocking flock."""

    def __init__(self, path, durability):
        super().__init__(path, durability)
        self.connection.execute(f"PRAGMA busy_timeout={TIMEOUT_S * 1000:.0f}").fetchall()


class BusyHandler(PlainFlock):
    """The same, each writer with a lock file of its own: nobody queues but in SQLite."""

    def __init__(self, path, durability):
        super().__init__(path, durability)
        os.close(self.lock)
        self.lock = os.open(f"{path}.lock-{os.getpid()}", os.O_RDWR | os.O_CREAT)


def ours(path, durability):
    return AdaptiveCalibrator(path, durability=durability, timeout_s=TIMEOUT_S)


VARIANTS = {"ours": ours, "plain flock": PlainFlock, "busy handler": BusyHandler}


def write(variant, path, durability, seconds, ready, results):
    """One writer: record at full speed, all beginning at once; puts its waits in seconds."""
    writer = VARIANTS[variant](path, durability)
    rng = random.Random(os.getpid())
    waits = []
    record, clock = writer.record, time.perf_counter
    ready.wait()
    end = clock() + seconds
    before = clock()
    while before < end:
        record(
            "model", rng.randrange(4096), rng.random() * 5000, completion_tokens=rng.randrange(1024)
        )
        after = clock()
        waits.append(after - before)
        before = after
    results.put(waits)


def turn(variant, folder, durability, writers, seconds):
    """The waits of every writer, a list each."""
    path = f"{folder}/{time.monotonic_ns()}.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("model", 1, 1.0)
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(writers), context.Queue()
    processes = [
        context.Process(target=write, args=(variant, path, durability, seconds, ready, results))
        for _ in range(writers)
    ]
    for process in processes:
        process.start()
    waits = [results.get() for _ in processes]
    for process in processes:
        process.join()
    with AdaptiveCalibrator(path) as calibrator:
        if variant == "ours":
            assert calibrator.audit() == []
            assert calibrator.calibration("model").sample_count == 1 + sum(map(len, waits))
    return waits


def figures(turns, seconds):
    """Over all turns of a variant: records/s, the least and greatest share, p99, worst wait."""
    shares = [[len(w) * len(turn) / sum(map(len, turn)) for w in turn] for turn in turns]
    everything = sorted(wait for turn in turns for waits in turn for wait in waits)
    return {
        "records/s": len(everything) / (len(turns) * seconds),
        "shares": [statistics.mean(of_one) for of_one in zip(*map(sorted, shares), strict=True)],
        "least share": min(map(min, shares)),
        "p50": everything[len(everything) // 2],
        "p99": everything[int(len(everything) * 0.99)],
        "worst": everything[-1],
        "worst of a turn": statistics.median(max(map(max, turn)) for turn in turns),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--durability", choices=["full", "normal"], default="full")
    parser.add_argument("--folder", help="on the disk to measure; default: a temporary one")
    arguments = parser.parse_args()
    turns = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for _ in range(arguments.turns):
            for variant, done in turns.items():
                done.append(
                    turn(
                        variant,
                        folder,
                        arguments.durability,
                        arguments.writers,
                        arguments.seconds,
                    )
                )
    print(
        f"{arguments.writers} writers at full speed, durability {arguments.durability}, "
        f"{os.cpu_count()} cores, {arguments.turns} turns of {arguments.seconds:g} s each"
    )
    found = {variant: figures(done, arguments.seconds) for variant, done in turns.items()}
    for variant, of in found.items():
        print(
            f"{variant:>12}: {of['records/s']:7.0f} records/s, wait p50 {of['p50'] * 1e3:6.2f} ms, "
            f"p99 {of['p99'] * 1e3:7.2f} ms, worst {of['worst'] * 1e3:7.1f} ms "
            f"(median of turns {of['worst of a turn'] * 1e3:.1f}), "
            f"shares {' '.join(f'{share:.2f}' for share in of['shares'])} "
            f"(least {of['least share']:.2f})"
        )
    mine, plain, alone = (found[variant]["worst of a turn"] for variant in VARIANTS)
    print(
        f"least share of ours {found['ours']['least share']:.2f} (target >= 0.5), worst wait "
        f"{mine / plain:.2f} x that of the plain flock (target <= 2.5) and {mine / alone:.3f} x "
        f"that of the busy handler alone"
    )


if __name__ == "__main__":
    main()
