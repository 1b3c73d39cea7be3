"""The logger of calls with the real LiteLLM, its Router and its proxy."""

import asyncio
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import pytest

from calibration_ledger import AdaptiveCalibrator, InvalidInputError
from support.fake_provider import Behaviour

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("litellm") is None,
        reason="litellm is not installed: pip install -e '.[litellm]'",
    ),
    # Its own and those of what it imports.
    pytest.mark.filterwarnings("ignore"),
]

PHRASE = "a phrase that nobody else has"
HELLO = [{"role": "user", "content": PHRASE}]
COUNTED = {"stream": True, "stream_options": {"include_usage": True}}
NAME = "openai/gpt-4o-mini"


@pytest.fixture(scope="module", name="live")
def _live():
    """The module under test; importing LiteLLM would ask the network for prices."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from calibration_ledger.live import litellm as module
    return module


@pytest.fixture(name="calibrator")
def _calibrator(ledger_path):
    with AdaptiveCalibrator(ledger_path, durability="normal") as calibrator:
        yield calibrator
        if Path(ledger_path).exists():
            assert calibrator.audit() == []


@pytest.fixture(name="logger")
def _logger(live, calibrator, monkeypatch):
    made = live.LedgerLogger(calibrator, on_error="raise")
    use(monkeypatch, made)
    return made


def use(monkeypatch, logger):
    import litellm

    for name in ("success_callback", "failure_callback", "callbacks"):
        for kind in (name, f"_async_{name}"):
            if hasattr(litellm, kind):
                monkeypatch.setattr(litellm, kind, [])
    monkeypatch.setattr(litellm, "callbacks", [logger])


def chat(fake, how="sync", **more):
    """A call; `how` is sync or async. Gives what was answered, chunks of a stream as a list."""
    import litellm

    asked = {"model": NAME, "api_base": fake.openai, "api_key": "x", "messages": HELLO}
    asked |= {"num_retries": 0, **more}
    if how == "sync":
        answer = litellm.completion(**asked)
        return list(answer) if asked.get("stream") else answer
    return asyncio.run(answered(litellm.acompletion(**asked), asked.get("stream")))


async def answered(asking, is_stream):
    answer = await asking
    if is_stream:
        answer = [chunk async for chunk in answer]
    await logged()
    return answer


async def logged():
    """LiteLLM logs after the answer, and a loop that ends sooner takes that along."""
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    await asyncio.sleep(0)
    await GLOBAL_LOGGING_WORKER.flush()


def settled(logger, number=1):
    """The calls in the ledger, and what was skipped, once this many events came."""
    recorder = logger.recorder
    until = time.monotonic() + 10
    while events(recorder) < number and time.monotonic() < until:
        time.sleep(0.005)
    recorder.flush(10)
    assert (events(recorder), recorder.dropped) == (number, 0), recorder
    return logger.recorded, dict(logger.skipped)


def events(recorder):
    return recorder.recorded + recorder.waiting + sum(recorder.skipped.values())


def calls_of(calibrator):
    return [call for one in calibrator.all_stats() for call in calibrator.calls(one["model"])]


both_ways = pytest.mark.parametrize("how", ["sync", "async"])


@both_ways
def test_an_answered_call_is_recorded_with_the_providers_counts(fake, logger, calibrator, how):
    fake.default = Behaviour(prompt_tokens=320, completion_tokens=12, cached_tokens=5, first_ms=50)
    chat(fake, how)
    assert settled(logger) == (1, {})
    (call,) = calls_of(calibrator)
    assert (call.model, call.prompt_tokens, call.completion_tokens) == (NAME, 320, 12)
    assert call.actual_ms >= fake.calls[-1].server_ms - 1
    assert abs(call.called_at.timestamp() - fake.calls[-1].received_at) < 5
    details = {"clock": "client", "streamed": False, "cached_tokens": 5, "reasoning_tokens": 0}
    assert details.items() <= call.details.items()
    assert "ttft_ms" not in call.details
    assert "answered_model" not in call.details


@both_ways
def test_a_stream_that_says_its_counts_is_recorded_with_the_time_to_its_first_token(
    fake, logger, calibrator, how
):
    fake.default = Behaviour(
        prompt_tokens=320, completion_tokens=12, first_ms=40, per_completion_token_ms=5
    )
    chat(fake, how, **COUNTED)
    assert settled(logger) == (1, {})
    (call,) = calls_of(calibrator)
    assert (call.model, call.prompt_tokens, call.completion_tokens) == (NAME, 320, 12)
    assert call.details["streamed"] is True
    assert 40 <= call.details["ttft_ms"] < call.actual_ms


@both_ways
@pytest.mark.parametrize("usage", ["auto", "null"])
def test_what_litellm_estimates_is_not_learnt(fake, logger, how, usage):
    fake.default = Behaviour(prompt_tokens=320, completion_tokens=12, usage=usage)
    chat(fake, how, **(COUNTED if usage == "null" else {"stream": True}))
    assert settled(logger) == (0, {"estimated tokens": 1})


def test_counts_that_a_provider_gives_unasked_are_its_own(fake, logger, calibrator):
    fake.default = Behaviour(prompt_tokens=320, completion_tokens=12, usage="always")
    chat(fake, stream=True)
    chat(fake, model="anthropic/claude-sonnet-4-5", api_base=fake.root, stream=True)
    chat(fake, model="ollama_chat/phi3:mini", api_base=fake.root, stream=True)
    chat(fake, model="ollama/phi3:mini", api_base=fake.root, stream=True)
    assert settled(logger, 4) == (4, {})
    assert {
        call.model: (call.prompt_tokens, call.completion_tokens) for call in calls_of(calibrator)
    } == dict.fromkeys(
        [NAME, "anthropic/claude-sonnet-4-5", "ollama_chat/phi3:mini", "ollama/phi3:mini"],
        (320, 12),
    )


def test_where_litellm_hands_on_no_chunks_its_figures_tell_an_estimate(live):
    from litellm import ModelResponse, token_counter

    counted = token_counter(model="m", text="So it is.", count_response_tokens=True)

    def is_estimate(provider="openai", options=None, details=None, more=0, text="So it is."):
        event = {
            "stream": True,
            "custom_llm_provider": provider,
            "optional_params": {"stream_options": options},
        }
        answer = ModelResponse(
            model="m",
            choices=[{"finish_reason": "stop", "message": {"content": text}}],
            usage={"prompt_tokens": 9, "completion_tokens": counted + more, "total_tokens": 99},
        )
        usage = {"prompt_tokens_details": details}
        return live.is_estimate(event, {"metadata": {"usage_object": usage}}, answer)

    asked = {"include_usage": True}
    assert is_estimate(more=1)
    assert not is_estimate(options=asked, more=1)
    assert is_estimate(options=asked)
    assert is_estimate(options=asked, more=1, text=None)
    assert is_estimate(options=asked, more=1, text="redacted-by-litellm")
    assert not is_estimate(details={"cached_tokens": 0})
    assert not is_estimate(provider="ollama_chat")
    assert live.is_estimate({"stream": True}, {}, None)
    assert not live.is_estimate({"stream": True, "call_type": "responses"}, {}, None)
    assert not live.is_estimate({"stream": None}, {}, None)


@both_ways
def test_an_answer_without_usage_has_unknown_tokens(fake, logger, how):
    fake.default = Behaviour(usage="omit")
    chat(fake, how)
    assert settled(logger) == (0, {"unknown tokens": 1})


@both_ways
@pytest.mark.parametrize(
    ("behaviour", "more", "reason"),
    [
        ({"failure": "status", "status": 500}, {}, "failed"),
        ({"failure": "hang"}, {"timeout": 0.3}, "timeout"),
        ({"failure": "disconnect"}, {}, "failed"),
        ({"failure": "disconnect"}, COUNTED, "failed"),
        ({"failure": "error_event"}, COUNTED, "failed"),
    ],
)
def test_a_call_that_fails_is_counted_by_reason(fake, logger, how, behaviour, more, reason):
    fake.default = Behaviour(**behaviour)

    async def failing():
        import litellm

        asked = {"model": NAME, "api_base": fake.openai, "api_key": "x", "messages": HELLO}
        try:
            await answered(litellm.acompletion(**asked, num_retries=0, **more), "stream" in more)
        finally:
            await logged()

    with pytest.raises(Exception):  # noqa: B017 - which one is LiteLLM's business
        chat(fake, **more) if how == "sync" else asyncio.run(failing())
    assert settled(logger) == (0, {reason: 1})


def test_a_stream_that_is_left_and_a_task_that_is_cancelled_leave_nothing(fake, logger):
    """LiteLLM does not tell of them."""
    import litellm

    asked = {"model": NAME, "api_base": fake.openai, "api_key": "x", "messages": HELLO}
    for _ in litellm.completion(**asked, **COUNTED):
        break
    fake.default = Behaviour(first_ms=3000)

    async def cancelled():
        task = asyncio.create_task(litellm.acompletion(**asked))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await logged()

    asyncio.run(cancelled())
    time.sleep(0.1)
    assert settled(logger, 0) == (0, {})


def test_two_429s_and_an_answer_are_one_call_with_its_retries_but_three_of_a_router(
    fake, logger, calibrator
):
    from litellm import Router

    fake.plan(Behaviour(failure="status", status=429, fail_times=2))
    chat(fake, num_retries=2)
    assert settled(logger) == (1, {})
    router = Router(model_list=[deployment(fake)], num_retries=2, retry_after=0)
    fake.plan(Behaviour(failure="status", status=429, fail_times=2))
    router.completion(model="any", messages=HELLO)
    assert settled(logger, 4) == (2, {"failed": 2})
    last = list(calibrator.calls(NAME))[-1]
    assert last.actual_ms < 1000
    assert last.model == NAME


def deployment(fake, model=NAME, name="d1"):
    return {
        "model_name": "any",
        "litellm_params": {"model": model, "api_base": fake.openai, "api_key": "x"},
        "model_info": {"id": name},
    }


@both_ways
@pytest.mark.parametrize("more", [{}, COUNTED], ids=["whole", "stream"])
@pytest.mark.parametrize("model", [NAME, "gpt-4o-mini", "groq/openai/gpt-oss-20b"])
def test_what_is_recorded_is_what_the_router_forecasts(
    live, fake, calibrator, monkeypatch, how, more, model
):
    """Under both of the names that a strategy may give."""
    from litellm import Router

    given = deployment(fake, model)
    router = Router(model_list=[given])
    for number, name in enumerate((live.model_of, live.id_of)):
        logger = live.LedgerLogger(calibrator.recorder(), name=name)
        use(monkeypatch, logger)
        if how == "sync":
            answer = router.completion(model="any", messages=HELLO, **more)
            list(answer) if more else None
        else:
            asyncio.run(answered(router.acompletion(model="any", messages=HELLO, **more), more))
        assert settled(logger) == (1, {})
        assert len(list(calibrator.calls(name(given)))) == 1, number


@pytest.mark.parametrize("is_stream", [False, True])
def test_outside_a_router_the_provider_stands_before_the_model_once(
    fake, logger, calibrator, is_stream
):
    more = COUNTED if is_stream else {}
    chat(fake, model="gpt-4o-mini", **more)
    chat(fake, model="groq/openai/gpt-oss-20b", api_base=f"{fake.root}/openai/v1", **more)
    assert settled(logger, 2) == (2, {})
    assert {call.model for call in calls_of(calibrator)} == {NAME, "groq/openai/gpt-oss-20b"}


def test_another_name_in_the_answer_is_kept(fake, logger, calibrator):
    fake.default = Behaviour(answered_model="gpt-4o-mini-2024-07-18")
    chat(fake)
    assert settled(logger) == (1, {})
    (call,) = calls_of(calibrator)
    assert call.model == NAME
    assert call.details["answered_model"] == "gpt-4o-mini-2024-07-18"


def test_a_cache_hit_is_counted_and_no_call(fake, logger, monkeypatch):
    import litellm

    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))
    chat(fake, caching=True)
    settled(logger, 1)
    try:
        chat(fake, caching=True)
    except ModuleNotFoundError as error:
        pytest.skip(f"this LiteLLM takes nothing from its cache without its proxy: {error}")
    assert settled(logger, 2) == (1, {"cached": 1})
    logger.log_success_event(
        kwargs={"call_type": "completion", "standard_logging_object": {"cache_hit": "True"}},
        response_obj={},
        start_time=None,
        end_time=None,
    )
    assert settled(logger, 3) == (1, {"cached": 2})


def test_embeddings_are_no_completions(fake, logger):
    import litellm

    litellm.embedding(
        model="openai/text-embedding-3-small", api_base=fake.openai, api_key="x", input=["hello"]
    )
    assert settled(logger) == (0, {"not a completion": 1})


def test_a_text_completion_is_recorded_once_though_it_is_reported_twice(fake, logger, calibrator):
    import litellm

    litellm.text_completion(
        model="text-completion-openai/davinci", api_base=fake.openai, api_key="x", prompt=PHRASE
    )
    assert settled(logger, 2) == (1, {"duplicate": 1})
    assert [call.model for call in calls_of(calibrator)] == ["text-completion-openai/davinci"]


def respond(fake, **more):
    import litellm

    asked = {"model": NAME, "api_base": fake.openai, "api_key": "x", "input": PHRASE}
    try:
        answer = litellm.responses(**asked, **more)
    except litellm.APIConnectionError as error:
        if "No module named" in str(error):
            pytest.skip(f"this LiteLLM has no responses without its proxy: {error}")
        raise
    return list(answer) if more else answer


def test_responses_are_recorded_once_though_a_stream_of_them_is_reported_twice(
    fake, logger, calibrator
):
    respond(fake)
    assert settled(logger) == (1, {})
    respond(fake, stream=True)
    assert settled(logger, 3) == (2, {"duplicate": 1})
    assert {(call.prompt_tokens, call.completion_tokens) for call in calls_of(calibrator)} == {
        (11, 7)
    }


def test_only_so_many_events_are_remembered(live, logger, monkeypatch):
    monkeypatch.setattr(live, "_SEEN_MAX", 3)
    for i in range(10):
        assert logger._is_new((i,))
        assert not logger._is_new((i,))
        assert len(logger._seen) <= 3


def test_the_attempts_of_a_proxys_request_have_one_id_and_are_no_doubles(logger):
    from datetime import datetime, timedelta

    start = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001 - LiteLLM's are naive
    same = {"litellm_call_id": "c1", "call_type": "completion", "model": "m"}
    failed = {**same, "exception": TimeoutError()}
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    answer = {"object": "chat.completion", "choices": [{"finish_reason": "stop", "message": {}}]}
    for event, answer_or_none in (
        (failed, None),
        (failed, None),
        (same, answer | {"usage": usage}),
    ):
        take = logger.log_failure_event if answer_or_none is None else logger.log_success_event
        start += timedelta(seconds=1)
        end = start + timedelta(milliseconds=200)
        take(kwargs=event, response_obj=answer_or_none, start_time=start, end_time=end)
    assert settled(logger, 3) == (1, {"timeout": 2})


def test_nothing_of_prompts_and_answers_is_kept_or_needed(
    live, fake, calibrator, ledger_path, monkeypatch
):
    logger = live.LedgerLogger(calibrator, turn_off_message_logging=True)
    assert logger.turn_off_message_logging is True
    use(monkeypatch, logger)
    chat(fake)
    chat(fake, **COUNTED)
    chat(fake, stream=True)
    assert settled(logger, 3) == (2, {"estimated tokens": 1})
    written = b"".join(path.read_bytes() for path in Path(ledger_path).parent.glob("*"))
    assert PHRASE.encode() not in written
    assert b"word0" not in written
    assert b"gpt-4o-mini" in written


def test_an_error_of_ours_reaches_no_call_and_is_told(live, fake, calibrator, monkeypatch):
    def broken(_):
        raise ZeroDivisionError("a name that fails")

    told = []
    logger = live.LedgerLogger(calibrator, name=broken, on_error=told.append)
    use(monkeypatch, logger)
    assert chat(fake).usage.prompt_tokens == 11
    assert settled(logger) == (0, {"fault": 1})
    assert "a name that fails" in str(told)


def test_something_else_than_a_ledger_is_refused(live):
    with pytest.raises(InvalidInputError):
        live.LedgerLogger("calls.db")


def test_many_calls_at_once_are_all_there(fake, logger, calibrator):
    import litellm

    asked = {"model": NAME, "api_base": fake.openai, "api_key": "x", "messages": HELLO}

    async def ask_all():
        await asyncio.gather(*(litellm.acompletion(**asked) for _ in range(40)))
        await logged()

    asyncio.run(ask_all())
    assert settled(logger, 40) == (40, {})
    assert len({call.request_id for call in calls_of(calibrator)}) == 40


PROXY = """
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.live.litellm import LedgerLogger

