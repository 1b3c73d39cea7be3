"""The backends that are open in this process, for what happens to all of them at once."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class _Forked(Protocol):
    def after_fork_in_child(self) -> None:
        """Put what was inherited aside: a child must neither use nor close it."""

    def close(self) -> None:
        """Close every connection."""


open_backends: weakref.WeakSet[_Forked] = weakref.WeakSet()

forgotten: list[_Forked] = []
"""Those that were dropped without being closed. The collector may come at any moment, also in the
middle of a write, when their lock cannot be taken: whoever has it next closes them."""


def _after_fork_in_child() -> None:
    for backend in list(open_backends):
        backend.after_fork_in_child()


@atexit.register
def _close_all() -> None:
    """Close what programs left open: the checkpoint of a last connection needs its lock."""
    for backend in [*open_backends, *forgotten]:
        backend.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
