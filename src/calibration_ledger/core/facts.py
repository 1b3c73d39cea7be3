"""What the doctor finds where a ledger should be, and what it advises, as frozen values.

A fact that could not be found out is None, and nothing is concluded from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.values import Value, fields_of, iso

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.core.drift import ModelDrift
    from calibration_ledger.core.values import Alias, Distribution

RANGES_SHOWN = 5
"""How many ranges of lost entries a sentence names; the others are counted."""

STATES = {
    "current": "a ledger",
    "older": "an older ledger",
    "newer": "a newer ledger",
    "damaged": "a damaged ledger",
    "missing": "no ledger yet",
    "empty": "an empty database, no ledger yet",
    "foreign": "a database of something else",
    "no database": "something else than a database",
    "unreadable": "nothing that can be read",
}
"""What can lie at a ledger's place."""


class LostRange(NamedTuple):
    """Entries that can no longer be read: `first` to `last`, both included.

    Attributes:
        model: the model's name.
        first: the number of the first one.
        last: the number of the last one; None where the end of the history is not known.
    """

    model: str
    first: int
    last: int | None

    def __str__(self) -> str:
        """The range for people."""
        if self.last is None:
            return f"{self.model} from #{self.first} on"
        if self.first == self.last:
            return f"{self.model} #{self.first}"
        return f"{self.model} #{self.first} to #{self.last}"


class Process(NamedTuple):
    """A process that uses the ledger; `command` is None if the system hides it."""

    pid: int
    command: str | None
    is_stopped: bool = False

    def __str__(self) -> str:
        """The process for people."""
        stopped = ", stopped" if self.is_stopped else ""
        return f"{self.command or 'a process'} (pid {self.pid}{stopped})"


