"""Recording: calls and resets go into the ledger, in transactions that lock each model's row.

While a row is locked, nobody else appends to its model, so `seq` is the order of learning.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import count
from math import isfinite
from operator import sub
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.doubt import mean_at_least, worst_at_least
from calibration_ledger.core.entries import OK, adjustment_head, call_head, ending, first_head
from calibration_ledger.core.settings import opening_rule, rule_of_new
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import (
    check_details,
    check_milliseconds,
    check_new_model,
    check_outcome,
    check_request_id,
    check_time,
    check_tokens,
    request_key,
)
from calibration_ledger.core.values import Call
from calibration_ledger.errors import (
    IMPOSSIBLE,
    CalibrationLedgerError,
    InvalidInputError,
    ModelNotFoundError,
    RequestConflictError,
    damage_told,
    impossible,
    shown,
)
from calibration_ledger.rules import KNOWN_RULES
from calibration_ledger.verbs.doubt import (
    Recent,
    refuse_doubtful,
    warn_of_doubtful,
    warn_of_similar,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.core.entries import Adjustment, Event, Setting
    from calibration_ledger.core.priors import Prior
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.ledger import Ledger
    from calibration_ledger.storage.transaction import Known, Stored, Transaction

    Opening = Callable[[str], "Start"]
    """Gives what a model starts from that has no history yet."""


# -- one transaction, or several ------------------------------------------------------------
# A prior is the user's own code. It runs before a transaction and before a ledger is made, so that
# one that fails leaves nothing behind.

BATCH = 1_000
"""Calls to a transaction in `record_many`."""


def write_calls(
    ledger: Ledger,
    opening: Opening,
    calls: Mapping[str, Sequence[NewCall]],
    heads: Mapping[str, bytes | None] | None = None,
    event: Event | None = None,
) -> dict[str, Recorded]:
    """Record the calls of some models in one transaction; gives what became of each model's.

    Args:
        ledger: where to.
        opening: gives what a model without history starts from.
        calls: the calls by model.
        heads: of some models, the head up to which the caller knows their histories, `b""` for one
            without history: no call has one of these request ids, and each of them is there once.
        event: what they are part of: it is added if one of them is new.

    Raises what `record_calls` raises, but not `Unopened`.
    """
    known = heads or {}

    def work(transaction: Transaction) -> dict[str, Recorded]:
        # Everyone locks models in this order, so that transactions cannot deadlock.
        done = {
            model: record_calls(
                transaction, model, calls[model], openings.get(model), known.get(model)
            )
            for model in sorted(calls)
        }
        if event is not None and any(one.added for one in done.values()):
            transaction.add_event(event)
        return done

    openings = {} if ledger.exists() else {model: opening(model) for model in calls}
    while True:
        try:
            return ledger.write(work)
        except Unopened:
            openings = {
                model: opening(ledger.name_of(model))
                for model in calls
                if ledger.find(model) is None
            }


class Writer:
    """Records one checked call at a time: the quick way, once there is a ledger."""

    __slots__ = ("_is_made", "_ledger", "_opening")

    def __init__(self, ledger: Ledger, opening: Opening) -> None:
        """Write nothing yet."""
        self._is_made = False
        self._ledger = ledger
        self._opening = opening

    def write(self, model: str, call: NewCall) -> tuple[float, int, float | None, bool]:
        """Record a call: its error, its seq, `Recorded.least_ms`, and whether it opened the model.

        Raises what `record_calls` raises, but not `Unopened`.
        """
        if self._is_made:
            try:
                return *self._ledger.write(record_call, model, call), False
            except Unopened:
                pass  # a model never seen: its prior is asked for first
        recorded = write_calls(self._ledger, self._opening, {model: (call,)})[model]
        self._is_made = True
        return recorded.errors_ms[0], recorded.seqs[0], recorded.least_ms, recorded.is_new


def record_batches(
    ledger: Ledger, opening: Opening, calls: Sequence[tuple[str, NewCall]], *, strict: bool = False
) -> list[float]:
    """See `AdaptiveCalibrator.record_many`."""
    now = now_us()
    # Calls of one model under several names are learnt in the order in which they are given.
    aliases = ledger.aliases()
    calls = [(aliases.get(name, name), call) for name, call in calls] if aliases else calls
    if strict:
        refuse_doubtful(ledger, calls, now)
    errors: list[float] = []
    recent: list[Recent] = []
    new: set[str] = set()
    for start in range(0, len(calls), BATCH):
        batch = calls[start : start + BATCH]
        by_model: dict[str, list[NewCall]] = {}
        for model, call in batch:
            by_model.setdefault(model, []).append(call)
        try:
            done = write_calls(ledger, opening, by_model)
        except BaseException as error:
            if errors:
                _keep(error, errors)
            raise
        found = {model: iter(of_model.errors_ms) for model, of_model in done.items()}
        errors += [next(found[model]) for model, _ in batch]
        recent += [
            Recent(model, given, done[model].seqs, done[model].least_ms)
            for model, given in by_model.items()
        ]
        new |= {model for model, of_model in done.items() if of_model.is_new}
    warn_of_doubtful(ledger, recent, now)
    warn_of_similar(ledger, new)
    return errors


def _keep(error: BaseException, errors_ms: Sequence[float]) -> None:
    """Add to the error that ended a `record_many` which calls stay, and their errors."""
    done = len(errors_ms)
    stayed = f"the first {done} calls were recorded"
    if isinstance(error, CalibrationLedgerError):
        error.recorded, error.errors_ms = done, tuple(errors_ms)
        error.keep(stayed, f"the transaction from call {done + 1} on was not")
    else:  # Ctrl-C, perhaps just after a commit
        error.add_note(f"Of this record_many, at least {stayed}.")


def reset_models(ledger: Ledger, opening: Opening, model: str | None) -> None:
    """See `AdaptiveCalibrator.reset`; a model that is named is called so itself, with history."""
    openings: dict[str, Start] = {}

    def work(transaction: Transaction) -> list[str]:
        names = transaction.models() if model is None else [model]
        missing = [name for name in names if name not in openings]
        if missing:
            return missing
        for name in sorted(names):
            with damage_told(name):
                opened = OpenModel.load(transaction, name)
                setting = transaction.newest_setting()
                opened.end(openings[name].entry(setting, "reset"))
            opened.save()
        return []

    missing = [live.model for live in ledger.models()] if model is None else [model]
    while missing:
        openings.update({name: opening(name) for name in missing})
        # A ledger that is gone by now is not made anew: nothing in it could be reset.
        missing = ledger.write(work, makes=False)  # others may have opened models meanwhile


# -- inside a transaction -------------------------------------------------------------------


class Start(NamedTuple):
    """What a program has new models start from; the ledger says what the program does not.

    Attributes:
        model: the model's name.
        prior: the coefficients.
        at: when, in microseconds.
        rule: the rule that the program names; None: the ledger's.
        alpha: the alpha that the program names; None: the ledger's, or the rule's own.
    """

    model: str
    prior: Prior
    at: int
    rule: Rule | None
    alpha: float | None

    def entry(self, setting: Setting | None, kind: str = "opened") -> Adjustment:
        """The entry that sets a model to it; `setting` is the ledger's newest.

        Raises:
            StoredRuleError: this program does not know the ledger's rule.
        """
        version, alpha = rule_of_new(setting, self.rule, self.alpha)
        state = State.from_prior(opening_rule(version), alpha, self.prior, self.at)
        return state.adjustment(1, kind, self.at)


class Unopened(Exception):  # noqa: N818 - a signal inside the package, not an error
    """The model has no history yet: ask for its prior outside of the transaction, and come back."""


class OpenModel:
    """A model whose row is locked: append entries to it, then `save`."""

    __slots__ = ("_voids", "head", "is_new", "model", "model_id", "seq", "state", "transaction")

    @classmethod
    def load(cls, transaction: Transaction, model: str) -> OpenModel:
        """A model that had history a moment ago, and is called so itself.

        Raises:
            ModelNotFoundError: it has none any more: the ledger was replaced meanwhile.
            StoredRuleError: the model learns by a rule that this program does not know.
            LedgerCorruptError: its row is not what a program of ours wrote.
        """
        live = transaction.own(model)
        if live is None:
            raise ModelNotFoundError(
                f"the model {model!r} was there, and is gone: the ledger was replaced meanwhile",
                stayed="nothing was changed",
                advice="look which models it has now, and try again",
            )
        return cls(transaction, live)

    def __init__(self, transaction: Transaction, live: Stored) -> None:
        """Continue from a calibration whose row is locked; raises as `load` does."""
        self.transaction = transaction
        self.is_new = self._voids = False
        self.model = live.model
        self.model_id = live.model_id
        with damage_told(live.model):
            self.state = State.from_snapshot(live.snapshot)
        self.seq = live.last_seq
        self.head = live.head

    @classmethod
    def create(cls, transaction: Transaction, model: str, opening: Adjustment) -> OpenModel:
        """A model without history, and its first entry.

        An `archived` entry keeps its seq and gives the head that it carries; any other is entry 1.
        """
        self = cls.__new__(cls)
        self.transaction = transaction
        self.is_new, self._voids = True, False
        self.model = model
        self.model_id = transaction.add_model(model)
        self.seq = 0
        self.head = first_head(model)
        if opening.archived_head is None:
            self.append(opening)
            return self
        transaction.add_adjustment(self.model_id, opening)
        self.state = State.from_snapshot(opening.snapshot)
        self.seq, self.head = opening.seq, opening.archived_head
        return self

    def end(self, entry: Adjustment) -> None:
        """Append an adjustment that takes the place of the calibration; raises as `append` does."""
        self.append(ending(entry, self.state.snapshot()))

    def append(self, entry: Adjustment) -> None:
        """Append an adjustment, which sets the state.

        Raises:
            StoredRuleError: this program does not know its rule.
        """
        entry = entry._replace(seq=self.seq + 1)
        self.transaction.add_adjustment(self.model_id, entry)
        self.head = adjustment_head(self.head, entry)
        self.state = State.from_snapshot(entry.snapshot)
        self.seq = entry.seq
        self._voids = self._voids or entry.kind == "voided"

    def learn(self, calls: Sequence[NewCall]) -> list[float]:
        """Append calls, all of them new; gives their errors.

        Raises:
            NotFiniteError: the calibration would not stay finite.
        """
        called_at, prompts, completions, actual, outcomes, given, texts = zip(*calls, strict=True)
        predicted = self.state.follow(called_at, prompts, completions, actual, outcomes)
        seqs = range(self.seq + 1, self.seq + 1 + len(calls))
        head, numbers = self.head, (seqs, called_at, prompts, completions, actual, predicted)
        for row in zip(*numbers, outcomes, given, texts, strict=True):
            head = call_head(head, row)
        ids = [self.model_id] * len(calls)
        rows = list(zip(ids, *numbers, strict=True))
        details = [
            (model_id, seq, None if one is None else request_key(one), one, text)
            for model_id, seq, one, text in zip(ids, seqs, given, texts, strict=True)
            if one is not None or text is not None
        ]
        if outcomes.count(None) == len(outcomes):
            self.transaction.add_calls(rows)
        else:
            ordinary = [row for row, one in zip(rows, outcomes, strict=True) if one is None]
            timeouts = [row for row, one in zip(rows, outcomes, strict=True) if one is not None]
            self.transaction.add_calls(ordinary, timeouts)
        if details:
            self.transaction.add_details(details)
        self.seq, self.head = self.seq + len(calls), head
        return list(map(sub, actual, predicted))

    def save(self) -> None:
        """Write the calibration after the last entry."""
        columns = (*self.state.snapshot(), self.seq, self.head)
        if self.is_new:
            self.transaction.add_calibration((self.model_id, *columns))
        else:
            self.transaction.save((*columns, self.model_id))
        if self._voids:
            self.transaction.settle_voided(self.model, self.model_id)


def record_call(
    transaction: Transaction, model: str, call: NewCall
) -> tuple[float, int, float | None]:
    """Record one call as `record_calls` does, but faster, for `record()`.

    Gives its error, its seq and `Recorded.least_ms`.

    Whatever is unusual takes the long way, which also says what was wrong.
    """
    at, p, c, y, outcome, request_id, details = call
    row = transaction.load(model) if outcome is None else None
    if row is not None:
        model_id, rule, alpha, a, b, o, absolute, total, count, further, _, seq, head, _, _ = row
        found = KNOWN_RULES.get(rule)
        if found is not None and further is None and not found.extra_numbers:
            numbers, predicted = [a, b, o, absolute, total], [0.0]
            least_ms = mean_at_least(absolute, total, count)
            key = None if request_id is None else request_key(request_id)
            try:
                is_there = key is not None and transaction.calls_of(model_id, (key,))
                found.fold(numbers, alpha, (p,), (c,), (y,), predicted)
                seq += 1
                head = call_head(head, (seq, at, p, c, y, predicted[0], None, request_id, details))
            except IMPOSSIBLE as error:
                raise impossible(model, error) from error
            if isfinite(sum(numbers)) and not is_there:
                transaction.add_call((model_id, seq, at, p, c, y, predicted[0]))
                if key is not None or details is not None:
                    transaction.add_details(((model_id, seq, key, request_id, details),))
                transaction.save((rule, alpha, *numbers, count + 1, None, at, seq, head, model_id))
                return y - predicted[0], seq, least_ms
    recorded = record_calls(transaction, model, (call,))
    return recorded.errors_ms[0], recorded.seqs[0], recorded.least_ms


class Recorded(NamedTuple):
    """What became of the calls of one model."""

    errors_ms: list[float]
    seqs: list[int]
    """The number of each call's entry: for a repeat, that of the call it repeats."""
    added: int
    """How many are new: the request ids of the others were recorded before."""
    is_new: bool
    """Whether the model had no history."""
    least_ms: float | None
    """How long the longest call before them took at least; None for no call."""
    known_head: bytes | None
    """The model's head after them, if no other calls than known ones are before it."""


