"""How honest and how sharp forecasts are, on a folder of measured calls.

    pip install -e '.[benchmark]'
    python benchmarks/coverage.py FOLDER [--forecaster Library] [--tasks known,late] [--every 2]

The folder holds files .csv or .csv.gz with the columns `model`, `prompt_tokens`,
`completion_tokens`, `latency_ms` or `actual_ms` and, if they have it, `ttft_ms`. Each call is
forecast before it is learnt. Rows without a number, models with fewer than 60 calls and all but a
model's first 4,000 are left out; the first 20 of a model are learnt, but not scored.

tasks
    known     the completion tokens are given
    unknown   only the prompt tokens are
    capped    so, and `max_tokens`: the smallest of 64, 256, 1024 ... that the call stays within
    late      what is left after 1 to 4 times the median of the newest 50, drawn without looking at
              the call; calls that were over by then do not count
    tokens    so, after 0.1 to 4 times it, with the tokens that came so far
    ttft      the time to the first token, by the prompt tokens
    cold      the first 50 calls of each model
    shift     from the middle on, everything takes twice, then half the time
    timeouts  one call in ten is given up; scored is what all would have taken
    drift     how often a change is told where there is none, and how soon where there is one
    routing   which model answers soonest: files of which row i of every model is the same prompt
    peers     the pinball loss beside others' (XGBoost where it is installed)

What is found stands beside its limits; the exit code is 1 where one is missed.

A line for each file, over its models, shows
    cover   how many calls were within the central ranges of 50, 80, 90 and 95 %
    off     the mean of |covered - asked| over models and ranges
    block   at 90 %, the least covered 200 calls in a row: the median model, the least
    third   at 90 %, the least covered third by predicted size: the median model, the least
    pin     the pinball loss of nine quantiles over the mean latency, the median model
    us      the CPU time of a forecast of nine quantiles in microseconds: that of the quickest
            tenth, for the rest is the business of other programs on the machine

The strict marks hold for files whose models have 400 calls and more.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import random
import statistics
import sys
import time
from collections import defaultdict, deque
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np

import forecasters
from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.state import State
from calibration_ledger.rules import find_rule
from forecasters import Adaptive, Boosted, Elapsed, Method, Newest, Normal, PerToken

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
RANGES = {0.5: (3, 5), 0.8: (2, 6), 0.9: (1, 7), 0.95: (0, 8)}
CALLS_MIN, CALLS_MAX, WARM_UP, LONG, BLOCK = 60, 4_000, 20, 400, 200
SWEEPS = ("splitwise_profile",)
"""Files of sweeps over sizes: what comes next is not like what came before."""

PINBALL = {
    "bfcl_result_20240811": {"known": 0.037, "unknown": 0.090},
    "vllm_gptoss_bfcl": {"known": 0.095, "unknown": 0.27},
    "llmperf_leaderboard": {"known": 0.0195, "unknown": 0.024},
    "ollama_small_llms": {"known": 0.026, "unknown": 0.11},
}
"""The most pinball loss over mean latency, for the files of published calls."""


class Call(NamedTuple):
    p: int
    c: int
    y: float
    ttft: float | None = None


class Row(NamedTuple):
    """A forecast beside what came: the call's place, ms, the quantiles, predicted ms, seconds."""

    place: int
    actual: float
    quantiles: list
    size: float
    seconds: float


class Marks:
    """What was found beside its limits."""

    def __init__(self):
        self.missed = 0

    def hold(self, what, found, low=None, high=None):
        kept = (low is None or found >= low) and (high is None or found <= high)
        self.missed += not kept
        signs = {">=": low, "<=": high}.items()
        limits = [f"{sign} {limit:g}" for sign, limit in signs if limit is not None]
        word = "ok  " if kept else "MISS"
        print(f"{word} {what:64s} {found:9.4f}   {' '.join(limits)}", flush=True)


# -- the calls ------------------------------------------------------------------------------


def read(folder, every=1):
    """{file: {model: [Call, ...]}}, the rows in their order."""
    files = {}
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")]):
        calls = defaultdict(list)
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="") as file:
            for row in csv.DictReader(file):
                call = call_of(row)
                if call is not None:
                    calls[row["model"]].append(call)
        long = {model: rows[:CALLS_MAX] for model, rows in calls.items() if len(rows) >= CALLS_MIN}
        kept = dict(list(long.items())[::every])
        if kept:
            files[path.name.partition(".")[0]] = kept
    return files


