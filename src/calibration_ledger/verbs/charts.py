"""Charts: what the ledger knows of a model, as few points to draw.

All kinds of a model's charts come from one read of its history: each page is shown to what looks at
the calls, and learnt under every candidate of the sweep, the live rule and alpha among them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import accumulate, chain, compress, product
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from calibration_ledger.core.binned import SECOND_US, Calls
from calibration_ledger.core.charts import Chart, ChartEvent, ChartKind
from calibration_ledger.core.coverage import quantiles_of
from calibration_ledger.core.entries import OUTCOMES
from calibration_ledger.core.history import covers, left_of, setting, stretches, voids_ranges
from calibration_ledger.core.looks import (
    MODELS,
    SAMPLES,
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
    off_in_time,
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
from calibration_ledger.fast import how_to_look
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

FORECASTS = 1_000
"""The newest calls that are forecast again: each takes a third of a millisecond."""

FORECASTS_LEAST, FORECASTS_IN_ALL = 40, 2_000
"""Where a ledger has many models, each has its share of so many, and no fewer than the least."""

EVENTS = 40
"""Events at the most; of more, those of one kind that are neighbours become one."""


SHORTEST, LONGEST = 8_192, 65_536
"""Calls that are looked at together; see `fast.runs`."""


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
    sweep = reading.sweep()
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
            rule = stored_rule(snapshot.rule)
            found.append(reading.path.chart(subject, rule, snapshot.alpha))
        elif kind == "ranges":
            found.append(_ranges(ledger, plan, history, reading.before_ranges).chart(subject))
        else:
            assert sweep is not None  # noqa: S101 - it was asked for
            found.append(sweep_chart(subject, sweep))
    return found


class _Held:
    """Pages of calls that are shown together."""

    def __init__(self) -> None:
        self.count = 0
        self.learnt: list[Calls] = []
        self.given_up: list[Calls] = []


class _Reading:
    """The one read of a model's history: a `replay.History` that shows its pages to the looks.

    Attributes:
        looks: what looks at the calls in the window, by kind.
        path: the coefficients under the live rule and alpha.
        before_ranges: the live calibration before the first call whose forecast is looked at, as
            it was then; None where this reading does not tell it.
    """

    def __init__(self, history: ModelHistory, plan: _Plan) -> None:
        """Nothing is read yet."""
        self.model = history.model
        self.adjustments: Sequence[Adjustment] = history.adjustments
        self._off = off_in_time()
        every: dict[ChartKind, Look] = {
            "actual": ActualLook(self._off),
            "error": ErrorLook(self._off),
            "tokens": TokensLook(),
            "speed": SpeedLook(),
        }
        self.looks = {kind: look for kind, look in every.items() if kind in plan.kinds}
        self._history, self._plan, self._window = history, plan, plan.window
        live = history.live
        self._through = live.last_seq
        if plan.window is not None:
            self._through = history.last_scored(plan.window)
        self._own = Candidate(stored_rule(live.snapshot.rule), live.snapshot.alpha)
        self._candidates = [Candidate(*one) for one in product(NEWEST_RULES, ALPHAS)]
        self._tried = [*dict.fromkeys([*self._candidates, self._own])]
        self._count = history.count_counting(self._through)
        self.path = Path(1 if plan.window is not None else max(1, self._count // SAMPLES))
        self._tools = how_to_look(
            {one.rule for one in self._tried}, self._count, len(self._tried), plan.calls
        )
        with damage_told(self.model):
            self._settings = setting(history.adjustments, history.voided)
            if not self._settings:
                raise TypeError("no opening is left")
            self._mark = self._ranges_after() if "ranges" in plan.kinds else 0
        self.before_ranges: State | None = None
        self._by_seq = {entry.seq: entry for entry in self._settings}
        self._state: State | None = None
        self._reached, self._bunch = 0, SHORTEST
        self._newest_at = 0
        """The latest time of any call so far."""
        self._noted_until = 0
        """When the last call was made that the path does not end with; 0 where it does."""
        self._due = deque(one for one in self.adjustments[1:] if _is_event(one, history.voided))
        self._events: list[ChartEvent] = []

    def _ranges_after(self) -> int:
        """The entry behind which forecasts are looked at, if the state there is that of a replay.

        It is where the rule was the live one, and no call is voided since it was set.
        """
        after, _ = ranges_ends(self._plan, self._history)
        found = [entry for entry in self.adjustments if entry.seq <= after]
        if not found or (found[-1].rule, found[-1].alpha) != (
            self._own.rule.version,
            self._own.alpha,
        ):
            return 0
        is_same = [*left_of(self._history.voided, found[-1].seq, after)] == [(found[-1].seq, after)]
        return after if is_same else 0

    def sweep(self) -> Sweep | None:
        """Read all there is; gives the sweep where it is asked for."""
        found, named = None, (self._own.rule.version, self._own.alpha)
        if "sweep" in self._plan.kinds and self._count > WARM_UP:
            figures = sweep_history(
                self,
                self._tried,
                self._through,
                warm_up=WARM_UP,
                window=self._window,
                start=self._tools.start,
            )
            figures = [
                *figures[: len(self._candidates)],
                figures[self._tried.index(self._own)],
            ]
            found = ranked(self.model, self._candidates, figures, named, WARM_UP)
        elif "sweep" in self._plan.kinds:
            found = Sweep(self.model, WARM_UP, (), score_of(*named, None))
        if self.looks or "coefficients" in self._plan.kinds:
            after = max(self._reached, self._settings[0].seq)
            due = [entry for entry in self._settings if entry.seq > after]
            for start, end, _ in stretches(due, after, self._through):
                for _page in self.columns(start, end, self._history.voided):
                    pass
        if self._noted_until:
            self._note(self._noted_until)
        return found

    def columns(self, after: int, through: int, voided: Ranges = ()) -> Iterator[Columns]:
        """See `replay.History`; on the way, everything else looks at the pages, too."""
        entry = self._by_seq.get(after)
        if entry is not None:
            self._begin(entry)
        held = _Held()
        for page in self._history.rows(after, through, voided):
            for rows in self._cut(page):
                with damage_told(self.model):
                    self._part(rows, held)
                is_mark = self._reached < self._mark <= rows[-1][0]
                self._reached = rows[-1][0]
                if held.count >= self._bunch or is_mark:
                    yield from self._shown(held)
                    held = _Held()
                    self._bunch = min(3 * self._bunch // 2, LONGEST)
                if is_mark and self._state is not None:
                    self.before_ranges = self._state.copy()
            if self._plan.progress is not None:
                self._plan.progress(len(page))
        yield from self._shown(held)
        self._reached = through

    def _cut(self, rows: Sequence[Any]) -> list[Sequence[Any]]:
        """A page in two, where the mark lies in it."""
        if not rows[0][0] <= self._mark < rows[-1][0]:
            return [rows]
        place = bisect_right(rows, self._mark, key=lambda row: row[0])
        return [rows[:place], rows[place:]]

    def _part(self, rows: Sequence[Any], held: _Held) -> None:
        """Hold the calls of a page: those that a rule learns, and those that were given up."""
        if self._due and self._due[0].seq <= rows[-1][0]:
            self._place_events(rows)
        _, *columns, outcomes = zip(*rows, strict=True)
        calls = self._tools.calls.of(columns)
        self._newest_at = max(self._newest_at, calls.latest())
        held.count += len(calls)
        if outcomes.count(None) == len(outcomes):
            held.learnt.append(calls)
            return
        for seq, *_, outcome in rows:
            if outcome not in OUTCOMES:
                raise damaged(self.model, f"entry {seq!r} ended as {outcome!r}")
        held.learnt.append(calls.where([outcome is None for outcome in outcomes]))
        held.given_up.append(calls.where([outcome is not None for outcome in outcomes]))

    def _shown(self, held: _Held) -> Iterator[Columns]:
        """Show calls to all that look at them; gives what a rule learns of them."""
        with damage_told(self.model):
            if held.given_up:
                given_up = self._within(self._tools.calls.joined(held.given_up))
                for look in self.looks.values():
                    look.add_timeouts(given_up)
            calls = self._tools.calls.joined(held.learnt) if held.learnt else ()
            if not calls:
                return
            page = Columns(*calls.columns()[:4])
            self._learn(page)
            within = self._within(calls)
            if {"actual", "error"} & self.looks.keys():
                self._off.add(within)
            for look in self.looks.values():
                look.add(within)
        yield page

    def _within(self, calls: Calls) -> Calls:
        return calls if self._window is None else calls.within(self._window)

    def _begin(self, entry: Adjustment) -> None:
        with damage_told(self.model):
            state = State.from_snapshot(entry.snapshot, *self._own)
        self._state = self._tools.state(state)
        if self._newest_at:
            self._note(self._newest_at)

    def _note(self, at: int) -> None:
        if self._state is not None and (self._window is None or all(self._window.holds([at]))):
            self.path.note(at, self._state.numbers)

    def _learn(self, page: Columns) -> None:
        """Learn a page under the live rule and alpha, and note the coefficients now and then."""
        start = 0
        if not self.path.points:  # what the model started from; it may be opened by a late import
            self._note(int(page.called_at[0]))
        for stop in chain(self._stops(page), [len(page.actual_ms)]):
            if self._state is None or start == stop:
                return
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
            start = stop

    def _stops(self, page: Columns) -> Iterator[int]:
        """Behind which calls of a page the coefficients are noted: some of those in the window."""
        places: Sequence[int] = range(len(page.actual_ms))
        if self._window is not None:
            places = [*compress(places, self._window.holds(page.called_at))]
        at = 0
        while at + self.path.left <= len(places):
            at += self.path.left
            yield places[at - 1] + 1
            self._noted_until = 0
            self._note(int(page.called_at[places[at - 1]]))
        self.path.left -= len(places) - at
        if len(places) > at:
            self._noted_until = int(page.called_at[places[-1]])

    # -- what changed the calibration -------------------------------------------------------

    def _place_events(self, rows: Sequence[Any]) -> None:
        """Place the adjustments that lie before the end of a page."""
        seqs, called_at, *_ = zip(*rows, strict=True)
        newest = [*accumulate(called_at, max, initial=self._newest_at)]
        while self._due and self._due[0].seq <= seqs[-1]:
            entry = self._due.popleft()
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
        self._due.clear()
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


def ranges_ends(plan: _Plan, history: ModelHistory) -> tuple[int, int]:
    """The entry before the first call whose forecast is looked at, and the last such call."""
    window = plan.window or Window(None, None)
    last = min(FORECASTS, max(FORECASTS_LEAST, FORECASTS_IN_ALL // plan.models))
    through = history.live.last_seq
    after = max(history.archived, history.nth_newest(last, window) - 1)
    if plan.window is not None:
        through = history.last_scored(window)
        after = max(after, min(through, history.first_scored(window) - 1))
    return after, through


def _ranges(ledger: Ledger, plan: _Plan, history: ModelHistory, before: State | None) -> RangesLook:
    """Forecast the newest calls again, each before it is learnt.

    `before` is the live calibration before the first of them, where it is known.
    """
    look, window = RangesLook(), plan.window or Window(None, None)
    after, through = ranges_ends(plan, history)
    due = [entry for entry in history.adjustments if entry.seq > after]
    for start, end, _ in stretches(due, after, through):
        moments = Moments(ledger, history, before if start == after else None)
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
    bases, unread, silent = [], 0, 0
    for live in lives[:MODELS]:
        try:
            basis = forecasts.basis(live.model, as_of=until)
        except (HistoryArchivedError, NotFiniteError):
            unread += 1
            continue
        if basis.newest_at is None or (since is not None and basis.newest_at < since):
            silent += 1
        else:
            bases.append(basis)
    prompts = sorted(call.prompt_tokens for basis in bases for call in basis.calls)
    prompt = prompts[len(prompts) // 2] if prompts else 0
    found = sorted(
        (forecast_of(basis, prompt, None, None) for basis in bases), key=lambda one: one.median_ms
    )
    notes = [
        f"{counted(n, 'model')} {why}."
        for n, why in ((silent, "without calls to go by"), (unread, "that cannot be forecast"))
        if n
    ]
    return models_chart(found, prompt, max(0, len(lives) - MODELS), " ".join(notes))
