"""A row of a file of calls, checked: the same for JSON lines and CSV.

Absent is not zero: a token count or duration that is missing is unknown, and such a call is a bad
line, never learnt from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.entries import TIMEOUT
from calibration_ledger.core.validation import (
    DETAILS_BYTES_MAX,
    EPOCH,
    MICROSECOND,
    TIME_LIMIT_US,
    TOKENS_LIMIT,
    canonical_json,
    check_details,
    check_milliseconds,
    check_new_model,
    check_outcome,
    check_request_id,
    check_time,
    check_tokens,
    without_zone,
)
from calibration_ledger.errors import InvalidInputError, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

REQUIRED = ("model", "prompt_tokens", "completion_tokens", "actual_ms")
OPTIONAL = ("called_at", "request_id", "details", "voided", "outcome")
IGNORED = ("seq", "predicted_ms", "error_ms")
"""What the ledger itself says of a call: accepted, as its own output has it, and computed anew."""

KNOWN = frozenset(REQUIRED + OPTIONAL + IGNORED)

CONTENT_BYTES = 16
"""Bytes of SHA-256 that key a row without an id of its own."""


class Row(NamedTuple):
    """A checked row; `called_at` in microseconds, None where the file does not say.

    One that is `voided` no longer counts in the ledger that it comes from: it is left out.
    """

    model: str
    called_at: int | None
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    request_id: str | None
    details: str | None
    voided: bool = False
    outcome: str | None = None


class BadRow(NamedTuple):
    """A row that was refused, and why."""

    reason: str


def check_names(names: Collection[str], noun: str = "key") -> None:
    """Refuse unknown columns (or keys), by name: a misspelt one would be dropped silently.

    Raises:
        InvalidInputError: there is one.
    """
    unknown = sorted(set(names) - KNOWN)
    if not unknown:
        return
    missing = [name for name in REQUIRED if name not in names]
    lacks = f", and {_listed(missing)} missing" if missing else ""
    nouns, it = (noun, "it") if len(unknown) == 1 else (f"{noun}s", "them")
    raise InvalidInputError(
        f"the {nouns} {_listed([shown(name) for name in unknown[:5]])} unknown{lacks}: rename or "
        f"remove {it}; known are {', '.join(REQUIRED)} (all required), {', '.join(OPTIONAL)}, and "
        f"{', '.join(IGNORED)} (ignored)"
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def check_row(values: Mapping[str, Any], *, in_us: bool = False) -> Row:
    """A row from its values; None is a value that is not there.

    Args:
        values: what the file says, by our names.
        in_us: whether `called_at` may be a whole number, of microseconds since the epoch: a reader
            of ours may give that, while in a file nobody could tell what it counts.

    Raises:
        InvalidInputError: one of them is missing, unknown or not what it must be.
    """
    row = usual_row(values)
    if row is not None:
        return row
    if not values.keys() <= KNOWN:
        check_names(values.keys())
    outcome = values.get("outcome")
    outcome = None if outcome is None else check_outcome(outcome)
    if outcome is not None:  # what came out of a call that was given up, often nobody knows
        values = {**values, "completion_tokens": values.get("completion_tokens") or 0}
    for name in REQUIRED:
        if values.get(name) is None:
            unknown = "what is not known is no zero, and cannot be learnt from"
            advice = "name the model that was called" if name == "model" else unknown
            raise InvalidInputError(f"{name} is missing: {advice}")
    called_at, request_id = values.get("called_at"), values.get("request_id")
    voided = _voided(values.get("voided"))
    return Row(
        check_new_model(_text("model", values["model"])),
        None if called_at is None else _called_at(called_at, in_us=in_us),
        _tokens("prompt_tokens", values["prompt_tokens"]),
        _tokens("completion_tokens", values["completion_tokens"]),
        check_milliseconds(
            "actual_ms", _number("actual_ms", values["actual_ms"], "number of milliseconds")
        ),
        None if request_id is None else check_request_id(_text("request_id", request_id)),
        _details(values.get("details"), is_stored=not voided),
        voided,
        outcome,
    )


_models: dict[str, str] = {}
"""Names that were checked: a file has few, and each of its rows has one."""

MODELS_MAX = 1_000


def _model(value: str) -> str:
    """Check a model's name."""
    name = _models.get(value)
    if name is None:
        name = check_new_model(value)
        if len(_models) < MODELS_MAX:
            _models[name] = name
    return name


_USUAL = frozenset((*REQUIRED, "called_at", "request_id"))


