"""Import of a whole ledger: restore what has no history here, continue what has the same.

The file is verified whole first, then compared with the ledger. Its entries go in as they are, in
bounded transactions, each of which leaves a sound ledger: the same import adds the rest. Entries
that come back from an archive go in in one transaction for each model.
"""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from calibration_ledger.core.aliases import chain_faults, in_force
from calibration_ledger.core.audit import ModelAudit
from calibration_ledger.core.entries import OUTCOMES, Adjustment, AliasEntry, Event, Setting
from calibration_ledger.core.events import import_event
from calibration_ledger.core.history import Page, covers, voided_ranges, walk
from calibration_ledger.core.validation import request_key
from calibration_ledger.core.values import ImportReport
from calibration_ledger.errors import (
    ImportRefusedError,
    LedgerError,
    NotRecordedError,
    damaged,
    named,
)
from calibration_ledger.formats.ledger import LedgerReader, ModelEnd
from calibration_ledger.formats.source import open_source, shown_name
from calibration_ledger.storage.stage import StagedEntries
from calibration_ledger.verbs.doubt import warn_of_similar
from calibration_ledger.verbs.import_calls import begin, keep_recorded
from calibration_ledger.verbs.record import NewCall, OpenModel, now_us
from calibration_ledger.verbs.rule import append

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import NoReturn, TextIO

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.core.history import Entries, Ranges
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.settings import Settings
    from calibration_ledger.formats.source import Source
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.stage import StagedModel
    from calibration_ledger.storage.transaction import Stored, Transaction

    Place = tuple[int, bytes | None, Adjustment | None]
    """Where a model must stand when its entries are appended: its seq, head and first entry."""


# -- the import -----------------------------------------------------------------------------


def import_entries(
    ledger: Ledger, source: str | os.PathLike[str] | TextIO | None, *, progress: Progress | None
) -> ImportReport:
    """Import a ledger file; see `AdaptiveCalibrator.import_calls`."""
    report = progress or (lambda _: None)
    name = "" if source is None else shown_name(source)
    with StagedEntries() as staged:
        with open_source(source, ledger.path) as file:
            begin(report, "calls read")
            calls = stage(file, staged, report)
            plans = plan_import(ledger, staged, file)
        names = _Names(name, staged.settings, {one.staged.model: one.staged for one in plans})
        names.settled(ledger.settings(), ledger.own)
        begin(report, "entries recorded")
        done: Counter[str] = Counter()
        added: list[Setting | AliasEntry] = []
        left = 0
        note = _Note(ledger, name, plans)
        if ledger.events().lacks(staged.events):
            ledger.write(_take_events, staged.events)
        if staged.settings:
            added, left = ledger.write(_take_settings, names, note.event)
            note.is_due &= not added
        for plan in plans:
            try:
                if plan.restored:
                    _restore(plan, done, report, note)
                _append(plan, done, report, note)
            except LedgerError as error:
                entries = done["calls"] + done["adjustments"]
                keep_recorded(error, entries, f"entries of {name}")
                raise
    opened = {plan.staged.model for plan in plans if plan.live is None}
    warn_of_similar(ledger, opened)
    unchanged = sum(plan.is_unchanged for plan in plans)
    return ImportReport(
        "ledger",
        name,
        recorded=done["calls"],
        already=calls - done["calls"],
        adjustments=done["adjustments"],
        timeouts=done["timeouts"],
        models=len(plans),
        models_opened=len(opened),
        models_extended=len(plans) - len(opened) - unchanged,
        models_unchanged=unchanged,
        settings=len(added),
        aliases=sum(isinstance(entry, AliasEntry) for entry in added),
        settings_left=left,
        format="ledger",
    )


