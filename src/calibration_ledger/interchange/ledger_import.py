"""Import of a whole ledger: restore what has no history here, continue what has the same.

The file is verified whole first, by the fold that audits a ledger: sequence, openings,
predictions, recalibrations and heads. Then every model is held against the ledger; where one has
another history, nothing changes for any. Entries go in verbatim, in bounded transactions, each
of which leaves a whole ledger that the same import continues.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from calibration_ledger.audit import ModelAudit
from calibration_ledger.entries import Adjustment
from calibration_ledger.errors import LedgerError, NotRecordedError
from calibration_ledger.interchange.ledger_file import Head, LedgerReader
from calibration_ledger.interchange.lines import open_source, shown_name
from calibration_ledger.interchange.reports import ImportReport
from calibration_ledger.interchange.stopped import add_progress
from calibration_ledger.listing import list_live
from calibration_ledger.new_calls import NewCall
from calibration_ledger.recording import OpenModel
from calibration_ledger.storage import reads
from calibration_ledger.storage.staging import StagedEntries

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from calibration_ledger.entries import CallRow
    from calibration_ledger.interchange.lines import Source
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored
    from calibration_ledger.storage.staging import StagedModel
    from calibration_ledger.storage.writes import Transaction

BATCH = 1_000
"""Entries to a transaction."""

_SHOWN_MAX = 5


class _Plan(NamedTuple):
    """What a model of the file gets: its entries behind `seq`, if the head there is `head`."""

    staged: StagedModel
    seq: int
    head: bytes | None


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
            calls = _read(file, staged, report)
            plans = _plan(backend, staged, file)
        done: Counter[str] = Counter()
        for plan in plans:
            _append(backend, plan, name, done, report)
    unchanged = sum(plan.seq >= plan.staged.last_seq for plan in plans)
    opened = sum(plan.seq == 0 for plan in plans)
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


# -- reading ------------------------------------------------------------------------------------


def _read(file: Source, staged: StagedEntries, progress: Progress) -> int:
    """Stage the whole file; gives how many calls it holds."""
    number = calls = 0
    batch: list[tuple[int, int, CallRow]] = []
    for line, model, item in LedgerReader(file).items():
        if isinstance(item, Head):
            staged.add_model(number, model, item.seq, item.digest, line)
            number += 1
        elif isinstance(item, Adjustment):
            staged.add_adjustment(number, line, item)
        else:
            batch.append((number, line, item))
            calls += 1
        if len(batch) == BATCH:
            staged.add_calls(batch)
            batch = []
            progress(BATCH)
    staged.add_calls(batch)
    progress(len(batch))
    repeated = staged.repeated_request()
    if repeated is not None:
        line, model, request_id = repeated
        file.refuse(
            line,
            f"the request id {request_id!r} of the model {model!r} is there twice. Nothing was "
            f"recorded: export the ledger again.",
        )
    return calls


# -- verifying ----------------------------------------------------------------------------------


class _History(Protocol):
    """What `reads.ModelHistory` and `StagedModel` have in common."""

    adjustments: list[Adjustment]

    def calls(self, after: int, through: int) -> Iterator[tuple[list[CallRow], list[Any]]]:
        """Pages of calls with after < seq <= through."""


def _feed(fold: ModelAudit, history: _History, through: int) -> None:
    """Fold the entries up to one."""
    due = [entry for entry in history.adjustments if fold.seq < entry.seq <= through]
    for entry in [*due, None]:
        end = through if entry is None else entry.seq - 1
        for rows, _ in history.calls(fold.seq, end):
            fold.calls(rows)
        if entry is not None:
            fold.adjust(entry)


def _plan(backend: Backend, staged: StagedEntries, file: Source) -> list[_Plan]:
    """Verify every model and hold it against the ledger.

    Raises:
        ImportRefusedError: the file does not explain itself, or a model has another history here.
    """
    here = {live.model: live for live in list_live(backend)}
    plans: list[_Plan] = []
    diverged: list[str] = []
    for model in staged.models():
        live = here.get(model.model)
        fold = ModelAudit(model.model, model.adjustments)
        same = True
        if live is not None and live.last_seq <= model.last_seq:
            _feed(fold, model, live.last_seq)
            same = fold.head == live.head
        _feed(fold, model, model.last_seq)
        _check_fold(fold, model, file)
        if live is not None and live.last_seq > model.last_seq:
            same = _head_at(backend, live, model.last_seq) == model.head
        if not same:
            diverged.append(model.model)
        plans.append(_Plan(model, live.last_seq if live else 0, live.head if live else None))
    if diverged:
        names = ", ".join(repr(name) for name in diverged[:_SHOWN_MAX])
        more = f" and {len(diverged) - _SHOWN_MAX} more" if len(diverged) > _SHOWN_MAX else ""
        file.refuse(
            None,
            f"{names}{more}: the ledger {backend.place.shown} has another history. Nothing was "
            f"changed: import into a fresh ledger, or export without that model.",
        )
    return plans


def _check_fold(fold: ModelAudit, model: StagedModel, file: Source) -> None:
    advice = "Nothing was recorded: export the ledger again, and audit the one it came from."
    for finding in fold.close():
        file.refuse(model.line_of(finding.seq), f"{finding}. {advice}")
    if fold.head != model.head:
        file.refuse(
            model.head_line,
            f"{model.model}: this is not the head of the entries above. {advice}",
        )


def _head_at(backend: Backend, live: Stored, seq: int) -> bytes | None:
    """The head that the ledger's own history had at an entry."""
    fold = ModelAudit(live.model)
    _feed(fold, reads.ModelHistory(backend, live), seq)
    return fold.head


