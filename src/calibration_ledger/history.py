"""The half of the front door that looks at the whole history: calls, replay, audit, moving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger import auditing, listing, replaying, suggesting, sweeping
from calibration_ledger.sweep import WARM_UP

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path
    from typing import TextIO

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.facts import Diagnosis
    from calibration_ledger.interchange.reports import ExportReport, ImportReport
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.values import Call, Finding, Head, Replay, Suggestion, Sweep


class HistoryMethods:
    """The methods of `AdaptiveCalibrator` that need nothing but the ledger."""

    _backend: Backend

    def check_exists(self) -> None:
        """Refuse to go on where there is no ledger yet; other reading methods find it empty.

        Raises:
            LedgerNotFoundError: there is none. None was made.
        """
        self._backend.read(self._backend.sql.revision)

    def _opening(self, model: str) -> Adjustment:
        """The first entry of a model that has no history yet."""
        raise NotImplementedError

    def calls(
        self,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
    ) -> Iterator[Call]:
        """The calls as they were recorded, by model, then seq; read in pages.

        Args:
            model: only this one's.
            since: only calls made at this time or later.
            until: only calls made before this time.
            last: only this many of each model's newest.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
        """
        return listing.iterate_calls(self._backend, model, since=since, until=until, last=last)

    def replay(
        self,
        alpha: float | None = None,
        rule: str | None = None,
        *,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Progress | None = None,
    ) -> list[Replay]:
        """Fold the history again under another alpha or rule; changes nothing.

        Args:
            alpha: the speed to try; None: each model's live one, or the rule's own default where
                the rule is another.
            rule: the rule to try, `ema` or `kalman`; None: each model's live one.
            model: only this one.
            since: score only calls made at this time or later.
            until: score only calls made before this time. All calls up to the last scored one
                are learnt, whatever their time.
            progress: called with the number of calls done since the last time.

        Returns:
            One `Replay` for each model, sorted by model.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            NotFiniteError: a calibration would not stay finite under this alpha.
            InvalidInputError: an argument is not what it must be.
        """
        return replaying.replay(
            self._backend, alpha, rule, model, since=since, until=until, progress=progress
        )

    def sweep(
        self,
        alphas: Iterable[float] | None = None,
        rules: Iterable[str] | str | None = None,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        warm_up: int = WARM_UP,
        progress: Progress | None = None,
    ) -> list[Sweep]:
        """Replay under every rule with every alpha, and rank them; changes nothing.

        Args:
            alphas: the alphas to try; None: eleven from 0.001 to 0.5.
            rules: the rules to try, or one; None: all.
            model: only this one.
            since: score only calls made at this time or later; see `replay`.
            until: score only calls made before this time.
            warm_up: how many of each model's first calls are learnt but not scored.
            progress: called with the number of calls done since the last time.

        Returns:
            One `Sweep` for each model, sorted by model, and behind them, where there are several,
            one of all together (`.model` is None).

        Raises:
            As for `replay`; but a rule and alpha that would not stay finite is only scored last.
        """
        return sweeping.sweep(
            self._backend,
            alphas,
            rules,
            model,
            since=since,
            until=until,
            warm_up=warm_up,
            progress=progress,
        )

    def suggest(self, model: str | None = None) -> list[Suggestion]:
        """Where another rule or alpha would have predicted the newest calls clearly better.

        A quick look at 2,000 calls of a model at most; `sweep` knows for sure.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
        """
        return suggesting.suggest(self._backend, model)

    def recalibrate(
        self,
        alpha: float | None = None,
        rule: str | None = None,
        *,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> list[Replay]:
        """Adopt a rule and alpha: rebuild the live calibration by replay, as an adjustment.

        One transaction for each model. A model that would not change gets no entry.

        Returns:
            The replays that were adopted, one for each model, sorted by model.

        Raises:
            As for `replay` and for `record`.
        """
        return replaying.recalibrate(self._backend, alpha, rule, model, progress=progress)

    def heads(self) -> list[Head]:
        """Today's running digest of every model, to note down and audit against later."""
        return auditing.heads(self._backend)

    def audit(
        self,
        model: str | None = None,
        *,
        heads: Iterable[Head | tuple[str, int, str]] | None = None,
        progress: Progress | None = None,
    ) -> list[Finding]:
        """Check that history explains the calibrations, to the bit; empty when all is well.

        Args:
            model: only this one.
            heads: what `heads()` gave earlier: finds a past that was rewritten consistently.
            progress: called with the number of calls done since the last time.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
        """
        return auditing.audit(self._backend, model, heads=heads, progress=progress)

    # -- moving -----------------------------------------------------------------------------

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

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Write a consistent copy of the ledger while others go on writing; gives its path.

        Raises:
            InvalidInputError: there is something at that path already.
            LedgerNotFoundError: there is no ledger yet.
        """
        return self._backend.backup(copy)
