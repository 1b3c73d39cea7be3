"""How long calls take whose model is picked by `soonest()`, beside other ways to pick one.

    pip install -e .
    python benchmarks/routing.py FOLDER-OR-FILE.csv[.gz] ... [--groups 20] [--slow 1] [--seed 1]

For files in which every model was given the same prompts in the same order, as in benchmarks of
tool calls; others are left out, which shows in how little the prompt lengths of two models go
together. So each call has an answer of every model, and a way to pick sees the prompt length, picks
a model, and learns from its answer alone.

Groups of 2, 3 and 5 models are drawn whose mean latencies are within a factor of 1.6. Each model
answers 10 calls first. Then one call in 20 goes to a model by lot, the same for every way; it is
learnt, but does not count. With `--slow 3` the model that is best on average takes three times as
long in the middle third.

The ways:

- `mean`, `median`, `0.95`: `soonest(prompt_tokens, group, by=...)` of the library, on a ledger in
  memory, in which each answer is recorded.
- `last 10`: the least mean of the newest 10 latencies.
- `lowest_latency`: what LiteLLM's strategy of this name does: the least mean of the newest 10
  latencies per completion token. `... before 25548`: as it was until its pull request 25548, when a
  full list kept its first nine.
- `last 100`: the least quantile 0.95 of the newest 100 latencies.
- `lot`: any. `one model`: the best one over all, known in hindsight. `clairvoyant`: the quickest
  for each call.

A figure is the mean latency over that of the best model of each third, which is known in hindsight;
below it, the quantile 0.95 over that of the best model. Shown is the median of the groups, and in
brackets the worst group.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import defaultdict, deque
from pathlib import Path

from accuracy import read
from calibration_ledger import AdaptiveCalibrator

SIZES, ALIKE, FIRST, EXPLORED = (2, 3, 5), 1.6, 10, 0.05
ROWS_MIN, TOGETHER_MIN = 300, 0.5


class Soonest:
    def __init__(self, group, by):
        self.group, self.by = group, by
        self.calibrator = AdaptiveCalibrator(":memory:")

    def pick(self, prompt_tokens):
        return self.calibrator.soonest(prompt_tokens, self.group, by=self.by).model

    def learn(self, model, call, latency):
        self.calibrator.record(model, call[0], latency, completion_tokens=call[1])


class Newest:
    def __init__(self, group, *, size=10, level=None, per_token=False, first_stay=False):
        self.of = {model: deque(maxlen=size) for model in group}
        self.level, self.per_token, self.first_stay = level, per_token, first_stay

    def pick(self, _):
        return min(self.of, key=lambda model: self.score(self.of[model]))

    def score(self, values):
        return statistics.fmean(values) if self.level is None else quantile(values, self.level)

    def learn(self, model, call, latency):
        values = self.of[model]
        if self.first_stay and len(values) == values.maxlen:
            values.pop()
        values.append(latency / max(call[1], 1) if self.per_token else latency)


WAYS = {
    "mean": lambda group: Soonest(group, "mean"),
    "median": lambda group: Soonest(group, "median"),
    "0.95": lambda group: Soonest(group, 0.95),
    "last 10": Newest,
    "last 100": lambda group: Newest(group, size=100, level=0.95),
    "lowest_latency": lambda group: Newest(group, per_token=True),
    "lowest_latency before 25548": lambda group: Newest(group, per_token=True, first_stay=True),
}
SHOWN = {
    "mean latency": statistics.fmean,
    "quantile 0.95": lambda values: quantile(values, 0.95),
}


def quantile(values, level):
    ordered = sorted(values)
    place = level * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def parallel(path):
    """The calls of each model of a file, cut to one length; None where the prompts differ."""
    calls, _ = read(path)
    calls = {model: rows for model, rows in calls.items() if len(rows) >= ROWS_MIN}
    if len(calls) < SIZES[-1]:
        return None
    n = min(map(len, calls.values()))
    cut = {model: rows[:n] for model, rows in sorted(calls.items())}
    first, *others = [[row[0] for row in rows] for rows in cut.values()]
    if any(len(set(one)) < ROWS_MIN // 10 for one in (first, *others)):
        return None
    together = [statistics.correlation(first, other) for other in others]
    return cut if statistics.median(together) >= TOGETHER_MIN else None


def drawn_group(calls, size, rng):
    means = {model: statistics.fmean(row[2] for row in rows) for model, rows in calls.items()}
    while True:
        group = rng.sample(sorted(calls), size)
        if max(means[m] for m in group) <= ALIKE * min(means[m] for m in group):
            return group, min(group, key=means.get)


def played(calls, size, slow, rng):
    """What each way gives for one group: {shown: {way: ratio}}."""
    group, best = drawn_group(calls, size, rng)
    n = len(calls[best])
    middle = range(n // 3, 2 * n // 3)
    latency = {
        model: [row[2] * (slow if model == best and i in middle else 1.0) for i, row in rows]
        for model, rows in ((m, list(enumerate(calls[m]))) for m in group)
    }
    explored = [rng.choice(group) if rng.random() < EXPLORED else None for _ in range(n)]
    counts = [i for i in range(FIRST * size, n) if explored[i] is None]
    thirds = [[i for i in counts if i * 3 // n == third] for third in range(3)]
    mean_of = lambda model, part: statistics.fmean(latency[model][i] for i in part)  # noqa: E731
    by_third = sum(min(mean_of(m, part) for m in group) * len(part) for part in thirds)
    floors = {
        "mean latency": by_third / len(counts),
        "quantile 0.95": min(quantile([latency[m][i] for i in counts], 0.95) for m in group),
    }
    got = {way: run(make(group), group, calls, latency, explored) for way, make in WAYS.items()}
    got["lot"] = [latency[rng.choice(group)][i] for i in counts]
    steady = min(group, key=lambda model: mean_of(model, counts))
    got["one model"] = [latency[steady][i] for i in counts]
    got["clairvoyant"] = [min(latency[m][i] for m in group) for i in counts]
    return {
        title: {way: of(values) / floors[title] for way, values in got.items()}
        for title, of in SHOWN.items()
    }


def run(way, group, calls, latency, explored):
    """The latencies of the calls that count."""
    found = []
    for i, lot in enumerate(explored):
        first = group[i % len(group)] if i < FIRST * len(group) else lot
        # Models count tokens each in their own way: who picks has the count of one of them.
        model = first or way.pick(calls[group[0]][i][0])
        way.learn(model, calls[model][i], latency[model][i])
        if first is None:
            found.append(latency[model][i])
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--groups", type=int, default=20)
    parser.add_argument("--slow", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    paths = [p for one in arguments.paths for p in (one.glob("*.csv*") if one.is_dir() else [one])]
    for path in sorted(paths):
        calls = parallel(path)
        if calls is None:
            print(f"{path.name}: left out, its models were not given the same prompts")
            continue
        print(f"{path.name}: {len(calls)} models, {len(next(iter(calls.values())))} calls each")
        rng = random.Random(arguments.seed)
        for size in SIZES:
            ratios = defaultdict(lambda: defaultdict(list))
            for _ in range(arguments.groups):
                for title, ways in played(calls, size, arguments.slow, rng).items():
                    for way, ratio in ways.items():
                        ratios[title][way].append(ratio)
            for title, ways in ratios.items():
                print(f"{size} models, {title}:")
                for way, found in ways.items():
                    print(f"  {way:<28}{statistics.median(found):6.3f} [{max(found):.2f}]")
            print(flush=True)


if __name__ == "__main__":
    main()
