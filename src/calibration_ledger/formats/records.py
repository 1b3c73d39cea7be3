"""Records of a file as calls, by a map: the values where they lie, in the units of a call.

Absent is not zero: a call whose tokens, duration or model the file does not say is a `Skip`. A
value that cannot be what the map says of it is a bad row.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.validation import TIME_LIMIT_US
from calibration_ledger.errors import InvalidInputError, did_you_mean, shown
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.mapping import DETAIL, Condition, Path, records_in
from calibration_ledger.formats.row import (
    IGNORED,
    REQUIRED,
    BadRow,
    check_row,
    checked_row,
    parse_time,
    usual_row,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from calibration_ledger.formats.base import Input, Item, Placed
    from calibration_ledger.formats.mapping import Above, CallMap, Getter, Part, Source
    from calibration_ledger.formats.row import Row

    Value = Callable[[Any], Any]
    """Gives a value as a call has it; it is never asked of None."""

TEXT_LENGTH_MAX = 64
"""Characters to a text that `keep_rest` keeps: tags are short, and prompts are not."""

_PROMPTS = re.compile(
    r"prompt|completion|response|answer|message|content|text|query|question|input|output|system"
    r"|instruction|reasoning|key|secret|token$|password|authorization|url|host|user|email",
    re.IGNORECASE,
)
"""What `keep_rest` keeps no text of, however short: it may be a prompt, or a secret."""

_DECIMAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]{1,30}")
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]+)?")
"""What is certainly a number: an id of many digits, or one that begins with 0, is a text."""
_COMMA = re.compile(r"(-?[0-9]+),([0-9]+)")

# -- numbers --------------------------------------------------------------------------------

_IN_MS = {"s": 1_000.0, "ms": 1.0, "us": 0.001, "ns": 0.000_001}
_PER_MS = {"us": 1_000.0, "ns": 1_000_000.0}
"""Exact where a factor is not: 187,500 us are 187.5 ms to the bit."""

_UNIT_NAMES = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "msec": "ms", "millisecond": "ms", "milliseconds": "ms",
    "usec": "us", "µs": "us", "microsecond": "us", "microseconds": "us",
    "nsec": "ns", "nanosecond": "ns", "nanoseconds": "ns",
}  # fmt: skip


def number_of(value: Any, name: str) -> float | int | None:
    """A number, also one that a file has as a text; None for NaN, which says nothing.

    Raises:
        InvalidInputError: it is none.
    """
    if type(value) is int:
        return value
    if type(value) is float:
        return value if value == value else None  # noqa: PLR0124 - NaN alone differs from itself
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        raise InvalidInputError(f"{name} must be a number, not {shown(value)}{_hint(text)}")
    kind = {dict: "an object", list: "a list", bool: "true or false"}.get(type(value), "that")
    raise InvalidInputError(f"{name} must be a number, not {kind}")


def _hint(text: str) -> str:
    return ": write decimals with a point" if _COMMA.fullmatch(text) else ""


def milliseconds(value: Any, unit: str | None, name: str) -> float | None:
    """A duration in milliseconds; an object of `value` and `unit` says its own unit."""
    if type(value) is dict and "value" in value:
        own = value.get("unit")
        if own is not None:
            unit = _UNIT_NAMES.get(str(own).casefold(), str(own))
            if unit not in _IN_MS:
                raise InvalidInputError(f"{name} has the unit {shown(own)}, which is no time")
        value = value["value"]
        if value is None:
            return None
    number = number_of(value, name)
    if number is None or unit is None or unit == "ms":
        return number
    return number / _PER_MS[unit] if unit in _PER_MS else number * _IN_MS[unit]


def tokens(value: Any, name: str) -> int | None:
    """A count of tokens; a whole float is one, too."""
    if type(value) is int:
        return value
    if type(value) is dict and value.get("value") is not None:
        value = value["value"]
    number = number_of(value, name)
    if isinstance(number, float):
        if not number.is_integer():
            raise InvalidInputError(f"{name} must be a whole number of tokens, not {number!r}")
        return int(number)
    return number


# -- times ----------------------------------------------------------------------------------

_EPOCHS = (("s", 10**8, 10**11), ("ms", 10**11, 10**14), ("us", 10**14, 10**17),
           ("ns", 10**17, 10**20))  # fmt: skip
"""Between which numbers a time since the epoch lies, from 1973 to the year 5138, by its unit."""

_IN_US = {"s": 1_000_000, "ms": 1_000}


class Times:
    """Reads the times of a file; the unit of a bare number is told by its size, once."""

    def __init__(self) -> None:
        """Begin without a guess."""
        self.guesses: dict[str, str] = {}

    def microseconds(self, value: Any, part: Part) -> int | None:
        """A time in microseconds since the epoch.

        Raises:
            InvalidInputError: it is none, or nobody can tell what it counts.
        """
        if isinstance(value, str) and not _DECIMAL.fullmatch(value.strip()):
            return self._of_text(value, part)
        number = number_of(value, "called_at")
        if number is None:
            return None
        unit = part.unit or self._unit(number, str(part.path))
        time = number // 1_000 if unit == "ns" else number * _IN_US.get(unit, 1)
        if not 0 <= time < TIME_LIMIT_US:
            raise InvalidInputError(
                f"called_at is {shown(number)}, which is no time between 1970 and 9999 in {unit}"
            )
        return round(time)

    def _of_text(self, value: str, part: Part) -> int:
        text = value.strip()
        if "utc" in part.flags:
            try:
                time = datetime.fromisoformat(text)
            except ValueError:
                time = None
            if time is not None and time.tzinfo is None:
                return parse_time("called_at", time.replace(tzinfo=UTC))
        try:
            return parse_time("called_at", text)
        except InvalidInputError as error:
            if "time zone" not in str(error):
                raise
            path = f"{part.path}:end" if "end" in part.flags else part.path
            raise InvalidInputError(
                f"{error}; if all times of the file are UTC, say so: called_at={path}:utc"
            ) from None

    def _unit(self, number: float, path: str) -> str:
        unit = next((name for name, low, high in _EPOCHS if low <= number < high), None)
        known = self.guesses.setdefault(path, unit) if unit is not None else None
        if unit is None or unit != known:
            raise InvalidInputError(
                f"called_at is {number!r}, and nobody can tell what that counts"
                f"{f' where the times before it are {known}' if known else ''}: name its unit, "
                f"such as called_at={path}:s or :ms since 1970"
            )
        return unit


# -- columns --------------------------------------------------------------------------------


def _text_of(value: Any, name: str) -> str | None:
    if isinstance(value, str):
        return value or None
    if type(value) is int:
        return str(value)
    raise InvalidInputError(f"{name} must be a text, not {shown(value)}")


_KINDS = re.compile(
    r"(?:chat|messages?|completions?|responses|text|embeddings?|realtime|generation|assistant):"
)


def name_in(value: str) -> str | None:
    """The model's name in the id of a provider, such as `openai:chat:NAME`; None where none is.

    What has `://` is the address of a server, and no name.
    """
    if "://" in value:
        return None
    provider, colon, rest = value.partition(":")
    found = _KINDS.match(rest)
    return (rest[found.end() :] if found else rest) if colon and provider else value


def scalar(value: Any) -> Any:
    """What a file of texts says as the number, or as the boolean, that it is."""
    if not isinstance(value, str):
        return value
    if value.casefold() in ("true", "false"):
        return value.casefold() == "true"
    if _PLAIN_NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    return value


def _joined(source: Source, read: Callable[[Part], Value]) -> Getter:
    """What finds the first alternative that is there, and adds up its parts."""
    sums = [[(part.path.getter(), read(part)) for part in parts] for parts in source]
    if len(sums) == 1 and len(sums[0]) == 1:
        getter, value = sums[0][0]

        def one(record: dict[str, Any], above: Above) -> Any:
            found = getter(record, above)
            return None if found is None else value(found)

        return one

    def joined(record: dict[str, Any], above: Above) -> Any:
        for (getter, value), *others in sums:
            found = getter(record, above)
            total = None if found is None else value(found)
            if total is None:
                continue
            for other, of_other in others:
                found = other(record, above)
                more = None if found is None else of_other(found)
                if more is not None:
                    total += more
            return total
        return None

    return joined


_NAME_IT = "give its name with --model NAME (model=), or its path in a map"


_AS_THEY_ARE = ("details", "voided", "outcome")


def _nothing(_: dict[str, Any], __: Above) -> None:
    return None


class Reader:
    """Reads the records of one file by a map.

    Attributes:
        count: how many records there were.
        left_out: how many of them a condition left out.
    """

    def __init__(self, call_map: CallMap, file: Input, *, are_texts: bool = False) -> None:
        """Begin; `are_texts` says whether the file knows no numbers, but texts alone."""
        self.count = self.left_out = 0
        self._map = call_map
        self._file = file
        self._times = Times()
        self._are_texts = are_texts
        self._where = [one.check() for one in call_map.where]
        self._skips = [
            (Skip(reason), one.check())
            for reason, one in call_map.skips
            if isinstance(one, Condition)
        ]
        get = {name: self._getter(name, source) for name, source in call_map.columns.items()}
        self._model: Getter = get.pop("model", _nothing)
        self._prompt: Getter = get.pop("prompt_tokens", _nothing)
        self._completion: Getter = get.pop("completion_tokens", _nothing)
        self._actual_ms: Getter = get.pop("actual_ms", _nothing)
        self._called_at: Getter = get.pop("called_at", _nothing)
        self._request_id: Getter = get.pop("request_id", _nothing)
        self._own = {name: get.pop(name) for name in _AS_THEY_ARE if name in get}
        self._details = [(name.removeprefix(DETAIL), one) for name, one in get.items()]
        # What lies in another tool's file is not the user's choice: no text of it is taken along.
        self._is_tools = call_map.name is not None
        self._named = _members(call_map)
        self._quick = _quick(call_map)
        self._unseen = _wanted(call_map) if call_map.is_strict else {}
        self._first: tuple[dict[str, Any], Above] | None = None
        self._usable = self._nameless = 0

    def _getter(self, column: str, source: Source) -> Getter:
        has_unit = any(part.unit for parts in source for part in parts)
        readers: dict[str, Callable[[Part], Value]] = {
            "model": _model,
            "prompt_tokens": lambda _: lambda value: tokens(value, column),
            "completion_tokens": lambda _: lambda value: tokens(value, column),
            "actual_ms": lambda part: _duration(part, column),
            "called_at": self._time,
            "request_id": lambda _: lambda value: _text_of(value, column),
        }
        of_detail = readers["actual_ms"] if has_unit else lambda _: self._detail
        return _joined(source, readers.get(column, of_detail))

    def _time(self, part: Part) -> Value:
        is_end = "end" in part.flags

        def read(value: Any) -> tuple[int, bool] | None:
            time = self._times.microseconds(value, part)
            return None if time is None else (time, is_end)

        return read

    def _detail(self, value: Any) -> Any:
        if type(value) is dict and value.keys() == {"value", "unit"}:
            unit = _UNIT_NAMES.get(str(value["unit"]), value["unit"])
            return milliseconds(value, None, "details") if unit in _IN_MS else value["value"]
        return scalar(value) if self._are_texts else value

    def item(self, record: Any, above: Above = ()) -> Item | None:
        """What a record is; None for one that a condition leaves out."""
        self.count += 1
        if type(record) is not dict:
            kind = "a list" if isinstance(record, list) else "a bare value"
            return BadRow(f"{kind} where an object was expected")
        if self._unseen:
            self.look(record, above)
        if not all(holds(record, above) for holds in self._where):
            self.left_out += 1
            return None
        for skip, holds in self._skips:
            if holds(record, above):
                return skip
        if self._quick is not None:
            row = self._quick(record, above)
            if row is not None:
                self._usable += 1
                return row
        try:
            return self._call(record, above)
        except InvalidInputError as error:
            reason = str(error)
        except OverflowError:
            reason = "a number is too large for a duration or a time"
        return BadRow(reason)

    def _call(self, record: dict[str, Any], above: Above) -> Item:
        own = {name: get(record, above) for name, get in self._own.items()}
        prompt_tokens = self._known(self._prompt(record, above))
        completion_tokens = self._completion(record, above)
        # What came out of a call that was given up, often nobody knows.
        if prompt_tokens is None or (completion_tokens is None and not own.get("outcome")):
            return Skip("unknown tokens")
        actual_ms = self._known(self._actual_ms(record, above))
        if actual_ms is None:
            return Skip("unknown duration")
        self._usable += 1
        model = self._model(record, above) or self._file.model
        if model is None:
            self._nameless += 1
            return Skip("unknown model")
        called_at = self._called_at(record, above)
        if called_at is not None:
            time, is_end = called_at
            called_at = time - round(actual_ms * 1_000) if is_end else time
        request_id = self._request_id(record, above)
        details = self._details_of(record, above, own)
        if own:
            values = {
                **own,
                "model": model,
                "called_at": called_at,
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "actual_ms": actual_ms,
                "request_id": request_id,
                "details": details,
            }
            return check_row(values, in_us=True)
        return checked_row(
            model, called_at, prompt_tokens, completion_tokens, actual_ms, request_id, details
        )

    def _known(self, number: Any) -> Any:
        """A prompt or a duration. Tools write 0 where they know neither: no call has that."""
        return None if self._is_tools and number == 0 else number

    def _details_of(
        self, record: dict[str, Any], above: Above, own: dict[str, Any]
    ) -> dict[str, Any] | None:
        details = dict(self._map.fixed)
        given = own.get("details")
        if isinstance(given, dict):
            details |= given
        for name, get in self._details:
            value = get(record, above)
            if value is not None and (not self._is_tools or _may_be(name, value)):
                details[name] = value
        if self._map.keep_rest:
            for name, value in record.items():
                if name not in self._named and name not in details:
                    kept = scalar(value) if self._are_texts else value
                    if _is_kept(name, kept):
                        details[name] = kept
        return details or None

    def look(self, record: dict[str, Any], above: Above) -> None:
        """Note which paths a record has."""
        self._first = self._first or (record, above)
        for column, paths in list(self._unseen.items()):
            if any(path.is_in(record, above) for path in paths):
                del self._unseen[column]

    def finish(self) -> None:
        """Say how the file was read.

        Raises:
            ImportRefusedError: it cannot have been meant so: no record has what the map names.
        """
        if self._unseen and self._first is not None:
            column, paths = next(iter(self._unseen.items()))
            known = list(_paths(*self._first))
            nearest = did_you_mean(str(paths[-1]), known)
            self._file.refuse(
                None,
                f"no record has {' or '.join(map(str, paths))}, which the map names for {column}: "
                f"{nearest}records have {', '.join(known[:12])}"
                f"{' ...' if len(known) > 12 else ''}",  # noqa: PLR2004 - a line of them
            )
        if self._map.name is None and self._usable and self._usable == self._nameless:
            self._file.refuse(None, f"no record says its model: {_NAME_IT}.")
        self.tell()

    def tell(self) -> None:
        """Say what was told by the size of numbers, and how many records a condition left out."""
        for path, unit in self._times.guesses.items():
            self._file.say(f"called_at from {path}, in {unit} since 1970 by its size")
        if self.left_out:
            self._file.say(f"{self.left_out} of {self.count} records left out by a condition")


def _may_be(name: str, value: Any) -> bool:
    """Whether a value may be this detail of a recipe's: a number, a boolean, or a model's name."""
    return isinstance(value, str if name == "answered_model" else int | float)


def _is_kept(name: str, value: Any) -> bool:
    """Whether `keep_rest` keeps a value: numbers, booleans, and texts that can be no prompt."""
    if isinstance(value, str):
        is_short = 0 < len(value) <= TEXT_LENGTH_MAX and "\n" not in value
        return is_short and _PROMPTS.search(name) is None
    return isinstance(value, int | float) and math.isfinite(value)


def _model(part: Part) -> Value:
    if "name" in part.flags:
        return lambda value: name_in(_model_name(value) or "") or None
    return _model_name


def _model_name(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    raise InvalidInputError(f"model must be a text, not {shown(value)}")


def _duration(part: Part, column: str) -> Value:
    unit = part.unit
    return lambda value: milliseconds(value, unit, column)


_QUICK = frozenset((*REQUIRED, "called_at", "request_id"))
_COUNT = re.compile(r"[0-9]{1,10}")
_WHOLE_MAX = 2**53
"""Whole numbers below it are floats to the bit."""


def _quick(call_map: CallMap) -> Callable[[dict[str, Any], Above], Row | None] | None:
    """What reads the usual record of a plain map in half the time; it gives None for any other.

    Plain is a map of a path for each column, without details: the values need no look, but for the
    unit of the duration.
    """
    columns = call_map.columns
    is_plain = columns.keys() <= _QUICK and not (call_map.fixed or call_map.keep_rest)
    if not is_plain or any(len(one) > 1 or len(one[0]) > 1 for one in columns.values()):
        return None
    parts = {column: source[0][0] for column, source in columns.items()}
    if not parts.keys() >= set(REQUIRED) or any(
        part.flags for column, part in parts.items() if column != "actual_ms"
    ):
        return None
    getters = [(column, part.path.getter()) for column, part in parts.items()]
    unit = parts["actual_ms"].unit or "ms"
    factor, divisor = _IN_MS[unit], _PER_MS.get(unit)

    def read(record: dict[str, Any], above: Above) -> Row | None:
        values = {column: get(record, above) for column, get in getters}
        ms = values["actual_ms"]
        if type(ms) is str:  # a row of texts
            for column in REQUIRED[1:3]:
                if type(values[column]) is str and _COUNT.fullmatch(values[column]):
                    values[column] = int(values[column])
            if _PLAIN_NUMBER.fullmatch(ms):
                ms = float(ms)
        if type(ms) is not float and not (type(ms) is int and -_WHOLE_MAX < ms < _WHOLE_MAX):
            return None
        values["actual_ms"] = ms * factor if divisor is None else ms / divisor
        try:
            return usual_row(values)
        except InvalidInputError:
            return None

    return read


def _parts(call_map: CallMap) -> Iterator[Part]:
    for source in call_map.columns.values():
        for parts in source:
            yield from parts


def _members(call_map: CallMap) -> frozenset[str]:
    """The members of a record that the map reads."""
    paths = [part.path for part in _parts(call_map) if not part.path.ups]
    return frozenset(IGNORED).union(
        *((path.steps[0].key, ".".join(step.key for step in path.steps)) for path in paths)
    )


def _wanted(call_map: CallMap) -> dict[str, list[Path]]:
    """The paths of which some record must have one, by what they are named for."""
    wanted = {
        column: [part.path for parts in source for part in parts]
        for column, source in call_map.columns.items()
    }
    for one in call_map.where:
        if None not in one.values and not one.is_not:
            wanted[f"the condition {one.text}"] = [p.path for parts in one.source for p in parts]
    return wanted


def _paths(record: dict[str, Any], above: Above = (), before: str = "") -> Iterator[str]:
    """What a record has, as paths."""
    for key, value in record.items():
        if isinstance(value, dict) and before.count(".") < 3:  # noqa: PLR2004 - deep enough
            yield from _paths(value, before=f"{before}{key}.")
        else:
            yield f"{before}{key}"
    for around in above[:1]:
        yield from (f"^.{key}" for key in around)


# -- documents ------------------------------------------------------------------------------


def calls_of(
    call_map: CallMap,
    file: Input,
    documents: Iterable[tuple[int, Any]],
    names: Iterable[str] | None = None,
) -> Iterator[Placed]:
    """The calls of JSON documents, or of rows of texts; a `BadRow` among them is passed on.

    Args:
        call_map: the map.
        file: what is read.
        documents: each with its place.
        names: those of the columns of rows of texts; None for JSON.

    Raises:
        ImportRefusedError: the map cannot be meant for this file.
    """
    missing = [name for name in REQUIRED if name not in call_map.columns]
    # Of another tool's file, calls without a model are left out and counted, as of any tool.
    if missing == ["model"] and file.model is None and call_map.name is None:
        file.refuse(None, f"the map names no model: {_NAME_IT}.")
    if missing not in ([], ["model"]):
        file.refuse(None, f"the map names no {' and no '.join(missing)}: a call needs all of them.")
    reader = Reader(call_map, file, are_texts=names is not None)
    if names is not None:
        reader.look(dict.fromkeys(names, ""), ())
    if call_map.records is None:
        for place, record in documents:
            item = record if type(record) is BadRow else reader.item(record)
            if item is not None:
                yield place, item
    else:
        yield from _inner_calls(call_map.records, call_map, file, documents, reader)
    reader.finish()


def _inner_calls(
    records: Path,
    call_map: CallMap,
    file: Input,
    documents: Iterable[tuple[int, Any]],
    reader: Reader,
) -> Iterator[Placed]:
    """The calls that lie within documents."""
    others = [(path, Skip(reason)) for reason, path in call_map.skips if isinstance(path, Path)]
    top: Any = None
    is_there = is_empty = True
    for place, document in documents:
        if type(document) is BadRow:
            yield place, document
            continue
        if is_empty or not is_there:
            top, is_empty = document, False
            is_there = isinstance(document, dict) and records.is_in(document, ())
        for record, above in records_in(document, records):
            item = reader.item(record, above)
            if item is not None:
                yield place, item
        for path, skip in others:
            yield from ((place, skip) for _ in records_in(document, path))
    if not is_there:
        keys = f" At its top are {', '.join(list(top)[:12])}." if isinstance(top, dict) else ""
        file.refuse(None, f"there is nothing at {records} in it.{keys}")
