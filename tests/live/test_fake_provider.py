"""The stand-in for the providers, driven by the real clients that are installed."""

import asyncio
import dataclasses
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.fake_provider import Behaviour

HELLO = [{"role": "user", "content": "hello there"}]


@pytest.fixture(autouse=True)
def _pace(fake):
    """40 ms before the first token, and 4 ms a token: 68 ms in all."""
    fake.default = dataclasses.replace(fake.default, first_ms=40, per_completion_token_ms=4)


def is_near(measured_ms, at_least, spare=400):
    return at_least - 2 <= measured_ms <= at_least + spare


def posted(fake, path, body, **headers):
    request = urllib.request.Request(fake.root + path, json.dumps(body).encode(), headers)  # noqa: S310  it is ours
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read())


def test_it_runs_as_a_program():
    command = [sys.executable, "-m", "support.fake_provider", "--prompt-tokens", "42"]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=tests, stdout=subprocess.PIPE, text=True) as program:
        try:
            root = SimpleNamespace(root=program.stdout.readline().strip())
            usage = posted(root, "/v1/chat/completions", {"model": "m"})["usage"]
        finally:
            program.send_signal(signal.SIGINT)
        assert program.wait(10) == 0
    assert usage["prompt_tokens"] == 42


@pytest.fixture
def openai(fake):
    package = pytest.importorskip("openai")
    with package.OpenAI(base_url=fake.openai, api_key="x", max_retries=0) as client:
        client.package = package
        yield client


def test_a_plan_comes_before_the_default_and_a_header_before_both(fake):
    posted(fake, "/_fake/plan", [{"prompt_tokens": 3, "completion_tokens": 2}])
    body = {"model": "m", "messages": HELLO, "max_tokens": 3}
    header = {"x-fake": '{"prompt_tokens": null, "completion_tokens": null}'}
    usages = [
        posted(fake, "/v1/chat/completions", body)["usage"],
        posted(fake, "/v1/chat/completions", body)["usage"],
        posted(fake, "/v1/chat/completions", body, **header)["usage"],
    ]
    counts = [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in usages]
    assert counts == [(3, 2), (11, 7), (5, 3)]


def test_it_says_what_it_was_asked_and_how_long_it_took(fake):
    posted(fake, "/v1/chat/completions", {"model": "m"})
    with urllib.request.urlopen(fake.root + "/_fake/calls", timeout=10) as answer:  # noqa: S310
        (call,) = json.loads(answer.read())
    assert (call["model"], call["outcome"], call["status"]) == ("m", "ok", 200)
    assert is_near(call["server_ms"], 68)


def test_each_house_has_its_style(fake):
    timings = posted(fake, "/completion", {"prompt": "a b c"})["timings"]
    assert is_near(timings["prompt_ms"] + timings["predicted_ms"], 68)
    cached = {"x-fake": '{"cached_tokens": 4}'}
    chat = posted(fake, "/llamacpp/v1/chat/completions", {"model": "m"}, **cached)
    assert (chat["timings"]["cache_n"], chat["timings"]["prompt_n"]) == (4, 7)
    assert chat["usage"]["prompt_tokens"] == 11
    vllm = posted(fake, "/vllm/v1/chat/completions", {"model": "m"})
    assert vllm["metrics"]["queue_time_ms"] == 0
    cerebras = posted(fake, "/cerebras/v1/chat/completions", {"model": "m"})
    assert is_near(cerebras["time_info"]["total_time"] * 1e3, 68)


