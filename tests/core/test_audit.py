"""The audit as a pure fold: silent on a true history, and never silent on a bent one."""

from __future__ import annotations

import copy
import struct
import tracemalloc
from fnmatch import fnmatchcase
from random import Random
from time import process_time

import pytest

from calibration_ledger.core.audit import CHECKS, FINDINGS_MAX, Claims, ModelAudit
from calibration_ledger.core.entries import Adjustment, Snapshot
from calibration_ledger.core.validation import request_key
from calibration_ledger.core.values import Finding, Head
from calibration_ledger.verbs.audit import contradictions, missing_models
from support.reference import LOCAL_PRIOR, Ema, Lived, lived_history

STORED = {
    "alpha": "alpha",
    "ms_per_prompt_token": "a",
    "ms_per_completion_token": "b",
    "base_overhead_ms": "o",
    "sample_count": "sample_count",
    "total_absolute_error_ms": "total_absolute_error_ms",
    "total_predicted_ms": "total_predicted_ms",
}


def stored(lived):
    """The live calibration's columns, as the reference has them."""
    columns = {name: getattr(lived.state, field) for name, field in STORED.items()}
    return Snapshot(rule="ema.1", rule_state=None, updated_at=lived.updated_at, **columns)


def row_of(entry):
    return tuple(value for name, value in entry.items() if name != "kind")


def audit(lived, noted=None, *, keys=(), page=3, **live):
    """Feed a history as the storage does; `live` bends the live calibration."""
    entries = lived.entries
    adjustments = [Adjustment(**e) for e in entries if e["kind"] != "call"]
    fold = ModelAudit(lived.model, adjustments, noted)
    batch = []
    for entry in [*entries, None]:
        if entry is not None and entry["kind"] == "call":
            batch.append(row_of(entry))
            continue
        for i in range(0, len(batch), page):
            fold.calls(batch[i : i + page])
        batch = []
        if entry is not None:
            fold.adjust(Adjustment(**entry))
    fold.check_keys(keys)
    last_seq = live.pop("last_seq", lived.last_seq)
    head = live.pop("head") if "head" in live else lived.head()
    newest = live.pop("newest_seq", last_seq)
    return fold.finish(stored(lived)._replace(**live), last_seq, head, newest)


def checks_of(findings):
    return {finding.check for finding in findings}


def bent(seq, **fields):
    """A true history with one entry bent afterwards; the live calibration stays."""
    lived = lived_history()
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries = copy.deepcopy(lived.entries)
    lived.entries[seq - 1] |= fields
    return lived, live


@pytest.mark.parametrize("page", [1, 3, 100])
def test_a_true_history_gives_no_finding(page):
    lived = lived_history()
    keys = [(e["seq"], e["request_id"], request_key(e["request_id"])) for e in lived.entries[6:9]]
    noted = {1: Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR)).head().hex()}
    noted[len(lived.entries)] = lived.head().hex()
    assert audit(lived, noted, keys=keys, page=page) == []


def test_the_names_of_the_checks_are_a_fixed_list():
    assert isinstance(CHECKS, tuple)
    assert len(set(CHECKS)) == len(CHECKS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 0.5),
        ("ms_per_prompt_token", 0.001),
        ("ms_per_completion_token", float("inf")),
        ("base_overhead_ms", 0.0),
        ("sample_count", 12),
        ("total_absolute_error_ms", 1.0),
        ("total_predicted_ms", float("nan")),
        ("rule", "ema.2"),
        ("rule_state", b"12345678"),
        ("updated_at", 5),
        ("head", b"\0" * 32),
        ("head", None),
        ("last_seq", 14),
        ("last_seq", 20),
        ("newest_seq", 99),
    ],
)
def test_a_bent_live_calibration_is_found(name, value):
    findings = audit(lived_history(), **{name: value})
    expected = {"head": "head", "last_seq": "sequence", "newest_seq": "sequence"}
    assert checks_of(findings) == {expected.get(name, "calibration")}
    assert all(finding.model == "m" and finding.seq is not None for finding in findings)


