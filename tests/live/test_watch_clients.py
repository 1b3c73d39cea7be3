"""`watch` with the real clients of providers, and with frameworks above them."""

import asyncio
import dataclasses
import gc
import os
import statistics
from collections import Counter
from contextlib import suppress

import pytest

from calibration_ledger.live import AsyncLedgerTransport, LedgerTransport, watch
from support.fake_provider import Behaviour

pytestmark = pytest.mark.filterwarnings("ignore")  # those of what is imported here

HELLO = [{"role": "user", "content": "hello there"}]
CHAT = {"model": "asked", "messages": HELLO}
USAGE = {"stream_options": {"include_usage": True}}
TIMEOUT_S = 1.0
ROUNDS = 20
"""Calls of each kind: their median is compared with the server's own time."""


# -- the clients: each is made once, and gives what makes one call ---------------------------


def openai_of(fake, how, **more):
    openai = pytest.importorskip("openai")
    kind = openai.OpenAI if how == "sync" else openai.AsyncOpenAI
    return kind(
        base_url=fake.openai, api_key="x", **{"max_retries": 0, "timeout": TIMEOUT_S, **more}
    )


def openai_chat(fake, how, streamed):
    client = openai_of(fake, how)
    more = {**USAGE, "stream": True} if streamed else {}
    return lambda: client.chat.completions.create(**CHAT, **more)


def openai_responses(fake, how, streamed):
    client = openai_of(fake, how)
    return lambda: client.responses.create(model="asked", input="hello", stream=streamed)


def openai_completions(fake, how, streamed):
    client = openai_of(fake, how)
    more = {**USAGE, "stream": True} if streamed else {}
    return lambda: client.completions.create(model="asked", prompt="hello", **more)


def anthropic(fake, how, streamed):
    package = pytest.importorskip("anthropic")
    kind = package.Anthropic if how == "sync" else package.AsyncAnthropic
    client = kind(base_url=fake.root, api_key="x", max_retries=0, timeout=TIMEOUT_S)
    return lambda: client.messages.create(**CHAT, max_tokens=9, stream=streamed)


def groq(fake, how, streamed):
    package = pytest.importorskip("groq")
    kind = package.Groq if how == "sync" else package.AsyncGroq
    client = kind(base_url=fake.root, api_key="x", max_retries=0, timeout=TIMEOUT_S)
    return lambda: client.chat.completions.create(**CHAT, stream=streamed)


def ollama(fake, how, streamed):
    package = pytest.importorskip("ollama")
    kind = package.Client if how == "sync" else package.AsyncClient
    client = kind(host=fake.root, timeout=TIMEOUT_S)
    return lambda: client.chat(**CHAT, stream=streamed)


def ollama_generate(fake, how, streamed):
    package = pytest.importorskip("ollama")
    kind = package.Client if how == "sync" else package.AsyncClient
    client = kind(host=fake.root, timeout=TIMEOUT_S)
    return lambda: client.generate(model="asked", prompt="hello", stream=streamed)


def gemini(fake, how, streamed):
    genai = pytest.importorskip("google.genai")
    options = {"base_url": fake.root, "timeout": int(TIMEOUT_S * 1_000)}
    if how == "async":  # else it takes aiohttp where that is installed, as LiteLLM's is here
        options["httpx_async_client"] = pytest.importorskip("httpx2").AsyncClient(timeout=TIMEOUT_S)
    client = genai.Client(api_key="x", http_options=options)
    models = client.models if how == "sync" else client.aio.models
    call = models.generate_content_stream if streamed else models.generate_content

    def ask():
        assert client  # what is only borrowed of it closes with it
        return call(model="asked", contents="hello there")

    return ask


def mistral(fake, how, streamed):
    package = pytest.importorskip("mistralai.client")
    fake.default.usage = "always"  # Mistral's streams tell it unasked
    chat = package.Mistral(
        api_key="x", server_url=fake.root, timeout_ms=int(TIMEOUT_S * 1_000)
    ).chat
    name = ("stream" if streamed else "complete") + ("" if how == "sync" else "_async")
    return lambda: getattr(chat, name)(**CHAT)


