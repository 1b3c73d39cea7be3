"""What is read from a ledger, in bounded pages: no reader holds a transaction over other code.

Entries are never changed, so pages fit together, whatever others append. But between two pages the
beginning may be archived, or brought back. Then a page lacks calls, which is noticed by the gap:
whoever reads is told, and starts over.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.entries import ADJUSTMENT_TYPES, Adjustment, is_typed
from calibration_ledger.core.history import covers, voided_ranges
from calibration_ledger.core.replay import Columns
from calibration_ledger.core.validation import TIME_LIMIT_US
from calibration_ledger.errors import HistoryArchivedError, damage_told, damaged
from calibration_ledger.storage.statements import CALIBRATION_NAMES
from calibration_ledger.storage.transaction import request_pages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.core.replay import Window
    from calibration_ledger.storage.backend import Backend

PAGE = 500
"""Calls to a page. Fewer rows than the collector's threshold of new objects (700): with pages of
10,000 it ran twenty times a page, and a replay took 1.7 times as long."""


class Stored(NamedTuple):
    """A model's live calibration as it is stored."""

    model_id: int
    model: str
    rule: str
    alpha: float
    ms_per_prompt_token: float
    ms_per_completion_token: float
    base_overhead_ms: float
    total_absolute_error_ms: float
    total_predicted_ms: float
    sample_count: int
    rule_state: bytes | None
    updated_at: int
    last_seq: int
    head: bytes

    @property
    def numbers(self) -> tuple[float, ...]:
        """The five numbers that every rule's state begins with."""
        return self[4:9]


_STORED_TYPES = (int, str, str, *[float] * 6, int, (bytes, type(None)), int, int, bytes)


def stored(row: Any, model: str) -> Stored:
    """The value of a row `(id, *calibration, ...)`.

    Raises:
        LedgerCorruptError: a value is of another type than its column's.
    """
    found = Stored(row[0], model, *row[1 : 1 + len(CALIBRATION_NAMES)])
    if not is_typed(found, _STORED_TYPES):
        raise damaged(model, "the calibration holds a value of another type")
    return found


def find(backend: Backend, model: str) -> Stored | None:
    """A model's calibration, or None; see `stored`."""
    rows = backend.read(backend.sql.find, (model,))
    return stored(rows[0], model) if rows else None


def list_all(backend: Backend) -> list[Stored]:
    """Every model's calibration, sorted by model; see `stored`."""
    rows = backend.read(backend.sql.list_calibrations)
    # Sorted here: databases sort texts each in their own way.
    return sorted((stored(row, row[-1]) for row in rows), key=lambda found: found.model)


