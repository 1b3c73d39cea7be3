"""The boundary: what comes through it is plain and in bounds, and all else gets a sentence."""

import enum
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.validation import (
    DETAILS_BYTES_MAX,
    DETAILS_DEPTH_MAX,
    EPOCH,
    MODEL_LENGTH_MAX,
    TIME_LIMIT_US,
    check_alpha,
    check_details,
    check_milliseconds,
    check_model,
    check_request_id,
    check_seconds,
    check_time,
    check_tokens,
    check_window,
    iso_from_us,
    request_key,
    time_from_us,
)
from calibration_ledger.errors import CalibrationLedgerError, InvalidInputError, shown

HUGE = 10**5000  # Python refuses to print it
NAN, INF = float("nan"), float("inf")


def kind(value):
    """A test's id: Python refuses to print some of these values."""
    return type(value).__name__


class Index:
    """Like numpy's integers: not an int, but as good as one."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Broken:
    def __index__(self):
        raise TypeError("an array of several numbers has none")

    def __repr__(self):
        raise ValueError("no repr either")


class Grade(enum.IntEnum):
    ONE = 1


class Name(str):
    __slots__ = ()


# -- tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 2**31 - 1, Index(0), Index(2**31 - 1), Grade.ONE])
def test_tokens_come_through_as_plain_ints(value):
    checked = check_tokens("n", value)
    assert type(checked) is int
    assert checked == (value.value if isinstance(value, Index) else value)


@pytest.mark.parametrize(
    "value",
    [-1, 2**31, 2**63, HUGE, -HUGE, Index(-1), Index(2**31)],
    ids=kind,
)
def test_tokens_out_of_bounds_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"n must be at least 0 and below 2\*\*31, not"):
        check_tokens("n", value)


@pytest.mark.parametrize(
    "value",
    [True, False, 1.0, 1.5, NAN, INF, "1", b"1", None, [1], Decimal(1), Fraction(1), 1j, Broken()],
    ids=kind,
)
def test_tokens_that_are_no_whole_number_are_refused(value):
    with pytest.raises(InvalidInputError, match=r"n must be a whole number of tokens, not .*pass"):
        check_tokens("n", value)


# -- milliseconds ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (0, 0.0),
        (0.0, 0.0),
        (-0.0, 0.0),
        (5e-324, 5e-324),
        (3400, 3400.0),
        (Fraction(1, 4), 0.25),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (2**53 + 1, 2.0**53),
        (Grade.ONE, 1.0),
    ],
)
def test_milliseconds_come_through_as_plain_floats(value, taken):
    checked = check_milliseconds("ms", value)
    assert type(checked) is float
    assert checked.hex() == taken.hex()


@pytest.mark.parametrize(
    "value",
    [-1, -5e-324, -1e308, NAN, INF, -INF, HUGE, -1.0],
    ids=kind,
)
def test_milliseconds_that_are_negative_or_not_finite_are_refused(value):
    with pytest.raises(InvalidInputError, match="ms must be finite and not negative, not"):
        check_milliseconds("ms", value)


@pytest.mark.parametrize(
    "value",
    [True, False, "1", b"1", None, [1.0], 1j, Decimal(1), timedelta(seconds=1), Broken()],
    ids=kind,
)
def test_milliseconds_that_are_no_number_are_refused(value):
    with pytest.raises(InvalidInputError, match="ms must be a number of milliseconds, not"):
        check_milliseconds("ms", value)


# -- alpha and seconds ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [5e-324, 0.15, 1, 1.0, Fraction(1, 3)])
def test_alpha_may_be_anything_above_0_up_to_1(value):
    assert check_alpha(value) == float(value)
    assert type(check_alpha(value)) is float


@pytest.mark.parametrize(
    "value",
    [0, 0.0, -0.0, -0.1, 1.0000000000000002, 2, NAN, INF, -INF, HUGE, Fraction(1, HUGE)],
    ids=kind,
)
def test_alpha_out_of_bounds_is_refused(value):
    with pytest.raises(InvalidInputError, match="alpha must be above 0 and at most 1, not"):
        check_alpha(value)


@pytest.mark.parametrize(
    "value",
    [True, "0.15", None, [0.15], Decimal("0.15"), Broken()],
    ids=kind,
)
def test_alpha_that_is_no_number_is_refused(value):
    with pytest.raises(InvalidInputError, match="alpha must be a number above 0 and at most 1"):
        check_alpha(value)


@pytest.mark.parametrize(
    "value",
    [-1, NAN, INF, 11, HUGE, "1", None, True],
    ids=kind,
)
def test_seconds_out_of_bounds_are_refused_as_seconds(value):
    with pytest.raises(InvalidInputError, match=r"timeout_s must .*seconds, not"):
        check_seconds("timeout_s", value, 10)
    assert check_seconds("timeout_s", 10, 10) == 10.0


# -- texts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["x", " ", " x ", "größe", "𝄞", "a" * MODEL_LENGTH_MAX, "\n", "'; DROP"]
)
def test_a_name_comes_through_as_it_is(value):
    assert check_model(value) is value


def test_a_text_of_a_class_of_its_own_becomes_a_plain_one():
    checked = check_model(Name("n"))
    assert checked == "n"
    assert type(checked) is str


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("", "must not be empty"),
        ("a\0b", "must not hold a NUL"),
        ("\0", "must not hold a NUL"),
        ("\ud800", "holds half a surrogate pair"),
        ("x\udfffy", "holds half a surrogate pair"),
        ("a" * (MODEL_LENGTH_MAX + 1), "has 513 characters: shorten it to at most 512"),
        (None, "must be a text"),
        (b"x", "must be a text"),
        (5, "must be a text"),
        (HUGE, "must be a text"),
        (["x"], "must be a text"),
    ],
    ids=kind,
)
def test_a_name_that_not_every_database_holds_is_refused(value, match):
    with pytest.raises(InvalidInputError, match=f"model {match}"):
        check_model(value)
    with pytest.raises(InvalidInputError, match=f"request_id {match}"):
        check_request_id(value)


def test_a_request_id_is_looked_up_by_16_bytes():
    """Pinned: a ledger whose keys were made otherwise would not know its request ids again."""
    assert request_key("req-1").hex() == "9456bdfa12ea76959c94a3572f5d91c7"
    assert request_key("größe").hex() == "d353a2671b67afff0941ae456e5c76e9"
    assert request_key("größe") == hashlib.sha256("größe".encode()).digest()[:16]
    assert len({request_key(text) for text in ("a", "A", "a ", "ä", "a\u0308")}) == 5


# -- times ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), 1_767_323_045_678_901),
        (datetime(2026, 1, 2, 12, 4, 5, 678901, timezone(timedelta(hours=9))), 1767323045678901),
        (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), TIME_LIMIT_US - 1),
        (datetime(1969, 12, 31, 23, tzinfo=timezone(timedelta(hours=-1))), 0),
    ],
)
def test_a_time_with_its_zone_becomes_microseconds_utc(value, microseconds):
    assert check_time("t", value) == microseconds
    assert time_from_us(microseconds) == value
    assert time_from_us(microseconds).tzinfo is UTC


@given(st.integers(0, TIME_LIMIT_US - 1))
def test_every_time_in_bounds_comes_back(microseconds):
    assert check_time("t", time_from_us(microseconds)) == microseconds
    assert datetime.fromisoformat(iso_from_us(microseconds)) == time_from_us(microseconds)


def test_times_are_shown_with_six_digits_and_a_z():
    assert iso_from_us(0) == "1970-01-01T00:00:00.000000Z"
    assert iso_from_us(TIME_LIMIT_US - 1) == "9999-12-31T23:59:59.999999Z"


def test_a_time_without_zone_is_refused_with_how_to_give_one():
    with pytest.raises(InvalidInputError, match=r"t has no time zone.*value\.replace\(tzinfo="):
        check_time("t", datetime(2026, 1, 2))  # noqa: DTZ001 - the point


@pytest.mark.parametrize(
    "value",
    [
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=12))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
    ],
)
def test_a_time_out_of_bounds_is_refused(value):
    with pytest.raises(InvalidInputError, match="t must lie between 1970 and 9999"):
        check_time("t", value)


@pytest.mark.parametrize("value", [0, 1.7e9, "2026-01-02", None, EPOCH.date()])
def test_what_is_no_datetime_is_refused(value):
    with pytest.raises(InvalidInputError, match="t must be a datetime with a time zone, not"):
        check_time("t", value)


def test_a_window_is_half_open_on_either_side():
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    assert check_window(None, None) == (None, None)
    assert check_window(early, None) == (check_time("t", early), None)
    assert check_window(early, early)[0] == check_window(early, early)[1]
    with pytest.raises(InvalidInputError, match="since is later than until: swap them"):
        check_window(late, early)
    with pytest.raises(InvalidInputError, match="until must be a datetime"):
        check_window(None, "tomorrow")


# -- details --------------------------------------------------------------------------------


def nested(depth):
    value = 1
    for _ in range(depth - 1):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize(
    ("details", "text"),
    [
        ({"b": 1, "a": 2.5}, '{"a":2.5,"b":1}'),
        ({"ttft_ms": 80.5, "queue_ms": None}, '{"ttft_ms":80.5}'),
        ({"ok": True, "source": "größe"}, '{"ok":true,"source":"gr\\u00f6\\u00dfe"}'),
        (
            {"zero": 0, "list": [1, None, {"b": 1, "a": 2}]},
            '{"list":[1,null,{"a":2,"b":1}],"zero":0}',
        ),
        (MappingProxyType({"a": 1}), '{"a":1}'),
        ({"": ""}, '{"":""}'),
        ({"a": 1e300, "b": -0.0}, '{"a":1e+300,"b":-0.0}'),
        ({"a": "\ud800"}, '{"a":"\\ud800"}'),
        ({"a": "\0"}, '{"a":"\\u0000"}'),
        ({"a": (1, 2)}, '{"a":[1,2]}'),
        ({}, None),
        ({"a": None}, None),
        (None, None),
    ],
)
def test_details_become_canonical_json(details, text):
    assert check_details(details) == text


texts = st.text(max_size=5)
numbers = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, json_values, max_size=5))
def test_details_come_back_equal_and_are_the_same_again(details):
    text = check_details(details)
    again = {} if text is None else json.loads(text)
    assert again == details
    assert check_details(again) == text
    assert text is None or text.isascii()


@pytest.mark.parametrize(
    ("details", "match"),
    [
        ({"a": NAN}, "finite numbers"),
        ({"a": [1, {"b": INF}]}, "finite numbers"),
        ({"a": {1, 2}}, "finite numbers"),
        ({"a": b"x"}, "finite numbers"),
        ({"a": datetime(2026, 1, 2, tzinfo=UTC)}, "finite numbers"),
        ({"a": HUGE}, "finite numbers"),
        ({1: "a"}, "texts for keys, such as 'ttft_ms', not 1"),
        ({None: "a"}, "texts for keys"),
        ({"a": {1: 2}}, "texts for keys"),
        ({"a": [{True: 2}]}, "texts for keys"),
        (nested(DETAILS_DEPTH_MAX + 1), "nested more than 16 deep"),
        (nested(100_000), "nested more than 16 deep"),
        ({"a": "x" * DETAILS_BYTES_MAX}, "take 4104 bytes as JSON: keep them to at most 4096"),
        ({"a": "ß" * 700}, "take 4208 bytes"),
        ([("a", 1)], "must be a mapping, not"),
        ([], "must be a mapping, not"),
        ("ab", "must be a mapping, not 'ab'"),
        (5, "must be a mapping, not 5"),
        (Broken(), "must be a mapping, not <Broken>"),
    ],
    ids=kind,
)
def test_details_that_json_cannot_hold_are_refused(details, match):
    with pytest.raises(InvalidInputError, match=match):
        check_details(details)


def test_details_just_within_their_bounds_are_taken():
    assert check_details(nested(DETAILS_DEPTH_MAX)) is not None
    assert len(check_details({"a": "x" * (DETAILS_BYTES_MAX - 8)})) == DETAILS_BYTES_MAX


def test_details_that_hold_themselves_are_refused():
    details = {}
    details["a"] = details
    with pytest.raises(InvalidInputError, match="nested more than 16 deep"):
        check_details(details)


# -- sentences ------------------------------------------------------------------------------


def test_values_are_shown_short_whatever_they_are():
    assert shown(5) == "5"
    assert shown("x" * 1000) == "'" + "x" * 96 + "..."
    assert shown(HUGE) == "<int>"
    assert shown(Broken()) == "<Broken>"


def test_refusals_are_value_errors_too():
    with pytest.raises(ValueError, match="alpha") as refused:
        check_alpha(0)
    assert isinstance(refused.value, CalibrationLedgerError)
