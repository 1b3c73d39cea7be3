"""progress(): `timed` with a bar that shows how much longer the running call takes."""

import asyncio
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from calibration_ledger import AdaptiveCalibrator, Call, InvalidInputError, NotRecordedWarning
from calibration_ledger.verbs.progress import HIGHEST, Bar
from calibration_ledger.verbs.timed import Block
from support.terminal import Terminal

START = datetime(2026, 1, 2, tzinfo=UTC)


def learn(calibrator, model="m", count=60, base_ms=1000.0):
    """Calls of 100 to 159 completion tokens at 10 ms each."""
    calibrator.record_many(
        Call(
            model,
            50 + i % 7,
            100 + i * 7 % 60,
            (base_ms + 10.0 * (100 + i * 7 % 60)) * (0.9 + 0.2 * (i * 5 % 11) / 11),
            START + timedelta(minutes=i),
        )
        for i in range(count)
    )


@pytest.fixture
def learnt(calibrator):
    learn(calibrator)
    return calibrator


def bar_of(calibrator, model="m", prompt_tokens=50, per_event=None):
    block = Block(model, prompt_tokens)
    return block, Bar(block, calibrator.forecast, {} if per_event is None else per_event)


def seen_at(block, bar, elapsed_ms):
    block.start = time.perf_counter() - elapsed_ms / 1000.0
    return bar.view()


def left_s(view):
    return float(re.search(r"([0-9.]+) s left", view.words)[1])


# -- what a bar says ------------------------------------------------------------------------


def test_a_bar_has_what_the_forecast_says_is_left(learnt):
    block, bar = bar_of(learnt)
    view = seen_at(block, bar, 500.0)
    expected = learnt.forecast("m", 50).remaining(500.0).median_ms
    assert view.label == "m"
    assert view.words.startswith("0.5 s, ")
    assert left_s(view) == pytest.approx(expected / 1000.0, abs=0.06)
    assert view.share == pytest.approx(500.0 / (500.0 + expected), abs=0.01)


def test_past_the_forecast_it_says_so_and_is_neither_full_nor_goes_back(learnt):
    block, bar = bar_of(learnt)
    shares = []
    for elapsed_ms in (*range(0, 5000, 50), 10_000, 100_000, 10_000_000):
        view = seen_at(block, bar, float(elapsed_ms))
        shares.append(view.share)
    assert shares == sorted(shares)
    assert shares[-1] <= HIGHEST < 1.0
    assert re.fullmatch(r"2 h 47 min, longer than 9[5-9] % of such calls", view.words)
    assert "left" not in view.words


def test_a_model_never_seen_has_the_time_that_went_by_alone(calibrator):
    block, bar = bar_of(calibrator)
    assert seen_at(block, bar, 1234.0) == ("m", None, "1.2 s")
    block, bar = bar_of(calibrator, model=None)
    assert seen_at(block, bar, 100.0) == ("call", None, "0.1 s")


def test_what_is_known_inside_of_the_block_is_taken_in(learnt):
    block, bar = bar_of(learnt, model=None, prompt_tokens=None)
    assert seen_at(block, bar, 100.0).share is None
    block.model, block.prompt_tokens = "m", 50
    assert seen_at(block, bar, 200.0).share is not None
    block.prompt_tokens = -1  # no forecast, and no error
    assert seen_at(block, bar, 300.0).share is None


def test_a_name_that_would_command_the_terminal_is_written_out(calibrator):
    block, bar = bar_of(calibrator, model="m\x1b[2J")
    assert seen_at(block, bar, 100.0).label == r"m\x1b[2J"


def test_tokens_so_far_tell_how_long_the_rest_takes(learnt):
    block, bar = bar_of(learnt)
    block.start = time.perf_counter() - 1.0
    block.tokens(1)  # the first after a second
    block.tokens(100)  # and all these at once
    fast = bar.view()
    block, bar = bar_of(learnt)
    block.start = time.perf_counter() - 1.0
    block.tokens(1)
    block._said = block._said._replace(first_at=block.start + 0.2)
    block.tokens(10)  # in 0.8 s: eight times as slow as ever
    slow = bar.view()
    assert left_s(fast) < 0.5
    assert left_s(slow) > 5.0
    late = seen_at(block, bar, 60_000.0).words
    assert re.fullmatch(r"1 min 0 s, .* left, longer than 9[5-9] % of such calls", late)


