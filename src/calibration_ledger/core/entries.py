"""Entries, and the running digest (head) over them.

head(0) = SHA-256("calibration-ledger/1" || model name), and
head(n) = SHA-256(head(n-1) || entry n). An entry is its kind byte, its fixed fields big-endian in
the order below (floats as their 64 bits), then its optional texts: a byte 0 where one is absent,
a byte 1, the length in four bytes and the text where it is there. Database ids are not in it, so
the same history has the same head in every database. Golden vectors lie in `tests/`.

The fixed fields, and after the semicolon the optional texts, are

    call        seq, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms;
                request_id, details
    time-out    the same, under a kind byte of its own
    adjustment  seq, recorded_at, alpha, ms_per_prompt_token, ms_per_completion_token,
                base_overhead_ms, total_absolute_error_ms, total_predicted_ms, sample_count,
                updated_at; rule, rule_state, note, and of `voided` entries alone voids

with integers and times in 64 bits, signed. The totals stand before the count, as in the state of a
rule (`COMMON_NUMBERS`), and `rule` is written as one of the texts, though it is always there.

One kind is no link of that chain: an `archived` entry stands for the entries up to its seq, which
were moved to a file. It carries the head after the last of them, so every later head stays as it
was. A digest of its own covers it.

What it sets cannot be worked out from that head: only the entries in the file say it. So a head
that is noted comes with the digest of the calibration behind its entry (`state_digest`), from which
the audit sees whether the archived entry sets another. And since a reset wipes out what came before
it, and other adjustments may, the note of each, which is a part of the chain, is the digest of the
calibration before it, unless it is the user's own.

The settings of the ledger, which are no model's, have a chain of their own. It begins with
SHA-256("calibration-ledger/1" || a byte 0 || "settings"): no model's begins so, for no name holds a
NUL. A setting is its kind byte, seq, recorded_at and alpha; then rule, written as above. Aliases
share their numbers and their chain: an alias is its kind byte, seq and recorded_at; then name,
model and merged, as optional texts.

Events, which tell what happened to the database, have a chain of their own, too. It begins with
SHA-256("calibration-ledger/1" || a byte 0 || "events"). An event is its kind byte, seq and
recorded_at; then all its other fields in their order as optional texts, calls in decimal digits.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGEST_SIZE = 32
CALL_KIND = 0
ADJUSTMENT_KINDS = {
    "opened": 1,
    "imported": 2,
    "reset": 3,
    "recalibrated": 4,
    "archived": 5,
    "voided": 6,
}
"""The kind byte of each adjustment."""

TIMEOUT_KIND = 7

OK, TIMEOUT = "ok", "timeout"
OUTCOMES = (None, TIMEOUT)
"""How a call ended, as it is stored: as it should, which goes without saying (`OK`), or given up
after `actual_ms`, so that it takes at least that."""

OPENINGS = frozenset({"opened", "imported", "archived"})
"""What a model's first entry may be."""

CallRow: TypeAlias = tuple[
    int, int, int, int, float, float, "str | None", "str | None", "str | None"
]
"""seq, called_at (us), prompt_tokens, completion_tokens, actual_ms, predicted_ms, outcome,
request_id, details: a call without its model, in the order of the digest."""

_TEXT = (str, type(None))
_BYTES = (bytes, type(None))
SETTING_KIND = 1
ALIAS_KIND = 2
EVENT_KINDS = {"import": 1, "upgrade": 2}
"""The kind byte of each event."""

_CALL_TYPES: tuple[Any, ...] = (int, int, int, int, float, float, _TEXT, _TEXT, _TEXT)


class Snapshot(NamedTuple):
    """A model's calibration at one moment, as the tables of calibrations and adjustments hold it.

    Attributes:
        rule: the version of the learning rule.
        alpha: its speed.
        ms_per_prompt_token: the first of the five numbers that the state of every rule begins with.
        ms_per_completion_token: the second.
        base_overhead_ms: the third.
        total_absolute_error_ms: the fourth.
        total_predicted_ms: the fifth.
        sample_count: how many calls are in it.
        rule_state: the rule's further numbers as big-endian binary64, or None.
        updated_at: when it last changed, by the caller's clock, in microseconds since the epoch.
    """

    rule: str
    alpha: float
    ms_per_prompt_token: float
    ms_per_completion_token: float
    base_overhead_ms: float
    total_absolute_error_ms: float
    total_predicted_ms: float
    sample_count: int
    rule_state: bytes | None
    updated_at: int

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        """The five numbers that the state of every rule begins with; see `COMMON_NUMBERS`."""
        return self[2:7]


SNAPSHOT_TYPES = (str, *[float] * 6, int, _BYTES, int)


