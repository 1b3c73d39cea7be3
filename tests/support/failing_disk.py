"""Getting hold of disks that fail: the preloaded library, strace, and a file system of a few KB."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def compile_library(folder: Path) -> Path:
    """`failing_disk.c` as a library that can be preloaded, or a skip that says why not."""
    if platform.system() != "Linux":
        pytest.skip("libraries are preloaded in this way on Linux alone")
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler here")
    library = folder / "failing_disk.so"
    flags = ["-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "failing_disk.c"), "-ldl"]
    done = subprocess.run([compiler, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"failing_disk.c cannot be compiled here: {done.stderr[:200]}")
    return library


def run_python(
    program: Path | str, *args: object, before: tuple[str, ...] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a program (a file, or its text) to its end; what it prints is in the result."""
    how = [str(program)] if isinstance(program, Path) else ["-c", program]
    return subprocess.run(
        [*before, sys.executable, *how, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | env,
    )


def injected(call: str, error: str, when: str) -> tuple[str, ...]:
    """The strace command that lets a program's system calls fail, or a skip that says why not."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (apt-get install strace)")
    command = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={call}", "-e")
    attempt = subprocess.run(
        [*command, f"inject={call}:error={error}:when=1", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    if attempt.returncode:
        pytest.skip(f"strace cannot inject faults here: {attempt.stderr[:200]}")
    return (*command, f"inject={call}:error={error}:when={when}")


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    """A file system of this size, or a skip that says why there is none."""
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    folder.mkdir()
    options = f"size={size_kib}k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
