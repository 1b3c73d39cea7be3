"""A ledger among other things: other schemas, other programs' tables, other settings."""

from contextlib import closing

import psycopg
import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    LedgerCorruptError,
    LedgerError,
    LedgerNotFoundError,
    LedgerPermissionError,
    LedgerTooNewError,
    NotALedgerError,
    NotRecordedError,
)
from calibration_ledger.storage.migrate import current_revision, schema_differences, upgrade
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from support.quick import QUICK
from support.reference import LOCAL_PRIOR, Ema, digest_of, dump

RANGE = [float("nan"), float("inf"), float("-inf"), -1.0, 1.8e308]


def live_a_little(url, **options):
    """Write and read in every way; gives the number of models."""
    with AdaptiveCalibrator(url, **options) as calibrator:
        calibrator.record("m", 1, 2.0, request_id="r", details={"ttft_ms": 1})
        calibrator.record_many([Call("n", i, 5, 9.0 + i) for i in range(5)])
        calibrator.recalibrate(0.5)
        calibrator.reset("n")
        assert calibrator.audit() == []
        return len(calibrator.heads())


# -- nothing there --------------------------------------------------------------------------


def test_looking_at_an_empty_database_makes_nothing(postgres, empty):
    with AdaptiveCalibrator(postgres.url(empty)) as calibrator:
        assert calibrator.predict("m", 10).sample_count == 0
        assert calibrator.heads() == []
        assert calibrator.all_stats() == []
        calibrator.reset()
        for ask in (calibrator.check_exists, calibrator.audit, calibrator.replay):
            with pytest.raises(
                LedgerNotFoundError, match=r"no ledger in .* yet.* --ledger .* db upgrade`"
            ):
                ask()
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert postgres.run(tables, database=empty) == [(0,)]
    assert current_revision(find_place(postgres.url(empty)), 5.0) is None


def test_the_first_record_makes_the_ledger_and_others_find_it(postgres, empty):
    url = postgres.url(empty)
    with AdaptiveCalibrator(url) as early, AdaptiveCalibrator(url) as writer:
        writer.record("m", 1, 2.0)
        assert early.predict("m", 1).sample_count == 1
        early.record("m", 1, 2.0)
        assert writer.audit() == early.audit() == []
    assert schema_differences(find_place(url), 5.0) == []


def make_one(url, barrier, results):
    barrier.wait()
    try:
        with AdaptiveCalibrator(url) as calibrator:
            for i in range(5):
                calibrator.record("shared", i, 100.0 + i)
        results.put(None)
    except BaseException as error:  # noqa: BLE001 - told to the parent
        results.put(repr(error))


