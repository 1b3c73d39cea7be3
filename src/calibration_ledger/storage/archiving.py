"""What archiving asks: among it the only statements that take history out of the tables.

Rows of `calls`, `call_details` and `adjustments` are only ever inserted, but for one case: entries
that lie in a verified file are replaced by the `archived` entry that stands for them, and when
they come back, that entry by them. Either way it happens in one transaction, and no head changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import bindparam, select

from calibration_ledger.storage.schema import adjustments, call_details, calls

if TYPE_CHECKING:
    Built = dict[str, tuple[sa.ClauseElement, tuple[str, ...]]]

_MODEL_ID = bindparam("model_id", type_=sa.BigInteger)
_AFTER = bindparam("after", type_=sa.BigInteger)
_THROUGH = bindparam("through", type_=sa.BigInteger)
_SINCE = bindparam("since", type_=sa.BigInteger)


def _first(statement: sa.Select[Any]) -> sa.Select[Any]:
    return statement.limit(sa.literal_column("1")).offset(sa.literal_column("0"))


def _removal(table: sa.Table) -> tuple[sa.Delete, tuple[str, ...]]:
    of_model = sa.and_(table.c.model_id == _MODEL_ID, table.c.seq <= _THROUGH)
    return sa.delete(table).where(of_model), ("model_id", "through")


def build_archiving() -> Built:
    """The statements with the names of their parameters, as `statements` has them."""
    between = sa.and_(calls.c.model_id == _MODEL_ID, calls.c.seq > _AFTER, calls.c.seq <= _THROUGH)
    return {
        "first_adjustment": (
            _first(
                select(*[c for c in adjustments.c if c.name != "model_id"])
                .where(adjustments.c.model_id == _MODEL_ID)
                .order_by(adjustments.c.seq)
            ),
            ("model_id",),
        ),
        # Not min(seq): in the order of the key, the search ends at the first.
        "first_call_from": (
            _first(
                select(calls.c.seq)
                .where(between, calls.c.called_at >= _SINCE)
                .order_by(calls.c.seq)
            ),
            ("model_id", "after", "through", "since"),
        ),
        "remove_details": _removal(call_details),
        "remove_calls": _removal(calls),
        "remove_adjustments": _removal(adjustments),
    }
