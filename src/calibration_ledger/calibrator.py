"""`AdaptiveCalibrator`, the library's front door.

A method checks its input, then runs one transaction, or reads; SQL, arithmetic and file formats
live elsewhere.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, cast, get_args

from calibration_ledger.core.doubt import looks_usual
from calibration_ledger.core.html import Rows
from calibration_ledger.core.priors import check_prior, checked_prior, default_prior
from calibration_ledger.core.replay import Window
from calibration_ledger.core.settings import rule_of_new
from calibration_ledger.core.state import calibration_of
from calibration_ledger.core.validation import (
    check_alpha,
    check_durability,
    check_model,
    check_new_model,
    check_path,
    check_seconds,
    check_tokens,
)
from calibration_ledger.core.values import (
    Call,
    CostPrediction,
    ExportKind,
    Figures,
    ImportKind,
    ModelCalibration,
    RecordedCall,
    confidence_of,
    finite_prediction,
)
from calibration_ledger.errors import (
    IMPOSSIBLE,
    InvalidInputError,
    LedgerClosedError,
    NotCopiableError,
    RemovedParameterError,
    damaged,
    impossible,
    shown,
)
from calibration_ledger.rules import find_rule
from calibration_ledger.storage.engines import distribute, open_beside, open_ledger
from calibration_ledger.storage.place import find_place
from calibration_ledger.verbs import audit, calls, drift, rank, replay, stats, sweep, void
from calibration_ledger.verbs.doubt import (
    Recent,
    refuse_doubtful,
    warn_of_doubtful,
    warn_of_similar,
)
from calibration_ledger.verbs.forecast import Forecasts
from calibration_ledger.verbs.progress import TimedProgress
from calibration_ledger.verbs.record import (
    Start,
    Writer,
    checked_call,
    checked_calls,
    new_call,
    now_us,
    record_batches,
    reset_models,
    write_calls,
)
from calibration_ledger.verbs.recorder import SIZE, Recorder, Source, close_all
from calibration_ledger.verbs.rule import default_rule, set_default_rule
from calibration_ledger.verbs.sweep import WARM_UP
from calibration_ledger.verbs.timed import Timed, TimedCalls
from calibration_ledger.verbs.top import LIMIT, Tops

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO, Self, TextIO

    from calibration_ledger.core.charts import Chart, ChartKind
    from calibration_ledger.core.coverage import ForecastReplay
    from calibration_ledger.core.drift import ModelDrift
    from calibration_ledger.core.facts import Diagnosis
    from calibration_ledger.core.forecast import Forecast
    from calibration_ledger.core.rank import RankBy
    from calibration_ledger.core.replay import Progress
    from calibration_ledger.core.top import Top, TopBy
    from calibration_ledger.core.validation import Durability
    from calibration_ledger.core.values import (
        Alias,
        AliasReport,
        ArchiveReport,
        DefaultRule,
        Distribution,
        ExportReport,
        Finding,
        Head,
        ImportReport,
        LogEntry,
        ModelStats,
        Outcome,
        PeriodStats,
        Replay,
        Suggestion,
        Sweep,
        Voiding,
    )
    from calibration_ledger.formats.base import Format
    from calibration_ledger.formats.frame import FrameLibrary
    from calibration_ledger.rules import Rule
    from calibration_ledger.rules.base import RuleName
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.void import Seqs


# -- parameters that were removed, and arguments that are easily swapped -------------------

Given = ParamSpec("Given")

_REMOVED = {
    "autosave": (
        "autosave= is gone: every record() is saved, in one transaction. For speed at the price "
        "of the last calls in a power cut, pass durability='normal'."
    ),
    "state_path": (
        "state_path= is gone: pass the ledger's path as the first argument, and take the old JSON "
        "file in once with `calib import state FILE`."
    ),
}


def refusing_removed(init: Callable[Given, None]) -> Callable[Given, None]:
    """Let `init` say what replaced a parameter that was removed.

    A wrapper leaves the signature as it is. With `**removed` in it, type checkers would let every
    misspelt keyword pass.
    """

    @wraps(init)
    def checked(*arguments: Given.args, **keywords: Given.kwargs) -> None:
        for name in keywords:
            if name in _REMOVED:
                raise RemovedParameterError(_REMOVED[name])
        init(*arguments, **keywords)

    return checked


_UNCLEAR = 4
"""So many arguments by position are a model, its prompt tokens, and two more numbers."""


def refusing_fourth(record: Callable[Given, float]) -> Callable[Given, float]:
    """Let `record` refuse the completion tokens by position.

    `predict` and `Call` have them before the milliseconds, `record` has them after, and both are
    numbers: a call in the other order would be recorded, and learnt. Type checkers see from the
    signature that they go by keyword; Python's own error would not say what is the matter.
    """

    @wraps(record)
    def checked(*arguments: Given.args, **keywords: Given.kwargs) -> float:
        if len(arguments) > _UNCLEAR:
            _, *start, third, fourth = map(shown, arguments[: 1 + _UNCLEAR])
            named = ", ".join(start)
            raise InvalidInputError(
                f"record() takes the milliseconds before the completion tokens, and by position "
                f"they are easily swapped: name both. Write record({named}, actual_ms={third}, "
                f"completion_tokens={fourth}) or record({named}, completion_tokens={third}, "
                f"actual_ms={fourth}), whichever is meant."
            )
        return record(*arguments, **keywords)

    return checked


def _start_of(
    prior: Callable[[str], tuple[float, float, float]],
    rule: Rule | None,
    alpha: float | None,
    model: str,
) -> Start:
    """What a calibrator opens a model with: its prior, rule and alpha."""
    return Start(model, checked_prior(prior, model), now_us(), rule, alpha)


# -- the front door -------------------------------------------------------------------------

_TIMEOUT_MAX_S = 86_400

EXPORT_KINDS: tuple[ExportKind, ...] = get_args(ExportKind)


class AdaptiveCalibrator:
    """Predicts how long calls of language models take, and learns from each that was observed.

    Safe to share between threads, and to keep over a fork. Other processes may use the same
    ledger at the same time. A ledger that does not exist yet is empty; the first write makes it.
    """

    @refusing_removed
    def __init__(
        self,
        ledger: str | os.PathLike[str] | None = None,
        alpha: float | None = None,
        *,
        rule: RuleName | None = None,
        prior: Callable[[str], tuple[float, float, float]] | None = None,
        durability: Durability = "full",
        timeout_s: float = 30.0,
    ) -> None:
        """Open a ledger. Nothing is created or changed before the first write.

        Args:
            ledger: a path, a URL or `":memory:"`; None: `$CALIBRATION_LEDGER`, else `ledger.db`
                in the user's data folder.
            alpha: the speed of adaptation in (0, 1] of models that this calibrator opens or resets;
                None: the ledger's (see `default_rule`), or where `rule` is another, that rule's
                own, which is 0.15 for `ema` and 0.01 for `kalman`.
            rule: the learning rule of models that this calibrator opens or resets, such as
                `kalman`; None: the ledger's, which is `ema` in a fresh one.
            prior: from a model's name to (ms per prompt token, ms per completion token, base ms);
                None: the built-in priors.
            durability: with `"full"`, recorded calls survive a power cut; with `"normal"`, they
                survive a crash of the program only, and recording is several times as fast.
            timeout_s: how long a write waits for other writers, in seconds.

        Raises:
            InvalidInputError: an argument is not what it must be.
            RemovedParameterError: `autosave` or `state_path`, which the predecessor took.
            LedgerError: what lies at the path cannot be used as a ledger.
        """
        self._rule = None if rule is None else find_rule(rule)
        self._alpha = None if alpha is None else check_alpha(alpha)
        check_durability(durability)
        self._timeout_s = check_seconds("timeout_s", timeout_s, _TIMEOUT_MAX_S)
        self._prior = default_prior if prior is None else check_prior(prior)
        self._ledger = open_ledger(find_place(ledger), durability, self._timeout_s)
        self._is_closed = False
        # None of these knows the calibrator: one that is dropped closes its files at once.
        self._opening = partial(_start_of, self._prior, self._rule, self._alpha)
        self._write = Writer(self._ledger, self._opening).write
        self._timed_calls = TimedCalls(self._ledger, self._write)
        self._recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()
        self._forecasts = Forecasts(self._ledger, partial(checked_prior, self._prior))
        self._tops = Tops(self._ledger, self._forecasts)

    @property
    def alpha(self) -> float:
        """The speed of adaptation of models that this calibrator opens or resets.

        What it was not given, it reads from the ledger each time.
        """
        return self._rule_of_new()[1]

    @property
    def rule(self) -> RuleName:
        """The version of the learning rule of models that this calibrator opens or resets.

        What it was not given, it reads from the ledger each time.
        """
        version, _ = self._rule_of_new()
        return cast("RuleName", version)  # a newer program may have set one of its own

    def _rule_of_new(self) -> tuple[str, float]:
        is_told = self._rule is not None and self._alpha is not None
        setting = None if is_told else self._ledger.newest_setting()
        return rule_of_new(setting, self._rule, self._alpha)

    @property
    def ledger(self) -> str:
        """The ledger's path or URL, with a password hidden."""
        return self._ledger.shown

    def __repr__(self) -> str:
        """The ledger, and the alpha and rule that it was given: it does not read for that."""
        rule = None if self._rule is None else self._rule.version
        return f"AdaptiveCalibrator({self.ledger!r}, alpha={self._alpha!r}, rule={rule!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled: connections and locks belong to one process.

        Raises:
            NotCopiableError: always.
        """
        raise NotCopiableError(
            f"a calibrator cannot be copied or pickled, for it holds connections and locks: share "
            f"this one (threads may, and a fork keeps it), or open another on its ledger, "
            f"{self.ledger}, where it is needed."
        )

    # -- predict and record -----------------------------------------------------------------

    def predict(self, model: str, prompt_tokens: int, completion_tokens: int = 0) -> CostPrediction:
        """Predict a call from the newest committed state. Writes nothing.

        Args:
            model: the model's name; one never seen is predicted from its prior.
            prompt_tokens: the tokens that go in.
            completion_tokens: the tokens expected to come out.

        Raises:
            InvalidInputError: the name or a token count is not what it must be.
            NotFiniteError: an absurd call was learnt, and the prediction would be infinite: reset
                the model.
            LedgerError: the ledger cannot be read.
        """
        model = check_model(model)
        prompt_tokens = check_tokens("prompt_tokens", prompt_tokens)
        completion_tokens = check_tokens("completion_tokens", completion_tokens)
        model, coefficients, sample_count = self._ledger.coefficients(model)
        if coefficients is None:
            coefficients = checked_prior(self._prior, model)
        try:
            predicted_ms = finite_prediction(model, coefficients, prompt_tokens, completion_tokens)
            confidence = confidence_of(sample_count)
            if sample_count < 0:
                raise damaged(model, f"the calibration counts {sample_count} calls")
        except IMPOSSIBLE as error:
            raise impossible(model, error) from error
        return CostPrediction(
            model,
            prompt_tokens,
            completion_tokens,
            predicted_ms,
            confidence,
            sample_count,
            datetime.now(UTC),
        )

    def forecast(
        self,
        model: str,
        prompt_tokens: int,
        completion_tokens: int | None = None,
        *,
        max_tokens: int | None = None,
        as_of: datetime | None = None,
    ) -> Forecast:
        """Forecast how long a call may take, by how far the newest calls were off. Writes nothing.

        The prediction under it is that of the rule `kalman`, whatever rule is live.

        Args:
            model: the model's name; one never seen is forecast from its prior.
            prompt_tokens: the tokens that go in.
            completion_tokens: the tokens that come out; None: not known, and as in the newest
                calls.
            max_tokens: the most that may come out; None: no bound.
            as_of: forecast from the entries before the first that was made then or later; None:
                from all.

        Raises:
            InvalidInputError: an argument is not what it must be.
            NotFiniteError: an absurd call is among the newest: void it, or reset the model.
            LedgerError: the ledger cannot be read.
        """
        return self._forecasts.forecast(
            model, prompt_tokens, completion_tokens, max_tokens=max_tokens, as_of=as_of
        )

    def forecast_ttft(
        self, model: str, prompt_tokens: int, *, as_of: datetime | None = None
    ) -> Forecast:
        """Forecast the time to the first token, from the calls whose details hold `ttft_ms`.

        Args and errors as for `forecast`. Without such calls, its status is `no history`.
        """
        return self._forecasts.forecast_ttft(model, prompt_tokens, as_of=as_of)

    def rank(
        self,
        prompt_tokens: int,
        models: Iterable[str] | None = None,
        *,
        completion_tokens: int | Mapping[str, int] | None = None,
        max_tokens: int | None = None,
        by: RankBy = "mean",
    ) -> list[Forecast]:
        """The forecasts of several models for one call, the soonest first. Writes nothing.

        Models without history come last, in the order in which they were given: their prior says
        nothing of their speed.

        Args:
            prompt_tokens: the tokens that go in.
            models: their names; None: all of the ledger.
            completion_tokens: the tokens that come out, of all, or of each by its name; None, and
                of those that the mapping does not name: not known, and as in their newest calls.
            max_tokens: the most that may come out; None: no bound.
            by: `"mean"`, the expected time, which makes the total of many calls the least;
                `"median"`; or a level such as 0.95, the time that so many of the calls keep.

        Raises:
            InvalidInputError: an argument is not what it must be.
            NotFiniteError: an absurd call is among the newest: void it, or reset its model.
            LedgerError: the ledger cannot be read.
        """
        found = rank.rank(
            self._forecasts,
            prompt_tokens,
            models,
            completion_tokens=completion_tokens,
            max_tokens=max_tokens,
            by=by,
        )
        return Rows(found)

    def soonest(
        self,
        prompt_tokens: int,
        models: Iterable[str] | None = None,
        *,
        completion_tokens: int | Mapping[str, int] | None = None,
        max_tokens: int | None = None,
        by: RankBy = "mean",
        deadline_ms: float | None = None,
        chance: float = 0.9,
        explore: float = 0.0,
        seed: int | str | None = None,
    ) -> Forecast:
        """The forecast of the model that answers soonest, or soonest within a deadline.

        Who only ever calls the soonest never hears that another has become sooner: `explore=0.05`
        takes another one in one of 20 calls, by lot. There, a model with fewer than 6 calls has ten
        lots. Where no model has history, one of them is drawn. With a deadline, only models that
        keep it are drawn.

        Args:
            prompt_tokens: as for `rank`, and so are the next four.
            models: their names; None: all of the ledger.
            completion_tokens: the tokens that come out.
            max_tokens: the most that may come out.
            by: what the soonest is chosen by.
            deadline_ms: choose among the models alone that are over within so many ms.
            chance: with at least this chance.
            explore: the share of calls that go to another model.
            seed: what the lot is drawn from, together with the prompt length and the models' names
                and numbers of calls: the same of all gives the same model. Pass the request's id,
                and each request draws a lot of its own, which can be drawn again. None: by chance.

        Raises:
            NoHistoryError: none of the models has history, and nothing is explored.
            DeadlineError: none with history keeps the deadline with that chance.
            InvalidInputError: an argument is not what it must be.
            NotFiniteError: an absurd call is among the newest: void it, or reset its model.
            LedgerError: the ledger cannot be read.
        """
        return rank.soonest(
            self._forecasts,
            prompt_tokens,
            models,
            completion_tokens=completion_tokens,
            max_tokens=max_tokens,
            by=by,
            deadline_ms=deadline_ms,
            chance=chance,
            explore=explore,
            seed=seed,
        )

    @refusing_fourth
    def record(
        self,
        model: str,
        prompt_tokens: int,
        actual_ms: float,
        *,
        completion_tokens: int = 0,
        request_id: str | None = None,
        called_at: datetime | None = None,
        details: Mapping[str, Any] | None = None,
        outcome: Outcome = "ok",
        strict: bool = False,
    ) -> float:
        """Record an observed call and learn from it, in one transaction.

        Args:
            model: the model's name, without blanks at its edges and control characters.
            prompt_tokens: the tokens that went in.
            actual_ms: the measured wall-clock time in milliseconds.
            completion_tokens: the tokens that came out; by keyword.
            request_id: the caller's id for this call. Recording it again with the same numbers and
                outcome adds nothing and gives the first error, unless the call was archived since.
            called_at: when the call was made: its start, with a time zone; None: now.
            details: what else was measured, such as `{"ttft_ms": 80.5, "source": "proxy"}`: numbers
                and short texts, at most 4,096 bytes as JSON; no prompts and no responses.
            outcome: `timeout` for a call that was given up after `actual_ms`, so that it takes at
                least that long. It is kept, and no rule learns it. Its `completion_tokens` are
                those of its answer, as far as anybody knows; 0: not known.
            strict: refuse a call that looks wrong, instead of a warning. It looks wrong if it took
                0 ms though it has tokens, more than 24 h, or more than 2,000 times as long as any
                call of its model before, or if it was made more than a minute in the future (a
                time-out only then).

        Returns:
            The error in ms, which is actual minus predicted, before the call was learnt; of a
            time-out, the least that it is.

        Raises:
            InvalidInputError: an argument is not what it must be, or the request id was recorded
                with other numbers or outcome, or the calibration would not stay finite, or the call
                looks wrong, and `strict` refuses it.
            NotRecordedError: the write failed, and nothing was recorded.
            OutcomeUnknownError: the write failed, and it may have been recorded.
            LedgerError: the ledger cannot be used.

        Warns:
            DoubtfulCallWarning: the call was recorded, and looks wrong.
            SimilarNameWarning: the model is new, and there is one whose name differs only in case.
        """
        call = new_call(
            prompt_tokens, completion_tokens, actual_ms, called_at, request_id, details, outcome
        )
        model = check_new_model(model)
        if strict:
            refuse_doubtful(self._ledger, [(model, call)], now_us())
        error_ms, seq, least_ms, is_new = self._write(model, call)
        if called_at is not None or not looks_usual(call.actual_ms, least_ms):
            warn_of_doubtful(self._ledger, [Recent(model, (call,), (seq,), least_ms)], now_us())
        if is_new:
            warn_of_similar(self._ledger, {model})
        return error_ms

    def record_once(self, call: Call, *, strict: bool = False) -> tuple[float, bool]:
        """Record a call as `record` does, and say whether it is new.

        Returns:
            The error in ms, and whether the call was added. It was not if its request id was
            there already, with the same numbers.

        Raises what `record` raises.
        """
        recorded = self.record_call(call, strict=strict)
        return recorded.error_ms, recorded.is_new

    def record_call(self, call: Call, *, strict: bool = False) -> RecordedCall:
        """Record a call as `record` does, and give the number of its entry, too.

        Raises what `record` raises.
        """
        model, new = checked_call(call)
        if strict:
            refuse_doubtful(self._ledger, [(model, new)], now_us())
        recorded = write_calls(self._ledger, self._opening, {model: (new,)})[model]
        if recorded.added:
            recent = Recent(model, (new,), recorded.seqs, recorded.least_ms)
            warn_of_doubtful(self._ledger, [recent], now_us())
        if recorded.is_new:
            warn_of_similar(self._ledger, {model})
        return RecordedCall(recorded.errors_ms[0], recorded.seqs[0], recorded.added == 1)

    def record_many(
        self, calls: Iterable[Call | Mapping[str, Any]], *, strict: bool = False
    ) -> list[float]:
        """Record calls in order, all of them checked first, in transactions of at most 1,000.

        Args:
            calls: `Call`s, or mappings with their fields; `completion_tokens` may be left out for
                0, and `seq`, `predicted_ms` and `voided` are ignored.
            strict: refuse them all if one looks wrong; see `record`.

        Returns:
            Their errors in ms, in order; see `record`.

        Raises:
            InvalidInputError: as for `record`; names the call by its place, from 1.
            RequestConflictError, NotFiniteError, LedgerError: its transaction is undone whole; of
                those before, `recorded` is how many calls stay, `errors_ms` are their errors.
        """
        return record_batches(self._ledger, self._opening, checked_calls(calls), strict=strict)

    def timed(
        self,
        model: str | None = None,
        prompt_tokens: int | None = None,
        *,
        on_error: OnError = "warn",
    ) -> Timed:
        """Measure how long a block or a function takes, and record that as a call.

        In `with calibrator.timed("phi4") as call:`, the block runs the model and sets
        `call.answer` to what its client gave, or the tokens itself; see `TimedCall`. A stream is
        passed through `call.stream(chunks)`. `async with` records in a thread. As a decorator, it
        takes what the function returns for the answer, and what a generator yields for its stream.

        After an exception nothing is recorded, unless the block has set `call.outcome` to
        `timeout`. What was not recorded is counted in `skipped`.

        Args:
            model: the name that is asked for; None: to be set inside, or the one that the answer
                names.
            prompt_tokens: the tokens that go in; None: to be set inside, or what the answer says.
            on_error: what becomes of a call that cannot be recorded, because something is missing,
                or wrong, or because the ledger cannot take it. `"warn"`: the first of a kind is a
                `NotRecordedWarning`, and nothing is raised, whatever the filters of warnings say.
                `"raise"`: the error is raised at the end of the block. A function: it is called
                with each error.

        Raises:
            InvalidInputError: an argument is not what it must be. The block has not run yet.
        """
        return Timed(self._timed_calls, model, prompt_tokens, on_error)

    def progress(
        self,
        model: str | None = None,
        prompt_tokens: int | None = None,
        *,
        max_tokens: int | None = None,
        on_error: OnError = "warn",
    ) -> Timed:
        """`timed` with a bar on the terminal: how long the call takes, and how much longer.

        In `with calibrator.progress("phi4", prompt_tokens=12) as call:`, a bar on stderr moves by
        itself while the block waits, by the forecast of the call. `call.tokens(n)` says how many
        completion tokens have come so far; a stream that is passed through `call.stream(chunks)`
        says so by itself. A call without a forecast has the time that went by. At the end, the bar
        is gone, and the call is recorded as `timed` does.

        Nothing is shown where stderr is no terminal, or one without control codes (TERM=dumb), and
        in a fork of a process with a bar. The bar takes rich, the extra `terminal`: without it, a
        warning says so once. Its errors are nobody's: they end the bar.

        Args:
            model: as for `timed`, and so is `on_error`.
            prompt_tokens: as for `timed`; the forecast is for so many.
            max_tokens: the most that may come out; None: no bound.
            on_error: what becomes of a call that cannot be recorded.

        Raises:
            InvalidInputError: an argument is not what it must be. The block has not run yet.
        """
        calls, forecast = self._timed_calls, self._forecasts.forecast
        return TimedProgress(calls, model, prompt_tokens, on_error, forecast, max_tokens)

    @property
    def skipped(self) -> Mapping[str, int]:
        """How many calls `timed` did not record, by reason, in this process.

        The reasons are those of answers (`unknown tokens`, `incomplete` ...), how blocks ended
        (`failed`, `timeout`, `cancelled`, `left early`), `refused` for what was wrong, and `ledger
        failed`. A recorder counts its own.
        """
        return self._timed_calls.skipped

    def recorder(self, *, size: int = SIZE, on_error: OnError = "warn") -> Recorder:
        """Record calls without waiting for the ledger: a queue, and a thread that empties it.

        Args:
            size: the most calls that wait; further ones are dropped, and counted.
            on_error: what becomes of errors, none of which reaches `put()`. `"warn"`: the first of
                a kind is a `NotRecordedWarning`, the others are counted. `"raise"`: `flush()` and
                `close()` raise the first one. A function: it is called with each, in the recorder's
                thread. A `DoubtfulCallWarning` of a call that was recorded goes the same way.

        Raises:
            InvalidInputError: an argument is not what it must be.
            LedgerClosedError: the calibrator was closed.
        """
        if self._is_closed:
            raise LedgerClosedError(f"this calibrator of {self.ledger} is closed: open one.")
        source = Source(open_beside, self._ledger, self._opening, self._timeout_s)
        made = Recorder(source, size, on_error)
        self._recorders.add(made)
        return made

    # -- the live state ---------------------------------------------------------------------

    def calibration(self, model: str) -> ModelCalibration:
        """The whole state of a model, unrounded; of a model never seen, its prior."""
        live = self._ledger.find(model := check_model(model))
        if live is not None:
            return calibration_of(live.model, live.snapshot)
        model = self._ledger.name_of(model)
        prior = checked_prior(self._prior, model)
        return ModelCalibration(model, *self._rule_of_new(), *prior)

    def get_stats(self, model: str, *, rounded: bool = True) -> ModelStats:
        """A model's figures, as `ModelStats` defines them; only four of them at 0 calls.

        Args:
            model: the model's name; one never seen has 0 calls.
            rounded: False gives every digit.
        """
        live = self._ledger.find(model := check_model(model))
        if live is None:
            found = self.calibration(model).stats(rounded=rounded)
        else:
            [found] = stats.stats_of(self._ledger, self._forecasts, [live], rounded=rounded)
        return cast("ModelStats", Figures(found))

    def all_stats(self, *, uncalibrated: bool = False, rounded: bool = True) -> list[ModelStats]:
        """The figures of every model that learnt from a call, sorted by model.

        Args:
            uncalibrated: also those of the models with 0 calls, such as after a reset.
            rounded: as for `get_stats`.
        """
        lives = [
            live for live in self._ledger.models() if uncalibrated or live.snapshot.sample_count
        ]
        found = stats.stats_of(self._ledger, self._forecasts, lives, rounded=rounded)
        return Rows(cast("ModelStats", Figures(one)) for one in found)

    def stats(
        self,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        by_day: bool = False,
        progress: Progress | None = None,
    ) -> list[PeriodStats]:
        """The calls of a stretch of time in figures, or of each day of it.

        What a model has learnt by now is in `get_stats`. Memory does not grow with the calls.

        Args:
            model: only this one.
            since: only calls made at this time or later.
            until: only calls made before this time.
            by_day: a `PeriodStats` for each day (UTC), instead of one for all of the time.
            progress: called with the number of calls read since the last time.

        Returns:
            The figures, sorted by model, then day. Where a model has no calls, there are none.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
            NotFiniteError: as for `forecast`.
            LedgerError: the ledger cannot be read.
        """
        found = stats.stats_of_periods(
            self._ledger,
            self._forecasts,
            model,
            since=since,
            until=until,
            by_day=by_day,
            progress=progress,
        )
        return Rows(found)

    def drift(self, model: str | Iterable[str] | None = None) -> list[ModelDrift]:
        """Whether models have lately become slower or faster. Changes nothing.

        The newest 200 calls are looked at: what they took over what is predicted of their tokens
        now. A change is told where its calls stand out by more than chance allows, and by 15 % or
        more; until some hundred calls have come since. See `core.drift` for the method.

        Args:
            model: only this one, or only these.

        Returns:
            One `ModelDrift` for each model, sorted by model.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
            NotFiniteError: as for `forecast`.
            LedgerError: the ledger cannot be read.
        """
        return Rows(drift.drift(self._ledger, model))

    def top(
        self,
        model: str | Iterable[str] | None = None,
        *,
        limit: int = LIMIT,
        by: TopBy = "newest",
    ) -> Top:
        """The models in use and the newest calls of them all, as `calib top` shows them.

        Cheap enough to be asked for every second: what has not changed is not read again. A ledger
        that is not there yet has none.

        Args:
            model: only this one, or only these; None: the 100 that were called last.
            limit: how many calls, from 0 to 1,000.
            by: what the models are sorted by: `"newest"` call, `"model"`, which is their name, or
                the largest of `"calls"`, `"rate"`, `"error"`, `"drift"` and `"forecast"`.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
            LedgerError: the ledger cannot be read.
        """
        return self._tops.top(model, limit=limit, by=by)

    def reset(self, model: str | None = None) -> None:
        """Set one model, or all, back to this calibrator's prior, rule and alpha.

        Where this calibrator was given no rule or alpha, they are the ledger's (see
        `default_rule`). History stays. For a model never seen nothing happens.

        Raises:
            InvalidInputError: the model is no name, such as "": only None means all.
            StoredRuleError: the ledger's rule is one that this program does not know.
        """
        if model is None:
            reset_models(self._ledger, self._opening, None)
            return
        live = self._ledger.find(check_model(model))
        if live is not None:
            reset_models(self._ledger, self._opening, live.model)

    # -- what new models learn by -----------------------------------------------------------

    def default_rule(self) -> DefaultRule:
        """The rule and alpha of models that are opened from now on, as the ledger says.

        A fresh ledger, and one that is not there yet, say `ema` at 0.15. What a calibrator is
        given itself goes before it: see `rule` and `alpha`.

        Raises:
            LedgerCorruptError: the settings of the ledger were damaged.
        """
        return default_rule(self._ledger)

    def set_default_rule(self, rule: RuleName | None, alpha: float | None = None) -> DefaultRule:
        """Set the rule and alpha of models that are opened, or reset, from now on.

        Every program on the ledger follows, the command and imports too, unless it names a rule
        itself. Models with history keep theirs (see `recalibrate`). It is an entry of the ledger's
        own history, which `audit` checks; to set what is set already adds none.

        Args:
            rule: the rule, such as `kalman`; None: the ledger's stays.
            alpha: its speed of adaptation in (0, 1]; None: the rule's own.

        Returns:
            What is in force now, with its history.

        Raises:
            InvalidInputError: there is no such rule or alpha, or neither is given.
            StoredRuleError: only an alpha is given, for a rule that this program does not know.
            LedgerError: as for `record`.
        """
        return set_default_rule(self._ledger, rule, alpha)

    # -- other names of models ----------------------------------------------------------------

    def alias(
        self,
        name: str,
        model: str | None,
        *,
        merge: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> AliasReport:
        """Let a name stand for a model, wherever it is given from now on: here, and in imports.

        It is an entry of the ledger's own history, which `audit` checks. What the name has stood
        for before, and its own calls, stay in the history.

        A merge voids those calls of the model that are newer than the first of the name, and
        learns them anew together with the name's, in the order of their times, under the model's
        rule: all in one transaction. The name's own entries stay as they are, and count no more.

        Args:
            name: the name. One that has a history of its own must be merged.
            model: the model, or another alias of it; one never seen is opened by its first call.
                None: the name is its own again. What came of a merge is voided; the calls that
                were recorded under the name since stay with the model.
            merge: take the calls of the name into the model, if there are any.
            dry_run: only say what would change.
            progress: called with the number of calls done since the last time.

        Returns:
            An `AliasReport`.

        Raises:
            AliasRefusedError: the name has a history of its own, or is what other names stand for,
                or stands for itself; or it is to be removed, and is none.
            RequestConflictError: a call of the model would count again whose request id another
                one has by now.
            HistoryArchivedError: entries of either were archived: bring them back first.
            InvalidInputError: an argument is not what it must be.
            LedgerError: as for `record`.
        """
        from calibration_ledger.verbs.alias import alias

        return alias(
            self._ledger,
            self._opening,
            name,
            model,
            merge=merge,
            dry_run=dry_run,
            progress=progress,
        )

    def aliases(self) -> list[Alias]:
        """The names that stand for models, sorted. A ledger that is not there yet has none.

        Raises:
            LedgerCorruptError: the settings of the ledger were damaged.
        """
        from calibration_ledger.verbs.alias import aliases

        return aliases(self._ledger)

    # -- the whole history --------------------------------------------------------------------

    def check_exists(self, model: str | None = None) -> None:
        """Raise an error if there is no ledger yet, or nothing of a model in it.

        `audit`, `replay`, `recalibrate`, `backup` and `export_ledger` do so, too: with a mistyped
        path, an empty result would look as if all were well. To `calls`, `heads`, `all_stats` and
        predictions, a missing ledger is an empty one. A ledger in memory always exists.

        Args:
            model: the model of which there must be an entry; None: the ledger alone.

        Raises:
            LedgerNotFoundError: there is no ledger, and none was made.
            ModelNotFoundError: the ledger has no entry of this model; names the nearest it has.
        """
        if model is None:
            self._ledger.check_exists()
        else:
            self._ledger.models(model, must_exist=True)

    def calls(
        self,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
        limit: int | None = None,
        by_time: bool = False,
    ) -> Iterator[Call]:
        """The calls as they were recorded, by model, then seq; read in pages.

        A ledger that is not there yet has none. By time, calls that were made at the same moment
        come by model, then seq; what is held meanwhile is bounded, however many calls there are.

        Args:
            model: only this one's.
            since: only calls made at this time or later.
            until: only calls made before this time.
            last: only this many of each model's newest by seq.
            limit: only this many of the newest of all by time; so many are held in memory.
            by_time: in the order in which they were made, over all models, the newest last.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
        """
        return calls.iterate_calls(
            self._ledger,
            model,
            since=since,
            until=until,
            last=last,
            limit=limit,
            by_time=by_time,
        )

    def follow(
        self,
        model: str | None = None,
        *,
        since: datetime | None = None,
        last: int | None = None,
        limit: int | None = None,
    ) -> Iterator[Call]:
        """Each call that is recorded from now on, by whichever process, within half a second.

        It has no end: leave the loop. First come those that are there already, by time, if any are
        asked for; none is left out in between, and none comes twice. A moment in which others hold
        the ledger does not end it.

        Args:
            model: only this one's.
            since: first the calls made at this time or later.
            last: first this many of each model's newest by seq.
            limit: first this many of the newest of all by time.

        Raises:
            LedgerNotFoundError: there is no ledger.
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
        """
        return calls.follow(self._ledger, model, since=since, last=last, limit=limit)

    def frame(
        self,
        what: Literal["calls"] | Iterable[object] = "calls",
        *,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
        library: FrameLibrary | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """The calls as a data frame of pandas or Polars; or what another method gave.

        Of `"calls"`, the rows are those of `calls`, in its order, and the numbers are the same to
        the bit. The columns are `model`, `seq`, `called_at` (with the time zone UTC),
        `prompt_tokens`, `completion_tokens`, `actual_ms`, `predicted_ms`, `error_ms`, `outcome`,
        `voided`, `request_id` and `details`, which are JSON.

        Of values, such as those of `stats`, `replay`, `drift` or `heads`, each is a row, and of a
        `Sweep` each of its scores; the columns are those of `--format csv`. Of a `Chart`, each of
        its points is a row.

        Args:
            what: `"calls"`, or values that another method gave.
            model: only this one's calls.
            since: only calls made at this time or later.
            until: only calls made before this time.
            last: only this many of each model's newest calls.
            library: `pandas` or `polars`; None: the first of these that is installed.
            progress: called with the number of calls read since the last time.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be, or neither library is installed.
            LedgerError: the ledger cannot be read.
        """
        from calibration_ledger.verbs import frame

        chosen = {"model": model, "since": since, "until": until, "last": last}
        if not isinstance(what, str) and isinstance(what, Iterable):
            given = [name for name, value in chosen.items() if value is not None]
            if given:
                raise InvalidInputError(
                    f"{given[0]} chooses among calls, and these are values: leave it out."
                )
            return frame.frame_of_values(what, library)
        if what != "calls":
            raise InvalidInputError(
                f'what must be "calls", or a list of values, not {shown(what)}.'
            )
        return frame.frame_of_calls(
            self._ledger,
            model,
            since=since,
            until=until,
            last=last,
            library=library,
            progress=progress,
        )

    def replay(
        self,
        alpha: float | None = None,
        rule: RuleName | None = None,
        *,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Progress | None = None,
    ) -> list[Replay]:
        """Fold the history again under another alpha or rule; changes nothing.

        Args:
            alpha: the speed to try; None: each model's live one, or where the rule is another, that
                rule's own, which is 0.15 for `ema` and 0.01 for `kalman`.
            rule: the rule to try, such as `kalman`; None: each model's live one.
            model: only this one.
            since: score only calls made at this time or later.
            until: score only calls made before this time. All calls up to the last scored one
                are learnt, whatever their time.
            progress: called with the number of calls done since the last time.

        Returns:
            One `Replay` for each model, sorted by model.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
            ModelNotFoundError: the ledger has no entry of this model.
            NotFiniteError: a calibration would not stay finite under this alpha.
            InvalidInputError: an argument is not what it must be.
        """
        found = replay.replay(
            self._ledger, alpha, rule, model, since=since, until=until, progress=progress
        )
        return Rows(found)

    def replay_forecasts(
        self,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
        warm_up: int = WARM_UP,
        progress: Progress | None = None,
    ) -> list[ForecastReplay]:
        """How honest past forecasts were, as `calib replay --forecast` says; changes nothing.

        Each call is forecast before it is learnt, from the same calls and with the same numbers as
        `forecast(as_of=...)` of that moment gives, and held against what it then took. Voided calls
        are left out; those that were given up are counted, not scored.

        Args:
            model: only this one.
            since: score only calls made at this time or later.
            until: score only calls made before this time.
            last: score only so many of each model's newest calls.
            warm_up: how many of each model's first calls are learnt but not scored.
            progress: called with the number of calls done since the last time.

        Returns:
            One `ForecastReplay` for each model, sorted by model.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be.
            LedgerError: the ledger cannot be read.
        """
        from calibration_ledger.verbs.forecast_replay import replay_forecasts

        found = replay_forecasts(
            self._ledger,
            model,
            since=since,
            until=until,
            last=last,
            warm_up=warm_up,
            progress=progress,
        )
        return Rows(found)

    def sweep(
        self,
        alphas: Iterable[float] | None = None,
        rules: Iterable[RuleName] | RuleName | None = None,
        model: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        warm_up: int = WARM_UP,
        progress: Progress | None = None,
    ) -> list[Sweep]:
        """Replay under every rule with every alpha, and rank them; changes nothing.

        Args:
            alphas: the alphas to try; None: eleven from 0.001 to 0.5.
            rules: the rules to try, or one; None: all.
            model: only this one.
            since: score only calls made at this time or later; see `replay`.
            until: score only calls made before this time.
            warm_up: how many of each model's first calls are learnt but not scored.
            progress: called with the number of calls done since the last time.

        Returns:
            One `Sweep` for each model, sorted by model, and after them, if several were scored,
            one of all together (`.model` is None). A model with no more calls than the warm-up
            has no scores. `.better` is the winner where it is clearly better than the live one,
            by a paired test over the scored calls, and not by chance.

        Raises what `replay` raises; but a rule and alpha under which a calibration would not stay
        finite is only ranked last.
        """
        found = sweep.sweep(
            self._ledger,
            alphas,
            rules,
            model,
            since=since,
            until=until,
            warm_up=warm_up,
            progress=progress,
        )
        return Rows(found)

    def suggest(self, model: str | None = None) -> list[Suggestion]:
        """Where another rule or alpha would have predicted the newest calls clearly better.

        It looks at no more than 2,000 calls of a model; `sweep` looks at all of them.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
        """
        return sweep.suggest(self._ledger, model)

    def charts(
        self,
        model: str | None = None,
        kinds: Iterable[ChartKind] | ChartKind | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        progress: Progress | None = None,
    ) -> list[Chart]:
        """What there is to look at, as charts of few points; changes nothing, and draws nothing.

        A model's charts come from one read of its history. Voided calls do not count; those that
        were given up stand for themselves. What is drawn is the same for any length of the history:
        some hundred points or cells.

        Args:
            model: the model; None: the charts over all models.
            kinds: which charts, in this order, or one; None: `models` over all models, and of one
                model all others.
            since: only calls made at this time or later.
            until: only calls made before this time. The rules learn all calls up to there.
            progress: called with the number of calls read since the last time.

        Returns:
            One `Chart` for each kind. Where there is nothing to draw, it has no panels, and its
            text says why.

        Raises:
            LedgerNotFoundError: there is no ledger yet.
            ModelNotFoundError: the ledger has no entry of this model.
            InvalidInputError: an argument is not what it must be, or a kind is not of one model, or
                not of all.
            LedgerError: the ledger cannot be read.
        """
        from calibration_ledger.verbs.charts import charts

        found = charts(
            self._ledger,
            self._forecasts,
            model,
            kinds,
            since=since,
            until=until,
            progress=progress,
        )
        return Rows(found)

    def recalibrate(
        self,
        alpha: float | None = None,
        rule: RuleName | None = None,
        *,
        model: str | None = None,
        best: bool | Iterable[Sweep] = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> list[Replay]:
        """Adopt a rule and alpha: rebuild the live calibration by replay, as an adjustment.

        Every model is replayed before the first is changed: if one cannot be, all stay as they
        were. Then there is a transaction for each. A model that would not change gets no entry.

        Args:
            alpha: the alpha to adopt; None: as for `replay`.
            rule: the rule to adopt; None: each model keeps its own.
            model: only this one.
            best: True: each model adopts what `sweep` ranks first, if that is clearly better than
                its live rule and alpha (`Sweep.better`); with `rule`, only that is tried. Pass
                what `sweep` gave instead of True, to save a second sweep.
            dry_run: only say what would be adopted.
            progress: called with the number of calls done since the last time.

        Returns:
            The replays that were adopted, one for each model, sorted by model. With `best`, those
            of the models that have a better one.

        Raises what `replay` and `record` raise.
        """
        found = replay.recalibrate(
            self._ledger, alpha, rule, model, best=best, dry_run=dry_run, progress=progress
        )
        return Rows(found)

    def void(
        self,
        model: str | None,
        *,
        seq: Seqs | None = None,
        request_id: str | Iterable[str] | None = None,
        import_id: str | Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        last: int | None = None,
        note: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> list[Voiding]:
        """Void entries: rebuild the live calibration without them.

        They stay in the history, marked by `calls`, and nothing learns from them. A `voided`
        entry lists them; void that one, and they count again. A voided call gives its request id
        up, so that the id can be recorded anew. There is a transaction for each model.

        Args:
            model: the model's name. None is for `import_id` alone: all models of the import.
            seq: the number of an entry, a pair of the first and last of several, or a list of
                these. A reset or recalibration among them is undone; the first entry cannot be.
            request_id: the request id of a call, or several.
            import_id: the `import_id` of an `ImportReport`, or several.
            since: the calls made at this time or later. These three name the calls that
                `calls(model, since=since, until=until, last=last)` lists, and go together, but
                not with the three above. The adjustments between the calls stay.
            until: the calls made before this time.
            last: this many of the newest calls, voided ones included.
            note: the reason, which is stored with the entry.
            dry_run: only say what would change.
            progress: called with the number of calls replayed since the last time.

        Returns:
            One `Voiding` for each model, sorted by model.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            NoSuchEntryError: there is no such entry, request id, import, or call of that time.
            InvalidInputError: an argument is not what it must be, or an entry cannot be voided.
            RequestConflictError: a call would count again whose request id another one has by now.
            HistoryArchivedError: an entry was archived: bring it back first.
            LedgerError: as for `record`.
        """
        return void.void(
            self._ledger,
            model,
            seq=seq,
            request_id=request_id,
            import_id=import_id,
            window=Window.of(since, until),
            last=last,
            note=note,
            dry_run=dry_run,
            progress=progress,
        )

    def log(
        self,
        model: str | None = None,
        *,
        last: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[LogEntry]:
        """What happened to the ledger, other than calls, the newest last.

        Imports, resets, recalibrations, voidings with their notes, aliases, settings of the rule of
        new models, archives and upgrades. A ledger that is not there yet has none. Imports that
        came before the upgrade to revision 0007 were not noted.

        Args:
            model: only what concerns this model.
            last: only so many of the newest, 1 or more; None: all.
            since: only what happened at this time or later.
            until: only what happened before this time.

        Raises:
            InvalidInputError: an argument is not what it must be.
            ModelNotFoundError: the ledger has no entry of the model.
            LedgerCorruptError: the settings, the events or an adjustment were damaged.
        """
        from calibration_ledger.verbs.log import log

        return log(self._ledger, model, last=last, since=since, until=until)

    def heads(self) -> list[Head]:
        """The running digest of every model as it is now, to save and to audit against later.

        The first is that of the ledger's settings, under an empty name, if the rule of new models
        was ever set. A ledger that is not there yet has none.
        """
        return audit.heads(self._ledger)

    def audit(
        self,
        model: str | None = None,
        *,
        heads: Iterable[Head | tuple[str, int, str]] | None = None,
        progress: Progress | None = None,
    ) -> list[Finding]:
        """Check that history explains the calibrations, to the bit; empty when all is well.

        Args:
            model: only this one.
            heads: what `heads()` gave earlier, to find a history that was rewritten from end to
                end, or replaced by an archived entry. Heads that cannot be checked, because their
                entries were archived, are findings of the check `not checked`.
            progress: called with the number of calls done since the last time.

        Raises:
            LedgerNotFoundError: there is no ledger: the name is mistyped, or the ledger is gone.
            ModelNotFoundError: the ledger has no entry of this model.
        """
        return audit.audit(self._ledger, model, heads=heads, progress=progress)

    # -- moving, and the doctor ---------------------------------------------------------------

    @staticmethod
    def formats() -> tuple[Format, ...]:
        """What `import_calls` can read: our own formats, other tools', and those of third parties.

        One that cannot be used, because its package fails or its name is one of ours, says why in
        `trouble`.
        """
        from calibration_ledger.formats.registry import all_formats
        from calibration_ledger.formats.third_party import described

        return tuple(map(described, all_formats()))

    def import_calls(
        self,
        kind: ImportKind,
        source: str | os.PathLike[str] | TextIO | None = None,
        *,
        skip_bad: bool = False,
        strict: bool = False,
        model: str | None = None,
        dry_run: bool = False,
        map: Mapping[str, str] | Iterable[str] | None = None,  # noqa: A002 - as the command has it
        where: str | Iterable[str] | None = None,
        recipe: str | os.PathLike[str] | None = None,
        keep_rest: bool = False,
        replace: str | None = None,
        progress: Progress | None = None,
    ) -> ImportReport:
        """Import a file, as `calib import KIND FILE` does.

        The whole file is checked before anything is recorded; then it is recorded in transactions
        of at most 1,000 entries (`state`: in one). If that is interrupted, the same import adds
        the rest, and no call twice. The formats are in docs/import.md.

        Args:
            kind: the name of a format, one of `formats()`; or `auto`: it is told by how the file
                begins, and the report says which it is.
            source: a path, or an open file; None: the place where the format's tool keeps its file,
                for formats that have one.
            skip_bad: leave bad rows out and count them, instead of refusing the file; not for
                `ledger` and `state`.
            strict: take calls that look wrong for bad rows, instead of a warning (see `record`),
                and refuse a file whose `actual_ms` seems to be in another unit; likewise.
            model: the model of calls that name none; likewise.
            dry_run: record nothing, and make no ledger; `preview` of the report has what would be
                recorded; likewise.
            map: what a file of your own calls the columns of a call: `COLUMN=SOURCE`, such as
                `actual_ms=usage.took:s`, or the sources by column. This and the next three are for
                `jsonl`, `csv`, recipes and `auto`; docs/import.md has the language.
            where: conditions, such as `ok=true`: records that do not meet all are left out.
            recipe: the path of a stored map, or the name of a recipe of this package.
            keep_rest: keep what is unknown in the details of a call: numbers, booleans and short
                texts.
            replace: the id of an import whose place the file takes: its calls are voided before
                the file is recorded, and give their request ids up. If that is interrupted, the
                same import completes it. By itself an import is replaced by nothing: its calls
                stay. Likewise.
            progress: called with the number of steps since the last time: one for each line read,
                and one for each entry recorded.

        Raises:
            ImportRefusedError: the file is not what it should be, and nothing was recorded.
            NoSuchEntryError: there is no call of the import to replace.
            HistoryArchivedError: some of its calls were archived.
            InvalidInputError: an argument is not what it must be.
            LedgerError: as for `record`; calls of earlier transactions stay.

        Warns:
            DoubtfulCallWarning: something was recorded that looks wrong; see `doubtful` and
                `unit_doubt` of the report.
        """
        from calibration_ledger.formats.recipe import Given
        from calibration_ledger.verbs.import_calls import Wishes
        from calibration_ledger.verbs.import_file import import_of

        given = Given(map, where, recipe, keep_rest)
        wishes = Wishes(skip_bad, strict, model, dry_run, given, replace)
        named = self._rule, self._alpha
        choice = import_of(self._ledger, self._opening, named, kind, source, wishes, progress)
        with choice as work:
            return dataclasses.replace(work(), kind=kind)

    def export_ledger(
        self,
        kind: ExportKind,
        target: str | os.PathLike[str] | TextIO | BinaryIO,
        *,
        model: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        overwrite: bool = False,
        salvage: bool = False,
        progress: Progress | None = None,
    ) -> ExportReport:
        """Write the ledger to a file, as `calib export KIND FILE` does.

        Args:
            kind: `jsonl`: every entry with the heads, for `import_calls("ledger", ...)`; `csv`
                and `parquet` (which needs pyarrow, the extra `parquet`): the calls alone.
            target: a path, or an open file: of text, for `parquet` of bytes. The path exists only
                once the file is complete.
            model: only this one.
            since: only calls made then or later; of `csv` and `parquet`.
            until: only calls made before then.
            overwrite: replace a file that is at the path already, instead of refusing.
            salvage: of a damaged ledger, write the calls that can still be read (with `jsonl`
                too: for `import_calls("jsonl", ...)`); the report, a `SalvageReport`, has
                what is lost.
            progress: called with the number of entries written since the last time.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            LedgerNotFoundError: there is no ledger yet.
            InvalidInputError: there is something at the path already, or it cannot be written to;
                pyarrow is not installed; calls of a time are asked for as `jsonl`, or of what is
                to be salvaged.
        """
        from calibration_ledger.verbs import export

        if not isinstance(kind, str) or kind not in EXPORT_KINDS:
            kinds = ", ".join(EXPORT_KINDS)
            raise InvalidInputError(f"kind must be one of {kinds}, not {shown(kind)}.")
        if salvage:
            if since is not None or until is not None:
                raise InvalidInputError(
                    "what can still be read is salvaged whole: leave out since and until."
                )
            return export.salvage(
                self._ledger.place,
                kind,
                target,
                model=model,
                overwrite=overwrite,
                progress=progress,
            )
        return export.export(
            self._ledger,
            kind,
            target,
            model=model,
            since=since,
            until=until,
            overwrite=overwrite,
            progress=progress,
        )

    def doctor(self) -> Diagnosis:
        """Check the ledger's health and say what needs action, as `calib doctor` does.

        Changes nothing. For a ledger that cannot be opened, use `calib doctor`.

        Returns:
            A `Diagnosis`: `.facts`, `.advice` with the urgent first, and `.needs_action`.
        """
        from calibration_ledger.verbs.doctor import doctor

        return doctor(self._ledger)

    def archivable(self, before: datetime, *, model: str | None = None) -> ArchiveReport:
        """What `archive` would take out of the ledger. Changes nothing, and is quick.

        Returns:
            An `ArchiveReport` without a file; the heads in it are empty.

        Raises what `archive` raises.
        """
        from calibration_ledger.verbs.archive import archivable

        return archivable(self._ledger, before, model)

    def archive(
        self,
        before: datetime,
        target: str | os.PathLike[str],
        *,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> ArchiveReport:
        """Move the oldest entries to a file: the one way in which a ledger shrinks.

        From each model it takes the entries before the first one made at `before` or later (the
        time of its opening does not count), if there is a call among them. They are written to a
        file, which is read back and verified. Then, in one transaction, an `archived` entry
        replaces them, with the state after them. Predictions, `seq`, `heads()` and the audit go
        on; replays begin with that state. At the end, an SQLite file shrinks.

        `import_calls("ledger", target)` brings them back, the newest archive first. Until then the
        ledger does not know their request ids: a call recorded again counts as a new one. Heads
        that were saved of archived entries can no longer be audited here.

        Args:
            before: a time, with its zone.
            target: the path of a new file; compressed if it ends in `.gz`.
            model: only this one.
            progress: called with the number of steps since the last time: one for each entry
                written, and one for each call read back.

        Returns:
            An `ArchiveReport`. If there was nothing to archive, it has no models, and no file was
            made.

        Raises:
            ModelNotFoundError: the ledger has no entry of this model.
            LedgerNotFoundError: there is no ledger yet.
            InvalidInputError: an argument is not what it must be, or the path is taken.
            ExportFailedError: the file could not be written, or does not read back as it was.
            LedgerCorruptError: the history does not explain the calibrations; see `audit`.
            LedgerError: as for `record`; the error says whether the file stays.
        """
        from calibration_ledger.verbs.archive import archive

        return archive(self._ledger, before, target, model=model, progress=progress)

    def archived(self) -> list[Head]:
        """The newest archived entry, and the head after it, of each model that has one.

        The entries up to there are in archives; see `archive`.
        """
        return audit.archived(self._ledger)

    def backup(self, copy: str | os.PathLike[str]) -> Path:
        """Write a consistent copy of the ledger while others go on writing; gives its path.

        Raises:
            InvalidInputError: it is no path, or something is there already.
            LedgerNotFoundError: there is no ledger yet.
        """
        return self._ledger.backup(check_path("copy", copy))

    def distribute(self) -> Distribution:
        """Distribute the ledger over the machines of a Citus, as `calib db distribute` does.

        The models are divided among the machines, and all of one model lies together. It is one
        transaction, which lets nobody else in; a ledger that is not there yet is made first. What
        is distributed already stays as it is. Programs that use the ledger go on.

        Returns:
            A `Distribution`.

        Raises:
            InvalidInputError: the ledger is in a file or in memory.
            LedgerError: Citus, or its machines, or the tables are not as they must be. Nothing was
                changed.
            LedgerPermissionError: the tables are of another role.
            LedgerBusyError: others used the tables until the deadline.
        """
        return distribute(self._ledger.place, self._timeout_s)

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close its recorders, and every connection. Using the calibrator afterwards is an error.

        Raises:
            CalibrationLedgerError: what `Recorder.close` raises. All is closed nevertheless.
        """
        self._is_closed = True
        try:
            close_all(self._recorders)
        finally:
            self._timed_calls.end()
            self._ledger.close()

    def __enter__(self) -> Self:
        """`with AdaptiveCalibrator() as calibrator:` closes it at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
