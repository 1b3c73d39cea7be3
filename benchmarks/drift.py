"""How quiet drift is while nothing changes, and how soon it is told, for folders of csv files.

    python benchmarks/drift.py FOLDER ... [--every N] [--models]

The files have the columns `model`, `prompt_tokens`, `completion_tokens` and `actual_ms` or
`latency_ms`. Models with 200 calls and more are taken, their first 4,000. Each call is learnt by
`kalman`, as `record()` would; then drift is looked for, as `calib drift` would. After it was told
it is not counted again for 40 calls.

- still: the calls of a model in a random order, over and over until there are 4,000, so that
  nothing changes but by chance. Shown are the alarms from the 201st call on, the calls for each of
  them, how many of all looks told drift, and apart from that the alarms among the first 200 calls.
- changed: 700 of such calls, from the 401st on each takes the factor as long, four times for each
  model. Shown is the share of the changes that were told within 200 calls, after how many calls
  (the median, and what 9 of 10 need; 201 for those that were not told), and the factor that was
  told (the median) when 40 calls had come since the change.
- real: the calls as they came, where real changes are told, too: alarms in 1,000 calls.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import statistics
from collections import defaultdict, deque
from math import isfinite
from pathlib import Path

from calibration_ledger.core.drift import DRIFT_CALLS, drift_of
from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.state import State
from calibration_ledger.rules import find_rule
from calibration_ledger.rules.base import predict_ms

CALLS_MIN, CALLS_MAX, QUIET = 200, 4_000, 40
STILL, CHANGED, CHANGE_AT, WITHIN, ROUNDS = 4_000, 700, 400, 200, 4
FACTORS = {"1.3": 1.3, "1.5": 1.5, "2": 2.0, "1/1.5": 1 / 1.5, "1/2": 0.5}


def read(folders):
    """The calls of each file and model; rows without a number, or of 0 ms, are left out."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.glob("*.csv*")):
        opener, calls = gzip.open if path.suffix == ".gz" else open, defaultdict(list)
        with opener(path, "rt", newline="") as file:
            for row in csv.DictReader(file):
                try:
                    tokens = int(row["prompt_tokens"]), int(row["completion_tokens"])
                    latency = float(row.get("actual_ms") or row.get("latency_ms") or "")
                except ValueError:
                    continue
                if isfinite(latency) and latency > 0 and min(tokens) >= 0:
                    calls[row["model"]].append((*tokens, latency))
        name = path.name.partition(".")[0]
        for model, rows in calls.items():
            if len(rows) >= CALLS_MIN:
                found[name, model] = rows[:CALLS_MAX]
    return found


def shuffled(rows, count, seed):
    """So many of the calls in a random order, over and over if there are fewer."""
    rng, stream = random.Random(seed), []
    while len(stream) < count:
        stream += rng.sample(rows, len(rows))
    return stream[:count]


def looks(model, stream, look=drift_of):
    """The drift after each call; None for none."""
    rule, newest = find_rule("kalman"), deque(maxlen=DRIFT_CALLS)
    state = State.from_prior(rule, rule.default_alpha, default_prior(model), 0)
    for prompt, completion, actual in stream:
        state.learn([0], [prompt], [completion], [actual])
        newest.append((prompt, completion, actual))
        numbers = state.numbers
        yield look([(y, predict_ms(numbers, p, c)) for p, c, y in newest])


def alarms(found):
    """The places of the looks that told drift, without those within 40 calls of another."""
    places, quiet = [], 0
    for place, drift in enumerate(found):
        if drift is not None and place >= quiet:
            places.append(place)
            quiet = place + QUIET
    return places


def still(calls_of, look=drift_of):
    spoke = told = count = begun = 0
    for (name, model), rows in calls_of.items():
        found = [*looks(model, shuffled(rows, STILL, f"still{name}{model}"), look)]
        places = alarms(found)
        spoke += sum(place >= CALLS_MIN for place in places)
        begun += sum(place < CALLS_MIN for place in places)
        told += sum(drift is not None for drift in found[CALLS_MIN:])
        count += STILL - CALLS_MIN
    print(
        f"still: {spoke} alarms in {count} calls, {count / max(spoke, 1):.0f} calls per alarm"
        f"{'' if spoke else ' or more'}; told at {100 * told / max(count, 1):.4f} % of the looks; "
        f"{begun} alarms in {len(calls_of)} beginnings of 200 calls",
        flush=True,
    )


def changed(calls_of, name, factor, look=drift_of):
    took, factors = [], []
    for (file, model), rows in calls_of.items():
        for round_ in range(ROUNDS):
            stream = shuffled(rows, CHANGED, f"{round_}{name}{file}{model}")
            stream[CHANGE_AT:] = [(p, c, y * factor) for p, c, y in stream[CHANGE_AT:]]
            found = [*looks(model, stream[: CHANGE_AT + WITHIN], look)]
            after = [place - CHANGE_AT + 1 for place in alarms(found) if place >= CHANGE_AT]
            took.append(after[0] if after else WITHIN + 1)
            if (drift := found[CHANGE_AT + QUIET]) is not None:
                factors.append(drift.factor)
    took.sort()
    noticed = sum(calls <= WITHIN for calls in took)
    print(
        f"{name:>6} x: {100 * noticed / len(took):.1f} % noticed, after "
        f"{statistics.median(took):g} calls (9 of 10 within {took[int(0.9 * len(took))]}); told as "
        f"{statistics.median(factors or [1.0]):.2f}",
        flush=True,
    )


def real(calls_of, look=drift_of, *, each=False):
    spoke = count = 0
    for (name, model), rows in calls_of.items():
        places = [place for place in alarms(looks(model, rows, look)) if place >= CALLS_MIN]
        spoke += len(places)
        count += len(rows) - CALLS_MIN
        if each:
            print(f"  {name} {model}: {len(places)} in {len(rows)} calls")
    print(f"real: {1000 * spoke / max(count, 1):.2f} alarms in 1,000 calls, of {count}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=1, help="only every N-th model")
    parser.add_argument("--models", action="store_true", help="show the real alarms of each model")
    arguments = parser.parse_args()
    every = [*read(arguments.folders).items()]
    calls_of = dict(every[:: arguments.every])
    print(f"{len(calls_of)} models of {CALLS_MIN} calls and more")
    if calls_of:
        still(calls_of)
        for name, factor in FACTORS.items():
            changed(calls_of, name, factor)
        real(calls_of, each=arguments.models)


if __name__ == "__main__":
    main()
