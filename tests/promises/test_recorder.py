"""What a recorder holds is recorded, however the program goes on, forks or ends, on both databases.

Each program runs in a process of its own, with warnings as errors, and must end without a word.
"""

import os
import sqlite3
import time
from contextlib import closing, suppress

import pytest

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.errors import LedgerError
from support.failing_disk import run_python, small_disk
from support.programs import ran

HEAD = """
import atexit, multiprocessing, os, signal, sys, threading, time
from calibration_ledger import AdaptiveCalibrator, Call

def put(who, count=100):
    for i in range(count):
        recorder.put(Call("m", i, 5, 100.0 + i, request_id=f"{who} {i}"))

def fork(who, *, how=sys.exit):
    pid = os.fork()
    if pid:
        return pid
    assert (recorder.recorded, recorder.waiting, dict(recorder.skipped)) == (0, 0, {})
    put(who)
    how(0)

def wait(*pids):
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(pids)

def process(kind, *names):
    context = multiprocessing.get_context(kind)
    processes = [context.Process(target=put, args=(name,)) for name in names]
    for one in processes:
        one.start()
    for one in processes:
        one.join()
    assert [one.exitcode for one in processes] == [0] * len(processes)

calibrator = AdaptiveCalibrator(sys.argv[1])
recorder = calibrator.recorder()
"""

ENDS = {
    "at its end": "put('a')",
    "by sys.exit": "put('a'); sys.exit(3)",
    "in a function that it drops": """
def work():
    global recorder
    put("a")
    del recorder
work()
del calibrator
""",
    "while another thread goes on": """
def work():
    time.sleep(0.1)
    put("a")
threading.Thread(target=work).start()
""",
    "in a function for its end": "atexit.register(put, 'a')",
    "where no thread can be started": """
calibrator.record("other", 1, 1.0)
threading.stack_size(2**45)
put("a")
assert recorder.waiting == 100
""",
    "after a flush where no thread could be started": """
calibrator.record("other", 1, 1.0)
threading.stack_size(2**45)
put("a", 50)
assert recorder.flush(10) and recorder.recorded == 50
threading.stack_size(0)
put("a")
""",
    "with the calibrator closed": "put('a'); calibrator.close(); assert recorder.recorded == 100",
}

FORKS = {
    "that ends": ("put('a'); wait(fork('b'), fork('c'))", "abc"),
    "that closes": (
        """
def close(code):
    recorder.close()
    os._exit(code)
put('a')
wait(fork('b', how=close), fork('c', how=close))
""",
        "abc",
    ),
    "before the first call": ("wait(fork('b')); put('a')", "ab"),
    "of multiprocessing": ("put('a'); process('fork', 'b', 'c')", "abc"),
    "out of a signal handler": (
        """
def handle(*_):
    if pid := os.fork():
        children.append(pid)
    else:
        os._exit(0)
calibrator.record("other", 1, 1.0)
children = []
signal.signal(signal.SIGALRM, handle)
for i in range(10):
    signal.setitimer(signal.ITIMER_REAL, 0.0005 * i + 0.0001)
    put(f"s{i}", 10)
    while len(children) <= i:
        put("a", 1)  # the same call again
        time.sleep(0.001)
assert recorder.flush(20)
wait(*children)
put("a")
""",
        "a",
    ),
    "of a server that forks its workers again and again": (
        """
for generation in range(3):
    put(f"p{generation}", 3)
    workers = [fork(f"{'xyz'[generation]}{i}") for i in range(2)]
    wait(*workers)
put("a")
""",
        ["a", "x0", "x1", "y0", "y1", "z0", "z1"],
    ),
}


RARE = {
    "by sys.exit",
    "in a function that it drops",
    "in a function for its end",
    "after a flush where no thread could be started",
    "before the first call",
    "of a server that forks its workers again and again",
}
"""Under `stress`: each of the others takes a process and a second, too."""


def cases(programs):
    return [
        pytest.param(
            *(program if isinstance(program, tuple) else (program,)),
            id=name,
            marks=[pytest.mark.stress] if name in RARE else [],
        )
        for name, program in programs.items()
    ]


def run(program, ledger):
    # From 3.12 on Python warns of every fork beside a thread, of which the recorder has one.
    beside = "ignore:This process:DeprecationWarning"
    done = ran(HEAD + program, ledger, flags=("-W", "error", "-W", beside))
    assert done.stderr == ""
    return done


