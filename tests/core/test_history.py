"""The walk over a history, and which entries count: voiding, held against sets of numbers."""

from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_ledger.core.entries import Adjustment
from calibration_ledger.core.history import (
    VOIDS_LENGTH_MAX,
    Page,
    Tally,
    covers,
    covers_any,
    end_of,
    left_of,
    merged,
    ranges_in_force,
    rule_in_force,
    setting,
    start_of,
    voided_ranges,
    voids_ranges,
    voids_text,
    walk,
)

SEQ = st.integers(1, 45)
SEQS = st.sets(st.integers(1, 60), min_size=1)


def ranges_of(seqs):
    return merged((seq, seq) for seq in seqs)


def seqs_of(ranges):
    return {seq for first, last in ranges for seq in range(first, last + 1)}


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20))))
def test_merged_ranges_hold_the_same_seqs_in_order_and_apart(pairs):
    ranges = merged((first, first + more) for first, more in pairs)
    assert seqs_of(ranges) == seqs_of((first, first + more) for first, more in pairs)
    for (_, last), (first, _) in pairwise(ranges):
        assert last + 1 < first


@given(SEQS)
def test_a_text_says_the_same_ranges_and_only_one_text_does(seqs):
    text = voids_text(ranges_of(seqs))
    assert seqs_of(voids_ranges(text)) == seqs
    assert voids_text(voids_ranges(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", None, 7, b"1..2", "0", "01", "1..1", "2..1", "1,2", "1..3,4", "3,1", "1..5,2..9"),
        *(
            "1..",
            "..1",
            "1-2",
            "1.2",
            " 1",
            "1 ",
            "1,",
            ",1",
            "a",
            "1..2..3",
            "\u0661",
            "-1",
            "1\n",
        ),
        ",".join(str(2 * n) for n in range(1, VOIDS_LENGTH_MAX)),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_any_other_text_names_no_entries(text):
    with pytest.raises(TypeError, match="names no entries"):
        voids_ranges(text)


@given(SEQS, st.integers(0, 70))
def test_covered_is_what_is_in_a_range(seqs, seq):
    assert covers(ranges_of(seqs), seq) == (seq in seqs)
    assert not covers((), seq)


@given(SEQS, st.integers(0, 70), st.integers(0, 70))
def test_a_stretch_is_touched_where_one_of_its_entries_is_in_a_range(seqs, first, more):
    stretch = range(first, first + more + 1)
    assert covers_any(ranges_of(seqs), first, first + more) == any(seq in seqs for seq in stretch)
    assert not covers_any((), first, first + more)


@given(SEQS, st.integers(0, 61))
def test_the_end_of_what_is_held_is_the_last_in_a_row(seqs, after):
    end = end_of(merged((seq, seq) for seq in seqs), after)
    assert all(seq in seqs for seq in range(after + 1, end + 1))
    assert end + 1 not in seqs


@given(SEQS, st.integers(0, 61))
def test_the_start_of_what_is_held_is_before_the_first_in_a_row(seqs, through):
    start = start_of(merged((seq, seq) for seq in seqs), through)
    assert all(seq in seqs for seq in range(start + 1, through + 1))
    assert start not in seqs


def test_the_work_on_many_voidings_grows_as_their_number():
    def seconds(count):
        voidings = [(100_000 + i, str(2 + 2 * i)) for i in range(count)]
        started = process_time()
        for _ in range(5):
            assert len(ranges_in_force(voidings)) == count
        return process_time() - started

    seconds(2_000)
    assert seconds(16_000) < 8 * 3 * seconds(2_000)  # it was more than 60 times as long


@given(st.sets(st.integers(1, 60)), st.integers(0, 70), st.integers(0, 70))
def test_what_is_left_is_all_the_rest_in_order(seqs, after, through):
    pairs = list(left_of(ranges_of(seqs), after, through))
    found = [seq for a, b in pairs for seq in range(a + 1, b + 1)]
    assert found == sorted(set(range(after + 1, through + 1)) - seqs)
    assert all(a < b for a, b in pairs)


def entry(seq, kind, *, alpha=0.1, rule="ema.1", **fields):
    numbers = (0.5, 8.0, 300.0, 0.0, 0.0, 0)
    made = Adjustment(seq, kind, 1000 + seq, rule, alpha, *numbers, None, 1000 + seq, None)
    return made._replace(**fields)


def void(seq, *seqs):
    return entry(seq, "voided", voids=voids_text(ranges_of(seqs)))


def test_what_a_voided_voiding_named_counts_again():
    known = [entry(1, "opened"), void(10, 2, 3, 4), void(20, 10)]
    assert seqs_of(voided_ranges(known[:1])) == set()
    assert seqs_of(voided_ranges(known[:2])) == {2, 3, 4}
    assert seqs_of(voided_ranges(known)) == {10}
    assert seqs_of(voided_ranges([*known, void(30, 20)])) == {2, 3, 4, 20}


def test_a_call_that_two_voidings_name_counts_only_when_both_are_voided():
    known = [entry(1, "opened"), void(10, 2, 3), void(20, 3, 4), void(30, 10)]
    assert seqs_of(voided_ranges(known)) == {3, 4, 10}
    assert seqs_of(voided_ranges([*known, void(40, 20)])) == {10, 20}


@st.composite
def histories(draw):
    """Openings, and voidings of whatever came before them."""
    known = [entry(1, "opened")]
    for seq in sorted(draw(st.sets(st.integers(3, 40), max_size=12))):
        named = draw(st.sets(st.integers(2, seq - 1), min_size=1))
        known += [void(seq, *named)]
    return known


@given(histories())
def test_an_entry_is_voided_just_when_a_voiding_that_counts_names_it(known):
    counting = {}

    def counts(seq):
        if seq not in counting:
            names_it = [
                one for one in known if one.voids and seq in seqs_of(voids_ranges(one.voids))
            ]
            counting[seq] = not any(counts(one.seq) for one in names_it)
        return counting[seq]

    voided = seqs_of(voided_ranges(known))
    assert voided == {seq for seq in range(2, 50) if not counts(seq)}


def test_a_replay_starts_from_what_is_neither_voided_nor_a_claim():
    known = [entry(1, "opened"), entry(5, "recalibrated"), entry(9, "reset"), void(12, 9)]
    assert [one.seq for one in setting(known)] == [1, 9]
    assert [one.seq for one in setting(known, voided_ranges(known))] == [1]


def test_claims_that_stand_for_archived_entries_set_the_state():
    archived = entry(50, "archived", archived_through=80)
    known = [archived, entry(60, "recalibrated"), void(70, 55), entry(81, "recalibrated")]
    assert [one.seq for one in setting(known, voided_ranges(known))] == [50, 60, 70]


def test_an_archived_entry_is_never_voided_with_the_entry_whose_seq_it_has():
    known = [entry(50, "archived", archived_through=80), void(70, 50)]
    assert [one.seq for one in setting(known, voided_ranges(known))] == [50, 70]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], ("ema.1", 0.1)),
        ([entry(5, "recalibrated", alpha=0.3, rule="kalman.1")], ("kalman.1", 0.3)),
        ([entry(5, "recalibrated", alpha=0.3), void(8, 5)], ("ema.1", 0.1)),
        ([entry(5, "recalibrated", alpha=0.3), void(8, 5), void(9, 8)], ("ema.1", 0.3)),
        ([entry(5, "reset", alpha=0.7), void(8, 2)], ("ema.1", 0.7)),
    ],
    ids=["opened", "recalibrated", "undone", "undone and redone", "reset"],
)
def test_the_rule_and_alpha_in_force_are_the_newest_that_count(more, expected):
    known = [entry(1, "opened"), *more]
    assert rule_in_force(known, voided_ranges(known)) == expected


