"""Replaying a ledger's models, and adopting what the replays give."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from calibration_ledger.core.figures import Accuracy
from calibration_ledger.core.replay import Window, fold_history, replay_of
from calibration_ledger.core.validation import check_alpha
from calibration_ledger.core.values import Sweep
from calibration_ledger.errors import (
    CalibrationLedgerError,
    InvalidInputError,
    damage_told,
    damaged,
    named,
    shown,
)
from calibration_ledger.fast import how_to_run
from calibration_ledger.rules import find_rule, stored_rule
from calibration_ledger.verbs.record import OpenModel, now_us
from calibration_ledger.verbs.sweep import WARM_UP, last_learnt, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from calibration_ledger.core.entries import Adjustment
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.state import State
    from calibration_ledger.core.values import Replay, Score
    from calibration_ledger.rules import Rule, RuleName
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored, Transaction


Draft = TypeVar("Draft")
Done = TypeVar("Done")

# -- replay and recalibrate -----------------------------------------------------------------


class _Plan(NamedTuple):
    """What is asked of each model."""

    rule: Rule | None
    alpha: float | None
    calls: int
    """How many calls all models have: many are worth compiling for."""
    progress: Progress | None
    window: Window | None = None
    """Which calls are scored; None for all."""
    best: Mapping[str, Score] = MappingProxyType({})
    """What a sweep found best for each model."""

    def chosen(self, live: Stored) -> tuple[Rule, float]:
        """The rule and alpha to try on a model: by default its live ones.

        The alpha of one rule means nothing to another: a new rule comes with its own default.
        """
        best = self.best.get(live.model)
        if best is not None and best.rule is not None and best.alpha is not None:
            return stored_rule(best.rule), best.alpha
        own = live.snapshot
        rule = stored_rule(own.rule) if self.rule is None else self.rule
        if self.alpha is not None:
            return rule, self.alpha
        is_its_own = rule.name == own.rule.partition(".")[0]
        return rule, own.alpha if is_its_own else rule.default_alpha


def _checked(rule: RuleName | None, alpha: float | None) -> tuple[Rule | None, float | None]:
    found = None if rule is None else find_rule(rule)
    return found, None if alpha is None else check_alpha(alpha)


def replay(
    ledger: Ledger,
    alpha: float | None,
    rule: RuleName | None,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    progress: Progress | None,
) -> list[Replay]:
    """See `AdaptiveCalibrator.replay`."""
    checked = _checked(rule, alpha)
    window = Window.of(since, until)
    lives = ledger.models(model, must_exist=True)
    plan = _Plan(*checked, sum(live.last_seq for live in lives), progress, window)
    return [ledger.whole(live, partial(_try, plan)).replay() for live in lives]


def recalibrate(
    ledger: Ledger,
    alpha: float | None,
    rule: RuleName | None,
    model: str | None,
    *,
    best: bool | Iterable[Sweep],
    dry_run: bool,
    progress: Progress | None,
) -> list[Replay]:
    """See `AdaptiveCalibrator.recalibrate`."""
    checked = _checked(rule, alpha)
    lives, winners = ledger.models(model, must_exist=True), {}
    if best is not False:
        winners = _winners(ledger, alpha, rule, model, best, progress)
        lives = [live for live in lives if live.model in winners]
    calls = sum(live.last_seq for live in lives)
    plan = _Plan(*checked, calls, progress, best=winners)
    # All are replayed before the first is written: if one cannot be, no model changes.
    trials = {live.model: ledger.whole(live, partial(_try, plan)) for live in lives}
    if dry_run:
        return [trial.replay() for trial in trials.values()]
    return adopt_each(
        ledger,
        trials,
        partial(_adopted, ledger),
        partial(_try, plan),
        "the models before stay recalibrated",
    )


def _adopted(ledger: Ledger, trial: Trial) -> Replay | None:
    done = adopt(ledger, trial, _recalibrated)
    return None if done is None else replay_of(trial.live.model, done.state, done.accuracy)


def _winners(
    ledger: Ledger,
    alpha: float | None,
    rule: RuleName | None,
    model: str | None,
    best: bool | Iterable[Sweep],
    progress: Progress | None,
) -> dict[str, Score]:
    """What a sweep ranks first, of each model for which that is clearly better."""
    if alpha is not None:
        raise InvalidInputError("best finds the alpha itself: leave alpha out.")
    if best is True:
        best = sweep(
            ledger, None, rule, model, since=None, until=None, warm_up=WARM_UP, progress=progress
        )
    found: list[Any] = list(best) if isinstance(best, Iterable) else [best]
    if not all(isinstance(one, Sweep) for one in found):
        raise InvalidInputError(f"best must be True, or what sweep() gave, not {shown(best)}.")
    return {
        one.model: one.better for one in found if one.model is not None and one.better is not None
    }


def _try(plan: _Plan, history: ModelHistory) -> Trial:
    """Replay a model, without the lock."""
    live, accuracy = history.live, Accuracy()
    rule, alpha = plan.chosen(live)
    state = fold_history(
        history,
        rule,
        alpha,
        last_learnt(history, plan.window),
        accuracy=accuracy,
        window=plan.window,
        progress=plan.progress,
        start=how_to_run([rule], live.last_seq, 1, plan.calls),
    )
    return Trial(live, history.beginning, state, accuracy)


def _recalibrated(rebuilt: State, live: State) -> Adjustment | None:
    """The entry to append; None if nothing would change."""
    return None if rebuilt.same_as(live) else rebuilt.adjustment(0, "recalibrated", now_us())


# -- adopting a replay ----------------------------------------------------------------------
# A replay is folded without the lock, so others may have written to the model meanwhile.


class Trial(NamedTuple):
    """A replay, which can be adopted."""

    live: Stored
    beginning: Adjustment | None
    state: State
    accuracy: Accuracy

    def replay(self) -> Replay:
        """The value to hand out."""
        return replay_of(self.live.model, self.state, self.accuracy)


class Adopted(NamedTuple):
    """A replay that was adopted, with the calls that came meanwhile."""

    state: State
    accuracy: Accuracy
    seq: int
    """The newest entry of the model."""


def adopt(
    ledger: Ledger,
    trial: Trial,
    entry_of: Callable[[State, State], Adjustment | None],
    check: Callable[[Transaction], None] | None = None,
) -> Adopted | None:
    """Take the lock, fold the calls that came since the replay, and append an entry.

    `entry_of(rebuilt, live)` makes that from both states; None appends nothing. `check` may refuse
    it still.

    Gives None if an adjustment came meanwhile, or the beginning was archived: the replay no longer
    holds.
    """
    live, beginning, state, accuracy = trial

    def work(transaction: Transaction) -> Adopted | None:
        opened = OpenModel.load(transaction, live.model)
        newest = transaction.last_adjustment(opened.model_id)
        if newest > opened.seq:
            raise damaged(live.model, f"entry {newest} lies behind the last, {opened.seq}")
        is_same = transaction.first_adjustment(opened.model_id) == beginning
        if newest > live.last_seq or not is_same:
            return None
        rebuilt, figures = state.copy(), accuracy.copy()
        for page in transaction.columns(live.model, opened.model_id, live.last_seq, opened.seq):
            figures.add(page.actual_ms, rebuilt.learn(*page))
        entry = entry_of(rebuilt, opened.state)
        if check is not None:
            check(transaction)
        if entry is not None:
            opened.end(entry)
            opened.save()
        return Adopted(rebuilt, figures, opened.seq)

    with damage_told(live.model):
        return ledger.write(work, makes=False)


def adopt_each(
    ledger: Ledger,
    drafts: Mapping[str, Draft],
    adopted: Callable[[Draft], Done | None],
    anew: Callable[[ModelHistory], Draft],
    stay: str,
) -> list[Done]:
    """Adopt the drafts of several models in order, each in a transaction of its own.

    Args:
        ledger: the ledger.
        drafts: what is to be adopted, by model.
        adopted: adopts one, and gives None if it no longer holds; see `adopt`.
        anew: makes the draft of a model again.
        stay: what the error of one model says of those before it.
    """
    done: dict[str, Done] = {}
    for model, draft in drafts.items():
        try:
            found = adopted(draft)
            while found is None:  # a reset, recalibration or archive came in between: start over
                newest = ledger.own(model) or ledger.models(model, must_exist=True)[0]
                found = adopted(ledger.whole(newest, anew))
        except CalibrationLedgerError as error:
            if done:
                error.keep(f"{stay} ({named([*done])})", "and this one was not changed")
            raise
        done[model] = found
    return [*done.values()]
