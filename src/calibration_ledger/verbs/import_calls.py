"""Import of calls: a file of rows is checked whole, then recorded in bounded transactions.

1. Reading parses every line into a temporary database.
2. Checking looks each row's request id up in the ledger, and learns the new rows on trial: what
   recording would refuse is refused now.
3. Recording takes the same way as `record_many`. A crash leaves the first transactions; every row
   has a request id by then, so the same import adds the rest.

Recorded calls carry the import's id, which depends on the file alone. A call that was in the ledger
before stays as it is. A file that replaces an import is checked as if that were voided; then that
is voided, and the file recorded. What a reader gives as a `Skip` is counted by its reason, and
stops nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.doubt import Speeds, are_usual, doubt
from calibration_ledger.core.events import import_event
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import request_key, time_from_us
from calibration_ledger.core.values import (
    Call,
    ImportPreview,
    ImportReport,
    ModelPreview,
    SkippedLine,
)
from calibration_ledger.errors import (
    ImportRefusedError,
    InvalidInputError,
    LedgerError,
    NotFiniteError,
    RequestConflictError,
)
from calibration_ledger.formats.base import Skip
from calibration_ledger.formats.recipe import Given
from calibration_ledger.formats.row import (
    BadRow,
    ImportDigest,
    Row,
    check_row,
    content_key,
    import_id_of,
    with_import_id,
)
from calibration_ledger.formats.source import open_input, shown_name
from calibration_ledger.storage.foreign import ForeignDatabase
from calibration_ledger.storage.stage import StagedCalls
from calibration_ledger.verbs.doubt import warn_of_file, warn_of_similar, worst_of
from calibration_ledger.verbs.record import NewCall, now_us, write_calls
from calibration_ledger.verbs.void import drafts_of_import, void_import

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import TextIO

    from calibration_ledger.core.answers import Reason
    from calibration_ledger.core.doubt import Kind, Worst
    from calibration_ledger.core.entries import Event
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.formats.base import Format, Input, Item, Placed
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.storage.stage import StagedCall
    from calibration_ledger.storage.transaction import Known, Stored
    from calibration_ledger.verbs.record import Opening
    from calibration_ledger.verbs.void import Draft


# -- the import -----------------------------------------------------------------------------


class Wishes(NamedTuple):
    """How a file of calls is to be imported; see `AdaptiveCalibrator.import_calls`."""

    skip_bad: bool = False
    strict: bool = False
    model: str | None = None
    dry_run: bool = False
    given: Given = Given()
    replace: str | None = None


def import_rows(
    ledger: Ledger,
    opening: Opening,
    form: Format,
    source: str | os.PathLike[str] | TextIO,
    wishes: Wishes,
    progress: Progress | None,
) -> ImportReport:
    """Import a file of calls; see `AdaptiveCalibrator.import_calls`."""
    name = shown_name(source)
    skips = Skips(name, skip_bad=wishes.skip_bad, is_of_tool=form.kind in {"module", "recipe"})
    doubts = Doubts(skips, strict=wishes.strict)
    report = progress or (lambda _: None)
    replaced = {} if wishes.replace is None else drafts_of_import(ledger, wishes.replace)
    with StagedCalls() as staged:
        with open_input(source, ledger.path, ForeignDatabase, wishes.model) as file:
            begin(report, "lines read")
            items = _Items(form, wishes.model)
            read = _read(file, items, staged, skips, report, ledger.aliases())
        doubts.look_at_unit(name, read.speeds)
        _settle(staged, skips, _file_of(ledger, read))
        begin(report, "calls checked")
        if read.import_id == wishes.replace:  # by itself: what counts stays
            replaced = {}
        trials = _check(ledger, opening, staged, skips, doubts, for_checks(report), replaced)
        _check_replacement(ledger, name, replaced, trials)
        present = sum(trial.present for trial in trials) + skips.repeat(staged.repeated)
        preview = _preview(staged, read.now) if wishes.dry_run else None
        if preview is not None:
            recorded, met = Counter({one.model: one.calls for one in preview.models}), 0
            opened = {trial.model for trial in trials if trial.model_id is None}
        else:
            begin(report, "calls recorded")
            if wishes.replace is not None:
                by = f"replaced by import {read.import_id}"
                void_import(ledger, replaced, wishes.replace, by)
            heads = {trial.model: trial.head for trial in trials}
            new = {trial.model: trial.new for trial in trials if trial.new}
            event = import_event(name, form.name, read.import_id, sum(new.values()), new, now_us())
            recorded, met, opened = record_staged(
                ledger, opening, staged, heads, name, event, report
            )
    import_id = read.import_id if recorded and preview is None else None
    warn_of_file(ledger, name, doubts.told(), doubts.count, import_id)
    if preview is None:
        warn_of_similar(ledger, opened)
    return ImportReport(
        form.name,
        name,
        recorded=recorded.total(),
        already=present + met,
        replaced=sum(draft.calls for draft in replaced.values()),
        skipped=skips.count,
        skipped_reasons=skips.reasons,
        skipped_lines=skips.lines,
        voided=read.voided,
        import_id=import_id,
        known_by_file=staged.known_by_file,
        doubtful=doubts.count,
        doubtful_reasons=doubts.reasons,
        doubtful_lines=doubts.lines,
        unit_doubt=doubts.unit,
        left_out=skips.left_out,
        read_as=tuple(file.said),
        format=form.name,
        unit=file.unit,
        preview=preview,
        **_of_models(trials, recorded, opened),
    )


def _of_models(
    trials: Sequence[_Trial], recorded: Counter[str], opened: set[str]
) -> dict[str, Any]:
    """What a report says of the models, and of the trials of all their rows."""
    extended = len(recorded.keys() - opened)
    return {
        "recorded_again": sum(trial.again for trial in trials),
        "older": sum(trial.older for trial in trials),
        "timeouts": sum(trial.timeouts for trial in trials),
        "models": len(trials),
        "models_opened": len(opened),
        "models_extended": extended,
        "models_unchanged": len(trials) - len(opened) - extended,
    }


FIRST = 5
"""Calls of a preview that are shown as they would be recorded."""


def _preview(staged: StagedCalls, now: int) -> ImportPreview:
    """What is left to be recorded."""
    models = tuple(
        ModelPreview(model, calls, _time(first, now), _time(last, now), prompt, completion, median)
        for model, calls, first, last, prompt, completion, median in staged.by_model(now)
    )
    rows = next(staged.kept(), [])[:FIRST]
    return ImportPreview(models, tuple(_call(row, now) for row in rows))


def _call(row: StagedCall, now: int) -> Call:
    """A row as a call; without an id or a time where the file says none."""
    is_made = row.request_id.startswith(MADE_ID)
    return Call(
        row.model,
        row.prompt_tokens,
        row.completion_tokens,
        row.actual_ms,
        _time(row.called_at, now),
        None if is_made else row.request_id,
        None if row.details is None else json.loads(row.details),
        outcome="ok" if row.outcome is None else "timeout",
    )


def _time(microseconds: int | None, now: int) -> datetime | None:
    return None if microseconds in {None, now} else time_from_us(microseconds)


MADE_ID = "import:"
"""How the request id begins that a row without one gets."""


# -- reading --------------------------------------------------------------------------------


class _Read(NamedTuple):
    """What reading found out about a file.

    Attributes:
        now: the time of rows without one.
        import_id: the id of the import.
        voided: how many rows are voided.
        beginning: its first good rows.
        untimed: the first row that has neither a time nor a request id, and its content's key.
        speeds: the milliseconds a token.
    """

    now: int
    import_id: str
    voided: int
    beginning: list[Row]
    untimed: tuple[Row, str] | None
    speeds: Speeds


class _Items:
    """Turns what a reader gives into rows."""

    def __init__(self, form: Format, model: str | None) -> None:
        self._form = form
        self._model = model
        # In a file of our own form what is missing is a mistake; other tools often do not know it.
        self._is_ours = form.kind == "own"
        self._in_us = form.kind in {"module", "recipe"}

    def of(self, file: Input) -> Iterable[Placed]:
        """What the reader gives."""
        assert self._form.rows is not None  # noqa: S101 - what is taken in whole has its own verb
        return self._form.rows(file)

    def row(self, item: Item) -> Row | Skip | BadRow:
        """The row of an item that is none yet."""
        if isinstance(item, Row | Skip | BadRow):
            return item
        values = _values_of(item) if isinstance(item, Call) else item
        if self._model is not None and values.get("model") is None:
            values = {**values, "model": self._model}
        if not self._is_ours:
            is_over = values.get("outcome") in {None, "ok"}  # what a time-out gave, nobody knows
            for name, reason in _UNKNOWN:
                if values.get(name) is None and (is_over or name != "completion_tokens"):
                    return Skip(reason)
        try:
            return check_row(values, in_us=self._in_us)
        except InvalidInputError as error:
            return BadRow(str(error))


_UNKNOWN: tuple[tuple[str, Reason], ...] = (
    ("model", "unknown model"),
    ("prompt_tokens", "unknown tokens"),
    ("completion_tokens", "unknown tokens"),
    ("actual_ms", "unknown duration"),
)


def _values_of(call: Call) -> dict[str, Any]:
    return {
        "model": call.model,
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "actual_ms": call.actual_ms,
        "called_at": call.called_at,
        "request_id": call.request_id,
        "details": call.details,
        "voided": call.voided,
        "outcome": call.outcome,
    }


def _read(
    file: Input,
    items: _Items,
    staged: StagedCalls,
    skips: Skips,
    progress: Progress,
    aliases: Mapping[str, str],
) -> _Read:
    """Stage the good rows, each under the model that its name stands for."""
    rows = _Rows(staged, aliases)
    good: list[tuple[int, Row]] = []
    seen = voided = 0
    for line, item in items.of(file):
        seen += 1
        row = item if type(item) is Row else items.row(item)
        if type(row) is not Row:
            if isinstance(row, Skip):
                skips.leave_out(row.reason)
            elif isinstance(row, BadRow):
                skips.unit = file.unit
                skips.add(line, row.reason)
        elif row.voided:
            voided += 1
        else:
            good.append((line, row))
        if seen == BATCH:
            rows.add(good)
            progress(seen)
            good, seen = [], 0
    rows.add(good)
    progress(seen)
    skips.unit = file.unit
    return rows.read(voided)


class _Rows:
    """Takes the good rows of a file, some at a time."""

    def __init__(self, staged: StagedCalls, aliases: Mapping[str, str]) -> None:
        self._staged = staged
        self._aliases = aliases
        self._now = now_us()
        self._digest = ImportDigest()
        self._beginning: list[Row] = []
        self._untimed: tuple[Row, str] | None = None
        self._speeds = Speeds()

    def add(self, good: Sequence[tuple[int, Row]]) -> None:
        """Stage rows, each with its line."""
        rows = [row for _, row in good]
        aliases, now, speed = self._aliases, self._now, self._speeds.add
        staged = []
        for line, row in good:
            model, at, p, c, y, given, details, _, outcome = row
            key = None if given is not None else content_key(row).hex()
            if self._untimed is None and key is not None and at is None:
                self._untimed = row, key
            if outcome is None:
                speed(y, p + c)
            name = aliases.get(model, model)
            is_timed = at is not None
            called_at = at if is_timed else now
            staged.append((line, name, called_at, p, c, y, given, details, outcome, key, is_timed))
        self._staged.add(staged)
        self._digest.add(rows)
        if len(self._beginning) < BEGINNING:
            self._beginning += rows[: BEGINNING - len(self._beginning)]

    def read(self, voided: int) -> _Read:
        """What they are; `voided` counts those that are left out."""
        import_id = self._digest.import_id()
        return _Read(self._now, import_id, voided, self._beginning, self._untimed, self._speeds)


# A row with neither a time nor an id is known by its content and its file: two measurements on two
# days give equal rows, and each is a call. A file is known by how it begins, for it may grow. That
# of a short one is all of it: when it has grown, each beginning is looked up that it may have had.

BEGINNING = 16
"""Rows to a beginning: fewer could well be the same in two files."""


def _file_of(ledger: Ledger, read: _Read) -> str:
    """What stands for the file in the ids of such rows."""
    if read.untimed is None:
        return ""
    digest, names = ImportDigest(), []
    for row in read.beginning:
        digest.add([row])
        names.append(f"{digest.import_id()}:")
    row, key = read.untimed
    live = ledger.find(row.model)
    if live is not None:
        # Rows that were imported before files were told apart are known by their content alone.
        by_key = {request_key(f"{MADE_ID}{name}{key}:1"): name for name in ("", *names)}
        found = ledger.calls_of(live.model_id, list(by_key))
        for request, name in by_key.items():
            if request in found and (name or _is_of(ledger, live, found[request], read.import_id)):
                return name
    return names[-1]


def _is_of(ledger: Ledger, live: Stored, call: Known, import_id: str) -> bool:
    """Whether a call was brought by an import."""
    for page in ledger.history(live).calls(call.seq - 1, call.seq):
        return import_id_of(page.rows[0][-1]) == import_id
    return False


def _settle(staged: StagedCalls, skips: Skips, file: str) -> None:
    staged.settle(file)
    for line, first, model, request_id in staged.conflicts():
        skips.conflict(
            line,
            f"the request id {request_id!r} of the model {model!r} is in {skips.unit} {first} with "
            f"other numbers: give each call an id of its own",
        )


# -- checking -------------------------------------------------------------------------------


class _Trial:
    """One model of the file, learnt on trial from its state in the ledger."""

    def __init__(
        self, ledger: Ledger, opening: Opening, model: str, replaced: Mapping[str, Draft]
    ) -> None:
        self.ledger = ledger
        self.model = model
        self.model_id: int | None = None
        self.newest_at = -1
        self.worst = worst_of(ledger, model)
        self.new = self.present = self.older = self.again = self.timeouts = 0
        self.head: bytes | None = b""
        live = ledger.find(model)
        if live is None:
            entry = opening(ledger.name_of(model)).entry(ledger.newest_setting())
            self.state = State.from_snapshot(entry.snapshot)
            return
        self.model_id = live.model_id
        self.state = State.from_snapshot(live.snapshot)
        self.history = ledger.history(live)
        self.voided: Ranges | None = None
        if live.model in replaced:  # as if what the file replaces were voided
            self.state = replaced[live.model].trial.state.copy()
            self.voided = replaced[live.model].voided
        # What was archived may come back behind the same head.
        self.head = None if self.history.archived else live.head
        newest_at = self.history.newest_call_at()
        self.newest_at = -1 if newest_at is None else newest_at

    def check(self, rows: list[StagedCall], skips: Skips, doubts: Doubts) -> list[StagedCall]:
        """Check the next rows of this model, in the order of recording; gives the good ones."""
        unknown, again = self._unknown(rows, skips)
        new = doubts.without_refused(unknown, self.worst)
        if not new:
            return new
        before = self.state.copy()
        try:
            self.state.follow(*_columns(new))
        except NotFiniteError:
            self.state = before
            new = self._learn_each(new, skips)
        self.new += len(new)
        if again:
            self.again += sum(row.request_id in again for row in new)
        self.timeouts += sum(row.outcome is not None for row in new)
        if new and new[0].called_at < self.newest_at:  # the first is the oldest
            self.older += sum(row.called_at < self.newest_at for row in new)
        return new

    def _unknown(self, rows: list[StagedCall], skips: Skips) -> tuple[list[StagedCall], set[str]]:
        """The rows that are not in the ledger, and the ids of those that were voided there."""
        again: set[str] = set()
        if self.model_id is None:
            return rows, again
        keys = [request_key(row.request_id) for row in rows]
        found = self._known(keys)
        if not found:
            return rows, again
        new = []
        for row, key in zip(rows, keys, strict=True):
            known = found.get(key)
            if known is None or known.is_voided:
                new.append(row)
                if known is not None:
                    again.add(row.request_id)
            elif numbers_of(known) == numbers_of(row):
                self.present += 1
            else:
                skips.conflict(
                    row.line,
                    f"the request id {row.request_id!r} of the model {self.model!r} is in the "
                    f"ledger with other numbers: give each call an id of its own; to correct a "
                    f"call, void it first, or let the file replace its import",
                )
        return new, again

    def _known(self, keys: list[bytes]) -> dict[bytes, Known]:
        """Which of these the ledger has; of each, a call that counts, if there is one."""
        assert self.model_id is not None  # noqa: S101 - it has history
        if self.voided is None:
            return self.ledger.calls_of(self.model_id, keys)
        found = self.history.calls_of(keys, self.voided)
        return {key: calls[0] for key, calls in found.items()}

    def _learn_each(self, rows: Sequence[StagedCall], skips: Skips) -> list[StagedCall]:
        """Find the rows that cannot be learnt; gives the others."""
        learnt = []
        for row in rows:
            state = self.state.copy()
            try:
                state.follow(*_columns([row]))
            except NotFiniteError as error:
                skips.add(row.line, str(error))
            else:
                self.state = state
                learnt.append(row)
        return learnt


def numbers_of(call: StagedCall | Known) -> tuple[int, int, float, str | None]:
    """What must be the same if a request id comes again: the numbers, and the outcome."""
    return call.prompt_tokens, call.completion_tokens, call.actual_ms, call.outcome


def _columns(rows: Sequence[StagedCall]) -> tuple[Any, ...]:
    _, _, *columns, _, _ = zip(*rows, strict=True)
    return tuple(columns)


def _check(
    ledger: Ledger,
    opening: Opening,
    staged: StagedCalls,
    skips: Skips,
    doubts: Doubts,
    progress: Progress,
    replaced: Mapping[str, Draft],
) -> list[_Trial]:
    """Check every row against the ledger; gives the models that have good rows."""
    trials: list[_Trial] = []
    for page in staged.pages(BATCH):
        good: list[StagedCall] = []
        for model, rows in groupby(page, key=itemgetter(1)):
            if not trials or trials[-1].model != model:
                trials.append(_Trial(ledger, opening, model, replaced))
            good += trials[-1].check(list(rows), skips, doubts)
        staged.keep(good)
        progress(len(page))
    return [trial for trial in trials if trial.new or trial.present]


def _check_replacement(
    ledger: Ledger, name: str, replaced: Mapping[str, Draft], trials: Sequence[_Trial]
) -> None:
    """Refuse to replace an import by nothing.

    Raises:
        ImportRefusedError: the file has no call.
    """
    if replaced and not trials:
        raise ImportRefusedError(
            name,
            None,
            f"the file has no call to take the place of the import. Nothing was changed: "
            f"`{ledger.command('void', '--import', 'IMPORT_ID')}` only takes it out.",
        )


# -- recording what was checked -------------------------------------------------------------
# In bounded transactions. What others record of the same file meanwhile counts as there already.

BATCH = 1_000
"""Calls to a transaction, and rows to a step of reading and checking."""


def record_staged(
    ledger: Ledger,
    opening: Opening,
    staged: StagedCalls,
    heads: dict[str, bytes | None],
    name: str,
    event: Event,
    progress: Progress,
) -> tuple[Counter[str], int, set[str]]:
    """Record the rows that are left, with the import's id in the details of each.

    `heads` are those up to which the models were looked at; see `write_calls`. The event of the
    import goes in with the first calls that are new.

    Gives how many were added to each model, how many others added meanwhile, and the new models.
    """
    recorded: Counter[str] = Counter()
    opened: set[str] = set()
    met = 0
    import_id = event.import_id
    assert import_id is not None  # noqa: S101 - it is that of an import of calls
    for page in staged.kept():
        calls = {
            model: _new_calls(rows, import_id) for model, rows in groupby(page, key=itemgetter(1))
        }
        try:
            written = write_calls(ledger, opening, calls, heads, None if recorded else event)
        except (RequestConflictError, NotFiniteError) as error:
            error.stayed = "its transaction was not recorded"
            raise ImportRefusedError(
                name,
                None,
                f"others wrote to the ledger meanwhile, and a call fits no more: {error} "
                f"{recorded.total()} calls of the file were recorded before it.",
            ) from error
        except LedgerError as error:
            keep_recorded(error, recorded.total(), f"calls of {name}")
            raise
        added = Counter({model: of_model.added for model, of_model in written.items()})
        recorded += added
        heads.update({model: of_model.known_head for model, of_model in written.items()})
        opened |= {model for model, of_model in written.items() if of_model.is_new}
        met += len(page) - added.total()
        progress(len(page))
    return recorded, met, opened


def keep_recorded(error: LedgerError, count: int, what: str) -> None:
    """Add to the error that ended an import what was recorded before it."""
    if count:
        error.keep(f"{count} {what} were recorded: run the same import again to add the rest")


def _new_calls(rows: Iterable[StagedCall], import_id: str) -> list[NewCall]:
    _, _, *columns, details = zip(*rows, strict=True)
    alone = with_import_id(None, import_id)  # so are most
    marked = [alone if one is None else with_import_id(one, import_id) for one in details]
    return list(map(NewCall._make, zip(*columns, marked, strict=True)))


# -- bad lines ------------------------------------------------------------------------------
# A bad line refuses the whole file, or is left out and counted.

LINES_MAX = 20
"""Skipped lines that are listed; the others are counted."""

REASONS_MAX = 50
"""Different reasons that are counted apart; all others are counted together."""

_REASON_LENGTH_MAX = 300
_OTHERS = "other reasons"

# What differs between lines that are bad for the same reason: quoted values, of which long ones
# are cut and have no second quote, and numbers.
_VALUES = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|['"].*?(?:\.\.\.|$)|(?<![\w*])-?[0-9][\w.+-]*"""
)


