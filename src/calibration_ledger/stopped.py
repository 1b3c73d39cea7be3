"""The end of several transactions of which the first ones were committed, and stay.

What ended them speaks of its own transaction alone. Whoever believes its "nothing was recorded"
and sends all of it again has the first ones twice: so the error says what stayed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from calibration_ledger.errors import CalibrationLedgerError, OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMED = 10
"""So many models an error names."""

RECALIBRATED = "the models before stay recalibrated"
"""What `tell_models` says of a recalibration."""

_NOTHING = re.compile(r"\bnothing was (?:recorded|changed|written)\b", re.IGNORECASE)


def tell_recorded(error: BaseException, errors_ms: Sequence[float]) -> None:
    """Let the error that ended a `record_many` say which calls stay, and carry their errors.

    Args:
        error: what ended it. It keeps its type: "not recorded" and "not known" differ.
        errors_ms: the errors of the calls before; there is at least one.
    """
    done = len(errors_ms)
    first = "the first call was" if done == 1 else f"the first {done} calls were"
    stay = f"{first} recorded"
    if not isinstance(error, CalibrationLedgerError):  # Ctrl-C, perhaps just after a commit
        error.add_note(f"Of this record_many, at least {stay}.")
        return
    error.recorded, error.errors_ms = done, tuple(errors_ms)
    if not isinstance(error, OutcomeUnknownError):
        stay += f", the transaction from call {done + 1} on was not"
    replace_nothing(error, stay)


def tell_models(error: CalibrationLedgerError, stay: str, models: Sequence[str]) -> None:
    """Let the error that ended a change of several models say of which it stays.

    Args:
        error: what ended it, at one of them.
        stay: what stays of those before, such as "the models before stay recalibrated".
        models: the names of those before; there is at least one.
    """
    more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
    stay = f"{stay} ({', '.join(map(repr, models[:_NAMED]))}{more})"
    if not isinstance(error, OutcomeUnknownError):
        stay += ", and this one was not changed"
    replace_nothing(error, stay)


def replace_nothing(error: CalibrationLedgerError, stay: str) -> None:
    """Say `stay` where the error's sentence says that nothing was recorded, else after it."""
    stay = stay[:1].upper() + stay[1:]
    text, count = _NOTHING.subn(lambda _: stay, str(error), count=1)
    error.args = (text if count else f"{text} {stay}.",)