def test_openai_chats(fake, openai):
    create = openai.chat.completions.create
    whole = create(model="gpt-4o-mini", messages=HELLO)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (11, 7)
    assert whole.model == "gpt-4o-mini"
    chunks = list(create(model="m", messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    options = {"include_usage": True}
    chunks = list(create(model="m", messages=HELLO, stream=True, stream_options=options))
    assert chunks[-1].usage.completion_tokens == 7
    assert (chunks[-1].choices, chunks[-2].usage) == ([], None)


def test_openai_completes_and_embeds(openai):
    assert openai.completions.create(model="m", prompt="hello").usage.completion_tokens == 7
    assert openai.embeddings.create(model="e", input="a b").usage.prompt_tokens == 11


def test_openai_gives_responses(openai):
    whole = openai.responses.create(model="gpt-5", input="hello")
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (11, 7)
    assert whole.output_text.startswith("word0")
    events = list(openai.responses.create(model="gpt-5", input="hello", stream=True))
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 7
    with openai.responses.stream(model="gpt-5", input="hello") as stream:
        assert stream.get_final_response().usage.input_tokens == 11


def test_openai_tries_again_after_429(fake, openai):
    fake.plan(Behaviour(failure="status", status=429, retry_after_s=0.05, fail_times=2))
    openai.with_options(max_retries=2).chat.completions.create(model="m", messages=HELLO)
    assert [call.outcome for call in fake.calls] == ["status", "status", "ok"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("status", "InternalServerError"),
        ("hang", "APITimeoutError"),
        ("disconnect", "APIConnectionError"),
    ],
)
def test_openai_sees_a_failure(fake, openai, failure, error):
    fake.plan(Behaviour(failure=failure, hang_s=1))
    with pytest.raises(getattr(openai.package, error)):
        openai.with_options(timeout=0.3).chat.completions.create(model="m", messages=HELLO)


@pytest.mark.parametrize("failure", ["disconnect", "error_event"])
def test_openai_sees_a_stream_fail(fake, openai, failure):
    fake.plan(Behaviour(failure=failure))
    stream = openai.chat.completions.create(model="m", messages=HELLO, stream=True)
    seen = []
    with pytest.raises(Exception, match=r"closed|peer|error|reset"):  # the network's, or openai's
        seen.extend(stream)
    stream.close()
    assert fake.calls[-1].outcome == failure


def test_a_client_that_leaves_a_stream_is_noticed(fake, openai):
    fake.plan(Behaviour(per_completion_token_ms=50, completion_tokens=40, chunks=40))

    async def leave():
        async with openai.package.AsyncOpenAI(base_url=fake.openai, api_key="x") as client:
            create = client.chat.completions.create
            stream = await create(model="m", messages=HELLO, stream=True)
            await anext(aiter(stream))
            await stream.close()

    asyncio.run(leave())
    deadline = time.monotonic() + 5
    while fake.calls[-1].outcome == "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert fake.calls[-1].outcome == "client_gone"


def test_groq_chats_and_gives_its_times(fake):
    groq = pytest.importorskip("groq")
    fake.default = dataclasses.replace(fake.default, queue_ms=20)
    with groq.Groq(base_url=fake.root, api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(model="m", messages=HELLO)
        chunks = list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert is_near((whole.usage.queue_time + whole.usage.total_time) * 1e3, 88)
    assert chunks[0].x_groq.id
    assert chunks[-1].x_groq.usage.completion_tokens == 7
    assert is_near(chunks[-1].x_groq.usage.total_time * 1e3, 68)


def test_anthropic_counts_its_cache_apart(fake):
    anthropic = pytest.importorskip("anthropic")
    fake.default = dataclasses.replace(
        fake.default, prompt_tokens=100, cached_tokens=60, cache_write_tokens=30
    )
    asked = {"model": "m", "max_tokens": 50, "messages": HELLO}
    with anthropic.Anthropic(base_url=fake.root, api_key="x", max_retries=0) as client:
        usage = client.messages.create(**asked).usage
        assert (usage.input_tokens, usage.output_tokens) == (10, 7)
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (60, 30)
        with client.messages.stream(**asked) as stream:
            final = stream.get_final_message()
        assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 7)
        assert final.content[0].text
        fake.plan(Behaviour(failure="status", status=529), Behaviour(failure="error_event"))
        with pytest.raises(anthropic.APIStatusError):
            client.messages.create(**asked)
        with pytest.raises(anthropic.APIStatusError):
            list(client.messages.create(**asked, stream=True))


@pytest.fixture
def ollama(fake):
    package = pytest.importorskip("ollama")
    with package.Client(host=fake.root) as client:
        client.package = package
        yield client


def test_ollama_chats_generates_and_embeds(fake, ollama):
    fake.default = dataclasses.replace(fake.default, load_ms=30)
    whole = ollama.chat(model="llama3.2", messages=HELLO)
    assert (whole.prompt_eval_count, whole.eval_count, whole.done) == (11, 7, True)
    assert is_near(whole.total_duration / 1e6, 98)
    assert is_near(whole.load_duration / 1e6, 30)
    parts = list(ollama.generate(model="llama3.2", prompt="hello", stream=True))
    assert (parts[0].eval_count, parts[-1].eval_count, parts[-1].done) == (None, 7, True)
    assert ollama.embed(model="e", input="a").prompt_eval_count == 11


def test_ollama_leaves_counts_out_and_fails(fake, ollama):
    fake.plan(
        Behaviour(ollama_omit=("prompt_eval_count",)),
        Behaviour(failure="status", status=404),
        Behaviour(failure="error_event"),
    )
    assert ollama.chat(model="m", messages=HELLO).prompt_eval_count is None
    with pytest.raises(ollama.package.ResponseError):
        ollama.chat(model="m", messages=HELLO)
    with pytest.raises(ollama.package.ResponseError):
        list(ollama.chat(model="m", messages=HELLO, stream=True))


def test_gemini_counts_its_thoughts_apart(fake):
    genai = pytest.importorskip("google.genai")
    fake.default = dataclasses.replace(fake.default, reasoning_tokens=3)
    client = genai.Client(api_key="x", http_options={"base_url": fake.root})
    asked = {"model": "gemini-2.5-flash", "contents": "hello"}
    usage = client.models.generate_content(**asked).usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count) == (11, 4)
    assert usage.thoughts_token_count == 3
    parts = list(client.models.generate_content_stream(**asked))
    assert parts[-1].usage_metadata.candidates_token_count == 4


def test_mistral_chats(fake):
    mistral = pytest.importorskip("mistralai.client")
    asked = {"model": "mistral-small-latest", "messages": HELLO}
    with mistral.Mistral(api_key="x", server_url=fake.root) as client:
        usage = client.chat.complete(**asked).usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (11, 7)
        assert list(client.chat.stream(**asked))