def test_the_lowest_bit_of_the_live_calibration_is_found():
    lived = lived_history()
    (bits,) = struct.unpack(">Q", struct.pack(">d", lived.state.o))
    (flipped,) = struct.unpack(">d", struct.pack(">Q", bits ^ 1))
    (finding,) = audit(lived, base_overhead_ms=flipped)
    assert finding == Finding(
        "m", 15, "calibration", f"base_overhead_ms {lived.state.o!r}", repr(flipped)
    )


@pytest.mark.parametrize(
    ("seq", "fields", "check"),
    [
        (2, {"called_at": 5}, "head"),
        (2, {"prompt_tokens": 101}, "prediction"),
        (2, {"completion_tokens": 0}, "prediction"),
        (2, {"actual_ms": 901.0}, "prediction"),
        (2, {"actual_ms": float("inf")}, "prediction"),
        (2, {"predicted_ms": 0.0}, "prediction"),
        (2, {"predicted_ms": float("nan")}, "prediction"),
        (5, {"actual_ms": 901.0}, "recalibrated"),
        (14, {"actual_ms": 901.0}, "recalibrated"),
        (7, {"request_id": "other"}, "head"),
        (7, {"request_id": None}, "head"),
        (12, {"details": '{"ttft_ms":81.5}'}, "head"),
        (12, {"details": None}, "head"),
        (1, {"kind": "imported"}, "head"),
        (1, {"kind": "reset"}, "opening"),
        (1, {"kind": "closed"}, "entry"),
        (1, {"recorded_at": 7}, "head"),
        (1, {"note": "x"}, "head"),
        (1, {"alpha": 0.16}, "prediction"),
        (1, {"alpha": 1.5}, "entry"),
        (1, {"alpha": float("nan")}, "entry"),
        (1, {"base_overhead_ms": 301.0}, "prediction"),
        (1, {"base_overhead_ms": float("inf")}, "entry"),
        (1, {"sample_count": 1}, "entry"),
        (1, {"total_predicted_ms": 1.0}, "entry"),
        (1, {"rule": "ema.9"}, "rule"),
        (1, {"rule_state": b"1234567"}, "entry"),
        (1, {"rule_state": b"12345678"}, "head"),
        (10, {"total_absolute_error_ms": 1.0}, "entry"),
        (10, {"kind": "recalibrated"}, "recalibrated"),
        (6, {"alpha": 0.41}, "recalibrated"),
        (6, {"ms_per_prompt_token": 0.5}, "recalibrated"),
        (6, {"sample_count": 3}, "recalibrated"),
        (6, {"updated_at": 0}, "recalibrated"),
        (6, {"kind": "imported"}, "head"),
        (6, {"rule": "kalman.9"}, "rule"),
        (15, {"alpha": 0.15}, "recalibrated"),
    ],
)
def test_a_bent_entry_is_found(seq, fields, check):
    lived, live = bent(seq, **fields)
    findings = audit(lived, **live)
    assert check in checks_of(findings)
    assert checks_of(findings) <= set(CHECKS)
    if check != "head":
        assert any(f.check == check and f.seq is not None and f.seq >= seq for f in findings)


@pytest.mark.parametrize("value", [None, "text", b"bytes", 2**70, -(2**70)])
@pytest.mark.parametrize(
    "name",
    ["called_at", "prompt_tokens", "completion_tokens", "actual_ms", "predicted_ms"],
)
def test_a_call_that_makes_no_sense_is_a_finding_and_no_crash(name, value):
    lived, live = bent(3, **{name: value})
    assert audit(lived, **live)


@pytest.mark.parametrize("value", [None, "text", b"bytes", 1.5, float("nan"), 2**70])
@pytest.mark.parametrize("name", [n for n in Adjustment._fields if n != "seq"])
@pytest.mark.parametrize("seq", [1, 6])
def test_an_adjustment_that_makes_no_sense_is_a_finding_and_no_crash(seq, name, value):
    lived, live = bent(seq, **{name: value})
    if lived.entries[seq - 1] == lived_history().entries[seq - 1]:
        return
    assert audit(lived, **live)


def test_an_unreadable_call_is_named():
    lived, live = bent(3, actual_ms="fast")
    findings = audit(lived, **live)
    assert (findings[0].check, findings[0].seq) == ("entry", 3)
    assert "'fast'" in findings[0].found


