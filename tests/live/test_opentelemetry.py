"""The exporter of spans in the real SDK, with the real instrumentations that are installed."""

import asyncio
import dataclasses
import functools
import gc
import importlib
import sqlite3
import threading
import time
import warnings
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, InvalidInputError
from calibration_ledger.errors import LedgerNotFoundError
from support.fake_provider import Behaviour

pytest.importorskip("opentelemetry.sdk", reason="pip install -e '.[opentelemetry]'")

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import Status, StatusCode

from calibration_ledger.live.opentelemetry import LedgerSpanExporter

HELLO = [{"role": "user", "content": "hello secret there"}]
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}

OPENAI = {
    "GenAI": "opentelemetry.instrumentation.genai.openai",
    "OpenAI v2": "opentelemetry.instrumentation.openai_v2",
    "OpenLLMetry": "opentelemetry.instrumentation.openai",
    "OpenInference": "openinference.instrumentation.openai",
}
"""Instrumentations of OpenAI's client; each has an `OpenAIInstrumentor`."""


@pytest.fixture
def exporter(calibrator):
    return LedgerSpanExporter(calibrator)


@pytest.fixture
def processor(exporter):
    made = BatchSpanProcessor(exporter, schedule_delay_millis=20)
    yield made
    made.shutdown()


@pytest.fixture
def provider(processor):
    """What spans by hand are written to, as a program has it."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(processor)
    return made


class Relay(SpanProcessor):
    """Hands the spans of one instrumentation to the processor of the test that wants them.

    Instrumentations are set to work once: OpenLLMetry's do not take all of themselves away again.
    """

    target = None

    def on_end(self, span):
        if self.target is not None:
            self.target.on_end(span)


@functools.cache
def relay_of(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what they import
        try:
            package = importlib.import_module(module)
        except ImportError as error:
            return str(error)
        relay = Relay()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(relay)
        getattr(package, name)().instrument(tracer_provider=provider)
        return relay


@contextmanager
def instrumented(processor, module, name):
    """An instrumentation at work; the test is skipped where it is not installed."""
    relay = relay_of(module, name)
    if isinstance(relay, str):
        pytest.skip(f"{module} cannot be imported here: {relay}")
    relay.target = processor
    try:
        yield
    finally:
        relay.target = None


@pytest.fixture(params=OPENAI)
def dialect(request, processor):
    """OpenAI's client under one instrumentation."""
    pytest.importorskip("openai")
    with instrumented(processor, OPENAI[request.param], "OpenAIInstrumentor"):
        yield request.param


@pytest.fixture
def client(fake):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=fake.openai, api_key="x", max_retries=0) as made:
        yield made


def calls_of(calibrator, processor, exporter):
    """What is in the ledger once the spans so far have come there."""
    assert processor.force_flush()
    assert exporter.force_flush()
    try:
        names = [one.model for one in calibrator.stats()]
    except LedgerNotFoundError:
        return []
    return [call for name in names for call in calibrator.calls(name)]


def learnt(calibrator, processor, exporter):
    return [
        (call.model, call.prompt_tokens, call.completion_tokens)
        for call in calls_of(calibrator, processor, exporter)
    ]


# -- OpenAI's client, under each instrumentation --------------------------------------------


def test_a_whole_answer_is_one_call(calibrator, processor, exporter, fake, client, dialect):
    fake.plan(dataclasses.replace(fake.default, answered_model="m-2026", first_ms=60))
    client.chat.completions.create(model="m", messages=HELLO)
    (call,) = calls_of(calibrator, processor, exporter)
    assert (call.model, call.prompt_tokens, call.completion_tokens) == ("m", 11, 7)
    assert call.actual_ms >= fake.calls[-1].server_ms - 1
    assert call.details["answered_model"] == "m-2026"
    assert call.details["clock"] == "client"
    trace_id, span_id = call.request_id.split(":")
    assert (len(trace_id), len(span_id)) == (32, 16)
    assert dict(exporter.skipped) == {}