def usual_row(values: Mapping[str, Any]) -> Row | None:
    """A row of what nearly all rows of large files hold; None for any other, good or bad.

    It takes a third of the time of the checks one by one.
    """
    if not values.keys() <= _USUAL:
        return None
    try:
        model, prompt_tokens = values["model"], values["prompt_tokens"]
        completion_tokens, actual_ms = values["completion_tokens"], values["actual_ms"]
        at, request_id = values.get("called_at"), values.get("request_id")
        if (
            type(model) is not str
            or type(prompt_tokens) is not int
            or type(completion_tokens) is not int
            or type(actual_ms) is not float
            or not 0 <= prompt_tokens < TOKENS_LIMIT
            or not 0 <= completion_tokens < TOKENS_LIMIT
            or not 0.0 <= actual_ms < inf
            or (request_id is not None and type(request_id) is not str)
            or (at is not None and type(at) is not str)
        ):
            return None
        if at is not None:
            at = (datetime.fromisoformat(at) - EPOCH) // MICROSECOND
            if not 0 <= at < TIME_LIMIT_US:
                return None
        if request_id is not None:
            request_id = check_request_id(request_id)
        name, actual_ms = _model(model), actual_ms + 0.0
    except (KeyError, TypeError, ValueError, OverflowError, InvalidInputError):
        return None
    return Row(name, at, prompt_tokens, completion_tokens, actual_ms, request_id, None)


def checked_row(
    model: str,
    called_at: int | None,
    prompt_tokens: int,
    completion_tokens: int,
    actual_ms: float,
    request_id: str | None = None,
    details: Mapping[str, Any] | None = None,
    outcome: str | None = None,
) -> Row:
    """A row of values that a reader took out of another tool's record, each of the right type.

    Args:
        model: the name that was asked for.
        called_at: microseconds since the epoch, UTC; None where the file does not say.
        prompt_tokens: the tokens that went in.
        completion_tokens: the tokens that came out.
        actual_ms: the duration in milliseconds.
        request_id: the tool's own id of the call.
        details: what else was measured; a value of None is left out.
        outcome: None, or `timeout`.

    Raises:
        InvalidInputError: one of them is not what it must be.
    """
    return Row(
        _model(model),
        None if called_at is None else _called_at(called_at, in_us=True),
        check_tokens("prompt_tokens", prompt_tokens),
        check_tokens("completion_tokens", completion_tokens),
        check_milliseconds("actual_ms", actual_ms),
        None if request_id is None else check_request_id(request_id),
        None if details is None else _details(details, is_stored=True),
        outcome=outcome,
    )


def _text(name: str, value: object) -> object:
    """The value, if it is a text: the sentence for another is one for files, not for Python."""
    if isinstance(value, str):
        return value
    raise InvalidInputError(f"{name} must be a text, not {_said(value)}: write it in quotes")


def _called_at(value: object, *, in_us: bool) -> int:
    if in_us and type(value) is int and 0 <= value < TIME_LIMIT_US:
        return value
    return parse_time("called_at", value)


def _number(name: str, value: object, kind: str) -> int | float:
    """The value, if it is a number; a boolean is none."""
    if type(value) is int or type(value) is float:
        return value
    raise InvalidInputError(f"{name} must be a {kind}, not {_said(value)}: write it in digits")


def _voided(value: object) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    raise InvalidInputError(
        f"voided must be true or false, not {_said(value)}: leave it out where a call counts"
    )


def _details(value: object, *, is_stored: bool) -> str | None:
    """Details as canonical JSON; to be stored, with room for the id that the import adds."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f'details must be an object such as {{"ttft_ms":80}}, not {_said(value)}'
        )
    details = check_details(value)
    if details is not None and is_stored:
        check_room(details)
    return details


def _tokens(name: str, value: object) -> int:
    """A token count; a whole float is one too, for many tools know no other numbers."""
    number = _number(name, value, "whole number of tokens")
    if isinstance(number, float):
        if not number.is_integer():
            raise InvalidInputError(f"{name} must be a whole number of tokens, not {number!r}")
        number = int(number)
    return check_tokens(name, number)


def _said(value: object) -> str:
    """A value as the file has it, short whatever it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return shown(value) if isinstance(value, str) else json.dumps(value)


