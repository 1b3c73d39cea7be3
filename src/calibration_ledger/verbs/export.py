"""Export: the whole ledger as JSON lines, or its calls as CSV or Parquet, streamed in pages.

Each model is written up to the entry, and with the head, that it had when the export began: a
consistent prefix, however many others write meanwhile. Nothing is verified here; `audit` does.
"""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, reduce
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.aliases import told as told_alias
from calibration_ledger.core.entries import Adjustment, event_head, first_events_head
from calibration_ledger.core.events import Events
from calibration_ledger.core.history import walk
from calibration_ledger.core.replay import Window
from calibration_ledger.core.settings import Settings, told
from calibration_ledger.core.validation import check_model, iso_from_us
from calibration_ledger.core.values import ExportReport
from calibration_ledger.errors import (
    HistoryArchivedError,
    InvalidInputError,
    LedgerCorruptError,
    ModelNotFoundError,
    did_you_mean,
)
from calibration_ledger.formats.json_text import encode
from calibration_ledger.formats.ledger import (
    HEADER,
    adjustment_line,
    call_line,
    call_values,
    end_line,
    event_line,
    events_head_line,
    head_line,
    setting_line,
    settings_head_line,
)
from calibration_ledger.formats.parquet import ParquetWriter, check_pyarrow
from calibration_ledger.formats.source import shown_name
from calibration_ledger.formats.target import open_binary, open_target
from calibration_ledger.storage.sqlite.salvage import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from typing import BinaryIO, TextIO, TypeVar

    from calibration_ledger.core.audit import ModelAudit
    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.core.facts import LostRange
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.values import Alias, ExportKind, RuleSetting
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.place import Place
    from calibration_ledger.storage.sqlite.salvage import Found, Salvage
    from calibration_ledger.storage.transaction import Stored

    Part = TypeVar("Part", str, bytes)


# -- exports --------------------------------------------------------------------------------

CSV_COLUMNS = (
    "model",
    "seq",
    "called_at",
    "prompt_tokens",
    "completion_tokens",
    "actual_ms",
    "predicted_ms",
    "request_id",
    "details",
    "voided",
    "outcome",
)

_UNREADABLE = (TypeError, ValueError, OverflowError, AttributeError)
"""What a row raises whose values are not of their types: only a foreign hand can have made it."""


class Written:
    """Counts what was written, and tells `progress`."""

    def __init__(self, progress: Progress | None) -> None:
        """Begin with none."""
        self.calls = self.adjustments = self.settings = 0
        self.models: set[str] = set()
        """Those with calls in the window."""
        self._progress = progress

    def add(self, calls: int, adjustments: int) -> None:
        """Count some more."""
        self.calls += calls
        self.adjustments += adjustments
        if self._progress is not None:
            self._progress(calls + adjustments)


class _Own(NamedTuple):
    """What is no model's, as far as the export has it."""

    events: Events = Events()
    settings: Settings = Settings()


def export(
    ledger: Ledger,
    kind: ExportKind,
    target: str | os.PathLike[str] | TextIO | BinaryIO,
    *,
    model: str | None,
    since: datetime | None,
    until: datetime | None,
    overwrite: bool,
    progress: Progress | None,
) -> ExportReport:
    """Write the ledger to a file; see `AdaptiveCalibrator.export_ledger`."""
    window = Window.of(since, until)
    if window is not None and kind == "jsonl":
        raise InvalidInputError(
            "an export to jsonl is a whole history, which its heads prove: the calls of a time go "
            "to csv or parquet."
        )
    ledger.check_exists()  # before anything is created
    parts, opened_target = _WAYS[kind]
    if window is not None:
        parts = partial(parts, window=window)
    if kind == "parquet":
        check_pyarrow()
    is_whole = model is None and kind == "jsonl"
    is_done = False
    while not is_done:
        own = _Own(ledger.events(), ledger.settings()) if is_whole else _Own()
        models, written = ledger.models(model, with_aliases=True), Written(progress)
        try:
            with opened_target(target, ledger.path, overwrite=overwrite) as write:
                for part in parts(ledger, own, models, written):
                    write(part)
            is_done = True
        except HistoryArchivedError:
            if not isinstance(target, str | os.PathLike):  # what was written cannot be taken back
                raise
    counts = written.calls, written.adjustments, written.settings
    count = len(models if window is None else written.models)
    return ExportReport(kind, shown_name(target), count, *counts)


