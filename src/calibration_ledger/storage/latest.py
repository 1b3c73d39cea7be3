"""The models that were called last, as the doctor reads them: by a connection that it has open.

To open the ledger as others do would leave files beside one that nobody uses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import CalibrationLedgerError
from calibration_ledger.storage.ledger import ModelHistory, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from calibration_ledger.core.drift import ModelDrift
    from calibration_ledger.core.facts import Facts
    from calibration_ledger.storage.backend import Source
    from calibration_ledger.storage.place import Place
    from calibration_ledger.storage.statements import Statements

    DriftsOf = Callable[[Iterable[ModelHistory]], tuple[ModelDrift, ...]]

LATEST = 100
"""Models that are looked at: it takes some milliseconds for each."""


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A ledger to read by a connection that is open: a `Source`.

    Attributes:
        place: where it lies.
        sql: what it is asked with.
        ask: runs a statement with its parameters, and gives the rows.
    """

    place: Place
    sql: Statements
    ask: Callable[[str, Sequence[Any]], list[Any]]

    def read(self, text: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """See `Source.read`."""
        return self.ask(text, parameters)

    def find(self, model: str) -> list[Any]:
        """See `Source.find`."""
        return self.ask(self.sql.find, (model,))


def latest(source: Source) -> Iterator[ModelHistory]:
    """The histories of the models that were called last, one after the other."""
    rows = source.read(source.sql.list_calibrations)
    lives = [stored(row, name) for *row, name in rows]
    lives.sort(key=lambda live: -live.snapshot.updated_at)
    for live in lives[:LATEST]:
        yield ModelHistory(source, live)


def with_drifts(facts: Facts, source: Source, drifts_of: DriftsOf) -> Facts:
    """The facts of a ledger, with the models that have drifted, where it is a sound one."""
    if facts.state != "current" or facts.obstacles or facts.unanswered:
        return facts
    try:
        return replace(facts, drifts=drifts_of(latest(source)))
    except CalibrationLedgerError as error:
        return replace(facts, unanswered=(str(error),))
