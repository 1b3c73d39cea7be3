"""The handler of LangChain with its real models, whose providers a stand-in is."""

import asyncio
import importlib.util
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, InvalidInputError
from support.fake_provider import Behaviour
from support.programs import ran

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("langchain_openai") is None,
        reason="LangChain is not installed: pip install -e '.[langchain,clients]'",
    ),
    # Its own and those of what it imports.
    pytest.mark.filterwarnings("ignore"),
]

PHRASE = "a phrase that nobody else has"
MODEL = "gpt-4o-mini"


@pytest.fixture(name="calibrator")
def _calibrator(ledger_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        yield calibrator
        if Path(ledger_path).exists():
            assert calibrator.audit() == []


@pytest.fixture(name="handler")
def _handler(calibrator):
    from calibration_ledger.live.langchain import LedgerHandler

    return LedgerHandler(calibrator, on_error="raise")


@pytest.fixture(name="openai")
def _openai(fake, handler):
    """From settings to a model of OpenAI's, recorded by the handler."""
    from langchain_openai import ChatOpenAI

    def make(kind=ChatOpenAI, model=MODEL, **more):
        settings = {"max_retries": 0, "stream_usage": True, "callbacks": [handler], **more}
        if kind is not ChatOpenAI:
            del settings["stream_usage"]
        return kind(model=model, base_url=fake.openai, api_key="x", **settings)

    return make


def asked(model, how, is_stream=False):
    """Ask a model; `how` is sync or async."""
    if how == "sync":
        return list(model.stream(PHRASE)) if is_stream else model.invoke(PHRASE)

    async def ask():
        if is_stream:
            return [chunk async for chunk in model.astream(PHRASE)]
        return await model.ainvoke(PHRASE)

    return asyncio.run(ask())


def settled(handler):
    recorder = handler.recorder
    recorder.flush(10)
    assert (handler.dropped, recorder.waiting) == (0, 0)
    return handler.recorded, dict(handler.skipped)


def calls_of(calibrator):
    return [call for one in calibrator.all_stats() for call in calibrator.calls(one["model"])]


both_ways = pytest.mark.parametrize("how", ["sync", "async"])
whole_and_streamed = pytest.mark.parametrize("is_stream", [False, True])


@both_ways
@whole_and_streamed
def test_an_answered_call_is_recorded_with_the_providers_counts(
    fake, openai, handler, calibrator, how, is_stream
):
    fake.default = Behaviour(
        prompt_tokens=320,
        completion_tokens=12,
        cached_tokens=5,
        first_ms=30,
        per_completion_token_ms=3,
        answered_model="gpt-4o-mini-2024-07-18",
    )
    asked(openai(), how, is_stream)
    assert settled(handler) == (1, {})
    (call,) = calls_of(calibrator)
    assert (call.model, call.prompt_tokens, call.completion_tokens) == (MODEL, 320, 12)
    assert call.actual_ms >= fake.calls[-1].server_ms - 1
    assert abs(call.called_at.timestamp() - fake.calls[-1].received_at) < 5
    details = {
        "clock": "client",
        "streamed": is_stream,
        "answered_model": "gpt-4o-mini-2024-07-18",
        "cached_tokens": 5,
    }
    assert details.items() <= call.details.items()
    assert ("ttft_ms" in call.details) is is_stream
    if is_stream:
        assert 30 <= call.details["ttft_ms"] < call.actual_ms


@both_ways
@whole_and_streamed
@pytest.mark.parametrize("provider", ["anthropic", "ollama"])
def test_other_integrations_are_recorded_too(fake, handler, calibrator, how, is_stream, provider):
    package = pytest.importorskip(f"langchain_{provider}")
    if provider == "anthropic":
        model = package.ChatAnthropic(
            model="claude-sonnet-4-5", base_url=fake.root, api_key="x", callbacks=[handler]
        )
    else:
        model = package.ChatOllama(model="phi3:mini", base_url=fake.root, callbacks=[handler])
    asked(model, how, is_stream)
    assert settled(handler) == (1, {})
    (call,) = calls_of(calibrator)
    assert (call.model, call.prompt_tokens, call.completion_tokens) == (model.model, 11, 7)
    # `ChatOllama` streams, whatever it is asked for.
    assert ("ttft_ms" in call.details) is (is_stream or provider == "ollama")


def test_models_that_complete_texts_are_recorded_too(fake, openai, handler, calibrator):
    from langchain_openai import OpenAI

    openai(OpenAI, "davinci").invoke(PHRASE)
    ollama = pytest.importorskip("langchain_ollama")
    ollama.OllamaLLM(model="phi3:mini", base_url=fake.root, callbacks=[handler]).invoke(PHRASE)
    assert settled(handler) == (2, {})
    found = {
        call.model: (call.prompt_tokens, call.completion_tokens) for call in calls_of(calibrator)
    }
    assert found == {"davinci": (11, 7), "phi3:mini": (11, 7)}


@both_ways
def test_responses_are_recorded_too(openai, handler, how):
    asked(openai(use_responses_api=True), how)
    assert settled(handler) == (1, {})


def test_the_model_that_a_call_is_bound_to_is_the_one_asked_for(openai, handler, calibrator):
    openai().bind(model="another").invoke(PHRASE)
    assert settled(handler) == (1, {})
    assert [call.model for call in calls_of(calibrator)] == ["another"]


@both_ways
@whole_and_streamed
def test_an_answer_without_usage_has_unknown_tokens(fake, openai, handler, how, is_stream):
    fake.default = Behaviour(usage="auto" if is_stream else "omit")
    asked(openai(stream_usage=False), how, is_stream)
    assert settled(handler) == (0, {"unknown tokens": 1})


@both_ways
@pytest.mark.parametrize(
    ("behaviour", "is_stream", "reason"),
    [
        ({"failure": "status", "status": 500}, False, "failed"),
        ({"failure": "hang"}, False, "timeout"),
        ({"failure": "disconnect"}, False, "failed"),
        ({"failure": "disconnect"}, True, "failed"),
        ({"failure": "error_event"}, True, "failed"),
    ],
)
def test_a_call_that_fails_is_counted_by_reason(
    fake, openai, handler, how, behaviour, is_stream, reason
):
    fake.default = Behaviour(**behaviour)
    model = openai(timeout=0.3)
    with pytest.raises(Exception):  # noqa: B017 - which one is the client's business
        asked(model, how, is_stream)
    assert settled(handler) == (0, {reason: 1})
    assert not handler._runs


@both_ways
def test_a_stream_that_is_left_early_is_counted(fake, openai, handler, how):
    fake.default = Behaviour(chunks=20, completion_tokens=20, per_completion_token_ms=5)

    async def leave():
        stream = openai().astream(PHRASE)
        async for _ in stream:
            break
        await stream.aclose()

    if how == "sync":
        for _ in openai().stream(PHRASE):
            break
    else:
        asyncio.run(leave())
    assert settled(handler) == (0, {"left early": 1})


@whole_and_streamed
def test_a_run_that_is_cancelled_is_dropped_and_counted(
    fake, openai, handler, monkeypatch, is_stream
):
    """LangChain tells of a stream's end at once, and of another's never."""
    from calibration_ledger.live import langchain as live

    fake.plan(Behaviour(first_ms=3000))
    model = openai()

    async def cancel():
        async def ask():
            if is_stream:
                return [chunk async for chunk in model.astream(PHRASE)]
            return await model.ainvoke(PHRASE)

        task = asyncio.create_task(ask())
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    monkeypatch.setattr(live, "_RUNS_MAX", 1)
    openai().invoke(PHRASE)
    assert settled(handler) == (1, {"cancelled": 1})
    assert not handler._runs


def test_retries_of_the_client_are_one_run_and_those_of_with_retry_are_each_their_own(
    fake, openai, handler, calibrator
):
    fake.plan(Behaviour(failure="status", status=429, fail_times=2))
    openai(max_retries=2).invoke(PHRASE)
    assert settled(handler) == (1, {})
    fake.plan(Behaviour(failure="status", status=429, fail_times=2))
    again = openai().with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    again.invoke(PHRASE)
    assert settled(handler) == (2, {"failed": 2})
    first, last = calls_of(calibrator)
    assert last.actual_ms < first.actual_ms


def test_a_fallback_is_a_call_of_its_own_model(fake, openai, handler, calibrator):
    fake.plan(Behaviour(failure="status", status=500))
    openai().with_fallbacks([openai(model="another")]).invoke(PHRASE)
    assert settled(handler) == (1, {"failed": 1})
    assert [call.model for call in calls_of(calibrator)] == ["another"]


@both_ways
def test_each_call_of_a_batch_is_recorded(openai, handler, how):
    if how == "sync":
        openai().batch([PHRASE] * 6)
    else:
        asyncio.run(openai().abatch([PHRASE] * 6))
    assert settled(handler) == (6, {})


def test_calls_that_are_only_timed_together_are_not_learnt(openai, handler):
    from langchain_core.messages import HumanMessage

    openai().generate([[HumanMessage(PHRASE)], [HumanMessage(PHRASE)]])
    assert settled(handler) == (0, {"unknown duration": 2})


@both_ways
def test_a_cache_hit_is_counted_and_no_call(openai, handler, how):
    from langchain_core.caches import InMemoryCache

    model = openai(cache=InMemoryCache())
    asked(model, how)
    asked(model, how)
    assert settled(handler) == (1, {"cached": 1})


@both_ways
def test_of_a_chain_only_the_models_are_recorded(openai, handler, how):
    """The handler is handed to the chain, and not to the model."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    model = openai(callbacks=None)
    chain = ChatPromptTemplate.from_template("{text}") | model | StrOutputParser() | model
    config = {"callbacks": [handler]}
    if how == "sync":
        chain.invoke({"text": PHRASE}, config)
    else:
        asyncio.run(chain.ainvoke({"text": PHRASE}, config))
    assert settled(handler) == (2, {})


def test_of_an_agents_graph_only_the_models_are_recorded(openai, handler):
    graphs = pytest.importorskip("langgraph.graph")
    model = openai(callbacks=None)
    graph = graphs.StateGraph(dict)
    graph.add_node("ask", lambda _, config: {"said": model.invoke(PHRASE, config).content})
    graph.add_edge(graphs.START, "ask")
    graph.compile().invoke({}, {"callbacks": [handler]})
    assert settled(handler) == (1, {})


def test_a_first_token_may_be_a_tool_call(handler):
    from uuid import uuid4

    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    run = uuid4()
    handler.on_chat_model_start({}, [[]], run_id=run)
    tool = {"name": "look", "args": "", "id": "1", "index": 0}
    parts = [AIMessageChunk(content=""), AIMessageChunk(content="", tool_call_chunks=[tool])]
    found = []
    for message in parts:
        handler.on_llm_new_token("", chunk=ChatGenerationChunk(message=message), run_id=run)
        found.append(bool(handler._runs[run].first))
    assert found == [False, True]


def test_one_handler_serves_many_threads(openai, handler, calibrator):
    model = openai()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda _: model.invoke(PHRASE), range(96)))
    assert settled(handler) == (96, {})
    assert len({call.request_id for call in calls_of(calibrator)}) == 96
    assert not handler._runs


def test_nothing_of_prompts_and_answers_is_kept(openai, handler, ledger_path):
    asked(openai(), "sync")
    asked(openai(), "sync", is_stream=True)
    assert settled(handler) == (2, {})
    written = b"".join(path.read_bytes() for path in Path(ledger_path).parent.glob("*"))
    assert PHRASE.encode() not in written
    assert b"word0" not in written
    assert MODEL.encode() in written


def test_it_runs_on_the_event_loop_and_raises_nothing_into_it(openai, handler):
    assert (handler.run_inline, handler.raise_error) == (True, False)
    before = threading.active_count()
    for _ in range(3):
        handler.on_llm_end(None, run_id="never started")
        handler.on_llm_error(ValueError(), run_id="never started")
        handler.on_llm_new_token("x", run_id="never started")
    handler.on_llm_start(None, ["x"], run_id="odd")
    handler.on_llm_end(None, run_id="odd")
    assert handler.recorder.skipped == {"fault": 1}
    assert threading.active_count() == before
    with pytest.raises(Exception, match="could not be read"):
        handler.recorder.flush(1)


def test_a_ledger_that_is_locked_delays_no_call(openai, handler, calibrator, ledger_path):
    import sqlite3

    calibrator.record("m", 1, 2.0)
    with sqlite3.connect(ledger_path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.perf_counter()
        handler.on_llm_start({}, ["x"], run_id="r", invocation_params={"model": "m"})
        handler.on_llm_error(TimeoutError(), run_id="r")
        assert time.perf_counter() - began < 0.05
        other.execute("ROLLBACK")
    other.close()
    assert handler.recorder.skipped == {"timeout": 1}


def test_something_else_than_a_ledger_is_refused():
    from calibration_ledger.live.langchain import LedgerHandler

    with pytest.raises(InvalidInputError):
        LedgerHandler("calls.db")


def test_importing_the_library_does_not_import_langchain():
    code = "import calibration_ledger.calibrator, calibration_ledger.live, sys\n"
    done = ran(f"{code}print('langchain_core' in sys.modules)")
    assert done.stdout.strip() == "False"
