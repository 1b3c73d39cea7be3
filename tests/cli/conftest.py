"""Running `calib`: in this process for what it prints, in others for what a shell sees."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from click.testing import CliRunner

from calibration_ledger import AdaptiveCalibrator, Call
from calibration_ledger.cli.main import main
from support.programs import CALIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from click.testing import Result

TIMEOUT_S = 60
PROGRAM = (sys.executable, "-c", CALIB)

# A suite that runs in the background of a shell hands on that Ctrl-C is to be ignored.
HEAR_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


@pytest.fixture(autouse=True)
def users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's own ledger, which no test touches that does not ask for it."""
    path = tmp_path / "users-own" / "ledger.db"
    path.parent.mkdir()
    monkeypatch.setenv("CALIBRATION_LEDGER", str(path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    yield path
    if path.exists():
        with AdaptiveCalibrator(path) as calibrator:
            assert calibrator.audit() == []


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run `calib` in this process; whatever it does not turn into a sentence is raised."""

    def run(*args: object, **options: Any) -> Result:
        return CliRunner().invoke(
            main, [str(arg) for arg in args], catch_exceptions=False, **options
        )

    return run


@pytest.fixture
def calib(run: Callable[..., Result], ledger_path: Path) -> Iterator[Callable[..., Result]]:
    """Run `calib --ledger calls.db`, expecting exit code 0; in the end the ledger audits clean."""

    def calib(*args: object, exit_code: int = 0, **options: Any) -> Result:
        result = run("--ledger", ledger_path, *args, **options)
        assert result.exit_code == exit_code, result.output
        return result

    yield calib
    if ledger_path.exists():
        with AdaptiveCalibrator(ledger_path) as calibrator:
            assert calibrator.audit() == []


def some_calls(model: str, count: int) -> list[Call]:
    """Calls whose numbers the outputs below are made of."""
    return [
        Call(model, 100 + 37 * i, 20 + 53 * i % 307, 1000.0 + 1037.25 * (i % 4), at(i))
        for i in range(count)
    ]


def plain_calls(model: str, count: int) -> list[Call]:
    """Calls that a straight line explains well, and the rule `ema` badly."""
    return [
        Call(model, p, c, (400.0 + 0.5 * p + 20.0 * c) * (1.0 + 0.02 * (i % 7 - 3)), at(i))
        for i in range(count)
        for p, c in [(100 + 373 * i % 3001, 5 + 53 * i % 307)]
    ]


def at(seconds: int) -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC) + timedelta(seconds=seconds)


@pytest.fixture(scope="session", name="template")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger to copy: making one by its migrations takes as long as ten commands."""
    path = tmp_path_factory.mktemp("template") / "calls.db"
    with AdaptiveCalibrator(path) as calibrator:
        calibrator.record_many(some_calls("timmy:v0.1-q4", 25))
        calibrator.record_many(some_calls("tiny", 3))
    return path


@pytest.fixture
def filled(template: Path, ledger_path: Path) -> Path:
    """A ledger with 25 calls of one model and 3 of another."""
    shutil.copy(template, ledger_path)  # it is closed, so the file is all there is
    return ledger_path


class Shell(NamedTuple):
    """What a process left behind."""

    code: int
    out: str
    err: str


def run_process(*args: object, **options: Any) -> Shell:
    """Run `calib` in a process of its own."""
    done = subprocess.run(
        [*PROGRAM, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        **options,
    )
    return Shell(done.returncode, done.stdout, done.stderr)


def run_in_terminal(
    *args: object, typed: str = "", interrupt_at: str | None = None, **env: str
) -> Shell:
    """Run `calib` with a terminal on all three streams; both outputs come as one.

    When the text `interrupt_at` has been shown, the process gets what Ctrl-C would send it.
    """
    ours, its = os.openpty()
    *python, script = PROGRAM
    process = subprocess.Popen(
        [*python, HEAR_INTERRUPTS + script, *map(str, args)],
        stdin=its,
        stdout=its,
        stderr=its,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"} | env,
    )
    os.write(ours, typed.encode())
    shown, deadline = b"", monotonic() + TIMEOUT_S
    # Our own end of its side stays open: when the last one is closed, what was not read is lost.
    while True:
        has_ended = process.poll() is not None
        if select.select([ours], [], [], 0.0 if has_ended else 0.02)[0]:
            shown += os.read(ours, 4096)
        elif has_ended:
            break
        if interrupt_at is not None and interrupt_at.encode() in shown:
            # input() shows its prompt a moment before it can be interrupted.
            sleep(0.5)
            process.send_signal(signal.SIGINT)
            interrupt_at = None
        if monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.fail(f"it did not end: {shown!r}")
    os.close(its)
    os.close(ours)
    return Shell(process.returncode, shown.decode().replace("\r\n", "\n"), "")
