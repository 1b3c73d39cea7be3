"""One operation under every single failure of the disk, run by `test_disk.py` in a process whose
file functions `failing_disk.c` has taken over.

For each kind of failure the n-th matching operation fails, for n = 1, 2, 3 ... until the library
needs no n-th one. After each, three ledgers are looked at: the one that the process goes on with,
the image that a crash in this moment would have left, and the one after everything is closed.
"""

from __future__ import annotations

import ctypes
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger import AdaptiveCalibrator, Call, Finding, LedgerNotFoundError
from calibration_ledger.errors import LedgerError, NotRecordedError, OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE, SYNC, TRUNCATE, READ = range(1, 5)
FOREVER = 10**6
FAILURES = {
    "write EIO": (WRITE, errno.EIO, False),
    "torn write EIO": (WRITE, errno.EIO, True),
    "torn write ENOSPC": (WRITE, errno.ENOSPC, True),
    "sync EIO": (SYNC, errno.EIO, False),
    "truncate EIO": (TRUNCATE, errno.EIO, False),
    "read EIO": (READ, errno.EIO, False),
}
REFUSALS = ("othing was recorded", "could not be read", "was not touched")
AT = datetime(2026, 1, 2, tzinfo=UTC)


def call(i: int, model: str = "m") -> Call:
    fields = {"called_at": AT, "request_id": f"r{i}", "details": {"ttft_ms": i / 3}}
    return Call(model, 10 + i, 20 + i % 7, 500.0 + i, **fields)


def record(calibrator: AdaptiveCalibrator) -> None:
    calibrator.record(
        "m", 10, 700.5, completion_tokens=20, called_at=AT, request_id="one", details={"ttft_ms": 1}
    )


def open_model(calibrator: AdaptiveCalibrator) -> None:
    calibrator.record("new", 10, 700.5, completion_tokens=20, called_at=AT, request_id="one")


def record_many(calibrator: AdaptiveCalibrator) -> None:
    calibrator.record_many(call(1000 + i, "mn"[i % 2]) for i in range(200))


def import_csv(calibrator: AdaptiveCalibrator) -> None:
    rows = "".join(f"m,{i},5,{i * 9}.25,2026-01-02T03:04:05Z,x{i}\n" for i in range(20))
    header = "model,prompt_tokens,completion_tokens,actual_ms,called_at,request_id\n"
    calibrator.import_calls("csv", io.StringIO(header + rows))


def recalibrate(calibrator: AdaptiveCalibrator) -> None:
    calibrator.recalibrate(0.4, model="m")


def checkpoint(calibrator: AdaptiveCalibrator) -> None:
    """Record on a connection that takes the log into the file after every commit."""
    held = calibrator._ledger.backend._connections.held("writer")
    if held is not None:
        held.cursor.execute("PRAGMA wal_autocheckpoint=1")
    record(calibrator)


def close(calibrator: AdaptiveCalibrator) -> None:
    calibrator.close()


OPERATIONS: dict[str, tuple[Callable[[AdaptiveCalibrator], None], str]] = {
    "record": (record, "warm"),
    "record on a ledger just opened": (record, "cold"),
    "record that opens a model": (open_model, "warm"),
    "record that makes the ledger": (record, "none"),
    "record after a crash": (record, "crashed"),
    "record that checkpoints": (checkpoint, "warm"),
    "record_many": (record_many, "warm"),
    "import": (import_csv, "warm"),
    "recalibrate": (recalibrate, "warm"),
    "close": (close, "warm"),
}


