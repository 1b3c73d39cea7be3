"""Aliases: let two names be one model, also where both have history of their own.

A merge voids those calls of the model that are newer than the first of the name, and learns them
anew together with the calls of the name, in the order of their times. All of that is one range of
entries of the model; to void it undoes the merge. The name's own entries stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from calibration_ledger.core.aliases import merged_range, names_of, told
from calibration_ledger.core.entries import AliasEntry
from calibration_ledger.core.history import (
    covers,
    last_beginning,
    left_of,
    merged,
    voids_ranges,
    voids_text,
)
from calibration_ledger.core.state import State, calibration_of
from calibration_ledger.core.validation import (
    check_details,
    check_model,
    check_new_model,
    request_key,
)
from calibration_ledger.core.values import AliasReport
from calibration_ledger.errors import (
    IMPOSSIBLE,
    AliasRefusedError,
    HistoryArchivedError,
    InvalidInputError,
    damage_told,
    damaged,
    impossible,
    named,
)
from calibration_ledger.formats.json_text import parse_json
from calibration_ledger.verbs.record import NewCall, OpenModel, Unopened, now_us
from calibration_ledger.verbs.rule import append
from calibration_ledger.verbs.void import draft_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.settings import Settings
    from calibration_ledger.core.values import Alias, ModelCalibration
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Known, Stored, Transaction
    from calibration_ledger.verbs.record import Opening, Start
    from calibration_ledger.verbs.void import Draft


def aliases(ledger: Ledger) -> list[Alias]:
    """See `AdaptiveCalibrator.aliases`."""
    return [told(entry) for entry in ledger.settings().names().values()]


def alias(
    ledger: Ledger,
    opening: Opening,
    name: str,
    model: str | None,
    *,
    merge: bool,
    dry_run: bool,
    progress: Progress | None,
) -> AliasReport:
    """See `AdaptiveCalibrator.alias`."""
    ask = _Ask(
        ledger,
        check_model(name),
        None if model is None else check_model(model),
        merge,
        progress or (lambda _: None),
    )
    start: Start | None = None
    while True:
        try:
            if dry_run or not ledger.exists():  # a ledger that is refused all is not made
                plan = _planned(ask, ledger, start)
                if dry_run:
                    return plan.told(ask)
            return ledger.write(_given, ask, start, makes=model is not None)
        except Unopened as unopened:  # its prior is asked for outside of the transaction
            start = opening(str(unopened))


class _Ask(NamedTuple):
    """What is asked for."""

    ledger: Ledger
    name: str
    model: str | None
    merge: bool
    progress: Progress


class _Reads(Protocol):
    """What is read: from the ledger, or inside of the transaction that writes."""

    def settings(self) -> Settings:
        """The settings, with the aliases among them."""

    def own(self, model: str) -> Stored | None:
        """The calibration of the model that is called so itself."""

    def history(self, live: Stored) -> ModelHistory:
        """The entries of a model."""


class _Inside:
    """The reads of one transaction."""

    def __init__(self, ledger: Ledger, transaction: Transaction) -> None:
        self._ledger = ledger
        self._transaction = transaction
        self.settings = transaction.settings
        self.own = transaction.own

    def history(self, live: Stored) -> ModelHistory:
        """See `_Reads`."""
        return self._ledger.history_in(self._transaction, live)


# -- what is to be done ---------------------------------------------------------------------


class _Plan(NamedTuple):
    """What is to be done.

    Attributes:
        settings: the settings as they are.
        standing: the alias that the name is now; None for none.
        model: what it is to stand for, which is no alias; None: nothing.
        live: the calibration of that model; None where it has no history.
        undo: the voiding that undoes the merge of the alias that stands; None for none.
        merge: what is merged; None for nothing.
    """

    settings: Settings
    standing: AliasEntry | None
    model: str | None
    live: Stored | None
    undo: Draft | None = None
    merge: _Merge | None = None

    @property
    def is_new(self) -> bool:
        """Whether anything changes."""
        return self.model != (None if self.standing is None else self.standing.model)

    def told(self, ask: _Ask) -> AliasReport:
        """What would be done."""
        report = AliasReport(
            ask.name,
            self.model,
            None if self.standing is None else self.standing.model,
            is_known=self.model is None or self.live is not None or self.merge is not None,
        )
        return self.report(report, None if self.merge is None else self.merge.state())

    def report(self, report: AliasReport, state: State | None) -> AliasReport:
        """The report with what changes of a calibration; `state` is the one behind a merge."""
        if self.undo is not None and self.undo.ranges:
            voiding = self.undo.told(None)
            report = replace(
                report,
                undone=voiding.voids,
                before=voiding.before,
                calibration=voiding.calibration,
            )
        if self.merge is None or self.model is None or state is None:
            return report
        return replace(
            report,
            copied=self.merge.copied,
            moved=self.merge.moved,
            already=self.merge.already,
            before=_calibration(self.live),
            calibration=state.calibration(self.model),
        )


def _calibration(live: Stored | None) -> ModelCalibration | None:
    return None if live is None else calibration_of(live.model, live.snapshot)


def _planned(ask: _Ask, reads: _Reads, start: Start | None) -> _Plan:
    """Find out what is to be done.

    Raises:
        AliasRefusedError: the name cannot stand for the model.
        Unopened: the model has no history, and `start` is not what it begins with.
    """
    settings = reads.settings()
    names = settings.names()
    standing = names.get(ask.name)
    if ask.model is None:
        if standing is None:
            raise AliasRefusedError(
                f"{ask.name!r} is no alias",
                advice=f"`{ask.ledger.command('alias')}` lists those there are",
            )
        undo = _undo(ask.ledger, reads, names, standing)
        return _Plan(settings, standing, None, None, undo)
    model = names[ask.model].model if ask.model in names else ask.model
    assert model is not None  # noqa: S101 - it is in force
    plan = _Plan(settings, standing, model, reads.own(model))
    if not plan.is_new:
        return plan
    if plan.live is None:
        check_new_model(model)  # its first call is to open it
    _check_names(ask, names, model)
    own = reads.own(ask.name)
    if own is None:
        check_new_model(ask.name)  # no call could be recorded under it
    elif not ask.merge:
        merging = ask.ledger.command("alias", "--merge", names=[ask.name, model])
        raise AliasRefusedError(
            f"the model {ask.name!r} has a history of its own",
            advice=f"`{merging}` rebuilds the calibration of {model!r} from both; add --dry-run "
            f"to see what that changes",
        )
    if standing is not None:
        plan = plan._replace(undo=_undo(ask.ledger, reads, names, standing))
    if own is None:
        return plan
    return plan._replace(merge=_merge(ask, reads, plan, own, start))


def _check_names(ask: _Ask, names: Mapping[str, AliasEntry], model: str) -> None:
    if model == ask.name:
        same = "itself" if ask.model == model else f"{ask.model!r}, which is another name of it"
        raise AliasRefusedError(f"{ask.name!r} cannot be an alias of {same}")
    others = names_of(ask.name, names)
    if others:
        away = ask.ledger.command("alias", "--remove", names=others[:1])
        raise AliasRefusedError(
            f"{ask.name!r} cannot be an alias while {named(others, _SHOWN_MAX)} stand for it",
            advice=f"take those away first, with `{away}`, and let them stand for {model!r}",
        )


_SHOWN_MAX = 3


def _undo(
    ledger: Ledger, reads: _Reads, names: Mapping[str, AliasEntry], standing: AliasEntry
) -> Draft | None:
    """The voiding that undoes the merge of an alias; None where nothing was merged.

    Raises:
        AliasRefusedError: a later merge has learnt the same calls anew.
        HistoryArchivedError: what was merged is archived.
    """
    found = merged_range(standing)
    if found is None or standing.model is None:
        return None
    later = [
        one.name
        for one in names.values()
        if one.model == standing.model and one.merged is not None and one.seq > standing.seq
    ]
    if later:
        away = ledger.command("alias", "--remove", names=later[-1:])
        raise AliasRefusedError(
            f"{named(later, _SHOWN_MAX)} came into {standing.model!r} after {standing.name!r}, and "
            f"all of its calls were learnt anew",
            advice=f"undo the newest first, with `{away}`",
        )
    live = reads.own(standing.model)
    if live is None:
        raise damaged(standing.model, "its calibration is missing")
    return draft_of(ledger, reads.history(live), (found,))


# -- the merge ------------------------------------------------------------------------------


class _Merge(NamedTuple):
    """What a merge appends to the model.

    Attributes:
        start: what the model begins with, where it has no history.
        live: its calibration, where it has.
        draft: the voiding of its own calls that are learnt anew; None for none.
        calls: what is learnt, in the order of time.
        copied: how many of these are of the name.
        moved: how many are of the model itself.
        already: how many of the name are left out, because the model has them.
    """

    start: State | None
    live: Stored | None
    draft: Draft | None
    calls: Sequence[NewCall]
    copied: int
    moved: int
    already: int

    def state(self) -> State:
        """The state behind it, without a transaction."""
        if self.draft is not None:
            state = self.draft.trial.state.copy()
        elif self.live is not None:
            state = State.from_snapshot(self.live.snapshot)
        else:
            assert self.start is not None  # noqa: S101 - it has no history
            state = self.start
        for calls in _batches(self.calls):
            called_at, prompts, completions, actual, outcomes, _, _ = zip(*calls, strict=True)
            state.follow(called_at, prompts, completions, actual, outcomes)
        return state


_BATCH = 1_000
"""Calls that are learnt at once."""

_T = TypeVar("_T")


def _batches(some: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (some[start : start + _BATCH] for start in range(0, len(some), _BATCH))


def _merge(
    ask: _Ask, reads: _Reads, plan: _Plan, own: Stored, start: Start | None
) -> _Merge | None:
    """What a merge appends; None where the name has no call that counts."""
    live, model = plan.live, plan.model
    theirs = reads.history(own)
    _check_whole(theirs)
    calls = [_Copy.of(theirs.model, row) for row in _counting(theirs, 0)]
    ask.progress(len(calls))
    if not calls:
        return None
    state = None
    if live is None:
        if start is None or start.model != model:
            raise Unopened(model)
        setting = plan.settings.rules[-1] if plan.settings.rules else None
        state = State.from_snapshot(start.entry(setting).snapshot)
        return _sorted(_Merge(state, None, None, (), len(calls), 0, 0), calls)
    ours = reads.history(live)
    _check_whole(ours)
    calls, already = _new_calls(ours, calls, _copies_there(ask, plan, ours))
    if not calls:
        return _Merge(None, live, None, (), 0, 0, already)
    moved = _newer(ours, min(copy.call.called_at for copy in calls))
    ask.progress(len(moved))
    draft = None
    if moved:
        draft = draft_of(ask.ledger, ours, _ranges(ours, moved[0].seq, moved[-1].seq))
    found = _Merge(None, live, draft, (), len(calls), len(moved), already)
    return _sorted(found, [*moved, *calls])


def _sorted(merge: _Merge, copies: list[_Copy]) -> _Merge:
    # The sort is stable: of calls of the same time, those of the model come first, each by seq.
    copies.sort(key=lambda copy: copy.call.called_at)
    return merge._replace(calls=[copy.call for copy in copies])


class _Copy(NamedTuple):
    """A call to be learnt anew; `seq` is the number of its entry where it comes from."""

    seq: int
    call: NewCall

    @classmethod
    def of(cls, model: str, row: CallRow) -> _Copy:
        """The copy of a model's call."""
        seq, at, prompt, completion, actual_ms, _, outcome, request_id, details = row
        text = _marked(details, model, seq)
        return cls(seq, NewCall(at, prompt, completion, actual_ms, outcome, request_id, text))


