"""Forecast: what a program can act on, from the newest calls of a model.

The prediction under a forecast is that of `kalman`, whatever rule is live: where it is, its own
state and stored predictions; else a fold of the newest calls. That fold begins at a multiple of 500
calls, with 250 to 749 behind it (or all, while there are fewer), so it is a function of the newest
calls alone, and can still be carried on from one call to the next.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from sys import float_info
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core.drift import DRIFT_CALLS, ratio_of
from calibration_ledger.core.forecast import Basis, Forecast, Observed
from calibration_ledger.core.history import last_beginning, left_of, newest_claim
from calibration_ledger.core.priors import Prior
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import (
    check_model,
    check_time,
    check_tokens,
    iso_from_us,
    time_from_us,
)
from calibration_ledger.errors import (
    IMPOSSIBLE,
    HistoryArchivedError,
    NotFiniteError,
    damage_told,
    impossible,
)
from calibration_ledger.rules import find_rule, predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored

FOLD = find_rule("kalman")
"""The rule under a forecast."""

BLOCK = 500
"""A fold begins at a multiple of this many calls."""

LEAST_FOLDED = 250
"""And with so many behind it: enough that nothing is left of where it began in the 150 that count.
With more, the first forecast of a process would take longer."""

KEPT_MODELS = 1_000
"""A process keeps what it knows of so many models; of others it reads anew."""


class Kept(NamedTuple):
    """What a process knows of a model.

    Attributes:
        live: the calibration that it was read with.
        total: how many calls the model has since it began.
        state: the fold; None where `kalman` is live.
        basis: what its forecasts rest on.
    """

    live: Stored
    total: int
    state: State | None
    basis: Basis


class Forecasts:
    """The forecasts of a ledger, as one process asks for them.

    Threads may share it: what is kept of a model is never changed, but replaced.
    """

    def __init__(self, ledger: Ledger, prior: Callable[[str], Prior]) -> None:
        """Ask this ledger; `prior` is of models never seen."""
        self._ledger = ledger
        self._prior = prior
        self._kept: dict[tuple[str, bool], Kept] = {}

    def forecast(
        self,
        model: str,
        prompt_tokens: int,
        completion_tokens: int | None,
        *,
        max_tokens: int | None,
        as_of: datetime | None,
    ) -> Forecast:
        """See `AdaptiveCalibrator.forecast`."""
        model = check_model(model)
        prompt_tokens = check_tokens("prompt_tokens", prompt_tokens)
        if completion_tokens is not None:
            completion_tokens = check_tokens("completion_tokens", completion_tokens)
        if max_tokens is not None:
            max_tokens = check_tokens("max_tokens", max_tokens)
        basis = self.basis(model, as_of=as_of)
        return forecast_of(basis, prompt_tokens, completion_tokens, max_tokens)

    def of_models(
        self,
        prompt_tokens: int,
        models: Sequence[str] | None,
        completion_tokens: int | Mapping[str, int] | None,
        *,
        max_tokens: int | None,
    ) -> list[Forecast]:
        """The forecast of each of these models, or of all, sorted by name; see `forecast`.

        Each is under the name that is given, also where that is another name of a model.

        All are found by one read, and of each that has changed its newest calls are read.
        """
        prompt_tokens = check_tokens("prompt_tokens", prompt_tokens)
        if max_tokens is not None:
            max_tokens = check_tokens("max_tokens", max_tokens)
        if models is None:
            bases = {live.model: self._newest(live) for live in self._ledger.models()}
        else:
            bases = {model: self.basis(model) for model in models}
        given = completion_tokens
        found = []
        for name, basis in bases.items():
            length = given.get(name) if isinstance(given, Mapping) else given
            forecast = forecast_of(basis, prompt_tokens, length, max_tokens)
            # Under the name that was asked for, by which the caller knows it.
            found.append(forecast if basis.model == name else replace(forecast, model=name))
        return found

    def forecast_ttft(
        self, model: str, prompt_tokens: int, *, as_of: datetime | None = None
    ) -> Forecast:
        """See `AdaptiveCalibrator.forecast_ttft`."""
        model = check_model(model)
        prompt_tokens = check_tokens("prompt_tokens", prompt_tokens)
        basis = self.basis(model, as_of=as_of, ttft=True)
        return Forecast(basis.model, prompt_tokens, None, basis, 0, is_ttft=True)

    def basis(self, model: str, *, as_of: datetime | None = None, ttft: bool = False) -> Basis:
        """What the forecasts of a model rest on, now or at some time.

        Args:
            model: the model's name, checked.
            as_of: only the entries before the first that was made then or later.
            ttft: of the time to the first token.

        Raises:
            InvalidInputError: the time is none.
            HistoryArchivedError: the calls before that time were archived.
            NotFiniteError: an absurd call is among the newest.
            LedgerError: the ledger cannot be read.
        """
        time = None if as_of is None else check_time("as_of", as_of)
        live = self._ledger.find(model)
        if live is None:
            model = self._ledger.name_of(model)
            return basis_of_none(model, self._prior(model))
        if time is not None:
            past = partial(kept_at, self._ledger, time=time, ttft=ttft)
            return self._ledger.whole(live, past).basis
        return self._newest(live, ttft=ttft)

    def _newest(self, live: Stored, *, ttft: bool = False) -> Basis:
        """What the forecasts of a model rest on now, with what this process knows of it."""
        model = live.model
        before = self._kept.get((model, ttft))
        if before is not None and before.live.head == live.head:
            return before.basis
        kept = None
        try:
            if before is not None:
                kept = carried(self._ledger, before, live, ttft=ttft)
        except (*IMPOSSIBLE, HistoryArchivedError):
            pass  # read anew, which tells what is damaged, or begins where the archive ends
        if kept is None:
            kept = self._ledger.whole(live, partial(kept_of, ttft=ttft))
        while len(self._kept) >= KEPT_MODELS and (model, ttft) not in self._kept:
            self._kept.pop(next(iter(self._kept)), None)
        self._kept[model, ttft] = kept
        return kept.basis


def forecast_of(
    basis: Basis, prompt_tokens: int, completion_tokens: int | None, max_tokens: int | None
) -> Forecast:
    """The forecast of a call of these tokens, all checked; no more come out than the most."""
    if completion_tokens is not None and max_tokens is not None:
        completion_tokens = min(completion_tokens, max_tokens)
    return Forecast(basis.model, prompt_tokens, max_tokens, basis, completion_tokens)


def basis_of_none(model: str, prior: Prior) -> Basis:
    """What the forecasts of a model without history rest on: its prior."""
    return Basis(model, prior, [], 0, rule="its prior")


# -- read anew ------------------------------------------------------------------------------


def kept_of(history: ModelHistory, *, ttft: bool = False) -> Kept:
    """Read the newest calls of a model, and fold them where `kalman` is not live."""
    with damage_told(history.model):
        began = last_beginning(history.adjustments, history.voided)
        count = count_of(history, began.seq)
        if is_fold_live(history.live) and not ttft:
            rows = history.newest(min(count, DRIFT_CALLS), began.seq)
            basis = basis_of(history.live, None, live_calls(history, rows), count, rows)
            return Kept(history.live, count, None, basis)
        rows = history.newest(count - skipped_of(count), began.seq)
        if ttft:
            rows = ttft_rows(history, rows[-1][0] - 1 if rows else history.live.last_seq)
        state = State.from_prior(FOLD, FOLD.default_alpha, Prior(*began.snapshot.numbers[:3]), 0)
        calls = learn(history.model, state, rows[::-1])
        basis = basis_of(history.live, state, calls, len(rows) if ttft else count, rows)
        return Kept(history.live, count, state, basis)


def kept_at(ledger: Ledger, history: ModelHistory, *, time: int, ttft: bool = False) -> Kept:
    """The same at some time (us): as it was then, whatever was recorded or voided since.

    Raises:
        HistoryArchivedError: the calls before that time were archived.
    """
    # Entries made since may lie before the first that counts, if they were voided later.
    through = history.last_before(history.first_from(time), time)
    if history.archived >= through:
        raise HistoryArchivedError(
            f"the entries of the model {history.model!r} up to {history.archived} were archived, "
            f"and what came before {iso_from_us(time)} is among them",
            stayed="nothing was changed",
            advice=f"bring them back first with `{history.command('import', 'ledger', 'ARCHIVE')}`",
        )
    return kept_through(ledger, history, through, ttft=ttft)


def kept_through(
    ledger: Ledger,
    history: ModelHistory,
    through: int,
    *,
    ttft: bool = False,
    known: State | None = None,
) -> Kept:
    """The same behind some entry of a model, as it was then.

    Args:
        ledger: the ledger.
        history: the model's.
        through: the entry.
        ttft: of the time to the first token.
        known: the live calibration as it was there, for who has read the calls before it.
    """
    with damage_told(history.model):
        found = [entry for entry in history.adjustments if entry.seq <= through]
        if not found:
            raise TypeError("no opening is left")
        entry = found[-1]
        state = State.from_snapshot(entry.snapshot) if known is None else known
        if known is None and state.rule.name == FOLD.name:  # else it is not asked for
            for columns in history.columns(entry.seq, through):
                state.learn(*columns)
        live = history.live._replace(snapshot=state.snapshot(), last_seq=through)
    return kept_of(ledger.history(live), ttft=ttft)


def is_fold_live(live: Stored) -> bool:
    """Whether a model learns by the rule under a forecast, of any version."""
    return live.snapshot.rule.partition(".")[0] == FOLD.name


def count_of(history: ModelHistory, began: int) -> int:
    """How many calls behind an entry are not voided."""
    pairs = left_of(history.voided, began, history.live.last_seq)
    return sum(history.count_calls(*pair) for pair in pairs)


def skipped_of(count: int) -> int:
    """How many of a model's calls lie before the fold."""
    return max(0, count - LEAST_FOLDED) // BLOCK * BLOCK


