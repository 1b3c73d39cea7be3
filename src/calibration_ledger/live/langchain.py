"""LangChain: record the calls of its models.

LangChain numbers each run of a model, and says when it starts, gives its first token, and ends.
Chains, agents, retries and fallbacks have runs of their own, of which only those of models are
looked at. What is kept of a run is when it started and what was asked for.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler

from calibration_ledger.core.answers import AnswerReader, Unlearnable, call_of, read_answer
from calibration_ledger.core.failures import reason_of
from calibration_ledger.live.hook import Hook, recorder_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.answers import Answer
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.recorder import Recorder

_RUNS_MAX = 10_000
"""Runs that are open at once. LangChain never says that a cancelled one is over."""


class _Run(NamedTuple):
    """A run of a model that has not ended.

    Attributes:
        model: the one that is asked for, if that is known.
        is_alone: whether it is one call, and not one of several that end together.
        called_at: when it started, and on which clock: `started`, in s.
        first: `ttft_ms`, once there is a token; a dict, because only one thread may set it.
    """

    model: str | None
    is_alone: bool
    called_at: datetime
    started: float
    first: dict[str, float]


class LedgerHandler(Hook, BaseCallbackHandler):  # type: ignore[misc]  # langchain is not followed
    """Records the model calls of LangChain: `callbacks=[LedgerHandler(calibrator)]`.

    For a model or for one call of anything that calls models: chains, agents, graphs; sync, async,
    streamed and in batches. The model is named as the program names it: `gpt-4o-mini`.

    A call's time is that between LangChain's start and end (`clock: client`), with the retries of
    the client itself (`max_retries`) in it; those of `with_retry` are runs of their own. What
    cannot be learnt from is counted in `skipped`. Streams say their tokens only with
    `stream_usage=True`, which `ChatOpenAI` sets by itself for OpenAI's own address alone.

    One handler serves any number of models, threads and event loops. It never waits, so it runs
    where the model does (`run_inline`), and never raises. Nothing of prompts and answers is kept.

    Attributes:
        recorder: what records the calls.
    """

    run_inline = True
    raise_error = False

    def __init__(
        self, calibrator: AdaptiveCalibrator | Recorder, *, on_error: OnError = "warn"
    ) -> None:
        """Record into the ledger of this calibrator.

        Args:
            calibrator: the ledger's, or a recorder.
            on_error: see `AdaptiveCalibrator.recorder`. The hooks of one calibrator share a
                recorder, and so the first one's wish; a recorder that is handed in has its own.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        super().__init__()
        self.recorder = recorder_of(calibrator, on_error)
        self._runs: dict[UUID, _Run] = {}

    # -- what LangChain calls ---------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002 - LangChain passes it in this place
        messages: list[list[Any]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """A chat model starts to answer."""
        self._start(messages, run_id, metadata, more)

    def on_llm_start(
        self,
        serialized: dict[str, Any] | None,  # noqa: ARG002 - as above
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """A model that completes texts starts to answer."""
        self._start(prompts, run_id, metadata, more)

    def on_llm_new_token(
        self,
        token: str | list[Any],
        *,
        chunk: Any = None,
        run_id: UUID,
        **_more: Any,
    ) -> None:
        """A part of a stream came: the first that is not empty is its first token."""
        run = self._runs.get(run_id)
        if run is None or run.first:
            return
        with suppress(Exception):
            if token or _has_content(chunk):
                run.first.setdefault("ttft_ms", _ms_since(run))

    def on_stream_event(self, event: Any, *, run_id: UUID, **_more: Any) -> None:
        """A part of a stream of `stream_events(version="v3")` came."""
        run = self._runs.get(run_id)
        if run is None or run.first:
            return
        with suppress(Exception):
            if event.get("event") == "content-block-delta":
                run.first.setdefault("ttft_ms", _ms_since(run))

    def on_llm_end(self, response: Any, *, run_id: UUID, **_more: Any) -> None:
        """A model has answered: record the call."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        try:
            self._put(run, run_id, response, _ms_since(run))
        except Exception as error:  # noqa: BLE001 - whatever it is, the program goes on
            self.recorder.fail(error)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_more: Any) -> None:
        """A model has failed, or its reader left: count the call."""
        if self._runs.pop(run_id, None) is not None:
            self.recorder.skip(reason_of(error))

    # -- what is made of it -----------------------------------------------------------------

    def _start(
        self,
        prompts: Sequence[Any],
        run_id: UUID,
        metadata: Mapping[str, Any] | None,
        more: Mapping[str, Any],
    ) -> None:
        try:
            while len(self._runs) >= _RUNS_MAX:
                self._forget()
            is_alone = len(prompts) == 1 and more.get("batch_size", 1) == 1
            model = model_of(more.get("invocation_params") or {}, metadata or {})
            run = _Run(model, is_alone, datetime.now(UTC), perf_counter(), {})
            self._runs[run_id] = run
        except Exception as error:  # noqa: BLE001 - as above
            self.recorder.fail(error)

    def _forget(self) -> None:
        """Count the oldest run as cancelled: LangChain says of those alone nothing."""
        with suppress(StopIteration, RuntimeError):  # another thread makes room, too
            if self._runs.pop(next(iter(self._runs)), None) is not None:
                self.recorder.skip("cancelled")

    def _put(self, run: _Run, run_id: UUID, response: Any, elapsed_ms: float) -> None:
        if not run.is_alone:
            self.recorder.skip("unknown duration")
            return
        read = read_result(response, run.model)
        if isinstance(read, Unlearnable):
            self.recorder.skip(read.reason)
            return
        details = {"clock": "client", "streamed": bool(run.first), **run.first}
        self.recorder.put(
            call_of(
                read,
                elapsed_ms,
                called_at=run.called_at,
                request_id=str(run_id),
                details=details,
            )
        )


def model_of(asked: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The model that is asked for, as the program names it.

    Args:
        asked: the `invocation_params` of a run; a `bind(model=…)` is in them.
        metadata: that of the run; some integrations name the model there alone.
    """
    names = (asked.get("model"), asked.get("model_name"), metadata.get("ls_model_name"))
    return next((name for name in names if isinstance(name, str) and name), None)


def read_result(response: Any, asked_model: str | None) -> Answer | Unlearnable:
    """What an `LLMResult` of one prompt says in numbers.

    A chat model's message says it; of a completed text, the result, or the text's own facts.
    """
    generations = response.generations[0] if response.generations else ()
    generation = generations[0] if generations else None
    message = getattr(generation, "message", None)
    read = read_answer(message, asked_model=asked_model) if message is not None else None
    for about in (response.llm_output, getattr(generation, "generation_info", None)):
        if read is not None and getattr(read, "reason", None) != "unknown tokens":
            break
        if about:
            whole = about if "done" in about else {"response_metadata": about}
            other = read_answer(whole, asked_model=asked_model)
            read = other if read is None or not isinstance(other, Unlearnable) else read
    return Unlearnable("unknown tokens", asked_model) if read is None else read


def _has_content(chunk: Any) -> bool:
    """Whether a part of a stream without text has something nevertheless, such as a tool call."""
    message = getattr(chunk, "message", None)
    if message is None:
        return False
    reader = AnswerReader()
    reader.add(message)
    return reader.has_content


def _ms_since(run: _Run) -> float:
    return (perf_counter() - run.started) * 1000.0
