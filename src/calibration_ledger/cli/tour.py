"""What `calib demo` does: a ledger of its own, filled with the packaged sample, and its figures.

The sample was measured, so the figures are what it gives, flattering or not. Every learnt
prediction in them was made before the ledger knew the call it is held against.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from calibration_ledger.cli.shapes import call_dict
from calibration_ledger.priors import default_prior
from calibration_ledger.rules import predict_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.interchange.reports import ImportReport
    from calibration_ledger.values import Call, Finding

SAMPLE = files("calibration_ledger") / "data" / "sample_calls.csv"
"""Really measured calls; `data/README.md` says how, when and on what."""

ALPHAS = (0.005, 0.01, 0.05, 0.15, 0.5)
"""From hardly moving to forgetting fast, the default among them."""

RECENT = 50
"""So many of a model's newest calls are held against the prior."""


@dataclass(frozen=True)
class ModelTour:
    """One model's figures; errors are means of |actual - predicted| in ms.

    Attributes:
        model: its name.
        calls: how many it has.
        mean_actual_ms: how long its recent calls took on average.
        prior_error_ms: the error of its prior over its recent calls.
        learnt_error_ms: the error of the ledger's predictions over the same calls.
        example: of its recent calls, the one whose duration is the median.
        example_prior_ms: what the prior predicts for that one.
        live_alpha: the alpha that it learns with.
        prior_total_error_ms: the error of its prior over all its calls.
        errors_ms: the error over all its calls, by alpha.
    """

    model: str
    calls: int
    mean_actual_ms: float
    prior_error_ms: float
    learnt_error_ms: float
    example: Call
    example_prior_ms: float
    live_alpha: float
    prior_total_error_ms: float
    errors_ms: dict[float, float]

    @property
    def best_alpha(self) -> float:
        """The alpha that would have predicted best."""
        return min(self.errors_ms, key=lambda alpha: self.errors_ms[alpha])

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON can hold it."""
        return {
            "model": self.model,
            "calls": self.calls,
            "recent": {
                "mean_actual_ms": self.mean_actual_ms,
                "prior_error_ms": self.prior_error_ms,
                "learnt_error_ms": self.learnt_error_ms,
            },
            "example": {**call_dict(self.example), "prior_ms": self.example_prior_ms},
            "live_alpha": self.live_alpha,
            "prior_error_ms": self.prior_total_error_ms,
            "errors_ms": {f"{alpha:g}": error for alpha, error in self.errors_ms.items()},
            "best_alpha": self.best_alpha,
        }


@dataclass(frozen=True)
class Tour:
    """What the demo found out."""

    ledger: str
    report: ImportReport
    models: Sequence[ModelTour]
    entries: int
    findings: Sequence[Finding]


def take_tour(calibrator: AdaptiveCalibrator) -> Tour:
    """Load the sample into an empty ledger, and look at it from all sides."""
    with as_file(SAMPLE) as path:
        report = calibrator.import_calls("csv", path)
    replays: dict[str, dict[float, float]] = {}
    for alpha in ALPHAS:
        for replay in calibrator.replay(alpha):
            replays.setdefault(replay.model, {})[alpha] = replay.mean_absolute_error_ms
    heads = calibrator.heads()
    models = [_model_tour(calibrator, head.model, replays[head.model]) for head in heads]
    entries = sum(head.seq for head in heads)
    return Tour(calibrator.ledger, report, models, entries, calibrator.audit())


def _model_tour(
    calibrator: AdaptiveCalibrator, model: str, errors_ms: dict[float, float]
) -> ModelTour:
    calibration = calibrator.calibration(model)
    calls = list(calibrator.calls(model))
    recent = calls[-RECENT:]
    example = sorted(recent, key=lambda call: call.actual_ms)[len(recent) // 2]
    return ModelTour(
        model=model,
        calls=calibration.sample_count,
        mean_actual_ms=statistics.fmean(call.actual_ms for call in recent),
        prior_error_ms=_prior_error_ms(recent),
        learnt_error_ms=statistics.fmean(abs(call.error_ms or 0.0) for call in recent),
        example=example,
        example_prior_ms=_prior_ms(example),
        live_alpha=calibration.alpha,
        prior_total_error_ms=_prior_error_ms(calls),
        errors_ms=errors_ms,
    )


def _prior_error_ms(calls: Sequence[Call]) -> float:
    return statistics.fmean(abs(call.actual_ms - _prior_ms(call)) for call in calls)


def _prior_ms(call: Call) -> float:
    """What would have been predicted if nothing had ever been learnt."""
    return predict_ms(default_prior(call.model), call.prompt_tokens, call.completion_tokens)
