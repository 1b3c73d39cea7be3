"""Replays over a ledger, and the adoption of what they gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.damage import damage_told, damaged
from calibration_ledger.errors import CalibrationLedgerError, HistoryArchivedError
from calibration_ledger.figures import Accuracy
from calibration_ledger.listing import list_existing
from calibration_ledger.new_calls import now_us
from calibration_ledger.recording import OpenModel
from calibration_ledger.replay import Window, fold_history, replay_history, replay_of
from calibration_ledger.rules import find_rule, stored_rule
from calibration_ledger.stopped import replace_nothing
from calibration_ledger.storage import reads
from calibration_ledger.validation import check_alpha, check_window

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.entries import Adjustment
    from calibration_ledger.learning import State
    from calibration_ledger.replay import Progress
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored
    from calibration_ledger.storage.writes import Transaction
    from calibration_ledger.values import Replay

_NAMED = 10
"""So many models an error names."""


def _chosen(live: Stored, alpha: float | None, rule: Rule | None) -> tuple[Rule, float]:
    """The rule and alpha to replay a model under: what is left out is the model's live one."""
    return (
        stored_rule(live.rule) if rule is None else rule,
        live.alpha if alpha is None else alpha,
    )


def _checked(alpha: float | None, rule: str | None) -> tuple[float | None, Rule | None]:
    return (
        None if alpha is None else check_alpha(alpha),
        None if rule is None else find_rule(rule),
    )


def replay(
    backend: Backend,
    alpha: float | None,
    rule: str | None,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    progress: Progress | None,
) -> list[Replay]:
    """See `AdaptiveCalibrator.replay`."""
    checked_alpha, checked_rule = _checked(alpha, rule)
    window = Window(*check_window(since, until))
    replays = []
    for live in list_existing(backend, model):
        replayed, newest = None, live
        while replayed is None:
            try:
                chosen = _chosen(newest, checked_alpha, checked_rule)
                replayed = _replay(backend, newest, *chosen, window, progress)
            except HistoryArchivedError:
                (newest,) = list_existing(backend, live.model)
        replays.append(replayed)
    return replays


def _replay(
    backend: Backend,
    live: Stored,
    rule: Rule,
    alpha: float,
    window: Window,
    progress: Progress | None,
) -> Replay:
    history = reads.ModelHistory(backend, live)
    everything = window == (None, None)
    replayed, _ = replay_history(
        history,
        rule,
        alpha,
        live.last_seq if everything else max(1, history.last_scored(window)),
        window=None if everything else window,
        progress=progress,
    )
    return replayed


def recalibrate(
    backend: Backend,
    alpha: float | None,
    rule: str | None,
    model: str | None,
    *,
    progress: Progress | None,
) -> list[Replay]:
    """See `AdaptiveCalibrator.recalibrate`."""
    chosen = _checked(alpha, rule)
    # All are replayed before the first is written: one that cannot be leaves the others alone.
    trials = [_try(backend, live, *chosen, progress) for live in list_existing(backend, model)]
    adopted: list[Replay] = []
    for trial in trials:
        try:
            done = _adopt(backend, trial)
            while done is None:  # a reset, recalibration or archive came between: start over
                (newest,) = list_existing(backend, trial.live.model)
                done = _adopt(backend, _try(backend, newest, *chosen, progress))
        except CalibrationLedgerError as error:
            if adopted:
                replace_nothing(error, _told([replayed.model for replayed in adopted]))
            raise
        adopted.append(done)
    return adopted


def _told(models: list[str]) -> str:
    """Which models were recalibrated before one that failed."""
    more = f" and {len(models) - _NAMED} more" if len(models) > _NAMED else ""
    names = ", ".join(map(repr, models[:_NAMED]))
    return f"the models before stay recalibrated ({names}{more}), and this one was not changed"


class _Trial(NamedTuple):
    """A replay that is to be adopted."""

    live: Stored
    beginning: Adjustment | None
    state: State
    accuracy: Accuracy


def _try(
    backend: Backend,
    live: Stored,
    alpha: float | None,
    rule: Rule | None,
    progress: Progress | None,
) -> _Trial:
    """Replay a model, without the lock."""
    while True:
        try:
            history = reads.ModelHistory(backend, live)
            accuracy = Accuracy()
            with damage_told(live.model):
                chosen = _chosen(live, alpha, rule)
            state = fold_history(
                history, *chosen, live.last_seq, accuracy=accuracy, progress=progress
            )
        except HistoryArchivedError:
            (live,) = list_existing(backend, live.model)
        else:
            return _Trial(live, history.beginning, state, accuracy)


def _adopt(backend: Backend, trial: _Trial) -> Replay | None:
    """Take the lock, fold what came since the replay, and write.

    Gives None where an adjustment came meanwhile, or the beginning was archived: the replay no
    longer holds.
    """
    live, beginning, state, accuracy = trial

    def work(transaction: Transaction) -> tuple[State, Accuracy] | None:
        opened = OpenModel.load(transaction, live.model)
        newest = transaction.last_adjustment(opened.model_id)
        if newest > opened.seq:
            raise damaged(live.model, f"entry {newest} lies behind the last, {opened.seq}")
        is_same = transaction.first_adjustment(opened.model_id) == beginning
        if newest > live.last_seq or not is_same:
            return None
        rebuilt, figures = state.copy(), accuracy.copy()
        after = live.last_seq
        while after < opened.seq:
            rows = transaction.columns(opened.model_id, after, min(opened.seq, after + reads.PAGE))
            if not rows:
                raise damaged(live.model, f"entry {after + 1} is missing")
            seqs, *columns = zip(*rows, strict=True)
            figures.add(columns[3], rebuilt.learn(*columns))
            after = seqs[-1]
        if not rebuilt.same_as(opened.state):
            opened.append(rebuilt.adjustment(0, "recalibrated", now_us()))
            opened.save()
        return rebuilt, figures

    with damage_told(live.model):
        adopted = backend.write(work, makes=False)
    return None if adopted is None else replay_of(live.model, *adopted)