def litellm_of(model, **more):
    def make(fake, how, streamed):
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        litellm = pytest.importorskip("litellm")
        call = litellm.completion if how == "sync" else litellm.acompletion
        given = {key: value.format(fake=fake) for key, value in more.items()}
        if streamed:
            given |= {"stream": True, **USAGE}
        given |= {"api_key": "x", "max_retries": 0, "timeout": TIMEOUT_S}
        return lambda: call(model=model, messages=HELLO, **given)

    return make


def langchain(fake, how, streamed):
    package = pytest.importorskip("langchain_openai")
    model = package.ChatOpenAI(
        model="asked",
        base_url=fake.openai,
        api_key="x",
        stream_usage=True,
        max_retries=0,
        timeout=TIMEOUT_S,
    )
    name = ("" if how == "sync" else "a") + ("stream" if streamed else "invoke")
    return lambda: getattr(model, name)("hello there")


def pydantic_ai(fake, how, streamed):
    package = pytest.importorskip("pydantic_ai")
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(openai_client=openai_of(fake, "async"))
    agent = package.Agent(OpenAIChatModel("asked", provider=provider))
    if not streamed:
        return lambda: (agent.run_sync if how == "sync" else agent.run)("hello there")
    if how == "sync":
        return lambda: agent.run_stream_sync("hello there").stream_text()

    async def stream():
        async with agent.run_stream("hello there") as result:
            return [text async for text in result.stream_text()]

    return stream


CLIENTS = {
    "openai": openai_chat,
    "openai, responses": openai_responses,
    "openai, completions": openai_completions,
    "anthropic": anthropic,
    "groq": groq,
    "ollama": ollama,
    "ollama, generate": ollama_generate,
    "google-genai": gemini,
    "mistralai": mistral,
    "litellm, openai": litellm_of("openai/asked", api_base="{fake.openai}"),
    "litellm, anthropic": litellm_of("anthropic/asked", api_base="{fake.root}"),
    "litellm, groq": litellm_of("groq/asked", api_base="{fake.root}/openai/v1"),
    "litellm, ollama": litellm_of("ollama/asked", api_base="{fake.root}"),
    "langchain": langchain,
    "pydantic-ai": pydantic_ai,
}


async def drained(answer, *, most=None):
    """Read an answer to its end, or its first part, whatever it is: a value, or a stream."""
    if hasattr(answer, "__await__"):
        answer = await answer
    if hasattr(answer, "__aiter__"):
        parts = aiter(answer)
        read = [await anext(parts)] if most else [part async for part in parts]
        for one in (parts, answer):
            for name in ("aclose", "close") if most else ():
                with suppress(Exception):
                    await getattr(one, name)()
        return read
    return drain(answer, most=most)


def drain(answer, *, most=None):
    if not hasattr(answer, "__iter__") or isinstance(answer, dict):
        return answer
    parts = iter(answer)
    read = [next(parts)] if most else list(parts)
    for one in (parts, answer):
        if most and hasattr(one, "close"):
            one.close()
    return read


def tried(fake, how, streamed, client, plans, *, most=None):
    """Make a call for each plan with one client; what it raises is its own affair."""

    async def not_sync():
        call = CLIENTS[client](fake, "async", streamed)
        for plan in plans:
            fake.plan(plan)
            with suppress(Exception):
                await drained(call(), most=most)
            gc.collect()
            await asyncio.sleep(0)

    if how == "async":
        asyncio.run(not_sync())
        return
    call = CLIENTS[client](fake, "sync", streamed)
    for plan in plans:
        fake.plan(plan)
        with suppress(Exception):
            drain(call(), most=most)
        gc.collect()


@pytest.fixture(autouse=True)
def _nothing_is_left_open():
    """Clients that nobody closes warn when they go, which is here, where warnings are ignored."""
    yield
    gc.collect()


