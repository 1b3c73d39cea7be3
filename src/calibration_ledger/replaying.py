"""Replays over a ledger, and the adoption of what they gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration_ledger.damage import damage_told, damaged
from calibration_ledger.fast import how_to_run
from calibration_ledger.figures import Accuracy
from calibration_ledger.listing import list_live
from calibration_ledger.new_calls import now_us
from calibration_ledger.recording import OpenModel
from calibration_ledger.replay import Window, fold_history, replay_history, replay_of
from calibration_ledger.rules import find_rule
from calibration_ledger.storage import reads
from calibration_ledger.validation import check_alpha, check_window

if TYPE_CHECKING:
    from datetime import datetime

    from calibration_ledger.learning import State
    from calibration_ledger.replay import Progress, Start
    from calibration_ledger.rules import Rule
    from calibration_ledger.storage.backend import Backend
    from calibration_ledger.storage.reads import Stored
    from calibration_ledger.storage.writes import Transaction
    from calibration_ledger.values import Replay


def _chosen(live: Stored, alpha: float | None, rule: Rule | None) -> tuple[Rule, float]:
    """The rule and alpha to replay a model under: what is left out is the model's live one.

    But the alpha of one rule says nothing to another: there it is the rule's own default.
    """
    if rule is None:
        rule = find_rule(live.rule)
    if alpha is None:
        is_its_own = rule.name == live.rule.partition(".")[0]
        alpha = live.alpha if is_its_own else rule.default_alpha
    return rule, alpha


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
    lives = list_live(backend, model)
    calls = sum(live.last_seq for live in lives)
    for live in lives:
        chosen = _chosen(live, checked_alpha, checked_rule)
        history = reads.ModelHistory(backend, live)
        everything = window == (None, None)
        with damage_told(live.model):
            replayed, _ = replay_history(
                history,
                *chosen,
                live.last_seq if everything else max(1, history.last_scored(window)),
                window=None if everything else window,
                progress=progress,
                start=how_to_run([chosen[0]], calls, 1),
            )
        replays.append(replayed)
    return replays


def recalibrate(
    backend: Backend,
    alpha: float | None,
    rule: str | None,
    model: str | None,
    *,
    progress: Progress | None,
) -> list[Replay]:
    """See `AdaptiveCalibrator.recalibrate`."""
    checked_alpha, checked_rule = _checked(alpha, rule)
    adopted = []
    lives = list_live(backend, model)
    calls = sum(live.last_seq for live in lives)
    for live in lives:
        done = None
        while done is None:  # a reset or recalibration came between: start over
            (newest,) = list_live(backend, live.model)
            chosen = _chosen(newest, checked_alpha, checked_rule)
            start = how_to_run([chosen[0]], calls, 1)
            with damage_told(live.model):
                done = _adopt(backend, newest, *chosen, progress, start)
        adopted.append(done)
    return adopted


def _adopt(
    backend: Backend,
    live: Stored,
    rule: Rule,
    alpha: float,
    progress: Progress | None,
    start: Start,
) -> Replay | None:
    """Replay without the lock, then take it, fold what came meanwhile, and write.

    Gives None where an adjustment came meanwhile: the replay no longer holds.
    """
    history = reads.ModelHistory(backend, live)
    accuracy = Accuracy()
    state = fold_history(
        history, rule, alpha, live.last_seq, accuracy=accuracy, progress=progress, start=start
    )

    def work(transaction: Transaction) -> tuple[State, Accuracy] | None:
        opened = OpenModel.load(transaction, live.model)
        newest = transaction.last_adjustment(opened.model_id)
        if newest > opened.seq:
            raise damaged(live.model, f"entry {newest} lies behind the last, {opened.seq}")
        if newest > live.last_seq:
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

    adopted = backend.write(work)
    return None if adopted is None else replay_of(live.model, *adopted)
