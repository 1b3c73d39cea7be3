"""How quickly the report of a large ledger is written, and how quickly a browser shows it.

    python benchmarks/report.py [--calls N] [--models N] [--rounds N]

Writing is measured with the script that draws kept from before, as from the second report on, and
without, as at the very first. Opening is measured in a Chromium of the system (`playwright`, in the
extra `clients`): until the page can be read, until its first chart is drawn, and all that is in
sight. Times are in seconds by the clock: the median and the least. The targets for 1,000,000 calls
are 5 s to write with numba, 1 s to open, and 2 MB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from charts import fill

WRITE = "from calibration_ledger.cli.main import main; main()"
FIRST = "document.querySelector('.plot[data-drawn]')"
SEEN = (
    "[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn"
    " || plot.getBoundingClientRect().top > innerHeight)"
)


def timed(work, rounds):
    """The median and the least of some rounds."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return f"{statistics.median(found):6.2f} {min(found):6.2f}"


def write(ledger, page, cache):
    command = [sys.executable, "-c", WRITE, "--ledger", ledger, "report", "-o", page]
    subprocess.run(command, check=True, env={**os.environ, "XDG_CACHE_HOME": str(cache)})


def measure_opening(page, rounds):
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        found = []
        for _ in range(rounds):
            tab = browser.new_page()
            began = time.perf_counter()
            tab.goto(page.as_uri(), wait_until="domcontentloaded")
            times = [time.perf_counter() - began]
            for reached in (FIRST, SEEN):
                tab.wait_for_function(reached, polling=10)
                times.append(time.perf_counter() - began)
            found.append(times)
            tab.close()
        browser.close()
    for what, times in zip(
        ("to read", "first chart", "all in sight"), zip(*found, strict=True), strict=True
    ):
        print(f"  {what:22} {statistics.median(times):6.2f} {min(times):6.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger, page = f"{folder}/calls.db", Path(folder, "report.html")
        fill(ledger, arguments.calls, arguments.models)
        print(f"the report of {arguments.calls:,} calls over {arguments.models} models, in s:")
        write(ledger, page, Path(folder, "kept"))  # what is compiled and kept, is for the next
        print(
            "  written               ",
            timed(lambda: write(ledger, page, f"{folder}/kept"), arguments.rounds),
        )
        print(
            "  written the first time",
            timed(lambda: write(ledger, page, tempfile.mkdtemp(dir=folder)), 1),
        )
        print(f"  {page.stat().st_size:,} bytes; opened:")
        measure_opening(page, arguments.rounds)


if __name__ == "__main__":
    main()
