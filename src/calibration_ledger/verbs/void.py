"""Voiding entries of a ledger; `core.history` says what that means."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from calibration_ledger.core.figures import Accuracy
from calibration_ledger.core.history import (
    CLAIMS,
    FIRST_VOIDABLE,
    VOIDS_LENGTH_MAX,
    covers,
    left_of,
    merged,
    rule_in_force,
    setting,
    voided_ranges,
    voids_text,
)
from calibration_ledger.core.replay import Window, fold_history
from calibration_ledger.core.state import calibration_of
from calibration_ledger.core.validation import NOTE_LENGTH_MAX, check_request_id, check_text
from calibration_ledger.core.values import Voiding
from calibration_ledger.errors import (
    HistoryArchivedError,
    InvalidInputError,
    NoSuchEntryError,
    RequestConflictError,
    damage_told,
    damaged,
    shown,
)
from calibration_ledger.fast import how_to_run
from calibration_ledger.formats.row import import_id_of
from calibration_ledger.rules import stored_rule
from calibration_ledger.verbs.calls import check_last, rows_of
from calibration_ledger.verbs.record import now_us
from calibration_ledger.verbs.replay import Trial, adopt, adopt_each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from calibration_ledger.core.entries import Adjustment
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.core.replay import Columns, Progress
    from calibration_ledger.core.state import State
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored, Transaction


# -- voiding --------------------------------------------------------------------------------


def void(
    ledger: Ledger,
    model: str | None,
    *,
    seq: Seqs | None,
    request_id: str | Iterable[str] | None,
    import_id: str | Iterable[str] | None,
    window: Window | None,
    last: int | None,
    note: str | None,
    dry_run: bool,
    progress: Progress | None,
) -> list[Voiding]:
    """See `AdaptiveCalibrator.void`."""
    names = Names.of(seq, request_id, import_id, window, last)
    if model is None and (names.seqs or names.request_ids or names.window is not None):
        raise InvalidInputError(  # imports alone span models
            "a seq or request id says nothing without its model, and since, until and last would "
            "void too much: name the model."
        )
    note = None if note is None else check_text("note", note, NOTE_LENGTH_MAX)
    ask = _Ask(names, note, progress, is_one_of_many=model is None)
    drafts = _drafts(ledger, model, ask)
    if dry_run:
        return [draft.told(None) for draft in drafts.values()]
    if names.window is not None:  # what is newest now, whatever others record meanwhile
        (draft,) = drafts.values()
        ask = ask._replace(names=Names(draft.ranges, (), ()))
    return _adopted(ledger, drafts, ask)


def drafts_of_import(ledger: Ledger, import_id: str) -> dict[str, Draft]:
    """How an import would be voided, by model.

    Raises:
        NoSuchEntryError: there is no call of it.
        LedgerNotFoundError: there is no ledger.
        HistoryArchivedError: a part of it is archived.
        InvalidInputError: it is no id.
    """
    return _drafts(ledger, None, _of_import(import_id, None))


def void_import(
    ledger: Ledger, drafts: Mapping[str, Draft], import_id: str, note: str
) -> list[Voiding]:
    """Void an import, of which these are the drafts; what is voided already stays as it is."""
    noted = {
        model: draft._replace(entry=draft.entry._replace(note=note))
        for model, draft in drafts.items()
    }
    return _adopted(ledger, noted, _of_import(import_id, note))


def _of_import(import_id: str, note: str | None) -> _Ask:
    names = Names((), (), (_import_id(import_id),))
    return _Ask(names, note, None, is_one_of_many=True)


def _drafts(ledger: Ledger, model: str | None, ask: _Ask) -> dict[str, Draft]:
    """The drafts of all models, before the first is written: if one cannot be, none changes."""
    lives = ledger.models(model, must_exist=True)
    drafts = {}
    for live in lives:
        try:
            drafts[live.model] = ledger.whole(live, partial(_draft, ledger, ask))
        except NoSuchEntryError:
            if model is not None:
                raise
    _check_all_met(ledger, lives, [*drafts.values()], ask.names)
    return drafts


def _adopted(ledger: Ledger, drafts: Mapping[str, Draft], ask: _Ask) -> list[Voiding]:
    return adopt_each(
        ledger,
        drafts,
        lambda draft: draft.adopted(ledger),
        partial(_draft, ledger, ask),
        "of the models before, the entries stay voided",
    )


class _Ask(NamedTuple):
    """What is asked of each model."""

    names: Names
    note: str | None
    progress: Progress | None
    is_one_of_many: bool


def _check_all_met(
    ledger: Ledger, lives: Sequence[Stored], drafts: Sequence[Draft], names: Names
) -> None:
    if not lives:
        raise NoSuchEntryError("there is no model yet of which to void anything.")
    met = {import_id for draft in drafts for import_id in draft.import_ids}
    for import_id in names.import_ids:
        if import_id not in met:
            raise NoSuchEntryError(
                f"there is no call of the import {shown(import_id)}, in no model: "
                f"`{ledger.command('log')}` lists the imports with their ids, and "
                f"`{ledger.command('history', '--json')}` shows that of each call."
            )


class Draft(NamedTuple):
    """A voiding of one model that is not written yet."""

    trial: Trial
    entry: Adjustment
    """What to append, once its seq, time and state are known."""
    ranges: Ranges
    """The entries named; empty if all of them are voided already."""
    calls: int
    adjustments: tuple[tuple[int, str], ...]
    import_ids: frozenset[str]
    again: Ranges
    """The entries that count again by it."""
    voided: Ranges
    """All that are voided behind it."""

    def told(self, seq: int | None, state: State | None = None) -> Voiding:
        """The value to hand out."""
        live = self.trial.live
        before = calibration_of(live.model, live.snapshot)
        state = self.trial.state if state is None else state
        return Voiding(
            model=live.model,
            seq=seq,
            voids=voids_text(self.ranges),
            calls=self.calls,
            adjustments=self.adjustments,
            before=before,
            calibration=state.calibration(live.model) if self.ranges else before,
        )

    def entry_now(self) -> Adjustment:
        """What to append where nothing can have come since it was worked out."""
        return _entry(self.entry, self.trial.state, self.trial.state)

    def adopted(self, ledger: Ledger) -> Voiding | None:
        """Write it; None if it no longer holds, see `adopt`."""
        if not self.ranges:
            return self.told(None)
        check = partial(self._check_again, ledger) if self.again else None
        done = adopt(ledger, self.trial, partial(_entry, self.entry), check)
        return None if done is None else self.told(done.seq, done.state)

    def _check_again(self, ledger: Ledger, transaction: Transaction) -> None:
        """See `_check_requests`: others may have recorded since."""
        live = transaction.own(self.trial.live.model)
        assert live is not None  # noqa: S101 - its row is locked
        _check_requests(ledger.history_in(transaction, live), self.again, self.voided)


def draft_of(ledger: Ledger, history: ModelHistory, ranges: Ranges) -> Draft:
    """The voiding of these entries of a model, which are there.

    Raises:
        HistoryArchivedError: the state would have to be rebuilt from archived entries.
        RequestConflictError: two calls of one request id would count.
        InvalidInputError: there are too many ranges for one entry.
    """
    ask = _Ask(Names(ranges, (), ()), None, None, is_one_of_many=False)
    return _draft(ledger, ask, history)


def _entry(draft: Adjustment, rebuilt: State, _: State) -> Adjustment:
    entry = rebuilt.adjustment(0, "voided", now_us(), draft.note)
    return entry._replace(voids=draft.voids)


class _AsIf:
    """A history with one entry more than there is."""

    def __init__(self, history: ModelHistory, entry: Adjustment) -> None:
        self._history = history
        self.model = history.model
        self.adjustments = [*history.adjustments, entry]

    def columns(self, after: int, through: int, voided: Ranges = ()) -> Iterator[Columns]:
        """See `replay.History`."""
        return self._history.columns(after, through, voided)


def _draft(ledger: Ledger, ask: _Ask, history: ModelHistory) -> Draft:
    """Rebuild a model's state as if the entries named were not there, without the lock."""
    live = history.live
    if not history.adjustments:
        raise damaged(live.model, "the history does not begin with an opening")
    named, import_ids = entries_named(ledger, history, ask.names, is_one_of_many=ask.is_one_of_many)
    before = history.voided
    new = [pair for a, b in named for pair in left_of(before, a - 1, b)]
    ranges = named if new else ()
    entry = history.adjustments[-1]._replace(
        seq=live.last_seq + 1, kind="voided", note=ask.note, voids=_text(ranges)
    )
    as_if = _AsIf(history, entry) if ranges else history
    with damage_told(live.model):
        voided = voided_ranges(as_if.adjustments)
        _check_archived(history, as_if.adjustments, before, voided, named)
        version, alpha = rule_in_force(as_if.adjustments, voided)
        again = _again(before, voided)
        _check_requests(history, again, voided)
    rule, accuracy = stored_rule(version), Accuracy()
    start = how_to_run([rule], live.last_seq, 1)
    state = fold_history(
        as_if, rule, alpha, live.last_seq, accuracy=accuracy, progress=ask.progress, start=start
    )
    return Draft(
        Trial(live, history.beginning, state, accuracy),
        entry,
        ranges,
        sum(history.count_calls(after, through) for after, through in new),
        tuple(
            (one.seq, one.kind)
            for one in history.adjustments
            if covers(named, one.seq) and not covers(before, one.seq)
        ),
        import_ids,
        again,
        voided,
    )


