"""Naming entries of a model: by seq, by request id, or by the import that brought them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from calibration_ledger.errors import InvalidInputError, NoSuchEntryError
from calibration_ledger.import_ids import import_id_of
from calibration_ledger.validation import check_request_id, request_key, shown
from calibration_ledger.voids import FIRST_VOIDABLE, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import ModelHistory
    from calibration_ledger.voids import Ranges

Seqs: TypeAlias = "int | tuple[int, int] | list[int | tuple[int, int]]"
"""An entry, a pair of the first and last of several, or a list of these."""

_LISTED = 5
"""So many of the imports that there are an error names."""


class Names(NamedTuple):
    """How entries were named, each part checked."""

    seqs: Ranges
    request_ids: tuple[str, ...]
    import_ids: tuple[str, ...]

    @classmethod
    def of(
        cls,
        seq: Seqs | None,
        request_id: str | Iterable[str] | None,
        import_id: str | Iterable[str] | None,
    ) -> Names:
        """Check what the user gave.

        Raises:
            InvalidInputError: a part is not what it must be, or there is none.
        """
        names = cls(
            tuple(_seqs(seq)),
            tuple(check_request_id(one) for one in _listed("request_id", request_id)),
            tuple(_import_id(one) for one in _listed("import_id", import_id)),
        )
        if names == ((), (), ()):
            raise InvalidInputError(
                "no entries are named: give their seq, a request id, or the import that brought "
                "them."
            )
        return names

    def only_imports(self) -> bool:
        """Whether nothing else is named: an import may have brought calls of several models."""
        return not self.seqs and not self.request_ids


class Named(NamedTuple):
    """What names name in one model."""

    ranges: Ranges
    import_ids: frozenset[str]
    """The imports that brought some of it."""


def entries_named(
    backend: Backend, history: ModelHistory, names: Names, *, is_one_of_many: bool = False
) -> Named:
    """The entries of a model that are named, all of which are there.

    Where other models are meant, too, one of several imports is enough.

    Raises:
        NoSuchEntryError: one of the names names nothing.
        InvalidInputError: one cannot be voided.
    """
    last = history.live.last_seq
    for first, end in names.seqs:
        if end > last:
            raise NoSuchEntryError(
                f"the model {history.model!r} has entries 1 to {last}, and none of the number "
                f"{max(first, last + 1)}: `calib history` shows the seq of each call."
            )
        if first < FIRST_VOIDABLE:
            raise InvalidInputError(
                f"entry 1 of the model {history.model!r} begins its history, and cannot be "
                f"voided: name entries from {FIRST_VOIDABLE} on."
            )
    found = [*names.seqs, *_of_requests(backend, history, names.request_ids)]
    met: frozenset[str] = frozenset()
    if names.import_ids:
        brought, met = _of_imports(history, names.import_ids, needs_all=not is_one_of_many)
        found += brought
    return Named(merged(found), met)


def _of_requests(
    backend: Backend, history: ModelHistory, request_ids: tuple[str, ...]
) -> Iterator[tuple[int, int]]:
    for request_id in request_ids:
        key = request_key(request_id)
        rows = backend.read(backend.sql.find_request, (history.live.model_id, key))
        if not rows:
            raise NoSuchEntryError(
                f"the model {history.model!r} has no call of the request id {shown(request_id)}: "
                f"`calib history --json` shows those it has.{_archived(history)}"
            )
        yield rows[0][1], rows[0][1]


def _of_imports(
    history: ModelHistory, import_ids: tuple[str, ...], *, needs_all: bool
) -> tuple[list[tuple[int, int]], frozenset[str]]:
    found: list[tuple[int, int]] = []
    there: Counter[str] = Counter()
    for rows, _ in history.calls(0, history.live.last_seq):
        for row in rows:
            mark = import_id_of(row[7])
            if mark is None:
                continue
            there[mark] += 1
            if mark in import_ids:
                if found and found[-1][1] == row[0] - 1:
                    found[-1] = (found[-1][0], row[0])
                else:
                    found.append((row[0], row[0]))
    met = frozenset(import_ids) & there.keys()
    for import_id in import_ids:
        if import_id not in met and (needs_all or not met):
            known = [f"{mark} ({count} calls)" for mark, count in there.most_common(_LISTED)]
            has = f"it has {', '.join(known)}" if known else "it has none of any import"
            raise NoSuchEntryError(
                f"the model {history.model!r} has no call of the import {shown(import_id)}: {has}. "
                f"`calib import` says the id of each, and `calib history --json` shows it."
                f"{_archived(history)}"
            )
    return found, met


def _archived(history: ModelHistory) -> str:
    """A sentence for whoever names what may have been archived, where something was."""
    if not history.archived:
        return ""
    return (
        f" Entries up to {history.archived} were archived: if it was among them, bring them back "
        f"with `calib import ledger ARCHIVE`, and try again."
    )


def _seqs(seq: object) -> Iterator[tuple[int, int]]:
    if seq is None:
        return
    for one in seq if isinstance(seq, list) else [seq]:
        pair = one if isinstance(one, tuple) else (one, one)
        is_right = len(pair) == 2 and all(type(part) is int and part > 0 for part in pair)  # noqa: PLR2004 - a pair
        if not is_right or pair[0] > pair[1]:
            raise InvalidInputError(
                f"seq must be the number of an entry, a pair of the first and last of several, or "
                f"a list of these, not {shown(one)}: 12, say, or (2, 80)."
            )
        yield pair[0], pair[1]


def _listed(name: str, value: object) -> list[object]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]  # others are a TypeError
    except TypeError:
        raise InvalidInputError(f"{name} must be a text or a list, not {shown(value)}.") from None


def _import_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(
            f"import_id must be the id of an import, such as 3f2a9c01d4e7, not {shown(value)}."
        )
    return value
