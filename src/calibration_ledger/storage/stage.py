"""A private temporary database, in which a file lies while it is checked whole.

It has no name, spills to disk by itself, and is gone when closed: files of any size are put in
order in constant memory. It is no ledger, so it needs no durability and no lock.
"""

from __future__ import annotations

import os
import sqlite3
from array import array
from bisect import bisect_left
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.entries import Adjustment
from calibration_ledger.core.history import Page
from calibration_ledger.errors import NotRecordedError
from calibration_ledger.storage.ledger import archived_seq
from calibration_ledger.storage.sqlite.forks import forked_error, private, run
from calibration_ledger.storage.transaction import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Self

    from calibration_ledger.core.entries import AliasEntry, CallRow, Event, Setting
    from calibration_ledger.storage.backend import Result

_CACHE_KIB = 16 * 1024
"""Memory for the database, and as much again for sorting; what does not fit goes to disk."""


class Temporary:
    """The database; `with` closes it, and gives its own errors a sentence."""

    _SCHEMA = ""

    def __init__(self) -> None:
        """Open it."""
        self._connection = private()
        self._pid = os.getpid()
        # Nothing here is ever rolled back or outlives the process; and what was compiled to keep
        # temporary data in memory is told to use a file.
        for text in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE"):
            self._execute(f"PRAGMA {text}")
        self._execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        self._run(self._connection.executescript, self._SCHEMA)
        self._execute("BEGIN")

    def _run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run one step: a fork may come between two, and a child has no part in the file."""
        if self._pid != os.getpid():
            raise forked_error()
        return run(work, *arguments)

    def _execute(self, text: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._run(lambda: self._connection.execute(text, values).fetchall())

    def _executemany(self, text: str, rows: Iterable[Sequence[Any]]) -> None:
        self._run(self._connection.executemany, text, rows)

    def _rows(self, text: str, values: Sequence[Any] = (), size: int = PAGE) -> Iterator[Any]:
        """The rows of a statement that may be many, `size` of them in memory."""
        cursor = self._run(self._connection.execute, text, values)
        while page := self._run(cursor.fetchmany, size):
            yield from page

    def _insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        if rows:
            places = ", ".join("?" * len(rows[0]))
            self._executemany(f"INSERT INTO {table} VALUES ({places})", rows)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close it."""
        self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise NotRecordedError(
                f"the temporary file of the import failed (SQLite: {error}): make room in the "
                f"folder for temporary files (TMPDIR), and run the same import again."
            ) from error


class StagedCall(NamedTuple):
    """A row of a file, checked; times in microseconds."""

    line: int
    model: str
    called_at: int
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    outcome: str | None
    request_id: str
    details: str | None


_SMALL = 131_072
"""Rows of a file that never leaves memory: it takes some 50 MB."""

_SMALL_TEXTS = 2**24
"""Characters of its request ids and details, at most."""

_RUN = 16_384
"""Rows of a larger file that are put in order in memory at once."""

_OPEN_MAX = 2 * _RUN
"""Rows that may wait in memory for those of later runs that come before them."""

_order = itemgetter(1, 2, 0)
_place = itemgetter(2, 0)


