"""Top: the models in use and the newest calls, cheap enough to be asked for every second.

One statement tells which models have changed; of those alone, the newest calls are read. No
transaction stays open between two statements, so writers never wait.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from heapq import nlargest
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.drift import LEAST_CALLS
from calibration_ledger.core.top import Top, TopModel, check_top_by, rate_of, sorted_by
from calibration_ledger.core.validation import check_model
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerCorruptError,
    NotFiniteError,
    damage_told,
    shown,
)
from calibration_ledger.verbs.calls import call_of
from calibration_ledger.verbs.forecast import forecast_of
from calibration_ledger.verbs.stats import newest_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.core.top import TopBy
    from calibration_ledger.core.values import Call
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored
    from calibration_ledger.verbs.forecast import Forecasts

MODELS = 100
"""So many models are looked at, those that were called last: more than a screen has lines."""

LIMIT = 20
"""How many calls are shown unless others are asked for."""

LIMIT_MAX = 1_000

LOOKED_AT = 100
"""How many calls of a model tell its rate."""


class Known(NamedTuple):
    """What was read of a model.

    Attributes:
        live: the calibration that it was read with.
        wanted: how many calls were asked for.
        calls: the newest that count, the newest first.
        model: its figures, but for the rate, which falls while nothing comes.
    """

    live: Stored
    wanted: int
    calls: Sequence[Call]
    model: TopModel


class Tops:
    """What `top` shows of a ledger, as one process asks for it again and again.

    Threads may share it: what is known of a model is never changed, but replaced.
    """

    def __init__(self, ledger: Ledger, forecasts: Forecasts) -> None:
        """Ask this ledger."""
        self._ledger = ledger
        self._forecasts = forecasts
        self._known: dict[str, Known] = {}

    def top(self, model: str | Iterable[str] | None, *, limit: int, by: TopBy) -> Top:
        """See `AdaptiveCalibrator.top`."""
        by, wanted = check_top_by(by), max(LOOKED_AT, _limit(limit))
        lives = self._lives(model)
        shown_lives = sorted(lives, key=lambda live: -live.snapshot.updated_at)[:MODELS]
        known = {live.model: self._of(live, wanted) for live in shown_lives}
        self._known = known
        now = datetime.now(UTC)
        models = [_with_rate(one, now.timestamp()) for one in known.values()]
        calls = [call for one in known.values() for call in one.calls[:limit]]
        return Top(
            now, sorted_by(models, by), len(lives), tuple(nlargest(limit, calls, key=_moment))
        )

    def _lives(self, model: str | Iterable[str] | None) -> list[Stored]:
        if model is None:
            return self._ledger.models()
        names = [model] if isinstance(model, str) else model
        lives = (live for name in names for live in self._ledger.models(check_model(name)))
        return [*{live.model: live for live in lives}.values()]

    def _of(self, live: Stored, wanted: int) -> Known:
        before = self._known.get(live.model)
        if before is not None and before.live.head == live.head and before.wanted >= wanted:
            return before
        try:
            return self._ledger.whole(live, partial(self._read, wanted=wanted))
        except (LedgerCorruptError, NotFiniteError):
            # What can be counted is still there; the audit finds the damage.
            return Known(live, wanted, [], TopModel(live.model, live.snapshot.sample_count))

    def _read(self, history: ModelHistory, *, wanted: int) -> Known:
        live = history.live
        with damage_told(live.model):
            # Voided ones are not among them.
            rows = history.newest(wanted, 0)
            calls = [call_of(live.model, (*row, None, None), lambda _: False) for row in rows]
        at = calls[0].called_at if calls else None
        one = TopModel(live.model, live.snapshot.sample_count, newest_at=at)
        if not one.calls:
            return Known(live, wanted, calls, one)
        error = newest_calls(history).median_absolute_percentage_error
        basis = self._forecasts.basis(live.model)
        usual = basis.middle_prompt or 0
        forecast = forecast_of(basis, usual, None, None)
        one = TopModel(
            live.model,
            one.calls,
            0.0,
            error,
            basis.drift if one.calls >= LEAST_CALLS else None,
            usual,
            forecast.median_ms,
            forecast.interval(0.9),
            forecast.status,
            at,
        )
        return Known(live, wanted, calls, one)


def _moment(call: Call) -> tuple[datetime, int, str]:
    assert call.called_at is not None  # noqa: S101 - it was recorded
    return (call.called_at, call.seq or 0, call.model)


def _with_rate(known: Known, now_s: float) -> TopModel:
    began_s = [_moment(call)[0].timestamp() for call in known.calls]
    rate = rate_of(began_s, now_s, is_all=len(known.calls) < known.wanted)
    return replace(known.model, calls_per_minute=rate)


def _limit(limit: object) -> int:
    if isinstance(limit, int) and not isinstance(limit, bool) and 0 <= limit <= LIMIT_MAX:
        return limit
    raise InvalidInputError(
        f"limit must be a whole number from 0 to {LIMIT_MAX:,}, not {shown(limit)}."
    )
