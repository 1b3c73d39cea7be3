"""The boundary: what callers hand in is checked here, once, before anything else sees it.

Behind it tokens are plain `int` in [0, 2**31), milliseconds are finite `float` >= 0 without a
negative zero, times are integer microseconds since the epoch (UTC), and texts can be encoded. The
databases would not check it: SQLite stores infinity and turns NaN into NULL, and PostgreSQL's
`x >= 0` lets NaN through.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import operator
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args

from calibration_ledger.core.entries import OK, TIMEOUT
from calibration_ledger.core.visible import control_in, edge_blank
from calibration_ledger.errors import InvalidInputError, shown

TOKENS_LIMIT = 2**31
MODEL_LENGTH_MAX = 512
REQUEST_ID_LENGTH_MAX = 512
NOTE_LENGTH_MAX = 4096
DETAILS_BYTES_MAX = 4096
DETAILS_DEPTH_MAX = 16
"""Python's recursion limit could let a deeper value be written, and then not let it be read."""
TIME_LIMIT_US = 253_402_300_800_000_000
"""Times lie in [0, this): 1970 to the end of year 9999, what a `datetime` can show."""

canonical_json = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
"""The one text of a value in JSON: ASCII, keys sorted."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def check_tokens(name: str, value: object) -> int:
    """A token count, or a refusal that names the argument."""
    if type(value) is int and 0 <= value < TOKENS_LIMIT:
        return value
    try:
        count = operator.index(value)  # type: ignore[arg-type]  # numpy's integers, say
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise InvalidInputError(
            f"{name} must be a whole number of tokens, not {shown(value)} "
            f"({type(value).__name__}): pass an int, such as 512."
        )
    if not 0 <= count < TOKENS_LIMIT:
        raise InvalidInputError(
            f"{name} must be at least 0 and below 2**31, not {shown(count)}: pass the count that "
            f"the model's server reported."
        )
    return count


def check_milliseconds(name: str, value: object) -> float:
    """A duration in ms, never negative zero, or a refusal that names the argument."""
    if type(value) is float and 0.0 <= value < inf:
        return value + 0.0
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidInputError(
            f"{name} must be a number of milliseconds, not {shown(value)} "
            f"({type(value).__name__}): pass a float, such as 3400.0."
        )
    milliseconds = _as_float(value)
    if not 0.0 <= milliseconds < inf:
        raise InvalidInputError(
            f"{name} must be finite and not negative, not {milliseconds!r}: pass the measured "
            f"wall-clock time in milliseconds."
        )
    return milliseconds + 0.0  # -0.0 + 0.0 is 0.0: SQLite would drop the sign, PostgreSQL keep it


def _as_float(value: numbers.Real) -> float:
    try:
        return float(value)
    except OverflowError:
        return inf


def check_seconds(name: str, value: object, most: float) -> float:
    """A duration in seconds, from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidInputError(
            f"{name} must be a number of seconds, not {shown(value)} ({type(value).__name__})."
        )
    seconds = _as_float(value)
    if not 0.0 <= seconds <= most:
        raise InvalidInputError(f"{name} must lie between 0 and {most} seconds, not {seconds!r}.")
    return seconds


_INSTEAD_OF_EMPTY = {"model": "give the model's name", "rule": "name one, such as ema"}


