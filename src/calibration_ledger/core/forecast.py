"""Forecasts: how long a call may take, judged by how far its model's newest calls were off.

What the calibration predicts, times the ratios of actual over predicted of the newest calls, is a
sample of how long the call may take: each of them says "if this one deviates as I did". A newer
call weighs more. Where the length of the completion is not known, each lends its own, and one of a
like prompt length weighs more. A model that is new borrows ten ratios, which fade.

It is split conformal prediction on relative errors (V. Vovk, A. Gammerman and G. Shafer, 2005) over
a window whose weights fall (R. F. Barber and others, 2023): no distribution is assumed but for what
lies beyond all that was seen. Calls that were given up are known from below only, and their weight
goes to the larger values (B. Efron, 1967). All of it is plain binary64 arithmetic on the newest
calls, so that the same ledger gives the same answer, today and in a replay.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import accumulate
from math import nextafter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from calibration_ledger.core import text
from calibration_ledger.core.drift import LEAST_MS, drift_of, ratio_of
from calibration_ledger.core.html import Column, Tabular, table
from calibration_ledger.core.validation import (
    TOKENS_LIMIT,
    check_level,
    check_milliseconds,
    check_tokens,
)
from calibration_ledger.core.values import MODEL, Drift, Value, as_json
from calibration_ledger.errors import InvalidInputError
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

WINDOW = 150
"""The newest calls that a forecast looks at. The newest weighs 1, each before it 1/150 less."""

FIRST_LEFT_OUT = 10
"""Of a model's very first calls, so many are left out once there are as many others: a cold start
tells little of what follows."""

SEEDED = 30
"""With so many calls, the borrowed ratios are gone."""

SEEDS = (0.78, 0.86, 0.90, 0.94, 0.98, 1.02, 1.06, 1.11, 1.17, 1.28)
"""The ratios that a new model borrows: the middles of ten equal shares of a log-normal distribution
of sigma 0.15, rounded."""

FIRST_COMPLETION = 128
"""Completion tokens that are assumed where no call tells of any."""

NEAR, NEAR_LEAST, ALIKE, ANYWHERE = 0.2, 40, 1.25, 0.6
"""How a call weighs by its prompt length: `ANYWHERE` for any; `ALIKE` more for the same length, and
half of that for one that differs by the share `NEAR` of the mean (of 20 tokens at the least).
Measured: with less weight in all, the one still unseen makes the ranges too wide; with more, those
of calls that run late become too narrow."""

TAIL = 3.0
"""Beyond all that was seen, the chance to take longer than t falls as t ** -3 (V. Pareto)."""

HIGHEST = nextafter(1.0, 0.0)
"""The highest level that there is."""

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""The ranges that are shown."""

TIMEOUT_CHANCES = (0.95, 0.99)
"""The chances of keeping them, of the timeouts that are shown."""


class Observed(NamedTuple):
    """One of a model's newest calls.

    Attributes:
        prompt_tokens: the tokens that went in.
        completion_tokens: the tokens that came out; of a call that was given up, 0: not known.
        actual_ms: how long it took; of one that was given up, how long it was waited for.
        ratio: that over what had been predicted before it was learnt; see `ratio_of`. None: over
            what the coefficients of now predict, because what had predicted it is no more.
        is_timeout: whether it was given up.
    """

    prompt_tokens: int
    completion_tokens: int
    actual_ms: float
    ratio: float | None
    is_timeout: bool = False


# -- weighted values ------------------------------------------------------------------------


class Order:
    """Values in order, and where each stands among the weights."""

    __slots__ = ("befores", "total", "values", "weights")

    def __init__(self, values: Sequence[float], weights: Sequence[float]) -> None:
        """Take values in any order, and the weight of each; there must be one."""
        # By value, then by weight: sorting is stable, and numbers sort much faster than pairs.
        places = sorted(range(len(values)), key=weights.__getitem__)
        places.sort(key=values.__getitem__)
        self.values = [values[place] for place in places]
        self.weights = [weights[place] for place in places]
        self.befores = list(accumulate(self.weights, initial=0.0))
        self.total = self.befores[-1] + 1.0

    def middle(self, place: int) -> float:
        """Where a value stands among the weights: in the middle of its own."""
        return self.befores[place] + 0.5 * self.weights[place]


