"""Golden vectors of the head: should one of these change, every ledger ever written is invalid.

Each digest is worked out by hand from the design's definition (see `reference`), held against the
package, and pinned.
"""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_ledger.core.entries import (
    ADJUSTMENT_KINDS,
    CALL_KIND,
    OUTCOMES,
    TIMEOUT_KIND,
    Adjustment,
    adjustment_head,
    archived_digest,
    call_head,
    first_head,
    is_head,
)
from support.reference import adjustment_digest, call_digest, digest_over, first_digest
from support.reference import archived_digest as reference_digest

MODEL = "timmy:v0.1-q4"
CALL = {
    "kind": "call",
    "seq": 2,
    "called_at": 1_767_323_045_678_901,
    "prompt_tokens": 512,
    "completion_tokens": 128,
    "actual_ms": 3400.25,
    "predicted_ms": 1580.0,
    "outcome": None,
    "request_id": None,
    "details": None,
}
OPENED = {
    "seq": 1,
    "kind": "opened",
    "recorded_at": 1_767_323_045_000_001,
    "rule": "ema.1",
    "alpha": 0.15,
    "ms_per_prompt_token": 0.5,
    "ms_per_completion_token": 8.0,
    "base_overhead_ms": 300.0,
    "total_absolute_error_ms": 0.0,
    "total_predicted_ms": 0.0,
    "sample_count": 0,
    "rule_state": None,
    "updated_at": 1_767_323_045_000_001,
    "note": None,
}
LIVED = {
    "alpha": 0.3,
    "ms_per_prompt_token": 0.1 + 0.2,
    "ms_per_completion_token": 7.25,
    "base_overhead_ms": 0.0,
    "total_absolute_error_ms": 12345.678,
    "total_predicted_ms": 1e300,
    "sample_count": 1_234_567,
}
GOLDEN = {
    "call": (CALL, "0ab555e823de28f8c3d15226172275d15cef193f50877232ffb6d1c1c644b86b"),
    "call with a request id": (
        CALL | {"request_id": "req-1"},
        "08f8a959b8a6689b76dbec365abbb41bd433427d77b047a5874c8f80688466dd",
    ),
    "call with details": (
        CALL | {"details": '{"ttft_ms":80.5}'},
        "293231de523d0632de07e5215c44bce82330219520a3ffb76e89c791394606f6",
    ),
    "time-out": (
        CALL | {"outcome": "timeout"},
        "ca8be3a6329e4ff7214a97010883d832ca4f823e4ed688adcb46b07659f9684e",
    ),
    "time-out with both": (
        CALL | {"outcome": "timeout", "request_id": "req-1", "details": '{"ttft_ms":80.5}'},
        "2fa87d5c555020f7d968349c0c68316811fdca4e190e7ddfabd3b90792772c7d",
    ),
    "call with both, not ASCII": (
        CALL | {"request_id": "größe-✓-𝄞", "details": '{"source":"gr\\u00f6\\u00dfe"}'},
        "6b0dff00e595aaa834d80df5e256528f535673424393426e2adfa795857451a3",
    ),
    "opened": (OPENED, "cdf3158f403d07ab0841dae995a1484f6e2341ea49af40217a1d00ae1d151c3a"),
    "imported": (
        OPENED | LIVED | {"kind": "imported", "note": "from calibrator_state.json", "seq": 1},
        "fb6ec822694c4e7dc4c4accb75dffdb5686f34af333e47e33b0ec32ef58db295",
    ),
    "reset": (
        OPENED | {"kind": "reset", "seq": 3, "recorded_at": 0, "updated_at": 0},
        "fb0c161e631c183ef78ad19f9ddcb644757c0333cc34f01b63f59a4edf2ee07a",
    ),
    "recalibrated": (
        OPENED
        | LIVED
        | {
            "kind": "recalibrated",
            "seq": 2**40,
            "rule": "kalman.1",
            "rule_state": struct.pack(">2d", 1.5, -0.25),
            "note": "",
        },
        "4185bdc1f86ed74a676c606045528846987465955f76a9c8ca67623d7ec0e705",
    ),
    "voided": (
        OPENED
        | LIVED
        | {"kind": "voided", "seq": 96, "note": "a wrong import", "voids": "2..80,95"},
        "4fb3843431d4d9df32e155bd76e9226a094f04f7d5b0184a8671308d511741ce",
    ),
}


