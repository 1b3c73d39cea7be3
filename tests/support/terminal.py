"""A program in a terminal of its own, as a person would see it: what is shown, and Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
from time import monotonic
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Self

WAIT_S = 60.0

# A suite that runs in the background of a shell hands on that Ctrl-C is to be ignored.
HEAR_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


class Terminal:
    """A program with a pseudo terminal on all its streams, of which some may be files instead."""

    def __init__(
        self, script: str, *args: object, size: tuple[int, int] = (80, 24), **options: object
    ) -> None:
        """Start it: Python code, its arguments, columns and lines, and environment by `env`."""
        self._ours, self._its = os.openpty()
        self.resize(*size)
        env = {name: value for name, value in os.environ.items() if name not in SIZES}
        env |= {"TERM": "xterm", **options.pop("env", {})}
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self._its) | options
        # In a group of its own: one whose parents have gone, as that of a suite in the background
        # of a shell that ended, is never stopped by Ctrl-Z.
        self.process = subprocess.Popen(
            [sys.executable, "-c", HEAR_INTERRUPTS + script, *map(str, args)],
            env=env,
            process_group=0,
            **streams,
        )
        self.shown = ""

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self, wait_s: float) -> bool:
        if not select.select([self._ours], [], [], wait_s)[0]:
            return False
        self.shown += os.read(self._ours, 65536).decode(errors="replace")
        return True

    def until(self, text: str) -> str:
        """Wait until the text is shown; gives what was shown up to its end, and forgets it."""
        deadline = monotonic() + WAIT_S
        while text not in self.shown:
            if not self._read(0.05) and self.process.poll() is not None and not self._read(0.0):
                pytest.fail(f"it ended and had not shown {text!r}: {self.shown!r}")
            if monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"it did not show {text!r}: {self.shown!r}")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def send(self, number: int = signal.SIGINT) -> None:
        """Send a signal; without a number, that of Ctrl-C."""
        self.process.send_signal(number)

    def is_stopped(self) -> bool:
        """Whether it stops, as by Ctrl-Z."""
        deadline = monotonic() + WAIT_S
        while monotonic() < deadline:
            self._read(0.02)
            pid, status = os.waitpid(self.process.pid, os.WUNTRACED | os.WNOHANG)
            if pid:
                return os.WIFSTOPPED(status)
        return False

    def end(self) -> tuple[int, str]:
        """Wait for its end; gives the exit code and what was shown since it was last asked."""
        deadline = monotonic() + WAIT_S
        while self._read(0.02) or self.process.poll() is None:
            if monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"it did not end: {self.shown!r}")
        return self.process.returncode, self.shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._its)
        os.close(self._ours)


SIZES = ("COLUMNS", "LINES")
