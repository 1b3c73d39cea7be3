"""Calls by time over all models, and each as it is recorded."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from threading import Timer

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerNotFoundError,
    ModelNotFoundError,
)
from calibration_ledger.verbs import calls as verb

START = datetime(2026, 1, 2, tzinfo=UTC)


def at(seconds):
    return START + timedelta(seconds=seconds)


def places(found):
    return [(call.called_at, call.model, call.seq) for call in found]


def fill(calibrator, count=400, models=7):
    """Calls of several models in no order, many of one moment, some voided, one model an alias."""
    random = Random(1)
    for n in range(models):
        calibrator.record_many(
            [
                Call(f"m{n}", i + 1, 2, 5.0, at(random.randrange(200)))
                for i in range(count // models)
            ]
        )
    calibrator.void("m1", seq=[(2, 9)])
    calibrator.alias("m5", "m4", merge=True)


@pytest.mark.both
def test_calls_come_by_time_and_the_newest_of_all_are_the_last_of_them(ledger, monkeypatch):
    monkeypatch.setattr(verb, "ROWS_AT_ONCE", 1)  # so that stretches are short
    with AdaptiveCalibrator(ledger) as calibrator:
        fill(calibrator)
        everything = places(calibrator.calls())
        by_time = places(calibrator.calls(by_time=True))
        assert by_time == sorted(everything)
        for n in (1, 2, 20, 21, 100, len(by_time), 10**6, 2**62):
            newest = places(calibrator.calls(limit=n, by_time=True))
            # Of calls of one moment, any may be the ones that are left out.
            assert [time for time, *_ in newest] == [time for time, *_ in by_time[-n:]]
            assert newest == sorted(newest)
            assert {*newest} <= {*by_time}
        some = places(calibrator.calls(by_time=True, since=at(50), until=at(90)))
        assert some == [one for one in by_time if at(50) <= one[0] < at(90)]
        newest = [call.called_at for call in calibrator.calls(limit=5, by_time=True, until=at(90))]
        assert newest == [time for time, *_ in by_time if time < at(90)][-5:]
        for model in (None, "m2", "m5"):
            last = places(calibrator.calls(model, last=3))
            assert places(calibrator.calls(model, last=3, by_time=True)) == sorted(last)
        assert sorted(places(calibrator.calls(limit=50)), key=lambda one: one[1:]) == places(
            calibrator.calls(limit=50)
        )
        assert sum(call.voided for call in calibrator.calls(by_time=True)) == sum(
            call.voided for call in calibrator.calls()
        )
        assert calibrator.audit() == []


@pytest.mark.both
def test_each_call_that_another_records_is_followed_once_and_none_is_left_out(ledger):
    with AdaptiveCalibrator(ledger) as calibrator, AdaptiveCalibrator(ledger) as other:
        other.record("a", 1, 5.0, called_at=at(2))
        other.record("b", 2, 5.0, called_at=at(1))
        found = calibrator.follow(limit=1)
        assert next(found).model == "a"
        other.record("b", 3, 5.0, called_at=at(0))  # earlier by its time, and still new
        other.record_many([Call("new", n, 1, 5.0, at(n)) for n in range(4, 8)])
        assert [call.prompt_tokens for call in islice(found, 5)] == [3, 4, 5, 6, 7]
        later = Timer(0.5, other.record, ("a", 8, 5.0))
        later.start()
        assert next(found).prompt_tokens == 8
        later.join()
        only = calibrator.follow("b", last=1)
        assert next(only).prompt_tokens == 3
        other.record("a", 9, 5.0)
        other.record("b", 10, 5.0)
        assert next(only).prompt_tokens == 10
        assert calibrator.audit() == []


def test_what_is_archived_meanwhile_does_not_end_a_follow(ledger_path, tmp_path):
    with AdaptiveCalibrator(ledger_path) as calibrator, AdaptiveCalibrator(ledger_path) as other:
        other.record_many([Call("a", n, 1, 5.0, at(n)) for n in range(1, 5)])
        found = calibrator.follow(limit=1)
        assert next(found).prompt_tokens == 4
        other.archive(at(3), tmp_path / "old.jsonl")
        other.record("a", 5, 5.0, called_at=at(5))
        assert next(found).prompt_tokens == 5
        assert calibrator.audit() == []


def test_wrong_wishes_are_refused_at_once(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises(LedgerNotFoundError):
            calibrator.follow()
        assert list(calibrator.calls(limit=3)) == []
        assert list(calibrator.calls(by_time=True)) == []
        calibrator.record("m", 1, 5.0)
        for wrong in (0, -1, True, 1.5, "3"):
            with pytest.raises(InvalidInputError, match="limit must be a whole number from 1"):
                calibrator.calls(limit=wrong)
        for verb_of in (calibrator.calls, calibrator.follow):
            with pytest.raises(InvalidInputError, match="leave one out"):
                verb_of(limit=1, last=1)
            with pytest.raises(ModelNotFoundError):
                verb_of("nobody")
