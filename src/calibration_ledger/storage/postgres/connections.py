"""The connections that one process holds to a PostgreSQL server: one for each thread in a call.

A thread's connection goes back to the pool when the thread ends. A child of a fork puts the
inherited ones aside: two processes cannot share one.

Works behind PgBouncer in transaction mode: no server-side prepared statements, and nothing is set
but when a connection is made and inside a transaction.
"""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import sqlalchemy as sa
from psycopg import pq
from psycopg.conninfo import make_conninfo

from calibration_ledger.errors import LedgerClosedError, NotALedgerError, ReentrantCallError
from calibration_ledger.storage.place import unreadable_url
from calibration_ledger.storage.sqlite.forks import snapshot

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy.pool import PoolProxiedConnection


ANSWER_S = 2.0
"""What a busy server or network may take to answer once a deadline is over."""


class SilentServerError(psycopg.OperationalError):
    """The server did not answer in time; whether it heard the question is not known."""


class Impatient(psycopg.Connection[Any]):
    """A connection that waits for an answer for a bounded time, and then gives the server up.

    The system notices when a network swallows what is sent, but not a machine on the way that
    takes it and does not pass it on. No more does `lock_timeout`, which the server keeps.

    Attributes:
        silence_s: how long to wait for the answer to one statement; None: as long as it takes.
    """

    silence_s: float | None = None

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **keywords: Any) -> Any:
        """See psycopg's, which looks in at `gen` ten times a second."""
        if self.silence_s is None:
            return super().wait(gen, *arguments, **keywords)
        try:
            return super().wait(_until(gen, self.silence_s), *arguments, **keywords)
        except SilentServerError:
            self.close()  # the answer may still come, and is not one to the next question
            raise


def _until(gen: Generator[Any, Any, Any], silence_s: float) -> Generator[Any, Any, Any]:
    """The same generator, which ends in an error if it is not done in time."""
    deadline = time.monotonic() + silence_s
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                raise SilentServerError(f"the server did not answer for {silence_s:g} s")
            wanted = gen.send(ready)
    except StopIteration as done:
        return done.value


def make_engine(url: str, timeout_s: float) -> sa.Engine:
    """An engine whose connections begin and commit only when told to; they are `Impatient`.

    Raises:
        InvalidInputError: a port in the URL is none, or hosts and ports do not fit.
    """
    parsed = sa.make_url(url)
    defaults = {
        "application_name": "calibration-ledger",
        # Below two seconds a connection over a busy network would fail for no good reason.
        "connect_timeout": max(2, int(timeout_s)),
        # A server that lost its power says nothing: probe after 10 s of silence, and give it up
        # after 30 s. The system's own default is two hours.
        "keepalives_idle": 10,
        "keepalives_interval": 10,
        "keepalives_count": 2,
        # While what was sent is not acknowledged, TCP sends no probes, and tries for 15 minutes.
        "tcp_user_timeout": 1000 * max(2, int(timeout_s)),
    }
    try:
        parsed.get_dialect()().create_connect_args(parsed)
    except sa.exc.ArgumentError:
        raise unreadable_url() from None
    engine = sa.create_engine(
        parsed,
        # As on SQLite: one connection for each thread that is in a call, none closed on its own.
        poolclass=sa.QueuePool,
        pool_size=0,
        pool_reset_on_return=None,
        # By position, as the compiled statements bind on every database.
        paramstyle="format",
        isolation_level="AUTOCOMMIT",
        connect_args={
            **{name: value for name, value in defaults.items() if name not in parsed.query},
            # Model names are any Unicode, also where the database is of another encoding.
            "client_encoding": "utf8",
            # PgBouncer in transaction mode gives each transaction another server connection, which
            # does not know what was prepared on the last one.
            "prepare_threshold": None,
        },
    )

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Impatient:
        made = Impatient.connect(*arguments, **parameters)
        made.silence_s = timeout_s + ANSWER_S  # also of what SQLAlchemy asks it first
        return made

    @sa.event.listens_for(engine, "connect")
    def be_patient(connection: Any, _record: Any) -> None:
        connection.silence_s = None  # whoever uses it knows how long an answer may take

    return engine


class NoConnectionError(Exception):
    """A connection could not be made: its cause says why."""


class Held:
    """A connection that a thread keeps, with its cursors."""

    __slots__ = ("__weakref__", "connection", "control", "cursor", "in_use", "rows")

    def __init__(self, connection: PoolProxiedConnection) -> None:
        """Make the cursors."""
        self.connection = connection
        self.in_use = False
        # For BEGIN and COMMIT: as texts, several statements can go in one round trip.
        self.control: Any = connection.cursor()
        # For the rest. Numbers come as their 64 bits: as texts they would be rounded where a
        # database sets extra_float_digits to 0 or less.
        self.cursor: Any = connection.cursor(binary=True)
        # For the longest texts, which it takes as the server does: another cursor would look
        # through them for parameters each time.
        self.rows: Any = psycopg.RawCursor(connection.driver_connection)  # type: ignore[arg-type]  # SQLAlchemy's type knows no driver

    def bound(self, silence_s: float | None) -> None:
        """Wait for the answers to come no longer than this; None: as long as it takes."""
        connection: Any = self.connection.dbapi_connection
        if connection is not None:
            connection.silence_s = silence_s

    @property
    def is_gone(self) -> bool:
        """Whether the connection ended."""
        connection: Any = self.connection.dbapi_connection
        return connection is None or connection.closed


