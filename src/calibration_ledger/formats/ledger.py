"""A whole ledger as JSON lines: every entry of every model, with the heads.

    {"ledger":"calibration-ledger/1"}
    {"event":"import","seq":1,"recorded_at":"2025-01-31T12:00:00.000000Z","file":"calls.csv", ...}
    {"events":1,"head":"<64 hexadecimal digits>"}
    {"setting":"rule","seq":1,"recorded_at":"2025-01-31T12:00:00.000000Z","rule":"ema.1", ...}
    {"setting":"alias","seq":2,"recorded_at":"2025-01-31T12:00:00.000000Z","name":"m-1", ...}
    {"head":"<64 hexadecimal digits>","settings":2}
    {"entry":"opened","model":"m","seq":1,"recorded_at":"2025-01-31T12:00:00.000000Z", ...}
    {"entry":"call","model":"m","seq":2,"called_at":"2025-01-31T12:00:00.000000Z", ...}
    {"head":"<64 hexadecimal digits>","model":"m","seq":2}
    {"end":{"models":1,"entries":2,"settings":2,"events":1}}

The imports of calls come first, then the settings of the ledger, each with their head; a ledger
without any has no such lines, and no count of them at the end. Models are sorted by name; each has
its entries by seq, then its head.
The last line shows that the file was not cut short. A model whose beginning was archived begins
with its `archived` entry, whatever its seq. The file holds no time of the export: the same ledger
gives the same bytes. Floats come back exact to the bit.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from calibration_ledger.core.aliases import alias_faults
from calibration_ledger.core.entries import (
    ADJUSTMENT_KINDS,
    DIGEST_SIZE,
    Adjustment,
    AliasEntry,
    Event,
    Setting,
    event_head,
    first_events_head,
    first_settings_head,
    setting_head,
)
from calibration_ledger.core.events import event_faults, is_of_history, names_text
from calibration_ledger.core.history import VOIDS_LENGTH_MAX, voids_ranges
from calibration_ledger.core.validation import (
    DETAILS_BYTES_MAX,
    MODEL_LENGTH_MAX,
    NOTE_LENGTH_MAX,
    check_alpha,
    check_details,
    check_milliseconds,
    check_model,
    check_outcome,
    check_request_id,
    check_text,
    check_tokens,
    iso_from_us,
)
from calibration_ledger.core.values import SETTINGS
from calibration_ledger.errors import ImportRefusedError, InvalidInputError, UnknownRuleError, shown
from calibration_ledger.formats.json_text import encode, parse_json, parse_object
from calibration_ledger.formats.row import parse_time
from calibration_ledger.rules import find_rule
from calibration_ledger.rules.base import COMMON_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.formats.base import Beginning
    from calibration_ledger.formats.source import Source


FORMAT = "calibration-ledger/1"

COUNT_MAX = 2**53
"""A sample count beyond this was not counted. Room is left to go on counting in 64 bits."""

_DIGEST = re.compile(f"[0-9a-f]{{{2 * DIGEST_SIZE}}}")
_RULE_LENGTH_MAX = 64
_CALL_REQUIRED = (
    "entry",
    "model",
    "seq",
    "called_at",
    "prompt_tokens",
    "completion_tokens",
    "actual_ms",
    "predicted_ms",
)
_CALL_OPTIONAL = ("outcome", "request_id", "details")
_ADJUSTMENT_OPTIONAL = ("rule_state", "note")
_ONLY_OF = {
    "archived": ("archived_head", "archived_through", "archived_digest"),
    "voided": ("voids",),
}
_NOT_OF_ALL = {"kind", *_ADJUSTMENT_OPTIONAL, *chain(*_ONLY_OF.values())}
_OF_ALL = [name for name in Adjustment._fields if name not in _NOT_OF_ALL]
_ADJUSTMENT_REQUIRED = ("entry", "model", *_OF_ALL)
_SETTING_REQUIRED = {
    "rule": ("setting", *Setting._fields),
    "alias": ("setting", *AliasEntry._fields),
}
_EVENT_REQUIRED = ("event", "seq", "recorded_at", "file", "format", "calls")
_EVENT_OPTIONAL = ("import_id", "models")
_OF_LEDGER = frozenset({"event", "events", "setting", "settings"})

# -- from entries to lines ------------------------------------------------------------------

HEADER = encode({"ledger": FORMAT})


def looks_like(beginning: Beginning) -> bool:
    """Whether the first line is that of a ledger's file, of any version."""
    return isinstance(beginning.first, dict) and isinstance(beginning.first.get("ledger"), str)


