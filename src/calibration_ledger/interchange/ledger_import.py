"""Import of a whole ledger: restore what has no history here, continue what has the same.

The file is verified whole first, and held against the ledger (`ledger_check`, `ledger_plan`).
Entries go in verbatim, in bounded transactions, each of which leaves a whole ledger that the same
import continues; those of an archive that come back, in one for each model.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from calibration_ledger.entries import Adjustment
from calibration_ledger.errors import LedgerError, NotRecordedError
from calibration_ledger.interchange.ledger_check import BATCH, stage
from calibration_ledger.interchange.ledger_plan import plan_import
from calibration_ledger.interchange.lines import open_source, shown_name
from calibration_ledger.interchange.reports import ImportReport
from calibration_ledger.interchange.stages import begin
from calibration_ledger.interchange.stopped import add_progress
from calibration_ledger.new_calls import NewCall
from calibration_ledger.recording import OpenModel
from calibration_ledger.storage.staging import StagedEntries
from calibration_ledger.validation import request_key

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from typing import Any, TextIO

    from calibration_ledger.interchange.ledger_plan import Plan
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.staging import StagedModel
    from calibration_ledger.storage.writes import Transaction

    Place = tuple[int, bytes | None, Adjustment | None]
    """Where a model must stand when its entries are appended: its seq, head and first entry."""


def import_entries(
    backend: Backend,
    source: str | os.PathLike[str] | TextIO | None,
    *,
    progress: Progress | None,
) -> ImportReport:
    """Import a ledger file; see `AdaptiveCalibrator.import_calls`."""
    report = progress or (lambda _: None)
    name = "" if source is None else shown_name(source)
    with StagedEntries() as staged:
        with open_source(source, backend.place.path) as file:
            begin(report, "calls read")
            calls = stage(file, staged, report)
            plans = plan_import(backend, staged, file)
        begin(report, "entries recorded")
        done: Counter[str] = Counter()
        for plan in plans:
            try:
                if plan.restored:
                    _restore(backend, plan, done, report)
                _append(backend, plan, done, report)
            except LedgerError as error:
                add_progress(error, done.total(), f"entries of {name}")
                raise
    opened = sum(plan.live is None for plan in plans)
    unchanged = sum(_is_unchanged(plan) for plan in plans)
    return ImportReport(
        "ledger",
        name,
        recorded=done["calls"],
        already=calls - done["calls"],
        adjustments=done["adjustments"],
        models=len(plans),
        models_opened=opened,
        models_extended=len(plans) - opened - unchanged,
        models_unchanged=unchanged,
    )


def _is_unchanged(plan: Plan) -> bool:
    is_whole = plan.live is not None and plan.live.last_seq >= plan.staged.last_seq
    return is_whole and not plan.restored


def _runs(model: StagedModel, after: int, through: int) -> Iterator[Adjustment | list[Any]]:
    """The entries in order: each adjustment, and pages of the calls between two of them."""
    due = [entry for entry in model.adjustments if after < entry.seq <= through]
    for entry in [*due, None]:
        end = through if entry is None else entry.seq - 1
        for rows, _ in model.calls(after, end):
            yield rows
        if entry is not None:
            yield entry
            after = entry.seq


# -- at the beginning -----------------------------------------------------------------------------


def _restore(backend: Backend, plan: Plan, done: Counter[str], progress: Progress) -> None:
    """Bring the entries back that the ledger's archived entry stands for: all, or none."""
    model, live = plan.staged, plan.live
    assert live is not None  # noqa: S101 - it has an archived entry

    def work(transaction: Transaction) -> Counter[str]:
        row = transaction.load(model.model)
        if (
            row is None
            or transaction.first_adjustment(row[0]) != plan.beginning
            or transaction.last_adjustment(row[0]) > live.last_seq
        ):
            raise _written_to(model.model)
        transaction.remove_through(row[0], plan.restored)
        written: Counter[str] = Counter()
        for run in _runs(model, 0, plan.restored):
            if isinstance(run, Adjustment):
                transaction.add_adjustment(row[0], run)
                written["adjustments"] += 1
            else:
                _put_back(transaction, row[0], run)
                written["calls"] += len(run)
        return written

    written = backend.write(work)
    done.update(written)
    progress(written.total())


def _put_back(transaction: Transaction, model_id: int, rows: Sequence[Any]) -> None:
    transaction.add_calls([(model_id, *row[:6]) for row in rows])
    transaction.add_details(
        [
            (model_id, seq, None if rid is None else request_key(rid), rid, text)
            for seq, *_, rid, text in rows
            if rid is not None or text is not None
        ]
    )


# -- at the end -----------------------------------------------------------------------------------


def _append(backend: Backend, plan: Plan, done: Counter[str], progress: Progress) -> None:
    """Append what the ledger lacks of one model."""
    model, live = plan.staged, plan.live
    seq, head = (0, None) if live is None else (live.last_seq, live.head)
    beginning = model.adjustments[0] if plan.restored else plan.beginning
    while seq < model.last_seq:
        after = max(seq, model.archived - 1)
        through = min(after + BATCH, model.last_seq)
        runs = list(_runs(model, after, through))

        def work(
            transaction: Transaction,
            runs: list[Adjustment | list[Any]] = runs,
            at: Place = (seq, head, beginning),
        ) -> bytes:
            return _append_runs(transaction, model.model, at, runs)

        head = backend.write(work)
        adjustments = sum(isinstance(run, Adjustment) for run in runs)
        done["adjustments"] += adjustments
        done["calls"] += through - after - adjustments
        progress(through - after)
        seq = through
        beginning = beginning or model.adjustments[0]


def _append_runs(
    transaction: Transaction, model: str, at: Place, runs: Sequence[Adjustment | list[Any]]
) -> bytes:
    """Append in one transaction, if the model still stands where it stood; gives the head."""
    row = transaction.load(model)
    opened = None if row is None else OpenModel(transaction, model, row)
    found: Place = (0, None, None)
    if opened is not None:
        beginning = transaction.first_adjustment(opened.model_id)
        found = (opened.seq, opened.head, beginning)
    if at != found:
        raise _written_to(model)
    for run in runs:
        if opened is None:
            assert isinstance(run, Adjustment)  # noqa: S101 - verified: the first is an opening
            opened = OpenModel.create(transaction, model, run)
        elif isinstance(run, Adjustment):
            opened.append(run)
        else:
            opened.learn([NewCall(at, p, c, y, rid, text) for _, at, p, c, y, _, rid, text in run])
    assert opened is not None  # noqa: S101 - there is at least one entry to append
    opened.save()
    return opened.head


def _written_to(model: str) -> NotRecordedError:
    return NotRecordedError(
        f"the model {model!r} was written to while its import ran. Nothing of this transaction "
        f"was recorded: stop what writes to it."
    )