ARCHIVED = (
    OPENED
    | LIVED
    | {
        "kind": "archived",
        "seq": 2**33,
        "note": "to calls-2025.jsonl",
        "archived_head": bytes(range(32)),
        "archived_through": 2**33 + 7,
    }
)


def head_after(head, entry):
    """What the package says."""
    if entry["kind"] == "call":
        return call_head(head, [value for name, value in entry.items() if name != "kind"])
    return adjustment_head(head, Adjustment(**entry))


def digest_after(head, entry):
    """What the reference says."""
    return (call_digest if entry["kind"] == "call" else adjustment_digest)(head, entry)


@pytest.mark.parametrize(
    ("model", "digest"),
    [
        (MODEL, "1d642ae7acb2c29798a50f99f7795c65480d1e7cbe6ed7e689f5216b9de2d0d9"),
        ("größe-✓-𝄞", "507e292d01bc227bb4af864eddb3b034b5b97aed054888c655513f28e0cc6167"),
    ],
)
def test_the_head_before_the_first_entry_is_of_the_name_alone(model, digest):
    assert hashlib.sha256(b"calibration-ledger/1" + model.encode()).hexdigest() == digest
    assert first_digest(model).hex() == digest
    assert first_head(model).hex() == digest


@pytest.mark.parametrize(("entry", "digest"), GOLDEN.values(), ids=GOLDEN)
def test_one_entry_of_each_kind_has_its_golden_digest(entry, digest):
    head = first_digest(MODEL)
    assert digest_after(head, entry).hex() == digest
    assert head_after(head, entry).hex() == digest


def test_a_call_is_digested_byte_for_byte_as_written_out_here():
    data = (
        b"\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x02"
        b"\x00\x06\x47\x5e\xf6\x57\x4f\x35"
        b"\x00\x00\x00\x00\x00\x00\x02\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x80"
        b"\x40\xaa\x90\x80\x00\x00\x00\x00"
        b"\x40\x98\xb0\x00\x00\x00\x00\x00"
        b"\x01\x00\x00\x00\x05req-1"
        b"\x00"
    )
    head = hashlib.sha256(first_digest(MODEL) + data).hexdigest()
    assert head == GOLDEN["call with a request id"][1]


def test_a_time_out_is_a_call_under_another_kind_byte():
    data = (
        b"\x07"
        b"\x00\x00\x00\x00\x00\x00\x00\x02"
        b"\x00\x06\x47\x5e\xf6\x57\x4f\x35"
        b"\x00\x00\x00\x00\x00\x00\x02\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x80"
        b"\x40\xaa\x90\x80\x00\x00\x00\x00"
        b"\x40\x98\xb0\x00\x00\x00\x00\x00"
        b"\x00\x00"
    )
    head = hashlib.sha256(first_digest(MODEL) + data).hexdigest()
    assert head == GOLDEN["time-out"][1]


