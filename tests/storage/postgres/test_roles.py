"""Who may do what: the grants of docs/postgresql.md, no more and no less, by role."""

import io
from datetime import UTC, datetime

import psycopg
import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import LedgerPermissionError
from calibration_ledger.storage.migrate import current_revision, schema_differences, upgrade
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from support.reference import TABLES, dump
from support.steps import wait_until

LATER = datetime(2100, 1, 1, tzinfo=UTC)
READING = ("alembic_version", *TABLES, "readable_calls")
WRITER = [
    *(("SELECT", table) for table in READING),
    *(("INSERT", table) for table in TABLES),
    *(("UPDATE", table) for table in ("calibrations", "setting_heads", "event_heads")),
    ("DELETE", "voided"),
]
READER = [("SELECT", table) for table in READING]
NEEDED_TO_WRITE = [grant for grant in WRITER if grant[1] != "readable_calls"]


def grant(run, role, grants):
    run(f"REVOKE ALL ON SCHEMA public FROM {role}", f"GRANT USAGE ON SCHEMA public TO {role}")
    for right, table in grants:
        run(f"GRANT {right} ON {table} TO {role}")


@pytest.fixture
def closed(run):
    """Nobody may do anything here that is not granted, whatever the server's version allows."""
    run("REVOKE ALL ON SCHEMA public FROM PUBLIC")


@pytest.fixture
def writer(postgres, database, run, closed):
    role = postgres.role("writer")
    grant(run, role, WRITER)
    return postgres.url(database, user=role)


@pytest.fixture
def reader(postgres, database, run, closed):
    role = postgres.role("reader")
    grant(run, role, READER)
    return postgres.url(database, user=role)


def write_in_every_way(calibrator, exported=None):
    calibrator.record("m", 1, 2.0)
    calibrator.record("m", 3, 4.0, request_id="r", details={"ttft_ms": 1})
    calibrator.record("m", 3, 4.0, request_id="r")
    calibrator.record_many(
        [Call(model, i, 5, 9.0 + i, request_id=f"r{i}") for i in range(9) for model in "mno"]
    )
    calibrator.import_calls("csv", io.StringIO("model,prompt_tokens,completion_tokens,actual_ms\n"))
    calibrator.import_calls(
        "csv", io.StringIO("model,prompt_tokens,completion_tokens,actual_ms\nm,1,2,3\np,1,2,3\n")
    )
    calibrator.recalibrate(0.7)
    calibrator.reset("n")
    calibrator.reset()
    with calibrator.timed("m", 5) as call:
        call.completion_tokens = 1
    calibrator.set_default_rule("kalman")
    calibrator.set_default_rule("ema")
    calibrator.alias("m:latest", "m")
    calibrator.alias("p", "m", merge=True)
    calibrator.alias("p", None)
    calibrator.void("m", request_id="r")
    calibrator.record("m", 3, 4.5, request_id="r")
    calibrator.void("m", request_id="r")  # so that all of this can be done again
    (done,) = calibrator.void("m", seq=2)
    calibrator.void("m", seq=done.seq)
    calibrator.record("m:latest", 1, 2.0)
    if exported is not None:
        calibrator.import_calls("ledger", io.StringIO(exported))


def read_in_every_way(calibrator):
    calibrator.check_exists()
    assert calibrator.predict("m", 1).sample_count
    assert calibrator.all_stats()
    assert list(calibrator.calls())
    assert calibrator.replay(0.3)
    assert calibrator.audit(heads=calibrator.heads()) == []
    text = io.StringIO()
    calibrator.export_ledger("jsonl", text)
    return text.getvalue()


def test_select_insert_and_update_are_all_that_a_writer_needs(writer, tmp_path, run):
    with AdaptiveCalibrator(tmp_path / "other.db") as other:
        other.record("from elsewhere", 1, 2.0, request_id="r")
        exported = io.StringIO()
        other.export_ledger("jsonl", exported)
    with AdaptiveCalibrator(writer) as calibrator:
        write_in_every_way(calibrator, exported.getvalue())
        read_in_every_way(calibrator)
    place = find_place(writer)
    assert current_revision(place, 5.0) == REVISION
    assert upgrade(place, 5.0).before == REVISION, "what is up to date needs no more rights"
    assert schema_differences(place, 5.0) == []
    assert run("SELECT count(*) > 0 FROM readable_calls") == [(True,)]


def test_history_is_only_ever_inserted_but_for_archives(run, url, tmp_path):
    """By the server's own count of rows, where everything would be allowed."""
    with AdaptiveCalibrator(url) as calibrator:
        write_in_every_way(calibrator)
        read_in_every_way(calibrator)
    # A server process adds what it counted when it ends, which takes a moment.
    others = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    wait_until(lambda: not run(others))
    changed = (
        "SELECT relname, n_tup_ins > 0, n_tup_upd + n_tup_del FROM pg_stat_user_tables"
        " WHERE relname IN ('models', 'calls', 'call_details', 'adjustments') ORDER BY 1"
    )
    changed_by_archives = changed.replace("n_tup_upd + n_tup_del", "n_tup_upd, n_tup_del")
    assert run(changed) == [
        ("adjustments", True, 0),
        ("call_details", True, 0),
        ("calls", True, 0),
        ("models", True, 0),
    ]
    with AdaptiveCalibrator(url) as calibrator:
        report = calibrator.archive(LATER, tmp_path / "old.jsonl")
        calibrator.import_calls("ledger", tmp_path / "old.jsonl")
        assert calibrator.audit() == []
    wait_until(lambda: not run(others))
    removed = {table: (updated, rows) for table, _, updated, rows in run(changed_by_archives)}
    # What was archived, and the entry of each model that stood for it.
    assert removed["adjustments"] == (0, report.adjustments + len(report.models))
    assert removed["calls"] == (0, report.calls)
    assert removed["call_details"][1] > 0
    assert (removed["call_details"][0], removed["models"]) == (0, (0, 0))


