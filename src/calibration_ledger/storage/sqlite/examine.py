"""What the doctor finds out about a SQLite file. It changes nothing, and makes no file.

Reading a file in WAL mode makes a `-wal` and a `-shm` beside it. Where neither is there, nobody
has the file open: it is then read as a file that cannot change, which makes no others. If somebody
opens it meanwhile, it is read again in the ordinary way.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.facts import Facts, Readable
from calibration_ledger.errors import LedgerError, NotALedgerError
from calibration_ledger.storage.backend import OpenSource
from calibration_ledger.storage.contents import (
    count_rows,
    find_last_entry,
    look,
    unknown_rule,
)
from calibration_ledger.storage.latest import with_drifts
from calibration_ledger.storage.place import check_file
from calibration_ledger.storage.schema import LEDGER_TABLES, REVISION
from calibration_ledger.storage.sqlite.connections import (
    StillConnection,
    connect_reader,
    connect_still,
    list_tables,
    uri,
)
from calibration_ledger.storage.sqlite.faults import DRIVER_ERRORS, code_of, sqlite_fault
from calibration_ledger.storage.sqlite.forks import connect, is_at_rest, private
from calibration_ledger.storage.sqlite.salvage import is_damage, salvage_of, survey
from calibration_ledger.storage.sqlite.soundness import LIST_SCHEMA, complaints, damaged_parts
from calibration_ledger.storage.sqlite.trial import refused_writes, unreadable_models
from calibration_ledger.storage.statements import SQLITE, statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.storage.latest import DriftsOf
    from calibration_ledger.storage.place import File

TIMEOUT_S = 2.0
"""How long to wait for others. In WAL mode readers never wait; in the others they do."""

LOOKED_AT_BYTES = 64 * 2**20
"""How much of a file that is no database is searched for the rest of a ledger."""

TRIED_BYTES = 64 * 2**20
"""Up to which size recording is tried, in a copy in memory."""

DAMAGE_SHOWN = 10
"""How many pieces of damage are listed: the others say the same."""


def examine_file(place: File, durability: str, drifts_of: DriftsOf) -> Facts:
    """Everything that can be found out about the file at a place."""
    path = Path(os.path.realpath(place.path))
    facts = Facts(
        place.shown,
        "SQLite",
        sqlite3.sqlite_version,
        "missing",
        REVISION,
        synchronous=durability,
    )
    try:
        if not check_file(place):
            return replace(facts, state="empty" if path.exists() else "missing")
    except NotALedgerError as error:
        return replace(facts, state="no database", trouble=str(error))
    except LedgerError as error:
        return replace(facts, state="unreadable", trouble=str(error))
    if _is_still(path):
        before = _stamp(path)
        found = _Examination(place, path, facts, drifts_of, is_still=True).facts
        if _stamp(path) == before and _is_still(path):
            return found
    return _Examination(place, path, facts, drifts_of, is_still=False).facts


def _is_still(path: Path) -> bool:
    """Whether nobody has the file open, this process included.

    A connection to a file that "cannot change" takes no locks, but closing it would drop all other
    locks of this process on the file.
    """
    beside = (f"{path}{suffix}" for suffix in ("-wal", "-shm", "-journal"))
    return is_at_rest() and not any(map(os.path.lexists, beside))


def _stamp(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class _Examination:
    """The reading of one file, which goes on behind every error."""

    def __init__(
        self, place: File, path: Path, facts: Facts, drifts_of: DriftsOf, *, is_still: bool
    ) -> None:
        """Read it, into `facts`."""
        self._place = place
        self._path = path
        self._drifts_of = drifts_of
        self._is_still = is_still
        self._damage: list[str] = []
        try:
            opened = connect_still if is_still else connect_reader
            with opened(path, TIMEOUT_S) as self._connection:
                try:
                    self.facts = self._read(facts)
                except DRIVER_ERRORS as error:
                    self.facts = self._left(facts, error)
        except DRIVER_ERRORS as error:
            trouble = str(sqlite_fault(error, facts.ledger, "read"))
            self.facts = replace(facts, state="unreadable", trouble=trouble)
        if self.facts.state == "damaged":
            # Only now that the connection is closed: see `_is_still`.
            self.facts = replace(self.facts, stray_log=self._stray_log())

    def _read(self, facts: Facts) -> Facts:
        tables = list_tables(self._ask)
        facts = replace(facts, **self._state(facts.ledger, tables))
        facts = replace(facts, journal_mode=self._journal_mode())
        if facts.state in {"empty", "foreign"} and not self._damage:
            return facts
        found = self._ask(f"PRAGMA quick_check({DAMAGE_SHOWN})")
        # The list of free pages is checked with this one alone: see `soundness`.
        found += self._ask("PRAGMA quick_check(sqlite_schema)")
        self._damage += complaints(found)
        if facts.state == "newer":
            # Its tables may be others; those that it shares with today's can be counted.
            facts = replace(facts, rows=count_rows(self._ask, tables))
        else:
            # An older one has fewer; and where damage hides one, it is told by its missing count.
            there = tables if facts.state == "older" else LEDGER_TABLES
            rows, last_entry = count_rows(self._ask, there), find_last_entry(self._ask)
            facts = replace(facts, rows=rows, last_entry=last_entry)
        if facts.state == "current" and not self._damage:
            facts = replace(facts, obstacles=tuple(self._obstacles()[:DAMAGE_SHOWN]))
        if not self._damage:
            source = OpenSource(self._place, statements(SQLITE), self._insist)
            facts = with_drifts(facts, source, self._drifts_of)
        if not self._damage:
            return facts
        damage = tuple(dict.fromkeys(self._damage))[:DAMAGE_SHOWN]
        return replace(
            facts, state="damaged", trouble=damage[0], damage=damage, readable=self._survey()
        )

    def _obstacles(self) -> list[str]:
        """See `Facts.obstacles`."""
        parts = damaged_parts(self._ask(LIST_SCHEMA))
        ((pages,),) = self._ask("PRAGMA page_count")
        ((size,),) = self._ask("PRAGMA page_size")
        is_small = pages * size <= TRIED_BYTES
        there = [*unreadable_models(self._connection), *unknown_rule(self._ask)]
        return [*parts, *there, *self._refused() * is_small]

    def _refused(self) -> list[str]:
        """What recording in a copy in memory meets: whatever else may be in its way."""
        with closing(private(":memory:")) as copy:
            self._connection.backup(copy)
            return refused_writes(copy)

    def _left(self, facts: Facts, error: Exception) -> Facts:
        """What there is where nothing could be read in order."""
        trouble = str(sqlite_fault(error, facts.ledger, "read"))
        if code_of(error) != sqlite3.SQLITE_NOTADB:
            return replace(facts, state="unreadable", trouble=trouble)
        readable = self._survey()
        if readable is None or readable.calls == 0:
            return replace(facts, state="no database", trouble=trouble)
        lost = "the first page of the file, which says what it is, is damaged"
        return replace(facts, state="damaged", trouble=lost, damage=(lost,), readable=readable)

    def _insist(self, query: str, parameters: Sequence[Any]) -> list[Any]:
        """The rows of a query, or an error of ours."""
        try:
            return self._connection.execute(query, parameters).fetchall()
        except DRIVER_ERRORS as error:
            raise sqlite_fault(error, self._place.shown, "read") from error

    def _ask(self, query: str) -> list[Any]:
        """The rows of a query, up to the first damage, which is noted."""
        rows: list[Any] = []
        try:
            rows.extend(self._connection.execute(query))
        except DRIVER_ERRORS as error:
            if code_of(error) == sqlite3.SQLITE_NOTADB or not is_damage(error):
                raise
            self._damage.append(str(error))
        return rows

    def _state(self, ledger: str, tables: set[str]) -> dict[str, Any]:
        """What it is, from its tables: the fields of `Facts`."""
        if self._damage:
            return {"state": "damaged"}
        contents = look(tables, self._ask)
        if contents.state == "empty" and self._damage:
            return {"state": "damaged"}
        return contents.facts(ledger)

    def _journal_mode(self) -> str | None:
        """The journal mode, which a connection to a file that "cannot change" does not know.

        But a connection without locks refuses WAL mode, and no other one, before it makes a file.
        """
        if not self._is_still:
            if isinstance(self._connection, StillConnection):
                return None
            rows = self._ask("PRAGMA journal_mode")
            return str(rows[0][0]) if rows else None
        target = uri(self._path, "ro") + "&nolock=1"
        try:
            with connect(target, TIMEOUT_S) as connection:
                connection.execute("PRAGMA schema_version").fetchone()
                return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        except DRIVER_ERRORS as error:
            return "wal" if code_of(error) == sqlite3.SQLITE_CANTOPEN else None

    def _stray_log(self) -> str | None:
        """The log beside the file, if the file is sound without it: then it may be another's."""
        log = f"{self._path}-wal"
        try:
            if not (is_at_rest() and Path(log).stat().st_size):
                return None
            with connect_still(self._path, TIMEOUT_S) as connection:
                found = connection.execute("PRAGMA quick_check(1)").fetchall()
        except (OSError, *DRIVER_ERRORS):
            return None
        return log if found == [("ok",)] else None

    def _survey(self) -> Readable | None:
        try:
            with salvage_of(self._connection, self._path, LOOKED_AT_BYTES) as salvage:
                if salvage is None:
                    return None
                models, calls, lost = survey(salvage)
        except (LedgerError, *DRIVER_ERRORS):
            return None
        return Readable(models, calls, tuple(lost))