def call_values(model: str, row: CallRow) -> dict[str, Any]:
    """A call as JSON holds it, but for its details; what it lacks is left out."""
    seq, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms, *texts = row
    outcome, request_id, _ = texts
    values: dict[str, Any] = {
        "model": model,
        "seq": seq,
        "called_at": iso_from_us(called_at),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "actual_ms": actual_ms,
        "predicted_ms": predicted_ms,
    }
    if outcome is not None:
        values["outcome"] = outcome
    if request_id is not None:
        values["request_id"] = request_id
    return values


def call_line(model: str, row: CallRow) -> str:
    """The line of a call."""
    values = {"entry": "call", **call_values(model, row)}
    *_, details = row
    if details is not None:
        values["details"] = _details_value(details)
    return encode(values)


def _details_value(text: str) -> object:
    """The details as an object; as the text itself where that would not give the same text."""
    try:
        value = parse_object(text, "{}")
        return value if check_details(value) == text else text
    except InvalidInputError:
        return text


def adjustment_line(model: str, entry: Adjustment) -> str:
    """The line of an adjustment: every field of its kind by its name."""
    values = {"entry": entry.kind, "model": model, **entry._asdict()}
    del values["kind"]
    for kind, names in _ONLY_OF.items():
        for name in names:
            if entry.kind != kind:
                del values[name]
            elif isinstance(values[name], bytes):
                values[name] = values[name].hex()
    values["recorded_at"] = iso_from_us(entry.recorded_at)
    values["updated_at"] = iso_from_us(entry.updated_at)
    values["rule_state"] = None if entry.rule_state is None else entry.rule_state.hex()
    return encode(values)


def head_line(model: str, seq: int, head: bytes) -> str:
    """The line behind a model's entries."""
    return encode({"head": head.hex(), "model": model, "seq": seq})


def setting_line(entry: Setting | AliasEntry) -> str:
    """The line of a setting."""
    kind = "rule" if isinstance(entry, Setting) else "alias"
    values = {"setting": kind, **entry._asdict()}
    values["recorded_at"] = iso_from_us(entry.recorded_at)
    return encode(values)


def settings_head_line(seq: int, head: bytes) -> str:
    """The line behind the settings."""
    return encode({"head": head.hex(), "settings": seq})


def event_line(entry: Event) -> str:
    """The line of an import."""
    values = {"event": entry.kind, **entry._asdict()}
    del values["kind"]
    values["recorded_at"] = iso_from_us(entry.recorded_at)
    values["models"] = None if entry.models is None else parse_json(entry.models)
    return encode({name: value for name, value in values.items() if value is not None})


def events_head_line(seq: int, head: bytes) -> str:
    """The line behind the events."""
    return encode({"events": seq, "head": head.hex()})


def end_line(models: int, entries: int, settings: int = 0, events: int = 0) -> str:
    """The last line."""
    return encode({"end": end_counts(models, entries, settings, events)})


def end_counts(models: int, entries: int, settings: int, events: int) -> dict[str, int]:
    """What the last line counts."""
    counts = {"models": models, "entries": entries}
    others = {"settings": settings, "events": events}
    return {**counts, **{what: count for what, count in others.items() if count}}


# -- from lines to entries, the same to the bit ---------------------------------------------


def call_of(values: Mapping[str, Any]) -> tuple[str, CallRow]:
    """A call and its model, every value checked.

    Raises:
        InvalidInputError: one is missing, unknown or not what it must be.
    """
    check_keys(values, _CALL_REQUIRED, _CALL_OPTIONAL)
    outcome, request_id = values.get("outcome"), values.get("request_id")
    return check_model(values["model"]), (
        _whole("seq", values["seq"]),
        parse_time("called_at", values["called_at"]),
        check_tokens("prompt_tokens", values["prompt_tokens"]),
        check_tokens("completion_tokens", values["completion_tokens"]),
        check_milliseconds("actual_ms", values["actual_ms"]),
        check_milliseconds("predicted_ms", values["predicted_ms"]),
        None if outcome is None else check_outcome(outcome),
        None if request_id is None else check_request_id(request_id),
        _details_text(values.get("details")),
    )


