"""The end of an import that failed between two of its transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration_ledger.errors import LedgerError


def add_progress(error: LedgerError, done: int, what: str) -> None:
    """Let the error say what the transactions before it recorded, which stays.

    Args:
        error: what ended the import. It keeps its type: "not recorded" and "not known" differ.
        done: how many were recorded before.
        what: of what, such as `calls of FILE`.
    """
    if done:
        text = f"{error} Before that, {done} {what} were recorded: run the same import again."
        error.args = (text,)
