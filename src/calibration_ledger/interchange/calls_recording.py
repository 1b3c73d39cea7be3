"""The last part of an import of calls: recording, in bounded transactions, what was checked.

Others may write meanwhile: what they recorded of the same file counts as theirs.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from calibration_ledger.errors import (
    ImportRefusedError,
    LedgerError,
    NotFiniteError,
    RequestConflictError,
)
from calibration_ledger.import_ids import with_import_id
from calibration_ledger.interchange.stopped import add_progress
from calibration_ledger.new_calls import NewCall
from calibration_ledger.recording import Unopened, record_calls
from calibration_ledger.stopped import replace_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.staging import StagedCalls
    from calibration_ledger.storage.writes import Transaction

BATCH = 1_000
"""Calls to a transaction, and rows to a step of reading and checking."""


def record_staged(
    backend: Backend,
    opening: Callable[[str], Adjustment],
    staged: StagedCalls,
    name: str,
    import_id: str,
    progress: Progress,
) -> tuple[Counter[str], int, set[str]]:
    """Record what is left; each call bears the id of the import in its details.

    Gives how many were added of each model, how many others added meanwhile, and what was opened.
    """
    recorded: Counter[str] = Counter()
    opened: set[str] = set()
    met = 0
    for page in staged.pages(BATCH):
        calls = {
            model: [NewCall(*row[3:8], with_import_id(row[8], import_id)) for row in rows]
            for model, rows in groupby(page, key=lambda row: row.model)
        }
        try:
            added, new = _record_page(backend, opening, calls)
        except (RequestConflictError, NotFiniteError) as error:
            replace_nothing(error, "Its transaction was not recorded")
            raise ImportRefusedError(
                name,
                None,
                f"others wrote to the ledger meanwhile, and a call fits no more: {error} "
                f"{recorded.total()} calls of the file were recorded before it.",
            ) from error
        except LedgerError as error:
            add_progress(error, recorded.total(), f"calls of {name}")
            raise
        recorded += added
        opened |= new
        met += len(page) - added.total()
        progress(len(page))
    return recorded, met, opened


def _record_page(
    backend: Backend, opening: Callable[[str], Adjustment], calls: Mapping[str, list[NewCall]]
) -> tuple[Counter[str], set[str]]:
    def work(transaction: Transaction) -> tuple[Counter[str], set[str]]:
        added, new = Counter[str](), set[str]()
        for model, some in calls.items():  # sorted, as everywhere where models are locked
            row = transaction.load(model)
            record_calls(transaction, model, some, openings.get(model))
            if row is None:
                new.add(model)
            before = 1 if row is None else row[-3]
            added[model] = transaction.load(model)[-3] - before
        return added, new

    openings: dict[str, Adjustment] = {}
    try:
        return backend.write(work)
    except Unopened:
        openings = {model: opening(model) for model in calls}
        return backend.write(work)
