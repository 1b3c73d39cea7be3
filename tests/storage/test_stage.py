"""The rows of a file in order: by runs, by the database, and with rows that are there twice."""

import random

import pytest

from calibration_ledger.storage import stage
from calibration_ledger.storage.stage import StagedCalls


def rows_of(rng, count, *, models=3, spread=5, ids="mixed", repeats=0):
    """Rows as `add` takes them, in the order of a file whose times are out of order by `spread`."""
    rows = []
    for line in range(1, count + 1):
        has_id = ids == "all" or (ids == "mixed" and rng.random() < 0.5)
        is_timed = rng.random() < 0.9
        at = line * 10 + rng.randrange(-spread, spread + 1) * 10 if is_timed else 10**9
        given = f"id-{line}" if has_id else None
        content = None if has_id else f"{rng.getrandbits(128):032x}"
        details = rng.choice([None, '{"a":1}'])
        outcome = rng.choice([None, None, "timeout"])
        model = f"m{rng.randrange(models)}"
        numbers = (at, line % 7, line % 5, line / 3)
        rows.append((line, model, *numbers, given, details, outcome, content, is_timed))
    for _ in range(repeats):
        place = rng.randrange(len(rows))
        line, model, at, p, c, y, *rest = rows[rng.randrange(len(rows))]
        line = rows[place][0]
        rows[place] = (line, model, at, p, c, y + rng.choice([0, 0, 1]), *rest)
    return rows


def expected(rows, file):
    """The same by hand: (rows in order, how many are repeated, the lines that conflict)."""
    numbers, first, kept, repeated, conflicts = {}, {}, [], 0, []
    for line, model, at, p, c, y, own, details, outcome, content, is_timed in rows:
        given = own
        if own is None:
            numbers[content] = numbers.get(content, 0) + 1
            given = f"import:{'' if is_timed else file}{content}:{numbers[content]}"
        same = first.setdefault((model, given), (line, p, c, y, outcome))
        if same[0] == line:
            kept.append((line, model, at, p, c, y, outcome, given, details))
        elif same[1:] == (p, c, y, outcome):
            repeated += 1
        else:
            conflicts.append((line, same[0], model, given))
    return sorted(kept, key=lambda row: (row[1], row[2], row[0])), repeated, conflicts


@pytest.mark.parametrize("small", [0, 200, 700])
@pytest.mark.parametrize("repeats", [0, 1, 40])
@pytest.mark.parametrize("spread", [0, 3, 500])
@pytest.mark.parametrize("ids", ["all", "none", "mixed"])
def test_rows_come_in_order_and_once(monkeypatch, ids, spread, repeats, small):
    monkeypatch.setattr(stage, "_SMALL", small)
    monkeypatch.setattr(stage, "_RUN", 50)
    monkeypatch.setattr(stage, "_OPEN_MAX", 150)
    rng = random.Random(f"{ids} {spread} {repeats}")
    rows = rows_of(rng, 700, spread=spread, ids=ids, repeats=repeats)
    with StagedCalls() as staged:
        for start in range(0, len(rows), 20):
            staged.add(rows[start : start + 20])
        staged.settle("file:")
        kept, repeated, conflicts = expected(rows, "file:")
        assert sorted(staged.conflicts()) == conflicts
        pages = list(staged.pages(64))
        assert [tuple(row) for page in pages for row in page] == kept
        assert all(len(page) == 64 for page in pages[:-1])
        assert staged.repeated == repeated
        for page in pages:
            staged.keep(page[1:])
        assert list(staged.kept()) == [page[1:] for page in pages if page[1:]]


def test_a_few_rows_with_long_texts_are_no_small_file():
    row = (1, "m", 5, 1, 2, 3.0, "id", "x" * 4096, None, None, True)
    with StagedCalls() as staged:
        for start in range(0, 5_000, 1_000):
            staged.add(
                [(line, *row[1:6], f"{line}", *row[7:]) for line in range(start, start + 1000)]
            )
        staged.settle("")
        ((runs,),) = staged._execute("SELECT count(*) FROM runs")
        assert runs == 1
        assert sum(map(len, staged.pages(1_000))) == 5_000


def test_an_id_that_is_made_for_one_row_may_be_the_own_id_of_another():
    content = "0" * 32
    row = (1, "m", 5, 1, 2, 3.0, None, None, None, content, True)
    same = (2, "m", 5, 1, 2, 3.0, f"import:{content}:1", None, None, None, True)
    with StagedCalls() as staged:
        staged.add([row, same])
        staged.settle("")
        assert [call.line for page in staged.pages(10) for call in page] == [1]
        assert staged.repeated == 1


def test_rows_of_one_line_are_told_apart():
    row = (1, "m", 5, 1, 2, 3.0, "id", None, None, None, True)
    other = (1, "m", 5, 1, 2, 4.0, "id", None, None, None, True)
    with StagedCalls() as staged:
        staged.add([row, row, other])
        staged.settle("")
        assert len(list(staged.conflicts())) == 1
        assert len(next(staged.pages(10))) == 1
        assert staged.repeated == 1


def test_no_rows_give_no_pages():
    with StagedCalls() as staged:
        staged.add([])
        staged.settle("")
        assert (list(staged.pages(10)), list(staged.conflicts()), list(staged.kept())) == ([],) * 3