def found_by(findings, check):
    return [(f.seq, f.expected, f.found) for f in findings if f.check == check]


NAN, INF = float("nan"), float("inf")
OPENING = "an opened, imported or archived entry"


@pytest.mark.parametrize(
    ("seq", "fields", "check", "expected", "found"),
    [
        (1, {"kind": "reset"}, "opening", OPENING, "'reset'"),
        (1, {"alpha": 0.0}, "entry", "finite numbers, 0 < alpha <= 1", "[0.0, 0.5, 8.0, 300.0, "),
        (1, {"sample_count": 1}, "entry", "counts and totals of 0", "(0.0, 0.0, 1)"),
        (1, {"rule_state": b"\x7f\xf0" + b"\0" * 6}, "entry", "finite numbers, *", "0.0, inf]"),
        (1, {"note": 5}, "entry", "an adjustment", "(1, 'opened', "),
        (1, {"rule": "ema.9"}, "rule", "a rule that this program knows", "'ema.9', which this "),
        (6, {"archived_through": 3}, "entry", "nothing of an archived entry", "(None, 3, None)"),
        (6, {"voids": "2"}, "entry", "no entries that it voids", "2"),
        (6, {"alpha": 0.41}, "recalibrated", "ms_per_prompt_token *", ""),
        (3, {"actual_ms": "fast"}, "entry", "numbers and texts", "(3, "),
        (2, {"prompt_tokens": 2**70}, "entry", "values in their bounds", "(2, 1002, 11805"),
        (
            2,
            {"predicted_ms": 0.0},
            "prediction",
            "* ms",
            "0.0 ms (the first that differs: entry 2 ",
        ),
        (2, {"actual_ms": INF}, "prediction", "a calibration that stays finite", "inf ms cannot"),
        (2, {"predicted_ms": NAN}, "prediction", "* ms", " or 1 was changed)"),
        (3, {"predicted_ms": NAN}, "prediction", "* ms", " or 2, or an earlier one, was changed)"),
    ],
)
def test_a_finding_says_what_was_expected_and_what_was_found(seq, fields, check, expected, found):
    lived, live = bent(seq, **fields)
    first, *_ = found_by(audit(lived, **live), check)
    assert first[0] == seq
    assert fnmatchcase(first[1], expected)
    assert found in first[2]


def test_a_call_without_a_number_is_a_finding_without_one():
    lived, live = bent(3)
    lived.entries[2]["seq"] = "three"
    seq, expected, found = found_by(audit(lived, **live), "entry")[0]
    assert (seq, expected) == (None, "numbers and texts")
    assert found.startswith("('three', ")


def test_a_gap_says_which_entry_was_expected():
    lived = lived_history()
    live = {"head": lived.head(), "last_seq": 15, **stored(lived)._asdict()}
    del lived.entries[2]
    assert found_by(audit(lived, **live), "sequence") == [(4, "entry 3", "entry 4")]


@pytest.mark.parametrize("page", [1, 2, 100])
def test_calls_behind_unreadable_ones_are_numbered_on(page):
    """A row of garbage ends the fold of numbers, and nothing else."""
    lived, live = bent(3, actual_ms=None)
    findings = audit(lived, page=page, **live)
    assert {f.check for f in findings if f.seq != 3} <= {"recalibrated"}
    assert found_by(findings, "sequence") == []
    for _, expected, found in found_by(findings, "recalibrated"):
        assert (expected, found) == ("no state that stays finite", "one")


def test_an_archived_entry_says_what_is_wrong_with_it():
    lived = lived_history()
    archived = lived.archived(7)
    live = {"head": lived.head(), "last_seq": 15, **stored(lived)._asdict()}
    digest = archived.entries[0]["archived_digest"]
    archived.entries[0]["archived_digest"] = b"\1" * 32
    assert found_by(audit(archived, **live), "archived") == [(7, digest.hex(), "01" * 32)]
    archived.entries[0]["archived_digest"] = "text"
    assert found_by(audit(archived, **live), "archived") == [(7, digest.hex(), "'text'")]
    lived.entries = [lived.entries[0], *lived.archived(7).entries]
    first = (7, "the first entry", "entry 1 before it")
    assert found_by(audit(lived, **live), "archived") == [first]


