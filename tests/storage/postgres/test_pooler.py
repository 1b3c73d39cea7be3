"""Behind PgBouncer in transaction mode: two server connections that everybody shares, in turns.

The tests of `tests/verbs` run here too, with `-m stress`. This is what a pooler can break.
"""

import io
import json
import os
import signal
import time
from contextlib import closing, contextmanager

import psycopg
import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    LedgerBusyError,
    LedgerError,
    LedgerTooNewError,
    NotRecordedError,
    OutcomeUnknownError,
)
from calibration_ledger.storage.migrate import schema_differences, upgrade
from calibration_ledger.storage.place import find_place
from support.newer_program import TODAY, TOMORROW, upgrade_in_process
from support.pooler import SERVER_CONNECTIONS, running_pooler
from support.postgres_server import PASSWORD
from support.programs import CALIB, ran
from support.quick import QUICK
from support.reference import digest_of, dump
from support.rehearsal import run_all, write_until_refused
from support.steps import (
    GATE,
    end_in_mid_commit,
    on_insert,
    shut_gate,
    wait_until,
    waiting,
)

from .test_lost_connections import END
from .test_roles import WRITER, grant, read_in_every_way, write_in_every_way


@pytest.fixture
def url(pooler, database):
    """A ledger's URL, by way of the pooler."""
    return pooler.url(database)


@contextmanager
def connect(url):
    """A connection whose transaction ends with it: else the pooler ends the server's one too."""
    with closing(psycopg.connect(url.replace("+psycopg", ""), prepare_threshold=None)) as opened:
        yield opened
        opened.rollback()


def heads_of(url):
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.audit() == []
        return calibrator.heads()


