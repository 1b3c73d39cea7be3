"""How Citus keeps the tables of a ledger: on one machine, or distributed over several.

A ledger is distributed by `model_id`: `models`, the settings, the aliases, the events and the
revision are copied to every machine, and each row of the other tables goes to the machine that its
`model_id` says, so that all of a model lies together. Or its whole schema lies on one machine of
several, as any other ledger does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.values import Distribution
from calibration_ledger.storage.schema import TABLES, VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Ask = Callable[..., Sequence[Any]]
    """Runs a query with its parameters, and gives the rows."""

COPIED = (
    *("models", VERSION_TABLE, "settings", "setting_heads", "aliases"),
    *("events", "event_heads"),
)
SPREAD = ("calibrations", "adjustments", "voided", "calls", "call_details")
"""Each refers only to tables before it, which must lie on the machines by then."""
ALL = (*COPIED, *SPREAD)


BY_COPY, BY_MODEL, BY_SCHEMA = "copied", "by model_id", "with its schema"

FIND_CITUS = "SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'citus'"
_IS_WORKER = "SELECT groupid <> 0 FROM pg_catalog.pg_dist_local_group"
_PLACED = """
    SELECT found.relname::text, CASE
            WHEN placed.partmethod = 'h'
            THEN 'by ' || pg_catalog.column_to_column_name(placed.logicalrelid, placed.partkey)
            WHEN placed.repmodel = 't' THEN 'copied'
            WHEN placed.colocationid > 0 THEN 'with its schema'
            ELSE 'local'
        END, placed.colocationid
    FROM pg_catalog.pg_dist_partition AS placed
    JOIN pg_catalog.pg_class AS found ON found.oid = placed.logicalrelid
    WHERE found.relname = ANY (%s) AND pg_catalog.pg_table_is_visible(found.oid)
"""
_HOLDERS = """
    SELECT DISTINCT nodename || ':' || nodeport FROM pg_catalog.pg_dist_shard
    JOIN pg_catalog.pg_dist_placement USING (shardid)
    JOIN pg_catalog.pg_dist_node USING (groupid)
    WHERE logicalrelid = 'calibrations'::regclass AND noderole = 'primary' ORDER BY 1
"""
_COUNT_SHARDS = """
    SELECT count(*) FROM pg_catalog.pg_dist_shard WHERE logicalrelid = 'calibrations'::regclass
"""


class Placed(NamedTuple):
    """How Citus keeps a ledger's tables.

    Attributes:
        how: of each table that it keeps: copied, by a column, with its schema, or local.
        groups: the groups of tables whose rows lie together.
    """

    how: dict[str, str]
    groups: set[int]

    @property
    def with_schema(self) -> bool:
        """Whether the whole schema lies on one machine: there the ledger is one as any other."""
        return BY_SCHEMA in self.how.values()

    @property
    def is_local(self) -> bool:
        """Whether nothing of it was distributed."""
        return set(self.how.values()) <= {"local"}

    def missing(self) -> list[str]:
        """The tables that are not distributed yet, in the order in which they can be."""
        return [table for table in ALL if self.how.get(table, "local") == "local"]

    def faults(self, tables: Iterable[str]) -> list[str]:
        """What is not as `distribute` leaves it, of some tables; empty where nothing is."""
        if self.with_schema or self.is_local:
            return []
        expected = dict.fromkeys(COPIED, BY_COPY) | dict.fromkeys(SPREAD, BY_MODEL)
        found = [
            f"table {table} is {self.how.get(table, 'local')} on Citus, not {expected[table]}"
            for table in tables
            if self.how.get(table, "local") != expected[table]
        ]
        if len(self.groups) > 1:
            found.append("the tables lie on Citus in several groups, not together")
        return found


def placed(ask: Ask) -> Placed | None:
    """How Citus keeps the tables of the ledger; None where there is no Citus.

    Args:
        ask: runs a query, with its parameters.
    """
    if not ask(FIND_CITUS):
        return None
    rows = ask(_PLACED, (sorted(TABLES),))
    return Placed(
        {table: how for table, how, _ in rows},
        {group for _, how, group in rows if how.startswith("by ")},
    )


def is_worker(ask: Ask) -> bool:
    """Whether this is a worker of Citus, where nothing may be changed but rows."""
    return bool(ask(FIND_CITUS)) and bool(ask(_IS_WORKER)[0][0])


def distribution(ask: Ask, ledger: str, done: Iterable[str] = ()) -> Distribution:
    """How a distributed ledger lies on the machines; `done`: the tables that are so only now."""
    ((shards,),) = ask(_COUNT_SHARDS)
    return Distribution(ledger, tuple(name for (name,) in ask(_HOLDERS)), shards, tuple(done))


def distribution_of(ask: Ask, ledger: str) -> Distribution | None:
    """The same; None for a ledger that is not distributed."""
    found = placed(ask)
    return None if found is None or found.is_local else distribution(ask, ledger)
