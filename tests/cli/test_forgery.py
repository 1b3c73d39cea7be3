"""A past that was changed by hand, on both databases, as `calib audit` tells it.

First as anybody with a SQL shell does it: single rows. Then as an expert does it who has this
program's own code: predictions, calibration and heads are worked out anew, and the ledger explains
itself. That only heads can find that somebody noted before.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from calibration_ledger import AdaptiveCalibrator, Head
from calibration_ledger.core.entries import Adjustment, adjustment_head, call_head, first_head
from calibration_ledger.core.state import State
from calibration_ledger.rules import find_rule
from support.reference import digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


ELEVENTH = (
    "INSERT INTO calls SELECT ID, 11, called_at, 1, 1, 5, 5, NULL FROM calls WHERE seq = 2 AND MINE"
)
COLUMNS = "seq, called_at, prompt_tokens, completion_tokens, actual_ms, predicted_ms, outcome"


pytestmark = pytest.mark.both


@pytest.fixture(name="path")
def _path(ledger: str) -> str:
    """A ledger of two models with 8 calls each, a recalibration and a reset; the URL or path."""
    with AdaptiveCalibrator(ledger) as calibrator:
        fill(calibrator, "m")
        fill(calibrator, "n")
        calibrator.reset("n")
        assert calibrator.audit() == []
    return ledger


def fill(calibrator: AdaptiveCalibrator, model: str) -> None:
    """Eight calls, and a recalibration as entry 7."""
    for i in range(8):
        details = {"ttft_ms": 2.5 * i} if i == 3 else None
        calibrator.record(
            model,
            10 * i,
            300.0 + 77 * i,
            completion_tokens=5 * i + 1,
            request_id=f"r{i}",
            details=details,
        )
        if i == 4:
            calibrator.recalibrate(0.4, model=model)


class Shell:
    """A SQL shell on the ledger, whose constraints are switched off."""

    def __init__(self, ledger: str) -> None:
        is_server = "://" in ledger
        self.engine = sa.create_engine(
            ledger if is_server else f"sqlite:///{ledger}",
            poolclass=sa.NullPool,
            # A pooler's next client would meet the same server connection, and what it prepared.
            connect_args={"prepare_threshold": None} if is_server else {},
        )
        if self.engine.dialect.name == "sqlite":
            self.off = ["PRAGMA foreign_keys=OFF", "PRAGMA ignore_check_constraints=ON"]
        else:
            self.off = ["SET session_replication_role = replica"]

    def __call__(self, *statements: str | tuple[str, dict[str, Any]]) -> list[Any]:
        """Run statements in one transaction; gives the rows of the last."""
        rows: list[Any] = []
        with self.engine.connect() as connection:
            for text in self.off:
                connection.exec_driver_sql(text)
            for statement in statements:
                text, values = (statement, {}) if isinstance(statement, str) else statement
                result = connection.execute(sa.text(text), values)
                rows = list(result) if result.returns_rows else []
            connection.commit()
        return rows


@pytest.fixture(name="shell")
def _shell(path: str) -> Iterator[Shell]:
    shell = Shell(path)
    yield shell
    shell.engine.dispose()


def findings(run: Any, path: str, *more: object, exit_code: int = 3) -> set[tuple[Any, ...]]:
    """What `calib audit` finds: (model, seq, check)."""
    result = run("--ledger", path, "audit", "--json", *more)
    assert result.exit_code == exit_code, result.output
    return {(f["model"], f["seq"], f["check"]) for f in json.loads(result.stdout)["findings"]}


# Each of its own model: 1 opened, 2-6 calls, 7 recalibrated, 8-10 calls.
BY_HAND = {
    "a deleted call": (
        ["DELETE FROM calls WHERE MINE AND seq = 3"],
        {(4, "sequence"), (4, "prediction"), (10, "head")},
    ),
    "a deleted first call": (
        ["DELETE FROM calls WHERE MINE AND seq = 2"],
        {(3, "sequence"), (10, "head")},
    ),
    "a deleted opening": (
        ["DELETE FROM adjustments WHERE MINE AND seq = 1"],
        {(1, "opening")},
    ),
    "a deleted last call": (
        ["DELETE FROM calls WHERE MINE AND seq = 10"],
        {(10, "sequence"), (10, "calibration")},
    ),
    "a tail cut off with its numbers put right": (
        [
            "DELETE FROM calls WHERE MINE AND seq > 8",
            "UPDATE calibrations SET last_seq = 8, sample_count = 6 WHERE MINE",
        ],
        {(8, "calibration"), (8, "head")},
    ),
    "an inserted call": (
        [
            ELEVENTH,
        ],
        {(11, "sequence")},
    ),
    "a call put far behind the end": (
        [ELEVENTH.replace(" 11,", " 9223372036854775807,")],
        {(2**63 - 1, "sequence")},
    ),
    "a call that shares the seq of an adjustment": (
        [ELEVENTH.replace(" 11,", " 7,")],
        {(7, "sequence")},
    ),
    "an inserted call with its numbers put right": (
        [
            ELEVENTH,
            "UPDATE calibrations SET last_seq = 11, sample_count = sample_count + 1 WHERE MINE",
        ],
        {(11, "prediction"), (11, "head")},
    ),
    "two calls that changed places": (
        [
            "UPDATE calls SET seq = 99 WHERE MINE AND seq = 4",
            "UPDATE calls SET seq = 4 WHERE MINE AND seq = 5",
            "UPDATE calls SET seq = 5 WHERE MINE AND seq = 99",
        ],
        {(4, "prediction"), (5, "prediction"), (10, "head")},
    ),
    "an edited measurement": (
        ["UPDATE calls SET actual_ms = actual_ms + 1 WHERE MINE AND seq = 4"],
        {(5, "prediction"), (7, "recalibrated"), (10, "head")},
    ),
    "an edited time": (
        ["UPDATE calls SET called_at = called_at + 1 WHERE MINE AND seq = 4"],
        {(10, "head")},
    ),
    "a call made a time-out": (
        ["UPDATE calls SET outcome = 'timeout' WHERE MINE AND seq = 4"],
        {(5, "prediction"), (7, "recalibrated"), (10, "head")},
    ),
    "edited details": (
        ["""UPDATE call_details SET details = '{"ttft_ms"\\:1.0}' WHERE MINE AND seq = 5"""],
        {(10, "head")},
    ),
    "details that changed calls": (
        [
            "UPDATE call_details SET seq = 99 WHERE MINE AND seq = 4",
            "UPDATE call_details SET seq = 4 WHERE MINE AND seq = 5",
            "UPDATE call_details SET seq = 5 WHERE MINE AND seq = 99",
        ],
        {(10, "head")},
    ),
    "deleted details": (
        ["DELETE FROM call_details WHERE MINE AND seq = 5"],
        {(10, "head")},
    ),
    "invented details": (
        ["UPDATE call_details SET details = '{}' WHERE MINE AND seq = 4"],
        {(10, "head")},
    ),
    "an edited request id": (
        ["UPDATE call_details SET request_id = 'r9' WHERE MINE AND seq = 5"],
        {(5, "request key"), (10, "head")},
    ),
    "a recalibration that claims what no replay gives": (
        ["UPDATE adjustments SET base_overhead_ms = base_overhead_ms + 1 WHERE MINE AND seq = 7"],
        {(7, "recalibrated"), (8, "prediction"), (10, "head")},
    ),
    "an edited calibration": (
        ["UPDATE calibrations SET ms_per_prompt_token = 0.25 WHERE MINE"],
        {(10, "calibration")},
    ),
    "a deleted calibration": (
        ["DELETE FROM calibrations WHERE MINE"],
        {(None, "calibration")},
    ),
    "details of no call": (
        [
            "INSERT INTO call_details SELECT ID, 77, NULL, NULL, '{}'",
        ],
        {(77, "foreign row")},
    ),
}


def test_rows_changed_by_hand_are_found_where_they_are(
    run: Any, ledger: str, path: str, shell: Shell
) -> None:
    """Every case on a model of its own, and one that is left alone."""
    with AdaptiveCalibrator(ledger, durability="normal") as calibrator:
        for what in BY_HAND:
            fill(calibrator, what)
    for what, (statements, _) in BY_HAND.items():
        mine = f"(SELECT id FROM models WHERE model = '{what}')"
        shell(*(s.replace("MINE", f"model_id = {mine}").replace("ID", mine) for s in statements))
    found = findings(run, path)
    for what, (_, expected) in BY_HAND.items():
        for seq, check in expected:
            assert (None if check == "foreign row" else what, seq, check) in found, what
    assert {model for model, _, _ in found} == {*BY_HAND, None} - {"details of no call"}


@dataclass
class Forger:
    """Rewrites a model's history from any entry on, with all that was derived from it."""

    shell: Shell
    model: str

    def entries(self) -> list[Any]:
        """Its entries by seq: `Adjustment`s, and calls as lists in the digest's order."""
        where = "WHERE model_id = (SELECT id FROM models WHERE model = :model)"
        values = {"model": self.model}
        details = {
            seq: (request_id, text)
            for seq, request_id, text in self.shell(
                (f"SELECT seq, request_id, details FROM call_details {where}", values)
            )
        }
        calls = self.shell((f"SELECT {COLUMNS} FROM calls {where}", values))
        adjustments = self.shell(
            (f"SELECT {', '.join(Adjustment._fields)} FROM adjustments {where}", values)
        )
        found = [[*row, *details.get(row[0], (None, None))] for row in calls]
        return sorted([*found, *(Adjustment(*row) for row in adjustments)], key=lambda e: e[0])

    def rewrite(self, change: Callable[[list[Any]], object]) -> None:
        """Change entries, then work out everything behind the first of them anew."""
        entries = self.entries()
        change(entries)
        head, state, statements = first_head(self.model), None, []
        where = "WHERE model_id = (SELECT id FROM models WHERE model = :model)"
        for seq, found in enumerate(entries, 1):
            entry = found
            assert entry[0] == seq
            if isinstance(entry, Adjustment):
                if entry.kind == "recalibrated":
                    entry = self.claim(entries[: seq - 1], entry)
                state = State.from_snapshot(entry.snapshot)
                head = adjustment_head(head, entry)
                sets = ", ".join(f"{name} = :{name}" for name in Adjustment._fields)
                statements.append(
                    (
                        f"UPDATE adjustments SET {sets} {where} AND seq = :seq",
                        {**entry._asdict(), "model": self.model},
                    )
                )
                continue
            assert state is not None
            entry[5] = state.follow(*([value] for value in (*entry[1:5], entry[6])))[0]
            head = call_head(head, entry)
            statements.append(
                (
                    f"UPDATE calls SET actual_ms = :y, predicted_ms = :mine {where} AND seq = :seq",
                    {"y": entry[4], "mine": entry[5], "seq": seq, "model": self.model},
                )
            )
        assert state is not None
        live = {**state.snapshot()._asdict(), "last_seq": len(entries), "head": head}
        sets = ", ".join(f"{name} = :{name}" for name in live)
        behind = f"{where} AND seq > :last_seq"
        values = {**live, "model": self.model}
        self.shell(
            *((f"DELETE FROM {table} {behind}", values) for table in ("call_details", "calls")),
            (f"DELETE FROM adjustments {behind}", values),
            *statements,
            (f"UPDATE calibrations SET {sets} {where}", values),
        )

    @staticmethod
    def claim(before: list[Any], entry: Adjustment) -> Adjustment:
        """The recalibration as a replay of the changed history gives it."""
        rule = find_rule(entry.rule)
        state = None
        for earlier in before:
            if not isinstance(earlier, Adjustment):
                assert state is not None
                state.learn(*([value] for value in earlier[1:5]))
            elif earlier.kind != "recalibrated":
                state = State.from_snapshot(earlier.snapshot, rule, entry.alpha)
        assert state is not None
        return state.adjustment(entry.seq, entry.kind, entry.recorded_at, entry.note)


