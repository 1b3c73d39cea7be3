"""Bad input: a typed error with a sentence, and nothing is changed, made or half done.

Every case runs on a fresh ledger, where not even a file may appear, and on a lived one, whose
rows, heads and folder must be the same before and after.
"""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from calibration_ledger import AdaptiveCalibrator, CalibrationLedgerError, Call
from calibration_ledger.errors import (
    CompletionTokensMissingError,
    InvalidInputError,
    LedgerNotFoundError,
    ModelNotFoundError,
    NotFiniteError,
    RequestConflictError,
    UnknownRuleError,
)
from support.reference import dump

NAN, INF = float("nan"), float("inf")
NAIVE = datetime(2026, 1, 2)  # noqa: DTZ001 - the point
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class FarZone(tzinfo):
    """No place is thirty hours ahead, and Python says so only when it is asked."""

    def utcoffset(self, _time):
        return timedelta(hours=30)


DEEP: dict = {}
DEEP["a"] = DEEP

# A few of each kind, by every way in: which values the boundary refuses is in
# `tests/core/test_validation.py`.
TOKENS = {"negative": -1, "whole but a float": 1.0, "true": True, "2**31": 2**31, "a text": "1"}
MILLISECONDS = {
    "negative": -1.0,
    "nan": NAN,
    "too large an int": 10**400,
    "true": True,
    "none": None,
}
MODELS = {"empty": "", "nul": "a\0b", "a lone surrogate": "\ud800", "none": None, "bytes": b"m"}
REQUEST_IDS = {name: value for name, value in MODELS.items() if value is not None}
TIMES = {
    "thirty hours ahead": NOON.replace(tzinfo=FarZone()),
    "naive": NAIVE,
    "a text": "2026-01-02T00:00:00Z",
    "before 1970": datetime(1969, 12, 31, tzinfo=UTC),
}
DETAILS = {
    "nested infinity": {"a": [{"b": INF}]},
    "a key that is no text": {1: 2},
    "endlessly nested": DEEP,
    "too large": {"a": "x" * 5000},
    "an empty list": [],
    "false": False,
}


def record_many_with(calibrator, **fields):
    """A batch whose last call is bad."""
    good = {"model": "m", "prompt_tokens": 1, "completion_tokens": 2, "actual_ms": 3.0}
    calibrator.record_many([good, good, good | fields])


CASES = {}


def case(name, error=InvalidInputError):
    def add(use):
        CASES[name] = (use, error)
        return use

    return add


for _name, _value in TOKENS.items():
    case(f"record prompt_tokens {_name}")(lambda c, v=_value: c.record("m", v, 1.0))
    case(f"record completion_tokens {_name}")(
        lambda c, v=_value: c.record("m", 1, 1.0, completion_tokens=v)
    )
    case(f"predict prompt_tokens {_name}")(lambda c, v=_value: c.predict("m", v))
    case(f"predict completion_tokens {_name}")(lambda c, v=_value: c.predict("m", 1, v))
    case(f"timed prompt_tokens {_name}")(lambda c, v=_value: c.timed("m", v))
    case(f"record_many prompt_tokens {_name}")(
        lambda c, v=_value: record_many_with(c, prompt_tokens=v)
    )
for _name, _value in MILLISECONDS.items():
    case(f"record actual_ms {_name}")(lambda c, v=_value: c.record("m", 1, v))
    case(f"record_many actual_ms {_name}")(lambda c, v=_value: record_many_with(c, actual_ms=v))
for _name, _value in MODELS.items():
    case(f"record model {_name}")(lambda c, v=_value: c.record(v, 1, 1.0))
    case(f"record_many model {_name}")(lambda c, v=_value: record_many_with(c, model=v))
    case(f"predict model {_name}")(lambda c, v=_value: c.predict(v, 1))
    case(f"calibration model {_name}")(lambda c, v=_value: c.calibration(v))
    case(f"get_stats model {_name}")(lambda c, v=_value: c.get_stats(v))
    if _value is not None:
        case(f"timed model {_name}")(lambda c, v=_value: c.timed(v, 1))
        case(f"reset model {_name}")(lambda c, v=_value: c.reset(v))
        case(f"drift model {_name}")(lambda c, v=_value: c.drift([v]))
        case(f"stats model {_name}")(lambda c, v=_value: c.stats(v))
        case(f"calls model {_name}")(lambda c, v=_value: c.calls(v))
        case(f"replay model {_name}")(lambda c, v=_value: c.replay(model=v))
        case(f"recalibrate model {_name}")(lambda c, v=_value: c.recalibrate(0.5, model=v))
        case(f"audit model {_name}")(lambda c, v=_value: c.audit(v))