class StagedCalls(Temporary):
    """The rows of a file of calls: add them all, `settle`, read them in order, and keep the good.

    In most files no row is there twice. A small one of these is put in order in memory, and stays
    there. Larger ones mostly are in the order of time, or nearly so: runs of them are put in order
    in memory, and lie as columns in one row of the database for each model, which takes a tenth of
    the time of rows that the database puts in order. Rows that lie far from their place in a large
    file, or are there twice, go the long way through it.

    Attributes:
        repeated: how many rows are left out by `settle`, as an earlier one says the same.
    """

    _SCHEMA = """
        CREATE TABLE runs (number INTEGER PRIMARY KEY, model TEXT, first_at INTEGER,
            first_line INTEGER, last_at INTEGER, last_line INTEGER, calls INTEGER, integers BLOB,
            actual_ms BLOB, outcomes TEXT, request_ids TEXT, details TEXT, contents TEXT);
        CREATE TABLE names (name INTEGER);
        CREATE TABLE kept (number INTEGER PRIMARY KEY, models TEXT, integers BLOB, actual_ms BLOB,
            outcomes TEXT, request_ids TEXT, details TEXT);
        CREATE TABLE rows (line INTEGER, model TEXT, called_at INTEGER, prompt_tokens INTEGER,
            completion_tokens INTEGER, actual_ms REAL, request_id TEXT, details TEXT, outcome TEXT,
            content TEXT, is_timed INTEGER);
    """

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self._waiting: list[tuple[Any, ...]] = []
        self._is_small = True
        self._texts = 0
        self._kept: list[list[StagedCall]] = []
        self._file = ""
        self._has_own = self._has_made = False
        self._source: Callable[[], Iterator[StagedCall]] = self._merged
        self.repeated = 0
        self.known_by_file = 0

    # -- before they are in order -----------------------------------------------------------

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows, as columns of the table `rows`; their request ids are texts without NUL.

        `content` is the key of the content in hexadecimal digits. It is there where `request_id`
        is None, and the other way round; `is_timed` says whether the row has a time of its own.
        """
        self._waiting += rows
        if self._is_small:
            self._texts += sum([len(row[6] or "") + len(row[7] or "") for row in rows])
            self._is_small = len(self._waiting) <= _SMALL and self._texts <= _SMALL_TEXTS
        if not self._is_small and len(self._waiting) >= _RUN:
            self._write_all()

    def _write_all(self) -> None:
        """Let all rows lie in the database, in runs."""
        waiting, self._waiting = self._waiting, []
        for start in range(0, len(waiting), _RUN):
            self._write_runs(waiting[start : start + _RUN])

    def _write_runs(self, rows: list[tuple[Any, ...]]) -> None:
        # In one process, texts that are equal have one hash: the same for different ones is rare.
        names = [(hash((row[1], row[6])) if row[6] else hash(row[9]),) for row in rows]
        self._insert("names", names)
        rows.sort(key=_order)
        runs = []
        for model, some in groupby(rows, key=itemgetter(1)):
            run = list(some)
            lines, _, at, p, c, actual, given, details, outcomes, contents, timed = zip(
                *run, strict=True
            )
            integers = array("q", chain(lines, at, p, c, timed)).tobytes()
            texts = map(_joined, (outcomes, given, details, contents))
            ends = (at[0], lines[0], at[-1], lines[-1])
            floats = array("d", actual).tobytes()
            runs.append((None, model, *ends, len(run), integers, floats, *texts))
            self._note(given, timed)
        self._insert("runs", runs)

    def _note(self, given: Sequence[str | None], timed: Sequence[bool]) -> None:
        """Count the rows that are known by their file, and note whose names may meet."""
        made = given.count(None)
        if made:
            self._has_made = True
            pairs = zip(given, timed, strict=True)
            self.known_by_file += sum(one is None and not is_timed for one, is_timed in pairs)
        if made < len(given):
            self._has_own = self._has_own or any(
                one is not None and one.startswith(_MADE) for one in given
            )

    def settle(self, file: str) -> None:
        """Put the rows in order, give each its request id, and find those that are there twice.

        A row without an id is known by the key of its content and its number among equal rows,
        and if it has no time either, by its file, too.
        """
        self._file = file
        if self._is_small and self._settle_small():
            return
        self._write_all()
        if self._may_repeat():
            self._spread()
            self._execute(_FIND_REPEATED, (file,))
            self._execute("DROP TABLE rows")
            text = "SELECT count(*) FROM ordered WHERE present"
            ((self.repeated,),) = self._execute(text)
            self._source = self._in_table
        elif not self._is_nearly_in_order():
            self._spread()
            self._source = self._by_database

    def _settle_small(self) -> bool:
        """Put the rows of a small file in order; False where one of them is there twice."""
        small = [
            (
                line, model, at, p, c, actual, outcome,
                f"{_MADE}{'' if timed else self._file}{content}:1" if given is None else given,
                details,
            )
            for line, model, at, p, c, actual, given, details, outcome, content, timed
            in self._waiting
        ]  # fmt: skip
        if len({(row[1], row[7]) for row in small}) < len(small):
            return False
        self.known_by_file = sum([row[6] is None and not row[10] for row in self._waiting])
        self._waiting = []
        small.sort(key=_order)
        self._source = lambda: map(StagedCall._make, small)
        return True

    def _may_repeat(self) -> bool:
        """Whether two rows may have one request id."""
        # An id of the file's own may be what is made for another row, as in an export.
        if self._has_own and self._has_made:
            return True
        text = "SELECT 1 FROM names GROUP BY name HAVING count(*) > 1 LIMIT 1"
        found = bool(self._execute(text))
        self._execute("DROP TABLE names")
        return found

    def _runs(self) -> Iterator[Any]:
        return self._rows(
            "SELECT number, model, first_at, first_line, last_at, last_line, calls FROM runs"
            " ORDER BY model, first_at, first_line"
        )

    def _is_nearly_in_order(self) -> bool:
        """Whether few rows have to wait while the runs are read in order."""
        model = None
        waiting: list[tuple[tuple[int, int], int]] = []
        for _, of_model, at, line, last_at, last_line, calls in self._runs():
            if of_model != model:
                model, waiting = of_model, []
            waiting = [one for one in waiting if one[0] > (at, line)]
            waiting.append(((last_at, last_line), calls))
            if len(waiting) > 1 and sum(calls for _, calls in waiting) > _OPEN_MAX:
                return False
        return True

    def _columns_of(self, number: int) -> tuple[Sequence[Any], ...]:
        """A run, as the columns of the table `rows`."""
        text = (
            "SELECT model, calls, integers, actual_ms, outcomes, request_ids, details, contents"
            " FROM runs WHERE number = ?"
        )
        ((model, calls, data, actual, outcomes, given, details, contents),) = self._execute(
            text, (number,)
        )
        lines, at, p, c, timed = _columns(data, 5)
        texts = (_split(column, calls) for column in (given, details, outcomes, contents))
        return lines, [model] * calls, at, p, c, _floats(actual), *texts, timed

    def _spread(self) -> None:
        """Let the rows lie each by itself, for the database to put in order."""
        for (number,) in self._rows("SELECT number FROM runs ORDER BY number"):
            self._insert("rows", list(zip(*self._columns_of(number), strict=True)))
        self._execute("DROP TABLE runs")

    def conflicts(self) -> Iterator[tuple[int, int, str, str]]:
        """Rows whose request id an earlier row has with other numbers, by line.

        Gives (line, the earlier line, model, request id); they are left out.
        """
        if self._source == self._in_table:
            yield from self._rows(
                "SELECT line, first, model, request_id FROM ordered WHERE conflict ORDER BY line"
            )

    # -- in order ---------------------------------------------------------------------------

    def pages(self, size: int) -> Iterator[list[StagedCall]]:
        """The rows by model, time and line, but for those that an earlier row makes needless."""
        calls = self._source()
        while page := list(islice(calls, size)):
            yield page

    def _in_table(self) -> Iterator[StagedCall]:
        rows = self._rows(
            "SELECT line, model, called_at, prompt_tokens, completion_tokens, actual_ms, outcome,"
            " request_id, details FROM ordered WHERE NOT present AND NOT conflict ORDER BY rowid"
        )
        return map(StagedCall._make, rows)

    def _by_database(self) -> Iterator[StagedCall]:
        rows = self._rows(
            "SELECT line, model, called_at, prompt_tokens, completion_tokens, actual_ms, outcome,"
            f" {_REQUEST_ID.format(number=1)}, details FROM rows"
            " ORDER BY model, called_at, line, rowid",
            (self._file,),
        )
        return map(StagedCall._make, rows)

    def _merged(self) -> Iterator[StagedCall]:
        """The rows of all runs in order: each run, as far as no later one comes before."""
        left: list[StagedCall] = []
        current = None
        for number, model, at, line, *_ in self._runs():
            end = bisect_left(left, (at, line), key=_place) if model == current else len(left)
            yield from left[:end]
            run = self._calls_of(number)
            left = sorted(left[end:] + run, key=_place) if end < len(left) else run
            current = model
        yield from left

    def _calls_of(self, number: int) -> list[StagedCall]:
        """A run, each row with its request id."""
        lines, models, at, p, c, actual, given, details, outcomes, contents, timed = (
            self._columns_of(number)
        )
        if None in given:
            given = [
                f"{_MADE}{'' if is_timed else self._file}{content}:1" if one is None else one
                for one, content, is_timed in zip(given, contents, timed, strict=True)
            ]
        columns = (lines, models, at, p, c, actual, outcomes, given, details)
        return list(map(StagedCall._make, zip(*columns, strict=True)))

    # -- what is left of them ---------------------------------------------------------------

    def keep(self, rows: Sequence[StagedCall]) -> None:
        """Keep the next rows, to be read by `kept`; a page, at most."""
        if not rows:
            return
        if self._is_small:
            self._kept.append(list(rows))
            return
        lines, models, at, p, c, actual, outcomes, given, details = zip(*rows, strict=True)
        integers = array("q", chain(lines, at, p, c)).tobytes()
        texts = map(_joined, (outcomes, given, details))
        values = (None, "\0".join(models), integers, array("d", actual).tobytes(), *texts)
        self._insert("kept", [values])

    def by_model(self, now: int) -> list[tuple[str, int, int | None, int | None, int, int, float]]:
        """What was kept, in figures of each model, sorted by name.

        Gives (model, rows, first time, last time, prompt tokens, completion tokens, median of the
        milliseconds); a row of the time `now` has none of its own.
        """
        self._execute(
            "CREATE TABLE figures (line INTEGER, model TEXT, called_at INTEGER,"
            " prompt_tokens INTEGER, completion_tokens INTEGER, actual_ms REAL)"
        )
        for page in self.kept():
            self._insert("figures", [row[:6] for row in page])
        return self._execute(
            """
            SELECT model, count(*), min(nullif(called_at, ?)), max(nullif(called_at, ?)),
                sum(prompt_tokens), sum(completion_tokens),
                avg(actual_ms) FILTER (WHERE 2 * place BETWEEN rows AND rows + 2)
            FROM (
                SELECT *, row_number() OVER (PARTITION BY model ORDER BY actual_ms) AS place,
                    count(*) OVER (PARTITION BY model) AS rows
                FROM figures)
            GROUP BY model ORDER BY model
            """,
            (now, now),
        )

    def kept(self) -> Iterator[list[StagedCall]]:
        """What was kept, a page each."""
        yield from self._kept
        for _, models, data, actual, outcomes, given, details in self._rows(
            "SELECT * FROM kept ORDER BY number", size=1
        ):
            lines, at, p, c = _columns(data, 4)
            texts = (_split(column, len(lines)) for column in (outcomes, given, details))
            columns = (lines, models.split("\0"), at, p, c, _floats(actual), *texts)
            yield list(map(StagedCall._make, zip(*columns, strict=True)))


_MADE = "import:"
"""How a request id begins that is made for a row that has none."""

_REQUEST_ID = (
    "CASE WHEN request_id IS NOT NULL THEN request_id"
    f" ELSE '{_MADE}' || CASE WHEN is_timed THEN '' ELSE ? END || content || ':' || {{number}} END"
)

_NUMBERED = _REQUEST_ID.format(
    number="row_number() OVER (PARTITION BY content ORDER BY line, rowid)"
)

# One table in the order of reading: with an index instead, every row of a large file would be a
# page read somewhere else. One line may hold several rows, which their ids tell apart.
_FIND_REPEATED = f"""
    CREATE TABLE ordered AS
    SELECT line, model, called_at, prompt_tokens, completion_tokens, actual_ms, outcome,
        request_id, details, first, id <> first_id AND same AS present, NOT same AS conflict
    FROM (
        SELECT *, first_value(line) OVER alike AS first, first_value(id) OVER alike AS first_id,
            (first_value(prompt_tokens) OVER alike = prompt_tokens
                AND first_value(completion_tokens) OVER alike = completion_tokens
                AND first_value(actual_ms) OVER alike = actual_ms
                AND first_value(outcome) OVER alike IS outcome) AS same
        FROM (
            SELECT rowid AS id, line, model, called_at, prompt_tokens, completion_tokens, actual_ms,
                outcome, details, {_NUMBERED} AS request_id
            FROM rows)
        WINDOW alike AS (PARTITION BY model, request_id ORDER BY line, id))
    ORDER BY model, called_at, line, id
