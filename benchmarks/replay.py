"""How quickly history is replayed and audited, in plain Python.

    python benchmarks/replay.py [--calls N] [--models N] [--rounds N]

Replays all calls with all figures, beside a bare read of the same rows through sqlite3 (the floor
of any replay). What memory a replay takes is measured in fresh processes, of that many calls and
of a tenth of them: if it is constant, the two are the same.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from calibration_ledger import AdaptiveCalibrator


def fill(calibrator, calls, models):
    rng = random.Random(1)
    for start in range(0, calls, 50_000):
        calibrator.record_many(
            {
                "model": f"model-{rng.randrange(models)}",
                "prompt_tokens": rng.randrange(1, 4096),
                "completion_tokens": rng.randrange(1, 1024),
                "actual_ms": rng.uniform(100, 9000),
            }
            for _ in range(min(50_000, calls - start))
        )


# A process knows the most memory it ever had, which a peak before the replay would hide: so the
# replay is all that it does. The kernel's own VmHWM begins anew with the program; what getrusage
# tells begins with the parent's.
REPLAY_ONCE = """
import sys
from calibration_ledger import AdaptiveCalibrator
def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
with AdaptiveCalibrator(sys.argv[1]) as calibrator:
    calibrator.heads()
    before = peak_kib()
    calibrator.replay()
    print(before, peak_kib())
"""


def peak_mib(path):
    """The memory of a process before it replays all of a ledger, and at most."""
    command = [sys.executable, "-c", REPLAY_ONCE, path]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(int(kib) / 1024 for kib in done.stdout.split())


def tell_memory(folder, calls, models):
    for count in (calls // 10, calls):
        path = f"{folder}/calls.db"
        if count != calls:
            path = f"{folder}/tenth.db"
            with AdaptiveCalibrator(path, durability="normal") as calibrator:
                fill(calibrator, count, models)
        before, peak = peak_mib(path)
        print(
            f"memory of a process that replays {count:,} calls: {peak:.1f} MiB at most, "
            f"{peak - before:.1f} MiB of it for the replay"
        )


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/calls.db"
        calibrator = AdaptiveCalibrator(path, durability="normal")
        start = time.perf_counter()
        fill(calibrator, arguments.calls, arguments.models)
        rows_per_s = arguments.calls / (time.perf_counter() - start)
        print(f"record_many: {rows_per_s:,.0f} calls/s")
        raw = sqlite3.connect(path)
        sql = "SELECT seq, called_at, prompt_tokens, completion_tokens, actual_ms FROM calls"

        def read():
            for _ in raw.execute(f"{sql} ORDER BY model_id, seq"):
                pass

        works = {"bare read": read, "replay": calibrator.replay}
        times = {name: [] for name in works}
        for _ in range(arguments.rounds):
            for name, work in works.items():
                times[name].append(timed(work))
        bare, replay = (statistics.median(values) for values in times.values())
        scale = 1_000_000 / arguments.calls
        print(
            f"replay of {arguments.calls:,} calls over {arguments.models} models, all figures: "
            f"{replay:.2f} s ({replay * scale:.2f} s per million, target <= 1.5), "
            f"{replay / bare:.1f} x a bare read ({bare:.2f} s)"
        )
        findings = []
        audit = timed(lambda: findings.extend(calibrator.audit()))
        assert findings == []
        print(f"audit of the same: {audit:.2f} s")
        if sys.platform == "linux":
            tell_memory(folder, arguments.calls, arguments.models)
        calibrator.close()


if __name__ == "__main__":
    main()
