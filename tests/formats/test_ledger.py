"""Voided entries in a ledger file: the line says what they void, to the bit, and no other does."""

import json

import pytest

from calibration_ledger.core.entries import Adjustment
from calibration_ledger.core.history import VOIDS_LENGTH_MAX
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.ledger import adjustment_line, adjustment_of
from calibration_ledger.storage.stage import StagedEntries

VOIDED = Adjustment(
    *(96, "voided", 1_767_323_045_000_001, "ema.1", 0.3),
    *(0.1 + 0.2, 7.25, 0.0, 12345.678, 1e280, 14, None, 1_767_323_045_000_000, "a wrong import"),
    voids="2..80,95",
)
RESET = VOIDED._replace(kind="reset", note=None, voids=None)
ARCHIVED = VOIDED._replace(
    kind="archived",
    archived_head=bytes(range(32)),
    archived_through=99,
    archived_digest=bytes(32),
    voids=None,
)


def line_of(entry):
    return json.loads(adjustment_line("m", entry))


@pytest.mark.parametrize("entry", [VOIDED, RESET, ARCHIVED], ids=lambda entry: entry.kind)
def test_an_entry_comes_back_from_its_line_to_the_bit(entry):
    assert adjustment_of(line_of(entry)) == ("m", entry)


def test_the_line_ends_with_what_it_voids():
    assert list(line_of(VOIDED).items())[-2:] == [("note", "a wrong import"), ("voids", "2..80,95")]


@pytest.mark.parametrize("entry", [RESET, ARCHIVED], ids=lambda entry: entry.kind)
@pytest.mark.parametrize("value", ["2", None])
def test_no_other_line_may_void(entry, value):
    assert "voids" not in line_of(entry)
    with pytest.raises(InvalidInputError, match="'voids' unknown"):
        adjustment_of(line_of(entry) | {"voids": value})


def test_a_voided_line_has_nothing_of_an_archived_one_and_names_what_it_voids():
    values = line_of(VOIDED)
    with pytest.raises(InvalidInputError, match="'archived_through' unknown"):
        adjustment_of(values | {"archived_through": 99})
    del values["voids"]
    with pytest.raises(InvalidInputError, match="voids missing"):
        adjustment_of(values)


@pytest.mark.parametrize("text", ["95", "1..95", "2,4,6..9"])
def test_earlier_entries_may_be_voided(text):
    assert adjustment_of(line_of(VOIDED) | {"voids": text})[1].voids == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("96", "before entry 96, in order and joined where they touch, such as 2..80,95, not '96'"),
        ("2..96", "before entry 96"),
        ("97..99", "before entry 96"),
        ("0", "before entry 96"),
        ("80..2", "before entry 96"),
        ("2..2", "before entry 96"),
        ("2,3", "joined where they touch"),
        ("5,2", "in order"),
        ("2..5,4..9", "in order"),
        ("02", "such as 2..80,95"),
        ("2, 5", "such as 2..80,95"),
        ("2..", "such as 2..80,95"),
        ("\u0662", "such as 2..80,95"),
        ("9" * 5000, "such as 2..80,95"),
        ("", "voids must not be empty"),
        (None, "voids must be a text, not None"),
        (2, "voids must be a text, not 2"),
        ([2, 80], "voids must be a text"),
        ("1," * (VOIDS_LENGTH_MAX // 2) + "1", "voids has 65537 characters"),
    ],
)
def test_what_names_no_earlier_entries_is_refused(value, said):
    with pytest.raises(InvalidInputError) as caught:
        adjustment_of(line_of(VOIDED) | {"voids": value})
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_staged_comes_back_to_the_bit():
    entries = [VOIDED, RESET, ARCHIVED]
    with StagedEntries() as staged:
        for number, entry in enumerate(entries):
            staged.add_adjustment(number, 2, entry)
            staged.add_model(number, f"model {number}", entry.seq, bytes(32), 3)
        assert [model.adjustments for model in staged.models()] == [[entry] for entry in entries]
