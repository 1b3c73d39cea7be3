"""The half of the front door that looks at the whole history: calls, replay, audit, moving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger import auditing, listing, replaying, suggesting, sweeping, voiding
from calibration_ledger.moving import MovingMethods
from calibration_ledger.new_calls import checked_call
from calibration_ledger.sweep import WARM_UP
from calibration_ledger.writing import record_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from calibration_ledger.naming import Seqs
    from calibration_ledger.replay import Progress
    from calibration_ledger.values import Call, Finding, Head, Replay, Suggestion, Sweep, Voiding


class HistoryMethods(MovingMethods):
    """The methods of `AdaptiveCalibrator` that need nothing but the ledger."""

    def check_exists(self) -> None:
        """Refuse to go on where there is no ledger yet.

        `audit`, `replay`, `recalibrate`, `backup` and `export_ledger` do, because nothing found
        in a ledger that is not there would look like all being well. `calls`, `heads`,
        `all_stats` and predictions take it for an empty one, which the first write makes. A
        ledger in memory is there from the start.

        Raises:
            LedgerNotFoundError: there is none. None was made.
        """
        self._backend.read(self._backend.sql.revision)

    def record_once(self, call: Call) -> tuple[float, bool]:
        """Record a call as `record` does, and say whether it is new.

        Returns:
            The error in ms, and whether the call was added: False where its request id was there
            already, with the same numbers.

        Raises:
            As `record` does.
        """
        model, new = checked_call(call)
        return record_once(self._backend, self._opening, model, new)

    def calls(
        self,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
    ) -> Iterator[Call]:
        """The calls as they were recorded, by model, then seq; read in pages.

        A ledger that is not there yet has none.

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
            rule: the rule to try, such as `kalman`; None: each model's live one.
            model: only this one.
            since: score only calls made at this time or later.
            until: score only calls made before this time. All calls up to the last scored one
                are learnt, whatever their time.
            progress: called with the number of calls done since the last time.

        Returns:
            One `Replay` for each model, sorted by model.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
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

        One transaction for each model, and none before all are replayed: one that cannot be
        leaves all as they were. A model that would not change gets no entry.

        Returns:
            The replays that were adopted, one for each model, sorted by model.

        Raises:
            As for `replay` and for `record`.
        """
        return replaying.recalibrate(self._backend, alpha, rule, model, progress=progress)

    def void(
        self,
        model: str | None,
        *,
        seq: Seqs | None = None,
        request_id: str | Iterable[str] | None = None,
        import_id: str | Iterable[str] | None = None,
        note: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> list[Voiding]:
        """Void entries: rebuild the live calibration as if they had never been.

        They stay in the history, and `calls` marks them; nothing learns from them any more. A
        `voided` entry says which they are. It can be voided itself: then they count again. One
        transaction for each model.

        Args:
            model: the model's name; None, for an import alone: every model that it brought calls.
            seq: an entry, a pair of the first and last of several, or a list of these. Among them
                may be a reset or recalibration, which is undone, but not the first entry.
            request_id: the request id of a call, or several.
            import_id: what an import of calls reported as its `import_id`, or several.
            note: why, to be kept with the entry.
            dry_run: only say what would change.
            progress: called with the number of calls replayed since the last time.

        Returns:
            One `Voiding` for each model, sorted by model.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            NoSuchEntryError: something is named that is not there.
            InvalidInputError: an argument is not what it must be, or an entry cannot be voided.
            HistoryArchivedError: what is named was archived: bring it back first.
            LedgerError: as for `record`.
        """
        return voiding.void(
            self._backend,
            model,
            seq=seq,
            request_id=request_id,
            import_id=import_id,
            note=note,
            dry_run=dry_run,
            progress=progress,
        )

    def heads(self) -> list[Head]:
        """Today's running digest of every model, to note down and audit against later.

        A ledger that is not there yet has none.
        """
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
                Those of archived entries are not looked at, but for the newest.
            progress: called with the number of calls done since the last time.

        Raises:
            LedgerNotFoundError: there is no ledger yet: a name mistyped, or a ledger that is gone.
            ModelNotFoundError: the ledger has no entry of this model.
        """
        return auditing.audit(self._backend, model, heads=heads, progress=progress)
