"""Make the pictures of the pages from the packaged sample: `python docs/pictures.py [FOLDER]`.

Run it again when what they show has changed, look at each, and commit them. Without a FOLDER they
go where the pages look for them. They need the extras `report` and `terminal`; the page of `calib
report` is pictured by Chromium, where there is one.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import as_file, files
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from calibration_ledger import AdaptiveCalibrator
from calibration_ledger.report import plot, report

SAMPLE = files("calibration_ledger") / "data" / "sample_calls.csv"
MODEL = "random-llama:42m-f32"

CALIB = (sys.executable, "-c", "from calibration_ledger.cli.main import main; main()")

PLOTS = {
    "plot-models.svg": (None, "models"),
    "plot-sweep.svg": (MODEL, "sweep"),
    "plot-tokens.svg": (MODEL, "tokens"),
}

SCREENS = {
    "terminal-history.svg": (84, ("history", MODEL, "--last", "40", "--chart")),
    "terminal-sweep.svg": (84, ("sweep", MODEL, "--chart")),
    "terminal-stats.svg": (100, ("stats",)),
    "terminal-top.svg": (100, ("top", "--once", "--utc")),
}


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SCREENSHOTS = {"report.png": (1120, 1640)}


def main() -> None:
    """Make all of them, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    home = Path(__file__).parent / "_static"
    parser.add_argument("folder", nargs="?", type=Path, default=home)
    parser.add_argument("--only", metavar="NAME", action="append", help="Make this one alone.")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        make(
            wishes.folder,
            Path(place) / "sample.db",
            wishes.only or [*PLOTS, *SCREENS, *SCREENSHOTS],
        )


def make(folder: Path, ledger: Path, names: list[str]) -> None:
    """Make some of the pictures, of the sample in a new ledger."""
    # Learnt by kalman from the beginning: a recalibration would have the time of today.
    with AdaptiveCalibrator(ledger, rule="kalman") as calibrator, as_file(SAMPLE) as sample:
        calibrator.import_calls("csv", sample)
        for name in PLOTS.keys() & names:
            model, kind = PLOTS[name]
            plot(calibrator, model, kind, output=folder / name, width=680, utc=True)
    for name in SCREENS.keys() & names:
        columns, words = SCREENS[name]
        shown = in_terminal(ledger, columns, words).replace(str(ledger.parent), "~")
        (folder / name).write_text(screen(shown, columns, words), encoding="utf-8")
    for name in SCREENSHOTS.keys() & names:
        page = ledger.with_name("report.html")
        with AdaptiveCalibrator(ledger) as calibrator:
            report(calibrator, output=page, utc=True)
        screenshot(page, folder / name, SCREENSHOTS[name])


def in_terminal(ledger: Path, columns: int, words: tuple[str, ...]) -> str:
    """What the command prints in a terminal so wide."""
    ours, its = os.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [*CALIB, "--ledger", str(ledger), *words],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,  # advice is not the picture
        env=env | {"TERM": "xterm-256color", "COLUMNS": str(columns), "TZ": "UTC"},
    ):
        os.close(its)
        shown = b""
        try:
            while part := os.read(ours, 65_536):
                shown += part
        except OSError:  # on Linux: the other end is closed
            pass
    os.close(ours)
    return shown.decode().replace("\r\n", "\n").strip("\n")


def screen(shown: str, columns: int, words: tuple[str, ...]) -> str:
    """A picture of a terminal, with the command above what it printed."""
    console = Console(record=True, width=columns, file=StringIO(), color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), ("calib " + " ".join(words), "bold")))
    console.print(Text.from_ansi(shown), overflow="fold")
    drawn = console.export_svg(title="calib", unique_id="calib-" + words[0])
    # It would fetch fonts from the network: the reader's own will do.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")


def screenshot(page: Path, target: Path, size: tuple[int, int]) -> None:
    """What a browser shows of a page."""
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if browser is None:
        sys.stderr.write(f"{target.name} is not made: there is no Chromium here.\n")
        return
    width, height = size
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"),
            # The page draws its charts one after the other: no event says that all are there.
            *(f"--window-size={width},{height}", "--virtual-time-budget=60000", "--timeout=20000"),
            *(f"--screenshot={target}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )


if __name__ == "__main__":
    main()