def parse_time(name: str, value: object) -> int:
    """The microseconds since the epoch of an ISO 8601 text with its zone, or of a datetime.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, datetime):  # a file has none, but a reader may
        return check_time(name, value)
    try:
        time = datetime.fromisoformat(value)  # type: ignore[arg-type]  # others are a TypeError
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"{name} must be a time in ISO 8601 with its zone, such as 2025-01-31T12:00:00Z, "
            f"not {_said(value)}"
        ) from None
    if time.utcoffset() is None:
        raise InvalidInputError(f"{name} {without_zone(str(value), time)}")
    return check_time(name, time)


def content_key(row: Row) -> bytes:
    """What a row without an id of its own is known by. Released, it never changes.

    The duration goes in by its bits, and the details in their canonical form, so that the same
    call has the same key in every file and format.
    """
    model, called_at, prompt_tokens, completion_tokens, actual_ms, _, details, _, outcome = row
    at = "" if called_at is None else called_at
    # No part can hold a NUL, so the parts cannot be mistaken for one another.
    content = (
        f"calibration-ledger/import/1\0{model}\0{at}\0{prompt_tokens}\0{completion_tokens}\0"
        f"{actual_ms.hex()}\0{details or ''}"
    )
    if outcome is not None:
        content += f"\0{outcome}"
    return hashlib.sha256(content.encode()).digest()[:CONTENT_BYTES]


# -- the id of an import: kept with each call that it brought, to be named later ------------
# An id is a digest over the calls of a file, so one file has one id, however often it is taken in:
# an import that was cut short and is completed is one import. It lies in the `details` of each call
# that the import recorded, under the key `import_id`. That name is the ledger's own: what a file
# says under it, such as an export of another ledger, is replaced.

KEY = "import_id"
"""The key in the details of a call."""

ID_BYTES = 6
"""Bytes of SHA-256: an id has twice as many hexadecimal digits."""

_BEGINNING = f'{{"{KEY}":"'
_MEMBER = r'"[ !#-\[\]-h][^"\\]*":(?:"[^"\\]*"|[^"{\[,}]+)'
_BEFORE = re.compile(rf"\{{{_MEMBER}(?:,{_MEMBER})*")
"""Plain members whose keys begin with a character before i, and so come before ours."""

_ID = re.compile(f"[0-9a-f]{{{2 * ID_BYTES}}}")
_ALONE_LENGTH = len(_BEGINNING) + 2 * ID_BYTES + len('"}')

DETAILS_BYTES_LEFT = DETAILS_BYTES_MAX - _ALONE_LENGTH + len("{")
"""What the id leaves to details that do not hold one yet; a comma takes the place of a brace."""


_IN_DIGEST = {None: "", TIMEOUT: f"\0{TIMEOUT}\0"}


class ImportDigest:
    """Works an id out of the rows of a file, in their order. Released, it never changes.

    Whatever makes a row another call changes the id, and so does the order. A row goes in as the
    file has it: one without a time is the same whenever it is imported. So two files with one id
    hold the same calls. The same calls as JSON lines and as CSV have one id, unless one file says
    more (an export has the request ids that the file before it had not).
    """

    def __init__(self) -> None:
        """Begin without rows."""
        self._hash = hashlib.sha256(b"calibration-ledger/import-id/1\0")

    def add(self, rows: Iterable[Row]) -> None:
        """Take the next rows."""
        # No part can hold a NUL and each ends in one, so no rows can be mistaken for others.
        self._hash.update(
            "".join(
                [
                    f"{model}\0{'' if at is None else at}\0{prompt_tokens}\0{completion_tokens}\0"
                    f"{actual_ms.hex()}\0{request_id or ''}\0{details or ''}\0"
                    # Where the next model's name would stand, and none is empty.
                    f"{_IN_DIGEST[outcome]}"
                    for model, at, prompt_tokens, completion_tokens, actual_ms, request_id, details,
                        _, outcome in rows
                ]
            ).encode()
        )  # fmt: skip

    def import_id(self) -> str:
        """The id, as 12 hexadecimal digits."""
        return self._hash.digest()[:ID_BYTES].hex()


def with_import_id(details: str | None, import_id: str) -> str:
    """Canonical details with the id in its place; one that they hold already is replaced."""
    if details is None:
        return f'{_BEGINNING}{import_id}"}}'
    # The keys are sorted and in ASCII, so that mostly the place can be seen without parsing.
    if details[2] > KEY[0]:
        return f'{_BEGINNING}{import_id}",{details[1:]}'
    before = _BEFORE.match(details)
    if before is not None:
        end = before.end()
        if details[end] == "}" or details[end + 2] > KEY[0]:
            return f'{details[:end]},"{KEY}":"{import_id}"{details[end:]}'
    return canonical_json({**json.loads(details), KEY: import_id})


def check_room(details: str) -> None:
    """Refuse canonical details that would be too long with an id.

    Raises:
        InvalidInputError: they would be.
    """
    if len(details) <= DETAILS_BYTES_LEFT:
        return
    size = len(with_import_id(details, "0" * 2 * ID_BYTES))
    if size > DETAILS_BYTES_MAX:
        raise InvalidInputError(
            f"details take {size} bytes as JSON with the {KEY} that each imported call gets: keep "
            f"them to at most {DETAILS_BYTES_LEFT} without it"
        )


def import_id_of(details: str | None) -> str | None:
    """The id of the import that brought the call with these details (JSON); None for no import.

    Details that were damaged name none.
    """
    if details is None or f'"{KEY}"' not in details:
        return None
    found: object
    if len(details) == _ALONE_LENGTH and details.startswith(_BEGINNING):
        found = details[len(_BEGINNING) : -len('"}')]  # so are most, and parsing takes time
    else:
        try:
            values = json.loads(details)
        except (ValueError, RecursionError):
            return None
        found = values.get(KEY) if isinstance(values, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None
