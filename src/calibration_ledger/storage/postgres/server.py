"""A ledger in PostgreSQL, for several machines: the same statements behind the same `Backend`.

A writing transaction locks the model's row before it reads it (`FOR UPDATE`), under READ
COMMITTED, which is asked for by name because a database may default to another level. So `seq` is
the order of application, as on SQLite. What undoes a transaction before its COMMIT was sent (a
deadlock, a serialisation failure, a connection that died) left nothing behind, and it is run again
whole, until the deadline. A COMMIT without an answer is the one case that stays open.

Works behind PgBouncer in transaction mode: no session locks, and no setting outlives its
transaction.
"""

from __future__ import annotations

import os
import random
import time
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg

from calibration_ledger.core.command import calib
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerNotFoundError,
    NotRecordedError,
    damaged,
)
from calibration_ledger.storage.backend import Raced
from calibration_ledger.storage.contents import look
from calibration_ledger.storage.migrate import upgrade
from calibration_ledger.storage.postgres.connections import (
    ANSWER_S,
    FIND_TABLES,
    Connections,
    NoConnectionError,
    check_tables,
)
from calibration_ledger.storage.postgres.faults import (
    in_the_way,
    is_changed_schema,
    is_crowded,
    is_ended,
    is_lost_connection,
    is_starting,
    is_worth_a_retry,
    no_connection,
    postgres_fault,
    unknown_outcome,
)
from calibration_ledger.storage.schema import TABLES
from calibration_ledger.storage.sqlite.forks import open_backends
from calibration_ledger.storage.statements import LONG, POSTGRES, statements
from calibration_ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from calibration_ledger.core.entries import AliasEntry, Event, Setting
    from calibration_ledger.storage.backend import Result
    from calibration_ledger.storage.place import Server
    from calibration_ledger.storage.postgres.connections import Held
    from calibration_ledger.storage.statements import Statements

_PAUSE_S_MAX = 0.25
_LOSSES_MAX = 2
"""Connections that may die under one call: once the server restarted, and once in its recovery."""
_REFUSALS_MAX = 3
_LOOK_EVERY_S = 60.0
"""How often writers look whether the ledger was spread over several machines meanwhile."""


# One round trip begins a transaction, and what it sets ends with it. Citus passes the settings on
# to the machines that the transaction comes to: else each would wait for locks without end. It
# passes the whole text that a SET stands in, so BEGIN must not be in it.
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_ON_CITUS = f"{_BEGIN}; SET LOCAL citus.propagate_set_commands = 'local'"
_SETTINGS = (
    "SET LOCAL lock_timeout = {{milliseconds}};"
    " SET LOCAL synchronous_commit = {commit};"
    # Citus writes numbers as texts on their way to another machine. At 0 or less, which a database
    # may be set to, they would be rounded; from 1 on they are exact.
    " SET LOCAL extra_float_digits = 1"
)


