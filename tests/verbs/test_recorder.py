"""The recorder: calls go into the ledger, and nothing of that reaches the program."""

from __future__ import annotations

import gc
import threading
import time

import pytest

from calibration_ledger import AdaptiveCalibrator, Recorder


@pytest.mark.both
def test_calls_that_are_put_are_recorded_in_order(calibrator, make_call):
    with calibrator.recorder() as recorder:
        for i in range(40):
            recorder.put(make_call(i))
        assert recorder.flush(10)
        assert (recorder.recorded, recorder.dropped, recorder.waiting) == (40, 0, 0)
    found = list(calibrator.calls("timmy:v0.1-q4"))
    assert [call.actual_ms for call in found] == [make_call(i).actual_ms for i in range(40)]
    assert len({call.request_id for call in found}) == 40


def test_a_bad_call_is_skipped_alone(calibrator, make_call):
    errors = []
    recorder = calibrator.recorder(on_error=errors.append)
    recorder.put(make_call(0, request_id="a"))
    recorder.flush()
    calls = [make_call(i) for i in range(1, 20)]
    calls[3] = make_call(3, prompt_tokens=-1)
    calls[7] = make_call(7, request_id="a")
    calls[9] = make_call(0, request_id="a")
    for call in [*calls, None, "call"]:
        recorder.put(call)
    recorder.close()
    assert recorder.skipped == {"refused": 4, "double": 1}
    assert recorder.recorded == 17
    assert len(errors) == 4


def test_what_is_put_behind_the_end_is_dropped_and_counted(calibrator, make_call):
    recorder = calibrator.recorder()
    recorder.close()
    recorder.put(make_call())
    assert (recorder.recorded, recorder.dropped) == (0, 1)


def test_a_recorder_that_is_dropped_loses_nothing_and_ends(ledger_path, make_call):
    calibrator = AdaptiveCalibrator(ledger_path)
    calibrator.recorder().put(make_call())
    deadline = time.monotonic() + 10
    while not list(calibrator.calls()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    gc.collect()
    assert not [one for one in gc.get_objects() if isinstance(one, Recorder)]
    calibrator.close()


def test_the_ledger_may_be_locked_meanwhile(calibrator, make_call, ledger):
    calibrator.record("m", 1, 1.0)
    recorder = calibrator.recorder()
    calibrator._ledger.write(lambda _: [recorder.put(make_call(i)) for i in range(5)])
    assert recorder.flush()
    assert recorder.recorded == 5


def test_many_threads_put_at_once(calibrator, make_call):
    recorder = calibrator.recorder(size=10_000)
    threads = [
        threading.Thread(target=lambda: [recorder.put(make_call(i)) for i in range(50)])
        for _ in range(32)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    recorder.close()
    assert recorder.recorded == 1600