def test_a_voided_entry_is_digested_byte_for_byte_as_written_out_here():
    data = (
        b"\x06"
        b"\x00\x00\x00\x00\x00\x00\x00\x60"
        b"\x00\x06\x47\x5e\xf6\x4c\xf3\x41"
        b"\x3f\xd3\x33\x33\x33\x33\x33\x33"
        b"\x3f\xd3\x33\x33\x33\x33\x33\x34"
        b"\x40\x1d\x00\x00\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x00"
        b"\x40\xc8\x1c\xd6\xc8\xb4\x39\x58"
        b"\x7e\x37\xe4\x3c\x88\x00\x75\x9c"
        b"\x00\x00\x00\x00\x00\x12\xd6\x87"
        b"\x00\x06\x47\x5e\xf6\x4c\xf3\x41"
        b"\x01\x00\x00\x00\x05ema.1"
        b"\x00"
        b"\x01\x00\x00\x00\x0ea wrong import"
        b"\x01\x00\x00\x00\x082..80,95"
    )
    head = hashlib.sha256(first_digest(MODEL) + data).hexdigest()
    assert head == GOLDEN["voided"][1]


def test_a_small_history_has_its_golden_head():
    history = [
        OPENED,
        CALL,
        CALL | {"seq": 3, "request_id": "a"},
        OPENED | LIVED | {"kind": "recalibrated", "seq": 4},
        CALL | {"seq": 5, "details": '{"clock":"perf_counter"}'},
        OPENED | {"kind": "reset", "seq": 6},
    ]
    head = digest = first_digest(MODEL)
    for entry in history:
        head, digest = head_after(head, entry), digest_after(digest, entry)
    assert head == digest
    assert head.hex() == "0ba60efd55172de529d30925f40934667bc787b9f8821d477ec3c8209e29d6a4"


def test_the_kinds_keep_their_bytes():
    assert (CALL_KIND, TIMEOUT_KIND) == (0, 7)
    assert ADJUSTMENT_KINDS == {
        "opened": 1,
        "imported": 2,
        "reset": 3,
        "recalibrated": 4,
        "archived": 5,
        "voided": 6,
    }


@pytest.mark.parametrize("name", ["request_id", "details"])
def test_an_absent_text_is_not_an_empty_one(name):
    head = first_head(MODEL)
    assert head_after(head, CALL) != head_after(head, CALL | {name: ""})


def test_a_text_does_not_run_over_into_its_neighbour():
    head = first_head(MODEL)
    heads = {
        head_after(head, CALL | {"request_id": left, "details": right})
        for left, right in [("ab", "c"), ("a", "bc"), ("abc", None), (None, "abc"), ("abc", "")]
    }
    assert len(heads) == 5


@pytest.mark.parametrize("name", [name for name in CALL if name != "kind"])
def test_every_field_of_a_call_is_in_its_digest(name):
    head = first_head(MODEL)
    texts = {"outcome": "timeout", "request_id": "x", "details": "{}"}
    changed = texts.get(name) or CALL[name] + 1
    assert head_after(head, CALL) != head_after(head, CALL | {name: changed})


@pytest.mark.parametrize("name", list(OPENED))
def test_every_field_of_an_adjustment_is_in_its_digest(name):
    head = first_head(MODEL)
    texts = {"kind": "reset", "rule": "ema.2", "rule_state": b"", "note": ""}
    changed = texts[name] if name in texts else OPENED[name] + 1
    assert head_after(head, OPENED) != head_after(head, OPENED | {name: changed})


@pytest.mark.parametrize("voids", [None, "", "2..80", "2..80,96"])
def test_what_a_voided_entry_names_is_in_its_digest(voids):
    head, entry = first_head(MODEL), GOLDEN["voided"][0]
    assert head_after(head, entry) != head_after(head, entry | {"voids": voids})


@pytest.mark.parametrize(
    ("model", "digest"),
    [
        (MODEL, "93a12ca7ac2fa35f4998033e58e6f199d1a0366629146f052819c00943e0e94c"),
        ("größe-✓-𝄞", "e45ea50df3a6bf55ddbac9007fe35b7f53b957179c31c40acc8cdd7800bc175e"),
    ],
)
def test_an_archived_entry_has_its_golden_digest(model, digest):
    assert reference_digest(model, ARCHIVED).hex() == digest
    assert archived_digest(model, Adjustment(**ARCHIVED)).hex() == digest