def test_who_may_not_delete_is_told_so_before_an_archive_is_made(writer, url, tmp_path):
    with AdaptiveCalibrator(writer) as calibrator:
        write_in_every_way(calibrator)
        rows = dump(url)
        with pytest.raises(LedgerPermissionError, match="takes DELETE on the tables of history"):
            calibrator.archive(LATER, tmp_path / "old.jsonl")
        assert dump(url) == rows
        assert list(tmp_path.iterdir()) == []
        assert calibrator.audit() == []


def test_to_archive_takes_delete_on_three_tables(postgres, writer, run, url, tmp_path):
    role = find_place(writer).shown.split("//")[1].split(":")[0]
    with AdaptiveCalibrator(writer) as calibrator:
        write_in_every_way(calibrator)
        rows = dump(url)
        for table in ("call_details", "calls", "adjustments"):
            with pytest.raises(LedgerPermissionError, match=f"for table {table}"):
                calibrator.archive(LATER, tmp_path / "old.jsonl")
            run(f"GRANT DELETE ON {table} TO {role}")
        calibrator.archive(LATER, tmp_path / "old.jsonl")
        assert calibrator.audit() == []
        calibrator.import_calls("ledger", tmp_path / "old.jsonl")
        assert dump(url) == rows
        assert calibrator.audit() == []


@pytest.mark.parametrize("missing", NEEDED_TO_WRITE, ids=" ".join)
def test_each_of_the_grants_is_needed(postgres, database, run, url, writer, missing):
    right, table = missing
    role = find_place(writer).shown.split("//")[1].split(":")[0]
    run(f"REVOKE {right} ON {table} FROM {role}")
    with pytest.raises(LedgerPermissionError, match=rf"permission denied for.* {table}.*grants"):
        use(writer)
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.audit() == []


def use(url):
    with AdaptiveCalibrator(url) as calibrator:
        write_in_every_way(calibrator)
        read_in_every_way(calibrator)


@pytest.mark.parametrize(
    "statement",
    [
        *(f"DELETE FROM {table}" for table in TABLES if table != "voided"),  # which follows from it
        *(f"TRUNCATE {table}" for table in TABLES),
        "UPDATE models SET model = 'x'",
        "UPDATE calls SET actual_ms = 1",
        "UPDATE call_details SET details = NULL",
        "UPDATE adjustments SET note = 'x'",
        "UPDATE alembic_version SET version_num = 'x'",
    ],
)
def test_a_writer_cannot_touch_history(writer, url, statement):
    with AdaptiveCalibrator(writer) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r")
        rows = dump(url)
        with (
            psycopg.connect(writer.replace("+psycopg", ""), autocommit=True) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(statement)
        assert dump(url) == rows
        assert calibrator.audit() == []


def test_a_reader_reads_everything_and_writes_nothing(reader, url, calibrator):
    write_in_every_way(calibrator)
    rows = dump(url)
    with AdaptiveCalibrator(reader) as looking:
        read_in_every_way(looking)
        for use in (
            lambda: looking.record("m", 1, 2.0),
            lambda: looking.record("new", 1, 2.0),
            lambda: looking.record_many([Call("m", 1, 2, 3.0)]),
            lambda: looking.reset("m"),
            lambda: looking.recalibrate(0.9),
        ):
            with pytest.raises(LedgerPermissionError, match="listed in docs/postgresql"):
                use()
        read_in_every_way(looking)
    assert dump(url) == rows
    assert current_revision(find_place(reader), 5.0) == REVISION
    assert upgrade(find_place(reader), 5.0).before == REVISION


def test_a_user_without_any_grant_is_told_so_and_makes_nothing(postgres, database, run, closed):
    """A ledger that may not be read does not look like none."""
    role = postgres.role("stranger")
    run(f"GRANT USAGE, CREATE ON SCHEMA public TO {role}")
    with pytest.raises(LedgerPermissionError, match="does not allow this to its user"):
        AdaptiveCalibrator(postgres.url(database, user=role))
    assert run(f"SELECT count(*) FROM pg_class WHERE relowner = '{role}'::regrole") == [(0,)]


def test_who_may_not_make_tables_makes_no_ledger(postgres, empty):
    role = postgres.role("writer")
    postgres.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=empty)
    with (
        AdaptiveCalibrator(postgres.url(empty, user=role)) as calibrator,
        pytest.raises(LedgerPermissionError, match="permission denied for schema public"),
    ):
        calibrator.record("m", 1, 2.0)
