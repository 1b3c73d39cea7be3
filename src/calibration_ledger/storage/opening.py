"""From a place to its backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import InvalidInputError
from calibration_ledger.storage.sqlite import SQLiteBackend
from calibration_ledger.storage.sqlite_memory import MemoryBackend

if TYPE_CHECKING:
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.place import Place


def open_backend(place: Place, durability: str, timeout_s: float) -> Backend:
    """The backend of the database at a place.

    Raises:
        LedgerError: what lies there cannot be used as a ledger.
    """
    if place.in_memory:
        return MemoryBackend(place)
    if place.url is not None:
        try:
            from calibration_ledger.storage.postgres import PostgresBackend
        except ModuleNotFoundError as error:
            raise InvalidInputError(
                f"a ledger in PostgreSQL needs psycopg, which is not installed ({error}): "
                f"pip install 'calibration-ledger[postgres]'."
            ) from None
        return PostgresBackend(place, durability, timeout_s)
    return SQLiteBackend(place, durability, timeout_s)
