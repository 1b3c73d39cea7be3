"""How far a call goes through the code: the price of reading it, not of running it.

    python benchmarks/trips.py [--folder DIR] [--names VERB]

For each verb, on a warm ledger: the Python calls of our own functions, the modules entered, and how
often one call stands in another module than the call before it. `--names` lists the modules that
a verb enters, in the order in which they are entered first.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from calibration_ledger import AdaptiveCalibrator

PACKAGE = "calibration_ledger."


def trip(work):
    """The module of each call of ours while this runs."""
    modules = []

    def look(frame, event, _):
        if event == "call":
            module = frame.f_globals.get("__name__", "")
            if module.startswith(PACKAGE):
                modules.append(module.removeprefix(PACKAGE))

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return modules


def one_row(at):
    row = f'{{"model":"m","prompt_tokens":{at},"completion_tokens":5,"actual_ms":{90 + at}}}\n'
    return io.StringIO(row)


def verbs(calibrator):
    """Each verb as a function of a number that makes its calls differ."""
    at = datetime(2025, 1, 31, tzinfo=UTC)
    return {
        "record": lambda n: calibrator.record("m", n, 100.0 + n, completion_tokens=5),
        "record with request_id": lambda n: calibrator.record(
            "m", n, 100.0, completion_tokens=5, request_id=f"r{n}", called_at=at
        ),
        "predict": lambda _: calibrator.predict("m", 10, 5),
        "calibration": lambda _: calibrator.calibration("m"),
        "replay": lambda _: calibrator.replay(0.3),
        "recalibrate": lambda n: calibrator.recalibrate(0.1 + n / 100),
        "void": lambda n: calibrator.void("m", seq=2 + n),
        "audit": lambda _: calibrator.audit(),
        "import of a row": lambda n: calibrator.import_calls("jsonl", one_row(n)),
    }


def measure(folder):
    """The trip of each verb; each is run before it is measured, so that nothing is opened then."""
    found = {}
    with AdaptiveCalibrator(Path(folder) / "trips.db", durability="normal") as calibrator:
        for n in range(20):
            calibrator.record("m", 10 + n, 100.0 + n, completion_tokens=5)
        for name, work in verbs(calibrator).items():
            work(1)
            work(2)
            found[name] = trip(lambda work=work: work(3))
        assert calibrator.audit() == []
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where the ledger lies; default: a temporary one")
    parser.add_argument("--names", metavar="VERB", help="list the modules that this verb enters")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = measure(folder)
    if arguments.names is not None:
        print(*dict.fromkeys(found[arguments.names]), sep="\n")
        return
    print(f"{'verb':24}{'calls':>8}{'modules':>9}{'changes':>9}")
    for name, modules in found.items():
        changes = sum(before != after for before, after in pairwise(modules))
        print(f"{name:24}{len(modules):8}{len(set(modules)):9}{changes:9}")


if __name__ == "__main__":
    main()