def basis_of(
    live: Stored,
    state: State | None,
    calls: Sequence[Observed],
    count: int,
    rows: Sequence[Any],
    newest_at: datetime | None = None,
) -> Basis:
    """What forecasts rest on, from the newest calls; `rows` begin with the newest that came."""
    numbers = live.snapshot.numbers if state is None else state.numbers
    return Basis(
        live.model,
        (numbers[0], numbers[1], numbers[2]),
        calls[-DRIFT_CALLS:],
        count,
        rule=live.snapshot.rule if state is None else FOLD.version,
        newest_at=time_from_us(rows[0][1]) if rows else newest_at,
    )


def ttft_rows(history: ModelHistory, after: int) -> list[Any]:
    """The calls behind an entry with their time to the first token as what they took.

    As rows like those of `ModelHistory.newest`, the newest first. Their completion tokens are 0.
    """
    found = []
    for page in history.calls(after, history.live.last_seq):
        for seq, called_at, prompt, *_, details in page.rows:
            ttft_ms = None if details is None else ttft_of(details)
            if ttft_ms is not None and not history.is_voided(seq):
                found.append((seq, called_at, prompt, 0, ttft_ms, 0.0, None))
    return found[::-1]


def ttft_of(details: str) -> float | None:
    """The time to the first token that the details of a call hold, in ms; None for none.

    Raises:
        TypeError, AttributeError: they are not what `record` writes.
    """
    if "ttft_ms" not in details:
        return None
    try:
        found = json.loads(details).get("ttft_ms")
    except ValueError as error:
        raise TypeError(f"its details are no JSON: {error}") from error
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    # An int may be larger than any float.
    return float(found) if is_number and 0.0 < found <= float_info.max else None


