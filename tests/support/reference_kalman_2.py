"""The rule `kalman.2`, written down a second time with lists and loops, as a textbook has it.

    python tests/support/reference_kalman_2.py > tests/conformance/kalman_2_vectors.jsonl

wrote the conformance traces, once: a released version's arithmetic never changes. Nothing here
imports the package. Sums run from left to right in the order prompt, completion, base.
"""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a program, it does not find its neighbour by itself
    sys.path.insert(0, str(Path(__file__).parents[1]))

from support import reference_kalman
from support.reference_kalman import (
    FLOORS,
    GROQ,
    LOCAL,
    NOISE_CUT,
    NOISE_LEAST,
    NOISE_PACE,
    RUN,
    WIDTH,
    Kalman,
)

VECTORS = Path(__file__).parents[1] / "conformance" / "kalman_2_vectors.jsonl"


def load_traces() -> list[dict[str, Any]]:
    """The conformance traces; floats are still `float.hex()` texts."""
    return [json.loads(line) for line in VECTORS.read_text().splitlines()]


class Kalman2(Kalman):
    """The filter: `w` the coefficients, `cov` their covariance."""

    def learn(self, p: int, c: int, y: float) -> tuple[float, float]:
        """Learn a call; gives what was predicted, and the error."""
        w, x = self.w, (p, c, 1)
        predicted = w[2] + w[0] * p + w[1] * c
        error, level = y - predicted, max(1.0, predicted)
        sizes = self.sizes()
        if abs(self.run) >= RUN:
            likely = level / (FLOORS[2] + FLOORS[0] * p + FLOORS[1] * c)
            sizes = [max(floor * likely, size) for floor, size in zip(FLOORS, sizes, strict=True)]
            self.cov = [
                [WIDTH * (sizes[i] * sizes[i]) if i == j else 0.0 for j in range(3)]
                for i in range(3)
            ]
        cov = self.cov
        for i, size in enumerate(sizes):
            if cov[i][i] < WIDTH * (size * size):
                cov[i][i] = cov[i][i] + self.alpha * self.alpha * (size * size)
        g = [cov[i][0] * x[0] + cov[i][1] * x[1] + cov[i][2] for i in range(3)]
        spread = g[0] * x[0] + g[1] * x[1] + g[2]
        variance = max(spread, 0.0) + self.noise * level * level
        width = math.sqrt(variance) if variance >= 0.0 else math.nan
        cut = max(-width, min(width, error))
        if cut == error:
            self.run = 0.0
        elif error > 0.0:
            self.run = max(self.run, 0.0) + 1.0
        else:
            self.run = min(self.run, 0.0) - 1.0
        moved = [w[i] + g[i] * (cut / variance) for i in range(3)]
        told = (cut / error if error else 1.0) / variance
        for i in range(3):
            for j in range(i, 3):
                cov[i][j] = cov[j][i] = cov[i][j] - g[i] * (g[j] * told)
        moved = self.at_or_above_zero(moved)
        self.w = [max(0.0, value) for value in moved]
        square = (abs(error) / level) * (abs(error) / level)
        square = min(square, NOISE_CUT * NOISE_CUT * self.noise)
        self.noise = max(NOISE_LEAST, self.noise + NOISE_PACE * (square - self.noise))
        self.total_absolute_error_ms += abs(error)
        self.total_predicted_ms += predicted
        self.is_finite = self.is_finite and all(
            map(math.isfinite, (error, *moved, variance, *self.numbers()))
        )
        return predicted, error

    def at_or_above_zero(self, w: list[float]) -> list[float]:
        """Project on `w[i] = 0` for each i below it, three times round."""
        for i in [0, 1, 2] * 3:
            if w[i] < 0.0 < self.cov[i][i]:
                ratio = w[i] / self.cov[i][i]
                w = [0.0 if j == i else w[j] - self.cov[i][j] * ratio for j in range(3)]
        return w


def scenarios() -> dict[str, tuple[float, tuple[float, ...], list[tuple[int, int, float]]]]:
    """Those of the first version, and what it did badly."""
    rng = random.Random(20261128)

    def call(a: float, b: float, o: float) -> tuple[int, int, float]:
        p, c = rng.randrange(50, 2000), rng.randrange(10, 400)
        return p, c, (o + a * p + b * c) * rng.uniform(0.95, 1.05)

    fast = [call(0.05, 0.6, 20.0) for _ in range(60)]
    return {
        **reference_kalman.scenarios(),
        "fast-model-under-a-slow-prior": (0.01, LOCAL, fast),
        "slow-model-under-a-fast-prior": (0.01, GROQ, [call(3.0, 1.0, 50.0) for _ in range(60)]),
        "cold-ping-first": (0.01, LOCAL, [(5, 1, 30_000.0), *fast]),
        "no-base-and-no-price-of-a-prompt": (0.01, LOCAL, [call(0.0, 2.0, 0.0) for _ in range(50)]),
        "no-completion": (0.01, LOCAL, [(p, 0, 10.0 + 0.02 * p) for p, _, _ in fast[:40]]),
    }


if __name__ == "__main__":
    for name, (alpha, prior, calls) in scenarios().items():
        found = reference_kalman.trace(name, alpha, prior, calls, Kalman2)
        print(json.dumps(found, separators=(",", ":")))