# -- recording ----------------------------------------------------------------------------------


def _append(
    backend: Backend, plan: _Plan, name: str, done: Counter[str], progress: Progress
) -> None:
    """Append what the ledger lacks of one model."""
    model, seq, head = plan.staged, plan.seq, plan.head
    while seq < model.last_seq:
        through = min(seq + BATCH, model.last_seq)
        runs = _runs(model, seq, through)

        def work(
            transaction: Transaction,
            runs: list[Adjustment | list[NewCall]] = runs,
            at: tuple[int, bytes | None] = (seq, head),
        ) -> bytes:
            return _append_runs(transaction, model.model, at, runs)

        try:
            head = backend.write(work)
        except LedgerError as error:
            add_progress(error, done.total(), f"entries of {name}")
            raise
        adjustments = sum(isinstance(run, Adjustment) for run in runs)
        done["adjustments"] += adjustments
        done["calls"] += through - seq - adjustments
        progress(through - seq)
        seq = through


def _runs(model: StagedModel, after: int, through: int) -> list[Adjustment | list[NewCall]]:
    """The entries in order: each adjustment, and the calls between two of them."""
    runs: list[Adjustment | list[NewCall]] = []
    due = [entry for entry in model.adjustments if after < entry.seq <= through]
    for entry in [*due, None]:
        end = through if entry is None else entry.seq - 1
        for rows, _ in model.calls(after, end):
            runs.append([NewCall(at, p, c, y, rid, text) for _, at, p, c, y, _, rid, text in rows])
        if entry is not None:
            runs.append(entry)
            after = entry.seq
    return runs


def _append_runs(
    transaction: Transaction,
    model: str,
    at: tuple[int, bytes | None],
    runs: Sequence[Adjustment | list[NewCall]],
) -> bytes:
    """Append in one transaction, if the model still stands where it stood; gives the head."""
    row = transaction.load(model)
    opened = None if row is None else OpenModel(transaction, model, row)
    if at != ((0, None) if opened is None else (opened.seq, opened.head)):
        raise NotRecordedError(
            f"the model {model!r} was written to while its import ran. Nothing of this "
            f"transaction was recorded: stop what writes to it."
        )
    for run in runs:
        if opened is None:
            assert isinstance(run, Adjustment)  # noqa: S101 - verified: entry 1 is an opening
            opened = OpenModel.create(transaction, model, run)
        elif isinstance(run, Adjustment):
            opened.append(run)
        else:
            opened.learn(run)
    assert opened is not None  # noqa: S101 - there is at least one entry to append
    opened.save()
    return opened.head
