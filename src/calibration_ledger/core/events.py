"""Events: what happened to a ledger's database, and no other entry tells.

They are a history of their own, numbered from 1 without gaps, and only ever added to, under the
digest that `entries` describes. Nothing is computed from them: they are there to be read.

An import of calls belongs to the history, and goes with it into an export. How this database came
to hold it does not: an upgrade, or the import of a whole ledger.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.entries import (
    EVENT_KINDS,
    EVENT_TYPES,
    Event,
    event_head,
    first_events_head,
    is_typed,
)
from calibration_ledger.core.validation import TIME_LIMIT_US
from calibration_ledger.core.values import Finding
from calibration_ledger.core.visible import is_visible
from calibration_ledger.errors import LedgerCorruptError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FILE_LENGTH_MAX = 255
FORMAT_LENGTH_MAX = 64
MODELS_LENGTH_MAX = 4096
"""Characters of the names of an import's models, as JSON; longer lists are left out."""

_LENGTHS = {
    "import_id": 64,
    "file": FILE_LENGTH_MAX,
    "format": FORMAT_LENGTH_MAX,
    "models": MODELS_LENGTH_MAX,
    "from_revision": 32,
    "to_revision": 32,
    "version": 64,
}
_ALL = ("seq", "recorded_at", "kind")
_FIELDS_OF = {
    "import": (("file", "format", "calls"), ("import_id", "models")),
    "upgrade": (("from_revision", "to_revision", "version"), ()),
}
"""The fields that an event of each kind has, and those that it may have."""


class Events(NamedTuple):
    """The events as they are stored, of one moment.

    Attributes:
        entries: every one by its seq, the values as the database gives them.
        last_seq: the number of the newest, as it is noted apart from them; 0 for none.
        head: the digest over them, as it is noted there.
    """

    entries: tuple[Event, ...] = ()
    last_seq: int = 0
    head: bytes = first_events_head()

    def check(self) -> None:
        """Refuse what cannot be read, or what lacks an entry.

        Raises:
            LedgerCorruptError: the events were damaged.
        """
        for finding in self.findings():
            raise damaged_events(f"{finding.check}: {finding.found}, not {finding.expected}")

    def findings(self) -> Iterator[Finding]:
        """What an audit finds wrong with them."""
        faults = [
            Finding(None, entry.seq if isinstance(entry.seq, int) else None, "entry", *fault)
            for entry in self.entries
            for fault in event_faults(entry)
        ]
        if faults:  # there is no head behind what cannot be read
            yield from faults
            return
        seq, head = 0, first_events_head()
        for entry in self.entries:
            if entry.seq != seq + 1:
                yield Finding(None, entry.seq, "sequence", f"event {seq + 1}", f"event {entry.seq}")
            seq, head = entry.seq, event_head(head, entry)
        if seq != self.last_seq:
            yield Finding(None, seq, "sequence", f"events up to {self.last_seq}", f"up to {seq}")
        if head != self.head:
            found = self.head.hex() if isinstance(self.head, bytes) else repr(self.head)
            yield Finding(None, seq, "head", f"{head.hex()} of the events", found)

    def of_history(self) -> list[Event]:
        """Those that an export takes along: numbered anew."""
        kept = (entry for entry in self.entries if is_of_history(entry))
        return [entry._replace(seq=seq) for seq, entry in enumerate(kept, 1)]

    def lacks(self, others: Iterable[Event]) -> list[Event]:
        """Which of these there is no event of, whatever its number."""
        there = {entry[1:] for entry in self.entries}
        return [entry for entry in others if entry[1:] not in there]


def damaged_events(what: str) -> LedgerCorruptError:
    """The error of events that this program cannot have written."""
    return LedgerCorruptError(
        f"the ledger was damaged or edited by hand: of its events, {what}",
        stayed="nothing was changed",
        advice="an audit finds all that is wrong; restore a backup",
    )


def is_of_history(entry: Event) -> bool:
    """Whether an event belongs to the history, not to the database that holds it."""
    return entry.kind == "import" and entry.format != "ledger"


def import_event(
    name: str, form: str, import_id: str | None, calls: int, models: Iterable[str], at: int
) -> Event:
    """The event of an import, to be numbered.

    Args:
        name: the file as the user named it.
        form: the format that it was read as.
        import_id: the id that its calls carry; None for none.
        calls: how many calls are to be recorded.
        models: their models.
        at: when, in microseconds.
    """
    names = names_text(sorted(models))
    listed = names if len(names) <= MODELS_LENGTH_MAX else None
    kind = form[:FORMAT_LENGTH_MAX]  # others may name theirs as they like
    return Event(0, at, "import", import_id, file_of(name), kind, calls, listed)


def names_text(names: object) -> str:
    """Names of models as they are stored."""
    return json.dumps(names, separators=(",", ":"), ensure_ascii=False)


def upgrade_event(before: str, after: str, version: str, at: int) -> Event:
    """The event of an upgrade, to be numbered."""
    return Event(0, at, "upgrade", from_revision=before, to_revision=after, version=version)


def file_of(name: str) -> str:
    """A file's name without its folder, of which every character is seen.

    Of a URL, neither the host nor a password stays.
    """
    scheme, mark, rest = name.partition("://")
    if mark:
        path = rest.partition("/")[2].partition("?")[0].partition("#")[0]
        name = path or f"{scheme.rpartition('/')[2]} URL"
    base = name.rstrip("/\\").replace("\\", "/").rpartition("/")[2] or name
    seen = "".join(
        one if is_visible(one) else one.encode("unicode_escape").decode() for one in base
    )
    return seen[:FILE_LENGTH_MAX] or "<stream>"


def models_of(entry: Event) -> tuple[str, ...] | None:
    """The models of an import; None where they are not listed."""
    return None if entry.models is None else tuple(json.loads(entry.models))


def event_faults(entry: Event) -> Iterator[tuple[str, str]]:
    """What is wrong with an event's own values, as (expected, found)."""
    if not is_typed(entry, EVENT_TYPES):
        yield "an event's numbers and texts", repr(tuple(entry))
        return
    if entry.kind not in EVENT_KINDS:
        yield f"an event that is {' or '.join(EVENT_KINDS)}", repr(entry.kind)
        return
    if not 0 <= entry.recorded_at < TIME_LIMIT_US:
        yield "a time", repr(entry.recorded_at)
    needed, others = _FIELDS_OF[entry.kind]
    for name, value in entry._asdict().items():
        if value is None and name in needed:
            yield f"{name} of an {entry.kind}", "none"
        elif value is not None and name not in (*_ALL, *needed, *others):
            yield f"no {name} of an {entry.kind}", repr(value)
        elif name in _LENGTHS and value is not None and not 0 < len(value) <= _LENGTHS[name]:
            yield f"{name} of 1 to {_LENGTHS[name]} characters", repr(value)
    if entry.calls is not None and entry.calls < 0:
        yield "a number of calls", repr(entry.calls)
    if entry.models is not None and not _is_names(entry.models):
        yield "a sorted list of models", repr(entry.models)


def _is_names(text: str) -> bool:
    try:
        names = json.loads(text)
        return (
            isinstance(names, list)
            and all(isinstance(one, str) for one in names)
            and names_text(sorted(names)) == text
        )
    except (ValueError, RecursionError):
        return False