def _again(before: Ranges, after: Ranges) -> Ranges:
    """What is voided before, and not after."""
    kept = {*after}
    changed = [pair for pair in before if pair not in kept]
    return tuple((a + 1, b) for first, last in changed for a, b in left_of(after, first - 1, last))


def _check_requests(history: ModelHistory, again: Ranges, voided: Ranges) -> None:
    """Refuse to let calls count again whose request ids other calls have by now.

    Args:
        history: the model's entries.
        again: the entries that are to count again.
        voided: those that are voided then.

    Raises:
        RequestConflictError: one of them has a request id of another call that counts.
    """
    for first, last in again:
        for requests in history.requests(first - 1, last):
            found = history.calls_of([key for _, _, key in requests], voided)
            for seq, request_id, key in requests:
                others = [
                    one.seq for one in found.get(key, ()) if one.seq != seq and not one.is_voided
                ]
                if others:
                    raise _taken(history, seq, request_id, others[0])


def _taken(history: ModelHistory, seq: int, request_id: str, other: int) -> RequestConflictError:
    model = history.model
    void = history.command("void", "--seq", str(other), names=[model])
    return RequestConflictError(
        f"call {seq} of the model {model!r} cannot count again, for call {other} has its request "
        f"id {request_id!r} by now",
        stayed="nothing was changed",
        advice=f"void that one first, with `{void}`",
    )