def names(whose, count=100):
    return {f"{who} {i}" for who in whose for i in range(count)}


def check(ledger, whose):
    with AdaptiveCalibrator(ledger) as calibrator:
        found = [call.request_id for call in calibrator.calls("m")]
        assert len(found) == len(set(found))
        assert names(whose) <= set(found)
        assert calibrator.audit() == []


@pytest.mark.turns("program")
@pytest.mark.parametrize("program", cases(ENDS))
def test_a_program_that_ends_loses_nothing(ledger, program):
    done = run(program, ledger)
    assert done.returncode == (3 if "sys.exit" in program else 0)
    check(ledger, "a")


@pytest.mark.both
def test_an_exception_that_nobody_handles_costs_nothing(ledger):
    done = ran(HEAD + "put('a'); 1 / 0", ledger)
    assert done.stderr.count("Traceback") == 1
    check(ledger, "a")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.turns("program")
@pytest.mark.parametrize(("program", "whose"), cases(FORKS))
def test_parent_and_child_of_a_fork_record_what_is_their_own(ledger, program, whose):
    assert run(program, ledger).returncode == 0
    check(ledger, whose)


@pytest.mark.parametrize("kind", ["spawn", "forkserver"])
def test_processes_that_do_not_inherit_it_have_one_of_their_own(ledger, tmp_path, kind):
    if kind == "forkserver" and not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    program = tmp_path / "program.py"
    main = f"if __name__ == '__main__':\n    put('a')\n    process({kind!r}, 'b', 'c')\n"
    program.write_text(HEAD + main, encoding="utf-8")
    done = run_python(program, ledger)
    assert (done.returncode, done.stderr) == (0, "")
    check(ledger, "abc")


def test_a_ledger_that_stays_locked_delays_the_end_of_a_program_for_seconds_only(ledger_path):
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record("m", 1, 1.0)
    program = "import calibration_ledger.verbs.recorder as r; r.EXIT_S = 0.5; put('a')"
    with closing(sqlite3.connect(ledger_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        done = ran(HEAD + program, ledger_path)
        assert time.monotonic() - start < 8.0
        assert done.returncode == 0
        assert "NotRecordedWarning: 100 calls were dropped" in done.stderr
    with AdaptiveCalibrator(ledger_path) as calibrator:
        assert len(list(calibrator.calls())) == 1


def test_an_error_to_raise_that_nobody_asked_for_is_printed_at_the_end(ledger_path):
    program = "recorder = calibrator.recorder(on_error='raise'); recorder.put('no call')"
    done = ran(HEAD + program, ledger_path)
    assert done.returncode == 0
    assert "InvalidInputError: put() takes a Call" in done.stderr


def test_a_disk_that_is_full_costs_nothing_once_there_is_room(tmp_path):
    told = []
    with small_disk(tmp_path / "small", 900) as folder:
        ballast = folder / "ballast"
        ballast.write_bytes(b"x" * 400_000)
        with AdaptiveCalibrator(folder / "calls.db") as calibrator:
            recorder = calibrator.recorder(on_error=told.append)
            put = 0
            while not told:
                for _ in range(200):
                    recorder.put(Call("m", put, 1, 1.0, details={"note": "x" * 100}))
                    put += 1
                recorder.flush(1)
            assert recorder.waiting + recorder.recorded == put
            assert "full disk" in str(told[0])
            ballast.unlink()
            assert recorder.flush(20)
            assert (recorder.recorded, len(told)) == (put, 1)
            recorder.close()
            with suppress(LedgerError):
                assert calibrator.audit() == []
            assert len(list(calibrator.calls())) == put


def test_a_server_that_is_down_costs_nothing_once_it_is_up(postgres):
    told = []
    with postgres.ledger() as name, AdaptiveCalibrator(postgres.url(name)) as calibrator:
        recorder = calibrator.recorder(on_error=told.append)
        recorder.put(Call("m", 1, 1, 1.0))
        assert recorder.flush(20)
        postgres.control("stop", "-m", "fast")
        try:
            for i in range(300):
                recorder.put(Call("m", 1, 1, 1.0 + i))
            assert not recorder.flush(1.5)
            assert recorder.waiting == 300
        finally:
            postgres.control("start")
        assert recorder.flush(30)
        assert (recorder.recorded, recorder.dropped) == (301, 0)
        recorder.close()
        assert len(list(calibrator.calls())) == 301
        assert len(told) <= 1
        assert calibrator.audit() == []