class Sample(NamedTuple):
    """Weighted values, each times a positive factor; one more of weight 1 is still unseen."""

    order: Order
    factor: float = 1.0

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Sample:
        """A sample of (value, weight) in any order; there must be one."""
        return cls(Order(*zip(*pairs, strict=True)))

    @property
    def edge(self) -> float:
        """The largest value."""
        return self.factor * self.order.values[-1]

    def quantile(self, level: float) -> float:
        """The value at a level; beyond the outermost, that.

        With weights of 1, the i-th of n stands at i / (n + 1); between two places, a straight line.
        """
        order, factor = self
        values, wanted = order.values, level * order.total - 0.5
        # The first value whose middle is not below: it stands between its ends among the weights.
        i = max(0, bisect_left(order.befores, wanted) - 1)
        if i < len(values) and order.middle(i) < wanted:
            i += 1
        if i == 0:
            return factor * values[0]
        if i == len(values):
            return factor * values[-1]
        low, high = factor * values[i - 1], factor * values[i]
        before = order.middle(i - 1)
        share = (wanted - before) / (order.middle(i) - before)
        return min(high, low + share * (high - low))  # else rounded up, or NaN of two infinite ones

    def span(self) -> tuple[float, float]:
        """The lowest and the highest level that the values themselves tell of."""
        first, last = self.order.middle(0), self.order.middle(-1 + len(self.order.values))
        return (first + 0.5) / self.order.total, (last + 0.5) / self.order.total

    def share_up_to(self, value: float) -> float:
        """The share of the weights, with half of the unseen one, of values that are no larger."""
        factor = self.factor
        place = bisect_right(self.order.values, value, key=lambda one: factor * one)
        return (self.order.befores[place] + 0.5) / self.order.total

    def mean(self) -> float:
        """The weighted mean of the values."""
        pairs = zip(self.order.values, self.order.weights, strict=True)
        weighed = (weight * (self.factor * value) for value, weight in pairs)
        return _sum(weighed) / self.order.befores[-1]

    def above(self, least: float) -> list[tuple[float, float]]:
        """The (value, weight) of those that are larger."""
        values = (self.factor * value for value in self.order.values)
        pairs = zip(values, self.order.weights, strict=True)
        return [(value, weight) for value, weight in pairs if value > least]


def _sum(numbers: Iterable[float]) -> float:
    """Added up from left to right: `sum` gives other last digits since Python 3.12."""
    total = 0.0
    for number in numbers:
        total += number
    return total


def to_the_right(
    values: Sequence[float], weights: Sequence[float], given_up: Sequence[bool]
) -> Order:
    """Give the weight of each value that is known from below only to the larger ones.

    In proportion to theirs; where there is none, it stays (Efron, 1967).
    """
    order = sorted(range(len(values)), key=lambda i: (values[i], given_up[i]))
    left, grown = _sum(weights[i] for i in order), 1.0
    kept: list[float] = []
    kept_weights: list[float] = []
    for place, i in enumerate(order, 1):
        left -= weights[i]
        if given_up[i] and place < len(order):
            grown *= 1.0 + weights[i] / left
        else:
            kept.append(values[i])
            kept_weights.append(weights[i] * grown)
    return Order(kept, kept_weights)


# -- the newest calls of one model ----------------------------------------------------------

_RAMP = [place / WINDOW for place in range(1, WINDOW + 1)]
_LONGEST = float(TOKENS_LIMIT)