def live_calls(history: ModelHistory, rows: Iterable[Any]) -> list[Observed]:
    """Calls as the live calibration had predicted them, oldest first; `rows` begin with the newest.

    Those from before the newest claim have no ratio: see `newest_claim`.
    """
    anew = newest_claim(history.adjustments, history.voided)
    after = 0 if anew is None else anew.seq
    calls = [
        observed(row) if row[0] > after else observed(row)._replace(ratio=None) for row in rows
    ]
    return calls[::-1]


def observed(row: Any) -> Observed:
    """A call as it was predicted before it was learnt."""
    _, _, prompt, completion, actual, predicted, outcome = row
    return Observed(prompt, completion, actual, ratio_of(actual, predicted), outcome is not None)


def learn(model: str, state: State, rows: Sequence[Any]) -> list[Observed]:
    """Fold calls, oldest first, into a state. Those that were given up are predicted only.

    Returns:
        The newest of them, as many as forecasts and drift look at.
    """
    if not rows:
        return []
    try:
        _, called_at, prompts, completions, actual_ms, _, outcomes = zip(*rows, strict=True)
        predicted = state.follow(called_at, prompts, completions, actual_ms, outcomes)
        columns = (prompts, completions, actual_ms, predicted, outcomes)
        newest = [column[-DRIFT_CALLS:] for column in columns]
        return [
            Observed(prompt, completion, actual, ratio_of(actual, told), outcome is not None)
            for prompt, completion, actual, told, outcome in zip(*newest, strict=True)
        ]
    except NotFiniteError as error:
        matter = f"there is no forecast of the model {model!r}: {error.matter}"
        raise NotFiniteError(matter) from error
    except IMPOSSIBLE as error:
        raise impossible(model, error) from error


# -- carried on -----------------------------------------------------------------------------


def carried(ledger: Ledger, before: Kept, live: Stored, *, ttft: bool) -> Kept | None:
    """What is known of a model now, from what was known before; None where that cannot be.

    It can where nothing but calls came since, and the fold begins where it began. In a restored
    backup that has grown again, the calls follow other ones: then the first had been predicted by
    other coefficients.
    """
    came = live.last_seq - before.live.last_seq
    if live.model_id != before.live.model_id or not 0 < came < BLOCK:
        return None
    rows = ledger.recent(live, before.live.last_seq)
    if len(rows) != came:
        return None  # an adjustment is among them
    _, _, prompt, completion, _, predicted, _ = rows[-1]
    if predicted != predict_ms(before.live.snapshot.numbers, prompt, completion):
        return None
    if ttft:
        rows = ttft_rows(ledger.history(live), before.live.last_seq)
    return followed(before, live, rows, came)


def followed(before: Kept, live: Stored, rows: Sequence[Any], came: int) -> Kept | None:
    """What is known of a model once calls followed; None where its fold begins anew.

    Args:
        before: what was known.
        live: the calibration behind the calls.
        rows: those that tell something, the newest first.
        came: how many came.
    """
    total = before.total + came
    if before.state is not None and skipped_of(total) != skipped_of(before.total):
        return None
    calls = list(before.basis.calls)
    if before.state is None:
        state = None
        calls += map(observed, reversed(rows))
    else:
        state = before.state.copy()
        calls += learn(live.model, state, rows[::-1])
    count = before.basis.count + len(rows)
    basis = basis_of(live, state, calls, count, rows, before.basis.newest_at)
    return Kept(live, total, state, basis)
