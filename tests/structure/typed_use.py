"""What a typed program may do with the package, and what its type checker must refuse.

mypy reads this file with the package (`make lint`): each line that it must refuse says so, and an
exception that is not needed is an error, too.
"""

from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, assert_type

from calibration_ledger import (
    AdaptiveCalibrator,
    ArchiveReport,
    Call,
    Diagnosis,
    Drift,
    Durability,
    ExportReport,
    ImportKind,
    ImportReport,
    ModelStats,
    PeriodStats,
    RuleName,
    SalvageReport,
    TimedCall,
    from_answer,
)


def misspell() -> None:
    from calibration_ledger import AdaptiveCalibratr  # type: ignore[attr-defined]

    print(AdaptiveCalibratr)


def use(calibrator: AdaptiveCalibrator) -> None:
    assert_type(calibrator.record("m", 512, 3400.0), float)
    calibrator.record("m", 512, actual_ms=3400.0, completion_tokens=128, request_id="r")
    calibrator.record("m", 512, 128, 3400)  # type: ignore[call-arg]  # which is which?
    calibrator.record("m", 512)  # type: ignore[call-arg]
    calibrator.record("m", 512, 3400.0, compltion_tokens=1)  # type: ignore[call-arg]
    calibrator.record_many([Call("m", 512, 128, 3400.0)])
    calibrator.record("m", 512, 3400.0, outcome="timeout")
    calibrator.record("m", 512, 3400.0, outcome="error")  # type: ignore[arg-type]
    with calibrator.timed("m", 512) as call:
        assert_type(call, TimedCall)
        call.completion_tokens = 5
    with calibrator.timed() as call, call.stream([b"{}"]) as chunks:
        call.answer = {"model": "m"}
        assert_type(list(chunks), list[bytes])
        call.anser = {}  # type: ignore[attr-defined]
    calibrator.timed("m", on_error="ignore")  # type: ignore[arg-type]
    assert_type(calibrator.skipped["failed"], int)
    assert_type(from_answer(b"{}", 3400.0, model="m"), Call)
    from_answer(b"{}", "m")  # type: ignore[arg-type]
    stats = calibrator.get_stats("m")
    assert_type(stats, ModelStats)
    assert_type(stats["confidence"], float)
    stats["confidnce"]  # type: ignore[typeddict-item]


def decorate(calibrator: AdaptiveCalibrator) -> None:
    @calibrator.timed("m", on_error="raise")
    def chat(prompt: str, *, loud: bool = False) -> bytes:
        return prompt.upper().encode() if loud else prompt.encode()

    @calibrator.timed("m")
    async def chat_later(prompt: str) -> bytes:
        async with calibrator.timed("inner") as call:
            assert_type(call, TimedCall)
            async for chunk in call.stream(chunks_of(prompt)):
                assert_type(chunk, str)
        return prompt.encode()

    @calibrator.timed("m")
    async def chunks_of(prompt: str) -> AsyncIterator[str]:
        yield prompt

    @calibrator.timed("m")
    def letters_of(prompt: str) -> Iterator[str]:
        yield from prompt

    assert_type(chat("p", loud=True), bytes)
    chat(5)  # type: ignore[arg-type]
    chat("p", lud=True)  # type: ignore[call-arg]
    later: Coroutine[Any, Any, bytes] = chat_later("p")
    later.close()
    assert_type(chunks_of("p"), AsyncIterator[str])
    assert_type(letters_of("p"), Iterator[str])


def set_up(kind: ImportKind, rule: RuleName, durability: Durability) -> None:
    AdaptiveCalibrator("calls.db", None, rule=rule, durability=durability)
    AdaptiveCalibrator("calls.db", 0.2, rule="kalman", durability="normal")
    AdaptiveCalibrator("calls.db", rule="kalmann")  # type: ignore[arg-type]
    AdaptiveCalibrator("calls.db", durability="fast")  # type: ignore[arg-type]
    AdaptiveCalibrator("calls.db", autosave=True)  # type: ignore[call-arg]
    calibrator = AdaptiveCalibrator()
    assert_type(calibrator.import_calls(kind, "calls.jsonl"), ImportReport)
    calibrator.export_ledger("state", "state.json")  # type: ignore[arg-type]


def ask(calibrator: AdaptiveCalibrator) -> None:
    report = calibrator.export_ledger("csv", "calls.csv", salvage=True)
    assert_type(report, ExportReport)
    if isinstance(report, SalvageReport):
        print([lost.first for lost in report.lost])
    assert_type(calibrator.doctor(), Diagnosis)
    assert_type(calibrator.archive(datetime.now(UTC), "old.jsonl"), ArchiveReport)
    for one in calibrator.suggest():
        calibrator.recalibrate(one.alpha, one.rule, model=one.model)
    for found in calibrator.drift(["m"]):
        if found.drift is not None:
            assert_type(found.drift.factor, float)
    assert_type(calibrator.get_stats("m").get("drift"), Drift | None)
    assert_type(calibrator.stats("m", by_day=True)[0], PeriodStats)
    calibrator.replay(rule=calibrator.rule)
    calibrator.replay_forecasts(last=5)[0].known.coverage_90.is_integer()
    calibrator.sweep(rules=["ema", "kalman.1", "kalman.2"])
    calibrator.sweep(rules="emma")  # type: ignore[arg-type]