def _marked(details: str | None, model: str, seq: int) -> str | None:
    """The details of a copy: those of the call, and where it comes from.

    Where that is too much, only the time to the first token is kept, which forecasts look for; the
    rest stays with the call itself.
    """
    mark = {"merged_from": model, "merged_seq": seq}
    if details is None:
        return check_details(mark)
    values = parse_json(details)
    if not isinstance(values, dict):
        raise TypeError(f"the details of entry {seq} are no object")
    try:
        return check_details({**values, **mark})
    except InvalidInputError:
        kept = {key: values[key] for key in ("import_id", "ttft_ms") if key in values}
        return check_details({**kept, **mark})


def _counting(history: ModelHistory, after: int) -> Iterator[CallRow]:
    """The calls behind an entry that count, by seq: since the model began, and not voided."""
    with damage_told(history.model):
        began = last_beginning(history.adjustments, history.voided).seq
        for page in history.calls(max(began, after), history.live.last_seq):
            for row in page.rows:
                if not covers(history.voided, row[0]):
                    yield row


def _newer(history: ModelHistory, time: int) -> list[_Copy]:
    """The calls from the first on that is newer than a time (us), all that count."""
    found: list[_Copy] = []
    for row in _counting(history, history.first_from(time + 1) - 1):
        if found or row[1] > time:
            found.append(_Copy.of(history.model, row))
    return found