class Sweep:
    """One operation, again and again on fresh ledgers."""

    def __init__(self, disk: Any, folder: Path, name: str) -> None:
        self.disk = disk
        self.folder = folder / "ledger"
        self.operation, self.start = OPERATIONS[name]
        self.template = folder / "template"
        self.template.mkdir()
        self.path = self.folder / "calls.db"
        if self.start != "none":
            self.make_template()
        self.outcomes: Counter[str] = Counter()
        with self.fresh() as calibrator:
            self.before = entries(calibrator)
            self.operation(calibrator)
            self.after = self.before
            if self.operation is not close:
                self.after = entries(calibrator)

    def make_template(self) -> None:
        path = self.template / "calls.db"
        with AdaptiveCalibrator(path) as calibrator:
            calibrator.record_many([call(i, "mn"[i % 3 == 0]) for i in range(30)])
            calibrator.recalibrate(0.3, model="n")
            calibrator.record("m", 1, 2.0, request_id="last")
            if self.start == "crashed":
                crash_image(self.template, self.template / "crashed")
        if self.start == "crashed":
            shutil.rmtree(self.folder, ignore_errors=True)
            (self.template / "crashed").rename(self.folder)
            shutil.rmtree(self.template)
            self.folder.rename(self.template)
            assert (self.template / "calls.db-wal").stat().st_size > 0

    def fresh(self) -> AdaptiveCalibrator:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)
        calibrator = AdaptiveCalibrator(self.path, timeout_s=5.0)
        if self.start == "warm":
            calibrator.record("m", 1, 1.0, called_at=AT, request_id="warm")
        return calibrator

    def run(self, failure: str, count: int, nth: int) -> bool:
        """Let the n-th operation fail; False where there was no n-th one."""
        kind, number, torn = FAILURES[failure]
        calibrator = self.fresh()
        where = os.fsencode(self.folder)
        self.disk.arm(where, kind, nth, count, number, torn)
        text = ""
        try:
            self.operation(calibrator)
            outcome = "done"
        except OutcomeUnknownError as error:
            outcome, text = "unknown", str(error)
            assert "cannot be known" in text
        except NotRecordedError as error:
            outcome, text = "not recorded", str(error)
            assert "othing was recorded" in text, text
        except LedgerError as error:
            outcome, text = "refused", f"{type(error).__name__}: {error}"
            assert any(words in text for words in REFUSALS), text
        finally:
            failed = self.disk.disarm()
        if not failed:
            calibrator.close()
            assert outcome == "done", text
            return False
        self.outcomes[f"{failure}: {outcome}"] += 1
        self.check(calibrator, outcome)
        return True

    def check(self, calibrator: AdaptiveCalibrator, outcome: str) -> None:
        possible = {
            "done": [self.after],
            "unknown": [self.before, self.after],
        }.get(outcome, [self.before])
        image = self.folder.with_name("image")
        shutil.rmtree(image, ignore_errors=True)
        crash_image(self.folder, image)
        with AdaptiveCalibrator(image / "calls.db") as other:
            found = entries(other)
            assert found in possible, (outcome, found, possible)
            assert audit(other) == []
            if outcome == "unknown" and found == self.after:
                self.outcomes["unknown, and a crash would have left it recorded"] += 1
        if self.operation is close:
            calibrator = AdaptiveCalibrator(self.path)
        # The fault is gone: this process goes on, and the same request ids make it whole.
        assert entries(calibrator) in possible
        if self.operation is not close:
            self.operation(calibrator)
        assert entries(calibrator) == self.after
        calibrator.record("m", 3, 4.0, called_at=AT)
        assert calibrator.audit() == []
        calibrator.close()
        with AdaptiveCalibrator(self.path) as calibrator:
            assert calibrator.audit() == []
            assert sum(entries(calibrator).values()) > sum(self.after.values())


def audit(calibrator: AdaptiveCalibrator) -> list[Finding]:
    """What the audit finds, in a ledger that a fault may have kept from being made."""
    try:
        return calibrator.audit()
    except LedgerNotFoundError:
        return []


def entries(calibrator: AdaptiveCalibrator) -> dict[str, int]:
    """How many entries each model has."""
    return {head.model: head.seq for head in calibrator.heads()}


def crash_image(folder: Path, image: Path) -> None:
    """What a crash would leave: the files as they are, without the index of the log in memory.

    Copied by another process, for closing a descriptor of the file would drop SQLite's locks.
    """
    image.mkdir()
    files = [str(path) for path in folder.glob("calls.db*") if not path.name.endswith("-shm")]
    if files:
        subprocess.run(["cp", *files, str(image)], check=True)


def main() -> None:
    """`python disk_sweep.py LIBRARY FOLDER OPERATION all|some`: prints how often what came out."""
    library, folder, name, which = sys.argv[1:]
    disk = ctypes.CDLL(library)
    disk.skip_syncs(1)
    sweep = Sweep(disk, Path(folder), name)
    for failure in FAILURES:
        nth = 1
        while sweep.run(failure, 1, nth):
            # Ever fewer of a long row, unless all are asked for. The last seventh of it, which is
            # where a commit is, is always met.
            nth += 1 if which == "all" else 1 + nth // 8
        nth = 1
        while sweep.run(failure, FOREVER, nth) and which == "all":
            nth += 1
    print(json.dumps(sweep.outcomes))


if __name__ == "__main__":
    main()
