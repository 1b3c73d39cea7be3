"""What is read from a ledger, in bounded pages: no reader holds a transaction over other code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.entries import Adjustment
from calibration_ledger.replay import Columns
from calibration_ledger.storage.statements import CALIBRATION_NAMES, REQUESTS_AT_ONCE
from calibration_ledger.validation import TIME_LIMIT_US

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calibration_ledger.entries import CallRow
    from calibration_ledger.replay import Window
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


def stored(row: Any, model: str) -> Stored:
    """The value of a row `(id, *calibration, ...)`."""
    return Stored(row[0], model, *row[1 : 1 + len(CALIBRATION_NAMES)])


def find(backend: Backend, model: str) -> Stored | None:
    """A model's calibration, or None."""
    rows = backend.read(backend.sql.find, (model,))
    return stored(rows[0], model) if rows else None


def list_all(backend: Backend) -> list[Stored]:
    """Every model's calibration, sorted by model."""
    rows = backend.read(backend.sql.list_calibrations)
    # Sorted here: databases sort texts each in their own way.
    return sorted((stored(row, row[-1]) for row in rows), key=lambda found: found.model)


class ModelHistory:
    """One model's entries up to the moment when its calibration was read."""

    def __init__(self, backend: Backend, live: Stored) -> None:
        """Read the adjustments up to `live.last_seq`; the calls come in pages."""
        self._backend = backend
        self.live = live
        self.model = live.model
        rows = backend.read(backend.sql.adjustments, (live.model_id,))
        self.adjustments = [Adjustment(*row) for row in rows if row[0] <= live.last_seq]

    def _pages(self, text: str, after: int, through: int) -> Iterator[list[Any]]:
        while after < through:
            rows = self._backend.read(text, (self.live.model_id, after, through, PAGE))
            if rows:
                yield rows
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def columns(self, after: int, through: int) -> Iterator[Columns]:
        """See `replay.History`."""
        for rows in self._pages(self._backend.sql.page_columns, after, through):
            _, *columns = zip(*rows, strict=True)
            yield Columns(*columns)

    def calls(self, after: int, through: int) -> Iterator[tuple[list[CallRow], list[Any]]]:
        """Pages of whole calls, each with its `(seq, request_id, request_key)` to check."""
        for rows in self._pages(self._backend.sql.page_calls, after, through):
            found = self._backend.read(
                self._backend.sql.page_details, (self.live.model_id, rows[0][0] - 1, rows[-1][0])
            )
            details = {seq: (request_id, text) for seq, request_id, text, _ in found}
            nothing = (None, None)
            whole = [row + details.get(row[0], nothing) for row in rows]
            yield whole, [(seq, request_id, key) for seq, request_id, _, key in found]

    def last_scored(self, window: Window) -> int:
        """The seq of the newest call in the window; 0 for none."""
        rows = self._backend.read(self._backend.sql.last_scored, self._within(window))
        return rows[0][0] or 0

    def nth_newest(self, n: int, window: Window) -> int:
        """The seq of the n-th newest call in the window; 0 where there are fewer."""
        rows = self._backend.read(self._backend.sql.nth_newest, (*self._within(window), n - 1))
        return rows[0][0] if rows else 0

    def _within(self, window: Window) -> tuple[int, int, int, int]:
        return (self.live.model_id, self.live.last_seq, *bounds(window))

    def newest_call_at(self) -> int | None:
        """The latest `called_at` of any call; None for no call."""
        rows = self._backend.read(self._backend.sql.newest_call, (self.live.model_id,))
        return rows[0][0]  # type: ignore[no-any-return]  # a driver's row


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
) -> dict[bytes, tuple[int, int, float]]:
    """Which of these the model has: the (prompt tokens, completion tokens, actual ms) of each."""
    found = {}
    for start in range(0, len(request_keys), REQUESTS_AT_ONCE):
        keys = list(request_keys[start : start + REQUESTS_AT_ONCE])
        keys += keys[-1:] * (REQUESTS_AT_ONCE - len(keys))
        pairs = [value for key in keys for value in (model_id, key)]
        for key, *numbers in backend.read(backend.sql.find_requests, pairs):
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
