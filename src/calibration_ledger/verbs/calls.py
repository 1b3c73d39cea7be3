"""Listing models and calls, as frozen values, in bounded pages."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from calibration_ledger.core.entries import is_call
from calibration_ledger.core.replay import Window
from calibration_ledger.core.validation import check_window, time_from_us
from calibration_ledger.core.values import Call, frozen
from calibration_ledger.errors import HistoryArchivedError, InvalidInputError, damaged, shown
from calibration_ledger.formats.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from calibration_ledger.core.entries import CallRow
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.storage.transaction import Stored


def iterate_calls(
    ledger: Ledger,
    model: str | None,
    *,
    since: datetime | None,
    until: datetime | None,
    last: int | None,
) -> Iterator[Call]:
    """See `AdaptiveCalibrator.calls`. The arguments are checked now, not at the first call."""
    window = Window(*check_window(since, until))
    return _iterate(ledger, ledger.models(model), window, check_last(last))


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


def check_last(last: object) -> int | None:
    """How many of the newest calls are meant; None for all."""
    if last is None or (isinstance(last, int) and not isinstance(last, bool) and last > 0):
        return last
    raise InvalidInputError(f"last must be a whole number from 1, not {shown(last)}.")


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
