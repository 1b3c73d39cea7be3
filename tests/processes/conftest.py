"""Ledgers that processes share, on both databases, and processes that start quickly."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext


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
def quick() -> ForkServerContext:
    """Processes forked from one that has no threads and has imported everything already."""
    context = multiprocessing.get_context("forkserver")
    modules = ["alembic.command", "psycopg", "sqlalchemy.dialects.postgresql.psycopg"]
    storage = ["sqlite", "postgres", "migrate", "postgres_migrate"]
    context.set_forkserver_preload(
        [
            "calibration_ledger",
            *modules,
            *(f"calibration_ledger.storage.{name}" for name in storage),
        ]
    )
    return context
