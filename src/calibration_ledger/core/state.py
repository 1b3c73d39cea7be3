"""The state of one model while entries are folded into it: what record, replay and audit share."""

from __future__ import annotations

import struct
from itertools import groupby
from math import isfinite
from typing import TYPE_CHECKING

from calibration_ledger.core.entries import Adjustment, Snapshot
from calibration_ledger.core.values import ModelCalibration
from calibration_ledger.errors import NotFiniteError, damage_told, damaged
from calibration_ledger.rules import stored_rule
from calibration_ledger.rules.base import predict_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from calibration_ledger.core.priors import Prior
    from calibration_ledger.rules import Rule


class State:
    """A calibration that learns.

    Attributes:
        rule: the rule that learns.
        alpha: its speed.
        numbers: `COMMON_NUMBERS`, then the rule's further state; changed in place.
        sample_count: how many calls are in it.
        updated_at: the called_at of the last call that it learnt, by the caller's clock, in
            microseconds since the epoch; before that, when it was set.
    """

    __slots__ = ("alpha", "numbers", "rule", "sample_count", "updated_at")

    def __init__(
        self, rule: Rule, alpha: float, numbers: list[float], sample_count: int, updated_at: int
    ) -> None:
        """Take the parts as they are; `numbers` is not copied."""
        self.rule = rule
        self.alpha = alpha
        self.numbers = numbers
        self.sample_count = sample_count
        self.updated_at = updated_at

    @classmethod
    def from_prior(cls, rule: Rule, alpha: float, prior: Prior, updated_at: int) -> State:
        """The state of a model before its first call."""
        return cls(rule, alpha, [*prior, 0.0, 0.0, *rule.extra_start(prior)], 0, updated_at)

    @classmethod
    def from_snapshot(
        cls, snapshot: Snapshot, rule: Rule | None = None, alpha: float | None = None
    ) -> State:
        """The state of a calibration, under its own rule and alpha, or under others.

        Under another rule version, the further state starts fresh from the coefficients.

        Raises:
            StoredRuleError: it learns by a rule that this program does not know.
            struct.error: its further state is not that of its rule.
        """
        version, own_alpha, *numbers, sample_count, rule_state, updated_at = snapshot
        rule = stored_rule(version) if rule is None else rule
        if version == rule.version:
            numbers += _further_numbers(rule, rule_state)
        else:
            numbers += rule.extra_start(numbers[:3])
        alpha = own_alpha if alpha is None else alpha
        return cls(rule, alpha, numbers, sample_count, updated_at)

    def snapshot(self) -> Snapshot:
        """The calibration as it is stored: the opposite of `from_snapshot`."""
        a, b, o, total_absolute_error_ms, total_predicted_ms, *further = self.numbers
        return Snapshot(
            self.rule.version,
            self.alpha,
            a,
            b,
            o,
            total_absolute_error_ms,
            total_predicted_ms,
            self.sample_count,
            pack_numbers(further),
            self.updated_at,
        )

    def copy(self) -> State:
        """A copy that can learn other calls."""
        return State(self.rule, self.alpha, self.numbers.copy(), self.sample_count, self.updated_at)

    def learn(
        self,
        called_at: Sequence[int],
        prompt_tokens: Sequence[int],
        completion_tokens: Sequence[int],
        actual_ms: Sequence[float],
    ) -> list[float]:
        """Fold a column of calls in order; gives the prediction made before each.

        Raises:
            NotFiniteError: a number was not finite on the way; the state is of no use then.
        """
        predicted_ms = learn_columns(
            self.rule, self.alpha, self.numbers, prompt_tokens, completion_tokens, actual_ms
        )
        if called_at:
            self.updated_at = called_at[-1]
            self.sample_count += len(actual_ms)
        return predicted_ms

    def follow(
        self,
        called_at: Sequence[int],
        prompt_tokens: Sequence[int],
        completion_tokens: Sequence[int],
        actual_ms: Sequence[float],
        outcomes: Sequence[str | None],
    ) -> list[float]:
        """Fold a column of calls in order, and only predict the time-outs among them.

        Gives the prediction made before each, and raises as `learn` does.
        """
        if outcomes.count(None) == len(outcomes):
            return self.learn(called_at, prompt_tokens, completion_tokens, actual_ms)
        predicted_ms: list[float] = []
        for is_learnt, run in groupby(outcomes, lambda outcome: outcome is None):
            begin = len(predicted_ms)
            end = begin + len(list(run))
            if is_learnt:
                predicted_ms += self.learn(
                    called_at[begin:end],
                    prompt_tokens[begin:end],
                    completion_tokens[begin:end],
                    actual_ms[begin:end],
                )
            else:
                tokens = zip(prompt_tokens[begin:end], completion_tokens[begin:end], strict=True)
                predicted_ms += [self._predict(p, c) for p, c in tokens]
        return predicted_ms

    def _predict(self, prompt_tokens: int, completion_tokens: int) -> float:
        predicted = predict_ms(self.numbers, prompt_tokens, completion_tokens)
        if not isfinite(predicted):
            raise NotFiniteError(
                f"a time-out of {prompt_tokens} prompt tokens and {completion_tokens} completion "
                f"tokens is predicted to take {predicted!r} ms. Check the token counts; if an "
                f"earlier call was absurd, reset the model first."
            )
        return predicted

    def adjustment(
        self, seq: int, kind: str, recorded_at: int, note: str | None = None
    ) -> Adjustment:
        """The entry that sets this state."""
        return Adjustment(seq, kind, recorded_at, *self.snapshot(), note)

    def same_as(self, other: State) -> bool:
        """Whether two states are equal to the bit."""
        return self.bits() == other.bits()

    def bits(self) -> tuple[object, ...]:
        """Every part of the state in a form that compares bit by bit."""
        return (
            self.rule.version,
            pack_numbers([self.alpha, *self.numbers]),
            self.sample_count,
            self.updated_at,
        )

    def calibration(self, model: str) -> ModelCalibration:
        """The frozen value to hand out."""
        return calibration_of(model, self.snapshot())