class PostgresBackend:
    """The `Backend` of one PostgreSQL database."""

    def __init__(self, place: Server, durability: str, timeout_s: float) -> None:
        """Look whether there is a ledger, to refuse at once what is none.

        Raises:
            LedgerError: the server cannot be reached, or its database is of something else.
        """
        self.place = place
        self.durability = durability
        self._timeout_s = timeout_s
        self._settings = _SETTINGS.format(commit="on" if durability == "full" else "off")
        self._on_citus = False
        self._ready = False
        self._look_again_at = 0.0
        self._ids: dict[str, int] = {}
        self._connections = Connections(place.url, place.shown, timeout_s)
        self.sql = statements(POSTGRES)
        self._long = frozenset(getattr(self.sql, name) for name in LONG)
        open_backends.add(self)
        try:
            self._look()
        except LedgerNotFoundError:
            pass  # the first write makes it
        except BaseException:
            self.close()
            raise

    # -- reading ----------------------------------------------------------------------------

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Backend.read`."""
        if not self._ready:
            self._look()
        return self._read(text, parameters)

    def find(self, model: str) -> list[Any]:
        """See `Backend.find`: by the model's id, so that it asks one machine where there are many.

        Raises what `read` raises.
        """
        return find_by_id(self.read, self.sql.find_known, self.sql, self._ids, model) or []

    def _read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        limit_s = None if text in self._long else self._timeout_s + ANSWER_S

        def attempt(held: Held, _: float) -> list[Any]:
            held.bound(limit_s)
            rows: list[Any] = held.cursor.execute(text, parameters).fetchall()
            return rows

        return self._persist(attempt, "read")

    def _look(self) -> None:
        """Check that the database holds a ledger of this program's revision."""
        found = self._read(FIND_TABLES, (sorted(TABLES),))
        tables = check_tables(self.place.shown, found)
        contents = look(tables.names, self._read)
        if contents.state == "empty":
            raise LedgerNotFoundError(
                f"there is no ledger in {self.place.shown} yet: the first call recorded makes it, "
                f"as does `{calib('db', 'upgrade', ledger=self.place.shown)}`."
            )
        contents.check(self.place.shown)
        self._on_citus = tables.on_citus
        self._look_again_at = time.monotonic() + _LOOK_EVERY_S
        self._ready = True

    # -- writing ----------------------------------------------------------------------------

    def write(self, work: Callable[..., Result], *arguments: Any, makes: bool = True) -> Result:
        """See `Backend.write`."""
        if not self._ready:
            self._make_ready(makes=makes)
        elif time.monotonic() > self._look_again_at:
            self._look()

        def attempt(held: Held, deadline: float) -> Result:
            return self._run(held, deadline, work, arguments)

        return self._persist(attempt, "write")

    def _make_ready(self, *, makes: bool) -> None:
        try:
            self._look()
        except LedgerNotFoundError:
            if not makes:
                raise
            upgrade(self.place, self._timeout_s)
            self._look()

    def _run(
        self, held: Held, deadline: float, work: Callable[..., Result], arguments: Sequence[Any]
    ) -> Result:
        held.bound(self._timeout_s + ANSWER_S)
        try:
            limited_at = time.monotonic()
            settings = self._settings.format(milliseconds=left_ms(deadline))
            if self._on_citus:
                held.control.execute(_BEGIN_ON_CITUS)
                held.control.execute(settings)
            else:
                held.control.execute(f"{_BEGIN}; {settings}")
            transaction = PostgresTransaction(
                held,
                self.sql,
                self.place.shown,
                self._ids,
                deadline,
                limited_at,
                on_citus=self._on_citus,
            )
            result = work(transaction, *arguments)
        except BaseException:
            try:
                held.control.execute("ROLLBACK")
            except psycopg.Error:
                self._connections.drop()  # the server undoes it when the connection ends
            raise
        self._commit(held)
        return result

    def _commit(self, held: Held) -> None:
        held.bound(self._timeout_s + ANSWER_S)
        try:
            held.control.execute("COMMIT")
        except psycopg.Error as error:
            if held.is_gone or is_lost_connection(error):
                self._connections.drop()
                raise unknown_outcome(error, self.place.shown) from error
            raise  # the server says that it undid the transaction
        except BaseException:
            self._connections.drop()  # interrupted: it may be in the middle of an answer
            raise
        if held.control.statusmessage != "COMMIT":
            raise NotRecordedError(
                f"{self.place.shown} answered {held.control.statusmessage} to COMMIT",
                advice="try again",
            )

    # -- going on ---------------------------------------------------------------------------

    def _persist(self, attempt: Callable[[Held, float], Result], doing: str) -> Result:
        """Attempt it on this thread's connection, and again while what stopped it may pass.

        An error of psycopg's that comes here has left no trace in the ledger.
        """
        shown = self.place.shown
        deadline = time.monotonic() + self._timeout_s
        pause_s, losses, refusals = 0.005, 0, 0
        while True:
            try:
                return self._attempt(attempt, deadline)
            except NoConnectionError as error:
                cause = error.__cause__ or error
                answer = self._connections.ping()
                # A server that served us before, or ended the connection that PgBouncer had for
                # us, is restarting: for a moment of its recovery it does not answer at all.
                refusals += answer != "reject"
                is_known = self._ready or is_ended(cause)
                is_up_again = is_known and refusals <= _REFUSALS_MAX
                # A server that says that it starts, also after a crash, is worth waiting for.
                may_pass = answer == "reject" or is_up_again or is_crowded(cause)
                if not may_pass or time.monotonic() + pause_s > deadline:
                    raise no_connection(cause, shown, doing) from cause
            except (Raced, psycopg.Error) as error:
                lost = is_lost_connection(error)
                losses += lost
                may_pass = is_worth_a_retry(error) or is_starting(error)
                if not (may_pass or (lost and losses <= _LOSSES_MAX)):
                    if self._ready and is_changed_schema(error):
                        self._ready = False
                        self._look()  # says that the ledger was upgraded, or is gone
                    raise postgres_fault(error, shown, doing) from error
                if time.monotonic() + pause_s > deadline:
                    if is_starting(error) or lost:
                        raise postgres_fault(error, shown, doing) from error
                    raise in_the_way(shown, self._timeout_s, doing) from error
            # With jitter: two that collided would collide again.
            time.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _attempt(self, attempt: Callable[[Held, float], Result], deadline: float) -> Result:
        held = self._connections.take()
        try:
            held.in_use = True
            self._connections.check_open()
            return attempt(held, deadline)
        finally:
            held.in_use = False  # a store that nothing can come between, unlike a call
            self._connections.give_back(held)

    # -- the end ----------------------------------------------------------------------------

    def check_engine(self) -> list[str]:
        """See `Backend.check_engine`: PostgreSQL checks its pages itself, as it reads them."""
        return []

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """See `Backend.backup`."""
        raise InvalidInputError(
            f"{os.fspath(copy)} was not written: back a PostgreSQL ledger up with pg_dump, or move "
            f"it whole with `{calib('export', 'jsonl', 'FILE', ledger=self.place.shown)}`."
        )

    def close(self) -> None:
        """Close every connection of this process; a thread still in a call finishes it."""
        self._connections.close()
        if not self.is_busy:  # else the end of the program waits for the call
            open_backends.discard(self)

    @property
    def is_busy(self) -> bool:
        """Whether a thread is still in a call."""
        return self._connections.is_busy

    def after_fork_in_child(self) -> None:
        """Put the parent's connections aside."""
        self._connections.after_fork_in_child()


# -- a writing transaction: locks that end at a deadline, rows that go in pipelines -----------
# A model's row is locked by the model's id. The name would do in one PostgreSQL; but where rows
# are spread over machines by `model_id`, a lock must say which machine it is for.

_LIMIT_EVERY_S = 0.05
_ROWS_AT_ONCE = 100
"""Rows to an INSERT: more of them gain little."""

_NAMES_KEY = 0x63616C69625F6E
"""What who opens a model and who gives a name to one lock, in letters: `calib_n`. A row cannot be
locked that is not there yet."""


class PostgresTransaction(Transaction):
    """A transaction that waits for all its locks together no longer than until the deadline."""

    __slots__ = ("_deadline", "_held", "_ids", "_limited_at", "_nameless", "_on_citus", "_rows")

    def __init__(
        self,
        held: Held,
        sql: Statements,
        ledger: str,
        ids: dict[str, int],
        deadline: float,
        limited_at: float,
        *,
        on_citus: bool,
    ) -> None:
        """Wrap a connection whose transaction has begun.

        Args:
            held: what statements run on.
            sql: the statements.
            ledger: the place as it may be shown.
            ids: the ids of models that were met before, to add to.
            deadline: when to have all locks, in seconds of the monotonic clock.
            limited_at: when the limit of the transaction was right: before its BEGIN was sent,
                which behind PgBouncer may have waited long for a server connection.
            on_citus: whether the rows may be spread over several machines.
        """
        super().__init__(held.cursor, sql, ledger)
        self._held = held
        self._rows = held.rows
        self._ids = ids
        self._deadline = deadline
        self._limited_at = limited_at
        self._on_citus = on_citus
        self._nameless: set[str] = set()  # the models whose names `load` did not find

    def _lock(self, model: str) -> Any:
        """See `Transaction._lock`."""
        self._limit()
        rows = find_by_id(self.ask, self._sql.load_known, self._sql, self._ids, model)
        if rows is None:
            self._nameless.add(model)
        return rows[0] if rows else None

    def _limit(self) -> None:
        """Let the next lock be waited for no longer than until the deadline."""
        # lock_timeout counts anew for each lock. It is set again only once time was lost, so that
        # the first lock costs no round trip more.
        now = time.monotonic()
        if now > self._limited_at + _LIMIT_EVERY_S:
            self._limited_at = now
            self._execute(f"SET LOCAL lock_timeout = {left_ms(self._deadline)}")

    def keep_out_new(self) -> None:
        """See `Transaction.keep_out_new`."""
        self._limit()
        self._execute(f"SELECT pg_catalog.pg_advisory_xact_lock({_NAMES_KEY})")

    def begin_model(self, model: str) -> None:
        """See `Transaction.begin_model`."""
        self._limit()
        self._execute(f"SELECT pg_catalog.pg_advisory_xact_lock_shared({_NAMES_KEY})")
        if self.alias_of(model) is not None:
            raise Raced(model)

    def _be_patient(self) -> None:
        """See `Transaction._be_patient`."""
        self._held.bound(None)

    def add_model(self, model: str) -> int:
        """See `Transaction.add_model`."""
        if model not in self._nameless:  # `load` found the name, and no calibration
            if self._on_citus:  # where a commit reaches one machine after the other
                raise Raced(model)
            raise damaged(model, "the calibration is missing")
        try:
            # Not ON CONFLICT, for which Citus asks the right to change the names of models.
            return self._insert_model(model)
        except psycopg.errors.UniqueViolation as error:
            raise Raced(model) from error

    def add_settings(self, entries: Sequence[Setting | AliasEntry], head: bytes) -> None:
        """See `Transaction.add_settings`: what another transaction added has the same numbers."""
        try:
            super().add_settings(entries, head)
        except psycopg.errors.UniqueViolation as error:
            raise Raced(entries[0].seq) from error
        if self._cursor.rowcount != 1:  # a setting and an alias, in tables of their own
            raise Raced(entries[0].seq)

    def add_event(self, event: Event) -> None:
        """See `Transaction.add_event`."""
        self._limit()
        try:
            super().add_event(event)
        except psycopg.errors.UniqueViolation as error:
            raise Raced(event.kind) from error

    def _add(self, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """See `Transaction._add`."""
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            if len(some) == 1:
                self._execute(text, some[0])
            else:
                self._rows.execute(insert_of(text, len(some)), [*chain.from_iterable(some)])


@lru_cache
def insert_of(text: str, rows: int) -> str:
    """The INSERT of one row as one of so many, with its parameters numbered."""
    insert, values = text.split(" VALUES ")
    parts = ", ".join([values] * rows).split("%s")
    numbered = "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], 1))
    return f"{insert} VALUES {numbered}{parts[-1]}"


def find_by_id(
    ask: Callable[[str, Sequence[Any]], list[Any]],
    text: str,
    sql: Statements,
    ids: dict[str, int],
    model: str,
) -> list[Any] | None:
    """The rows of a statement that names a model and its id, which is asked for once.

    None: there is no such name.

    Both are named, so that an id of a ledger that was replaced meanwhile finds nothing.

    Args:
        ask: runs a statement, and gives its rows.
        text: the statement.
        sql: all statements.
        ids: the ids of models that were met before, to add to.
        model: the model's name.
    """
    known = ids.get(model)
    rows = [] if known is None else ask(text, (model, known))
    if rows:
        return rows
    found = ask(sql.find_id, (model,))
    if not found:
        ids.pop(model, None)
        return None
    ids[model] = found[0][0]
    return ask(text, (model, ids[model]))


def left_ms(deadline: float) -> int:
    """The milliseconds to the deadline; at least one, because 0 would be no limit at all."""
    return max(1, int(1000 * (deadline - time.monotonic())))