def test_eight_processes_make_one_ledger_at_once(postgres, empty):
    barrier, results = QUICK.Barrier(8), QUICK.Queue()
    arguments = (postgres.url(empty), barrier, results)
    processes = [QUICK.Process(target=make_one, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [None] * 8
    for process in processes:
        process.join()
    with AdaptiveCalibrator(postgres.url(empty)) as calibrator:
        assert calibrator.calibration("shared").sample_count == 40
        assert calibrator.audit() == []


# -- schemas --------------------------------------------------------------------------------


def test_a_ledger_may_lie_in_any_schema_beside_one_in_public(postgres, database, run, url):
    run("CREATE SCHEMA latency")
    inside = postgres.url(database, options="-csearch_path=latency")
    assert live_a_little(inside) == 2
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.heads() == []
        calibrator.record("only here", 1, 2.0)
        assert calibrator.audit() == []
    assert run("SELECT count(*) FROM latency.models") == [(2,)]
    assert run("SELECT model FROM public.models") == [("only here",)]
    assert schema_differences(find_place(inside), 5.0) == []
    assert upgrade(find_place(inside), 5.0).before == REVISION


def test_a_ledger_further_down_the_path_is_found_and_not_made_again(postgres, database, run, url):
    """Where everyone has a schema of their own first, as `"$user", public` says by default."""
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
    run('CREATE SCHEMA "Somebody\'s own"')
    path = postgres.url(database, options='-csearch_path="Somebody\'s\\ own",public')
    assert live_a_little(path) == 2
    assert current_revision(find_place(path), 5.0) == REVISION
    assert upgrade(find_place(path), 5.0).before == REVISION
    assert schema_differences(find_place(path), 5.0) == []
    assert run("SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'Some%'") == [(0,)]


def test_a_path_that_mixes_two_programs_tables_is_refused(postgres, database, run, url):
    run(
        "CREATE SCHEMA mine", "CREATE TABLE mine.calls (x int)", "INSERT INTO mine.calls VALUES (1)"
    )
    mixed = postgres.url(database, options="-csearch_path=mine,public")
    for use in (AdaptiveCalibrator, lambda u: upgrade(find_place(u), 5.0)):
        with pytest.raises(NotALedgerError, match=r"mixes.*mine\.calls.*search_path%3DSCHEMA"):
            use(mixed)
    assert run("TABLE mine.calls") == [(1,)]
    assert live_a_little(url) == 2


def test_a_schema_that_is_not_there_is_a_typed_error_and_nothing_is_made(postgres, database, run):
    nowhere = postgres.url(database, options="-csearch_path=nowhere")
    with (
        AdaptiveCalibrator(nowhere) as calibrator,
        pytest.raises(NotRecordedError, match="no schema has been selected"),
    ):
        calibrator.record("m", 1, 2.0)


# -- other programs -------------------------------------------------------------------------


def test_other_programs_tables_beside_a_ledger_do_not_matter(postgres, empty):
    postgres.run(
        "CREATE TABLE customers (id int)", "INSERT INTO customers VALUES (1)", database=empty
    )
    assert live_a_little(postgres.url(empty)) == 2
    assert schema_differences(find_place(postgres.url(empty)), 5.0) == []
    assert postgres.run("TABLE customers", database=empty) == [(1,)]


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE calls (number text)",
        "CREATE VIEW calls AS SELECT 1 AS x",
        "CREATE TABLE alembic_version (version_num text); INSERT INTO alembic_version VALUES ('f')",
    ],
    ids=["table", "view", "alembic"],
)
def test_a_database_of_something_else_is_refused_and_not_touched(postgres, empty, made):
    postgres.run(made, database=empty)
    before = postgres.run("SELECT relname FROM pg_class ORDER BY 1", database=empty)
    url = postgres.url(empty)
    with pytest.raises(NotALedgerError, match="It was not touched"):
        AdaptiveCalibrator(url)
    for use in (upgrade, current_revision):
        with pytest.raises(NotALedgerError, match="It was not touched"):
            use(find_place(url), 5.0)
    assert postgres.run("SELECT relname FROM pg_class ORDER BY 1", database=empty) == before


def test_tables_of_something_else_that_came_meanwhile_are_not_touched(postgres, empty):
    with AdaptiveCalibrator(postgres.url(empty)) as calibrator:
        postgres.run("CREATE TABLE models (x int)", database=empty)
        with pytest.raises(NotALedgerError):
            calibrator.record("m", 1, 2.0)
    assert postgres.run("TABLE models", database=empty) == []


def test_an_empty_table_of_alembics_alone_is_no_ledger_yet(postgres, empty):
    """What is left behind by `alembic downgrade base`."""
    postgres.run("CREATE TABLE alembic_version (version_num varchar(32))", database=empty)
    assert live_a_little(postgres.url(empty)) == 2


