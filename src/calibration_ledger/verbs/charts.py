"""Charts: what the ledger knows of a model, as few points to draw.

All kinds of a model's charts come from one read of its history: each page is shown to what looks at
the calls, and learnt under every candidate of the sweep, the live rule and alpha among them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from functools import partial
from itertools import accumulate, compress, product
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from calibration_ledger.core.binned import SECOND_US, Calls
from calibration_ledger.core.charts import Chart, ChartEvent, ChartKind
from calibration_ledger.core.coverage import quantiles_of
from calibration_ledger.core.entries import OUTCOMES
from calibration_ledger.core.history import covers, setting, stretches, voids_ranges
from calibration_ledger.core.looks import (
    MODELS,
    ActualLook,
    ErrorLook,
    Look,
    Path,
    RangesLook,
    SpeedLook,
    Subject,
    TokensLook,
    counted,
    models_chart,
    moment,
    number,
    sweep_chart,
)
from calibration_ledger.core.replay import Columns, Window
from calibration_ledger.core.state import State
from calibration_ledger.core.validation import check_window
from calibration_ledger.core.values import Sweep
from calibration_ledger.errors import (
    HistoryArchivedError,
    InvalidInputError,
    LedgerCorruptError,
    NotFiniteError,
    damage_told,
    damaged,
    shown,
)
from calibration_ledger.fast import how_to_run
from calibration_ledger.rules import NEWEST_RULES, stored_rule
from calibration_ledger.verbs.drift import drift_of_model
from calibration_ledger.verbs.forecast import forecast_of
from calibration_ledger.verbs.forecast_replay import Moments
from calibration_ledger.verbs.sweep import (
    ALPHAS,
    WARM_UP,
    Candidate,
    ranked,
    score_of,
    sweep_history,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from calibration_ledger.core.entries import Adjustment
    from calibration_ledger.core.history import Ranges
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.storage.ledger import Ledger, ModelHistory
    from calibration_ledger.verbs.forecast import Forecasts

KINDS: tuple[ChartKind, ...] = get_args(ChartKind)
OF_ALL: tuple[ChartKind, ...] = ("models",)
"""The charts over all models."""

OF_ONE = tuple(kind for kind in KINDS if kind not in OF_ALL)
"""The charts of one model."""

FORECASTS = 2_000
"""The newest calls that are forecast again: each takes a third of a millisecond."""

FORECASTS_LEAST, FORECASTS_IN_ALL = 80, 2_000
"""Where a ledger has many models, each has its share of so many, and no fewer than the least."""

EVENTS = 40
"""Events at the most; of more, those of one kind that are neighbours become one."""


class _Plan(NamedTuple):
    """What is asked of a model."""

    kinds: Sequence[ChartKind]
    window: Window | None
    calls: int
    """How many entries the whole ledger has."""
    models: int
    """How many models."""
    progress: Progress | None


def charts(
    ledger: Ledger,
    forecasts: Forecasts,
    model: str | None,
    kinds: Iterable[ChartKind] | ChartKind | None,
    *,
    since: datetime | None,
    until: datetime | None,
    progress: Progress | None,
) -> list[Chart]:
    """See `AdaptiveCalibrator.charts`."""
    asked = check_kinds(kinds, model)
    bounds = check_window(since, until)
    window = None if bounds == (None, None) else Window(*bounds)
    if model is None:
        ledger.check_exists()
        return [_models_chart(ledger, forecasts, since, until)] if asked else []
    [live] = ledger.models(model, must_exist=True)
    lives = ledger.models()
    plan = _Plan(asked, window, sum(one.last_seq for one in lives), len(lives), progress)
    return ledger.whole(live, partial(_of_model, ledger, plan))


def check_kinds(kinds: object, model: str | None) -> tuple[ChartKind, ...]:
    """Which charts are asked for, each once.

    Raises:
        InvalidInputError: there is no such kind, or none of one model, or of all.
    """
    these = OF_ALL if model is None else OF_ONE
    if kinds is None:
        return these
    given = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(given, Iterable):
        raise InvalidInputError(f"kinds must be a list of {', '.join(KINDS)}, not {shown(kinds)}.")
    found: list[ChartKind] = []
    for one in given:
        if one not in KINDS:
            raise InvalidInputError(f"a kind is one of {', '.join(KINDS)}, not {shown(one)}.")
        if one not in these:
            which = "all models: leave the model out" if model else "one model: name it"
            raise InvalidInputError(f"the chart {one!r} is of {which}.")
        found.append(one)
    return tuple(dict.fromkeys(found))


# -- one model ------------------------------------------------------------------------------


def _of_model(ledger: Ledger, plan: _Plan, history: ModelHistory) -> list[Chart]:
    reading = _Reading(history, plan)
    sweep = reading.sweep(plan)
    events = reading.events()
    subject = Subject(
        history.model, plan.window, history.archived, history.live.snapshot.numbers, events
    )
    found = []
    for kind in plan.kinds:
        if kind in reading.looks:
            found.append(reading.looks[kind].chart(subject))
        elif kind == "coefficients":
            snapshot = history.live.snapshot
            named = f"{snapshot.rule} with alpha {snapshot.alpha:g}"
            found.append(reading.path.chart(subject, named))
        elif kind == "ranges":
            found.append(_ranges(ledger, plan, history).chart(subject))
        else:
            assert sweep is not None  # noqa: S101 - it was asked for
            found.append(sweep_chart(subject, sweep))
    return found


class _Reading:
    """The one read of a model's history: a `replay.History` that shows its pages to the looks.

    Attributes:
        looks: what looks at the calls in the window, by kind.
        path: the coefficients under the live rule and alpha.
    """

    def __init__(self, history: ModelHistory, plan: _Plan) -> None:
        """Nothing is read yet."""
        self.model = history.model
        self.adjustments: Sequence[Adjustment] = history.adjustments
        self.path = Path()
        every: dict[ChartKind, Look] = {
            "actual": ActualLook(),
            "error": ErrorLook(),
            "tokens": TokensLook(),
            "speed": SpeedLook(),
        }
        self.looks = {kind: look for kind, look in every.items() if kind in plan.kinds}
        self._history, self._window, self._progress = history, plan.window, plan.progress
        live = history.live
        self._through = live.last_seq
        if plan.window is not None:
            self._through = history.last_scored(plan.window)
        self._rule, self._alpha = stored_rule(live.snapshot.rule), live.snapshot.alpha
        with damage_told(self.model):
            self._settings = setting(history.adjustments, history.voided)
        self._by_seq = {entry.seq: entry for entry in self._settings}
        self._state: State | None = None
        self._reached = 0
        self._newest_at = 0
        """The latest time of any call so far."""
        self._due = [one for one in self.adjustments[1:] if _is_event(one, history.voided)]
        self._events: list[ChartEvent] = []

    def sweep(self, plan: _Plan) -> Any:
        """Read all there is; gives the `Sweep`, or None where it is not asked for."""
        history, found = self._history, None
        own = Candidate(self._rule, self._alpha)
        if "sweep" in plan.kinds:
            candidates = [Candidate(*one) for one in product(NEWEST_RULES, ALPHAS)]
            tried = candidates if own in candidates else [*candidates, own]
            count = history.count_counting(self._through)
            named = own.rule.version, own.alpha
            if count > WARM_UP:
                figures = sweep_history(
                    self,
                    tried,
                    self._through,
                    warm_up=WARM_UP,
                    window=plan.window,
                    start=how_to_run({one.rule for one in tried}, count, len(tried), plan.calls),
                )
                figures = [*figures[: len(candidates)], figures[tried.index(own)]]
                found = ranked(self.model, candidates, figures, named, WARM_UP)
            else:
                found = Sweep(self.model, WARM_UP, (), score_of(*named, None))
        if self.looks or "coefficients" in plan.kinds:
            after = max(self._reached, self._settings[0].seq)
            due = [entry for entry in self._settings if entry.seq > after]
            for start, end, _ in stretches(due, after, self._through):
                for _page in self.columns(start, end, history.voided):
                    pass
        return found

    def columns(self, after: int, through: int, voided: Ranges = ()) -> Iterator[Columns]:
        """See `replay.History`; on the way, everything else looks at the pages, too."""
        entry = self._by_seq.get(after)
        if entry is not None:
            self._begin(entry)
        for rows in self._history.rows(after, through, voided):
            with damage_told(self.model):
                columns = self._look(rows)
            self._reached = rows[-1][0]
            if self._progress is not None:
                self._progress(len(rows))
            if columns is not None:
                yield columns
        self._reached = through

    def _look(self, rows: Sequence[Any]) -> Columns | None:
        """Show a page to everything; gives what a rule learns of it."""
        seqs, called_at, *_, outcomes = zip(*rows, strict=True)
        self._place_events(seqs, called_at)
        self._newest_at = max(self._newest_at, *called_at)
        if outcomes.count(None) == len(outcomes):
            learnt = rows
        else:
            for seq, *_, outcome in rows:
                if outcome not in OUTCOMES:
                    raise damaged(self.model, f"entry {seq!r} ended as {outcome!r}")
            learnt = [row for row in rows if row[-1] is None]
            given_up = self._calls([row for row in rows if row[-1] is not None])
            for look in self.looks.values():
                look.add_timeouts(given_up)
        if not learnt:
            return None
        calls = self._calls(learnt)
        for look in self.looks.values():
            look.add(calls)
        _, *columns, _, _ = zip(*learnt, strict=True)
        page = Columns(*columns)
        self._learn(page)
        return page

    def _calls(self, rows: Sequence[Any]) -> Calls:
        """Those of the window."""
        if self._window is not None:
            rows = [*compress(rows, self._window.holds([row[1] for row in rows]))]
        _, *columns, _ = [*zip(*rows, strict=True)] or [()] * 7
        return Calls(*columns)

    def _begin(self, entry: Adjustment) -> None:
        with damage_told(self.model):
            self._state = State.from_snapshot(entry.snapshot, self._rule, self._alpha)
        self._note(self._newest_at or entry.recorded_at)

    def _note(self, at: int) -> None:
        if self._state is not None and (self._window is None or all(self._window.holds([at]))):
            self.path.note(at, self._state.numbers)

    def _learn(self, page: Columns) -> None:
        """Learn a page under the live rule and alpha, and note the coefficients now and then."""
        start, end = 0, len(page.actual_ms)
        while self._state is not None and start < end:
            stop = min(end, start + self.path.left)
            try:
                self._state.learn(
                    page.called_at[start:stop],
                    page.prompt_tokens[start:stop],
                    page.completion_tokens[start:stop],
                    page.actual_ms[start:stop],
                )
            except NotFiniteError:
                self._state = None
                return
            self.path.left -= stop - start
            start = stop
            if not self.path.left:
                self.path.left = self.path.stride
                self._note(page.called_at[stop - 1])

    # -- what changed the calibration -------------------------------------------------------

    def _place_events(self, seqs: Sequence[int], called_at: Sequence[int]) -> None:
        """Place the adjustments that lie before the end of a page."""
        if not self._due or self._due[0].seq > seqs[-1]:
            return
        newest = [*accumulate(called_at, max, initial=self._newest_at)]
        while self._due and self._due[0].seq <= seqs[-1]:
            entry = self._due.pop(0)
            place = bisect_right(seqs, entry.seq)
            self._place(entry, newest[place], called_at[place])

    def _place(self, entry: Adjustment, before: int, after: int) -> None:
        """Between the calls before and behind it, where the two times allow it."""
        at = max(before, min(entry.recorded_at, after)) if before else after
        text = event_text(entry)
        if self._window is None or all(self._window.holds([at])):
            self._events.append(ChartEvent(at / SECOND_US, entry.kind, text))

    def events(self) -> tuple[ChartEvent, ...]:
        """What changed the calibration in the window, and the drift of now, by time."""
        if self._newest_at:
            for entry in self._due:
                if self._window is None or self._window.until is None:
                    self._place(entry, self._newest_at, self._newest_at)
        self._due = []
        found = [*self._events, *self._drift()]
        return joined(sorted(found, key=lambda one: one.x))

    def _drift(self) -> list[ChartEvent]:
        try:
            found = drift_of_model(self._history)
        except (LedgerCorruptError, NotFiniteError):
            return []  # what else there is to show stays
        if found.drift is None or found.first_at is None:
            return []
        at = round(found.first_at.timestamp() * SECOND_US)
        if self._window is not None and not all(self._window.holds([at])):
            return []
        text = (
            f"Since {moment(at)} (#{found.first_seq}), calls take {number(found.drift.factor)} "
            f"times as long as before."
        )
        return [ChartEvent(at / SECOND_US, "drift", text)]


def _is_event(entry: Adjustment, voided: Ranges) -> bool:
    return entry.kind != "opened" and not covers(voided, entry.seq)


_WHAT = {
    "reset": "Reset to a prior",
    "recalibrated": "Recalibrated",
    "imported": "Calibration imported",
    "archived": "Archived",
}


def event_text(entry: Adjustment) -> str:
    """A sentence about an adjustment."""
    when = f"on {moment(entry.recorded_at)} (#{entry.seq})"
    if entry.kind == "voided":
        ranges = voids_ranges(entry.voids)
        n = sum(last - first + 1 for first, last in ranges)
        which = "1 entry" if n == 1 else f"{n:,} entries"
        why = f": {entry.note}" if entry.note else ""
        return f"Voided {which} {when}{why}."
    named = f" to {entry.rule} with alpha {entry.alpha:g}"
    return f"{_WHAT[entry.kind]}{named if entry.kind == 'recalibrated' else ''} {when}."


def joined(events: Sequence[ChartEvent]) -> tuple[ChartEvent, ...]:
    """The events, with neighbours of one kind as one where there are too many."""
    if len(events) <= EVENTS:
        return tuple(events)
    size = -(-len(events) // EVENTS)
    found = []
    for kind in sorted({one.kind for one in events}):
        same = [one for one in events if one.kind == kind]
        for i in range(0, len(same), size):
            group = same[i : i + size]
            more = f" And {counted(len(group) - 1, 'other')} {kind} near it." * (len(group) > 1)
            found.append(ChartEvent(group[0].x, kind, f"{group[0].text}{more}"))
    return tuple(sorted(found, key=lambda one: one.x))


# -- the ranges of forecasts ----------------------------------------------------------------


def _ranges(ledger: Ledger, plan: _Plan, history: ModelHistory) -> RangesLook:
    """Forecast the newest calls again, each before it is learnt."""
    look, window = RangesLook(), plan.window or Window(None, None)
    last = min(FORECASTS, max(FORECASTS_LEAST, FORECASTS_IN_ALL // plan.models))
    after = max(history.archived, history.nth_newest(last, window) - 1)
    through = history.live.last_seq
    if plan.window is not None:
        through = history.last_scored(window)
        after = max(after, min(through, history.first_scored(window) - 1))
    due = [entry for entry in history.adjustments if entry.seq > after]
    for start, end, _ in stretches(due, after, through):
        moments = Moments(ledger, history)
        for rows in history.observed(start, end):
            with damage_told(history.model):
                for row in rows:
                    if not history.is_voided(row[0]) and all(window.holds([row[1]])):
                        _forecast(row, moments, look)
                    moments.take(row)
    return look


def _forecast(row: Any, moments: Moments, look: RangesLook) -> None:
    seq, called_at, prompt, completion, actual, _, outcome = row
    if outcome is not None:
        look.timeouts += 1
        return
    try:
        basis = moments.before(seq)
        known, unknown = basis.known(prompt, completion), basis.unknown(prompt, None)
        quantiles = quantiles_of(known), quantiles_of(unknown)
    except NotFiniteError:
        look.unforecast += 1
        return
    look.add(called_at, actual, known.factor, *quantiles)


# -- all models -----------------------------------------------------------------------------


def _models_chart(
    ledger: Ledger, forecasts: Forecasts, since: datetime | None, until: datetime | None
) -> Chart:
    """Every model's forecast for the prompt that the newest calls have."""
    lives = sorted(ledger.models(), key=lambda live: -live.snapshot.sample_count)
    bases, unread = [], 0
    for live in lives[:MODELS]:
        try:
            basis = forecasts.basis(live.model, as_of=until)
        except (HistoryArchivedError, NotFiniteError):
            unread += 1
            continue
        if basis.count and (since is None or (basis.newest_at and basis.newest_at >= since)):
            bases.append(basis)
    prompts = sorted(call.prompt_tokens for basis in bases for call in basis.calls)
    prompt = prompts[len(prompts) // 2] if prompts else 0
    found = sorted(
        (forecast_of(basis, prompt, None, None) for basis in bases), key=lambda one: one.median_ms
    )
    notes = f"{counted(unread, 'model')} cannot be forecast." if unread else ""
    return models_chart(found, prompt, max(0, len(lives) - MODELS), notes)
