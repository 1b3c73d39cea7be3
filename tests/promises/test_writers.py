"""Several processes on one ledger: nothing lost, nothing twice, numbers equal to a replay."""

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.quick import QUICK

MODELS = ("alpha:7b", "beta:70b", "gamma-cloud")


def write(path, worker, calls, barrier):
    with AdaptiveCalibrator(path) as calibrator:
        barrier.wait()
        for i in range(calls):
            calibrator.record(
                MODELS[(worker + i) % 3],
                100 + i,
                900.0 + worker * 10 + i,
                completion_tokens=20 + worker,
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


@pytest.mark.parametrize("calls", [80, pytest.param(1000, marks=pytest.mark.stress)])
def test_eight_writers_and_two_readers_lose_nothing(tmp_path, calls):
    path = tmp_path / "calls.db"
    barrier = QUICK.Barrier(10)
    stop, seen = QUICK.Event(), [QUICK.Value("i", 0) for _ in range(2)]
    writers = [QUICK.Process(target=write, args=(path, w, calls, barrier)) for w in range(8)]
    readers = [
        QUICK.Process(target=predict_until, args=(path, stop, barrier, value)) for value in seen
    ]
    for process in writers + readers:
        process.start()
    join(writers)
    stop.set()
    join(readers)
    with AdaptiveCalibrator(path) as calibrator:
        assert sum(stats["sample_count"] for stats in calibrator.all_stats()) == 8 * calls
        for model in MODELS:
            seqs = [call.seq for call in calibrator.calls(model)]
            assert seqs == list(range(2, len(seqs) + 2))  # entry 1 is the opening
        assert_replay_is_live(calibrator)
        assert calibrator.audit() == []
