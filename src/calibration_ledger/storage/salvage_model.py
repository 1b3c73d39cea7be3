"""What can still be read of one model of a damaged ledger; see `salvage`."""

from __future__ import annotations

import json
from bisect import bisect_left
from contextlib import suppress
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.facts import LostRange
from calibration_ledger.storage.damaged import PAGE, Walk
from calibration_ledger.validation import (
    TIME_LIMIT_US,
    TOKENS_LIMIT,
    check_details,
    check_request_id,
)
from calibration_ledger.voids import covers, ranges_in_force, voids_ranges

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from calibration_ledger.entries import CallRow
    from calibration_ledger.voids import Ranges

_CALLS = (
    "SELECT seq, model_id, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms"
    " FROM calls WHERE model_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_DETAILS = (
    "SELECT seq, request_id, details"
    " FROM call_details WHERE model_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_ADJUSTMENTS = (
    "SELECT seq, kind, voids"
    " FROM adjustments WHERE model_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_WITHOUT_VOIDS = _ADJUSTMENTS.replace("voids", "NULL")
"""For a ledger that is older than the kind `voided`."""

_HAS_VOIDS = "SELECT 1 FROM pragma_table_info('adjustments') WHERE name = 'voids'"
_NO_LIMIT = -1


class Found(NamedTuple):
    """A model of which there are traces; `last_seq` is None where its calibration is lost."""

    model_id: int
    model: str
    is_named: bool
    last_seq: int | None


class ModelSalvage:
    """The calls of one model that can be read; what is lost is known once all pages were taken.

    Attributes:
        calls: how many were read.
        lost: the ranges of entries that were not.
        incomplete: the ranges of calls whose request ids and details may be missing.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        harvest: Callable[[], sqlite3.Connection | None],
        found: Found,
        seq_limit: int,
        *,
        is_harvest: bool,
    ) -> None:
        """Read the numbers of the model's adjustments; the calls come in pages.

        Args:
            connection: the ledger.
            harvest: gives what was found page by page, for rows that cannot be read otherwise.
            found: the model.
            seq_limit: the highest number that the ledger can hold.
            is_harvest: whether the connection itself is to what was found page by page: then
                nothing tells what was on the other pages.
        """
        self._connection = connection
        self._harvest = harvest
        self._found = found
        self._is_harvest = is_harvest
        self._through = seq_limit if found.last_seq is None else found.last_seq
        self._is_guess = found.last_seq is None or found.last_seq > seq_limit
        self._expected = 1
        self.calls = 0
        self.lost: list[LostRange] = []
        self.incomplete: list[LostRange] = []
        self._voided: Ranges = ()
        self._adjustments = self._read_adjustments()

    def _walk(self, text: str, after: int, through: int) -> Walk:
        key = (self._found.model_id,)
        return Walk(self._connection, text, key, after, through, is_guess=self._is_guess)

    def _harvested(self, text: str, after: int, through: int) -> list[Any]:
        harvest = self._harvest()
        key = (self._found.model_id, after, through, _NO_LIMIT)
        return [] if harvest is None else harvest.execute(text, key).fetchall()

    def _read_adjustments(self) -> list[int]:
        has_voids = self._connection.execute(_HAS_VOIDS).fetchone() is not None
        walk = self._walk(_ADJUSTMENTS if has_voids else _WITHOUT_VOIDS, 0, self._through)
        rows = [row for page in walk.pages() for row in page]
        if walk.skipped:
            rows += self._harvested(_ADJUSTMENTS, 0, self._through)
        self._voided = _ranges(rows)
        archived = [seq for seq, kind, _ in rows if kind == b"archived"]
        if archived:
            # What came before it was moved to a file, and is not lost.
            self._expected = max(archived)
        return sorted({seq for seq, _, _ in rows})

    def is_voided(self, seq: int) -> bool:
        """Whether an entry that could be read voids this one."""
        return covers(self._voided, seq)

    def pages(self) -> Iterator[list[CallRow]]:
        """The calls, checked, in order."""
        rows = self._rows()
        while page := list(islice(rows, PAGE)):
            self.calls += len(page)
            yield self._with_details(page)

    def _rows(self) -> Iterator[Any]:
        walk = self._walk(_CALLS, self._expected - 1, self._through)
        for page in walk.pages():
            for row in page:
                if self._is_call(row):
                    yield from self._fill(row[0] - 1)
                    yield row
                    self._expected = row[0] + 1
        if self._found.last_seq is not None:
            yield from self._fill(self._found.last_seq)
            return
        if self._adjustments:
            yield from self._fill(self._adjustments[-1])
        if self._is_harvest or (walk.skipped and walk.skipped[-1][1] == self._through):
            yield from self._fill(self._through, is_end=True)

    def _fill(self, last: int, *, is_end: bool = False) -> Iterator[Any]:
        """The calls up to a number that were found page by page; the others are lost."""
        for first, end in self._unexplained(self._expected, last):
            start = first
            for row in self._harvested(_CALLS, first - 1, end):
                if self._is_call(row):
                    self._lose(start, row[0] - 1)
                    start = row[0] + 1
                    yield row
            if is_end and end == last:
                self.lost.append(LostRange(self._found.model, start, None))
            else:
                self._lose(start, end)
        self._expected = max(self._expected, last + 1)

    def _unexplained(self, first: int, last: int) -> list[tuple[int, int]]:
        """The ranges of numbers that are no adjustments'."""
        ranges = []
        start = bisect_left(self._adjustments, first)
        for seq in self._adjustments[start : bisect_left(self._adjustments, last + 1)]:
            if first < seq:
                ranges.append((first, seq - 1))
            first = seq + 1
        return ranges + [(first, last)] * (first <= last)

    def _lose(self, first: int, last: int) -> None:
        if first <= last:
            self.lost.append(LostRange(self._found.model, first, last))

    def _is_call(self, row: Any) -> bool:
        """Whether a row's values are those of a call; garbage may look like a row."""
        _, model_id, at, prompt_tokens, completion_tokens, *milliseconds = row
        return (
            model_id == self._found.model_id
            and type(at) is int
            and 0 <= at < TIME_LIMIT_US
            and all(
                type(count) is int and 0 <= count < TOKENS_LIMIT
                for count in (prompt_tokens, completion_tokens)
            )
            and all(type(ms) is float and isfinite(ms) and ms >= 0 for ms in milliseconds)
            and (milliseconds[1] > 0 or self._is_whole(row))
        )

    def _is_whole(self, row: Any) -> bool:
        """Whether 0 ms can really have been predicted: by a prior, or without any token.

        Zeros in the place of a row's last bytes, as a write that was cut short leaves them, make
        such a prediction, and wrong numbers before it.
        """
        seq, _, _, prompt_tokens, completion_tokens, actual_ms, _ = row
        is_first = seq - 1 in self._adjustments
        return actual_ms > 0 and (is_first or prompt_tokens == completion_tokens == 0)

    def _with_details(self, rows: list[Any]) -> list[CallRow]:
        walk = self._walk(_DETAILS, rows[0][0] - 1, rows[-1][0])
        found = [row for page in walk.pages() for row in page]
        unread = [(rows[0][0], rows[-1][0])] if self._is_harvest else walk.skipped
        if walk.skipped:
            again = [self._harvested(_DETAILS, first - 1, last) for first, last in walk.skipped]
            found += [row for some in again for row in some]
        details = {}
        for seq, *values in found:
            details[seq], is_whole = _texts(*values)
            if not all(value is None or isinstance(value, bytes) for value in values):
                unread.append((rows[0][0], rows[-1][0]))  # another table's: so may the others be
            elif not is_whole:
                unread.append((seq, seq))
        for first, last in sorted(unread):
            self._note_incomplete(first, last)
        nothing = (None, None)
        return [(row[0], *row[2:], *details.get(row[0], nothing)) for row in rows]

    def _note_incomplete(self, first: int, last: int) -> None:
        """Note calls whose details may be missing; ranges that touch become one."""
        before = self.incomplete[-1] if self.incomplete else None
        if before is not None and before.last is not None and before.last >= first - 1:
            self.incomplete[-1] = before._replace(last=max(before.last, last))
        else:
            self.incomplete.append(LostRange(self._found.model, first, last))


def _texts(request_id: object, details: object) -> tuple[tuple[str | None, str | None], bool]:
    """The request id and details that are what they must be, and whether both are."""
    values: list[str | None] = []
    for value, check in ((request_id, check_request_id), (details, _check_details)):
        try:
            values.append(check(value.decode()) if isinstance(value, bytes) else None)
        except ValueError:  # of the encoding, of JSON, or of this project
            values.append(None)
    is_whole = [value is None for value in values] == [request_id is None, details is None]
    return (values[0], values[1]), is_whole


def _check_details(text: str) -> str | None:
    return check_details(json.loads(text))


def _ranges(rows: list[tuple[int, Any, Any]]) -> Ranges:
    """What these adjustments void, as far as they can be read."""
    voidings = {}
    for seq, kind, text in rows:
        if kind == b"voided":
            with suppress(TypeError, UnicodeDecodeError, AttributeError):
                voids_ranges(text.decode())
                voidings[seq] = text.decode()
    return ranges_in_force(sorted(voidings.items()))
