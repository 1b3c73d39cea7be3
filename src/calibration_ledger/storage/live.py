"""The backends that are open in this process, for what happens to all of them at once."""

from __future__ import annotations

import atexit
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from calibration_ledger.storage.lock import WriterLock


class _Forked(Protocol):
    def after_fork_in_child(self) -> None:
        """Put what was inherited aside: a child must neither use nor close it."""

    def close(self) -> None:
        """Close every connection."""


class Forgotten(_Forked, Protocol):
    """One that was dropped, or could not be closed, and has written."""

    def close_under(self, held: WriterLock) -> bool:
        """Close every connection, if its lock is `held`, or free; False: it is neither."""


open_backends: weakref.WeakSet[_Forked] = weakref.WeakSet()

forgotten: list[Forgotten] = []
"""Those that were dropped without being closed. The collector may come at any moment, also in the
middle of a write, when their lock cannot be taken: whoever writes next, to any ledger, closes
them, for each keeps files open."""


def close_forgotten(held: WriterLock) -> None:
    """Close those whose lock is `held`, or free."""
    for backend in forgotten[:]:
        if backend.close_under(held):
            with suppress(ValueError):  # another thread was as quick
                forgotten.remove(backend)


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