@pytest.mark.parametrize("seq", range(1, 15))
def test_a_missing_entry_shows_as_a_gap(seq):
    lived = lived_history()
    live = {"head": lived.head(), "last_seq": 15, **stored(lived)._asdict()}
    del lived.entries[seq - 1]
    findings = audit(lived, **live)
    assert ("sequence", seq + 1) in {(f.check, f.seq) for f in findings}


def test_a_missing_last_entry_shows_against_last_seq():
    lived = lived_history()
    live = {"head": lived.head(), "last_seq": 15, **stored(lived)._asdict()}
    del lived.entries[-1]
    assert found_by(audit(lived, **live), "sequence") == [(15, "entries up to 15", "up to 14")]


def test_entries_behind_last_seq_are_told():
    found = found_by(audit(lived_history(), newest_seq=99), "sequence")
    assert found == [(99, "no entry behind 15", "one")]


def test_an_adjustment_behind_a_gap_says_which_entry_was_expected():
    lived = lived_history()
    live = {"head": lived.head(), "last_seq": 15, **stored(lived)._asdict()}
    assert lived.entries[5]["kind"] == "recalibrated"
    del lived.entries[4]
    assert found_by(audit(lived, **live), "sequence") == [(6, "entry 5", "entry 6")]


def test_another_head_than_that_of_the_history_is_told():
    lived = lived_history()
    found = found_by(audit(lived, head=b"\1" * 32), "head")
    assert found == [(15, lived.head().hex(), "01" * 32)]


def test_two_calls_that_changed_places_are_found_where_they_are():
    lived, live = bent(3)
    second, third = lived.entries[1], lived.entries[2]
    lived.entries[1], lived.entries[2] = third | {"seq": 2}, second | {"seq": 3}
    findings = audit(lived, **live)
    assert {("prediction", 2), ("prediction", 3)} <= {(f.check, f.seq) for f in findings}


def test_a_history_without_entries_has_no_opening():
    findings = ModelAudit("m").finish(stored(lived_history()), 0, b"", 0)
    assert found_by(findings, "opening") == [(None, OPENING, "no entry at all")]


def test_a_first_entry_that_is_a_call_is_no_opening():
    lived = Lived()
    lived.state = Ema(0.15, *LOCAL_PRIOR)
    lived.call(1, 2, 3.0)
    assert found_by(audit(lived), "opening") == [(1, OPENING, "a call")]


def test_as_many_findings_as_are_listed_are_listed_without_a_count():
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for _ in range(FINDINGS_MAX):
        lived.call(1, 2, 3.0)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    for entry in lived.entries[1:]:
        entry["predicted_ms"] += 1.0
    assert len(found_by(audit(lived, **live), "prediction")) == FINDINGS_MAX


def test_more_of_one_finding_than_anybody_reads_are_counted():
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for _ in range(100):
        lived.call(1, 2, 3.0)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    for entry in lived.entries[1:]:
        entry["predicted_ms"] += 1.0
    findings = audit(lived, page=7, **live)
    assert [f.seq for f in findings if f.check == "prediction"] == [*range(2, 22), None]
    assert len([f for f in findings if f.check == "prediction"]) == FINDINGS_MAX + 1
    assert "80 more findings" in [f.found for f in findings if f.check == "prediction"][-1]
    more = next(f for f in findings if f.check == "prediction" and f.seq is None)
    assert str(more) == "m: prediction: 80 more findings of this check"
    assert sum(f.count for f in findings if f.check == "prediction") == FINDINGS_MAX + 80


def test_the_first_prediction_that_differs_names_the_entry_before_it():
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for i in range(10):
        lived.call(100 + i, 20, 3000.0 + i)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries[4]["actual_ms"] += 1.0  # entry 5
    found = [f for f in audit(lived, page=3, **live) if f.check == "prediction"]
    assert [f.seq for f in found] == [6, 7, 8, 9, 10, 11]
    cause = " ms (the first that differs: entry 6 or 5, or an earlier one, was changed)"
    assert found[0].found.endswith(cause)
    assert not any("first" in f.found for f in found[1:])


