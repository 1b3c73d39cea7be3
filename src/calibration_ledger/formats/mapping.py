"""Maps: which names of a file are which columns of a call, as `--map` and recipes say it.

An item of a map is `COLUMN=SOURCE`, such as `actual_ms=usage.took:s`:

- COLUMN is a column of a call, or `details.NAME`;
- SOURCE names members of a record: `usage.input` one within another, `^.x` one of the object
  around the record (`^.^.x` further out), `a|b` the first that is there, `a+b` the sum. The first
  part of a sum must be there; one behind it that is not there adds nothing, such as the tokens
  that a cache gave;
- `calls[].x` makes a record of every element of `calls`. What is outside is named as it lies in
  the document;
- a key with dots is found by its dots: before `a` is asked for its `b`, the key `a.b` is. Any
  other sign of this language in a key stands in quotes: `"took:s".x`;
- behind a colon stands how a value is read. Durations have `s`, `ms`, `us` or `ns`; without one
  they are milliseconds. Times have the same since the epoch, `utc` for texts without a zone, and
  `end` if it is the time at which the call ended. A model has `name`: the last part of an id such
  as `openai:chat:NAME`. A unit counts for the paths before it, too, if they have none.

An object of `value` and `unit` is a measurement, and is read by its own unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.errors import InvalidInputError, did_you_mean, shown
from calibration_ledger.formats.row import OPTIONAL, REQUIRED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from calibration_ledger.core.answers import Reason

    Above = tuple[dict[str, Any], ...]
    """The objects around a record, the nearest first."""

    Literal = str | float | bool | None
    """What a condition compares with."""

    Getter = Callable[[dict[str, Any], Above], Any]
    """Gives what a record has at a path; None where there is nothing."""

COLUMNS = REQUIRED + OPTIONAL
UNITS = ("s", "ms", "us", "ns")

DETAIL = "details."
"""Before the name of what goes into the details of a call."""

_FLAGS = {
    "actual_ms": UNITS,
    "called_at": (*UNITS, "end", "utc"),
    "model": ("name",),
    DETAIL: UNITS,
}
"""What may stand behind the colon, by column."""

_TEXTS = ("model", "called_at", "request_id", "details", "voided", "outcome")

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\^|\[\]|[.|+:]|[^"^\[\].|+:]+')


# -- paths ----------------------------------------------------------------------------------


class Step(NamedTuple):
    """A step of a path: to the member `key`, and `lists` times to every element of a list."""

    key: str
    lists: int = 0
    is_quoted: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """Where a value lies in a record.

    Attributes:
        ups: how many objects further out the steps begin.
        steps: from there on.
    """

    ups: int
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """The path as it is written."""
        keys = [(f'"{s.key}"' if s.is_quoted else s.key) + "[]" * s.lists for s in self.steps]
        return "^." * self.ups + ".".join(keys)

    def getter(self) -> Getter:
        """What finds it; a path of one key is the most frequent, and must be fast."""
        ups, steps = self.ups, self.steps
        first = steps[0].key
        if ups:

            def find_above(_: dict[str, Any], above: Above) -> Any:
                return find(above[ups - 1], steps) if ups <= len(above) else None

            return find_above
        if len(steps) == 1:
            return lambda record, _: record.get(first)
        if len(steps) == 2 and not steps[0].is_quoted and not steps[1].is_quoted:  # noqa: PLR2004 - most
            second = steps[1].key
            whole = f"{first}.{second}"

            def find_second(record: dict[str, Any], _: Above) -> Any:
                inner = record.get(first)
                if type(inner) is dict and whole not in record:
                    return inner.get(second)
                return record.get(whole)

            return find_second
        return lambda record, _: find(record, steps)

    def is_in(self, record: dict[str, Any], above: Above) -> bool:
        """Whether a record has it, also without a value (null)."""
        if self.ups:
            return self.ups <= len(above) and _has(above[self.ups - 1], self.steps)
        return _has(record, self.steps)

    def values(self, record: dict[str, Any]) -> Iterator[Any]:
        """All that lies there, also behind the elements of a list; None where nothing does."""
        yield from _values(record, self.steps)


def _values(value: Any, steps: Sequence[Step]) -> Iterator[Any]:
    if isinstance(value, list):
        for element in value:
            yield from _values(element, steps)
    elif not steps:
        yield value
    elif isinstance(value, dict):
        inside = [(count, key) for count, key in _keys(steps) if key in value]
        for count, key in inside[:1]:
            yield from _values(value[key], steps[count:])
        if not inside:
            yield None


def find(value: Any, steps: Sequence[Step]) -> Any:
    """What lies behind the steps, the key with most dots first; None where there is nothing."""
    if not isinstance(value, dict):
        return None
    for count, key in _keys(steps):
        found = value.get(key)
        if found is not None and count < len(steps):
            found = find(found, steps[count:])
        if found is not None:
            return found
    return None


def _has(value: Any, steps: Sequence[Step]) -> bool:
    if isinstance(value, list):  # every element of a list, where formats are recognised
        return any(_has(element, steps) for element in value)
    if not isinstance(value, dict):
        return False
    return any(
        key in value and (count == len(steps) or _has(value[key], steps[count:]))
        for count, key in _keys(steps)
    )


def _keys(steps: Sequence[Step]) -> Iterator[tuple[int, str]]:
    """The keys that the first steps may be, and how many steps each takes; the longest first."""
    joined = 1
    while joined < len(steps) and not (steps[joined - 1].is_quoted or steps[joined - 1].lists):
        joined += 1
    for count in range(joined, 0, -1):
        if count == 1 or not any(step.is_quoted for step in steps[:count]):
            yield count, ".".join(step.key for step in steps[:count])


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


LENGTH_MAX = 1_000
"""Characters to a source: recipes are passed on, and one of megabytes would take for ever."""


def _tokens(text: str, item: str) -> list[str]:
    if len(text) > LENGTH_MAX:
        raise InvalidInputError(f"{shown(item)} is longer than {LENGTH_MAX} characters")
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise InvalidInputError(
                f"in {shown(item)}, {shown(text[at:])} is no path: write keys that hold other "
                f'signs in quotes, such as "a[0]".x'
            )
        tokens.append(found[0])
        at = found.end()
    return tokens


def parse_path(text: str) -> Path:
    """A path, such as `benchmarks[].requests.successful[]`.

    Raises:
        InvalidInputError: it is none.
    """
    tokens = _tokens(text.strip(), text)
    path = _take_path(tokens, text)
    if tokens:
        raise InvalidInputError(f"in {shown(text)}, {shown(tokens[0])} is no part of a path")
    return path


def _take_path(tokens: list[str], item: str) -> Path:
    """Take the tokens of a path off the front."""
    ups = 0
    steps: list[Step] = []
    while tokens[:2] == ["^", "."]:
        del tokens[:2]
        ups += 1
    while tokens and tokens[0] not in "|+:^.[]":
        token = tokens.pop(0)
        is_quoted = token.startswith('"')
        lists = 0
        while tokens and tokens[0] == "[]":
            del tokens[0]
            lists += 1
        steps.append(Step(_unquoted(token) if is_quoted else token.strip(), lists, is_quoted))
        if not tokens or tokens[0] != ".":
            return Path(ups, tuple(steps))
        del tokens[0]
    raise InvalidInputError(
        f"in {shown(item)}, a key is missing: write a path such as usage.input_tokens, or ^.model"
    )


# -- sources --------------------------------------------------------------------------------


class Part(NamedTuple):
    """A path, and how its value is read: the words behind its colons."""

    path: Path
    flags: frozenset[str]

    @property
    def unit(self) -> str | None:
        """Its unit, if it has one."""
        return next((unit for unit in UNITS if unit in self.flags), None)


Source = tuple[tuple[Part, ...], ...]
"""The sums of which the first counts that is there; mostly one path."""


def parse_source(text: str, column: str = "", item: str = "") -> Source:
    """What stands behind `COLUMN=`.

    Raises:
        InvalidInputError: it is no source, or the column knows no such unit.
    """
    item = item or text
    tokens = _tokens(text.strip(), item)
    sums: list[list[Part]] = [[]]
    while True:
        path = _take_path(tokens, item)
        flags: set[str] = set()
        while tokens and tokens[0] == ":":
            flag = tokens[1].strip() if len(tokens) > 1 else ""
            del tokens[:2]
            _check_flag(flag, flags, column, item)
            flags.add(flag)
        sums[-1].append(Part(path, frozenset(flags)))
        if not tokens:
            return _with_units(sums)
        sign = tokens.pop(0)
        if sign == "+" and column in _TEXTS:
            raise InvalidInputError(f"in {shown(item)}, {column} is no number, and has no sum")
        if sign not in ("|", "+"):
            raise InvalidInputError(
                f"in {shown(item)}, {shown(sign)} is not understood: paths are joined by | or +"
            )
        if sign == "|":
            sums.append([])


def _check_flag(flag: str, flags: set[str], column: str, item: str) -> None:
    kind = DETAIL if column.startswith(DETAIL) else column
    known = _FLAGS.get(kind, ())
    if flag not in known:
        knows = (
            f"{column} knows {', '.join(f':{one}' for one in known)}"
            if known
            else (f"{column or 'a condition'} has no unit")
        )
        raise InvalidInputError(
            f"in {shown(item)}, {shown(':' + flag)} is no unit: {knows}; write a key that holds "
            f"a colon in quotes. {did_you_mean(flag, known) if flag else ''}".rstrip()
        )
    if flag in UNITS and flags & set(UNITS):
        raise InvalidInputError(f"in {shown(item)}, there are two units: name one")


def _with_units(sums: list[list[Part]]) -> Source:
    """A unit, and `utc`, count for the paths before it as well, unless they say one."""
    flags: frozenset[str] = frozenset()
    found: list[tuple[Part, ...]] = []
    for parts in reversed(sums):
        done: list[Part] = []
        for part in reversed(parts):
            if part.flags:
                flags = part.flags - {"end"}
                done.append(part)
            else:
                done.append(Part(part.path, flags))
        found.append(tuple(reversed(done)))
    return tuple(reversed(found))


def value_getter(source: Source) -> Getter:
    """What finds the first path of a source that has a value, as it is; for conditions."""
    getters = [part.path.getter() for parts in source for part in parts]
    if len(getters) == 1:
        return getters[0]

    def first(record: dict[str, Any], above: Above) -> Any:
        for getter in getters:
            found = getter(record, above)
            if found is not None:
                return found
        return None

    return first


# -- conditions -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """What a record must say: `ok=true`, `status!=error`, `status=200|201`.

    Attributes:
        text: as it was written.
        source: where the value lies.
        values: what it may be: texts, numbers, True, False or None.
        is_not: whether it must be none of them.
    """

    text: str
    source: Source
    values: tuple[Literal, ...]
    is_not: bool

    def check(self) -> Callable[[dict[str, Any], Above], bool]:
        """What says whether it holds for a record."""
        getter = value_getter(self.source)
        if len(self.values) > 1:
            return lambda record, above: self.holds(getter(record, above))
        value, is_not = self.values[0], self.is_not
        return lambda record, above: is_equal(getter(record, above), value) is not is_not

    def holds(self, found: Any) -> bool:
        """Whether it holds for a value."""
        return any(is_equal(found, value) for value in self.values) is not self.is_not


def is_equal(found: Any, value: Literal) -> bool:
    """Whether what a file says is a value; a file of texts says true, and 1, as texts."""
    if value is None:
        return found is None
    if isinstance(found, str) and not isinstance(value, str):
        if isinstance(value, bool):
            return found.casefold() == ("true" if value else "false")
        try:
            return float(found) == value
        except ValueError:
            return False
    if value == "":
        return found is None or found == ""
    return type(found) is not bool and found == value if type(value) is not bool else found is value


_LITERALS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def parse_condition(text: str) -> Condition:
    """A condition of `--where`.

    Raises:
        InvalidInputError: it is none.
    """
    left, sign, right = _halves(text)
    is_not = left.endswith("!")
    if not sign or not left.removesuffix("!").strip():
        raise InvalidInputError(
            f"{shown(text)} is no condition: write PATH=VALUE, such as ok=true or status=200"
        )
    source = parse_source(left.removesuffix("!"), item=text)
    values = tuple(map(_literal, re.findall(_VALUE, right)))
    return Condition(text, source, values, is_not)


_VALUE = r'(?:^|(?<=\|))(?:"(?:[^"\\]|\\.)*"|[^|]*)'
"""One of the values that `|` joins."""


def _literal(text: str) -> Literal:
    text = text.strip()
    if text in _LITERALS:
        return _LITERALS[text]
    if _NUMBER.fullmatch(text):
        return float(text)
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        return _unquoted(text)
    return text


def _halves(text: str) -> tuple[str, str, str]:
    """What stands before and behind the first `=` that is in no quotes."""
    found = re.match(r'((?:"(?:[^"\\]|\\.)*"|[^"=])*)(=)(.*)', text, re.DOTALL)
    return (found[1], found[2], found[3]) if found else (text, "", "")


# -- maps -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallMap:
    """What a file calls the columns of a call.

    Attributes:
        columns: the source of each column that the file has, `details.NAME` among them.
        records: where the records lie in a document; empty if each document is one.
        where: what a record must say; others are left out.
        skips: the records that are calls and not learnt from, by reason: those that meet a
            condition, or all behind a path.
        fixed: details that each call has.
        keep_rest: whether members of a record that the map does not name go into the details.
        is_strict: whether the JSON must be clean, and a path that no record has is an error.
        name: the name of a recipe; None for a map of the user's.
    """

    columns: Mapping[str, Source]
    records: Path | None = None
    where: tuple[Condition, ...] = ()
    skips: tuple[tuple[Reason, Condition | Path], ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    keep_rest: bool = False
    is_strict: bool = True
    name: str | None = None


def parse_map(
    items: Iterable[str] | Mapping[str, str],
    where: Iterable[str] = (),
    *,
    records: str | None = None,
    within: CallMap | None = None,
) -> CallMap:
    """A map from its items, as the user writes them.

    Args:
        items: `COLUMN=SOURCE`, or sources by column.
        where: conditions.
        records: where the records lie; None: where the paths with `[]` say.
        within: a map that this one adds to, and changes.

    Raises:
        InvalidInputError: a column or a unit is unknown, or an item is none.
    """
    columns: dict[str, Source] = {}
    for column, source, item in _items(items):
        if column in columns:
            raise InvalidInputError(f"the map names {column} twice: join paths by | or +")
        columns[column] = parse_source(source, column, item)
    if not columns and within is None:
        raise InvalidInputError(
            "the map is empty: name columns, such as model=req.model actual_ms=took_s:s"
        )
    conditions = tuple(parse_condition(text) for text in where)
    found = CallMap(columns, where=conditions)
    if within is not None:
        return replace(
            within,
            columns={**within.columns, **columns},
            where=(*within.where, *conditions),
        )
    if records is not None:
        return replace(found, records=parse_path(records))
    return _with_records(found)


def _items(items: Iterable[str] | Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    if isinstance(items, str):
        items = [items]
    if not isinstance(items, Iterable):
        raise InvalidInputError(
            f"a map is items such as 'model=req.model', or sources by column, not {shown(items)}"
        )
    if hasattr(items, "items"):
        pairs = [(str(column), str(source)) for column, source in items.items()]
    else:
        pairs = []
        for item in items:
            column, sign, source = str(item).partition("=")
            if not sign or not source.strip():
                raise InvalidInputError(
                    f"{shown(item)} is no item of a map: write COLUMN=PATH, such as "
                    f"prompt_tokens=usage.input_tokens"
                )
            pairs.append((column, source))
    for name, source in pairs:
        column = name.strip()
        if column not in COLUMNS and not (column.startswith(DETAIL) and column != DETAIL):
            raise InvalidInputError(
                f"a call has no column {shown(column)}: "
                f"{did_you_mean(column, COLUMNS) if column else ''}"
                f"known are {', '.join(COLUMNS)}, and details.NAME for what else was measured"
            )
        yield column, source, f"{column}={source}"


# -- records in documents -------------------------------------------------------------------


def _with_records(found: CallMap) -> CallMap:
    """A map whose paths say by `[]` where the records are: its paths begin at the record then."""
    paths = [
        part.path
        for source in (*found.columns.values(), *(one.source for one in found.where))
        for parts in source
        for part in parts
    ]
    lists = [one for one in map(_list_steps, paths) if one]
    if not lists:
        return found
    deepest = max(lists, key=len)
    for one in lists:
        if _plain(deepest[: len(one)]) != _plain(one):
            raise InvalidInputError(
                f"the map names elements of two lists, {Path(0, one)} and {Path(0, deepest)}: a "
                f"record is an element of one"
            )
    return replace(
        found,
        records=Path(0, deepest),
        columns={name: _from_record(source, deepest) for name, source in found.columns.items()},
        where=tuple(replace(one, source=_from_record(one.source, deepest)) for one in found.where),
    )


def _plain(steps: Sequence[Step]) -> list[tuple[str, int]]:
    return [(step.key, step.lists) for step in steps]


def _list_steps(path: Path) -> tuple[Step, ...]:
    """The steps up to the last list."""
    last = max((at for at, step in enumerate(path.steps, 1) if step.lists), default=0)
    return path.steps[:last]


def _from_record(source: Source, records: tuple[Step, ...]) -> Source:
    return tuple(
        tuple(Part(_relative(part.path, records), part.flags) for part in parts) for parts in source
    )


def _relative(path: Path, records: tuple[Step, ...]) -> Path:
    """A path of the document, as one of its records sees it."""
    if path.ups:
        return path
    inside = len(_list_steps(path))
    steps = path.steps[inside:]
    if not steps:
        raise InvalidInputError(f"{path} is an element: name what of it, such as {path}.x")
    return Path(len(records) - inside, steps)


def records_in(document: Any, path: Path | None) -> Iterator[tuple[Any, Above]]:
    """The records of a document, each with the objects around it."""
    if path is None:
        yield document, ()
    else:
        yield from _walk(document, path.steps, ())


def _walk(value: Any, steps: tuple[Step, ...], above: Above) -> Iterator[tuple[Any, Above]]:
    if not steps:
        yield value, above
        return
    if not isinstance(value, dict):
        return
    key, lists, _ = steps[0]
    around = (value, *above)
    elements = [value.get(key)]
    for _ in range(lists):
        elements = [one for many in elements if isinstance(many, list) for one in many]
    for element in elements:
        if element is not None:
            yield from _walk(element, steps[1:], around)
