"""Events: their digest, what each must hold, and the name that a file is noted by."""

import hashlib
import struct

import pytest

from calibration_ledger.core.entries import event_head, first_events_head
from calibration_ledger.core.events import (
    FILE_LENGTH_MAX,
    FORMAT_LENGTH_MAX,
    Events,
    event_faults,
    file_of,
    import_event,
    models_of,
    upgrade_event,
)

IMPORT = import_event("logs/calls.csv", "csv", "3f2a9c01d4e7", 2, ["b", "a"], 5)._replace(seq=1)
UPGRADE = upgrade_event("0005", "0007", "1.2.3", 7)._replace(seq=2)


def chained(*entries):
    head = first_events_head()
    for entry in entries:
        head = event_head(head, entry)
    return Events(entries, len(entries), head)


def test_the_digest_of_an_event_never_changes():
    texts = ["3f2a9c01d4e7", "calls.csv", "csv", "2", '["a","b"]', None, None, None]
    entry = struct.pack(">Bqq", 1, 1, 5) + b"".join(
        b"\0" if text is None else struct.pack(">BI", 1, len(text)) + text.encode()
        for text in texts
    )
    first = hashlib.sha256(b"calibration-ledger/1\0events").digest()
    assert event_head(first_events_head(), IMPORT) == hashlib.sha256(first + entry).digest()


def test_sound_events_have_no_findings():
    assert list(chained(IMPORT, UPGRADE).findings()) == []
    assert list(Events().findings()) == []


@pytest.mark.parametrize(
    ("events", "check"),
    [
        (chained(IMPORT, UPGRADE)._replace(entries=(IMPORT,)), "sequence"),
        (chained(IMPORT, UPGRADE)._replace(entries=(UPGRADE,)), "sequence"),
        (chained(IMPORT)._replace(last_seq=2), "sequence"),
        (chained(IMPORT)._replace(head=bytes(32)), "head"),
        (chained(IMPORT)._replace(head=None), "head"),
        (chained(IMPORT)._replace(entries=(IMPORT._replace(calls=3),)), "head"),
        (chained(IMPORT)._replace(entries=(IMPORT._replace(recorded_at=6),)), "head"),
        (chained(IMPORT)._replace(entries=(IMPORT._replace(calls="two"),)), "entry"),
    ],
)
def test_events_that_are_not_what_they_were_are_found(events, check):
    assert check in {finding.check for finding in events.findings()}


@pytest.mark.parametrize(
    "entry",
    [
        IMPORT._replace(kind="export"),
        IMPORT._replace(recorded_at=-1),
        IMPORT._replace(file=None),
        IMPORT._replace(file="x" * (FILE_LENGTH_MAX + 1)),
        IMPORT._replace(import_id=""),
        IMPORT._replace(calls=-1),
        IMPORT._replace(models="m"),
        IMPORT._replace(models="[1]"),
        IMPORT._replace(models='["b","a"]'),
        IMPORT._replace(version="1"),
        UPGRADE._replace(version=None),
        UPGRADE._replace(calls=0),
    ],
)
def test_an_event_that_no_program_wrote_has_a_fault(entry):
    assert list(event_faults(entry))
    assert list(event_faults(IMPORT)) == list(event_faults(UPGRADE)) == []


def test_only_imports_of_calls_go_with_the_history():
    whole = import_event("copy.jsonl", "ledger", None, 9, ["a"], 8)._replace(seq=3)
    last = import_event("more.csv", "csv", "77a908f52c21", 1, ["a"], 9)._replace(seq=4)
    events = chained(IMPORT, UPGRADE, whole, last)
    assert events.of_history() == [IMPORT, last._replace(seq=2)]
    assert events.lacks(events.of_history()) == []
    assert chained(IMPORT).lacks(events.of_history()) == [last._replace(seq=2)]


def test_models_that_are_too_many_are_not_listed():
    many = import_event("f", "csv", "i", 9, [f"model {i}" for i in range(1000)], 8)
    assert (many.models, models_of(many)) == (None, None)
    assert models_of(IMPORT) == ("a", "b")
    assert len(import_event("f", "x" * 99, "i", 9, "m", 8).format) == FORMAT_LENGTH_MAX
    assert list(event_faults(many._replace(seq=1))) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/me/calls.csv", "calls.csv"),
        ("calls.csv", "calls.csv"),
        ("C:\\Users\\me\\calls.csv", "calls.csv"),
        ("<stdin>", "<stdin>"),
        ("postgresql://me:secret@host:5432/phoenix?sslmode=require", "phoenix"),
        ("postgresql://me:secret@host", "postgresql URL"),
        ("a\x1b[2Jb\nc.csv", "a\\x1b[2Jb\\nc.csv"),
        ("x" * 300, "x" * FILE_LENGTH_MAX),
        ("", "<stream>"),
    ],
)
def test_a_file_is_noted_by_its_name_alone(name, shown):
    assert file_of(name) == shown
