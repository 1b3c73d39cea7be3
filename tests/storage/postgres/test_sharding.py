"""Models share nothing, so a ledger can be spread over machines by `model_id`.

Citus is not here. PostgreSQL's own partitions by hash ask the same of a schema (each unique
constraint holds the column that rows are spread by), and show in a plan where a statement goes.
"""

import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.schema import REVISION
from support.reference import TABLES
from support.steps import GATE, on_insert, shut_gate, wait_until, waiting

from .test_roles import read_in_every_way, write_in_every_way

PARTS = 4


def test_every_key_of_every_sharded_table_begins_with_the_model(run):
    """Whatever is unique, by a constraint or by an index alone."""
    keys = run(
        "SELECT indrelid::regclass::text, indexrelid::regclass::text, attname FROM pg_index"
        " JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
        " WHERE indisunique AND indrelid::regclass::text = ANY (array['calls', 'call_details',"
        " 'adjustments', 'calibrations']) ORDER BY 2"
    )
    assert [(table, index) for table, index, _ in keys] == [
        ("adjustments", "pk_adjustments"),
        ("calibrations", "pk_calibrations"),
        ("call_details", "pk_call_details"),
        ("calls", "pk_calls"),
        ("call_details", "uq_call_details_model_id_request_key"),
    ]
    assert {column for _, _, column in keys} == {"model_id"}


def test_no_reference_leads_to_another_model(run):
    """Each leads to `models`, of which every machine has a copy, or to the model's own rows."""
    references = run(
        "SELECT conrelid::regclass::text, confrelid::regclass::text, one.attname, two.attname"
        " FROM pg_constraint JOIN pg_attribute AS one ON one.attrelid = conrelid"
        " AND one.attnum = conkey[1] JOIN pg_attribute AS two ON two.attrelid = confrelid"
        " AND two.attnum = confkey[1] WHERE contype = 'f' ORDER BY 1"
    )
    assert references == [
        ("adjustments", "models", "model_id", "id"),
        ("calibrations", "models", "model_id", "id"),
        ("call_details", "calls", "model_id", "model_id"),
        ("calls", "models", "model_id", "id"),
    ]
    assert run(
        "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
        " UNION ALL SELECT count(*) FROM pg_sequence"
    ) == [(0,), (1,)], "nothing else is shared but the numbers of `models`"


@pytest.fixture
def sharded(run, url):
    """A ledger whose tables are split by `model_id`."""
    foreign = run(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' ORDER BY confrelid::regclass::text DESC"
    )
    ((view,),) = run("SELECT pg_get_viewdef('readable_calls'::regclass)")
    run("DROP VIEW readable_calls")
    for table in ("call_details", "calls", "adjustments", "calibrations"):
        names = run(
            "SELECT conname, contype::text, pg_get_constraintdef(oid) FROM pg_constraint"
            f" WHERE conrelid = '{table}'::regclass AND contype IN ('p', 'u')"
        )
        run(
            f"CREATE TABLE split (LIKE {table} INCLUDING CONSTRAINTS INCLUDING DEFAULTS)"
            " PARTITION BY HASH (model_id)",
            f"DROP TABLE {table}",
            f"ALTER TABLE split RENAME TO {table}",
            *(f"ALTER TABLE {table} ADD CONSTRAINT {name} {text}" for name, _, text in names),
            *(
                f"CREATE TABLE {table}_{i} PARTITION OF {table}"
                f" FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {i})"
                for i in range(PARTS)
            ),
        )
    run(*(f"ALTER TABLE {table} ADD CONSTRAINT {name} {text}" for table, name, text in foreign))
    run(f"CREATE VIEW readable_calls AS {view}")
    return url


def test_a_ledger_lives_in_tables_that_are_split_by_model(run, sharded):
    with AdaptiveCalibrator(sharded) as calibrator:
        for i in range(30):
            calibrator.record(f"model {i}", 5, 9.0, completion_tokens=3, request_id="r")
        write_in_every_way(calibrator)
        read_in_every_way(calibrator)
        assert calibrator.audit(heads=calibrator.heads()) == []
        calls = sum(1 for _ in calibrator.calls())
    assert run("SELECT count(*) FROM readable_calls") == [(calls,)]
    spread = [run(f"SELECT count(*) > 0 FROM calls_{i}") for i in range(PARTS)]
    assert spread == [[(True,)]] * PARTS


@pytest.mark.parametrize(
    ("name", "parameters", "table"),
    [
        ("load_known", ("m", 1), "calibrations"),
        (
            "save",
            ("ema.1", 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1, None, 1, 1, b"h" * 32, 1),
            "calibrations",
        ),
        ("find_request", (1, b"k" * 16), "call_details"),
        ("last_adjustment", (1,), "adjustments"),
        ("page_calls", (1, 0, 9, 9), "calls"),
        ("page_details", (1, 0, 9), "call_details"),
        ("adjustments", (1,), "adjustments"),
    ],
)
def test_what_one_model_asks_goes_to_one_part(sharded, name, parameters, table):
    with AdaptiveCalibrator(sharded) as calibrator:
        calibrator.record("m", 1, 2.0)
        text = getattr(calibrator._ledger.backend.sql, name)
        assert calibrator.audit() == []
    with psycopg.connect(sharded.replace("+psycopg", "")) as connection:
        cursor = psycopg.ClientCursor(connection)
        plan = " ".join(row[0] for row in cursor.execute(f"EXPLAIN {text}", parameters))
    assert len(set(re.findall(rf" on {table}_(\d)", plan))) == 1, plan


def test_a_row_is_locked_by_the_id_of_its_model(postgres, database, run, url, calibrator):
    """A lock by the name alone would have to ask every machine, which Citus refuses to do."""
    calibrator.record("m", 1, 2.0)
    on_insert(run, GATE)
    with ThreadPoolExecutor(2) as pool, shut_gate(postgres, database) as open_gate:
        first = pool.submit(calibrator.record, "m", 3, 4.0)
        wait_until(lambda: waiting(run, "advisory"))
        second = pool.submit(calibrator.record, "m", 3, 4.0)
        ((_, statement),) = wait_until(lambda: waiting(run, "transactionid"))
        open_gate()
        first.result()
        second.result()
    assert "calibrations.model_id = $2" in statement
    assert "FOR UPDATE OF calibrations" in statement


def test_an_id_of_a_ledger_that_was_replaced_is_not_believed(run, url):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record("m", 1, 2.0)
        calibrator.record("n", 1, 2.0)
        run(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY")
        calibrator.record("n", 1, 2.0)  # has the number now that m had
        calibrator.record("m", 1, 2.0)
        counts = [(s["model"], s["sample_count"]) for s in calibrator.all_stats()]
        assert counts == [("m", 1), ("n", 1)]
        assert calibrator.audit() == []
    assert run("SELECT version_num FROM alembic_version") == [(REVISION,)]
