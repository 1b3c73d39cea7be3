"""Whether a SQLite file is sound: the engine's own check, and what it leaves out.

`PRAGMA integrity_check` looks at less than the whole file where the newest thing in the schema is
a view: the page that a view does not have comes first in its list, which it takes for a partial
check, and then neither the free pages nor those that nothing refers to are looked at, without a
word. A free page that is also in use would be written over by the next call that needs one.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from calibration_ledger.storage import sqlite_connect
from calibration_ledger.storage.faults import DRIVER_ERRORS, sqlite_fault
from calibration_ledger.storage.forks import no_fork
from calibration_ledger.storage.sqlite_schema import LIST_SCHEMA, damaged_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.storage.place import Place

_CHECK = "PRAGMA integrity_check(100)"
_CHECK_FREE_LIST = "PRAGMA integrity_check(sqlite_schema)"
"""Of one table alone, and of that one the list of free pages is checked with it."""


def unsound_parts(
    place: Place, timeout_s: float, read: Callable[[str], Sequence[Any]]
) -> list[str]:
    """What is wrong with the file of a ledger; empty where all is well.

    Args:
        place: where it lies.
        timeout_s: how long to wait for others.
        read: runs one statement on a connection that only reads, and gives all its rows.

    Raises:
        LedgerError: it cannot be read.
    """
    assert place.path is not None  # noqa: S101 - the callers have looked
    found = _complaints(read(_CHECK))
    ((free,),) = read("PRAGMA freelist_count")
    found += _copy_check(place, timeout_s) if free else _complaints(read(_CHECK_FREE_LIST))
    ((page_size,),) = read("PRAGMA page_size")
    cut = sqlite_connect.cut_page(place.path, page_size)
    return [*dict.fromkeys(found), *cut, *damaged_parts(read(LIST_SCHEMA))]


def _complaints(rows: Sequence[Any]) -> list[str]:
    return [line for (text,) in rows for line in str(text).splitlines() if _is_complaint(line)]


def _is_complaint(line: str) -> bool:
    return line != "ok" and not line.startswith("***")


def _copy_check(place: Place, timeout_s: float) -> list[str]:
    """The check of a copy, page by page, that has no view any more and so is checked whole.

    A ledger has free pages only after its tables were rebuilt or shortened: few ever do. The copy
    is a temporary file of SQLite's own, and in memory while it is small.
    """
    assert place.path is not None  # noqa: S101 - the callers have looked
    try:
        with no_fork(), closing(sqlite3.connect("", isolation_level=None)) as copy:
            with closing(sqlite_connect.connect_reader(place.path, timeout_s)) as reader:
                reader.backup(copy)
            views = copy.execute("SELECT name FROM sqlite_master WHERE type = 'view'").fetchall()
            for (name,) in views:
                copy.execute('DROP VIEW "{}"'.format(name.replace('"', '""')))
            return _complaints(copy.execute(_CHECK).fetchall())
    except DRIVER_ERRORS as error:
        raise sqlite_fault(error, place.shown, "read") from error