def _middle(lengths: Sequence[int]) -> int:
    """The upper median."""
    return sorted(lengths)[len(lengths) // 2] if lengths else FIRST_COMPLETION


class Basis:
    """What the forecasts of one model rest on at one moment.

    Attributes:
        model: the model's name.
        coefficients: ms per prompt token, ms per completion token, base overhead ms.
        count: all its calls since it was opened, a state was imported or it was reset.
        newest_at: when the newest of them was made; None for no call.
        rule: the version of the rule behind the coefficients.
        calls: its newest calls, oldest first: `drift.DRIFT_CALLS` of them, or all.
    """

    def __init__(
        self,
        model: str,
        coefficients: tuple[float, float, float],
        calls: Sequence[Observed],
        count: int,
        *,
        rule: str,
        newest_at: datetime | None = None,
    ) -> None:
        """Take them as they are; the calls are not copied."""
        self.model = model
        self.coefficients = coefficients
        self.count = count
        self.rule = rule
        self.newest_at = newest_at
        self.calls = calls
        window = calls[-WINDOW:]
        window = window[max(0, min(FIRST_LEFT_OUT, count // 2) - (count - len(window))) :]
        self.n = len(window)
        columns = list(zip(*window, strict=True)) or [()] * len(Observed._fields)
        if True in columns[4] or None in columns[3]:
            columns = list(zip(*self._whole(window), strict=True))
        self._prompts, self._lengths, _, self._ratios, self._given_up = columns
        self._weights = _RAMP[WINDOW - self.n :]
        self._seed_weight = 1.0 - count / SEEDED

    def _whole(self, window: Sequence[Observed]) -> list[Observed]:
        """The window, with a ratio for each call, and a length for each that was given up.

        Of one that was given up, the completion is taken to be the usual one, or the longer one
        that explains the time.
        """
        usual = _middle([call.completion_tokens for call in window if not call.is_timeout])
        a, b, base = self.coefficients
        found = []
        for call in window:
            start, length, ratio = base + a * call.prompt_tokens, call.completion_tokens, call.ratio
            if call.is_timeout and not length:
                most = (call.actual_ms - start) / b if b > 0.0 else 0.0
                most = int(min(max(most, 0.0), _LONGEST))  # it may be infinite, on either side
                length, ratio = max(usual, most), None
            if ratio is None:
                ratio = ratio_of(call.actual_ms, start + b * length)
            found.append(call._replace(completion_tokens=length, ratio=ratio))
        return found

    @property
    def middle_prompt(self) -> int | None:
        """The (upper) median of the prompts of the window; None for no call."""
        return _middle(self._prompts) if self.n else None

    @property
    def middle_length(self) -> int:
        """The (upper) median of the completions of the window."""
        return _middle(self._lengths)

    def _order(self, values: Sequence[float], weights: Sequence[float], seeded_ms: float) -> Order:
        given_up = self._given_up
        if self._seed_weight > 0.0:
            values = [*values, *(seeded_ms * seed for seed in SEEDS)]
            weights = [*weights, *[self._seed_weight] * len(SEEDS)]
            given_up = (*given_up, *[False] * len(SEEDS))
        if True in given_up:
            return to_the_right(values, weights, given_up)
        return Order(values, weights)

    @cached_property
    def ratios(self) -> Order:
        """The ratios of actual over predicted."""
        return self._order(self._ratios, self._weights, 1.0)

    def known(self, prompt_tokens: int, completion_tokens: int) -> Sample:
        """How long a call of these tokens may take."""
        predicted = predict_ms(self.coefficients, prompt_tokens, completion_tokens)
        return Sample(self.ratios, max(LEAST_MS, predicted))

    def unknown(self, prompt_tokens: int, cap: int | None) -> Sample:
        """How long a call may take of which only the prompt is known, and the most that comes."""
        a, b, base = self.coefficients
        start, lengths = base + a * prompt_tokens, self.lengths(cap)
        values = [
            (told if (told := start + b * length) > LEAST_MS else LEAST_MS) * ratio
            for length, ratio in zip(lengths, self._ratios, strict=True)
        ]
        middle = _middle(lengths)
        seeded = max(LEAST_MS, start + b * (middle if cap is None else min(middle, cap)))
        return Sample(self._order(values, self.likeness(prompt_tokens), seeded))

    def lengths(self, cap: int | None) -> Sequence[int]:
        """The completions of the window, as they would be under a cap."""
        if cap is None:
            return self._lengths
        return [min(cap, length) for length in self._lengths]

    def likeness(self, prompt_tokens: int) -> list[float]:
        """The weights of the window's calls for a call of this prompt length."""
        scale, added = 2.0 / NEAR, prompt_tokens + NEAR_LEAST
        fars = [scale * (other - prompt_tokens) / (other + added) for other in self._prompts]
        return [
            weight * (ANYWHERE + ALIKE / (1.0 + far * far))
            for weight, far in zip(self._weights, fars, strict=True)
        ]

    @cached_property
    def drift(self) -> Drift | None:
        """How the model has changed of late; None if it has not."""
        calls = [
            (call.actual_ms, predict_ms(self.coefficients, *call[:2]))
            for call in self.calls
            if not call.is_timeout
        ]
        return drift_of(calls)


# -- what is handed out ---------------------------------------------------------------------


class Latencies(Value):
    """How long something may take, as a distribution; times in milliseconds."""

    def quantile(self, level: float) -> float:
        """What it does not exceed with this chance.

        Args:
            level: above 0 and below 1, such as 0.9.

        Returns:
            Milliseconds; beyond what the history can tell (see `span`), the outermost value.

        Raises:
            InvalidInputError: the level is no such number.
        """
        raise NotImplementedError

    def timeout_ms(self, chance: float = 0.99) -> float:
        """A time that it is over within, with this chance, in ms.

        It is the quantile, but beyond the longest call that was seen, where there is always one
        that takes longer still: there, the chance to take longer than t falls as t ** -3.

        Raises:
            InvalidInputError: the chance is no number above 0 and below 1.
        """
        raise NotImplementedError

    def chance_within(self, ms: float) -> float:
        """The chance that it is over within so many ms.

        Raises:
            InvalidInputError: the time is no number from 0.
        """
        raise NotImplementedError

    @property
    def mean_ms(self) -> float:
        """The expected time in ms."""
        raise NotImplementedError

    @property
    def median_ms(self) -> float:
        """The time in ms that half of such calls take at most."""
        return self.quantile(0.5)

    def interval(self, share: float = 0.9) -> tuple[float, float]:
        """The central range that holds this share of such calls, in ms.

        Raises:
            InvalidInputError: the share is no number above 0 and below 1.
        """
        return _central(self.quantile, share)

    def _figures(self) -> dict[str, Any]:
        """The figures that `--json` prints."""
        return {
            "median_ms": self.median_ms,
            "mean_ms": self.mean_ms,
            "intervals_ms": {f"{share:g}": [*self.interval(share)] for share in LEVELS},
            "timeout_ms": {f"{chance:g}": self.timeout_ms(chance) for chance in TIMEOUT_CHANCES},
        }

    @classmethod
    def _types_of_figures(cls) -> dict[str, Any]:
        return {
            "median_ms": float,
            "mean_ms": float,
            "intervals_ms": {f"{share:g}": list[float] for share in LEVELS},
            "timeout_ms": {f"{chance:g}": float for chance in TIMEOUT_CHANCES},
        }


def _central(quantile: Callable[[float], float], share: float) -> tuple[float, float]:
    """The quantiles between which this share lies, as much of the rest below as above."""
    share = check_level("share", share)
    return quantile((1.0 - share) / 2.0), quantile((1.0 + share) / 2.0)


def _tokens(count: int) -> str:
    return f"{count} completion token{'' if count == 1 else 's'}"


@dataclass(frozen=True)
class Completion(Value):
    """The completion length of a forecast.

    Attributes:
        is_given: whether the caller gave it; else it was taken from the newest calls.
        median: the usual one, in tokens.
    """

    is_given: bool
    median: int
    _sample: Sample | None = field(default=None, repr=False, compare=False)

    def quantile(self, level: float) -> float:
        """The tokens that the completion does not exceed with this chance.

        Raises:
            InvalidInputError: the level is no number above 0 and below 1.
        """
        level = check_level("level", level)
        return float(self.median) if self._sample is None else self._sample.quantile(level)

    def interval(self, share: float = 0.9) -> tuple[float, float]:
        """The central range that holds this share of the completions, in tokens.

        Raises:
            InvalidInputError: the share is no number above 0 and below 1.
        """
        return _central(self.quantile, share)

    def to_dict(self) -> dict[str, Any]:
        """The fields and the range of 9 in 10, as `--json` prints them."""
        interval = None if self.is_given else [*self.interval()]
        return {"is_given": self.is_given, "median": self.median, "interval_0.9": interval}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        return {"is_given": bool, "median": int, "interval_0.9": list[float] | None}


@dataclass(frozen=True, repr=False)
class Forecast(Latencies, Tabular):
    """How long a call may take, by its model's newest calls.

    Attributes:
        model: the model's name.
        prompt_tokens: the tokens that go in.
        max_tokens: the most that may come out; None for no such bound.
        is_ttft: whether it is of the time to the first token alone.
    """

    model: str
    prompt_tokens: int
    max_tokens: int | None
    basis: Basis = field(compare=False)
    """What it rests on. It is no public value, so the reference leaves it out."""
    _given: int | None = None
    is_ttft: bool = False

    @cached_property
    def _sample(self) -> Sample:
        """The latencies that the newest calls tell of."""
        if self._given is not None:
            return self.basis.known(self.prompt_tokens, self._given)
        return self.basis.unknown(self.prompt_tokens, self.max_tokens)

    @cached_property
    def completion_tokens(self) -> Completion:
        """The completion length as given, or as assumed, with its own quantiles."""
        if self._given is not None:
            return Completion(is_given=True, median=self._given)
        lengths = self.basis.lengths(self.max_tokens)
        if not lengths:
            middle = self.basis.middle_length
            cap = self.max_tokens
            return Completion(is_given=False, median=middle if cap is None else min(middle, cap))
        weights = self.basis.likeness(self.prompt_tokens)
        sample = Sample.of((float(d), w) for d, w in zip(lengths, weights, strict=True))
        return Completion(is_given=False, median=round(sample.quantile(0.5)), _sample=sample)

    @property
    def n(self) -> int:
        """How many calls it rests on, which are those of the newest 150 that count."""
        return self.basis.n

    @property
    def newest(self) -> datetime | None:
        """When the newest of them was made; None for no call."""
        return self.basis.newest_at

    @property
    def status(self) -> str:
        """One of `no history`, `few calls` (fewer than 30), `drifting` and `ok`."""
        if not self.basis.count:
            return "no history"
        if self.basis.count < SEEDED:
            return "few calls"
        return "ok" if self.basis.drift is None else "drifting"

    @property
    def drift(self) -> Drift | None:
        """How the model has changed of late; None if it has not."""
        return self.basis.drift

    @property
    def tokens_per_second(self) -> float:
        """The completion tokens per second of a usual call, as their median over the median time.

        0 where either is 0.
        """
        median_ms = self.median_ms
        return self.completion_tokens.median / median_ms * 1000.0 if median_ms else 0.0

    def quantile(self, level: float) -> float:  # noqa: D102 - as in `Latencies`
        return self._sample.quantile(check_level("level", level))

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest level that the history can tell of."""
        return self._sample.span()

    def timeout_ms(self, chance: float = 0.99) -> float:  # noqa: D102 - as in `Latencies`
        return quantile_of_left(self._sample, 0.0, check_level("chance", chance))

    def chance_within(self, ms: float) -> float:  # noqa: D102 - as in `Latencies`
        return self._sample.share_up_to(check_milliseconds("ms", ms))

    @cached_property
    def mean_ms(self) -> float:  # noqa: D102 - as in `Latencies`
        return self._sample.mean()

    def remaining(
        self, elapsed_ms: float, tokens_so_far: int | None = None, ttft_ms: float | None = None
    ) -> Remaining:
        """The same for what is left of a call that has been running for so long.

        Where the tokens that came so far and the time to the first of them are given, and the
        completion length is not known, the pace so far tells of the rest. Without them, it is the
        part of the sample that takes longer.

        Args:
            elapsed_ms: since the call was made.
            tokens_so_far: the completion tokens that came.
            ttft_ms: the time to the first token, in ms.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        elapsed_ms = check_milliseconds("elapsed_ms", elapsed_ms)
        tokens = None if tokens_so_far is None else check_tokens("tokens_so_far", tokens_so_far)
        first_ms = None if ttft_ms is None else check_milliseconds("ttft_ms", ttft_ms)
        if first_ms is not None and first_ms > elapsed_ms:
            raise InvalidInputError(
                f"ttft_ms is {first_ms!r}, and later than elapsed_ms, {elapsed_ms!r}: both count "
                f"from the moment when the call was made."
            )
        if tokens and first_ms is not None and self._given is None:
            left = self._left_by_pace(elapsed_ms, tokens, first_ms)
        else:
            above = self._sample.above(elapsed_ms)
            left = [(value - elapsed_ms, weight) for value, weight in above]
        return Remaining(self.model, elapsed_ms, Sample.of(left) if left else None)

    def _left_by_pace(
        self, elapsed_ms: float, tokens: int, first_ms: float
    ) -> list[tuple[float, float]]:
        """What is left at the pace so far, by the calls with longer completions."""
        pace = (elapsed_ms - first_ms) / (tokens + 0.5)
        lengths = self.basis.lengths(self.max_tokens)
        weighed = zip(lengths, self.basis.likeness(self.prompt_tokens), strict=True)
        return [
            ((length - tokens - 0.5) * pace, weight)
            for length, weight in weighed
            if length > tokens
        ]

    def explain(self) -> str:
        """One sentence: from which calls, and by which method."""
        basis, model, length = self.basis, self.model, self.completion_tokens.median
        if not basis.count:
            if self.is_ttft:
                return f"no call of {model} tells its time to the first token: this is a guess"
            return f"{model} has no history: this is a guess for {_tokens(length)}"
        telling = more = ""
        if self.is_ttft:
            telling, what = " that tell their time to the first token", "for the prompt"
        elif self._given is not None:
            what = f"for {_tokens(length)}"
        else:
            what = "for the completion length of each"
            more = "; those of a like prompt length weigh more"
        if basis.count < SEEDED:
            more += f"; until there are {SEEDED}, a usual spread is mixed in"
        return (
            f"the newest {basis.n} of {basis.count} calls of {model}{telling}: what "
            f"{basis.rule} predicts {what}, times how far each was off{more}"
        )

    def __repr__(self) -> str:
        """The figures that people look for."""
        low_ms, high_ms = self.interval(0.9)
        return (
            f"Forecast(model={self.model!r}, prompt_tokens={self.prompt_tokens}, "
            f"median_ms={self.median_ms:.6g}, interval_ms=({low_ms:.6g}, {high_ms:.6g}), "
            f"n={self.n}, status={self.status!r})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures, as `--json` prints them."""
        return {
            "model": self.model,
            "is_ttft": self.is_ttft,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens.to_dict(),
            "max_tokens": self.max_tokens,
            **self._figures(),
            "tokens_per_second": self.tokens_per_second,
            "n": self.n,
            "newest": as_json(self.newest),
            "status": self.status,
            "drift": as_json(self.drift),
            "rule": self.basis.rule,
            "explanation": self.explain(),
        }

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        return {
            "model": str,
            "is_ttft": bool,
            "prompt_tokens": int,
            "completion_tokens": Completion,
            "max_tokens": int | None,
            **cls._types_of_figures(),
            "tokens_per_second": float,
            "n": int,
            "newest": datetime | None,
            "status": str,
            "drift": Drift | None,
            "rule": str,
            "explanation": str,
        }

    @classmethod
    def _html_table(cls, values: Sequence[Forecast]) -> str:
        """How long the call may take; several beside each other."""
        if len(values) == 1:
            one = values[0]
            return table(f"Forecast, by {one.explain()}", _FIGURES, [*_rows_of(one)])
        columns = [
            MODEL,
            Column("prompt tokens", lambda one: str(one.prompt_tokens)),
            Column("mean", lambda one: text.duration(one.mean_ms)),
            Column("half within", lambda one: text.duration(one.median_ms)),
            Column("9 of 10", lambda one: text.span(*one.interval(0.9)), left=True),
            Column("95 % within", lambda one: text.duration(one.timeout_ms(0.95))),
            Column("tokens/s", lambda one: text.number(one.tokens_per_second or None)),
            Column("completion", lambda one: str(one.completion_tokens.median)),
            Column("calls", lambda one: str(one.n)),
            Column("status", lambda one: one.status, left=True),
        ]
        return table("Forecasts", columns, values)


@dataclass(frozen=True, repr=False)
class Remaining(Latencies, Tabular):
    """How long a call that is running may still take.

    Attributes:
        model: the model's name.
        elapsed_ms: how long it has been running.
    """

    model: str
    elapsed_ms: float
    _left: Sample | None = field(compare=False)

    def quantile(self, level: float) -> float:  # noqa: D102 - as in `Latencies`
        return quantile_of_left(self._left, self.elapsed_ms, check_level("level", level))

    def timeout_ms(self, chance: float = 0.99) -> float:  # noqa: D102 - as in `Latencies`
        return self.quantile(check_level("chance", chance))

    def chance_within(self, ms: float) -> float:  # noqa: D102 - as in `Latencies`
        ms = check_milliseconds("ms", ms)
        edge = 0.0 if self._left is None else self._left.edge
        within = 0.0 if self._left is None else self._left.share_up_to(ms)
        if ms < edge or not ms:
            return within
        unseen = 1.0 - share_seen(self._left)
        beyond: float = ((self.elapsed_ms + edge) / (self.elapsed_ms + ms)) ** TAIL
        return max(within, 1.0 - unseen * beyond)

    @property
    def mean_ms(self) -> float:  # noqa: D102 - as in `Latencies`
        seen = share_seen(self._left)
        edge = 0.0 if self._left is None else self._left.edge
        unseen = (self.elapsed_ms + edge) * TAIL / (TAIL - 1.0) - self.elapsed_ms
        return (0.0 if self._left is None else seen * self._left.mean()) + (1.0 - seen) * unseen

    def __repr__(self) -> str:
        """The figures that people look for."""
        low_ms, high_ms = self.interval(0.9)
        return (
            f"Remaining(model={self.model!r}, elapsed_ms={self.elapsed_ms:.6g}, "
            f"median_ms={self.median_ms:.6g}, interval_ms=({low_ms:.6g}, {high_ms:.6g}))"
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures, as `--json` prints them."""
        return {"model": self.model, "elapsed_ms": self.elapsed_ms, **self._figures()}

    @classmethod
    def _json_types(cls) -> dict[str, Any]:
        return {"model": str, "elapsed_ms": float, **cls._types_of_figures()}

    @classmethod
    def _html_table(cls, values: Sequence[Remaining]) -> str:
        """How long each may still take."""
        rows = [
            row
            for one in values
            for row in (
                ("model", one.model),
                ("running for", text.duration(one.elapsed_ms)),
                *_spread_rows(one),
            )
        ]
        return table("What is left of a running call", _FIGURES, rows)


_FIGURES = (Column("figure", itemgetter(0), left=True), Column("value", itemgetter(1), left=True))


def _rows_of(one: Forecast) -> Iterator[tuple[str, str]]:
    """A forecast, figure by figure."""
    yield "model", one.model
    yield "prompt", text.count(one.prompt_tokens, "token")
    if not one.is_ttft:
        length = one.completion_tokens
        usual = text.count(length.median, "token")
        yield "completion", usual if length.is_given else f"{usual}, typically"
    yield from _spread_rows(one)
    yield "newest call", "-" if one.newest is None else text.time(one.newest)
    yield "status", one.status if one.drift is None else f"{one.status}: {one.drift}"


def _spread_rows(of: Latencies) -> Iterator[tuple[str, str]]:
    """The figures of a distribution, as people read them."""
    yield "half within", text.duration(of.median_ms)
    for share in LEVELS[1:]:
        yield f"{share:.0%} in".replace("%", " %"), text.span(*of.interval(share))
    for chance in TIMEOUT_CHANCES:
        yield f"{chance:.0%} within".replace("%", " %"), text.duration(of.timeout_ms(chance))
    yield "mean", text.duration(of.mean_ms)


def share_seen(left: Sample | None) -> float:
    """The share of what was seen: all but the one that is still unseen."""
    return 0.0 if left is None else (left.order.total - 1.0) / left.order.total


def quantile_of_left(left: Sample | None, elapsed_ms: float, level: float) -> float:
    """The quantile of what is left, with the unseen value in a Pareto tail beyond the largest."""
    seen = share_seen(left)
    if left is not None and level <= seen:
        return left.quantile(level)
    edge = 0.0 if left is None else left.edge
    # The highest level that is below 1 may be rounded to it, where the tail has no end.
    beyond = min((level - seen) / (1.0 - seen), HIGHEST)
    return (elapsed_ms + edge) * float((1.0 - beyond) ** (-1.0 / TAIL)) - elapsed_ms