class Adjustment(NamedTuple):
    """An entry that sets a calibration explicitly: `rule` to `updated_at` are its `Snapshot`.

    Times are integer microseconds since the epoch (UTC).

    Three are of `archived` entries only: `archived_head` is the head at `seq`, `archived_through`
    the model's newest entry when it was archived, `archived_digest` the digest of all the others.
    The last is of `voided` entries only: the entries that it voids (see `core.history`).
    """

    seq: int
    kind: str
    recorded_at: int
    rule: str
    alpha: float
    ms_per_prompt_token: float
    ms_per_completion_token: float
    base_overhead_ms: float
    total_absolute_error_ms: float
    total_predicted_ms: float
    sample_count: int
    rule_state: bytes | None
    updated_at: int
    note: str | None
    archived_head: bytes | None = None
    archived_through: int | None = None
    archived_digest: bytes | None = None
    voids: str | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The calibration that it sets."""
        return Snapshot(*self[3:13])  # from `rule` to `updated_at`


ADJUSTMENT_TYPES = (
    *(int, str, int),
    *SNAPSHOT_TYPES,
    *(_TEXT, _BYTES, (int, type(None)), _BYTES, _TEXT),
)


class Setting(NamedTuple):
    """An entry of the ledger's own: the rule and alpha of models that are opened from then on.

    `recorded_at` is in integer microseconds since the epoch (UTC).
    """

    seq: int
    recorded_at: int
    rule: str
    alpha: float


SETTING_TYPES = (int, int, str, float)


class AliasEntry(NamedTuple):
    """An entry of the ledger's own: from then on, a name stands for a model.

    Attributes:
        seq: its number among the settings, with which it shares the numbers.
        recorded_at: when, in microseconds since the epoch (UTC).
        name: the name.
        model: the model that it stands for; None: the name is its own again.
        merged: the entries of the model that a merge appended, as `2..80`; None for none.
    """

    seq: int
    recorded_at: int
    name: str
    model: str | None
    merged: str | None = None


ALIAS_TYPES = (int, int, str, _TEXT, _TEXT)


class Event(NamedTuple):
    """What happened to the database as a whole, and no other entry tells; see `core.events`.

    Attributes:
        seq: its number among the events, from 1 without gaps.
        recorded_at: when, in microseconds since the epoch (UTC).
        kind: `import` or `upgrade`; the next five are of imports alone, the last three of upgrades.
        import_id: the id that the calls of the import carry; None where they carry none.
        file: the file's name, without its folder.
        format: how it was read.
        calls: how many calls it set out to record.
        models: the models of these calls, sorted, as a JSON list; None for too many to list.
        from_revision: the revision that was found.
        to_revision: the revision that it was brought to.
        version: that of the program that did it.
    """

    seq: int
    recorded_at: int
    kind: str
    import_id: str | None = None
    file: str | None = None
    format: str | None = None
    calls: int | None = None
    models: str | None = None
    from_revision: str | None = None
    to_revision: str | None = None
    version: str | None = None


_COUNT = (int, type(None))
EVENT_TYPES = (int, int, str, _TEXT, _TEXT, _TEXT, _COUNT, _TEXT, _TEXT, _TEXT, _TEXT)


def is_typed(row: Sequence[object], types: Sequence[Any]) -> bool:
    """Whether each value of a row is of its column's type.

    The database checks that when a row is written. But a bit that flips later in an SQLite file can
    turn a value into one of another type.
    """
    return all(map(isinstance, row, types))


def is_call(row: CallRow) -> bool:
    """Whether each value of a call is of its column's type, and its outcome is one."""
    return is_typed(row, _CALL_TYPES) and row[6] in OUTCOMES


def are_calls(columns: Sequence[Sequence[Any]]) -> bool:
    """The same of many calls at once, column by column."""
    return {*columns[6]} <= {*OUTCOMES} and all(
        all(issubclass(one, types) for one in {*map(type, column)})
        for column, types in zip(columns, _CALL_TYPES, strict=True)
    )


_CALL = struct.Struct(">Bqqqqdd")
_ADJUSTMENT = struct.Struct(">Bqqddddddqq")
_SETTING = struct.Struct(">Bqqd")
_ALIAS = struct.Struct(">Bqq")
_EVENT = struct.Struct(">Bqq")
_SEQ = struct.Struct(">q")
_LENGTH = struct.Struct(">BI")
_NO_TEXTS = b"\0\0"


def first_head(model: str) -> bytes:
    """The head of a model before its first entry."""
    return hashlib.sha256(b"calibration-ledger/1" + model.encode()).digest()


def _optional(value: str | bytes | None) -> bytes:
    if value is None:
        return b"\0"
    data = value.encode() if isinstance(value, str) else value
    return _LENGTH.pack(1, len(data)) + data


def call_head(head: bytes, row: Sequence[Any]) -> bytes:
    """The head after a call: `row` is a `CallRow`.

    Raises:
        ValueError: its outcome is none.
    """
    seq, called_at, prompt, completion, actual, predicted, outcome, request_id, details = row
    kind = CALL_KIND
    if outcome is not None:
        if outcome != TIMEOUT:
            raise ValueError(f"no call ends as {outcome!r}")
        kind = TIMEOUT_KIND
    entry = _CALL.pack(kind, seq, called_at, prompt, completion, actual, predicted)
    if request_id is None and details is None:
        return hashlib.sha256(head + entry + _NO_TEXTS).digest()
    # As `_optional` does; here it would be called twice for each call of an import or an audit.
    given = text = b"\0"
    if request_id is not None:
        data = request_id.encode()
        given = _LENGTH.pack(1, len(data)) + data
    if details is not None:
        data = details.encode()
        text = _LENGTH.pack(1, len(data)) + data
    return hashlib.sha256(head + entry + given + text).digest()


