"""Import of calls: a file of rows is checked whole, then recorded in bounded transactions.

Reading: every line is parsed into a temporary database. Checking: in the order of recording, each
row is held against the ledger (its request id may be there already, with the same numbers or with
others) and learnt in a trial, so that what recording would refuse is refused before. Recording:
through the same functions as `record_many`. A crash leaves a prefix, and the request id that every
row gets makes the same import complete it. What is recorded bears the id of the import, which the
file alone decides; a row that is in the ledger already keeps what it has.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from calibration_ledger.errors import (
    LedgerNotFoundError,
    NotFiniteError,
)
from calibration_ledger.import_ids import ImportDigest
from calibration_ledger.interchange.calls_recording import BATCH, record_staged
from calibration_ledger.interchange.csv_file import csv_rows
from calibration_ledger.interchange.jsonl_file import jsonl_rows
from calibration_ledger.interchange.lines import open_source, shown_name
from calibration_ledger.interchange.reports import ImportReport
from calibration_ledger.interchange.rows import BadRow, content_key
from calibration_ledger.interchange.skips import Skips
from calibration_ledger.interchange.stages import begin, for_checks
from calibration_ledger.learning import State, unpack_numbers
from calibration_ledger.new_calls import now_us
from calibration_ledger.rules import stored_rule
from calibration_ledger.storage import reads
from calibration_ledger.storage.staging import StagedCalls
from calibration_ledger.validation import request_key

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.interchange.lines import Source
    from calibration_ledger.interchange.rows import Row
    from calibration_ledger.replay import Progress
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.staging import StagedCall

_PARSERS = {"jsonl": jsonl_rows, "csv": csv_rows}


def import_rows(
    backend: Backend,
    opening: Callable[[str], Adjustment],
    kind: str,
    source: str | os.PathLike[str] | TextIO | None,
    *,
    skip_bad: bool,
    progress: Progress | None,
) -> ImportReport:
    """Import a file of calls; see `AdaptiveCalibrator.import_calls`."""
    name = "" if source is None else shown_name(source)
    skips = Skips(name, skip_bad=skip_bad)
    report = progress or (lambda _: None)
    with StagedCalls() as staged:
        with open_source(source, backend.place.path) as file:
            begin(report, "lines read")
            import_id, voided = _read(file, kind, staged, skips, report)
        _settle(staged, skips)
        begin(report, "calls checked")
        trials = _check(backend, opening, staged, skips, for_checks(report))
        present = staged.count_present()
        begin(report, "calls recorded")
        recorded, met, opened = record_staged(backend, opening, staged, name, import_id, report)
    extended = len(recorded.keys() - opened)
    return ImportReport(
        kind,
        name,
        recorded=recorded.total(),
        already=present + met,
        already_voided=sum(trial.voided for trial in trials),
        older=sum(trial.older for trial in trials),
        skipped=skips.count,
        skipped_reasons=skips.reasons,
        skipped_lines=skips.lines,
        models=len(trials),
        models_opened=len(opened),
        models_extended=extended,
        models_unchanged=len(trials) - len(opened) - extended,
        voided=voided,
        import_id=import_id if recorded else None,
    )


# -- reading ------------------------------------------------------------------------------------


def _read(
    file: Source, kind: str, staged: StagedCalls, skips: Skips, progress: Progress
) -> tuple[str, int]:
    """Stage the good rows; gives the id of the import, and how many rows are voided."""
    now = now_us()
    digest = ImportDigest()
    batch: list[tuple[Any, ...]] = []
    good: list[Row] = []
    lines = voided = 0
    for line, row in _PARSERS[kind](file):
        lines += 1
        if isinstance(row, BadRow):
            skips.add(line, row.reason)
        elif row.voided:
            voided += 1
        else:
            key = content_key(row) if row.request_id is None else None
            called_at = now if row.called_at is None else row.called_at
            batch.append((line, row.model, called_at, *row[2:7], key))
            good.append(row)
        if lines == BATCH:
            staged.add(batch)
            digest.add(good)
            progress(lines)
            batch, good, lines = [], [], 0
    staged.add(batch)
    digest.add(good)
    progress(lines)
    return digest.import_id(), voided


def _settle(staged: StagedCalls, skips: Skips) -> None:
    staged.settle()
    for line, first, model, request_id in staged.conflicts():
        skips.add(
            line,
            f"the request id {request_id!r} of the model {model!r} is in line {first} with other "
            f"numbers: give each call an id of its own",
        )
    staged.drop_conflicts()


# -- checking -----------------------------------------------------------------------------------


class _Trial:
    """One model of the file, learnt on trial from where the ledger stands."""

    def __init__(self, backend: Backend, opening: Callable[[str], Adjustment], model: str) -> None:
        self.backend = backend
        self.model = model
        self.model_id: int | None = None
        self.newest_at = -1
        self.new = self.present = self.older = self.voided = 0
        try:
            live = reads.find(backend, model)
        except LedgerNotFoundError:
            live = None
        if live is None:
            entry = opening(model)
            self.state = State.from_adjustment(entry, stored_rule(entry.rule), entry.alpha)
            return
        self.model_id = live.model_id
        numbers = [*live.numbers, *unpack_numbers(live.rule_state)]
        self.state = State(
            stored_rule(live.rule), live.alpha, numbers, live.sample_count, live.updated_at
        )
        self.history = reads.ModelHistory(backend, live)
        newest_at = self.history.newest_call_at()
        self.newest_at = -1 if newest_at is None else newest_at

    def check(self, rows: Sequence[StagedCall], staged: StagedCalls, skips: Skips) -> None:
        """Take the next rows of this model, in the order of recording."""
        new = self._unknown(rows, staged, skips)
        if not new:
            return
        before = self.state.copy()
        try:
            self.state.learn(*_columns(new))
        except NotFiniteError:
            self.state = before
            new = self._learn_each(new, staged, skips)
        self.new += len(new)
        self.older += sum(row.called_at < self.newest_at for row in new)

    def _unknown(
        self, rows: Sequence[StagedCall], staged: StagedCalls, skips: Skips
    ) -> list[StagedCall]:
        """The rows that are not in the ledger."""
        if self.model_id is None:
            return list(rows)
        keys = [request_key(row.request_id) for row in rows]
        found = reads.find_requests(self.backend, self.model_id, keys)
        if not found:
            return list(rows)
        new, present, bad = [], [], []
        for row, key in zip(rows, keys, strict=True):
            known = found.get(key)
            if known is None:
                new.append(row)
            elif known[1:] == row[4:7]:
                present.append(row.place)
                self.voided += self.history.is_voided(known[0])
            else:
                skips.add(
                    row.line,
                    f"the request id {row.request_id!r} of the model {self.model!r} is in the "
                    f"ledger with other numbers: give each call an id of its own, also one that "
                    f"corrects a voided call",
                )
                bad.append(row.place)
        staged.set_present(present)
        staged.drop(bad)
        self.present += len(present)
        return new

    def _learn_each(
        self, rows: Sequence[StagedCall], staged: StagedCalls, skips: Skips
    ) -> list[StagedCall]:
        """Find the rows that cannot be learnt; gives the others."""
        learnt, bad = [], []
        for row in rows:
            state = self.state.copy()
            try:
                state.learn(*_columns([row]))
            except NotFiniteError as error:
                skips.add(row.line, str(error))
                bad.append(row.place)
            else:
                self.state = state
                learnt.append(row)
        staged.drop(bad)
        return learnt


def _columns(rows: Sequence[StagedCall]) -> tuple[Sequence[int], ...]:
    _, _, _, *columns, _, _ = zip(*rows, strict=True)
    return tuple(columns)


def _check(
    backend: Backend,
    opening: Callable[[str], Adjustment],
    staged: StagedCalls,
    skips: Skips,
    progress: Progress,
) -> list[_Trial]:
    """Check everything against the ledger; gives the models of which something is left."""
    trials: list[_Trial] = []
    for page in staged.pages(BATCH):
        for model, rows in groupby(page, key=lambda row: row.model):
            if not trials or trials[-1].model != model:
                trials.append(_Trial(backend, opening, model))
            trials[-1].check(list(rows), staged, skips)
        progress(len(page))
    return [trial for trial in trials if trial.new or trial.present]
