"""Databases of other tools: what is wanted comes out in one snapshot, whatever their owners do, who
do not notice; and nothing is left beside the file."""

import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from calibration_ledger.errors import ImportRefusedError
from calibration_ledger.storage.foreign import ForeignDatabase

MODES = ("delete", "wal", "truncate", "persist", "memory")
ROWS = 200


def connect(path, mode="delete"):
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    assert connection.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    return connection


@pytest.fixture
def make(folder):
    def made(mode="delete", rows=ROWS):
        path = folder / "logs.db"
        connection = connect(path, mode)
        connection.execute("CREATE TABLE calls (id INTEGER PRIMARY KEY, prompt TEXT, took INTEGER)")
        connection.execute("CREATE TABLE pairs (id INTEGER PRIMARY KEY, took INTEGER)")
        for table, columns in (("calls", "id, prompt, took"), ("pairs", "id, 'p', took")):
            values = "(?, 'p', ?)" if table == "calls" else "(?, ?)"
            del columns
            connection.executemany(
                f"INSERT INTO {table} VALUES {values}", [(i, 10 * i) for i in range(rows)]
            )
        connection.close()
        return path

    return made


def listed(path):
    return sorted(
        (one.name, one.stat().st_size, one.stat().st_mtime_ns, one.stat().st_ino)
        for one in path.parent.iterdir()
    )


def taken(path, timeout_s=5.0):
    with ForeignDatabase(path, "logs.db", timeout_s) as database:
        return list(database.rows("calls", ["id", "took"]))


@contextmanager
def owner(path, code):
    """Another process that has the database open; it says `ready`, and ends with its stdin."""
    program = f"""
        import os, sqlite3, sys, time
        c = sqlite3.connect({str(path)!r}, isolation_level=None, timeout=5)
        def ready():
            print("ready", flush=True)
        def wait():
            sys.stdin.read()
    """
    program = textwrap.dedent(program) + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


# -- nothing is left, and nothing is missed -------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_database_at_rest_is_read_and_nothing_is_left_beside_it(make, mode):
    path = make(mode)
    before = listed(path)
    assert taken(path) == [(i, 10 * i) for i in range(ROWS)]
    assert listed(path) == before


@pytest.mark.parametrize("mode", MODES)
def test_what_a_running_owner_committed_is_read_and_nothing_is_left(make, mode):
    path = make(mode)
    code = "c.execute(\"INSERT INTO calls VALUES (1000, 'p', 7)\"); ready(); wait()"
    if mode == "wal":
        code = 'c.execute("PRAGMA wal_autocheckpoint=0"); ' + code
    with owner(path, code) as process:
        names = [name for name, *_ in listed(path)]
        assert (f"{path.name}-wal" in names) == (mode == "wal")
        size = path.stat().st_size, path.stat().st_mtime_ns
        assert taken(path)[-1] == (1000, 7)
        assert [name for name, *_ in listed(path)] == names
        assert (path.stat().st_size, path.stat().st_mtime_ns) == size
        process.stdin.close()  # it closes in the usual way, and is not kept from tidying up
        assert process.wait(10) == 0
    assert [name for name, *_ in listed(path)] == [path.name]
    assert taken(path)[-1] == (1000, 7)


@pytest.mark.parametrize("has_index", [True, False])
def test_the_log_that_a_killed_owner_left_is_read_and_stays_as_it_is(make, has_index):
    path = make("wal")
    with owner(path, "c.execute(\"INSERT INTO calls VALUES (1000, 'p', 7)\"); ready(); wait()"):
        pass
    if not has_index:
        path.with_name("logs.db-shm").unlink()
    before = listed(path)
    assert len(before) == 2 + has_index
    assert taken(path)[-1] == (1000, 7)
    assert listed(path) == before


def test_a_change_that_a_killed_owner_left_half_done_is_not_read(make):
    path = make(rows=3000)
    code = """
        c.execute("PRAGMA cache_size=2")
        c.execute("BEGIN IMMEDIATE")
        c.execute("UPDATE calls SET took = -1")
        ready(); wait()
    """
    with owner(path, code):
        pass
    before = listed(path)
    assert len(before) == 2, "there is a journal"
    assert taken(path) == [(i, 10 * i) for i in range(3000)]
    assert listed(path) == before


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_what_an_owner_has_not_committed_is_not_read(make, mode):
    path = make(mode)
    with owner(
        path, 'c.execute("BEGIN IMMEDIATE"); c.execute("DELETE FROM calls"); ready(); wait()'
    ):
        assert len(taken(path)) == ROWS


