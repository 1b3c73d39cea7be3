"""The predecessor's JSON file: the newest coefficients of every model, without history.

    {"version": 1, "saved_at": seconds, "models": [{"model", "alpha", "sample_count",
     "last_updated", "ms_per_prompt_token", "ms_per_completion_token", "base_overhead_ms",
     "total_absolute_error_ms", "total_predicted_ms"}]}

Only `model` and the three coefficients are sure to be there. What is unknown to this format is
refused by its name: to drop it silently would be to lose it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_ledger.core.state import State
from calibration_ledger.core.validation import TIME_LIMIT_US, check_new_model
from calibration_ledger.core.values import DEFAULT_ALPHA, ModelCalibration
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.formats.json_text import parse_object
from calibration_ledger.formats.ledger import COUNT_MAX
from calibration_ledger.rules.ema import EMA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from calibration_ledger.formats.base import Beginning

VERSION = 1

_REQUIRED = ("model", "ms_per_prompt_token", "ms_per_completion_token", "base_overhead_ms")
_OPTIONAL = (
    "alpha",
    "sample_count",
    "last_updated",
    "total_absolute_error_ms",
    "total_predicted_ms",
)


def default_place() -> Path:
    """Where the predecessor kept its file."""
    # Unlike Path.expanduser it knows no error: without a home there is no such file.
    return Path(os.path.expanduser("~/.nexus/calibrator_state.json"))  # noqa: PTH111 - see above


def looks_like(beginning: Beginning) -> bool:
    """Whether it has a list of models with coefficients."""
    first = beginning.first
    models = first.get("models") if isinstance(first, dict) else None
    if not isinstance(models, list) or "version" not in first:
        return False
    return not models or (isinstance(models[0], dict) and "base_overhead_ms" in models[0])


def parse_state(text: str, now_us: int) -> dict[str, State]:
    """Where each model stood, by name.

    Args:
        text: the whole file.
        now_us: when a model was last updated where neither it nor the file says.

    Raises:
        InvalidInputError: the file is not what the predecessor wrote.
    """
    document = parse_object(text, '{"version":1,"models":[...]}')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise InvalidInputError(
            f"its version is {version!r}, where the calibrator's JSON state has {VERSION}: this is "
            f"another file"
        )
    _refuse_unknown("the file", document, {"version", "saved_at", "models"})
    models = document.get("models")
    if not isinstance(models, list):
        raise InvalidInputError(f"models must be a list, not {models!r}")
    saved_at = _seconds("saved_at", document.get("saved_at"))
    states: dict[str, State] = {}
    for number, values in enumerate(models, 1):
        if not isinstance(values, dict):
            raise InvalidInputError(f"model {number} of the list must be an object: {values!r}")
        try:
            model, state = _state(values, now_us if saved_at is None else saved_at)
        except InvalidInputError as error:
            raise InvalidInputError(
                f"model {number} of the list ({values.get('model')!r}): {error}"
            ) from None
        if model in states:
            raise InvalidInputError(f"the model {model!r} is there twice")
        states[model] = state
    return states


def _state(values: Mapping[str, Any], updated_at: int) -> tuple[str, State]:
    _refuse_unknown("it", values, {*_REQUIRED, *_OPTIONAL})
    present = {name: value for name, value in values.items() if value is not None}
    found = ModelCalibration.from_dict(present)
    if found.sample_count > COUNT_MAX:
        raise InvalidInputError(f"sample_count cannot be {found.sample_count}")
    last_updated = _seconds("last_updated", present.get("last_updated"))
    numbers = [
        found.ms_per_prompt_token,
        found.ms_per_completion_token,
        found.base_overhead_ms,
        found.total_absolute_error_ms,
        found.total_predicted_ms,
    ]
    alpha = found.alpha if "alpha" in present else DEFAULT_ALPHA
    numbers += EMA.extra_start(numbers[:3])
    updated_at = updated_at if last_updated is None else last_updated
    return check_new_model(found.model), State(EMA, alpha, numbers, found.sample_count, updated_at)


def _seconds(name: str, value: object) -> int | None:
    """Seconds since the epoch as microseconds, the precision of the ledger."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{name} must be seconds since the epoch, not {value!r}")
    if not 0 <= value < TIME_LIMIT_US // 1_000_000:
        raise InvalidInputError(f"{name} must lie between 1970 and 9999, not {value!r}")
    return round(value * 1_000_000)


def _refuse_unknown(what: str, values: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(values.keys() - known)
    if unknown:
        raise InvalidInputError(
            f"{what} has the unknown {', '.join(map(repr, unknown))}: remove what shall not be "
            f"taken over"
        )
