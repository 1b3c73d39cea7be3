"""On PostgreSQL, too, the doctor says that something needs action wherever nothing is recorded."""

import time

import pytest

from calibration_ledger.core.advice import check_obstacles
from calibration_ledger.storage.postgres import examine
from calibration_ledger.verbs.doctor import doctor_of
from support.reference import dump

BODIES = {
    "refuse": "RAISE EXCEPTION 'no'; RETURN NEW;",
    "drop": "RETURN NULL;",
    "change": "NEW.{column} := NEW.{column} + 1; RETURN NEW;",
}


def trigger(body, table="calls", when="BEFORE INSERT", column="actual_ms", kind=""):
    deferred = "DEFERRABLE INITIALLY DEFERRED" if kind else ""
    body = BODIES[body].format(column=column)
    return (
        f"CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        f"CREATE {kind} TRIGGER t {when} ON {table} {deferred} FOR EACH ROW EXECUTE FUNCTION t()",
    )


OBSTACLES = {
    "a trigger that refuses": trigger("refuse"),
    "a trigger that drops": trigger("drop"),
    "a trigger that changes": trigger("change"),
    "a trigger on updates": trigger("drop", "calibrations", "BEFORE UPDATE"),
    "a trigger on new models": trigger("refuse", "models"),
    "a trigger on adjustments": trigger("change", "adjustments", column="alpha"),
    "a trigger on request ids": trigger("drop", "call_details"),
    "a trigger at the commit": trigger("refuse", when="AFTER INSERT", kind="CONSTRAINT"),
    "a rule": ("CREATE RULE r AS ON INSERT TO calls DO INSTEAD NOTHING",),
    "a unique index": ("CREATE UNIQUE INDEX i ON calls (prompt_tokens)",),
    "a column that must be filled": (
        "ALTER TABLE calls ADD COLUMN more INTEGER DEFAULT 1 NOT NULL",
        "ALTER TABLE calls ALTER COLUMN more DROP DEFAULT",
    ),
    "a check": ("ALTER TABLE calls ADD CHECK (seq < 4)",),
}
HARMLESS = {
    "a sound ledger": (),
    "a trigger that keeps calls as they are": trigger("refuse", when="BEFORE UPDATE OR DELETE"),
    "a trigger that is switched off": (
        *trigger("refuse"), "ALTER TABLE calls DISABLE TRIGGER t"
    ),
    "a table beside": ("CREATE TABLE notes (note TEXT)",),
    "an index beside": ("CREATE INDEX i ON calls (called_at)",),
}  # fmt: skip


@pytest.fixture(name="filled")
def _filled(calibrator):
    for seconds in range(2):
        calibrator.record("m1", 2 * seconds, 1.0)
        calibrator.record("m2", 2 * seconds + 1, 1.0)
    return calibrator


def told(facts):
    return [advice.text for advice in check_obstacles(facts)]


@pytest.mark.parametrize("what", OBSTACLES)
def test_what_is_in_the_way_of_recording_needs_action(filled, url, run, what):
    run(*OBSTACLES[what])
    before = dump(url)
    diagnosis = doctor_of(url)
    assert diagnosis.needs_action
    assert told(diagnosis.facts), diagnosis.facts
    assert dump(url) == before


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_in_nobodys_way_needs_no_action(filled, url, run, what):
    for statement in HARMLESS[what]:
        run(statement)
    facts = doctor_of(url).facts
    assert (facts.obstacles, facts.unanswered) == ((), ())
    filled.record("m1", 1, 1.0)
    assert filled.doctor().facts.obstacles == ()


def test_it_is_told_to_who_may_only_read_too(postgres, database, filled, run):
    reader = postgres.role("reader")
    run(*trigger("refuse"), "ALTER TABLE adjustments ENABLE ROW LEVEL SECURITY")
    run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}")
    assert doctor_of(postgres.url(database, user=reader)).facts.obstacles == (
        "the trigger t of calls",
        "the row security of adjustments",
    )
    run(f"DROP OWNED BY {reader}")


def test_the_doctor_gives_a_question_without_an_answer_up(filled, url, run, monkeypatch):
    """As where a machine behind the server hangs: what was found out is told all the same."""
    monkeypatch.setattr(examine, "ANSWERS_S", 0.5)
    monkeypatch.setattr(examine, "_DATABASE_BYTES", "SELECT 1::bigint FROM pg_sleep(30)")
    started = time.monotonic()
    diagnosis = doctor_of(url)
    assert time.monotonic() - started < 10
    assert diagnosis.needs_action
    assert "statement timeout" in diagnosis.facts.unanswered[0]
    assert dict(diagnosis.facts.rows)["calls"] == 4