def test_a_stream_is_one_call_with_its_first_token(
    calibrator, processor, exporter, fake, client, dialect
):
    fake.plan(dataclasses.replace(fake.default, per_completion_token_ms=10))
    list(client.chat.completions.create(model="m", messages=HELLO, **COUNTED))
    (call,) = calls_of(calibrator, processor, exporter)
    assert (call.model, call.prompt_tokens, call.completion_tokens) == ("m", 11, 7)
    if dialect != "OpenAI v2":  # it says nothing of streams
        assert call.details["streamed"]
        assert 0 < call.details["ttft_ms"] < call.actual_ms - 20


def test_an_async_answer_is_one_call(calibrator, processor, exporter, fake, dialect):
    from openai import AsyncOpenAI

    async def ask():
        async with AsyncOpenAI(base_url=fake.openai, api_key="x") as client:
            create = client.chat.completions.create
            await asyncio.gather(*(create(model="m", messages=HELLO) for _ in range(5)))
            async for _ in await create(model="m", messages=HELLO, **COUNTED):
                pass

    asyncio.run(ask())
    assert learnt(calibrator, processor, exporter) == [("m", 11, 7)] * 6


def test_cached_and_hidden_tokens_are_kept(calibrator, processor, exporter, fake, client, dialect):
    fake.plan(dataclasses.replace(fake.default, cached_tokens=5, reasoning_tokens=3))
    client.chat.completions.create(model="m", messages=HELLO)
    (call,) = calls_of(calibrator, processor, exporter)
    assert (call.prompt_tokens, call.completion_tokens) == (11, 7)
    if dialect != "OpenAI v2":  # it says neither
        assert (call.details["cached_tokens"], call.details["reasoning_tokens"]) == (5, 3)


def test_retries_are_in_the_one_span_and_the_call_says_so(
    calibrator, processor, exporter, fake, client, dialect
):
    fake.plan(Behaviour(failure="status", status=429, retry_after_s=0.1, fail_times=1))
    client.with_options(max_retries=2).chat.completions.create(model="m", messages=HELLO)
    (call,) = calls_of(calibrator, processor, exporter)
    assert call.actual_ms > 100
    assert call.details["retries"] == "included"


def test_a_stream_without_counts_is_not_learnt(calibrator, processor, exporter, client, dialect):
    list(client.chat.completions.create(model="m", messages=HELLO, stream=True))
    assert learnt(calibrator, processor, exporter) == []
    assert dict(exporter.skipped) == {"unknown tokens": 1}


@pytest.mark.parametrize(
    ("failure", "reason"), [("status", "failed"), ("hang", "timeout"), ("disconnect", "failed")]
)
def test_a_failed_call_is_counted_by_its_reason(
    calibrator, processor, exporter, fake, client, dialect, failure, reason
):
    fake.plan(Behaviour(failure=failure, hang_s=0.5))
    with suppress(Exception):
        client.with_options(timeout=0.2).chat.completions.create(model="m", messages=HELLO)
    assert learnt(calibrator, processor, exporter) == []
    assert dict(exporter.skipped) == {reason: 1}


@pytest.mark.parametrize("failure", ["disconnect", "error_event"])
def test_a_stream_that_breaks_off_is_not_learnt(
    calibrator, processor, exporter, fake, client, dialect, failure
):
    fake.plan(Behaviour(failure=failure))
    with suppress(Exception):
        list(client.chat.completions.create(model="m", messages=HELLO, **COUNTED))
    gc.collect()  # OpenLLMetry ends its span when the stream is forgotten
    assert learnt(calibrator, processor, exporter) == []
    # And it calls that span a good one; it only has no counts.
    reason = "unknown tokens" if dialect == "OpenLLMetry" else "failed"
    assert dict(exporter.skipped) == {reason: 1}


def test_a_stream_that_is_left_is_not_learnt(calibrator, processor, exporter, client, dialect):
    stream = client.chat.completions.create(model="m", messages=HELLO, **COUNTED)
    next(iter(stream))
    stream.close()
    del stream
    assert learnt(calibrator, processor, exporter) == []
    assert sum(exporter.skipped.values()) <= 1  # not every instrumentation ends its span