def _text(ranges: Ranges) -> str:
    text = voids_text(ranges)
    if len(text) > VOIDS_LENGTH_MAX:
        raise InvalidInputError(
            f"these are {len(ranges)} separate pieces of the history, too many for one entry: "
            f"void them in several steps, by seq."
        )
    return text


def _check_archived(
    history: ModelHistory,
    adjustments: Sequence[Adjustment],
    before: Ranges,
    after: Ranges,
    named: Ranges,
) -> None:
    """Refuse a voiding for which the state has to be rebuilt from archived entries.

    Raises:
        HistoryArchivedError: what is named was archived, or is in a state that stands for archived
            entries; or the calibration would start from such a state that no longer holds.
    """
    standing = [
        one.seq
        for voided in (before, after)
        for one in setting(adjustments, voided)
        if one.kind in CLAIMS
    ]
    behind = max([history.archived, *standing])
    if named and (named[0][0] <= behind or not _stands(adjustments, after)):
        raise HistoryArchivedError(
            f"entry {named[0][0]} of the model {history.model!r} cannot be voided: what was learnt "
            f"up to entry {behind} stands for entries that were archived",
            stayed="nothing was changed",
            advice=f"bring them back with `{history.command(*_BACK)}`, and try again",
        )


def _stands(adjustments: Sequence[Adjustment], voided: Ranges) -> bool:
    """Whether the newest state that sets a replay rests on exactly the entries that count.

    A claim that stands for archived entries need not: entries before it may have been voided while
    it was voided itself, or while a later reset made it irrelevant.
    """
    found = setting(adjustments, voided)
    if not found or found[-1].kind not in CLAIMS:
        return True
    seq = found[-1].seq
    then = voided_ranges([one for one in adjustments if one.seq <= seq])
    return [*left_of(then, 0, seq)] == [*left_of(voided, 0, seq)]


