"""The log: what happened to a ledger, other than calls, in the order of time.

Most of it the histories hold anyway: adjustments and settings. Imports and upgrades are events of
their own; see `core.events`.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, cast

from calibration_ledger.core.entries import Setting, ended
from calibration_ledger.core.events import models_of
from calibration_ledger.core.history import covers, voided_ranges
from calibration_ledger.core.validation import check_window, time_from_us
from calibration_ledger.core.values import LogEntry
from calibration_ledger.errors import damage_told
from calibration_ledger.verbs.calls import check_last

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.core.entries import Adjustment, AliasEntry, Event
    from calibration_ledger.core.values import LogKind
    from calibration_ledger.storage.ledger import Ledger


def log(
    ledger: Ledger,
    model: str | None,
    *,
    last: int | None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[LogEntry]:
    """See `AdaptiveCalibrator.log`."""
    check_window(since, until)
    newest = check_last(last)
    live = None if model is None else ledger.models(model, must_exist=True)[0]
    settings, events = ledger.settings(), ledger.events()
    settings.check()
    events.check()
    # What began with an import of a state is told by its event, if there is one.
    states = {event.recorded_at for event in events.entries if event.format == "state"}
    found = [
        *map(_of_event, events.entries),
        *map(_of_setting, settings.entries),
    ]
    for name, some in groupby(ledger.adjustments(live), key=lambda pair: pair[0]):
        entries = [entry for _, entry in some]
        with damage_told(name):
            found += _of_adjustments(name, entries, states)
    if live is not None:
        found = [entry for entry in found if _is_of(entry, live.model)]
    found = [
        entry
        for entry in found
        if (since is None or entry.at >= since) and (until is None or entry.at < until)
    ]
    found.sort(key=lambda entry: entry.at)
    return found if newest is None else found[-newest:]


def _is_of(entry: LogEntry, model: str) -> bool:
    """Whether an entry is about a model. An import that does not list its models may be."""
    if entry.kind == "import":
        return entry.models is None or model in entry.models
    return model in {entry.model, entry.name}


def _of_event(entry: Event) -> LogEntry:
    _, at, kind, *_ = entry
    return LogEntry(
        time_from_us(at),
        cast("LogKind", kind),
        entry.seq,
        import_id=entry.import_id,
        file=entry.file,
        format=entry.format,
        calls=entry.calls,
        models=models_of(entry),
        from_revision=entry.from_revision,
        to_revision=entry.to_revision,
        version=entry.version,
    )


def _of_setting(entry: Setting | AliasEntry) -> LogEntry:
    at = time_from_us(entry.recorded_at)
    if isinstance(entry, Setting):
        return LogEntry(at, "rule", entry.seq, rule=entry.rule, alpha=entry.alpha)
    return LogEntry(at, "alias", entry.seq, model=entry.model, name=entry.name, merged=entry.merged)


def _of_adjustments(
    model: str, entries: Sequence[Adjustment], states: set[int]
) -> Iterator[LogEntry]:
    voided = voided_ranges(entries)
    for entry in entries:
        is_told = entry.kind == "imported" and entry.recorded_at in states
        if entry.kind == "opened" or is_told:
            continue
        sets = entry.kind in {"imported", "reset", "recalibrated"}
        yield LogEntry(
            time_from_us(entry.recorded_at),
            cast("LogKind", entry.kind),
            entry.seq,
            model=model,
            voided=covers(voided, entry.seq),
            note=entry.note if ended(entry) is None else None,
            rule=entry.rule if sets else None,
            alpha=entry.alpha if sets else None,
            voids=entry.voids,
        )
