"""The end of an import that failed between two of its transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.errors import OutcomeUnknownError
from calibration_ledger.stopped import replace_nothing

if TYPE_CHECKING:
    from calibration_ledger.errors import CalibrationLedgerError


def add_progress(error: CalibrationLedgerError, done: int, what: str) -> None:
    """Let the error say what the transactions before it recorded, which stays.

    Args:
        error: what ended the import. It keeps its type: "not recorded" and "not known" differ.
        done: how many were recorded before.
        what: of what, such as `calls of FILE`.
    """
    if done:
        stay = f"{done} {what} were recorded: run the same import again"
        if not isinstance(error, OutcomeUnknownError):
            stay += ". The rest was not"
        replace_nothing(error, stay)
