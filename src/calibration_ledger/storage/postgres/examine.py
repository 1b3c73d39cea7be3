"""What the doctor finds out about a ledger in PostgreSQL, on a connection that only reads.

It asks only for what any role may see; what the server keeps to itself is None, or left out.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy as sa

from calibration_ledger.core.facts import Blocked, Facts, ServerFacts
from calibration_ledger.errors import LedgerCorruptError, NotALedgerError
from calibration_ledger.storage.backend import OpenSource
from calibration_ledger.storage.contents import (
    count_rows,
    find_last_entry,
    look,
    unknown_rule,
)
from calibration_ledger.storage.latest import with_drifts
from calibration_ledger.storage.postgres.connections import (
    ANSWER_S,
    FIND_TABLES,
    check_tables,
    make_engine,
)
from calibration_ledger.storage.postgres.faults import no_connection, postgres_fault
from calibration_ledger.storage.postgres.placement import distribution_of
from calibration_ledger.storage.schema import REVISION, TABLES, VERSION_TABLE
from calibration_ledger.storage.statements import POSTGRES, statements
from calibration_ledger.storage.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.storage.latest import DriftsOf
    from calibration_ledger.storage.place import Server

TIMEOUT_S = 10.0
"""How long to wait for a connection."""

LOCK_TIMEOUT_MS = 2_000
"""How long a query may wait for a lock: a running upgrade holds all tables."""

ANSWERS_S = 60.0
"""How long to wait for all answers together: a machine behind the server may hang."""

_SETTINGS = """
    SELECT pg_catalog.current_setting('server_version'),
        pg_catalog.current_setting('default_transaction_isolation'),
        pg_catalog.current_setting('synchronous_commit'),
        pg_catalog.current_setting('fsync'),
        pg_catalog.current_setting('full_page_writes'),
        pg_catalog.pg_is_in_recovery()
        OR pg_catalog.current_setting('default_transaction_read_only') = 'on'
"""
_DATABASE_BYTES = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())"
_LEDGER_BYTES = """
    SELECT sum(pg_catalog.pg_total_relation_size(found.oid))::bigint
    FROM pg_catalog.pg_class AS found
    WHERE found.relname = ANY (%s) AND found.relkind IN ('r', 'p')
    AND pg_catalog.pg_table_is_visible(found.oid)
"""
_DISTRIBUTED_BYTES = """
    SELECT sum(pg_catalog.citus_total_relation_size(found.oid))::bigint
    FROM pg_catalog.pg_dist_partition AS placed
    JOIN pg_catalog.pg_class AS found ON found.oid = placed.logicalrelid
    WHERE found.relname = ANY (%s) AND pg_catalog.pg_table_is_visible(found.oid)
"""
_GRANTS = """
    SELECT needed.what || ' on ' || needed.name
    FROM unnest(%s::text[], %s::text[]) AS needed (name, what)
    WHERE NOT pg_catalog.has_table_privilege(needed.name, needed.what)
"""
_NEEDED = {
    VERSION_TABLE: ("SELECT",),
    "models": ("SELECT", "INSERT"),
    "calls": ("SELECT", "INSERT"),
    "call_details": ("SELECT", "INSERT"),
    "adjustments": ("SELECT", "INSERT"),
    "calibrations": ("SELECT", "INSERT", "UPDATE"),
    "settings": ("SELECT",),
    "setting_heads": ("SELECT",),
    "aliases": ("SELECT",),
    "voided": ("SELECT",),
    "events": ("SELECT",),
    "event_heads": ("SELECT",),
}
"""What a role that records must be allowed."""

# A trigger for updates is in the way of three tables alone: nothing else is ever updated. (Bits 4
# and 16 of its type are INSERT and UPDATE; of rules, '2' is UPDATE and '3' INSERT.)
_FOREIGN = """
    WITH ledger AS (
        SELECT oid, relname FROM pg_catalog.pg_class
        WHERE relname = ANY (%s) AND relkind IN ('r', 'p') AND pg_catalog.pg_table_is_visible(oid)
    )
    SELECT 'the trigger ' || tgname || ' of ' || relname
    FROM ledger JOIN pg_catalog.pg_trigger ON tgrelid = ledger.oid
    WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')
    AND (tgtype & 4 > 0 OR (tgtype & 16 > 0
        AND relname IN ('calibrations', 'setting_heads', 'event_heads')))
    UNION ALL
    SELECT 'the rule ' || rulename || ' of ' || relname
    FROM ledger JOIN pg_catalog.pg_rewrite ON ev_class = ledger.oid
    WHERE ev_enabled IN ('O', 'A')
    AND (ev_type = '3' OR (ev_type = '2'
        AND relname IN ('calibrations', 'setting_heads', 'event_heads')))
    UNION ALL
    SELECT 'the column ' || attname || ' of ' || relname
    FROM ledger JOIN pg_catalog.pg_attribute ON attrelid = ledger.oid
    WHERE attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
    AND relname || '.' || attname <> ALL (%s)
    UNION ALL
    SELECT 'the constraint ' || conname || ' of ' || relname
    FROM ledger JOIN pg_catalog.pg_constraint ON conrelid = ledger.oid
    WHERE contype IN ('c', 'f', 'u', 'x') AND conname <> ALL (%s)
    UNION ALL
    SELECT 'the unique index ' || indexes.relname || ' of ' || ledger.relname
    FROM ledger JOIN pg_catalog.pg_index ON indrelid = ledger.oid
    JOIN pg_catalog.pg_class AS indexes ON indexes.oid = indexrelid
    WHERE indisunique
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = indexrelid)
    UNION ALL
    SELECT 'the row security of ' || relname
    FROM ledger WHERE pg_catalog.row_security_active(oid)
