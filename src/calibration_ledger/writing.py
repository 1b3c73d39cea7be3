"""The front door's larger writes: one transaction each, with priors worked out before it.

A prior is the user's own code: it runs before a transaction begins, never inside one, and before
a ledger is made, so that one that fails leaves nothing behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.damage import damage_told
from calibration_ledger.errors import LedgerError, LedgerNotFoundError
from calibration_ledger.listing import list_live
from calibration_ledger.recording import OpenModel, Unopened, record_calls
from calibration_ledger.stopped import tell_recorded
from calibration_ledger.storage import reads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.new_calls import NewCall
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.writes import Transaction

    Opening = Callable[[str], Adjustment]
    """Gives the first entry of a model that has no history yet."""

BATCH = 1_000
"""Calls to a transaction in `record_many`."""


def exists(backend: Backend) -> bool:
    """Whether there is a ledger yet."""
    try:
        backend.read(backend.sql.revision)
    except LedgerNotFoundError:
        return False
    except LedgerError:
        pass  # the write will tell what is the matter, and that nothing was recorded
    return True


def _openings_of_new(
    backend: Backend, opening: Opening, models: Iterable[str]
) -> dict[str, Adjustment]:
    """The first entries of those of these models that the ledger does not have."""
    return {model: opening(model) for model in models if reads.find(backend, model) is None}


def record_batches(
    backend: Backend, opening: Opening, calls: Sequence[tuple[str, NewCall]]
) -> list[float]:
    """See `AdaptiveCalibrator.record_many`."""
    errors: list[float] = []
    for start in range(0, len(calls), BATCH):
        batch = calls[start : start + BATCH]
        by_model: dict[str, list[NewCall]] = {}
        for model, call in batch:
            by_model.setdefault(model, []).append(call)
        try:
            found = {m: iter(some) for m, some in _record_batch(backend, opening, by_model).items()}
        except BaseException as error:
            if errors:
                tell_recorded(error, errors)
            raise
        errors += [next(found[model]) for model, _ in batch]
    return errors


def _record_batch(
    backend: Backend, opening: Opening, by_model: Mapping[str, Sequence[NewCall]]
) -> dict[str, list[float]]:
    """Record calls of several models in one transaction."""

    def work(transaction: Transaction) -> dict[str, list[float]]:
        # Models are locked in one order everywhere, so that batches cannot deadlock.
        return {
            model: record_calls(transaction, model, by_model[model], openings.get(model))
            for model in sorted(by_model)
        }

    openings = {} if exists(backend) else {model: opening(model) for model in by_model}
    try:
        return backend.write(work)
    except Unopened:
        openings = _openings_of_new(backend, opening, by_model)
        return backend.write(work)


def record_once(
    backend: Backend, opening: Opening, model: str, call: NewCall
) -> tuple[float, bool]:
    """See `HistoryMethods.record_once`."""

    def work(transaction: Transaction, entry: Adjustment | None) -> tuple[float, bool]:
        before = transaction.load(model)
        (error_ms,) = record_calls(transaction, model, (call,), entry)
        is_added = before is None or transaction.load(model)[-3] > before[-3]  # last_seq
        return error_ms, is_added

    try:
        return backend.write(work, None if exists(backend) else opening(model))
    except Unopened:
        return backend.write(work, opening(model))


def reset_models(backend: Backend, opening: Opening, model: str | None) -> None:
    """See `AdaptiveCalibrator.reset`; the one model has history."""
    openings: dict[str, Adjustment] = {}

    def work(transaction: Transaction) -> list[str]:
        names = transaction.models() if model is None else [model]
        missing = [name for name in names if name not in openings]
        if missing:
            return missing
        for name in sorted(names):
            with damage_told(name):
                opened = OpenModel.load(transaction, name)
                opened.append(openings[name]._replace(kind="reset"))
            opened.save()
        return []

    missing = [live.model for live in list_live(backend)] if model is None else [model]
    while missing:
        openings.update({name: opening(name) for name in missing})
        # A ledger that is gone by now is not made anew: nothing in it could be reset.
        missing = backend.write(work, makes=False)  # others may have opened models meanwhile