def call_of(row):
    try:
        p, c = int(row["prompt_tokens"]), int(row["completion_tokens"])
        y = float(row.get("latency_ms") or row["actual_ms"])
    except (KeyError, ValueError):
        return None
    ttft = row.get("ttft_ms")
    fits = p >= 0 and c >= 0 and y > 0.0 and isfinite(y)
    return Call(p, c, y, float(ttft) if ttft else None) if fits else None


class Sizes:
    """What the filter predicts: by it, calls are small or large, whoever forecasts."""

    def __init__(self, model):
        rule = find_rule("kalman")
        self.state = State.from_prior(rule, rule.default_alpha, default_prior(model), 0)

    def learn(self, p, c, y):
        """The prediction before the call."""
        return self.state.learn([0], [p], [c], [y])[0]


# -- forecast, then learn -------------------------------------------------------------------


def cap_of(completion_tokens):
    cap = 64
    while cap < completion_tokens:
        cap *= 4
    return cap


def timed(ask, *arguments):
    started = time.thread_time()
    answer = ask(*arguments)
    return answer, time.thread_time() - started


def ahead(make, model, calls, *, given=True, capped=False):
    """Forecast each call before it is made."""
    forecaster, sizes = make(model), Sizes(model)
    for place, (p, c, y, _) in enumerate(calls):
        cap = cap_of(c) if capped else None
        told, seconds = timed(forecaster.forecast, p, c if given else None, LEVELS, cap)
        yield Row(place, y, told, sizes.learn(p, c, y), seconds)
        forecaster.learn(p, c, y)


def running(make, model, calls, *, with_tokens=False):
    """Forecast what is left of calls that have run for a while, at a moment drawn blindly."""
    forecaster, sizes = make(model), Sizes(model)
    rng, newest = random.Random(f"0{model}"), deque(maxlen=50)
    for place, (p, c, y, ttft) in enumerate(calls):
        draw = rng.random()
        share = 0.1 * 40.0**draw if with_tokens else 4.0**draw
        elapsed = statistics.median(newest) * share if newest else y
        a, _, base = sizes.state.numbers[:3]
        first = ttft or min(base + a * p, 0.5 * y)
        tokens = int(c * (elapsed - first) / (y - first)) if first < min(elapsed, y) else 0
        more = (tokens, first) if with_tokens else ()
        size = sizes.learn(p, c, y)
        if elapsed < y and (tokens >= 1 or not with_tokens):
            told, seconds = timed(forecaster.remaining, p, elapsed, LEVELS, *more)
            yield Row(place, y - elapsed, told, size, seconds)
        newest.append(y)
        forecaster.learn(p, c, y)


# -- figures --------------------------------------------------------------------------------


def trapezoid():
    edges = (0.0, *LEVELS, 1.0)
    return np.array([edges[i + 2] - edges[i] for i in range(len(LEVELS))])


def figures(rows, mean):
    """The figures of one model; `mean` is what losses are divided by."""
    actual, size = np.array([row.actual for row in rows]), np.array([row.size for row in rows])
    told, levels = np.array([row.quantiles for row in rows], dtype=float), np.array(LEVELS)
    error = actual[:, None] - told
    loss = np.maximum(levels * error, (levels - 1.0) * error)
    inside = {
        asked: (actual >= told[:, low]) & (actual <= told[:, high])
        for asked, (low, high) in RANGES.items()
    }
    small, large = np.quantile(size, [1 / 3, 2 / 3])
    parts = [size <= small, (size > small) & (size <= large), size > large]
    thirds = [inside[0.9][part].mean() for part in parts if part.sum() >= 15]
    blocks = np.convolve(inside[0.9], np.ones(BLOCK), "valid") / BLOCK if len(rows) >= BLOCK else []
    return {
        "calls": len(rows),
        "cover": {asked: float(held.mean()) for asked, held in inside.items()},
        "block": float(min(blocks, default=np.nan)),
        "third": float(min(thirds, default=np.nan)),
        "pin": float(loss.mean() / mean),
        "crps": float((loss @ trapezoid()).mean() / mean),
        "us": float(np.quantile([row.seconds for row in rows], 0.1)) * 1e6,
        "sound": bool(
            np.isfinite(told).all() and (np.diff(told) >= -1e-9 * np.abs(told[:, 1:])).all()
        ),
    }


