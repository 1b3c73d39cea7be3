"""Waiting for the writers' lock of a SQLite file, and what it means where it does not come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerBusyError, LedgerPermissionError
from calibration_ledger.storage.place import check_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from calibration_ledger.storage.fair_lock import Turn
    from calibration_ledger.storage.lock import WriterLock
    from calibration_ledger.storage.place import Place


class OtherLock(Exception):  # noqa: N818 - a signal inside the package, not an error
    """The path leads to another file now, whose writers queue on another lock."""


def wait_for(
    place: Place, lock: WriterLock, timeout_s: float, wait: Callable[..., bool], *arguments: Turn
) -> None:
    """Run `wait(timeout_s, *arguments)`, one of the lock's methods.

    Raises:
        LedgerBusyError: others held the lock until the deadline.
        LedgerPermissionError: its file cannot be used.
    """
    try:
        got = wait(timeout_s, *arguments)
    except OSError as error:
        check_file(place)  # which knows more, where the folder is gone, say
        raise LedgerPermissionError(
            f"{place.shown} cannot be written: its lock file {lock.path} cannot be used "
            f"({error.strerror}). Nothing was recorded: check the folder's permissions."
        ) from None
    if not got:
        raise LedgerBusyError(
            f"others held {place.shown} for {timeout_s:g} s. Nothing was recorded: try again, or "
            f"give a longer timeout_s."
        )


def hold_now(lock: WriterLock, work: Callable[[], object]) -> bool:
    """Run `work` with the lock held, if it is free; False: it is not."""

    def give_up(_lock: WriterLock, _turn: Turn) -> None:
        raise BlockingIOError

    try:
        lock.hold(give_up, work)
    except BlockingIOError:
        return False
    return True
