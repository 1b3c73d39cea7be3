"""The rule `kalman.1`, written down a second time with lists and loops, as a textbook has it.

    python tests/support/reference_kalman.py > tests/conformance/kalman_vectors.jsonl

wrote the conformance traces, once: a released version's arithmetic never changes. Nothing here
imports the package. Sums run from left to right in the order prompt, completion, base.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "conformance" / "kalman_vectors.jsonl"

FLOORS = (0.001, 0.01, 1.0)
WIDTH = 4.0
NOISE_START, NOISE_LEAST, NOISE_PACE, NOISE_CUT = 0.04, 1e-6, 0.05, 1.5
RUN = 5.0

NUMBERS = (
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "total_absolute_error_ms",
    "total_predicted_ms",
    "prompt_variance",
    "prompt_completion_covariance",
    "prompt_base_covariance",
    "completion_variance",
    "completion_base_covariance",
    "base_variance",
    "noise_variance",
    "run_of_cut_errors",
)


def load_traces() -> list[dict[str, Any]]:
    """The conformance traces; floats are still `float.hex()` texts."""
    return [json.loads(line) for line in VECTORS.read_text().splitlines()]


@dataclass
class Kalman:
    """The filter: `w` the coefficients, `cov` their covariance."""

    alpha: float
    w: list[float]
    cov: list[list[float]] = field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    noise: float = NOISE_START
    run: float = RUN
    total_absolute_error_ms: float = 0.0
    total_predicted_ms: float = 0.0
    is_finite: bool = True

    def sizes(self) -> list[float]:
        return [max(floor, w) for w, floor in zip(self.w, FLOORS, strict=True)]

    def open_covariance(self) -> None:
        widest = [WIDTH * size * size for size in self.sizes()]
        self.cov = [[widest[i] if i == j else 0.0 for j in range(3)] for i in range(3)]

    def learn(self, p: int, c: int, y: float) -> tuple[float, float]:
        """Learn a call; gives what was predicted, and the error."""
        w, cov, x = self.w, self.cov, (p, c, 1)
        predicted = w[2] + w[0] * p + w[1] * c
        error = y - predicted
        if abs(self.run) >= RUN:
            self.open_covariance()
            self.run = 0.0
            cov = self.cov
        for i, size in enumerate(self.sizes()):
            if cov[i][i] < WIDTH * size * size:
                cov[i][i] = cov[i][i] + self.alpha * size * (self.alpha * size)
        g = [cov[i][0] * x[0] + cov[i][1] * x[1] + cov[i][2] for i in range(3)]
        spread = g[0] * x[0] + g[1] * x[1] + g[2]
        spread = max(spread, 0.0)
        level = max(1.0, predicted)
        variance = spread + self.noise * level * level
        width = math.sqrt(variance) if variance >= 0.0 else math.nan
        cut = max(-width, min(width, error))
        if cut == error:
            self.run = 0.0
        elif error > 0.0:
            self.run = max(self.run, 0.0) + 1.0
        else:
            self.run = min(self.run, 0.0) - 1.0
        moved = [w[i] + g[i] * (cut / variance) for i in range(3)]
        self.w = [max(0.0, value) for value in moved]
        told = (cut / error if error else 1.0) / variance
        for i in range(3):
            for j in range(i, 3):
                cov[i][j] = cov[j][i] = cov[i][j] - g[i] * g[j] * told
        share = min(abs(error) / level, NOISE_CUT * math.sqrt(self.noise))
        self.noise = max(NOISE_LEAST, self.noise + NOISE_PACE * (share * share - self.noise))
        self.total_absolute_error_ms += abs(error)
        self.total_predicted_ms += predicted
        self.is_finite = self.is_finite and all(
            map(math.isfinite, (error, *moved, variance, *self.numbers()))
        )
        return predicted, error

    def numbers(self) -> list[float]:
        """All of the state, in the order in which the ledger keeps it."""
        cov = self.cov
        return [
            *self.w,
            self.total_absolute_error_ms,
            self.total_predicted_ms,
            *(cov[0][0], cov[0][1], cov[0][2], cov[1][1], cov[1][2], cov[2][2]),
            self.noise,
            self.run,
        ]


LOCAL, GROQ = (0.5, 8.0, 300.0), (0.05, 0.3, 150.0)


def scenarios() -> dict[str, tuple[float, tuple[float, ...], list[tuple[int, int, float]]]]:
    """Name: alpha, prior, calls. The numbers are made up; what they show is in the names."""
    rng = random.Random(20261124)

    def call(a: float, b: float, o: float, noise: float = 0.1) -> tuple[int, int, float]:
        p, c = rng.randrange(1, 4000), rng.randrange(1, 800)
        return p, c, (o + a * p + b * c) * rng.uniform(1.0 - noise, 1.0 + noise)

    ordinary = [call(0.6, 12.0, 250.0) for _ in range(60)]
    outliers = [call(0.4, 9.0, 300.0) for _ in range(50)]
    for i in (7, 23, 24, 41):
        outliers[i] = (*outliers[i][:2], 90_000.0)
    shifted = [call(0.5, 8.0, 300.0) for _ in range(25)] + [
        call(2.0, 40.0, 900.0) for _ in range(25)
    ]
    return {
        "ordinary": (0.01, LOCAL, ordinary),
        "far-off-prior": (0.01, LOCAL, [call(20.0, 674.0, 5000.0) for _ in range(50)]),
        "far-too-slow-prior": (0.01, LOCAL, [call(0.01, 0.2, 12.0) for _ in range(50)]),
        "outliers-of-minutes": (0.01, LOCAL, outliers),
        "shift-of-speed": (0.01, LOCAL, shifted),
        "constant-prompt": (0.01, GROQ, [(550, 150, 900.0 + 13.0 * (i % 7)) for i in range(50)]),
        "zeros": (0.01, GROQ, [(i % 2, i % 3, 0.0) for i in range(40)]),
        "alpha-one": (1.0, LOCAL, [call(0.6, 12.0, 250.0, 0.5) for _ in range(40)]),
        "alpha-tiny": (1e-6, LOCAL, [call(0.6, 12.0, 250.0, 0.5) for _ in range(40)]),
        "huge-tokens": (
            0.01,
            LOCAL,
            [
                (rng.randrange(2**31), rng.randrange(2**31), rng.uniform(0.0, 1e9))
                for _ in range(40)
            ],
        ),
        "prior-of-zeros": (0.01, (0.0, 0.0, 0.0), [call(0.6, 12.0, 250.0) for _ in range(40)]),
        "exact": (0.01, LOCAL, [(10, 10, 385.0)] * 10),
    }


def trace(
    name: str,
    alpha: float,
    prior: tuple[float, ...],
    calls: list[Any],
    rule: type[Kalman] = Kalman,
) -> dict[str, Any]:
    kalman = rule(alpha, list(prior))
    steps = []
    for p, c, y in calls:
        predicted, error = kalman.learn(p, c, y)
        numbers = dict(zip(NUMBERS, [number.hex() for number in kalman.numbers()], strict=True))
        steps.append(
            {
                "prompt_tokens": p,
                "completion_tokens": c,
                "actual_ms": float(y).hex(),
                "predicted_ms": predicted.hex(),
                "error_ms": error.hex(),
                **numbers,
            }
        )
    return {
        "name": name,
        "alpha": alpha.hex(),
        "prior": [value.hex() for value in prior],
        "start": [number.hex() for number in Kalman(alpha, list(prior)).numbers()],
        "steps": steps,
    }


if __name__ == "__main__":
    for name, (alpha, prior, calls) in scenarios().items():
        print(json.dumps(trace(name, alpha, prior, calls), separators=(",", ":")))
