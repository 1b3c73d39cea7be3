"""Archive: the one way in which a ledger shrinks.

The oldest entries of each model are written to a file, in the format of an export. The file is
read back from the disk and verified, as an import does. Then, in one transaction, an `archived`
entry replaces them, with the seq and head of the last of them and the state after it. So seq,
heads and audit go on, and importing the file brings the entries back. A kill at any moment leaves
every entry in the ledger, in the complete file, or in both.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from calibration_ledger.core.audit import ModelAudit
from calibration_ledger.core.entries import archived_digest
from calibration_ledger.core.validation import NOTE_LENGTH_MAX, check_time, time_from_us
from calibration_ledger.core.values import ArchivedModel, ArchiveReport, Obstacle
from calibration_ledger.errors import (
    ExportFailedError,
    ImportRefusedError,
    InvalidInputError,
    LedgerError,
    LedgerPermissionError,
    NotRecordedError,
    OutcomeUnknownError,
    damaged,
    shown,
)
from calibration_ledger.formats.ledger import HEADER, end_line, head_line
from calibration_ledger.formats.source import open_source, shown_name
from calibration_ledger.formats.target import check_target, open_target
from calibration_ledger.storage.stage import StagedEntries
from calibration_ledger.verbs.export import Written, entry_texts
from calibration_ledger.verbs.import_ledger import check_fold, feed, stage
from calibration_ledger.verbs.record import now_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.state import State
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Transaction


class _Part:
    """What is archived of one model: its entries up to `seq`.

    Attributes:
        history: its entries in the ledger.
        seq: the number of the last one to archive.
        head: the head behind it.
        state: the calibration behind it; both are known once the entries were folded.
    """

    def __init__(self, history: ModelHistory, seq: int) -> None:
        self.history = history
        self.model = history.model
        self.seq = seq
        self.calls = history.count_calls(0, seq)
        self.head = b""
        self.state: State | None = None

    def report(self) -> ArchivedModel:
        """What is told of it."""
        entries = self.seq - max(0, self.history.archived - 1)
        adjustments = entries - self.calls
        return ArchivedModel(self.model, self.calls, adjustments, self.seq, self.head.hex())


def archivable(ledger: Ledger, before: datetime, model: str | None) -> ArchiveReport:
    """See `AdaptiveCalibrator.archivable`."""
    parts, obstacles = _parts(ledger, check_time("before", before), model)
    return ArchiveReport("", tuple(part.report() for part in parts), obstacles=obstacles)


def archive(
    ledger: Ledger,
    before: datetime,
    target: str | os.PathLike[str],
    *,
    model: str | None,
    progress: Progress | None,
) -> ArchiveReport:
    """See `AdaptiveCalibrator.archive`."""
    time = check_time("before", before)
    if not isinstance(target, str | os.PathLike):
        raise InvalidInputError(f"an archive goes to a path, not {shown(target)}: name a file.")
    path, name = Path(target), shown_name(target)
    ledger.check_exists()  # before anything is created
    check_target(path, ledger.path, overwrite=None)
    parts, obstacles = _parts(ledger, time, model)
    if not parts:
        return ArchiveReport(name, obstacles=obstacles)
    _check_rights(ledger)
    bytes_before = ledger.size()
    with open_target(path, ledger.path, overwrite=None) as write:
        for text in _texts(ledger, parts, progress):
            write(text)
    _verify(path, parts, progress)
    _take_out(ledger, parts, path)
    trouble = ledger.shrink()
    archived = tuple(part.report() for part in parts)
    return ArchiveReport(name, archived, bytes_before, ledger.size(), trouble, obstacles)


def _parts(
    ledger: Ledger, time: int, model: str | None
) -> tuple[list[_Part], tuple[Obstacle, ...]]:
    """What each model has from before a time (us), if there is a call among it.

    And what keeps calls of before that time from being archived.
    """
    parts, obstacles = [], []
    for live in ledger.models(model):
        history = ledger.history(live)
        stop = history.first_from(time)
        part = _Part(history, stop - 1)
        if part.calls:
            parts.append(part)
        older = history.count_older(stop, time)
        if older:
            try:
                made_at = time_from_us(history.made_at(stop))
            except OverflowError as error:  # a flipped bit made it a time that no clock shows
                raise damaged(live.model, f"entry {stop} cannot be read ({error})") from error
            obstacles.append(Obstacle(live.model, stop, made_at, older))
    return parts, tuple(obstacles)


def _check_rights(ledger: Ledger) -> None:
    """Find out before the long work whether this user may delete entries at its end."""

    def work(transaction: Transaction) -> None:
        transaction.check_revision()
        transaction.remove_through(0, 0)  # of no model, and no entry

    try:
        ledger.write(work)
    except LedgerPermissionError as error:
        if ledger.path is None:
            error.advice = "archiving takes DELETE on the tables of history: ask for that grant"
        raise


# -- the file -------------------------------------------------------------------------------


def _texts(ledger: Ledger, parts: Sequence[_Part], progress: Progress | None) -> Iterator[str]:
    """The lines of the file; each model is audited on the way, up to its newest entry.

    Raises:
        LedgerCorruptError: an entry does not follow from those before it.
    """
    written = Written(progress)
    yield HEADER + "\n"
    for part in parts:
        live = part.history.live
        fold = ModelAudit(part.model, part.history.adjustments)
        yield from entry_texts(ledger, part.history, part.seq, written, fold)
        if fold.state is not None and fold.head is not None and not fold.findings:
            part.state, part.head = fold.state.copy(), fold.head
            feed(fold, part.history, live.last_seq)
        for finding in fold.finish(live.snapshot, live.last_seq, live.head, live.last_seq):
            raise damaged(part.model, f"the history does not explain itself ({finding})")
        yield head_line(part.model, part.seq, part.head) + "\n"
    yield end_line(len(parts), written.calls + written.adjustments) + "\n"


def _verify(path: Path, parts: Sequence[_Part], progress: Progress | None) -> None:
    """Read the file back, from the disk where that can be, and fold it as an import would.

    Raises:
        ExportFailedError: it is not what was to be archived. It is removed.
    """
    report = progress or (lambda _: None)
    try:
        _sync(path)
        with StagedEntries() as staged, open_source(path, None) as file:
            stage(file, staged, report)
            for part, model in zip(parts, staged.models(), strict=True):
                fold = ModelAudit(model.model, model.adjustments)
                feed(fold, model, model.last_seq)
                check_fold(fold, model, file)
                found = (model.model, model.last_seq, fold.head)
                is_same = found == (part.model, part.seq, part.head)
                if not is_same or not _same(fold.state, part.state):
                    raise ValueError(f"{model.model}: another history")  # noqa: TRY301 - told below
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError | ValueError | ImportRefusedError):
            raise ExportFailedError(
                f"{shown_name(path)} does not read back as it was written ({error}). It was "
                f"removed, and nothing was taken out of the ledger: name another place."
            ) from error
        raise


def _same(found: State | None, written: State | None) -> bool:
    return found is not None and written is not None and found.same_as(written)


def _sync(path: Path) -> None:
    """Let the file be read from the disk, and wait until its name is there, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