def record_calls(
    transaction: Transaction,
    model: str,
    calls: Sequence[NewCall],
    opening: Start | None = None,
    known_head: bytes | None = None,
) -> Recorded:
    """Record calls of one model in order.

    A call whose request id the model has already, with the same numbers and outcome, adds no row
    and gives its first error; a voided one has given its id up. `opening` is what a model without
    history starts from. For `known_head`, see `write_calls`.

    Raises:
        Unopened: the model has no history, and no opening was given, or that of another name.
        Raced: its name became an alias in the same moment.
        StoredRuleError: this program does not know the rule that it learns by, or that the ledger
            opens models under.
        RequestConflictError: a request id is there with other numbers, or another outcome.
        NotFiniteError: the calibration would not stay finite.
    """
    try:
        live = transaction.stored(model)
        least_ms = None
        if live is not None:
            opened = OpenModel(transaction, live)
            least_ms = worst_at_least(live.snapshot)
        elif opening is not None and opening.model == transaction.name_of(model):
            transaction.begin_model(opening.model)
            # The setting is read in the transaction that opens the model: none comes between.
            entry = opening.entry(transaction.newest_setting())
            opened = OpenModel.create(transaction, opening.model, entry)
        else:
            raise Unopened
        before = opened.seq
        # In a history that ends where the caller has looked, no call is looked up again.
        is_known = known_head is not None and (opened.is_new or opened.head == known_head)
        if is_known or all(call.request_id is None for call in calls):
            errors = opened.learn(calls)
            seqs = list(range(before + 1, opened.seq + 1))
        else:
            errors, seqs = _record_once(opened, model, calls)
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error
    opened.save()
    head = opened.head if is_known else None
    return Recorded(errors, seqs, opened.seq - before, opened.is_new, least_ms, head)


