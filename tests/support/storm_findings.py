"""After a storm: what is stored is held against what was acknowledged and what was sent."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.migrate import schema_differences
from calibration_ledger.storage.place import find_place
from support.reference import look_into
from support.storm_roles import BATCH, call_of, done_mark, names_in

if TYPE_CHECKING:
    from pathlib import Path

    from calibration_ledger import Call
    from support.storm import Storm, Tally


def examine(storm: Storm) -> Tally:
    """Fail where something acknowledged is lost, or anything is there twice; gives the figures."""
    Findings(storm).examine()
    return storm.tally


class Findings:
    """The ledger that a storm has left, and the logs of its crew."""

    def __init__(self, storm: Storm) -> None:
        self.ledger = storm.ledger
        self.folder = storm.folder
        self.crew = storm.crew
        self.tally = storm.tally
        self.imported: list[str] = []
        self.import_ids: dict[str, str | None] = {}

    def examine(self) -> None:
        """Look at everything; completes the imports that were killed."""
        acknowledged = [
            line[1:] for member in self.crew for line in member.lines() if line.startswith("+")
        ]
        with AdaptiveCalibrator(self.ledger) as calibrator:
            assert calibrator.audit() == []
            self.complete_imports(calibrator)
            self.check_calls(calibrator, acknowledged)
            for replay in calibrator.replay():
                assert replay.calibration == calibrator.calibration(replay.model)
            assert calibrator.audit() == []
        self.check_adjustments(acknowledged)
        self.check_database()

    def complete_imports(self, calibrator: AdaptiveCalibrator) -> None:
        """As who runs the same import again.

        One that was acknowledged finds nothing to do but to record anew what was voided since.
        """
        for kind, role in (("rows", "csv"), ("ledger", "ledger")):
            for path in sorted(self.folder.glob(f"{kind}-*")):
                report = calibrator.import_calls(role, path)
                assert report.already + report.recorded == len(names_in(path))
                if done_mark(path).exists():
                    again = report.recorded_again
                    assert report.recorded == again, "an acknowledged import is not whole"
                self.imported += names_in(path)
                if kind == "rows":
                    self.import_ids[path.name] = import_id_of_file(path)
                if kind == "ledger":
                    (head,) = [head for head in calibrator.heads() if head.model == path.name]
                    noted = json.loads(path.read_text().splitlines()[-2])
                    assert head.digest == noted["head"], "an imported history has another head"

    def check_calls(self, calibrator: AdaptiveCalibrator, acknowledged: list[str]) -> None:
        tally = self.tally
        stored = {name_of(call) for call in calibrator.calls()}
        counting = Counter(name_of(call) for call in calibrator.calls() if not call.voided)
        assert max(counting.values(), default=1) == 1, "a call counts twice"
        for call in calibrator.calls():
            import_id = self.import_ids.get(name_of(call).rpartition("-")[0])
            assert_is_what_was_sent(call, import_id)
        calls = {name for name in acknowledged if name.split("-")[0] in ("id", "bare", "batch")}
        assert calls <= stored, "an acknowledged call is lost"
        assert set(self.imported) <= stored
        unanswered = stored - calls - set(self.imported)
        assert len(unanswered) <= self.unanswered_at_most(), "calls that nobody sent"
        tally.acknowledged = len(calls) + len(self.imported)
        tally.stored = len(stored)
        tally.unanswered = len(unanswered)

    def unanswered_at_most(self) -> int:
        """A kill takes one answer, of a call or of a batch; so does each end of a connection."""
        counts = Counter(member.role for member in self.crew) + self.tally.kills
        lost = self.tally.ended + self.tally.crashes * len(self.crew)
        return counts["record"] + counts["record bare"] + counts["record_many"] * BATCH + lost

    def check_adjustments(self, acknowledged: list[str]) -> None:
        """No acknowledged recalibration, reset or voiding is lost, and none is there twice."""
        with look_into(self.ledger) as connection:
            rows = [
                tuple(row)
                for row in connection.execute(
                    "SELECT kind, alpha, note FROM adjustments JOIN models ON id = model_id"
                    " WHERE substr(model, 1, 7) <> 'ledger-'"
                )
            ]
        stored = Counter(alpha.hex() for kind, alpha, _ in rows if kind == "recalibrated")
        assert max(stored.values(), default=1) == 1, "a recalibration is there twice"
        alphas = {text.removeprefix("alpha:") for text in acknowledged if "alpha:" in text}
        assert alphas <= set(stored), "an acknowledged recalibration is lost"
        resets = sum(kind == "reset" for kind, _, _ in rows)
        assert acknowledged.count("reset") <= resets, "an acknowledged reset is lost"
        notes = Counter(note for kind, _, note in rows if kind == "voided")
        assert max(notes.values(), default=1) == 1, "a voiding is there twice"
        voided = {text.removeprefix("void:") for text in acknowledged if "void:" in text}
        assert voided <= set(notes), "an acknowledged voiding is lost"
        done = Counter(text.split(":")[0] for text in acknowledged)
        for name in ("alpha", "reset", "void", "file", "upgraded"):
            self.tally.done[name] = done[name]

    def check_database(self) -> None:
        differences = schema_differences(find_place(self.ledger), 5.0)
        if "://" in self.ledger:
            assert differences == []
            return
        # A table that was built anew has the same columns and checks, in another order.
        assert all(text.startswith("table calls is ") for text in differences)
        with closing(sqlite3.connect(self.ledger)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        backup = self.folder / "newest.backup"
        if backup.exists():
            with AdaptiveCalibrator(backup) as calibrator:
                assert calibrator.audit() == []


def name_of(call: Call) -> str:
    name: str = call.request_id or (call.details or {})["name"]
    return name


def import_id_of_file(path: Path) -> str | None:
    """The id that every call of a file must bear, however often its import was cut short."""
    with AdaptiveCalibrator(":memory:") as calibrator:
        return calibrator.import_calls("csv", path).import_id


def assert_is_what_was_sent(call: Call, import_id: str | None) -> None:
    name = name_of(call)
    model = call.model if name.startswith("ledger-") else None
    sent = call_of(name, model, bare=call.request_id is None)
    for field_name in ("model", "prompt_tokens", "completion_tokens", "actual_ms"):
        assert getattr(call, field_name) == getattr(sent, field_name)
    added = {} if import_id is None else {"import_id": import_id}
    assert call.details == ({**(sent.details or {}), **added} or None)