# -- archives -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(1, 16))
def test_a_history_whose_beginning_is_archived_is_a_true_one(k):
    lived = lived_history()
    archived = lived.archived(k)
    assert archived.head() == lived.head()
    assert archived.state == lived.state
    assert audit(archived) == []
    for again in range(k, 16):
        assert audit(archived.archived(again)) == []


@pytest.mark.parametrize("k", range(1, 16))
def test_a_recalibration_after_an_archive_is_checked_against_what_there_was(k):
    lived = lived_history().archived(k)
    lived.call(30, 40, 500.0).recalibrate(0.7).call(10, 20, 300.0)
    assert audit(lived) == []
    assert audit(lived.archived(16)) == []
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries[-2]["base_overhead_ms"] += 1.0
    assert "recalibrated" in checks_of(audit(lived, **live))


def test_a_recalibration_behind_a_reset_is_checked_whatever_was_archived():
    for k in range(1, 10):
        lived = lived_history().archived(k)
        lived.entries[-1]["base_overhead_ms"] += 1.0
        assert "recalibrated" in checks_of(audit(lived)), k


@pytest.mark.parametrize("value", [None, "text", b"bytes", 1.5, float("nan"), 2**70, 7])
@pytest.mark.parametrize("name", [n for n in Adjustment._fields if n not in {"seq", "kind"}])
def test_no_field_of_an_archived_entry_can_change(name, value):
    lived = lived_history().archived(7)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    if lived.entries[0][name] != value:
        lived.entries[0][name] = value
        findings = audit(lived, **live)
        assert {f.check for f in findings if f.seq == 7} & {"archived", "entry", "rule"}


@pytest.mark.parametrize("kind", ["opened", "imported", "reset", "recalibrated", "x"])
def test_an_archived_entry_is_told_from_other_kinds(kind):
    lived = lived_history().archived(7)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries[0]["kind"] = kind
    assert 7 in {finding.seq for finding in audit(lived, **live)}


def test_an_archived_entry_is_of_its_model():
    lived = lived_history().archived(15)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.model = "n"
    assert [(f.seq, f.check) for f in audit(lived, **live)] == [(15, "archived")]


def test_an_archived_entry_stands_first():
    lived = lived_history()
    live = {"head": lived.head(), "last_seq": 15, **stored(lived)._asdict()}
    lived.entries = [lived.entries[0], *lived.archived(7).entries]
    findings = {(f.seq, f.check) for f in audit(lived, **live)}
    assert findings >= {(7, "archived"), (7, "sequence")}


def test_heads_noted_of_entries_that_are_archived_cannot_be_checked_and_that_is_a_finding():
    lived = lived_history()
    archived = lived.archived(7)
    for seq in range(1, 16):
        noted = head_at(lived, seq)
        # None of these says what the archived entry must set: they were noted without a state.
        found = [(f.seq, f.check) for f in audit(archived, {seq: noted})]
        assert found == [(min(seq, 7), "not checked")]
        found = [(f.seq, f.check) for f in audit(archived, {seq: "0" * 64})]
        assert found == [(seq, "not checked" if seq < 7 else "noted head")]


# -- voided entries ---------------------------------------------------------------------------


def voided_history():
    """Calls 2-5 and 7-9, a recalibration and a reset, and voidings 12, 15 and 17 of all sorts."""
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    for i in range(4):
        lived.call(100 + i, 50, 900.0 + i)
    lived.recalibrate(0.4)
    for i in range(3):
        lived.call(200, 10 + i, 700.0)
    lived.adjust("reset", Ema(0.2, *LOCAL_PRIOR)).call(20, 30, 80.0)
    lived.void(3, 4, 10).call(1, 2, 500.0).call(3, 4, 600.0)
    lived.void(6, 14).call(9, 9, 400.0)
    lived.void(12)
    return lived.call(5, 5, 300.0)


