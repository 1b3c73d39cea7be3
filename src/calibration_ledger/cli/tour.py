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
    from calibration_ledger.values import Call, Finding, Suggestion

SAMPLE = files("calibration_ledger") / "data" / "sample_calls.csv"
"""Really measured calls; `data/README.md` says how, when and on what."""

ALPHAS = (0.005, 0.01, 0.05, 0.15, 0.5)
"""From hardly moving to forgetting fast, the default among them."""


@dataclass(frozen=True)
class ModelTour:
    """One model's figures; errors are means of |actual - predicted| in ms.

    Attributes:
        model: its name.
        calls: how many it has; all figures are over all of them.
        mean_actual_ms: how long they took on average.
        prior_error_ms: the error of its prior.
        learnt_error_ms: the error of the ledger's predictions.
        example: a typical call: both errors, its prior's and the ledger's, are near their medians.
        example_prior_ms: what the prior predicts for that one.
        live_alpha: the alpha that it learns with.
        errors_ms: the error by alpha.
    """

    model: str
    calls: int
    mean_actual_ms: float
    prior_error_ms: float
    learnt_error_ms: float
    example: Call
    example_prior_ms: float
    live_alpha: float
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
            "mean_actual_ms": self.mean_actual_ms,
            "prior_error_ms": self.prior_error_ms,
            "learnt_error_ms": self.learnt_error_ms,
            "example": {**call_dict(self.example), "prior_ms": self.example_prior_ms},
            "live_alpha": self.live_alpha,
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
    better: Sequence[Suggestion]
    """Where another rule or alpha would have predicted clearly better."""


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
    return Tour(
        calibrator.ledger, report, models, entries, calibrator.audit(), calibrator.suggest()
    )


def _model_tour(
    calibrator: AdaptiveCalibrator, model: str, errors_ms: dict[float, float]
) -> ModelTour:
    calibration = calibrator.calibration(model)
    calls = list(calibrator.calls(model))
    example = _typical(calls)
    return ModelTour(
        model=model,
        calls=len(calls),
        mean_actual_ms=statistics.fmean(call.actual_ms for call in calls),
        prior_error_ms=statistics.fmean(map(_prior_error_ms, calls)),
        learnt_error_ms=statistics.fmean(map(_error_ms, calls)),
        example=example,
        example_prior_ms=_prior_ms(example),
        live_alpha=calibration.alpha,
        errors_ms=errors_ms,
    )


def _typical(calls: Sequence[Call]) -> Call:
    """The call whose place among all, by either error, is nearest to the middle."""
    middle = (len(calls) - 1) / 2
    farthest = dict.fromkeys((call.seq for call in calls), 0.0)
    for error_ms in (_error_ms, _prior_error_ms):
        for place, call in enumerate(sorted(calls, key=error_ms)):
            farthest[call.seq] = max(farthest[call.seq], abs(place - middle))
    return min(calls, key=lambda call: farthest[call.seq])


def _error_ms(call: Call) -> float:
    """How far off the ledger was, before it knew the call."""
    assert call.predicted_ms is not None  # noqa: S101 - it was recorded
    return abs(call.actual_ms - call.predicted_ms)


def _prior_error_ms(call: Call) -> float:
    return abs(call.actual_ms - _prior_ms(call))


def _prior_ms(call: Call) -> float:
    """What would have been predicted if nothing had ever been learnt."""
    return predict_ms(default_prior(call.model), call.prompt_tokens, call.completion_tokens)
