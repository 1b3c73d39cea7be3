"""Whatever is in a file of another tool: calls, skips, or one typed error, and never a crash."""

import json
import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, CalibrationLedgerError

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.*"))

FEW, MANY = 6, 200
"""Damaged files of each sample."""

ODD = [
    *(None, True, False, 0, -1, 1, 1.5, -0.0, 2**31, 2**63, 2**64, 10**30, 1e308, 1e-308),
    *(float("nan"), float("inf"), "", "x", "1", "-1", "1e999", "null", "{}", "[]", "é\ud800", "\0"),
    *("2026-01-01", "2026-01-01T00:00:00", "9999-12-31T23:59:59Z", "0000-00-00", "x" * 5_000),
    *([], {}, [None], {"a": None}, [[]], [{}], {"model": 3}, {"": {"": []}}),
]


def places(value, found=()):
    """Where each value inside of a JSON value lies, as the keys that lead to it."""
    yield found
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        yield from places(item, (*found, key))


def replaced(value, place, odd, *, removed):
    """The same JSON with something odd at a place, or without what was there."""
    if not place:
        return odd
    first, *rest = place
    copy = value.copy()
    if removed and not rest:
        del copy[first]
    else:
        copy[first] = replaced(value[first], rest, odd, removed=removed)
    return copy


def values_of(text):
    decode = json.JSONDecoder().raw_decode
    text = text.lstrip("\ufeff").strip()
    while text:
        value, end = decode(text)
        yield value
        text = text[end:].lstrip()


def damaged_texts(text, rng, rounds):
    """The file with one thing wrong in it: a value, a member that is gone, a byte, its end."""
    data = text.encode()
    try:
        values = list(values_of(text))
    except ValueError:
        values = []
    for number in range(rounds):
        if values and number % 3:
            at = rng.randrange(len(values))
            place = rng.choice(list(places(values[at])))
            odd = replaced(values[at], place, rng.choice(ODD), removed=number % 3 == 2)
            changed = [*values[:at], odd, *values[at + 1 :]]
            yield "\n".join(map(json.dumps, changed)).encode()
        elif number % 2:
            yield data[: rng.randrange(len(data))]
        else:
            at = rng.randrange(len(data))
            yield data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def damaged_databases(script, rng, rounds, folder):
    """The database with one odd value in it, or without a column or a table."""
    for number in range(rounds):
        path = folder / f"{number}.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
            tables = [
                name
                for (name,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%(%'"
                    " AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE '%VIRTUAL%'"
                )
            ]
            table = rng.choice(tables)
            columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
            column = rng.choice(columns)
            with suppress(sqlite3.Error), connection:
                if number % 5 == 0:
                    connection.execute(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
                elif number % 11 == 0:
                    connection.execute(f'DROP TABLE "{table}"')
                else:
                    odd = rng.choice(ODD)
                    if isinstance(odd, list | dict):
                        odd = json.dumps(odd)
                    elif isinstance(odd, str):
                        odd = odd.encode("utf-8", "replace").decode()
                    elif isinstance(odd, int) and abs(odd) >= 2**63:
                        odd = float(odd)
                    connection.execute(f'UPDATE "{table}" SET "{column}" = ?', (odd,))
        yield path


@pytest.mark.parametrize("rounds", [FEW, pytest.param(MANY, marks=pytest.mark.stress)])
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_damaged_file_is_read_or_refused_and_never_a_crash(path, rounds, tmp_path):
    rng = random.Random(f"{path.name} {rounds}")
    named = path.name.partition(".")[0]
    if path.suffix == ".sql":
        files = damaged_databases(path.read_text(encoding="utf-8"), rng, rounds, tmp_path)
    else:
        files = damaged_texts(path.read_text(encoding="utf-8"), rng, rounds)
    file = tmp_path / "damaged"
    for number, found in enumerate(files):
        if isinstance(found, bytes):
            file.write_bytes(found)
            found = file  # noqa: PLW2901 - as a file
        kind = named if number % 4 else "auto"
        with AdaptiveCalibrator(":memory:") as calibrator:
            for skip_bad in (False, True):
                with suppress(CalibrationLedgerError):
                    calibrator.import_calls(kind, found, skip_bad=skip_bad, model="m")
            assert [one for one in calibrator.heads() if one.is_of_model] == [] or (
                calibrator.audit() == []
            )
