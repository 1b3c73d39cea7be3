"""Adopting a replay: it was folded without the lock, and history may have gone on meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.damage import damage_told, damaged
from calibration_ledger.recording import OpenModel
from calibration_ledger.storage import reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.figures import Accuracy
    from calibration_ledger.learning import State
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored
    from calibration_ledger.storage.writes import Transaction


class Trial(NamedTuple):
    """A replay that is to be adopted."""

    live: Stored
    beginning: Adjustment | None
    state: State
    accuracy: Accuracy


class Adopted(NamedTuple):
    """A replay that was: with the calls in it that came meanwhile."""

    state: State
    accuracy: Accuracy
    seq: int
    """The newest entry of the model."""


def adopt(
    backend: Backend, trial: Trial, entry_of: Callable[[State, State], Adjustment | None]
) -> Adopted | None:
    """Take the lock, fold what came since the replay, and write.

    `entry_of(rebuilt, live)` gives the entry to append, or None for none.

    Gives None where an adjustment came meanwhile, or the beginning was archived: the replay no
    longer holds.
    """
    live, beginning, state, accuracy = trial

    def work(transaction: Transaction) -> Adopted | None:
        opened = OpenModel.load(transaction, live.model)
        newest = transaction.last_adjustment(opened.model_id)
        if newest > opened.seq:
            raise damaged(live.model, f"entry {newest} lies behind the last, {opened.seq}")
        is_same = transaction.first_adjustment(opened.model_id) == beginning
        if newest > live.last_seq or not is_same:
            return None
        rebuilt, figures = state.copy(), accuracy.copy()
        after = live.last_seq
        while after < opened.seq:
            rows = transaction.columns(opened.model_id, after, min(opened.seq, after + reads.PAGE))
            if not rows:
                raise damaged(live.model, f"entry {after + 1} is missing")
            seqs, *columns = zip(*rows, strict=True)
            figures.add(columns[3], rebuilt.learn(*columns))
            after = seqs[-1]
        entry = entry_of(rebuilt, opened.state)
        if entry is not None:
            opened.append(entry)
            opened.save()
        return Adopted(rebuilt, figures, opened.seq)

    with damage_told(live.model):
        return backend.write(work, makes=False)
