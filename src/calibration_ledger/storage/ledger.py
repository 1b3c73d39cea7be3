"""`Ledger`: all that the verbs know of a ledger, whatever database it lies in.

Reads come in bounded pages: no reader holds a transaction while other code runs.

Entries never change, so pages fit together, whatever others append. But between two pages the
beginning may be archived, or brought back. The next page then lacks calls; the gap is noticed, and
the reader gets an error and starts over.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.command import calib
from calibration_ledger.core.entries import (
    ADJUSTMENT_TYPES,
    SNAPSHOT_TYPES,
    Adjustment,
    Snapshot,
    is_typed,
)
from calibration_ledger.core.events import Events
from calibration_ledger.core.history import (
    Page,
    covers,
    covers_any,
    end_of,
    left_of,
    start_of,
    voided_ranges,
)
from calibration_ledger.core.settings import Settings
from calibration_ledger.core.validation import TIME_LIMIT_US, check_model, request_key
from calibration_ledger.core.visible import bare
from calibration_ledger.errors import (
    HistoryArchivedError,
    LedgerError,
    LedgerNotFoundError,
    ModelNotFoundError,
    damage_told,
    damaged,
    did_you_mean,
)
from calibration_ledger.storage.backend import OpenSource
from calibration_ledger.storage.sqlite.copies import shrink, size_of
from calibration_ledger.storage.transaction import (
    ALIAS_SEQ,
    PAGE,
    Known,
    Stored,
    Voidings,
    events_of,
    known_calls,
    learnt_columns,
    newest_of,
    settings_of,
    through_alias,
    voidings_of,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from calibration_ledger.core.entries import Setting
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.core.replay import Columns, Window
    from calibration_ledger.storage.backend import Backend, Result, Source
    from calibration_ledger.storage.transaction import Transaction


_STORED_TYPES = (str, int, *SNAPSHOT_TYPES, int, bytes, (int, type(None)))


def stored(row: Any, model: str) -> Stored:
    """The value of a row `(model_id, *snapshot, last_seq, head, alias_seq)`.

    Raises:
        LedgerCorruptError: a value is of another type than its column's.
    """
    model_id, *snapshot, last_seq, head, alias_seq = row
    if not is_typed((model, *row), _STORED_TYPES):
        raise damaged(model, "the calibration holds a value of another type")
    return Stored(model_id, model, Snapshot(*snapshot), last_seq, head, alias_seq)


_MODELS_ASKED = 8
_MOST = 2**31 - 1
"""The largest number that both databases take for how many rows are wanted."""


class Ledger:
    """A ledger, in the words of the verbs: SQL and databases end here.

    Attributes:
        backend: the database that it lies in; for the storage alone.
        place: where it lies.
        shown: where it lies, as it may be shown.
        path: where it lies, if that is a file.
        write: runs `work(transaction, *arguments)` in one transaction; see `Backend.write`. The
            backend's own method, for a call between would be noticed in `record()`.
    """

    def __init__(self, backend: Backend) -> None:
        """Speak to this database."""
        self.backend = backend
        self.write = backend.write
        self.place = backend.place
        self.shown = self.place.shown
        self.path = self.place.path

    def close(self) -> None:
        """Close every connection."""
        self.backend.close()

    def command(self, *words: str, names: Sequence[str] = ()) -> str:
        """A `calib` command on this ledger."""
        return calib(*words, names=names, ledger=self.shown)

    # -- is it there? -----------------------------------------------------------------------

    def check_exists(self) -> None:
        """Refuse to go on where there is no ledger.

        Raises:
            LedgerNotFoundError: there is none.
        """
        self.backend.read(self.backend.sql.revision)

    def exists(self) -> bool:
        """Whether there is a ledger yet."""
        try:
            self.check_exists()
        except LedgerNotFoundError:
            return False
        except LedgerError:
            pass  # the write will tell what is the matter, and that nothing was recorded
        return True

    # -- models -----------------------------------------------------------------------------

    def coefficients(self, model: str) -> tuple[str, tuple[float, float, float] | None, int]:
        """The model that a name stands for, its coefficients, and from how many calls.

        Of one never seen, the coefficients are None. A shorter `find`, because `predict()` waits
        for it.
        """
        try:
            rows = self.backend.find(model)
            row = rows[0] if rows else None
            if row is None or row[ALIAS_SEQ] is not None:
                model, row = through_alias(model, row, self._row, self.alias_of)
        except LedgerNotFoundError:
            return model, None, 0
        if row is None:
            return model, None, 0
        _, _, _, prompt, completion, base, _, _, sample_count, _, _, _, _, _ = row
        return model, (prompt, completion, base), sample_count

    def _row(self, model: str) -> Any:
        rows = self.backend.find(model)
        return rows[0] if rows else None

    def find(self, model: str) -> Stored | None:
        """The calibration of the model that a name stands for.

        None for one never seen, also where there is no ledger.

        Raises:
            LedgerCorruptError: it holds a value of another type.
        """
        try:
            model, row = through_alias(model, self._row(model), self._row, self.alias_of)
        except LedgerNotFoundError:
            return None
        return None if row is None else stored(row, model)

    def own(self, model: str) -> Stored | None:
        """The same of the model that is called so itself, whatever the name stands for."""
        try:
            row = self._row(model)
        except LedgerNotFoundError:
            return None
        return None if row is None else stored(row, model)

    def again(self, live: Stored) -> Stored:
        """The calibration of the same model as it is now.

        Raises:
            ModelNotFoundError: it is gone: the ledger was replaced.
        """
        return self.own(live.model) or self.models(live.model, must_exist=True)[0]

    def models(
        self, model: str | None = None, *, must_exist: bool = False, with_aliases: bool = False
    ) -> list[Stored]:
        """The calibrations of the model that a name stands for, or of all, sorted by model.

        Where there is no ledger there are none, unless it `must_exist`. A history whose name stands
        for another model is not among all, unless `with_aliases`.

        Raises:
            ModelNotFoundError: the one model has no entry.
            LedgerNotFoundError: there is no ledger, though it must exist.
            LedgerCorruptError: one holds a value of another type.
        """
        if model is None:
            try:
                rows = self.backend.read(self.backend.sql.list_calibrations)
            except LedgerNotFoundError:
                if must_exist:
                    raise
                return []
            # Sorted here: databases sort texts each in their own way.
            found = [stored(row, name) for *row, name in rows]
            counted = [live for live in found if with_aliases or live.alias_seq is None]
            return sorted(counted, key=lambda live: live.model)
        live = self.find(check_model(model))
        if live is not None:
            return [live]
        if must_exist:
            self.check_exists()
        raise ModelNotFoundError(
            f"the ledger {self.shown} has no entry of a model {model!r}: "
            f"{self._meant(model)}`{self.command('stats')}` lists those it has."
        )

    def _meant(self, model: str) -> str:
        """The question whether another model or alias was meant, with a blank behind it."""
        names = [*self.names(), *self.aliases()]
        seen = bare(model)
        alike = next((name for name in names if bare(name) == seen), None)
        if alike is None:
            return did_you_mean(model, names)
        differs = "in upper and lower case"
        if alike.casefold() != model.casefold():
            differs = "in blanks or in what is not shown"
        return f"did you mean {alike!r}, which differs only {differs}? "

    def names(self) -> list[str]:
        """The names of all models, as far as they can be read."""
        try:
            rows = self.backend.read(self.backend.sql.list_names)
        except LedgerNotFoundError:
            return []
        return [name for (name,) in rows if isinstance(name, str)]

    # -- settings, and other names of models ------------------------------------------------

    def alias_of(self, name: str) -> str | None:
        """The model that a name stands for; None where it is no alias, or there is no ledger."""
        try:
            rows = self.backend.read(self.backend.sql.alias, (name,))
        except LedgerNotFoundError:
            return None
        return rows[0][0] if rows else None

    def name_of(self, name: str) -> str:
        """The model that a name stands for: itself where it is no alias."""
        return self.alias_of(name) or name

    def aliases(self) -> dict[str, str]:
        """Every name that stands for a model now, with that model."""
        return {
            name: entry.model
            for name, entry in self.settings().names().items()
            if entry.model is not None
        }

    def settings(self) -> Settings:
        """The settings as they are stored; where there is no ledger there are none."""
        try:
            return settings_of(self.backend.read(self.backend.sql.settings))
        except LedgerNotFoundError:
            return Settings()

    def newest_setting(self) -> Setting | None:
        """The newest setting, which holds; None for none.

        Raises:
            LedgerCorruptError: it is not what a program of ours wrote.
        """
        try:
            return newest_of(self.backend.read(self.backend.sql.newest_setting))
        except LedgerNotFoundError:
            return None

    # -- what happened ----------------------------------------------------------------------

    def events(self) -> Events:
        """The events as they are stored; where there is no ledger there are none."""
        try:
            return events_of(self.backend.read(self.backend.sql.events))
        except LedgerNotFoundError:
            return Events()

    def adjustments(self, live: Stored | None = None) -> list[tuple[str, Adjustment]]:
        """The adjustments of a model, or of all but for openings, each with the model's name.

        Raises:
            LedgerCorruptError: one holds a value of another type.
        """
        read, sql = self.backend.read, self.backend.sql
        if live is not None:
            rows = [(*row, live.model) for row in read(sql.adjustments, (live.model_id,))]
        else:
            try:
                rows = read(sql.all_adjustments)
            except LedgerNotFoundError:
                rows = []
        return [(model, _typed(model, Adjustment(*values))) for *values, model in rows]

    # -- histories --------------------------------------------------------------------------

    def history(self, live: Stored) -> ModelHistory:
        """A model's entries up to this calibration."""
        return ModelHistory(self.backend, live)

    def history_in(self, transaction: Transaction, live: Stored) -> ModelHistory:
        """The same, read inside of a transaction: nothing can come between."""
        return ModelHistory(OpenSource(self.place, self.backend.sql, transaction.ask), live)

    def whole(self, live: Stored, work: Callable[[ModelHistory], Result]) -> Result:
        """What `work` makes of a model's history.

        Should the beginning be archived or brought back meanwhile, the model is read again and
        `work` begins anew, so it must have no other effects.
        """
        while True:
            try:
                return work(self.history(live))
            except HistoryArchivedError as error:
                if not error.is_passing:
                    raise
                live = self.again(live)

    def beginning(self, live: Stored) -> Adjustment | None:
        """The first entry that there is of a model."""
        return first_adjustment(self.backend, live)

    def ends(self, model_id: int) -> tuple[int, int, int]:
        """`last_seq`, the lowest seq of any call and the highest of any entry, of one moment."""
        rows = self.backend.read(self.backend.sql.ends, (model_id,) * 4)
        if not rows:
            return (0, 1, 0)
        for seq in rows[0]:
            if not isinstance(seq, int | None):
                raise TypeError(f"the number of an entry is {seq!r}")
        last_seq, oldest_call, newest_call, newest_adjustment = rows[0]
        lowest = 1 if oldest_call is None else oldest_call
        return last_seq, lowest, max(newest_call or 0, newest_adjustment or 0)

    def recent(self, live: Stored, after: int) -> list[Any]:
        """The calls behind an entry, the newest first, as rows like `ModelHistory.newest`.

        Voided ones and time-outs are among them. Where there are fewer than entries, some entries
        are no calls.
        """
        parameters = (live.model_id, after, live.last_seq, live.last_seq - after)
        return self.backend.read(self.backend.sql.newest_calls, parameters)

    # -- calls of several models, by time -------------------------------------------------

    def newest_of_all(
        self, lives: Sequence[Stored], n: int, window: Window
    ) -> Iterator[tuple[Stored, int, int]]:
        """The newest calls of these models by time: the model, `seq` and `called_at` (us).

        At most `n` of them, in any order. No index says which they are, so that all times are
        looked at, of a million calls in a tenth of a second.
        """
        found: list[tuple[int, int, int]] = []
        least = self._nth_time(lives, n, window)
        for first, last in self._ranges(lives):
            parameters = (first, last, *_bounds(window, least), min(n, _MOST))
            found += self.backend.read(self.backend.sql.newest_of_all, parameters)
        by_id = {live.model_id: live for live in lives}
        found.sort(key=lambda row: (-row[2], row[0], -row[1]))
        for model_id, seq, at in found[:n]:
            live = by_id.get(model_id)
            if live is not None and seq <= live.last_seq:  # not recorded since
                yield live, seq, at

    def _nth_time(self, lives: Sequence[Stored], n: int, window: Window) -> int:
        """A time (us) not before which there are `n` calls, so that the search keeps few; or 0.

        Some of the models called last are asked for their newest by seq: most calls come in the
        order of time.
        """
        times: list[int] = []
        for live in sorted(lives, key=lambda live: -live.snapshot.updated_at)[:_MODELS_ASKED]:
            parameters = (live.model_id, 0, live.last_seq, min(n, PAGE))
            rows = self.backend.read(self.backend.sql.newest_calls, parameters)
            times += [row[1] for row in rows]
        times = [at for at, held in zip(times, window.holds(times), strict=True) if held]
        return sorted(times)[-n] if len(times) >= n else 0

    def stretches(
        self, lives: Sequence[Stored], size: int, window: Window
    ) -> Iterator[tuple[Stored, int, int, int]]:
        """The calls of these models in stretches of at most so many entries, in any order.

        Of each the model, the first and the last seq, and when its oldest call was made (us).
        """
        by_id = {live.model_id: live for live in lives}
        for first, last in self._ranges(lives):
            parameters = (first, last, *_bounds(window), size)
            for model_id, *stretch in self.backend.read(self.backend.sql.stretches, parameters):
                live = by_id.get(model_id)
                if live is not None and stretch[0] <= live.last_seq:
                    yield live, stretch[0], min(stretch[1], live.last_seq), stretch[2]

    def _ranges(self, lives: Sequence[Stored]) -> Iterator[tuple[int, int]]:
        """The ids of these models as ranges; of one model, or of all that are no other's."""
        ids = sorted(live.model_id for live in lives)
        if len(ids) > 1:
            others = {live.model_id for live in self.models(with_aliases=True)}.difference(ids)
            yield from _id_ranges(ids, others)
        elif ids:
            yield ids[0], ids[0]

    def all_seqs(self) -> tuple[Any, ...]:
        """What is another whenever a model got an entry, and otherwise the same."""
        return tuple(self.backend.read(self.backend.sql.all_seqs)[0])

    # -- request ids ------------------------------------------------------------------------

    def call_of(self, model_id: int, request_id: str) -> int | None:
        """The seq of the call with this request id; None for none.

        Of several, that of the one that counts; of voided ones alone, the newest.
        """
        key = request_key(request_id)
        known = self.calls_of(model_id, [key]).get(key)
        return None if known is None else known.seq

    def calls_of(self, model_id: int, request_keys: Sequence[bytes]) -> dict[bytes, Known]:
        """Which of these the model has; of each, the call that `call_of` gives."""
        found = known_calls(self.backend.read, self.backend.sql, model_id, request_keys)
        return {key: calls[0] for key, calls in found.items()}

    def voidings(self, model_id: int) -> Voidings:
        """Which entries of a model are voided, as stored and as they should be, of one moment.

        Raises:
            TypeError: a `voided` entry names no entries.
        """
        return voidings_of(self.backend.read(self.backend.sql.voidings, (model_id, model_id)))

    def repeated_requests(self, model_id: int) -> list[tuple[Any, ...]]:
        """Request ids that several calls of a model have that count: (id, first seq, last seq)."""
        rows = self.backend.read(self.backend.sql.repeated_requests, (model_id,) * 3)
        return [tuple(row) for row in rows]

    # -- the whole of it --------------------------------------------------------------------

    def check_engine(self) -> list[str]:
        """What is wrong with the database itself; empty where all is well."""
        return self.backend.check_engine()

    def foreign_rows(self) -> ForeignRows:
        """Look in the whole ledger for rows that belong to nothing."""
        read, sql = self.backend.read, self.backend.sql
        return ForeignRows(
            [tuple(row) for row in read(sql.unknown_models)],
            [tuple(row) for row in read(sql.unknown_calls)],
            [tuple(row) for row in read(sql.uncalibrated_models)],
        )

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Write a consistent copy while others go on writing; gives its path."""
        return self.backend.backup(copy)

    def size(self) -> int | None:
        """The bytes that it takes on disk, if it is a file."""
        return size_of(self.place)

    def shrink(self) -> str | None:
        """Give back the space that removed entries leave; says why where that cannot be."""
        return shrink(self.place)


def _id_ranges(ids: Sequence[int], left_out: Iterable[int]) -> Iterator[tuple[int, int]]:
    """The ids from the first to the last in as many ranges as there is something left out."""
    first, last = ids[0], ids[-1]
    for one in sorted(left_out):
        if first < one < last:
            yield first, one - 1
            first = one + 1
    yield first, last


def _bounds(window: Window, least: int = 0) -> tuple[int, int]:
    """The first time in a window and the first behind it, in microseconds."""
    since = 0 if window.since is None else window.since
    return max(since, least), TIME_LIMIT_US if window.until is None else window.until


def _typed(model: str, entry: Adjustment) -> Adjustment:
    if not is_typed(entry, ADJUSTMENT_TYPES):
        raise damaged(model, f"adjustment {entry.seq!r} holds a value of another type")
    return entry


class ModelHistory:
    """One model's entries up to the moment when its calibration was read.

    Every later read raises `HistoryArchivedError` if the beginning has changed since.

    Attributes:
        live: the calibration.
        model: the model's name.
        adjustments: all its adjustments by seq; there are few.
        beginning: the first of them.
        archived: the seq of the newest archived entry; 0 where the history begins with entry 1.
    """

    def __init__(self, backend: Source, live: Stored) -> None:
        """Read the adjustments up to `live.last_seq`; the calls come in pages."""
        self._backend = backend
        self.live = live
        self.model = live.model
        rows = backend.read(backend.sql.adjustments, (live.model_id,))
        entries = [_typed(live.model, Adjustment(*row)) for row in rows]
        self.adjustments = [entry for entry in entries if entry.seq <= live.last_seq]
        self.beginning = entries[0] if entries else None
        self.archived = archived_seq(self.beginning)
        if self.archived > live.last_seq:
            for row in backend.find(live.model):
                if stored(row, live.model).last_seq >= self.archived:
                    raise self._changed()  # recorded and archived since the calibration was read
            self.archived = 0  # damaged: what begins behind the end is no beginning
        self._seqs = [entry.seq for entry in self.adjustments]

    def command(self, *words: str, names: Sequence[str] = ()) -> str:
        """A `calib` command on the ledger of this history."""
        return calib(*words, names=names, ledger=self._backend.place.shown)

    @cached_property
    def voided(self) -> Ranges:
        """The entries that are voided."""
        with damage_told(self.model):
            return voided_ranges(self.adjustments)

    def is_voided(self, seq: int) -> bool:
        """Whether an entry is."""
        return covers(self.voided, seq)

    def check_beginning(self) -> None:
        """Check that what was read so far still fits together.

        Raises:
            HistoryArchivedError: it does not.
        """
        if first_adjustment(self._backend, self.live) != self.beginning:
            raise self._changed()

    def _changed(self) -> HistoryArchivedError:
        error = HistoryArchivedError(
            f"entries of the model {self.model!r} were archived, or brought back, while they were "
            f"read",
            stayed="nothing was changed",
            advice="do the same again",
        )
        error.is_passing = True
        return error

    def _page(self, text: str, after: int, through: int) -> list[Any]:
        """The rows of a page, of which none is missing that the ledger has."""
        parameters = (self.live.model_id, after, through, PAGE)
        rows = self._backend.read(text, parameters)
        if len(rows) != self.count_calls(after, rows[-1][0] if len(rows) == PAGE else through):
            self.check_beginning()
            rows = self._backend.read(text, parameters)  # damaged; or brought back in between
        return rows

    def count_calls(self, after: int, through: int) -> int:
        """How many calls a history without gaps has with after < seq <= through."""
        after = max(after, self.archived)
        adjusted = bisect_right(self._seqs, through) - bisect_right(self._seqs, after)
        return max(0, through - after) - max(0, adjusted)

    def count_counting(self, through: int) -> int:
        """How many calls it has up to there that a rule learns: not voided, and no time-outs."""
        calls = sum(self.count_calls(*pair) for pair in left_of(self.voided, 0, through))
        return calls - self.count_timeouts(0, through)

    def count_timeouts(self, after: int, through: int) -> int:
        """How many time-outs it has with after < seq <= through that are not voided."""
        parameters = (self.live.model_id, after, through)
        rows = self._backend.read(self._backend.sql.timeouts, parameters)
        return sum(not self.is_voided(self._number(seq)) for (seq,) in rows)

    def _end_of_page(self, after: int) -> int:
        """The seq of a page's last call in a history without gaps."""
        after = max(after, self.archived)
        end = after + PAGE
        while missing := PAGE - self.count_calls(after, end):
            end += missing
        return end

    def columns(self, after: int, through: int, voided: Ranges = ()) -> Iterator[Columns]:
        """See `replay.History`."""
        for rows in self._counted(self._backend.sql.page_columns, after, through, voided):
            columns = learnt_columns(self.model, rows)
            if columns is not None:
                yield columns

    def rows(self, after: int, through: int, voided: Ranges = ()) -> Iterator[list[Any]]:
        """Pages of the same calls as rows, with what had been predicted, and without details."""
        yield from self._counted(self._backend.sql.page_calls, after, through, voided)

    def _counted(self, text: str, after: int, through: int, voided: Ranges) -> Iterator[list[Any]]:
        """Pages of rows, without those that are voided; none is empty."""
        while after < through:
            rows = self._page(text, after, through)
            counted = rows
            if voided and rows:
                with damage_told(self.model):
                    if covers_any(voided, rows[0][0], rows[-1][0]):
                        counted = [row for row in rows if not covers(voided, row[0])]
            if counted:
                yield counted
            if len(rows) < PAGE:
                return
            # Within a long range, there is nothing to read before its end.
            after = end_of(voided, self._number(rows[-1][0]))

    def _number(self, value: object) -> int:
        if isinstance(value, int):
            return value
        raise damaged(self.model, f"the number of an entry is {value!r}")

    def calls(self, after: int, through: int) -> Iterator[Page]:
        """See `history.Entries`."""
        while after < through:
            # Details first: where no call is missing, none of its details was archived before.
            end = min(through, self._end_of_page(after))
            found = self._details(after, end)
            rows = self._page(self._backend.sql.page_calls, after, through)
            if rows:
                last = self._number(rows[-1][0])
                if last > end:  # there are gaps: the ledger is damaged
                    found = self._details(after, last)
                details = {seq: (request_id, text) for seq, request_id, text, _ in found}
                nothing = (None, None)
                whole = [row + details.get(row[0], nothing) for row in rows]
                yield Page(whole, [(seq, given, key) for seq, given, _, key in found])
            if len(rows) < PAGE:
                return
            after = last

    def details(self, after: int, through: int) -> list[tuple[int, str | None]]:
        """The details, as JSON, of the calls with after < seq <= through that have any, by seq."""
        return [(self._number(seq), text) for seq, _, text, _ in self._details(after, through)]

    def _details(self, after: int, through: int) -> list[Any]:
        parameters = (self.live.model_id, after, through)
        return self._backend.read(self._backend.sql.page_details, parameters)

    def first_from(self, time: int) -> int:
        """The seq of the first entry made at this time (us) or later; behind the last for none.

        The time of the first entry does not count: it says when the model was first recorded,
        or archived, and calls of any time before may follow. Nor does that of a voided entry.
        """
        found = [self.live.last_seq + 1, self._first_call_from(time)]
        found += [
            entry.seq
            for entry in self.adjustments[1:]
            if entry.recorded_at >= time and not self.is_voided(entry.seq)
        ]
        return min(found)

    def _first_call_from(self, time: int) -> int:
        after = self.archived
        while True:
            parameters = (self.live.model_id, after, self.live.last_seq, time)
            rows = self._backend.read(self._backend.sql.first_call_from, parameters)
            self.check_beginning()
            if not rows:
                return self.live.last_seq + 1
            seq = self._number(rows[0][0])
            if not self.is_voided(seq):
                return seq
            after = next(last for first, last in self.voided if first <= seq <= last)

    def last_before(self, stop: int, time: int) -> int:
        """The seq of the last entry before an entry that was made before a time (us).

        The time of the first entry does not count, as in `first_from`.
        """
        found = [e.seq for e in self.adjustments if e.seq < stop and e.recorded_at < time]
        # From a number below all times on, so that that of a damaged entry is found as damage. Not
        # the least there is: written into a statement, PostgreSQL cannot read it before its sign.
        parameters = (self.live.model_id, stop - 1, 1 - 2**63, time)
        [(seq,)] = self._backend.read(self._backend.sql.last_scored, parameters)
        self.check_beginning()
        return max([*self._seqs[:1], *found, self._number(seq or 0)])

    def made_at(self, seq: int) -> int:
        """When an entry that is there was made, in microseconds."""
        for entry in self.adjustments:
            if entry.seq == seq:
                return entry.recorded_at
        for page in self.calls(seq - 1, seq):
            return self._number(page.rows[0][1])
        raise damaged(self.model, f"entry {seq} is missing")

    def count_older(self, after: int, time: int) -> int:
        """How many calls behind this entry were made before a time (us)."""
        parameters = (self.live.model_id, after, self.live.last_seq, time)
        [(count,)] = self._backend.read(self._backend.sql.count_older, parameters)
        return self._number(count)

    def first_scored(self, window: Window) -> int:
        """The seq of the oldest call in the window; behind the last entry for none."""
        [(seq,)] = self._backend.read(self._backend.sql.first_scored, self._within(window))
        self.check_beginning()
        return self.live.last_seq + 1 if seq is None else self._number(seq)

    def last_scored(self, window: Window) -> int:
        """The seq of the newest call in the window; 0 for none."""
        return self._last(self._backend.sql.last_scored, window)

    def last_learnt(self, window: Window) -> int:
        """The same of those that a rule learns: all but time-outs."""
        return self._last(self._backend.sql.last_learnt, window)

    def _last(self, text: str, window: Window) -> int:
        [(seq,)] = self._backend.read(text, self._within(window))
        self.check_beginning()
        return self._number(seq or 0)

    def nth_newest(self, n: int, window: Window) -> int:
        """The seq of the n-th newest call in the window; 0 where there are fewer."""
        rows = self._backend.read(self._backend.sql.nth_newest, (*self._within(window), n - 1))
        self.check_beginning()
        return self._number(rows[0][0]) if rows else 0

    def _within(self, window: Window) -> tuple[int, int, int, int]:
        return (self.live.model_id, self.live.last_seq, *_bounds(window))

    def newest(self, n: int, after: int, *, timeouts: bool = True) -> list[Any]:
        """The newest calls with seq > after that are not voided, at most `n`, the newest first.

        As rows of seq, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms and
        outcome, which is None but of time-outs. Without `timeouts`, none of these are among them.
        """
        found: list[Any] = []
        sql = self._backend.sql
        text = sql.newest_calls if timeouts else sql.newest_learnt
        through = start_of(self.voided, self.live.last_seq)
        while len(found) < n and after < through:
            rows = self._backend.read(text, (self.live.model_id, after, through, n))
            if len(rows) < min(n, self.count_calls(after, through)):
                self.check_beginning()
            counted = rows
            if self.voided:
                counted = [row for row in rows if not self.is_voided(self._number(row[0]))]
            found += counted
            if len(rows) < n:
                break
            # Within a long range, there is nothing to read before its start.
            through = start_of(self.voided, rows[-1][0] - 1)
        return found[:n]

    def observed(self, after: int, through: int) -> Iterator[list[Any]]:
        """The calls with after < seq <= through in bounded pages, as rows like those of `newest`.

        By seq; voided ones and time-outs are among them.
        """
        while after < through:
            end = min(through, self._end_of_page(after))
            parameters = (self.live.model_id, after, end, PAGE)
            rows = self._backend.read(self._backend.sql.newest_calls, parameters)
            if len(rows) != self.count_calls(after, end):
                self.check_beginning()
            yield rows[::-1]
            after = end

    def worst_ms(self, through: int) -> float | None:
        """How long the longest call up to an entry took that is not voided; None for no call.

        Time-outs are left out: how long they take is not known.
        """
        limit = 64
        while True:
            rows = self._backend.read(
                self._backend.sql.worst_calls, (self.live.model_id, 0, through, limit)
            )
            for seq, actual_ms in rows:
                if not self.is_voided(seq):
                    return actual_ms  # type: ignore[no-any-return]  # a driver's value
            if len(rows) < limit:
                return None
            limit *= 8

    def calls_of(
        self, request_keys: Sequence[bytes], voided: Ranges | None = None
    ) -> dict[bytes, list[Known]]:
        """The calls that the model has under these; of each, the one that counts comes first.

        Args:
            request_keys: what to look for.
            voided: the entries that are taken for voided; None: those that are.
        """
        return known_calls(
            self._backend.read,
            self._backend.sql,
            self.live.model_id,
            request_keys,
            self.voided if voided is None else voided,
        )

    def requests(self, after: int, through: int) -> Iterator[list[tuple[int, str, bytes]]]:
        """Pages of the calls with after < seq <= through that have a request id, with its key."""
        while after < through:
            end = min(through, self._end_of_page(after))
            found = self._details(after, end)
            yield [(seq, given, bytes(key)) for seq, given, _, key in found if key is not None]
            after = end

    def newest_call_at(self) -> int | None:
        """The latest `called_at` of any call; None for no call."""
        [(at,)] = self._backend.read(self._backend.sql.newest_call, (self.live.model_id,))
        return at  # type: ignore[no-any-return]  # a driver's value


def first_adjustment(backend: Source, live: Stored) -> Adjustment | None:
    """The first entry that there is of a model."""
    rows = backend.read(backend.sql.first_adjustment, (live.model_id,))
    return Adjustment(*rows[0]) if rows else None


def archived_seq(beginning: Adjustment | None) -> int:
    """The seq of the newest archived entry of a history that begins like this; 0 for none."""
    if beginning is None or beginning.kind != "archived":
        return 0
    return beginning.seq


class ForeignRows(NamedTuple):
    """Rows that belong to nothing."""

    unknown_models: list[tuple[str, int, int]]
    """(table, model_id, rows)"""
    unknown_calls: list[tuple[int, int]]
    """(model_id, seq) of details without their call"""
    uncalibrated: list[tuple[int, str]]
    """(id, model) of models without a calibration"""
