"""Why a call ended without an answer: the same words for hooks, `timed` and the spans of others."""

import asyncio

import pytest

from calibration_ledger.core.failures import reason_of, reason_of_names
from calibration_ledger.core.spans import Span, read_span

NAMES = {
    "httpx.ReadTimeout": "timeout",
    "openai.APITimeoutError": "timeout",
    "litellm.exceptions.Timeout": "timeout",
    "grpc.DeadlineExceeded": "timeout",
    "timeout": "timeout",
    "GatewayTimeout": "failed",
    "asyncio.exceptions.CancelledError": "cancelled",
    "KeyboardInterrupt": "cancelled",
    "GeneratorExit": "left early",
    "openai.RateLimitError": "failed",
    "": "failed",
}


@pytest.mark.parametrize(("name", "reason"), NAMES.items())
def test_an_exception_and_a_span_that_names_it_are_counted_alike(name, reason):
    assert reason_of_names([name]) == reason
    kind = type(name.rpartition(".")[2] or "Plain", (Exception,), {})
    assert reason_of(kind()) == reason
    told = {"gen_ai.operation.name": "chat", "error.type": name}
    span = Span("a" * 32, "b" * 16, None, "chat", 1, 2, is_error=True, attributes=told)
    assert read_span(span).reason == reason


def test_a_time_out_that_another_exception_wraps_is_one():
    error = RuntimeError("the framework's own")
    error.__cause__ = TimeoutError()
    assert reason_of(error) == "timeout"
    error.__cause__ = error  # whatever somebody makes of it
    assert reason_of(error) == "failed"


def test_a_time_out_that_was_made_of_a_cancellation_is_one():
    error = TimeoutError()
    error.__cause__ = asyncio.CancelledError()  # as `asyncio.timeout` raises it
    assert reason_of(error) == "timeout"


def test_a_generator_that_a_cancelled_task_closes_was_not_left_early():
    found = []

    async def chunks():
        try:
            yield 1
        except GeneratorExit as error:
            found.append(reason_of(error))
            raise

    async def reader(is_cancelled):
        stream = chunks()
        try:
            await anext(stream)
            await asyncio.sleep(5 if is_cancelled else 0)
        finally:
            await stream.aclose()

    async def main():
        await reader(is_cancelled=False)
        task = asyncio.create_task(reader(is_cancelled=True))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert found == ["left early", "cancelled"]