def test_a_newer_ledger_is_refused_also_while_it_is_open(run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    rows = dump(url)
    run("UPDATE alembic_version SET version_num = '0999'")
    with pytest.raises(LedgerTooNewError, match="0999") as refused:
        calibrator.record("m", 1, 2.0)
    assert (refused.value.found, refused.value.expected) == ("0999", REVISION)
    with pytest.raises(LedgerTooNewError):
        calibrator.record("new", 1, 2.0)
    with pytest.raises(LedgerTooNewError):
        AdaptiveCalibrator(url)
    with pytest.raises(LedgerTooNewError):
        upgrade(find_place(url), 5.0)
    assert dump(url) == rows
    run(f"UPDATE alembic_version SET version_num = '{REVISION}'")


def test_a_newer_form_of_the_tables_is_said_to_be_newer(run, url, calibrator):
    """Before the revision can be read, the statement may already not fit the tables."""
    calibrator.record("m", 1, 2.0)
    run(
        "UPDATE alembic_version SET version_num = '0999'",
        "ALTER TABLE calibrations RENAME COLUMN alpha TO speed",
    )
    for use in (lambda: calibrator.record("m", 1, 2.0), lambda: calibrator.predict("m", 1)):
        with pytest.raises(LedgerTooNewError):
            use()
    run(
        f"UPDATE alembic_version SET version_num = '{REVISION}'",
        "ALTER TABLE calibrations RENAME COLUMN speed TO alpha",
    )


def test_a_ledger_that_was_dropped_meanwhile_is_noticed(run, calibrator):
    calibrator.record("m", 1, 2.0)
    run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    for use in (lambda: calibrator.record("m", 1, 2.0), calibrator.audit, calibrator.recalibrate):
        with pytest.raises(LedgerNotFoundError):
            use()
    assert calibrator.predict("m", 1).sample_count == 0
    calibrator.record("m", 1, 2.0)  # it was told once; now it makes a new one


def test_a_table_that_was_changed_by_hand_is_found_by_the_check(run, url):
    run(
        "ALTER TABLE calls DROP CONSTRAINT ck_calls_seq",
        "ALTER TABLE calls ADD CONSTRAINT mine CHECK (seq < 10)",
        "ALTER TABLE calls ADD COLUMN colour text",
        "ALTER TABLE call_details ALTER COLUMN details SET DEFAULT ''",
        "CREATE INDEX by_time ON calls (called_at)",
        "DROP VIEW readable_calls",
    )
    assert schema_differences(find_place(url), 5.0) == [
        "constraint ck_calls_seq of calls is missing",
        "view readable_calls is missing",
        "column calls.colour is not the ledger's",
        "constraint mine of calls is not the ledger's",
        "index by_time of calls is not the ledger's",
        "column call_details.details is text ''::text",
    ]


# -- settings of the server -----------------------------------------------------------------

SETTINGS = {
    "default_transaction_isolation": "serializable",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "DateStyle": "SQL, DMY",
    "standard_conforming_strings": "off",
    "search_path": "public, pg_catalog",
    "synchronous_commit": "off",
    "lock_timeout": "1",
    "idle_session_timeout": "3000",
    "plan_cache_mode": "force_generic_plan",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_servers_settings_change_nothing(postgres, database, run, url, setting):
    if setting == "standard_conforming_strings" and server_version(postgres) >= 190000:
        pytest.skip("it can no longer be set")
    run(f"ALTER DATABASE {database} SET {setting} = {SETTINGS[setting]}")
    assert live_a_little(url) == 2
    for model in ("m", "n"):
        with AdaptiveCalibrator(url) as calibrator:
            heads = {head.model: head.digest for head in calibrator.heads()}
        assert digest_of(url, model) == heads[model]


def server_version(postgres):
    ((number,),) = postgres.run("SELECT current_setting('server_version_num')::int")
    return number


def test_floats_keep_their_bits_whatever_the_server_shows(database, run, url):
    run(f"ALTER DATABASE {database} SET extra_float_digits = -15")
    state = Ema(0.15, *LOCAL_PRIOR)
    with AdaptiveCalibrator(url) as calibrator:
        for i in range(20):
            error = calibrator.record("m", 3 * i, 1000.1 + i / 3, completion_tokens=7)
            assert error.hex() == state.learn(3 * i, 7, 1000.1 + i / 3)[1].hex()
        assert calibrator.calibration("m").base_overhead_ms.hex() == state.o.hex()
        assert [call.actual_ms for call in calibrator.calls()] == [
            1000.1 + i / 3 for i in range(20)
        ]
        assert calibrator.audit() == []


@pytest.mark.parametrize("of", ["DATABASE {database}", "ROLE CURRENT_USER IN DATABASE {database}"])
def test_a_transaction_writes_every_digit_of_a_number_as_text(database, run, url, of):
    """As texts they go to another machine, where the server spreads rows over several."""
    run(
        f"ALTER {of.format(database=database)} SET extra_float_digits = 0",
        "CREATE TABLE written (number text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO written VALUES (NEW.actual_ms::text); RETURN NEW; END $$",
        "CREATE TRIGGER note BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION note()",
    )
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 1000.1 + 1 / 3)
        assert calibrator.audit() == []
    assert run("TABLE written") == [(repr(1000.1 + 1 / 3),)]


def test_a_transaction_is_read_committed_whatever_the_default_is(database, run, url):
    run(
        f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'",
        "CREATE TABLE levels (level text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO levels VALUES (current_setting('transaction_isolation')); RETURN NEW; END $$",
        "CREATE TRIGGER note BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION note()",
    )
    assert live_a_little(url) == 2
    assert run("SELECT DISTINCT level FROM levels") == [("read committed",)]


@pytest.mark.parametrize(("durability", "setting"), [("full", "on"), ("normal", "off")])
def test_durability_is_set_for_the_transaction_and_no_longer(
    database, run, url, durability, setting
):
    other = {"on": "off", "off": "on"}[setting]
    run(
        f"ALTER DATABASE {database} SET synchronous_commit = {other}",
        "CREATE TABLE noted (setting text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO noted VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$",
        "CREATE TRIGGER note BEFORE INSERT ON calls FOR EACH ROW EXECUTE FUNCTION note()",
    )
    with AdaptiveCalibrator(url, durability=durability) as calibrator:
        calibrator.record("m", 1, 2.0)
        shown = calibrator._ledger.backend._read("SHOW synchronous_commit")
        assert shown == [(other,)]
        assert calibrator._ledger.backend._read("SHOW lock_timeout") == [("0",)]
        assert calibrator.audit() == []
    assert run("TABLE noted") == [(setting,)]


def test_a_database_that_only_reads_by_default_is_a_typed_error(database, run, url, calibrator):
    calibrator.record("m", 1, 2.0)
    run(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    with AdaptiveCalibrator(url) as reader:
        assert reader.predict("m", 1).sample_count == 1
        assert reader.audit() == []
        for use in (lambda: reader.record("m", 1, 2.0), reader.reset):
            with pytest.raises(LedgerPermissionError, match=r"read-only.*primary server"):
                use()
        assert reader.predict("m", 1).sample_count == 1


def test_no_ledger_is_made_where_nothing_may_be_written(postgres, empty):
    postgres.run(f"ALTER DATABASE {empty} SET default_transaction_read_only = on")
    with (
        AdaptiveCalibrator(postgres.url(empty)) as calibrator,
        pytest.raises(LedgerPermissionError, match="read-only"),
    ):
        calibrator.record("m", 1, 2.0)


def test_a_limit_for_statements_does_not_stop_the_making_of_tables(postgres, empty):
    postgres.run(f"ALTER DATABASE {empty} SET statement_timeout = '1s'")
    assert live_a_little(postgres.url(empty)) == 2


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_of_another_encoding_holds_what_it_can_and_refuses_the_rest(postgres, encoding):
    name = f"calib_encoded_{encoding.lower()}"
    postgres.run(
        f"DROP DATABASE IF EXISTS {name}",
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'",
    )
    try:
        with AdaptiveCalibrator(postgres.url(name)) as calibrator:
            calibrator.record("modèle", 1, 2.0, request_id="é")
            if encoding == "LATIN1":
                with pytest.raises(NotRecordedError, match=r"no equivalent.*Nothing was recorded"):
                    calibrator.record("模型", 1, 2.0)
            else:
                calibrator.record("模型", 1, 2.0)
            assert calibrator.heads()[0].model == "modèle"
            assert calibrator.predict("modèle", 1).sample_count == 1
            assert calibrator.audit() == []
    finally:
        postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


# -- what SQL itself refuses ----------------------------------------------------------------


@pytest.mark.parametrize("number", RANGE, ids=str)
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("calls", "actual_ms"),
        ("calls", "predicted_ms"),
        *(
            (table, column)
            for table in ("calibrations", "adjustments")
            for column in (
                "alpha",
                "ms_per_prompt_token",
                "ms_per_completion_token",
                "base_overhead_ms",
                "total_absolute_error_ms",
                "total_predicted_ms",
            )
        ),
    ],
)
def test_no_number_out_of_range_gets_past_a_check(filled, table, column, number):
    """PostgreSQL's `x >= 0` would let NaN through: it is greater than everything there."""
    with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.NumericValueOutOfRange)):
        filled.execute(f"UPDATE {table} SET {column} = %s::text::float8", (str(number),))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("UPDATE calls SET prompt_tokens = 2147483648", "NumericValueOutOfRange"),
        ("UPDATE calls SET completion_tokens = -1", "CheckViolation"),
        ("UPDATE calls SET called_at = -1", "CheckViolation"),
        ("UPDATE calls SET called_at = 253402300800000000", "CheckViolation"),
        ("UPDATE calls SET seq = 0", "CheckViolation"),
        ("UPDATE calls SET model_id = 99", "ForeignKeyViolation"),
        ("UPDATE call_details SET seq = 99", "ForeignKeyViolation"),
        ("UPDATE call_details SET request_key = 'short'", "CheckViolation"),
        ("UPDATE call_details SET request_id = NULL", "CheckViolation"),
        ("UPDATE adjustments SET kind = 'guessed'", "CheckViolation"),
        ("UPDATE adjustments SET rule = ''", "CheckViolation"),
        ("UPDATE calibrations SET head = 'short'", "CheckViolation"),
        ("UPDATE calibrations SET last_seq = 0", "CheckViolation"),
        ("UPDATE calibrations SET alpha = NULL", "NotNullViolation"),
        ("UPDATE models SET model = ''", "CheckViolation"),
        ("INSERT INTO models (model) SELECT model FROM models", "UniqueViolation"),
        ("INSERT INTO calls SELECT * FROM calls", "UniqueViolation"),
        ("DELETE FROM models", "ForeignKeyViolation"),
    ],
)
def test_no_other_nonsense_gets_past_a_constraint(filled, change, error):
    with pytest.raises(getattr(psycopg.errors, error)):
        filled.execute(change)


