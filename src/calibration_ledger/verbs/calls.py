"""Listing calls as frozen values, in bounded pages: by model, by time, and as they come."""

from __future__ import annotations

from contextlib import suppress
from heapq import heappop, heappush, heapreplace, merge
from itertools import chain, compress
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

from calibration_ledger.core.entries import is_call
from calibration_ledger.core.replay import Window
from calibration_ledger.core.validation import EPOCH, MICROSECOND, check_window, time_from_us
from calibration_ledger.core.values import Call, frozen
from calibration_ledger.errors import (
    HistoryArchivedError,
    InvalidInputError,
    LedgerBusyError,
    damaged,
    shown,
)
from calibration_ledger.formats.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored


ROWS_AT_ONCE = 20_000
"""About so many calls are held while those of several models are put in the order of time."""

STRETCH_MAX, STRETCH_MIN = 1000, 16

LOOK_EVERY_S = 0.25
"""How often `follow` looks: a look takes less than a millisecond."""


def iterate_calls(
    ledger: Ledger,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
    limit: int | None = None,
    by_time: bool = False,
) -> Iterator[Call]:
    """See `AdaptiveCalibrator.calls`. The arguments are checked now, not at the first call."""
    window = Window(*check_window(since, until))
    _check_counts(last, limit)
    lives = ledger.models(model)
    if by_time or limit is not None:
        return _iterate_by_time(ledger, lives, window, last, limit, by_time=by_time)
    return _iterate(ledger, lives, window, last)


def _check_counts(last: object, limit: object) -> None:
    check_last(last)
    check_last(limit, "limit")
    if last is not None and limit is not None:
        raise InvalidInputError(
            "last counts the calls of each model, and limit those of all: leave one out."
        )


def _iterate(
    ledger: Ledger, models: list[Stored], window: Window, last: int | None
) -> Iterator[Call]:
    for live in models:
        newest, is_done, given = live, False, False
        while not is_done:
            try:
                history = ledger.history(newest)
                for row in rows_of(history, window, last):
                    given = True
                    yield call_of(live.model, row, history.is_voided)
                is_done = True
            except HistoryArchivedError:
                if given:  # what comes next does not follow what was handed out
                    raise
                newest = ledger.again(live)


class Stretch(NamedTuple):
    """Entries of a model next to each other: the time of the oldest call (us), and their seqs."""

    oldest: int
    live: Stored
    first: int
    through: int


def _iterate_by_time(
    ledger: Ledger,
    lives: list[Stored],
    window: Window,
    last: int | None,
    limit: int | None,
    *,
    by_time: bool,
) -> Iterator[Call]:
    """The calls by time, or the newest of all by model."""
    given = False
    while lives:
        try:
            reader = _Reader(ledger, window)
            stretches = list(_stretches(ledger, lives, window, last, limit))
            if by_time:
                calls = _merged(reader, stretches)
            else:
                stretches.sort(key=lambda one: (one.live.model, one.first))
                calls = chain.from_iterable(map(reader.calls, stretches))
            for call in calls:
                given = True
                yield call
            return  # noqa: TRY300 - the way on is another round
        except HistoryArchivedError:
            if given:  # what comes next does not follow what was handed out
                raise
            lives[:] = map(ledger.again, lives)  # in place: `follow` goes on from there


def follow(
    ledger: Ledger,
    model: str | None,
    *,
    since: datetime | None,
    last: int | None,
    limit: int | None,
) -> Iterator[Call]:
    """See `AdaptiveCalibrator.follow`. The arguments are checked now, not at the first call."""
    window = Window(*check_window(since, None))
    _check_counts(last, limit)
    lives = ledger.models(model, must_exist=True)
    return _follow(ledger, model, lives, window, last, limit)


def _follow(
    ledger: Ledger,
    model: str | None,
    lives: list[Stored],
    window: Window,
    last: int | None,
    limit: int | None,
) -> Iterator[Call]:
    if window.since is not None or last is not None or limit is not None:
        yield from _iterate_by_time(ledger, lives, window, last, limit, by_time=True)
    seqs = {live.model: live.last_seq for live in lives}
    seen: object = None
    while True:
        # Whatever keeps a look from its end, the next one goes on where it stopped: a ledger that
        # is busy, or entries that were just archived.
        with suppress(LedgerBusyError, HistoryArchivedError):
            state = ledger.all_seqs()
            if state != seen:
                for call in _news(ledger, model, seqs):
                    seqs[call.model] = max(seqs[call.model], call.seq or 0)
                    yield call
                seen = state
        sleep(LOOK_EVERY_S)


def _news(ledger: Ledger, model: str | None, seqs: dict[str, int]) -> Iterator[Call]:
    """The calls behind these entries, each model's by seq, among each other by time."""
    reader = _Reader(ledger, Window(None, None))
    return merge(
        *(
            reader.calls(Stretch(0, live, after + 1, live.last_seq))
            for live in ledger.models(model)
            if (after := seqs.setdefault(live.model, 0)) < live.last_seq
        ),
        key=_place,
    )


