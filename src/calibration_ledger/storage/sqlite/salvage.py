"""What can still be read of a damaged ledger: model by model, around what is damaged.

It relies on as little as it can. What SQLite cannot reach is looked for page by page (`raw_pages`).
Names of models lie in the file twice (table and index), and a model whose name is lost gets a
stand-in. Where a model's calibration is lost, the end of its history is not known. An entry is lost
if its seq belongs to no call and no adjustment that could be read.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from bisect import bisect_left
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.aliases import alias_faults, in_force
from calibration_ledger.core.entries import TIMEOUT, AliasEntry, Setting
from calibration_ledger.core.facts import LostRange
from calibration_ledger.core.history import covers, ranges_in_force, voids_ranges
from calibration_ledger.core.settings import check_setting
from calibration_ledger.core.validation import (
    TIME_LIMIT_US,
    TOKENS_LIMIT,
    check_details,
    check_model,
    check_request_id,
)
from calibration_ledger.errors import (
    LedgerCorruptError,
    LedgerError,
    LedgerNotFoundError,
    NotALedgerError,
)
from calibration_ledger.storage.place import check_file
from calibration_ledger.storage.sqlite.connections import connect_reader, log_identity
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS, code_of, faults_of
from calibration_ledger.storage.sqlite.raw_pages import copy_start, harvest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.storage.place import File

TIMEOUT_S = 5.0
"""How long to wait for others; readers of a ledger in WAL mode never wait."""

PAGE = 500
"""Rows to a page."""

STAND_IN = "unreadable-model-{}"
"""The name of a model whose own is lost, from its id in the ledger."""

_ROW_BYTES = 16
"""No row takes fewer, so that a file's size says how many it can hold at most."""

_NUMBER_LIMIT = 2**53
"""A larger id or seq is garbage."""


@contextmanager
def opened(place: File) -> Iterator[Salvage]:
    """A ledger file to salvage, whatever state it is in.

    Raises:
        LedgerNotFoundError: there is none.
        NotALedgerError: nothing of a ledger can be found in it.
        LedgerError: it cannot be read at all.
    """
    if not check_file(place):
        raise LedgerNotFoundError(f"there is no ledger at {place.shown}: nothing to salvage.")
    with (
        faults_of(place.shown, "read"),
        connect_reader(place.path, TIMEOUT_S) as connection,
        salvage_of(connection, place.path) as salvage,
    ):
        if salvage is None:
            raise NotALedgerError(
                f"nothing of a ledger can be found in {place.shown}: name another path, or "
                f"restore a backup."
            )
        yield salvage


@contextmanager
def salvage_of(
    connection: sqlite3.Connection, path: Path, most_bytes: int = sys.maxsize
) -> Iterator[Salvage | None]:
    """What a file holds of a ledger; None: nothing.

    Args:
        connection: to the file; it only reads, and serves nothing else afterwards.
        path: the file.
        most_bytes: how much to look at of a file that is no database any more.

    Raises:
        sqlite3.Error: it cannot be read for another reason than damage.
        LedgerError: there is no room for a copy of it: see `_whole_pages`.
    """
    with ExitStack() as opened_here:
        salvage = _by_tables(connection, path, opened_here)
        if salvage is None:
            salvage = Salvage(harvest(path, most_bytes=most_bytes), None)
        opened_here.callback(salvage.close)
        yield None if salvage.is_harvest and salvage.is_empty() else salvage


def _by_tables(
    connection: sqlite3.Connection, path: Path, opened_here: ExitStack
) -> Salvage | None:
    """What SQLite can read of a file, if the table of calls is still known."""
    try:
        salvage = Salvage(connection, path)
        size, page_bytes = path.stat().st_size, salvage.page_bytes
        if salvage.has_calls() and size % page_bytes:
            salvage = Salvage(_whole_pages(path, size, page_bytes, opened_here), path)
        return salvage if salvage.has_calls() else None
    except DRIVER_ERRORS as error:
        if not is_damage(error):
            raise
        return None


