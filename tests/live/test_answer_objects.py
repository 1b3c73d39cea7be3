"""What the real clients and frameworks hand out is read as it is, without a copy of its text."""

import asyncio
import contextlib
import dataclasses

import pytest

from calibration_ledger import from_answer
from calibration_ledger.core.answers import Answer, AnswerReader, read_answer
from support.fake_provider import Behaviour

pytestmark = pytest.mark.filterwarnings("ignore")
"""The clients' own: names that end soon, connections that the interpreter closes."""

HELLO = [{"role": "user", "content": "hello there"}]
ASKED = {"include_usage": True}


@pytest.fixture(autouse=True)
def _counts(fake):
    """100 tokens in, 60 of them from the cache and 30 written to it; 7 out, 2 of them hidden."""
    fake.default = dataclasses.replace(
        fake.default,
        prompt_tokens=100,
        completion_tokens=7,
        cached_tokens=60,
        cache_write_tokens=30,
        reasoning_tokens=2,
        queue_ms=3,
        load_ms=4,
    )


def read(answer):
    """The same from the object, and from what a program has that keeps the events in a list."""
    found = read_answer(answer, asked_model="asked")
    assert isinstance(found, Answer), found
    assert (found.prompt_tokens, found.completion_tokens) == (100, 7)
    assert from_answer(answer, 12.5, model="asked").prompt_tokens == 100
    return found


def read_stream(chunks):
    """The same of a stream, in a list and one by one."""
    events = list(chunks)
    reader = AnswerReader("asked")
    firsts = []
    for event in events:
        reader.add(event)
        firsts.append(reader.has_content)
    assert firsts[-1]
    assert firsts == sorted(firsts)
    assert reader.is_complete
    found = read(events)
    assert reader.result() == found
    assert read_answer(events[:2]).reason == "incomplete"
    return found


# -- openai ---------------------------------------------------------------------------------


@pytest.fixture
def openai(fake):
    package = pytest.importorskip("openai")
    with package.OpenAI(base_url=fake.openai, api_key="x", max_retries=0) as client:
        yield client


def test_chats_of_openai_are_read(openai):
    whole = openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    found = read(whole)
    assert (found.api, found.answered_model) == ("openai.chat", "gpt-4o-mini")
    assert (found.cached_tokens, found.reasoning_tokens) == (60, 2)
    assert found.server_ms is None
    assert read(whole.model_dump()) == read(whole.model_dump_json()) == found
    chunks = openai.chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True, stream_options=ASKED
    )
    assert read_stream(chunks) == found
    chunks = openai.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
    assert read_answer(list(chunks)).reason == "unknown tokens"


def test_the_events_of_openais_stream_helpers_are_read(openai):
    with openai.chat.completions.stream(
        model="gpt-4o-mini", messages=HELLO, stream_options=ASKED
    ) as stream:
        assert read_stream(stream).cached_tokens == 60
    with openai.responses.stream(model="gpt-5", input="hello") as stream:
        assert read_stream(stream).cached_tokens == 60


def test_completions_and_responses_of_openai_are_read(openai):
    found = read(openai.completions.create(model="davinci", prompt="hello"))
    assert found.api == "openai.completions"
    chunks = openai.completions.create(
        model="davinci", prompt="hello", stream=True, stream_options=ASKED
    )
    assert read_stream(chunks) == found
    found = read(openai.responses.create(model="gpt-5", input="hello"))
    assert (found.api, found.cached_tokens, found.reasoning_tokens) == ("openai.responses", 60, 2)
    assert read_stream(openai.responses.create(model="gpt-5", input="hello", stream=True)) == found


def test_what_openai_sends_beside_completions_is_told(openai):
    answers = (openai.embeddings.create(model="e", input="a b"), openai.models.list())
    for answer in answers:
        assert read_answer(answer).reason == "not a completion"


@pytest.mark.parametrize("house", ["llamacpp", "vllm", "cerebras", "openrouter", "deepseek"])
def test_servers_that_answer_as_openai_does_are_read_through_its_client(fake, house):
    package = pytest.importorskip("openai")
    with package.OpenAI(base_url=fake.profile(house), api_key="x", max_retries=0) as client:
        found = read(client.chat.completions.create(model="m", messages=HELLO))
        chunks = client.chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options=ASKED
        )
        streamed = read_stream(chunks)
    assert found.cached_tokens == streamed.cached_tokens == 60
    for one in (found, streamed):
        assert (one.server_ms is not None) == (house in ("llamacpp", "vllm", "cerebras"))
        assert (one.queue_ms is not None) == (house in ("vllm", "cerebras"))


# -- the other clients ----------------------------------------------------------------------


def test_answers_of_anthropic_are_read(fake):
    package = pytest.importorskip("anthropic")
    asked = {"model": "claude-next", "max_tokens": 50, "messages": HELLO}
    with package.Anthropic(base_url=fake.root, api_key="x", max_retries=0) as client:
        found = read(client.messages.create(**asked))
        assert (found.api, found.cached_tokens) == ("anthropic", 60)
        assert read_stream(client.messages.create(**asked, stream=True)) == found
        with client.messages.stream(**asked) as stream:
            assert read_stream(stream) == found
            assert read(stream.get_final_message()) == found


