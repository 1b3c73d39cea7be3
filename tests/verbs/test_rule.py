"""The rule of new models: a setting of the ledger that every program follows, kept as history."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger import AdaptiveCalibrator, Call, DefaultRule, Head
from calibration_ledger.errors import (
    ImportRefusedError,
    InvalidInputError,
    LedgerCorruptError,
    LedgerNotFoundError,
    StoredRuleError,
)
from calibration_ledger.rules import KALMAN
from support.by_hand import edited
from support.reference import dump, look_into, settings_digest

FRESH = ("ema.1", 0.15)
KALMAN_OWN = (KALMAN.version, KALMAN.default_alpha)


def learnt_by(calibrator, model):
    found = calibrator.calibration(model)
    return found.rule, found.alpha


def in_force(calibrator):
    found = calibrator.default_rule()
    assert (calibrator.rule, calibrator.alpha) == (found.rule, found.alpha)
    return found.rule, found.alpha


# -- what is in force -----------------------------------------------------------------------


@pytest.mark.both
def test_what_is_set_holds_for_models_that_are_opened_from_then_on_by_any_program(ledger):
    with AdaptiveCalibrator(ledger) as calibrator, AdaptiveCalibrator(ledger) as other:
        assert in_force(calibrator) == FRESH
        calibrator.record("before", 1, 2.0)
        told = calibrator.set_default_rule("kalman")
        assert (told.rule, told.alpha) == KALMAN_OWN
        for program in (calibrator, other):
            assert program.default_rule() == told
            assert in_force(program) == KALMAN_OWN
        calibrator.record("one", 1, 2.0)
        other.record_many([Call("two", 1, 2, 3.0), Call("three", 1, 2, 3.0)])
        other.record_call(Call("four", 1, 2, 3.0, request_id="r"))
        with other.timed("five", 7) as call:
            call.completion_tokens = 1
        for model in ("one", "two", "three", "four", "five", "never seen"):
            assert learnt_by(calibrator, model) == KALMAN_OWN
        other.record("before", 1, 2.0)
        assert learnt_by(calibrator, "before") == FRESH
        assert calibrator.audit() == []


@pytest.mark.both
def test_every_setting_stays_as_history_with_its_time(ledger):
    start = datetime.now(UTC) - timedelta(seconds=1)
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.set_default_rule("kalman", 0.5)
        calibrator.set_default_rule(None, 1)
        calibrator.set_default_rule("ema.1")
        found = calibrator.default_rule()
        assert [(one.seq, one.rule, one.alpha) for one in found.history] == [
            (1, KALMAN.version, 0.5),
            (2, KALMAN.version, 1.0),
            (3, "ema.1", 0.15),
        ]
        times = [one.recorded_at for one in found.history]
        assert start < times[0] <= times[1] <= times[2] == found.since
        assert calibrator.heads() == [Head("", 3, settings_digest(ledger))]
        assert calibrator.audit() == []
        assert json.loads(json.dumps(found.to_dict()))["history"][1]["alpha"] == 1.0


def test_to_set_what_is_set_adds_nothing_but_the_first_time_it_is_said(calibrator):
    first = calibrator.set_default_rule("ema", 0.15)
    assert (first.rule, first.alpha) == FRESH
    assert first.since is not None
    for again in (("ema", 0.15), ("ema.1", None), (None, 0.15)):
        assert calibrator.set_default_rule(*again) == first
    assert len(first.history) == 1


def test_reading_what_is_in_force_makes_no_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert calibrator.default_rule() == DefaultRule(*FRESH)
        assert calibrator.calibration("m").rule == "ema.1"
        assert list(ledger_path.parent.iterdir()) == []
        with pytest.raises(LedgerNotFoundError):
            calibrator.audit()


WRONG = [
    ("kalman.99", None),
    ("", None),
    (5, None),
    (None, None),
    ("ema", 0.0),
    ("ema", 1.5),
    ("ema", float("nan")),
    ("ema", "0.1"),
    (None, -0.1),
    ("ema", True),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_wrong_rule_or_alpha_is_refused_and_changes_nothing(ledger_path, wrong):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        with pytest.raises(InvalidInputError):
            calibrator.set_default_rule(*wrong)
        assert list(ledger_path.parent.iterdir()) == []
        before = calibrator.set_default_rule("kalman")
        with pytest.raises(InvalidInputError):
            calibrator.set_default_rule(*wrong)
        assert calibrator.default_rule() == before
        assert calibrator.audit() == []


# -- what a program names itself ------------------------------------------------------------

SET = ("kalman", 0.04)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (KALMAN.version, 0.04)),
        ({"rule": "ema"}, ("ema.1", 0.15)),
        ({"rule": "ema", "alpha": 0.3}, ("ema.1", 0.3)),
        ({"alpha": 0.3}, (KALMAN.version, 0.3)),
        ({"rule": "kalman"}, (KALMAN.version, 0.04)),
        ({"rule": KALMAN.version, "alpha": 0.5}, (KALMAN.version, 0.5)),
    ],
    ids=str,
)
def test_what_a_program_names_goes_before_the_ledger_for_its_own_new_models(
    ledger_path, given, expected
):
    with AdaptiveCalibrator(ledger_path) as follower:
        follower.record("reset", 1, 2.0)
        follower.set_default_rule(*SET)
        with AdaptiveCalibrator(ledger_path, **given) as calibrator:
            assert (calibrator.rule, calibrator.alpha) == expected
            calibrator.record("m", 1, 2.0)
            calibrator.reset("reset")
            for model in ("m", "reset", "never seen"):
                assert learnt_by(calibrator, model) == expected
        follower.record("n", 1, 2.0)
        assert learnt_by(follower, "n") == (KALMAN.version, 0.04)
        assert follower.audit() == []


def test_a_program_that_names_both_is_asked_nothing_of_the_ledger(ledger_path):
    with AdaptiveCalibrator(ledger_path, 0.2, rule="ema") as calibrator:
        calibrator.close()
        assert (calibrator.rule, calibrator.alpha) == ("ema.1", 0.2)


@pytest.mark.both
def test_a_reset_sets_models_back_under_the_rule_of_the_ledger(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        for model in "abc":
            calibrator.record(model, 1, 2.0)
        calibrator.set_default_rule("kalman")
        calibrator.reset("a")
        assert [learnt_by(calibrator, model) for model in "abc"] == [KALMAN_OWN, FRESH, FRESH]
        calibrator.reset()
        assert [learnt_by(calibrator, model) for model in "abc"] == [KALMAN_OWN] * 3
        assert calibrator.audit() == []


@pytest.mark.parametrize("given", [{}, {"rule": "ema", "alpha": 0.4}], ids=str)
def test_imports_open_models_under_it_too(ledger_path, tmp_path, given):
    row = {"model": "m", "prompt_tokens": 1, "completion_tokens": 2, "actual_ms": 3.0}
    (tmp_path / "calls.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "calls.csv").write_text(",".join(row) + "\nn,1,2,3.0\n")
    balance = {"model": "old", "alpha": 0.2, "ms_per_prompt_token": 0.25}
    balance |= {"ms_per_completion_token": 9.0, "base_overhead_ms": 100.0, "sample_count": 4}
    (tmp_path / "state.json").write_text(json.dumps({"version": 1, "models": [balance]}))
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.set_default_rule("kalman")
    with AdaptiveCalibrator(ledger_path, **given) as calibrator:
        expected = ("ema.1", 0.4) if given else KALMAN_OWN
        for kind, file in (("jsonl", "calls.jsonl"), ("csv", "calls.csv"), ("state", "state.json")):
            calibrator.import_calls(kind, tmp_path / file)
        for model in ("m", "n", "old"):
            assert learnt_by(calibrator, model) == expected
        old = calibrator.calibration("old")
        assert (old.ms_per_prompt_token, old.sample_count) == (0.25, 4)
        calibrator.record("old", 1, 2.0)
        assert calibrator.audit() == []


# -- a rule of tomorrow ---------------------------------------------------------------------


@pytest.mark.both
def test_a_rule_that_this_program_does_not_know_keeps_it_from_opening_models_alone(ledger):
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.record("m", 1, 2.0)
        calibrator.set_default_rule("kalman")
    by_tomorrow(ledger, "UPDATE settings SET rule = 'kalman.99'")
    with AdaptiveCalibrator(ledger) as calibrator:
        before = dump(ledger)
        for use in (
            lambda: calibrator.record("new", 1, 2.0),
            lambda: calibrator.record_many([Call("m", 1, 2, 3.0), Call("new", 1, 2, 3.0)]),
            lambda: calibrator.reset("m"),
            lambda: calibrator.set_default_rule(None, 0.5),
        ):
            with pytest.raises(StoredRuleError, match=r"opens models under.*'kalman\.99'") as told:
                use()
            assert "upgrade this one" in str(told.value)
        assert dump(ledger) == before
        assert calibrator.rule == calibrator.default_rule().rule == "kalman.99"
        assert ("", 1, "rule") in {(one.model, one.seq, one.check) for one in calibrator.audit()}
        calibrator.record("m", 1, 2.0)
        assert calibrator.predict("new", 1).sample_count == 0
        assert any("kalman.99" in advice.text for advice in calibrator.doctor().advice)
        with AdaptiveCalibrator(ledger, rule="ema") as naming:
            naming.record("named", 1, 2.0)
        calibrator.set_default_rule("ema")
        calibrator.record("new", 1, 2.0)
        assert learnt_by(calibrator, "new") == FRESH


def by_tomorrow(ledger, statement):
    """Change what a newer program could have written; the digest is left as it was."""
    if "://" not in ledger:
        edited(ledger, statement)
        return
    import psycopg

    with psycopg.connect(ledger.replace("+psycopg", "")) as connection:
        connection.execute(statement)


# -- export, import and archive -------------------------------------------------------------


@pytest.fixture(name="told")
def _told(tmp_path):
    """A ledger with two settings and a model, and its export."""
    path, file = tmp_path / "told.db", tmp_path / "told.jsonl"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record("first", 1, 2.0)
        calibrator.set_default_rule("kalman", 0.3)
        calibrator.set_default_rule("ema", 0.1)
        calibrator.record("told", 1, 2.0)
        report = calibrator.export_ledger("jsonl", file)
        assert (report.models, report.settings) == (2, 2)
        assert calibrator.audit() == []
    return path, file


@pytest.mark.both
def test_an_export_brings_the_settings_into_a_fresh_ledger_to_the_bit(told, ledger, tmp_path):
    path, file = told
    with AdaptiveCalibrator(path) as source, AdaptiveCalibrator(ledger) as calibrator:
        report = calibrator.import_calls("ledger", file)
        assert (report.settings, report.settings_left, report.models) == (2, 0, 2)
        assert calibrator.default_rule() == source.default_rule()
        assert calibrator.heads() == source.heads()
        assert calibrator.audit(heads=source.heads()) == []
        again = calibrator.import_calls("ledger", file)
        assert (again.settings, again.settings_left) == (0, 0)
        calibrator.export_ledger("jsonl", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_a_later_export_brings_the_settings_that_are_missing(told, ledger_path, tmp_path):
    path, file = told
    with AdaptiveCalibrator(path) as source, AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.import_calls("ledger", file)
        source.set_default_rule("kalman")
        source.export_ledger("jsonl", tmp_path / "later.jsonl")
        assert calibrator.import_calls("ledger", tmp_path / "later.jsonl").settings == 1
        assert calibrator.default_rule() == source.default_rule()
        older = calibrator.import_calls("ledger", file)
        assert (older.settings, older.settings_left) == (0, 0)
        assert calibrator.default_rule() == source.default_rule()
        assert calibrator.audit(heads=source.heads()) == []


def test_a_ledger_with_settings_of_its_own_keeps_them_and_says_so(told, ledger_path):
    _, file = told
    with AdaptiveCalibrator(ledger_path) as calibrator:
        own = calibrator.set_default_rule("ema", 0.7)
        report = calibrator.import_calls("ledger", file)
        assert (report.settings, report.settings_left, report.models) == (0, 2, 2)
        assert calibrator.default_rule() == own
        assert learnt_by(calibrator, "told") == ("ema.1", 0.1)
        assert calibrator.audit() == []


def test_the_file_of_a_ledger_without_settings_is_as_it_was_before_there_were_any(
    ledger_path, tmp_path
):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
        calibrator.export_ledger("jsonl", tmp_path / "a.jsonl")
        lines = (tmp_path / "a.jsonl").read_text().splitlines()
        assert [next(iter(json.loads(line))) for line in lines] == [
            *("ledger", "entry", "entry", "head", "end")
        ]
        assert lines[-1] == '{"end":{"models":1,"entries":2}}'
        assert calibrator.audit() == []


def test_one_model_alone_and_an_archive_leave_the_settings_where_they_are(told, tmp_path):
    path, _ = told
    with AdaptiveCalibrator(path) as calibrator:
        before = calibrator.default_rule()
        calibrator.export_ledger("jsonl", tmp_path / "one.jsonl", model="told")
        calibrator.archive(datetime(2100, 1, 1, tzinfo=UTC), tmp_path / "old.jsonl")
        for file in ("one.jsonl", "old.jsonl"):
            assert '"setting' not in (tmp_path / file).read_text()
        assert calibrator.default_rule() == before
        assert calibrator.audit() == []
        assert calibrator.import_calls("ledger", tmp_path / "old.jsonl").settings == 0
        assert calibrator.default_rule() == before
        assert calibrator.audit() == []


BENT = {
    "another alpha": (1, "0.3", "0.4"),
    "another time": (1, '"recorded_at":"2', '"recorded_at":"1'),
    "a rule that is not known": (1, "kalman.", "kalman.99"),
    "a rule without its version": (2, "ema.1", "ema"),
    "an alpha of 0": (1, "0.3", "0"),
    "an unknown key": (1, "}", ',"note":"x"}'),
    "another kind of setting": (1, '"rule",', '"colour",'),
    "another head": (3, '"head":"', '"head":"0'),
    "a head of another number": (3, '"settings":2', '"settings":1'),
}
"""What is changed in which line of a file, and to what."""


def bent_files(lines):
    """Files that are not what an export writes, by what is wrong with them."""
    yield "a setting is missing", [*lines[:1], *lines[2:]]
    yield "the last setting is missing", [*lines[:2], *lines[3:]]
    yield "they are in another order", [lines[0], lines[2], lines[1], *lines[3:]]
    yield "their head is missing", [*lines[:3], *lines[4:]]
    yield "they come behind the models", [lines[0], *lines[4:-1], *lines[1:4], lines[-1]]
    yield "they come twice", [*lines[:4], *lines[1:]]
    yield "the end does not count them", [*lines[:-1], lines[-1].replace(',"settings":2', "")]
    yield "a head without settings", [lines[0], *lines[3:]]
    for what, (at, old, new) in BENT.items():
        assert old in lines[at]
        yield what, [*lines[:at], lines[at].replace(old, new, 1), *lines[at + 1 :]]


def test_a_file_whose_settings_are_not_what_they_were_is_refused_whole(told, tmp_path):
    _, file = told
    lines = file.read_text().splitlines()
    for what, changed in bent_files(lines):
        (tmp_path / "bent.jsonl").write_text("\n".join(changed) + "\n")
        with AdaptiveCalibrator(tmp_path / f"{what}.db") as calibrator:
            with pytest.raises(ImportRefusedError, match="Nothing was recorded"):
                calibrator.import_calls("ledger", tmp_path / "bent.jsonl")
            assert not (tmp_path / f"{what}.db").exists(), what


def test_a_backup_has_the_settings(told, tmp_path):
    path, _ = told
    with AdaptiveCalibrator(path) as calibrator:
        copy = calibrator.backup(tmp_path / "copy.db")
        with AdaptiveCalibrator(copy) as other:
            assert other.heads() == calibrator.heads()
            assert other.default_rule() == calibrator.default_rule()
            assert other.audit() == []


def test_a_salvage_says_what_new_models_learnt_by(told, tmp_path):
    path, _ = told
    with AdaptiveCalibrator(path) as calibrator:
        report = calibrator.export_ledger("jsonl", tmp_path / "left.jsonl", salvage=True)
        assert report.newest_setting == calibrator.default_rule().history[-1]
    edited(path, "UPDATE settings SET alpha = 7.0 WHERE seq = 2")
    with AdaptiveCalibrator(path) as calibrator:
        report = calibrator.export_ledger("csv", tmp_path / "left.csv", salvage=True)
        assert (report.newest_setting.seq, report.newest_setting.alpha) == (1, 0.3)


# -- the audit ------------------------------------------------------------------------------


def test_a_past_of_settings_that_was_rewritten_with_its_head_is_found_by_saved_heads(told):
    path, _ = told
    with AdaptiveCalibrator(path) as calibrator:
        saved = calibrator.heads()
        edited(path, "UPDATE settings SET alpha = 0.2 WHERE seq = 1")
        digest = settings_digest(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE setting_heads SET head = ?", (bytes.fromhex(digest),))
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []
        (finding,) = calibrator.audit(heads=saved)
        assert (finding.model, finding.seq, finding.check) == ("", 2, "noted head")
        assert str(finding).startswith("the settings #2: noted head: expected")
        assert calibrator.audit("told", heads=saved) == []


def test_heads_of_before_the_first_setting_stay_valid(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
        before = calibrator.heads()
        calibrator.set_default_rule("kalman")
        middle = calibrator.heads()
        calibrator.set_default_rule("ema")
        for heads in (before, middle, calibrator.heads(), [*before, *middle]):
            assert calibrator.audit(heads=heads) == []
        cut = ["DELETE FROM settings WHERE seq = 2", "DELETE FROM setting_heads"]
        late = calibrator.heads()
    edited(ledger_path, *cut)
    with AdaptiveCalibrator(ledger_path) as calibrator:
        found = {(one.seq, one.check) for one in calibrator.audit(heads=late)}
        assert found == {(1, "sequence"), (1, "head"), (2, "noted head")}


def test_settings_that_were_damaged_are_a_finding_and_a_typed_error(told, tmp_path):
    path, _ = told
    edited(path, "DELETE FROM settings WHERE seq = 1")
    with AdaptiveCalibrator(path) as calibrator:
        found = {(one.model, one.seq, one.check) for one in calibrator.audit()}
        assert found == {("", 2, "sequence"), ("", 2, "head")}
        before = dump(path)
        for use in (
            calibrator.default_rule,
            calibrator.heads,
            lambda: calibrator.set_default_rule("kalman"),
            lambda: calibrator.export_ledger("jsonl", tmp_path / "bad.jsonl"),
        ):
            with pytest.raises(
                LedgerCorruptError, match=r"of its settings.*an audit finds all that is wrong"
            ):
                use()
        assert dump(path) == before
        assert not (tmp_path / "bad.jsonl").exists()
        calibrator.record("new", 1, 2.0)


# -- any history ----------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"),
            st.sampled_from(["ema", "kalman", None]),
            st.sampled_from([None, 0.01, 0.15, 0.5, 1.0]),
        ),
        st.tuples(st.just("record"), st.sampled_from("abcd")),
        st.tuples(st.just("reset"), st.sampled_from("abcd")),
        st.tuples(st.just("reopen")),
    ),
    max_size=12,
)


@given(steps=STEPS)
def test_after_any_steps_each_model_has_the_rule_that_was_in_force(steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "calls.db"
    now, count, models = FRESH, 0, {}
    own = {"ema": 0.15, "kalman": KALMAN.default_alpha}
    version = {"ema": "ema.1", "kalman": KALMAN.version}
    calibrator = AdaptiveCalibrator(path, durability="normal")
    for step in steps:
        match step:
            case ("set", None, None):
                continue
            case ("set", rule, alpha):
                name = rule or now[0].partition(".")[0]
                before, now = now, (version[name], own[name] if alpha is None else alpha)
                count += now != before or count == 0
                found = calibrator.set_default_rule(rule, alpha)
                assert ((found.rule, found.alpha), len(found.history)) == (now, count)
            case ("record", model):
                calibrator.record(model, 1, 2.0)
                models.setdefault(model, now)
            case ("reset", model):
                calibrator.reset(model)
                if model in models:
                    models[model] = now
            case _:
                calibrator.close()
                calibrator = AdaptiveCalibrator(path, durability="normal")
    with calibrator:
        assert in_force(calibrator) == now
        assert {model: learnt_by(calibrator, model) for model in models} == models
        if count or models:
            assert calibrator.audit(heads=calibrator.heads()) == []
        if count:
            assert calibrator.heads()[0] == Head("", count, settings_digest(path))


def test_the_first_entry_of_a_model_says_under_what_it_was_opened(calibrator, ledger):
    calibrator.set_default_rule("kalman", 0.25)
    calibrator.record("m", 1, 2.0)
    with look_into(ledger) as connection:
        (row,) = connection.execute("SELECT kind, rule, alpha FROM adjustments").fetchall()
    assert tuple(row) == ("opened", KALMAN.version, 0.25)
