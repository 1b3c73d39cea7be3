"""What lies in a database: nothing yet, a ledger of some revision, or something else.

The names of the tables tell, and the revision that they hold. All who ask come here, whatever the
database: whoever opens a ledger, upgrades one, or examines one (the doctor).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.command import calib
from calibration_ledger.core.validation import TIME_LIMIT_US, time_from_us
from calibration_ledger.errors import (
    LedgerError,
    LedgerOutdatedError,
    LedgerTooNewError,
    NotALedgerError,
)
from calibration_ledger.storage.schema import (
    ADDED_TABLES,
    LEDGER_TABLES,
    REVISION,
    TABLES,
    VERSION_TABLE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    import sqlalchemy as sa

    from calibration_ledger.core.facts import LastEntry

CORE_TABLES = frozenset({"models", "calls", VERSION_TABLE})
"""What a ledger of any revision has."""

_FIND_REVISIONS = f"SELECT version_num FROM {VERSION_TABLE}"


class Contents(NamedTuple):
    """What lies in a database.

    Attributes:
        state: "empty", "current", "older", "newer" or "foreign"; see `Facts.state`.
        revision: of a ledger, as its version table holds it; empty where it is none.
        fault: why it is no ledger, and what to do; empty for the others.
    """

    state: str
    revision: str = ""
    fault: str = ""

    def error(self, ledger: str) -> LedgerError:
        """Why this program cannot use what is neither empty nor current."""
        if self.state == "foreign":
            return NotALedgerError(f"{ledger} {self.fault}")
        if self.state == "older":
            return LedgerOutdatedError(
                f"{ledger} is of revision {self.revision}, and this program reads and writes "
                f"{REVISION}: upgrade it with `{calib('db', 'upgrade', ledger=ledger)}`.",
                found=self.revision,
                expected=REVISION,
            )
        return LedgerTooNewError(
            f"{ledger} is of revision {self.revision}, and this program only knows {REVISION}: a "
            f"newer calibration-ledger wrote it. Install the newer program, from where you got "
            f"this one.",
            found=self.revision,
            expected=REVISION,
        )

    def facts(self, ledger: str) -> dict[str, Any]:
        """The same as fields of `Facts`."""
        if self.state == "foreign":
            return {"state": self.state, "trouble": f"{ledger} {self.fault}"}
        return {"state": self.state, "revision": self.revision or None}

    def check(self, ledger: str) -> None:
        """Refuse what is neither empty nor a ledger of this program's revision.

        Raises:
            NotALedgerError: it is a database of something else, or of a revision that never was.
            LedgerRevisionError: it is of another revision.
        """
        if self.state not in {"empty", "current"}:
            raise self.error(ledger)


def look(tables: AbstractSet[str], ask: Callable[[str], Iterable[Sequence[Any]]]) -> Contents:
    """What lies in a database with these tables; `ask` runs a query on it."""
    # A foreign table of that name may be of another shape, and refuse.
    may_tell = tables >= CORE_TABLES or tables == {VERSION_TABLE}
    return contents_of(tables, [row[0] for row in ask(_FIND_REVISIONS)] if may_tell else [])


def asking(connection: sa.Connection) -> Callable[..., Sequence[Any]]:
    """What runs a query, with its parameters, on a connection, and gives the rows."""

    def ask(text: str, *values: Any) -> Sequence[Any]:
        return connection.exec_driver_sql(text, *values).all()

    return ask


def contents_of(tables: AbstractSet[str], revisions: Sequence[object]) -> Contents:
    """What lies in a database, by the names of its tables and what its version table holds."""
    if tables <= {VERSION_TABLE} and not revisions:
        return Contents("empty")
    found = of_revision(revisions[0]) if len(revisions) == 1 else None
    if not tables >= _least_tables(found):
        names = ", ".join(sorted(tables)[:5])
        return _foreign(
            f"is a database of something else (its tables: {names})", "name another one"
        )
    if found is None:
        return _foreign("has no revision, so it is not a whole ledger", "restore a backup")
    return found


def _least_tables(found: Contents | None) -> AbstractSet[str]:
    """What a ledger of this revision has at least."""
    if found is not None and found.state == "older":
        return TABLES.difference(ADDED_TABLES)
    # A ledger of tomorrow need not have every table of today.
    is_later = found is not None and found.state == "newer" and _number_of(found.revision)
    return CORE_TABLES if is_later else TABLES


def of_revision(revision: object) -> Contents:
    """What a ledger of this revision counts as: current, older, newer or foreign."""
    text, number = str(revision), _number_of(revision)
    if number == 0:  # they count from 0001: there is no way on from it
        return _foreign(
            f"says that it is of revision {text}, which no calibration-ledger ever wrote",
            "restore a backup",
        )
    if text == REVISION:
        return Contents("current", text)
    return Contents("newer" if number is None or number > int(REVISION) else "older", text)


def _foreign(matter: str, advice: str) -> Contents:
    return Contents("foreign", fault=f"{matter}. It was not touched: {advice}.")


def _number_of(revision: object) -> int | None:
    """The number of a revision of ours; None for anything else that a database may hold."""
    text = str(revision)
    return int(text) if len(text) == len(REVISION) and text.isascii() and text.isdigit() else None


# -- what the doctor counts ------------------------------------------------------------------


_NEWEST_RULE = "SELECT settings.rule FROM settings ORDER BY settings.seq DESC LIMIT 1"


def unknown_rule(ask: Callable[[str], list[Any]]) -> list[str]:
    """What keeps models from being opened: a rule that a newer program set for them."""
    from calibration_ledger.rules import KNOWN_RULES

    return [
        f"no model can be opened, for the rule of new models is {rule!r}, which this program does "
        f"not know"
        for (rule,) in ask(_NEWEST_RULE)
        if rule not in KNOWN_RULES
    ]


_LAST_ENTRY = (
    "SELECT models.model, calibrations.last_seq, calibrations.updated_at"
    " FROM calibrations JOIN models ON models.id = calibrations.model_id"
    " ORDER BY calibrations.updated_at DESC LIMIT 1"
)


def count_rows(
    ask: Callable[[str], list[Any]], tables: Collection[str] = LEDGER_TABLES
) -> tuple[tuple[str, int | None], ...]:
    """How many rows each table of a ledger has.

    Args:
        ask: runs a query, and gives no rows where that fails.
        tables: those that are there; others than a ledger's are not counted.
    """
    counts = []
    for table in filter(tables.__contains__, LEDGER_TABLES):
        rows = ask(f"SELECT count(*) FROM {table}")
        counts.append((table, rows[0][0] if rows else None))
    return tuple(counts)


def find_last_entry(ask: Callable[[str], list[Any]]) -> LastEntry | None:
    """The newest entry by the callers' clocks, of which the calibrations know."""
    from calibration_ledger.core.facts import LastEntry

    for model, seq, at in ask(_LAST_ENTRY):
        if type(at) is int and 0 <= at < TIME_LIMIT_US:
            return LastEntry(model, seq, time_from_us(at))
    return None