"""


# -- columns in one value -------------------------------------------------------------------
# Texts have no NUL, and none is empty.


def _joined(column: Sequence[str | None]) -> str | None:
    """Texts as one; None where all are."""
    missing = column.count(None)
    if missing == len(column):
        return None
    return "\0".join([one or "" for one in column] if missing else column)  # type: ignore[arg-type]  # none is None


def _split(text: str | None, count: int) -> list[str | None]:
    """The opposite of `_joined`."""
    if text is None:
        return [None] * count
    return [one or None for one in text.split("\0")]


def _columns(data: bytes, count: int) -> list[list[int]]:
    """So many columns of integers."""
    numbers = array("q", data).tolist()
    size = len(numbers) // count
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]


def _floats(data: bytes) -> list[float]:
    return array("d", data).tolist()


class StagedEntries(Temporary):
    """The entries of a ledger file, verbatim.

    Attributes:
        settings: the settings of the ledger, in order; there are few.
        events: its events, in order.
    """

    _SCHEMA = """
        CREATE TABLE calls (model INTEGER, seq INTEGER, line INTEGER, called_at INTEGER,
            prompt_tokens INTEGER, completion_tokens INTEGER, actual_ms REAL, predicted_ms REAL,
            outcome TEXT, request_id TEXT, details TEXT, PRIMARY KEY (model, seq)) WITHOUT ROWID;
        CREATE TABLE adjustments (model INTEGER, seq INTEGER, line INTEGER, kind TEXT,
            recorded_at INTEGER, rule TEXT, alpha REAL, a REAL, b REAL, o REAL, absolute REAL,
            predicted REAL, samples INTEGER, rule_state BLOB, updated_at INTEGER, note TEXT,
            archived_head BLOB, archived_through INTEGER, archived_digest BLOB, voids TEXT,
            PRIMARY KEY (model, seq)) WITHOUT ROWID;
        CREATE TABLE models (number INTEGER PRIMARY KEY, model TEXT, seq INTEGER, head BLOB,
            line INTEGER);
    """

    def __init__(self) -> None:
        """Start with none."""
        super().__init__()
        self.settings: list[Setting | AliasEntry] = []
        self.events: list[Event] = []

    def add_calls(self, rows: Sequence[tuple[int, int, CallRow]]) -> None:
        """Add calls: (model number, line, call)."""
        self._insert(
            "calls", [(number, seq, line, *values) for number, line, (seq, *values) in rows]
        )

    def add_adjustment(self, number: int, line: int, entry: Adjustment) -> None:
        """Add an adjustment."""
        seq, *values = entry
        self._insert("adjustments", [(number, seq, line, *values)])

    def add_model(self, number: int, model: str, seq: int, head: bytes, line: int) -> None:
        """Add a model's name and head, behind its entries."""
        self._insert("models", [(number, model, seq, head, line)])

    def models(self) -> Iterator[StagedModel]:
        """The models in the order of the file."""
        for row in self._rows("SELECT number, model, seq, head, line FROM models ORDER BY 1"):
            yield StagedModel(self._execute, self._rows, *row)