def _details_text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return check_details(value)
    text = check_text("details", value, DETAILS_BYTES_MAX)
    if not isinstance(parse_json(text), dict):
        raise InvalidInputError(f"details must be an object, not {text!r}")
    return text


def adjustment_of(values: Mapping[str, Any]) -> tuple[str, Adjustment]:
    """An adjustment and its model, every value checked.

    Raises:
        InvalidInputError: one is missing, unknown or not what it must be.
    """
    kind = values.get("entry")
    if not isinstance(kind, str) or kind not in ADJUSTMENT_KINDS:
        raise InvalidInputError(
            f"entry must be call, {', '.join(ADJUSTMENT_KINDS)}, not {kind!r}; other lines are "
            f"a setting, a head and the end"
        )
    check_keys(values, _ADJUSTMENT_REQUIRED + _ONLY_OF.get(kind, ()), _ADJUSTMENT_OPTIONAL)
    rule = check_text("rule", values["rule"], _RULE_LENGTH_MAX)
    note = values.get("note")
    a, b, o, total_absolute, total_predicted = (
        check_milliseconds(name, values[name]) for name in COMMON_NUMBERS
    )
    seq = _whole("seq", values["seq"])
    entry = Adjustment(
        seq,
        kind,
        parse_time("recorded_at", values["recorded_at"]),
        rule,
        check_alpha(values["alpha"]),
        a,
        b,
        o,
        total_absolute,
        total_predicted,
        _whole("sample_count", values["sample_count"]),
        _rule_state(rule, values.get("rule_state")),
        parse_time("updated_at", values["updated_at"]),
        None if note is None else check_text("note", note, NOTE_LENGTH_MAX),
    )
    if kind == "archived":
        entry = entry._replace(
            archived_head=digest_of(values["archived_head"]),
            archived_through=_whole("archived_through", values["archived_through"]),
            archived_digest=digest_of(values["archived_digest"]),
        )
    elif kind == "voided":
        entry = entry._replace(voids=_voids_of(seq, values["voids"]))
    return check_model(values["model"]), entry


def setting_of(values: Mapping[str, Any]) -> Setting | AliasEntry:
    """A setting, every value checked.

    Raises:
        InvalidInputError: one is missing, unknown or not what it must be.
        NoSuchRuleError: this program does not know its rule.
    """
    kind = values["setting"]
    if not isinstance(kind, str) or kind not in _SETTING_REQUIRED:
        raise InvalidInputError(f"setting must be rule or alias, not {shown(kind)}")
    check_keys(values, _SETTING_REQUIRED[kind], ())
    if kind == "alias":
        return _alias_of(values)
    return Setting(
        _whole("seq", values["seq"]),
        parse_time("recorded_at", values["recorded_at"]),
        _version(check_text("rule", values["rule"], _RULE_LENGTH_MAX)),
        check_alpha(values["alpha"]),
    )


def _alias_of(values: Mapping[str, Any]) -> AliasEntry:
    model, text = values["model"], values["merged"]
    entry = AliasEntry(
        _whole("seq", values["seq"]),
        parse_time("recorded_at", values["recorded_at"]),
        check_text("name", values["name"], MODEL_LENGTH_MAX),
        None if model is None else check_text("model", model, MODEL_LENGTH_MAX),
        None if text is None else check_text("merged", text, VOIDS_LENGTH_MAX),
    )
    for expected, found in alias_faults(entry):
        raise InvalidInputError(f"an alias must have {expected}, not {found}")
    return entry


def event_of(values: Mapping[str, Any]) -> Event:
    """An import that was noted, every value checked.

    Raises:
        InvalidInputError: one is missing, unknown or not what it must be.
    """
    check_keys(values, _EVENT_REQUIRED, _EVENT_OPTIONAL)
    models = values.get("models")
    entry = Event(
        _whole("seq", values["seq"]),
        parse_time("recorded_at", values["recorded_at"]),
        values["event"],
        values.get("import_id"),
        values["file"],
        values["format"],
        _whole("calls", values["calls"]),
        None if models is None else names_text(models),
    )
    for expected, found in event_faults(entry):
        raise InvalidInputError(f"an event must have {expected}, not {found}")
    if not is_of_history(entry):
        raise InvalidInputError(f"an event must be an import of calls, not {shown(entry.kind)}")
    return entry


def _version(rule: str) -> str:
    if find_rule(rule).version != rule:
        raise InvalidInputError(f"rule must be a version, such as ema.1, not {rule!r}")
    return rule


