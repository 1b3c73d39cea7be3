"""LiteLLM: let its Router pick the deployment that is forecast to answer soonest.

The Router says which deployments may be picked: those on cooldown, unhealthy, excluded or out of
budget never get here. Of these, this picks by forecast. Whatever goes wrong in that, or takes too
long, the request goes on: the Router's own default, its weighted shuffle, picks instead, and a
warning is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from litellm import token_counter
from litellm.router_strategy.simple_shuffle import simple_shuffle
from litellm.types.router import CustomRoutingStrategyBase

from calibration_ledger.core.validation import check_milliseconds
from calibration_ledger.errors import DeadlineError, NoHistoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from concurrent.futures import Future

    from litellm import Router

    from calibration_ledger.calibrator import AdaptiveCalibrator
    from calibration_ledger.core.rank import RankBy

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
