"""What one `record()` costs, as ratios of variants interleaved in one run.

    python benchmarks/record.py [--rounds N] [--calls N] [--folder DIR] [--large N]

- `by hand`: the sqlite3 transaction that an expert would write for the same work: the same
  PRAGMAs, tables, rows, digest and flock, no checks of its input, no error messages.
- `ours`: `AdaptiveCalibrator.record()`.
- `json`: the predecessor's way: all models as JSON to a temporary file, renamed over the old one
  at each record, never synced.

Each variant runs in short turns, one after the other, so that all of them meet the same machine;
a figure is the median over the turns of the mean microseconds per call.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import random
import sqlite3
import statistics
import struct
import tempfile
import time
from pathlib import Path

from calibration_ledger import AdaptiveCalibrator

ENTRY = struct.Struct(">Bqqqqddxx")


class ByHand:
    """The same transaction, written by hand for one thread of one process."""

    def __init__(self, path, durability):
        with AdaptiveCalibrator(path) as calibrator:  # the same tables
            calibrator.record("model", 1, 1.0)
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={durability.upper()}",
            "foreign_keys=ON",
            f"journal_size_limit={16 * 2**20}",
        ):
            self.connection.execute(f"PRAGMA {pragma}").fetchall()
        self.cursor = self.connection.cursor()
        self.lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)

    def record(self, model, p, y, c):
        execute = self.cursor.execute
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            execute("BEGIN IMMEDIATE")
            (id_, alpha, a, b, o, absolute, total_predicted, n, seq, head) = execute(
                "SELECT id, alpha, ms_per_prompt_token, ms_per_completion_token, base_overhead_ms,"
                " total_absolute_error_ms, total_predicted_ms, sample_count, last_seq, head"
                " FROM models JOIN calibrations ON id = model_id WHERE model = ?",
                (model,),
            ).fetchone()
            predicted = o + a * p + b * c
            error = y - predicted
            total = p + c or 1
            fp, fc = p / total, c / total
            step = alpha * error
            a = max(0.001, a + step * fp / max(p, 1))
            b = max(0.001, b + step * fc / max(c, 1))
            o = max(0.0, o + step * (1.0 - 0.5 * (fp + fc)))
            seq += 1
            now = time.time_ns() // 1000
            entry = ENTRY.pack(0, seq, now, p, c, y, predicted)
            head = hashlib.sha256(head + entry).digest()
            execute(
                "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
                (id_, seq, now, p, c, y, predicted),
            )
            execute(
                "UPDATE calibrations SET ms_per_prompt_token = ?, ms_per_completion_token = ?,"
                " base_overhead_ms = ?, total_absolute_error_ms = ?, total_predicted_ms = ?,"
                " sample_count = ?, updated_at = ?, last_seq = ?, head = ? WHERE model_id = ?",
                (a, b, o, absolute + abs(error), total_predicted + predicted, n + 1)  # noqa: RUF005 - as quick as by hand
                + (now, seq, head, id_),
            )
            execute("COMMIT")
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)
        return error


class Json:
    """The predecessor: the newest coefficients of all models, rewritten at each record.

    `json.dump` with an indent into a temporary file, then a rename, as it did.
    """

    def __init__(self, path, models):
        self.path = Path(path)
        self.models = {f"model-{i}": self.fresh(f"model-{i}") for i in range(models - 1)}
        self.models["model"] = self.fresh("model")

    @staticmethod
    def fresh(model):
        return {
            "model": model,
            "alpha": 0.15,
            "sample_count": 0,
            "last_updated": time.time(),
            "ms_per_prompt_token": 0.5,
            "ms_per_completion_token": 8.0,
            "base_overhead_ms": 300.0,
            "total_absolute_error_ms": 0.0,
            "total_predicted_ms": 0.0,
        }

    def record(self, model, p, y, c):
        state = self.models[model]
        predicted = (
            state["base_overhead_ms"]
            + state["ms_per_prompt_token"] * p
            + state["ms_per_completion_token"] * c
        )
        error = y - predicted
        total = p + c or 1
        fp, fc = p / total, c / total
        step = state["alpha"] * error
        state["ms_per_prompt_token"] += step * fp / max(p, 1)
        state["ms_per_completion_token"] += step * fc / max(c, 1)
        state["base_overhead_ms"] += step * (1.0 - 0.5 * (fp + fc))
        state["sample_count"] += 1
        state["last_updated"] = time.time()
        state["total_absolute_error_ms"] += abs(error)
        state["total_predicted_ms"] += predicted
        data = {"version": 1, "saved_at": time.time(), "models": list(self.models.values())}
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w") as file:
            json.dump(data, file, indent=2)
        temporary.replace(self.path)
        return error


def turn(variant, calls):
    """The mean microseconds of these calls."""
    record = variant.record
    start = time.perf_counter()
    for p, c, y in calls:
        record("model", p, y, c)
    return (time.perf_counter() - start) / len(calls) * 1e6


def interleave(variants, rounds, calls):
    """The median over rounds of each variant's mean microseconds per call."""
    rng = random.Random(1)
    times = {name: [] for name in variants}
    for _ in range(rounds):
        some = [
            (rng.randrange(4096), rng.randrange(1024), rng.random() * 5000) for _ in range(calls)
        ]
        order = list(variants)
        rng.shuffle(order)
        for name in order:
            times[name].append(turn(variants[name], some))
    return {name: statistics.median(values) for name, values in times.items()}


