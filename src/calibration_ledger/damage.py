"""Damage: rows that no program of ours wrote, where something other than the audit meets them.

The audit makes findings of them. Whatever else stumbles over them says so with a typed error.
"""

from __future__ import annotations

import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from calibration_ledger.errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT_LIMIT = 2**60
"""Counts and seqs stay below: no ledger gets there, and there is room above to add."""


def damaged(model: str, what: str) -> LedgerCorruptError:
    """The error of a model whose rows cannot be what a program of ours wrote."""
    return LedgerCorruptError(
        f"the ledger was damaged or edited by hand: of the model {model!r}, {what}. Nothing was "
        f"changed: `calib audit` finds all that is wrong; restore a backup."
    )


IMPOSSIBLE = (struct.error, OverflowError, TypeError, AttributeError)
"""What arithmetic raises over values that are absurd, or of another type than their column's."""


def impossible(model: str, error: Exception) -> LedgerCorruptError:
    """`damaged`, of one of `IMPOSSIBLE`."""
    return damaged(model, f"an entry holds an impossible value ({error})")


@contextmanager
def damage_told(model: str) -> Iterator[None]:
    """Make `damaged` of what impossible values break inside; no user's code may run there."""
    try:
        yield
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error
