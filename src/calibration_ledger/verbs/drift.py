"""Drift: which models have lately become slower or faster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from calibration_ledger.core.drift import ModelDrift
from calibration_ledger.core.history import last_beginning
from calibration_ledger.core.validation import check_model, time_from_us
from calibration_ledger.errors import InvalidInputError, damage_told, shown
from calibration_ledger.verbs.forecast import kept_of

if TYPE_CHECKING:
    from calibration_ledger.storage.ledger import Ledger, ModelHistory


def drift(ledger: Ledger, model: str | Iterable[str] | None) -> list[ModelDrift]:
    """See `AdaptiveCalibrator.drift`."""
    lives = {
        live.model: live for name in _names(model) for live in ledger.models(name, must_exist=True)
    }
    return [ledger.whole(lives[name], drift_of_model) for name in sorted(lives)]


def _names(model: str | Iterable[str] | None) -> Iterable[str | None]:
    if model is None or isinstance(model, str):
        return [model]
    if not isinstance(model, Iterable):
        raise InvalidInputError(f"model must be a name, or several, not {shown(model)}.")
    return sorted({check_model(name) for name in model})


def drift_of_model(history: ModelHistory) -> ModelDrift:
    """Whether one model has drifted, and since which call."""
    basis = kept_of(history).basis
    looked_at = sum(not call.is_timeout for call in basis.calls)
    found = basis.drift
    if found is None:
        return ModelDrift(history.model, looked_at)
    with damage_told(history.model):
        began = last_beginning(history.adjustments, history.voided)
        rows = history.newest(len(basis.calls), began.seq)
        # A call that was given up has an outcome.
        counted = [row for row in rows if row[-1] is None]
        seq, called_at, *_ = counted[found.since - 1]
        return ModelDrift(history.model, looked_at, found, seq, time_from_us(called_at))


def drifted(histories: Iterable[ModelHistory]) -> tuple[ModelDrift, ...]:
    """Those of these models that have drifted."""
    found = map(drift_of_model, histories)
    return tuple(sorted((one for one in found if one.drift), key=lambda one: one.model))