def test_where_the_first_word_is_of_many_tokens_the_first_is_reckoned(learnt):
    block, _ = bar_of(learnt)
    block.start = 0.0
    block.tokens(11)
    assert block.tokens_so_far() == (None, None)  # nobody knows how fast they came
    first_at = block._said.first_at
    block._said = block._said._replace(last=21, last_at=first_at + 1.0)
    assert block.tokens_so_far() == (21, pytest.approx((first_at - 1.0) * 1000.0))


@pytest.mark.parametrize("wrong", [-1, 1.5, "7", None, True])
def test_tokens_that_are_none_end_neither_the_program_nor_the_bar(learnt, wrong):
    block, bar = bar_of(learnt)
    block.tokens(1)
    block.tokens(wrong)
    assert seen_at(block, bar, 500.0).share is not None


def chunk(text, **more):
    return {"choices": [{"index": 0, "delta": {"content": text}}], **more}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def usage(completion):
    return {"choices": [], "usage": {"prompt_tokens": 50, "completion_tokens": completion}}


def test_a_stream_that_is_passed_through_counts_by_itself(learnt):
    block, bar = bar_of(learnt)
    stream = block.stream(chunk("x") for _ in range(90))
    for _ in range(80):
        next(stream)
    assert block.events_so_far()[:2] == (80, None)
    block._stream.first_at = block.start = time.perf_counter() - 2.0
    block._stream.first_at += 1.2  # 80 tokens in 0.8 s
    view = bar.view()
    assert left_s(view) == pytest.approx(0.5, abs=0.2)


def test_an_event_of_several_tokens_is_not_taken_for_a_slow_one(learnt):
    per_event = {}
    block, bar = bar_of(learnt, per_event=per_event)
    stream = block.stream([*(chunk("x") for _ in range(4)), END, usage(120)])
    for _ in range(3):
        next(stream)
    block._stream.first_at = block.start = time.perf_counter() - 2.0
    block._stream.first_at += 1.0  # 3 events in 1 s, where a token takes 10 ms
    assert left_s(bar.view()) < 1.5
    assert list(stream)
    bar.end()
    assert per_event == {"m": 20.0}
    block, bar = bar_of(learnt, per_event=per_event)
    stream = block.stream(chunk("x") for _ in range(4))
    for _ in range(4):
        next(stream)
    block._stream.first_at = block.start = time.perf_counter() - 2.0
    block._stream.first_at += 1.2  # 80 tokens in 0.8 s
    assert left_s(bar.view()) == pytest.approx(0.5, abs=0.2)


def test_pieces_of_a_body_count_their_events(learnt):
    block, _ = bar_of(learnt)
    event = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'
    assert list(block.stream([event * 3, event[:20], event[20:]]))
    assert block.events_so_far()[0] == 5


# -- recorded as by timed -------------------------------------------------------------------


@pytest.mark.both
def test_the_call_is_recorded_as_timed_does(calibrator):
    with calibrator.progress("m", prompt_tokens=5) as call:
        call.request_id = "r"
        call.details["source"] = "test"
        for n in range(1, 8):
            call.tokens(n)
    (recorded,) = calibrator.calls()
    assert (recorded.prompt_tokens, recorded.completion_tokens) == (5, 7)
    assert (recorded.request_id, recorded.details) == ("r", {"source": "test"})
    assert recorded.actual_ms == call.actual_ms


def test_what_block_and_answer_say_goes_before_the_tokens_so_far(calibrator):
    with calibrator.timed("m", 5) as call:
        call.tokens(3)
        call.completion_tokens = 9
    with calibrator.progress("m", 5) as call:
        call.tokens(3)
        for _ in call.stream([chunk("x"), END, usage(8)]):
            pass
    assert [one.completion_tokens for one in calibrator.calls()] == [9, 8]


def test_exceptions_and_what_cannot_be_recorded_are_those_of_timed(calibrator):
    def fail(call):
        call.tokens(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), calibrator.progress("m", 1) as call:
        fail(call)
    not_set = pytest.warns(NotRecordedWarning, match="completion_tokens were not set")
    with not_set as told, calibrator.progress("m", 1):
        pass
    assert told[0].filename == __file__
    assert dict(calibrator.skipped) == {"failed": 1, "unknown tokens": 1}
    for wrong in ({"model": ""}, {"prompt_tokens": -1}, {"max_tokens": -1}, {"on_error": 1}):
        with pytest.raises(InvalidInputError):
            calibrator.progress(**{"model": "m", **wrong})
    assert list(calibrator.calls()) == []


