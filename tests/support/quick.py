"""Processes that start in a few milliseconds: forked from one that imported everything already.

That one has no threads, no connections and no ledger, so what it forks is as fresh as a process of
its own. Where there is no such server of forks (Windows), processes are spawned.
"""

from __future__ import annotations

import multiprocessing

_METHODS = multiprocessing.get_all_start_methods()
QUICK = multiprocessing.get_context("forkserver" if "forkserver" in _METHODS else "spawn")

if "forkserver" in _METHODS:
    QUICK.set_forkserver_preload(
        [
            # The program that runs the tests, which every child imports once more as its own.
            *("pytest", "hypothesis", "click.testing"),
            *("calibration_ledger", "alembic.command"),
            *("psycopg", "sqlalchemy.dialects.postgresql.psycopg"),
            *(
                f"calibration_ledger.storage.{name}"
                for name in ("sqlite.file", "postgres.server", "migrate", "postgres.migrate")
            ),
        ]
    )
