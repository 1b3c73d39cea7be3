"""What the models of a ledger file become in a ledger: looked at before anything is written.

A model without history here gets all of its entries, one with the same history those that it
lacks. They may be lacking at the end, or at the beginning, where they were archived: an archive is
brought back by importing it. Where the two do not fit, nothing changes for any model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.audit import ModelAudit
from calibration_ledger.damage import damaged
from calibration_ledger.interchange.ledger_check import check_fold, feed
from calibration_ledger.listing import list_live
from calibration_ledger.storage import reads
from calibration_ledger.validation import request_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.entries import Adjustment, CallRow
    from calibration_ledger.interchange.ledger_check import History
    from calibration_ledger.interchange.lines import Source
    from calibration_ledger.learning import State
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored
    from calibration_ledger.storage.staging import StagedEntries, StagedModel

_SHOWN_MAX = 5
_CHANGED = "Nothing was changed"

_CLAIMED = {"recalibrated": "was recalibrated", "voided": "had entries voided"}
"""What made the entries that rest on what came before them, by the check that minds them."""


class Plan(NamedTuple):
    """What a model of the file gets.

    Attributes:
        staged: the model.
        live: its calibration in the ledger, if it has history there.
        beginning: the first entry that the ledger has of it.
        restored: the seq up to which entries of the file take the place of that one; 0: none do.
    """

    staged: StagedModel
    live: Stored | None = None
    beginning: Adjustment | None = None
    restored: int = 0


def plan_import(backend: Backend, staged: StagedEntries, file: Source) -> list[Plan]:
    """Verify every model and hold it against the ledger.

    Raises:
        ImportRefusedError: the file does not explain itself, or a model has another history here.
    """
    here = {live.model: live for live in list_live(backend)}
    plans: list[Plan] = []
    diverged: list[str] = []
    for model in staged.models():
        live = here.get(model.model)
        fold = ModelAudit(model.model, model.adjustments)
        if live is None:
            feed(fold, model, model.last_seq)
            check_fold(fold, model, file)
            plans.append(Plan(model))
            continue
        history = reads.ModelHistory(backend, live)
        common = min(live.last_seq, model.last_seq)
        feed(fold, model, common)
        head = fold.head
        feed(fold, model, model.last_seq)
        check_fold(fold, model, file)
        _check_overlap(model, history, file)
        if head != _head_at(history, common):
            diverged.append(model.model)
            continue
        restored = history.archived if model.archived < history.archived else 0
        if model.archived or history.archived:
            _check_fit(backend, _Merged(model, history, restored), file)
        plans.append(Plan(model, live, history.beginning, restored))
    if diverged:
        names = ", ".join(repr(name) for name in diverged[:_SHOWN_MAX])
        more = f" and {len(diverged) - _SHOWN_MAX} more" if len(diverged) > _SHOWN_MAX else ""
        file.refuse(
            None,
            f"{names}{more}: the ledger {backend.place.shown} has another history. {_CHANGED}: "
            f"import into a fresh ledger, or export the other models alone, each with "
            f"--model.",
        )
    return plans


def _head_at(history: reads.ModelHistory, seq: int) -> bytes | None:
    """The head that the ledger's own history had at an entry."""
    if seq == history.live.last_seq:
        return history.live.head
    fold = ModelAudit(history.model)
    feed(fold, history, seq)
    return fold.head


# -- archives -------------------------------------------------------------------------------------


class _Merged:
    """The history of a model that its part of the file and the ledger's own make together.

    The ledger's own entries stand between the file's older and newer ones.
    """

    def __init__(self, staged: StagedModel, history: reads.ModelHistory, restored: int) -> None:
        """Put them together."""
        self.staged = staged
        self.history = history
        self.restored = restored
        self.last_seq = max(staged.last_seq, history.live.last_seq)
        end = history.live.last_seq
        self.parts: tuple[tuple[History, int, int], ...] = (
            (staged, 0, restored),
            (history, restored, end),
            (staged, end, self.last_seq),
        )
        self.adjustments = [
            entry
            for part, after, through in self.parts
            for entry in part.adjustments
            if after < entry.seq <= through
        ]

    def calls(self, after: int, through: int) -> Iterator[tuple[list[CallRow], list[Any]]]:
        """Pages of calls with after < seq <= through."""
        for part, first, last in self.parts:
            yield from part.calls(max(after, first), min(through, last))

    def new_requests(self) -> Iterator[list[str]]:
        """The request ids of the file's entries that the ledger does not have, in pages."""
        for part, after, through in (self.parts[0], self.parts[2]):
            for rows, _ in part.calls(after, through):
                yield [row[6] for row in rows if row[6] is not None]


def _check_overlap(model: StagedModel, history: reads.ModelHistory, file: Source) -> None:
    """Refuse entries that do not reach up to those of the ledger, or do not begin among them."""
    name, end = repr(model.model), history.live.last_seq
    if model.last_seq < history.archived:
        file.refuse(
            model.head_line,
            f"the entries of {name} end with {model.last_seq}, and in the ledger those up to "
            f"{history.archived} are archived. {_CHANGED}: import the archive that ends with "
            f"entry {history.archived} first.",
        )
    if end < model.archived:
        file.refuse(
            model.head_line,
            f"of {name} the entries up to {model.archived} were archived before the file was "
            f"written, and the ledger ends with entry {end}. {_CHANGED}: import that archive "
            f"first.",
        )


def _check_fit(backend: Backend, merged: _Merged, file: Source) -> None:
    """Refuse what would not explain itself together, though each part does.

    Raises:
        ImportRefusedError: a recalibration or voiding rests on the archived entry, or a request
            id was used again.
    """
    staged, history, restored = merged.staged, merged.history, merged.restored
    if not restored and staged.last_seq <= history.live.last_seq:
        return
    fold = ModelAudit(staged.model, merged.adjustments)
    if restored:
        if any(rows for rows, _ in history.calls(0, restored)):
            raise damaged(staged.model, "calls are there that were archived")
        feed(fold, merged, restored)
        _check_same_state(fold.state, history)
    feed(fold, merged, merged.last_seq)
    for finding in fold.close():
        if finding.check not in _CLAIMED:
            raise damaged(staged.model, f"entry {finding.seq} does not follow from the file")
        file.refuse(
            None,
            f"{staged.model!r} {_CLAIMED[finding.check]} (entry {finding.seq}), and its state was "
            f"worked out from what was left after archiving: that would not hold with the archived "
            f"entries back. {_CHANGED}: import the file into a ledger of its own.",
        )
    for ids in merged.new_requests():
        keys = {request_key(request_id): request_id for request_id in ids}
        known = reads.find_requests(backend, history.live.model_id, list(keys))
        if known:
            file.refuse(
                None,
                f"the request id {keys[next(iter(known))]!r} of {staged.model!r} was recorded "
                f"anew after its call was archived. {_CHANGED}: import the file into a ledger of "
                f"its own.",
            )


def _check_same_state(state: State | None, history: reads.ModelHistory) -> None:
    """Refuse a ledger whose archived entry is not the state behind the entries it stands for."""
    assert state is not None  # noqa: S101 - the file was verified
    mine = state.adjustment(history.archived, "archived", 0)[3:13]
    assert history.beginning is not None  # noqa: S101 - it is the archived entry
    if mine != history.beginning[3:13]:
        raise damaged(history.model, "the archived entry is not what the archive ends in")