for _name, _value in REQUEST_IDS.items():
    case(f"record request_id {_name}")(lambda c, v=_value: c.record("m", 1, 1.0, request_id=v))
    case(f"record_many request_id {_name}")(lambda c, v=_value: record_many_with(c, request_id=v))
for _name, _value in TIMES.items():
    case(f"record called_at {_name}")(lambda c, v=_value: c.record("m", 1, 1.0, called_at=v))
    case(f"record_many called_at {_name}")(lambda c, v=_value: record_many_with(c, called_at=v))
    case(f"calls since {_name}")(lambda c, v=_value: c.calls(since=v))
    case(f"calls until {_name}")(lambda c, v=_value: c.calls(until=v))
    case(f"stats since {_name}")(lambda c, v=_value: c.stats(since=v))
    case(f"stats until {_name}")(lambda c, v=_value: c.stats(until=v, by_day=True))
    case(f"replay since {_name}")(lambda c, v=_value: c.replay(since=v))
    case(f"replay until {_name}")(lambda c, v=_value: c.replay(until=v))
for _name, _value in DETAILS.items():
    case(f"record details {_name}")(lambda c, v=_value: c.record("m", 1, 1.0, details=v))
    case(f"record_many details {_name}")(lambda c, v=_value: record_many_with(c, details=v))
for _value in (0, 1.0000000000000002, NAN, True, "0.15"):
    case(f"replay alpha {_value}")(lambda c, v=_value: c.replay(v))
    case(f"recalibrate alpha {_value}")(lambda c, v=_value: c.recalibrate(v))
for _value in ("", "EMA", "ema.2", "kalman.9", 1, b"ema"):
    case(f"replay rule {_value!r}", UnknownRuleError)(lambda c, v=_value: c.replay(rule=v))
    case(f"recalibrate rule {_value!r}", UnknownRuleError)(
        lambda c, v=_value: c.recalibrate(rule=v)
    )
for _value in (0, -1, 1.0, True, "5", NAN):
    case(f"calls last {_value!r}")(lambda c, v=_value: c.calls(last=v))
for _name, _value in {
    "no call": 5,
    "none": None,
    "a tuple": ("m", 1, 2, 3.0),
    "an empty mapping": {},
    "without a time": {"model": "m", "prompt_tokens": 1, "completion_tokens": 2},
    "an unknown field": {
        "model": "m",
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "actual_ms": 3.0,
        "colour": "red",
    },
    "keys that are no texts": {1: 2},
}.items():
    case(f"record_many {_name}")(lambda c, v=_value: c.record_many([Call("m", 1, 2, 3.0), v]))
for _name, _value in {
    "no tuple": 5,
    "too short": ("m", 1),
    "no hexadecimal": ("m", 1, "x" * 64),
    "too few digits": ("m", 1, "ab" * 31),
    "a fractional seq": ("m", 1.5, "ab" * 32),
    "a model that is no text": (5, 1, "ab" * 32),
    "none": None,
}.items():
    case(f"audit heads {_name}")(lambda c, v=_value: c.audit(heads=[v]))
for _name, _value in {"a number": 5, "an object": object()}.items():
    case(f"audit heads that are {_name}")(lambda c, v=_value: c.audit(heads=v))
for _name, _value in {
    "empty": "",
    "NUL": "a\0b",
    "half a surrogate pair": "\ud800",
    "a number": 5,
    "none": None,
}.items():
    case(f"backup {_name}")(lambda c, v=_value: c.backup(v))


@case("calls since after until")
def _(calibrator):
    calibrator.calls(since=NOON, until=NOON - timedelta(seconds=1))


@case("replay since after until")
def _(calibrator):
    calibrator.replay(since=NOON, until=NOON - timedelta(seconds=1))


@case("timed without completion_tokens", CompletionTokensMissingError)
def _(calibrator):
    with calibrator.timed("m", 1, on_error="raise"):
        pass


@case("timed completion_tokens negative")
def _(calibrator):
    with calibrator.timed("m", 1, on_error="raise") as call:
        call.completion_tokens = -1


@case("timed details that are none")
def _(calibrator):
    with calibrator.timed("m", 1, on_error="raise") as call:
        call.completion_tokens = 1
        call.details = 5


for _name in ("calls", "audit"):
    case(f"{_name} of a model never seen", ModelNotFoundError)(
        lambda c, v=_name: getattr(c, v)("unseen")
    )
for _name in ("replay", "recalibrate"):
    case(f"{_name} of a model never seen", ModelNotFoundError)(
        lambda c, v=_name: getattr(c, v)(0.5, model="unseen")
    )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A ledger that nobody made yet, used by all: bad input makes not even a file."""
    folder = tmp_path_factory.mktemp("fresh")
    with AdaptiveCalibrator(folder / "calls.db") as calibrator:
        yield calibrator, folder


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A ledger with a history, used by all: bad input changes nothing."""
    path = tmp_path_factory.mktemp("lived") / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        for i in range(5):
            calibrator.record(
                "m", i, 100.0 + i, completion_tokens=3, request_id=f"r-{i}", called_at=NOON
            )
            calibrator.record("n", i, 50.0, details={"ttft_ms": i})
        calibrator.reset("n")
        yield calibrator, path
        assert calibrator.audit() == []