# -- the ledger -----------------------------------------------------------------------------


def _take_out(ledger: Ledger, parts: Sequence[_Part], path: Path) -> None:
    """Replace what is in the file by archived entries, in one transaction."""
    note, now = f"to {shown_name(path.name)}"[:NOTE_LENGTH_MAX], now_us()

    def work(transaction: Transaction) -> None:
        for part in parts:  # sorted by model: models are locked in one order everywhere
            _replace(transaction, part, note, now)

    try:
        ledger.write(work)
    except LedgerError as error:
        whole = f"the archive {shown_name(path)} is complete"
        if isinstance(error, OutcomeUnknownError):
            error.stayed = f"{whole}. Its entries may not be in the ledger any more"
            error.advice = f"keep the archive, and look with `{ledger.command('audit')}`"
        else:
            error.stayed = f"{whole} and may be deleted, for nothing was taken out of the ledger"
        raise


def _replace(transaction: Transaction, part: _Part, note: str, now: int) -> None:
    live = transaction.own(part.model)
    if live is None or transaction.first_adjustment(live.model_id) != part.history.beginning:
        raise NotRecordedError(
            f"other entries of the model {part.model!r} were archived, or brought back, meanwhile",
            advice="try again",
        )
    assert part.state is not None  # noqa: S101 - it was folded
    entry = part.state.adjustment(part.seq, "archived", now, note)
    entry = entry._replace(archived_head=part.head, archived_through=live.last_seq)
    entry = entry._replace(archived_digest=archived_digest(part.model, entry))
    transaction.remove_through(live.model_id, part.seq)
    transaction.add_adjustment(live.model_id, entry)
    transaction.settle_voided(part.model, live.model_id)
