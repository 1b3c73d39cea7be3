"""LiteLLM: record its calls, and let its Router pick who is forecast to answer soonest.

`LedgerLogger` records what LiteLLM reports of each call. Both name a model alike, so that the
Router forecasts what was recorded.

For `ForecastStrategy`, the Router says which deployments may be picked: those on cooldown,
unhealthy, excluded or out of budget never get here. Of these, this picks by forecast. Whatever goes
wrong in that, or takes too long, the request goes on: the Router's own default, its weighted
shuffle, picks instead, and a warning is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from litellm import token_counter
from litellm.integrations.custom_logger import CustomLogger
from litellm.router_strategy.simple_shuffle import simple_shuffle
from litellm.types.router import CustomRoutingStrategyBase

from calibration_ledger.core.answers import Unlearnable, call_of, read_answer
from calibration_ledger.core.failures import reason_of
from calibration_ledger.core.litellm import (
    COMPLETIONS,
    RESPONSES,
    is_cached,
    named_model,
    says_counts,
    without_echo,
)
from calibration_ledger.core.validation import check_milliseconds
from calibration_ledger.errors import DeadlineError, NoHistoryError
from calibration_ledger.live.hook import Hook, recorder_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from concurrent.futures import Future

    from litellm import Router

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.rank import RankBy
    from calibration_ledger.verbs.complaints import OnError
    from calibration_ledger.verbs.recorder import Recorder

    Deployment = Mapping[str, Any]

_LOG = logging.getLogger(__name__)

_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""Where a request may say how many tokens may come out."""


def model_of(deployment: Deployment) -> str:
    """The model of a deployment as LiteLLM writes it, such as `ollama/phi3:mini`."""
    return str(deployment["litellm_params"]["model"])


def id_of(deployment: Deployment) -> str:
    """The id of a deployment, which the Router's configuration may set: `model_info: {id: …}`."""
    return str(deployment["model_info"]["id"])