@dataclass(frozen=True, slots=True)
class Activity(Value):
    """Who uses a ledger file at this moment.

    Attributes:
        in_turn: who holds the writers' lock.
        waiting: how many wait for it.
        outside: who writes or checkpoints without holding it: other programs.
        readers: who is reading.
        users: who has the ledger open.
    """

    in_turn: tuple[Process, ...] = ()
    waiting: int = 0
    outside: tuple[Process, ...] = ()
    readers: tuple[Process, ...] = ()
    users: tuple[Process, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFacts(Value):
    """What is known of a ledger's file and of where it lies.

    Attributes:
        size_bytes: the size of the file itself; None if there is no file.
        wal_bytes: the size of the write-ahead log beside it; 0 if there is none.
        free_bytes: how many bytes are free on its disk.
        file_system: its type, such as `ext4`.
        is_network: whether that is a network file system.
        is_volatile: whether it is lost when the machine restarts.
        is_writable: whether this user may write to it, and make files beside it.
        names: how many names (hard links) the file has.
        locked_out: the files beside it that recording writes to, and that this user may not.
        activity: who uses it.
    """

    size_bytes: int | None = None
    wal_bytes: int = 0
    free_bytes: int | None = None
    file_system: str | None = None
    is_network: bool | None = None
    is_volatile: bool | None = None
    is_writable: bool | None = None
    names: int = 1
    locked_out: tuple[str, ...] = ()
    activity: Activity | None = None


class Blocked(NamedTuple):
    """A session that waits for another session's lock.

    Attributes:
        pid: the server process that waits.
        blocked_by: the server process that holds the lock.
        program: the name of its program; None if this role may not see it.
        state: its state, such as `idle in transaction`.
        for_s: how long the session has waited, in seconds.
    """

    pid: int
    blocked_by: int
    program: str | None
    state: str | None
    for_s: float


@dataclass(frozen=True, slots=True)
class ServerFacts(Value):
    """What is known of a PostgreSQL server and its database.

    Attributes:
        database_bytes: the size of the whole database.
        ledger_bytes: the size of the ledger's tables and indexes.
        isolation: the default isolation level; the ledger asks for its own.
        synchronous_commit: the default; writers set their own, see `Facts.synchronous`.
        unsafe: settings under which a crash of the machine damages the database.
        is_read_only: whether it is a replica, or lets nobody write.
        missing_grants: the grants that recording needs and this role lacks.
        blocked: sessions that wait for a lock.
        distribution: over which machines the ledger is distributed; None for one that is not.
    """

    database_bytes: int | None = None
    ledger_bytes: int | None = None
    isolation: str | None = None
    synchronous_commit: str | None = None
    unsafe: tuple[str, ...] = ()
    is_read_only: bool | None = None
    missing_grants: tuple[str, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    distribution: Distribution | None = None


class LastEntry(NamedTuple):
    """The newest entry by the callers' clocks."""

    model: str
    seq: int
    at: datetime

    def to_dict(self) -> dict[str, Any]:
        """The fields by their names."""
        return {**self._asdict(), "at": iso(self.at)}


@dataclass(frozen=True, slots=True)
class Readable(Value):
    """What can still be read of a damaged ledger."""

    models: int
    calls: int
    lost: tuple[LostRange, ...]


@dataclass(frozen=True, slots=True)
class Facts(Value):
    """What was found at a ledger's place.

    Attributes:
        ledger: where it lies, as it may be shown.
        engine: `SQLite` or `PostgreSQL`.
        engine_version: its version; None where a server could not be reached.
        state: one of `STATES`.
        trouble: what is wrong, in the words of the engine or of the error.
        revision: the ledger's.
        expected_revision: this program's.
        synchronous: how writers commit: `full` survives a power cut, `normal` may not.
        journal_mode: SQLite's; `wal` is ours.
        rows: how many rows each table has; None where they could not be counted.
        last_entry: the newest entry.
        damage: what the engine's own check found.
        obstacles: what stands in the way of recording or of an audit, though the engine finds the
            file sound: a foreign trigger, a table that was changed, a row that cannot be read.
        unanswered: why some of this could not be found out, in the words of the engine.
        readable: what can still be read of a damaged ledger.
        stray_log: the write-ahead log without which a damaged file is sound.
        drifts: the models that have drifted, of those that were called last.
        aliases: the names that stand for other models.
        file: of a ledger in a file; None for others.
        server: of a ledger in PostgreSQL; None for others.
    """

    ledger: str
    engine: str
    engine_version: str | None
    state: str
    expected_revision: str
    trouble: str | None = None
    revision: str | None = None
    synchronous: str | None = None
    journal_mode: str | None = None
    rows: tuple[tuple[str, int | None], ...] = ()
    last_entry: LastEntry | None = None
    damage: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    readable: Readable | None = None
    stray_log: str | None = None
    drifts: tuple[ModelDrift, ...] = ()
    aliases: tuple[Alias, ...] = ()
    file: FileFacts | None = None
    server: ServerFacts | None = None

    @property
    def is_read_only(self) -> bool:
        """Whether this user is known not to be able to record here."""
        if self.server is not None:
            return bool(self.server.is_read_only or self.server.missing_grants)
        return self.file is not None and self.file.is_writable is False

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them, the rows as an object."""
        told = {**fields_of(self), "rows": dict(self.rows)}
        if self.engine == "SQLite" and self.engine_version is not None:
            told["has_wal_reset_bug"] = has_wal_reset_bug(self.engine_version)
        return told


@dataclass(frozen=True, slots=True)
class Advice(Value):
    """One piece of advice.

    Attributes:
        needs_action: whether something is wrong, or about to be; else it is good to know.
        text: what is the matter and what to do.
        commands: how, as they can be run.
    """

    needs_action: bool
    text: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis(Value):
    """What was found, and what to do about it, the urgent first."""

    facts: Facts
    advice: tuple[Advice, ...]

    @property
    def needs_action(self) -> bool:
        """Whether there is something to do."""
        return any(advice.needs_action for advice in self.advice)

    def to_dict(self) -> dict[str, Any]:
        """The facts, and what follows from them, as JSON can hold it all."""
        advice = [advice.to_dict() for advice in self.advice]
        return {**self.facts.to_dict(), "needs_action": self.needs_action, "advice": advice}


def has_wal_reset_bug(sqlite_version: str) -> bool:
    """Whether two connections that write or checkpoint at once can corrupt a WAL database.

    See sqlite.org/wal.html#walresetbug: it came with 3.7.0 and was mended in 3.51.3, and in 3.50.7
    and 3.44.6 for those who stay on these lines.
    """
    numbers = tuple(int(part) for part in sqlite_version.split(".")[:3])
    backports: dict[tuple[int, ...], tuple[int, ...]] = {(3, 50): (3, 50, 7), (3, 44): (3, 44, 6)}
    mended = backports.get(numbers[:2], (3, 51, 3))
    return (3, 7, 0) <= numbers < mended


def shown_bytes(size: int) -> str:
    """A size for people: `980 B`, `73.7 kB`, `2.1 GB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:  # noqa: PLR2004 - what would round to 1000
            return f"{value:.1f} {unit}" if unit != "B" else f"{size} B"
        value /= 1000
    return f"{value:.1f} TB"


def shown_ranges(ranges: tuple[LostRange, ...]) -> str:
    """The first of the ranges, and how many more there are."""
    more = [f"{len(ranges) - RANGES_SHOWN} more"] if len(ranges) > RANGES_SHOWN else []
    return ", ".join([*map(str, ranges[:RANGES_SHOWN]), *more])
