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
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from calibration_ledger.core.answers import Reason
from calibration_ledger.errors import InvalidInputError, did_you_mean, shown
from calibration_ledger.formats.base import Format
from calibration_ledger.formats.csv import Table, csv_rows, header
from calibration_ledger.formats.documents import json_values
from calibration_ledger.formats.jsonl import jsonl_rows
from calibration_ledger.formats.mapping import (
    CallMap,
    Condition,
    Path,
    parse_condition,
    parse_map,
    parse_path,
    parse_source,
)
from calibration_ledger.formats.records import calls_of
from calibration_ledger.formats.source import open_source

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from calibration_ledger.formats.base import Beginning, Input, Placed
    from calibration_ledger.formats.mapping import Source

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
    has: tuple[Condition | Source, ...] = ()
    holds: tuple[str, ...] = ()

    def is_it(self, beginning: Beginning) -> bool:
        """Whether a file looks like one that it reads."""
        if not all(text.encode() in beginning.head for text in self.holds):
            return False
        records: Sequence[dict[str, Any]] = beginning.records
        if not records and not beginning.head.lstrip().startswith(_JSON):
            records = [dict.fromkeys(header(beginning), "")]
        return any(all(_has(record, one) for one in self.has) for record in records)

    def format(self) -> Format:
        """The recipe as a format."""
        rows = partial(map_rows, self.call_map)
        return Format(self.name, self.reads, "recipe", rows, self.is_it if self.has else None)


def _has(record: dict[str, Any], one: Condition | Source) -> bool:
    if isinstance(one, Condition):
        paths = [part.path for parts in one.source for part in parts]
        return any(one.holds(value) for path in paths for value in path.values(record))
    return any(part.path.is_in(record, ()) for parts in one for part in parts)


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
    except (tomllib.TOMLDecodeError, RecursionError) as error:
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
        has = tuple(
            parse_condition(one) if "=" in one else parse_source(one)
            for one in _texts(recognise.get("has", ()))
        )
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
    if isinstance(texts, list | tuple | set | frozenset) and all(
        isinstance(one, str) for one in texts
    ):
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
        for one in _texts(given):
            yield found, parse_condition(one) if "=" in one else parse_path(one)


# -- files by a map -------------------------------------------------------------------------


class Given(NamedTuple):
    """What the user says of how a file is to be read; see `AdaptiveCalibrator.import_calls`."""

    items: Iterable[str] | Mapping[str, str] | None = None
    where: str | Iterable[str] | None = None
    recipe: str | os.PathLike[str] | None = None
    keep_rest: bool = False

    @property
    def said(self) -> str:
        """The first thing that is given; empty where nothing is."""
        names = ("map", "where", "recipe", "keep_rest")
        return next((name for name, one in zip(names, self, strict=True) if one), "")


_IS_CSV = {"jsonl": False, "csv": True}
"""The formats that a map reads, and whether each is CSV."""


def own_kind(head: bytes) -> str:
    """Whether a file that begins so is `jsonl` or `csv`, where the user says how to read it."""
    return "jsonl" if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_JSON) else "csv"


def format_of(kind: str, given: Given) -> Format:
    """The format of a file that is read as the user says.

    Args:
        kind: `jsonl`, `csv` or a recipe.
        given: what the user says; something must be.

    Raises:
        ImportRefusedError: the file of the recipe cannot be read.
        InvalidInputError: the map or the recipe is none, or the kind has names of its own.
    """
    stored = next((one for one in recipes() if one.name == kind), None)
    if kind not in _IS_CSV and stored is None:
        raise InvalidInputError(
            f"{given.said} is for files of your own, jsonl and csv, and for recipes: what files "
            f"of {kind} call things is known. Leave it out."
        )
    if given.recipe is not None:
        if stored is not None:
            raise InvalidInputError(f"{kind} is a recipe, and another is named: name one.")
        stored = _recipe(given.recipe)
    where = _texts(() if given.where is None else given.where)
    if stored is None and not given.items:
        if where:
            raise InvalidInputError(
                "conditions (where) are for files that are read by a map: give one, too, as map or "
                "recipe, such as --map model=model prompt_tokens=prompt_tokens ..."
            )
        rows = partial(csv_rows if kind == "csv" else jsonl_rows, keep_rest=True)
        return Format(kind, "calls", "own", rows)
    within = None if stored is None else stored.call_map
    call_map = parse_map(given.items or (), where, within=within)
    call_map = replace(call_map, keep_rest=given.keep_rest)
    rows = partial(map_rows, call_map, is_csv=_IS_CSV.get(kind))
    if call_map.name is not None:
        return Format(call_map.name, "calls by a recipe", "recipe", rows)
    return Format(kind, "calls by a map", "own", rows)


def _recipe(name: str | os.PathLike[str]) -> Recipe:
    """A recipe of this package by its name, or of the user's by that of its file."""
    return next((one for one in recipes() if one.name == name), None) or read_recipe(name)


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
        is_csv = own_kind(file.source.peek()) == "csv"
    if is_csv:
        table = Table(file, file.source.lines())
        return calls_of(call_map, file, table.rows(), table.names)
    return calls_of(call_map, file, json_values(file, is_strict=call_map.is_strict))