"""
"""What is not the ledger's own, and can refuse, drop or change a row that is recorded."""

_BLOCKED = """
    SELECT waiting.pid, blocker.pid, blocking.application_name, blocking.state,
        coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - waiting.query_start), 0)::float
    FROM pg_catalog.pg_stat_activity AS waiting
    CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(waiting.pid)) AS blocker (pid)
    LEFT JOIN pg_catalog.pg_stat_activity AS blocking ON blocking.pid = blocker.pid
    WHERE waiting.datname = pg_catalog.current_database()
    ORDER BY 5 DESC LIMIT 100
"""


def examine_server(place: Server, durability: str, drifts_of: DriftsOf) -> Facts:
    """Everything that can be found out about the ledger at a URL."""
    facts = Facts(place.shown, "PostgreSQL", None, "unreadable", REVISION, synchronous=durability)
    engine = make_engine(place.url, TIMEOUT_S)
    try:
        try:
            connection = engine.raw_connection()
        except (psycopg.Error, sa.exc.DBAPIError) as error:
            return replace(facts, trouble=str(no_connection(error, place.shown, "read")))
        try:
            return _Examination(place, connection.cursor()).read(facts, drifts_of)
        except psycopg.Error as error:
            return replace(facts, trouble=str(postgres_fault(error, place.shown, "read")))
        finally:
            connection.invalidate()
    finally:
        engine.dispose()