handler = LedgerLogger(AdaptiveCalibrator("calls.db"))
"""

CONFIG = """
model_list:
  - model_name: any
    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{url}", api_key: x}}
    model_info: {{id: d1}}
litellm_settings:
  callbacks: my_module.handler
"""


@pytest.mark.stress
@pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("fastapi", "mcp", "redis", "semver", "uvicorn")
    ),
    reason="the proxy is not installed: pip install 'litellm[proxy]'",
)
def test_the_proxy_records_by_its_configuration_alone(live, fake, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "my_module.py").write_text(PROXY)
    (tmp_path / "config.yaml").write_text(CONFIG.format(url=fake.openai))
    command = [sys.executable, "-c", "from litellm import run_server; run_server()"]
    command += ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "proxy.log").open("wb") as log:
        key = f"sk-{secrets.token_hex(32)}"  # it starts with no weaker one
        proxy = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"LITELLM_MASTER_KEY": key},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            assert is_up(f"{url}/health/liveliness", proxy), (tmp_path / "proxy.log").read_text()
            import openai

            with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
                ask = client.chat.completions.create
                ask(model="any", messages=HELLO)
                list(ask(model="any", messages=HELLO, **COUNTED))
            with AdaptiveCalibrator(tmp_path / "calls.db") as calibrator:
                until = time.monotonic() + 20
                while len(calls_of(calibrator)) < 2 and time.monotonic() < until:
                    time.sleep(0.1)
                found = [(call.model, call.prompt_tokens) for call in calls_of(calibrator)]
                assert found == [(NAME, 11)] * 2
                assert calibrator.audit() == []
        finally:
            proxy.terminate()
            proxy.wait(20)


def is_up(url, process):
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  it is ours
                return True
        except OSError:
            time.sleep(0.3)
    return False