def _whole_pages(
    path: Path, size: int, page_bytes: int, opened_here: ExitStack
) -> sqlite3.Connection:
    """A connection to a copy of a file that ends in the middle of a page, without that page.

    SQLite takes the missing end of a page for zeros, and so gives other values than were written.
    A page that is not there at all is damage like any other, and rows on it are found by the page
    harvest, which takes those alone that are there as a whole.

    Raises:
        LedgerError: there is no room for the copy.
    """
    try:
        folder = opened_here.enter_context(TemporaryDirectory(prefix="calibration-ledger-"))
        copy = Path(folder, "copy.db")
        copy_start(path, copy, page_bytes, size - size % page_bytes)
        if log_identity(path):
            copy_start(Path(f"{os.path.realpath(path)}-wal"), Path(f"{copy}-wal"))
    except OSError as error:
        raise LedgerError(
            f"the pages of {path} could not be copied to a temporary folder ({error})",
            stayed="it was not touched",
            advice="make room there, or name another folder (TMPDIR), and try again",
        ) from error
    return opened_here.enter_context(connect_reader(copy, TIMEOUT_S))


def survey(salvage: Salvage) -> tuple[int, int, list[LostRange]]:
    """Read everything that can be read: how many models and calls, and what is lost."""
    models, calls = salvage.models(), 0
    lost: list[LostRange] = []
    for found in models:
        model = salvage.model(found)
        for _ in model.pages():
            pass
        calls += model.calls
        lost += model.lost
    return len(models), calls, lost


# -- reading around damage ------------------------------------------------------------------
# SQLite reports a damaged page when a query gets there. Rows on either side of it lie on pages of
# their own, and a query that starts behind it finds its way past. So reading goes on at the first
# key from where it works again.
#
# Reading from both ends, and taking what lies between from the page harvest, is shorter and loses
# more: the harvest does not follow a row onto further pages, nor see the log. Of 400 calls with
# details of 2,000 bytes, two damaged pages cost 18 details and 15 request ids this way, and 209
# and 126 the other.

_STRIDE = 8
"""Behind an error, every eighth key is tried, and the exact one found by halving. A page holds
fifty calls and more, so no readable one is stepped over."""

_GROWTH = 16
"""The stride grows to this part of the way: to find the end of much damage, or that there is none,
shall not take as many tries as a file could hold rows."""

_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOTADB})


def is_damage(error: Exception) -> bool:
    """Whether one of `DRIVER_ERRORS` means that a page cannot be read, not that nothing can now."""
    code = code_of(error)
    return code in _DAMAGE or (code == sqlite3.SQLITE_ERROR and "no such table" in str(error))