class _Note:
    """The event of the import, which goes in with the first entries that are recorded."""

    def __init__(self, ledger: Ledger, name: str, plans: Sequence[Plan]) -> None:
        """It is due."""
        calls = {plan.staged.model: plan.calls() for plan in plans if not plan.is_unchanged}
        self._event = import_event(name, "ledger", None, sum(calls.values()), calls, now_us())
        self._ledger = ledger
        self.is_due = True

    @property
    def event(self) -> Event | None:
        """The event, while it is due."""
        return self._event if self.is_due else None

    def write(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Run `work` in a transaction, with the event if it is due."""

        def noted(transaction: Transaction) -> _Result:
            result = work(transaction, *arguments)
            if self.event is not None:
                transaction.add_event(self.event)
            return result

        result = self._ledger.write(noted)
        self.is_due = False
        return result


_Result = TypeVar("_Result")


def _take_events(transaction: Transaction, theirs: Sequence[Event]) -> None:
    """Add the events of the file that the ledger lacks."""
    for event in transaction.events().lacks(theirs):
        transaction.add_event(event)


def _take_settings(
    transaction: Transaction, names: _Names, event: Event | None
) -> tuple[list[Setting | AliasEntry], int]:
    """Add the settings that the ledger lacks; gives them, and how many rules are left."""
    transaction.keep_out_new()
    here = transaction.settings()
    new, left = names.settled(here, transaction.own)
    if new:
        append(transaction, here, new)
        if event is not None:
            transaction.add_event(event)
    return new, left


class _Names(NamedTuple):
    """The settings of a file, and its models, whose names must mean the same in the ledger.

    Attributes:
        file: the name of the file.
        entries: its settings.
        models: its models, by their names.
    """

    file: str
    entries: Sequence[Setting | AliasEntry]
    models: Mapping[str, StagedModel]

    def settled(
        self, here: Settings, own: Callable[[str], Stored | None]
    ) -> tuple[list[Setting | AliasEntry], int]:
        """The settings that the ledger lacks, and how many rules of the file are left.

        They are, where the ledger has others of its own: models of several ledgers may come
        together in one, and it is the user's to say what its new models learn by. But an alias of
        the file holds for its models, so it is added behind the ledger's own settings.

        Args:
            here: the settings of the ledger.
            own: finds the calibration of the model that is called so itself.

        Raises:
            ImportRefusedError: a name means another model here.
        """
        pairs = zip(here.entries, self.entries, strict=False)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        new = list(self.entries[common:])
        left = 0
        known, theirs = here.names(), self._aliases()
        if common < len(here.entries):
            missing = [entry for name, entry in theirs.items() if name not in known]
            left = sum(isinstance(entry, Setting) for entry in new)
            new = [
                entry._replace(seq=here.last_seq + place) for place, entry in enumerate(missing, 1)
            ]
            for name in sorted(theirs.keys() & known.keys()):
                if theirs[name].model != known[name].model:
                    self._refuse(
                        f"{name!r} is an alias of {theirs[name].model!r} in the file, and of "
                        f"{known[name].model!r} in the ledger"
                    )
        self._check(here, [entry for entry in new if isinstance(entry, AliasEntry)], own)
        return new, left

    def _aliases(self) -> dict[str, AliasEntry]:
        return in_force([entry for entry in self.entries if isinstance(entry, AliasEntry)])

    def _check(
        self, here: Settings, new: Sequence[AliasEntry], own: Callable[[str], Stored | None]
    ) -> None:
        """Refuse where a name would stand for two models, or hide calls that the file lacks."""
        for _, expected, found in chain_faults([*here.aliases, *new]):
            self._refuse(f"its aliases do not fit those of the ledger: {expected}, not {found}")
        theirs = self._aliases()
        for name, entry in in_force([*here.aliases, *new]).items():
            live, staged = own(name), self.models.get(name)
            there = 0 if staged is None else staged.last_seq
            if name not in theirs and there > (0 if live is None else live.last_seq):
                self._refuse(
                    f"{name!r} has calls of its own in the file, and is an alias of "
                    f"{entry.model!r} in the ledger"
                )
            is_alias = live is None or live.alias_seq is not None
            if not is_alias and live is not None and live.last_seq > there:
                self._refuse(
                    f"{name!r} is an alias of {entry.model!r} in the file, and has calls of its "
                    f"own in the ledger"
                )

    def _refuse(self, matter: str) -> NoReturn:
        raise ImportRefusedError(
            self.file, None, f"{matter}. {_CHANGED}: import into a fresh ledger."
        )


# -- is the file sound? ---------------------------------------------------------------------
# The fold that audits a ledger also checks a file: before an import adds anything, and before an
# archive takes anything out of the ledger.

BATCH = 1_000
"""Calls that are staged at once, and entries to a transaction of an import."""


def stage(file: Source, staged: StagedEntries, progress: Progress) -> int:
    """Stage the whole file; gives how many calls it holds."""
    number = calls = 0
    batch: list[tuple[int, int, CallRow]] = []
    for line, model, item in LedgerReader(file).items():
        if isinstance(item, ModelEnd):
            staged.add_model(number, model, item.seq, item.digest, line)
            number += 1
        elif isinstance(item, Adjustment):
            staged.add_adjustment(number, line, item)
        elif isinstance(item, Setting | AliasEntry):
            staged.settings.append(item)
        elif isinstance(item, Event):
            staged.events.append(item)
        else:
            batch.append((number, line, item))
            calls += 1
        if len(batch) == BATCH:
            staged.add_calls(batch)
            batch = []
            progress(BATCH)
    staged.add_calls(batch)
    progress(len(batch))
    return calls


def feed(fold: ModelAudit, entries: Entries, through: int) -> None:
    """Fold the entries behind those that were folded, up to `through`."""
    for part in walk(entries, fold.seq, through):
        if isinstance(part, Adjustment):
            fold.adjust(part)
        else:
            fold.calls(part.rows)


def check_fold(fold: ModelAudit, model: StagedModel, file: Source) -> None:
    """Refuse a file whose entries of a model do not follow from each other, or its head from them.

    Or in which two calls that count have the same request id.

    Raises:
        ImportRefusedError: they do not.
    """
    advice = "Nothing was recorded: export the ledger again, and audit the one it came from."
    for finding in fold.close():
        file.refuse(model.line_of(finding.seq), f"{finding}. {advice}")
    voided, counted = voided_ranges(model.adjustments), None
    for line, seq, request_id in model.repeated_requests():
        if covers(voided, seq):
            continue
        if request_id == counted:
            file.refuse(
                line,
                f"the request id {request_id!r} of the model {model.model!r} is there twice. "
                f"{advice}",
            )
        counted = request_id
    if fold.head != model.head:
        file.refuse(
            model.head_line, f"{model.model}: this is not the head of the entries above. {advice}"
        )


# -- what each model of the file gets -------------------------------------------------------
# A model without history here gets all of its entries. One with the same history gets those that
# it lacks: at the end, or at the beginning, where they were archived. If one model of the file does
# not fit, nothing changes for any of them.

_SHOWN_MAX = 5
_CHANGED = "Nothing was changed"

_CLAIMED = {"recalibrated": "was recalibrated", "voided": "had entries voided"}
"""What made the entries that rest on what came before them, by the check that minds them."""


class Plan(NamedTuple):
    """What a model of the file gets.

    Attributes:
        staged: the model.
        live: its calibration in the ledger, if it has history there.
        beginning: the first entry that the ledger has of it.
        restored: up to which seq entries of the file replace that one; 0: none do.
    """

    staged: StagedModel
    live: Stored | None = None
    beginning: Adjustment | None = None
    restored: int = 0

    @property
    def is_unchanged(self) -> bool:
        """Whether the ledger has all of it already."""
        is_whole = self.live is not None and self.live.last_seq >= self.staged.last_seq
        return is_whole and not self.restored

    def calls(self) -> int:
        """How many calls the ledger gets."""
        first = max(0, self.staged.archived - 1)
        behind = max(0 if self.live is None else self.live.last_seq, first)
        parts = ((first, self.restored), (behind, self.staged.last_seq))
        return sum(
            max(0, through - after)
            - sum(after < entry.seq <= through for entry in self.staged.adjustments)
            for after, through in parts
        )


def plan_import(ledger: Ledger, staged: StagedEntries, file: Source) -> list[Plan]:
    """Verify every model of the file, and compare it with the ledger.

    Raises:
        ImportRefusedError: the file is not sound, or a model has another history here.
    """
    plans: list[Plan] = []
    diverged: list[str] = []
    for model in staged.models():
        live = ledger.own(model.model)
        fold = ModelAudit(model.model, model.adjustments)
        if live is None:
            feed(fold, model, model.last_seq)
            check_fold(fold, model, file)
            plans.append(Plan(model))
            continue
        history = ledger.history(live)
        common = min(live.last_seq, model.last_seq)
        feed(fold, model, common)
        head = fold.head
        feed(fold, model, model.last_seq)
        check_fold(fold, model, file)
        _check_overlap(model, history, file)
        if head != _head_at(history, common):
            diverged.append(model.model)
            continue
        restored = history.archived if model.archived < history.archived else 0
        if model.archived or history.archived:
            _check_fit(_Merged(model, history, restored), file)
        plans.append(Plan(model, live, history.beginning, restored))
    if diverged:
        file.refuse(
            None,
            f"{named(diverged, _SHOWN_MAX)}: the ledger {ledger.shown} has another "
            f"history. {_CHANGED}: import into a fresh ledger, or export the other models alone, "
            f"each with --model.",
        )
    return plans


def _head_at(history: ModelHistory, seq: int) -> bytes | None:
    """The head that the ledger's own history had at an entry."""
    if seq == history.live.last_seq:
        return history.live.head
    fold = ModelAudit(history.model)
    feed(fold, history, seq)
    return fold.head


# -- where either was archived --------------------------------------------------------------


class _Merged:
    """A model's history once the file is imported: the ledger's entries between the file's."""

    def __init__(self, staged: StagedModel, history: ModelHistory, restored: int) -> None:
        """The file's entries up to `restored`, the ledger's, then what the file has beyond it."""
        self.staged = staged
        self.history = history
        self.restored = restored
        self.last_seq = max(staged.last_seq, history.live.last_seq)
        end = history.live.last_seq
        self.parts: tuple[tuple[Entries, int, int], ...] = (
            (staged, 0, restored),
            (history, restored, end),
            (staged, end, self.last_seq),
        )
        self.adjustments = [
            entry
            for part, after, through in self.parts
            for entry in part.adjustments
            if after < entry.seq <= through
        ]

    def calls(self, after: int, through: int) -> Iterator[Page]:
        """Pages of calls with after < seq <= through."""
        for part, first, last in self.parts:
            yield from part.calls(max(after, first), min(through, last))

    def new_requests(self, voided: Ranges) -> Iterator[list[str]]:
        """The request ids of the file's calls that the ledger lacks, without voided, in pages."""
        for part, after, through in (self.parts[0], self.parts[2]):
            for rows, _ in part.calls(after, through):
                yield [
                    given
                    for seq, *_, given, _ in rows
                    if given is not None and not covers(voided, seq)
                ]


def _check_overlap(model: StagedModel, history: ModelHistory, file: Source) -> None:
    """Refuse a file that leaves a gap before or after the ledger's entries."""
    name, end = repr(model.model), history.live.last_seq
    if model.last_seq < history.archived:
        file.refuse(
            model.head_line,
            f"the entries of {name} end with {model.last_seq}, and in the ledger those up to "
            f"{history.archived} are archived. {_CHANGED}: import the archive that ends with "
            f"entry {history.archived} first.",
        )
    if end < model.archived:
        file.refuse(
            model.head_line,
            f"of {name} the entries up to {model.archived} were archived before the file was "
            f"written, and the ledger ends with entry {end}. {_CHANGED}: import that archive "
            f"first.",
        )


def _check_fit(merged: _Merged, file: Source) -> None:
    """Refuse a file that is sound, as the ledger is, but whose entries do not fit the ledger's.

    Raises:
        ImportRefusedError: a recalibration or voiding rests on the archived entry, or a request
            id was used again.
    """
    staged, history, restored = merged.staged, merged.history, merged.restored
    if not restored and staged.last_seq <= history.live.last_seq:
        return
    fold = ModelAudit(staged.model, merged.adjustments)
    if restored:
        if any(page.rows for page in history.calls(0, restored)):
            raise damaged(staged.model, "calls are there that were archived")
        feed(fold, merged, restored)
        assert fold.state is not None  # noqa: S101 - the file was verified
        assert history.beginning is not None  # noqa: S101 - it is the archived entry
        if fold.state.snapshot() != history.beginning.snapshot:
            raise damaged(staged.model, "the archived entry is not what the archive ends in")
    feed(fold, merged, merged.last_seq)
    for finding in fold.close():
        if finding.check not in _CLAIMED:
            raise damaged(staged.model, f"entry {finding.seq} does not follow from the file")
        file.refuse(
            None,
            f"{staged.model!r} {_CLAIMED[finding.check]} (entry {finding.seq}), and its state was "
            f"worked out from what was left after archiving: that would not hold with the archived "
            f"entries back. {_CHANGED}: import the file into a ledger of its own.",
        )
    voided = voided_ranges(merged.adjustments)
    for ids in merged.new_requests(voided):
        keys = {request_key(request_id): request_id for request_id in ids}
        found = history.calls_of(list(keys), voided)
        taken = [key for key, (one, *_) in found.items() if not one.is_voided]
        if taken:
            file.refuse(
                None,
                f"the request id {keys[taken[0]]!r} of {staged.model!r} was recorded "
                f"anew after its call was archived. {_CHANGED}: import the file into a ledger of "
                f"its own.",
            )


# -- the beginning: archived entries come back ----------------------------------------------


def _restore(plan: Plan, done: Counter[str], progress: Progress, note: _Note) -> None:
    """Replace the ledger's archived entry by the entries that it stands for: all, or none."""
    model, live = plan.staged, plan.live
    assert live is not None  # noqa: S101 - it has an archived entry

    def work(transaction: Transaction) -> Counter[str]:
        here = transaction.own(model.model)
        if (
            here is None
            or transaction.first_adjustment(here.model_id) != plan.beginning
            or transaction.last_adjustment(here.model_id) > live.last_seq
        ):
            raise _written_to(model.model)
        transaction.remove_through(here.model_id, plan.restored)
        written: Counter[str] = Counter()
        for part in walk(model, 0, plan.restored):
            if isinstance(part, Adjustment):
                transaction.add_adjustment(here.model_id, part)
                written["adjustments"] += 1
            else:
                _put_back(transaction, here.model_id, part.rows)
                written["calls"] += len(part.rows)
                written["timeouts"] += _timeouts(part)
        transaction.settle_voided(model.model, here.model_id)
        return written

    written = note.write(work)
    done.update(written)
    progress(written["calls"] + written["adjustments"])


def _timeouts(page: Page) -> int:
    """How many of these calls are time-outs."""
    return sum(outcome is not None for *_, outcome, _, _ in page.rows)


def _put_back(transaction: Transaction, model_id: int, rows: Sequence[CallRow]) -> None:
    ordinary, timeouts = (
        [(model_id, *call) for *call, outcome, _, _ in rows if outcome == kind] for kind in OUTCOMES
    )
    transaction.add_calls(ordinary, timeouts)
    transaction.add_details(
        [
            (model_id, seq, None if rid is None else request_key(rid), rid, text)
            for seq, *_, rid, text in rows
            if rid is not None or text is not None
        ]
    )


# -- the end: entries that the ledger lacks -------------------------------------------------


def _append(plan: Plan, done: Counter[str], progress: Progress, note: _Note) -> None:
    """Append what the ledger lacks of one model."""
    model, live = plan.staged, plan.live
    seq, head = (0, None) if live is None else (live.last_seq, live.head)
    beginning = model.adjustments[0] if plan.restored else plan.beginning
    while seq < model.last_seq:
        after = max(seq, model.archived - 1)
        through = min(after + BATCH, model.last_seq)
        parts = list(walk(model, after, through))
        head = note.write(_append_parts, model.model, (seq, head, beginning), parts)
        adjustments = sum(isinstance(part, Adjustment) for part in parts)
        done["adjustments"] += adjustments
        done["timeouts"] += sum(_timeouts(part) for part in parts if isinstance(part, Page))
        done["calls"] += through - after - adjustments
        progress(through - after)
        seq = through
        beginning = beginning or model.adjustments[0]


def _append_parts(
    transaction: Transaction, model: str, at: Place, parts: Sequence[Adjustment | Page]
) -> bytes:
    """Append in one transaction, if the model still stands where it stood; gives the head."""
    live = transaction.own(model)
    opened = None if live is None else OpenModel(transaction, live)
    found: Place = (0, None, None)
    if opened is not None:
        beginning = transaction.first_adjustment(opened.model_id)
        found = (opened.seq, opened.head, beginning)
    if at != found:
        raise _written_to(model)
    for part in parts:
        if opened is None:
            assert isinstance(part, Adjustment)  # noqa: S101 - verified: the first is an opening
            opened = OpenModel.create(transaction, model, part)
        elif isinstance(part, Adjustment):
            opened.append(part)
        else:
            opened.learn([NewCall(at, p, c, y, *texts) for _, at, p, c, y, _, *texts in part.rows])
    assert opened is not None  # noqa: S101 - there is at least one entry to append
    opened.save()
    if opened.is_new:
        transaction.mark_if_alias(model, opened.model_id)
    return opened.head


def _written_to(model: str) -> NotRecordedError:
    return NotRecordedError(
        f"the model {model!r} was written to while its import ran",
        stayed="nothing of this transaction was recorded",
        advice="stop what writes to it",
    )
