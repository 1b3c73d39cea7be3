"""Parameters of the predecessor, and what takes their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import RemovedParameterError

if TYPE_CHECKING:
    from collections.abc import Iterable

_REMOVED = {
    "autosave": (
        "autosave= is gone: every record() is saved, in one transaction. For speed at the price "
        "of the last calls in a power cut, pass durability='normal'."
    ),
    "state_path": (
        "state_path= is gone: pass the ledger's path as the first argument, and take the old JSON "
        "file in once with `calib import state FILE`."
    ),
}


def refuse_removed(names: Iterable[str]) -> None:
    """Refuse the first of these keyword arguments.

    Raises:
        RemovedParameterError: there was one.
    """
    for name in names:
        raise RemovedParameterError(
            _REMOVED.get(name, f"AdaptiveCalibrator() has no parameter {name!r}.")
        )
