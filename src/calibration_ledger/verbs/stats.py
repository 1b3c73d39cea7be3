"""Stats: what a model has learnt, and how well its newest calls were predicted.

No more than the newest 100 calls of a model are read, so that the figures of a ledger of millions
of calls are there at once.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from statistics import median
from typing import TYPE_CHECKING, cast

from calibration_ledger.core.history import CLAIMS, setting
from calibration_ledger.core.state import calibration_of
from calibration_ledger.core.values import NewestCalls
from calibration_ledger.errors import LedgerCorruptError, damage_told
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from calibration_ledger.core.values import ModelStats
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored

NEWEST = 100
"""Calls that are judged: enough for a median, and soon all of them new if a model has changed."""


def stats_of(ledger: Ledger, live: Stored, *, rounded: bool) -> ModelStats:
    """The figures of one model; see `ModelStats`."""
    stats = calibration_of(live.model, live.snapshot).stats(rounded=rounded)
    if not live.snapshot.sample_count:
        return stats
    try:
        newest = ledger.whole(live, newest_calls)
    except LedgerCorruptError:
        newest = NewestCalls()  # what was learnt is still there, and the audit finds the damage
    return cast("ModelStats", {**stats, **newest.stats(rounded=rounded)})


def newest_calls(history: ModelHistory) -> NewestCalls:
    """How well the newest calls of a model were predicted.

    They are those since its newest opening, import of a state or reset, without the voided ones.
    What counts is the prediction made before the call was learnt. But those before the newest
    recalibration or voiding were predicted by a calibration that is no more: they are held against
    the one that this entry set.
    """
    latencies: list[float] = []
    shares: list[float] = []
    with damage_told(history.model):
        began = [
            one.seq
            for one in setting(history.adjustments, history.voided)
            if one.kind not in CLAIMS
        ]
        claims = [one for one in history.adjustments if one.kind in CLAIMS]
        anew = next((one for one in reversed(claims) if not history.is_voided(one.seq)), None)
        for seq, _, prompt, completion, actual, predicted, _ in history.newest(
            NEWEST, max(began, default=0), timeouts=False
        ):
            told = predicted
            if anew is not None and seq < anew.seq:
                told = predict_ms(anew.snapshot.numbers, prompt, completion)
            latencies.append(actual)
            if actual:  # no percentage of nothing
                shares.append(100.0 * abs(actual - told) / actual)
    return NewestCalls(
        len(latencies),
        # Not `sum`: since Python 3.12 it gives other last digits.
        reduce(add, latencies) / len(latencies) if latencies else None,
        median(shares) if shares else None,
    )
