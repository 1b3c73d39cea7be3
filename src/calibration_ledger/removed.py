"""Parameters of the predecessor, and what takes their place."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

from calibration_ledger.errors import RemovedParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

Given = ParamSpec("Given")

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


def refusing_removed(init: Callable[Given, None]) -> Callable[Given, None]:
    """Refuse these keyword arguments with their sentences, before `init` would with Python's.

    A wrapper, so that help, `inspect.signature` and type checkers see the parameters that there
    are and nothing else: with `**removed` among them, every misspelt keyword would pass.

    Raises:
        RemovedParameterError: there was one.
    """

    @wraps(init)
    def checked(*arguments: Given.args, **keywords: Given.kwargs) -> None:
        for name in keywords:
            if name in _REMOVED:
                raise RemovedParameterError(_REMOVED[name])
        init(*arguments, **keywords)

    return checked