def _stretches(
    ledger: Ledger, lives: list[Stored], window: Window, last: int | None, limit: int | None
) -> Iterator[Stretch]:
    """What is to be read: the newest calls of all, each model's newest, or all in the window."""
    if limit is not None:
        yield from _joined(ledger.newest_of_all(lives, limit, window))
        return
    after = dict.fromkeys((live.model_id for live in lives), 0)
    if last is not None:
        for live in lives:
            if last < live.last_seq:
                after[live.model_id] = max(0, ledger.history(live).nth_newest(last, window) - 1)
        if last <= STRETCH_MAX:  # few enough to hold them all: their times need not be looked at
            for live in lives:
                yield Stretch(0, live, after[live.model_id] + 1, live.last_seq)
            return
    size = min(STRETCH_MAX, max(STRETCH_MIN, ROWS_AT_ONCE // max(1, len(lives))))
    for live, first, through, oldest in ledger.stretches(lives, size, window):
        if through > after[live.model_id]:
            yield Stretch(oldest, live, max(first, after[live.model_id] + 1), through)


def _joined(newest: Iterator[tuple[Stored, int, int]]) -> Iterator[Stretch]:
    """Calls that are next to each other, in stretches of bounded length."""
    found = sorted(newest, key=lambda one: (one[0].model_id, one[1]))
    at = 0
    while at < len(found):
        live, first, oldest = found[at]
        through = first
        for other, seq, time in found[at + 1 : at + STRETCH_MAX]:
            if other is not live or seq != through + 1:
                break
            through, oldest = seq, min(oldest, time)
        at += through - first + 1
        yield Stretch(oldest, live, first, through)


class _Reader:
    """Reads stretches of several histories, each of which it reads the adjustments of once."""

    def __init__(self, ledger: Ledger, window: Window) -> None:
        self._ledger, self._window = ledger, window
        self._histories: dict[int, ModelHistory] = {}

    def calls(self, stretch: Stretch) -> Iterator[Call]:
        """The calls of a stretch that are in the window, by seq."""
        live = stretch.live
        history = self._histories.get(live.model_id)
        if history is None:
            history = self._histories[live.model_id] = self._ledger.history(live)
        for rows, _ in history.calls(stretch.first - 1, stretch.through):
            for row in compress(rows, self._window.holds([at for _, at, *_ in rows])):
                yield call_of(live.model, row, history.is_voided)


def _merged(reader: _Reader, stretches: list[Stretch]) -> Iterator[Call]:
    """The calls of stretches by time; each is read when its oldest call comes next."""
    waiting = sorted(stretches, key=lambda one: -one.oldest)
    reading: list[tuple[tuple[int, str, int], Call, Iterator[Call]]] = []
    while waiting or reading:
        if waiting and (not reading or waiting[-1].oldest <= reading[0][0][0]):
            calls = iter(sorted(reader.calls(waiting.pop()), key=_place))
            for first in calls:
                heappush(reading, (_place(first), first, calls))
                break
            continue
        _, call, calls = reading[0]
        yield call
        following = next(calls, None)
        if following is None:
            heappop(reading)
        else:
            heapreplace(reading, (_place(following), following, calls))


def _place(call: Call) -> tuple[int, str, int]:
    """The place of a call among those of all models, which is its own alone."""
    assert call.called_at is not None  # noqa: S101 - it was recorded
    assert call.seq is not None  # noqa: S101 - it was recorded
    return (call.called_at - EPOCH) // MICROSECOND, call.model, call.seq


def check_last(last: object, name: str = "last") -> int | None:
    """How many of the newest calls are meant; None for all."""
    if last is None or (isinstance(last, int) and not isinstance(last, bool) and last > 0):
        return last
    raise InvalidInputError(f"{name} must be a whole number from 1, not {shown(last)}.")


def rows_of(history: ModelHistory, window: Window, last: int | None) -> Iterator[CallRow]:
    """The calls in a window, or so many of the newest of them."""
    live, everything = history.live, window == (None, None)
    after, through = 0, live.last_seq
    if not everything:  # times may go backwards, so no more than the ends are known
        after, through = history.first_scored(window) - 1, history.last_scored(window)
    if last is not None and last < live.last_seq:
        after = max(after, history.nth_newest(last, window) - 1)
    for rows, _ in history.calls(after, through):
        if everything:
            yield from rows
        else:
            yield from compress(rows, window.holds([at for _, at, *_ in rows]))


def call_of(model: str, row: CallRow, is_voided: Callable[[int], bool]) -> Call:
    """The frozen value of a `CallRow`.

    Raises:
        LedgerCorruptError: it cannot be what a program of ours wrote.
    """
    seq, called_at, prompt_tokens, completion_tokens, actual, predicted, *texts = row
    outcome, request_id, text = texts
    if not is_call(row):
        raise damaged(model, f"entry {seq} holds a value that no call has")
    try:
        details = None if text is None else frozen(parse_json(text))
        at = time_from_us(called_at)
    except (ValueError, OverflowError, RecursionError) as error:
        raise damaged(model, f"entry {seq} cannot be read ({error})") from error
    if text is not None and not isinstance(details, dict):
        raise damaged(model, f"the details of entry {seq} are no object")
    return Call(
        model,
        prompt_tokens,
        completion_tokens,
        actual,
        at,
        request_id,
        details,
        seq,
        predicted,
        is_voided(seq),
        "ok" if outcome is None else "timeout",
    )