def server_connections(run):
    """The server's processes that work for this database, but for the one that asks."""
    return run(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def open_both(url):
    """Make the pooler open all its server connections, so that transactions go round."""
    with connect(url) as one, connect(url) as two:
        pids = {c.execute("SELECT pg_backend_pid()").fetchone()[0] for c in (one, two)}
    assert len(pids) == SERVER_CONNECTIONS
    return pids


# -- a whole life ---------------------------------------------------------------------------


def test_each_transaction_of_a_calibrator_may_meet_another_connection(run, url, calibrator):
    """What the tests here rest on."""
    pids = open_both(url)
    ask = calibrator._ledger.backend._read
    assert [ask("SELECT pg_backend_pid()")[0][0] for _ in range(4)] in (
        [*pids] * 2,
        [*reversed([*pids])] * 2,
    )
    calibrator.record("m", 1, 2.0)


@pytest.mark.parametrize("tcp", [False, True], ids=["socket", "tcp"])
def test_a_ledger_lives_its_whole_life_through_a_pooler(postgres, pooler, empty, tmp_path, tcp):
    """Made by its first record, and moved whole in the end: over TCP with keepalives as well."""
    url = pooler.url(empty, tcp=tcp)
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.predict("m", 10).sample_count == 0
        calibrator.record("m", 5, 9.0, request_id="first")
        assert len(open_both(url)) == SERVER_CONNECTIONS
        for _ in range(3):  # so that each statement meets either connection
            write_in_every_way(calibrator)
            read_in_every_way(calibrator)
        calibrator.record_many([Call(f"many {i % 7}", i, 5, 9.0 + i) for i in range(2500)])
        for replay in calibrator.replay():
            assert replay.calibration == calibrator.calibration(replay.model)
        exported = tmp_path / "ledger.jsonl"
        calibrator.export_ledger("jsonl", exported)
        heads = calibrator.heads()
        assert calibrator.audit(heads=heads) == []
    for head in (one for one in heads if one.is_of_model):
        assert digest_of(postgres.url(empty), head.model) == head.digest
    place = find_place(url)
    assert upgrade(place, 5.0).before == TODAY
    assert schema_differences(place, 5.0) == []
    with postgres.database() as copy, AdaptiveCalibrator(pooler.url(copy, tcp=tcp)) as other:
        other.import_calls("ledger", exported)
        assert other.heads() == heads
        assert other.audit() == []


def test_the_command_line_works_through_a_pooler(pooler, empty):
    def calib(*arguments, exit_codes=(0,)):
        done = ran(CALIB, "--ledger", pooler.url(empty), *arguments)
        assert done.returncode in exit_codes, done.stdout + done.stderr
        return done.stdout

    numbers = ("--prompt-tokens", "512", "--completion-tokens", "128", "--actual-ms", "3400")
    calib("db", "upgrade")
    calib("record", "m", *numbers)
    calib("recalibrate", "--alpha", "0.5", "--yes")
    assert calib("audit") == "ok: 1 model, 3 entries\n"
    assert calib("db", "check") == f"ok: revision {TODAY}, tables as expected\n"
    # The tests' own server never syncs, which the doctor rightly minds.
    report = json.loads(calib("doctor", "--json", exit_codes=(0, 1)))
    assert report["state"] == "current"
    assert report["rows"]["calls"] == 1
    assert report["server"]["missing_grants"] == []


def test_nothing_is_left_behind_on_a_server_connection(url, calibrator):
    """No setting, no prepared statement, no lock, no temporary table, no open transaction."""
    asked = """
        SELECT current_setting('synchronous_commit'), current_setting('lock_timeout'),
            current_setting('statement_timeout'), current_setting('search_path'),
            current_setting('default_transaction_isolation'),
            (SELECT count(*) FROM pg_prepared_statements),
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
            (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
            (SELECT count(*) FROM pg_cursors)
    """
    pids = open_both(url)
    with AdaptiveCalibrator(url, durability="normal") as quick:
        for opened in (calibrator, quick):
            for _ in range(8):  # a driver prepares what it sees for the fifth time
                write_in_every_way(opened)
                read_in_every_way(opened)
    upgrade(find_place(url), 5.0)
    assert schema_differences(find_place(url), 5.0) == []
    with connect(url) as one, connect(url) as two:  # both are in a transaction, side by side
        found = {c: c.execute(asked).fetchone() for c in (one, two)}
        assert {c.execute("SELECT pg_backend_pid()").fetchone()[0] for c in found} == pids
        defaults = ("on", "0", "0", '"$user", public', "read committed", 0, 0, 0, 0)
        assert set(found.values()) == {defaults}


# -- several processes ----------------------------------------------------------------------


def write(url, worker, results):
    try:
        with AdaptiveCalibrator(url) as calibrator:
            for i in range(25):
                calibrator.record(
                    "hot", 10 + i, 100.0 + worker, completion_tokens=5, request_id=f"{worker}-{i}"
                )
                calibrator.record_many([Call(f"m{(worker + k) % 3}", k, 5, 9.0) for k in range(4)])
                calibrator.predict("hot", 10)
        results.put(None)
    except BaseException as error:  # noqa: BLE001 - told to the parent
        results.put(repr(error))


def test_eight_processes_make_a_ledger_and_lose_nothing(pooler, empty, postgres):
    results = QUICK.Queue()
    processes = run_all(*[(write, (pooler.url(empty), worker, results)) for worker in range(8)])
    assert [results.get(timeout=60) for _ in processes] == [None] * 8
    for process in processes:
        process.join(timeout=20)
    ((count,),) = postgres.run(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{empty}'"
        " AND backend_type = 'client backend'"
    )
    assert 1 <= count <= SERVER_CONNECTIONS
    with AdaptiveCalibrator(pooler.url(empty)) as calibrator:
        counts = {stats["model"]: stats["sample_count"] for stats in calibrator.all_stats()}
        assert counts["hot"] == 8 * 25
        assert sum(counts[f"m{i}"] for i in range(3)) == 8 * 25 * 4
        ids = [call.request_id for call in calibrator.calls("hot")]
        assert sorted(ids) == sorted(f"{w}-{i}" for w in range(8) for i in range(25))
        assert calibrator.audit() == []


def test_an_upgrade_through_a_pooler_keeps_writers_out_and_loses_nothing(url, run, newer):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m0", 1, 2.0)
    barrier, upgraded, written = QUICK.Barrier(7), QUICK.Queue(), QUICK.Queue()
    upgraders = (upgrade_in_process, (url, newer(0.2), barrier, upgraded))
    writers = (write_until_refused, (url, barrier, written))
    processes = run_all(*[upgraders] * 4, *[writers] * 3)
    ends = [written.get(timeout=60) for _ in range(3)]
    assert {end[1:] for end in ends} == {(TOMORROW, TODAY)}, ends
    done = [upgraded.get(timeout=60)[:2] for _ in range(4)]
    assert sorted(done) == [(TODAY, TOMORROW)] + [(TOMORROW, TOMORROW)] * 3
    for process in processes:
        process.join(timeout=20)
        assert process.exitcode == 0
    assert run("SELECT count(*) FROM calls") == [(1 + sum(end[0] for end in ends),)]
    with pytest.raises(LedgerTooNewError):
        AdaptiveCalibrator(url)
    run(f"UPDATE alembic_version SET version_num = '{TODAY}'")  # this program can look all the same
    assert heads_of(url)


# -- what dies ------------------------------------------------------------------------------


def record_once(url):
    AdaptiveCalibrator(url).record("m", 77, 2.0, request_id="killed")


def test_a_client_that_is_killed_in_mid_transaction_leaves_no_trace(
    postgres, database, run, url, calibrator
):
    calibrator.record("m", 1, 2.0)
    rows = dump(postgres.url(database))
    on_insert(run, f"IF NEW.prompt_tokens = 77 THEN {GATE} END IF;")
    with shut_gate(postgres, database) as open_gate:
        process = QUICK.Process(target=record_once, args=(url,))
        process.start()
        ((pid, _),) = wait_until(lambda: waiting(run, "advisory"))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        open_gate()
        wait_until(lambda: (pid,) not in server_connections(run))
    assert dump(postgres.url(database)) == rows
    calibrator.record("m", 77, 2.0, request_id="killed")
    assert [call.request_id for call in calibrator.calls("m")] == [None, "killed"]


def test_a_backend_that_is_ended_in_mid_commit_leaves_an_unknown_outcome(
    postgres, database, run, url, calibrator, pool
):
    calibrator.record("m", 1, 2.0)
    record = end_in_mid_commit(postgres, database, run, pool, calibrator)
    error = record()
    assert record() == error
    assert [call.request_id for call in calibrator.calls("m")] == [None, "r"]


@pytest.mark.parametrize("delivered", [False, True], ids=["lost", "delivered"])
def test_the_wire_to_the_pooler_is_cut_at_every_message(proxy, calibrator, delivered):
    outcomes = []
    calibrator.record("m", 1, 2.0)
    with AdaptiveCalibrator(proxy.url.render_as_string(hide_password=False)) as far:
        far.record("m", 1, 2.0, request_id="first")
        for i in range(7):
            before = [call.request_id for call in calibrator.calls("m")]
            proxy.cut_at(i, delivered=delivered)
            try:
                far.record("m", 3, 4.0, request_id=f"cut-{i}")
                outcomes.append("recorded")
            except OutcomeUnknownError:
                outcomes.append("unknown")
            far.record("m", 3, 4.0, request_id=f"cut-{i}")
            ids = [call.request_id for call in calibrator.calls("m")]
            assert ids == [*before, f"cut-{i}"]
    assert outcomes == ["recorded"] * 6 + ["unknown"]


def test_server_connections_that_were_ended_are_replaced(run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    for _ in range(3):
        open_both(url)
        run(END)
        calibrator.record("m", 1, 2.0)
        run(END)
        with AdaptiveCalibrator(url) as another:
            assert another.audit() == []
    assert calibrator.predict("m", 1).sample_count == 4


# -- what the pooler is set to --------------------------------------------------------------


@pytest.fixture
def small(postgres):
    """A pooler of its own, which a test may stop, and which is quick to say that it is full."""
    with running_pooler(postgres, query_wait_timeout=1) as opened:
        yield opened


def test_a_pooler_that_was_stopped_is_a_typed_error_and_its_return_is_noticed(small, database):
    with AdaptiveCalibrator(small.url(database)) as calibrator:
        calibrator.record("m", 1, 2.0)
        small.stop()
        with pytest.raises(NotRecordedError, match=r"no connection.*Nothing was recorded"):
            calibrator.record("m", 1, 2.0)
        with pytest.raises(LedgerError, match="no connection"):
            calibrator.predict("m", 1)
        small.start()
        calibrator.record("m", 1, 2.0)
        assert calibrator.predict("m", 1).sample_count == 2
        assert calibrator.audit() == []


def test_a_crowded_pooler_is_waited_for_until_the_deadline(small, database, pool):
    """Somebody's transactions hold both server connections; then they end."""
    url = small.url(database)
    with AdaptiveCalibrator(url) as early, AdaptiveCalibrator(url, timeout_s=0.5) as hasty:
        for calibrator in (early, hasty):
            calibrator.record("m", 1, 2.0)
            calibrator.record("m", 1, 2.0)
        with connect(url) as one, connect(url) as two:
            one.execute("SELECT 1")
            two.execute("SELECT 1")
            recording = pool.submit(early.record, "m", 7, 8.0)
            hasty_predict = pool.submit(hasty.predict, "m", 1)
            opening = pool.submit(AdaptiveCalibrator, url, timeout_s=0.5)
            with pytest.raises(LedgerBusyError, match="Nothing was recorded"):
                hasty.record("m", 1, 2.0)
            with pytest.raises(LedgerBusyError) as read:
                hasty_predict.result(timeout=20)
            assert "recorded" not in str(read.value)
            with pytest.raises(LedgerBusyError, match="query_wait_timeout"):
                opening.result(timeout=20)
            time.sleep(1.5)  # longer than the pooler lets anybody wait: it is asked again
            assert not recording.done()
            one.rollback()
            recording.result(timeout=20)
        assert early.predict("m", 1).sample_count == 5
        assert early.audit() == []


def test_waiting_for_the_pooler_counts_towards_the_deadline(postgres, database, url, pool):
    """The lock of a row is waited for only as long as the wait for a connection left over."""
    with AdaptiveCalibrator(url, timeout_s=2.5) as calibrator:
        calibrator.record("m", 1, 2.0)
        calibrator.record("m", 1, 2.0)
        with connect(url) as one, connect(url) as two, closing(postgres.connect(database)) as lock:
            one.execute("SELECT 1")
            two.execute("SELECT 1")
            lock.execute("BEGIN")
            lock.execute("SELECT 1 FROM calibrations FOR UPDATE")
            started = time.monotonic()
            recording = pool.submit(calibrator.record, "m", 1, 2.0)
            time.sleep(2.0)
            one.rollback()
            with pytest.raises(LedgerBusyError):
                recording.result(timeout=20)
            assert time.monotonic() - started < 4.2, "2 s in the queue, then the 0.5 s left"
        assert calibrator.audit() == []


def test_a_search_path_in_the_url_is_refused_with_what_the_pooler_said(url, run):
    """Older poolers know no `options`; a role or a database can have the path instead."""
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
    try:
        AdaptiveCalibrator(f"{url}&options=-csearch_path%3Dpublic").close()
    except LedgerError as error:
        assert "unsupported startup parameter" in str(error)  # noqa: PT017 - both ends are right


def test_a_role_with_the_grants_and_a_password_records(postgres, pooler, database, run):
    role = postgres.role("writer")
    grant(run, role, WRITER)
    pooler.add_user(role)
    url = pooler.url(database, user=role)
    with AdaptiveCalibrator(url) as calibrator:
        write_in_every_way(calibrator)
        read_in_every_way(calibrator)
        assert PASSWORD not in calibrator.ledger
    with pytest.raises(LedgerError, match="no connection"):
        AdaptiveCalibrator(url.replace("s3cret", "wrong"))


def test_a_role_brings_its_search_path_through_a_pooler(postgres, pooler, database, run):
    role = postgres.role("writer")
    run(
        f"CREATE SCHEMA latency AUTHORIZATION {role}",
        f"ALTER ROLE {role} SET search_path = latency",
    )
    pooler.add_user(role)
    try:
        with AdaptiveCalibrator(pooler.url(database, user=role)) as calibrator:
            calibrator.record("m", 1, 2.0)
            assert calibrator.audit() == []
        assert run("SELECT model FROM latency.models") == [("m",)]
        assert run("SELECT count(*) FROM public.models") == [(0,)]
    finally:
        run("DROP SCHEMA latency CASCADE")


def test_what_is_exported_through_a_pooler_is_what_the_server_holds(postgres, database, url):
    with AdaptiveCalibrator(url) as calibrator, AdaptiveCalibrator(postgres.url(database)) as near:
        write_in_every_way(calibrator)
        texts = io.StringIO(), io.StringIO()
        for opened, text in zip((calibrator, near), texts, strict=True):
            opened.export_ledger("jsonl", text)
        assert texts[0].getvalue() == texts[1].getvalue()
        assert near.audit() == []
