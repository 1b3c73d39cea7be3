"""Which advice follows from which facts; there is neither a ledger nor a terminal here."""

import dataclasses
import json
import shlex
from datetime import UTC, datetime

import pytest

from calibration_ledger.core.advice import CHECKS, FREE_LEAST, WAL_LARGE, diagnose
from calibration_ledger.core.drift import Drift, ModelDrift
from calibration_ledger.core.facts import (
    STATES,
    Activity,
    Blocked,
    Facts,
    FileFacts,
    LastEntry,
    LostRange,
    Process,
    Readable,
    ServerFacts,
    has_wal_reset_bug,
    shown_bytes,
    shown_ranges,
)

FILE = FileFacts(
    size_bytes=73_728,
    wal_bytes=4_152,
    free_bytes=10**10,
    file_system="ext4",
    is_network=False,
    is_volatile=False,
    is_writable=True,
    activity=Activity(),
)
FINE = Facts(
    "/home/me/my calls.db",
    "SQLite",
    "3.51.3",
    "current",
    "0001",
    revision="0001",
    synchronous="full",
    journal_mode="wal",
    rows=(("models", 1), ("calls", 25)),
    last_entry=LastEntry("tiny", 26, datetime(2026, 1, 2, tzinfo=UTC)),
    file=FILE,
)
SERVER = Facts(
    "postgresql+psycopg://me:***@host/db",
    "PostgreSQL",
    "18.4",
    "current",
    "0001",
    revision="0001",
    synchronous="full",
    server=ServerFacts(8_000_000, 213_000, "read committed", "on", is_read_only=False),
)


def with_file(**changes):
    return dataclasses.replace(FINE, file=dataclasses.replace(FILE, **changes))


def with_server(**changes):
    return dataclasses.replace(SERVER, server=dataclasses.replace(SERVER.server, **changes))


def only(facts):
    """The one piece of advice."""
    (advice,) = diagnose(facts).advice
    return advice


@pytest.mark.parametrize("facts", [FINE, SERVER, dataclasses.replace(FINE, file=None)])
def test_where_all_is_well_there_is_nothing_to_say(facts):
    diagnosis = diagnose(facts)
    assert diagnosis.advice == ()
    assert not diagnosis.needs_action


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_is_concluded_from_what_is_not_known(check):
    unknown = Facts("calls.db", "SQLite", None, "current", "0001", file=FileFacts())
    assert list(check(unknown)) == []
    unknown = Facts("postgresql://db", "PostgreSQL", None, "current", "0001", server=ServerFacts())
    assert list(check(unknown)) == []


AFFECTED = [
    "3.7.0",
    "3.37.2",
    "3.40.1",
    "3.44.5",
    "3.45.0",
    "3.49.9",
    "3.50.4",
    "3.50.6",
    "3.51.0",
    "3.51.2",
]
MENDED = ["3.6.23", "3.44.6", "3.44.7", "3.50.7", "3.51.3", "3.52.0", "3.54.1", "4.0.0"]


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        *((version, True) for version in (*AFFECTED, "3.51.0", "3.51.2")),
        *((version, False) for version in MENDED),
    ],
)
def test_the_versions_with_the_wal_reset_bug(version, affected):
    assert has_wal_reset_bug(version) is affected
    assert diagnose(dataclasses.replace(FINE, engine_version=version)).advice == ()
    beside = with_file(activity=Activity(outside=(Process(9, "litestream"),)))
    (told,) = diagnose(dataclasses.replace(beside, engine_version=version)).advice
    assert told.needs_action is affected
    assert ("the WAL-reset bug" in told.text) is affected


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_told(state):
    facts = dataclasses.replace(FINE, state=state, revision="0002", trouble="It is what it is.")
    diagnosis = diagnose(facts)
    assert diagnosis.needs_action is (state not in {"current", "missing", "empty"})
    assert (diagnosis.advice == ()) is (state == "current")