@pytest.mark.parametrize(("use", "error"), CASES.values(), ids=CASES)
def test_bad_input_makes_no_ledger_and_changes_none(fresh, lived, use, error):
    calibrator, folder = fresh
    with pytest.raises(CalibrationLedgerError) as refused:
        use(calibrator)
    # Where there is no ledger, only calls() says that the model has none.
    expected = {error, LedgerNotFoundError} if error is ModelNotFoundError else {error}
    assert isinstance(refused.value, tuple(expected))
    assert len(str(refused.value).split()) > 4
    assert list(folder.iterdir()) == []

    calibrator, path = lived
    rows, heads = dump(path), calibrator.heads()
    with pytest.raises(error):
        use(calibrator)
    assert calibrator.heads() == heads
    assert dump(path) == rows


@pytest.mark.parametrize(("p", "y", "c"), [(99, 100.0, 3), (0, 100.5, 3), (0, 100.0, 4)])
def test_a_conflicting_request_id_changes_nothing(lived, p, y, c):
    calibrator, path = lived
    rows = dump(path)
    with pytest.raises(RequestConflictError, match="give each call an id of its own"):
        calibrator.record("m", p, y, completion_tokens=c, request_id="r-0")
    with pytest.raises(RequestConflictError):
        record_many_with(
            calibrator, prompt_tokens=p, actual_ms=y, completion_tokens=c, request_id="r-0"
        )
    assert dump(path) == rows


def test_the_empty_name_is_no_way_to_reset_everything(lived):
    calibrator, path = lived
    rows = dump(path)
    with pytest.raises(InvalidInputError, match="model must not be empty"):
        calibrator.reset("")
    assert dump(path) == rows


# -- what is only found while it is learnt --------------------------------------------------

FIRST, SECOND = (1, 0, 1.7e308), (1000, 0, 1.0)


@pytest.fixture
def absurd(tmp_path):
    with AdaptiveCalibrator(tmp_path / "calls.db", alpha=1.0) as calibrator:
        yield calibrator, tmp_path / "calls.db"
        assert calibrator.audit() == []


def test_an_update_that_is_not_finite_is_refused_by_record(absurd):
    calibrator, path = absurd
    calibrator.record("m", FIRST[0], FIRST[2])
    rows = dump(path)
    for request_id in (None, "r"):  # with an id it takes another way through the code
        with pytest.raises(NotFiniteError, match=r"a call of 1000 prompt tokens.*Check the meas"):
            calibrator.record("m", SECOND[0], SECOND[2], request_id=request_id)
        assert dump(path) == rows
    calibrator.reset("m")
    calibrator.record("m", SECOND[0], SECOND[2])


@pytest.mark.parametrize("request_ids", [(None, None), ("a", "b"), (None, "b")])
def test_an_update_that_is_not_finite_is_refused_inside_a_batch(absurd, request_ids):
    calibrator, path = absurd
    calibrator.record("other", 1, 2.0)
    rows = dump(path)
    batch = [
        Call("m", *numbers, request_id=request_id)
        for numbers, request_id in zip((FIRST, SECOND), request_ids, strict=True)
    ]
    with pytest.raises(NotFiniteError):
        calibrator.record_many([Call("a", 1, 2, 3.0), *batch, Call("z", 1, 2, 3.0)])
    assert dump(path) == rows


def test_an_update_that_is_not_finite_is_refused_in_the_first_batch_of_a_fresh_ledger(absurd):
    calibrator, _ = absurd
    with pytest.raises(NotFiniteError):
        calibrator.record_many([Call("m", *FIRST), Call("m", *SECOND)])
    assert calibrator.heads() == []


def test_an_update_that_is_not_finite_is_refused_by_timed(tmp_path):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path, prior=lambda _: (1.7e308, 0.0, 0.0)) as calibrator:
        calibrator.record("m", 1, 2.0)
        rows = dump(path)
        with pytest.raises(NotFiniteError), calibrator.timed("m", 1000, on_error="raise") as call:
            call.completion_tokens = 0
        assert dump(path) == rows
        assert calibrator.audit() == []