@pytest.mark.skipif(sys.platform == "win32", reason="there are no permission bits")
@pytest.mark.parametrize("mode", ["delete", "wal", "killed"])
def test_a_database_in_a_folder_that_may_not_be_written_is_read(make, mode):
    path = make("wal" if mode == "killed" else mode)
    if mode == "killed":
        code = "c.execute(\"INSERT INTO calls VALUES (1000, 'p', 7)\"); ready(); wait()"
        with owner(path, code):
            pass
    before = listed(path)
    found = as_nobody(path)
    assert found == [[i, 10 * i] for i in range(ROWS)] + [[1000, 7]] * (mode == "killed")
    assert listed(path) == before


def as_nobody(path):
    """What a user reads who may read everything, and write nothing."""
    program = f"""
        import json, os
        from pathlib import Path
        from calibration_ledger.storage.foreign import ForeignDatabase
        import calibration_ledger.formats.source, tempfile, shutil, encodings.ascii
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        with ForeignDatabase(Path({str(path)!r}), "logs.db") as database:
            print(json.dumps(list(database.rows("calls", ["id", "took"]))))
    """
    folder = path.parent
    modes = {one: one.stat().st_mode for one in (folder, *folder.iterdir())}
    try:
        for one in modes:
            one.chmod(0o555 if one.is_dir() else 0o444)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    finally:
        for one, mode in modes.items():
            one.chmod(mode)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- beside an owner that writes ------------------------------------------------------------

