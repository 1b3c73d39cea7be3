"""Many threads in many processes that fight for one `WriterLock`, and the oracle that watches.

The oracle is a folder that only one holder at a time can make, and a number in a file that each
holder reads, waits a little, and writes back one higher: two holders at once show in either.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from calibration_ledger.storage.sqlite.lock import writer_lock


class Score(NamedTuple):
    held: int
    given_up: int
    intruders: int


def contest(ledger: str, seed: int, threads: int, seconds: float) -> Score:
    """Fight with this many threads for this long; gives what this process saw."""
    sys.setswitchinterval(1e-6)  # races between bytecodes need threads that really interleave
    lock = writer_lock(ledger)
    counter, inside = Path(ledger + ".counter"), Path(ledger + ".inside")
    scores: list[Score] = []
    end = time.monotonic() + seconds

    def fight(mine: random.Random) -> None:
        held = given_up = intruders = 0
        while time.monotonic() < end:
            if not (lock.acquire_now() or lock.acquire(mine.choice((0.0, 5e-5, 1e-4, 2e-4)))):
                given_up += 1
                continue
            try:
                inside.mkdir()
            except FileExistsError:
                intruders += 1
            number = int(counter.read_text())
            time.sleep(mine.choice((0.0, 0.0, 1e-4)))
            counter.write_text(str(number + 1))
            held += 1
            if inside.exists():
                inside.rmdir()
            lock.release()
            if mine.random() < 0.5:
                time.sleep(mine.random() * 1e-3)
        scores.append(Score(held, given_up, intruders))

    fighters = [
        threading.Thread(target=fight, args=(random.Random(1000 * seed + i),))
        for i in range(threads)
    ]
    for fighter in fighters:
        fighter.start()
    for fighter in fighters:
        fighter.join()
    return Score(*map(sum, zip(*scores, strict=True)))


def main() -> None:
    """`python lock_contest.py LEDGER SEED THREADS SECONDS` prints the score."""
    ledger, seed, threads, seconds = sys.argv[1:]
    print(*contest(ledger, int(seed), int(threads), float(seconds)))
    sys.stdout.flush()
    os._exit(0)  # a helper thread may still block in the kernel


if __name__ == "__main__":
    main()
