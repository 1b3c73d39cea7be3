"""Merges into any history: what hypothesis thinks of keeps every call, and can be undone."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator

START = datetime(2026, 1, 1, tzinfo=UTC)
names = st.sampled_from(["a", "b", "m"])
calls = st.tuples(
    st.just("call"), names, st.integers(0, 30), st.none() | st.sampled_from("rs"), st.booleans()
)
steps = st.one_of(
    calls,
    calls,
    st.tuples(st.sampled_from(["reset", "recalibrate", "void"]), names),
    st.tuples(st.sampled_from(["merge", "remove"]), st.sampled_from(["a", "b"])),
)


def counting(calibrator, model):
    return [one for one in calibrator.calls(model) if not one.voided]


def merge(calibrator, name):
    heads = calibrator.heads()
    told = calibrator.alias(name, "m", merge=True)
    if told.merged is None:
        return
    tried = calibrator.calibration("m")
    assert tried == told.calibration
    first, last = (int(told.merged.split("..")[place]) for place in (0, -1))
    copies = [one for one in counting(calibrator, "m") if first <= one.seq <= last]
    assert len(copies) == told.copied + told.moved
    assert copies == sorted(copies, key=lambda one: one.called_at)
    undone = calibrator.alias(name, None)
    assert undone.undone == told.merged
    if told.before is not None:
        assert calibrator.calibration("m") == told.before
    again = calibrator.alias(name, "m", merge=True)
    assert (again.calibration, again.copied) == (told.calibration, told.copied)
    assert calibrator.audit(heads=heads) == []


def record(calibrator, name, minute, request_id, is_timeout):
    calibrator.record(
        name,
        minute,
        50.0 + minute,
        completion_tokens=2,
        called_at=START + timedelta(minutes=minute),
        request_id=None if request_id is None else f"{request_id}{minute}{is_timeout}",
        outcome="timeout" if is_timeout else "ok",
    )


CORRECTIONS = {
    "reset": lambda calibrator, name: calibrator.reset(name),
    "recalibrate": lambda calibrator, name: calibrator.recalibrate(alpha=0.4, model=name),
    "void": lambda calibrator, name: calibrator.void(name, last=1),
}


@given(st.lists(steps, min_size=4, max_size=24))
def test_any_history_can_be_merged_undone_and_merged_again(history):
    with AdaptiveCalibrator(":memory:") as calibrator:
        for kind, name, *rest in history:
            aliases = {one.name for one in calibrator.aliases()}
            is_known = calibrator.get_stats(name)["sample_count"] > 0
            if kind == "call":
                record(calibrator, name, *rest)
            elif kind == "merge":
                if is_known and not aliases:
                    merge(calibrator, name)
            elif kind == "remove":
                if name in aliases:
                    calibrator.alias(name, None)
            elif is_known:
                CORRECTIONS[kind](calibrator, name)
        if calibrator.heads():
            assert calibrator.audit() == []
            for found in calibrator.replay():
                assert found.calibration == calibrator.calibration(found.model)
