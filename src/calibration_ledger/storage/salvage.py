"""What can still be read of a damaged ledger: model by model, around what is damaged.

It relies on as little as it can. What SQLite cannot reach is looked for page by page (`raw_pages`).
Names of models lie in the file twice (table and index), and a model whose name is lost gets a
stand-in; without its calibration, the end of its history is not known. Numbers that are neither a
call nor an adjustment that could be read are the lost ones.
"""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import LedgerNotFoundError, NotALedgerError
from calibration_ledger.storage.damaged import Walk, is_damage
from calibration_ledger.storage.faults import DRIVER_ERRORS, sqlite_fault
from calibration_ledger.storage.forks import no_fork
from calibration_ledger.storage.place import check_file
from calibration_ledger.storage.raw_pages import harvest
from calibration_ledger.storage.salvage_model import Found, ModelSalvage
from calibration_ledger.storage.sqlite_connect import connect_reader
from calibration_ledger.validation import check_model

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from calibration_ledger.facts import LostRange
    from calibration_ledger.storage.place import Place

TIMEOUT_S = 5.0
"""How long to wait for others; readers of a ledger in WAL mode never wait."""

STAND_IN = "unreadable-model-{}"
"""The name of a model whose own is lost, from its id in the ledger."""

_ROW_BYTES = 16
"""No row takes fewer, so that a file's size says how many it can hold at most."""

_SEQ_LIMIT = 2**53
"""A larger number is garbage."""

_MODELS_MIN = 1_000
"""Ids of models to try where nothing tells the largest."""

_MODELS = "SELECT id, model FROM models WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_NAMES = "SELECT id, model FROM models INDEXED BY sqlite_autoindex_models_1 ORDER BY model "
_ENDS = (
    "SELECT model_id, last_seq FROM calibrations"
    " WHERE model_id > ? AND model_id <= ? ORDER BY model_id LIMIT ?"
)
_OWNERS = (
    "SELECT model_id FROM {} WHERE model_id > ? AND model_id <= ? ORDER BY model_id LIMIT min(?, 1)"
)
_LARGEST = (
    "SELECT max(id) FROM models",
    "SELECT max(model_id) FROM calibrations",
    "SELECT max(model_id) FROM calls",
    "SELECT max(model_id) FROM adjustments",
)


@contextmanager
def opened(place: Place) -> Iterator[Salvage]:
    """A ledger file to salvage, whatever state it is in.

    Raises:
        LedgerNotFoundError: there is none.
        NotALedgerError: nothing of a ledger can be found in it.
        LedgerError: it cannot be read at all.
    """
    assert place.path is not None  # noqa: S101 - the caller has looked
    if not check_file(place):
        raise LedgerNotFoundError(f"there is no ledger at {place.shown}: nothing to salvage.")
    try:
        with no_fork(), closing(connect_reader(place.path, TIMEOUT_S)) as connection:
            salvage = salvage_of(connection, place.path)
            if salvage is None:
                raise NotALedgerError(
                    f"nothing of a ledger can be found in {place.shown}: name another path, or "
                    f"restore a backup."
                )
            with closing(salvage):
                yield salvage
    except DRIVER_ERRORS as error:
        raise sqlite_fault(error, place.shown, "read") from error


def salvage_of(
    connection: sqlite3.Connection, path: Path, most_bytes: int = sys.maxsize
) -> Salvage | None:
    """What a file holds of a ledger, to be closed; None: nothing.

    Args:
        connection: to the file; it only reads, and serves nothing else afterwards.
        path: the file.
        most_bytes: so much of a file is looked at that is no database any more.

    Raises:
        sqlite3.Error: it cannot be read for another reason than damage.
    """
    try:
        salvage = Salvage(connection, path)
        if salvage.has_calls():
            return salvage
    except DRIVER_ERRORS as error:
        if not is_damage(error):
            raise
    salvage = Salvage(harvest(path, most_bytes=most_bytes), None)
    if salvage.is_empty():
        salvage.close()
        return None
    return salvage