def scored(make, files, rows_of, **more):
    """{file: {model: figures}} of the calls behind the first 20."""
    found = {}
    for file, models in files.items():
        for model, calls in models.items():
            rows = [row for row in rows_of(make, model, calls, **more) if row.place >= WARM_UP]
            if len(rows) >= WARM_UP:
                mean = statistics.mean(call.y for call in calls[WARM_UP:])
                found.setdefault(file, {})[model] = figures(rows, mean)
    return found


class Source:
    """The figures of one file over its models."""

    def __init__(self, name, models):
        self.name, self.models, self.all = name, models, list(models.values())
        self.calls = [one["calls"] for one in self.all]
        self.long = statistics.median(self.calls) >= LONG
        self.covers = {
            asked: np.average([one["cover"][asked] for one in self.all], weights=self.calls)
            for asked in RANGES
        }
        off = [[abs(one["cover"][asked] - asked) for asked in RANGES] for one in self.all]
        self.off, self.worst = float(np.mean(off)), float(np.max(off))

    def column(self, figure):
        return [one[figure] for one in self.all if np.isfinite(one[figure])] or [np.nan]

    def middle(self, figure):
        return statistics.median(self.column(figure))

    def over(self, others, figure):
        """The geometric mean over models of a figure over that of others."""
        return geometric(one[figure] / others[model][figure] for model, one in self.models.items())

    def show(self, task):
        covers = " ".join(f"{found:.3f}" for found in self.covers.values())
        print(
            f"     {task} {self.name}: {len(self.all)} models, {sum(self.calls)} calls, "
            f"cover {covers}, off {self.off:.4f}, "
            f"block {self.middle('block'):.2f} {min(self.column('block')):.2f}, "
            f"third {self.middle('third'):.2f} {min(self.column('third')):.2f}, "
            f"pin {self.middle('pin'):.4f}, us {self.middle('us'):.0f}",
            flush=True,
        )


def geometric(numbers):
    return float(np.exp(np.mean(np.log(list(numbers)))))


def sources(found):
    return [Source(name, models) for name, models in found.items() if name not in SWEEPS]


# -- tasks ----------------------------------------------------------------------------------


def ranges(marks, make, files, task):
    """Known, unknown and capped: every mark of honesty and of loss."""
    more = {"given": task == "known", "capped": task == "capped"}
    found = scored(make, files, ahead, **more)
    reference = scored(Method, files, ahead, **more)
    for source in sources(found):
        source.show(task)
        name, gap = f"{task} {source.name}:", 0.02 if source.long else 0.06
        most = PINBALL.get(source.name, {}).get(task)
        if most is not None:
            marks.hold(f"{name} pinball over mean latency", source.middle("pin"), high=most)
        if sum(source.calls) < 250:
            continue
        gap = 0.025 if task == "capped" and source.long else gap
        if source.long or len(source.all) > 4:
            for asked, covered in source.covers.items():
                marks.hold(f"{name} range {asked:.0%} covers", covered, asked - gap, asked + gap)
        if source.long:
            long_marks(marks, name, source, strict=task != "capped")
        for figure in ("pin", "crps"):
            ratio = source.over(reference[source.name], figure)
            marks.hold(f"{name} {figure} over that of the method alone", ratio, high=1.03)
        marks.hold(f"{name} finite and in order", all(one["sound"] for one in source.all), 1)
        if task != "capped":
            most = 150 if task == "known" else 250
            marks.hold(f"{name} us of a forecast", source.middle("us"), high=most)


def long_marks(marks, name, source, *, strict):
    marks.hold(f"{name} mean |covered - asked|", source.off, high=0.012 if strict else 0.02)
    marks.hold(f"{name} worst model off by", source.worst, high=0.06)
    blocks, thirds = source.column("block"), source.column("third")
    block, third = (0.77, 0.84 if name.startswith("known") else 0.82) if strict else (0.74, 0.76)
    marks.hold(f"{name} worst 200 in a row, median", statistics.median(blocks), block)
    marks.hold(f"{name} worst 200 in a row, least", min(blocks), 0.70)
    marks.hold(f"{name} least third by size, median", statistics.median(thirds), third)
    marks.hold(f"{name} least third by size, least", min(thirds), 0.76)


