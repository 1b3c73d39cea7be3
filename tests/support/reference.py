"""The design, written down a second time and independently: what the package is held against.

Nothing here imports the package. The arithmetic is the design's section 3 line by line, the
digests are its section 4 with `struct` and `hashlib` by hand, and a ledger is read with `sqlite3`
or `psycopg` alone, as somebody with a SQL shell would see it.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CONFORMANCE = Path(__file__).parents[1] / "conformance" / "ema_vectors.jsonl"

FIRST_TABLES = ("models", "calls", "call_details", "adjustments", "calibrations")
HISTORY = (*FIRST_TABLES, "settings", "setting_heads", "aliases", "voided")
TABLES = (*HISTORY, "events", "event_heads")
"""Events tell what happened to one database: another one with the same history has others."""

COEFFICIENTS = ("ms_per_prompt_token", "ms_per_completion_token", "base_overhead_ms")
TOTALS = ("total_absolute_error_ms", "total_predicted_ms")
NUMBERS = ("alpha", *COEFFICIENTS, "sample_count", *TOTALS)


def load_traces() -> list[dict[str, Any]]:
    """The conformance traces; floats are still `float.hex()` texts."""
    return [json.loads(line) for line in CONFORMANCE.read_text().splitlines()]


# -- arithmetic -----------------------------------------------------------------------------


@dataclass
class Ema:
    """The rule `ema` of the design, section 3."""

    alpha: float
    a: float
    b: float
    o: float
    sample_count: int = 0
    total_absolute_error_ms: float = 0.0
    total_predicted_ms: float = 0.0

    def learn(self, p: int, c: int, y: float) -> tuple[float, float]:
        """Learn a call; gives what was predicted, and the error."""
        predicted = self.o + self.a * p + self.b * c
        error = y - predicted
        total = p + c or 1
        fp, fc = p / total, c / total
        fo = 1.0 - 0.5 * (fp + fc)
        self.a = max(0.001, self.a + self.alpha * error * fp / max(p, 1))
        self.b = max(0.001, self.b + self.alpha * error * fc / max(c, 1))
        self.o = max(0.0, self.o + self.alpha * error * fo)
        self.sample_count += 1
        self.total_absolute_error_ms += abs(error)
        self.total_predicted_ms += predicted
        return predicted, error

    def numbers(self) -> tuple[str, ...]:
        """Every number, to the bit."""
        return tuple(
            float(number).hex()
            for number in (
                self.alpha,
                self.a,
                self.b,
                self.o,
                self.sample_count,
                self.total_absolute_error_ms,
                self.total_predicted_ms,
            )
        )


def numbers_of(calibration: Any) -> tuple[str, ...]:
    """The same numbers of a `ModelCalibration`, to the bit."""
    return tuple(float(getattr(calibration, name)).hex() for name in NUMBERS)


def state_of(entry: dict[str, Any]) -> Ema:
    """What an adjustment sets."""
    return Ema(*(entry[name] for name in NUMBERS))


# -- digests --------------------------------------------------------------------------------


def first_digest(model: str) -> bytes:
    return hashlib.sha256(b"calibration-ledger/1" + model.encode("utf-8")).digest()


def _optional(value: str | bytes | None) -> bytes:
    if value is None:
        return bytes([0])
    data = value.encode("utf-8") if isinstance(value, str) else value
    return bytes([1]) + len(data).to_bytes(4, "big") + data


def _whole(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def _real(number: float) -> bytes:
    return struct.pack(">d", number)


def call_digest(head: bytes, row: dict[str, Any]) -> bytes:
    """The digest behind a call."""
    data = bytes([7 if row["outcome"] == "timeout" else 0])
    for name in ("seq", "called_at", "prompt_tokens", "completion_tokens"):
        data += _whole(row[name])
    data += _real(row["actual_ms"]) + _real(row["predicted_ms"])
    data += _optional(row["request_id"]) + _optional(row["details"])
    return hashlib.sha256(head + data).digest()


def adjustment_digest(head: bytes, row: dict[str, Any]) -> bytes:
    """The digest behind an adjustment."""
    return hashlib.sha256(head + _adjustment_bytes(row)).digest()


def archived_digest(model: str, row: dict[str, Any]) -> bytes:
    """The digest of an archived entry: over itself, the model's name and the head it carries."""
    data = first_digest(model) + row["archived_head"]
    data += _adjustment_bytes(row) + _whole(row["archived_through"])
    return hashlib.sha256(data).digest()