def adjustment_head(head: bytes, entry: Adjustment) -> bytes:
    """The head after an adjustment, of every kind but `archived`."""
    return hashlib.sha256(head + _packed(entry)).digest()


def first_settings_head() -> bytes:
    """The head of a ledger's settings before the first."""
    return hashlib.sha256(b"calibration-ledger/1\0settings").digest()


def setting_head(head: bytes, entry: Setting | AliasEntry) -> bytes:
    """The head after a setting, or an alias."""
    if isinstance(entry, AliasEntry):
        texts = _optional(entry.name) + _optional(entry.model) + _optional(entry.merged)
        packed = _ALIAS.pack(ALIAS_KIND, entry.seq, entry.recorded_at)
        return hashlib.sha256(head + packed + texts).digest()
    fixed = _SETTING.pack(SETTING_KIND, entry.seq, entry.recorded_at, entry.alpha)
    return hashlib.sha256(head + fixed + _optional(entry.rule)).digest()


def first_events_head() -> bytes:
    """The head of a ledger's events before the first."""
    return hashlib.sha256(b"calibration-ledger/1\0events").digest()


def event_head(head: bytes, entry: Event) -> bytes:
    """The head after an event.

    Raises:
        KeyError: its kind is none.
    """
    fixed = _EVENT.pack(EVENT_KINDS[entry.kind], entry.seq, entry.recorded_at)
    texts = b"".join(_optional(None if one is None else str(one)) for one in entry[3:])
    return hashlib.sha256(head + fixed + texts).digest()


def archived_digest(model: str, entry: Adjustment) -> bytes:
    """The digest of an `archived` entry.

    SHA-256(head(0) || the head that it carries || entry || `archived_through`). The name is in it
    through head(0): in what is left of the history, nothing else would hold it.

    Raises:
        TypeError: a part is missing.
    """
    if entry.archived_head is None or entry.archived_through is None:
        raise TypeError("an archived entry carries a head, and the seq of the newest entry")
    heads = first_head(model) + entry.archived_head
    through = _SEQ.pack(entry.archived_through)
    return hashlib.sha256(heads + _packed(entry) + through).digest()


_STATE = struct.Struct(">ddddddqq")


def state_digest(state: Snapshot) -> str:
    """The digest of a calibration, as 64 hexadecimal digits.

    SHA-256("calibration-ledger/1 state" || alpha, the five numbers, sample_count, updated_at ||
    rule, rule_state), written as in an adjustment.
    """
    fixed = _STATE.pack(state.alpha, *state.numbers, state.sample_count, state.updated_at)
    texts = _optional(state.rule) + _optional(state.rule_state)
    return hashlib.sha256(b"calibration-ledger/1 state" + fixed + texts).hexdigest()


_ENDED = re.compile("state before: ([0-9a-f]{64})")
_ENDING = frozenset({"reset", "recalibrated", "voided"})


def ending(entry: Adjustment, state: Snapshot) -> Adjustment:
    """The entry with a note of the calibration that it ends; a user's own note stays as it is."""
    if entry.note is not None:
        return entry
    return entry._replace(note=f"state before: {state_digest(state)}")


def ended(entry: Adjustment) -> str | None:
    """The digest of the calibration that an entry says it ends; None where it says none."""
    found = _ENDED.fullmatch(entry.note or "") if entry.kind in _ENDING else None
    return None if found is None else found[1]


def _packed(entry: Adjustment) -> bytes:
    fixed = _ADJUSTMENT.pack(
        ADJUSTMENT_KINDS[entry.kind],
        entry.seq,
        entry.recorded_at,
        entry.alpha,
        entry.ms_per_prompt_token,
        entry.ms_per_completion_token,
        entry.base_overhead_ms,
        entry.total_absolute_error_ms,
        entry.total_predicted_ms,
        entry.sample_count,
        entry.updated_at,
    )
    texts = _optional(entry.rule) + _optional(entry.rule_state) + _optional(entry.note)
    # Only in these, so that the digests of all other kinds stayed as they were before this kind.
    return fixed + texts + (_optional(entry.voids) if entry.kind == "voided" else b"")


_DIGEST = re.compile("[0-9a-fA-F]{64}")  # of SHA-256


def is_head(model: object, seq: object, digest: object, state: object = "") -> bool:
    """Whether `heads()` could give this, today or before there was a `state`."""
    if not isinstance(model, str) or type(seq) is not int:
        return False
    if not isinstance(digest, str) or not isinstance(state, str):
        return False
    is_state = not state or _DIGEST.fullmatch(state) is not None
    return seq > 0 and is_state and _DIGEST.fullmatch(digest) is not None
