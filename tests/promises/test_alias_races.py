"""A name becomes an alias while other processes record under it: every call is in one place."""

import pytest

from calibration_ledger import AdaptiveCalibrator, AliasRefusedError
from support.reference import entries_of


def record(ledger, name, worker, barrier, count):
    barrier.wait()
    with AdaptiveCalibrator(ledger) as calibrator:
        for i in range(count):
            calibrator.record(name, i, 100.0 + worker, request_id=f"{name}-{worker}-{i}")


def give(ledger, barrier, rounds):
    barrier.wait()
    with AdaptiveCalibrator(ledger) as calibrator:
        for _ in range(rounds):
            calibrator.alias("a", "m", merge=True)
            calibrator.alias("a", None)
        calibrator.alias("a", "m", merge=True)


def ids_of(calibrator, model):
    return sorted(one.request_id for one in calibrator.calls(model) if one.request_id)


@pytest.mark.both
def test_calls_that_are_recorded_while_a_name_is_merged_are_all_in_the_model(quick, ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("a", 1, 2.0, request_id="first")
        calibrator.record("m", 1, 2.0)
    barrier = quick.Barrier(4)
    processes = [
        quick.Process(target=record, args=(ledger, name, worker, barrier, 12))
        for worker, name in enumerate(["a", "a", "m"])
    ]
    processes.append(quick.Process(target=give, args=(ledger, barrier, 2)))
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.audit() == []
        expected = {f"{n}-{w}-{i}" for w, n in enumerate("aam") for i in range(12)} | {"first"}
        assert {one.request_id for one in calibrator.calls("m") if one.request_id} == expected
        counting = [one for one in calibrator.calls("m") if not one.voided]
        assert len(counting) == len(expected) + 1
        assert {call["kind"] for call in entries_of(ledger, "a")[1:]} <= {"call"}


def open_or_give(ledger, barrier, worker):
    barrier.wait()
    with AdaptiveCalibrator(ledger) as calibrator:
        for i in range(6):
            if worker % 2:
                calibrator.record(f"new-{i}", 1, 2.0)
                continue
            try:
                calibrator.alias(f"new-{i}", "m")
            except AliasRefusedError as error:
                assert "history of its own" in str(error)  # noqa: PT017 - in a process of its own


@pytest.mark.both
def test_a_name_is_an_alias_or_a_models_own_whoever_comes_first(quick, ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0)
    barrier = quick.Barrier(4)
    processes = [
        quick.Process(target=open_or_give, args=(ledger, barrier, worker)) for worker in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    with AdaptiveCalibrator(ledger) as calibrator:
        assert calibrator.audit() == []
        aliases = {one.name for one in calibrator.aliases()}
        models = {head.model for head in calibrator.heads() if head.is_of_model}
        assert not aliases & models
        assert aliases | models >= {f"new-{i}" for i in range(6)}
        total = sum(len(list(calibrator.calls(model))) for model in models)
        assert total == 1 + 2 * 6
