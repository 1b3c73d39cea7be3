"""Recording: what happens to a model's row inside one transaction.

Everything here runs while the model's row is locked, so that `seq` is the order of application.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from calibration_ledger.damage import IMPOSSIBLE, damage_told, damaged, impossible
from calibration_ledger.entries import adjustment_head, call_head, first_head
from calibration_ledger.errors import ModelNotFoundError, RequestConflictError
from calibration_ledger.learning import State, learn_columns
from calibration_ledger.rules import stored_rule
from calibration_ledger.validation import request_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.new_calls import NewCall
    from calibration_ledger.storage.writes import Transaction


_MANY = 4
"""So many request ids are looked up together."""


class Unopened(Exception):  # noqa: N818 - a signal inside the package, not an error
    """The model has no history yet, and its prior is not worked out inside a transaction."""


class OpenModel:
    """A model's locked row in motion: append entries to it, then `save`."""

    __slots__ = ("head", "is_new", "model_id", "seq", "state", "transaction")

    @classmethod
    def load(cls, transaction: Transaction, model: str) -> OpenModel:
        """A model that has history.

        Raises:
            ModelNotFoundError: it has none any more: the ledger was replaced meanwhile.
            StoredRuleError: the model learns by a rule that this program does not know.
            LedgerCorruptError: its row is not what a program of ours wrote.
        """
        row = transaction.load(model)
        if row is None:
            raise ModelNotFoundError(
                f"the model {model!r} was there, and is gone: the ledger was replaced meanwhile. "
                f"Nothing was changed: look at `calib stats`, and try again."
            )
        return cls(transaction, model, row)

    def __init__(self, transaction: Transaction, model: str, row: Any) -> None:
        """Take a row of `Transaction.load`; raises as `load` does."""
        self.transaction = transaction
        self.is_new = False
        self.model_id: int = row[0]
        with damage_told(model):
            self.state = State.from_row(row)
        self.seq: int = row[11]
        self.head: bytes = row[12]

    @classmethod
    def create(cls, transaction: Transaction, model: str, opening: Adjustment) -> OpenModel:
        """A model without history, with its first entry.

        An `archived` one keeps its seq, and the head that it carries.
        """
        self = cls.__new__(cls)
        self.transaction = transaction
        self.is_new = True
        self.model_id = transaction.add_model(model)
        self.seq = 0
        self.head = first_head(model)
        if opening.archived_head is None:
            self.append(opening)
            return self
        transaction.add_adjustment(self.model_id, opening)
        self.state = State.from_adjustment(opening, stored_rule(opening.rule), opening.alpha)
        self.seq, self.head = opening.seq, opening.archived_head
        return self

    def append(self, entry: Adjustment) -> None:
        """Append an adjustment, which sets the state.

        Raises:
            StoredRuleError: this program does not know its rule.
        """
        entry = entry._replace(seq=self.seq + 1)
        self.transaction.add_adjustment(self.model_id, entry)
        self.head = adjustment_head(self.head, entry)
        self.state = State.from_adjustment(entry, stored_rule(entry.rule), entry.alpha)
        self.seq = entry.seq

    def learn(self, calls: Sequence[NewCall]) -> list[float]:
        """Append calls, all of them new; gives their errors.

        Raises:
            NotFiniteError: the calibration would not stay finite.
        """
        called_at, prompts, completions, actual, _, _ = zip(*calls, strict=True)
        predicted = self.state.learn(called_at, prompts, completions, actual)
        model_id, seq, head = self.model_id, self.seq, self.head
        rows: list[tuple[Any, ...]] = []
        details: list[tuple[Any, ...]] = []
        for call, prediction in zip(calls, predicted, strict=True):
            seq += 1
            at, p, c, y, request_id, text = call
            head = call_head(head, (seq, at, p, c, y, prediction, request_id, text))
            rows.append((model_id, seq, at, p, c, y, prediction))
            if request_id is not None or text is not None:
                key = None if request_id is None else request_key(request_id)
                details.append((model_id, seq, key, request_id, text))
        self.transaction.add_calls(rows)
        if details:
            self.transaction.add_details(details)
        self.seq, self.head = seq, head
        return [call.actual_ms - mine for call, mine in zip(calls, predicted, strict=True)]

    def save(self) -> None:
        """Write the calibration behind the last entry."""
        columns = (*self.state.row(), self.seq, self.head)
        if self.is_new:
            self.transaction.add_calibration((self.model_id, *columns))
        else:
            self.transaction.save((*columns, self.model_id))


