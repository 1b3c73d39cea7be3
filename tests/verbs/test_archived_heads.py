"""Heads noted earlier against an `archived` entry that somebody forged.

Who writes to the database can take a past out and put an `archived` entry in its place, with the
right head and any state. No fold can contradict that, so the noted heads must.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.entries import Adjustment, Snapshot, archived_digest, state_digest

START = datetime(2026, 1, 1, tzinfo=UTC)
END = datetime.now(UTC) + timedelta(days=1)
PINNED = "8785dc3f65fd9909431525cea57983937fd5195b19266e930006f174f5a4b3fe"
SETTERS = ("nothing", "reset", "recalibrated", "voided", "kalman")


def at(seconds):
    return START + timedelta(seconds=seconds)


def some(calibrator, first, count):
    for i in range(first, first + count):
        calibrator.record("m", 10 + i % 7, 100.0 + i, completion_tokens=i % 5, called_at=at(i))


@pytest.fixture(params=SETTERS, name="path")
def _path(request, tmp_path):
    """Entries 1 to 21, then what sets the state in its own way, then ten more calls."""
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        some(calibrator, 0, 20)
        if request.param == "reset":
            calibrator.reset("m")
        elif request.param == "recalibrated":
            calibrator.recalibrate(0.4)
        elif request.param == "voided":
            calibrator.void("m", seq=[3, 4])
        elif request.param == "kalman":
            calibrator.recalibrate(rule="kalman")
        some(calibrator, 100, 10)
        assert calibrator.audit(heads=calibrator.heads()) == []
    return path


def noted(path):
    with AdaptiveCalibrator(path) as calibrator:
        return calibrator.heads()


def honest(path, seq):
    """The archived entry that `archive` would make of the entries up to `seq`, made by it."""
    copy = path.with_name("copy.db")
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.backup(copy)
        before = next((c.called_at for c in calibrator.calls() if c.seq > seq), END)
    with AdaptiveCalibrator(copy) as calibrator:
        calibrator.archive(before, path.with_name("archive.jsonl"))
    with closing(sqlite3.connect(copy)) as shell:
        row = shell.execute("SELECT * FROM adjustments WHERE kind = 'archived'").fetchone()
    copy.unlink()
    path.with_name("archive.jsonl").unlink()
    return Adjustment(*row[1:])


def forge(path, entry):
    """Put this entry in the place of those up to its seq, with a digest that fits."""
    entry = entry._replace(archived_digest=archived_digest("m", entry))
    with closing(sqlite3.connect(path)) as shell, shell:
        for table in ("call_details", "calls", "adjustments"):
            shell.execute(f"DELETE FROM {table} WHERE seq <= ?", (entry.seq,))
        if not shell.execute("SELECT 1 FROM adjustments WHERE kind = 'voided'").fetchall():
            shell.execute("DELETE FROM voided")
        marks = ", ".join("?" * 19)
        shell.execute(f"INSERT INTO adjustments VALUES ({marks})", (1, *entry))
        (last,) = shell.execute("SELECT last_seq FROM calibrations").fetchone()
        if last <= entry.seq:
            shell.execute(
                "UPDATE calibrations SET rule = ?, alpha = ?, ms_per_prompt_token = ?,"
                " ms_per_completion_token = ?, base_overhead_ms = ?, total_absolute_error_ms = ?,"
                " total_predicted_ms = ?, sample_count = ?, rule_state = ?, updated_at = ?,"
                " last_seq = ?, head = ?",
                (*entry.snapshot, entry.seq, entry.archived_head),
            )


def checks(path, heads):
    with AdaptiveCalibrator(path) as calibrator:
        return {finding.check for finding in calibrator.audit(heads=heads)}


LIES = {
    "coefficients": {"base_overhead_ms": 99999.0},
    "a low bit": {"ms_per_prompt_token": None},
    "the count": {"sample_count": 999_999},
    "a total": {"total_absolute_error_ms": 1.0},
    "the rule's speed": {"alpha": 0.9},
}


def lied(entry, lie):
    changes = dict(LIES[lie])
    if changes.get("ms_per_prompt_token", 0) is None:
        (bits,) = struct.unpack(">q", struct.pack(">d", entry.ms_per_prompt_token))
        (changes["ms_per_prompt_token"],) = struct.unpack(">d", struct.pack(">q", bits ^ 1))
    return entry._replace(**changes)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("place", ["at the head", "in the middle", "before the state is set anew"])
def test_an_archived_entry_that_claims_another_state_is_found(path, lie, place):
    heads = noted(path)
    seq = {"at the head": heads[0].seq, "in the middle": 11}.get(place, 21)
    forge(path, lied(honest(path, seq), lie))
    found = checks(path, heads)
    # A low bit may vanish in what is learnt from it, unless an entry says what it ends.
    assert found or lie == "a low bit"
    if place == "at the head":
        assert "noted head" in found


@pytest.mark.parametrize("seq", [11, 21, 10_000])
def test_an_honest_archive_agrees_with_heads_noted_before_it(path, tmp_path, seq):
    heads = noted(path)
    with AdaptiveCalibrator(path) as calibrator:
        before = next((c.called_at for c in calibrator.calls() if c.seq > seq), END)
        calibrator.archive(before, tmp_path / "old.jsonl")
        assert calibrator.audit(heads=heads) == []
        calibrator.record("m", 1, 2.0, called_at=END)
        more = [*heads, *calibrator.heads()]
        assert calibrator.audit(heads=more) == []
        calibrator.archive(at(110), tmp_path / "older.jsonl")  # an archive of an archive
        assert calibrator.audit(heads=more) == []
        calibrator.archive(END + timedelta(1), tmp_path / "all.jsonl")
        assert calibrator.audit(heads=more) == []
        calibrator.record("m", 1, 2.0)
        assert calibrator.audit(heads=more) == []
        for name in ("all.jsonl", "older.jsonl", "old.jsonl"):
            if (tmp_path / name).exists():
                calibrator.import_calls("ledger", tmp_path / name)
                assert calibrator.audit(heads=more) == []


def test_an_archived_entry_behind_the_noted_head_is_never_ok(path):
    heads = noted(path)
    entry = honest(path, heads[0].seq)
    forge(
        path,
        entry._replace(
            seq=entry.seq + 1, archived_head=os.urandom(32), archived_through=entry.seq + 1
        ),
    )
    assert checks(path, None) == set()
    assert checks(path, heads) == {"not checked"}


def test_heads_of_before_there_was_a_state_do_not_vouch_for_an_archived_entry(path, tmp_path):
    heads = [tuple(head)[:3] for head in noted(path)]
    assert checks(path, heads) == set()
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.archive(at(11), tmp_path / "old.jsonl")
        assert {f.check for f in calibrator.audit(heads=heads)} <= {"not checked"}
        calibrator.import_calls("ledger", tmp_path / "old.jsonl")
        assert calibrator.audit(heads=heads) == []
    forge(path, lied(honest(path, heads[0][1]), "coefficients"))
    assert checks(path, heads) == {"not checked"}


def test_a_state_of_another_head_is_found(path):
    (head,) = noted(path)
    other = head._replace(state="ab" * 32)
    with AdaptiveCalibrator(path) as calibrator:
        (finding,) = calibrator.audit(heads=[other])
        assert (finding.check, finding.seq) == ("noted head", head.seq)
        (finding,) = calibrator.audit(heads=[head, other])[:1]
        assert finding.check == "noted head"
        assert calibrator.audit(heads=[head._replace(state=head.state.upper())]) == []


def test_a_note_of_the_state_before_is_covered_by_the_head(tmp_path):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        some(calibrator, 0, 5)
        calibrator.reset("m")
        some(calibrator, 10, 5)
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(
            "UPDATE adjustments SET note = ? WHERE seq = 7", (f"state before: {'0' * 64}",)
        )
    assert checks(path, None) == {"head"}


def test_the_digest_of_a_state_is_pinned():
    """Heads that are saved hold it: it must never change."""
    state = Snapshot("ema.1", 0.15, 0.5, 8.0, 300.0, 1.25, 2.5, 3, None, 1_767_225_600_000_000)
    assert state_digest(state) == PINNED
    further = state._replace(rule="kalman.1", rule_state=struct.pack(">2d", 1.0, 2.0))
    assert state_digest(further) != PINNED
