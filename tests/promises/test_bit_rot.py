"""Bits that flip in the file of a ledger: what changes data, an index or the tables is told.

Whether a flip changed anything is decided without this project: all rows, and the text of the
tables, are read with sqlite3 alone before and after. Where they differ, or can no longer be read,
`calib audit` must have findings or refuse the file; where they do not, it may still object (to an
index, to a list of pages), or the bit was in no use.
"""

import random
import sqlite3
import struct
from collections import Counter
from contextlib import closing

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.main import main
from support.reference import TABLES

OUTCOMES = {0: "nothing", 1: "refused", 3: "found"}
HEADER = 100
"""Bytes before the first page's own header."""


@pytest.fixture(scope="module", name="sound")
def _sound(tmp_path_factory):
    """The file of a ledger with every kind of entry, closed and complete, and some free pages."""
    path = tmp_path_factory.mktemp("template") / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        for i in range(0, 120, 40):
            calibrator.record_many(call(j) for j in range(i, i + 40))
            calibrator.recalibrate(0.2 + i / 200, model="m")
            calibrator.reset("n")
        assert calibrator.audit() == []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE gone (data BLOB)")
        connection.execute("INSERT INTO gone VALUES (randomblob(10000))")
        connection.execute("DROP TABLE gone")
    assert audited(path) == "nothing"
    return path.read_bytes()


def call(i):
    request_id = f"request-{i}" if i % 2 else None
    details = {"ttft_ms": 1.5 * i} if i % 3 == 0 else None
    outcome = "timeout" if i % 10 == 7 else "ok"
    numbers = (10 * i, 5 * i + 1, 300.0 + 77 * i)
    return Call("mn"[i % 4 == 0], *numbers, None, request_id, details, outcome=outcome)


def audited(path):
    """What `calib audit` makes of a file."""
    result = CliRunner().invoke(main, ["--ledger", str(path), "audit"], catch_exceptions=False)
    assert result.exit_code in OUTCOMES, result.output
    if result.exit_code == 1:
        assert result.stderr.startswith("Error: "), result.stderr
        assert result.stderr.count("\n") == 1
    return OUTCOMES[result.exit_code]


