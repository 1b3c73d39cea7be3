"""Distributing a ledger over the machines of a Citus.

Citus is not here, and what it does is tried by hand (docs/postgresql.md says what). Stand-ins of
its catalog and of its functions, which ask of a table what Citus asks, hold the order of the
statements, what is checked before, and that all of it is one transaction.
"""

import psycopg
import pytest

from calibration_ledger import AdaptiveCalibrator, Distribution
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerError,
    LedgerOutdatedError,
    LedgerPermissionError,
)
from calibration_ledger.storage.migrate import (
    distribution_of,
    migration_connection,
    run_migrations,
    schema_differences,
    upgrade,
)
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import TABLES
from support.reference import dump

COPIED = (
    *("models", "alembic_version", "settings", "setting_heads", "aliases"),
    *("events", "event_heads"),
)
ORDER = (*COPIED, "calibrations", "adjustments", "voided", "calls", "call_details")

CATALOG = """
SET allow_system_table_mods = on;
INSERT INTO pg_extension VALUES (99999, 'citus', 10, 11, true, '13.2-1', NULL, NULL);
CREATE TABLE pg_catalog.pg_dist_local_group (groupid int);
INSERT INTO pg_catalog.pg_dist_local_group VALUES (0);
CREATE TABLE pg_catalog.pg_dist_node (
    groupid int, nodename text, nodeport int, noderole text, isactive bool, shouldhaveshards bool
);
INSERT INTO pg_catalog.pg_dist_node VALUES
    (0, '127.0.0.1', 1000, 'primary', true, false),
    (1, '127.0.0.1', 1001, 'primary', true, true), (2, '127.0.0.1', 1002, 'primary', true, true);
CREATE TABLE pg_catalog.pg_dist_partition (
    logicalrelid regclass PRIMARY KEY, partmethod "char", partkey text, repmodel "char",
    colocationid int
);
CREATE TABLE pg_catalog.pg_dist_shard (logicalrelid regclass, shardid int);
CREATE TABLE pg_catalog.pg_dist_placement (shardid int, groupid int);
GRANT SELECT ON pg_catalog.pg_dist_local_group, pg_catalog.pg_dist_node,
    pg_catalog.pg_dist_partition, pg_catalog.pg_dist_shard, pg_catalog.pg_dist_placement TO PUBLIC;
CREATE TABLE said (n int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION pg_catalog.citus_check_connection_to_node(text, int) RETURNS bool
    LANGUAGE sql AS $$ SELECT $2 < 2000 $$;
CREATE FUNCTION pg_catalog.column_to_column_name(regclass, text) RETURNS text
    LANGUAGE sql AS $$ SELECT $2 $$;
CREATE FUNCTION pg_catalog.create_reference_table(name regclass) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO pg_catalog.pg_dist_partition VALUES (name, 'n', NULL, 't', 1);
$$;
CREATE FUNCTION pg_catalog.create_distributed_table(
    name regclass, spread_by text, colocate_with text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index WHERE indrelid = name AND indisunique AND spread_by <> ALL (
            SELECT attname FROM pg_attribute WHERE attrelid = name AND attnum = ANY (indkey)
        )
    ) THEN RAISE EXCEPTION 'a unique index of % lacks %', name, spread_by; END IF;
    IF EXISTS (
        SELECT FROM pg_constraint WHERE contype = 'f' AND conrelid = name
        AND confrelid NOT IN (SELECT logicalrelid FROM pg_catalog.pg_dist_partition)
    ) THEN RAISE EXCEPTION '% refers to what is not distributed yet', name; END IF;
    IF EXISTS (
        SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = name
        AND conrelid NOT IN (SELECT logicalrelid FROM pg_catalog.pg_dist_partition)
    ) THEN RAISE EXCEPTION 'a local table refers to %', name; END IF;
    INSERT INTO pg_catalog.pg_dist_partition VALUES (name, 'h', spread_by, 's', 2);
    INSERT INTO pg_catalog.pg_dist_shard SELECT name, i FROM generate_series(1, 4) AS i;
    IF name = 'calibrations'::regclass THEN
        INSERT INTO pg_catalog.pg_dist_placement
            SELECT i, 1 + i % 2 FROM generate_series(1, 4) AS i;
    ELSIF colocate_with <> 'calibrations' THEN RAISE EXCEPTION '% lies elsewhere', name; END IF;
END $$;
CREATE FUNCTION pg_catalog.truncate_local_data_after_distributing_table(name regclass)
    RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_constraint WHERE contype = 'f' AND confrelid = name
        AND conrelid NOT IN (SELECT logicalrelid FROM pg_catalog.pg_dist_partition)
    ) THEN RAISE EXCEPTION 'a local table refers to %', name; END IF;
    INSERT INTO said (what) VALUES ('truncate ' || name);
END $$;
"""
"""What `distribute` asks of Citus. The rows stay where they are: the tables are distributed in
name alone."""