class _Walk:
    """The rows of a query with `after < key <= through` that can be read, in order.

    Attributes:
        skipped: the ranges (first, last) of keys that could not be read.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        text: str,
        after: int,
        through: int,
        fixed: Sequence[Any] = (),
    ) -> None:
        """Prepare a query whose first column is the key.

        It binds `fixed`, then the key to start behind, the last key, and a limit.
        """
        self._connection = connection
        self._text = text
        self._fixed = fixed
        self._after = after
        self._through = through
        self.skipped: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[Any]:
        """The rows.

        Raises:
            sqlite3.Error: nothing can be read for another reason than damage.
        """
        after = self._after
        while after < self._through:
            rows, is_sound = self._read(after, PAGE)
            yield from rows
            after = rows[-1][0] if rows else after
            if not is_sound and after < self._through:
                behind = self._behind_damage(after)
                self.skipped.append((after + 1, behind))
                after = behind
            elif len(rows) < PAGE:
                return

    def _read(self, after: int, limit: int) -> tuple[list[Any], bool]:
        """The rows up to the first that cannot be read, and whether there was none such."""
        rows: list[Any] = []
        values = (*self._fixed, after, self._through, limit)
        try:
            for row in self._connection.execute(self._text, values):
                # Rows may be garbage. Whoever asked checks them; here it is their order that
                # must be right, or the page does not belong here.
                if type(row[0]) is not int or not after < row[0] <= self._through:
                    return rows, False
                after = row[0]
                rows.append(row)
        except DRIVER_ERRORS as error:
            if not is_damage(error):
                raise
            return rows, False
        return rows, True

    def _behind_damage(self, after: int) -> int:
        """The key from behind which reading works again; `through` where it does not."""
        bad, good = after, after
        while True:
            good = min(bad + max(_STRIDE, (bad - after) // _GROWTH), self._through)
            if good == self._through or self._read(good, 1)[1]:
                break
            bad = good
        while good - bad > 1:
            middle = (good + bad) // 2
            if self._read(middle, 1)[1]:
                good = middle
            else:
                bad = middle
        return good


# -- the whole ledger -----------------------------------------------------------------------

_MODELS = "SELECT id, model FROM models WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_NAMES = "SELECT id, model FROM models INDEXED BY sqlite_autoindex_models_1 ORDER BY model "
_ENDS = (
    "SELECT model_id, last_seq FROM calibrations"
    " WHERE model_id > ? AND model_id <= ? ORDER BY model_id LIMIT ?"
)


_SETTINGS = (
    "SELECT seq, recorded_at, rule, alpha FROM settings"
    " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)


_ALIASES = (
    "SELECT seq, recorded_at, name, model, merged FROM aliases"
    " WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)


class Found(NamedTuple):
    """A model of which there are traces; `last_seq` is None where its calibration is lost."""

    model_id: int
    model: str
    is_named: bool
    last_seq: int | None


class Salvage:
    """A ledger to salvage.

    Attributes:
        connection: to the ledger; it serves nothing else.
        is_harvest: whether it is to what was found page by page, because the file can be read no
            other way: then nothing tells what was on the pages that are lost.
        page_bytes: the size of a page.
        limit: the highest id or seq that the ledger can hold.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        """Take a connection; without a path, it is to what was found page by page, and closed here.

        Raises:
            sqlite3.Error: the file cannot be read at all.
        """
        self.connection = connection
        self.is_harvest = path is None
        self._path = path
        self._harvest: sqlite3.Connection | None = None
        self._is_damaged = False
        # A damaged page of the schema would fail every query; so, only what is on it is missing.
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("PRAGMA cell_size_check=ON")
        # Texts are decoded one by one, so that one that is damaged does not cost its whole page.
        connection.text_factory = bytes
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (self.page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        # What was found page by page may be the last rows of a ledger that was far larger.
        held = pages * self.page_bytes // _ROW_BYTES
        self.limit = _NUMBER_LIMIT - 1 if self.is_harvest else held

    def close(self) -> None:
        """Drop what was found page by page."""
        if self._harvest is not None:
            self._harvest.close()
        if self.is_harvest:
            self.connection.close()

    def is_empty(self) -> bool:
        """Whether there is no call."""
        return self._value("SELECT 1 FROM calls LIMIT 1") is None

    def has_calls(self) -> bool:
        """Whether the table of calls is still known."""
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'calls'"
        return bool(self._value(tables)) or not self.is_empty()

    def harvest(self) -> sqlite3.Connection | None:
        """What can be found page by page, looked for when it is first needed."""
        if self._harvest is None and self._path is not None:
            self._harvest = harvest(self._path, self.page_bytes)
            self._harvest.text_factory = bytes
        return self._harvest

    def model(self, found: Found) -> ModelSalvage:
        """What can be read of one model."""
        return ModelSalvage(self, found)

    def models(self) -> list[Found]:
        """Every model of which there are traces, sorted by name."""
        names, ends, ids = self._traces()
        found = self.harvest() if self._is_damaged else None
        if found is not None:
            more_names, more_ends, more_ids = Salvage(found, None)._traces()  # noqa: SLF001 - its own kind
            names, ends = {**more_names, **names}, {**more_ends, **ends}
            ids |= more_ids
        models = [Found(i, names.get(i, STAND_IN.format(i)), i in names, ends.get(i)) for i in ids]
        return sorted(models, key=lambda one: (one.model, one.model_id))

    def newest_setting(self) -> Setting | None:
        """The newest setting of the ledger that can be read; None for none."""
        if self.is_harvest:
            return None  # what was found page by page has none
        found = None
        for seq, recorded_at, rule, alpha in _Walk(self.connection, _SETTINGS, 0, self.limit):
            with suppress(AttributeError, UnicodeDecodeError, LedgerCorruptError):
                found = check_setting(Setting(seq, recorded_at, rule.decode(), alpha))
        return found

    def aliases(self) -> dict[str, AliasEntry]:
        """The names that stand for models, as far as they can be read."""
        if self.is_harvest:
            return {}
        found = []
        for seq, recorded_at, name, *texts in _Walk(self.connection, _ALIASES, 0, self.limit):
            with suppress(AttributeError, UnicodeDecodeError):
                model, merged = (None if text is None else text.decode() for text in texts)
                entry = AliasEntry(seq, recorded_at, name.decode(), model, merged)
                if not list(alias_faults(entry)):
                    found.append(entry)
        return in_force(found)

    def _traces(self) -> tuple[dict[int, str], dict[int, int], set[int]]:
        """The names of models, the ends of their histories, and the ids of all of them."""
        rows = [*self._names(), *self._rows(_MODELS)]
        names = {model_id: name for model_id, text in rows if (name := _name(text)) is not None}
        ends = {
            model_id: end
            for model_id, end in self._rows(_ENDS)
            if type(end) is int and 1 <= end < _NUMBER_LIMIT
        }
        ids = {model_id for model_id, _ in rows} | ends.keys()
        ids |= self._owners("calls") | self._owners("adjustments")
        return names, ends, {i for i in ids if type(i) is int and 0 < i <= self.limit}

    def _value(self, query: str) -> int | None:
        try:
            row = self.connection.execute(query).fetchone()
        except DRIVER_ERRORS as error:
            self._note(error)
            return None
        return row[0] if row is not None and type(row[0]) is int else None

    def _note(self, error: Exception) -> None:
        """Go on behind damage; raise everything else again."""
        if not is_damage(error):
            raise error
        self._is_damaged = True

    def _rows(self, text: str) -> Iterator[Any]:
        walk = _Walk(self.connection, text, 0, self.limit)
        yield from walk
        self._is_damaged |= bool(walk.skipped)

    def _names(self) -> list[Any]:
        """The names by the index over them, from both of its ends."""
        if self.is_harvest:
            return []  # what was found page by page has no indexes
        names: list[Any] = []
        for order in ("ASC", "DESC"):
            try:
                names.extend(self.connection.execute(_NAMES + order))
            except DRIVER_ERRORS as error:
                if "no such index" not in str(error):
                    self._note(error)
                self._is_damaged = True
        return names

    def _owners(self, table: str) -> set[int]:
        """The ids of the models that have rows in a table, from both of its ends up to damage.

        The page harvest knows those between.
        """
        found: set[int] = set()
        for nearest, beyond, start in (("min", ">", 0), ("max", "<", _NUMBER_LIMIT)):
            last: int | None = start
            while last is not None and last not in found:
                found.add(last)
                last = self._value(
                    f"SELECT {nearest}(model_id) FROM {table} WHERE model_id {beyond} {last:d}"
                )
        return found


def _name(value: object) -> str | None:
    """A model's name, if that is what the value is."""
    try:
        return check_model(value.decode()) if isinstance(value, bytes) else None
    except ValueError:  # of the encoding, or of this project
        return None


# -- one model ------------------------------------------------------------------------------

_CALLS = (
    "SELECT seq, model_id, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms,"
    " outcome FROM calls WHERE model_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_DETAILS = (
    "SELECT seq, request_id, details"
    " FROM call_details WHERE model_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_ADJUSTMENTS = (
    "SELECT seq, kind, voids"
    " FROM adjustments WHERE model_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_HAS_COLUMN = "SELECT 1 FROM pragma_table_info(?) WHERE name = ?"
"""An older ledger has not every column of today."""
_NO_LIMIT = -1
_TIMEOUT = TIMEOUT.encode()


class ModelSalvage:
    """The calls of one model that can be read; what is lost is known once all pages were taken.

    Attributes:
        calls: how many were read.
        lost: the ranges of entries that were not.
        incomplete: the ranges of calls whose request ids and details may be missing.
    """

    def __init__(self, ledger: Salvage, found: Found) -> None:
        """Read the numbers of the model's adjustments; the calls come in pages."""
        self._ledger = ledger
        self._found = found
        self._through = ledger.limit if found.last_seq is None else found.last_seq
        self._expected = 1
        self.calls = 0
        self.lost: list[LostRange] = []
        self.incomplete: list[LostRange] = []
        self._voided: Ranges = ()
        self._adjustments = self._read_adjustments()

    def _walk(self, text: str, after: int, through: int) -> _Walk:
        return _Walk(self._ledger.connection, text, after, through, (self._found.model_id,))

    def _harvested(self, text: str, after: int, through: int) -> list[Any]:
        harvest = self._ledger.harvest()
        key = (self._found.model_id, after, through, _NO_LIMIT)
        return [] if harvest is None else harvest.execute(text, key).fetchall()

    def _read_adjustments(self) -> list[int]:
        text = self._known(_ADJUSTMENTS, "adjustments", "voids")
        walk = self._walk(text, 0, self._through)
        rows = list(walk)
        if walk.skipped:
            rows += self._harvested(_ADJUSTMENTS, 0, self._through)
        self._voided = _ranges(rows)
        archived = [seq for seq, kind, _ in rows if kind == b"archived"]
        if archived:
            # What came before it was moved to a file, and is not lost.
            self._expected = max(archived)
        return sorted({seq for seq, _, _ in rows})

    def _known(self, text: str, table: str, column: str) -> str:
        """The query without this column, if the ledger is older than that."""
        found = self._ledger.connection.execute(_HAS_COLUMN, (table, column)).fetchone()
        return text if found is not None else text.replace(column, "NULL")

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
        text = self._known(_CALLS, "calls", "outcome")
        walk = self._walk(text, self._expected - 1, self._through)
        for row in walk:
            if self._is_call(row):
                yield from self._fill(row[0] - 1)
                yield row
                self._expected = row[0] + 1
        if self._found.last_seq is not None:
            yield from self._fill(self._found.last_seq)
            return
        if self._adjustments:
            yield from self._fill(self._adjustments[-1])
        if self._ledger.is_harvest or (walk.skipped and walk.skipped[-1][1] == self._through):
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
        _, model_id, at, prompt_tokens, completion_tokens, *milliseconds, outcome = row
        return (
            model_id == self._found.model_id
            and outcome in {None, _TIMEOUT}
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
        seq, _, _, prompt_tokens, completion_tokens, actual_ms, _, _ = row
        is_first = seq - 1 in self._adjustments
        return actual_ms > 0 and (is_first or prompt_tokens == completion_tokens == 0)

    def _with_details(self, rows: list[Any]) -> list[CallRow]:
        walk = self._walk(_DETAILS, rows[0][0] - 1, rows[-1][0])
        found = list(walk)
        unread = [(rows[0][0], rows[-1][0])] if self._ledger.is_harvest else walk.skipped
        for first, last in walk.skipped:
            found += self._harvested(_DETAILS, first - 1, last)
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
        return [
            (seq, *numbers, None if outcome is None else TIMEOUT, *details.get(seq, nothing))
            for seq, _, *numbers, outcome in rows
        ]

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