def test_answers_of_groq_are_read_with_their_times(fake):
    package = pytest.importorskip("groq")
    with package.Groq(base_url=fake.root, api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(model="llama-3.1-8b", messages=HELLO)
        chunks = list(
            client.chat.completions.create(model="llama-3.1-8b", messages=HELLO, stream=True)
        )
    usage = whole.usage
    found = read(whole)
    assert found.queue_ms == pytest.approx(usage.queue_time * 1e3)
    assert found.server_ms == pytest.approx((usage.queue_time + usage.total_time) * 1e3)
    assert read_stream(chunks).server_ms > 10


def test_answers_of_ollama_are_read_with_their_times(fake):
    package = pytest.importorskip("ollama")
    client = package.Client(host=fake.root)
    whole = client.chat(model="llama3.2", messages=HELLO)
    found = read(whole)
    assert found.api == "ollama"
    assert found.server_ms == pytest.approx(whole.total_duration / 1e6)
    assert found.load_ms == pytest.approx(whole.load_duration / 1e6)
    assert read_stream(client.chat(model="llama3.2", messages=HELLO, stream=True)).load_ms >= 3
    assert read(client.generate(model="llama3.2", prompt="hello")).api == "ollama"
    assert read_stream(client.generate(model="llama3.2", prompt="hello", stream=True))
    assert read_answer(client.embed(model="e", input="a")).reason == "not a completion"
    fake.plan(Behaviour(completion_tokens=7, ollama_omit=("prompt_eval_count",)))
    assert read_answer(client.chat(model="m", messages=HELLO)).reason == "unknown tokens"
    client._client.close()  # it has no way of its own


def test_answers_of_gemini_are_read(fake):
    genai = pytest.importorskip("google.genai")
    with genai.Client(api_key="x", http_options={"base_url": fake.root}) as client:
        asked = {"model": "gemini-2.5-flash", "contents": "hello"}
        found = read(client.models.generate_content(**asked))
        assert (found.api, found.cached_tokens, found.reasoning_tokens) == ("gemini", 60, 2)
        assert read_stream(client.models.generate_content_stream(**asked)) == found


def test_answers_of_mistral_are_read(fake):
    package = pytest.importorskip("mistralai.client")
    with package.Mistral(api_key="x", server_url=fake.root) as client:
        asked = {"model": "mistral-small-latest", "messages": HELLO}
        found = read(client.chat.complete(**asked))
        assert found.api == "openai.chat"
        fake.default = dataclasses.replace(fake.default, usage="always")
        assert read_stream(client.chat.stream(**asked)).prompt_tokens == 100
        fake.default = dataclasses.replace(fake.default, usage="omit")
        assert read_answer(list(client.chat.stream(**asked))).reason == "unknown tokens"


# -- frameworks -----------------------------------------------------------------------------


def test_answers_of_litellm_are_read(fake, monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch one, and wait
    litellm = pytest.importorskip("litellm")
    asked = {"messages": HELLO, "api_base": fake.openai, "api_key": "x"}
    found = read(litellm.completion("openai/gpt-4o-mini", **asked))
    assert (found.api, found.cached_tokens, found.reasoning_tokens) == ("openai.chat", 60, 2)
    chunks = litellm.completion("openai/gpt-4o-mini", **asked, stream=True, stream_options=ASKED)
    assert read_stream(chunks).prompt_tokens == 100
    claude = {**asked, "api_base": fake.root, "max_tokens": 50}
    assert read(litellm.completion("anthropic/claude-next", **claude)).cached_tokens == 60


@pytest.fixture
def langchain(fake):
    """Chat models of LangChain, each with what else it needs."""
    models = {}
    with contextlib.suppress(ImportError):
        from langchain_openai import ChatOpenAI

        models["openai"] = ChatOpenAI(
            model="gpt-4o-mini", base_url=fake.openai, api_key="x", stream_usage=True
        )
    with contextlib.suppress(ImportError):
        from langchain_anthropic import ChatAnthropic

        models["anthropic"] = ChatAnthropic(
            model="claude-next", base_url=fake.root, api_key="x", max_tokens=50
        )
    with contextlib.suppress(ImportError):
        from langchain_ollama import ChatOllama

        models["ollama"] = ChatOllama(model="llama3.2", base_url=fake.root)
    return models


@pytest.mark.parametrize("name", ["openai", "anthropic", "ollama"])
def test_messages_of_langchain_are_read(langchain, name):
    if name not in langchain:
        pytest.skip(f"needs langchain-{name}")
    model = langchain[name]
    found = read(model.invoke("hello"))
    assert found.api == "langchain"
    chunks = list(model.stream("hello"))
    streamed = read_stream(chunks)
    summed = chunks[0]
    for chunk in chunks[1:]:
        summed = summed + chunk
    assert read(summed) == streamed
    if name == "ollama":
        assert found.server_ms > 10
        assert found.load_ms > 3
    else:
        assert found.cached_tokens == streamed.cached_tokens == 60


def test_a_cache_hit_of_langchain_is_told(fake):
    caches = pytest.importorskip("langchain_core.caches")
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(
        model="m", base_url=fake.openai, api_key="x", cache=caches.InMemoryCache()
    )
    assert read(model.invoke("hello"))
    assert read_answer(model.invoke("hello")).reason == "cached"


def test_responses_of_pydantic_ai_are_read(fake):
    pytest.importorskip("pydantic_ai")
    openai = pytest.importorskip("openai")
    from pydantic_ai.direct import model_request
    from pydantic_ai.messages import ModelRequest
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def ask():
        async with openai.AsyncOpenAI(base_url=fake.openai, api_key="x") as client:
            model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client))
            return await model_request(model, [ModelRequest.user_text_prompt("hello")])

    found = read(asyncio.run(ask()))
    assert (found.api, found.answered_model) == ("pydantic-ai", "gpt-4o-mini")
    assert (found.cached_tokens, found.reasoning_tokens) == (60, 2)