@pytest.mark.parametrize("page", [1, 2, 100])
def test_a_true_history_with_voided_entries_gives_no_finding(page):
    lived = voided_history()
    assert [entry["seq"] for entry in lived.entries if entry["kind"] == "voided"] == [12, 15, 17]
    assert audit(lived, page=page) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_true_history_of_voidings_at_random_gives_no_finding(seed):
    random = Random(seed)
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR)).call(9, 9, 90.0)
    for _ in range(25):
        for _ in range(random.randrange(4)):
            lived.call(random.randrange(300), random.randrange(50), 900.0 * random.random())
        last = lived.entries[-1]["seq"]
        lived.void(*sorted(random.sample(range(2, last + 1), min(last - 1, 2))))
        if random.random() < 0.3:
            lived.recalibrate(random.choice([0.15, 0.4]))
        elif random.random() < 0.2:
            lived.adjust("reset", Ema(0.2, *LOCAL_PRIOR))
    for page in (1, 3, 100):
        assert audit(lived, page=page) == []


def voidings(count, of="calls"):
    """Voidings of a call each; or by turns a call voided or an adjustment made, and that undone."""
    state = tuple(stored(lived_history()))
    entries = [Adjustment(1, "opened", 0, *state, None)]
    for seq in range(9_000, 9_000 + count):
        kind, voids = "voided", str(2 + 2 * (seq - 9_000))
        if of != "calls" and seq % 2:
            voids = str(seq - 1)
        elif of not in {"calls", "voidings"}:
            kind, voids = of, None
        entries.append(Adjustment(seq, kind, 0, *state, None, voids=voids))
    return entries


@pytest.mark.parametrize("of", ["calls", "voidings", "recalibrated", "reset"])
def test_to_find_the_claims_of_many_voidings_takes_a_time_that_grows_as_their_number(of):
    def seconds(count):
        entries = voidings(count, of)
        started = process_time()
        Claims(entries)
        return process_time() - started

    seconds(500)
    assert seconds(4_000) < 8 * 3 * seconds(500)  # as the square, it is 64 times as long


def test_what_an_audit_keeps_of_many_voidings_grows_as_their_number():
    def kept(count):
        entries = voidings(count)
        tracemalloc.start()
        claims = Claims(entries)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del claims
        return size

    kept(320)  # the ranges are remembered between the two
    assert kept(320) < 1.5 * 4 * kept(80)


@pytest.mark.parametrize("k", range(1, 19))
def test_a_history_with_voided_entries_can_be_archived_anywhere(k):
    archived = voided_history().archived(k)
    assert audit(archived) == []
    archived.call(8, 8, 200.0)
    archived.recalibrate(0.6).call(7, 7, 250.0)
    assert audit(archived) == []


@pytest.mark.parametrize("seq", [12, 15, 17])
@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"base_overhead_ms": 12.0}, "voided"),
        ({"sample_count": 1}, "voided"),
        ({"alpha": 0.77}, "voided"),
        ({"updated_at": 1}, "voided"),
        ({"voids": "5"}, "voided"),
        ({"voids": None}, "entry"),
        ({"voids": "2..99"}, "entry"),
        ({"voids": "1..3"}, "entry"),
        ({"voids": "3,2"}, "entry"),
        ({"voids": 7}, "entry"),
        ({"voids": "99"}, "entry"),
        ({"note": "another"}, "head"),
    ],
    ids=str,
)
def test_a_bent_voiding_is_found(seq, fields, check):
    lived = voided_history()
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries[seq - 1] |= fields
    findings = audit(lived, **live)
    assert check in {finding.check for finding in findings if check == "head" or finding.seq == seq}


@pytest.mark.parametrize("named", ["1..3", "12", "3,12..14"])
def test_a_voiding_names_entries_from_the_second_to_the_one_before_it(named):
    lived = voided_history()
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries[11] |= {"voids": named}
    assert (12, "entries from 2 to 11", named) in found_by(audit(lived, **live), "entry")


def test_the_second_entry_and_the_one_before_a_voiding_can_be_voided():
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR)).call(1, 2, 3.0).call(4, 5, 6.0)
    assert audit(lived.void(2, 3)) == []


def test_a_zero_of_the_other_sign_is_another_number():
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    findings = audit(lived, total_predicted_ms=-0.0)
    assert found_by(findings, "calibration") == [(1, "total_predicted_ms 0.0", "-0.0")]


