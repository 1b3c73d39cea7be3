"""The frozen values that the library hands out and takes in. Rows never leave the storage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from calibration_ledger.calibration import ModelCalibration


@dataclass(frozen=True, slots=True, repr=False)
class CostPrediction:
    """How long a call will take, as far as the ledger knows.

    Attributes:
        model: the model's name.
        prompt_tokens: the tokens that go in.
        completion_tokens: the tokens expected to come out.
        predicted_ms: the predicted wall-clock time in milliseconds.
        confidence: from 0 (a prior alone) towards 1; see `confidence_of`.
        sample_count: how many calls the prediction rests on.
        predicted_at: when it was made (UTC).
    """

    model: str
    prompt_tokens: int
    completion_tokens: int
    predicted_ms: float
    confidence: float
    sample_count: int
    predicted_at: datetime

    def __repr__(self) -> str:
        """The part that people look for."""
        return (
            f"CostPrediction(model={self.model!r}, prompt_tokens={self.prompt_tokens}, "
            f"predicted_ms={self.predicted_ms:.0f}, confidence={self.confidence:.2f}, "
            f"n={self.sample_count})"
        )


@dataclass(frozen=True, slots=True)
class Call:
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
        voided: whether a later entry voids it: it is kept, and nothing learns from it.
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

    @property
    def error_ms(self) -> float | None:
        """Actual minus predicted, in ms; None before the call is recorded."""
        return None if self.predicted_ms is None else self.actual_ms - self.predicted_ms


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay of one model gives: the state at its end, and how well it predicted.

    Every call was predicted before it was learnt. The error of a call is actual minus predicted.

    Attributes:
        model: the model's name.
        rule: the version of the rule that was replayed.
        alpha: the alpha that was replayed.
        calibration: the state at the end.
        n: how many calls were scored.
        mean_absolute_error_ms: the mean of |error|; NaN where nothing was scored.
        median_absolute_percentage_error: the median of 100 * |error| / actual, within 0.05 %
            of itself; calls that took 0 ms have no percentage and are left out; NaN for none.
        bias_ms: the mean error: above 0, calls took longer than predicted.
        mean_actual_ms: the mean latency, to hold the errors against.
    """

    model: str
    rule: str
    alpha: float
    calibration: ModelCalibration
    n: int
    mean_absolute_error_ms: float
    median_absolute_percentage_error: float
    bias_ms: float
    mean_actual_ms: float = math.nan


@dataclass(frozen=True, slots=True)
class Score:
    """How well one rule and alpha would have predicted, each call before it was learnt.

    Attributes:
        rule: the version of the rule; None for the live calibrations of several models.
        alpha: its alpha; None likewise.
        n: how many calls were scored; 0 where the calibration would not have stayed finite.
        mean_absolute_error_ms: the mean of |actual - predicted|; NaN where nothing was scored.
        relative_error: the same over the mean latency.
        median_absolute_percentage_error: the median of 100 * |error| / actual, within 0.05 %
            of itself; calls that took 0 ms are left out.
        bias_ms: the mean error: above 0, calls took longer than predicted.
        p90_absolute_error_ms: nine of ten errors were smaller, within 0.05 % of itself.
    """

    rule: str | None
    alpha: float | None
    n: int
    mean_absolute_error_ms: float
    relative_error: float
    median_absolute_percentage_error: float
    bias_ms: float
    p90_absolute_error_ms: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """Many replays of one model, or of all together, ranked by their mean absolute error.

    Attributes:
        model: the model's name; None for all models together.
        warm_up: how many calls of each model were learnt but not scored.
        scores: the rules and alphas that were tried, the best first.
        live: the same figures of the live rule and alpha.
    """

    model: str | None
    warm_up: int
    scores: tuple[Score, ...]
    live: Score

    @property
    def winner(self) -> Score | None:
        """The best of those tried; None where nothing was scored."""
        return self.scores[0] if self.scores and self.scores[0].n else None


@dataclass(frozen=True, slots=True)
class Suggestion:
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
    rule: str
    alpha: float
    n: int
    mean_absolute_error_ms: float
    live_mean_absolute_error_ms: float


@dataclass(frozen=True, slots=True)
class Voiding:
    """What a voiding did to one model, or would do.

    Attributes:
        model: the model's name.
        seq: the number of the `voided` entry; None in a dry run, and where nothing changed.
        voids: the entries that it voids, such as `2..80,95`; empty where all were voided already.
        calls: how many of them are calls that counted before.
        adjustments: the other entries among them that counted before, as (seq, kind).
        before: the calibration before.
        calibration: the calibration as if the entries had never been.
    """

    model: str
    seq: int | None
    voids: str
    calls: int
    adjustments: tuple[tuple[int, str], ...]
    before: ModelCalibration
    calibration: ModelCalibration


class Head(NamedTuple):
    """The running digest over one model's entries, up to `seq`.

    Attributes:
        model: the model's name.
        seq: the number of the newest entry it covers.
        digest: SHA-256 as 64 hexadecimal digits.
    """

    model: str
    seq: int
    digest: str


NO_MORE = "no more than these"
"""What a finding expects that only counts those of its check beyond the ones that are listed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One way in which the ledger does not explain itself.

    Attributes:
        model: the model it concerns; None where the rows do not say.
        seq: the entry it concerns, where that is knowable.
        check: the name of the check that failed, one of `audit.CHECKS`.
        expected: what history demands.
        found: what the ledger holds.
    """

    model: str | None
    seq: int | None
    check: str
    expected: str
    found: str

    @property
    def count(self) -> int:
        """How many findings this stands for: 1, or as many as it says that there are more."""
        return int(self.found.split()[0]) if self.expected == NO_MORE else 1

    def __str__(self) -> str:
        """One line for people."""
        where = "the ledger" if self.model is None else self.model
        if self.seq is not None:
            where += f" #{self.seq}"
        if self.expected == NO_MORE:
            return f"{where}: {self.check}: {self.found}"
        return f"{where}: {self.check}: expected {self.expected}, found {self.found}"