def _record_once(
    opened: OpenModel, model: str, calls: Sequence[NewCall]
) -> tuple[list[float], list[int]]:
    """Learn the calls whose request ids are new; gives the errors and seqs of all."""
    stored = _stored(opened, calls)
    known: dict[str, NewCall | Known] = {**stored}
    new: list[NewCall] = []
    for call in calls:
        first = None if call.request_id is None else known.get(call.request_id)
        if first is not None:
            _check_same(model, call, first)
            continue
        new.append(call)
        if call.request_id is not None:
            known[call.request_id] = call
    seqs = count(opened.seq + 1)
    learnt = zip(opened.learn(new) if new else (), seqs, strict=False)
    entries = {
        given: (there.actual_ms - there.predicted_ms, there.seq) for given, there in stored.items()
    }
    found = []
    for call in calls:
        if call.request_id is None:
            found.append(next(learnt))
            continue
        if call.request_id not in entries:
            entries[call.request_id] = next(learnt)
        found.append(entries[call.request_id])
    return [error_ms for error_ms, _ in found], [seq for _, seq in found]


def _stored(opened: OpenModel, calls: Sequence[NewCall]) -> dict[str, Known]:
    """The calls that the model has under these calls' request ids, and that count."""
    if opened.is_new:
        return {}
    given = (call.request_id for call in calls)
    keys = {request_key(one): one for one in given if one is not None}
    found = opened.transaction.calls_of(opened.model_id, list(keys))
    return {keys[key]: known for key, known in found.items()}