def test_a_voiding_that_stands_for_archived_entries_has_the_rule_and_alpha_that_it_set():
    archived = entry(50, "archived", archived_through=80, alpha=0.2)
    known = [archived, void(70, 55)._replace(alpha=0.3), void(90, 60)]
    assert rule_in_force(known, voided_ranges(known)) == ("ema.1", 0.3)
    assert rule_in_force(known[:1], ()) == ("ema.1", 0.2)


@st.composite
def lives(draw):
    """Beginnings of both sorts, and adjustments of every kind, some of them unreadable."""
    first = entry(1, "opened")
    if draw(st.booleans()):
        first = entry(draw(st.integers(1, 9)), "archived", archived_through=draw(SEQ))
    known = [first]
    for seq in sorted(draw(st.sets(st.integers(first.seq + 2, 40), max_size=14))):
        kind = draw(st.sampled_from(["voided", "voided", "voided", "recalibrated", "reset"]))
        named = draw(st.sets(st.integers(2, seq - 1), min_size=1, max_size=4))
        more = {"alpha": draw(st.sampled_from([0.1, 0.2])), "voids": None}
        if kind == "voided" and draw(st.integers(0, 9)):
            more["voids"] = voids_text(ranges_of(named))
        known.append(entry(seq, kind, **more))
    return known


