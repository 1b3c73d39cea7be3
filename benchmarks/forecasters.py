"""What `coverage.py` measures: the forecasts of the library, and what else there is.

A forecaster is a class. `Forecaster(model)` has seen no call of the model yet; it has

- `forecast(p, c, levels, cap=None)`: quantiles of the latency of a call in ms, one for each level;
  c is the number of its completion tokens, None where unknown, and cap its `max_tokens`;
- `learn(p, c, y)`: that call is over, and took y ms;

and, if it can,

- `remaining(p, elapsed, levels, tokens=None, ttft=None)`: quantiles of what is left of a call that
  has run for so long, with the tokens that came so far and when the first of them did;
- `mean(p)`: the latency to expect of a call of which only the prompt is known;
- `give_up(p, c, waited)`: a call was given up after so many ms; c is None where unknown;
- `drift()`: whether the model has changed of late.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from math import sqrt
from statistics import NormalDist

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.core.drift import DRIFT_CALLS, ratio_of
from calibration_ledger.core.forecast import Basis, Forecast, Observed
from calibration_ledger.core.priors import default_prior
from calibration_ledger.core.state import State
from calibration_ledger.rules import find_rule, predict_ms

COMPLETION = 128
"""Assumed by peers where they have seen no completion."""


class Library:
    """The library as users have it: each call is recorded into a ledger, and asked of it."""

    RULE = "ema"  # what the model learns by; a fresh ledger's own

    def __init__(self, model):
        self.model = model
        self.calibrator = AdaptiveCalibrator(":memory:", rule=self.RULE)

    def asked(self, p, c=None, cap=None):
        return self.calibrator.forecast(self.model, p, c, max_tokens=cap)

    def learn(self, p, c, y):
        self.calibrator.record(self.model, p, y, completion_tokens=c)

    def give_up(self, p, c, waited):
        self.calibrator.record(self.model, p, waited, completion_tokens=c or 0, outcome="timeout")

    def forecast(self, p, c, levels, cap=None):
        quantile = self.asked(p, c, cap).quantile
        return [quantile(level) for level in levels]

    def remaining(self, p, elapsed, levels, tokens=None, ttft=None):
        quantile = self.asked(p).remaining(elapsed, tokens, ttft).quantile
        return [quantile(level) for level in levels]

    def mean(self, p):
        return self.asked(p).mean_ms

    def drift(self):
        return self.asked(1).basis.drift is not None


class LibraryKalman(Library):
    RULE = "kalman"


class Method(Library):
    """The method alone, without a ledger, on the filter of the whole history."""

    def __init__(self, model):
        rule = find_rule("kalman")
        self.model, self.count, self.calls = model, 0, deque(maxlen=DRIFT_CALLS)
        self.state = State.from_prior(rule, rule.default_alpha, default_prior(model), 0)

    def asked(self, p, c=None, cap=None):
        basis = Basis(
            self.model,
            tuple(self.state.numbers[:3]),
            list(self.calls),
            self.count,
            rule=self.state.rule.version,
        )
        return Forecast(self.model, p, cap, basis, c)

    def learn(self, p, c, y):
        (predicted,) = self.state.learn([0], [p], [c], [y])
        self.calls.append(Observed(p, c, y, ratio_of(y, predicted)))
        self.count += 1

    def give_up(self, p, c, waited):
        ratio = ratio_of(waited, predict_ms(self.state.numbers, p, c or 0))
        self.calls.append(Observed(p, c or 0, waited, ratio, is_timeout=True))
        self.count += 1


class Elapsed(Method):
    """What is left is what a forecast before the call said, less the time that went by."""

    def remaining(self, p, elapsed, levels, tokens=None, ttft=None):
        return [max(ms - elapsed, 0.0) for ms in self.forecast(p, None, levels)]


# -- peers ----------------------------------------------------------------------------------


class Normal(Method):
    """The filter's own range: its prediction, and the deviation that it expects of the error.

    Of an unknown completion, the mean and the variance of the newest hundred.
    """

    def __init__(self, model):
        super().__init__(model)
        self.completions = deque(maxlen=100)

    def learn(self, p, c, y):
        super().learn(p, c, y)
        self.completions.append(c)

    def forecast(self, p, c, levels, cap=None):
        numbers, more = self.state.numbers, 0.0
        if c is None:
            found = [d if cap is None else min(d, cap) for d in self.completions] or [COMPLETION]
            c = sum(found) / len(found)
            more = numbers[1] ** 2 * sum((d - c) ** 2 for d in found) / len(found)
        predicted = predict_ms(numbers, p, c)
        deviation = sqrt(self.variance(predicted, p, c) + more)
        return [max(predicted + NormalDist(0, deviation).inv_cdf(q), 0.0) for q in levels]

    def variance(self, predicted, p, c):
        """What the filter expects of the square of its error, but for the step of one call."""
        state = self.state
        further = dict(zip(state.rule.extra_numbers, state.numbers[5:], strict=True))
        spread = (
            further["prompt_variance"] * p * p
            + further["completion_variance"] * c * c
            + further["base_variance"]
            + 2.0 * further["prompt_completion_covariance"] * p * c
            + 2.0 * further["prompt_base_covariance"] * p
            + 2.0 * further["completion_base_covariance"] * c
        )
        return max(spread, 0.0) + max(further["noise_variance"], 1e-6) * max(predicted, 1.0) ** 2


class Adaptive(Method):
    """Adaptive conformal inference (I. Gibbs and E. Candès, 2021) on the newest 500 ratios.

    Each quantile has a level of its own, which goes up by GAMMA times the level that was asked for
    where a call took longer, and down by GAMMA times the rest where it did not. With unknown
    completions it is the library's method.
    """

    GAMMA, RATIOS, LEAST, FIRST_LEFT_OUT = 0.02, 500, 20, 10

    def __init__(self, model):
        super().__init__(model)
        self.ratios, self.in_order, self.levels, self.told = deque(), [], {}, []

    def learn(self, p, c, y):
        ratio = ratio_of(y, predict_ms(self.state.numbers, p, c))
        for asked, quantile in self.told:
            moved = self.levels[asked] + self.GAMMA * (asked - (y < quantile))
            self.levels[asked] = min(max(moved, 0.0005), 0.9995)
        self.told = []
        if self.count >= self.FIRST_LEFT_OUT:
            self.ratios.append(ratio)
            insort(self.in_order, ratio)
        if len(self.ratios) > self.RATIOS:
            del self.in_order[bisect_left(self.in_order, self.ratios.popleft())]
        super().learn(p, c, y)

    def forecast(self, p, c, levels, cap=None):
        if c is None or len(self.in_order) < self.LEAST:
            return super().forecast(p, c, levels, cap)
        predicted = max(predict_ms(self.state.numbers, p, c), 1.0)
        own = [self.levels.setdefault(level, level) for level in levels]
        found = sorted(predicted * ratio for ratio in places(self.in_order, own))
        self.told = list(zip(levels, found, strict=True))
        return found


class Newest:
    """Quantiles of the newest hundred latencies, whatever the call."""

    def __init__(self, model):
        self.newest, self.prior = deque(maxlen=100), default_prior(model)

    def learn(self, p, c, y):
        self.newest.append(y)

    def forecast(self, p, c, levels, cap=None):
        if not self.newest:
            return [predict_ms(self.prior, p, COMPLETION if c is None else c)] * len(levels)
        return places(sorted(self.newest), levels)


def places(values, levels):
    """Quantiles of values in order: the i-th of n stands at i / (n + 1)."""
    found = []
    for level in levels:
        place = min(max(level * (len(values) + 1) - 1.0, 0.0), len(values) - 1.0)
        low = int(place)
        high = values[min(low + 1, len(values) - 1)]
        found.append(values[low] + (place - low) * (high - values[low]))
    return found


class Boosted(Method):
    """XGBoost's quantile regression of the logarithm of the latency on the tokens.

    Fitted to the newest 1,000 calls before every 25th call; before the 20th, the library's method.
    Trees of depth 3 did better than deeper ones, and than the latency itself.
    """

    CALLS, EVERY, LEAST = 1_000, 25, 20

    def __init__(self, model):
        super().__init__(model)
        self.history, self.fitted, self.fitted_at = deque(maxlen=self.CALLS), None, -self.EVERY

    def learn(self, p, c, y):
        super().learn(p, c, y)
        self.history.append((p, c, y))

    def forecast(self, p, c, levels, cap=None):
        import numpy as np

        if self.count < self.LEAST:
            return super().forecast(p, c, levels, cap)
        tokens = 1 if c is None else 2
        if self.count - self.fitted_at >= self.EVERY:
            import xgboost

            table, settings = (
                np.array(self.history, dtype=float),
                {
                    "objective": "reg:quantileerror",
                    "quantile_alpha": list(levels),
                    "max_depth": 3,
                    "learning_rate": 0.1,
                    "min_child_weight": 10,
                    "nthread": 1,
                },
            )
            known = xgboost.DMatrix(table[:, :tokens], np.log(table[:, 2]))
            self.fitted = xgboost.train(settings, known, num_boost_round=100)
            self.fitted_at = self.count
        call = np.array([[p, c][:tokens]], dtype=float)
        return [float(q) for q in np.sort(np.exp(self.fitted.inplace_predict(call)[0]))]


class PerToken:
    """As LiteLLM's `lowest_latency` ranks: the mean of ten latencies per completion token."""

    def __init__(self, _model):
        self.newest = deque(maxlen=10)

    def learn(self, p, c, y):
        self.newest.append(y / max(c, 1))

    def mean(self, _p):
        return sum(self.newest) / len(self.newest)
