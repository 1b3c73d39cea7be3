"""Long replays and sweeps are shared out between processes, and give the same to the bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from calibration_ledger import AdaptiveCalibrator, NotFiniteError, fast
from calibration_ledger.storage.ledger import ModelHistory
from calibration_ledger.verbs import workers

# A test that asks for `ledger_path` runs on one database: workers do not know which it is.
pytestmark = pytest.mark.skipif(workers.cores() < 2, reason="there is one core, and no helper")


@pytest.fixture
def plain(monkeypatch):
    """However little it is, it counts as much; nothing is compiled."""
    monkeypatch.setattr(fast, "LONG", 2**60)
    monkeypatch.setattr(workers, "LONG", 0)


@pytest.fixture
def filled(calibrator, make_call):
    calibrator.record_many(make_call(i, f"größe {i % 3}") for i in range(400))
    calibrator.recalibrate(0.4, model="größe 0")
    calibrator.void("größe 1", seq=[(5, 20), 44])
    calibrator.reset("größe 2")
    calibrator.record_many(make_call(i, f"größe {i % 3}") for i in range(400, 800))
    return calibrator


@pytest.fixture
def started(monkeypatch):
    """The workers that were started."""
    found, start = [], workers._start

    def counting():
        found.append(start())
        return found[-1]

    monkeypatch.setattr(workers, "_start", counting)
    return found


def alone(monkeypatch, work):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "LONG", 2**60)
        return work()


@pytest.mark.usefixtures("plain")
def test_what_workers_find_is_what_one_process_finds(filled, make_call, started, monkeypatch):
    since, until = make_call(300).called_at, make_call(700).called_at
    for work in (
        filled.sweep,
        lambda: filled.sweep([0.1, 0.5], "kalman", warm_up=0, since=since, until=until),
        filled.replay,
        lambda: filled.replay(0.3, "kalman", since=since, until=until),
    ):
        before = len(started)
        shared = work()
        assert len(started) == before + min(workers.cores(), 3)
        assert shared == alone(monkeypatch, work)
    assert all(worker.returncode is not None for worker in started)


@pytest.mark.usefixtures("plain", "ledger_path")
def test_progress_is_told_of_every_call(filled):
    told = []
    filled.replay(0.2, progress=told.append)
    assert sum(told) == 800 - 17  # what is voided is passed over


@pytest.mark.usefixtures("plain", "ledger_path")
def test_an_error_of_the_users_own_ends_it_and_the_workers(filled, started):
    def fail(_count):
        raise TypeError("enough")

    with pytest.raises(TypeError, match="enough"):
        filled.replay(0.2, progress=fail)
    assert started
    assert all(worker.returncode is not None for worker in started)


@pytest.mark.usefixtures("plain", "ledger_path")
@pytest.mark.parametrize(
    "worker",
    [
        "",
        "import sys; sys.exit(1)",
        "print('{}')",
        "print('[1]')",
        "print('nonsense', flush=True); input()",
        "import os; input(); os.kill(os.getpid(), 9)",
    ],
)
def test_what_workers_cannot_do_is_done_here(filled, monkeypatch, worker):
    monkeypatch.setattr(workers, "_WORKER", worker)
    assert filled.sweep([0.2]) == alone(monkeypatch, lambda: filled.sweep([0.2]))
    assert filled.replay(0.3) == alone(monkeypatch, lambda: filled.replay(0.3))


@pytest.mark.usefixtures("plain", "ledger_path")
def test_what_does_not_stay_finite_is_told_as_ever(calibrator, ledger, started):
    """Under a small alpha it was learnt; under a large one it cannot be."""
    with AdaptiveCalibrator(ledger, 1e-9) as slow:
        for model in ("a", "b"):
            slow.record(model, 1, 1e303)
            slow.record(model, 2**31 - 1, 0.0)
    assert len(calibrator.replay(1e-9)) == 2
    with pytest.raises(NotFiniteError, match="cannot be learnt"):
        calibrator.replay(1.0)
    sweeps = calibrator.sweep([1e-9, 1.0], "ema", warm_up=0)
    assert [[score.n for score in sweep.scores] for sweep in sweeps] == [[2, 0], [2, 0], [4, 0]]
    assert started


@pytest.mark.usefixtures("plain", "ledger_path")
def test_where_no_process_can_be_started_it_is_done_here(filled, monkeypatch):
    def refuse():
        raise BlockingIOError("no more processes")

    expected = alone(monkeypatch, lambda: filled.sweep([0.2]))
    monkeypatch.setattr(workers, "_start", refuse)
    assert filled.sweep([0.2]) == expected


@pytest.mark.usefixtures("plain", "ledger_path")
@pytest.mark.parametrize("verb", ["sweep", "replay"])
def test_a_history_archived_before_the_workers_start_is_read_again(
    filled, make_call, monkeypatch, tmp_path, verb
):
    def work():
        return getattr(filled, verb)([0.2] if verb == "sweep" else 0.2, since=since)

    def archive_first(history, window):
        monkeypatch.setattr(ModelHistory, "last_scored", last_scored)
        filled.archive(make_call(50).called_at, tmp_path / "old.jsonl")
        return last_scored(history, window)

    since, last_scored = make_call(600).called_at, ModelHistory.last_scored
    monkeypatch.setattr(ModelHistory, "last_scored", archive_first)
    assert work() == alone(monkeypatch, work)
    assert (tmp_path / "old.jsonl").exists()


@pytest.mark.usefixtures("plain")
def test_a_ledger_in_memory_is_nobody_elses(make_call, started):
    with AdaptiveCalibrator(":memory:") as calibrator:
        calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(100))
        assert len(calibrator.replay(0.2)) == 2
    assert started == []


def test_a_program_without_a_guard_can_use_them(ledger_path, make_call, tmp_path):
    """The workers are not the caller's program once more, and take no module of its folder."""
    with AdaptiveCalibrator(ledger_path) as calibrator:
        calibrator.record_many(make_call(i, f"m{i % 2}") for i in range(100))
    (tmp_path / "json.py").write_text("raise SystemExit('not the right one')")
    program = (
        "from calibration_ledger import AdaptiveCalibrator, fast\n"
        "from calibration_ledger.verbs import workers\n"
        "fast.LONG, workers.LONG = 2**60, 0\n"
        f"print(len(AdaptiveCalibrator({str(ledger_path)!r}).replay(0.2)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")