class Connections:
    """The pool, and what each thread holds of it."""

    def __init__(self, url: str, ledger: str, timeout_s: float) -> None:
        """Connect nothing yet; `ledger` is the place as it may be shown."""
        self._url = url
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._inherited: list[Any] = []
        self._open_pool()
        self._closed = False

    def _open_pool(self) -> None:
        self._local = threading.local()
        self._all: weakref.WeakSet[Held] = weakref.WeakSet()
        self._engine = make_engine(self._url, self._timeout_s)

    def take(self) -> Held:
        """This thread's connection; one that died is replaced.

        The caller sets its `in_use`, then calls `check_open`; at the end it clears `in_use`, in a
        `finally`, and then calls `give_back`.

        Raises:
            ReentrantCallError: this thread is in the middle of using it.
            NoConnectionError: it cannot be made.
            LedgerClosedError: the calibrator is closed.
        """
        held: Held | None = getattr(self._local, "held", None)
        if held is not None and held.in_use:
            raise ReentrantCallError
        if held is None or held.is_gone:
            held = self._open()
        return held

    def check_open(self) -> None:
        """Refuse to begin a call once all connections are closed.

        A call sets `in_use` and then looks here; `close` forbids calls and then looks at `in_use`.
        So it never pulls a connection from under a call.
        """
        if self._closed:
            raise LedgerClosedError(f"this calibrator of {self._ledger} is closed: open one.")

    def _open(self) -> Held:
        self.drop()
        self.check_open()
        try:
            held = Held(self._engine.raw_connection())
        except (psycopg.Error, sa.exc.DBAPIError) as error:
            raise NoConnectionError from error
        self._all.add(held)
        self._local.held = held
        return held

    def give_back(self, held: Held) -> None:
        """End a call: the thread keeps the connection, unless it died or all were closed."""
        if self._closed or held.is_gone:
            self._discard(held)

    def _discard(self, held: Held) -> None:
        self._local.__dict__.pop("held", None)
        if held.connection.is_valid:
            held.connection.invalidate()

    def drop(self) -> None:
        """Close this thread's connection."""
        held = getattr(self._local, "held", None)
        if held is not None:
            self._discard(held)

    def ping(self) -> str:
        """Whether the server takes connections: `ok`, `reject` (it starts or stops), or neither."""
        (_, parameters) = self._engine.dialect.create_connect_args(self._engine.url)
        parameters.pop("context", None)  # psycopg's own, and nothing that libpq knows
        parameters["connect_timeout"] = 2
        try:
            target = make_conninfo("", **parameters)
        except psycopg.ProgrammingError:
            return "no attempt"
        return pq.Ping(pq.PGconn.ping(target.encode())).name.lower()

    def close(self) -> None:
        """Close every connection; those of other threads that are in a call, at its end."""
        self._closed = True
        for held in list(self._all):
            if not held.in_use and held.connection.is_valid:
                held.connection.invalidate()
        self._engine.dispose()

    @property
    def is_busy(self) -> bool:
        """Whether a thread is in a call, or closes its connection behind one."""
        return any(held.connection.is_valid for held in snapshot(self._all))

    def __del__(self) -> None:
        """Close what nobody closed; nobody can be in a call any more."""
        if not getattr(self, "_closed", True):
            self.close()

    def after_fork_in_child(self) -> None:
        """Put the parent's connections aside, still referenced, so that nothing closes them."""
        self._inherited.append((self._engine, self._local, list(self._all)))
        self._open_pool()


# -- which tables the statements would find -------------------------------------------------
# A name without a schema is looked for along the search_path, so a ledger may lie in any schema
# of it, beside other programs' tables. All tables of a ledger must be found in one and the same.

FIND_TABLES = """
    SELECT found.relname::text, schemas.nspname::text,
        EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')
    FROM pg_catalog.pg_class AS found
    JOIN pg_catalog.pg_namespace AS schemas ON schemas.oid = found.relnamespace
    WHERE found.relname = ANY (%s) AND found.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND pg_catalog.pg_table_is_visible(found.oid)
"""
"""Not information_schema, which hides what a user has no grant for: a ledger that may not be read
would look like none, and be made anew."""


class Tables(NamedTuple):
    """The tables of a ledger that were found.

    Attributes:
        names: their names.
        schema: where they all lie; None for no table.
        on_citus: whether Citus can spread them over several machines.
    """

    names: set[str]
    schema: str | None
    on_citus: bool


def check_tables(ledger: str, rows: Sequence[Any]) -> Tables:
    """The tables in rows of `FIND_TABLES`.

    Raises:
        NotALedgerError: they lie in several schemas.
    """
    schemas = {schema for _, schema, _ in rows}
    if len(schemas) > 1:
        found = ", ".join(sorted(f"{schema}.{table}" for table, schema, _ in rows))
        raise NotALedgerError(
            f"{ledger}: its search_path mixes tables of several schemas ({found}). Nothing was "
            f"touched: name the one to use, by ?options=-csearch_path%3DSCHEMA behind the URL."
        )
    return Tables(
        {table for table, _, _ in rows},
        schemas.pop() if schemas else None,
        any(on_citus for _, _, on_citus in rows),
    )
