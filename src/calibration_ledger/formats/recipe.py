"""Recipes: maps that are stored, for tools whose files need no more than other names.

A recipe is TOML:

    reads = "what it reads, in a line"
    records = "runs[].calls[]"              # where the records lie, if not each document is one
    where = ["event=call"]                  # what a record must say; others are left out
    [map]                                   # as the items of --map
    model = "req.model"
    [details]                               # what each call has in its details
    clock = "client"
    [skip]                                  # calls that are not learnt from, by reason: those that
    failed = "error!=null"                  # meet a condition, or all records behind a path
    cancelled = "runs[].broken[]"
    [recognise]                             # only recipes of this package
    has = ["req.model", "event=call"]       # what the first record has
    holds = ["a text"]                      # what stands somewhere in the first 64 KiB
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, get_args

from calibration_ledger.core.answers import Reason
from calibration_ledger.errors import InvalidInputError, did_you_mean, shown
from calibration_ledger.formats.base import Format
from calibration_ledger.formats.csv import Table, header
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.mapping import (
    CallMap,
    Condition,
    Path,
    is_equal,
    parse_condition,
    parse_map,
    parse_path,
)
from calibration_ledger.formats.records import calls_of
from calibration_ledger.formats.source import open_source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from calibration_ledger.formats.base import Beginning, Input, Placed

_KEYS = ("reads", "records", "where", "map", "details", "skip", "recognise")
_RECOGNISE = ("has", "holds")
_JSON = (b"{", b"[")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A stored map.

    Attributes:
        name: of the recipe.
        reads: what it reads, in a line for people.
        call_map: the map.
        has: what the first record of such a file has.
        holds: what stands somewhere at the beginning of one.
    """

    name: str
    reads: str
    call_map: CallMap
    has: tuple[Condition | Path, ...] = ()
    holds: tuple[str, ...] = ()

    def is_it(self, beginning: Beginning) -> bool:
        """Whether a file looks like one that it reads."""
        if not all(text.encode() in beginning.head for text in self.holds):
            return False
        first = beginning.first
        while isinstance(first, list):
            first = first[0] if first else None
        if first is None and not beginning.head.lstrip().startswith(_JSON):
            first = dict.fromkeys(header(beginning), "")
        return isinstance(first, dict) and all(_has(first, one) for one in self.has)

    def format(self) -> Format:
        """The recipe as a format."""
        rows = partial(map_rows, self.call_map)
        return Format(self.name, self.reads, "recipe", rows, self.is_it if self.has else None)


def _has(record: dict[str, Any], one: Condition | Path) -> bool:
    if isinstance(one, Path):
        return one.is_in(record, ())
    return any(
        is_equal(value, one.value) is not one.is_not
        for parts in one.source for part in parts for value in part.path.values(record)
    )  # fmt: skip


# -- the TOML -------------------------------------------------------------------------------


def read_recipe(name: str | os.PathLike[str]) -> Recipe:
    """The recipe in a file of the user's.

    Raises:
        ImportRefusedError: there is no such file.
        InvalidInputError: it is no recipe.
    """
    with open_source(name, None) as source:
        text = source.whole("recipe")
    return parse_recipe(source.name, text)


@cache
def recipes() -> tuple[Recipe, ...]:
    """The recipes of this package, by name."""
    found = []
    for file in files(__package__).joinpath("recipes").iterdir():
        name, dot, _ = file.name.rpartition(".toml")
        if dot:
            one = parse_recipe(name, file.read_text("utf-8"))
            found.append(replace(one, call_map=replace(one.call_map, is_strict=False, name=name)))
    return tuple(sorted(found, key=lambda one: one.name))


def parse_recipe(name: str, text: str) -> Recipe:
    """The recipe of a text.

    Raises:
        InvalidInputError: it is none.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"the recipe {name} is not valid TOML: {error}") from None
    _check_keys(name, content, _KEYS)
    recognise = _table(name, content, "recognise")
    _check_keys(name, recognise, _RECOGNISE)
    try:
        call_map = replace(
            parse_map(
                _texts_by_name(name, content, "map"),
                _texts(content.get("where", ())),
                records=content.get("records"),
            ),
            skips=tuple(_skips(_table(name, content, "skip"))),
            fixed=_table(name, content, "details"),
        )
        has = tuple(_parts(_texts(recognise.get("has", ()))))
    except InvalidInputError as error:
        raise InvalidInputError(f"the recipe {name}: {error}") from None
    reads = content.get("reads", "calls, by a recipe")
    return Recipe(name, str(reads), call_map, has, tuple(_texts(recognise.get("holds", ()))))


def _check_keys(name: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise InvalidInputError(
                f"the recipe {name} has {shown(key)}, which no recipe knows: "
                f"{did_you_mean(key, known)}known are {', '.join(known)}"
            )


def _table(name: str, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise InvalidInputError(f"the recipe {name}: {key} must be a table, [{key}]")
    return value


def _texts_by_name(name: str, content: Mapping[str, Any], key: str) -> dict[str, str]:
    found = _flat(_table(name, content, key))
    for column, source in found.items():
        if not isinstance(source, str):
            raise InvalidInputError(f"{column} must be a path in quotes, not {shown(source)}")
    return found


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A table without tables in it: TOML makes one of `details.ttft_ms = ...`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{before}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def _texts(value: object) -> list[str]:
    """A text, or a list of texts."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list | tuple) and all(isinstance(one, str) for one in texts):
        return list(texts)
    raise InvalidInputError(f"{shown(value)} must be a text, or a list of texts")


def _skips(table: Mapping[str, Any]) -> Iterator[tuple[Reason, Condition | Path]]:
    known: tuple[Reason, ...] = get_args(Reason)
    for reason, given in table.items():
        words = reason.replace("_", " ")
        found = next((one for one in known if one == words), None)
        if found is None:
            raise InvalidInputError(
                f"{shown(reason)} is no reason to skip a call: {did_you_mean(words, known)}known "
                f"are {', '.join(known)}"
            )
        for one in _parts(_texts(given)):
            yield found, one


def _parts(texts: Iterable[str]) -> Iterator[Condition | Path]:
    for text in texts:
        yield parse_condition(text) if "=" in text else parse_path(text)


# -- files by a map -------------------------------------------------------------------------


def map_rows(call_map: CallMap, file: Input, *, is_csv: bool | None = None) -> Iterator[Placed]:
    """The calls of a file by a map: JSON in any layout (see `documents`), or CSV.

    Args:
        call_map: the map.
        file: what to read.
        is_csv: which of the two it is; None: what it begins with says it.

    Raises:
        ImportRefusedError: the map cannot be meant for this file.
    """
    if is_csv is None:
        is_csv = not file.source.peek().startswith(_JSON)
    if is_csv:
        table = Table(file, file.source.lines())
        records: Iterable[tuple[int, Any]] = table.rows()
    else:
        records = json_values(file, is_strict=call_map.is_strict)
    return calls_of(call_map, file, records, are_texts=is_csv)
