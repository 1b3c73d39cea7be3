"""timed() around the real clients: their answers and streams are read as they come."""

import asyncio

import pytest

HELLO = [{"role": "user", "content": "hello there"}]
USAGE = {"stream_options": {"include_usage": True}}


def openai_like(package, kinds, base):
    def make(fake, is_async):
        module = pytest.importorskip(package)
        kind = getattr(module, kinds[is_async])
        client = kind(base_url=base(fake), api_key="x", max_retries=0)
        create = client.chat.completions.create
        more = USAGE if package == "openai" else {}
        return (
            client,
            lambda: create(model="asked", messages=HELLO),
            lambda: create(model="asked", messages=HELLO, stream=True, **more),
        )

    return make


def responses(fake, is_async):
    module = pytest.importorskip("openai")
    kind = module.AsyncOpenAI if is_async else module.OpenAI
    client = kind(base_url=fake.openai, api_key="x", max_retries=0)
    create = client.responses.create
    return (
        client,
        lambda: create(model="asked", input="hello"),
        lambda: create(model="asked", input="hello", stream=True),
    )


def anthropic(fake, is_async):
    module = pytest.importorskip("anthropic")
    kind = module.AsyncAnthropic if is_async else module.Anthropic
    client = kind(base_url=fake.root, api_key="x", max_retries=0)
    create = client.messages.create
    return (
        client,
        lambda: create(model="asked", max_tokens=9, messages=HELLO),
        lambda: create(model="asked", max_tokens=9, messages=HELLO, stream=True),
    )


def ollama(fake, is_async):
    module = pytest.importorskip("ollama")
    client = (module.AsyncClient if is_async else module.Client)(host=fake.root)
    return (
        client,
        lambda: client.chat(model="asked", messages=HELLO),
        lambda: client.chat(model="asked", messages=HELLO, stream=True),
    )


def gemini(fake, is_async):
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key="x", http_options={"base_url": fake.root})
    client = client.aio if is_async else client
    models = client.models
    return (
        client,
        lambda: models.generate_content(model="asked", contents="hello"),
        lambda: models.generate_content_stream(model="asked", contents="hello"),
    )


def mistral(fake, is_async):
    module = pytest.importorskip("mistralai.client")
    fake.default.usage = "always"  # as Mistral has it, whether asked for or not
    client = module.Mistral(api_key="x", server_url=fake.root)
    chat = client.chat
    if is_async:
        return (
            client,
            lambda: chat.complete_async(model="asked", messages=HELLO),
            lambda: chat.stream_async(model="asked", messages=HELLO),
        )
    return (
        client,
        lambda: chat.complete(model="asked", messages=HELLO),
        lambda: chat.stream(model="asked", messages=HELLO),
    )


CLIENTS = {
    "openai": openai_like("openai", ("OpenAI", "AsyncOpenAI"), lambda fake: fake.openai),
    "openai.responses": responses,
    "groq": openai_like("groq", ("Groq", "AsyncGroq"), lambda fake: fake.root),
    "anthropic": anthropic,
    "ollama": ollama,
    "gemini": gemini,
    "mistral": mistral,
}


def check(calibrator, server_ms):
    whole, streamed = calibrator.calls()
    for call in (whole, streamed):
        assert (call.model, call.prompt_tokens, call.completion_tokens) == ("asked", 11, 7)
        assert call.actual_ms >= server_ms
        assert call.details["clock"] == "client"
    assert 10.0 <= streamed.details["ttft_ms"] <= streamed.actual_ms
    assert streamed.details["streamed"] is True
    assert calibrator.skipped == {}


def server_ms_of(fake):
    return min(call.server_ms or 0.0 for call in fake.calls) - 2


@pytest.mark.parametrize("name", CLIENTS)
def test_a_clients_answer_and_its_stream_are_recorded(fake, calibrator, name):
    client, ask, ask_streaming = CLIENTS[name](fake, False)
    with client:
        with calibrator.timed("asked") as call:
            call.answer = ask()
        with calibrator.timed("asked") as call:
            for _ in call.stream(ask_streaming()):
                pass
    check(calibrator, server_ms_of(fake))


@pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")  # google-genai's
@pytest.mark.parametrize("name", CLIENTS)
def test_an_asynchronous_clients_answer_and_its_stream_too(fake, calibrator, name):
    async def main():
        client, ask, ask_streaming = CLIENTS[name](fake, True)
        async with client:
            async with calibrator.timed("asked") as call:
                call.answer = await ask()
            async with calibrator.timed("asked") as call:
                async for _ in call.stream(await ask_streaming()):
                    pass

    asyncio.run(main())
    check(calibrator, server_ms_of(fake))


def test_a_manager_of_streams_is_entered_inside(fake, calibrator):
    module = pytest.importorskip("anthropic")
    with module.Anthropic(base_url=fake.root, api_key="x", max_retries=0) as client:
        asked = {"model": "asked", "max_tokens": 9, "messages": HELLO}
        with calibrator.timed("asked") as call, client.messages.stream(**asked) as stream:
            assert len(list(call.stream(stream))) > 3
        with (
            calibrator.timed("asked") as call,
            call.stream(client.messages.stream(**asked)) as stream,
        ):
            assert len(list(stream)) > 3
            assert stream.get_final_message().usage.output_tokens == 7
    assert [call.completion_tokens for call in calibrator.calls()] == [7, 7]
    assert calibrator.skipped == {}


def test_a_clients_time_out_is_counted_as_one(fake, calibrator):
    module = pytest.importorskip("openai")
    fake.default.first_ms = 2_000
    client = module.OpenAI(base_url=fake.openai, api_key="x", max_retries=0, timeout=0.05)
    with client, pytest.raises(module.APITimeoutError), calibrator.timed("asked") as call:
        call.answer = client.chat.completions.create(model="asked", messages=HELLO)
    assert calibrator.skipped == {"timeout": 1}