def late(marks, make, files, _task):
    """What is left of calls that run late."""
    naive = scored(Elapsed, files, running)
    for source in sources(scored(make, files, running)):
        source.show("late")
        if sum(source.calls) < LONG:
            continue
        for asked, covered in source.covers.items():
            gap = 0.05 if asked == 0.95 else 0.04
            what = f"late {source.name}: range {asked:.0%} of what is left covers"
            marks.hold(what, covered, asked - gap, asked + gap)
        if source.name.startswith("bfcl_result"):
            ratio = source.over(naive[source.name], "pin")
            marks.hold(f"late {source.name}: pinball over total - elapsed", ratio, high=0.85)


def tokens(_marks, make, files, task):
    """What is left at the pace so far: to look at, there is no mark."""
    for source in sources(scored(make, files, running, with_tokens=True)):
        source.show(task)


def ttft(_marks, make, files, task):
    """The time to the first token: to look at, there is no mark."""
    of_first = {
        file: {
            model: [Call(call.p, 0, call.ttft) for call in calls if call.ttft]
            for model, calls in models.items()
        }
        for file, models in files.items()
    }
    for source in sources(scored(make, of_first, ahead)):
        source.show(task)


def stretches(marks, make, files, what, wanted):
    """Coverage between two places of each history, over the models of all files."""
    inside = defaultdict(list)
    for file, models in files.items():
        for model, calls in models.items() if file not in SWEEPS else ():
            rows = list(ahead(make, model, calls))
            start = len(calls) // 2 if what != "cold" else 0
            for low, high, asked, _ in wanted:
                part = rows[start + low : start + high]
                if len(part) == high - low:
                    under, over = RANGES[asked]
                    held = [
                        row.quantiles[under] <= row.actual <= row.quantiles[over] for row in part
                    ]
                    inside[low, high, asked].append(statistics.mean(held))
    for low, high, asked, least in wanted:
        found = statistics.mean(inside[low, high, asked] or [np.nan])
        marks.hold(f"{what}, calls {low + 1} to {high}: range {asked:.0%} covers", found, least)


def cold(marks, make, files, task):
    """A model's first calls."""
    wanted = ((5, 10, 0.9, 0.80), (10, 20, 0.8, 0.80), (10, 20, 0.9, 0.86), (20, 35, 0.9, 0.86))
    stretches(marks, make, files, task, wanted)


