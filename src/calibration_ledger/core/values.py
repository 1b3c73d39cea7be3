"""The frozen values that the library gives and takes; rows never leave the storage.

`to_dict()` gives a value as `--json` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    NoReturn,
    NotRequired,
    TypeAlias,
    TypedDict,
    cast,
    get_type_hints,
)

from calibration_ledger.core import text
from calibration_ledger.core.comparison import CHANCE_MOST
from calibration_ledger.core.html import Column, Tabular, table
from calibration_ledger.core.spark import spark
from calibration_ledger.core.validation import (
    TIME_LIMIT_US,
    check_alpha,
    check_model,
    check_text,
    check_time,
    check_tokens,
    iso_from_us,
)
from calibration_ledger.errors import InvalidInputError, NotFiniteError, shown
from calibration_ledger.rules import KNOWN_RULES
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from calibration_ledger.rules.base import RuleName


class Value:
    """What all frozen values share."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them: what `--json` prints."""
        return fields_of(self)

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        """The names in `to_dict()`, and the type of each."""
        return fields_and_types(cls)


def fields_and_types(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass, and the type of each."""
    hints = hints_of(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def hints_of(kind: type) -> dict[str, Any]:
    """The types that a class says its fields have."""
    # What modules import for the type checker alone; what of it has fields stands in this one.
    others = dict.fromkeys(("LostRange", "ModelDrift", "Reason", "RuleName"), Any)
    return get_type_hints(kind, localns={**globals(), **others})


def json_types(kind: type) -> dict[str, Any]:
    """The names in what JSON tells of such a value, and their types; none for a mere value."""
    if issubclass(kind, Value | Figures):
        return kind._json_types()  # noqa: SLF001 - a method for this function
    is_record = hasattr(kind, "__required_keys__") or hasattr(kind, "_fields")
    return hints_of(kind) if is_record else {}


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, as JSON can hold them."""
    return {one.name: as_json(getattr(value, one.name)) for one in fields(value)}


def as_json(value: Any) -> Any:
    """Any value of the library as JSON can hold it; a float that is not finite becomes None."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, ModelCalibration):  # its `to_dict` is what `from_dict` takes
        return {**fields_of(value), "last_updated": iso_from_seconds(value.last_updated)}
    to_dict = getattr(value, "to_dict", None) or getattr(value, "_asdict", None)
    if to_dict is not None:
        value = to_dict()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else str(value)


def iso(time: datetime) -> str:
    """A time for programs: UTC, to the microsecond."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def iso_from_seconds(seconds: float | None) -> str | None:
    """The same of seconds since the epoch, in which the library gives `last_updated`."""
    if seconds is None:
        return None
    # A float of seconds rounds the last microseconds of the year 9999 up to one that has no date.
    return iso_from_us(round(min(seconds * 1e6, TIME_LIMIT_US - 1)))


# -- what a model has learnt, and what it predicts ------------------------------------------

DEFAULT_ALPHA = 0.15
RULE_LENGTH_MAX = 64
WARM_UP_CALLS = 10
"""A model with fewer calls is warming up; this is also the scale of its confidence."""


def confidence_of(sample_count: int) -> float:
    """1 - exp(-n/10): 0 for a prior alone, 0.63 at 10 calls, 0.95 at 30."""
    return 1.0 - math.exp(-sample_count / WARM_UP_CALLS)


def finite_prediction(
    model: str, coefficients: Sequence[float], prompt_tokens: int, completion_tokens: int
) -> float:
    """What these coefficients predict, in ms.

    Raises:
        NotFiniteError: it is beyond all numbers.
    """
    predicted_ms = predict_ms(coefficients, prompt_tokens, completion_tokens)
    if not math.isfinite(predicted_ms):
        raise NotFiniteError(
            f"the model {model!r} predicts {predicted_ms!r} ms for {prompt_tokens} prompt tokens "
            f"and {completion_tokens} completion tokens: an absurd measurement was learnt, or its "
            f"prior is absurd. Reset the model; its history stays."
        )
    return predicted_ms


def status_of(sample_count: int) -> str:
    """One of three: a prior alone, warming up, calibrated."""
    if sample_count == 0:
        return "uncalibrated (prior only)"
    return "warming up" if sample_count < WARM_UP_CALLS else "calibrated"


CALIBRATED_BELOW_PERCENT = 30.0
"""A model is calibrated if half of its newest calls were predicted better than that."""


@dataclass(frozen=True, slots=True)
class NewestCalls:
    """How well the newest calls of a model were predicted; see `ModelStats`."""

    newest_calls: int | None = None
    mean_actual_ms: float | None = None
    median_absolute_percentage_error: float | None = None
    newest_errors_ms: tuple[float, ...] | None = None
    timeouts: int | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether there are enough of them, and they were predicted well."""
        error = self.median_absolute_percentage_error
        return (
            (self.newest_calls or 0) >= WARM_UP_CALLS
            and error is not None
            and error < CALIBRATED_BELOW_PERCENT
        )

    def stats(self, *, rounded: bool) -> dict[str, Any]:
        """These of the figures of `ModelStats`."""
        figures = {**fields_of(self), "is_calibrated": self.is_calibrated}
        for name in ("mean_actual_ms", "median_absolute_percentage_error"):
            if rounded and figures[name] is not None:
                figures[name] = round(figures[name], 1)
        if self.newest_errors_ms is not None:
            errors = self.newest_errors_ms
            figures["newest_errors_ms"] = [round(ms, 1) if rounded else ms for ms in errors]
        return figures


@dataclass(frozen=True, slots=True)
class Drift(Value):
    """A change of late.

    Attributes:
        since: how many of the newest calls came after it.
        factor: how many times as long they take as those before, of what is predicted.
    """

    since: int
    factor: float

    def __str__(self) -> str:
        """The change, for people."""
        return (
            f"the newest {self.since} calls took {self.factor:.2f} times as long as those before, "
            f"for the same tokens"
        )


class ModelStats(TypedDict):
    """The figures of one model; a model with 0 calls has only those that every one has.

    The newest calls, of which three figures tell, are the newest 100 that the ledger holds since
    the model was opened, a state of it was imported or it was reset. Voided calls are not among
    them, archived ones are not in the ledger any more, and time-outs are counted apart. The first
    calls of a model count like all others. A call's error is that of the prediction made before it
    was learnt, as `calls()` gives it; but calls from before the newest recalibration or voiding are
    held against the calibration that it set, because what had predicted them is gone.

    Attributes:
        model: the model's name.
        sample_count: how many calls were learnt from.
        confidence: from 0 (a prior alone) towards 1.
        ms_per_prompt_token: the first coefficient.
        ms_per_completion_token: the second.
        base_overhead_ms: the third.
        mean_absolute_error_ms: the mean of `|actual - predicted|` in ms.
        last_updated: when the last call that was learnt was made, in seconds since the epoch.
        rule: the version of the rule that it learns by, such as `ema.1`.
        alpha: the rule's speed of adaptation.
        newest_calls: how many the newest calls are; None where the ledger is damaged there.
        mean_actual_ms: the mean latency of the newest calls; None for none.
        median_absolute_percentage_error: half of the newest calls took at most this much more or
            less than predicted, in percent of what they took. The exact median; calls of 0 ms are
            left out; None for none.
        newest_errors_ms: the errors, actual - predicted in ms, of the newest 16 of them, the newest
            last; None where the ledger is damaged there.
        is_calibrated: whether that is below 30 %, and of 10 calls or more.
        timeouts: how many calls were given up, of all that the ledger holds since the model was
            opened, a state of it was imported or it was reset. They are in no other figure. A model
            with 0 calls has this one only if there are some.
        drift: how the model has changed of late, by its newest 200 calls; None if it has not, if
            there are fewer than 40, or if the ledger is damaged there.
        aliases: the other names of the model, sorted; only where there are some.
        clocks: which clocks measured the calls (`clock` in their details), most frequent first, and
            how many each; only where they are several, which biases what is learnt. At most 1,000
            entries are looked at since the model was opened or reset: the newest 500, and others
            spread over the history.
        status: how many calls were learnt, in words: `uncalibrated (prior only)`, `warming up`, or
            `calibrated` from 10 calls on, however well they were predicted. `calib stats` says
            `learning` instead where `is_calibrated` is false.
    """

    model: str
    rule: NotRequired[str]
    alpha: NotRequired[float]
    sample_count: int
    confidence: float
    ms_per_prompt_token: NotRequired[float]
    ms_per_completion_token: NotRequired[float]
    base_overhead_ms: NotRequired[float]
    mean_absolute_error_ms: NotRequired[float]
    last_updated: NotRequired[float | None]
    newest_calls: NotRequired[int | None]
    mean_actual_ms: NotRequired[float | None]
    median_absolute_percentage_error: NotRequired[float | None]
    newest_errors_ms: NotRequired[list[float] | None]
    is_calibrated: NotRequired[bool]
    aliases: NotRequired[list[str]]
    clocks: NotRequired[dict[str, int]]
    timeouts: NotRequired[int | None]
    drift: NotRequired[Drift | None]
    status: str


def standing_of(stats: ModelStats) -> str:
    """The status as people read it: `calibrated` only where the newest calls bear it out."""
    status = stats["status"]
    is_claim = stats["sample_count"] >= WARM_UP_CALLS
    return "learning" if is_claim and not stats.get("is_calibrated") else status


_OF_LEDGER = {*NewestCalls.__slots__, "aliases", "clocks", "is_calibrated", "drift"}
_OF_CALIBRATION = tuple(name for name in ModelStats.__annotations__ if name not in _OF_LEDGER)
_OF_EVERY_MODEL = ("model", "sample_count", "confidence", "status")

_DIGITS = {
    "confidence": 3,
    "ms_per_prompt_token": 4,
    "ms_per_completion_token": 4,
    "base_overhead_ms": 1,
    "mean_absolute_error_ms": 1,
}
"""What the figures of a model are rounded to; the others are whole, or as they are."""


MODEL = Column("model", lambda one: one.model, left=True)
_TYPICAL = Column("typically within", lambda one: text.within(one.median_absolute_percentage_error))


_COEFFICIENTS = (
    ("ms/prompt tok", "ms_per_prompt_token", 4),
    ("ms/compl tok", "ms_per_completion_token", 4),
    ("base ms", "base_overhead_ms", 1),
)
"""Title, name and decimals of each coefficient, as people read it."""


def coefficients(read: Callable[[str], Any], about: str = "≈") -> list[str]:
    """The three coefficients as people read them; `≈ 0` where one is on the floor of its rule.

    Args:
        read: gives a figure of a calibration by its name; None where it has none.
        about: see `text.coefficient`.
    """
    rule = KNOWN_RULES.get(read("rule")) if read("sample_count") else None
    floors = (None, None, None) if rule is None else rule.floors
    return [
        text.coefficient(read(name), floor, digits, about)
        for (_, name, digits), floor in zip(_COEFFICIENTS, floors, strict=True)
    ]


def _coefficient_columns(reader: Callable[[Any], Callable[[str], Any]]) -> list[Column]:
    """A column for each coefficient; `reader` gives what `coefficients` takes of a value."""

    def column(place: int, title: str) -> Column:
        return Column(title, lambda one: coefficients(reader(one))[place])

    return [column(place, title) for place, (title, _, _) in enumerate(_COEFFICIENTS)]


class Figures(dict[str, Any], Tabular):
    """The figures of a model: a dict, which a notebook shows as a table."""

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        return hints_of(ModelStats)

    @classmethod
    def _html_table(cls, values: Sequence[ModelStats]) -> str:
        """What each model has learnt."""
        columns = [
            Column("model", lambda one: one["model"], left=True),
            Column("calls", lambda one: str(one["sample_count"])),
            Column("rule", lambda one: one.get("rule", "-"), left=True),
            Column("alpha", lambda one: f"{one['alpha']:g}" if "alpha" in one else "-"),
            Column("confidence", lambda one: f"{one['confidence']:.2f}"),
            *_coefficient_columns(lambda one: one.get),
            Column("mean error ms", lambda one: text.number(one.get("mean_absolute_error_ms"))),
            Column("mean ms", lambda one: text.number(one.get("mean_actual_ms"))),
            Column(
                "typically within",
                lambda one: text.within(one.get("median_absolute_percentage_error")),
            ),
            Column("newest errors", lambda one: spark(one.get("newest_errors_ms") or ())),
            Column("time-outs", lambda one: str(one.get("timeouts") or 0)),
            Column("drift", lambda one: "-" if (found := one.get("drift")) is None else str(found)),
            Column("last updated", lambda one: text.time_of(one.get("last_updated")), left=True),
            Column("status", standing_of, left=True),
        ]
        caption = "What each model has learnt, and how well its newest 100 calls were predicted"
        return table(caption, columns, values)


@dataclass(frozen=True, slots=True)
class PeriodStats(Value, Tabular):
    """The calls of a model that were made on one day, or in any stretch of time.

    Voided calls are not among them, and time-outs are only counted. Medians are within 0.05 % of
    themselves.

    Attributes:
        model: the model's name.
        day: the day, in UTC; None for all of the stretch that was asked for.
        calls: how many calls there are.
        timeouts: how many more were given up.
        median_actual_ms: the median latency.
        mean_actual_ms: the mean latency.
        mean_absolute_error_ms: the mean of `|actual - predicted|`, each call as it was predicted
            before it was learnt.
        median_absolute_percentage_error: half of them took at most this much more or less than
            predicted, in percent of what they took; calls of 0 ms are left out; NaN for none.
        median_ratio: the median of what they took over what is predicted of their tokens *now*.
            Where it changes from day to day, the model has, whatever was asked of it.
    """

    model: str
    day: date | None
    calls: int
    timeouts: int
    median_actual_ms: float
    mean_actual_ms: float
    mean_absolute_error_ms: float
    median_absolute_percentage_error: float
    median_ratio: float

    @classmethod
    def _html_table(cls, values: Sequence[PeriodStats]) -> str:
        """The calls of each model and day."""
        columns = [
            MODEL,
            Column("day (UTC)", lambda one: "all" if one.day is None else str(one.day), left=True),
            Column("calls", lambda one: str(one.calls)),
            Column("time-outs", lambda one: str(one.timeouts)),
            Column("median ms", lambda one: text.number(one.median_actual_ms)),
            Column("mean ms", lambda one: text.number(one.mean_actual_ms)),
            Column("mean error ms", lambda one: text.number(one.mean_absolute_error_ms)),
            _TYPICAL,
            Column("to now", lambda one: text.times(one.median_ratio)),
        ]
        return table("Calls, each as it was predicted before it was learnt", columns, values)


@dataclass(frozen=True, slots=True)
class ModelCalibration(Value):
    """The whole state of one model, unrounded.

    Attributes:
        model: the model's name.
        rule: the version of the learning rule, such as `ema.1`.
        alpha: its speed of adaptation, in (0, 1].
        ms_per_prompt_token: the first coefficient.
        ms_per_completion_token: the second.
        base_overhead_ms: the third.
        sample_count: how many calls were learnt from.
        total_absolute_error_ms: the sum of `|actual - predicted|` over them.
        total_predicted_ms: the sum of their predictions.
        rule_state: whatever further numbers the rule keeps.
        last_updated: the called_at of the last call that was learnt, by the caller's clock, in
            seconds since the epoch; before that, when it was set; None for a mere prior.
    """

    model: str
    rule: str
    alpha: float
    ms_per_prompt_token: float
    ms_per_completion_token: float
    base_overhead_ms: float
    sample_count: int = 0
    total_absolute_error_ms: float = 0.0
    total_predicted_ms: float = 0.0
    rule_state: tuple[float, ...] = ()
    last_updated: float | None = None

    @property
    def confidence(self) -> float:
        """From 0 (a prior alone) towards 1."""
        return confidence_of(self.sample_count)

    @property
    def mean_absolute_error_ms(self) -> float:
        """The mean of `|actual - predicted|` in ms; not a number before the first call."""
        if self.sample_count == 0:
            return math.nan
        return self.total_absolute_error_ms / self.sample_count

    @property
    def status(self) -> str:
        """`uncalibrated (prior only)`, `warming up` or `calibrated`."""
        return status_of(self.sample_count)

    def predict(self, prompt_tokens: int, completion_tokens: int = 0) -> float:
        """The latency in ms that this state predicts.

        Raises:
            InvalidInputError: a token count is negative, fractional or 2**31 and above.
            NotFiniteError: the coefficients are too large to predict so many tokens.
        """
        return finite_prediction(
            self.model,
            (self.ms_per_prompt_token, self.ms_per_completion_token, self.base_overhead_ms),
            check_tokens("prompt_tokens", prompt_tokens),
            check_tokens("completion_tokens", completion_tokens),
        )

    def stats(self, *, rounded: bool = True) -> ModelStats:
        """Of the figures that `get_stats` gives, those that need no look at the calls."""
        names = _OF_CALIBRATION if self.sample_count else _OF_EVERY_MODEL
        figures = {name: getattr(self, name) for name in names}
        if rounded:
            for name in _DIGITS.keys() & names:
                figures[name] = round(figures[name], _DIGITS[name])
        return cast("ModelStats", figures)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as `from_dict` takes them; `--json` prints `last_updated` in ISO 8601."""
        return fields_of(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelCalibration:
        """The calibration that `to_dict` or `--json` wrote, or one of the predecessor's.

        Only `model` and the three coefficients must be there.

        Raises:
            InvalidInputError: a field is missing, unknown or not what it must be.
        """
        if not isinstance(data, Mapping):
            raise InvalidInputError(
                f"this is not a model's calibration: {shown(data)}. Pass a dict of its fields."
            )
        values = {"rule": "ema.1", "alpha": DEFAULT_ALPHA, **data}
        missing = [name for name in cls.__slots__[:6] if name not in values]
        unknown = sorted(map(str, set(data) - set(cls.__slots__)))
        faults = [f"it lacks {', '.join(missing)}"] if missing else []
        faults += [f"it has the unknown {', '.join(unknown)}"] if unknown else []
        if faults:
            raise InvalidInputError(f"this is not a model's calibration: {' and '.join(faults)}.")
        values["model"] = check_model(values["model"])
        values["alpha"] = check_alpha(values["alpha"])
        values["rule"] = check_text("rule", values["rule"], RULE_LENGTH_MAX)
        values["sample_count"] = _count(values.get("sample_count", 0))
        for name in _NUMBERS & values.keys():
            values[name] = _number(name, values[name])
        values["rule_state"] = _rule_state(values.get("rule_state", ()))
        values["last_updated"] = _seconds(values.get("last_updated"))
        return cls(**values)


_NUMBERS = {
    "ms_per_prompt_token",
    "ms_per_completion_token",
    "base_overhead_ms",
    "total_absolute_error_ms",
    "total_predicted_ms",
}


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        try:
            return check_time("last_updated", datetime.fromisoformat(value)) / 1e6
        except ValueError:  # no such text; InvalidInputError: it has no zone, say
            pass
    return None if value is None else _number("last_updated", value)


def _number(name: str, value: object, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInputError(f"{name} must be a number, not {shown(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < least:
        must = "finite" if least < 0.0 else "finite and not negative"
        raise InvalidInputError(f"{name} must be {must}, not {shown(value)}.")
    return number if least < 0.0 else number + 0.0


def _rule_state(value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidInputError(f"rule_state must be a list of numbers, not {shown(value)}.")
    return tuple(_number("rule_state", item, least=-math.inf) for item in value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise InvalidInputError(f"sample_count must be a whole number from 0, not {shown(value)}.")
    return value


@dataclass(frozen=True, slots=True, repr=False)
class CostPrediction(Value):
    """How long a call will probably take.

    Attributes:
        model: the model's name.
        prompt_tokens: the tokens that go in.
        completion_tokens: the tokens expected to come out.
        predicted_ms: the predicted wall-clock time in milliseconds.
        confidence: from 0 (a prior alone) towards 1; see `confidence_of`.
        sample_count: how many calls the prediction rests on.
        predicted_at: when the prediction was made (UTC).
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    predicted_ms: float
    confidence: float
    sample_count: int
    predicted_at: datetime

    def __repr__(self) -> str:
        """The fields that people look for."""
        return (
            f"CostPrediction(model={self.model!r}, prompt_tokens={self.prompt_tokens}, "
            f"predicted_ms={self.predicted_ms:.0f}, confidence={self.confidence:.2f}, "
            f"n={self.sample_count})"
        )


# -- what new models learn by ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleSetting(Value):
    """One time that the rule of new models was set.

    Attributes:
        seq: its number among the settings of the ledger.
        rule: the version of the rule, such as `ema.1`.
        alpha: its speed of adaptation.
        recorded_at: when it was set, with a time zone (UTC).
    """

    seq: int
    rule: str
    alpha: float
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class DefaultRule(Value):
    """The rule and alpha of models that are opened from now on, where a program names none.

    Attributes:
        rule: the version of the rule in force, such as `ema.1`.
        alpha: its speed of adaptation.
        since: since when, with a time zone (UTC); None if nothing was ever set.
        history: every time that it was set, in order; the last is in force.
    """

    rule: str
    alpha: float
    since: datetime | None = None
    history: tuple[RuleSetting, ...] = ()


# -- other names of models ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Alias(Value):
    """Another name of a model.

    Attributes:
        name: the name.
        model: the model that it stands for, wherever it is given.
        since: since when, with a time zone (UTC).
        seq: the number of the entry that says so, among the settings of the ledger.
        merged: the entries of the model that came of a merge, such as `2..80`; None for none.
    """

    name: str
    model: str
    since: datetime
    seq: int
    merged: str | None = None


@dataclass(frozen=True, slots=True)
class AliasReport(Value):
    """What `alias` did, or would do.

    Attributes:
        name: the name.
        model: the model that it stands for now; None: it is its own again.
        was: the model that it stood for before; None for none.
        seq: the number of the entry among the settings; None in a dry run, and where nothing
            changed.
        is_known: whether the model has history; if not, its first call opens it.
        copied: how many calls of the name a merge learnt anew under the model.
        moved: how many calls of the model it learnt anew, because they are newer than the first of
            the name.
        already: how many calls of the name it left out, because the model has them already.
        merged: the entries of the model that it appended, such as `2..80`; None for none, and in a
            dry run.
        undone: the entries of the model that stood for before that were voided, because they came
            of a merge; None for none.
        before: the calibration of the model that changed, as it was; None where none changed.
        calibration: the same as it is now.
    """

    name: str
    model: str | None
    was: str | None = None
    seq: int | None = None
    is_known: bool = True
    copied: int = 0
    moved: int = 0
    already: int = 0
    merged: str | None = None
    undone: str | None = None
    before: ModelCalibration | None = None
    calibration: ModelCalibration | None = None


# -- the calls, and their history -----------------------------------------------------------


Outcome = Literal["ok", "timeout"]
"""How a call ended."""


@dataclass(frozen=True, slots=True)
class Call(Value):
    """One observed inference: what `record_many` takes and `calls` gives.

    Attributes:
        model: the model's name.
        prompt_tokens: the tokens that went in.
        completion_tokens: the tokens that came out.
        actual_ms: the measured wall-clock time in milliseconds.
        called_at: when the call was made; with a time zone. None: now, when it is recorded.
        request_id: the caller's own name for this call; recording it twice adds it once.
        details: what else was measured, such as `{"ttft_ms": 80.5}`; one that was handed out is a
            dict that cannot be changed: `dict(call.details)` can.
        seq: the call's number among its model's entries; None before it is recorded.
        predicted_ms: what was predicted before it was learnt; None before it is recorded.
        voided: whether a later entry voids it: it stays, and nothing learns from it.
        outcome: how it ended: `ok`, or `timeout` for a call that was given up after `actual_ms`.
            Then it takes at least that long: no rule learns it, and `error_ms` is the least that
            its error is.
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    called_at: datetime | None = None
    request_id: str | None = None
    details: Mapping[str, Any] | None = field(default=None, hash=False)  # a plain dict has none
    seq: int | None = None
    predicted_ms: float | None = None
    voided: bool = False
    outcome: Outcome = "ok"

    @property
    def error_ms(self) -> float | None:
        """Actual minus predicted, in ms; None before the call is recorded."""
        return None if self.predicted_ms is None else self.actual_ms - self.predicted_ms

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the error, as JSON can hold them; what is absent is left out."""
        fields = {
            "model": self.model,
            "seq": self.seq,
            "called_at": None if self.called_at is None else iso(self.called_at),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "actual_ms": self.actual_ms,
            "predicted_ms": self.predicted_ms,
            "error_ms": self.error_ms,
            "outcome": None if self.outcome == "ok" else self.outcome,
            "request_id": self.request_id,
            "details": self.details,
            "voided": self.voided or None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        types = {**hints_of(cls), "error_ms": float | None}
        names = (
            *("model", "seq", "called_at", "prompt_tokens", "completion_tokens", "actual_ms"),
            *("predicted_ms", "error_ms", "outcome", "request_id", "details", "voided"),
        )
        return {name: types[name] for name in names}


@dataclass(frozen=True, slots=True)
class RecordedCall(Value):
    """What became of a call.

    Attributes:
        error_ms: actual minus predicted, in ms, before the call was learnt.
        seq: the number of the call's entry among its model's.
        is_new: whether it was added; not so if its request id was there already.
    """

    error_ms: float
    seq: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Voiding(Value):
    """What a voiding did to one model, or would do.

    Attributes:
        model: the model's name.
        seq: the number of the `voided` entry; None in a dry run, and where nothing changed.
        voids: the entries that it voids, such as `2..80,95`; empty if all were voided already.
        calls: how many of them are calls that counted before.
        adjustments: the other entries among them that counted before, as (seq, kind).
        before: the calibration before.
        calibration: the calibration without these entries.
    """

    model: str
    seq: int | None
    voids: str
    calls: int
    adjustments: tuple[tuple[int, str], ...]
    before: ModelCalibration
    calibration: ModelCalibration

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them, each adjustment with the names of its parts."""
        adjustments = [{"seq": seq, "kind": kind} for seq, kind in self.adjustments]
        return {**fields_of(self), "adjustments": adjustments}


class Head(NamedTuple):
    """The running digest over one model's entries, or over the ledger's settings, up to `seq`.

    Attributes:
        model: the model's name; empty for the settings of the ledger (see `DefaultRule`).
        seq: the number of the newest entry it covers.
        digest: SHA-256 as 64 hexadecimal digits.
        state: the digest of the calibration behind that entry, another 64 digits. Empty in heads
            that were noted before there was one: from those an audit cannot tell what an archived
            entry must set.
    """

    model: str
    seq: int
    digest: str
    state: str = ""

    @property
    def is_of_model(self) -> bool:
        """Whether it is a model's, not that of the ledger's settings."""
        return self.model != SETTINGS

    def to_dict(self) -> dict[str, Any]:
        """The fields by their names."""
        return self._asdict()


# -- what happened to a ledger --------------------------------------------------------------

LogKind: TypeAlias = Literal[
    "import",
    "imported",
    "upgrade",
    "rule",
    "alias",
    "reset",
    "recalibrated",
    "voided",
    "archived",
]


@dataclass(frozen=True, slots=True)
class LogEntry(Value):
    """Something that happened to a ledger, other than calls; what does not apply is None.

    Attributes:
        at: when, with a time zone (UTC).
        kind: `import`: a file was taken in. `imported`: a model began with the state of an older
            system. `upgrade`: the ledger came to another revision. `rule`: what new models learn
            by was set. `alias`: a name was given to a model, or is its own again. `reset`,
            `recalibrated`, `voided`, `archived`: so was a model.
        seq: the number of the entry: of the model, of the settings, or of the events.
        model: the model; of an alias, the one that the name stands for, or None.
        voided: whether the entry was voided later, and no longer counts.
        note: what the user wrote to it.
        import_id: of an import: the id that its calls carry in their details.
        file: of an import: the file's name, without its folder.
        format: of an import: how the file was read.
        calls: of an import: how many calls it set out to record.
        models: of an import: their models, sorted; None where they are too many to list.
        rule: the rule's version that was set, adopted or begun with.
        alpha: its speed.
        voids: of a voiding: the entries of the model, such as `2..80,95`.
        name: of an alias: the name.
        merged: of an alias: the entries of the model that came of a merge, such as `2..80`.
        from_revision: of an upgrade: the revision before.
        to_revision: of an upgrade: the revision since then.
        version: of an upgrade: that of the program that did it.
    """

    at: datetime
    kind: LogKind
    seq: int
    model: str | None = None
    voided: bool = False
    note: str | None = None
    import_id: str | None = None
    file: str | None = None
    format: str | None = None
    calls: int | None = None
    models: tuple[str, ...] | None = None
    rule: str | None = None
    alpha: float | None = None
    voids: str | None = None
    name: str | None = None
    merged: str | None = None
    from_revision: str | None = None
    to_revision: str | None = None
    version: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that apply, as JSON can hold them."""
        return {
            name: value
            for name, value in fields_of(self).items()
            if value is not None and (name != "voided" or value)
        }


SETTINGS = ""
"""What stands for a model's name in the head of the ledger's settings: no model is called so."""

NO_MORE = "no more than these"
"""What a finding expects that counts the further findings of its check, which are not listed."""


@dataclass(frozen=True, slots=True)
class Finding(Value):
    """One way in which the ledger does not explain itself.

    Attributes:
        model: the model it concerns; None where the rows do not say, and empty where it is about
            the settings of the ledger (see `DefaultRule`).
        seq: the entry it concerns, where that is knowable.
        check: the name of the check that failed, one of `audit.CHECKS`.
        expected: what follows from the history.
        found: what the ledger holds.
    """

    model: str | None
    seq: int | None
    check: str
    expected: str
    found: str

    @property
    def count(self) -> int:
        """How many findings this stands for, which is 1, or as many as it says are left out."""
        return int(self.found.split()[0]) if self.expected == NO_MORE else 1

    def __str__(self) -> str:
        """One line for people."""
        where = "the ledger" if self.model is None else self.model or "the settings"
        if self.seq is not None:
            where += f" #{self.seq}"
        if self.expected == NO_MORE:
            return f"{where}: {self.check}: {self.found}"
        return f"{where}: {self.check}: expected {self.expected}, found {self.found}"


# -- what other rules and alphas would have predicted ---------------------------------------


@dataclass(frozen=True, slots=True)
class Replay(Value, Tabular):
    """What a replay of one model gives: the state at its end, and how well it predicted.

    Every call was predicted before it was learnt. The error of a call is actual minus predicted.

    Attributes:
        model: the model's name.
        rule: the version of the rule that was replayed.
        alpha: the alpha that was replayed.
        calibration: the state at the end.
        n: how many calls were scored.
        mean_absolute_error_ms: the mean of `|error|`; NaN where nothing was scored.
        median_absolute_percentage_error: the median of `100 * |error| / actual`, within 0.05 %
            of itself; calls that took 0 ms have no percentage and are left out; NaN for none.
        bias_ms: the mean error: above 0, calls took longer than predicted.
        mean_actual_ms: the mean latency, to hold the errors against.
    """

    model: str
    rule: RuleName
    alpha: float
    calibration: ModelCalibration
    n: int
    mean_absolute_error_ms: float
    median_absolute_percentage_error: float
    bias_ms: float
    mean_actual_ms: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them, the calibration last."""
        fields = fields_of(self)
        calibration = fields.pop("calibration")
        return {**fields, "calibration": calibration}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        types = fields_and_types(cls)
        calibration = types.pop("calibration")
        return {**types, "calibration": calibration}

    @property
    def relative_error(self) -> float:
        """The mean absolute error over the mean latency; NaN where that is 0."""
        return _over(self.mean_absolute_error_ms, self.mean_actual_ms)

    @classmethod
    def _html_table(cls, values: Sequence[Replay]) -> str:
        """How well each would have predicted, and where it ended."""
        of_end = _coefficient_columns(lambda one: partial(getattr, one.calibration))
        columns = [MODEL, *_OF_SCORE, *of_end]
        caption = (
            "Replays: each call predicted before it was learnt, and the coefficients at the end"
        )
        return table(caption, columns, values)


def _over(error_ms: float, latency_ms: float) -> float:
    return error_ms / latency_ms if latency_ms else math.nan


_OF_SCORE = (
    Column("rule", lambda one: one.rule or "-", left=True),
    Column("alpha", lambda one: "-" if one.alpha is None else f"{one.alpha:g}"),
    Column("calls", lambda one: str(one.n)),
    Column("mean error ms", lambda one: text.number(one.mean_absolute_error_ms)),
    Column("of latency", lambda one: text.percent(100.0 * one.relative_error)),
    Column("median error", lambda one: text.percent(one.median_absolute_percentage_error)),
    Column("bias ms", lambda one: text.signed(one.bias_ms)),
)
"""What `Replay` and `Score` have in common."""


@dataclass(frozen=True, slots=True)
class Score(Value):
    """How well one rule and alpha would have predicted, each call before it was learnt.

    Attributes:
        rule: the version of the rule; None for the live calibrations of several models.
        alpha: its alpha; None likewise.
        n: how many calls were scored; 0 where the calibration would not have stayed finite.
        mean_absolute_error_ms: the mean of `|actual - predicted|`; NaN where nothing was scored.
        relative_error: the same over the mean latency.
        median_absolute_percentage_error: the median of `100 * |error| / actual`, within 0.05 %
            of itself; calls that took 0 ms are left out.
        bias_ms: the mean error: above 0, calls took longer than predicted.
        p90_absolute_error_ms: nine of ten errors were smaller, within 0.05 % of itself.
    """

    rule: RuleName | None
    alpha: float | None
    n: int
    mean_absolute_error_ms: float
    relative_error: float
    median_absolute_percentage_error: float
    bias_ms: float
    p90_absolute_error_ms: float


@dataclass(frozen=True, slots=True)
class Sweep(Value, Tabular):
    """Many replays of one model, or of all together, ranked by their mean absolute error.

    Attributes:
        model: the model's name; None for all models together.
        warm_up: how many calls of each model were learnt but not scored.
        scores: the rules and alphas that were tried, the best first; empty where the model has no
            more calls than the warm-up, so that nothing was tried.
        live: the same figures of the live rule and alpha.
        chance: how likely chance alone gives the best such a lead over the live one, times the
            number tried (at most 1); NaN where fewer than 10 calls were scored. The test, with its
            source, is in `core.comparison`.
    """

    model: str | None
    warm_up: int
    scores: tuple[Score, ...]
    live: Score
    chance: float = math.nan

    @property
    def winner(self) -> Score | None:
        """The best of those tried; None where nothing was scored."""
        return self.scores[0] if self.scores and self.scores[0].n else None

    @property
    def is_close(self) -> bool:
        """Whether the winner errs less than the live one, but perhaps by chance."""
        winner, live = self.winner, self.live
        return (
            winner is not None
            and winner.mean_absolute_error_ms < live.mean_absolute_error_ms
            and self.chance > CHANCE_MOST
        )

    @property
    def is_enough(self) -> bool:
        """Whether enough calls were scored, which are 10, to say what is better."""
        return not math.isnan(self.chance)

    @property
    def better(self) -> Score | None:
        """The winner, where it is clearly better than the live rule and alpha.

        It is where `chance` is at most 0.05.
        """
        return self.winner if self.chance <= CHANCE_MOST else None

    def to_dict(self) -> dict[str, Any]:
        """The fields, the winner, and whether it is clearly better, as JSON can hold them."""
        winner = as_json(self.winner)
        return {**fields_of(self), "winner": winner, "is_clearly_better": self.better is not None}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        types = fields_and_types(cls)
        return {**types, "winner": Score | None, "is_clearly_better": bool}

    @property
    def verdict(self) -> str:
        """What the ranking says in a few words, such as `clearly better`."""
        if self.winner is None:
            return "nothing was scored"
        if not self.is_enough:
            return "too few calls to tell"
        if self.better is not None:
            return "clearly better"
        return "too close to tell" if self.is_close else "no better than live"

    @classmethod
    def _html_table(cls, values: Sequence[Sweep]) -> str:
        """The ranking of one; of several, what each says of its winner."""
        if len(values) == 1:
            return _ranking(values[0])
        winner = [Column(*one) for one in (("best", _best, True), ("its error ms", _best_error))]
        columns = [
            Column("model", lambda one: one.model or "all together", left=True),
            Column("tried", lambda one: str(len(one.scores))),
            Column("calls", lambda one: str(one.live.n)),
            *winner,
            Column("live", lambda one: _setting(one.live), left=True),
            Column("live error ms", lambda one: text.number(one.live.mean_absolute_error_ms)),
            Column("best is", lambda one: one.verdict, left=True),
        ]
        return table("Sweeps: what would have predicted best, beside live", columns, values)


def _setting(score: Score) -> str:
    return "each its own" if score.rule is None else f"{score.rule} {score.alpha:g}"


def _best(sweep: Sweep) -> str:
    return "-" if sweep.winner is None else _setting(sweep.winner)


def _best_error(sweep: Sweep) -> str:
    return text.number(None if sweep.winner is None else sweep.winner.mean_absolute_error_ms)


def _ranking(sweep: Sweep) -> str:
    """The live rule and alpha, and below it those that were tried, the best first."""
    ranks = [("live", sweep.live), *((str(n), one) for n, one in enumerate(sweep.scores, 1))]
    columns = [
        Column("rank", lambda pair: pair[0]),
        *(one._replace(text=_second(one.text)) for one in _OF_SCORE),
        Column("90 % below ms", lambda pair: text.number(pair[1].p90_absolute_error_ms)),
    ]
    of = "all models together" if sweep.model is None else sweep.model
    learnt = text.count(sweep.warm_up, "call")
    caption = (
        f"Sweep of {of}: the best is {sweep.verdict} "
        f"({len(sweep.scores)} tried, each model's first {learnt} learnt but not scored)"
    )
    return table(caption, columns, ranks)


def _second(of: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda pair: of(pair[1])


@dataclass(frozen=True, slots=True)
class Suggestion(Value):
    """Another rule or alpha would have predicted a model's newest calls clearly better.

    Attributes:
        model: the model's name.
        rule: the version of the better rule.
        alpha: its alpha.
        n: how many of the newest calls were scored.
        mean_absolute_error_ms: its error over them.
        live_mean_absolute_error_ms: the error of the live rule and alpha from the same start.
    """

    model: str
    rule: RuleName
    alpha: float
    n: int
    mean_absolute_error_ms: float
    live_mean_absolute_error_ms: float


# -- files that were read or written --------------------------------------------------------

ImportKind = str
"""What an import reads: the name of a format that `AdaptiveCalibrator.formats` gives, or `auto`."""

ExportKind = Literal["jsonl", "csv", "parquet"]
"""What an export writes: the whole ledger as JSON lines, or its calls as CSV or Parquet."""


class SkippedLine(NamedTuple):
    """A line, or a record, that was left out.

    Attributes:
        line: its number in the file, from 1.
        reason: what was wrong with it.
    """

    line: int
    reason: str


class ModelPreview(NamedTuple):
    """What an import would record of one model.

    Attributes:
        model: its name.
        calls: how many calls.
        first_at: the time of the first of them; None where the file has no times.
        last_at: that of the last.
        prompt_tokens: their prompt tokens, together.
        completion_tokens: their completion tokens, together.
        median_ms: the median of their milliseconds, time-outs included.
    """

    model: str
    calls: int
    first_at: datetime | None
    last_at: datetime | None
    prompt_tokens: int
    completion_tokens: int
    median_ms: float


class ImportPreview(NamedTuple):
    """What an import would record.

    Attributes:
        models: by model, sorted by name.
        calls: the first calls, in the order of recording.
    """

    models: tuple[ModelPreview, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class ImportReport(Value):
    """What an import did.

    Attributes:
        kind: the format as it was asked for, such as `jsonl`, or `auto`.
        source: the file as the user named it, or `<stdin>`.
        recorded: how many calls were added to the ledger.
        already: how many calls of the file were in the ledger before, or are repeated in the file;
            what another tool's file repeats is left out as `duplicate`.
        recorded_again: how many of the recorded calls have the request ids of voided ones, and
            count in their place (of calls alone).
        older: how many of the added calls were made before the newest call that the ledger had of
            their model; they were appended after it.
        timeouts: how many of the added calls are time-outs.
        adjustments: how many adjustments were added (`ledger` and `state`; the `opened` entry of
            a model that an import of calls opens is not counted).
        replaced: how many calls of the import that the file replaces were voided, or would be.
        skipped: how many bad lines were left out.
        skipped_reasons: why, most frequent first, as (reason without its values, lines).
        skipped_lines: the first of the skipped lines, in order.
        models: how many models are in the file.
        models_opened: how many of them had no history before.
        models_extended: how many of them had one, and got more.
        models_unchanged: how many of them had all of it already.
        voided: how many calls were left out because the file says that they are voided.
        import_id: the import's id, which the added calls have in their details (`jsonl` and
            `csv`); None if no call was added.
        known_by_file: how many calls of the file have neither a time nor a request id: they are
            known again in this file alone, and equal calls of another one are other calls.
        doubtful: how many of the new calls look wrong; see `AdaptiveCalibrator.record`.
        doubtful_reasons: why, most frequent first, as (reason, calls).
        doubtful_lines: the first of them, in the order of recording.
        unit_doubt: why `actual_ms` seems to be in another unit; None if it does not.
        settings: how many settings of the ledger were added: of the rule of new models, and
            aliases (`ledger`).
        aliases: how many of these are aliases.
        settings_left: how many of the rule the file has that were not added, because the ledger
            has others.
        left_out: how many calls of the file cannot be learnt from, most frequent reason first, as
            (reason, calls); the reasons are those of `AdaptiveCalibrator.skipped`.
        read_as: how the file was read, where that was not plain.
        format: the format that the file was read as.
        unit: what the numbers of bad and doubtful lines count: `line`, or `record` of a database
            or a list.
        preview: of a dry run, what would be recorded; then nothing was, and the counts are of what
            would be. None of an import.
    """

    kind: ImportKind
    source: str
    recorded: int = 0
    already: int = 0
    recorded_again: int = 0
    older: int = 0
    timeouts: int = 0
    adjustments: int = 0
    replaced: int = 0
    skipped: int = 0
    skipped_reasons: tuple[tuple[str, int], ...] = ()
    skipped_lines: tuple[SkippedLine, ...] = ()
    models: int = 0
    models_opened: int = 0
    models_extended: int = 0
    models_unchanged: int = 0
    voided: int = 0
    import_id: str | None = None
    known_by_file: int = 0
    doubtful: int = 0
    doubtful_reasons: tuple[tuple[str, int], ...] = ()
    doubtful_lines: tuple[SkippedLine, ...] = ()
    unit_doubt: str | None = None
    settings: int = 0
    aliases: int = 0
    settings_left: int = 0
    left_out: tuple[tuple[str, int], ...] = ()
    read_as: tuple[str, ...] = ()
    format: str = ""
    unit: str = "line"
    preview: ImportPreview | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them; the reasons as objects."""
        reasons = {
            "skipped_reasons": dict(self.skipped_reasons),
            "doubtful_reasons": dict(self.doubtful_reasons),
            "left_out": dict(self.left_out),
        }
        return {"kind": self.kind, "format": self.format, **fields_of(self), **reasons}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        return {"kind": str, "format": str, **fields_and_types(cls)}


@dataclass(frozen=True, slots=True)
class ExportReport(Value):
    """What an export wrote.

    Attributes:
        kind: `jsonl`, `csv` or `parquet`.
        target: the file as the user named it, or `<stdout>`.
        models: how many models it holds.
        calls: how many calls.
        adjustments: how many adjustments (`jsonl` only).
        settings: how many settings of the ledger: of the rule of new models, and aliases
            (`jsonl` of all models only).
    """

    kind: ExportKind
    target: str
    models: int
    calls: int
    adjustments: int
    settings: int = 0


class ArchivedModel(NamedTuple):
    """What was archived of one model.

    Attributes:
        model: its name.
        calls: how many calls.
        adjustments: how many adjustments, an archived entry from before included.
        seq: the number of the newest archived entry.
        head: the head after it, as 64 hexadecimal digits.
    """

    model: str
    calls: int
    adjustments: int
    seq: int
    head: str


@dataclass(frozen=True, slots=True)
class Obstacle(Value):
    """An entry that keeps older calls from being archived, for they were recorded after it.

    Attributes:
        model: the model's name.
        seq: the number of the entry.
        made_at: when it was made, by the clock of who recorded it. If that was wrong, voiding the
            entry takes it out of the way.
        calls: how many older calls stand behind it.
    """

    model: str
    seq: int
    made_at: datetime
    calls: int


@dataclass(frozen=True, slots=True)
class Distribution(Value):
    """How a ledger in Citus is distributed over several machines.

    Attributes:
        ledger: the ledger, as it may be shown.
        machines: the machines that have its rows, each as `HOST:PORT`.
        shards: into how many parts its models are divided.
        done: the tables that were distributed now, in this order; empty where all were before.
    """

    ledger: str
    machines: tuple[str, ...]
    shards: int
    done: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ArchiveReport(Value):
    """What an archive took out of the ledger.

    Attributes:
        target: the file as the user named it; it was not made if there was nothing to archive.
        models: what it holds of each model, sorted by model.
        bytes_before: the ledger's size before; None if it is not known.
        bytes_after: its size now.
        trouble: why the ledger did not shrink; None if it did. The archive is complete either way.
        obstacles: the entries that keep older calls in the ledger, sorted by model.
    """

    target: str
    models: tuple[ArchivedModel, ...] = ()
    bytes_before: int | None = None
    bytes_after: int | None = None
    trouble: str | None = None
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def calls(self) -> int:
        """How many calls were archived."""
        return sum(model.calls for model in self.models)

    @property
    def adjustments(self) -> int:
        """How many adjustments were archived."""
        return sum(model.adjustments for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """The fields, and the totals, as JSON can hold them."""
        return {**fields_of(self), "calls": self.calls, "adjustments": self.adjustments}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        return {**fields_and_types(cls), "calls": int, "adjustments": int}


# -- details that cannot be changed ---------------------------------------------------------
# They are still a dict and a list, so that `json`, `pickle`, `copy` and `==` treat them as such.
# `dict(details)` gives a copy that can be changed.


def _refuse(self: object, *_arguments: object, **_keywords: object) -> NoReturn:
    raise TypeError(
        f"a {type(self).__name__} cannot be changed: copy it with dict(...) or list(...), and "
        f"change the copy."
    )


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # a dict has none
        """The hash of the keys alone: equal dicts must have the same, and 1 equals 1.0."""
        return hash(frozenset(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle whole: a dict is otherwise filled item by item."""
        return type(self), (dict(self),)


class FrozenList(list[Any]):
    """A list that cannot be changed."""

    __slots__ = ()

    def __hash__(self) -> int:  # type: ignore[override]  # a list has none
        """The hash of the length alone, for the same reason."""
        return hash(len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle whole: a list is otherwise filled item by item."""
        return type(self), (list(self),)


_CHANGING = {
    FrozenDict: "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update",
    FrozenList: "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove "
    "reverse sort",
}
for _kind, _names in _CHANGING.items():
    for _name in _names.split():
        setattr(_kind, _name, _refuse)


def frozen(value: Any) -> Any:
    """The same JSON value, in which nothing can be changed."""
    if isinstance(value, dict):
        return FrozenDict((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return FrozenList(map(frozen, value))
    return value