def test_a_voiding_that_chose_another_alpha_is_found_though_its_replay_is_true():
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    lived.call(100, 50, 900.0).call(200, 10, 700.0).call(20, 30, 80.0)
    lived.adjust("voided", lived.state, voids="3")
    state, updated_at = lived.replayed(0.6), lived.updated()
    lived.entries.pop()
    lived.adjust("voided", state, voids="3", updated_at=updated_at)
    (finding,) = audit(lived)
    assert (finding.seq, finding.check) == (5, "voided")
    assert (finding.expected, finding.found) == ("ema.1 at alpha 0.15", "ema.1 at alpha 0.6")


def test_a_voiding_of_the_same_state_that_names_others_is_found_by_the_head():
    """Two calls alike: which of them is voided makes no number different."""
    lived = Lived().adjust("opened", Ema(0.15, *LOCAL_PRIOR))
    lived.call(10, 10, 500.0, called_at=7).call(10, 10, 500.0, called_at=7).call(1, 1, 9.0)
    lived.void(2)
    live = {"head": lived.head(), **stored(lived)._asdict()}
    lived.entries[-1]["voids"] = "3"
    assert checks_of(audit(lived, **live)) == {"head"}


@pytest.mark.parametrize("kind", ["opened", "reset", "recalibrated"])
def test_only_a_voiding_names_entries(kind):
    lived = lived_history()
    live = {"head": lived.head(), **stored(lived)._asdict()}
    entry = next(entry for entry in lived.entries if entry["kind"] == kind)
    entry["voids"] = "2"
    assert "entry" in {f.check for f in audit(lived, **live) if f.seq == entry["seq"]}


# -- noted heads ----------------------------------------------------------------------------


def head_at(lived, seq):
    part = Lived(lived.model)
    part.entries = lived.entries[:seq]
    return part.head().hex()


@pytest.mark.parametrize("seq", [1, 2, 6, 9, 15])
def test_a_head_noted_earlier_is_found_again_on_the_way(seq):
    lived = lived_history()
    assert audit(lived, {seq: head_at(lived, seq)}) == []


@pytest.mark.parametrize("seq", [1, 2, 6, 9, 15])
def test_a_past_rewritten_consistently_is_found_by_a_noted_head_alone(seq):
    before = head_at(lived_history(), seq)
    lived = lived_history(alpha=0.16)
    assert audit(lived) == []
    (finding,) = audit(lived, {seq: before})
    assert finding == Finding("m", seq, "noted head", before, head_at(lived, seq))


def test_a_shortened_history_is_found_by_a_noted_head_alone():
    noted = {15: head_at(lived_history(), 15)}
    lived = lived_history()
    lived.entries.pop()
    lived.state, lived.updated_at = lived.replayed(0.15), lived.entries[-1]["called_at"]
    assert audit(lived) == []
    (finding,) = audit(lived, noted)
    assert finding == Finding("m", 15, "noted head", noted[15], "a history that ends at entry 14")


def test_a_noted_head_of_a_model_that_is_gone_is_found():
    noted = [Head("gone", 3, "ab" * 32), Head("here", 1, "cd" * 32)]
    assert missing_models(noted, ["here", "other"]) == [
        Finding("gone", 3, "noted head", "ab" * 32, "no such model in the ledger")
    ]


# -- request keys ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_id", "key", "silent"),
    [
        ("r", request_key("r"), True),
        (None, None, True),
        ("r", request_key("s"), False),
        ("r", None, False),
        (None, request_key("r"), False),
        ("r", "text", False),
        ("\ud800", b"0" * 16, False),
        (5, b"0" * 16, False),
    ],
)
def test_a_request_id_must_lie_under_its_own_key(request_id, key, silent):
    found = found_by(audit(lived_history(), keys=[(7, request_id, key)]), "request key")
    expected = request_key("r").hex() if request_id == "r" else "None"
    stands = key.hex() if isinstance(key, bytes) else repr(key)
    assert found == ([] if silent else [(7, expected, stands)])


def test_noted_heads_that_contradict_each_other_are_found():
    one, other = "ab" * 32, "cd" * 32
    noted = [Head("m", 3, one), Head("m", 4, one), Head("n", 3, other), Head("m", 3, one)]
    assert contradictions(noted) == []
    (finding,) = contradictions([*noted, Head("m", 3, other)])
    assert (finding.model, finding.seq, finding.check) == ("m", 3, "noted head")
    assert (finding.expected, finding.found) == (one, f"{other}, noted as well")
