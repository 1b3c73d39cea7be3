"""From a place to the database there: to be opened as a ledger, or examined as whatever it is."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from calibration_ledger.core.command import calib
from calibration_ledger.errors import InvalidInputError, needing
from calibration_ledger.storage.contents import count_rows, find_last_entry
from calibration_ledger.storage.latest import with_drifts
from calibration_ledger.storage.ledger import Ledger
from calibration_ledger.storage.place import File, Memory, Server
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.sqlite.file import SQLiteBackend
from calibration_ledger.storage.sqlite.memory import MemoryBackend

if TYPE_CHECKING:
    from calibration_ledger.core.facts import Facts
    from calibration_ledger.core.values import Distribution
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.latest import DriftsOf
    from calibration_ledger.storage.place import Place

_PSYCOPG = ("a ledger in PostgreSQL needs", "psycopg", "'psycopg[binary]'")


def open_ledger(place: Place, durability: str, timeout_s: float) -> Ledger:
    """The ledger at a place.

    Raises:
        LedgerError: what lies there cannot be used as one.
    """
    if isinstance(place, File):
        return Ledger(SQLiteBackend(place, durability, timeout_s))
    if isinstance(place, Memory):
        return Ledger(MemoryBackend(place, timeout_s))
    with needing(*_PSYCOPG):
        from calibration_ledger.storage.postgres.server import PostgresBackend
    return Ledger(PostgresBackend(place, durability, timeout_s))


def open_beside(ledger: Ledger, timeout_s: float) -> Ledger:
    """The ledger once more, with connections and a time-out of its own.

    One in memory lies in its only connection, and so is the same.

    Raises:
        LedgerError: it cannot be used any more.
    """
    if isinstance(ledger.place, Memory):
        return ledger
    return open_ledger(ledger.place, ledger.backend.durability, timeout_s)


def examine(place: Place, ledger: Ledger | None, drifts_of: DriftsOf) -> Facts:
    """Everything that can be found out about the ledger at a place, whatever state it is in.

    Changes nothing.

    Args:
        place: where it lies.
        ledger: the same, if it is open; one in memory cannot be examined otherwise.
        drifts_of: what is asked of a ledger that is sound; see `Facts.drifts`.
    """
    durability = "full" if ledger is None else ledger.backend.durability
    if isinstance(place, File):
        from calibration_ledger.storage.sqlite.examine import examine_file

        return examine_file(place, durability, drifts_of)
    if isinstance(place, Memory):
        backend = None if ledger is None else ledger.backend
        facts = _examine_memory(place, backend)
        return facts if backend is None else with_drifts(facts, backend, drifts_of)
    with needing(*_PSYCOPG):
        from calibration_ledger.storage.postgres.examine import examine_server
    return examine_server(place, durability, drifts_of)


def distribute(place: Place, timeout_s: float) -> Distribution:
    """See `AdaptiveCalibrator.distribute`."""
    if not isinstance(place, Server):
        raise InvalidInputError(
            f"{place.shown} lies on one machine, and cannot be distributed: move it into "
            f"PostgreSQL first, with `{calib('export', 'jsonl', 'FILE', ledger=place.shown)}` and "
            f"`{calib('import', 'ledger', 'FILE', ledger='URL')}`."
        )
    with needing(*_PSYCOPG):
        from calibration_ledger.storage.postgres.distribute import distribute
    return distribute(place, timeout_s)


def _examine_memory(place: Memory, backend: Backend | None) -> Facts:
    from calibration_ledger.core.facts import Facts

    version = sqlite3.sqlite_version
    if backend is None:
        return Facts(place.shown, "SQLite", version, "missing", REVISION)
    return Facts(
        place.shown,
        "SQLite",
        version,
        "current",
        REVISION,
        revision=REVISION,
        rows=count_rows(backend.read),
        last_entry=find_last_entry(backend.read),
        damage=tuple(backend.check_engine()),
    )