class StagedModel:
    """One model of a ledger file: read like a `ledger.ModelHistory`."""

    def __init__(
        self,
        execute: Callable[..., list[Any]],
        rows_of: Callable[..., Iterator[Any]],
        number: int,
        model: str,
        seq: int,
        head: bytes,
        line: int,
    ) -> None:
        """Read the adjustments; the calls come in pages."""
        self._execute = execute
        self._rows = rows_of
        self._number = number
        self.model = model
        self.last_seq = seq
        self.head = head
        self.head_line = line
        rows = execute("SELECT * FROM adjustments WHERE model = ? ORDER BY seq", (number,))
        self.adjustments = [Adjustment(seq, *values) for _, seq, _, *values in rows]
        self.archived = archived_seq(self.adjustments[0] if self.adjustments else None)

    def calls(self, after: int, through: int) -> Iterator[Page]:
        """See `history.Entries`."""
        after = max(after, self.archived)
        while after < through:
            rows = self._execute(
                "SELECT seq, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms,"
                " outcome, request_id, details FROM calls WHERE model = ? AND seq > ? AND seq <= ?"
                " ORDER BY seq",
                (self._number, after, min(through, after + PAGE)),
            )
            if rows:
                yield Page(rows, [])
            after += PAGE

    def repeated_requests(self) -> Iterator[tuple[int, int, str]]:
        """The calls whose request id several have, as (line, seq, id): by id, then seq."""
        yield from self._rows(
            "SELECT line, seq, request_id FROM (SELECT line, seq, request_id,"
            " count(*) OVER (PARTITION BY request_id) AS calls"
            " FROM calls WHERE model = ? AND request_id IS NOT NULL)"
            " WHERE calls > 1 ORDER BY request_id, seq",
            (self._number,),
        )

    def line_of(self, seq: int | None) -> int | None:
        """The line of an entry."""
        rows = self._execute(
            "SELECT line FROM calls WHERE model = ? AND seq = ? UNION ALL"
            " SELECT line FROM adjustments WHERE model = ? AND seq = ?",
            (self._number, seq, self._number, seq),
        )
        return int(rows[0][0]) if rows else None