def contents(path):
    """Every row with the types and the bits of its values, and what the tables are."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        found = {}
        for table in (*TABLES, "alembic_version"):
            rows = connection.execute(f"SELECT * FROM {table} NOT INDEXED").fetchall()
            found[table] = sorted([tuple(map(exact, row)) for row in rows], key=repr)
        schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        found["schema"] = sorted(
            [tuple(b" ".join((text or b"").split()) for text in row) for row in schema], key=repr
        )
        return found


def exact(value):
    return type(value).__name__, struct.pack(">d", value) if isinstance(value, float) else value


def change(path, before):
    """What became of the contents."""
    try:
        after = contents(path)
    except (sqlite3.Error, UnicodeDecodeError):  # the second of a name in SQLite's own message
        return "unreadable"
    if after == before:
        return "the same"
    return "schema" if {**after, "schema": before["schema"]} == before else "data"


def flipped(sound, bit, path):
    damaged = bytearray(sound)
    damaged[bit // 8] ^= 1 << bit % 8
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    path.write_bytes(damaged)
    return path


def flip(sound, path, count, seed):
    """How often which change had which outcome; a change that goes unnoticed fails."""
    path.write_bytes(sound)
    before = contents(path)
    rng = random.Random(seed)
    outcomes = Counter()
    for bit in (rng.randrange(8 * len(sound)) for _ in range(count)):
        became = change(flipped(sound, bit, path), before)
        outcome = audited(path)
        assert became == "the same" or outcome != "nothing", f"byte {bit // 8}, bit {bit % 8}"
        outcomes[became, outcome] += 1
    return outcomes


def test_flipped_bits_that_change_anything_are_found_or_refused(sound, tmp_path):
    outcomes = flip(sound, tmp_path / "calls.db", 75, seed=1)
    assert {became for became, _ in outcomes} == {"the same", "data", "schema", "unreadable"}


@pytest.mark.stress
@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_flipped_bits_that_change_anything_are_found_or_refused(sound, tmp_path, seed):
    outcomes = flip(sound, tmp_path / "calls.db", 1000, seed)
    for (became, outcome), count in sorted(outcomes.items()):
        print(f"{count:5} flips: contents {became}, audit: {outcome}")


# -- where no row is hit --------------------------------------------------------------------


def page_of(sound, path, name):
    """The first and the last byte of the cells on the root page of a table or an index."""
    path.write_bytes(sound)
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)
        ).fetchone()
    size = page_size(sound)
    start = (number - 1) * size
    (content,) = struct.unpack(">H", sound[start + 5 : start + 7])
    return start + content, start + size - 1


def page_size(sound):
    return struct.unpack(">H", sound[16:18])[0]


@pytest.mark.parametrize("name", ["sqlite_autoindex_models_1", "ix_call_details_request_key"])
def test_a_bit_of_an_index_is_found_though_every_row_is_there(sound, tmp_path, name):
    path = tmp_path / "calls.db"
    first, last = page_of(sound, path, name)
    before = contents(path)
    rng = random.Random(2)
    for _ in range(25):
        bit = rng.randint(8 * first, 8 * last + 7)
        assert change(flipped(sound, bit, path), before) in {"the same", "unreadable"}
        assert audited(path) != "nothing", f"byte {bit // 8}, bit {bit % 8}"


def test_the_list_of_free_pages_is_checked_and_what_lies_on_them_is_nobodys(sound, tmp_path):
    path = tmp_path / "calls.db"
    path.write_bytes(sound)
    before = contents(path)
    size = page_size(sound)
    trunk, count = struct.unpack(">II", sound[32:40])
    assert count >= 2
    start = (trunk - 1) * size
    following, leaves, leaf = struct.unpack(">III", sound[start : start + 12])
    assert (following, leaves) == (0, count - 1)
    listed = [8 * 32 + 31, 8 * 36 + 31, 8 * start + 31, 8 * (start + 4) + 31, 8 * (start + 8) + 31]
    for bit in listed:
        assert change(flipped(sound, bit, path), before) in {"the same", "unreadable"}
        assert audited(path) != "nothing", f"byte {bit // 8}, bit {bit % 8}"
        if bit < 8 * start:  # the list itself, which `calib doctor` looks at as well
            doctor = CliRunner().invoke(main, ["--ledger", str(path), "doctor"])
            assert doctor.exit_code == 1
            assert "freelist" in doctor.stdout
    for bit in (8 * (start + size // 2), 8 * (leaf - 1) * size, 8 * leaf * size - 1):
        assert change(flipped(sound, bit, path), before) == "the same"
        assert audited(path) == "nothing"


@pytest.mark.parametrize("page", [2, 5, 9])
def test_a_page_in_use_that_is_listed_as_free_is_found(sound, tmp_path, page):
    """The next call that needs a page would be written over it, and every row is there yet."""
    path = tmp_path / "calls.db"
    trunk, _ = struct.unpack(">II", sound[32:40])
    leaf = (trunk - 1) * page_size(sound) + 8
    path.write_bytes(sound[:leaf] + struct.pack(">I", page) + sound[leaf + 4 :])
    with AdaptiveCalibrator(path) as calibrator:
        findings = calibrator.audit()
    assert {finding.check for finding in findings} == {"storage"}
    assert any(f"2nd reference to page {page}" in finding.found for finding in findings)


def test_no_bit_of_the_files_header_crashes_anything(sound, tmp_path):
    path = tmp_path / "calls.db"
    path.write_bytes(sound)
    before = contents(path)
    for bit in range(0, 8 * HEADER, 7):
        became = change(flipped(sound, bit, path), before)
        assert audited(path) != "nothing" or became == "the same", f"byte {bit // 8}, bit {bit % 8}"
