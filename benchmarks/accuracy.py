"""How well every rule predicts real calls, beside its peers, for the csv files that are named.

    pip install -e '.[benchmark]'
    python benchmarks/accuracy.py FILE.csv[.gz] ... [--models]

The files have the columns `model`, `prompt_tokens`, `completion_tokens` and `actual_ms` or
`latency_ms`; rows without a number in one of them are left out, and counted. Each call is predicted
before it is learnt. A figure is the mean absolute error over the mean latency, of a model's first
4,000 calls without the first 20; models with fewer than 60 calls are left out. Shown is the median
over the models of a file, and with --models each of them.

The rules run as `record()` runs them, from the built-in priors. The peers:

- `ema, best alpha`: the rule `ema` under each of 24 alphas, the best of each model in hindsight.
- `river sgd`: river's StandardScaler | LinearRegression, one step of SGD a call.
- `bayesian ridge`: scikit-learn's, fitted to the newest 1,000 calls before every call.
- `xgboost`: absolute error, fitted to the newest 1,000 calls before every 25th.
- `line`: the best straight line in hindsight, by least absolute deviation: what no rule can know.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import itertools
import statistics
import sys
from collections import defaultdict
from math import isfinite
from pathlib import Path

from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.state import State
from calibration_ledger.rules import EMA, RULES

CALLS_MAX, CALLS_MIN, WARM_UP, WINDOW, REFIT_EVERY = 4_000, 60, 20, 1_000, 25
ALPHAS = [round(10 ** (-3 + 3 * i / 23), 5) for i in range(24)]


def read(path):
    """The calls of each model, and how many rows had no number where one must be."""
    calls, left_out = defaultdict(list), 0
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            try:
                tokens = int(row["prompt_tokens"]), int(row["completion_tokens"])
                latency = float(row.get("actual_ms") or row["latency_ms"])
            except ValueError:
                left_out += 1
                continue
            if not (isfinite(latency) and latency >= 0 and min(tokens) >= 0):
                left_out += 1
                continue
            calls[row["model"]].append((*tokens, latency))
    kept = {model: rows[:CALLS_MAX] for model, rows in calls.items() if len(rows) >= CALLS_MIN}
    return kept, left_out


def error_of(predicted, calls):
    pairs = [(mine, y) for mine, (_, _, y) in zip(predicted, calls, strict=True)][WARM_UP:]
    return sum(abs(y - mine) for mine, y in pairs) / (sum(y for _, y in pairs) or 1.0)


def by_rule(rule, alpha):
    def predict(model, calls):
        state = State.from_prior(rule, alpha, default_prior(model), 0)
        return state.learn(range(len(calls)), *map(list, zip(*calls, strict=True)))

    return predict


def best_ema(model, calls):
    predictions = (by_rule(EMA, alpha)(model, calls) for alpha in ALPHAS)
    return min(predictions, key=lambda predicted: error_of(predicted, calls))


def river_sgd(_model, calls):
    from river import linear_model, preprocessing

    learner = preprocessing.StandardScaler() | linear_model.LinearRegression()
    predicted = []
    for p, c, y in calls:
        x = {"prompt_tokens": p, "completion_tokens": c}
        predicted.append(learner.predict_one(x))
        learner.learn_one(x, y)
    return predicted


def windowed(fit, every):
    """Predict each call by what was last fitted to the newest calls before it."""

    def predict(_model, calls):
        import numpy as np

        table = np.array(calls, dtype=float)
        predicted = [0.0, 0.0]
        for start in range(2, len(calls), every):
            newest = table[max(0, start - WINDOW) : start]
            fitted = fit(newest[:, :2], newest[:, 2])
            predicted.extend(fitted.predict(table[start : start + every, :2]))
        return predicted

    return predict


def bayesian_ridge(x, y):
    from sklearn.linear_model import BayesianRidge

    return BayesianRidge().fit(x, y)


def xgboost(x, y):
    from xgboost import XGBRegressor

    return XGBRegressor(objective="reg:absoluteerror", n_jobs=1).fit(x, y)


def line_in_hindsight(_model, calls):
    """By linear programming, exactly: minimise the sum of |y - w x| (Koenker and Bassett, 1978)."""
    import numpy as np
    from sklearn.linear_model import QuantileRegressor

    table = np.array(calls, dtype=float)
    scale = np.maximum(table.max(axis=0), 1.0)
    x, y = table[:, :2] / scale[:2], table[:, 2] / scale[2]
    line = QuantileRegressor(quantile=0.5, alpha=0.0, solver="highs").fit(x, y)
    return line.predict(x) * scale[2]


COLUMNS = {
    **{
        f"{rule.version} {rule.default_alpha:g}": by_rule(rule, rule.default_alpha)
        for rule in RULES
    },
    "ema, best alpha": best_ema,
    "river sgd": river_sgd,
    "bayesian ridge": windowed(bayesian_ridge, 1),
    "xgboost": windowed(xgboost, REFIT_EVERY),
    "line": line_in_hindsight,
}

PEERS = {
    "river sgd": ("river",),
    "bayesian ridge": ("sklearn",),
    "xgboost": ("xgboost",),
    "line": ("sklearn",),
}
"""What the extra `benchmark` brings for a column."""


def show(name, figures, width):
    print(name.ljust(width), *(f"{figure:>{len(column) + 1}.3f}" for column, figure in figures))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--models", action="store_true", help="show each model too")
    parser.add_argument("--only", default="", help="columns whose names hold one of these words")
    arguments = parser.parse_args()
    words = arguments.only.split()
    columns = {
        name: predict
        for name, predict in COLUMNS.items()
        if not words or any(word in name for word in words)
    }
    missing = sorted(
        module
        for name in columns
        for module in PEERS.get(name, ())
        if importlib.util.find_spec(module) is None
    )
    if missing:
        parser.error(
            f"{', '.join(dict.fromkeys(missing))} missing: pip install -e '.[benchmark]', or leave "
            f"the peers out with --only 'ema kalman'"
        )
    tables = {path: read(path) for path in arguments.files}
    names = [path.name.partition(".")[0] for path in tables]
    models = itertools.chain.from_iterable(kept for kept, _ in tables.values())
    width = 2 + max(map(len, [*names, *models]))
    print(" " * width, *(name.rjust(len(name) + 1) for name in columns))
    for name, (kept, left_out) in zip(names, tables.values(), strict=True):
        figures = defaultdict(list)
        for model, calls in kept.items():
            for column, predict in columns.items():
                figures[column].append(error_of(predict(model, calls), calls))
                if sys.stderr.isatty():
                    print(f"{name}: {column}"[:79].ljust(79), end="\r", file=sys.stderr)
            if arguments.models:
                show(f"  {model}", [(column, figures[column][-1]) for column in columns], width)
        if kept:
            show(name, [(column, statistics.median(figures[column])) for column in columns], width)
        print(f"{name}: {len(kept)} models, {left_out} rows left out", file=sys.stderr)


if __name__ == "__main__":
    main()
