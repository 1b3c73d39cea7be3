"""Databases of their own on the shared server, and calibrators on them that must audit clean."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from calibration_ledger import AdaptiveCalibrator
from support.newer_program import make_migrations
from support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.postgres_server import Server


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """A database with an empty ledger in it, which a test may change as it likes."""
    with postgres.database(migrated=True) as name:
        yield name


@pytest.fixture
def url(postgres: Server, database: str) -> str:
    """Its URL."""
    return postgres.url(database)


@pytest.fixture
def run(postgres: Server, database: str) -> Callable[..., Any]:
    """Run SQL in it, behind the ledger's back; gives the rows of the last statement."""
    return partial(postgres.run, database=database)


@pytest.fixture
def calibrator(url: str) -> Iterator[AdaptiveCalibrator]:
    """A calibrator on it, which must audit clean in the end."""
    with AdaptiveCalibrator(url, timeout_s=20.0) as opened:
        yield opened
        assert opened.audit() == []


@pytest.fixture
def empty(postgres: Server) -> Iterator[str]:
    """The name of a database without anything in it."""
    with postgres.database() as name:
        yield name


@pytest.fixture
def newer(tmp_path: Path) -> Callable[..., Path]:
    """Make the migrations of a newer program; gives their folder."""
    return partial(make_migrations, tmp_path)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for what has to wait."""
    with ThreadPoolExecutor(4) as opened:
        yield opened


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    """A wire to the ledger that can be cut."""
    folder = Path(tempfile.mkdtemp(prefix="px-", dir="/tmp"))  # sockets' paths are short
    with Proxy(url, folder) as opened:
        yield opened
    folder.rmdir()