@pytest.mark.parametrize("name", list(ARCHIVED))
def test_every_field_of_an_archived_entry_is_in_its_digest(name):
    texts = {
        "kind": "reset",
        "rule": "ema.2",
        "rule_state": b"",
        "note": None,
        "archived_head": bytes(32),
        "total_predicted_ms": 1e301,
    }
    changed = texts[name] if name in texts else ARCHIVED[name] + 1
    entry = Adjustment(**ARCHIVED | {name: changed})
    assert archived_digest(MODEL, entry) != archived_digest(MODEL, Adjustment(**ARCHIVED))


@pytest.mark.parametrize("name", ["archived_head", "archived_through"])
def test_an_archived_entry_without_what_it_carries_has_no_digest(name):
    with pytest.raises(TypeError, match="carries a head"):
        archived_digest(MODEL, Adjustment(**ARCHIVED | {name: None}))


def test_a_chain_goes_on_from_the_head_that_an_archived_entry_carries():
    """So what comes behind an archive has the heads that it had before."""
    archived = ARCHIVED | {"seq": 1, "archived_head": head_after(first_head(MODEL), OPENED)}
    archived["archived_digest"] = reference_digest(MODEL, archived)
    assert digest_over(MODEL, [archived, CALL]) == digest_over(MODEL, [OPENED, CALL])


whole = st.integers(0, 2**63 - 1)
real = st.floats(0.0)
text = st.none() | st.text(max_size=20)


@given(
    st.binary(min_size=32, max_size=32),
    st.tuples(whole, whole, whole, whole, real, real),
    st.sampled_from(OUTCOMES),
    text,
    text,
)
def test_any_call_is_digested_as_the_reference_does(head, fixed, outcome, request_id, details):
    names = ("seq", "called_at", "prompt_tokens", "completion_tokens", "actual_ms", "predicted_ms")
    texts = {"outcome": outcome, "request_id": request_id, "details": details}
    row = dict(zip(names, fixed, strict=True), **texts)
    assert call_head(head, (*fixed, outcome, request_id, details)) == call_digest(head, row)


@pytest.mark.parametrize("outcome", ["", "ok", "Timeout", "timeout\0", b"timeout", 7])
def test_an_outcome_that_is_none_has_no_digest(outcome):
    with pytest.raises(ValueError, match="no call ends as"):
        head_after(first_head(MODEL), CALL | {"outcome": outcome})


@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(list(ADJUSTMENT_KINDS)),
    st.tuples(whole, whole, whole, whole),
    st.tuples(*[real] * 6),
    st.tuples(st.text(min_size=1, max_size=20), st.none() | st.binary(max_size=24), text, text),
)
def test_any_adjustment_is_digested_as_the_reference_does(head, kind, wholes, reals, rest):
    seq, recorded_at, count, updated_at = wholes
    rule, rule_state, note, voids = rest
    entry = Adjustment(seq, kind, recorded_at, rule, *reals, count, rule_state, updated_at, note)
    entry = entry._replace(voids=voids)
    assert adjustment_head(head, entry) == adjustment_digest(head, entry._asdict())


@pytest.mark.parametrize(
    ("model", "seq", "digest", "is_one"),
    [
        ("m", 1, "ab" * 32, True),
        ("", 2**60, "0F" * 32, True),
        (None, 1, "ab" * 32, False),
        ("m", 0, "ab" * 32, False),
        ("m", True, "ab" * 32, False),
        ("m", 1.0, "ab" * 32, False),
        ("m", 1, b"ab" * 32, False),
        ("m", 1, "ab" * 31, False),
        ("m", 1, "ab" * 32 + "\n", False),
        ("m", 1, "xy" * 32, False),
    ],
)
def test_a_head_is_a_model_a_seq_and_a_digest(model, seq, digest, is_one):
    assert is_head(model, seq, digest) is is_one
