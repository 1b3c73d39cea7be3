"""A ledger file held against itself, by the fold that audits a ledger.

Sequence, openings, predictions, recalibrations, archived entries and heads: what an import takes
in, and what an archive was found to be before anything is taken out of the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from calibration_ledger.entries import Adjustment
from calibration_ledger.interchange.ledger_file import LedgerReader, ModelEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from calibration_ledger.audit import ModelAudit
    from calibration_ledger.entries import CallRow
    from calibration_ledger.interchange.lines import Source
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.staging import StagedEntries, StagedModel

BATCH = 1_000
"""Calls that are staged at once, and entries to a transaction of an import."""


class History(Protocol):
    """What `reads.ModelHistory` and `StagedModel` have in common."""

    adjustments: list[Adjustment]

    def calls(self, after: int, through: int) -> Iterator[tuple[list[CallRow], list[Any]]]:
        """Pages of calls with after < seq <= through."""


def stage(file: Source, staged: StagedEntries, progress: Progress) -> int:
    """Stage the whole file; gives how many calls it holds."""
    number = calls = 0
    batch: list[tuple[int, int, CallRow]] = []
    for line, model, item in LedgerReader(file).items():
        if isinstance(item, ModelEnd):
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


def feed(fold: ModelAudit, history: History, through: int) -> None:
    """Fold the entries up to one."""
    due = [entry for entry in history.adjustments if fold.seq < entry.seq <= through]
    for entry in [*due, None]:
        end = through if entry is None else entry.seq - 1
        for rows, _ in history.calls(fold.seq, end):
            fold.calls(rows)
        if entry is not None:
            fold.adjust(entry)


def check_fold(fold: ModelAudit, model: StagedModel, file: Source) -> None:
    """Refuse a file whose entries of a model do not explain themselves, or its head.

    Raises:
        ImportRefusedError: they do not.
    """
    advice = "Nothing was recorded: export the ledger again, and audit the one it came from."
    for finding in fold.close():
        file.refuse(model.line_of(finding.seq), f"{finding}. {advice}")
    if fold.head != model.head:
        file.refuse(
            model.head_line,
            f"{model.model}: this is not the head of the entries above. {advice}",
        )
