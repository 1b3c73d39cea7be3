"""What one PostgreSQL does beside one SQLite file: calls recorded per second, by several processes.

    python benchmarks/postgres.py [--rounds N] [--seconds S] [--folder DIR]

- `SQLite`: a file, `durability="full"`.
- `PostgreSQL`: a server on the same disk, which syncs at each commit as it does by default, over
  a socket of this machine; or the one at `TEST_POSTGRES_URL`, set as it is.
- `PgBouncer`: the same server by way of a pooler in transaction mode with four server
  connections, where the program pgbouncer is installed.

`record()` is one transaction for each call, `record_many()` one for each batch; on one hot model,
or on a random one of many. The variants take turns in every round, so that all of them meet the
same machine; a figure is the median over the rounds. In the end every ledger must hold each call
that was acknowledged, and audit clean.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from calibration_ledger import AdaptiveCalibrator, Call
from record import sync_time_us

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.pooler import is_pgbouncer_here, running_pooler
from support.postgres_server import running_server

# A server's own defaults, but for what keeps it to itself.
CONFIGURATION = "listen_addresses = ''"
POOL = 4
MODELS_MAX = 1_000
PROCESSES_MAX = 8
CASES = [
    *((1, models, processes) for models in (1, MODELS_MAX) for processes in (1, 4, 8)),
    *((batch, models, 1) for models in (1, MODELS_MAX) for batch in (100, 1_000)),
    *((100, models, 8) for models in (1, MODELS_MAX)),
]
"""Calls to a transaction, models, processes."""


def name_of(case):
    batch, models, _ = case
    what = "`record()`" if batch == 1 else f"`record_many()` of {batch:,}"
    return f"{what}, {'one model' if models == 1 else f'{models:,} models'}"


def some_calls(rng, batch, models):
    return [
        Call(
            f"model-{rng.randrange(models)}",
            rng.randrange(4096),
            rng.randrange(1024),
            rng.random() * 5000,
        )
        for _ in range(batch)
    ]


def work(connection):
    """A process that records where and as long as it is told; answers with how many calls."""
    rng = random.Random(os.getpid())
    opened = {}
    while (order := connection.recv()) is not None:
        ledger, (batch, models, _), start_at, seconds = order
        if ledger not in opened:
            opened[ledger] = AdaptiveCalibrator(ledger, timeout_s=60.0)
            opened[ledger].predict("model-0", 1)  # connected before the time runs
        if start_at is None:
            connection.send(0)
            continue
        record, record_many = opened[ledger].record, opened[ledger].record_many
        calls = some_calls(rng, max(batch, 256), models)
        time.sleep(max(0.0, start_at - time.monotonic()))
        count, end = 0, start_at + seconds
        while time.monotonic() < end:
            if batch == 1:
                call = calls[count % len(calls)]
                record(
                    call.model,
                    call.prompt_tokens,
                    call.actual_ms,
                    completion_tokens=call.completion_tokens,
                )
            else:
                record_many(calls[:batch])
            count += batch
        connection.send((count, time.monotonic() - start_at))
    for calibrator in opened.values():
        calibrator.close()


class Workers:
    """Processes that live as long as the benchmark: to start one takes longer than a turn."""

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        pairs = [context.Pipe() for _ in range(PROCESSES_MAX)]
        self.pipes = [ours for ours, _ in pairs]
        self.processes = [context.Process(target=work, args=(its,)) for _, its in pairs]
        for process in self.processes:
            process.start()

    def order(self, order, processes):
        for pipe in self.pipes[:processes]:
            pipe.send(order)
        return [pipe.recv() for pipe in self.pipes[:processes]]

    def turn(self, ledger, case, seconds):
        """Calls recorded, and calls per second of all processes together."""
        processes = case[2]
        self.order((ledger, case, None, 0), processes)
        done = self.order((ledger, case, time.monotonic() + 0.05, seconds), processes)
        return sum(count for count, _ in done), sum(count / taken for count, taken in done)

    def close(self):
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join()


def describe(server):
    ((version, fsync, commit),) = server.run(
        "SELECT current_setting('server_version'), current_setting('fsync'),"
        " current_setting('synchronous_commit')"
    )
    return f"PostgreSQL {version} (fsync {fsync}, synchronous_commit {commit})"


def measure(ledgers, rounds, seconds):
    """The calls per second of each round, by case and variant; each ledger is checked."""
    rng = random.Random(1)
    rates = {(case, name): [] for case in CASES for name in ledgers}
    counts = dict.fromkeys(ledgers, 0)
    for ledger in ledgers.values():
        with AdaptiveCalibrator(ledger) as calibrator:
            calibrator.record_many(Call(f"model-{i}", 1, 1, 1.0) for i in range(MODELS_MAX))
    workers = Workers()
    try:
        for _ in range(rounds):
            for case in CASES:
                for name in rng.sample([*ledgers], len(ledgers)):
                    count, rate = workers.turn(ledgers[name], case, seconds)
                    counts[name] += count
                    rates[case, name].append(rate)
    finally:
        workers.close()
    for name, ledger in ledgers.items():
        with AdaptiveCalibrator(ledger) as calibrator:
            samples = sum(stats["sample_count"] for stats in calibrator.all_stats())
            assert samples == counts[name] + MODELS_MAX
            assert calibrator.audit() == []
    return {key: statistics.median(values) for key, values in rates.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--folder", default="/tmp", help="on the disk to measure; a short path")  # noqa: S108 - a folder inside
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.folder))
        server = stack.enter_context(running_server(CONFIGURATION, within=arguments.folder))
        ledgers = {
            "SQLite": f"{folder}/calls.db",
            "PostgreSQL": server.url(stack.enter_context(server.database())),
        }
        if is_pgbouncer_here():
            pooler = stack.enter_context(running_pooler(server, default_pool_size=POOL))
            ledgers["PgBouncer"] = pooler.url(stack.enter_context(server.database()))
        print(
            f"{describe(server)}, {os.cpu_count()} cores, fdatasync of 4 KiB "
            f"{sync_time_us(folder):.0f} us; calls per second, medians of {arguments.rounds} "
            f"rounds of {arguments.seconds:g} s each\n"
        )
        rates = measure(ledgers, arguments.rounds, arguments.seconds)
    print(f"| what | processes | {' | '.join(ledgers)} |")
    print("|---|---|" + "---|" * len(ledgers))
    for case in CASES:
        figures = " | ".join(f"{rates[case, name]:,.0f}" for name in ledgers)
        print(f"| {name_of(case)} | {case[2]} | {figures} |")


if __name__ == "__main__":
    main()