def _ranges(history: ModelHistory, first: int, last: int) -> Ranges:
    """The entries from one to another without the adjustments: these stay in force."""
    adjusted = merged((entry.seq, entry.seq) for entry in history.adjustments)
    return tuple((after + 1, through) for after, through in left_of(adjusted, first - 1, last))


def _new_calls(
    history: ModelHistory, copies: Sequence[_Copy], there: set[int]
) -> tuple[list[_Copy], int]:
    """The calls that the model does not have yet, and how many it has.

    A request id stays with the call that has it: where that is another call, the copy goes without.
    """
    found: list[_Copy] = []
    for some in _batches(copies):
        keys = {
            copy.call.request_id: request_key(copy.call.request_id)
            for copy in some
            if copy.call.request_id is not None
        }
        known = history.calls_of(list(keys.values()))
        for copy in some:
            given = copy.call.request_id
            calls = [] if given is None else known.get(keys[given], [])
            if copy.seq in there:
                continue
            if not calls or calls[0].is_voided:
                found.append(copy)
            elif not _is_same(copy.call, calls[0]):
                found.append(copy._replace(call=copy.call._replace(request_id=None)))
    return found, len(copies) - len(found)


def _is_same(call: NewCall, known: Known) -> bool:
    numbers = (call.prompt_tokens, call.completion_tokens, call.actual_ms, call.outcome)
    return numbers == (
        known.prompt_tokens,
        known.completion_tokens,
        known.actual_ms,
        known.outcome,
    )