def _adjustment_bytes(row: dict[str, Any]) -> bytes:
    kinds = ["opened", "imported", "reset", "recalibrated", "archived", "voided"]
    data = bytes([kinds.index(row["kind"]) + 1]) + _whole(row["seq"]) + _whole(row["recorded_at"])
    for name in ("alpha", *COEFFICIENTS, *TOTALS):
        data += _real(row[name])
    data += _whole(row["sample_count"]) + _whole(row["updated_at"])
    data += _optional(row["rule"]) + _optional(row["rule_state"]) + _optional(row["note"])
    return data + _optional(row["voids"]) if row["kind"] == "voided" else data


def digest_over(model: str, entries: list[dict[str, Any]]) -> bytes:
    """The head behind these entries, the first ones that there are of a model."""
    head = first_digest(model)
    for entry in entries:
        if entry["kind"] == "archived":
            assert entry is entries[0]
            assert archived_digest(model, entry) == entry["archived_digest"]
            head = entry["archived_head"]
        else:
            head = (call_digest if entry["kind"] == "call" else adjustment_digest)(head, entry)
    return head


# -- the file -------------------------------------------------------------------------------


class _Rows:
    """A connection to PostgreSQL that answers as sqlite3's with `Row`s does.

    All in one transaction: behind a pooler, a setting of the session would stay on the server's
    connection for whoever comes next.
    """

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url.replace("+psycopg", ""), prepare_threshold=None)
        self._connection.read_only = True
        # As digits that tell every float from its neighbours, whatever the database is set to.
        self._connection.execute("SET LOCAL extra_float_digits = 1")

    def close(self) -> None:
        self._connection.rollback()  # else a pooler ends the server's connection as well
        self._connection.close()

    def execute(self, text: str, parameters: tuple[Any, ...] = ()) -> Any:
        def as_rows(cursor: Any) -> Any:
            names = [column.name for column in cursor.description]
            return lambda values: _Row(zip(names, values, strict=True))

        cursor = self._connection.cursor(row_factory=as_rows)
        return cursor.execute(text.replace("?", "%s"), parameters)


class _Row(dict[str, Any]):
    """Read by name, by place, and like a tuple."""

    def __getitem__(self, key: str | int) -> Any:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)

    def __iter__(self) -> Any:
        return iter(self.values())


def look_into(ledger: str | Path) -> closing[Any]:
    """A connection that can only look, to a file or a PostgreSQL URL."""
    if "://" in str(ledger):
        return closing(_Rows(str(ledger)))
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return closing(connection)


def dump(ledger: str | Path, tables: tuple[str, ...] = HISTORY) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of a ledger, in a fixed order; an older one has not all tables."""
    with look_into(ledger) as connection:
        return {
            table: sorted(map(tuple, connection.execute(f"SELECT * FROM {table}")), key=repr)
            for table in tables
        }


def dump_first(ledger: str | Path) -> dict[str, list[tuple[Any, ...]]]:
    """The same of the tables that a ledger of any revision has, without a column that is newer."""
    tables = dump(ledger, FIRST_TABLES)
    width = 13  # of a calibration before it could be marked as that of an alias
    tables["calibrations"] = [row[:width] for row in tables["calibrations"]]
    return tables


def settings_digest(ledger: str | Path) -> str:
    """The head of a ledger's settings, worked out from their rows."""
    with look_into(ledger) as connection:
        rows = connection.execute("SELECT seq, recorded_at, rule, alpha FROM settings").fetchall()
        names = connection.execute(
            "SELECT seq, recorded_at, name, model, merged FROM aliases"
        ).fetchall()
    entries = {}
    for seq, recorded_at, rule, alpha in map(tuple, rows):
        entries[seq] = struct.pack(">Bqqd", 1, seq, recorded_at, alpha) + _text(rule)
    for seq, recorded_at, *texts in map(tuple, names):
        entries[seq] = struct.pack(">Bqq", 2, seq, recorded_at) + b"".join(map(_text, texts))
    head = hashlib.sha256(b"calibration-ledger/1\0settings").digest()
    for seq in sorted(entries):
        head = hashlib.sha256(head + entries[seq]).digest()
    return head.hex()


def _text(value: str | None) -> bytes:
    data = None if value is None else value.encode()
    return b"\0" if data is None else struct.pack(">BI", 1, len(data)) + data


def entries_of(ledger: str | Path, model: str) -> list[dict[str, Any]]:
    """A model's entries by seq, each a dict of its columns; calls have the kind `call`."""
    with look_into(ledger) as connection:
        (model_id,) = connection.execute(
            "SELECT id FROM models WHERE model = ?", (model,)
        ).fetchone()
        calls = connection.execute(
            "SELECT 'call' AS kind, calls.*, request_id, details FROM calls"
            " LEFT JOIN call_details USING (model_id, seq) WHERE model_id = ?",
            (model_id,),
        ).fetchall()
        adjustments = connection.execute(
            "SELECT * FROM adjustments WHERE model_id = ?", (model_id,)
        ).fetchall()
    return sorted(map(dict, [*calls, *adjustments]), key=lambda entry: entry["seq"])