@pytest.fixture(scope="module")
def filled(postgres):
    """A ledger with a row in each table, to try changes on that must all be refused."""
    with (
        postgres.database(migrated=True) as name,
        AdaptiveCalibrator(postgres.url(name)) as calibrator,
        closing(postgres.connect(name)) as connection,
    ):
        calibrator.record("m", 1, 2.0, request_id="r", details={"ttft_ms": 1})
        yield connection
        assert calibrator.audit() == []


def test_people_see_names_and_times(postgres, database, url, calibrator, make_call):
    call = make_call(3, "mödel", request_id="r", details={"ttft_ms": 80.5})
    calibrator.record_many([call])
    ((model, seq, called_at, *_, request_id, details, outcome, voided),) = postgres.run(
        "TABLE readable_calls", database=database
    )
    assert (model, seq, request_id, details) == ("mödel", 2, "r", '{"ttft_ms":80.5}')
    assert (outcome, voided) == ("ok", False)
    assert called_at == "2026-01-02T03:04:08.678901Z"


def test_a_damaged_page_is_a_typed_error(run, calibrator):
    calibrator.record("m", 1, 2.0)
    run(
        "ALTER TABLE calls RENAME TO calls_kept",
        "CREATE FUNCTION broken() RETURNS SETOF calls_kept LANGUAGE plpgsql AS $$ BEGIN RAISE"
        " EXCEPTION 'invalid page in block 7' USING ERRCODE = 'XX001'; END $$",
        "CREATE VIEW calls AS SELECT * FROM broken()",
    )
    with pytest.raises(LedgerError, match=r"damaged.*invalid page in block 7"):
        list(calibrator.calls())
    findings = calibrator.audit()
    assert {finding.check for finding in findings} == {"storage"}
    assert "m" in {finding.model for finding in findings}
    run("DROP VIEW calls", "ALTER TABLE calls_kept RENAME TO calls")


def test_a_name_without_a_calibration_is_told_as_damage(run, calibrator):
    run("INSERT INTO models (model) VALUES ('half')")
    with pytest.raises(LedgerCorruptError, match=r"'half'.*the calibration is missing"):
        calibrator.record("half", 1, 2.0)
    run("DELETE FROM models")