def test_functions_coroutines_and_async_blocks_are_measured(calibrator):
    @calibrator.progress("m", 5)
    def asked():
        return {**END, **usage(3), "choices": [{"message": {"content": "x"}}]}

    @calibrator.progress("m", 5)
    async def streamed():
        for one in (chunk("x"), END, usage(4)):
            yield one

    async def program():
        async with calibrator.progress("m", 5) as call:
            call.tokens(2)
        return [one async for one in streamed()]

    asked()
    assert len(asyncio.run(program())) == 3
    assert [one.completion_tokens for one in calibrator.calls()] == [3, 2, 4]


def test_where_stderr_is_no_terminal_there_is_no_bar_and_no_thread(learnt, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    before = threading.enumerate()
    with learnt.progress("m", 50) as call:
        assert call.on_end is None
        assert threading.enumerate() == before
        call.tokens(1)
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", None)
    with learnt.progress("m", 50) as call:
        call.tokens(1)


# -- on a terminal --------------------------------------------------------------------------

BEGIN = """
import logging, os, sys, threading, time
logging.basicConfig(format="log: %(message)s")
from calibration_ledger import AdaptiveCalibrator
calibrator = AdaptiveCalibrator(sys.argv[1])
"""
END_OF_ALL = """
calibrator.close()
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert "write" not in {*vars(sys.stdout), *vars(sys.stderr)}
print("all is over")
"""


def screen_of(shown, columns=80):
    """The lines that a terminal has in the end: no more is obeyed than what a bar uses."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]", shown):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part == "\x1b[1A":
            row -= 1
        elif part[0] == "\x1b":
            assert part[-1] == "m", part
        else:
            if column == columns:
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            line = lines[row].ljust(column)
            lines[row] = line[:column] + part + line[column + 1 :]
            column += 1
    return "\n".join(line.rstrip() for line in lines).rstrip("\n").split("\n")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        learn(calibrator)
    yield path
    with AdaptiveCalibrator(path) as calibrator:
        assert calibrator.audit() == []


def count_of(path, model="m"):
    with AdaptiveCalibrator(path) as calibrator:
        return calibrator.calibration(model).sample_count


def test_a_bar_moves_while_others_record_and_leaves_what_was_printed(path):
    script = f"""{BEGIN}
print("a question: ", end="", flush=True)
with calibrator.progress("m", prompt_tokens=50) as call:
    time.sleep(0.7)
    print("printed", flush=True)
    logging.warning("logged")
    time.sleep(0.5)
    for word in "these words come one by one".split():
        print(word, end=" ", flush=True)
        time.sleep(0.1)
    print()
    time.sleep(0.5)
    call.tokens(120)
{END_OF_ALL}"""
    with Terminal(script, path) as terminal:
        shown = terminal.until(" left")
        with AdaptiveCalibrator(path) as other:
            other.record("m", 50, 2000.0, completion_tokens=100)
        shown += terminal.until("all is over")
        code, rest = terminal.end()
    assert (code, rest.strip()) == (0, "")
    assert len(set(re.findall(r"[0-9.]+ s left", shown))) > 3
    lines = ["a question:", "printed", "log: logged", "these words come one by one", "all is over"]
    assert screen_of(shown) == lines
    assert "\x1b[?25" not in shown  # the cursor was never hidden
    assert count_of(path) == 62


def test_several_bars_at_once_have_a_line_each(path):
    script = f"""{BEGIN}
def one(model, seconds):
    with calibrator.progress(model, 50) as call:
        time.sleep(seconds)
        call.tokens(1)
other = threading.Thread(target=one, args=("never seen", 1.5))
with calibrator.progress("m", 50) as outer, AdaptiveCalibrator(sys.argv[1]) as second:
    other.start()
    with second.progress("inner", 50) as inner:
        time.sleep(0.8)
        inner.tokens(1)
    print("the inner one is over")
    other.join()
    outer.tokens(1)
{END_OF_ALL}"""
    with Terminal(script, path) as terminal:
        shown = terminal.until("all is over")
        assert terminal.end()[0] == 0
    frames = shown.split("\x1b[2K")
    names = ("m ", "never seen ", "inner ")
    assert any(all(name in frame for name in names) for frame in frames)
    assert screen_of(shown) == ["the inner one is over", "all is over"]


def test_an_exception_and_ctrl_c_leave_the_terminal_as_it_was(path):
    script = f"""{BEGIN}
try:
    with calibrator.progress("m", 50) as call:
        time.sleep(0.5)
        raise ZeroDivisionError("of the program")
except ZeroDivisionError as error:
    print(error)
try:
    with calibrator.progress("m", 50) as call:
        time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
print(dict(calibrator.skipped))
{END_OF_ALL}"""
    with Terminal(script, path) as terminal:
        shown = terminal.until("of the program") + terminal.until(" left")
        terminal.send()
        shown += terminal.until("all is over")
        assert terminal.end()[0] == 0
    told = ["of the program", "interrupted", "{'failed': 1, 'cancelled': 1}", "all is over"]
    assert screen_of(shown) == told


def test_a_narrow_terminal_without_colour_and_utf_8_has_a_bar_of_one_line(path):
    script = f"""{BEGIN}
with calibrator.progress("m" * 200, 50), calibrator.progress("m", 50):
    time.sleep(0.6)
{END_OF_ALL}"""
    env = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "ignore"}
    with Terminal(script, path, size=(30, 5), env=env) as terminal:
        shown = terminal.until("all is over")
        assert terminal.end()[0] == 0
    assert shown.isascii()
    assert "s left" in shown
    assert not re.search(r"\x1b\[[0-9;]*m", shown)
    assert screen_of(shown, 30) == ["all is over"]


QUIET = f"""{BEGIN}
with calibrator.progress("m", 50) as call:
    time.sleep(0.5)
    assert threading.active_count() == 1
    call.tokens(1)
{END_OF_ALL}"""


def test_a_dumb_terminal_and_a_pipe_for_stderr_have_no_bar(path):
    with Terminal(QUIET, path, env={"TERM": "dumb"}) as terminal:
        code, shown = terminal.end()
    assert (code, shown.split("\n")) == (0, ["all is over\r", ""])
    env = {"FORCE_COLOR": "1"}
    with Terminal(QUIET, path, env=env, stderr=subprocess.PIPE) as terminal:
        code, shown = terminal.end()
        assert terminal.process.stderr.read() == b""
        terminal.process.stderr.close()
    assert (code, shown.split("\n")) == (0, ["all is over\r", ""])
    assert count_of(path) == 62


def test_what_is_printed_to_a_file_has_nothing_of_the_bar(path, tmp_path):
    script = f"""{BEGIN}
with calibrator.progress("m", 50) as call:
    time.sleep(0.6)
    print("printed")
    call.tokens(1)
{END_OF_ALL}"""
    with (tmp_path / "out").open("wb") as out, Terminal(script, path, stdout=out) as terminal:
        terminal.until(" left")
        code, shown = terminal.end()
    assert code == 0
    assert (tmp_path / "out").read_text() == "printed\nall is over\n"
    assert screen_of(shown) == [""]


def test_a_fork_shows_nothing_and_can_record(path):
    script = f"""{BEGIN}
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside threads
with calibrator.progress("m", 50) as call:
    time.sleep(0.5)
    child = os.fork()
    if not child:
        assert threading.active_count() == 1
        assert "write" not in {{*vars(sys.stdout), *vars(sys.stderr)}}
    else:
        assert os.waitpid(child, 0)[1] == 0
    call.tokens(1)
if not child:
    calibrator.close()
    os._exit(0)
{END_OF_ALL}"""
    with Terminal(script, path) as terminal:
        shown = terminal.until("all is over")
        assert terminal.end()[0] == 0
    assert screen_of(shown) == ["all is over"]
    assert count_of(path) == 62


def test_a_terminal_that_takes_nothing_does_not_keep_the_program_waiting(path, tmp_path):
    script = f"""{BEGIN}
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"." * 4096)
except BlockingIOError:
    os.set_blocking(2, True)