class ForecastStrategy(CustomRoutingStrategyBase):  # type: ignore[misc]  # litellm is not followed
    """Picks the deployment that is forecast to answer soonest.

    `router.register_plugin(ForecastStrategy(router, calibrator))` sets it to work. It only reads
    the ledger; recording the calls under the same names is the program's part.

    The prompt is counted by LiteLLM's own `token_counter`. `max_tokens` of the request bounds the
    completion. A `timeout` of a request that is not streamed is a deadline: the soonest deployment
    that keeps it is picked or, where none does, the likeliest. A retry goes to a deployment at
    which the request has not failed yet, where there is one.
    """

    def __init__(
        self,
        router: Router,
        calibrator: AdaptiveCalibrator,
        *,
        name: Callable[[Deployment], str] = model_of,
        by: RankBy = "mean",
        chance: float = 0.9,
        explore: float = 0.05,
        patience_ms: float = 100.0,
    ) -> None:
        """Pick for this router by this ledger; nothing is read yet.

        Args:
            router: the `litellm.Router` that it will be registered with.
            calibrator: the ledger's.
            name: from a deployment, a mapping with `litellm_params` and `model_info`, to the name
                of its model in the ledger. Of several deployments of one name, any is picked;
                with `id_of` each has a history of its own.
            by: what the soonest is chosen by: `"mean"`, `"median"` or a level such as 0.95.
            chance: with at least this chance, a deadline is kept.
            explore: the share of requests that try another deployment, drawn by lot from the
                request's `litellm_trace_id`. With 0, a deployment without history is never picked
                while another has one.
            patience_ms: a request waits no longer for a pick by forecast.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        self._router = router
        self._calibrator = calibrator
        self._name = name
        self._asked: dict[str, Any] = {"by": by, "chance": chance, "explore": explore}
        with suppress(NoHistoryError):  # of no model: wrong settings are refused before
            calibrator.soonest(0, [], **self._asked)
        self._patience_s = check_milliseconds("patience_ms", patience_ms) / 1000.0
        self._pool: tuple[int, ThreadPoolExecutor] | None = None
        self._late: Future[Deployment | None] | None = None
        self._has_warned = False
        # What requests need is tried before there is one: the first count loads the vocabulary.
        token_counter(model="", text="a first count")
        self._shuffled("", [{"model_info": {"id": ""}, "litellm_params": {}}], {})

    # -- what the Router calls --------------------------------------------------------------

    async def async_get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: str | list[Any] | None = None,  # noqa: A002 - the Router passes it by this name
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Pick for a call of `acompletion` and its like.

        Raises:
            Exception: what the Router raises where none may be picked.
        """
        healthy = await self._healthy(model, messages, input, specific_deployment, request_kwargs)
        if not isinstance(healthy, list) or len(healthy) == 1:
            return healthy[0] if isinstance(healthy, list) else healthy
        picked = None
        future = self._submit(healthy, messages, input, request_kwargs)
        if future is not None:
            try:
                waited = asyncio.wrap_future(future)
                picked = await asyncio.wait_for(asyncio.shield(waited), self._patience_s)
            except Exception as error:  # noqa: BLE001 - the request goes on, whatever it is
                self._fail(future, error)
        return picked or self._shuffled(model, healthy, request_kwargs)

    def get_available_deployment(
        self,
        model: str,
        messages: list[dict[str, str]] | None = None,
        input: str | list[Any] | None = None,  # noqa: A002 - the Router passes it by this name
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """The same for `completion` and its like."""
        asked = (model, messages, input, specific_deployment, request_kwargs)
        healthy = without_loop(lambda: self._healthy(*asked))
        if not isinstance(healthy, list) or len(healthy) == 1:
            return healthy[0] if isinstance(healthy, list) else healthy
        picked = None
        future = self._submit(healthy, messages, input, request_kwargs)
        if future is not None:
            try:
                picked = future.result(self._patience_s)
            except Exception as error:  # noqa: BLE001 - the request goes on, whatever it is
                self._fail(future, error)
        return picked or self._shuffled(model, healthy, request_kwargs)

    # -- what the Router would do -----------------------------------------------------------

    def _healthy(
        self,
        model: str,
        messages: Any,
        input: Any,  # noqa: A002 - as above
        specific_deployment: bool | None,
        request: dict[str, Any] | None,
    ) -> Coroutine[Any, Any, Any]:
        """The deployments that may be picked; a mapping where the request names the one."""
        asked = {
            "messages": messages,
            "input": input,
            "specific_deployment": specific_deployment,
        }
        request = {} if request is None else request
        found: Coroutine[Any, Any, Any]
        if hasattr(self._router, "select"):
            found = self._router.select(model, request, kind="healthy", **asked)
        else:  # older Routers have another word for it
            found = self._router.async_get_healthy_deployments(model, request, **asked)
        return found

    def _shuffled(self, model: str, healthy: Sequence[Deployment], request: Any) -> Deployment:
        """What the Router picks by default: any, or by `weight`, `rpm` or `tpm`."""
        picked: Deployment = simple_shuffle(lambda _: None, healthy, model, request)
        return picked

    # -- by forecast ------------------------------------------------------------------------

    def _submit(
        self, healthy: Sequence[Deployment], messages: Any, text: Any, request: Any
    ) -> Future[Deployment | None] | None:
        """Begin to pick, in a thread, where it can be waited for with a deadline.

        None while an earlier pick that was too late is still at it: a ledger that hangs delays one
        request, not each.
        """
        if self._late is not None and not self._late.done():
            return None
        try:
            process = os.getpid()
            if self._pool is None or self._pool[0] != process:  # a fork has no threads
                threads = ThreadPoolExecutor(1, thread_name_prefix="calibration-ledger")
                self._pool = process, threads
                self._late = None
            return self._pool[1].submit(self._pick, healthy, messages, text, request or {})
        except Exception as error:  # noqa: BLE001 - at the end of a program no thread starts
            self._warn(error)
            return None

    def _pick(
        self, healthy: Sequence[Deployment], messages: Any, text: Any, request: Mapping[str, Any]
    ) -> Deployment | None:
        """The deployment that is forecast to answer soonest; None where there is no history."""
        by_name: dict[str, list[Deployment]] = defaultdict(list)
        for deployment in left_of(healthy, request):
            by_name[self._name(deployment)].append(deployment)
        tokens = prompt_tokens(messages, text, request)
        asked = {**self._asked, "max_tokens": max_tokens(request), "seed": seed_of(request)}
        deadline_ms = deadline_of(request)
        try:
            found = self._calibrator.soonest(tokens, by_name, deadline_ms=deadline_ms, **asked)
        except NoHistoryError:
            return None
        except DeadlineError:
            ranked = self._calibrator.rank(tokens, by_name, max_tokens=asked["max_tokens"])
            known = [one for one in ranked if one.status != "no history"]
            found = max(known, key=lambda one: one.chance_within(deadline_ms or 0.0))
        return secrets.choice(by_name[found.model])

    def _fail(self, future: Future[Deployment | None], error: Exception) -> None:
        if not future.done():
            self._late = future
        self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            _LOG.warning(
                "a request was not routed by forecast, but by LiteLLM's shuffle (%s: %s). The "
                "request goes on; this is said once.",
                type(error).__name__,
                error,
            )


def without_loop(make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What a coroutine gives, for a caller that has no event loop, or must not wait on it.

    Nearly always it need not wait. Where it asks a server (Redis, say), it gets a loop of its own,
    in a thread, because one may be running in this.
    """
    work = make()
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    except RuntimeError:  # it wants a loop; should it be another error, that comes again
        pass
    work.close()
    loop = asyncio.new_event_loop()
    try:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(loop.run_until_complete, make()).result()
    finally:
        loop.close()


def prompt_tokens(messages: Any, text: Any, request: Mapping[str, Any]) -> int:
    """The tokens that go in, as LiteLLM counts them.

    By its default vocabulary for all deployments: others may have to be downloaded first.
    """
    if messages is None:
        messages = request.get("messages")
    if messages is not None:
        count = token_counter(model="", messages=messages, tools=request.get("tools"))
    else:
        text = request.get("prompt") if text is None else text
        if text is None:
            raise ValueError("the request has no prompt that could be counted")
        count = token_counter(model="", text=text)
    return int(count)


def max_tokens(request: Mapping[str, Any]) -> int | None:
    """The most tokens that may come out; None for no bound."""
    found = [request[name] for name in _CAPS if isinstance(request.get(name), int)]
    return min(found, default=None)


def left_of(healthy: Sequence[Deployment], request: Mapping[str, Any]) -> Sequence[Deployment]:
    """The deployments at which this request has not failed yet; all where it has at each."""
    failures: list[Any] = []
    for bucket in ("metadata", "litellm_metadata"):
        failures += (request.get(bucket) or {}).get("previous_models") or ()
    failed = {one.get("deployment_id") for one in failures if isinstance(one, dict)}
    return [one for one in healthy if id_of(one) not in failed] or healthy


def seed_of(request: Mapping[str, Any]) -> str | None:
    """What a request's lot is drawn from: its id, which its retries have, too."""
    found = request.get("litellm_trace_id")
    return found if isinstance(found, str) else None


def deadline_of(request: Mapping[str, Any]) -> float | None:
    """The timeout of a request in ms; None for none, and for a stream, where it is of each part."""
    timeout_s = request.get("timeout")
    if request.get("stream") or isinstance(timeout_s, bool):
        return None
    if not isinstance(timeout_s, int | float) or timeout_s <= 0:
        return None
    return timeout_s * 1000.0


# -- recording ------------------------------------------------------------------------------

_REDACTED = "redacted-by-litellm"
"""What LiteLLM puts in the place of a text that a logger does not want."""

_SEEN_MAX = 1_000
"""Events that are remembered: of one call they come within moments of each other."""


class LedgerLogger(Hook, CustomLogger):  # type: ignore[misc]  # litellm is not followed
    """Records the calls that LiteLLM reports: `litellm.callbacks = [LedgerLogger(calibrator)]`.

    It sees `completion`, `text_completion`, `responses` and their like, sync, async and streamed,
    those of a Router, and in the proxy, where `callbacks:` of the configuration names an instance.

    A call's time is that from LiteLLM's start to its end (`clock: client`), with the retries of
    `num_retries` in it; a Router reports each attempt by itself. Its model is named as a
    `ForecastStrategy` names the deployment: `openai/gpt-4o-mini`, say.

    What cannot be learnt from is counted in `skipped`. LiteLLM reports neither a stream
    that its reader leaves nor a cancelled task, so they are not counted. Where the counts of a
    stream are LiteLLM's own, because nobody asked the provider with
    `stream_options={"include_usage": True}`, they are `estimated tokens`. (Its `ollama` counts the
    prompt itself where Ollama does not; nothing tells that of a whole answer.)

    Nothing of prompts and answers is kept, and none of it is needed: `turn_off_message_logging`
    changes nothing.

    Attributes:
        recorder: what records the calls.
    """

    def __init__(
        self,
        calibrator: AdaptiveCalibrator | Recorder,
        *,
        name: Callable[[Deployment], str] = model_of,
        on_error: OnError = "warn",
        **settings: Any,
    ) -> None:
        """Record into the ledger of this calibrator.

        Args:
            calibrator: the ledger's, or a recorder.
            name: from a deployment, a mapping with `litellm_params` and `model_info`, to the name
                of its model in the ledger; the same as that of the `ForecastStrategy`. Outside a
                Router, the id of a deployment is empty.
            on_error: see `AdaptiveCalibrator.recorder`. The hooks of one calibrator share a
                recorder, and so the first one's wish; a recorder that is handed in has its own.
            settings: those of LiteLLM's `CustomLogger`, such as `turn_off_message_logging`.

        Raises:
            InvalidInputError: an argument is not what it must be.
        """
        super().__init__(**settings)
        self.recorder = recorder_of(calibrator, on_error)
        self._name = name
        self._seen: dict[tuple[Any, ...], object] = {}

    # -- what LiteLLM calls, by keyword -----------------------------------------------------

    def log_success_event(
        self,
        kwargs: Mapping[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """Record a call of `completion` and its like, once LiteLLM is done with it."""
        self._take(kwargs, response_obj, start_time, end_time)

    def log_failure_event(
        self,
        kwargs: Mapping[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """Count a call that failed."""
        self._take(kwargs, response_obj, start_time, end_time, is_failure=True)

    async def async_log_success_event(
        self,
        kwargs: Mapping[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """The same for `acompletion` and its like; it runs on the event loop, and never waits."""
        self._take(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self,
        kwargs: Mapping[str, Any],
        response_obj: Any,
        start_time: Any,
        end_time: Any,
    ) -> None:
        """Count a call of `acompletion` and its like that failed."""
        self._take(kwargs, response_obj, start_time, end_time, is_failure=True)

    # -- what is made of it -----------------------------------------------------------------

    def _take(
        self,
        event: Mapping[str, Any],
        answer: Any,
        start: datetime,
        end: datetime,
        *,
        is_failure: bool = False,
    ) -> None:
        try:
            payload = event.get("standard_logging_object") or {}
            call_id = event.get("litellm_call_id")
            # All attempts of a request through the proxy have one id, of which one succeeds.
            seen = (call_id, start) if is_failure else (call_id,)
            if call_id is not None and not self._is_new(seen):
                self.recorder.skip("duplicate")
            elif event.get("call_type") not in COMPLETIONS:
                self.recorder.skip("not a completion")
            elif is_failure:
                error = event.get("exception")
                self.recorder.skip(
                    reason_of(error) if isinstance(error, BaseException) else "failed"
                )
            elif is_cached(event) or is_cached(payload):
                self.recorder.skip("cached")
            elif is_estimate(event, payload, answer):
                self.recorder.skip("estimated tokens")
            else:
                self._put(event, payload, answer, start, end)
        except Exception as error:  # noqa: BLE001 - whatever it is, the program goes on
            self.recorder.fail(error)

    def _is_new(self, event: tuple[Any, ...]) -> bool:
        """Whether no other thread has seen this event before."""
        if len(self._seen) >= _SEEN_MAX:
            with suppress(StopIteration, RuntimeError):  # another thread makes room, too
                self._seen.pop(next(iter(self._seen)), None)
        me = object()
        return self._seen.setdefault(event, me) is me

    def _put(
        self,
        event: Mapping[str, Any],
        payload: Mapping[str, Any],
        answer: Any,
        start: datetime,
        end: datetime,
    ) -> None:
        deployment = deployment_of(event, payload)
        asked = model_of(deployment)
        read = read_answer(answer, asked_model=asked)
        if isinstance(read, Unlearnable):
            self.recorder.skip(read.reason)
            return
        is_stream = bool(event.get("stream"))
        details: dict[str, Any] = {"clock": "client", "streamed": is_stream}
        first = event.get("completion_start_time")
        if is_stream and isinstance(first, datetime) and first <= end:
            details["ttft_ms"] = _ms_between(start, first)
        self.recorder.put(
            call_of(
                without_echo(read, asked),
                _ms_between(start, end),
                model=self._name(deployment),
                called_at=datetime.fromtimestamp(start.timestamp(), UTC),
                request_id=event.get("litellm_call_id"),
                details=details,
            )
        )


def deployment_of(event: Mapping[str, Any], payload: Mapping[str, Any]) -> Deployment:
    """The deployment of a call, as far as `model_of` and `id_of` look at it.

    A Router says the model as its configuration names it. Else it is the model with the provider
    before it, unless it stands there. (`litellm_model_name` is no help: streams and failures have
    none, and a model that was asked for without its provider stands so in it.)
    """
    about: dict[str, Any] = {}
    for bucket in ("metadata", "litellm_metadata"):
        about |= (event.get("litellm_params") or {}).get(bucket) or {}
    model = about.get("deployment")
    if not model:
        model = payload.get("model") or event.get("model") or ""
        model = named_model(model, event.get("custom_llm_provider"))
    return {
        "model_name": payload.get("model_group") or "",
        "litellm_params": {"model": model, "api_base": payload.get("api_base")},
        "model_info": about.get("model_info") or {"id": payload.get("model_id") or ""},
    }


def is_estimate(event: Mapping[str, Any], payload: Mapping[str, Any], answer: Any) -> bool:
    """Whether LiteLLM counted the tokens of a stream itself, because the provider did not say them.

    The chunks of a stream tell, where LiteLLM hands them on. Else its figures must. Counts with
    parts are a provider's. Those without, of OpenAI's kind, are LiteLLM's if nobody asked for them,
    or if LiteLLM would count just so: some servers are asked, and say nothing.
    """
    if not event.get("stream") or event.get("call_type") in RESPONSES:
        return False
    chunks = getattr(event.get("original_response"), "chunks", None)
    if chunks and isinstance(chunks, list):
        return all(getattr(chunk, "usage", None) is None for chunk in chunks)
    usage = (payload.get("metadata") or {}).get("usage_object") or {}
    if says_counts(event.get("custom_llm_provider"), usage):
        return False
    options = (event.get("optional_params") or {}).get("stream_options") or {}
    return not options.get("include_usage") or _is_as_litellm_counts(answer)


def _is_as_litellm_counts(answer: Any) -> bool:
    """Whether the tokens of an answer are as many as LiteLLM counts; True where nothing tells."""
    try:
        text = answer.choices[0].message.content
        usage = answer.usage
        hidden = getattr(usage.completion_tokens_details, "reasoning_tokens", None) or 0
        if not text or text == _REDACTED:
            return True
        counted = token_counter(model=answer.model or "", text=text, count_response_tokens=True)
        return bool(counted == usage.completion_tokens - hidden)
    except (AttributeError, IndexError, TypeError):
        return True


def _ms_between(start: datetime, end: datetime) -> float:
    return max(0.0, (end - start).total_seconds() * 1000.0)
