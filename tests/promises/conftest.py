"""Ledgers that processes share, on both databases, and processes that start quickly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.importing import other, take
from support.quick import QUICK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import BaseContext


__all__ = ["no_ledger", "other", "quick", "take"]


@pytest.fixture(params=["sqlite", "postgres"])
def no_ledger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a ledger may be made; nothing is there yet, on PostgreSQL not even a table."""
    if request.param == "sqlite":
        yield str(request.getfixturevalue("tmp_path") / "calls.db")
        return
    server = request.getfixturevalue("postgres")
    with server.database() as name:
        yield server.url(name)


@pytest.fixture(scope="session")
def quick() -> BaseContext:
    """Processes forked from one that has no threads and has imported everything already."""
    return QUICK