class _Examination:
    """The reading of one database, question by question."""

    def __init__(self, place: Server, cursor: Any) -> None:
        """Take a cursor in autocommit mode."""
        self._place = place
        self._cursor = cursor
        self._deadline = time.monotonic() + ANSWERS_S
        self._tables: set[str] = set()
        self._damage: list[str] = []
        self._unanswered: list[str] = []

    def read(self, facts: Facts, drifts_of: DriftsOf) -> Facts:
        """The facts.

        Raises:
            psycopg.Error: the connection ended.
        """
        facts = replace(facts, **self._server())
        facts = replace(facts, **self._state(facts.ledger))
        if facts.state in {"current", "older", "newer"} and facts.server is not None:
            facts = replace(
                facts,
                rows=count_rows(self._ask, self._tables),
                last_entry=find_last_entry(self._ask),
                server=replace(
                    facts.server, missing_grants=self._missing_grants(), **self._on_machines(facts)
                ),
            )
        if facts.state == "current" and not self._damage and not self._unanswered:
            facts = replace(facts, obstacles=self._obstacles())
        facts = replace(facts, unanswered=tuple(dict.fromkeys(self._unanswered)))
        if self._damage:
            damage = tuple(self._damage)
            return replace(facts, state="damaged", trouble=damage[0], damage=damage)
        source = OpenSource(self._place, statements(POSTGRES), self._read)
        return with_drifts(facts, source, drifts_of)

    def _read(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        """The rows of a query, or an error of ours while the connection is there."""
        try:
            return self._insist(query, *parameters)
        except psycopg.Error as error:
            if self._cursor.connection.closed:
                raise
            raise postgres_fault(error, self._place.shown, "read") from error

    def _insist(self, query: str, *parameters: Any) -> list[Any]:
        """The rows of a query, in a transaction of its own that can change nothing."""
        left_s = max(1.0, self._deadline - time.monotonic())
        # Where the server itself waits without end, it does not keep its own limit either.
        self._cursor.connection.silence_s = left_s + ANSWER_S
        # A setting outside of a transaction would reach other sessions behind PgBouncer.
        self._cursor.execute(
            f"BEGIN READ ONLY; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};"
            f" SET LOCAL statement_timeout = {int(1000 * left_s)}"
        )
        try:
            rows: list[Any] = self._cursor.execute(query, parameters).fetchall()
        finally:
            if not self._cursor.connection.closed:
                self._cursor.execute("ROLLBACK")
        return rows

    def _ask(self, query: str, *parameters: Any) -> list[Any]:
        """The same; no rows where the server refuses, which is noted."""
        try:
            return self._insist(query, *parameters)
        except psycopg.Error as error:
            if self._cursor.connection.closed:
                raise
            fault = postgres_fault(error, "", "read")
            is_damage = isinstance(fault, LedgerCorruptError)
            noted = self._damage if is_damage else self._unanswered
            noted.append(str(error).splitlines()[0])
            return []

    def _server(self) -> dict[str, Any]:
        """What the server says of itself: fields of `Facts`."""
        version, isolation, commit, fsync, full_pages, is_read_only = self._insist(_SETTINGS)[0]
        settings = {"fsync": fsync, "full_page_writes": full_pages}
        database, ledger = self._ask(_DATABASE_BYTES), self._ask(_LEDGER_BYTES, sorted(TABLES))
        server = ServerFacts(
            database_bytes=database[0][0] if database else None,
            ledger_bytes=ledger[0][0] if ledger else None,
            isolation=isolation,
            synchronous_commit=commit,
            unsafe=tuple(f"{name} = off" for name, value in settings.items() if value == "off"),
            is_read_only=is_read_only,
            blocked=tuple(Blocked(*row) for row in self._ask(_BLOCKED)),
        )
        return {"engine_version": version.split(" ")[0], "server": server}

    def _state(self, ledger: str) -> dict[str, Any]:
        """What there is, from its tables: fields of `Facts`."""
        try:
            found = check_tables(ledger, self._insist(FIND_TABLES, sorted(TABLES)))
            self._tables = found.names
            contents = look(found.names, self._insist)
        except NotALedgerError as error:
            return {"state": "foreign", "trouble": str(error)}
        except psycopg.Error as error:
            if self._cursor.connection.closed:
                raise
            return {"state": "unreadable", "trouble": str(postgres_fault(error, ledger, "read"))}
        if contents.state == "empty":
            return {"state": "missing"}
        return contents.facts(ledger)

    def _on_machines(self, facts: Facts) -> dict[str, Any]:
        """Over which machines the ledger is distributed: fields of `ServerFacts`."""
        try:
            found = distribution_of(
                lambda text, values=(): self._insist(text, *values), facts.ledger
            )
        except psycopg.Error as error:
            if self._cursor.connection.closed:
                raise
            self._unanswered.append(str(error).splitlines()[0])
            return {}
        if found is None:
            return {}
        # What lies here are empty tables.
        bytes_there = self._ask(_DISTRIBUTED_BYTES, sorted(TABLES))
        return {"distribution": found, "ledger_bytes": bytes_there[0][0] if bytes_there else None}

    def _missing_grants(self) -> tuple[str, ...]:
        """What this role would have to be allowed, to record."""
        pairs = [(table, what) for table, needed in _NEEDED.items() for what in needed]
        names, grants = zip(*pairs, strict=True)
        return tuple(text for (text,) in self._ask(_GRANTS, list(names), list(grants)))

    def _obstacles(self) -> tuple[str, ...]:
        """See `Facts.obstacles`: concluded, for to try it would write to somebody's server."""
        columns = [
            f"{table.name}.{column.name}"
            for table in metadata.tables.values()
            for column in table.columns
        ]
        constraints = [
            str(constraint.name)
            for table in metadata.tables.values()
            for part in (table, *table.columns)
            for constraint in part.constraints
        ]
        found = self._ask(_FOREIGN, sorted(metadata.tables), columns, constraints)
        return (*(what for (what,) in found), *unknown_rule(self._ask))