class Salvage:
    """A ledger to salvage. Its connection serves nothing else."""

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        """Take a connection; without a path, it is to what was found page by page, and closed here.

        Raises:
            sqlite3.Error: the file cannot be read at all.
        """
        self._connection = connection
        self._path = path
        self._harvest: sqlite3.Connection | None = None
        self._is_damaged = False
        # A damaged page of the schema would fail every query; so, only what is on it is missing.
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("PRAGMA cell_size_check=ON")
        # Texts are decoded one by one, so that one that is damaged does not cost its whole page.
        connection.text_factory = bytes
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (self._page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        self.seq_limit = pages * self._page_bytes // _ROW_BYTES

    def close(self) -> None:
        """Drop what was found page by page."""
        if self._harvest is not None:
            self._harvest.close()
        if self._path is None:
            self._connection.close()

    def is_empty(self) -> bool:
        """Whether there is no call."""
        return self._value("SELECT 1 FROM calls LIMIT 1") is None

    def has_calls(self) -> bool:
        """Whether the table of calls is still known."""
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'calls'"
        return bool(self._value(tables)) or not self.is_empty()

    def harvest(self) -> sqlite3.Connection | None:
        """What can be found page by page, looked for when it is first needed."""
        if self._harvest is None and self._path is not None:
            self._harvest = harvest(self._path, self._page_bytes)
            self._harvest.text_factory = bytes
        return self._harvest

    def model(self, found: Found) -> ModelSalvage:
        """What can be read of one model."""
        is_harvest = self._path is None
        return ModelSalvage(
            self._connection, self.harvest, found, self.seq_limit, is_harvest=is_harvest
        )

    def models(self) -> list[Found]:
        """Every model of which there are traces, sorted by name."""
        names, ends, ids = self._traces()
        found = self.harvest() if self._is_damaged else None
        if found is not None:
            more_names, more_ends, more_ids = Salvage(found, None)._traces()  # noqa: SLF001 - its own kind
            names, ends = {**more_names, **names}, {**more_ends, **ends}
            ids |= more_ids
        models = []
        for model_id in ids:
            model = names.get(model_id)
            name = STAND_IN.format(model_id) if model is None else model
            models.append(Found(model_id, name, model is not None, ends.get(model_id)))
        return sorted(models, key=lambda one: (one.model, one.model_id))

    def _traces(self) -> tuple[dict[int, str], dict[int, int], set[int]]:
        """The names of models, the ends of their histories, and the ids of all of them."""
        most = max([_MODELS_MIN, *filter(None, map(self._value, _LARGEST))])
        most = min(most, self.seq_limit)
        rows = [*self._names(), *self._walk(_MODELS, most)]
        names = {model_id: name for model_id, text in rows if (name := _name(text)) is not None}
        ends = {
            model_id: end
            for model_id, end in self._walk(_ENDS, most)
            if type(end) is int and 1 <= end < _SEQ_LIMIT
        }
        ids = {model_id for model_id, _ in rows} | ends.keys()
        for table in ("calls", "adjustments"):
            ids |= self._owners(table, most)
        return names, ends, {i for i in ids if type(i) is int and 0 < i <= most}

    def _value(self, query: str) -> int | None:
        try:
            row = self._connection.execute(query).fetchone()
        except DRIVER_ERRORS as error:
            self._note(error)
            return None
        return row[0] if row is not None and type(row[0]) is int else None

    def _note(self, error: Exception) -> None:
        """Go on behind damage; raise everything else again."""
        if not is_damage(error):
            raise error
        self._is_damaged = True

    def _walk(self, text: str, through: int) -> Iterator[Any]:
        walk = Walk(self._connection, text, (), 0, through)
        for rows in walk.pages():
            yield from rows
        self._is_damaged |= bool(walk.skipped)

    def _names(self) -> list[Any]:
        """The names by the index over them, from both of its ends."""
        if self._path is None:
            return []  # what was found page by page has no indexes
        names: list[Any] = []
        for order in ("ASC", "DESC"):
            try:
                names.extend(self._connection.execute(_NAMES + order))
            except DRIVER_ERRORS as error:
                if "no such index" not in str(error):
                    self._note(error)
                self._is_damaged = True
        return names

    def _owners(self, table: str, most: int) -> set[int]:
        """The ids of the models that have rows in a table: from one to the next, by its key."""
        found: set[int] = set()
        after = 0
        while after < most:
            # One row at a time: the next one with the same id is not asked for.
            walk = Walk(self._connection, _OWNERS.format(table), (), after, most)
            page = next(walk.pages(), None)
            for first, last in walk.skipped:
                self._is_damaged = True
                # Their first rows are damaged; of some, perhaps, the last ones are not.
                found |= {i for i in range(first, last + 1) if self._newest(table, i) is not None}
            if page is None:
                break
            after = page[0][0]
            found.add(after)
        return found

    def _newest(self, table: str, model_id: int) -> int | None:
        return self._value(f"SELECT max(seq) FROM {table} WHERE model_id = {model_id:d}")


def _name(value: object) -> str | None:
    """A model's name, if that is what the value is."""
    try:
        return check_model(value.decode()) if isinstance(value, bytes) else None
    except ValueError:  # of the encoding, or of this project
        return None


def survey(salvage: Salvage) -> tuple[int, int, list[LostRange]]:
    """Read everything that can be read: how many models and calls, and what is lost."""
    models, calls = salvage.models(), 0
    lost: list[LostRange] = []
    for found in models:
        model = salvage.model(found)
        for _ in model.pages():
            pass
        calls += model.calls
        lost += model.lost
    return len(models), calls, lost
