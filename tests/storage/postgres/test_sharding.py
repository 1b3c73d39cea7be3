"""Models share nothing, so a ledger can be spread over machines by `model_id`.

Citus is not here. PostgreSQL's own partitions by hash ask the same of a schema (each unique
constraint holds the column that rows are spread by), and show in a plan where a statement goes.
"""

import inspect
import io
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.storage.postgres.server import insert_of
from calibration_ledger.storage.schema import REVISION
from calibration_ledger.storage.tables import calls
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
        " 'adjustments', 'calibrations', 'voided']) ORDER BY 2"
    )
    assert [(table, index) for table, index, _ in keys] == [
        ("adjustments", "pk_adjustments"),
        ("calibrations", "pk_calibrations"),
        ("call_details", "pk_call_details"),
        ("calls", "pk_calls"),
        ("voided", "pk_voided"),
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


START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2100, 1, 1, tzinfo=UTC)
MODEL = "the one model"


def calls_of_one(count, start=0):
    return [
        Call(MODEL, i, 5, 90.0 + i % 7, START + timedelta(seconds=i), f"r{i}", {"ttft_ms": i})
        for i in range(start, start + count)
    ]


def time_a_call(calibrator):
    with calibrator.timed(MODEL, 5) as call:
        call.completion_tokens = 1


def progress_of_a_call(calibrator):
    with calibrator.progress(MODEL, 5) as call:
        call.completion_tokens = 1


def follow_a_call(calibrator):
    followed = calibrator.follow(MODEL)
    calibrator.record(MODEL, 1, 2.0)
    next(followed)
    followed.close()


def import_one(calibrator):
    head = "model,prompt_tokens,completion_tokens,actual_ms\n"
    calibrator.import_calls("csv", io.StringIO(f"{head}{MODEL},1,2,3\n{MODEL},4,5,6\n"))


def void_and_take_back(calibrator):
    calibrator.record(MODEL, 1, 2.0, request_id="wrong")
    (voided,) = calibrator.void(MODEL, request_id="wrong", dry_run=True)
    (voided,) = calibrator.void(MODEL, request_id="wrong")
    calibrator.void(MODEL, seq=voided.seq)


def archive_and_bring_back(calibrator, folder):
    folder.mkdir(exist_ok=True)
    calibrator.archive(LATER, folder / "old.jsonl", model=MODEL)
    calibrator.record(MODEL, 1, 2.0)
    calibrator.import_calls("ledger", folder / "old.jsonl")


VERBS = {
    "record": lambda c, _: [
        c.record(MODEL, 1, 2.0),
        c.record(MODEL, 3, 4.0, request_id="r", details={"ttft_ms": 1}),
        c.record(MODEL, 3, 4.0, request_id="r"),
    ],
    "record_once": lambda c, _: c.record_once(calls_of_one(1)[0]),
    "record_many": lambda c, _: c.record_many(calls_of_one(150)),
    "predict": lambda c, _: c.predict(MODEL, 1),
    "forecast": lambda c, _: [
        c.forecast(MODEL, 1),
        c.record(MODEL, 1, 2.0),
        c.forecast(MODEL, 1),
        c.forecast(MODEL, 1, as_of=LATER),
    ],
    "forecast_ttft": lambda c, _: c.forecast_ttft(MODEL, 1),
    "rank": lambda c, _: c.rank(1, [MODEL]),
    "soonest": lambda c, _: c.soonest(1, [MODEL], deadline_ms=1e9, explore=0.5, seed=1),
    "timed": lambda c, _: time_a_call(c),
    "progress": lambda c, _: progress_of_a_call(c),
    "calibration": lambda c, _: c.calibration(MODEL),
    "get_stats": lambda c, _: c.get_stats(MODEL),
    "stats": lambda c, _: [c.stats(MODEL), c.stats(MODEL, since=START, until=LATER, by_day=True)],
    "drift": lambda c, _: c.drift(MODEL),
    "check_exists": lambda c, _: [c.check_exists(), c.check_exists(MODEL)],
    "reset": lambda c, _: c.reset(MODEL),
    "calls": lambda c, _: [
        *c.calls(MODEL),
        *c.calls(MODEL, last=3, since=START, until=START + timedelta(seconds=60)),
    ],
    "follow": lambda c, _: follow_a_call(c),
    "top": lambda c, _: c.top(MODEL),
    "charts": lambda c, _: [c.charts(MODEL), c.charts(MODEL, since=START, until=LATER)],
    "replay": lambda c, _: c.replay(0.3, model=MODEL, since=START, until=LATER),
    "replay_forecasts": lambda c, _: [
        c.replay_forecasts(MODEL),
        c.replay_forecasts(MODEL, since=START, until=LATER, last=30),
    ],
    "sweep": lambda c, _: c.sweep([0.1, 0.2], ["ema", "kalman"], MODEL),
    "suggest": lambda c, _: c.suggest(MODEL),
    "recalibrate": lambda c, _: [
        c.recalibrate(0.5, model=MODEL),
        c.recalibrate(rule="kalman", model=MODEL),
        c.recalibrate(model=MODEL, best=True, dry_run=True),
    ],
    "void": lambda c, _: void_and_take_back(c),
    "alias": lambda c, _: [
        c.alias(f"{MODEL} too", MODEL),
        c.record(f"{MODEL} too", 1, 2.0),
        c.predict(f"{MODEL} too", 1),
        c.alias(f"{MODEL} too", None),
    ],
    "audit": lambda c, _: c.audit(MODEL),
    "import_calls": lambda c, _: import_one(c),
    "log": lambda c, _: c.log(MODEL, last=5),
    "export_ledger": lambda c, _: [
        c.export_ledger("jsonl", io.StringIO(), model=MODEL),
        c.export_ledger("csv", io.StringIO(), model=MODEL),
    ],
    "archivable": lambda c, _: c.archivable(LATER, model=MODEL),
    "archive": archive_and_bring_back,
}
"""Each public method, used on one model; they take a calibrator and a folder for files."""