@settings(max_examples=5 * settings.default.max_examples)
@given(lives())
def test_a_tally_says_behind_each_voiding_what_the_adjustments_up_to_it_say(known):
    tally, calls, seen = Tally(known), set(), {}
    adjusted = {one.seq for one in known}
    assert tally.settings == {one.seq for one in setting(known)}
    for count, one in enumerate(known, 1):
        if one.kind != "voided":
            continue
        try:
            voided = voided_ranges(known[:count])
        except TypeError:
            before = tally.settings, tally.mark, {*tally.changes}
            assert not tally.void(one)
            assert before == (tally.settings, tally.mark, tally.changes)
            continue
        tally.changes.clear()
        assert tally.void(one)
        ends = [seq for is_setting, seq in tally.changes if not is_setting]
        calls ^= {seq for seq in range(1, 60) if sum(end <= seq for end in ends) % 2}
        assert calls - adjusted == seqs_of(voided) - adjusted
        assert tally.settings == {one.seq for one in setting(known, voided)}
        assert tally.rule_in_force(one.seq) == rule_in_force(known[:count], voided)
        counted = tally.settings, calls - adjusted
        assert seen.setdefault(tally.mark, counted) == counted


class Entries:
    """Calls at these numbers, two to a page, beside adjustments."""

    def __init__(self, adjustments, seqs):
        self.adjustments = adjustments
        self.seqs = seqs

    def calls(self, after, through):
        found = [(seq,) for seq in self.seqs if after < seq <= through]
        for i in range(0, len(found), 2):
            yield Page(found[i : i + 2], [])


def walked(entries, after, through):
    """The adjustments by their kind, and the numbers of the calls."""
    return [
        part.kind if isinstance(part, Adjustment) else [seq for (seq,) in part.rows]
        for part in walk(entries, after, through)
    ]


HISTORY = Entries([entry(1, "opened"), entry(5, "reset"), entry(6, "voided")], [2, 3, 4, 7, 8])


def test_a_walk_meets_every_entry_in_order():
    assert walked(HISTORY, 0, 8) == ["opened", [2, 3], [4], "reset", "voided", [7, 8]]


def test_a_walk_begins_and_ends_anywhere():
    assert walked(HISTORY, 3, 7) == [[4], "reset", "voided", [7]]
    assert walked(HISTORY, 5, 5) == []
    assert walked(HISTORY, 4, 5) == ["reset"]


def test_a_call_that_shares_the_number_of_an_adjustment_is_met_before_it():
    shared = Entries([entry(1, "opened"), entry(3, "reset")], [2, 3, 4])
    assert walked(shared, 0, 4) == ["opened", [2, 3], "reset", [4]]


def test_a_walk_from_the_start_meets_adjustments_of_impossible_numbers():
    assert walked(Entries([entry(-1, "reset"), entry(1, "opened")], [2]), 0, 2) == [
        "reset",
        "opened",
        [2],
    ]