class Skips:
    """What is left out of one file: its bad lines, and the calls that cannot be learnt from."""

    def __init__(self, source: str, *, skip_bad: bool, is_of_tool: bool = False) -> None:
        """Start with none.

        Args:
            source: the file's name.
            skip_bad: whether bad lines are left out; else the first one refuses the file.
            is_of_tool: whether another tool made the request ids: then an id names one call, and
                nobody can mend a second telling of it.
        """
        self._source = source
        self._skip_bad = skip_bad
        self._is_of_tool = is_of_tool
        self._left_out: Counter[str] = Counter()
        self.unit = "line"
        self._reasons: Counter[str] = Counter()
        self._lines: list[SkippedLine] = []
        self.count = 0

    def add(self, line: int, reason: str) -> None:
        """Count a bad line.

        Raises:
            ImportRefusedError: bad lines are not skipped.
        """
        reason = reason.rstrip(".")
        kind = _VALUES.sub("...", reason)[:_REASON_LENGTH_MAX]  # a cut could leave half a value
        if len(reason) > _REASON_LENGTH_MAX:
            reason = reason[:_REASON_LENGTH_MAX] + " ..."
        if not self._skip_bad:
            one = self.unit
            advice = f"mend the {one}, or leave bad {one}s out (skip_bad, --skip-bad)."
            raise ImportRefusedError(
                self._source, line, f"{reason}. Nothing was recorded: {advice}", one
            )
        self.count += 1
        if kind not in self._reasons and len(self._reasons) >= REASONS_MAX:
            kind = _OTHERS
        self._reasons[kind] += 1
        if len(self._lines) < LINES_MAX:
            self._lines.append(SkippedLine(line, reason))

    def conflict(self, line: int, reason: str) -> None:
        """Count a call whose request id another call has, with other numbers.

        Raises:
            ImportRefusedError: that makes it a bad line, and those are not skipped.
        """
        if self._is_of_tool:
            self.leave_out("duplicate")
        else:
            self.add(line, reason)

    def repeat(self, calls: int) -> int:
        """Take calls that the file has before, all the same; gives those that are there already.

        In a file of another tool, none of them is: what it tells twice is one call.
        """
        if calls and self._is_of_tool:
            self._left_out["duplicate"] += calls
            return 0
        return calls

    def leave_out(self, reason: str) -> None:
        """Count a call that cannot be learnt from."""
        self._left_out[reason] += 1

    @property
    def left_out(self) -> tuple[tuple[str, int], ...]:
        """Why calls cannot be learnt from, most frequent first: (reason, calls)."""
        return tuple(self._left_out.most_common())

    @property
    def reasons(self) -> tuple[tuple[str, int], ...]:
        """Why, most frequent first: (reason without its values, lines)."""
        return tuple(self._reasons.most_common())

    @property
    def lines(self) -> tuple[SkippedLine, ...]:
        """The first of them, by line number."""
        return tuple(sorted(self._lines))