began = time.monotonic()
with calibrator.progress("m", 50) as call:
    time.sleep(0.5)
    call.tokens(1)
took = time.monotonic() - began
with open(sys.argv[2], "w") as file:
    file.write(str(took))
os._exit(0)
"""
    with Terminal(script, path, tmp_path / "took") as terminal:
        terminal.process.wait(timeout=60)
    assert float((tmp_path / "took").read_text()) < 3.0
    assert count_of(path) == 61


def test_without_the_extra_it_is_timed_with_one_warning(path):
    script = f"""import sys; sys.modules["rich"] = None
{BEGIN}
for _ in range(2):
    with calibrator.progress("m", 50) as call:
        assert threading.active_count() == 1
        call.tokens(1)
{END_OF_ALL}"""
    with Terminal(script, path, size=(300, 24)) as terminal:
        shown = terminal.until("all is over")
        assert terminal.end()[0] == 0
    assert shown.count("pip install rich") == 1
    assert shown.startswith("<string>:")  # the line of the program's own
    assert count_of(path) == 62


def test_a_stream_in_an_async_block_moves_the_bar(path):
    script = f"""{BEGIN}
import asyncio
async def chunks():
    for n in range(30):
        await asyncio.sleep(0.02)
        yield {{"choices": [{{"delta": {{"content": "x"}}}}]}}
    yield {{"choices": [{{"delta": {{}}, "finish_reason": "stop"}}]}}
    yield {{"choices": [], "usage": {{"prompt_tokens": 50, "completion_tokens": 30}}}}