def _check_same(model: str, call: NewCall, first: NewCall | Known) -> None:
    """Refuse a request id that comes back with other numbers, or another outcome."""
    p, c, y = first.prompt_tokens, first.completion_tokens, first.actual_ms
    found = (call.prompt_tokens, call.completion_tokens, call.actual_ms, call.outcome)
    if found != (p, c, y, first.outcome):
        was, now = (
            ""
            if found[3] == first.outcome
            else f", as {'a call that ended' if one is None else 'a time-out'}"
            for one in (first.outcome, call.outcome)
        )
        raise RequestConflictError(
            f"the request id {call.request_id!r} of the model {model!r} was recorded with {p} "
            f"prompt tokens, {c} completion tokens and {y!r} ms{was}, and now comes with "
            f"{call.prompt_tokens}, {call.completion_tokens} and {call.actual_ms!r}{now}",
            stayed="nothing was recorded",
            advice="give each call an id of its own; to correct a call, void it first",
        )


# -- what callers hand in, checked part by part ---------------------------------------------

_FIELDS = tuple(field.name for field in fields(Call))
_REQUIRED = ("model", "prompt_tokens", "actual_ms")


class NewCall(NamedTuple):
    """A checked call on its way into the ledger; times in microseconds."""

    called_at: int
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    outcome: str | None
    request_id: str | None
    details: str | None