def _voids_of(seq: int, value: object) -> str:
    """What the voided entry `seq` names: earlier entries, written in the one way there is."""
    text = check_text("voids", value, VOIDS_LENGTH_MAX)
    try:
        is_earlier = all(first <= last < seq for first, last in voids_ranges(text))
    except (TypeError, ValueError):  # ValueError: a number of thousands of digits
        is_earlier = False
    if not is_earlier:
        raise InvalidInputError(
            f"voids must name entries before entry {seq}, in order and joined where they touch, "
            f"such as 2..80,95, not {shown(text)}"
        )
    return text


def digest_of(value: object) -> bytes:
    """A head or another digest.

    Raises:
        InvalidInputError: it is none.
    """
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise InvalidInputError(f"a head is {2 * DIGEST_SIZE} hexadecimal digits, not {value!r}")
    return bytes.fromhex(value)


def _rule_state(rule: str, value: object) -> bytes | None:
    """The further numbers of a rule: exactly as many as it keeps."""
    size = 8 * len(find_rule(rule).extra_numbers)
    try:
        data = b"" if value is None else bytes.fromhex(value)  # type: ignore[arg-type]  # TypeError
    except (TypeError, ValueError):
        data = None
    if data is None or len(data) != size:
        raise InvalidInputError(f"rule_state is not what the rule {rule} keeps: {value!r}")
    return data or None


