"""Long replays in plain Python, by processes beside this one: one for each core, a model at a time.

They are told what to do, and tell what came of it, in lines of JSON on their stdin and stdout: so
they need nothing of the program that this is a part of, not even that it can be imported, and a
URL with a password stands on no command line. What a worker cannot do, for whatever reason, is left
to the caller to do itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.figures import Accuracy
from calibration_ledger.core.replay import Runs, Scoring, Window, fold_states
from calibration_ledger.core.state import State
from calibration_ledger.errors import CalibrationLedgerError
from calibration_ledger.fast.runs import cores
from calibration_ledger.rules import stored_rule
from calibration_ledger.storage import ledger as reads
from calibration_ledger.storage.opening import open_backend
from calibration_ledger.storage.place import find_place
from calibration_ledger.verbs.calls import list_existing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.core.replay import Progress
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.place import Place

LONG = 5_000_000
"""Calls times candidates from which it pays: this process alone takes some 4 s for so many, and a
worker 0.4 s to start."""

_TIMEOUT_S = 30.0
_WORKER = "from calibration_ledger.verbs.workers import work; work()"


class Task(NamedTuple):
    """A model to replay under some rules and alphas."""

    model: str
    through: int
    last_seq: int
    candidates: Sequence[tuple[Rule, float]]
    window: Window | None = None
    warm_up: int = 0
    keeps_sizes: bool = False


class Folded(NamedTuple):
    """What one candidate came to; no state and no figures where it would not stay finite."""

    state: State | None
    accuracy: Accuracy | None


def pays(place: Place, calls: int, candidates: int, models: int) -> bool:
    """Whether workers would do so much in plain Python sooner than this process alone."""
    can_start = bool(sys.executable) and not getattr(sys, "frozen", False)
    is_much = calls * candidates >= LONG and min(cores(), models) > 1
    return is_much and can_start and not place.in_memory


def fold_in_workers(
    place: Place, tasks: Sequence[Task], progress: Progress | None = None
) -> list[list[Folded] | None]:
    """Do all tasks; None for one that no worker could do."""
    waiting = sorted(range(len(tasks)), key=lambda i: tasks[i].last_seq)  # taken from the end
    found: list[list[Folded] | None] = [None] * len(tasks)
    told: SimpleQueue[int | None] = SimpleQueue()
    workers: list[subprocess.Popen[str]] = []
    threads: list[Thread] = []

    def serve(worker: subprocess.Popen[str]) -> None:
        # It may have died, or not speak as it should: then its tasks are left to the caller.
        with suppress(OSError, ValueError, LookupError, TypeError):
            _tell(worker, place)
            while waiting:
                i = waiting.pop()
                found[i] = _done(worker, tasks[i], told)
        told.put(None)

    try:
        _start_all(workers, min(cores(), len(tasks)))
        for worker in workers:
            threads.append(Thread(target=serve, args=(worker,), daemon=True))
            threads[-1].start()
        left = len(threads)
        while left:
            count = told.get()
            if count is None:
                left -= 1
            elif progress is not None:
                progress(count)
    finally:
        for worker in workers:
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in workers:
            with suppress(OSError):  # what was written last may not have got there
                worker.__exit__(None, None, None)
    return found


def _start_all(workers: list[subprocess.Popen[str]], count: int) -> None:
    with suppress(OSError):  # there is room for no more processes: fewer do it, or none
        for _ in range(count):
            workers.append(_start())  # noqa: PERF401 - those started before one fails are kept


def _start() -> subprocess.Popen[str]:
    # -P: what lies in the folder where the user happens to be is none of a worker's modules.
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", "-c", _WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        encoding="utf-8",
    )


def _tell(worker: subprocess.Popen[str], place: Place) -> None:
    assert worker.stdin is not None  # noqa: S101 - it is a pipe
    _write(worker.stdin, place.url or str(place.path))


def _done(
    worker: subprocess.Popen[str], task: Task, told: SimpleQueue[int | None]
) -> list[Folded] | None:
    assert worker.stdin is not None  # noqa: S101 - it is a pipe
    assert worker.stdout is not None  # noqa: S101 - it is a pipe
    candidates = [(rule.version, alpha) for rule, alpha in task.candidates]
    _write(worker.stdin, task._replace(candidates=candidates))  # type: ignore[arg-type]  # as JSON
    for line in worker.stdout:
        answer = json.loads(line)
        if isinstance(answer, int):
            told.put(answer)
        elif answer is None:
            return None
        else:
            return [
                _folded(one, *chosen) for one, chosen in zip(answer, task.candidates, strict=True)
            ]
    raise OSError("the worker is gone")


def _folded(answer: dict[str, Any] | None, rule: Rule, alpha: float) -> Folded:
    if answer is None:
        return Folded(None, None)
    state = State(rule, alpha, answer["numbers"], answer["sample_count"], answer["updated_at"])
    return Folded(state, Accuracy.from_json(answer["figures"]))


def _write(file: IO[str], value: object) -> None:
    file.write(json.dumps(value) + "\n")
    file.flush()


# -- in the worker --------------------------------------------------------------------------------


def work() -> None:
    """Do what stdin says, until it ends."""
    lines = iter(sys.stdin)
    backend = open_backend(find_place(json.loads(next(lines))), "full", _TIMEOUT_S)
    for line in lines:
        values = json.loads(line)
        candidates = [(stored_rule(version), alpha) for version, alpha in values[3]]
        window = None if values[4] is None else Window(*values[4])
        task = Task(*values)._replace(candidates=candidates, window=window)
        try:
            (live,) = list_existing(backend, task.model)
            history = reads.ModelHistory(backend, live._replace(last_seq=task.last_seq))
            answer = _fold(history, task)
        except CalibrationLedgerError:
            answer = None  # the caller will meet the same, and tell
        _write(sys.stdout, answer)


def _fold(history: reads.ModelHistory, task: Task) -> list[dict[str, Any] | None]:
    def start(model: str, states: Sequence[State]) -> Runs:
        return Runs(model, states, keeps_sizes=task.keeps_sizes)

    scoring = Scoring(task.window, task.warm_up)
    runs = fold_states(
        history,
        task.candidates,
        task.through,
        start,
        scoring,
        lambda count: _write(sys.stdout, count),
    )
    return [
        None
        if state is None
        else {
            "numbers": state.numbers,
            "sample_count": state.sample_count,
            "updated_at": state.updated_at,
            "figures": accuracy.to_json(),
        }
        for state, accuracy in zip(runs.states, runs.figures, strict=True)
    ]
