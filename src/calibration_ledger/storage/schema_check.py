"""Whether a ledger's tables are what this program expects: `calib db check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerNotFoundError
from calibration_ledger.storage.contents import of_revision
from calibration_ledger.storage.migrate import current_revision, reading
from calibration_ledger.storage.place import File
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.sqlite.soundness import LIST_SCHEMA, damaged_parts, foreign_parts

if TYPE_CHECKING:
    from calibration_ledger.storage.place import Server


def schema_differences(place: File | Server, timeout_s: float) -> list[str]:
    """How a ledger's tables differ from what this program expects; empty where they agree.

    The whole schema is compared, CHECKs and views included, with that of a new ledger.

    Raises:
        LedgerNotFoundError: there is no ledger.
        LedgerRevisionError: it is of another revision.
    """
    found = current_revision(place, timeout_s)
    if found is None:
        raise LedgerNotFoundError(f"there is no ledger at {place.shown}: nothing to check.")
    if found != REVISION:
        raise of_revision(found).error(place.shown)
    with reading(place, timeout_s) as connection:
        if isinstance(place, File):
            rows = [tuple(row) for row in connection.exec_driver_sql(LIST_SCHEMA)]
            return [*damaged_parts(rows), *foreign_parts(rows)]
        from calibration_ledger.storage.postgres.schema import schema_texts

        return _compare_texts(*schema_texts(connection))


def _compare_texts(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    differences = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    differences += [
        f"{name} is not the ledger's" for name in sorted(found.keys() - expected.keys())
    ]
    both = sorted(found.keys() & expected.keys())
    return differences + [f"{n} is {found[n]}" for n in both if found[n] != expected[n]]