@pytest.fixture(name="citus")
def _citus(run):
    run(CATALOG)


def fill(url):
    with AdaptiveCalibrator(url) as calibrator:
        for model in "abc":
            calibrator.record(model, 1, 2.0, request_id="r")
            calibrator.record(model, 3, 4.0)


def placed(run):
    return run("SELECT logicalrelid::text FROM pg_dist_partition ORDER BY ctid")


def test_a_filled_ledger_is_distributed_in_one_transaction_and_checks_clean(citus, run, url):
    fill(url)
    rows = dump(url)
    with AdaptiveCalibrator(url) as calibrator:
        heads = calibrator.heads()
        done = calibrator.distribute()
        machines = ("127.0.0.1:1001", "127.0.0.1:1002")
        assert done == Distribution(calibrator.ledger, machines, 4, ORDER)
        assert calibrator.heads() == heads
        calibrator.record("a", 1, 2.0)
        calibrator.record("new", 1, 2.0)
        assert calibrator.audit(heads=heads) == []
    assert placed(run) == [(table,) for table in ORDER]
    assert len(dump(url)["calls"]) == len(rows["calls"]) + 2
    said = [what for (what,) in run("SELECT what FROM said ORDER BY n")]
    assert said == [f"truncate {table}" for table in (*COPIED, "voided")]
    place = find_place(url)
    assert schema_differences(place, 5.0) == []  # the key that was taken away is there again
    assert distribution_of(place, 5.0) == Distribution(place.shown, machines, 4)


def test_the_upgrade_of_a_distributed_ledger_distributes_what_its_view_looks_into(citus, run, url):
    fill(url)
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.distribute()
        calibrator.void("a", request_id="r")
        rows = dump(url, ("voided",))
    with migration_connection(url) as connection:
        run_migrations(connection, "0005")
    run("DELETE FROM pg_dist_partition WHERE logicalrelid NOT IN (SELECT oid FROM pg_class)")
    upgrade(find_place(url), 20.0)
    assert run("SELECT partkey FROM pg_dist_partition WHERE logicalrelid = 'voided'::regclass") == [
        ("model_id",)
    ]
    assert dump(url, ("voided",)) == rows
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.distribute()
        assert calibrator.audit() == []
    assert schema_differences(find_place(url), 5.0) == []


def test_what_is_distributed_stays_as_it_is(citus, run, url):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.distribute()
        assert calibrator.distribute().done == ()
        assert run("SELECT count(*) FROM said") == [(len(COPIED) + 1,)]
        assert calibrator.audit() == []


def test_a_ledger_that_is_not_there_is_made(postgres, empty):
    postgres.run(CATALOG, database=empty)
    url = postgres.url(empty)
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.distribute().done == ORDER
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit() == []


def test_what_others_left_half_done_is_found_and_finished(citus, run, url):
    """So is what a later migration added: here, the settings."""
    fill(url)
    run(
        "SELECT create_reference_table('models'), create_reference_table('alembic_version')",
        "SELECT create_distributed_table('calibrations', 'model_id', 'default')",
    )
    place = find_place(url)
    copied, spread = COPIED[2:], ("adjustments", "voided", "calls", "call_details")
    assert schema_differences(place, 5.0) == [
        *(f"table {table} is local on Citus, not copied" for table in copied),
        *(f"table {table} is local on Citus, not by model_id" for table in spread),
    ]
    with AdaptiveCalibrator(url) as calibrator:
        assert calibrator.distribute().done == (*copied, *spread)
        assert calibrator.audit() == []
    assert schema_differences(place, 5.0) == []


