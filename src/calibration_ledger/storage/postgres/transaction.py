"""A writing transaction in PostgreSQL: locks that end at a deadline, rows that go in pipelines.

A model's row is locked by the model's id. The name would do in one PostgreSQL; but where rows are
spread over machines by `model_id`, a lock must say which machine it is for.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from calibration_ledger.storage.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.storage.statements import Statements

_LIMIT_EVERY_S = 0.05


class PostgresTransaction(Transaction):
    """A transaction that waits for all its locks together no longer than until the deadline."""

    __slots__ = ("_deadline", "_ids", "_limited_at")

    def __init__(
        self,
        cursor: Any,
        sql: Statements,
        ledger: str,
        ids: dict[str, int],
        deadline: float,
        limited_at: float,
    ) -> None:
        """Wrap a cursor whose transaction has begun.

        Args:
            cursor: what statements run on.
            sql: the statements.
            ledger: the place as it may be shown.
            ids: the ids of models that were met before, to add to.
            deadline: when to have all locks, in seconds of the monotonic clock.
            limited_at: when the limit of the transaction was right: before its BEGIN was sent,
                which behind PgBouncer may have waited long for a server connection.
        """
        super().__init__(cursor, sql, ledger)
        self._ids = ids
        self._deadline = deadline
        self._limited_at = limited_at

    def load(self, model: str) -> Any:
        """See `Transaction.load`."""
        # lock_timeout counts anew for each lock. It is set again only once time was lost, so that
        # the first lock costs no round trip more.
        now = time.monotonic()
        if now > self._limited_at + _LIMIT_EVERY_S:
            self._limited_at = now
            self._execute(f"SET LOCAL lock_timeout = {left_ms(self._deadline)}")
        return super().load(model)

    def _lock(self, model: str) -> Any:
        """See `Transaction._lock`: by the id, which is asked for once and then known.

        Both are asked for, so that an id of a ledger that was replaced meanwhile finds nothing.
        """
        known = self._ids.get(model)
        row = None if known is None else self._load(model, known)
        if row is None:
            found = self._execute(self._sql.find_id, (model,)).fetchone()
            if found is None:
                return None
            self._ids[model] = found[0]
            row = self._load(model, found[0])
        return row

    def _load(self, model: str, model_id: int) -> Any:
        return self._execute(self._sql.load_known, (model, model_id)).fetchone()

    def add_calls(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """See `Transaction.add_calls`."""
        self._add(self._sql.add_call, rows)

    def add_details(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """See `Transaction.add_details`."""
        self._add(self._sql.add_detail, rows)

    def _add(self, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        # A pipeline pays from the second row on: to begin and end it takes round trips of its own.
        if len(rows) == 1:
            self._execute(text, rows[0])
        elif rows:
            self._cursor.executemany(text, rows)


def left_ms(deadline: float) -> int:
    """The milliseconds to the deadline; at least one, because 0 would be no limit at all."""
    return max(1, int(1000 * (deadline - time.monotonic())))