def _open(transaction: Transaction, model: str, opening: Adjustment | None) -> OpenModel:
    row = transaction.load(model)
    if row is not None:
        return OpenModel(transaction, model, row)
    if opening is None:
        raise Unopened
    return OpenModel.create(transaction, model, opening)


def record_call(
    transaction: Transaction, model: str, call: NewCall, opening: Adjustment | None = None
) -> float:
    """`record_calls` for a single call: the same, unrolled, because `record()` is the hot path."""
    at, p, c, y, request_id, details = call
    row = None if request_id is not None or details is not None else transaction.load(model)
    if row is None or row[9] is not None:
        return record_calls(transaction, model, (call,), opening)[0]
    model_id, rule, alpha, a, b, o, absolute, total, count, _, _, seq, head, _ = row
    numbers = [a, b, o, absolute, total]
    try:
        found = stored_rule(rule)
        if found.extra_numbers:
            raise damaged(model, f"the further state of its rule {rule} is missing")
        predicted = learn_columns(found, alpha, numbers, (p,), (c,), (y,))[0]
        seq += 1
        head = call_head(head, (seq, at, p, c, y, predicted, None, None))
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error
    transaction.add_call((model_id, seq, at, p, c, y, predicted))
    transaction.save((rule, alpha, *numbers, count + 1, None, at, seq, head, model_id))
    return y - predicted


def record_calls(
    transaction: Transaction, model: str, calls: Sequence[NewCall], opening: Adjustment | None
) -> list[float]:
    """Record calls of one model in order; gives the error of each.

    A call whose request id the model has already, with the same tokens and milliseconds, adds no
    row and gives its first error.

    Args:
        transaction: the open transaction.
        model: the model's name.
        calls: what to record.
        opening: the entry that opens the model should it have no history; see `Unopened`.

    Raises:
        Unopened: the model has no history, and no opening was given.
        RequestConflictError: a request id is there with other numbers.
        NotFiniteError: the calibration would not stay finite.
    """
    try:
        opened = _open(transaction, model, opening)
        if all(call.request_id is None for call in calls):
            errors = opened.learn(calls)
        else:
            errors = _record_once(opened, model, calls)
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error
    opened.save()
    return errors


def _record_once(opened: OpenModel, model: str, calls: Sequence[NewCall]) -> list[float]:
    """The same, where some calls carry request ids."""
    stored = _stored(opened, calls)
    known: dict[str, tuple[NewCall, int]] = {}  # request id: the call, its place among the new
    new: list[NewCall] = []
    errors = [0.0] * len(calls)
    places: list[int | None] = [None] * len(calls)
    for i, call in enumerate(calls):
        if call.request_id is None:
            places[i] = len(new)
            new.append(call)
            continue
        if call.request_id in known:
            first, places[i] = known[call.request_id]
            _check_same(model, call, first[1:4])
            continue
        row = stored.get(call.request_id)
        if row is not None:
            _check_same(model, call, row[:3])
            errors[i] = row[2] - row[3]
            continue
        known[call.request_id] = (call, len(new))
        places[i] = len(new)
        new.append(call)
    learnt = opened.learn(new) if new else []
    return [
        learnt[place] if place is not None else error
        for place, error in zip(places, errors, strict=True)
    ]


def _stored(opened: OpenModel, calls: Sequence[NewCall]) -> dict[str, Sequence[Any]]:
    """Of the request ids of calls, those that the model has: the numbers of each.

    They are (prompt_tokens, completion_tokens, actual_ms, predicted_ms).
    """
    if opened.is_new:
        return {}
    ids = {call.request_id for call in calls if call.request_id is not None}
    keys = {request_key(request_id): request_id for request_id in ids}
    if len(keys) < _MANY:
        rows = [(key, opened.transaction.find_request(opened.model_id, key)) for key in keys]
        return {keys[key]: row[3:7] for key, row in rows if row is not None}
    found = opened.transaction.find_requests(opened.model_id, list(keys))
    return {keys[key]: numbers for key, numbers in found.items()}


def _check_same(model: str, call: NewCall, first: Sequence[Any]) -> None:
    """Refuse a request id that comes back with other numbers."""
    if (call.prompt_tokens, call.completion_tokens, call.actual_ms) != tuple(first):
        p, c, y = first
        raise RequestConflictError(
            f"the request id {call.request_id!r} of the model {model!r} was recorded with {p} "
            f"prompt tokens, {c} completion tokens and {y!r} ms, and now comes with "
            f"{call.prompt_tokens}, {call.completion_tokens} and {call.actual_ms!r}. Nothing was "
            f"recorded: give each call an id of its own, also one that corrects a voided call."
        )