def test_what_fails_half_way_leaves_no_trace(citus, run, url):
    fill(url)
    rows = dump(url)
    run("CREATE UNIQUE INDEX mine ON calls (seq, called_at)")
    with (
        AdaptiveCalibrator(url) as calibrator,
        pytest.raises(LedgerError, match="a unique index of calls lacks model_id"),
    ):
        calibrator.distribute()
    assert placed(run) == []
    run("DROP INDEX mine")
    assert schema_differences(find_place(url), 5.0) == []
    assert dump(url) == rows


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE pg_dist_local_group SET groupid = 1", "worker of Citus.*the coordinator"),
        ("UPDATE pg_dist_node SET shouldhaveshards = false", "no machine.*citus_add_node"),
        ("UPDATE pg_dist_node SET isactive = false", "no machine.*citus_add_node"),
        ("UPDATE pg_dist_node SET nodeport = 2001 WHERE groupid = 2", "reach 127.0.0.1:2001"),
        ("UPDATE pg_extension SET extversion = '11.1-1' WHERE extname = 'citus'", "need 11.2"),
        ("DELETE FROM pg_extension WHERE extname = 'citus'", "Citus is not in this database"),
        (
            "INSERT INTO pg_dist_partition VALUES ('calls', 'h', 'seq', 's', 2)",
            "table calls is by seq on Citus, not by model_id.*undistribute_table",
        ),
        (
            "INSERT INTO pg_dist_partition VALUES ('calls', 'n', NULL, 's', 5)",
            "its schema is distributed.*use it as it is",
        ),
    ],
)
def test_what_is_missing_is_told_before_anything_is_changed(citus, run, url, change, told):
    fill(url)
    rows = dump(url)
    run("SET allow_system_table_mods = on; " + change)
    before = placed(run)
    with (
        AdaptiveCalibrator(url) as calibrator,
        pytest.raises(LedgerError, match=f"cannot be distributed: .*{told}") as refused,
    ):
        calibrator.distribute()
    assert "Nothing was changed" in str(refused.value)
    assert placed(run) == before
    assert dump(url) == rows


def test_only_the_owner_of_the_tables_distributes_them(citus, postgres, database, run, url):
    fill(url)
    role = postgres.role("writer")
    run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    with (
        AdaptiveCalibrator(postgres.url(database, user=role)) as calibrator,
        pytest.raises(LedgerPermissionError, match=r"of another role \(adjustments.*owner"),
    ):
        calibrator.distribute()
    assert placed(run) == []


def test_an_older_ledger_is_upgraded_first(citus, run, url):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
        run("UPDATE alembic_version SET version_num = '0001'")
        with pytest.raises(LedgerOutdatedError, match="db upgrade"):
            calibrator.distribute()
    assert placed(run) == []


def test_what_is_no_server_lies_on_one_machine(tmp_path):
    for ledger in (tmp_path / "calls.db", ":memory:"):
        with AdaptiveCalibrator(ledger) as calibrator:
            with pytest.raises(InvalidInputError, match=r"lies on one machine.*into PostgreSQL"):
                calibrator.distribute()
            assert calibrator.heads() == []
    assert list(tmp_path.iterdir()) == []


def test_without_citus_nothing_is_distributed(run, url):
    place = find_place(url)
    assert distribution_of(place, 5.0) is None
    with (
        AdaptiveCalibrator(url) as calibrator,
        pytest.raises(LedgerError, match=r"Citus is not in this database.*CREATE EXTENSION"),
    ):
        calibrator.distribute()
    assert set(dump(url)) <= TABLES


def test_the_tables_cannot_be_compared_on_a_worker(citus, run, url):
    run("SET allow_system_table_mods = on; UPDATE pg_dist_local_group SET groupid = 1")
    with pytest.raises(LedgerError, match=r"on a worker of Citus.*the coordinator"):
        schema_differences(find_place(url), 5.0)


# -- deadlines on every machine -------------------------------------------------------------


@pytest.fixture(name="sent")
def _sent(monkeypatch):
    """The statements that begin transactions from now on."""
    sent = []
    execute = psycopg.Cursor.execute

    def noting(cursor, query, params=None, **options):
        if str(query).startswith(("BEGIN", "SET")):
            sent.append(query)
        return execute(cursor, query, params, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noting)
    return sent


def test_on_citus_the_settings_of_a_transaction_reach_every_machine(citus, url, sent):
    """It passes on the whole text that a SET stands in: a BEGIN in it would be one too many."""
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
        begin, settings, *_ = sent
        assert begin.endswith("SET LOCAL citus.propagate_set_commands = 'local'")
        assert "BEGIN" not in settings
        assert "lock_timeout" in settings
        assert calibrator.audit() == []


def test_without_citus_a_transaction_begins_in_one_round_trip(url, sent):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
        assert all(text.startswith(("BEGIN", "SET LOCAL lock_timeout")) for text in sent)
        assert "lock_timeout" in sent[0]
        assert "citus" not in sent[0]
        assert calibrator.audit() == []


def test_who_has_a_ledger_open_notices_that_it_is_on_citus_now(run, url, sent, monkeypatch):
    monkeypatch.setattr("calibration_ledger.storage.postgres.server._LOOK_EVERY_S", 0.0)
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
        run(CATALOG)
        sent.clear()
        calibrator.record("m", 1, 2.0)
        assert "citus" in sent[0]
        assert calibrator.audit() == []
