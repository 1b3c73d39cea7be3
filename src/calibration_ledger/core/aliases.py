"""Aliases: other names of models, as the ledger's own history tells them.

An entry says that from then on a name stands for a model, or is its own again. The newest entry of
a name holds. What a name stands for is never an alias itself, so one look-up is enough.

Aliases share the numbers and the digest of the settings; see `core.settings`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.core.entries import ALIAS_TYPES, AliasEntry, is_typed
from calibration_ledger.core.history import voids_ranges
from calibration_ledger.core.validation import MODEL_LENGTH_MAX, TIME_LIMIT_US, time_from_us
from calibration_ledger.core.values import Alias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


def in_force(entries: Iterable[AliasEntry]) -> dict[str, AliasEntry]:
    """The names that stand for a model after these entries, each with the entry that says so."""
    newest = {entry.name: entry for entry in entries}
    return {name: newest[name] for name in sorted(newest) if newest[name].model is not None}


def told(entry: AliasEntry) -> Alias:
    """An alias in force for the user."""
    assert entry.model is not None  # noqa: S101 - it is in force
    since = time_from_us(entry.recorded_at)
    return Alias(entry.name, entry.model, since, entry.seq, entry.merged)


def names_of(model: str, aliases: Mapping[str, AliasEntry]) -> list[str]:
    """The names that stand for a model."""
    return [name for name, entry in aliases.items() if entry.model == model]


def merged_range(entry: AliasEntry) -> tuple[int, int] | None:
    """The first and the last entry that its merge appended to the model; None for none.

    Raises:
        TypeError: the text is not what a merge wrote.
    """
    if entry.merged is None:
        return None
    ((first, last),) = voids_ranges(entry.merged)
    return first, last


def alias_faults(entry: AliasEntry) -> Iterator[tuple[str, str]]:
    """What is wrong with an alias's own values, as (expected, found)."""
    if not is_typed(entry, ALIAS_TYPES):
        yield "numbers and texts", repr(tuple(entry))
        return
    if not 0 <= entry.recorded_at < TIME_LIMIT_US:
        yield "a time", repr(entry.recorded_at)
    for name in (entry.name, entry.model):
        if name is not None and not 0 < len(name) <= MODEL_LENGTH_MAX:
            yield "names of models", repr(name)
    if entry.name == entry.model:
        yield "two names", repr(entry.name)
    try:
        merged_range(entry)
    except (TypeError, ValueError):
        yield "a range of entries", repr(entry.merged)


def chain_faults(entries: Iterable[AliasEntry]) -> Iterator[tuple[int, str, str]]:
    """Where one stands for a name that is an alias itself, as (seq, expected, found)."""
    known: dict[str, AliasEntry] = {}
    for entry in entries:
        known.pop(entry.name, None)
        if entry.model is None:
            continue
        if entry.model in known:
            yield entry.seq, "a model that is no alias", f"{entry.model!r}, which is one"
        for name in names_of(entry.name, known):
            yield entry.seq, f"no alias of {entry.name!r}, which is one now", repr(name)
        known[entry.name] = entry
