"""Many processes that do the same at once, or while one of them stands still, on both databases."""

import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager

import pytest

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.errors import LedgerBusyError, LedgerTooNewError
from support.newer_program import TODAY, TOMORROW, go_back, make_migrations, upgrade_in_process
from support.reference import dump
from support.steps import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")


def run_all(context, *targets):
    processes = [context.Process(target=target, args=arguments) for target, arguments in targets]
    for process in processes:
        process.start()
    return processes


def join(processes):
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


# -- making one ledger ----------------------------------------------------------------------


def make_and_record(ledger, worker, barrier):
    barrier.wait()
    with AdaptiveCalibrator(ledger) as calibrator:
        for i in range(3):
            calibrator.record("shared", i, 100.0 + worker, request_id=f"{worker}-{i}")
        calibrator.record(f"of {worker}", 1, 2.0)


def make_at_once(context, ledger, count):
    barrier = context.Barrier(count)
    join(run_all(context, *[(make_and_record, (ledger, w, barrier)) for w in range(count)]))
    with AdaptiveCalibrator(ledger) as calibrator:
        ids = [call.request_id for call in calibrator.calls("shared")]
        assert sorted(ids) == sorted(f"{w}-{i}" for w in range(count) for i in range(3))
        assert len(calibrator.all_stats()) == 1 + count
        assert calibrator.audit() == []


def test_sixteen_processes_that_make_one_fresh_ledger_at_once_all_succeed(quick, no_ledger):
    make_at_once(quick, no_ledger, 16)


@pytest.mark.stress
def test_fresh_ledgers_are_made_by_sixteen_processes_again_and_again(quick, tmp_path, postgres):
    for round_ in range(15):
        make_at_once(quick, str(tmp_path / f"{round_}.db"), 16)
        with postgres.database() as name:
            make_at_once(quick, postgres.url(name), 16)


# -- setting what new models learn by -------------------------------------------------------


def set_and_open(ledger, worker, barrier):
    with AdaptiveCalibrator(ledger) as calibrator:
        barrier.wait()
        for i in range(4):
            told = calibrator.set_default_rule(("ema", "kalman")[i % 2], (1 + worker) / 100)
            assert told.history[-1].rule == told.rule
            calibrator.record(f"{worker}-{i}", 1, 2.0)


def test_settings_of_many_processes_are_all_kept_in_one_order_and_each_model_has_one(
    quick, no_ledger
):
    barrier = quick.Barrier(6)
    join(run_all(quick, *[(set_and_open, (no_ledger, w, barrier)) for w in range(6)]))
    with AdaptiveCalibrator(no_ledger) as calibrator:
        history = calibrator.default_rule().history
        assert [one.seq for one in history] == [*range(1, len(history) + 1)]
        # Two workers never set the same, so every call of each was a change.
        assert len(history) == 24
        told = {(one.rule, one.alpha) for one in history}
        for stats in calibrator.all_stats():
            assert (stats["rule"], stats["alpha"]) in told
        assert len(calibrator.all_stats()) == 24
        assert calibrator.audit(heads=calibrator.heads()) == []


# -- upgrading it ---------------------------------------------------------------------------


OF_TWO_MODELS = [
    {"model": model, "prompt_tokens": 1, "completion_tokens": 1, "actual_ms": 5.0}
    for model in ("m1", "new")
]


def write_until_refused(ledger, barrier, results):
    """A writer of the older revision: how many calls were acknowledged, and where it ended."""
    count = 0
    with AdaptiveCalibrator(ledger) as calibrator:
        calibrator.predict("m0", 1)
        barrier.wait()
        try:
            while True:
                calibrator.record(f"m{count % 3}", count, 100.0, completion_tokens=5)
                count += 1
        except LedgerTooNewError as error:
            steps = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
            # The backends run what is inside a transaction in `_run`, and in no other function.
            inside = bool({"run", "_run"} & {code.co_name for code in steps})  # of one backend each
            results.put((count, error.found, error.expected, inside, refused_again(calibrator)))
        except BaseException as error:  # noqa: BLE001 - told to the parent
            results.put(repr(error))


def refused_again(calibrator):
    """Whether it stays so, also for a model that is not there yet, and for a batch."""
    for write in (
        lambda: calibrator.record("m0", 1, 1.0),
        lambda: calibrator.record("never seen", 1, 1.0),
        lambda: calibrator.record_many(OF_TWO_MODELS),
    ):
        try:
            write()
        except LedgerTooNewError:
            continue
        return False
    return True


def read_until(over, ledger, barrier):
    """Readers come through before, while and after: what they read is never half of it."""
    with AdaptiveCalibrator(ledger) as calibrator:
        barrier.wait()
        while not over.is_set():
            calibrator.predict("m0", 1)
            list(calibrator.calls("m0", last=3))
            assert [finding for finding in calibrator.audit("m0") if finding.seq] == []