def calibration_of(model: str, snapshot: Snapshot) -> ModelCalibration:
    """The frozen value of a stored calibration.

    Raises:
        LedgerCorruptError: it cannot be what a program of ours wrote.
    """
    if snapshot.sample_count < 0:
        raise damaged(model, f"the calibration counts {snapshot.sample_count} calls")
    with damage_told(model):
        return ModelCalibration(
            model,
            snapshot.rule,
            snapshot.alpha,
            snapshot.ms_per_prompt_token,
            snapshot.ms_per_completion_token,
            snapshot.base_overhead_ms,
            snapshot.sample_count,
            snapshot.total_absolute_error_ms,
            snapshot.total_predicted_ms,
            tuple(unpack_numbers(snapshot.rule_state)),
            snapshot.updated_at / 1e6,
        )


def learn_columns(
    rule: Rule,
    alpha: float,
    numbers: list[float],
    prompt_tokens: Sequence[int],
    completion_tokens: Sequence[int],
    actual_ms: Sequence[float],
) -> list[float]:
    """Fold a column of calls into `numbers`, in place; gives the prediction before each.

    Raises:
        NotFiniteError: a number was not finite on the way; `numbers` is of no use then.
    """
    predicted_ms = [0.0] * len(actual_ms)
    before = numbers.copy()
    rule.fold(numbers, alpha, prompt_tokens, completion_tokens, actual_ms, predicted_ms)
    # The sum is finite only if all are; where it is not, it may only have overflowed itself.
    if not isfinite(sum(numbers)) and not all(map(isfinite, numbers)):
        _refuse(rule, alpha, before, zip(prompt_tokens, completion_tokens, actual_ms, strict=True))
    return predicted_ms


def _refuse(
    rule: Rule, alpha: float, numbers: list[float], calls: Iterable[tuple[int, int, float]]
) -> None:
    """Fold again call by call, to name the one that does not fit."""
    for p, c, y in calls:
        predicted = [0.0]
        rule.fold(numbers, alpha, (p,), (c,), (y,), predicted)
        if not all(map(isfinite, numbers)):
            raise NotFiniteError(
                f"a call of {p} prompt tokens, {c} completion tokens and {y!r} ms cannot be "
                f"learnt: it was predicted to take {predicted[0]!r} ms, and the calibration would "
                f"not stay finite. Check the measurement; if an earlier call was absurd, reset the "
                f"model first."
            )


def pack_numbers(numbers: Sequence[float]) -> bytes | None:
    """Floats as big-endian binary64; None if there are none."""
    return struct.pack(f">{len(numbers)}d", *numbers) if numbers else None


def unpack_numbers(data: bytes | None) -> list[float]:
    """The opposite of `pack_numbers`.

    Raises:
        struct.error: the length is no multiple of eight.
    """
    return list(struct.unpack(f">{len(data) // 8}d", data)) if data else []


def _further_numbers(rule: Rule, data: bytes | None) -> list[float]:
    numbers = unpack_numbers(data)
    if len(numbers) != len(rule.extra_numbers):
        raise struct.error(
            f"the rule {rule.version} keeps {len(rule.extra_numbers)} further numbers, not "
            f"{len(numbers)}"
        )
    return numbers