def _whole(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise InvalidInputError(f"{name} must be a whole number, not {value!r}")
    return value


def check_keys(
    values: Mapping[str, Any], required: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    """Refuse a line that lacks one of these keys, or has another.

    Raises:
        InvalidInputError: it does.
    """
    missing = [name for name in required if name not in values]
    unknown = sorted(values.keys() - {*required, *optional})
    if missing or unknown:
        parts = [f"{', '.join(missing)} missing"] * bool(missing)
        parts += [f"{', '.join(map(repr, unknown))} unknown"] * bool(unknown)
        raise InvalidInputError(f"this is no line of a ledger file: {' and '.join(parts)}")


# -- the whole file -------------------------------------------------------------------------


class ModelEnd(NamedTuple):
    """The line behind a model's entries."""

    seq: int
    digest: bytes


Item: TypeAlias = "Adjustment | AliasEntry | CallRow | Event | ModelEnd | Setting"


class LedgerReader:
    """Reads the lines, and refuses them where they are not in the order that they must have."""

    def __init__(self, source: Source) -> None:
        """Begin before the header."""
        self._source = source
        self._line = 0
        self._model: str | None = None
        self._newest_model = ""
        self._seq = 0
        self._models = self._entries = 0
        self._settings = 0
        self._settings_head: bytes | None = None
        self._events = 0
        self._events_head: bytes | None = None
        self._ended = False

    def items(self) -> Iterator[tuple[int, str, Item]]:
        """Each entry and head, as (line, model, item); of a setting or event, the model is empty.

        Raises:
            ImportRefusedError: the file is not what the export writes, or not all of it.
        """
        for number, text, fault in self._source.lines():
            self._line = number
            if fault is not None:
                self._refuse(fault)
            if not text.strip():
                continue
            try:
                item = self._take(parse_object(text.strip(), HEADER))
            except ImportRefusedError:
                raise
            except UnknownRuleError as error:
                self._source.refuse(number, f"{error} Nothing was recorded.")
            except InvalidInputError as error:
                self._refuse(str(error))
            if item is not None:
                yield number, *item
        if not self._ended:
            self._refuse("the file is cut short here: its last line, with the end, is missing")

    def _refuse(self, reason: str) -> NoReturn:
        self._source.refuse(
            self._line or None,
            f"{reason.rstrip('.')}. Nothing was recorded: export the ledger again.",
        )

    def _take(self, values: dict[str, Any]) -> tuple[str, Item] | None:
        if self._line == 1 or values.keys() == {"ledger"}:
            self._take_header(values)
            return None
        if self._ended:
            self._refuse("there is more behind the end")
        if "end" in values:
            self._take_end(values)
            return None
        if not values.keys().isdisjoint(_OF_LEDGER):
            own = self._take_own(values)
            return None if own is None else (SETTINGS, own)
        self._check_heads()
        if "head" in values:
            return self._take_head(values)
        taken = call_of(values) if values.get("entry") == "call" else adjustment_of(values)
        model, entry = taken
        self._follow(model, entry)
        return taken

    def _take_header(self, values: dict[str, Any]) -> None:
        if values != {"ledger": FORMAT} or self._line != 1:
            self._refuse(
                f"a ledger file begins with {HEADER}, once; rows of calls are imported as the kind "
                f"`jsonl` or `csv`"
            )

    def _take_own(self, values: dict[str, Any]) -> AliasEntry | Event | Setting | None:
        """What is no model's: an event, a setting, or the head of either."""
        if "event" in values:
            return self._take_event(event_of(values))
        if "setting" in values:
            return self._take_setting(setting_of(values))
        if "events" in values:
            self._take_events_head(values)
        else:
            self._take_settings_head(values)
        return None

    def _check_heads(self) -> None:
        """Refuse a file that goes on to its models without the heads of the rest."""
        for head, what in ((self._events_head, "events"), (self._settings_head, "settings")):
            if head is not None:
                self._refuse(f"the head of the {what} is missing")

    def _take_event(self, entry: Event) -> Event:
        """An event stands behind the one before it, and all of them before everything else."""
        if self._entries or self._settings or (self._events and self._events_head is None):
            self._refuse("an event must stand before the settings, the models and its own head")
        if entry.seq != self._events + 1:
            self._refuse(f"event {entry.seq} where event {self._events + 1} must be")
        self._events = entry.seq
        self._events_head = event_head(self._events_head or first_events_head(), entry)
        return entry

    def _take_events_head(self, values: dict[str, Any]) -> None:
        check_keys(values, ("head", "events"), ())
        digest = digest_of(values["head"])
        if values["events"] != self._events or digest != self._events_head:
            self._refuse("this is not the head of the events above")
        self._events_head = None

    def _take_setting(self, entry: Setting | AliasEntry) -> Setting | AliasEntry:
        """A setting stands behind the one before it, and all of them before the first model."""
        if self._events_head is not None:
            self._refuse("the head of the events is missing")
        if self._entries or (self._settings and self._settings_head is None):
            self._refuse("a setting must stand before the models, and before the settings' head")
        if entry.seq != self._settings + 1:
            self._refuse(f"setting {entry.seq} where setting {self._settings + 1} must be")
        self._settings = entry.seq
        self._settings_head = setting_head(self._settings_head or first_settings_head(), entry)
        return entry

    def _take_settings_head(self, values: dict[str, Any]) -> None:
        check_keys(values, ("head", "settings"), ())
        digest = digest_of(values["head"])
        if values["settings"] != self._settings or digest != self._settings_head:
            self._refuse("this is not the head of the settings above")
        self._settings_head = None

    def _follow(self, model: str, entry: Adjustment | CallRow) -> None:
        """An entry stands behind the one before it, or begins the next model.

        What an archived entry stands for was written to another file.
        """
        seq, *_ = entry
        if self._model is None:
            if self._models and model <= self._newest_model:
                self._refuse(f"the model {model!r} must come before {self._newest_model!r}, once")
            is_archived = isinstance(entry, Adjustment) and entry.kind == "archived"
            self._model, self._seq = model, max(0, seq - 1) if is_archived else 0
        if model != self._model:
            self._refuse(f"the head of the model {self._model!r} is missing")
        if seq != self._seq + 1:
            self._refuse(f"entry {seq} of {model!r} where entry {self._seq + 1} must be")
        self._seq = seq
        self._entries += 1

    def _take_head(self, values: dict[str, Any]) -> tuple[str, ModelEnd]:
        check_keys(values, ("head", "model", "seq"), ())
        if (values["model"], values["seq"]) != (self._model, self._seq):
            self._refuse(
                f"the head of entry {values['seq']!r} of {values['model']!r} stands behind entry "
                f"{self._seq} of {self._model!r}"
            )
        digest = digest_of(values["head"])
        model, self._newest_model, self._model = values["model"], values["model"], None
        self._models += 1
        return model, ModelEnd(self._seq, digest)

    def _take_end(self, values: dict[str, Any]) -> None:
        if self._model is not None:
            self._refuse(f"the head of the model {self._model!r} is missing")
        self._check_heads()
        counts = end_counts(self._models, self._entries, self._settings, self._events)
        if values != {"end": counts}:
            found = ", ".join(f"{count} {what}" for what, count in counts.items())
            self._refuse(f"the end counts {values['end']!r}, and the file has {found}")
        self._ended = True