CALIB = "calib --ledger '/home/me/my calls.db'"
PSQL = "psql postgresql://me:PASSWORD@host/db -c"
OLDER = "revision 0000, and this program reads and writes 0001: upgrade it;"
ONE_ADVICE = {
    "an older ledger is to be upgraded": (
        dataclasses.replace(FINE, state="older", revision="0000"), True,
        f"{OLDER} it is backed up first.", [f"{CALIB} db upgrade"],
    ),
    "an older ledger on a server is its operator's to back up": (
        dataclasses.replace(SERVER, state="older", revision="0000"), True,
        f"{OLDER} back its database up first.",
        ["calib --ledger postgresql+psycopg://me:PASSWORD@host/db db upgrade"],
    ),
    "a newer ledger needs a newer program": (
        dataclasses.replace(FINE, state="newer", revision="9999"), True,
        ("revision 9999, and this one only knows 0001: install the newer program, from where you "
        "got this one."), [],
    ),
    "a network file system is warned of": (
        with_file(file_system="nfs4", is_network=True), True,
        "on a network file system (nfs4), where", [f"{CALIB} db backup /var/tmp/ledger.db"],
    ),
    "a full disk is to be given room": (
        with_file(free_bytes=FREE_LEAST - 1), True, "Only 67.1 MB are free", []
    ),
    "a large ledger has no room for a backup": (
        with_file(size_bytes=3 * FREE_LEAST, free_bytes=2 * FREE_LEAST), False,
        "needs room for a backup, too.", [],
    ),
    "a ledger in memory is told of": (
        with_file(file_system="tmpfs", is_volatile=True), False, "lies in memory (tmpfs)", []
    ),
    "two names of one file corrupt it": (
        with_file(names=2), True, "The file has 2 names",
        ["find / -xdev -samefile '/home/me/my calls.db'", f"{CALIB} db backup copy.db"],
    ),
    "files of another user stand in the way": (
        with_file(locked_out=("/x/calls.db-shm",)), True, "may not write to /x/calls.db-shm",
        ["ls -l '/home/me/my calls.db' /x/calls.db-shm",
         "sudo chown '--reference=/home/me/my calls.db' /x/calls.db-shm"],
    ),
    "reading is fine where writing is not allowed": (
        with_file(is_writable=False), False, "may read the ledger, but not record", []
    ),
    "the journal mode of a backup is switched by itself": (
        dataclasses.replace(FINE, journal_mode="delete"), False,
        "The journal mode is delete, as in a copy made by `calib db back", [],
    ),
    "another journal mode is switched by itself, too": (
        dataclasses.replace(FINE, journal_mode="truncate"), False, "somebody changed it", []
    ),
    "a log that has grown names who reads": (
        with_file(wal_bytes=WAL_LARGE + 1, activity=Activity(readers=(Process(77, "sqlite3"),))),
        True, "sqlite3 (pid 77)", ["ps -o pid,user,etime,args -p 77"],
    ),
    "a log that has grown, and nobody knows why": (
        with_file(wal_bytes=WAL_LARGE + 1, activity=None), True, "has grown to 67.1 MB", []
    ),
    "a holder that does not run is to go on": (
        with_file(activity=Activity(in_turn=(Process(42, "python", True),))), True,
        "python (pid 42, stopped)", ["kill -CONT 42"],
    ),
    "a writer beside the queue": (
        with_file(activity=Activity(outside=(Process(9, "litestream"),))), False,
        "litestream (pid 9)", ["ps -o pid,user,etime,args -p 9"],
    ),
    "a server that forgets is to be set back": (
        with_server(unsafe=("fsync = off",)), True, "fsync = off",
        [f"{PSQL} 'ALTER SYSTEM SET fsync = on'", f"{PSQL} 'SELECT pg_reload_conf()'"],
    ),
    "a session that keeps others waiting is named": (
        with_server(blocked=(Blocked(10, 20, "psql", "idle in transaction", 61.2),)), True,
        "Session 20 (psql, idle in transaction) has kept session 10 waiting for 61 s",
        [f"{PSQL} 'SELECT * FROM pg_stat_activity WHERE pid = 20'",
         f"{PSQL} 'SELECT pg_terminate_backend(20)'"],
    ),
    "a role that may not record is told what it lacks": (
        with_server(missing_grants=("INSERT on calls",)), False, "INSERT on calls", []
    ),
    "a server that only reads": (
        with_server(is_read_only=True), False, "nothing can be recorded", []
    ),
    "a model that has drifted is told": (
        dataclasses.replace(FINE, drifts=(ModelDrift("a b", 200, Drift(14, 1.523)),)), False,
        ("1 model became slower or faster: a b (the newest 14 calls took 1.52 times as long as "
         "those before, for the same tokens). "),
        [f"{CALIB} stats --by-day -- 'a b'", f"{CALIB} sweep -- 'a b'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "needs_action", "said", "commands"), ONE_ADVICE.values(), ids=ONE_ADVICE.keys()
)
def test_each_fact_has_its_advice(facts, needs_action, said, commands):
    advice = only(facts)
    assert (advice.needs_action, list(advice.commands)) == (needs_action, commands)
    assert said in advice.text


def test_of_many_models_that_have_drifted_some_are_named_and_the_others_counted():
    drifts = tuple(ModelDrift(name, 200, Drift(14, 1.5)) for name in "abcde")
    advice = only(dataclasses.replace(SERVER, drifts=drifts))
    assert advice.commands[0].endswith(" drift")  # which lists all
    text = advice.text
    assert text.startswith("5 models became slower or faster: a (the newest 14 calls")
    assert "; c (the newest 14 calls took 1.50 times as long" in text
    assert ", and 2 others. See" in text


@pytest.mark.parametrize(
    "facts",
    [
        with_file(wal_bytes=WAL_LARGE),
        with_file(activity=Activity(in_turn=(Process(42, "python"),), waiting=3)),
        with_server(blocked=(Blocked(10, 20, "psql", "idle in transaction", 3.0),)),
    ],
    ids=["a log within its bounds", "a queue that moves", "a session waiting for a moment"],
)
def test_what_passes_by_itself_is_no_ground_for_advice(facts):
    assert diagnose(facts).advice == ()


def test_what_can_be_read_of_a_damaged_ledger_is_to_be_moved():
    lost = tuple(LostRange("tiny", 10 * i, 10 * i + 4) for i in range(1, 9))
    damaged = dataclasses.replace(FINE, state="damaged", readable=Readable(2, 1, lost))
    advice = only(damaged)
    assert advice.needs_action
    assert "1 call of 2 models can still be read" in advice.text
    assert "tiny #10 to #14" in advice.text
    assert "3 more" in advice.text
    assert advice.commands[0] == (
        "calib --ledger '/home/me/my calls.db' export jsonl salvaged.jsonl --salvage"
    )
    assert advice.commands[1] == "calib --ledger salvaged.db import jsonl salvaged.jsonl"
    nothing = only(dataclasses.replace(damaged, readable=Readable(0, 0, ())))
    assert "none of its calls can be read" in nothing.text
    assert nothing.commands == ()
    assert only(dataclasses.replace(damaged, readable=None)) == nothing
    assert (
        "no entry is lost" in only(dataclasses.replace(damaged, readable=Readable(1, 5, ()))).text
    )


def test_a_log_of_another_file_is_to_be_moved_away_before_anything_else():
    left = Readable(1, 5, (LostRange("tiny", 7, 9),))
    damaged = dataclasses.replace(FINE, state="damaged", readable=left, stray_log="/a b/c.db-wal")
    first, second = diagnose(damaged).advice
    assert "of another file" in first.text
    assert first.commands == (
        "mv '/a b/c.db-wal' '/a b/c.db-wal.stray'",
        "mv '/a b/c.db-shm' '/a b/c.db-shm.stray'",
        "calib --ledger '/home/me/my calls.db' audit",
    )
    assert "5 calls of 1 model can still be read" in second.text


def test_who_cannot_record_is_known():
    assert not FINE.is_read_only
    assert not SERVER.is_read_only
    assert not with_file(is_writable=None).is_read_only
    assert with_file(is_writable=False).is_read_only
    assert with_server(is_read_only=True).is_read_only
    assert with_server(missing_grants=("INSERT on calls",)).is_read_only


def test_a_missing_ledger_cannot_be_made_where_writing_is_not_allowed():
    nowhere = dataclasses.replace(with_file(is_writable=False, size_bytes=None), state="missing")
    assert diagnose(nowhere).needs_action


def test_with_the_bug_a_writer_beside_the_queue_is_a_danger():
    outside = with_file(activity=Activity(outside=(Process(9, "litestream"),)))
    affected = diagnose(dataclasses.replace(outside, engine_version="3.40.1"))
    assert affected.needs_action
    assert "litestream (pid 9)" in affected.advice[0].text
    assert "can corrupt" in affected.advice[0].text


def test_a_session_of_another_role_is_named_all_the_same():
    hidden = only(with_server(blocked=(Blocked(10, 20, None, None, 100.0),)))
    assert "of another role, state unknown" in hidden.text


def test_the_urgent_comes_first():
    beside = Activity(outside=(Process(9, "litestream"),))
    advice = diagnose(with_file(names=3, is_volatile=True, activity=beside)).advice
    assert [one.needs_action for one in advice] == [True, False, False]


def everything():
    """Facts from which all advice on files, or on servers, follows."""
    process = Process(9, "python", True)
    yield dataclasses.replace(
        with_file(
            wal_bytes=WAL_LARGE + 1,
            names=2,
            free_bytes=1,
            is_network=True,
            is_volatile=True,
            locked_out=("a b-wal",),
            activity=Activity((process,), 1, (process,), (process,), (process,)),
        ),
        engine_version="3.40.1",
        journal_mode="delete",
    )
    yield with_server(
        unsafe=("fsync = off", "full_page_writes = off"),
        is_read_only=True,
        missing_grants=("INSERT on calls",),
        blocked=(Blocked(1, 2, None, None, 1e3),),
    )
    for state in STATES:
        yield dataclasses.replace(
            FINE,
            state=state,
            revision="0002",
            trouble="It is.",
            readable=Readable(1, 1, (LostRange("m", 2, None),)),
        )


COMMANDS = {"calib", "find", "kill", "ls", "pip", "ps", "psql", "sudo"}


@pytest.mark.parametrize(
    "facts", list(everything()), ids=lambda facts: f"{facts.engine} {facts.state}"
)
def test_sentences_are_sentences_commands_are_words_and_all_of_it_can_be_json(facts):
    diagnosis = diagnose(facts)
    for advice in diagnosis.advice:
        assert advice.text.endswith(".")
        assert "None" not in advice.text
        assert {shlex.split(command)[0] for command in advice.commands} <= COMMANDS
    value = diagnosis.to_dict()
    assert json.loads(json.dumps(value)) == value
    assert value["needs_action"] is diagnosis.needs_action
    assert len(value["advice"]) == len(diagnosis.advice)
    assert ("has_wal_reset_bug" in value) is (facts.engine == "SQLite")


def test_a_range_as_one_says_it():
    assert str(LostRange("m", 3, 3)) == "m #3"
    assert str(LostRange("m", 3, 5)) == "m #3 to #5"
    assert str(LostRange("m", 3, None)) == "m from #3 on"
    assert shown_ranges(()) == ""


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (73_728, "73.7 kB"),
        (999_949, "1.0 MB"),
        (2_100_000_000, "2.1 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_a_size_as_one_says_it(size, shown):
    assert shown_bytes(size) == shown


def test_a_process_as_one_says_it():
    assert str(Process(7, "sqlite3")) == "sqlite3 (pid 7)"
    assert str(Process(7, None, True)) == "a process (pid 7, stopped)"