class ModelHistory:
    """One model's entries up to the moment when its calibration was read.

    Whatever reads more raises `HistoryArchivedError` where the beginning is another one meanwhile.

    Attributes:
        live: the calibration.
        model: the model's name.
        adjustments: all its adjustments by seq; there are few.
        beginning: the first of them.
        archived: the seq of the newest archived entry; 0 where the history begins with entry 1.
    """

    def __init__(self, backend: Backend, live: Stored) -> None:
        """Read the adjustments up to `live.last_seq`; the calls come in pages."""
        self._backend = backend
        self.live = live
        self.model = live.model
        rows = backend.read(backend.sql.adjustments, (live.model_id,))
        for row in rows:
            if not is_typed(row, ADJUSTMENT_TYPES):
                raise damaged(live.model, f"adjustment {row[0]!r} holds a value of another type")
        self.adjustments = [Adjustment(*row) for row in rows if row[0] <= live.last_seq]
        self.beginning = Adjustment(*rows[0]) if rows else None
        self.archived = archived_seq(self.beginning)
        if self.archived > live.last_seq:
            newest = find(backend, live.model)
            if newest is not None and newest.last_seq >= self.archived:
                raise self._changed()  # recorded and archived since the calibration was read
            self.archived = 0  # damaged: what begins behind the end is no beginning
        self._seqs = [entry.seq for entry in self.adjustments]

    @cached_property
    def voided(self) -> Ranges:
        """The entries that are voided."""
        with damage_told(self.model):
            return voided_ranges(self.adjustments)

    def is_voided(self, seq: int) -> bool:
        """Whether an entry is."""
        return covers(self.voided, seq)

    def check_beginning(self) -> None:
        """Look whether what was read so far still fits together.

        Raises:
            HistoryArchivedError: it does not.
        """
        rows = self._backend.read(self._backend.sql.first_adjustment, (self.live.model_id,))
        if (Adjustment(*rows[0]) if rows else None) != self.beginning:
            raise self._changed()

    def _changed(self) -> HistoryArchivedError:
        return HistoryArchivedError(
            f"entries of the model {self.model!r} were archived, or brought back, while they were "
            f"read",
            stayed="nothing was changed",
            advice="do the same again",
        )

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

    def _end_of_page(self, after: int) -> int:
        """The seq of a page's last call in a history without gaps."""
        after = max(after, self.archived)
        end = after + PAGE
        while missing := PAGE - self.count_calls(after, end):
            end += missing
        return end

    def columns(self, after: int, through: int) -> Iterator[Columns]:
        """See `replay.History`."""
        while after < through:
            rows = self._page(self._backend.sql.page_columns, after, through)
            if rows:
                _, *columns = zip(*rows, strict=True)
                yield Columns(*columns)
            if len(rows) < PAGE:
                return
            after = self._number(rows[-1][0])

    def _number(self, value: object) -> int:
        if isinstance(value, int):
            return value
        raise damaged(self.model, f"the number of an entry is {value!r}")

    def calls(self, after: int, through: int) -> Iterator[tuple[list[CallRow], list[Any]]]:
        """Pages of whole calls, each with its `(seq, request_id, request_key)` to check."""
        while after < through:
            # Details first: where no call is missing, none of its details was archived before.
            end = min(through, self._end_of_page(after))
            found = self._details(after, end)
            rows = self._page(self._backend.sql.page_calls, after, through)
            if rows:
                if rows[-1][0] > end:  # there are gaps: the ledger is damaged
                    found = self._details(after, rows[-1][0])
                details = {seq: (request_id, text) for seq, request_id, text, _ in found}
                nothing = (None, None)
                whole = [row + details.get(row[0], nothing) for row in rows]
                yield whole, [(seq, request_id, key) for seq, request_id, _, key in found]
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def _details(self, after: int, through: int) -> list[Any]:
        parameters = (self.live.model_id, after, through)
        return self._backend.read(self._backend.sql.page_details, parameters)

    def first_from(self, time: int) -> int:
        """The seq of the first entry made at this time (us) or later; behind the last for none.

        The time of the first entry does not count: it says when the model was first recorded,
        or archived, and calls of any time before may follow.
        """
        parameters = (self.live.model_id, self.archived, self.live.last_seq, time)
        rows = self._backend.read(self._backend.sql.first_call_from, parameters)
        self.check_beginning()
        found: list[int] = [self.live.last_seq + 1, *(row[0] for row in rows)]
        found += [entry.seq for entry in self.adjustments[1:] if entry.recorded_at >= time]
        return min(found)

    def first_scored(self, window: Window) -> int:
        """The seq of the oldest call in the window; behind the last entry for none."""
        rows = self._backend.read(self._backend.sql.first_scored, self._within(window))
        self.check_beginning()
        return self.live.last_seq + 1 if rows[0][0] is None else self._number(rows[0][0])

    def last_scored(self, window: Window) -> int:
        """The seq of the newest call in the window; 0 for none."""
        rows = self._backend.read(self._backend.sql.last_scored, self._within(window))
        self.check_beginning()
        return self._number(rows[0][0] or 0)

    def nth_newest(self, n: int, window: Window) -> int:
        """The seq of the n-th newest call in the window; 0 where there are fewer."""
        rows = self._backend.read(self._backend.sql.nth_newest, (*self._within(window), n - 1))
        self.check_beginning()
        return self._number(rows[0][0]) if rows else 0

    def _within(self, window: Window) -> tuple[int, int, int, int]:
        return (self.live.model_id, self.live.last_seq, *bounds(window))

    def newest_call_at(self) -> int | None:
        """The latest `called_at` of any call; None for no call."""
        rows = self._backend.read(self._backend.sql.newest_call, (self.live.model_id,))
        return rows[0][0]  # type: ignore[no-any-return]  # a driver's row


def archived_seq(beginning: Adjustment | None) -> int:
    """The seq of the newest archived entry of a history that begins like this; 0 for none."""
    if beginning is None or beginning.kind != "archived":
        return 0
    return beginning.seq


def bounds(window: Window) -> tuple[int, int]:
    """A window as two numbers, [since, until)."""
    since = 0 if window.since is None else window.since
    return since, TIME_LIMIT_US if window.until is None else window.until


def ends(backend: Backend, model_id: int) -> tuple[int, int, int]:
    """`last_seq`, the lowest seq of any call and the highest of any entry, all of one moment."""
    rows = backend.read(backend.sql.ends, (model_id,))
    if not rows:
        return (0, 1, 0)
    *_, last_seq, _, oldest_call, newest_call, newest_adjustment = rows[0]
    lowest = 1 if oldest_call is None else oldest_call
    return last_seq, lowest, max(newest_call or 0, newest_adjustment or 0)


def find_requests(
    backend: Backend, model_id: int, request_keys: Sequence[bytes]
) -> dict[bytes, tuple[int, int, int, float]]:
    """Which of these the model has: (seq, prompt tokens, completion tokens, actual ms) of each."""
    found = {}
    for values in request_pages(model_id, request_keys):
        for key, *numbers, _ in backend.read(backend.sql.find_requests, values):
            found[bytes(key)] = tuple(numbers)
    return found


class ForeignRows(NamedTuple):
    """Rows that belong to nothing."""

    unknown_models: list[tuple[str, int, int]]
    """(table, model_id, rows)"""
    unknown_calls: list[tuple[int, int]]
    """(model_id, seq) of details without their call"""
    uncalibrated: list[tuple[int, str]]
    """(id, model) of models without a calibration"""


def foreign_rows(backend: Backend) -> ForeignRows:
    """Look for them in the whole ledger."""
    return ForeignRows(
        [tuple(row) for row in backend.read(backend.sql.unknown_models)],
        [tuple(row) for row in backend.read(backend.sql.unknown_calls)],
        [tuple(row) for row in backend.read(backend.sql.uncalibrated_models)],
    )