# -- naming entries: by seq, request id or import -------------------------------------------

Seqs: TypeAlias = "int | tuple[int, int] | list[int | tuple[int, int]]"
"""An entry, a pair of the first and last of several, or a list of these."""

_BACK = ("import", "ledger", "ARCHIVE")
_LISTED = 5
"""How many of the model's imports an error names."""


class Names(NamedTuple):
    """How the user names entries, each part checked."""

    seqs: Ranges
    request_ids: tuple[str, ...]
    import_ids: tuple[str, ...]
    window: Window | None = None
    """The calls made in it, of which `last` are the newest ones; None for no calls."""
    last: int | None = None

    @classmethod
    def of(
        cls,
        seq: Seqs | None,
        request_id: str | Iterable[str] | None,
        import_id: str | Iterable[str] | None,
        window: Window | None,
        last: int | None,
    ) -> Names:
        """Check what the user gave.

        Raises:
            InvalidInputError: a part is not what it must be, or there is none.
        """
        names = cls(
            tuple(_seqs(seq)),
            tuple(check_request_id(one) for one in _listed("request_id", request_id)),
            tuple(_import_id(one) for one in _listed("import_id", import_id)),
        )
        is_named = any(names[:3])
        if window is not None or check_last(last) is not None:
            if is_named:
                raise InvalidInputError(
                    "since, until and last name calls by themselves: leave out the seq, request "
                    "id or import, or void these in a second step."
                )
            return names._replace(window=window or Window(None, None), last=last)
        if not is_named:
            raise InvalidInputError(
                "no entries are named: give their seq, a request id, the import that brought "
                "them, a time, or how many of the newest."
            )
        return names


class Named(NamedTuple):
    """The entries of one model that are named."""

    ranges: Ranges
    import_ids: frozenset[str]
    """The imports among the names that brought some of them."""


def entries_named(
    ledger: Ledger, history: ModelHistory, names: Names, *, is_one_of_many: bool = False
) -> Named:
    """The entries of a model that are named.

    Each name must name one. If the void is for all models, one of the imports is enough.

    Raises:
        NoSuchEntryError: one of the names names nothing.
        InvalidInputError: one cannot be voided.
    """
    last = history.live.last_seq
    for first, end in names.seqs:
        if end > last:
            raise NoSuchEntryError(
                f"the model {history.model!r} has entries 1 to {last}, and none of the number "
                f"{shown(max(first, last + 1))}: `{history.command('history')}` shows the seq of "
                f"each call."
            )
        if first < FIRST_VOIDABLE:
            raise InvalidInputError(
                f"entry 1 of the model {history.model!r} begins its history, and cannot be "
                f"voided: name entries from {FIRST_VOIDABLE} on."
            )
    found = [*names.seqs, *_of_requests(ledger, history, names.request_ids)]
    met: frozenset[str] = frozenset()
    if names.window is not None:
        found += _of_window(history, names.window, names.last)
    if names.import_ids:
        brought, met = _of_imports(history, names.import_ids, needs_all=not is_one_of_many)
        found += brought
    return Named(merged(found), met)