@pytest.fixture(name="heads")
def _heads(run: Any, path: str, tmp_path: Path) -> Path:
    """Heads that were noted before anybody forged anything."""
    heads = tmp_path / "heads.jsonl"
    assert run("--ledger", path, "audit", "--save-heads", heads).exit_code == 0
    return heads


def test_a_past_rewritten_by_an_expert_is_found_against_saved_heads(
    run: Any, path: str, shell: Shell, heads: Path
) -> None:
    def change(entries: list[Any]) -> None:
        entries[2][4] = 1.0  # a slow call was a quick one

    Forger(shell, "m").rewrite(change)
    # It explains itself: arithmetic, digests and all.
    assert findings(run, path, exit_code=0) == set()
    assert findings(run, path, "--heads", heads) == {("m", 10, "noted head")}
    with AdaptiveCalibrator(path) as calibrator:
        noted = [Head(**json.loads(line)) for line in heads.read_text().splitlines()]
        (finding,) = calibrator.audit(heads=noted)
        assert (finding.expected, finding.found) == (noted[0].digest, digest_of(path, "m"))
    # Calls that are recorded on top of it do not hide it.
    run("--ledger", path, "record", "m", "--prompt-tokens", 1, "--actual-ms", 5)
    assert findings(run, path, exit_code=0) == set()
    assert findings(run, path, "--heads", heads) == {("m", 10, "noted head")}
    result = run("--ledger", path, "audit", "--heads", heads)
    assert "m #10: noted head" in result.stdout