def sync_time_us(folder):
    """The median time of an fdatasync after a 4 KiB append, as a commit does one."""
    descriptor = os.open(Path(folder) / "sync", os.O_RDWR | os.O_CREAT)
    times = []
    for _ in range(200):
        os.write(descriptor, b"x" * 4096)
        start = time.perf_counter()
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - start)
    os.close(descriptor)
    return statistics.median(times) * 1e6


def against_hand(folder, rounds, calls):
    for durability, target in (("normal", 1.3), ("full", 1.15)):
        variants = {
            "by hand": ByHand(f"{folder}/hand-{durability}.db", durability),
            "ours": AdaptiveCalibrator(f"{folder}/ours-{durability}.db", durability=durability),
        }
        times = interleave(variants, rounds, calls)
        ratio = times["ours"] / times["by hand"]
        print(
            f"record(), durability {durability}: by hand {times['by hand']:.1f} us, "
            f"ours {times['ours']:.1f} us, ratio {ratio:.2f} (target <= {target})"
        )
        assert variants["ours"].audit() == []
        variants["ours"].close()


def against_json(folder, rounds):
    print(f"fdatasync of 4 KiB here: {sync_time_us(folder):.0f} us (median)")
    ours = AdaptiveCalibrator(f"{folder}/ours-json.db")
    for models, calls, target in ((1, 200, "faster"), (1000, 20, ">= 50 x")):
        for i in range(models - 1):
            ours.record(f"model-{i}", 1, 1.0)
        times = interleave(
            {"json": Json(f"{folder}/state-{models}.json", models), "ours": ours}, rounds, calls
        )
        print(
            f"record(), durability full, {models} models: json never synced "
            f"{times['json']:.0f} us, ours {times['ours']:.0f} us, "
            f"{times['json'] / times['ours']:.1f} x as fast (target {target})"
        )
    ours.close()


def at_size(folder, rounds, calls, large):
    """record() in a small and in a large ledger, both of the same model."""
    variants = {}
    for size in (1000, large):
        calibrator = AdaptiveCalibrator(f"{folder}/size-{size}.db", durability="normal")
        done = 0
        while done < size:
            some = min(100_000, size - done)
            calibrator.record_many(
                {"model": "model", "prompt_tokens": i % 4096, "completion_tokens": i % 512}
                | {"actual_ms": float(i % 5000)}
                for i in range(done, done + some)
            )
            done += some
        variants[f"{size:,}"] = calibrator
    times = interleave(variants, rounds, calls)
    (small_name, small), (large_name, big) = times.items()
    print(
        f"record(), durability normal: {small:.1f} us at {small_name} calls, {big:.1f} us at "
        f"{large_name}, ratio {big / small:.2f} (target <= 1.1)"
    )
    for calibrator in variants.values():
        calibrator.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--folder", help="on the disk to measure; default: a temporary one")
    parser.add_argument("--large", type=int, default=5_000_000, help="0 leaves that part out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        against_hand(folder, arguments.rounds, arguments.calls)
        against_json(folder, arguments.rounds)
        if arguments.large:
            at_size(folder, arguments.rounds, arguments.calls, arguments.large)


if __name__ == "__main__":
    main()