def _of_window(
    history: ModelHistory, window: Window, last: int | None
) -> Iterator[tuple[int, int]]:
    seq = 0
    for seq, *_ in rows_of(history, window, last):
        yield seq, seq
    if not seq:
        when = "" if window == (None, None) else " made at that time"
        raise NoSuchEntryError(
            f"the model {history.model!r} has no call{when}: `{history.command('history')}` shows "
            f"those it has.{_archived(history)}"
        )


def _of_requests(
    ledger: Ledger, history: ModelHistory, request_ids: tuple[str, ...]
) -> Iterator[tuple[int, int]]:
    for request_id in request_ids:
        seq = ledger.call_of(history.live.model_id, request_id)
        if seq is None:
            raise NoSuchEntryError(
                f"the model {history.model!r} has no call of the request id {shown(request_id)}: "
                f"`{history.command('history', '--json')}` shows those it has.{_archived(history)}"
            )
        yield seq, seq


def _of_imports(
    history: ModelHistory, import_ids: tuple[str, ...], *, needs_all: bool
) -> tuple[list[tuple[int, int]], frozenset[str]]:
    found: list[tuple[int, int]] = []
    there: Counter[str] = Counter()
    for rows, _ in history.calls(0, history.live.last_seq):
        for seq, *_, details in rows:
            mark = import_id_of(details)
            if mark is None:
                continue
            there[mark] += 1
            if mark in import_ids:
                first, last = found.pop() if found else (seq, seq)
                if last < seq - 1:
                    found.append((first, last))
                    first = seq
                found.append((first, seq))
    met = frozenset(import_ids) & there.keys()
    for import_id in import_ids:
        if import_id not in met and (needs_all or not met):
            known = [f"{mark} ({count} calls)" for mark, count in there.most_common(_LISTED)]
            has = f"it has {', '.join(known)}" if known else "it has none of any import"
            raise NoSuchEntryError(
                f"the model {history.model!r} has no call of the import {shown(import_id)}: {has}. "
                f"`calib import` says the id of each, and "
                f"`{history.command('history', '--json')}` shows it.{_archived(history)}"
            )
    return found, met


def _archived(history: ModelHistory) -> str:
    """What to add if the call may be in an archive."""
    if not history.archived:
        return ""
    return (
        f" Entries up to {history.archived} were archived: if it was among them, bring them back "
        f"with `{history.command(*_BACK)}`, and try again."
    )


def _seqs(seq: object) -> Iterator[tuple[int, int]]:
    if seq is None:
        return
    for one in seq if isinstance(seq, list) else [seq]:
        pair = one if isinstance(one, tuple) else (one, one)
        is_right = len(pair) == 2 and all(type(part) is int and part > 0 for part in pair)  # noqa: PLR2004 - a pair
        if not is_right or pair[0] > pair[1]:
            raise InvalidInputError(
                f"seq must be the number of an entry, a pair of the first and last of several, or "
                f"a list of these, not {shown(one)}: 12, say, or (2, 80)."
            )
        yield pair[0], pair[1]


def _listed(name: str, value: object) -> list[object]:
    if value is None:
        return []
    if isinstance(value, str):
        return [value]
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]  # others are a TypeError
    except TypeError:
        raise InvalidInputError(f"{name} must be a text or a list, not {shown(value)}.") from None


def _import_id(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise InvalidInputError(
        f"import_id must be the id of an import, such as 3f2a9c01d4e7, not {shown(value)}."
    )