def shift(marks, make, files, _task):
    """After everything changed in the middle."""
    wanted = (
        *((10, 20, 0.8, 0.72), (10, 20, 0.9, 0.82)),
        *((20, 50, 0.8, 0.78), (20, 50, 0.9, 0.88), (50, 150, 0.9, 0.88)),
    )
    for factor in (2.0, 0.5):
        changed = {
            file: {
                model: changed_from(calls, len(calls) // 2, factor)
                for model, calls in models.items()
            }
            for file, models in files.items()
        }
        stretches(marks, make, changed, f"{factor:g} x as long", wanted)


def changed_from(calls, place, factor):
    return calls[:place] + [call._replace(y=call.y * factor) for call in calls[place:]]


def timeouts(marks, make, files, _task):
    """A call in ten is given up at a deadline, with and without the tokens that came by then."""
    kept = [
        (m, calls) for models in files.values() for m, calls in models.items() if len(calls) >= 200
    ]
    # Leaving them out gives .870 and .811; without their tokens, there is less to be told.
    for given, limits in ((True, (0.885, 0.85)), (False, (0.87, 0.85))):
        found = [upper_of_given_up(make, model, calls[:1700], given=given) for model, calls in kept]
        what = f"10 % given up, their tokens {'known' if given else 'unknown'}:"
        for name, covers, least in zip(
            ("known", "unknown"), zip(*found, strict=True), limits, strict=True
        ):
            marks.hold(f"{what} upper 90 % of {name} covers", statistics.median(covers), least)


def upper_of_given_up(make, model, calls, *, given):
    """How many of all calls are below the upper 0.9 of a forecast: tokens known, unknown."""
    forecaster, inside = make(model), []
    deadline = sorted(call.y for call in calls)[int(0.9 * len(calls))]
    for place, (p, c, y, _) in enumerate(calls):
        if place >= WARM_UP:
            inside.append([y <= forecaster.forecast(p, told, (0.9,))[0] for told in (c, None)])
        if y <= deadline:
            forecaster.learn(p, c, y)
        else:
            forecaster.give_up(p, c if given else None, deadline)
    return np.mean(inside, axis=0)


# -- drift ----------------------------------------------------------------------------------


def drift(marks, make, files, _task):
    """Calls in a random order, so that nothing changes; then, from the 401st on, something does."""
    kept = [
        (m, rows) for models in files.values() for m, rows in models.items() if len(rows) >= 200
    ]
    told = [len(told_of(make, m, mixed(f"still{m}", rows, 4_000), 200)) for m, rows in kept]
    looks = 3_800 * len(kept)
    print(f"     drift: {sum(told)} told in {looks} calls without a change")
    marks.hold("drift: told in 10,000 calls without a change", 1e4 * sum(told) / looks, high=1.0)
    for factor, soon, least in ((1.3, 15, 0.95), (1.5, 10, 0.98), (2.0, 10, 0.98), (0.5, 10, 0.98)):
        after = []
        for model, rows in kept:
            for k in range(4):
                calls = changed_from(mixed(f"{k}{factor}{model}", rows, 600), 400, factor)
                found = told_of(make, model, calls, 400)
                after.append(found[0] - 399 if found else BLOCK + 1)
        noticed = statistics.mean(calls <= BLOCK for calls in after)
        marks.hold(f"drift: {factor:g} x noticed within 200 calls", noticed, least)
        marks.hold(f"drift: {factor:g} x, calls until it is", statistics.median(after), high=soon)


def mixed(seed, calls, count):
    rng, found = random.Random(seed), []
    while len(found) < count:
        found += rng.sample(calls, len(calls))
    return found[:count]


def told_of(make, model, calls, start):
    """The places from `start` on where a change is told; each is told once in 40 calls."""
    forecaster, found = make(model), []
    for place, (p, c, y, _) in enumerate(calls):
        forecaster.learn(p, c, y)
        if place >= start and (not found or place - found[-1] >= 40) and forecaster.drift():
            found.append(place)
    return found


# -- routing --------------------------------------------------------------------------------


def routing(marks, make, files, _task, same_prompts, groups=20):
    """The mean latency of who is asked, over that of the best model of each third of the calls."""
    calls = files.get(same_prompts)
    if calls is None or len(calls) < 5:
        print(f"     routing: left out, for no file {same_prompts} of 5 models is in the folder")
        return
    n, rng = min(map(len, calls.values())), random.Random(1)
    means = {model: statistics.mean(call.y for call in rows[:n]) for model, rows in calls.items()}
    for size, most in ((2, 1.03), (3, 1.03), (5, 1.07)):
        ours, theirs = [], []
        for _ in range(groups):
            group = rng.sample(sorted(calls), size)
            while max(means[m] for m in group) > 1.6 * min(means[m] for m in group):
                group = rng.sample(sorted(calls), size)
            lot = [rng.randrange(60) if rng.random() < 0.05 else None for _ in range(n)]
            best = best_of_thirds(group, calls, lot)
            ours.append(played(make, group, calls, lot) / best)
            theirs.append(played(PerToken, group, calls, lot) / best)
        found, other = statistics.median(ours), statistics.median(theirs)
        marks.hold(f"routing, {size} models: mean latency over the best's", found, high=most)
        marks.hold(
            f"routing, {size} models: so, over that of LiteLLM's rule", found / other, high=1
        )
        print(
            f"     routing, {size} models: LiteLLM's rule {other:.3f}; "
            f"the worst groups {max(ours):.2f}, and {max(theirs):.2f}"
        )


def best_of_thirds(group, calls, lot):
    """The mean latency where of each third of the calls the best model were known."""
    n, total = len(lot), 0.0
    places = [place for place in range(10 * len(group), n) if lot[place] is None]
    for start, end in ((0, n // 3), (n // 3, 2 * n // 3), (2 * n // 3, n)):
        part = [place for place in places if start <= place < end]
        total += min(sum(calls[model][place].y for place in part) for model in group)
    return total / len(places)


def played(make, group, calls, lot):
    """The mean latency of a policy, which sees the answers of the models that it asks alone.

    Each model answers ten calls first, and one call in 20 goes to one by lot; neither is scored.
    """
    policy, found = {model: make(model) for model in group}, []
    for place, drawn in enumerate(lot):
        is_scored = place >= 10 * len(group) and drawn is None
        if is_scored:
            means = [policy[model].mean(calls[model][place].p) for model in group]
            model = group[means.index(min(means))]
        else:
            model = group[(place if place < 10 * len(group) else drawn) % len(group)]
        p, c, y, _ = calls[model][place]
        policy[model].learn(p, c, y)
        if is_scored:
            found.append(y)
    return statistics.mean(found)


# -- peers ----------------------------------------------------------------------------------


PEERS = {
    "the filter's normal range": Normal,
    "adaptive conformal inference": Adaptive,
    "XGBoost quantiles": Boosted,
    "newest 100 latencies": Newest,
}


def peers(marks, make, files, _task, words):
    """A table beside others: the geometric mean over files of the median model's pinball loss."""
    others = {name: peer for name, peer in PEERS.items() if any(word in name for word in words)}
    if Boosted in others.values() and importlib.util.find_spec("xgboost") is None:
        print("     peers: XGBoost is left out; `pip install -e '.[benchmark]'` brings it")
        del others["XGBoost quantiles"]
    for task in ("known", "unknown"):
        table = {"forecast": sources(scored(make, files, ahead, given=task == "known"))}
        for name, peer in others.items():
            if task == "known" or peer is not Adaptive:  # which knows no unknown completions
                table[name] = sources(scored(peer, files, ahead, given=task == "known"))
        names = [source.name for source in table["forecast"]]
        print(
            f"\n| {task} completion | {' | '.join(names)} | geometric mean | off | least 200 | us |"
        )
        print("|---" * (len(names) + 5) + "|")
        losses = {}
        for name, found in table.items():
            long = [source for source in found if source.long] or found
            losses[name] = geometric(source.middle("pin") for source in found)
            pins = " | ".join(f"{source.middle('pin'):.4f}" for source in found)
            off, block = (
                statistics.mean(map(get, long))
                for get in (lambda s: s.off, lambda s: s.middle("block"))
            )
            us = statistics.median(source.middle("us") for source in found)
            print(f"| {name} | {pins} | {losses[name]:.4f} | {off:.4f} | {block:.2f} | {us:.0f} |")
        print(flush=True)
        for name, peer in others.items():
            if name in losses:
                most = 1.01 if peer is Adaptive else 1.0
                ratio = losses["forecast"] / losses[name]
                marks.hold(f"{task}: pinball over that of {name}", ratio, high=most)


# -- all of it ------------------------------------------------------------------------------

TASKS = {
    **dict.fromkeys(("known", "unknown", "capped"), ranges),
    "late": late,
    "tokens": tokens,
    "ttft": ttft,
    "cold": cold,
    "shift": shift,
    "timeouts": timeouts,
    "drift": drift,
    "routing": routing,
    "peers": peers,
}


def main(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--forecaster", default="Library", help="a class of forecasters.py")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--every", type=int, default=1, help="only every n-th model of each file")
    parser.add_argument(
        "--same-prompts",
        default="bfcl_result_20240811",
        help="the file for routing, of which row i of every model is the same prompt",
    )
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="only peers whose names hold one of these words"
    )
    arguments = parser.parse_args(words)
    make, wanted = getattr(forecasters, arguments.forecaster, None), arguments.tasks.split(",")
    if make is None:
        parser.error(f"forecasters.py has no class {arguments.forecaster}")
    if unknown := set(wanted) - set(TASKS):
        parser.error(f"no task {', '.join(sorted(unknown))}: there are {', '.join(TASKS)}")
    files = read(arguments.folder, arguments.every)
    if not files:
        parser.error(f"no file in {arguments.folder} has a model of {CALLS_MIN} calls")
    marks = Marks()
    further = {"routing": arguments.same_prompts, "peers": arguments.peers.split(",")}
    for task in wanted:
        TASKS[task](marks, make, files, task, *([further[task]] if task in further else []))
    print(f"{marks.missed} marks missed")
    sys.exit(marks.missed > 0)


if __name__ == "__main__":
    main()
