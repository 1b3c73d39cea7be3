"""timed(): the answer says the model and its tokens, and nothing reaches the program's own call."""

import asyncio
import inspect
import json
import sqlite3
import time
import warnings
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass

import pytest

from calibration_ledger import (
    AdaptiveCalibrator,
    CallIncompleteError,
    DoubtfulCallWarning,
    InvalidInputError,
    LedgerError,
    NotRecordedWarning,
    SimilarNameWarning,
    UnlearnableAnswerError,
)
from support.programs import ran
from support.threads import together

ANSWER = {
    "object": "chat.completion",
    "model": "phi4-2025",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hello"}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}
WITHOUT_USAGE = {**ANSWER, "usage": None}


def chunk(content=None, finish=None, usage=None):
    choices = (
        [] if usage else [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]
    )
    return {
        "object": "chat.completion.chunk",
        "model": "phi4-2025",
        "choices": choices,
        "usage": usage,
    }


CHUNKS = [
    chunk(""),
    chunk("hel"),
    chunk("lo"),
    chunk(None, "stop"),
    chunk(usage={"prompt_tokens": 11, "completion_tokens": 7}),
]


def slowly(chunks=CHUNKS, pause_s=0.01):
    for one in chunks:
        time.sleep(pause_s)
        yield one


async def slowly_too(chunks=CHUNKS, pause_s=0.01):
    for one in chunks:
        await asyncio.sleep(pause_s)
        yield one


def only(calibrator):
    (call,) = calibrator.calls()
    return call


# -- the answer -----------------------------------------------------------------------------


@pytest.mark.both
def test_model_and_tokens_come_from_the_answer(calibrator):
    with calibrator.timed("phi4") as call:
        time.sleep(0.01)
        call.answer = ANSWER
    recorded = only(calibrator)
    assert (recorded.model, recorded.prompt_tokens, recorded.completion_tokens) == ("phi4", 11, 7)
    assert recorded.details == {"clock": "client", "answered_model": "phi4-2025"}
    assert recorded.actual_ms == call.actual_ms >= 10.0
    assert call.error_ms == recorded.error_ms
    assert calibrator.skipped == {}


def test_a_model_that_nobody_named_is_the_one_that_answered(calibrator):
    with calibrator.timed() as call:
        call.answer = ANSWER
    assert only(calibrator).model == "phi4-2025"
    assert only(calibrator).details == {"clock": "client"}


def test_what_the_block_says_goes_before_the_answer(calibrator):
    with calibrator.timed("phi4", 20) as call:
        call.answer = ANSWER
        call.model, call.completion_tokens = "phi4:q4", 0
        call.request_id = "r"
        call.details = {"clock": "server", "queue_ms": 3}
    recorded = only(calibrator)
    assert (recorded.model, recorded.prompt_tokens, recorded.completion_tokens) == (
        "phi4:q4",
        20,
        0,
    )
    assert recorded.request_id == "r"
    assert recorded.details == {"answered_model": "phi4-2025", "clock": "server", "queue_ms": 3}


def test_all_may_be_set_inside_without_an_answer(calibrator):
    with calibrator.timed() as call:
        call.model, call.prompt_tokens, call.completion_tokens = "phi4", 3, 4
    recorded = only(calibrator)
    assert (recorded.model, recorded.prompt_tokens, recorded.completion_tokens) == ("phi4", 3, 4)
    assert recorded.details is None


def test_tokens_of_the_blocks_own_make_up_for_an_answer_without(calibrator):
    with calibrator.timed("phi4") as call:
        call.answer, call.prompt_tokens, call.completion_tokens = WITHOUT_USAGE, 3, 4
    assert (only(calibrator).prompt_tokens, only(calibrator).completion_tokens) == (3, 4)
    assert only(calibrator).details["answered_model"] == "phi4-2025"


def test_an_answer_that_is_an_error_is_not_learnt_whatever_the_block_says(calibrator):
    with pytest.warns(NotRecordedWarning), calibrator.timed("phi4", 3) as call:
        call.answer, call.completion_tokens = {"error": {"message": "overloaded"}}, 4
    assert calibrator.heads() == []
    assert calibrator.skipped == {"failed": 1}


# -- what is missing, or fails --------------------------------------------------------------

MISSING = {
    "all": ({}, "unknown model", "nobody named its model"),
    "the model": ({"prompt_tokens": 1, "completion_tokens": 1}, "unknown model", "named its model"),
    "prompt tokens": (
        {"model": "m", "completion_tokens": 1},
        "unknown tokens",
        "'m' was not recorded, for its prompt_tokens were not set",
    ),
    "completion tokens": (
        {"model": "m", "prompt_tokens": 1},
        "unknown tokens",
        "'m' was not recorded, for its completion_tokens were not set",
    ),
    "usage": ({"model": "m", "answer": WITHOUT_USAGE}, "unknown tokens", "how many tokens it took"),
    "an end": ({"model": "m", "answer": CHUNKS[:2]}, "incomplete", "the answer has no end"),
    "an answer": ({"model": "m", "answer": object()}, "unreadable", "no shape that is known"),
    "a whole answer": ({"model": "m", "answer": slowly()}, "unreadable", "through call.stream"),
    "a number": ({"model": "m", "answer": 5}, "unreadable", "no shape that is known"),
    "a right name": ({"model": "m ", "answer": ANSWER}, "refused", "end with a blank"),
    "right tokens": ({"answer": ANSWER, "prompt_tokens": -1}, "refused", "prompt_tokens must"),
    "right details": ({"answer": ANSWER, "details": [1]}, "refused", ""),
    "short details": ({"answer": ANSWER, "details": {"a": "x" * 5000}}, "refused", "5000|bytes"),
    "an id": ({"answer": ANSWER, "request_id": 7}, "refused", "request_id must be a text"),
    "an outcome": ({"answer": ANSWER, "outcome": "bad"}, "refused", "outcome must be"),
}


def set_on(call, fields):
    for name, value in fields.items():
        setattr(call, name, value)


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_a_warning_and_a_count_and_never_an_exception(calibrator, what):
    fields, reason, sentence = MISSING[what]
    with pytest.warns(NotRecordedWarning, match=sentence) as told, calibrator.timed() as call:
        set_on(call, fields)
    assert told[0].filename == __file__
    assert calibrator.heads() == []
    assert calibrator.skipped == {reason: 1}
    assert call.actual_ms > 0.0
    assert call.error_ms is None
    with warnings.catch_warnings():  # one of a kind was told
        warnings.simplefilter("error")
        with calibrator.timed() as call:
            set_on(call, fields)
    assert calibrator.skipped == {reason: 2}


@pytest.mark.parametrize("what", MISSING)
def test_a_filter_that_makes_warnings_errors_changes_nothing(calibrator, what):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with calibrator.timed() as call:
            set_on(call, MISSING[what][0])
    assert calibrator.skipped == {MISSING[what][1]: 1}


@pytest.mark.parametrize("what", MISSING)
def test_on_error_raise_raises_it_at_the_end_of_the_block(calibrator, what):
    with pytest.raises(InvalidInputError), calibrator.timed(on_error="raise") as call:
        set_on(call, MISSING[what][0])
    assert calibrator.skipped == {MISSING[what][1]: 1}
    assert calibrator.heads() == []


def test_on_error_takes_a_function(calibrator):
    told = []
    timed = calibrator.timed("m", on_error=told.append)
    for answer in (WITHOUT_USAGE, object(), None):
        with timed as call:
            call.answer = answer
    assert [type(error) for error in told] == [UnlearnableAnswerError] * 2 + [CallIncompleteError]
    assert [error.reason for error in told] == ["unknown tokens", "unreadable", "unknown tokens"]


@pytest.mark.parametrize("wish", [None, "ignore", 5])
def test_a_wrong_on_error_is_refused_before_the_block_runs(calibrator, wish):
    with pytest.raises(InvalidInputError, match="on_error must be"):
        calibrator.timed("m", on_error=wish)


def held(path):
    """Hold the ledger, as another process would."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return closing(connection)


@contextmanager
def outdated(path):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    yield


@contextmanager
def damaged(path):
    path.write_bytes(b"no ledger at all" * 1000)
    for more in ("-wal", "-shm"):
        path.with_name(path.name + more).unlink(missing_ok=True)
    yield


@contextmanager
def a_folder(path):
    for one in path.parent.glob(path.name + "*"):
        one.unlink()
    path.mkdir()
    yield


@pytest.mark.parametrize("trouble", [held, outdated, damaged, a_folder])
@pytest.mark.parametrize("filtered", [False, True])
def test_a_ledger_that_fails_never_reaches_the_program(ledger_path, trouble, filtered):
    with AdaptiveCalibrator(ledger_path) as first:
        first.record("m", 1, 2.0)
    with AdaptiveCalibrator(ledger_path, timeout_s=0.05) as calibrator, trouble(ledger_path):

        @calibrator.timed("m")
        def chat():
            return ANSWER

        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("error" if filtered else "always")
            assert chat() is ANSWER
            assert chat() is ANSWER
            assert asyncio.run(asked(calibrator)) is ANSWER
        assert calibrator.skipped == {"ledger failed": 3}
        assert [one.category for one in told] == ([] if filtered else [NotRecordedWarning])
        with pytest.raises(LedgerError), calibrator.timed("m", on_error="raise") as call:
            call.answer = ANSWER


async def asked(calibrator):
    async with calibrator.timed("m") as call:
        call.answer = ANSWER
    return call.answer


FULL = """
import resource, signal, sys
from calibration_ledger import AdaptiveCalibrator

answer = {"model": "m", "choices": [{"finish_reason": "stop"}],
          "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with AdaptiveCalibrator(sys.argv[1]) as calibrator:
    calibrator.record("m", 1, 2.0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    for _ in range(2):
        with calibrator.timed("m") as call:
            call.answer = answer
    print(call.answer is answer, dict(calibrator.skipped))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(calibrator.calls())) == 1
    assert calibrator.audit() == []
"""


@pytest.mark.parametrize("flags", [(), ("-W", "error")])
def test_a_disk_that_is_full_never_reaches_the_program(ledger_path, flags):
    done = ran(FULL, ledger_path, flags=flags)
    assert (done.returncode, done.stdout) == (0, "True {'ledger failed': 2}\n"), done.stderr
    assert done.stderr.count("NotRecordedWarning") == (0 if flags else 1)


def test_a_closed_calibrator_never_reaches_the_program(ledger_path):
    calibrator = AdaptiveCalibrator(ledger_path)
    calibrator.close()
    with pytest.warns(NotRecordedWarning, match="closed"), calibrator.timed("m") as call:
        call.answer = ANSWER
    assert calibrator.skipped == {"ledger failed": 1}


def test_a_prior_that_fails_never_reaches_the_program(ledger_path):
    def prior(model):
        raise ZeroDivisionError(model)

    with AdaptiveCalibrator(ledger_path, prior=prior) as calibrator:
        with calibrator.timed("m") as call:
            call.answer = ANSWER
        assert calibrator.skipped == {"refused": 1}


def test_a_call_that_looks_wrong_is_recorded_whatever_the_filters_say(calibrator):
    calibrator.record("m", 1, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with calibrator.timed("M", 1) as call:
            call.completion_tokens = 1
            call.called_at = call.called_at.replace(year=9000)  # what a broken clock gives
    assert call.error_ms is not None
    assert len(list(calibrator.calls("M"))) == 1
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for name in ("mm", "Mm"):
            with calibrator.timed(name, 1) as call:
                call.completion_tokens = 1
                call.called_at = call.called_at.replace(year=9000)
    categories = [one.category for one in told]
    assert categories == [DoubtfulCallWarning, DoubtfulCallWarning, SimilarNameWarning]
    assert {one.filename for one in told} == {__file__}
    assert calibrator.skipped == {}


# -- the block's own exceptions -------------------------------------------------------------


class ReadTimeout(OSError):  # noqa: N818 - the name is the point
    """As httpx has it."""


class APITimeoutError(Exception):
    """As openai has it."""


class GatewayTimeout(Exception):  # noqa: N818 - as above
    """As a client calls the status 504."""


ENDS = {
    TimeoutError: "timeout",
    asyncio.TimeoutError: "timeout",
    ReadTimeout: "timeout",
    APITimeoutError: "timeout",
    GatewayTimeout: "failed",
    ConnectionResetError: "failed",
    ZeroDivisionError: "failed",
    asyncio.CancelledError: "cancelled",
    KeyboardInterrupt: "cancelled",
    SystemExit: "cancelled",
    GeneratorExit: "left early",
}


@pytest.mark.parametrize("error", ENDS)
def test_an_exception_passes_untouched_and_is_counted_by_its_class(calibrator, error):
    def fail(call):
        call.answer = ANSWER
        raise error

    for on_error in ("warn", "raise"):
        with pytest.raises(error) as raised, calibrator.timed("m", on_error=on_error) as call:
            fail(call)
        assert not hasattr(raised.value, "__notes__")
    assert calibrator.skipped == {ENDS[error]: 2}
    assert calibrator.heads() == []


def test_a_time_out_that_the_block_tells_of_is_recorded_with_what_is_known(calibrator):
    def read(call):
        call.outcome = "timeout"
        list(call.stream(broken(TimeoutError())))

    with pytest.raises(TimeoutError), calibrator.timed("m", 11) as call:
        read(call)
    assert (only(calibrator).outcome, only(calibrator).completion_tokens) == ("timeout", 0)
    assert only(calibrator).details["streamed"] is True


def test_an_exception_that_takes_no_notes_passes_as_it_is(calibrator):
    @dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    def fail(call):
        call.outcome = "timeout"  # without prompt tokens it cannot be recorded
        raise FrozenError(7)

    timed = calibrator.timed("m", on_error=lambda _: None)
    with pytest.raises(FrozenError), timed as call:
        fail(call)


# -- streams --------------------------------------------------------------------------------


def broken(error, chunks=CHUNKS[:3]):
    yield from chunks
    raise error


def test_a_stream_passes_through_and_is_measured_to_its_end(calibrator):
    start = time.perf_counter()
    with calibrator.timed("phi4") as call:
        assert list(call.stream(slowly())) == CHUNKS
        time.sleep(0.05)
    whole_ms = (time.perf_counter() - start) * 1000.0
    recorded = only(calibrator)
    assert (recorded.model, recorded.prompt_tokens, recorded.completion_tokens) == ("phi4", 11, 7)
    assert 50.0 <= recorded.actual_ms <= whole_ms - 50.0
    assert recorded.details["streamed"] is True
    assert 20.0 <= recorded.details["ttft_ms"] < recorded.actual_ms - 20.0
    assert recorded.details["answered_model"] == "phi4-2025"


def test_an_asynchronous_stream_does_too(calibrator):
    async def main():
        async with calibrator.timed("phi4") as call:
            return [one async for one in call.stream(slowly_too())]

    assert asyncio.run(main()) == CHUNKS
    recorded = only(calibrator)
    assert (recorded.prompt_tokens, recorded.completion_tokens) == (11, 7)
    assert 20.0 <= recorded.details["ttft_ms"] < recorded.actual_ms
    assert recorded.details["clock"] == "client"


def test_lines_and_bytes_of_a_stream_are_read(calibrator):
    lines = [f"data: {json.dumps(one)}\n" for one in CHUNKS]
    text = "\n".join([*lines, "data: [DONE]\n\n"]).encode()
    with calibrator.timed("phi4") as call:
        for line in call.stream([line.strip() for line in lines]):
            assert isinstance(line, str)
    with calibrator.timed("phi4") as call:
        assert b"".join(call.stream(text[i : i + 7] for i in range(0, len(text), 7))) == text
    assert [one.prompt_tokens for one in calibrator.calls()] == [11, 11]
    assert all("ttft_ms" in one.details for one in calibrator.calls())


def test_a_stream_that_is_left_early_is_counted_without_a_warning(calibrator):
    with calibrator.timed("m") as call:
        for one in call.stream(slowly()):
            if one is CHUNKS[2]:
                break
    assert calibrator.skipped == {"left early": 1}
    assert calibrator.heads() == []


def test_a_stream_that_is_left_once_all_was_said_is_recorded(calibrator):
    start = time.perf_counter()
    with calibrator.timed("m") as call:
        for one in call.stream(slowly()):
            if one is CHUNKS[-1]:
                break
        time.sleep(0.05)
    assert only(calibrator).completion_tokens == 7
    assert call.actual_ms <= (time.perf_counter() - start) * 1000.0 - 50.0


@pytest.mark.parametrize("is_caught", [False, True])
def test_an_exception_in_a_stream_is_counted_whether_the_block_catches_it_or_not(
    calibrator, is_caught
):
    seen = []

    def block():
        with calibrator.timed("m") as call:
            try:
                seen.extend(call.stream(broken(ConnectionResetError())))
            except ConnectionResetError:
                if not is_caught:
                    raise

    if is_caught:
        block()
    else:
        with pytest.raises(ConnectionResetError):
            block()
    assert seen == CHUNKS[:3]
    assert calibrator.skipped == {"failed": 1}


def test_a_stream_without_usage_is_told(calibrator):
    with pytest.warns(NotRecordedWarning, match="how many tokens"), calibrator.timed("m") as call:
        assert len(list(call.stream(CHUNKS[:4]))) == 4
    assert calibrator.skipped == {"unknown tokens": 1}


def test_an_answer_that_was_put_together_goes_before_its_stream(calibrator):
    with calibrator.timed("m") as call:
        list(call.stream(CHUNKS[:4]))
        call.answer = ANSWER
    assert only(calibrator).completion_tokens == 7
    assert "ttft_ms" in only(calibrator).details


class Stream:
    """As clients have it: it iterates, is a context manager, can be closed, and knows more."""

    def __init__(self):
        self.is_open = True
        self.entered = 0
        self.response = "the response"

    def __iter__(self):
        yield from CHUNKS

    def __enter__(self):
        self.entered += 1
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.is_open = False


class AsyncStream(Stream):
    def __aiter__(self):
        return slowly_too()

    async def __aenter__(self):
        self.entered += 1
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        self.is_open = False


class Manager:
    """As `messages.stream()` of anthropic: what it yields is the stream."""

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        return self.stream

    def __exit__(self, *_):
        self.stream.close()


def test_a_clients_stream_is_entered_left_closed_and_asked_as_before(calibrator):
    for make in (Stream, lambda: Manager(Stream())):
        made = make()
        inner = getattr(made, "stream", made)
        with calibrator.timed("m") as call, call.stream(made) as stream:
            assert stream.response == "the response"
            assert list(stream) == CHUNKS
            assert inner.is_open
        assert not inner.is_open
    assert len(list(calibrator.calls())) == 2
    with calibrator.timed("m") as call:
        stream = call.stream(Stream())
        assert next(stream) == CHUNKS[0]
        stream.close()
    assert not stream.is_open
    assert calibrator.skipped == {"left early": 1}
    with calibrator.timed("m") as call, call.stream(iter(CHUNKS)) as plain:
        assert list(plain) == CHUNKS


def test_an_asynchronous_clients_stream_too(calibrator):
    async def main():
        made = AsyncStream()
        async with calibrator.timed("m") as call, call.stream(made) as stream:
            assert [one async for one in stream] == CHUNKS
        assert not made.is_open
        async with calibrator.timed("m") as call:
            stream = call.stream(AsyncStream())
            await stream.__anext__()
            await stream.close()
        async with calibrator.timed("m") as call, call.stream(slowly_too()) as plain:
            assert [one async for one in plain] == CHUNKS

    asyncio.run(main())
    assert len(list(calibrator.calls())) == 2
    assert calibrator.skipped == {"left early": 1}


# -- async blocks ---------------------------------------------------------------------------


def test_an_asynchronous_block_records_in_a_thread_and_the_loop_goes_on(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)
        ticks = []

        async def tick():
            while True:
                ticks.append(time.perf_counter())
                await asyncio.sleep(0.005)

        async def main():
            ticker = asyncio.create_task(tick())
            await asyncio.sleep(0)
            async with calibrator.timed("m") as call:
                call.answer = ANSWER
            ticker.cancel()
            return call.error_ms

        async def main_while_held(other):
            asyncio.get_running_loop().call_later(0.2, other.execute, "ROLLBACK")
            return await main()

        with held(ledger_path) as other:
            assert asyncio.run(main_while_held(other)) is not None
        assert len(ticks) > 10
        assert len(list(calibrator.calls())) == 2
        assert calibrator.audit() == []


def test_a_task_that_is_cancelled_while_it_records_loses_no_call(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)

        async def main(other):
            task = asyncio.create_task(asked(calibrator))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        with held(ledger_path) as other:
            asyncio.run(main(other))
            other.execute("ROLLBACK")
    assert calibrator.skipped == {}
    with AdaptiveCalibrator(ledger_path) as again:
        assert len(list(again.calls())) == 2
        assert again.audit() == []


def test_a_ledger_that_is_locked_leaves_the_loops_own_threads_to_the_program(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 2.0)

        async def main(other):
            tasks = [asyncio.create_task(asked(calibrator)) for _ in range(40)]
            await asyncio.sleep(0.05)
            start = time.perf_counter()
            await asyncio.to_thread(time.sleep, 0)
            waited_s = time.perf_counter() - start
            other.execute("ROLLBACK")
            await asyncio.gather(*tasks)
            return waited_s

        with held(ledger_path) as other:
            assert asyncio.run(main(other)) < 0.5
        assert len(list(calibrator.calls())) == 41
        assert calibrator.audit() == []


def test_a_loop_that_is_not_asyncios_records_too(calibrator):
    block = asked(calibrator)
    with pytest.raises(StopIteration) as ended:
        block.send(None)
    assert ended.value.value is ANSWER
    assert len(list(calibrator.calls())) == 1


def test_many_tasks_at_once_are_all_there(calibrator):
    async def main():
        await asyncio.gather(*(asked(calibrator) for _ in range(50)))

    asyncio.run(main())
    assert len(list(calibrator.calls())) == 50


# -- one object, and decorators -------------------------------------------------------------


def test_one_object_measures_one_block_after_the_other(calibrator):
    timed = calibrator.timed("m")
    for i in range(3):
        with timed as call:
            call.answer, call.request_id = ANSWER, f"r-{i}"
    assert [one.request_id for one in calibrator.calls()] == ["r-0", "r-1", "r-2"]


def test_one_object_in_two_blocks_at_once_records_neither_and_says_so(calibrator):
    timed = calibrator.timed("m")
    with (
        pytest.warns(NotRecordedWarning, match="several blocks at once"),
        timed as first,
        timed as second,
    ):
        first.answer = second.answer = ANSWER
    assert calibrator.skipped == {"refused": 2}
    assert calibrator.heads() == []
    with timed as third:
        third.answer = ANSWER
    assert len(list(calibrator.calls())) == 1


def test_a_decorated_function_gives_its_answer_and_is_measured(calibrator):
    class Client:
        @calibrator.timed("phi4")
        def chat(self, prompt: str, *, loud: bool = False) -> dict:
            """Ask."""
            time.sleep(0.01)
            return {**ANSWER, "prompt": prompt, "loud": loud}

    assert Client().chat("hi", loud=True)["prompt"] == "hi"
    assert Client.chat.__doc__ == "Ask."
    assert list(inspect.signature(Client.chat).parameters) == ["self", "prompt", "loud"]
    assert only(calibrator).actual_ms >= 10.0
    assert only(calibrator).prompt_tokens == 11


def test_a_decorated_coroutine_too(calibrator):
    @calibrator.timed("phi4")
    async def chat():
        await asyncio.sleep(0.01)
        return ANSWER

    assert inspect.iscoroutinefunction(chat)
    assert asyncio.run(chat()) is ANSWER
    assert only(calibrator).actual_ms >= 10.0


def test_a_decorated_generator_is_a_stream(calibrator):
    @calibrator.timed("phi4")
    def chat(chunks):
        got = yield from slowly(chunks)
        return (got, "done")

    assert inspect.isgeneratorfunction(chat)
    assert list(chat(CHUNKS)) == CHUNKS
    assert only(calibrator).details["ttft_ms"] >= 20.0
    waiting = chat(CHUNKS)  # the clock starts with the first step
    made = time.perf_counter()
    time.sleep(0.1)
    list(waiting)
    *_, last = calibrator.calls()
    assert last.actual_ms <= (time.perf_counter() - made) * 1000.0 - 100.0
    left = chat(CHUNKS)
    assert next(left) == CHUNKS[0]
    left.close()
    with pytest.raises(ConnectionResetError):
        list(calibrator.timed("m")(broken)(ConnectionResetError()))
    assert calibrator.skipped == {"left early": 1, "failed": 1}
    said = chat(CHUNKS)
    for one in said:
        if one is CHUNKS[-1]:
            break
    said.close()
    assert len(list(calibrator.calls())) == 3


def test_a_decorated_generator_still_takes_values_and_exceptions(calibrator):
    @calibrator.timed("phi4")
    def echo():
        got = None
        while True:
            try:
                got = yield {**CHUNKS[1], "got": got}
            except ValueError:
                got = "caught"

    talk = echo()
    assert next(talk)["got"] is None
    assert talk.send(5)["got"] == 5
    assert talk.throw(ValueError())["got"] == "caught"
    talk.close()
    assert calibrator.skipped == {"left early": 1}


def test_a_decorated_asynchronous_generator_is_a_stream(calibrator):
    @calibrator.timed("phi4")
    async def chat(chunks=CHUNKS):
        async for one in slowly_too(chunks):
            yield one

    @calibrator.timed("phi4")
    async def echo():
        got = None
        while True:
            try:
                got = yield {**CHUNKS[1], "got": got}
            except ValueError:
                got = "caught"

    async def main():
        assert [one async for one in chat()] == CHUNKS
        async with aclosing(chat()) as left:
            assert await left.__anext__() == CHUNKS[0]
        async with aclosing(chat()) as said:
            async for one in said:
                if one is CHUNKS[-1]:
                    break
        async with aclosing(echo()) as talk:
            assert (await talk.__anext__())["got"] is None
            assert (await talk.asend(5))["got"] == 5
            assert (await talk.athrow(ValueError()))["got"] == "caught"

    assert inspect.isasyncgenfunction(chat)
    asyncio.run(main())
    assert len(list(calibrator.calls())) == 2
    assert calibrator.skipped == {"left early": 2}


def test_one_decorator_is_used_by_threads_tasks_and_itself_at_once(calibrator):
    @calibrator.timed("phi4")
    def chat(depth=0):
        time.sleep(0.002)
        return chat(depth - 1) if depth else ANSWER

    @calibrator.timed("phi4")
    async def chat_too():
        await asyncio.sleep(0.01)
        return ANSWER

    async def main():
        await asyncio.gather(*(chat_too() for _ in range(20)))

    together(*[lambda: [chat() for _ in range(5)]] * 8)
    asyncio.run(main())
    chat(2)
    assert len(list(calibrator.calls())) == 8 * 5 + 20 + 3
    assert calibrator.skipped == {}


def test_what_is_no_function_is_refused(calibrator):
    with pytest.raises(InvalidInputError, match="decorates a function"):
        calibrator.timed("m")(5)