def test_a_cancelled_call_is_counted_where_its_span_ends(
    calibrator, processor, exporter, fake, dialect
):
    from openai import AsyncOpenAI

    fake.plan(Behaviour(failure="hang", hang_s=0.5))

    async def cancel():
        async with AsyncOpenAI(base_url=fake.openai, api_key="x") as client:
            task = asyncio.create_task(client.chat.completions.create(model="m", messages=HELLO))
            await asyncio.sleep(0.2)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(cancel())
    assert learnt(calibrator, processor, exporter) == []
    assert dict(exporter.skipped) in ({"cancelled": 1}, {})


def test_an_embedding_is_counted(calibrator, processor, exporter, client, dialect):
    client.embeddings.create(model="e", input="a")
    assert learnt(calibrator, processor, exporter) == []
    assert dict(exporter.skipped) in ({"not a completion": 1}, {})  # v2 writes no span for it


def test_responses_are_learnt(calibrator, processor, exporter, client, dialect):
    if dialect == "OpenAI v2":
        pytest.skip("it writes no span for them")
    client.responses.create(model="m", input="hello")
    list(client.responses.create(model="m", input="hello", stream=True))
    assert learnt(calibrator, processor, exporter) == [("m", 11, 7)] * 2


def test_of_instrumentations_around_each_other_one_is_learnt(
    calibrator, processor, exporter, client
):
    with ExitStack() as stack:
        for name in ("GenAI", "OpenLLMetry", "OpenInference"):
            stack.enter_context(instrumented(processor, OPENAI[name], "OpenAIInstrumentor"))
        client.chat.completions.create(model="m", messages=HELLO)
        list(client.chat.completions.create(model="m", messages=HELLO, **COUNTED))
    assert learnt(calibrator, processor, exporter) == [("m", 11, 7)] * 2
    assert dict(exporter.skipped) == {"nested": 4}


# -- others ---------------------------------------------------------------------------------


def test_anthropic_counts_its_cache_among_the_prompt(calibrator, processor, exporter, fake):
    anthropic = pytest.importorskip("anthropic")
    fake.default = dataclasses.replace(
        fake.default, prompt_tokens=100, cached_tokens=60, cache_write_tokens=30
    )
    with (
        instrumented(processor, "opentelemetry.instrumentation.anthropic", "AnthropicInstrumentor"),
        anthropic.Anthropic(base_url=fake.root, api_key="x", max_retries=0) as client,
    ):
        client.messages.create(model="m", max_tokens=5, messages=HELLO)
    assert learnt(calibrator, processor, exporter) == [("m", 100, 7)]


def test_ollama_is_learnt_and_its_absent_prompt_is_not(calibrator, processor, exporter, fake):
    ollama = pytest.importorskip("ollama")
    with (
        instrumented(processor, "opentelemetry.instrumentation.ollama", "OllamaInstrumentor"),
        ollama.Client(host=fake.root) as client,
    ):
        client.chat(model="m", messages=HELLO)
        list(client.generate(model="m", prompt="hello", stream=True))
        fake.plan(dataclasses.replace(fake.default, ollama_omit=("prompt_eval_count",)))
        client.chat(model="m", messages=HELLO)
    assert learnt(calibrator, processor, exporter) == [("m", 11, 7)] * 2
    assert exporter.skipped["unknown tokens"] == 1


def test_of_an_agent_only_the_calls_are_learnt(calibrator, processor, provider, exporter, fake):
    pytest.importorskip("pydantic_ai")
    from openai import AsyncOpenAI
    from pydantic_ai import Agent, InstrumentationSettings
    from pydantic_ai.capabilities import Instrumentation
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async def run():
        async with AsyncOpenAI(base_url=fake.openai, api_key="x") as client:
            model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))
            settings = InstrumentationSettings(tracer_provider=provider)
            agent = Agent(model, capabilities=[Instrumentation(settings=settings)])
            await agent.run("hello")

    asyncio.run(run())
    assert learnt(calibrator, processor, exporter) == [("m", 11, 7)]
    assert dict(exporter.skipped) == {}