def test_a_tail_taken_away_by_an_expert_is_found_against_saved_heads(
    run: Any, path: str, shell: Shell, heads: Path
) -> None:
    def change(entries: list[Any]) -> None:
        del entries[8:]

    Forger(shell, "m").rewrite(change)
    assert findings(run, path, exit_code=0) == set()
    assert findings(run, path, "--heads", heads) == {("m", 10, "noted head")}
    assert "ends at entry 8" in run("--ledger", path, "audit", "--heads", heads).stdout


def test_a_model_taken_away_whole_is_found_against_saved_heads(
    run: Any, path: str, shell: Shell, heads: Path
) -> None:
    mine = "(SELECT id FROM models WHERE model = 'm')"
    tables = ("call_details", "calls", "adjustments", "calibrations")
    shell(*(f"DELETE FROM {table} WHERE model_id = {mine}" for table in tables))
    shell("DELETE FROM models WHERE model = 'm'")
    assert findings(run, path, exit_code=0) == set()
    assert findings(run, path, "--heads", heads) == {("m", 10, "noted head")}
    assert "no such model" in run("--ledger", path, "audit", "--heads", heads).stdout


def test_a_rewriting_that_changes_nothing_is_no_forgery(
    run: Any, path: str, shell: Shell, heads: Path
) -> None:
    """The forger above makes what the program made, to the bit: it is as good as claimed."""
    for model in ("m", "n"):
        Forger(shell, model).rewrite(len)
    assert findings(run, path, "--heads", heads, exit_code=0) == set()