def digest_of(ledger: str | Path, model: str) -> str:
    """A model's head, worked out from its rows."""
    return digest_over(model, entries_of(ledger, model)).hex()


def fold_file(ledger: str | Path, model: str, alpha: float | None = None) -> Ema:
    """Replay a model from its rows.

    Without an alpha: as it was lived, each adjustment setting the state. With one: as the design
    has replays, every state under that alpha, what is voided skipped, and claims skipped, but for
    those whose calls were archived.
    """
    state = Ema(0.0, 0.0, 0.0, 0.0)
    entries = entries_of(ledger, model)
    gone = set() if alpha is None else voided_seqs(entries)
    for entry in entries:
        if entry["seq"] in gone:
            continue
        if entry["kind"] == "call":
            learner = replace(state) if entry["outcome"] else state  # a time-out is not learnt
            predicted, _ = learner.learn(
                entry["prompt_tokens"], entry["completion_tokens"], entry["actual_ms"]
            )
            if alpha is None:
                assert predicted.hex() == entry["predicted_ms"].hex()
        elif alpha is None or entry["kind"] not in CLAIMS or is_all_that_is_left(entries, entry):
            state = state_of(entry)
            state.alpha = state.alpha if alpha is None else alpha
    return state


CLAIMS = ("recalibrated", "voided")


def voided_seqs(entries: list[dict[str, Any]]) -> set[int]:
    """The entries that do not count: a voiding that counts names them."""
    gone: set[int] = set()
    for entry in reversed(entries):
        if entry["kind"] == "voided" and entry["seq"] not in gone:
            for part in entry["voids"].split(","):
                first, _, last = part.partition("..")
                gone.update(range(int(first), int(last or first) + 1))
    # It shares its seq with the last entry in the archive.
    return gone - {entries[0]["seq"]} if entries[0]["kind"] == "archived" else gone


def voids_of(seqs: set[int]) -> str:
    """How a voided entry names these."""
    parts: list[list[int]] = []
    for seq in sorted(seqs):
        if parts and parts[-1][1] == seq - 1:
            parts[-1][1] = seq
        else:
            parts.append([seq, seq])
    return ",".join(f"{a}..{b}" if a < b else f"{a}" for a, b in parts)


def is_all_that_is_left(entries: list[dict[str, Any]], entry: dict[str, Any]) -> bool:
    """Whether a claim rests on calls that were archived after it."""
    first = entries[0]
    if first["kind"] != "archived" or entry["seq"] > first["archived_through"]:
        return False
    gone = voided_seqs(entries)
    between = [e["kind"] for e in entries[1:] if e["seq"] < entry["seq"] and e["seq"] not in gone]
    return "reset" not in between and "imported" not in between