WRITER = """
    number = 1000
    ready()
    while True:
        c.execute("BEGIN IMMEDIATE")
        c.execute("INSERT INTO calls VALUES (?, 'p', ?)", (number, number))
        c.execute("INSERT INTO pairs VALUES (?, ?)", (number, number))
        if number % 50 == 0:
            c.execute("DELETE FROM calls WHERE id BETWEEN 1000 AND ?", (number - 1,))
            c.execute("DELETE FROM pairs WHERE id BETWEEN 1000 AND ?", (number - 1,))
        c.execute("COMMIT")
        number += 1
        time.sleep(0.002)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_all_tables_are_of_one_snapshot_while_the_owner_writes(make, mode):
    path = make(mode)
    seen = set()
    with owner(path, WRITER):
        for _ in range(20):
            with ForeignDatabase(path, "logs.db") as database:
                calls = database.rows("calls", ["id", "took"])
                pairs = database.rows("pairs", ["id", "took"])
                first = list(calls)
                time.sleep(0.01)
                assert list(pairs) == first
                seen.add(first[-1])
    assert len(seen) > 3, "the owner did write"


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_an_owner_that_opens_and_closes_it_for_every_call_is_not_in_the_way(make, mode):
    path = make(mode)
    code = f"""
        c.close()
        ready()
        for number in range(1000, 10**6):
            c = sqlite3.connect({str(path)!r}, timeout=5)
            c.execute("INSERT INTO calls VALUES (?, 'p', 1)", (number,))
            c.commit()
            c.close()
    """
    with owner(path, code) as process:
        found = [len(taken(path)) for _ in range(15)]
        assert process.poll() is None
    assert found == sorted(found)
    assert found[0] >= ROWS
    assert found[-1] > found[0]


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_an_owner_commits_while_the_rows_are_still_read(make, mode):
    path = make(mode)
    with ForeignDatabase(path, "logs.db") as database:
        rows = database.rows("calls", ["id"])
        next(rows)
        writer = connect(path, mode)
        writer.execute("PRAGMA busy_timeout=0")
        writer.execute("INSERT INTO calls VALUES (1000, 'p', 1)")
        writer.close()
        assert len(list(rows)) == ROWS - 1


def test_who_waits_for_a_busy_owner_reads_when_it_is_done(make):
    path = make()
    writer = connect(path)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("INSERT INTO calls VALUES (1000, 'p', 1)")
    other = threading.Timer(0.3, lambda: None)
    other.start()
    found = []
    reader = threading.Thread(target=lambda: found.extend(taken(path)))
    reader.start()
    other.join()
    assert found == []
    writer.execute("COMMIT")
    reader.join()
    writer.close()
    assert found[-1] == (1000, 1)


def test_an_owner_that_does_not_let_go_is_named(make):
    path = make()
    with owner(path, 'c.execute("BEGIN EXCLUSIVE"); ready(); wait()'):
        begin = time.monotonic()
        with pytest.raises(ImportRefusedError, match="another program keeps the database locked"):
            taken(path, timeout_s=0.2)
        assert 0.2 <= time.monotonic() - begin < 3


# -- more than fits into a moment ------------------------------------------------------------


@pytest.fixture
def no_time(monkeypatch):
    """Nothing can be taken out within the time that an owner may be kept waiting."""
    monkeypatch.setattr("calibration_ledger.storage.foreign._HOLD_S", 0.0)


@pytest.mark.usefixtures("no_time")
def test_what_takes_long_is_read_in_pages_and_is_the_same(make):
    path = make(rows=5000)
    connection = connect(path)
    connection.execute("DELETE FROM calls WHERE id % 7 = 0 OR id BETWEEN 1000 AND 3000")
    connection.execute("CREATE TABLE chat (chat TEXT)")
    chats = [(json.dumps({"m": [{"id": n}, {"id": -n}]}),) for n in range(1000)]
    connection.executemany("INSERT INTO chat VALUES (?)", chats)
    expected = connection.execute("SELECT id, took FROM calls ORDER BY id").fetchall()
    connection.close()
    before = listed(path)
    with ForeignDatabase(path, "logs.db") as database:
        rows = database.rows("calls", ["id", "took"])
        each = database.rows("chat", ["each->id"], each=("chat->m",))
        none = [database.rows("turns", ["id"]), database.rows("calls", ["id"], each=("x->y",))]
        assert list(rows) == expected
        assert [number for (number,) in each] == [s * n for n in range(1000) for s in (1, -1)]
        assert [[*one] for one in none] == [[], []]
        assert database._is_long
    assert listed(path) == before


@pytest.mark.usefixtures("no_time")
def test_pages_between_which_the_owner_wrote_are_begun_anew(make):
    path = make(rows=3000)
    code = """
        ready()
        for number in range(5):
            c.execute("UPDATE calls SET took = took + 1")
            time.sleep(0.05)
        wait()
    """
    with owner(path, code):
        found = taken(path)
    assert len(found) == 3000
    assert len({took - 10 * number for number, took in found}) == 1, "one snapshot"


@pytest.mark.usefixtures("no_time")
@pytest.mark.parametrize("hold_once_s", [4.0, 0.0])
def test_an_owner_that_never_stops_waits_once_and_not_too_long(make, monkeypatch, hold_once_s):
    for name, value in (("_HOLD_ONCE_S", hold_once_s), ("_PAGE_S", 0.0), ("_PAUSE_S", 0.0)):
        monkeypatch.setattr(f"calibration_ledger.storage.foreign.{name}", value)
    path = make(rows=3000)
    code = """
        ready()
        while True:
            c.execute("UPDATE pairs SET took = took + 1 WHERE id = 1")
            time.sleep(0.001)
    """
    with owner(path, code) as process:
        if hold_once_s:
            assert len(taken(path)) == 3000
        else:
            assert "writes to it all the time: try again" in refused(path)
        assert process.poll() is None


# -- files that are none --------------------------------------------------------------------


def refused(path):
    with pytest.raises(ImportRefusedError) as caught:
        taken(path)
    assert str(caught.value).startswith("logs.db: ")
    return str(caught.value)


def test_what_is_no_database_is_refused_by_a_sentence(folder):
    path = folder / "logs.db"
    assert "No such file" in refused(path)
    path.write_bytes(b"")
    assert "the file is empty" in refused(path)
    for data in (b"x", b"SQLite format 3\0", b'{"model":"m"}\n' * 100, os.urandom(8192)):
        path.write_bytes(data)
        assert "no SQLite database, or an encrypted or compressed one" in refused(path)
        path.with_name("logs.db-journal").write_bytes(b"")
        assert "no SQLite database, or an encrypted or compressed one" in refused(path)
        path.with_name("logs.db-journal").unlink()
    assert "this is a folder" in refused(folder)
    assert "cannot be opened" in refused(Path("a\0b"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_refused_at_once(folder):
    os.mkfifo(folder / "logs.db")
    assert "no ordinary file" in refused(folder / "logs.db")


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_damaged_database_is_refused_and_not_touched(make, mode):
    path = make(mode, rows=3000)
    data = bytearray(path.read_bytes())
    data[4096 : len(data) // 2] = os.urandom(len(data) // 2 - 4096)
    path.write_bytes(data)
    before = listed(path)
    assert "the database is damaged" in refused(path)
    assert listed(path) == before


def test_a_database_that_was_cut_short_is_refused(make):
    path = make(rows=3000)
    os.truncate(path, 3 * 4096)
    assert "the database is damaged" in refused(path)


# -- what is asked for ----------------------------------------------------------------------


def test_a_table_or_column_that_is_not_there_is_no_error(make):
    with ForeignDatabase(make(rows=2), "logs.db") as database:
        assert database.has("calls")
        assert database.has("CALLS", "id", "Took")
        assert not database.has("calls", "id", "cost")
        assert not database.has("turns")
        assert not database.has("sqlite_master")
        cost = database.rows("calls", ["cost", "ID", "cost->a"])
        turns = database.rows("turns", ["id"], each=("x->y",))
        beside = database.rows("calls", ["id", "b.took"], beside=("b", "id", "id"))
        assert [*cost, *turns, *beside] == [(None, 0, None), (None, 1, None), (0, None), (1, None)]


def test_members_of_json_come_as_values_and_broken_json_ends_nothing(folder):
    path = folder / "logs.db"
    connection = connect(path)
    connection.execute("CREATE TABLE t (id INTEGER, j TEXT)")
    texts = [
        '{"a": {"b.c": 1}, "list": [1, {"x": null}], "text": "\\u00e9\\ud800", "no": false}',
        '{"a": ',
        None,
        "[1]",
        '"text"',
        b"\xff\xfe",
        "[" * 900 + "]" * 900,
        '{"a": {"b.c": ' + "9" * 5000 + "}}",
    ]
    connection.executemany("INSERT INTO t VALUES (?, ?)", enumerate(texts))
    connection.close()
    with ForeignDatabase(path, "logs.db") as database:
        found = list(database.rows("t", ["j->list", "id", "j->a->b.c", "j->text", "j->no"]))
    assert found[0] == ([1, {"x": None}], 0, 1, "\xe9\ud800", False)
    assert [row[1] for row in found] == [*range(len(texts))]
    assert {row[:1] + row[2:] for row in found[1:7]} == {(None, None, None, None)}


def test_each_item_of_a_list_or_object_is_a_row(folder):
    path = folder / "logs.db"
    connection = connect(path)
    connection.execute("CREATE TABLE chat (id TEXT, chat JSON)")
    chats = [
        {"history": {"messages": {"x": {"id": "x", "usage": {"n": 1}}, "y": {"id": "y"}, "z": 5}}},
        {"history": {"messages": [{"id": "v"}]}},
        {"history": {}},
        {"history": {"messages": "none"}},
        {"history": {"messages": {}}, "messages": [{"id": "w"}]},
        {"history": {"messages": {"u": {"id": "u"}}}, "messages": [{"id": "u"}]},
    ]
    connection.executemany(
        "INSERT INTO chat VALUES (?, ?)", [(str(n), json.dumps(one)) for n, one in enumerate(chats)]
    )
    connection.execute("INSERT INTO chat VALUES ('bad', '{')")
    connection.close()
    with ForeignDatabase(path, "logs.db") as database:
        rows = database.rows(
            "chat",
            ["id", "each->id", "each->usage->n"],
            each=("chat->history->messages", "chat->messages"),
        )
        assert [row for row in rows if row[1]] == [
            ("0", "x", 1),
            ("0", "y", None),
            ("1", "v", None),
            ("4", "w", None),
            ("5", "u", None),
        ]


def test_the_row_beside_comes_with_it_and_rows_can_be_ordered(make):
    path = make(rows=3)
    connection = connect(path)
    connection.execute("DELETE FROM pairs WHERE id = 1")
    connection.close()
    with ForeignDatabase(path, "logs.db") as database:
        rows = database.rows("calls", ["pairs.took", "id"], beside=("pairs", "id", "id"))
        assert list(rows) == [(0, 0), (None, 1), (20, 2)]
    with ForeignDatabase(path, "logs.db") as database:
        assert list(database.rows("calls", ["took", "prompt", "id"], order_by="took")) == [
            (0, "p", 0),
            (10, "p", 1),
            (20, "p", 2),
        ]


def test_text_that_is_no_utf_8_and_names_of_any_kind_are_read(folder):
    path = folder / "logs.db"
    connection = connect(path)
    connection.execute('CREATE TABLE "a "" b" ("x ""; DROP" TEXT)')
    connection.execute('INSERT INTO "a "" b" VALUES (CAST(x\'6dff\' AS TEXT))')
    connection.execute("CREATE VIEW calls AS SELECT 1 AS id")
    connection.close()
    with ForeignDatabase(path, "logs.db") as database:
        assert not database.has("calls"), "a view runs what its maker wanted"
        assert list(database.rows('a " b', ['x "; DROP'])) == [("m\ufffd",)]


def test_all_rows_are_asked_for_before_the_first_one_is_read(make):
    with ForeignDatabase(make(rows=1), "logs.db") as database:
        assert list(database.rows("calls", ["id"])) == [(0,)]
        with pytest.raises(RuntimeError, match="before the first row"):
            database.rows("pairs", ["id"])