# -- lines that look wrong ------------------------------------------------------------------
# They are recorded with a warning, or `strict` takes them for bad ones.


class Doubts:
    """The lines of one file that look wrong."""

    def __init__(self, skips: Skips, *, strict: bool) -> None:
        """Start with none."""
        self._skips = skips
        self._strict = strict
        self._now = now_us()
        self._kinds: Counter[Kind] = Counter()
        self._first: dict[Kind, int] = {}
        self._lines: list[SkippedLine] = []
        self.unit: str | None = None

    def look_at_unit(self, name: str, speeds: Speeds) -> None:
        """Look whether the milliseconds a token look like another unit.

        Raises:
            ImportRefusedError: it is not, and the import is strict.
        """
        self.unit = speeds.unit_doubt()
        if self.unit is not None and self._strict:
            raise ImportRefusedError(
                name, None, f"{self.unit}. Nothing was recorded: mend the file."
            )

    def without_refused(self, rows: list[StagedCall], worst: Worst) -> list[StagedCall]:
        """The new rows of a model without those that are refused; the others are counted."""
        if not rows:
            return rows
        called_at, _, _, actual_ms, outcomes = _columns(rows)
        if are_usual(called_at, actual_ms, outcomes, self._now, worst):
            return rows
        bad = set()
        for place, row in enumerate(rows):
            kind = doubt(row, self._now, worst)
            if kind is None:
                continue
            if self._strict:
                self._skips.add(row.line, f"this call {kind.one}")
                bad.add(place)
                continue
            self._kinds[kind] += 1
            self._first[kind] = min(row.line, self._first.get(kind, row.line))
            if len(self._lines) < LINES_MAX:
                self._lines.append(SkippedLine(row.line, f"this call {kind.one}"))
        if not bad:
            return rows
        return [row for place, row in enumerate(rows) if place not in bad]

    @property
    def count(self) -> int:
        """How many there are."""
        return self._kinds.total()

    @property
    def reasons(self) -> tuple[tuple[str, int], ...]:
        """Why, most frequent first: (reason, lines)."""
        return tuple((kind.one, lines) for kind, lines in self._kinds.most_common())

    @property
    def lines(self) -> tuple[SkippedLine, ...]:
        """The first of them, in the order of recording."""
        return tuple(self._lines)

    def told(self) -> list[str]:
        """What to say of them, and of the unit."""
        unit = self._skips.unit
        units = [] if self.unit is None else [self.unit]
        return units + [
            f"1 call {kind.one} ({unit} {self._first[kind]})"
            if lines == 1
            else f"{lines} calls {kind.several} (the first in {unit} {self._first[kind]})"
            for kind, lines in self._kinds.most_common()
        ]


# -- what an import says while it runs ------------------------------------------------------
# A `progress` is any function of a number of steps. If it has a method `begin`, that is told what
# the next steps are, such as "lines read"; then it also counts the steps of the checking.


def begin(progress: Progress, steps: str) -> None:
    """Tell a `progress` what the next steps are, if it asks for that."""
    told = getattr(progress, "begin", None)
    if told is not None:
        told(steps)


def for_checks(progress: Progress) -> Progress:
    """Who is told of the steps of the checking: nobody who does not learn what the steps are."""
    return progress if hasattr(progress, "begin") else lambda _: None