def _copies_there(ask: _Ask, plan: _Plan, history: ModelHistory) -> set[int]:
    """The calls of the name that count in the model since an earlier merge, by their seq.

    To remove an alias voids them. But that voiding can be voided.
    """
    earlier = merged(
        pair
        for entry in plan.settings.aliases
        if (entry.name, entry.model) == (ask.name, plan.model) and entry.merged is not None
        for pair in voids_ranges(entry.merged)
    )
    found = set()
    for first, last in earlier:
        for page in history.calls(first - 1, last):
            for seq, *_, details in page.rows:
                mark = {} if details is None else parse_json(details)
                is_copy = isinstance(mark, dict) and mark.get("merged_from") == ask.name
                if is_copy and not history.is_voided(seq):
                    found.add(mark["merged_seq"])
    return found


def _check_whole(history: ModelHistory) -> None:
    """Refuse to merge what is not in the ledger.

    Raises:
        HistoryArchivedError: the beginning is archived.
    """
    if history.archived:
        raise HistoryArchivedError(
            f"the entries of the model {history.model!r} up to {history.archived} are archived, "
            f"and what is archived cannot be merged",
            stayed="nothing was changed",
            advice=f"bring them back with `{history.command('import', 'ledger', 'ARCHIVE')}`, and "
            f"try again",
        )


# -- one transaction ------------------------------------------------------------------------


def _given(transaction: Transaction, ask: _Ask, start: Start | None) -> AliasReport:
    """Do it, in a transaction."""
    transaction.keep_out_new()
    plan = _planned(ask, _Inside(ask.ledger, transaction), start)
    report = plan.told(ask) if plan.merge is None else AliasReport(ask.name, plan.model)
    if not plan.is_new:
        return report
    if plan.undo is not None and plan.undo.ranges:
        opened = OpenModel.load(transaction, plan.undo.trial.live.model)
        opened.end(plan.undo.entry_now())
        opened.save()
    merged_text, state = None, None
    if plan.merge is not None:
        merged_text, state = _append(transaction, ask, plan, plan.merge, start)
    seq = plan.settings.last_seq + 1
    append(
        transaction,
        plan.settings,
        [AliasEntry(seq, now_us(), ask.name, plan.model, merged_text)],
    )
    was = None if plan.standing is None else plan.standing.model
    report = AliasReport(
        ask.name, plan.model, was, seq, is_known=report.is_known, merged=merged_text
    )
    return plan.report(report, state)


def _append(
    transaction: Transaction, ask: _Ask, plan: _Plan, merge: _Merge, start: Start | None
) -> tuple[str | None, State]:
    """Append what is merged to the model; gives its entries, and the state behind them."""
    model = plan.model
    assert model is not None  # noqa: S101 - something is merged into it
    if plan.live is not None:
        opened = OpenModel.load(transaction, model)
    else:
        assert start is not None  # noqa: S101 - see `_merge`
        entry = start.entry(transaction.newest_setting())
        opened = OpenModel.create(transaction, model, entry)
    before = opened.seq
    try:
        if merge.draft is not None:
            opened.end(merge.draft.entry_now())
        for calls in _batches(merge.calls):
            opened.learn(calls)
            ask.progress(len(calls))
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error
    if opened.seq == before:
        return None, opened.state
    opened.save()
    return voids_text(((before + 1, opened.seq),)), opened.state