def now_us() -> int:
    """The time in microseconds since the epoch."""
    return time.time_ns() // 1000


def new_call(
    prompt_tokens: object,
    completion_tokens: object,
    actual_ms: object,
    called_at: object,
    request_id: object,
    details: Mapping[str, Any] | None,
    outcome: object = OK,
) -> NewCall:
    """Check the parts of a call; InvalidInputError says which is wrong."""
    return NewCall(
        now_us() if called_at is None else check_time("called_at", called_at),
        check_tokens("prompt_tokens", prompt_tokens),
        check_tokens("completion_tokens", completion_tokens),
        check_milliseconds("actual_ms", actual_ms),
        None if outcome is OK else check_outcome(outcome),
        None if request_id is None else check_request_id(request_id),
        None if details is None else check_details(details),
    )


def checked_calls(calls: object) -> list[tuple[str, NewCall]]:
    """Check several calls as `checked_call` does; the error says which one is wrong."""
    if isinstance(calls, Call | Mapping | str | bytes) or not isinstance(calls, Iterable):
        raise InvalidInputError(
            f"record_many takes several calls, not {shown(calls)} ({type(calls).__name__}): pass a "
            f"list of Calls, or of mappings with their fields."
        )
    checked = []
    for place, call in enumerate(calls, 1):
        try:
            checked.append(checked_call(call))
        except InvalidInputError as error:
            model = call.get("model") if isinstance(call, dict) else getattr(call, "model", None)
            of_model = f", of the model {shown(model)}" if isinstance(model, str) else ""
            raise InvalidInputError(f"call {place}{of_model}: {error}") from None
    return checked


def checked_call(call: object) -> tuple[str, NewCall]:
    """Check a `Call`, or a mapping with its fields; gives its model and the other parts.

    Raises:
        InvalidInputError: it is neither, or a part of it is not what it must be.
    """
    new = call if isinstance(call, Call) else _as_call(call)
    return check_new_model(new.model), new_call(
        new.prompt_tokens,
        new.completion_tokens,
        new.actual_ms,
        new.called_at,
        new.request_id,
        new.details,
        new.outcome,
    )


def _as_call(given: object) -> Call:
    if not isinstance(given, Mapping):
        raise InvalidInputError(
            f"record_many takes Calls, or mappings with their fields, not {shown(given)}."
        )
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise InvalidInputError(f"{' and '.join(missing)} must be there, in {shown(given)}.")
    unknown = [name for name in given if name not in _FIELDS]
    if unknown:
        raise InvalidInputError(
            f"{shown(unknown[0])} is no field of a call: leave it out, or put what was measured "
            f"into details. The fields are {', '.join(_FIELDS)}."
        )
    return Call(**{"completion_tokens": 0, **given})