@pytest.fixture(params=["sync", "async"])
def how(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def streamed(request):
    return request.param


@pytest.mark.parametrize("client", CLIENTS)
def test_each_answered_call_is_one_with_the_providers_counts_and_time(
    calibrator, fake, how, streamed, client
):
    fake.default.per_completion_token_ms = 1
    with watch(calibrator) as watched:
        tried(fake, how, streamed, client, [fake.default] * ROUNDS)
    calls = list(calibrator.calls())
    assert (watched.recorded, dict(watched.skipped)) == (ROUNDS, {})
    assert {(c.model, c.prompt_tokens, c.completion_tokens) for c in calls} == {("asked", 11, 7)}
    assert len(fake.calls) == ROUNDS
    is_stream = fake.calls[0].stream
    assert all(call.details["streamed"] is is_stream for call in calls)
    assert all(("ttft_ms" in call.details) is is_stream for call in calls)
    # It waits for 10 ms, and 1 ms a token; what it measures itself ends with its thread's turn.
    assert all(call.actual_ms >= 17 for call in calls)
    over_ms = [one.actual_ms - seen.server_ms for one, seen in zip(calls, fake.calls, strict=True)]
    assert 0 <= statistics.median(over_ms) <= 50


FAILURES = {
    "429": (Behaviour(failure="status", status=429), "failed"),
    "500": (Behaviour(failure="status", status=500), "failed"),
    "time-out": (Behaviour(failure="hang", hang_s=2), "timeout"),
    "disconnect": (Behaviour(failure="disconnect"), "failed"),
    "error in the answer": (Behaviour(failure="error_event"), "failed"),
    "no JSON": (Behaviour(failure="bad_json"), "unreadable"),
    "no usage": (Behaviour(usage="omit", ollama_omit=("eval_count",)), "unknown tokens"),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_fails_is_not_recorded_but_counted_by_reason(calibrator, fake, how, streamed, client):
    with watch(calibrator) as watched:
        tried(fake, how, streamed, client, [plan for plan, _ in FAILURES.values()])
    # What a client tries again without being asked (google-genai after a disconnect) is answered.
    again = len(fake.calls) - len(FAILURES)
    expected = Counter(reason for _, reason in FAILURES.values())
    assert (watched.recorded, dict(watched.skipped)) == (again, dict(expected))
    assert again <= 1


@pytest.mark.parametrize("client", CLIENTS)
def test_a_stream_that_is_left_early_is_counted(calibrator, fake, how, client):
    slow = dataclasses.replace(fake.default, per_completion_token_ms=30, chunks=7)
    with watch(calibrator) as watched:
        tried(fake, how, True, client, [slow], most=1)
    # pydantic-ai reads a stream to its end when it is left.
    assert watched.recorded == 0 or client == "pydantic-ai"
    assert watched.recorded + sum(watched.skipped.values()) == 1
    assert watched.skipped.keys() <= {"left early", "cancelled"}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_cancelled_task_is_counted(calibrator, fake, streamed, client):
    slow = dataclasses.replace(fake.default, first_ms=600)

    async def cancelled():
        call = CLIENTS[client](fake, "async", streamed)
        fake.plan(slow)
        task = asyncio.create_task(drained(call()))
        while not fake.calls:  # noqa: ASYNC110 - the server runs in threads
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with watch(calibrator) as watched:
        asyncio.run(cancelled())
    assert (watched.recorded, dict(watched.skipped)) == (0, {"cancelled": 1})


def with_retries(client, fake, how):
    """A call of a client that tries again."""
    if client == "langchain":
        package = pytest.importorskip("langchain_openai")
        model = package.ChatOpenAI(model="asked", base_url=fake.openai, api_key="x", max_retries=2)
        return lambda: (model.invoke if how == "sync" else model.ainvoke)("hello there")
    if client == "litellm":
        litellm = pytest.importorskip("litellm")
        call = litellm.completion if how == "sync" else litellm.acompletion
        given = {"api_base": fake.openai, "api_key": "x", "max_retries": 2}
        return lambda: call(model="openai/asked", messages=HELLO, **given)
    if client == "openai":
        opened = openai_of(fake, how, max_retries=2)
        return lambda: opened.chat.completions.create(**CHAT)
    package = pytest.importorskip(client)
    names = {"anthropic": ("Anthropic", "AsyncAnthropic"), "groq": ("Groq", "AsyncGroq")}[client]
    kind = getattr(package, names[how == "async"])
    opened = kind(base_url=fake.root, api_key="x", max_retries=2)
    if client == "anthropic":
        return lambda: opened.messages.create(**CHAT, max_tokens=9)
    return lambda: opened.chat.completions.create(**CHAT)


@pytest.mark.parametrize("client", ["openai", "anthropic", "groq", "litellm", "langchain"])
def test_of_a_call_that_is_tried_again_the_last_attempt_alone_is_recorded(
    calibrator, fake, how, client
):
    async def not_sync():
        await drained(with_retries(client, fake, how)())

    fake.plan(Behaviour(failure="status", status=429, retry_after_s=0.4, fail_times=2))
    with watch(calibrator) as watched:
        if how == "async":
            asyncio.run(not_sync())
        else:
            with_retries(client, fake, how)()
    (call,) = calibrator.calls()
    assert [one.outcome for one in fake.calls] == ["status", "status", "ok"]
    assert (watched.recorded, dict(watched.skipped)) == (1, {"failed": 2})
    assert 10 <= call.actual_ms < 350


def test_a_transport_of_pydantic_ai_that_tries_again_is_seen_attempt_by_attempt(
    calibrator, fake, how
):
    httpx2 = pytest.importorskip("httpx2")
    retries = pytest.importorskip("pydantic_ai.retries")
    tenacity = pytest.importorskip("tenacity")
    config = retries.RetryConfig(
        retry=tenacity.retry_if_exception_type(httpx2.HTTPStatusError),
        wait=tenacity.wait_fixed(0.4),
        stop=tenacity.stop_after_attempt(3),
        reraise=True,
    )
    fake.plan(Behaviour(failure="status", status=429, fail_times=2))
    url = fake.openai + "/chat/completions"

    async def not_sync():
        transport = retries.AsyncHTTPX2TenacityTransport(
            config, validate_response=lambda got: got.raise_for_status()
        )
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.post(url, json=CHAT)

    with watch(calibrator) as watched:
        if how == "async":
            assert asyncio.run(not_sync()).status_code == 200
        else:
            transport = retries.HTTPX2TenacityTransport(
                config, validate_response=lambda got: got.raise_for_status()
            )
            with httpx2.Client(transport=transport) as client:
                assert client.post(url, json=CHAT).status_code == 200
    (call,) = calibrator.calls()
    assert (watched.recorded, dict(watched.skipped)) == (1, {"failed": 2})
    assert call.actual_ms < 350


def test_a_transport_for_one_client_records_without_a_watch(calibrator, fake, how):
    openai = pytest.importorskip("openai")
    ours = LedgerTransport if how == "sync" else AsyncLedgerTransport
    http = openai.DefaultHttpxClient if how == "sync" else openai.DefaultAsyncHttpxClient
    transport = ours(calibrator)
    client = openai_of(fake, how, http_client=http(transport=transport))

    async def not_sync():
        async with client:
            await client.chat.completions.create(**CHAT)
            await drained(client.chat.completions.create(**CHAT, **USAGE, stream=True))

    if how == "async":
        asyncio.run(not_sync())
    else:
        with client:
            client.chat.completions.create(**CHAT)
            drain(client.chat.completions.create(**CHAT, **USAGE, stream=True))
    assert transport.recorder.flush(10)
    assert (transport.recorded, dict(transport.skipped), transport.dropped) == (2, {}, 0)
    assert [call.details["streamed"] for call in calibrator.calls()] == [False, True]


def test_what_the_client_gives_is_what_it_gives_without(calibrator, fake, how):
    client = openai_of(fake, how)

    def given():
        answers = []

        async def not_sync():
            answers.append(await client.chat.completions.create(**CHAT))
            stream = await client.chat.completions.create(**CHAT, **USAGE, stream=True)
            answers.extend([part async for part in stream])

        if how == "async":
            asyncio.run(not_sync())
        else:
            answers.append(client.chat.completions.create(**CHAT))
            answers.extend(client.chat.completions.create(**CHAT, **USAGE, stream=True))
        return [one.model_dump(exclude={"id", "created"}) for one in answers]

    without = given()
    client = openai_of(fake, how)
    with watch(calibrator):
        assert given() == without