class Lived:
    """A model's history as it is lived, entry by entry, without any database.

    `entries` are dicts like those of `entries_of`; `state` is the calibration behind the last.
    """

    def __init__(self, model: str = "m") -> None:
        self.model = model
        self.entries: list[dict[str, Any]] = []
        self.state = Ema(0.0, 0.0, 0.0, 0.0)
        self.updated_at = 0

    @property
    def last_seq(self) -> int:
        """The number of the last entry."""
        return self.entries[-1]["seq"] if self.entries else 0

    def adjust(self, kind: str, state: Ema, **fields: Any) -> Lived:
        """Append an adjustment that sets this state."""
        seq = self.last_seq + 1
        self.state, self.updated_at = replace(state), fields.get("updated_at", 1000 + seq)
        entry = {
            "seq": seq,
            "kind": kind,
            "recorded_at": 1000 + seq,
            "rule": "ema.1",
            "alpha": state.alpha,
            "ms_per_prompt_token": state.a,
            "ms_per_completion_token": state.b,
            "base_overhead_ms": state.o,
            "total_absolute_error_ms": state.total_absolute_error_ms,
            "total_predicted_ms": state.total_predicted_ms,
            "sample_count": state.sample_count,
            "rule_state": None,
            "updated_at": self.updated_at,
            "note": None,
            "archived_head": None,
            "archived_through": None,
            "archived_digest": None,
            "voids": None,
        }
        self.entries.append(entry | fields)
        return self

    def archived(self, k: int) -> Lived:
        """The same history with its entries up to k archived."""
        before, after = Lived(self.model), Lived(self.model)
        for entry in self.entries:
            if entry["seq"] <= k:
                before.again(entry)
        after.adjust(
            "archived",
            before.state,
            seq=k,
            updated_at=before.updated_at,
            archived_head=before.head(),
            archived_through=self.last_seq,
        )
        row = after.entries[0]
        row["archived_digest"] = archived_digest(self.model, row)
        for entry in self.entries:
            if entry["seq"] > k:
                after.again(entry)
        return after

    def again(self, entry: dict[str, Any]) -> None:
        """Append an entry as it was."""
        if entry["kind"] == "call":
            numbers = (entry["prompt_tokens"], entry["completion_tokens"], entry["actual_ms"])
            self.call(*numbers, called_at=entry["called_at"], outcome=entry["outcome"])
        else:
            self.adjust(entry["kind"], state_of(entry), updated_at=entry["updated_at"])
        self.entries[-1] = dict(entry)

    def call(self, p: int, c: int, y: float, **fields: Any) -> Lived:
        """Append a call."""
        seq = self.last_seq + 1
        called_at = fields.get("called_at", 1000 + seq)
        if fields.get("outcome"):  # given up: predicted, and not learnt
            predicted, _ = replace(self.state).learn(p, c, y)
        else:
            predicted, _ = self.state.learn(p, c, y)
            self.updated_at = called_at
        entry = {
            "kind": "call",
            "seq": seq,
            "called_at": called_at,
            "prompt_tokens": p,
            "completion_tokens": c,
            "actual_ms": y,
            "predicted_ms": predicted,
            "outcome": None,
            "request_id": None,
            "details": None,
        }
        self.entries.append(entry | fields)
        return self

    def replayed(self, alpha: float, through: int | None = None) -> Ema:
        """The state of a replay of the entries up to `through`."""
        state = Ema(alpha, 0.0, 0.0, 0.0)
        gone = voided_seqs(self.entries)
        for entry in self.entries:
            if entry["seq"] in gone:
                continue
            if through is not None and entry["seq"] > max(through, self.entries[0]["seq"]):
                break
            if entry["kind"] == "call":
                numbers = (entry["prompt_tokens"], entry["completion_tokens"], entry["actual_ms"])
                if entry["outcome"] is None:
                    state.learn(*numbers)
            elif entry["kind"] not in CLAIMS or is_all_that_is_left(self.entries, entry):
                state = replace(state_of(entry), alpha=alpha)
        return state

    def recalibrate(self, alpha: float) -> Lived:
        """Append a recalibration: what it claims is true."""
        return self.adjust("recalibrated", self.replayed(alpha), updated_at=self.updated_at)

    def counting(self) -> list[dict[str, Any]]:
        """The entries that are not voided."""
        gone = voided_seqs(self.entries)
        return [entry for entry in self.entries if entry["seq"] not in gone]

    def timeouts(self) -> int:
        """How many time-outs count since the history began, or began anew."""
        found = 0
        for entry in self.counting():
            if entry["kind"] == "call":
                found += entry["outcome"] == "timeout"
            elif entry["kind"] not in CLAIMS:
                found = 0
        return found

    def updated(self) -> int:
        """When the state of a replay last changed: with the last call since it was set."""
        for entry in reversed(self.counting()):
            if entry["kind"] == "call":
                if entry["outcome"] is None:
                    return int(entry["called_at"])
                continue
            if entry["kind"] not in CLAIMS or is_all_that_is_left(self.entries, entry):
                return int(entry["updated_at"])
        raise AssertionError("a history begins with an opening")

    def void(self, *seqs: int) -> Lived:
        """Append a voiding of these entries: what it claims is true."""
        self.adjust("voided", self.state, voids=voids_of(set(seqs)))
        chosen = [
            entry["alpha"]
            for entry in self.counting()
            if entry["kind"] not in {"call", "voided"}
            or (entry["kind"] == "voided" and is_all_that_is_left(self.entries, entry))
        ]
        state, updated_at = self.replayed(chosen[-1]), self.updated()
        entry = self.entries.pop()
        return self.adjust("voided", state, voids=entry["voids"], updated_at=updated_at)

    def head(self) -> bytes:
        """The digest behind the last entry."""
        return digest_over(self.model, self.entries)


LOCAL_PRIOR = (0.5, 8.0, 300.0)


def lived_history(alpha: float = 0.15) -> Lived:
    """A history with every kind of entry but an opening balance: 4 adjustments, 11 calls."""
    lived = Lived().adjust("opened", Ema(alpha, *LOCAL_PRIOR))
    for i in range(4):
        lived.call(100 + 37 * i, 20 + 11 * i, 900.0 + 61.25 * i)
    lived.recalibrate(0.4)
    for i in range(3):
        lived.call(10 + 37 * i, 200 - 11 * i, 2000.0 + 61.25 * i, request_id=f"r-{i}")
    lived.adjust("reset", Ema(alpha, *LOCAL_PRIOR))
    for i in range(4):
        lived.call(100 + 7 * i, 20 + 11 * i, 800.0 + 61.25 * i, details='{"ttft_ms":80.5}')
    return lived.recalibrate(1.0)
