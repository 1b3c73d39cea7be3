"""What all tests share: real ledger files, a calibrator whose ledger must audit clean, calls."""

from __future__ import annotations

import gc
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic
import pytest
import sqlalchemy
from hypothesis import HealthCheck, settings

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import LedgerNotFoundError
from calibration_ledger.fast.cores import cores
from calibration_ledger.verbs import recorder
from support.pooler import running_pooler
from support.postgres_server import running_server, short_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.pooler import Pooler
    from support.postgres_server import Server

# The same examples on every machine and in every run: a red test stays red until it is mended.
# Few of them by default; with `-m stress` those tests run once more, with many.
for _profile, _max_examples in (("short", 20), ("stress", 200)):
    settings.register_profile(
        _profile,
        derandomize=True,
        deadline=None,
        database=None,
        max_examples=_max_examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )

# Ledgers lie in memory too, where there is room, and what is synced is synced at once: no test
# pulls the plug, and those about a failing disk put a failing one in between.
if "TMPDIR" not in os.environ and (_folder := short_folder()) is not None:
    os.environ["TMPDIR"] = tempfile.tempdir = _folder

# Wherever it runs, people's times are those of UTC; tests about zones set their own.
os.environ["TZ"] = "UTC"
if hasattr(time, "tzset"):  # Windows has none
    time.tzset()

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres",
        action="store_true",
        help="run every test that knows both databases on PostgreSQL, too, not one a verb",
    )
    parser.addoption(
        "--postgres-rest",
        action="store_true",
        help="run only what --postgres adds to a run without it",
    )


WORKERS_MAX = 16


def pytest_xdist_auto_num_workers() -> int | None:
    """Twice as many as there are cores: about half of the time, a test waits."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None  # xdist takes it
    return min(2 * cores(), WORKERS_MAX)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("stress" if _is_stress(config) else "short")


def _is_stress(config: pytest.Config) -> bool:
    asked = config.option.markexpr
    return "stress" in asked and "not stress" not in asked


def _is_on_all(config: pytest.Config) -> bool:
    """Whether what runs on both databases does so throughout: with `--postgres`, or `-m stress`."""
    asked = config.getoption("--postgres") or config.getoption("--postgres-rest")
    return asked or _is_stress(config)


def _traced(run: Callable[..., object], *arguments: object) -> None:
    sys.settrace(threading.gettrace())
    run(*arguments)


def pytest_sessionstart() -> None:
    """Let coverage follow the recorder's thread, too: it only meets those of `threading`."""
    if threading.gettrace() is not None:
        start = recorder.start_new_thread
        recorder.start_new_thread = lambda run, arguments: start(_traced, (run, *arguments))


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let `-m stress` run what hypothesis thinks of, too: there it thinks longer."""
    is_thought_of = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if is_thought_of and _is_stress(item.config):
        item.add_marker(pytest.mark.stress)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Spare every collection of garbage during a test the look at all the tests that there are."""
    gc.collect()
    gc.freeze()


def pytest_report_header() -> str:
    return (
        f"SQLite {sqlite3.sqlite_version}, SQLAlchemy {sqlalchemy.__version__}, "
        f"Alembic {alembic.__version__}"
    )


@pytest.fixture
def ledger_path(tmp_path: Path) -> Path:
    """Where a ledger may be made; nothing is there yet."""
    return tmp_path / "calls.db"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users can reach; pytest's own are for their owner alone."""
    made = Path(tempfile.mkdtemp(prefix="calibration-ledger-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running PostgreSQL server; a test that asks for it is skipped where there is none."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def pooler(postgres: Server) -> Iterator[Pooler]:
    """A PgBouncer in front of it; a test that asks for one is skipped where there is none."""
    with running_pooler(postgres) as opened:
        yield opened


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a `ledger` on SQLite, and on PostgreSQL where it is asked for or marked.

    What looks at `ledger_path` needs a file. With `-m stress` all of it goes by way of PgBouncer
    once more.
    """
    if "ledger" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    databases: list[Any] = ["sqlite"]
    if "ledger_path" not in metafunc.fixturenames:
        if _is_on_all(metafunc.config) or marks & {"both", "turns"}:
            databases.append("postgres")
        if _is_stress(metafunc.config):
            databases.append(pytest.param("pgbouncer", marks=pytest.mark.stress))
    metafunc.parametrize("ledger", databases, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of tests whose cases take turns, leave each case on one database; or leave the rest alone."""
    is_rest = config.getoption("--postgres-rest")
    if _is_on_all(config) and not is_rest:
        return
    cases: dict[Any, list[Any]] = {}
    parts: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for item in items:
        parts[_is_by_default(item, cases) != is_rest].append(item)
    left_out, items[:] = parts
    config.hook.pytest_deselected(items=left_out)


def _is_by_default(item: pytest.Item, cases: dict[Any, list[Any]]) -> bool:
    """Whether a run without `--postgres` takes it; `cases` are those met of tests by turns."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    for mark in item.iter_markers("turns"):
        seen = cases.setdefault(item.function, [])
        if (case := params[mark.args[0]]) not in seen:
            seen.append(case)
        return seen.index(case) % 2 == (params["ledger"] == "postgres")
    return params.get("ledger") != "postgres" or item.get_closest_marker("both") is not None


_SERVERS = {"postgres": "postgres", "pgbouncer": "pooler"}
"""The fixture whose `url` leads to a database."""


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a ledger may be made, on SQLite (nothing is there yet) and on PostgreSQL.

    There it is an empty one, which readers cannot tell from none; `tests/storage/postgres` makes
    them.
    """
    if request.param == "sqlite":
        yield str(request.getfixturevalue("tmp_path") / "calls.db")
        return
    with request.getfixturevalue("postgres").ledger() as name:
        yield request.getfixturevalue(_SERVERS[request.param]).url(name)


@pytest.fixture
def calibrator(ledger: str) -> Iterator[AdaptiveCalibrator]:
    """A calibrator on a fresh ledger, which must audit clean in the end."""
    with AdaptiveCalibrator(ledger) as opened:
        yield opened
        with suppress(LedgerNotFoundError):  # a test that records nothing makes no ledger
            assert opened.audit() == []


@pytest.fixture
def make_call() -> Callable[..., Call]:
    """Make the i-th of a row of plausible calls, all different; any field can be given."""

    def make(i: int = 0, model: str = "timmy:v0.1-q4", **fields: Any) -> Call:
        values: dict[str, Any] = {
            "prompt_tokens": 100 + 37 * i % 901,
            "completion_tokens": 20 + 53 * i % 307,
            "actual_ms": 1000.0 + 61.25 * (i * 17 % 101),
            "called_at": START + timedelta(seconds=i),
        }
        return Call(model, **(values | fields))

    return make
