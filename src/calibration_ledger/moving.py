"""The part of the front door that moves ledgers: files, backups, archives, and the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger import auditing
from calibration_ledger.validation import check_path

if TYPE_CHECKING:
    import os
    from datetime import datetime
    from pathlib import Path
    from typing import TextIO

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.facts import Diagnosis
    from calibration_ledger.interchange.reports import ArchiveReport, ExportReport, ImportReport
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.values import Head


class MovingMethods:
    """The methods of `AdaptiveCalibrator` that move what is in it, whole."""

    _backend: Backend

    def _opening(self, model: str) -> Adjustment:
        """The first entry of a model that has no history yet."""
        raise NotImplementedError

    def import_calls(
        self,
        kind: str,
        source: str | os.PathLike[str] | TextIO | None = None,
        *,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Take a file in: what `calib import KIND FILE` does.

        The file is checked whole before anything of it is recorded; then it is recorded in
        transactions of at most 1,000 entries (`state`: in one). Should that be cut short, the
        same import completes it: no call is added twice. The formats are in the README.

        Args:
            kind: `jsonl` or `csv`: calls, a row each; `ledger`: what `export_ledger("jsonl", ...)`
                wrote; `state`: the predecessor's JSON.
            source: a path, or an open text file; None, for `state` only: the predecessor's place,
                `~/.nexus/calibrator_state.json`.
            skip_bad: leave bad rows out and count them, instead of refusing the file; for `jsonl`
                and `csv` only.
            progress: called with the number of steps done since the last time: a step for each
                line that was read, and one for each entry that was recorded.

        Raises:
            ImportRefusedError: the file is not what it should be, and nothing was recorded.
            InvalidInputError: an argument is not what it must be.
            LedgerError: as for `record`; calls of earlier transactions stay.
        """
        from calibration_ledger.interchange import import_calls

        return import_calls(
            self._backend, self._opening, kind, source, skip_bad=skip_bad, progress=progress
        )

    def export_ledger(
        self,
        kind: str,
        target: str | os.PathLike[str] | TextIO,
        *,
        model: str | None = None,
        overwrite: bool = False,
        salvage: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write the ledger to a file: what `calib export KIND FILE` does.

        Args:
            kind: `jsonl`: every entry with the heads, for `import_calls("ledger", ...)`; `csv`:
                the calls alone.
            target: a path, or an open text file. A path bears the name only once it is complete.
            model: only this one.
            overwrite: replace a file that is at the path already, instead of refusing.
            salvage: of a damaged ledger, write the calls that can still be read (with `jsonl`
                too: for `import_calls("jsonl", ...)`); the report, a `SalvageReport`, has
                what is lost.
            progress: called with the number of entries written since the last time.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            LedgerNotFoundError: there is no ledger yet.
            InvalidInputError: there is something at the path already, or it cannot be written to.
        """
        from calibration_ledger.interchange import export_ledger

        return export_ledger(
            self._backend,
            kind,
            target,
            model=model,
            overwrite=overwrite,
            salvage=salvage,
            progress=progress,
        )

    def doctor(self) -> Diagnosis:
        """Say how the ledger is and what needs action: what `calib doctor` does.

        Changes nothing. Of a ledger that the constructor refuses, `calib doctor` tells as well.

        Returns:
            A `Diagnosis`: `.facts`, `.advice` with the urgent first, and `.needs_action`.
        """
        from calibration_ledger.doctoring import doctor

        return doctor(self._backend)

    def archivable(self, before: datetime, *, model: str | None = None) -> ArchiveReport:
        """What `archive` would take out of the ledger. Changes nothing, and reads little.

        Returns:
            An `ArchiveReport` without a file; the heads in it are empty.

        Raises:
            As for `archive`.
        """
        from calibration_ledger.interchange.archiving import archivable

        return archivable(self._backend, before, model)

    def archive(
        self,
        before: datetime,
        target: str | os.PathLike[str],
        *,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> ArchiveReport:
        """Move the oldest entries to a file: the one way in which a ledger shrinks.

        The entries of each model up to the first that was made at `before` or later go (the time
        of its opening does not count), where there is a call among them. They are written to a
        file, which is read back and verified; then, in one transaction, an `archived` entry takes
        their place, with the state behind them. Predictions, `seq`, `heads()` and the audit go on;
        replays begin with that state. At last a file of SQLite's gives their space back.

        `import_calls("ledger", target)` brings them back, the newest archive first. Until then the
        ledger has forgotten their request ids: one that is recorded again is a new call. Heads
        noted earlier of entries that are archived cannot be audited here any more.

        Args:
            before: a time, with its zone.
            target: a path at which nothing is; compressed if it ends in `.gz`.
            model: only this one.
            progress: called with the number of steps done since the last time: a step for each
                entry that was written, and one for each call that was read back.

        Returns:
            An `ArchiveReport`; without models where there was nothing to archive, and no file was
            made.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            LedgerNotFoundError: there is no ledger yet.
            InvalidInputError: an argument is not what it must be, or the path is taken.
            ExportFailedError: the file could not be written, or does not read back as it was.
            LedgerCorruptError: the history does not explain itself; see `audit`.
            LedgerError: as for `record`; the error says whether the file stays.
        """
        from calibration_ledger.interchange.archiving import archive

        return archive(self._backend, before, target, model=model, progress=progress)

    def archived(self) -> list[Head]:
        """The newest archived entry, and the head behind it, of each model that has one.

        The entries up to there are in archives; see `archive`.
        """
        return auditing.archived(self._backend)

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Write a consistent copy of the ledger while others go on writing; gives its path.

        Raises:
            InvalidInputError: it is no path, or there is something at it already.
            LedgerNotFoundError: there is no ledger yet.
        """
        return self._backend.backup(check_path("copy", copy))