@pytest.mark.parametrize("seconds", [0.2, pytest.param(3.0, marks=pytest.mark.stress)])
def test_eight_upgrade_at_once_while_writers_of_the_older_revision_write(
    quick, no_ledger, tmp_path, seconds
):
    with AdaptiveCalibrator(no_ledger) as calibrator:
        calibrator.record("m0", 1, 2.0, request_id="first", details={"ttft_ms": 1.5})
    folder = make_migrations(tmp_path, seconds)
    barrier, upgraded, written = quick.Barrier(14), quick.Queue(), quick.Queue()
    over = quick.Event()
    processes = run_all(
        quick,
        *[(upgrade_in_process, (no_ledger, folder, barrier, upgraded))] * 8,
        *[(write_until_refused, (no_ledger, barrier, written))] * 4,
        *[(read_until, (over, no_ledger, barrier))] * 2,
    )
    ends = [written.get(timeout=60) for _ in range(4)]
    assert {end[1:] for end in ends} == {(TOMORROW, TODAY, True, True)}, ends
    assert sum(end[0] for end in ends) > 0, "nobody wrote before the upgrade"
    done = [upgraded.get(timeout=60) for _ in range(8)]
    over.set()
    assert sorted(end[:2] for end in done) == [(TODAY, TOMORROW)] + [(TOMORROW, TOMORROW)] * 7
    join(processes)
    acknowledged = 1 + sum(end[0] for end in ends)
    assert len(dump(no_ledger)["calls"]) == acknowledged
    with pytest.raises(LedgerTooNewError):
        AdaptiveCalibrator(no_ledger)
    join(run_all(quick, (go_back, (no_ledger, folder))))  # so that this program can look
    backups = [backup for _, _, backup in done if backup is not None]
    assert len(backups) == ("://" not in no_ledger), "a server's database is its operator's"
    for ledger in (no_ledger, *backups):
        with AdaptiveCalibrator(ledger) as calibrator:
            assert sum(stats["sample_count"] for stats in calibrator.all_stats()) == acknowledged
            assert len(list(calibrator.calls())) == acknowledged
            assert next(calibrator.calls("m0")).details == {"ttft_ms": 1.5}
            assert calibrator.audit() == []


def test_an_upgrade_of_a_file_that_is_killed_in_its_middle_leaves_no_trace(
    quick, ledger_path, tmp_path
):
    """On PostgreSQL: `tests/storage/postgres/test_upgrades.py`."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        for i in range(20):
            calibrator.record("m", i, 2.0, request_id=str(i))
        rows = dump(ledger_path)
        reached = tmp_path / "reached"
        folder = make_migrations(
            tmp_path, more=f"open({str(reached)!r}, 'w').close(); time.sleep(600)"
        )
        results = quick.Queue()
        arguments = (str(ledger_path), folder, None, results)
        (process,) = run_all(quick, (upgrade_in_process, arguments))
        wait_until(reached.exists, 60.0)
        with (
            AdaptiveCalibrator(ledger_path, timeout_s=0.2) as other,
            pytest.raises(LedgerBusyError),
        ):
            other.record("m", 99, 2.0)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert dump(ledger_path) == rows
        calibrator.record("m", 99, 2.0, request_id="after")
        assert len(list(calibrator.calls("m"))) == 21
        assert calibrator.audit() == []
    with AdaptiveCalibrator(f"{ledger_path}.{TODAY}.backup") as copy:
        assert len(list(copy.calls("m"))) == 20
        assert copy.audit() == []


# -- a holder that stands still -------------------------------------------------------------

# Stops itself in the middle of its second record(): the call is inserted and not committed.
STOPPED = """
import os, signal, sys
from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.storage.transaction import Transaction

save = Transaction.save
def stop_and_save(self, row):
    os.kill(os.getpid(), signal.SIGSTOP)
    save(self, row)

with AdaptiveCalibrator(sys.argv[1]) as calibrator:
    calibrator.record("m", 1, 100.0, request_id="before")
    Transaction.save = stop_and_save
    print(calibrator.record("m", 2, 200.0, request_id="held"), flush=True)
    Transaction.save = save
    print(calibrator.record("m", 3, 300.0, request_id="afterwards"), flush=True)
"""


@contextmanager
def stopped_holder(ledger):
    """A process that has stopped in the middle of a write; SIGCONT lets it end."""
    holder = subprocess.Popen(
        [sys.executable, "-c", STOPPED, ledger], stdout=subprocess.PIPE, text=True
    )
    try:
        state = os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert state is not None
        assert state.si_code == os.CLD_STOPPED
        yield holder
    finally:
        holder.kill()
        with holder:  # closes its pipe and waits for its end
            pass


def test_a_stopped_holder_keeps_others_no_longer_than_their_deadline_and_loses_nothing(ledger):
    with stopped_holder(ledger) as holder, AdaptiveCalibrator(ledger, timeout_s=0.3) as calibrator:
        for attempt in range(3):
            begun = time.monotonic()
            with pytest.raises(LedgerBusyError, match=r"Nothing was recorded"):
                calibrator.record("m", 9, 900.0, request_id=str(attempt))
            assert 0.25 < time.monotonic() - begun < 15
        # Reading waits for nobody, and sees nothing of what is not committed.
        assert [call.request_id for call in calibrator.calls("m")] == ["before"]
        assert calibrator.predict("m", 10).sample_count == 1
        assert calibrator.audit() == []
        os.kill(holder.pid, signal.SIGCONT)
        out, _ = holder.communicate(timeout=60)
        assert holder.returncode == 0
        assert len(out.splitlines()) == 2
        calibrator.record("m", 4, 400.0, request_id="of another")
        ids = [call.request_id for call in calibrator.calls("m")]
        assert ids == ["before", "held", "afterwards", "of another"]
        held = next(call for call in calibrator.calls("m") if call.request_id == "held")
        assert float(out.split()[0]) == held.actual_ms - held.predicted_ms
        assert calibrator.audit() == []


def test_a_stopped_holder_that_is_killed_leaves_nothing_of_its_call(ledger):
    with stopped_holder(ledger) as holder, AdaptiveCalibrator(ledger) as calibrator:
        holder.kill()
        calibrator.record("m", 4, 400.0, request_id="of another")
        assert [call.request_id for call in calibrator.calls("m")] == ["before", "of another"]
        assert calibrator.audit() == []
