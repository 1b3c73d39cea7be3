"""What the doctor finds out, of real files in every state, of real locks and a real server."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.core.advice import diagnose
from calibration_ledger.core.facts import Process
from calibration_ledger.storage import contents
from calibration_ledger.storage import system as surroundings
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.sqlite import examine as doctor_sqlite
from calibration_ledger.verbs.doctor import doctor_of
from support.by_hand import edited
from support.newer_program import TOMORROW
from support.programs import started
from support.reference import TABLES
from support.steps import wait_until

HAS_LOCKS = Path("/proc/locks").exists()
needs_locks = pytest.mark.skipif(not HAS_LOCKS, reason="the system does not tell who holds locks")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PAGE = 4096


@pytest.fixture(scope="module", name="template")
def _template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        for model in ("big", "tiny"):
            calibrator.record_many(
                Call(model, i, 5, 100.0 + i, START + timedelta(seconds=i), f"id-{i}")
                for i in range(300)
            )
        assert calibrator.audit() == []
    return path


@pytest.fixture(name="sound")
def _sound(template, ledger_path):
    """A ledger with 2 x 300 calls that nobody has open."""
    shutil.copy(template, ledger_path)
    return ledger_path


def facts_of(path):
    return doctor_of(path).facts


def in_another_process(path):
    """The diagnosis of a process that has nothing else open."""
    code = (
        "import json, sys\nfrom calibration_ledger.verbs.doctor import doctor_of\n"
        "print(json.dumps(doctor_of(sys.argv[1]).to_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


# -- files in every state -------------------------------------------------------------------


def test_a_sound_ledger(sound):
    facts = facts_of(sound)
    assert (facts.ledger, facts.state, facts.trouble) == (str(sound), "current", None)
    assert (facts.engine, facts.engine_version) == ("SQLite", sqlite3.sqlite_version)
    assert (facts.revision, facts.expected_revision) == (REVISION, REVISION)
    assert (facts.journal_mode, facts.synchronous) == ("wal", "full")
    rows = {"models": 2, "calls": 600, "call_details": 600, "adjustments": 2, "calibrations": 2}
    empty = ("settings", "setting_heads", "aliases", "voided", "events", "event_heads")
    assert dict(facts.rows) == {**rows, **dict.fromkeys(empty, 0)}
    assert facts.last_entry.seq == 301
    assert facts.last_entry.at == START + timedelta(seconds=299)
    assert (facts.damage, facts.readable, facts.server) == ((), None, None)
    assert facts.file.size_bytes == sound.stat().st_size
    assert (facts.file.names, facts.file.is_writable, facts.file.locked_out) == (1, True, ())
    assert facts.file.free_bytes > 0


def test_looking_makes_no_file_and_changes_none(sound):
    def everything():
        return {path.name: (path.read_bytes(), path.stat()) for path in sound.parent.iterdir()}

    before = everything()
    found = in_another_process(sound)
    assert found["state"] == "current"
    assert found["journal_mode"] == "wal"
    after = everything()
    assert {name: data for name, (data, _) in before.items()} == {
        name: data for name, (data, _) in after.items()
    }
    assert list(before) == [sound.name]
    assert before[sound.name][1].st_mtime_ns == after[sound.name][1].st_mtime_ns


def test_a_ledger_in_use_is_read_with_what_is_in_its_log(sound):
    with AdaptiveCalibrator(sound) as calibrator:
        calibrator.record("new", 1, 2.0, called_at=START + timedelta(days=1))
        found = in_another_process(sound)
        assert found["rows"]["calls"] == 601
        assert found["last_entry"]["model"] == "new"
        assert found["file"]["wal_bytes"] > 0
        ours = calibrator.doctor().facts
        assert dict(ours.rows)["calls"] == 601
        assert ours.journal_mode == "wal"
        calibrator.record("new", 1, 2.0)
        assert calibrator.audit() == []


def test_a_log_that_a_killed_program_left_is_read(sound):
    code = (
        "import os, sys\nfrom calibration_ledger import AdaptiveCalibrator\n"
        "AdaptiveCalibrator(sys.argv[1]).record('new', 1, 2.0)\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, sound], check=False).returncode == -9
    found = in_another_process(sound)
    assert found["rows"]["calls"] == 601
    assert found["needs_action"] is False


def test_what_changes_while_it_is_read_as_still_is_read_again(sound, monkeypatch):
    stamps = iter([(1, 1, 1), (1, 1, 2)])
    monkeypatch.setattr(doctor_sqlite, "_stamp", lambda _: next(stamps))
    monkeypatch.setattr(doctor_sqlite, "is_at_rest", lambda: True)
    assert facts_of(sound).state == "current"
    assert next(stamps, None) is None
    assert Path(f"{sound}-shm").exists()  # the second time it was read like every other


def test_the_durability_of_a_calibrator_is_told(ledger_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        calibrator.record("m", 1, 2.0)
        assert calibrator.doctor().facts.synchronous == "normal"
        assert calibrator.audit() == []


# What is made there, the state that is found, whether that needs action, and what is said of it.
FILES = {
    "nothing": (lambda _: None, "missing", False, ""),
    "an empty file": (Path.touch, "empty", False, ""),
    "a file that SQLite opened": (lambda path: sqlite3.connect(path).close(), "empty", False, ""),
    "an empty database": (
        lambda path: edited(path, "CREATE TABLE t (i)", "DROP TABLE t"), "empty", False, ""
    ),
    "a ledger that was only begun": (
        lambda path: edited(path, "CREATE TABLE alembic_version (version_num TEXT)"),
        "empty", False, "",
    ),
    "a byte": (lambda path: path.write_bytes(b"x"), "no database", True, ""),
    "text": (lambda path: path.write_bytes(b"some text\n" * 900), "no database", True, ""),
    "zeros": (lambda path: path.write_bytes(bytes(3 * PAGE)), "no database", True, ""),
    "another database": (
        lambda path: edited(path, "CREATE TABLE notes (note TEXT)"), "foreign", True, "notes"
    ),
    "a folder": (Path.mkdir, "unreadable", True, ""),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "unreadable", True, ""),
}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "state", "needs_action", "said"), FILES.values(), ids=FILES.keys()
)
def test_whatever_lies_there_is_told_and_not_touched(ledger_path, make, state, needs_action, said):
    def found():
        return [
            (path, path.is_file() and path.read_bytes()) for path in ledger_path.parent.iterdir()
        ]

    make(ledger_path)
    before = found()
    diagnosis = doctor_of(ledger_path)
    assert (diagnosis.facts.state, diagnosis.needs_action) == (state, needs_action)
    assert said in "".join(advice.text for advice in diagnosis.advice[:1])
    assert found() == before
    if state == "missing":
        assert diagnosis.facts.file.size_bytes is None


@pytest.mark.parametrize(("revision", "state"), [(REVISION, "older"), ("9999", "newer")])
def test_another_revision(sound, monkeypatch, revision, state):
    monkeypatch.setattr(contents, "REVISION", TOMORROW)  # a program of tomorrow
    edited(sound, f"UPDATE alembic_version SET version_num = '{revision}'")
    diagnosis = doctor_of(sound)
    assert (diagnosis.facts.state, diagnosis.facts.revision) == (state, revision)
    assert dict(diagnosis.facts.rows)["calls"] == 600
    assert diagnosis.needs_action


def test_a_ledger_of_tomorrow_need_not_have_the_tables_of_today(sound):
    edited(
        sound,
        "UPDATE alembic_version SET version_num = '0099'",
        "ALTER TABLE calibrations RENAME COLUMN updated_at TO changed_at",
        "DROP TABLE call_details",
    )
    diagnosis = doctor_of(sound)
    assert (diagnosis.facts.state, diagnosis.facts.damage) == ("newer", ())
    assert dict(diagnosis.facts.rows)["calls"] == 600
    assert "install the newer program" in diagnosis.advice[0].text


def test_another_journal_mode(sound):
    with closing(sqlite3.connect(sound)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    assert in_another_process(sound)["journal_mode"] == "delete"
    with AdaptiveCalibrator(sound.with_name("other.db")):  # so that it is not read as still
        assert facts_of(sound).journal_mode == "delete"


def test_a_database_that_another_program_keeps_to_itself(sound, monkeypatch):
    monkeypatch.setattr(doctor_sqlite, "TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(sound, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("DELETE FROM call_details")  # makes a journal
        diagnosis = doctor_of(sound)
        connection.execute("ROLLBACK")
    assert diagnosis.facts.state == "unreadable"
    assert "held by another program" in diagnosis.advice[0].text


def test_a_folder_that_is_not_there(tmp_path):
    diagnosis = doctor_of(tmp_path / "no" / "calls.db")
    assert diagnosis.facts.state == "unreadable"
    assert "mkdir -p" in diagnosis.advice[0].text


def test_a_link_is_followed_to_where_the_files_beside_it_are(sound, tmp_path):
    link = tmp_path / "links" / "link.db"
    link.parent.mkdir()
    link.symlink_to(sound)
    with AdaptiveCalibrator(link) as calibrator:
        calibrator.record("m", 1, 2.0)
        facts = facts_of(link)
        assert facts.file.wal_bytes > 0
        assert dict(facts.rows)["calls"] == 601
        if HAS_LOCKS:
            assert facts.file.activity is not None
        assert calibrator.audit() == []


def test_a_second_name_of_the_file_needs_action(sound):
    os.link(sound, sound.with_name("second.db"))
    diagnosis = doctor_of(sound)
    assert diagnosis.facts.file.names == 2
    assert diagnosis.needs_action


def test_what_this_user_may_not_write(sound, monkeypatch):
    """The system is asked by `os.access`, which says yes to everything that root asks."""
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    diagnosis = doctor_of(sound)
    assert diagnosis.facts.file.is_writable is False
    assert not diagnosis.needs_action
    missing = doctor_of(sound.with_name("missing.db"))
    assert missing.facts.state == "missing"
    assert missing.needs_action
    shm = f"{sound}-shm"
    Path(shm).touch()
    monkeypatch.setattr(os, "access", lambda path, _: str(path) != shm)
    diagnosis = doctor_of(sound)
    assert diagnosis.facts.file.locked_out == (shm,)
    assert diagnosis.needs_action


def test_what_this_user_may_not_read(sound, monkeypatch):
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.R_OK)
    diagnosis = doctor_of(sound)
    assert diagnosis.facts.state == "unreadable"
    assert "may not be read" in diagnosis.advice[0].text


def test_a_ledger_in_memory():
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.record("m", 1, 2.0)
        diagnosis = calibrator.doctor()
        assert diagnosis.facts.state == "current"
        assert dict(diagnosis.facts.rows)["calls"] == 1
        assert diagnosis.facts.file is None
        assert diagnosis.advice == ()
        assert calibrator.audit() == []
    assert doctor_of(":memory:").facts.state == "missing"


# -- damage ---------------------------------------------------------------------------------


def overwrite(path, *pages):
    with path.open("r+b") as file:
        for number in pages:
            file.seek((number - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


def test_whichever_page_is_damaged_it_says_what_can_be_read(template, sound):
    for number in range(1, template.stat().st_size // PAGE + 1):
        shutil.copy(template, sound)
        overwrite(sound, number)
        diagnosis = doctor_of(sound)
        assert diagnosis.facts.state == "damaged", number
        assert diagnosis.needs_action
        readable = diagnosis.facts.readable
        missing = sum(lost.last - lost.first + 1 for lost in readable.lost)
        assert (readable.models, readable.calls) == (2, 600) or readable.calls + missing >= 600
        assert readable.calls > 400
        assert "--salvage" in diagnosis.advice[0].commands[0]
        for suffix in ("-wal", "-shm"):
            Path(f"{sound}{suffix}").unlink(missing_ok=True)


def test_a_truncated_file(sound):
    with sound.open("r+b") as file:
        file.truncate(sound.stat().st_size // 2)
    facts = facts_of(sound)
    assert facts.state == "damaged"
    assert 0 < facts.readable.calls < 600


def test_a_name_that_is_no_text(sound):
    edited(
        sound,
        "UPDATE models SET model = CAST(x'ff' AS TEXT) WHERE id = 1",
        "UPDATE calibrations SET updated_at = updated_at + 1 WHERE model_id = 1",
    )
    facts = facts_of(sound)
    assert facts.state == "damaged"
    assert facts.readable.calls == 600


# -- who uses it ----------------------------------------------------------------------------


@contextmanager
def program(code, *arguments):
    """Run a program until it has said that it is ready."""
    whole = f"import sys\n{code}\nprint('ready', flush=True)\nsys.stdin.read()"
    process = started(whole, *arguments)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=30)


HOLDS_THE_LOCK = (
    "from calibration_ledger.storage.sqlite.lock import writer_lock\n"
    "lock = writer_lock(sys.argv[1])\nassert lock.acquire(10)"
)
RAW = "import sqlite3\nconnection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"


@needs_locks
def test_who_holds_the_writers_lock(sound):
    assert facts_of(sound).file.activity.in_turn == ()
    assert not Path(f"{sound}.lock").exists()
    with program(HOLDS_THE_LOCK, sound) as holder:
        (found,) = facts_of(sound).file.activity.in_turn
        assert found.pid == holder.pid
        assert found.command.startswith("python")
        assert not diagnose(facts_of(sound)).needs_action
        holder.send_signal(signal.SIGSTOP)
        wait_until(lambda: facts_of(sound).file.activity.in_turn[0].is_stopped)
        diagnosis = doctor_of(sound)
        assert diagnosis.needs_action
        assert diagnosis.advice[0].commands == (f"kill -CONT {holder.pid}",)
    assert facts_of(sound).file.activity.in_turn == ()


@needs_locks
def test_who_waits_for_it(sound):
    with AdaptiveCalibrator(sound) as calibrator:
        writer = threading.Thread(target=calibrator.record, args=("m", 1, 2.0))
        with program(HOLDS_THE_LOCK, sound):
            writer.start()
            wait_until(lambda: facts_of(sound).file.activity.waiting == 1)
        writer.join()
        assert calibrator.audit() == []


@needs_locks
def test_who_writes_without_it(sound):
    with program(RAW + "connection.execute('BEGIN IMMEDIATE')", sound) as other:
        facts = facts_of(sound)
        assert [process.pid for process in facts.file.activity.outside] == [other.pid]
        assert other.pid in {process.pid for process in facts.file.activity.users}
        assert f"(pid {other.pid})" in diagnose(facts).advice[0].text
    assert facts_of(sound).file.activity.outside == ()


@needs_locks
def test_who_reads(sound):
    reading = "connection.execute('BEGIN')\nconnection.execute('SELECT * FROM calls').fetchone()"
    with program(RAW + reading, sound) as other:
        activity = facts_of(sound).file.activity
        assert [process.pid for process in activity.readers] == [other.pid]
        assert activity.outside == ()


@needs_locks
def test_looking_holds_up_nobody_and_mistakes_no_writer_of_ours(sound):
    """Ours queue before they write, so none of them ever writes beside the queue."""
    code = (
        "from calibration_ledger import AdaptiveCalibrator\n"
        "import threading\n"
        "calibrator = AdaptiveCalibrator(sys.argv[1], durability='normal')\n"
        "def work():\n    while True: calibrator.record(sys.argv[2], 1, 2.0)\n"
        "threading.Thread(target=work, daemon=True).start()"
    )
    with program(code, sound, "a"), program(code, sound, "b"):
        seen = set()
        end = monotonic() + 1.0
        while monotonic() < end:
            diagnosis = doctor_of(sound)
            assert diagnosis.facts.state == "current"
            assert diagnosis.facts.file.activity.outside == ()
            seen |= {process.pid for process in diagnosis.facts.file.activity.in_turn}
        assert seen
    with AdaptiveCalibrator(sound) as calibrator:
        assert calibrator.audit() == []


def test_a_system_that_tells_nothing(sound, monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "PROC", tmp_path / "no-proc")
    diagnosis = doctor_of(sound)
    assert diagnosis.facts.file.activity is None
    assert diagnosis.facts.file.file_system is None
    assert diagnosis.facts.file.is_network is None
    assert diagnosis.facts.state == "current"
    assert not diagnosis.needs_action


def test_a_process_that_has_ended():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert surroundings._process(done.pid) == Process(done.pid, None)


# -- what the system says -------------------------------------------------------------------

MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:40 / /mnt rw - tmpfs none rw
41 40 0:41 / /mnt/share rw,relatime shared:1 master:2 - nfs4 server:/share rw,vers=4.2
42 41 0:42 / /mnt/share/a\\040b rw - fuse.sshfs me@host: rw
43 27 0:43 / /data rw - ext4 /dev/vdb rw
44 43 0:44 / /data rw - cifs //server/data rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/calls.db", "ext4"),
        ("/mnt/calls.db", "tmpfs"),
        ("/mnt/share/deep/calls.db", "nfs4"),
        ("/mnt/shared/calls.db", "tmpfs"),
        ("/mnt/share/a b/calls.db", "fuse.sshfs"),
        ("/data/calls.db", "cifs"),
        ("/database", "ext4"),
    ],
)
def test_the_file_system_of_a_path(path, kind):
    assert surroundings.kind_of(MOUNTS, path) == kind
    assert surroundings.kind_of("", path) is None


@pytest.mark.parametrize(
    ("kind", "is_network"),
    [
        *((kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs")),
        *((f"fuse.{kind}", True) for kind in ("sshfs", "s3fs", "rclone", "vmhgfs-fuse", "cephfs")),
        *((kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs")),
        *((kind, False) for kind in ("fuseblk", "fuse.gocryptfs", "fuse.mergerfs", "f2fs")),
    ],
)
def test_network_file_systems(tmp_path, monkeypatch, kind, is_network):
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(f"1 0 0:1 / / rw - {kind} none rw\n")
    monkeypatch.setattr(surroundings, "PROC", tmp_path)
    found = surroundings.file_system("/home/me/calls.db")
    assert found == (kind, is_network, kind == "tmpfs")


def test_locks_as_the_system_lists_them():
    text = (
        "1: POSIX  ADVISORY  WRITE 19065 fe:00:2294436 120 120\n"
        "2: FLOCK  ADVISORY  WRITE 19061 fe:00:2294561 0 EOF\n"
        "2: -> FLOCK  ADVISORY  WRITE 19070 fe:00:2294561 0 EOF\n"
        "3: OFDLCK ADVISORY  READ -1 00:2e:77 0 0\n"
        "4: LEASE  ACTIVE    READ 5 no:such:thing 0 EOF\n"
        "nonsense\n"
    )
    first, second, third, fourth = surroundings.parse_locks(text)
    assert first == ("POSIX", True, False, 19065, (0xFE, 0), 2294436, 120, 120)
    assert second[:6] == ("FLOCK", True, False, 19061, (0xFE, 0), 2294561)
    assert (third.pid, third.waits) == (19070, True)
    assert (fourth.kind, fourth.is_write, fourth.device) == ("OFDLCK", False, (0, 0x2E))


@needs_locks
def test_a_file_whose_locks_have_another_device_is_found_by_who_has_it_open(sound, monkeypatch):
    """As on overlay and btrfs."""
    with program(HOLDS_THE_LOCK, sound) as holder:
        real = os.major
        monkeypatch.setattr(os, "major", lambda device: real(device) + 1)
        (found,) = facts_of(sound).file.activity.in_turn
        assert found.pid == holder.pid


# -- PostgreSQL -----------------------------------------------------------------------------


@pytest.fixture(name="database")
def _database(postgres):
    with postgres.database(migrated=True) as name:
        yield name


def test_a_ledger_on_a_server(postgres, database):
    url = postgres.url(database)
    with AdaptiveCalibrator(url, durability="normal") as calibrator:
        calibrator.record("m", 1, 2.0, called_at=START)
        diagnosis = calibrator.doctor()
        facts = diagnosis.facts
        assert (facts.engine, facts.state, facts.revision) == ("PostgreSQL", "current", REVISION)
        assert facts.engine_version[0].isdigit()
        assert (facts.synchronous, facts.journal_mode, facts.file) == ("normal", None, None)
        assert dict(facts.rows)["calls"] == 1
        assert (facts.last_entry.model, facts.last_entry.at) == ("m", START)
        assert (facts.obstacles, facts.unanswered, facts.drifts) == ((), (), ())
        server = facts.server
        assert server.database_bytes > server.ledger_bytes > 0
        assert server.isolation == "read committed"
        assert server.synchronous_commit == "on"
        assert (server.is_read_only, server.missing_grants, server.blocked) == (False, (), ())
        # The server of the tests need not survive anything, and is told so.
        assert diagnosis.needs_action is bool(server.unsafe)
        assert calibrator.audit() == []
    assert doctor_of(url).facts.synchronous == "full"


def test_no_ledger_on_a_server(postgres):
    with postgres.database() as name:
        assert facts_of(postgres.url(name)).state == "missing"
        postgres.run("CREATE TABLE notes (note TEXT)", database=name)
        assert facts_of(postgres.url(name)).state == "missing"
        postgres.run("CREATE TABLE models (id INTEGER)", database=name)
        assert facts_of(postgres.url(name)).state == "foreign"


@pytest.mark.parametrize(("revision", "state"), [(REVISION, "older"), ("9999", "newer")])
def test_another_revision_on_a_server(postgres, database, monkeypatch, revision, state):
    monkeypatch.setattr(contents, "REVISION", TOMORROW)  # a program of tomorrow
    postgres.run(f"UPDATE alembic_version SET version_num = '{revision}'", database=database)
    facts = facts_of(postgres.url(database))
    assert (facts.state, facts.revision) == (state, revision)


def test_a_server_that_cannot_be_reached(postgres, database):
    for url in (postgres.url("no_such_database"), postgres.url(database, user="nobody_known")):
        diagnosis = doctor_of(url)
        assert (diagnosis.facts.state, diagnosis.facts.server) == ("unreadable", None)
        assert "no connection" in diagnosis.advice[0].text
        assert "s3cret" not in repr(diagnosis)


def test_what_a_role_may_not_do_is_listed(postgres, database):
    reader = postgres.role("reader")
    url = postgres.url(database, user=reader)
    denied = facts_of(url)
    assert denied.state == "unreadable"
    assert "permission denied" in denied.trouble
    postgres.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}", database=database)
    try:
        facts = facts_of(url)
        assert facts.state == "current"
        assert facts.server.missing_grants == (
            "INSERT on models",
            "INSERT on calls",
            "INSERT on call_details",
            "INSERT on adjustments",
            "INSERT on calibrations",
            "UPDATE on calibrations",
        )
    finally:
        postgres.run(f"DROP OWNED BY {reader}", database=database)


def test_sessions_that_wait_for_locks_are_seen(postgres, database, monkeypatch):
    monkeypatch.setattr("calibration_ledger.storage.postgres.examine.LOCK_TIMEOUT_MS", 100)
    with (
        closing(postgres.connect(database)) as holder,
        closing(postgres.connect(database)) as waiter,
    ):
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE calls")
        pids = (waiter.info.backend_pid, holder.info.backend_pid)
        thread = threading.Thread(target=waiter.execute, args=("SELECT count(*) FROM calls",))
        thread.start()
        try:
            wait_until(lambda: facts_of(postgres.url(database)).server.blocked)
            facts = facts_of(postgres.url(database))
        finally:
            holder.execute("COMMIT")
            thread.join()
    (blocked,) = facts.server.blocked
    assert (blocked.pid, blocked.blocked_by) == pids
    assert blocked.state == "idle in transaction"
    assert dict(facts.rows)["calls"] is None  # not waited for
    assert dict(facts.rows)["models"] == 0
    (why,) = facts.unanswered
    assert "lock timeout" in why


def test_where_a_question_of_its_own_failed_it_is_not_all_well(postgres, database):
    reader = postgres.role("reader")
    tables = sorted({*TABLES, "alembic_version"} - {"calls"})
    grant = f"GRANT SELECT ON {', '.join(tables)}"
    postgres.run(f"{grant} TO {reader}", database=database)
    try:
        diagnosis = doctor_of(postgres.url(database, user=reader))
    finally:
        postgres.run(f"DROP OWNED BY {reader}", database=database)
    assert diagnosis.facts.unanswered == ("permission denied for table calls",)
    assert diagnosis.needs_action
    (told,) = [advice for advice in diagnosis.advice if "found out" in advice.text]
    assert told.needs_action
    assert "permission denied for table calls" in told.text


def test_a_server_that_only_reads(postgres, database):
    postgres.run(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    facts = facts_of(postgres.url(database))
    assert facts.server.is_read_only
    assert facts.state == "current"


def test_looking_at_a_server_changes_nothing(postgres, database):
    counters = (
        "SELECT tup_inserted, tup_updated, tup_deleted FROM pg_stat_database"
        f" WHERE datname = '{database}'"
    )
    if int(postgres.run("SHOW server_version_num")[0][0]) < 150_000:
        pytest.skip("before PostgreSQL 15, its counters cannot be asked to be up to date")
    before = postgres.run("SELECT pg_stat_force_next_flush()", counters, database=database)
    assert facts_of(postgres.url(database)).state == "current"
    after = postgres.run("SELECT pg_stat_force_next_flush()", counters, database=database)
    assert before == after
