"""What the processes of a storm do until they are killed: record, import, correct, migrate.

Each process keeps a log, and each line of it is one small write, so that a kill cannot tear what
was acknowledged: `+THING` once the ledger has answered, `<` before an operation and `>` after it.
A call's name says everything about it, so that what is stored can be held against what was sent.
"""

from __future__ import annotations

import os
import random
import time
import zlib
from typing import TYPE_CHECKING, Any

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import (
    LedgerError,
    LedgerTooNewError,
    NotRecordedError,
    OutcomeUnknownError,
)
from calibration_ledger.storage import migrate
from calibration_ledger.storage.place import find_place
from support.newer_program import become_newer, go_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODELS = ("alpha:7b", "beta:70b", "gamma-cloud")
BATCH = 20
ROWS = 2_500
"""Calls to a file that is imported: three transactions."""


def call_of(name: str, model: str | None = None, *, bare: bool = False) -> Call:
    """The call of this name; a bare one has no request id, and its name in its details."""
    number = zlib.crc32(name.encode())
    fields: dict[str, Any] = {"details": {"name": name}} if bare else {"request_id": name}
    return Call(
        model or MODELS[number % 3],
        number % 900,
        number // 900 % 300,
        number % 50_000 / 16,
        **fields,
    )


class Log:
    """The log of one process."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def acknowledge(self, *names: str) -> None:
        for name in names:
            os.write(self._descriptor, f"+{name}\n".encode())

    def begin(self) -> None:
        os.write(self._descriptor, b"<\n")

    def end(self) -> None:
        os.write(self._descriptor, b">\n")


def persist(action: Callable[[], Any], *, is_file: bool, again: bool = True) -> Any:
    """Try until it is answered, as a program with request ids would; gives the answer.

    A file never answers anything but that it was upgraded meanwhile. A server's connections are
    ended in a storm; `again`: whether to try again what may have been recorded. If not, None.
    """
    while True:
        try:
            return action()
        except LedgerTooNewError:
            time.sleep(0.01)
        except LedgerError as error:
            passes = type(error) is LedgerError or isinstance(error, NotRecordedError)
            if is_file or not (passes or isinstance(error, OutcomeUnknownError)):
                raise
            if isinstance(error, OutcomeUnknownError) and not again:
                return None


class Role:
    """A process of the storm: what it works on, and how to."""

    def __init__(self, ledger: str, folder: Path, worker: int, log: Log) -> None:
        self.ledger = ledger
        self.folder = folder
        self.worker = worker
        self.log = log
        self.is_file = "://" not in ledger

    def open(self) -> AdaptiveCalibrator:
        return self.persist(lambda: AdaptiveCalibrator(self.ledger, timeout_s=60.0))

    def persist(self, action: Callable[[], Any], *, again: bool = True) -> Any:
        return persist(action, is_file=self.is_file, again=again)

    def names(self, kind: str) -> Iterator[str]:
        """Names that no other process, before or after, ever has."""
        number = time.time_ns()
        while True:
            number += 1
            yield f"{kind}-{self.worker}-{number}"


def record_call(calibrator: AdaptiveCalibrator, call: Call, **more: Any) -> float:
    """Record the numbers of a call by `record()`."""
    return calibrator.record(
        call.model,
        call.prompt_tokens,
        call.actual_ms,
        completion_tokens=call.completion_tokens,
        **more,
    )


def record(role: Role) -> None:
    """Calls with request ids, tried again until they are answered."""
    calibrator = role.open()
    for name in role.names("id"):
        call = call_of(name)
        error_ms = role.persist(
            lambda call=call, name=name: record_call(calibrator, call, request_id=name)
        )
        assert isinstance(error_ms, float)
        role.log.acknowledge(name)


def record_bare(role: Role) -> None:
    """Calls without request ids: what may have been recorded is not tried again."""
    calibrator = role.open()
    for name in role.names("bare"):
        call = call_of(name, bare=True)
        recording = lambda call=call: record_call(calibrator, call, details=call.details)  # noqa: E731 - for `again`
        if role.persist(recording, again=False) is not None:
            role.log.acknowledge(name)


def record_batches(role: Role) -> None:
    """Batches over all models, each one transaction."""
    calibrator = role.open()
    names = role.names("batch")
    while True:
        batch = [next(names) for _ in range(BATCH)]
        calls = [call_of(name) for name in batch]
        role.persist(lambda calls=calls: calibrator.record_many(calls))
        role.log.acknowledge(*batch)


def import_calls(role: Role) -> None:
    """One file after the other; after a kill the same file again, which completes it."""
    calibrator = role.open()
    for path in unfinished(role, "rows"):
        if not path.exists():
            write_rows(path)
        role.log.begin()
        role.persist(lambda path=path: calibrator.import_calls("csv", path))
        finish(role, path)


def import_ledgers(role: Role) -> None:
    """Whole histories of models of their own, with their adjustments and heads."""
    calibrator = role.open()
    for path in unfinished(role, "ledger"):
        if not path.exists():
            write_ledger(path)
        role.log.begin()
        role.persist(lambda path=path: calibrator.import_calls("ledger", path))
        finish(role, path)


def unfinished(role: Role, kind: str) -> Iterator[Path]:
    number = 0
    while True:
        path = role.folder / f"{kind}-{role.worker}-{number}"
        if not done_mark(path).exists():
            yield path
        number += 1


def finish(role: Role, path: Path) -> None:
    role.log.end()
    done_mark(path).touch()
    role.log.acknowledge(f"file:{path.name}")


def done_mark(path: Path) -> Path:
    return path.with_name(f"done-{path.name}")


def names_in(path: Path) -> list[str]:
    """The names of the calls in a file to import."""
    return [f"{path.name}-{i}" for i in range(ROWS)]


def write_rows(path: Path) -> None:
    lines = ["model,prompt_tokens,completion_tokens,actual_ms,request_id"]
    for name in names_in(path):
        call = call_of(name)
        tokens = f"{call.prompt_tokens},{call.completion_tokens}"
        lines.append(f"{call.model},{tokens},{call.actual_ms!r},{name}")
    write_whole(path, "\n".join(lines) + "\n")


def write_ledger(path: Path) -> None:
    from io import StringIO

    text = StringIO()
    with AdaptiveCalibrator(":memory:", alpha=0.3) as calibrator:
        calls = [call_of(name, model=path.name) for name in names_in(path)]
        calibrator.record_many(calls[: ROWS // 2])
        calibrator.reset(path.name)
        calibrator.record_many(calls[ROWS // 2 :])
        calibrator.export_ledger("jsonl", text)
    write_whole(path, text.getvalue())


def write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f"partial-{path.name}")
    partial.write_text(text)
    partial.rename(path)


def recalibrate(role: Role) -> None:
    """Recalibrations, each with an alpha that nobody else has, and a reset now and then."""
    calibrator = role.open()
    for turn in range(10**9):
        model = MODELS[turn % 3]
        alpha = 0.05 + time.time_ns() % 10**12 / 2e12
        if not role.persist(lambda model=model: calibrator.predict(model, 1)).sample_count:
            time.sleep(0.01)
            continue
        role.log.begin()
        again = lambda alpha=alpha, model=model: calibrator.recalibrate(alpha, model=model)  # noqa: E731 - for `again`
        if role.persist(again, again=False) is not None:
            role.log.acknowledge(f"alpha:{alpha.hex()}")
        if turn % 4 == 0:
            role.persist(lambda model=model: calibrator.reset(model))
            role.log.acknowledge("reset")
        role.log.end()


def void(role: Role) -> None:
    """Voidings, each with a note that nobody else has; every third of a voiding before."""
    calibrator = role.open()
    rng = random.Random(role.worker)
    done: dict[str, int] = {}
    for turn, name in enumerate(role.names("void")):
        model = MODELS[turn % 3]
        heads = role.persist(calibrator.heads)
        last = max((head.seq for head in heads if head.model == model), default=0)
        if last < 10:
            time.sleep(0.01)
            continue
        first = rng.randrange(2, last)
        named = done.pop(model, (first, min(last, first + rng.randrange(30))))
        role.log.begin()
        again = lambda model=model, name=name, named=named: calibrator.void(  # noqa: E731 - for `again`
            model, seq=named, note=name
        )
        answer = role.persist(again, again=False)
        if answer and answer[0].seq is not None:
            role.log.acknowledge(f"void:{name}")
            if turn % 9 < 3:
                done[model] = answer[0].seq
        role.log.end()


def migrate_up_and_down(role: Role) -> None:
    """A newer program that upgrades the ledger, and takes it back, again and again."""
    migrations = role.folder / "migrations"
    become_newer(migrations)
    rng = random.Random()
    while True:
        role.log.begin()
        done = role.persist(lambda: migrate.upgrade(find_place(role.ledger), 60.0))
        if done.backup is not None:
            done.backup.replace(role.folder / "newest.backup")
        role.persist(lambda: go_back(role.ledger, migrations))
        role.log.end()
        role.log.acknowledge(f"upgraded:{done.before}")
        time.sleep(rng.uniform(0.2, 0.6))


ROLES: dict[str, Callable[[Role], None]] = {
    "record": record,
    "record bare": record_bare,
    "record_many": record_batches,
    "import calls": import_calls,
    "import ledger": import_ledgers,
    "recalibrate": recalibrate,
    "void": void,
    "migrate": migrate_up_and_down,
}


def play(name: str, ledger: str, folder: Path, worker: int, log: Path) -> None:
    """Be the process of a role."""
    ROLES[name](Role(ledger, folder, worker, Log(log)))