def test_an_update_that_is_not_finite_is_refused_by_an_import(absurd, tmp_path):
    calibrator, path = absurd
    calibrator.record("m", 1, 2.0)
    rows = dump(path)
    source = tmp_path / "calls.jsonl"
    source.write_text(
        "".join(
            f'{{"model":"m","prompt_tokens":{p},"completion_tokens":{c},"actual_ms":{y},'
            f'"called_at":"2026-01-02T00:00:0{i}Z"}}\n'
            for i, (p, c, y) in enumerate((FIRST, SECOND))
        )
    )
    with pytest.raises(CalibrationLedgerError, match=r"calls\.jsonl"):
        calibrator.import_calls("jsonl", source)
    assert dump(path) == rows


def test_a_replay_under_an_alpha_that_cannot_hold_the_history_is_refused(tmp_path):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path, alpha=1e-9) as calibrator:
        calibrator.record_many([Call("m", *FIRST), Call("m", *SECOND)])
        rows = dump(path)
        for use in (calibrator.replay, calibrator.recalibrate):
            with pytest.raises(NotFiniteError):
                use(1.0)
        assert dump(path) == rows
        assert calibrator.audit() == []


# -- prior functions ------------------------------------------------------------------------


def fails(_model):
    raise RuntimeError("no network")


PRIORS = {
    "none": lambda _: None,
    "a text": lambda _: "abc",
    "two numbers": lambda _: (1.0, 2.0),
    "four numbers": lambda _: (1.0, 2.0, 3.0, 4.0),
    "nan": lambda _: (1.0, NAN, 3.0),
    "infinite": lambda _: (1.0, 2.0, INF),
    "negative": lambda _: (-1.0, 2.0, 3.0),
    "a mapping": lambda _: {"ms_per_prompt_token": 1.0},
    "fails": fails,
    "takes no argument": lambda: (1.0, 2.0, 3.0),
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_a_prior_function_that_makes_no_sense_makes_no_ledger_and_changes_none(tmp_path, prior):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path, prior=prior) as calibrator:
        for record in (
            lambda: calibrator.record("new", 1, 2.0),
            lambda: calibrator.record_many([Call("new", 1, 2, 3.0)]),
        ):
            with pytest.raises(InvalidInputError, match="the prior function"):
                record()
        assert calibrator.heads() == []
        assert list(tmp_path.iterdir()) == []
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("old", 1, 2.0)
    rows = dump(path)
    with AdaptiveCalibrator(path, prior=prior) as calibrator:
        for use in (
            lambda: calibrator.predict("new", 1),
            lambda: calibrator.calibration("new"),
            lambda: calibrator.get_stats("new"),
            lambda: calibrator.record("new", 1, 2.0),
            lambda: calibrator.record_many([Call("old", 1, 2, 3.0), Call("new", 1, 2, 3.0)]),
            lambda: calibrator.reset("old"),
            calibrator.reset,
        ):
            with pytest.raises(InvalidInputError, match="the prior function"):
                use()
            assert dump(path) == rows
        # A model with a history needs no prior.
        assert calibrator.predict("old", 1).sample_count == 1
        assert calibrator.audit() == []


class Name(str):
    """A text with ways of its own."""

    __slots__ = ()

    def encode(self, *_):
        return b"other"

    def __str__(self):
        return "other"

    def __len__(self):
        return 5


def test_a_text_with_ways_of_its_own_is_taken_for_the_text_that_it_is(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record(Name("m"), 1, 1.0, request_id=Name("r"))
        calibrator.record_many([Call(Name("m"), 1, 1, 2.0, request_id=Name("s"))])
        with calibrator.timed(Name("m"), 1) as timed:
            timed.completion_tokens = 1
        calibrator.reset(Name("m"))
        calibrator.recalibrate(0.5, model=Name("m"))
        assert [call.request_id for call in calibrator.calls("m")] == ["r", "s", None]
        for given in (
            calibrator.predict(Name("m"), 1).model,
            calibrator.predict(Name("unseen"), 1).model,
            calibrator.get_stats(Name("unseen"))["model"],
            calibrator.calibration(Name("m")).model,
            next(calibrator.calls(Name("m"))).model,
        ):
            assert type(given) is str
        assert [head.model for head in calibrator.heads()] == ["m"]
        assert calibrator.audit(heads=calibrator.heads()) == []


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["huge", "hugely negative"])
def test_a_number_that_is_too_long_to_be_told_is_refused_all_the_same(calibrator, value):
    calibrator.record("m", 1, 1.0)
    for call in (
        lambda: calibrator.void("m", seq=value),
        lambda: calibrator.import_calls(value, "x"),
        lambda: calibrator.import_calls("csv", value),
        lambda: calibrator.export_ledger(value, "x"),
        lambda: calibrator.export_ledger("csv", value),
    ):
        with pytest.raises(InvalidInputError):
            call()


def test_a_closed_file_takes_no_export(calibrator):
    calibrator.record("m", 1, 1.0)
    file = io.StringIO()
    file.close()
    with pytest.raises(InvalidInputError, match="is closed"):
        calibrator.export_ledger("csv", file)
