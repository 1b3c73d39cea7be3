"""The doctor's verdicts: which advice follows from which facts.

Each check is a function of the facts alone. Its advice either needs action or is good to know, and
the commands in it can be run as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.core.command import calib, shell, to_fill_in
from calibration_ledger.core.facts import (
    Advice,
    Diagnosis,
    Facts,
    FileFacts,
    has_wal_reset_bug,
    shown_bytes,
    shown_ranges,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FREE_LEAST = 64 * 2**20
"""Bytes that a disk should have free: room for a full WAL and for some more calls."""

WAL_LARGE = 64 * 2**20
"""A WAL of more bytes is not cut back to its 16 MiB any more: a reader prevents it."""

DRIFTS_SHOWN = 3
"""How many models that have drifted are named; the others are counted."""

WAITING_LONG_S = 60.0
"""A transaction that blocks others for longer was probably forgotten."""


def diagnose(facts: Facts) -> Diagnosis:
    """The advice that follows from the facts."""
    advice = [advice for check in CHECKS for advice in check(facts)]
    return Diagnosis(facts, tuple(sorted(advice, key=lambda one: not one.needs_action)))


_NO_LEDGER = frozenset({"missing", "foreign", "no database", "unreadable"})

# -- the checks -----------------------------------------------------------------------------


def _calib(facts: Facts, *words: str, names: Sequence[str] = ()) -> str:
    return calib(*words, names=names, ledger=facts.ledger)


def _psql(facts: Facts, statement: str) -> str:
    ledger = to_fill_in(facts.ledger).replace("+psycopg://", "://")
    return shell("psql", ledger, "-c", statement)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _act(text: str, *commands: str) -> Advice:
    return Advice(True, text, commands)


def _know(text: str, *commands: str) -> Advice:
    return Advice(False, text, commands)


def check_state(facts: Facts) -> Iterator[Advice]:
    """Whether it is a ledger that this program can use."""
    match facts.state:
        case "missing" | "empty":
            yield _know(
                "There is no ledger here yet: the first call recorded makes it. If you expected "
                "one, look at the name."
            )
        case "older":
            is_file = facts.engine == "SQLite"
            backup = "it is backed up first" if is_file else "back its database up first"
            yield _act(
                f"The ledger is of revision {facts.revision}, and this program reads and writes "
                f"{facts.expected_revision}: upgrade it; {backup}.",
                _calib(facts, "db", "upgrade"),
            )
        case "newer":
            yield _act(
                f"A newer calibration-ledger upgraded it to revision {facts.revision}, and this "
                f"one only knows {facts.expected_revision}: install the newer program, from where "
                f"you got this one."
            )
        case "foreign" | "unreadable":
            yield _act(facts.trouble or "It cannot be used as a ledger: name another place.")
        case "no database":
            yield _act(
                "This is no SQLite database, and nothing of a ledger was found in it: name "
                "another path, or restore a backup if it was a ledger once."
            )


def check_damage(facts: Facts) -> Iterator[Advice]:
    """Whether the engine finds it damaged, and what is left."""
    if facts.state != "damaged":
        return
    if facts.server is not None:
        yield _act(f"The database is damaged ({facts.trouble}): tell whoever runs the server.")
        return
    if facts.stray_log is not None:
        beside = [f"{facts.stray_log.removesuffix('wal')}{kind}" for kind in ("wal", "shm")]
        yield _act(
            f"Without the log beside it ({facts.stray_log}) the file is sound. Perhaps that log "
            f"is of another file, which lay here until a backup replaced it: if so, end the "
            f"programs that use the ledger, move the log away, and audit the file.",
            *(shell("mv", name, f"{name}.stray") for name in beside),
            _calib(facts, "audit"),
        )
    left = facts.readable
    if left is None or left.calls == 0:
        yield _act("The ledger is damaged, and none of its calls can be read: restore a backup.")
        return
    lost = f"; lost: {shown_ranges(left.lost)}" if left.lost else ", and no entry is lost"
    calls, models = _count(left.calls, "call"), _count(left.models, "model")
    yield _act(
        f"The ledger is damaged. {calls} of {models} can still be read{lost}. Stop recording to "
        f"it, and restore a backup; or move what can be read into a new ledger, which learns it "
        f"anew.",
        _calib(facts, "export", "jsonl", "salvaged.jsonl", "--salvage"),
        calib("import", "jsonl", "salvaged.jsonl", ledger="salvaged.db"),
    )


def check_obstacles(facts: Facts) -> Iterator[Advice]:
    """Whether something in it keeps calls from being recorded, or every audit from ending well."""
    if facts.state == "current" and facts.obstacles:
        # On a server nothing was tried.
        how = "is" if facts.server is None else "can be"
        yield _act(
            f"Something in the ledger is not as this program made it, and {how} in the way of "
            f"recording or of the audit: {'; '.join(facts.obstacles)}. Take out what was added "
            f"(DROP TRIGGER, DROP INDEX), or restore a backup.",
            _calib(facts, "audit"),
        )


def check_unanswered(facts: Facts) -> Iterator[Advice]:
    """Whether all that belongs to a diagnosis could be found out."""
    if facts.unanswered:
        first, *others = facts.unanswered
        more = f", and {len(others)} more" if others else ""
        yield _act(
            f"Not all could be found out, so something may be wrong that is not named here "
            f"({facts.engine}: {first}{more}): mend that, and call the doctor again.",
            _calib(facts, "doctor"),
        )


def check_file_system(facts: Facts) -> Iterator[Advice]:
    """Whether the file lies where locks and disks work."""
    file = facts.file
    if file is None:
        return
    if file.is_network:
        yield _act(
            f"The ledger lies on a network file system ({file.file_system}), where SQLite's locks "
            f"and its write-ahead log do not work: several machines, or a lost connection, can "
            f"corrupt it. Move it to a local disk (give a path on one), or use PostgreSQL.",
            *_move(facts, file),
        )
    if file.is_volatile:
        yield _know(
            f"The ledger lies in memory ({file.file_system}): it is gone when the machine restarts."
        )
    if file.free_bytes is not None and file.free_bytes < FREE_LEAST:
        yield _act(
            f"Only {shown_bytes(file.free_bytes)} are free on the ledger's disk: make room before "
            f"calls can no longer be recorded."
        )
    elif file.free_bytes is not None and file.free_bytes < (file.size_bytes or 0) + file.wal_bytes:
        yield _know(
            f"The disk has less room left ({shown_bytes(file.free_bytes)}) than the ledger takes: "
            f"back it up to another disk. An upgrade needs room for a backup, too."
        )
    if file.names > 1:
        yield _act(
            f"The file has {file.names} names (hard links). SQLite keeps its log beside the name "
            f"that it was opened by: opening it by both names corrupts the ledger. Find the other "
            f"name, and replace it by a copy.",
            shell("find", "/", "-xdev", "-samefile", facts.ledger),
            _calib(facts, "db", "backup", "copy.db"),
        )


def _move(facts: Facts, file: FileFacts) -> tuple[str, ...]:
    if file.size_bytes is None or facts.state not in {"current", "older", "newer"}:
        return ()
    return (_calib(facts, "db", "backup", "/var/tmp/ledger.db"),)  # noqa: S108 - an example to read


def check_access(facts: Facts) -> Iterator[Advice]:
    """Whether this user can record."""
    file = facts.file
    if file is None:
        return
    if file.locked_out:
        yield _act(
            f"This user may not write to {', '.join(file.locked_out)}, which recording needs; "
            f"perhaps another user made it. Give it to the ledger's owner.",
            shell("ls", "-l", facts.ledger, *file.locked_out),
            shell("sudo", "chown", f"--reference={facts.ledger}", *file.locked_out),
        )
    elif file.is_writable is False and facts.state in {"missing", "empty"}:
        yield _act("This user may not write here, so no call recorded can make the ledger.")
    elif file.is_writable is False and facts.state != "unreadable":
        yield _know("This user may read the ledger, but not record to it.")


def check_wal(facts: Facts) -> Iterator[Advice]:
    """Whether the write-ahead log works and is kept small."""
    file = facts.file
    if file is None:
        return
    if facts.journal_mode not in {None, "wal"} and facts.state in {"current", "older"}:
        # A backup is one file, to be complete without a log beside it.
        is_ours = facts.journal_mode == "delete"
        who = ", as in a copy made by `calib db backup`" if is_ours else ": somebody changed it"
        yield _know(
            f"The journal mode is {facts.journal_mode}{who}. The next call recorded switches it to "
            f"wal; until then readers and writers wait for each other."
        )
    if file.wal_bytes > WAL_LARGE:
        readers = file.activity.readers if file.activity else ()
        who = f": {', '.join(map(str, readers))}" if readers else ""
        yield _act(
            f"The write-ahead log has grown to {shown_bytes(file.wal_bytes)}: a program reads in "
            f"one transaction that never ends{who}. End it; the next calls recorded cut the log "
            f"back to 16 MiB.",
            *(f"ps -o pid,user,etime,args -p {reader.pid}" for reader in readers),
        )


def check_other_programs(facts: Facts) -> Iterator[Advice]:
    """Whether another program can corrupt the ledger, or uses it outside of the queue.

    Where none writes, SQLite's WAL-reset bug is no danger: our own writers take turns.
    """
    if facts.engine != "SQLite" or facts.file is None or facts.engine_version is None:
        return
    affected = has_wal_reset_bug(facts.engine_version) and facts.state not in _NO_LEDGER
    outside = facts.file.activity.outside if facts.file.activity else ()
    if outside:
        danger = (
            f", and with SQLite {facts.engine_version} (the WAL-reset bug) that can corrupt it"
            if affected
            else ", and passes those that wait there"
        )
        yield Advice(
            affected,
            f"{', '.join(map(str, outside))} writes to the ledger or checkpoints it without "
            f"queueing on its lock file{danger}: end it, and write through calib or the library.",
            tuple(f"ps -o pid,user,etime,args -p {process.pid}" for process in outside),
        )


def check_turn(facts: Facts) -> Iterator[Advice]:
    """Whether a writer keeps the others waiting."""
    activity = facts.file.activity if facts.file else None
    for process in activity.in_turn if activity else ():
        if process.is_stopped:
            yield _act(
                f"{process} holds the writers' lock and does not run: nobody can record until it "
                f"goes on or ends.",
                f"kill -CONT {process.pid}",
            )


def check_server(facts: Facts) -> Iterator[Advice]:
    """Whether the PostgreSQL server keeps what it takes, and lets this role record."""
    server = facts.server
    if server is None:
        return
    if server.unsafe:
        yield _act(
            f"The server runs with {', '.join(server.unsafe)}: a crash of its machine can damage "
            f"the database. Set it back, as a superuser, and reload.",
            *(_psql(facts, f"ALTER SYSTEM SET {one.split()[0]} = on") for one in server.unsafe),
            _psql(facts, "SELECT pg_reload_conf()"),
        )
    if server.is_read_only:
        yield _know("The server only reads here (a replica, or set so): nothing can be recorded.")
    if server.missing_grants:
        yield _know(
            f"This role may not record: it lacks {', '.join(server.missing_grants)}. The tables' "
            f"owner can grant it."
        )
    for one in server.blocked:
        if one.for_s >= WAITING_LONG_S:
            yield _act(
                f"Session {one.blocked_by} ({one.program or 'of another role'}, "
                f"{one.state or 'state unknown'}) has kept session {one.pid} waiting for "
                f"{one.for_s:.0f} s: see what it does, and end it if it was forgotten.",
                _psql(facts, f"SELECT * FROM pg_stat_activity WHERE pid = {one.blocked_by}"),
                _psql(facts, f"SELECT pg_terminate_backend({one.blocked_by})"),
            )


def check_drift(facts: Facts) -> Iterator[Advice]:
    """Whether models have become slower or faster. The ledger is sound; it is they that changed."""
    if not facts.drifts:
        return
    told = [f"{one.model} ({one.drift})" for one in facts.drifts[:DRIFTS_SHOWN]]
    left_out = len(facts.drifts) - len(told)
    more = f", and {_count(left_out, 'other')}" if left_out else ""
    yield _know(
        f"{_count(len(facts.drifts), 'model')} became slower or faster: {'; '.join(told)}{more}. "
        f"See since when; if it stays so, see which rule follows best.",
        *([_calib(facts, "drift")] if left_out else []),
        _calib(facts, "stats", "--by-day", names=(facts.drifts[0].model,)),
        _calib(facts, "sweep", names=(facts.drifts[0].model,)),
    )


CHECKS: tuple[Callable[[Facts], Iterator[Advice]], ...] = (
    check_state,
    check_damage,
    check_obstacles,
    check_unanswered,
    check_file_system,
    check_access,
    check_wal,
    check_turn,
    check_other_programs,
    check_server,
    check_drift,
)
"""Every check, the most serious first."""
