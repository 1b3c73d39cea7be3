"""Stopping transactions at chosen points, so that an interleaving is one and not a matter of luck.

A trigger makes a transaction wait where it inserts or commits, until the test lets it go on.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from calibration_ledger.errors import OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from support.postgres_server import Server

KEY = 7
"""The advisory lock that stands for a gate."""


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for something to be true; gives it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(0.01)
    return found


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it comes true within ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def on_insert(run: Callable[..., Any], body: str, table: str = "calls") -> None:
    """Do something before every row that is inserted into a table."""
    run(
        "CREATE SEQUENCE IF NOT EXISTS tries",
        f"CREATE FUNCTION before_row() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {body} RETURN NEW; END $$",
        f"CREATE TRIGGER before_row BEFORE INSERT ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION before_row()",
    )


def on_commit(run: Callable[..., Any], body: str) -> None:
    """Do something inside the COMMIT of every transaction that inserted a call."""
    run(
        "CREATE SEQUENCE IF NOT EXISTS tries",
        f"CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {body} RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON calls DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION at_commit()",
    )


def fail_tries(count: int, sqlstate: str) -> str:
    """A body that fails so many times; what it counts with is not undone with the transaction."""
    return (
        f"IF nextval('tries') <= {count} THEN"
        f" RAISE EXCEPTION 'on purpose' USING ERRCODE = '{sqlstate}'; END IF;"
    )


def tries(run: Callable[..., Any]) -> int:
    """How often the trigger ran."""
    ((value, called),) = run("SELECT last_value, is_called FROM tries")
    return int(value) if called else 0


GATE = f"PERFORM pg_advisory_xact_lock_shared({KEY});"
"""A body that waits while the gate is shut."""


@contextmanager
def shut_gate(server: Server, database: str) -> Iterator[Callable[[], None]]:
    """Keep the gate shut; gives the function that opens it."""
    with closing(server.connect(database)) as connection:
        connection.execute(f"SELECT pg_advisory_lock({KEY})")
        yield lambda: connection.execute("SELECT pg_advisory_unlock_all()").close()


def waiting(run: Callable[..., Any], kind: str = "%") -> list[tuple[int, str]]:
    """The (pid, statement) of those who wait for a lock: `advisory`, `transactionid`, …

    The server looks at the statement before it looks for what is waited for, so who was between
    two statements would be seen waiting in the one before: the statement is asked for once more.
    """
    ask = (
        "SELECT pid, query FROM pg_stat_activity WHERE datname = current_database()"
        f" AND wait_event_type = 'Lock' AND wait_event LIKE '{kind}'"
    )
    pids = ", ".join(str(pid) for pid, _ in run(ask))
    return run(f"{ask} AND pid IN ({pids})") if pids else []


def end_in_mid_commit(
    server: Server, database: str, run: Callable[..., Any], pool: Executor, calibrator: Any
) -> Callable[[], float]:
    """End the backend that commits a call, whose outcome is then unknown; gives what records it
    once more."""

    def record() -> float:
        return calibrator.record("m", 3, 4.0, request_id="r")

    on_commit(run, GATE)
    with shut_gate(server, database) as open_gate:
        recording = pool.submit(record)
        ((pid, statement),) = wait_until(lambda: waiting(run, "advisory"))
        assert statement == "COMMIT"
        run(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(OutcomeUnknownError, match=r"cannot be known.*request_id again"):
            recording.result(timeout=20)
        open_gate()
    return record