@contextmanager
def _readable(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise LedgerCorruptError(
            f"{ledger.shown} holds an entry that cannot be written down ({error}): "
            f"`{ledger.command('audit')}` says which."
        ) from error


def entry_texts(
    ledger: Ledger,
    history: ModelHistory,
    through: int,
    written: Written,
    fold: ModelAudit | None = None,
) -> Iterator[str]:
    """The lines of a model's entries up to `through`, in pieces; `fold` audits each entry."""
    for part in walk(history, 0, through):
        if isinstance(part, Adjustment):
            if fold is not None:
                fold.adjust(part)
            with _readable(ledger):
                text = adjustment_line(history.model, part) + "\n"
            yield text
            written.add(0, 1)
            continue
        if fold is not None:
            fold.calls(part.rows)
            fold.check_keys(part.keys)
        with _readable(ledger):
            text = "".join(call_line(history.model, row) + "\n" for row in part.rows)
        yield text
        written.add(len(part.rows), 0)


def _ledger_texts(
    ledger: Ledger, own: _Own, models: list[Stored], written: Written
) -> Iterator[str]:
    """The lines of a ledger file, in pieces."""
    yield HEADER + "\n"
    own.events.check()
    imports, settings = own.events.of_history(), own.settings
    if imports:
        head = reduce(event_head, imports, first_events_head())
        yield "".join(event_line(entry) + "\n" for entry in imports)
        yield events_head_line(len(imports), head) + "\n"
    settings.check()
    if settings.entries:
        yield "".join(setting_line(entry) + "\n" for entry in settings.entries)
        yield settings_head_line(settings.last_seq, settings.head) + "\n"
        written.settings = settings.last_seq
    for live in models:
        history = ledger.history(live)
        yield from entry_texts(ledger, history, live.last_seq, written)
        yield head_line(live.model, live.last_seq, live.head) + "\n"
    entries = written.calls + written.adjustments
    yield end_line(len(models), entries, written.settings, len(imports)) + "\n"


def csv_lines(model: str, rows: Iterable[Sequence[Any]], is_voided: Callable[[int], bool]) -> str:
    """A model's calls as lines of CSV; floats are written so that they come back exactly."""
    buffer = io.StringIO()
    plain = csv.writer(buffer, lineterminator="\n")
    # Left to itself, the module quotes a carriage return only if it ends lines, and refuses to
    # read one that is not quoted.
    quoting = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for seq, at, *numbers, outcome, request_id, text in rows:
        writer = quoting if "\r" in model or "\r" in (request_id or "") else plain
        voided = "true" if is_voided(seq) else "false"
        ended = "ok" if outcome is None else outcome
        writer.writerow((model, seq, iso_from_us(at), *numbers, request_id, text, voided, ended))
    return buffer.getvalue()


def _csv_texts(
    ledger: Ledger,
    _own: _Own,
    models: list[Stored],
    written: Written,
    window: Window | None = None,
) -> Iterator[str]:
    """The calls as CSV, some lines at once."""
    yield ",".join(CSV_COLUMNS) + "\n"
    yield from _calls(ledger, models, written, csv_lines, window)


def _parquet_parts(
    ledger: Ledger,
    _own: _Own,
    models: list[Stored],
    written: Written,
    window: Window | None = None,
) -> Iterator[bytes]:
    """The calls as Parquet, in pieces."""
    writer = ParquetWriter()
    yield from _calls(ledger, models, written, writer.add, window)
    with _readable(ledger):
        end = writer.end()
    yield end


def _calls(
    ledger: Ledger,
    models: list[Stored],
    written: Written,
    worded: Callable[..., Part],
    window: Window | None,
) -> Iterator[Part]:
    """What `worded` makes of each page of calls: of a model, its rows, and which are voided."""
    for live in models:
        history = ledger.history(live)
        for page, _ in history.calls(0, live.last_seq):
            # What a merge took over from a name counts under its model.
            is_voided = history.is_voided if live.alias_seq is None else _always
            with _readable(ledger):
                rows = _within(window, page)
                part = worded(live.model, rows, is_voided)
            yield part
            if rows:
                written.models.add(live.model)
            written.add(len(rows), 0)


def _within(window: Window | None, rows: Sequence[CallRow]) -> Sequence[CallRow]:
    return rows if window is None else [*compress(rows, window.holds([row[1] for row in rows]))]


def _always(_: int) -> bool:
    return True


_WAYS: dict[ExportKind, tuple[Callable[..., Iterator[Any]], Callable[..., Any]]] = {
    "jsonl": (_ledger_texts, open_target),
    "csv": (_csv_texts, open_target),
    "parquet": (_parquet_parts, open_binary),
}
"""Of each kind of export: what makes its parts, and what opens its target for them."""


# -- salvage: what can still be read of a damaged ledger ------------------------------------
# The heads of a damaged history no longer hold, so calls are written, not a ledger: an import
# learns them anew. The report has the number of every entry that is missing.


@dataclass(frozen=True, slots=True)
class SalvageReport(ExportReport):
    """What a salvage wrote, and what it could not.

    Attributes:
        lost: the entries that could not be read, by model and in order.
        incomplete: the calls whose request ids and details may be missing, for some of them could
            not be read.
        stand_ins: the names that stand for those of models whose own could not be read.
        newest_setting: the newest setting of the rule of new models that could be read; it is not
            in the file.
        aliases: the names that stand for models, as far as they could be read; they are not in the
            file, and what was recorded under them before a merge is marked as voided there.
    """

    lost: tuple[LostRange, ...] = ()
    incomplete: tuple[LostRange, ...] = ()
    stand_ins: tuple[str, ...] = ()
    newest_setting: RuleSetting | None = None
    aliases: tuple[Alias, ...] = ()


def salvage(
    place: Place,
    kind: ExportKind,
    target: str | os.PathLike[str] | TextIO | BinaryIO,
    *,
    model: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> SalvageReport:
    """Write what can be read of a ledger, even of one that cannot be opened.

    See `AdaptiveCalibrator.export_ledger`.
    """
    if kind == "parquet":
        raise InvalidInputError(
            "what is salvaged is written for an import: as jsonl or csv, not as parquet."
        )
    if place.path is None:
        raise InvalidInputError(
            f"{place.shown} is no file, and only files are salvaged: leave --salvage out."
        )
    with opened(place) as source:
        models = source.models() if model is None else [_one(source, model, place)]
        names = source.aliases()
        written, lost, incomplete = Written(progress), [], []
        lines = _json_lines if kind == "jsonl" else csv_lines
        with open_target(target, place.path, overwrite=overwrite) as write:
            if kind == "csv":
                write(",".join(CSV_COLUMNS) + "\n")
            for found in models:
                history = source.model(found)
                is_voided = _always if found.model in names else history.is_voided
                for rows in history.pages():
                    write(lines(found.model, rows, is_voided))
                    written.add(len(rows), 0)
                lost += history.lost
                incomplete += history.incomplete
        newest = source.newest_setting()
    return SalvageReport(
        kind,
        shown_name(target),
        len(models),
        written.calls,
        adjustments=0,
        lost=tuple(lost),
        incomplete=tuple(incomplete),
        stand_ins=tuple(found.model for found in models if not found.is_named),
        newest_setting=None if newest is None else told(newest),
        aliases=tuple(map(told_alias, names.values())),
    )


def _one(source: Salvage, model: str, place: Place) -> Found:
    model = check_model(model)
    models = list(source.models())
    for found in models:
        if found.model == model:
            return found
    meant = did_you_mean(model, (found.model for found in models))
    raise ModelNotFoundError(
        f"nothing of a model {model!r} can be read in {place.shown}: {meant}leave --model out, and "
        f"see which there are."
    )


def _json_lines(model: str, rows: Iterable[CallRow], is_voided: Callable[[int], bool]) -> str:
    lines = []
    for row in rows:
        values = call_values(model, row)
        seq, *_, details = row
        if details is not None:
            values["details"] = json.loads(details)
        if is_voided(seq):
            values["voided"] = True
        lines.append(encode(values) + "\n")
    return "".join(lines)
