"""A program in which all that may come between a call and its end comes at random moments.

    python fork_storm.py FOLDER SECONDS SEED

Threads open calibrators of two ledgers, record, close them, or drop them in a cycle, while the
main thread forks children and pools that record, too; its signal handlers record, fork and raise,
like Ctrl-C. It appends to FOLDER/log what was acknowledged, and every error that is not ours.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import CalibrationLedgerError

HANGS_S = 25.0

folder, seconds, seed = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
main = os.getpid()
children: dict[int, float] = {}
counts = {"forks": 0, "interrupts": 0, "handled": 0, "pools": 0}


def note(line: str) -> None:
    os.write(log, f"{line}\n".encode())


def trouble(where: str) -> None:
    note(f"ERROR {where} {traceback.format_exc()!r}")


def record(calibrator: AdaptiveCalibrator, ledger: str, request_id: str) -> None:
    try:
        calibrator.record("m", 10, 5.0, request_id=request_id)
        note(f"ACK {ledger} {request_id}")
    except CalibrationLedgerError as error:
        note(f"REFUSED {type(error).__name__} {str(error)[-170:]}")


def opened(ledger: str, **options: Any) -> AdaptiveCalibrator:
    return AdaptiveCalibrator(folder / ledger, durability="normal", timeout_s=20.0, **options)


def work_once(who: str, i: int, ledger: str, end_by: str) -> None:
    calibrator = opened(ledger)
    record(calibrator, ledger, f"{who}-{i}")
    calibrator.predict("m", 1)
    if end_by == "close":
        calibrator.close()
    elif end_by == "cycle":
        cycle: list[Any] = [calibrator]
        cycle.append(cycle)
    elif end_by == "backup":
        copy = folder / f"copy-{who}-{i}"
        calibrator.backup(copy)
        copy.unlink()
        calibrator.close()


def work(who: str) -> None:
    mine = random.Random(f"{seed} {who}")
    i = 0
    while time.monotonic() < end:
        try:
            end_by = mine.choice(("close", "cycle", "drop", "backup"))
            work_once(who, i, mine.choice(("one.db", "two.db")), end_by)
        except CalibrationLedgerError as error:
            note(f"REFUSED {type(error).__name__} {str(error)[-170:]}")
        except BaseException:  # noqa: BLE001 - told
            trouble(who)
        i += 1


def live_as_child(who: str, *, leave: str) -> NoReturn:
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        for i, ledger in enumerate(("one.db", "two.db", "one.db")):
            try:
                with opened(ledger) as calibrator:
                    record(calibrator, ledger, f"{who}-{i}")
            except CalibrationLedgerError as error:
                note(f"REFUSED {type(error).__name__} {str(error)[-170:]}")
        record(kept, "one.db", f"{who}-kept")
        if leave == "exit":
            sys.exit(0)  # through all that was going on, and the interpreter's own end
    except Exception:  # noqa: BLE001 - told
        trouble(who)
    os._exit(0)


def end_unless_main() -> None:
    """A child whose SystemExit was raised, and ignored, in some hook of a fork below."""
    if os.getpid() != main:
        os._exit(0)


def fork(leave: str = "at once") -> None:
    counts["forks"] += 1
    who = f"{seed}-child-{counts['forks']}"
    pid = os.fork()
    if pid == 0:
        live_as_child(who, leave=leave)
    end_unless_main()
    children[pid] = time.monotonic()


def reap() -> None:
    for pid in list(children):
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            children.pop(pid, None)
            continue
        if done:
            children.pop(pid, None)
            if status:
                note(f"ERROR a child ended with {status}")
        elif time.monotonic() > children.get(pid, end) + HANGS_S:
            note("ERROR a child hangs")
            os.kill(pid, signal.SIGUSR2)  # it shows where
            time.sleep(0.5)
            os.kill(pid, signal.SIGKILL)
            children.pop(pid, None)


def on_child(*_: object) -> None:
    if os.getpid() == main:
        counts["handled"] += 1
        record(kept, "one.db", f"{seed}-handler-{counts['handled']}")


def on_alarm(*_: object) -> None:
    if os.getpid() != main:
        return
    if rng.random() < 0.3 and len(children) < 6:
        fork(rng.choice(("at once", "exit")))
    else:
        raise KeyboardInterrupt


def pooled(who: str) -> None:
    live = opened("two.db")
    record(live, "two.db", who)
    live.close()


def use_pool() -> None:
    counts["pools"] += 1
    context = multiprocessing.get_context("fork")
    names = [f"{seed}-pool-{counts['pools']}-{i}" for i in range(4)]
    workers = [context.Process(target=pooled, args=(name,)) for name in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(HANGS_S)
        if worker.exitcode != 0:
            note(f"ERROR a worker of a pool ended with {worker.exitcode}")
            worker.kill()


def storm() -> None:
    n = 0
    while time.monotonic() < end:
        n += 1
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.03))
            record(kept, "one.db", f"{seed}-main-{n}")
            if len(children) < 6:
                fork(rng.choice(("at once", "at once", "exit")))
            work_once(f"{seed}-main", n, "two.db", rng.choice(("close", "cycle", "drop")))
            signal.setitimer(signal.ITIMER_REAL, 0)
            if rng.random() < 0.1:
                use_pool()
        except KeyboardInterrupt:
            counts["interrupts"] += 1
        except CalibrationLedgerError as error:
            note(f"REFUSED {type(error).__name__} {str(error)[-170:]}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        end_unless_main()
        reap()
        if rng.random() < 0.05:
            gc.collect()


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR2)
    warnings.simplefilter("ignore")
    foreign = Path(folder / "foreign").open("w")  # noqa: SIM115 - held to the end
    fcntl.flock(foreign, fcntl.LOCK_EX)
    kept = opened("one.db")
    record(kept, "one.db", f"{seed}-first")
    # From here on: where the machine is busy, the making of the ledger takes seconds.
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=work, args=(f"{seed}-{i}",)) for i in range(3)]
    signal.signal(signal.SIGCHLD, on_child)
    signal.signal(signal.SIGALRM, on_alarm)
    for thread in threads:
        thread.start()
    try:
        storm()
    except SystemExit:  # a child's
        raise
    except BaseException:  # noqa: BLE001 - told
        trouble("the storm")
    signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in threads:
        thread.join(HANGS_S)
        if thread.is_alive():
            note("ERROR a thread hangs")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    last = time.monotonic() + HANGS_S
    while children and time.monotonic() < last:
        reap()
        time.sleep(0.01)
    with (folder / "foreign").open() as other:
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note("ERROR the program's own lock was taken from it")
        except BlockingIOError:
            pass
    print(counts)