# -- the exporter itself --------------------------------------------------------------------

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": 7,
}


def test_calls_from_many_threads_are_all_there(calibrator, provider, exporter):
    tracer = provider.get_tracer("test")

    def call():
        for _ in range(50):
            with tracer.start_as_current_span("chat m", attributes=CHAT):
                pass

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls_of(calibrator, provider, exporter)) == 400


def test_a_processor_without_batches_does_as_well(calibrator):
    exporter = LedgerSpanExporter(calibrator)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with (
        tracer.start_as_current_span("outer", attributes=CHAT),
        tracer.start_as_current_span("http"),
        tracer.start_as_current_span("inner", attributes=CHAT),
    ):
        pass
    assert learnt(calibrator, provider, exporter) == [("m", 11, 7)]
    assert dict(exporter.skipped) == {"nested": 1}
    provider.shutdown()


def test_a_span_that_cannot_be_read_costs_no_other(calibrator, provider, exporter):
    tracer = provider.get_tracer("test")
    good = tracer.start_span("chat m", attributes=CHAT)
    good.end()
    result = exporter.export([None, good, object()])
    assert result.name == "SUCCESS"
    assert len(calls_of(calibrator, provider, exporter)) == 1
    assert exporter.skipped["unreadable"] == 2


def test_an_error_is_an_error_whatever_it_says(calibrator, provider, exporter):
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("chat m", attributes=CHAT) as span:
        span.set_status(Status(StatusCode.ERROR, "no"))
    assert learnt(calibrator, provider, exporter) == []
    assert dict(exporter.skipped) == {"failed": 1}


def test_shutdown_records_what_waits_and_later_spans_are_dropped(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        exporter = LedgerSpanExporter(calibrator)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        span = provider.get_tracer("test").start_span("chat m", attributes=CHAT)
        span.end()
        provider.shutdown()
        assert exporter.recorded == 1
        exporter.export([span])
        assert exporter.dropped + exporter.skipped.get("duplicate", 0) == 1
        assert calibrator.audit() == []


def a_span():
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("c", attributes=CHAT)
    span.end()
    return span


def test_a_recorder_of_the_caller_stays_open(calibrator):
    with calibrator.recorder() as recorder:
        exporter = LedgerSpanExporter(recorder)
        exporter.export([a_span(), a_span()])
        exporter.shutdown()
        assert recorder.recorded == 2
        exporter.export([a_span()])
        assert exporter.force_flush()
        assert (exporter.recorded, exporter.dropped) == (3, 0)


def test_a_locked_ledger_makes_nobody_wait_but_a_flush(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 1.0, completion_tokens=1)
        exporter = LedgerSpanExporter(calibrator)
        with closing(sqlite3.connect(ledger_path)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.perf_counter()
            exporter.export([a_span()])
            assert time.perf_counter() - began < 0.05
            assert not exporter.force_flush(100)
        exporter.shutdown()
        assert exporter.recorded == 1
        assert calibrator.audit() == []


@pytest.mark.parametrize("taken", [1, None, "a path"])
def test_only_a_calibrator_or_a_recorder_will_do(taken):
    with pytest.raises(InvalidInputError, match="recorder"):
        LedgerSpanExporter(taken)


def test_no_text_of_a_prompt_or_an_answer_comes_into_the_ledger(
    calibrator, ledger_path, provider, exporter, client, dialect
):
    list(client.chat.completions.create(model="m", messages=HELLO, **COUNTED))
    client.chat.completions.create(model="m", messages=HELLO)
    assert len(calls_of(calibrator, provider, exporter)) == 2
    for file in Path(ledger_path).parent.iterdir():
        data = file.read_bytes()
        assert b"secret" not in data
        assert b"word0" not in data
