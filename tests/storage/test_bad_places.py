"""Whatever lies where a ledger should: a typed error with a sentence, and nothing is touched.

Each case is met by reading and by recording, with a calibrator of its own or by a command, and
afterwards every byte and every file is as it was.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import traceback
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.cli.main import main
from calibration_ledger.errors import (
    CalibrationLedgerError,
    InvalidInputError,
    LedgerCorruptError,
    LedgerError,
    LedgerNotFoundError,
    LedgerOutdatedError,
    LedgerPathError,
    LedgerTooNewError,
    NotALedgerError,
)
from calibration_ledger.storage import contents
from calibration_ledger.storage.migrate import current_revision, upgrade_file
from calibration_ledger.storage.place import find_place
from calibration_ledger.storage.schema import REVISION
from support.newer_program import TOMORROW
from support.pairs import each_once

MODEL = "timmy:v0.1-q4"

READING = {
    "predict": lambda calibrator: calibrator.predict(MODEL, 10, 5),
    "stats": lambda calibrator: calibrator.all_stats(),
    "calls": lambda calibrator: list(calibrator.calls()),
    "replay": lambda calibrator: calibrator.replay(0.5),
    "audit": lambda calibrator: calibrator.audit(),
    "heads": lambda calibrator: calibrator.heads(),
}
WRITING = {
    "record": lambda calibrator: calibrator.record(MODEL, 10, 100.0, completion_tokens=5),
    "record_many": lambda calibrator: calibrator.record_many(
        [{"model": MODEL, "prompt_tokens": 1, "completion_tokens": 1, "actual_ms": 1.0}]
    ),
    "reset": lambda calibrator: calibrator.reset(MODEL),
    "recalibrate": lambda calibrator: calibrator.recalibrate(0.5),
}
USES = READING | WRITING
COMMANDS = {
    f"calib {' '.join(args[:2])}": args
    for args in (
        ("predict", MODEL, "--prompt-tokens=1"),
        ("record", MODEL, "--prompt-tokens=5", "--actual-ms=5"),
        *(("stats",), ("history",), ("replay",), ("audit",), ("db", "upgrade"), ("db", "check")),
        ("recalibrate", MODEL, "--alpha=0.3"),
        ("reset", "--all", "--yes"),
        *(("import", "csv", "-"), ("export", "jsonl")),
    )
}
ALL = [*USES, *COMMANDS]
EITHER = ("predict", "record")
"""One that reads and one that writes: where there is no file to open, all go the same way."""


def snapshot(folder: Path) -> dict[str, object]:
    """Every file below a folder with its bytes; what is no file, by its kind.

    SQLite leaves an empty log and its index beside whatever says that it has one.
    """
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else "no file"
    for name in [name for name in found if name.endswith("-wal")]:
        if found[name] == b"":
            found.pop(name)
            found.pop(name.replace("-wal", "-shm"), None)
    return found


def refuse(path, error: type[CalibrationLedgerError], use: str) -> str:
    """Use it, which must be refused with this error; gives the sentence."""
    if use in COMMANDS:
        lines = "model,prompt_tokens,completion_tokens,actual_ms\ntiny,1,2,3\n"
        args = ["--ledger", str(path), *COMMANDS[use]]
        done = CliRunner().invoke(main, args, input=lines, catch_exceptions=False)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        assert str(path) in done.stderr
        return done.stderr
    with pytest.raises(error) as caught, AdaptiveCalibrator(path, timeout_s=1.0) as calibrator:
        USES[use](calibrator)
    sentence = str(caught.value)
    assert sentence[-1] == "."
    assert ": " in sentence or ". " in sentence, "what was wrong, and what to do"
    return sentence


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> bytes:
    """The bytes of a ledger of some pages, none of them unused."""
    folder = tmp_path_factory.mktemp("template")
    path = folder / "whole.db"
    with AdaptiveCalibrator(folder / "calls.db") as calibrator:
        for i in range(60):
            calibrator.record(
                f"m{i % 3}", 10 + i, 100.0 + i, completion_tokens=i, request_id=f"r{i}"
            )
        assert calibrator.audit() == []
        calibrator.backup(path)
    execute(path, "PRAGMA journal_mode=WAL")  # as a ledger that was written last by the program
    return path.read_bytes()


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


TEXTS = {
    "one byte": b"x",
    "tiny text": b"hello",
    "tiny text with a line": b"hi\n",
    "99 bytes": b"y" * 99,
    "100 bytes": b"y" * 100,
    "a page of text": b"z" * 4096,
    "large text": b"not a ledger, whatever it is called\n" * 20_000,
    "JSON state": json.dumps({"version": 1, "saved_at": 1.0, "models": []}).encode(),
    "zeros": bytes(512),
    "many zeros": bytes(100_000),
    "noise": random.Random(3).randbytes(50_000),
    "half a header": b"SQLite format 3\0",
    "a header and noise": b"SQLite format 3\0" + random.Random(4).randbytes(5_000),
    "a header and zeros": b"SQLite format 3\0" + bytes(8_176),
}


@pytest.mark.parametrize(("kind", "use"), each_once(TEXTS, ALL))
def test_a_file_of_something_else_is_refused_and_not_touched(tmp_path, kind, use) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(TEXTS[kind])
    sentence = refuse(path, LedgerError, use)
    assert "not touched" in sentence or "damaged" in sentence
    assert snapshot(tmp_path) == {"calls.db": TEXTS[kind]}


@pytest.mark.parametrize("use", EITHER)
def test_a_folder_is_refused_with_a_file_to_name(tmp_path, use) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert f"such as {folder / 'ledger.db'}" in refuse(folder, LedgerPathError, use)
    assert snapshot(tmp_path) == {"folder": "no file"}


@pytest.mark.parametrize("use", [*EITHER, *COMMANDS])
def test_a_missing_folder_is_refused_with_the_command_that_makes_it(tmp_path, use) -> None:
    path = tmp_path / "missing" / "calls.db"
    assert f"mkdir -p {path.parent}" in refuse(path, LedgerPathError, use)
    assert snapshot(tmp_path) == {}


@pytest.mark.parametrize("use", [*EITHER, *COMMANDS])
def test_a_path_through_a_file_is_refused(tmp_path, use) -> None:
    (tmp_path / "file").write_text("x")
    assert "a part of its path is a file" in refuse(
        tmp_path / "file/calls.db", LedgerPathError, use
    )
    assert snapshot(tmp_path) == {"file": b"x"}


@pytest.mark.parametrize("use", EITHER)
def test_a_link_to_nothing_is_refused(tmp_path, use) -> None:
    (tmp_path / "calls.db").symlink_to(tmp_path / "gone.db")
    assert "mend it" in refuse(tmp_path / "calls.db", LedgerPathError, use)
    assert snapshot(tmp_path) == {"calls.db": str(tmp_path / "gone.db")}


@pytest.mark.parametrize("use", EITHER)
def test_links_in_a_circle_are_refused(tmp_path, use) -> None:
    (tmp_path / "a.db").symlink_to(tmp_path / "b.db")
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    refuse(tmp_path / "a.db", LedgerPathError, use)
    assert len(snapshot(tmp_path)) == 2


@pytest.mark.parametrize("use", EITHER)
def test_a_name_too_long_for_the_file_system_is_refused(tmp_path, use) -> None:
    refuse(tmp_path / ("x" * 5000), LedgerPathError, use)
    refuse(tmp_path / ("x" * 254 + ".db"), LedgerPathError, use)
    assert snapshot(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("use", EITHER)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, use) -> None:
    os.mkfifo(tmp_path / "calls.db")
    assert "no ordinary file" in refuse(tmp_path / "calls.db", LedgerPathError, use)
    assert snapshot(tmp_path) == {"calls.db": "no file"}


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="there are no such devices")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
@pytest.mark.parametrize("use", EITHER)
def test_a_device_is_refused(use, device) -> None:
    assert "no ordinary file" in refuse(device, LedgerPathError, use)


FOREIGN = {
    "other tables": ("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)",),
    "a table of ours": ("CREATE TABLE calls (id INTEGER)", "CREATE TABLE other (id INTEGER)"),
    "alembic's own": (
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('4f2d9c')",
        "CREATE TABLE users (id INTEGER)",
    ),
    "alembic's own, numbered": (
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('0007')",
        "CREATE TABLE users (id INTEGER)",
    ),
    "alembic's alone": (
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('4f2d9c')",
    ),
    "empty, with another's mark": ("PRAGMA application_id = 252006673",),
    "empty, with another's version": ("PRAGMA user_version = 3",),
    "a name with a quote": ('CREATE TABLE "it\'s; DROP TABLE x" (id INTEGER)',),
}


@pytest.mark.parametrize(("kind", "use"), each_once(FOREIGN, [*ALL, "current"]))
def test_a_database_of_something_else_is_refused_and_not_touched(tmp_path, kind, use) -> None:
    path = tmp_path / "calls.db"
    execute(path, *FOREIGN[kind])
    before = snapshot(tmp_path)
    if use in ALL:
        sentence = refuse(path, NotALedgerError, use)
    else:
        with pytest.raises(NotALedgerError) as caught:
            current_revision(find_place(path), 1.0)
        sentence = str(caught.value)
    assert "something else" in sentence
    assert "not touched" in sentence
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("data", [*TEXTS.values(), b"SQLite format 3\0" + b"x" * 4080])
def test_what_is_no_database_is_not_upgraded_and_gets_no_lock_file(tmp_path, data) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(data)
    with pytest.raises(LedgerError, match="not touched"):
        upgrade_file(find_place(path), 1.0)
    assert snapshot(tmp_path) == {"notes.txt": data}


LACKING = ("calibrations", "adjustments", "call_details", "models", "alembic_version")


@pytest.mark.parametrize("table", LACKING)
def test_a_ledger_that_lost_a_table_is_refused(tmp_path, template, table) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(template)
    execute(path, "DROP VIEW readable_calls", f"DROP TABLE {table}")
    before = snapshot(tmp_path)
    for use in USES:
        refuse(path, NotALedgerError, use)
    assert snapshot(tmp_path) == before


REVISIONS = {
    "newer": (
        f"UPDATE alembic_version SET version_num = '{TOMORROW}'",
        LedgerTooNewError,
        TOMORROW,
    ),
    "much newer": ("UPDATE alembic_version SET version_num = '9999'", LedgerTooNewError, "9999"),
    "never was": ("UPDATE alembic_version SET version_num = '0000'", NotALedgerError, "ever wrote"),
    "no number": ("UPDATE alembic_version SET version_num = 'abc'", LedgerError, "abc"),
    "no digit": ("UPDATE alembic_version SET version_num = '\u00b2'", LedgerError, "\u00b2"),
    "huge": (f"UPDATE alembic_version SET version_num = '{'9' * 5000}'", LedgerError, "999"),
    "a blob": ("UPDATE alembic_version SET version_num = x'00ff'", LedgerError, ""),
    "an integer": ("UPDATE alembic_version SET version_num = 7", LedgerError, "7"),
    "none": ("DELETE FROM alembic_version", NotALedgerError, "no revision"),
    "two": (f"INSERT INTO alembic_version VALUES ('{TOMORROW}')", NotALedgerError, "no revision"),
}


@pytest.mark.parametrize(("kind", "use"), each_once(REVISIONS, ALL))
def test_a_ledger_of_another_revision_is_refused(tmp_path, template, kind, use) -> None:
    statement, error, part = REVISIONS[kind]
    path = tmp_path / "calls.db"
    path.write_bytes(template)
    execute(path, statement)
    before = snapshot(tmp_path)
    assert part in refuse(path, error, use)
    after = snapshot(tmp_path)
    if use == "calib db upgrade":  # it locks what seems to be a ledger, and only then looks closer
        after.pop("calls.db.lock", None)
    assert after == before


@pytest.mark.parametrize("use", EITHER)
def test_an_older_ledger_is_refused_with_what_upgrades_it(
    tmp_path, template, monkeypatch, use
) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(template)
    monkeypatch.setattr(contents, "REVISION", TOMORROW)  # a program of tomorrow
    before = snapshot(tmp_path)
    assert f"`calib --ledger {path} db upgrade`" in refuse(path, LedgerOutdatedError, use)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", ["newer", "older"])
def test_both_revisions_are_named_and_kept(tmp_path, template, monkeypatch, kind) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(template)
    if kind == "newer":
        execute(path, REVISIONS["newer"][0])
        revisions, error = (TOMORROW, REVISION), LedgerTooNewError
    else:
        monkeypatch.setattr(contents, "REVISION", TOMORROW)
        revisions, error = (REVISION, TOMORROW), LedgerOutdatedError
    with pytest.raises(error) as caught:
        AdaptiveCalibrator(path)
    assert (caught.value.found, caught.value.expected) == revisions
    assert all(revision in str(caught.value) for revision in revisions)


def test_a_newer_ledger_need_not_have_every_table_of_today(tmp_path, template) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(template)
    execute(
        path,
        f"UPDATE alembic_version SET version_num = '{TOMORROW}'",
        "DROP VIEW readable_calls",
        "DROP TABLE call_details",
    )
    before = snapshot(tmp_path)
    for use in USES:
        refuse(path, LedgerTooNewError, use)
    with pytest.raises(LedgerTooNewError):
        upgrade_file(find_place(path), 1.0)
    assert current_revision(find_place(path), 1.0) == TOMORROW
    assert snapshot(tmp_path) == before


def test_a_revision_that_never_was_is_not_upgraded_nor_backed_up(tmp_path, template) -> None:
    path = tmp_path / "calls.db"
    path.write_bytes(template)
    execute(path, "UPDATE alembic_version SET version_num = '0000'")
    before = snapshot(tmp_path)
    with pytest.raises(NotALedgerError, match="0000, which no calibration-ledger ever wrote"):
        upgrade_file(find_place(path), 1.0)
    assert snapshot(tmp_path) == before


def test_a_truncated_ledger_is_refused_at_any_length_and_not_touched(tmp_path, template) -> None:
    """Only what is cut to nothing is a ledger that is not made yet."""
    path = tmp_path / "calls.db"
    pages = [n * 4096 for n in range(1, len(template) // 4096)]
    lengths = {2, 5, 15, 16, 99, 100, 511, 512, 1024, 4095, 4097}
    lengths |= {*pages, *(n + 1 for n in pages[:-1]), *(n - 100 for n in pages)}
    rng = random.Random(5)
    lengths |= {rng.randrange(2, pages[-1]) for _ in range(20)}
    turns = cycle([("predict", "audit"), ("record",)])
    for length in sorted(lengths):
        path.write_bytes(template[:length])
        for use in next(turns):
            with pytest.raises((LedgerCorruptError, NotALedgerError)):  # noqa: PT012 - opening or using
                with AdaptiveCalibrator(path, timeout_s=1.0) as calibrator:
                    findings = USES[use](calibrator)
                # An audit may also give the damage as findings.
                assert use == "audit", length
                assert findings, length
                raise LedgerCorruptError
            assert snapshot(tmp_path) == {"calls.db": template[:length]}, (length, use)


def test_an_audit_finds_that_the_last_page_was_cut(tmp_path, template) -> None:
    """SQLite takes the rest of the page for zeros, which may be what stood there, or nearly."""
    path = tmp_path / "calls.db"
    for missing in (1, 100, 500, 4000, 4095):
        path.write_bytes(template[:-missing])
        with suppress(LedgerCorruptError), AdaptiveCalibrator(path) as calibrator:
            found = calibrator.audit()
            assert "storage" in {finding.check for finding in found}, missing


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.stress)])
def test_a_flipped_byte_of_the_header_never_ends_in_anything_but_an_error_or_a_result(
    tmp_path, template, thorough
) -> None:
    """One use for each byte, by turns; under `stress` all of them."""
    turns = cycle(READING)
    for offset in range(100):
        folder = tmp_path / str(offset)
        folder.mkdir()
        path = folder / "calls.db"
        for mask in (0x01, 0xFF) if thorough else (0x01 if offset % 2 else 0xFF,):
            flipped = bytearray(template)
            flipped[offset] ^= mask
            path.write_bytes(flipped)
            for use in READING if thorough else [next(turns)]:
                with (
                    suppress(CalibrationLedgerError),
                    AdaptiveCalibrator(path, timeout_s=0.2) as calibrator,
                ):
                    READING[use](calibrator)
                assert path.read_bytes() == flipped, (offset, mask, use)
            assert set(snapshot(folder)) <= {"calls.db", "calls.db-wal", "calls.db-shm"}
            for beside in ("calls.db-wal", "calls.db-shm"):
                (folder / beside).unlink(missing_ok=True)


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.stress)])
def test_recording_into_a_ledger_with_a_flipped_header_records_or_changes_nothing(
    tmp_path, template, step
) -> None:
    for offset in range(0, 100, step):
        folder = tmp_path / str(offset)
        folder.mkdir()
        path = folder / "calls.db"
        flipped = bytearray(template)
        flipped[offset] ^= 0xFF
        path.write_bytes(flipped)
        recorded = False
        with (
            suppress(CalibrationLedgerError),
            AdaptiveCalibrator(path, timeout_s=0.2) as calibrator,
        ):
            calibrator.record("m0", 10, 100.0, completion_tokens=5, request_id="new")
            recorded = True
            assert calibrator.get_stats("m0")["sample_count"] == 21
        assert recorded or path.read_bytes() == flipped, offset


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a\0b.db",
        b"calls.db",
        b"postgresql://me:S3cret@host/db",
        "postgresql://me:S3cret@host/d\0b",
        7,
        1.5,
        True,
        ["calls.db"],
        object(),
        "\ud800.db",
        "~nobody-of-this-name/calls.db",
    ],
)
def test_what_can_be_no_name_of_a_ledger_is_refused(name) -> None:
    with pytest.raises(InvalidInputError) as caught:
        AdaptiveCalibrator(name)
    assert "S3cret" not in "".join(traceback.format_exception(caught.value))


URLS = [
    "postgresql+psycopg2://me:S3cret@host/db",
    "mysql://me:S3cret@host/db",
    "oracle://me:S3cret@host/db?password=S3cret",
    "nonsense://me:S3cret@host/db",
    "postgresql://me:S3cret@host:port/db",
    "postgresql://me:S3cret@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?user=me&password=S3cret",
    "postgresql+psycopg://me:S3cret@host.invalid/db",
    "postgresql+psycopg://me:S3cret@[::1/db",
    "sqlite://me:S3cret@host/db",
    "sqlite:////tmp/x.db?password=S3cret",
    "postgresql://me:S3c@ret@127.0.0.1:1/db",
    "postgresql://me@127.0.0.1:1/db?Password=S3cret",
    "postgresql://me@127.0.0.1:1/db?passwd=S3cret",
    "postgresql://me@127.0.0.1:1/db?pasword=S3cret",
    "postgresql://127.0.0.1:1/db?user=me&options=-c%20x.password%3DS3cret",
    "postgresql:///db?host=me:S3cret@127.0.0.1",
    # Mistyped, and no paths either:
    "postgresql:/me:S3cret@host/db",
    "postgresql+psycopg//me:S3cret@host/db",
    "postgresql+psycopg:me:S3cret@host/db",
    "PostgreSQL:S3cret",
    " 'postgres:/S3cret",
    "//me:S3cret@host/db",
    "me:S3cret@host/db",
    "sqlite:/S3cret.db",
    # Readable, but a part that is shown is none:
    "postgresql+psycopg:///me:S3cret@host.invalid/db",
    "postgresql+psycopg://me:x@127.0.0.1:1/db;password=S3cret",
    "postgresql+psycopg://127.0.0.1:1/db&password=S3cret",
    "postgresql+psycopg://127.0.0.1:1/db%26password%3DS3cret",
    "postgresql+psycopg://127.0.0.1:1/db#password=S3cret",
    "postgresql+psycopg://127.0.0.1:1/db?dbname=host=127.0.0.1%20password=S3cret%20port=1",
    "postgresql+psycopg://127.0.0.1:1/db?user=me:S3cret",
    "postgresql+psycopg://me%3AS3cret@127.0.0.1:1/db",
    "postgresql+psycopg://me;password=S3cret@127.0.0.1:1/db",
    "postgresql+psycopg://127.0.0.1;password=S3cret/db",
    "postgresql+psycopg://127.0.0.1:1;password=S3cret/db",
    "postgresql+psycopg://127.0.0.1:1/db?connect_timeout=1;password=S3cret",
    "postgresql+psycopg://127.0.0.1:1/db?port=1%26password%3DS3cret",
    "postgresql+psycopg://127.0.0.1:1/db?sslmode=prefer;sslpassword=S3cret",
    "postgresql+psycopg://127.0.0.1:1/db?host=127.0.0.1%20password=S3cret",
    "postgresql+psycopg://me/x:S3cret@127.0.0.1:1/db",
    "POSTGRESQL+PSYCOPG://me:S3cret@127.0.0.1:1/db",
    "Postgresql://me:S3cret@127.0.0.1:1/db",
    "jdbc:postgresql://127.0.0.1:1/db?user=me&password=S3cret",
    "  postgresql+psycopg://me:S3cret@127.0.0.1:1/db\r\n",
    "postgresql+psycopg://me:S3cret@127.0.0.1:1/db\npassword=S3cret",
    "postgresql+psycopg://127.0.0.1:1/db?passfile=/S3cret&sslpassword=S3cret",
    "postgresql+psycopg://me:S3cret@127.0.0.1:1/db?port=abc",
    "postgresql+psycopg://me:S3cret@/db?host=a&host=b&port=1&port=2&port=3",
    # Connection strings of libpq and others, and a line of .pgpass:
    "host=127.0.0.1 port=1 user=me password=S3cret",
    "HOST = 127.0.0.1 PASSWORD = 'S3cret'",
    "password=S3cret",
    "dbname=db host=/tmp password='S3 cret S3cret'",
    "service=db sslpassword=S3cret",
    "Server=db;Database=x;Uid=me;Pwd=S3cret",
    "PGPASSWORD=S3cret",
    "psql 'host=db password=S3cret'",
    "options='://' password=S3cret",
    "127.0.0.1:5432:db:me:S3cret",
    "127.0.0.1:1/db?user=me&password=S3cret",
    "~me:S3cret/db",
]


@pytest.mark.parametrize(
    "name", ["port", "user.db", "./password=x", "a=b.db", "my pass.db", "a:b", "pass/word.db"]
)
def test_a_file_may_have_such_a_name(name) -> None:
    assert find_place(name).path == Path.cwd() / name


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_never_in_what_is_told(url, monkeypatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    with (
        pytest.raises(CalibrationLedgerError) as caught,
        AdaptiveCalibrator(url, timeout_s=1.0) as calibrator,
    ):
        calibrator.record(MODEL, 1, 1.0)
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert "S3c" not in told.replace(url, "")  # pytest's own lines of this file may show it
    assert "S3c" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["me:pass@host.db", "postgresql:db", "postgres", "a@b:c", "oracle.db", "at 12:30 @home"]
)
def test_a_file_that_is_called_like_a_url_is_a_path_where_one_is_written_out(
    tmp_path, monkeypatch, name
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in (f"./{name}", str(tmp_path / name), Path(name)):
        assert find_place(text).path == tmp_path / name


def test_an_empty_ledger_file_may_also_be_one_that_another_process_is_just_making(
    tmp_path,
) -> None:
    path = tmp_path / "calls.db"
    execute(path, "PRAGMA journal_mode=WAL")
    assert path.stat().st_size > 0
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.predict(MODEL, 1).sample_count == 0
        with pytest.raises(LedgerNotFoundError, match="empty database"):
            calibrator.check_exists()
        calibrator.record(MODEL, 1, 1.0)
        assert calibrator.audit() == []


def test_what_a_downgrade_to_nothing_leaves_is_a_ledger_that_is_not_made_yet(tmp_path) -> None:
    path = tmp_path / "calls.db"
    execute(path, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.predict(MODEL, 1).sample_count == 0
        calibrator.record(MODEL, 1, 1.0)
        assert calibrator.audit() == []


# -- a log whose file is gone ---------------------------------------------------------------


@pytest.fixture(scope="module")
def left_by_the_dead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ledger whose process died: the calls are in the log."""
    folder = tmp_path_factory.mktemp("dead")
    program = (
        "import os, sys\n"
        "from calibration_ledger import AdaptiveCalibrator\n"
        "calibrator = AdaptiveCalibrator(sys.argv[1])\n"
        "for i in range(20): calibrator.record('m', i, 100.0)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, folder / "calls.db"], check=True)
    return folder


@pytest.fixture(params=["emptied", "removed"])
def log_alone(request: pytest.FixtureRequest, left_by_the_dead: Path, ledger_path: Path) -> Path:
    """Such a ledger, whose file was lost then."""
    shutil.copytree(left_by_the_dead, ledger_path.parent, dirs_exist_ok=True)
    ledger_path.rename(ledger_path.with_name("kept.db"))
    if request.param == "emptied":
        ledger_path.touch()
    return ledger_path


def test_a_log_whose_file_is_gone_is_never_deleted(log_alone: Path) -> None:
    log = Path(f"{log_alone}-wal")
    before = log.read_bytes()
    with pytest.raises(LedgerCorruptError, match="still holds calls that were recorded"):
        AdaptiveCalibrator(log_alone).record("m", 1, 1.0)
    for command in (["stats"], ["record", "m", "--prompt-tokens=1", "--actual-ms=1"]):
        done = CliRunner().invoke(main, ["--ledger", str(log_alone), *command])
        assert done.exit_code == 1
        assert "put the very file back" in done.output
    assert CliRunner().invoke(main, ["--ledger", str(log_alone), "db", "upgrade"]).exit_code == 1
    told = CliRunner().invoke(main, ["--ledger", str(log_alone), "doctor"])
    assert told.exit_code != 0
    assert "still holds calls" in " ".join(told.output.split())
    assert log.read_bytes() == before

    log_alone.with_name("kept.db").replace(log_alone)
    with AdaptiveCalibrator(log_alone) as calibrator:
        assert calibrator.get_stats("m")["sample_count"] == 20
        assert calibrator.audit() == []


def test_a_calibrator_that_is_open_does_not_make_a_ledger_over_such_a_log(
    log_alone: Path, tmp_path: Path
) -> None:
    aside = tmp_path / "aside"
    log = Path(f"{log_alone}-wal").rename(aside)
    log_alone.unlink(missing_ok=True)
    with AdaptiveCalibrator(log_alone) as calibrator:
        log.rename(f"{log_alone}-wal")
        with pytest.raises(LedgerCorruptError):
            calibrator.record("m", 1, 1.0)
        with pytest.raises(LedgerCorruptError):
            calibrator.predict("m", 1)


# -- two names of one file ------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_ledger_with_a_second_name_is_read_and_not_written(
    ledger_path: Path, durability: str
) -> None:
    """Each name has a log of its own, and SQLite knows nothing of the other."""
    second = ledger_path.with_name("second.db")
    with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
        calibrator.record("m", 1, 1.0)
    os.link(ledger_path, second)
    for name in (ledger_path, second):
        with AdaptiveCalibrator(name, durability=durability) as calibrator:
            with pytest.raises(LedgerPathError, match=r"second name.* --ledger .* db backup COPY`"):
                calibrator.record("m", 1, 1.0)
            assert calibrator.get_stats("m")["sample_count"] == 1
            assert calibrator.audit() == []
    second.unlink()
    with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
        calibrator.record("m", 1, 1.0)
        assert calibrator.get_stats("m")["sample_count"] == 2
        assert calibrator.audit() == []


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_a_second_name_that_comes_later_is_seen_at_the_next_call(
    ledger_path: Path, durability: str
) -> None:
    second = ledger_path.with_name("second.db")
    with AdaptiveCalibrator(ledger_path, durability=durability) as calibrator:
        calibrator.record("m", 1, 1.0)
        os.link(ledger_path, second)
        time.sleep(0.005)  # "normal" looks once in a millisecond
        for _ in range(2):
            with pytest.raises(LedgerPathError, match=r"second name.* --ledger .* db backup COPY`"):
                calibrator.record("m", 1, 1.0)
        second.unlink()
        time.sleep(0.005)
        calibrator.record("m", 1, 1.0)
        assert calibrator.get_stats("m")["sample_count"] == 2
        assert calibrator.audit() == []


def test_an_empty_file_with_a_second_name_is_not_made_a_ledger(ledger_path: Path) -> None:
    ledger_path.touch()
    os.link(ledger_path, ledger_path.with_name("second.db"))
    with AdaptiveCalibrator(ledger_path) as calibrator, pytest.raises(LedgerPathError):
        calibrator.record("m", 1, 1.0)
    assert CliRunner().invoke(main, ["--ledger", str(ledger_path), "db", "upgrade"]).exit_code == 1
    assert ledger_path.read_bytes() == b""
