"""`AdaptiveCalibrator`, the library's front door.

A method checks its input, then runs one transaction, or reads; SQL, arithmetic and file formats
live elsewhere. What looks at the whole history is in `history`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from calibration_ledger import listing
from calibration_ledger.calibration import (
    DEFAULT_ALPHA,
    ModelCalibration,
    confidence_of,
    finite_prediction,
)
from calibration_ledger.damage import IMPOSSIBLE, damaged, impossible
from calibration_ledger.errors import LedgerNotFoundError
from calibration_ledger.history import HistoryMethods
from calibration_ledger.learning import State
from calibration_ledger.new_calls import checked_calls, new_call, now_us
from calibration_ledger.priors import check_prior, checked_prior, default_prior
from calibration_ledger.recording import Unopened, record_call
from calibration_ledger.removed import refusing_removed
from calibration_ledger.rules import find_rule
from calibration_ledger.storage import reads
from calibration_ledger.storage.opening import open_backend
from calibration_ledger.storage.place import find_place
from calibration_ledger.timing import TimedCall, timed_call
from calibration_ledger.validation import (
    check_alpha,
    check_durability,
    check_model,
    check_seconds,
    check_tokens,
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

    @refusing_removed
    def __init__(
        self,
        ledger: str | os.PathLike[str] | None = None,
        alpha: float = DEFAULT_ALPHA,
        *,
        rule: str = "ema",
        prior: Callable[[str], tuple[float, float, float]] | None = None,
        durability: str = "full",
        timeout_s: float = 30.0,
    ) -> None:
        """Open a ledger. Nothing is created or changed before the first write.

        Args:
            ledger: a path, a URL or `":memory:"`; None: `$CALIBRATION_LEDGER`, else `ledger.db`
                in the user's data folder.
            alpha: the speed of adaptation in (0, 1] of models opened or reset from now on; left
                out, the rule's own, such as 0.15 for `ema` and 0.01 for `kalman`.
            rule: the learning rule of models opened or reset from now on, such as `kalman`.
            prior: from a model's name to (ms per prompt token, ms per completion token, base ms);
                None: the built-in priors.
            durability: `"full"`: what was recorded survives a power cut; `"normal"`: it survives
                crashes of the program only, and recording is several times as fast.
            timeout_s: how long a write waits for other writers, in seconds.

        Raises:
            InvalidInputError: an argument is not what it must be.
            RemovedParameterError: `autosave` or `state_path`, which the predecessor took.
            LedgerError: what lies at the path cannot be used as a ledger.
        """
        self._rule = (found := find_rule(rule)).version
        # The default object itself: whoever writes 0.15 means it.
        self._alpha = found.default_alpha if alpha is DEFAULT_ALPHA else check_alpha(alpha)
        check_durability(durability)
        timeout_s = check_seconds("timeout_s", timeout_s, _TIMEOUT_MAX_S)
        self._prior = default_prior if prior is None else check_prior(prior)
        self._place = find_place(ledger)
        self._backend = open_backend(self._place, durability, timeout_s)
        self._is_made = False

    @property
    def alpha(self) -> float:
        """The speed of adaptation of models opened or reset by this calibrator."""
        return self._alpha

    @property
    def rule(self) -> str:
        """The version of the learning rule of models opened or reset by this calibrator."""
        return self._rule

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
            NotFiniteError: the model learnt so absurd a call that it predicts no number: reset it.
            LedgerError: the ledger cannot be read.
        """
        model = check_model(model)
        prompt_tokens = check_tokens("prompt_tokens", prompt_tokens)
        completion_tokens = check_tokens("completion_tokens", completion_tokens)
        try:
            rows = self._backend.read(self._backend.sql.find, (model,))
        except LedgerNotFoundError:
            rows = None
        if rows:
            row = rows[0]
            coefficients, sample_count = row[3:6], row[8]
        else:
            coefficients, sample_count = checked_prior(self._prior, model), 0
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
                adds nothing and gives the first error, unless it was archived since.
            called_at: when the call was made, with a time zone; None: now.
            details: what else was measured, such as `{"ttft_ms": 80.5, "source": "proxy"}`: numbers
                and short texts, at most 4,096 bytes as JSON; no prompts and no responses.

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
        model = check_model(model)
        opening = None if self._is_made else self._first_opening(model)
        try:
            return self._backend.write(record_call, model, call, opening)
        except Unopened:
            return self._backend.write(record_call, model, call, self._opening(model))

    def record_many(self, calls: Iterable[Call | Mapping[str, Any]]) -> list[float]:
        """Record calls in order, all of them checked first, in transactions of at most 1,000.

        Args:
            calls: `Call`s, or mappings with their fields; `completion_tokens` may be left out for
                0, and `seq`, `predicted_ms` and `voided` are ignored.

        Returns:
            Their errors in ms, in order; see `record`.

        Raises:
            InvalidInputError: as for `record`; names the call by its place, from 1.
            RequestConflictError, NotFiniteError, LedgerError: its transaction is undone whole; of
                those before, `recorded` is how many calls stay, `errors_ms` are their errors.
        """
        return record_batches(self._backend, self._opening, checked_calls(calls))

    def _first_opening(self, model: str) -> Adjustment | None:
        """The first entry where there is no ledger yet: a prior that fails shall not make one."""
        self._is_made = exists(self._backend)
        return None if self._is_made else self._opening(model)

    def _opening(self, model: str) -> Adjustment:
        """The first entry of a model: its prior, under this calibrator's rule and alpha."""
        now, prior = now_us(), checked_prior(self._prior, model)
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
            return reads.find(self._backend, model)
        except LedgerNotFoundError:
            return None

    def calibration(self, model: str) -> ModelCalibration:
        """The whole state of a model, unrounded; the prior's for a model never seen."""
        live = self._find(model := check_model(model))
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
        if model is None or self._find(model := check_model(model)) is not None:
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
