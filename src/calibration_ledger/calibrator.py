"""`AdaptiveCalibrator`, the library's front door.

A method checks its input, then runs one transaction, or reads; SQL, arithmetic and file formats
live elsewhere. What looks at the whole history is in `history`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from calibration_ledger import listing
from calibration_ledger.calibration import DEFAULT_ALPHA, ModelCalibration, confidence_of
from calibration_ledger.damage import damaged
from calibration_ledger.errors import (
    InvalidInputError,
    LedgerNotFoundError,
)
from calibration_ledger.history import HistoryMethods
from calibration_ledger.learning import State
from calibration_ledger.new_calls import checked_call, new_call, now_us
from calibration_ledger.priors import checked_prior, default_prior
from calibration_ledger.recording import Unopened, record_call
from calibration_ledger.removed import refuse_removed
from calibration_ledger.rules import find_rule, predict_ms
from calibration_ledger.storage import reads
from calibration_ledger.storage.opening import open_backend
from calibration_ledger.storage.place import find_place
from calibration_ledger.timing import TimedCall, timed_call
from calibration_ledger.validation import (
    check_alpha,
    check_model,
    check_seconds,
    check_tokens,
    shown,
)
from calibration_ledger.values import Call, CostPrediction
from calibration_ledger.writing import exists, record_batches, reset_models

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Self

    from calibration_ledger.entries import Adjustment

_TIMEOUT_MAX_S = 86_400


class AdaptiveCalibrator(HistoryMethods):
    """Predicts how long calls of language models take, and learns from each that was observed.

    Safe to share between threads, and to keep over a fork. Other processes may use the same
    ledger at the same time. A ledger that does not exist yet is empty; the first write makes it.
    """

    def __init__(
        self,
        ledger: str | os.PathLike[str] | None = None,
        alpha: float = DEFAULT_ALPHA,
        *,
        rule: str = "ema",
        prior: Callable[[str], tuple[float, float, float]] | None = None,
        durability: str = "full",
        timeout_s: float = 30.0,
        **removed: object,
    ) -> None:
        """Open a ledger. Nothing is created or changed before the first write.

        Args:
            ledger: a path, a URL or `":memory:"`; None: `$CALIBRATION_LEDGER`, else `ledger.db`
                in the user's data folder.
            alpha: the speed of adaptation in (0, 1] of models opened or reset from now on. Left
                out, it is the rule's own: 0.15 for `ema`, 0.01 for `kalman`.
            rule: the learning rule of models opened or reset from now on: `ema` or `kalman`.
            prior: from a model's name to (ms per prompt token, ms per completion token, base ms);
                None: the built-in priors.
            durability: `"full"`: what was recorded survives a power cut; `"normal"`: it survives
                crashes of the program only, and recording is several times as fast.
            timeout_s: how long a write waits for other writers, in seconds.
            **removed: parameters of the predecessor, refused with what takes their place.

        Raises:
            InvalidInputError: an argument is not what it must be.
            LedgerError: what lies at the path cannot be used as a ledger.
        """
        refuse_removed(removed)
        found = find_rule(rule)
        # The default object itself: whoever writes 0.15 means it.
        self.alpha = found.default_alpha if alpha is DEFAULT_ALPHA else check_alpha(alpha)
        self.rule = found.version
        if durability not in ("full", "normal"):
            raise InvalidInputError(
                f"durability must be 'full' or 'normal', not {shown(durability)}."
            )
        timeout_s = check_seconds("timeout_s", timeout_s, _TIMEOUT_MAX_S)
        if prior is not None and not callable(prior):
            raise InvalidInputError(
                f"prior must be a function of the model's name, not {shown(prior)}: pass one that "
                f"gives three coefficients, or leave it out."
            )
        self._prior = default_prior if prior is None else prior
        self._place = find_place(ledger)
        self._backend = open_backend(self._place, durability, timeout_s)
        self._is_made = False

    @property
    def ledger(self) -> str:
        """Where the ledger lies, as it may be shown: a password in a URL is hidden."""
        return self._place.shown

    def __repr__(self) -> str:
        """The ledger and what new models start with."""
        return f"AdaptiveCalibrator({self.ledger!r}, alpha={self.alpha!r}, rule={self.rule!r})"

    # -- predict and record -----------------------------------------------------------------

    def predict(self, model: str, prompt_tokens: int, completion_tokens: int = 0) -> CostPrediction:
        """Predict a call from the newest committed state, of whichever process. Writes nothing.

        Args:
            model: the model's name; one never seen is predicted from its prior.
            prompt_tokens: the tokens that go in.
            completion_tokens: the tokens expected to come out.

        Raises:
            InvalidInputError: the name or a token count is not what it must be.
            LedgerError: the ledger cannot be read.
        """
        check_model(model)
        prompt_tokens = check_tokens("prompt_tokens", prompt_tokens)
        completion_tokens = check_tokens("completion_tokens", completion_tokens)
        try:
            rows = self._backend.read(self._backend.sql.find, (model,))
        except LedgerNotFoundError:
            rows = None
        if rows:
            row = rows[0]
            coefficients, sample_count = row[3:6], row[8]
            if sample_count < 0:
                raise damaged(model, f"the calibration counts {sample_count} calls")
        else:
            coefficients, sample_count = checked_prior(self._prior, model), 0
        return CostPrediction(
            model,
            prompt_tokens,
            completion_tokens,
            predict_ms(coefficients, prompt_tokens, completion_tokens),
            confidence_of(sample_count),
            sample_count,
            datetime.now(UTC),
        )

    def record(
        self,
        model: str,
        prompt_tokens: int,
        actual_ms: float,
        completion_tokens: int = 0,
        *,
        request_id: str | None = None,
        called_at: datetime | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> float:
        """Record an observed call and learn from it, in one transaction.

        Args:
            model: the model's name.
            prompt_tokens: the tokens that went in.
            actual_ms: the measured wall-clock time in milliseconds.
            completion_tokens: the tokens that came out.
            request_id: the caller's name for this call: recorded again with the same numbers, it
                adds nothing and gives the first error.
            called_at: when the call was made, with a time zone; None: now.
            details: what else was measured, such as `{"ttft_ms": 80.5}`; never texts.

        Returns:
            The error in ms: actual minus predicted, before the call was learnt.

        Raises:
            InvalidInputError: an argument is not what it must be, or the request id was recorded
                with other numbers, or the calibration would not stay finite.
            NotRecordedError: the write failed, and nothing was recorded.
            OutcomeUnknownError: the write failed, and it may have been recorded.
            LedgerError: the ledger cannot be used.
        """
        call = new_call(prompt_tokens, completion_tokens, actual_ms, called_at, request_id, details)
        check_model(model)
        opening = None if self._is_made else self._first_opening(model)
        try:
            return self._backend.write(record_call, model, call, opening)
        except Unopened:
            return self._backend.write(record_call, model, call, self._opening(model))

    def record_many(self, calls: Iterable[Call | Mapping[str, Any]]) -> list[float]:
        """Record calls in transactions of at most 1,000, and learn from them in order.

        All of them are checked before the first is recorded.

        Args:
            calls: `Call`s, or mappings with their fields; `seq` and `predicted_ms` are ignored.

        Returns:
            Their errors in ms, in order; see `record`.

        Raises:
            InvalidInputError: as for `record`; the transaction of the refused call is undone
                whole, the ones before it stay.
            LedgerError: as for `record`.
        """
        checked = [checked_call(call) for call in calls]
        return record_batches(self._backend, self._opening, checked)

    def _first_opening(self, model: str) -> Adjustment | None:
        """The first entry where there is no ledger yet: a prior that fails shall not make one."""
        self._is_made = exists(self._backend)
        return None if self._is_made else self._opening(model)

    def _opening(self, model: str) -> Adjustment:
        """The first entry of a model: its prior, under this calibrator's rule and alpha."""
        now = now_us()
        prior = checked_prior(self._prior, model)
        state = State.from_prior(find_rule(self.rule), self.alpha, prior, now)
        return state.adjustment(1, "opened", now)

    def timed(self, model: str, prompt_tokens: int) -> AbstractContextManager[TimedCall]:
        """Measure a call around a block, and record it.

        `with calibrator.timed(model, 512) as call:` runs the model and sets
        `call.completion_tokens`; see `TimedCall`. An exception inside records nothing.

        Raises:
            CompletionTokensMissingError: the block ended without `completion_tokens`.
        """
        return timed_call(self, check_model(model), check_tokens("prompt_tokens", prompt_tokens))

    # -- the live state ---------------------------------------------------------------------

    def _find(self, model: str) -> reads.Stored | None:
        try:
            return reads.find(self._backend, check_model(model))
        except LedgerNotFoundError:
            return None

    def calibration(self, model: str) -> ModelCalibration:
        """The whole state of a model, unrounded; the prior's for a model never seen."""
        live = self._find(model)
        if live is not None:
            return listing.calibration_of(live)
        prior = checked_prior(self._prior, model)
        return ModelCalibration(model, self.rule, self.alpha, *prior)

    def get_stats(self, model: str) -> dict[str, Any]:
        """A model's rounded figures; one with 0 calls has only four of them."""
        return self.calibration(model).stats()

    def all_stats(self) -> list[dict[str, Any]]:
        """The figures of every model with at least one call, sorted by model."""
        live = listing.list_live(self._backend)
        return [listing.calibration_of(item).stats() for item in live if item.sample_count]

    def reset(self, model: str | None = None) -> None:
        """Set one model, or all, back to this calibrator's prior, rule and alpha.

        History stays. For a model never seen nothing happens.

        Raises:
            InvalidInputError: the name is not one, such as "": only None means all.
        """
        if model is None or self._find(model) is not None:
            reset_models(self._backend, self._opening, model)

    # -- the end -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close every connection. Using the calibrator afterwards is an error."""
        self._backend.close()

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
