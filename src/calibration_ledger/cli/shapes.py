"""The library's values in the shape that `--json` prints them in."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from calibration_ledger.cli.text import iso

if TYPE_CHECKING:
    from calibration_ledger.values import Call, CostPrediction, Replay, Sweep


def prediction_dict(prediction: CostPrediction) -> dict[str, Any]:
    """The fields of a `CostPrediction`, its time as ISO 8601."""
    return {**asdict(prediction), "predicted_at": iso(prediction.predicted_at)}


def call_dict(call: Call) -> dict[str, Any]:
    """The fields of a recorded `Call`, its time as ISO 8601; what is absent is left out."""
    assert call.called_at is not None  # noqa: S101 - it was recorded
    fields = {
        "model": call.model,
        "seq": call.seq,
        "called_at": iso(call.called_at),
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "actual_ms": call.actual_ms,
        "predicted_ms": call.predicted_ms,
        "error_ms": call.error_ms,
        "request_id": call.request_id,
        "details": call.details,
        "voided": call.voided or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def replay_dict(replay: Replay) -> dict[str, Any]:
    """The fields of a `Replay`; a figure that is not a number becomes null."""
    return {
        "model": replay.model,
        "rule": replay.rule,
        "alpha": replay.alpha,
        "n": replay.n,
        "mean_absolute_error_ms": replay.mean_absolute_error_ms,
        "median_absolute_percentage_error": replay.median_absolute_percentage_error,
        "bias_ms": replay.bias_ms,
        "mean_actual_ms": replay.mean_actual_ms,
        "calibration": replay.calibration.to_dict(),
    }


def sweep_dict(sweep: Sweep) -> dict[str, Any]:
    """The fields of a `Sweep`, the winner by name; a figure that is not a number becomes null."""
    winner = None if sweep.winner is None else asdict(sweep.winner)
    return {**asdict(sweep), "winner": winner}