LOOK_AT_ALL = {"follow", "top", "charts"}
"""Those that ask once how many models there are or which of them have news, whichever is meant."""

READS_AS = {"frame": "calls"}
"""What needs a library that these tests have not, and the method whose rows it reads."""


def test_no_verb_on_one_model_is_left_out():
    takes_one = {
        name
        for name, method in inspect.getmembers(AdaptiveCalibrator, inspect.isfunction)
        if not name.startswith("_") and "model" in inspect.signature(method).parameters
    }
    assert takes_one <= VERBS.keys() | READS_AS.keys()


@pytest.fixture(name="sent")
def _sent(monkeypatch):
    """Every statement that is sent from now on, with its parameters."""
    sent = []
    execute = psycopg.Cursor.execute

    def noting(cursor, query, params=None, **options):
        sent.append((query, params))
        return execute(cursor, query, params, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", noting)
    return sent


def parts_asked(cursor, text, parameters):
    """The parts of the tables that a statement goes to, by its plan."""
    copied = (
        "models",
        "aliases",
        "setting_heads",
        "events",
        "event_heads",
    )  # of which every machine has a copy
    if text.startswith(tuple(f"INSERT INTO {table} " for table in copied)):
        return set()
    if text.startswith("INSERT INTO"):  # whose plan does not say where a row goes: by its model
        table = text.split()[2]
        width = len(text.split(")")[0].split(","))
        owners = ", ".join(str(owner) for owner in set(parameters[::width]))
        text, parameters = f"SELECT FROM {table} WHERE model_id IN ({owners})", ()
    plan = " ".join(row[0] for row in cursor.execute(f"EXPLAIN {text}", parameters))
    return set(re.findall(r" on (?:calls|call_details|adjustments|calibrations)_(\d)", plan))


def test_all_that_a_verb_asks_of_one_model_goes_to_one_part(sharded, sent, tmp_path):
    """By the plans of the statements that it really sends, for the first and the second time."""
    others = [Call(str(i), 3, 5, 9.0, START) for i in range(9)]
    with AdaptiveCalibrator(sharded) as calibrator:
        calibrator.record_many([*others, *calls_of_one(20, start=1000)])
    found = {}
    with psycopg.connect(sharded.replace("+psycopg", "")) as connection:
        cursor = psycopg.ClientCursor(connection)
        for verb, use in VERBS.items():
            with AdaptiveCalibrator(sharded) as calibrator:
                sent.clear()
                use(calibrator, tmp_path)
                use(calibrator, tmp_path / "again")
                asked = [(text, given) for text, given in sent if given is not None]
            if verb in LOOK_AT_ALL:
                asked = [(text, given) for text, given in asked if given]
            assert len(asked) > 1, verb
            for text, given in asked:
                found[verb, text] = parts_asked(cursor, text, given)
        connection.rollback()
    (part,) = {part for parts in found.values() for part in parts if len(parts) == 1}
    assert {asked: parts for asked, parts in found.items() if not parts <= {part}} == {}
    with AdaptiveCalibrator(sharded) as calibrator:
        assert calibrator.audit() == []


def test_many_calls_are_few_statements(url, sent):
    with AdaptiveCalibrator(url) as calibrator:
        calibrator.record_many(calls_of_one(2))
        sent.clear()
        calibrator.record_many(calls_of_one(250, start=2))
        rows = [given for text, given in sent if text.startswith("INSERT INTO calls")]
        details = [given for text, given in sent if text.startswith("INSERT INTO call_details")]
        bound = len(calls.c) - 1  # all but the outcome
        assert [len(given) // bound for given in rows] == [100, 100, 50]
        assert len(details) == 3
        assert [call.request_id for call in calibrator.calls(MODEL)] == [
            f"r{i}" for i in range(252)
        ]
        assert calibrator.audit() == []


def test_an_insert_of_many_rows_has_the_values_of_one_so_often():
    insert = "INSERT INTO t (a, b) VALUES"
    many = f"{insert} ($1, $2::BIGINT), ($3, $4::BIGINT)"
    assert insert_of(f"{insert} (%s, %s::BIGINT)", 2) == many


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
