"""Several processes on one ledger: nothing lost, nothing twice, numbers equal to a replay."""

import os
import random
import signal
import sqlite3
import time
from multiprocessing import get_context

import pytest

from calibration_ledger import AdaptiveCalibrator

MODELS = ("alpha:7b", "beta:70b", "gamma-cloud")
SPAWN = get_context("spawn")


def write(path, worker, calls, barrier):
    with AdaptiveCalibrator(path) as calibrator:
        barrier.wait()
        for i in range(calls):
            calibrator.record(
                MODELS[(worker + i) % 3], 100 + i, 900.0 + worker * 10 + i, 20 + worker
            )


def predict_until(path, stop, barrier, seen):
    with AdaptiveCalibrator(path) as calibrator:
        barrier.wait()
        last = 0
        while not stop.is_set():
            counts = [calibrator.predict(model, 10, 10).sample_count for model in MODELS]
            assert sum(counts) >= last, "a reader saw the past after the present"
            last = sum(counts)
        seen.value = last


def join(processes, timeout_s=120):
    for process in processes:
        process.join(timeout_s)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def assert_replay_is_live(calibrator):
    for replay in calibrator.replay():
        assert replay.calibration == calibrator.calibration(replay.model)


def test_eight_writers_and_two_readers_lose_nothing(tmp_path):
    path = tmp_path / "calls.db"
    barrier = SPAWN.Barrier(10)
    stop, seen = SPAWN.Event(), [SPAWN.Value("i", 0) for _ in range(2)]
    writers = [SPAWN.Process(target=write, args=(path, w, 250, barrier)) for w in range(8)]
    readers = [
        SPAWN.Process(target=predict_until, args=(path, stop, barrier, value)) for value in seen
    ]
    for process in writers + readers:
        process.start()
    join(writers)
    stop.set()
    join(readers)
    with AdaptiveCalibrator(path) as calibrator:
        assert sum(stats["sample_count"] for stats in calibrator.all_stats()) == 2000
        for model in MODELS:
            seqs = [call.seq for call in calibrator.calls(model)]
            assert seqs == list(range(2, len(seqs) + 2))  # entry 1 is the opening
        assert_replay_is_live(calibrator)
        assert calibrator.audit() == []


def write_and_acknowledge(path, worker, log):
    """Record for ever; a line in the log for each call whose record() returned."""
    with AdaptiveCalibrator(path) as calibrator, log.open("ab", buffering=0) as acknowledged:
        i = int(time.time_ns())
        while True:
            request_id = f"{worker}-{i}"
            calibrator.record(MODELS[i % 3], 10 + i % 90, 50.0 + i % 700, 5, request_id=request_id)
            acknowledged.write(f"{request_id}\n".encode())
            i += 1


def storm(path, folder, kills, writers=6):
    """Kill writers at random moments, start others, until there were so many kills."""
    rng = random.Random(7)
    logs = [folder / f"acknowledged-{worker}" for worker in range(writers)]

    def size(worker):
        return logs[worker].stat().st_size if logs[worker].exists() else 0

    def start(worker):
        process = SPAWN.Process(target=write_and_acknowledge, args=(path, worker, logs[worker]))
        process.start()
        return process

    def wait_for_calls(worker, since):
        """Most victims are in the middle of writing, some still start."""
        deadline = time.monotonic() + (20 if rng.random() < 0.8 else 0.1)
        while size(worker) == since and time.monotonic() < deadline:
            time.sleep(0.005)

    sizes = [0] * writers
    processes = [start(worker) for worker in range(writers)]
    try:
        for _ in range(kills):
            worker = rng.randrange(writers)
            wait_for_calls(worker, sizes[worker])
            time.sleep(rng.uniform(0.0, 0.05))
            os.kill(processes[worker].pid, signal.SIGKILL)
            processes[worker].join()
            assert processes[worker].exitcode == -signal.SIGKILL, "a writer had failed before"
            sizes[worker] = size(worker)
            processes[worker] = start(worker)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [line for log in logs if log.exists() for line in log.read_text().splitlines()]


def assert_acknowledged_is_there(path, acknowledged, kills_at_most):
    connection = sqlite3.connect(path)
    stored = [row[0] for row in connection.execute("SELECT request_id FROM call_details")]
    (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    assert integrity == "ok"
    assert len(stored) == len(set(stored)), "a call is there twice"
    assert set(acknowledged) <= set(stored), "an acknowledged call is lost"
    assert len(stored) - len(acknowledged) <= kills_at_most
    with AdaptiveCalibrator(path) as calibrator:
        assert_replay_is_live(calibrator)
        assert calibrator.audit() == []


def test_a_kill_in_mid_write_loses_no_acknowledged_call(tmp_path):
    path = tmp_path / "calls.db"
    acknowledged = storm(path, tmp_path, kills=12)
    assert acknowledged
    assert_acknowledged_is_there(path, acknowledged, kills_at_most=12 + 6)


@pytest.mark.stress
def test_a_storm_of_kills_loses_no_acknowledged_call(tmp_path):
    path = tmp_path / "calls.db"
    acknowledged = storm(path, tmp_path, kills=300)
    assert_acknowledged_is_there(path, acknowledged, kills_at_most=306)