def check_text(name: str, value: object, length_max: int) -> str:
    """A text that every database can hold: not empty, no NUL, no lone surrogates, bounded.

    Gives a plain str: a class of the user's own may encode, compare or hash as it likes.
    """
    if not isinstance(value, str):
        raise InvalidInputError(
            f"{name} must be a text, not {shown(value)} ({type(value).__name__}): pass a str."
        )
    if type(value) is not str:
        value = str.__str__(value)
    if not value:
        instead = _INSTEAD_OF_EMPTY.get(name, "leave it out where there is none")
        raise InvalidInputError(f"{name} must not be empty: {instead}.")
    if len(value) > length_max:
        raise InvalidInputError(
            f"{name} has {len(value)} characters: shorten it to at most {length_max}."
        )
    if "\0" in value:
        raise InvalidInputError(
            f"{name} must not hold a NUL character, as {shown(value)} does: leave it out."
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(
                f"{name} holds half a surrogate pair and is no valid text: {shown(value)}. Decode "
                f"it anew from its bytes."
            ) from None
    return value


def check_path(name: str, value: str | os.PathLike[str]) -> Path:
    """A path that a file can have: not empty, and without NUL.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        path = os.fspath(value)
        if path and b"\0" not in os.fsencode(path):
            return Path(os.fsdecode(path))
    except (TypeError, ValueError):  # no path, or half a surrogate pair
        pass
    raise InvalidInputError(f"{name} must be a path, and no file can be called {shown(value)}.")


def check_model(value: object) -> str:
    """A model name, as it is: names are neither trimmed nor folded."""
    return check_text("model", value, MODEL_LENGTH_MAX)


def check_new_model(value: object) -> str:
    """A model name that is to be recorded: without edge blanks and control characters.

    Nobody sees those, so the name would be taken for another. A ledger may hold such names from
    before they were refused; whatever reads takes them, with `check_model`.
    """
    model = check_model(value)
    if model.isascii() and model.isprintable() and " " not in (model[0], model[-1]):
        return model  # so are nearly all, and `record` has no time for more
    if (blank := edge_blank(model)) is not None:
        raise InvalidInputError(
            f"model must not begin or end with a blank (U+{ord(blank):04X}), as {shown(model)} "
            f"does: leave it out."
        )
    if (control := control_in(model)) is not None:
        raise InvalidInputError(
            f"model must not hold a control character (U+{ord(control):04X}), as {shown(model)} "
            f"does: leave it out."
        )
    return model


def check_request_id(value: object) -> str:
    """A request id: the caller's own name for one call of one model."""
    return check_text("request_id", value, REQUEST_ID_LENGTH_MAX)


def check_alpha(value: object) -> float:
    """A speed of adaptation in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidInputError(
            f"alpha must be a number above 0 and at most 1, not {shown(value)}: the default is "
            f"0.15."
        )
    alpha = _as_float(value)
    if not 0.0 < alpha <= 1.0:
        raise InvalidInputError(
            f"alpha must be above 0 and at most 1, not {shown(value)}: the default is 0.15."
        )
    return alpha


def check_level(name: str, level: object) -> float:
    """A number above 0 and below 1.

    Raises:
        InvalidInputError: it is not.
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0.0 < level < 1.0:
        raise InvalidInputError(
            f"{name} must be a number above 0 and below 1, such as 0.9, not {shown(level)}."
        )
    return float(level)


def check_share(name: str, share: object) -> float:
    """A number from 0 to 1.

    Raises:
        InvalidInputError: it is not.
    """
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
        raise InvalidInputError(
            f"{name} must be a number from 0 to 1, such as 0.05, not {shown(share)}."
        )
    return float(share)


Durability = Literal["full", "normal"]
"""What survives: with `full`, recorded calls survive a power cut; with `normal`, a crash."""


def check_durability(value: object) -> None:
    """Refuse what is no `Durability`."""
    if value not in get_args(Durability):
        raise InvalidInputError(f"durability must be 'full' or 'normal', not {shown(value)}.")


def check_outcome(value: object) -> str | None:
    """How a call ended, as the ledger stores it: None for `ok`, else `timeout`.

    Raises:
        InvalidInputError: it is neither.
    """
    if isinstance(value, str):
        if value == OK:
            return None
        if value == TIMEOUT:
            return TIMEOUT
    raise InvalidInputError(
        f"outcome must be 'ok', or 'timeout' for a call that was given up, not {shown(value)}: "
        f"leave out calls that failed otherwise."
    )


def check_time(name: str, value: object) -> int:
    """A time with its zone, as microseconds since the epoch (UTC)."""
    if not isinstance(value, datetime):
        raise InvalidInputError(
            f"{name} must be a datetime with a time zone, not {shown(value)} "
            f"({type(value).__name__})."
        )
    try:
        offset = value.utcoffset()
    except Exception as error:
        raise InvalidInputError(
            f"{name} has a time zone that says no offset ({type(error).__name__}: {error}): pass "
            f"the time in another, such as timezone.utc."
        ) from error
    if offset is None:
        raise InvalidInputError(
            f"{name} has no time zone: {value!r}. Say which one it is, for instance "
            f"value.replace(tzinfo=timezone.utc) or value.astimezone()."
        )
    microseconds = (value - EPOCH) // MICROSECOND
    if not 0 <= microseconds < TIME_LIMIT_US:
        raise InvalidInputError(f"{name} must lie between 1970 and 9999, not {value.isoformat()}.")
    return microseconds


def without_zone(text: str, time: datetime, lacks: str = "has no time zone") -> str:
    """What to say of a time that was read from a text and has no zone."""
    local = time.isoformat()
    return (
        f"{shown(text)} {lacks}: write {local}Z for UTC, or with your own zone, such as "
        f"{local}+01:00"
    )


def check_window(since: datetime | None, until: datetime | None) -> tuple[int | None, int | None]:
    """The half-open window [since, until) in microseconds; None is open on that side."""
    first = None if since is None else check_time("since", since)
    last = None if until is None else check_time("until", until)
    if first is not None and last is not None and first > last:
        raise InvalidInputError("since is later than until: swap them.")
    return first, last


def time_from_us(microseconds: int) -> datetime:
    """The datetime of integer microseconds since the epoch, in UTC."""
    return EPOCH + timedelta(microseconds=microseconds)


def iso_from_us(microseconds: int) -> str:
    """The same as text: always six digits of the second, always `Z`."""
    return f"{time_from_us(microseconds):%Y-%m-%dT%H:%M:%S.%f}Z"


def check_details(value: Mapping[str, Any] | None) -> str | None:
    """What else was measured, as canonical JSON: keys sorted, no NaN, bounded.

    A value of None is a value that was not measured: it is left out, and never becomes 0.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"details must be a mapping, not {shown(value)} ({type(value).__name__}): pass a dict, "
            f'such as {{"ttft_ms": 80.5}}.'
        )
    present = {key: item for key, item in value.items() if item is not None}
    _check_shape(present, DETAILS_DEPTH_MAX)
    try:
        text = canonical_json(present)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"details must be a mapping of finite numbers, texts and booleans that JSON can hold: "
            f"{error}."
        ) from error
    if len(text) > DETAILS_BYTES_MAX:
        raise InvalidInputError(
            f"details take {len(text)} bytes as JSON: keep them to at most {DETAILS_BYTES_MAX}. "
            f"They are for measurements, not for prompts or responses."
        )
    return text if present else None


_PLAIN = frozenset({str, int, float, bool, type(None)})
"""What has no shape; most details have nothing else."""


def _check_shape(value: object, depth_max: int) -> None:
    """Refuse what JSON would bend or choke on: keys that are no texts, and very deep values."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidInputError(
                    f"details must have texts for keys, such as 'ttft_ms', not {shown(key)}."
                )
        parts = list(value.values())
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        return
    if not depth_max:
        raise InvalidInputError(
            f"details must not be nested more than {DETAILS_DEPTH_MAX} deep: flatten them."
        )
    for part in parts:
        if type(part) not in _PLAIN:
            _check_shape(part, depth_max - 1)


def request_key(request_id: str) -> bytes:
    """The 16 bytes by which the ledger looks a request id up."""
    return hashlib.sha256(request_id.encode()).digest()[:16]
