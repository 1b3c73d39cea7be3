"""A private temporary database, in which a file lies while it is checked whole.

It has no name, spills to disk by itself, and is gone when closed: files of any size are put in
order in constant memory. It is no ledger, so it needs no durability and no lock.
"""

from __future__ import annotations

import os
import sqlite3
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

    def _rows(self, text: str, values: Sequence[Any] = ()) -> Iterator[Any]:
        """The rows of a statement that may be many."""
        cursor = self._run(self._connection.execute, text, values)
        while page := self._run(cursor.fetchmany, PAGE):
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
    """A row of a file, checked; times in microseconds; `place` is its own in the order."""

    place: int
    line: int
    model: str
    called_at: int
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    outcome: str | None
    request_id: str
    details: str | None


class StagedCalls(Temporary):
    """The rows of a file of calls: add them all, `settle`, then read them in order."""

    _SCHEMA = """
        CREATE TABLE rows (line INTEGER, model TEXT, called_at INTEGER, prompt_tokens INTEGER,
            completion_tokens INTEGER, actual_ms REAL, request_id TEXT, details TEXT, outcome TEXT,
            content BLOB, is_timed INTEGER);
    """

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows: `StagedCall` from the line on, but with the outcome behind the details.

        Then the key of the content, and whether the row has a time.

        Where `request_id` is None, the key is there, and the other way round.
        """
        self._insert("rows", rows)

    def median_ms_per_token(self) -> float | None:
        """The median of the milliseconds a token.

        Calls of 0 ms or 0 tokens have none, nor have time-outs.
        """
        speeds = (
            "FROM rows WHERE actual_ms > 0 AND prompt_tokens + completion_tokens > 0"
            " AND outcome IS NULL"
        )
        ((count,),) = self._execute(f"SELECT count(*) {speeds}")
        if not count:
            return None
        ((median,),) = self._execute(
            f"SELECT actual_ms / (prompt_tokens + completion_tokens) {speeds}"
            f" ORDER BY 1 LIMIT 1 OFFSET {count // 2}"
        )
        return float(median)

    def count_known_by_file(self) -> int:
        """How many rows have neither a time nor a request id."""
        text = "SELECT count(*) FROM rows WHERE request_id IS NULL AND NOT is_timed"
        ((count,),) = self._execute(text)
        return int(count)

    def settle(self, file: str) -> None:
        """Put the rows in order, give each its request id, and find those that are there twice.

        A row without an id is known by the key of its content and its number among equal rows,
        and if it has no time either, by its file, too.
        """
        # One table in the order of reading: with an index instead, every row of a large file
        # would be a page read somewhere else. One line may hold several rows, and then the
        # order in which they were read tells which was first.
        self._execute(
            """
            CREATE TABLE ordered AS
            SELECT line, model, called_at, prompt_tokens, completion_tokens, actual_ms, outcome,
                request_id, details, first, number > 1 AND same AS present, NOT same AS conflict
            FROM (
                SELECT *, first_value(line) OVER alike AS first, row_number() OVER alike AS number,
                    (first_value(prompt_tokens) OVER alike = prompt_tokens
                        AND first_value(completion_tokens) OVER alike = completion_tokens
                        AND first_value(actual_ms) OVER alike = actual_ms
                        AND first_value(outcome) OVER alike IS outcome) AS same
                FROM (
                    SELECT rowid AS read, line, model, called_at, prompt_tokens, completion_tokens,
                        actual_ms, outcome, details,
                        CASE WHEN request_id IS NOT NULL THEN request_id
                        ELSE 'import:' || CASE WHEN is_timed THEN '' ELSE ? END
                            || lower(hex(content)) || ':'
                            || row_number() OVER (PARTITION BY content ORDER BY line, rowid)
                        END AS request_id
                    FROM rows)
                WINDOW alike AS (PARTITION BY model, request_id ORDER BY line, read))
            ORDER BY model, called_at, line, read
            """,
            (file,),
        )
        self._execute("DROP TABLE rows")

    def conflicts(self) -> Iterator[tuple[int, int, str, str]]:
        """Rows whose request id an earlier row has with other numbers, by line.

        Gives (line, the earlier line, model, request id).
        """
        yield from self._rows(
            "SELECT line, first, model, request_id FROM ordered WHERE conflict ORDER BY line"
        )

    def drop_conflicts(self) -> None:
        """Leave out what `conflicts` gives."""
        self._execute("DELETE FROM ordered WHERE conflict")

    def drop(self, places: Iterable[int]) -> None:
        """Leave rows out."""
        self._executemany("DELETE FROM ordered WHERE rowid = ?", [(place,) for place in places])

    def set_present(self, places: Iterable[int]) -> None:
        """Mark rows that the ledger has already."""
        self._executemany(
            "UPDATE ordered SET present = 1 WHERE rowid = ?", [(place,) for place in places]
        )

    def count_present(self) -> int:
        """How many rows are marked."""
        ((count,),) = self._execute("SELECT count(*) FROM ordered WHERE present")
        return int(count)

    def by_model(self, now: int) -> list[tuple[str, int, int | None, int | None, int, int, float]]:
        """The rows that are not marked, in figures of each model, sorted by name.

        Gives (model, rows, first time, last time, prompt tokens, completion tokens, median of the
        milliseconds); a row of the time `now` has none of its own.
        """
        return self._execute(
            """
            SELECT model, count(*), min(nullif(called_at, ?)), max(nullif(called_at, ?)),
                sum(prompt_tokens), sum(completion_tokens),
                avg(actual_ms) FILTER (WHERE 2 * place BETWEEN rows AND rows + 2)
            FROM (
                SELECT *, row_number() OVER (PARTITION BY model ORDER BY actual_ms) AS place,
                    count(*) OVER (PARTITION BY model) AS rows
                FROM ordered WHERE NOT present)
            GROUP BY model ORDER BY model
            """,
            (now, now),
        )

    def pages(self, size: int) -> Iterator[list[StagedCall]]:
        """The rows that are not marked, by model, time and line.

        Rows of a page may be dropped or marked before the next one is asked for.
        """
        after = 0
        while True:
            found = self._execute(
                "SELECT rowid, line, model, called_at, prompt_tokens, completion_tokens, actual_ms,"
                " outcome, request_id, details FROM ordered WHERE rowid > ? AND NOT present"
                " ORDER BY rowid LIMIT ?",
                (after, size),
            )
            if not found:
                return
            after = found[-1][0]
            yield [StagedCall(*row) for row in found]


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