async def program():
    async with calibrator.progress("m", 50) as call:
        async for _ in call.stream(chunks()):
            pass
asyncio.run(program())
{END_OF_ALL}"""
    with Terminal(script, path) as terminal:
        shown = terminal.until(" left") + terminal.until("all is over")
        assert terminal.end()[0] == 0
    assert screen_of(shown) == ["all is over"]
    with AdaptiveCalibrator(path) as calibrator:
        (newest,) = calibrator.calls("m", last=1)
    assert newest.completion_tokens == 30
    assert newest.details["streamed"] is True


# -- in this very process, on a real terminal ------------------------------------------------


@contextmanager
def own_terminal():
    """A pseudo terminal on stdout and stderr of this process; gives what it was sent so far.

    No fixture: pytest sets its own streams anew before each test.
    """
    ours, its = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    sent = []

    def read():
        while True:
            try:
                sent.append(os.read(ours, 65536))
            except OSError:  # closed on the other side
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with (
        pytest.MonkeyPatch.context() as patch,
        open(its, "w", encoding="utf-8") as stdout,  # noqa: PTH123 - descriptors
        open(os.dup(its), "w", encoding="utf-8") as stderr,  # noqa: PTH123 - the same
    ):
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        yield lambda: b"".join(sent).decode(errors="replace")
        patch.undo()
    reader.join(10)
    os.close(ours)


def wait_for(shown, text):
    deadline = time.monotonic() + 30.0
    while text not in shown():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.02)


def test_the_bar_of_this_process_moves_steps_aside_and_is_gone_at_the_end(learnt):
    before = threading.active_count()
    with own_terminal() as terminal:
        with learnt.progress("m", prompt_tokens=50) as call:
            wait_for(terminal, " s left")
            call.tokens(3)
            print("a line of the program", flush=True)
            with learnt.progress("never:seen", prompt_tokens=5) as inner:
                wait_for(terminal, "never:seen")
                inner.completion_tokens = 1
            call.completion_tokens = 4
        wait_for(terminal, "a line of the program\r\n")
        assert "write" not in vars(sys.stderr)
    end = terminal()
    assert end.rindex("\x1b[2K") > end.rindex(" s left")  # the last bar was wiped away
    assert threading.active_count() == before
    assert [one.completion_tokens for one in learnt.calls("m", last=1)] == [4]


def test_a_line_that_the_program_has_begun_is_left_alone(learnt):
    with own_terminal() as terminal:
        with learnt.progress("m", prompt_tokens=50) as call:
            wait_for(terminal, " s left")
            print("begun", end="", flush=True)
            wait_for(terminal, "begun")
            time.sleep(0.3)  # one that was being drawn
            seen = terminal().count(" s left")
            time.sleep(0.5)
            assert terminal().count(" s left") == seen
            print(" and ended", flush=True)
            wait_for(lambda: terminal().partition(" and ended")[2], " s left")
            call.completion_tokens = 4
        assert "begun and ended\r\n" in terminal()
